//! From lines of a log, as they are written, to evidence that bears the time of inputs.
//!
//! A record's own stamp counts, and not its arrival: what is read after a restart, or after somebody
//! else's log was caught up with, happened when it says. A stamp of the future becomes now. A record
//! that bears no time bears that of its reading.

use jiff::tz::TimeZone;

use super::super::dating::Dater;
use super::super::lines::{LineFormat, Worker};
use super::super::part::{Part, rule};
use super::super::reorder::HORIZON_MICROS;
use super::begun::Begun;
use super::{Batch, Options};
use crate::decode::clock::Anchor;
use crate::decode::flows::eve;
use crate::decode::kernel_log::{Decoder, Skip};
use crate::model::{Clock, Evidence, LossKind, MICROS_PER_SECOND, Timestamp};
use crate::settings::Ports;

/// Records of one log may stand out of order by this much; what comes later still is late. A connection
/// that is written down when it has ended stands as far behind as it lasted.
const DISORDER: i64 = 10 * MICROS_PER_SECOND;

/// Decodes and dates the lines of a live source.
pub(super) struct Text {
    pub(super) worker: Worker,
    dater: Dater,
    wall_offset: i64,
    /// The latest time that a stamp gave.
    last: Option<Timestamp>,
    begun: Begun,
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
            begun: Begun::new(rule(source, eve::TRANSACTION.as_bytes())),
        }
    }

    /// Watches `ports` from now on.
    pub(super) fn watch(&mut self, ports: &Ports) {
        let decoder = std::mem::replace(&mut self.worker.decoder, Decoder::new([]));
        self.worker.decoder = decoder.watching(ports.as_slice());
        self.worker.ports.clone_from(ports);
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

    /// Hands in what was read of the source at `now`; `are_connections`: which are written down when they
    /// have ended.
    pub(super) fn take(
        &mut self,
        part: &Part,
        are_connections: bool,
        now: Timestamp,
        batch: &mut Batch,
    ) {
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
        let (offset, last, begun) = (self.wall_offset, &mut self.last, &mut self.begun);
        let disorder = if are_connections {
            HORIZON_MICROS
        } else {
            DISORDER
        };
        self.dater.join(part, |mut evidence, clock| {
            let (time, clock) = match clock {
                Clock::Exact => (evidence.time().plus_micros(-offset), clock),
                Clock::Approximate | Clock::None => (now, Clock::Approximate),
            };
            evidence.set_time(time.min(now));
            if let Evidence::Syn(observation) = &mut evidence {
                observation.clock = clock;
            }
            if are_connections && !begun.is_new(&evidence) {
                return;
            }
            let is_late = clock == Clock::Exact && is_late(time, now, disorder, last);
            if is_late && matches!(evidence, Evidence::Syn(_)) {
                batch.late.push(batch.evidence.len());
            }
            batch.evidence.push(evidence);
        });
    }
}

/// Whether a record that bears `time` stands by more than `disorder` behind the `last`: nobody can tell
/// what it belonged to, so it counts and never scores. A stamp of the future says nothing of others.
fn is_late(time: Timestamp, now: Timestamp, disorder: i64, last: &mut Option<Timestamp>) -> bool {
    if last.is_some_and(|last| last.micros_since(time) > disorder) {
        return true;
    }
    if time <= now {
        *last = (*last).max(Some(time));
    }
    false
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
        text.take(&part, false, now, &mut batch);
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
    fn what_comes_too_late_is_said_to_be() {
        let mut text = text();
        let lines = [
            line("2026-03-10T13:34:30Z"),
            line("2026-03-10T13:34:25Z"),
            line("2026-03-10T13:00:00Z"),
            // What a clock that was wrong has written makes nothing else late.
            line("2027-03-10T13:00:00Z"),
            line("2026-03-10T13:34:22Z"),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let batch = taken(&mut text, &lines, NOW);
        assert_eq!(
            times(&batch),
            [-3, -8, -2073, 0, -11].map(|seconds| (seconds, Clock::Exact))
        );
        assert_eq!(batch.late, [2]);
    }

    /// Seconds before NOW at which attempts of an EVE log are handed in, and which of them are late.
    fn connections(text: &mut Text, lines: &[String]) -> (Vec<i64>, Vec<usize>) {
        let mut batch = Batch::default();
        let mut format = LineFormat::told_by(lines[0].as_bytes());
        let each = lines.iter().map(String::as_bytes);
        let part = text.worker.part(each, &mut format);
        text.take(&part, format.is_written_at_the_end(), NOW, &mut batch);
        let syns = batch.evidence.iter().filter_map(|evidence| match evidence {
            Evidence::Syn(syn) => Some(NOW.micros_since(syn.time) / MICROS_PER_SECOND),
            Evidence::Response(_) => None,
        });
        (syns.collect(), batch.late)
    }

    fn stamp(before: i64) -> String {
        let time = NOW.plus_micros(-before * MICROS_PER_SECOND).as_micros();
        jiff::Timestamp::from_microsecond(time)
            .unwrap()
            .strftime("%Y-%m-%dT%H:%M:%S.%6f+0000")
            .to_string()
    }

    fn transaction(port: u16, at: i64) -> String {
        format!(
            r#"{{"timestamp":"{}","event_type":"smtp","src_ip":"192.168.1.23","src_port":{port},"dest_ip":"203.0.113.9","dest_port":25,"proto":"TCP","smtp":{{"helo":"x"}}}}"#,
            stamp(at)
        )
    }

    fn connection(port: u16, from: i64, to: i64) -> String {
        format!(
            r#"{{"timestamp":"{}","event_type":"flow","src_ip":"192.168.1.23","src_port":{port},"dest_ip":"203.0.113.9","dest_port":25,"proto":"TCP","flow":{{"start":"{}","end":"{}","state":"closed"}},"tcp":{{"tcp_flags":"1b","tcp_flags_ts":"1b","tcp_flags_tc":"1b","syn":true,"state":"closed"}}}}"#,
            stamp(to),
            stamp(from),
            stamp(to)
        )
    }

    #[test]
    fn a_connection_stands_as_far_behind_as_it_lasted() {
        let lines = [
            connection(1, 7000, 6999),
            connection(2, 3000, 2999),
            connection(3, 6000, 2998),
            connection(4, 6700, 2998),
            connection(5, 2990, 2989),
        ];
        assert_eq!(
            connections(&mut text(), &lines),
            // Each SYN is followed by what became of it.
            (vec![7000, 3000, 6000, 6700, 2990], vec![6])
        );
    }

    #[test]
    fn what_was_told_of_a_connection_while_it_lasted_is_told_once() {
        let lines = [
            transaction(1, 900),
            transaction(1, 600),
            transaction(2, 500),
            transaction(1, 300),
            connection(1, 905, 290),
            // Another between the same ends.
            transaction(1, 200),
            connection(2, 501, 190),
            connection(1, 201, 100),
            connection(1, 90, 80),
        ];
        assert_eq!(
            connections(&mut text(), &lines),
            (vec![900, 500, 200, 90], vec![])
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
