//! Zeek's conn.log, as columns under a header or as JSON (Zeek's manual, conn.log and Zeek Log Formats;
//! `base/protocols/conn/main.zeek`).
//!
//! A log can have several headers, for it may be several ones joined. What comes before the first one is
//! read by the columns that Zeek writes by default, where their number fits.

use std::borrow::Cow;

use super::{Attempt, Decoded, Ends, Scalar, Skip, json, keep};
use crate::decode::stamp::Stamp;
use crate::model::{Mac, ResponseKind};

/// Columns of a header that are looked at; Zeek's own have some twenty, and scripts add to them.
const MAX_COLUMNS: usize = 256;
/// The word for a value that is not there: `-`, or what an admin has chosen.
const MAX_UNSET: usize = 16;

/// The fields of a connection that count here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Time,
    Source,
    SourcePort,
    Destination,
    DestinationPort,
    Protocol,
    State,
    History,
    SourceBytes,
    DestinationBytes,
    SourceIpBytes,
    DestinationIpBytes,
    Mac,
    Vlan,
    Path,
}

impl Field {
    fn called(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"ts" => Self::Time,
            b"id.orig_h" | b"id_orig_h" => Self::Source,
            b"id.orig_p" | b"id_orig_p" => Self::SourcePort,
            b"id.resp_h" | b"id_resp_h" => Self::Destination,
            b"id.resp_p" | b"id_resp_p" => Self::DestinationPort,
            b"proto" => Self::Protocol,
            b"conn_state" => Self::State,
            b"history" => Self::History,
            b"orig_bytes" => Self::SourceBytes,
            b"resp_bytes" => Self::DestinationBytes,
            b"orig_ip_bytes" => Self::SourceIpBytes,
            b"resp_ip_bytes" => Self::DestinationIpBytes,
            b"orig_l2_addr" => Self::Mac,
            b"vlan" => Self::Vlan,
            b"_path" => Self::Path,
            _ => return None,
        })
    }

    /// Without these a header is another log's.
    const NEEDED: [Self; 7] = [
        Self::Time,
        Self::Source,
        Self::SourcePort,
        Self::Destination,
        Self::DestinationPort,
        Self::Protocol,
        Self::State,
    ];
}

/// The columns before the last ones that versions differ in: `local_resp` came with Bro 2.4, `ip_proto`
/// behind all others with Zeek 7.1.
const DEFAULT_COLUMNS: [&str; 21] = [
    "ts",
    "uid",
    "id.orig_h",
    "id.orig_p",
    "id.resp_h",
    "id.resp_p",
    "proto",
    "service",
    "duration",
    "orig_bytes",
    "resp_bytes",
    "conn_state",
    "local_orig",
    "local_resp",
    "missed_bytes",
    "history",
    "orig_pkts",
    "orig_ip_bytes",
    "resp_pkts",
    "resp_ip_bytes",
    "tunnel_parents",
];

/// What the header has told of the lines after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    separator: u8,
    unset: Vec<u8>,
    columns: Columns,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Columns {
    /// No header yet.
    Default,
    /// What each column holds.
    Named(Vec<Option<Field>>),
    /// A header of another log.
    Foreign,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            separator: b'\t',
            unset: b"-".to_vec(),
            columns: Columns::Default,
        }
    }
}

/// The layout to begin with, where `line` in a log that begins with `head` shows that it is a conn.log.
pub(super) fn layout_of(line: &[u8], head: &[u8]) -> Option<Layout> {
    if line.starts_with(b"#") {
        let is_header = line.starts_with(b"#separator ") || line.starts_with(b"#fields");
        return (is_header && header(head).is_some_and(|layout| layout.is_conn()))
            .then(Layout::default);
    }
    let layout = Layout::default();
    if !line.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let connection = layout.columns(line).ok()?;
    let is_conn = connection
        .state
        .as_deref()
        .is_some_and(|state| by_state(state).is_ok());
    (is_conn && matches!(connection.read(), Ok(_) | Err(Skip::NoSyn))).then_some(layout)
}

/// Whether a text that begins with `head` is one of Zeek's logs, and not that of connections.
pub fn is_other_log(head: &[u8]) -> bool {
    head.starts_with(b"#separator ") && header(head).is_some_and(|layout| !layout.is_conn())
}

