//! What neighbours have written down of connections: Zeek's conn.log, Suricata's EVE log, and packets
//! that ulogd2 prints as JSON. A line to the attempt it tells of, and what became of it.
//!
//! Zeek and Suricata write a connection down when it has ended; an attempt bears the time at which it
//! began, so lines are out of order by as long as connections last. What is not done: a connection whose
//! SYN was not seen is none that could be counted, and what other logs of these programs (Zeek's
//! smtp.log, EVE's alerts) say is not read.

pub mod eve;
mod json;
pub mod ulogd;
pub mod zeek;

use std::borrow::Cow;
use std::net::IpAddr;

use super::stamp::{self, Stamp};
use super::{decimal, syslog};
use crate::model::{Interface, Mac, ResponseKind, Tuple};

/// How the lines of such a log are to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// Zeek's conn.log, with what its header has told so far.
    Zeek(zeek::Layout),
    /// Suricata's EVE log.
    Eve,
    /// ulogd2's JSON output.
    Ulogd,
}

/// What a line tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// An attempt to open a TCP connection.
    Attempt(Attempt<'a>),
    /// A record of the kind that asks for no TCP connection.
    Other,
    /// No record.
    Skipped(Skip),
}

/// One attempt to open a TCP connection, as such a log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// When it began; for EVE's `smtp` without a start, when the transaction was written down.
    pub stamp: Stamp,
    /// Originator and responder.
    pub tuple: Tuple,
    /// Which rule or which kind of record tells of it.
    pub rule: Cow<'a, str>,
    /// Initial sequence number.
    pub isn: Option<u32>,
    /// IPv4 identification that is not 0.
    pub ip_id: Option<u16>,
    /// Originator's MAC, where it stands for a station.
    pub mac: Option<Mac>,
    /// Interface it came in by.
    pub interface: Interface,
    /// TTL or hop limit as it arrived.
    pub ttl: Option<u8>,
    /// Outermost VLAN id.
    pub vlan: Option<u16>,
    /// What became of it, where the record tells.
    pub response: Option<ResponseKind>,
    /// Bytes of the whole connection, from the originator and from the responder; with IP headers
    /// where the record has them so.
    pub bytes: Option<(u64, u64)>,
}

impl Attempt<'_> {
    /// An attempt of which no more is known than when and between whom.
    fn new(stamp: Stamp, tuple: Tuple) -> Self {
        Self {
            stamp,
            tuple,
            rule: Cow::Borrowed(""),
            isn: None,
            ip_id: None,
            mac: None,
            interface: Interface::default(),
            ttl: None,
            vlan: None,
            response: None,
            bytes: None,
        }
    }
}

/// Why a line is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Nothing stands there.
    Empty,
    /// A line of Zeek's header, or its closing one.
    Header,
    /// Cut off, or no line of Zeek's.
    BrokenZeek,
    /// Cut off, or no JSON object.
    BrokenEve,
    /// Cut off, or no JSON object.
    BrokenUlogd,
    /// Fewer or more columns than the header names.
    Columns,
    /// No header came before, and the columns are not those of Zeek's default.
    NoHeader,
    /// It, or the header before it, lacks what a connection is told by.
    OtherLog,
    /// An EVE event that is neither `flow` nor `smtp`.
    OtherEvent,
    /// No time, address or port where one belongs.
    MissingField,
    /// The connection's SYN was not seen.
    NoSyn,
    /// ulogd2's record of connection tracking, which does not tell a SYN.
    Tracking,
}

impl Skip {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Empty,
        Self::Header,
        Self::BrokenZeek,
        Self::BrokenEve,
        Self::BrokenUlogd,
        Self::Columns,
        Self::NoHeader,
        Self::OtherLog,
        Self::OtherEvent,
        Self::MissingField,
        Self::NoSyn,
        Self::Tracking,
    ];

    /// The reason in a few words, as reports count it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Empty => "empty line",
            Self::Header => "header",
            Self::BrokenZeek => "broken Zeek line",
            Self::BrokenEve => "broken EVE line",
            Self::BrokenUlogd => "broken ulogd line",
            Self::Columns => "columns differ from the header",
            Self::NoHeader => "no header before it",
            Self::OtherLog => "not the fields of a connection",
            Self::OtherEvent => "other event type",
            Self::MissingField => "no time, address or port",
            Self::NoSyn => "start not seen",
            Self::Tracking => "connection tracking event",
        }
    }
}

