//! What else is in a firewall, told from what `nft -j list ruleset` and `iptables-save` print: source NAT,
//! who manages it, who holds mail back by its port, what takes connections past every rule.
//!
//! Nothing is judged here; names in the answers are hostile.

use serde_json::Value;

use super::earlier::{holds_port, names, names_any, objects, reachable, text};
use super::{CHAIN, Saved, SavedRule, SavedTable};
use crate::settings::Ports;

/// Chains looked at for a manager's marks at the most.
const MAX_CHAINS: usize = 10_000;
/// Hooks at which a rule can hold mail back that passes, or that the machine sends.
const HOOKS: [&str; 4] = ["prerouting", "forward", "output", "postrouting"];
const BUILT_IN: [&str; 4] = ["PREROUTING", "FORWARD", "OUTPUT", "POSTROUTING"];
/// Targets and verdicts that hold a packet back.
const TARGETS: [&str; 3] = ["DROP", "REJECT", "TARPIT"];
const VERDICTS: [&str; 2] = ["drop", "reject"];

/// Matches and targets of iptables that need the state of connections.
const STATEFUL: [&str; 18] = [
    "conntrack",
    "state",
    "connbytes",
    "connlabel",
    "connlimit",
    "connmark",
    "helper",
    "CONNMARK",
    "CONNSECMARK",
    "CT",
    "DNAT",
    "FLOWOFFLOAD",
    "MASQUERADE",
    "NETMAP",
    "REDIRECT",
    "SAME",
    "SNAT",
    "SYNPROXY",
];
/// The same of nft: expressions and statements, as its JSON calls them.
const STATEFUL_IN_NFT: [&str; 11] = [
    "ct",
    "ct count",
    "ct expectation",
    "ct helper",
    "ct timeout",
    "dnat",
    "flow",
    "masquerade",
    "redirect",
    "snat",
    "synproxy",
];

/// A program that manages firewall rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manager {
    /// firewalld.
    Firewalld,
    /// ufw.
    Ufw,
    /// Docker.
    Docker,
    /// libvirt.
    Libvirt,
    /// Shorewall.
    Shorewall,
    /// OpenWrt's fw4.
    Fw4,
}

impl Manager {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Firewalld => "firewalld",
            Self::Ufw => "ufw",
            Self::Docker => "Docker",
            Self::Libvirt => "libvirt",
            Self::Shorewall => "Shorewall",
            Self::Fw4 => "fw4 (OpenWrt)",
        }
    }

    /// Whether it takes the whole firewall for its own; others add to what is there.
    pub fn is_whole(self) -> bool {
        !matches!(self, Self::Docker | Self::Libvirt)
    }

    fn of_table(name: &str) -> Option<Self> {
        match name {
            "firewalld" => Some(Self::Firewalld),
            "fw4" => Some(Self::Fw4),
            name if name.starts_with("libvirt") => Some(Self::Libvirt),
            name if name.starts_with("docker") => Some(Self::Docker),
            _ => None,
        }
    }

    fn of_chain(name: &str) -> Option<Self> {
        match name {
            "FORWARD_direct" | "FWDI_public" => Some(Self::Firewalld),
            "shorewall" | "net-fw" => Some(Self::Shorewall),
            name if name.starts_with("ufw-") || name.starts_with("ufw6-") => Some(Self::Ufw),
            name if name == "DOCKER" || name.starts_with("DOCKER-") => Some(Self::Docker),
            name if name.starts_with("LIBVIRT_") => Some(Self::Libvirt),
            _ => None,
        }
    }
}

