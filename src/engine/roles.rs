//! Who receives mail from outside: a mail server, as far as traffic tells.
//!
//! Evidence is handshakes that outside hosts completed with the device's port 25, 465 or 587, from
//! several networks on several days. A scan from the Internet proves nothing: it leaves handshakes
//! half open, or comes on one day, or from one network. Who has several networks outside connect to
//! an infected machine that listens gets it a role all the same, so the role alone proves no
//! innocence: it is evidence to show, and counts for more where it was whole before anything was found.
//!
//! Days are told by elapsed time: the next one begins with the first handshake that comes 24 h after the
//! one before began, so that midnight makes no two of one, nor a clock that is set.

use std::net::IpAddr;

use foldhash::quality::FixedState;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::{Engine, Facts};
use crate::model::{
    DeviceKey, Group, MICROS_PER_SECOND, Mac, Response, ResponseKind, Timestamp, Tuple,
};
use crate::settings::{Named, Settings};

/// Ports at which a server receives mail.
const MAIL_PORTS: [u16; 3] = [25, 465, 587];
/// Outside networks that make a role ...
const LEAST_NETWORKS: usize = 3;
/// ... on so many days.
const LEAST_DAYS: u32 = 2;
/// Devices of which evidence is kept: it takes a machine that answers.
const MAX_DEVICES: usize = 1024;
/// A day, in microseconds.
const DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// What is older says nothing about today.
const LATELY: i64 = 30 * DAY;

/// What is known of a device that receives mail. Times are those of whoever keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleEvidence {
    /// Outside networks that completed a handshake, at most 8.
    networks: Vec<Group>,
    days: u32,
    /// When the day began that was counted last.
    day: Timestamp,
    last: Timestamp,
    /// Whether it was whole before anything was found about the device.
    is_early: bool,
}

/// A mail server's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// Outside networks that mail came from; 8 stands for as many or more.
    pub networks: usize,
    /// Days on which it came.
    pub days: u32,
    /// Whether that was known before anything was found about the device.
    pub is_early: bool,
}

impl Role {
    /// So many networks stand for as many or more.
    pub const MANY_NETWORKS: usize = 8;
}

impl RoleEvidence {
    fn new(time: Timestamp) -> Self {
        Self {
            networks: Vec::new(),
            days: 1,
            day: time,
            last: time,
            is_early: false,
        }
    }

    /// A host in `network` completed a handshake at `time`. `is_clean`: nothing was found about the
    /// device.
    fn note(&mut self, network: Group, time: Timestamp, is_clean: bool) {
        if time.micros_since(self.last) > LATELY {
            *self = Self::new(time);
        }
        self.last = self.last.max(time);
        if time.micros_since(self.day) >= DAY {
            self.day = time;
            self.days = self.days.saturating_add(1);
        }
        if self.networks.len() < Role::MANY_NETWORKS && !self.networks.contains(&network) {
            self.networks.push(network);
        }
        self.is_early |= is_clean && self.is_whole();
    }

    fn is_whole(&self) -> bool {
        self.networks.len() >= LEAST_NETWORKS && self.days >= LEAST_DAYS
    }

    /// The role that it makes at `now`, if any.
    pub fn role(&self, now: Timestamp) -> Option<Role> {
        let is_lately = now.micros_since(self.last) <= LATELY;
        (self.is_whole() && is_lately).then_some(Role {
            networks: self.networks.len(),
            days: self.days,
            is_early: self.is_early,
        })
    }

    /// The same with its times moved by `micros`.
    #[must_use]
    pub(super) fn moved(mut self, micros: i64) -> Self {
        self.day = self.day.plus_micros(micros);
        self.last = self.last.plus_micros(micros);
        self
    }

    /// The same without anything of after `now`.
    fn until(mut self, now: Timestamp) -> Self {
        self.networks.truncate(Role::MANY_NETWORKS);
        self.last = self.last.min(now);
        self.day = self.day.min(now);
        self
    }
}

