//! What each fuzz target does with the bytes it is given, and what must hold whatever they are.
//!
//! Included by the fuzz targets and by `tests/fuzz_corpus.rs`, which replays their corpora. A body
//! panics where something does not hold; beyond that it only reads.
#![allow(clippy::unwrap_used)]

use std::borrow::Cow;
use std::net::IpAddr;

use foldhash::quality::FixedState;
use jiff::tz::TimeZone;
use smtpwatch::attribution::leases::{Basis, LeaseBook};
use smtpwatch::attribution::services::{MAX_GROUPS, Services};
use smtpwatch::decode::capture::{self, MAX_WANTED, Reader, Record};
use smtpwatch::decode::clock::{Anchor, End, Era, Eras, FirstStamps, RecordClock};
use smtpwatch::decode::conntrack::{self, Change};
use smtpwatch::decode::dhcp_lease::{self, Lease, Leases};
use smtpwatch::decode::dns::{self, Answer};
use smtpwatch::decode::flows::{self, Format, zeek};
use smtpwatch::decode::journal::{self, Entry};
use smtpwatch::decode::kernel_log::{Content, Decoded, Decoder, Packet};
use smtpwatch::decode::nflog::{self, Item, Message};
use smtpwatch::decode::packet::{LinkType, Segment};
use smtpwatch::decode::stamp::{self, Stamp};
use smtpwatch::decode::syslog::{self, Origin};
use smtpwatch::decode::{dhcp_lease::Kind, packet};
use smtpwatch::engine::{self, Effect, Engine, Input};
use smtpwatch::model::{
    Clock, DeviceKey, Direction, Finding, Group, Interface, Link, LocalAddress, Mac, Neighbour,
    Notice, Observation, Outcome, Response, ResponseKind, Route, RuleId, Scope, SourceName,
    Timestamp, Topology, Tuple, Verdict,
};
use smtpwatch::settings::{Burst, Limits, Preset, Settings, Volume};

/// A target's body.
type Target = fn(&[u8]);

/// All targets by name, which is that of their corpus, too.
pub(crate) const ALL: [(&str, Target); 12] = [
    ("kernel_log", kernel_log),
    ("stamp", stamp),
    ("journal_json", journal_json),
    ("journal_export", journal_export),
    ("packet", packet),
    ("nflog", nflog),
    ("conntrack", conntrack),
    ("capture", capture),
    ("dhcp_lease", dhcp_lease),
    ("dns", dns),
    ("engine", engine),
    ("flows", flows),
];

/// 2026-03-29: the clock has just been put forward in [`zone`].
const FILE_TIME: Timestamp = Timestamp::from_seconds(1_774_746_000);

/// A program that [`kernel_log`] admits.
const ADMITTED: &[u8] = b"app";

/// Central European time, in every year.
fn zone() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

/// A log of lines: each line on its own, then the times of them all.
pub(crate) fn kernel_log(data: &[u8]) {
    let plain = Decoder::new([]);
    let watching = Decoder::new([]).watching(&[25]);
    let fresh = plain.clone();
    let admitting = Decoder::new([ADMITTED.to_vec()]);
    let mut stamps = Vec::new();
    for line in data.split(|&b| b == b'\n') {
        let decoded = plain.decode(line);
        check_line(line, &decoded);
        stamps.push(decoded.stamp);

        // What another program says is nobody's, unless it was admitted; and that changes no other
        // line.
        let with_admitted = admitting.decode(line);
        check_line(line, &with_admitted);
        match decoded.origin {
            Origin::Program(name) => {
                assert!(!matches!(decoded.content, Content::Packet(..)));
                assert!(name == ADMITTED || with_admitted == decoded);
            }
            _ => assert_eq!(with_admitted, decoded),
        }

        // Nothing hangs on the lines before, nor for the watched ports on reading no further than needed.
        assert_eq!(fresh.clone().decode(line), decoded);
        let watched = watching.decode(line);
        check_line(line, &watched);
        assert_eq!(
            (watched.stamp, watched.origin),
            (decoded.stamp, decoded.origin)
        );
        assert_eq!(syn_to_25(&watched.content), syn_to_25(&decoded.content));

        // Nothing hangs on how the writer ends its lines, or on what a truncation leaves.
        let around = [b"\0\0", line, b" \r\0"].concat();
        assert_eq!(plain.decode(&around), decoded);

        let split = syslog::split(line);
        assert_within(line, split.message);
        assert_eq!((split.stamp, split.origin), (decoded.stamp, decoded.origin));
        let _ = plain.resembles_packet(line);
    }
    check_times(&stamps);
}

/// The packet and its repeats, where it is a SYN to port 25.
fn syn_to_25<'a>(content: &Content<'a>) -> Option<(Packet<'a>, u32)> {
    match *content {
        Content::Packet(packet, repeats)
            if packet.is_syn() && packet.destination_port() == Some(25) =>
        {
            Some((packet, repeats))
        }
        _ => None,
    }
}

fn check_line(line: &[u8], decoded: &Decoded<'_>) {
    check_stamp(&decoded.stamp);
    check_content(line, decoded);
}

