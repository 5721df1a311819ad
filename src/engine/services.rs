//! Destination groups that are one mail service, as they were told.
//!
//! Whatever is told later, a group stays in the service that it came to first, and a service has eight
//! groups: groups that are merged in turns do not make one large service.

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use crate::attribution::services::MAX_GROUPS;
use crate::model::Group;

/// Services that are kept: of those that mail goes to.
const MAX_SERVICES: usize = 1_024;

/// The services.
#[derive(Debug)]
pub(super) struct OneService {
    all: Vec<Vec<Group>>,
    places: HashMap<Group, usize, FixedState>,
    /// Groups for which there was no room.
    unmerged: u64,
}

impl OneService {
    pub(super) fn new(state: FixedState) -> Self {
        Self {
            all: Vec::new(),
            places: HashMap::with_hasher(state),
            unmerged: 0,
        }
    }

    /// Takes that `groups` are one service.
    pub(super) fn note(&mut self, groups: &[Group]) {
        let known = groups.iter().find_map(|group| self.places.get(group));
        let place = match known {
            Some(&place) => place,
            None if groups.len() < 2 => return,
            None if self.all.len() < MAX_SERVICES => {
                self.all.push(Vec::new());
                self.all.len() - 1
            }
            None => {
                self.unmerged += groups.len() as u64;
                return;
            }
        };
        let service = &mut self.all[place];
        for &group in groups {
            if self.places.contains_key(&group) {
                continue;
            }
            if service.len() == MAX_GROUPS {
                self.unmerged += 1;
                continue;
            }
            service.push(group);
            self.places.insert(group, place);
        }
    }

    /// `group`, and then those that are one service with it.
    pub(super) fn of(&self, group: Group) -> Groups {
        let mut groups = Groups {
            all: [group; MAX_GROUPS],
            count: 1,
        };
        if let Some(&place) = self.places.get(&group) {
            let others = self.all[place].iter().filter(|other| **other != group);
            for (slot, &other) in groups.all[1..].iter_mut().zip(others) {
                *slot = other;
                groups.count += 1;
            }
        }
        groups
    }

    /// Groups that were told to be of a service and could not be.
    pub(super) fn unmerged(&self) -> u64 {
        self.unmerged
    }
}

/// A destination's group, and those that stand for the same service.
pub(super) struct Groups {
    all: [Group; MAX_GROUPS],
    count: usize,
}

impl Groups {
    pub(super) fn as_slice(&self) -> &[Group] {
        &self.all[..self.count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(number: u8) -> Group {
        Group::of([203, 0, number, 1].into())
    }

    fn groups(numbers: impl IntoIterator<Item = u8>) -> Vec<Group> {
        numbers.into_iter().map(group).collect()
    }

    #[test]
    fn its_own_group_comes_first() {
        let mut services = OneService::new(FixedState::with_seed(7));
        assert_eq!(services.of(group(2)).as_slice(), groups([2]));
        services.note(&groups([1, 2, 3]));
        assert_eq!(services.of(group(2)).as_slice(), groups([2, 1, 3]));
        assert_eq!(services.of(group(4)).as_slice(), groups([4]));
        services.note(&groups([4]));
        assert_eq!(services.of(group(4)).as_slice(), groups([4]));
    }

    #[test]
    fn groups_merged_in_turns_do_not_make_one_large_service() {
        let mut services = OneService::new(FixedState::with_seed(7));
        for first in 0..200 {
            services.note(&groups(first..first + 8));
        }
        for number in 0..200 {
            assert!(services.of(group(number)).as_slice().len() <= MAX_GROUPS);
        }
        // A service that is told of as larger grows, and none moves to another.
        assert_eq!(services.of(group(0)).as_slice(), groups(0..8));
        assert!(services.unmerged() > 0);
    }

    #[test]
    fn services_are_bounded() {
        let mut services = OneService::new(FixedState::with_seed(7));
        for number in 0..5_000_u16 {
            let [high, low] = number.to_be_bytes();
            let of = |first| Group::of([first, high, low, 1].into());
            services.note(&[of(10), of(11)]);
        }
        assert_eq!(services.all.len(), MAX_SERVICES);
        assert_eq!(services.unmerged(), 2 * (5_000 - MAX_SERVICES as u64));
    }
}
