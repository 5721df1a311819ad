//! Which firewall this machine has, who manages it, what of ours is in it, who looks after that, and who
//! holds mail back already.

use std::path::Path;

use serde_json::Value;

use super::{listed, saved_of};
use crate::model::Process;
use crate::netfilter::{Claim, Error, Status, Survey};
use crate::ruleset::{Manager, Saved, has_own_nft_rules, has_own_rules, held_back, managers};
use crate::settings::Ports;
use crate::view::Check;

/// What systemd starts at boot to load /etc/nftables.conf.
const NFTABLES_SERVICE: [&str; 2] = [
    "/etc/systemd/system/sysinit.target.wants/nftables.service",
    "/etc/systemd/system/multi-user.target.wants/nftables.service",
];

/// Why one of the firewalls cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trouble {
    /// Its program is not there, or the kernel lacks it.
    Lacking(String),
    /// Only the right to ask is missing.
    NotPermitted,
    /// Anything else.
    Other(String),
}

impl Trouble {
    fn of(error: &Error) -> Self {
        match error {
            Error::Missing { .. } | Error::Kernel { .. } => Self::Lacking(error.to_string()),
            Error::NotPermitted { .. } => Self::NotPermitted,
            other => Self::Other(other.to_string()),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::NotPermitted => "not permitted".to_owned(),
            Self::Lacking(text) | Self::Other(text) => text.clone(),
        }
    }
}

/// One of the kernel's firewalls, by the program that shows its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nft,
    IptablesNft,
    IptablesLegacy,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::IptablesNft => "iptables (nf_tables)",
            Self::IptablesLegacy => "iptables (legacy)",
        }
    }
}

/// Our rules.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ours {
    /// In which firewall.
    backend: String,
    differences: Vec<String>,
}

/// What is known of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    nft: Option<Trouble>,
    /// The kinds of iptables that work, and what is wrong with those that do not.
    iptables: Vec<String>,
    iptables_trouble: Vec<Trouble>,
    managers: Vec<Manager>,
    is_loaded_at_boot: bool,
    /// Which of the kernel's firewalls hold rules of others.
    kinds: Vec<Kind>,
    ours: Vec<Ours>,
    /// Why ours cannot be read.
    ours_trouble: Option<Trouble>,
    /// Chains that decide before ours.
    earlier: Vec<String>,
    watch: Option<Process>,
    /// The watched ports.
    ports: Ports,
    /// Chains that hold mail back by its port.
    held_back: Vec<String>,
}

impl Facts {
    pub(super) fn gather(survey: &Survey, status: &Result<Status, Error>, ports: &Ports) -> Self {
        let all = saved_of(survey, None);
        let modern = saved_of(survey, Some(false));
        let legacy = saved_of(survey, Some(true));
        let nft = survey.nft.as_ref().unwrap_or(&Value::Null);
        let saved: Vec<&Saved> = all.iter().map(|(_, saved)| *saved).collect();
        let any = |kinds: &[(&str, &Saved)]| kinds.iter().any(|(_, saved)| has_own_rules(saved));
        let wrong = survey
            .iptables
            .iter()
            .filter_map(|kind| kind.saved.as_ref().err());
        let mut facts = Self {
            nft: survey.nft.as_ref().err().map(Trouble::of),
            iptables: survey
                .iptables
                .iter()
                .filter(|kind| kind.saved.is_ok())
                .map(|kind| kind.name.clone())
                .collect(),
            iptables_trouble: wrong
                .chain(survey.no_iptables.as_ref())
                .map(Trouble::of)
                .collect(),
            managers: managers(nft, &saved),
            is_loaded_at_boot: NFTABLES_SERVICE.iter().any(|it| Path::new(it).is_symlink()),
            kinds: [
                (Kind::Nft, has_own_nft_rules(nft, &modern)),
                (Kind::IptablesNft, any(&modern)),
                (Kind::IptablesLegacy, any(&legacy)),
            ]
            .into_iter()
            .filter_map(|(kind, has_rules)| has_rules.then_some(kind))
            .collect(),
            watch: Claim::holder(),
            held_back: held_back(nft, &all, ports),
            ports: ports.clone(),
            ..Self::default()
        };
        match status {
            Ok(status) => {
                facts.ours = status
                    .installed
                    .iter()
                    .map(|installed| Ours {
                        backend: installed.backend.clone(),
                        differences: installed
                            .differences
                            .iter()
                            .map(ToString::to_string)
                            .collect(),
                    })
                    .collect();
                facts.earlier = status.earlier.iter().map(|it| it.chain.clone()).collect();
            }
            Err(error) => facts.ours_trouble = Some(Trouble::of(error)),
        }
        facts
    }

    pub(super) fn judge(&self) -> Vec<Check> {
        vec![
            self.programs(),
            self.manager(),
            self.both(),
            self.rules(),
            self.earlier(),
            self.watch(),
            self.port(),
            Check::ok(
                "firewall.upstream",
                "not tested: whether the provider blocks port 25 cannot be known without sending, and nothing is sent",
            ),
        ]
    }

