//! Floor 3: the state machine. Observations go in, one at a time and in the order of record time;
//! what follows from them comes out as effects, and what is known about each device can be read.
//!
//! It owns no file, no socket and no clock, so that `report` and everything live run on the same
//! logic. Everything it keeps is bounded, and what it had to forget is counted.

mod attempts;
mod destinations;
mod devices;
mod facts;
mod health;
mod hindsight;
mod identities;
mod lookups;
mod outcomes;
mod past;
mod roles;
mod sentence;
mod services;
mod spoofed;
mod state;
mod trace;
mod unclaimed;

use std::net::IpAddr;

use foldhash::quality::FixedState;
use serde::{Deserialize, Serialize};

pub use destinations::Destinations;
pub use devices::{Device, DeviceDestinations};
pub use facts::Facts;
pub use health::{Health, RulesHealth, SourceHealth};
pub use hindsight::{Action, COMPLETED_TO_BLOCK, Connections, Hindsight, Judged, LEARNING, Spared};
pub use lookups::Lookups;
pub use outcomes::OutcomeCounts;
pub use past::{PastAttempt, PastContact, PastDevice, PastRow, spread};
pub use roles::{Receiver, Role, RoleEvidence};
pub use sentence::{SMTP, because, because_of, called, grouped, spoken};
pub use spoofed::{Spoofed, Spoofer};
pub use state::DeviceState;
pub use trace::{Found, Selector, Trace, Traced, TracedAttempt, TracedGroup, TracedScore};
pub use unclaimed::{Advice, Unclaimed};

use crate::attribution::identity::{Origin, Who};
use crate::attribution::leases::LeaseBook;
use crate::decode::dhcp_lease::Record;
use crate::model::{
    Clock, DeviceId, DeviceKey, Direction, Evidence, Finding, Group, Held, LossKind, Mac,
    Neighbour, Notice, Observation, Outcome, Response, SourceName, Spoof, Timestamp, Topology,
    Tuple,
};
use crate::settings::{Limits, Settings};
use attempts::{Attempts, Seen};
use devices::{Counted, Devices, Sighting};
use outcomes::{Early, Tellers};
use roles::Roles;
use services::OneService;

/// What the engine takes. Live, everything that an answer depends on comes this way, so that a run
/// that was recorded can be run again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// A SYN to a watched port was seen.
    Syn(Observation),
    /// A SYN whose record came too late to be put in order: it is counted and never scores.
    LateSyn(Observation),
    /// What became of an attempt, as far as a source tells. One that comes before its SYN is kept for
    /// 10 s.
    Response(Response),
    /// What is remembered of devices from earlier runs, those that matter most first: beyond the
    /// number of devices that are kept nothing is remembered. A device gets it when it is first seen.
    Resume(Vec<DeviceState>),
    /// Which MACs answered for which addresses before, whole.
    Held(Vec<Held>),
    /// Destination groups that are one mail service, as the DNS tells: at most 8, each in one service
    /// only. They hold for as long as nothing else is said of them.
    OneService(Vec<Group>),
    /// A device asked for somebody's mail servers (MX), as an answer tells that went to it.
    MailLookup {
        /// When.
        time: Timestamp,
        /// The address that asked.
        client: IpAddr,
    },
    /// What reverse DNS calls an address; none where it does not know it.
    ReverseName {
        /// The address.
        address: IpAddr,
        /// The name: hostile text.
        name: Option<String>,
    },
    /// Who made a device's network card, as lists on this machine say; none where they do not.
    Vendor {
        /// Whose.
        device: DeviceKey,
        /// The card's MAC.
        mac: Mac,
        /// Its maker.
        name: Option<String>,
    },
    /// The settings from now on. How many devices and unclaimed addresses are kept stays as it was.
    Settings(Box<Settings>),
    /// The machine's place in the network, whole, when it starts and whenever it has changed.
    Topology(Topology),
    /// An entry of the neighbour table is new or has changed.
    Neighbour(Neighbour),
    /// The records of all lease files, whole, when they start and whenever one has changed.
    Leases(Vec<Record>),
    /// Names that are configured by hand (/etc/hosts), whole.
    Hosts(Vec<(IpAddr, String)>),
    /// A source lost that many events before they could be decoded.
    Lost {
        /// Which source.
        source: SourceName,
        /// How.
        kind: LossKind,
        /// How many.
        events: u64,
    },
    /// The rule that feeds a source has matched that many packets more. What has neither arrived nor
    /// been lost by the next such reading was not seen.
    Matched {
        /// Which source.
        source: SourceName,
        /// Packets.
        packets: u64,
    },
    /// A source handed in that many observations more.
    Arrived {
        /// Which source.
        source: SourceName,
        /// Observations.
        events: u64,
    },
    /// From now on the time of day is this much ahead of the time that inputs bear, in microseconds.
    WallClock(i64),
    /// Something happened to the means of seeing.
    Notice(Notice),
    /// Time passed.
    Tick,
}

