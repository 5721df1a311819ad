//! What the detectors promise together.
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]

use super::*;
use crate::model::Detector;

pub(super) fn group(index: u32) -> Group {
    Group::of(std::net::Ipv4Addr::from(index << 8).into())
}

/// A device under test: its attempts are counted.
#[derive(Clone, Default)]
pub(super) struct Subject {
    pub(super) detectors: Detectors,
    pub(super) settings: Settings,
    pub(super) attempts: u64,
    pub(super) findings: Vec<Finding>,
}

impl Subject {
    /// An attempt at `second` to a server of that group.
    pub(super) fn contacts(&mut self, second: i64, index: u32) {
        self.attempts += 1;
        let contact = Contact {
            time: Timestamp::from_seconds(second),
            number: self.attempts,
            groups: &[group(index)],
            is_smarthost: false,
            is_against_policy: false,
        };
        self.detectors
            .observe(&contact, &self.settings, &mut self.findings);
    }

    /// A question for mail servers.
    pub(super) fn asks(&mut self, second: i64) {
        let time = Timestamp::from_seconds(second);
        self.detectors
            .lookup(time, self.attempts, &self.settings, &mut self.findings);
    }

    /// What `novelty` said.
    pub(super) fn alarm(&self) -> Option<&Finding> {
        self.findings
            .iter()
            .find(|finding| finding.detector == Detector::Novelty)
    }
}

#[test]
fn a_burst_alarms_at_the_eighth_and_says_since_when() {
    let mut bot = Subject::default();
    for index in 0..8 {
        assert_eq!(bot.alarm(), None);
        bot.contacts(1_700_000_000 + i64::from(index) * 6, index);
    }
    let alarm = bot.alarm().unwrap();
    assert_eq!((alarm.new_groups, alarm.took.as_secs()), (8, 42));
    assert_eq!((alarm.at_attempt, alarm.pace), (8, Some(Pace::Fast)));
    assert!(alarm.score >= alarm.threshold && alarm.score < alarm.threshold + 1.0);
}

#[test]
fn a_bot_that_asks_for_each_server_alarms_at_the_sixth() {
    let mut bot = Subject::default();
    for index in 0..6 {
        assert_eq!(bot.alarm(), None);
        bot.asks(i64::from(index) * 6);
        bot.contacts(i64::from(index) * 6, index);
    }
    let alarm = bot.alarm().unwrap();
    assert_eq!(alarm.pace, Some(Pace::Lookups));
    assert_eq!((alarm.new_groups, alarm.mail_lookups), (6, 6));
}
