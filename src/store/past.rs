//! What the history tells about a stretch of time: the same facts about each device as the engine had
//! while it watched.
//!
//! It counts by minute, and by day where detail has been summed up: a window is widened to whole minutes
//! or days, and says so by being shown as such. Days tell no destinations, only how many.

mod devices;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use foldhash::quality::FixedState;
use rusqlite::{Connection, params};

use self::devices::Sum;
use super::changes::{DAY, ENDS, ENGINE, Ended, minute};
use super::retention::mark;
use super::sums::count;
use super::tables::SUMMED;
use super::{FILE, StoreError, schema};
use crate::engine::{Count, DeviceDestinations, Facts, OutcomeCounts, Role, RoleEvidence, Totals};
use crate::model::{Detector, Direction, Finding, MICROS_PER_SECOND, Notice, Pace, Timestamp};
use crate::settings::{Ports, Window};

/// Reasons why it could not see that are told one by one.
const MAX_BLINDING: usize = 8;

/// What is asked of the history.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The time.
    pub(crate) window: Window,
    /// These ports; all where none is given.
    pub(crate) ports: Vec<u16>,
    /// Destinations named of a device.
    pub(crate) top: usize,
    /// Destinations told apart, of all devices together.
    pub(crate) max_destinations: usize,
    /// For the tables.
    pub(crate) seed: u64,
}

/// What it tells.
#[derive(Debug)]
pub(crate) struct Past {
    /// The file's name.
    pub(crate) name: String,
    /// Its size, with what is not yet copied into it.
    pub(crate) bytes: u64,
    /// Rows within the window.
    pub(crate) rows: u64,
    /// SYNs to the ports asked for.
    pub(crate) matched: u64,
    /// The devices.
    pub(crate) devices: Vec<Facts>,
    /// What was counted over all of them.
    pub(crate) totals: Totals,
    /// The ports that were asked for, or else seen.
    pub(crate) ports: Ports,
    /// The window in whole minutes.
    pub(crate) window: Window,
    /// What was lost.
    pub(crate) lost: Vec<Lost>,
    /// Why it could not see, and when, oldest first.
    pub(crate) blinding: Vec<(Timestamp, Notice)>,
    /// How many more such reasons there are.
    pub(crate) more_blinding: u64,
    /// Rows that this version does not understand.
    pub(crate) unreadable: u64,
    /// From when to when watch ran, within the window; the latest last.
    pub(crate) runs: Vec<(Timestamp, Timestamp)>,
    /// The time before which it is told from daily sums, where the window reaches there: of more than a
    /// day the destinations are a lower bound, and so is the peak of a device with several ports.
    pub(crate) summed: Option<Timestamp>,
}

/// Events that were lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// By whom.
    pub(crate) source: String,
    /// How.
    pub(crate) kind: String,
    /// How many.
    pub(crate) events: u64,
}

impl Past {
    /// Reads the history in the state directory `folder`, also while it is written.
    pub(crate) fn read(folder: &Path, asked: &Asked) -> Result<Self, StoreError> {
        let connection = schema::open_to_read(folder)?;
        let path = folder.join(FILE);
        let failed = |source| StoreError::Unreadable {
            path: path.clone(),
            step: "cannot be read",
            source,
        };
        // One state of the file for all that is asked of it.
        let transaction = connection.unchecked_transaction().map_err(failed)?;
        let mut past = Reading::new(&transaction, asked)
            .and_then(Reading::read)
            .map_err(failed)?;
        past.name = path.display().to_string();
        past.bytes = ["", "-wal"]
            .iter()
            .filter_map(|suffix| {
                let mut name = path.clone().into_os_string();
                name.push(suffix);
                Some(std::fs::metadata(name).ok()?.len())
            })
            .sum();
        Ok(past)
    }

    /// Whether the history in `folder` has anything to tell.
    pub(crate) fn is_there(folder: &Path) -> Result<bool, StoreError> {
        let connection = match schema::open_to_read(folder) {
            Err(StoreError::None { .. }) => return Ok(false),
            opened => opened?,
        };
        connection
            .query_row("SELECT EXISTS (SELECT 1 FROM runs)", [], |row| row.get(0))
            .map_err(|source| StoreError::Unreadable {
                path: folder.join(FILE),
                step: "cannot be read",
                source,
            })
    }
}

