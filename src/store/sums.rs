//! Sums by day, and by 32 days: what they are made of, how they are added to and deleted. Every row of
//! `days` is in `blocks`, too, until the first day of its block is deleted.

use std::collections::HashMap;

use foldhash::quality::FixedState;
use rusqlite::{Connection, Row, Transaction, params, params_from_iter};

use super::changes::{self, AttemptKey, DAY, Ended, HISTORY, Tally, Unseen};
use super::packed::{Detail, Details, Minutes};
use super::retention::{mark, set_mark};
use super::rows::{address, integer, write_unseen};
use super::tables::BLOCKS;
use crate::engine::Destinations;

/// Rows read in a step, and those of one blob more.
const STEP: usize = 4000;
/// Destinations told apart while a device's day is summed up.
const MAX_DESTINATIONS: usize = 1 << 20;
/// Days of a block.
pub(super) const BLOCK: i64 = 32;

/// Adds to the sums of a device, in a table that may have one column more.
macro_rules! add_to {
    ($table:literal, $column:literal, $value:literal, $added:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            " (day, device, direction, port, first, last, attempts, syns, peak, destinations, groups, answered, \
             refused, unreachable, unanswered, held, completed, sent, received",
            $column,
            ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19",
            $value,
            ") ON CONFLICT DO UPDATE SET first = min(first, excluded.first), last = max(last, excluded.last), \
             attempts = attempts + excluded.attempts, syns = syns + excluded.syns, peak = max(peak, excluded.peak), \
             destinations = max(destinations, excluded.destinations), groups = max(groups, excluded.groups), \
             answered = answered + excluded.answered, refused = refused + excluded.refused, \
             unreachable = unreachable + excluded.unreachable, unanswered = unanswered + excluded.unanswered, \
             held = held + excluded.held, completed = completed + excluded.completed, sent = sent + excluded.sent, \
             received = received + excluded.received",
            $added
        )
    };
}
const ADD_DAY: &str = add_to!("days", "", "", "");
const ADD_BLOCK: &str = add_to!("blocks", ", rows", ", ?20", ", rows = rows + excluded.rows");

/// What a row of daily sums is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct DayKey {
    pub(super) day: i64,
    pub(super) device: i64,
    pub(super) direction: i64,
    pub(super) port: u16,
}

impl DayKey {
    pub(super) fn of(key: &AttemptKey, device: i64) -> Self {
        Self {
            day: key.minute.div_euclid(DAY),
            device,
            direction: i64::from(key.direction as u8),
            port: key.port,
        }
    }
}

/// What is added to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct DaySum {
    pub(super) tally: Tally,
    pub(super) ended: Ended,
    pub(super) peak: u64,
    pub(super) destinations: usize,
    pub(super) groups: usize,
}

impl DaySum {
    /// Of what came when the day had been summed up.
    pub(super) fn late(row: &changes::Row) -> Self {
        let any = usize::from(row.tally.attempts > 0);
        Self {
            tally: row.tally,
            ended: row.ended,
            peak: row.tally.attempts,
            destinations: any,
            groups: any,
        }
    }
}

/// The first day of the block in which `day` lies.
fn block(day: i64) -> i64 {
    day.div_euclid(BLOCK) * BLOCK
}

