//! What the detectors take for normal, by what it means.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::Mac;

/// Minutes of a year, of 365.25 days.
const MINUTES_PER_YEAR: f64 = 525_960.0;
const MINUTES_PER_DAY: f64 = 1_440.0;

/// One clock of `novelty`: what is normal, what is not, and how seldom it may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pacing {
    /// New destination groups a day that an honest device contacts at the most, in the long run.
    pub normal: f64,
    /// New destination groups a day of the bots that it is made for.
    pub infected: f64,
    /// Years that one honest device runs at that normal rate before it is taken for a bot once: a mean,
    /// and a lower bound (Lorden 1971).
    pub false_alarm_years: f64,
    /// Groups that everybody may use before anything counts: a device's own mail services.
    pub free: u32,
}

impl Pacing {
    /// What one new group adds to the score: the logarithm of the ratio of the rates.
    pub fn gain(&self) -> f64 {
        (self.infected / self.normal).ln()
    }

    /// What a day takes off the score.
    pub fn drift_per_day(&self) -> f64 {
        self.infected - self.normal
    }

    /// The score at which it speaks.
    pub fn threshold(&self) -> f64 {
        threshold(self.false_alarm_years, self.drift_per_day())
    }
}

/// The parameters of [`crate::detection`]'s `novelty`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Novelty {
    /// For bots that hurry.
    pub fast: Pacing,
    /// For those that take days.
    pub slow: Pacing,
    /// Questions for mail servers (MX) a day that are normal, and those of a bot that asks.
    pub lookups: Lookups,
}

/// What `novelty` makes of questions for mail servers, where it hears them: its third clock, which
/// counts them beside the new groups of the fast one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookups {
    /// A day, of an honest device that asks at all.
    pub normal: f64,
    /// A day, of a bot that asks by itself.
    pub infected: f64,
    /// As [`Pacing::false_alarm_years`], of a device with both normal rates.
    pub false_alarm_years: f64,
}

impl Lookups {
    /// What one question adds to the score.
    pub fn gain(&self) -> f64 {
        (self.infected / self.normal).ln()
    }

    /// What a day takes off the score, beside new groups at `pacing`.
    pub fn drift_per_day(&self, pacing: &Pacing) -> f64 {
        self.infected - self.normal + pacing.drift_per_day()
    }

    /// The score at which it speaks, beside new groups at `pacing`.
    pub fn threshold(&self, pacing: &Pacing) -> f64 {
        threshold(self.false_alarm_years, self.drift_per_day(pacing))
    }
}

/// The threshold of a clock whose score falls by `drift` a day: the mean time to a false alarm is at
/// least e to the power of it, in minutes, less what falls off in a minute (Lorden 1971).
fn threshold(false_alarm_years: f64, drift: f64) -> f64 {
    (false_alarm_years * MINUTES_PER_YEAR).ln() + drift / MINUTES_PER_DAY
}

impl Default for Novelty {
    fn default() -> Self {
        Preset::default().novelty()
    }
}

/// What is normal in a network, in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Everybody brings a machine of their own, and admins try strange servers by hand: thirteen new mail
    /// servers in one sitting, such as a hosted service over eight /24 and five more, are nobody's fault.
    Cautious,
    /// An office or a school.
    #[default]
    Balanced,
    /// Devices that send through one or two servers, which somebody set up: printers, cameras, tills.
    Strict,
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cautious => "cautious",
            Self::Balanced => "balanced",
            Self::Strict => "strict",
        })
    }
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cautious, Self::Balanced, Self::Strict];

    /// What it stands for. Bots are the same everywhere; what differs is what is normal, how seldom it may
    /// be wrong, and how many mail services are a device's own.
    pub fn novelty(self) -> Novelty {
        let pacing = |normal, infected, false_alarm_years, free| Pacing {
            normal,
            infected,
            false_alarm_years,
            free,
        };
        let (fast, slow, years) = match self {
            Self::Cautious => (
                pacing(4.0, 48.0, 10_000.0, 4),
                pacing(1.5, 8.0, 1e6, 6),
                1e6,
            ),
            Self::Balanced => (
                pacing(2.0, 48.0, 180.0, 2),
                pacing(1.0, 8.0, 18_000.0, 3),
                18_000.0,
            ),
            Self::Strict => (
                pacing(1.0, 48.0, 20.0, 1),
                pacing(0.5, 8.0, 1_000.0, 2),
                1_000.0,
            ),
        };
        Novelty {
            fast,
            slow,
            lookups: Lookups {
                normal: 16.0,
                infected: 48.0,
                false_alarm_years: years,
            },
        }
    }
}