/// One reading of the file.
struct Reading<'a> {
    connection: &'a Connection,
    asked: &'a Asked,
    window: Window,
    /// First and last minute, the latter not included.
    minutes: (i64, i64),
    rows: u64,
    unreadable: u64,
    sums: HashMap<i64, Sum, FixedState>,
    /// Destinations that may still be told apart.
    room: usize,
    totals: Totals,
    ports: Vec<u16>,
    matched: u64,
    lost: Vec<Lost>,
    /// The minute before which attempts are in the daily sums.
    summed: i64,
    has_days: bool,
}

impl<'a> Reading<'a> {
    fn new(connection: &'a Connection, asked: &'a Asked) -> rusqlite::Result<Self> {
        let mut since = asked.window.since.map(minute);
        let mut until = asked.window.until.map(|until| {
            let minute = minute(until);
            minute + i64::from(start(minute) < until)
        });
        let summed = mark(connection, SUMMED)?.unwrap_or(i64::MIN);
        since = since.map(|since| {
            if since < summed {
                since.div_euclid(DAY) * DAY
            } else {
                since
            }
        });
        until = until.map(|until| {
            if until < summed {
                (until + DAY - 1).div_euclid(DAY) * DAY
            } else {
                until
            }
        });
        Ok(Self {
            connection,
            asked,
            window: Window {
                since: since.map(start),
                until: until.map(start),
            },
            minutes: (since.unwrap_or(i64::MIN), until.unwrap_or(i64::MAX)),
            rows: 0,
            unreadable: 0,
            sums: HashMap::with_hasher(FixedState::with_seed(asked.seed)),
            room: asked.max_destinations,
            totals: Totals::default(),
            ports: Vec::new(),
            matched: 0,
            lost: Vec::new(),
            summed,
            has_days: false,
        })
    }

    /// First and last day, the latter not included, of which sums are asked for.
    fn days(&self) -> (i64, i64) {
        let ceil = |minute: i64| minute.saturating_add(DAY - 1).div_euclid(DAY);
        (ceil(self.minutes.0), ceil(self.minutes.1))
    }

    fn read(mut self) -> rusqlite::Result<Past> {
        let (from, to) = self.minutes;
        let minutes = "SELECT direction, port, first, last, attempts, syns FROM minutes WHERE minute >= ?1 AND minute < ?2";
        let days = "SELECT direction, port, first, last, attempts, syns FROM day_totals WHERE day >= ?1 AND day < ?2";
        self.ports.clone_from(&self.asked.ports);
        self.read_totals(minutes, (from, to))?;
        self.read_totals(days, self.days())?;
        self.read_attempts()?;
        self.read_packed()?;
        self.read_days()?;
        self.read_unseen()?;
        let mut findings = self.read_findings()?;
        let (blinding, more_blinding) = self.read_notices()?;
        let runs = self.read_runs()?;
        let mut devices = Vec::new();
        let mut sums = std::mem::take(&mut self.sums);
        for (id, sum) in sums.drain() {
            let findings = findings.remove(&id).unwrap_or_default();
            devices.push(self.facts(id, &sum, findings)?);
        }
        Ok(Past {
            name: String::new(),
            bytes: 0,
            rows: self.rows,
            matched: self.matched,
            devices,
            totals: self.totals,
            ports: Ports::new(self.ports),
            window: self.window,
            lost: self.lost,
            blinding,
            more_blinding,
            unreadable: self.unreadable,
            runs,
            summed: self.has_days.then(|| start(self.summed)),
        })
    }

    fn is_asked(&self, port: u16) -> bool {
        self.asked.ports.is_empty() || self.asked.ports.contains(&port)
    }

