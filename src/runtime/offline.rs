//! The offline run: inputs are opened, merged and handed to the engine until they end.

use std::io::IsTerminal;
use std::sync::Arc;

use super::merge::Merge;
use super::progress::Progress;
use crate::attribution::leases::LeaseBook;
use crate::engine::{self, Engine};
use crate::model::{Evidence, Timestamp};
use crate::settings::Settings;
use crate::source::{Input, InputError, Location, Outcome, Pending, Reading, Stream};

/// What is to be read and how.
pub(crate) struct Offline {
    /// Inputs, in the order in which they are to be shown.
    pub(crate) locations: Vec<Location>,
    /// How lines are read.
    pub(crate) reading: Reading,
    /// Who held which address when.
    pub(crate) leases: LeaseBook,
    /// Whether progress may be shown.
    pub(crate) shows_progress: bool,
}

/// What came of it.
pub(crate) struct Answer {
    /// The engine, with all that it knows.
    pub(crate) engine: Engine,
    /// What was read.
    pub(crate) read: Read,
}

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// Each input that was read, in the order in which they were given.
    pub(crate) outcomes: Vec<Outcome>,
    /// Inputs that could not be read.
    pub(crate) errors: Vec<InputError>,
    /// Files found in folders that are of no known kind, and what they seem to be.
    pub(crate) passed_over: Vec<InputError>,
}

impl Offline {
    /// Reads everything; `seed` is for the engine's tables. The engine is shown to `observe` after each
    /// input.
    pub(crate) fn run(
        mut self,
        settings: Settings,
        now: Timestamp,
        seed: u64,
        mut observe: impl FnMut(&Engine),
    ) -> Answer {
        let leases = std::mem::take(&mut self.leases);
        let mut engine = Engine::new(settings, leases, seed);
        let read = self.read(now, |evidence, is_late, reached| {
            engine.handle(engine::Input::told(evidence, is_late), reached);
            observe(&engine);
        });
        Answer { engine, read }
    }

    /// Reads everything, and hands each record to `take` in the order of time, with whether it came too
    /// late to be put in order, and the time up to which everything has been handed in.
    pub(crate) fn read(
        self,
        now: Timestamp,
        mut take: impl FnMut(Evidence, bool, Timestamp),
    ) -> Read {
        let mut errors = Vec::new();
        let mut passed_over = Vec::new();
        let inputs = self.open(now, &mut errors, &mut passed_over);
        let order: Vec<(String, bool)> = inputs
            .iter()
            .map(|input| {
                (
                    input.location.name(),
                    matches!(input.location, Location::Found(_)),
                )
            })
            .collect();
        let total = inputs.iter().map(|input| input.length).sum::<Option<u64>>();
        let progress = Arc::new(Progress::new(
            total,
            self.shows_progress && std::io::stderr().is_terminal(),
        ));
        let waiting = (0..)
            .zip(inputs)
            .map(|(number, input)| {
                let listener = Arc::clone(&progress);
                input.meter.listen(move |bytes| listener.advance(bytes));
                let pending = Pending::new(input, number, &self.reading.zone);
                (pending.first_time, pending)
            })
            .collect();
        let mut merge = Merge::new(waiting);
        let mut open = |pending: Pending| pending.start(&self.reading);
        let mut reached = Timestamp::from_micros(i64::MIN);
        while let Some((evidence, is_late)) = merge.next(&mut open) {
            reached = reached.max(evidence.time());
            take(evidence, is_late, reached);
        }
        progress.finish();
        let mut outcomes: Vec<Outcome> = merge
            .into_ended()
            .into_iter()
            .map(Stream::into_outcome)
            .collect();
        outcomes.sort_by_key(|outcome| order.iter().position(|(name, _)| *name == outcome.name));
        sort_out(&mut outcomes, &order, &mut errors, &mut passed_over);
        Read {
            outcomes,
            errors,
            passed_over,
        }
    }

    fn open(
        &self,
        now: Timestamp,
        errors: &mut Vec<InputError>,
        passed_over: &mut Vec<InputError>,
    ) -> Vec<Input> {
        let mut inputs = Vec::new();
        for location in &self.locations {
            match Input::open(location, now) {
                Ok(input) => match input.unknown_kind() {
                    None => inputs.push(input),
                    Some(found) => {
                        let name = location.name();
                        let error = InputError::UnknownKind { name, found };
                        // What was named is an error; what was found in a folder is passed over.
                        match location {
                            Location::Found(_) => passed_over.push(error),
                            _ => errors.push(error),
                        }
                    }
                },
                Err(error) => errors.push(error),
            }
        }
        inputs
    }
}

/// Takes out what turned out to be no log, and the errors met while reading.
fn sort_out(
    outcomes: &mut Vec<Outcome>,
    order: &[(String, bool)],
    errors: &mut Vec<InputError>,
    passed_over: &mut Vec<InputError>,
) {
    outcomes.retain_mut(|outcome| {
        let is_log = !outcome.is_no_log();
        errors.extend(outcome.error.take());
        if is_log {
            return true;
        }
        let is_named = order
            .iter()
            .any(|(name, is_found)| *name == outcome.name && !is_found);
        let error = InputError::UnknownKind {
            name: outcome.name.clone(),
            found: "neither a time stamp nor a packet record in it",
        };
        if is_named {
            errors.push(error);
        } else {
            passed_over.push(error);
        }
        false
    });
}
