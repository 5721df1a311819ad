//! Which device is behind a packet, or why its source is not believed.
//!
//! Offline there is no telling whether an address was on-link, so a device is its address, unless a
//! lease names its MAC for the time of the attempt. A lease that was not valid then gives a name to
//! show and no more: to gather evidence under it could accuse the address's next holder.
//!
//! Live the topology and the neighbour table are known, as they are when the packet is handed in; of a
//! record that is older than the table's last change, as they were at its time.
//! Then the frame's MAC is the device where the address is on-link, unless the neighbour table (or
//! a valid lease, where the table is silent) names another for it; behind a router it is the address
//! or the /64; where there is no link layer, the address on its interface. A frame whose MAC and
//! address do not go together is evidence against nobody. Routers are those of the routing table or
//! declared ones: that many addresses come with one MAC is not taken for a sign.

use std::net::IpAddr;

use foldhash::quality::FixedState;
use hashbrown::{HashMap, HashSet};
use ipnet::Ipv6Net;

use super::leases::{Basis, Holder, LeaseBook};
use super::names::ReverseNames;
use super::neighbours::Neighbours;
use super::past::Then;
use super::territory::{Reach, Segment, Territory};
use crate::model::{
    DeviceBasis, DeviceKey, Direction, Held, Interface, Mac, Neighbour, Observation, Spoof,
    Timestamp, Topology,
};
use crate::settings::{Router, Settings};

/// Neighbour entries that are kept: sixty-four times what the kernel keeps by default.
const MAX_NEIGHBOURS: usize = 65_536;

/// The device behind an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// By what it is told from others.
    pub key: DeviceKey,
    /// Its MAC as a lease has it, or as its frames bear it where they are known to be its own; always
    /// a station's.
    pub mac: Option<Mac>,
    /// Whether its address's lease may give it its name; of a station the lease itself says so.
    pub is_named_by_lease: bool,
    /// On what grounds.
    pub basis: DeviceBasis,
}

impl Identity {
    /// Whether frames bear the device's own MAC.
    pub fn has_own_frames(&self) -> bool {
        !matches!(self.basis, DeviceBasis::Router(_))
    }
}

/// From where a packet came, as far as its holder is asked by it.
#[derive(Clone, Copy, Debug)]
struct Sender {
    interface: Interface,
    address: IpAddr,
    /// When, in the time that inputs bear.
    seen: Timestamp,
}

impl Sender {
    fn of(observation: &Observation) -> Self {
        Self {
            interface: observation.interface,
            address: observation.tuple.source,
            seen: observation.time,
        }
    }
}

/// Who sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This device.
    Device(Identity),
    /// Nobody knows: the source is forged.
    Spoofed(Spoof),
}

/// All that is known about who is who.
#[derive(Clone, Debug)]
pub struct Who {
    leases: LeaseBook,
    hosts: HashMap<IpAddr, String, FixedState>,
    reverse: ReverseNames,
    neighbours: Neighbours,
    territory: Option<Territory>,
    /// What the territory is made of, beside the settings.
    topology: Option<Topology>,
    declared: Vec<Router>,
    /// MACs of routers, with the interface that they are behind.
    routers: HashSet<(Interface, Mac), FixedState>,
    names_version: u32,
    state: FixedState,
}

impl Who {
    /// Knows `leases` and the routers that `settings` declare. `state` hashes its tables.
    pub fn new(leases: LeaseBook, settings: &Settings, state: &FixedState) -> Self {
        Self {
            leases,
            hosts: HashMap::with_hasher(state.clone()),
            reverse: ReverseNames::new(state.clone()),
            neighbours: Neighbours::new(MAX_NEIGHBOURS, state.clone()),
            territory: None,
            topology: None,
            declared: settings.routers.clone(),
            routers: HashSet::with_hasher(state.clone()),
            names_version: 0,
            state: state.clone(),
        }
    }