/// What holds for whatever was decoded from `text`.
fn check_content(text: &[u8], decoded: &Decoded<'_>) {
    match decoded.content {
        Content::Packet(packet, _) => {
            for field in [
                packet.prefix,
                packet.input,
                packet.output,
                packet.header,
                packet.header_source,
                packet.source,
                packet.destination,
                packet.protocol,
                packet.source_port,
                packet.destination_port,
                packet.sequence,
                packet.ip_id,
                packet.time_to_live,
            ] {
                assert_within(text, field);
            }
            assert!(packet.addresses().is_some());
            assert!(packet.mac().is_none_or(Mac::is_station));
            assert_ne!(packet.ip_id(), Some(0));
            assert!(!packet.is_syn() || packet.syn && !packet.ack);
            assert_eq!(packet.interface().is_empty(), no_name(packet.input));
            let _ = (
                packet.source_port(),
                packet.destination_port(),
                packet.isn(),
                packet.ttl(),
            );
        }
        Content::Skipped(skip) => assert!(!skip.reason().is_empty()),
        Content::Repeated(_) | Content::Lost(_) => {}
    }
}

/// Whether an interface's name stands for none.
fn no_name(name: &[u8]) -> bool {
    matches!(name.first(), None | Some(0))
}

/// `part` is empty, or stands within `whole`.
fn assert_within(whole: &[u8], part: &[u8]) {
    let (whole, part) = (whole.as_ptr_range(), part.as_ptr_range());
    assert!(part.is_empty() || whole.start <= part.start && part.end <= whole.end);
}

fn check_stamp(stamp: &Stamp) {
    match *stamp {
        Stamp::None => {}
        Stamp::Civil(civil) => {
            assert!(civil.year.is_none_or(|year| (1970..=9999).contains(&year)));
            assert!((1..=12).contains(&civil.month) && (1..=31).contains(&civil.day));
            assert!(civil.second_of_day <= 86_400 && civil.micros < 1_000_000);
            assert!(civil.offset.is_none_or(|offset| offset.abs() < 86_400));
        }
        Stamp::Uptime(micros) | Stamp::Unix(micros) => assert!(micros >= 0),
    }
}

/// The clock on the stamps of an input, tied down at either end.
fn check_times(stamps: &[Stamp]) {
    let mut end = End::default();
    let mut eras = Eras::default();
    let steps: Vec<Era> = stamps
        .iter()
        .map(|stamp| {
            end.step(stamp);
            eras.step(stamp)
        })
        .collect();
    for anchor in [
        Anchor::at_start(FILE_TIME),
        Anchor::at_end(&end, FILE_TIME, &zone()),
    ] {
        let mut clock = RecordClock::new(anchor, zone());
        let mut before = FILE_TIME;
        for (stamp, &era) in stamps.iter().zip(&steps) {
            let (time, quality) = clock.time(stamp, era);
            match (stamp, quality) {
                (Stamp::None | Stamp::Civil(_), Clock::None) => assert_eq!(time, before),
                (Stamp::Unix(micros), Clock::Exact) => assert_eq!(time.as_micros(), *micros),
                (Stamp::Uptime(_), Clock::Approximate) | (Stamp::Civil(_), Clock::Exact) => {}
                other => panic!("{other:?}"),
            }
            before = time;
        }
    }
    // Two parts of an input reach the era that the whole does.
    let mut joined = Eras::default();
    for part in [&stamps[..stamps.len() / 2], &stamps[stamps.len() / 2..]] {
        let (mut first, mut within) = (FirstStamps::default(), Eras::default());
        for stamp in part {
            first.note(stamp);
            within.step(stamp);
        }
        joined.join(&first, &within);
    }
    assert_eq!(joined.era(), eras.era());
}

/// A stamp, read as it stands and once more as it is written most plainly.
pub(crate) fn stamp(data: &[u8]) {
    for (stamp, rest) in [stamp::leading(data), stamp::common_log(data)]
        .into_iter()
        .flatten()
    {
        check_stamp(&stamp);
        assert!(data.ends_with(rest) && rest.len() < data.len());
        assert_within(data, rest);
        let plain = plainly(&stamp);
        assert_eq!(
            stamp::leading(plain.as_bytes()),
            Some((stamp, &b" gw"[..])),
            "{plain}"
        );
        check_times(&[stamp, Stamp::None, stamp]);
        let mut clock = RecordClock::new(Anchor::at_start(FILE_TIME), zone());
        for years in [i16::MIN, i16::MAX] {
            let era = Era {
                years,
                boots: u16::MAX,
            };
            clock.time(&stamp, era);
        }
    }
}

/// `stamp` before ` gw`, in the one form that holds all of it.
fn plainly(stamp: &Stamp) -> String {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    match *stamp {
        Stamp::None => " gw".to_owned(),
        Stamp::Uptime(micros) => format!("[{:5}.{:06}] gw", micros / 1_000_000, micros % 1_000_000),
        Stamp::Unix(micros) => format!("{}.{:06} gw", micros / 1_000_000, micros % 1_000_000),
        Stamp::Civil(civil) => {
            // The leap second: 86,400 is 23:59:60.
            let second = civil.second_of_day.min(86_399);
            let leap = civil.second_of_day - second;
            let time = format!(
                "{:02}:{:02}:{:02}.{:06}",
                second / 3600,
                second / 60 % 60,
                second % 60 + leap,
                civil.micros
            );
            match civil.year {
                None => {
                    let month = usize::from(civil.month) * 3;
                    format!("{} {:2} {time} gw", &MONTHS[month - 3..month], civil.day)
                }
                Some(year) => {
                    let offset = civil.offset.map_or(String::new(), |offset| {
                        let sign = if offset < 0 { '-' } else { '+' };
                        let minutes = offset.abs() / 60;
                        format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
                    });
                    let date = format!("{year:04}-{:02}-{:02}", civil.month, civil.day);
                    format!("{date}T{time}{offset} gw")
                }
            }
        }
    }
}

