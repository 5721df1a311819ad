//! What is summed up of each device within the window: of detail, packed or not, and of days.

use foldhash::quality::FixedState;
use rusqlite::params;

use super::super::changes::{DAY, Ended, Tally};
use super::super::packed::{COLUMNS, Detail, Details, Minutes};
use super::super::rows::address;
use super::super::sums::{count, ended, whole_blocks};
use super::{Reading, time};
use crate::engine::Destinations;
use crate::model::Timestamp;

/// What is summed up of one device.
pub(super) struct Sum {
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) attempts: u64,
    pub(super) syns: u64,
    /// Attempts that are not packed, by minute.
    minutes: Minutes,
    pub(super) peak: u64,
    pub(super) destinations: Destinations,
    pub(super) is_lower_bound: bool,
    /// Most destinations and groups in a day that was summed up.
    pub(super) most: (usize, usize),
    pub(super) ended: Ended,
    /// Attempts by port.
    ports: Vec<(u16, u64)>,
}

impl Sum {
    pub(super) fn new(first: Timestamp, last: Timestamp, state: FixedState) -> Self {
        Self {
            first,
            last,
            attempts: 0,
            syns: 0,
            minutes: Minutes::default(),
            peak: 0,
            destinations: Destinations::new(state),
            is_lower_bound: false,
            most: (0, 0),
            ended: Ended::default(),
            ports: Vec::new(),
        }
    }

    /// Its attempts by port, in the order of the ports.
    pub(super) fn ports(&self) -> Vec<(u16, u64)> {
        let mut ports = self.ports.clone();
        ports.retain(|(_, attempts)| *attempts > 0);
        ports.sort_unstable();
        ports
    }

    fn add(&mut self, port: u16, tally: &Tally, ended: &Ended) {
        match self.ports.iter_mut().find(|(known, _)| *known == port) {
            Some((_, attempts)) => *attempts += tally.attempts,
            None => self.ports.push((port, tally.attempts)),
        }
        self.first = self.first.min(tally.first);
        self.last = self.last.max(tally.last);
        self.attempts += tally.attempts;
        self.syns += tally.syns;
        self.ended.add(ended);
    }
}

impl Reading<'_> {
    /// Reads what is not packed: the last days, and what came late for those before.
    pub(super) fn read_attempts(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(&format!(
            "SELECT {COLUMNS} FROM attempts WHERE minute >= ?1 AND minute < ?2 ORDER BY minute, device"
        ))?;
        let (from, to) = self.detail_minutes();
        let mut rows = statement.query(params![from, to])?;
        while let Some(row) = rows.next()? {
            let (device, detail) = Detail::of(row)?;
            if let Some(sum) = self.add(device, &detail) {
                sum.minutes.add(detail.minute, detail.tally.attempts);
            }
        }
        Ok(())
    }

    /// Reads what is packed, after what is not: a minute may have attempts in both.
    pub(super) fn read_packed(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(
            "SELECT day, device, rows, details FROM packed WHERE day >= ?1 AND day < ?2 AND until > ?3 \
             ORDER BY day, device, part",
        )?;
        let (from, to) = self.detail_minutes();
        let ceil = to.saturating_add(DAY - 1).div_euclid(DAY);
        let mut rows = statement.query(params![from.div_euclid(DAY), ceil, from])?;
        let mut last = (i64::MIN, i64::MIN);
        let mut minutes = Minutes::default();
        while let Some(row) = rows.next()? {
            let (day, device) = (row.get(0)?, row.get(1)?);
            if last != (day, device) {
                self.end_day(last, &mut minutes);
                last = (day, device);
            }
            let mut details = Details::new(day, row.get_ref(3)?.as_blob()?);
            for detail in details.by_ref() {
                if (from..to).contains(&detail.minute) && self.add(device, &detail).is_some() {
                    minutes.add(detail.minute, detail.tally.attempts);
                }
            }
            self.unreadable += details.missing(count(row, 2)?);
        }
        self.end_day(last, &mut minutes);
        for sum in self.sums.values_mut() {
            sum.peak = sum.peak.max(sum.minutes.take_peak());
        }
        Ok(())
    }

    /// Takes the peak of a device's day, of which all that is packed has been read.
    fn end_day(&mut self, (day, device): (i64, i64), minutes: &mut Minutes) {
        if let Some(sum) = self.sums.get_mut(&device) {
            minutes.add_day(&sum.minutes, day);
            sum.peak = sum.peak.max(minutes.take_peak());
        }
    }

    /// First and last minute, the latter not included, of which detail is asked for.
    fn detail_minutes(&self) -> (i64, i64) {
        (self.minutes.0.max(self.summed), self.minutes.1)
    }

    /// Adds a row of detail to the sum of its device; answers that where the row is asked for and
    /// understood.
    fn add(&mut self, device: i64, detail: &Detail<'_>) -> Option<&mut Sum> {
        self.rows += 1;
        if !self.is_asked(detail.port) {
            return None;
        }
        let Some(destination) = address(detail.destination) else {
            self.unreadable += 1;
            return None;
        };
        let tally = &detail.tally;
        let seed = self.asked.seed;
        let sum = self
            .sums
            .entry(device)
            .or_insert_with(|| Sum::new(tally.first, tally.last, FixedState::with_seed(seed)));
        sum.add(detail.port, tally, &detail.ended);
        if tally.attempts > 0 {
            let count = u32::try_from(tally.attempts).unwrap_or(u32::MAX);
            let has_room = self.room > 0;
            if sum.destinations.note(destination, count, has_room) {
                sum.is_lower_bound |= !has_room;
                self.room = self.room.saturating_sub(1);
            }
        }
        Some(sum)
    }

    /// Reads what detail was summed up to: by blocks where all of one is asked for.
    pub(super) fn read_days(&mut self) -> rusqlite::Result<()> {
        let (from, to) = self.days();
        let (first, end) = whole_blocks(self.connection, (from, to))?;
        self.read_sums("days", "1", (from, first.min(to)))?;
        self.read_sums("blocks", "rows", (first, end))?;
        self.read_sums("days", "1", (end, to))
    }

    fn read_sums(&mut self, table: &str, rows: &str, days: (i64, i64)) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(&format!(
            "SELECT device, port, first, last, attempts, syns, peak, destinations, groups, answered, refused, \
             unreachable, unanswered, held, completed, sent, received, {rows} FROM {table} WHERE day >= ?1 AND day < ?2"
        ))?;
        let mut rows = statement.query(params![days.0, days.1])?;
        let seed = self.asked.seed;
        while let Some(row) = rows.next()? {
            self.rows += count(row, 17)?;
            self.has_days = true;
            let port = row.get(1)?;
            if !self.is_asked(port) {
                continue;
            }
            let tally = Tally {
                first: time(row.get(2)?),
                last: time(row.get(3)?),
                attempts: count(row, 4)?,
                syns: count(row, 5)?,
            };
            let sum = self
                .sums
                .entry(row.get(0)?)
                .or_insert_with(|| Sum::new(tally.first, tally.last, FixedState::with_seed(seed)));
            sum.add(port, &tally, &ended(row, 9)?);
            sum.peak = sum.peak.max(count(row, 6)?);
            let most = |column| {
                let most = count(row, column)?;
                Ok::<_, rusqlite::Error>(usize::try_from(most).unwrap_or(usize::MAX))
            };
            sum.most = (sum.most.0.max(most(7)?), sum.most.1.max(most(8)?));
            sum.is_lower_bound = true;
        }
        Ok(())
    }
}
