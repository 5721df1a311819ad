//! Our table in nftables, loaded and listed by `nft`.

use serde_json::Value;

use super::counters;
use super::elements::{Port, WATCHED_PORTS};
use super::kernel::{Kernel, KernelError};
use super::program::Program;
use super::scratch::in_scratch;
use super::{Error, Installed, Matched, Removed, Step};
use crate::ruleset::{self, Difference, TABLE, difference, read_listing};
use crate::settings::Ports;
use crate::settings::rules::{PartialRules, Rules};

/// What differences in the watched ports are told of.
const PORTS_PLACE: &str = "set watched_ports";
const LOAD: [&str; 2] = ["-f", "-"];
/// A rule that looks at the state of connections, and does nothing else.
const TRACK: &str =
    "table inet track { chain passing { type filter hook forward priority 0; ct state new; }; }";
const CHECK: [&str; 3] = ["-c", "-f", "-"];

/// Rules as they are loaded, and as they are printed then.
#[derive(Debug)]
pub(crate) struct Wanted {
    text: String,
    listing: String,
    ports: Ports,
}

/// nftables, by its program.
#[derive(Debug)]
pub(crate) struct Nft {
    program: Program,
}

impl Nft {
    /// `nft`, where it is installed.
    pub(super) fn find() -> Result<Self, Error> {
        Program::find("nft")
            .map(|program| Self { program })
            .ok_or(Error::Missing {
                program: "nft",
                package: "nftables",
                instead: ", or use --backend iptables",
            })
    }

