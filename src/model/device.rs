//! A device: what stands behind an address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

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

/// The text is no device's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a device's id")]
pub struct ParseDeviceKeyError;

/// As [`Display`](fmt::Display) writes it; an interface whose name is no UTF-8 does not come back.
impl FromStr for DeviceKey {
    type Err = ParseDeviceKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        if let Ok(mac) = text.parse() {
            return Ok(Self::Mac(mac));
        }
        if let Ok(network) = text.parse() {
            return Ok(Self::Prefix(network));
        }
        let (interface, own) = text.rsplit_once('/').ok_or(ParseDeviceKeyError)?;
        if interface.is_empty() {
            return Err(ParseDeviceKeyError);
        }
        let interface = Interface::new(interface.as_bytes());
        match (own.parse(), own.parse()) {
            (Ok(mac), _) => Ok(Self::Station(interface, mac)),
            (_, Ok(address)) => Ok(Self::Host(interface, address)),
            _ => Err(ParseDeviceKeyError),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_as_it_was_written() {
        let address: IpAddr = [192, 168, 1, 7].into();
        let mac = Mac([2, 0, 0, 0, 0, 7]);
        for key in [
            DeviceKey::Address(address),
            DeviceKey::Address("2001:db8::7".parse().unwrap()),
            DeviceKey::Mac(mac),
            DeviceKey::Station(Interface::new(b"eth1.10"), mac),
            DeviceKey::Station(Interface::new(b"a/b"), mac),
            DeviceKey::Host(Interface::new(b"wg0"), address),
            DeviceKey::Host(Interface::new(b"wg0"), "fd00::7".parse().unwrap()),
            DeviceKey::Prefix("2001:db8:1:2::/64".parse().unwrap()),
        ] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        for bad in ["", "desk", "eth1/", "/02:00:00:00:00:07", "eth1/desk"] {
            assert_eq!(
                bad.parse::<DeviceKey>(),
                Err(ParseDeviceKeyError),
                "{bad:?}"
            );
        }
    }
}