/// A journal as `journalctl -o json` writes it.
pub(crate) fn journal_json(data: &[u8]) {
    let _ = journal::is_json(data);
    for line in data.split(|&b| b == b'\n') {
        if let Some(entry) = journal::json(line) {
            check_entry(&entry);
            let again = as_json(&entry);
            assert_eq!(journal::json(&again), Some(entry));
        }
    }
}

/// Only what the kernel wrote is a packet record, and only what journald says came from it.
fn check_entry(entry: &Entry<'_>) {
    assert!(entry.micros.is_none_or(|micros| micros >= 0));
    let decoded = Decoder::new([]).decode_entry(entry);
    check_content(&entry.message, &decoded);
    assert!(entry.is_kernel || !matches!(decoded.content, Content::Packet(..)));
    assert_eq!(decoded.stamp, entry.micros.map_or(Stamp::None, Stamp::Unix));
    let admitting = Decoder::new([entry.identifier.to_vec()]);
    check_content(&entry.message, &admitting.decode_entry(entry));
}

/// An entry with its texts as bytes, which journalctl writes where they are not UTF-8.
fn as_json(entry: &Entry<'_>) -> Vec<u8> {
    let mut object = serde_json::json!({
        "SYSLOG_IDENTIFIER": &entry.identifier[..],
        "MESSAGE": &entry.message[..],
        "_TRANSPORT": if entry.is_kernel { "kernel" } else { "syslog" },
        "_PID": ["1", null],
    });
    if let Some(micros) = entry.micros {
        object["__REALTIME_TIMESTAMP"] = micros.to_string().into();
    }
    serde_json::to_vec(&object).unwrap()
}

/// A journal as `journalctl -o export` writes it: at once, and as it comes through a pipe.
pub(crate) fn journal_export(data: &[u8]) {
    let _ = journal::is_export(data);
    let whole = exported(data, data.len().max(1));
    for entry in &whole {
        check_entry(entry);
        let again = as_export(entry);
        assert_eq!(exported(&again, again.len()), std::slice::from_ref(entry));
    }
    for pace in [1, 13, 200] {
        assert_eq!(exported(data, pace), whole, "{pace} bytes at a time");
    }
    // Whatever a program logs, and wherever the journal was cut: the kernel did not say it.
    let hostile = as_export(&Entry {
        message: Cow::Borrowed(data),
        ..Entry::default()
    });
    let length = hostile.len();
    for end in [length, length - 1, length - 2, length * 3 / 4] {
        let entries = exported(&hostile[..end], 4096);
        assert!(!entries.iter().any(|entry| entry.is_kernel));
    }
}

/// The entries of `data`, of which `pace` bytes more are there each time the decoder asks.
fn exported(data: &[u8], pace: usize) -> Vec<Entry<'_>> {
    let mut entries = Vec::new();
    let (mut at, mut end) = (0, pace.min(data.len()));
    loop {
        let is_last = end == data.len();
        match journal::export(&data[at..end], is_last) {
            journal::Step::Entry(entry, length) => {
                assert!((1..=end - at).contains(&length));
                entries.push(entry);
                at += length;
            }
            journal::Step::Broken(length) => {
                assert!((1..=end - at).contains(&length));
                at += length;
            }
            journal::Step::NeedMore | journal::Step::End if !is_last => {
                end = (end + pace).min(data.len());
            }
            journal::Step::NeedMore => panic!("there is no more"),
            journal::Step::End => {
                assert!(data[at..].iter().all(|&b| b == b'\n'));
                return entries;
            }
        }
    }
}

