//! What the writer promises, on real files: nothing is held up, nothing is lost in silence.

mod loss;
mod migration;
mod packing;
mod people;
mod reading;
mod reliving;
mod retention;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use super::changes::Changes;
use super::writer::Unwritten;
use super::*;
use crate::attribution::leases::LeaseBook;
use crate::engine::{Engine, Input, traffic};
use crate::model::{
    Clock, Direction, Interface, LossKind, Notice, Observation, RuleId, SourceName, Timestamp,
    Tuple, Verdict,
};
use crate::settings::Retention;
use crate::settings::{Settings, Window};

const START: Timestamp = Timestamp::from_seconds(1_700_000_000);
/// Rows of detail, packed or not.
const DETAIL: &str =
    "(SELECT count(*) FROM attempts) + (SELECT coalesce(sum(rows), 0) FROM packed)";
/// Tells a test that runs itself again in another process what to do there.
const ROLE: &str = "SMTPWATCH_TEST_ROLE";
const FOLDER: &str = "SMTPWATCH_TEST_FOLDER";

/// A state directory as it shall be.
fn folder() -> TempDir {
    tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o750))
        .tempdir()
        .unwrap()
}

fn engine() -> Engine {
    Engine::new(Settings::default(), LeaseBook::default(), 7)
}

fn asked() -> Asked {
    Asked {
        window: Window::default(),
        ports: Vec::new(),
        top: 10,
        max_destinations: 1 << 20,
        seed: 3,
    }
}

/// A history that may not grow.
fn small(max_bytes: u64) -> Retention {
    Retention {
        max_bytes,
        ..Retention::default()
    }
}

/// Runs `inputs` through an engine, and writes what it counted in a few batches.
fn watch(folder: &Path, inputs: Vec<(Timestamp, Input)>) -> Engine {
    let mut engine = engine();
    let mut gatherer = Gatherer::new();
    let writer = Writer::start(folder, START, Retention::default()).unwrap();
    let part = inputs.len().div_ceil(5).max(1);
    for (number, (now, input)) in inputs.into_iter().enumerate() {
        engine.handle(input, now);
        gatherer.note(&engine, now);
        if number % part == part - 1 {
            writer.submit_in_turn(gatherer.drain(&engine, now));
            sleep(Duration::from_millis(5));
        }
    }
    let now = engine.totals().span.map_or(START, |(_, last)| last);
    writer.submit_in_turn(gatherer.drain(&engine, now));
    let (unwritten, said) = writer.finish();
    assert_eq!((unwritten, said), (Unwritten::default(), Vec::new()));
    engine
}

/// One batch of an engine that has seen a bot.
fn batch(seed: u64, now: Timestamp) -> Changes {
    let mut engine = engine();
    let mut gatherer = Gatherer::new();
    for (now, input) in traffic::syns(seed, now, 300) {
        engine.handle(input, now);
        gatherer.note(&engine, now);
    }
    gatherer.drain(&engine, now)
}

fn rows(folder: &Path) -> i64 {
    Connection::open(folder.join(FILE))
        .unwrap()
        .query_row(&format!("SELECT ({DETAIL})"), [], |row| row.get(0))
        .unwrap()
}