/// What the first header in `head` tells, where there is a whole one.
fn header(head: &[u8]) -> Option<Layout> {
    let mut layout = Layout::default();
    let lines = head.split(|&b| b == b'\n');
    for line in lines.filter(|line| line.starts_with(b"#")) {
        layout.follow(super::trimmed(line));
        if layout.columns != Columns::Default {
            return Some(layout);
        }
    }
    None
}

impl Layout {
    fn is_conn(&self) -> bool {
        matches!(self.columns, Columns::Named(_))
    }

    /// Takes a line of a header.
    pub(super) fn follow(&mut self, line: &[u8]) {
        if let Some(separator) = line.strip_prefix(b"#separator ") {
            // A header begins anew, with the words of its own.
            *self = Self::default();
            match unescaped(separator).as_deref() {
                Some([separator]) => self.separator = *separator,
                // Zeek can be told to write longer ones; nobody does.
                _ => self.columns = Columns::Foreign,
            }
            return;
        }
        let mut words = line.split(|&b| b == self.separator);
        match words.next() {
            Some(b"#unset_field") => {
                let word = words.next().unwrap_or_default();
                self.unset = word[..word.len().min(MAX_UNSET)].to_vec();
            }
            Some(b"#fields") => {
                let fields: Vec<_> = words.take(MAX_COLUMNS).map(Field::called).collect();
                let has = |needed: &Field| fields.contains(&Some(*needed));
                self.columns = if Field::NEEDED.iter().all(has) {
                    Columns::Named(fields)
                } else {
                    Columns::Foreign
                };
            }
            _ => {}
        }
    }

    /// Reads a line, columns or JSON.
    pub(super) fn decode<'a>(&self, line: &'a [u8]) -> Decoded<'a> {
        if line.starts_with(b"#") {
            return Err(Skip::Header);
        }
        if !line.starts_with(b"{") {
            return self.columns(line)?.read();
        }
        let mut connection = Connection::default();
        let is_whole = json::walk(line, &mut |outer, key, value| {
            if let ("", Some(field)) = (outer, Field::called(key.as_bytes())) {
                connection.take(field, value);
            }
        });
        if !is_whole {
            return Err(Skip::BrokenZeek);
        }
        if connection.is_foreign || connection.state.is_none() {
            return Err(Skip::OtherLog);
        }
        connection.read()
    }

    fn columns<'a>(&self, line: &'a [u8]) -> Result<Connection<'a>, Skip> {
        let mut connection = Connection::default();
        let mut take = |field: Option<Field>, column: &'a [u8]| {
            if let Some(field) = field
                && column != self.unset
                && let Ok(text) = std::str::from_utf8(column)
            {
                connection.take(field, Scalar::Text(Cow::Borrowed(text)));
            }
        };
        let columns = line.split(|&b| b == self.separator);
        let count = columns.clone().count();
        match &self.columns {
            Columns::Foreign => return Err(Skip::OtherLog),
            Columns::Named(fields) if fields.len() != count => return Err(Skip::Columns),
            Columns::Named(fields) => {
                for (field, column) in fields.iter().zip(columns) {
                    take(*field, column);
                }
            }
            Columns::Default => {
                let has_local_resp = match count {
                    20 => false,
                    21 | 22 => true,
                    _ => return Err(Skip::NoHeader),
                };
                let names = DEFAULT_COLUMNS.iter();
                let names = names.filter(|name| has_local_resp || **name != "local_resp");
                for (name, column) in names.zip(columns) {
                    take(Field::called(name.as_bytes()), column);
                }
            }
        }
        Ok(connection)
    }
}

/// Reads what stands after `#separator`: bytes as they are, or `\x09`.
fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    match text.strip_prefix(b"\\x") {
        Some(digits) => {
            let digits = std::str::from_utf8(digits.get(..2)?).ok()?;
            let rest = &text[4..];
            let mut bytes = vec![u8::from_str_radix(digits, 16).ok()?];
            bytes.extend_from_slice(rest);
            Some(bytes)
        }
        None => Some(text.to_vec()),
    }
}

