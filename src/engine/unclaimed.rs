//! Addresses that neither the LAN nor the gateway claims: where they outnumber the LAN's, the LAN
//! was given wrongly, and the answer is not to be trusted.

use std::collections::BTreeMap;
use std::net::IpAddr;

use foldhash::quality::FixedState;
use hashbrown::HashSet;
use ipnet::IpNet;

use crate::model::{Direction, Networks, Tuple};

/// Networks worth proposing as the LAN.
const MAX_PROPOSED: usize = 4;

/// Sources and destinations of attempts with neither end inside, and sources with one.
#[derive(Debug)]
pub struct Unclaimed {
    inside: HashSet<IpAddr, FixedState>,
    sources: HashSet<IpAddr, FixedState>,
    destinations: HashSet<IpAddr, FixedState>,
    limit: usize,
}

/// What the admin should have said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Distinct sources that are in the LAN.
    pub inside: usize,
    /// Distinct sources that are not, and whose destination is not either.
    pub outside: usize,
    /// Networks that hold most of those: `--lan`.
    pub lan: Vec<IpNet>,
    /// Addresses that all of them went to, where these are few: `--gateway`.
    pub gateway: Vec<IpAddr>,
}

impl Unclaimed {
    pub(super) fn new(limit: usize, state: &FixedState) -> Self {
        let set = || HashSet::with_hasher(state.clone());
        Self {
            inside: set(),
            sources: set(),
            destinations: set(),
            limit,
        }
    }

    pub(super) fn note(&mut self, direction: Direction, tuple: &Tuple) {
        match direction {
            Direction::Outbound | Direction::Internal => {
                insert(&mut self.inside, tuple.source, self.limit);
            }
            Direction::External => {
                insert(&mut self.sources, tuple.source, self.limit);
                insert(&mut self.destinations, tuple.destination, self.limit);
            }
            Direction::Inbound | Direction::Gateway => {}
        }
    }

    /// What to say where the unclaimed sources outnumber the LAN's.
    pub fn advice(&self) -> Option<Advice> {
        if self.sources.len() <= self.inside.len() {
            return None;
        }
        // Many sources to a few destinations are the Internet's mail to a server here.
        let private = Networks::private();
        let are_public = self
            .sources
            .iter()
            .filter(|a| !private.contains(**a))
            .count()
            * 2
            > self.sources.len();
        let is_inbound = are_public && self.destinations.len() * 4 <= self.sources.len();
        let mut gateway: Vec<IpAddr> = Vec::new();
        if is_inbound {
            gateway.extend(&self.destinations);
            gateway.sort_unstable();
            gateway.truncate(MAX_PROPOSED);
        }
        Some(Advice {
            inside: self.inside.len(),
            outside: self.sources.len(),
            lan: if is_inbound {
                Vec::new()
            } else {
                self.networks()
            },
            gateway,
        })
    }

    /// The networks (/24, /64) with the most sources.
    fn networks(&self) -> Vec<IpNet> {
        let mut counts: BTreeMap<IpNet, usize> = BTreeMap::new();
        for &source in &self.sources {
            let length = if source.is_ipv4() { 24 } else { 64 };
            if let Ok(network) = IpNet::new(source, length) {
                *counts.entry(network.trunc()).or_default() += 1;
            }
        }
        let mut networks: Vec<(IpNet, usize)> = counts.into_iter().collect();
        networks.sort_unstable_by_key(|&(network, count)| (std::cmp::Reverse(count), network));
        networks.truncate(MAX_PROPOSED);
        IpNet::aggregate(
            &networks
                .into_iter()
                .map(|(network, _)| network)
                .collect::<Vec<_>>(),
        )
    }
}

fn insert(set: &mut HashSet<IpAddr, FixedState>, address: IpAddr, limit: usize) {
    if set.len() < limit {
        set.insert(address);
    }
}
