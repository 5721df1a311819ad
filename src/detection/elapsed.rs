//! A device's own time: seconds that passed from one of its attempts to the next, added up.
//!
//! Detectors count by it, so that a clock that was set neither makes an alarm nor hides one. A step
//! ahead counts as seven days at the most, which is less than it takes to forget a group; a step back
//! counts as nothing, and what is told up to ten seconds out of order adds no time twice.

use serde::{Deserialize, Serialize};

use crate::model::{MICROS_PER_SECOND, Timestamp};

/// The most that one step can add: a clock set by years lets scores fall, and makes no group new.
const MAX_STEP: i64 = 7 * 86_400;
/// Records come in order but for so many seconds; what is told earlier than that comes from a clock
/// that was put back.
const REORDER: i64 = 10;

/// A device's own time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Elapsed {
    /// Second of the latest attempt, by the time that inputs bear.
    latest: Option<i64>,
    /// Seconds passed up to then.
    seconds: u32,
}

impl Elapsed {
    /// Takes something of the device's at `time`; answers the seconds that have passed for it.
    pub(super) fn note(&mut self, time: Timestamp) -> u32 {
        let second = time.as_seconds();
        let before = self.latest.unwrap_or(second);
        self.seconds = self.at(time);
        let is_out_of_order = second < before && before - second <= REORDER;
        self.latest = Some(if is_out_of_order { before } else { second });
        self.seconds
    }

    /// The seconds that will have passed at `time`.
    pub(super) fn at(&self, time: Timestamp) -> u32 {
        let second = time.as_seconds();
        let step = second.saturating_sub(self.latest.unwrap_or(second));
        let step = u32::try_from(step.clamp(0, MAX_STEP)).unwrap_or(0);
        self.seconds.saturating_add(step)
    }

    /// The seconds that had passed at the latest attempt.
    pub(super) fn seconds(&self) -> u32 {
        self.seconds
    }

    /// Has the clock be ahead by `micros`, to the second.
    pub(super) fn move_by(&mut self, micros: i64) {
        let seconds = micros.div_euclid(MICROS_PER_SECOND);
        self.latest = self.latest.map(|latest| latest.saturating_add(seconds));
    }

    /// Has nothing have happened after `now`; answers whether the clock was put back by more than
    /// records come out of order.
    pub(super) fn forget_after(&mut self, now: Timestamp) -> bool {
        let second = now.as_seconds();
        let ahead = self
            .latest
            .map_or(0, |latest| latest.saturating_sub(second));
        self.latest = self.latest.map(|latest| latest.min(second));
        ahead > REORDER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What has passed after attempts at these seconds.
    fn after(seconds: &[i64]) -> u32 {
        let mut elapsed = Elapsed::default();
        let noted = |second: &i64| elapsed.note(Timestamp::from_seconds(*second));
        seconds.iter().map(noted).last().unwrap()
    }

    #[test]
    fn steps_add_up_wherever_they_begin() {
        for start in [0, -5, 1_700_000_000] {
            assert_eq!(after(&[start, start + 3, start + 3, start + 100]), 100);
        }
    }

    #[test]
    fn out_of_order_adds_nothing_twice() {
        assert_eq!(after(&[0, 20, 12, 20, 11, 21]), 21);
    }

    #[test]
    fn a_clock_put_back_goes_on_from_there() {
        assert_eq!(after(&[1_000_000, 50, 60]), 10);
    }

    #[test]
    fn a_clock_set_ahead_counts_as_a_week() {
        let week = 7 * 86_400;
        assert_eq!(after(&[0, 1_700_000_000, 1_700_000_005]), week + 5);
        assert_eq!(after(&[i64::MIN, i64::MAX]), week);
    }
}
