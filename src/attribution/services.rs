//! Which destination groups are one mail service, as answers of the DNS tell: a provider's servers stand
//! in several networks under one name, and whoever uses one of them will use the others.
//!
//! Whoever owns a zone may put any addresses under a name, so a name alone says nothing. A group is
//! counted to a name when two devices were given it under that name, or reverse DNS calls one of its
//! addresses by a name of the same domain. A name has eight groups at the most, and a group one name, so
//! that however names are chained nobody makes more than eight services one.
//!
//! No name and no client is kept: of a name its hash and that of its domain, of the device that was
//! given a group 32 bits of its hash, all keyed with a seed that is the run's own. Nobody can be found by
//! them without trying all names, or all addresses, on the machine while it runs. Each is forgotten a week after
//! it was last seen, or when there is no room; how often the latter happened is counted. That two
//! devices share their 32 bits happens once in four thousand million pairs, and confirms a group too early.

use std::hash::BuildHasher;
use std::net::IpAddr;

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use crate::decode::dns::{Answer, Host};
use crate::model::{DeviceKey, Group, MICROS_PER_SECOND, Timestamp};

/// Groups of one name at the most.
pub const MAX_GROUPS: usize = 8;
/// Groups of one name that wait to be confirmed. A new one takes the place of another only when that was
/// not heard of for a day: in a pool of hundreds that takes turns none would ever be confirmed.
const MAX_CANDIDATES: usize = 16;
/// That day.
const TURN: i64 = 86_400 * MICROS_PER_SECOND;
/// Names that are kept.
const MAX_NAMES: usize = 16_384;
/// What reverse DNS said of groups that no name has brought yet.
const MAX_REVERSE: usize = 4_096;
/// How long anything is kept after it was last seen. An answer's own time to live says how long a client
/// may use an address, and not for how long the service has it.
const KEPT: i64 = 7 * 86_400 * MICROS_PER_SECOND;
/// Names looked at to find the one to forget.
const SAMPLE: usize = 16;

/// A name's hash.
type NameHash = u64;

/// The book of names and their groups.
#[derive(Debug)]
pub struct Services {
    state: FixedState,
    names: HashMap<NameHash, Entry, FixedState>,
    /// All names, in the order in which they are looked at.
    order: Vec<NameHash>,
    hand: usize,
    /// The name that each confirmed group belongs to.
    owners: HashMap<Group, NameHash, FixedState>,
    /// The name under which each other group came last.
    candidates: HashMap<Group, NameHash, FixedState>,
    /// The domain in which reverse DNS has an address of each group.
    reverse: HashMap<Group, NameHash, FixedState>,
    count: Count,
}

/// What is in the book, and what is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Names.
    pub names: usize,
    /// Groups that belong to a name.
    pub groups: usize,
    /// Names that had to make room.
    pub evicted: u64,
    /// Groups that were confirmed, of names that have eight.
    pub beyond: u64,
    /// Answers that named a group which belongs to another name.
    pub elsewhere: u64,
}

#[derive(Debug)]
struct Entry {
    domain: NameHash,
    /// Confirmed.
    groups: Vec<(Group, Timestamp)>,
    candidates: Vec<Candidate>,
    /// Whether `groups` have changed since they were told.
    is_news: bool,
    seen: Timestamp,
}

#[derive(Debug)]
struct Candidate {
    group: Group,
    /// The device that was given it.
    client: u32,
    seen: Timestamp,
}

impl Services {
    /// An empty book. `state`, made of a seed that nobody else knows, keys its hashes.
    pub fn new(state: FixedState) -> Self {
        Self {
            names: HashMap::with_hasher(state.clone()),
            order: Vec::new(),
            hand: 0,
            owners: HashMap::with_hasher(state.clone()),
            candidates: HashMap::with_hasher(state.clone()),
            reverse: HashMap::with_hasher(state.clone()),
            count: Count::default(),
            state,
        }
    }

    /// Notes an `answer` that `client` was given at `now`.
    pub fn note(&mut self, answer: &Answer, client: &DeviceKey, now: Timestamp) {
        match answer {
            Answer::Addresses(host) => self.host(host, client, now),
            // The exchange's name is the service's, not that of the domain whose mail it takes.
            Answer::Exchanges(hosts) => {
                for host in hosts {
                    self.host(host, client, now);
                }
            }
            Answer::Name { address, name } => self.note_reverse(*address, name, now),
        }
    }

