//! The flags of the command line: parsed as they are given, then resolved with the time and the
//! zone into [`Settings`].

pub mod backtest;
pub mod config;
pub mod doctor;
pub mod history;
mod replay;
pub mod rules;
pub mod simulate;
pub mod watch;
pub mod who;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use jiff::civil;
use jiff::tz::TimeZone;

pub use replay::Replay;

use self::config::{ConfigFile, Configurable};
use super::config::{Key, Resolved};
use super::parse::{Zone, network};
use super::{Named, Ports, Settings, Window};
use crate::model::{Scope, Timestamp};

/// Finds the machine behind this gateway that sends spam, and says so with evidence.
#[derive(Debug, Parser)]
#[command(
    name = "smtpwatch",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Flags {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Name the machines that send mail directly, from logs and captures: the one-shot answer.
    Report(Box<Report>),
    /// List the devices behind this gateway, or those that DHCP leases name.
    Devices(Devices),
    /// Show what is made of a line, a log or a capture, and why it counts or does not.
    Explain(Explain),
    /// Watch the network as it happens, name the machines that send mail directly, and say so.
    Watch(Box<watch::Watch>),
    /// The firewall rules that show who sends mail: print, install, remove or check them.
    Rules(rules::Rules),
    /// Check what this machine has and lacks for the watch, and say what to do; --selftest proves that it works.
    Doctor(doctor::Doctor),
    /// Run a recorded watch again: the same inputs, and the same events.
    Replay(Replay),
    /// Show whom other settings would have blocked, when, and what would have got out: over last week's history, or files.
    Backtest(Box<backtest::Backtest>),
    /// The configuration: what holds, and where it came from; and whether a file is right.
    Config(config::Config),
    /// Name the devices that were behind a public address at a time: the answer to an abuse mail.
    Who(Box<who::Who>),
    /// What smtpwatch watch has kept: forget a device.
    History(history::History),
    /// Show honest hosts and bots that a seed makes up to the detectors, and to those of other programs.
    Simulate(simulate::Simulate),
}

/// The flags of `report`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 done, 1 an input could not be read, 2 wrong usage; with --exit-code also 3 \
where at least one device is infected, and 4 where the answer is not to be trusted because something could not be \
seen (late records, losses, no right to read, a LAN that claims nobody).

Examples:
  smtpwatch report
  smtpwatch report --leases /var/lib/misc/dnsmasq.leases /var/log/messages*
  smtpwatch report --device 192.168.1.23 /var/log/messages
  journalctl -k -o short-iso | smtpwatch report -
  smtpwatch report --since yesterday --lan 198.51.100.0/24 /var/log"
)]
pub struct Report {
    /// Logs, captures, folders of them, or - for standard input; each also compressed [default: what smtpwatch watch
    /// has written, else this system's journal and logs].
    #[arg(value_name = "FILE|DIR|-")]
    pub inputs: Vec<PathBuf>,
    /// Read the history that smtpwatch watch has written here, in whole minutes [default: /var/lib/smtpwatch, where
    /// it has one].
    #[arg(long, value_name = "DIR", conflicts_with = "inputs")]
    pub state_dir: Option<PathBuf>,
    /// DHCP leases (dnsmasq, ISC dhcpd, Kea) that name the devices; can be given again.
    #[arg(long, value_name = "FILE")]
    leases: Vec<PathBuf>,
    /// Count only from this time on: 2026-03-01, "2026-03-01 08:00", RFC 3339, today, yesterday, or an age (90m, 12h, 7d).
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Count only what is before this time.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// What counts.
    #[command(flatten)]
    pub counting: Counting,
    /// Who may send.
    #[command(flatten)]
    allowing: Allowing,
    /// Whose attempts to count; with `all` every source is a device, whatever the LAN.
    #[arg(long, value_enum, default_value_t = Direction::Outbound)]
    pub direction: Direction,
    /// Zone of stamps that name none, and of the times shown [default: the system's].
    #[arg(long, value_name = "ZONE")]
    timezone: Option<Zone>,
    /// Show the evidence about one device: its attempts, the networks it used, its scores and what decided. An id, an
    /// address, a MAC or a name.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Rows of the table, and destinations shown for a device.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,
    /// How and where to print.
    #[command(flatten)]
    pub print: Print,
    /// Let the exit status tell the answer.
    #[arg(long)]
    pub exit_code: bool,
    /// No notes on standard error; errors still.
    #[arg(long, short)]
    pub quiet: bool,
    /// Name the files in folders that were passed over, and why.
    #[arg(long, short, conflicts_with = "quiet")]
    pub verbose: bool,
    /// The configuration.
    #[command(flatten)]
    config: ConfigFile,
}

