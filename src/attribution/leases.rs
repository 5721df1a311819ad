//! The lease book: who held an address at a time, told from the records of DHCP servers.
//!
//! A lease that was valid at the time wins, for what its old holder sent stays his; of several valid
//! ones the last in the order of the files, for a server writes down what it changed. Where none was
//! valid, the address's last record is the best guess, and is said to be one. A record that says
//! that somebody else used the address (declined, abandoned) names nobody. A MAC is answered as the
//! file has it, null and group addresses too: whether it may serve as a key is not decided here.

use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::net::IpAddr;

use crate::decode::dhcp_lease::{Lease, Leases, Record, State};
use crate::model::{Mac, Timestamp};

/// On what grounds a holder is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Basis {
    /// A lease that was valid at the time asked for.
    Valid,
    /// The address's last lease, which was not valid at the time asked for.
    NotValidThen,
    /// The address's last lease, in this state now.
    Now(State),
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid => f.pad("lease"),
            Self::NotValidThen => f.pad("lease (not valid then)"),
            Self::Now(state) => f.pad(&format!("lease, {state}")),
        }
    }
}

/// Who held an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder<'a> {
    /// Its MAC, where the record has one of six octets.
    pub mac: Option<Mac>,
    /// Its name, as hostile as it gave it.
    pub hostname: Option<&'a str>,
    /// On what grounds.
    pub basis: Basis,
}

/// The last record of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Current<'a> {
    /// The record.
    pub lease: &'a Lease,
    /// What it is worth now.
    pub basis: Basis,
}

impl<'a> Current<'a> {
    /// Who holds the address, or held it last.
    pub fn holder(&self) -> Holder<'a> {
        holder(self.lease, self.basis)
    }
}

/// All leases of some files, to be asked by address and time.
#[derive(Clone, Debug, Default)]
pub struct LeaseBook {
    // Ordered, not hashed: addresses come from hostile files, and floor 2 has no random seed.
    histories: BTreeMap<IpAddr, History>,
    /// The name in the last lease of each station that gives one.
    names: BTreeMap<Mac, String>,
}

impl LeaseBook {
    /// The book of all records in `files`. Where an address is in several files, the later file is
    /// taken for the later word.
    ///
    /// Takes O(n log n) for n records.
    pub fn new(files: impl IntoIterator<Item = Leases>) -> Self {
        Self::of_records(files.into_iter().flat_map(|file| file.records))
    }

    /// The book of `records`, in the order in which the servers wrote them.
    pub fn of_records(records: impl IntoIterator<Item = Record>) -> Self {
        let mut histories: BTreeMap<IpAddr, History> = BTreeMap::new();
        for record in records {
            match record {
                Record::Lease(lease) => {
                    let history = histories.entry(lease.address).or_default();
                    history.removed = false;
                    history.leases.push(lease);
                }
                Record::Removed(address) => {
                    if let Some(history) = histories.get_mut(&address) {
                        history.removed = true;
                    }
                }
            }
        }
        let mut names = BTreeMap::new();
        for history in histories.values_mut() {
            history.reigns = reigns(&history.leases);
            if let Some(last) = history.last()
                && let (Some(mac), Some(name)) = (last.mac, &last.hostname)
                && mac.is_station()
            {
                names.insert(mac, name.clone());
            }
        }
        Self { histories, names }
    }

    /// The name in a last lease of `mac`, valid or not: to show, no proof of anything.
    pub fn name_of(&self, mac: Mac) -> Option<&str> {
        self.names.get(&mac).map(String::as_str)
    }

    /// Whether no file had a record.
    pub fn is_empty(&self) -> bool {
        self.histories.is_empty()
    }

    /// Who held `address` at `time`; `None` where no record names anybody.
    ///
    /// Takes O(log n).
    pub fn at(&self, address: IpAddr, time: Timestamp) -> Option<Holder<'_>> {
        let history = self.histories.get(&address)?;
        if let Some(lease) = history.valid_at(time) {
            return Some(holder(lease, Basis::Valid));
        }
        let last = history.last().filter(|lease| !lease.state.is_conflict())?;
        Some(holder(last, Basis::NotValidThen))
    }

    /// The last record of each address that the servers have not forgotten, in the order of the
    /// addresses. An active lease that ended before `now` is expired.
    pub fn current(&self, now: Timestamp) -> impl Iterator<Item = Current<'_>> {
        self.histories
            .values()
            .filter_map(History::last)
            .map(move |lease| Current {
                lease,
                basis: Basis::Now(match (lease.state, lease.ends) {
                    (State::Active, Some(ends)) if ends <= now => State::Expired,
                    (state, _) => state,
                }),
            })
    }
}

