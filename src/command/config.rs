//! `smtpwatch config`: the configuration that holds, where it came from, and whether it is right.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use clap::Parser;

use super::configured::{self, MAIN, read_files, say_errors};
use super::output::{Writer, deliver};
use super::{FAILED, USAGE, is_broken_pipe, say};
use crate::settings::config::{Resolved, TEMPLATE};
use crate::settings::flags::config::{Config as Flags, ConfigAction, ConfigFormat, Configurable};
use crate::settings::flags::{Flags as Command, Verb};
use crate::view::Configuration;

/// Runs the verb; answers the exit status.
pub(super) fn run(flags: &Flags) -> u8 {
    match &flags.action {
        ConfigAction::Show { default: true, .. } => print(|to| to.write_all(TEMPLATE.as_bytes())),
        ConfigAction::Show {
            format,
            json,
            config,
            command,
            ..
        } => {
            let format = if *json { ConfigFormat::Json } else { *format };
            match laid_over(command, config.path()) {
                Ok(resolved) => show(&resolved, format),
                Err(status) => status,
            }
        }
        ConfigAction::Check { file } => check(file.as_deref()),
    }
}

/// The configuration, and what the verb `command` lays over it, where one is given.
fn laid_over(command: &[impl AsRef<OsStr>], named: Option<&Path>) -> Result<Resolved, u8> {
    let of_files = |named: Option<&Path>| {
        read_files(named).map_err(|errors| {
            say_errors(&errors);
            FAILED
        })
    };
    if command.is_empty() {
        return of_files(named);
    }
    let words = command.iter().map(AsRef::as_ref);
    let words = [OsStr::new("smtpwatch")].into_iter().chain(words);
    let parsed = Command::try_parse_from(words).map_err(|error| {
        // Where standard error is gone there is nobody to tell.
        let _ = error.print();
        USAGE
    })?;
    let flags: &dyn Configurable = match &parsed.verb {
        Verb::Report(flags) => flags.as_ref(),
        Verb::Backtest(flags) => flags.as_ref(),
        Verb::Devices(flags) => flags,
        Verb::Explain(flags) => flags,
        Verb::Watch(flags) => flags.as_ref(),
        Verb::Rules(flags) => flags,
        Verb::Simulate(flags) => flags,
        Verb::Doctor(flags) => flags,
        Verb::Who(flags) => flags.as_ref(),
        Verb::History(flags) => flags,
        Verb::Replay(_) | Verb::Config(_) => {
            say(
                "that verb takes nothing of the configuration; give watch, report, rules, devices, explain, simulate, doctor, who or history",
            );
            return Err(USAGE);
        }
    };
    let mut resolved = of_files(named.or(flags.config_file()))?;
    flags.lay_over(&mut resolved);
    Ok(resolved)
}

fn show(resolved: &Resolved, format: ConfigFormat) -> u8 {
    let shape = Configuration::new(resolved);
    print(|to| match format {
        ConfigFormat::Toml => shape.toml(to),
        ConfigFormat::Table => shape.table(to),
        ConfigFormat::Json => shape.json(to),
    })
}

fn check(file: Option<&Path>) -> u8 {
    match configured::read_files(file) {
        Ok(_) => {
            let path = file.unwrap_or(Path::new(MAIN));
            if file.is_none() && !path.exists() {
                say(&format!("there is no {MAIN}: the defaults hold"));
            }
            print(|to| writeln!(to, "OK"))
        }
        Err(errors) => {
            say_errors(&errors);
            FAILED
        }
    }
}

fn print(write: impl FnOnce(Writer<'_>) -> io::Result<()>) -> u8 {
    match deliver(None, false, |to, _| write(to)) {
        Err(error) if !is_broken_pipe(&error) => {
            say(&format!("{error:#}"));
            FAILED
        }
        _ => 0,
    }
}
