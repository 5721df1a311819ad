//! Connections of which a transaction was told while they lasted (Suricata's `smtp`): what is told of them
//! later, other transactions and the connection itself when it has ended, is the same attempt.
//!
//! A log that is read whole puts transactions where their connection began. Here nobody waits for its
//! end: the first transaction stands for the attempt. What is remembered ends with the process.

use std::collections::{HashMap, VecDeque};

use crate::model::{Evidence, RuleId, Timestamp, Tuple};

use super::super::reorder::HORIZON_MICROS;

/// Connections that are remembered.
const MAX_BEGUN: usize = 65_536;

/// Connections whose end is to come, and when each was told of first.
pub(super) struct Begun {
    /// What tells of transactions.
    transactions: RuleId,
    first: HashMap<Tuple, Timestamp>,
    /// In the order in which they were told, those that have ended, too.
    order: VecDeque<(Timestamp, Tuple)>,
}

impl Begun {
    /// Transactions are what `transactions` tells of.
    pub(super) fn new(transactions: RuleId) -> Self {
        Self {
            transactions,
            first: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Whether `evidence` tells of another attempt than what was told before.
    pub(super) fn is_new(&mut self, evidence: &Evidence) -> bool {
        let Evidence::Syn(observation) = evidence else {
            return true;
        };
        let (time, tuple) = (observation.time, observation.tuple);
        let first = self.first.get(&tuple).copied();
        if observation.rule != self.transactions {
            self.first.remove(&tuple);
            return first.is_none_or(|first| time > first);
        }
        if first.is_some_and(|first| time.micros_since(first) <= HORIZON_MICROS) {
            return false;
        }
        if self.order.len() == MAX_BEGUN
            && let Some((time, tuple)) = self.order.pop_front()
            && self.first.get(&tuple) == Some(&time)
        {
            self.first.remove(&tuple);
        }
        self.first.insert(tuple, time);
        self.order.push_back((time, tuple));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Observation;

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut begun = Begun::new(RuleId(1));
        let transaction = |number: u32| {
            Evidence::Syn(Observation::new(
                Timestamp::from_seconds(number.into()),
                RuleId(1),
                Tuple {
                    source: std::net::Ipv4Addr::from(number).into(),
                    destination: [203, 0, 113, 1].into(),
                    source_port: 1,
                    destination_port: 25,
                },
            ))
        };
        for number in 0..70_000 {
            assert!(begun.is_new(&transaction(number)));
        }
        assert_eq!(
            (begun.first.len(), begun.order.len()),
            (MAX_BEGUN, MAX_BEGUN)
        );
        assert!(!begun.is_new(&transaction(69_999)));
        assert!(begun.is_new(&transaction(0)));
    }
}