fn is_whole(folder: &Path) -> bool {
    let connection = Connection::open(folder.join(FILE)).unwrap();
    let answer: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    answer == "ok"
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Waits for `what` to come true, a minute at the most.
fn wait_for(mut what: impl FnMut() -> bool) -> bool {
    (0..6000).any(|_| {
        sleep(Duration::from_millis(10));
        what()
    })
}

#[test]
fn the_history_tells_of_each_device_what_the_engine_knew() {
    for seed in 0..5 {
        let folder = folder();
        let engine = watch(folder.path(), traffic::syns(seed, START, 2000));
        let mut past = Past::read(folder.path(), &asked()).unwrap();
        let mut facts: Vec<_> = engine.devices().map(|(_, d)| d.facts(10)).collect();
        facts.sort_by(|a, b| a.id.cmp(&b.id));
        past.devices.sort_by(|a, b| a.id.cmp(&b.id));
        assert!(facts.iter().any(|f| f.verdict() == Verdict::Infected));
        assert_eq!(past.devices, facts);
        for direction in Direction::ALL {
            let count = engine.totals().direction(direction);
            assert_eq!(past.totals.direction(direction), count);
        }
        assert_eq!(past.totals.span, engine.totals().span);
        assert_eq!(past.totals.unjudged, engine.totals().unjudged);
        assert!(past.lost.is_empty() && past.blinding.is_empty());
        assert_eq!(past.ports.as_slice(), [25, 587]);
    }
}

#[test]
fn two_runs_add_up_and_say_an_alarm_once() {
    let folder = folder();
    let one = watch(folder.path(), traffic::syns(1, START, 500));
    let two = watch(folder.path(), traffic::syns(1, START, 500));
    let past = Past::read(folder.path(), &asked()).unwrap();
    assert_eq!(past.runs.len(), 2);
    let of = |engine: &Engine| engine.totals().direction(Direction::Outbound).attempts;
    assert_eq!(
        past.totals.direction(Direction::Outbound).attempts,
        of(&one) + of(&two)
    );
    for device in &past.devices {
        let mut detectors: Vec<_> = device.findings.iter().map(|f| f.detector).collect();
        detectors.dedup();
        assert_eq!(detectors.len(), device.findings.len());
    }
}

#[test]
fn a_window_counts_whole_minutes_and_ports_are_told_apart() {
    let folder = folder();
    watch(folder.path(), traffic::syns(2, START, 2000));
    let past = |window, ports: &[u16]| {
        let asked = Asked {
            window,
            ports: ports.to_vec(),
            ..asked()
        };
        Past::read(folder.path(), &asked).unwrap()
    };
    let syns = |past: &Past| past.matched;
    let all = past(Window::default(), &[]);
    let middle = START.plus_micros(1_234_567_890);
    let window = |since, until| Window { since, until };
    let before = past(window(None, Some(middle)), &[]);
    let cut = before.window.until.unwrap();
    assert!(cut >= middle && cut.as_seconds() % 60 == 0 && cut.seconds_since(middle) < 60);
    let after = past(window(Some(cut), None), &[]);
    assert!(syns(&before) > 0 && syns(&after) > 0);
    assert_eq!(syns(&before) + syns(&after), syns(&all));
    assert_eq!(
        syns(&past(Window::default(), &[25])) + syns(&past(Window::default(), &[587])),
        syns(&all)
    );
    let none = past(window(None, Some(START.plus_micros(-1_000_000_000))), &[]);
    assert_eq!((none.rows, none.devices.len(), none.runs.len()), (0, 0, 0));
}

#[test]
fn what_was_not_seen_is_in_the_history() {
    let folder = folder();
    let source = SourceName::Nflog;
    let lost = Input::Lost {
        source: source.clone(),
        kind: LossKind::QueueFull,
        events: 40,
    };
    let notice = |notice| Input::Notice(notice);
    let why = "device is down".to_owned();
    let failed = Notice::SourceFailed {
        source: source.clone(),
        why,
    };
    let at = |seconds: i64| START.plus_micros(seconds * 1_000_000);
    watch(
        folder.path(),
        vec![
            (at(0), lost.clone()),
            (at(1), lost),
            (at(2), notice(failed.clone())),
            (at(600), notice(Notice::SourceReady { source })),
        ],
    );
    let past = |since| {
        let window = Window { since, until: None };
        Past::read(folder.path(), &Asked { window, ..asked() }).unwrap()
    };
    let all = past(None);
    assert_eq!(all.lost.len(), 1);
    assert_eq!((all.lost[0].events, &*all.lost[0].kind), (80, "queue full"));
    assert_eq!(all.blinding, [(at(2), failed.clone())]);
    // What had failed before and still had not come back limits what came after.
    assert_eq!(past(Some(at(300))).blinding, [(at(2), failed)]);
    assert_eq!(past(Some(at(900))).blinding, []);
}

#[test]
fn the_gatherer_is_bounded_and_says_what_it_leaves_out() {
    let folder = folder();
    let mut engine = engine();
    let mut gatherer = Gatherer::with_room(20);
    for (now, input) in traffic::syns(4, START, 1000) {
        engine.handle(input, now);
        gatherer.note(&engine, now);
    }
    let changes = gatherer.drain(&engine, START);
    assert!(changes.attempts.len() <= 20 && changes.identities.len() <= 20);
    let counted: u64 = changes.count();
    let totals = engine.totals();
    let all = Direction::ALL.map(|direction| totals.direction(direction).attempts);
    assert_eq!(counted, all.iter().sum::<u64>());
    let writer = Writer::start(folder.path(), START, Retention::default()).unwrap();
    assert!(writer.submit(changes));
    assert_eq!(writer.finish().0, Unwritten::default());
    let past = Past::read(folder.path(), &asked()).unwrap();
    assert_eq!(
        (&*past.lost[0].source, &*past.lost[0].kind),
        ("history", "rows")
    );
    assert!(past.lost[0].events > 100);
    assert!(gatherer.drain(&engine, START).is_empty());
}

#[test]
fn times_are_of_the_day() {
    let folder = folder();
    let hour = 3_600_000_000;
    let mut inputs = vec![(START, Input::WallClock(hour))];
    inputs.extend(traffic::syns(2, START, 300));
    let engine = watch(folder.path(), inputs);
    let past = Past::read(folder.path(), &asked()).unwrap();
    let (first, last) = engine.totals().span.unwrap();
    let later = |time: Timestamp| time.plus_micros(hour);
    assert_eq!(past.totals.span, Some((later(first), later(last))));
    let bot = past
        .devices
        .iter()
        .find(|d| !d.findings.is_empty())
        .unwrap();
    assert!(bot.findings[0].at >= later(first) && bot.findings[0].at <= later(last));
}

#[test]
fn the_folder_is_for_its_owner_and_group() {
    let folder = folder();
    let state = folder.path().join("a/state");
    Writer::start(&state, START, Retention::default())
        .unwrap()
        .finish();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o750);
    assert_eq!(mode(&state.join(FILE)), 0o640);
    let group = nix::unistd::Group::from_name("smtpwatch").unwrap();
    let own = fs::metadata(folder.path()).unwrap().gid();
    for path in [&state, &state.join(FILE)] {
        let gid = fs::metadata(path).unwrap().gid();
        assert_eq!(gid, group.as_ref().map_or(own, |group| group.gid.as_raw()));
    }
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    let writer = Writer::start(&state, START, Retention::default()).unwrap();
    let told = writer.troubles().unwrap();
    assert!(
        told.contains("its mode is 755") && told.contains("chmod 750"),
        "{told}"
    );
    assert_eq!(mode(&state), 0o755);
    writer.finish();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Writer::start(&file, START, Retention::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("state directory cannot be made"), "{error}");
}