impl From<Evidence> for Input {
    fn from(evidence: Evidence) -> Self {
        match evidence {
            Evidence::Syn(observation) => Self::Syn(observation),
            Evidence::Response(response) => Self::Response(response),
        }
    }
}

impl Input {
    /// What a source told; `is_late`: its record came too late to be put in order.
    pub fn told(evidence: Evidence, is_late: bool) -> Self {
        match evidence {
            Evidence::Syn(observation) if is_late => Self::LateSyn(observation),
            evidence => evidence.into(),
        }
    }
}

/// What follows from an input.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A connection was tried that had not been seen before.
    Attempt {
        /// Who tried; nobody where its direction is not asked for, or the source is not believed.
        device: Option<DeviceId>,
        /// Where to.
        direction: Direction,
        /// The SYN that opened it.
        observation: Observation,
    },
    /// A source told what became of an attempt, or nobody did in time.
    Responded {
        /// Whose attempt it is, where anybody's.
        device: Option<DeviceId>,
        /// Where it went.
        direction: Direction,
        /// When its first SYN was seen.
        opened: Timestamp,
        /// How it had ended so far as was known.
        before: Outcome,
        /// How it has ended so far as is known now.
        after: Outcome,
        /// Whose tuple it is.
        tuple: Tuple,
        /// Whether its originator completed the handshake, as far as was not known before.
        is_completed: bool,
        /// Bytes of the whole connection, where they were not known before.
        bytes: Option<(u64, u64)>,
        /// What was told; none where nobody said anything in time.
        response: Option<Response>,
    },
    /// A detector has something to say about a device.
    Found {
        /// About whom.
        device: DeviceId,
        /// What.
        finding: Finding,
    },
    /// A connection was tried from an address that is not the sender's own: evidence against nobody.
    Spoofed {
        /// The SYN that opened it: its source, and its MAC, may be anybody's.
        observation: Observation,
        /// Why it is not believed.
        reason: Spoof,
        /// Whether it is the first from that MAC on that interface for that reason, in an hour at
        /// least: worth an alert.
        is_first: bool,
    },
    /// Several machines stand behind a device's MAC, a NAT or an access point: told once.
    Shared {
        /// Behind whose.
        device: DeviceId,
    },
    /// Events were lost.
    Lost {
        /// By which source.
        source: SourceName,
        /// How.
        kind: LossKind,
        /// How many.
        events: u64,
    },
    /// The means of seeing changed.
    Health(Notice),
}

/// SYN packets and the attempts that they make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// SYN packets without ACK.
    pub syns: u64,
    /// Attempts: connections.
    pub attempts: u64,
}

