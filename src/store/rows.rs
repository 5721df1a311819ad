//! How changes become rows: the statements that write them, within a transaction of the caller's.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use rusqlite::{OptionalExtension, Transaction, params};

use super::changes::{
    AttemptKey, Changes, DAY, Identity, Row, Sighting, Tally, Translation, Unseen,
};
use super::sums::{DayKey, DaySum, add_day, data_version};
use crate::model::{Interface, MICROS_PER_SECOND, Timestamp};

/// Devices whose row is remembered, so that what has not changed is not written.
const MAX_KNOWN: usize = 32_768;
/// Silence after which a device that is seen again begins another stretch, in microseconds.
const MAX_GAP: i64 = 3600 * MICROS_PER_SECOND;

/// Rows of devices as they stand in the file.
#[derive(Debug)]
pub(super) struct Known {
    /// Row and hash, by key.
    devices: HashMap<String, (i64, u64)>,
    hasher: RandomState,
    /// The file's [`data_version`].
    version: i64,
}

impl Known {
    pub(super) fn new() -> Self {
        Self {
            devices: HashMap::new(),
            hasher: RandomState::new(),
            version: 0,
        }
    }

    /// Forgets what may not stand in the file.
    pub(super) fn clear(&mut self) {
        self.devices.clear();
    }

    /// Forgets it where somebody else has changed the file.
    pub(super) fn refresh(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let version = data_version(transaction)?;
        if version != self.version {
            self.clear();
            self.version = version;
        }
        Ok(())
    }

    /// The row of a device, written where it is new or has changed, and once a day.
    fn row(
        &mut self,
        transaction: &Transaction<'_>,
        identity: &Identity,
        at: Timestamp,
    ) -> rusqlite::Result<i64> {
        let day = super::changes::minute(at).div_euclid(DAY);
        let hash = self.hasher.hash_one((identity, day));
        let row = match self.devices.get(&identity.key) {
            Some(&(row, known)) if known == hash => return Ok(row),
            Some(&(row, _)) => Some(row),
            None => transaction
                .prepare_cached("SELECT id FROM devices WHERE key = ?1")?
                .query_row([&identity.key], |row| row.get(0))
                .optional()?,
        };
        let row = write_device(transaction, row, identity, at)?;
        if self.devices.len() >= MAX_KNOWN {
            self.clear();
        }
        self.devices.insert(identity.key.clone(), (row, hash));
        Ok(row)
    }
}

fn write_device(
    transaction: &Transaction<'_>,
    row: Option<i64>,
    identity: &Identity,
    at: Timestamp,
) -> rusqlite::Result<i64> {
    let mac = identity.mac.map(|mac| mac.to_string());
    let addresses: Vec<String> = identity.addresses.iter().map(IpAddr::to_string).collect();
    let addresses = addresses.join(" ");
    if let Some(row) = row {
        transaction
            .prepare_cached(
                "UPDATE devices SET mac = ?2, hostname = ?3, interface = ?4, basis = ?5, addresses = ?6, is_shared = ?7, \
                 changed = ?8 WHERE id = ?1",
            )?
            .execute(params![
                row,
                mac,
                identity.hostname,
                identity.interface,
                identity.basis,
                addresses,
                identity.is_shared,
                at.as_micros()
            ])?;
        return Ok(row);
    }
    transaction
        .prepare_cached(
            "INSERT INTO devices (key, mac, hostname, interface, basis, addresses, is_shared, changed) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            identity.key,
            mac,
            identity.hostname,
            identity.interface,
            identity.basis,
            addresses,
            identity.is_shared,
            at.as_micros()
        ])?;
    Ok(transaction.last_insert_rowid())
}

/// Notes until when the run was alive; answers its row.
pub(super) fn note_run(
    transaction: &Transaction<'_>,
    run: Option<i64>,
    started: Timestamp,
    at: Timestamp,
) -> rusqlite::Result<i64> {
    if let Some(run) = run {
        let changed = transaction
            .prepare_cached("UPDATE runs SET last = ?2 WHERE id = ?1")?
            .execute(params![run, at.as_micros()])?;
        if changed > 0 {
            return Ok(run);
        }
    }
    transaction
        .prepare_cached("INSERT INTO runs (started, last) VALUES (?1, ?2)")?
        .execute(params![started.as_micros(), at.as_micros()])?;
    Ok(transaction.last_insert_rowid())
}

