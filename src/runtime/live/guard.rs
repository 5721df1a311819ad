//! The rules that feed the sources: put in place, compared by their counters, put back when somebody
//! takes them away, and taken away at the end.

use std::collections::VecDeque;
use std::io;

use super::Core;
use crate::engine::Input;
use crate::model::{LossKind, MICROS_PER_SECOND, Notice, Process, SourceName, Timestamp};
use crate::netfilter::{
    self, Backend, Change, Claim, Commit, Installed, Matched, Monitor, Prepared,
};
use crate::runtime::clock::LiveClock;
use crate::settings::rules::{PartialRules, Rules, Via};
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
    /// The group whose reader waits for answers of the DNS.
    answers: Option<u16>,
    prepared: Prepared,
    /// The kernel's news of changes; none where it tells none.
    monitor: Option<(Monitor, Readiness)>,
    keeps_rules: bool,
    max_heals: usize,
    heals: VecDeque<Timestamp>,
    /// Since when the rules are not what they should be.
    gone: Option<Gone>,
    last: Matched,
    arrivals: Arrivals,
    ticks: u64,
    /// Kept for as long as the rules are looked after.
    _claim: Claim,
}

/// Rules that are not what they should be.
#[derive(Debug)]
struct Gone {
    since: Timestamp,
    /// How fast SYNs came before.
    rate: Rate,
    /// Whether it was told that they are not put back.
    is_lost: bool,
    /// Whether they are left alone, until somebody else puts them back.
    has_given_up: bool,
}

impl Guard {
    /// No rules are ours to look after.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Installs `rules`, which `claim` makes ours to look after; answers whether they were there already. Sources are to be open by then, so
    /// that what the rules match arrives. At most `max_heals` times in ten minutes they are put back.
    pub(crate) fn install(
        backend: Backend,
        rules: &Rules,
        claim: Claim,
        keeps_rules: bool,
        max_heals: usize,
    ) -> Result<(Self, Installed), netfilter::Error> {
        let prepared = backend.prepare(rules)?;
        backend.check(&prepared)?;
        let mut post = Post {
            monitor: None,
            backend,
            via: rules.via,
            answers: rules.answers,
            prepared,
            keeps_rules,
            max_heals,
            heals: VecDeque::new(),
            gone: None,
            last: Matched::default(),
            arrivals: Arrivals::default(),
            ticks: 0,
            _claim: claim,
        };
        let installed = post.backend.heal(&post.prepared);
        let matched = installed.and_then(|done| Ok((done, post.backend.matched()?)));
        if let Ok((_, matched)) = matched {
            post.last = matched;
        }
        // Whatever has failed, what is there of them is taken away again with this.
        let guard = Self(Some(post));
        matched.map(|(done, _)| (guard, done))
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

    /// Whether the rules are to be looked at in turn.
    pub(super) fn is_polled(&self) -> bool {
        self.0.as_ref().is_some_and(Post::is_polled)
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
            // They explain what does not arrive.
            core.tell_losses(now);
            post.count(core, now);
        }
    }

    /// Has the rules that `wanted` tells of stand in the place of these, in one transaction; where that
    /// fails these stay.
    pub(super) fn replace(
        &mut self,
        wanted: PartialRules,
        core: &mut Core,
        clock: &LiveClock,
    ) -> Result<(), netfilter::Error> {
        match &mut self.0 {
            Some(post) => post.replace(wanted, core, clock),
            None => Ok(()),
        }
    }

