//! `smtpwatch doctor`: what this machine has and lacks for the watch, and the proof that it works.

use super::configured::read_or_say;
use super::output::deliver;
use super::{FAILED, is_broken_pipe, say};
use crate::runtime::clock;
use crate::runtime::doctor::{examine, selftest};
use crate::settings::flags::doctor::{Doctor as Flags, DoctorFormat};
use crate::view::{CheckStatus, Diagnosis};

/// Runs the verb; answers the exit status.
pub(super) fn run(flags: &Flags) -> u8 {
    let checks = if flags.selftest {
        selftest()
    } else {
        let Some(config) = read_or_say(flags) else {
            return FAILED;
        };
        examine(&config, clock::now())
    };
    let diagnosis = Diagnosis::new(checks, clock::now());
    let format = flags.format();
    let printed = deliver(None, format == DoctorFormat::Table, |to, _| match format {
        DoctorFormat::Table => diagnosis.table(flags.quiet, to),
        DoctorFormat::Json => diagnosis.json(to),
    });
    match printed {
        Err(error) if !is_broken_pipe(&error) => {
            say(&format!("{error:#}"));
            FAILED
        }
        _ if diagnosis.status() == CheckStatus::Fail => FAILED,
        _ => 0,
    }
}