/// Writes `changes`. Attempts of before the minute `summed` go into the daily sums: their detail has
/// been read for that, or is gone. Answers how many translations are new.
pub(super) fn write(
    transaction: &Transaction<'_>,
    changes: &Changes,
    known: &mut Known,
    summed: i64,
) -> rusqlite::Result<u64> {
    let devices: Vec<i64> = changes
        .identities
        .iter()
        .map(|identity| known.row(transaction, identity, changes.at))
        .collect::<Result<_, _>>()?;
    for (key, row) in &changes.attempts {
        let device = devices[key.identity as usize];
        if key.minute < summed {
            let sum = DaySum::late(row);
            add_day(transaction, &DayKey::of(key, device), &sum)?;
        } else {
            write_attempts(transaction, key, device, row)?;
        }
        if row.tally.attempts > 0 {
            write_contact(transaction, key, device, &row.tally)?;
        }
    }
    write_minutes(transaction, changes)?;
    write_findings(transaction, changes, &devices)?;
    for unseen in &changes.unseen {
        write_unseen(transaction, unseen)?;
    }
    let mut notices =
        transaction.prepare_cached("INSERT INTO notices (at, notice) VALUES (?1, ?2)")?;
    for (at, notice) in &changes.notices {
        notices.execute(params![at.as_micros(), notice])?;
    }
    for sighting in &changes.sightings {
        let identity = &changes.identities[sighting.identity as usize];
        let device = devices[sighting.identity as usize];
        write_sighting(transaction, sighting, identity, device)?;
    }
    write_states(transaction, changes, &devices)?;
    let mut new = 0;
    for translation in &changes.translations {
        new += write_translation(transaction, translation, &devices)?;
    }
    for (source, position) in &changes.positions {
        transaction
            .prepare_cached(
                "INSERT INTO positions (source, position, changed) VALUES (?1, ?2, ?3) \
                 ON CONFLICT DO UPDATE SET position = excluded.position, changed = excluded.changed",
            )?
            .execute(params![json(source)?, position, changes.at.as_micros()])?;
    }
    Ok(new)
}

fn write_attempts(
    transaction: &Transaction<'_>,
    key: &AttemptKey,
    device: i64,
    Row { tally, ended }: &Row,
) -> rusqlite::Result<()> {
    let [answered, refused, unreachable, unanswered, held] = ended.outcomes;
    transaction
        .prepare_cached(
            "INSERT INTO attempts (minute, device, direction, port, destination, first, last, attempts, syns, answered, \
             refused, unreachable, unanswered, held, completed, sent, received) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) \
             ON CONFLICT DO UPDATE SET first = min(first, excluded.first), last = max(last, excluded.last), \
             attempts = attempts + excluded.attempts, syns = syns + excluded.syns, \
             answered = answered + excluded.answered, refused = refused + excluded.refused, \
             unreachable = unreachable + excluded.unreachable, unanswered = unanswered + excluded.unanswered, \
             held = held + excluded.held, completed = completed + excluded.completed, sent = sent + excluded.sent, \
             received = received + excluded.received",
        )?
        .execute(params![
            key.minute,
            device,
            key.direction as u8,
            key.port,
            Octets::of(key.destination).all(),
            tally.first.as_micros(),
            tally.last.as_micros(),
            integer(tally.attempts),
            integer(tally.syns),
            answered,
            refused,
            unreachable,
            unanswered,
            held,
            ended.completed,
            ended.sent,
            ended.received
        ])?;
    Ok(())
}

fn write_contact(
    transaction: &Transaction<'_>,
    key: &AttemptKey,
    device: i64,
    tally: &Tally,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO contacts (device, direction, prefix, first, last) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT DO UPDATE SET first = min(first, excluded.first), last = max(last, excluded.last)",
        )?
        .execute(params![
            device,
            key.direction as u8,
            Octets::of(key.destination).group(),
            tally.first.as_micros(),
            tally.last.as_micros()
        ])?;
    Ok(())
}

fn write_minutes(transaction: &Transaction<'_>, changes: &Changes) -> rusqlite::Result<()> {
    let mut minutes = transaction.prepare_cached(
        "INSERT INTO minutes (minute, direction, port, first, last, attempts, syns) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
         ON CONFLICT DO UPDATE SET first = min(first, excluded.first), last = max(last, excluded.last), \
         attempts = attempts + excluded.attempts, syns = syns + excluded.syns",
    )?;
    for (key, tally) in &changes.minutes {
        minutes.execute(params![
            key.minute,
            key.direction as u8,
            key.port,
            tally.first.as_micros(),
            tally.last.as_micros(),
            integer(tally.attempts),
            integer(tally.syns)
        ])?;
    }
    Ok(())
}

fn write_findings(
    transaction: &Transaction<'_>,
    changes: &Changes,
    devices: &[i64],
) -> rusqlite::Result<()> {
    let mut findings = transaction.prepare_cached(
        "INSERT INTO findings (device, detector, score, threshold, at, at_attempt, took, within, \
         new_groups, mail_lookups, pace, normal_per_day) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    for (place, finding) in &changes.findings {
        findings.execute(params![
            devices[*place as usize],
            finding.detector.to_string(),
            finding.score,
            finding.threshold,
            finding.at.as_micros(),
            integer(finding.at_attempt),
            micros(finding.took),
            micros(finding.within),
            finding.new_groups,
            finding.mail_lookups,
            finding.pace.map(|pace| pace.to_string()),
            finding.normal_per_day,
        ])?;
    }
    Ok(())
}

