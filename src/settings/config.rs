//! The configuration: what can stand in a file, its defaults, and where each value came from. What a
//! later file says replaces what an earlier one said, lists too; the command line has the last word.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use jiff::tz::TimeZone;
use toml::Value;

use super::flags::watch::{Mode, Source};
use super::history::Retention;
use super::parse::Zone;
use super::rules::{At, BackendChoice, GROUP, PartialRules, Prefix};
use super::value::{self, Given, Read};
use super::{Burst, Limits, Named, Novelty, Ports, Preset, Router, STATE_DIR, Settings, Volume};
use crate::model::Networks;

/// The configuration that comes with the program: each key with its default, and words.
pub const TEMPLATE: &str = include_str!("smtpwatch.toml");

/// Most events that a detector counts: it keeps the time of each, for every device.
const MAX_COUNTED: u32 = 10_000;
/// Most groups that are free: more than a device's own mail services come to.
const MAX_FREE: u32 = 32;

/// How many times the normal rate the one of bots is at the least: nearer, it takes for ever to tell them
/// apart.
pub(super) const MIN_RATIO: f64 = 1.5;

/// What [`Preset`] says something about.
const OF_PRESET: [Key; 11] = [
    Key::FastNormal,
    Key::FastInfected,
    Key::FastYears,
    Key::FastFree,
    Key::SlowNormal,
    Key::SlowInfected,
    Key::SlowYears,
    Key::SlowFree,
    Key::LookupsNormal,
    Key::LookupsInfected,
    Key::LookupsYears,
];

/// What can be configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Zone of stamps that name none, and of times shown; none is the system's.
    pub timezone: Option<Zone>,
    /// Watched ports.
    pub ports: Ports,
    /// The inside networks; none are this machine's own, and offline the private ranges.
    pub lan: Vec<IpNet>,
    /// Addresses of the gateway itself.
    pub gateway: Vec<IpAddr>,
    /// Routers in the LAN that no route names.
    pub routers: Vec<Router>,
    /// Devices that may send, whatever they do.
    pub allow: Vec<Named>,
    /// The only devices that may send, where any are named.
    pub mail_servers: Vec<Named>,
    /// Where a watch reads; one at the least.
    pub source: Vec<Source>,
    /// What follows from a finding.
    pub mode: Mode,
    /// DHCP leases; none are searched for.
    pub leases: Vec<PathBuf>,
    /// The firewall.
    pub backend: BackendChoice,
    /// Where its rules look; none is the backend's own place.
    pub at: Option<At>,
    /// The NFLOG group.
    pub group: u16,
    /// What records begin with.
    pub prefix: Prefix,
    /// Whether the rules stay when a watch ends.
    pub keep: bool,
    /// Times in ten minutes that rules are put back.
    pub max_heals: u32,
    /// Where the history is; `-` is nowhere.
    pub history: PathBuf,
    /// How long it keeps what.
    pub retention: Retention,
    /// Whether names are asked of the DNS.
    pub reverse_dns: bool,
    /// What `novelty` takes for normal where nothing else is said.
    pub preset: Preset,
    /// When `novelty` speaks.
    pub novelty: Novelty,
    /// When `burst` speaks.
    pub burst: Burst,
    /// When `volume` speaks.
    pub volume: Volume,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timezone: None,
            ports: Ports::default(),
            lan: Vec::new(),
            gateway: Vec::new(),
            routers: Vec::new(),
            allow: Vec::new(),
            mail_servers: Vec::new(),
            source: vec![Source::Auto],
            mode: Mode::Alert,
            leases: Vec::new(),
            backend: BackendChoice::Auto,
            at: None,
            group: GROUP,
            prefix: Prefix::default(),
            keep: false,
            max_heals: 3,
            history: PathBuf::from(STATE_DIR),
            retention: Retention::default(),
            reverse_dns: true,
            preset: Preset::default(),
            novelty: Novelty::default(),
            burst: Burst::default(),
            volume: Volume::default(),
        }
    }
}

/// Makes [`Key`] of the table below: each key's name, its field, and how that is read and shown.
macro_rules! keys {
    ($($key:ident = $name:literal, $($field:ident).+, $read:expr, $show:expr;)*) => {
        /// A key of the configuration.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Key {
            $(#[doc = concat!("`", $name, "`.")] $key,)*
        }

        impl Key {
            /// All of them, in the order in which they are shown.
            pub const ALL: &[Self] = &[$(Self::$key),*];

            /// Its name, sections before it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$key => $name,)* }
            }

            /// Its value, as a file would have it.
            pub fn show(self, config: &Config) -> Value {
                match self { $(Self::$key => ($show)(&config.$($field).+),)* }
            }

            /// Takes what a file gives.
            pub(super) fn read(self, given: &Given<'_>, config: &mut Config) -> Read<()> {
                match self { $(Self::$key => config.$($field).+ = ($read)(given)?,)* }
                Ok(())
            }

            /// Takes what `from` has.
            fn copy(self, from: &Config, to: &mut Config) {
                match self {
                    $(Self::$key => to.$($field).+.clone_from(&from.$($field).+),)*
                }
            }
        }
    };
}

