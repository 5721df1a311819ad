//! Who decides before our rules: chains that the kernel asks earlier and that drop, reject or queue
//! new connections to a watched port, so that we never see them. Told from what `nft -j list ruleset`
//! and `iptables-save` print.
//!
//! A rule that cannot match such a SYN (another protocol or port, established connections only) is
//! left out. What matches by address or interface is named: whether it applies, the admin knows.

use serde_json::Value;

use super::{CHAIN, Saved, SavedRule, SavedTable};
use crate::settings::Ports;
use crate::settings::rules::At;

/// Our nft chains' priorities (`NF_IP_PRI_MANGLE`; `NF_IP_PRI_FILTER` less 10).
const MANGLE: i64 = -150;
const BEFORE_FILTER: i64 = -10;
/// iptables' built-in chains that a forwarded packet meets, with hook and priority, as far as they
/// may drop.
const BUILT_IN: [(&str, &str, At, i64); 4] = [
    ("raw", "PREROUTING", At::Prerouting, -300),
    ("mangle", "PREROUTING", At::Prerouting, MANGLE),
    ("mangle", "FORWARD", At::Forward, MANGLE),
    ("filter", "FORWARD", At::Forward, 0),
];
/// Targets that end a packet's way, or take it off it.
const ENDS: [&str; 6] = ["DROP", "REJECT", "QUEUE", "NFQUEUE", "TARPIT", "STEAL"];

/// A chain that decides before ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// Table and chain, as the command that lists it takes them (`ip raw PREROUTING`); hostile.
    pub chain: String,
    /// Rules in it, or in what it leads to, that may take a SYN to a watched port.
    pub rules: usize,
    /// Whether its policy drops what no rule accepts.
    pub drops_by_policy: bool,
    /// Whether it has our priority: the one that was loaded last is asked first.
    pub is_same_priority: bool,
}

/// Where our rules sit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    at: At,
    priority: i64,
    /// Our jump stands in a built-in chain of iptables.
    is_iptables: bool,
}

impl Place {
    /// Of our own nft chain.
    pub fn nft(at: At) -> Self {
        Self {
            at,
            priority: match at {
                At::Prerouting => MANGLE,
                At::Forward => BEFORE_FILTER,
            },
            is_iptables: false,
        }
    }

    /// Of our chain in iptables.
    pub fn iptables(at: At) -> Self {
        Self {
            at,
            priority: match at {
                At::Prerouting => MANGLE,
                At::Forward => 0,
            },
            is_iptables: true,
        }
    }

    /// Whether a chain at `hook` comes before, or may.
    fn follows(self, hook: At, priority: i64) -> bool {
        match (hook, self.at) {
            (At::Prerouting, At::Forward) => true,
            (At::Forward, At::Prerouting) => false,
            _ => priority <= self.priority,
        }
    }
}

/// Those in nftables, iptables' nft-backed tables included. `ruleset` is what `nft -j list ruleset`
/// prints.
pub fn earlier_in_nft(ruleset: &Value, place: Place, ports: &Ports) -> Vec<Earlier> {
    let chains = objects(ruleset, "chain");
    let mut found = Vec::new();
    for chain in chains {
        let (Some(hook), Some(priority)) = (text(chain, "hook"), chain["prio"].as_i64()) else {
            continue;
        };
        let (family, table, name) = names(chain);
        let is_ours = (family == "inet" && table == "smtpwatch")
            // What stands before our jump there is told from iptables-save.
            || (place.is_iptables
                && matches!(family, "ip" | "ip6")
                && BUILT_IN.contains(&(table, name, place.at, place.priority)));
        let comes_before = match hook {
            "ingress" => true,
            "prerouting" => place.follows(At::Prerouting, priority),
            "forward" => place.follows(At::Forward, priority),
            _ => false,
        };
        if is_ours || !comes_before || !matches!(family, "inet" | "ip" | "ip6" | "netdev") {
            continue;
        }
        let rules = reachable(ruleset, chain)
            .into_iter()
            .filter(|rule| may_concern(rule, ports) && names_any(&rule["expr"], &VERDICTS))
            .count();
        let drops_by_policy = text(chain, "policy") == Some("drop");
        if rules > 0 || drops_by_policy {
            found.push(Earlier {
                chain: format!("{family} {table} {name}"),
                rules,
                drops_by_policy,
                is_same_priority: hook != "ingress"
                    && priority == place.priority
                    && (hook == "forward") == (place.at == At::Forward),
            });
        }
    }
    found
}

