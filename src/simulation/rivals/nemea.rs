//! CESNET's NEMEA, `smtp_spam_detector` (NEMEA-Detectors; Macoun): flows of one source to more than 10 mail
//! servers within 300 s are a spam bot's.

use super::window::Window;
use super::{Rival, seconds};
use crate::model::Timestamp;
use crate::simulation::traffic::Syn;

/// Servers of the last 300 s.
#[derive(Debug, Default)]
pub(super) struct Servers(Window);

impl Rival for Servers {
    fn alarms(&mut self, time: Timestamp, syn: &Syn) -> bool {
        syn.number == 0 && self.0.servers(time, seconds(300), syn.destination) > 10
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
    fn the_eleventh_server_in_300_seconds() {
        let each = |seconds: i64| {
            (0..100).map(move |i| (i * seconds, syn(u32::try_from(i).unwrap(), LONG)))
        };
        assert_eq!(alarm(Servers::default(), each(30)), Some(11));
        assert_eq!(alarm(Servers::default(), each(31)), None);
    }
}
