//! What is packed, or summed up by blocks, is told as if it were read row by row.

use super::retention::{DAY, at, days, host, keep, total};
use super::*;
use crate::model::Outcome;
use crate::store::changes::{AttemptKey, Identity, Row, minute};

/// Numbers that look like any.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn seconds(&mut self, below: i64) -> i64 {
        self.roll(below.unsigned_abs()).cast_signed()
    }

    /// What came in so many hours, an hour after the other; some of it late.
    fn hours(&mut self, hours: i64, each: u64) -> Vec<Changes> {
        (0..hours)
            .map(|hour| {
                let mut changes = Changes {
                    at: at(hour * 3600 + 3599),
                    identities: (1..6).map(host).collect::<Vec<Identity>>(),
                    is_heartbeat: true,
                    ..Changes::default()
                };
                for _ in 0..each {
                    let late = match self.roll(10) {
                        0 => self.seconds(6 * DAY),
                        1 => self.seconds(DAY / 2),
                        _ => 0,
                    };
                    let seconds = (hour * 3600 + self.seconds(3600) - late).max(0);
                    changes.attempts.push(self.row(at(seconds)));
                }
                changes
            })
            .collect()
    }

    fn row(&mut self, time: Timestamp) -> (AttemptKey, Row) {
        let server = u8::try_from(self.roll(40)).unwrap();
        let direction = usize::from(self.roll(8) == 0);
        let key = AttemptKey {
            minute: minute(time),
            identity: u32::try_from(self.roll(5)).unwrap(),
            direction: Direction::ALL[direction],
            destination: match server {
                0..5 => [0x2001, 0xdb8, server.into(), 0, 0, 0, 0, 1].into(),
                _ => [203, 0, server / 4, server].into(),
            },
            port: [25, 587][usize::from(self.roll(5) == 0)],
        };
        let mut row = Row::new(time);
        row.tally.add(
            time.plus_micros(self.seconds(9_000_000)),
            self.roll(4),
            self.roll(9),
        );
        let ends = [
            Outcome::Unknown,
            Outcome::Answered,
            Outcome::Refused,
            Outcome::Unanswered,
        ];
        let [before, after] = [0, 0].map(|_| ends[usize::try_from(self.roll(4)).unwrap()]);
        row.ended.replace(before, after);
        row.ended.sent = self.seconds(100);
        (key, row)
    }
}

/// Writes it, as it came where `is_live`, or else all on the first day; and does what is due then.
fn write(folder: &Path, retention: Retention, batches: &[Changes], is_live: bool) {
    for day in batches.chunks(24) {
        let writer = Writer::start(folder, at(0), retention).unwrap();
        for batch in day {
            let mut batch = batch.clone();
            if !is_live {
                batch.at = at(0);
            }
            writer.submit_in_turn(batch);
        }
        assert_eq!(writer.finish(), (Unwritten::default(), Vec::new()));
        if let Some(last) = day.last().filter(|_| is_live) {
            keep(folder, retention, last.at);
        }
    }
}

/// What is read of a window and ports, devices in the order of their ids.
fn read(folder: &Path, window: Window, ports: &[u16]) -> Past {
    let asked = Asked {
        window,
        ports: ports.to_vec(),
        ..asked()
    };
    let mut past = Past::read(folder, &asked).unwrap();
    past.devices.sort_by(|a, b| a.id.cmp(&b.id));
    past
}

/// Windows within so many seconds, the first without an end.
fn windows(dice: &mut Dice, seconds: i64) -> Vec<(Window, Vec<u16>)> {
    let mut windows = vec![(Window::default(), vec![])];
    for number in 0..if is_soak() { 400 } else { 40 } {
        let mut ends = [0, 0].map(|_| dice.seconds(seconds));
        ends.sort_unstable();
        let [since, until] = ends.map(|end| (dice.roll(6) > 0).then(|| at(end)));
        let ports = match number % 3 {
            0 => vec![],
            1 => vec![25],
            _ => vec![587, 465],
        };
        windows.push((Window { since, until }, ports));
    }
    windows
}

#[test]
fn what_is_packed_is_told_as_row_by_row() {
    let retention = Retention {
        detail: days(300),
        ..Retention::default()
    };
    for seed in 1..4 {
        let mut dice = Dice(seed);
        let batches = dice.hours(24 * 8, 60);
        let (packed, plain) = (folder(), folder());
        write(packed.path(), retention, &batches, true);
        write(plain.path(), retention, &batches, false);
        let count = |folder: &TempDir, table| {
            total(folder.path(), &format!("SELECT count(*) FROM {table}"))
        };
        // The days before the last, some in several parts, for some came later.
        assert_eq!(
            total(packed.path(), "SELECT count(DISTINCT day) FROM packed"),
            7
        );
        assert!(total(packed.path(), "SELECT max(part) FROM packed") > 0);
        assert!(count(&packed, "attempts") > 0);
        assert_eq!(count(&plain, "packed"), 0);
        let whole = read(plain.path(), Window::default(), &[]);
        assert!(
            whole
                .devices
                .iter()
                .any(|device| device.peak_per_minute > 5)
        );
        for (window, ports) in windows(&mut dice, 8 * DAY) {
            let packed = read(packed.path(), window, &ports);
            let plain = read(plain.path(), window, &ports);
            assert_eq!(packed.devices, plain.devices, "{window:?} {ports:?}");
            assert_eq!(
                (packed.window, packed.ports, packed.unreadable),
                (plain.window, plain.ports, 0)
            );
            // What came late for the same minute and server is another row.
            assert!(packed.rows >= plain.rows);
        }
    }
}

#[test]
fn blocks_are_told_as_their_days() {
    let retention = Retention {
        detail: days(3),
        days: days(80),
        ..Retention::default()
    };
    let mut dice = Dice(9);
    let batches = dice.hours(24 * 150, 6);
    let folder = folder();
    write(folder.path(), retention, &batches, true);
    assert_eq!(
        total(folder.path(), "SELECT count(DISTINCT day) FROM days"),
        77
    );
    assert!(total(folder.path(), "SELECT count(DISTINCT day) FROM blocks") >= 2);
    let windows = windows(&mut dice, 150 * DAY);
    let by_blocks: Vec<Past> = windows
        .iter()
        .map(|(window, ports)| read(folder.path(), *window, ports))
        .collect();
    let use_none = "UPDATE marks SET value = 1 << 40 WHERE name = 'blocks'";
    let changed = Connection::open(folder.path().join(FILE))
        .unwrap()
        .execute(use_none, [])
        .unwrap();
    assert_eq!(changed, 1);
    for ((window, ports), by_blocks) in windows.iter().zip(by_blocks) {
        let by_days = read(folder.path(), *window, ports);
        assert_eq!(by_blocks.devices, by_days.devices, "{window:?} {ports:?}");
        assert_eq!(
            (by_blocks.rows, by_blocks.summed, by_blocks.window),
            (by_days.rows, by_days.summed, by_days.window)
        );
    }
}

#[test]
fn a_blob_that_is_damaged_is_counted() {
    let folder = folder();
    write(
        folder.path(),
        Retention::default(),
        &Dice(5).hours(48, 20),
        true,
    );
    let whole = read(folder.path(), Window::default(), &[]);
    let changed = Connection::open(folder.path().join(FILE))
        .unwrap()
        .execute("UPDATE packed SET details = x'ff' WHERE device = 1", [])
        .unwrap();
    let past = read(folder.path(), Window::default(), &[]);
    assert_eq!(past.unreadable, changed as u64);
    assert!(changed > 0 && past.rows < whole.rows);
}