/// Those that iptables-save prints; of an nft-backed iptables (`is_legacy` false) only what stands
/// before our jump in its own chain, for nft shows the rest.
pub fn earlier_in_saved(
    saved: &Saved,
    family: &str,
    is_legacy: bool,
    place: Place,
    ports: &Ports,
) -> Vec<Earlier> {
    let mut found = Vec::new();
    for (table_name, chain, at, priority) in BUILT_IN {
        let Some(table) = saved.table(table_name) else {
            continue;
        };
        let is_own = place.is_iptables && at == place.at && priority == place.priority;
        if !(is_own || is_legacy && place.follows(at, priority)) {
            continue;
        }
        let rules = if is_own {
            let before: Vec<&SavedRule> = table
                .rules
                .iter()
                .filter(|rule| rule.chain == chain)
                .take_while(|rule| rule.target().as_deref() != Some(CHAIN))
                .collect();
            count_ends(table, &before, true, ports)
        } else {
            let all: Vec<&SavedRule> = in_chain(table, chain);
            count_ends(table, &all, false, ports)
        };
        let drops_by_policy = !is_own
            && table
                .chains
                .iter()
                .any(|(name, policy)| name == chain && policy.as_deref() == Some("DROP"));
        if rules > 0 || drops_by_policy {
            found.push(Earlier {
                chain: format!("{family} {table_name} {chain}"),
                rules,
                drops_by_policy,
                is_same_priority: !is_own && at == place.at && priority == place.priority,
            });
        }
    }
    found
}

/// Rules of others that feed our NFLOG group: their chains.
pub fn rules_on_group(ruleset: &Value, group: u16) -> Vec<String> {
    let mut chains: Vec<String> = objects(ruleset, "rule")
        .filter(|rule| {
            rule["expr"].as_array().is_some_and(|expressions| {
                expressions
                    .iter()
                    .any(|expression| expression["log"]["group"].as_u64() == Some(group.into()))
            })
        })
        .map(|rule| {
            (
                text(rule, "family"),
                text(rule, "table"),
                text(rule, "chain"),
            )
        })
        .filter(|(family, table, chain)| {
            (*family, *table) != (Some("inet"), Some("smtpwatch")) && *chain != Some(CHAIN)
        })
        .map(|(family, table, chain)| {
            [family, table, chain]
                .map(Option::unwrap_or_default)
                .join(" ")
        })
        .collect();
    chains.dedup();
    chains
}

/// Flowtables: packets of established connections that they carry meet no chain.
pub fn flowtables(ruleset: &Value) -> Vec<String> {
    objects(ruleset, "flowtable")
        .map(|flowtable| {
            let (family, table, name) = names(flowtable);
            format!("{family} {table} {name}")
        })
        .collect()
}

const VERDICTS: [&str; 3] = ["drop", "reject", "queue"];
/// Rules followed at the most, so that a listing in a circle ends.
const FOLLOWED: usize = 100_000;

pub(super) fn objects<'a>(
    ruleset: &'a Value,
    kind: &'static str,
) -> impl Iterator<Item = &'a Value> {
    ruleset["nftables"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(move |object| object.get(kind))
}

pub(super) fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object[name].as_str()
}