    fn can_ask(&self) -> bool {
        self.nft.is_none() || !self.iptables.is_empty()
    }

    fn programs(&self) -> Check {
        const ID: &str = "firewall.programs";
        let lacks_rights = self.nft == Some(Trouble::NotPermitted)
            || self.iptables_trouble.contains(&Trouble::NotPermitted);
        match &self.nft {
            None => {
                let mut programs = vec!["nft".to_owned()];
                programs.extend(self.iptables.iter().cloned());
                Check::ok(ID, format!("usable: {}", programs.join(", ")))
            }
            Some(trouble) if !self.iptables.is_empty() => Check::warn(
                ID,
                format!(
                    "usable: {}; nft is not: {}",
                    listed(&self.iptables),
                    trouble.text()
                ),
                "apt install nftables; or go on with: smtpwatch watch --backend iptables",
            ),
            Some(_) if lacks_rights => Check::fail(
                ID,
                "the firewall cannot be asked: not permitted",
                "run it as root: sudo smtpwatch doctor",
            ),
            Some(trouble) => Check::fail(
                ID,
                format!("neither nft nor iptables can be used: {}", trouble.text()),
                "apt install nftables; on a kernel without it: smtpwatch watch --source capture:INTERFACE",
            ),
        }
    }

    fn manager(&self) -> Check {
        const ID: &str = "firewall.manager";
        if !self.can_ask() {
            return unknown(ID, "who manages the firewall");
        }
        let mut names: Vec<String> = self
            .managers
            .iter()
            .map(|it| it.name().to_owned())
            .collect();
        if self.is_loaded_at_boot {
            names.push("nftables.service".to_owned());
        }
        let whole = self.managers.iter().filter(|it| it.is_whole()).count();
        if whole + usize::from(self.is_loaded_at_boot) > 1 {
            return Check::warn(
                ID,
                format!("several programs manage the firewall: {}", listed(&names)),
                "leave one of them: systemctl disable --now the other's service",
            );
        }
        match (names.as_slice(), !self.kinds.is_empty()) {
            ([], true) => Check::ok(
                ID,
                "rules made by hand, or by a program that is not known here",
            ),
            ([], false) => Check::ok(ID, "nobody: there are no rules but ours"),
            (names, _) => Check::ok(ID, format!("managed by {}", listed(names))),
        }
    }

    fn both(&self) -> Check {
        const ID: &str = "firewall.kinds";
        if !self.can_ask() {
            return unknown(ID, "which of the kernel's firewalls hold rules");
        }
        let is_legacy = self.kinds.contains(&Kind::IptablesLegacy);
        if is_legacy && self.kinds.len() > 1 {
            return Check::warn(
                ID,
                "rules are in nf_tables and in iptables-legacy: both decide, and each shows only its own",
                "see both: nft list ruleset; iptables-legacy-save; then move to one (update-alternatives --config iptables)",
            );
        }
        let names: Vec<&str> = self.kinds.iter().map(|kind| kind.name()).collect();
        match names.as_slice() {
            [] => Check::ok(ID, "no rules but ours"),
            names => Check::ok(ID, format!("rules are in {}", names.join(" and in "))),
        }
    }

    fn rules(&self) -> Check {
        const ID: &str = "firewall.rules";
        if let Some(trouble) = &self.ours_trouble {
            return match trouble {
                Trouble::NotPermitted => unknown(ID, "whether our rules are installed"),
                trouble => Check::warn(
                    ID,
                    format!(
                        "whether our rules are installed is not known: {}",
                        trouble.text()
                    ),
                    "look with: smtpwatch rules status",
                ),
            };
        }
        if let Some(altered) = self.ours.iter().find(|ours| !ours.differences.is_empty()) {
            return Check::warn(
                ID,
                format!(
                    "our rules in {} were altered: {}",
                    altered.backend,
                    listed(&altered.differences)
                ),
                "see smtpwatch rules status, which names the command that puts it right",
            );
        }
        let backends: Vec<String> = self.ours.iter().map(|ours| ours.backend.clone()).collect();
        match backends.as_slice() {
            [] => Check::ok(
                ID,
                "ours are not installed: smtpwatch watch does it, and takes them away",
            ),
            [one] => Check::ok(ID, format!("ours are installed with {one}, as wanted")),
            several => Check::warn(
                ID,
                format!("ours are installed twice: with {}", several.join(" and ")),
                "smtpwatch rules remove, then smtpwatch rules install",
            ),
        }
    }

    fn earlier(&self) -> Check {
        const ID: &str = "firewall.earlier";
        match self.earlier.as_slice() {
            _ if !self.can_ask() => unknown(ID, "who decides before our rules"),
            [] => Check::ok(ID, "nobody takes mail before our rules see it"),
            chains => Check::warn(
                ID,
                format!("may take mail before our rules see it: {}", listed(chains)),
                "see smtpwatch rules status; what is dropped there is never counted",
            ),
        }
    }

    fn watch(&self) -> Check {
        const ID: &str = "firewall.watch";
        match &self.watch {
            None => Check::ok(ID, "no smtpwatch watches here now"),
            Some(process) => Check::ok(ID, format!("{process} watches, and looks after the rules")),
        }
    }

