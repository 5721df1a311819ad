//! Floor 2: the detectors. Each is one file that says what it claims, its parameters, and what it
//! cannot see; [`Detectors`] is the registry: one device's state of them all.
//!
//! Elapsed time enters in whole seconds, so that sources of different resolution agree, and is added up
//! for each device, so that clocks may be set.

mod burst;
mod elapsed;
mod groups;
mod novelty;
mod policy;
mod smarthosts;
mod volume;
mod window;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Finding, Group, Pace, Timestamp};
use crate::settings::Settings;

pub use smarthosts::{Smarthosts, Uses};

use elapsed::Elapsed;
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
    /// The same in seconds of the device's own time.
    second: u32,
    /// Which of the device's attempts it is, counted from 1.
    number: u64,
    /// Whether the device never used its destination group before.
    is_new_group: bool,
    /// Whether only others may send.
    is_against_policy: bool,
}

/// A rule about one device's attempts, fed in the order of time.
trait Detect {
    /// Takes an attempt; answers a finding where it reaches the threshold for the first time.
    fn observe(&mut self, attempt: &Scored, settings: &Settings) -> Option<Finding>;
}

/// One device's state of all detectors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detectors {
    elapsed: Elapsed,
    groups: KnownGroups,
    novelty: novelty::Novelty,
    policy: policy::Policy,
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
        let second = self.elapsed.note(contact.time);
        let is_unused = self.groups.is_new(contact.groups, second);
        let attempt = Scored {
            time: contact.time,
            second,
            number: contact.number,
            is_new_group: is_unused && !contact.is_smarthost,
            is_against_policy: contact.is_against_policy,
        };
        let registry: [&mut dyn Detect; 4] = [
            &mut self.novelty,
            &mut self.policy,
            &mut self.burst,
            &mut self.volume,
        ];
        for detector in registry {
            findings.extend(detector.observe(&attempt, settings));
        }
    }

    /// Takes a question of the device's for somebody's mail servers (MX), asked after that many of its
    /// attempts; adds what there is to say for the first time to `findings`.
    pub fn lookup(
        &mut self,
        time: Timestamp,
        number: u64,
        settings: &Settings,
        findings: &mut Vec<Finding>,
    ) {
        let second = self.elapsed.note(time);
        let finding = self
            .novelty
            .lookup(second, (time, number), &settings.novelty);
        findings.extend(finding);
    }

    /// The scores of `novelty` at `now`, each with the threshold at which it speaks.
    pub fn scores(&self, settings: &Settings, now: Timestamp) -> [(Pace, f64, f64); 3] {
        self.novelty.scores(self.elapsed.at(now), &settings.novelty)
    }

    /// Has the device know `group`, which it used last at `time`: of before it is judged. To be told in the
    /// order of those times.
    pub fn know(&mut self, group: Group, time: Timestamp) {
        let second = self.elapsed.note(time);
        if self.groups.is_new(&[group], second) {
            self.novelty.know();
        }
    }

    /// How long ago the device first used `group`, where it has known it since; at its latest attempt.
    pub fn used_for(&self, group: Group) -> Option<Duration> {
        self.groups.used_for(group, self.elapsed.seconds())
    }

    /// The groups that it knows.
    pub fn known_groups(&self) -> impl Iterator<Item = Group> {
        self.groups.iter(self.elapsed.seconds())
    }

    /// Forgives what was said: scores begin at zero and every detector may speak again. What the device
    /// knows it goes on knowing.
    pub fn forgive(&mut self) {
        self.novelty.forgive();
        self.policy.forgive();
        self.burst = burst::Burst::default();
        self.volume = volume::Volume::default();
    }
}

impl Detectors {
    /// Moves all times by `micros`: they were told by another clock.
    pub fn move_by(&mut self, micros: i64) {
        self.elapsed.move_by(micros);
    }

    /// Has nothing have happened after `now`. Where the clock was put back since, nobody knows how long
    /// ago it was: scores begin at zero, and that makes no alarm.
    pub fn forget_after(&mut self, now: Timestamp) {
        if self.elapsed.forget_after(now) {
            self.novelty.forget_scores();
            self.burst.forget_events();
            self.volume.forget_events();
        }
    }

    /// Bytes that it takes, with what it has on the heap.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.groups.heap()
            + self.novelty.heap()
            + self.burst.heap()
            + self.volume.heap()
    }
}

#[cfg(test)]
pub(crate) fn scored(seconds: i64, number: u64, is_new_group: bool) -> Scored {
    Scored {
        time: Timestamp::from_seconds(seconds),
        second: u32::try_from(seconds).unwrap(),
        number,
        is_new_group,
        is_against_policy: false,
    }
}

#[cfg(test)]
mod tests;
