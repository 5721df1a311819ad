//! Netfilter's packet records: what the LOG target, nft's `log` statement and ulogd2's LOGEMU print.
//!
//! `PREFIX IN=if OUT=if [PHYSIN= PHYSOUT=] [MAC=|MACSRC= MACDST= MACPROTO=] SRC= DST= LEN= ... PROTO=TCP
//! SPT= DPT= [SEQ= ACK=] WINDOW= RES= SYN URGP= [OPT (...)] [MARK=]` (`net/netfilter/nf_log_syslog.c`).
//! Fields are read by key, never by position: the prefix is any text, with spaces, `KEY=VALUE` and
//! times in it, and may be glued to `IN=`. An ICMP error quotes the packet it answers in brackets
//! (`[SRC=... ]`); the quotation is no packet of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use memchr::{memchr, memmem};

use super::journal::Entry;
use super::stamp::Stamp;
use super::syslog::{self, Origin, Splitter};
use super::{decimal, end_of_word, leading_decimal, next_word};
use crate::model::{Interface, Mac};

/// Why a line is no packet record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Skip {
    /// Another program's line.
    OtherProgram,
    /// The kernel's, about something else.
    NotAPacket,
    /// A packet record that ends, or begins, in the middle.
    CutOff,
    /// A packet record whose SRC or DST is no address.
    BadAddress,
    /// `last message repeated N times`, added to the line before.
    RepeatMarker,
    /// Nothing in it.
    Empty,
    /// Neither header nor record.
    Unknown,
}

impl Skip {
    /// All reasons, in the order they are declared and shown.
    pub const ALL: [Self; 7] = [
        Self::OtherProgram,
        Self::NotAPacket,
        Self::CutOff,
        Self::BadAddress,
        Self::RepeatMarker,
        Self::Empty,
        Self::Unknown,
    ];

    /// The reason as it is shown.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Empty => "empty line",
            Self::OtherProgram => "other program",
            Self::NotAPacket => "not a packet",
            Self::CutOff => "cut off",
            Self::BadAddress => "bad address",
            Self::RepeatMarker => "repeat marker",
            Self::Unknown => "unknown line",
        }
    }
}

/// A packet record's fields; texts are parts of the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What the rule puts before the record.
    pub prefix: &'a [u8],
    /// `IN=`, the interface it came in by; empty for the gateway's own.
    pub input: &'a [u8],
    /// `OUT=`; empty before routing.
    pub output: &'a [u8],
    /// `MAC=`, the frame's header in hexadecimal: destination, source, type.
    pub header: &'a [u8],
    /// `MACSRC=`, where the rule decodes the header.
    pub header_source: &'a [u8],
    /// `SRC=`.
    pub source: &'a [u8],
    /// `DST=`.
    pub destination: &'a [u8],
    /// `PROTO=`.
    pub protocol: &'a [u8],
    /// `SPT=`.
    pub source_port: &'a [u8],
    /// `DPT=`.
    pub destination_port: &'a [u8],
    /// `SEQ=`, where the rule logs it.
    pub sequence: &'a [u8],
    /// `ID=`, the IPv4 identification.
    pub ip_id: &'a [u8],
    /// `TTL=`, or IPv6's `HOPLIMIT=`, as it was when the record was written.
    pub time_to_live: &'a [u8],
    /// Whether a bridge passes the packet on (`PHYSOUT=`), and not the router.
    pub is_bridged: bool,
    /// The flag `SYN`.
    pub syn: bool,
    /// The flag `ACK` (`ACK=` is the number).
    pub ack: bool,
    addresses: Option<(IpAddr, IpAddr)>,
}

impl<'a> Packet<'a> {
    fn is_whole(&self) -> bool {
        !self.source.is_empty() && !self.destination.is_empty()
    }

