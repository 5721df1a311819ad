//! What becomes of what is too old, or too much: nothing counts twice, nothing not at all.

use std::ops::Range;

use super::*;
use crate::model::Outcome;
use crate::settings::Retention;
use crate::store::changes::{AttemptKey, Ended, Identity, MinuteKey, Row, Tally, Unseen};
use crate::store::retention::Keeper;

pub(super) const DAY: i64 = 86_400;

pub(super) fn at(seconds: i64) -> Timestamp {
    // The beginning of a day.
    Timestamp::from_seconds(1_700_006_400 + seconds)
}

pub(super) fn host(number: u32) -> Identity {
    Identity {
        key: format!("10.0.0.{number}"),
        mac: None,
        hostname: None,
        interface: None,
        basis: "address".to_owned(),
        addresses: Vec::new(),
        is_shared: false,
        seen_at: (None, None),
    }
}

/// What two devices do in an hour: so many attempts, each to a server of its own.
fn hour(number: i64, each: u8) -> Changes {
    let time = at(number * 3600 + 60);
    let minute = crate::store::changes::minute(time);
    let mut changes = Changes {
        at: time,
        identities: vec![host(1), host(2)],
        is_heartbeat: true,
        ..Changes::default()
    };
    let hour = u8::try_from(number.rem_euclid(24)).unwrap();
    for identity in 0..2 {
        for server in 0..each {
            let mut row = Row::new(time);
            row.tally.add(time, 1, 3);
            row.ended.replace(Outcome::Unknown, Outcome::Answered);
            row.ended.sent = 10;
            let key = AttemptKey {
                minute,
                identity,
                direction: Direction::Outbound,
                destination: [203, 0, hour, server].into(),
                port: 25,
            };
            changes.attempts.push((key, row));
        }
    }
    let mut tally = Tally::new(time);
    tally.add(time, 2 * u64::from(each), 6 * u64::from(each));
    let key = MinuteKey {
        minute,
        direction: Direction::Outbound,
        port: 25,
    };
    changes.minutes.push((key, tally));
    changes.unseen.push(Unseen {
        minute,
        source: "nflog".to_owned(),
        kind: "queue full".to_owned(),
        events: 1,
    });
    changes
}

/// Writes those hours, and does all that is due then. Answers what was said.
pub(super) fn write(
    folder: &Path,
    retention: Retention,
    hours: Range<i64>,
    each: u8,
) -> Vec<String> {
    let writer = Writer::start(folder, at(0), retention).unwrap();
    let end = hours.end;
    for number in hours {
        writer.submit_in_turn(hour(number, each));
    }
    let (unwritten, said) = writer.finish();
    assert_eq!(unwritten, Unwritten::default());
    keep(folder, retention, at((end - 1) * 3600));
    said
}

/// Does all that is due then. Answers how long a step took at the most.
pub(super) fn keep(folder: &Path, retention: Retention, now: Timestamp) -> Duration {
    let (mut connection, message) = schema::open(folder, now, retention.max_bytes).unwrap();
    assert_eq!(message, None);
    let mut keeper = Keeper::new(retention);
    keeper.open(&connection).unwrap();
    keeper.look(&connection, now).unwrap();
    let mut longest = Duration::ZERO;
    while keeper.has_tasks() {
        let started = moment();
        keeper.step(&mut connection).unwrap();
        longest = longest.max(started.elapsed());
    }
    longest
}

pub(super) fn total(folder: &Path, sql: &str) -> i64 {
    Connection::open(folder.join(FILE))
        .unwrap()
        .query_row(&format!("SELECT CAST(({sql}) AS INTEGER)"), [], |row| {
            row.get(0)
        })
        .unwrap()
}

pub(super) fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

pub(super) fn retention() -> Retention {
    Retention {
        detail: days(2),
        days: days(6),
        ..Retention::default()
    }
}

