//! An input as a stream of evidence: its parts are put in order, and only then do stamps become
//! times, for a year or a boot is told from what came before.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use jiff::tz::TimeZone;

use super::dating::Dater;
use super::input::{Input, InputError, Kind, Meter};
use super::lines::{self, LineFormat, Worker};
use super::part::{Outcome, Part, rule};
use super::reorder::Reorder;
use super::{capture, journal, probe};
use crate::decode::clock::{Anchor, is_outlier};
use crate::decode::flows::eve;
use crate::decode::kernel_log::Decoder;
use crate::model::{Evidence, Timestamp};
use crate::settings::Ports;

/// Parts of lines decoded ahead of the reader of the stream, besides one for each thread: a few
/// kilobytes each.
const LINES_AHEAD: usize = 8;
/// Parts of other inputs, which may be nothing but SYNs.
const BLOCKS_AHEAD: usize = 2;

/// Where threads hand in what they read: the part's number, counted from 0, and the part.
pub(super) type Parts = SyncSender<(u64, io::Result<Part>)>;

/// Runs `work`, which hands in parts, on a thread of its own. Where the thread cannot be started, or
/// fails, that is handed in: what it had not read must not be missing in silence.
pub(super) fn spawn(name: &str, parts: &Parts, work: impl FnOnce(&Parts) + Send + 'static) {
    let own = parts.clone();
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let alarm = Alarm(own);
        work(&alarm.0);
    });
    if let Err(error) = spawned {
        // Where nobody listens any more there is nobody to tell.
        let _ = parts.send((u64::MAX, Err(error)));
    }
}

struct Alarm(Parts);

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            let error = io::Error::other(
                "smtpwatch failed on a part of it, which is a defect: please report it",
            );
            let _ = self.0.send((u64::MAX, Err(error)));
        }
    }
}

/// How inputs are to be read.
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

/// An input that is about to be read.
pub(crate) struct Pending {
    input: Input,
    number: u32,
    anchor: io::Result<Anchor>,
    /// When its first record was written, where that can be told beforehand.
    pub(crate) first_time: Option<Timestamp>,
}

impl Pending {
    /// Looks into `input`, the `number`th of its call.
    pub(crate) fn new(input: Input, number: u32, zone: &TimeZone) -> Self {
        let anchor = probe::anchor(&input, zone);
        let first_time = match (&anchor, input.kind) {
            (Ok(anchor), Kind::Lines) => probe::first_time(&input, anchor, zone),
            _ => probe::first_time_of_other(&input, zone),
        };
        Self {
            input,
            number,
            anchor,
            first_time,
        }
    }

    /// Begins to read.
    pub(crate) fn start(self, reading: &Reading) -> Stream {
        Stream::start(self, reading)
    }
}

/// An input that is being read.
pub(crate) struct Stream {
    meter: Arc<Meter>,
    parts: Receiver<(u64, io::Result<Part>)>,
    early: BTreeMap<u64, Part>,
    next_part: u64,
    dater: Dater,
    queue: VecDeque<Evidence>,
    before: Option<Timestamp>,
    /// Where records bear the time at which their connection began.
    reorder: Option<Reorder>,
    outcome: Outcome,
}

impl Stream {
    fn start(pending: Pending, reading: &Reading) -> Self {
        let Pending { input, number, .. } = pending;
        let mut outcome = Outcome {
            name: input.location.name(),
            kind: input.kind.name(),
            is_text: input.kind == Kind::Lines,
            ..Outcome::default()
        };
        let anchor = pending.anchor.unwrap_or_else(|cause| {
            outcome.error = Some(InputError::new(outcome.name.clone(), cause));
            Anchor::at_start(input.file_time)
        });
        let ahead = match input.kind {
            Kind::Lines | Kind::JournalJson | Kind::Zeek | Kind::Eve | Kind::Ulogd => LINES_AHEAD,
            Kind::JournalExport | Kind::Capture => BLOCKS_AHEAD,
        };
        let (sender, parts) = sync_channel(ahead);
        let worker = Worker {
            decoder: reading.decoder.clone(),
            ports: reading.ports.clone(),
            input: number,
            format: LineFormat::of(input.kind),
            prefixes: Vec::new(),
        };
        match input.kind {
            Kind::Lines | Kind::JournalJson | Kind::Zeek | Kind::Eve | Kind::Ulogd => {
                lines::spawn(&worker, input.reader, reading.threads, &sender);
            }
            Kind::JournalExport => journal::spawn(worker, input.reader, &sender),
            Kind::Capture => capture::spawn(worker.ports, number, input.reader, &sender),
        }
        Self {
            meter: input.meter,
            parts,
            early: BTreeMap::new(),
            next_part: 0,
            dater: Dater::new(anchor, reading.zone.clone()),
            queue: VecDeque::new(),
            before: None,
            reorder: (input.kind.is_written_at_the_end())
                .then(|| Reorder::new(rule(number, eve::TRANSACTION.as_bytes()))),
            outcome,
        }
    }

    /// What came of it, once the stream has ended.
    pub(crate) fn into_outcome(self) -> Outcome {
        Outcome {
            bytes: self.meter.bytes(),
            lost: self.outcome.lost.saturating_add(self.meter.lost()),
            ..self.outcome
        }
    }

    /// Waits for the next part in turn; answers whether there was one.
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
        let (worst, queue) = (&mut self.outcome.clock, &mut self.queue);
        self.dater.join(part, |evidence, clock| {
            *worst = (*worst).max(clock);
            queue.push_back(evidence);
        });
    }

    /// Puts right a stamp that is far from both its neighbours'.
    fn mend(&mut self, mut evidence: Evidence) -> Evidence {
        let time = evidence.time();
        // A connection may well have begun a day before those around it.
        let may_be_older = self.reorder.is_some();
        let is_off =
            |before, after| is_outlier(before, time, after) && !(may_be_older && time < before);
        let mended = match (self.before, self.queue.front().map(Evidence::time)) {
            (Some(before), Some(after)) if is_off(before, after) => Some(before),
            // The first one has no predecessor: it is off where the next two agree against it.
            (None, Some(after)) if time > after && is_off(after, after) => {
                let third = self.queue.get(1).map(Evidence::time);
                third
                    .is_some_and(|third| !is_outlier(third, after, time))
                    .then_some(after)
            }
            _ => None,
        };
        if let Some(time) = mended {
            self.outcome.bad_time += 1;
            evidence.set_time(time);
        }
        self.before = Some(evidence.time());
        evidence
    }
}

impl Iterator for Stream {
    type Item = Evidence;

    fn next(&mut self) -> Option<Evidence> {
        loop {
            if let Some(evidence) = self.reorder.as_mut().and_then(|held| held.pop(false)) {
                return Some(evidence);
            }
            let next = self.next_as_written();
            match (&mut self.reorder, next) {
                (Some(held), Some(evidence)) => held.push(evidence),
                (Some(held), None) => return held.pop(true),
                (None, next) => return next,
            }
        }
    }
}

impl Stream {
    fn next_as_written(&mut self) -> Option<Evidence> {
        // Two records ahead, for their times tell whether this one's is off.
        while self.queue.len() < 3 && self.take_part() {}
        let evidence = self.queue.pop_front()?;
        Some(self.mend(evidence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_fails_is_told_of() {
        let (sender, parts) = sync_channel(2);
        spawn("failing", &sender, |parts| {
            parts.send((0, Ok(Part::default()))).unwrap();
            panic!("on purpose");
        });
        assert!(matches!(parts.recv(), Ok((0, Ok(_)))));
        assert!(matches!(parts.recv(), Ok((u64::MAX, Err(_)))));
    }
}
