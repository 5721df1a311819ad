//! The evidence about one device: its attempts, the groups it used, its scores over time. It watches an
//! engine, and keeps a bounded part of what it sees; what is left out is counted.

use std::collections::VecDeque;
use std::net::IpAddr;

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use super::{Effect, Engine};
use crate::model::{
    DeviceId, DeviceKey, Direction, Group, Mac, Observation, Outcome, Pace, Timestamp, Tuple,
};
use crate::settings::Window;

/// Devices that are followed where several are meant.
const MAX_DEVICES: usize = 8;
/// Attempts kept of a device, the latest.
const MAX_ATTEMPTS: usize = 20_000;
/// Groups kept of a device, the first.
const MAX_GROUPS: usize = 4_096;
/// Scores kept of a device, the first: an alarm comes within a few dozen new groups.
const MAX_SCORES: usize = 4_096;

/// Which device is asked for: an id, an address, a MAC or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    text: String,
    key: Option<DeviceKey>,
    address: Option<IpAddr>,
    mac: Option<Mac>,
}

impl Selector {
    /// The device that is called `text`.
    pub fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            key: text.parse().ok(),
            address: text.parse().ok(),
            mac: text.parse().ok(),
        }
    }

    fn selects(&self, id: DeviceId, address: IpAddr, engine: &Engine) -> bool {
        if self.address == Some(address) {
            return true;
        }
        let Some(device) = engine.device(id) else {
            return false;
        };
        self.key == Some(device.key)
            || (self.mac.is_some() && device.mac() == self.mac)
            || device
                .hostname
                .as_ref()
                .is_some_and(|name| name.eq_ignore_ascii_case(&self.text))
    }
}

/// What was selected.
#[derive(Debug)]
pub enum Found<'a> {
    /// One device.
    One(&'a Traced),
    /// None that made an attempt.
    None,
    /// Each of these, by their ids; at most 8.
    Several(Vec<String>),
}

/// Follows the device that is asked for.
#[derive(Debug)]
pub struct Trace {
    selector: Selector,
    window: Window,
    traced: Vec<Traced>,
    state: FixedState,
}

/// What was seen of a device. Times are of the day.
#[derive(Debug)]
pub struct Traced {
    id: DeviceId,
    /// By what it is told from others.
    pub key: DeviceKey,
    /// Its attempts, the latest 20,000.
    pub attempts: VecDeque<TracedAttempt>,
    /// Attempts before those.
    pub omitted_attempts: u64,
    /// The destination groups it used, in the order of their first use; the first 4,096.
    pub groups: Vec<TracedGroup>,
    /// Uses of others.
    pub omitted_groups: u64,
    /// Its scores whenever a group was new to it; the first 4,096.
    pub scores: Vec<TracedScore>,
    /// Times that a group was new after those.
    pub omitted_scores: u64,
    places: HashMap<Group, usize, FixedState>,
    /// Which attempt is open between two, counted from the first.
    open: HashMap<(Tuple, Timestamp), u64, FixedState>,
}

/// An attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedAttempt {
    /// When its first SYN was seen.
    pub time: Timestamp,
    /// Which of the device's attempts it is, counted from 1.
    pub number: u64,
    /// Between whom.
    pub tuple: Tuple,
    /// Where to.
    pub direction: Direction,
    /// Whether the group was new to the device.
    pub is_new: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the device completed the handshake.
    pub is_completed: bool,
}

/// A destination group that it used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedGroup {
    /// Which.
    pub group: Group,
    /// First use.
    pub first: Timestamp,
    /// Last use.
    pub last: Timestamp,
    /// When it was new to the device, the last time; none where it was known from before.
    pub new_at: Option<Timestamp>,
    /// Attempts to it.
    pub attempts: u64,
}

/// The scores after an attempt to a group that was new.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TracedScore {
    /// When.
    pub time: Timestamp,
    /// Which of the device's attempts it was.
    pub number: u64,
    /// The group.
    pub group: Group,
    /// Each clock's score, and its threshold.
    pub scores: [(Pace, f64, f64); Pace::ALL.len()],
}

impl Trace {
    /// Follows the device that `selector` means; what lies outside `window` only tells which groups it
    /// knows. `seed` is for its tables.
    pub fn new(selector: Selector, window: Window, seed: u64) -> Self {
        Self {
            selector,
            window,
            traced: Vec::new(),
            state: FixedState::with_seed(seed),
        }
    }

    /// Takes what followed from `engine`'s last input.
    pub fn note(&mut self, engine: &Engine) {
        for effect in engine.effects() {
            match effect {
                Effect::Attempt {
                    device: Some(device),
                    direction,
                    observation,
                } => self.attempt(*device, *direction, observation, engine),
                Effect::Responded {
                    device: Some(device),
                    opened,
                    after,
                    tuple,
                    is_completed,
                    ..
                } => {
                    if let Some(traced) = self.of(*device) {
                        let opened = engine.wall(*opened);
                        traced.ended(*tuple, opened, *after, *is_completed);
                    }
                }
                _ => {}
            }
        }
    }

