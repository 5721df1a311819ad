//! Which SYNs belong to one attempt.
//!
//! One unanswered `connect()` sends up to 11 SYNs in 135 s on Linux, and each of them matches
//! `ct state new`; a packet may be logged by two rules and seen by two sources. Here they become one
//! attempt with a number of packets: told by the initial sequence number where two SYNs carry one,
//! else by addresses and ports within 150 s of the first SYN. What is known of an attempt's end is
//! kept with it; `outcomes` decides what that is worth.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::quality::FixedState;
use hashbrown::HashTable;

use super::outcomes::Tellers;
use crate::model::{
    DeviceId, Direction, MICROS_PER_SECOND, Observation, Outcome, Response, ResponseKind, RuleId,
    Timestamp, Tuple,
};

/// Longer than the 135 s over which Linux repeats a SYN.
const WINDOW: i64 = 150 * MICROS_PER_SECOND;
/// A sequence number tells an attempt for as long as it is kept: a day.
const NUMBERED_WINDOW: i64 = 86_400 * MICROS_PER_SECOND;
/// Earlier attempts of one tuple whose sequence numbers are kept.
const MAX_EARLIER: usize = 16;
/// Rules that are told apart for one attempt.
const MAX_RULES: usize = 4;
/// How far rules may lag behind one another: a busy machine reads one source later than another.
const MAX_LAG: i64 = 5 * MICROS_PER_SECOND;

/// What an observation turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Whether it opens an attempt.
    pub(super) opens_attempt: bool,
    /// The packets it adds: 0 where another rule has reported the same one.
    pub(super) packets: u64,
    /// Whether it only repeats what was logged before, of an attempt no longer kept.
    pub(super) is_orphan: bool,
    /// Where the attempt is kept that it opens.
    pub(super) place: Option<Place>,
}

/// Where an attempt is kept, for as long as nothing else is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

/// What became of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// It belongs to an attempt that is open and counted.
    To(Change),
    /// The attempt that it belongs to may be opened yet.
    NotYet,
    /// It belongs to an attempt that is over, or not counted.
    ToNone,
}

/// What has become known of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) device: Option<DeviceId>,
    pub(super) direction: Direction,
    pub(super) opened: Timestamp,
    pub(super) before: Outcome,
    pub(super) after: Outcome,
    /// Whether its handshake was completed, and that had not been known.
    pub(super) is_completed: bool,
    /// Whether its bytes are told for the first time.
    pub(super) has_bytes: bool,
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
    /// When each attempt was opened that may turn out to be unanswered, and its place.
    unanswered: VecDeque<(Timestamp, u32)>,
    capacity: usize,
    evicted: u64,
}

#[derive(Debug)]
struct Open {
    tuple: Tuple,
    first: Timestamp,
    last: Timestamp,
    isn: Option<u32>,
    told: Told,
    ending: Ending,
    /// What most attempts never need.
    more: Option<Box<More>>,
}

/// Whose attempt it is, and what is known of its end.
#[derive(Clone, Copy, Debug)]
struct Ending {
    /// The device's id; [`Ending::NOBODY`] where it is nobody's.
    device: u32,
    direction: Direction,
    outcome: Outcome,
    /// Bits, of those below.
    known: u8,
}

impl Ending {
    const NOBODY: u32 = u32::MAX;
    /// It is counted; what is not has no outcome.
    const COUNTED: u8 = 1;
    /// Connection tracking has taken it in.
    const TRACKED: u8 = 2;
    /// Its originator has completed the handshake.
    const COMPLETED: u8 = 4;
    /// Its bytes are known.
    const BYTES: u8 = 8;

    /// Of an attempt that nobody has counted yet.
    const NONE: Self = Self {
        device: Self::NOBODY,
        direction: Direction::External,
        outcome: Outcome::Unknown,
        known: 0,
    };

    fn is(self, known: u8) -> bool {
        self.known & known != 0
    }

    /// Notes `known`; answers whether it is news.
    fn note(&mut self, known: u8) -> bool {
        let is_news = !self.is(known);
        self.known |= known;
        is_news
    }
}

#[derive(Debug, Default)]
struct More {
    /// Sequence numbers of earlier attempts of the tuple.
    earlier: Vec<u32>,
    /// Packets that each rule says were repeated; the largest counts.
    repeated: [Option<(RuleId, u64)>; MAX_RULES],
}

