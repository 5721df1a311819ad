//! Puts in order what logs of connections tell: they write a connection down when it has ended, and an
//! attempt counts when it began, so each line is late by as long as its connection lasted.

use std::collections::BTreeMap;

use crate::model::{Evidence, MICROS_PER_SECOND, Timestamp};

/// An attempt is put in its place where its connection lasted no longer than this beyond others'. Mail
/// takes seconds; hosts drop what is idle for longer (RFC 5321, 4.5.3.2: ten minutes at the most).
pub(super) const HORIZON_MICROS: i64 = 3600 * MICROS_PER_SECOND;
/// Pieces of evidence held back for it at the most: two for each record, some 20 MB.
const MAX_HELD: usize = 2 * 65_536;

/// Holds evidence back until nothing earlier is to be expected. What comes later than that is handed on at
/// once; whoever merges streams counts it as late.
#[derive(Debug, Default)]
pub(super) struct Reorder {
    /// By time, and of equal times in the order in which they came.
    held: BTreeMap<(Timestamp, u64), Evidence>,
    count: u64,
    newest: Option<Timestamp>,
}

impl Reorder {
    pub(super) fn push(&mut self, evidence: Evidence) {
        let time = evidence.time();
        self.newest = self.newest.max(Some(time));
        self.held.insert((time, self.count), evidence);
        self.count += 1;
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
        self.held.pop_first().map(|(_, evidence)| evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Response, ResponseKind, Tuple};

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
        let mut reorder = Reorder::default();
        let mut out = Vec::new();
        let mut take = |evidence: Evidence| match evidence {
            Evidence::Response(response) => {
                out.push((response.time.as_seconds(), response.tuple.source_port))
            }
            Evidence::Syn(_) => panic!("there is none"),
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
        out
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
