//! A log as a stream of observations: chunks are decoded side by side, put back in order, and only
//! then do stamps become times, for a year or a boot is told from what came before.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use jiff::tz::TimeZone;

use super::chunk::{Chunk, ChunkReader};
use super::input::{Input, InputError};
use super::probe;
use crate::decode::clock::{Anchor, Era, Eras, FirstStamps, RecordClock, is_outlier};
use crate::decode::kernel_log::{Content, Decoder, Packet, Skip};
use crate::decode::stamp::Stamp;
use crate::decode::syslog::Origin;
use crate::model::{Clock, Observation, RuleId, Timestamp, Tuple};
use crate::settings::Ports;

/// Tags of other programs whose lines look like packet records, kept by name.
const MAX_FOREIGN: usize = 8;
/// Chunks decoded ahead of the reader of the stream, besides one for each thread.
const AHEAD: usize = 4;

/// How an input is to be read.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// Watched ports.
    pub(crate) ports: Ports,
    /// The zone of stamps without an offset.
    pub(crate) zone: TimeZone,
    /// Takes lines apart.
    pub(crate) decoder: Decoder,
    /// Threads that decode.
    pub(crate) threads: usize,
}

/// What came of an input.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Its name.
    pub(crate) name: String,
    /// Bytes read.
    pub(crate) bytes: u64,
    /// Packet records.
    pub(crate) records: u64,
    /// Those of them that are SYNs to a watched port.
    pub(crate) matched: u64,
    /// Lines that are no packet record, by reason.
    pub(crate) skipped: BTreeMap<Skip, u64>,
    /// Messages that the logger says it lost.
    pub(crate) lost: u64,
    /// Records whose stamp was far from both neighbours'.
    pub(crate) bad_time: u64,
    /// Lines of other programs that look like packet records, by tag.
    pub(crate) foreign: BTreeMap<Vec<u8>, u64>,
    /// The worst clock of a matched record.
    pub(crate) clock: Clock,
    /// Lines with a stamp: what tells a log from any other text.
    pub(crate) stamped: u64,
    /// Why reading ended early.
    pub(crate) error: Option<InputError>,
}

impl Outcome {
    /// Whether it turned out to be no log at all.
    pub(crate) fn is_no_log(&self) -> bool {
        self.bytes > 0 && self.records == 0 && self.stamped == 0
    }

    fn add(&mut self, part: &Part) {
        self.records += part.records;
        self.matched += part.matched;
        self.lost += part.lost;
        self.stamped += part.stamped;
        for (skip, count) in Skip::ALL.into_iter().zip(part.skipped) {
            if count > 0 {
                *self.skipped.entry(skip).or_default() += count;
            }
        }
        for (tag, count) in &part.foreign {
            if self.foreign.len() < MAX_FOREIGN || self.foreign.contains_key(tag) {
                *self.foreign.entry(tag.clone()).or_default() += count;
            }
        }
    }
}

/// A SYN whose stamp has no time yet.
#[derive(Clone, Copy, Debug)]
struct Undated {
    stamp: Stamp,
    era: Era,
    observation: Observation,
}

/// What a chunk holds.
#[derive(Debug, Default)]
struct Part {
    syns: Vec<Undated>,
    records: u64,
    matched: u64,
    skipped: [u64; Skip::ALL.len()],
    lost: u64,
    stamped: u64,
    foreign: BTreeMap<Vec<u8>, u64>,
    eras: Eras,
    first: FirstStamps,
    /// Repeats of the line before the chunk.
    leading_repeats: u32,
    last_line: LastLine,
}

/// The last line that was not a repeat marker.
#[derive(Clone, Copy, Debug, Default)]
enum LastLine {
    /// There was none.
    #[default]
    None,
    Syn(Undated),
    Other,
}

impl Part {
    fn decode(chunk: &Chunk, worker: &Worker) -> Self {
        let mut part = Self::default();
        for line in chunk.lines() {
            part.line(line, worker);
        }
        part
    }

    fn line(&mut self, line: &[u8], worker: &Worker) {
        let decoded = worker.decoder.decode(line);
        if decoded.stamp != Stamp::None {
            self.stamped += 1;
            self.first.note(&decoded.stamp);
        }
        let era = self.eras.step(&decoded.stamp);
        match decoded.content {
            Content::Packet(packet, repeats) => {
                self.records += 1;
                self.last_line = LastLine::Other;
                if let Some(observation) = worker.observation(&packet, repeats) {
                    let syn = Undated {
                        stamp: decoded.stamp,
                        era,
                        observation,
                    };
                    self.matched += 1;
                    self.syns.push(syn);
                    self.last_line = LastLine::Syn(syn);
                }
            }
            Content::Repeated(times) => {
                self.skip(Skip::RepeatMarker);
                match self.last_line {
                    LastLine::None => {
                        self.leading_repeats = self.leading_repeats.saturating_add(times);
                    }
                    LastLine::Syn(syn) => self.syns.push(syn.repeated(times)),
                    LastLine::Other => {}
                }
            }
            Content::Lost(count) => {
                self.lost = self.lost.saturating_add(count);
                self.skip(Skip::NotAPacket);
                self.last_line = LastLine::Other;
            }
            Content::Skipped(skip) => {
                self.skip(skip);
                self.last_line = LastLine::Other;
                if let (Skip::OtherProgram, Origin::Program(tag)) = (skip, decoded.origin)
                    && worker.decoder.resembles_packet(line)
                {
                    self.note_foreign(tag);
                }
            }
        }
    }