/// The parameters of [`crate::detection`]'s `burst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// This many destination groups that the device never used before ...
    pub groups: u32,
    /// ... within this time.
    pub within: Duration,
}

impl Default for Burst {
    fn default() -> Self {
        Self {
            groups: 10,
            within: Duration::from_secs(3600),
        }
    }
}

/// The parameters of [`crate::detection`]'s `volume`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// This many attempts ...
    pub attempts: u32,
    /// ... within this time.
    pub within: Duration,
}

impl Default for Volume {
    fn default() -> Self {
        Self {
            attempts: 200,
            within: Duration::from_secs(3600),
        }
    }
}

/// A machine, or several, as an admin names them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Named {
    /// By address: one, or a network.
    Network(IpNet),
    /// By MAC.
    Mac(Mac),
    /// By the name that a lease, /etc/hosts or reverse DNS gives it, whatever its case. A device says its
    /// name itself: it proves nothing.
    Host(String),
}

impl Named {
    /// Whether it names the device with one of these addresses, that MAC and that name.
    pub fn names(&self, addresses: &[IpAddr], mac: Option<Mac>, hostname: Option<&str>) -> bool {
        match self {
            Self::Network(network) => addresses.iter().any(|address| network.contains(address)),
            Self::Mac(own) => mac == Some(*own),
            Self::Host(name) => {
                hostname.is_some_and(|hostname| hostname.eq_ignore_ascii_case(name))
            }
        }
    }
}

/// The text names no machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a machine; give its address, a network, its MAC or its host name")]
pub struct ParseNamedError;

/// As it is read.
impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().fmt(f)
            }
            Self::Network(network) => network.fmt(f),
            Self::Mac(mac) => mac.fmt(f),
            Self::Host(name) => name.fmt(f),
        }
    }
}

impl FromStr for Named {
    type Err = ParseNamedError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self::Network(network.trunc()));
        }
        if let Ok(mac) = text.parse::<Mac>() {
            return if mac.is_station() {
                Ok(Self::Mac(mac))
            } else {
                Err(ParseNamedError)
            };
        }
        let is_label = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let is_name = text.len() <= 253
            && text.split('.').all(is_label)
            && text.bytes().any(|byte| byte.is_ascii_alphabetic());
        if is_name {
            Ok(Self::Host(text.to_owned()))
        } else {
            Err(ParseNamedError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thresholds_are_those_of_the_specification() {
        let Novelty { fast, slow, .. } = Novelty::default();
        assert!(
            (fast.threshold() - 18.4).abs() < 0.05,
            "{}",
            fast.threshold()
        );
        assert!(
            (slow.threshold() - 23.0).abs() < 0.05,
            "{}",
            slow.threshold()
        );
        assert!((fast.gain() - 3.178).abs() < 0.001 && (slow.gain() - 2.079).abs() < 0.001);
    }

    #[test]
    fn a_machine_is_named_by_address_network_mac_or_name() {
        for (text, shown) in [
            ("10.0.0.7", "10.0.0.7"),
            ("10.0.0.7/24", "10.0.0.0/24"),
            ("2001:db8::1", "2001:db8::1"),
            ("02-00-00-00-00-01", "02:00:00:00:00:01"),
            ("mail.example.org", "mail.example.org"),
            ("printer", "printer"),
        ] {
            let named: Named = text.parse().unwrap();
            assert_eq!(named.to_string(), shown);
            assert_eq!(named.to_string().parse(), Ok(named));
        }
        for bad in [
            "",
            "10.0.0",
            "10.0.0.300",
            "a b",
            "a..b",
            "ff:ff:ff:ff:ff:ff",
            "x\u{7}",
        ] {
            assert_eq!(bad.parse::<Named>(), Err(ParseNamedError), "{bad:?}");
        }
    }

    #[test]
    fn it_names_by_what_it_says_alone() {
        let address: IpAddr = [10, 0, 0, 7].into();
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let named = |text: &str| {
            let named: Named = text.parse().unwrap();
            named.names(&[address], Some(mac), Some("Printer"))
        };
        assert!(named("10.0.0.0/24") && named("02:00:00:00:00:01") && named("printer"));
        assert!(!named("10.0.0.8") && !named("02:00:00:00:00:02") && !named("print"));
    }
}