/// Who manages the firewall, by the names of its tables and chains; each once.
pub fn managers(ruleset: &Value, saved: &[&Saved]) -> Vec<Manager> {
    let tables = objects(ruleset, "table").filter_map(|table| Manager::of_table(names(table).2));
    let chains = objects(ruleset, "chain").take(MAX_CHAINS);
    let chains = chains.filter_map(|chain| Manager::of_chain(names(chain).2));
    let old = saved.iter().flat_map(|saved| &saved.tables);
    let old = old.flat_map(|table| table.chains.iter().take(MAX_CHAINS));
    let old = old.filter_map(|(name, _)| Manager::of_chain(name));
    let mut found: Vec<Manager> = tables.chain(chains).chain(old).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Whether nft holds rules that are neither ours nor of the tables that `saved` shows.
pub fn has_own_nft_rules(ruleset: &Value, saved: &[(&str, &Saved)]) -> bool {
    objects(ruleset, "rule").any(|rule| !is_ours(rule) && !is_shown(rule, saved))
}

/// Whether iptables holds rules that are not ours.
pub fn has_own_rules(saved: &Saved) -> bool {
    let rules = saved.tables.iter().flat_map(|table| &table.rules);
    rules
        .into_iter()
        .any(|rule| rule.chain != CHAIN && rule.target().as_deref() != Some(CHAIN))
}

/// Chains that translate the addresses of what leaves, by masquerade or SNAT.
pub fn source_nat(ruleset: &Value, saved: &[(&str, &Saved)]) -> Vec<String> {
    let mut chains: Vec<String> = objects(ruleset, "rule")
        .filter(|rule| !is_shown(rule, saved))
        .filter(|rule| names_any(&rule["expr"], &["masquerade", "snat"]))
        .map(chain_of)
        .collect();
    let is_nat = |target: &str| matches!(target, "MASQUERADE" | "SNAT" | "NETMAP" | "SAME");
    for (family, saved) in saved {
        let table = saved.tables.iter().filter(|table| table.name == "nat");
        let rules = table.flat_map(|table| &table.rules);
        chains.extend(
            rules
                .filter(|rule| rule.target().is_some_and(|target| is_nat(&target)))
                .map(|rule| format!("{family} nat {}", rule.chain)),
        );
    }
    chains.sort();
    chains.dedup();
    chains
}

/// Chains with a rule that needs the state of connections: only where there is one does the kernel track the
/// connections of a network namespace (`nf_ct_netns_get()`, since Linux 4.10). Ours need none.
pub fn tracking(ruleset: &Value, saved: &[(&str, &Saved)]) -> Vec<String> {
    let mut chains: Vec<String> = objects(ruleset, "rule")
        .filter(|rule| !is_shown(rule, saved))
        .filter(|rule| needs_state(&rule["expr"]))
        .map(chain_of)
        .collect();
    for (family, saved) in saved {
        for table in &saved.tables {
            let rules = table.rules.iter();
            let rules = rules.filter(|rule| {
                let used = rule.options("-m").into_iter().chain(rule.target());
                used.into_iter()
                    .any(|name| STATEFUL.contains(&name.as_str()))
            });
            chains.extend(rules.map(|rule| format!("{family} {} {}", table.name, rule.chain)));
        }
    }
    chains.sort();
    chains.dedup();
    chains
}

fn needs_state(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.iter().any(needs_state),
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            let extension = (name == "xt").then(|| text(value, "name")).flatten();
            STATEFUL_IN_NFT.contains(&name.as_str())
                || extension.is_some_and(|extension| STATEFUL.contains(&extension))
                || needs_state(value)
        }),
        _ => false,
    }
}

/// Chains in which a rule drops or rejects TCP connections because they go to one of `ports`, on their way
/// through the machine or out of it.
pub fn held_back(ruleset: &Value, saved: &[(&str, &Saved)], ports: &Ports) -> Vec<String> {
    let base = objects(ruleset, "chain").filter(|chain| {
        text(chain, "hook").is_some_and(|hook| HOOKS.contains(&hook))
            && text(chain, "family") != Some("arp")
    });
    let mut chains: Vec<String> = base
        .flat_map(|chain| reachable(ruleset, chain))
        .filter(|rule| !is_ours(rule) && !is_shown(rule, saved))
        .filter(|rule| names_any(&rule["expr"], &VERDICTS) && names_port(rule, ports))
        .map(chain_of)
        .collect();
    for (family, saved) in saved {
        for table in &saved.tables {
            let rules = leading_from(table).into_iter();
            let rules = rules.filter(|rule| names_port_saved(rule, ports));
            chains.extend(rules.map(|rule| format!("{family} {} {}", table.name, rule.chain)));
        }
    }
    chains.sort();
    chains.dedup();
    chains
}

