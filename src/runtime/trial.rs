//! An engine that runs over what was seen before, and what would have been done by its settings.

use crate::attribution::leases::LeaseBook;
use crate::engine::{Engine, Hindsight, Input, Judged};
use crate::model::{Evidence, Timestamp};
use crate::settings::{Settings, Window};
use crate::store::Told;

/// One of the settings that are tried.
pub(crate) struct Trial {
    /// The engine, with all that it knows.
    pub(crate) engine: Engine,
    hindsight: Hindsight,
}

impl Trial {
    /// Judges by `settings` what lies within `window`; `seed` is for its tables.
    pub(crate) fn new(settings: Settings, window: Window, leases: LeaseBook, seed: u64) -> Self {
        Self {
            hindsight: Hindsight::new(window, settings.limits.devices, seed),
            engine: Engine::new(settings, leases, seed),
        }
    }

    /// Takes a record of a file, where it is of a port that the settings watch.
    pub(crate) fn take(&mut self, evidence: Evidence, is_late: bool, now: Timestamp) {
        let tuple = match &evidence {
            Evidence::Syn(observation) => observation.tuple,
            Evidence::Response(response) => response.tuple,
        };
        if self
            .engine
            .settings()
            .ports
            .contains(tuple.destination_port)
        {
            self.engine.handle(Input::told(evidence, is_late), now);
            self.hindsight.note(&self.engine);
        }
    }

    /// Takes what the history tells.
    pub(crate) fn relive(&mut self, told: Told<'_>) {
        match told {
            Told::Contact(device, contact) => self.engine.recall(device, contact),
            Told::Attempt(device, attempt) => {
                self.engine.relive(device, attempt);
                self.hindsight.note(&self.engine);
            }
        }
    }

    /// What would have become of each device; `known_since` is when what is known begins, where nobody
    /// is blocked in the first days after it.
    pub(crate) fn judged(&self, known_since: Option<Timestamp>) -> Vec<Judged> {
        self.hindsight.judged(&self.engine, known_since)
    }
}
