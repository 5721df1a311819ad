//! What the machine's place in the network says: which addresses are inside, which belong behind an
//! interface, and who the routers there are.
//!
//! Inside is what the machine serves: the networks on-link on, and routed by, the interfaces that
//! carry no default route, each family by itself (an interface may have learnt an IPv6 default route
//! from its LAN). Nothing is inside for being private: behind a provider's or a building's NAT the
//! outside is private, too. Where no interface carries a default route, or only one has addresses,
//! the routes do not tell inside from outside: then the private ranges are inside, and the networks
//! that are on-link. The same holds for what is seen on an interface without an address of its own,
//! which is a mirror port, or a part of a bridge.

use std::net::IpAddr;

use foldhash::quality::FixedState;
use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;

use crate::model::{Direction, Interface, Networks, Topology, Tuple};
use crate::settings::Settings;

/// Next hops that are kept for one destination.
const MAX_NEXT_HOPS: usize = 16;

/// A topology, made ready to be asked for every packet.
#[derive(Clone, Debug)]
pub struct Territory {
    lan: Networks,
    /// The LAN where the routes do not tell it.
    wide: Networks,
    own: HashSet<IpAddr, FixedState>,
    segments: HashMap<Interface, Segment, FixedState>,
    /// The interface that each network is behind; none where it is behind several.
    places: Prefixes<Option<Interface>>,
    next_hops: HashSet<(Interface, IpAddr), FixedState>,
}

/// What is behind one interface.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Whether its frames bear MACs.
    pub has_link_layer: bool,
    /// Whether it has a network of its own, beyond link-local ones: else it tells nothing.
    pub is_placed: bool,
    v4: Family,
    v6: Family,
}

/// What is behind it of one family.
#[derive(Clone, Debug)]
struct Family {
    /// Whether sources that are not behind the interface are forged.
    is_closed: bool,
    networks: Prefixes<Reach>,
}

/// Networks, and something about each.
#[derive(Clone, Debug)]
struct Prefixes<T> {
    /// The lengths of the networks, the longest first.
    lengths: Vec<u8>,
    networks: HashMap<IpNet, T, FixedState>,
}

/// How an address behind an interface is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Without a router.
    OnLink,
    /// By one of these routers.
    Via(Vec<IpAddr>),
}

impl Territory {
    /// What `topology` and the user's settings say.
    pub fn new(topology: &Topology, settings: &Settings, state: &FixedState) -> Self {
        let defaults = Defaults::of(topology);
        let own: HashSet<IpAddr, FixedState> = collect(
            state,
            settings
                .gateway
                .iter()
                .copied()
                .chain(topology.addresses.iter().map(|own| own.address.addr())),
        );
        let on_link = topology
            .addresses
            .iter()
            .map(|own| own.address.trunc())
            .filter(|network| !is_default(network));
        let wide = Networks::new(
            Networks::private()
                .as_slice()
                .iter()
                .copied()
                .chain(loopback())
                .chain(on_link),
        );
        let lan = if settings.lan_is_given {
            settings.lan.clone()
        } else if defaults.tell_nothing {
            wide.clone()
        } else {
            Networks::new(
                inside(topology, &defaults)
                    .chain(link_local())
                    .chain(loopback()),
            )
        };
        let segments: HashMap<Interface, Segment, FixedState> = topology
            .links
            .iter()
            .map(|link| {
                let family = |is_v4| Family::new(topology, link.interface, is_v4, &defaults, state);
                let (v4, v6) = (family(true), family(false));
                let segment = Segment {
                    has_link_layer: link.has_link_layer,
                    is_placed: !(v4.networks.is_empty() && v6.networks.is_empty()),
                    v4,
                    v6,
                };
                (link.interface, segment)
            })
            .fold(
                HashMap::with_hasher(state.clone()),
                |mut all, (name, segment)| {
                    all.insert(name, segment);
                    all
                },
            );
        let wide = if settings.lan_is_given {
            settings.lan.clone()
        } else {
            wide
        };
        Self {
            lan,
            wide,
            own,
            places: places(&segments, state),
            segments,
            next_hops: collect(
                state,
                topology
                    .routes
                    .iter()
                    .filter_map(|route| Some((route.interface, route.via?))),
            ),
        }
    }

