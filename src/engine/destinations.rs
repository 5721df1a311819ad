//! How often a device tried each destination, exactly, as long as there is room.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foldhash::quality::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::model::Group;

/// Attempts by destination; IPv4 apart, at a third of the size.
#[derive(Debug)]
pub struct Destinations {
    v4: HashMap<u32, u32, FixedState>,
    v6: HashMap<u128, u32, FixedState>,
}

impl Destinations {
    /// None yet; `state` hashes them.
    pub fn new(state: FixedState) -> Self {
        Self {
            v4: HashMap::with_hasher(state.clone()),
            v6: HashMap::with_hasher(state),
        }
    }

    /// Counts that many attempts; answers whether `destination` is new here. One that is new is not
    /// kept where `has_room` is false.
    pub fn note(&mut self, destination: IpAddr, attempts: u32, has_room: bool) -> bool {
        match destination {
            IpAddr::V4(v4) => note(&mut self.v4, u32::from(v4), attempts, has_room),
            IpAddr::V6(v6) => note(&mut self.v6, u128::from(v6), attempts, has_room),
        }
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Distinct addresses kept.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    fn iter(&self) -> impl Iterator<Item = (IpAddr, u64)> {
        let v4 = self.v4.iter();
        let v6 = self.v6.iter();
        v4.map(|(&a, &n)| (IpAddr::V4(Ipv4Addr::from(a)), u64::from(n)))
            .chain(v6.map(|(&a, &n)| (IpAddr::V6(Ipv6Addr::from(a)), u64::from(n))))
    }

    /// The `count` destinations tried most often, and how often; those tried equally often in the
    /// order of their addresses.
    pub fn top(&self, count: usize) -> Vec<(IpAddr, u64)> {
        // The worst of those kept so far is on top.
        let mut kept: BinaryHeap<(Reverse<u64>, IpAddr)> = BinaryHeap::new();
        for (address, attempts) in self.iter() {
            let entry = (Reverse(attempts), address);
            if kept.len() < count {
                kept.push(entry);
            } else if kept.peek().is_some_and(|worst| entry < *worst) {
                kept.pop();
                kept.push(entry);
            }
        }
        let sorted = kept.into_sorted_vec().into_iter();
        sorted
            .map(|(Reverse(attempts), address)| (address, attempts))
            .collect()
    }

    /// Distinct groups (/24, /48) of the addresses kept.
    pub fn groups(&self) -> usize {
        // Only IPv4 addresses in the one map, so the upper bits tell groups as well, and sort faster.
        let mut v4: Vec<u32> = self.v4.keys().map(|address| address >> 8).collect();
        let mut v6: Vec<Group> = self
            .v6
            .keys()
            .map(|&a| Group::of(Ipv6Addr::from(a).into()))
            .collect();
        v4.sort_unstable();
        v4.dedup();
        v6.sort_unstable();
        v6.dedup();
        v4.len() + v6.len()
    }
}

fn note<K: std::hash::Hash + Eq>(
    counts: &mut HashMap<K, u32, FixedState>,
    destination: K,
    attempts: u32,
    has_room: bool,
) -> bool {
    match counts.entry(destination) {
        Entry::Occupied(mut known) => {
            *known.get_mut() = known.get().saturating_add(attempts);
            return false;
        }
        Entry::Vacant(new) if has_room => {
            new.insert(attempts);
        }
        Entry::Vacant(_) => {}
    }
    true
}
