//! What is packed, or summed up by blocks, is told as if it were read row by row.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::retention::{DAY, at, days, host, keep, total};
use super::*;
use crate::engine::{DeviceDestinations, Facts, OutcomeCounts};
use crate::model::{Group, Outcome};
use crate::store::changes::{AttemptKey, ENDS, Ended, Identity, Row, minute};
use crate::store::past::Lost;
use crate::store::retention::Keeper;

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
    assert!(changed > 0 && past.unreadable > 10);
    assert_eq!(past.rows + past.unreadable, whole.rows);
    // And when nothing but sums is left.
    keep(folder.path(), Retention::default(), at(40 * DAY));
    assert_eq!(total(folder.path(), "SELECT count(*) FROM packed"), 0);
    let later = read(folder.path(), Window::default(), &[]);
    let damaged = |lost: &Lost| lost.kind == "damaged rows";
    let lost = later.lost.iter().find(|lost| damaged(lost)).unwrap();
    assert_eq!(lost.events, past.unreadable);
}

/// What a device is told to have done in a window, from what came.
fn expected(batches: &[Changes], past: &Past, ports: &[u16]) -> Vec<Facts> {
    let within = |minute: i64| {
        let time = Timestamp::from_seconds(minute * 60);
        past.window.since.is_none_or(|since| time >= since)
            && past.window.until.is_none_or(|until| time < until)
    };
    let known = |place: u32| {
        past.devices
            .iter()
            .find(|it| it.id == host(place + 1).key)
            .cloned()
    };
    (0..5)
        .filter_map(|place| {
            let rows: Vec<_> = batches
                .iter()
                .flat_map(|batch| &batch.attempts)
                .filter(|(key, _)| key.identity == place && within(key.minute))
                .filter(|(key, _)| ports.is_empty() || ports.contains(&key.port))
                .collect();
            let first_seen = rows.iter().map(|(_, row)| row.tally.first).min()?;
            let (mut minutes, mut servers) = (BTreeMap::new(), BTreeMap::new());
            for (key, row) in &rows {
                *minutes.entry(key.minute).or_default() += row.tally.attempts;
                if row.tally.attempts > 0 {
                    *servers.entry(key.destination).or_default() += row.tally.attempts;
                }
            }
            let groups: BTreeSet<_> = servers.keys().map(|it| Group::of(*it)).collect();
            let mut top: Vec<(IpAddr, u64)> = servers.clone().into_iter().collect();
            top.sort_by_key(|(_, attempts)| Reverse(*attempts));
            top.truncate(asked().top);
            let mut ended = Ended::default();
            for (_, row) in &rows {
                ended.add(&row.ended);
            }
            let mut outcomes = OutcomeCounts::default();
            for (outcome, count) in ENDS.into_iter().zip(ended.outcomes) {
                outcomes.add(outcome, u64::try_from(count).unwrap_or(0));
            }
            let attempts = rows.iter().map(|(_, row)| row.tally.attempts).sum();
            Some(Facts {
                attempts,
                syns: rows.iter().map(|(_, row)| row.tally.syns).sum(),
                destinations: DeviceDestinations {
                    addresses: servers.len(),
                    groups: groups.len(),
                    is_lower_bound: false,
                },
                top_destinations: top,
                first_seen,
                last_seen: rows.iter().map(|(_, row)| row.tally.last).max()?,
                peak_per_minute: minutes.into_values().max()?,
                outcomes: outcomes.of_all(attempts),
                completed: u64::try_from(ended.completed).unwrap(),
                bytes: (ended.sent > 0).then(|| (u64::try_from(ended.sent).unwrap(), 0)),
                ..known(place)?
            })
        })
        .collect()
}

#[test]
fn what_is_told_is_what_came() {
    for (seed, detail) in [(11, days(300)), (12, days(3)), (13, days(1))] {
        let retention = Retention {
            detail,
            ..Retention::default()
        };
        let mut dice = Dice(seed);
        let batches = dice.hours(24 * 8, 60);
        let folder = folder();
        write(folder.path(), retention, &batches, true);
        let (mut exact, mut bounds) = (0, 0);
        for (window, ports) in windows(&mut dice, 8 * DAY) {
            let past = read(folder.path(), window, &ports);
            let came = expected(&batches, &past, &ports);
            let ids = |facts: &[Facts]| facts.iter().map(|it| it.id.clone()).collect::<Vec<_>>();
            assert_eq!(ids(&past.devices), ids(&came), "{window:?} {ports:?}");
            for (told, mut came) in past.devices.into_iter().zip(came) {
                if told.destinations.is_lower_bound {
                    // Of sums by day: which servers they were is not known, nor which minutes.
                    bounds += 1;
                    let most = &came.destinations;
                    assert!((1..=most.addresses).contains(&told.destinations.addresses));
                    assert!((1..=most.groups).contains(&told.destinations.groups));
                    assert!((1..=came.peak_per_minute).contains(&told.peak_per_minute));
                    came.destinations = told.destinations.clone();
                    came.top_destinations.clone_from(&told.top_destinations);
                    came.peak_per_minute = told.peak_per_minute;
                } else {
                    exact += 1;
                }
                assert_eq!(told, came, "{window:?} {ports:?}");
            }
        }
        assert!(exact > 0 && (bounds > 0) == (seed != 11));
    }
}

