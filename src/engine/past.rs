//! What earlier runs saw, taken in again: rows of the history become attempts of devices that are
//! known by name, and go the way of those that are seen.
//!
//! The history has the first and the last time of each minute's attempts of a device to a destination,
//! and how many of them ended how. The first contact is exact; the rest is spread evenly over that
//! time, those that ended best first. It reads no file.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr};

use super::attempts::{Change, Seen};
use super::devices::Sighting;
use super::{Count, Effect, Engine, OutcomeCounts};
use crate::attribution::identity::{Identity, Origin};
use crate::model::{
    Clock, DeviceBasis, DeviceKey, Direction, Group, Interface, Mac, Observation, Outcome, RuleId,
    Timestamp, Tuple,
};

/// A device as an earlier run knew it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastDevice {
    /// By what it is told from others.
    pub key: DeviceKey,
    /// On what grounds it was named.
    pub basis: DeviceBasis,
    /// Its MAC, where one is known.
    pub mac: Option<Mac>,
    /// Its name: hostile text.
    pub hostname: Option<String>,
    /// Addresses it was seen with, the latest last.
    pub addresses: Vec<IpAddr>,
    /// Whether several machines stand behind it.
    pub is_shared: bool,
}

/// An attempt of an earlier run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastAttempt {
    /// When, of the day.
    pub time: Timestamp,
    /// Where to, seen from the LAN.
    pub direction: Direction,
    /// The responder.
    pub destination: IpAddr,
    /// Its port.
    pub port: u16,
    /// SYN packets, 1 at the least.
    pub syns: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether its originator completed the handshake.
    pub is_completed: bool,
}

/// That a device used a destination group, before there is more to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastContact {
    /// Where to, seen from the LAN.
    pub direction: Direction,
    /// An address of the group.
    pub destination: IpAddr,
    /// First use.
    pub first: Timestamp,
    /// Last use.
    pub last: Timestamp,
}

/// Attempts of one device to one destination within a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastRow {
    /// Where to, seen from the LAN.
    pub direction: Direction,
    /// The responder.
    pub destination: IpAddr,
    /// Its port.
    pub port: u16,
    /// The first packet.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
    /// Attempts.
    pub attempts: u64,
    /// SYN packets.
    pub syns: u64,
    /// How the attempts ended.
    pub outcomes: OutcomeCounts,
    /// Those whose handshake the originator completed.
    pub completed: u64,
}

impl PastRow {
    /// The attempt with this number, counted from 0.
    fn attempt(&self, number: u64) -> PastAttempt {
        let outcome = self.outcome(number);
        PastAttempt {
            time: self.time(number),
            direction: self.direction,
            destination: self.destination,
            port: self.port,
            syns: match number {
                0 => self.syns.saturating_sub(self.attempts).saturating_add(1),
                _ => 1,
            },
            outcome,
            is_completed: outcome == Outcome::Answered && number < self.completed,
        }
    }

    fn time(&self, number: u64) -> Timestamp {
        let steps = i128::from(self.attempts.saturating_sub(1).max(1));
        let span = i128::from(self.last.micros_since(self.first).max(0));
        let passed = span * i128::from(number) / steps;
        self.first
            .plus_micros(i64::try_from(passed).unwrap_or(i64::MAX))
    }

    fn outcome(&self, number: u64) -> Outcome {
        let mut before = 0_u64;
        for &outcome in Outcome::ALL[1..].iter().rev() {
            before = before.saturating_add(self.outcomes.get(outcome));
            if number < before {
                return outcome;
            }
        }
        Outcome::Unknown
    }
}