/// An entry with its texts as binary fields, which journalctl writes where they hold line feeds.
fn as_export(entry: &Entry<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    if let Some(micros) = entry.micros {
        text.extend(format!("__REALTIME_TIMESTAMP={micros}\n").into_bytes());
    }
    if entry.is_kernel {
        text.extend(b"_TRANSPORT=kernel\n");
    }
    let fields: [(&[u8], &Cow<'_, [u8]>); 2] = [
        (b"SYSLOG_IDENTIFIER", &entry.identifier),
        (b"MESSAGE", &entry.message),
    ];
    for (name, value) in fields {
        text.extend(
            [
                name,
                b"\n",
                &(value.len() as u64).to_le_bytes(),
                value,
                b"\n",
            ]
            .concat(),
        );
    }
    text.push(b'\n');
    text
}

/// A frame behind its link type, in two bytes, the lower one first.
pub(crate) fn packet(data: &[u8]) {
    let Some((&[low, high], frame)) = data.split_first_chunk() else {
        return;
    };
    let link = LinkType(u16::from_le_bytes([low, high]));
    let whole = packet::decode(link, frame);
    match whole {
        Ok(segment) => check_segment(&segment),
        Err(skip) => assert!(packet::Skip::ALL.contains(&skip) && !skip.reason().is_empty()),
    }
    // ICMP errors are something else than TCP.
    match packet::read(link, frame) {
        Ok(packet::Content::Quote(quote)) => {
            assert_eq!(whole, Err(packet::Skip::NotTcp));
            let tuple = quote.tuple;
            assert_eq!(tuple.source.is_ipv4(), tuple.destination.is_ipv4());
        }
        Ok(packet::Content::Segment(segment)) => assert_eq!(whole, Ok(segment)),
        Err(skip) => assert_eq!(whole, Err(skip)),
    }
    // Where the capture cut the frame it says the same, or that it was cut.
    for end in 0..frame.len().min(160) {
        match packet::decode(link, &frame[..end]) {
            Err(packet::Skip::Truncated) => {}
            cut => assert_eq!(cut, whole, "cut at {end}"),
        }
    }
}

fn check_segment(segment: &Segment) {
    let tuple = &segment.tuple;
    assert_eq!(tuple.source.is_ipv4(), tuple.destination.is_ipv4());
    assert!(segment.mac.is_none_or(Mac::is_station));
    assert!(segment.vlan.is_none_or(|vlan| (1..4096).contains(&vlan)));
    assert!(
        segment
            .ip_id
            .is_none_or(|id| id != 0 && tuple.source.is_ipv4())
    );
    assert!(!segment.is_syn() || segment.flags.syn() && !segment.flags.ack());
    let _ = (segment.flags.fin(), segment.flags.rst());
}

/// A datagram from connection tracking, and the same attributes as each kind of event.
pub(crate) fn conntrack(data: &[u8]) {
    for item in conntrack::items(data) {
        if let conntrack::Item::Event(event) = item {
            check_tracked(&event);
        }
    }
    for (kind, flags) in [(0x100_u16, 0x400_u16), (0x100, 0), (0x102, 0)] {
        let length = u32::try_from(data.len() + 20).unwrap();
        let mut datagram = length.to_ne_bytes().to_vec();
        datagram.extend(kind.to_ne_bytes());
        datagram.extend(flags.to_ne_bytes());
        datagram.extend([0; 12]);
        datagram.extend(data);
        let all: Vec<conntrack::Item> = conntrack::items(&datagram).collect();
        assert_eq!(all.len(), 1);
        if let conntrack::Item::Event(event) = all[0] {
            check_tracked(&event);
        }
        // Whatever is cut off its end, nobody else is named.
        for end in 20..datagram.len().min(300) {
            datagram[..4].copy_from_slice(&u32::try_from(end).unwrap().to_ne_bytes());
            let cut = conntrack::items(&datagram[..end]).next();
            if let (Some(conntrack::Item::Event(cut)), conntrack::Item::Event(whole)) =
                (cut, all[0])
            {
                assert_eq!((cut.original, cut.reply), (whole.original, whole.reply));
            }
        }
    }
}

fn check_tracked(event: &conntrack::Event) {
    assert!(!event.opens() || event.change == Change::New);
    let outside = event.outside();
    assert_eq!(outside.source, event.reply.destination);
    match event.response(FILE_TIME) {
        Some(response) => {
            assert_eq!((response.time, response.isn), (FILE_TIME, None));
            assert_eq!(response.tuple, event.original);
            assert_eq!(response.outside, Some(outside));
            assert!(response.bytes.is_none() || event.change == Change::Destroy);
            let is_handshake = response.kind == ResponseKind::Established;
            assert!(!is_handshake || event.status.is_assured());
        }
        None => assert_ne!(event.change, Change::Destroy),
    }
}

/// IP packets, each behind the two octets of its length; and the whole as a message. What they say goes into a
/// book, as told by two devices.
pub(crate) fn dns(data: &[u8]) {
    let mut answers: Vec<Answer> = dns::read(data).into_iter().collect();
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (packet, after) = after.split_at(length);
        rest = after;
        let Some(carried) = dns::carried(packet) else {
            continue;
        };
        assert_within(data, carried.message);
        answers.extend(dns::read(carried.message));
    }
    let mut book = Services::new(FixedState::with_seed(7));
    let now = Timestamp::from_seconds(1_774_746_000);
    for client in [1, 2] {
        let client = DeviceKey::Address([192, 168, 1, client].into());
        for answer in &answers {
            book.note(answer, &client, now);
        }
    }
    for answer in &answers {
        let hosts = match answer {
            Answer::Addresses(host) => std::slice::from_ref(host),
            Answer::Exchanges(hosts) => hosts,
            Answer::Name { .. } => &[],
        };
        for host in hosts {
            assert_eq!(host.name, host.name.to_ascii_lowercase());
            assert!(host.addresses.len() <= 32);
            for address in &host.addresses {
                let group = Group::of(*address);
                let Some(groups) = book.service_of(group, now) else {
                    continue;
                };
                assert!(groups.contains(&group) && (2..=MAX_GROUPS).contains(&groups.len()));
                for other in &groups {
                    assert_eq!(book.service_of(*other, now).as_ref(), Some(&groups));
                }
            }
        }
    }
}

/// A netlink datagram of `nfnetlink_log`; and its first bytes as a message's attributes.
pub(crate) fn nflog(data: &[u8]) {
    for item in nflog::items(data) {
        if let Item::Packet(message) = item {
            check_message(data, &message);
        }
    }
    let whole = Message::read(data);
    check_message(data, &whole);
    // Live and from a capture file the same attributes say the same.
    let frame = [&[2, 0, 0, 5], data].concat();
    assert_eq!(packet::decode(LinkType::NFLOG, &frame), whole.segment());
    // A message that was cut says the same, or that it was cut.
    for end in 0..data.len().min(300) {
        match Message::read(&data[..end]).segment() {
            Err(packet::Skip::Truncated) => {}
            cut => assert_eq!(cut, whole.segment(), "cut at {end}"),
        }
    }
}

