//! Which devices were behind an address as it is seen outside, and the record of who asked that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::retention::mark;
use super::rows::{Octets, address, micros};
use super::tables::DROPPED;
use super::{FILE, StoreError, schema};
use crate::model::Timestamp;

/// Ports, destinations and addresses named of a candidate.
const SHOWN: usize = 32;
/// Candidates.
const MAX_CANDIDATES: usize = 4096;

/// A question: who had this address outside, and when?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WhoAsked {
    /// The address after translation.
    pub(crate) public_ip: IpAddr,
    /// When, of the day.
    pub(crate) at: Timestamp,
    /// How far off that may be, either way.
    pub(crate) within: Duration,
    /// The originator's port after translation.
    pub(crate) port: Option<u16>,
    /// The responder, before or after translation.
    pub(crate) to: Option<IpAddr>,
}

/// What the history knows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WhoAnswer {
    /// Those that had a connection then: the nearest to the time first, then those with most.
    pub(crate) candidates: Vec<Candidate>,
    /// Connections that are meant.
    pub(crate) connections: u64,
    /// From when to when connections outside are known at all; none where none is.
    pub(crate) known: Option<(Timestamp, Timestamp)>,
    /// Connections outside that were dropped before their time, because there were too many.
    pub(crate) dropped: u64,
    /// Connections of candidates for whom there was no room.
    pub(crate) omitted: u64,
}

/// A device that may be meant. Names are hostile text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The device's id in reports; none where no device is known for the address inside.
    pub(crate) device: Option<String>,
    /// Its MAC.
    pub(crate) mac: Option<String>,
    /// Its name.
    pub(crate) hostname: Option<String>,
    /// Its addresses inside, at most 32.
    pub(crate) inside: BTreeSet<IpAddr>,
    /// Ports outside, at most 32.
    pub(crate) ports: BTreeSet<u16>,
    /// Whom it contacted, at most 32.
    pub(crate) destinations: BTreeSet<IpAddr>,
    /// The first of its connections that are meant.
    pub(crate) first: Timestamp,
    /// When one of them was last heard of.
    pub(crate) last: Timestamp,
    /// Its connections that are meant.
    pub(crate) connections: u64,
    /// How far the nearest of them was from the time, in microseconds; 0 where it lasted then.
    pub(crate) off_by: i64,
}

/// Answers `asked` from the history in `folder`, also while it is written.
pub(crate) fn who(folder: &Path, asked: &WhoAsked) -> Result<WhoAnswer, StoreError> {
    let connection = schema::open_to_read(folder)?;
    read(&connection, asked).map_err(|source| StoreError::Unreadable {
        path: folder.join(FILE),
        step: "cannot be read",
        source,
    })
}

/// Notes at `now`, the time of day, that `who` did `verb` with these `details`, in the history in
/// `folder`.
pub(crate) fn audit(
    folder: &Path,
    now: Timestamp,
    who: &str,
    verb: &str,
    details: &str,
) -> Result<(), StoreError> {
    let connection = schema::open_to_change(folder)?;
    note_audit(&connection, now, who, verb, details).map_err(|source| StoreError::Unreadable {
        path: folder.join(FILE),
        step: "who asked cannot be noted",
        source,
    })
}

pub(super) fn note_audit(
    connection: &Connection,
    now: Timestamp,
    who: &str,
    verb: &str,
    details: &str,
) -> rusqlite::Result<()> {
    connection
        .execute(
            "INSERT INTO audit (at, who, verb, details) VALUES (?1, ?2, ?3, ?4)",
            params![now.as_micros(), who, verb, details],
        )
        .map(drop)
}

fn read(connection: &Connection, asked: &WhoAsked) -> rusqlite::Result<WhoAnswer> {
    // One state of the file for all that is asked of it.
    let transaction = connection.unchecked_transaction()?;
    let mut answer = WhoAnswer {
        known: span(&transaction)?,
        dropped: mark(&transaction, DROPPED)?
            .and_then(|dropped| u64::try_from(dropped).ok())
            .unwrap_or(0),
        ..WhoAnswer::default()
    };
    let candidates = candidates(&transaction, asked, &mut answer)?;
    let mut device = transaction.prepare("SELECT key, mac, hostname FROM devices WHERE id = ?1")?;
    for ((id, _), mut candidate) in candidates {
        if let Some(id) = id {
            let known = device
                .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()?;
            if let Some((key, mac, hostname)) = known {
                candidate.device = Some(key);
                candidate.mac = mac;
                candidate.hostname = hostname;
            }
        }
        answer.candidates.push(candidate);
    }
    answer
        .candidates
        .sort_by_key(|it| (it.off_by, std::cmp::Reverse(it.connections), it.first));
    Ok(answer)
}

