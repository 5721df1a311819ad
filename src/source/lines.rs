//! Lines of a log, decoded by several threads side by side.

use std::io::Read;
use std::sync::{Arc, Mutex};

use memchr::memmem;

use super::chunk::{Chunk, ChunkReader};
use super::part::{LastLine, Part, Undated, note_foreign, rule};
use super::stream::{Parts, spawn as spawn_thread};
use crate::decode::journal;
use crate::decode::kernel_log::{Content, Decoded, Decoder, Packet, Skip};
use crate::decode::stamp::Stamp;
use crate::decode::syslog::Origin;
use crate::model::{Clock, Evidence, Observation, Timestamp, Tuple};
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
    /// Whether each line is a journal entry as JSON.
    pub(super) is_json: bool,
    /// What the prefixes of rules end with whose records count; none given, any rule's do.
    pub(super) prefixes: Vec<Vec<u8>>,
}

/// Reads lines from `reader` on as many threads as `threads`.
pub(super) fn spawn(worker: &Worker, reader: Box<dyn Read + Send>, threads: usize, parts: &Parts) {
    let reader = Arc::new(Mutex::new(ChunkReader::new(reader)));
    for _ in 0..threads.max(1) {
        let (worker, reader) = (worker.clone(), Arc::clone(&reader));
        spawn_thread("decode", parts, move |parts| worker.run(&reader, parts));
    }
}

impl Worker {
    fn run<R: Read>(&self, reader: &Mutex<ChunkReader<R>>, parts: &Parts) {
        let mut chunk = Chunk::default();
        loop {
            let read = match reader.lock() {
                Ok(mut reader) => reader.read(&mut chunk),
                // Another thread panicked, and has told of it.
                Err(_) => return,
            };
            let (number, part) = match read {
                Ok(None) => return,
                Ok(Some(number)) => (number, Ok(self.part(chunk.lines()))),
                Err(error) => (u64::MAX, Err(error)),
            };
            let failed = part.is_err();
            if parts.send((number, part)).is_err() || failed {
                return;
            }
        }
    }

    /// What `all` hold, which stand one after the other.
    pub(super) fn part<'l>(&self, all: impl Iterator<Item = &'l [u8]>) -> Part {
        let mut lines = Lines::new(self);
        for line in all {
            if self.is_json {
                lines.json(line);
            } else {
                lines.take(line, &self.decoder.decode(line));
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
}

impl<'a> Lines<'a> {
    pub(super) fn new(worker: &'a Worker) -> Self {
        Self {
            worker,
            part: Part::default(),
            skipped: [0; Skip::ALL.len()],
        }
    }

    pub(super) fn into_part(mut self) -> Part {
        let counts = Skip::ALL.into_iter().zip(self.skipped);
        self.part.skipped = counts
            .filter(|(_, count)| *count > 0)
            .map(|(skip, count)| (skip.reason(), count))
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

    pub(super) fn skip(&mut self, skip: Skip) {
        self.skipped[skip as usize] += 1;
    }
}
