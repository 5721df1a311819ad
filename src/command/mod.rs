//! Floor 8: one file a verb. Here the exit status is decided, and errors become words.

mod report;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::settings::flags::{Flags, Verb};

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
    let Verb::Report(report) = flags.verb;
    report::run(&report).into()
}

/// Says something on standard error.
fn say(line: &str) {
    use std::io::Write;
    // Where standard error is gone there is nobody to tell.
    let _ = writeln!(anstream::stderr(), "smtpwatch: {line}");
}
