//! What became of attempts.

use std::time::Duration;

use super::*;
use crate::model::ResponseKind::{
    Accepted, Closed, Established, Reset, TimedOut, Tracked, Unreachable,
};
use crate::model::{Networks, ResponseKind};
use crate::settings::Burst;

/// A source that would show an answer.
fn capture() -> SourceName {
    SourceName::Capture(Interface::new(b"any"))
}

fn numbered(seconds: i64, port: u16, isn: u32) -> Observation {
    Observation {
        isn: Some(isn),
        ..syn(seconds, PC, port, MX)
    }
}

fn answer(seconds: i64, port: u16, isn: Option<u32>, kind: ResponseKind) -> Response {
    Response {
        time: Timestamp::from_seconds(seconds),
        tuple: syn(0, PC, port, MX).tuple,
        isn,
        kind,
        outside: None,
        bytes: None,
    }
}

/// An engine that conntrack tells of all connections.
fn told() -> Engine {
    let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 7);
    ready(&mut engine, 0, capture());
    engine
}

fn ready(engine: &mut Engine, seconds: i64, source: SourceName) {
    let notice = Notice::SourceReady { source };
    engine.handle(Input::Notice(notice), Timestamp::from_seconds(seconds));
}

fn failed(engine: &mut Engine, seconds: i64, source: SourceName) {
    let why = "gone".to_owned();
    let notice = Notice::SourceFailed { source, why };
    engine.handle(Input::Notice(notice), Timestamp::from_seconds(seconds));
}

fn feed(engine: &mut Engine, evidence: impl Into<Input>, seconds: i64) -> Vec<Effect> {
    let now = Timestamp::from_seconds(seconds);
    engine.handle(evidence.into(), now).to_vec()
}

fn tick(engine: &mut Engine, seconds: i64) -> Vec<Effect> {
    feed(engine, Input::Tick, seconds)
}

/// Attempts by outcome, in the order of [`Outcome::ALL`]: unknown, unanswered, unreachable, refused, held,
/// answered.
fn counts(engine: &Engine) -> [u64; 6] {
    let device = engine.devices().next().unwrap().1;
    Outcome::ALL.map(|outcome| device.outcomes().get(outcome))
}

/// Before and after, of what was said about outcomes.
fn changes(effects: &[Effect]) -> Vec<(Outcome, Outcome)> {
    let of = |effect: &Effect| match effect {
        Effect::Responded { before, after, .. } => Some((*before, *after)),
        _ => None,
    };
    effects.iter().filter_map(of).collect()
}

impl From<Observation> for Input {
    fn from(observation: Observation) -> Self {
        Self::Syn(observation)
    }
}

impl From<Response> for Input {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}

#[test]
fn an_answer_is_joined_and_told() {
    let mut engine = told();
    feed(&mut engine, numbered(1, 4000, 7), 1);
    assert_eq!(counts(&engine), [1, 0, 0, 0, 0, 0]);
    let response = answer(2, 4000, Some(7), Accepted);
    let id = engine.devices().next().unwrap().0;
    assert_eq!(
        feed(&mut engine, response, 2),
        [Effect::Responded {
            device: Some(id),
            direction: Direction::Outbound,
            opened: Timestamp::from_seconds(1),
            before: Outcome::Unknown,
            after: Outcome::Answered,
            tuple: response.tuple,
            is_completed: false,
            bytes: None,
            response: Some(response),
        }]
    );
    assert_eq!(counts(&engine), [0, 0, 0, 0, 0, 1]);
    // A repeated SYN changes nothing of it.
    feed(&mut engine, numbered(3, 4000, 7), 3);
    assert_eq!(counts(&engine), [0, 0, 0, 0, 0, 1]);
}