#[test]
fn a_device_is_forgotten_also_while_its_day_is_summed_up() {
    let (folder, others) = (folder(), folder());
    let keep_all = Retention {
        detail: days(300),
        ..Retention::default()
    };
    let retention = Retention {
        detail: days(1),
        ..Retention::default()
    };
    let mut batches = Dice(21).hours(24 * 4, 400);
    write(folder.path(), keep_all, &batches, true);
    // The last device, for a row that is free may be given to another.
    for batch in &mut batches {
        batch.attempts.retain(|(key, _)| key.identity != 4);
        batch.identities.truncate(4);
    }
    write(others.path(), keep_all, &batches, true);

    let (mut connection, _) = schema::open(folder.path(), at(4 * DAY), u64::MAX).unwrap();
    let mut keeper = Keeper::new(retention);
    keeper.open(&connection).unwrap();
    keeper.look(&connection, at(4 * DAY)).unwrap();
    let mut turns = 0;
    while keeper.has_tasks() {
        keeper.step(&mut connection).unwrap();
        let is_summed = "SELECT coalesce(max(value), 0) FROM marks WHERE name = 'summed'";
        if turns < 1 && keeper.summed() > total(folder.path(), is_summed) {
            turns += 1;
            let gone = forget(folder.path(), "10.0.0.5", at(4 * DAY), "root").unwrap();
            let (_, packed) = gone
                .rows
                .iter()
                .find(|(table, _)| *table == "packed")
                .unwrap();
            assert!(*packed > 0);
            let other = "INSERT INTO devices SELECT 5, 'other', mac, hostname, interface, basis, addresses, is_shared, \
                         changed FROM devices WHERE id = 1";
            let connection = Connection::open(folder.path().join(FILE)).unwrap();
            assert_eq!(connection.execute(other, []).unwrap(), 1);
        }
    }
    assert_eq!(turns, 1, "nothing was summed up in several steps");
    keep(others.path(), retention, at(4 * DAY));
    for table in ["attempts", "packed", "days", "blocks", "contacts"] {
        let of = format!("SELECT count(*) FROM {table} WHERE device = 5");
        assert_eq!(total(folder.path(), &of), 0, "{table}");
    }
    let devices = |folder: &TempDir| read(folder.path(), Window::default(), &[]).devices;
    assert_eq!(devices(&folder), devices(&others));
}

/// The worst there is: many devices, each with little.
#[test]
fn no_step_takes_long() {
    let (devices, rows) = if is_soak() {
        (30_000, 300_000)
    } else {
        (2000, 20_000)
    };
    let folder = folder();
    let path = folder.path();
    Writer::start(path, at(0), Retention::default())
        .unwrap()
        .finish();
    let (minute, changed) = (at(0).as_seconds() / 60, at(0).as_micros());
    Connection::open(path.join(FILE))
        .unwrap()
        .execute_batch(&format!(
            "WITH n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {devices}) \
             INSERT INTO devices SELECT n, 'd' || n, NULL, NULL, NULL, 'address', '', 0, {changed} FROM n; \
             WITH n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < {rows} - 1) \
             INSERT INTO attempts (minute, device, direction, port, destination, first, last, attempts, syns) \
             SELECT {minute} + n * 1440 / {rows}, n % {devices} + 1, 0, 25, randomblob(4), {changed} + n * 1000, \
             {changed} + n * 1000, 1, 1 FROM n"
        ))
        .unwrap();
    let attempts = || -> u64 {
        let past = read(path, Window::default(), &[]);
        past.devices.iter().map(|device| device.attempts).sum()
    };
    let retention = Retention {
        detail: days(30),
        days: days(90),
        ..Retention::default()
    };
    let took = [(2, rows), (40, rows), (100, 0)].map(|(day, left)| {
        let took = keep(path, retention, at(day * DAY));
        assert_eq!(attempts(), left);
        took
    });
    assert_eq!(total(path, "SELECT count(*) FROM devices"), 0);
    println!("{devices} devices: packed, summed up and deleted in steps of at most {took:?}");
    // Four steps may be taken after a batch, and four batches, one a second, may wait.
    let limit = if cfg!(debug_assertions) { 10 } else { 1 };
    assert!(took.iter().all(|took| took.as_secs() < limit), "{took:?}");
}
