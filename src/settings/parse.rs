//! Texts that stand on the command line and in the configuration alike: networks, zones, durations,
//! sizes, sources; and durations and sizes written as they are read.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use jiff::tz::TimeZone;

/// Units of durations, the longest first.
const TIMES: [(&str, u64); 5] = [
    ("w", 7 * 86_400),
    ("d", 86_400),
    ("h", 3_600),
    ("m", 60),
    ("s", 1),
];
/// The longest duration: a hundred years.
const MAX_SECONDS: u64 = 3_153_600_000;
/// Units of sizes, the largest first.
const SIZES: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// Reads a network: `192.168.1.0/24`, or an address alone.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| {
            "not a network; give ADDRESS/LENGTH, such as 192.168.1.0/24 or 2001:db8::/48".to_owned()
        })
}

/// Reads a duration in one unit: `90s`, `10m`, `12h`, `7d`, `1w`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || "not a duration; give a number and a unit, such as 90s, 10m, 12h or 7d".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "min" => "m",
        unit => unit,
    };
    let (_, seconds) = TIMES
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(wrong)?;
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    match number.checked_mul(*seconds) {
        Some(seconds @ 1..=MAX_SECONDS) => Ok(Duration::from_secs(seconds)),
        _ => Err("not a duration between a second and a hundred years".to_owned()),
    }
}

/// Writes a duration as [`duration`] reads it, in the longest unit that it is a multiple of.
pub(super) fn duration_text(duration: Duration) -> String {
    in_units(duration.as_secs(), &TIMES, "s")
}

/// Reads a size: `500MiB`, `1GiB`; a megabyte at the least.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "not a size; give a number and KiB, MiB, GiB or TiB, such as 500MiB".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (_, bytes) = SIZES
        .iter()
        .find(|(name, _)| *name == &text[digits.len()..])
        .ok_or_else(wrong)?;
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    match number.checked_mul(*bytes) {
        Some(bytes @ 0x0010_0000..=0x0004_0000_0000_0000) => Ok(bytes),
        _ => Err("not a size between 1MiB and 1024TiB".to_owned()),
    }
}

/// Writes a size as [`size`] reads it.
pub(super) fn size_text(bytes: u64) -> String {
    in_units(bytes, &SIZES, "")
}

fn in_units(count: u64, units: &[(&str, u64)], smallest: &str) -> String {
    units
        .iter()
        .find(|(_, length)| count.is_multiple_of(*length))
        .map_or_else(
            || format!("{count}{smallest}"),
            |(name, length)| format!("{}{name}", count / length),
        )
}

/// A time zone, by the name that somebody gave it.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

impl Zone {
    /// What it means.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The text names no zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such zone; give a name such as Europe/Berlin or UTC")]
pub struct ParseZoneError;

impl FromStr for Zone {
    type Err = ParseZoneError;

    fn from_str(text: &str) -> Result<Self, ParseZoneError> {
        let zone = if text.eq_ignore_ascii_case("utc") || text == "Z" {
            TimeZone::UTC
        } else {
            TimeZone::get(text)
                .or_else(|_| TimeZone::posix(text))
                .map_err(|_| ParseZoneError)?
        };
        Ok(Self {
            name: text.to_owned(),
            zone,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("12h", 43_200), ("1w", 604_800)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
            assert_eq!(duration_text(Duration::from_secs(seconds)), text);
        }
        assert_eq!(duration("5min"), Ok(Duration::from_secs(300)));
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
    fn sizes_have_a_unit() {
        for (text, bytes) in [
            ("1GiB", 1 << 30),
            ("1536KiB", 1_572_864),
            ("20MiB", 20 << 20),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
            assert_eq!(size_text(bytes), text);
        }
        for text in [
            "",
            "1",
            "GiB",
            "1GB",
            "1 GiB",
            "-1MiB",
            "0MiB",
            "1KiB",
            "9999999TiB",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_zone_keeps_its_name() {
        for text in ["UTC", "Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3"] {
            assert_eq!(text.parse::<Zone>().unwrap().to_string(), text);
        }
        assert_eq!("Mars/X".parse::<Zone>(), Err(ParseZoneError));
    }
}
