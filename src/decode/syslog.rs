//! What stands before a message: priority, stamp, host, tag; and so, who wrote it.
//!
//! Shapes: RFC 3164 and RFC 5424 as files hold them (with or without `<PRI>`), rsyslog's, syslog-ng's
//! and busybox's files (`kern.warn kernel:`), `logread`, `journalctl -o short*`, `dmesg` (`-r`, `-x`,
//! `-T`, `--time-format iso`), `/dev/kmsg`, a serial console, Proxmox VE's firewall log, and any of
//! these behind `grep -H`'s file name.
//!
//! Only the kernel's own words may name a machine, so this room decides who is speaking. Text can be
//! forged by whoever may write to the log; what this can do is refuse every line that says itself
//! that another program wrote it.

use std::cell::Cell;

use memchr::{memchr, memmem, memrchr};

use super::stamp::{self, Civil, Stamp};
use super::{decimal, leading_decimal, next_word, trim_spaces};

/// Who wrote a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// The kernel, or the daemon that logs packets for it (`kernel`, `klogd`, `ulogd`).
    Kernel,
    /// No tag behind the host: the kernel's where the logger writes none.
    Untagged,
    /// Neither stamp nor tag: a console's line, or a line of something else altogether.
    Headerless,
    /// Another program, by its tag.
    Program(&'a [u8]),
    /// A journal entry that did not come from the kernel, by its identifier.
    NotKernel(&'a [u8]),
}

/// A line taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its time, as far as it says.
    pub stamp: Stamp,
    /// Its writer.
    pub origin: Origin<'a>,
    /// The message.
    pub message: &'a [u8],
}

/// Facility of the kernel's own messages (RFC 5424, table 1).
const KERNEL_FACILITY: u64 = 0;

const FACILITIES: [&[u8]; 21] = [
    b"kern",
    b"user",
    b"mail",
    b"daemon",
    b"auth",
    b"syslog",
    b"lpr",
    b"news",
    b"uucp",
    b"cron",
    b"authpriv",
    b"ftp",
    b"security",
    b"local0",
    b"local1",
    b"local2",
    b"local3",
    b"local4",
    b"local5",
    b"local6",
    b"local7",
];

/// What applications write where syslog has the host: levels, streams, a zone.
const LEVELS: [&[u8]; 13] = [
    b"stdout",
    b"stderr",
    b"UTC",
    b"TRACE",
    b"DEBUG",
    b"INFO",
    b"NOTICE",
    b"WARN",
    b"WARNING",
    b"ERROR",
    b"FATAL",
    b"CRITICAL",
    b"SEVERE",
];

/// Takes `line` (without its line feed) apart.
pub fn split(line: &[u8]) -> Line<'_> {
    let line = trim_ends(line);
    let indented = line.first().is_some_and(u8::is_ascii_whitespace);
    let line = line.trim_ascii_start();
    headed(line)
        .or_else(|| behind_file_name(line))
        .unwrap_or_else(|| bare(line, indented))
}

/// Takes lines apart, and remembers the stamp of the last one: in a busy log most lines bear that of
/// the line before.
#[derive(Clone, Debug, Default)]
pub struct Splitter {
    /// The sixteen bytes that end with the space behind a stamp such as `Jun  8 14:34:33`.
    last: Cell<Option<([u8; 16], Stamp)>>,
}

impl Splitter {
    /// What [`split`] answers.
    pub fn split<'a>(&self, line: &'a [u8]) -> Line<'a> {
        let trimmed = trim_ends(line);
        let Some(begin) = trimmed.first_chunk::<16>() else {
            return split(line);
        };
        if let Some((known, stamp)) = self.last.get()
            && known == *begin
        {
            let (origin, message) = host_and_tag(&trimmed[15..], true);
            return Line {
                stamp,
                origin,
                message,
            };
        }
        if begin[15] == b' '
            && let Some((stamp @ Stamp::Civil(Civil { year: None, .. }), rest)) =
                stamp::leading(trimmed)
            && rest.len() == trimmed.len() - 15
        {
            self.last.set(Some((*begin, stamp)));
        }
        split(line)
    }
}