#[test]
fn detail_becomes_sums_by_day_and_they_go_in_their_time() {
    let folder = folder();
    assert_eq!(
        write(folder.path(), retention(), 0..24 * 5, 4),
        Vec::<String>::new()
    );
    let path = folder.path();
    // At the end of the fifth day two and a part are detail.
    assert_eq!(
        total(path, "SELECT min(day) FROM packed") - at(0).as_seconds() / DAY,
        2
    );
    assert_eq!(total(path, "SELECT count(*) FROM days"), 4);
    assert_eq!(
        total(path, "SELECT sum(destinations) FROM days"),
        4 * 24 * 4
    );
    assert_eq!(total(path, "SELECT sum(groups) FROM days"), 4 * 24);
    assert_eq!(total(path, "SELECT max(peak) FROM days"), 4);
    assert_eq!(total(path, "SELECT count(*) FROM day_totals"), 2);
    assert_eq!(total(path, "SELECT count(*) FROM unseen"), 2 + 24 * 3);

    let past = Past::read(path, &asked()).unwrap();
    assert_eq!(past.devices.len(), 2);
    for device in &past.devices {
        assert_eq!((device.attempts, device.syns), (4 * 24 * 5, 3 * 4 * 24 * 5));
        // A bound: the detail of three days has the same servers.
        assert_eq!(
            (device.destinations.addresses, device.destinations.groups),
            (96, 24)
        );
        assert!(device.destinations.is_lower_bound);
        assert_eq!((device.first_seen, device.peak_per_minute), (at(60), 4));
    }
    assert_eq!(
        past.totals.direction(Direction::Outbound).attempts,
        2 * 4 * 24 * 5
    );
    assert_eq!(past.lost[0].events, 24 * 5);
    assert_eq!(past.summed, Some(at(2 * DAY)));

    // Of a day that is summed up all is told, and the window says so.
    let window = Window {
        since: Some(at(DAY + 5000)),
        until: Some(at(3 * DAY)),
    };
    let past = Past::read(path, &Asked { window, ..asked() }).unwrap();
    assert_eq!(past.window.since, Some(at(DAY)));
    assert_eq!(
        past.totals.direction(Direction::Outbound).attempts,
        2 * 4 * 24 * 2
    );
    assert!(past.devices.iter().all(|it| it.attempts == 4 * 24 * 2));
    let window = Window {
        since: Some(at(2 * DAY)),
        until: None,
    };
    let past = Past::read(path, &Asked { window, ..asked() }).unwrap();
    assert_eq!(
        (past.summed, past.devices[0].destinations.is_lower_bound),
        (None, false)
    );

    // Later they are gone as well.
    assert_eq!(
        write(path, retention(), 24 * 20..24 * 20 + 1, 4),
        Vec::<String>::new()
    );
    assert_eq!(total(path, "SELECT count(*) FROM days"), 0);
    assert_eq!(rows(path), 8);
    assert_eq!(total(path, "SELECT count(*) FROM unseen"), 1);
    assert_eq!(total(path, "SELECT count(*) FROM contacts"), 2);
    assert!(is_whole(path));
}

#[test]
fn what_comes_late_is_added_to_the_day() {
    let folder = folder();
    let path = folder.path();
    write(path, retention(), 0..24 * 5, 4);
    // The answer to an attempt of the first day, and an attempt that was late.
    let mut late = hour(0, 1);
    late.at = at(5 * DAY - 3600);
    late.attempts[0].1 = Row {
        tally: Tally::new(at(60)),
        ended: Ended {
            completed: 1,
            ..Ended::default()
        },
    };
    let writer = Writer::start(path, late.at, retention()).unwrap();
    assert!(writer.submit(late));
    writer.finish();
    assert_eq!(total(path, "SELECT sum(completed) FROM days"), 1);
    assert_eq!(
        total(path, "SELECT sum(attempts) FROM days"),
        2 * 4 * 24 * 2 + 1
    );
    let minutes = format!(
        "SELECT count(*) FROM attempts WHERE minute < {}",
        at(2 * DAY).as_seconds() / 60
    );
    assert_eq!(total(path, "SELECT sum(completed) FROM blocks"), 1);
    assert_eq!(total(path, &minutes), 0);
}

#[test]
fn nothing_counts_twice_wherever_it_ends() {
    let folder = folder();
    let path = folder.path();
    let keep_all = Retention {
        detail: days(300),
        ..Retention::default()
    };
    write(path, keep_all, 0..24 * 5, 200);
    let count = || {
        let past = Past::read(path, &asked()).unwrap();
        let devices: u64 = past.devices.iter().map(|it| it.attempts).sum();
        (devices, past.totals.direction(Direction::Outbound).attempts)
    };
    let all = (2 * 200 * 24 * 5, 2 * 200 * 24 * 5);
    assert_eq!(count(), all);
    // Each step is a transaction of its own: each time another keeper begins in the middle.
    let mut connection = Connection::open(path.join(FILE)).unwrap();
    for round in 0..1000 {
        let mut keeper = Keeper::new(retention());
        keeper.open(&connection).unwrap();
        keeper.look(&connection, at(5 * DAY)).unwrap();
        for _ in 0..round % 40 + 3 {
            keeper.step(&mut connection).unwrap();
        }
        if round % 5 == 0 {
            assert_eq!(count(), all, "round {round}");
        }
        if !keeper.has_tasks() {
            assert_eq!(count(), all);
            assert_eq!(total(path, "SELECT count(*) FROM days"), 6);
            assert_eq!(
                total(path, "SELECT min(day) FROM packed"),
                at(3 * DAY).as_seconds() / DAY
            );
            return;
        }
    }
    panic!("it never ends");
}

