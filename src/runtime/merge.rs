//! Several streams, each nearly in order, become one in the order of record time.
//!
//! Nothing is sorted whole. A stream is opened when its turn comes, so a rotated set is read file
//! after file; a buffer of 10 s of records puts neighbours right; what comes later still is marked.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::model::{Evidence, MICROS_PER_SECOND, Timestamp};

/// How far records may be out of order and still be put in order.
const REORDER_MICROS: i64 = 10 * MICROS_PER_SECOND;
/// Records held back for it at the most.
const REORDER_RECORDS: usize = 65_536;

/// The next record in the order of time, and whether it came too late for it.
pub(super) type Merged = (Evidence, bool);

/// Streams that wait for their turn, and those that are being read.
pub(super) struct Merge<P, S> {
    waiting: Vec<(Option<Timestamp>, P)>,
    open: Vec<Option<S>>,
    heads: BinaryHeap<Reverse<(Timestamp, usize, Ordered)>>,
    reorder: Reorder,
    ended: Vec<S>,
}

/// A piece of evidence as an item of a heap that is ordered by other things.
#[derive(Clone, Copy, Debug)]
struct Ordered(Evidence);

impl PartialEq for Ordered {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Ordered {}
impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Ordered {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl<P, S: Iterator<Item = Evidence>> Merge<P, S> {
    /// Merges the streams that `waiting` become, each with the time of its first record where that
    /// is known.
    pub(super) fn new(mut waiting: Vec<(Option<Timestamp>, P)>) -> Self {
        // The next to open is the last.
        waiting.sort_by_key(|(first, _)| Reverse(*first));
        Self {
            waiting,
            open: Vec::new(),
            heads: BinaryHeap::new(),
            reorder: Reorder::default(),
            ended: Vec::new(),
        }
    }

    /// The next record; `open` begins to read a stream.
    pub(super) fn next(&mut self, open: &mut impl FnMut(P) -> S) -> Option<Merged> {
        loop {
            if let Some(merged) = self.reorder.pop(false) {
                return Some(merged);
            }
            match self.next_head(open) {
                Some(evidence) => self.reorder.push(evidence),
                None => return self.reorder.pop(true),
            }
        }
    }

    /// The streams, once they have ended.
    pub(super) fn into_ended(self) -> Vec<S> {
        self.ended
    }

    fn next_head(&mut self, open: &mut impl FnMut(P) -> S) -> Option<Evidence> {
        // One stream alone is in order as far as it is.
        if let ([], true, [only]) = (
            self.waiting.as_slice(),
            self.heads.is_empty(),
            self.open.as_mut_slice(),
        ) {
            let next = only.as_mut().and_then(Iterator::next);
            if next.is_none() {
                self.ended.extend(only.take());
            }
            return next;
        }
        self.open_due(open);
        if self.waiting.is_empty() && self.open.len() == 1 {
            // The head that was read to find its place in time, before the rest of its stream.
            return self
                .heads
                .pop()
                .map(|Reverse((_, _, Ordered(evidence)))| evidence);
        }
        let Reverse((_, index, Ordered(evidence))) = self.heads.pop()?;
        self.refill(index);
        Some(evidence)
    }

    /// Opens the streams whose first record may come before the next one.
    fn open_due(&mut self, open: &mut impl FnMut(P) -> S) {
        loop {
            let next = self.heads.peek().map(|Reverse((time, ..))| *time);
            let is_due = match (self.waiting.last(), next) {
                (None, _) => false,
                (Some(_), None) | (Some((None, _)), _) => true,
                (Some((Some(first), _)), Some(next)) => first.plus_micros(-REORDER_MICROS) <= next,
            };
            if !is_due {
                return;
            }
            if let Some((_, pending)) = self.waiting.pop() {
                self.open.push(Some(open(pending)));
                self.refill(self.open.len() - 1);
            }
        }
    }

    fn refill(&mut self, index: usize) {
        match self.open[index].as_mut().and_then(Iterator::next) {
            Some(evidence) => {
                let head = (evidence.time(), index, Ordered(evidence));
                self.heads.push(Reverse(head));
            }
            None => self.ended.extend(self.open[index].take()),
        }
    }
}

/// Holds records back for a while, so that neighbours can be put in order.
#[derive(Debug, Default)]
struct Reorder {
    held: VecDeque<Evidence>,
    newest: Option<Timestamp>,
    released: Option<Timestamp>,
    late: VecDeque<Evidence>,
}

impl Reorder {
    fn push(&mut self, evidence: Evidence) {
        let time = evidence.time();
        if self.released.is_some_and(|released| time < released) {
            self.late.push_back(evidence);
            return;
        }
        self.newest = self.newest.max(Some(time));
        // Nearly always the last place; behind its equals, so that their order stays.
        let place = match self.held.back() {
            Some(last) if last.time() > time => {
                self.held.partition_point(|held| held.time() <= time)
            }
            _ => self.held.len(),
        };
        self.held.insert(place, evidence);
    }

    fn pop(&mut self, is_end: bool) -> Option<Merged> {
        if let Some(late) = self.late.pop_front() {
            return Some((late, true));
        }
        let first = self.held.front()?.time();
        let is_ripe = self
            .newest
            .is_some_and(|newest| newest.micros_since(first) >= REORDER_MICROS);
        if !is_ripe && !is_end && self.held.len() <= REORDER_RECORDS {
            return None;
        }
        self.released = Some(first);
        self.held.pop_front().map(|evidence| (evidence, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Observation, RuleId, Tuple};

    fn at(millis: i64) -> Observation {
        Observation::new(
            Timestamp::from_micros(millis * 1000),
            RuleId(0),
            Tuple {
                source: [10, 0, 0, 1].into(),
                destination: [203, 0, 113, 1].into(),
                source_port: 1,
                destination_port: 25,
            },
        )
    }

    /// Merges streams of milliseconds; answers them in order with their lateness, and the order in
    /// which the streams were opened.
    fn merge(streams: &[&[i64]], hinted: bool) -> (Vec<(i64, bool)>, Vec<usize>) {
        let waiting = streams.iter().enumerate().map(|(index, stream)| {
            let first = stream.first().filter(|_| hinted);
            (
                first.map(|&millis| Timestamp::from_micros(millis * 1000)),
                index,
            )
        });
        let mut merge = Merge::new(waiting.collect());
        let mut opened = Vec::new();
        let mut open = |index: usize| {
            opened.push(index);
            streams[index]
                .iter()
                .map(|&millis| Evidence::Syn(at(millis)))
                .collect::<Vec<_>>()
                .into_iter()
        };
        let merged = std::iter::from_fn(|| merge.next(&mut open))
            .map(|(evidence, late)| (evidence.time().as_micros() / 1000, late))
            .collect();
        (merged, opened)
    }

    #[test]
    fn streams_become_one_in_order() {
        let (merged, _) = merge(&[&[1, 4, 7], &[2, 3, 9], &[]], false);
        let expected: Vec<(i64, bool)> = [1, 2, 3, 4, 7, 9].map(|m| (m, false)).to_vec();
        assert_eq!(merged, expected);
    }

    #[test]
    fn a_rotated_set_is_opened_file_after_file() {
        let (merged, opened) = merge(
            &[&[400_000, 500_000], &[1, 300_000], &[320_000, 330_000]],
            true,
        );
        assert_eq!(opened, [1, 2, 0]);
        assert!(merged.is_sorted_by_key(|(millis, _)| *millis));
    }

    #[test]
    fn neighbours_are_put_right_and_later_ones_are_marked() {
        let (merged, _) = merge(
            &[&[
                10_000, 5_000, 12_000, 11_000, 40_000, 29_999, 30_000, 100_000, 500,
            ]],
            false,
        );
        assert_eq!(
            merged,
            [
                (5_000, false),
                (10_000, false),
                (11_000, false),
                (12_000, false),
                (29_999, false),
                (30_000, false),
                (40_000, false),
                (500, true),
                (100_000, false)
            ]
        );
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let many: Vec<i64> = std::iter::repeat_n(5, REORDER_RECORDS + 10)
            .chain([4])
            .collect();
        let (merged, _) = merge(&[&many], false);
        assert_eq!(merged.iter().filter(|(_, late)| *late).count(), 1);
        assert_eq!(merged.len(), many.len());
    }
}
