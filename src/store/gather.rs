//! What the engine counts, gathered into rows until it is drained: pure, and cheap, for it stands
//! behind every SYN. What does not fit is counted as lost to the history; everybody's counts by
//! minute are kept whole all the same.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use foldhash::quality::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::changes::{
    AttemptKey, Changes, ENGINE, Ended, HISTORY, Identity, MinuteKey, Row, Sighting, Tally,
    Translation, Unseen, minute,
};
use crate::engine::{Added, DeviceState, Effect, Engine, Totals};
use crate::model::{DeviceId, Direction, Finding, Notice, Response, SourceName, Timestamp, Tuple};

/// Rows kept until they are drained. A flood of forged addresses makes more in a second; its bulk
/// says nothing that its part does not.
const MAX_ROWS: usize = 16_384;
/// Notices kept until they are drained.
const MAX_NOTICES: usize = 256;
/// States handed out at once; the rest wait for the next time.
const MAX_STATES: usize = 2048;
/// Sources whose position is kept until it is drained.
const MAX_POSITIONS: usize = 256;

/// Gathers what is to be written.
#[derive(Debug)]
pub(crate) struct Gatherer {
    rows: HashMap<AttemptKey, Row, FixedState>,
    places: HashMap<DeviceId, u32, FixedState>,
    identities: Vec<(DeviceId, Identity)>,
    /// When each was seen with which address.
    sightings: HashMap<(u32, IpAddr), (Timestamp, Timestamp), FixedState>,
    /// Devices whose state has changed, some more than once.
    changed: Vec<DeviceId>,
    /// By the tuple inside and its first SYN.
    translations: HashMap<(Tuple, Timestamp), Translation, FixedState>,
    positions: Vec<(SourceName, String)>,
    /// The device looked up last.
    last: Option<(DeviceId, u32)>,
    minutes: Vec<(MinuteKey, Tally)>,
    findings: Vec<(u32, Finding)>,
    unseen: BTreeMap<(i64, String, String), u64>,
    notices: Vec<(Timestamp, String)>,
    /// Packets for which there was no row, and their minute.
    unkept: (i64, u64),
    /// The engine's totals when it was drained last.
    before: Totals,
    /// The minute in which the run was last noted as alive.
    beat: i64,
    max_rows: usize,
}

impl Gatherer {
    /// Nothing gathered yet.
    pub(crate) fn new() -> Self {
        Self::with_room(MAX_ROWS)
    }

    pub(super) fn with_room(max_rows: usize) -> Self {
        // Unknown to those whose addresses it keeps.
        let state = FixedState::with_seed(RandomState::new().hash_one(0));
        Self {
            rows: HashMap::with_hasher(state.clone()),
            places: HashMap::with_hasher(state.clone()),
            identities: Vec::new(),
            sightings: HashMap::with_hasher(state.clone()),
            changed: Vec::new(),
            translations: HashMap::with_hasher(state),
            positions: Vec::new(),
            last: None,
            minutes: Vec::new(),
            findings: Vec::new(),
            unseen: BTreeMap::new(),
            notices: Vec::new(),
            unkept: (i64::MIN, 0),
            before: Totals::default(),
            beat: i64::MIN,
            max_rows,
        }
    }

    /// Notes what followed from the input that `engine` took last, at `now` (as inputs bear it). To
    /// be called after each input.
    pub(crate) fn note(&mut self, engine: &Engine, now: Timestamp) {
        if let Some(added) = engine.added() {
            self.count(added, engine);
        }
        for effect in engine.effects() {
            match effect {
                Effect::Found { device, finding } => self.found(*device, finding, engine),
                Effect::Lost {
                    source,
                    kind,
                    events,
                } => {
                    let minute = minute(engine.wall(now));
                    self.lose(minute, &source.to_string(), &kind.to_string(), *events);
                }
                Effect::Responded { .. } => self.note_responded(engine, effect),
                Effect::Health(notice) => self.health(notice, engine.wall(now)),
                _ => {}
            }
        }
    }

    /// Notes what became of an attempt: of the effect that tells it, and of no other.
    fn note_responded(&mut self, engine: &Engine, effect: &Effect) {
        let &Effect::Responded {
            device,
            direction,
            opened,
            before,
            after,
            tuple,
            is_completed,
            bytes,
            response,
        } = effect
        else {
            return;
        };
        let attempt = Earlier {
            place: device.and_then(|device| self.place(device, engine)),
            direction,
            opened: engine.wall(opened),
            tuple,
        };
        let mut ended = Ended {
            completed: i64::from(is_completed),
            ..Ended::default()
        };
        ended.replace(before, after);
        if let Some((sent, received)) = bytes {
            ended.sent = i64::try_from(sent).unwrap_or(i64::MAX);
            ended.received = i64::try_from(received).unwrap_or(i64::MAX);
        }
        if device.is_some() && ended != Ended::default() {
            self.ended(&attempt, &ended);
        }
        if let Some(response) = response {
            self.translate(&attempt, &response, engine.wall(response.time));
        }
    }

