//! The devices and what each of them did.

mod allowed;
mod ttls;

use std::net::IpAddr;
use std::time::Duration;

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use super::DeviceState;
use super::OutcomeCounts;
use super::attempts::{Change, Seen};
use super::destinations::Destinations;
use super::past::PastDevice;
use super::roles::{Role, RoleEvidence};
use crate::attribution::identity::Identity;
use crate::detection::{Contact, Detectors, Smarthosts};
use crate::model::{
    DeviceBasis, DeviceId, DeviceKey, Finding, Group, Interface, Mac, Observation, Pace, Timestamp,
    Verdict,
};
use crate::settings::{Limits, Settings};
use allowed::Allowance;
use ttls::Ttls;

/// Addresses that are kept of a device.
const MAX_ADDRESSES: usize = 16;
/// Ports that are counted apart for a device; the firewall's rules take no more.
const MAX_PORTS: usize = 15;
/// Devices looked at to find the one to forget.
const EVICTION_SAMPLE: usize = 16;

/// What is known about one device.
#[derive(Debug)]
pub struct Device {
    /// By what it is told from others.
    pub key: DeviceKey,
    /// On what grounds it is named.
    pub basis: DeviceBasis,
    /// Its name as it gave it to the DHCP server, else as it is configured by hand, else as reverse DNS
    /// has it: hostile text.
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
    /// Attempts whose handshake the originator completed, which a forged source cannot.
    pub completed: u64,
    /// Bytes that it sent and received in its connections, where anybody told.
    pub bytes: Option<(u64, u64)>,
    /// Questions for somebody's mail servers (MX) that it asked, where answers of the DNS are seen.
    pub mail_lookups: u64,
    outcomes: OutcomeCounts,
    lease_mac: Option<Mac>,
    /// Who made the card with this MAC, where that was asked.
    vendor: Option<(Mac, Option<String>)>,
    mac: Seldom<Mac>,
    interface: Seldom<Interface>,
    minute: (i64, u64),
    destinations: Destinations,
    uncounted_destinations: bool,
    detectors: Detectors,
    ttls: Ttls,
    names_version: u32,
    /// Attempts by watched port, each port once.
    ports: Vec<(u16, u64)>,
    allowance: Allowance,
    role: Option<RoleEvidence>,
}

/// When, where from and on what grounds a device was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sighting {
    pub(super) time: Timestamp,
    pub(super) address: IpAddr,
    pub(super) basis: DeviceBasis,
    /// Of the names that are known now.
    pub(super) names_version: u32,
    /// How far the time of day is ahead of `time`, in microseconds.
    pub(super) wall_offset: i64,
}

/// On what grounds a device is named, and its name.
pub(super) type Details<'a> = (DeviceBasis, Option<&'a str>);

/// What counting an observation told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    /// Whether it is an attempt of its own.
    pub(super) is_attempt: bool,
    /// Whether several machines showed behind the device's MAC, for the first time.
    pub(super) is_newly_shared: bool,
}

/// A value that is told only while all records agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seldom<T> {
    Unknown,
    One(T),
    Several,
}

