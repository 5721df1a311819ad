//! Somebody on the LAN who forges, floods, repeats and wanders: nobody else is accused, the bot beside
//! him is found as soon as without him, and nothing grows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;
use crate::model::{Detector, Response, ResponseKind};

const ATTACKER: u8 = 0x77;
const ATTACKER_KEY: &str = "lan0/02:00:00:00:00:77";
/// Turns of the attacker's between two of the bot's, 10 ms each.
const TURNS: u32 = 2_000;
/// Servers that the bot goes to.
const SERVERS: u32 = 12;
/// What one device's detectors take at the most.
const MOST_BYTES: usize = 2_048;

/// What somebody does in his `turn`th turn.
type Attack = fn(u32) -> Vec<Observation>;

/// A packet from the LAN, at a time that is to come.
fn packet(source: impl Into<IpAddr>, mac: Mac, port: u32, destination: u32) -> Observation {
    let tuple = Tuple {
        source: source.into(),
        destination: Ipv4Addr::from(destination).into(),
        source_port: 1_024 + (port % 60_000) as u16,
        destination_port: 25,
    };
    Observation {
        interface: interface("lan0"),
        mac: Some(mac),
        ttl: Some(64),
        ..Observation::new(Timestamp::default(), RuleId(1), tuple)
    }
}

fn on_lan(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 1, last)
}

/// A server in the attacker's `number`th group.
fn elsewhere(number: u32) -> u32 {
    0x2d00_0001 + (number << 8)
}

/// The bot's `number`th attempt: a new group each.
fn of_bot(number: u32) -> Observation {
    Observation {
        isn: Some(number),
        ..packet(on_lan(0x42), mac(BOT), number, 0xcb00_0009 + (number << 8))
    }
}

/// The desk's, always to its own relay.
fn of_desk(number: u32) -> Observation {
    Observation {
        isn: Some(number),
        ..packet(on_lan(10), mac(DESK), number, 0xc633_6419)
    }
}

fn stranger(number: u32) -> Mac {
    let [high, middle, low, last] = number.to_be_bytes();
    Mac([2, 9, high, middle, low, last])
}

/// An engine in an office, and what it has said.
struct Office {
    engine: Engine,
    now: Timestamp,
    found: Vec<(String, Finding)>,
}

impl Office {
    fn new(settings: Settings) -> Self {
        let mut engine = live(settings);
        engine.handle(neighbour("192.168.1.77", ATTACKER), Timestamp::default());
        Self {
            engine,
            now: Timestamp::from_seconds(1_000),
            found: Vec::new(),
        }
    }

    fn handle(&mut self, input: Input) {
        let effects = self.engine.handle(input, self.now).to_vec();
        for effect in effects {
            if let Effect::Found { device, finding } = effect {
                let key = self.engine.device(device).unwrap().key.to_string();
                self.found.push((key, finding));
            }
        }
    }

    fn send(&mut self, observation: Observation) {
        let time = self.now;
        self.handle(Input::Syn(Observation {
            time,
            ..observation
        }));
    }

    /// Sends, is answered, and completes the handshake.
    fn connect(&mut self, observation: Observation) {
        self.send(observation);
        for kind in [ResponseKind::Accepted, ResponseKind::Established] {
            self.answer(&observation, kind);
        }
    }

    fn answer(&mut self, observation: &Observation, kind: ResponseKind) {
        self.handle(Input::Response(Response {
            time: self.now,
            tuple: observation.tuple,
            isn: observation.isn,
            kind,
            outside: None,
            bytes: None,
        }));
    }

    fn pass(&mut self, millis: i64) {
        self.now = self.now.plus_micros(millis * 1_000);
    }

    fn device(&self, key: &str) -> Option<&Device> {
        let mut devices = self.engine.devices().map(|(_, device)| device);
        devices.find(|device| device.key.to_string() == key)
    }

    /// What the detectors said of the device with `key`, first to last.
    fn said_of(&self, key: &str) -> Vec<&Finding> {
        let found = self.found.iter().filter(|(known, _)| known == key);
        found.map(|(_, finding)| finding).collect()
    }

    /// Which of the device's attempts `novelty` spoke at, and after how many new groups.
    fn alarm(&self, key: &str) -> Option<(u64, u32)> {
        let said = self.said_of(key);
        let mut said = said.iter().filter(|it| it.detector == Detector::Novelty);
        said.next().map(|it| (it.at_attempt, it.new_groups))
    }

