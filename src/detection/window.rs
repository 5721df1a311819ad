//! A threshold on the number of events within a sliding window, reached once.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Scored;
use crate::model::{Detector, Finding};

/// Seconds of the last events, of the device's own time, until the threshold is reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Threshold {
    events: VecDeque<u32>,
    is_reached: bool,
}

impl Threshold {
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
        let now = attempt.second;
        while self
            .events
            .front()
            .is_some_and(|&first| u64::from(now.saturating_sub(first)) > within.as_secs())
        {
            self.events.pop_front();
        }
        if self.events.len() == self.events.capacity() {
            // Doubling would leave half of it empty in every device.
            self.events.reserve_exact(self.events.len() / 4 + 2);
        }
        self.events.push_back(now);
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
            took: Duration::from_secs(now.saturating_sub(first).into()),
            within,
            new_groups: if detector == Detector::Burst {
                count
            } else {
                0
            },
            mail_lookups: 0,
            pace: None,
            normal_per_day: None,
        })
    }

    /// Begins to count again.
    pub(super) fn forget_events(&mut self) {
        self.events = VecDeque::new();
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        self.events.capacity() * size_of::<u32>()
    }
}
