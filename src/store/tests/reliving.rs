//! What the history tells an engine that judges it anew.

use super::retention::keep;
use super::*;
use crate::engine::{OutcomeCounts, PastAttempt};
use crate::model::Scope;

/// All that is told of a window, by device.
fn told(folder: &Path, asked: &ReliveAsked) -> (Relived, Vec<(String, PastAttempt)>, usize) {
    let mut attempts = Vec::new();
    let mut contacts = 0;
    let relived = relive(folder, asked, &mut |told| match told {
        Told::Attempt(device, attempt) => attempts.push((device.key.to_string(), *attempt)),
        Told::Contact(..) => contacts += 1,
    });
    (relived.unwrap(), attempts, contacts)
}

fn all() -> ReliveAsked {
    ReliveAsked {
        since: START,
        until: START.plus_micros(60 * 86_400_000_000),
    }
}

/// An engine that has run over what the history tells.
fn relived(folder: &Path) -> Engine {
    let settings = Settings {
        scope: Scope::Outbound,
        ..Settings::default()
    };
    let mut engine = Engine::new(settings, LeaseBook::default(), 9);
    let told = relive(folder, &all(), &mut |told| match told {
        Told::Attempt(device, attempt) => drop(engine.relive(device, attempt).len()),
        Told::Contact(device, contact) => engine.recall(device, contact),
    });
    assert_eq!(told.unwrap().unreadable, 0);
    engine
}

#[test]
fn every_attempt_is_told_once_and_in_order() {
    let folder = folder();
    let engine = watch(folder.path(), traffic::inputs(3, START, 4000));
    let (relived, attempts, contacts) = told(folder.path(), &all());
    assert_eq!((relived.unreadable, contacts), (0, 0));
    assert_eq!(relived.known_since, Some(START));
    assert!(attempts.is_sorted_by_key(|(_, attempt)| attempt.time));
    assert_eq!(relived.attempts, attempts.len() as u64);
    for (_, device) in engine.devices() {
        let key = device.key.to_string();
        let own = attempts.iter().filter(|(of, _)| *of == key);
        let mut outcomes = OutcomeCounts::default();
        let count = own.inspect(|(_, it)| outcomes.add(it.outcome, 1)).count();
        assert_eq!(count as u64, device.attempts);
        assert_eq!(outcomes, device.outcomes());
    }
}

#[test]
fn judged_anew_it_is_what_it_was() {
    for seed in 0..5 {
        let folder = folder();
        let before = watch(folder.path(), traffic::syns(seed, START, 3000));
        let again = relived(folder.path());
        let verdicts = |engine: &Engine| {
            let devices = engine.devices();
            let mut all: Vec<_> = devices
                .map(|(_, it)| {
                    let findings = it.findings.iter();
                    let novelty = findings.filter(|f| f.detector.verdict() == Verdict::Infected);
                    let at: Vec<_> = novelty.map(|f| (f.at.as_seconds(), f.new_groups)).collect();
                    (it.key.to_string(), it.attempts, it.verdict(), at)
                })
                .collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        };
        let was = verdicts(&before);
        let is = verdicts(&again);
        assert!(
            was.iter()
                .any(|(_, _, verdict, _)| *verdict == Verdict::Infected)
        );
        for now in is {
            // The history cannot tell which attempts bear no time of their own, which are not judged.
            let then = was.iter().find(|then| then.0 == now.0).unwrap();
            if then.0 != "192.168.1.3" {
                assert_eq!(*then, now);
            }
        }
    }
}

#[test]
fn what_is_packed_is_told_like_the_rest() {
    let folder = folder();
    watch(folder.path(), traffic::syns(5, START, 3000));
    let late = START.plus_micros(1_000_000_000);
    let before = told(folder.path(), &all());
    keep(
        folder.path(),
        Retention::default(),
        START.plus_micros(3 * 86_400_000_000),
    );
    let unpacked = Connection::open(folder.path().join(FILE))
        .unwrap()
        .query_row("SELECT count(*) FROM attempts", [], |row| {
            row.get::<_, i64>(0)
        });
    assert_eq!(unpacked.unwrap(), 0, "all is packed");
    let after = told(folder.path(), &all());
    let sorted = |mut all: Vec<(String, PastAttempt)>| {
        all.sort_by_key(|(key, it)| (it.time, key.clone(), it.destination, it.port));
        all
    };
    let summed = after.0.summed;
    assert_eq!(Relived { summed, ..before.0 }, after.0);
    assert_eq!(sorted(before.1), sorted(after.1));
    // What comes late for a day that is packed stands beside it.
    watch(folder.path(), traffic::syns(6, late, 50));
    let (_, attempts, _) = told(folder.path(), &all());
    assert!(attempts.is_sorted_by_key(|(_, attempt)| attempt.time));
    assert!(attempts.len() > after.0.attempts.try_into().unwrap());
}

#[test]
fn of_what_has_no_detail_any_more_the_groups_are_told() {
    let folder = folder();
    watch(folder.path(), traffic::syns(7, START, 2000));
    let later = START.plus_micros(10 * 86_400_000_000);
    watch(folder.path(), traffic::syns(8, later, 2000));
    let short = Retention {
        detail: Duration::from_secs(2 * 86_400),
        ..Retention::default()
    };
    keep(folder.path(), short, later.plus_micros(3_600_000_000));
    let asked = ReliveAsked {
        since: later,
        ..all()
    };
    let (relived, attempts, _) = told(folder.path(), &asked);
    assert!(relived.summed.is_some_and(|summed| summed > START));
    assert!(attempts.iter().all(|(_, attempt)| attempt.time >= later));
    assert!(!attempts.is_empty());
}