impl<T: Copy + PartialEq> Seldom<T> {
    /// Notes a record's value; answers whether something else is told from now on.
    fn note(&mut self, value: T) -> bool {
        let (now, is_news) = match *self {
            Self::Unknown => (Self::One(value), true),
            Self::One(known) => (Self::Several, known != value),
            Self::Several => (Self::Several, false),
        };
        if is_news {
            *self = now;
        }
        is_news
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
    fn new(
        identity: &Identity,
        (basis, hostname): Details<'_>,
        from: &Sighting,
        state: FixedState,
    ) -> Self {
        let time = from.time;
        Self {
            key: identity.key,
            basis,
            hostname: hostname.map(str::to_owned),
            addresses: Vec::new(),
            lease_mac: identity.mac,
            vendor: None,
            syns: 0,
            attempts: 0,
            first_seen: time,
            last_seen: time,
            peak_per_minute: 0,
            findings: Vec::new(),
            completed: 0,
            bytes: None,
            mail_lookups: 0,
            outcomes: OutcomeCounts::default(),
            mac: Seldom::Unknown,
            interface: Seldom::Unknown,
            minute: (i64::MIN, 0),
            destinations: Destinations::new(state),
            uncounted_destinations: false,
            detectors: Detectors::default(),
            ttls: Ttls::default(),
            names_version: from.names_version,
            ports: Vec::new(),
            allowance: Allowance::default(),
            role: None,
        }
    }

    /// Its role, where it receives mail from outside.
    pub fn role(&self) -> Option<Role> {
        self.role.as_ref()?.role(self.last_seen)
    }

    /// Its attempts by watched port, in the order of the ports.
    pub fn ports(&self) -> Vec<(u16, u64)> {
        let mut ports = self.ports.clone();
        ports.sort_unstable();
        ports
    }

    /// Whether several machines stand behind its MAC, as the TTLs of its packets tell: a NAT, or an
    /// access point that is one.
    pub fn is_shared(&self) -> bool {
        self.ttls.is_shared
    }

    /// The MAC of the router that it is behind.
    pub fn router(&self) -> Option<Mac> {
        match self.basis {
            DeviceBasis::Router(mac) => Some(mac),
            _ => None,
        }
    }

    /// Its MAC: as its lease has it, else the source of its frames, where all that have one agree.
    pub fn mac(&self) -> Option<Mac> {
        self.lease_mac.or(self.mac.get())
    }

    /// Who made its network card, in a few words.
    pub fn vendor(&self) -> Option<&str> {
        let (mac, name) = self.vendor.as_ref()?;
        (self.mac() == Some(*mac)).then_some(name.as_deref()?)
    }

    /// Whether it was asked who made the card with `mac`.
    pub(super) fn knows_vendor_of(&self, mac: Mac) -> bool {
        self.vendor.as_ref().is_some_and(|(known, _)| *known == mac)
    }

    /// Interface that its packets came in by, where all agree.
    pub fn interface(&self) -> Option<Interface> {
        self.interface.get()
    }

    /// What the findings amount to, unless it is allowed.
    pub fn verdict(&self) -> Verdict {
        if self.allowance.is_allowed {
            Verdict::Allowed
        } else {
            Verdict::of(&self.findings)
        }
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
        self.destinations.top(count)
    }

    /// Bytes that the detectors keep of it.
    pub fn detector_bytes(&self) -> usize {
        self.detectors.bytes()
    }

    /// How its attempts ended.
    pub fn outcomes(&self) -> OutcomeCounts {
        self.outcomes.of_all(self.attempts)
    }

    /// More has become known of one of its attempts; `bytes` of the connection, told for the first time.
    pub(super) fn note_outcome(&mut self, change: &Change, bytes: Option<(u64, u64)>) {
        self.outcomes.change(change.before, change.after);
        self.completed += u64::from(change.is_completed);
        if let Some((sent, received)) = bytes {
            let (all_sent, all_received) = self.bytes.unwrap_or_default();
            let sum = |a: u64, b| a.saturating_add(b);
            self.bytes = Some((sum(all_sent, sent), sum(all_received, received)));
        }
    }

    /// It asked for somebody's mail servers; answers what the detectors say.
    fn note_lookup(&mut self, time: Timestamp, settings: &Settings) {
        self.mail_lookups += 1;
        self.detectors
            .lookup(time, self.attempts, settings, &mut self.findings);
    }

    /// What is to be remembered of it, as far as it knows.
    pub(super) fn state(&self) -> DeviceState {
        DeviceState {
            key: self.key,
            findings: self.findings.clone(),
            detectors: self.detectors.clone(),
            untold: self.findings.len().saturating_sub(self.allowance.told),
            uses: None,
            role: None,
        }
    }

    /// Goes on with what was known of it in an earlier run.
    fn resume(&mut self, state: DeviceState, from: &Sighting) {
        let state = state.moved(from.wall_offset.saturating_neg());
        self.allowance.told = state.findings.len().saturating_sub(state.untold);
        self.findings = state.findings;
        self.detectors = state.detectors;
        self.detectors.forget_after(from.time);
    }

    /// Whether its latest attempt was the first that it made to `group`, as far as it remembers: in that
    /// second.
    pub fn is_new(&self, group: Group) -> bool {
        self.detectors.used_for(group) == Some(Duration::ZERO)
    }

    /// The scores of `novelty` at `now`, a time that inputs bear, each with the threshold at which it speaks.
    pub fn scores(
        &self,
        settings: &Settings,
        now: Timestamp,
    ) -> [(Pace, f64, f64); Pace::ALL.len()] {
        self.detectors.scores(settings, now)
    }

    /// Knows `group`, which it used last at that time.
    pub(super) fn know(&mut self, group: Group, last: Timestamp) {
        self.detectors.know(group, last);
    }

    /// Is what an earlier run knew it as.
    pub(super) fn be(&mut self, past: &PastDevice) {
        if self.addresses != past.addresses {
            self.addresses.clone_from(&past.addresses);
            self.allowance.is_renamed = true;
        }
        self.ttls.is_shared = past.is_shared;
    }

    /// How much is lost with it.
    fn says(&self) -> (usize, u64, Timestamp) {
        (self.findings.len(), self.attempts, self.last_seen)
    }

    /// Takes what has become known since: asked where names have changed, or the device has another
    /// address than before.
    fn learn<'a>(&mut self, from: &Sighting, details: impl Fn() -> Details<'a>) {
        let is_asked = from.names_version != self.names_version
            || (matches!(self.key, DeviceKey::Station(..))
                && self.addresses.last() != Some(&from.address));
        let mut basis = from.basis;
        if is_asked {
            self.names_version = from.names_version;
            let (detailed, name) = details();
            basis = detailed;
            if let Some(name) = name
                && self.hostname.as_deref() != Some(name)
            {
                self.hostname = Some(name.to_owned());
                self.allowance.is_renamed = true;
            }
        }
        if matches!(self.key, DeviceKey::Station(..)) {
            self.basis = self.basis.max(basis);
        }
    }