    /// Takes the machine's place in the network, in the stead of what was known of it.
    pub fn set_topology(&mut self, topology: &Topology, settings: &Settings) {
        self.territory = Some(Territory::new(topology, settings, &self.state));
        self.topology = Some(topology.clone());
        self.find_routers();
    }

    /// Takes other settings: the inside networks and routers that they declare.
    pub fn set_settings(&mut self, settings: &Settings) {
        self.declared.clone_from(&settings.routers);
        if let Some(topology) = self.topology.take() {
            self.set_topology(&topology, settings);
        }
    }

    /// Takes a new or changed entry of the neighbour table, of which is known at `now`, a time that
    /// inputs bear.
    pub fn note_neighbour(&mut self, neighbour: &Neighbour, now: Timestamp) {
        let Some(before) = self.neighbours.note(neighbour, now) else {
            return;
        };
        let Neighbour {
            interface, address, ..
        } = *neighbour;
        if before.is_some() {
            // Its name may be its next holder's no more than its MAC.
            self.reverse.forget(address);
        }
        let is_next_hop = self
            .territory
            .as_ref()
            .is_some_and(|territory| territory.is_next_hop(interface, address));
        if is_next_hop || self.declared.contains(&Router::Address(address)) {
            self.find_routers();
        }
    }

    /// Takes what is remembered of who answered before, by the time that inputs bear.
    pub fn note_past(&mut self, held: Vec<Held>) {
        self.neighbours.note_past(held);
    }

    /// Takes what reverse DNS calls `address`; answers the name where it is fit for one.
    pub fn note_reverse(&mut self, address: IpAddr, name: Option<&str>) -> Option<&str> {
        self.reverse.note(address, name)
    }

    /// Takes all leases, in the stead of those that were known.
    pub fn set_leases(&mut self, leases: LeaseBook) {
        self.leases = leases;
        self.names_version = self.names_version.wrapping_add(1);
    }

    /// Takes the names that are configured by hand, in the stead of those that were known; of several
    /// names of an address the first.
    pub fn set_hosts(&mut self, hosts: Vec<(IpAddr, String)>) {
        self.hosts.clear();
        for (address, name) in hosts {
            self.hosts.entry(address).or_insert(name);
        }
        self.names_version = self.names_version.wrapping_add(1);
    }

    /// Whether the machine's place in the network is known.
    pub fn is_live(&self) -> bool {
        self.territory.is_some()
    }

    /// The machine's place in the network, where it is known.
    pub fn territory(&self) -> Option<&Territory> {
        self.territory.as_ref()
    }

    /// The neighbour table.
    pub fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    /// The leases.
    pub fn leases(&self) -> &LeaseBook {
        &self.leases
    }

    /// Changes whenever a device may have got another name.
    pub fn names_version(&self) -> u32 {
        self.names_version
    }

    /// Whether `mac` is a router's behind `interface`.
    pub fn is_router(&self, interface: Interface, mac: Mac) -> bool {
        self.routers.contains(&(interface, mac)) || self.declared.contains(&Router::Mac(mac))
    }

    /// Where an attempt goes, seen from the LAN.
    pub fn direction(&self, observation: &Observation, settings: &Settings) -> Direction {
        match &self.territory {
            Some(territory) => territory.direction(&observation.tuple, observation.interface),
            None => settings.direction(&observation.tuple),
        }
    }

    /// Who sent a packet at `time`, in the time of day. Where the record names no interface it came in
    /// by the one that its source is behind.
    pub fn origin(&self, observation: &Observation, time: Timestamp) -> Origin {
        let address = observation.tuple.source;
        let observation = &self.with_interface(observation);
        // What bears the machine's own address is counted as its own, and never scores.
        let segment = self
            .territory
            .as_ref()
            .filter(|territory| !territory.is_own(address))
            .and_then(|territory| placed(territory, observation));
        let Some(segment) = segment else {
            return Origin::Device(self.by_lease(address, time));
        };
        if segment.has_link_layer {
            self.of_frame(segment, observation, time)
        } else {
            self.of_interface(segment, Sender::of(observation), time)
        }
    }