impl Format {
    /// The format of a log that begins with `head`, where it is one of these: the first line that tells.
    /// A log of lines with stamps is none, whatever stands in it further on.
    pub fn of(head: &[u8]) -> Option<Self> {
        for line in head.split(|&b| b == b'\n') {
            let line = trimmed(line);
            if let Some(layout) = zeek::layout_of(line, head) {
                return Some(Self::Zeek(layout));
            }
            if !line.starts_with(b"{") {
                if syslog::split(line).stamp != Stamp::None {
                    return None;
                }
                continue;
            }
            let mut keys = Keys::default();
            json::walk(line, &mut |outer, key, _| {
                if outer.is_empty() {
                    keys.note(key);
                }
            });
            if let Some(format) = keys.format() {
                return Some(format);
            }
        }
        None
    }

    /// The kind of its records, as reports name it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Zeek(_) => "zeek",
            Self::Eve => "eve",
            Self::Ulogd => "ulogd",
        }
    }

    /// Reads one line.
    pub fn decode<'a>(&self, line: &'a [u8]) -> Content<'a> {
        let line = trimmed(line);
        if line.is_empty() {
            return Content::Skipped(Skip::Empty);
        }
        let decoded = match self {
            Self::Zeek(layout) => layout.decode(line),
            Self::Eve => eve::decode(line),
            Self::Ulogd => ulogd::decode(line),
        };
        decoded.map_or_else(Content::Skipped, |attempt| {
            attempt.map_or(Content::Other, Content::Attempt)
        })
    }

    /// Takes what `line` says about the lines after it: Zeek's header.
    pub fn follow(&mut self, line: &[u8]) {
        if let (Self::Zeek(layout), Some(b'#')) = (self, line.first()) {
            layout.follow(trimmed(line));
        }
    }
}

/// What a line was decoded to: none is a record that asks for no TCP connection.
type Decoded<'a> = Result<Option<Attempt<'a>>, Skip>;

/// Names in a JSON object that tell who wrote it.
#[derive(Default)]
struct Keys {
    seen: [bool; Self::NAMES.len()],
    is_ulogd: bool,
}

impl Keys {
    const NAMES: [&str; 6] = [
        "event_type",
        "timestamp",
        "schema",
        "conn_state",
        "id.orig_h",
        "id_orig_h",
    ];

    fn note(&mut self, key: &str) {
        for (name, seen) in Self::NAMES.iter().zip(&mut self.seen) {
            *seen |= *name == key;
        }
        self.is_ulogd |= key.starts_with("oob.");
    }

    fn format(&self) -> Option<Format> {
        let [
            event_type,
            timestamp,
            schema,
            conn_state,
            originator,
            renamed,
        ] = self.seen;
        if conn_state && (originator || renamed) {
            Some(Format::Zeek(zeek::Layout::default()))
        } else if self.is_ulogd {
            Some(Format::Ulogd)
        } else if event_type && timestamp && !schema {
            // This program's own events borrow EVE's names, and bear a schema.
            Some(Format::Eve)
        } else {
            None
        }
    }
}

/// `line` without a byte order mark, and without what ends it elsewhere.
fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    let end = line.iter().rposition(|b| !matches!(b, b'\r' | b' ' | 0));
    &line[..end.map_or(0, |last| last + 1)]
}

/// A value as it stands in a column or a JSON object.
#[derive(Clone, Debug, PartialEq)]
enum Scalar<'a> {
    Text(Cow<'a, str>),
    Integer(u64),
    Float(f64),
    Bool(bool),
}

impl<'a> Scalar<'a> {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }

    fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn number<T: TryFrom<u64>>(&self) -> Option<T> {
        let number = match self {
            Self::Integer(number) => *number,
            Self::Text(text) => decimal(text.as_bytes())?,
            Self::Bool(flag) => u64::from(*flag),
            Self::Float(_) => return None,
        };
        T::try_from(number).ok()
    }

    fn is_set(&self) -> bool {
        self.number::<u64>().is_some_and(|number| number > 0)
    }

    fn address(&self) -> Option<IpAddr> {
        self.text().parse().ok()
    }

    fn mac(&self) -> Option<Mac> {
        let mac: Mac = self.text().parse().ok()?;
        mac.is_station().then_some(mac)
    }

    fn vlan(&self) -> Option<u16> {
        self.number().filter(|id| (1..4096).contains(id))
    }

    /// A stamp: seconds since the epoch, milliseconds where they are too many for seconds, or ISO 8601.
    fn stamp(&self) -> Option<Stamp> {
        /// In seconds it is the year 5138, in milliseconds 1973.
        const MILLISECONDS_FROM: u64 = 100_000_000_000;
        match self {
            Self::Text(text) => stamp::leading(text.as_bytes())
                .map(|(stamp, _)| stamp)
                .filter(|stamp| matches!(stamp, Stamp::Civil(civil) if civil.year.is_some()))
                .or_else(|| unix(text).map(Stamp::Unix)),
            Self::Integer(number) => {
                let unit = if *number < MILLISECONDS_FROM {
                    1_000_000
                } else {
                    1_000
                };
                let micros = i64::try_from(*number).ok()?.checked_mul(unit)?;
                Some(Stamp::Unix(micros))
            }
            #[expect(clippy::cast_possible_truncation, reason = "bounded before it")]
            Self::Float(seconds) => (0.0..1e11)
                .contains(seconds)
                .then(|| Stamp::Unix((seconds * 1e6).round() as i64)),
            Self::Bool(_) => None,
        }
    }
}

