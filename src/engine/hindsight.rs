//! What would have been done, and when: it watches an engine and says of each device whether it would
//! have been blocked, and how many of its connections would have got out.
//!
//! A block needs an alarm and three of the attempts that decided with their handshake completed by the
//! device: without that nothing got out, and a forged source never gets there. The attempts that
//! decide are those to groups that were new to the device since the score began to rise, the alarm's
//! own and later ones too. A block is taken to last: nothing is judged anew after it.
//!
//! It blocks nobody, and is no part of the engine: what it says follows from effects alone.

use std::time::Duration;

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use super::{Effect, Engine, Facts};
use crate::model::{DeviceId, Finding, Group, Outcome, Timestamp, Verdict};
use crate::settings::Window;

/// Attempts that must have got through before somebody is blocked.
pub const COMPLETED_TO_BLOCK: usize = 3;
/// In the first days that are known nobody is blocked: a mail server that nobody declared would be.
pub const LEARNING: Duration = Duration::from_secs(7 * 86_400);
/// New groups of a device that are kept, the latest.
const MAX_FRESH: usize = 64;

/// Attempts, and those of them that were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// All.
    pub attempts: u64,
    /// Those known to have been answered.
    pub answered: u64,
}

/// Why an alarm would have blocked nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spared {
    /// What was found is never the reason of a block.
    Suspicious,
    /// Several machines stand behind it.
    Shared,
    /// The alarm lies in the first days that are known.
    Learning,
    /// Nobody told how its attempts ended.
    OutcomesUnknown,
    /// Too few of the attempts that decided got through.
    NotCompleted,
}

impl Spared {
    /// As it is said behind "alert: ".
    pub fn why(self) -> &'static str {
        match self {
            Self::Suspicious => "suspicious only",
            Self::Shared => "several machines",
            Self::Learning => "learning",
            Self::OutcomesUnknown => "outcomes unknown",
            Self::NotCompleted => "none got through",
        }
    }
}

/// What would have been done about a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: there is nothing to say about it, or it is allowed to send.
    Nothing,
    /// Somebody would have been told.
    Alert(Spared),
    /// It would have been blocked, at that time of day.
    Block(Timestamp),
}

/// What would have become of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// What there is to say about it.
    pub facts: Facts,
    /// What would have been done.
    pub action: Action,
    /// What decided: the first alarm, else the first finding.
    pub finding: Option<Finding>,
    /// Its connections within the time asked for that would have got out.
    pub out: Connections,
    /// Those that a block would have stopped.
    pub stopped: Connections,
}

impl Judged {
    /// When it was first told of, of the day; a block as it began.
    pub fn at(&self) -> Option<Timestamp> {
        match self.action {
            Action::Nothing => None,
            Action::Alert(_) => self.finding.map(|finding| finding.at),
            Action::Block(at) => Some(at),
        }
    }

    /// Connections that would have got out, as far as anybody can tell: those that were answered, or
    /// all attempts where nobody told.
    pub fn got_out(&self) -> u64 {
        self.known(self.out)
    }

    /// Connections that a block would have stopped, told alike.
    pub fn would_have_stopped(&self) -> u64 {
        self.known(self.stopped)
    }

    /// Whether it is known of any of its attempts how it ended.
    pub fn has_outcomes(&self) -> bool {
        self.facts.outcomes.known() > 0
    }

    fn known(&self, connections: Connections) -> u64 {
        if self.has_outcomes() {
            connections.answered
        } else {
            connections.attempts
        }
    }
}

/// Watches an engine. Times are of the day.
#[derive(Debug)]
pub struct Hindsight {
    window: Window,
    cases: HashMap<DeviceId, Case, FixedState>,
    max_cases: usize,
}

/// What is known of a device so far.
#[derive(Debug, Default)]
struct Case {
    alarm: Option<Finding>,
    /// Where there is no alarm.
    hint: Option<Finding>,
    /// When groups were new to it: the latest.
    fresh: Vec<(Group, Timestamp)>,
    /// The last handshakes that it completed: of attempts made then, to that group, and when that was
    /// known.
    completed: Vec<(Timestamp, Group, Timestamp)>,
    block: Option<Timestamp>,
    before: Connections,
    after: Connections,
}

impl Hindsight {
    /// Judges what lies within `window`, whatever was seen before; `limit` is how many devices the
    /// engine keeps, `seed` for its table.
    pub fn new(window: Window, limit: usize, seed: u64) -> Self {
        Self {
            window,
            cases: HashMap::with_hasher(FixedState::with_seed(seed)),
            max_cases: limit.saturating_mul(2).max(16),
        }
    }

