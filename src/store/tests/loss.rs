//! A writer that is killed: what was handed in a second before is there, and nothing is there by half.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread;

use super::retention::{DAY, at, days, keep, retention, total};
use super::*;
use crate::store::retention::Keeper;

/// SYNs in each batch.
const EACH: u64 = 20;
/// Batches a second.
const RATE: u64 = 100;

/// Devices' attempts, and everybody's.
fn counts(folder: &Path) -> (u64, u64) {
    let past = Past::read(folder, &asked()).unwrap();
    let devices = past.devices.iter().map(|device| device.attempts).sum();
    (devices, past.totals.direction(Direction::Outbound).attempts)
}

/// Says so, and packs, sums up and deletes until it is killed, or there is nothing more to do.
fn tidy(folder: &Path) {
    let (mut connection, _) = schema::open(folder, at(5 * DAY), u64::MAX).unwrap();
    let mut keeper = Keeper::new(retention());
    keeper.open(&connection).unwrap();
    keeper.look(&connection, at(5 * DAY)).unwrap();
    std::io::Write::write_all(&mut std::io::stdout(), b"it begins\n").unwrap();
    while keeper.has_tasks() {
        keeper.step(&mut connection).unwrap();
    }
}

#[test]
fn nothing_counts_twice_when_it_is_killed_while_it_packs_or_sums_up() {
    let name =
        "store::tests::loss::nothing_counts_twice_when_it_is_killed_while_it_packs_or_sums_up";
    if let Some((_, folder)) = role() {
        tidy(&folder);
        return;
    }
    let whole = folder();
    let keep_all = Retention {
        detail: days(300),
        ..Retention::default()
    };
    // Only what the writer does between batches is packed so far.
    super::retention::write(whole.path(), keep_all, 0..24 * 5, 200);
    let all = counts(whole.path());
    assert_eq!(all, (2 * 200 * 24 * 5, 2 * 200 * 24 * 5));
    let copy = || {
        let to = folder();
        fs::copy(whole.path().join(FILE), to.path().join(FILE)).unwrap();
        to
    };
    let undisturbed = copy();
    let started = moment();
    keep(undisturbed.path(), retention(), at(5 * DAY));
    let took = started.elapsed();
    let (turns, mut in_the_middle) = (if is_soak() { 100 } else { 5 }, 0);
    for turn in 0..turns {
        let folder = copy();
        let mut child = again(&[], name, "tidy", &folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("it begins")));
        sleep(took * turn / turns);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(counts(folder.path()), all, "turn {turn}");
        let summed = total(folder.path(), "SELECT count(*) FROM days");
        let packed = total(folder.path(), "SELECT count(*) FROM packed");
        in_the_middle += u32::from(packed > 0 && summed < 6);
        keep(folder.path(), retention(), at(5 * DAY));
        assert_eq!(counts(folder.path()), all, "turn {turn}");
        assert_eq!(total(folder.path(), "SELECT count(*) FROM days"), 6);
        assert!(is_whole(folder.path()));
    }
    println!("{turns} kills within {took:?}, {in_the_middle} of them in the middle");
    assert!(in_the_middle > 0);
}

fn source() -> SourceName {
    SourceName::File("count".to_owned())
}

/// Hands in a batch each few milliseconds, as a live run does, and says so; each notes its number as the
/// position of a source. Ends by being killed; should that not happen, by itself.
fn write(folder: &Path, first: u64) {
    let writer = Writer::start(folder, START, Retention::default()).unwrap();
    let (mut engine, mut gatherer) = (engine(), Gatherer::new());
    let mut line = String::new();
    for number in first..first + 60 * RATE {
        let now = START.plus_micros(number.cast_signed() * 1_000_000);
        for place in 0..EACH {
            let to = u32::try_from((number * EACH + place) & 0xff_ffff).unwrap();
            engine.handle(syn(now, u32::try_from(place).unwrap(), to, 4000), now);
            gatherer.note(&engine, now);
        }
        gatherer.position(&source(), number.to_string());
        writer.submit_in_turn(gatherer.drain(&engine, now));
        line.clear();
        line += &format!("handed in {number}\n");
        std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes()).unwrap();
        sleep(Duration::from_millis(1000 / RATE));
    }
}

#[test]
fn a_writer_that_is_killed_loses_a_second_at_most() {
    let name = "store::tests::loss::a_writer_that_is_killed_loses_a_second_at_most";
    if let Some((first, folder)) = role() {
        write(&folder, first.parse().unwrap());
        return;
    }
    let turns = if is_soak() { 200 } else { 5 };
    let folder = folder();
    let (mut first, mut worst) = (1, 0);
    for turn in 0..turns {
        let mut child = again(&[], name, &first.to_string(), &folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let handed = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&handed);
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(number) = line.split("handed in ").nth(1) {
                    told.lock()
                        .unwrap()
                        .push((moment(), number.parse::<u64>().unwrap()));
                }
            }
        });
        assert!(
            wait_for(|| !handed.lock().unwrap().is_empty()),
            "turn {turn}"
        );
        sleep(Duration::from_millis(1100 + turn * 37 % 200));
        let killed = moment();
        child.kill().unwrap();
        child.wait().unwrap();
        reader.join().unwrap();
        let handed = handed.lock().unwrap();
        let due = handed
            .iter()
            .rfind(|(when, _)| killed.duration_since(*when) >= Duration::from_secs(1));
        let due = due.expect("something is a second old").1;
        let resumed = resume(folder.path(), START).unwrap();
        let (source, position) = &resumed.positions[0];
        assert_eq!((*source == self::source(), resumed.unreadable), (true, 0));
        let kept: u64 = position.parse().unwrap();
        assert!(kept >= due, "turn {turn}: {kept} is there, {due} should be");
        worst = worst.max(handed.last().unwrap().1.saturating_sub(kept));
        // With the position came all that had come before it, and nothing of what came after.
        let past = Past::read(folder.path(), &asked()).unwrap();
        assert_eq!((past.matched, past.unreadable), (kept * EACH, 0));
        first = kept + 1;
    }
    println!("{turns} kills: at most {worst} batches of a hundredth of a second lost");
    assert!(is_whole(folder.path()));
    let writer = Writer::start(folder.path(), START, Retention::default()).unwrap();
    assert_eq!(writer.finish(), (Unwritten::default(), Vec::new()));
    assert_eq!(names(folder.path()), [FILE]);
}