/// What one input added to the counts. A SYN that repeats an attempt has no effect, and counts still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// For whom; nobody where its direction is not asked for.
    pub device: Option<DeviceId>,
    /// Where to.
    pub direction: Direction,
    /// Between whom.
    pub tuple: Tuple,
    /// When.
    pub time: Timestamp,
    /// The SYN packets it adds: 0 where another rule has reported the same one.
    pub syns: u64,
    /// Whether it is an attempt of its own.
    pub is_attempt: bool,
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
    /// What came from addresses that are not the sender's own; it is in no direction.
    pub spoofed: Count,
    /// Devices forgotten because there were too many.
    pub evicted_devices: u64,
    /// Attempts forgotten while their SYNs could still be repeated.
    pub evicted_attempts: u64,
    /// Answers that came before their SYN, and for which there was no room.
    pub evicted_responses: u64,
    /// Questions for mail servers that were asked by inside addresses.
    pub mail_lookups: u64,
    /// Those of devices that were not seen in time, for which there was no room.
    pub evicted_lookups: u64,
    /// Destination groups that are one service with others, for which there was no room.
    pub unmerged_groups: u64,
    /// Time of the first and the last observation.
    pub span: Option<(Timestamp, Timestamp)>,
}

impl Totals {
    /// What went in `direction`.
    pub fn direction(&self, direction: Direction) -> Count {
        self.directions[direction as usize]
    }

    /// Adds what went in `direction`.
    pub fn add(&mut self, direction: Direction, count: Count) {
        let own = &mut self.directions[direction as usize];
        own.syns = own.syns.saturating_add(count.syns);
        own.attempts = own.attempts.saturating_add(count.attempts);
    }
}

