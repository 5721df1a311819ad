//! The flags of `replay`.

use std::path::PathBuf;

use clap::Args;
use jiff::tz::TimeZone;

use super::{Print, or_system};
use crate::settings::parse::Zone;

/// The flags of `replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "With --json each event is a line, the same bytes as smtpwatch watch --json printed while it was
recorded; else the report that the run ends with.

Examples:
  smtpwatch watch --record /tmp/monday.jsonl
  smtpwatch replay /tmp/monday.jsonl
  smtpwatch replay --json /tmp/monday.jsonl | grep finding"
)]
pub struct Replay {
    /// A recording that smtpwatch watch --record has written.
    #[arg(value_name = "FILE")]
    pub recording: PathBuf,
    /// Zone of the times shown [default: the system's].
    #[arg(long, value_name = "ZONE")]
    timezone: Option<Zone>,
    /// Rows of the table, and destinations shown for a device.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,
    /// How and where to print.
    #[command(flatten)]
    pub print: Print,
}

impl Replay {
    /// The zone of output.
    pub fn zone(&self) -> TimeZone {
        or_system(self.timezone.as_ref().map(Zone::zone))
    }
}