#[test]
fn a_better_outcome_replaces_a_worse_one_and_never_the_other_way() {
    let kinds = [
        Tracked,
        TimedOut,
        Unreachable,
        Reset,
        Accepted,
        Established,
        Closed,
    ];
    for first in kinds {
        for second in kinds {
            let mut engine = told();
            feed(&mut engine, syn(1, PC, 4000, MX), 1);
            feed(&mut engine, answer(2, 4000, None, first), 2);
            let effects = feed(&mut engine, answer(3, 4000, None, second), 3);
            let (before, after) = (first.outcome(), first.outcome().max(second.outcome()));
            let device = engine.devices().next().unwrap().1;
            assert_eq!(device.outcomes().get(after), 1, "{first:?} {second:?}");
            if second != Tracked {
                assert_eq!(changes(&effects), [(before, after)]);
            }
            let is_completed = first == Established || second == Established;
            assert_eq!(device.completed, u64::from(is_completed));
        }
    }
}

#[test]
fn an_answer_to_an_earlier_number_touches_no_later_attempt() {
    let mut engine = told();
    feed(&mut engine, numbered(1, 4000, 7), 1);
    feed(&mut engine, numbered(2, 4000, 8), 2);
    assert!(feed(&mut engine, answer(3, 4000, Some(7), Reset), 3).is_empty());
    assert_eq!(counts(&engine), [2, 0, 0, 0, 0, 0]);
    feed(&mut engine, answer(3, 4000, Some(8), Accepted), 3);
    assert_eq!(counts(&engine), [1, 0, 0, 0, 0, 1]);
    // Nor is it kept for one that will never come.
    assert!(tick(&mut engine, 20).is_empty());
}

#[test]
fn answers_that_are_read_before_their_syn_wait_for_it() {
    let mut engine = told();
    for kind in [Tracked, Accepted, Established] {
        assert!(feed(&mut engine, answer(1, 4000, None, kind), 1).is_empty());
    }
    let effects = feed(&mut engine, numbered(1, 4000, 7), 11);
    assert!(matches!(effects[0], Effect::Attempt { .. }));
    let unknown_to_answered = (Outcome::Unknown, Outcome::Answered);
    let again = (Outcome::Answered, Outcome::Answered);
    let nothing = (Outcome::Unknown, Outcome::Unknown);
    assert_eq!(changes(&effects), [nothing, unknown_to_answered, again]);
    assert_eq!(engine.devices().next().unwrap().1.completed, 1);

    // Ten seconds, and no more.
    feed(&mut engine, answer(20, 5000, None, Accepted), 20);
    feed(&mut engine, numbered(31, 5000, 7), 31);
    assert_eq!(counts(&engine), [1, 0, 0, 0, 0, 1]);
}

#[test]
fn a_connection_that_begins_anew_is_not_taken_for_the_one_before() {
    // Connection tracking tells no numbers, and is read before the SYN that uses the ports again.
    let mut engine = told();
    feed(&mut engine, numbered(1, 4000, 7), 1);
    for kind in [Tracked, Reset] {
        feed(&mut engine, answer(1, 4000, None, kind), 1);
    }
    for kind in [Tracked, Accepted, Established] {
        assert!(feed(&mut engine, answer(30, 4000, None, kind), 30).is_empty());
    }
    feed(&mut engine, numbered(30, 4000, 8), 30);
    assert_eq!(counts(&engine), [0, 0, 0, 1, 0, 1]);

    // Long after, an answer alone tells it; the end of a long connection belongs to what there is.
    feed(&mut engine, answer(500, 4000, None, Accepted), 500);
    feed(&mut engine, answer(501, 4000, None, Closed), 501);
    feed(&mut engine, numbered(500, 4000, 9), 501);
    assert_eq!(counts(&engine), [0, 0, 0, 1, 0, 2]);
}