/// The flags of `devices`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --leases it asks this machine: the kernel's neighbour table, the lease files in their usual places, \
/etc/hosts.

Examples:
  smtpwatch devices
  smtpwatch devices --leases /var/lib/misc/dnsmasq.leases
  smtpwatch devices --leases /var/lib/dhcp/dhcpd.leases --json"
)]
pub struct Devices {
    /// List those that these DHCP leases name (dnsmasq, ISC dhcpd, Kea), and nothing else; can be given again.
    #[arg(long, value_name = "FILE")]
    pub leases: Vec<PathBuf>,
    /// Ask the system's resolver, for two seconds, what the devices without a name are called (private addresses alone).
    #[arg(long)]
    pub names: bool,
    /// Zone of the times shown [default: the system's].
    #[arg(long, value_name = "ZONE")]
    timezone: Option<Zone>,
    /// How and where to print.
    #[command(flatten)]
    pub print: Print,
    /// The configuration.
    #[command(flatten)]
    config: ConfigFile,
}

/// The flags of `explain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  smtpwatch explain 'Jun  8 14:34:33 gw kernel: IN=eth1 OUT=eth0 SRC=192.168.1.23 DST=203.0.113.9 PROTO=TCP ...'
  tail -n 3 /var/log/messages | smtpwatch explain -")]
pub struct Explain {
    /// A line, a file, or - for standard input.
    #[arg(value_name = "LINE|-|FILE", allow_hyphen_values = true)]
    pub subject: OsString,
    /// Records explained at the most.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    /// What counts.
    #[command(flatten)]
    pub counting: Counting,
    /// One JSON object a record.
    #[arg(long)]
    pub json: bool,
    /// The configuration.
    #[command(flatten)]
    config: ConfigFile,
}

/// What counts as an attempt of the LAN's.
#[derive(Clone, Debug, Args)]
pub struct Counting {
    /// An inside network; can be given again [default: the private ranges].
    #[arg(long, value_name = "CIDR", value_parser = network, value_delimiter = ',')]
    lan: Vec<IpNet>,
    /// An address of the gateway itself; can be given again.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    gateway: Vec<IpAddr>,
    /// A watched TCP port; can be given again [default: 25].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), value_delimiter = ',')]
    port: Vec<u16>,
    /// Take this program's lines for the kernel's too, where a logger writes them under its own tag.
    #[arg(long, value_name = "NAME")]
    tag: Vec<String>,
}

impl Counting {
    /// Programs whose lines are taken for the kernel's.
    pub fn tags(&self) -> impl Iterator<Item = Vec<u8>> {
        self.tag.iter().map(|tag| tag.clone().into_bytes())
    }

    /// The watched ports that were given; none means the default.
    pub fn ports(&self) -> &[u16] {
        &self.port
    }

    /// The flags given that tell how records are read, which a history cannot be asked again.
    fn reading(&self) -> impl Iterator<Item = &'static str> {
        [
            ("--lan", !self.lan.is_empty()),
            ("--gateway", !self.gateway.is_empty()),
            ("--tag", !self.tag.is_empty()),
        ]
        .into_iter()
        .filter_map(|(flag, is_given)| is_given.then_some(flag))
    }

    fn lay_over(&self, resolved: &mut Resolved) {
        resolved.flag(Key::Ports, some(&self.port), |config, it| {
            config.ports = Ports::new(it);
        });
        resolved.flag(Key::Lan, some(&self.lan), |config, it| config.lan = it);
        resolved.flag(Key::Gateway, some(&self.gateway), |config, it| {
            config.gateway = it;
        });
    }
}

/// Who may send.
#[derive(Clone, Debug, Args)]
pub struct Allowing {
    /// A device that may send whatever it likes, by address, network, MAC or host name; can be given again.
    #[arg(long, value_name = "WHO", value_delimiter = ',')]
    allow: Vec<Named>,
    /// A mail server of yours, in the same words; can be given again. Nobody else may send, then.
    #[arg(long, value_name = "WHO", value_delimiter = ',')]
    mail_server: Vec<Named>,
}

impl Allowing {
    fn lay_over(&self, resolved: &mut Resolved) {
        resolved.flag(Key::Allow, some(&self.allow), |config, it| {
            config.allow = it;
        });
        resolved.flag(Key::MailServers, some(&self.mail_server), |config, it| {
            config.mail_servers = it;
        });
    }
}

/// How and where an answer is printed.
#[derive(Debug, Args)]
pub struct Print {
    /// How to print the answer.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Short for --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Write the answer to this file instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

impl Print {
    /// The format asked for, whichever way.
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: schema smtpwatch.report.v1.
    Json,
    /// One row a device.
    Csv,
}

/// Whose attempts are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// The LAN's to the Internet.
    Outbound,
    /// The Internet's to the LAN.
    Inbound,
    /// The LAN's to the LAN.
    Internal,
    /// Everybody's.
    All,
}

