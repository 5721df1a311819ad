//! systemd's journal as `journalctl -o json` and `journalctl -o export` write it.
//!
//! An entry says itself by which way it came: `_TRANSPORT=kernel` is set by journald alone
//! (systemd.journal-fields(7): fields that begin with an underscore cannot be set by clients), which
//! makes it better evidence than any text.

use std::borrow::Cow;
use std::fmt;

use memchr::{memchr, memmem};
use serde::de::{self, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::decimal;

/// The largest entry that is looked at; journald's own limit for a line is 48 KiB (`LineMax=`).
pub const MAX_ENTRY: usize = 256 * 1024;

/// A journal entry's fields that count here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry<'a> {
    /// `__REALTIME_TIMESTAMP`: microseconds since the epoch at which journald received it.
    pub micros: Option<i64>,
    /// Whether `_TRANSPORT` is `kernel`.
    pub is_kernel: bool,
    /// `SYSLOG_IDENTIFIER`.
    pub identifier: Cow<'a, [u8]>,
    /// `MESSAGE`.
    pub message: Cow<'a, [u8]>,
}

/// Fields that every entry has, whatever else it has and in whatever order.
const ADDRESS_FIELDS: [&[u8]; 5] = [
    b"__CURSOR",
    b"__REALTIME_TIMESTAMP",
    b"__MONOTONIC_TIMESTAMP",
    b"_BOOT_ID",
    b"_TRANSPORT",
];

/// Whether a text that begins so is a journal as JSON: among its first lines is an object with a
/// field that journald alone sets. What else stands there is no entry, and no reason to refuse it.
pub fn is_json(head: &[u8]) -> bool {
    head.split(|&b| b == b'\n').any(|line| {
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        line.first() == Some(&b'{')
            && ADDRESS_FIELDS.iter().any(|field| {
                memmem::find_iter(line, field).any(|at| {
                    line[..at].ends_with(b"\"") && line[at + field.len()..].starts_with(b"\"")
                })
            })
    })
}

/// Whether a text that begins so is a journal in the export format: a line in it assigns a field that
/// journald alone sets. It may begin within an entry.
pub fn is_export(head: &[u8]) -> bool {
    head.split(|&b| b == b'\n').any(|line| {
        ADDRESS_FIELDS.iter().any(|field| {
            line.strip_prefix(*field)
                .is_some_and(|rest| rest.starts_with(b"="))
        })
    })
}

/// A field as journalctl writes it: text, bytes where it is no UTF-8, a list where it occurs more
/// than once (the first counts), null where it is too large.
enum Field<'a> {
    Text(Cow<'a, str>),
    Byte(u8),
    Bytes(Vec<u8>),
    Nothing,
}

/// By hand, for serde's untagged enums copy what they look at, once for each level of a list in a
/// list: a line of 256 KiB could take hundreds of megabytes.
impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a journal field")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Field<'de>, E> {
        Ok(Field::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Field<'de>, E> {
        Ok(Field::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E: de::Error>(self, byte: u64) -> Result<Field<'de>, E> {
        let byte = u8::try_from(byte);
        byte.map(Field::Byte)
            .map_err(|_| E::custom("not a byte of a field"))
    }

    fn visit_unit<E>(self) -> Result<Field<'de>, E> {
        Ok(Field::Nothing)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Field<'de>, S::Error> {
        let mut bytes = match list.next_element()? {
            None => Vec::new(),
            Some(Field::Byte(first)) => vec![first],
            Some(first) => {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(first);
            }
        };
        while let Some(byte) = list.next_element()? {
            bytes.push(byte);
        }
        Ok(Field::Bytes(bytes))
    }
}

#[derive(Deserialize)]
struct Json<'a> {
    #[serde(rename = "__CURSOR", borrow)]
    cursor: Option<Field<'a>>,
    #[serde(rename = "__REALTIME_TIMESTAMP", borrow)]
    realtime: Option<Field<'a>>,
    #[serde(rename = "_TRANSPORT", borrow)]
    transport: Option<Field<'a>>,
    #[serde(rename = "SYSLOG_IDENTIFIER", borrow)]
    identifier: Option<Field<'a>>,
    #[serde(rename = "MESSAGE", borrow)]
    message: Option<Field<'a>>,
}

