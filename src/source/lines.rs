//! Lines of a log, decoded by several threads side by side.

use std::io::{self, Read};
use std::sync::{Arc, Mutex};

use memchr::memmem;

use super::chunk::{Chunk, ChunkReader};
use super::input::Kind;
use super::part::{LastLine, Part, Undated, note_foreign, rule};
use super::stream::{Parts, spawn as spawn_thread};
use crate::decode::clock::Era;
use crate::decode::flows::{self, Format};
use crate::decode::journal;
use crate::decode::kernel_log::{Content, Decoded, Decoder, Packet, Skip};
use crate::decode::stamp::Stamp;
use crate::decode::syslog::Origin;
use crate::model::{Clock, Evidence, Observation, Response, Timestamp, Tuple};
use crate::settings::Ports;

/// No line with a packet record is shorter: host, tag, interfaces, addresses, ports.
const SHORTEST_RECORD: usize = 100;

/// What each thread needs to decode.
#[derive(Clone)]
pub(super) struct Worker {
    pub(super) decoder: Decoder,
    pub(super) ports: Ports,
    /// Which input of the call it is.
    pub(super) input: u32,
    /// What each line is, to begin with.
    pub(super) format: LineFormat,
    /// What the prefixes of rules end with whose records count; none given, any rule's do.
    pub(super) prefixes: Vec<Vec<u8>>,
}

/// What the lines of an input are.
#[derive(Clone, Debug)]
pub(super) enum LineFormat {
    /// Of a log.
    Log,
    /// Journal entries as JSON.
    JournalJson,
    /// Connections; with what the lines before have told of those after them.
    Flows(Format),
}

impl LineFormat {
    /// Of the lines of an input of that kind.
    pub(super) fn of(kind: Kind) -> Self {
        match kind.flows() {
            Some(format) => Self::Flows(format),
            None if kind == Kind::JournalJson => Self::JournalJson,
            None => Self::Log,
        }
    }

    /// Of the lines of a file that begins with `head`.
    pub(super) fn told_by(head: &[u8]) -> Self {
        let mut format = Self::of(Kind::of(head));
        if let Self::Flows(format) = &mut format {
            head.split(|&byte| byte == b'\n')
                .for_each(|line| format.follow(line));
        }
        format
    }

    /// Whether lines are written when a connection ends, and bear the time at which it began.
    pub(super) fn is_written_at_the_end(&self) -> bool {
        matches!(self, Self::Flows(Format::Zeek(_) | Format::Eve))
    }

    /// Takes what `chunk` says about the lines after it.
    fn follow(&mut self, chunk: &Chunk) {
        if let Self::Flows(format @ Format::Zeek(_)) = self {
            chunk.lines().for_each(|line| format.follow(line));
        }
    }
}

/// What the threads take turns at.
struct Turn<R> {
    reader: ChunkReader<R>,
    format: LineFormat,
}

impl<R: Read> Turn<R> {
    /// Reads the next chunk; answers its number and how its lines begin to be read.
    fn read(&mut self, chunk: &mut Chunk) -> io::Result<Option<(u64, LineFormat)>> {
        let number = self.reader.read(chunk)?;
        Ok(number.map(|number| {
            let format = self.format.clone();
            self.format.follow(chunk);
            (number, format)
        }))
    }
}

/// Reads lines from `reader` on as many threads as `threads`.
pub(super) fn spawn(worker: &Worker, reader: Box<dyn Read + Send>, threads: usize, parts: &Parts) {
    let reader = Arc::new(Mutex::new(Turn {
        reader: ChunkReader::new(reader),
        format: worker.format.clone(),
    }));
    for _ in 0..threads.max(1) {
        let (worker, reader) = (worker.clone(), Arc::clone(&reader));
        spawn_thread("decode", parts, move |parts| worker.run(&reader, parts));
    }
}

