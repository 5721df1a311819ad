//! Who may send, who receives mail, which relays are known to all, and which ports were tried.

use super::*;
use crate::model::{Mac, Neighbour, Networks, ResponseKind};
use crate::settings::{Named, Volume};

const SERVER: &str = "192.168.1.10";
const PUBLIC: &str = "198.51.100.1";
const DAY: i64 = 86_400;

fn named(text: &str) -> Vec<Named> {
    text.split(' ').map(|it| it.parse().unwrap()).collect()
}

fn allowing(text: &str) -> Settings {
    Settings {
        allow: named(text),
        gateway: vec![PUBLIC.parse().unwrap()],
        ..Settings::default()
    }
}

fn with_gateway() -> Settings {
    Settings {
        allow: Vec::new(),
        ..allowing("x")
    }
}

fn device<'a>(engine: &'a Engine, address: &str) -> &'a Device {
    let address: IpAddr = address.parse().unwrap();
    let mut devices = engine.devices();
    let found = devices.find(|(_, it)| it.addresses.contains(&address));
    found.unwrap().1
}

/// What is told of findings.
fn found(effects: &[Effect]) -> usize {
    let is_found = |effect: &&Effect| matches!(effect, Effect::Found { .. });
    effects.iter().filter(is_found).count()
}

/// `source` completes a handshake with `server`, which stands behind the public address.
fn receive(engine: &mut Engine, seconds: i64, source: &str, server: &str, kind: ResponseKind) {
    let port = u16::try_from(seconds % 60_000).unwrap();
    let came = syn(seconds, source, port, PUBLIC);
    engine.handle(Input::Syn(came), came.time);
    let response = Response {
        time: came.time,
        tuple: came.tuple,
        isn: None,
        kind,
        outside: Some(Tuple {
            destination: server.parse().unwrap(),
            ..came.tuple
        }),
        bytes: None,
    };
    engine.handle(Input::Response(response), came.time);
}

/// Mail from three networks, on two days.
fn receive_mail(engine: &mut Engine, from: i64, server: &str) {
    for (seconds, source) in [
        (from, "203.0.1.9"),
        (from + 60, "203.0.2.9"),
        (from + DAY, "203.0.3.9"),
    ] {
        receive(engine, seconds, source, server, ResponseKind::Established);
    }
}

fn send(engine: &mut Engine, observations: impl Iterator<Item = Observation>) -> usize {
    let mut count = 0;
    for observation in observations {
        count += found(engine.handle(Input::Syn(observation), observation.time));
    }
    count
}

#[test]
fn about_an_allowed_device_nothing_is_told_until_it_is_allowed_no_more() {
    let mut engine = Engine::new(allowing(PC), LeaseBook::default(), 7);
    assert_eq!(send(&mut engine, bot(PC, 0, 50)), 0);
    let bot = device(&engine, PC);
    assert_eq!(bot.verdict(), Verdict::Allowed);
    assert_eq!(
        because(bot),
        "192.168.1.23 is allowed to send; 50 attempts to 50 servers in all, up to 50 a minute"
    );
    let now = Timestamp::from_seconds(60);
    let other = Input::Settings(Box::new(allowing("192.168.1.24")));
    let told = found(engine.handle(other, now));
    let bot = device(&engine, PC);
    assert!(told > 0 && told == bot.findings.len());
    assert!(bot.verdict() > Verdict::Normal, "{}", because(bot));
    // And it is told once.
    let again = Input::Settings(Box::default());
    assert_eq!(found(engine.handle(again, now)), 0);
}