#[test]
fn what_waited_in_vain_speaks_of_the_attempt_that_is_open() {
    let mut engine = told();
    feed(&mut engine, numbered(1, 4000, 7), 1);
    feed(&mut engine, answer(1, 4000, None, Tracked), 1);
    // The entry expired, and a repeated SYN made another.
    feed(&mut engine, answer(100, 4000, None, Tracked), 100);
    assert!(feed(&mut engine, answer(100, 4000, None, Accepted), 100).is_empty());
    let effects = tick(&mut engine, 111);
    assert_eq!(changes(&effects).last().unwrap().1, Outcome::Answered);
    assert_eq!(counts(&engine), [0, 0, 0, 0, 0, 1]);
}

#[test]
fn early_answers_are_bounded_and_what_had_no_room_is_counted() {
    let mut engine = told();
    for port in 1..=5000 {
        feed(&mut engine, answer(1, port, None, Accepted), 1);
    }
    assert_eq!(engine.totals().evicted_responses, 5000 - 4096);
    for _ in 0..20 {
        feed(&mut engine, answer(1, 5000, None, Closed), 1);
    }
    assert_eq!(engine.totals().evicted_responses, 5000 - 4096 + 13);
    // The oldest made room.
    feed(&mut engine, numbered(1, 904, 7), 1);
    feed(&mut engine, numbered(1, 905, 7), 1);
    assert_eq!(counts(&engine), [1, 0, 0, 0, 0, 1]);
}

#[test]
fn after_150_seconds_nobody_has_answered() {
    let mut engine = told();
    feed(&mut engine, numbered(1, 4000, 7), 1);
    feed(&mut engine, syn(2, PC, 4001, MX), 2);
    assert!(tick(&mut engine, 151).is_empty());
    let unanswered = (Outcome::Unknown, Outcome::Unanswered);
    let effects = tick(&mut engine, 152);
    assert_eq!(changes(&effects), [unanswered]);
    assert!(matches!(
        effects[0],
        Effect::Responded { response: None, .. }
    ));
    assert_eq!(changes(&tick(&mut engine, 153)), [unanswered]);
    assert_eq!(counts(&engine), [0, 2, 0, 0, 0, 0]);
    assert!(tick(&mut engine, 1000).is_empty());
    // Better late than never.
    feed(&mut engine, numbered(1001, 4000, 7), 1001);
    feed(&mut engine, answer(1001, 4000, Some(7), Accepted), 1001);
    assert_eq!(counts(&engine), [0, 1, 0, 0, 0, 1]);
}

#[test]
fn the_same_ports_again_have_150_seconds_of_their_own() {
    let mut engine = told();
    feed(&mut engine, numbered(1, 4000, 7), 1);
    feed(&mut engine, numbered(100, 4000, 8), 100);
    // Of the first nobody can tell any more.
    assert!(tick(&mut engine, 250).is_empty());
    assert_eq!(changes(&tick(&mut engine, 251)).len(), 1);
    assert_eq!(counts(&engine), [1, 1, 0, 0, 0, 0]);
}

#[test]
fn without_anybody_who_could_tell_it_stays_unknown() {
    // No source; one that came later; one that failed, or lost something, meanwhile.
    let mut nobody = Engine::new(Settings::default(), LeaseBook::default(), 7);
    ready(&mut nobody, 0, SourceName::Nflog);
    feed(&mut nobody, numbered(1, 4000, 7), 1);
    ready(&mut nobody, 2, capture());
    assert!(changes(&tick(&mut nobody, 1000)).is_empty());

    for gap in [
        Input::Lost {
            source: capture(),
            kind: LossKind::QueueFull,
            events: 1,
        },
        Input::Notice(Notice::Suspended { micros: 1 }),
    ] {
        let mut engine = told();
        feed(&mut engine, numbered(1, 4000, 7), 1);
        feed(&mut engine, gap, 2);
        feed(&mut engine, numbered(3, 4001, 7), 3);
        assert_eq!(changes(&tick(&mut engine, 1000)).len(), 1);
        assert_eq!(counts(&engine), [1, 1, 0, 0, 0, 0]);
    }

    let mut engine = told();
    feed(&mut engine, numbered(1, 4000, 7), 1);
    failed(&mut engine, 2, capture());
    feed(&mut engine, numbered(3, 4001, 7), 3);
    ready(&mut engine, 4, capture());
    feed(&mut engine, numbered(5, 4002, 7), 5);
    assert_eq!(changes(&tick(&mut engine, 1000)).len(), 1);
    assert_eq!(counts(&engine), [2, 1, 0, 0, 0, 0]);
}

