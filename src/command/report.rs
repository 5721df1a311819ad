//! `smtpwatch report`: the one-shot answer.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use anstream::{AutoStream, ColorChoice};
use anyhow::Context;

use super::{BLIND, FAILED, INFECTED, USAGE, say};
use crate::attribution::leases::LeaseBook;
use crate::decode::kernel_log::Decoder;
use crate::runtime::{Answer, Offline, clock};
use crate::settings::Settings;
use crate::settings::flags::{Format, Report as Flags};
use crate::source::{InputError, Reading, expand};
use crate::view::{self, Layout, Report};

/// Runs the verb; answers the exit status.
pub(super) fn run(flags: &Flags) -> u8 {
    let now = clock::now();
    let settings = match flags.resolve(now) {
        Ok(settings) => settings,
        Err(error) => {
            say(&error.to_string());
            return USAGE;
        }
    };
    let (locations, mut errors) = expand(&flags.inputs);
    let offline = Offline {
        locations,
        reading: reading(flags, &settings),
        leases: LeaseBook::default(),
        shows_progress: !flags.quiet,
    };
    // Unknown to whoever chooses the addresses in the log.
    let seed = RandomState::new().hash_one(0);
    let mut answer = offline.run(settings, now, seed);
    errors.append(&mut answer.errors);
    nothing_inside(flags, &answer, &mut errors);
    let report = Report::new(&answer.engine, &answer.outcomes, now, flags.top);
    for error in &errors {
        say(&error.to_string());
    }
    if !flags.quiet {
        report.notes.lines.iter().for_each(|line| say(line));
    }
    if let Err(error) = print(flags, &report)
        && error
            .root_cause()
            .downcast_ref::<io::Error>()
            .map(io::Error::kind)
            != Some(io::ErrorKind::BrokenPipe)
    {
        say(&format!("{error:#}"));
        return FAILED;
    }
    status(flags, &report, &errors)
}

fn reading(flags: &Flags, settings: &Settings) -> Reading {
    Reading {
        ports: settings.ports.clone(),
        zone: flags.zone(),
        decoder: Decoder::new(flags.tag.iter().map(|tag| tag.clone().into_bytes())),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// A folder in which nothing was of a known kind is an error of its own.
fn nothing_inside(flags: &Flags, answer: &Answer, errors: &mut Vec<InputError>) {
    if !answer.outcomes.is_empty() || !errors.is_empty() {
        return;
    }
    errors.extend(flags.inputs.iter().map(|path| InputError::NothingInside {
        name: path.to_string_lossy().into_owned(),
    }));
}

fn print(flags: &Flags, report: &Report) -> anyhow::Result<()> {
    let layout = |width| Layout {
        zone: flags.zone(),
        top: flags.top,
        width,
    };
    match &flags.output {
        Some(path) => {
            let file = File::create(path).with_context(|| cannot_write(path))?;
            let mut to = BufWriter::new(AutoStream::new(file, ColorChoice::Never));
            write(flags.format(), report, &layout(None), &mut to)
                .and_then(|()| to.flush())
                .with_context(|| cannot_write(path))
        }
        None => {
            let width = io::stdout().is_terminal().then(terminal_width).flatten();
            let choice = AutoStream::choice(&io::stdout());
            let mut to = BufWriter::new(AutoStream::new(io::stdout(), choice));
            write(flags.format(), report, &layout(width), &mut to)
                .and_then(|()| to.flush())
                .context("cannot write to standard output")
        }
    }
}

fn cannot_write(path: &Path) -> String {
    format!("{}: cannot be written", path.display())
}

fn write(format: Format, report: &Report, layout: &Layout, to: &mut impl Write) -> io::Result<()> {
    match format {
        Format::Table => view::table(report, layout, to),
        Format::Json => view::json(report, to),
        Format::Csv => view::csv(report, to),
    }
}

fn terminal_width() -> Option<u16> {
    comfy_table::Table::new().width()
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
