//! Mail services that everybody here may use: two clean devices have used each of them for a day, as a
//! relay is used. A device that comes to one of them for the first time goes nowhere new.
//!
//! A bot must not be able to make its targets known. So only a device that uses at most 4 groups
//! vouches for any: who goes to a fifth within 30 days vouches for none, however long it used the
//! first. The caller leaves out devices about which anything was found, that are allowed, or that
//! nobody confirms. At most 8 groups are known at a time, whoever vouches: that is all that somebody
//! gains who makes up devices by the dozen, and two bots gain 4, which both of them have used for a
//! day by then.
//!
//! It does not know what is new to a device: its own groups are its own matter.

use std::collections::BTreeMap;

use foldhash::quality::FixedState;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::model::{DeviceKey, Group, MICROS_PER_SECOND, Timestamp};

/// Groups that a device vouches for; one that uses more is no client of a relay.
const MAX_GROUPS: usize = 4;
/// Devices that vouch, so that there are at most 256 candidates.
const MAX_DEVICES: usize = 64;
/// Groups that are known to all at a time.
const MAX_KNOWN: usize = 8;
/// Devices that must vouch for a group.
const VOUCHERS: usize = 2;
/// Seconds for which a device must have used a group to vouch for it.
const DAY: i64 = 86_400;
/// Seconds after which room is made again.
const HOUR: i64 = 3600;
/// A group that was not used for so many seconds is in use no longer.
const LATELY: i64 = 30 * DAY;

/// The groups that clean devices use, and which of them are known to all.
#[derive(Clone, Debug)]
pub struct Smarthosts {
    devices: HashMap<DeviceKey, Uses, FixedState>,
    known: Vec<Group>,
    /// When it was counted last who vouches for what, in seconds.
    counted: i64,
    /// When room was last made for another device, in seconds: not for each that comes in vain.
    cleared: i64,
}

/// The groups that one device uses. Its times are those of its caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uses {
    groups: Vec<Use>,
    /// The time in seconds up to which it vouches for none, as it used too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    many_until: Option<i64>,
}

/// A group in use, from when to when in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Use {
    group: Group,
    first: i64,
    last: i64,
}

impl Use {
    fn is_old(&self, now: i64) -> bool {
        now - self.last > LATELY
    }

    fn is_long(&self) -> bool {
        self.last - self.first >= DAY
    }
}

impl Uses {
    /// Notes that `groups`, which are one mail service, were used at `now`; answers whether what it
    /// vouches for may have changed.
    fn note(&mut self, groups: &[Group], now: i64) -> bool {
        let mut own = self.groups.iter_mut();
        if let Some(known) = own.find(|it| groups.contains(&it.group)) {
            let before = known.is_long();
            if known.is_old(now) {
                known.first = now;
            }
            known.last = known.last.max(now);
            return known.is_long() != before;
        }
        let Some(&group) = groups.first() else {
            return false;
        };
        self.groups.retain(|it| !it.is_old(now));
        if self.groups.len() < MAX_GROUPS {
            let (first, last) = (now, now);
            self.groups.push(Use { group, first, last });
            return false;
        }
        let before = self.is_many(now);
        self.many_until = Some(now.saturating_add(LATELY));
        !before
    }

    fn is_many(&self, now: i64) -> bool {
        self.many_until.is_some_and(|until| now < until)
    }

    /// What it vouches for at `now`.
    fn vouched(&self, now: i64) -> impl Iterator<Item = Group> + '_ {
        let is_many = self.is_many(now);
        let vouched = self.groups.iter();
        vouched
            .filter(move |it| !is_many && it.is_long() && !it.is_old(now))
            .map(|it| it.group)
    }

    fn is_idle(&self, now: i64) -> bool {
        self.groups.iter().all(|it| it.is_old(now))
    }

    /// The same with its times moved by `micros`, to the second.
    #[must_use]
    pub fn moved(mut self, micros: i64) -> Self {
        let seconds = micros.div_euclid(MICROS_PER_SECOND);
        let moved = |time: i64| time.saturating_add(seconds);
        for it in &mut self.groups {
            (it.first, it.last) = (moved(it.first), moved(it.last));
        }
        self.many_until = self.many_until.map(moved);
        self
    }
}

