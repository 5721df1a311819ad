//! The rules that feed the sources: put in place, compared by their counters, put back when somebody
//! takes them away, and taken away at the end.

use std::collections::VecDeque;
use std::io;

use super::Core;
use crate::engine::Input;
use crate::model::{LossKind, MICROS_PER_SECOND, Notice, Process, SourceName, Timestamp};
use crate::netfilter::{self, Backend, Change, Commit, Matched, Monitor, Prepared};
use crate::runtime::clock::LiveClock;
use crate::settings::rules::{Rules, Via};
use crate::sys::readiness::Readiness;

/// The time within which rules are put back no more often than asked for.
const HEALING: i64 = 600 * MICROS_PER_SECOND;
/// Ticks between two looks at rules whose changes the kernel does not tell (iptables-legacy).
const POLLED: u64 = 2;
/// Ticks over which the rate of arrivals is measured.
const RATE_TICKS: usize = 10;

/// What feeds the sources; nothing, where no rules of ours are wanted.
pub(crate) struct Guard(Option<Post>);

/// The rules that are watched over.
struct Post {
    backend: Backend,
    via: Via,
    prepared: Prepared,
    /// The kernel's news of changes; none where it tells none.
    monitor: Option<(Monitor, Readiness)>,
    keeps_rules: bool,
    max_heals: usize,
    heals: VecDeque<Timestamp>,
    /// Whether the rules are left alone from now on.
    has_given_up: bool,
    last: Matched,
    arrivals: Arrivals,
    ticks: u64,
}

impl Guard {
    /// No rules are ours to look after.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Installs `rules`. Sources are to be open by then, so that what the rules match arrives. At most
    /// `max_heals` times in ten minutes they are put back.
    pub(crate) fn install(
        backend: Backend,
        rules: &Rules,
        keeps_rules: bool,
        max_heals: usize,
    ) -> Result<Self, netfilter::Error> {
        backend.install(rules)?;
        let prepared = backend.prepare(rules)?;
        let last = backend.matched()?;
        Ok(Self(Some(Post {
            monitor: None,
            backend,
            via: rules.via,
            prepared,
            keeps_rules,
            max_heals,
            heals: VecDeque::new(),
            has_given_up: false,
            last,
            arrivals: Arrivals::default(),
            ticks: 0,
        })))
    }

    /// Begins to listen to changes; to be called by the task that will wait for them.
    pub(super) fn listen(&mut self) -> io::Result<()> {
        if let Some(post) = &mut self.0 {
            post.monitor = match Monitor::open() {
                Ok(monitor) => {
                    let readiness = Readiness::of(&monitor)?;
                    Some((monitor, readiness))
                }
                // A kernel without nf_tables has nothing to tell; its rules are looked at in turn.
                Err(_) => None,
            };
        }
        Ok(())
    }

    /// Waits for somebody to change the firewall.
    pub(super) async fn changed(&self) {
        let monitor = self.0.as_ref().and_then(|post| post.monitor.as_ref());
        match monitor {
            // An error comes back from the read.
            Some((_, readiness)) => drop(readiness.wait().await),
            None => std::future::pending().await,
        }
    }

    /// Looks at what was changed, and puts our rules back where they are touched.
    pub(super) fn look(&mut self, core: &mut Core, clock: &LiveClock) {
        if let Some(post) = &mut self.0 {
            post.look(core, clock);
        }
    }

    /// Time has passed: rules whose changes nobody tells are looked at.
    pub(super) fn tick(&mut self, core: &mut Core, clock: &LiveClock) {
        if let Some(post) = &mut self.0 {
            post.tick(core, clock);
        }
    }

    /// Reads the counters, and tells the engine what they have counted since the last time.
    pub(super) fn count(&mut self, core: &mut Core, now: Timestamp) {
        if let Some(post) = &mut self.0 {
            post.count(core, now);
        }
    }

    /// Takes the rules away, unless they are to stay; answers what could not be done.
    pub(super) fn remove(&mut self) -> Option<String> {
        let post = self.0.take()?;
        if post.keeps_rules {
            return None;
        }
        match post.backend.remove() {
            Ok(removed) if removed.left.is_empty() => None,
            Ok(removed) => Some(format!("left in place: {}", removed.left.join("; "))),
            Err(error) => Some(format!(
                "the rules could not be removed: {error}; try smtpwatch rules remove"
            )),
        }
    }
}

impl Post {
    fn look(&mut self, core: &mut Core, clock: &LiveClock) {
        let mut suspect = None;
        for change in self.changes() {
            match change {
                Change::Committed(commit) if self.may_concern_us(&commit) => {
                    suspect = Some(commit.by);
                }
                Change::Committed(_) => {}
                Change::Missed => suspect = suspect.or(Some(None)),
            }
        }
        if let Some(by) = suspect {
            self.check(by, core, clock);
        }
    }

    fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let Some((monitor, _)) = &mut self.monitor else {
            return changes;
        };
        loop {
            match monitor.read() {
                Ok(read) if read.is_empty() => return changes,
                Ok(read) => changes.extend(read),
                Err(_) => {
                    changes.push(Change::Missed);
                    return changes;
                }
            }
        }
    }

    fn may_concern_us(&self, commit: &Commit) -> bool {
        let touched = &commit.touched;
        match self.backend {
            Backend::Nft(_) => touched.ours || touched.deleted_ours || touched.deleted_elements,
            Backend::Iptables(_) => touched.filter_tables || touched.others,
        }
    }

    /// Looks whether the rules are still what they should be; what `by` did to them is mended.
    fn check(&mut self, by: Option<Process>, core: &mut Core, clock: &LiveClock) {
        let now = clock.now();
        let is_whole = match self.backend.is_gone() {
            Ok(true) => false,
            // What cannot be read now is looked at again with the next change.
            Ok(false) => self
                .backend
                .differences(&self.prepared)
                .map_or(true, |found| found.is_empty()),
            Err(_) => true,
        };
        if is_whole || self.has_given_up {
            return;
        }
        core.notice(Notice::RulesGone { by }, now);
        if self.may_heal(now) {
            self.heal(core, now, clock);
        } else {
            self.has_given_up = true;
            let why = format!(
                "they were put back {} times in ten minutes, and somebody goes on taking them away",
                self.max_heals
            );
            core.notice(Notice::RulesLost { why }, now);
        }
    }

    fn may_heal(&mut self, now: Timestamp) -> bool {
        while self
            .heals
            .front()
            .is_some_and(|&heal| now.micros_since(heal) > HEALING)
        {
            self.heals.pop_front();
        }
        self.heals.len() < self.max_heals
    }

    fn heal(&mut self, core: &mut Core, gone: Timestamp, clock: &LiveClock) {
        self.heals.push_back(gone);
        if let Err(error) = self.backend.heal(&self.prepared) {
            let why = error.to_string();
            core.notice(Notice::RulesLost { why }, clock.now());
            return;
        }
        let now = clock.now();
        let after_micros = now.micros_since(gone);
        core.notice(Notice::RulesRestored { after_micros }, now);
        let passed = self.arrivals.within(after_micros);
        for source in self.sources() {
            core.lose(source, LossKind::RulesGone, passed);
        }
        self.last = Matched::default();
        // News of what we did ourselves; what others did meanwhile shows in the rules.
        let _ = self.changes();
        if self.backend.is_gone().unwrap_or(false) {
            self.check(None, core, clock);
        }
    }

    fn tick(&mut self, core: &mut Core, clock: &LiveClock) {
        self.ticks += 1;
        let is_blind = self.monitor.is_none() || self.backend.is_legacy();
        if is_blind && self.ticks.is_multiple_of(POLLED) {
            self.check(None, core, clock);
        }
        let sources = core.engine().health().sources();
        let events = sources.iter().map(|source| source.events).max();
        self.arrivals.note(clock.now(), events.unwrap_or(0));
    }

    fn count(&mut self, core: &mut Core, now: Timestamp) {
        // Rules that are gone have no counters; that is told elsewhere.
        let Ok(matched) = self.backend.matched() else {
            return;
        };
        // Counters that fell were put back with the rules.
        if matched.seen < self.last.seen || matched.logged < self.last.logged {
            self.last = Matched::default();
        }
        let seen = matched.seen - self.last.seen;
        let logged = matched.logged - self.last.logged;
        self.last = matched;
        for source in self.sources() {
            let packets = match source {
                SourceName::Kmsg => logged,
                _ => seen,
            };
            core.take(Input::Matched { source, packets }, now);
            if source == SourceName::Kmsg {
                core.lose(source, LossKind::RateLimited, seen.saturating_sub(logged));
            }
        }
    }

    /// The sources that the rules feed.
    fn sources(&self) -> Vec<SourceName> {
        let via = self.via;
        let nflog = via.has_nflog().then_some(SourceName::Nflog);
        let kmsg = via.has_log().then_some(SourceName::Kmsg);
        nflog.into_iter().chain(kmsg).collect()
    }
}

/// How many observations arrived lately: what passes while the rules are gone can only be estimated.
#[derive(Debug, Default)]
struct Arrivals(VecDeque<(Timestamp, u64)>);

impl Arrivals {
    fn note(&mut self, now: Timestamp, events: u64) {
        if self.0.len() > RATE_TICKS {
            self.0.pop_front();
        }
        self.0.push_back((now, events));
    }

    /// As many as arrived lately in a time of `micros`, rounded up.
    fn within(&self, micros: i64) -> u64 {
        let (Some((since, first)), Some((until, last))) = (self.0.front(), self.0.back()) else {
            return 0;
        };
        let span = u128::try_from(until.micros_since(*since)).unwrap_or(0);
        let share = u128::from(last - first) * u128::try_from(micros).unwrap_or(0);
        u64::try_from(share.div_ceil(span.max(1))).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_unseen_is_estimated_from_what_arrived_before() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.within(1_000_000), 0);
        for second in 0..30 {
            let now = Timestamp::from_seconds(second);
            arrivals.note(now, u64::try_from(second).unwrap() * 1000);
        }
        assert_eq!(arrivals.within(50_000), 50);
        assert_eq!(arrivals.within(1), 1);
    }
}