    /// The run ends: what passed while the rules were gone is told.
    pub(super) fn close(&mut self, core: &mut Core, now: Timestamp) {
        if let Some(post) = &mut self.0
            && let Some(gone) = post.gone.take()
        {
            post.lose(gone.rate, now.micros_since(gone.since), core);
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

/// A run that ends before its time leaves no rules, either.
impl Drop for Guard {
    fn drop(&mut self) {
        // Whatever ended it is what is told.
        let _ = self.remove();
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
            Backend::Nft(_) => {
                touched.ours
                    || touched.deleted_ours
                    || touched.deleted_elements
                    || touched.added_elements
            }
            Backend::Iptables(_) => touched.filter_tables || touched.others,
        }
    }

    /// Looks whether the rules are what they should be; what `by` did to them is mended.
    fn check(&mut self, by: Option<Process>, core: &mut Core, clock: &LiveClock) {
        let now = clock.now();
        let is_whole = match self.backend.is_gone() {
            Ok(true) => false,
            // What cannot be read now is looked at again with the next change.
            Ok(false) => match self.backend.differences(&self.prepared) {
                Ok(found) => found.is_empty(),
                Err(_) => return,
            },
            Err(_) => return,
        };
        if is_whole {
            if let Some(gone) = self.gone.take() {
                // Somebody else has put them back.
                self.restored(&gone, core, now);
            }
            return;
        }
        let is_news = self.gone.is_none();
        let rate = self.arrivals.rate();
        let gone = self.gone.get_or_insert(Gone {
            since: now,
            rate,
            is_lost: false,
            has_given_up: false,
        });
        if is_news {
            core.notice(Notice::RulesGone { by }, now);
        } else if gone.has_given_up {
            return;
        }
        if self.may_heal(now) {
            self.heal(core, clock);
        } else {
            let why = format!(
                "they were put back {} in ten minutes, and somebody goes on taking them away",
                times(self.max_heals)
            );
            self.give_up(why, true, core, now);
        }
    }

    /// Tells, once, that the rules stay gone.
    fn give_up(&mut self, why: String, is_for_good: bool, core: &mut Core, now: Timestamp) {
        let Some(gone) = &mut self.gone else {
            return;
        };
        gone.has_given_up = is_for_good;
        if !std::mem::replace(&mut gone.is_lost, true) {
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

    fn heal(&mut self, core: &mut Core, clock: &LiveClock) {
        if let Err(error) = self.backend.heal(&self.prepared) {
            // It is tried again at a later tick.
            self.give_up(error.to_string(), false, core, clock.now());
            return;
        }
        let now = clock.now();
        self.heals.push_back(now);
        if let Some(gone) = self.gone.take() {
            self.restored(&gone, core, now);
        }
        // News of what we did ourselves; what others did meanwhile shows in the rules.
        let _ = self.changes();
        if self.backend.is_gone().unwrap_or(false) {
            self.check(None, core, clock);
        }
    }

    fn replace(
        &mut self,
        wanted: PartialRules,
        core: &mut Core,
        clock: &LiveClock,
    ) -> Result<(), netfilter::Error> {
        let mut rules = wanted.resolve(self.backend.default_at());
        rules.via = self.via;
        rules.answers = self.answers;
        let prepared = self.backend.prepare(&rules)?;
        self.backend.check(&prepared)?;
        // What these have counted; rules that are loaded anew begin at 0.
        core.tell_losses(clock.now());
        self.count(core, clock.now());
        self.backend.heal(&prepared)?;
        self.prepared = prepared;
        let now = clock.now();
        match self.gone.take() {
            Some(gone) => self.restored(&gone, core, now),
            None => self.level(),
        }
        // News of what we did ourselves; what others did meanwhile shows in the rules.
        let _ = self.changes();
        self.check(None, core, clock);
        Ok(())
    }

    /// Rules that were loaded anew count from 0; where only ports were changed the counters go on.
    fn level(&mut self) {
        let goes_on = |matched: Matched| matched.seen >= self.last.seen;
        if !self.backend.matched().is_ok_and(goes_on) {
            self.last = Matched::default();
        }
    }

    /// The rules are back.
    fn restored(&mut self, gone: &Gone, core: &mut Core, now: Timestamp) {
        let after_micros = now.micros_since(gone.since);
        core.notice(Notice::RulesRestored { after_micros }, now);
        self.lose(gone.rate, after_micros, core);
        self.level();
    }

    /// Counts what passed in a time without rules of `micros`.
    fn lose(&self, rate: Rate, micros: i64, core: &mut Core) {
        let passed = rate.within(micros);
        for source in self.sources() {
            core.lose(&source, LossKind::RulesGone, passed);
        }
    }

    /// Whether nobody tells of changes, or there is something to mend.
    fn is_polled(&self) -> bool {
        let is_deaf = self.monitor.is_none() || self.backend.is_legacy();
        let is_to_mend = self.gone.as_ref().is_some_and(|gone| !gone.has_given_up);
        is_deaf || is_to_mend
    }

    fn tick(&mut self, core: &mut Core, clock: &LiveClock) {
        self.ticks += 1;
        if self.is_polled() && self.ticks.is_multiple_of(POLLED) {
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
            if source == SourceName::Kmsg {
                core.lose(&source, LossKind::RateLimited, seen.saturating_sub(logged));
            }
            core.take(Input::Matched { source, packets }, now);
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

    /// How fast they arrived lately.
    fn rate(&self) -> Rate {
        let (Some((since, first)), Some((until, last))) = (self.0.front(), self.0.back()) else {
            return Rate::default();
        };
        Rate {
            events: last - first,
            micros: until.micros_since(*since),
        }
    }
}

/// So many observations in so long a time.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    events: u64,
    micros: i64,
}

impl Rate {
    /// As many as come in a time of `micros`, rounded up.
    fn within(self, micros: i64) -> u64 {
        let span = u128::try_from(self.micros).unwrap_or(0);
        let share = u128::from(self.events) * u128::try_from(micros).unwrap_or(0);
        u64::try_from(share.div_ceil(span.max(1))).unwrap_or(u64::MAX)
    }
}

fn times(count: usize) -> String {
    match count {
        1 => "once".to_owned(),
        more => format!("{more} times"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_unseen_is_estimated_from_what_arrived_before() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.rate().within(1_000_000), 0);
        for second in 0..30 {
            let now = Timestamp::from_seconds(second);
            arrivals.note(now, u64::try_from(second).unwrap() * 1000);
        }
        assert_eq!(arrivals.rate().within(50_000), 50);
        assert_eq!(arrivals.rate().within(1), 1);
    }
}