    /// The device that has the inside address `address`, as a packet without a MAC would be counted:
    /// `seen` is the time that inputs bear, `time` the same moment in the time of day. None where the
    /// address is not inside or the machine's own, or where what is known of it contradicts itself.
    pub fn holder(
        &self,
        address: IpAddr,
        seen: Timestamp,
        time: Timestamp,
        settings: &Settings,
    ) -> Option<DeviceKey> {
        let (lan, is_own) = match &self.territory {
            Some(territory) => (territory.lan(), territory.is_own(address)),
            None => (&settings.lan, settings.gateway.contains(&address)),
        };
        if is_own || !lan.contains(address) {
            return None;
        }
        let segment = self.territory.as_ref().and_then(|territory| {
            let interface = territory.place(address)?;
            let segment = territory.segment(interface).filter(|it| it.is_placed)?;
            Some((interface, segment))
        });
        let Some((interface, segment)) = segment else {
            return Some(self.by_lease(address, time).key);
        };
        let sender = Sender {
            interface,
            address,
            seen,
        };
        let origin = if segment.has_link_layer {
            self.without_mac(segment, sender, time)
        } else {
            self.of_interface(segment, sender, time)
        };
        match origin {
            Origin::Device(identity) => Some(identity.key),
            Origin::Spoofed(_) => None,
        }
    }

    /// What connection tracking tells names no interface.
    fn with_interface(&self, observation: &Observation) -> Observation {
        let mut observation = *observation;
        if observation.interface.is_empty()
            && let Some(territory) = &self.territory
            && let Some(place) = territory.place(observation.tuple.source)
        {
            observation.interface = place;
        }
        observation
    }

    /// What else is known of the device with `identity`, which sent from `address` at `time`, in the
    /// time of day: on what grounds it is named, and its name (its lease's, else the one configured by
    /// hand, else that of another lease of its MAC, else what reverse DNS said).
    ///
    /// To be asked where a device is new, has another address, or names have changed.
    pub fn details(
        &self,
        identity: &Identity,
        address: IpAddr,
        time: Timestamp,
    ) -> (DeviceBasis, Option<&str>) {
        let mut lease = self.leases.at(address, time);
        let mut basis = identity.basis;
        if let DeviceKey::Station(_, mac) = identity.key {
            lease = lease.filter(|lease| lease.basis == Basis::Valid);
            let agrees = lease.is_some_and(|lease| lease.mac == Some(mac));
            if agrees && basis == DeviceBasis::Neighbour {
                basis = DeviceBasis::NeighbourAndLease;
            }
            lease = lease.filter(|_| agrees || address.is_ipv6());
        } else {
            lease = lease.filter(|_| identity.is_named_by_lease);
        }
        let name = lease
            .and_then(|lease| lease.hostname)
            .or_else(|| self.host(address))
            .or_else(|| {
                let mac = identity.mac.filter(|_| self.is_live())?;
                self.leases.name_of(mac)
            })
            .or_else(|| self.reverse.get(address));
        (basis, name)
    }

    /// All names that are configured by hand, in no order.
    pub fn hosts(&self) -> impl Iterator<Item = (IpAddr, &str)> {
        let hosts = self.hosts.iter();
        hosts.map(|(address, name)| (*address, name.as_str()))
    }

    /// The name configured by hand for `address`.
    pub fn host(&self, address: IpAddr) -> Option<&str> {
        self.hosts.get(&address).map(String::as_str)
    }