    /// Our table as nft prints it, without counters; none where there is none.
    pub(super) fn listing(&self) -> Result<Option<String>, Error> {
        let [family, name] = table();
        match self.program.run(&["-s", "list", "table", family, name], "") {
            Ok(listing) => Ok(Some(listing)),
            Err(Error::Refused { said, .. }) if said.contains("No such file or directory") => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// All tables in nft's JSON, without the elements of sets.
    pub(super) fn ruleset(&self) -> Result<Value, Error> {
        self.json(&["-j", "-t", "list", "ruleset"])
    }

    /// Names of the chains of a table of the family, that of iptables' tables.
    pub(super) fn chains(&self, family: &str, table: &str) -> Result<Vec<String>, Error> {
        let listed = self.json(&["-j", "list", "chains", family])?;
        let chains = listed["nftables"].as_array().into_iter().flatten();
        Ok(chains
            .filter_map(|object| object.get("chain"))
            .filter(|chain| chain["table"] == table)
            .filter_map(|chain| chain["name"].as_str().map(str::to_owned))
            .collect())
    }

    fn json(&self, arguments: &[&str]) -> Result<Value, Error> {
        let printed = self.program.run(arguments, "")?;
        serde_json::from_str(&printed).map_err(|error| Error::Io {
            what: format!("nft {}", arguments.join(" ")),
            error: error.into(),
        })
    }

    /// The wanted text, and how this nft prints it; where that cannot be found out, as the template
    /// has it.
    pub(super) fn prepare(&self, rules: &Rules) -> Result<Wanted, Error> {
        let text = ruleset::nft(rules);
        let printed = in_scratch(|| {
            self.program.run(&LOAD, &text)?;
            self.listing()
        })?;
        let listing = printed.flatten().unwrap_or_else(|| text.clone());
        Ok(Wanted {
            text,
            listing,
            ports: rules.ports.clone(),
        })
    }

    pub(super) fn differences(&self, wanted: &Wanted) -> Result<Vec<Difference>, Error> {
        let installed = self.listing()?.unwrap_or_default();
        Ok(difference(&wanted.listing, &installed))
    }

    /// Has nft check the wanted text where it would be loaded.
    pub(super) fn check(&self, wanted: &Wanted) -> Result<(), Error> {
        self.program.run(&CHECK, &wanted.text).map(|_| ())
    }

    /// Loads the wanted text, unless all is as wanted, and reads it back. Where only ports differ they
    /// are put right by themselves, and the counters go on.
    pub(super) fn install(&self, wanted: &Wanted) -> Result<Installed, Error> {
        let differences = self.differences(wanted)?;
        if differences.is_empty() {
            return Ok(Installed::Already);
        }
        let is_ports_alone = differences.iter().all(|found| found.place == PORTS_PLACE);
        if !is_ports_alone || mend_ports(&wanted.ports).is_err() {
            self.program.run(&LOAD, &wanted.text)?;
        }
        let differences = self.differences(wanted)?;
        if differences.is_empty() {
            Ok(Installed::Done)
        } else {
            Err(Error::NotAsLoaded {
                step: "nft -f -".to_owned(),
                differences,
            })
        }
    }

    pub(super) fn track(&self) -> Result<(), Error> {
        self.program.run(&LOAD, TRACK).map(|_| ())
    }

    pub(super) fn plan(&self, wanted: &Wanted) -> Result<Vec<Step>, Error> {
        if self.differences(wanted)?.is_empty() {
            return Ok(Vec::new());
        }
        self.check(wanted)?;
        Ok(vec![Step {
            command: "nft -f -".to_owned(),
            text: wanted.text.clone(),
        }])
    }

    pub(super) fn remove(&self) -> Result<Removed, Error> {
        let mut removed = Removed::default();
        for step in self.plan_removal()? {
            match self.program.run(&LOAD, &step.text) {
                Ok(_) => removed.taken.push(format!("nft table {TABLE}")),
                // Somebody else was faster.
                Err(_) if matches!(self.listing(), Ok(None)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    pub(super) fn plan_removal(&self) -> Result<Vec<Step>, Error> {
        let step = |_| Step {
            command: "nft -f -".to_owned(),
            text: format!("delete table {TABLE}\n"),
        };
        Ok(self.listing()?.map(step).into_iter().collect())
    }

    pub(super) fn installed(&self) -> Result<Option<PartialRules>, Error> {
        Ok(self.listing()?.as_deref().map(read_listing))
    }

    /// Whether there is no table of ours.
    pub(super) fn is_gone() -> Result<bool, Error> {
        Ok(!Kernel::open()?.has_table()?)
    }

    pub(super) fn matched() -> Result<Matched, Error> {
        let counters = counters::read(&mut Kernel::open()?)?;
        let packets = |name: &str| {
            let counter = counters.iter().find(|counter| counter.name == name);
            counter.map_or(0, |counter| counter.packets)
        };
        Ok(Matched {
            seen: packets("seen"),
            logged: packets("logged"),
        })
    }
}

/// Makes the set of watched ports hold these.
fn mend_ports(ports: &Ports) -> Result<(), KernelError> {
    let mut kernel = Kernel::open()?;
    let held = WATCHED_PORTS.list(&mut kernel)?.elements;
    let is_wanted = |port: Port| ports.contains(port.0);
    let strangers: Vec<Port> = held
        .iter()
        .map(|element| element.key)
        .filter(|port| !is_wanted(*port))
        .collect();
    WATCHED_PORTS.delete(&mut kernel, &strangers)?;
    let wanted = ports.as_slice().iter();
    let wanted: Vec<_> = wanted.map(|&port| (Port(port), None)).collect();
    WATCHED_PORTS.add(&mut kernel, &wanted)
}

/// Family and name of our table.
fn table() -> [&'static str; 2] {
    let (family, name) = TABLE.split_once(' ').unwrap_or(("inet", TABLE));
    [family, name]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Ports;
    use crate::settings::rules::{At, Via};

    /// Needs root, as all of the project's tests of the firewall do.
    #[test]
    fn the_template_and_nft_say_the_same() {
        let nft = Nft::find().unwrap();
        for via in [Via::Nflog, Via::Log, Via::Both] {
            for at in [At::Prerouting, At::Forward] {
                let rules = PartialRules {
                    via: Some(via),
                    ports: Some(Ports::new([25, 465, 587])),
                    ..PartialRules::default()
                }
                .resolve(at);
                let Wanted { text, listing, .. } = nft.prepare(&rules).unwrap();
                assert_ne!(listing, text, "no scratch namespace");
                assert_eq!(difference(&text, &listing), []);
                assert_eq!(read_listing(&listing).resolve(at), rules);
            }
        }
    }
}
