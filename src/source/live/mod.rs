//! Floor 5: what is seen as it happens, through NFLOG, the kernel's ring buffer, the journal, a log that
//! is followed, a capture, or connection tracking.
//!
//! A source is a descriptor to wait for and a read that never blocks and always ends: it answers what
//! is there by then, up to a bound, with what was lost on the way. It asks no clock: the time of arrival
//! comes in, so that a clock that is set changes no answer. Nothing is retried here: an error ends the
//! source, and whoever holds it may open it again.
//!
//! A source belongs to the network namespace of the thread that opens it and has to be read there.

mod begun;
mod capture;
mod conntrack;
pub(crate) mod dns;
mod file;
mod journal;
mod kmsg;
mod nflog;
mod text;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

use crate::model::{Evidence, Interface, LossKind, RuleId, SourceName, Timestamp};
use crate::settings::Ports;
use crate::sys;

/// What one read takes at the most.
const MAX_EVENTS: u64 = 4096;

/// Why a source cannot be opened, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LiveError {
    /// Of NFLOG.
    #[error(transparent)]
    Nflog(#[from] sys::nflog::Error),
    /// Of connection tracking.
    #[error(transparent)]
    Conntrack(#[from] sys::conntrack::Error),
    /// The right to read the ring buffer is missing.
    #[error("to read /dev/kmsg needs CAP_SYSLOG: run as root")]
    KmsgNotPermitted,
    /// The ring buffer cannot be read.
    #[error("{step} /dev/kmsg failed: {source}")]
    Kmsg {
        /// What was being done.
        step: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The right to capture is missing.
    #[error("to capture on {} needs CAP_NET_RAW: run as root", .interface.name().escape_default())]
    CaptureNotPermitted {
        /// Where.
        interface: Interface,
    },
    /// An interface is not there, or is down; when it is back the source can be opened again.
    #[error("capture on {} is not possible: the interface {why}", .interface.name().escape_default())]
    InterfaceGone {
        /// Which.
        interface: Interface,
        /// What it is instead.
        why: &'static str,
    },
    /// A log cannot be followed.
    #[error("{step} {} failed: {cause}{}", .path.display(), advice(.cause))]
    File {
        /// What was being done.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// It is nothing that grows line by line.
    #[error("{} is {what}, which cannot be followed: {}", .path.display(), instead(.what, .path))]
    NoLog {
        /// Where it is.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// There is no journalctl.
    #[error(
        "starting journalctl failed: {0}; without systemd's journal use --source kmsg or --source file:PATH"
    )]
    NoJournalctl(std::io::Error),
    /// journalctl gave up.
    #[error("journalctl ended ({status}): {}", .said.escape_debug())]
    JournalEnded {
        /// How.
        status: String,
        /// What it said.
        said: String,
    },
    /// journalctl's output cannot be read.
    #[error("reading from journalctl failed: {0}")]
    Journal(std::io::Error),
    /// Its descriptor cannot be waited for.
    #[error("{source_name}: cannot wait for it: {cause}")]
    Watch {
        /// Which source.
        source_name: SourceName,
        /// Why not.
        cause: std::io::Error,
    },
    /// libpcap refuses.
    #[error("{step} on {} failed: {}", .interface.name().escape_default(), .why.escape_default())]
    Capture {
        /// What was being done.
        step: &'static str,
        /// Where.
        interface: Interface,
        /// libpcap's words.
        why: String,
    },
}

/// What to do about `cause`.
fn advice(cause: &std::io::Error) -> &'static str {
    match cause.kind() {
        std::io::ErrorKind::PermissionDenied => "; run as root, or with the group that may read it",
        std::io::ErrorKind::NotFound => "; the folder of the log must be there",
        std::io::ErrorKind::StorageFull => "; raise fs.inotify.max_user_watches",
        _ => "",
    }
}

/// What [`LiveError::NoLog`] calls systemd's own files.
const BINARY_JOURNAL: &str = "a journal of systemd's";

/// What to do with `what` is no log that grows.
fn instead(what: &str, path: &Path) -> String {
    if what == BINARY_JOURNAL {
        "--source journal follows it".to_owned()
    } else {
        format!("`smtpwatch report {}` reads it", path.display())
    }
}

/// What is asked for of a source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// The watched ports.
    pub(crate) ports: Ports,
    /// The NFLOG group.
    pub(crate) group: u16,
    /// The prefixes of the rules whose records count (NFLOG, kernel log), whole; none given, those of
    /// any rule do.
    pub(crate) prefixes: Vec<Vec<u8>>,
    /// Programs whose lines are taken for the kernel's (text logs).
    pub(crate) tags: Vec<Vec<u8>>,
    /// The zone of stamps without an offset (text logs).
    pub(crate) zone: Option<TimeZone>,
    /// How far sources that remember were read before ([`Batch::position`]).
    pub(crate) resume_at: Vec<(SourceName, String)>,
    /// Whether a new connection is an attempt (connection tracking), and not only an answer to one that
    /// another source has seen.
    pub(crate) opens_attempts: bool,
}

