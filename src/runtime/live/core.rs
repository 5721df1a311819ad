//! The engine, and everything that follows what it says: the recording, the history, the screen.

use super::Sink;
use crate::engine::{Engine, Input};
use crate::model::{LossKind, Notice, SourceName, Timestamp};
use crate::recording::Recorder;
use crate::settings::Retention;
use crate::source::live::Batch;
use crate::store::{Gatherer, Writer};

/// The engine of a live run.
pub(crate) struct Core {
    engine: Engine,
    sink: Sink,
    recorder: Option<Recorder>,
    history: Option<(Gatherer, Writer)>,
    /// Losses since the last tick: under load there is one in every read.
    losses: Vec<(SourceName, LossKind, u64)>,
    /// Whether anything was taken since the last tick.
    has_news: bool,
}

impl Core {
    /// `engine`, shown by `sink`, recorded and kept where that is asked for.
    pub(crate) fn new(
        engine: Engine,
        sink: Sink,
        recorder: Option<Recorder>,
        history: Option<(Gatherer, Writer)>,
    ) -> Self {
        Self {
            engine,
            sink,
            recorder,
            history,
            losses: Vec::new(),
            has_news: true,
        }
    }

    /// Hands `input` to the engine, and what follows from it to everybody.
    pub(super) fn take(&mut self, input: Input, now: Timestamp) {
        self.has_news = true;
        if let Some(recorder) = &mut self.recorder {
            recorder.write(&input, now);
        }
        self.engine.handle(input, now);
        for effect in self.engine.effects() {
            self.sink.show(effect, &self.engine, now);
        }
        if let Some((gatherer, _)) = &mut self.history {
            gatherer.note(&self.engine, now);
        }
    }

    /// Hands in what `source` read.
    pub(super) fn take_batch(&mut self, source: &SourceName, batch: &mut Batch, now: Timestamp) {
        for evidence in batch.evidence.drain(..) {
            self.take(Input::from(evidence), now);
        }
        for (kind, events) in batch.lost.drain(..) {
            self.lose(source, kind, events);
        }
        let events = batch.events;
        if events > 0 {
            let source = source.clone();
            self.take(Input::Arrived { source, events }, now);
        }
        batch.clear();
    }

    /// Notes a loss, to be told at the next tick.
    pub(super) fn lose(&mut self, source: &SourceName, kind: LossKind, events: u64) {
        let known = self
            .losses
            .iter_mut()
            .find(|(own, how, _)| own == source && *how == kind);
        match known {
            Some((_, _, count)) => *count = count.saturating_add(events),
            None if events > 0 => self.losses.push((source.clone(), kind, events)),
            None => {}
        }
    }

    /// Tells the engine what was lost.
    pub(super) fn tell_losses(&mut self, now: Timestamp) {
        for (source, kind, events) in std::mem::take(&mut self.losses) {
            let lost = Input::Lost {
                source,
                kind,
                events,
            };
            self.take(lost, now);
        }
    }

    /// Time has passed: losses are told, and what was gathered is handed on.
    pub(super) fn tick(&mut self, now: Timestamp) {
        self.tell_losses(now);
        self.take(Input::Tick, now);
        let mut troubles = Vec::new();
        if let Some((gatherer, writer)) = &mut self.history {
            writer.submit(gatherer.drain(&self.engine, now));
            troubles.extend(writer.troubles());
        }
        if let Some(recorder) = &mut self.recorder {
            troubles.extend(recorder.flush().err().map(|error| error.to_string()));
        }
        for trouble in troubles {
            self.sink.say(&trouble, self.engine.wall(now));
        }
        self.sink.refresh(&self.engine);
        self.has_news = false;
    }

    /// Whether anything was taken since the last tick.
    pub(super) fn has_news(&self) -> bool {
        self.has_news || !self.losses.is_empty()
    }

    /// Keeps the history for as long as `retention` says from now on.
    pub(super) fn retain(&self, retention: Retention) {
        if let Some((_, writer)) = &self.history {
            writer.retain(retention);
        }
    }

    /// Tells `notice` to the engine.
    pub(super) fn notice(&mut self, notice: Notice, now: Timestamp) {
        self.take(Input::Notice(notice), now);
    }

    /// Where it is shown.
    pub(super) fn sink(&mut self) -> &mut Sink {
        &mut self.sink
    }

    /// The engine, with all that it knows.
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Ends everything that follows the engine; answers it, and what could not be kept.
    pub(super) fn finish(mut self, now: Timestamp) -> (Engine, Sink, Vec<String>) {
        let mut troubles = Vec::new();
        if let Some((mut gatherer, writer)) = self.history.take() {
            writer.submit(gatherer.drain(&self.engine, now));
            let (unwritten, left) = writer.finish();
            troubles.extend(left);
            if unwritten.attempts > 0 {
                troubles.push(format!(
                    "attempts that are missing from the history: {}",
                    unwritten.attempts
                ));
            }
        }
        if let Some(mut recorder) = self.recorder.take() {
            troubles.extend(recorder.flush().err().map(|error| error.to_string()));
            if recorder.unrecorded() > 0 {
                troubles.push(format!(
                    "inputs that are missing from the recording: {}",
                    recorder.unrecorded()
                ));
            }
        }
        (self.engine, self.sink, troubles)
    }
}
