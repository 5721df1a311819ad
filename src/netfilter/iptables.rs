//! Our chain in iptables and ip6tables, whichever kind (nft-backed or legacy), loaded by their
//! `-restore` without touching what is there: no line names a built-in chain, the jump is added only
//! where there is none.
//!
//! What the install had to make on an nft-backed iptables (a table, a base chain) is remembered in a
//! comment inside our chain, which survives iptables-save and a boot, and is taken away with it. A
//! legacy table stays once the kernel has it: nothing but unloading its module takes it away.

use std::fs::File;
use std::io;
use std::path::Path;

use super::empty_table::delete_if_empty;
use super::nft::Nft;
use super::program::Program;
use super::scratch::in_scratch;
use super::{Error, Installed, Matched, Removed, Step};
use crate::ruleset::{
    self, CHAIN, Difference, Saved, SavedRule, SavedTable, difference_saved, insertion,
    iptables_with, jumps, read_saved, table,
};
use crate::settings::rules::{PartialRules, Rules};

/// `-w 10`: waits that many seconds for the lock, not for ever.
const RESTORE: [&str; 3] = ["-w", "10", "--noflush"];
const TEST: [&str; 4] = ["-w", "10", "--noflush", "--test"];

/// What iptables works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `nf_tables`.
    Nft,
    /// The kernel's older `x_tables`.
    Legacy,
}

/// The programs of one family.
#[derive(Debug)]
struct Tool {
    kind: Kind,
    /// As messages name it.
    family: &'static str,
    /// As nft names it, and its NFPROTO.
    nft_family: (&'static str, u8),
    command: Program,
    save: Program,
    restore: Program,
}

/// Rules, and as each family's iptables prints them when they are loaded.
#[derive(Debug)]
pub(crate) struct Wanted {
    rules: Rules,
    printed: Vec<Saved>,
}

/// iptables and ip6tables of one kind.
#[derive(Debug)]
pub(crate) struct Iptables {
    kind: Kind,
    tools: Vec<Tool>,
}

impl Iptables {
    /// All kinds that are installed, the system's own first.
    pub(super) fn every() -> Result<Vec<Self>, Error> {
        let mut found: Vec<Self> = Vec::new();
        for suffix in ["", "-nft", "-legacy"] {
            let Some(command) = Program::find(&format!("iptables{suffix}")) else {
                continue;
            };
            let kind = if command.run(&["-V"], "")?.contains("nf_tables") {
                Kind::Nft
            } else {
                Kind::Legacy
            };
            if found.iter().any(|known| known.kind == kind) {
                continue;
            }
            let tools: Vec<Tool> = [
                ("iptables", "IPv4", ("ip", 2)),
                ("ip6tables", "IPv6", ("ip6", 10)),
            ]
            .into_iter()
            .filter(|(_, family, _)| *family == "IPv4" || has_ipv6())
            .filter_map(|(name, family, nft_family)| {
                Some(Tool {
                    kind,
                    family,
                    nft_family,
                    command: Program::find(&format!("{name}{suffix}"))?,
                    save: Program::find(&format!("{name}{suffix}-save"))?,
                    restore: Program::find(&format!("{name}{suffix}-restore"))?,
                })
            })
            .collect();
            if !tools.is_empty() {
                found.push(Self { kind, tools });
            }
        }
        if found.is_empty() {
            return Err(Error::Missing {
                program: "iptables",
                package: "iptables",
                instead: ", or use --backend nft",
            });
        }
        Ok(found)
    }

    /// The kind that holds our rules; else the system's own, unless only the legacy one holds rules.
    pub(super) fn find() -> Result<Self, Error> {
        let mut every = Self::every()?;
        let mut decides = Vec::with_capacity(every.len());
        for (place, kind) in every.iter().enumerate() {
            if kind.holds_ours()? {
                return Ok(every.swap_remove(place));
            }
            decides.push(kind.decides()?);
        }
        let is_legacy_alone = decides.first() == Some(&false);
        let place = every
            .iter()
            .zip(&decides)
            .position(|(iptables, decides)| {
                is_legacy_alone && *decides && iptables.kind == Kind::Legacy
            })
            .unwrap_or(0);
        Ok(every.swap_remove(place))
    }

    /// How it is called.
    pub(super) fn name(&self) -> String {
        match self.kind {
            Kind::Nft => "iptables (nf_tables)".to_owned(),
            Kind::Legacy => "iptables (legacy)".to_owned(),
        }
    }