impl Smarthosts {
    /// Knows none. `state` hashes its table.
    pub fn new(state: FixedState) -> Self {
        Self {
            devices: HashMap::with_hasher(state),
            known: Vec::new(),
            counted: 0,
            cleared: i64::MIN,
        }
    }

    /// Whether one of `groups` is known to all.
    #[inline]
    pub fn knows(&self, groups: &[Group]) -> bool {
        !self.known.is_empty() && groups.iter().any(|group| self.known.contains(group))
    }

    /// A clean `device` used `groups`, which are one mail service, at `time`.
    pub fn note(&mut self, device: DeviceKey, groups: &[Group], time: Timestamp) {
        let now = time.as_seconds();
        let may_change = if let Some(uses) = self.devices.get_mut(&device) {
            uses.note(groups, now)
        } else if self.has_room(now) {
            self.devices.entry(device).or_default().note(groups, now)
        } else {
            false
        };
        if may_change || now - self.counted >= DAY {
            self.count(now);
        }
    }

    /// `device` is clean no longer: it vouches for nothing, at `time`.
    pub fn forget(&mut self, device: &DeviceKey, time: Timestamp) {
        if self.devices.remove(device).is_some() {
            self.count(time.as_seconds());
        }
    }

    /// What `device` uses.
    pub fn uses(&self, device: &DeviceKey) -> Option<&Uses> {
        self.devices.get(device)
    }

    /// Goes on with what `device` used before `time`.
    pub fn remember(&mut self, device: DeviceKey, mut uses: Uses, time: Timestamp) {
        let now = time.as_seconds();
        uses.groups.truncate(MAX_GROUPS);
        for it in &mut uses.groups {
            it.last = it.last.min(now);
            it.first = it.first.min(it.last);
        }
        uses.many_until = uses.many_until.map(|until| until.min(now + LATELY));
        if self.devices.contains_key(&device) || !self.has_room(now) {
            return;
        }
        self.devices.insert(device, uses);
        self.count(now);
    }

    /// Whether there is room for another device, made where one does not vouch and will not for long.
    fn has_room(&mut self, now: i64) -> bool {
        if self.devices.len() >= MAX_DEVICES && now.saturating_sub(self.cleared) >= HOUR {
            self.cleared = now;
            self.devices
                .retain(|_, uses| !uses.is_many(now) && !uses.is_idle(now));
        }
        self.devices.len() < MAX_DEVICES
    }

