//! An input's records one by one, as they stand, for those who want to look at each.

use std::io::{self, Read};

use super::blocks::Blocks;
use super::chunk::{Chunk, ChunkReader};
use super::input::{Input, Kind};
use crate::decode::capture::{self, Record};
use crate::decode::flows::Content;
use crate::decode::journal::{self, Entry};

/// A record as it stands in an input.
pub(crate) enum Raw<'a> {
    /// A line of a log.
    Line(&'a [u8]),
    /// An entry of a journal.
    Entry(Entry<'a>),
    /// A captured frame.
    Frame(Record<'a>),
    /// A line of a log of connections, and the log's kind.
    Flow(Content<'a>, &'static str),
    /// Something that is none, and why.
    Broken(&'static str),
}

/// Shows each record of `input` to `look`, until that answers false.
pub(crate) fn each_record(input: Input, mut look: impl FnMut(Raw<'_>) -> bool) -> io::Result<()> {
    match input.kind {
        Kind::Lines => each_line(input.reader, |line| look(Raw::Line(line))),
        Kind::JournalJson => each_line(input.reader, |line| {
            look(journal::json(line).map_or(Raw::Broken("no journal entry"), Raw::Entry))
        }),
        Kind::Zeek | Kind::Eve | Kind::Ulogd => {
            let (kind, mut format) = (input.kind.name(), input.kind.flows());
            each_line(input.reader, |line| {
                format.as_mut().is_some_and(|format| {
                    format.follow(line);
                    look(Raw::Flow(format.decode(line), kind))
                })
            })
        }
        Kind::JournalExport => {
            let mut entries = journal::Reader::default();
            Blocks::new(input.reader, journal::MAX_ENTRY).each(|bytes, is_last| {
                let mut rest = bytes;
                loop {
                    let raw = match entries.next(&mut rest, is_last) {
                        journal::Next::Entry(entry) => Raw::Entry(entry),
                        journal::Next::Broken => Raw::Broken("no journal entry"),
                        journal::Next::NeedMore | journal::Next::End => {
                            return (bytes.len() - rest.len(), true);
                        }
                    };
                    if !look(raw) {
                        return (bytes.len() - rest.len(), false);
                    }
                }
            })
        }
        Kind::Capture => {
            let mut reader = capture::Reader::new();
            Blocks::new(input.reader, capture::MAX_WANTED).each(|bytes, is_last| {
                let mut rest = bytes;
                loop {
                    let raw = match reader.next(&mut rest, is_last) {
                        capture::Step::Record(record) => Raw::Frame(record),
                        capture::Step::Skipped(skip) | capture::Step::Broken(skip) => {
                            Raw::Broken(skip.reason())
                        }
                        capture::Step::NeedMore(_) => return (bytes.len() - rest.len(), true),
                        capture::Step::End => return (bytes.len(), false),
                    };
                    if !look(raw) {
                        return (bytes.len(), false);
                    }
                }
            })
        }
    }
}

fn each_line(reader: impl Read, mut look: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut reader = ChunkReader::new(reader);
    let mut chunk = Chunk::default();
    while reader.read(&mut chunk)?.is_some() {
        if !chunk.lines().all(&mut look) {
            return Ok(());
        }
    }
    Ok(())
}
