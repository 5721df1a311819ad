//! What may take traffic past the hooks where it is looked at: flow offloads, bridges, XDP, second doors,
//! routes that depend on more than the destination.

use super::{files, listed, saved_of};
use crate::model::{Interface, Topology};
use crate::netfilter::Survey;
use crate::ruleset::{flowtables, offloads};
use crate::source::inventory::{LinkKind, Ways, survey as ways};
use crate::view::Check;

/// What is known of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Flowtables of nft, and chains of iptables that offload; unknown where it cannot be read.
    offloads: Option<Vec<String>>,
    /// Bridges by which a default route leaves, though they have ports: what crosses them is bridged.
    bridges_in_the_way: Vec<String>,
    /// Other bridges with ports.
    bridges: Vec<String>,
    /// Whether bridged frames are shown to the firewall.
    shows_bridged: bool,
    /// macvlan and ipvlan interfaces.
    doors: Vec<String>,
    /// Interfaces with an XDP program.
    xdp: Vec<String>,
    /// The interfaces of default routes, of each family.
    ways_out: [Vec<String>; 2],
    /// Rules of policy routing.
    policies: usize,
    /// Why interfaces cannot be asked for.
    trouble: Option<String>,
}

impl Facts {
    pub(super) fn gather(topology: &Topology, survey: &Survey) -> Self {
        let mut offloaded = survey.nft.as_ref().map(flowtables).unwrap_or_default();
        offloaded.extend(offloads(&saved_of(survey, None)));
        let (ways, trouble) = match ways() {
            Ok(ways) => (ways, None),
            Err(error) => (Ways::default(), Some(error.to_string())),
        };
        let out = |is_v4: bool| {
            let routes = topology.routes.iter();
            let mut interfaces: Vec<Interface> = routes
                .filter(|it| it.destination.prefix_len() == 0)
                .filter(|it| it.destination.addr().is_ipv4() == is_v4)
                .map(|it| it.interface)
                .collect();
            interfaces.sort_unstable();
            interfaces.dedup();
            interfaces
        };
        let names = |interfaces: Vec<Interface>| interfaces.iter().map(Interface::name).collect();
        let (v4, v6) = (out(true), out(false));
        let named = |is_it: &dyn Fn(&crate::source::inventory::SurveyedLink) -> bool| {
            let links = ways.links.iter().filter(|link| link.is_up && is_it(link));
            links.map(|link| link.interface.name()).collect::<Vec<_>>()
        };
        let is_way = |interface| v4.contains(&interface) || v6.contains(&interface);
        let is_bridge = |link: &crate::source::inventory::SurveyedLink| {
            let ports = ways
                .links
                .iter()
                .filter(|port| port.master == Some(link.index));
            link.kind == LinkKind::Bridge && ports.count() > 1
        };
        let is_shown = |family: &str| {
            files::is_on(&format!("net/bridge/bridge-nf-call-{family}")) == Some(true)
        };
        Self {
            offloads: survey.nft.is_ok().then_some(offloaded),
            bridges_in_the_way: named(&|link| is_bridge(link) && is_way(link.interface)),
            bridges: named(&|link| is_bridge(link) && !is_way(link.interface)),
            shows_bridged: is_shown("iptables") && is_shown("ip6tables"),
            doors: named(&|link| link.kind == LinkKind::Beside),
            xdp: named(&|link| link.has_xdp),
            policies: ways.policies,
            ways_out: [names(v4), names(v6)],
            trouble,
        }
    }

    pub(super) fn judge(&self) -> Vec<Check> {
        let mut checks = vec![self.flow_offloads()];
        if let Some(trouble) = &self.trouble {
            checks.push(Check::warn(
                "bypass.interfaces",
                format!("interfaces cannot be asked for: {trouble}"),
                "allow AF_NETLINK in the sandbox or container",
            ));
            return checks;
        }
        checks.extend([
            self.bridge(),
            self.xdp(),
            self.second_doors(),
            self.routes(),
        ]);
        checks
    }

    fn flow_offloads(&self) -> Check {
        const ID: &str = "bypass.offload";
        match self.offloads.as_deref() {
            None => Check::warn(
                ID,
                "whether connections are offloaded is not known: the firewall cannot be read",
                "run it as root: sudo smtpwatch doctor",
            ),
            Some([]) => Check::ok(ID, "no flowtable takes connections past the rules"),
            Some(tables) => Check::warn(
                ID,
                format!(
                    "established connections pass every rule by {}",
                    listed(tables)
                ),
                "attempts are still seen, a running one is not stopped; to see all: nft list flowtables, and take the flow add rule out",
            ),
        }
    }