/// Takes apart a line with a header that is known.
fn headed(line: &[u8]) -> Option<Line<'_>> {
    if let Some(parsed) = stamp::leading(line).and_then(|(stamp, rest)| stamped(line, stamp, rest))
    {
        return Some(parsed);
    }
    match line.first() {
        Some(b'<') => with_priority(line),
        Some(b'0'..=b'9') => kmsg(line)
            .or_else(|| rfc5424(line))
            .or_else(|| proxmox(line)),
        _ => dmesg_decoded(line),
    }
}

/// Drops the carriage return, NULs and blanks at the end and the NULs at the start (a log that was
/// truncated under its writer begins with a run of them).
fn trim_ends(line: &[u8]) -> &[u8] {
    let start = line.iter().position(|&b| b != 0).unwrap_or(line.len());
    let end = line
        .iter()
        .rposition(|&b| !matches!(b, 0 | b'\r' | b' ' | b'\n'))
        .map_or(start, |last| last + 1);
    &line[start.min(end)..end]
}

fn stamped<'a>(line: &'a [u8], stamp: Stamp, rest: &'a [u8]) -> Option<Line<'a>> {
    let is_ring = line[0] == b'[' || is_dmesg_iso(line, rest);
    let (origin, message) = match rest.first() {
        // printk's caller (`[   12.3][    T1] `) follows without a space.
        Some(b' ' | b'[') | None if is_ring => ring(trim_spaces(rest)),
        Some(b' ') => host_and_tag(rest, leaves_tags_out(line, &stamp)),
        None => (Origin::Untagged, rest),
        Some(_) => return None,
    };
    Some(Line {
        stamp,
        origin,
        message,
    })
}

/// Whether loggers that write this stamp may leave the tag out: syslog's own stamps. Without an
/// offset behind `T`, and as seconds, applications write them, and journalctl never without a tag.
fn leaves_tags_out(line: &[u8], stamp: &Stamp) -> bool {
    match stamp {
        Stamp::Civil(Civil {
            year: Some(_),
            offset,
            ..
        }) => offset.is_some() && line.get(10) == Some(&b'T') || line[0].is_ascii_uppercase(),
        Stamp::Civil(_) => true,
        _ => false,
    }
}

/// `host tag: message`, with what relays and busybox put in between.
fn host_and_tag(rest: &[u8], may_lack_tag: bool) -> (Origin<'_>, &[u8]) {
    let (first, after_first) = next_word(rest);
    let (second, after_second) = next_word(after_first);
    // Nearly every line is one of these two, and whatever the host looks like, the tag says who
    // speaks (UniFi: `("U7PG2,...") kernel:`).
    if first.ends_with(b":") {
        return (speaker(before_colon(first)), after_first);
    }
    if second.ends_with(b":") && !first.contains(&b'[') {
        return (speaker(before_colon(second)), after_second);
    }
    if let Some(name) = process_id(first) {
        return (speaker(name), after_first);
    }
    if second.ends_with(b":") {
        return (speaker(before_colon(second)), after_second);
    }
    if is_facility_and_level(first) {
        return tagged(after_first, may_lack_tag, first);
    }
    if starts_record(first) && may_lack_tag {
        return (Origin::Untagged, rest);
    }
    if second == first || is_facility_and_level(second) {
        return tagged(after_second, may_lack_tag, first);
    }
    tagged(after_first, may_lack_tag && is_host(first), first)
}

fn tagged<'a>(text: &'a [u8], may_lack_tag: bool, host: &'a [u8]) -> (Origin<'a>, &'a [u8]) {
    let (word, rest) = next_word(text);
    match tag(word) {
        Some(tag) => (speaker(tag), rest),
        None if may_lack_tag => untagged(text),
        None => (Origin::Program(host), text),
    }
}

fn starts_record(word: &[u8]) -> bool {
    word.starts_with(b"IN=") || word.starts_with(b"OUT=")
}

/// A message without a tag; a process id further on (`Some Service[123]:`) is a tag all the same, and
/// so is one without a colon in its first word (`proftpd[12] ...`).
fn untagged(message: &[u8]) -> (Origin<'_>, &[u8]) {
    let (first, _) = next_word(message);
    if let (Some(bracket), Some(b']')) = (memchr(b'[', first), first.last())
        && bracket > 0
        && decimal(&first[bracket + 1..first.len() - 1]).is_some()
    {
        return (Origin::Program(&first[..bracket]), message);
    }
    match memchr(b'=', message).and_then(|end| process_id(&message[..end])) {
        Some(tag) => (Origin::Program(tag), message),
        None => (Origin::Untagged, message),
    }
}

