//! `policy`: a device sends by itself where only declared mail servers may.
//!
//! Claims: the first attempt of a device that is none of `mail_servers`, where any are named; nothing is
//! estimated. What follows from it is the operator's choice (M3AAWG recommends to block port 25 for all
//! but mail servers).
//!
//! Cannot see: misuse of a declared mail server.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Detect, Scored};
use crate::model::{Detector, Finding};
use crate::settings::Settings;

/// Whether it has spoken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Policy {
    has_spoken: bool,
}

impl Policy {
    /// May speak again.
    pub(super) fn forgive(&mut self) {
        self.has_spoken = false;
    }
}

impl Detect for Policy {
    fn observe(&mut self, attempt: &Scored, _: &Settings) -> Option<Finding> {
        if self.has_spoken || !attempt.is_against_policy {
            return None;
        }
        self.has_spoken = true;
        Some(Finding {
            detector: Detector::Policy,
            score: 1.0,
            threshold: 1.0,
            at: attempt.time,
            at_attempt: attempt.number,
            took: Duration::ZERO,
            within: Duration::ZERO,
            new_groups: u32::from(attempt.is_new_group),
            mail_lookups: 0,
            pace: None,
            normal_per_day: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::scored;

    #[test]
    fn the_first_violation_and_no_other() {
        let mut policy = Policy::default();
        let settings = Settings::default();
        let allowed = scored(0, 1, true);
        let violation = Scored {
            is_against_policy: true,
            ..scored(5, 2, true)
        };
        assert_eq!(policy.observe(&allowed, &settings), None);
        let finding = policy.observe(&violation, &settings).unwrap();
        assert_eq!((finding.at_attempt, finding.score), (2, 1.0));
        assert_eq!(policy.observe(&violation, &settings), None);
        policy.forgive();
        assert!(policy.observe(&violation, &settings).is_some());
    }
}