pub(super) fn names(object: &Value) -> (&str, &str, &str) {
    let of = |name| text(object, name).unwrap_or_default();
    (of("family"), of("table"), of("name"))
}

/// The rules of a base chain and of the chains that it leads to.
pub(super) fn reachable<'a>(ruleset: &'a Value, chain: &'a Value) -> Vec<&'a Value> {
    let (family, table, name) = names(chain);
    let mut chains = vec![name];
    let mut rules = Vec::new();
    let mut next = 0;
    while let Some(chain) = chains.get(next).copied() {
        next += 1;
        let here = objects(ruleset, "rule").filter(|rule| {
            text(rule, "family") == Some(family)
                && text(rule, "table") == Some(table)
                && text(rule, "chain") == Some(chain)
        });
        for rule in here {
            rules.push(rule);
            for target in targets(&rule["expr"]) {
                if !chains.contains(&target) && rules.len() < FOLLOWED {
                    chains.push(target);
                }
            }
        }
    }
    rules
}

/// The chains that an expression, or a verdict map in it, leads to.
fn targets(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(values) => values.iter().flat_map(targets).collect(),
        Value::Object(fields) => fields
            .iter()
            .flat_map(
                |(name, value)| match (name.as_str(), text(value, "target")) {
                    ("jump" | "goto", Some(target)) => vec![target],
                    _ => targets(value),
                },
            )
            .collect(),
        _ => Vec::new(),
    }
}

pub(super) fn names_any(value: &Value, names: &[&str]) -> bool {
    match value {
        Value::Array(values) => values.iter().any(|value| names_any(value, names)),
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            let is_target =
                name == "xt" && text(value, "name").is_some_and(|target| ENDS.contains(&target));
            names.contains(&name.as_str()) || is_target || names_any(value, names)
        }),
        _ => false,
    }
}

/// Whether a new TCP connection to one of `ports` can match.
fn may_concern(rule: &Value, ports: &Ports) -> bool {
    let matches = rule["expr"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|expression| expression.get("match"));
    for condition in matches {
        let (left, right) = (&condition["left"], &condition["right"]);
        let is_equal = matches!(text(condition, "op"), Some("==" | "in"));
        if let Some(protocol) = text(&left["payload"], "protocol") {
            let field = text(&left["payload"], "field").unwrap_or_default();
            match (protocol, field) {
                ("tcp" | "th", "dport") if is_equal && !holds_port(right, ports) => return false,
                ("ip", "protocol") | ("ip6", "nexthdr")
                    if is_equal && !holds_word(right, &["tcp"]) =>
                {
                    return false;
                }
                ("tcp" | "th" | "ip" | "ip6" | "ether" | "vlan", _) => {}
                _ => return false,
            }
        }
        if text(&left["meta"], "key") == Some("l4proto") && is_equal && !holds_word(right, &["tcp"])
        {
            return false;
        }
        if text(&left["ct"], "key") == Some("state")
            && is_equal
            && !holds_word(right, &["new", "untracked"])
        {
            return false;
        }
    }
    true
}

/// Whether the right side of a comparison holds one of `ports`, or does not say it here.
pub(super) fn holds_port(right: &Value, ports: &Ports) -> bool {
    match right {
        Value::Number(port) => port
            .as_u64()
            .and_then(|port| u16::try_from(port).ok())
            .is_some_and(|port| ports.contains(port)),
        Value::Array(values) => values.iter().any(|value| holds_port(value, ports)),
        Value::Object(_) => {
            if let Some([low, high]) = right["range"].as_array().map(Vec::as_slice) {
                let bounds = low.as_u64().zip(high.as_u64());
                return bounds.is_none_or(|(low, high)| {
                    ports
                        .as_slice()
                        .iter()
                        .any(|port| (low..=high).contains(&u64::from(*port)))
                });
            }
            right.get("set").is_none_or(|set| holds_port(set, ports))
        }
        // A named set, or the name of a service: not said here.
        _ => true,
    }
}

