//! Sources that are not believed: counted by the station that sent them, never as a device's.
//!
//! As many as the table holds are told apart; those beyond are counted together. An entry that was
//! silent for an hour makes room, so a flood of forged MACs hides those that come later for an hour,
//! and raises no more alerts than the table has places.

use std::net::IpAddr;

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use super::Count;
use super::attempts::{Attempts, Seen};
use crate::model::{Interface, MICROS_PER_SECOND, Mac, Observation, Spoof, Timestamp};

/// Stations that are told apart.
const MAX_KEPT: usize = 1_024;
/// Open attempts that are kept, apart from those of sources that are believed.
const MAX_ATTEMPTS: usize = 4_096;
/// Entries looked at to find one that was silent for long enough.
const SAMPLE: usize = 8;
/// How long an entry is kept after its last packet.
const KEPT: i64 = 3_600 * MICROS_PER_SECOND;

/// What one station did under addresses that are not its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoofer {
    /// Where its packets came in.
    pub interface: Interface,
    /// The MAC of its frames, which may be forged, too; none where there is no link layer.
    pub mac: Option<Mac>,
    /// Why it is not believed.
    pub reason: Spoof,
    /// Its packets and attempts.
    pub count: Count,
    /// The address that it used last.
    pub address: IpAddr,
    /// How often it changed its address from one packet to the next.
    pub changes: u64,
    /// First packet.
    pub first_seen: Timestamp,
    /// Last packet.
    pub last_seen: Timestamp,
}

type Key = (Interface, Option<Mac>, Spoof);

/// The stations whose sources are not believed.
#[derive(Debug)]
pub struct Spoofed {
    index: HashMap<Key, usize, FixedState>,
    kept: Vec<Spoofer>,
    attempts: Attempts,
    hand: usize,
    total: Count,
    beyond: Count,
}

/// What a forged packet turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forged {
    pub(super) opens_attempt: bool,
    /// Whether it is the first of its station and reason.
    pub(super) is_first: bool,
}

impl Spoofed {
    pub(super) fn new(state: &FixedState) -> Self {
        Self {
            index: HashMap::with_hasher(state.clone()),
            kept: Vec::new(),
            attempts: Attempts::new(MAX_ATTEMPTS, state.clone()),
            hand: 0,
            total: Count::default(),
            beyond: Count::default(),
        }
    }

    /// The stations that are told apart, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &Spoofer> {
        self.kept.iter()
    }

    /// All of it.
    pub fn total(&self) -> Count {
        self.total
    }

    /// What was counted for stations for which there was no room.
    pub fn beyond(&self) -> Count {
        self.beyond
    }

    pub(super) fn note(
        &mut self,
        observation: &Observation,
        reason: Spoof,
        now: Timestamp,
    ) -> Forged {
        let seen = self.attempts.note(observation, now);
        add(&mut self.total, seen);
        let key = (observation.interface, observation.mac, reason);
        if let Some(&place) = self.index.get(&key) {
            self.kept[place].note(observation, seen);
            return Forged {
                opens_attempt: seen.opens_attempt,
                is_first: false,
            };
        }
        let Some(place) = self.place(now) else {
            add(&mut self.beyond, seen);
            return Forged {
                opens_attempt: seen.opens_attempt,
                is_first: false,
            };
        };
        let spoofer = Spoofer::new(observation, reason, seen);
        if place == self.kept.len() {
            self.kept.push(spoofer);
        } else {
            let old = std::mem::replace(&mut self.kept[place], spoofer);
            self.index.remove(&(old.interface, old.mac, old.reason));
            self.beyond.syns += old.count.syns;
            self.beyond.attempts += old.count.attempts;
        }
        self.index.insert(key, place);
        Forged {
            opens_attempt: seen.opens_attempt,
            is_first: true,
        }
    }

    /// Where there is room for another one.
    fn place(&mut self, now: Timestamp) -> Option<usize> {
        if self.kept.len() < MAX_KEPT {
            return Some(self.kept.len());
        }
        let start = self.hand;
        self.hand = (self.hand + SAMPLE) % MAX_KEPT;
        (0..SAMPLE)
            .map(|step| (start + step) % MAX_KEPT)
            .find(|&place| now.micros_since(self.kept[place].last_seen) > KEPT)
    }
}

impl Spoofer {
    fn new(observation: &Observation, reason: Spoof, seen: Seen) -> Self {
        let mut count = Count::default();
        add(&mut count, seen);
        Self {
            interface: observation.interface,
            mac: observation.mac,
            reason,
            count,
            address: observation.tuple.source,
            changes: 0,
            first_seen: observation.time,
            last_seen: observation.time,
        }
    }

    fn note(&mut self, observation: &Observation, seen: Seen) {
        add(&mut self.count, seen);
        self.changes += u64::from(self.address != observation.tuple.source);
        self.address = observation.tuple.source;
        self.first_seen = self.first_seen.min(observation.time);
        self.last_seen = self.last_seen.max(observation.time);
    }
}

fn add(count: &mut Count, seen: Seen) {
    count.syns += seen.packets;
    count.attempts += u64::from(seen.opens_attempt);
}