    /// Takes a field; of one that comes twice the first counts. Answers whether it makes the record
    /// whole.
    fn take(&mut self, token: &'a [u8]) -> bool {
        // Four bytes at once are one number to compare.
        let Some((key, value)) = token.split_first_chunk::<4>() else {
            self.syn |= token == b"SYN";
            self.ack |= token == b"ACK";
            return false;
        };
        let (field, value) = match key {
            b"SRC=" => (&mut self.source, value),
            b"DST=" => (&mut self.destination, value),
            b"SPT=" => (&mut self.source_port, value),
            b"DPT=" => (&mut self.destination_port, value),
            b"SEQ=" => (&mut self.sequence, value),
            b"OUT=" => (&mut self.output, value),
            b"MAC=" => (&mut self.header, value),
            b"TTL=" => (&mut self.time_to_live, value),
            [b'I', b'D', b'=', _] => (&mut self.ip_id, &token[3..]),
            b"PROT" if value.starts_with(b"O=") => (&mut self.protocol, &value[2..]),
            b"HOPL" if value.starts_with(b"IMIT=") => (&mut self.time_to_live, &value[5..]),
            b"MACS" if value.starts_with(b"RC=") => (&mut self.header_source, &value[3..]),
            b"PHYS" if value.starts_with(b"OUT=") => {
                self.is_bridged = true;
                return false;
            }
            _ => return false,
        };
        if !field.is_empty() {
            return false;
        }
        *field = value;
        matches!(key, b"SRC=" | b"DST=") && self.is_whole()
    }

    /// Whether it asks for a new TCP connection: SYN without ACK.
    pub fn is_syn(&self) -> bool {
        self.syn
            && !self.ack
            && (self.protocol.eq_ignore_ascii_case(b"TCP") || matches!(self.protocol, b"6" | b""))
    }

    /// The destination port.
    pub fn destination_port(&self) -> Option<u16> {
        port(self.destination_port)
    }

    /// The source port.
    pub fn source_port(&self) -> Option<u16> {
        port(self.source_port)
    }

    /// Source and destination address.
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        self.addresses.or_else(|| self.read_addresses())
    }

    fn read_addresses(&self) -> Option<(IpAddr, IpAddr)> {
        Some((address(self.source)?, address(self.destination)?))
    }

    /// The sender's MAC, where the frame had one that stands for a station.
    pub fn mac(&self) -> Option<Mac> {
        let text = if self.header_source.is_empty() {
            // Only an Ethernet header is 14 octets; tunnels and radios have others.
            (self.header.len() == 41).then(|| &self.header[18..35])?
        } else {
            self.header_source
        };
        let mac = mac(text)?;
        mac.is_station().then_some(mac)
    }

    /// The initial sequence number, where the rule logs sequence numbers.
    pub fn isn(&self) -> Option<u32> {
        decimal(self.sequence).and_then(|value| u32::try_from(value).ok())
    }

    /// The IPv4 identification, where there is one that is not 0.
    pub fn ip_id(&self) -> Option<u16> {
        decimal(self.ip_id)
            .and_then(|value| u16::try_from(value).ok())
            .filter(|&id| id != 0)
    }

    /// The TTL or hop limit with which the packet arrived. Behind the routing decision, where `OUT=`
    /// stands beside `IN=`, the machine has already counted it down by one (`ip_forward()`,
    /// `ip6_forward()`); a bridge does not.
    pub fn ttl(&self) -> Option<u8> {
        let logged = decimal(self.time_to_live).and_then(|value| u8::try_from(value).ok())?;
        let is_routed = !self.input.is_empty() && !self.output.is_empty() && !self.is_bridged;
        Some(logged.saturating_add(u8::from(is_routed)))
    }

    /// The interface it came in by.
    pub fn interface(&self) -> Interface {
        Interface::new(self.input)
    }
}

/// What a line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "an allocation for each packet would cost more"
)]
pub enum Content<'a> {
    /// A packet record, and how many packets it stands for beyond one that was logged before
    /// (`message repeated N times: [...]`), or 0.
    Packet(Packet<'a>, u32),
    /// `last message repeated N times`: what the line before says, N times more.
    Repeated(u32),
    /// The logger says that it lost this many messages.
    Lost(u64),
    /// No record.
    Skipped(Skip),
}

/// A line of a kernel log, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Its time as it stands there.
    pub stamp: Stamp,
    /// Who wrote it.
    pub origin: Origin<'a>,
    /// What it holds.
    pub content: Content<'a>,
}

/// Decodes lines; made once a thread, for the searches it prepares and what it remembers.
#[derive(Debug, Clone)]
pub struct Decoder {
    splitter: Splitter,
    admitted: Vec<Vec<u8>>,
    watched: Vec<memmem::Finder<'static>>,
    input: memmem::Finder<'static>,
    source: memmem::Finder<'static>,
}

