//! What the detectors promise together.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

use proptest::prelude::*;

use super::*;
use crate::model::Detector;

const DAY: i64 = 86_400;

/// How often a loop runs: 5 times, or whole.
fn rounds(whole: u64) -> u64 {
    if std::env::var_os("SMTPWATCH_SOAK").is_some() {
        whole
    } else {
        whole.min(5)
    }
}

/// Numbers that look like chance (`SplitMix64`, Steele et al. 2014).
struct Numbers(u64);

impl Numbers {
    /// From 0 up to and without 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bits = u32::try_from((number ^ (number >> 31)) >> 32).unwrap();
        f64::from(bits) / 4_294_967_296.0
    }

    /// Seconds up to the next of that many events a day that come by chance (Poisson).
    fn pause(&mut self, per_day: f64) -> f64 {
        -(1.0 - self.unit()).ln() * 86_400.0 / per_day
    }
}

pub(super) fn group(index: u32) -> Group {
    Group::of(std::net::Ipv4Addr::from(index << 8).into())
}

/// A device under test: its attempts are counted.
#[derive(Clone, Default)]
pub(super) struct Subject {
    pub(super) detectors: Detectors,
    pub(super) settings: Settings,
    pub(super) attempts: u64,
    pub(super) findings: Vec<Finding>,
}

impl Subject {
    /// An attempt at `second` to a server of that group.
    pub(super) fn contacts(&mut self, second: i64, index: u32) {
        self.attempts += 1;
        let contact = Contact {
            time: Timestamp::from_seconds(second),
            number: self.attempts,
            groups: &[group(index)],
            is_smarthost: false,
            is_against_policy: false,
        };
        self.detectors
            .observe(&contact, &self.settings, &mut self.findings);
    }

    /// A question for mail servers.
    pub(super) fn asks(&mut self, second: i64) {
        let time = Timestamp::from_seconds(second);
        self.detectors
            .lookup(time, self.attempts, &self.settings, &mut self.findings);
    }

    /// What `novelty` said.
    pub(super) fn alarm(&self) -> Option<&Finding> {
        self.findings
            .iter()
            .find(|finding| finding.detector == Detector::Novelty)
    }
}

#[test]
fn a_burst_alarms_at_the_eighth_and_says_since_when() {
    let mut bot = Subject::default();
    for index in 0..8 {
        assert_eq!(bot.alarm(), None);
        bot.contacts(1_700_000_000 + i64::from(index) * 6, index);
    }
    let alarm = bot.alarm().unwrap();
    assert_eq!((alarm.new_groups, alarm.took.as_secs()), (8, 42));
    assert_eq!((alarm.at_attempt, alarm.pace), (8, Some(Pace::Fast)));
    assert!(alarm.score >= alarm.threshold && alarm.score < alarm.threshold + 1.0);
}

#[test]
fn a_bot_that_asks_for_each_server_alarms_at_the_sixth() {
    let mut bot = Subject::default();
    for index in 0..6 {
        assert_eq!(bot.alarm(), None);
        bot.asks(i64::from(index) * 6);
        bot.contacts(i64::from(index) * 6, index);
    }
    let alarm = bot.alarm().unwrap();
    assert_eq!(alarm.pace, Some(Pace::Lookups));
    assert_eq!((alarm.new_groups, alarm.mail_lookups), (6, 6));
}

/// Pauses in a burst of `count` groups that takes 20 minutes at the most, in steps of `step` seconds.
fn bursts(count: usize, step: i64, told: &mut impl FnMut(&[i64])) {
    fn go(
        pauses: &mut Vec<i64>,
        left: i64,
        step: i64,
        count: usize,
        told: &mut impl FnMut(&[i64]),
    ) {
        if pauses.len() + 1 == count {
            told(pauses);
            return;
        }
        for pause in (0..=left).step_by(step as usize) {
            pauses.push(pause);
            go(pauses, left - pause, step, count, told);
            pauses.pop();
        }
    }
    go(&mut Vec::new(), 1_200, step, count, told);
}