impl<'a> Field<'a> {
    fn into_bytes(self) -> Cow<'a, [u8]> {
        match self {
            Self::Text(Cow::Borrowed(text)) => Cow::Borrowed(text.as_bytes()),
            Self::Text(Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
            Self::Byte(byte) => Cow::Owned(vec![byte]),
            Self::Bytes(bytes) => Cow::Owned(bytes),
            Self::Nothing => Cow::default(),
        }
    }
}

/// Reads one line of `journalctl -o json`; none where it is no whole JSON object.
pub fn json(line: &[u8]) -> Option<Entry<'_>> {
    json_with_cursor(line).map(|(entry, _)| entry)
}

/// Reads one line like [`json`], and `__CURSOR`, the entry's place in its journal; empty where it has
/// none.
pub fn json_with_cursor(line: &[u8]) -> Option<(Entry<'_>, Cow<'_, [u8]>)> {
    let fields: Json<'_> = serde_json::from_slice(line).ok()?;
    let cursor = fields.cursor.map(Field::into_bytes).unwrap_or_default();
    let entry = Entry {
        micros: fields
            .realtime
            .and_then(|field| micros(&field.into_bytes())),
        is_kernel: fields
            .transport
            .is_some_and(|field| *field.into_bytes() == *b"kernel"),
        identifier: fields.identifier.map(Field::into_bytes).unwrap_or_default(),
        message: fields.message.map(Field::into_bytes).unwrap_or_default(),
    };
    Some((entry, cursor))
}

fn micros(text: &[u8]) -> Option<i64> {
    decimal(text).and_then(|micros| i64::try_from(micros).ok())
}

/// What the next bytes of an export are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole entry, and the bytes it takes.
    Entry(Entry<'a>, usize),
    /// The entry's end is not there yet.
    NeedMore,
    /// No entry: this many bytes belong to something else, or to one that is too large or cut off.
    /// They may be more than there are yet.
    Broken(usize),
    /// Nothing is left.
    End,
}

/// What comes next in an export that is read piece by piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A whole entry.
    Entry(Entry<'a>),
    /// Something that is no entry, or one that is too large or cut off.
    Broken,
    /// More bytes are wanted behind those that are left.
    NeedMore,
    /// Nothing is left.
    End,
}

/// Reads an export piece by piece, and remembers what it passes over: what lies within a field is
/// somebody's data, and no place to look for entries.
#[derive(Debug, Default)]
pub struct Reader {
    passed_over: usize,
    is_within_line: bool,
}

impl Reader {
    /// Reads from the front of `bytes`, which is moved on behind what was read; the last ones of the
    /// input where `is_last`.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8], is_last: bool) -> Next<'a> {
        self.pass_over(bytes);
        match export(bytes, is_last) {
            Step::Entry(entry, length) => {
                *bytes = &bytes[length..];
                Next::Entry(entry)
            }
            Step::Broken(length) => {
                // Cut within a line of text, whose length nothing tells.
                self.is_within_line = length == bytes.len() && bytes.last() != Some(&b'\n');
                self.passed_over = length;
                self.pass_over(bytes);
                Next::Broken
            }
            Step::NeedMore => Next::NeedMore,
            Step::End => Next::End,
        }
    }

    fn pass_over(&mut self, bytes: &mut &[u8]) {
        let present = bytes.len().min(self.passed_over);
        self.passed_over -= present;
        *bytes = &bytes[present..];
        if self.is_within_line && self.passed_over == 0 {
            match memchr(b'\n', bytes) {
                Some(end) => {
                    *bytes = &bytes[end + 1..];
                    self.is_within_line = false;
                }
                None => *bytes = &[],
            }
        }
    }
}

/// Reads the next entry of `journalctl -o export` from `bytes`, the last ones of the input where
/// `is_last` (systemd.io, Journal Export Formats: `NAME=text`, or `NAME`, a line feed, eight bytes
/// of length, the data and a line feed; an empty line ends an entry).
pub fn export(bytes: &[u8], is_last: bool) -> Step<'_> {
    let start = bytes.iter().take_while(|&&b| b == b'\n').count();
    if start == bytes.len() {
        return if is_last || start == 0 {
            Step::End
        } else {
            Step::Broken(start)
        };
    }
    let mut entry = Entry::default();
    let mut at = start;
    loop {
        match field(&bytes[at..]) {
            Piece::Whole(b"", _, length) => return Step::Entry(entry, at + length),
            Piece::Whole(name, value, length) => {
                entry.take(name, value);
                at += length;
            }
            // The last entry of a stream may lack its empty line.
            Piece::Cut(_) if is_last && at == bytes.len() => return Step::Entry(entry, at),
            Piece::Cut(length) if bytes.len() - start > MAX_ENTRY || is_last => {
                let end = at.saturating_add(length);
                return Step::Broken(if is_last { bytes.len() } else { end });
            }
            Piece::Cut(_) => return Step::NeedMore,
            Piece::Malformed => {
                return match memmem::find(&bytes[at..], b"\n\n") {
                    Some(end) => Step::Broken(at + end + 1),
                    None if bytes.len() - start > MAX_ENTRY || is_last => Step::Broken(bytes.len()),
                    None => Step::NeedMore,
                };
            }
        }
    }
}