fn holder(lease: &Lease, basis: Basis) -> Holder<'_> {
    Holder {
        mac: lease.mac,
        hostname: lease.hostname.as_deref(),
        basis,
    }
}

/// What is known about one address.
#[derive(Clone, Debug, Default)]
struct History {
    /// Its records, in order.
    leases: Vec<Lease>,
    /// Which of them wins when, in order of time.
    reigns: Vec<Reign>,
    /// Whether the server forgot the last of them.
    removed: bool,
}

impl History {
    fn last(&self) -> Option<&Lease> {
        self.leases.last().filter(|_| !self.removed)
    }

    fn valid_at(&self, time: Timestamp) -> Option<&Lease> {
        let after = self.reigns.partition_point(|reign| reign.from <= time);
        let reign = self.reigns.get(after.checked_sub(1)?)?;
        self.leases.get(reign.lease?)
    }
}

/// From a time on, until the next reign, this lease (its index) is the last of those valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reign {
    from: Timestamp,
    lease: Option<usize>,
}

/// Who wins when: a sweep over all starts and ends, so that a question need not look at all records
/// of an address that was renewed a hundred thousand times.
fn reigns(leases: &[Lease]) -> Vec<Reign> {
    let held: Vec<_> = leases.iter().map(Lease::held).collect();
    let mut starts: Vec<_> = held
        .iter()
        .enumerate()
        .filter_map(|(index, held)| held.map(|(start, _)| (start, index)))
        .collect();
    starts.sort_unstable();
    let mut borders: Vec<_> = held
        .iter()
        .flatten()
        .flat_map(|&(start, end)| [start, end])
        .collect();
    borders.sort_unstable();
    borders.dedup();

    let mut reigns: Vec<Reign> = Vec::new();
    let mut valid = BinaryHeap::new();
    let mut starts = starts.into_iter().peekable();
    for border in borders {
        while let Some((_, index)) = starts.next_if(|&(start, _)| start <= border) {
            valid.push(index);
        }
        while let Some(&index) = valid.peek()
            && held[index].is_none_or(|(_, end)| end <= border)
        {
            valid.pop();
        }
        let lease = valid.peek().copied();
        if reigns.last().map(|reign| reign.lease) != Some(lease) {
            reigns.push(Reign {
                from: border,
                lease,
            });
        }
    }
    reigns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decode::dhcp_lease;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn lease(last_octet: u8, starts: i64, ends: i64, state: State) -> Lease {
        Lease {
            address: ip("192.0.2.1"),
            mac: Some(Mac([2, 0, 0, 0, 0, last_octet])),
            hostname: Some(format!("host{last_octet}")),
            starts: Some(at(starts)),
            ends: Some(at(ends)),
            state,
        }
    }

    fn file(records: impl IntoIterator<Item = Record>) -> Leases {
        Leases {
            records: records.into_iter().collect(),
            ..Leases::default()
        }
    }

    fn book(leases: impl IntoIterator<Item = Lease>) -> LeaseBook {
        LeaseBook::new([file(leases.into_iter().map(Record::Lease))])
    }

    /// Name and basis of who had the address at `seconds`.
    fn who(book: &LeaseBook, seconds: i64) -> Option<(&str, Basis)> {
        let holder = book.at(ip("192.0.2.1"), at(seconds))?;
        Some((holder.hostname.unwrap_or_default(), holder.basis))
    }

    #[test]
    fn what_an_old_holder_sent_stays_his() {
        let book = book([
            lease(1, 100, 200, State::Expired),
            lease(2, 300, 400, State::Active),
        ]);
        assert_eq!(who(&book, 150), Some(("host1", Basis::Valid)));
        assert_eq!(who(&book, 350), Some(("host2", Basis::Valid)));
        for neither in [50, 200, 250, 400, 999] {
            assert_eq!(who(&book, neither), Some(("host2", Basis::NotValidThen)));
        }
        assert_eq!(book.at(ip("192.0.2.2"), at(150)), None);
        assert_eq!(LeaseBook::default().at(ip("192.0.2.1"), at(150)), None);
    }

    #[test]
    fn of_several_valid_leases_the_last_in_order_wins() {
        let book = book([
            lease(1, 100, 500, State::Active),
            lease(2, 200, 300, State::Active),
            lease(3, 0, 150, State::Active),
        ]);
        let winners: Vec<_> = [50, 120, 160, 250, 350]
            .into_iter()
            .map(|seconds| who(&book, seconds).unwrap().0)
            .collect();
        assert_eq!(winners, ["host3", "host3", "host1", "host2", "host1"]);
    }

    #[test]
    fn later_files_have_the_later_word() {
        let first = file([Record::Lease(lease(1, 100, 200, State::Active))]);
        let second = file([Record::Lease(lease(2, 100, 200, State::Active))]);
        let book = LeaseBook::new([first, second]);
        assert_eq!(who(&book, 150), Some(("host2", Basis::Valid)));
    }

    #[test]
    fn a_refused_address_names_nobody() {
        for state in [State::Declined, State::Abandoned] {
            let book = book([lease(1, 100, 200, State::Active), lease(2, 100, 300, state)]);
            assert_eq!(who(&book, 150), Some(("host1", Basis::Valid)), "{state}");
            assert_eq!(who(&book, 250), None, "{state}");
            assert_eq!(book.current(at(0)).count(), 1);
        }
    }

    #[test]
    fn a_removed_lease_was_valid_in_its_time_and_is_gone_now() {
        let address = ip("192.0.2.1");
        let old = Record::Lease(lease(1, 100, 200, State::Active));
        let new = Record::Lease(lease(2, 300, 400, State::Active));
        let gone = LeaseBook::new([file([old.clone(), Record::Removed(address)])]);
        assert_eq!(who(&gone, 150), Some(("host1", Basis::Valid)));
        assert_eq!(who(&gone, 250), None);
        assert_eq!(gone.current(at(150)).count(), 0);
        let back = LeaseBook::new([file([
            Record::Removed(address),
            old,
            Record::Removed(address),
            new,
        ])]);
        assert_eq!(who(&back, 250), Some(("host2", Basis::NotValidThen)));
        assert_eq!(back.current(at(150)).count(), 1);
    }

    #[test]
    fn current_leases_say_their_state_now() {
        let of = |state, now| {
            let book = book([lease(1, 100, 200, state)]);
            let current = book.current(at(now)).next().unwrap();
            assert_eq!(current.holder().mac, Some(Mac([2, 0, 0, 0, 0, 1])));
            current.basis.to_string()
        };
        assert_eq!(of(State::Active, 150), "lease, active");
        assert_eq!(of(State::Active, 200), "lease, expired");
        assert_eq!(of(State::Declined, 150), "lease, declined");
        assert_eq!(of(State::Free, 150), "lease, free");
        assert_eq!(Basis::Valid.to_string(), "lease");
        assert_eq!(Basis::NotValidThen.to_string(), "lease (not valid then)");
    }

    #[test]
    fn decoded_files_of_several_kinds_make_one_book() {
        let dnsmasq = dhcp_lease::decode(b"0 02:00:00:00:00:01 192.0.2.1 desk *\n");
        let isc = dhcp_lease::decode(
            b"lease 192.0.2.2 {\n  starts epoch 100;\n  ends epoch 200;\n  hardware ethernet 02:00:00:00:00:02;\n}\n",
        );
        let book = LeaseBook::new([dnsmasq, isc]);
        assert_eq!(who(&book, 0), Some(("desk", Basis::Valid)));
        let bench = book.at(ip("192.0.2.2"), at(150)).unwrap();
        assert_eq!(bench.mac, Some(Mac([2, 0, 0, 0, 0, 2])));
        let addresses: Vec<_> = book
            .current(at(0))
            .map(|current| current.lease.address)
            .collect();
        assert_eq!(addresses, [ip("192.0.2.1"), ip("192.0.2.2")]);
    }

    proptest! {
        #[test]
        fn the_sweep_agrees_with_looking_at_every_record(
            parts in proptest::collection::vec(
                (
                    proptest::option::of(0..12i64),
                    proptest::option::of(0..12i64),
                    prop_oneof![
                        Just(State::Active), Just(State::Expired), Just(State::Declined),
                    ],
                ),
                0..12,
            ),
            time in -1..13i64,
        ) {
            let leases: Vec<Lease> = parts
                .into_iter()
                .zip(0..)
                .map(|((starts, ends, state), index)| Lease {
                    starts: starts.map(at),
                    ends: ends.map(at),
                    ..lease(index, 0, 0, state)
                })
                .collect();
            let expected = leases.iter().rev().find(|lease| lease.holds_at(at(time))).cloned();
            let book = book(leases);
            let found = book
                .at(ip("192.0.2.1"), at(time))
                .filter(|holder| holder.basis == Basis::Valid);
            prop_assert_eq!(found.and_then(|holder| holder.mac), expected.and_then(|lease| lease.mac));
        }
    }
}
