//! How often a device tried each destination, exactly, as long as there is room.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foldhash::quality::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::model::Group;

/// Attempts by destination; IPv4 apart, at a third of the size.
#[derive(Debug)]
pub(super) struct Destinations {
    v4: HashMap<u32, u32, FixedState>,
    v6: HashMap<u128, u32, FixedState>,
}

impl Destinations {
    pub(super) fn new(state: FixedState) -> Self {
        Self {
            v4: HashMap::with_hasher(state.clone()),
            v6: HashMap::with_hasher(state),
        }
    }

    /// Counts an attempt; answers whether `destination` is new here. One that is new is not kept
    /// where `has_room` is false.
    pub(super) fn note(&mut self, destination: IpAddr, has_room: bool) -> bool {
        match destination {
            IpAddr::V4(v4) => note(&mut self.v4, u32::from(v4), has_room),
            IpAddr::V6(v6) => note(&mut self.v6, u128::from(v6), has_room),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (IpAddr, u64)> {
        let v4 = self.v4.iter();
        let v6 = self.v6.iter();
        v4.map(|(&a, &n)| (IpAddr::V4(Ipv4Addr::from(a)), u64::from(n)))
            .chain(v6.map(|(&a, &n)| (IpAddr::V6(Ipv6Addr::from(a)), u64::from(n))))
    }

    pub(super) fn groups(&self) -> usize {
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
    has_room: bool,
) -> bool {
    match counts.entry(destination) {
        Entry::Occupied(mut known) => {
            *known.get_mut() = known.get().saturating_add(1);
            return false;
        }
        Entry::Vacant(new) if has_room => {
            new.insert(1);
        }
        Entry::Vacant(_) => {}
    }
    true
}
