//! Which destination groups a device has used: what is new to it, and what is not.
//!
//! A group is known for thirty days of the device's own time from its last use. At most 64 are kept,
//! 16 bytes each; what was used longest ago goes first. A bot makes a group known by nothing less than
//! contacting it as a new one, which scores; to cycle through more than are kept makes them new again.
//!
//! Room is made when a second begins, down to 48: within a second nothing that was known is forgotten,
//! so that the order of its attempts does not matter. More than 16 new ones in one second make an alarm
//! in any order.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Group;

/// A group not used for this long is new again.
const KNOWN_SECONDS: u32 = 30 * 86_400;
/// Groups kept a device. A device that uses more is no client of a few mail services; it then
/// meets old groups as new ones, which is what its role looks like.
const MAX_GROUPS: usize = 64;
/// Groups kept from one second to the next.
const MAX_KEPT: usize = 48;
/// Room that is made at once.
const GROWTH: usize = 2;

/// A group and when it was used, in seconds of the device's own time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    group: Group,
    first: u32,
    last: u32,
}

impl Known {
    fn is_stale(&self, now: u32) -> bool {
        now.saturating_sub(self.last) > KNOWN_SECONDS
    }
}

/// The groups that one device used lately.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct KnownGroups(Vec<Known>);

impl KnownGroups {
    /// Whether none of `groups`, which are one mail service, is known at `now`. The first, the one that
    /// is used, is known from then on.
    pub(super) fn is_new(&mut self, groups: &[Group], now: u32) -> bool {
        let Some((&own, others)) = groups.split_first() else {
            return false;
        };
        self.make_room(now);
        let is_own_new = !self.uses(own, now);
        let mut is_new = is_own_new;
        for &other in others {
            is_new &= !self.uses(other, now);
        }
        if is_own_new {
            self.add(own, now);
        }
        is_new
    }

    /// Notes that `group` is used, where it is known; answers whether it is.
    fn uses(&mut self, group: Group, now: u32) -> bool {
        let Some(known) = self.0.iter_mut().find(|known| known.group == group) else {
            return false;
        };
        if known.is_stale(now) {
            return false;
        }
        known.last = now;
        true
    }

    /// Makes room when a second begins.
    fn make_room(&mut self, now: u32) {
        if self.0.len() > MAX_KEPT && self.0.iter().all(|known| known.last < now) {
            self.keep_latest(MAX_KEPT);
        }
    }

    fn add(&mut self, group: Group, now: u32) {
        self.0.retain(|known| known.group != group);
        if self.0.len() >= MAX_GROUPS {
            self.keep_latest(MAX_GROUPS - 1);
        }
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(GROWTH);
        }
        self.0.push(Known {
            group,
            first: now,
            last: now,
        });
    }

    /// Forgets all but that many; of those used last in the same second the order of their numbers
    /// decides.
    fn keep_latest(&mut self, count: usize) {
        self.0
            .select_nth_unstable_by_key(count, |known| (u32::MAX - known.last, known.group));
        self.0.truncate(count);
    }

    /// How long before `now` `group` was first used, where it has been known since.
    pub(super) fn used_for(&self, group: Group, now: u32) -> Option<Duration> {
        let known = self.0.iter().find(|known| known.group == group)?;
        let age = now.saturating_sub(known.first);
        (!known.is_stale(now)).then_some(Duration::from_secs(age.into()))
    }

    /// Those known at `now`.
    pub(super) fn iter(&self, now: u32) -> impl Iterator<Item = Group> {
        self.0
            .iter()
            .filter(move |known| !known.is_stale(now))
            .map(|known| known.group)
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        self.0.capacity() * size_of::<Known>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u32 = 86_400;

    fn group(index: u32) -> Group {
        Group::of(std::net::Ipv4Addr::from(index << 8).into())
    }

    #[test]
    fn new_once_and_again_after_thirty_days() {
        let mut groups = KnownGroups::default();
        assert!(groups.is_new(&[group(1)], 0));
        assert!(!groups.is_new(&[group(1)], 30 * DAY));
        assert_eq!(
            groups.used_for(group(1), 31 * DAY),
            Some(Duration::from_secs(31 * 86_400))
        );
        assert!(groups.is_new(&[group(1)], 60 * DAY + 1));
        assert_eq!(
            groups.used_for(group(1), 60 * DAY + 1),
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn a_service_is_new_once_and_its_use_keeps_all_of_it() {
        let mut groups = KnownGroups::default();
        assert!(groups.is_new(&[group(1), group(2)], 0));
        assert!(!groups.is_new(&[group(2), group(1)], 20 * DAY));
        assert!(!groups.is_new(&[group(1)], 50 * DAY));
        // What is told of the service later does not make known what was never used.
        assert!(groups.is_new(&[group(3)], 50 * DAY));
    }

    #[test]
    fn bounded_and_the_oldest_goes_first() {
        let mut groups = KnownGroups::default();
        for index in 0..200 {
            assert!(groups.is_new(&[group(index)], index));
            assert!(groups.0.len() <= MAX_KEPT + 1);
        }
        assert!(!groups.is_new(&[group(199)], 200));
        assert!(groups.is_new(&[group(0)], 200));
        for index in 1_000..2_000 {
            assert!(groups.is_new(&[group(index)], 300));
        }
        assert!(groups.0.len() == MAX_GROUPS && groups.0.capacity() <= MAX_GROUPS + GROWTH);
    }

    #[test]
    fn a_bot_that_cycles_meets_its_groups_as_new_ones() {
        let mut groups = KnownGroups::default();
        let mut now = 0;
        for _ in 0..5 {
            for index in 0..100 {
                now += 1;
                assert!(groups.is_new(&[group(index)], now));
            }
        }
    }

    #[test]
    fn within_a_second_the_order_does_not_matter() {
        let known = |groups: &mut KnownGroups| {
            for index in 0..60 {
                groups.is_new(&[group(index)], index);
            }
        };
        let mut one = KnownGroups::default();
        let mut other = KnownGroups::default();
        known(&mut one);
        known(&mut other);
        let second: Vec<u32> = (5..15).chain(100..106).collect();
        let count = |groups: &mut KnownGroups, order: &mut dyn Iterator<Item = &u32>| {
            order
                .filter(|index| groups.is_new(&[group(**index)], 1_000))
                .count()
        };
        let (ahead, back) = (
            count(&mut one, &mut second.iter()),
            count(&mut other, &mut second.iter().rev()),
        );
        assert_eq!(ahead, back);
    }
}