/// Chains of iptables that hand connections to a flow offload (OpenWrt's FLOWOFFLOAD).
pub fn offloads(saved: &[(&str, &Saved)]) -> Vec<String> {
    let mut chains = Vec::new();
    for (family, saved) in saved {
        for table in &saved.tables {
            let rules = table.rules.iter();
            let offloads = rules.filter(|rule| rule.target().as_deref() == Some("FLOWOFFLOAD"));
            chains.extend(offloads.map(|rule| format!("{family} {} {}", table.name, rule.chain)));
        }
    }
    chains.dedup();
    chains
}

fn is_ours(rule: &Value) -> bool {
    text(rule, "family") == Some("inet") && text(rule, "table") == Some("smtpwatch")
        || text(rule, "chain") == Some(CHAIN)
        || names_any_target(&rule["expr"])
}

fn names_any_target(expressions: &Value) -> bool {
    let jumps = expressions.as_array().into_iter().flatten();
    jumps
        .filter_map(|expression| text(&expression["jump"], "target"))
        .any(|target| target == CHAIN)
}

/// Whether an nft-backed iptables shows the rule's table in words that say more.
fn is_shown(rule: &Value, saved: &[(&str, &Saved)]) -> bool {
    let family = text(rule, "family").unwrap_or_default();
    let table = text(rule, "table").unwrap_or_default();
    saved
        .iter()
        .any(|(of, saved)| *of == family && saved.table(table).is_some())
}

fn chain_of(rule: &Value) -> String {
    ["family", "table", "chain"]
        .map(|name| text(rule, name).unwrap_or_default())
        .join(" ")
}

/// Whether a rule compares the destination port with one of `ports` itself; a named set does not say.
fn names_port(rule: &Value, ports: &Ports) -> bool {
    let expressions = rule["expr"].as_array().into_iter().flatten();
    expressions
        .filter_map(|expression| expression.get("match"))
        .any(|condition| {
            let payload = &condition["left"]["payload"];
            matches!(text(payload, "protocol"), Some("tcp" | "th"))
                && text(payload, "field") == Some("dport")
                && matches!(text(condition, "op"), Some("==" | "in"))
                && !condition["right"].is_string()
                && holds_port(&condition["right"], ports)
        })
}

/// The rules that what passes, or is sent, can meet.
fn leading_from(table: &SavedTable) -> Vec<&SavedRule> {
    let mut chains: Vec<String> = BUILT_IN.map(str::to_owned).to_vec();
    let mut met = Vec::new();
    let mut next = 0;
    while let Some(chain) = chains.get(next).cloned() {
        next += 1;
        for rule in table.rules.iter().filter(|rule| rule.chain == chain) {
            met.push(rule);
            let target = rule.target().unwrap_or_default();
            if target != CHAIN && table.has_chain(&target) && !chains.contains(&target) {
                chains.push(target);
            }
        }
    }
    met
}

fn names_port_saved(rule: &SavedRule, ports: &Ports) -> bool {
    let ends = rule
        .target()
        .is_some_and(|target| TARGETS.contains(&target.as_str()));
    let listed = ["--dport", "--dports", "--destination-port"]
        .iter()
        .find_map(|option| rule.option(option));
    let is_tcp = rule.option("-p").is_none_or(|protocol| protocol == "tcp");
    ends && is_tcp
        && !rule.text.contains("! --dport")
        && listed.is_some_and(|listed| listed.split(',').any(|part| holds(part, ports)))
}

