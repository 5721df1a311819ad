//! `smtpwatch simulate`: what these settings, and other programs, make of hosts that a seed makes up.

use super::configured::read_or_say;
use super::output::deliver;
use super::{FAILED, USAGE, is_broken_pipe, say};
use crate::runtime::simulate;
use crate::settings::flags::Format;
use crate::settings::flags::simulate::Simulate as Flags;
use crate::simulation::{Judge, PROFILES, Profile, Setting};
use crate::view::Simulation;

/// Runs the verb; answers the exit status.
pub(super) fn run(flags: &Flags) -> u8 {
    let Some(config) = read_or_say(flags) else {
        return FAILED;
    };
    let (profiles, judges) = match (profiles(&flags.profile), judges(&flags.detector)) {
        (Ok(profiles), Ok(judges)) => (profiles, judges),
        (profiles, judges) => {
            for error in [profiles.err(), judges.err()].into_iter().flatten() {
                say(&error);
            }
            return USAGE;
        }
    };
    let setting = Setting {
        settings: config.settings(),
        judges,
        seed: flags.seed,
        days: flags.days,
        has_names: flags.names,
        has_lookups: flags.lookups,
    };
    let hosts = flags.seeds as usize;
    let rows = simulate(&profiles, hosts, &setting, flags.threads, !flags.quiet);
    let simulation = Simulation::new(&setting, &profiles, hosts, rows);
    let format = flags.print.format();
    let printed = deliver(
        flags.print.output.as_deref(),
        format == Format::Table,
        |to, width| match format {
            Format::Table => simulation.table(width, to),
            Format::Json => simulation.json(to),
            Format::Csv => simulation.csv(to),
        },
    );
    match printed {
        Err(error) if !is_broken_pipe(&error) => {
            say(&format!("{error:#}"));
            FAILED
        }
        _ => 0,
    }
}

/// The profiles of these names, in the order of the table.
fn profiles(names: &[String]) -> Result<Vec<&'static Profile>, String> {
    for name in names {
        if !matches!(name.as_str(), "benign" | "malicious") && Profile::named(name).is_none() {
            let known: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
            return Err(format!(
                "--profile {name}: there is none; give benign, malicious, {}",
                known.join(", ")
            ));
        }
    }
    let is_wanted = |profile: &&'static Profile| {
        names.is_empty()
            || names.iter().any(|name| match name.as_str() {
                "benign" => !profile.is_malicious,
                "malicious" => profile.is_malicious,
                name => profile.name == name,
            })
    };
    Ok(PROFILES.iter().filter(is_wanted).collect())
}

/// The detectors of these names, each once.
fn judges(names: &[String]) -> Result<Vec<Judge>, String> {
    let all = Judge::all();
    if names.is_empty() {
        return Ok(all);
    }
    let mut wanted: Vec<Judge> = Vec::new();
    for name in names {
        let more: Vec<Judge> = match name.as_str() {
            "own" | "rivals" => {
                let is_own = name == "own";
                let is_it = |judge: &&Judge| matches!(judge, Judge::Own(_)) == is_own;
                all.iter().filter(is_it).copied().collect()
            }
            name => match Judge::named(name) {
                Some(judge) => vec![judge],
                None => {
                    let known: Vec<&str> = all.iter().map(|judge| judge.name()).collect();
                    return Err(format!(
                        "--detector {name}: there is none; give own, rivals, {}, policy",
                        known.join(", ")
                    ));
                }
            },
        };
        for judge in more {
            if wanted.iter().all(|it| it.name() != judge.name()) {
                wanted.push(judge);
            }
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn profiles_and_detectors_are_found_by_name_and_by_kind() {
        let count = |given: &[&str]| profiles(&names(given)).unwrap().len();
        assert_eq!(count(&[]), PROFILES.len());
        assert_eq!(count(&["benign", "malicious"]), PROFILES.len());
        assert_eq!(count(&["storm", "storm", "drip"]), 2);
        let of = |given: &[&str]| {
            let judges = judges(&names(given)).unwrap();
            let names: Vec<&str> = judges.iter().map(|judge| judge.name()).collect();
            names.join(" ")
        };
        assert_eq!(of(&["own"]), "novelty burst volume");
        assert_eq!(of(&["trw", "own", "trw"]), "trw novelty burst volume");
        assert!(of(&["rivals"]).starts_with("count-100 "));
    }

    #[test]
    fn a_name_that_nothing_has_is_said_with_those_that_there_are() {
        let error = profiles(&names(&["stor"])).err().unwrap();
        assert!(
            error.starts_with("--profile stor: ") && error.contains("storm"),
            "{error}"
        );
        let error = judges(&names(&["nov"])).err().unwrap();
        assert!(error.contains("novelty"), "{error}");
    }
}
