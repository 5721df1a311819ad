//! Which SYNs belong to one attempt.
//!
//! One unanswered `connect()` sends up to 11 SYNs in 135 s on Linux, and each of them matches
//! `ct state new`; a packet may be logged by two rules and seen by two sources. Here they become one
//! attempt with a number of packets: told by the initial sequence number where two SYNs carry one,
//! else by addresses and ports within 150 s of the first SYN.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::quality::FixedState;
use hashbrown::HashTable;

use crate::model::{MICROS_PER_SECOND, Observation, RuleId, Timestamp, Tuple};

/// Longer than the 135 s over which Linux repeats a SYN.
const WINDOW: i64 = 150 * MICROS_PER_SECOND;
/// A sequence number tells an attempt for as long as it is kept: a day.
const NUMBERED_WINDOW: i64 = 86_400 * MICROS_PER_SECOND;
/// Earlier attempts of one tuple whose sequence numbers are kept.
const MAX_EARLIER: usize = 16;
/// Rules that are told apart for one packet.
const MAX_RULES: usize = 4;

/// What an observation turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Whether it opens an attempt.
    pub(super) opens_attempt: bool,
    /// The packets it adds: 0 where another rule has reported the same one.
    pub(super) packets: u64,
    /// Whether it only repeats what was logged before, of an attempt no longer kept.
    pub(super) is_orphan: bool,
}

/// The attempts of the last minutes.
#[derive(Debug)]
pub(super) struct Attempts {
    /// Places in `open` by tuple: the table has twice the room it needs, so its entries are small.
    places: HashTable<u32>,
    state: FixedState,
    open: Vec<Open>,
    free: Vec<u32>,
    /// Each open place once, in the order in which it is to be looked at.
    order: VecDeque<(Timestamp, u32)>,
    capacity: usize,
    evicted: u64,
}

#[derive(Debug)]
struct Open {
    tuple: Tuple,
    first: Timestamp,
    last: Timestamp,
    isn: Option<u32>,
    packet: Packet,
    /// What most attempts never need.
    more: Option<Box<More>>,
}

#[derive(Debug, Default)]
struct More {
    /// Sequence numbers of earlier attempts of the tuple.
    earlier: Vec<u32>,
    /// Packets that each rule says were repeated; the largest counts.
    repeated: [Option<(RuleId, u64)>; MAX_RULES],
}

/// The packet seen last, and which rules have reported it.
#[derive(Clone, Copy, Debug)]
struct Packet {
    time: Timestamp,
    ip_id: Option<u16>,
    /// Where a report of it carried one.
    isn: Option<u32>,
    rules: [Option<RuleId>; MAX_RULES],
}

impl Attempts {
    /// Keeps at most `capacity` tuples.
    pub(super) fn new(capacity: usize, state: FixedState) -> Self {
        Self {
            places: HashTable::new(),
            state,
            open: Vec::new(),
            free: Vec::new(),
            order: VecDeque::new(),
            capacity,
            evicted: 0,
        }
    }

    /// Attempts forgotten while their SYNs could still be repeated.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Takes an observation; forgets what no SYN of before `now` can belong to.
    pub(super) fn note(&mut self, observation: &Observation, now: Timestamp) -> Seen {
        self.forget(now);
        let packets = u64::from(observation.repeats.max(1));
        let hash = self.state.hash_one(observation.tuple);
        let known = self.places.find(hash, |&place| {
            self.open[place as usize].tuple == observation.tuple
        });
        if let Some(&place) = known {
            return self.open[place as usize].note(observation, packets);
        }
        if observation.repeats == 0 {
            self.evict(now);
            self.open(hash, observation);
        }
        Seen {
            opens_attempt: true,
            packets,
            is_orphan: observation.repeats > 0,
        }
    }

    fn open(&mut self, hash: u64, observation: &Observation) {
        let open = Open::new(observation);
        let place = match self.free.pop() {
            Some(place) => {
                self.open[place as usize] = open;
                place
            }
            None => {
                let place = u32::try_from(self.open.len()).expect("capacity is far below");
                self.open.push(open);
                place
            }
        };
        let (state, open) = (&self.state, &self.open);
        self.places.insert_unique(hash, place, |&place| {
            state.hash_one(open[place as usize].tuple)
        });
        self.order.push_back((observation.time, place));
    }

    fn close(&mut self, place: u32) {
        let hash = self.state.hash_one(self.open[place as usize].tuple);
        if let Ok(entry) = self.places.find_entry(hash, |&known| known == place) {
            entry.remove();
        }
        self.open[place as usize].more = None;
        self.free.push(place);
    }

