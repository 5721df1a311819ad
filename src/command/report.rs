//! `smtpwatch report`: the one-shot answer.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

use super::configured::read_or_say;
use super::evidence::Asked as Evidence;
use super::inputs::{folders_without_logs, name_vendors, reading, say_passed_over};
use super::output::{deliver, overwrites};
use super::{BLIND, FAILED, INFECTED, USAGE, is_broken_pipe, say, say_all, say_skipped};
use crate::model::Timestamp;
use crate::runtime::{Offline, clock};
use crate::settings::Settings;
use crate::settings::config::Resolved;
use crate::settings::flags::{Format, Report as Flags, zone};
use crate::source::{InputError, VendorList, expand, lease_book, system_locations};
use crate::store::{Asked, Past, StoreError};
use crate::view::{self, Layout, Report};

/// Runs the verb; answers the exit status.
pub(super) fn run(flags: &Flags) -> u8 {
    let now = clock::now();
    let Some(config) = read_or_say(flags) else {
        return FAILED;
    };
    let leases = &config.config.leases;
    let settings = match flags.resolve(now, &config) {
        Ok(settings) => settings,
        Err(error) => {
            say(&error.to_string());
            return USAGE;
        }
    };
    if let Some(output) = &flags.print.output
        && overwrites(
            output,
            &[flags.inputs.as_slice(), leases.as_slice()].concat(),
        )
    {
        say(&format!(
            "{}: is an input, and the answer would overwrite it",
            output.display()
        ));
        return USAGE;
    }
    match history(flags, &config) {
        History::Read(folder) => return of_history(flags, &config, &settings, &folder, now),
        History::Misused(message) => {
            say(&message);
            return USAGE;
        }
        History::None => {}
    }
    let (locations, mut errors) = if flags.inputs.is_empty() {
        system_locations(settings.window.since)
    } else {
        expand(&flags.inputs)
    };
    if locations.is_empty() && errors.is_empty() && flags.inputs.is_empty() {
        errors.push(InputError::NothingHere);
    }
    let (leases, skipped_leases, mut lease_errors) =
        lease_book(leases.iter().map(AsRef::as_ref), now);
    errors.append(&mut lease_errors);
    let offline = Offline {
        locations,
        reading: reading(&flags.counting, &config, &settings.ports),
        leases,
        shows_progress: !flags.quiet,
    };
    // Unknown to whoever chooses the addresses in the log.
    let seed = RandomState::new().hash_one(0);
    let mut evidence = Evidence::new(flags, settings.window, seed);
    let mut answer = offline.run(settings, now, seed, |engine| evidence.note(engine));
    let folders: Vec<InputError> = folders_without_logs(&flags.inputs, &answer.read).collect();
    errors.append(&mut answer.read.errors);
    errors.extend(folders);
    name_vendors(&mut answer.engine, now);
    let mut report = Report::new(&answer.engine, &answer.read.outcomes, now, flags.top);
    say_all(&errors);
    if !flags.quiet {
        say_skipped(&skipped_leases);
        report.notes.lines.iter().for_each(|line| say(line));
        say_passed_over(&answer.read, flags.verbose);
    }
    if !evidence.put_of_run(&answer.engine, &mut report) {
        return FAILED;
    }
    finish(flags, &config, &report, &errors)
}

/// What the history has to do with the answer.
enum History {
    /// It gives it.
    Read(PathBuf),
    /// Nothing.
    None,
    /// It cannot give this one.
    Misused(String),
}

/// Where to read the history, if that is what is asked for: named, or there where nothing is named.
fn history(flags: &Flags, config: &Resolved) -> History {
    if !flags.inputs.is_empty() {
        return History::None;
    }
    let about_records = flags.about_records();
    if let Some(folder) = &flags.state_dir {
        if about_records.is_empty() {
            return History::Read(folder.clone());
        }
        return History::Misused(format!(
            "{} cannot be asked of a history, which was written with what smtpwatch watch was given; give a FILE",
            about_records.join(", ")
        ));
    }
    let Some(folder) = config.state_dir() else {
        return History::None;
    };
    let shown = folder.display();
    let (is_read, told) = match Past::is_there(folder) {
        Ok(true) if about_records.is_empty() => (
            true,
            format!("reading the history in {shown}; give a FILE to read logs"),
        ),
        Ok(true) => (
            false,
            format!(
                "reading this system's logs, for {} cannot be asked of the history in {shown}",
                about_records.join(", ")
            ),
        ),
        Ok(false) => (
            false,
            format!("reading this system's logs, for there is no history in {shown}"),
        ),
        Err(error) => (false, format!("reading this system's logs, for {error}")),
    };
    if !flags.quiet {
        say(&told);
    }
    if is_read {
        History::Read(folder.to_owned())
    } else {
        History::None
    }
}

/// The answer that the history in `folder` gives.
fn of_history(
    flags: &Flags,
    config: &Resolved,
    settings: &Settings,
    folder: &Path,
    now: Timestamp,
) -> u8 {
    let asked = Asked {
        window: settings.window,
        ports: flags.counting.ports().to_vec(),
        top: flags.top,
        max_destinations: settings.limits.destinations,
        seed: RandomState::new().hash_one(0),
    };
    let mut past = match Past::read(folder, &asked) {
        Ok(past) => past,
        Err(error) => {
            say(&error.to_string());
            let is_about_rights = matches!(error, StoreError::Denied { .. });
            return if flags.exit_code && is_about_rights {
                BLIND
            } else {
                FAILED
            };
        }
    };
    VendorList::of_system().fill(&mut past.devices);
    let facts = past.devices.clone();
    let mut report = Report::of_past(past, settings, now);
    if !flags.quiet {
        report.notes.lines.iter().for_each(|line| say(line));
    }
    let mut evidence = Evidence::new(flags, settings.window, asked.seed);
    if !evidence.put_of_history(folder, settings, now, &facts, &mut report) {
        return FAILED;
    }
    finish(flags, config, &report, &[])
}

fn finish(flags: &Flags, config: &Resolved, report: &Report, errors: &[InputError]) -> u8 {
    let printed = print(flags, config, report);
    if let Err(error) = &printed
        && !is_broken_pipe(error)
    {
        say(&format!("{error:#}"));
        return status(flags, report, errors).max(FAILED);
    }
    status(flags, report, errors)
}

fn print(flags: &Flags, config: &Resolved, report: &Report) -> anyhow::Result<()> {
    let format = flags.print.format();
    deliver(
        flags.print.output.as_deref(),
        format == Format::Table,
        |to, width| {
            let layout = Layout {
                zone: zone(config),
                top: flags.top,
                width,
            };
            match format {
                Format::Table => view::table(report, &layout, to),
                Format::Json => view::json(report, to),
                Format::Csv => view::csv(report, to),
            }
        },
    )
}

/// 3 before 4 before 1.
fn status(flags: &Flags, report: &Report, errors: &[InputError]) -> u8 {
    let is_blind = report.notes.is_blind || errors.iter().any(InputError::is_about_rights);
    if flags.exit_code && report.notes.is_infected {
        INFECTED
    } else if flags.exit_code && is_blind {
        BLIND
    } else if !errors.is_empty() {
        FAILED
    } else {
        0
    }
}

#[cfg(test)]
mod tests;
