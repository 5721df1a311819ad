//! A finding: what a detector has to say about a device, and the verdict that follows.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// The detectors by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detector {
    /// Many destination groups that the device never used before, in a short time.
    Burst,
    /// Many attempts in a short time, whatever their destinations.
    Volume,
}

impl Detector {
    /// All of them, in the order in which they weigh.
    pub const ALL: [Self; 2] = [Self::Burst, Self::Volume];

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
            Self::Burst => Verdict::Infected,
            Self::Volume => Verdict::Suspicious,
        }
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
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
    /// The time within which the threshold must be reached.
    pub within: Duration,
}

/// What is said about a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
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
            Self::Normal => "normal",
            Self::Suspicious => "suspicious",
            Self::Infected => "infected",
        })
    }
}
