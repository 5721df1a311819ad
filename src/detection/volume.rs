//! `volume`: a device makes very many attempts, whatever their destinations.
//!
//! Claims: 200 attempts within 1 h. It alone sees a bot that sends through one relay, and it says
//! no more than `suspicious`: newsletters, cameras and blocked printers make volume to one server.
//!
//! Cannot see: anything slower.

use serde::{Deserialize, Serialize};

use super::window::Threshold;
use super::{Detect, Scored};
use crate::model::{Detector, Finding};
use crate::settings::Settings;

/// Attempts, counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Volume(Threshold);

impl Volume {
    /// Begins to count again.
    pub(super) fn forget_events(&mut self) {
        self.0.forget_events();
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        self.0.heap()
    }
}

impl Detect for Volume {
    fn observe(&mut self, attempt: &Scored, settings: &Settings) -> Option<Finding> {
        let parameters = settings.volume;
        self.0.count(
            Detector::Volume,
            attempt,
            parameters.attempts,
            parameters.within,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::scored;

    fn speaks_at(seconds: impl IntoIterator<Item = i64>) -> Option<u64> {
        let mut volume = Volume::default();
        (1..)
            .zip(seconds)
            .find_map(|(number, second)| {
                volume.observe(&scored(second, number, false), &Settings::default())
            })
            .map(|finding| finding.at_attempt)
    }

    #[test]
    fn two_hundred_in_an_hour_and_not_one_less() {
        assert_eq!(speaks_at((0..200).map(|i| i * 18)), Some(200));
        assert_eq!(speaks_at((0..199).map(|i| i * 18)), None);
        assert_eq!(speaks_at((0..2000).map(|i| i * 19)), None);
    }
}