#[test]
fn detail_is_deleted_of_a_day_that_ends_while_the_last_is_not_done() {
    let folder = folder();
    let path = folder.path();
    let keep_all = Retention {
        detail: days(300),
        ..Retention::default()
    };
    write(path, keep_all, 0..24 * 5, 4);
    let mut connection = Connection::open(path.join(FILE)).unwrap();
    let mut keeper = Keeper::new(retention());
    keeper.open(&connection).unwrap();
    keeper.look(&connection, at(5 * DAY - 1)).unwrap();
    keeper.step(&mut connection).unwrap();
    keeper.look(&connection, at(5 * DAY + 3600)).unwrap();
    while keeper.has_tasks() {
        keeper.step(&mut connection).unwrap();
    }
    let first_day = "SELECT min(day) FROM (SELECT day FROM packed UNION ALL SELECT minute / 1440 FROM attempts)";
    assert_eq!(total(path, first_day), at(3 * DAY).as_seconds() / DAY);
}

#[test]
fn translations_are_bounded_and_the_oldest_are_counted() {
    let folder = folder();
    let writer = Writer::start_with(
        folder.path(),
        at(0),
        Keeper::new(Retention::default()).with_max_translations(1000),
    )
    .unwrap();
    let tuple = Tuple {
        source: [10, 0, 0, 1].into(),
        destination: [203, 0, 113, 1].into(),
        source_port: 4000,
        destination_port: 25,
    };
    for second in 0..30 {
        let translations = (0..100)
            .map(|port| crate::store::changes::Translation {
                identity: None,
                tuple,
                outside: Tuple {
                    source_port: 1000 + port,
                    ..tuple
                },
                first: at(second),
                last: at(second),
            })
            .collect();
        let changes = Changes {
            at: at(second),
            translations,
            ..Changes::default()
        };
        writer.submit_in_turn(changes);
    }
    assert!(wait_for(|| total(
        folder.path(),
        "SELECT count(*) FROM translations"
    ) == 1000));
    writer.finish();
    assert_eq!(
        total(folder.path(), "SELECT min(last) FROM translations"),
        at(20).as_micros()
    );
    let asked = WhoAsked {
        public_ip: tuple.source,
        at: at(25),
        within: Duration::ZERO,
        port: None,
        to: None,
    };
    let answer = who(folder.path(), &asked).unwrap();
    assert_eq!((answer.connections, answer.dropped), (100, 2000));
    // A week later they are gone.
    write(folder.path(), Retention::default(), 24 * 8..24 * 8 + 1, 1);
    assert_eq!(total(folder.path(), "SELECT count(*) FROM translations"), 0);
}

#[test]
fn a_file_that_comes_near_its_limit_loses_its_oldest_detail() {
    let folder = folder();
    let limit = 2 << 20;
    let said = write(folder.path(), small(limit), 0..24 * 10, 255);
    let told = said
        .iter()
        .filter(|it| it.contains("comes near its limit of 2 MB"));
    assert_eq!(told.count(), 1, "{said:?}");
    let past = Past::read(folder.path(), &asked()).unwrap();
    assert!(past.devices.iter().all(|it| it.attempts == 255 * 24 * 10));
    assert!(past.summed.is_some() && rows(folder.path()) > 0);
    assert!(fs::metadata(folder.path().join(FILE)).unwrap().len() <= limit + limit / 16);
    assert!(is_whole(folder.path()));
}

#[test]
fn the_file_shrinks_when_less_is_kept() {
    let folder = folder();
    let path = folder.path();
    let size = || fs::metadata(path.join(FILE)).unwrap().len();
    let writer = Writer::start(path, at(0), Retention::default()).unwrap();
    for number in 0..24 * 10 {
        writer.submit_in_turn(hour(number, 200));
    }
    assert!(wait_for(|| rows(path) == 2 * 200 * 24 * 10));
    writer.retain(retention());
    assert!(writer.submit(hour(24 * 10, 1)));
    assert!(wait_for(|| rows(path) == 2 * 200 * 24 * 2 + 2));
    let pages = "SELECT page_count - 1 FROM pragma_page_count";
    let before = total(path, pages);
    assert!(wait_for(|| {
        total(path, "SELECT freelist_count * 8 FROM pragma_freelist_count")
            <= total(path, pages) + 8 * 256
    }));
    writer.finish();
    assert!(
        size() < u64::try_from(before).unwrap() * 4096 || size() < 4 << 20,
        "{}",
        size()
    );
}
