//! The history's attempts in their order, for an engine that judges them anew. Reads detail only: rows
//! by minute, device and destination, which are kept for 30 days.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::path::Path;

use rusqlite::{Connection, params};

use super::changes::{DAY, ENDS, minute};
use super::packed::{COLUMNS, Detail, Details, oldest};
use super::retention::mark;
use super::rows::address;
use super::sums::count;
use super::tables::SUMMED;
use super::{FILE, StoreError, schema};
use crate::engine::{OutcomeCounts, PastAttempt, PastContact, PastDevice, PastRow, spread};
use crate::model::{DeviceBasis, DeviceKey, Direction, MICROS_PER_SECOND, Timestamp};

/// A group that was not used for this long is new again, so nothing older is asked for: 30 days.
const WARM_UP: i64 = 30 * 86_400 * MICROS_PER_SECOND;
/// Addresses of a device.
const MAX_ADDRESSES: usize = 16;

/// What is asked of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReliveAsked {
    /// From when on somebody is to be judged; what lies before is told as far as detectors remember.
    pub(crate) since: Timestamp,
    /// The first moment that is not told of.
    pub(crate) until: Timestamp,
}

/// What was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Relived {
    /// Rows that were read.
    pub(crate) rows: u64,
    /// Attempts that they stand for.
    pub(crate) attempts: u64,
    /// Rows that this version does not understand.
    pub(crate) unreadable: u64,
    /// When the first watch of this history began, of the day.
    pub(crate) known_since: Option<Timestamp>,
    /// The first minute that was told of, where there is any: before it there is nothing, or no detail.
    pub(crate) told_since: Option<Timestamp>,
    /// The time before which there is no detail any more.
    pub(crate) summed: Option<Timestamp>,
}

/// Something that the history tells, in the order of time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told<'a> {
    /// A device had used the group of an address by then, before there is detail.
    Contact(&'a PastDevice, &'a PastContact),
    /// A device made an attempt.
    Attempt(&'a PastDevice, &'a PastAttempt),
}

/// Reads the history in the state directory `folder`, also while it is written, and hands what it tells
/// to `each`.
pub(crate) fn relive(
    folder: &Path,
    asked: &ReliveAsked,
    each: &mut dyn FnMut(Told<'_>),
) -> Result<Relived, StoreError> {
    let connection = schema::open_to_read(folder)?;
    let failed = |source| StoreError::Unreadable {
        path: folder.join(FILE),
        step: "cannot be read",
        source,
    };
    // One state of the file for all that is asked of it.
    let transaction = connection.unchecked_transaction().map_err(failed)?;
    Reading::new(&transaction)
        .and_then(|reading| reading.read(asked, each))
        .map_err(failed)
}

struct Reading<'a> {
    connection: &'a Connection,
    devices: HashMap<i64, Option<PastDevice>>,
    relived: Relived,
    summed: i64,
}

/// The rows of a minute, and whose they are.
#[derive(Default)]
struct Minute {
    rows: Vec<PastRow>,
    devices: Vec<i64>,
}

impl<'a> Reading<'a> {
    fn new(connection: &'a Connection) -> rusqlite::Result<Self> {
        let known_since: Option<i64> =
            connection.query_row("SELECT min(started) FROM runs", [], |row| row.get(0))?;
        let summed = mark(connection, SUMMED)?;
        Ok(Self {
            connection,
            devices: HashMap::new(),
            relived: Relived {
                known_since: known_since.map(Timestamp::from_micros),
                summed: summed.map(start),
                ..Relived::default()
            },
            summed: summed.unwrap_or(i64::MIN),
        })
    }

