//! `novelty`: a device contacts destination groups it never used before, faster than honest use of mail
//! does.
//!
//! Claims: of two explanations, that new groups come at the normal rate or at a bot's, what was seen
//! speaks for the second so strongly that an honest device at its limit would look so once in so many
//! years. It is a CUSUM test of Poisson rates (Page 1954). On each of its clocks,
//!
//! ```text
//! S <- max(0, S - (infected - normal) dt);  with a new group S <- S + ln(infected / normal);
//! it speaks where S >= h
//! ```
//!
//! with dt in whole seconds of the device's own time. The mean time to a false alarm at the normal rate
//! is at least e^(h - (infected - normal) / 1440) minutes (Lorden 1971), which gives h from the years
//! that the settings ask for. Several clocks make false alarms as often as the sum of theirs at the most.
//!
//! - *fast*: 2 new groups a day are normal, 48 a bot's; h = 18.4: the eighth group of a burst, and every
//!   rate above 14.5 a day (where a new group adds what the time between two takes off).
//! - *slow*: 1 and 8; h = 23.0: rates above 3.4 a day, in days.
//! - *lookups*, only of devices of which a question for mail servers (MX) was heard, so that a bot that
//!   asks nobody does not pay for it: the likelihood of new groups at the rates of *fast* and of questions
//!   at 16 and 48 a day (one for each new group) together. 16, and so a weight of ln 3 = 1.1 for a question,
//!   as honest devices that ask at all do so in bunches, which no Poisson rate covers: an admin who tries
//!   five strange servers in one sitting, asking for each, must not alarm. Questions that no new group
//!   followed are taken off the score before it is compared: a resolver in the LAN asks for everybody and
//!   contacts nobody. That can only make false alarms rarer. With h = 23.0 it speaks at the sixth such
//!   server.
//!
//! The first groups that a device ever uses, 2 on *fast* and 3 on *slow*, add nothing: its own mail
//! services. They are found by name and never asked for by MX, so *lookups* has no such allowance.
//!
//! It speaks once. The scores go on, up to twice the threshold and no further, so that they fall below it
//! within h / (infected - normal) days (9.6 h on *fast*, 3.3 days on *slow*) once whatever sent is gone.
//!
//! Cannot see: a bot that sends through one relay (`volume` may), or one that keeps to 3 new groups a
//! day for ever. Speaks wrongly of a mail server, or of a probe of port 25, that nobody declared.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Detect, Scored};
use crate::model::{Detector, Finding, Pace, Timestamp};
use crate::settings::{Novelty as Parameters, Pacing, Settings};

const SECONDS_PER_DAY: f64 = 86_400.0;
/// Scores are multiples of one in so many, 2^32. Sums of such are exact below 2^20, so that the order of what
/// happens within a second changes no bit.
const GRAIN: f64 = 4_294_967_296.0;

/// The nearest value that a score can have.
fn grained(score: f64) -> f64 {
    (score * GRAIN).round() / GRAIN
}

/// The clocks of one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Novelty {
    fast: Excursion,
    slow: Excursion,
    /// Where a question for mail servers was heard, which few devices ask.
    lookups: Option<Box<Excursion>>,
    /// New groups so far.
    groups: u32,
    /// Those of them in the second of the last one.
    in_second: u16,
    has_spoken: bool,
}

/// A clock's score, and what it is made of since it was zero the last time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Excursion {
    score: f64,
    /// Second of the last event, of the device's own time.
    at: u32,
    /// Second of the first event.
    since: u32,
    new_groups: u32,
    mail_lookups: u32,
}

/// What happened, in the terms of a clock.
#[derive(Clone, Copy, Debug)]
struct Event {
    /// Second of the device's own time.
    second: u32,
    /// What it adds to the score.
    gain: f64,
    /// What a day takes off.
    drift: f64,
    threshold: f64,
    new_groups: u32,
    mail_lookups: u32,
}

impl Excursion {
    fn score_at(&self, second: u32, drift: f64) -> f64 {
        (self.score - self.fallen(second, drift)).max(0.0)
    }

    fn fallen(&self, second: u32, drift: f64) -> f64 {
        let seconds = second.saturating_sub(self.at);
        grained(f64::from(seconds) * drift / SECONDS_PER_DAY)
    }

    /// Takes an event. One that adds nothing, for it is free, is remembered for as long as it would
    /// have counted, had it counted `would_gain`.
    fn take(&mut self, event: &Event, would_gain: f64) {
        let fallen = self.fallen(event.second, event.drift);
        let is_over = fallen
            >= if self.score > 0.0 {
                self.score
            } else {
                would_gain
            };
        let is_empty = self.new_groups == 0 && self.mail_lookups == 0;
        if is_over || is_empty {
            *self = Self {
                since: event.second,
                ..Self::default()
            };
        } else {
            self.score = (self.score - fallen).max(0.0);
        }
        self.at = event.second;
        self.score = (self.score + grained(event.gain)).min(grained(2.0 * event.threshold));
        self.new_groups = self.new_groups.saturating_add(event.new_groups);
        self.mail_lookups = self.mail_lookups.saturating_add(event.mail_lookups);
    }
}

