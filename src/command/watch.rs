//! `smtpwatch watch`: the live run.

use std::hash::{BuildHasher, RandomState};
use std::io::IsTerminal;

use anyhow::{Context, bail};

use super::output::deliver;
use super::{BLIND, FAILED, INFECTED, is_broken_pipe, say};
use crate::attribution::leases::LeaseBook;
use crate::engine::Engine;
use crate::model::{Interface, SourceName};
use crate::recording::Recorder;
use crate::runtime::clock::LiveClock;
use crate::runtime::live::{Core, Ended, Guard, Live, Shown, Sink, Slots};
use crate::settings::flags::watch::{Format, Mode, Source, Watch as Flags};
use crate::source::{Inventory, LiveOptions};
use crate::store::Writer;
use crate::view::{self, Layout, Report};

/// Runs the verb; answers the exit status.
pub(super) fn run(flags: &Flags) -> u8 {
    match watch(flags) {
        Ok(status) => status,
        Err(error) => {
            say(&format!("{error:#}"));
            FAILED
        }
    }
}

fn watch(flags: &Flags) -> anyhow::Result<u8> {
    let settings = flags.resolve();
    let clock = LiveClock::start();
    let inventory = Inventory::open(&flags.leases)?;
    let (slots, guard, why) = eyes(flags, &settings)?;
    if !flags.quiet {
        say(&why);
    }
    let history = flags.state_dir().map(Writer::start).transpose()?;
    // Unknown to whoever chooses the addresses.
    let seed = RandomState::new().hash_one(0);
    let recorder = match &flags.record {
        Some(path) => Some(Recorder::create(path, &settings, seed, clock.now())?),
        None => None,
    };
    let engine = Engine::new(settings, LeaseBook::default(), seed);
    let sink = Sink::open(shown(flags), flags.zone(), flags.mode == Mode::Alert, flags.quiet, why)
        .context("cannot open the terminal")?;
    let live = Live {
        core: Core::new(engine, sink, recorder, history),
        slots,
        guard,
        inventory,
        clock,
        time: flags.time,
    };
    let ended = live.run().context("the run ended early")?;
    conclude(flags, ended)
}

fn shown(flags: &Flags) -> Shown {
    match flags.format() {
        Format::Json => Shown::Events,
        Format::Table if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() => {
            Shown::Screen
        }
        Format::Table => Shown::Lines,
    }
}

/// The report at the end, and the exit status.
fn conclude(flags: &Flags, ended: Ended) -> anyhow::Result<u8> {
    let Ended {
        engine,
        sink,
        at,
        troubles,
    } = ended;
    let report = Report::new(&engine, &[], engine.wall(at), flags.top);
    let dropped = sink.finish(&report, engine.wall(at));
    for trouble in &troubles {
        say(trouble);
    }
    if !flags.quiet {
        report.notes.lines.iter().for_each(|line| say(line));
    }
    match dropped {
        Ok(0) => {}
        Ok(dropped) => say(&format!(
            "events that were not read in time and are missing from the output: {dropped}"
        )),
        Err(error) => say(&format!("cannot write to standard output: {error}")),
    }
    if flags.format() == Format::Table {
        let printed = deliver(None, true, |to, width| {
            let layout = Layout {
                zone: flags.zone(),
                top: flags.top,
                width,
            };
            view::table(&report, &layout, to)
        });
        if let Err(error) = printed
            && !is_broken_pipe(&error)
        {
            return Err(error);
        }
    }
    Ok(match (flags.exit_code, report.notes.is_infected, report.notes.is_blind) {
        (true, true, _) => INFECTED,
        (true, false, true) => BLIND,
        _ if troubles.is_empty() => 0,
        _ => FAILED,
    })
}
