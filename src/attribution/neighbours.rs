//! The neighbour table: which MAC answers for which address behind which interface, now and before.
//!
//! Entries change before the packets that follow from it are handed in, so that what is live meets the
//! entry that is there. The past is asked for records that are older than the last change alone.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use super::past::{MAX_PAST, Past, Then};
use crate::model::{Held, Interface, Mac, Neighbour, Timestamp};

/// How much later than a change the news of it may come, in microseconds: a packet of the new holder's
/// may bear a time that lies before it.
const NEWS: i64 = 200_000;

/// The entries that somebody answers for, of all interfaces.
#[derive(Clone, Debug)]
pub struct Neighbours {
    entries: HashMap<Place, Entry, FixedState>,
    /// How many addresses of each family a MAC answers for.
    stations: HashMap<(Interface, Mac), Answers, FixedState>,
    past: Past,
    /// When an entry changed last, less what news may take.
    settled: Timestamp,
    capacity: usize,
    refused: u64,
}

/// An address behind an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(pub(super) Interface, pub(super) IpAddr);

/// Who answers, and since when that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    mac: Mac,
    since: Timestamp,
}

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
struct Answers {
    v4: u32,
    v6: u32,
}

impl Answers {
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
            stations: HashMap::with_hasher(state.clone()),
            past: Past::new(MAX_PAST, state),
            settled: Timestamp::from_micros(i64::MIN),
            capacity,
            refused: 0,
        }
    }

    /// Takes a new or changed entry, of which is known at `now`; answers the MAC that was there before,
    /// where it is another one now. One for which there is no room is counted and left out.
    pub fn note(&mut self, neighbour: &Neighbour, now: Timestamp) -> Option<Option<Mac>> {
        let place = Place(neighbour.interface, neighbour.address);
        let mac = neighbour.mac.filter(|mac| mac.is_station());
        let entry = self.entries.get(&place).copied();
        let before = entry.map(|entry| entry.mac);
        if before == mac {
            return None;
        }
        if before.is_none() && self.entries.len() >= self.capacity {
            self.refused += 1;
            return None;
        }
        if let Some(Entry { mac, since }) = entry {
            self.leave(place, mac);
            self.past.note(place, mac, since, now);
        }
        self.settled = self.settled.max(now.plus_micros(-NEWS));
        if let Some(mac) = mac {
            self.entries.insert(place, Entry { mac, since: now });
            *self.stations.entry((place.0, mac)).or_default().of(place.1) += 1;
        }
        Some(before)
    }

    fn leave(&mut self, place: Place, mac: Mac) {
        self.entries.remove(&place);
        let station = (place.0, mac);
        if let Some(held) = self.stations.get_mut(&station) {
            *held.of(place.1) -= 1;
            if *held == Answers::default() {
                self.stations.remove(&station);
            }
        }
    }

    /// The MAC that answers for `address` behind `interface`.
    pub fn mac(&self, interface: Interface, address: IpAddr) -> Option<Mac> {
        let entry = self.entries.get(&Place(interface, address))?;
        Some(entry.mac)
    }

    /// Takes what is remembered of who answered before, by the time that inputs bear.
    pub fn note_past(&mut self, mut all: Vec<Held>) {
        all.retain(|held| held.mac.is_station() && held.from <= held.until);
        all.sort_by_key(|held| (held.from, held.until));
        for held in all {
            let place = Place(held.interface, held.address);
            self.past.note(place, held.mac, held.from, held.until);
        }
    }

    /// Whether nothing has changed since `time`, so that what is there now was there then.
    pub fn is_settled(&self, time: Timestamp) -> bool {
        time >= self.settled
    }

    /// Who answered for `address` behind `interface` at `time`.
    pub fn mac_at(&self, interface: Interface, address: IpAddr, time: Timestamp) -> Then {
        let place = Place(interface, address);
        let entry = self.entries.get(&place);
        match entry {
            Some(entry) if entry.since.plus_micros(-NEWS) <= time => Then::Known(entry.mac),
            None if self.is_settled(time) => Then::Unknown,
            _ => self.past.at(place, time, entry.map(|entry| entry.mac)),
        }
    }

    /// Whether `mac` answered for `address` behind `interface` about `time`, and somebody else may now.
    pub fn answered(
        &self,
        interface: Interface,
        address: IpAddr,
        mac: Mac,
        time: Timestamp,
    ) -> bool {
        let place = Place(interface, address);
        let (from, until) = (time.plus_micros(-NEWS), time.plus_micros(NEWS));
        self.past.held(place, mac, from, until)
    }

    /// Who answers at `now`, and who did before: what is to be remembered, in no order.
    pub fn held(&self, now: Timestamp) -> impl Iterator<Item = Held> + '_ {
        let present = self
            .entries
            .iter()
            .map(move |(&Place(interface, address), entry)| Held {
                interface,
                address,
                mac: entry.mac,
                from: entry.since,
                until: now.max(entry.since),
            });
        self.past.iter().chain(present)
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
            .map(|(&Place(interface, address), entry)| Neighbour {
                interface,
                address,
                mac: Some(entry.mac),
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

    /// Former holders that were forgotten for want of room.
    pub fn forgotten(&self) -> u64 {
        self.past.forgotten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1000);

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
        assert_eq!(table.note(&neighbour("10.0.0.1", Some(1)), NOW), Some(None));
        assert_eq!(table.note(&neighbour("10.0.0.1", Some(1)), NOW), None);
        assert!(table.has_ipv4(lan, mac(1)) && !table.has_ipv4(lan, mac(2)));
        assert_eq!(
            table.note(&neighbour("10.0.0.1", Some(2)), NOW),
            Some(Some(mac(1)))
        );
        assert!(!table.is_known(lan, mac(1)));
        assert_eq!(table.mac(lan, "10.0.0.1".parse().unwrap()), Some(mac(2)));
        assert_eq!(
            table.mac(Interface::new(b"lan1"), "10.0.0.1".parse().unwrap()),
            None
        );
        table.note(&neighbour("fe80::2", Some(2)), NOW);
        table.note(&neighbour("10.0.0.1", None), NOW);
        assert!(table.is_known(lan, mac(2)) && !table.has_ipv4(lan, mac(2)));
        table.note(&neighbour("fe80::2", None), NOW);
        assert!(table.is_empty() && !table.is_known(lan, mac(2)));
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let mut table = Neighbours::new(2, FixedState::with_seed(1));
        for last in 1..=5 {
            table.note(&neighbour(&format!("10.0.0.{last}"), Some(last)), NOW);
        }
        assert_eq!((table.len(), table.refused()), (2, 3));
        assert!(table.note(&neighbour("10.0.0.1", Some(9)), NOW).is_some());
        assert!(table.note(&neighbour("10.0.0.2", None), NOW).is_some());
        assert!(table.note(&neighbour("10.0.0.5", Some(5)), NOW).is_some());
        assert_eq!(table.iter().count(), 2);
    }

    #[test]
    fn group_addresses_answer_for_nobody() {
        let mut table = Neighbours::new(2, FixedState::with_seed(1));
        let mut entry = neighbour("10.0.0.1", None);
        entry.mac = Some(Mac([0xff; 6]));
        assert_eq!(table.note(&entry, NOW), None);
        assert!(table.is_empty());
    }

    #[test]
    fn a_record_of_before_a_change_belongs_to_the_former_holder() {
        let lan = Interface::new(b"lan0");
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        let at = Timestamp::from_seconds;
        let mut table = Neighbours::new(8, FixedState::with_seed(1));
        table.note(&neighbour("10.0.0.1", Some(1)), at(100));
        table.note(&neighbour("10.0.0.1", Some(2)), at(200));
        assert_eq!(table.mac_at(lan, address, at(150)), Then::Known(mac(1)));
        assert_eq!(table.mac_at(lan, address, at(200)), Then::Known(mac(2)));
        // News of a change may come after the first packets that follow from it.
        let just_before = at(200).plus_micros(-NEWS / 2);
        assert_eq!(table.mac_at(lan, address, just_before), Then::Known(mac(2)));
        assert!(table.is_settled(just_before) && !table.is_settled(at(199)));
        assert!(table.answered(lan, address, mac(1), at(150)));
        assert!(!table.answered(lan, address, mac(2), at(150)));
        table.note(&neighbour("10.0.0.1", None), at(300));
        assert_eq!(table.mac_at(lan, address, at(250)), Then::Known(mac(2)));
        assert_eq!(table.mac_at(lan, address, at(400)), Then::Unknown);
    }

    #[test]
    fn what_was_remembered_comes_back() {
        let lan = Interface::new(b"lan0");
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        let at = Timestamp::from_seconds;
        let mut before = Neighbours::new(8, FixedState::with_seed(1));
        before.note(&neighbour("10.0.0.1", Some(1)), at(100));
        before.note(&neighbour("10.0.0.1", Some(2)), at(200));
        let held: Vec<Held> = before.held(at(300)).collect();
        assert_eq!(held.len(), 2);
        let mut table = Neighbours::new(8, FixedState::with_seed(2));
        table.note(&neighbour("10.0.0.1", Some(3)), at(500));
        table.note_past(held);
        for (time, expected) in [
            (150, Then::Known(mac(1))),
            (299, Then::Known(mac(2))),
            (400, Then::Unknown),
            (500, Then::Known(mac(3))),
        ] {
            assert_eq!(table.mac_at(lan, address, at(time)), expected, "{time}");
        }
    }
}
