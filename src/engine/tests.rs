//! The engine's own promises.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

mod dns;
mod live;
mod outcomes;
mod roles;

use proptest::prelude::*;

use super::*;
use crate::model::{DeviceKey, Interface, MICROS_PER_SECOND, RuleId, Scope, Tuple, Verdict};

fn syn(seconds: i64, source: &str, source_port: u16, destination: &str) -> Observation {
    Observation::new(
        Timestamp::from_seconds(seconds),
        RuleId(1),
        Tuple {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            source_port,
            destination_port: 25,
        },
    )
}

fn run(settings: Settings, observations: impl IntoIterator<Item = Observation>) -> Engine {
    let mut engine = Engine::new(settings, LeaseBook::default(), 7);
    for observation in observations {
        engine.handle(Input::Syn(observation), observation.time);
    }
    engine
}

fn outbound(engine: &Engine) -> (u64, u64) {
    let count = engine.totals().direction(Direction::Outbound);
    (count.syns, count.attempts)
}

const PC: &str = "192.168.1.23";
const MX: &str = "203.0.113.9";

/// A bot: a new group each second.
fn bot(source: &'static str, from: i64, count: u8) -> impl Iterator<Item = Observation> {
    (0..count).map(move |i| {
        let destination = format!("203.0.{i}.9");
        syn(
            from + i64::from(i),
            source,
            40_000 + u16::from(i),
            &destination,
        )
    })
}

#[test]
fn retransmissions_are_packets_of_one_attempt() {
    let schedule = [0, 1, 2, 3, 4, 5, 7, 11, 20, 36, 70];
    let engine = run(
        Settings::default(),
        schedule.map(|second| syn(second, PC, 4000, MX)),
    );
    assert_eq!(outbound(&engine), (11, 1));
}

#[test]
fn the_same_ports_after_150_seconds_are_another_attempt() {
    let engine = run(
        Settings::default(),
        [0, 150, 151].map(|second| syn(second, PC, 4000, MX)),
    );
    assert_eq!(outbound(&engine), (3, 2));
}

#[test]
fn sequence_numbers_separate_only_where_both_carry_one() {
    let with = |isn| Observation {
        isn,
        ..syn(0, PC, 4000, MX)
    };
    let separate = run(
        Settings::default(),
        [Some(1), Some(2), Some(1), Some(2)].map(with),
    );
    assert_eq!(outbound(&separate), (4, 2));
    let joined = run(Settings::default(), [Some(1), None, Some(1)].map(with));
    assert_eq!(outbound(&joined), (3, 1));
    let learnt = run(Settings::default(), [None, Some(1), Some(2)].map(with));
    assert_eq!(outbound(&learnt), (3, 2));
}

#[test]
fn a_sequence_number_tells_an_attempt_for_as_long_as_it_is_kept() {
    let at = |second, isn| Observation {
        isn,
        ..syn(second, PC, 4000, MX)
    };
    let numbered = run(
        Settings::default(),
        [at(0, Some(1)), at(160, Some(1)), at(80_000, Some(1))],
    );
    assert_eq!(outbound(&numbered), (3, 1));
    let other = run(Settings::default(), [at(0, Some(1)), at(160, None)]);
    assert_eq!(outbound(&other), (2, 2));
}

#[test]
fn a_source_without_numbers_adds_no_packets_to_one_with() {
    let seen = |second, rule, isn, ip_id| Observation {
        rule: RuleId(rule),
        isn,
        ip_id: Some(ip_id),
        ..syn(second, PC, 4000, MX)
    };
    let pairs = [
        seen(0, 1, None, 10),
        seen(0, 2, Some(1), 10),
        seen(10, 1, None, 11),
        seen(10, 2, Some(2), 11),
    ];
    assert_eq!(outbound(&run(Settings::default(), pairs)), (2, 2));
}

#[test]
fn two_numbers_in_one_second_are_two_packets() {
    let seen = |rule, isn| Observation {
        rule: RuleId(rule),
        isn: Some(isn),
        ..syn(0, PC, 4000, MX)
    };
    assert_eq!(
        outbound(&run(Settings::default(), [seen(1, 1), seen(2, 2)])),
        (2, 2)
    );
}

