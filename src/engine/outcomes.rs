//! What became of attempts: answers are joined to them, also those that are read before their SYN,
//! and who got none in time is told, too.
//!
//! That nobody answered can be said only where somebody would have seen an answer. Live that is a
//! source that follows connections and has done so, without a loss, since the attempt was opened;
//! offline it is an attempt whose packets are known one by one (its SYN bears a sequence number), in
//! a run that has seen answers at all. A capture that holds one direction alone proves nothing.

use std::collections::VecDeque;

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use super::attempts::{Change, Joined};
use super::{Effect, Engine};
use crate::model::{
    Direction, Interface, MICROS_PER_SECOND, Notice, Observation, Outcome, Response, SourceName,
    Timestamp, Tuple,
};

/// Attempts for which answers are kept before a SYN opens them.
const MAX_EARLY: usize = 4_096;
/// Answers that are kept for one of them: tracked, accepted, established, closed, from two sources.
const MAX_EARLY_EACH: usize = 8;
/// How long they are kept: sources are read milliseconds apart.
const EARLY: i64 = 10 * MICROS_PER_SECOND;
/// The device of a capture on all interfaces.
const ANY: &[u8] = b"any";

/// How many attempts ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutcomeCounts([u64; Outcome::ALL.len()]);

impl OutcomeCounts {
    /// Those that ended so.
    pub fn get(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize]
    }

    /// Adds `count` that ended so.
    pub fn add(&mut self, outcome: Outcome, count: u64) {
        let own = &mut self.0[outcome as usize];
        *own = own.saturating_add(count);
    }

    /// Those of which it is known how they ended.
    pub fn known(&self) -> u64 {
        Outcome::ALL[1..].iter().map(|&it| self.get(it)).sum()
    }

    /// One that ended as `before` has turned out to end as `after`. How many are unknown is not kept,
    /// but told by the number of all ([`of_all`](Self::of_all)).
    pub(super) fn change(&mut self, before: Outcome, after: Outcome) {
        if before != Outcome::Unknown {
            let own = &mut self.0[before as usize];
            *own = own.saturating_sub(1);
        }
        if after != Outcome::Unknown {
            self.add(after, 1);
        }
    }

    /// The same, of `attempts` in all.
    #[must_use]
    pub fn of_all(mut self, attempts: u64) -> Self {
        self.0[Outcome::Unknown as usize] = attempts.saturating_sub(self.known());
        self
    }
}

/// Answers whose attempts are not open yet.
#[derive(Debug)]
pub(super) struct Early {
    waiting: HashMap<Tuple, Waiting, FixedState>,
    /// When each of them came; some may have been taken by now.
    order: VecDeque<(Timestamp, Tuple)>,
    evicted: u64,
}

#[derive(Debug)]
struct Waiting {
    since: Timestamp,
    responses: Vec<Response>,
}

impl Early {
    pub(super) fn new(state: FixedState) -> Self {
        Self {
            waiting: HashMap::with_hasher(state),
            order: VecDeque::new(),
            evicted: 0,
        }
    }

    /// Answers for which there was no room.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Whether answers without a sequence number wait for an attempt between these two.
    fn awaits(&self, tuple: &Tuple) -> bool {
        !self.waiting.is_empty()
            && self.waiting.get(tuple).is_some_and(|waiting| {
                let mut responses = waiting.responses.iter();
                responses.any(|response| response.isn.is_none())
            })
    }

    fn keep(&mut self, response: &Response, now: Timestamp) {
        if let Some(waiting) = self.waiting.get_mut(&response.tuple) {
            if waiting.responses.len() < MAX_EARLY_EACH {
                waiting.responses.push(*response);
            } else {
                self.evicted += 1;
            }
            return;
        }
        while self.waiting.len() >= MAX_EARLY
            && let Some(first) = self.order.pop_front()
        {
            self.evicted += self.remove(first).len() as u64;
        }
        if self.order.len() >= 2 * MAX_EARLY {
            let waiting = &self.waiting;
            let is_there = |(since, tuple): &(Timestamp, Tuple)| {
                waiting.get(tuple).is_some_and(|it| it.since == *since)
            };
            self.order.retain(is_there);
        }
        self.order.push_back((now, response.tuple));
        let waiting = Waiting {
            since: now,
            responses: vec![*response],
        };
        self.waiting.insert(response.tuple, waiting);
    }

    /// Those between these two, which wait no longer.
    fn take(&mut self, tuple: &Tuple) -> Vec<Response> {
        let waiting = self.waiting.remove(tuple);
        waiting.map_or(Vec::new(), |waiting| waiting.responses)
    }

    /// Whether the first have waited long enough.
    #[inline]
    fn is_due(&self, now: Timestamp) -> bool {
        let first = self.order.front();
        first.is_some_and(|(since, _)| now.micros_since(*since) > EARLY)
    }

    /// The first that have waited long enough; none where none have.
    fn overdue(&mut self, now: Timestamp) -> Option<Vec<Response>> {
        if !self.is_due(now) {
            return None;
        }
        let (since, tuple) = self.order.pop_front()?;
        Some(self.remove((since, tuple)))
    }

