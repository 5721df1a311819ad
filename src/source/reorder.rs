//! Puts in order what logs of connections tell: they write a connection down when it has ended, and an
//! attempt counts when it began, so each line is late by as long as its connection lasted.

use std::collections::{BTreeMap, HashMap};

use crate::model::{Evidence, MICROS_PER_SECOND, Observation, RuleId, Timestamp, Tuple};

/// An attempt is put in its place where its connection lasted no longer than this beyond others'. Mail
/// takes seconds; hosts drop what is idle for longer (RFC 5321, 4.5.3.2: ten minutes at the most).
pub(super) const HORIZON_MICROS: i64 = 3600 * MICROS_PER_SECOND;
/// Pieces of evidence held back for it at the most: two for each record, some 20 MB.
const MAX_HELD: usize = 2 * 65_536;

/// Transactions of one connection that are remembered until its end is written down.
const MAX_TRANSACTIONS: usize = 64;

/// A place in the order: the time, and of equal times the order in which they came.
type Place = (Timestamp, u64);

/// Holds evidence back until nothing earlier is to be expected. What comes later than that is handed on at
/// once; whoever merges streams counts it as late.
///
/// Transactions (EVE's `smtp`) are written while their connection lasts. When that has ended, those that
/// are still held take its beginning as their time, so that a long connection is one attempt.
#[derive(Debug)]
pub(super) struct Reorder {
    /// What tells of transactions.
    transactions: RuleId,
    held: BTreeMap<Place, Evidence>,
    /// Where the transactions of a connection stand.
    begun: HashMap<Tuple, Vec<Place>>,
    count: u64,
    newest: Option<Timestamp>,
}

impl Reorder {
    /// Transactions are what `transactions` tells of.
    pub(super) fn new(transactions: RuleId) -> Self {
        Self {
            transactions,
            held: BTreeMap::new(),
            begun: HashMap::new(),
            count: 0,
            newest: None,
        }
    }

    pub(super) fn push(&mut self, evidence: Evidence) {
        let place = (evidence.time(), self.count);
        self.newest = self.newest.max(Some(place.0));
        self.held.insert(place, evidence);
        self.count += 1;
        if let Evidence::Syn(observation) = evidence {
            if observation.rule == self.transactions {
                let places = self.begun.entry(observation.tuple).or_default();
                if places.len() < MAX_TRANSACTIONS {
                    places.push(place);
                }
            } else {
                self.gather(&observation);
            }
        }
    }

    /// Puts what was written during `connection` at its beginning.
    fn gather(&mut self, connection: &Observation) {
        for place in self.begun.get_mut(&connection.tuple).into_iter().flatten() {
            if place.0 > connection.time
                && let Some(mut evidence) = self.held.remove(place)
            {
                evidence.set_time(connection.time);
                place.0 = connection.time;
                self.held.insert(*place, evidence);
            }
        }
    }

    /// The next in order; everything that is left, where `is_end`.
    pub(super) fn pop(&mut self, is_end: bool) -> Option<Evidence> {
        let (&(first, _), _) = self.held.first_key_value()?;
        let is_ripe = self
            .newest
            .is_some_and(|newest| newest.micros_since(first) >= HORIZON_MICROS);
        if !is_ripe && !is_end && self.held.len() <= MAX_HELD {
            return None;
        }
        let (place, evidence) = self.held.pop_first()?;
        if let Evidence::Syn(Observation { tuple, .. }) = evidence
            && let Some(places) = self.begun.get_mut(&tuple)
        {
            places.retain(|held| *held != place);
            if places.is_empty() {
                self.begun.remove(&tuple);
            }
        }
        Some(evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Response, ResponseKind};

    fn at(seconds: i64, number: u16) -> Evidence {
        Evidence::Response(Response {
            time: Timestamp::from_seconds(seconds),
            tuple: Tuple {
                source: [10, 0, 0, 1].into(),
                destination: [203, 0, 113, 1].into(),
                source_port: number,
                destination_port: 25,
            },
            isn: None,
            kind: ResponseKind::Accepted,
            outside: None,
            bytes: None,
        })
    }

    fn reordered(all: impl Iterator<Item = Evidence>) -> Vec<(i64, u16)> {
        let mut reorder = Reorder::new(RuleId(1));
        let mut out = Vec::new();
        let mut take = |evidence: Evidence| {
            let (Evidence::Response(Response { tuple, .. })
            | Evidence::Syn(Observation { tuple, .. })) = evidence;
            out.push((evidence.time().as_seconds(), tuple.source_port));
        };
        for evidence in all {
            reorder.push(evidence);
            while let Some(evidence) = reorder.pop(false) {
                take(evidence);
            }
            assert!(reorder.held.len() <= MAX_HELD);
        }
        while let Some(evidence) = reorder.pop(true) {
            take(evidence);
        }
        assert!(reorder.begun.is_empty());
        out
    }

    fn syn(seconds: i64, number: u16, rule: u32) -> Evidence {
        let Evidence::Response(Response { time, tuple, .. }) = at(seconds, number) else {
            panic!("it is one");
        };
        Evidence::Syn(Observation::new(time, RuleId(rule), tuple))
    }

    /// Rule 1 tells of transactions, rule 2 of connections.
    #[test]
    fn transactions_stand_where_their_connection_began() {
        let all = [
            syn(50, 1, 1),
            syn(900, 7, 1),
            syn(1500, 7, 1),
            syn(1000, 2, 1),
            syn(700, 7, 2),
            // A later connection between the same ends has its own.
            syn(3000, 7, 1),
            syn(2900, 7, 2),
        ];
        assert_eq!(
            reordered(all.into_iter()),
            [
                (50, 1),
                (700, 7),
                (700, 7),
                (700, 7),
                (1000, 2),
                (2900, 7),
                (2900, 7)
            ]
        );
    }

    #[test]
    fn an_hour_is_put_in_order_and_equal_times_stay_as_they_came() {
        let all = [
            at(3000, 1),
            at(3000, 2),
            at(10, 3),
            at(3000, 4),
            at(3599, 5),
        ];
        assert_eq!(
            reordered(all.into_iter()),
            [(10, 3), (3000, 1), (3000, 2), (3000, 4), (3599, 5)]
        );
    }

    #[test]
    fn what_comes_later_is_handed_on_as_it_comes() {
        let all = [at(0, 1), at(4000, 2), at(8000, 3), at(100, 4), at(8001, 5)];
        assert_eq!(
            reordered(all.into_iter()),
            [(0, 1), (4000, 2), (100, 4), (8000, 3), (8001, 5)]
        );
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let count = MAX_HELD + 1000;
        let all = (0..count).map(|_| at(5, 1)).chain([at(4, 2)]);
        let out = reordered(all);
        assert_eq!(out.len(), count + 1);
        assert_ne!(out[0], (4, 2));
    }
}