impl Decoder {
    /// A decoder that takes the programs `admitted` for the kernel too.
    pub fn new(admitted: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self {
            splitter: Splitter::default(),
            admitted: admitted.into_iter().collect(),
            watched: Vec::new(),
            input: memmem::Finder::new(b"IN="),
            source: memmem::Finder::new(b" SRC="),
        }
    }

    /// This decoder, for those who only want packets to `ports`: of others it reads no further than
    /// their addresses, which make them records.
    #[must_use]
    pub fn watching(mut self, ports: &[u16]) -> Self {
        let finder = |port: &u16| memmem::Finder::new(&format!("DPT={port}")).into_owned();
        self.watched = ports.iter().map(finder).collect();
        self
    }

    /// Decodes `line`, without its line feed.
    pub fn decode<'a>(&self, line: &'a [u8]) -> Decoded<'a> {
        let syslog::Line {
            stamp,
            origin,
            message,
        } = self.splitter.split(line);
        Decoded {
            stamp,
            origin,
            content: self.content(origin, message),
        }
    }

    /// Decodes a journal entry.
    pub fn decode_entry<'a>(&self, entry: &'a Entry<'_>) -> Decoded<'a> {
        let origin = if entry.is_kernel {
            Origin::Kernel
        } else {
            Origin::NotKernel(&entry.identifier)
        };
        Decoded {
            stamp: entry.micros.map_or(Stamp::None, Stamp::Unix),
            origin,
            content: self.content(origin, &entry.message),
        }
    }

    fn content<'a>(&self, origin: Origin<'a>, message: &'a [u8]) -> Content<'a> {
        match origin {
            Origin::Kernel | Origin::Untagged => self.message(message),
            Origin::Headerless => self.headerless(message),
            Origin::Program(name) | Origin::NotKernel(name)
                if self.admitted.iter().any(|tag| tag == name) =>
            {
                self.message(message)
            }
            Origin::Program(name) | Origin::NotKernel(name) => other_program(name, message),
        }
    }

    /// Whether a line of another program looks like a packet record: worth telling the admin whose
    /// logger writes the kernel's messages under a tag of its own.
    pub fn resembles_packet(&self, line: &[u8]) -> bool {
        self.source.find(line).is_some() && self.input.find(line).is_some()
    }

    fn message<'a>(&self, message: &'a [u8]) -> Content<'a> {
        if message.is_empty() {
            return Content::Skipped(Skip::NotAPacket);
        }
        if let Some(content) = gathered(message) {
            return match content {
                Gathered::Times(times) => Content::Repeated(times),
                Gathered::Message(times, inner) => match self.record(inner) {
                    Ok(packet) => Content::Packet(packet, times),
                    Err(skip) => Content::Skipped(skip),
                },
            };
        }
        match self.record(message) {
            Ok(packet) => Content::Packet(packet, 0),
            Err(skip) => match dropped_by_printk(message) {
                Some(lost) => Content::Lost(lost),
                None => Content::Skipped(skip),
            },
        }
    }

    /// A line without a header counts only where all of it reads as the kernel prints it, for the
    /// log of any other program may hold a record that somebody else wrote into it.
    fn headerless<'a>(&self, message: &'a [u8]) -> Content<'a> {
        if message.is_empty() {
            return Content::Skipped(Skip::Empty);
        }
        match self.message(message) {
            Content::Packet(..) if !message.iter().all(|&b| is_kernels_own(b)) => {
                Content::Skipped(Skip::OtherProgram)
            }
            Content::Skipped(Skip::NotAPacket) => Content::Skipped(Skip::Unknown),
            content => content,
        }
    }

    fn record<'a>(&self, message: &'a [u8]) -> Result<Packet<'a>, Skip> {
        let start = match self.start_of_input(message) {
            Some(start) => start,
            None => start_of_output(message).ok_or(Skip::NotAPacket)?,
        };
        let mut packet = self.fields(message, start);
        match (packet.source, packet.destination) {
            (b"", b"") if packet.output.is_empty() && packet.header.is_empty() => {
                Err(Skip::NotAPacket)
            }
            (b"", _) | (_, b"") => Err(Skip::CutOff),
            _ if packet.input.is_empty()
                && packet.output.is_empty()
                && !has_input(&packet, message) =>
            {
                Err(Skip::NotAPacket)
            }
            _ if quotes_others(packet.prefix) => Err(Skip::NotAPacket),
            _ => match packet.read_addresses() {
                Some(addresses) => {
                    packet.addresses = Some(addresses);
                    Ok(packet)
                }
                None if ends_with(message, packet.destination) => Err(Skip::CutOff),
                None => Err(Skip::BadAddress),
            },
        }
    }

    /// Reads the fields from `start`, where `IN=` or `OUT=` stands. A further `IN=` begins anew: what
    /// came before it was the prefix, or a line that lost its end; unless that was a whole record, and
    /// what begins anew is not.
    fn fields<'a>(&self, message: &'a [u8], start: usize) -> Packet<'a> {
        let mut whole: Option<Packet<'_>> = None;
        let (mut packet, mut at) = in_order(message, start);
        if packet.is_whole() && !self.may_be_watched(&message[at..]) {
            return packet;
        }
        while at < message.len() {
            let end = at + end_of_word(&message[at..]);
            let token = &message[at..end];
            if let Some(input) = begins_record(token, &packet) {
                if packet.is_whole() {
                    whole = Some(packet);
                }
                packet = Packet {
                    prefix: &message[..at + input],
                    input: &token[input + 3..],
                    ..Packet::default()
                };
            } else if token.first() == Some(&b'[') && packet.is_whole() {
                // The packet that an ICMP error quotes; nothing that counts comes after it.
                break;
            } else if packet.take(token)
                && packet.destination_port.is_empty()
                && !self.may_be_watched(&message[end..])
            {
                return packet;
            }
            at = end + 1;
        }
        match whole {
            Some(whole) if !packet.is_whole() => whole,
            _ => packet,
        }
    }

    /// Whether a packet whose further fields are `rest` may go to a watched port.
    fn may_be_watched(&self, rest: &[u8]) -> bool {
        self.watched.is_empty()
            || self.watched.iter().any(|port| port.find(rest).is_some())
            // A second record on the line, which may count instead.
            || self.input.find(rest).is_some()
    }

    /// Where `IN=` stands that is not the end of `PHYSIN=`.
    fn start_of_input(&self, message: &[u8]) -> Option<usize> {
        if message.starts_with(b"IN=") {
            return Some(0);
        }
        self.input
            .find_iter(message)
            .find(|&at| !message[..at].ends_with(b"PHYS"))
    }
}

