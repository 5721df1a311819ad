//! `BotFlex` (Khattak et al., "`BotFlex`: A Community-Driven Tool for Botnet Detection", 2015), `spam.bro`: more
//! than `smtp_threshold` = 20 SMTP connections of a source within `wnd_spam` = 5 min.
//!
//! It sees a connection by its first SMTP command, so one that is answered. Its rule on MX queries has the
//! threshold 0, which every mail server and every admin meets; it is left out.

use super::window::Window;
use super::{Rival, is_answered, seconds};
use crate::model::Timestamp;
use crate::simulation::traffic::Syn;

/// Connections of the last 5 min. A window that slides alarms sooner than one that begins anew.
#[derive(Debug, Default)]
pub(super) struct Connections(Window);

impl Rival for Connections {
    fn alarms(&mut self, time: Timestamp, syn: &Syn) -> bool {
        is_answered(syn) && self.0.count(time, seconds(300)) > 20
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
    fn the_twenty_first_in_five_minutes() {
        let each = |seconds: i64| (0..100).map(move |i| (i * seconds, syn(1, LONG)));
        assert_eq!(alarm(Connections::default(), each(15)), Some(21));
        assert_eq!(alarm(Connections::default(), each(16)), None);
    }
}