/// Whether `25`, or `20:30`, holds one of the ports.
fn holds(part: &str, ports: &Ports) -> bool {
    let (low, high) = part.split_once(':').unwrap_or((part, part));
    match (low.parse::<u16>(), high.parse::<u16>()) {
        (Ok(low), Ok(high)) => ports
            .as_slice()
            .iter()
            .any(|port| (low..=high).contains(port)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const EMPTY: Saved = Saved {
        tables: Vec::new(),
        unreadable: Vec::new(),
    };

    fn port_rule(table: &str, chain: &str, right: &Value, verdict: &str) -> Value {
        json!({"rule": {"family": "inet", "table": table, "chain": chain, "expr": [
            {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": right}},
            {verdict: null},
        ]}})
    }

    fn ruleset(rules: &[Value]) -> Value {
        let mut all = vec![
            json!({"table": {"family": "inet", "name": "mine"}}),
            json!({"chain": {"family": "inet", "table": "mine", "name": "fwd", "hook": "forward", "prio": 0, "policy": "accept"}}),
            json!({"chain": {"family": "inet", "table": "mine", "name": "in", "hook": "input", "prio": 0, "policy": "accept"}}),
            json!({"chain": {"family": "inet", "table": "mine", "name": "mail"}}),
        ];
        all.extend(rules.iter().cloned());
        json!({"nftables": all})
    }

    #[test]
    fn mail_is_held_back_only_where_a_rule_names_its_port_on_its_way() {
        let held = |rules: &[Value]| held_back(&ruleset(rules), &[], &Ports::default());
        let drop_25 = port_rule("mine", "fwd", &json!(25), "drop");
        assert_eq!(held(&[drop_25]), ["inet mine fwd"]);
        let set = json!({"set": [25, 587]});
        assert_eq!(
            held(&[port_rule("mine", "fwd", &set, "reject")]),
            ["inet mine fwd"]
        );
        let jump = json!({"rule": {"family": "inet", "table": "mine", "chain": "fwd", "expr": [{"jump": {"target": "mail"}}]}});
        let led = [jump, port_rule("mine", "mail", &json!(25), "drop")];
        assert_eq!(held(&led), ["inet mine mail"]);
        for other in [
            port_rule("mine", "in", &json!(25), "drop"),
            port_rule("mine", "fwd", &json!(80), "drop"),
            port_rule("mine", "fwd", &json!(25), "accept"),
            port_rule("mine", "fwd", &json!("@ports"), "drop"),
            port_rule("smtpwatch", "forward", &json!(25), "drop"),
        ] {
            assert!(held(std::slice::from_ref(&other)).is_empty(), "{other}");
        }
    }

    #[test]
    fn the_same_in_iptables() {
        let held = |rule: &str| {
            let saved = Saved::new(&format!(
                "*filter\n:FORWARD ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:mail - [0:0]\n-A FORWARD -j mail\n-A {rule}\nCOMMIT\n"
            ));
            !held_back(&Value::Null, &[("ip", &saved)], &Ports::default()).is_empty()
        };
        assert!(held("FORWARD -p tcp -m tcp --dport 25 -j DROP"));
        assert!(held(
            "mail -p tcp -m multiport --dports 20:30,587 -j REJECT"
        ));
        for other in [
            "INPUT -p tcp -m tcp --dport 25 -j DROP",
            "FORWARD -p tcp -m tcp --dport 25 -j LOG",
            "FORWARD -p udp -m udp --dport 25 -j DROP",
            "FORWARD -p tcp -m tcp ! --dport 25 -j DROP",
            "FORWARD -p tcp -m tcp --dport 80 -j DROP",
            "FORWARD -j DROP",
        ] {
            assert!(!held(other), "{other}");
        }
    }

    #[test]
    fn what_has_connections_tracked() {
        let in_nft = |expression: Value| {
            let rule =
                json!({"family": "inet", "table": "mine", "chain": "fwd", "expr": [expression]});
            !tracking(&json!({"nftables": [{"rule": rule}]}), &[]).is_empty()
        };
        let state = json!({"ct": {"key": "state"}});
        assert!(in_nft(
            json!({"match": {"op": "in", "left": state, "right": "new"}})
        ));
        assert!(in_nft(json!({"vmap": {"key": state, "data": "@verdicts"}})));
        assert!(in_nft(json!({"masquerade": null})));
        assert!(in_nft(
            json!({"xt": {"type": "match", "name": "conntrack"}})
        ));
        let port = json!({"payload": {"protocol": "tcp", "field": "dport"}});
        assert!(!in_nft(
            json!({"match": {"op": "==", "left": port, "right": 25}})
        ));
        assert!(!in_nft(json!({"xt": {"type": "match", "name": "comment"}})));
        let in_iptables = |rule: &str| {
            let saved = Saved::new(&format!(
                "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD {rule}\nCOMMIT\n"
            ));
            tracking(&Value::Null, &[("ip6", &saved)])
        };
        assert_eq!(
            in_iptables("-p tcp -m tcp -m conntrack --ctstate NEW -j ACCEPT"),
            ["ip6 filter FORWARD"]
        );
        assert_eq!(in_iptables("-j CONNMARK --restore-mark").len(), 1);
        assert!(in_iptables("-m comment --comment \"-m state\" -j ACCEPT").is_empty());
        assert!(in_iptables("-p tcp -m tcp --dport 25 -j DROP").is_empty());
    }

    #[test]
    fn source_nat_is_found_in_both_and_once() {
        let nft = json!({"nftables": [
            {"rule": {"family": "ip", "table": "nat", "chain": "POSTROUTING", "expr": [{"masquerade": null}]}},
            {"rule": {"family": "inet", "table": "mine", "chain": "post", "expr": [{"snat": {"addr": "192.0.2.1"}}]}},
            {"rule": {"family": "inet", "table": "mine", "chain": "pre", "expr": [{"dnat": {"addr": "192.0.2.1"}}]}},
        ]});
        let saved = Saved::new(
            "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o wan0 -j MASQUERADE\nCOMMIT\n",
        );
        let found = source_nat(&nft, &[("ip", &saved)]);
        assert_eq!(found, ["inet mine post", "ip nat POSTROUTING"]);
        assert!(source_nat(&Value::Null, &[("ip", &EMPTY)]).is_empty());
    }

    #[test]
    fn managers_are_known_by_their_names() {
        let nft = json!({"nftables": [
            {"table": {"family": "inet", "name": "firewalld"}},
            {"chain": {"family": "ip", "table": "filter", "name": "DOCKER-USER"}},
        ]});
        let saved = Saved::new("*filter\n:ufw-before-input - [0:0]\nCOMMIT\n");
        assert_eq!(
            managers(&nft, &[&saved]),
            [Manager::Firewalld, Manager::Ufw, Manager::Docker]
        );
        assert!(managers(&ruleset(&[]), &[&EMPTY]).is_empty());
    }

    #[test]
    fn rules_of_ours_are_nobodys_firewall() {
        let ours = port_rule("smtpwatch", "prerouting", &json!(25), "drop");
        assert!(!has_own_nft_rules(&ruleset(&[ours]), &[]));
        let others = ruleset(&[port_rule("mine", "fwd", &json!(80), "drop")]);
        assert!(has_own_nft_rules(&others, &[]));
        let ours = Saved::new(
            "*filter\n:SMTPWATCH - [0:0]\n-A FORWARD -j SMTPWATCH\n-A SMTPWATCH -j LOG\n",
        );
        assert!(!has_own_rules(&ours));
        assert!(has_own_rules(&Saved::new("*filter\n-A FORWARD -j DROP\n")));
    }

    #[test]
    fn an_offload_in_iptables_is_found() {
        let saved = Saved::new("*filter\n-A FORWARD -m conntrack -j FLOWOFFLOAD --hw\nCOMMIT\n");
        assert_eq!(offloads(&[("ip", &saved)]), ["ip filter FORWARD"]);
        assert!(offloads(&[("ip", &EMPTY)]).is_empty());
    }
}