    fn read_totals(&mut self, sql: &str, span: (i64, i64)) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query(params![span.0, span.1])?;
        while let Some(row) = rows.next()? {
            self.rows += 1;
            let Some(direction) = direction(row.get(0)?) else {
                self.unreadable += 1;
                continue;
            };
            let port = row.get(1)?;
            if !self.is_asked(port) {
                continue;
            }
            if !self.ports.contains(&port) {
                self.ports.push(port);
            }
            let (first, last) = (time(row.get(2)?), time(row.get(3)?));
            let counted = Count {
                attempts: count(row, 4)?,
                syns: count(row, 5)?,
            };
            self.matched += counted.syns;
            self.totals.observations += counted.syns;
            self.totals.add(direction, counted);
            let span = self.totals.span.unwrap_or((first, last));
            self.totals.span = Some((span.0.min(first), span.1.max(last)));
        }
        Ok(())
    }

    /// What was found, by device. A device that is told of here alone is told of all the same: its
    /// rows were lost.
    fn read_findings(&mut self) -> rusqlite::Result<HashMap<i64, Vec<Finding>>> {
        let mut statement = self.connection.prepare(
            "SELECT device, detector, score, threshold, at, at_attempt, took, within, new_groups, \
             mail_lookups, pace, normal_per_day FROM findings WHERE at >= ?1 AND at < ?2 ORDER BY id",
        )?;
        let micros = |time: Option<Timestamp>, open| time.map_or(open, Timestamp::as_micros);
        let mut rows = statement.query(params![
            micros(self.window.since, i64::MIN),
            micros(self.window.until, i64::MAX)
        ])?;
        let mut findings: HashMap<i64, Vec<Finding>> = HashMap::new();
        while let Some(row) = rows.next()? {
            self.rows += 1;
            let device: i64 = row.get(0)?;
            let Some(detector) = Detector::named(&row.get::<_, String>(1)?) else {
                self.unreadable += 1;
                continue;
            };
            let finding = Finding {
                detector,
                score: row.get(2)?,
                threshold: row.get(3)?,
                at: time(row.get(4)?),
                at_attempt: count(row, 5)?,
                took: Duration::from_micros(count(row, 6)?),
                within: Duration::from_micros(count(row, 7)?),
                new_groups: row.get(8)?,
                mail_lookups: row.get(9)?,
                pace: row
                    .get::<_, Option<String>>(10)?
                    .and_then(|pace| Pace::named(&pace)),
                normal_per_day: row.get(11)?,
            };
            if self.asked.ports.is_empty() {
                let state = FixedState::with_seed(self.asked.seed);
                self.sums
                    .entry(device)
                    .or_insert_with(|| Sum::new(finding.at, finding.at, state));
            }
            let known = findings.entry(device).or_default();
            // A later run says again what the one before had said.
            if known.iter().all(|known| known.detector != detector) {
                known.push(finding);
            }
        }
        Ok(findings)
    }

    fn read_unseen(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(
            "SELECT source, kind, sum(events), count(*) FROM unseen WHERE minute >= ?1 AND minute < ?2 \
             GROUP BY source, kind ORDER BY source, kind",
        )?;
        let mut rows = statement.query(params![self.minutes.0, self.minutes.1])?;
        while let Some(row) = rows.next()? {
            self.rows += count(row, 3)?;
            let (source, kind): (String, String) = (row.get(0)?, row.get(1)?);
            let events = count(row, 2)?;
            let totals = &mut self.totals;
            match (source.as_str(), kind.as_str()) {
                (ENGINE, "late") => totals.late = events,
                (ENGINE, "spoofed SYNs") => totals.spoofed.syns = events,
                (ENGINE, "spoofed attempts") => totals.spoofed.attempts = events,
                (ENGINE, "unjudged") => totals.unjudged = events,
                (ENGINE, "outside window") => totals.outside_window = events,
                (ENGINE, "evicted devices") => totals.evicted_devices = events,
                (ENGINE, "evicted attempts") => totals.evicted_attempts = events,
                (ENGINE, "mail lookups") => totals.mail_lookups = events,
                (ENGINE, "evicted lookups") => totals.evicted_lookups = events,
                (ENGINE, "unmerged groups") => totals.unmerged_groups = events,
                _ => self.lost.push(Lost {
                    source,
                    kind,
                    events,
                }),
            }
        }
        Ok(())
    }

    /// Why it could not see in the window: what was said in it, and what had been said before and
    /// still held. Answers the first reasons, and how many more there are.
    fn read_notices(&mut self) -> rusqlite::Result<(Vec<(Timestamp, Notice)>, u64)> {
        let mut statement = self
            .connection
            .prepare("SELECT at, notice FROM notices WHERE at < ?1 ORDER BY id")?;
        let until = self.window.until.map_or(i64::MAX, Timestamp::as_micros);
        let mut rows = statement.query([until])?;
        let mut holding: BTreeMap<String, (Timestamp, Notice)> = BTreeMap::new();
        let mut blinding = Vec::new();
        let mut more = 0;
        while let Some(row) = rows.next()? {
            let at = time(row.get(0)?);
            let Ok(notice) = serde_json::from_str::<Notice>(row.get_ref(1)?.as_str()?) else {
                self.unreadable += 1;
                continue;
            };
            let is_within = self.window.since.is_none_or(|since| at >= since);
            self.rows += u64::from(is_within);
            let about = match &notice {
                Notice::SourceFailed { source, .. } => (format!("open {source}"), true),
                Notice::SourceReady { source } => (format!("open {source}"), false),
                Notice::Blind { source, .. } => (format!("sees {source}"), true),
                Notice::Sees { source } => (format!("sees {source}"), false),
                Notice::RulesGone { .. } | Notice::RulesLost { .. } => ("rules".to_owned(), true),
                Notice::RulesRestored { .. } => ("rules".to_owned(), false),
                _ => continue,
            };
            match about {
                (_, true) if is_within && blinding.len() < MAX_BLINDING => {
                    blinding.push((at, notice));
                }
                (_, true) if is_within => more += 1,
                (what, true) => drop(holding.insert(what, (at, notice))),
                (what, false) if !is_within => drop(holding.remove(&what)),
                _ => {}
            }
        }
        let mut all: Vec<_> = holding.into_values().collect();
        all.append(&mut blinding);
        all.sort_by_key(|(at, _)| *at);
        Ok((all, more))
    }

    fn read_runs(&mut self) -> rusqlite::Result<Vec<(Timestamp, Timestamp)>> {
        let mut statement = self
            .connection
            .prepare("SELECT started, last FROM runs ORDER BY last")?;
        let mut rows = statement.query([])?;
        let mut runs = Vec::new();
        while let Some(row) = rows.next()? {
            let (started, last) = (time(row.get(0)?), time(row.get(1)?));
            let is_within = self.window.since.is_none_or(|since| last >= since)
                && self.window.until.is_none_or(|until| started < until);
            if is_within {
                self.rows += 1;
                runs.push((started, last));
            }
        }
        Ok(runs)
    }

    fn facts(&self, device: i64, sum: &Sum, findings: Vec<Finding>) -> rusqlite::Result<Facts> {
        let mut statement = self.connection.prepare_cached(
            "SELECT key, mac, hostname, interface, basis, addresses, is_shared, \
             iif(json_valid(state), json_extract(state, '$.role'), NULL) \
             FROM devices LEFT JOIN states ON device = id WHERE id = ?1",
        )?;
        statement.query_row([device], |row| {
            Ok(Facts {
                id: row.get(0)?,
                mac: row
                    .get::<_, Option<String>>(1)?
                    .and_then(|mac| mac.parse().ok()),
                hostname: row.get(2)?,
                vendor: None,
                interface: row.get(3)?,
                basis: row.get(4)?,
                addresses: row
                    .get_ref(5)?
                    .as_str()?
                    .split(' ')
                    .filter_map(|address| address.parse().ok())
                    .collect(),
                syns: sum.syns,
                attempts: sum.attempts,
                destinations: DeviceDestinations {
                    addresses: sum.destinations.len().max(sum.most.0),
                    groups: sum.destinations.groups().max(sum.most.1),
                    is_lower_bound: sum.is_lower_bound,
                },
                top_destinations: sum.destinations.top(self.asked.top),
                first_seen: sum.first,
                last_seen: sum.last,
                peak_per_minute: sum.peak,
                is_shared: row.get(6)?,
                findings,
                outcomes: outcomes(&sum.ended).of_all(sum.attempts),
                completed: positive(sum.ended.completed),
                // Questions are not kept.
                mail_lookups: 0,
                bytes: (sum.ended.sent > 0 || sum.ended.received > 0)
                    .then(|| (positive(sum.ended.sent), positive(sum.ended.received))),
                ports: sum.ports(),
                is_allowed: false,
                role: role(row.get(7)?, sum.last),
            })
        })
    }
}

/// The role at `now` that evidence in JSON makes.
pub(super) fn role(evidence: Option<String>, now: Timestamp) -> Option<Role> {
    let evidence: RoleEvidence = serde_json::from_str(&evidence?).ok()?;
    evidence.role(now)
}

fn outcomes(ended: &Ended) -> OutcomeCounts {
    let mut counts = OutcomeCounts::default();
    for (outcome, count) in ENDS.into_iter().zip(ended.outcomes) {
        counts.add(outcome, positive(count));
    }
    counts
}

/// A count that may have been taken from more often than added to, where its attempt was lost.
fn positive(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// When a minute begins.
fn start(minute: i64) -> Timestamp {
    Timestamp::from_micros(minute.saturating_mul(60 * MICROS_PER_SECOND))
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn direction(number: i64) -> Option<Direction> {
    let index = usize::try_from(number).ok()?;
    Direction::ALL.get(index).copied()
}