fn check_message(data: &[u8], message: &Message<'_>) {
    assert_within(data, message.prefix);
    assert_within(data, message.header);
    assert!(message.mac().is_none_or(Mac::is_station));
    if let Ok(segment) = message.segment() {
        check_segment(&segment);
        assert_eq!(segment.mac, message.mac());
    }
}

/// A log of connections: by its own format, and by each of the others.
pub(crate) fn flows(data: &[u8]) {
    let own = Format::of(data);
    let zeek = Format::Zeek(zeek::Layout::default());
    for mut format in own.into_iter().chain([zeek, Format::Eve, Format::Ulogd]) {
        assert!(!format.name().is_empty());
        for line in data.split(|&b| b == b'\n') {
            format.follow(line);
            let decoded = format.decode(line);
            check_flow(&decoded);
            // Nothing hangs on how the writer ends its lines, or on who reads them.
            let around = [line, b"\r"].concat();
            assert_eq!(format.clone().decode(&around), decoded);
        }
    }
}

fn check_flow(content: &flows::Content<'_>) {
    match content {
        flows::Content::Attempt(attempt) => {
            check_stamp(&attempt.stamp);
            assert_ne!(attempt.stamp, Stamp::None);
            assert!(attempt.mac.is_none_or(Mac::is_station));
            assert_ne!(attempt.ip_id, Some(0));
            assert!(attempt.vlan.is_none_or(|id| (1..4096).contains(&id)));
        }
        flows::Content::Skipped(skip) => assert!(!skip.reason().is_empty()),
        flows::Content::Other => {}
    }
}

/// A capture file: at once, and as it comes through a pipe.
pub(crate) fn capture(data: &[u8]) {
    let whole = events(data, data.len().max(1));
    for event in &whole {
        if let Event::Record(record) = event {
            assert_within(data, record.frame);
            assert!(record.frame.len() <= capture::MAX_FRAME);
            if let Ok(segment) = packet::decode(record.link, record.frame) {
                check_segment(&segment);
            }
        }
    }
    for pace in [1, 7, 64] {
        assert_eq!(events(data, pace), whole, "{pace} bytes at a time");
    }
    // A file cut anywhere holds the records before the cut.
    for end in [
        data.len() / 3,
        data.len() * 2 / 3,
        data.len().saturating_sub(1),
    ] {
        let mut cut = events(&data[..end], end.max(1));
        if matches!(cut.last(), Some(Event::Broken(_))) {
            cut.pop();
        }
        assert!(whole.starts_with(&cut), "cut at {end}");
    }
}

#[derive(Debug, PartialEq)]
enum Event<'a> {
    Record(Record<'a>),
    Skipped(capture::Skip),
    Broken(capture::Skip),
}

/// What `data` holds, of which `pace` bytes more are there each time the reader asks.
fn events(data: &[u8], pace: usize) -> Vec<Event<'_>> {
    let mut reader = Reader::new();
    let mut events = Vec::new();
    let (mut at, mut end) = (0, pace.min(data.len()));
    loop {
        let is_last = end == data.len();
        let mut buffer = &data[at..end];
        let step = reader.next(&mut buffer, is_last);
        let left = buffer.len();
        at = end - left;
        match step {
            capture::Step::Record(record) => events.push(Event::Record(record)),
            capture::Step::Skipped(skip) => events.push(Event::Skipped(skip)),
            capture::Step::NeedMore(wanted) => {
                assert!(!is_last && left < wanted && wanted <= MAX_WANTED);
                end = (end + pace).min(data.len());
            }
            capture::Step::Broken(skip) => {
                events.push(Event::Broken(skip));
                assert_eq!(reader.next(&mut &data[at..], true), capture::Step::End);
                return events;
            }
            capture::Step::End => {
                assert!(is_last && left == 0);
                return events;
            }
        }
    }
}

/// A lease file, and the book that is made of it.
pub(crate) fn dhcp_lease(data: &[u8]) {
    let decoded = dhcp_lease::decode(data);
    assert_eq!(decoded.kind, dhcp_lease::kind(data));
    assert_eq!(
        decoded.skipped.total(),
        decoded.skipped.iter().map(|(_, count)| count).sum::<u64>()
    );
    if matches!(decoded.kind, None | Some(Kind::Dnsmasq)) {
        let lines = data.split(|&b| b == b'\n');
        let comment = |line: &[u8]| decoded.kind.is_none() && line.starts_with(b"#");
        let counted = lines
            .map(<[u8]>::trim_ascii)
            .filter(|line| !line.is_empty() && !comment(line))
            .count();
        let taken = decoded.records.len() as u64 + decoded.skipped.total();
        assert_eq!(counted as u64, taken, "every line is a lease or skipped");
    }
    for lease in leases(&decoded) {
        let name = lease.hostname.as_deref();
        assert!(name.is_none_or(|name| (1..=253).contains(&name.len())));
        if let Some((starts, ends)) = lease.held() {
            assert!(starts < ends && !lease.state.is_conflict());
            assert!(lease.holds_at(starts) && !lease.holds_at(ends));
        }
    }
    check_book(&decoded);
}

fn leases(decoded: &Leases) -> impl DoubleEndedIterator<Item = &Lease> {
    decoded.records.iter().filter_map(|record| match record {
        dhcp_lease::Record::Lease(lease) => Some(lease),
        dhcp_lease::Record::Removed(_) => None,
    })
}

