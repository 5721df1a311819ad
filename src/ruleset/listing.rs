//! What `nft list table` prints, taken apart; what differs between two such texts, whatever the
//! counters, the order of elements and the spaces; and what the rules in it were made for.

use std::collections::BTreeMap;
use std::fmt;

use super::TABLE;
use crate::settings::Ports;
use crate::settings::rules::{At, PartialRules, Prefix, Via};

/// The lines of each part, by its head (`chain evidence`); rules stay in their order.
pub(super) type Parts = BTreeMap<String, Vec<String>>;

/// What rules about answers of the DNS match.
const ANSWERS: &str = "ct direction reply";

/// Something in which installed rules are not as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// In which way.
    pub kind: DifferenceKind,
    /// In which chain, set or counter; hostile where somebody else made it.
    pub place: String,
    /// The line, or nothing where it is the whole place.
    pub line: String,
}

/// How lines differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// It is wanted and not there.
    Missing,
    /// It is there and not wanted.
    Unexpected,
    /// All is there, in another order.
    Order,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DifferenceKind::Missing => "missing",
            DifferenceKind::Unexpected => "not ours",
            DifferenceKind::Order => "in another order",
        };
        if self.line.is_empty() {
            write!(f, "{kind}: {}", self.place)
        } else {
            write!(f, "{kind} in {}: {}", self.place, self.line)
        }
    }
}

/// What differs between two texts of our table; the wanted one may be the template's own.
pub fn difference(wanted: &str, installed: &str) -> Vec<Difference> {
    compare(&parts(wanted), &parts(installed))
}

/// What differs between parts; places and lines in the order of places.
pub(super) fn compare(wanted: &Parts, installed: &Parts) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut note = |kind, place: &str, line: &str| {
        found.push(Difference {
            kind,
            place: place.to_owned(),
            line: line.to_owned(),
        });
    };
    for (place, lines) in wanted {
        let Some(there) = installed.get(place) else {
            note(DifferenceKind::Missing, place, "");
            continue;
        };
        let missing = without(lines, there);
        let unexpected = without(there, lines);
        if missing.is_empty() && unexpected.is_empty() && lines != there {
            note(DifferenceKind::Order, place, "");
        }
        for line in missing {
            note(DifferenceKind::Missing, place, line);
        }
        for line in unexpected {
            note(DifferenceKind::Unexpected, place, line);
        }
    }
    for place in installed
        .keys()
        .filter(|place| !wanted.contains_key(*place))
    {
        note(DifferenceKind::Unexpected, place, "");
    }
    found
}

/// The lines of `these` that `those` lack, each as often as it lacks.
fn without<'a>(these: &'a [String], those: &[String]) -> Vec<&'a str> {
    let mut left: Vec<&String> = those.iter().collect();
    these
        .iter()
        .filter(|line| match left.iter().position(|other| other == line) {
            Some(place) => {
                left.swap_remove(place);
                false
            }
            None => true,
        })
        .map(String::as_str)
        .collect()
}

/// What the rules of a listing were made for, as far as that can be read.
pub fn read_listing(text: &str) -> PartialRules {
    let parts = parts(text);
    let lines = || parts.values().flatten();
    let ports: Vec<u16> = parts
        .get("set watched_ports")
        .into_iter()
        .flatten()
        .filter_map(|line| line.strip_prefix("elements = { "))
        .flat_map(|line| line.trim_end_matches(" }").split(", "))
        .filter_map(|port| port.parse().ok())
        .collect();
    let hooks = |hook: &str| lines().any(|line| line.contains(hook));
    let is_answers = |line: &&String| line.contains(ANSWERS);
    let to_group = |line: &&String| line.contains("log prefix") && line.contains(" group ");
    let nflog = lines().find(|line| to_group(line) && !is_answers(line));
    let answers = lines().find(|line| to_group(line) && is_answers(line));
    let group = |line: &String| after(line, " group ")?.split(' ').next()?.parse().ok();
    let log = lines().find(|line| line.contains("log prefix") && !line.contains(" group "));
    PartialRules {
        ports: (!ports.is_empty()).then(|| Ports::new(ports)),
        via: Via::of(nflog.is_some(), log.is_some()),
        at: if hooks("hook prerouting") {
            Some(At::Prerouting)
        } else {
            hooks("hook forward").then_some(At::Forward)
        },
        group: nflog.and_then(group),
        prefix: nflog
            .or(log)
            .and_then(|line| quoted(after(line, "log prefix ")?))
            .and_then(|prefix| prefix.parse::<Prefix>().ok()),
        answers: answers.and_then(group),
    }
}

fn after<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    line.split_once(mark).map(|(_, rest)| rest)
}

fn quoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.split('"').next()
}