/// Reads `1258531221.486539` as microseconds; digits beyond are dropped.
fn unix(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(6);
    let micros = digits.try_fold(0, |value: i64, digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        Some(value * 10 + digit)
    })?;
    let seconds = i64::try_from(decimal(seconds.as_bytes())?).ok()?;
    seconds.checked_mul(1_000_000)?.checked_add(micros)
}

/// Of a field that comes twice the first counts.
fn keep<T>(slot: &mut Option<T>, value: Option<T>) {
    if slot.is_none() {
        *slot = value;
    }
}

/// Between whom, as far as a record tells.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    source_port: Option<u16>,
    destination_port: Option<u16>,
}

impl Ends {
    fn tuple(self) -> Result<Tuple, Skip> {
        let tuple = || {
            Some(Tuple {
                source: self.source?,
                destination: self.destination?,
                source_port: self.source_port?,
                destination_port: self.destination_port?,
            })
        };
        tuple().ok_or(Skip::MissingField)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_log_is_told_by_its_first_lines() {
        let name = |head: &str| Format::of(head.as_bytes()).map(|format| format.name());
        for (head, kind) in [
            (
                "#separator \\x09\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tconn_state\n",
                Some("zeek"),
            ),
            (
                r#"{"ts":1.5,"uid":"C","id.orig_h":"10.0.0.1","conn_state":"SF"}"#,
                Some("zeek"),
            ),
            // Cut by the end of the head.
            (
                r#"{"ts":1.5,"id.orig_h":"10.0.0.1","conn_state":"SF","hist"#,
                Some("zeek"),
            ),
            (
                "rest of a line\"}\n\n{\"timestamp\":\"x\",\"event_type\":\"stats\",\"stats\":{}}",
                Some("eve"),
            ),
            (
                r#"{"timestamp": "2026-11-23T19:57:39", "dvc": "Netfilter", "oob.mark": 0}"#,
                Some("ulogd"),
            ),
            (
                r#"{"schema":"smtpwatch.event.v1","timestamp":"x","event_type":"attempt"}"#,
                None,
            ),
            (r#"{"log":"\"event_type\" \"timestamp\""}"#, None),
            (
                "Jun  8 14:34:33 gw kernel: x\n{\"timestamp\":\"x\",\"event_type\":\"flow\"}",
                None,
            ),
            ("#!/bin/sh\n", None),
            ("", None),
        ] {
            assert_eq!(name(head), kind, "{head}");
        }
    }

    #[test]
    fn stamps_of_each_shape() {
        let micros = |scalar: Scalar<'_>| match scalar.stamp() {
            Some(Stamp::Unix(micros)) => Some(micros),
            _ => None,
        };
        let text = |text: &'static str| Scalar::Text(Cow::Borrowed(text));
        assert_eq!(
            micros(Scalar::Float(1_258_531_221.486_539)),
            Some(1_258_531_221_486_539)
        );
        assert_eq!(
            micros(Scalar::Integer(1_258_531_221)),
            Some(1_258_531_221_000_000)
        );
        assert_eq!(
            micros(Scalar::Integer(1_258_531_221_486)),
            Some(1_258_531_221_486_000)
        );
        assert_eq!(
            micros(text("1258531221.486539")),
            Some(1_258_531_221_486_539)
        );
        assert_eq!(micros(text("1258531221.48")), Some(1_258_531_221_480_000));
        for odd in ["", "-", "x", "1.x", "99999999999999999999", "-1"] {
            assert_eq!(text(odd).stamp(), None, "{odd}");
        }
        assert_eq!(Scalar::Float(f64::NAN).stamp(), None);
        assert_eq!(Scalar::Integer(u64::MAX).stamp(), None);
        assert!(matches!(
            text("2024-11-13T12:22:00.381225+1100").stamp(),
            Some(Stamp::Civil(civil)) if civil.offset == Some(11 * 3600) && civil.micros == 381_225
        ));
    }

    #[test]
    fn reasons_are_told_apart() {
        let mut reasons: Vec<_> = Skip::ALL.iter().map(|skip| skip.reason()).collect();
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons.len(), Skip::ALL.len());
        for (index, skip) in Skip::ALL.into_iter().enumerate() {
            assert_eq!(skip as usize, index);
        }
    }
}
