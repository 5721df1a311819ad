//! Floor 2: the detectors. Each is one file that says what it claims, its parameters, and what it
//! cannot see; [`Detectors`] is the registry: one device's state of them all.
//!
//! Elapsed time enters in whole seconds, so that sources of different resolution agree.

mod burst;
mod groups;
mod smarthosts;
mod volume;
mod window;

use serde::{Deserialize, Serialize};

use crate::model::{Finding, Group, Timestamp};
use crate::settings::Settings;

pub use smarthosts::{Smarthosts, Uses};

use groups::KnownGroups;

/// A device's attempt, as the detectors are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact<'a> {
    /// When it was made.
    pub time: Timestamp,
    /// Which of the device's attempts it is, counted from 1.
    pub number: u64,
    /// The destination's group first; after it those that are known to be the same mail service.
    pub groups: &'a [Group],
    /// Whether its destination is a mail service that clean devices here use.
    pub is_smarthost: bool,
    /// Whether only others may send.
    pub is_against_policy: bool,
}

/// An attempt as the detectors see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scored {
    /// When it was made.
    time: Timestamp,
    /// Which of the device's attempts it is, counted from 1.
    number: u64,
    /// Whether the device never used its destination group before.
    is_new_group: bool,
}

/// A rule about one device's attempts, fed in the order of time.
trait Detect {
    /// Takes an attempt; answers a finding where it reaches the threshold for the first time.
    fn observe(&mut self, attempt: &Scored, settings: &Settings) -> Option<Finding>;
}

/// One device's state of all detectors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detectors {
    groups: KnownGroups,
    burst: burst::Burst,
    volume: volume::Volume,
}

impl Detectors {
    /// Takes the device's next attempt; adds what the detectors have to say for the first time to
    /// `findings`.
    pub fn observe(
        &mut self,
        contact: &Contact<'_>,
        settings: &Settings,
        findings: &mut Vec<Finding>,
    ) {
        let Contact { time, number, .. } = *contact;
        let Some(&group) = contact.groups.first() else {
            return;
        };
        if !self.burst.listens() && !self.volume.listens() {
            return;
        }
        let attempt = Scored {
            time,
            number,
            // Groups are remembered for `burst` alone.
            is_new_group: self.burst.listens() && self.groups.is_new(group, time),
        };
        let registry: [&mut dyn Detect; 2] = [&mut self.burst, &mut self.volume];
        for detector in registry {
            findings.extend(detector.observe(&attempt, settings));
        }
    }
}

impl Detectors {
    /// Moves all times by `micros`: they were told by another clock.
    pub fn move_by(&mut self, micros: i64) {
        self.groups.move_by(micros);
        self.burst.threshold().move_by(micros);
        self.volume.threshold().move_by(micros);
    }

    /// Forgets when things happened that cannot have happened after `now`: a clock that was put back
    /// makes no alarm.
    pub fn forget_after(&mut self, now: Timestamp) {
        self.groups.forget_after(now);
        self.burst.threshold().forget_after(now);
        self.volume.threshold().forget_after(now);
    }
}

#[cfg(test)]
pub(crate) fn scored(seconds: i64, number: u64, is_new_group: bool) -> Scored {
    Scored {
        time: Timestamp::from_seconds(seconds),
        number,
        is_new_group,
    }
}
