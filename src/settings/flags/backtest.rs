//! The flags of `backtest`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::config::Configurable;
use super::{Counting, FlagError, Print, time, zone};
use crate::model::Timestamp;
use crate::settings::config::{Key, Resolved};
use crate::settings::file::ConfigText;
use crate::settings::parse::Zone;
use crate::settings::{Preset, Settings, Window};

/// What is judged of a history where nothing else is asked for: a week.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// The flags of `backtest`.
#[derive(Debug, Args)]
#[command(
    after_help = "It runs the detectors over what was seen, twice: with the settings that hold (/etc/smtpwatch), and with
those given here. It changes nothing and blocks nobody. A block needs an alarm and three of the connections that led to it
completed, so that text logs, which do not tell, show `alert: outcomes unknown`; alarms in the first 7 days that are
known show `alert: learning`, unless --no-learning.

Exit status: 0 done, 1 something could not be read, 2 wrong usage.

Examples:
  smtpwatch backtest
  smtpwatch backtest --preset strict
  smtpwatch backtest --set detection.volume.attempts=100 --since 14d
  smtpwatch backtest --config /tmp/new.toml --no-learning /var/log/smtp.pcap"
)]
pub struct Backtest {
    /// Logs, captures, folders of them, or - for standard input; each also compressed [default: the last 7 days of the
    /// history that smtpwatch watch has written].
    #[arg(value_name = "FILE|DIR|-")]
    pub inputs: Vec<PathBuf>,
    /// Read the history that smtpwatch watch has written here [default: /var/lib/smtpwatch].
    #[arg(long, value_name = "DIR", conflicts_with = "inputs")]
    state_dir: Option<PathBuf>,
    /// Judge by this configuration, and conf.d/*.toml beside it [default: the one that holds].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Judge with what is normal in the network, in a word; what the configuration says key by key comes before it.
    #[arg(long, value_enum, value_name = "NAME")]
    preset: Option<Preset>,
    /// Judge with this key of the configuration set to this; can be given again.
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    set: Vec<ConfigText>,
    /// Judge only what is from this time on: 2026-03-01, "2026-03-01 08:00", RFC 3339, today, yesterday, or an age (90m,
    /// 12h, 7d); what lies before still tells which servers a device knows.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Judge only what is before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Block in the first 7 days that are known, too.
    #[arg(long)]
    pub no_learning: bool,
    /// DHCP leases (dnsmasq, ISC dhcpd, Kea) that name the devices of files; can be given again.
    #[arg(long, value_name = "FILE")]
    leases: Vec<PathBuf>,
    /// What counts.
    #[command(flatten)]
    pub counting: Counting,
    /// Zone of stamps that name none, and of the times shown [default: the system's].
    #[arg(long, value_name = "ZONE")]
    timezone: Option<Zone>,
    /// Devices shown in the table.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub top: usize,
    /// How and where to print.
    #[command(flatten)]
    pub print: Print,
    /// No notes on standard error; errors still.
    #[arg(long, short)]
    pub quiet: bool,
}

impl Backtest {
    /// The configuration that is to be tried, where one is named.
    pub fn tried(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// What is said over it.
    pub fn said(&self) -> &[ConfigText] {
        &self.set
    }

    /// Takes what these flags say of the configuration that is tried.
    pub fn lay_over_tried(&self, resolved: &mut Resolved) {
        self.lay_over(resolved);
        resolved.flag(Key::Preset, self.preset, |config, it| config.preset = it);
        resolved.settle_preset();
    }

    /// Whether anything is tried beside what holds.
    pub fn tries(&self) -> bool {
        self.config.is_some() || self.preset.is_some() || !self.set.is_empty()
    }

    /// The flags given that make sense for records alone: a history was written by them.
    pub fn about_records(&self) -> Vec<&'static str> {
        let mut flags: Vec<_> = self.counting.reading().collect();
        if !self.leases.is_empty() {
            flags.push("--leases");
        }
        flags
    }

    /// The time to judge; of a history the last week, unless something else is asked for.
    pub fn window(&self, now: Timestamp, config: &Resolved) -> Result<Window, FlagError> {
        let zone = zone(config);
        let window = Window {
            since: resolve("--since", self.since.as_deref(), now, &zone)?,
            until: resolve("--until", self.until.as_deref(), now, &zone)?,
        };
        if let (Some(since), Some(until)) = (window.since, window.until)
            && since >= until
        {
            return Err(FlagError::Window { since, until });
        }
        if !self.inputs.is_empty() || window.since.is_some() {
            return Ok(window);
        }
        let until = window.until.unwrap_or(now);
        Ok(Window {
            since: Some(until.minus(WEEK)),
            ..window
        })
    }