#[test]
fn what_is_no_history_is_set_aside_whole() {
    let foreign = |path: &Path| {
        Connection::open(path)
            .unwrap()
            .execute_batch("CREATE TABLE x (y); INSERT INTO x VALUES (1)")
            .unwrap();
    };
    let noise = |path: &Path| fs::write(path, vec![0x5a; 20_000]).unwrap();
    let cases: [&dyn Fn(&Path); 2] = [&foreign, &noise];
    for make in cases {
        let folder = folder();
        let path = folder.path().join(FILE);
        for turn in 1..3 {
            make(&path);
            let before = fs::read(&path).unwrap();
            assert!(matches!(
                Past::read(folder.path(), &asked()),
                Err(StoreError::Foreign { .. })
            ));
            let writer = Writer::start(folder.path(), START, Retention::default()).unwrap();
            let told = writer.troubles().unwrap();
            assert!(told.contains("set aside as"), "{told}");
            assert_eq!(writer.troubles(), None);
            assert!(writer.submit(batch(1, START)));
            assert_eq!(writer.finish(), (Unwritten::default(), Vec::new()));
            assert!(rows(folder.path()) > 0);
            let names = names(folder.path());
            assert_eq!(names.len(), 1 + turn, "{names:?}");
            assert!(names[1].starts_with("history.sqlite.corrupt-20231114T221320Z"));
            assert_eq!(fs::read(folder.path().join(&names[turn])).unwrap(), before);
            fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn a_file_that_is_damaged_under_the_writer_is_set_aside_too() {
    let folder = folder();
    watch(folder.path(), traffic::syns(1, START, 2000));
    let path = folder.path().join(FILE);
    let mut bytes = fs::read(&path).unwrap();
    // All but the first page, which says what the file is.
    bytes[4096..].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    let writer = Writer::start(folder.path(), START, Retention::default()).unwrap();
    assert!(writer.submit(batch(1, START)));
    let (unwritten, said) = writer.finish();
    assert_eq!(unwritten, Unwritten::default());
    assert!(
        said.iter().any(|line| line.contains("set aside as")),
        "{said:?}"
    );
    assert!(rows(folder.path()) > 0 && is_whole(folder.path()));
}

#[test]
fn a_later_version_is_left_alone() {
    let folder = folder();
    watch(folder.path(), traffic::syns(1, START, 10));
    Connection::open(folder.path().join(FILE))
        .unwrap()
        .execute_batch("PRAGMA user_version = 99")
        .unwrap();
    let error = Writer::start(folder.path(), START, Retention::default()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }));
    let read = Past::read(folder.path(), &asked());
    assert!(matches!(read, Err(StoreError::Newer { .. })));
    let is_aside = |name: &String| name.contains("corrupt");
    assert!(!names(folder.path()).iter().any(is_aside));
}

#[test]
fn a_locked_file_stops_nothing_but_the_writing() {
    let folder = folder();
    watch(folder.path(), traffic::syns(1, START, 10));
    let before = rows(folder.path());
    let lock = Connection::open(folder.path().join(FILE)).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let writer = Writer::start(folder.path(), START, Retention::default()).unwrap();
    let expected = batch(5, START).attempts.len();
    assert!(writer.submit(batch(5, START)));
    let mut told = Vec::new();
    assert!(wait_for(|| {
        told.extend(writer.troubles());
        !told.is_empty()
    }));
    assert!(told[0].contains("locked by another program"), "{told:?}");
    lock.execute_batch("ROLLBACK").unwrap();
    assert!(wait_for(|| {
        told.extend(writer.troubles());
        told.len() > 1
    }));
    assert!(told[1].contains("is written again"), "{told:?}");
    assert_eq!(writer.finish(), (Unwritten::default(), Vec::new()));
    assert!(rows(folder.path()) >= before.max(i64::try_from(expected).unwrap()));
}

#[test]
fn a_lock_that_never_ends_costs_no_more_than_its_bounds() {
    let folder = folder();
    watch(folder.path(), traffic::syns(1, START, 10));
    let lock = Connection::open(folder.path().join(FILE)).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let writer = Writer::start(folder.path(), START, Retention::default()).unwrap();
    let batch = batch(5, START);
    let mut refused = 0;
    for _ in 0..2000 {
        refused += u64::from(!writer.submit(batch.clone()));
    }
    assert!(refused > 0);
    let (unwritten, said) = writer.finish();
    assert_eq!(unwritten.batches, 2000);
    assert_eq!(unwritten.attempts, 2000 * batch.count());
    assert_eq!(said.len(), 2, "{said:?}");
}

/// Runs the test called `name` again in a process of its own, to do there what `role` says.
#[expect(
    clippy::disallowed_methods,
    reason = "a test that runs itself in another process"
)]
fn again(program: &[&str], name: &str, role: &str, folder: &TempDir) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut command = match program {
        [] => Command::new(&this),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(&this);
            command
        }
    };
    command
        .args(["--exact", name, "--nocapture"])
        .env(ROLE, role)
        .env(FOLDER, folder.path());
    command
}