    /// Notes that reverse DNS calls `address` by `name`.
    pub fn note_reverse(&mut self, address: IpAddr, name: &str, now: Timestamp) {
        let Some(domain) = domain(name) else {
            return;
        };
        let domain = self.hash(domain);
        let group = Group::of(address);
        if let Some(&of) = self.candidates.get(&group)
            && self.names.get(&of).is_some_and(|it| it.domain == domain)
        {
            self.confirm(of, group, now);
        }
        // It is asked again where it is missed.
        if self.reverse.len() >= MAX_REVERSE && !self.reverse.contains_key(&group) {
            self.reverse.clear();
        }
        self.reverse.insert(group, domain);
    }

    /// The groups that are one service with `group`, itself among them; none where it is alone.
    pub fn service_of(&self, group: Group, now: Timestamp) -> Option<Vec<Group>> {
        let entry = self.names.get(self.owners.get(&group)?)?;
        let fresh = entry.groups.iter().filter(|(_, seen)| is_fresh(*seen, now));
        let groups: Vec<Group> = fresh.map(|(group, _)| *group).collect();
        (groups.len() > 1 && groups.contains(&group)).then_some(groups)
    }

    /// The same, where it was not told yet or has changed since.
    pub fn take_news(&mut self, group: Group, now: Timestamp) -> Option<Vec<Group>> {
        let entry = self.names.get_mut(self.owners.get(&group)?)?;
        if !entry.is_news {
            return None;
        }
        let groups = self.service_of(group, now)?;
        let entry = self.names.get_mut(self.owners.get(&group)?)?;
        entry.is_news = false;
        Some(groups)
    }

    /// Whether the name of an address of `group` could confirm that it belongs to others.
    pub fn wants_reverse(&self, group: Group) -> bool {
        let entry = self.candidates.get(&group).map(|name| self.names.get(name));
        !self.reverse.contains_key(&group)
            && entry
                .flatten()
                .is_some_and(|entry| entry.groups.len() + entry.candidates.len() > 1)
    }

    /// What is in it.
    pub fn count(&self) -> Count {
        Count {
            names: self.names.len(),
            groups: self.owners.len(),
            ..self.count
        }
    }

    fn hash(&self, name: &str) -> NameHash {
        self.state.hash_one(name)
    }

    fn host(&mut self, host: &Host, client: &DeviceKey, now: Timestamp) {
        let mut groups: Vec<Group> = host.addresses.iter().map(|it| Group::of(*it)).collect();
        groups.sort_unstable();
        groups.dedup();
        if groups.is_empty() {
            return;
        }
        let name = self.hash(&host.name);
        let domain = self.hash(domain(&host.name).unwrap_or(&host.name));
        self.open(name, domain, now);
        // The lower half: how the whole is laid out is the table's.
        #[expect(clippy::cast_possible_truncation, reason = "32 bits are kept")]
        let client = self.state.hash_one(client) as u32;
        for group in groups {
            self.link(name, group, client, now);
        }
    }

    /// Has an entry for `name`.
    fn open(&mut self, name: NameHash, domain: NameHash, now: Timestamp) {
        if let Some(entry) = self.names.get_mut(&name) {
            entry.seen = now;
            return;
        }
        if self.order.len() < MAX_NAMES {
            self.order.push(name);
        } else {
            let place = self.least_missed();
            let forgotten = std::mem::replace(&mut self.order[place], name);
            self.forget(forgotten);
            self.count.evicted += 1;
        }
        let entry = Entry {
            domain,
            groups: Vec::new(),
            candidates: Vec::new(),
            is_news: false,
            seen: now,
        };
        self.names.insert(name, entry);
    }

    /// Of the next names in turn, the place of the one that says least: without confirmed groups,
    /// longest ago.
    fn least_missed(&mut self) -> usize {
        let start = self.hand;
        self.hand = (start + SAMPLE) % self.order.len();
        (0..SAMPLE)
            .map(|step| (start + step) % self.order.len())
            .min_by_key(|&place| {
                let entry = self.names.get(&self.order[place]);
                entry.map(|entry| (entry.groups.len() > 1, entry.seen))
            })
            .unwrap_or(start)
    }

    fn forget(&mut self, name: NameHash) {
        let Some(entry) = self.names.remove(&name) else {
            return;
        };
        for (group, _) in entry.groups {
            self.owners.remove(&group);
        }
        for Candidate { group, .. } in entry.candidates {
            if self.candidates.get(&group) == Some(&name) {
                self.candidates.remove(&group);
            }
        }
    }