    fn skip(&mut self, skip: Skip) {
        if let Some(index) = Skip::ALL.iter().position(|&reason| reason == skip) {
            self.skipped[index] += 1;
        }
    }

    fn note_foreign(&mut self, tag: &[u8]) {
        if let Some(count) = self.foreign.get_mut(tag) {
            *count += 1;
        } else if self.foreign.len() < MAX_FOREIGN {
            self.foreign.insert(tag[..tag.len().min(64)].to_vec(), 1);
        }
    }
}

impl Undated {
    fn repeated(mut self, times: u32) -> Self {
        self.observation.repeats = times.max(1);
        self
    }
}

/// What each thread needs to decode.
#[derive(Clone)]
struct Worker {
    decoder: Decoder,
    ports: Ports,
    input: u32,
}

impl Worker {
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
            repeats,
        })
    }

    fn run<R: Read>(
        &self,
        reader: &Mutex<ChunkReader<R>>,
        parts: &SyncSender<(u64, io::Result<Part>)>,
    ) {
        let mut chunk = Chunk::default();
        loop {
            let read = match reader.lock() {
                Ok(mut reader) => reader.read(&mut chunk),
                // Another thread panicked; its loss is seen where the parts are counted.
                Err(_) => return,
            };
            let (number, part) = match read {
                Ok(None) => return,
                Ok(Some(number)) => (number, Ok(Part::decode(&chunk, self))),
                Err(error) => (u64::MAX, Err(error)),
            };
            let failed = part.is_err();
            if parts.send((number, part)).is_err() || failed {
                return;
            }
        }
    }
}

/// Which rule wrote a record: the prefix without the times that differ from record to record.
fn rule(input: u32, prefix: &[u8]) -> RuleId {
    const PRIME: u32 = 0x0100_0193;
    let is_time = |word: &[u8]| {
        word.windows(3).any(|three| {
            three[0].is_ascii_digit()
                && matches!(three[1], b'.' | b':')
                && three[2].is_ascii_digit()
        })
    };
    let hash = prefix
        .split(|&b| b == b' ')
        .filter(|word| !is_time(word))
        .flatten()
        // FNV-1a: a few bytes, and only ever compared with its like.
        .fold(0x811c_9dc5 ^ input, |hash, &byte| {
            (hash ^ u32::from(byte)).wrapping_mul(PRIME)
        });
    RuleId(hash)
}

/// A log that is about to be read.
pub(crate) struct Pending {
    input: Input,
    number: u32,
    anchor: io::Result<Anchor>,
    /// When its first line with a stamp was written, where that can be told beforehand.
    pub(crate) first_time: Option<Timestamp>,
}

impl Pending {
    /// Looks into `input`, the `number`th of its call.
    pub(crate) fn new(input: Input, number: u32, zone: &TimeZone) -> Self {
        let anchor = probe::anchor(&input, zone);
        let first_time = anchor
            .as_ref()
            .ok()
            .and_then(|anchor| probe::first_time(&input, anchor, zone));
        Self {
            input,
            number,
            anchor,
            first_time,
        }
    }

    /// Begins to read. `advance` is told of bytes as they are read.
    pub(crate) fn start(
        self,
        reading: &Reading,
        advance: impl Fn(u64) + Send + Sync + 'static,
    ) -> TextSource {
        TextSource::start(self, reading, advance)
    }
}

/// A log that is being read.
pub(crate) struct TextSource {
    bytes: Arc<AtomicU64>,
    parts: Receiver<(u64, io::Result<Part>)>,
    early: BTreeMap<u64, Part>,
    next_part: u64,
    eras: Eras,
    clock: RecordClock,
    last_line: LastLine,
    queue: VecDeque<Observation>,
    before: Option<Timestamp>,
    outcome: Outcome,
}