    /// Notes how far `source` has been read, after what was read has been noted: it is written together
    /// with that.
    pub(crate) fn position(&mut self, source: &SourceName, position: String) {
        let known = self.positions.iter_mut().find(|(known, _)| known == source);
        if let Some((_, known)) = known {
            *known = position;
        } else if self.positions.len() < MAX_POSITIONS {
            self.positions.push((source.clone(), position));
        }
    }

    /// Hands out what was gathered up to `now`, and starts anew.
    pub(crate) fn drain(&mut self, engine: &Engine, now: Timestamp) -> Changes {
        let at = engine.wall(now);
        self.note_totals(engine.totals(), minute(at));
        let states = self.states(engine, minute(at));
        self.tell_unkept();
        let is_heartbeat = minute(at) != self.beat;
        self.beat = minute(at);
        self.places.clear();
        self.last = None;
        let identities = self.identities.drain(..).map(|(id, known)| {
            // Its lease may have come since it was first seen; or it was forgotten since.
            engine.device(id).map_or(known, Identity::of)
        });
        Changes {
            at,
            identities: identities.collect(),
            attempts: self.rows.drain().collect(),
            minutes: std::mem::take(&mut self.minutes),
            findings: std::mem::take(&mut self.findings),
            unseen: std::mem::take(&mut self.unseen)
                .into_iter()
                .map(|((minute, source, kind), events)| Unseen {
                    minute,
                    source,
                    kind,
                    events,
                })
                .collect(),
            notices: std::mem::take(&mut self.notices),
            sightings: self
                .sightings
                .drain()
                .map(|((identity, address), (first, last))| Sighting {
                    identity,
                    address,
                    first,
                    last,
                })
                .collect(),
            states,
            translations: self.translations.drain().map(|(_, it)| it).collect(),
            positions: std::mem::take(&mut self.positions),
            is_heartbeat,
        }
    }

    fn count(&mut self, added: &Added, engine: &Engine) {
        let time = engine.wall(added.time);
        let minute = minute(time);
        let attempts = u64::from(added.is_attempt);
        let (direction, port) = (added.direction, added.tuple.destination_port);
        let whole = MinuteKey {
            minute,
            direction,
            port,
        };
        tally(&mut self.minutes, whole, time).add(time, attempts, added.syns);
        let Some(device) = added.device else {
            return;
        };
        let Some(identity) = self.place(device, engine) else {
            self.lose_row(minute);
            return;
        };
        let key = AttemptKey {
            minute,
            identity,
            direction,
            destination: added.tuple.destination,
            port,
        };
        if let Some(row) = self.row(key, time) {
            row.tally.add(time, attempts, added.syns);
        } else {
            self.lose_row(minute);
        }
        self.see(identity, added.tuple.source, time);
        if added.is_attempt {
            self.note_changed(device, minute);
        }
    }

    /// The row of `key`; none where there is no room for another.
    fn row(&mut self, key: AttemptKey, time: Timestamp) -> Option<&mut Row> {
        let has_room = self.rows.len() < self.max_rows;
        match self.rows.entry(key) {
            Entry::Occupied(row) => Some(row.into_mut()),
            Entry::Vacant(row) if has_room => Some(row.insert(Row::new(time))),
            Entry::Vacant(_) => None,
        }
    }

    fn see(&mut self, identity: u32, address: IpAddr, time: Timestamp) {
        let has_room = self.sightings.len() < self.max_rows;
        match self.sightings.entry((identity, address)) {
            Entry::Occupied(mut seen) => {
                let (first, last) = *seen.get();
                seen.insert((first.min(time), last.max(time)));
            }
            Entry::Vacant(seen) if has_room => {
                seen.insert((time, time));
            }
            Entry::Vacant(_) => self.lose(minute(time), HISTORY, "sightings", 1),
        }
    }

    fn note_changed(&mut self, device: DeviceId, minute: i64) {
        if self.changed.last() == Some(&device) {
            return;
        }
        if self.changed.len() >= self.max_rows {
            self.changed.sort_unstable();
            self.changed.dedup();
        }
        if self.changed.len() < self.max_rows {
            self.changed.push(device);
        } else {
            self.lose(minute, HISTORY, "states", 1);
        }
    }

    /// What is to be remembered of the devices that have changed.
    fn states(&mut self, engine: &Engine, minute: i64) -> Vec<(u32, DeviceState)> {
        self.changed.sort_unstable();
        self.changed.dedup();
        let count = self.changed.len().min(MAX_STATES);
        let changed: Vec<DeviceId> = self.changed.drain(..count).collect();
        let mut states = Vec::with_capacity(count);
        for id in changed {
            // One that is no longer known has had its state written before, or had hardly any.
            let Some(state) = engine.device_state(id) else {
                continue;
            };
            match self.place(id, engine) {
                Some(place) => states.push((place, state)),
                None => self.lose(minute, HISTORY, "states", 1),
            }
        }
        states
    }