/// The same for words; a named set may hold any.
fn holds_word(right: &Value, words: &[&str]) -> bool {
    match right {
        Value::String(word) => word.starts_with('@') || words.contains(&word.as_str()),
        Value::Array(values) => values.iter().any(|value| holds_word(value, words)),
        Value::Object(_) => right.get("set").is_none_or(|set| holds_word(set, words)),
        _ => true,
    }
}

fn in_chain<'a>(table: &'a SavedTable, chain: &str) -> Vec<&'a SavedRule> {
    table
        .rules
        .iter()
        .filter(|rule| rule.chain == chain)
        .collect()
}

/// Rules among `rules`, and in the chains that they lead to, that end the way of a SYN to one of
/// `ports`; to be accepted ends it too where our jump would come later in the same chain.
fn count_ends(table: &SavedTable, rules: &[&SavedRule], accept_ends: bool, ports: &Ports) -> usize {
    let mut chains: Vec<String> = Vec::new();
    let mut waiting: Vec<&SavedRule> = rules.to_vec();
    let mut count = 0;
    while let Some(rule) = waiting.pop() {
        let Some(target) = rule.target() else {
            continue;
        };
        if !may_concern_saved(rule, ports) {
            continue;
        }
        if ENDS.contains(&target.as_str()) || (accept_ends && target == "ACCEPT") {
            count += 1;
        } else if table.has_chain(&target) && !chains.contains(&target) {
            waiting.extend(in_chain(table, &target));
            chains.push(target);
        }
    }
    count
}