    /// Counts an observation.
    pub(super) fn count(
        &mut self,
        observation: &Observation,
        seen: Seen,
        identity: &Identity,
    ) -> Counted {
        self.syns += seen.packets;
        self.first_seen = self.first_seen.min(observation.time);
        self.last_seen = self.last_seen.max(observation.time);
        self.note_address(observation.tuple.source);
        if let Some(mac) = observation.mac
            && identity.has_own_frames()
        {
            self.allowance.is_renamed |= self.mac.note(mac);
        }
        let is_newly_shared = match (self.key, observation.ttl) {
            (DeviceKey::Station(..), Some(ttl)) => self.ttls.note(observation.tuple.source, ttl),
            _ => false,
        };
        if !observation.interface.is_empty() {
            self.interface.note(observation.interface);
        }
        // The packet that opens it may have been counted for whoever held the address when another rule
        // reported it.
        let has_packet = self.syns > self.attempts;
        let is_attempt = seen.opens_attempt && has_packet && !(seen.is_orphan && self.attempts > 0);
        if is_attempt {
            self.attempts += 1;
            self.count_port(observation.tuple.destination_port);
            self.count_minute(observation.time);
        }
        Counted {
            is_attempt,
            is_newly_shared,
        }
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
        self.allowance.is_renamed = true;
    }