    /// `client` was given `group` under `name`.
    fn link(&mut self, name: NameHash, group: Group, client: u32, now: Timestamp) {
        self.release(group, now);
        match self.owners.get(&group) {
            Some(owner) if *owner == name => {
                let groups = self.names.get_mut(&name).map(|entry| &mut entry.groups);
                let own = groups.and_then(|all| all.iter_mut().find(|(own, _)| *own == group));
                if let Some((_, seen)) = own {
                    *seen = now;
                }
                return;
            }
            Some(_) => {
                self.count.elsewhere += 1;
                return;
            }
            None => {}
        }
        let Some(entry) = self.names.get_mut(&name) else {
            return;
        };
        let is_confirmed = self.reverse.get(&group) == Some(&entry.domain);
        let known = entry.candidates.iter_mut().find(|it| it.group == group);
        let is_second = match known {
            Some(known) if is_fresh(known.seen, now) && known.client != client => true,
            Some(known) => {
                known.client = client;
                known.seen = now;
                false
            }
            None => {
                let candidate = Candidate {
                    group,
                    client,
                    seen: now,
                };
                let (is_added, gone) = entry.add(candidate);
                if let Some(gone) = gone
                    && self.candidates.get(&gone) == Some(&name)
                {
                    self.candidates.remove(&gone);
                }
                if !is_added {
                    if is_confirmed {
                        self.confirm(name, group, now);
                    }
                    return;
                }
                false
            }
        };
        self.candidates.insert(group, name);
        if is_second || is_confirmed {
            self.confirm(name, group, now);
        }
    }

    /// Takes `group` from a name of which it was not heard for long.
    fn release(&mut self, group: Group, now: Timestamp) {
        let Some(owner) = self.owners.get(&group) else {
            return;
        };
        let Some(entry) = self.names.get_mut(owner) else {
            return;
        };
        let is_stale = |(own, seen): &(Group, Timestamp)| *own == group && !is_fresh(*seen, now);
        if let Some(at) = entry.groups.iter().position(is_stale) {
            entry.groups.remove(at);
            self.owners.remove(&group);
        }
    }

    /// `group` belongs to `name`, where that has room.
    fn confirm(&mut self, name: NameHash, group: Group, now: Timestamp) {
        let Some(entry) = self.names.get_mut(&name) else {
            return;
        };
        let owners = &mut self.owners;
        if entry.groups.len() >= MAX_GROUPS {
            entry.groups.retain(|(own, seen)| {
                let is_kept = is_fresh(*seen, now);
                if !is_kept {
                    owners.remove(own);
                }
                is_kept
            });
        }
        if entry.groups.len() >= MAX_GROUPS {
            self.count.beyond += 1;
            return;
        }
        entry
            .candidates
            .retain(|candidate| candidate.group != group);
        entry.groups.push((group, now));
        entry.is_news = true;
        self.candidates.remove(&group);
        self.owners.insert(group, name);
    }
}

impl Entry {
    /// Adds a candidate, where there is room; answers whether there was, and which one had to go.
    fn add(&mut self, candidate: Candidate) -> (bool, Option<Group>) {
        let mut gone = None;
        if self.candidates.len() >= MAX_CANDIDATES {
            let all = self.candidates.iter().enumerate();
            let oldest = all.min_by_key(|(_, known)| known.seen);
            match oldest {
                Some((at, known)) if candidate.seen.micros_since(known.seen) > TURN => {
                    gone = Some(self.candidates.swap_remove(at).group);
                }
                _ => return (false, None),
            }
        }
        self.candidates.push(candidate);
        (true, gone)
    }
}

fn is_fresh(seen: Timestamp, now: Timestamp) -> bool {
    now.micros_since(seen) <= KEPT
}

/// The domain whose owner gives `name`: its last two labels, or three where the last ones may be a
/// registry's (`co.uk`, `com.au`); none of a name that has no label before. To take too long a domain only leaves a
/// merge out.
fn domain(name: &str) -> Option<&str> {
    let mut ends = name.rmatch_indices('.').map(|(at, _)| at);
    let last = ends.next()?;
    let second = ends.next();
    let top = &name[last + 1..];
    let below = &name[second.map_or(0, |at| at + 1)..last];
    let start = if top.len() == 2 && below.len() <= 3 {
        // What is before them has to be there.
        second?;
        ends.next().map_or(0, |at| at + 1)
    } else {
        second.map_or(0, |at| at + 1)
    };
    Some(&name[start..])
}

#[cfg(test)]
mod tests;
