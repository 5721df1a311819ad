//! `smtpwatch backtest`: whom settings would have blocked, over the history or over files.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use super::configured::{read_files_and, read_or_say, say_errors};
use super::inputs::{folders_without_logs, name_vendors, reading, say_passed_over};
use super::output::{deliver, overwrites};
use super::{FAILED, USAGE, is_broken_pipe, say, say_all, say_skipped};
use crate::attribution::leases::LeaseBook;
use crate::engine::{Judged, grouped};
use crate::model::{Timestamp, Verdict};
use crate::runtime::{Offline, Trial, clock};
use crate::settings::config::Resolved;
use crate::settings::flags::backtest::Backtest as Flags;
use crate::settings::flags::{Format, zone};
use crate::settings::{Ports, Window};
use crate::source::{InputError, expand, lease_book};
use crate::store::{FILE, ReliveAsked, Relived, relive};
use crate::view::{Backtest, Layout, Tried};

/// Runs the verb; answers the exit status.
pub(super) fn run(flags: &Flags) -> u8 {
    let now = clock::now();
    let Some(current) = read_or_say(flags) else {
        return FAILED;
    };
    let tried = match tried(flags) {
        Ok(tried) => tried,
        Err(status) => return status,
    };
    let window = match flags.window(now, &current) {
        Ok(window) => window,
        Err(error) => {
            say(&error.to_string());
            return USAGE;
        }
    };
    if let Some(output) = &flags.print.output
        && overwrites(
            output,
            &[flags.inputs.as_slice(), current.config.leases.as_slice()].concat(),
        )
    {
        say(&format!(
            "{}: is an input, and the answer would overwrite it",
            output.display()
        ));
        return USAGE;
    }
    let run = Run {
        flags,
        current: &current,
        tried: tried.as_ref(),
        window,
        now,
    };
    if flags.inputs.is_empty() {
        run.over_history()
    } else {
        run.over_files()
    }
}

/// The configuration that is tried, where one is.
fn tried(flags: &Flags) -> Result<Option<Resolved>, u8> {
    if !flags.tries() {
        return Ok(None);
    }
    match read_files_and(flags.tried(), flags.said()) {
        Ok(mut tried) => {
            flags.lay_over_tried(&mut tried);
            Ok(Some(tried))
        }
        Err(errors) => {
            say_errors(&errors);
            Err(FAILED)
        }
    }
}

/// What is run.
struct Run<'a> {
    flags: &'a Flags,
    current: &'a Resolved,
    tried: Option<&'a Resolved>,
    window: Window,
    now: Timestamp,
}

/// What came of it.
struct Ran {
    trials: Vec<Trial>,
    inputs: Vec<String>,
    known_since: Option<Timestamp>,
    /// The time that was judged.
    window: Window,
    is_history: bool,
    is_whole: bool,
}