    /// Where an attempt that came in by `interface` goes, seen from the LAN.
    pub fn direction(&self, tuple: &Tuple, interface: Interface) -> Direction {
        let lan = match self.segments.get(&interface) {
            Some(segment) if segment.is_placed => &self.lan,
            _ if interface.is_empty() => &self.lan,
            _ => &self.wide,
        };
        let is_inside = |address| lan.contains(address) || self.own.contains(&address);
        match (is_inside(tuple.source), is_inside(tuple.destination)) {
            _ if self.is_own(tuple.source) => Direction::Gateway,
            (true, true) => Direction::Internal,
            (true, false) => Direction::Outbound,
            (false, true) => Direction::Inbound,
            (false, false) => Direction::External,
        }
    }

    /// The inside networks.
    pub fn lan(&self) -> &Networks {
        &self.lan
    }

    /// Whether `address` is the machine's own.
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }

    /// What is behind `interface`; none where it is not up.
    pub fn segment(&self, interface: Interface) -> Option<&Segment> {
        self.segments.get(&interface)
    }

    /// The interface that `address` is behind, by the longest prefix, for records that name none; none
    /// where it is behind several, or behind none but by a default route.
    pub fn place(&self, address: IpAddr) -> Option<Interface> {
        self.places.longest(address).copied()?
    }

    /// Whether the routing table names `address` behind `interface` as a router.
    pub fn is_next_hop(&self, interface: Interface, address: IpAddr) -> bool {
        self.next_hops.contains(&(interface, address))
    }

    /// The routers that the routing table names, with their interfaces, in no order.
    pub fn next_hops(&self) -> impl Iterator<Item = (Interface, IpAddr)> + '_ {
        self.next_hops.iter().copied()
    }

    /// The interfaces that are up, in no order.
    pub fn interfaces(&self) -> impl Iterator<Item = Interface> + '_ {
        self.segments.keys().copied()
    }
}

impl Segment {
    /// How `address` is reached behind this interface, by the longest prefix; none where it is not,
    /// but by a default route.
    pub fn reach(&self, address: IpAddr) -> Option<&Reach> {
        if self.has_link_layer && is_link_local(address) {
            return Some(&Reach::OnLink);
        }
        self.family(address).networks.longest(address)
    }

    /// Whether a source that is not behind this interface is forged. It is not told of the interface
    /// to the Internet, nor where no interface is known to lead there and this one may.
    pub fn is_closed(&self, address: IpAddr) -> bool {
        self.family(address).is_closed
    }

    fn family(&self, address: IpAddr) -> &Family {
        if address.is_ipv4() {
            &self.v4
        } else {
            &self.v6
        }
    }
}

impl Family {
    fn new(
        topology: &Topology,
        interface: Interface,
        is_v4: bool,
        defaults: &Defaults,
        state: &FixedState,
    ) -> Self {
        let mut networks: HashMap<IpNet, Reach, FixedState> = HashMap::with_hasher(state.clone());
        let is_ours = |network: &IpNet| {
            network.addr().is_ipv4() == is_v4
                && !is_default(network)
                && !is_link_local(network.addr())
        };
        for own in &topology.addresses {
            let network = own.address.trunc();
            if own.interface == interface && is_ours(&network) {
                networks.insert(network, Reach::OnLink);
            }
        }
        for route in &topology.routes {
            let network = route.destination.trunc();
            if route.interface != interface || !is_ours(&network) {
                continue;
            }
            let reach = networks
                .entry(network)
                .or_insert_with(|| Reach::Via(Vec::new()));
            match (route.via, &mut *reach) {
                (None, _) => *reach = Reach::OnLink,
                (Some(via), Reach::Via(hops)) if hops.len() < MAX_NEXT_HOPS => hops.push(via),
                _ => {}
            }
        }
        let private = Networks::private();
        let is_private = || {
            networks
                .iter()
                .filter(|(_, reach)| **reach == Reach::OnLink)
                .all(|(network, _)| private.contains(network.addr()))
        };
        Self {
            is_closed: !defaults.carries(interface, is_v4)
                && (!defaults.tell_nothing || is_private()),
            networks: Prefixes::new(networks),
        }
    }
}

impl<T> Prefixes<T> {
    fn new(networks: HashMap<IpNet, T, FixedState>) -> Self {
        let mut lengths: Vec<u8> = networks.keys().map(IpNet::prefix_len).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        Self { lengths, networks }
    }

    fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// What is said about the longest of those that hold `address`.
    fn longest(&self, address: IpAddr) -> Option<&T> {
        self.lengths.iter().find_map(|&length| {
            let network = IpNet::new(address, length).ok()?.trunc();
            self.networks.get(&network)
        })
    }
}

