//! Whether this machine is a gateway: does it forward, where to, from where, and does it translate
//! addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{files, listed, saved_of};
use crate::model::{Interface, Topology};
use crate::netfilter::Survey;
use crate::ruleset::source_nat;
use crate::view::Check;

/// Interfaces whose own forwarding is looked at.
const MAX_INTERFACES: usize = 256;

/// What is known of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Whether IPv4 is forwarded; unknown where the setting cannot be read.
    forwards4: Option<bool>,
    /// The interfaces that forward IPv6.
    forwards6: Vec<String>,
    /// Interfaces by which a default route leaves.
    outside: Vec<String>,
    /// Interfaces with addresses, and without default routes.
    inside: Vec<String>,
    /// Whether an IPv4 network inside is a private one.
    has_private: bool,
    /// Chains that translate source addresses; unknown where the firewall cannot be read.
    nat: Option<Vec<String>>,
}

impl Facts {
    pub(super) fn gather(topology: &Topology, survey: &Survey) -> Self {
        let is_default = |interface: Interface| {
            let mut routes = topology.routes.iter();
            routes.any(|route| route.destination.prefix_len() == 0 && route.interface == interface)
        };
        let named = |interfaces: BTreeSet<Interface>| -> Vec<String> {
            interfaces.iter().map(Interface::name).collect()
        };
        let own = |interface: Interface| {
            let addresses = topology.addresses.iter();
            addresses.filter(move |own| own.interface == interface && !is_local(own.address.addr()))
        };
        let links = topology.links.iter().map(|link| link.interface);
        let placed: Vec<Interface> = links.filter(|link| own(*link).next().is_some()).collect();
        let inside: BTreeSet<Interface> = placed
            .iter()
            .copied()
            .filter(|it| !is_default(*it))
            .collect();
        let legacy = saved_of(survey, None);
        let nft = survey.nft.as_ref().ok();
        let can_read = nft.is_some() || !legacy.is_empty();
        Self {
            forwards4: files::is_on("net/ipv4/ip_forward"),
            forwards6: forwards6(topology),
            outside: named(
                topology
                    .routes
                    .iter()
                    .filter(|route| route.destination.prefix_len() == 0)
                    .map(|route| route.interface)
                    .collect(),
            ),
            has_private: inside
                .iter()
                .any(|it| own(*it).any(|own| is_private(own.address.addr()))),
            inside: named(inside),
            nat: can_read.then(|| source_nat(nft.unwrap_or(&serde_json::Value::Null), &legacy)),
        }
    }

    pub(super) fn judge(&self) -> Vec<Check> {
        vec![
            self.forwarding(),
            self.default_route(),
            self.inside_interfaces(),
            self.nat(),
        ]
    }

    fn forwarding(&self) -> Check {
        const ID: &str = "gateway.forwarding";
        let v6 = match self.forwards6.as_slice() {
            [] => "IPv6 is not".to_owned(),
            names => format!("IPv6 is on {}", listed(names)),
        };
        match self.forwards4 {
            Some(true) => Check::ok(ID, format!("IPv4 is forwarded, {v6}")),
            Some(false) if !self.forwards6.is_empty() => Check::warn(
                ID,
                format!("IPv4 is not forwarded, {v6}"),
                "where IPv4 should pass: sysctl -w net.ipv4.ip_forward=1, and the same line in /etc/sysctl.d/",
            ),
            Some(false) => Check::fail(
                ID,
                "this machine forwards nothing: no device's mail passes it",
                "run it on the gateway; here: sysctl -w net.ipv4.ip_forward=1; on a mirror port: smtpwatch watch --source capture:INTERFACE",
            ),
            None => Check::warn(
                ID,
                "/proc/sys/net/ipv4/ip_forward cannot be read",
                "look with: sysctl net.ipv4.ip_forward",
            ),
        }
    }

