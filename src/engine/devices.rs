//! The devices and what each of them did.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use super::attempts::Seen;
use super::destinations::Destinations;
use super::identity::Identity;
use crate::detection::Detectors;
use crate::model::{
    Detector, DeviceBasis, DeviceId, DeviceKey, Finding, Interface, Mac, Observation, Timestamp,
    Verdict,
};
use crate::settings::{Limits, Settings};

/// Addresses that are kept of a device.
const MAX_ADDRESSES: usize = 16;
/// Devices looked at to find the one to forget.
const EVICTION_SAMPLE: usize = 16;

/// What is known about one device.
#[derive(Debug)]
pub struct Device {
    /// By what it is told from others.
    pub key: DeviceKey,
    /// On what grounds it is named.
    pub basis: DeviceBasis,
    /// Its name as it gave it to the DHCP server: hostile text.
    pub hostname: Option<String>,
    /// Addresses it was seen with, the latest last; at most 16.
    pub addresses: Vec<IpAddr>,
    /// SYN packets.
    pub syns: u64,
    /// Attempts.
    pub attempts: u64,
    /// First packet.
    pub first_seen: Timestamp,
    /// Last packet.
    pub last_seen: Timestamp,
    /// Most attempts in one minute of the clock.
    pub peak_per_minute: u64,
    /// What the detectors said, first to last.
    pub findings: Vec<Finding>,
    lease_mac: Option<Mac>,
    mac: Seldom<Mac>,
    interface: Seldom<Interface>,
    minute: (i64, u64),
    destinations: Destinations,
    uncounted_destinations: bool,
    detectors: Detectors,
}

/// A value that is told only while all records agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seldom<T> {
    Unknown,
    One(T),
    Several,
}

impl<T: Copy + PartialEq> Seldom<T> {
    fn note(&mut self, value: T) {
        *self = match *self {
            Self::Unknown => Self::One(value),
            Self::One(known) if known == value => return,
            Self::One(_) | Self::Several => Self::Several,
        };
    }

    fn get(self) -> Option<T> {
        match self {
            Self::One(value) => Some(value),
            Self::Unknown | Self::Several => None,
        }
    }
}

/// Where a device's attempts went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceDestinations {
    /// Distinct addresses.
    pub addresses: usize,
    /// Distinct groups (/24, /48).
    pub groups: usize,
    /// Whether there are more, for which there was no room.
    pub is_lower_bound: bool,
}

impl Device {
    fn new(identity: &Identity<'_>, time: Timestamp, state: FixedState) -> Self {
        Self {
            key: identity.key,
            basis: identity.basis,
            hostname: identity.hostname.map(str::to_owned),
            addresses: Vec::new(),
            lease_mac: identity.mac,
            syns: 0,
            attempts: 0,
            first_seen: time,
            last_seen: time,
            peak_per_minute: 0,
            findings: Vec::new(),
            mac: Seldom::Unknown,
            interface: Seldom::Unknown,
            minute: (i64::MIN, 0),
            destinations: Destinations::new(state),
            uncounted_destinations: false,
            detectors: Detectors::default(),
        }
    }

    /// Its MAC: as its lease has it, else the source of its frames, where all that have one agree.
    pub fn mac(&self) -> Option<Mac> {
        self.lease_mac.or(self.mac.get())
    }

    /// Interface that its packets came in by, where all agree.
    pub fn interface(&self) -> Option<Interface> {
        self.interface.get()
    }

    /// What the findings amount to.
    pub fn verdict(&self) -> Verdict {
        self.findings
            .iter()
            .map(|finding| match finding.detector {
                Detector::Burst => Verdict::Infected,
                Detector::Volume => Verdict::Suspicious,
            })
            .max()
            .unwrap_or(Verdict::Normal)
    }

    /// Where its attempts went, in numbers.
    pub fn destinations(&self) -> DeviceDestinations {
        DeviceDestinations {
            addresses: self.destinations.len(),
            groups: self.destinations.groups(),
            is_lower_bound: self.uncounted_destinations,
        }
    }

    /// The `count` destinations tried most often, and how often; those tried equally often in the
    /// order of their addresses.
    pub fn top_destinations(&self, count: usize) -> Vec<(IpAddr, u64)> {
        // The worst of those kept so far is on top.
        let mut kept: BinaryHeap<(Reverse<u64>, IpAddr)> = BinaryHeap::new();
        for (address, attempts) in self.destinations.iter() {
            let entry = (Reverse(attempts), address);
            if kept.len() < count {
                kept.push(entry);
            } else if kept.peek().is_some_and(|worst| entry < *worst) {
                kept.pop();
                kept.push(entry);
            }
        }
        let sorted = kept.into_sorted_vec().into_iter();
        sorted
            .map(|(Reverse(attempts), address)| (address, attempts))
            .collect()
    }