#[test]
fn a_packet_that_two_rules_log_is_one() {
    let log = |second, rule, ip_id| Observation {
        rule: RuleId(rule),
        ip_id,
        ..syn(second, PC, 4000, MX)
    };
    let twice = [(0, 1), (0, 2), (1, 1), (1, 2)];
    let plain = run(
        Settings::default(),
        twice.map(|(s, rule)| log(s, rule, None)),
    );
    assert_eq!(outbound(&plain), (2, 1));
    // Told apart by their identification, two packets of one second are two.
    let ids = [(0, 1, 10), (0, 2, 10), (0, 1, 11), (0, 2, 11)];
    let with_ids = run(
        Settings::default(),
        ids.map(|(s, rule, id)| log(s, rule, Some(id))),
    );
    assert_eq!(outbound(&with_ids), (2, 1));
}

/// A busy machine reads one source long after another, and several packets at once.
#[test]
fn what_a_source_tells_late_is_counted_once() {
    let seen = |millis: i64, rule, isn| Observation {
        rule: RuleId(rule),
        isn,
        time: Timestamp::from_seconds(0).plus_micros(millis * 1000),
        ..syn(0, PC, 4000, MX)
    };
    let count = |seen: &[Observation]| outbound(&run(Settings::default(), seen.iter().copied()));
    // In another second, where nothing but the time could tell the packets apart.
    assert_eq!(
        count(&[seen(900, 1, Some(1)), seen(2100, 2, Some(1))]),
        (1, 1)
    );
    // Three packets by one, then by the other, of which two are one attempt.
    let one = |rule, numbers: [u32; 3]| {
        [0, 1000, 2000].map(|millis| {
            seen(
                millis,
                rule,
                Some(numbers[usize::try_from(millis / 1000).unwrap()]),
            )
        })
    };
    for numbers in [[1, 1, 1], [1, 1, 2], [1, 2, 2], [1, 2, 3]] {
        let attempts = numbers.iter().max().copied().unwrap().into();
        let both = [one(1, numbers), one(2, numbers)].concat();
        assert_eq!(count(&both), (3, attempts), "{numbers:?}");
    }
    // One that has seen more is believed, and what comes long after is new whoever tells it.
    let more = [0, 1000, 2000, 3000].map(|millis| seen(millis, 1, Some(1)));
    let fewer = [seen(1000, 2, Some(1)), seen(20_000, 2, Some(1))];
    assert_eq!(count(&[&more[..], &fewer].concat()), (5, 1));
}

#[test]
fn repeats_add_packets_and_never_an_attempt() {
    let repeat = |second, repeats| Observation {
        repeats,
        ..syn(second, PC, 4000, MX)
    };
    let known = run(Settings::default(), [syn(0, PC, 4000, MX), repeat(300, 3)]);
    assert_eq!(outbound(&known), (4, 1));
    assert_eq!(known.devices().next().unwrap().1.attempts, 1);
    let orphan = run(Settings::default(), [repeat(0, 3)]);
    assert_eq!(outbound(&orphan), (3, 1));
}

#[test]
fn directions_are_counted_apart_and_only_outbound_scores() {
    let settings = Settings {
        gateway: vec!["198.51.100.1".parse().unwrap()],
        ..Settings::default()
    };
    let engine = run(
        settings,
        [
            syn(0, PC, 1, MX),
            syn(0, MX, 1, PC),
            syn(0, PC, 1, "10.0.0.1"),
            syn(0, PC, 1, "198.51.100.1"),
            syn(0, "198.51.100.1", 1, MX),
            syn(0, "8.8.8.8", 1, MX),
        ],
    );
    let totals = engine.totals();
    let attempts = Direction::ALL.map(|direction| totals.direction(direction).attempts);
    assert_eq!(attempts, [1, 1, 2, 1, 1]);
    assert_eq!(engine.devices().count(), 1);
}

#[test]
fn eight_new_groups_make_a_device_infected() {
    let engine = run(Settings::default(), bot(PC, 0, 8));
    let (_, device) = engine.devices().next().unwrap();
    assert_eq!(device.verdict(), Verdict::Infected);
    assert_eq!(device.findings[0].at_attempt, 8);
    assert_eq!(
        because(device),
        "192.168.1.23 contacted 8 mail servers it never used before in 7 s (limit: about 2 new a day); \
         8 attempts to 8 servers in all, up to 8 a minute; score 19.1 >= 18.4"
    );
    let calm = run(Settings::default(), bot(PC, 0, 7));
    assert_eq!(calm.devices().next().unwrap().1.verdict(), Verdict::Normal);
}