/// By device, and by address where no device is known.
type Candidates = BTreeMap<(Option<i64>, Option<IpAddr>), Candidate>;

fn candidates(
    connection: &Connection,
    asked: &WhoAsked,
    answer: &mut WhoAnswer,
) -> rusqlite::Result<Candidates> {
    let within = micros(asked.within);
    let at = asked.at.as_micros();
    let mut sql = "SELECT device, source, outside_port, destination, outside_destination, first, last FROM translations "
        .to_owned();
    // By its port it is few rows of the table itself, by the time some of its index.
    sql += match asked.port {
        Some(_) => "WHERE outside = ?1 AND outside_port = ?4 AND first <= ?3 AND last >= ?2",
        None => "INDEXED BY translations_by_time WHERE last >= ?2 AND first <= ?3 AND outside = ?1",
    };
    let mut values = vec![
        Value::Blob(Octets::of(asked.public_ip).all().to_vec()),
        Value::Integer(at.saturating_sub(within)),
        Value::Integer(at.saturating_add(within)),
    ];
    values.extend(asked.port.map(|port| Value::Integer(port.into())));
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut candidates = Candidates::new();
    while let Some(row) = rows.next()? {
        let Some(found) = Found::of(row)? else {
            continue;
        };
        if asked
            .to
            .is_some_and(|to| found.destination != to && found.outside_destination != Some(to))
        {
            continue;
        }
        answer.connections += 1;
        let key = (found.device, found.device.is_none().then_some(found.source));
        if !candidates.contains_key(&key) && candidates.len() >= MAX_CANDIDATES {
            answer.omitted += 1;
            continue;
        }
        let off_by = found.off_by(asked.at);
        candidates
            .entry(key)
            .or_insert_with(|| Candidate::new(&found, off_by))
            .note(&found, off_by);
    }
    Ok(candidates)
}

/// From when to when connections are known.
fn span(connection: &Connection) -> rusqlite::Result<Option<(Timestamp, Timestamp)>> {
    connection.query_row(
        "SELECT (SELECT min(last) FROM translations), (SELECT max(last) FROM translations)",
        [],
        |row| {
            let (first, last) = (row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?);
            let time = Timestamp::from_micros;
            Ok(first
                .zip(last)
                .map(|(first, last)| (time(first), time(last))))
        },
    )
}

/// A connection.
struct Found {
    device: Option<i64>,
    source: IpAddr,
    port: u16,
    destination: IpAddr,
    outside_destination: Option<IpAddr>,
    first: Timestamp,
    last: Timestamp,
}

impl Found {
    fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Self>> {
        let octets = |column| {
            let octets: Option<&[u8]> = row.get_ref(column)?.as_blob_or_null()?;
            Ok::<_, rusqlite::Error>(octets.and_then(address))
        };
        let (Some(source), Some(destination)) = (octets(1)?, octets(3)?) else {
            return Ok(None);
        };
        Ok(Some(Self {
            device: row.get(0)?,
            source,
            port: row.get(2)?,
            destination,
            outside_destination: octets(4)?,
            first: Timestamp::from_micros(row.get(5)?),
            last: Timestamp::from_micros(row.get(6)?),
        }))
    }

    fn off_by(&self, at: Timestamp) -> i64 {
        let (before, after) = (self.first.micros_since(at), at.micros_since(self.last));
        before.max(after).max(0)
    }
}

impl Candidate {
    fn new(found: &Found, off_by: i64) -> Self {
        Self {
            device: None,
            mac: None,
            hostname: None,
            inside: BTreeSet::new(),
            ports: BTreeSet::new(),
            destinations: BTreeSet::new(),
            first: found.first,
            last: found.last,
            connections: 0,
            off_by,
        }
    }

    fn note(&mut self, found: &Found, off_by: i64) {
        insert(&mut self.inside, found.source);
        insert(&mut self.ports, found.port);
        insert(&mut self.destinations, found.destination);
        self.first = self.first.min(found.first);
        self.last = self.last.max(found.last);
        self.connections += 1;
        self.off_by = self.off_by.min(off_by);
    }
}

fn insert<T: Ord>(set: &mut BTreeSet<T>, value: T) {
    if set.len() < SHOWN {
        set.insert(value);
    }
}
