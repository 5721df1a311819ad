//! The flags of `watch`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::config::{ConfigFile, Configurable};
use super::{Allowing, Counting, lay_history_over, lay_leases_over, lay_zone_over, some};
use crate::settings::Router;
use crate::settings::config::{Key, Resolved};
use crate::settings::parse::{Zone, duration};
use crate::settings::rules::{At, BackendChoice, Prefix};

/// The flags of `watch`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Exit status: 0 done, 1 nothing could be watched, 2 wrong usage; with --exit-code also 3 where at \
least one device is infected, and 4 where something was not seen.

Examples:
  smtpwatch watch
  smtpwatch watch --for 10m
  smtpwatch watch --source capture:eth1 --lan 198.51.100.0/24
  smtpwatch watch --format json | jq 'select(.event_type == \"finding\")'"
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Watch {
    /// Where from: auto (the best that works here), nflog, kmsg, journal, conntrack, `file:PATH`, `capture:INTERFACE`;
    /// several count an attempt once [default: auto].
    #[arg(long, value_name = "SOURCE", value_delimiter = ',')]
    source: Vec<Source>,
    /// What follows from a finding [default: alert].
    #[arg(long, value_enum)]
    mode: Option<Mode>,
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
    /// Who may send.
    #[command(flatten)]
    allowing: Allowing,
    /// DHCP leases that name the devices; can be given again [default: where DHCP servers keep them].
    #[arg(long, value_name = "FILE")]
    leases: Vec<PathBuf>,
    /// A router in the LAN that no route of this machine names; can be given again.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    router: Vec<Router>,
    /// Where the history is kept; - keeps none [default: /var/lib/smtpwatch].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Ask no name server what inside addresses are called.
    #[arg(long)]
    no_names: bool,
    /// Write everything that the answer depends on to this file, for smtpwatch replay.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// The rules that are installed for it.
    #[command(flatten)]
    pub rules: Installing,
    /// Zone of the times shown [default: the system's].
    #[arg(long, value_name = "ZONE")]
    timezone: Option<Zone>,
    /// Rows of the report's table, and destinations shown for a device.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,
    /// Let the exit status tell the answer.
    #[arg(long)]
    pub exit_code: bool,
    /// No notes on standard error; errors and alerts still.
    #[arg(long, short)]
    pub quiet: bool,
    /// The configuration.
    #[command(flatten)]
    config: ConfigFile,
}

/// The rules, and what becomes of them.
#[derive(Clone, Debug, Args)]
pub struct Installing {
    /// The kernel's firewall to use; auto is nft where it works [default: auto].
    #[arg(long, value_enum)]
    backend: Option<BackendChoice>,
    /// Where the rules look [default: prerouting with nft, forward with iptables].
    #[arg(long, value_enum)]
    at: Option<At>,
    /// NFLOG group [default: 25].
    #[arg(long, value_name = "N")]
    group: Option<u16>,
    /// What the records of the rules begin with [default: "smtpwatch: "; with --no-rules any].
    #[arg(long, value_name = "TEXT")]
    prefix: Option<Prefix>,
    /// Install no rules: somebody else's log what is to be seen.
    #[arg(long, conflicts_with_all = ["keep_rules", "backend", "at"])]
    pub no_rules: bool,
    /// Leave the rules when it ends.
    #[arg(long)]
    keep_rules: bool,
    /// Times in ten minutes that rules which another program took away are put back [default: 3].
    #[arg(long, value_name = "N")]
    max_heals: Option<u32>,
}

impl Installing {
    fn lay_over(&self, resolved: &mut Resolved) {
        resolved.flag(Key::Backend, self.backend, |config, it| config.backend = it);
        resolved.flag(Key::At, self.at, |config, it| config.at = Some(it));
        resolved.flag(Key::Group, self.group, |config, it| config.group = it);
        resolved.flag(Key::Prefix, self.prefix.clone(), |config, it| {
            config.prefix = it;
        });
        let keep = self.keep_rules.then_some(true);
        resolved.flag(Key::Keep, keep, |config, it| config.keep = it);
        resolved.flag(Key::MaxHeals, self.max_heals, |config, it| {
            config.max_heals = it;
        });
    }
}

impl Configurable for Watch {
    fn config_file(&self) -> Option<&Path> {
        self.config.path()
    }

    fn lay_over(&self, resolved: &mut Resolved) {
        self.counting.lay_over(resolved);
        self.allowing.lay_over(resolved);
        self.rules.lay_over(resolved);
        lay_zone_over(self.timezone.as_ref(), resolved);
        lay_leases_over(&self.leases, resolved);
        resolved.flag(Key::Routers, some(&self.router), |config, it| {
            config.routers = it;
        });
        resolved.flag(Key::Source, some(&self.source), |config, it| {
            config.source = it;
        });
        resolved.flag(Key::Mode, self.mode, |config, it| config.mode = it);
        let reverse_dns = self.no_names.then_some(false);
        resolved.flag(Key::ReverseDns, reverse_dns, |config, it| {
            config.reverse_dns = it;
        });
        lay_history_over(self.state_dir.as_ref(), resolved);
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
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "nflog" => Ok(Self::Nflog),
            None if text == "kmsg" => Ok(Self::Kmsg),
            None if text == "conntrack" => Ok(Self::Conntrack),
            None if text == "journal" => Ok(Self::Journal),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.to_owned())),
            Some(("capture", interface)) if !interface.is_empty() => {
                Ok(Self::Capture(interface.to_owned()))
            }
            _ => Err("no such source; give auto, nflog, kmsg, journal, conntrack, file:PATH or capture:INTERFACE".to_owned()),
        }
    }
}

/// As it is read.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Nflog => f.write_str("nflog"),
            Self::Kmsg => f.write_str("kmsg"),
            Self::Capture(interface) => write!(f, "capture:{interface}"),
            Self::Conntrack => f.write_str("conntrack"),
            Self::Journal => f.write_str("journal"),
            Self::File(path) => write!(f, "file:{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_by_name() {
        let source = |text: &str| text.parse::<Source>();
        assert_eq!(source("auto"), Ok(Source::Auto));
        assert_eq!(
            source("capture:eth1.7"),
            Ok(Source::Capture("eth1.7".to_owned()))
        );
        for text in ["nflog", "kmsg", "journal", "conntrack", "file:/a:b"] {
            assert_eq!(source(text).unwrap().to_string(), text);
        }
        for text in ["", "pcap", "capture", "capture:", "nflog:5"] {
            assert!(source(text).is_err(), "{text}");
        }
    }
}