    fn default_route(&self) -> Check {
        const ID: &str = "gateway.route";
        match self.outside.as_slice() {
            [] => Check::warn(
                ID,
                "there is no default route: what is outside cannot be told from the routes",
                "look with: ip route show default; or name the inside: smtpwatch watch --lan CIDR",
            ),
            names => Check::ok(ID, format!("the way out is by {}", listed(names))),
        }
    }

    fn inside_interfaces(&self) -> Check {
        const ID: &str = "gateway.inside";
        match self.inside.as_slice() {
            [] => Check::warn(
                ID,
                "no interface with an address is inside (without a default route)",
                "look with: ip -br address; or name the inside: smtpwatch watch --lan CIDR",
            ),
            names => Check::ok(ID, format!("inside is behind {}", listed(names))),
        }
    }

    fn nat(&self) -> Check {
        const ID: &str = "gateway.nat";
        match &self.nat {
            None => Check::warn(
                ID,
                "whether addresses are translated is not known: the firewall cannot be read",
                "run it as root: sudo smtpwatch doctor",
            ),
            Some(chains) if !chains.is_empty() => Check::ok(
                ID,
                format!("source addresses are translated in {}", listed(chains)),
            ),
            Some(_) if self.has_private && !self.inside.is_empty() => Check::warn(
                ID,
                "addresses inside are private, and no rule translates them (masquerade, SNAT)",
                "where no router beyond does it: nft list ruleset | grep -e masquerade -e snat",
            ),
            Some(_) => Check::ok(ID, "no rule translates source addresses, and none has to"),
        }
    }
}

/// The interfaces that forward IPv6: each decides by itself.
fn forwards6(topology: &Topology) -> Vec<String> {
    let names = topology.links.iter().take(MAX_INTERFACES);
    names
        .map(|link| link.interface.name())
        // A name that is a path would lead elsewhere.
        .filter(|name| !name.contains('/') && !name.starts_with('.'))
        .filter(|name| files::is_on(&format!("net/ipv6/conf/{name}/forwarding")) == Some(true))
        .collect()
}

fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

fn is_private(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.is_private())
}

#[cfg(test)]
mod tests {
    use super::super::tests::status;
    use super::*;
    use crate::view::CheckStatus::{Fail, Ok, Warn};

    fn good() -> Facts {
        Facts {
            forwards4: Some(true),
            forwards6: vec!["lan0".to_owned()],
            outside: vec!["wan0".to_owned()],
            inside: vec!["lan0".to_owned()],
            has_private: true,
            nat: Some(vec!["ip nat POSTROUTING".to_owned()]),
        }
    }

    #[test]
    fn a_gateway_is_one() {
        let checks = good().judge();
        assert!(checks.iter().all(|check| check.status == Ok), "{checks:?}");
    }

    #[test]
    fn what_does_not_forward_is_none() {
        let of = |forwards4, forwards6: &[&str]| {
            let forwards6 = forwards6.iter().map(|it| (*it).to_owned()).collect();
            let facts = Facts {
                forwards4,
                forwards6,
                ..good()
            };
            status(&facts.judge(), "gateway.forwarding")
        };
        assert_eq!(of(Some(false), &[]), Fail);
        assert_eq!(of(Some(false), &["lan0"]), Warn);
        assert_eq!(of(None, &[]), Warn);
        assert_eq!(of(Some(true), &[]), Ok);
    }

    #[test]
    fn without_a_way_out_or_an_inside() {
        let facts = Facts {
            outside: Vec::new(),
            ..good()
        };
        assert_eq!(status(&facts.judge(), "gateway.route"), Warn);
        let facts = Facts {
            inside: Vec::new(),
            ..good()
        };
        assert_eq!(status(&facts.judge(), "gateway.inside"), Warn);
    }

    #[test]
    fn translation_is_missed_only_where_it_is_needed() {
        let of = |nat, has_private| {
            let facts = Facts {
                nat,
                has_private,
                ..good()
            };
            status(&facts.judge(), "gateway.nat")
        };
        assert_eq!(of(None, true), Warn);
        assert_eq!(of(Some(Vec::new()), true), Warn);
        assert_eq!(of(Some(Vec::new()), false), Ok);
    }
}