    fn bridge(&self) -> Check {
        const ID: &str = "bypass.bridge";
        match (self.bridges_in_the_way.as_slice(), self.bridges.as_slice()) {
            ([_, ..], _) if self.shows_bridged => Check::ok(
                ID,
                "what is bridged is shown to the firewall (br_netfilter)",
            ),
            (bridges @ [_, ..], _) => Check::warn(
                ID,
                format!(
                    "what crosses {} is bridged, and no rule sees it",
                    listed(bridges)
                ),
                "modprobe br_netfilter && sysctl -w net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1; or smtpwatch watch --source capture:INTERFACE",
            ),
            ([], []) => Check::ok(ID, "nothing is bridged"),
            ([], bridges) => Check::ok(
                ID,
                format!(
                    "{} is inside: what leaves it is routed, and seen",
                    listed(bridges)
                ),
            ),
        }
    }

    fn xdp(&self) -> Check {
        const ID: &str = "bypass.xdp";
        match self.xdp.as_slice() {
            [] => Check::ok(ID, "no XDP program sees packets first"),
            names => Check::warn(
                ID,
                format!(
                    "an XDP program sees packets before the firewall on {}",
                    listed(names)
                ),
                "see what it redirects or drops: bpftool net show",
            ),
        }
    }

    fn second_doors(&self) -> Check {
        const ID: &str = "bypass.doors";
        match self.doors.as_slice() {
            [] => Check::ok(ID, "no macvlan or ipvlan"),
            names => Check::warn(
                ID,
                format!(
                    "machines beside {} may reach the wire without passing this firewall",
                    listed(names)
                ),
                "see whose they are: ip -d link show; their mail is seen only where it is routed here",
            ),
        }
    }

    fn routes(&self) -> Check {
        const ID: &str = "bypass.routes";
        let several: Vec<String> = self
            .ways_out
            .iter()
            .filter(|ways| ways.len() > 1)
            .map(|ways| ways.join(" and "))
            .collect();
        match (several.as_slice(), self.policies) {
            ([], 0) => Check::ok(ID, "one way out, for all"),
            ([], rules) => Check::warn(
                ID,
                format!(
                    "routes depend on {rules} rules of policy routing: inside and outside may be told wrongly"
                ),
                "look with: ip rule; ip route show table all; or name the inside: smtpwatch watch --lan CIDR",
            ),
            (several, _) => Check::warn(
                ID,
                format!("there are several ways out: {}", listed(several)),
                "attempts are seen by all of them; answers that come back another way are not: ip rule; ip route show table all",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::status;
    use super::*;
    use crate::view::CheckStatus::{Ok, Warn};

    fn of(id: &str, change: impl FnOnce(&mut Facts)) -> crate::view::CheckStatus {
        let mut facts = Facts {
            offloads: Some(Vec::new()),
            ..Facts::default()
        };
        change(&mut facts);
        status(&facts.judge(), id)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn flowtables_are_told() {
        let id = "bypass.offload";
        assert_eq!(of(id, |_| {}), Ok);
        assert_eq!(
            of(id, |it| it.offloads = Some(names(&["inet filter ft"]))),
            Warn
        );
        assert_eq!(of(id, |it| it.offloads = None), Warn);
    }

    #[test]
    fn a_bridge_matters_where_it_is_the_way_out() {
        let id = "bypass.bridge";
        assert_eq!(of(id, |_| {}), Ok);
        assert_eq!(of(id, |it| it.bridges = names(&["br0"])), Ok);
        assert_eq!(of(id, |it| it.bridges_in_the_way = names(&["br0"])), Warn);
        let shown = |it: &mut Facts| {
            it.bridges_in_the_way = names(&["br0"]);
            it.shows_bridged = true;
        };
        assert_eq!(of(id, shown), Ok);
    }

    #[test]
    fn xdp_second_doors_and_routes() {
        assert_eq!(of("bypass.xdp", |it| it.xdp = names(&["lan0"])), Warn);
        assert_eq!(of("bypass.xdp", |_| {}), Ok);
        assert_eq!(of("bypass.doors", |it| it.doors = names(&["mv0"])), Warn);
        assert_eq!(of("bypass.doors", |_| {}), Ok);
        let id = "bypass.routes";
        assert_eq!(of(id, |it| it.ways_out[0] = names(&["wan0"])), Ok);
        assert_eq!(of(id, |it| it.ways_out[0] = names(&["wan0", "wan1"])), Warn);
        assert_eq!(of(id, |it| it.policies = 2), Warn);
    }

    #[test]
    fn interfaces_that_cannot_be_asked_for() {
        let trouble = |it: &mut Facts| it.trouble = Some("no".to_owned());
        assert_eq!(of("bypass.interfaces", trouble), Warn);
    }
}