/// Where each network is.
fn places(
    segments: &HashMap<Interface, Segment, FixedState>,
    state: &FixedState,
) -> Prefixes<Option<Interface>> {
    let mut places: HashMap<IpNet, Option<Interface>, FixedState> =
        HashMap::with_hasher(state.clone());
    for (&interface, segment) in segments {
        for family in [&segment.v4, &segment.v6] {
            for &network in family.networks.networks.keys() {
                places
                    .entry(network)
                    .and_modify(|place| *place = None)
                    .or_insert(Some(interface));
            }
        }
    }
    Prefixes::new(places)
}

/// Which interfaces lead to the Internet.
struct Defaults {
    v4: Vec<Interface>,
    v6: Vec<Interface>,
    /// Whether they do not tell inside from outside.
    tell_nothing: bool,
}

impl Defaults {
    fn of(topology: &Topology) -> Self {
        let of_family = |is_v4| -> Vec<Interface> {
            let mut all: Vec<Interface> = topology
                .routes
                .iter()
                .filter(|route| is_default(&route.destination))
                .filter(|route| route.destination.addr().is_ipv4() == is_v4)
                .map(|route| route.interface)
                .collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let (v4, v6) = (of_family(true), of_family(false));
        let mut with_addresses: Vec<Interface> = topology
            .addresses
            .iter()
            .filter(|own| !is_link_local(own.address.addr()) && !own.address.addr().is_loopback())
            .map(|own| own.interface)
            .collect();
        with_addresses.sort_unstable();
        with_addresses.dedup();
        Self {
            tell_nothing: (v4.is_empty() && v6.is_empty()) || with_addresses.len() < 2,
            v4,
            v6,
        }
    }

    /// Whether `interface` carries a default route of the family; of the other one where that has
    /// none anywhere.
    fn carries(&self, interface: Interface, is_v4: bool) -> bool {
        let (own, other) = if is_v4 {
            (&self.v4, &self.v6)
        } else {
            (&self.v6, &self.v4)
        };
        let deciding = if own.is_empty() { other } else { own };
        deciding.contains(&interface)
    }
}

/// The networks on-link on or routed by the interfaces that lead not to the Internet.
fn inside<'a>(topology: &'a Topology, defaults: &'a Defaults) -> impl Iterator<Item = IpNet> + 'a {
    let own = topology
        .addresses
        .iter()
        .map(|own| (own.interface, own.address.trunc()));
    let routed = topology
        .routes
        .iter()
        .map(|route| (route.interface, route.destination.trunc()));
    own.chain(routed)
        .filter(|(interface, network)| {
            !is_default(network) && !defaults.carries(*interface, network.addr().is_ipv4())
        })
        .map(|(_, network)| network)
}

/// Whether a route is a default route, also one of the halves that VPNs lay over it, or `2000::/3`.
fn is_default(network: &IpNet) -> bool {
    match network {
        IpNet::V4(net) => net.prefix_len() <= 1,
        IpNet::V6(net) => net.prefix_len() <= 3,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn link_local() -> impl Iterator<Item = IpNet> {
    let private = Networks::private();
    let all: Vec<IpNet> = private
        .as_slice()
        .iter()
        .copied()
        .filter(|network| is_link_local(network.addr()))
        .collect();
    all.into_iter()
}

fn loopback() -> impl Iterator<Item = IpNet> {
    [
        IpNet::new_assert([127, 0, 0, 0].into(), 8),
        IpNet::new_assert([0, 0, 0, 0, 0, 0, 0, 1].into(), 128),
    ]
    .into_iter()
}

fn collect<T: std::hash::Hash + Eq>(
    state: &FixedState,
    items: impl Iterator<Item = T>,
) -> HashSet<T, FixedState> {
    let mut set = HashSet::with_hasher(state.clone());
    set.extend(items);
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Link, LocalAddress, Route};

    fn interface(name: &str) -> Interface {
        Interface::new(name.as_bytes())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Addresses as `interface address/length`, routes as `destination interface [next hop]`.
    fn topology(addresses: &[&str], routes: &[&str]) -> Topology {
        let mut topology = Topology::default();
        for address in addresses {
            let (name, network) = address.split_once(' ').unwrap();
            let link = Link {
                interface: interface(name),
                has_link_layer: !name.starts_with("ppp"),
            };
            if !topology.links.contains(&link) {
                topology.links.push(link);
            }
            topology.addresses.push(LocalAddress {
                interface: interface(name),
                address: network.parse().unwrap(),
            });
        }
        for route in routes {
            let parts: Vec<&str> = route.split(' ').collect();
            topology.routes.push(Route {
                destination: parts[0].parse().unwrap(),
                interface: interface(parts[1]),
                via: parts.get(2).map(|via| ip(via)),
            });
        }
        topology
    }

    fn territory(topology: &Topology, settings: &Settings) -> Territory {
        Territory::new(topology, settings, &FixedState::with_seed(3))
    }

    /// The direction of a packet from `source` to `destination` that came in by `name`.
    fn direction(territory: &Territory, name: &str, source: &str, destination: &str) -> Direction {
        let tuple = Tuple {
            source: ip(source),
            destination: ip(destination),
            source_port: 1,
            destination_port: 25,
        };
        territory.direction(&tuple, interface(name))
    }

    #[test]
    fn inside_is_what_the_machine_serves() {
        use Direction::{External, Gateway, Inbound, Internal, Outbound};
        let topology = topology(
            &[
                "lo 127.0.0.1/8",
                "lan0 192.168.1.1/24",
                "lan0 198.51.100.1/28",
                "lan0 2001:db8:1::1/64",
                "lan0 2001:db8:2::1/64",
                "lan0 fd00:1::1/64",
                "wan0 10.0.0.5/24",
                "wan0 2001:db8:ff::5/64",
                "ppp0 172.20.0.1/32",
            ],
            &[
                "0.0.0.0/0 wan0 10.0.0.1",
                "::/0 wan0 fe80::1",
                "10.20.0.0/16 lan0 192.168.1.2",
                "172.20.0.2/32 ppp0",
            ],
        );
        let territory = territory(&topology, &Settings::default());
        for (source, destination, expected) in [
            ("192.168.1.10", "203.0.113.9", Outbound),
            ("198.51.100.3", "203.0.113.9", Outbound),
            ("10.20.5.5", "203.0.113.9", Outbound),
            ("172.20.0.2", "203.0.113.9", Outbound),
            ("2001:db8:1::7", "2001:db8:77::1", Outbound),
            ("2001:db8:2::7", "2001:db8:77::1", Outbound),
            ("fd00:1::7", "2001:db8:77::1", Outbound),
            ("fe80::7", "2001:db8:77::1", Outbound),
            // Behind the provider's NAT is outside, private or not.
            ("192.168.1.10", "10.0.0.1", Outbound),
            ("192.168.1.10", "192.168.2.1", Outbound),
            ("10.0.0.1", "192.168.1.10", Inbound),
            ("203.0.113.9", "2001:db8:1::7", Inbound),
            ("192.168.1.10", "10.20.5.5", Internal),
            ("192.168.1.10", "192.168.1.1", Internal),
            ("192.168.1.10", "10.0.0.5", Internal),
            ("10.0.0.5", "203.0.113.9", Gateway),
            ("127.0.0.1", "127.0.0.1", Gateway),
            ("8.8.8.8", "203.0.113.9", External),
        ] {
            assert_eq!(
                direction(&territory, "lan0", source, destination),
                expected,
                "{source} -> {destination}"
            );
        }
        // What a mirror port shows is not this machine's to know.
        assert_eq!(
            direction(&territory, "mirror0", "192.168.7.7", "203.0.113.9"),
            Outbound
        );
    }

    #[test]
    fn where_routes_do_not_tell_the_private_ranges_are_inside() {
        use Direction::{External, Outbound};
        for (addresses, routes) in [
            (
                &["eth0 203.0.113.66/28"][..],
                &["0.0.0.0/0 eth0 203.0.113.65"][..],
            ),
            (&["eth0 203.0.113.66/28", "eth1 10.5.0.1/24"], &[]),
        ] {
            let territory = territory(&topology(addresses, routes), &Settings::default());
            let of = |source| direction(&territory, "eth0", source, "8.8.8.8");
            assert_eq!(of("192.168.7.7"), Outbound);
            assert_eq!(of("203.0.113.70"), Outbound);
            assert_eq!(of("203.0.113.99"), External);
        }
    }

    #[test]
    fn a_lan_that_is_given_is_the_lan() {
        let settings = Settings {
            lan: Networks::new(["198.51.100.0/24".parse().unwrap()]),
            lan_is_given: true,
            ..Settings::default()
        };
        let topology = topology(
            &["lan0 192.168.1.1/24", "wan0 10.0.0.5/24"],
            &["0.0.0.0/0 wan0 10.0.0.1"],
        );
        let territory = territory(&topology, &settings);
        let of = |source| direction(&territory, "lan0", source, "8.8.8.8");
        assert_eq!(of("198.51.100.7"), Direction::Outbound);
        assert_eq!(of("192.168.1.7"), Direction::External);
    }

    #[test]
    fn a_default_route_of_one_family_says_nothing_of_the_other() {
        // Learnt from a router advertisement in the LAN; the Internet is behind wan0.
        let topology = topology(
            &[
                "lan0 192.168.1.1/24",
                "lan0 2001:db8:1::1/64",
                "wan0 203.0.113.5/24",
            ],
            &["0.0.0.0/0 wan0 203.0.113.1", "::/0 lan0 fe80::1"],
        );
        let territory = territory(&topology, &Settings::default());
        assert!(territory.lan().contains(ip("192.168.1.7")));
        assert!(!territory.lan().contains(ip("203.0.113.7")));
        let lan = territory.segment(interface("lan0")).unwrap();
        assert!(lan.is_closed(ip("8.8.8.8")) && !lan.is_closed(ip("2001:db8:9::1")));
    }

    #[test]
    fn halves_of_a_default_route_are_one() {
        let topology = topology(
            &[
                "lan0 192.168.1.1/24",
                "wan0 203.0.113.5/24",
                "tun0 10.8.0.2/24",
            ],
            &[
                "0.0.0.0/0 wan0 203.0.113.1",
                "0.0.0.0/1 tun0 10.8.0.1",
                "128.0.0.0/1 tun0 10.8.0.1",
            ],
        );
        let territory = territory(&topology, &Settings::default());
        assert!(territory.lan().contains(ip("192.168.1.7")));
        assert!(
            !territory.lan().contains(ip("10.8.0.7")) && !territory.lan().contains(ip("9.9.9.9"))
        );
    }

    #[test]
    fn the_longest_prefix_tells_how_an_address_is_reached() {
        let topology = topology(
            &["lan0 10.0.0.1/8", "wan0 203.0.113.5/24"],
            &[
                "0.0.0.0/0 wan0 203.0.113.1",
                "10.20.0.0/16 lan0 10.0.0.2",
                "10.20.0.0/16 lan0 10.0.0.3",
                "10.20.30.0/24 lan0",
            ],
        );
        let territory = territory(&topology, &Settings::default());
        let lan = territory.segment(interface("lan0")).unwrap();
        assert_eq!(lan.reach(ip("10.1.1.1")), Some(&Reach::OnLink));
        assert_eq!(
            lan.reach(ip("10.20.1.1")),
            Some(&Reach::Via(vec![ip("10.0.0.2"), ip("10.0.0.3")]))
        );
        assert_eq!(lan.reach(ip("10.20.30.1")), Some(&Reach::OnLink));
        assert_eq!(lan.reach(ip("169.254.7.7")), Some(&Reach::OnLink));
        assert_eq!(lan.reach(ip("11.0.0.1")), None);
        assert!(territory.is_next_hop(interface("lan0"), ip("10.0.0.3")));
        assert!(!territory.is_next_hop(interface("wan0"), ip("10.0.0.3")));
    }

    #[test]
    fn an_address_is_behind_the_interface_with_its_longest_prefix() {
        let topology = topology(
            &[
                "lan0 10.0.0.1/8",
                "lan0 2001:db8:1::1/64",
                "lan1 10.20.0.1/16",
                "lan2 192.168.1.1/24",
                "lan3 192.168.1.2/24",
                "wan0 203.0.113.5/24",
            ],
            &[
                "0.0.0.0/0 wan0 203.0.113.1",
                "172.16.0.0/16 lan1 10.20.0.9",
                "fe80::/64 lan0",
            ],
        );
        let territory = territory(&topology, &Settings::default());
        for (address, place) in [
            ("10.1.1.1", Some("lan0")),
            ("2001:db8:1::7", Some("lan0")),
            ("10.20.1.1", Some("lan1")),
            ("172.16.5.5", Some("lan1")),
            ("203.0.113.7", Some("wan0")),
            // Two have it, each has one, nobody has.
            ("192.168.1.7", None),
            ("fe80::7", None),
            ("8.8.8.8", None),
        ] {
            assert_eq!(
                territory.place(ip(address)),
                place.map(interface),
                "{address}"
            );
        }
    }
}