    fn read(
        mut self,
        asked: &ReliveAsked,
        each: &mut dyn FnMut(Told<'_>),
    ) -> rusqlite::Result<Relived> {
        let Some((oldest, latest)) = self.span()? else {
            return Ok(self.relived);
        };
        let from = minute(asked.since.plus_micros(-WARM_UP)).max(oldest);
        // Of the last minute all is told: rows know no better.
        let to = minute(asked.until.plus_micros(-1))
            .saturating_add(1)
            .min(latest);
        self.tell_contacts(start(from), each)?;
        let connection = self.connection;
        let mut statement = connection.prepare(&format!(
            "SELECT {COLUMNS} FROM attempts WHERE minute >= ?1 AND minute < ?2 ORDER BY minute, device"
        ))?;
        let mut rows = statement.query(params![from, to])?;
        let mut unpacked = self.unpacked(&mut rows)?;
        for day in from.div_euclid(DAY)..to.saturating_add(DAY - 1).div_euclid(DAY) {
            let blobs = self.blobs(day)?;
            let mut packed = Packed::new(day, &blobs);
            loop {
                let next = unpacked.as_ref().map(|row| row.minute);
                let next = next.filter(|minute| *minute < (day + 1) * DAY);
                let Some(this) = packed.minute().into_iter().chain(next).min() else {
                    break;
                };
                let mut minute = Minute::default();
                packed.take(this, |device, detail| {
                    if (from..to).contains(&this) {
                        self.add(&mut minute, device, &detail);
                    }
                });
                while unpacked.as_ref().is_some_and(|row| row.minute == this) {
                    if let Some((device, row)) = unpacked.and_then(|it| it.row) {
                        minute.push(device, row);
                    }
                    unpacked = self.unpacked(&mut rows)?;
                }
                if !minute.rows.is_empty() {
                    self.relived.told_since.get_or_insert(start(this));
                }
                self.tell(&minute, each)?;
            }
            self.relived.unreadable += packed.missing();
        }
        Ok(self.relived)
    }

    /// The first and the last minute of which there is detail, the latter not included.
    fn span(&self) -> rusqlite::Result<Option<(i64, i64)>> {
        let Some(oldest) = oldest(self.connection, self.summed)? else {
            return Ok(None);
        };
        let ask = |sql| {
            let last = self.connection.query_row(sql, [], |row| row.get(0));
            last.map(|last: Option<i64>| last.unwrap_or(i64::MIN))
        };
        let minute = ask("SELECT max(minute) + 1 FROM attempts")?;
        let until = ask("SELECT max(until) FROM packed")?;
        Ok(Some((oldest, minute.max(until))))
    }

    /// The next row that is not packed.
    fn unpacked(&mut self, rows: &mut rusqlite::Rows<'_>) -> rusqlite::Result<Option<Unpacked>> {
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let (device, detail) = Detail::of(row)?;
        self.relived.rows += 1;
        let past = past_row(&detail);
        self.relived.unreadable += u64::from(past.is_none());
        Ok(Some(Unpacked {
            minute: detail.minute,
            row: past.map(|past| (device, past)),
        }))
    }

    /// What is packed of `day`: devices, how many rows, and the rows.
    fn blobs(&self, day: i64) -> rusqlite::Result<Vec<(i64, u64, Vec<u8>)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT device, rows, details FROM packed WHERE day = ?1 AND until > ?2 ORDER BY device, part",
        )?;
        let blobs = statement.query_map(params![day, self.summed], |row| {
            Ok((row.get(0)?, count(row, 1)?, row.get(2)?))
        })?;
        blobs.collect()
    }

    fn add(&mut self, minute: &mut Minute, device: i64, detail: &Detail<'_>) {
        self.relived.rows += 1;
        match past_row(detail) {
            Some(past) if detail.minute >= self.summed => minute.push(device, past),
            Some(_) => {}
            None => self.relived.unreadable += 1,
        }
    }

    /// Tells which groups devices had used before `until`, in the last 30 days: of a group that was used
    /// again later only the first use is known, and the last.
    fn tell_contacts(
        &mut self,
        until: Timestamp,
        each: &mut dyn FnMut(Told<'_>),
    ) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(
            "SELECT device, direction, prefix, first, last FROM contacts WHERE first < ?1 AND last >= ?2 \
             ORDER BY device, min(last, ?1)",
        )?;
        let known = until.plus_micros(-WARM_UP);
        let mut rows = statement.query(params![until.as_micros(), known.as_micros()])?;
        while let Some(row) = rows.next()? {
            self.relived.rows += 1;
            let (direction, group) = (direction(row.get(1)?), member(row.get_ref(2)?.as_blob()?));
            let (Some(direction), Some(destination)) = (direction, group) else {
                self.relived.unreadable += 1;
                continue;
            };
            let contact = PastContact {
                direction,
                destination,
                first: Timestamp::from_micros(row.get(3)?),
                last: Timestamp::from_micros(row.get(4)?).min(until),
            };
            if let Some(device) = self.device(row.get(0)?)? {
                each(Told::Contact(device, &contact));
            }
        }
        Ok(())
    }

    /// The device of that row, where this version understands it.
    fn device(&mut self, id: i64) -> rusqlite::Result<Option<&PastDevice>> {
        if !self.devices.contains_key(&id) {
            let device = read_device(self.connection, id)?;
            self.relived.unreadable += u64::from(device.is_none());
            self.devices.insert(id, device);
        }
        Ok(self.devices.get(&id).and_then(Option::as_ref))
    }

    fn tell(&mut self, minute: &Minute, each: &mut dyn FnMut(Told<'_>)) -> rusqlite::Result<()> {
        for &id in &minute.devices {
            self.device(id)?;
        }
        let (devices, relived) = (&self.devices, &mut self.relived);
        spread(&minute.rows, |place, attempt| {
            if let Some(Some(device)) = devices.get(&minute.devices[place]) {
                relived.attempts += 1;
                each(Told::Attempt(device, &attempt));
            }
        });
        Ok(())
    }
}

impl Minute {
    fn push(&mut self, device: i64, row: PastRow) {
        self.rows.push(row);
        self.devices.push(device);
    }
}

/// A row that is not packed, and its device; none where this version does not understand it.
struct Unpacked {
    minute: i64,
    row: Option<(i64, PastRow)>,
}