    /// Counts how an attempt ended.
    fn ended(&mut self, attempt: &Earlier, ended: &Ended) {
        let minute = minute(attempt.opened);
        let row = attempt.place.and_then(|identity| {
            let key = AttemptKey {
                minute,
                identity,
                direction: attempt.direction,
                destination: attempt.tuple.destination,
                port: attempt.tuple.destination_port,
            };
            self.row(key, attempt.opened)
        });
        match row {
            Some(row) => row.ended.add(ended),
            None => self.lose(minute, HISTORY, "outcomes", 1),
        }
    }

    /// Notes how a connection is seen outside.
    fn translate(&mut self, attempt: &Earlier, response: &Response, time: Timestamp) {
        let Some(outside) = response.outside else {
            return;
        };
        let has_room = self.translations.len() < self.max_rows;
        match self.translations.entry((attempt.tuple, attempt.opened)) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.last = known.last.max(time);
            }
            Entry::Vacant(new) if has_room => {
                new.insert(Translation {
                    identity: attempt.place,
                    tuple: attempt.tuple,
                    outside,
                    first: attempt.opened,
                    last: attempt.opened.max(time),
                });
            }
            Entry::Vacant(_) => self.lose(minute(time), HISTORY, "translations", 1),
        }
    }

    /// The place of a device among the identities; none where there is no room for another.
    fn place(&mut self, id: DeviceId, engine: &Engine) -> Option<u32> {
        if let Some((last, place)) = self.last
            && last == id
        {
            return Some(place);
        }
        let place = match self.places.get(&id) {
            Some(&place) => place,
            None => {
                if self.identities.len() >= self.max_rows {
                    return None;
                }
                let place = u32::try_from(self.identities.len()).ok()?;
                let identity = Identity::of(engine.device(id)?);
                self.identities.push((id, identity));
                self.places.insert(id, place);
                place
            }
        };
        self.last = Some((id, place));
        Some(place)
    }

    fn found(&mut self, device: DeviceId, finding: &Finding, engine: &Engine) {
        let at = engine.wall(finding.at);
        match self.place(device, engine) {
            Some(place) if self.findings.len() < self.max_rows => {
                self.findings.push((place, Finding { at, ..*finding }));
            }
            _ => self.lose(minute(at), HISTORY, "findings", 1),
        }
    }

    fn health(&mut self, notice: &Notice, at: Timestamp) {
        match serde_json::to_string(notice) {
            Ok(text) if self.notices.len() < MAX_NOTICES => self.notices.push((at, text)),
            _ => self.lose(minute(at), HISTORY, "notices", 1),
        }
    }

    /// Counts a packet for which there is no row: cheaply, for there are as many as there are packets.
    fn lose_row(&mut self, minute: i64) {
        if self.unkept.0 != minute {
            self.tell_unkept();
            self.unkept.0 = minute;
        }
        self.unkept.1 += 1;
    }

    fn tell_unkept(&mut self) {
        let (minute, packets) = std::mem::replace(&mut self.unkept, (i64::MIN, 0));
        if packets > 0 {
            self.lose(minute, HISTORY, "rows", packets);
        }
    }

    fn lose(&mut self, minute: i64, source: &str, kind: &str, events: u64) {
        let key = (minute, source.to_owned(), kind.to_owned());
        let lost = self.unseen.entry(key).or_default();
        *lost = lost.saturating_add(events);
    }

    /// What the engine counted apart since the last time.
    fn note_totals(&mut self, totals: Totals, minute: i64) {
        let before = std::mem::replace(&mut self.before, totals);
        for (kind, now, then) in [
            ("late", totals.late, before.late),
            ("spoofed SYNs", totals.spoofed.syns, before.spoofed.syns),
            (
                "spoofed attempts",
                totals.spoofed.attempts,
                before.spoofed.attempts,
            ),
            ("unjudged", totals.unjudged, before.unjudged),
            (
                "outside window",
                totals.outside_window,
                before.outside_window,
            ),
            (
                "evicted devices",
                totals.evicted_devices,
                before.evicted_devices,
            ),
            (
                "evicted attempts",
                totals.evicted_attempts,
                before.evicted_attempts,
            ),
            ("mail lookups", totals.mail_lookups, before.mail_lookups),
            (
                "evicted lookups",
                totals.evicted_lookups,
                before.evicted_lookups,
            ),
            (
                "unmerged groups",
                totals.unmerged_groups,
                before.unmerged_groups,
            ),
        ] {
            if now > then {
                self.lose(minute, ENGINE, kind, now - then);
            }
        }
    }
}

/// An attempt that was made before.
#[derive(Clone, Copy)]
struct Earlier {
    /// Place of its device among the identities.
    place: Option<u32>,
    direction: Direction,
    /// When its first SYN was seen, of the day.
    opened: Timestamp,
    tuple: Tuple,
}

/// The tally of `key`, of which there are few: the latest is looked at first.
fn tally(minutes: &mut Vec<(MinuteKey, Tally)>, key: MinuteKey, time: Timestamp) -> &mut Tally {
    let place = minutes.iter().rposition(|(known, _)| *known == key);
    let place = place.unwrap_or_else(|| {
        minutes.push((key, Tally::new(time)));
        minutes.len() - 1
    });
    &mut minutes[place].1
}
