//! `burst`: a device contacts many mail services it never used before, in a short time.
//!
//! Claims: 10 distinct new destination groups (/24, /48) within 1 h. A mail client uses the few
//! servers of its provider, a bot the MX of every recipient. The figures are an operator's rule of
//! thumb: readable at once, and above the eight /24 that a large hosted mail service spreads over. It
//! explains what `novelty` says, and is never the reason of a block by itself: no bound on its false
//! alarms is known.
//!
//! Cannot see: a bot that sends through one relay (`volume` may), one that takes more than 6 min
//! for each new group. Speaks wrongly of a mail server, or of a probe of port 25, that nobody
//! declared.

use serde::{Deserialize, Serialize};

use super::window::Threshold;
use super::{Detect, Scored};
use crate::model::{Detector, Finding};
use crate::settings::Settings;

/// New groups, counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Burst(Threshold);

impl Burst {
    /// Begins to count again.
    pub(super) fn forget_events(&mut self) {
        self.0.forget_events();
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        self.0.heap()
    }
}

impl Detect for Burst {
    fn observe(&mut self, attempt: &Scored, settings: &Settings) -> Option<Finding> {
        if !attempt.is_new_group {
            return None;
        }
        let parameters = settings.burst;
        self.0.count(
            Detector::Burst,
            attempt,
            parameters.groups,
            parameters.within,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::scored;

    /// The attempt that makes it speak, for new groups at these seconds.
    fn speaks_at(seconds: impl IntoIterator<Item = i64>) -> Option<u64> {
        let mut burst = Burst::default();
        (1..)
            .zip(seconds)
            .find_map(|(number, second)| {
                burst.observe(&scored(second, number, true), &Settings::default())
            })
            .map(|finding| finding.at_attempt)
    }

    #[test]
    fn ten_new_groups_in_an_hour_and_not_nine() {
        assert_eq!(speaks_at((0..10).map(|i| i * 400)), Some(10));
        assert_eq!(speaks_at((0..9).map(|i| i * 400)), None);
    }

    #[test]
    fn the_hour_slides() {
        assert_eq!(speaks_at((0..50).map(|i| i * 401)), None);
        assert_eq!(
            speaks_at((0..5).map(|i| i * 3600).chain((0..10).map(|i| 50_000 + i))),
            Some(15)
        );
    }

    #[test]
    fn known_groups_and_a_second_burst_are_silent() {
        let mut burst = Burst::default();
        let settings = Settings::default();
        let mut spoken = 0;
        for number in 0..100 {
            assert_eq!(burst.observe(&scored(0, number, false), &settings), None);
            spoken += usize::from(burst.observe(&scored(0, number, true), &settings).is_some());
        }
        assert_eq!(spoken, 1);
    }
}