#[test]
fn what_nobody_was_told_of_is_told_in_a_later_run() {
    let mut engine = Engine::new(allowing(PC), LeaseBook::default(), 7);
    send(&mut engine, bot(PC, 0, 50));
    let id = engine.devices().next().unwrap().0;
    let state = engine.device_state(id).unwrap();
    let findings = state.findings.len();
    let text = serde_json::to_string(&state).unwrap();
    for (settings, told) in [(allowing(PC), 0), (Settings::default(), findings)] {
        let mut later = Engine::new(settings, LeaseBook::default(), 8);
        let state: DeviceState = serde_json::from_str(&text).unwrap();
        later.handle(Input::Resume(vec![state]), Timestamp::from_seconds(100));
        let one = [syn(100, PC, 1, "203.0.1.9")].into_iter();
        assert_eq!(send(&mut later, one), told);
        let one = [syn(101, PC, 2, "203.0.1.9")].into_iter();
        assert_eq!(send(&mut later, one), 0);
    }
}

#[test]
fn an_address_allows_whoever_has_it_and_a_mac_its_card() {
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let sent = |allow: &str, addresses: &[&str]| {
        let leases = "1800000000 02:00:00:00:00:01 192.168.1.10 mail *\n\
                      1800000000 02:00:00:00:00:01 192.168.1.11 mail *\n";
        let leases = LeaseBook::new([crate::decode::dhcp_lease::decode(leases.as_bytes())]);
        let mut engine = Engine::new(allowing(allow), leases, 7);
        for (place, address) in addresses.iter().enumerate() {
            let seconds = 1_790_000_000 + place as i64;
            let observation = Observation {
                mac: Some(mac),
                ..syn(seconds, address, place as u16, MX)
            };
            engine.handle(Input::Syn(observation), observation.time);
        }
        assert_eq!(engine.devices().count(), 1);
        engine.devices().next().unwrap().1.is_allowed()
    };
    assert!(sent("192.168.1.10", &[SERVER]));
    assert!(sent("192.168.1.0/28", &[SERVER, "192.168.1.11"]));
    // It had the address, and has another now.
    assert!(!sent("192.168.1.10", &[SERVER, "192.168.1.11"]));
    assert!(sent("192.168.1.10", &[SERVER, "192.168.1.11", SERVER]));
    assert!(sent("02:00:00:00:00:01", &["192.168.1.11"]));
    assert!(sent("MAIL", &["192.168.1.11"]));
    assert!(!sent("02:00:00:00:00:02 192.168.1.12 post", &[SERVER]));
}

#[test]
fn a_mail_server_may_send_and_is_told_by_who_it_serves() {
    let mut engine = Engine::new(with_gateway(), LeaseBook::default(), 7);
    receive_mail(&mut engine, 0, SERVER);
    send(&mut engine, bot(SERVER, DAY + 100, 3));
    let server = device(&engine, SERVER);
    let role = server.role().unwrap();
    assert_eq!((role.networks, role.days, role.is_early), (3, 2, true));
    assert_eq!(
        because(server),
        "192.168.1.10 stayed below every limit; 3 attempts to 3 servers in all, up to 3 a minute; \
         receives mail from 3 networks on 2 days: looks like a mail server"
    );
    // What is found later takes nothing of it away.
    send(&mut engine, bot(SERVER, DAY + 200, 50));
    assert!(device(&engine, SERVER).role().unwrap().is_early);
}

#[test]
fn one_scan_gives_nobody_a_role() {
    let (whole, half) = (ResponseKind::Established, ResponseKind::Accepted);
    // Half-open handshakes of a hundred networks on a hundred days.
    let syn_scan: Vec<(i64, u8, ResponseKind)> =
        (0..100).map(|day| (day * DAY, day as u8, half)).collect();
    // Whole ones of a hundred networks in an hour about midnight, and of one host for a year.
    let banners: Vec<(i64, u8, ResponseKind)> = (0..100)
        .map(|minute| (DAY - 1800 + minute * 36, minute as u8, whole))
        .collect();
    let probe: Vec<(i64, u8, ResponseKind)> = (0..365).map(|day| (day * DAY, 7, whole)).collect();
    for scan in [syn_scan, banners, probe] {
        let mut engine = Engine::new(with_gateway(), LeaseBook::default(), 7);
        for (seconds, network, kind) in scan {
            let source = format!("203.0.{network}.9");
            receive(&mut engine, seconds, &source, PC, kind);
        }
        send(&mut engine, bot(PC, 365 * DAY, 3));
        assert_eq!(device(&engine, PC).role(), None);
    }
}

