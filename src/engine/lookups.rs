//! Questions for mail servers of devices that have not been seen yet: whoever sends mail by itself asks
//! before it connects, so that they are kept until the device's first attempt comes.

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use crate::model::{DeviceKey, MICROS_PER_SECOND, Timestamp};

/// Devices whose questions are kept.
const MAX_DEVICES: usize = 1_024;
/// Questions that are kept of each.
const MAX_EACH: usize = 16;
/// How long a question is kept.
const KEPT: i64 = 3_600 * MICROS_PER_SECOND;
/// Devices looked at to find the one to forget.
const SAMPLE: usize = 16;

/// Questions that wait for their device.
#[derive(Debug)]
pub struct Lookups {
    waiting: HashMap<DeviceKey, Vec<Timestamp>, FixedState>,
    /// All devices, in the order in which they are looked at.
    order: Vec<DeviceKey>,
    hand: usize,
    dropped: u64,
}

impl Lookups {
    /// None. `state` hashes the table.
    pub fn new(state: FixedState) -> Self {
        Self {
            waiting: HashMap::with_hasher(state),
            order: Vec::new(),
            hand: 0,
            dropped: 0,
        }
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Those for which there was no room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Keeps a question of the device with `key`.
    pub fn note(&mut self, key: DeviceKey, time: Timestamp) {
        if let Some(times) = self.waiting.get_mut(&key) {
            times.retain(|&earlier| is_fresh(earlier, time));
            if times.len() < MAX_EACH {
                times.push(time);
            } else {
                self.dropped += 1;
            }
            return;
        }
        if self.order.len() < MAX_DEVICES {
            self.order.push(key);
        } else {
            let place = self.longest_ago();
            let forgotten = std::mem::replace(&mut self.order[place], key);
            let times = self.waiting.remove(&forgotten).unwrap_or_default();
            let fresh = times.iter().filter(|&&earlier| is_fresh(earlier, time));
            self.dropped += fresh.count() as u64;
        }
        self.waiting.insert(key, vec![time]);
    }

    /// The questions of the device with `key` of the hour before `time`, which wait no longer.
    pub fn take(&mut self, key: &DeviceKey, time: Timestamp) -> Vec<Timestamp> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let Some(mut times) = self.waiting.remove(key) else {
            return Vec::new();
        };
        self.order.retain(|known| known != key);
        times.retain(|&earlier| is_fresh(earlier, time));
        times
    }

    /// The place of the one of the next in turn that asked longest ago.
    fn longest_ago(&mut self) -> usize {
        let count = self.order.len();
        let start = self.hand;
        self.hand = (start + SAMPLE) % count;
        let next = (0..SAMPLE).map(|step| (start + step) % count);
        let last = |place: &usize| self.waiting.get(&self.order[*place])?.last().copied();
        next.min_by_key(last).unwrap_or(start)
    }
}

fn is_fresh(earlier: Timestamp, time: Timestamp) -> bool {
    time.micros_since(earlier) <= KEPT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> DeviceKey {
        DeviceKey::Address(std::net::Ipv4Addr::from(number).into())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn questions_wait_for_an_hour_and_come_once() {
        let mut lookups = Lookups::new(FixedState::with_seed(7));
        for seconds in [0, 10, 20] {
            lookups.note(key(1), at(seconds));
        }
        assert_eq!(lookups.take(&key(2), at(30)), []);
        assert_eq!(lookups.take(&key(1), at(3_605)), [at(10), at(20)]);
        assert_eq!(lookups.take(&key(1), at(3_605)), []);
        assert!(lookups.is_empty());
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let mut lookups = Lookups::new(FixedState::with_seed(7));
        for seconds in 0..20 {
            lookups.note(key(1), at(seconds));
        }
        assert_eq!(lookups.dropped(), 4);
        for number in 2..3_000 {
            lookups.note(key(number), at(30));
        }
        assert_eq!(lookups.waiting.len(), MAX_DEVICES);
        assert_eq!(lookups.order.len(), MAX_DEVICES);
        // The first asked sixteen times.
        assert_eq!(lookups.dropped(), 4 + 15 + 2_999 - MAX_DEVICES as u64);
    }
}
