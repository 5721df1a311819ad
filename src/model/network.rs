//! A gateway's place in the network, as its kernel knows it: interfaces, addresses, routes and
//! neighbours (rtnetlink(7)).

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Interface, Mac, Timestamp};

/// A network interface that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its name.
    pub interface: Interface,
    /// Whether its frames bear MAC addresses; `WireGuard`, tun and ppp have none.
    pub has_link_layer: bool,
}

/// An address of the machine itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalAddress {
    /// Where it is configured.
    pub interface: Interface,
    /// The address, with the length of the network that is on-link there.
    pub address: IpNet,
}

/// A unicast route of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads; length 0 is the default route.
    pub destination: IpNet,
    /// The interface it leaves by.
    pub interface: Interface,
    /// The next hop; none where the destination is on-link.
    pub via: Option<IpAddr>,
}

/// All of it at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The interfaces that are up.
    pub links: Vec<Link>,
    /// The machine's own addresses.
    pub addresses: Vec<LocalAddress>,
    /// The unicast routes of all tables.
    pub routes: Vec<Route>,
}

/// An entry of the neighbour table (ARP, NDP).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Where the neighbour is.
    pub interface: Interface,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC; none where nobody answers to the address any more.
    pub mac: Option<Mac>,
}

/// That a MAC answered for an address, and from when to when: of the time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Where.
    pub interface: Interface,
    /// The address.
    pub address: IpAddr,
    /// Who answered.
    pub mac: Mac,
    /// The first moment of which that is known.
    pub from: Timestamp,
    /// The last one.
    pub until: Timestamp,
}