#[test]
fn a_capture_tells_of_its_own_interface() {
    let capture = |name: &str| SourceName::Capture(Interface::new(name.as_bytes()));
    for (name, unanswered) in [("eth1", 1), ("eth2", 0), ("any", 1)] {
        let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 7);
        ready(&mut engine, 0, capture(name));
        let observation = Observation {
            interface: Interface::new(b"eth1"),
            ..syn(1, PC, 4000, MX)
        };
        feed(&mut engine, observation, 1);
        tick(&mut engine, 1000);
        assert_eq!(counts(&engine)[1], unanswered, "{name}");
    }
}

#[test]
fn offline_nobody_answered_where_others_were_answered() {
    let run = |has_answers: bool, isn: Option<u32>| {
        let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 7);
        let blocked = Observation {
            isn,
            ..syn(1, PC, 4000, MX)
        };
        feed(&mut engine, blocked, 1);
        feed(&mut engine, numbered(2, 4001, 7), 2);
        if has_answers {
            feed(&mut engine, answer(2, 4001, Some(7), Accepted), 2);
        }
        feed(&mut engine, numbered(1000, 4002, 7), 1000);
        counts(&engine)
    };
    assert_eq!(run(true, Some(7)), [1, 1, 0, 0, 0, 1]);
    // One direction alone; a line of a log beside a capture.
    assert_eq!(run(false, Some(7)), [3, 0, 0, 0, 0, 0]);
    assert_eq!(run(true, None), [2, 0, 0, 0, 0, 1]);
}

#[test]
fn bytes_are_summed_once_for_each_connection() {
    let mut engine = told();
    let closed = |port, bytes| Response {
        bytes: Some(bytes),
        ..answer(5, port, None, Closed)
    };
    for port in [4000, 4001] {
        feed(&mut engine, syn(1, PC, port, MX), 1);
    }
    assert_eq!(engine.devices().next().unwrap().1.bytes, None);
    for (port, bytes) in [(4000, (10, 1)), (4000, (10, 1)), (4001, (u64::MAX, 2))] {
        feed(&mut engine, closed(port, bytes), 5);
    }
    let device = engine.devices().next().unwrap().1;
    assert_eq!(device.bytes, Some((u64::MAX, 3)));
}

#[test]
fn what_is_not_counted_has_no_outcome() {
    let window = crate::settings::Window {
        since: Some(Timestamp::from_seconds(100)),
        until: Some(Timestamp::from_seconds(200)),
    };
    let settings = Settings {
        window,
        ..Settings::default()
    };
    let mut engine = Engine::new(settings, LeaseBook::default(), 7);
    for (seconds, port) in [(99, 4000), (199, 4001), (200, 4002)] {
        feed(&mut engine, numbered(seconds, port, 7), seconds);
        let effects = feed(&mut engine, answer(201, port, Some(7), Accepted), 201);
        assert_eq!(effects.is_empty(), port != 4001, "{port}");
    }
    assert_eq!(counts(&engine), [0, 0, 0, 0, 0, 1]);
    // Another direction is counted, for nobody.
    let inbound = Tuple {
        source: MX.parse().unwrap(),
        destination: PC.parse().unwrap(),
        ..answer(0, 4000, None, Reset).tuple
    };
    let observation = Observation {
        tuple: inbound,
        ..syn(150, PC, 1, MX)
    };
    feed(&mut engine, observation, 201);
    let response = Response {
        tuple: inbound,
        ..answer(150, 1, None, Reset)
    };
    let effects = feed(&mut engine, response, 201);
    assert!(matches!(
        effects[..],
        [Effect::Responded {
            device: None,
            direction: Direction::Inbound,
            after: Outcome::Refused,
            ..
        }]
    ));
}