keys! {
    Timezone = "timezone", timezone, value::zone, |zone: &Option<Zone>| value::show_zone(zone.as_ref());
    Ports = "network.ports", ports, value::ports, value::show_ports;
    Lan = "network.lan", lan, value::networks, value::show_all;
    Gateway = "network.gateway", gateway, value::addresses, value::show_all;
    Routers = "network.routers", routers, value::routers, value::show_all;
    Allow = "network.allow", allow, value::machines, value::show_all;
    MailServers = "network.mail_servers", mail_servers, value::machines, value::show_all;
    Source = "watch.source", source, value::sources, value::show_all;
    Mode = "watch.mode", mode, value::word, value::show_word;
    Leases = "watch.leases", leases, value::paths, value::show_paths;
    Backend = "rules.backend", backend, value::word, value::show_word;
    At = "rules.at", at, value::place, |at: &Option<At>| value::show_place(at.as_ref());
    Group = "rules.group", group, |given| value::number(given, 0, u16::MAX), value::show_number;
    Prefix = "rules.prefix", prefix, value::prefix, value::show_text;
    Keep = "rules.keep", keep, value::boolean, value::show_boolean;
    MaxHeals = "rules.max_heals", max_heals, |given| value::number(given, 0, 1_000), value::show_number;
    History = "history.dir", history, value::folder, value::show_path;
    Detail = "history.detail", retention.detail, value::duration, value::show_duration;
    Days = "history.days", retention.days, value::duration, value::show_duration;
    Translations = "history.translations", retention.translations, value::duration, value::show_duration;
    MaxSize = "history.max_size", retention.max_bytes, value::size, value::show_size;
    ReverseDns = "names.reverse_dns", reverse_dns, value::boolean, value::show_boolean;
    Preset = "detection.preset", preset, value::word, value::show_word;
    FastNormal = "detection.fast.new_groups_per_day_normal", novelty.fast.normal, value::rate, value::show_decimal;
    FastInfected = "detection.fast.new_groups_per_day_infected", novelty.fast.infected, value::rate, value::show_decimal;
    FastYears = "detection.fast.false_alarm_years", novelty.fast.false_alarm_years, value::years, value::show_decimal;
    FastFree = "detection.fast.free_groups", novelty.fast.free, |given| value::number(given, 0, MAX_FREE), value::show_number;
    SlowNormal = "detection.slow.new_groups_per_day_normal", novelty.slow.normal, value::rate, value::show_decimal;
    SlowInfected = "detection.slow.new_groups_per_day_infected", novelty.slow.infected, value::rate, value::show_decimal;
    SlowYears = "detection.slow.false_alarm_years", novelty.slow.false_alarm_years, value::years, value::show_decimal;
    SlowFree = "detection.slow.free_groups", novelty.slow.free, |given| value::number(given, 0, MAX_FREE), value::show_number;
    LookupsNormal = "detection.lookups.questions_per_day_normal", novelty.lookups.normal, value::rate, value::show_decimal;
    LookupsInfected = "detection.lookups.questions_per_day_infected", novelty.lookups.infected, value::rate, value::show_decimal;
    LookupsYears = "detection.lookups.false_alarm_years", novelty.lookups.false_alarm_years, value::years, value::show_decimal;
    BurstGroups = "detection.burst.groups", burst.groups, |given| value::number(given, 1, MAX_COUNTED), value::show_number;
    BurstWithin = "detection.burst.within", burst.within, value::duration, value::show_duration;
    VolumeAttempts = "detection.volume.attempts", volume.attempts, |given| value::number(given, 1, MAX_COUNTED), value::show_number;
    VolumeWithin = "detection.volume.within", volume.within, value::duration, value::show_duration;
}

/// Where a value came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    #[default]
    Default,
    /// A file.
    File {
        /// Its path.
        path: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// A flag.
    CommandLine,
    /// What another key's value stands for, which somebody chose.
    Preset(Preset),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::CommandLine => f.write_str("command line"),
            Self::Preset(preset) => write!(f, "preset {preset}"),
        }
    }
}

/// The configuration that holds, and where each of its values came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The values.
    pub config: Config,
    /// In the order of [`Key::ALL`].
    origins: Vec<Origin>,
}

impl Default for Resolved {
    fn default() -> Self {
        Self {
            config: Config::default(),
            origins: vec![Origin::Default; Key::ALL.len()],
        }
    }
}

impl Resolved {
    /// Where the value of `key` came from.
    pub fn origin(&self, key: Key) -> &Origin {
        &self.origins[key as usize]
    }

    /// Whether somebody said what `key` should be.
    pub fn is_given(&self, key: Key) -> bool {
        !matches!(self.origin(key), Origin::Default | Origin::Preset(_))
    }

    /// Notes that `key` was read from `origin`.
    pub(super) fn came_from(&mut self, key: Key, origin: Origin) {
        self.origins[key as usize] = origin;
    }

    /// Takes what the command line says about `key`, where it says something.
    pub(super) fn flag<T>(&mut self, key: Key, given: Option<T>, set: impl FnOnce(&mut Config, T)) {
        if let Some(value) = given {
            set(&mut self.config, value);
            self.came_from(key, Origin::CommandLine);
        }
    }

