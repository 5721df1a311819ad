//! How an attempt ends, and what sources tell of it on the way.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Observation, Timestamp, Tuple};

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nobody can tell, or nobody can tell yet.
    Unknown,
    /// No answer came within 150 s.
    Unanswered,
    /// A router said that there is no way (ICMP destination unreachable, time exceeded).
    Unreachable,
    /// The responder reset it.
    Refused,
    /// Our own quarantine held it back.
    Held,
    /// The responder accepted it (SYN/ACK).
    Answered,
}

impl Outcome {
    /// All of them, in the order in which a later one takes the place of an earlier one.
    pub const ALL: [Self; 6] = [
        Self::Unknown,
        Self::Unanswered,
        Self::Unreachable,
        Self::Refused,
        Self::Held,
        Self::Answered,
    ];
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Unanswered => "unanswered",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Held => "held",
            Self::Answered => "answered",
        })
    }
}

/// What a source tells of an attempt after its SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseKind {
    /// The gateway's connection tracking took it in: nothing is said about its end yet.
    Tracked,
    /// The responder sent a SYN/ACK.
    Accepted,
    /// The originator completed the handshake, which a forged source cannot.
    Established,
    /// The responder reset it.
    Reset,
    /// A router said that there is no way.
    Unreachable,
    /// Whoever followed it gave up without an answer.
    TimedOut,
    /// The connection is over.
    Closed,
}

impl ResponseKind {
    /// How the attempt ended as far as this tells.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Tracked | Self::Closed => Outcome::Unknown,
            Self::Accepted | Self::Established => Outcome::Answered,
            Self::Reset => Outcome::Refused,
            Self::Unreachable => Outcome::Unreachable,
            Self::TimedOut => Outcome::Unanswered,
        }
    }
}

/// One record of what became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// When.
    pub time: Timestamp,
    /// The attempt: originator and responder before any translation.
    pub tuple: Tuple,
    /// The attempt's initial sequence number, where the record tells it.
    pub isn: Option<u32>,
    /// What happened.
    pub kind: ResponseKind,
    /// The same connection as it is seen outside, where the source knows: the originator's address
    /// and port after source NAT, the responder's after destination NAT.
    pub outside: Option<Tuple>,
    /// Bytes of the whole connection, from the originator and from the responder, IP headers
    /// included; known at its end.
    pub bytes: Option<(u64, u64)>,
}

/// What a source of evidence hands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A SYN to a watched port.
    Syn(Observation),
    /// What became of one.
    Response(Response),
}

impl Evidence {
    /// When.
    pub fn time(&self) -> Timestamp {
        match self {
            Self::Syn(observation) => observation.time,
            Self::Response(response) => response.time,
        }
    }

    /// Puts it at another time.
    pub fn set_time(&mut self, time: Timestamp) {
        match self {
            Self::Syn(observation) => observation.time = time,
            Self::Response(response) => response.time = time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_stand_in_the_order_in_which_they_replace_each_other() {
        assert!(Outcome::ALL.is_sorted());
    }
}
