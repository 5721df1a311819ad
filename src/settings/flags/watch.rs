//! The flags of `watch`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;

use super::{Counting, or_system, zone};
use crate::settings::rules::{At, BackendChoice, GROUP, PartialRules, Prefix};
use crate::settings::{Ports, Router};

/// The flags of `watch`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 done, 1 nothing could be watched, 2 wrong usage; with --exit-code also 3 where at \
least one device is infected, and 4 where something was not seen.

Examples:
  smtpwatch watch
  smtpwatch watch --for 10m
  smtpwatch watch --source capture:eth1 --lan 198.51.100.0/24
  smtpwatch watch --format json | jq 'select(.event_type == \"finding\")'"
)]
pub struct Watch {
    /// Where from: auto (the best that works here), nflog, kmsg, journal, conntrack, file:PATH, capture:INTERFACE; several
    /// count an attempt once.
    #[arg(long, value_name = "SOURCE", value_parser = source, value_delimiter = ',', default_value = "auto")]
    pub source: Vec<Source>,
    /// What follows from a finding.
    #[arg(long, value_enum, default_value_t = Mode::Alert)]
    pub mode: Mode,
    /// End after this time (90s, 10m, 12h, 7d), with the report; else at q, Ctrl-C or SIGTERM.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub time: Option<Duration>,
    /// A live table on a terminal, lines elsewhere; or one JSON event a line.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Short for --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// With --format json, the kinds of events to print.
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',')]
    events: Vec<EventKind>,
    /// What counts.
    #[command(flatten)]
    pub counting: Counting,
    /// DHCP leases that name the devices; can be given again [default: where DHCP servers keep them].
    #[arg(long, value_name = "FILE")]
    pub leases: Vec<PathBuf>,
    /// A router in the LAN that no route of this machine names; can be given again.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub router: Vec<Router>,
    /// Where the history is kept; - keeps none.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/smtpwatch")]
    pub state_dir: PathBuf,
    /// Write everything that the answer depends on to this file, for smtpwatch replay.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// The rules that are installed for it.
    #[command(flatten)]
    pub rules: Installing,
    /// Zone of the times shown [default: the system's].
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    pub timezone: Option<TimeZone>,
    /// Rows of the report's table, and destinations shown for a device.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,
    /// Let the exit status tell the answer.
    #[arg(long)]
    pub exit_code: bool,
    /// No notes on standard error; errors and alerts still.
    #[arg(long, short)]
    pub quiet: bool,
}

/// The rules, and what becomes of them.
#[derive(Debug, Args)]
pub struct Installing {
    /// The kernel's firewall to use; auto is nft where it works.
    #[arg(long, value_enum, default_value_t)]
    pub backend: BackendChoice,
    /// Where the rules look [default: prerouting with nft, forward with iptables].
    #[arg(long, value_enum)]
    at: Option<At>,
    /// NFLOG group [default: 25].
    #[arg(long, value_name = "N")]
    group: Option<u16>,
    /// What the records of the rules begin with [default: "smtpwatch: "; with --no-rules any].
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<Prefix>,
    /// Install no rules: somebody else's log what is to be seen.
    #[arg(long, conflicts_with_all = ["keep_rules", "backend", "at"])]
    pub no_rules: bool,
    /// Leave the rules when it ends.
    #[arg(long)]
    pub keep_rules: bool,
    /// Times in ten minutes that rules which another program took away are put back.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub max_heals: usize,
}

impl Installing {
    /// What was said about the rules that watch `ports`.
    pub fn partial(&self, ports: &Ports) -> PartialRules {
        PartialRules {
            ports: Some(ports.clone()),
            via: None,
            at: self.at,
            group: self.group,
            prefix: self.prefix.clone(),
        }
    }

    /// The NFLOG group to read.
    pub fn group(&self) -> u16 {
        self.group.unwrap_or(GROUP)
    }
}

/// Where observations come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The best that works here.
    Auto,
    /// Packets that a rule hands to user space.
    Nflog,
    /// The kernel's ring buffer.
    Kmsg,
    /// Frames on an interface.
    Capture(String),
    /// The kernel's connection tracking.
    Conntrack,
    /// The kernel's messages in the journal.
    Journal,
    /// A log file that is followed.
    File(String),
}

/// What follows from a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// It is shown and kept.
    Observe,
    /// It is said on standard error at once, too.
    Alert,
}

/// How events are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: schema smtpwatch.event.v1.
    Json,
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EventKind {
    /// A connection was tried.
    Attempt,
    /// It became known how an attempt ended.
    Outcome,
    /// A connection was tried from an address that is not the sender's.
    Spoofed,
    /// A detector has something to say.
    Finding,
    /// Several machines stand behind a device.
    Shared,
    /// Events were lost.
    Loss,
    /// The means of seeing changed.
    Health,
    /// The report at the end.
    Report,
}

impl Watch {
    /// The kinds of events to print: all, where none are named.
    pub fn events(&self) -> Vec<EventKind> {
        if self.events.is_empty() {
            EventKind::value_variants().to_vec()
        } else {
            self.events.clone()
        }
    }

    /// The format asked for, whichever way.
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }

    /// The zone of output.
    pub fn zone(&self) -> TimeZone {
        or_system(self.timezone.as_ref())
    }

    /// Where the history is kept, where one is.
    pub fn state_dir(&self) -> Option<&std::path::Path> {
        (self.state_dir.as_os_str() != "-").then_some(&self.state_dir)
    }
}

fn source(text: &str) -> Result<Source, String> {
    match text.split_once(':') {
        None if text == "auto" => Ok(Source::Auto),
        None if text == "nflog" => Ok(Source::Nflog),
        None if text == "kmsg" => Ok(Source::Kmsg),
        None if text == "conntrack" => Ok(Source::Conntrack),
        None if text == "journal" => Ok(Source::Journal),
        Some(("file", path)) if !path.is_empty() => Ok(Source::File(path.to_owned())),
        Some(("capture", interface)) if !interface.is_empty() => {
            Ok(Source::Capture(interface.to_owned()))
        }
        _ => Err("no such source; give auto, nflog, kmsg, journal, conntrack, file:PATH or capture:INTERFACE".to_owned()),
    }
}

/// Reads a duration in one unit: `90s`, `10m`, `12h`, `7d`, `1w`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || "not a duration; give a number and a unit, such as 90s, 10m, 12h or 7d".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    match number.checked_mul(seconds) {
        Some(seconds @ 1..=3_153_600_000) => Ok(Duration::from_secs(seconds)),
        _ => Err("not a duration between a second and a hundred years".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("12h", 43_200), ("1w", 604_800)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "10",
            "m",
            "-1s",
            "1.5h",
            "0s",
            "99999999999999w",
            "5 m",
            "1y",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sources_by_name() {
        assert_eq!(source("auto"), Ok(Source::Auto));
        assert_eq!(
            source("capture:eth1.7"),
            Ok(Source::Capture("eth1.7".to_owned()))
        );
        for text in ["", "pcap", "capture", "capture:", "nflog:5"] {
            assert!(source(text).is_err(), "{text}");
        }
    }
}
