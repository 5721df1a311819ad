//! Looks into a log before it is read: how it begins, and how it ends.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use jiff::tz::TimeZone;

use super::input::{Input, Kind};
use super::reorder::HORIZON_MICROS;
use crate::decode::clock::{Anchor, End, RecordClock};
use crate::decode::flows::Content;
use crate::decode::stamp::Stamp;
use crate::decode::{capture, journal, syslog};
use crate::model::Timestamp;

/// A log up to this size is looked through whole, a larger one in samples of [`SAMPLE`] bytes.
const WHOLE: u64 = 4 * 1024 * 1024;
const SAMPLES: u64 = 512;
const SAMPLE: usize = 4 * 1024;

/// Whether the first stamp is an uptime.
pub(super) fn begins_with_uptime(head: &[u8]) -> bool {
    let mut stamps = lines(head).map(|line| syslog::split(line).stamp);
    matches!(
        stamps.find(|stamp| *stamp != Stamp::None),
        Some(Stamp::Uptime(_))
    )
}

/// Whether any line has a stamp.
pub(super) fn has_stamps(head: &[u8]) -> bool {
    lines(head).any(|line| syslog::split(line).stamp != Stamp::None)
}

/// What ties the stamps of `input` to the calendar.
pub(super) fn anchor(input: &Input, zone: &TimeZone) -> io::Result<Anchor> {
    let (Kind::Lines, Some(file), Some(length)) = (input.kind, &input.file, input.length) else {
        return Ok(Anchor::at_start(input.file_time));
    };
    let mut end = End::default();
    // Boots leave no trace between samples, so a log of uptimes is read whole.
    if length <= WHOLE || begins_with_uptime(&input.head) {
        stamps_between(file, 0, length, &mut end)?;
    } else {
        for index in 0..SAMPLES {
            let at = (length - SAMPLE as u64) / (SAMPLES - 1) * index;
            sample(file, at, &mut end)?;
        }
        stamps_between(file, length - SAMPLE as u64, length, &mut end)?;
    }
    Ok(Anchor::at_end(&end, input.file_time, zone))
}

/// The time of the first line with a stamp, where the head holds one.
pub(super) fn first_time(input: &Input, anchor: &Anchor, zone: &TimeZone) -> Option<Timestamp> {
    let stamp = lines(&input.head)
        .map(|line| syslog::split(line).stamp)
        .find(|stamp| *stamp != Stamp::None)?;
    let mut clock = RecordClock::new(anchor.clone(), zone.clone());
    Some(clock.time(&stamp, crate::decode::clock::Era::default()).0)
}

/// The time of the first record of an input whose stamps are whole.
pub(super) fn first_time_of_other(input: &Input, zone: &TimeZone) -> Option<Timestamp> {
    match input.kind {
        Kind::Lines => None,
        Kind::JournalJson => {
            let line = lines(&input.head).next()?;
            journal::json(line)?.micros.map(Timestamp::from_micros)
        }
        Kind::JournalExport => match journal::export(&input.head, true) {
            journal::Step::Entry(entry, _) => entry.micros.map(Timestamp::from_micros),
            _ => None,
        },
        Kind::Capture => match capture::Reader::new().next(&mut input.head.as_slice(), true) {
            capture::Step::Record(record) => record.time,
            _ => None,
        },
        Kind::Zeek | Kind::Eve | Kind::Ulogd => first_time_of_flows(input, zone),
    }
}

/// The earliest time to be expected of a log of connections: that of its first attempt, or, where
/// connections are written down when they end, as much earlier as they are put in order.
fn first_time_of_flows(input: &Input, zone: &TimeZone) -> Option<Timestamp> {
    let mut format = input.kind.flows()?;
    let stamp = lines(&input.head).find_map(|line| {
        format.follow(line);
        match format.decode(line) {
            Content::Attempt(attempt) => Some(attempt.stamp),
            _ => None,
        }
    })?;
    let mut clock = RecordClock::new(Anchor::at_start(input.file_time), zone.clone());
    let (time, _) = clock.time(&stamp, crate::decode::clock::Era::default());
    let is_early = input.kind.is_written_at_the_end();
    Some(time.plus_micros(if is_early { -HORIZON_MICROS } else { 0 }))
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&b| b == b'\n')
}

fn sample(file: &File, at: u64, end: &mut End) -> io::Result<()> {
    let mut buffer = [0; SAMPLE];
    let length = file.read_at(&mut buffer, at)?;
    let text = &buffer[..length];
    // The first line is cut unless it is the file's first.
    let start = match at {
        0 => 0,
        _ => memchr::memchr(b'\n', text).map_or(length, |feed| feed + 1),
    };
    let mut stamps = lines(&text[start..]).map(|line| syslog::split(line).stamp);
    // One stamp tells when the sample was written.
    if let Some(stamp) = stamps.find(|stamp| *stamp != Stamp::None) {
        end.step(&stamp);
    }
    Ok(())
}

fn stamps_between(file: &File, from: u64, to: u64, end: &mut End) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut kept = 0;
    let mut at = from;
    let mut is_cut = from > 0;
    while at < to {
        let count = file.read_at(&mut buffer[kept..], at)?;
        if count == 0 {
            break;
        }
        at += count as u64;
        let text = &buffer[..kept + count];
        let whole = memchr::memrchr(b'\n', text).map_or(0, |feed| feed + 1);
        for line in lines(&text[..whole]).skip(usize::from(is_cut)) {
            end.step(&syslog::split(line).stamp);
        }
        is_cut = false;
        let length = text.len();
        kept = length - whole;
        if kept == buffer.len() {
            kept = 0;
        } else {
            buffer.copy_within(whole..length, 0);
        }
    }
    if kept > 0 {
        end.step(&syslog::split(&buffer[..kept]).stamp);
    }
    Ok(())
}