#[test]
fn what_comes_after_a_finding_or_to_another_port_or_to_the_gateway_is_another_matter() {
    let mut engine = Engine::new(with_gateway(), LeaseBook::default(), 7);
    send(&mut engine, bot(PC, 0, 50));
    receive_mail(&mut engine, 100, PC);
    assert!(!device(&engine, PC).role().unwrap().is_early);
    // The gateway's own mail server is nobody's.
    receive_mail(&mut engine, 200, PUBLIC);
    assert_eq!(
        engine
            .roles
            .of(&DeviceKey::Address(PUBLIC.parse().unwrap())),
        None
    );
}

#[test]
fn a_role_outlives_a_restart() {
    let mut engine = Engine::new(with_gateway(), LeaseBook::default(), 7);
    receive_mail(&mut engine, 0, SERVER);
    send(&mut engine, bot(SERVER, DAY + 100, 1));
    let id = engine.devices().next().unwrap().0;
    let state = engine.device_state(id).unwrap();
    let text = serde_json::to_string(&state).unwrap();
    let state: DeviceState = serde_json::from_str(&text).unwrap();
    let mut later = Engine::new(with_gateway(), LeaseBook::default(), 8);
    let now = Timestamp::from_seconds(DAY + 200);
    later.handle(Input::Resume(vec![state]), now);
    receive(
        &mut later,
        2 * DAY + 200,
        "203.0.4.9",
        SERVER,
        ResponseKind::Established,
    );
    send(&mut later, bot(SERVER, 2 * DAY + 300, 1));
    let role = device(&later, SERVER).role().unwrap();
    assert_eq!((role.networks, role.days, role.is_early), (4, 3, true));
    // A state of before has none of it.
    let old = text.replace(",\"role\":", ",\"other\":");
    let state: DeviceState = serde_json::from_str(&old).unwrap();
    assert_eq!(state.role, None);
}

/// Live, a role is the station's that has the address, however it is called.
#[test]
fn live_the_role_is_the_stations() {
    let lan = Interface::new(b"lan0");
    let mac = Mac([2, 0, 0, 0, 0, 9]);
    let mut engine = Engine::new(with_gateway(), LeaseBook::default(), 7);
    let address = |text: &str, interface| crate::model::LocalAddress {
        interface,
        address: text.parse().unwrap(),
    };
    let wan = Interface::new(b"wan0");
    let link = |interface| crate::model::Link {
        interface,
        has_link_layer: true,
    };
    let topology = Topology {
        links: vec![link(lan), link(wan)],
        addresses: vec![
            address("192.168.1.1/24", lan),
            address("198.51.100.1/24", wan),
        ],
        routes: vec![crate::model::Route {
            destination: "0.0.0.0/0".parse().unwrap(),
            interface: wan,
            via: Some("198.51.100.254".parse().unwrap()),
        }],
    };
    let now = Timestamp::from_seconds(0);
    engine.handle(Input::Topology(topology), now);
    let neighbour = Neighbour {
        interface: lan,
        address: SERVER.parse().unwrap(),
        mac: Some(mac),
    };
    engine.handle(Input::Neighbour(neighbour), now);
    receive_mail(&mut engine, 100, SERVER);
    let sent = Observation {
        mac: Some(mac),
        interface: lan,
        ..syn(2 * DAY, SERVER, 1, MX)
    };
    engine.handle(Input::Syn(sent), sent.time);
    let server = device(&engine, SERVER);
    assert_eq!(server.key, DeviceKey::Station(lan, mac));
    assert_eq!(server.role().unwrap().networks, 3);
}