    /// Takes what followed from `engine`'s last input.
    pub fn note(&mut self, engine: &Engine) {
        let scope = engine.settings().scope;
        for effect in engine.effects() {
            match effect {
                Effect::Attempt {
                    device: Some(device),
                    direction,
                    observation,
                } if scope.scores(*direction) => {
                    let at = engine.wall(observation.time);
                    let group = Group::of(observation.tuple.destination);
                    let is_new = engine.device(*device).is_some_and(|it| it.is_new(group));
                    self.attempt(*device, at, group, is_new);
                }
                Effect::Found { device, finding } => {
                    let at = engine.wall(finding.at);
                    self.found(*device, Finding { at, ..*finding });
                }
                Effect::Responded {
                    device: Some(device),
                    direction,
                    opened,
                    before,
                    after,
                    tuple,
                    is_completed,
                    response,
                    ..
                } if scope.scores(*direction) => {
                    let told = response.map_or(*opened, |response| response.time);
                    let ended = Ended {
                        opened: engine.wall(*opened),
                        told: engine.wall(told),
                        group: Group::of(tuple.destination),
                        is_answered: *after == Outcome::Answered && *before != Outcome::Answered,
                        is_completed: *is_completed,
                    };
                    self.ended(*device, &ended);
                }
                _ => {}
            }
        }
        if self.cases.len() > self.max_cases {
            self.cases.retain(|id, _| engine.device(*id).is_some());
        }
    }

    fn attempt(&mut self, device: DeviceId, at: Timestamp, group: Group, is_new: bool) {
        let is_judged = self.window.contains(at);
        let case = self.cases.entry(device).or_default();
        if is_new {
            case.contact(group, at);
        }
        if is_judged {
            case.count(at).attempts += 1;
        }
    }

    fn found(&mut self, device: DeviceId, finding: Finding) {
        let case = self.cases.entry(device).or_default();
        if finding.detector.verdict() == Verdict::Infected {
            case.alarm.get_or_insert(finding);
            case.decide();
        } else {
            case.hint.get_or_insert(finding);
        }
    }

    fn ended(&mut self, device: DeviceId, ended: &Ended) {
        let is_judged = self.window.contains(ended.opened);
        let case = self.cases.entry(device).or_default();
        if ended.is_answered && is_judged {
            case.count(ended.opened).answered += 1;
        }
        if ended.is_completed && case.block.is_none() {
            case.completed.push((ended.opened, ended.group, ended.told));
            if case.completed.len() > MAX_FRESH {
                case.completed.remove(0);
            }
            case.decide();
        }
    }

    /// What would have become of each device that was seen within the time. `known_since` is when what
    /// is known begins, where nobody is blocked in the first days after it.
    pub fn judged(&self, engine: &Engine, known_since: Option<Timestamp>) -> Vec<Judged> {
        let learned = known_since.map(|since| {
            since.plus_micros(i64::try_from(LEARNING.as_micros()).unwrap_or(i64::MAX))
        });
        let mut all: Vec<Judged> = engine
            .devices()
            .filter_map(|(id, device)| {
                let case = self.cases.get(&id)?;
                let facts = engine.facts(device, 0);
                (case.before.attempts + case.after.attempts > 0)
                    .then(|| case.judged(facts, learned))
            })
            .collect();
        all.sort_by(|a, b| a.facts.id.cmp(&b.facts.id));
        all
    }
}

/// How an attempt ended.
struct Ended {
    opened: Timestamp,
    /// When that was known.
    told: Timestamp,
    group: Group,
    is_answered: bool,
    is_completed: bool,
}

impl Case {
    fn contact(&mut self, group: Group, at: Timestamp) {
        if self.block.is_some() {
            return;
        }
        self.fresh.retain(|(known, _)| *known != group);
        if self.fresh.len() == MAX_FRESH {
            self.fresh.remove(0);
        }
        self.fresh.push((group, at));
    }

    /// Where an attempt made at `at` is counted.
    fn count(&mut self, at: Timestamp) -> &mut Connections {
        match self.block {
            Some(block) if at > block => &mut self.after,
            _ => &mut self.before,
        }
    }

    /// Blocks as soon as there are an alarm and enough attempts that got through.
    fn decide(&mut self) {
        let Some(alarm) = self.alarm.filter(|_| self.block.is_none()) else {
            return;
        };
        let since = alarm.at.minus(alarm.took);
        let is_new = |group| {
            let mut fresh = self.fresh.iter();
            fresh.any(|(known, first)| *known == group && *first >= since)
        };
        let deciding = self
            .completed
            .iter()
            .filter(|(opened, group, _)| *opened >= since && is_new(*group));
        let third = deciding
            .map(|(_, _, told)| *told)
            .nth(COMPLETED_TO_BLOCK - 1);
        self.block = third.map(|third| third.max(alarm.at));
    }

    fn judged(&self, facts: Facts, learned: Option<Timestamp>) -> Judged {
        let action = self.action(&facts, learned);
        let sum = Connections {
            attempts: self.before.attempts + self.after.attempts,
            answered: self.before.answered + self.after.answered,
        };
        let (out, stopped) = match action {
            Action::Block(_) => (self.before, self.after),
            Action::Nothing | Action::Alert(_) => (sum, Connections::default()),
        };
        Judged {
            facts,
            action,
            finding: self.alarm.or(self.hint),
            out,
            stopped,
        }
    }