impl Options {
    /// Has `source` go on at `position` when it is opened again.
    pub(crate) fn resume(&mut self, source: &SourceName, position: &str) {
        let known = self.resume_at.iter_mut().find(|(name, _)| name == source);
        match known {
            Some((_, known)) => position.clone_into(known),
            None => self.resume_at.push((source.clone(), position.to_owned())),
        }
    }

    /// How far `source` was read by an earlier run.
    fn position_of(&self, source: &SourceName) -> Option<&str> {
        let mut all = self.resume_at.iter();
        all.find(|(name, _)| name == source)
            .map(|(_, position)| position.as_str())
    }
}

/// What reads of live sources gave. It is handed in again, emptied, so that its memory is used again.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// SYNs to watched ports and what became of them, in the order in which they arrived.
    pub(crate) evidence: Vec<Evidence>,
    /// The places in `evidence` of what stands too late in its log to be put in order, ascending.
    pub(crate) late: Vec<usize>,
    /// Records that arrived, decoded or not: what the counter of the rule that wrote them has
    /// counted, less what was lost.
    pub(crate) events: u64,
    /// What was lost, and how; each kind once at the most.
    pub(crate) lost: Vec<(LossKind, u64)>,
    /// How far a source that remembers has been read with this batch, where that has changed: what is
    /// to be handed in as [`Options::resume_at`] after a restart, and kept with what was read or not at all.
    pub(crate) position: Option<String>,
    /// What is to be told to the admin, each a sentence.
    pub(crate) notes: Vec<String>,
    /// How often the kernel said that the queue to the reader had been full.
    pub(crate) overruns: u64,
    /// Whether the last read took everything that was there; else there may be more to read at once.
    pub(crate) is_drained: bool,
}

impl Batch {
    /// Empties it.
    pub(crate) fn clear(&mut self) {
        self.evidence.clear();
        self.late.clear();
        self.lost.clear();
        self.events = 0;
        self.position = None;
        self.notes.clear();
        self.overruns = 0;
        self.is_drained = false;
    }

    fn lose(&mut self, kind: LossKind, events: u64) {
        if events == 0 {
            return;
        }
        match self.lost.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count = count.saturating_add(events),
            None => self.lost.push((kind, events)),
        }
    }
}

/// A live source that is open.
#[derive(Debug)]
pub(crate) enum Live {
    /// Packets that a rule hands to user space.
    Nflog(Box<nflog::Nflog>),
    /// The kernel's ring buffer.
    Kmsg(Box<kmsg::Kmsg>),
    /// A capture.
    Capture(Box<capture::Capture>),
    /// The kernel's messages in the journal.
    Journal(Box<journal::Journal>),
    /// A log.
    File(Box<file::Follower>),
    /// Connection tracking.
    Conntrack(Box<conntrack::Conntrack>),
}

/// Opens the source `name`, in the network namespace of this thread. Where it fails the error says
/// what to do, so that a caller who has the choice can go on with the next one and say why.
pub(crate) fn open(name: &SourceName, options: &Options) -> Result<Live, LiveError> {
    Ok(match *name {
        SourceName::Nflog => Live::Nflog(Box::new(nflog::Nflog::open(options)?)),
        SourceName::Kmsg => Live::Kmsg(Box::new(kmsg::Kmsg::open(options)?)),
        SourceName::Capture(interface) => {
            Live::Capture(Box::new(capture::Capture::open(interface, options)?))
        }
        SourceName::Journal => Live::Journal(Box::new(journal::Journal::open(
            options,
            options.position_of(name),
        )?)),
        SourceName::File(ref path) => Live::File(Box::new(file::Follower::open(
            Path::new(path),
            options,
            options.position_of(name),
        )?)),
        SourceName::Conntrack => Live::Conntrack(Box::new(conntrack::Conntrack::open(options)?)),
    })
}

