//! `smtpwatch replay`: a recorded watch, run again.

use super::output::{deliver, overwrites};
use super::{FAILED, USAGE, is_broken_pipe, say};
use crate::recording::Player;
use crate::runtime::{Replayed, replay};
use crate::settings::flags::{Format, Replay as Flags};
use crate::view::{self, Layout, Report, event};

/// Runs the verb; answers the exit status.
pub(super) fn run(flags: &Flags) -> u8 {
    if let Some(output) = &flags.print.output
        && overwrites(output, &[&flags.recording])
    {
        say(&format!(
            "{}: is the recording, and the answer would overwrite it",
            output.display()
        ));
        return USAGE;
    }
    let mut player = match Player::open(&flags.recording) {
        Ok(player) => player,
        Err(error) => {
            say(&error.to_string());
            return FAILED;
        }
    };
    let mut error = None;
    let format = flags.print.format();
    let printed = deliver(
        flags.print.output.as_deref(),
        format == Format::Table,
        |to, width| {
            let replayed = replay(&mut player, &mut |effect, engine, now| match format {
                Format::Json => event::write(effect, engine, now, &mut *to),
                Format::Table | Format::Csv => Ok(()),
            })?;
            let report = report(flags, &replayed);
            let layout = Layout {
                zone: flags.zone(),
                top: flags.top,
                width,
            };
            let at = replayed.engine.wall(replayed.at);
            error = replayed.error;
            match format {
                // A part of a run has no end to report.
                Format::Json if error.is_some() => to.flush(),
                Format::Json => event::write_report(&report, at, to),
                Format::Table => view::table(&report, &layout, to),
                Format::Csv => view::csv(&report, to),
            }
        },
    );
    if let Some(cut) = player.cut() {
        say(&cut);
    }
    if let Some(error) = &error {
        say(&error.to_string());
    }
    match printed {
        Err(error) if !is_broken_pipe(&error) => {
            say(&format!("{error:#}"));
            FAILED
        }
        _ if error.is_some() => FAILED,
        _ => 0,
    }
}

/// The report that the run ended with; what limits it is said.
fn report(flags: &Flags, replayed: &Replayed) -> Report {
    let report = Report::new(
        &replayed.engine,
        &[],
        replayed.engine.wall(replayed.at),
        flags.top,
    );
    report.notes.lines.iter().for_each(|line| say(line));
    report
}

#[cfg(test)]
mod tests;