    /// Nothing is said of the desk or the router, and what is kept has its bounds.
    fn assert_fair_and_bounded(&self) {
        for honest in [DESK_KEY, "lan0/02:00:00:00:00:02", "192.168.1.10"] {
            assert!(self.said_of(honest).is_empty(), "{honest} is accused");
        }
        let limits = self.engine.settings().limits;
        assert!(self.engine.devices().count() <= limits.devices);
        let mut destinations = 0;
        for (_, device) in self.engine.devices() {
            assert!(device.detector_bytes() <= MOST_BYTES, "{}", device.key);
            assert!(device.addresses.len() <= 16 && device.findings.len() <= 4);
            destinations += device.destinations().addresses;
        }
        assert!(destinations <= limits.destinations, "{destinations}");
        assert!(self.engine.spoofed().iter().count() <= 1_024);
    }
}

/// Has the attack go on while the bot goes to a new server every 20 s, and the desk to its relay; answers
/// what was said. The bot is found in its eighth new group.
fn beside(settings: Settings, attack: Attack) -> Office {
    let mut office = Office::new(settings);
    for turn in 0..TURNS * SERVERS {
        for observation in attack(turn) {
            office.send(observation);
        }
        if turn % TURNS == TURNS / 2 {
            let number = turn / TURNS;
            office.send(of_desk(number));
            let was_found = office.alarm(BOT_KEY).is_some();
            office.send(of_bot(number));
            let is_found = office.alarm(BOT_KEY).is_some();
            assert_eq!((was_found, is_found), (number >= 8, number >= 7));
        }
        office.pass(10);
    }
    office.assert_fair_and_bounded();
    office
}

fn small(devices: usize, open_attempts: usize) -> Settings {
    Settings {
        limits: crate::settings::Limits {
            devices,
            open_attempts,
            ..crate::settings::Limits::default()
        },
        ..Settings::default()
    }
}

#[test]
fn one_who_lies_about_his_address_is_counted_apart() {
    let office = beside(Settings::default(), |turn| {
        let lies = [
            on_lan(10),
            on_lan(0x42),
            on_lan(200),
            Ipv4Addr::new(8, 8, 4, 4),
            Ipv4Addr::new(10, 20, 0, 9),
        ];
        let of = |source| packet(source, mac(ATTACKER), turn, elsewhere(turn));
        lies.map(of).to_vec()
    });
    assert_eq!(office.alarm(BOT_KEY), Some((8, 8)));
    let (desk, bot) = (office.device(DESK_KEY), office.device(BOT_KEY));
    assert_eq!(desk.unwrap().attempts, u64::from(SERVERS));
    assert_eq!(bot.unwrap().attempts, u64::from(SERVERS));
    assert_eq!(office.engine.devices().count(), 2);
    let lies = u64::from(5 * TURNS * SERVERS);
    assert_eq!(office.engine.totals().spoofed.attempts, lies);
}

#[test]
fn a_flood_of_sources_fills_its_share_and_is_counted() {
    let office = beside(Settings::default(), |turn| {
        let [.., high, low] = turn.to_be_bytes();
        let last = u128::from(turn);
        let link = Ipv6Addr::from(0x2001_0db8_0001_0000_0000_0001_0000_0000 | last);
        let prefix = Ipv6Addr::from(0x2001_0db8_0002_0000_0000_0000_0000_0001 | last << 64);
        let sources: [(IpAddr, Mac); 5] = [
            (link.into(), stranger(turn)),
            (on_lan(100 + low % 100).into(), stranger(turn | 1 << 31)),
            (Ipv4Addr::new(10, 20, high, low).into(), mac(ROUTER)),
            (prefix.into(), mac(ROUTER)),
            (Ipv4Addr::from(0x0800_0000 + turn).into(), stranger(turn)),
        ];
        let of = |(source, mac)| packet(source, mac, turn, elsewhere(turn));
        sources.map(of).to_vec()
    });
    assert_eq!(office.alarm(BOT_KEY), Some((8, 8)));
    let totals = office.engine.totals();
    let flood = u64::from(TURNS * SERVERS);
    assert_eq!(totals.spoofed.attempts, flood);
    // Each of the others is a device of its own, kept or counted; the bot and the desk are among them.
    let kept = office.engine.devices().count() as u64;
    assert_eq!(kept + totals.evicted_devices, 4 * flood + 2);
    assert!(totals.evicted_devices > 4 * flood - 16_384);
}

