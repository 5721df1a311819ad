//! Detail of days that are over: the rows of a device's day in a few blobs, which take a third of the
//! room and are read ten times as fast. Nothing is lost by it: each row is there as it was.
//!
//! What comes late for such a day is a row of `attempts` again until it is packed, too, beside what was
//! packed before: rows of one minute and server may so be in several places, and add up.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, Transaction, TransactionBehavior, params};

use super::changes::{DAY, Ended, Tally};
use super::sums::{count, ended};
use crate::model::{MICROS_PER_SECOND, Timestamp};

/// Rows that are packed in a step.
const STEP: u32 = 8_192;
/// Rows of a blob: it is read, and deleted, at once.
const MAX_ROWS: u32 = 4096;
/// Blobs that are deleted in a step.
const BLOBS: u32 = 128;

/// The columns of `attempts` in the order of [`Detail::of`]. Those of its key come first.
pub(super) const COLUMNS: &str = "minute, device, direction, port, destination, first, last, attempts, syns, answered, \
     refused, unreachable, unanswered, held, completed, sent, received";

/// A row of `attempts`; its device is told beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Detail<'a> {
    pub(super) minute: i64,
    pub(super) direction: i64,
    pub(super) port: u16,
    /// As the file has it.
    pub(super) destination: &'a [u8],
    pub(super) tally: Tally,
    pub(super) ended: Ended,
}

impl<'a> Detail<'a> {
    /// The device of a row of [`COLUMNS`], and the rest.
    pub(super) fn of(row: &'a Row<'_>) -> rusqlite::Result<(i64, Self)> {
        let detail = Self {
            minute: row.get(0)?,
            direction: row.get(2)?,
            port: row.get(3)?,
            destination: row.get_ref(4)?.as_blob()?,
            tally: Tally {
                first: Timestamp::from_micros(row.get(5)?),
                last: Timestamp::from_micros(row.get(6)?),
                attempts: count(row, 7)?,
                syns: count(row, 8)?,
            },
            ended: ended(row, 9)?,
        };
        Ok((row.get(1)?, detail))
    }
}

/// Rows of one device and day as a blob. Each is, in whole numbers of 7 bits an octet: minutes since the
/// row before (the first: since the day began), direction, port, length and octets of the destination,
/// microseconds of its minute at which it began, microseconds it took, attempts, SYNs, a bit for each
/// number of [`Ended`] that is not 0, and these. Where a number may be negative its sign is in its last bit.
#[derive(Debug)]
struct Blob {
    octets: Vec<u8>,
    rows: u32,
    /// The minute of its last row.
    minute: i64,
}

impl Blob {
    fn new(day: i64) -> Self {
        Self {
            octets: Vec::new(),
            rows: 0,
            minute: day * DAY,
        }
    }

    /// Adds a row, which is of no earlier minute than the one before.
    fn push(&mut self, detail: &Detail<'_>) {
        let Detail { tally, .. } = detail;
        let began = tally.first.as_micros().wrapping_sub(start(detail.minute));
        let took = tally.last.as_micros().wrapping_sub(tally.first.as_micros());
        self.put(detail.minute.abs_diff(self.minute));
        self.put(folded(detail.direction));
        self.put(u64::from(detail.port));
        self.put(detail.destination.len() as u64);
        self.octets.extend_from_slice(detail.destination);
        self.put(folded(began));
        self.put(folded(took));
        self.put(tally.attempts);
        self.put(tally.syns);
        let numbers = numbers(&detail.ended);
        let bits = numbers
            .iter()
            .rev()
            .fold(0, |bits, number| bits << 1 | u8::from(*number != 0));
        self.octets.push(bits);
        for number in numbers.into_iter().filter(|number| *number != 0) {
            self.put(folded(number));
        }
        self.rows += 1;
        self.minute = detail.minute;
    }

    fn put(&mut self, mut number: u64) {
        while number > 0x7f {
            self.octets.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.octets.push(number.to_le_bytes()[0]);
    }
}

/// The rows of a blob, until its end or where it is damaged.
#[derive(Clone, Debug)]
pub(super) struct Details<'a> {
    rest: &'a [u8],
    minute: i64,
    /// Rows read.
    count: u64,
}

impl<'a> Details<'a> {
    /// Those of a blob of `day`.
    pub(super) fn new(day: i64, blob: &'a [u8]) -> Self {
        Self {
            rest: blob,
            minute: day * DAY,
            count: 0,
        }
    }

    /// How many of the blob's `rows` could not be read; to be asked at the end.
    pub(super) fn missing(&self, rows: u64) -> u64 {
        let missing = rows.saturating_sub(self.count);
        missing.max(u64::from(!self.rest.is_empty()))
    }