impl Worker {
    fn run<R: Read>(&self, reader: &Mutex<Turn<R>>, parts: &Parts) {
        let mut chunk = Chunk::default();
        loop {
            let read = match reader.lock() {
                Ok(mut reader) => reader.read(&mut chunk),
                // Another thread panicked, and has told of it.
                Err(_) => return,
            };
            let (number, part) = match read {
                Ok(None) => return,
                Ok(Some((number, mut format))) => {
                    (number, Ok(self.part(chunk.lines(), &mut format)))
                }
                Err(error) => (u64::MAX, Err(error)),
            };
            let failed = part.is_err();
            if parts.send((number, part)).is_err() || failed {
                return;
            }
        }
    }

    /// What `all` hold, which stand one after the other; `format` learns from them.
    pub(super) fn part<'l>(
        &self,
        all: impl Iterator<Item = &'l [u8]>,
        format: &mut LineFormat,
    ) -> Part {
        let mut lines = Lines::new(self);
        for line in all {
            match format {
                LineFormat::Log => lines.take(line, &self.decoder.decode(line)),
                LineFormat::JournalJson => lines.json(line),
                LineFormat::Flows(format) => {
                    format.follow(line);
                    lines.flow(&format.decode(line));
                }
            }
        }
        lines.into_part()
    }

    /// Whether records of the rule with `prefix` count; a logger may have put a time before it.
    fn wants(&self, prefix: &[u8]) -> bool {
        self.prefixes.is_empty() || self.prefixes.iter().any(|wanted| prefix.ends_with(wanted))
    }

    /// Whether what is left of a record on `line` may be one that counts.
    fn may_want(&self, line: &[u8]) -> bool {
        let stands = |wanted: &Vec<u8>| memmem::find(line, wanted).is_some();
        self.prefixes.is_empty() || self.prefixes.iter().any(stands)
    }

    /// The observation in `packet`, where it is a SYN to a watched port; its time comes later.
    fn observation(&self, packet: &Packet<'_>, repeats: u32) -> Option<Observation> {
        if !packet.is_syn() {
            return None;
        }
        let destination_port = packet.destination_port()?;
        if !self.ports.contains(destination_port) {
            return None;
        }
        let (source, destination) = packet.addresses()?;
        Some(Observation {
            time: Timestamp::default(),
            clock: Clock::None,
            rule: rule(self.input, packet.prefix),
            tuple: Tuple {
                source,
                destination,
                source_port: packet.source_port().unwrap_or(0),
                destination_port,
            },
            isn: packet.isn(),
            ip_id: packet.ip_id(),
            mac: packet.mac(),
            interface: packet.interface(),
            ttl: packet.ttl(),
            vlan: None,
            repeats,
        })
    }
}

/// Gathers what lines hold, one after the other.
pub(super) struct Lines<'a> {
    worker: &'a Worker,
    part: Part,
    skipped: [u64; Skip::ALL.len()],
    skipped_flows: [u64; flows::Skip::ALL.len()],
}

impl<'a> Lines<'a> {
    pub(super) fn new(worker: &'a Worker) -> Self {
        Self {
            worker,
            part: Part::default(),
            skipped: [0; Skip::ALL.len()],
            skipped_flows: [0; flows::Skip::ALL.len()],
        }
    }

    pub(super) fn into_part(mut self) -> Part {
        let reasons = Skip::ALL.into_iter().map(Skip::reason).zip(self.skipped);
        let flows = flows::Skip::ALL.into_iter().map(flows::Skip::reason);
        self.part.skipped = reasons
            .chain(flows.zip(self.skipped_flows))
            .filter(|(_, count)| *count > 0)
            .collect();
        self.part
    }

    /// Takes a line of `journalctl -o json`, among which others may stand.
    fn json(&mut self, line: &[u8]) {
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        if !line.starts_with(b"{") {
            return self.take(line, &self.worker.decoder.decode(line));
        }
        match journal::json(line) {
            Some(entry) => self.take(&entry.message, &self.worker.decoder.decode_entry(&entry)),
            None => self.skip(Skip::CutOff),
        }
    }

