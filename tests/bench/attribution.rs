//! What it costs to tell who sent a packet, on a gateway with a few hundred stations.
//!
//! Floors 0 to 3 alone, so that `--no-default-features` builds them. Each call is one packet.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::net::IpAddr;

use divan::{Bencher, black_box};
use foldhash::quality::FixedState;
use smtpwatch::attribution::identity::Who;
use smtpwatch::attribution::leases::LeaseBook;
use smtpwatch::decode::dhcp_lease;
use smtpwatch::engine::{Engine, Input};
use smtpwatch::model::{
    Clock, Interface, Link, LocalAddress, Mac, Neighbour, Observation, Route, RuleId, Timestamp,
    Topology, Tuple,
};
use smtpwatch::settings::Settings;

fn main() {
    divan::main();
}

const STATIONS: u32 = 500;

fn lan() -> Interface {
    Interface::new(b"lan0")
}

fn topology() -> Topology {
    let wan = Interface::new(b"wan0");
    let link = |interface| Link {
        interface,
        has_link_layer: true,
    };
    let own = |interface, address: &str| LocalAddress {
        interface,
        address: address.parse().unwrap(),
    };
    let route = |destination: &str, interface, via: &str| Route {
        destination: destination.parse().unwrap(),
        interface,
        via: Some(via.parse().unwrap()),
    };
    Topology {
        links: vec![link(lan()), link(wan)],
        addresses: vec![own(lan(), "10.1.0.1/16"), own(wan, "203.0.113.5/24")],
        routes: vec![
            route("0.0.0.0/0", wan, "203.0.113.1"),
            route("10.20.0.0/16", lan(), "10.1.0.2"),
        ],
    }
}

fn station(number: u32) -> (IpAddr, Mac) {
    let [.., high, low] = (number + 2).to_be_bytes();
    ([10, 1, high, low].into(), Mac([2, 0, 0, 0, high, low]))
}

fn neighbours() -> impl Iterator<Item = Neighbour> {
    (0..STATIONS).map(|number| {
        let (address, mac) = station(number);
        Neighbour {
            interface: lan(),
            address,
            mac: Some(mac),
        }
    })
}

fn leases() -> dhcp_lease::Leases {
    let lines: String = (0..STATIONS)
        .map(|number| {
            let (address, mac) = station(number);
            format!("1800000000 {mac} {address} host{number} *\n")
        })
        .collect();
    dhcp_lease::decode(lines.as_bytes())
}

fn packet(number: u32, source: IpAddr, mac: Mac) -> Observation {
    Observation {
        time: Timestamp::from_micros(i64::from(number) * 10),
        clock: Clock::Exact,
        rule: RuleId(1),
        tuple: Tuple {
            source,
            destination: (0xcb00_0000 + (number & 0xffff)).to_be_bytes().into(),
            source_port: (number % 60_000) as u16,
            destination_port: 25,
        },
        isn: Some(number),
        ip_id: None,
        mac: Some(mac),
        interface: lan(),
        ttl: Some(64),
        vlan: None,
        repeats: 0,
    }
}

/// Who sends a packet.
#[derive(Debug)]
enum Sender {
    Station,
    BehindRouter,
    OtherMac,
    OffLink,
    /// A MAC that nobody ever saw, another one each time, with an address that is off-link.
    Stranger,
}

const SENDERS: [Sender; 5] = [
    Sender::Station,
    Sender::BehindRouter,
    Sender::OtherMac,
    Sender::OffLink,
    Sender::Stranger,
];

impl Sender {
    fn packet(&self, number: u32) -> Observation {
        let scattered = number.wrapping_mul(2_654_435_761);
        let (address, mac) = station(scattered % STATIONS);
        let (_, router) = station(0);
        let [_, b, c, d] = scattered.to_be_bytes();
        match self {
            Self::Station => packet(number, address, mac),
            Self::BehindRouter => packet(number, [10, 20, 0, d].into(), router),
            Self::OtherMac => packet(number, address, Mac([2, 7, 7, 7, 7, 7])),
            Self::OffLink => packet(number, [8, b, c, d].into(), mac),
            Self::Stranger => packet(number, [8, b, c, d].into(), Mac([2, 9, 9, b, c, d])),
        }
    }
}

/// The question alone.
#[divan::bench(args = SENDERS)]
fn origin(bencher: Bencher, sender: &Sender) {
    let settings = Settings::default();
    let book = LeaseBook::new([leases()]);
    let mut who = Who::new(book, &settings, &FixedState::with_seed(7));
    who.set_topology(&topology(), &settings);
    neighbours().for_each(|neighbour| who.note_neighbour(&neighbour, Timestamp::default()));
    let packets: Vec<Observation> = (0..4_096).map(|number| sender.packet(number)).collect();
    let mut next = 0;
    bencher.bench_local(|| {
        next = (next + 1) % packets.len();
        let packet = &packets[next];
        black_box(who.origin(black_box(packet), Timestamp::from_seconds(1_700_000_000)))
    });
}

/// All that the engine does with a packet.
#[divan::bench(args = SENDERS)]
fn engine(bencher: Bencher, sender: &Sender) {
    let now = Timestamp::default();
    let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 7);
    engine.handle(Input::Topology(topology()), now);
    engine.handle(Input::Leases(leases().records), now);
    for neighbour in neighbours() {
        engine.handle(Input::Neighbour(neighbour), now);
    }
    let mut number = 0;
    bencher.bench_local(|| {
        number += 1;
        let packet = sender.packet(number);
        black_box(engine.handle(Input::Syn(packet), packet.time).len())
    });
}
