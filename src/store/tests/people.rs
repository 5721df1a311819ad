//! What the history knows of who was where: outcomes, resuming, who had an address outside, forgetting.

use std::net::IpAddr;

use super::*;
use crate::engine::DeviceState;
use crate::model::{Mac, Response, ResponseKind};
use crate::settings::Retention;
use crate::store::changes::{Identity, Sighting, Translation};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(seconds: i64) -> Timestamp {
    START.plus_micros(seconds * 1_000_000)
}

/// A device as the writer is told of it.
fn identity(number: u8) -> Identity {
    let address = IpAddr::from([10, 0, 0, number]);
    let mac = Mac([2, 0, 0, 0, 0, number]);
    Identity {
        key: format!("eth1/{mac}"),
        mac: Some(mac),
        hostname: Some(format!("host-{number}")),
        interface: Some("eth1".to_owned()),
        basis: "neighbour".to_owned(),
        addresses: vec![address],
        is_shared: false,
        seen_at: (Some(Interface::new(b"eth1")), Some(mac)),
    }
}

fn translation(device: u8, port: u16, first: i64, last: i64) -> Translation {
    let tuple = Tuple {
        source: IpAddr::from([10, 0, 0, device]),
        destination: ip("203.0.113.25"),
        source_port: 40_000,
        destination_port: 25,
    };
    Translation {
        identity: u32::from(device).checked_sub(1),
        tuple,
        outside: Tuple {
            source: ip("198.51.100.1"),
            source_port: port,
            ..tuple
        },
        first: at(first),
        last: at(last),
    }
}

fn submit(folder: &Path, changes: Changes) {
    let writer = Writer::start(folder, START, Retention::default()).unwrap();
    assert!(writer.submit(changes));
    assert_eq!(writer.finish(), (Unwritten::default(), Vec::new()));
}

/// Three devices: each with a connection, the first with a second one later.
fn network(folder: &Path) {
    submit(
        folder,
        Changes {
            at: at(0),
            identities: (1..=3).map(identity).collect(),
            translations: vec![
                translation(1, 1001, 0, 10),
                translation(2, 1002, 60, 3000),
                translation(3, 1003, 86_400, 86_410),
                translation(1, 1004, 7200, 7210),
                translation(0, 1005, 50, 50),
            ],
            sightings: (0..3)
                .map(|identity| Sighting {
                    identity,
                    address: IpAddr::from([10, 0, 0, u8::try_from(identity).unwrap() + 1]),
                    first: at(0),
                    last: at(60),
                })
                .collect(),
            is_heartbeat: true,
            ..Changes::default()
        },
    );
}

fn ask(folder: &Path, when: i64, port: Option<u16>, to: Option<&str>) -> Vec<Option<String>> {
    let asked = WhoAsked {
        public_ip: ip("198.51.100.1"),
        at: at(when),
        within: Duration::from_secs(300),
        port,
        to: to.map(ip),
    };
    let answer = who(folder, &asked).unwrap();
    assert_eq!((answer.dropped, answer.omitted), (0, 0));
    assert_eq!(answer.known, Some((at(10), at(86_410))));
    answer
        .candidates
        .into_iter()
        .map(|it| it.hostname)
        .collect()
}

