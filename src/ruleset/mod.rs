//! Floor 2: the desired rules: the templates of `rules/` rendered from typed values, and what differs from them in what is installed.
//!
//! Nothing is loaded here, and no program asked: texts go in and come out.

mod earlier;
mod listing;
mod saved;
mod survey;
mod template;

pub use earlier::{Earlier, Place, earlier_in_nft, earlier_in_saved, flowtables, rules_on_group};
pub use listing::{Difference, DifferenceKind, difference, read_listing};
pub use saved::{Saved, SavedRule, SavedTable, difference_saved, read_saved};

pub use survey::{
    Manager, has_own_nft_rules, has_own_rules, held_back, managers, offloads, source_nat, tracking,
};

use crate::settings::rules::{At, Rules};
use template::{Values, render};

/// Name of our table in nftables, and its family before it: `nft list table` takes it so.
pub const TABLE: &str = "inet smtpwatch";
/// Name of our chain in iptables.
pub const CHAIN: &str = "SMTPWATCH";
/// What the comment begins with that remembers what our install had to make.
pub const MADE: &str = "smtpwatch: made ";

const NFT: &str = include_str!("../../rules/smtpwatch.nft");
const IPTABLES: &str = include_str!("../../rules/smtpwatch.iptables");
/// Ports of one multiport match (`XT_MULTI_PORTS`).
const MULTIPORT: usize = 15;

/// What `nft -f -` loads.
pub fn nft(rules: &Rules) -> String {
    let elements: Vec<String> = rules.ports.as_slice().iter().map(u16::to_string).collect();
    let values = common(rules)
        .with("elements", &elements.join(", "))
        .with_if("prerouting", rules.at == At::Prerouting)
        .with_if("forward", rules.at == At::Forward);
    render(NFT, &values)
}

/// What `iptables-restore --noflush` and `ip6tables-restore --noflush` load where nothing of ours is
/// there yet.
pub fn iptables(rules: &Rules) -> String {
    let jumps = jumps(rules.at).iter().map(insertion).collect();
    iptables_with(rules, &[], jumps)
}

/// The same, with `made` remembered, and `jumps` as the only lines about other chains (in
/// iptables-restore's syntax).
pub fn iptables_with(rules: &Rules, made: &[String], jumps: Vec<String>) -> String {
    let values = common(rules)
        .with("table", table(rules.at))
        .with_each("ports", port_matches(rules))
        .with_each("made", made.iter().map(|made| format!("{MADE}{made}")))
        .with_each("jump", jumps);
    render(IPTABLES, &values)
}

/// The rule that an admin would type, which takes nothing from this program but the prefix: as it was
/// always done.
pub fn classic(program: &str, rules: &Rules) -> Vec<String> {
    let target = if rules.via.has_log() {
        format!("LOG --log-prefix \"{}\"", rules.prefix)
    } else {
        format!(
            "NFLOG --nflog-group {} --nflog-prefix \"{}\"",
            rules.group, rules.prefix
        )
    };
    rules
        .ports
        .as_slice()
        .iter()
        .map(|port| {
            format!("{program} -I FORWARD -m state --state NEW -p tcp --dport {port} -j {target}")
        })
        .collect()
}

/// The iptables table that holds our chain.
pub fn table(at: At) -> &'static str {
    match at {
        At::Prerouting => "mangle",
        At::Forward => "filter",
    }
}

/// The jumps to our chain: the built-in chain, and the rule in it.
pub fn jumps(at: At) -> &'static [(&'static str, &'static str)] {
    match at {
        At::Prerouting => &[
            ("PREROUTING", "! -i lo -j SMTPWATCH"),
            ("OUTPUT", "! -o lo -j SMTPWATCH"),
        ],
        At::Forward => &[("FORWARD", "-j SMTPWATCH")],
    }
}

/// The line that puts a jump first in its chain.
pub fn insertion((chain, rule): &(&str, &str)) -> String {
    format!("-I {chain} 1 {rule}")
}

fn common(rules: &Rules) -> Values<'_> {
    Values::new()
        .with("prefix", &rules.prefix)
        .with("group", &rules.group)
        .with_if("nflog", rules.via.has_nflog())
        .with_if("log", rules.via.has_log())
}

/// Matches of pure SYNs to the ports, in the words in which iptables-save prints them.
fn port_matches(rules: &Rules) -> Vec<String> {
    const SYN: &str = "--tcp-flags FIN,SYN,RST,ACK SYN";
    rules
        .ports
        .as_slice()
        .chunks(MULTIPORT)
        .map(|ports| match ports {
            [port] => format!("-m tcp --dport {port} {SYN}"),
            ports => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                format!("-m tcp {SYN} -m multiport --dports {}", ports.join(","))
            }
        })
        .collect()
}
