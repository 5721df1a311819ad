//! One host before all detectors, from its first attempt until each has spoken or the time is over.
//!
//! What follows from an alarm is modelled alike for all: from the next second on the source is blocked,
//! ours by the device and others by the address. Ours waits for three connections that were answered, as a
//! block by `novelty` does; what it only alerts of (`burst`, `volume`) blocks nothing.

use std::net::IpAddr;

use foldhash::quality::FixedState;
use hashbrown::HashSet;

use super::chance::{Chance, DAY};
use super::host::{Gateway, Judged};
use super::profile::Profile;
use super::rivals::{RULES, Rival, Rule};
use super::traffic::{Deed, Ending, Event, Syn, Traffic};
use crate::model::{Detector, DeviceId, Group, MICROS_PER_SECOND, Timestamp};
use crate::settings::Settings;

/// 2026-01-05T00:00:00Z, a Monday.
const START: Timestamp = Timestamp::from_seconds(1_767_571_200);
/// Bots wake at ten.
const WAKING: i64 = 10 * 3_600 * MICROS_PER_SECOND;
/// And each at another moment within this.
const MOMENTS: i64 = 3_600 * MICROS_PER_SECOND;
/// Attempts of a bot after which nobody is waited for any more.
const MAX_ATTEMPTS: u64 = 10_000;
/// Attempts that are looked at after an alarm.
const LOOKED_AFTER: u32 = 200;
/// Answered attempts that a block of ours waits for.
const COMPLETED: u64 = 3;

/// A detector.
#[derive(Clone, Copy)]
pub(crate) enum Judge {
    /// One of the engine's.
    Own(Detector),
    /// Another program's.
    Rival(&'static Rule),
}

impl Judge {
    /// All but `policy`, which needs to be told who may send; ours first.
    pub(crate) fn all() -> Vec<Self> {
        let own = [Detector::Novelty, Detector::Burst, Detector::Volume];
        let own = own.into_iter().map(Self::Own);
        own.chain(RULES.iter().map(Self::Rival)).collect()
    }

    /// The detector of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let rival = || RULES.iter().find(|rule| rule.name == name);
        Detector::named(name)
            .map(Self::Own)
            .or_else(|| rival().map(Self::Rival))
    }

    /// What it is called on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Own(Detector::Novelty) => "novelty",
            Self::Own(Detector::Policy) => "policy",
            Self::Own(Detector::Burst) => "burst",
            Self::Own(Detector::Volume) => "volume",
            Self::Rival(rule) => rule.name,
        }
    }

    /// What it looks for, where it is not ours.
    pub(crate) fn what(self) -> Option<&'static str> {
        match self {
            Self::Own(_) => None,
            Self::Rival(rule) => Some(rule.what),
        }
    }
}

/// What is asked for.
pub(crate) struct Setting {
    /// Those of our detectors.
    pub(crate) settings: Settings,
    /// Who is asked.
    pub(crate) judges: Vec<Judge>,
    /// Another one is another world.
    pub(crate) seed: u64,
    /// Days for which a host is looked at.
    pub(crate) days: u32,
    /// Whether the DNS tells which groups are one service.
    pub(crate) has_names: bool,
    /// Whether the gateway hears questions for mail servers (MX).
    pub(crate) has_lookups: bool,
}

/// What each of the detectors made of a host.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HostRun {
    pub(super) verdicts: Vec<Verdict>,
}

/// What one of them did.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    /// Days until it alarmed, begun ones too; all where it did not.
    pub(super) days: u32,
    pub(super) alarm: Option<Alarm>,
    /// Bytes that it kept of the host in the end.
    pub(super) bytes: u64,
}

/// An alarm; what the fields mean is told in [`super::tally::Row`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alarm {
    pub(super) at: Timestamp,
    pub(super) attempts: u64,
    pub(super) groups: u64,
    pub(super) seconds: u64,
    pub(super) answered_before: u64,
    pub(super) answered_after: u64,
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sender {
    address: IpAddr,
    device: Option<DeviceId>,
}

/// A host's attempts so far.
struct Count {
    attempts: u64,
    answered: u64,
    groups: HashSet<Group, FixedState>,
    first: Option<Timestamp>,
}

impl Count {
    fn note(&mut self, syn: &Syn, time: Timestamp) {
        if syn.number == 0 {
            self.attempts += 1;
            self.answered += u64::from(matches!(syn.ending, Ending::Answered(_)));
            self.groups.insert(Group::of(syn.destination));
            self.first.get_or_insert(time);
        }
    }

    fn alarm(&self, time: Timestamp) -> Alarm {
        let first = self.first.unwrap_or(time);
        Alarm {
            at: time,
            attempts: self.attempts,
            groups: self.groups.len() as u64,
            seconds: time.seconds_since(first).unsigned_abs(),
            answered_before: self.answered,
            answered_after: 0,
        }
    }
}

/// A detector at work on a host.
struct Track {
    judge: Judge,
    rival: Option<Box<dyn Rival>>,
    alarm: Option<Alarm>,
    /// From when on whom is blocked.
    block: Option<(Timestamp, Sender)>,
    /// Attempts since the alarm.
    since: u32,
}

impl Track {
    fn new(judge: Judge) -> Self {
        let rival = match judge {
            Judge::Own(_) => None,
            Judge::Rival(rule) => Some(rule.fresh()),
        };
        Self {
            judge,
            rival,
            alarm: None,
            block: None,
            since: 0,
        }
    }