/// The largest field that journald takes (`DATA_SIZE_MAX` in its journal-importer.h).
const MAX_FIELD: usize = 768 * 1024 * 1024;

/// What a field begins with.
enum Piece<'a> {
    /// Name, value and length; the empty line that ends an entry has no name.
    Whole(&'a [u8], &'a [u8], usize),
    /// Its end is not there; it takes at least this many bytes. What is in it is somebody's data,
    /// and no place to look for entries.
    Cut(usize),
    /// Nothing that journald writes.
    Malformed,
}

fn field(bytes: &[u8]) -> Piece<'_> {
    let Some(end) = memchr(b'\n', bytes) else {
        return Piece::Cut(bytes.len());
    };
    let line = &bytes[..end];
    if let Some(equals) = memchr(b'=', line) {
        return Piece::Whole(&line[..equals], &line[equals + 1..], end + 1);
    }
    if line.is_empty() {
        return Piece::Whole(line, line, 1);
    }
    let Some((length, rest)) = bytes[end + 1..].split_first_chunk::<8>() else {
        return Piece::Cut(bytes.len());
    };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let all = end + 1 + 8;
    match (rest.get(..length), rest.get(length)) {
        _ if length > MAX_FIELD => Piece::Malformed,
        (Some(value), Some(b'\n')) => Piece::Whole(line, value, all + length + 1),
        (Some(_), Some(_)) => Piece::Malformed,
        _ => Piece::Cut(all + length + 1),
    }
}