/// What a line tells of a connection.
#[derive(Default)]
struct Connection<'a> {
    stamp: Option<Stamp>,
    ends: Ends,
    is_tcp: bool,
    state: Option<Cow<'a, str>>,
    history: Option<Cow<'a, str>>,
    payload: (Option<u64>, Option<u64>),
    ip: (Option<u64>, Option<u64>),
    mac: Option<Mac>,
    vlan: Option<u16>,
    is_foreign: bool,
}

impl<'a> Connection<'a> {
    fn take(&mut self, field: Field, value: Scalar<'a>) {
        match field {
            Field::Time => keep(&mut self.stamp, value.stamp()),
            Field::Source => keep(&mut self.ends.source, value.address()),
            Field::SourcePort => keep(&mut self.ends.source_port, value.number()),
            Field::Destination => keep(&mut self.ends.destination, value.address()),
            Field::DestinationPort => keep(&mut self.ends.destination_port, value.number()),
            Field::Protocol => self.is_tcp |= value.text() == "tcp",
            Field::State => keep(&mut self.state, value.into_text()),
            Field::History => keep(&mut self.history, value.into_text()),
            Field::SourceBytes => keep(&mut self.payload.0, value.number()),
            Field::DestinationBytes => keep(&mut self.payload.1, value.number()),
            Field::SourceIpBytes => keep(&mut self.ip.0, value.number()),
            Field::DestinationIpBytes => keep(&mut self.ip.1, value.number()),
            Field::Mac => keep(&mut self.mac, value.mac()),
            Field::Vlan => keep(&mut self.vlan, value.vlan()),
            Field::Path => self.is_foreign |= value.text() != "conn",
        }
    }

    fn read(self) -> Decoded<'a> {
        let stamp = self.stamp.ok_or(Skip::MissingField)?;
        // Of ICMP the ports are types and codes.
        let tuple = self.ends.tuple()?;
        if !self.is_tcp {
            return Ok(None);
        }
        let response = match (self.history.as_deref(), self.state.as_deref()) {
            (Some(history), _) => by_history(history),
            (None, Some(state)) => by_state(state)?,
            (None, None) => return Err(Skip::MissingField),
        };
        let (from, to) = self.ip;
        let ip_bytes = from.zip(to);
        Ok(Some(Attempt {
            response: Some(response.ok_or(Skip::NoSyn)?),
            bytes: ip_bytes.or(self.payload.0.zip(self.payload.1)),
            mac: self.mac,
            vlan: self.vlan,
            ..Attempt::new(stamp, tuple)
        }))
    }
}

/// What became of a connection by its `history`: a letter for each thing seen, the originator's large
/// and the responder's small. None where its SYN was not seen.
fn by_history(history: &str) -> Option<ResponseKind> {
    let has = |letter: char| history.contains(letter);
    if !has('S') {
        return None;
    }
    Some(if has('h') {
        // The first of these after a SYN/ACK completes the handshake; a reset does not.
        if has('A') || has('D') || has('F') {
            ResponseKind::Established
        } else {
            ResponseKind::Accepted
        }
    } else if has('r') {
        ResponseKind::Reset
    } else {
        ResponseKind::TimedOut
    })
}