    /// Offline, or on an interface that tells nothing.
    fn by_lease(&self, address: IpAddr, time: Timestamp) -> Identity {
        let by_address = Identity {
            key: DeviceKey::Address(address),
            mac: None,
            is_named_by_lease: false,
            basis: DeviceBasis::Address,
        };
        let Some(holder) = self.leases.at(address, time) else {
            return by_address;
        };
        let mac = holder.mac.filter(|mac| mac.is_station());
        let is_valid = holder.basis == Basis::Valid;
        Identity {
            key: match mac {
                Some(mac) if is_valid => DeviceKey::Mac(mac),
                _ => by_address.key,
            },
            mac,
            is_named_by_lease: true,
            basis: if is_valid {
                DeviceBasis::Lease
            } else {
                DeviceBasis::LeaseNotValidThen
            },
        }
    }

    /// By an interface without a link layer.
    fn of_interface(&self, segment: &Segment, sender: Sender, time: Timestamp) -> Origin {
        let Sender {
            interface, address, ..
        } = sender;
        if segment.reach(address).is_none() && segment.is_closed(address) {
            return Origin::Spoofed(Spoof::OffLink);
        }
        Origin::Device(Identity {
            key: DeviceKey::Host(interface, address),
            mac: None,
            is_named_by_lease: self.valid_lease(address, time).is_some(),
            basis: DeviceBasis::Interface,
        })
    }

    /// By an interface whose frames bear MACs.
    fn of_frame(&self, segment: &Segment, observation: &Observation, time: Timestamp) -> Origin {
        let address = observation.tuple.source;
        let interface = observation.interface;
        let reach = segment.reach(address);
        let sender = Sender::of(observation);
        let Some(mac) = observation.mac else {
            return self.without_mac(segment, sender, time);
        };
        if reach == Some(&Reach::OnLink) {
            return self.station(sender, mac, time);
        }
        let is_behind = self.is_router(interface, mac)
            || match reach {
                Some(Reach::Via(hops)) => self.may_be_one_of(hops, interface, mac),
                _ => false,
            };
        if is_behind {
            Origin::Device(self.behind(address, mac, time))
        } else if segment.is_closed(address) {
            Origin::Spoofed(Spoof::OffLink)
        } else {
            Origin::Device(self.by_lease(address, time))
        }
    }

    /// Whether `mac` may be a router's whose neighbour entry is not there yet: a station's known for
    /// something else it is not.
    fn may_be_one_of(&self, hops: &[IpAddr], interface: Interface, mac: Mac) -> bool {
        hops.iter()
            .any(|&hop| self.neighbours.mac(interface, hop).is_none())
            && !self.neighbours.is_known(interface, mac)
    }

    /// With an address that is on-link.
    fn station(&self, sender: Sender, mac: Mac, time: Timestamp) -> Origin {
        let Sender {
            interface,
            address,
            seen,
        } = sender;
        let of = |basis| {
            Origin::Device(Identity {
                key: DeviceKey::Station(interface, mac),
                mac: Some(mac),
                is_named_by_lease: false,
                basis,
            })
        };
        let neighbour = self.neighbours.mac(interface, address);
        if neighbour == Some(mac) {
            // What a lease has to say to it is asked less often: see `details`.
            return of(DeviceBasis::Neighbour);
        }
        let is_old = !self.neighbours.is_settled(seen);
        if is_old && self.neighbours.answered(interface, address, mac, seen) {
            return of(DeviceBasis::Neighbour);
        }
        let neighbour = if is_old {
            match self.neighbours.mac_at(interface, address, seen) {
                Then::Known(then) => Some(then),
                Then::Assumed(_) | Then::Unknown => None,
            }
        } else {
            neighbour
        };
        let lease_mac = self
            .valid_lease(address, time)
            .and_then(|lease| lease.mac.filter(|mac| mac.is_station()));
        match neighbour {
            _ if lease_mac == Some(mac) => of(DeviceBasis::Lease),
            // A station on-link that uses this router for its own.
            _ if self.is_router(interface, mac) => Origin::Device(Identity {
                key: DeviceKey::Address(address),
                ..self.behind(address, mac, time)
            }),
            Some(_) => Origin::Spoofed(Spoof::OtherMac),
            // Nobody remembers that time: the frame is all there is.
            None if is_old => of(DeviceBasis::Frame),
            // The DUID of a DHCPv6 client often bears the MAC of another interface of the same machine.
            None if lease_mac.is_some() && address.is_ipv4() => Origin::Spoofed(Spoof::OtherMac),
            // Who sends IPv4 has asked for the gateway's MAC, or is answered and asked for his. With
            // IPv6 a router advertisement spares the asking, and new addresses come every day.
            None if address.is_ipv4() && self.neighbours.has_ipv4(interface, mac) => {
                Origin::Spoofed(Spoof::NobodysAddress)
            }
            None => of(DeviceBasis::Frame),
        }
    }

