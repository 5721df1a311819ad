//! Whole hosts: what is simulated is what the profiles say, and what comes of it is the same each time.

use std::collections::HashSet;

use super::chance::{Chance, DAY};
use super::profile::{PROFILES, Profile};
use super::run::{Judge, Setting, run_host};
use super::tally::{Row, Tally};
use super::traffic::{Deed, Ending, Event, Traffic};
use crate::model::{Detector, Group, MICROS_PER_SECOND, Timestamp};
use crate::settings::Settings;

/// A Monday.
const START: Timestamp = Timestamp::from_seconds(1_767_571_200);

fn profile(name: &str) -> &'static Profile {
    Profile::named(name).unwrap()
}

/// What a host of that profile does in so many days.
fn events(name: &str, host: u64, days: i64) -> Vec<(Timestamp, Event)> {
    let profile = profile(name);
    let mut chance = Chance::new(7, name, host);
    let behaviour = profile.behaviour(&mut chance);
    Traffic::new(behaviour, chance, START, START.plus_micros(days * DAY)).collect()
}

/// SYNs, attempts, those that fail, and groups.
fn counts(events: &[(Timestamp, Event)]) -> [u32; 4] {
    let syns = events.iter().filter_map(|(_, event)| match event {
        Event::Syn(syn) => Some(syn),
        Event::Other(_) => None,
    });
    let attempts: Vec<_> = syns.clone().filter(|syn| syn.number == 0).collect();
    let failed = attempts
        .iter()
        .filter(|syn| !matches!(syn.ending, Ending::Answered(_)));
    let groups: HashSet<Group> = attempts
        .iter()
        .map(|syn| Group::of(syn.destination))
        .collect();
    [syns.count(), attempts.len(), failed.count(), groups.len()]
        .map(|count| u32::try_from(count).unwrap())
}

#[test]
fn honest_hosts_do_what_their_profiles_say() {
    let week = |name| counts(&events(name, 3, 7));
    assert_eq!(week("printer"), [60, 60, 0, 1]);
    // The last one's SYNs go on when the week is over.
    let [syns, attempts, failed, groups] = week("printer-blocked");
    assert_eq!([attempts, failed, groups], [7 * 288, 7 * 288, 1]);
    assert_eq!(syns, 7 * 288 * 11);
    assert_eq!(week("printer-blocked-3")[0], 7 * 288 * 3);
    assert_eq!(week("byod"), [150, 150, 0, 4]);
    assert_eq!(week("hosted"), [200, 200, 0, 8]);
    let [_, attempts, failed, groups] = week("newsletter");
    assert_eq!([attempts, failed, groups], [5_000, 0, 1]);
    let [_, attempts, _, groups] = week("probe");
    assert_eq!([attempts, groups], [7 * 288 * 20, 20]);
    let [_, attempts, _, groups] = week("camera");
    assert!(
        (1_400..1_800).contains(&attempts) && groups == 1,
        "{attempts}"
    );
}

#[test]
fn honest_hosts_that_meet_others_do_so_as_often_as_it_is_said() {
    let [_, attempts, failed, groups] = counts(&events("mail-server", 1, 28));
    // 200 a day, and 8 % again.
    assert!((5_600..6_500).contains(&attempts), "{attempts}");
    assert!((330..460).contains(&failed), "{failed}");
    // Of popularities that fall so, 6,000 draws reach about 400.
    assert!((330..480).contains(&groups), "{groups}");
    let admin: u32 = (0..50)
        .map(|host| counts(&events("admin", host, 28))[3])
        .sum();
    // 50 hosts, 4 weeks, 4 in the mean.
    assert!((650..950).contains(&admin), "{admin}");
    let roaming: u32 = (0..50)
        .map(|host| counts(&events("roaming", host, 30))[3])
        .sum();
    assert!((150..260).contains(&roaming), "{roaming}");
}