/// The packed rows of a day, minute after minute.
struct Packed<'a> {
    parts: Vec<Part<'a>>,
    /// The next minute of each part that has one.
    next: BinaryHeap<Reverse<(i64, usize)>>,
}

/// A blob that is being read.
struct Part<'a> {
    device: i64,
    rows: u64,
    details: Details<'a>,
    next: Option<Detail<'a>>,
}

impl<'a> Packed<'a> {
    fn new(day: i64, blobs: &'a [(i64, u64, Vec<u8>)]) -> Self {
        let part = |(device, rows, blob): &'a (i64, u64, Vec<u8>)| {
            let mut details = Details::new(day, blob);
            let next = details.next();
            Part {
                device: *device,
                rows: *rows,
                details,
                next,
            }
        };
        let parts: Vec<Part<'a>> = blobs.iter().map(part).collect();
        let minutes = parts.iter().enumerate();
        let next = minutes.filter_map(|(place, part)| Some(Reverse((part.next?.minute, place))));
        Self {
            next: next.collect(),
            parts,
        }
    }

    fn minute(&self) -> Option<i64> {
        self.next.peek().map(|Reverse((minute, _))| *minute)
    }

    /// Hands the rows of `minute`, the next one, to `each`.
    fn take(&mut self, minute: i64, mut each: impl FnMut(i64, Detail<'a>)) {
        while let Some(&Reverse((next, place))) = self.next.peek()
            && next == minute
        {
            self.next.pop();
            let part = &mut self.parts[place];
            while let Some(detail) = part.next.filter(|detail| detail.minute <= minute) {
                each(part.device, detail);
                part.next = part.details.next();
            }
            if let Some(detail) = part.next {
                self.next.push(Reverse((detail.minute, place)));
            }
        }
    }

    /// Rows that could not be read; to be asked at the end.
    fn missing(&self) -> u64 {
        let parts = self.parts.iter();
        parts.map(|part| part.details.missing(part.rows)).sum()
    }
}

/// None where this version does not understand it.
fn past_row(detail: &Detail<'_>) -> Option<PastRow> {
    let Detail { tally, ended, .. } = detail;
    let mut outcomes = OutcomeCounts::default();
    for (outcome, count) in ENDS.into_iter().zip(ended.outcomes) {
        outcomes.add(outcome, positive(count));
    }
    Some(PastRow {
        direction: direction(detail.direction)?,
        destination: address(detail.destination)?,
        port: detail.port,
        first: tally.first,
        last: tally.last,
        attempts: tally.attempts,
        syns: tally.syns,
        outcomes,
        completed: positive(ended.completed),
    })
}

fn read_device(connection: &Connection, id: i64) -> rusqlite::Result<Option<PastDevice>> {
    let mut statement = connection.prepare_cached(
        "SELECT key, mac, hostname, basis, addresses, is_shared FROM devices WHERE id = ?1",
    )?;
    let mut rows = statement.query([id])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let Ok(key) = row.get_ref(0)?.as_str()?.parse::<DeviceKey>() else {
        return Ok(None);
    };
    let mac: Option<String> = row.get(1)?;
    let addresses = row.get_ref(4)?.as_str()?.split(' ');
    Ok(Some(PastDevice {
        key,
        basis: basis(row.get_ref(3)?.as_str()?),
        mac: mac.and_then(|mac| mac.parse().ok()),
        hostname: row.get(2)?,
        addresses: addresses
            .filter_map(|address| address.parse().ok())
            .take(MAX_ADDRESSES)
            .collect(),
        is_shared: row.get(5)?,
    }))
}

/// The grounds that are written as `text`; the address alone where it is none of them.
fn basis(text: &str) -> DeviceBasis {
    if let Some(Ok(mac)) = text.strip_prefix(DeviceBasis::BEHIND).map(str::parse) {
        return DeviceBasis::Router(mac);
    }
    [
        DeviceBasis::LeaseNotValidThen,
        DeviceBasis::Interface,
        DeviceBasis::Frame,
        DeviceBasis::Lease,
        DeviceBasis::Neighbour,
        DeviceBasis::NeighbourAndLease,
    ]
    .into_iter()
    .find(|basis| basis.to_string() == text)
    .unwrap_or(DeviceBasis::Address)
}

fn direction(number: i64) -> Option<Direction> {
    let index = usize::try_from(number).ok()?;
    Direction::ALL.get(index).copied()
}

/// An address in the group that the file has as `octets`: a /24 or a /48.
fn member(octets: &[u8]) -> Option<IpAddr> {
    let mut whole = [0; 16];
    whole.get_mut(..octets.len())?.copy_from_slice(octets);
    match octets.len() {
        3 => address(&whole[..4]),
        6 => address(&whole),
        _ => None,
    }
}

/// A count that may have been taken from more often than added to, where its attempt was lost.
fn positive(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// When a minute begins.
fn start(minute: i64) -> Timestamp {
    Timestamp::from_micros(minute.saturating_mul(60 * MICROS_PER_SECOND))
}