fn may_concern_saved(rule: &SavedRule, ports: &Ports) -> bool {
    let is_negated = rule.text.contains('!');
    if is_negated {
        return true;
    }
    let is_tcp = rule
        .option("-p")
        .is_none_or(|protocol| matches!(protocol.as_str(), "tcp" | "all"));
    let holds = |ports_option: String| {
        ports_option.split(',').any(|given| {
            let (low, high) = given.split_once(':').unwrap_or((given, given));
            let bounds = low.parse().ok().zip(high.parse().ok());
            bounds.is_none_or(|(low, high): (u16, u16)| {
                ports
                    .as_slice()
                    .iter()
                    .any(|port| (low..=high).contains(port))
            })
        })
    };
    let is_port = rule
        .option("--dport")
        .or_else(|| rule.option("--dports"))
        .is_none_or(holds);
    let is_new = rule
        .option("--ctstate")
        .or_else(|| rule.option("--state"))
        .is_none_or(|states| states.contains("NEW") || states.contains("UNTRACKED"));
    is_tcp && is_port && is_new
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chain(table: &str, name: &str, hook: &str, priority: i64, policy: &str) -> Value {
        json!({"chain": {"family": "inet", "table": table, "name": name, "hook": hook,
            "prio": priority, "policy": policy, "type": "filter"}})
    }

    fn rule(chain: &str, expressions: &Value) -> Value {
        json!({"rule": {"family": "inet", "table": "fw", "chain": chain, "expr": expressions}})
    }

    fn earlier(objects: &[Value], at: At) -> Vec<(String, usize, bool)> {
        let ruleset = json!({"nftables": objects});
        earlier_in_nft(&ruleset, Place::nft(at), &Ports::default())
            .into_iter()
            .map(|earlier| (earlier.chain, earlier.rules, earlier.drops_by_policy))
            .collect()
    }

    #[test]
    fn only_what_comes_before_and_may_match_is_named() {
        let dport = |right: &Value| {
            json!([{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}},
                "right": right}}, {"drop": null}])
        };
        let objects = || {
            vec![
                chain("fw", "raw", "prerouting", -300, "accept"),
                chain("fw", "late", "prerouting", -100, "drop"),
                chain("fw", "fwd", "forward", -20, "drop"),
                rule("raw", &dport(&json!(22))),
                rule("raw", &dport(&json!({"set": [22, {"range": [20, 30]}]}))),
                rule("raw", &json!([{"jump": {"target": "more"}}])),
                rule(
                    "more",
                    &json!([{"match": {"op": "==",
                    "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 25}}, {"drop": null}]),
                ),
                rule(
                    "more",
                    &json!([{"vmap": {"key": {"meta": {"key": "iifname"}},
                    "data": {"set": [["eth0", {"goto": {"target": "last"}}]]}}}]),
                ),
                rule(
                    "last",
                    &json!([{"match": {"op": "in", "left": {"ct": {"key": "state"}},
                    "right": ["established", "related"]}}, {"drop": null}]),
                ),
                rule("last", &json!([{"reject": {"type": "tcp reset"}}])),
            ]
        };
        assert_eq!(
            earlier(&objects(), At::Prerouting),
            [("inet fw raw".to_owned(), 2, false)]
        );
        assert_eq!(
            earlier(&objects(), At::Forward),
            [
                ("inet fw raw".to_owned(), 2, false),
                ("inet fw late".to_owned(), 0, true),
                ("inet fw fwd".to_owned(), 0, true)
            ]
        );
    }

    #[test]
    fn chains_in_a_circle_end() {
        let objects = vec![
            chain("fw", "a", "prerouting", -300, "accept"),
            rule("a", &json!([{"jump": {"target": "b"}}])),
            rule("b", &json!([{"jump": {"target": "a"}}, {"drop": null}])),
        ];
        assert_eq!(
            earlier(&objects, At::Prerouting),
            [("inet fw a".to_owned(), 1, false)]
        );
    }

    #[test]
    fn rules_of_others_on_the_group_are_named() {
        let ruleset = json!({"nftables": [
            rule("x", &json!([{"log": {"prefix": "x", "group": 25}}])),
            rule("y", &json!([{"log": {"prefix": "x", "group": 26}}])),
            {"rule": {"family": "inet", "table": "smtpwatch", "chain": "record",
                "expr": [{"log": {"group": 25}}]}},
            {"flowtable": {"family": "inet", "table": "fw", "name": "fast"}},
        ]});
        assert_eq!(rules_on_group(&ruleset, 25), ["inet fw x"]);
        assert_eq!(flowtables(&ruleset), ["inet fw fast"]);
    }

    #[test]
    fn what_stands_before_our_jump_decides_and_what_follows_does_not() {
        let saved = Saved::new(
            "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -s 10.0.0.9/32 -j DROP\n\
             -A PREROUTING -p udp -j DROP\nCOMMIT\n\
             *filter\n:FORWARD DROP [0:0]\n:DOCKER - [0:0]\n:SMTPWATCH - [0:0]\n\
             -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD -j DOCKER\n\
             -A FORWARD -j SMTPWATCH\n-A FORWARD -j DROP\n-A DOCKER -p tcp -m tcp --dport 1:100 -j ACCEPT\n\
             -A DOCKER -p tcp -m tcp --dport 80 -j ACCEPT\nCOMMIT\n",
        );
        let of = |is_legacy, place| -> Vec<(String, usize, bool)> {
            earlier_in_saved(&saved, "ip", is_legacy, place, &Ports::default())
                .into_iter()
                .map(|earlier| (earlier.chain, earlier.rules, earlier.drops_by_policy))
                .collect()
        };
        let raw = ("ip raw PREROUTING".to_owned(), 1, false);
        let own = ("ip filter FORWARD".to_owned(), 1, false);
        assert_eq!(
            of(true, Place::iptables(At::Forward)),
            [raw.clone(), own.clone()]
        );
        assert_eq!(of(false, Place::iptables(At::Forward)), [own]);
        assert_eq!(of(true, Place::nft(At::Prerouting)), [raw]);
        assert_eq!(of(false, Place::nft(At::Prerouting)), []);
    }
}