/// Invariant: by enumeration of all pauses in steps of 5 minutes; whole, in steps of 100 s.
#[test]
fn any_burst_within_20_minutes_alarms_at_the_eighth() {
    let step = if rounds(100) == 100 { 100 } else { 300 };
    let mut bursts_seen = 0;
    bursts(8, step, &mut |pauses| {
        bursts_seen += 1;
        let mut bot = Subject::default();
        let mut second = 0;
        bot.contacts(second, 0);
        for (index, pause) in (1..).zip(pauses) {
            assert_eq!(bot.alarm(), None, "{pauses:?}");
            second += pause;
            bot.contacts(second, index);
            // What is known by now neither helps nor hurts.
            bot.contacts(second, index / 2);
        }
        let alarm = bot.alarm().expect("an alarm at the eighth");
        assert_eq!(alarm.new_groups, 8, "{pauses:?}");
        assert_eq!(alarm.took.as_secs(), second as u64);
    });
    assert!(bursts_seen >= 330, "{bursts_seen}");
}

#[test]
fn one_group_for_ever_scores_nothing_whatever_is_tried_in_it() {
    let mut device = Subject::default();
    for second in 0..70_000 {
        device.contacts(second, 7);
    }
    assert_eq!(device.alarm(), None);
    let end = Timestamp::from_seconds(70_000);
    assert!(
        device
            .detectors
            .scores(&device.settings, end)
            .iter()
            .all(|(_, score, _)| *score == 0.0)
    );
}

#[test]
fn a_known_service_and_a_smarthost_are_never_new() {
    let mut device = Subject::default();
    for index in 0..60 {
        let contact = Contact {
            time: Timestamp::from_seconds(index.into()),
            number: 1,
            groups: &[group(index)],
            is_smarthost: true,
            is_against_policy: false,
        };
        device
            .detectors
            .observe(&contact, &device.settings, &mut device.findings);
    }
    let service: Vec<Group> = (100..108).map(group).collect();
    for turn in 0..8 {
        let mut groups = service.clone();
        groups.rotate_left(turn);
        let contact = Contact {
            time: Timestamp::from_seconds(100),
            number: 1,
            groups: &groups,
            is_smarthost: false,
            is_against_policy: false,
        };
        device
            .detectors
            .observe(&contact, &device.settings, &mut device.findings);
    }
    assert_eq!(device.alarm(), None);
    assert!(device.detectors.used_for(service[7]).is_some());
    assert_eq!(device.detectors.used_for(group(999)), None);
}

#[test]
fn an_admin_s_sitting_is_no_alarm_however_often_it_comes() {
    // Five strange servers, each asked for, and asked for again, every week.
    let mut admin = Subject::default();
    for week in 0..52_u32 {
        for server in 0..5_u32 {
            let second = i64::from(week) * 7 * DAY + i64::from(server) * 60;
            admin.asks(second);
            admin.asks(second);
            for _ in 0..3 {
                admin.contacts(second, week * 5 + server);
            }
        }
        assert_eq!(admin.alarm(), None, "week {week}");
    }
}

#[test]
fn a_resolver_that_asks_for_everybody_is_no_bot() {
    let mut resolver = Subject::default();
    for second in 0..50_000 {
        resolver.asks(second);
    }
    assert_eq!(resolver.alarm(), None);
    // Nor does it become one by the mail that it sends itself.
    for index in 0..3 {
        resolver.contacts(50_000, index);
        resolver.asks(50_000);
    }
    assert_eq!(resolver.alarm(), None);
}

#[test]
fn questions_never_make_a_bot_slower_to_find() {
    for asked in [0, 1, 8] {
        let mut bot = Subject::default();
        for index in 0..8 {
            if index < asked {
                bot.asks(index.into());
            }
            bot.contacts(index.into(), index);
        }
        assert!(bot.alarm().is_some(), "{asked} asked");
    }
}

#[test]
fn forgiven_it_speaks_again_and_knows_what_it_knew() {
    let mut bot = Subject::default();
    (0..100).for_each(|index| bot.contacts(0, index));
    let (_, score, threshold) = bot.detectors.scores(&bot.settings, Timestamp::default())[0];
    // Bounded, so that it comes to an end: a day later it is below.
    assert!((score - 2.0 * threshold).abs() < 1e-6);
    let later = Timestamp::from_seconds(DAY);
    let (_, score, threshold) = bot.detectors.scores(&bot.settings, later)[0];
    assert!(score < threshold);
    assert_eq!(bot.findings.len(), 2);

    bot.detectors.forgive();
    bot.findings.clear();
    bot.contacts(1, 5);
    let (_, score, _) = bot.detectors.scores(&bot.settings, Timestamp::default())[0];
    assert_eq!((score, bot.findings.len()), (0.0, 0));
    // Nothing is free any more.
    (200..206).for_each(|index| bot.contacts(2, index));
    assert_eq!(bot.alarm().map(|alarm| alarm.new_groups), Some(6));
}