impl Novelty {
    /// Takes a group that was new before the device is judged: it is none of the first any more.
    pub(super) fn know(&mut self) {
        self.groups = self.groups.saturating_add(1);
    }

    /// Takes a new group at `second`.
    fn new_group(&mut self, second: u32, parameters: &Parameters) {
        let others = if self.fast.at == second {
            self.in_second
        } else {
            0
        };
        self.in_second = others.saturating_add(1);
        self.groups = self.groups.saturating_add(1);
        for (excursion, pacing) in [
            (&mut self.fast, &parameters.fast),
            (&mut self.slow, &parameters.slow),
        ] {
            let is_free = self.groups <= pacing.free;
            let gain = pacing.gain();
            let event = Event {
                second,
                gain: if is_free { 0.0 } else { gain },
                drift: pacing.drift_per_day(),
                threshold: pacing.threshold(),
                new_groups: 1,
                mail_lookups: 0,
            };
            excursion.take(&event, gain);
        }
        if self.lookups.is_some() {
            let gain = parameters.fast.gain();
            self.take_lookups(second, gain, (1, 0), parameters);
        }
    }

    /// Takes a question for mail servers at `second`, which is `time`, after that `number` of attempts;
    /// answers what there is to say for the first time.
    pub(super) fn lookup(
        &mut self,
        second: u32,
        (time, number): (Timestamp, u64),
        parameters: &Parameters,
    ) -> Option<Finding> {
        if self.lookups.is_none() && self.fast.at == second {
            // Whether it was asked before them or after, within a second nobody can tell.
            for _ in 0..self.in_second {
                self.take_lookups(second, parameters.fast.gain(), (1, 0), parameters);
            }
        }
        let gain = parameters.lookups.gain();
        self.take_lookups(second, gain, (0, 1), parameters);
        self.speak(second, (time, number), parameters)
    }

    fn take_lookups(
        &mut self,
        second: u32,
        gain: f64,
        (new_groups, mail_lookups): (u32, u32),
        parameters: &Parameters,
    ) {
        let Parameters { fast, lookups, .. } = parameters;
        let event = Event {
            second,
            gain,
            drift: lookups.drift_per_day(fast),
            threshold: lookups.threshold(fast),
            new_groups,
            mail_lookups,
        };
        self.lookups.get_or_insert_default().take(&event, gain);
    }

    /// Scores and thresholds of the clocks at `second`.
    pub(super) fn scores(&self, second: u32, parameters: &Parameters) -> [(Pace, f64, f64); 3] {
        let Parameters {
            fast,
            slow,
            lookups,
        } = parameters;
        let score = |excursion: &Excursion, pacing: &Pacing| {
            excursion.score_at(second, pacing.drift_per_day())
        };
        let with_lookups = self.lookups.as_ref().map_or(0.0, |excursion| {
            let score = excursion.score_at(second, lookups.drift_per_day(fast));
            let unfollowed = excursion.mail_lookups.saturating_sub(excursion.new_groups);
            (score - f64::from(unfollowed) * grained(lookups.gain())).max(0.0)
        });
        [
            (Pace::Fast, score(&self.fast, fast), fast.threshold()),
            (Pace::Slow, score(&self.slow, slow), slow.threshold()),
            (Pace::Lookups, with_lookups, lookups.threshold(fast)),
        ]
    }

    fn speak(
        &mut self,
        second: u32,
        (at, at_attempt): (Timestamp, u64),
        parameters: &Parameters,
    ) -> Option<Finding> {
        if self.has_spoken {
            return None;
        }
        let (pace, score, threshold) = self
            .scores(second, parameters)
            .into_iter()
            .find(|(_, score, threshold)| score >= threshold)?;
        self.has_spoken = true;
        let (excursion, normal) = match pace {
            Pace::Fast => (Some(&self.fast), parameters.fast.normal),
            Pace::Slow => (Some(&self.slow), parameters.slow.normal),
            Pace::Lookups => (self.lookups.as_deref(), parameters.fast.normal),
        };
        let excursion = excursion?;
        let took = second.saturating_sub(excursion.since);
        let asked = self.lookups.as_ref();
        Some(Finding {
            detector: Detector::Novelty,
            score,
            threshold,
            at,
            at_attempt,
            took: Duration::from_secs(took.into()),
            within: Duration::ZERO,
            new_groups: excursion.new_groups,
            mail_lookups: asked.map_or(0, |asked| asked.mail_lookups),
            pace: Some(pace),
            normal_per_day: Some(normal),
        })
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        self.lookups.as_deref().map_or(0, size_of_val)
    }

    /// Begins at zero.
    pub(super) fn forget_scores(&mut self) {
        *self = Self {
            groups: self.groups,
            has_spoken: self.has_spoken,
            ..Self::default()
        };
    }

    /// Begins at zero, and may speak again; the first groups are free no more.
    pub(super) fn forgive(&mut self) {
        self.forget_scores();
        self.has_spoken = false;
    }
}

impl Detect for Novelty {
    fn observe(&mut self, attempt: &Scored, settings: &Settings) -> Option<Finding> {
        if !attempt.is_new_group {
            return None;
        }
        self.new_group(attempt.second, &settings.novelty);
        self.speak(
            attempt.second,
            (attempt.time, attempt.number),
            &settings.novelty,
        )
    }
}