    fn read(&self) -> Option<(Detail<'a>, &'a [u8])> {
        let mut rest = self.rest;
        let octets = &mut rest;
        let minute = self.minute.checked_add_unsigned(take(octets)?)?;
        let direction = unfolded(take(octets)?);
        let port = u16::try_from(take(octets)?).ok()?;
        let length = usize::try_from(take(octets)?).ok()?;
        let (destination, after) = octets.split_at_checked(length)?;
        *octets = after;
        let first = start(minute).wrapping_add(unfolded(take(octets)?));
        let last = first.wrapping_add(unfolded(take(octets)?));
        let tally = Tally {
            first: Timestamp::from_micros(first),
            last: Timestamp::from_micros(last),
            attempts: take(octets)?,
            syns: take(octets)?,
        };
        let (bits, after) = octets.split_first()?;
        *octets = after;
        let mut numbers = [0; 8];
        for (place, number) in numbers.iter_mut().enumerate() {
            if bits >> place & 1 == 1 {
                *number = unfolded(take(octets)?);
            }
        }
        let [a, b, c, d, e, completed, sent, received] = numbers;
        let ended = Ended {
            outcomes: [a, b, c, d, e],
            completed,
            sent,
            received,
        };
        let detail = Detail {
            minute,
            direction,
            port,
            destination,
            tally,
            ended,
        };
        Some((detail, rest))
    }
}

impl<'a> Iterator for Details<'a> {
    type Item = Detail<'a>;

    fn next(&mut self) -> Option<Detail<'a>> {
        let (detail, rest) = self.read()?;
        self.rest = rest;
        self.minute = detail.minute;
        self.count += 1;
        Some(detail)
    }
}

fn numbers(ended: &Ended) -> [i64; 8] {
    let [a, b, c, d, e] = ended.outcomes;
    [a, b, c, d, e, ended.completed, ended.sent, ended.received]
}

/// When a minute begins, in microseconds.
fn start(minute: i64) -> i64 {
    minute.wrapping_mul(60 * MICROS_PER_SECOND)
}

