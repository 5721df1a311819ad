//! What is kept for how long, and what becomes of it then: detail is summed up by day and deleted, the
//! rest deleted by age. It is done in steps of a few thousand rows, each a transaction of its own,
//! between which the history is written: none takes long, and all can be left off anywhere.
//!
//! Detail is packed when its day is over, then read, and deleted later. What of it counts in `days` is told
//! by one mark that is set in the transaction that writes the sums, so nothing counts twice or not at all
//! wherever it ends.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use foldhash::quality::FixedState;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::changes::{DAY, minute};
use super::packed;
use super::rows::micros;
use super::schema::{self, PAGE};
use super::sums::{Summing, delete_day};
use super::tables::{DROPPED, SUMMED};
use crate::model::{MICROS_PER_SECOND, Timestamp};
use crate::settings::Retention;

/// Rows read or deleted in a step.
const STEP: u32 = 4000;
/// Time between two looks at what has become too old, in microseconds.
const PERIOD: i64 = 3600 * MICROS_PER_SECOND;
/// Translations kept.
const MAX_TRANSLATIONS: u64 = 2_000_000;
/// Devices whose contacts are looked at in a step.
const DEVICES: i64 = 256;
/// How long a day has been over when it is packed: most of what comes late has come by then.
const SETTLED: Duration = Duration::from_secs(2 * 3600);
/// Pages given back to the file system in a step.
const VACUUM: u32 = 256;

/// Something to do, in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// Sum up the days before that minute; [`Task::Summed`] follows at once.
    Sum(i64),
    /// Delete the detail that has been summed up.
    Summed,
    /// Pack the detail of before that minute.
    Pack(i64),
    /// Sum up everybody's counts before that minute, and what was not seen then.
    Minutes(i64),
    Unseen(i64),
    /// Delete the days before.
    Days(i64),
    /// Delete what is older, by one of [`AGES`].
    Age(usize, i64),
    /// Delete contacts of before, from that device on.
    Contacts(i64, i64),
    /// Delete the oldest translations until there are no more than may be.
    Translations,
    /// Give free pages back.
    Vacuum,
}

/// What is deleted by age, with `?1` for the time in microseconds, `?2` rows in a step.
const AGES: [&str; 8] = [
    "DELETE FROM translations WHERE (outside, outside_port, first, source, source_port, destination, destination_port) \
     IN (SELECT outside, outside_port, first, source, source_port, destination, destination_port FROM translations \
     WHERE last < ?1 LIMIT ?2)",
    "DELETE FROM sightings WHERE id IN (SELECT id FROM sightings WHERE last < ?1 LIMIT ?2)",
    "DELETE FROM states WHERE device IN (SELECT device FROM states WHERE changed < ?1 LIMIT ?2)",
    "DELETE FROM findings WHERE id IN (SELECT id FROM findings WHERE at < ?1 LIMIT ?2)",
    "DELETE FROM notices WHERE id IN (SELECT id FROM notices WHERE at < ?1 LIMIT ?2)",
    "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ?1 LIMIT ?2)",
    "DELETE FROM decisions WHERE id IN (SELECT id FROM decisions WHERE at < ?1 LIMIT ?2)",
    "DELETE FROM runs WHERE id IN (SELECT id FROM runs WHERE last < ?1 LIMIT ?2)",
];
/// Those of [`AGES`] that are of translations, of detail, and the rest.
const TRANSLATIONS: usize = 0;
const DETAIL: [usize; 2] = [1, 2];
const LONG: [usize; 5] = [3, 4, 5, 6, 7];
/// Devices of which nothing is left: they are noted anew each day on which they are seen.
const DEVICES_GONE: &str =
    "DELETE FROM devices WHERE id IN (SELECT id FROM devices WHERE changed < ?1 LIMIT ?2)";

/// Keeps the history as small and as young as it shall be.
#[derive(Debug)]
pub(super) struct Keeper {
    retention: Retention,
    max_translations: u64,
    tasks: VecDeque<Task>,
    summing: Option<Summing>,
    /// When it is looked again.
    next: Option<Timestamp>,
    /// The minute before which attempts have been summed up.
    summed: i64,
    translations: u64,
    hasher: FixedState,
    /// Whether it has been told that something was deleted because of the file's size.
    has_told: bool,
    message: Option<String>,
}

impl Keeper {
    pub(super) fn new(retention: Retention) -> Self {
        Self {
            retention,
            max_translations: MAX_TRANSLATIONS,
            tasks: VecDeque::new(),
            summing: None,
            next: None,
            summed: i64::MIN,
            translations: 0,
            hasher: FixedState::with_seed(RandomState::new().hash_one(0)),
            has_told: false,
            message: None,
        }
    }

    #[cfg(test)]
    pub(super) fn with_max_translations(mut self, max: u64) -> Self {
        self.max_translations = max;
        self
    }