    /// Makes room; what no SYN without a number can belong to any more is no loss.
    fn evict(&mut self, now: Timestamp) {
        if self.order.len() >= self.capacity
            && let Some((_, place)) = self.order.pop_front()
        {
            let last = self.open[place as usize].last;
            self.evicted += u64::from(now.micros_since(last) <= WINDOW);
            self.close(place);
        }
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some(&(noted, place)) = self.order.front() {
            if now.micros_since(noted) <= WINDOW {
                return;
            }
            self.order.pop_front();
            let open = &self.open[place as usize];
            if now.micros_since(open.last) <= open.window() {
                self.order
                    .push_back((open.last.max(noted.plus_micros(WINDOW)), place));
            } else {
                self.close(place);
            }
        }
    }
}

impl Open {
    fn new(observation: &Observation) -> Self {
        Self {
            tuple: observation.tuple,
            first: observation.time,
            last: observation.time,
            isn: observation.isn,
            packet: Packet::new(observation),
            more: None,
        }
    }

    /// How long after its last SYN it is kept.
    fn window(&self) -> i64 {
        if self.isn.is_some() {
            NUMBERED_WINDOW
        } else {
            WINDOW
        }
    }

    fn was_earlier(&self, isn: u32) -> bool {
        self.more
            .as_ref()
            .is_some_and(|more| more.earlier.contains(&isn))
    }

    /// Adds `packets` to those that `rule` says were repeated; answers by how many that exceeds what
    /// any rule has said.
    fn note_repeated(&mut self, rule: RuleId, packets: u64) -> u64 {
        let largest = |repeated: &[Option<(RuleId, u64)>]| {
            repeated
                .iter()
                .flatten()
                .map(|(_, count)| *count)
                .max()
                .unwrap_or(0)
        };
        let repeated = &mut self.more.get_or_insert_default().repeated;
        let before = largest(repeated);
        let own = repeated
            .iter()
            .position(|slot| slot.is_none_or(|(known, _)| known == rule));
        if let Some(own) = own {
            let (_, count) = repeated[own].unwrap_or((rule, 0));
            repeated[own] = Some((rule, count + packets));
        }
        largest(repeated) - before
    }

    fn note(&mut self, observation: &Observation, packets: u64) -> Seen {
        self.last = self.last.max(observation.time);
        let known = |packets| Seen {
            opens_attempt: false,
            packets,
            is_orphan: false,
        };
        if observation.repeats > 0 {
            return known(self.note_repeated(observation.rule, packets));
        }
        match (self.isn, observation.isn) {
            (Some(own), Some(isn)) if own == isn => {}
            (Some(_), Some(isn)) if self.was_earlier(isn) => return known(packets),
            (Some(own), Some(_)) => {
                let is_reported =
                    self.packet.isn.is_none() && self.packet.is_reported_again(observation);
                let mut more = self.more.take().unwrap_or_default();
                if more.earlier.len() == MAX_EARLIER {
                    more.earlier.remove(0);
                }
                more.earlier.push(own);
                more.repeated = [None; MAX_RULES];
                *self = Self {
                    more: Some(more),
                    ..Self::new(observation)
                };
                // Another source may have reported it already, without the number.
                let packets = if is_reported { 0 } else { packets };
                return Seen {
                    opens_attempt: true,
                    packets,
                    is_orphan: false,
                };
            }
            _ if observation.time.micros_since(self.first).abs() > WINDOW => {
                *self = Self::new(observation);
                return Seen {
                    opens_attempt: true,
                    packets,
                    is_orphan: false,
                };
            }
            (None, isn) => self.isn = isn,
            (Some(_), None) => {}
        }
        if self.packet.is_reported_again(observation) {
            return known(0);
        }
        self.packet = Packet::new(observation);
        known(packets)
    }
}

impl Packet {
    fn new(observation: &Observation) -> Self {
        let mut rules = [None; MAX_RULES];
        rules[0] = Some(observation.rule);
        Self {
            time: observation.time,
            ip_id: observation.ip_id,
            isn: observation.isn,
            rules,
        }
    }

    /// Whether `observation` is this packet, reported by a rule that has not done so: the same
    /// second, and the same IP identification where both carry one.
    fn is_reported_again(&mut self, observation: &Observation) -> bool {
        let is_same_packet = match (self.ip_id, observation.ip_id) {
            (Some(own), Some(other)) => {
                own == other && observation.time.seconds_since(self.time).abs() <= 1
            }
            _ => observation.time.as_seconds() == self.time.as_seconds(),
        };
        if !is_same_packet || self.rules.contains(&Some(observation.rule)) {
            return false;
        }
        self.isn = self.isn.or(observation.isn);
        if let Some(free) = self.rules.iter_mut().find(|rule| rule.is_none()) {
            *free = Some(observation.rule);
        }
        true
    }
}
