//! A device: what stands behind an address.

use std::fmt;
use std::net::IpAddr;

use ipnet::Ipv6Net;

use serde::{Deserialize, Serialize};

use super::{Interface, Mac};

/// Position of a device in the engine's table, for as long as the device is kept there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub u32);

/// By what a device is told from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKey {
    /// Its address: all that a log from elsewhere can tell, and all that can be told of an IPv4 host
    /// behind another router.
    Address(IpAddr),
    /// Its MAC, where a lease names it for the time of the attempt.
    Mac(Mac),
    /// Live: the interface and the MAC, where its address is on-link there.
    Station(Interface, Mac),
    /// Live: the interface and the address, where the interface has no link layer.
    Host(Interface, IpAddr),
    /// Live: the /64 of an IPv6 host behind another router.
    Prefix(Ipv6Net),
}

/// On what grounds a device is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceBasis {
    /// The address alone.
    Address,
    /// The address's last lease, which was not valid at the time: a name, but no proof.
    LeaseNotValidThen,
    /// Live: the address, which came from behind the router with this MAC.
    Router(Mac),
    /// Live: the address on an interface without a link layer.
    Interface,
    /// Live: the MAC of its frames; no neighbour entry and no lease speaks of the address.
    Frame,
    /// A lease that was valid at the time.
    Lease,
    /// Live: the neighbour entry, with which the frames agree.
    Neighbour,
    /// Live: the neighbour entry and a valid lease, with which the frames agree.
    NeighbourAndLease,
}

impl DeviceBasis {
    /// What stands before the MAC of a router.
    pub const BEHIND: &str = "behind router ";

    /// Live: whether somebody but the packets themselves says so: the neighbour table or a lease.
    pub fn is_confirmed(self) -> bool {
        matches!(
            self,
            Self::Lease | Self::Neighbour | Self::NeighbourAndLease
        )
    }
}

impl fmt::Display for DeviceBasis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "address",
            Self::LeaseNotValidThen => "lease (not valid then)",
            Self::Router(mac) => return write!(f, "{}{mac}", Self::BEHIND),
            Self::Interface => "interface",
            Self::Frame => "frame",
            Self::Lease => "lease",
            Self::Neighbour => "neighbour",
            Self::NeighbourAndLease => "neighbour, lease",
        })
    }
}

/// Unique among all devices, and the same in every run.
impl fmt::Display for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Mac(mac) => mac.fmt(f),
            Self::Station(interface, mac) => write!(f, "{interface}/{mac}"),
            Self::Host(interface, address) => write!(f, "{interface}/{address}"),
            Self::Prefix(network) => network.fmt(f),
        }
    }
}

/// Why a source is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spoof {
    /// The frame's MAC is not the one that the neighbour table or a lease names for its address.
    OtherMac,
    /// No network on-link or routed behind the interface holds the address, or one that only a
    /// router can reach, and the frame is not that router's.
    OffLink,
    /// A station known by another address uses one that nobody has ever answered for.
    NobodysAddress,
}

impl fmt::Display for Spoof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherMac => "the address is another MAC's",
            Self::OffLink => "the address does not belong behind this interface",
            Self::NobodysAddress => "nobody answers for the address",
        })
    }
}
