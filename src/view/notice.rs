//! What a live run says about itself, in words.

use std::time::Duration;

use crate::engine::spoken;
use crate::model::Notice;

/// `notice` in a sentence, with what to do where there is something; names in it may be hostile.
pub(crate) fn told(notice: &Notice) -> String {
    match notice {
        Notice::SourceReady { source } => format!("{source}: watching"),
        Notice::SourceFailed { source, why } => {
            format!("{source}: stopped ({why}); it is tried again each second")
        }
        Notice::Blind { source, packets } => format!(
            "{source}: blind: the rule matched {packets} packets that did not arrive; look at smtpwatch rules status"
        ),
        Notice::Sees { source } => format!("{source}: sees again"),
        Notice::RulesGone { by: Some(process) } => {
            format!("our rules were taken away by {process}")
        }
        Notice::RulesGone { by: None } => "our rules were taken away".to_owned(),
        Notice::RulesRestored { after_micros } => {
            format!("our rules are back after {}", millis(*after_micros))
        }
        Notice::RulesLost { why } => format!(
            "our rules are gone and stay gone ({why}); put them back with smtpwatch rules install"
        ),
        Notice::InterfaceGone { interface } => format!("interface {} is gone", interface.name()),
        Notice::InterfaceBack { interface } => format!("interface {} is back", interface.name()),
        Notice::Suspended { micros } => {
            format!("this machine slept for {}", spoken(duration(*micros)))
        }
        Notice::ClockStepped { micros } => format!(
            "the clock was put {} by {}",
            if *micros < 0 { "back" } else { "forward" },
            spoken(duration(*micros))
        ),
    }
}

fn duration(micros: i64) -> Duration {
    Duration::from_micros(micros.unsigned_abs())
}

fn millis(micros: i64) -> String {
    format!("{:.1} ms", duration(micros).as_secs_f64() * 1000.0)
}
