//! The state of the firewall rules, `smtpwatch.rules.v1`, and the same for people.

use std::io::{self, Write};

use serde::Serialize;

use super::escape::terminal;
use crate::netfilter::{GroupState, InstalledRules, Status};
use crate::ruleset::Earlier;
use crate::settings::rules::{GROUP, Prefix};

/// Differences shown to people.
const SHOWN: usize = 10;

/// The state of the rules.
#[derive(Debug, Serialize)]
pub(crate) struct RulesStatus {
    schema: &'static str,
    installed: Vec<Installed>,
    group: Option<Group>,
    /// Who decides before our rules.
    earlier: Vec<Before>,
    /// Their established connections meet no rule.
    flowtables: Vec<String>,
    /// What could not be asked.
    errors: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Installed {
    backend: String,
    at: String,
    via: String,
    ports: Vec<u16>,
    group: Option<u16>,
    prefix: String,
    counters: Counters,
    differences: Vec<String>,
    /// The command that puts the differences right.
    remedy: String,
}

#[derive(Debug, Serialize)]
struct Counters {
    seen: u64,
    logged: u64,
}

#[derive(Debug, Serialize)]
struct Group {
    number: u16,
    reader: Option<Reader>,
    /// Chains of others that send packets to it.
    others: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Reader {
    port: u32,
    pid: Option<u32>,
    name: Option<String>,
}

#[derive(Debug, Serialize)]
struct Before {
    chain: String,
    rules: usize,
    drops_by_policy: bool,
    same_priority: bool,
}

impl RulesStatus {
    /// The shape of `status`.
    pub(crate) fn new(status: &Status) -> Self {
        Self {
            schema: "smtpwatch.rules.v1",
            installed: status.installed.iter().map(Installed::new).collect(),
            group: status.group.as_ref().map(Group::new),
            earlier: status.earlier.iter().map(Before::new).collect(),
            flowtables: status.flowtables.clone(),
            errors: status.errors.iter().map(ToString::to_string).collect(),
        }
    }

    /// Prints it as JSON.
    pub(crate) fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *to, self)?;
        writeln!(to)
    }

    /// Prints it for people.
    pub(crate) fn table(&self, to: &mut dyn Write) -> io::Result<()> {
        if self.installed.is_empty() {
            writeln!(
                to,
                "not installed: smtpwatch rules install puts the rules in place"
            )?;
        }
        for installed in &self.installed {
            installed.write(to)?;
        }
        if let Some(group) = self.group.as_ref().filter(|_| !self.installed.is_empty()) {
            group.write(to)?;
        }
        for before in &self.earlier {
            before.write(to)?;
        }
        for flowtable in &self.flowtables {
            writeln!(
                to,
                "flowtable  {}: carries established connections past every rule; their first SYN is seen",
                terminal(flowtable)
            )?;
        }
        for error in &self.errors {
            writeln!(to, "not asked  {}", terminal(error))?;
        }
        Ok(())
    }
}

impl Installed {
    fn new(installed: &InstalledRules) -> Self {
        let rules = &installed.rules;
        Self {
            backend: installed.backend.clone(),
            at: rules.at.to_string(),
            via: rules.via.to_string(),
            ports: rules.ports.as_slice().to_vec(),
            group: rules.via.has_nflog().then_some(rules.group),
            prefix: rules.prefix.as_str().to_owned(),
            counters: Counters {
                seen: installed.matched.seen,
                logged: installed.matched.logged,
            },
            differences: installed
                .differences
                .iter()
                .map(ToString::to_string)
                .collect(),
            remedy: remedy(installed),
        }
    }

    fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let ports: Vec<String> = self.ports.iter().map(ToString::to_string).collect();
        writeln!(
            to,
            "installed  with {}, at {}, via {}, port {}",
            self.backend,
            self.at,
            self.via_in_words(),
            ports.join(", ")
        )?;
        if self.at == "forward" {
            writeln!(
                to,
                "           blind there to what the gateway sends and to what is redirected to it"
            )?;
        }
        write!(to, "counted    {} SYNs seen", self.counters.seen)?;
        if self.via == "nflog" {
            writeln!(to)?;
        } else {
            writeln!(
                to,
                ", {} logged, {} over the limit",
                self.counters.logged,
                self.counters.seen.saturating_sub(self.counters.logged)
            )?;
        }
        if self.differences.is_empty() {
            return writeln!(to, "as wanted  yes");
        }
        writeln!(
            to,
            "as wanted  NO, {}; put right by:",
            match self.differences.len() {
                1 => "1 difference".to_owned(),
                count => format!("{count} differences"),
            }
        )?;
        writeln!(to, "           {}", self.remedy)?;
        for difference in self.differences.iter().take(SHOWN) {
            writeln!(to, "           {}", terminal(difference))?;
        }
        let more = self.differences.len().saturating_sub(SHOWN);
        if more > 0 {
            writeln!(to, "           and {more} more: --json has them all")?;
        }
        Ok(())
    }

    fn via_in_words(&self) -> String {
        let log = format!("the kernel log (prefix \"{}\")", self.prefix);
        match (self.group, self.via.as_str()) {
            (Some(group), "both") => format!("NFLOG group {group} and {log}"),
            (Some(group), _) => format!("NFLOG group {group}"),
            (None, _) => log,
        }
    }
}

/// The command that installs these rules, whole: what it does not name would be at its default.
fn remedy(installed: &InstalledRules) -> String {
    let rules = &installed.rules;
    let mut command = format!(
        "smtpwatch rules install --backend {} --via {} --at {} --port {}",
        if installed.backend == "nft" {
            "nft"
        } else {
            "iptables"
        },
        rules.via,
        rules.at,
        rules.ports
    );
    if rules.group != GROUP {
        command.push_str(&format!(" --group {}", rules.group));
    }
    if rules.prefix != Prefix::default() {
        command.push_str(&format!(" --prefix \"{}\"", rules.prefix));
    }
    command
}

impl Group {
    fn new(group: &GroupState) -> Self {
        Self {
            number: group.number,
            reader: group.reader.as_ref().map(|reader| Reader {
                port: reader.port,
                pid: reader.process.as_ref().map(|process| process.pid),
                name: reader.process.as_ref().map(|process| process.name.clone()),
            }),
            others: group.others.clone(),
        }
    }

    fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let number = self.number;
        match &self.reader {
            None => writeln!(
                to,
                "group {number:<4} nobody reads it now: smtpwatch watch does"
            )?,
            Some(Reader {
                name: Some(name),
                pid: Some(pid),
                ..
            }) => {
                let name = terminal(name);
                if name == "smtpwatch" {
                    writeln!(to, "group {number:<4} read by smtpwatch (pid {pid})")?;
                } else {
                    writeln!(
                        to,
                        "group {number:<4} TAKEN by {name} (pid {pid}): stop it, or use another with --group N"
                    )?;
                }
            }
            Some(Reader { port, .. }) => writeln!(
                to,
                "group {number:<4} taken by a program that cannot be found (netlink port {port}), perhaps in a container"
            )?,
        }
        for other in &self.others {
            writeln!(
                to,
                "           another rule sends packets there, too: nft list chain {}; use another with --group N",
                terminal(other)
            )?;
        }
        Ok(())
    }
}

impl Before {
    fn new(earlier: &Earlier) -> Self {
        Self {
            chain: earlier.chain.clone(),
            rules: earlier.rules,
            drops_by_policy: earlier.drops_by_policy,
            same_priority: earlier.is_same_priority,
        }
    }

    fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let does = match (self.rules, self.drops_by_policy) {
            (0, _) => "policy drop".to_owned(),
            (1, false) => "1 rule".to_owned(),
            (rules, false) => format!("{rules} rules"),
            (1, true) => "1 rule and policy drop".to_owned(),
            (rules, true) => format!("{rules} rules and policy drop"),
        };
        let when = if self.same_priority {
            "at our priority, may decide before ours"
        } else {
            "decides before ours"
        };
        writeln!(
            to,
            "earlier    {} ({does}) {when}: what it takes is not seen",
            terminal(&self.chain)
        )
    }
}