#[test]
fn the_sentence_says_how_they_ended() {
    let mut engine = told();
    for (port, kind) in [(1, Accepted), (2, Established), (3, Reset), (4, Tracked)] {
        feed(&mut engine, syn(1, PC, port, MX), 1);
        feed(&mut engine, answer(1, port, None, kind), 1);
    }
    let sentence = because(engine.devices().next().unwrap().1);
    assert!(sentence.ends_with("; 2 answered, 1 refused"), "{sentence}");
    let facts = engine.facts(engine.devices().next().unwrap().1, 0);
    assert_eq!((facts.completed, facts.outcomes.known()), (1, 3));
    assert_eq!(facts.outcomes.get(Outcome::Unknown), 1);
}

/// What is to be remembered of all devices.
fn states(engine: &Engine) -> Vec<DeviceState> {
    let ids = engine.devices().map(|(id, _)| id);
    ids.filter_map(|id| engine.device_state(id)).collect()
}

#[test]
fn the_next_run_goes_on_where_the_last_one_stopped() {
    let settings = Settings::default;
    let all = run(settings(), bot(PC, 0, 12));
    let first = run(settings(), bot(PC, 0, 7));
    let mut second = Engine::new(settings(), LeaseBook::default(), 7);
    feed(&mut second, Input::Resume(states(&first)), 7);
    assert_eq!(second.devices().count(), 0);
    let mut found = 0;
    for observation in bot(PC, 0, 12).skip(7) {
        let effects = second.handle(Input::Syn(observation), observation.time);
        found += effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Found { .. }))
            .count();
    }
    let at = |engine: &Engine| engine.devices().next().unwrap().1.findings[0].at;
    assert_eq!((found, at(&second)), (2, at(&all)));

    // What was said is not said again, and the verdict stays.
    let mut third = Engine::new(settings(), LeaseBook::default(), 7);
    feed(&mut third, Input::Resume(states(&second)), 12);
    for observation in bot(PC, 12, 30) {
        let effects = third.handle(Input::Syn(observation), observation.time);
        let is_found = |effect: &Effect| matches!(effect, Effect::Found { .. });
        assert!(!effects.iter().any(is_found));
    }
    let device = third.devices().next().unwrap().1;
    assert_eq!((device.verdict(), device.attempts), (Verdict::Infected, 30));
    assert_eq!(device.findings.len(), 2);
}

#[test]
fn states_are_told_by_the_time_of_day() {
    let day = 86_400 * MICROS_PER_SECOND;
    let mut first = Engine::new(Settings::default(), LeaseBook::default(), 7);
    for observation in bot(PC, 0, 7) {
        first.handle(Input::Syn(observation), observation.time);
    }
    first.handle(Input::WallClock(day), Timestamp::from_seconds(7));
    let eighth = syn(86_410, PC, 50_000, "198.51.100.1");
    for (resumed_at_offset, finds) in [(0, true), (day, false)] {
        // By inputs that bear the time of day; by a clock that is a day further still.
        let mut second = Engine::new(Settings::default(), LeaseBook::default(), 7);
        feed(&mut second, Input::WallClock(resumed_at_offset), 86_410);
        feed(&mut second, Input::Resume(states(&first)), 86_410);
        let effects = feed(&mut second, eighth, 86_410);
        let found = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Found { .. }));
        assert_eq!(found, finds);
    }
    // A clock that stands before all of it makes no alarm.
    let mut early = Engine::new(Settings::default(), LeaseBook::default(), 7);
    feed(&mut early, Input::Resume(states(&first)), 1);
    assert!(changes(&feed(&mut early, syn(1, PC, 50_000, MX), 1)).is_empty());
    let device = early.devices().next().unwrap().1;
    assert_eq!(device.verdict(), Verdict::Normal);
}

