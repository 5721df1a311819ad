//! What the engine counts, gathered into rows until it is drained: pure, and cheap, for it stands
//! behind every SYN. What does not fit is counted as lost to the history; everybody's counts by
//! minute are kept whole all the same.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use foldhash::quality::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::changes::{
    AttemptKey, Changes, ENGINE, HISTORY, Identity, MinuteKey, Tally, Unseen, minute,
};
use crate::engine::{Added, Effect, Engine, Totals};
use crate::model::{DeviceId, Finding, Notice, Timestamp};

/// Rows kept until they are drained. A flood of forged addresses makes more in a second; its bulk
/// says nothing that its part does not.
const MAX_ROWS: usize = 16_384;
/// Notices kept until they are drained.
const MAX_NOTICES: usize = 256;

/// Gathers what is to be written.
#[derive(Debug)]
pub(crate) struct Gatherer {
    rows: HashMap<AttemptKey, Tally, FixedState>,
    places: HashMap<DeviceId, u32, FixedState>,
    identities: Vec<(DeviceId, Identity)>,
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
            places: HashMap::with_hasher(state),
            identities: Vec::new(),
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
                Effect::Health(notice) => self.health(notice, engine.wall(now)),
                _ => {}
            }
        }
    }

    /// Hands out what was gathered up to `now`, and starts anew.
    pub(crate) fn drain(&mut self, engine: &Engine, now: Timestamp) -> Changes {
        let at = engine.wall(now);
        self.note_totals(engine.totals(), minute(at));
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
        let has_room = self.rows.len() < self.max_rows;
        match self.rows.entry(key) {
            Entry::Occupied(mut row) => row.get_mut().add(time, attempts, added.syns),
            Entry::Vacant(row) if has_room => {
                let mut tally = Tally::new(time);
                tally.add(time, attempts, added.syns);
                row.insert(tally);
            }
            Entry::Vacant(_) => self.lose_row(minute),
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
        ] {
            if now > then {
                self.lose(minute, ENGINE, kind, now - then);
            }
        }
    }
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