#[test]
fn syns_that_are_sent_again_are_packets() {
    let office = beside(Settings::default(), |turn| {
        let earlier = turn / TURNS;
        if earlier == 0 {
            return Vec::new();
        }
        let number = turn % earlier;
        // Whole frames of others, and his own.
        let own = packet(on_lan(0x4d), mac(ATTACKER), turn / 11, elsewhere(1));
        vec![of_bot(number), of_desk(number), own]
    });
    assert_eq!(office.alarm(BOT_KEY), Some((8, 8)));
    for key in [BOT_KEY, DESK_KEY] {
        let device = office.device(key).unwrap();
        assert_eq!(device.attempts, u64::from(SERVERS), "{key}");
        assert!(device.syns > u64::from(TURNS * (SERVERS - 2)), "{key}");
    }
}

#[test]
fn syns_without_numbers_that_are_sent_again_meet_known_groups() {
    let office = beside(Settings::default(), |turn| {
        let earlier = turn / TURNS;
        let again = (earlier > 0).then(|| [of_bot(turn % earlier), of_desk(turn % earlier)]);
        let again = again.into_iter().flatten();
        again
            .map(|observation| Observation {
                isn: None,
                ..observation
            })
            .collect()
    });
    assert_eq!(office.alarm(BOT_KEY).map(|(_, groups)| groups), Some(8));
}

#[test]
fn all_of_one_network_is_one_group() {
    let office = beside(small(64, 4_096), |turn| {
        let through = |step| {
            let number = turn * 3 + step;
            packet(
                on_lan(0x4d),
                mac(ATTACKER),
                number / 256,
                0xc633_6400 | (number % 256),
            )
        };
        [0, 1, 2].map(through).to_vec()
    });
    assert_eq!(office.alarm(BOT_KEY), Some((8, 8)));
    let attacker = office.device(ATTACKER_KEY).unwrap();
    assert!(attacker.attempts > 65_536);
    assert_eq!(attacker.verdict(), Verdict::Suspicious);
    let destinations = attacker.destinations();
    assert_eq!((destinations.addresses, destinations.groups), (256, 1));
    assert!(office.engine.totals().evicted_attempts > 0);
}

#[test]
fn one_server_for_ever_is_volume() {
    let office = beside(small(64, 4_096), |turn| {
        let of = |step| packet(on_lan(0x4d), mac(ATTACKER), turn * 3 + step, elsewhere(1));
        [0, 1, 2].map(of).to_vec()
    });
    assert_eq!(office.alarm(BOT_KEY), Some((8, 8)));
    let attacker = office.device(ATTACKER_KEY).unwrap();
    assert_eq!(attacker.verdict(), Verdict::Suspicious);
    assert_eq!(attacker.destinations().addresses, 1);
}

#[test]
fn whoever_cycles_through_more_than_is_remembered_hurts_himself() {
    let office = beside(Settings::default(), |turn| {
        vec![packet(
            on_lan(0x4d),
            mac(ATTACKER),
            turn,
            elsewhere(turn % 100),
        )]
    });
    assert_eq!(office.alarm(BOT_KEY), Some((8, 8)));
    assert_eq!(office.alarm(ATTACKER_KEY), Some((8, 8)));
    assert!(office.device(BOT_KEY).unwrap().destinations().addresses == SERVERS as usize);
}

/// Nobody confirms what is behind a router, so that it can be made up, findings and all; but what is made up
/// completes no handshake.
#[test]
fn sources_made_up_behind_a_router_hide_none_that_is_answered() {
    let mut office = Office::new(small(256, 4_096));
    for number in 0..SERVERS {
        let bot = Observation {
            ttl: Some(63),
            ..packet(
                Ipv4Addr::new(10, 20, 0, 9),
                mac(ROUTER),
                number,
                0xcb00_0009 + (number << 8),
            )
        };
        office.connect(bot);
        assert_eq!(office.alarm("10.20.0.9").is_some(), number >= 7, "{number}");
        for made_up in 0..300 {
            let [.., high, low] = (number * 300 + made_up).to_be_bytes();
            let source = Ipv4Addr::new(10, 20, 1 + high, low);
            for group in 0..10 {
                let lie = packet(source, mac(ROUTER), group, elsewhere(made_up * 10 + group));
                office.send(lie);
            }
        }
        office.pass(5_000);
    }
    assert_eq!(office.alarm("10.20.0.9"), Some((8, 8)));
    assert!(office.engine.totals().evicted_devices > 3_000);
    office.assert_fair_and_bounded();
}

