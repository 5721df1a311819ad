//! Floor 5: the history: SQLite rows by minute, written and read.
//!
//! [`Gatherer`] sums up what the engine counts, [`Writer`] puts it into the file each second on a
//! thread of its own, and [`Past`] is what a report reads from it, also while it is written. What
//! could not be kept is counted and said; nothing here ever holds the engine up. [`resume`] is what a new
//! run goes on with, [`who`] tells who had an address outside, and [`forget`] deletes what is known of a
//! device. It does not decide what is worth a report.

mod changes;
mod forget;
mod gather;
mod packed;
mod past;
mod receivers;
mod relive;
mod resume;
mod retention;
mod rows;
mod schema;
mod sums;
mod tables;
mod who;
mod writer;

use std::io;
use std::path::PathBuf;

pub(crate) use forget::{Forgotten, forget, would_forget};
pub(crate) use gather::Gatherer;
pub(crate) use past::{Asked, Past};
pub(crate) use receivers::receivers;
pub(crate) use relive::{ReliveAsked, Relived, Told, relive};
pub(crate) use resume::{Resumed, resume};
pub(crate) use who::{Candidate, WhoAnswer, WhoAsked, audit, who};
pub(crate) use writer::Writer;

/// The history's name in the state directory.
pub(crate) const FILE: &str = "history.sqlite";

/// What keeps the history from being opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The state directory cannot be made.
    #[error("{}: the state directory cannot be made: {source}; give another with --state-dir", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no history.
    #[error("{}: there is no history here; smtpwatch watch --state-dir writes one", path.display())]
    None {
        /// Where it would be.
        path: PathBuf,
    },
    /// It may not be read.
    #[error("{}: {source}; the history is for root and the group of its directory", path.display())]
    Denied {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be opened or read.
    #[error("{}: {step}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        source: rusqlite::Error,
    },
    /// It is damaged, or another program's.
    #[error("{}: {what}; smtpwatch watch sets it aside when it starts, and begins a new one", path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
    /// It was written by an earlier version, and is to be migrated by whoever writes it.
    #[error("{}: schema version {found} is of an earlier smtpwatch: smtpwatch watch brings it to this one when it \
             starts", path.display())]
    Older {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// Nothing is known of the device.
    #[error("{}: {name:?} is no device in it: give the id, the MAC or an address as smtpwatch report shows them",
            path.display())]
    NoDevice {
        /// Which file.
        path: PathBuf,
        /// What it was called.
        name: String,
    },
    /// Several devices are called so.
    #[error("{name:?} may be each of {count} devices: give the id of one of {}", candidates.join(", "))]
    Ambiguous {
        /// What was given.
        name: String,
        /// How many there are.
        count: usize,
        /// Their ids, the first of them.
        candidates: Vec<String>,
    },
    /// It was written by a later version.
    #[error("{}: schema version {found}, and this smtpwatch knows up to {known}: install the newer one, or give another \
             --state-dir", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// A file that is not ours cannot be set aside.
    #[error("{}: {what}, and it cannot be renamed to set it aside: {source}; move it away", path.display())]
    Stuck {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// Why it cannot be renamed.
        source: io::Error,
    },
    /// The thread that writes cannot be started.
    #[error("the history's thread cannot be started: {0}")]
    Thread(io::Error),
}

#[cfg(test)]
mod tests;
