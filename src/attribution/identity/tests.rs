//! Who is named, and who is not, on a gateway with an inside and an outside.

use super::*;
use crate::decode::dhcp_lease;
use crate::model::{Link, LocalAddress, Route, RuleId, Tuple};

const VICTIM: u8 = 0x10;
const ATTACKER: u8 = 0x66;
const ROUTER: u8 = 0x02;
const STRANGER: u8 = 0x77;

fn interface(name: &str) -> Interface {
    Interface::new(name.as_bytes())
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn link(name: &str, has_link_layer: bool) -> Link {
    Link {
        interface: interface(name),
        has_link_layer,
    }
}

fn own(name: &str, address: &str) -> LocalAddress {
    LocalAddress {
        interface: interface(name),
        address: address.parse().unwrap(),
    }
}

fn route(destination: &str, name: &str, via: Option<&str>) -> Route {
    Route {
        destination: destination.parse().unwrap(),
        interface: interface(name),
        via: via.map(|via| via.parse().unwrap()),
    }
}

/// LAN, a router on it with networks behind it, a tunnel, and the Internet behind a private address.
fn gateway() -> Topology {
    Topology {
        links: vec![
            link("lan0", true),
            link("wan0", true),
            link("wg0", false),
            link("mirror0", true),
        ],
        addresses: vec![
            own("lan0", "192.168.1.1/24"),
            own("lan0", "2001:db8:1::1/64"),
            own("lan0", "fd00:1::1/64"),
            own("lan0", "fe80::1/64"),
            own("wan0", "10.0.0.5/24"),
            own("wan0", "fe80::5/64"),
            own("wg0", "10.9.0.1/24"),
            own("mirror0", "fe80::9/64"),
        ],
        routes: vec![
            route("0.0.0.0/0", "wan0", Some("10.0.0.1")),
            route("::/0", "wan0", Some("fe80::ff")),
            route("192.168.1.0/24", "lan0", None),
            route("10.20.0.0/16", "lan0", Some("192.168.1.2")),
            route("10.30.0.0/16", "lan0", Some("192.168.1.3")),
            route("2001:db8:2::/48", "lan0", Some("fe80::2")),
            route("10.77.0.0/16", "wg0", None),
        ],
    }
}

fn neighbour(name: &str, address: &str, last: u8) -> Neighbour {
    Neighbour {
        interface: interface(name),
        address: address.parse().unwrap(),
        mac: Some(mac(last)),
    }
}

/// What is known at the start: the victim and the attacker, the router, the provider.
fn who_with(settings: &Settings, leases: &str) -> Who {
    let leases = LeaseBook::new([dhcp_lease::decode(leases.as_bytes())]);
    let mut who = Who::new(leases, settings, &FixedState::with_seed(7));
    who.set_topology(&gateway(), settings);
    for entry in [
        neighbour("lan0", "192.168.1.10", VICTIM),
        neighbour("lan0", "2001:db8:1::10", VICTIM),
        neighbour("lan0", "192.168.1.66", ATTACKER),
        neighbour("lan0", "192.168.1.2", ROUTER),
        neighbour("lan0", "fe80::2", ROUTER),
        neighbour("wan0", "10.0.0.1", 0xfe),
    ] {
        who.note_neighbour(&entry, Timestamp::default());
    }
    who
}

fn who() -> Who {
    who_with(&Settings::default(), "")
}

fn packet(name: &str, source: &str, last: Option<u8>) -> Observation {
    let tuple = Tuple {
        source: source.parse().unwrap(),
        destination: "203.0.113.9".parse().unwrap(),
        source_port: 4000,
        destination_port: 25,
    };
    Observation {
        mac: last.map(mac),
        interface: interface(name),
        ..Observation::new(Timestamp::from_seconds(100), RuleId(1), tuple)
    }
}

/// The origin of a packet, as text: key and basis, or why not.
fn origin(who: &Who, name: &str, source: &str, last: impl Into<Option<u8>>) -> String {
    let packet = packet(name, source, last.into());
    match who.origin(&packet, packet.time) {
        Origin::Device(identity) => {
            let (basis, _) = who.details(&identity, packet.tuple.source, packet.time);
            format!("{} ({basis})", identity.key)
        }
        Origin::Spoofed(reason) => format!("{reason:?}"),
    }
}

#[test]
fn each_kind_of_source_is_told_by_what_can_be_known_of_it() {
    let who = who();
    for (name, source, last, expected) in [
        // On-link: its MAC, and neither address nor family make another device.
        (
            "lan0",
            "192.168.1.10",
            VICTIM,
            "lan0/02:00:00:00:00:10 (neighbour)",
        ),
        (
            "lan0",
            "2001:db8:1::10",
            VICTIM,
            "lan0/02:00:00:00:00:10 (neighbour)",
        ),
        // A privacy address that nobody has asked for yet, a station that is new.
        (
            "lan0",
            "2001:db8:1::abcd",
            VICTIM,
            "lan0/02:00:00:00:00:10 (frame)",
        ),
        (
            "lan0",
            "fe80::abcd",
            VICTIM,
            "lan0/02:00:00:00:00:10 (frame)",
        ),
        (
            "lan0",
            "192.168.1.50",
            STRANGER,
            "lan0/02:00:00:00:00:77 (frame)",
        ),
        // The router's own, and what is behind it.
        (
            "lan0",
            "192.168.1.2",
            ROUTER,
            "lan0/02:00:00:00:00:02 (neighbour)",
        ),
        (
            "lan0",
            "10.20.0.5",
            ROUTER,
            "10.20.0.5 (behind router 02:00:00:00:00:02)",
        ),
        (
            "lan0",
            "2001:db8:2:7::5",
            ROUTER,
            "2001:db8:2:7::/64 (behind router 02:00:00:00:00:02)",
        ),
        // Not routed back, but a router's frame.
        (
            "lan0",
            "10.99.0.5",
            ROUTER,
            "10.99.0.5 (behind router 02:00:00:00:00:02)",
        ),
        // A station on-link that sends by that router.
        (
            "lan0",
            "192.168.1.10",
            ROUTER,
            "192.168.1.10 (behind router 02:00:00:00:00:02)",
        ),
        // A router that the neighbour table has not met yet.
        (
            "lan0",
            "10.30.0.5",
            STRANGER,
            "10.30.0.5 (behind router 02:00:00:00:00:77)",
        ),
        // The Internet, by the provider's router, and by another.
        (
            "wan0",
            "203.0.113.7",
            0xfe,
            "203.0.113.7 (behind router 02:00:00:00:00:fe)",
        ),
        ("wan0", "203.0.113.7", STRANGER, "203.0.113.7 (address)"),
        // Where nothing can be compared.
        ("mirror0", "192.168.1.10", VICTIM, "192.168.1.10 (address)"),
        ("lan7", "192.168.1.10", VICTIM, "192.168.1.10 (address)"),
    ] {
        assert_eq!(
            origin(&who, name, source, last),
            expected,
            "{source} by {name}"
        );
    }
}

#[test]
fn forged_sources_are_nobodys() {
    let who = who();
    for (source, last, expected) in [
        // Another's address with the own MAC.
        ("192.168.1.10", ATTACKER, "OtherMac"),
        ("2001:db8:1::10", ATTACKER, "OtherMac"),
        // The own address, or a free one, with another's MAC.
        ("192.168.1.66", VICTIM, "OtherMac"),
        ("192.168.1.200", VICTIM, "NobodysAddress"),
        // Both another's, of two.
        ("192.168.1.66", STRANGER, "OtherMac"),
        // Off-link: public, private, of the WAN's network, of a tunnel's, behind the router.
        ("8.8.8.8", ATTACKER, "OffLink"),
        ("172.16.0.1", ATTACKER, "OffLink"),
        ("10.0.0.77", ATTACKER, "OffLink"),
        ("10.9.0.2", ATTACKER, "OffLink"),
        ("10.20.0.5", ATTACKER, "OffLink"),
        ("10.30.0.5", ATTACKER, "OffLink"),
        ("2001:db8:9::1", VICTIM, "OffLink"),
        ("2001:db8:2:7::5", ATTACKER, "OffLink"),
    ] {
        assert_eq!(origin(&who, "lan0", source, last), expected, "{source}");
    }
}

#[test]
fn where_there_is_no_link_layer_the_address_is_the_device() {
    let who = who();
    assert_eq!(
        origin(&who, "wg0", "10.9.0.2", None),
        "wg0/10.9.0.2 (interface)"
    );
    assert_eq!(
        origin(&who, "wg0", "10.77.1.1", None),
        "wg0/10.77.1.1 (interface)"
    );
    assert_eq!(origin(&who, "wg0", "192.168.1.10", None), "OffLink");
}

#[test]
fn a_record_without_a_mac_is_told_by_the_tables() {
    let who = who_with(
        &Settings::default(),
        "1800000000 02:00:00:00:00:31 192.168.1.31 leased *\n",
    );
    for (source, expected) in [
        ("192.168.1.10", "lan0/02:00:00:00:00:10 (neighbour)"),
        ("192.168.1.31", "lan0/02:00:00:00:00:31 (lease)"),
        ("192.168.1.99", "192.168.1.99 (address)"),
        ("10.20.0.5", "10.20.0.5 (behind router 02:00:00:00:00:02)"),
        ("10.30.0.5", "10.30.0.5 (address)"),
        ("8.8.8.8", "OffLink"),
    ] {
        assert_eq!(origin(&who, "lan0", source, None), expected, "{source}");
    }
}

#[test]
fn a_lease_counts_where_the_neighbour_table_is_silent_or_late() {
    let leases = "1800000000 02:00:00:00:00:10 192.168.1.10 desk *\n\
                  1800000000 02:00:00:00:00:31 192.168.1.31 leased *\n\
                  1800000000 02:00:00:00:00:32 192.168.1.66 new *\n\
                  1800000000 00:00:00:00:00:00 192.168.1.40 null *\n";
    let who = who_with(&Settings::default(), leases);
    for (source, last, expected) in [
        (
            "192.168.1.10",
            VICTIM,
            "lan0/02:00:00:00:00:10 (neighbour, lease)",
        ),
        ("192.168.1.31", 0x31, "lan0/02:00:00:00:00:31 (lease)"),
        // The server speaks of another.
        ("192.168.1.31", STRANGER, "OtherMac"),
        // The address has a new holder, the neighbour entry is still the old one's; both are right,
        // as long as both send.
        ("192.168.1.66", 0x32, "lan0/02:00:00:00:00:32 (lease)"),
        // A static address in the middle of the pool: it answers for it.
        (
            "192.168.1.66",
            ATTACKER,
            "lan0/02:00:00:00:00:66 (neighbour)",
        ),
        ("192.168.1.66", STRANGER, "OtherMac"),
        // A lease that names no station says nothing.
        ("192.168.1.40", STRANGER, "lan0/02:00:00:00:00:77 (frame)"),
    ] {
        assert_eq!(origin(&who, "lan0", source, last), expected, "{source}");
    }
}

#[test]
fn a_dhcpv6_identifier_may_bear_the_mac_of_another_interface() {
    let leases = "duid 00:01:00:01:aa\n\
        1800000000 1 2001:db8:1::77 laptop 00:01:00:01:2a:2b:2c:2d:02:00:00:00:00:99\n";
    let who = who_with(&Settings::default(), leases);
    let packet = packet("lan0", "2001:db8:1::77", Some(STRANGER));
    let Origin::Device(identity) = who.origin(&packet, packet.time) else {
        panic!("forged");
    };
    assert_eq!(identity.key.to_string(), "lan0/02:00:00:00:00:77");
    assert_eq!(
        who.details(&identity, packet.tuple.source, packet.time).1,
        Some("laptop")
    );
}

#[test]
fn after_a_change_of_leases_the_address_is_its_new_holders() {
    let mut who = who_with(
        &Settings::default(),
        "1800000000 02:00:00:00:00:10 192.168.1.10 old *\n",
    );
    let old = "lan0/02:00:00:00:00:10 (neighbour, lease)";
    assert_eq!(origin(&who, "lan0", "192.168.1.10", VICTIM), old);
    who.set_leases(LeaseBook::new([dhcp_lease::decode(
        b"1800000000 02:00:00:00:00:31 192.168.1.10 new *\n",
    )]));
    let by_lease = "lan0/02:00:00:00:00:31 (lease)";
    assert_eq!(origin(&who, "lan0", "192.168.1.10", 0x31), by_lease);
    who.note_neighbour(
        &neighbour("lan0", "192.168.1.10", 0x31),
        Timestamp::default(),
    );
    let new = "lan0/02:00:00:00:00:31 (neighbour, lease)";
    assert_eq!(origin(&who, "lan0", "192.168.1.10", 0x31), new);
    assert_eq!(origin(&who, "lan0", "192.168.1.10", VICTIM), "OtherMac");
}

#[test]
fn names_come_from_the_lease_then_by_hand_then_from_another_lease_of_the_mac() {
    let mut who = who_with(
        &Settings::default(),
        "1800000000 02:00:00:00:00:10 192.168.1.10 leased *\n",
    );
    who.set_hosts(vec![
        ("192.168.1.10".parse().unwrap(), "by-hand".to_owned()),
        ("192.168.1.66".parse().unwrap(), "scanner".to_owned()),
        ("192.168.1.66".parse().unwrap(), "alias".to_owned()),
    ]);
    let name = |source: &str, last| {
        let packet = packet("lan0", source, Some(last));
        let Origin::Device(identity) = who.origin(&packet, packet.time) else {
            panic!("{source} is forged");
        };
        who.details(&identity, packet.tuple.source, packet.time).1
    };
    assert_eq!(name("192.168.1.10", VICTIM), Some("leased"));
    assert_eq!(name("192.168.1.66", ATTACKER), Some("scanner"));
    assert_eq!(name("2001:db8:1::10", VICTIM), Some("leased"));
    assert_eq!(name("192.168.1.50", STRANGER), None);
}

#[test]
fn routers_are_declared_too_and_may_come_and_go() {
    let settings = Settings {
        routers: vec![
            "192.168.1.66".parse().unwrap(),
            "02:00:00:00:00:77".parse().unwrap(),
        ],
        ..Settings::default()
    };
    let mut who = who_with(&settings, "");
    let behind = |last: u8| format!("10.99.0.1 (behind router 02:00:00:00:00:{last:02x})");
    for last in [ATTACKER, STRANGER, ROUTER] {
        assert_eq!(origin(&who, "lan0", "10.99.0.1", last), behind(last));
    }
    who.note_neighbour(
        &neighbour("lan0", "192.168.1.2", 0x22),
        Timestamp::default(),
    );
    assert_eq!(origin(&who, "lan0", "10.99.0.1", 0x22), behind(0x22));
    assert_eq!(origin(&who, "lan0", "10.99.0.1", VICTIM), "OffLink");
    let mut without = gateway();
    without.routes.retain(|route| route.via.is_none());
    without.routes.push(route("0.0.0.0/0", "wan0", None));
    who.set_topology(&without, &settings);
    assert_eq!(origin(&who, "lan0", "10.99.0.1", 0x22), "OffLink");
}

#[test]
fn frames_with_a_vlan_tag_belong_to_another_interface() {
    let who = who();
    let tagged = Observation {
        vlan: Some(10),
        ..packet("lan0", "10.50.0.1", Some(STRANGER))
    };
    let Origin::Device(identity) = who.origin(&tagged, tagged.time) else {
        panic!("forged");
    };
    assert_eq!(identity.key.to_string(), "10.50.0.1");
}

#[test]
fn offline_nothing_but_leases_is_known() {
    let leases = LeaseBook::new([dhcp_lease::decode(
        b"1800000000 02:00:00:00:00:10 192.168.1.10 desk *\n",
    )]);
    let who = Who::new(leases, &Settings::default(), &FixedState::with_seed(7));
    assert_eq!(
        origin(&who, "lan0", "192.168.1.10", ATTACKER),
        "02:00:00:00:00:10 (lease)"
    );
    assert_eq!(
        origin(&who, "lan0", "8.8.8.8", ATTACKER),
        "8.8.8.8 (address)"
    );
}

/// The origin of a packet of `seconds`, by the time of day and of inputs.
fn origin_at(who: &Who, seconds: i64, source: &str, last: impl Into<Option<u8>>) -> String {
    let mut packet = packet("lan0", source, last.into());
    packet.time = Timestamp::from_seconds(seconds);
    match who.origin(&packet, packet.time) {
        Origin::Device(identity) => format!("{} ({})", identity.key, identity.basis),
        Origin::Spoofed(reason) => format!("{reason:?}"),
    }
}

#[test]
fn a_laptop_that_takes_the_bots_address_does_not_take_its_past() {
    let mut who = who();
    let at = Timestamp::from_seconds;
    who.note_neighbour(&neighbour("lan0", "192.168.1.50", 0xb0), at(1000));
    who.note_neighbour(&neighbour("lan0", "192.168.1.50", 0x1a), at(2000));
    let bot = "lan0/02:00:00:00:00:b0 (neighbour)";
    let laptop = "lan0/02:00:00:00:00:1a (neighbour)";
    // Read afterwards, with the frame's MAC and without one.
    for last in [Some(0xb0), None] {
        assert_eq!(origin_at(&who, 1500, "192.168.1.50", last), bot);
        assert_eq!(origin_at(&who, 1999, "192.168.1.50", last), bot);
    }
    for last in [Some(0x1a), None] {
        assert_eq!(origin_at(&who, 2000, "192.168.1.50", last), laptop);
        assert_eq!(origin_at(&who, 3000, "192.168.1.50", last), laptop);
    }
    // Who was neither then is still not believed, and the bot is not the address's any more.
    assert_eq!(origin_at(&who, 1500, "192.168.1.50", STRANGER), "OtherMac");
    assert_eq!(origin_at(&who, 3000, "192.168.1.50", 0xb0), "OtherMac");
}

#[test]
fn before_the_watch_began_a_lease_knows_more_than_the_table_of_now() {
    let at = Timestamp::from_seconds;
    // The laptop's lease ends at 3600 and 7200 s; the bot had the address until 1900.
    let leases = "lease 192.168.1.50 { starts epoch 1000; ends epoch 1900; binding state free; hardware ethernet 02:00:00:00:00:b0; }\n\
                  lease 192.168.1.50 { starts epoch 2000; ends epoch 7200; binding state active; hardware ethernet 02:00:00:00:00:1a; }\n";
    let mut who = who_with(&Settings::default(), leases);
    who.note_neighbour(&neighbour("lan0", "192.168.1.50", 0x1a), at(5000));
    let bot = "lan0/02:00:00:00:00:b0 (lease)";
    assert_eq!(origin_at(&who, 1500, "192.168.1.50", None), bot);
    assert_eq!(origin_at(&who, 1500, "192.168.1.50", 0xb0), bot);
    assert_eq!(
        origin_at(&who, 2500, "192.168.1.50", None),
        "lan0/02:00:00:00:00:1a (neighbour)"
    );
    // Nobody remembers: the frame is all there is, and no reason to call it forged.
    assert_eq!(
        origin_at(&who, 500, "192.168.1.50", STRANGER),
        "lan0/02:00:00:00:00:77 (frame)"
    );
}

#[test]
fn who_answered_in_an_earlier_run_is_remembered() {
    let mut who = who();
    let at = Timestamp::from_seconds;
    who.note_neighbour(&neighbour("lan0", "192.168.1.50", 0x1a), at(5000));
    who.note_past(vec![Held {
        interface: interface("lan0"),
        address: "192.168.1.50".parse().unwrap(),
        mac: mac(0xb0),
        from: at(1000),
        until: at(2000),
    }]);
    assert_eq!(
        origin_at(&who, 1500, "192.168.1.50", None),
        "lan0/02:00:00:00:00:b0 (neighbour)"
    );
    // Between the two runs nobody looked: it is the address's, and nobody's MAC.
    assert_eq!(
        origin_at(&who, 3000, "192.168.1.50", None),
        "192.168.1.50 (address)"
    );
    assert_eq!(
        origin_at(&who, 3000, "192.168.1.50", 0xb0),
        "lan0/02:00:00:00:00:b0 (frame)"
    );
}

#[test]
fn five_privacy_addresses_of_a_mac_are_one_device() {
    let mut who = who();
    for number in 1..=5 {
        let address = format!("2001:db8:1::{number:x}abc:{number}");
        // The first packet may come before the entry.
        let expected = "lan0/02:00:00:00:00:10 (frame)";
        assert_eq!(origin_at(&who, 100, &address, VICTIM), expected);
        who.note_neighbour(
            &neighbour("lan0", &address, VICTIM),
            Timestamp::from_seconds(101),
        );
        let expected = "lan0/02:00:00:00:00:10 (neighbour)";
        assert_eq!(origin_at(&who, 102, &address, VICTIM), expected);
        assert_eq!(origin_at(&who, 102, &address, None), expected);
    }
}

#[test]
fn reverse_dns_names_what_nothing_else_does_until_the_address_is_anothers() {
    let mut who = who_with(
        &Settings::default(),
        "1800000000 02:00:00:00:00:10 192.168.1.10 leased *\n",
    );
    let name = |who: &Who, source: &str, last| {
        let packet = packet("lan0", source, Some(last));
        let Origin::Device(identity) = who.origin(&packet, packet.time) else {
            panic!("{source} is forged");
        };
        let (_, name) = who.details(&identity, packet.tuple.source, packet.time);
        name.map(str::to_owned)
    };
    for source in ["192.168.1.10", "192.168.1.66"] {
        who.note_reverse(source.parse().unwrap(), Some("dns.example."));
    }
    assert_eq!(
        name(&who, "192.168.1.10", VICTIM).as_deref(),
        Some("leased")
    );
    let scanner = name(&who, "192.168.1.66", ATTACKER);
    assert_eq!(scanner.as_deref(), Some("dns.example"));
    who.note_neighbour(
        &neighbour("lan0", "192.168.1.66", 0x44),
        Timestamp::default(),
    );
    assert_eq!(name(&who, "192.168.1.66", 0x44), None);
    assert_eq!(
        who.note_reverse("192.168.1.66".parse().unwrap(), Some("a\u{1b}[2J")),
        None
    );
}

/// As connection tracking has it: neither interface nor MAC.
#[test]
fn without_an_interface_it_is_the_one_that_the_source_is_behind() {
    let who = who();
    for (source, last, with_interface) in [
        ("192.168.1.10", VICTIM, "lan0"),
        ("2001:db8:1::10", VICTIM, "lan0"),
        ("10.20.0.5", ROUTER, "lan0"),
        ("2001:db8:2:7::5", ROUTER, "lan0"),
    ] {
        let named = origin(&who, with_interface, source, last);
        assert!(
            named.starts_with("lan0/") || named.contains("behind router"),
            "{named}"
        );
        assert_eq!(origin(&who, "", source, None), named);
    }
    assert_eq!(
        origin(&who, "", "10.77.0.9", None),
        origin(&who, "wg0", "10.77.0.9", None)
    );
    // Nobody has answered for it, nobody has the network, everybody has it, and the machine itself.
    for source in ["192.168.1.50", "198.51.100.7", "fe80::10", "192.168.1.1"] {
        assert_eq!(
            origin(&who, "", source, None),
            format!("{source} (address)")
        );
    }
}

#[test]
fn who_holds_an_address_is_whoever_a_packet_from_it_counts_for() {
    let who = who();
    let at = Timestamp::from_seconds(100);
    let holder = |address: &str| {
        let key = who.holder(address.parse().unwrap(), at, at, &Settings::default());
        key.map(|key| key.to_string())
    };
    for (address, expected) in [
        ("192.168.1.10", Some("lan0/02:00:00:00:00:10")),
        ("2001:db8:1::10", Some("lan0/02:00:00:00:00:10")),
        // Behind the router, and behind the tunnel.
        ("10.20.0.9", Some("10.20.0.9")),
        ("10.9.0.7", Some("wg0/10.9.0.7")),
        // Nobody knows its MAC.
        ("192.168.1.50", Some("192.168.1.50")),
        // The gateway's own, and outside.
        ("192.168.1.1", None),
        ("10.0.0.1", None),
        ("203.0.113.9", None),
    ] {
        assert_eq!(holder(address), expected.map(str::to_owned), "{address}");
    }
}

#[test]
fn offline_a_lease_tells_who_holds_an_address() {
    let lease = "2000 02:00:00:00:00:10 192.168.1.10 desk *\n";
    let leases = LeaseBook::new([dhcp_lease::decode(lease.as_bytes())]);
    let settings = Settings {
        gateway: vec!["192.168.1.1".parse().unwrap()],
        ..Settings::default()
    };
    let who = Who::new(leases, &settings, &FixedState::with_seed(7));
    let holder = |address: &str, seconds| {
        let at = Timestamp::from_seconds(seconds);
        who.holder(address.parse().unwrap(), at, at, &settings)
    };
    assert_eq!(
        holder("192.168.1.10", 1_999),
        Some(DeviceKey::Mac(mac(VICTIM)))
    );
    let by_address = |address: &str| Some(DeviceKey::Address(address.parse().unwrap()));
    assert_eq!(holder("192.168.1.11", 1_999), by_address("192.168.1.11"));
    assert_eq!(holder("192.168.1.1", 1_999), None);
    assert_eq!(holder("8.8.8.8", 1_999), None);
}
