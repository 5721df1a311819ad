//! An observation: one record of a SYN, with where it came from and how good its time is.

use serde::{Deserialize, Serialize};

use super::{Interface, Mac, Timestamp, Tuple};

/// How good the time of a record is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// The record's own stamp.
    #[default]
    Exact,
    /// Told from the time since boot and the file's own time.
    Approximate,
    /// No stamp: the predecessor's time. No detector runs on it.
    None,
}

/// Who reported a packet: an input and the rule in it (its log prefix), hashed. Two rules that log
/// the same packet are told apart by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RuleId(pub u32);

/// One record of a SYN without ACK to a watched port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// When.
    pub time: Timestamp,
    /// How good that time is.
    pub clock: Clock,
    /// Who reported it.
    pub rule: RuleId,
    /// Between whom.
    pub tuple: Tuple,
    /// Initial sequence number, where the record carries one.
    pub isn: Option<u32>,
    /// IPv4 identification, where the record carries one that is not 0.
    pub ip_id: Option<u16>,
    /// Source MAC of the frame, where it carries one that stands for a station.
    pub mac: Option<Mac>,
    /// Interface it came in by.
    pub interface: Interface,
    /// TTL or hop limit as it arrived, before this machine counted it down; where the record carries
    /// one.
    pub ttl: Option<u8>,
    /// VLAN id of the frame's outermost tag, where it carries one.
    pub vlan: Option<u16>,
    /// 0 for a packet's own record; else how many more packets like one that was logged before the
    /// logger gathered here. They never make an attempt of their own where there is one already.
    pub repeats: u32,
}

impl Observation {
    /// A record of `tuple` at the exact `time` that tells nothing else.
    pub fn new(time: Timestamp, rule: RuleId, tuple: Tuple) -> Self {
        Self {
            time,
            clock: Clock::Exact,
            rule,
            tuple,
            isn: None,
            ip_id: None,
            mac: None,
            interface: Interface::default(),
            ttl: None,
            vlan: None,
            repeats: 0,
        }
    }
}