    fn port(&self) -> Check {
        const ID: &str = "firewall.port25";
        let ports = &self.ports;
        match self.held_back.as_slice() {
            _ if !self.can_ask() => {
                unknown(ID, &format!("whether a rule here blocks port {ports}"))
            }
            [] => Check::ok(ID, format!("no rule here names port {ports} to block it")),
            chains => Check::warn(
                ID,
                format!("port {ports} is blocked here already: {}", listed(chains)),
                "where that is meant, leave it: attempts are seen before, and count as unanswered or refused; else: nft list ruleset, iptables-save",
            ),
        }
    }
}

fn unknown(id: &'static str, what: &str) -> Check {
    Check::warn(
        id,
        format!("{what} is not known: the firewall cannot be read"),
        "run it as root: sudo smtpwatch doctor",
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::status;
    use super::*;
    use crate::view::CheckStatus::{Fail, Ok, Warn};

    fn good() -> Facts {
        Facts {
            iptables: vec!["iptables (nf_tables)".to_owned()],
            ..Facts::default()
        }
    }

    fn of(id: &str, change: impl FnOnce(&mut Facts)) -> crate::view::CheckStatus {
        let mut facts = good();
        change(&mut facts);
        status(&facts.judge(), id)
    }

    #[test]
    fn an_empty_firewall_is_fine() {
        let checks = good().judge();
        assert!(checks.iter().all(|check| check.status == Ok), "{checks:?}");
    }

    #[test]
    fn programs_that_cannot_be_used() {
        let lacking = || Some(Trouble::Lacking("nft is not installed".to_owned()));
        let id = "firewall.programs";
        assert_eq!(of(id, |it| it.nft = lacking()), Warn);
        let none = |it: &mut Facts| {
            it.nft = lacking();
            it.iptables.clear();
        };
        assert_eq!(of(id, none), Fail);
        let mut facts = good();
        facts.nft = Some(Trouble::NotPermitted);
        facts.iptables.clear();
        facts.iptables_trouble = vec![Trouble::NotPermitted];
        facts.ours_trouble = Some(Trouble::NotPermitted);
        let checks = facts.judge();
        assert_eq!(status(&checks, id), Fail);
        for unknown in ["manager", "kinds", "rules", "earlier", "port25"] {
            assert_eq!(status(&checks, &format!("firewall.{unknown}")), Warn);
        }
        assert!(checks[0].advice.contains("sudo"), "{checks:?}");
    }

    #[test]
    fn two_managers_or_two_kinds_at_once() {
        let id = "firewall.manager";
        assert_eq!(
            of(id, |it| it.managers =
                vec![Manager::Firewalld, Manager::Docker]),
            Ok
        );
        assert_eq!(
            of(id, |it| it.managers =
                vec![Manager::Firewalld, Manager::Ufw]),
            Warn
        );
        let boot = |it: &mut Facts| {
            it.managers = vec![Manager::Ufw];
            it.is_loaded_at_boot = true;
        };
        assert_eq!(of(id, boot), Warn);
        let kinds = |kinds: &[Kind]| of("firewall.kinds", |it| it.kinds = kinds.to_vec());
        assert_eq!(kinds(&[Kind::Nft, Kind::IptablesLegacy]), Warn);
        assert_eq!(kinds(&[Kind::IptablesNft, Kind::IptablesLegacy]), Warn);
        assert_eq!(kinds(&[Kind::Nft, Kind::IptablesNft]), Ok);
        assert_eq!(kinds(&[Kind::IptablesLegacy]), Ok);
    }

    #[test]
    fn our_rules_as_wanted_altered_twice_or_unknown() {
        let ours = |differences: &[&str]| Ours {
            backend: "nft".to_owned(),
            differences: differences.iter().map(|it| (*it).to_owned()).collect(),
        };
        let id = "firewall.rules";
        assert_eq!(of(id, |it| it.ours = vec![ours(&[])]), Ok);
        assert_eq!(of(id, |it| it.ours = vec![ours(&["missing: x"])]), Warn);
        assert_eq!(of(id, |it| it.ours = vec![ours(&[]), ours(&[])]), Warn);
        let trouble = Trouble::Other("refused".to_owned());
        assert_eq!(of(id, |it| it.ours_trouble = Some(trouble)), Warn);
    }

    #[test]
    fn whoever_decides_before_or_blocks_is_told() {
        let chains = || vec!["ip raw PREROUTING".to_owned()];
        assert_eq!(of("firewall.earlier", |it| it.earlier = chains()), Warn);
        assert_eq!(of("firewall.port25", |it| it.held_back = chains()), Warn);
        let process = Process {
            pid: 7,
            name: "smtpwatch".to_owned(),
        };
        let mut facts = good();
        facts.watch = Some(process);
        let checks = facts.judge();
        let watch = checks.iter().find(|it| it.id == "firewall.watch").unwrap();
        assert!(watch.found.contains("pid 7"), "{watch:?}");
    }
}