/// The evidence about all devices, those that never sent anything included.
#[derive(Debug)]
pub(super) struct Roles {
    devices: HashMap<DeviceKey, RoleEvidence, FixedState>,
}

impl Roles {
    pub(super) fn new(state: FixedState) -> Self {
        Self {
            devices: HashMap::with_hasher(state),
        }
    }

    pub(super) fn of(&self, device: &DeviceKey) -> Option<&RoleEvidence> {
        self.devices.get(device)
    }

    /// Goes on with what was known of `device` before `now`.
    pub(super) fn remember(&mut self, device: DeviceKey, evidence: RoleEvidence, now: Timestamp) {
        if self.devices.len() < MAX_DEVICES {
            let evidence = evidence.until(now);
            self.devices.entry(device).or_insert(evidence);
        }
    }

    fn note(&mut self, device: DeviceKey, network: Group, time: Timestamp, is_clean: bool) {
        if self.devices.len() >= MAX_DEVICES && !self.devices.contains_key(&device) {
            let unproven = self.devices.iter().filter(|(_, it)| !it.is_whole());
            let oldest = unproven.min_by_key(|(key, it)| (it.last, **key));
            let Some((&oldest, _)) = oldest else {
                return;
            };
            self.devices.remove(&oldest);
        }
        let new = || RoleEvidence::new(time);
        let evidence = self.devices.entry(device).or_insert_with(new);
        evidence.note(network, time, is_clean);
    }
}

impl Engine {
    /// Takes what was told of a connection that came from outside: where its originator completed the
    /// handshake a server answered.
    pub(super) fn note_role(&mut self, tuple: &Tuple, response: &Response) {
        let is_mail = MAIL_PORTS.contains(&tuple.destination_port);
        if response.kind != ResponseKind::Established || !is_mail {
            return;
        }
        // Whoever answered: where it is redirected, not the one it was sent to.
        let server = response
            .outside
            .map_or(tuple.destination, |it| it.destination);
        let (seen, time) = (response.time, self.wall(response.time));
        let Some(key) = self.who.holder(server, seen, time, &self.settings) else {
            return;
        };
        let is_clean = !self.devices.has_findings(&key);
        self.roles
            .note(key, Group::of(tuple.source), response.time, is_clean);
        let evidence = self.roles.of(&key).cloned();
        self.devices.set_role(&key, evidence);
    }
}

/// A device with a mail server's role: what a proposal to allow it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Receiver {
    /// By what it is told from others.
    pub id: String,
    /// Its addresses, the latest last.
    pub addresses: Vec<IpAddr>,
    /// Its MAC, where one is known.
    pub mac: Option<Mac>,
    /// Its name as it gave it: hostile text.
    pub hostname: Option<String>,
    /// Its role.
    pub role: Role,
}

impl Receiver {
    /// How to name it in a list of those that are allowed: by its address where it has but one, else by
    /// its MAC, which stands for all of them; none where it has neither.
    pub fn named(&self) -> Option<Named> {
        let latest = self.addresses.last();
        match self.mac {
            Some(mac) if self.addresses.len() != 1 => Some(Named::Mac(mac)),
            _ => latest.map(|address| Named::Network((*address).into())),
        }
    }

    /// Whether `settings` allow it already.
    pub fn is_allowed(&self, settings: &Settings) -> bool {
        let addresses = present(&self.addresses);
        settings.allows(&addresses, self.mac, self.hostname.as_deref())
    }
}

impl Facts {
    /// It, where it has a mail server's role.
    pub fn receiver(&self) -> Option<Receiver> {
        Some(Receiver {
            id: self.id.clone(),
            addresses: self.addresses.clone(),
            mac: self.mac,
            hostname: self.hostname.clone(),
            role: self.role?,
        })
    }
}