    /// Whether it is the kernel's older one.
    pub(super) fn is_legacy(&self) -> bool {
        self.kind == Kind::Legacy
    }

    /// What each family's iptables-save prints, with the family as nft names it.
    pub(super) fn saved(&self) -> Result<Vec<(&'static str, Saved)>, Error> {
        self.tools
            .iter()
            .map(|tool| Ok((tool.nft_family.0, tool.saved()?)))
            .collect()
    }

    /// Whether anything of ours is there.
    pub(super) fn holds_ours(&self) -> Result<bool, Error> {
        self.any(|saved| saved.ours().next().is_some())
    }

    fn decides(&self) -> Result<bool, Error> {
        self.any(Saved::decides)
    }

    fn any(&self, holds: impl Fn(&Saved) -> bool) -> Result<bool, Error> {
        for tool in &self.tools {
            if holds(&tool.saved()?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rules, and how each family's iptables prints them.
    pub(super) fn prepare(&self, rules: &Rules) -> Result<Wanted, Error> {
        let printed = self.tools.iter().map(|tool| tool.printed(rules));
        Ok(Wanted {
            rules: rules.clone(),
            printed: printed.collect::<Result<_, _>>()?,
        })
    }

    fn each<'a>(&'a self, wanted: &'a Wanted) -> impl Iterator<Item = (&'a Tool, &'a Saved)> {
        self.tools.iter().zip(&wanted.printed)
    }

    /// Has each iptables-restore check what it would load.
    pub(super) fn check(&self, wanted: &Wanted) -> Result<(), Error> {
        for tool in &self.tools {
            let text = tool.text(&wanted.rules, &tool.saved()?)?;
            tool.restore.run(&TEST, &text)?;
        }
        Ok(())
    }

    /// Loads what differs from the wanted, and reads it back.
    pub(super) fn install(&self, wanted: &Wanted) -> Result<Installed, Error> {
        let mut result = Installed::Already;
        let mut fresh: Vec<&Tool> = Vec::new();
        for (tool, printed) in self.each(wanted) {
            match tool.install(&wanted.rules, printed) {
                Ok(Change::Nothing) => {}
                Ok(Change::Healed) => result = Installed::Done,
                Ok(Change::Fresh) => {
                    result = Installed::Done;
                    fresh.push(tool);
                }
                Err(error) => {
                    // All or nothing: half of our rules would look like all of them. The first
                    // error is the one to tell.
                    for tool in fresh {
                        let _ = tool.remove();
                    }
                    return Err(error);
                }
            }
        }
        Ok(result)
    }

    pub(super) fn plan(&self, wanted: &Wanted) -> Result<Vec<Step>, Error> {
        let mut steps = Vec::new();
        for (tool, printed) in self.each(wanted) {
            let saved = tool.saved()?;
            if difference_saved(tool.family, printed, &saved).is_empty() {
                continue;
            }
            let text = tool.text(&wanted.rules, &saved)?;
            tool.restore.run(&TEST, &text)?;
            steps.push(tool.step(text));
            steps.extend(tool.misplaced(&wanted.rules, &saved));
        }
        Ok(steps)
    }

    pub(super) fn remove(&self) -> Result<Removed, Error> {
        let mut removed = Removed::default();
        let mut failed = None;
        for tool in &self.tools {
            match tool.remove() {
                Ok(more) => removed = removed.and(more),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(removed), Err)
    }

    pub(super) fn plan_removal(&self) -> Result<Vec<Step>, Error> {
        let mut steps = Vec::new();
        for tool in &self.tools {
            let saved = tool.saved()?;
            steps.extend(saved.ours().map(|table| tool.step(clearing(table))));
        }
        Ok(steps)
    }

    pub(super) fn differences(&self, wanted: &Wanted) -> Result<Vec<Difference>, Error> {
        let mut found = Vec::new();
        for (tool, printed) in self.each(wanted) {
            found.extend(difference_saved(tool.family, printed, &tool.saved()?));
        }
        Ok(found)
    }

    pub(super) fn installed(&self) -> Result<Option<PartialRules>, Error> {
        let mut found: Option<PartialRules> = None;
        for tool in &self.tools {
            let saved = tool.saved()?;
            if saved.ours().next().is_some() {
                let read = read_saved(&saved);
                found = Some(found.map_or(read.clone(), |found| found.or(read)));
            }
        }
        Ok(found)
    }

    pub(super) fn matched(&self) -> Result<Matched, Error> {
        let mut sum = Matched::default();
        for tool in &self.tools {
            let (seen, logged) = tool.saved()?.matched();
            sum.seen += seen;
            sum.logged += logged;
        }
        Ok(sum)
    }
}

/// What an install changed in one family.
enum Change {
    Nothing,
    Healed,
    Fresh,
}

impl Tool {
    /// All tables that are there: to ask for one that is not would make it (legacy).
    fn saved(&self) -> Result<Saved, Error> {
        if self.kind == Kind::Legacy {
            self.may_read()?;
        }
        let printed = self.save.run(&["-c"], "")?;
        let saved = Saved::new(&printed);
        for name in &saved.unreadable {
            // Where nothing in it is ours it is not our business.
            if let Ok(nft) = Nft::find()
                && nft
                    .chains(self.nft_family.0, name)?
                    .iter()
                    .any(|chain| chain == CHAIN)
            {
                return Err(self.incompatible(name));
            }
        }
        Ok(saved)
    }

    fn incompatible(&self, table: &str) -> Error {
        Error::Incompatible {
            program: self.command.name().to_owned(),
            table: table.to_owned(),
        }
    }

    /// A legacy iptables-save that may not read the names of the tables prints none, and no error.
    fn may_read(&self) -> Result<(), Error> {
        let names = match self.nft_family.0 {
            "ip6" => "/proc/thread-self/net/ip6_tables_names",
            _ => "/proc/thread-self/net/ip_tables_names",
        };
        match File::open(names) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(Error::NotPermitted {
                    step: self.save.name().to_owned(),
                })
            }
            // Where the kernel has none, none is there to be printed.
            _ => Ok(()),
        }
    }

    /// The wanted rules as this iptables prints them; where that cannot be found out, as the template
    /// has them.
    fn printed(&self, rules: &Rules) -> Result<Saved, Error> {
        let text = ruleset::iptables(rules);
        let printed = in_scratch(|| {
            self.restore.run(&RESTORE, &text)?;
            self.saved()
        })?;
        Ok(printed.unwrap_or_else(|| Saved::new(&text)))
    }

    fn install(&self, rules: &Rules, wanted: &Saved) -> Result<Change, Error> {
        let saved = self.saved()?;
        if difference_saved(self.family, wanted, &saved).is_empty() {
            return Ok(Change::Nothing);
        }
        let text = self.text(rules, &saved)?;
        self.restore.run(&RESTORE, &text)?;
        // Rules in another place are taken away when the new ones see, not before.
        for other in saved.ours().filter(|other| other.name != table(rules.at)) {
            self.clear(other)?;
        }
        let differences = difference_saved(self.family, wanted, &self.saved()?);
        if !differences.is_empty() {
            return Err(Error::NotAsLoaded {
                step: self.restore.name().to_owned(),
                differences,
            });
        }
        Ok(match saved.ours().next() {
            Some(_) => Change::Healed,
            None => Change::Fresh,
        })
    }

    /// What makes `saved` as wanted: our chain anew, wrong jumps gone, right ones there.
    fn text(&self, rules: &Rules, saved: &Saved) -> Result<String, Error> {
        let name = table(rules.at);
        if saved.unreadable.iter().any(|unreadable| unreadable == name) {
            return Err(self.incompatible(name));
        }
        let there = saved.table(name);
        let found: Vec<&SavedRule> = there
            .map(|table| table.jumps().collect())
            .unwrap_or_default();
        let wanted = jumps(rules);
        let is_right = found.len() == wanted.len()
            && wanted.iter().all(|(chain, text)| {
                found
                    .iter()
                    .any(|jump| jump.chain == *chain && jump.text == *text)
            });
        let lines = if is_right {
            Vec::new()
        } else {
            let gone = found.iter().map(|jump| jump.deletion());
            gone.chain(wanted.iter().map(insertion)).collect()
        };
        Ok(iptables_with(rules, &self.made(rules, there)?, lines))
    }

    /// What the install makes that was not there: remembered from before, or found out now.
    fn made(&self, rules: &Rules, there: Option<&SavedTable>) -> Result<Vec<String>, Error> {
        let name = table(rules.at);
        let remembered: Vec<String> = there
            .map(|table| table.made().collect())
            .unwrap_or_default();
        if !remembered.is_empty() || self.kind == Kind::Legacy {
            return Ok(remembered);
        }
        if there.is_none() {
            return Ok(vec![format!("table {name}")]);
        }
        // iptables-save prints built-in chains that are not there; nft does not.
        let Ok(nft) = Nft::find() else {
            return Ok(Vec::new());
        };
        let chains = nft.chains(self.nft_family.0, name)?;
        Ok(jumps(rules)
            .iter()
            .filter(|(chain, _)| !chains.iter().any(|there| there == chain))
            .map(|(chain, _)| format!("chain {chain}"))
            .collect())
    }

    /// What would clear the rules that are in another place than wanted.
    fn misplaced(&self, rules: &Rules, saved: &Saved) -> Vec<Step> {
        saved
            .ours()
            .filter(|other| other.name != table(rules.at))
            .map(|other| self.step(clearing(other)))
            .collect()
    }

    fn step(&self, text: String) -> Step {
        Step {
            command: format!("{} {}", self.restore.name(), RESTORE.join(" ")),
            text,
        }
    }

    fn remove(&self) -> Result<Removed, Error> {
        let mut removed = Removed::default();
        for table in self.saved()?.ours() {
            removed = removed.and(self.clear(table)?);
        }
        Ok(removed)
    }

    /// Takes what is ours out of `table`, and then what our install had made, where nobody has come
    /// to use it.
    fn clear(&self, table: &SavedTable) -> Result<Removed, Error> {
        self.restore.run(&RESTORE, &clearing(table))?;
        let mut removed = Removed {
            taken: vec![format!(
                "{} chain {CHAIN} in table {} and the jumps to it ({})",
                self.command.name(),
                table.name,
                table.jumps().count()
            )],
            left: Vec::new(),
        };
        if self.kind == Kind::Legacy {
            return Ok(removed);
        }
        for made in table.made() {
            if !self.unmake(&table.name, &made)? {
                removed.left.push(format!(
                    "{} {made}: made by our install, and others use it now",
                    self.command.name()
                ));
            }
        }
        Ok(removed)
    }

    /// Takes away what our install had made in the table `name`, if it is empty; answers whether it
    /// is gone.
    fn unmake(&self, name: &str, made: &str) -> Result<bool, Error> {
        let saved = self.saved()?;
        let Some(there) = saved.table(name) else {
            return Ok(true);
        };
        if let Some(chain) = made.strip_prefix("chain ") {
            return Ok(there.is_bare(chain) && self.drop_chain(name, chain));
        }
        let is_empty = there.chains.len() == there.built_in().count()
            && there.built_in().all(|chain| there.is_bare(chain));
        if !is_empty {
            return Ok(false);
        }
        for chain in there.built_in() {
            self.drop_chain(name, chain);
        }
        delete_if_empty(self.nft_family.1, name).map_err(|error| Error::Io {
            what: format!("the empty table {} {name}", self.nft_family.0),
            error,
        })
    }

    /// Takes a built-in chain away if it is empty, which the kernel decides; answers whether it is
    /// gone.
    fn drop_chain(&self, table: &str, chain: &str) -> bool {
        self.command
            .run(&["-w", "10", "-t", table, "-X", chain], "")
            .is_ok()
    }
}

/// What takes all that is ours out of a table, in one transaction.
fn clearing(table: &SavedTable) -> String {
    let mut text = format!("*{}\n", table.name);
    for jump in table.jumps() {
        text.push_str(&jump.deletion());
        text.push('\n');
    }
    if table.has_chain(CHAIN) {
        text.push_str(&format!("-F {CHAIN}\n-X {CHAIN}\n"));
    }
    text.push_str("COMMIT\n");
    text
}

/// Whether this kernel has IPv6.
fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Ports;
    use crate::settings::rules::{At, Via};

    /// Needs root, as all of the project's tests of the firewall do.
    #[test]
    fn the_template_and_each_iptables_say_the_same() {
        for iptables in Iptables::every().unwrap() {
            for (via, at, ports, answers) in [
                (Via::Both, At::Forward, &[25][..], Some(26)),
                (Via::Log, At::Prerouting, &[25, 465], None),
                (Via::Nflog, At::Prerouting, &[25], Some(7)),
                (Via::Nflog, At::Forward, &[25, 587], None),
            ] {
                let rules = PartialRules {
                    via: Some(via),
                    ports: Some(Ports::new(ports.iter().copied())),
                    answers,
                    ..PartialRules::default()
                }
                .resolve(at);
                for tool in &iptables.tools {
                    let printed = tool.printed(&rules).unwrap();
                    assert_eq!(read_saved(&printed).resolve(at), rules);
                    let text = Saved::new(&ruleset::iptables(&rules));
                    assert_eq!(difference_saved(tool.family, &text, &printed), []);
                }
            }
        }
    }
}