#[test]
fn volume_to_one_server_is_suspicious() {
    let engine = run(
        Settings::default(),
        (0..200).map(|i| syn(i, PC, 1000 + i as u16, MX)),
    );
    let (_, device) = engine.devices().next().unwrap();
    assert_eq!(device.verdict(), Verdict::Suspicious);
    assert_eq!(device.peak_per_minute, 60);
}

#[test]
fn inbound_and_internal_never_score_even_with_every_source_a_device() {
    let settings = Settings {
        scope: Scope::All,
        ..Settings::default()
    };
    let scan = (0..50).map(|i| syn(i.into(), "8.8.8.8", 1000, &format!("10.0.{i}.1")));
    let engine = run(settings.clone(), scan);
    assert_eq!(
        engine.devices().next().unwrap().1.verdict(),
        Verdict::Normal
    );
    let sender = (0..50).map(|i| syn(i.into(), "8.8.8.8", 1000, &format!("9.0.{i}.1")));
    let engine = run(settings, sender);
    assert_eq!(
        engine.devices().next().unwrap().1.verdict(),
        Verdict::Infected
    );
}

#[test]
fn without_a_time_or_too_late_nothing_is_judged() {
    let timeless = bot(PC, 0, 50).map(|observation| Observation {
        clock: Clock::None,
        ..observation
    });
    let engine = run(Settings::default(), timeless);
    assert_eq!(
        engine.devices().next().unwrap().1.verdict(),
        Verdict::Normal
    );
    assert_eq!(engine.totals().unjudged, 50);
    let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 7);
    for observation in bot(PC, 0, 50) {
        engine.handle(Input::LateSyn(observation), Timestamp::from_seconds(1000));
    }
    assert_eq!(
        engine.devices().next().unwrap().1.verdict(),
        Verdict::Normal
    );
    assert_eq!(engine.totals().late, 50);
}

/// A log that is read after a pause tells of what was long ago, in the same pieces as it was.
#[test]
fn syns_of_long_ago_are_repeated_as_any_are() {
    let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 7);
    let repeated: Vec<Observation> = bot(PC, 0, 5).collect();
    for seconds in [0, 1, 3] {
        for observation in &repeated {
            let time = observation.time.plus_micros(seconds * MICROS_PER_SECOND);
            let now = Timestamp::from_seconds(100_000 + seconds);
            engine.handle(
                Input::Syn(Observation {
                    time,
                    isn: None,
                    ..*observation
                }),
                now,
            );
        }
    }
    let totals = engine.totals().direction(Direction::Outbound);
    assert_eq!((totals.attempts, totals.syns), (5, 15));
}

#[test]
fn a_flood_of_forged_sources_is_bounded_and_hides_no_bot() {
    let settings = Settings {
        limits: crate::settings::Limits {
            devices: 100,
            open_attempts: 100,
            destinations: 50,
            unclaimed: 10,
        },
        ..Settings::default()
    };
    let flood = (0..5000_u32).flat_map(|i| {
        let forged = std::net::Ipv4Addr::from(0x0a00_0000 + i).to_string();
        let noise = syn(i64::from(i), &forged, 1, MX);
        let shot = (i % 100 == 0).then(|| {
            syn(
                i64::from(i),
                PC,
                (i % 60_000) as u16,
                &format!("203.0.{}.9", i / 100),
            )
        });
        [Some(noise), shot].into_iter().flatten()
    });
    let engine = run(settings, flood);
    assert_eq!(engine.devices().count(), 100);
    let (_, device) = engine
        .devices()
        .find(|(_, device)| device.key == DeviceKey::Address(PC.parse().unwrap()))
        .unwrap();
    assert_eq!(device.verdict(), Verdict::Infected);
    assert!(device.destinations().is_lower_bound);
    assert!(engine.totals().evicted_devices >= 4900);
    assert!(engine.totals().evicted_attempts > 0);
}

#[test]
fn a_lan_that_claims_nobody_is_noticed() {
    let public = (0..5).map(|i| syn(0, &format!("198.51.100.{i}"), 1, &format!("203.0.{i}.9")));
    let advice = run(Settings::default(), public)
        .unclaimed()
        .advice()
        .unwrap();
    assert_eq!(advice.lan, ["198.51.100.0/24".parse().unwrap()]);
    assert!(advice.gateway.is_empty());
    let inbound = (0..50).map(|i| syn(0, &format!("198.51.{i}.7"), 1, MX));
    let advice = run(Settings::default(), inbound)
        .unclaimed()
        .advice()
        .unwrap();
    assert_eq!(advice.gateway, [MX.parse::<std::net::IpAddr>().unwrap()]);
    assert!(
        run(Settings::default(), bot(PC, 0, 3))
            .unclaimed()
            .advice()
            .is_none()
    );
}

