//! On a gateway, where the network is known: nothing goes to the wrong device.

mod adversary;

use super::*;
use crate::decode::dhcp_lease;
use crate::model::{Link, LocalAddress, Mac, Route};

const BOT: u8 = 0x66;
const DESK: u8 = 0x10;
const ROUTER: u8 = 0x02;

fn interface(name: &str) -> Interface {
    Interface::new(name.as_bytes())
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

/// LAN with a router, a tunnel, and the Internet behind another NAT.
fn gateway() -> Topology {
    let link = |name, has_link_layer| Link {
        interface: interface(name),
        has_link_layer,
    };
    let own = |name, address: &str| LocalAddress {
        interface: interface(name),
        address: address.parse().unwrap(),
    };
    let route = |destination: &str, name, via: Option<&str>| Route {
        destination: destination.parse().unwrap(),
        interface: interface(name),
        via: via.map(|via| via.parse().unwrap()),
    };
    Topology {
        links: vec![link("lan0", true), link("wan0", true), link("wg0", false)],
        addresses: vec![
            own("lan0", "192.168.1.1/24"),
            own("lan0", "2001:db8:1::1/64"),
            own("wan0", "10.0.0.5/24"),
            own("wg0", "10.9.0.1/24"),
        ],
        routes: vec![
            route("0.0.0.0/0", "wan0", Some("10.0.0.1")),
            route("::/0", "wan0", Some("fe80::ff")),
            route("10.20.0.0/16", "lan0", Some("192.168.1.2")),
            route("2001:db8:2::/48", "lan0", Some("fe80::2")),
        ],
    }
}

fn neighbour(address: &str, last: u8) -> Input {
    Input::Neighbour(Neighbour {
        interface: interface("lan0"),
        address: address.parse().unwrap(),
        mac: Some(mac(last)),
    })
}

fn leases(text: &str) -> Input {
    Input::Leases(dhcp_lease::decode(text.as_bytes()).records)
}

/// A live engine that knows the network, the bot, the desk and the router.
fn live(settings: Settings) -> Engine {
    let mut engine = Engine::new(settings, LeaseBook::default(), 7);
    let now = Timestamp::default();
    engine.handle(Input::Topology(gateway()), now);
    for (address, last) in [
        ("192.168.1.66", BOT),
        ("192.168.1.10", DESK),
        ("192.168.1.2", ROUTER),
        ("fe80::2", ROUTER),
    ] {
        engine.handle(neighbour(address, last), now);
    }
    engine
}

fn frame(seconds: i64, source: &str, last: u8, number: u16) -> Observation {
    Observation {
        interface: interface("lan0"),
        mac: Some(mac(last)),
        ttl: Some(64),
        ..syn(
            seconds,
            source,
            1000 + number,
            &format!("203.0.{}.9", number % 250),
        )
    }
}

fn feed(engine: &mut Engine, observation: Observation) -> Vec<Effect> {
    engine
        .handle(Input::Syn(observation), observation.time)
        .to_vec()
}

/// Key, attempts and verdict of each device.
fn devices(engine: &Engine) -> Vec<(String, u64, Verdict)> {
    engine
        .devices()
        .map(|(_, device)| (device.key.to_string(), device.attempts, device.verdict()))
        .collect()
}

fn row(key: &str, attempts: u64, verdict: Verdict) -> (String, u64, Verdict) {
    (key.to_owned(), attempts, verdict)
}

const BOT_KEY: &str = "lan0/02:00:00:00:00:66";
const DESK_KEY: &str = "lan0/02:00:00:00:00:10";

#[test]
fn one_station_with_many_addresses_is_one_device() {
    let mut engine = live(Settings::default());
    for (number, source) in [
        "192.168.1.66",
        "2001:db8:1::66",
        "2001:db8:1::abcd",
        "fe80::66",
    ]
    .into_iter()
    .enumerate()
    {
        feed(&mut engine, frame(1, source, BOT, number as u16));
    }
    assert_eq!(devices(&engine), [row(BOT_KEY, 4, Verdict::Normal)]);
    let (_, device) = engine.devices().next().unwrap();
    assert_eq!(device.addresses.len(), 4);
    assert_eq!(device.basis.to_string(), "neighbour");
    assert_eq!(device.mac(), Some(mac(BOT)));
}

#[test]
fn forged_sources_are_counted_apart_and_accuse_nobody() {
    let mut engine = live(Settings::default());
    let mut alerts = 0;
    for number in 0..60 {
        let forged = [
            ("192.168.1.10", BOT),
            ("192.168.1.66", DESK),
            ("192.168.1.200", DESK),
            ("8.8.4.4", BOT),
            ("10.20.0.9", BOT),
        ];
        for (source, last) in forged {
            for effect in feed(&mut engine, frame(1, source, last, number)) {
                let Effect::Spoofed { is_first, .. } = effect else {
                    panic!("{effect:?}");
                };
                alerts += u32::from(is_first);
            }
        }
        feed(&mut engine, frame(1, "192.168.1.10", DESK, 0));
    }
    assert_eq!(devices(&engine), [row(DESK_KEY, 1, Verdict::Normal)]);
    let totals = engine.totals();
    assert_eq!((totals.spoofed.syns, totals.spoofed.attempts), (300, 300));
    assert_eq!(totals.direction(Direction::Outbound).attempts, 1);
    assert_eq!(totals.direction(Direction::External).attempts, 0);
    // One for each MAC and reason.
    assert_eq!(alerts, 4);
    let told: u64 = engine.spoofed().iter().map(|it| it.count.syns).sum();
    assert_eq!(told, 300);
}

#[test]
fn a_flood_of_forged_sources_is_bounded_and_evicts_no_device() {
    let settings = Settings {
        limits: crate::settings::Limits {
            devices: 64,
            ..crate::settings::Limits::default()
        },
        ..Settings::default()
    };
    let mut engine = live(settings);
    feed(&mut engine, frame(0, "192.168.1.10", DESK, 1));
    for i in 0..20_000_u32 {
        let forged = std::net::Ipv4Addr::from(0x0800_0000 + i).to_string();
        let stranger = Mac([2, 9, 9, (i >> 16) as u8, (i >> 8) as u8, i as u8]);
        let off_link = Observation {
            mac: Some(stranger),
            ..frame(1, &forged, 0, 7)
        };
        feed(&mut engine, off_link);
        // On-link, where nobody can say that it is wrong.
        let on_link = Observation {
            mac: Some(stranger),
            ..frame(1, &format!("2001:db8:1::1:{i:x}"), 0, 7)
        };
        feed(&mut engine, on_link);
    }
    assert!(engine.devices().count() <= 64);
    let desk = engine
        .devices()
        .find(|(_, device)| device.key.to_string() == DESK_KEY);
    assert_eq!(desk.unwrap().1.attempts, 1);
    assert_eq!(engine.totals().spoofed.attempts, 20_000);
    assert_eq!(engine.spoofed().iter().count(), 1024);
    assert_eq!(engine.spoofed().beyond().attempts, 20_000 - 1024);
    assert_eq!(engine.totals().evicted_devices, 20_000 - 48);
}

#[test]
fn places_of_stations_that_were_silent_are_given_away() {
    let mut engine = live(Settings::default());
    let forge = |i: u32, seconds| Observation {
        mac: Some(Mac([2, 9, 9, (i >> 16) as u8, (i >> 8) as u8, i as u8])),
        ..frame(seconds, "8.8.8.8", 0, 7)
    };
    for i in 0..2000 {
        feed(&mut engine, forge(i, 1));
    }
    assert!(
        feed(&mut engine, forge(5000, 10))
            .iter()
            .all(|effect| !matches!(effect, Effect::Spoofed { is_first: true, .. }))
    );
    let later = feed(&mut engine, forge(6000, 4000));
    assert!(matches!(
        later[..],
        [Effect::Spoofed { is_first: true, .. }]
    ));
    let kept: u64 = engine.spoofed().iter().map(|it| it.count.syns).sum();
    assert_eq!(
        kept + engine.spoofed().beyond().syns,
        engine.totals().spoofed.syns
    );
}

#[test]
fn behind_a_router_the_address_or_the_prefix_is_the_device() {
    let mut engine = live(Settings::default());
    for number in 0..12 {
        feed(&mut engine, frame(1, "10.20.0.9", ROUTER, number));
        let ttl = |observation| Observation {
            ttl: Some(126),
            ..observation
        };
        feed(&mut engine, ttl(frame(1, "10.20.0.10", ROUTER, 1)));
        feed(&mut engine, ttl(frame(1, "2001:db8:2:7::1", ROUTER, 1)));
        feed(&mut engine, frame(1, "2001:db8:2:7::2", ROUTER, 2));
    }
    assert_eq!(
        devices(&engine),
        [
            row("10.20.0.9", 12, Verdict::Infected),
            row("10.20.0.10", 1, Verdict::Normal),
            row("2001:db8:2:7::/64", 2, Verdict::Normal),
        ]
    );
    for (_, device) in engine.devices() {
        assert_eq!((device.mac(), device.router()), (None, Some(mac(ROUTER))));
        assert!(!device.is_shared());
    }
    // The router's own mail is the router's.
    feed(&mut engine, frame(2, "192.168.1.2", ROUTER, 1));
    assert_eq!(devices(&engine)[3].0, "lan0/02:00:00:00:00:02");
}

#[test]
fn several_machines_behind_one_mac_are_told_once_and_never_split() {
    for ttls in [&[64, 63][..], &[64, 128], &[126], &[254]] {
        let mut engine = live(Settings::default());
        let mut told = 0;
        for number in 0..20 {
            let observation = Observation {
                ttl: Some(ttls[usize::from(number) % ttls.len()]),
                ..frame(1, "192.168.1.66", BOT, number)
            };
            let effects = feed(&mut engine, observation);
            told += effects
                .iter()
                .filter(|effect| matches!(effect, Effect::Shared { .. }))
                .count();
        }
        assert_eq!(told, 1, "{ttls:?}");
        assert_eq!(devices(&engine), [row(BOT_KEY, 20, Verdict::Infected)]);
        let (_, device) = engine.devices().next().unwrap();
        assert!(device.is_shared());
        assert!(because(device).contains("several machines stand behind it"));
    }
}

#[test]
fn one_machine_is_not_taken_for_several() {
    let mut engine = live(Settings::default());
    // Its families may differ, and a trace of the route is no NAT.
    let of = |source, ttl, number| Observation {
        ttl: Some(ttl),
        ..frame(1, source, BOT, number)
    };
    feed(&mut engine, of("192.168.1.66", 128, 1));
    feed(&mut engine, of("192.168.1.66", 128, 2));
    feed(&mut engine, of("2001:db8:1::66", 64, 3));
    for ttl in 1..=30 {
        feed(&mut engine, of("192.168.1.66", ttl, u16::from(ttl) + 3));
    }
    assert!(!engine.devices().next().unwrap().1.is_shared());
}

#[test]
fn without_a_link_layer_the_address_is_the_device() {
    let mut engine = live(Settings::default());
    let by_tunnel = |source, number| Observation {
        interface: interface("wg0"),
        mac: None,
        ..frame(1, source, 0, number)
    };
    for number in 0..10 {
        feed(&mut engine, by_tunnel("10.9.0.2", number));
    }
    feed(&mut engine, by_tunnel("10.9.0.3", 1));
    feed(&mut engine, by_tunnel("192.168.1.66", 1));
    assert_eq!(
        devices(&engine),
        [
            row("wg0/10.9.0.2", 10, Verdict::Infected),
            row("wg0/10.9.0.3", 1, Verdict::Normal),
        ]
    );
    assert_eq!(engine.totals().spoofed.attempts, 1);
}

#[test]
fn what_the_old_holder_of_an_address_sent_stays_his() {
    let mut engine = live(Settings::default());
    let now = Timestamp::default();
    engine.handle(
        leases("1800000000 02:00:00:00:00:66 192.168.1.66 bot *\n"),
        now,
    );
    for number in 0..10 {
        feed(&mut engine, frame(1, "192.168.1.66", BOT, number));
    }
    // It gives its address back and takes another; the desk gets the old one.
    engine.handle(
        leases(
            "1800000000 02:00:00:00:00:10 192.168.1.66 desk *\n\
             1800000000 02:00:00:00:00:66 192.168.1.67 bot *\n",
        ),
        now,
    );
    feed(&mut engine, frame(60, "192.168.1.66", DESK, 40));
    engine.handle(neighbour("192.168.1.66", DESK), now);
    engine.handle(neighbour("192.168.1.67", BOT), now);
    feed(&mut engine, frame(61, "192.168.1.66", DESK, 41));
    feed(&mut engine, frame(61, "192.168.1.67", BOT, 42));
    assert_eq!(
        devices(&engine),
        [
            row(BOT_KEY, 11, Verdict::Infected),
            row(DESK_KEY, 2, Verdict::Normal),
        ]
    );
    let names: Vec<_> = engine
        .devices()
        .map(|(_, device)| device.hostname.clone().unwrap())
        .collect();
    assert_eq!(names, ["bot", "desk"]);
    assert_eq!(engine.totals().spoofed.attempts, 0);
}

#[test]
fn what_becomes_known_later_is_said_of_the_device() {
    let mut engine = live(Settings::default());
    let now = Timestamp::default();
    feed(&mut engine, frame(1, "192.168.1.50", 0x50, 1));
    let told = |engine: &Engine| {
        let (_, device) = engine.devices().next().unwrap();
        (device.basis.to_string(), device.hostname.clone())
    };
    assert_eq!(told(&engine), ("frame".to_owned(), None));
    engine.handle(neighbour("192.168.1.50", 0x50), now);
    engine.handle(
        Input::Hosts(vec![("192.168.1.50".parse().unwrap(), "camera".to_owned())]),
        now,
    );
    feed(&mut engine, frame(2, "192.168.1.50", 0x50, 2));
    let camera = Some("camera".to_owned());
    assert_eq!(told(&engine), ("neighbour".to_owned(), camera));
    engine.handle(
        leases("1800000000 02:00:00:00:00:50 192.168.1.50 eye *\n"),
        now,
    );
    feed(&mut engine, frame(3, "192.168.1.50", 0x50, 3));
    let eye = Some("eye".to_owned());
    assert_eq!(told(&engine), ("neighbour, lease".to_owned(), eye));
}

#[test]
fn leases_hold_at_the_time_of_day() {
    let mut engine = live(Settings::default());
    let now = Timestamp::default();
    engine.handle(
        leases("1700000000 02:00:00:00:00:31 192.168.1.31 pc *\n"),
        now,
    );
    // A gateway without a clock of its own believes in 1970.
    feed(&mut engine, frame(1, "192.168.1.31", 0x31, 1));
    engine.handle(Input::WallClock(1_750_000_000 * MICROS_PER_SECOND), now);
    feed(&mut engine, frame(2, "192.168.1.31", 0x77, 2));
    assert_eq!(
        devices(&engine),
        [
            row("lan0/02:00:00:00:00:31", 1, Verdict::Normal),
            row("lan0/02:00:00:00:00:77", 1, Verdict::Normal),
        ],
        "the lease has ended, so its word is no longer against the second"
    );
    assert_eq!(
        engine.wall(Timestamp::from_seconds(2)).as_seconds(),
        1_750_000_002
    );
}

#[test]
fn behind_a_private_wan_the_outside_is_outside() {
    let mut engine = live(Settings::default());
    let mut to_provider = frame(1, "192.168.1.66", BOT, 1);
    to_provider.tuple.destination = "10.0.0.1".parse().unwrap();
    feed(&mut engine, to_provider);
    let mut from_provider = frame(1, "10.0.0.1", 0xfe, 1);
    from_provider.interface = interface("wan0");
    from_provider.tuple.destination = "192.168.1.10".parse().unwrap();
    feed(&mut engine, from_provider);
    let mut own = frame(1, "10.0.0.5", 0, 1);
    own.interface = Interface::default();
    feed(&mut engine, own);
    let totals = engine.totals();
    let attempts = Direction::ALL.map(|direction| totals.direction(direction).attempts);
    assert_eq!(attempts, [1, 1, 0, 1, 0]);
}

#[test]
fn an_interface_that_comes_back_with_other_addresses_is_understood() {
    let mut engine = live(Settings::default());
    let now = Timestamp::default();
    let renumbered = "192.168.7.66";
    assert_eq!(
        feed(&mut engine, frame(1, renumbered, BOT, 1)).len(),
        1,
        "spoofed"
    );
    let mut topology = gateway();
    topology.addresses[0].address = "192.168.7.1/24".parse().unwrap();
    engine.handle(Input::Topology(topology), now);
    engine.handle(neighbour(renumbered, BOT), now);
    feed(&mut engine, frame(2, renumbered, BOT, 2));
    assert_eq!(devices(&engine), [row(BOT_KEY, 1, Verdict::Normal)]);
}

proptest! {
    /// Whatever forged frames come between, the totals add up and the desk is not accused.
    #[test]
    fn forged_frames_never_reach_another_device(
        frames in prop::collection::vec((0_u8..6, 0_u8..4, 0_u16..60), 0..200),
    ) {
        let mut engine = live(Settings::default());
        let count = frames.len() as u64;
        for (source, last, number) in frames {
            let source = [
                "192.168.1.10", "192.168.1.66", "192.168.1.99", "10.20.0.9", "8.8.8.8", "10.0.0.7",
            ][usize::from(source)];
            // Anybody's MAC but the one that the desk's address belongs to.
            let last = [BOT, ROUTER, 0x77, 0x78][usize::from(last)];
            feed(&mut engine, frame(1, source, last, number));
        }
        let totals = engine.totals();
        let directions = Direction::ALL.map(|direction| totals.direction(direction).syns);
        prop_assert!(directions.iter().sum::<u64>() + totals.spoofed.syns <= count);
        let desk = engine.devices().find(|(_, device)| device.key.to_string() == DESK_KEY);
        prop_assert!(desk.is_none());
    }
}

#[test]
fn what_a_lease_s_old_holder_sent_stays_his_when_it_is_read_afterwards() {
    const LAPTOP: u8 = 0x1a;
    let at = Timestamp::from_seconds;
    let mut engine = live(Settings::default());
    // The time of day is an hour ahead of the time that inputs bear.
    engine.handle(Input::WallClock(3600 * 1_000_000), at(900));
    engine.handle(neighbour("192.168.1.50", BOT), at(1000));
    engine.handle(neighbour("192.168.1.50", LAPTOP), at(2000));
    let without_mac = |seconds, number| Observation {
        mac: None,
        ..frame(seconds, "192.168.1.50", BOT, number)
    };
    for number in 0..20 {
        engine.handle(
            Input::Syn(without_mac(1500 + i64::from(number), number)),
            at(2100),
        );
        let late = frame(1500 + i64::from(number), "192.168.1.50", BOT, 100 + number);
        engine.handle(Input::Syn(late), at(2100));
    }
    engine.handle(Input::Syn(without_mac(2200, 300)), at(2200));
    let attempts = |engine: &Engine, last| {
        let key = DeviceKey::Station(interface("lan0"), mac(last));
        let known = engine.devices().find(|(_, device)| device.key == key);
        known.map_or((0, 0), |(_, it)| (it.attempts, it.findings.len()))
    };
    let (of_bot, findings) = attempts(&engine, BOT);
    assert_eq!(of_bot, 40);
    assert!(findings > 0);
    assert_eq!(attempts(&engine, LAPTOP), (1, 0));
    assert_eq!(engine.totals().spoofed.attempts, 0);

    // What was held goes to the next run by the time of day, whose clock is another.
    let held = engine.held(at(2300));
    assert!(held.is_sorted_by_key(|it| it.from));
    let bots: Vec<_> = held
        .iter()
        .filter(|it| it.address.to_string() == "192.168.1.50" && it.mac == mac(BOT))
        .map(|it| (it.from, it.until))
        .collect();
    assert_eq!(bots, [(at(4600), at(5600))]);
    let mut next = live(Settings::default());
    next.handle(neighbour("192.168.1.50", LAPTOP), at(9000));
    next.handle(Input::Held(held), at(9000));
    next.handle(Input::Syn(without_mac(5000, 1)), at(9001));
    next.handle(Input::Syn(without_mac(9001, 2)), at(9001));
    assert_eq!(attempts(&next, BOT).0, 1);
    assert_eq!(attempts(&next, LAPTOP).0, 1);
}

#[test]
fn names_and_makers_are_asked_for_once_and_told_in_the_sentence() {
    let at = Timestamp::from_seconds;
    let dell = Mac([0, 0x14, 0x22, 1, 2, 3]);
    let mut engine = live(Settings::default());
    let entry = Neighbour {
        interface: interface("lan0"),
        address: "192.168.1.77".parse().unwrap(),
        mac: Some(dell),
    };
    engine.handle(Input::Neighbour(entry), at(0));
    let mut packet = frame(10, "192.168.1.77", 0, 1);
    packet.mac = Some(dell);
    engine.handle(Input::Syn(packet), at(10));
    let (id, device) = engine.devices().next().unwrap();
    let key = device.key;
    assert_eq!(engine.wants_name(id), Some(entry.address));
    assert_eq!(engine.wants_vendor(id), Some(dell));
    let vendor = |name: Option<&str>| Input::Vendor {
        device: key,
        mac: dell,
        name: name.map(str::to_owned),
    };
    engine.handle(vendor(None), at(11));
    assert_eq!(engine.wants_vendor(id), None);
    engine.handle(vendor(Some("Dell")), at(11));
    let hostile = Input::ReverseName {
        address: entry.address,
        name: Some("a\u{1b}[2J".to_owned()),
    };
    engine.handle(hostile, at(11));
    assert_eq!(engine.wants_name(id), Some(entry.address));
    let name = Input::ReverseName {
        address: entry.address,
        name: Some("reception-pc.office.".to_owned()),
    };
    engine.handle(name, at(12));
    assert_eq!(engine.wants_name(id), None);
    let sentence = because(engine.device(id).unwrap());
    let expected = "192.168.1.77 (00:14:22:01:02:03, reception-pc.office, Dell) ";
    assert!(sentence.starts_with(expected), "{sentence}");
    // A lease says more than DNS.
    engine.handle(
        leases("1800000000 00:14:22:01:02:03 192.168.1.77 leased *\n"),
        at(13),
    );
    packet.time = at(14);
    packet.tuple.source_port += 1;
    engine.handle(Input::Syn(packet), at(14));
    assert_eq!(
        engine.device(id).unwrap().hostname.as_deref(),
        Some("leased")
    );
    // One that was made up has no maker to ask for.
    engine.handle(Input::Syn(frame(15, "192.168.1.66", BOT, 9)), at(15));
    let (other, _) = engine.devices().nth(1).unwrap();
    assert_eq!(engine.wants_vendor(other), None);
}