    fn remove(&mut self, (since, tuple): (Timestamp, Tuple)) -> Vec<Response> {
        let waiting = self.waiting.get(&tuple);
        if waiting.is_some_and(|waiting| waiting.since == since) {
            self.take(&tuple)
        } else {
            Vec::new()
        }
    }
}

/// Who would have seen an answer.
#[derive(Debug, Default)]
pub(super) struct Tellers {
    /// Whether sources are watched as things happen.
    is_live: bool,
    /// Those that follow connections, and work.
    ready: Vec<SourceName>,
    /// Of what was open then nothing can be said: an answer may have been missed.
    gap: Option<Timestamp>,
    has_responses: bool,
}

impl Tellers {
    /// Takes what happened to a source at `now`.
    pub(super) fn note(&mut self, notice: &Notice, now: Timestamp) {
        match notice {
            Notice::SourceReady { source } => {
                self.is_live = true;
                if tells(source) && !self.ready.contains(source) {
                    self.ready.push(source.clone());
                }
            }
            Notice::SourceFailed { source, .. } if self.ready.contains(source) => {
                self.ready.retain(|ready| ready != source);
                self.gap = Some(now);
            }
            Notice::Suspended { .. } => self.gap = Some(now),
            _ => {}
        }
    }

    /// `source` lost events at `now`.
    pub(super) fn lost(&mut self, source: &SourceName, now: Timestamp) {
        if tells(source) {
            self.gap = Some(now);
        }
    }

    /// Whether somebody may see the answer to the attempt that `observation` opens.
    pub(super) fn may_tell(&self, observation: &Observation) -> bool {
        if !self.is_live {
            return observation.isn.is_some();
        }
        self.ready.iter().any(|source| match source {
            SourceName::Capture(interface) => {
                *interface == observation.interface || *interface == Interface::new(ANY)
            }
            _ => false,
        })
    }

    /// Whether an answer to an attempt opened then, of which somebody could tell, would be known.
    pub(super) fn would_know(&self, opened: Timestamp) -> bool {
        if self.is_live {
            self.gap.is_none_or(|gap| opened > gap)
        } else {
            self.has_responses
        }
    }
}

/// Whether `source` would show an answer, so that its silence is one, too. Connection tracking says itself
/// when it gives up, and where no rule asks for it there is none at all.
fn tells(source: &SourceName) -> bool {
    matches!(source, SourceName::Capture(_))
}

impl Engine {
    /// Time has come to `now`: what waited long enough is settled. Every input asks, and hardly ever
    /// is there anything.
    #[inline]
    pub(super) fn settle(&mut self, now: Timestamp) {
        if self.early.is_due(now) || self.attempts.is_due(now) {
            self.settle_due(now);
        }
    }

    #[cold]
    fn settle_due(&mut self, now: Timestamp) {
        while let Some(responses) = self.early.overdue(now) {
            // Where the attempt that they waited for did not come, they speak of the one before.
            for response in responses {
                if let Joined::To(change) = self.attempts.respond(&response, true) {
                    self.respond_to(&change, response.tuple, Some(response));
                }
            }
        }
        while let Some((tuple, change)) = self.attempts.unanswered(now, &self.tellers) {
            self.respond_to(&change, tuple, None);
        }
    }

    /// Takes what a source tells of an attempt.
    pub(super) fn response(&mut self, response: &Response, now: Timestamp) {
        self.tellers.has_responses = true;
        let is_awaited = response.isn.is_none() && self.early.awaits(&response.tuple);
        let joined = if is_awaited {
            Joined::NotYet
        } else {
            self.attempts.respond(response, false)
        };
        match joined {
            Joined::To(change) => self.respond_to(&change, response.tuple, Some(*response)),
            Joined::NotYet if self.settings.window.contains(self.wall(response.time)) => {
                self.early.keep(response, now);
                self.totals.evicted_responses = self.early.evicted();
            }
            Joined::NotYet | Joined::ToNone => {}
        }
    }

    /// Hands the attempt that `observation` has opened what was told of it before.
    #[inline]
    pub(super) fn respond_early(&mut self, observation: &Observation, now: Timestamp) {
        if self.early.waiting.is_empty() {
            return;
        }
        for response in self.early.take(&observation.tuple) {
            self.response(&response, now);
        }
    }

    pub(super) fn respond_to(&mut self, change: &Change, tuple: Tuple, response: Option<Response>) {
        let bytes = response
            .and_then(|response| response.bytes)
            .filter(|_| change.has_bytes);
        if let Some(device) = change.device.and_then(|id| self.devices.get_mut(id)) {
            device.note_outcome(change, bytes);
        }
        if let Some(response) = &response
            && change.direction == Direction::Inbound
        {
            self.note_role(&tuple, response);
        }
        self.effects.push(Effect::Responded {
            device: change.device,
            direction: change.direction,
            opened: change.opened,
            before: change.before,
            after: change.after,
            tuple,
            is_completed: change.is_completed,
            bytes,
            response,
        });
    }
}