impl From<Direction> for Scope {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Outbound => Self::Outbound,
            Direction::Inbound => Self::Inbound,
            Direction::Internal => Self::Internal,
            Direction::All => Self::All,
        }
    }
}

/// Flags that are well-formed and still make no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// A time that is none.
    #[error(
        "{flag} {given:?} is no time; give 2026-03-01, \"2026-03-01 08:00\", an RFC 3339 time, today, yesterday, or an age such as 90m, 12h, 7d"
    )]
    Time {
        /// `--since`, `--until` or `--at`.
        flag: &'static str,
        /// As given.
        given: String,
    },
    /// A window without anything in it.
    #[error("--since {since} is not before --until {until}: nothing lies between them")]
    Window {
        /// Resolved.
        since: Timestamp,
        /// Resolved.
        until: Timestamp,
    },
}

impl Report {
    /// The flags given that make sense for records alone: a history was written by them.
    pub fn about_records(&self) -> Vec<&'static str> {
        let mut flags: Vec<_> = self.counting.reading().collect();
        if !self.leases.is_empty() {
            flags.push("--leases");
        }
        if self.direction != Direction::Outbound {
            flags.push("--direction");
        }
        flags
    }

    /// The settings that these flags make at `now`, over the configuration that they lie over.
    pub fn resolve(&self, now: Timestamp, config: &Resolved) -> Result<Settings, FlagError> {
        let zone = zone(config);
        let time = |flag, given: &Option<String>| match given {
            None => Ok(None),
            Some(given) => time(given, now, &zone)
                .map(Some)
                .ok_or_else(|| FlagError::Time {
                    flag,
                    given: given.clone(),
                }),
        };
        let window = Window {
            since: time("--since", &self.since)?,
            until: time("--until", &self.until)?,
        };
        if let (Some(since), Some(until)) = (window.since, window.until)
            && since >= until
        {
            return Err(FlagError::Window { since, until });
        }
        Ok(Settings {
            scope: self.direction.into(),
            window,
            ..config.settings()
        })
    }
}

impl Configurable for Report {
    fn config_file(&self) -> Option<&Path> {
        self.config.path()
    }

    fn lay_over(&self, resolved: &mut Resolved) {
        self.counting.lay_over(resolved);
        self.allowing.lay_over(resolved);
        lay_zone_over(self.timezone.as_ref(), resolved);
        lay_leases_over(&self.leases, resolved);
        lay_history_over(self.state_dir.as_ref(), resolved);
    }
}

impl Configurable for Devices {
    fn config_file(&self) -> Option<&Path> {
        self.config.path()
    }

    fn lay_over(&self, resolved: &mut Resolved) {
        lay_zone_over(self.timezone.as_ref(), resolved);
        lay_leases_over(&self.leases, resolved);
    }
}

impl Configurable for Explain {
    fn config_file(&self) -> Option<&Path> {
        self.config.path()
    }

    fn lay_over(&self, resolved: &mut Resolved) {
        self.counting.lay_over(resolved);
    }
}

fn lay_zone_over(zone: Option<&Zone>, resolved: &mut Resolved) {
    resolved.flag(Key::Timezone, zone.cloned(), |config, it| {
        config.timezone = Some(it);
    });
}

fn lay_leases_over(leases: &[PathBuf], resolved: &mut Resolved) {
    resolved.flag(Key::Leases, some(leases), |config, it| config.leases = it);
}

fn lay_history_over(folder: Option<&PathBuf>, resolved: &mut Resolved) {
    resolved.flag(Key::History, folder.cloned(), |config, it| {
        config.history = it;
    });
}

/// A list that was given; an empty one was not.
fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// The zone of stamps that name none, and of output.
pub fn zone(config: &Resolved) -> TimeZone {
    or_system(config.zone())
}

fn or_system(zone: Option<&TimeZone>) -> TimeZone {
    zone.cloned().unwrap_or_else(TimeZone::system)
}