fn speaker(tag: &[u8]) -> Origin<'_> {
    match tag {
        b"kernel" | b"klogd" | b"ulogd" => Origin::Kernel,
        other => Origin::Program(other),
    }
}

/// The name in `name:`, `name[pid]:` or `name[pid]:message`; none where the word is no tag.
fn tag(word: &[u8]) -> Option<&[u8]> {
    if word.ends_with(b":") {
        return Some(before_colon(word));
    }
    process_id(word)
}

/// The name in `name:` or `name[pid]:`.
fn before_colon(word: &[u8]) -> &[u8] {
    let name = &word[..word.len() - 1];
    match name.strip_suffix(b"]") {
        Some(open) => &name[..open.iter().rposition(|&b| b == b'[').unwrap_or(name.len())],
        None => name,
    }
}

/// The name before the first `[digits]:` in `text`.
fn process_id(text: &[u8]) -> Option<&[u8]> {
    let mut from = 0;
    while let Some(bracket) = memchr(b'[', &text[from..]).map(|at| from + at) {
        if let Some((_, rest)) = leading_decimal(&text[bracket + 1..])
            && rest.starts_with(b"]:")
        {
            let start = memrchr(b' ', &text[..bracket]).map_or(0, |space| space + 1);
            return Some(&text[start..bracket]);
        }
        from = bracket + 1;
    }
    None
}

fn is_facility_and_level(word: &[u8]) -> bool {
    memchr(b'.', word).is_some_and(|dot| FACILITIES.contains(&&word[..dot]))
}

/// Whether a word behind a stamp can be a host: not a number, nor the level or the stream that an
/// application's own log has there, nor an address with a port.
fn is_host(word: &[u8]) -> bool {
    let name = |b: &u8| b.is_ascii_alphanumeric() || *b >= 0x80 || b"._:@/-%,()\"".contains(b);
    let is_level = LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
    let is_number = word.iter().all(|b| b.is_ascii_digit() || b".:".contains(b))
        && memchr(b'.', word).is_none_or(|_| memchr(b':', word).is_some());
    word.len() > 1
        && word.iter().all(name)
        && word.iter().any(|b| b.is_ascii_alphanumeric() || *b >= 0x80)
        && !is_level
        && !is_number
}

/// What the kernel's ring buffer holds: its own message, or one that a program wrote to /dev/kmsg
/// under its name; `journalctl -o short-monotonic` puts host and tag there. Apache's error log looks
/// like `dmesg -T` up to here.
fn ring(rest: &[u8]) -> (Origin<'_>, &[u8]) {
    let (first, after_first) = next_word(rest);
    let (second, after_second) = next_word(after_first);
    if first == b"kernel:" {
        return (Origin::Kernel, after_first);
    }
    if second == b"kernel:" {
        return (Origin::Kernel, after_second);
    }
    if [first, second].contains(&b"[client".as_slice()) {
        return (Origin::Program(b"httpd"), rest);
    }
    // Xorg's log: `[   12.345678] (II) ...`.
    if matches!(first, [b'(', _, _, b')']) {
        return (Origin::Program(b"Xorg"), rest);
    }
    match process_id(first).or_else(|| process_id(second)) {
        Some(tag) => (Origin::Program(tag), rest),
        None => (Origin::Kernel, rest),
    }
}

/// `dmesg --time-format iso` alone writes microseconds behind a comma and an offset with a colon:
/// `2022-06-08T14:34:33,123456+02:00 `. It gives neither host nor tag.
fn is_dmesg_iso(line: &[u8], rest: &[u8]) -> bool {
    line.len() - rest.len() == 32 && line[10] == b'T' && line[19] == b',' && line[29] == b':'
}

/// `<PRI>` and what follows it.
fn with_priority(line: &[u8]) -> Option<Line<'_>> {
    let (priority, rest) = leading_decimal(&line[1..])?;
    let rest = rest.strip_prefix(b">")?;
    if priority > 191 {
        return None;
    }
    if let Some(line) = rfc5424(rest) {
        return Some(line);
    }
    let parsed = match stamp::leading(rest) {
        Some((stamp, after)) => stamped(rest, stamp, after)?,
        None => {
            let (word, after) = next_word(rest);
            let (origin, message) = match tag(word) {
                Some(name) if priority >> 3 != KERNEL_FACILITY => (speaker(name), after),
                _ => ring(rest),
            };
            Line {
                stamp: Stamp::None,
                origin,
                message,
            }
        }
    };
    // Without a host this is the ring buffer (dmesg -r), where the facility tells who wrote.
    let from_ring = !matches!(parsed.stamp, Stamp::Civil(_) | Stamp::Unix(_));
    Some(match parsed.origin {
        Origin::Kernel if from_ring && priority >> 3 != KERNEL_FACILITY => Line {
            origin: Origin::Program(b"user space"),
            ..parsed
        },
        _ => parsed,
    })
}