    /// Takes what `line` was decoded to.
    pub(super) fn take(&mut self, line: &[u8], decoded: &Decoded<'_>) {
        let part = &mut self.part;
        if decoded.stamp != Stamp::None {
            part.stamped += 1;
            part.first.note(&decoded.stamp);
        }
        let era = part.eras.step(&decoded.stamp);
        match decoded.content {
            Content::Packet(packet, _) if !self.worker.wants(packet.prefix) => {
                part.last_line = LastLine::Other;
                self.skip(Skip::NotAPacket);
            }
            Content::Packet(packet, repeats) => {
                part.records += 1;
                part.last_line = LastLine::Other;
                if let Some(observation) = self.worker.observation(&packet, repeats) {
                    let syn = Undated {
                        stamp: decoded.stamp,
                        era,
                        evidence: Evidence::Syn(observation),
                    };
                    part.matched += 1;
                    part.evidence.push(syn);
                    part.last_line = LastLine::Syn(syn);
                }
            }
            Content::Repeated(times) => {
                match part.last_line {
                    LastLine::None => {
                        part.leading_repeats = part.leading_repeats.saturating_add(times);
                    }
                    LastLine::Syn(syn) if times > 0 => part.evidence.push(syn.repeated(times)),
                    LastLine::Syn(_) | LastLine::Other => {}
                }
                self.skip(Skip::RepeatMarker);
            }
            Content::Lost(count) => {
                part.lost = part.lost.saturating_add(count);
                part.last_line = LastLine::Other;
                self.skip(Skip::NotAPacket);
            }
            Content::Skipped(Skip::Empty) => self.skip(Skip::Empty),
            Content::Skipped(Skip::CutOff | Skip::BadAddress) if !self.worker.may_want(line) => {
                part.last_line = LastLine::Other;
                self.skip(Skip::NotAPacket);
            }
            Content::Skipped(skip) => {
                part.last_line = LastLine::Other;
                if let (Skip::OtherProgram, Origin::Program(tag)) = (skip, decoded.origin)
                    && line.len() >= SHORTEST_RECORD
                    && self.worker.decoder.resembles_packet(line)
                {
                    note_foreign(&mut part.foreign, tag, 1);
                }
                self.skip(skip);
            }
        }
    }

    /// Takes what a line of a log of connections was decoded to: a SYN, and then what became of it.
    fn flow(&mut self, content: &flows::Content<'_>) {
        let part = &mut self.part;
        let attempt = match content {
            flows::Content::Skipped(skip) => {
                self.skipped_flows[*skip as usize] += 1;
                return;
            }
            flows::Content::Other => {
                part.records += 1;
                return;
            }
            flows::Content::Attempt(attempt) => attempt,
        };
        part.records += 1;
        if !self.worker.ports.contains(attempt.tuple.destination_port) {
            return;
        }
        part.matched += 1;
        let undated = |evidence| Undated {
            stamp: attempt.stamp,
            era: Era::default(),
            evidence,
        };
        part.evidence.push(undated(Evidence::Syn(Observation {
            time: Timestamp::default(),
            clock: Clock::None,
            rule: rule(self.worker.input, attempt.rule.as_bytes()),
            tuple: attempt.tuple,
            isn: attempt.isn,
            ip_id: attempt.ip_id,
            mac: attempt.mac,
            interface: attempt.interface,
            ttl: attempt.ttl,
            vlan: attempt.vlan,
            repeats: 0,
        })));
        part.evidence.extend(attempt.response.map(|kind| {
            undated(Evidence::Response(Response {
                time: Timestamp::default(),
                tuple: attempt.tuple,
                isn: attempt.isn,
                kind,
                outside: None,
                bytes: attempt.bytes,
            }))
        }));
    }

    pub(super) fn skip(&mut self, skip: Skip) {
        self.skipped[skip as usize] += 1;
    }
}