#[test]
fn a_slow_bot_is_found_by_the_slow_clock_and_told_since_when() {
    let mut bot = Subject::default();
    for index in 0..60_u32 {
        bot.contacts(i64::from(index) * DAY / 6, index);
    }
    let alarm = bot.alarm().unwrap();
    assert_eq!(alarm.pace, Some(Pace::Slow));
    assert_eq!(alarm.normal_per_day, Some(1.0));
    // The free ones are days ago, but nothing was forgotten in between.
    assert_eq!(u64::from(alarm.new_groups), alarm.at_attempt);
}

/// Days up to the alarm at a rate of new groups that come by chance.
fn days_to_alarm(seed: u64, per_day: f64) -> f64 {
    let mut numbers = Numbers(seed);
    let mut bot = Subject::default();
    let mut second = 0.0;
    for index in 0.. {
        bot.contacts(second as i64, index);
        if bot.alarm().is_some() {
            break;
        }
        second += numbers.pause(per_day);
    }
    second / 86_400.0
}

/// Invariant: at least 99 % of the seeds within 14 days; with `SMTPWATCH_SOAK=1` of 10,000.
#[test]
fn every_sustained_rate_from_six_a_day_on_is_found_within_14_days() {
    let seeds = rounds(10_000).max(300);
    for per_day in [6.0, 7.0, 8.0, 10.0, 14.0, 24.0, 48.0, 240.0, 2_400.0] {
        let mut days: Vec<f64> = (0..seeds)
            .map(|seed| days_to_alarm(seed, per_day))
            .collect();
        days.sort_by(f64::total_cmp);
        let found = days.partition_point(|days| *days <= 14.0);
        println!(
            "{per_day:>6} a day: {found} of {seeds} within 14 days; median {:.2}, 99 % {:.2} days",
            days[days.len() / 2],
            days[days.len() * 99 / 100],
        );
        assert!(found as u64 * 100 >= seeds * 99, "{per_day} a day: {found}");
    }
}

/// Honest devices at what the slow clock takes for normal; with `SMTPWATCH_SOAK=1` a million days.
#[test]
fn no_honest_device_alarms_at_the_normal_rate() {
    let hosts = rounds(10_000).max(200);
    let mut events: u64 = 0;
    for seed in 0..hosts {
        let mut numbers = Numbers(!seed);
        let mut host = Subject::default();
        let mut second = 0.0;
        while second < 100.0 * 86_400.0 {
            host.contacts(second as i64, events as u32);
            events += 1;
            second += numbers.pause(1.0);
        }
        assert_eq!(host.alarm(), None, "seed {seed}");
    }
    println!("{} host-days, {events} new groups, no alarm", hosts * 100);
    assert!(events > hosts * 90);
}

#[test]
fn a_clock_that_is_set_makes_no_alarm() {
    // Six services of its own, a new one every other day; steps of minutes, days and years.
    for step in [-40 * 365 * DAY, -DAY, -60, -5, 60, DAY, 40 * 365 * DAY] {
        let mut host = Subject::default();
        let mut offset = 0;
        for hour in 0..(60 * 24_u32) {
            if hour % 100 == 50 {
                offset += step;
            }
            let second = i64::from(hour) * 3_600 + offset;
            host.contacts(second, hour % 6);
            if hour % 48 == 0 {
                host.contacts(second, 100 + hour);
            }
        }
        assert_eq!(host.alarm(), None, "{step}");
    }
}

#[test]
fn a_clock_that_is_set_hides_no_bot() {
    for step in [
        -40 * 365 * DAY,
        -DAY,
        -60,
        -5,
        60,
        3_600,
        DAY,
        40 * 365 * DAY,
    ] {
        for at in 0..30 {
            let mut bot = Subject::default();
            for index in 0..30_u32 {
                let offset = if index < at { 0 } else { step };
                bot.contacts(i64::from(index) * 10 + offset, index);
            }
            let alarm = bot.alarm().expect("an alarm in spite of the step");
            // At the worst everything before the step is forgotten.
            assert!(alarm.at_attempt <= 8 + 7, "{step} at {at}: {alarm:?}");
        }
    }
}

