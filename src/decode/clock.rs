//! From stamps to record time: the year and the zone that a stamp leaves out, and the time of boot.
//!
//! What one stamp cannot tell, its neighbours can: where stamps without a year jump back by more
//! than half a year, New Year has passed; where an uptime falls, the machine was started again.
//! [`Eras`] counts both, line by line or chunk by chunk; [`Anchor`] ties them to the file's own time
//! at one end; [`RecordClock`] reads times.

use jiff::civil;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use super::stamp::{Civil, Stamp};
use crate::model::{Clock, MICROS_PER_SECOND, Timestamp};

const SECONDS_PER_DAY: i64 = 86_400;
/// A stamp may stand this far ahead of the file's time: clocks differ, writes are late.
const AHEAD: i64 = SECONDS_PER_DAY * MICROS_PER_SECOND;
/// Days by which stamps without a year jump back at New Year.
const HALF_A_YEAR: i32 = 186;
const FIRST_OF_JANUARY: i32 = 31 + 1;
/// Days that neighbours may be out of order across New Year.
const DISORDER_DAYS: i32 = 3;
/// An uptime that falls by more than this began anew (records may be a little out of order).
const REBOOT_MICROS: i64 = 10 * MICROS_PER_SECOND;
/// Boots that are told apart in one input.
const MAX_BOOTS: usize = 4096;

/// How many New Years and boots lie between the start of an input and a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Era {
    /// New Years passed; negative where the input begins out of order.
    pub years: i16,
    /// Boots passed.
    pub boots: u16,
}

impl Era {
    /// The era of a line that is `self` into a part that begins at `start`.
    #[must_use]
    pub fn after(self, start: Self) -> Self {
        Self {
            years: start.years.saturating_add(self.years),
            boots: start.boots.saturating_add(self.boots),
        }
    }
}

/// Counts eras as stamps go by.
#[derive(Clone, Debug, Default)]
pub struct Eras {
    era: Era,
    day: Option<i32>,
    uptime: Option<i64>,
}

impl Eras {
    /// Takes the next stamp and answers its era.
    pub fn step(&mut self, stamp: &Stamp) -> Era {
        match *stamp {
            Stamp::Civil(Civil {
                year: None,
                month,
                day,
                ..
            }) => {
                let day = i32::from(month) * 31 + i32::from(day);
                if let Some(before) = self.day.replace(day) {
                    self.era.years = self.era.years.saturating_add(years_between(before, day));
                }
            }
            Stamp::Uptime(uptime)
                if self
                    .uptime
                    .replace(uptime)
                    .is_some_and(|before| before - uptime > REBOOT_MICROS) =>
            {
                self.era.boots = self.era.boots.saturating_add(1);
            }
            _ => {}
        }
        self.era
    }

    /// The era reached.
    pub fn era(&self) -> Era {
        self.era
    }

    /// Adds the part of an input that begins with the stamps of `first` and ends in `part`; answers
    /// the era that the part begins in.
    pub fn join(&mut self, first: &FirstStamps, part: &Self) -> Era {
        self.step(&first.dated);
        let start = self.step(&first.uptime);
        self.era = part.era.after(start);
        self.day = part.day.or(self.day);
        self.uptime = part.uptime.or(self.uptime);
        start
    }
}

/// The first stamp of each kind in a part of an input, for [`Eras::join`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirstStamps {
    dated: Stamp,
    uptime: Stamp,
}

impl FirstStamps {
    /// Keeps `stamp` if it is the first of its kind.
    pub fn note(&mut self, stamp: &Stamp) {
        match stamp {
            Stamp::Civil(Civil { year: None, .. }) if self.dated == Stamp::None => {
                self.dated = *stamp;
            }
            Stamp::Uptime(_) if self.uptime == Stamp::None => self.uptime = *stamp,
            _ => {}
        }
    }
}

fn years_between(before: i32, day: i32) -> i16 {
    const LONGEST: i32 = 12 * 31 + 31 - 32;
    // A gateway without an RTC starts on 1 January, and goes back to the year when it has the time.
    let from_boot = before == FIRST_OF_JANUARY && day - before > HALF_A_YEAR;
    if before - day > HALF_A_YEAR {
        1
    } else if from_boot || day - before > LONGEST - DISORDER_DAYS {
        -1
    } else {
        0
    }
}