#[test]
fn what_is_remembered_is_bounded() {
    let settings = Settings {
        limits: Limits {
            devices: 1,
            ..Limits::default()
        },
        ..Settings::default()
    };
    let first = run(
        Settings::default(),
        bot(PC, 0, 10).chain(bot("192.168.1.24", 0, 10)),
    );
    let mut second = Engine::new(settings, LeaseBook::default(), 7);
    feed(&mut second, Input::Resume(states(&first)), 100);
    for (source, verdict) in [("192.168.1.24", Verdict::Normal), (PC, Verdict::Infected)] {
        feed(&mut second, syn(100, source, 1, MX), 100);
        assert_eq!(second.devices().next().unwrap().1.verdict(), verdict);
    }
}

#[test]
fn new_settings_lose_nothing_that_is_known() {
    let mut engine = run(Settings::default(), bot(PC, 0, 5));
    let lan: Networks = Networks::new(["203.0.0.0/16".parse().unwrap()]);
    let settings = Settings {
        lan,
        burst: Burst {
            groups: 6,
            within: Duration::from_secs(3600),
        },
        limits: Limits {
            devices: 3,
            open_attempts: 2,
            ..Limits::default()
        },
        ..Settings::default()
    };
    let devices = engine.settings().limits.devices;
    feed(&mut engine, Input::Settings(Box::new(settings)), 5);
    assert_eq!(engine.settings().limits.devices, devices);
    // The LAN is another now.
    feed(&mut engine, syn(5, PC, 50_000, "198.51.100.1"), 5);
    assert_eq!(engine.totals().direction(Direction::External).attempts, 1);
    assert_eq!(engine.devices().next().unwrap().1.attempts, 5);
    // And six groups are enough.
    let back = Settings {
        lan: Networks::private(),
        ..engine.settings().clone()
    };
    feed(&mut engine, Input::Settings(Box::new(back)), 5);
    feed(&mut engine, syn(6, PC, 50_001, "198.51.100.1"), 6);
    let device = engine.devices().next().unwrap().1;
    assert_eq!(
        (device.attempts, device.verdict()),
        (6, Verdict::Suspicious)
    );
    assert!(engine.totals().evicted_attempts > 0);
}

/// Attempts by port, and what is told of each, a second later.
fn story() -> Vec<Input> {
    let kinds: [&[ResponseKind]; 6] = [
        &[Tracked, Accepted, Established, Closed],
        &[Reset],
        &[Unreachable, Reset],
        &[TimedOut],
        &[Accepted, Reset],
        &[],
    ];
    (1..=30_u16)
        .flat_map(|port| {
            let isn = u32::from(port);
            let told = kinds[usize::from(port) % kinds.len()];
            let responses = told
                .iter()
                .map(move |&kind| Input::from(answer(1, port, Some(isn), kind)));
            std::iter::once(Input::from(numbered(1, port, isn))).chain(responses)
        })
        .collect()
}

proptest! {
    /// Whatever the order in which SYNs and answers are read within 10 s, the counts are the same.
    #[test]
    fn the_order_of_answers_does_not_matter(shuffled in Just(story()).prop_shuffle()) {
        let count = |inputs: Vec<Input>| {
            let mut engine = told();
            for input in inputs {
                feed(&mut engine, input, 5);
            }
            tick(&mut engine, 300);
            (counts(&engine), engine.devices().next().unwrap().1.completed)
        };
        let expected = count(story());
        prop_assert_eq!(expected, ([0, 10, 0, 10, 0, 10], 5));
        prop_assert_eq!(count(shuffled), expected);
    }
}
