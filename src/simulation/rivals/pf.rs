//! pf's `max-src-conn-rate 15/5`, as OpenBSD's FAQ and pf.conf(5) show it: more than 15 connections in 5 s
//! puts the source into a table that is blocked (`overload`).
//!
//! Only connections whose handshake is completed count. pf.conf(5) calls the rate "an approximation
//! calculated as a moving average": here the count so far is taken down by the share of the 5 s that has
//! gone since the last connection, in whole seconds, and is nothing after 5.

use super::{Rival, is_answered};
use crate::model::Timestamp;
use crate::simulation::traffic::Syn;

const LIMIT: f64 = 15.0;
const SECONDS: u8 = 5;

/// The moving count.
#[derive(Debug, Default)]
pub(super) struct ConnectionRate {
    count: f64,
    last: Timestamp,
}

impl Rival for ConnectionRate {
    fn alarms(&mut self, time: Timestamp, syn: &Syn) -> bool {
        if !is_answered(syn) {
            return false;
        }
        let gone = u8::try_from(time.seconds_since(self.last)).unwrap_or(SECONDS);
        self.count *= f64::from(SECONDS.saturating_sub(gone)) / f64::from(SECONDS);
        self.count += 1.0;
        self.last = time;
        self.count > LIMIT
    }

    fn bytes(&self) -> usize {
        size_of_val(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::rivals::testing::{LONG, alarm, syn};
    use crate::simulation::traffic::Ending;

    #[test]
    fn more_than_fifteen_at_once_that_are_answered() {
        let at_once = |ending| (0..100).map(move |i| (7, syn(i, ending)));
        assert_eq!(alarm(ConnectionRate::default(), at_once(LONG)), Some(16));
        assert_eq!(
            alarm(ConnectionRate::default(), at_once(Ending::Refused)),
            None
        );
        let three_a_second = (0..1_000).map(|i| (i / 3, syn(1, LONG)));
        assert_eq!(alarm(ConnectionRate::default(), three_a_second), None);
        let four_a_second = (0..1_000).map(|i| (i / 4, syn(1, LONG)));
        assert!(alarm(ConnectionRate::default(), four_a_second).is_some());
    }
}