/// Adds `sum` to the sums of a device's day. Destinations of several parts of a day are those of the
/// part that has most: which ones they were is not known.
pub(super) fn add_day(
    transaction: &Transaction<'_>,
    key: &DayKey,
    sum: &DaySum,
) -> rusqlite::Result<()> {
    let DaySum { tally, ended, .. } = sum;
    let [answered, refused, unreachable, unanswered, held] = ended.outcomes;
    let is_new: bool = transaction
        .prepare_cached(
            "SELECT NOT EXISTS (SELECT 1 FROM days WHERE day = ?1 AND device = ?2 AND direction = ?3 AND port = ?4)",
        )?
        .query_row(params![key.day, key.device, key.direction, key.port], |row| {
            row.get(0)
        })?;
    let mut numbers = [
        key.day,
        key.device,
        key.direction,
        i64::from(key.port),
        tally.first.as_micros(),
        tally.last.as_micros(),
        integer(tally.attempts),
        integer(tally.syns),
        integer(sum.peak),
        integer(sum.destinations as u64),
        integer(sum.groups as u64),
        answered,
        refused,
        unreachable,
        unanswered,
        held,
        ended.completed,
        ended.sent,
        ended.received,
        i64::from(is_new),
    ];
    transaction
        .prepare_cached(ADD_DAY)?
        .execute(params_from_iter(&numbers[..numbers.len() - 1]))?;
    numbers[0] = block(key.day);
    transaction
        .prepare_cached(ADD_BLOCK)?
        .execute(params_from_iter(&numbers))?;
    Ok(())
}

/// First and last day, the latter not included, of the blocks that stand for all of their days within
/// those days; as long as nothing, where there are none.
pub(super) fn whole_blocks(
    connection: &Connection,
    (from, to): (i64, i64),
) -> rusqlite::Result<(i64, i64)> {
    let from = from.max(mark(connection, BLOCKS)?.unwrap_or(i64::MIN));
    let first = block(from.saturating_add(BLOCK - 1));
    let end = block(to);
    Ok((first, end.max(first)))
}

/// Deletes the oldest day of sums before the minute `before`; answers whether there is none.
pub(super) fn delete_day(transaction: &Transaction<'_>, before: i64) -> rusqlite::Result<bool> {
    let before = before.div_euclid(DAY);
    let oldest: Option<i64> = transaction
        .prepare_cached("SELECT min(day) FROM days WHERE day < ?1")?
        .query_row([before], |row| row.get(0))?;
    if let Some(day) = oldest {
        for sql in [
            "DELETE FROM days WHERE day <= ?1",
            "DELETE FROM blocks WHERE day <= ?1",
        ] {
            transaction.prepare_cached(sql)?.execute([day])?;
        }
        let whole = mark(transaction, BLOCKS)?.unwrap_or(i64::MIN);
        set_mark(transaction, BLOCKS, whole.max(block(day) + BLOCK))?;
    }
    let mut deleted = 0;
    for sql in [
        "DELETE FROM day_totals WHERE day = (SELECT min(day) FROM day_totals WHERE day < ?1)",
        "DELETE FROM unseen WHERE minute = (SELECT min(minute) FROM unseen WHERE minute < ?1 * 1440)",
    ] {
        deleted += transaction.prepare_cached(sql)?.execute([before])?;
    }
    Ok(oldest.is_none() && deleted == 0)
}

/// A day, or the rest of one, that is being summed up, of which all detail is packed.
#[derive(Debug)]
pub(super) struct Summing {
    day: i64,
    /// First and last minute, the latter not included.
    minutes: (i64, i64),
    hasher: FixedState,
    /// Device and part up to which it has been read.
    cursor: (i64, i64),
    /// What was read of that device, by direction and port.
    parts: HashMap<(i64, u16), Part>,
    /// Destinations told apart of it.
    destinations: usize,
    sums: Vec<(DayKey, DaySum)>,
    /// Rows that could not be read, of blobs that go when this is written.
    missing: u64,
    /// The state of the file as somebody else left it when reading began.
    version: i64,
}

/// What was read of a device.
#[derive(Debug)]
struct Part {
    tally: Tally,
    ended: Ended,
    minutes: Minutes,
    destinations: Destinations,
}