    /// Counts an observation; answers whether it is an attempt of its own.
    pub(super) fn count(&mut self, observation: &Observation, seen: Seen) -> bool {
        self.syns += seen.packets;
        self.first_seen = self.first_seen.min(observation.time);
        self.last_seen = self.last_seen.max(observation.time);
        self.note_address(observation.tuple.source);
        if let Some(mac) = observation.mac {
            self.mac.note(mac);
        }
        if !observation.interface.is_empty() {
            self.interface.note(observation.interface);
        }
        let is_attempt = seen.opens_attempt && !(seen.is_orphan && self.attempts > 0);
        if is_attempt {
            self.attempts += 1;
            self.count_minute(observation.time);
        }
        is_attempt
    }

    fn note_address(&mut self, address: IpAddr) {
        if self.addresses.last() == Some(&address) {
            return;
        }
        self.addresses.retain(|known| *known != address);
        if self.addresses.len() == MAX_ADDRESSES {
            self.addresses.remove(0);
        }
        self.addresses.push(address);
    }

    fn count_minute(&mut self, time: Timestamp) {
        let minute = time.as_seconds().div_euclid(60);
        if self.minute.0 != minute {
            self.minute = (minute, 0);
        }
        self.minute.1 += 1;
        self.peak_per_minute = self.peak_per_minute.max(self.minute.1);
    }
}

/// All devices, in the order in which they came.
#[derive(Debug)]
pub(super) struct Devices {
    index: HashMap<DeviceKey, usize, FixedState>,
    places: Vec<(DeviceId, Device)>,
    limits: Limits,
    state: FixedState,
    next_id: u32,
    hand: usize,
    destinations: usize,
    evicted: u64,
}

impl Devices {
    pub(super) fn new(limits: Limits, state: FixedState) -> Self {
        Self {
            index: HashMap::with_hasher(state.clone()),
            places: Vec::new(),
            limits,
            state,
            next_id: 0,
            hand: 0,
            destinations: 0,
            evicted: 0,
        }
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (DeviceId, &Device)> {
        self.places.iter().map(|(id, device)| (*id, device))
    }

    /// The device called `id`; ids are given in order, and a place is given again.
    pub(super) fn get(&self, id: DeviceId) -> Option<&Device> {
        let place = match self.places.get(id.0 as usize) {
            Some((known, device)) if *known == id => return Some(device),
            _ => self.places.iter().position(|(known, _)| *known == id)?,
        };
        Some(&self.places[place].1)
    }

    /// The id of the device at `place`.
    pub(super) fn id(&self, place: usize) -> DeviceId {
        self.places[place].0
    }

    /// The device of that identity, new where it is not known; and its place.
    pub(super) fn get_or_insert(
        &mut self,
        identity: &Identity<'_>,
        time: Timestamp,
    ) -> (usize, &mut Device) {
        let place = match self.index.get(&identity.key) {
            Some(&place) => place,
            None => self.insert(identity, time),
        };
        (place, &mut self.places[place].1)
    }

    fn insert(&mut self, identity: &Identity<'_>, time: Timestamp) -> usize {
        let device = (
            DeviceId(self.next_id),
            Device::new(identity, time, self.state.clone()),
        );
        self.next_id = self.next_id.wrapping_add(1);
        let place = if self.places.len() < self.limits.devices {
            self.places.push(device);
            self.places.len() - 1
        } else {
            let place = self.least_missed();
            let (_, forgotten) = std::mem::replace(&mut self.places[place], device);
            self.index.remove(&forgotten.key);
            self.destinations -= forgotten.destinations.len();
            self.evicted += 1;
            place
        };
        self.index.insert(identity.key, place);
        place
    }

    /// Of the next devices in turn, the one that says least: no finding, few attempts, long ago.
    fn least_missed(&mut self) -> usize {
        let count = self.places.len();
        let start = self.hand;
        self.hand = (self.hand + EVICTION_SAMPLE) % count;
        (0..EVICTION_SAMPLE.min(count))
            .map(|step| (start + step) % count)
            .min_by_key(|&place| {
                let device = &self.places[place].1;
                (device.findings.len(), device.attempts, device.last_seen)
            })
            .unwrap_or(start)
    }

    /// Counts an attempt of the device at `place` to `destination`.
    pub(super) fn note_destination(&mut self, place: usize, destination: IpAddr) {
        let has_room = self.destinations < self.limits.destinations;
        let device = &mut self.places[place].1;
        if device.destinations.note(destination, has_room) {
            self.destinations += usize::from(has_room);
            device.uncounted_destinations |= !has_room;
        }
    }

    /// Shows the detectors the last attempt of the device at `place`; answers what they say.
    pub(super) fn judge(
        &mut self,
        place: usize,
        observation: &Observation,
        settings: &Settings,
    ) -> Vec<(DeviceId, Finding)> {
        let (id, device) = &mut self.places[place];
        let before = device.findings.len();
        device.detectors.observe(
            observation.time,
            observation.tuple.destination,
            device.attempts,
            settings,
            &mut device.findings,
        );
        device.findings[before..]
            .iter()
            .map(|finding| (*id, *finding))
            .collect()
    }
}