/// `VERSION TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA MSG` (RFC 5424, section 6).
fn rfc5424(text: &[u8]) -> Option<Line<'_>> {
    let rest = text.strip_prefix(b"1 ")?;
    let (stamp, rest) = match rest.strip_prefix(b"- ") {
        Some(rest) => (Stamp::None, rest),
        None => {
            let (stamp, rest) = stamp::leading(rest)?;
            (stamp, rest.strip_prefix(b" ")?)
        }
    };
    let (_host, rest) = next_word(rest);
    let (application, rest) = next_word(rest);
    let (_process, rest) = next_word(rest);
    let (_id, rest) = next_word(rest);
    let message = match rest.strip_prefix(b"-") {
        Some(rest) => rest,
        None => after_structured_data(rest)?,
    };
    let message = trim_spaces(message);
    let message = message.strip_prefix(b"\xef\xbb\xbf").unwrap_or(message);
    let origin = match application.strip_suffix(b":").unwrap_or(application) {
        b"-" | b"" => untagged(message).0,
        name => speaker(name),
    };
    Some(Line {
        stamp,
        origin,
        message,
    })
}

/// Steps over `[id name="value" ...]...`, in which `"`, `\` and `]` are escaped within values.
fn after_structured_data(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text;
    while rest.first() == Some(&b'[') {
        let mut quoted = false;
        let mut escaped = false;
        let end = rest.iter().position(|&b| {
            let closes = b == b']' && !quoted;
            match b {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ => {}
            }
            closes
        })?;
        rest = &rest[end + 1..];
    }
    Some(rest)
}

/// `4,52361,1942191038,-;message` (Documentation/ABI/testing/dev-kmsg).
fn kmsg(line: &[u8]) -> Option<Line<'_>> {
    let (priority, rest) = leading_decimal(line)?;
    let (_sequence, rest) = leading_decimal(rest.strip_prefix(b",")?)?;
    let (micros, rest) = leading_decimal(rest.strip_prefix(b",")?)?;
    if !matches!(rest.first(), Some(b',' | b';')) {
        return None;
    }
    let message = &rest[memchr(b';', rest)? + 1..];
    Some(Line {
        stamp: Stamp::Uptime(i64::try_from(micros).ok()?),
        origin: if priority >> 3 == KERNEL_FACILITY {
            Origin::Kernel
        } else {
            Origin::Program(b"user space")
        },
        message,
    })
}

/// `VMID LEVEL CHAIN 20/Jun/2022:13:09:14 +0200 message` (Proxmox VE's pve-firewall.log).
fn proxmox(line: &[u8]) -> Option<Line<'_>> {
    let (_machine, rest) = leading_decimal(line)?;
    let (_level, rest) = leading_decimal(rest.strip_prefix(b" ")?)?;
    let (_chain, rest) = next_word(rest.strip_prefix(b" ")?);
    let (stamp, message) = stamp::common_log(rest)?;
    Some(Line {
        stamp,
        origin: Origin::Untagged,
        message,
    })
}

/// `kern  :warn  : [   12.345678] message` (dmesg -x).
fn dmesg_decoded(line: &[u8]) -> Option<Line<'_>> {
    let colon = memchr(b':', line.get(..16)?)?;
    let facility = line[..colon].trim_ascii_end();
    let after = &line[colon + 1..];
    if colon < 6 || !FACILITIES.contains(&facility) {
        return None;
    }
    let rest = &after[memchr(b':', after.get(..10)?)? + 1..];
    let rest = trim_spaces(rest);
    let (stamp, rest) = match stamp::leading(rest) {
        Some((stamp, rest)) => (stamp, rest),
        None => (Stamp::None, rest),
    };
    let (origin, message) = match facility {
        b"kern" => ring(trim_spaces(rest)),
        other => (Origin::Program(other), rest),
    };
    Some(Line {
        stamp,
        origin,
        message,
    })
}

