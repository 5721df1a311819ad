//! How long a report takes of a history as large as it gets in a network of a thousand devices.

use super::retention::keep;
use std::env;
use std::path::PathBuf;

use super::*;
use crate::store::changes::{Ended, Tally};
use crate::store::sums::{DayKey, DaySum, add_day};

/// Rows a second, bytes a row, and how long a month of a network with the sums of a year is read. The
/// limit holds for optimised builds: others are given ten times as long.
#[test]
fn a_year_of_a_thousand_devices_is_read_at_once() {
    let (days, sums, devices) = if is_soak() {
        (30, 365, 1000)
    } else {
        (3, 20, 40)
    };
    let kept = env::var_os("SMTPWATCH_BENCH_HISTORY").map(PathBuf::from);
    let folder = folder();
    let folder = kept.as_deref().unwrap_or(folder.path());
    let (mut engine, mut gatherer) = (engine(), Gatherer::new());
    let writer = Writer::start(folder, START, Retention::default()).unwrap();
    let hours = |hour| START.plus_micros(i64::from(hour) * 3_600_000_000);
    let mut batches = Vec::new();
    for hour in 0..days * 24 {
        for device in 0..devices {
            let time = hours(hour).plus_micros(i64::from(device));
            let port = u16::try_from(hour).unwrap() + 1024;
            let input = syn(time, device, ((device % 7) << 8) | (hour % 5), port);
            engine.handle(input, time);
            gatherer.note(&engine, time);
        }
        batches.push(gatherer.drain(&engine, hours(hour)));
    }
    let started = moment();
    for batch in batches {
        writer.submit_in_turn(batch);
    }
    writer.finish();
    let step = keep(folder, Retention::default(), hours(days * 24 - 1));
    let wrote = started.elapsed();
    let rows = days * 24 * devices;
    assert_eq!(super::rows(folder), i64::from(rows));
    let bytes = fs::metadata(folder.join(FILE)).unwrap().len();
    add_days(folder, sums);
    let mut took: Vec<Duration> = (0..5)
        .map(|_| {
            let started = moment();
            let past = Past::read(folder, &asked()).unwrap();
            let took = started.elapsed();
            assert_eq!(past.devices.len(), devices as usize);
            let expected = u64::from(days * 24) + 20 * u64::from(sums);
            assert!(
                past.devices
                    .iter()
                    .all(|device| device.attempts == expected)
            );
            took
        })
        .collect();
    took.sort();
    println!(
        "{rows} rows in batches of {devices}: {} bytes each, written in {wrote:?}, packed in steps of at most {step:?}; with the \
         sums of {sums} days read in {took:?}",
        bytes / u64::from(rows)
    );
    let limit = if cfg!(debug_assertions) { 2000 } else { 200 };
    assert!(took[2] < Duration::from_millis(limit), "{took:?}");
}

/// Adds the sums of so many days before, of each device.
fn add_days(folder: &Path, days: u32) {
    let mut connection = Connection::open(folder.join(FILE)).unwrap();
    let transaction = connection.transaction().unwrap();
    let devices: i64 = transaction
        .query_row("SELECT count(*) FROM devices", [], |row| row.get(0))
        .unwrap();
    let today = START.as_seconds() / 86_400;
    for day in today - i64::from(days)..today {
        for device in 1..=devices {
            let mut tally = Tally::new(Timestamp::from_seconds(day * 86_400));
            tally.add(tally.first.plus_micros(1), 20, 30);
            let ended = Ended {
                outcomes: [10, 4, 1, 1, 0],
                completed: 9,
                sent: 5000,
                received: 3000,
            };
            let sum = DaySum {
                tally,
                ended,
                peak: 3,
                destinations: 4,
                groups: 2,
            };
            let key = DayKey {
                day,
                device,
                direction: 0,
                port: 25,
            };
            add_day(&transaction, &key, &sum).unwrap();
        }
    }
    transaction.commit().unwrap();
}
