//! How long what was seen is kept.

use std::time::Duration;

/// A day.
const DAY: Duration = Duration::from_secs(86_400);

/// What the history keeps, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Attempts by minute, device and destination.
    pub detail: Duration,
    /// Sums by day and device.
    pub days: Duration,
    /// Addresses before and after NAT: what `who` answers from.
    pub translations: Duration,
    /// Bytes of the history at the most; beyond them the oldest detail goes first.
    pub max_bytes: u64,
}

impl Default for Retention {
    /// 30 days of detail, a year of sums and some, 7 days of translations, 1 GiB.
    fn default() -> Self {
        Self {
            detail: 30 * DAY,
            days: 400 * DAY,
            translations: 7 * DAY,
            max_bytes: 1 << 30,
        }
    }
}
