//! The only room that looks at a clock.
//!
//! Live, inputs bear a time that never steps: the time of day when the run began, and what has
//! elapsed since by `CLOCK_BOOTTIME`, sleep included (`clock_gettime(2)`). How far the time of day is
//! ahead of it is an input of its own.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::engine::Input;
use crate::model::{MICROS_PER_SECOND, Notice, Timestamp};

/// A step of the time of day that is worth a word; below, it is a clock being disciplined.
const STEP: i64 = MICROS_PER_SECOND;
/// A drift of the time of day that is followed.
const DRIFT: i64 = 10_000;

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "this is the clock's room")]
pub(crate) fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
}

/// A moment to measure elapsed time from.
#[expect(clippy::disallowed_methods, reason = "this is the clock's room")]
pub(crate) fn moment() -> Instant {
    Instant::now()
}

/// The clock of a live run.
#[derive(Debug)]
pub(crate) struct LiveClock {
    start: Reading,
    last: Reading,
    /// The time of day, less the time that inputs bear.
    offset: i64,
}

/// What the kernel's clocks say, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    wall: i64,
    boot: i64,
    monotonic: i64,
}

/// Clocks that were read within this are taken to have been read at once.
const AT_ONCE: i64 = 1_000;
/// How often that is tried: a program may be stopped between two of them.
const MAX_READINGS: usize = 5;

impl Reading {
    fn now() -> Self {
        let mut best = Self::once();
        for _ in 1..MAX_READINGS {
            if best.1 <= AT_ONCE {
                break;
            }
            let next = Self::once();
            if next.1 < best.1 {
                best = next;
            }
        }
        best.0
    }

    /// A reading, and how long it took.
    fn once() -> (Self, i64) {
        let boot = read(ClockId::CLOCK_BOOTTIME);
        let reading = Self {
            wall: now().as_micros(),
            monotonic: read(ClockId::CLOCK_MONOTONIC),
            boot,
        };
        (reading, read(ClockId::CLOCK_BOOTTIME) - boot)
    }
}

/// Every kernel that runs this has these clocks; 0 would only make the run's time stand still.
fn read(clock: ClockId) -> i64 {
    let elapsed = clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
    i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
}

impl LiveClock {
    /// A run that begins now.
    pub(crate) fn start() -> Self {
        Self::at(Reading::now())
    }

    fn at(start: Reading) -> Self {
        Self {
            start,
            last: start,
            offset: 0,
        }
    }

    /// The time that inputs bear.
    pub(crate) fn now(&self) -> Timestamp {
        self.time(read(ClockId::CLOCK_BOOTTIME))
    }

    fn time(&self, boot: i64) -> Timestamp {
        Timestamp::from_micros(self.start.wall.saturating_add(boot - self.start.boot))
    }

    /// What happened to the clocks since they were looked at last.
    pub(crate) fn check(&mut self) -> Vec<Input> {
        self.compare(Reading::now())
    }

    fn compare(&mut self, reading: Reading) -> Vec<Input> {
        let mut inputs = Vec::new();
        let slept = |r: Reading| r.boot - r.monotonic;
        let micros = slept(reading) - slept(self.last);
        if micros >= STEP {
            inputs.push(Input::Notice(Notice::Suspended { micros }));
        }
        let offset = reading.wall - self.time(reading.boot).as_micros();
        let micros = offset - self.offset;
        if micros.abs() >= DRIFT {
            self.offset = offset;
            inputs.push(Input::WallClock(offset));
        }
        if micros.abs() >= STEP {
            inputs.push(Input::Notice(Notice::ClockStepped { micros }));
        }
        self.last = reading;
        inputs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Reading = Reading {
        wall: 1_000_000_000,
        boot: 500,
        monotonic: 500,
    };

    fn later(wall: i64, boot: i64, monotonic: i64) -> Reading {
        Reading {
            wall: START.wall + wall,
            boot: START.boot + boot,
            monotonic: START.monotonic + monotonic,
        }
    }

    #[test]
    fn clocks_that_agree_say_nothing() {
        let mut clock = LiveClock::at(START);
        let second = MICROS_PER_SECOND;
        assert_eq!(clock.compare(later(second, second, second)), []);
        assert_eq!(clock.time(START.boot + 7).as_micros(), START.wall + 7);
    }

    #[test]
    fn a_step_is_said_once_and_moves_no_input() {
        let mut clock = LiveClock::at(START);
        let year = 365 * 86_400 * MICROS_PER_SECOND;
        let stepped = [
            Input::WallClock(year),
            Input::Notice(Notice::ClockStepped { micros: year }),
        ];
        assert_eq!(clock.compare(later(year + 1000, 1000, 1000)), stepped);
        assert_eq!(clock.compare(later(year + 2000, 2000, 2000)), []);
        assert_eq!(clock.time(START.boot + 2000).as_micros(), START.wall + 2000);
    }

    #[test]
    fn a_clock_that_is_disciplined_is_followed_in_silence() {
        let mut clock = LiveClock::at(START);
        assert_eq!(
            clock.compare(later(50_000, 0, 0)),
            [Input::WallClock(50_000)]
        );
    }

    #[test]
    fn sleep_is_no_step() {
        let mut clock = LiveClock::at(START);
        let hour = 3_600 * MICROS_PER_SECOND;
        let slept = [Input::Notice(Notice::Suspended { micros: hour })];
        assert_eq!(clock.compare(later(hour + 5, hour + 5, 5)), slept);
    }
}
