//! Threshold random walk (Jung, Paxson, Berger, Balakrishnan: "Fast Portscan Detection Using Sequential
//! Hypothesis Testing", IEEE S&P 2004): first contacts of a source that succeed with probability .8 where
//! it is honest and .2 where it scans; alpha .01, beta .99.
//!
//! A source that was found honest is tested again from the start: it would never be found otherwise, however
//! long it fails.

use std::collections::HashSet;
use std::net::IpAddr;

use foldhash::quality::FixedState;

use super::Rival;
use crate::model::Timestamp;
use crate::simulation::traffic::{Ending, Syn};

const HONEST: f64 = 0.8;
const SCANNER: f64 = 0.2;
const FALSE_ALARM: f64 = 0.01;
const DETECTION: f64 = 0.99;

/// The walk, and who was contacted.
#[derive(Debug)]
pub(super) struct RandomWalk {
    /// How much likelier a scanner is.
    ratio: f64,
    contacted: HashSet<IpAddr, FixedState>,
}

impl Default for RandomWalk {
    fn default() -> Self {
        Self {
            ratio: 1.0,
            contacted: HashSet::with_hasher(FixedState::with_seed(0)),
        }
    }
}

impl Rival for RandomWalk {
    fn alarms(&mut self, _: Timestamp, syn: &Syn) -> bool {
        if syn.number > 0 || !self.contacted.insert(syn.destination) {
            return false;
        }
        self.ratio *= match syn.ending {
            Ending::Answered(_) => SCANNER / HONEST,
            Ending::Refused | Ending::Dropped(_) => (1.0 - SCANNER) / (1.0 - HONEST),
        };
        if self.ratio <= (1.0 - DETECTION) / (1.0 - FALSE_ALARM) {
            self.ratio = 1.0;
        }
        self.ratio >= DETECTION / FALSE_ALARM
    }

    fn bytes(&self) -> usize {
        size_of_val(self) + self.contacted.capacity() * size_of::<IpAddr>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::rivals::testing::{LONG, alarm, syn};

    #[test]
    fn four_failures_in_a_row_and_no_success_more() {
        let failing = (0..9).map(|i| (0, syn(i, Ending::Refused)));
        assert_eq!(alarm(RandomWalk::default(), failing), Some(4));
        let same = (0..9).map(|_| (0, syn(1, Ending::Refused)));
        assert_eq!(alarm(RandomWalk::default(), same), None);
        let answered = (0..999).map(|i| (0, syn(i, LONG)));
        assert_eq!(alarm(RandomWalk::default(), answered), None);
    }
}