    /// Has the preset hold where nothing else was said.
    pub(super) fn settle_preset(&mut self) {
        if !self.is_given(Key::Preset) {
            return;
        }
        let preset = self.config.preset;
        let from = Config {
            novelty: preset.novelty(),
            ..Config::default()
        };
        for key in OF_PRESET {
            if !self.is_given(key) {
                key.copy(&from, &mut self.config);
                self.came_from(key, Origin::Preset(preset));
            }
        }
    }

    /// Pairs of keys whose values contradict each other: what is normal, and what has to be more.
    pub(super) fn contradictions(&self) -> impl Iterator<Item = (Key, Key)> {
        let Novelty {
            fast,
            slow,
            lookups,
        } = self.config.novelty;
        [
            (
                Key::FastNormal,
                fast.normal,
                Key::FastInfected,
                fast.infected,
            ),
            (
                Key::SlowNormal,
                slow.normal,
                Key::SlowInfected,
                slow.infected,
            ),
            (
                Key::LookupsNormal,
                lookups.normal,
                Key::LookupsInfected,
                lookups.infected,
            ),
        ]
        .into_iter()
        .filter(|(_, normal, _, infected)| *infected < normal * MIN_RATIO)
        .map(|(normal, _, infected, _)| (normal, infected))
    }

    /// Takes what `other` has of `key`.
    pub(super) fn take(&mut self, key: Key, other: &Self) {
        key.copy(&other.config, &mut self.config);
        self.came_from(key, other.origin(key).clone());
    }

    /// The zone that was named; none is the system's.
    pub fn zone(&self) -> Option<&TimeZone> {
        self.config.timezone.as_ref().map(Zone::zone)
    }

    /// The settings of an offline run over any time.
    pub fn settings(&self) -> Settings {
        let Config {
            ports,
            lan,
            gateway,
            routers,
            novelty,
            allow,
            mail_servers,
            burst,
            volume,
            ..
        } = &self.config;
        let defaults = Settings::default();
        Settings {
            ports: ports.clone(),
            lan: if lan.is_empty() {
                defaults.lan
            } else {
                Networks::new(lan.iter().copied())
            },
            lan_is_given: !lan.is_empty(),
            gateway: gateway.clone(),
            routers: routers.clone(),
            novelty: *novelty,
            allow: allow.clone(),
            mail_servers: mail_servers.clone(),
            burst: *burst,
            volume: *volume,
            ..defaults
        }
    }

    /// The settings of a live run.
    pub fn live_settings(&self) -> Settings {
        Settings {
            limits: Limits::live(),
            ..self.settings()
        }
    }

    /// What was said about the firewall rules.
    pub fn rules(&self) -> PartialRules {
        let Config {
            ports, at, group, ..
        } = &self.config;
        PartialRules {
            ports: self.is_given(Key::Ports).then(|| ports.clone()),
            via: None,
            at: *at,
            group: self.is_given(Key::Group).then_some(*group),
            prefix: self.prefix().cloned(),
        }
    }

    /// What records begin with, where somebody said it.
    pub fn prefix(&self) -> Option<&Prefix> {
        self.is_given(Key::Prefix).then_some(&self.config.prefix)
    }

    /// Where the history is, where one is kept.
    pub fn state_dir(&self) -> Option<&std::path::Path> {
        (self.config.history.as_os_str() != "-").then_some(&self.config.history)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::file::of_text as read;

    /// The template with each key that is commented out put in.
    fn commented_in() -> String {
        let is_key = |line: &str| {
            line.strip_prefix('#')
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
        };
        TEMPLATE
            .lines()
            .map(|line| if is_key(line) { &line[1..] } else { line })
            .map(|line| format!("{line}\n"))
            .collect()
    }

    #[test]
    fn the_template_says_nothing_and_names_each_key_with_its_default() {
        assert_eq!(read(TEMPLATE), Resolved::default());
        let whole = read(&commented_in());
        assert_eq!(whole.config, Config::default());
        for key in Key::ALL {
            assert!(whole.is_given(*key), "{}", key.name());
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_settings() {
        let resolved = Resolved::default();
        assert_eq!(resolved.settings(), Settings::default());
        assert_eq!(resolved.live_settings().limits, Limits::live());
        assert_eq!(resolved.rules(), PartialRules::default());
        assert_eq!(resolved.state_dir(), Some(std::path::Path::new(STATE_DIR)));
        assert_eq!(resolved.zone(), None);
    }

    #[test]
    fn a_lan_and_a_prefix_are_given_or_not() {
        let resolved = read("network.lan = \"10.1.0.0/16\"\nrules.prefix = \"smtpwatch: \"");
        let settings = resolved.settings();
        assert!(settings.lan_is_given);
        assert_eq!(settings.lan.as_slice().len(), 1);
        assert_eq!(resolved.prefix(), Some(&Prefix::default()));
        assert_eq!(Resolved::default().prefix(), None);
        assert_eq!(read("history.dir = \"-\"").state_dir(), None);
    }
}