fn role() -> Option<(String, std::path::PathBuf)> {
    Some((std::env::var(ROLE).ok()?, std::env::var_os(FOLDER)?.into()))
}

#[test]
fn a_full_disk_stops_nothing_but_the_writing() {
    let name = "store::tests::a_full_disk_stops_nothing_but_the_writing";
    if let Some((_, folder)) = role() {
        let writer = Writer::start(&folder, START, Retention::default()).unwrap();
        let mut told = Vec::new();
        for seed in 0..2000_u64 {
            let now = START.plus_micros(seed.cast_signed() * 3_600_000_000);
            writer.submit_in_turn(batch(seed, now));
            told.extend(writer.troubles());
            if !told.is_empty() {
                break;
            }
        }
        assert!(told[0].contains("the disk is full"), "{told:?}");
        let written = rows(&folder);
        assert!(written > 0);
        fs::remove_file(folder.join("ballast")).unwrap();
        assert!(wait_for(|| rows(&folder) > written));
        assert!(is_whole(&folder));
        writer.finish();
        return;
    }
    let folder = folder();
    let mount = "mount -t tmpfs -o size=2m,mode=0750 tmpfs \"$SMTPWATCH_TEST_FOLDER\" && \
                 head -c 1600000 /dev/zero >\"$SMTPWATCH_TEST_FOLDER/ballast\" && exec \"$0\" \"$@\"";
    let output = again(&["unshare", "-m", "sh", "-c", mount], name, "fill", &folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn it_is_read_while_it_is_written() {
    let folder = folder();
    let writer = Writer::start(folder.path(), START, Retention::default()).unwrap();
    let mut seen = 0;
    for seed in 0..50 {
        writer.submit_in_turn(batch(
            seed,
            START.plus_micros(seed.cast_signed() * 60_000_000),
        ));
        let past = Past::read(folder.path(), &asked()).unwrap();
        let all: u64 = past.devices.iter().map(|device| device.syns).sum();
        assert!(past.matched >= seen && all <= past.matched);
        seen = past.matched;
        sleep(Duration::from_millis(5));
    }
    assert_eq!(writer.finish(), (Unwritten::default(), Vec::new()));
    assert!(Past::read(folder.path(), &asked()).unwrap().matched >= seen);
}

#[test]
fn there_is_none_where_nobody_wrote() {
    let folder = folder();
    assert!(!Past::is_there(folder.path()).unwrap());
    assert!(matches!(
        Past::read(folder.path(), &asked()),
        Err(StoreError::None { .. })
    ));
    let writer = Writer::start(folder.path(), START, Retention::default()).unwrap();
    assert!(!Past::is_there(folder.path()).unwrap());
    assert!(writer.submit(batch(1, START)));
    writer.finish();
    assert!(Past::is_there(folder.path()).unwrap());
}

/// A SYN of device `who` (of 65,536) to server `where_to`.
fn syn(time: Timestamp, who: u32, where_to: u32, port: u16) -> Input {
    let [_, _, high, low] = who.to_be_bytes();
    let [_, b, c, d] = where_to.to_be_bytes();
    Input::Syn(Observation {
        time,
        clock: Clock::Exact,
        rule: RuleId(1),
        tuple: Tuple {
            source: [10, 0, high, low].into(),
            destination: [45, b, c, d].into(),
            source_port: port,
            destination_port: 25,
        },
        isn: None,
        ip_id: None,
        mac: None,
        interface: Interface::new(b"eth1"),
        ttl: None,
        vlan: None,
        repeats: 0,
    })
}

fn is_soak() -> bool {
    std::env::var_os("SMTPWATCH_SOAK").is_some()
}

#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn moment() -> std::time::Instant {
    std::time::Instant::now()
}

/// What gathering adds to a SYN: of one bot, of its repetitions, and of forged sources. The limit is
/// far above what is measured, for unoptimised builds on busy machines.
#[test]
fn gathering_is_cheap() {
    type Make<'a> = &'a dyn Fn(u32) -> Input;
    let count: u32 = if is_soak() { 1_000_000 } else { 50_000 };
    let micro = |i: u32| START.plus_micros(i64::from(i) * 10);
    let cases: [(&str, Make<'_>); 3] = [
        ("new servers", &|i| syn(micro(i), 1, i, 4000)),
        ("repeated", &|i| syn(micro(i), 1, i % 100, 4000)),
        ("forged", &|i| syn(micro(i), i % 60_000, i, 4000)),
    ];
    for (name, make) in cases {
        let (mut spent, mut clock) = (Duration::ZERO, Duration::ZERO);
        let (mut engine, mut gatherer) = (engine(), Gatherer::new());
        for first in (0..count).step_by(1000) {
            // The engine's own cost is not of interest, nor is the clock's.
            for i in first..(first + 1000).min(count) {
                engine.handle(make(i), micro(i));
                let started = moment();
                gatherer.note(&engine, micro(i));
                spent += started.elapsed();
                let started = moment();
                clock += started.elapsed();
            }
            if first % 100_000 == 0 {
                gatherer.drain(&engine, micro(first));
            }
        }
        let each = spent.saturating_sub(clock) / count;
        println!("gathering, {name}: {each:?} a SYN");
        assert!(each < Duration::from_micros(20), "{name}: {each:?}");
    }
}
