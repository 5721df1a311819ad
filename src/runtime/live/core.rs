//! The engine, and everything that follows what it says: the recording, the history, the screen.

use super::Sink;
use crate::engine::{Engine, Input};
use crate::model::{LossKind, Notice, SourceName, Timestamp};
use crate::source::live::Batch;

/// The engine of a live run.
pub(crate) struct Core {
    engine: Engine,
    sink: Sink,
    /// Losses since the last tick: under load there is one in every read.
    losses: Vec<(SourceName, LossKind, u64)>,
}

impl Core {
    /// `engine`, shown by `sink`.
    pub(crate) fn new(
        engine: Engine,
        sink: Sink,
    ) -> Self {
        Self {
            engine,
            sink,
            losses: Vec::new(),
        }
    }

    /// Hands `input` to the engine, and what follows from it to everybody.
    pub(super) fn take(&mut self, input: Input, now: Timestamp) {
        self.engine.handle(input, now);
        for effect in self.engine.effects() {
            self.sink.show(effect, &self.engine, now);
        }
    }

    /// Hands in what a source read.
    pub(super) fn take_batch(&mut self, source: SourceName, batch: &mut Batch, now: Timestamp) {
        let events = batch.observations.len() as u64;
        for observation in batch.observations.drain(..) {
            self.take(Input::Syn(observation), now);
        }
        for (kind, events) in batch.lost.drain(..) {
            self.lose(source, kind, events);
        }
        if events > 0 {
            self.take(Input::Arrived { source, events }, now);
        }
    }

    /// Notes a loss, to be told at the next tick.
    pub(super) fn lose(&mut self, source: SourceName, kind: LossKind, events: u64) {
        let known = self
            .losses
            .iter_mut()
            .find(|(own, how, _)| *own == source && *how == kind);
        match known {
            Some((_, _, count)) => *count = count.saturating_add(events),
            None if events > 0 => self.losses.push((source, kind, events)),
            None => {}
        }
    }

    /// Time has passed: losses are told, and what was gathered is handed on.
    pub(super) fn tick(&mut self, now: Timestamp) {
        for (source, kind, events) in std::mem::take(&mut self.losses) {
            let lost = Input::Lost {
                source,
                kind,
                events,
            };
            self.take(lost, now);
        }
        self.take(Input::Tick, now);
        self.sink.refresh(&self.engine);
    }

    /// Tells `notice` to the engine.
    pub(super) fn notice(&mut self, notice: Notice, now: Timestamp) {
        self.take(Input::Notice(notice), now);
    }

    pub(super) fn sink(&mut self) -> &mut Sink {
        &mut self.sink
    }

    /// The engine, with all that it knows.
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Ends everything that follows the engine; answers it, and what could not be kept.
    pub(super) fn finish(mut self, now: Timestamp) -> (Engine, Sink, Vec<String>) {
        let troubles = Vec::new();
        (self.engine, self.sink, troubles)
    }
}