impl TextSource {
    fn start(
        pending: Pending,
        reading: &Reading,
        advance: impl Fn(u64) + Send + Sync + 'static,
    ) -> Self {
        let Pending { input, number, .. } = pending;
        let mut outcome = Outcome {
            name: input.location.name(),
            ..Outcome::default()
        };
        let anchor = pending.anchor.unwrap_or_else(|cause| {
            outcome.error = Some(InputError::new(outcome.name.clone(), cause));
            Anchor::at_start(input.file_time)
        });
        let bytes = Arc::new(AtomicU64::new(0));
        let (sender, parts) = sync_channel(AHEAD);
        let reader = Arc::new(Mutex::new(ChunkReader::new(Counted {
            reader: input.reader,
            bytes: Arc::clone(&bytes),
            advance,
        })));
        let worker = Worker {
            decoder: reading.decoder.clone(),
            ports: reading.ports.clone(),
            input: number,
        };
        for _ in 0..reading.threads.max(1) {
            let (worker, reader, sender) = (worker.clone(), Arc::clone(&reader), sender.clone());
            thread::spawn(move || worker.run(&reader, &sender));
        }
        Self {
            bytes,
            parts,
            early: BTreeMap::new(),
            next_part: 0,
            eras: Eras::default(),
            clock: RecordClock::new(anchor, reading.zone.clone()),
            last_line: LastLine::None,
            queue: VecDeque::new(),
            before: None,
            outcome,
        }
    }

    /// What came of it, once the stream has ended.
    pub(crate) fn into_outcome(self) -> Outcome {
        Outcome {
            bytes: self.bytes.load(Ordering::Relaxed),
            ..self.outcome
        }
    }

    /// Waits for the next chunk in turn; answers whether there was one.
    fn take_part(&mut self) -> bool {
        loop {
            if let Some(part) = self.early.remove(&self.next_part) {
                self.next_part += 1;
                self.join(&part);
                return true;
            }
            match self.parts.recv() {
                Ok((number, Ok(part))) => {
                    self.early.insert(number, part);
                }
                Ok((_, Err(cause))) => {
                    let name = self.outcome.name.clone();
                    self.outcome.error = Some(InputError::new(name, cause));
                }
                Err(_) => {
                    // All threads have ended; a gap is left only where one of them failed.
                    match self.early.first_key_value() {
                        Some((&number, _)) => self.next_part = number,
                        None => return false,
                    }
                }
            }
        }
    }

    fn join(&mut self, part: &Part) {
        self.outcome.add(part);
        let start = self.eras.join(&part.first, &part.eras);
        if let (LastLine::Syn(syn), 1..) = (self.last_line, part.leading_repeats) {
            self.date(syn.repeated(part.leading_repeats));
        }
        let absolute = |syn: Undated| Undated {
            era: syn.era.after(start),
            ..syn
        };
        for &syn in &part.syns {
            self.date(absolute(syn));
        }
        match part.last_line {
            LastLine::None => {}
            LastLine::Syn(syn) => self.last_line = LastLine::Syn(absolute(syn)),
            LastLine::Other => self.last_line = LastLine::Other,
        }
    }

    fn date(&mut self, syn: Undated) {
        let (time, clock) = self.clock.time(&syn.stamp, syn.era);
        self.outcome.clock = self.outcome.clock.max(clock);
        self.queue.push_back(Observation {
            time,
            clock,
            ..syn.observation
        });
    }

    /// Puts right a stamp that is far from both its neighbours'.
    fn mend(&mut self, mut observation: Observation) -> Observation {
        let time = observation.time;
        let is_off = |before, after| is_outlier(before, time, after);
        let mended = match (self.before, self.queue.front().map(|next| next.time)) {
            (Some(before), Some(after)) if is_off(before, after) => Some(before),
            // The first one has a predecessor only in its successor.
            (None, Some(after)) if time > after && is_off(after, after) => Some(after),
            _ => None,
        };
        if let Some(time) = mended {
            self.outcome.bad_time += 1;
            observation.time = time;
        }
        self.before = Some(observation.time);
        observation
    }
}

impl Iterator for TextSource {
    type Item = Observation;

    fn next(&mut self) -> Option<Observation> {
        // One record ahead, for its time tells whether this one's is off.
        while self.queue.len() < 2 && self.take_part() {}
        let observation = self.queue.pop_front()?;
        Some(self.mend(observation))
    }
}

/// Tells of the bytes that go by.
struct Counted<R, F> {
    reader: R,
    bytes: Arc<AtomicU64>,
    advance: F,
}

impl<R: Read, F: Fn(u64)> Read for Counted<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
        (self.advance)(count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_its_prefix_without_the_times() {
        let one = rule(1, b"[50028442.088484] FW: ");
        assert_eq!(one, rule(1, b"[   17.000000] FW: "));
        assert_eq!(one, rule(1, b"20/Jun/2022:13:09:14 FW: "));
        assert_ne!(one, rule(1, b"[50028442.088484] OTHER: "));
        assert_ne!(one, rule(2, b"[50028442.088484] FW: "));
    }
}
