//! A threshold on the number of events within a sliding window, reached once.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Scored;
use crate::model::{Detector, Finding, Timestamp};

/// Times of the last events, until the threshold is reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Threshold {
    events: VecDeque<Timestamp>,
    is_reached: bool,
}

impl Threshold {
    /// Whether it has been reached.
    pub(super) fn is_reached(&self) -> bool {
        self.is_reached
    }

    /// Moves all times by `micros`.
    pub(super) fn move_by(&mut self, micros: i64) {
        for event in &mut self.events {
            *event = event.plus_micros(micros);
        }
    }

    /// Forgets events after `now`.
    pub(super) fn forget_after(&mut self, now: Timestamp) {
        self.events.retain(|&event| event <= now);
    }

    /// Counts `attempt`; answers `detector`'s finding where it is the first that makes `count`
    /// events `within` the time.
    pub(super) fn count(
        &mut self,
        detector: Detector,
        attempt: &Scored,
        count: u32,
        within: Duration,
    ) -> Option<Finding> {
        if self.is_reached {
            return None;
        }
        let seconds = i64::try_from(within.as_secs()).unwrap_or(i64::MAX);
        while self
            .events
            .front()
            .is_some_and(|&first| attempt.time.seconds_since(first) > seconds)
        {
            self.events.pop_front();
        }
        self.events.push_back(attempt.time);
        let first = *self.events.front()?;
        if self.events.len() < count as usize {
            return None;
        }
        self.is_reached = true;
        self.events = VecDeque::new();
        Some(Finding {
            detector,
            score: f64::from(count),
            threshold: f64::from(count),
            at: attempt.time,
            at_attempt: attempt.number,
            took: Duration::from_secs(attempt.time.seconds_since(first).unsigned_abs()),
            within,
            new_groups: 0,
            mail_lookups: 0,
            pace: None,
            normal_per_day: None,
        })
    }
}
