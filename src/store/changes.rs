//! What is to be written: rows as the file has them, gathered over a second. Times are of the day
//! (wall clock), in microseconds; minutes are whole minutes since the epoch.

use std::net::IpAddr;

use crate::engine::{Device, DeviceState};
use crate::model::{
    DeviceKey, Direction, Finding, Interface, MICROS_PER_SECOND, Mac, Outcome, SourceName,
    Timestamp, Tuple,
};

/// The minute of the clock that `time` lies in.
pub(super) fn minute(time: Timestamp) -> i64 {
    time.as_micros().div_euclid(60 * MICROS_PER_SECOND)
}

/// Minutes of a day.
pub(super) const DAY: i64 = 1440;

/// What came to the history since the last time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Changes {
    /// The time of day up to which this is all.
    pub(super) at: Timestamp,
    /// The devices that the rows below are about, as they were last seen.
    pub(super) identities: Vec<Identity>,
    /// Attempts by minute, device, destination and port.
    pub(super) attempts: Vec<(AttemptKey, Row)>,
    /// All that was counted, by minute, direction and port.
    pub(super) minutes: Vec<(MinuteKey, Tally)>,
    /// Findings, each with the place of its device in `identities`.
    pub(super) findings: Vec<(u32, Finding)>,
    /// What was not seen.
    pub(super) unseen: Vec<Unseen>,
    /// What happened to the means of seeing, as JSON.
    pub(super) notices: Vec<(Timestamp, String)>,
    /// Where devices were seen.
    pub(super) sightings: Vec<Sighting>,
    /// What is to be remembered of devices, each with the place of its device in `identities`.
    pub(super) states: Vec<(u32, DeviceState)>,
    /// Connections as they are seen outside.
    pub(super) translations: Vec<Translation>,
    /// How far sources have been read that can be read again.
    pub(super) positions: Vec<(SourceName, String)>,
    /// Whether the run is to be noted as alive although nothing came.
    pub(super) is_heartbeat: bool,
}

impl Changes {
    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows() == 0 && !self.is_heartbeat
    }

    /// How many rows it writes at the most.
    pub(super) fn rows(&self) -> usize {
        self.attempts.len()
            + self.minutes.len()
            + self.findings.len()
            + self.unseen.len()
            + self.notices.len()
            + self.sightings.len()
            + self.states.len()
            + self.translations.len()
            + self.positions.len()
    }

    /// The attempts that it holds, whoever made them.
    pub(super) fn count(&self) -> u64 {
        self.minutes.iter().map(|(_, tally)| tally.attempts).sum()
    }
}

/// What is known about a device, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    /// The device's id in reports: by what it is told from others.
    pub(super) key: String,
    pub(super) mac: Option<Mac>,
    pub(super) hostname: Option<String>,
    pub(super) interface: Option<String>,
    pub(super) basis: String,
    /// The latest last.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) is_shared: bool,
    /// The interface and the MAC that its addresses are seen with.
    pub(super) seen_at: (Option<Interface>, Option<Mac>),
}

impl Identity {
    pub(super) fn of(device: &Device) -> Self {
        Self {
            key: device.key.to_string(),
            mac: device.mac(),
            hostname: device.hostname.clone(),
            interface: device.interface().map(|interface| interface.name()),
            basis: device.grounds(),
            addresses: device.addresses.clone(),
            is_shared: device.is_shared(),
            seen_at: match device.key {
                DeviceKey::Station(interface, mac) => (Some(interface), Some(mac)),
                _ => (device.interface(), device.mac()),
            },
        }
    }
}

/// What a row of attempts is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AttemptKey {
    pub(super) minute: i64,
    /// Place of the device in [`Changes::identities`].
    pub(super) identity: u32,
    pub(super) direction: Direction,
    pub(super) destination: IpAddr,
    pub(super) port: u16,
}

/// Of as few words as there are: every SYN is looked up by it.
impl std::hash::Hash for AttemptKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        match self.destination {
            IpAddr::V4(v4) => state.write_u32(v4.into()),
            IpAddr::V6(v6) => state.write_u128(v6.into()),
        }
        let rest = u64::from(self.identity) << 32
            | u64::from(self.port) << 16
            | u64::from(self.direction as u8);
        state.write_u64(rest);
        state.write_i64(self.minute);
    }
}

/// What a row of everybody's counts is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MinuteKey {
    pub(super) minute: i64,
    pub(super) direction: Direction,
    pub(super) port: u16,
}

/// Counts, and the time they span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) attempts: u64,
    pub(super) syns: u64,
}

impl Tally {
    pub(super) fn new(time: Timestamp) -> Self {
        Self {
            first: time,
            last: time,
            attempts: 0,
            syns: 0,
        }
    }

    pub(super) fn add(&mut self, time: Timestamp, attempts: u64, syns: u64) {
        self.first = self.first.min(time);
        self.last = self.last.max(time);
        self.attempts += attempts;
        self.syns += syns;
    }
}

/// What is counted of an attempt's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) tally: Tally,
    pub(super) ended: Ended,
}

impl Row {
    pub(super) fn new(time: Timestamp) -> Self {
        Self {
            tally: Tally::new(time),
            ended: Ended::default(),
        }
    }
}

/// How attempts ended: what is to be added to what is known, which takes away where an outcome takes
/// another's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// By outcome, as [`ENDS`] has them.
    pub(super) outcomes: [i64; ENDS.len()],
    /// Handshakes that the originator completed.
    pub(super) completed: i64,
    /// Bytes from originators, of connections that are over.
    pub(super) sent: i64,
    /// Bytes from responders.
    pub(super) received: i64,
}

/// Outcomes that have a column, in its order; what is in none is unknown.
pub(super) const ENDS: [Outcome; 5] = [
    Outcome::Answered,
    Outcome::Refused,
    Outcome::Unreachable,
    Outcome::Unanswered,
    Outcome::Held,
];

impl Ended {
    /// An attempt that was known to have ended like `before` has ended like `after`.
    pub(super) fn replace(&mut self, before: Outcome, after: Outcome) {
        for (outcome, change) in [(before, -1), (after, 1)] {
            if let Some(place) = ENDS.iter().position(|end| *end == outcome) {
                self.outcomes[place] += change;
            }
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (own, more) in self.outcomes.iter_mut().zip(other.outcomes) {
            *own = own.saturating_add(more);
        }
        self.completed = self.completed.saturating_add(other.completed);
        self.sent = self.sent.saturating_add(other.sent);
        self.received = self.received.saturating_add(other.received);
    }
}

/// That a device had an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    /// Place of the device in [`Changes::identities`].
    pub(super) identity: u32,
    pub(super) address: IpAddr,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
}

/// A connection as it is seen outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Translation {
    /// Place of the device in [`Changes::identities`], where it is anybody's.
    pub(super) identity: Option<u32>,
    pub(super) tuple: Tuple,
    pub(super) outside: Tuple,
    /// When its first SYN was seen.
    pub(super) first: Timestamp,
    /// When it was told of last.
    pub(super) last: Timestamp,
}

/// Something that was not seen, or was forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unseen {
    pub(super) minute: i64,
    /// A source's name, [`ENGINE`] or [`HISTORY`].
    pub(super) source: String,
    pub(super) kind: String,
    pub(super) events: u64,
}

/// Source of what the engine counts apart.
pub(super) const ENGINE: &str = "engine";
/// Source of what the history itself lost.
pub(super) const HISTORY: &str = "history";
