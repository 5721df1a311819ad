//! What many hosts came to: shares, medians, bounds. The order in which hosts are added changes nothing.

use serde::Serialize;
use statrs::distribution::{Beta, ContinuousCDF};

use super::profile::Profile;
use super::run::{HostRun, Judge};

/// Of the bound on false alarms.
const CONFIDENCE: f64 = 0.95;

/// The middle and the end of what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Quantiles {
    /// Half are at most that.
    pub(crate) median: u64,
    /// 95 % are at most that.
    pub(crate) p95: u64,
}

impl Quantiles {
    /// Those of `samples`, in any order; none of none.
    fn of(mut samples: Vec<u64>) -> Option<Self> {
        samples.sort_unstable();
        let last = samples.len().checked_sub(1)?;
        // The nearest rank.
        let at = |percent: usize| {
            samples[(samples.len() * percent).div_ceil(100).clamp(1, last + 1) - 1]
        };
        Some(Self {
            median: at(50),
            p95: at(95),
        })
    }
}

/// What a detector made of a profile's hosts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    /// The profile's name.
    pub(crate) profile: &'static str,
    /// Whether its hosts are to be found.
    pub(crate) malicious: bool,
    /// The detector's name.
    pub(crate) detector: &'static str,
    /// Hosts that were simulated.
    pub(crate) hosts: u64,
    /// Days of all of them, until each was found.
    pub(crate) host_days: u64,
    /// Hosts that were found.
    pub(crate) found: u64,
    /// The same by the hundred.
    pub(crate) found_percent: f64,
    /// Hosts found in a day.
    pub(crate) per_host_day: f64,
    /// Upper bound of that, with 95 % confidence (Clopper and Pearson 1934).
    pub(crate) per_host_day_bound95: f64,
    /// Of those that were found: connections tried, the one that decided among them.
    pub(crate) attempts: Option<Quantiles>,
    /// Destination groups (/24, /48) among them.
    pub(crate) groups: Option<Quantiles>,
    /// Seconds since the first.
    pub(crate) seconds: Option<Quantiles>,
    /// Connections that were answered before the block held.
    pub(crate) answered_before: Option<Quantiles>,
    /// Those of all hosts that were answered after it.
    pub(crate) answered_after: u64,
    /// Bytes that are kept of a host, at the most.
    pub(crate) state_bytes: u64,
}

/// The runs of one profile's hosts.
#[derive(Default)]
pub(crate) struct Tally(Vec<HostRun>);

impl Tally {
    /// Adds a host's run.
    pub(crate) fn add(&mut self, run: HostRun) {
        self.0.push(run);
    }

    /// What the `place`th of the detectors made of them.
    pub(crate) fn row(&self, profile: &Profile, judge: Judge, place: usize) -> Row {
        let runs = || self.0.iter().map(|run| &run.verdicts[place]);
        let found = || runs().filter_map(|verdict| verdict.alarm.as_ref());
        let quantiles =
            |value: fn(&super::run::Alarm) -> u64| Quantiles::of(found().map(value).collect());
        let hosts = self.0.len() as u64;
        let host_days = runs().map(|verdict| u64::from(verdict.days)).sum();
        let count = found().count() as u64;
        Row {
            profile: profile.name,
            malicious: profile.is_malicious,
            detector: judge.name(),
            hosts,
            host_days,
            found: count,
            found_percent: share(count, hosts) * 100.0,
            per_host_day: share(count, host_days),
            per_host_day_bound95: upper_bound(count, host_days),
            attempts: quantiles(|alarm| alarm.attempts),
            groups: quantiles(|alarm| alarm.groups),
            seconds: quantiles(|alarm| alarm.seconds),
            answered_before: quantiles(|alarm| alarm.answered_before),
            answered_after: found().map(|alarm| alarm.answered_after).sum(),
            state_bytes: runs().map(|verdict| verdict.bytes).max().unwrap_or(0),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "below 2^53")]
fn number(count: u64) -> f64 {
    count as f64
}

fn share(count: u64, of: u64) -> f64 {
    if of == 0 {
        0.0
    } else {
        number(count) / number(of)
    }
}

/// The largest rate of which no more than `count` in `trials` would be seen with 5 %: the upper bound of
/// Clopper and Pearson (1934), one-sided.
fn upper_bound(count: u64, trials: u64) -> f64 {
    if count >= trials {
        return 1.0;
    }
    if count == 0 {
        return -((1.0 - CONFIDENCE).ln() / number(trials)).exp_m1();
    }
    Beta::new(number(count) + 1.0, number(trials - count))
        .map_or(1.0, |beta| beta.inverse_cdf(CONFIDENCE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_tables() {
        // By R: qbeta(.95, k + 1, n - k).
        for (count, trials, expected) in [
            (0, 10, 0.258_866),
            (1, 10, 0.394_163),
            (5, 100, 0.102_255),
            (0, 430_500, 6.958_6e-6),
            (10, 10, 1.0),
        ] {
            let bound = upper_bound(count, trials);
            assert!(
                (bound / expected - 1.0).abs() < 1e-3,
                "{count} in {trials}: {bound}"
            );
        }
        // Of large counts the bound is that of Poisson: 28 in 42,000, by chi-squared with 58 degrees.
        let bound = upper_bound(28, 42_000) * 42_000.0;
        assert!((bound - 38.39).abs() < 0.05, "{bound}");
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        assert_eq!(Quantiles::of(Vec::new()), None);
        let of = |samples: Vec<u64>| Quantiles::of(samples).map(|it| (it.median, it.p95));
        assert_eq!(of(vec![7]), Some((7, 7)));
        assert_eq!(of((1..=100).rev().collect()), Some((50, 95)));
        assert_eq!(of(vec![1, 2, 3]), Some((2, 3)));
    }
}