/// The same by `conn_state`, where there is no history.
fn by_state(state: &str) -> Result<Option<ResponseKind>, Skip> {
    Ok(match state {
        "SF" | "S1" | "S2" | "S3" | "RSTO" | "RSTR" => Some(ResponseKind::Established),
        "REJ" => Some(ResponseKind::Reset),
        // Asked and gave up, by nothing, a FIN or a reset.
        "S0" | "SH" | "RSTOS0" => Some(ResponseKind::TimedOut),
        "OTH" | "SHR" | "RSTRH" => None,
        _ => return Err(Skip::BrokenZeek),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Content, Format};
    use super::*;
    use ResponseKind::{Accepted, Established, Reset, TimedOut};

    const HEADER: &str = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n#open\t2024-11-13-12-00-00\n#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tservice\tduration\torig_bytes\tresp_bytes\tconn_state\tlocal_orig\tlocal_resp\tmissed_bytes\thistory\torig_pkts\torig_ip_bytes\tresp_pkts\tresp_ip_bytes\ttunnel_parents\tvlan\tinner_vlan\torig_l2_addr\tresp_l2_addr\n#types\ttime\tstring\taddr\tport\taddr\tport\tenum\tstring\tinterval\tcount\tcount\tstring\tbool\tbool\tcount\tstring\tcount\tcount\tcount\tcount\tset[string]\tint\tint\tstring\tstring";
    const DEFAULT: &str = "1731500520.386389\tCz8F3O3rmUNrd0OxS5\t192.168.1.23\t40001\t203.0.113.9\t25\ttcp\tsmtp\t9.009072\t945\t5008\tSF\tT\tF\t0\tShAdDafF\t8\t1369\t7\t5372\t-";
    const JSON: &str = r#"{"ts":1731500520.386389,"uid":"Cz8F3O3rmUNrd0OxS5","id.orig_h":"192.168.1.23","id.orig_p":40001,"id.resp_h":"203.0.113.9","id.resp_p":25,"proto":"tcp","service":"smtp","duration":9.009072,"orig_bytes":945,"resp_bytes":5008,"conn_state":"SF","local_orig":true,"local_resp":false,"missed_bytes":0,"history":"ShAdDafF","orig_pkts":8,"orig_ip_bytes":1369,"resp_pkts":7,"resp_ip_bytes":5372}"#;

    fn headed(header: &str) -> Format {
        let mut format = Format::Zeek(Layout::default());
        for line in header.lines() {
            assert_eq!(
                format.decode(line.as_bytes()),
                Content::Skipped(Skip::Header)
            );
            format.follow(line.as_bytes());
        }
        format
    }

    fn attempt<'a>(format: &Format, line: &'a str) -> Attempt<'a> {
        match format.decode(line.as_bytes()) {
            Content::Attempt(attempt) => attempt,
            other => panic!("{other:?}: {line}"),
        }
    }

    fn reason(format: &Format, line: &str) -> &'static str {
        match format.decode(line.as_bytes()) {
            Content::Attempt(_) => "attempt",
            Content::Other => "other",
            Content::Skipped(skip) => skip.reason(),
        }
    }

    #[test]
    fn columns_under_a_header_and_json_say_the_same() {
        let format = headed(HEADER);
        let line = format!("{DEFAULT}\t7\t-\t02:00:5e:10:01:17\t02:00:5e:00:00:01");
        let read = attempt(&format, &line);
        assert_eq!(read.stamp, Stamp::Unix(1_731_500_520_386_389));
        assert_eq!(read.tuple.source.to_string(), "192.168.1.23");
        assert_eq!(read.tuple.destination.to_string(), "203.0.113.9");
        assert_eq!(
            (read.tuple.source_port, read.tuple.destination_port),
            (40001, 25)
        );
        assert_eq!(read.response, Some(ResponseKind::Established));
        assert_eq!(read.bytes, Some((1369, 5372)));
        assert_eq!(read.vlan, Some(7));
        assert_eq!(read.mac.unwrap().to_string(), "02:00:5e:10:01:17");
        let plain = Attempt {
            vlan: None,
            mac: None,
            ..read
        };
        let bare = Format::Zeek(Layout::default());
        assert_eq!(attempt(&bare, DEFAULT), plain);
        assert_eq!(attempt(&bare, JSON), plain);
        assert_eq!(attempt(&format, JSON), plain);
        for (column, newer) in [("\tT\tF\t", "\tT\t"), ("\t5372\t-", "\t5372\t-\t6")] {
            let line = DEFAULT.replace(column, newer);
            assert_eq!(attempt(&bare, &line), plain, "{line}");
        }
        for time in ["1731500520386", "\"2024-11-13T12:22:00.386389Z\""] {
            let line = JSON.replace("1731500520.386389", time);
            attempt(&bare, &line);
        }
    }

    #[test]
    fn history_and_state_tell_what_became_of_it() {
        let bare = Format::Zeek(Layout::default());
        let with = |state: &str, history: &str| {
            let line = DEFAULT.replace("\tSF\t", &format!("\t{state}\t"));
            let line = line.replace("ShAdDafF", history);
            match bare.decode(line.as_bytes()) {
                Content::Attempt(attempt) => attempt.response,
                Content::Skipped(Skip::NoSyn) => None,
                other => panic!("{other:?}"),
            }
        };
        for (state, history, response) in [
            ("S0", "S", Some(TimedOut)),
            ("S0", "-", Some(TimedOut)),
            ("REJ", "Sr", Some(Reset)),
            ("REJ", "-", Some(Reset)),
            ("RSTOS0", "SR", Some(TimedOut)),
            ("S1", "ShA", Some(Established)),
            ("S1", "Sh", Some(Accepted)),
            ("RSTO", "ShR", Some(Accepted)),
            ("RSTR", "ShADr", Some(Established)),
            ("RSTR", "-", Some(Established)),
            ("SF", "-", Some(Established)),
            ("OTH", "DadA", None),
            ("OTH", "-", None),
            ("SHR", "^hf", None),
            ("RSTRH", "-", None),
        ] {
            assert_eq!(with(state, history), response, "{state} {history}");
        }
    }

    #[test]
    fn a_header_rules_until_the_next() {
        let mut format = headed(
            "#separator ;\n#unset_field;NULL\n#fields;proto;ts;id.orig_h;id.orig_p;id.resp_h;id.resp_p;conn_state;history;orig_bytes",
        );
        let line = "tcp;1731500520.5;192.168.1.23;40001;203.0.113.9;25;S0;NULL;NULL";
        let read = attempt(&format, line);
        assert_eq!(
            (read.response, read.bytes),
            (Some(ResponseKind::TimedOut), None)
        );
        for header in HEADER.lines() {
            format.follow(header.as_bytes());
        }
        assert_eq!(reason(&format, line), "columns differ from the header");
        format.follow(b"#separator \\x09");
        assert_eq!(reason(&format, DEFAULT), "attempt");
        format
            .follow(b"#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tquery");
        assert_eq!(reason(&format, DEFAULT), "not the fields of a connection");
        format.follow(b"#separator \\x09\\x09");
        assert_eq!(reason(&format, DEFAULT), "not the fields of a connection");
    }

    #[test]
    fn each_reason_not_to_count() {
        let format = headed(HEADER);
        let bare = Format::Zeek(Layout::default());
        assert_eq!(reason(&format, DEFAULT), "columns differ from the header");
        for (line, expected) in [
            (DEFAULT.replace("\ttcp\t", "\tudp\t"), "other"),
            (DEFAULT[..60].to_owned(), "no header before it"),
            (
                DEFAULT.replace("1731500520.386389", "-"),
                "no time, address or port",
            ),
            (
                DEFAULT.replace("203.0.113.9", "(empty)"),
                "no time, address or port",
            ),
            (
                DEFAULT.replace("\tSF\t", "\tXX\t").replace("ShAdDafF", "-"),
                "broken Zeek line",
            ),
            (
                DEFAULT.replace("\tSF\t", "\t-\t").replace("ShAdDafF", "-"),
                "no time, address or port",
            ),
            (JSON[..100].to_owned(), "broken Zeek line"),
            (
                JSON.replace("conn_state", "x"),
                "not the fields of a connection",
            ),
            (
                JSON.replacen('{', "{\"_path\":\"dns\",", 1),
                "not the fields of a connection",
            ),
            (JSON.replacen('{', "{\"_path\":\"conn\",", 1), "attempt"),
            ("#close\t2024-11-13-13-00-00".to_owned(), "header"),
            (String::new(), "empty line"),
        ] {
            assert_eq!(reason(&bare, &line), expected, "{line}");
        }
    }

    #[test]
    fn conn_log_is_told_from_zeeks_other_logs() {
        assert!(Format::of(HEADER.as_bytes()).is_some());
        assert!(Format::of(DEFAULT.as_bytes()).is_some());
        assert!(!is_other_log(HEADER.as_bytes()));
        let dns = HEADER.replace("conn_state", "query");
        assert!(is_other_log(dns.as_bytes()));
        assert_eq!(Format::of(dns.as_bytes()), None);
        assert_eq!(Format::of(DEFAULT.replace("SF", "x").as_bytes()), None);
    }
}