/// The book's answers against those of a look at every record.
fn check_book(decoded: &Leases) {
    let book = LeaseBook::new([decoded.clone()]);
    assert_eq!(book.is_empty(), leases(decoded).next().is_none());
    for asked in leases(decoded).take(64) {
        let borders = asked.held().map_or([FILE_TIME; 2], |(from, to)| [from, to]);
        for time in borders
            .into_iter()
            .flat_map(|border| [-1, 0, 1].map(|micros| border.plus_micros(micros)))
        {
            let valid = leases(decoded)
                .rev()
                .find(|lease| lease.address == asked.address && lease.holds_at(time));
            let holder = book.at(asked.address, time);
            match valid {
                Some(lease) => {
                    let holder = holder.unwrap();
                    assert_eq!(holder.basis, Basis::Valid);
                    assert_eq!(holder.mac, lease.mac);
                    assert_eq!(holder.hostname, lease.hostname.as_deref());
                }
                None => assert!(holder.is_none_or(|holder| holder.basis == Basis::NotValidThen)),
            }
        }
    }
    let mut before = None;
    for current in book.current(FILE_TIME) {
        let address = Some(current.lease.address);
        assert!(before < address, "one of each address, in their order");
        before = address;
        let last = leases(decoded).rfind(|lease| Some(lease.address) == address);
        assert_eq!(Some(current.lease), last);
        assert_eq!(current.holder().mac, current.lease.mac);
        assert!(!current.basis.to_string().is_empty());
    }
}

/// Observations, and live what is known of the network, of eight bytes each behind three bytes of
/// settings.
pub(crate) fn engine(data: &[u8]) {
    let Some((&[scope, limits, detectors], rest)) = data.split_first_chunk() else {
        return;
    };
    let settings = settings(scope, limits, detectors);
    // On a gateway the network is known, and changes.
    let is_live = scope & 0x80 != 0;
    let observations = inputs(rest, is_live);
    let (engine, found) = run(&settings, &observations, 7);
    check_devices(&engine);
    check_spoofed(&engine);
    check_totals(&engine, &observations, &found);

    // The seed is for the tables alone.
    let (other, also_found) = run(&settings, &observations, 8);
    assert_eq!(found, also_found);
    assert_eq!(engine.totals(), other.totals());
    assert_eq!(summary(&engine), summary(&other));
    assert_eq!(engine.unclaimed().advice(), other.unclaimed().advice());
}

fn settings(scope: u8, limits: u8, detectors: u8) -> Settings {
    let within = std::time::Duration::from_secs(u64::from(detectors >> 4) * 60);
    let most = [2, 5, 16, 1000][usize::from(limits & 3)];
    Settings {
        scope: [Scope::Outbound, Scope::Inbound, Scope::Internal, Scope::All]
            [usize::from(scope & 3)],
        gateway: vec![address(6)],
        novelty: Preset::ALL[usize::from(detectors) % 3].novelty(),
        burst: Burst {
            groups: u32::from(detectors & 3) + 1,
            within,
        },
        volume: Volume {
            attempts: u32::from(detectors >> 2 & 3) + 1,
            within,
        },
        limits: Limits {
            devices: most,
            open_attempts: [1, 3, 8, 1000][usize::from(limits >> 2 & 3)],
            destinations: [1, 3, 8, 1000][usize::from(limits >> 4 & 3)],
            unclaimed: most,
        },
        ..Settings::default()
    }
}

/// Sixteen addresses: in the LAN, the gateway's, outside; of both families.
fn address(number: u8) -> IpAddr {
    let number = number & 15;
    match number {
        0..=5 => [192, 168, 1, number + 1].into(),
        6 => [198, 51, 100, 1].into(),
        7..=12 => [203, 0, number, 9].into(),
        13 => [0xfd00, 0, 0, 0, 0, 0, 0, 1].into(),
        _ => [0x2001, 0xdb8, number.into(), 0, 0, 0, 0, 1].into(),
    }
}

/// A source works, or does not.
fn told_by(source: SourceName, is_ready: bool) -> Notice {
    if is_ready {
        Notice::SourceReady { source }
    } else {
        let why = "gone".to_owned();
        Notice::SourceFailed { source, why }
    }
}

/// A gateway whose LAN has a router; `kind` changes the rest.
fn topology(kind: u8) -> Topology {
    let (lan, wan) = (Interface::new(b"eth"), Interface::new(b"eth0"));
    let link = |interface, has_link_layer| Link {
        interface,
        has_link_layer,
    };
    let own = |interface, address: &str| LocalAddress {
        interface,
        address: address.parse().unwrap(),
    };
    let route = |destination: &str, interface, via: Option<IpAddr>| Route {
        destination: destination.parse().unwrap(),
        interface,
        via,
    };
    let mut topology = Topology {
        links: vec![link(lan, kind & 1 == 0), link(wan, true)],
        addresses: vec![own(lan, "192.168.1.200/24"), own(wan, "198.51.100.1/24")],
        routes: vec![route("2001:db8::/32", lan, Some(address(2)))],
    };
    if kind & 2 == 0 {
        let everywhere = route("0.0.0.0/0", wan, Some([198, 51, 100, 254].into()));
        topology.routes.push(everywhere);
    }
    if kind & 4 != 0 {
        topology.addresses.push(own(lan, "fd00::ff/64"));
        topology.routes.push(route("203.0.0.0/16", lan, None));
    }
    if kind & 8 != 0 {
        topology.addresses.remove(0);
    }
    topology
}