/// Reads a time: absolute, `today`, `yesterday`, `now`, or an age.
fn time(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let micros = |timestamp: jiff::Timestamp| Timestamp::from_micros(timestamp.as_microsecond());
    let of_zone = |at: civil::DateTime| zone.to_timestamp(at).ok().map(micros);
    let text = text.trim();
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Some(micros(timestamp));
    }
    if let Ok(at) = text.parse::<civil::DateTime>() {
        return of_zone(at);
    }
    let today = jiff::Timestamp::from_microsecond(now.as_micros())
        .ok()?
        .to_zoned_datetime(zone.clone())
        .date();
    match text {
        "now" => return Some(now),
        "today" => return of_zone(today.at(0, 0, 0, 0)),
        "yesterday" => return of_zone(today.yesterday().ok()?.at(0, 0, 0, 0)),
        _ => {}
    }
    // Not before what a calendar can say.
    age(text)
        .map(|age| now.minus(age))
        .filter(|time| jiff::Timestamp::from_microsecond(time.as_micros()).is_ok())
}

/// Reads an age: `90m`, `12h`, `7d`, `2w`, `1d12h`, with or without ` ago`.
fn age(text: &str) -> Option<std::time::Duration> {
    let mut rest = text.strip_suffix(" ago").unwrap_or(text).trim();
    let mut seconds: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].chars().next()?;
        let length = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        seconds = seconds.checked_add(count.checked_mul(length)?)?;
        rest = rest[digits + 1..].trim_start();
    }
    Some(std::time::Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn resolve(args: &[&str]) -> Result<Settings, FlagError> {
        let line = ["smtpwatch", "report", "--timezone", "UTC", "x"]
            .iter()
            .chain(args);
        let Verb::Report(report) = Flags::try_parse_from(line).unwrap().verb else {
            panic!("not a report");
        };
        let mut config = Resolved::default();
        report.lay_over(&mut config);
        report.resolve(Timestamp::from_seconds(1_700_000_000), &config)
    }

    #[test]
    fn the_command_is_well_formed() {
        Flags::command().debug_assert();
    }

    #[test]
    fn nothing_given_is_the_default() {
        assert_eq!(resolve(&[]).unwrap(), Settings::default());
    }

    #[test]
    fn times_in_each_form() {
        for (text, expected) in [
            ("2023-11-14", "2023-11-14T00:00:00Z"),
            ("2023-11-14 08:30", "2023-11-14T08:30:00Z"),
            ("2023-11-14T08:30:01", "2023-11-14T08:30:01Z"),
            ("2023-11-14T08:30:00+01:00", "2023-11-14T07:30:00Z"),
            ("today", "2023-11-14T00:00:00Z"),
            ("yesterday", "2023-11-13T00:00:00Z"),
            ("now", "2023-11-14T22:13:20Z"),
            ("13m20s", "2023-11-14T22:00:00Z"),
            ("1d 2h ago", "2023-11-13T20:13:20Z"),
        ] {
            let since = resolve(&["--since", text]).unwrap().window.since;
            assert_eq!(
                since.map(|t| t.to_string()).as_deref(),
                Some(expected),
                "{text}"
            );
        }
        for text in [
            "",
            "soon",
            "12",
            "5x",
            "m",
            "99999999999999999999d",
            "99999999d",
        ] {
            assert!(
                matches!(resolve(&["--since", text]), Err(FlagError::Time { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn a_window_that_holds_nothing_is_refused() {
        assert!(matches!(
            resolve(&["--since", "1h", "--until", "2h"]),
            Err(FlagError::Window { .. })
        ));
    }

    #[test]
    fn who_may_send() {
        let settings = resolve(&[
            "--allow",
            "10.0.0.7,02:00:00:00:00:01",
            "--allow",
            "probe",
            "--mail-server",
            "10.0.1.0/24",
        ])
        .unwrap();
        let shown = |all: &[Named]| -> Vec<String> { all.iter().map(Named::to_string).collect() };
        assert_eq!(
            shown(&settings.allow),
            ["10.0.0.7", "02:00:00:00:00:01", "probe"]
        );
        assert_eq!(shown(&settings.mail_servers), ["10.0.1.0/24"]);
        let line = ["smtpwatch", "report", "--allow", "10.0.0.300", "x"];
        let refused = Flags::try_parse_from(line).unwrap_err().to_string();
        assert!(
            refused.contains("not a machine; give its address"),
            "{refused}"
        );
    }

    #[test]
    fn networks_and_ports() {
        let settings = resolve(&[
            "--lan",
            "198.51.100.7/24,2001:db8::1",
            "--port",
            "25",
            "--port",
            "587",
        ])
        .unwrap();
        assert_eq!(settings.lan.as_slice().len(), 2);
        assert_eq!(settings.ports.as_slice(), [25, 587]);
        for bad in [
            ["--lan", "10.0.0.0/33"],
            ["--port", "0"],
            ["--gateway", "10.0.0"],
            ["--timezone", "Mars/X"],
        ] {
            let line = ["smtpwatch", "report", "x"].iter().chain(&bad);
            assert!(Flags::try_parse_from(line).is_err(), "{bad:?}");
        }
    }
}
