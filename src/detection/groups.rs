//! Which destination groups a device has used: what is new to it, and what is not.

use serde::{Deserialize, Serialize};

use crate::model::{Group, MICROS_PER_SECOND, Timestamp};

/// A group not used for this long is new again.
const KNOWN_SECONDS: i64 = 30 * 86_400;
/// Groups kept a device. A device that uses more is no client of a few mail services; it then
/// meets old groups as new ones, which is what its role looks like.
const MAX_GROUPS: usize = 64;

/// The groups that one device used lately, with the time of its last use in whole seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct KnownGroups(Vec<(Group, i64)>);

impl KnownGroups {
    /// Whether `group`, used at `time`, is new; from then on it is known.
    pub(super) fn is_new(&mut self, group: Group, time: Timestamp) -> bool {
        let now = time.as_seconds();
        if let Some((_, used)) = self.0.iter_mut().find(|(known, _)| *known == group) {
            let is_stale = now - *used > KNOWN_SECONDS;
            *used = now.max(*used);
            return is_stale;
        }
        if self.0.len() == MAX_GROUPS {
            self.forget_oldest();
        }
        self.0.push((group, now));
        true
    }

    /// Moves all times by `micros`, to the second.
    pub(super) fn move_by(&mut self, micros: i64) {
        let seconds = micros.div_euclid(MICROS_PER_SECOND);
        for (_, used) in &mut self.0 {
            *used = used.saturating_add(seconds);
        }
    }

    /// Has no group be used after `now`.
    pub(super) fn forget_after(&mut self, now: Timestamp) {
        for (_, used) in &mut self.0 {
            *used = now.as_seconds().min(*used);
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.0.iter().enumerate().min_by_key(|(_, (_, used))| *used);
        if let Some((index, _)) = oldest {
            self.0.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(index: u32) -> Group {
        Group::of(std::net::Ipv4Addr::from(index << 8).into())
    }

    #[test]
    fn new_once_and_again_after_thirty_days() {
        let mut groups = KnownGroups::default();
        let at = Timestamp::from_seconds;
        assert!(groups.is_new(group(1), at(0)));
        assert!(!groups.is_new(group(1), at(30 * 86_400)));
        assert!(groups.is_new(group(1), at(60 * 86_400 + 1)));
    }

    #[test]
    fn bounded_and_the_oldest_goes_first() {
        let mut groups = KnownGroups::default();
        for index in 0..200 {
            assert!(groups.is_new(group(index), Timestamp::from_seconds(index.into())));
        }
        assert_eq!(groups.0.len(), MAX_GROUPS);
        let end = Timestamp::from_seconds(200);
        assert!(!groups.is_new(group(199), end));
        assert!(groups.is_new(group(0), end));
    }
}
