//! What a live run has to say, in words.

use std::time::Duration;

use crate::engine::{Effect, Engine, because_of, called, grouped, spoken};
use crate::model::{Notice, Observation, Spoof};

/// `effect` in a sentence, where it is worth one, and whether it is an alarm; names in it may be
/// hostile.
pub(crate) fn told(effect: &Effect, engine: &Engine) -> Option<(String, bool)> {
    match effect {
        Effect::Found { device, finding } => {
            let device = engine.device(*device)?;
            let verdict = finding.detector.verdict();
            // What only explains a graver verdict stands in the events, the report and the history.
            if device.verdict() > verdict {
                return None;
            }
            let why = because_of(device, finding);
            Some((format!("{verdict}: {why}"), true))
        }
        Effect::Lost {
            source,
            kind,
            events,
        } => Some((
            format!("{source}: {} not seen ({kind})", grouped(*events)),
            false,
        )),
        Effect::Health(notice) => Some((sentence(notice), is_alarm(notice))),
        Effect::Spoofed {
            observation,
            reason,
            is_first: true,
        } => Some((forged(observation, *reason), true)),
        Effect::Shared { device } => {
            let device = called(engine.device(*device)?);
            let text = format!(
                "{device}: several machines stand behind it (a NAT or an access point); which of them sends cannot be told here"
            );
            Some((text, true))
        }
        Effect::Spoofed { .. } | Effect::Attempt { .. } | Effect::Responded { .. } => None,
    }
}

/// A sender that is not who it says.
fn forged(observation: &Observation, reason: Spoof) -> String {
    let mac = match observation.mac {
        Some(mac) => format!("the frame's MAC is {mac}"),
        None => "there is no MAC".to_owned(),
    };
    format!(
        "forged sender {} on {} ({reason}; {mac}): counted against nobody",
        observation.tuple.source,
        observation.interface.name(),
    )
}

fn is_alarm(notice: &Notice) -> bool {
    matches!(
        notice,
        Notice::Blind { .. } | Notice::RulesLost { .. } | Notice::SourceFailed { .. }
    )
}

/// `notice` in a sentence, with what to do where there is something.
pub(super) fn sentence(notice: &Notice) -> String {
    match notice {
        Notice::SourceReady { source } => format!("{source}: watching"),
        Notice::SourceFailed { source, why } => {
            format!("{source}: stopped: {why}; it is tried again each second")
        }
        Notice::Blind { source, packets } => format!(
            "{source}: blind: the rule matched {} packets that did not arrive; look at smtpwatch rules status",
            grouped(*packets)
        ),
        Notice::Sees { source } => format!("{source}: sees again"),
        Notice::RulesGone { by: Some(process) } => {
            format!("our rules were taken away or changed by {process}")
        }
        Notice::RulesGone { by: None } => "our rules were taken away or changed".to_owned(),
        Notice::RulesRestored { after_micros } => {
            format!("our rules are back after {}", millis(*after_micros))
        }
        Notice::RulesLost { why } => format!(
            "our rules are gone and stay gone: {why}; put them back with smtpwatch rules install"
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

/// A short time.
pub(super) fn millis(micros: i64) -> String {
    format!("{:.1} ms", duration(micros).as_secs_f64() * 1000.0)
}