impl Summing {
    /// Of the minutes of `day` from the first of `minutes` up to the second.
    pub(super) fn new(
        connection: &Connection,
        day: i64,
        minutes: (i64, i64),
        hasher: &FixedState,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            day,
            minutes,
            hasher: hasher.clone(),
            cursor: (i64::MIN, 0),
            parts: HashMap::new(),
            destinations: 0,
            sums: Vec::new(),
            missing: 0,
            version: data_version(connection)?,
        })
    }

    /// The minute before which all is summed up when it has been written.
    pub(super) fn until(&self) -> i64 {
        self.minutes.1
    }

    /// Reads on; answers whether that was all.
    pub(super) fn read(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        let mut statement = connection.prepare_cached(
            "SELECT device, part, until, rows, details FROM packed \
             WHERE day = ?1 AND (device, part) > (?2, ?3) AND until > ?4 ORDER BY device, part",
        )?;
        let (device, part) = self.cursor;
        let mut rows = statement.query(params![self.day, device, part, self.minutes.0])?;
        let mut read = 0;
        while read < STEP {
            let Some(row) = rows.next()? else {
                self.end_device();
                return Ok(true);
            };
            let cursor = (row.get(0)?, row.get(1)?);
            if cursor.0 != self.cursor.0 {
                self.end_device();
            }
            self.cursor = cursor;
            let mut details = Details::new(self.day, row.get_ref(4)?.as_blob()?);
            for detail in details.by_ref() {
                read += 1;
                if (self.minutes.0..self.minutes.1).contains(&detail.minute) {
                    self.add(&detail);
                }
            }
            if row.get::<_, i64>(2)? <= self.minutes.1 {
                self.missing += details.missing(count(row, 3)?);
            }
        }
        Ok(false)
    }

    fn add(&mut self, detail: &Detail<'_>) {
        let Tally {
            first,
            last,
            attempts,
            syns,
        } = detail.tally;
        let key = (detail.direction, detail.port);
        let part = self.parts.entry(key).or_insert_with(|| Part {
            tally: Tally::new(first),
            ended: Ended::default(),
            minutes: Minutes::default(),
            destinations: Destinations::new(self.hasher.clone()),
        });
        part.tally.add(first, attempts, syns);
        part.tally.add(last, 0, 0);
        part.ended.add(&detail.ended);
        part.minutes.add(detail.minute, attempts);
        let has_room = self.destinations < MAX_DESTINATIONS;
        if attempts > 0
            && let Some(destination) = address(detail.destination)
            && part.destinations.note(destination, 1, has_room)
        {
            self.destinations += usize::from(has_room);
        }
    }

    fn end_device(&mut self) {
        let (day, device) = (self.day, self.cursor.0);
        for ((direction, port), mut part) in self.parts.drain() {
            let key = DayKey {
                day,
                device,
                direction,
                port,
            };
            let sum = DaySum {
                tally: part.tally,
                ended: part.ended,
                peak: part.minutes.take_peak(),
                destinations: part.destinations.len(),
                groups: part.destinations.groups(),
            };
            self.sums.push((key, sum));
        }
        self.destinations = 0;
    }

    /// Adds what was read to the sums. Answers false, and adds nothing, where somebody else has changed
    /// the file meanwhile: a device may have been forgotten, and its row be another's.
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<bool> {
        if data_version(transaction)? != self.version {
            return Ok(false);
        }
        for (key, sum) in &self.sums {
            add_day(transaction, key, sum)?;
        }
        if self.missing > 0 {
            let unseen = Unseen {
                minute: self.day * DAY,
                source: HISTORY.to_owned(),
                kind: "damaged rows".to_owned(),
                events: self.missing,
            };
            write_unseen(transaction, &unseen)?;
        }
        Ok(true)
    }
}

/// Another number after each change to the file that another connection made.
pub(super) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA data_version", [], |row| row.get(0))
}

/// The outcomes in a row's columns from `first` on.
pub(super) fn ended(row: &Row<'_>, first: usize) -> rusqlite::Result<Ended> {
    let mut ended = Ended::default();
    for (place, count) in ended.outcomes.iter_mut().enumerate() {
        *count = row.get(first + place)?;
    }
    let rest = first + ended.outcomes.len();
    ended.completed = row.get(rest)?;
    ended.sent = row.get(rest + 1)?;
    ended.received = row.get(rest + 2)?;
    Ok(ended)
}

/// A count; SQLite's integers have a sign.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}