    fn action(&self, facts: &Facts, learned: Option<Timestamp>) -> Action {
        if matches!(facts.verdict(), Verdict::Allowed | Verdict::Normal) {
            return Action::Nothing;
        }
        let Some(alarm) = self.alarm else {
            return Action::Alert(Spared::Suspicious);
        };
        match self.block {
            _ if facts.is_shared => Action::Alert(Spared::Shared),
            None if facts.outcomes.known() == 0 => Action::Alert(Spared::OutcomesUnknown),
            None => Action::Alert(Spared::NotCompleted),
            Some(_) if learned.is_some_and(|learned| alarm.at < learned) => {
                Action::Alert(Spared::Learning)
            }
            Some(at) => Action::Block(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Detector, Pace};

    const DEVICE: DeviceId = DeviceId(0);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn group(number: u8) -> Group {
        Group::of([203, 0, number, 1].into())
    }

    fn alarm(seconds: i64, took: u64) -> Finding {
        Finding {
            detector: Detector::Novelty,
            score: 19.0,
            threshold: 18.4,
            at: at(seconds),
            at_attempt: 8,
            took: Duration::from_secs(took),
            within: Duration::ZERO,
            new_groups: 8,
            mail_lookups: 0,
            pace: Some(Pace::Fast),
            normal_per_day: Some(2.0),
        }
    }

    fn hindsight() -> Hindsight {
        Hindsight::new(Window::default(), 16, 1)
    }

    fn completed(opened: i64, number: u8) -> Ended {
        Ended {
            opened: at(opened),
            told: at(opened + 1),
            group: group(number),
            is_answered: true,
            is_completed: true,
        }
    }

    /// Eight new groups a second apart from `start` on, the alarm at the last.
    fn burst(hindsight: &mut Hindsight, start: i64) {
        for number in 0..8 {
            hindsight.attempt(DEVICE, at(start + i64::from(number)), group(number), true);
        }
        hindsight.found(DEVICE, alarm(start + 7, 7));
    }

    fn case(hindsight: &Hindsight) -> &Case {
        &hindsight.cases[&DEVICE]
    }

    #[test]
    fn a_block_is_as_late_as_the_alarm_and_the_third_that_got_through() {
        let mut early = hindsight();
        for number in 0..8 {
            early.attempt(DEVICE, at(i64::from(number)), group(number), true);
            early.ended(DEVICE, &completed(i64::from(number), number));
        }
        assert_eq!(case(&early).block, None);
        early.found(DEVICE, alarm(9, 9));
        assert_eq!(case(&early).block, Some(at(9)));

        let mut late = hindsight();
        burst(&mut late, 100);
        late.ended(DEVICE, &completed(100, 0));
        late.ended(DEVICE, &completed(105, 5));
        assert_eq!(case(&late).block, None);
        late.ended(DEVICE, &completed(110, 7));
        assert_eq!(case(&late).block, Some(at(111)));
        // What is tried from then on would have been stopped.
        late.attempt(DEVICE, at(112), group(9), true);
        late.ended(DEVICE, &completed(112, 9));
        let case = case(&late);
        assert_eq!((case.before.attempts, case.before.answered), (8, 3));
        assert_eq!((case.after.attempts, case.after.answered), (1, 1));
    }

    #[test]
    fn mail_to_the_own_smarthost_does_not_help_to_block() {
        let mut framed = hindsight();
        framed.attempt(DEVICE, at(0), group(200), true);
        burst(&mut framed, 100);
        for second in 100..110 {
            framed.attempt(DEVICE, at(second), group(200), false);
            framed.ended(DEVICE, &completed(second, 200));
        }
        assert_eq!(case(&framed).block, None);
        for number in 0..3 {
            framed.ended(DEVICE, &completed(100 + i64::from(number), number));
        }
        assert!(case(&framed).block.is_some());
    }

    #[test]
    fn what_lies_before_the_window_is_known_and_not_counted() {
        let window = Window {
            since: Some(at(1000)),
            until: Some(at(2000)),
        };
        let mut hindsight = Hindsight::new(window, 16, 1);
        hindsight.attempt(DEVICE, at(999), group(1), true);
        hindsight.attempt(DEVICE, at(1000), group(1), false);
        hindsight.attempt(DEVICE, at(2000), group(2), true);
        assert_eq!(case(&hindsight).before.attempts, 1);
        assert_eq!(case(&hindsight).fresh.len(), 2);
    }

    #[test]
    fn memory_of_a_device_is_bounded() {
        let mut hindsight = hindsight();
        for second in 0..100_000_u32 {
            let to = Group::of(std::net::Ipv4Addr::from(second << 8).into());
            hindsight.attempt(DEVICE, at(second.into()), to, true);
            let ended = Ended {
                group: to,
                ..completed(second.into(), 0)
            };
            hindsight.ended(DEVICE, &ended);
        }
        let case = case(&hindsight);
        assert_eq!(
            (case.fresh.len(), case.completed.len()),
            (MAX_FRESH, MAX_FRESH)
        );
        assert_eq!(case.before.attempts, 100_000);
    }
}
