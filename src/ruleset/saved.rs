//! What `iptables-save` prints, taken apart: tables, chains, rules and their counters; which of it is
//! ours, and in what that differs from what is wanted.

use super::listing::{Difference, Parts, compare};
use super::{CHAIN, MADE};
use crate::settings::Ports;
use crate::settings::rules::{At, PartialRules, Prefix, Via};

/// All tables that iptables-save printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// In the order in which they were printed.
    pub tables: Vec<SavedTable>,
    /// Names of those that iptables-nft cannot read, for nft has put something into them.
    pub unreadable: Vec<String>,
}

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedTable {
    /// `filter`, `mangle`, ...
    pub name: String,
    /// Chains, and the policy of those that are built in.
    pub chains: Vec<(String, Option<String>)>,
    /// Rules, in their order.
    pub rules: Vec<SavedRule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedRule {
    /// The chain that holds it.
    pub chain: String,
    /// Matches and target, as printed.
    pub text: String,
    /// Packets that it matched, where counters were asked for.
    pub packets: u64,
}

impl SavedRule {
    /// The chain or target that it jumps or goes to.
    pub fn target(&self) -> Option<String> {
        let words = words(&self.text);
        let place = words
            .iter()
            .position(|(word, is_quoted)| !is_quoted && (word == "-j" || word == "-g"))?;
        words.get(place + 1).map(|(word, _)| word.clone())
    }

    /// The line that takes it away: matched by its text, so that another rule is never hit.
    pub fn deletion(&self) -> String {
        format!("-D {} {}", self.chain, self.text)
    }

    /// What follows the option `name`.
    pub fn option(&self, name: &str) -> Option<String> {
        self.options(name).into_iter().next()
    }

    /// What follows the option `name`, each time.
    pub fn options(&self, name: &str) -> Vec<String> {
        let words = words(&self.text);
        let pairs = words.iter().zip(words.iter().skip(1));
        pairs
            .filter(|((word, is_quoted), _)| !is_quoted && word == name)
            .map(|(_, (value, _))| value.clone())
            .collect()
    }
}

impl Saved {
    /// Takes apart what iptables-save printed, or what iptables-restore takes.
    pub fn new(text: &str) -> Self {
        let mut tables: Vec<SavedTable> = Vec::new();
        let mut unreadable = Vec::new();
        for line in text.lines() {
            if let Some(name) = line
                .strip_prefix("# Table `")
                .and_then(|rest| rest.split_once("' is incompatible"))
            {
                unreadable.push(name.0.to_owned());
            } else if let Some(name) = line.strip_prefix('*') {
                tables.push(SavedTable {
                    name: name.trim().to_owned(),
                    ..SavedTable::default()
                });
            } else if let Some(table) = tables.last_mut() {
                table.take(line);
            }
        }
        Self { tables, unreadable }
    }

    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<&SavedTable> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// The tables in which something is ours.
    pub fn ours(&self) -> impl Iterator<Item = &SavedTable> {
        self.tables
            .iter()
            .filter(|table| table.has_chain(CHAIN) || table.jumps().next().is_some())
    }

    /// Whether any rule or policy decides something.
    pub fn decides(&self) -> bool {
        self.tables.iter().any(|table| {
            !table.rules.is_empty()
                || table
                    .chains
                    .iter()
                    .any(|(_, policy)| policy.as_deref().is_some_and(|policy| policy != "ACCEPT"))
        })
    }

    /// Packets that our rules saw, and those that they logged as text.
    pub fn matched(&self) -> (u64, u64) {
        let sum = |is_counted: fn(&SavedRule) -> bool| {
            self.ours()
                .flat_map(SavedTable::own_rules)
                .filter(|rule| is_counted(rule))
                .map(|rule| rule.packets)
                .sum()
        };
        (
            sum(|rule| rule.option("--comment").as_deref() == Some("smtpwatch: seen")),
            sum(|rule| rule.target().as_deref() == Some("LOG")),
        )
    }
}

impl SavedTable {
    fn take(&mut self, line: &str) {
        if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            if let Some(name) = words.next() {
                let policy = words.next().filter(|policy| *policy != "-");
                self.chains
                    .push((name.to_owned(), policy.map(str::to_owned)));
            }
            return;
        }
        let (packets, line) = counters(line);
        let (is_first, rest) = match (line.strip_prefix("-A "), line.strip_prefix("-I ")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return,
        };
        let (chain, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let text = if is_first {
            text.strip_prefix("1 ").unwrap_or(text)
        } else {
            text
        };
        self.rules.push(SavedRule {
            chain: chain.to_owned(),
            text: text.trim_end().to_owned(),
            packets,
        });
    }

    /// Whether it has the chain.
    pub fn has_chain(&self, name: &str) -> bool {
        self.chains.iter().any(|(chain, _)| chain == name)
    }

    /// The rules in our chain.
    pub fn own_rules(&self) -> impl Iterator<Item = &SavedRule> {
        self.rules.iter().filter(|rule| rule.chain == CHAIN)
    }

    /// The rules of other chains that lead to ours.
    pub fn jumps(&self) -> impl Iterator<Item = &SavedRule> {
        self.rules
            .iter()
            .filter(|rule| rule.chain != CHAIN && rule.target().as_deref() == Some(CHAIN))
    }

    /// What our install remembered to have made: `table filter`, or `chain FORWARD`.
    pub fn made(&self) -> impl Iterator<Item = String> {
        self.own_rules().filter_map(|rule| {
            let comment = rule.option("--comment")?;
            comment.strip_prefix(MADE).map(str::to_owned)
        })
    }

    /// Whether `chain` is built in, empty, and lets everything pass.
    pub fn is_bare(&self, chain: &str) -> bool {
        self.chains
            .iter()
            .any(|(name, policy)| name == chain && policy.as_deref() == Some("ACCEPT"))
            && self.rules.iter().all(|rule| rule.chain != chain)
    }

    /// Names of the built-in chains.
    pub fn built_in(&self) -> impl Iterator<Item = &str> {
        self.chains
            .iter()
            .filter(|(_, policy)| policy.is_some())
            .map(|(name, _)| name.as_str())
    }
}

/// What our rules in `saved` were made for, as far as that can be read.
pub fn read_saved(saved: &Saved) -> PartialRules {
    let rules = || saved.ours().flat_map(SavedTable::own_rules);
    let target = |name: &str| rules().find(|rule| rule.target().as_deref() == Some(name));
    let (nflog, log) = (target("NFLOG"), target("LOG"));
    let ports: Vec<u16> = rules()
        .filter_map(|rule| rule.option("--dport").or_else(|| rule.option("--dports")))
        .flat_map(|ports| {
            let ports: Vec<u16> = ports
                .split(',')
                .filter_map(|port| port.parse().ok())
                .collect();
            ports
        })
        .collect();
    let prefix = nflog
        .and_then(|rule| rule.option("--nflog-prefix"))
        .or_else(|| log?.option("--log-prefix"));
    PartialRules {
        ports: (!ports.is_empty()).then(|| Ports::new(ports)),
        via: Via::of(nflog.is_some(), log.is_some()),
        at: saved.ours().find_map(|table| match table.name.as_str() {
            "mangle" => Some(At::Prerouting),
            "filter" => Some(At::Forward),
            _ => None,
        }),
        // Group 0 is not printed.
        group: nflog.map(|rule| {
            rule.option("--nflog-group")
                .and_then(|group| group.parse().ok())
                .unwrap_or(0)
        }),
        prefix: prefix.and_then(|prefix| prefix.parse::<Prefix>().ok()),
    }
}

/// What differs in what is ours, `family` named in each place; the wanted text may be the template's own.
pub fn difference_saved(family: &str, wanted: &Saved, installed: &Saved) -> Vec<Difference> {
    compare(&parts(family, wanted), &parts(family, installed))
}

fn parts(family: &str, saved: &Saved) -> Parts {
    let mut parts = Parts::new();
    for table in saved.ours() {
        if table.has_chain(CHAIN) {
            let rules = table
                .own_rules()
                .filter(|rule| {
                    !rule
                        .option("--comment")
                        .is_some_and(|comment| comment.starts_with(MADE))
                })
                .map(|rule| rule.text.clone())
                .collect();
            parts.insert(format!("{family} {} chain {CHAIN}", table.name), rules);
        }
        let mut jumps: Vec<String> = table
            .jumps()
            .map(|rule| format!("{} {}", rule.chain, rule.text))
            .collect();
        jumps.sort_unstable();
        parts.insert(format!("{family} {} jumps to it", table.name), jumps);
    }
    parts
}

/// The packet counter before a rule (`[12:720] -A ...`), and the rule.
fn counters(line: &str) -> (u64, &str) {
    line.strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
        .and_then(|(counters, rule)| {
            let packets = counters.split(':').next()?.parse().ok()?;
            Some((packets, rule))
        })
        .unwrap_or((0, line))
}

/// The words of a rule, quotes and backslashes resolved as iptables-save writes them; with each,
/// whether it was quoted.
fn words(text: &str) -> Vec<(String, bool)> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut is_open, mut is_quoted) = (false, false);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                is_open = !is_open;
                is_quoted = true;
            }
            '\\' if is_open => word.extend(characters.next()),
            ' ' if !is_open => {
                if is_quoted || !word.is_empty() {
                    words.push((std::mem::take(&mut word), is_quoted));
                }
                is_quoted = false;
            }
            character => word.push(character),
        }
    }
    if is_quoted || !word.is_empty() {
        words.push((word, is_quoted));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::iptables;
    use crate::settings::rules::Rules;

    fn rules(via: Via, at: At) -> Rules {
        PartialRules {
            ports: Some(Ports::new([25, 587])),
            via: Some(via),
            at: Some(at),
            group: (via != Via::Log).then_some(7),
            prefix: Some("spam: ".parse().unwrap()),
        }
        .resolve(at)
    }

    #[test]
    fn what_rules_were_made_for_is_read_back() {
        for via in [Via::Nflog, Via::Log, Via::Both] {
            for at in [At::Prerouting, At::Forward] {
                let rules = rules(via, at);
                let saved = Saved::new(&iptables(&rules));
                assert_eq!(read_saved(&saved).resolve(at), rules);
                assert_eq!(difference_saved("IPv4", &saved, &saved), []);
            }
        }
    }

    #[test]
    fn a_comment_is_no_jump_and_a_goto_is_one() {
        let saved = Saved::new(
            "*filter\n:FORWARD ACCEPT [0:0]\n:SMTPWATCH - [0:0]\n\
             -A FORWARD -m comment --comment \"see \\\"x\\\" -j SMTPWATCH\" -j ACCEPT\n\
             -A FORWARD -i eth1 -g SMTPWATCH\nCOMMIT\n",
        );
        let jumps: Vec<String> = saved.tables[0].jumps().map(SavedRule::deletion).collect();
        assert_eq!(jumps, ["-D FORWARD -i eth1 -g SMTPWATCH"]);
    }

    #[test]
    fn counters_are_summed() {
        let saved = Saved::new(
            "*filter\n:SMTPWATCH - [0:0]\n[9:540] -A FORWARD -j SMTPWATCH\n\
             [5:300] -A SMTPWATCH -p tcp -m comment --comment \"smtpwatch: seen\"\n\
             [3:180] -A SMTPWATCH -p tcp -j LOG --log-prefix \"x \"\nCOMMIT\n",
        );
        assert_eq!(saved.matched(), (5, 3));
    }

    #[test]
    fn what_was_made_is_remembered_and_no_difference() {
        let text = iptables(&rules(Via::Log, At::Forward));
        let marked = text.replace(
            "COMMIT",
            "-A SMTPWATCH -m comment --comment \"smtpwatch: made table filter\"\nCOMMIT",
        );
        let (wanted, installed) = (Saved::new(&text), Saved::new(&marked));
        assert_eq!(difference_saved("IPv4", &wanted, &installed), []);
        let made: Vec<String> = installed.tables[0].made().collect();
        assert_eq!(made, ["table filter"]);
    }

    #[test]
    fn a_doubled_or_lost_jump_is_a_difference() {
        let text = iptables(&rules(Via::Log, At::Forward));
        let jump = "-I FORWARD 1 -j SMTPWATCH\n";
        let of = |text: &str| {
            let found = difference_saved(
                "IPv4",
                &Saved::new(&iptables(&rules(Via::Log, At::Forward))),
                &Saved::new(text),
            );
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            of(&text.replace(jump, &jump.repeat(2))),
            ["not ours in IPv4 filter jumps to it: FORWARD -j SMTPWATCH"]
        );
        assert_eq!(
            of(&text.replace(jump, "")),
            ["missing in IPv4 filter jumps to it: FORWARD -j SMTPWATCH"]
        );
    }
}