    fn of(&mut self, device: DeviceId) -> Option<&mut Traced> {
        self.traced.iter_mut().find(|traced| traced.id == device)
    }

    fn attempt(
        &mut self,
        id: DeviceId,
        direction: Direction,
        observation: &Observation,
        engine: &Engine,
    ) {
        if self.of(id).is_none() {
            let is_meant = self.traced.len() < MAX_DEVICES
                && self.selector.selects(id, observation.tuple.source, engine);
            let Some(device) = engine.device(id).filter(|_| is_meant) else {
                return;
            };
            let traced = Traced::new(id, device.key, self.state.clone());
            self.traced.push(traced);
        }
        let is_asked = self.window.contains(engine.wall(observation.time));
        if let Some(traced) = self.of(id) {
            traced.attempt(direction, observation, engine, is_asked);
        }
    }

    /// What was selected.
    pub fn found(&self) -> Found<'_> {
        let exact = self
            .traced
            .iter()
            .find(|traced| self.selector.key == Some(traced.key));
        match (exact, self.traced.as_slice()) {
            (Some(traced), _) | (None, [traced]) => Found::One(traced),
            (None, []) => Found::None,
            (None, all) => Found::Several(all.iter().map(|it| it.key.to_string()).collect()),
        }
    }
}

impl Traced {
    fn new(id: DeviceId, key: DeviceKey, state: FixedState) -> Self {
        Self {
            id,
            key,
            attempts: VecDeque::new(),
            omitted_attempts: 0,
            groups: Vec::new(),
            omitted_groups: 0,
            scores: Vec::new(),
            omitted_scores: 0,
            places: HashMap::with_hasher(state.clone()),
            open: HashMap::with_hasher(state),
        }
    }

    /// Its id in the engine.
    pub fn id(&self) -> DeviceId {
        self.id
    }

    fn attempt(
        &mut self,
        direction: Direction,
        observation: &Observation,
        engine: &Engine,
        is_asked: bool,
    ) {
        let Some(device) = engine.device(self.id) else {
            return;
        };
        let number = device.attempts;
        let time = engine.wall(observation.time);
        let group = Group::of(observation.tuple.destination);
        let is_new = engine.settings().scope.scores(direction)
            && device.is_new(group)
            && !self.was_new(group, time);
        self.use_group(group, time, is_new);
        if !is_asked {
            return;
        }
        if is_new && self.scores.len() < MAX_SCORES {
            self.scores.push(TracedScore {
                time,
                number,
                group,
                scores: device.scores(engine.settings(), observation.time),
            });
        } else {
            self.omitted_scores += u64::from(is_new);
        }
        if self.attempts.len() == MAX_ATTEMPTS
            && let Some(oldest) = self.attempts.pop_front()
        {
            self.omitted_attempts += 1;
            self.open.remove(&(oldest.tuple, oldest.time));
        }
        let place = self.omitted_attempts + self.attempts.len() as u64;
        self.open.insert((observation.tuple, time), place);
        self.attempts.push_back(TracedAttempt {
            time,
            number,
            tuple: observation.tuple,
            direction,
            is_new,
            outcome: Outcome::Unknown,
            is_completed: false,
        });
    }

    /// Whether `group` has been found to be new at that second: attempts follow each other faster than
    /// the detectors' clock.
    fn was_new(&self, group: Group, time: Timestamp) -> bool {
        let place = self.places.get(&group);
        let new_at = place.and_then(|place| self.groups[*place].new_at);
        new_at.is_some_and(|new_at| new_at.as_seconds() == time.as_seconds())
    }

    fn use_group(&mut self, group: Group, time: Timestamp, is_new: bool) {
        let new_at = is_new.then_some(time);
        if let Some(&place) = self.places.get(&group) {
            let known = &mut self.groups[place];
            known.last = time;
            known.attempts += 1;
            known.new_at = new_at.or(known.new_at);
        } else if self.groups.len() < MAX_GROUPS {
            self.places.insert(group, self.groups.len());
            self.groups.push(TracedGroup {
                group,
                first: time,
                last: time,
                new_at,
                attempts: 1,
            });
        } else {
            self.omitted_groups += 1;
        }
    }

    fn ended(&mut self, tuple: Tuple, opened: Timestamp, outcome: Outcome, is_completed: bool) {
        let Some(place) = self.open.get(&(tuple, opened)) else {
            return;
        };
        let place = place.checked_sub(self.omitted_attempts);
        let attempt = place
            .and_then(|place| usize::try_from(place).ok())
            .and_then(|place| self.attempts.get_mut(place));
        if let Some(attempt) = attempt {
            attempt.outcome = outcome;
            attempt.is_completed |= is_completed;
        }
    }
}