/// What ties an input's eras to the calendar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    file_time: Timestamp,
    first_year: Option<i16>,
    boots: Vec<Timestamp>,
}

impl Anchor {
    /// An input whose end is unknown, read at `file_time` (now, or when it was last written): its
    /// first stamp is of the latest year that is not in the future.
    pub fn at_start(file_time: Timestamp) -> Self {
        Self {
            file_time,
            first_year: None,
            boots: Vec::new(),
        }
    }

    /// An input whose last stamps are known: they are the file's time.
    pub fn at_end(end: &End, file_time: Timestamp, zone: &TimeZone) -> Self {
        Self {
            file_time,
            first_year: end
                .dated
                .and_then(|(civil, era)| first_year(&civil, era, file_time, zone)),
            boots: end.boot_times(file_time),
        }
    }
}

/// Goes through an input, or samples of it in order, to learn how it ends.
#[derive(Clone, Debug, Default)]
pub struct End {
    eras: Eras,
    dated: Option<(Civil, Era)>,
    last_uptimes: Vec<i64>,
}

impl End {
    /// Takes the next stamp.
    pub fn step(&mut self, stamp: &Stamp) {
        let era = self.eras.step(stamp);
        match *stamp {
            Stamp::Civil(civil @ Civil { year: None, .. }) => self.dated = Some((civil, era)),
            Stamp::Uptime(uptime) => {
                let boot = usize::from(era.boots).min(MAX_BOOTS - 1);
                self.last_uptimes.resize(boot + 1, uptime);
                self.last_uptimes[boot] = self.last_uptimes[boot].max(uptime);
            }
            _ => {}
        }
    }

    /// When each boot began, if the last one's last record was at `file_time` and each boot began
    /// where the one before ended.
    fn boot_times(&self, file_time: Timestamp) -> Vec<Timestamp> {
        let mut end = file_time;
        let mut times: Vec<Timestamp> = self
            .last_uptimes
            .iter()
            .rev()
            .map(|&uptime| {
                end = end.plus_micros(-uptime);
                end
            })
            .collect();
        times.reverse();
        times
    }
}

/// The year in which an input begins, if `civil`, `era` into it, is of the latest year in which it
/// is not after `file_time`.
fn first_year(civil: &Civil, era: Era, file_time: Timestamp, zone: &TimeZone) -> Option<i16> {
    let latest = file_time.plus_micros(AHEAD);
    let year = jiff::Timestamp::from_microsecond(latest.as_micros())
        .ok()?
        .to_zoned_datetime(zone.clone())
        .year();
    // 29 February comes every four years, or eight.
    (year.saturating_sub(8)..=year)
        .rev()
        .find(|&year| {
            hour_of(civil, year, zone).is_some_and(|hour| within(hour.earlier, civil) <= latest)
        })
        .map(|year| year.saturating_sub(era.years))
}

/// One hour of the local clock, in record time.
#[derive(Clone, Copy, Debug)]
struct Hour {
    earlier: i64,
    /// Where the clock was put back, the hour comes a second time.
    later: Option<i64>,
}

fn hour_of(civil: &Civil, year: i16, zone: &TimeZone) -> Option<Hour> {
    let month = i8::try_from(civil.month).ok()?;
    let day = i8::try_from(civil.day).ok()?;
    let hour = i8::try_from((civil.second_of_day / 3600).min(23)).ok()?;
    let start = civil::DateTime::new(year, month, day, hour, 0, 0, 0).ok()?;
    let at = |offset: Offset| {
        offset
            .to_timestamp(start)
            .ok()
            .map(jiff::Timestamp::as_microsecond)
    };
    if let Some(seconds) = civil.offset {
        return Some(Hour {
            earlier: at(Offset::from_seconds(seconds).ok()?)?,
            later: None,
        });
    }
    Some(match zone.to_ambiguous_timestamp(start).offset() {
        AmbiguousOffset::Unambiguous { offset } => Hour {
            earlier: at(offset)?,
            later: None,
        },
        AmbiguousOffset::Gap { before, .. } => Hour {
            earlier: at(before)?,
            later: None,
        },
        AmbiguousOffset::Fold { before, after } => Hour {
            earlier: at(before)?,
            later: Some(at(after)?),
        },
    })
}

