//! A device: what stands behind an address.

use std::fmt;
use std::net::IpAddr;

use super::Mac;

/// Position of a device in the engine's table, for as long as the device is kept there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub u32);

/// By what a device is told from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceKey {
    /// Its address: all that a log from elsewhere can tell.
    Address(IpAddr),
    /// Its MAC, where a lease names it for the time of the attempt.
    Mac(Mac),
}

/// On what grounds a device is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceBasis {
    /// The address alone.
    Address,
    /// A lease that was valid at the time.
    Lease,
    /// The address's last lease, which was not valid at the time: a name, but no proof.
    LeaseNotValidThen,
}

impl fmt::Display for DeviceBasis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "address",
            Self::Lease => "lease",
            Self::LeaseNotValidThen => "lease (not valid then)",
        })
    }
}

impl fmt::Display for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Mac(mac) => mac.fmt(f),
        }
    }
}