/// Tags under which a logger speaks of itself.
const SYSLOGD: [&[u8]; 4] = [b"syslogd", b"rsyslogd", b"syslog-ng", b"syslog"];

fn other_program<'a>(name: &[u8], message: &[u8]) -> Content<'a> {
    match gathered(message) {
        Some(Gathered::Times(times)) if SYSLOGD.contains(&name) => Content::Repeated(times),
        _ if name == b"systemd-journald" => match missed_by_journald(message) {
            Some(lost) => Content::Lost(lost),
            None => Content::Skipped(Skip::OtherProgram),
        },
        _ => Content::Skipped(Skip::OtherProgram),
    }
}

/// A program that only the gateway's own mail path prints has no `IN=` at all: a lone, non-empty
/// `OUT=` makes a record, an empty one does not.
fn start_of_output(message: &[u8]) -> Option<usize> {
    memmem::find_iter(message, b"OUT=").find(|&at| {
        !message[..at].ends_with(b"PHYS") && message.get(at + 4).is_some_and(|&b| b != b' ')
    })
}

fn has_input(packet: &Packet<'_>, message: &[u8]) -> bool {
    message[packet.prefix.len()..].starts_with(b"IN=")
}

fn ends_with(message: &[u8], field: &[u8]) -> bool {
    std::ptr::eq(message.as_ptr_range().end, field.as_ptr_range().end)
}

/// Reads the fields with which nearly every record begins, up to the first that is another: then, or
/// with a whole record, the packet so far, and where to go on.
fn in_order(message: &[u8], start: usize) -> (Packet<'_>, usize) {
    let mut packet = Packet {
        prefix: &message[..start],
        ..Packet::default()
    };
    let mut at = start;
    let mut value = |key: &[u8]| {
        let rest = message.get(at..)?.strip_prefix(key)?;
        let length = end_of_word(rest);
        at += key.len() + length + 1;
        Some(&rest[..length])
    };
    if let Some(input) = value(b"IN=") {
        packet.input = input;
        packet.output = value(b"OUT=").unwrap_or_default();
        packet.header = value(b"MAC=").unwrap_or_default();
        packet.source = value(b"SRC=").unwrap_or_default();
        packet.destination = value(b"DST=").unwrap_or_default();
    }
    (packet, at.min(message.len()))
}