/// The parts of our table in `text`, their lines in one spelling.
fn parts(text: &str) -> Parts {
    let head = format!("table {TABLE} {{");
    let mut parts = Parts::new();
    let mut path: Vec<String> = Vec::new();
    let mut pending = String::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if path.is_empty() {
            if line == head {
                path.push("table".to_owned());
                parts.entry("table".to_owned()).or_default();
            }
            continue;
        }
        // Elements go over several lines.
        if !pending.is_empty() || (line.starts_with("elements = {") && !line.ends_with('}')) {
            pending.push_str(line);
            pending.push(' ');
            if !line.ends_with('}') {
                continue;
            }
        }
        let line = if pending.is_empty() {
            line.to_owned()
        } else {
            std::mem::take(&mut pending)
        };
        if line == "}" {
            path.pop();
        } else if let Some(head) = line.strip_suffix('{') {
            let head = head.trim_end().to_owned();
            parts.entry(head.clone()).or_default();
            path.push(head);
        } else if let (Some(place), Some(line)) = (path.last(), canonical(&line)) {
            parts.entry(place.clone()).or_default().push(line);
        }
    }
    for lines in parts.values_mut() {
        // What comes and goes while it runs is no difference.
        let is_live = |line: &String| {
            line.starts_with("flags") && (line.contains("timeout") || line.contains("dynamic"))
        };
        if lines.iter().any(is_live) {
            lines.retain(|line| !line.starts_with("elements"));
        }
    }
    parts
}

/// A line in one spelling; nothing where it only counts.
fn canonical(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    if let ["packets", _, "bytes", _] = words[..] {
        return None;
    }
    let line = in_one_spelling(&words);
    if let Some(elements) = line
        .strip_prefix("elements = {")
        .and_then(|rest| rest.strip_suffix('}'))
    {
        let mut elements: Vec<&str> = elements
            .split(',')
            .map(str::trim)
            .filter(|element| !element.is_empty())
            .collect();
        elements.sort_unstable_by_key(|element| (element.len(), *element));
        return Some(format!("elements = {{ {} }}", elements.join(", ")));
    }
    Some(line)
}

/// Counters without their values, and TCP flags as they are written in the template: releases of
/// nft print them in two ways.
fn in_one_spelling(words: &[&str]) -> String {
    let mut kept: Vec<&str> = Vec::with_capacity(words.len());
    let mut rest = words;
    while let [word, after @ ..] = rest {
        kept.push(word);
        rest = match (*word, after) {
            ("counter", ["packets", _, "bytes", _, after @ ..]) => after,
            _ => after,
        };
    }
    kept.join(" ")
        .replace(
            "tcp flags syn / fin,syn,rst,ack",
            "tcp flags & (fin | syn | rst | ack) == syn",
        )
        .replace("tcp flags psh / syn,psh", "tcp flags & (syn | psh) == psh")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::nft;
    use crate::settings::rules::Rules;

    fn rules() -> Rules {
        PartialRules {
            ports: Some(Ports::new([25, 465, 587])),
            via: Some(Via::Both),
            group: Some(7),
            prefix: Some("spam: ".parse().unwrap()),
            at: None,
            answers: None,
        }
        .resolve(At::Prerouting)
    }

    #[test]
    fn counters_order_of_elements_and_spaces_are_no_difference() {
        let wanted = nft(&rules());
        let installed = wanted
            .replace("{ 25, 465, 587 }", "{ 587, 25,\n\t\t\t     465 }")
            .replace("counter seen {", "counter seen {\n\t\tpackets 7 bytes 8")
            .replace(
                "tcp flags & (fin | syn | rst | ack) == syn",
                "tcp flags syn / fin,syn,rst,ack",
            );
        assert_ne!(wanted, installed);
        assert_eq!(difference(&wanted, &installed), []);
    }

    #[test]
    fn each_difference_is_named() {
        let wanted = nft(&rules());
        let cases = [
            (
                "{ 25, 465, 587 }",
                "{ 25, 465 }",
                vec![
                    "missing in set watched_ports: elements = { 25, 465, 587 }",
                    "not ours in set watched_ports: elements = { 25, 465 }",
                ],
            ),
            (
                "counter name \"seen\"\n",
                "counter name \"seen\"\ntcp dport 25 drop\n",
                vec!["not ours in chain record: tcp dport 25 drop"],
            ),
            (
                "chain own {",
                "chain other {",
                vec!["missing: chain own", "not ours: chain other"],
            ),
            (
                "counter logged {",
                "flags dormant\ncounter logged {",
                vec!["not ours in table: flags dormant"],
            ),
        ];
        for (from, to, expected) in cases {
            let found: Vec<String> = difference(&wanted, &wanted.replace(from, to))
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn an_order_that_changes_is_a_difference() {
        let wanted = "table inet smtpwatch {\nchain a {\nx\ny\n}\n}\n";
        let installed = "table inet smtpwatch {\nchain a {\ny\nx\n}\n}\n";
        assert_eq!(
            difference(wanted, installed)[0].to_string(),
            "in another order: chain a"
        );
    }

    #[test]
    fn what_rules_were_made_for_is_read_back() {
        for via in [Via::Nflog, Via::Log, Via::Both] {
            for at in [At::Prerouting, At::Forward] {
                let mut rules = Rules { via, at, ..rules() };
                if via == Via::Log {
                    // Nothing bears the group then.
                    rules.group = crate::settings::rules::GROUP;
                }
                for answers in [None, Some(26)] {
                    rules.answers = answers;
                    let found = read_listing(&nft(&rules));
                    assert_eq!(found.resolve(At::Forward), rules);
                }
            }
        }
    }

    #[test]
    fn elements_that_come_and_go_are_not_compared() {
        let set = |elements: &str| {
            format!(
                "table inet smtpwatch {{\nset q {{\ntype ether_addr\nflags timeout\n{elements}}}\n}}\n"
            )
        };
        assert_eq!(
            difference(
                &set(""),
                &set("elements = { 02:00:00:00:00:01 timeout 1h }\n")
            ),
            []
        );
    }
}