/// What is known of the network, in four bytes.
fn knowledge(&[kind, ends, last, more]: &[u8; 4]) -> Input {
    let interface = Interface::new(&b"eth0"[..=usize::from(more & 3)]);
    match kind & 7 {
        0 => Input::Topology(topology(more)),
        1..=3 => Input::Neighbour(Neighbour {
            interface,
            address: address(ends),
            mac: (last & 7 != 0).then_some(Mac([2, 0, 0, 0, 0, last & 7])),
        }),
        4 => Input::Leases(dhcp_lease::decode(LEASES).records),
        5 => Input::Leases(Vec::new()),
        6 => Input::Hosts(vec![(address(ends), "by-hand".to_owned())]),
        _ if last & 1 == 0 => Input::WallClock(i64::from(more) << 40),
        _ => Input::Notice(told_by(SourceName::Conntrack, more & 1 == 0)),
    }
}

fn inputs(bytes: &[u8], is_live: bool) -> Vec<Input> {
    let first = is_live.then(|| Input::Topology(topology(0)));
    first.into_iter().chain(packets(bytes, is_live)).collect()
}

fn packets(bytes: &[u8], is_live: bool) -> Vec<Input> {
    let mut time = Timestamp::from_seconds(1_700_000_000);
    bytes
        .chunks_exact(8)
        .map(|chunk| {
            let &[step, ends, ports, isn, id, rule, repeats, flags] = chunk else {
                unreachable!("chunks of eight");
            };
            if is_live && rule & 0xc0 == 0xc0 {
                return knowledge(&[step, ends, ports, isn]);
            }
            // Up to 15 s, minutes or hours; back, too, for the engine's order is its caller's word.
            let unit = [1, 60, 3600, -1][usize::from(step >> 4 & 3)];
            time = time.plus_micros(i64::from(step & 15) * unit * 1_000_000);
            let some = |value: u8| (value & 7 != 0).then_some(value & 7);
            if rule & 0xc0 == 0x80 {
                return Input::Response(response(time, chunk));
            }
            let observation = Observation {
                time,
                clock: match flags & 3 {
                    0 | 1 => Clock::Exact,
                    2 => Clock::Approximate,
                    _ => Clock::None,
                },
                rule: RuleId(u32::from(rule & 7)),
                tuple: Tuple {
                    source: address(ends),
                    destination: address(ends >> 4),
                    source_port: u16::from(ports & 15),
                    destination_port: 25,
                },
                isn: some(isn).map(u32::from),
                ip_id: some(id).map(u16::from),
                mac: some(flags >> 2).map(|last| Mac([2, 0, 0, 0, 0, last])),
                interface: Interface::new(&b"eth0"[..=usize::from(flags >> 5 & 3)]),
                ttl: is_live.then_some([64, 63, 128, 30, 255, 0, 126, 64][usize::from(id >> 5)]),
                vlan: (is_live && ports & 0xf0 == 0xf0).then_some(10),
                repeats: if repeats < 192 { 0 } else { u32::from(repeats) },
            };
            if flags & 0x80 == 0 {
                Input::Syn(observation)
            } else {
                Input::LateSyn(observation)
            }
        })
        .collect()
}

/// What is told of an attempt, in the bytes of a SYN.
fn response(time: Timestamp, bytes: &[u8]) -> Response {
    const KINDS: [ResponseKind; 8] = [
        ResponseKind::Tracked,
        ResponseKind::Accepted,
        ResponseKind::Established,
        ResponseKind::Reset,
        ResponseKind::Unreachable,
        ResponseKind::TimedOut,
        ResponseKind::Closed,
        ResponseKind::Closed,
    ];
    let tuple = Tuple {
        source: address(bytes[1]),
        destination: address(bytes[1] >> 4),
        source_port: u16::from(bytes[2] & 15),
        destination_port: 25,
    };
    Response {
        time,
        tuple,
        isn: (bytes[3] & 7 != 0).then_some(u32::from(bytes[3] & 7)),
        kind: KINDS[usize::from(bytes[4] & 7)],
        outside: (bytes[4] & 8 != 0).then_some(tuple),
        bytes: (bytes[4] & 16 != 0).then_some((u64::from(bytes[6]), u64::MAX)),
    }
}

fn observation(input: &Input) -> Option<&Observation> {
    match input {
        Input::Syn(observation) | Input::LateSyn(observation) => Some(observation),
        _ => None,
    }
}

/// Leases of some of the addresses: one that ends, one of a device with two addresses.
const LEASES: &[u8] = b"1700003600 02:00:00:00:00:01 192.168.1.1 desk *\n\
    1999999999 02:00:00:00:00:02 192.168.1.2 * *\n\
    1999999999 02:00:00:00:00:02 192.168.1.3 laptop *\n\
    1999999999 00:00:00:00:00:00 192.168.1.4 null *\n";

fn run(settings: &Settings, inputs: &[Input], seed: u64) -> (Engine, Vec<Finding>) {
    let leases = LeaseBook::new([dhcp_lease::decode(LEASES)]);
    let mut engine = Engine::new(settings.clone(), leases, seed);
    let mut found = Vec::new();
    let mut now = Timestamp::from_micros(0);
    for input in inputs {
        now = observation(input).map_or(now, |observation| now.max(observation.time));
        let before = engine.totals().spoofed.attempts;
        let effects = engine.handle(input.clone(), now).to_vec();
        check_responses(&effects);
        let is_forged = |effect: &&Effect| matches!(effect, Effect::Spoofed { .. });
        let forged = effects.iter().filter(is_forged).count() as u64;
        assert_eq!(before + forged, engine.totals().spoofed.attempts);
        for effect in effects {
            if let Effect::Shared { device } = effect {
                let about = engine.devices().find(|(id, _)| *id == device);
                assert!(about.unwrap().1.is_shared());
            }
            let Effect::Found { device, finding } = effect else {
                continue;
            };
            let about = engine.devices().find(|(id, _)| *id == device);
            assert!(about.unwrap().1.findings.contains(&finding));
            found.push(finding);
        }
    }
    (engine, found)
}