#[test]
fn a_mac_is_told_only_while_all_records_agree() {
    let from = |octet| Observation {
        mac: Some(crate::model::Mac([2, 0, 0, 0, 0, octet])),
        ..syn(0, PC, 1, MX)
    };
    let one = run(Settings::default(), [from(1), from(1)]);
    assert!(one.devices().next().unwrap().1.mac().is_some());
    let two = run(Settings::default(), [from(1), from(2)]);
    assert!(two.devices().next().unwrap().1.mac().is_none());
}

#[test]
fn evidence_follows_the_device_through_its_leases() {
    let leases = "lease 192.168.1.23 {\n  starts 4 1970/01/01 00:00:00;\n  ends 4 1970/01/01 01:00:00;\n  binding state \
                  free;\n  hardware ethernet 02:00:00:00:00:01;\n  client-hostname \"reception\";\n}\n\
                  lease 192.168.1.23 {\n  starts 4 1970/01/01 02:00:00;\n  ends 4 1970/01/01 03:00:00;\n  binding state \
                  active;\n  hardware ethernet 02:00:00:00:00:02;\n}\n\
                  lease 192.168.1.24 {\n  starts 4 1970/01/01 02:00:00;\n  ends 4 1970/01/01 03:00:00;\n  binding state \
                  active;\n  hardware ethernet 02:00:00:00:00:01;\n}\n";
    let leases = LeaseBook::new([crate::decode::dhcp_lease::decode(leases.as_bytes())]);
    let mut engine = Engine::new(Settings::default(), leases, 7);
    for (seconds, source) in [(60, PC), (7260, PC), (7261, "192.168.1.24"), (50_000, PC)] {
        let observation = syn(seconds, source, 1, MX);
        engine.handle(Input::Syn(observation), observation.time);
    }
    let told: Vec<(String, u64, Option<&str>, String)> = engine
        .devices()
        .map(|(_, d)| {
            (
                d.key.to_string(),
                d.attempts,
                d.hostname.as_deref(),
                d.basis.to_string(),
            )
        })
        .collect();
    let row =
        |key: &str, attempts, name, basis: &str| (key.to_owned(), attempts, name, basis.to_owned());
    assert_eq!(
        told,
        [
            row("02:00:00:00:00:01", 2, Some("reception"), "lease"),
            row("02:00:00:00:00:02", 1, None, "lease"),
            row(PC, 1, None, "lease (not valid then)"),
        ]
    );
    let (_, first) = engine.devices().next().unwrap();
    assert_eq!(first.addresses.len(), 2);
}

proptest! {
    /// However often each SYN is sent again, the attempts, the verdict and the moment of alarm stay.
    #[test]
    fn replays_change_no_verdict(count in 1_u8..40, replays in 1_usize..11, gap in 0_i64..500) {
        let plain: Vec<Observation> = bot(PC, 0, count)
            .enumerate()
            .map(|(i, o)| Observation { time: Timestamp::from_seconds(i as i64 * gap), ..o })
            .collect();
        let mut replayed: Vec<Observation> = plain
            .iter()
            .flat_map(|&o| (0..replays as i64).map(move |again| Observation {
                time: o.time.plus_micros(again * 13 * MICROS_PER_SECOND),
                ..o
            }))
            .collect();
        replayed.sort_by_key(|o| o.time);
        let once = run(Settings::default(), plain);
        let often = run(Settings::default(), replayed);
        let (a, b) = (once.devices().next().unwrap().1, often.devices().next().unwrap().1);
        prop_assert_eq!(a.attempts, b.attempts);
        prop_assert_eq!(b.syns, a.syns * replays as u64);
        prop_assert_eq!(&a.findings, &b.findings);
    }

    /// The order within a second changes neither verdict nor moment.
    #[test]
    fn order_within_a_second_does_not_matter(mut order in Just((0_u8..30).collect::<Vec<_>>()).prop_shuffle()) {
        let at = |i: &u8| Observation {
            time: Timestamp::from_seconds(5),
            ..bot(PC, 0, 30).nth((*i).into()).unwrap()
        };
        let shuffled = run(Settings::default(), order.iter().map(at));
        order.sort_unstable();
        let sorted = run(Settings::default(), order.iter().map(at));
        let (a, b) = (shuffled.devices().next().unwrap().1, sorted.devices().next().unwrap().1);
        prop_assert_eq!(&a.findings, &b.findings);
    }
}