/// The sign goes last, so that what is near 0 is short.
fn folded(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

fn unfolded(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

fn take(octets: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let (&octet, rest) = octets.split_first()?;
        *octets = rest;
        number |= u64::from(octet & 0x7f) << (7 * place);
        if octet < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Attempts by minute, of which the most in a minute is asked.
#[derive(Debug, Default)]
pub(super) struct Minutes {
    counts: Vec<(i64, u64)>,
}

impl Minutes {
    pub(super) fn add(&mut self, minute: i64, attempts: u64) {
        match self.counts.last_mut() {
            Some((last, count)) if *last == minute => *count += attempts,
            _ => self.counts.push((minute, attempts)),
        }
    }

    /// Adds what `other` has of that day, which must have come in its order.
    pub(super) fn add_day(&mut self, other: &Self, day: i64) {
        let until = |minute| other.counts.partition_point(|(it, _)| *it < minute);
        let counts = &other.counts[until(day * DAY)..until((day + 1) * DAY)];
        self.counts.extend_from_slice(counts);
    }

    /// The most attempts in a minute; begins anew.
    pub(super) fn take_peak(&mut self) -> u64 {
        if !self.counts.is_sorted_by_key(|(minute, _)| *minute) {
            self.counts.sort_unstable_by_key(|(minute, _)| *minute);
        }
        let of_a_minute = self.counts.chunk_by(|a, b| a.0 == b.0);
        let peak = of_a_minute.map(|counts| counts.iter().map(|(_, count)| count).sum());
        let peak = peak.max().unwrap_or(0);
        self.counts.clear();
        peak
    }
}

/// The first minute in which there may be detail from the minute `summed` on, before which it counts by day.
pub(super) fn oldest(connection: &Connection, summed: i64) -> rusqlite::Result<Option<i64>> {
    let mut days = connection
        .prepare_cached("SELECT day FROM packed WHERE until > ?1 ORDER BY day LIMIT 1")?;
    let mut days = days.query_map([summed], |row| row.get::<_, i64>(0))?;
    let packed = days.next().transpose()?;
    let packed = packed.map(|day| (day * DAY).max(summed));
    Ok(match (packed, oldest_row(connection)?) {
        (Some(packed), Some(row)) => Some(packed.min(row)),
        (packed, row) => packed.or(row),
    })
}

fn oldest_row(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT min(minute) FROM attempts")?
        .query_row([], |row| row.get(0))
}

/// Packs the oldest rows before the minute `until`, of one day at the most; answers whether there were none.
pub(super) fn pack(connection: &mut Connection, until: i64) -> rusqlite::Result<bool> {
    let Some(oldest) = oldest_row(connection)?.filter(|oldest| *oldest < until) else {
        return Ok(true);
    };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let day = oldest.div_euclid(DAY);
    for (device, blobs) in take_rows(&transaction, day, until)? {
        for blob in blobs {
            write(&transaction, day, device, &blob)?;
        }
    }
    transaction.commit()?;
    Ok(false)
}

/// Deletes the first rows, of `day` and before the minute `until`; answers them by device.
fn take_rows(
    transaction: &Transaction<'_>,
    day: i64,
    until: i64,
) -> rusqlite::Result<BTreeMap<i64, Vec<Blob>>> {
    let mut statement = transaction.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM attempts WHERE minute < ?1 ORDER BY minute, device, direction, port, destination LIMIT ?2"
    ))?;
    let mut rows = statement.query(params![until.min((day + 1) * DAY), STEP])?;
    let mut devices: BTreeMap<i64, Vec<Blob>> = BTreeMap::new();
    let mut last = (0, 0, 0, 0);
    let mut destination = Vec::new();
    while let Some(row) = rows.next()? {
        let (device, detail) = Detail::of(row)?;
        let blobs = devices.entry(device).or_default();
        match blobs.last_mut().filter(|blob| blob.rows < MAX_ROWS) {
            Some(blob) => blob.push(&detail),
            None => {
                let mut blob = Blob::new(day);
                blob.push(&detail);
                blobs.push(blob);
            }
        }
        last = (detail.minute, device, detail.direction, detail.port);
        destination.clear();
        destination.extend_from_slice(detail.destination);
    }
    let (minute, device, direction, port) = last;
    transaction
        .prepare_cached(
            "DELETE FROM attempts WHERE (minute, device, direction, port, destination) <= (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![minute, device, direction, port, destination])?;
    Ok(devices)
}

fn write(
    transaction: &Transaction<'_>,
    day: i64,
    device: i64,
    blob: &Blob,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO packed (day, device, part, until, rows, details) VALUES (?1, ?2, \
             (SELECT coalesce(max(part) + 1, 0) FROM packed WHERE day = ?1 AND device = ?2), ?3, ?4, ?5)",
        )?
        .execute(params![
            day,
            device,
            blob.minute + 1,
            blob.rows,
            blob.octets
        ])?;
    Ok(())
}

/// Deletes blobs of before the minute `summed`; answers whether that was all.
pub(super) fn delete(connection: &Connection, summed: i64) -> rusqlite::Result<bool> {
    let deleted = connection
        .prepare_cached(
            "DELETE FROM packed WHERE (day, device, part) IN \
             (SELECT day, device, part FROM packed WHERE day <= ?1 AND until <= ?2 LIMIT ?3)",
        )?
        .execute(params![summed.div_euclid(DAY), summed, BLOBS])?;
    Ok(deleted < BLOBS as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(minute: i64, destination: &[u8], numbers: [i64; 8], first: i64) -> Detail<'_> {
        let [a, b, c, d, e, completed, sent, received] = numbers;
        Detail {
            minute,
            direction: minute & 1,
            port: 25,
            destination,
            tally: Tally {
                first: Timestamp::from_micros(first),
                last: Timestamp::from_micros(first / 2),
                attempts: first.unsigned_abs(),
                syns: u64::MAX,
            },
            ended: Ended {
                outcomes: [a, b, c, d, e],
                completed,
                sent,
                received,
            },
        }
    }

    #[test]
    fn rows_come_back_as_they_were() {
        for day in [19_000, 0, -3] {
            let of = |minute: i64| day * DAY + minute;
            let rows = [
                detail(of(0), &[45, 1, 2, 3], [0; 8], start(of(0)) + 59_999_999),
                detail(of(0), &[9; 16], [1, 0, -1, 0, 0, 0, 7, i64::MAX], 5),
                detail(of(700), &[], [i64::MIN; 8], i64::MIN),
                detail(of(1439), &[7; 200], [-1; 8], i64::MAX),
            ];
            let mut blob = Blob::new(day);
            for row in &rows {
                blob.push(row);
            }
            assert_eq!((blob.rows, blob.minute), (4, of(1439)));
            let mut details = Details::new(day, &blob.octets);
            assert_eq!(details.by_ref().collect::<Vec<_>>(), rows);
            assert_eq!((details.missing(4), details.missing(6)), (0, 2));
        }
    }

    #[test]
    fn what_is_damaged_ends_and_says_so() {
        let mut blob = Blob::new(1);
        let row = detail(1500, &[45, 1, 2, 3], [300, 0, 1, 0, 0, 0, 7, 1], 5);
        blob.push(&row);
        let whole = blob.octets.len();
        blob.push(&row);
        for length in 0..=blob.octets.len() {
            let mut details = Details::new(1, &blob.octets[..length]);
            let count = length / whole;
            assert_eq!(details.by_ref().count(), count);
            assert_eq!(details.missing(2), 2 - count as u64, "{length}");
            let is_cut = length % whole != 0;
            assert_eq!(details.missing(0), u64::from(is_cut), "{length}");
        }
        for octet in 0..=u8::MAX {
            let noise = [octet; 100];
            let mut details = Details::new(i64::MAX / DAY, &noise);
            let count = details.by_ref().count();
            assert!(count <= 12 && (details.missing(0) > 0 || count > 0));
        }
    }

    #[test]
    fn a_peak_is_of_a_minute_wherever_its_attempts_are() {
        let mut minutes = Minutes::default();
        for (minute, attempts) in [(5, 1), (5, 1), (6, 3), (5, 2), (7, 1)] {
            minutes.add(minute, attempts);
        }
        let mut late = Minutes::default();
        for minute in [4, 7, DAY + 1] {
            late.add(minute, 4);
        }
        minutes.add_day(&late, 0);
        assert_eq!((minutes.take_peak(), minutes.take_peak()), (5, 0));
    }
}
