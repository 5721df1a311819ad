//! The flags of `who`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;

use super::config::{ConfigFile, Configurable};
use super::{FlagError, lay_history_over, lay_zone_over, time};
use crate::model::Timestamp;
use crate::settings::config::Resolved;
use crate::settings::parse::{Zone, duration};

/// The flags of `who`.
#[derive(Debug, Args)]
#[command(
    after_help = "An abuse mail names your public address, a time and its zone; a port makes the answer one device. It is answered
from what smtpwatch watch has kept: connections as they were before and after NAT, for 7 days. Each question is
written down, with who asked it.

Exit status: 0 a device was named, 1 none was or something failed, 2 wrong usage.

Examples:
  smtpwatch who --public-ip 203.0.113.7 --at \"2026-03-10 08:01:12\" --timezone Europe/Berlin
  smtpwatch who --public-ip 203.0.113.7 --at 2026-03-10T07:01:12Z --port 41022
  smtpwatch who --public-ip 203.0.113.7 --at 3h --to 198.51.100.25 --within 15m --json"
)]
pub struct Who {
    /// The address outside, as the complaint names it.
    #[arg(long, value_name = "ADDRESS")]
    pub public_ip: IpAddr,
    /// When: 2026-03-01, "2026-03-01 08:00", RFC 3339, yesterday, or an age (90m, 12h, 3d).
    #[arg(long, value_name = "TIME")]
    pub at: String,
    /// The source port outside, where the complaint names it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// The mail server that was written to, where the complaint names it.
    #[arg(long, value_name = "ADDRESS")]
    pub to: Option<IpAddr>,
    /// How far the complaint's clock may be off, each way.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5m")]
    pub within: Duration,
    /// Where smtpwatch watch keeps its history [default: /var/lib/smtpwatch].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Zone of --at where it names none, and of the times shown [default: the system's].
    #[arg(long, value_name = "ZONE")]
    timezone: Option<Zone>,
    /// How to print the answer.
    #[arg(long, value_enum, default_value_t)]
    format: WhoFormat,
    /// Short for --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// The configuration.
    #[command(flatten)]
    config: ConfigFile,
}

/// How the answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum WhoFormat {
    /// For people.
    #[default]
    Table,
    /// For programs: schema smtpwatch.who.v1.
    Json,
}

impl Configurable for Who {
    fn config_file(&self) -> Option<&Path> {
        self.config.path()
    }

    fn lay_over(&self, resolved: &mut Resolved) {
        lay_zone_over(self.timezone.as_ref(), resolved);
        lay_history_over(self.state_dir.as_ref(), resolved);
    }
}

impl Who {
    /// The format asked for, whichever way.
    pub fn format(&self) -> WhoFormat {
        if self.json {
            WhoFormat::Json
        } else {
            self.format
        }
    }

    /// The time asked for, in `zone` where it names none.
    pub fn at(&self, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, FlagError> {
        time(&self.at, now, zone).ok_or_else(|| FlagError::Time {
            flag: "--at",
            given: self.at.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::settings::flags::{Flags, Verb, zone};

    fn who(args: &[&str]) -> Result<Who, clap::Error> {
        let line = ["smtpwatch", "who"].iter().chain(args);
        match Flags::try_parse_from(line)?.verb {
            Verb::Who(who) => Ok(*who),
            _ => panic!("not who"),
        }
    }

    #[test]
    fn a_time_is_read_as_its_zone_has_it() {
        let asked = ["--public-ip", "203.0.113.7", "--timezone", "Etc/GMT-1"];
        let now = Timestamp::from_seconds(1_700_000_000);
        let at = |who: &Who| {
            let mut config = Resolved::default();
            who.lay_over(&mut config);
            who.at(now, &zone(&config))
        };
        for (text, expected) in [
            ("2023-11-14 08:30", "2023-11-14T07:30:00Z"),
            ("2023-11-14T08:30:00Z", "2023-11-14T08:30:00Z"),
            ("1h", "2023-11-14T21:13:20Z"),
        ] {
            let args = [&asked[..], &["--at", text]].concat();
            let found = at(&who(&args).unwrap()).unwrap();
            assert_eq!(found.to_string(), expected, "{text}");
        }
        let wrong = who(&[&asked[..], &["--at", "soon"]].concat()).unwrap();
        assert!(matches!(
            at(&wrong),
            Err(FlagError::Time { flag: "--at", .. })
        ));
    }

    #[test]
    fn an_address_and_a_time_are_needed_and_the_rest_has_defaults() {
        assert!(who(&["--public-ip", "203.0.113.7"]).is_err());
        assert!(who(&["--at", "1h"]).is_err());
        let who = who(&["--public-ip", "203.0.113.7", "--at", "1h", "--json"]).unwrap();
        assert_eq!(who.within, Duration::from_secs(300));
        assert_eq!(
            (who.port, who.to, who.format()),
            (None, None, WhoFormat::Json)
        );
    }
}