#[test]
fn remembered_it_goes_on_bit_by_bit() {
    let mut bot = Subject::default();
    for index in 0..7 {
        bot.asks(i64::from(index) * 7);
        bot.contacts(i64::from(index) * 7, index / 2);
    }
    let text = serde_json::to_string(&bot.detectors).unwrap();
    let back: Detectors = serde_json::from_str(&text).unwrap();
    assert_eq!(back, bot.detectors);
}

/// What some of 100,000 devices do.
fn mixed(number: u32) -> Subject {
    let mut device = Subject::default();
    let mut numbers = Numbers(number.into());
    let (groups, attempts) = match number % 100 {
        // Printers and mail clients; hosted mail; a server; a bot.
        0..70 => (1 + number % 3, 40),
        70..90 => (4 + number % 5, 120),
        90..98 => (30, 190),
        _ => (1_000, 400),
    };
    let mut second = 0.0;
    for _ in 0..attempts {
        let index = (numbers.unit() * f64::from(groups)) as u32;
        device.contacts(second as i64, index);
        second += numbers.pause(600.0);
    }
    device
}

#[test]
fn a_device_takes_at_most_512_bytes_in_the_mean() {
    let devices = if rounds(100) == 100 { 100_000 } else { 5_000 };
    let bytes: usize = (0..devices)
        .map(|number| mixed(number).detectors.bytes())
        .sum();
    let mean = bytes / devices as usize;
    println!(
        "{devices} devices of mixed kind: {mean} bytes each, {} of them inline",
        size_of::<Detectors>()
    );
    assert!(mean <= 512, "{mean}");
    // However busy one is.
    let mut busy = Subject::default();
    for second in 0..5_000 {
        busy.asks(second);
        busy.contacts(second, second as u32);
    }
    assert!(
        busy.detectors.bytes() <= 2_048,
        "{}",
        busy.detectors.bytes()
    );
}

/// A second, and what happens in it: a group that is contacted, or a question.
fn seconds() -> impl Strategy<Value = Vec<Vec<Option<u32>>>> {
    let event = prop_oneof![9 => (0..90_u32).prop_map(Some), 1 => Just(None)];
    prop::collection::vec(prop::collection::vec(event, 0..9), 1..60)
}

/// Feeds it; answers the second of the alarm, and the scores after each second.
fn fed(seconds: &[Vec<Option<u32>>], pause: i64) -> (Option<Timestamp>, Vec<[u64; 3]>) {
    let mut device = Subject::default();
    let mut scores = Vec::new();
    for (second, events) in (0..).zip(seconds) {
        let second = second * pause;
        for event in events {
            match event {
                Some(index) => device.contacts(second, *index),
                None => device.asks(second),
            }
        }
        let now = Timestamp::from_seconds(second);
        scores.push(
            device
                .detectors
                .scores(&device.settings, now)
                .map(|(_, score, _)| score.to_bits()),
        );
    }
    (device.alarm().map(|alarm| alarm.at), scores)
}

proptest! {
    /// Invariant: any order within a second gives the same verdict, the same second of alarm, and the same
    /// scores after it.
    #[test]
    fn the_order_within_a_second_does_not_matter(
        (sorted, shuffled) in seconds().prop_flat_map(|sorted| {
            let shuffled: Vec<_> = sorted
                .iter()
                .map(|events| Just(events.clone()).prop_shuffle())
                .collect();
            (Just(sorted), shuffled)
        }),
        pause in prop_oneof![Just(1_i64), Just(600), Just(40_000), Just(15 * DAY)],
    ) {
        prop_assert_eq!(fed(&sorted, pause), fed(&shuffled, pause));
    }

    /// Whatever is told, and at whatever times, state stays bounded and scores are numbers.
    #[test]
    fn nothing_grows_and_no_score_is_wrong(
        events in prop::collection::vec((any::<i64>(), 0..200_u32, any::<bool>()), 0..400),
    ) {
        let mut device = Subject::default();
        for (second, index, asks) in events {
            if asks {
                device.asks(second);
            } else {
                device.contacts(second, index);
            }
            let now = Timestamp::from_seconds(second);
            for (_, score, threshold) in device.detectors.scores(&device.settings, now) {
                prop_assert!((0.0..=2.0 * threshold + 1e-6).contains(&score));
            }
        }
        prop_assert!(device.detectors.bytes() <= 2_048);
        let text = serde_json::to_string(&device.detectors).unwrap();
        prop_assert_eq!(serde_json::from_str::<Detectors>(&text).unwrap(), device.detectors);
    }
}
