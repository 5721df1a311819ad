//! ntopng's host check "SMTP server contacts" (`scripts/lua/modules/check_definitions/host/smtp_contacts.lua`:
//! operator `gt`, threshold 5; checked every 5 min): more than 5 SMTP servers.

use super::window::Window;
use super::{Rival, seconds};
use crate::model::Timestamp;
use crate::simulation::traffic::Syn;

/// Servers of the last 5 min. A window that slides alarms sooner than one that begins anew.
#[derive(Debug, Default)]
pub(super) struct Contacts(Window);

impl Rival for Contacts {
    fn alarms(&mut self, time: Timestamp, syn: &Syn) -> bool {
        syn.number == 0 && self.0.servers(time, seconds(300), syn.destination) > 5
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
    fn the_sixth_server_in_five_minutes() {
        let each = |seconds: i64| {
            (0..100).map(move |i| (i * seconds, syn(u32::try_from(i / 2).unwrap(), LONG)))
        };
        assert_eq!(alarm(Contacts::default(), each(27)), Some(11));
        assert_eq!(alarm(Contacts::default(), each(40)), None);
    }
}
