//! Floor 3: the state machine. Observations go in, one at a time and in the order of record time;
//! what follows from them comes out as effects, and what is known about each device can be read.
//!
//! It owns no file, no socket and no clock, so that `report` and everything live run on the same
//! logic. Everything it keeps is bounded, and what it had to forget is counted.

mod attempts;
mod destinations;
mod devices;
mod identity;
mod sentence;
mod unclaimed;

use foldhash::quality::FixedState;

pub use devices::{Device, DeviceDestinations};
use identity::Identity;
pub use sentence::{because, called, grouped};
pub use unclaimed::{Advice, Unclaimed};

use crate::attribution::leases::LeaseBook;
use crate::model::{Clock, DeviceId, Direction, Finding, Observation, Timestamp};
use crate::settings::Settings;
use attempts::{Attempts, Seen};
use devices::Devices;

/// What the engine takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input {
    /// A SYN to a watched port was seen.
    Syn(Observation),
    /// A SYN whose record came too late to be put in order: it is counted and never scores.
    LateSyn(Observation),
}

/// What follows from an input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effect {
    /// A detector has something to say about a device.
    Found {
        /// About whom.
        device: DeviceId,
        /// What.
        finding: Finding,
    },
}

/// SYN packets and the attempts that they make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// SYN packets without ACK.
    pub syns: u64,
    /// Attempts: connections.
    pub attempts: u64,
}

/// What was counted over all devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    directions: [Count; Direction::ALL.len()],
    /// Observations within the time asked for.
    pub observations: u64,
    /// Those that came too late to be put in order.
    pub late: u64,
    /// Observations outside the time asked for.
    pub outside_window: u64,
    /// Attempts whose records bear no time: counted, not judged.
    pub unjudged: u64,
    /// Devices forgotten because there were too many.
    pub evicted_devices: u64,
    /// Attempts forgotten while their SYNs could still be repeated.
    pub evicted_attempts: u64,
    /// Time of the first and the last observation.
    pub span: Option<(Timestamp, Timestamp)>,
}

impl Totals {
    /// What went in `direction`.
    pub fn direction(&self, direction: Direction) -> Count {
        self.directions[direction as usize]
    }
}

/// The state machine.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    leases: LeaseBook,
    attempts: Attempts,
    devices: Devices,
    unclaimed: Unclaimed,
    totals: Totals,
}

impl Engine {
    /// An engine that has seen nothing. `seed` makes its tables' order unknown to those whose
    /// addresses it keeps; it changes no answer.
    ///
    /// `leases` tell who held an address at a time.
    pub fn new(settings: Settings, leases: LeaseBook, seed: u64) -> Self {
        let state = FixedState::with_seed(seed);
        Self {
            unclaimed: Unclaimed::new(settings.limits.unclaimed, &state),
            attempts: Attempts::new(settings.limits.open_attempts, state.clone()),
            devices: Devices::new(settings.limits, state),
            totals: Totals::default(),
            leases,
            settings,
        }
    }

    /// Takes `input` at `now`, the time up to which everything has been handed in.
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Vec<Effect> {
        let (observation, is_late) = match input {
            Input::Syn(observation) => (observation, false),
            Input::LateSyn(observation) => (observation, true),
        };
        if !self.settings.window.contains(observation.time) {
            self.totals.outside_window += 1;
            return Vec::new();
        }
        self.totals.observations += 1;
        self.totals.late += u64::from(is_late);
        self.note_time(observation.time);
        let direction = self.settings.direction(&observation.tuple);
        self.unclaimed.note(direction, &observation.tuple);
        let seen = self.attempts.note(&observation, now);
        self.totals.evicted_attempts = self.attempts.evicted();
        let (is_attempt, effects) = if self.settings.scope.holds(direction) {
            self.count(&observation, seen, is_late, direction)
        } else {
            (seen.opens_attempt, Vec::new())
        };
        let total = &mut self.totals.directions[direction as usize];
        total.syns += seen.packets;
        total.attempts += u64::from(is_attempt);
        effects
    }

    /// What was counted over all devices so far.
    pub fn totals(&self) -> Totals {
        Totals {
            evicted_devices: self.devices.evicted(),
            ..self.totals
        }
    }

    /// The devices, in the order of their first attempts.
    pub fn devices(&self) -> impl Iterator<Item = (DeviceId, &Device)> {
        self.devices.iter()
    }

    /// Addresses that neither the LAN nor the gateway claims.
    pub fn unclaimed(&self) -> &Unclaimed {
        &self.unclaimed
    }

    /// The settings it runs with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn note_time(&mut self, time: Timestamp) {
        let (first, last) = self.totals.span.unwrap_or((time, time));
        self.totals.span = Some((first.min(time), last.max(time)));
    }

    /// Counts an observation for its device; answers whether it is an attempt of its own there.
    fn count(
        &mut self,
        observation: &Observation,
        seen: Seen,
        is_late: bool,
        direction: Direction,
    ) -> (bool, Vec<Effect>) {
        let identity = Identity::of(observation, &self.leases);
        let (place, device) = self.devices.get_or_insert(&identity, observation.time);
        if !device.count(observation, seen) {
            return (false, Vec::new());
        }
        self.devices
            .note_destination(place, observation.tuple.destination);
        if observation.clock == Clock::None {
            self.totals.unjudged += 1;
            return (true, Vec::new());
        }
        if is_late || !self.settings.scope.scores(direction) {
            return (true, Vec::new());
        }
        let found = self
            .devices
            .judge(place, observation, &self.settings)
            .into_iter();
        let effects = found.map(|(device, finding)| Effect::Found { device, finding });
        (true, effects.collect())
    }
}

#[cfg(test)]
mod tests;