#[test]
fn bots_try_as_often_fail_as_often_and_go_where_they_have_not_been() {
    for (name, per_hour, failing, new) in [
        ("storm", 1_200.0, 0.3, 0.86),
        ("neris", 40.0, 0.7, 0.86),
        ("blocked", 60.0, 1.0, 0.86),
        ("emotet", 311.0, 0.0, 0.86),
        ("relay", 3_600.0, 0.3, 0.0),
        ("evader", 10.0, 0.3, 0.2),
    ] {
        let [_, attempts, failed, groups] = counts(&events(name, 1, 2));
        let share = |count: u32| f64::from(count) / f64::from(attempts);
        let rate = f64::from(attempts) / 48.0;
        assert!(
            (rate / per_hour - 1.0).abs() < 0.2,
            "{name}: {rate} an hour"
        );
        assert!(
            (share(failed) - failing).abs() < 0.06,
            "{name}: {failed} failed"
        );
        assert!(
            (share(groups) - new).abs() < 0.06,
            "{name}: {groups} groups"
        );
    }
}

#[test]
fn what_befalls_a_host_comes_in_its_time() {
    let moves = |name| {
        let events = events(name, 1, 7);
        let is_move = |(_, event): &&(_, Event)| matches!(event, Event::Other(Deed::Move(_)));
        events.iter().filter(is_move).count()
    };
    assert_eq!(moves("byod-dhcp"), 7);
    assert_eq!(moves("byod-ipv6"), 7);
    assert_eq!(moves("storm-dhcp"), 7 * 144);
    let steps = events("byod-clock", 1, 4).into_iter();
    let steps: Vec<i64> = steps
        .filter_map(|(_, event)| match event {
            Event::Other(Deed::Step(micros)) => Some(micros),
            _ => None,
        })
        .collect();
    assert_eq!(steps.len(), 4);
    assert_eq!(steps.iter().sum::<i64>(), 0);
}

#[test]
fn all_traffic_is_in_order_and_goes_outside() {
    for profile in &PROFILES {
        let mut last = START;
        let mut chance = Chance::new(1, profile.name, 1);
        let behaviour = profile.behaviour(&mut chance);
        let end = START.plus_micros(20 * DAY);
        for (time, event) in Traffic::new(behaviour, chance, START, end).take(20_000) {
            assert!(last <= time && time < end, "{}", profile.name);
            last = time;
            if let Event::Syn(syn) = event {
                let is_private = crate::model::Networks::private().contains(syn.destination);
                assert!(!is_private, "{}: {}", profile.name, syn.destination);
            }
        }
        assert!(
            last.micros_since(START) > 60 * MICROS_PER_SECOND,
            "{}",
            profile.name
        );
    }
}

fn setting(judges: &[&str]) -> Setting {
    Setting {
        settings: Settings::default(),
        judges: judges
            .iter()
            .map(|name| Judge::named(name).unwrap())
            .collect(),
        seed: 1,
        days: 28,
        has_names: false,
        has_lookups: false,
    }
}

/// The rows of that many hosts.
fn rows(name: &str, hosts: u64, setting: &Setting) -> Vec<Row> {
    let profile = profile(name);
    let mut tally = Tally::default();
    (0..hosts).for_each(|host| tally.add(run_host(profile, host, setting)));
    let judges = setting.judges.iter().enumerate();
    judges
        .map(|(place, judge)| tally.row(profile, *judge, place))
        .collect()
}

#[test]
fn a_blocked_printer_fools_those_who_count_lines() {
    let setting = setting(&["volume", "burst", "count-100", "count-500", "trw", "pf"]);
    let found: Vec<u64> = rows("printer-blocked", 3, &Setting { days: 3, ..setting })
        .iter()
        .map(|row| row.found)
        .collect();
    assert_eq!(found, [0, 0, 3, 3, 0, 0]);
}

#[test]
fn one_relay_is_seen_by_volume_alone_of_ours_and_nothing_is_blocked_for_it() {
    let setting = setting(&["novelty", "burst", "volume"]);
    let rows = rows("relay", 5, &setting);
    let found: Vec<u64> = rows.iter().map(|row| row.found).collect();
    assert_eq!(found, [0, 0, 5]);
    assert_eq!(rows[2].attempts.map(|it| it.median), Some(200));
}