impl Run<'_> {
    fn configs(&self) -> impl Iterator<Item = &Resolved> {
        [self.current].into_iter().chain(self.tried)
    }

    fn over_files(&self) -> u8 {
        let flags = self.flags;
        let (locations, mut errors) = expand(&flags.inputs);
        let paths = self.current.config.leases.iter().map(AsRef::as_ref);
        let (leases, skipped_leases, mut lease_errors) = lease_book(paths, self.now);
        errors.append(&mut lease_errors);
        let seed = seed();
        let mut trials: Vec<Trial> = self
            .configs()
            .map(|config| {
                let settings = Flags::settings(config, self.window);
                Trial::new(settings, self.window, leases.clone(), seed)
            })
            .collect();
        let ports = self.configs().flat_map(|it| it.config.ports.as_slice());
        let ports = Ports::new(ports.copied());
        let offline = Offline {
            locations,
            reading: reading(&flags.counting, self.current, &ports),
            leases,
            shows_progress: !flags.quiet,
        };
        let mut read = offline.read(self.now, |evidence, is_late, reached| {
            for trial in &mut trials {
                trial.take(evidence, is_late, reached);
            }
        });
        let folders: Vec<InputError> = folders_without_logs(&flags.inputs, &read).collect();
        errors.append(&mut read.errors);
        errors.extend(folders);
        say_all(&errors);
        if !flags.quiet {
            say_skipped(&skipped_leases);
            say_passed_over(&read, false);
        }
        let span = trials[0].engine.totals().span;
        let ran = Ran {
            trials,
            inputs: read.outcomes.into_iter().map(|it| it.name).collect(),
            known_since: span.map(|(first, _)| first),
            window: self.window,
            is_history: false,
            is_whole: errors.is_empty(),
        };
        self.answer(ran)
    }

    fn over_history(&self) -> u8 {
        let about_records = self.flags.about_records();
        if !about_records.is_empty() {
            say(&format!(
                "{} cannot be asked of a history, which was written with what smtpwatch watch was given; give a FILE",
                about_records.join(", ")
            ));
            return USAGE;
        }
        let Some(folder) = self.current.state_dir() else {
            say("no history is kept (history.dir is \"-\"): give a FILE");
            return USAGE;
        };
        let seed = seed();
        let mut trials: Vec<Trial> = self
            .configs()
            .map(|config| {
                let settings = Flags::settings(config, Window::default());
                Trial::new(settings, self.window, LeaseBook::default(), seed)
            })
            .collect();
        let asked = asked(self.window, self.now);
        let told = relive(folder, &asked, &mut |told| {
            for trial in &mut trials {
                trial.relive(told);
            }
        });
        let relived = match told {
            Ok(relived) => relived,
            Err(error) => {
                say(&error.to_string());
                return FAILED;
            }
        };
        if !self.flags.quiet {
            say_limits(&relived, &asked, folder);
        }
        let ran = Ran {
            trials,
            inputs: vec![folder.join(FILE).display().to_string()],
            known_since: relived.known_since,
            window: Window {
                since: Some(asked.since),
                until: Some(asked.until),
            },
            is_history: true,
            is_whole: true,
        };
        self.answer(ran)
    }

    fn answer(&self, mut ran: Ran) -> u8 {
        let flags = self.flags;
        let is_learning = !flags.no_learning;
        let known_since = ran.known_since.filter(|_| is_learning);
        for trial in &mut ran.trials {
            name_vendors(&mut trial.engine, self.now);
        }
        let mut judged = ran.trials.iter().map(|trial| trial.judged(known_since));
        let current = judged.next().unwrap_or_default();
        let tried = judged.next();
        if !flags.quiet {
            say_unknown(&current);
            Self::say_forgotten(&ran.trials);
        }
        let backtest = Backtest::new(&Tried {
            generated_at: self.now,
            inputs: ran.inputs,
            window: ran.window,
            known_since: ran.known_since,
            times_are_spread: ran.is_history,
            is_learning,
            current: (self.current, current),
            other: self.tried.zip(tried),
        });
        let format = flags.print.format();
        let printed = deliver(
            flags.print.output.as_deref(),
            format == Format::Table,
            |to, width| {
                let layout = Layout {
                    zone: zone(self.current),
                    top: flags.top,
                    width,
                };
                match format {
                    Format::Table => backtest.table(&layout, to),
                    Format::Json => backtest.json(to),
                    Format::Csv => backtest.csv(to),
                }
            },
        );
        match printed {
            Err(error) if !is_broken_pipe(&error) => {
                say(&format!("{error:#}"));
                FAILED
            }
            _ if ran.is_whole => 0,
            _ => FAILED,
        }
    }

    fn say_forgotten(trials: &[Trial]) {
        let forgotten = trials
            .iter()
            .map(|trial| trial.engine.totals().evicted_devices);
        let forgotten = forgotten.max().unwrap_or(0);
        if forgotten > 0 {
            say(&format!(
                "more devices than are kept: {} that did least were forgotten, and are not in the answer",
                grouped(forgotten)
            ));
        }
    }
}

/// What is to be asked of the history for `window`.
pub(super) fn asked(window: Window, now: Timestamp) -> ReliveAsked {
    ReliveAsked {
        since: window.since.unwrap_or(Timestamp::from_micros(i64::MIN)),
        until: window.until.unwrap_or(now.plus_micros(1)),
    }
}

/// Unknown to whoever chooses the addresses.
fn seed() -> u64 {
    RandomState::new().hash_one(0)
}

/// What limits an answer that a history gives.
pub(super) fn say_limits(relived: &Relived, asked: &ReliveAsked, folder: &Path) {
    if relived.rows == 0 {
        say(&format!(
            "{}: the history has no attempt of that time",
            folder.display()
        ));
    }
    if let Some(summed) = relived.summed
        && asked.since < summed
        && relived.known_since.is_some_and(|since| since < summed)
    {
        say(&format!(
            "what lies before {summed} is kept as sums by day alone, and was not judged"
        ));
    }
    if relived.unreadable > 0 {
        say(&format!(
            "rows of the history that this version does not understand: {}",
            relived.unreadable
        ));
    }
}

/// Text logs do not tell how attempts ended.
fn say_unknown(judged: &[Judged]) {
    let unknown = judged.iter().filter(|judged| {
        judged.facts.verdict() == Verdict::Infected && judged.facts.outcomes.known() == 0
    });
    match unknown.count() {
        0 => {}
        count => say(&format!(
            "{count} infected: would alert, outcomes unknown; a text log does not tell whether connections were \
             completed, and nobody is blocked without that: OUT counts attempts there"
        )),
    }
}

#[cfg(test)]
mod tests;