/// Hands the attempts of `rows` to `each`, in the order of their times, with the place of their row.
pub fn spread(rows: &[PastRow], mut each: impl FnMut(usize, PastAttempt)) {
    let mut next: BinaryHeap<Reverse<(Timestamp, usize, u64)>> = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.attempts > 0)
        .map(|(place, row)| Reverse((row.time(0), place, 0)))
        .collect();
    while let Some(Reverse((_, place, number))) = next.pop() {
        let row = &rows[place];
        each(place, row.attempt(number));
        if number + 1 < row.attempts {
            next.push(Reverse((row.time(number + 1), place, number + 1)));
        }
    }
}

impl PastDevice {
    /// Its latest.
    fn address(&self) -> IpAddr {
        let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        self.addresses.last().copied().unwrap_or(unknown)
    }

    fn identity(&self) -> Identity {
        Identity {
            key: self.key,
            mac: self.mac,
            is_named_by_lease: false,
            basis: self.basis,
        }
    }
}

impl Engine {
    /// Takes an attempt that an earlier run saw of `device`; answers what follows from it. To be fed in
    /// the order of time, to an engine that is not live.
    pub fn relive(&mut self, device: &PastDevice, attempt: &PastAttempt) -> &[Effect] {
        self.effects.clear();
        self.added = None;
        let is_asked = self.settings.window.contains(self.wall(attempt.time))
            && self.settings.scope.holds(attempt.direction)
            && self.settings.ports.contains(attempt.port);
        if is_asked {
            self.relive_asked(device, attempt);
        }
        &self.effects
    }

    /// Has `device` know a group that it used before what is told of it in full.
    pub fn recall(&mut self, device: &PastDevice, contact: &PastContact) {
        self.effects.clear();
        self.added = None;
        if self.settings.scope.scores(contact.direction) {
            let place = self.place(device, contact.first);
            let group = Group::of(contact.destination);
            let (_, known) = self.devices.at(place);
            known.know(group, contact.last);
        }
    }

    /// The place of `device`, new where it is not known.
    fn place(&mut self, device: &PastDevice, time: Timestamp) -> usize {
        let from = Sighting {
            time,
            address: device.address(),
            basis: device.basis,
            names_version: self.who.names_version(),
            wall_offset: self.wall_offset,
        };
        let identity = device.identity();
        let place = self.devices.get_or_insert(&identity, &from, || {
            (device.basis, device.hostname.as_deref())
        });
        self.devices.at(place).1.be(device);
        place
    }

    fn relive_asked(&mut self, device: &PastDevice, attempt: &PastAttempt) {
        self.totals.observations += attempt.syns;
        self.note_time(attempt.time);
        let observation = observation(device, attempt);
        let identity = device.identity();
        self.place(device, attempt.time);
        let seen = Seen {
            opens_attempt: true,
            packets: attempt.syns,
            is_orphan: false,
            place: None,
        };
        let direction = attempt.direction;
        let origin = Origin::Device(identity);
        let (id, is_attempt) = self.count(&observation, seen, false, direction, origin);
        let count = Count {
            syns: attempt.syns,
            attempts: u64::from(is_attempt),
        };
        self.totals.add(direction, count);
        if attempt.outcome != Outcome::Unknown {
            let change = Change {
                device: id,
                direction,
                opened: attempt.time,
                before: Outcome::Unknown,
                after: attempt.outcome,
                is_completed: attempt.is_completed,
                has_bytes: false,
            };
            self.respond_to(&change, observation.tuple, None);
        }
    }
}

