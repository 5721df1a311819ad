//! The method that this program begins with: log each new connection to port 25
//! (`iptables -m state --state NEW -j LOG`), and count the day's lines by source address.
//!
//! Published in countless guides, with 100 or 500 a day as what is looked into. Each SYN matches
//! `state NEW`, the repeated ones too, so it counts packets.

use super::Rival;
use crate::model::Timestamp;
use crate::simulation::traffic::Syn;

/// Lines of a day.
#[derive(Debug)]
pub(super) struct LogLines {
    limit: u32,
    day: i64,
    lines: u32,
}

impl LogLines {
    pub(super) fn more_than(limit: u32) -> Self {
        Self {
            limit,
            day: i64::MIN,
            lines: 0,
        }
    }
}

impl Rival for LogLines {
    fn alarms(&mut self, time: Timestamp, _: &Syn) -> bool {
        let day = time.as_seconds().div_euclid(86_400);
        if day != self.day {
            (self.day, self.lines) = (day, 0);
        }
        self.lines += 1;
        self.lines > self.limit
    }

    fn bytes(&self) -> usize {
        size_of_val(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::rivals::testing::{LONG, alarm, syn};

    #[test]
    fn more_than_a_hundred_on_one_day() {
        let every = |seconds: i64| (0..1_000).map(move |i| (i * seconds, syn(1, LONG)));
        assert_eq!(alarm(LogLines::more_than(100), every(864)), None);
        assert_eq!(alarm(LogLines::more_than(100), every(800)), Some(101));
        assert_eq!(alarm(LogLines::more_than(500), every(60)), Some(501));
    }
}