/// A bot, a printer and a mail client, each SYN sent as often as a system sends one that nobody answers.
fn replayed(syns: usize, isn: bool) -> Engine {
    const SCHEDULE: [i64; 11] = [0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 69];
    let attempts = (0..40_u16).flat_map(|i| {
        let second = i64::from(i) * 80;
        [
            syn(second, "192.168.1.10", 2_000 + i, MX),
            syn(
                second,
                "192.168.1.11",
                3_000 + i,
                &format!("198.51.{}.1", i % 4),
            ),
            syn(second, PC, 4_000 + i, &format!("203.0.{i}.9")),
        ]
    });
    let mut all: Vec<Observation> = attempts
        .flat_map(|first| {
            SCHEDULE[..syns].iter().map(move |after| Observation {
                time: first.time.plus_micros(after * MICROS_PER_SECOND),
                isn: isn.then_some(u32::from(first.tuple.source_port)),
                ..first
            })
        })
        .collect();
    all.sort_by_key(|observation| observation.time);
    run(Settings::default(), all)
}

/// What was said of each device, and the bits of its scores at `end`.
fn told(engine: &Engine, end: i64) -> Vec<(DeviceKey, u64, [u64; 3], Vec<Finding>)> {
    let end = Timestamp::from_seconds(end);
    let devices = engine.devices();
    devices
        .map(|(id, device)| {
            let detectors = engine.device_state(id).unwrap().detectors;
            let scores = detectors.scores(engine.settings(), end);
            let bits = scores.map(|(_, score, _)| score.to_bits());
            (device.key, device.attempts, bits, device.findings.clone())
        })
        .collect()
}

/// Invariant: repeated SYNs change no bit of a score, with sequence numbers and without.
#[test]
fn however_often_a_syn_is_repeated_the_scores_are_the_same() {
    let once = told(&replayed(1, false), 5_000);
    assert!(once.iter().any(|(.., findings)| !findings.is_empty()));
    assert!(once.iter().any(|(_, _, bits, _)| bits[0] != 0));
    for syns in [1, 3, 7, 11] {
        for isn in [false, true] {
            assert_eq!(told(&replayed(syns, isn), 5_000), once, "{syns} SYNs");
        }
    }
}

/// An hour of the day after that of [`a_day`].
const NEXT_DAY: i64 = 90_000;

/// A day of a printer, of somebody who meets a new server now and then, and of a bot that begins at noon, to
/// the microsecond.
fn a_day() -> Vec<Observation> {
    (0..4_000_u16)
        .flat_map(|turn| {
            let printer = syn(0, "192.168.1.10", 2_000 + turn, MX);
            let group = format!("198.51.{}.1", turn / 400);
            let person = (turn % 40 == 7).then(|| syn(0, "192.168.1.11", 2_000 + turn, &group));
            let group = format!("203.{}.{}.9", turn % 7, turn % 250);
            let is_at_work = turn > 2_000 && turn % 9 == 0;
            let bot = is_at_work.then(|| syn(0, PC, 2_000 + turn, &group));
            let micros = i64::from(turn) * 43_200_123 / 2;
            let all = [Some(printer), person, bot].into_iter().flatten();
            all.map(move |observation| Observation {
                time: Timestamp::from_seconds(0).plus_micros(micros),
                ..observation
            })
        })
        .collect()
}

/// Verdict, scores at the end, and what was said when: detector, at which attempt, in which second.
type Judged = (Verdict, [f64; 3], Vec<(crate::model::Detector, u64, i64)>);

fn judged(engine: &Engine) -> Vec<Judged> {
    let said = |findings: Vec<Finding>| {
        let findings = findings.into_iter();
        findings
            .map(|it| (it.detector, it.at_attempt, it.at.as_seconds()))
            .collect()
    };
    let devices = engine.devices().map(|(_, device)| device.verdict());
    let told = told(engine, NEXT_DAY).into_iter();
    told.zip(devices)
        .map(|((_, _, bits, findings), verdict)| {
            (verdict, bits.map(f64::from_bits), said(findings))
        })
        .collect()
}

