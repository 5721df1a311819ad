//! Which device made an attempt.
//!
//! Offline there is no telling whether an address was on-link, so a device is its address, unless a
//! lease names its MAC for the time of the attempt. A lease that was not valid then gives a name to
//! show and no more: to gather evidence under it could accuse the address's next holder.

use crate::attribution::leases::{Basis, LeaseBook};
use crate::model::{DeviceBasis, DeviceKey, Mac, Observation};

/// The device behind an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity<'a> {
    pub(super) key: DeviceKey,
    /// As the lease has it, where it stands for a station.
    pub(super) mac: Option<Mac>,
    pub(super) hostname: Option<&'a str>,
    pub(super) basis: DeviceBasis,
}

impl<'a> Identity<'a> {
    pub(super) fn of(observation: &Observation, leases: &'a LeaseBook) -> Self {
        let address = observation.tuple.source;
        let by_address = Self {
            key: DeviceKey::Address(address),
            mac: None,
            hostname: None,
            basis: DeviceBasis::Address,
        };
        let Some(holder) = leases.at(address, observation.time) else {
            return by_address;
        };
        let mac = holder.mac.filter(|mac| mac.is_station());
        let is_valid = holder.basis == Basis::Valid;
        Self {
            key: match mac {
                Some(mac) if is_valid => DeviceKey::Mac(mac),
                _ => by_address.key,
            },
            mac,
            hostname: holder.hostname,
            basis: if is_valid {
                DeviceBasis::Lease
            } else {
                DeviceBasis::LeaseNotValidThen
            },
        }
    }
}
