//! What this machine has and lacks for the watch, check by check. Each file gathers the facts of one group
//! and, apart from that, judges them: what is judged is a value that a test can make up.
//!
//! Nothing is changed on the machine, and nothing is sent to any network. What is read from files and
//! programs is bounded, and escaped where it is shown. [`selftest`] proves in a network namespace of its
//! own that the watch works on this kernel.

mod bypass;
mod clock;
mod files;
mod firewall;
mod gateway;
mod host;
mod leases;
mod logs;
mod roles;
mod selftest;
mod sources;
mod store;

use crate::engine::Input;
use crate::model::{Timestamp, Topology};
use crate::netfilter::{Survey, status, survey};
use crate::ruleset::Saved;
use crate::settings::config::Resolved;
use crate::source::inventory::{Inventory, Options};
use crate::sys::capabilities::Capabilities;
use crate::view::Check;
pub(crate) use selftest::selftest;

/// Names that are shown of a list.
const SHOWN: usize = 5;

/// Makes all checks for a watch with the configuration `config`; `now` is the time of day.
pub(crate) fn examine(config: &Resolved, now: Timestamp) -> Vec<Check> {
    let mut checks = Vec::new();
    let rights = Capabilities::of_this_thread().ok();
    let survey = survey();
    let wanted = &config.config;
    let status = status(wanted.backend, &config.rules());
    let (topology, inventory) = match network(&Options::following(&wanted.leases), now) {
        Ok(found) => found,
        Err(error) => {
            let advice = "allow AF_NETLINK in the sandbox or container, then try again";
            checks.push(Check::fail("gateway.network", error, advice));
            (Topology::default(), None)
        }
    };
    checks.push(sources::judge_rights(rights));
    checks.extend(gateway::Facts::gather(&topology, &survey).judge());
    checks.extend(firewall::Facts::gather(&survey, &status, &wanted.ports).judge());
    checks.extend(
        sources::Facts::gather(&topology, &survey, rights, status.as_ref().ok(), wanted).judge(),
    );
    checks.extend(leases::Facts::gather(inventory, now).judge());
    checks.extend(logs::Facts::gather().judge());
    checks.extend(bypass::Facts::gather(&topology, &survey).judge());
    checks.extend(clock::Facts::gather(now).judge());
    checks.extend(store::judge(config.state_dir()));
    checks.extend(roles::Facts::gather(config, now).judge());
    checks.extend(host::Facts::gather().judge());
    checks
}

/// The machine's place in the network, and the inventory that told it.
fn network(
    options: &Options,
    now: Timestamp,
) -> Result<(Topology, Option<(Inventory, usize)>), String> {
    let mut inventory = Inventory::open(options).map_err(|error| error.to_string())?;
    let inputs = inventory.read(now).map_err(|error| error.to_string())?;
    let (mut topology, mut leases) = (Topology::default(), 0);
    for input in inputs {
        match input {
            Input::Topology(found) => topology = found,
            Input::Leases(records) => leases = records.len(),
            _ => {}
        }
    }
    Ok((topology, Some((inventory, leases))))
}

/// What iptables-save printed of each family; `is_legacy` tells which kind, none both.
fn saved_of(survey: &Survey, is_legacy: Option<bool>) -> Vec<(&'static str, &Saved)> {
    let kinds = survey.iptables.iter();
    kinds
        .filter(|kind| is_legacy.is_none_or(|wanted| kind.is_legacy == wanted))
        .filter_map(|kind| kind.saved.as_ref().ok())
        .flatten()
        .map(|(family, saved)| (*family, saved))
        .collect()
}

/// The first of `names`, and how many more there are.
fn listed(names: &[String]) -> String {
    let mut text = names
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::CheckStatus;

    /// The status of each check, by its name.
    pub(super) fn statuses(checks: &[Check]) -> Vec<(&'static str, CheckStatus)> {
        checks
            .iter()
            .map(|check| (check.id, check.status))
            .collect()
    }

    /// The status of the check `id`; whatever is not OK says what to do.
    pub(super) fn status(checks: &[Check], id: &str) -> CheckStatus {
        let check = checks.iter().find(|check| check.id == id);
        let check = check.unwrap_or_else(|| panic!("no check {id} in {checks:?}"));
        assert_eq!(
            check.advice.is_empty(),
            check.status == CheckStatus::Ok,
            "{check:?}"
        );
        assert!(
            !check.found.is_empty() && !check.advice.contains('\n'),
            "{check:?}"
        );
        check.status
    }

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let names: Vec<String> = (0..7).map(|n| n.to_string()).collect();
        assert_eq!(listed(&names), "0, 1, 2, 3, 4 and 2 more");
        assert_eq!(listed(&names[..2]), "0, 1");
    }

    #[test]
    fn each_check_has_a_name_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Resolved::default();
        config.config.history = folder.path().to_owned();
        let checks = examine(&config, Timestamp::from_seconds(1_800_000_000));
        let mut names: Vec<&str> = statuses(&checks).iter().map(|(id, _)| *id).collect();
        assert!(names.len() > 25, "{names:?}");
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
        for check in &checks {
            status(&checks, check.id);
        }
    }
}