/// A line that `grep -H` found: the file's name, a colon, perhaps a number and a colon, the line.
fn behind_file_name(line: &[u8]) -> Option<Line<'_>> {
    let limit = line
        .iter()
        .take(256)
        .position(u8::is_ascii_whitespace)
        .unwrap_or(line.len().min(256));
    let mut from = 0;
    while let Some(colon) = memchr(b':', &line[from..limit]).map(|at| from + at) {
        if let Some(line) = headed(&line[colon + 1..]) {
            return Some(line);
        }
        from = colon + 1;
    }
    None
}

/// A line without any header. What is indented goes on with another program's message.
fn bare(line: &[u8], indented: bool) -> Line<'_> {
    let (word, rest) = next_word(line);
    let (origin, message) = match tag(word) {
        Some(b"kernel") if word.ends_with(b":") => (Origin::Kernel, rest),
        Some(name) if !word.ends_with(b":") || word.ends_with(b"]:") => {
            (Origin::Program(name), rest)
        }
        _ if indented => (Origin::Program(b"continued line"), line),
        _ if has_foreign_header(line) => (Origin::Program(b"unknown"), line),
        _ => match untagged(line) {
            (Origin::Untagged, line) => (Origin::Headerless, line),
            program => program,
        },
    };
    Line {
        stamp: Stamp::None,
        origin,
        message,
    }
}

