//! Who answered for an address before: the former holders of neighbour entries, so that a record
//! whose time lies before a change is given to whoever held the address then.
//!
//! Bounded for each address and in all; what lies furthest back is forgotten first, and counted. It
//! decides nothing about the present.

use std::collections::VecDeque;

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use super::neighbours::Place;
use crate::model::{Held, Mac, Timestamp};

/// Former holders that are kept of an address.
const MAX_OF_ADDRESS: usize = 8;
/// Former holders that are kept in all.
pub(super) const MAX_PAST: usize = 16_384;

/// A former holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tenure {
    mac: Mac,
    from: Timestamp,
    /// The first moment at which it is not known to hold the address any more.
    until: Timestamp,
}

/// Who answered at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// This one: it is known of the time itself.
    Known(Mac),
    /// This one, as far as anybody can tell: nothing is known of that time or before.
    Assumed(Mac),
    /// Nobody, or it cannot be told who of two.
    Unknown,
}

impl Then {
    /// Who it was, known or assumed.
    pub fn mac(self) -> Option<Mac> {
        match self {
            Self::Known(mac) | Self::Assumed(mac) => Some(mac),
            Self::Unknown => None,
        }
    }
}

/// The former holders of all addresses.
#[derive(Clone, Debug)]
pub(super) struct Past {
    /// Those of an address, the earliest first.
    places: HashMap<Place, Vec<Tenure>, FixedState>,
    /// An address for each tenure, in the order in which they came.
    order: VecDeque<Place>,
    capacity: usize,
    forgotten: u64,
}

impl Past {
    pub(super) fn new(capacity: usize, state: FixedState) -> Self {
        Self {
            places: HashMap::with_hasher(state),
            order: VecDeque::new(),
            capacity,
            forgotten: 0,
        }
    }

    /// Notes that `mac` held `place`.
    pub(super) fn note(&mut self, place: Place, mac: Mac, from: Timestamp, until: Timestamp) {
        let tenures = self.places.entry(place).or_default();
        let at = tenures.partition_point(|tenure| tenure.from <= from);
        // Who comes back was never replaced.
        if let Some(before) = at.checked_sub(1).and_then(|before| tenures.get_mut(before))
            && before.mac == mac
        {
            before.until = before.until.max(until);
            return;
        }
        tenures.insert(at, Tenure { mac, from, until });
        if tenures.len() > MAX_OF_ADDRESS {
            // Its place in the order goes to the one that came.
            tenures.remove(0);
            self.forgotten += 1;
            return;
        }
        self.order.push_back(place);
        if self.order.len() > self.capacity {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(place) = self.order.pop_front() else {
            return;
        };
        let Some(tenures) = self.places.get_mut(&place) else {
            return;
        };
        tenures.remove(0);
        self.forgotten += 1;
        if tenures.is_empty() {
            self.places.remove(&place);
        }
    }

    /// Who held `place` at `time`, before `now` (an entry, and since when it is there) did.
    pub(super) fn at(&self, place: Place, time: Timestamp, now: Option<Mac>) -> Then {
        let tenures = self.places.get(&place).map_or(&[][..], Vec::as_slice);
        let next = tenures.partition_point(|tenure| tenure.from <= time);
        let after = tenures.get(next).map(|tenure| tenure.mac).or(now);
        match (next.checked_sub(1).map(|before| tenures[before]), after) {
            (Some(before), _) if time < before.until => Then::Known(before.mac),
            (Some(before), Some(after)) if before.mac == after => Then::Known(after),
            (Some(_), _) | (None, None) => Then::Unknown,
            (None, Some(after)) => Then::Assumed(after),
        }
    }

    /// Whether `mac` held `place` at some moment between `from` and `until`.
    pub(super) fn held(&self, place: Place, mac: Mac, from: Timestamp, until: Timestamp) -> bool {
        self.places.get(&place).is_some_and(|tenures| {
            let overlaps = |it: &Tenure| it.from <= until && it.until >= from;
            tenures.iter().any(|it| it.mac == mac && overlaps(it))
        })
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Held> + '_ {
        self.places
            .iter()
            .flat_map(|(&Place(interface, address), tenures)| {
                tenures.iter().map(move |tenure| Held {
                    interface,
                    address,
                    mac: tenure.mac,
                    from: tenure.from,
                    until: tenure.until,
                })
            })
    }

    /// Former holders that were forgotten for want of room.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Interface;

    fn place(number: u32) -> Place {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + number);
        Place(Interface::new(b"lan0"), address.into())
    }

    fn mac(last: u8) -> Mac {
        Mac([0, 0x16, 0x3e, 0, 0, last])
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn past(capacity: usize) -> Past {
        Past::new(capacity, FixedState::with_seed(1))
    }

    #[test]
    fn each_time_has_its_holder_and_a_gap_between_two_has_none() {
        let mut past = past(99);
        past.note(place(1), mac(1), at(10), at(20));
        past.note(place(1), mac(2), at(30), at(40));
        for (time, now, expected) in [
            (5, Some(mac(3)), Then::Assumed(mac(1))),
            (10, Some(mac(3)), Then::Known(mac(1))),
            (19, None, Then::Known(mac(1))),
            (25, Some(mac(3)), Then::Unknown),
            (30, None, Then::Known(mac(2))),
            (45, Some(mac(3)), Then::Unknown),
            (45, Some(mac(2)), Then::Known(mac(2))),
            (45, None, Then::Unknown),
        ] {
            assert_eq!(past.at(place(1), at(time), now), expected, "{time}");
        }
        assert_eq!(
            past.at(place(2), at(5), Some(mac(9))),
            Then::Assumed(mac(9))
        );
        assert_eq!(past.at(place(2), at(5), None), Then::Unknown);
    }

    #[test]
    fn whoever_comes_and_goes_is_kept_once() {
        let mut past = past(99);
        for round in 0..1000 {
            past.note(place(1), mac(1), at(round * 10), at(round * 10 + 5));
        }
        assert_eq!(past.iter().count(), 1);
        assert_eq!(past.forgotten(), 0);
        assert_eq!(past.at(place(1), at(5007), None), Then::Known(mac(1)));
    }

    #[test]
    fn both_limits_hold_and_what_is_forgotten_is_counted() {
        let mut past = past(100);
        for round in 0..20_u8 {
            let from = i64::from(round) * 10;
            past.note(place(0), mac(round), at(from), at(from + 10));
        }
        assert_eq!(past.iter().count(), MAX_OF_ADDRESS);
        assert_eq!(past.at(place(0), at(195), None), Then::Known(mac(19)));
        for number in 1..=200 {
            past.note(place(number), mac(1), at(0), at(10));
        }
        assert_eq!(past.iter().count(), 100);
        assert_eq!(past.order.len(), 100);
        assert_eq!(past.forgotten(), 12 + 108);
    }
}
