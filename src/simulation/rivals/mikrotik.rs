//! `MikroTik`'s recipe against spammers: `/ip firewall filter add chain=forward protocol=tcp dst-port=25
//! connection-limit=30,32 action=add-src-to-address-list`, in the wiki's "How to autodetect infected or
//! spammer users and temporary block the SMTP output", and with `connection-limit=10,32` in
//! the guides that followed it (mikrotikacademy.blogspot.com, 2015; blog.tayabkhan.com, 2015).
//!
//! It counts the connections of a source that are tracked at once. One that is not answered is tracked for
//! `RouterOS`'s `tcp-syn-sent-timeout` of 5 s after its last SYN, which is taken for one connection.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Rival, seconds};
use crate::model::Timestamp;
use crate::simulation::traffic::{Ending, Syn};

/// How long a SYN that nobody answers is tracked.
const SYN_SENT: i64 = seconds(5);

/// When each connection ends.
#[derive(Debug)]
pub(super) struct Concurrent {
    limit: usize,
    ends: BinaryHeap<Reverse<Timestamp>>,
}

impl Concurrent {
    pub(super) fn more_than(limit: usize) -> Self {
        Self {
            limit,
            ends: BinaryHeap::new(),
        }
    }
}

impl Rival for Concurrent {
    fn alarms(&mut self, time: Timestamp, syn: &Syn) -> bool {
        while self.ends.peek().is_some_and(|Reverse(end)| *end <= time) {
            self.ends.pop();
        }
        let lasts = match syn.ending {
            Ending::Answered(lasts) => lasts,
            Ending::Refused => 0,
            Ending::Dropped(_) => SYN_SENT,
        };
        self.ends.push(Reverse(time.plus_micros(lasts)));
        self.ends.len() > self.limit
    }

    fn bytes(&self) -> usize {
        size_of_val(self) + self.ends.capacity() * size_of::<Timestamp>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::rivals::testing::{LONG, alarm, syn};

    #[test]
    fn those_that_are_open_at_once_count() {
        let open = (0..100).map(|i| (i, syn(1, LONG)));
        assert_eq!(alarm(Concurrent::more_than(30), open), Some(31));
        let short = (0..100).map(|i| (i, syn(1, Ending::Answered(seconds(10)))));
        assert_eq!(alarm(Concurrent::more_than(10), short.clone()), None);
        assert_eq!(alarm(Concurrent::more_than(9), short), Some(10));
    }
}
