//! Emerging Threats' rule of frequent mail, sid 2002087, as Suricata's manual quotes it: `flow:established;
//! content:"mail from|3a|"; threshold: type threshold, track by_src, count 10, seconds 60`; in the
//! Internet's direction it is made for servers here, and is turned round for this.
//!
//! It sees established connections alone; one mail for each is assumed.

use super::window::Window;
use super::{Rival, is_answered, seconds};
use crate::model::Timestamp;
use crate::simulation::traffic::Syn;

/// Mails of the last minute.
#[derive(Debug, Default)]
pub(super) struct FrequentMail(Window);

impl Rival for FrequentMail {
    fn alarms(&mut self, time: Timestamp, syn: &Syn) -> bool {
        is_answered(syn) && self.0.count(time, seconds(60)) >= 10
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::rivals::testing::{LONG, alarm, syn};

    #[test]
    fn the_tenth_in_a_minute() {
        let every = |seconds: i64| (0..100).map(move |i| (i * seconds, syn(1, LONG)));
        assert_eq!(alarm(FrequentMail::default(), every(6)), Some(10));
        assert_eq!(alarm(FrequentMail::default(), every(7)), None);
    }
}