fn within(hour: i64, civil: &Civil) -> Timestamp {
    let hours = (civil.second_of_day / 3600).min(23);
    let seconds = i64::from(civil.second_of_day - hours * 3600);
    Timestamp::from_micros(hour + seconds * MICROS_PER_SECOND + i64::from(civil.micros))
}

/// Reads the time of one input's records, in their order.
#[derive(Clone, Debug)]
pub struct RecordClock {
    zone: TimeZone,
    anchor: Anchor,
    last: Option<Timestamp>,
    cached: Option<(Civil, i16, Hour)>,
}

impl RecordClock {
    /// A clock for an input tied down by `anchor`, whose stamps without an offset are of `zone`.
    pub fn new(anchor: Anchor, zone: TimeZone) -> Self {
        Self {
            zone,
            anchor,
            last: None,
            cached: None,
        }
    }

    /// For an input that grows: what comes next, in eras counted anew, was written up to `now`.
    pub fn go_on(&mut self, now: Timestamp) {
        self.anchor = Anchor::at_start(now);
    }

    /// The time of a record whose line bears `stamp`, in `era`. A stamp that is no date of the
    /// calendar counts as none.
    pub fn time(&mut self, stamp: &Stamp, era: Era) -> (Timestamp, Clock) {
        let read = match stamp {
            Stamp::None => None,
            Stamp::Unix(micros) => Some((Timestamp::from_micros(*micros), Clock::Exact)),
            Stamp::Uptime(uptime) => Some((self.since_boot(*uptime, era), Clock::Approximate)),
            Stamp::Civil(civil) => self.civil(civil, era).map(|time| (time, Clock::Exact)),
        };
        // No calendar has a day for it.
        let is_told =
            |time: &Timestamp| jiff::Timestamp::from_microsecond(time.as_micros()).is_ok();
        let Some((time, clock)) = read.filter(|(time, _)| is_told(time)) else {
            return (self.last.unwrap_or(self.anchor.file_time), Clock::None);
        };
        self.last = Some(time);
        (time, clock)
    }

    fn since_boot(&self, uptime: i64, era: Era) -> Timestamp {
        let boot = usize::from(era.boots).min(self.anchor.boots.len().saturating_sub(1));
        let start = self.anchor.boots.get(boot);
        start
            .copied()
            .unwrap_or(self.anchor.file_time)
            .plus_micros(uptime)
    }

    fn first_year(&mut self, civil: &Civil, era: Era) -> Option<i16> {
        if self.anchor.first_year.is_none() {
            self.anchor.first_year = first_year(civil, era, self.anchor.file_time, &self.zone);
        }
        self.anchor.first_year
    }

    fn civil(&mut self, civil: &Civil, era: Era) -> Option<Timestamp> {
        match civil.year {
            Some(year) => self.in_year(civil, year),
            None => {
                let year = self.first_year(civil, era)?.saturating_add(era.years);
                let time = self.in_year(civil, year)?;
                // After the file's own time it cannot be: a stamp of boot, taken for New Year.
                let is_future = time > self.anchor.file_time.plus_micros(AHEAD);
                let earlier = is_future
                    .then(|| self.in_year(civil, year.saturating_sub(1)))
                    .flatten();
                Some(earlier.unwrap_or(time))
            }
        }
    }

    fn in_year(&mut self, civil: &Civil, year: i16) -> Option<Timestamp> {
        let hour = match &self.cached {
            Some((known, known_year, hour))
                if *known_year == year
                    && known.month == civil.month
                    && known.day == civil.day
                    && known.offset == civil.offset
                    && known.second_of_day / 3600 == civil.second_of_day / 3600 =>
            {
                *hour
            }
            _ => {
                let hour = hour_of(civil, year, &self.zone)?;
                self.cached = Some((*civil, year, hour));
                hour
            }
        };
        let earlier = within(hour.earlier, civil);
        // The clock was put back: the hour's second turn is the one that goes on from the record before.
        let goes_back = self
            .last
            .is_some_and(|last| last.micros_since(earlier) > 60 * MICROS_PER_SECOND);
        Some(match hour.later {
            Some(later) if goes_back => within(later, civil),
            _ => earlier,
        })
    }
}