#[test]
fn who_had_an_address_outside_is_told_by_port_or_by_time() {
    let folder = folder();
    network(folder.path());
    let host = |number: u8| Some(format!("host-{number}"));
    let path = folder.path();
    // By its port it is one, and none where nothing was near.
    assert_eq!(ask(path, 5, Some(1001), None), [host(1)]);
    assert_eq!(ask(path, 2000, Some(1002), None), [host(2)]);
    assert_eq!(ask(path, 3299, Some(1002), None), [host(2)]);
    assert_eq!(ask(path, 3301, Some(1002), None), []);
    assert_eq!(ask(path, 5, Some(1003), None), []);
    // Without it those that had a connection then, the nearest first.
    assert_eq!(ask(path, 5, None, None), [host(1), None, host(2)]);
    assert_eq!(ask(path, 7205, None, None), [host(1)]);
    assert_eq!(ask(path, 5, None, Some("203.0.113.26")), []);
    assert_eq!(ask(path, 7205, None, Some("203.0.113.25")), [host(1)]);
    let answer = who(
        path,
        &WhoAsked {
            public_ip: ip("198.51.100.1"),
            at: at(60),
            within: Duration::from_secs(86_400 * 2),
            port: None,
            to: None,
        },
    )
    .unwrap();
    assert_eq!((answer.connections, answer.candidates.len()), (5, 4));
    let first = answer
        .candidates
        .iter()
        .find(|it| it.hostname == host(1))
        .unwrap();
    assert_eq!((first.connections, first.off_by), (2, 50_000_000));
    assert_eq!((first.first, first.last), (at(0), at(7210)));
    assert_eq!(first.inside, [ip("10.0.0.1")].into());
    assert_eq!(first.ports, [1001, 1004].into());
    assert_eq!(first.destinations, [ip("203.0.113.25")].into());
    assert_eq!(first.mac.as_deref(), Some("02:00:00:00:00:01"));

    audit(path, at(9), "alice", "who", "198.51.100.1").unwrap();
    let noted: (i64, String, String, String) = Connection::open(path.join(FILE))
        .unwrap()
        .query_row("SELECT at, who, verb, details FROM audit", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .unwrap();
    let texts = (
        "alice".to_owned(),
        "who".to_owned(),
        "198.51.100.1".to_owned(),
    );
    assert_eq!(noted, (at(9).as_micros(), texts.0, texts.1, texts.2));
}

#[test]
fn a_connection_that_goes_on_stays_one_row() {
    let folder = folder();
    network(folder.path());
    submit(
        folder.path(),
        Changes {
            at: at(900),
            identities: vec![identity(1)],
            translations: vec![translation(1, 1001, 0, 900)],
            ..Changes::default()
        },
    );
    let answer = who(
        folder.path(),
        &WhoAsked {
            public_ip: ip("198.51.100.1"),
            at: at(600),
            within: Duration::ZERO,
            port: Some(1001),
            to: None,
        },
    )
    .unwrap();
    assert_eq!((answer.connections, answer.candidates[0].off_by), (1, 0));
}

/// Tables that have rows of the device with that hostname.
fn rows_of(folder: &Path, id: i64) -> i64 {
    let connection = Connection::open(folder.join(FILE)).unwrap();
    [
        "attempts",
        "contacts",
        "findings",
        "states",
        "sightings",
        "translations",
    ]
    .iter()
    .map(|table| {
        let sql = format!("SELECT count(*) FROM {table} WHERE device = {id}");
        connection
            .query_row(&sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    })
    .sum()
}

fn id_of(folder: &Path, key: &str) -> Option<i64> {
    Connection::open(folder.join(FILE))
        .unwrap()
        .query_row("SELECT id FROM devices WHERE key = ?1", [key], |row| {
            row.get(0)
        })
        .ok()
}

#[test]
fn a_device_is_forgotten_whole_and_no_other() {
    let folder = folder();
    let engine = watch(folder.path(), traffic::syns(3, START, 2000));
    let bot = engine
        .devices()
        .find(|(_, device)| !device.findings.is_empty())
        .unwrap()
        .1
        .key
        .to_string();
    let id = id_of(folder.path(), &bot).unwrap();
    let others = Past::read(folder.path(), &asked()).unwrap().devices.len() - 1;
    assert!(rows_of(folder.path(), id) > 0);
    let forgotten = forget(folder.path(), &bot, at(5), "root").unwrap();
    assert!(
        forgotten.count() > 100 && forgotten.is_settled,
        "{forgotten:?}"
    );
    assert_eq!(
        (rows_of(folder.path(), id), id_of(folder.path(), &bot)),
        (0, None)
    );
    let past = Past::read(folder.path(), &asked()).unwrap();
    assert_eq!(past.devices.len(), others);
    assert!(past.devices.iter().all(|device| device.id != bot));
    // Neither the file nor its log has its name, nor does the note of who did it.
    for name in names(folder.path()) {
        let bytes = fs::read(folder.path().join(name)).unwrap();
        let held = bytes
            .windows(bot.len())
            .any(|window| window == bot.as_bytes());
        assert!(!held);
    }
    let error = forget(folder.path(), &bot, at(5), "root").unwrap_err();
    assert!(matches!(error, StoreError::NoDevice { .. }), "{error}");
}

#[test]
fn a_name_that_means_several_devices_is_refused() {
    let folder = folder();
    network(folder.path());
    let mut other = identity(9);
    other.addresses = vec![ip("10.0.0.2"), ip("10.0.0.9")];
    let mut twin = identity(1);
    twin.key = "eth2/02:00:00:00:00:01".to_owned();
    twin.addresses = vec![ip("10.0.1.1")];
    submit(
        folder.path(),
        Changes {
            identities: vec![other, twin],
            is_heartbeat: true,
            ..Changes::default()
        },
    );
    for (name, expected) in [
        ("10.0.0.2", "eth1/02:00:00:00:00:09"),
        ("02-00-00-00-00-01", "eth2/"),
    ] {
        let error = forget(folder.path(), name, at(0), "root").unwrap_err();
        assert!(
            matches!(&error, StoreError::Ambiguous { count: 2, .. }),
            "{error}"
        );
        assert!(error.to_string().contains(expected), "{error}");
    }
    for name in ["10.0.0.3", "eth2/02:00:00:00:00:01", "10.0.0.1"] {
        assert_eq!(
            forget(folder.path(), name, at(0), "root")
                .unwrap()
                .rows
                .last(),
            Some(&("devices", 1))
        );
    }
}

#[test]
fn a_device_is_forgotten_while_the_history_is_written() {
    let folder = folder();
    let writer = Writer::start(folder.path(), START, Retention::default()).unwrap();
    let (mut engine, mut gatherer) = (engine(), Gatherer::new());
    for (now, input) in traffic::syns(3, START, 3000) {
        engine.handle(input, now);
        gatherer.note(&engine, now);
        if engine.totals().observations % 100 == 0 {
            writer.submit_in_turn(gatherer.drain(&engine, now));
            sleep(Duration::from_millis(3));
        }
        if engine.totals().observations % 500 == 300 {
            let forgotten = forget(folder.path(), "192.168.1.0", at(5), "root").unwrap();
            assert!(forgotten.count() > 0);
        }
    }
    assert_eq!(writer.finish(), (Unwritten::default(), Vec::new()));
    // It is noted anew when it is seen again, and every row has its device.
    assert!(id_of(folder.path(), "192.168.1.0").is_some());
    let past = Past::read(folder.path(), &asked()).unwrap();
    assert!(past.devices.iter().any(|device| device.id == "192.168.1.0"));
    let orphans: i64 = Connection::open(folder.path().join(FILE))
        .unwrap()
        .query_row(
            "SELECT count(*) FROM attempts WHERE device NOT IN (SELECT id FROM devices)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(orphans, 0);
}

#[test]
fn a_run_resumes_what_the_one_before_knew() {
    let folder = folder();
    assert_eq!(resume(folder.path(), START).unwrap(), Resumed::default());
    let engine = watch(folder.path(), traffic::syns(3, START, 500));
    let last = engine.totals().span.unwrap().1;
    let mut expected: Vec<DeviceState> = engine
        .devices()
        .filter(|(_, device)| device.attempts > 0)
        .map(|(id, _)| engine.device_state(id).unwrap())
        .collect();
    let mut resumed = resume(folder.path(), last).unwrap();
    expected.sort_by_key(|state| state.key);
    resumed.states.sort_by_key(|state| state.key);
    assert_eq!((resumed.states, resumed.unreadable), (expected, 0));

    network(folder.path());
    let resumed = resume(folder.path(), at(60)).unwrap();
    assert_eq!(resumed.held.len(), 3);
    assert!(
        resumed
            .held
            .iter()
            .all(|it| (it.from, it.until) == (at(0), at(60)))
    );
    let later = resume(folder.path(), at(60 + 2 * 86_400 + 1)).unwrap();
    assert_eq!(later.held, []);
    let much_later = resume(folder.path(), at(40 * 86_400)).unwrap();
    assert_eq!(much_later.states, []);

    Connection::open(folder.path().join(FILE))
        .unwrap()
        .execute(
            "UPDATE states SET state = '{\"of\": \"a later version\"}' WHERE device = 1",
            [],
        )
        .unwrap();
    let damaged = resume(folder.path(), at(0)).unwrap();
    assert_eq!(damaged.unreadable, 1);
}

#[test]
fn a_device_that_was_silent_for_an_hour_is_seen_anew() {
    let folder = folder();
    let (mut engine, mut gatherer) = (engine(), Gatherer::new());
    let writer = Writer::start(folder.path(), START, Retention::default()).unwrap();
    for seconds in [0, 30, 60, 3000, 6500, 10_200] {
        engine.handle(syn(at(seconds), 7, 1, 4000), at(seconds));
        gatherer.note(&engine, at(seconds));
        writer.submit_in_turn(gatherer.drain(&engine, at(seconds)));
    }
    assert_eq!(writer.finish(), (Unwritten::default(), Vec::new()));
    let stretches: Vec<(i64, i64)> = Connection::open(folder.path().join(FILE))
        .unwrap()
        .prepare("SELECT first, last FROM sightings ORDER BY first")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let micros = |first, last| (at(first).as_micros(), at(last).as_micros());
    assert_eq!(stretches, [micros(0, 6500), micros(10_200, 10_200)]);
}

#[test]
fn an_outcome_goes_to_the_minute_of_its_attempt() {
    let folder = folder();
    let (mut engine, mut gatherer) = (engine(), Gatherer::new());
    let writer = Writer::start(folder.path(), START, Retention::default()).unwrap();
    engine.handle(syn(at(5), 7, 1, 4000), at(5));
    gatherer.note(&engine, at(5));
    let tuple = engine.added().unwrap().tuple;
    writer.submit_in_turn(gatherer.drain(&engine, at(5)));
    let bytes = Some((700, 300));
    // The last are told by a second source.
    for (seconds, kind, bytes) in [
        (6, ResponseKind::Tracked, None),
        (65, ResponseKind::Unreachable, None),
        (66, ResponseKind::Accepted, None),
        (67, ResponseKind::Established, None),
        (170, ResponseKind::Closed, bytes),
        (170, ResponseKind::Established, None),
        (170, ResponseKind::Closed, bytes),
    ] {
        let response = Response {
            time: at(seconds),
            tuple,
            isn: None,
            kind,
            outside: Some(Tuple {
                source: ip("198.51.100.1"),
                source_port: 2000,
                ..tuple
            }),
            bytes,
        };
        engine.handle(Input::Response(response), at(seconds));
        gatherer.note(&engine, at(seconds));
        writer.submit_in_turn(gatherer.drain(&engine, at(seconds)));
    }
    assert_eq!(writer.finish(), (Unwritten::default(), Vec::new()));
    let row: Vec<i64> = Connection::open(folder.path().join(FILE))
        .unwrap()
        .query_row(
            "SELECT attempts, answered, refused, unreachable, unanswered, held, completed, sent, received FROM attempts",
            [],
            |row| (0..9).map(|column| row.get(column)).collect(),
        )
        .unwrap();
    assert_eq!(row, [1, 1, 0, 0, 0, 0, 1, 700, 300]);
    let past = Past::read(folder.path(), &asked()).unwrap();
    let facts = engine.devices().next().unwrap().1.facts(10);
    assert_eq!(past.devices, [facts]);
    let answer = who(
        folder.path(),
        &WhoAsked {
            public_ip: ip("198.51.100.1"),
            at: at(100),
            within: Duration::ZERO,
            port: Some(2000),
            to: None,
        },
    )
    .unwrap();
    let candidate = &answer.candidates[0];
    assert_eq!((candidate.first, candidate.last), (at(5), at(170)));
    assert_eq!(candidate.device.as_deref(), Some("10.0.0.7"));
}

#[test]
fn what_would_be_forgotten_is_counted_and_stays() {
    let folder = folder();
    network(folder.path());
    let would = would_forget(folder.path(), "10.0.0.1").unwrap();
    assert_eq!(
        ask(folder.path(), 5, Some(1001), None),
        [Some("host-1".to_owned())]
    );
    let again = would_forget(folder.path(), "02:00:00:00:00:01").unwrap();
    assert_eq!(would, again);
    let done = forget(folder.path(), "10.0.0.1", at(90_000), "root (0)").unwrap();
    assert_eq!((done.device, done.rows), (would.device, would.rows));
    assert!(matches!(
        would_forget(folder.path(), "10.0.0.1"),
        Err(StoreError::NoDevice { .. })
    ));
}