    /// Begins anew with a file that was opened.
    pub(super) fn open(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.tasks.clear();
        self.summing = None;
        self.summed = mark(connection, SUMMED)?.unwrap_or(i64::MIN);
        self.translations = count_translations(connection)?;
        Ok(())
    }

    /// Follows other settings from now on.
    pub(super) fn set(&mut self, retention: Retention) {
        if self.retention != retention {
            self.retention = retention;
            self.next = None;
        }
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.retention.max_bytes
    }

    /// The minute before which what comes goes into the daily sums.
    pub(super) fn summed(&self) -> i64 {
        let reading = self.summing.as_ref().map(Summing::until);
        self.summed.max(reading.unwrap_or(i64::MIN))
    }

    /// Notes that many new translations.
    pub(super) fn note_translations(&mut self, new: u64) {
        self.translations += new;
    }

    pub(super) fn has_tasks(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// Leaves everything as it is until the next look.
    pub(super) fn give_up(&mut self) {
        self.tasks.clear();
        self.summing = None;
    }

    /// What to say, once.
    pub(super) fn message(&mut self) -> Option<String> {
        self.message.take()
    }

    /// Looks at what there is to do at `now`, the time of day.
    pub(super) fn look(&mut self, connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
        let is_due = self
            .next
            .is_none_or(|next| now >= next || next.micros_since(now) > PERIOD);
        if is_due {
            self.next = Some(now.plus_micros(PERIOD));
            self.translations = count_translations(connection)?;
            self.plan(now);
        }
        if self.translations > self.max_translations && !self.tasks.contains(&Task::Translations) {
            self.tasks.push_front(Task::Translations);
        }
        if self.tasks.is_empty() && self.uses_more_than(7, connection)? {
            self.relieve(connection, now)?;
        }
        Ok(())
    }

    /// Sees that there is room for what did not fit, which may be much.
    pub(super) fn make_room(
        &mut self,
        connection: &Connection,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        if self.tasks.is_empty() && self.uses_more_than(4, connection)? {
            self.relieve(connection, now)?;
        }
        Ok(())
    }

    fn plan(&mut self, now: Timestamp) {
        let Retention {
            detail,
            days,
            translations,
            ..
        } = self.retention;
        let before = |age| now.minus(age).as_micros();
        let detail_minute = minute(now.minus(detail)).div_euclid(DAY) * DAY;
        let days_minute = minute(now.minus(days)).div_euclid(DAY) * DAY;
        let settled_minute = minute(now.minus(SETTLED)).div_euclid(DAY) * DAY;
        let tasks = [Task::Age(TRANSLATIONS, before(translations))]
            .into_iter()
            .chain([Task::Translations, Task::Sum(detail_minute)])
            .chain([Task::Pack(settled_minute)])
            .chain([Task::Minutes(detail_minute), Task::Unseen(detail_minute)])
            .chain(DETAIL.map(|which| Task::Age(which, before(detail))))
            .chain([Task::Contacts(before(detail), 0), Task::Days(days_minute)])
            .chain(LONG.map(|which| Task::Age(which, before(days))))
            // A day more, for they are noted once a day.
            .chain([Task::Age(
                AGES.len(),
                before(days) - DAY * 60 * MICROS_PER_SECOND,
            )])
            .chain([Task::Vacuum]);
        for task in tasks {
            // What still waits from the last time is done after what is planned now, not before it: the
            // detail that is summed up now is to be deleted, too.
            self.tasks.retain(|waiting| *waiting != task);
            self.tasks.push_back(task);
        }
    }

    /// Whether more than that many eighths of the file's limit are in use.
    fn uses_more_than(&self, eighths: u64, connection: &Connection) -> rusqlite::Result<bool> {
        let used = pragma(connection, "page_count")? - pragma(connection, "freelist_count")?;
        let limit = self.retention.max_bytes / PAGE;
        Ok(u64::try_from(used).unwrap_or(0) > limit * eighths / 8)
    }

    /// Makes room: the oldest detail goes first, a day at once, of today an hour; then the oldest
    /// translations, then the oldest days.
    fn relieve(&mut self, connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
        let now = minute(now);
        let oldest = packed::oldest(connection, self.summed)?;
        let end = oldest.and_then(|oldest| {
            let end = |unit: i64| (oldest.div_euclid(unit) + 1) * unit;
            [end(DAY), end(60)].into_iter().find(|end| *end <= now)
        });
        let days = |sql| connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
        if let Some(end) = end {
            self.tasks.push_back(Task::Sum(end));
        } else if self.translations > 1000 {
            let middle = "SELECT last FROM translations ORDER BY last LIMIT 1 OFFSET ?1";
            let offset = i64::try_from(self.translations / 8).unwrap_or(i64::MAX);
            let last = connection
                .query_row(middle, [offset], |row| row.get::<_, i64>(0))
                .optional()?;
            self.tasks
                .extend(last.map(|last| Task::Age(TRANSLATIONS, last + 1)));
        } else if let Some(day) = days("SELECT min(day) FROM days")?
            && day < now.div_euclid(DAY)
        {
            self.tasks.push_back(Task::Days((day + 1) * DAY));
        } else {
            return Ok(());
        }
        if !self.has_told {
            self.has_told = true;
            self.message = Some(format!(
                "the history comes near its limit of {} MB: the oldest detail goes before its time, and is kept as sums by \
                 day alone",
                self.retention.max_bytes / 1_000_000
            ));
        }
        Ok(())
    }

    /// Does a part of what there is to do.
    pub(super) fn step(&mut self, connection: &mut Connection) -> rusqlite::Result<()> {
        let Some(task) = self.tasks.front().copied() else {
            return Ok(());
        };
        let is_done = match task {
            Task::Sum(until) => self.sum(connection, until)?,
            Task::Vacuum => vacuum(connection)?,
            Task::Translations => {
                let excess = self.translations.saturating_sub(self.max_translations);
                let deleted = drop_translations(connection, excess.min(u64::from(STEP)))?;
                self.translations = self.translations.saturating_sub(deleted);
                excess <= u64::from(STEP)
            }
            Task::Age(which, before) => {
                let sql = AGES.get(which).copied().unwrap_or(DEVICES_GONE);
                let deleted = connection
                    .prepare_cached(sql)?
                    .execute(params![before, STEP])?;
                if which == TRANSLATIONS {
                    self.translations = self.translations.saturating_sub(deleted as u64);
                }
                deleted < STEP as usize
            }
            Task::Contacts(before, device) => {
                let last = delete_contacts(connection, before, device)?;
                if let (Some(task), Some(last)) = (self.tasks.front_mut(), last) {
                    *task = Task::Contacts(before, last);
                }
                last.is_none()
            }
            Task::Summed => packed::delete(connection, self.summed)?,
            Task::Pack(before) => packed::pack(connection, before)?,
            Task::Minutes(before) => in_transaction(connection, |it| sum_minutes(it, before))?,
            Task::Unseen(before) => in_transaction(connection, |it| sum_unseen(it, before))?,
            Task::Days(before) => in_transaction(connection, |it| delete_day(it, before))?,
        };
        if is_done {
            self.tasks.pop_front();
            if matches!(task, Task::Sum(_)) {
                self.tasks.push_front(Task::Summed);
            }
        }
        Ok(())
    }

    /// Packs and reads on in the oldest day before `until`, and writes its sums at its end; answers whether
    /// there is no such day any more.
    fn sum(&mut self, connection: &mut Connection, until: i64) -> rusqlite::Result<bool> {
        let mut summing = match self.summing.take() {
            Some(summing) => summing,
            None => match packed::oldest(connection, self.summed)? {
                Some(oldest) if oldest < until => {
                    let end = until.min((oldest.div_euclid(DAY) + 1) * DAY);
                    if !packed::pack(connection, end)? {
                        return Ok(false);
                    }
                    // From here on what comes late goes into the sums: all detail is among the blobs.
                    let (day, minutes) = (oldest.div_euclid(DAY), (self.summed, end));
                    Summing::new(connection, day, minutes, &self.hasher)?
                }
                _ => {
                    // Nothing is left of before, so all of it counts by day.
                    if self.summed < until {
                        in_transaction(connection, |it| set_mark(it, SUMMED, until))?;
                        self.summed = until;
                    }
                    return Ok(true);
                }
            },
        };
        if !summing.read(connection)? {
            self.summing = Some(summing);
            return Ok(false);
        }
        let is_written = in_transaction(connection, |transaction| {
            let is_written = summing.write(transaction)?;
            if is_written {
                set_mark(transaction, SUMMED, summing.until())?;
            }
            Ok(is_written)
        })?;
        if is_written {
            self.summed = summing.until();
        }
        Ok(false)
    }
}

/// The number that is noted under `name`.
pub(super) fn mark(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT value FROM marks WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

pub(super) fn set_mark(
    transaction: &Transaction<'_>,
    name: &str,
    value: i64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO marks (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
        )?
        .execute(params![name, value])?;
    Ok(())
}

pub(super) fn in_transaction<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = work(&transaction)?;
    transaction.commit()?;
    Ok(done)
}

fn count_translations(connection: &Connection) -> rusqlite::Result<u64> {
    let count: i64 =
        connection.query_row("SELECT count(*) FROM translations", [], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(&format!("PRAGMA {name}"))?
        .query_row([], |row| row.get(0))
}

/// Deletes the oldest `count` translations, and counts them; answers how many.
fn drop_translations(connection: &mut Connection, count: u64) -> rusqlite::Result<u64> {
    if count == 0 {
        return Ok(0);
    }
    in_transaction(connection, |transaction| {
        let deleted = transaction
            .prepare_cached(
                "DELETE FROM translations \
                 WHERE (outside, outside_port, first, source, source_port, destination, destination_port) \
                 IN (SELECT outside, outside_port, first, source, source_port, destination, destination_port \
                 FROM translations ORDER BY last LIMIT ?1)",
            )?
            .execute([i64::try_from(count).unwrap_or(i64::MAX)])?;
        let before = mark(transaction, DROPPED)?.unwrap_or(0);
        set_mark(
            transaction,
            DROPPED,
            before.saturating_add_unsigned(deleted as u64),
        )?;
        Ok(deleted as u64)
    })
}

/// Answers the device to go on with, where there are more.
fn delete_contacts(
    connection: &Connection,
    before: i64,
    device: i64,
) -> rusqlite::Result<Option<i64>> {
    let next = device + DEVICES;
    connection
        .prepare_cached("DELETE FROM contacts WHERE device >= ?1 AND device < ?2 AND last < ?3")?
        .execute(params![device, next, before])?;
    connection
        .prepare_cached("SELECT min(device) FROM contacts WHERE device >= ?1")?
        .query_row([next], |row| row.get(0))
}

/// Sums up the oldest day of everybody's counts; answers whether there is none.
fn sum_minutes(transaction: &Transaction<'_>, before: i64) -> rusqlite::Result<bool> {
    let Some(day) = oldest_day(
        transaction,
        "SELECT min(minute) FROM minutes WHERE minute < ?1",
        before,
    )?
    else {
        return Ok(true);
    };
    let span = params![day, day * DAY, (day + 1) * DAY];
    transaction
        .prepare_cached(
            "INSERT INTO day_totals (day, direction, port, first, last, attempts, syns) \
             SELECT ?1, direction, port, min(first), max(last), sum(attempts), sum(syns) FROM minutes \
             WHERE minute >= ?2 AND minute < ?3 GROUP BY direction, port \
             ON CONFLICT DO UPDATE SET first = min(first, excluded.first), last = max(last, excluded.last), \
             attempts = attempts + excluded.attempts, syns = syns + excluded.syns",
        )?
        .execute(span)?;
    transaction
        .prepare_cached("DELETE FROM minutes WHERE minute >= ?1 AND minute < ?2")?
        .execute(params![day * DAY, (day + 1) * DAY])?;
    Ok(false)
}

/// Sums up the oldest day of what was not seen, into its first minute; answers whether there is none.
fn sum_unseen(transaction: &Transaction<'_>, before: i64) -> rusqlite::Result<bool> {
    let oldest = "SELECT min(minute) FROM unseen WHERE minute < ?1 AND minute % 1440 <> 0";
    let Some(day) = oldest_day(transaction, oldest, before)? else {
        return Ok(true);
    };
    let span = params![day * DAY, (day + 1) * DAY];
    transaction
        .prepare_cached(
            "INSERT INTO unseen (minute, source, kind, events) SELECT ?1, source, kind, sum(events) FROM unseen \
             WHERE minute > ?1 AND minute < ?2 GROUP BY source, kind \
             ON CONFLICT DO UPDATE SET events = events + excluded.events",
        )?
        .execute(span)?;
    transaction
        .prepare_cached("DELETE FROM unseen WHERE minute > ?1 AND minute < ?2")?
        .execute(span)?;
    Ok(false)
}

fn oldest_day(connection: &Connection, sql: &str, before: i64) -> rusqlite::Result<Option<i64>> {
    let oldest: Option<i64> = connection
        .prepare_cached(sql)?
        .query_row([before], |row| row.get(0))?;
    Ok(oldest.map(|minute| minute.div_euclid(DAY)))
}

/// Gives free pages back where an eighth of the file is free; answers whether that is all.
fn vacuum(connection: &Connection) -> rusqlite::Result<bool> {
    const INCREMENTAL: i64 = 2;
    let free = pragma(connection, "freelist_count")?;
    if pragma(connection, "auto_vacuum")? != INCREMENTAL
        || free < i64::from(VACUUM)
        || free * 8 < pragma(connection, "page_count")?
    {
        return Ok(true);
    }
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUM})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(false)
}

/// Lets a step use a little more than the limit: it makes room.
pub(super) fn with_slack<T>(
    connection: &mut Connection,
    max_bytes: u64,
    work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    schema::limit(connection, max_bytes + max_bytes / 16)?;
    let done = work(connection);
    schema::limit(connection, max_bytes)?;
    done
}

/// The time before which a state is too old to go on with.
pub(super) fn oldest_state(now: Timestamp) -> i64 {
    now.as_micros() - micros(Retention::default().detail)
}