fn observation(device: &PastDevice, attempt: &PastAttempt) -> Observation {
    Observation {
        time: attempt.time,
        clock: Clock::Exact,
        rule: RuleId(0),
        tuple: Tuple {
            source: device.address(),
            destination: attempt.destination,
            source_port: 0,
            destination_port: attempt.port,
        },
        isn: None,
        ip_id: None,
        mac: None,
        interface: Interface::new(b""),
        ttl: None,
        vlan: None,
        repeats: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::leases::LeaseBook;
    use crate::settings::Settings;

    fn row(first: i64, last: i64, attempts: u64, syns: u64) -> PastRow {
        PastRow {
            direction: Direction::Outbound,
            destination: [203, 0, 113, 9].into(),
            port: 25,
            first: Timestamp::from_seconds(first),
            last: Timestamp::from_seconds(last),
            attempts,
            syns,
            outcomes: OutcomeCounts::default(),
            completed: 0,
        }
    }

    fn spread_all(rows: &[PastRow]) -> Vec<(usize, PastAttempt)> {
        let mut all = Vec::new();
        spread(rows, |place, attempt| all.push((place, attempt)));
        all
    }

    #[test]
    fn attempts_of_several_rows_come_in_the_order_of_time_and_none_is_lost() {
        let rows = [
            row(0, 30, 4, 9),
            row(5, 5, 1, 1),
            row(7, 50, 0, 3),
            row(1, 59, 3, 3),
        ];
        let all = spread_all(&rows);
        assert!(all.is_sorted_by_key(|(_, attempt)| attempt.time));
        for (place, row) in rows.iter().enumerate() {
            let own: Vec<_> = all.iter().filter(|(of, _)| *of == place).collect();
            assert_eq!(own.len() as u64, row.attempts);
            if row.attempts > 1 {
                assert_eq!(own[0].1.time, row.first);
                assert_eq!(own[own.len() - 1].1.time, row.last);
                assert_eq!(own.iter().map(|(_, it)| it.syns).sum::<u64>(), row.syns);
            }
        }
    }

    #[test]
    fn those_that_ended_best_come_first_and_what_is_not_known_last() {
        let mut of = row(0, 59, 5, 5);
        of.outcomes.add(Outcome::Answered, 2);
        of.outcomes.add(Outcome::Unanswered, 1);
        of.completed = 1;
        let ends: Vec<_> = spread_all(&[of])
            .iter()
            .map(|(_, it)| (it.outcome, it.is_completed))
            .collect();
        assert_eq!(
            ends,
            [
                (Outcome::Answered, true),
                (Outcome::Answered, false),
                (Outcome::Unanswered, false),
                (Outcome::Unknown, false),
                (Outcome::Unknown, false)
            ]
        );
    }

    #[test]
    fn a_past_attempt_counts_for_the_device_that_is_named() {
        let device = PastDevice {
            key: DeviceKey::Station(Interface::new(b"eth1"), Mac([2, 0, 0, 0, 0, 7])),
            basis: DeviceBasis::Neighbour,
            mac: Some(Mac([2, 0, 0, 0, 0, 7])),
            hostname: Some("desk".to_owned()),
            addresses: vec![[192, 168, 1, 6].into(), [192, 168, 1, 7].into()],
            is_shared: true,
        };
        let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 1);
        let mut of = row(100, 130, 3, 8);
        of.outcomes.add(Outcome::Answered, 2);
        of.completed = 2;
        for (_, attempt) in spread_all(&[of]) {
            assert!(!engine.relive(&device, &attempt).is_empty());
        }
        let inside = PastAttempt {
            direction: Direction::Internal,
            ..of.attempt(0)
        };
        assert!(engine.relive(&device, &inside).is_empty());
        let other_port = PastAttempt {
            port: 587,
            ..of.attempt(0)
        };
        assert!(engine.relive(&device, &other_port).is_empty());
        let (_, known) = engine.devices().next().unwrap();
        let facts = engine.facts(known, 1);
        assert_eq!(facts.id, device.key.to_string());
        assert_eq!((facts.syns, facts.attempts, facts.completed), (8, 3, 2));
        assert_eq!(facts.outcomes.get(Outcome::Answered), 2);
        assert_eq!(facts.outcomes.get(Outcome::Unknown), 1);
        assert_eq!(facts.hostname.as_deref(), Some("desk"));
        assert_eq!(facts.addresses, device.addresses);
        assert!(facts.is_shared);
        assert_eq!(engine.totals().direction(Direction::Outbound).attempts, 3);
    }
}
