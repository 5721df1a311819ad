//! `smtpwatch history`: what is kept, and what is to be forgotten of it.

use std::path::Path;

use super::configured::{read_or_say, state_dir_or_say};
use super::operator::operator;
use super::output::deliver;
use super::{FAILED, is_broken_pipe, say};
use crate::engine::grouped;
use crate::runtime::clock;
use crate::settings::flags::history::{History as Flags, HistoryAction};
use crate::store::{Forgotten, StoreError, forget, would_forget};
use crate::view::for_terminal;

/// Runs the verb; answers the exit status.
pub(super) fn run(flags: &Flags) -> u8 {
    let Some(config) = read_or_say(flags) else {
        return FAILED;
    };
    let Some(folder) = state_dir_or_say(&config) else {
        return FAILED;
    };
    let HistoryAction::Forget { device, yes, .. } = &flags.action;
    let done = if *yes {
        forget(folder, device, clock::now(), &operator())
    } else {
        would_forget(folder, device)
    };
    match done {
        Ok(forgotten) => shown(&forgotten, *yes, folder),
        Err(error) => {
            say(&error.to_string());
            if matches!(error, StoreError::NoDevice { .. }) {
                say("give the id, the MAC or an address as smtpwatch report shows it");
            }
            FAILED
        }
    }
}

/// Says what went, or would go.
fn shown(forgotten: &Forgotten, is_done: bool, folder: &Path) -> u8 {
    let printed = deliver(None, true, |to, _| {
        let what = if is_done {
            "was deleted"
        } else {
            "would be deleted"
        };
        writeln!(
            to,
            "{}: {} rows: {what}",
            for_terminal(&forgotten.device),
            grouped(forgotten.count())
        )?;
        for (table, rows) in forgotten.rows.iter().filter(|(_, rows)| *rows > 0) {
            writeln!(to, "  {table}: {}", grouped(*rows))?;
        }
        Ok(())
    });
    if is_done {
        say("a watch that runs still remembers it until it ends; counts of everybody stay");
        if !forgotten.is_settled {
            say(
                "what was deleted leaves the disk within minutes, when the history's log is next copied",
            );
        }
    } else {
        say(&format!(
            "nothing was deleted; --yes deletes it from {}",
            folder.display()
        ));
    }
    match printed {
        Err(error) if !is_broken_pipe(&error) => {
            say(&format!("{error:#}"));
            FAILED
        }
        _ => 0,
    }
}