/// Whether a record's time is off: more than 24 h from both its neighbours and not between them.
/// A gap of days in a sparse log is no error, a stamp of 1970 among others is.
pub fn is_outlier(before: Timestamp, time: Timestamp, after: Timestamp) -> bool {
    let far = |other: Timestamp| time.micros_since(other).abs() > AHEAD;
    let between = before.min(after) <= time && time <= before.max(after);
    far(before) && far(after) && !between
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::stamp;

    fn stamp_of(text: &str) -> Stamp {
        stamp::leading(text.as_bytes()).unwrap().0
    }

    fn time(text: &str) -> Timestamp {
        let timestamp: jiff::Timestamp = text.parse().unwrap();
        Timestamp::from_micros(timestamp.as_microsecond())
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    /// The times of `lines`, whose file was last written at `file_time`.
    fn read(lines: &[&str], file_time: &str, zone: &TimeZone) -> Vec<(String, Clock)> {
        let mut end = End::default();
        let stamps: Vec<Stamp> = lines.iter().map(|line| stamp_of(line)).collect();
        for stamp in &stamps {
            end.step(stamp);
        }
        let anchor = Anchor::at_end(&end, time(file_time), zone);
        let mut clock = RecordClock::new(anchor, zone.clone());
        let mut eras = Eras::default();
        stamps
            .iter()
            .map(|stamp| {
                let (time, quality) = clock.time(stamp, eras.step(stamp));
                (time.to_string(), quality)
            })
            .collect()
    }

    fn times(lines: &[&str], file_time: &str, zone: &TimeZone) -> Vec<String> {
        read(lines, file_time, zone)
            .into_iter()
            .map(|(time, _)| time)
            .collect()
    }

    #[test]
    fn the_last_record_has_the_files_year_and_earlier_ones_count_back() {
        assert_eq!(
            times(
                &[
                    "Nov 30 10:00:00",
                    "Dec 31 23:59:59",
                    "Jan  1 00:00:01",
                    "Dec 31 23:59:58",
                    "Jan  1 00:00:02"
                ],
                "2026-01-02T00:00:00Z",
                &TimeZone::UTC
            ),
            [
                "2025-11-30T10:00:00Z",
                "2025-12-31T23:59:59Z",
                "2026-01-01T00:00:01Z",
                "2025-12-31T23:59:58Z",
                "2026-01-01T00:00:02Z"
            ]
        );
    }

    #[test]
    fn a_boot_without_a_clock_is_no_new_year() {
        assert_eq!(
            times(
                &[
                    "Sep  1 10:00:00",
                    "Jan  1 00:00:10",
                    "Jan  1 00:00:20",
                    "Sep  1 10:05:00"
                ],
                "2025-09-01T12:00:00Z",
                &TimeZone::UTC
            ),
            [
                "2025-09-01T10:00:00Z",
                "2025-01-01T00:00:10Z",
                "2025-01-01T00:00:20Z",
                "2025-09-01T10:05:00Z"
            ]
        );
    }

    #[test]
    fn a_file_written_after_new_year_may_end_before_it() {
        assert_eq!(
            times(&["Dec 30 10:00:00"], "2026-01-02T00:00:00Z", &TimeZone::UTC),
            ["2025-12-30T10:00:00Z"]
        );
        assert_eq!(
            times(&["Feb 29 10:00:00"], "2026-01-02T00:00:00Z", &TimeZone::UTC),
            ["2024-02-29T10:00:00Z"]
        );
    }

    #[test]
    fn a_pipes_first_record_is_not_in_the_future() {
        let now = time("2026-03-01T00:00:00Z");
        let anchor = Anchor::at_start(now);
        let mut clock = RecordClock::new(anchor, TimeZone::UTC);
        let mut eras = Eras::default();
        let mut read = |text| {
            let stamp = stamp_of(text);
            clock.time(&stamp, eras.step(&stamp)).0.to_string()
        };
        assert_eq!(read("Dec 31 23:00:00"), "2025-12-31T23:00:00Z");
        assert_eq!(read("Jan  1 00:00:00"), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn zones_are_honoured_and_the_hour_that_comes_twice_goes_on() {
        let berlin = zone("Europe/Berlin");
        assert_eq!(
            times(
                &[
                    "Oct 26 01:59:59",
                    "Oct 26 02:30:00",
                    "Oct 26 02:59:59",
                    "Oct 26 02:00:00",
                    "Oct 26 02:30:00",
                    "Oct 26 03:00:00"
                ],
                "2025-10-27T00:00:00Z",
                &berlin
            ),
            [
                "2025-10-25T23:59:59Z",
                "2025-10-26T00:30:00Z",
                "2025-10-26T00:59:59Z",
                "2025-10-26T01:00:00Z",
                "2025-10-26T01:30:00Z",
                "2025-10-26T02:00:00Z"
            ]
        );
        assert_eq!(
            times(
                &["2025-07-01T12:00:00+02:00", "2025-07-01 12:00:00,5"],
                "2025-07-02T00:00:00Z",
                &berlin
            ),
            ["2025-07-01T10:00:00Z", "2025-07-01T10:00:00.5Z"]
        );
    }

    #[test]
    fn uptimes_end_at_the_files_time_and_boots_follow_each_other() {
        assert_eq!(
            read(
                &[
                    "[   10.000000] ",
                    "[  100.000000] ",
                    "[    5.000000] ",
                    "[   20.000000] ",
                    "[   19.000000] "
                ],
                "2026-01-01T00:10:00Z",
                &TimeZone::UTC
            ),
            [
                ("2026-01-01T00:08:10Z".to_owned(), Clock::Approximate),
                ("2026-01-01T00:09:40Z".to_owned(), Clock::Approximate),
                ("2026-01-01T00:09:45Z".to_owned(), Clock::Approximate),
                ("2026-01-01T00:10:00Z".to_owned(), Clock::Approximate),
                ("2026-01-01T00:09:59Z".to_owned(), Clock::Approximate),
            ]
        );
    }

    #[test]
    fn without_a_stamp_the_predecessors_time_counts() {
        let now = time("2026-03-01T00:00:00Z");
        let mut clock = RecordClock::new(Anchor::at_start(now), TimeZone::UTC);
        assert_eq!(clock.time(&Stamp::None, Era::default()), (now, Clock::None));
        let known = stamp_of("2026-02-01T00:00:00Z");
        clock.time(&known, Era::default());
        assert_eq!(
            clock.time(&Stamp::None, Era::default()),
            (time("2026-02-01T00:00:00Z"), Clock::None)
        );
        for never in [
            stamp_of("2026-02-31T00:00:00Z"),
            Stamp::Unix(i64::MAX),
            Stamp::Uptime(i64::MAX),
        ] {
            assert_eq!(clock.time(&never, Era::default()).1, Clock::None);
        }
    }

    #[test]
    fn parts_join_as_if_they_were_one() {
        let lines = [
            "Nov 30 10:00:00",
            "Jan  1 10:00:00",
            "[ 50.000000] ",
            "Mar  1 10:00:00",
            "[ 5.000000] ",
            "[ 60.000000] ",
            "Jan  5 10:00:00",
        ];
        let stamps: Vec<Stamp> = lines.iter().map(|line| stamp_of(line)).collect();
        let mut whole = Eras::default();
        let expected: Vec<Era> = stamps.iter().map(|stamp| whole.step(stamp)).collect();
        for cut in 0..=stamps.len() {
            let mut total = Eras::default();
            let mut eras = Vec::new();
            for part in [&stamps[..cut], &stamps[cut..]] {
                let mut first = FirstStamps::default();
                let mut inside = Eras::default();
                let within: Vec<Era> = part
                    .iter()
                    .map(|stamp| {
                        first.note(stamp);
                        inside.step(stamp)
                    })
                    .collect();
                let start = total.join(&first, &inside);
                eras.extend(within.into_iter().map(|era| era.after(start)));
            }
            // A part's start era is that of its first stamp of each kind; both kinds step by then.
            assert_eq!(eras.last(), expected.last(), "cut at {cut}");
            assert_eq!(total.era(), whole.era(), "cut at {cut}");
        }
    }

    #[test]
    fn a_stamp_far_from_both_neighbours_is_off_but_a_gap_is_not() {
        let (a, b) = (time("2026-01-01T00:00:00Z"), time("2026-01-01T00:00:10Z"));
        assert!(is_outlier(a, time("1970-01-01T00:00:05Z"), b));
        assert!(is_outlier(a, time("2036-01-01T00:00:05Z"), b));
        assert!(!is_outlier(a, time("2026-01-01T12:00:00Z"), b));
        let later = time("2026-01-09T00:00:00Z");
        assert!(!is_outlier(a, time("2026-01-05T00:00:00Z"), later));
    }
}
