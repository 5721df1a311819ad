//! The gateway that one host is behind: an engine of its own, fed as a live run feeds it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::benign::FIRST_ADDRESS;
use super::traffic::{Deed, Ending, Syn};
use crate::attribution::leases::LeaseBook;
use crate::engine::{Device, Effect, Engine, Input};
use crate::model::{
    Clock, Detector, DeviceId, Interface, Link, LocalAddress, Mac, Neighbour, Networks, Notice,
    Observation, Response, ResponseKind, Route, RuleId, Timestamp, Topology, Tuple,
};
use crate::settings::{Named, Settings, Window};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 0x23]);
const TTL: u8 = 64;

/// What became of a SYN.
#[derive(Clone, Debug, Default)]
pub(super) struct Judged {
    /// Whose attempt it opened.
    pub(super) device: Option<DeviceId>,
    /// Who alarmed.
    pub(super) found: Vec<Detector>,
}

/// The gateway, and the host's place behind it.
pub(super) struct Gateway {
    engine: Engine,
    address: IpAddr,
    port: u16,
    wall_offset: i64,
    device: Option<DeviceId>,
}

impl Gateway {
    /// One that runs with `settings`, of which what tells the network is its own; the host is allowed where
    /// `is_allowed`.
    pub(super) fn new(settings: &Settings, is_allowed: bool, start: Timestamp) -> Self {
        let mut settings = Settings {
            lan: Networks::private(),
            lan_is_given: false,
            gateway: Vec::new(),
            routers: Vec::new(),
            window: Window::default(),
            allow: Vec::new(),
            ..settings.clone()
        };
        if is_allowed {
            settings.allow.push(Named::Mac(MAC));
        }
        let port = settings.ports.as_slice()[0];
        let mut gateway = Self {
            // The seed decides the order of tables alone.
            engine: Engine::new(settings, LeaseBook::default(), 0),
            address: FIRST_ADDRESS,
            port,
            wall_offset: 0,
            device: None,
        };
        gateway.engine.handle(Input::Topology(topology()), start);
        gateway.move_to(FIRST_ADDRESS, start);
        gateway
    }

    /// The address that the host has.
    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// Takes what the host does, and what befalls it, but its connections.
    pub(super) fn note(&mut self, deed: Deed, now: Timestamp) {
        match deed {
            Deed::Connect(..) => {}
            Deed::Move(address) => self.move_to(address, now),
            Deed::Step(micros) => {
                self.wall_offset += micros;
                self.engine.handle(Input::WallClock(self.wall_offset), now);
                let stepped = Notice::ClockStepped { micros };
                self.engine.handle(Input::Notice(stepped), now);
            }
            Deed::Service(groups) => {
                self.engine.handle(Input::OneService(groups), now);
            }
            Deed::Lookup => {
                let lookup = Input::MailLookup {
                    time: now,
                    client: self.address,
                };
                self.engine.handle(lookup, now);
            }
        }
    }

    fn move_to(&mut self, address: IpAddr, now: Timestamp) {
        self.address = address;
        let neighbour = Neighbour {
            interface: lan(),
            address,
            mac: Some(MAC),
        };
        self.engine.handle(Input::Neighbour(neighbour), now);
    }

    /// Takes a SYN.
    pub(super) fn syn(&mut self, syn: &Syn, now: Timestamp) -> Judged {
        let observation = Observation {
            time: now,
            clock: Clock::Exact,
            rule: RuleId(0),
            tuple: self.tuple(syn),
            isn: Some(syn.isn),
            ip_id: None,
            mac: Some(MAC),
            interface: lan(),
            ttl: Some(TTL),
            vlan: None,
            repeats: 0,
        };
        let mut judged = Judged::default();
        for effect in self.engine.handle(Input::Syn(observation), now) {
            match effect {
                Effect::Attempt { device, .. } => judged.device = *device,
                Effect::Found { finding, .. } => judged.found.push(finding.detector),
                _ => {}
            }
        }
        if let Some(device) = judged.device {
            self.device = Some(device);
        }
        judged
    }

    /// Tells how the attempt that `syn` opens ends.
    pub(super) fn answer(&mut self, syn: &Syn, now: Timestamp) {
        let kind = match syn.ending {
            Ending::Answered(_) => ResponseKind::Established,
            Ending::Refused => ResponseKind::Reset,
            Ending::Dropped(_) => return,
        };
        let response = Response {
            time: now,
            tuple: self.tuple(syn),
            isn: Some(syn.isn),
            kind,
            outside: None,
            bytes: None,
        };
        self.engine.handle(Input::Response(response), now);
    }

    fn tuple(&self, syn: &Syn) -> Tuple {
        Tuple {
            source: self.address,
            destination: syn.destination,
            source_port: syn.port,
            destination_port: self.port,
        }
    }

    /// Bytes that the detectors keep of the host.
    pub(super) fn bytes(&self) -> usize {
        let device = self.device.and_then(|id| self.engine.device(id));
        device.map_or(0, Device::detector_bytes)
    }
}

fn lan() -> Interface {
    Interface::new(b"lan0")
}

/// A LAN, and the Internet behind an address of the provider's.
fn topology() -> Topology {
    let wan = Interface::new(b"wan0");
    let link = |interface| Link {
        interface,
        has_link_layer: true,
    };
    let v4 = |interface, address: [u8; 4]| LocalAddress {
        interface,
        address: IpNet::V4(Ipv4Net::new_assert(address.into(), 24)),
    };
    let inside = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
    let route = |destination, via| Route {
        destination,
        interface: wan,
        via: Some(via),
    };
    Topology {
        links: vec![link(lan()), link(wan)],
        addresses: vec![
            v4(lan(), [192, 168, 1, 1]),
            LocalAddress {
                interface: lan(),
                address: IpNet::V6(Ipv6Net::new_assert(inside, 64)),
            },
            v4(wan, [203, 0, 113, 2]),
        ],
        routes: vec![
            route(
                IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
                Ipv4Addr::new(203, 0, 113, 1).into(),
            ),
            route(
                IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
                Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into(),
            ),
        ],
    }
}