    /// Where the record has no MAC although the frame had one: nothing can be compared.
    fn without_mac(&self, segment: &Segment, sender: Sender, time: Timestamp) -> Origin {
        let Sender {
            interface,
            address,
            seen,
        } = sender;
        match segment.reach(address) {
            None if segment.is_closed(address) => Origin::Spoofed(Spoof::OffLink),
            None => Origin::Device(self.by_lease(address, time)),
            Some(Reach::Via(hops)) => {
                let router = hops
                    .iter()
                    .find_map(|&hop| self.neighbours.mac(interface, hop));
                Origin::Device(match router {
                    Some(mac) => self.behind(address, mac, time),
                    None => self.by_lease(address, time),
                })
            }
            Some(Reach::OnLink) => {
                let then = self.neighbours.mac_at(interface, address, seen);
                if let Then::Known(mac) = then {
                    return self.station(sender, mac, time);
                }
                let lease = self.valid_lease(address, time);
                let lease_mac = lease.and_then(|lease| lease.mac);
                match lease_mac.filter(|mac| mac.is_station()).or(then.mac()) {
                    Some(mac) => self.station(sender, mac, time),
                    None => Origin::Device(self.by_lease(address, time)),
                }
            }
        }
    }

    /// Behind the router with `mac`.
    fn behind(&self, address: IpAddr, mac: Mac, time: Timestamp) -> Identity {
        let basis = DeviceBasis::Router(mac);
        if let IpAddr::V6(v6) = address {
            return Identity {
                key: DeviceKey::Prefix(Ipv6Net::new_assert(v6, 64).trunc()),
                mac: None,
                is_named_by_lease: false,
                basis,
            };
        }
        // A relay agent lets the server know the client's own MAC.
        let lease = self.valid_lease(address, time);
        Identity {
            key: DeviceKey::Address(address),
            mac: lease
                .and_then(|lease| lease.mac)
                .filter(|mac| mac.is_station()),
            is_named_by_lease: lease.is_some(),
            basis,
        }
    }

    fn valid_lease(&self, address: IpAddr, time: Timestamp) -> Option<Holder<'_>> {
        self.leases
            .at(address, time)
            .filter(|holder| holder.basis == Basis::Valid)
    }

    fn find_routers(&mut self) {
        self.routers.clear();
        let Some(territory) = &self.territory else {
            return;
        };
        let neighbours = &self.neighbours;
        let mac_of = |(interface, address)| {
            let mac = neighbours.mac(interface, address)?;
            Some((interface, mac))
        };
        self.routers
            .extend(territory.next_hops().filter_map(mac_of));
        for router in &self.declared {
            if let Router::Address(address) = *router {
                let everywhere = territory.interfaces().map(|it| (it, address));
                self.routers.extend(everywhere.filter_map(mac_of));
            }
        }
    }
}

/// What is behind the interface that a packet came in by, where that tells anything. A frame with a
/// VLAN tag belongs to another interface than the one on which it was captured.
fn placed<'a>(territory: &'a Territory, observation: &Observation) -> Option<&'a Segment> {
    if observation.vlan.is_some() {
        return None;
    }
    territory
        .segment(observation.interface)
        .filter(|segment| segment.is_placed)
}

#[cfg(test)]
mod tests;