impl<'a> Entry<'a> {
    fn take(&mut self, name: &[u8], value: &'a [u8]) {
        match name {
            b"__REALTIME_TIMESTAMP" => self.micros = micros(value),
            b"_TRANSPORT" => self.is_kernel = value == b"kernel",
            b"SYSLOG_IDENTIFIER" => self.identifier = Cow::Borrowed(value),
            b"MESSAGE" => self.message = Cow::Borrowed(value),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = br#"{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"1700000000000001","_TRANSPORT":"kernel","SYSLOG_IDENTIFIER":"kernel","MESSAGE":"FW: \"IN=eth0"}"#;

    fn entry() -> Entry<'static> {
        Entry {
            micros: Some(1_700_000_000_000_001),
            is_kernel: true,
            identifier: Cow::Borrowed(b"kernel"),
            message: Cow::Borrowed(b"FW: \"IN=eth0"),
        }
    }

    #[test]
    fn json_with_text_bytes_lists_and_null() {
        assert!(is_json(LINE));
        assert_eq!(json(LINE), Some(entry()));
        assert_eq!(json_with_cursor(LINE).unwrap().1, b"s=1".as_slice());
        let odd =
            br#"{"MESSAGE":[73,78,255],"_TRANSPORT":["syslog","kernel"],"SYSLOG_IDENTIFIER":null}"#;
        let odd = json(odd).unwrap();
        assert_eq!(odd.message, b"IN\xff".as_slice());
        assert!(!odd.is_kernel);
        assert!(odd.identifier.is_empty());
        assert_eq!(json(&LINE[..60]), None);
        assert!(!is_json(br#"{"log":"IN=eth0"}"#));
        assert!(!is_json(br#"{"log":"_TRANSPORT=kernel"}"#));
        assert!(is_json(
            &[
                b"Hint: you see only your own\n{\"_HOSTNAME\"",
                &LINE[..1],
                LINE
            ]
            .concat()
        ));
    }

    fn exported(message: &[u8], binary: bool) -> Vec<u8> {
        let mut text =
            b"__CURSOR=s=1\n__REALTIME_TIMESTAMP=1700000000000001\n_TRANSPORT=kernel\n".to_vec();
        if binary {
            text.extend_from_slice(b"MESSAGE\n");
            text.extend_from_slice(&(message.len() as u64).to_le_bytes());
        } else {
            text.extend_from_slice(b"MESSAGE=");
        }
        text.extend_from_slice(message);
        text.extend_from_slice(b"\nSYSLOG_IDENTIFIER=kernel\n\n");
        text
    }

    fn entries(text: &[u8]) -> Vec<Step<'_>> {
        let mut steps = Vec::new();
        let mut rest = text;
        loop {
            let step = export(rest, true);
            match &step {
                Step::Entry(_, length) | Step::Broken(length) => rest = &rest[*length..],
                Step::End => return steps,
                Step::NeedMore => panic!("at the end there is no more"),
            }
            steps.push(step);
        }
    }

    #[test]
    fn export_with_text_and_binary_fields() {
        for binary in [false, true] {
            let mut text = exported(b"FW: \"IN=eth0", binary);
            assert!(is_export(&text));
            assert!(is_export(&text[20..]));
            let one = text.clone();
            text.extend_from_slice(&one);
            let found = entries(&text);
            assert_eq!(found.len(), 2);
            assert!(
                found
                    .iter()
                    .all(|step| *step == Step::Entry(entry(), one.len()))
            );
            for cut in 0..one.len() - 1 {
                assert!(
                    matches!(export(&one[..cut], false), Step::NeedMore | Step::End),
                    "{cut}"
                );
            }
        }
        let forged = exported(b"x\n_TRANSPORT=syslog\n\nMESSAGE=y", true);
        assert_eq!(entries(&forged).len(), 1);
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_to_its_end() {
        let mut text = b"__REALTIME_TIMESTAMP=1\n_TRANSPORT=syslog\nMESSAGE=".to_vec();
        text.extend(std::iter::repeat_n(b'x', 2 * MAX_ENTRY));
        let forged = b"\n_TRANSPORT=kernel\n\n";
        for cut in 0..20 {
            // The buffer may end anywhere, so that what is left begins like a field.
            let mut text = text.clone();
            text.extend_from_slice(b"_TRANSPORT=kernel");
            let border = text.len() - cut;
            text.extend_from_slice(&forged[..1]);
            text.extend_from_slice(b"MESSAGE=IN=eth0\n\n");
            let good = exported(b"FW: \"IN=eth0", false);
            text.extend_from_slice(&good);
            let mut reader = Reader::default();
            let mut first = &text[..border];
            assert_eq!(reader.next(&mut first, false), Next::Broken, "{cut}");
            let left = first.len();
            let mut rest = &text[border - left..];
            let mut kernel = 0;
            loop {
                match reader.next(&mut rest, true) {
                    Next::Entry(entry) => kernel += usize::from(entry.is_kernel),
                    Next::Broken => {}
                    Next::NeedMore | Next::End => break,
                }
            }
            assert_eq!(kernel, 1, "{cut}");
        }
    }

    #[test]
    fn a_broken_entry_hides_no_other() {
        let mut text = b"MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\xffxx\n\n".to_vec();
        text.extend_from_slice(&exported(b"FW: \"IN=eth0", false));
        let found = entries(&text);
        assert!(matches!(found[0], Step::Broken(_)));
        assert!(matches!(found.last(), Some(Step::Entry(e, _)) if e.is_kernel));
    }

    /// What a program logs is its data, wherever the journal was cut and however large it is.
    #[test]
    fn no_entry_is_found_within_a_field() {
        let kernels = exported(b"FW: IN=eth0", false);
        let forged = exported(&[b"x\n\n", &kernels[..]].concat(), true);
        let forged = &forged[memmem::find(&forged, b"MESSAGE").unwrap()..];
        for end in 0..forged.len() {
            let found = entries(&forged[..end]);
            assert!(
                !found
                    .iter()
                    .any(|step| matches!(step, Step::Entry(entry, _) if entry.is_kernel)),
                "{end}"
            );
        }
        let mut large = b"COREDUMP\n".to_vec();
        large.extend_from_slice(&600_000_u64.to_le_bytes());
        let header = large.len();
        large.extend_from_slice(&kernels.repeat(3_000));
        assert_eq!(
            export(&large[..=MAX_ENTRY], false),
            Step::Broken(header + 600_000 + 1)
        );
    }
}