/// Invariant: a text of whole seconds without anything else in it says the same as a frame of that second.
#[test]
fn sources_of_different_resolution_give_the_same_scores() {
    let frames = a_day()
        .into_iter()
        .zip(0..)
        .map(|(observation, number)| Observation {
            isn: Some(number),
            ip_id: Some(number as u16),
            mac: Some(crate::model::Mac([2, 0, 0, 0, 0, 1])),
            ttl: Some(64),
            interface: Interface::new(b"lan0"),
            ..observation
        });
    let text = a_day().into_iter().map(|observation| Observation {
        time: Timestamp::from_seconds(observation.time.as_seconds()),
        ..observation
    });
    let frames = judged(&run(Settings::default(), frames));
    assert_eq!(frames, judged(&run(Settings::default(), text)));
    let verdicts: Vec<Verdict> = frames.iter().map(|(verdict, ..)| *verdict).collect();
    assert_eq!(
        verdicts,
        [Verdict::Normal, Verdict::Normal, Verdict::Infected]
    );
    assert!(frames.iter().any(|(_, scores, _)| scores[0] > 0.0));
}

/// Invariant: a source's own clock, which is ahead and fast, changes no verdict, and a score by less than 0.01.
#[test]
fn sources_with_clocks_of_their_own_agree() {
    let one = judged(&run(Settings::default(), a_day()));
    for (ahead, per_million) in [(370_000, 0), (999_999, 40), (-600_001, -25), (5_000_000, 3)] {
        let by_own = a_day().into_iter().map(|observation| {
            let micros = observation.time.as_micros();
            let own = micros + ahead + micros / 1_000_000 * per_million;
            let time = Timestamp::from_seconds(0).plus_micros(own);
            Observation {
                time,
                ..observation
            }
        });
        let other = judged(&run(Settings::default(), by_own));
        assert_eq!(one.len(), other.len());
        for ((verdict, scores, said), (others, their_scores, they_said)) in one.iter().zip(&other) {
            assert_eq!(verdict, others);
            // The end is the same for both, so that what the clock has gained counts, too.
            for (score, theirs) in scores.iter().zip(their_scores) {
                assert!((score - theirs).abs() < 0.01, "{score} {theirs}");
            }
            let attempts = |said: &[(_, u64, _)]| said.iter().map(|it| it.1).collect::<Vec<_>>();
            assert_eq!(attempts(said), attempts(they_said));
        }
    }
}

/// Invariant: live, the time of day may be set as it likes.
#[test]
fn a_time_of_day_that_is_set_changes_no_bit_of_a_score() {
    const YEAR: i64 = 365 * 86_400 * MICROS_PER_SECOND;
    let steps = [40 * YEAR, -40 * YEAR, -1_000_000, 86_400_000_000, 0];
    let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 7);
    for (turn, observation) in a_day().into_iter().enumerate() {
        if turn % 20 == 0 {
            let step = steps[turn / 20 % steps.len()];
            engine.handle(Input::WallClock(step), observation.time);
        }
        engine.handle(Input::Syn(observation), observation.time);
    }
    // The state that is asked for is told by the time of day.
    engine.handle(Input::WallClock(0), Timestamp::from_seconds(NEXT_DAY));
    let plain = run(Settings::default(), a_day());
    assert_eq!(told(&engine, NEXT_DAY), told(&plain, NEXT_DAY));
}

/// Beside somebody who forges addresses, repeats SYNs and walks through a network, nobody else is accused, and
/// the bot is still found.
#[test]
fn noise_neither_frames_nor_hides() {
    let mut all = Vec::new();
    for i in 0..2_000_u32 {
        let second = i64::from(i) / 20;
        let [.., high, low] = i.to_be_bytes();
        // Through one /24, and the same again and again.
        all.push(syn(
            second,
            "192.168.1.66",
            1_000 + i as u16,
            &format!("198.51.100.{low}"),
        ));
        all.push(syn(second, "192.168.1.66", 999, "198.51.100.1"));
        // Forged.
        all.push(syn(
            second,
            &format!("192.168.{}.{low}", 2 + high),
            5_000,
            MX,
        ));
        if i % 100 == 0 {
            all.push(syn(
                second,
                PC,
                4_000 + (i / 100) as u16,
                &format!("203.0.{}.9", i / 100),
            ));
        }
    }
    let engine = run(Settings::default(), all);
    for (_, device) in engine.devices() {
        let expected = match device.key {
            DeviceKey::Address(address) if address.to_string() == PC => Verdict::Infected,
            DeviceKey::Address(address) if address.to_string() == "192.168.1.66" => {
                Verdict::Suspicious
            }
            _ => Verdict::Normal,
        };
        assert_eq!(device.verdict(), expected, "{}", device.key);
    }
}