/// The state machine.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    who: Who,
    attempts: Attempts,
    early: Early,
    tellers: Tellers,
    devices: Devices,
    roles: Roles,
    spoofed: Spoofed,
    unclaimed: Unclaimed,
    services: OneService,
    lookups: Lookups,
    totals: Totals,
    health: Health,
    /// How far the time of day is ahead of the time that inputs bear, in microseconds.
    wall_offset: i64,
    /// What followed from the last input.
    effects: Vec<Effect>,
    /// What the last input added.
    added: Option<Added>,
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
            early: Early::new(state.clone()),
            tellers: Tellers::default(),
            spoofed: Spoofed::new(&state),
            who: Who::new(leases, &settings, &state),
            roles: Roles::new(state.clone()),
            services: OneService::new(state.clone()),
            lookups: Lookups::new(state.clone()),
            devices: Devices::new(settings.limits, state),
            totals: Totals::default(),
            wall_offset: 0,
            settings,
            health: Health::default(),
            effects: Vec::new(),
            added: None,
        }
    }

    /// Takes `input` at `now`, the time up to which everything has been handed in; answers what
    /// follows from it.
    pub fn handle(&mut self, input: Input, now: Timestamp) -> &[Effect] {
        self.effects.clear();
        self.added = None;
        self.settle(now);
        match input {
            Input::Syn(observation) => self.syn(&observation, false, now),
            Input::LateSyn(observation) => self.syn(&observation, true, now),
            Input::Lost {
                source,
                kind,
                events,
            } => {
                self.health.lost(&source, kind, events);
                self.tellers.lost(&source, now);
                self.effects.push(Effect::Lost {
                    source,
                    kind,
                    events,
                });
            }
            Input::Arrived { source, events } => self.health.arrived(&source, events),
            Input::Matched { source, packets } => {
                let change = self.health.matched(&source, packets);
                self.effects.extend(change.map(Effect::Health));
            }
            Input::Notice(notice) => {
                self.health.note(&notice);
                self.tellers.note(&notice, now);
                self.effects.push(Effect::Health(notice));
            }
            Input::Topology(topology) => self.who.set_topology(&topology, &self.settings),
            Input::Neighbour(neighbour) => self.who.note_neighbour(&neighbour, now),
            Input::Held(held) => self.note_past(held),
            Input::ReverseName { address, name } => self.name(address, name.as_deref()),
            Input::Vendor { device, mac, name } => self.devices.note_vendor(&device, mac, name),
            Input::Leases(records) => self.who.set_leases(LeaseBook::of_records(records)),
            Input::Hosts(hosts) => self.who.set_hosts(hosts),
            Input::Response(response) => self.response(&response, now),
            Input::Resume(states) => self.resume(states, now),
            Input::Settings(settings) => self.set_settings(*settings),
            Input::OneService(groups) => self.services.note(&groups),
            Input::MailLookup { time, client } => self.mail_lookup(time, client),
            Input::WallClock(offset) => self.wall_offset = offset,
            Input::Tick => {}
        }
        &self.effects
    }

    fn syn(&mut self, observation: &Observation, is_late: bool, now: Timestamp) {
        if !self.settings.window.contains(self.wall(observation.time)) {
            self.totals.outside_window += 1;
            return;
        }
        self.totals.observations += 1;
        self.totals.late += u64::from(is_late);
        self.note_time(observation.time);
        // Offline it is asked only where somebody is to be named.
        let origin = self.who.is_live().then(|| self.origin(observation));
        if let Some(Origin::Spoofed(reason)) = origin {
            self.count_spoofed(observation, reason, now);
            return;
        }
        let direction = self.who.direction(observation, &self.settings);
        self.unclaimed.note(direction, &observation.tuple);
        let seen = self.attempts.note(observation, now);
        self.totals.evicted_attempts = self.attempts.evicted();
        let (device, is_attempt) = if self.settings.scope.holds(direction) {
            let origin = origin.unwrap_or_else(|| self.origin(observation));
            self.count(observation, seen, is_late, direction, origin)
        } else {
            if seen.opens_attempt {
                self.effects.push(Effect::Attempt {
                    device: None,
                    direction,
                    observation: *observation,
                });
            }
            (None, seen.opens_attempt)
        };
        self.totals.add(
            direction,
            Count {
                syns: seen.packets,
                attempts: u64::from(is_attempt),
            },
        );
        self.added = Some(Added {
            device,
            direction,
            tuple: observation.tuple,
            time: observation.time,
            syns: seen.packets,
            is_attempt,
        });
        if is_attempt && let Some(place) = seen.place {
            let may_be_told = !is_late && self.tellers.may_tell(observation);
            self.attempts.count(place, device, direction, may_be_told);
            self.respond_early(observation, now);
        }
    }

    /// Counts a question for mail servers for the device with the address `client`, or keeps it until
    /// that is seen.
    fn mail_lookup(&mut self, time: Timestamp, client: IpAddr) {
        let wall = self.wall(time);
        if !self.settings.window.contains(wall) {
            return;
        }
        let Some(key) = self.who.holder(client, time, wall, &self.settings) else {
            return;
        };
        self.totals.mail_lookups += 1;
        match self.devices.find(&key) {
            Some(place) => self.count_lookup(place, time),
            None => self.lookups.note(key, time),
        }
    }

    fn count_lookup(&mut self, place: usize, time: Timestamp) {
        let found = self.devices.judge_lookup(place, time, &self.settings);
        let found = found.into_iter();
        self.effects
            .extend(found.map(|(device, finding)| Effect::Found { device, finding }));
    }

    /// Whether an attempt of the device with `key` was seen, and it is not forgotten.
    pub fn knows(&self, key: &DeviceKey) -> bool {
        self.devices.knows(key)
    }

    /// The device that has the inside address `address` at `time`, a time that inputs bear.
    pub fn holder(&self, address: IpAddr, time: Timestamp) -> Option<DeviceKey> {
        self.who
            .holder(address, time, self.wall(time), &self.settings)
    }

    fn set_settings(&mut self, settings: Settings) {
        // Ids are given by the number of devices that are kept.
        let Limits {
            devices, unclaimed, ..
        } = self.settings.limits;
        let limits = Limits {
            devices,
            unclaimed,
            ..settings.limits
        };
        self.settings = Settings { limits, ..settings };
        self.attempts.set_capacity(limits.open_attempts);
        self.devices.set_limits(limits);
        self.who.set_settings(&self.settings);
        let released = self.devices.allow_all(&self.settings).into_iter();
        self.effects
            .extend(released.map(|(device, finding)| Effect::Found { device, finding }));
    }

    /// What the last input added to the counts, where it was a SYN of the time asked for.
    pub fn added(&self) -> Option<&Added> {
        self.added.as_ref()
    }

    /// Counts what nobody is accused of.
    fn count_spoofed(&mut self, observation: &Observation, reason: Spoof, now: Timestamp) {
        let forged = self.spoofed.note(observation, reason, now);
        if forged.opens_attempt {
            self.effects.push(Effect::Spoofed {
                observation: *observation,
                reason,
                is_first: forged.is_first,
            });
        }
    }

    fn origin(&self, observation: &Observation) -> Origin {
        self.who.origin(observation, self.wall(observation.time))
    }

    /// The time of day at `time`, a time that inputs bear.
    pub fn wall(&self, time: Timestamp) -> Timestamp {
        time.plus_micros(self.wall_offset)
    }

    /// What is known about who is who.
    pub fn who(&self) -> &Who {
        &self.who
    }

    /// Sources that are not believed.
    pub fn spoofed(&self) -> &Spoofed {
        &self.spoofed
    }

    /// What followed from the last input.
    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }

    /// What was counted over all devices so far.
    pub fn totals(&self) -> Totals {
        Totals {
            spoofed: self.spoofed.total(),
            evicted_devices: self.devices.evicted(),
            evicted_lookups: self.lookups.dropped(),
            unmerged_groups: self.services.unmerged(),
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

    /// How well the sources of a live run see.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The device called `id`, where it is still known.
    pub fn device(&self, id: DeviceId) -> Option<&Device> {
        self.devices.get(id)
    }

    /// The settings it runs with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn note_time(&mut self, time: Timestamp) {
        let (first, last) = self.totals.span.unwrap_or((time, time));
        self.totals.span = Some((first.min(time), last.max(time)));
    }

    /// Counts an observation for its device; answers which, and whether it is an attempt of its own
    /// there.
    fn count(
        &mut self,
        observation: &Observation,
        seen: Seen,
        is_late: bool,
        direction: Direction,
        origin: Origin,
    ) -> (Option<DeviceId>, bool) {
        let Origin::Device(identity) = origin else {
            return (None, seen.opens_attempt);
        };
        let time = self.wall(observation.time);
        let from = Sighting {
            time: observation.time,
            address: observation.tuple.source,
            basis: identity.basis,
            names_version: self.who.names_version(),
            wall_offset: self.wall_offset,
        };
        let place = self.devices.get_or_insert(&identity, &from, || {
            self.who.details(&identity, from.address, time)
        });
        for asked in self.lookups.take(&identity.key, observation.time) {
            self.count_lookup(place, asked);
        }
        let (id, device) = self.devices.at(place);
        let is_new = device.syns == 0;
        let Counted {
            is_attempt,
            is_newly_shared,
        } = device.count(observation, seen, &identity);
        device.allow(&self.settings);
        if is_new {
            let evidence = self.roles.of(&identity.key).cloned();
            self.devices.set_role(&identity.key, evidence);
        }
        let device = Some(id);
        if is_newly_shared {
            self.effects.push(Effect::Shared { device: id });
        }
        if !is_attempt {
            return (device, false);
        }
        self.devices
            .note_destination(place, observation.tuple.destination);
        self.effects.push(Effect::Attempt {
            device,
            direction,
            observation: *observation,
        });
        if observation.clock == Clock::None {
            self.totals.unjudged += 1;
            return (device, true);
        }
        if is_late || !self.settings.scope.scores(direction) {
            return (device, true);
        }
        let groups = self.services.of(Group::of(observation.tuple.destination));
        let found = self
            .devices
            .judge(place, observation, groups.as_slice(), &self.settings)
            .into_iter();
        self.effects
            .extend(found.map(|(device, finding)| Effect::Found { device, finding }));
        (device, true)
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod traffic;