/// Who forges whole frames of another's, MAC and all, is told from him by nobody. It makes an alert: no handshake
/// is completed by one who is not answered.
#[test]
fn a_victim_s_whole_frames_complete_no_handshake() {
    let mut office = Office::new(Settings::default());
    for number in 0..100 {
        let forged = Observation {
            isn: Some(number),
            ..packet(on_lan(10), mac(DESK), number, elsewhere(number))
        };
        office.send(forged);
        office.answer(&forged, ResponseKind::Accepted);
        office.answer(&forged, ResponseKind::Reset);
        office.send(of_bot(number));
        office.pass(5_000);
    }
    let desk = office.device(DESK_KEY).unwrap();
    assert_eq!(desk.verdict(), Verdict::Infected);
    assert_eq!((desk.attempts, desk.completed), (100, 0));
    assert_eq!(office.alarm(BOT_KEY), Some((8, 8)));
}

/// Has stations, `confirmed` of which answer for their addresses, use four of the bot's servers each, two and
/// two the same, for two days; answers which of its attempts the bot is found at.
fn with_relays_of(stations: u32, confirmed: u32) -> u64 {
    let address = |station: u32| on_lan(100 + station as u8);
    let mut office = Office::new(Settings::default());
    for station in 0..confirmed {
        office.handle(Input::Neighbour(Neighbour {
            interface: interface("lan0"),
            address: address(station).into(),
            mac: Some(stranger(station)),
        }));
    }
    for hour in 0..48 {
        for station in 0..stations {
            for server in 0..4 {
                let relay = 0xcb00_0009 + ((station / 2 * 4 + server) << 8);
                let port = hour * 4 + server;
                office.send(packet(address(station), stranger(station), port, relay));
            }
        }
        office.pass(3_600_000);
    }
    for number in 0..60 {
        office.send(of_bot(number));
        office.pass(1_000);
    }
    office.assert_fair_and_bounded();
    office.alarm(BOT_KEY).unwrap().0
}

#[test]
fn relays_that_are_made_known_to_all_spare_a_bot_eight_groups_at_the_most() {
    // What is made up vouches for nothing; two that are there gain what both have used.
    assert_eq!(with_relays_of(60, 0), 8);
    assert_eq!(with_relays_of(60, 1), 8);
    assert_eq!(with_relays_of(2, 2), 12);
    assert_eq!(with_relays_of(40, 40), 16);
}

/// Names that an attacker publishes, and asks for under two addresses, make his groups one service: eight groups
/// at the most, so that a bot pays for each eighth.
#[test]
fn services_that_are_made_up_spare_a_bot_seven_groups_of_eight_at_the_most() {
    let found_at = |services: &[Vec<u32>]| {
        let mut office = Office::new(Settings::default());
        for service in services {
            let groups = service
                .iter()
                .map(|&it| Group::of(of_bot(it).tuple.destination));
            office.handle(Input::OneService(groups.collect()));
        }
        for number in 0..100 {
            office.send(of_bot(number));
            office.send(of_desk(number));
            office.pass(1_000);
        }
        office.assert_fair_and_bounded();
        (
            office.alarm(BOT_KEY).unwrap(),
            office.engine.totals().unmerged_groups,
        )
    };
    let by_eights: Vec<Vec<u32>> = (0..12).map(|it| (it * 8..it * 8 + 8).collect()).collect();
    assert_eq!(found_at(&by_eights), ((57, 8), 0));
    // All at once, and told again in every way.
    let (alarm, unmerged) = found_at(&[(0..100).collect(), (50..100).rev().collect()]);
    assert_eq!(alarm, (15, 8));
    assert!(unmerged >= 92);
}

#[test]
fn questions_asked_in_another_s_name_accuse_nobody_and_hide_nobody() {
    let mut office = Office::new(Settings::default());
    let ask = |office: &mut Office, client: Ipv4Addr| {
        office.handle(Input::MailLookup {
            time: office.now,
            client: client.into(),
        });
    };
    // Of devices that are known, and of all that there could be.
    office.send(of_desk(0));
    for number in 0..70_000_u32 {
        ask(&mut office, on_lan(10));
        ask(&mut office, Ipv4Addr::from(0x0a14_0000 | (number % 65_536)));
    }
    assert!(office.engine.totals().evicted_lookups > 0);
    for number in 0..5 {
        ask(&mut office, on_lan(10));
        ask(&mut office, on_lan(0x42));
        office.send(packet(
            on_lan(10),
            mac(DESK),
            100 + number,
            elsewhere(number),
        ));
        office.send(of_bot(number));
        office.pass(1_000);
    }
    for number in 5..20 {
        office.send(of_bot(number));
        office.pass(1_000);
    }
    let (at, _) = office.alarm(BOT_KEY).unwrap();
    assert!(at <= 8, "{at}");
    office.assert_fair_and_bounded();
}