    /// Counts who vouches for what: what is known stays so for as long as enough do.
    fn count(&mut self, now: i64) {
        self.counted = now;
        let mut vouchers: BTreeMap<Group, usize> = BTreeMap::new();
        for group in self.devices.values().flat_map(|uses| uses.vouched(now)) {
            *vouchers.entry(group).or_default() += 1;
        }
        vouchers.retain(|_, count| *count >= VOUCHERS);
        self.known.retain(|group| vouchers.remove(group).is_some());
        let mut others: Vec<(Group, usize)> = vouchers.into_iter().collect();
        others.sort_by_key(|&(group, count)| (std::cmp::Reverse(count), group));
        let room = MAX_KNOWN - self.known.len();
        self.known
            .extend(others.into_iter().take(room).map(|(group, _)| group));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [u32; 0] = [];

    fn device(number: u32) -> DeviceKey {
        DeviceKey::Address(std::net::Ipv4Addr::from(0x0a00_0000 + number).into())
    }

    fn group(number: u32) -> Group {
        Group::of(std::net::Ipv4Addr::from(number << 8).into())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    /// Each of `devices` uses each of `groups` every hour of `days` days; answers who is known then.
    fn used(hosts: &mut Smarthosts, devices: &[u32], groups: &[u32], days: i64) -> Vec<u32> {
        for hour in 0..=days * 24 {
            for &number in devices {
                for &target in groups {
                    hosts.note(device(number), &[group(target)], at(hour * 3600));
                }
            }
        }
        known(hosts)
    }

    fn known(hosts: &Smarthosts) -> Vec<u32> {
        (0..1000)
            .filter(|&number| hosts.knows(&[group(number)]))
            .collect()
    }

    fn empty() -> Smarthosts {
        Smarthosts::new(FixedState::with_seed(1))
    }

    #[test]
    fn two_devices_for_a_day_and_no_less() {
        assert_eq!(used(&mut empty(), &[1, 2], &[7], 1), [7]);
        assert_eq!(used(&mut empty(), &[1], &[7], 9), NONE);
        let mut hosts = empty();
        for (seconds, number) in [(0, 1), (1, 2), (DAY, 1), (DAY, 2)] {
            hosts.note(device(number), &[group(7)], at(seconds));
            assert_eq!(known(&hosts), NONE);
        }
        hosts.note(device(2), &[group(7)], at(DAY + 1));
        assert_eq!(known(&hosts), [7]);
        // Whoever finds something about one of them ends it.
        hosts.forget(&device(1), at(DAY + 2));
        assert_eq!(known(&hosts), NONE);
    }

    #[test]
    fn two_bots_that_share_their_targets_make_none_known() {
        let targets: Vec<u32> = (0..100).collect();
        assert_eq!(used(&mut empty(), &[1, 2], &targets, 5), NONE);
        // Those that hold themselves back gain what they have used for a day, until they do not.
        let mut hosts = empty();
        assert_eq!(used(&mut hosts, &[1, 2], &[0, 1, 2, 3], 2), [0, 1, 2, 3]);
        hosts.note(device(1), &[group(4)], at(2 * DAY));
        assert_eq!(known(&hosts), NONE);
    }

    #[test]
    fn devices_by_the_dozen_make_few_known() {
        let mut hosts = empty();
        for pair in 0..200 {
            let (a, b) = (2 * pair, 2 * pair + 1);
            for seconds in [0, DAY] {
                for target in 0..4 {
                    hosts.note(device(a), &[group(4 * pair + target)], at(seconds));
                    hosts.note(device(b), &[group(4 * pair + target)], at(seconds));
                }
            }
        }
        assert_eq!(known(&hosts).len(), MAX_KNOWN);
        assert_eq!(hosts.devices.len(), MAX_DEVICES);
    }

    #[test]
    fn the_groups_of_one_service_count_once() {
        let mut hosts = empty();
        let service: Vec<Group> = (0..8).map(group).collect();
        for seconds in [0, DAY] {
            for number in [1, 2] {
                for place in 0..8 {
                    let mut groups = service.clone();
                    groups.rotate_left(place);
                    hosts.note(device(number), &groups, at(seconds));
                }
            }
        }
        assert!(hosts.knows(&[group(5), group(0)]));
        assert!(!hosts.knows(&[group(9)]));
    }

    #[test]
    fn what_is_used_no_longer_is_forgotten() {
        let mut hosts = empty();
        used(&mut hosts, &[1, 2], &[7], 1);
        hosts.note(device(3), &[group(9)], at(DAY + LATELY));
        assert_eq!(known(&hosts), [7]);
        hosts.note(device(3), &[group(9)], at(2 * DAY + LATELY));
        assert_eq!(known(&hosts), NONE);
        // One that used too many vouches again when it has not for 30 days.
        let mut hosts = empty();
        used(&mut hosts, &[1, 2], &[0, 1, 2, 3, 4], 1);
        assert_eq!(known(&hosts), NONE);
        for number in [1, 2] {
            for seconds in [DAY + LATELY / 2, DAY + LATELY + 3600] {
                hosts.note(device(number), &[group(0)], at(seconds));
            }
        }
        hosts.note(device(3), &[group(9)], at(3 * DAY + LATELY));
        assert_eq!(known(&hosts), [0]);
    }

    #[test]
    fn what_is_remembered_goes_on() {
        let mut hosts = empty();
        used(&mut hosts, &[1, 2], &[7], 1);
        let mut again = empty();
        for number in [1, 2] {
            let uses = hosts.uses(&device(number)).unwrap().clone();
            let moved = uses.moved(MICROS_PER_SECOND * 1000);
            let text = serde_json::to_string(&moved).unwrap();
            let uses: Uses = serde_json::from_str(&text).unwrap();
            again.remember(device(number), uses, at(DAY + 1000));
        }
        assert_eq!(known(&again), [7]);
        // A clock that was put back makes no use of the future.
        let uses = hosts.uses(&device(1)).unwrap().clone();
        let mut early = empty();
        early.remember(device(1), uses, at(10));
        assert!(!early.uses(&device(1)).unwrap().groups[0].is_long());
    }
}