/// What is known of an attempt's end only gets better, and nobody has the last word unasked.
fn check_responses(effects: &[Effect]) {
    for effect in effects {
        if let Effect::Responded {
            before,
            after,
            response,
            tuple,
            ..
        } = effect
        {
            assert!(before <= after);
            match response {
                Some(response) => {
                    assert_eq!((*before).max(response.kind.outcome()), *after);
                    assert_eq!(response.tuple, *tuple);
                }
                None => assert_eq!((*before, *after), (Outcome::Unknown, Outcome::Unanswered)),
            }
        }
    }
}

fn check_devices(engine: &Engine) {
    let limits = engine.settings().limits;
    assert!(engine.devices().count() <= limits.devices);
    let mut destinations = 0;
    for (_, device) in engine.devices() {
        // A device may have none: of an attempt that it goes on with after its lease has ended, or
        // after it was forgotten.
        assert!(device.attempts <= device.syns);
        assert!(device.first_seen <= device.last_seen);
        assert!((1..=16).contains(&device.addresses.len()));
        assert!(device.peak_per_minute <= device.attempts);
        let ends = Outcome::ALL.map(|outcome| device.outcomes().get(outcome));
        assert_eq!(ends.iter().sum::<u64>(), device.attempts);
        assert!(device.completed <= device.outcomes().get(Outcome::Answered));
        let (all, top) = (device.destinations(), device.top_destinations(usize::MAX));
        assert!(all.groups <= all.addresses && all.addresses == top.len());
        let told: u64 = top.iter().map(|(_, attempts)| attempts).sum();
        assert!(told <= device.attempts);
        assert_eq!(told == device.attempts, !all.is_lower_bound);
        assert_eq!(
            device.verdict() == Verdict::Normal,
            device.findings.is_empty()
        );
        for finding in &device.findings {
            assert!((1..=device.attempts).contains(&finding.at_attempt));
        }
        assert!(engine::because(device).starts_with(&engine::called(device)));
        destinations += all.addresses;
    }
    assert!(destinations <= limits.destinations);
    let mut ids: Vec<String> = engine
        .devices()
        .map(|(_, device)| device.key.to_string())
        .collect();
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
}

/// What is not believed is told apart as far as there is room, and nothing of it is lost.
fn check_spoofed(engine: &Engine) {
    let spoofed = engine.spoofed();
    assert!(spoofed.iter().count() <= 1024);
    let sum = |pick: fn(engine::Count) -> u64| -> u64 {
        let told: u64 = spoofed.iter().map(|it| pick(it.count)).sum();
        told + pick(spoofed.beyond())
    };
    assert_eq!(sum(|count| count.syns), spoofed.total().syns);
    assert_eq!(sum(|count| count.attempts), spoofed.total().attempts);
    assert_eq!(engine.totals().spoofed, spoofed.total());
    if !engine.who().is_live() {
        assert_eq!(spoofed.total(), engine::Count::default());
        assert!(engine.devices().all(|(_, device)| !device.is_shared()));
    }
}

fn check_totals(engine: &Engine, inputs: &[Input], found: &[Finding]) {
    let totals = engine.totals();
    let sum = |pick: fn(engine::Count) -> u64| {
        let counts = Direction::ALL.map(|direction| totals.direction(direction));
        assert!(counts.iter().all(|count| count.attempts <= count.syns));
        counts.map(pick).iter().sum::<u64>()
    };
    let (syns, attempts) = (sum(|count| count.syns), sum(|count| count.attempts));
    let packets: u64 = inputs
        .iter()
        .filter_map(observation)
        .map(|observation| u64::from(observation.repeats.max(1)))
        .sum();
    assert!(syns + totals.spoofed.syns <= packets);
    let times = || inputs.iter().filter_map(observation).map(|it| it.time);
    assert_eq!(totals.span, times().min().zip(times().max()));
    if totals.evicted_devices == 0 {
        let findings: usize = engine
            .devices()
            .map(|(_, device)| device.findings.len())
            .sum();
        assert_eq!(findings, found.len());
    }
    if totals.evicted_devices == 0 && engine.settings().scope == Scope::All {
        let of_devices = |pick: fn(&engine::Device) -> u64| {
            engine
                .devices()
                .map(|(_, device)| pick(device))
                .sum::<u64>()
        };
        assert_eq!(of_devices(|device| device.syns), syns);
        assert_eq!(of_devices(|device| device.attempts), attempts);
    }
}

type Summary = (DeviceKey, [u64; 3], Verdict, engine::OutcomeCounts);

fn summary(engine: &Engine) -> Vec<Summary> {
    engine
        .devices()
        .map(|(_, device)| {
            let (syns, attempts, peak) = (device.syns, device.attempts, device.peak_per_minute);
            let counts = [syns, attempts, peak];
            (device.key, counts, device.verdict(), device.outcomes())
        })
        .collect()
}