    /// Takes a SYN that `count` has counted.
    fn syn(&mut self, syn: &Syn, time: Timestamp, sender: Sender, count: &Count, judged: &Judged) {
        if self.alarm.is_some() {
            if syn.number == 0 {
                self.follow(syn, time, sender);
            }
            return;
        }
        let alarms = match (&mut self.rival, self.judge) {
            (Some(rival), _) => rival.alarms(time, syn),
            (None, Judge::Own(detector)) => judged.found.contains(&detector),
            (None, Judge::Rival(_)) => false,
        };
        if alarms {
            self.alarm = Some(count.alarm(time));
            self.block_where_due(time, sender);
        }
    }

    /// Looks at an attempt after the alarm.
    fn follow(&mut self, syn: &Syn, time: Timestamp, sender: Sender) {
        self.since += 1;
        let Some(alarm) = &mut self.alarm else {
            return;
        };
        let is_answered = matches!(syn.ending, Ending::Answered(_));
        match self.block {
            Some((from, blocked)) if time >= from => {
                let is_held = match self.judge {
                    Judge::Own(_) => blocked.device == sender.device,
                    Judge::Rival(_) => blocked.address == sender.address,
                };
                alarm.answered_after += u64::from(is_answered && !is_held);
            }
            Some(_) => alarm.answered_before += u64::from(is_answered),
            None => {
                alarm.answered_before += u64::from(is_answered && self.judge.may_block());
                self.block_where_due(time, sender);
            }
        }
    }

    fn block_where_due(&mut self, time: Timestamp, sender: Sender) {
        let answered = self.alarm.as_ref().map_or(0, |alarm| alarm.answered_before);
        let is_due = match self.judge {
            Judge::Own(_) => self.judge.may_block() && answered >= COMPLETED,
            Judge::Rival(_) => true,
        };
        if is_due {
            self.block = Some((time.plus_micros(MICROS_PER_SECOND), sender));
        }
    }

    fn holds(&self, time: Timestamp, sender: Sender) -> bool {
        let is_own = matches!(self.judge, Judge::Own(_));
        is_own
            && self
                .block
                .is_some_and(|(from, blocked)| time >= from && blocked.device == sender.device)
    }

    /// The host has another address: to a rival it is another source.
    fn moved(&mut self) {
        if self.alarm.is_none()
            && let Judge::Rival(rule) = self.judge
        {
            self.rival = Some(rule.fresh());
        }
    }

    fn is_over(&self, is_malicious: bool) -> bool {
        self.alarm.is_some()
            && (!is_malicious || !self.judge.may_block() || self.since >= LOOKED_AFTER)
    }
}

impl Judge {
    fn may_block(self) -> bool {
        !matches!(
            self,
            Self::Own(Detector::Burst | Detector::Volume | Detector::Policy)
        )
    }
}

/// Runs one host of `profile`.
pub(crate) fn run_host(profile: &Profile, host: u64, setting: &Setting) -> HostRun {
    let mut chance = Chance::new(setting.seed, profile.name, host);
    let days = setting.days;
    let start = if profile.is_malicious {
        START.plus_micros(WAKING + chance.micros(MOMENTS))
    } else {
        START
    };
    let end = start.plus_micros(i64::from(days) * DAY);
    let behaviour = profile.behaviour(&mut chance);
    let mut tracks: Vec<Track> = setting.judges.iter().copied().map(Track::new).collect();
    let mut gateway = Gateway::new(&setting.settings, profile.is_allowed, start);
    let mut count = Count {
        attempts: 0,
        answered: 0,
        groups: HashSet::with_hasher(FixedState::with_seed(0)),
        first: None,
    };
    let is_own = |track: &Track| matches!(track.judge, Judge::Own(_));
    let is_over = |track: &Track| track.is_over(profile.is_malicious);
    for (time, event) in Traffic::new(behaviour, chance, start, end) {
        let syn = match event {
            Event::Syn(syn) => syn,
            Event::Other(deed) => {
                if matches!(deed, Deed::Move(_)) {
                    tracks.iter_mut().for_each(Track::moved);
                }
                let is_heard = match deed {
                    Deed::Service(_) => setting.has_names,
                    Deed::Lookup => setting.has_lookups,
                    _ => true,
                };
                if is_heard {
                    gateway.note(deed, time);
                }
                continue;
            }
        };
        count.note(&syn, time);
        // The engine has nothing more to say where all of ours have spoken.
        let is_asked = tracks.iter().any(|track| is_own(track) && !is_over(track));
        let judged = if is_asked {
            gateway.syn(&syn, time)
        } else {
            Judged::default()
        };
        let sender = Sender {
            address: gateway.address(),
            device: judged.device,
        };
        if is_asked && syn.number == 0 && !tracks.iter().any(|track| track.holds(time, sender)) {
            gateway.answer(&syn, time);
        }
        for track in tracks.iter_mut().filter(|track| !is_over(track)) {
            track.syn(&syn, time, sender, &count, &judged);
        }
        let is_enough = profile.is_malicious && count.attempts >= MAX_ATTEMPTS;
        if is_enough || tracks.iter().all(is_over) {
            break;
        }
    }
    let own_bytes = gateway.bytes();
    HostRun {
        verdicts: tracks
            .into_iter()
            .map(|track| track.verdict(start, days, own_bytes))
            .collect(),
    }
}

impl Track {
    fn verdict(self, start: Timestamp, days: u32, own_bytes: usize) -> Verdict {
        let bytes = self.rival.map_or(own_bytes, |rival| rival.bytes());
        let days = match &self.alarm {
            Some(alarm) => {
                let begun = alarm.at.micros_since(start) / DAY + 1;
                u32::try_from(begun).unwrap_or(days)
            }
            None => days,
        };
        Verdict {
            days,
            alarm: self.alarm,
            bytes: bytes as u64,
        }
    }
}