#[test]
fn a_relay_of_two_clean_devices_is_known_to_all() {
    let relay = Group::of(MX.parse().unwrap());
    let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 7);
    let printers = [PC, "192.168.1.24"];
    for hour in 0..=24 {
        for (place, printer) in printers.iter().enumerate() {
            let at = hour * 3600 + place as i64;
            send(&mut engine, [syn(at, printer, 7, MX)].into_iter());
        }
    }
    assert!(engine.devices.knows_relay(relay));
    // What they know outlives a restart.
    let ids: Vec<DeviceId> = engine.devices().map(|(id, _)| id).collect();
    let states = ids.iter().map(|id| engine.device_state(*id).unwrap());
    let states: Vec<DeviceState> = states.collect();
    let mut later = Engine::new(Settings::default(), LeaseBook::default(), 8);
    let now = Timestamp::from_seconds(DAY + 100);
    later.handle(Input::Resume(states), now);
    assert!(later.devices.knows_relay(relay));
    // One of them is allowed to do whatever it likes; it vouches for nothing from its next attempt on.
    later.handle(Input::Settings(Box::new(allowing(PC))), now);
    send(&mut later, [syn(DAY + 200, PC, 7, MX)].into_iter());
    assert!(!later.devices.knows_relay(relay));
    // One of them turns out to be a bot.
    send(&mut engine, bot(PC, DAY + 100, 50));
    assert!(!engine.devices.knows_relay(relay));
}

#[test]
fn two_bots_with_the_same_targets_make_none_known() {
    let settings = Settings {
        volume: Volume {
            attempts: 10_000,
            ..Volume::default()
        },
        ..Settings::default()
    };
    let mut engine = Engine::new(settings, LeaseBook::default(), 7);
    // Slowly enough for what counts within an hour: a target every ten minutes, the same each day.
    for step in 0..5 * 144 {
        for (place, source) in [PC, "192.168.1.24"].iter().enumerate() {
            let target = format!("203.0.{}.9", step % 100);
            let port = 1000 + (step % 50_000) as u16;
            let at = step * 600 + place as i64;
            send(&mut engine, [syn(at, source, port, &target)].into_iter());
        }
    }
    let known = (0..100_u8).filter(|&net| {
        engine
            .devices
            .knows_relay(Group::of([203, 0, net, 9].into()))
    });
    assert_eq!(known.count(), 0);
}

/// A bot whose mail goes to 25 in 28 of 100 connections, as in a real capture.
fn submitter(port_of: impl Fn(u16) -> u16) -> Vec<Observation> {
    (0..100_u16)
        .map(|number| {
            let destination = format!("203.0.{}.9", number % 86);
            let mut observation = syn(i64::from(number) * 11, PC, 4000 + number, &destination);
            observation.tuple.destination_port = port_of(number);
            observation
        })
        .collect()
}

#[test]
fn all_watched_ports_make_one_verdict_and_are_counted_apart() {
    let settings = Settings {
        ports: crate::settings::Ports::new([25, 465, 587]),
        ..Settings::default()
    };
    let apart = run(
        settings.clone(),
        submitter(|number| if number % 25 < 7 { 25 } else { 587 }),
    );
    let alone = run(settings, submitter(|_| 25));
    let (apart, alone) = (device(&apart, PC), device(&alone, PC));
    assert!(apart.verdict() > Verdict::Normal);
    assert_eq!(apart.findings, alone.findings);
    assert_eq!(apart.ports(), [(25, 28), (587, 72)]);
    assert_eq!(alone.ports(), [(25, 100)]);
    assert!(
        because(apart).contains("; 28 to port 25, 72 to port 587"),
        "{}",
        because(apart)
    );
    assert!(!because(alone).contains("to port"));
}

#[test]
fn only_the_networks_of_the_outside_make_a_role() {
    // Submissions of the LAN's own never pass the gateway, or come from inside.
    let settings = Settings {
        lan: Networks::private(),
        ..with_gateway()
    };
    let mut engine = Engine::new(settings, LeaseBook::default(), 7);
    for (seconds, source) in [(0, "10.0.1.9"), (60, "10.0.2.9"), (DAY, "10.0.3.9")] {
        receive(
            &mut engine,
            seconds,
            source,
            SERVER,
            ResponseKind::Established,
        );
    }
    assert_eq!(
        engine
            .roles
            .of(&DeviceKey::Address(SERVER.parse().unwrap())),
        None
    );
}