#[test]
fn each_bot_is_found_as_soon_as_the_arithmetic_says() {
    let setting = setting(&["novelty"]);
    // The median of the attempts, within how much of the prototype's or of what follows from the test.
    for (name, median) in [
        ("srizbi", 8..=10),
        ("megad", 8..=10),
        ("xarvester", 8..=10),
        ("grum", 8..=10),
        ("pushdo", 8..=10),
        ("rustock", 8..=10),
        ("storm", 8..=10),
        ("storm-dhcp", 8..=10),
        ("storm-ipv6", 8..=10),
        ("storm-clock", 8..=10),
        ("emotet", 8..=10),
        ("neris", 8..=10),
        ("blocked", 8..=10),
        ("low", 9..=11),
        ("snail", 16..=20),
        ("drip", 30..=40),
        ("drip-new", 26..=36),
        ("evader", 44..=48),
        ("evader-86", 50..=62),
    ] {
        let rows = rows(name, 30, &setting);
        let [row] = rows.as_slice() else {
            panic!("{} rows", rows.len());
        };
        assert_eq!(row.found, 30, "{name}");
        let attempts = row.attempts.unwrap().median;
        assert!(median.contains(&attempts), "{name}: {attempts}");
        // Whatever address it has by then: the block is the device's.
        assert_eq!(row.answered_after, 0, "{name}");
        let is_blocked_upstream = row.answered_before.unwrap().p95 == 0;
        assert_eq!(is_blocked_upstream, name == "blocked");
    }
}

#[test]
fn honest_hosts_are_left_alone() {
    let mut setting = setting(&["novelty"]);
    for (name, hosts) in [
        ("printer", 60),
        ("printer-blocked", 1),
        ("printer-blocked-3", 1),
        ("nas", 30),
        ("camera", 5),
        ("byod", 60),
        ("byod-dhcp", 30),
        ("byod-ipv6", 30),
        ("byod-clock", 30),
        ("hosted", 60),
        ("newsletter", 2),
        ("roaming", 60),
        ("mail-server-allowed", 3),
    ] {
        let row = &rows(name, hosts, &setting)[0];
        assert_eq!((row.found, row.host_days), (0, 28 * hosts), "{name}");
        assert!(row.per_host_day_bound95 < 0.11, "{name}");
    }
    // Three accounts over nine networks, by the names that the DNS gives them, and without.
    setting.has_names = true;
    assert_eq!(rows("byod-3", 60, &setting)[0].found, 0);
    setting.has_names = false;
    let row = &rows("byod-3", 300, &setting)[0];
    println!("byod-3 without names: {} in {}", row.found, row.host_days);
    assert!(row.found * 1_000 <= row.host_days, "{} found", row.found);
    // What acts as a bot does is taken for one until somebody says what it is.
    for name in ["probe", "mail-server"] {
        assert_eq!(rows(name, 3, &setting)[0].found, 3, "{name}");
    }
}

#[test]
fn a_rival_blocks_an_address_and_a_bot_that_moves_gets_away() {
    let setting = setting(&["ntopng"]);
    let answered_after = |name| rows(name, 5, &setting)[0].answered_after;
    assert_eq!(answered_after("storm"), 0);
    // Two hundred attempts take about ten minutes, after which it has another address.
    assert!(answered_after("storm-dhcp") > 0);
}

#[test]
fn the_same_seed_makes_the_same_hosts_and_another_one_others() {
    let setting = setting(&["burst", "volume", "trw", "nemea"]);
    for name in ["storm", "byod-3", "mail-server"] {
        assert_eq!(rows(name, 3, &setting), rows(name, 3, &setting));
    }
    let first = run_host(profile("storm"), 0, &setting);
    assert_ne!(run_host(profile("storm"), 1, &setting), first);
    let other = Setting { seed: 2, ..setting };
    assert_ne!(run_host(profile("storm"), 0, &other), first);
}

#[test]
fn who_is_allowed_is_found_by_none_of_ours() {
    let setting = Setting {
        days: 2,
        ..setting(&["novelty", "burst", "volume", "nemea"])
    };
    let found = |name| {
        rows(name, 2, &setting)
            .iter()
            .map(|row| row.found)
            .collect::<Vec<_>>()
    };
    assert_eq!(found("probe-allowed"), [0, 0, 0, 2]);
    assert_eq!(found("probe")[1], 2);
}

#[test]
fn detectors_are_found_by_the_names_they_have() {
    for judge in Judge::all() {
        assert_eq!(
            Judge::named(judge.name()).map(Judge::name),
            Some(judge.name())
        );
    }
    for detector in Detector::ALL {
        assert_eq!(Judge::Own(detector).name(), detector.to_string());
    }
}
