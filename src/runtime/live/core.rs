//! The engine, and everything that follows what it says: the recording, the history, the screen.

use std::net::IpAddr;

use super::{Dns, Sink};
use crate::engine::{Effect, Engine, Input};
use crate::model::{DeviceId, Evidence, LossKind, Notice, Observation, SourceName, Timestamp};
use crate::recording::Recorder;
use crate::settings::Retention;
use crate::source::VendorList;
use crate::source::live::Batch;
use crate::source::names::Names;
use crate::store::{Gatherer, Resumed, Writer};

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
    /// Who made which cards.
    vendors: VendorList,
    /// What addresses are called.
    names: Option<Names>,
    /// What answers of the DNS tell, where they are read.
    dns: Option<Dns>,
    /// Devices that were just seen, and about which more may be found out.
    seen: Vec<DeviceId>,
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
            vendors: vendors(),
            names: None,
            dns: None,
            seen: Vec::new(),
        }
    }

    /// The same, with the answers of the DNS that `dns` reads.
    pub(crate) fn with_dns(self, dns: Option<Dns>) -> Self {
        Self { dns, ..self }
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
            if let Effect::Attempt {
                device: Some(device),
                ..
            } = effect
            {
                self.seen.push(*device);
            }
        }
        if let Some((gatherer, _)) = &mut self.history {
            gatherer.note(&self.engine, now);
        }
        self.find_out(now);
    }

    /// Looks up who made the cards of the devices that were just seen, and asks for their names.
    fn find_out(&mut self, now: Timestamp) {
        while let Some(device) = self.seen.pop() {
            if let Some(address) = self.engine.wants_name(device)
                && let Some(names) = &mut self.names
            {
                names.ask(address);
            }
            if let Some(vendor) = self.vendors.input(&self.engine, device) {
                self.take(vendor, now);
            }
        }
    }

    /// Reads the answers of the DNS that have come; what they tell of questions for mail servers goes to the
    /// engine.
    fn hear(&mut self, now: Timestamp) {
        let Some(dns) = &mut self.dns else {
            return;
        };
        let heard = dns.hear(&self.engine, now);
        if let Err(error) = &heard {
            let text = format!("answers of the DNS are not read any more: {error}");
            self.dns = None;
            self.sink.say(&text, now);
        }
        for input in heard.unwrap_or_default() {
            self.take(input, now);
        }
    }

    /// Hands in what answers of the DNS have told of an attempt's device and of where it goes.
    fn introduce(&mut self, observation: &Observation, now: Timestamp) {
        let Some(dns) = &mut self.dns else {
            return;
        };
        let told = dns.introduce(&self.engine, observation, now);
        let destination = observation.tuple.destination;
        if let Some(names) = &mut self.names
            && dns.wants_name(&self.engine, destination, now)
            && names.ask(destination)
        {
            dns.waits_for_name(destination);
        }
        for input in told {
            self.take(input, now);
        }
    }

    /// Takes the name that was asked for: a destination's tells of its service, and goes no further.
    pub(super) fn name(&mut self, address: IpAddr, name: Option<String>, now: Timestamp) {
        if let Some(dns) = &mut self.dns
            && dns.takes_name(address, name.as_deref(), now)
        {
            return;
        }
        self.take(Input::ReverseName { address, name }, now);
    }

    /// The next name that was asked for; never, where none is.
    pub(super) async fn named(&mut self) -> (IpAddr, Option<String>) {
        match &mut self.names {
            Some(names) => names.next().await,
            None => std::future::pending().await,
        }
    }

    /// Asks `names` for names from now on; nobody, where there is none.
    pub(super) fn set_names(&mut self, names: Option<Names>) {
        self.names = names;
        if let Some(dns) = &mut self.dns {
            dns.waits_for_no_name();
        }
    }

    /// Goes on with what earlier runs left.
    pub(super) fn resume(&mut self, resumed: Resumed, now: Timestamp) {
        if !resumed.held.is_empty() {
            self.take(Input::Held(resumed.held), now);
        }
        if !resumed.states.is_empty() {
            self.take(Input::Resume(resumed.states), now);
        }
        if resumed.unreadable > 0 {
            let text = format!(
                "what the history remembers of {} devices cannot be read by this version; they begin anew",
                resumed.unreadable
            );
            self.sink.say(&text, now);
        }
    }

    /// How far the time of day is ahead of the time that inputs bear, in microseconds.
    pub(super) fn wall_offset(&self) -> i64 {
        let epoch = Timestamp::default();
        self.engine.wall(epoch).micros_since(epoch)
    }

    /// Hands in what `source` read.
    pub(super) fn take_batch(&mut self, source: &SourceName, batch: &mut Batch, now: Timestamp) {
        // A name is looked up before it is connected to: what was answered by now counts for all of it.
        self.hear(now);
        let mut late = batch.late.iter().peekable();
        for (place, evidence) in batch.evidence.drain(..).enumerate() {
            let is_late = late.next_if(|&&late| late == place).is_some();
            if let Evidence::Syn(observation) = &evidence {
                self.introduce(observation, now);
            }
            self.take(Input::told(evidence, is_late), now);
        }
        for (kind, events) in batch.lost.drain(..) {
            self.lose(source, kind, events);
        }
        let events = batch.events;
        if events > 0 {
            let source = source.clone();
            self.take(Input::Arrived { source, events }, now);
        }
        if let Some(position) = batch.position.take()
            && let Some((gatherer, _)) = &mut self.history
        {
            gatherer.position(source, position);
        }
        for note in batch.notes.drain(..) {
            self.sink.say(&note, now);
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
        self.hear(now);
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

    /// Whether anything was taken since the last tick, or answers of the DNS come, which are looked into by the
    /// second.
    pub(super) fn has_news(&self) -> bool {
        self.has_news || !self.losses.is_empty() || self.dns.as_ref().is_some_and(Dns::has_heard)
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
        let asked = self.names.as_ref().map(Names::count).unwrap_or_default();
        if asked.failed + asked.dropped > 0 {
            let text = format!(
                "names that were asked of the DNS: {}; without an answer {}, left out {}",
                asked.questions, asked.failed, asked.dropped
            );
            self.sink.say(&text, now);
        }
        if let Some(told) = self.dns.as_ref().and_then(Dns::missed) {
            self.sink.say(&told, now);
        }
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

/// The makers as this system's lists have them, read before a packet would have to wait for it.
fn vendors() -> VendorList {
    let mut vendors = VendorList::of_system();
    vendors.load();
    vendors
}
