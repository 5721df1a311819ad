//! The only room that looks at a clock.

use std::time::Instant;

use crate::model::Timestamp;

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "this is the clock's room")]
pub(crate) fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
}

/// A moment to measure elapsed time from.
#[expect(clippy::disallowed_methods, reason = "this is the clock's room")]
pub(crate) fn moment() -> Instant {
    Instant::now()
}
