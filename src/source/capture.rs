//! A capture file: SYNs in its frames, and what became of them.

use std::io::Read;

use super::answers::Answers;
use super::blocks::{self, Blocks};
use super::part::{Part, Undated, rule};
use super::stream::{Parts, spawn as spawn_thread};
use crate::decode::capture::{MAX_WANTED, Reader, Record, Skip, Step};
use crate::decode::clock::Era;
use crate::decode::packet::{self, Content};
use crate::decode::stamp::Stamp;
use crate::model::{Clock, Evidence, Observation, Timestamp};
use crate::settings::Ports;

/// Reads frames from `reader`, the `input`th of its call, on a thread of its own.
pub(super) fn spawn(ports: Ports, input: u32, reader: Box<dyn Read + Send>, parts: &Parts) {
    spawn_thread("capture", parts, move |parts| {
        let mut decoder = Reader::new();
        let mut answers = Answers::default();
        blocks::run(Blocks::new(reader, MAX_WANTED), parts, |bytes, is_last| {
            let mut frames = Frames {
                ports: &ports,
                answers: &mut answers,
                input,
                part: Part::default(),
                skipped: [0; packet::Skip::ALL.len()],
            };
            let mut rest = bytes;
            let is_done = frames.take_all(&mut decoder, &mut rest, is_last);
            (frames.into_part(), bytes.len() - rest.len(), is_done)
        });
    });
}

/// Gathers what frames hold.
struct Frames<'a> {
    ports: &'a Ports,
    answers: &'a mut Answers,
    input: u32,
    part: Part,
    skipped: [u64; packet::Skip::ALL.len()],
}

impl Frames<'_> {
    /// Takes all records that are whole; answers whether the reading is at its end.
    fn take_all(&mut self, decoder: &mut Reader, bytes: &mut &[u8], is_last: bool) -> bool {
        loop {
            match decoder.next(bytes, is_last) {
                Step::Record(record) => self.record(&record),
                Step::Skipped(skip) => {
                    self.part.records += 1;
                    self.broken(skip);
                }
                Step::NeedMore(_) => return false,
                Step::End => return true,
                Step::Broken(skip) => {
                    self.broken(skip);
                    return true;
                }
            }
        }
    }

    fn record(&mut self, record: &Record<'_>) {
        self.part.records += 1;
        let content = match packet::read(record.link, record.frame) {
            Ok(content) => content,
            Err(skip) => {
                self.pass_over(skip);
                return;
            }
        };
        let evidence = match content {
            Content::Segment(segment)
                if segment.is_syn() && self.ports.contains(segment.tuple.destination_port) =>
            {
                self.part.matched += 1;
                Some(Evidence::Syn(Observation {
                    clock: Clock::None,
                    interface: record.interface,
                    ..segment.observation(Timestamp::default(), rule(self.input, b""))
                }))
            }
            content => {
                if let Content::Quote(_) = content {
                    self.pass_over(packet::Skip::NotTcp);
                }
                let response = self
                    .answers
                    .read(&content, self.ports, Timestamp::default());
                response.map(Evidence::Response)
            }
        };
        let stamp = record
            .time
            .map_or(Stamp::None, |time| Stamp::Unix(time.as_micros()));
        self.part.evidence.extend(evidence.map(|evidence| Undated {
            stamp,
            era: Era::default(),
            evidence,
        }));
    }

    fn pass_over(&mut self, skip: packet::Skip) {
        if let Some(index) = packet::Skip::ALL.iter().position(|&s| s == skip) {
            self.skipped[index] += 1;
        }
    }

    fn broken(&mut self, skip: Skip) {
        self.part.skipped.push((skip.reason(), 1));
    }

    fn into_part(mut self) -> Part {
        let counts = packet::Skip::ALL.into_iter().zip(self.skipped);
        let counts = counts.filter(|(_, count)| *count > 0);
        self.part
            .skipped
            .extend(counts.map(|(skip, count)| (skip.reason(), count)));
        self.part
    }
}