/// Whether what stands before the record is the header of some other log: a time of day, a level, a
/// key in small letters, a column. The kernel's console prints none of these.
fn has_foreign_header(line: &[u8]) -> bool {
    let end = memmem::find(line, b"IN=").or_else(|| memmem::find(line, b"OUT="));
    let Some(end) = end.filter(|&end| end > 0) else {
        return false;
    };
    let header = &line[..end];
    let has_time = header.windows(5).any(|five| {
        matches!(
            five,
            [b'0'..=b'9', b'0'..=b'9', b':', b'0'..=b'9', b'0'..=b'9']
        )
    });
    let has_key = header
        .windows(2)
        .any(|two| two[0].is_ascii_lowercase() && two[1] == b'=');
    let (first, _) = next_word(header);
    let name = first.split(|&b| b == b':').next().unwrap_or_default();
    let has_level = LEVELS.iter().any(|level| name.eq_ignore_ascii_case(level));
    // Seconds since the epoch, or a date without separators.
    let has_number = first.iter().take_while(|b| b.is_ascii_digit()).count() >= 8;
    // `MESSAGE=IN=...`: a field of a journal, or of anything else that names its values.
    let is_value = header.last() == Some(&b'=');
    has_time || is_value || has_number || has_key || has_level || memchr(b'|', header).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Origin and message of a line, as text.
    fn who(line: &str) -> (String, String) {
        let line = split(line.as_bytes());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let origin = match line.origin {
            Origin::Program(name) => format!("program {}", text(name)),
            other => format!("{other:?}"),
        };
        (origin, text(line.message))
    }

    #[test]
    fn the_kernel_speaks_in_many_shapes() {
        for line in [
            "Jun  8 14:34:33 gw kernel: IN=x",
            "Jun  8 14:34:33 gw kernel[0]: IN=x",
            "Jun  8 14:34:33 gw klogd: IN=x",
            "Jun  8 14:34:33 gw ulogd[321]: IN=x",
            "Jun  8 14:34:33 kernel: IN=x",
            "Jun  8 14:34:33 gw kern.warn kernel: IN=x",
            "Jun  8 14:34:33 gw gw kernel: IN=x",
            "<4>Jun  8 14:34:33 gw kernel: IN=x",
            "Wed Jun  8 14:34:33 2022 kern.warn kernel: IN=x",
            "2022-06-08T14:34:33.123456+02:00 gw kernel: IN=x",
            "2022-06-08T14:34:33,123456+02:00 gw kernel: IN=x",
            "2022-06-08T14:34:33,123456+02:00 kernel: IN=x",
            "<4>1 2022-06-08T14:34:33Z gw kernel - - - IN=x",
            "1 2022-06-08T14:34:33Z gw kernel - - [a@1 b=\"\\\"]\"][c] \u{feff}IN=x",
            "<4>1 - gw kernel - - - IN=x",
            "4,52361,1942191038,-;IN=x",
            "4,52361,1942191038,-,caller=T1;IN=x",
            "<4>[   12.345678] IN=x",
            "<4>IN=x",
            "kern  :warn  : [   12.345678] IN=x",
            "[   12.345678] IN=x",
            "[   12.345678] gw kernel: IN=x",
            "Jun 13 23:29:15 (\"U7PG2,802aa8,v4.0\") kernel: IN=x",
            "2022-06-08 14:34:33,123 gw kernel: IN=x",
            "1654698873.123456 gw kernel: IN=x",
            "k.log:4,52361,1942191038,-;IN=x",
            "k.log:<4>1 2022-06-08T14:34:33.003Z gw kernel - - - IN=x",
            "[Wed Jun  8 14:34:33 2022] IN=x",
            "messages.1:Jun  8 14:34:33 gw kernel: IN=x",
            "messages.1:17:Jun  8 14:34:33 gw kernel: IN=x",
            "kernel: IN=x",
            "\0\0\0Jun  8 14:34:33 gw kernel: IN=x\r",
        ] {
            assert_eq!(
                who(line),
                ("Kernel".to_owned(), "IN=x".to_owned()),
                "{line}"
            );
        }
        for (line, message) in [
            ("2022-06-08T14:34:33,123456+02:00 FW: IN=x", "FW: IN=x"),
            ("2022-06-08T14:34:33,123456+02:00 IN=x", "IN=x"),
            (
                "2022-06-08T14:34:33,123456+02:00 [UFW BLOCK] IN=x",
                "[UFW BLOCK] IN=x",
            ),
            (
                "2022-06-08T14:34:33,123456+02:00 SMTP OUT: IN=x",
                "SMTP OUT: IN=x",
            ),
            (
                "[Wed Jun  8 14:34:33 2022] [UFW BLOCK] IN=x",
                "[UFW BLOCK] IN=x",
            ),
            ("[   12.345678][    T1] FW: IN=x", "[    T1] FW: IN=x"),
            ("[   12.345678] FW: IN=x", "FW: IN=x"),
        ] {
            assert_eq!(
                who(line),
                ("Kernel".to_owned(), message.to_owned()),
                "{line}"
            );
        }
    }

    #[test]
    fn a_logger_that_writes_no_tag() {
        for (line, message) in [
            (
                "Jun 13 23:29:15 gw [WAN-2147483647] DESCR=\"[WAN]Block\" IN=x",
                "[WAN-2147483647] DESCR=\"[WAN]Block\" IN=x",
            ),
            ("Jun 13 23:29:15 gw gw [WAN] IN=x", "[WAN] IN=x"),
            (
                "101 1 tap101i0-IN 20/Jun/2022:13:12:46 +0200 REJECT: IN=x",
                "REJECT: IN=x",
            ),
            ("<4>1 2022-06-08T14:34:33Z gw - - - - IN=x", "IN=x"),
            ("Jun 13 23:29:15 gw FW:IN=x", "FW:IN=x"),
            ("2022-06-08T14:34:33+02:00 gw FW IN=x", "FW IN=x"),
        ] {
            assert_eq!(
                who(line),
                ("Untagged".to_owned(), message.to_owned()),
                "{line}"
            );
        }
        assert_eq!(who("FW DROP: IN=x").0, "Headerless");
        assert_eq!(who("FW: IN=x").0, "Headerless");
    }

    #[test]
    fn other_programs_never_pass_for_the_kernel() {
        for (line, name) in [
            ("Jun  8 14:34:33 gw app[12]: IN=x", "app"),
            ("Jun  8 14:34:33 gw app: IN=x", "app"),
            ("Jun  8 14:34:33 gw app[12]:IN=x", "app"),
            ("Jun  8 14:34:33 gw gw sshd[12]: IN=x", "sshd"),
            ("Jun  8 14:34:33 gw user.notice app: IN=x", "app"),
            ("Jun  8 14:34:33 gw Some Media Server[123]: IN=x", "Server"),
            ("Jun  8 14:34:33 app: kernel: IN=x", "app"),
            ("2022-06-08 14:34:33,123 INFO [main] IN=x", "INFO"),
            ("2022-06-08 14:34:33,123 - name - IN=x", "-"),
            ("2022-06-08 14:34:33,123 fail2ban.filter [12]: IN=x", ""),
            (
                "2022-06-08 14:34:33 rejected EHLO from [198.51.100.66]: syntax: IN=x",
                "rejected",
            ),
            (
                "[Wed Jun 08 14:34:33.123456 2022] [core:error] [client 1.2.3.4:55] IN=x",
                "unknown",
            ),
            (
                "[Wed Jun  8 14:34:33 2022] [error] [client 1.2.3.4] IN=x",
                "httpd",
            ),
            (
                "2022-06-08 14:34:33 1.2.3.4:1194 peer info: IN=x",
                "1.2.3.4:1194",
            ),
            (
                "2022-06-08 14:34:33.123 UTC [12] app@db STATEMENT:  IN=x",
                "UTC",
            ),
            ("2022-06-08T14:34:33.123456789Z stdout F IN=x", "stdout"),
            ("2022-06-08T14:34:33.123456Z 12 [Note] IN=x", "12"),
            ("2022-06-08T14:34:33.123+0200 I NETWORK  [conn1] IN=x", "I"),
            ("2022-06-08T14:34:33Z error c.e.Foo IN=x", "error"),
            (
                "2022-06-08T14:34:33Z gw proftpd[12] gw (1.2.3.4): IN=x",
                "proftpd",
            ),
            ("1654698873.123456 gw app IN=x", "gw"),
            ("1654698873.123    100 1.2.3.4 TCP_MISS/200 IN=x", "unknown"),
            ("[   12.345678] (II) IN=x", "Xorg"),
            ("2022/06/08 14:34:33 [error] IN=x", "unknown"),
            ("[08-Jun-2022 14:34:33 UTC] PHP Notice: IN=x", "unknown"),
            ("[2022-06-08T14:34:33,123][INFO ] IN=x", "unknown"),
            ("14:34:33.123 [main] INFO IN=x", "unknown"),
            ("I0608 14:34:33.123456 123 f.cc:12] IN=x", "unknown"),
            ("INFO:mod:IN=x", "unknown"),
            ("WARNING:root:kernel: IN=x", "unknown"),
            ("type=AVC msg=audit(1654698873.123:45): IN=x", "unknown"),
            ("app_1  | IN=x", "unknown"),
            ("MESSAGE=IN=x", "unknown"),
            ("k.log:12,1,1,-;IN=x", "user space"),
            ("k.log:user  :warn  : [   12.345678] IN=x", "user"),
            ("my logs/m:Jun  8 14:34:33 gw app: IN=x", "unknown"),
            ("2022-06-08T14:34:33,123456+02:00 gw app[1]: IN=x", "app"),
            ("2022-06-08T14:34:33,123456+02:00 app[1]: IN=x", "app"),
            ("<14>1 2022-06-08T14:34:33Z gw app 12 - - IN=x", "app"),
            ("<12>[   12.345678] IN=x", "user space"),
            ("12,52361,1942191038,-;IN=x", "user space"),
            ("user  :warn  : [   12.345678] IN=x", "user"),
            ("[   12.345678] systemd[1]: IN=x", "systemd"),
            ("[   12.345678] gw app[1]: IN=x", "app"),
            ("app[1]: IN=x", "app"),
            ("    IN=x", "continued line"),
        ] {
            assert_eq!(who(line).0, format!("program {name}"), "{line}");
        }
    }

    #[test]
    fn remembering_the_stamp_changes_no_answer() {
        let splitter = Splitter::default();
        for line in [
            "Jun  8 14:34:33 gw kernel: IN=x",
            "Jun  8 14:34:33 gw app[1]: IN=x",
            "Jun  8 14:34:33.123 gw kernel: IN=x",
            "Jun  8 14:34:33 ",
            "Jun  8 14:34:34 gw IN=x",
            "Jun  8 14:34:34 gw IN=y\r",
            "Jun 8 14:34:34 gw kernel: IN=y",
            "2022-06-08 14:34:33 gw kernel: IN=x",
        ] {
            for _ in 0..2 {
                assert_eq!(
                    splitter.split(line.as_bytes()),
                    split(line.as_bytes()),
                    "{line}"
                );
            }
        }
    }

    #[test]
    fn structured_data_hides_what_it_quotes() {
        let line = "<14>1 2022-06-08T14:34:33Z gw kernel - - [x a=\"] kernel: IN=y\"] IN=x";
        assert_eq!(who(line), ("Kernel".to_owned(), "IN=x".to_owned()));
        assert_eq!(
            who("<14>1 2022-06-08T14:34:33Z gw kernel - - [x a=\"").0,
            "program user space"
        );
    }
}
