//! What answers of the DNS tell, kept apart from the engine: so nothing of it is recorded, written into the
//! history, or shown, but what concerns those who send mail.
//!
//! Which groups are one service is told of those groups alone that an attempt goes to. A question for mail
//! servers is told of a device that is known; of others it waits, for an hour, for their first attempt.

use std::net::IpAddr;

use foldhash::quality::FixedState;
use hashbrown::HashSet;

use crate::attribution::services::Services;
use crate::decode::dns::Answer;
use crate::engine::{Engine, Input, Lookups};
use crate::model::{Group, Observation, Timestamp};
use crate::source::live::LiveError;
use crate::source::live::dns::{Answers, Heard};

/// Answers of the DNS, and what they told.
pub(crate) struct Dns {
    answers: Answers,
    heard: Vec<Heard>,
    /// Whether anything had come when it was looked the last time.
    has_heard: bool,
    book: Services,
    waiting: Lookups,
    /// Destinations whose names are to come; no more than are asked for at once.
    asked: HashSet<IpAddr, FixedState>,
}

impl Dns {
    /// Reads `answers`. `seed` keys what is kept, and is told nobody.
    pub(crate) fn new(answers: Answers, seed: u64) -> Self {
        let state = FixedState::with_seed(seed);
        Self {
            answers,
            heard: Vec::new(),
            has_heard: false,
            book: Services::new(state.clone()),
            waiting: Lookups::new(state.clone()),
            asked: HashSet::with_hasher(state),
        }
    }

    /// Reads what has come; answers what concerns devices that `engine` knows.
    pub(super) fn hear(
        &mut self,
        engine: &Engine,
        now: Timestamp,
    ) -> Result<Vec<Input>, LiveError> {
        let mut told = Vec::new();
        let before = self.answers.count();
        let read = self.answers.read(now, &mut self.heard);
        self.has_heard = self.answers.count() != before;
        for Heard { client, answer } in self.heard.drain(..) {
            // The gateway's own questions, and those of the outside.
            let Some(device) = engine.holder(client, now) else {
                continue;
            };
            self.book.note(&answer, &device, now);
            if !matches!(answer, Answer::Exchanges(_)) {
                continue;
            }
            if engine.knows(&device) {
                told.push(Input::MailLookup { time: now, client });
            } else {
                self.waiting.note(device, now);
            }
        }
        read.map(|()| told)
    }

    /// Whether anything had come when it was looked the last time.
    pub(super) fn has_heard(&self) -> bool {
        self.has_heard
    }

    /// What is to be known before `observation`, an attempt, is: the questions of its device, and which
    /// groups are one service with its destination's.
    pub(super) fn introduce(
        &mut self,
        engine: &Engine,
        observation: &Observation,
        now: Timestamp,
    ) -> Vec<Input> {
        let mut told = Vec::new();
        let client = observation.tuple.source;
        if !self.waiting.is_empty()
            && let Some(device) = engine.holder(client, now)
        {
            let times = self.waiting.take(&device, now).into_iter();
            told.extend(times.map(|time| Input::MailLookup { time, client }));
        }
        let group = Group::of(observation.tuple.destination);
        told.extend(self.book.take_news(group, now).map(Input::OneService));
        told
    }

    /// Whether the name of `destination` could tell to which service it belongs.
    pub(super) fn wants_name(&self, engine: &Engine, destination: IpAddr, now: Timestamp) -> bool {
        // Inside it is a device's, which the engine is told.
        self.book.wants_reverse(Group::of(destination)) && engine.holder(destination, now).is_none()
    }

    /// The name of `destination` was asked for: [`Self::takes_name`] is to have it.
    pub(super) fn waits_for_name(&mut self, destination: IpAddr) {
        self.asked.insert(destination);
    }

    /// Nothing that was asked for will come.
    pub(super) fn waits_for_no_name(&mut self) {
        self.asked.clear();
    }

    /// Takes the name of a destination; answers whether it was asked for here.
    pub(super) fn takes_name(
        &mut self,
        address: IpAddr,
        name: Option<&str>,
        now: Timestamp,
    ) -> bool {
        let is_ours = self.asked.remove(&address);
        if is_ours && let Some(name) = name {
            self.book.note_reverse(address, name, now);
        }
        is_ours
    }

    /// What of the answers was missed, if anything was.
    pub(super) fn missed(&self) -> Option<String> {
        let answers = self.answers.count();
        let book = self.book.count();
        let missed = [
            (answers.lost, "lost in the kernel's queue"),
            (answers.left_out, "more than are read in a second"),
            (answers.broken, "not readable"),
            (book.evicted, "names forgotten for want of room"),
            (
                self.waiting.dropped(),
                "questions for mail servers forgotten for want of room",
            ),
        ];
        let told = missed.iter().filter(|(count, _)| *count > 0);
        let told: Vec<String> = told
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        (!told.is_empty()).then(|| {
            format!(
                "of {} answers of the DNS: {}",
                answers.heard,
                told.join(", ")
            )
        })
    }
}
