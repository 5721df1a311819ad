//! Floor 8: one file a verb. Here the exit status is decided, and errors become words.

mod backtest;
mod config;
mod configured;
mod devices;
mod doctor;
mod evidence;
mod explain;
mod history;
mod inputs;
mod operator;
mod output;
mod replay;
mod report;
mod rules;
mod simulate;
mod watch;
mod who;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::Parser;

use crate::settings::flags::{Flags, Verb};
use crate::source::{InputError, SkippedLeases};
use crate::view::for_terminal;

/// Exit status: something could not be done.
const FAILED: u8 = 1;
/// Exit status: wrong usage (clap's own, too).
const USAGE: u8 = 2;
/// Exit status with `--exit-code`: at least one device or account is infected.
const INFECTED: u8 = 3;
/// Exit status with `--exit-code`: the answer is not to be trusted.
const BLIND: u8 = 4;

/// Runs the command line `args`, the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let flags = match Flags::try_parse_from(args) {
        Ok(flags) => flags,
        Err(error) => {
            // Help and version are answers, on standard output; the rest is an error.
            let status = if error.use_stderr() { USAGE } else { 0 };
            return match error.print() {
                Ok(()) => status.into(),
                Err(_) => FAILED.into(),
            };
        }
    };
    match flags.verb {
        Verb::Report(flags) => report::run(&flags),
        Verb::Devices(flags) => devices::run(&flags),
        Verb::Explain(flags) => explain::run(&flags),
        Verb::Watch(flags) => watch::run(&flags),
        Verb::Rules(flags) => rules::run(&flags),
        Verb::Doctor(flags) => doctor::run(&flags),
        Verb::Replay(flags) => replay::run(&flags),
        Verb::Backtest(flags) => backtest::run(&flags),
        Verb::Config(flags) => config::run(&flags),
        Verb::Who(flags) => who::run(&flags),
        Verb::History(flags) => history::run(&flags),
        Verb::Simulate(flags) => simulate::run(&flags),
    }
    .into()
}

/// Says something on standard error.
fn say(line: &str) {
    use std::io::Write;
    // Where standard error is gone there is nobody to tell.
    let _ = writeln!(anstream::stderr(), "smtpwatch: {}", for_terminal(line));
}

fn say_all(errors: &[InputError]) {
    for error in errors {
        say(&error.to_string());
    }
}

fn say_skipped(skipped: &[SkippedLeases]) {
    for SkippedLeases { name, reasons } in skipped {
        let reasons: Vec<String> = reasons
            .iter()
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        say(&format!("{name}: passed over: {}", reasons.join(", ")));
    }
}

/// Whether an error only says that nobody reads the answer any more (`| head`).
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .root_cause()
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