impl Live {
    /// Reads what is there into `batch`, beside what that holds; all of it bears the time `now`. An
    /// error does not take back what was read before it.
    pub(crate) fn read(&mut self, now: Timestamp, batch: &mut Batch) -> Result<(), LiveError> {
        batch.is_drained = false;
        match self {
            Self::Nflog(source) => source.read(now, batch),
            Self::Kmsg(source) => source.read(now, batch),
            Self::Capture(source) => source.read(now, batch),
            Self::Conntrack(source) => source.read(now, batch),
            Self::Journal(source) => source.read(now, batch),
            Self::File(source) => source.read(now, batch),
        }
    }

    /// How far the time of day is ahead of the time that inputs bear, in microseconds: records that bear
    /// their own time are moved back by it.
    pub(crate) fn set_wall_offset(&mut self, micros: i64) {
        match self {
            Self::Journal(source) => source.text.set_wall_offset(micros),
            Self::File(source) => source.text.set_wall_offset(micros),
            Self::Nflog(_) | Self::Kmsg(_) | Self::Capture(_) | Self::Conntrack(_) => {}
        }
    }

    /// Watches `ports` from now on.
    pub(crate) fn watch(&mut self, ports: &Ports) -> Result<(), LiveError> {
        match self {
            Self::Nflog(source) => source.watch(ports),
            Self::Kmsg(source) => source.watch(ports),
            Self::Capture(source) => return source.watch(ports),
            Self::Journal(source) => source.text.watch(ports),
            Self::File(source) => source.text.watch(ports),
            Self::Conntrack(source) => source.watch(ports),
        }
        Ok(())
    }

    /// Forgets the names of interfaces, which may have been given to others.
    pub(crate) fn forget_interfaces(&mut self) {
        match self {
            Self::Nflog(source) => source.names.forget(),
            Self::Kmsg(_) | Self::Journal(_) | Self::File(_) | Self::Conntrack(_) => {}
            Self::Capture(source) => source.names.forget(),
        }
    }
}

impl AsFd for Live {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Nflog(source) => source.as_fd(),
            Self::Kmsg(source) => source.as_fd(),
            Self::Capture(source) => source.as_fd(),
            Self::Journal(source) => source.as_fd(),
            Self::File(source) => source.as_fd(),
            Self::Conntrack(source) => source.as_fd(),
        }
    }
}

impl AsRawFd for Live {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// Names of interfaces by their index, as many as fit: two that share a place take turns.
#[derive(Debug)]
struct Names {
    known: Vec<(u32, Interface)>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            known: vec![(0, Interface::default()); 64],
        }
    }
}

impl Names {
    /// The name of the interface `index`; none for 0, and for one that is gone.
    fn name(&mut self, index: u32) -> Interface {
        let place = index as usize % self.known.len();
        let known = &mut self.known[place];
        if known.0 != index {
            let Ok(name) = nix::net::if_::if_indextoname(index) else {
                return Interface::default();
            };
            *known = (index, Interface::new(name.to_bytes()));
        }
        known.1
    }

    fn forget(&mut self) {
        self.known.fill((0, Interface::default()));
    }
}

/// Which rules' records count, and the id of each.
#[derive(Debug)]
struct Rules {
    /// What tells this source's rules from another's.
    source: u32,
    wanted: Vec<Vec<u8>>,
    /// The last prefix and its id: most records are of one rule.
    last: (Vec<u8>, RuleId),
}

impl Rules {
    fn new(source: u32, wanted: &[Vec<u8>]) -> Self {
        Self {
            source,
            wanted: wanted.to_vec(),
            last: (Vec::new(), super::part::rule(source, b"")),
        }
    }

    /// Whether records with `prefix` count.
    fn want(&self, prefix: &[u8]) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| wanted == prefix)
    }

    /// Whether a record that begins so may have one of the prefixes.
    fn may_begin(&self, message: &[u8]) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| message.starts_with(wanted))
    }

    fn id(&mut self, prefix: &[u8]) -> RuleId {
        if self.last.0 != prefix {
            self.last.1 = super::part::rule(self.source, prefix);
            self.last.0.clear();
            self.last.0.extend_from_slice(prefix);
        }
        self.last.1
    }
}

#[cfg(test)]
mod tests;