pub(super) fn write_unseen(transaction: &Transaction<'_>, unseen: &Unseen) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO unseen (minute, source, kind, events) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT DO UPDATE SET events = events + excluded.events",
        )?
        .execute(params![
            unseen.minute,
            unseen.source,
            unseen.kind,
            integer(unseen.events)
        ])?;
    Ok(())
}

/// Lengthens the stretch in which the device had the address, or begins one.
fn write_sighting(
    transaction: &Transaction<'_>,
    sighting: &Sighting,
    identity: &Identity,
    device: i64,
) -> rusqlite::Result<()> {
    let (interface, mac) = identity.seen_at;
    let address = Octets::of(sighting.address);
    let (first, last) = (sighting.first.as_micros(), sighting.last.as_micros());
    let interface = interface.as_ref().map(Interface::as_bytes);
    let mac = mac.map(|mac| mac.0);
    let longer = transaction
        .prepare_cached(
            "UPDATE sightings SET first = min(first, ?5), last = max(last, ?6) WHERE id = \
             (SELECT id FROM sightings WHERE address = ?2 AND device = ?1 AND last >= ?5 - ?7 AND first <= ?6 + ?7 \
             AND interface IS ?3 AND mac IS ?4 ORDER BY last DESC LIMIT 1)",
        )?
        .execute(params![
            device,
            address.all(),
            interface,
            mac,
            first,
            last,
            MAX_GAP
        ])?;
    if longer == 0 {
        transaction
            .prepare_cached(
                "INSERT INTO sightings (device, address, interface, mac, first, last) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                device,
                address.all(),
                interface,
                mac,
                first,
                last
            ])?;
    }
    Ok(())
}

fn write_states(
    transaction: &Transaction<'_>,
    changes: &Changes,
    devices: &[i64],
) -> rusqlite::Result<()> {
    let mut states = transaction.prepare_cached(
        "INSERT INTO states (device, state, changed) VALUES (?1, ?2, ?3) \
         ON CONFLICT DO UPDATE SET state = excluded.state, changed = excluded.changed",
    )?;
    for (place, state) in &changes.states {
        states.execute(params![
            devices[*place as usize],
            json(state)?,
            changes.at.as_micros()
        ])?;
    }
    Ok(())
}

/// Answers how many rows are new.
fn write_translation(
    transaction: &Transaction<'_>,
    translation: &Translation,
    devices: &[i64],
) -> rusqlite::Result<u64> {
    let Translation { tuple, outside, .. } = translation;
    let is_redirected = (outside.destination, outside.destination_port)
        != (tuple.destination, tuple.destination_port);
    let addresses = [
        outside.source,
        tuple.source,
        tuple.destination,
        outside.destination,
    ]
    .map(Octets::of);
    let longer = transaction
        .prepare_cached(
            "UPDATE translations SET last = max(last, ?8) WHERE outside = ?1 AND outside_port = ?2 AND first = ?3 \
             AND source = ?4 AND source_port = ?5 AND destination = ?6 AND destination_port = ?7",
        )?
        .execute(params![
            addresses[0].all(),
            outside.source_port,
            translation.first.as_micros(),
            addresses[1].all(),
            tuple.source_port,
            addresses[2].all(),
            tuple.destination_port,
            translation.last.as_micros()
        ])?;
    if longer > 0 {
        return Ok(0);
    }
    transaction
        .prepare_cached(
            "INSERT INTO translations (outside, outside_port, first, source, source_port, destination, \
             destination_port, device, last, outside_destination, outside_destination_port) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            addresses[0].all(),
            outside.source_port,
            translation.first.as_micros(),
            addresses[1].all(),
            tuple.source_port,
            addresses[2].all(),
            tuple.destination_port,
            translation.identity.map(|place| devices[place as usize]),
            translation.last.as_micros(),
            is_redirected.then(|| addresses[3].all()),
            is_redirected.then_some(outside.destination_port)
        ])?;
    Ok(1)
}

/// An address as the file has it: 4 octets or 16.
#[derive(Clone, Copy, Debug)]
pub(super) struct Octets {
    octets: [u8; 16],
    length: usize,
}

impl Octets {
    pub(super) fn of(address: IpAddr) -> Self {
        let mut octets = [0; 16];
        let length = match address {
            IpAddr::V4(v4) => {
                octets[..4].copy_from_slice(&v4.octets());
                4
            }
            IpAddr::V6(v6) => {
                octets = v6.octets();
                16
            }
        };
        Self { octets, length }
    }

    pub(super) fn all(&self) -> &[u8] {
        &self.octets[..self.length]
    }

    /// Those that stand for its destination group: a /24 or a /48.
    fn group(&self) -> &[u8] {
        &self.octets[..if self.length == 4 { 3 } else { 6 }]
    }
}

/// The address that the file has as `octets`.
pub(super) fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

fn json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// As large as SQLite's integers get.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