    /// The settings that `config` makes; what lies before the window is seen, too.
    pub fn settings(config: &Resolved, window: Window) -> Settings {
        Settings {
            window: Window {
                since: None,
                ..window
            },
            ..config.settings()
        }
    }
}

fn resolve(
    flag: &'static str,
    given: Option<&str>,
    now: Timestamp,
    zone: &jiff::tz::TimeZone,
) -> Result<Option<Timestamp>, FlagError> {
    given
        .map(|given| {
            time(given, now, zone).ok_or_else(|| FlagError::Time {
                flag,
                given: given.to_owned(),
            })
        })
        .transpose()
}

impl Configurable for Backtest {
    fn config_file(&self) -> Option<&Path> {
        None
    }

    fn lay_over(&self, resolved: &mut Resolved) {
        self.counting.lay_over(resolved);
        super::lay_zone_over(self.timezone.as_ref(), resolved);
        super::lay_leases_over(&self.leases, resolved);
        resolved.flag(Key::History, self.state_dir.clone(), |config, it| {
            config.history = it;
        });
    }
}

/// Reads `KEY=VALUE` as a line of a configuration; a value that is no TOML is text.
fn assignment(text: &str) -> Result<ConfigText, String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("give KEY=VALUE, such as detection.burst.groups=12")?;
    let (key, value) = (key.trim(), value.trim());
    let is_key = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if key.is_empty() || !key.bytes().all(is_key) {
        return Err("no key of the configuration; smtpwatch config show prints them".to_owned());
    }
    let is_toml =
        !value.contains('\n') && toml::from_str::<toml::Table>(&format!("v = {value}")).is_ok();
    let value = if is_toml {
        value.to_owned()
    } else {
        toml::Value::String(value.to_owned()).to_string()
    };
    Ok(ConfigText {
        path: format!("--set {key}"),
        text: format!("{key} = {value}\n"),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::settings::flags::{Flags, Verb};

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn backtest(args: &[&str]) -> Result<Backtest, clap::Error> {
        let line = ["smtpwatch", "backtest", "--timezone", "UTC"].iter();
        match Flags::try_parse_from(line.chain(args))?.verb {
            Verb::Backtest(backtest) => Ok(*backtest),
            _ => panic!("not backtest"),
        }
    }

    #[test]
    fn a_history_is_asked_for_a_week_and_a_file_for_all() {
        let config = Resolved::default();
        let window = |args: &[&str]| backtest(args).unwrap().window(NOW, &config);
        let week = window(&[]).unwrap();
        assert_eq!(week.since, Some(NOW.minus(WEEK)));
        assert_eq!(window(&["x.log"]).unwrap(), Window::default());
        assert_eq!(
            window(&["--since", "1d"]).unwrap().since,
            Some(NOW.plus_micros(-86_400_000_000))
        );
        assert!(matches!(
            window(&["--since", "1d", "--until", "2d"]),
            Err(FlagError::Window { .. })
        ));
        assert!(matches!(
            window(&["--until", "soon"]),
            Err(FlagError::Time {
                flag: "--until",
                ..
            })
        ));
        let settings = Backtest::settings(&config, week);
        assert_eq!(settings.window, Window::default());
    }

    #[test]
    fn a_key_is_set_to_a_number_a_list_or_a_bare_word() {
        let tried = backtest(&[
            "--set",
            "detection.burst.groups=12",
            "--set",
            "detection.volume.within = 30m",
            "--set",
            "network.ports=[25, 587]",
        ])
        .unwrap();
        assert!(tried.tries());
        let config = Resolved::read(tried.said()).unwrap().config;
        assert_eq!(config.burst.groups, 12);
        assert_eq!(config.volume.within, Duration::from_secs(1800));
        assert_eq!(config.ports.as_slice(), [25, 587]);
        for bad in ["detection.burst.groups", "=1", "a b=1", "a\nb=1"] {
            assert!(backtest(&["--set", bad]).is_err(), "{bad:?}");
        }
        // A value is one value, whatever it holds.
        let hostile = backtest(&["--set", "timezone=UTC\"\nnetwork.ports = 1"]).unwrap();
        let wrong = Resolved::read(hostile.said()).unwrap_err();
        assert!(
            wrong.len() == 1 && wrong[0].path == "--set timezone",
            "{wrong:?}"
        );
        assert!(!backtest(&[]).unwrap().tries());
    }

    #[test]
    fn what_a_history_cannot_be_asked_is_named() {
        let given = backtest(&["--lan", "10.0.0.0/8", "--leases", "x"]).unwrap();
        assert_eq!(given.about_records(), ["--lan", "--leases"]);
    }
}