    fn count_port(&mut self, port: u16) {
        if let Some((_, attempts)) = self.ports.iter_mut().find(|(known, _)| *known == port) {
            *attempts += 1;
        } else if self.ports.len() < MAX_PORTS {
            self.ports.reserve_exact(1);
            self.ports.push((port, 1));
        }
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

/// Whether nobody but the packets themselves says that there is such a device. Offline there never is
/// anybody who could, so there all are alike.
fn is_loose(device: &Device) -> bool {
    match device.key {
        DeviceKey::Mac(_) => false,
        DeviceKey::Address(_) => matches!(device.basis, DeviceBasis::Router(_)),
        DeviceKey::Station(..) => !device.basis.is_confirmed(),
        DeviceKey::Host(..) | DeviceKey::Prefix(_) => true,
    }
}

/// All devices, in the order in which they came.
///
/// Live, what nobody confirms (an address behind a router, a MAC that no neighbour entry knows) can be
/// forged without end, so it may fill no more than its share, and makes room for the rest.
#[derive(Debug)]
pub(super) struct Devices {
    index: HashMap<DeviceKey, usize, FixedState>,
    places: Vec<(DeviceId, Device)>,
    /// What is remembered of devices that have not been seen in this run.
    remembered: HashMap<DeviceKey, DeviceState, FixedState>,
    /// Places of devices that were not confirmed when they came, each once.
    loose: Vec<usize>,
    loose_hand: usize,
    limits: Limits,
    state: FixedState,
    hand: usize,
    destinations: usize,
    evicted: u64,
    smarthosts: Smarthosts,
}

impl Devices {
    pub(super) fn new(limits: Limits, state: FixedState) -> Self {
        Self {
            index: HashMap::with_hasher(state.clone()),
            places: Vec::new(),
            remembered: HashMap::with_hasher(state.clone()),
            loose: Vec::new(),
            loose_hand: 0,
            limits,
            smarthosts: Smarthosts::new(state.clone()),
            state,
            hand: 0,
            destinations: 0,
            evicted: 0,
        }
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Remembers what earlier runs knew, as far as there is room.
    pub(super) fn remember(&mut self, states: Vec<DeviceState>) {
        for state in states {
            if self.remembered.len() >= self.limits.devices {
                return;
            }
            if !self.index.contains_key(&state.key) {
                self.remembered.insert(state.key, state);
            }
        }
    }

    /// Keeps at most that much from now on; `limits.devices` is as before.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (DeviceId, &Device)> {
        self.places.iter().map(|(id, device)| (*id, device))
    }

    /// The device called `id`: ids that are given at one place are [`Limits::devices`] apart.
    pub(super) fn get(&self, id: DeviceId) -> Option<&Device> {
        let (known, device) = self.places.get(self.place(id))?;
        (*known == id).then_some(device)
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, id: DeviceId) -> Option<&mut Device> {
        let place = self.place(id);
        let (known, device) = self.places.get_mut(place)?;
        (*known == id).then_some(device)
    }

    fn place(&self, id: DeviceId) -> usize {
        id.0 as usize % self.limits.devices.max(1)
    }

    /// The place of the device with `key`.
    pub(super) fn find(&self, key: &DeviceKey) -> Option<usize> {
        self.index.get(key).copied()
    }

    /// Whether there is a device with `key`.
    pub(super) fn knows(&self, key: &DeviceKey) -> bool {
        self.index.contains_key(key)
    }

    /// Names the devices without a name that were seen with `address` last; `settings` say whom they
    /// allow by that name.
    pub(super) fn name(&mut self, address: IpAddr, name: &str, settings: &Settings) {
        for (_, device) in &mut self.places {
            if device.hostname.is_none() && device.addresses.last() == Some(&address) {
                device.hostname = Some(name.to_owned());
                device.ask_allowance(settings);
            }
        }
    }

    /// Notes who made the card with `mac`, which is the device's with `key`.
    pub(super) fn note_vendor(&mut self, key: &DeviceKey, mac: Mac, name: Option<String>) {
        if let Some(&place) = self.index.get(key) {
            self.places[place].1.vendor = Some((mac, name));
        }
    }

    /// The place of the device with `identity`, new where it is not known. `details` answers what else
    /// is known of it.
    pub(super) fn get_or_insert<'a>(
        &mut self,
        identity: &Identity,
        from: &Sighting,
        details: impl Fn() -> Details<'a>,
    ) -> usize {
        if let Some(&place) = self.index.get(&identity.key) {
            self.places[place].1.learn(from, details);
            return place;
        }
        let mut device = Device::new(identity, details(), from, self.state.clone());
        if let Some(state) = self.remembered.remove(&identity.key) {
            device.resume(state, from);
        }
        self.insert(device)
    }

    /// The id that is given at `place` after the one that it has.
    fn next_id(&self, place: usize) -> DeviceId {
        let step = u32::try_from(self.limits.devices).ok();
        let next = step.and_then(|step| self.places[place].0.0.checked_add(step));
        next.map_or(id_at(place), DeviceId)
    }

    /// The device at `place`, and its id.
    pub(super) fn at(&mut self, place: usize) -> (DeviceId, &mut Device) {
        let (id, device) = &mut self.places[place];
        (*id, device)
    }

    fn insert(&mut self, device: Device) -> usize {
        let key = device.key;
        let is_loose = is_loose(&device);
        let is_full = self.places.len() >= self.limits.devices;
        let is_share_full = is_loose && self.loose.len() >= self.limits.devices * 3 / 4;
        let freed = if is_full || is_share_full {
            self.least_missed_loose()
        } else {
            None
        };
        let place = match freed {
            Some(place) => place,
            None if is_full => self.least_missed(),
            None => {
                let place = self.places.len();
                self.places.push((id_at(place), device));
                self.index.insert(key, place);
                if is_loose {
                    self.loose.push(place);
                }
                return place;
            }
        };
        let id = self.next_id(place);
        let (_, forgotten) = std::mem::replace(&mut self.places[place], (id, device));
        self.index.remove(&forgotten.key);
        self.destinations -= forgotten.destinations.len();
        self.evicted += 1;
        self.index.insert(key, place);
        if is_loose {
            self.loose.push(place);
        }
        place
    }

    /// The same among those that nobody confirms; it is one of them no longer. Who completed a handshake was
    /// answered, which nobody who is made up is, whatever is found about him.
    fn least_missed_loose(&mut self) -> Option<usize> {
        let mut least: Option<(usize, _)> = None;
        for _ in 0..EVICTION_SAMPLE {
            if self.loose.is_empty() {
                break;
            }
            self.loose_hand = (self.loose_hand + 1) % self.loose.len();
            let device = &self.places[self.loose[self.loose_hand]].1;
            if !is_loose(device) {
                self.loose.swap_remove(self.loose_hand);
                least = least.filter(|(at, _)| *at < self.loose.len());
                continue;
            }
            let says = (device.completed > 0, device.says());
            if least.as_ref().is_none_or(|(_, known)| says < *known) {
                least = Some((self.loose_hand, says));
            }
        }
        let (at, _) = least?;
        Some(self.loose.swap_remove(at))
    }

    /// Of the next devices in turn, the one that says least: no finding, few attempts, long ago.
    fn least_missed(&mut self) -> usize {
        let count = self.places.len();
        let start = self.hand;
        self.hand = (self.hand + EVICTION_SAMPLE) % count;
        (0..EVICTION_SAMPLE.min(count))
            .map(|step| (start + step) % count)
            .min_by_key(|&place| self.places[place].1.says())
            .unwrap_or(start)
    }

    /// Counts an attempt of the device at `place` to `destination`.
    pub(super) fn note_destination(&mut self, place: usize, destination: IpAddr) {
        let has_room = self.destinations < self.limits.destinations;
        let device = &mut self.places[place].1;
        if device.destinations.note(destination, 1, has_room) {
            self.destinations += usize::from(has_room);
            device.uncounted_destinations |= !has_room;
        }
    }

    /// Shows the detectors the last attempt of the device at `place`, whose destination is of the first of
    /// `groups` and the same service as the others; answers what they say.
    pub(super) fn judge(
        &mut self,
        place: usize,
        observation: &Observation,
        groups: &[Group],
        settings: &Settings,
    ) -> Vec<(DeviceId, Finding)> {
        let (id, device) = &mut self.places[place];
        let contact = Contact {
            time: observation.time,
            number: device.attempts,
            groups,
            is_smarthost: self.smarthosts.knows(groups),
            is_against_policy: !settings.mail_servers.is_empty() && !device.allowance.is_allowed,
        };
        device
            .detectors
            .observe(&contact, settings, &mut device.findings);
        if device.is_clean() {
            self.smarthosts.note(device.key, groups, observation.time);
            device.allowance.may_vouch = true;
        }
        let told = device.tell().into_iter().map(|finding| (*id, finding));
        let told = told.collect();
        self.doubt(place, observation.time);
        told
    }

    /// The device at `place` asked for somebody's mail servers at `time`; answers what the detectors say.
    pub(super) fn judge_lookup(
        &mut self,
        place: usize,
        time: Timestamp,
        settings: &Settings,
    ) -> Vec<(DeviceId, Finding)> {
        let (id, device) = &mut self.places[place];
        device.note_lookup(time, settings);
        let told = device.tell().into_iter().map(|finding| (*id, finding));
        let told = told.collect();
        self.doubt(place, time);
        told
    }

    /// Has the device at `place` vouch for no relay, where it is not clean.
    fn doubt(&mut self, place: usize, time: Timestamp) {
        let device = &mut self.places[place].1;
        if !device.is_clean() && std::mem::take(&mut device.allowance.may_vouch) {
            self.smarthosts.forget(&device.key, time);
        }
    }
}

/// The first id that is given at `place`.
fn id_at(place: usize) -> DeviceId {
    DeviceId(u32::try_from(place).unwrap_or(u32::MAX))
}
