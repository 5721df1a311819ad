//! Many simulated hosts on several threads: which thread runs which host changes nothing.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::progress::Progress;
use crate::simulation::{HostRun, Profile, Row, Setting, Tally, run_host};

/// Runs `hosts` of each of the profiles; answers a row for each profile and detector, in their order.
pub(crate) fn simulate(
    profiles: &[&'static Profile],
    hosts: usize,
    setting: &Setting,
    threads: Option<NonZero<usize>>,
    shows_progress: bool,
) -> Vec<Row> {
    let total = profiles.len() * hosts;
    let progress = Progress::of_hosts(total as u64, shows_progress);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut runs: Vec<(usize, HostRun)> = Vec::new();
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            if job >= total {
                return runs;
            }
            let (profile, host) = (job / hosts, job % hosts);
            runs.push((profile, run_host(profiles[profile], host as u64, setting)));
            progress.advance(1);
        }
    };
    let threads = threads
        .or_else(|| thread::available_parallelism().ok())
        .map_or(1, NonZero::get);
    let mut tallies: Vec<Tally> = profiles.iter().map(|_| Tally::default()).collect();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(runs) => runs
                    .into_iter()
                    .for_each(|(profile, run)| tallies[profile].add(run)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    progress.finish();
    profiles
        .iter()
        .zip(&tallies)
        .flat_map(|(profile, tally)| {
            let judges = setting.judges.iter().enumerate();
            judges.map(|(place, judge)| tally.row(profile, *judge, place))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::simulation::Judge;

    #[test]
    fn the_answer_is_the_same_for_any_number_of_threads() {
        let setting = Setting {
            settings: Settings::default(),
            judges: Judge::all(),
            seed: 1,
            days: 1,
            has_names: true,
            has_lookups: true,
        };
        let profiles: Vec<_> = ["admin", "byod-3", "storm", "low"]
            .into_iter()
            .filter_map(Profile::named)
            .collect();
        assert_eq!(profiles.len(), 4);
        let rows = |threads| simulate(&profiles, 6, &setting, NonZero::new(threads), false);
        let one = rows(1);
        assert_eq!(one.len(), 4 * setting.judges.len());
        assert_eq!(one, rows(2));
        assert_eq!(one, rows(5));
    }
}
