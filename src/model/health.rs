//! What a live run says about itself: what it did not see, and what happened to its means of seeing.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Interface;

/// A live source of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceName {
    /// Packets that a rule hands to user space (`NFLOG`, `nfnetlink_log`).
    Nflog,
    /// The kernel's ring buffer, where a rule logs packets as text (/dev/kmsg).
    Kmsg,
    /// Frames captured on an interface (libpcap).
    Capture(Interface),
    /// The kernel's connection tracking (`nfnetlink_conntrack`).
    Conntrack,
    /// The kernel's messages in the journal (journalctl).
    Journal,
    /// A log file that is followed, by its path as it was given.
    File(String),
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nflog => f.write_str("nflog"),
            Self::Kmsg => f.write_str("kmsg"),
            Self::Capture(interface) => write!(f, "capture:{}", interface.name()),
            Self::Conntrack => f.write_str("conntrack"),
            Self::Journal => f.write_str("journal"),
            Self::File(path) => write!(f, "file:{path}"),
        }
    }
}

/// How events were lost before they could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// The kernel's queue to the reader was full (NFLOG sequence gap, pcap drop).
    QueueFull,
    /// The ring buffer overwrote them before they were read.
    Overwritten,
    /// The rule's rate limit let them pass unlogged.
    RateLimited,
    /// They were read and could not be decoded.
    Undecoded,
    /// Their log was rotated or truncated away before they were read: an estimate.
    Rotated,
    /// Our rules were gone for a while: how many passed is not known.
    RulesGone,
}

impl fmt::Display for LossKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueFull => "queue full",
            Self::Overwritten => "overwritten",
            Self::RateLimited => "rate limited",
            Self::Undecoded => "undecoded",
            Self::Rotated => "rotated away",
            Self::RulesGone => "rules gone",
        })
    }
}

/// A process, as the kernel names it where it changes the firewall (`NFTA_GEN_PROC_*`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its name (at most 15 bytes): whatever it calls itself.
    pub name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// Something that happened to the means of seeing, told once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "notice")]
pub enum Notice {
    /// A source works.
    SourceReady {
        /// Which.
        source: SourceName,
    },
    /// A source stopped working; it is tried again.
    SourceFailed {
        /// Which.
        source: SourceName,
        /// Why.
        why: String,
    },
    /// The rule that feeds a source matches packets that do not arrive.
    Blind {
        /// Which source.
        source: SourceName,
        /// Packets that did not.
        packets: u64,
    },
    /// They arrive again.
    Sees {
        /// Which source.
        source: SourceName,
    },
    /// Somebody took our rules away or changed them.
    RulesGone {
        /// Who, where the kernel says it.
        by: Option<Process>,
    },
    /// Our rules are back.
    RulesRestored {
        /// Microseconds without them, from when their absence was told.
        after_micros: i64,
    },
    /// Our rules could not be put back.
    RulesLost {
        /// Why, or why it was not tried.
        why: String,
    },
    /// An interface that a source reads is gone.
    InterfaceGone {
        /// Which.
        interface: Interface,
    },
    /// It is back.
    InterfaceBack {
        /// Which.
        interface: Interface,
    },
    /// The machine slept.
    Suspended {
        /// For how long, in microseconds.
        micros: i64,
    },
    /// The wall clock was set.
    ClockStepped {
        /// By how much, in microseconds; negative where it was put back.
        micros: i64,
    },
}