/// Where in `token` a record begins: at once, or behind a prefix that is glued to it.
fn begins_record(token: &[u8], packet: &Packet<'_>) -> Option<usize> {
    if token.starts_with(b"IN=") {
        return Some(0);
    }
    // Only what is no field can be a prefix.
    let is_field = packet.is_whole()
        || matches!(
            token.first_chunk::<4>(),
            Some(b"OUT=" | b"MAC=" | b"SRC=" | b"DST=")
        )
        || [b"PHYS".as_slice(), b"MACSRC=", b"MACDST=", b"MACPROTO="]
            .iter()
            .any(|key| token.starts_with(key));
    if is_field { None } else { glued_input(token) }
}

fn glued_input(token: &[u8]) -> Option<usize> {
    memmem::find(token, b"IN=").filter(|&at| !token[..at].ends_with(b"PHYS"))
}

/// Whether the kernel repeats somebody else's words: a USB device's name, an audit record.
fn quotes_others(prefix: &[u8]) -> bool {
    let message = match prefix.strip_prefix(b"[") {
        Some(rest) => memchr(b']', rest).map_or(rest, |end| &rest[end + 1..]),
        None => prefix,
    };
    let message = message.trim_ascii_start();
    [b"usb ".as_slice(), b"audit: ", b"audit(", b"input: "]
        .iter()
        .any(|others| message.starts_with(others))
}

enum Gathered<'a> {
    Times(u32),
    Message(u32, &'a [u8]),
}

/// `last message repeated 3 times` (sysklogd, busybox) and `message repeated 3 times: [...]`
/// (rsyslog).
fn gathered(message: &[u8]) -> Option<Gathered<'_>> {
    if !matches!(message.first(), Some(b'l' | b'm' | b'-')) {
        return None;
    }
    let message = message.strip_prefix(b"--- ").unwrap_or(message);
    let (is_last, rest) = match message.strip_prefix(b"last ") {
        Some(rest) => (true, rest),
        None => (false, message),
    };
    let rest = rest.strip_prefix(b"message ")?;
    let (times, rest) = leading_decimal(rest.strip_prefix(b"repeated ")?)?;
    let rest = rest.strip_prefix(b" time")?;
    let rest = rest.strip_prefix(b"s").unwrap_or(rest);
    let times = u32::try_from(times).unwrap_or(u32::MAX);
    if is_last {
        let is_alone = matches!(rest.trim_ascii(), b"" | b"---");
        return is_alone.then_some(Gathered::Times(times));
    }
    let inner = rest.strip_prefix(b": [")?;
    Some(Gathered::Message(
        times,
        inner.strip_suffix(b"]").unwrap_or(inner),
    ))
}

/// `** 52 printk messages dropped **` (kernel/printk/printk.c).
fn dropped_by_printk(message: &[u8]) -> Option<u64> {
    let (lost, rest) = leading_decimal(message.strip_prefix(b"** ")?)?;
    rest.starts_with(b" printk messages dropped")
        .then_some(lost)
}

/// `Missed 52 kernel messages` (systemd-journald).
fn missed_by_journald(message: &[u8]) -> Option<u64> {
    let (lost, rest) = leading_decimal(next_word(message).1)?;
    (message.starts_with(b"Missed ") && rest.starts_with(b" kernel messages")).then_some(lost)
}

/// Whether the kernel prints this byte in a record and log formats that quote do not.
fn is_kernels_own(byte: u8) -> bool {
    !matches!(byte, b'"' | b'\'' | b'{' | b'}' | b'<' | b'`' | b'\\')
}

fn port(text: &[u8]) -> Option<u16> {
    let is_plain = text.len() == 1 || text.first() != Some(&b'0');
    let number = decimal(text).filter(|_| is_plain)?;
    u16::try_from(number).ok()
}

fn address(text: &[u8]) -> Option<IpAddr> {
    if let Some(v4) = ipv4(text) {
        return Some(IpAddr::V4(v4));
    }
    let v6: Ipv6Addr = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(IpAddr::V6(v6))
}

