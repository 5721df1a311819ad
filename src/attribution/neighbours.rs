//! The neighbour table: which MAC answers for which address behind which interface, now.
//!
//! No past is kept: entries change before the packets that follow from it are handed in.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use crate::model::{Interface, Mac, Neighbour};

/// The entries that somebody answers for, of all interfaces.
#[derive(Clone, Debug)]
pub struct Neighbours {
    entries: HashMap<Place, Mac, FixedState>,
    /// How many addresses of each family a MAC answers for.
    stations: HashMap<(Interface, Mac), Held, FixedState>,
    capacity: usize,
    refused: u64,
}

/// An address behind an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(Interface, IpAddr);

/// Of as few words as there are.
impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
        match self.1 {
            IpAddr::V4(v4) => state.write_u32(v4.into()),
            IpAddr::V6(v6) => state.write_u128(v6.into()),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    v4: u32,
    v6: u32,
}

impl Held {
    fn of(&mut self, address: IpAddr) -> &mut u32 {
        if address.is_ipv4() {
            &mut self.v4
        } else {
            &mut self.v6
        }
    }
}

impl Neighbours {
    /// An empty table that keeps at most `capacity` entries.
    pub fn new(capacity: usize, state: FixedState) -> Self {
        Self {
            entries: HashMap::with_hasher(state.clone()),
            stations: HashMap::with_hasher(state),
            capacity,
            refused: 0,
        }
    }

    /// Takes a new or changed entry; answers the MAC that was there before, where it is another one
    /// now. One for which there is no room is counted and left out.
    pub fn note(&mut self, neighbour: &Neighbour) -> Option<Option<Mac>> {
        let place = Place(neighbour.interface, neighbour.address);
        let mac = neighbour.mac.filter(|mac| mac.is_station());
        let before = self.entries.get(&place).copied();
        if before == mac {
            return None;
        }
        if before.is_none() && self.entries.len() >= self.capacity {
            self.refused += 1;
            return None;
        }
        if let Some(before) = before {
            self.leave(place, before);
        }
        if let Some(mac) = mac {
            self.entries.insert(place, mac);
            *self.stations.entry((place.0, mac)).or_default().of(place.1) += 1;
        }
        Some(before)
    }

    fn leave(&mut self, place: Place, mac: Mac) {
        self.entries.remove(&place);
        let station = (place.0, mac);
        if let Some(held) = self.stations.get_mut(&station) {
            *held.of(place.1) -= 1;
            if *held == Held::default() {
                self.stations.remove(&station);
            }
        }
    }

    /// The MAC that answers for `address` behind `interface`.
    pub fn mac(&self, interface: Interface, address: IpAddr) -> Option<Mac> {
        self.entries.get(&Place(interface, address)).copied()
    }

    /// Whether `mac` answers for any address behind `interface`.
    pub fn is_known(&self, interface: Interface, mac: Mac) -> bool {
        self.stations.contains_key(&(interface, mac))
    }

    /// Whether `mac` answers for an IPv4 address behind `interface`.
    pub fn has_ipv4(&self, interface: Interface, mac: Mac) -> bool {
        self.stations
            .get(&(interface, mac))
            .is_some_and(|held| held.v4 > 0)
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Neighbour> + '_ {
        self.entries
            .iter()
            .map(|(&Place(interface, address), &mac)| Neighbour {
                interface,
                address,
                mac: Some(mac),
            })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries for which there was no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbour(address: &str, last: Option<u8>) -> Neighbour {
        Neighbour {
            interface: Interface::new(b"lan0"),
            address: address.parse().unwrap(),
            mac: last.map(mac),
        }
    }

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    #[test]
    fn entries_change_and_go() {
        let lan = Interface::new(b"lan0");
        let mut table = Neighbours::new(8, FixedState::with_seed(1));
        assert_eq!(table.note(&neighbour("10.0.0.1", Some(1))), Some(None));
        assert_eq!(table.note(&neighbour("10.0.0.1", Some(1))), None);
        assert!(table.has_ipv4(lan, mac(1)) && !table.has_ipv4(lan, mac(2)));
        assert_eq!(
            table.note(&neighbour("10.0.0.1", Some(2))),
            Some(Some(mac(1)))
        );
        assert!(!table.is_known(lan, mac(1)));
        assert_eq!(table.mac(lan, "10.0.0.1".parse().unwrap()), Some(mac(2)));
        assert_eq!(
            table.mac(Interface::new(b"lan1"), "10.0.0.1".parse().unwrap()),
            None
        );
        table.note(&neighbour("fe80::2", Some(2)));
        table.note(&neighbour("10.0.0.1", None));
        assert!(table.is_known(lan, mac(2)) && !table.has_ipv4(lan, mac(2)));
        table.note(&neighbour("fe80::2", None));
        assert!(table.is_empty() && !table.is_known(lan, mac(2)));
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let mut table = Neighbours::new(2, FixedState::with_seed(1));
        for last in 1..=5 {
            table.note(&neighbour(&format!("10.0.0.{last}"), Some(last)));
        }
        assert_eq!((table.len(), table.refused()), (2, 3));
        assert!(table.note(&neighbour("10.0.0.1", Some(9))).is_some());
        assert!(table.note(&neighbour("10.0.0.2", None)).is_some());
        assert!(table.note(&neighbour("10.0.0.5", Some(5))).is_some());
        assert_eq!(table.iter().count(), 2);
    }

    #[test]
    fn group_addresses_answer_for_nobody() {
        let mut table = Neighbours::new(2, FixedState::with_seed(1));
        let mut entry = neighbour("10.0.0.1", None);
        entry.mac = Some(Mac([0xff; 6]));
        assert_eq!(table.note(&entry), None);
        assert!(table.is_empty());
    }
}
