//! From lines of a log, as they are written, to evidence that bears the time of inputs.
//!
//! A record's own stamp counts, and not its arrival: what is read after a restart, or after somebody
//! else's log was caught up with, happened when it says. A stamp of the future becomes now. A record
//! that bears no time bears that of its reading.

use jiff::tz::TimeZone;

use super::super::dating::Dater;
use super::super::lines::{LineFormat, Worker};
use super::super::part::Part;
use super::{Batch, Options};
use crate::decode::clock::Anchor;
use crate::decode::kernel_log::{Decoder, Skip};
use crate::model::{Clock, Evidence, LossKind, MICROS_PER_SECOND, Timestamp};

/// Records of one log may stand out of order by this much; what comes later still is late.
const DISORDER: i64 = 10 * MICROS_PER_SECOND;

/// Decodes and dates the lines of a live source.
pub(super) struct Text {
    pub(super) worker: Worker,
    dater: Dater,
    wall_offset: i64,
    /// The latest time handed in.
    last: Option<Timestamp>,
}

impl Text {
    /// For the source whose rules are told from others' by `source`.
    pub(super) fn new(source: u32, options: &Options) -> Self {
        let decoder = Decoder::new(options.tags.iter().cloned());
        let zone = options.zone.clone().unwrap_or_else(TimeZone::system);
        Self {
            worker: Worker {
                decoder: decoder.watching(options.ports.as_slice()),
                ports: options.ports.clone(),
                input: source,
                format: LineFormat::Log,
                prefixes: options.prefixes.clone(),
            },
            dater: Dater::new(Anchor::at_start(Timestamp::default()), zone),
            wall_offset: 0,
            last: None,
        }
    }

    /// How far the time of day is ahead of the time of inputs.
    pub(super) fn set_wall_offset(&mut self, micros: i64) {
        self.wall_offset = micros;
    }

    /// The time of day at the time `now` of inputs.
    pub(super) fn wall(&self, now: Timestamp) -> Timestamp {
        now.plus_micros(self.wall_offset)
    }

    /// What is read next stands in another file.
    pub(super) fn forget_last_line(&mut self) {
        self.dater.forget_last_line();
    }

    /// Hands in what was read of the source at `now`.
    pub(super) fn take(&mut self, part: &Part, now: Timestamp, batch: &mut Batch) {
        batch.events += part.records;
        // What printk dropped, or journald missed.
        batch.lose(LossKind::Overwritten, part.lost);
        for &(reason, count) in &part.skipped {
            if [Skip::CutOff.reason(), Skip::BadAddress.reason()].contains(&reason) {
                batch.events += count;
                batch.lose(LossKind::Undecoded, count);
            }
        }
        self.dater.go_on(self.wall(now));
        let (offset, last) = (self.wall_offset, &mut self.last);
        self.dater.join(part, |evidence, clock| {
            batch
                .evidence
                .push(placed(evidence, clock, offset, now, last));
        });
    }
}

/// `evidence`, whose stamp is of the time of day, at the time of inputs.
fn placed(
    mut evidence: Evidence,
    clock: Clock,
    offset: i64,
    now: Timestamp,
    last: &mut Option<Timestamp>,
) -> Evidence {
    let mut time = match clock {
        Clock::Exact => evidence.time().plus_micros(-offset).min(now),
        Clock::Approximate | Clock::None => now,
    };
    let mut clock = match clock {
        Clock::Exact => Clock::Exact,
        Clock::Approximate | Clock::None => Clock::Approximate,
    };
    match *last {
        // Nobody can tell what it belonged to: it counts, and never scores.
        Some(last) if last.micros_since(time) > DISORDER => {
            time = last;
            clock = Clock::None;
        }
        _ => *last = (*last).max(Some(time)),
    }
    evidence.set_time(time);
    if let Evidence::Syn(observation) = &mut evidence {
        observation.clock = clock;
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_773_149_673);

    fn taken(text: &mut Text, lines: &[&str], now: Timestamp) -> Batch {
        let mut batch = Batch::default();
        let part = {
            let mut format = text.worker.format.clone();
            let lines = lines.iter().map(|line| line.as_bytes());
            text.worker.part(lines, &mut format)
        };
        text.take(&part, now, &mut batch);
        batch
    }

    fn line(stamp: &str) -> String {
        format!(
            "{stamp} gw kernel: IN=eth1 OUT=eth0 SRC=192.168.1.23 DST=203.0.113.9 LEN=60 TTL=63 ID=1 \
             PROTO=TCP SPT=40000 DPT=25 WINDOW=64240 RES=0x00 SYN URGP=0"
        )
    }

    fn text() -> Text {
        Text::new(
            1,
            &Options {
                zone: Some(TimeZone::UTC),
                ..Options::default()
            },
        )
    }

    fn times(batch: &Batch) -> Vec<(i64, Clock)> {
        let each = batch.evidence.iter().map(|evidence| match evidence {
            Evidence::Syn(syn) => (syn.time.micros_since(NOW) / MICROS_PER_SECOND, syn.clock),
            Evidence::Response(_) => panic!("no response was written"),
        });
        each.collect()
    }

    #[test]
    fn the_stamp_counts_but_not_that_of_the_future() {
        let mut text = text();
        // NOW is 2026-03-10T13:34:33Z.
        let lines = [
            line("2026-03-10T12:34:33Z"),
            line("Mar 10 13:34:31"),
            line("2026-03-10T14:00:00Z"),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let batch = taken(&mut text, &lines, NOW);
        assert_eq!(
            times(&batch),
            [(-3600, Clock::Exact), (-2, Clock::Exact), (0, Clock::Exact)]
        );
        assert_eq!(batch.events, 3);
    }

    #[test]
    fn the_time_of_day_may_be_ahead_of_that_of_inputs() {
        let mut text = text();
        text.set_wall_offset(3600 * MICROS_PER_SECOND);
        let batch = taken(&mut text, &[&line("2026-03-10T14:34:30Z")], NOW);
        assert_eq!(times(&batch), [(-3, Clock::Exact)]);
    }

    #[test]
    fn what_comes_too_late_never_scores() {
        let mut text = text();
        let lines = [
            line("2026-03-10T13:34:30Z"),
            line("2026-03-10T13:34:25Z"),
            line("2026-03-10T13:00:00Z"),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let batch = taken(&mut text, &lines, NOW);
        assert_eq!(
            times(&batch),
            [(-3, Clock::Exact), (-8, Clock::Exact), (-3, Clock::None)]
        );
    }

    #[test]
    fn a_log_that_is_followed_for_years_keeps_the_year() {
        let mut text = text();
        assert_eq!(
            times(&taken(&mut text, &[&line("Mar 10 13:34:33")], NOW)),
            [(0, Clock::Exact)]
        );
        let year = NOW.plus_micros(365 * 86_400 * MICROS_PER_SECOND);
        let later = times(&taken(&mut text, &[&line("Mar 10 13:34:32")], year));
        assert_eq!(later, [(365 * 86_400 - 1, Clock::Exact)]);
    }

    #[test]
    fn other_rules_records_do_not_count() {
        let options = Options {
            prefixes: vec![b"smtpwatch: ".to_vec()],
            zone: Some(TimeZone::UTC),
            ..Options::default()
        };
        let mut text = Text::new(1, &options);
        let ours = line("2026-03-10T13:34:30Z").replace("IN=", "[  12.345678] smtpwatch: IN=");
        let batch = taken(&mut text, &[&ours, &line("2026-03-10T13:34:30Z")], NOW);
        assert_eq!((batch.events, batch.evidence.len()), (1, 1));
    }
}
