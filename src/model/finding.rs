//! A finding: what a detector has to say about a device, and the verdict that follows.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// The detectors by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detector {
    /// Destination groups that the device never used before come faster than any honest use of mail
    /// would bring them.
    Novelty,
    /// Only the declared mail servers may send, and the device is none of them.
    Policy,
    /// Many destination groups that the device never used before, in a short time.
    Burst,
    /// Many attempts in a short time, whatever their destinations.
    Volume,
}

impl Detector {
    /// All of them, in the order in which they weigh.
    pub const ALL: [Self; 4] = [Self::Novelty, Self::Policy, Self::Burst, Self::Volume];

    /// The detector of that name, as [`Display`](fmt::Display) writes it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|detector| detector.to_string() == name)
    }
}

impl Detector {
    /// What its findings amount to.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Novelty => Verdict::Infected,
            Self::Policy | Self::Burst | Self::Volume => Verdict::Suspicious,
        }
    }

    /// How far its findings can be trusted, however severe what they say would be.
    pub fn confidence(self) -> Confidence {
        match self {
            Self::Novelty => Confidence::High,
            Self::Policy => Confidence::Certain,
            Self::Burst => Confidence::Medium,
            Self::Volume => Confidence::Low,
        }
    }
}

/// How far a finding can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Honest devices do the same every day.
    Low,
    /// A rule of thumb: no bound on its false alarms is known.
    Medium,
    /// Its false alarms are bounded, as long as honest devices behave as the settings say.
    High,
    /// It says only what was seen.
    Certain,
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Certain => "certain",
        })
    }
}

/// Which of the clocks of [`Detector::Novelty`] decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// The one for bots that hurry.
    Fast,
    /// The one for those that take days.
    Slow,
    /// The one that counts questions for mail servers, too.
    Lookups,
}

impl Pace {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fast, Self::Slow, Self::Lookups];

    /// The pace of that name, as [`Display`](fmt::Display) writes it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|pace| pace.to_string() == name)
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fast => "fast",
            Self::Slow => "slow",
            Self::Lookups => "lookups",
        })
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Novelty => "novelty",
            Self::Policy => "policy",
            Self::Burst => "burst",
            Self::Volume => "volume",
        })
    }
}

/// A detector's alarm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Who says so.
    pub detector: Detector,
    /// The score that reached the threshold.
    pub score: f64,
    /// The threshold.
    pub threshold: f64,
    /// Time of the attempt that decided.
    pub at: Timestamp,
    /// Which of the device's attempts decided, counted from 1.
    pub at_attempt: u64,
    /// Time from the first of the deciding attempts to the last.
    pub took: Duration,
    /// The time within which the threshold must be reached; zero where there is none.
    pub within: Duration,
    /// Destination groups among the deciding attempts that the device had never used before.
    pub new_groups: u32,
    /// Questions for mail servers (MX) among what decided.
    pub mail_lookups: u32,
    /// Of [`Detector::Novelty`]: which clock decided.
    pub pace: Option<Pace>,
    /// Of [`Detector::Novelty`]: new groups a day that are normal.
    pub normal_per_day: Option<f64>,
}

/// What is said about a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Somebody said that it may: whatever was found, nothing follows from it.
    Allowed,
    /// Below every limit.
    Normal,
    /// Worth a look; never the reason of a block.
    Suspicious,
    /// Sends like a bot.
    Infected,
}

impl Verdict {
    /// What `findings` about one device amount to.
    pub fn of(findings: &[Finding]) -> Self {
        findings
            .iter()
            .map(|finding| finding.detector.verdict())
            .max()
            .unwrap_or(Self::Normal)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Allowed => "allowed",
            Self::Normal => "normal",
            Self::Suspicious => "suspicious",
            Self::Infected => "infected",
        })
    }
}