/// Reads dotted decimal; several times as fast as going through `str`, and every record has two.
fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let (first, rest) = octet(text)?;
    let (second, rest) = octet(rest.strip_prefix(b".")?)?;
    let (third, rest) = octet(rest.strip_prefix(b".")?)?;
    let (fourth, rest) = octet(rest.strip_prefix(b".")?)?;
    rest.is_empty()
        .then(|| Ipv4Addr::new(first, second, third, fourth))
}

/// Reads one to three digits as a number under 256.
#[inline]
fn octet(text: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |byte: &u8| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then_some(digit)
    };
    let (first, rest) = text.split_first()?;
    let mut value = digit(first)?;
    let Some((next, after)) = rest
        .split_first()
        .and_then(|(b, after)| Some((digit(b)?, after)))
    else {
        return Some((value, rest));
    };
    value = value * 10 + next;
    match after
        .split_first()
        .and_then(|(b, last)| Some((digit(b)?, last)))
    {
        None => Some((value, after)),
        Some((third, last)) => Some((value.checked_mul(10)?.checked_add(third)?, last)),
    }
}

fn mac(text: &[u8]) -> Option<Mac> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let text = text.first_chunk::<17>().filter(|_| text.len() == 17)?;
    let mut octets = [0; 6];
    for (place, octet) in octets.iter_mut().enumerate() {
        let at = place * 3;
        if at > 0 && text[at - 1] != b':' {
            return None;
        }
        *octet = digit(text[at])? << 4 | digit(text[at + 1])?;
    }
    Some(Mac(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "IN=eth1 OUT=eth0 MAC=00:08:a2:0c:1f:12:00:c8:8b:e2:d6:87:08:00 SRC=192.168.1.23 DST=203.0.113.9 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=37308 DF PROTO=TCP SPT=40001 DPT=25 WINDOW=64240 RES=0x00 SYN URGP=0";

    fn decode(line: &str) -> Decoded<'_> {
        Decoder::new([]).decode(line.as_bytes())
    }

    fn packet(line: &str) -> Packet<'_> {
        match decode(line).content {
            Content::Packet(packet, 0) => packet,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn skip(line: &str) -> Skip {
        match decode(line).content {
            Content::Skipped(skip) => skip,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn kernel(message: &str) -> String {
        format!("Jun  8 14:34:33 gw kernel: {message}")
    }

    #[test]
    fn every_field_of_a_syn() {
        let line = kernel(RECORD);
        let packet = packet(&line);
        assert!(packet.is_syn());
        assert_eq!(packet.destination_port(), Some(25));
        assert_eq!(packet.source_port(), Some(40001));
        assert_eq!(
            packet.addresses(),
            Some((
                "192.168.1.23".parse().unwrap(),
                "203.0.113.9".parse().unwrap()
            ))
        );
        assert_eq!(packet.mac().unwrap().to_string(), "00:c8:8b:e2:d6:87");
        assert_eq!(packet.ip_id(), Some(37308));
        assert_eq!(packet.isn(), None);
        assert_eq!(packet.interface().name(), "eth1");
        assert_eq!(packet.output, b"eth0");
        assert_eq!(packet.ttl(), Some(64));
    }

    #[test]
    fn the_ttl_is_the_one_it_arrived_with() {
        for (change, ttl) in [
            (("", ""), Some(64)),
            (("OUT=eth0", "OUT="), Some(63)),
            (("IN=eth1", "IN="), Some(63)),
            (("OUT=eth0", "OUT=eth0 PHYSIN=p1 PHYSOUT=p2"), Some(63)),
            (("OUT=eth0", "OUT=eth0 PHYSIN=p1"), Some(64)),
            (("TTL=63", "TTL=255"), Some(255)),
            (("TTL=63", "TTL=0"), Some(1)),
            (("TTL=63", "TTL=256"), None),
            (("TTL=63", "TTL="), None),
            (("TTL=63", "TTL=6x"), None),
            (("TTL=63", "TTL=63 TTL=9"), Some(64)),
            (("TTL=63 ", ""), None),
            (("TTL=63", "TC=0 HOPLIMIT=57 FLOWLBL=0"), Some(58)),
        ] {
            let line = kernel(&RECORD.replace(change.0, change.1));
            assert_eq!(packet(&line).ttl(), ttl, "{change:?}");
        }
    }

    #[test]
    fn any_prefix_glued_or_not() {
        for prefix in [
            "",
            "FW: ",
            "FW:",
            "[50028442.088484] ",
            "[ 12.5] FW OUT: ",
            "RULE=12 ZONE=lan ",
            "SRC=lan DST=wan ",
            "IN=lan ",
            "CHAIN=OUT ",
            "CHAIN=x FW:",
            "20/Jun/2022:13:09:14 +0200 policy DROP: ",
            "[DROP] DESCR=\"a b\" ",
            "DPT=2525 SYN ACK ",
            "last message repeated 2 times ",
            "last message repeated ",
            "PHYSIN=br0 ",
        ] {
            let line = kernel(&format!("{prefix}{RECORD}"));
            let packet = packet(&line);
            assert!(packet.is_syn(), "{prefix}");
            assert_eq!(packet.destination_port(), Some(25), "{prefix}");
            assert_eq!(packet.source, b"192.168.1.23", "{prefix}");
            assert_eq!(packet.input, b"eth1", "{prefix}");
            assert_eq!(packet.prefix, prefix.as_bytes(), "{prefix}");
        }
    }

    #[test]
    fn ipv6_decoded_headers_and_sequence_numbers() {
        let line = kernel(
            "IN=eth1 OUT= MACSRC=02:00:00:00:00:07 MACDST=02:00:00:00:00:01 MACPROTO=86dd SRC=2001:0db8:0000:0000:0000:0000:0000:0007 DST=2001:0db8:0001:0000:0000:0000:0000:0019 LEN=80 TC=0 HOPLIMIT=64 FLOWLBL=0 PROTO=TCP SPT=40001 DPT=25 SEQ=4294967295 ACK=0 WINDOW=64800 RES=0x00 SYN URGP=0",
        );
        let packet = packet(&line);
        assert!(packet.is_syn());
        assert_eq!(packet.isn(), Some(u32::MAX));
        assert_eq!(packet.mac().unwrap().to_string(), "02:00:00:00:00:07");
        assert_eq!(packet.addresses().unwrap().0.to_string(), "2001:db8::7");
    }

    #[test]
    fn what_an_icmp_error_quotes_is_no_packet() {
        let line = kernel(
            "IN=eth0 OUT= MAC= SRC=203.0.113.1 DST=192.168.1.23 LEN=88 TOS=0x00 PREC=0xC0 TTL=64 ID=1 PROTO=ICMP TYPE=3 CODE=1 [SRC=192.168.1.23 DST=203.0.113.9 LEN=60 PROTO=TCP SPT=40001 DPT=25 WINDOW=1 RES=0x00 SYN URGP=0 ] MTU=1500",
        );
        let packet = packet(&line);
        assert!(!packet.is_syn());
        assert_eq!(packet.source, b"203.0.113.1");
        assert_eq!(packet.destination_port(), None);
    }

    #[test]
    fn flags_are_whole_words() {
        let answer = kernel(&RECORD.replace(" SYN ", " ACK SYN "));
        assert!(!packet(&answer).is_syn());
        let number = kernel(&RECORD.replace("WINDOW", "SEQ=5 ACK=0 WINDOW"));
        assert!(packet(&number).is_syn());
        let udp = kernel(&RECORD.replace("TCP", "UDP"));
        assert!(!packet(&udp).is_syn());
    }

    #[test]
    fn the_gateways_own_mail_has_only_an_output() {
        let own = kernel("OUT=eth0 SRC=192.0.2.1 DST=203.0.113.9 PROTO=TCP SPT=1 DPT=25 SYN");
        assert_eq!(packet(&own).output, b"eth0");
        let both = kernel("IN= OUT= SRC=192.0.2.1 DST=203.0.113.9 PROTO=TCP SPT=1 DPT=25 SYN");
        assert_eq!(packet(&both).output, b"");
        assert_eq!(
            skip(&kernel(
                "XX=eth0 OUT= MAC= SRC=192.0.2.1 DST=203.0.113.9 PROTO=TCP"
            )),
            Skip::NotAPacket
        );
    }

    #[test]
    fn a_line_cut_anywhere_names_nobody_wrongly() {
        let line = kernel(RECORD);
        for end in 0..line.len() {
            match decode(&line[..end]).content {
                Content::Packet(packet, 0) => {
                    let (source, destination) = packet.addresses().unwrap();
                    assert_eq!(source.to_string(), "192.168.1.23");
                    assert!(destination.to_string().starts_with("203.0.113."));
                    if packet.is_syn() {
                        assert_eq!(packet.destination_port(), Some(25));
                    }
                }
                Content::Skipped(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(skip(&line[..line.find(" DST").unwrap()]), Skip::CutOff);
        assert_eq!(skip(&line[..line.find("3.0.113.9").unwrap()]), Skip::CutOff);
        assert_eq!(
            skip(&kernel(&RECORD.replace("203.0.113.9", "203.0.113.900"))),
            Skip::BadAddress
        );
    }

    #[test]
    fn of_two_records_on_a_line_the_whole_one_counts() {
        let whole = kernel(&format!(
            "{RECORD} Jun  8 14:34:33 gw kernel: IN=eth9 OUT=eth0 MAC=00:11"
        ));
        assert_eq!(packet(&whole).input, b"eth1");
        let half = kernel(&format!("IN=eth9 OUT=eth0 SRC=1.2.3.4 DS{RECORD}"));
        assert_eq!(packet(&half).source, b"192.168.1.23");
        let twice = kernel(&RECORD.replace("DPT=25", "DPT=25 DPT=80"));
        assert_eq!(packet(&twice).destination_port(), Some(25));
    }

    #[test]
    fn what_the_kernel_quotes_of_others_names_nobody() {
        for message in [
            "usb 1-1: Product: ",
            "[   12.345678] usb 1-1: Manufacturer: ",
            "audit: type=1400 name=",
        ] {
            assert_eq!(
                skip(&kernel(&format!("{message}{RECORD}"))),
                Skip::NotAPacket,
                "{message}"
            );
        }
    }

    #[test]
    fn repeats_in_both_forms() {
        let inner = kernel(&format!(
            "message repeated 3 times: [ [12.500000] {RECORD}]"
        ));
        match decode(&inner).content {
            Content::Packet(packet, 3) => assert!(packet.is_syn()),
            other => panic!("{other:?}"),
        }
        for line in [
            "Jun  8 14:34:33 gw last message repeated 3 times",
            "Jun  8 14:34:33 gw kernel: last message repeated 3 times",
            "Jun  8 14:34:33 gw --- last message repeated 3 times ---",
        ] {
            assert_eq!(decode(line).content, Content::Repeated(3), "{line}");
        }
        let others = "Jun  8 14:34:33 gw app[1]: last message repeated 3 times";
        assert_eq!(skip(others), Skip::OtherProgram);
    }

    #[test]
    fn losses_that_the_logger_admits() {
        assert_eq!(
            decode(&kernel("** 52 printk messages dropped **")).content,
            Content::Lost(52)
        );
        assert_eq!(
            decode("Jun  8 14:34:33 gw systemd-journald[9]: Missed 7 kernel messages").content,
            Content::Lost(7)
        );
    }

    #[test]
    fn records_in_other_programs_lines_name_nobody() {
        let decoder = Decoder::new([b"fw".to_vec()]);
        for line in [
            format!("Jun  8 14:34:33 gw app[12]: {RECORD}"),
            format!(
                "1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1\" 200 9 \"-\" \"{RECORD}\""
            ),
            format!("{{\"log\":\"Jun  8 14:34:33 gw kernel: {RECORD}\"}}"),
            format!("   {RECORD}"),
        ] {
            let decoded = decoder.decode(line.as_bytes());
            assert_eq!(
                decoded.content,
                Content::Skipped(Skip::OtherProgram),
                "{line}"
            );
            assert!(decoder.resembles_packet(line.as_bytes()));
        }
        let admitted = format!("Jun  8 14:34:33 gw fw: {RECORD}");
        assert!(matches!(
            decoder.decode(admitted.as_bytes()).content,
            Content::Packet(..)
        ));
    }

    #[test]
    fn reasons_are_counted_by_their_place() {
        assert!(
            Skip::ALL
                .iter()
                .enumerate()
                .all(|(place, skip)| *skip as usize == place)
        );
    }

    #[test]
    fn what_is_no_record_has_its_reason() {
        assert_eq!(skip(""), Skip::Empty);
        assert_eq!(skip("hello"), Skip::Unknown);
        assert_eq!(skip(&kernel("usb 1-1: new device")), Skip::NotAPacket);
        assert_eq!(skip("Jun  8 14:34:33 gw cron[1]: x"), Skip::OtherProgram);
    }
}