/// How many packets of the last seconds each rule has told. The rule that has told most is believed:
/// what the others tell is the same.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// When the last packet was told that no other rule had.
    last: Timestamp,
    rules: [RuleId; MAX_RULES],
    /// 0 where there is no rule.
    packets: [u32; MAX_RULES],
    /// A bit for each rule whose records carry sequence numbers.
    numbered: u8,
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
            unanswered: VecDeque::new(),
            capacity,
            evicted: 0,
        }
    }

    /// Attempts forgotten while their SYNs could still be repeated.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Keeps at most `capacity` tuples from now on.
    pub(super) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// The attempt at `place` is counted, for `device` where it is anybody's. `may_be_told`: somebody
    /// may see an answer to it.
    pub(super) fn count(
        &mut self,
        Place(place): Place,
        device: Option<DeviceId>,
        direction: Direction,
        may_be_told: bool,
    ) {
        let open = &mut self.open[place as usize];
        open.ending = Ending {
            device: device.map_or(Ending::NOBODY, |DeviceId(id)| id),
            direction,
            known: Ending::COUNTED,
            ..Ending::NONE
        };
        if may_be_told {
            // What is in the way has been forgotten, or has been opened again.
            if self.unanswered.len() >= self.capacity {
                self.unanswered.pop_front();
            }
            self.unanswered.push_back((open.first, place));
        }
    }

    /// Joins `response` to its attempt; `is_last_try`: no other attempt than the one that is open will
    /// come for it.
    pub(super) fn respond(&mut self, response: &Response, is_last_try: bool) -> Joined {
        match self.find(&response.tuple) {
            Some(place) => self.open[place as usize].respond(response, is_last_try),
            None => Joined::NotYet,
        }
    }

    /// Whether the first attempt that may turn out to be unanswered has waited long enough.
    #[inline]
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let first = self.unanswered.front();
        first.is_some_and(|(opened, _)| now.micros_since(*opened) > WINDOW)
    }

    /// The next attempt to which nobody has answered in time, as far as `tellers` would know.
    pub(super) fn unanswered(
        &mut self,
        now: Timestamp,
        tellers: &Tellers,
    ) -> Option<(Tuple, Change)> {
        while self.is_due(now) {
            let (opened, place) = self.unanswered.pop_front()?;
            let open = &mut self.open[place as usize];
            let is_open = open.first == opened && open.ending.is(Ending::COUNTED);
            if is_open && open.ending.outcome == Outcome::Unknown && tellers.would_know(opened) {
                return Some((open.tuple, open.end(Outcome::Unanswered)));
            }
        }
        None
    }

    fn find(&self, tuple: &Tuple) -> Option<u32> {
        let hash = self.state.hash_one(tuple);
        let is_it = |&place: &u32| self.open[place as usize].tuple == *tuple;
        self.places.find(hash, is_it).copied()
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
            let seen = self.open[place as usize].note(observation);
            let place = seen.opens_attempt.then_some(Place(place));
            return Seen { place, ..seen };
        }
        let place = (observation.repeats == 0).then(|| {
            self.evict(now);
            self.open(hash, observation, now)
        });
        Seen {
            opens_attempt: true,
            packets,
            is_orphan: observation.repeats > 0,
            place,
        }
    }

    fn open(&mut self, hash: u64, observation: &Observation, now: Timestamp) -> Place {
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
        // A log that is caught up with tells of the past, and what repeats it is read next.
        self.order.push_back((now.max(observation.time), place));
        Place(place)
    }

    fn close(&mut self, place: u32) {
        let hash = self.state.hash_one(self.open[place as usize].tuple);
        if let Ok(entry) = self.places.find_entry(hash, |&known| known == place) {
            entry.remove();
        }
        self.open[place as usize].more = None;
        self.open[place as usize].ending = Ending::NONE;
        self.free.push(place);
    }

    /// Makes room; what no SYN without a number can belong to any more is no loss.
    fn evict(&mut self, now: Timestamp) {
        while self.order.len() >= self.capacity
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
            told: Told::new(observation),
            ending: Ending::NONE,
            more: None,
        }
    }

    fn respond(&mut self, response: &Response, is_last_try: bool) -> Joined {
        match (self.isn, response.isn) {
            (Some(own), Some(isn)) if own == isn => {}
            (Some(_), Some(isn)) if self.was_earlier(isn) => return Joined::ToNone,
            (Some(_), Some(_)) => return Joined::NotYet,
            _ if !is_last_try && self.is_of_another(response) => return Joined::NotYet,
            _ => {}
        }
        if !self.ending.is(Ending::COUNTED) {
            return Joined::ToNone;
        }
        if response.kind == ResponseKind::Tracked {
            self.ending.note(Ending::TRACKED);
        }
        let is_completed = response.kind == ResponseKind::Established;
        let change = Change {
            is_completed: is_completed && self.ending.note(Ending::COMPLETED),
            has_bytes: response.bytes.is_some() && self.ending.note(Ending::BYTES),
            ..self.end(response.kind.outcome())
        };
        Joined::To(change)
    }

    /// Whether `response`, which bears no sequence number, speaks of a later attempt between the same
    /// two, whose SYN has not been read yet: it begins anew what has begun, or comes too late for an
    /// answer to the last SYN.
    fn is_of_another(&self, response: &Response) -> bool {
        match response.kind {
            ResponseKind::Tracked => {
                self.ending.is(Ending::TRACKED) || self.ending.outcome != Outcome::Unknown
            }
            ResponseKind::TimedOut | ResponseKind::Closed => false,
            _ => response.time.micros_since(self.last) > WINDOW,
        }
    }

    /// It ended as `outcome` says, as far as is known now, unless something better was known.
    fn end(&mut self, outcome: Outcome) -> Change {
        let Ending {
            device,
            direction,
            outcome: before,
            ..
        } = self.ending;
        self.ending.outcome = before.max(outcome);
        Change {
            device: (device != Ending::NOBODY).then_some(DeviceId(device)),
            direction,
            opened: self.first,
            before,
            after: self.ending.outcome,
            is_completed: false,
            has_bytes: false,
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

    fn note(&mut self, observation: &Observation) -> Seen {
        self.last = self.last.max(observation.time);
        let seen = |opens_attempt, packets| Seen {
            opens_attempt,
            packets,
            is_orphan: false,
            place: None,
        };
        if observation.repeats > 0 {
            let packets = u64::from(observation.repeats);
            return seen(false, self.note_repeated(observation.rule, packets));
        }
        match (self.isn, observation.isn) {
            (Some(own), Some(isn)) if own == isn => {}
            (Some(_), Some(isn)) if self.was_earlier(isn) => {
                // Whoever lags behind tells now what made way for this attempt.
                let is_news = !self.told.is_behind(observation);
                return seen(false, u64::from(is_news));
            }
            (Some(own), Some(_)) => {
                let mut more = self.more.take().unwrap_or_default();
                if more.earlier.len() == MAX_EARLIER {
                    more.earlier.remove(0);
                }
                more.earlier.push(own);
                more.repeated = [None; MAX_RULES];
                let mut told = self.told;
                told.begin_attempt(observation.rule);
                let is_news = told.note(observation);
                *self = Self {
                    more: Some(more),
                    told,
                    ..Self::new(observation)
                };
                return seen(true, u64::from(is_news));
            }
            _ if observation.time.micros_since(self.first).abs() > WINDOW => {
                *self = Self::new(observation);
                return seen(true, 1);
            }
            (None, isn) => self.isn = isn,
            (Some(_), None) => {}
        }
        seen(false, u64::from(self.told.note(observation)))
    }
}

impl Told {
    fn new(observation: &Observation) -> Self {
        let mut told = Self {
            last: observation.time,
            rules: [observation.rule; MAX_RULES],
            packets: [0; MAX_RULES],
            numbered: 0,
        };
        told.note(observation);
        told
    }

    /// Adds `observation` to what its rule has told; answers whether no other rule has told as much.
    fn note(&mut self, observation: &Observation) -> bool {
        let most = self.most(observation.time);
        if most == 0 || most == u32::MAX {
            self.packets = [0; MAX_RULES];
            self.numbered = 0;
        }
        let free = || self.packets.iter().position(|&packets| packets == 0);
        let Some(slot) = self.slot(observation.rule).or_else(free) else {
            return false;
        };
        self.rules[slot] = observation.rule;
        self.packets[slot] += 1;
        self.numbered |= u8::from(observation.isn.is_some()) << slot;
        let is_news = self.packets[slot] > most;
        if is_news {
            self.last = observation.time;
        }
        is_news
    }

    /// Whether another rule has told more than that of `observation`, which it can still tell.
    fn is_behind(&self, observation: &Observation) -> bool {
        let own = self.slot(observation.rule);
        own.map_or(0, |slot| self.packets[slot]) < self.most(observation.time)
    }

    /// `rule` tells a sequence number of a new attempt. What rules without such numbers have told
    /// beyond it were packets of this attempt already.
    fn begin_attempt(&mut self, rule: RuleId) {
        let own = self.slot(rule).map_or(0, |slot| self.packets[slot]);
        for slot in 0..MAX_RULES {
            let is_numbered = self.numbered & 1 << slot != 0;
            let beyond = self.packets[slot].saturating_sub(own);
            self.packets[slot] = if is_numbered { 0 } else { beyond };
        }
        self.numbered = 0;
    }

    fn slot(&self, rule: RuleId) -> Option<usize> {
        (0..MAX_RULES).find(|&slot| self.rules[slot] == rule && self.packets[slot] > 0)
    }

    /// The most packets that any rule has told, of those about `time`.
    fn most(&self, time: Timestamp) -> u32 {
        let is_recent = time.micros_since(self.last).abs() <= MAX_LAG;
        let most = self.packets.iter().copied().max().unwrap_or(0);
        if is_recent { most } else { 0 }
    }
}