/// Of the addresses that a device was seen with, the latest last, those that it has now as far as can be
/// told: the latest of each family.
pub(super) fn present(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let latest = |is_v4| {
        let mut of_family = addresses
            .iter()
            .rev()
            .filter(move |it| it.is_ipv4() == is_v4);
        of_family.next().copied()
    };
    [latest(true), latest(false)]
        .into_iter()
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_seconds(hours * 3600)
    }

    fn network(number: u8) -> Group {
        Group::of([203, 0, number, 9].into())
    }

    /// Handshakes of (hour, network); answers the role that they make.
    fn role(handshakes: &[(i64, u8)], is_clean: bool) -> Option<Role> {
        let mut evidence = RoleEvidence::new(at(handshakes[0].0));
        for &(hour, number) in handshakes {
            evidence.note(network(number), at(hour), is_clean);
        }
        evidence.role(at(handshakes[handshakes.len() - 1].0))
    }

    #[test]
    fn three_networks_on_two_days_and_no_less() {
        let whole = Role {
            networks: 3,
            days: 2,
            is_early: true,
        };
        assert_eq!(role(&[(0, 1), (1, 2), (24, 3)], true), Some(whole));
        // One day, whatever midnight says; two networks, however often.
        assert_eq!(role(&[(0, 1), (1, 2), (23, 3)], true), None);
        let two: Vec<(i64, u8)> = (0..50)
            .flat_map(|day| [(day * 48, 1), (day * 48 + 24, 2)])
            .collect();
        assert_eq!(role(&two, true), None);
    }

    #[test]
    fn what_comes_after_a_finding_is_not_early() {
        let late = role(&[(0, 1), (1, 2), (24, 3)], false).unwrap();
        assert!(!late.is_early);
    }

    #[test]
    fn a_month_of_silence_ends_it() {
        let month = 30 * 24;
        assert_eq!(
            role(&[(0, 1), (1, 2), (24, 3), (25 + month, 4)], true),
            None
        );
        let mut evidence = RoleEvidence::new(at(0));
        for (hour, number) in [(0, 1), (1, 2), (24, 3)] {
            evidence.note(network(number), at(hour), true);
        }
        assert!(evidence.role(at(24 + month)).is_some());
        assert!(evidence.role(at(25 + month)).is_none());
    }

    #[test]
    fn it_is_bounded() {
        let key = |number: u32| DeviceKey::Address(std::net::Ipv4Addr::from(number).into());
        let mut roles = Roles::new(FixedState::with_seed(1));
        for (hour, number) in [(0, 1), (1, 2), (24, 3)] {
            roles.note(key(0), network(number), at(hour), true);
        }
        for number in 1..=5000 {
            roles.note(key(number), network(1), at(24 + i64::from(number)), true);
        }
        assert_eq!(roles.devices.len(), MAX_DEVICES);
        // What is proven stays, and of the rest the latest.
        assert!(roles.of(&key(0)).is_some() && roles.of(&key(5000)).is_some());
        let mut evidence = RoleEvidence::new(at(0));
        for number in 0..100 {
            evidence.note(network(number), at(0), true);
        }
        assert_eq!(evidence.networks.len(), Role::MANY_NETWORKS);
    }

    #[test]
    fn it_is_proposed_by_one_address_or_by_mac() {
        let v4: IpAddr = [10, 0, 0, 7].into();
        let v6: IpAddr = "2001:db8::7".parse().unwrap();
        let mac = Mac([2, 0, 0, 0, 0, 7]);
        let named = |addresses: &[IpAddr], mac| {
            let role = role(&[(0, 1), (1, 2), (24, 3)], true).unwrap();
            let receiver = Receiver {
                id: String::new(),
                addresses: addresses.to_vec(),
                mac,
                hostname: None,
                role,
            };
            receiver.named().map(|it| it.to_string())
        };
        assert_eq!(named(&[v4], Some(mac)).as_deref(), Some("10.0.0.7"));
        assert_eq!(
            named(&[v4, v6], Some(mac)).as_deref(),
            Some("02:00:00:00:00:07")
        );
        assert_eq!(named(&[v4, v6], None).as_deref(), Some("2001:db8::7"));
        assert_eq!(named(&[], None), None);
    }
}
