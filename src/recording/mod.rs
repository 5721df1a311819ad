//! Floor 5: the engine's inputs as JSON lines, written and read.
//!
//! The first line is a [`Header`] with all that the engine began with; each other one is an input and
//! the time up to which everything had been handed in. Fed to a new engine they give the same effects,
//! bit for bit. Nothing is left out: a recording is as private as what it was made of.

mod player;
mod recorder;

use std::io;

use serde::{Deserialize, Serialize};

pub(crate) use player::Player;
pub(crate) use recorder::Recorder;

use crate::model::Timestamp;
use crate::settings::Settings;

/// The schema's name.
const SCHEMA: &str = "smtpwatch.recording.v1";
/// The longest line read: an input may hold whole lease files.
const MAX_LINE: usize = 64 << 20;

/// What a recording begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header {
    schema: String,
    /// What the engine was told to do.
    pub(crate) settings: Settings,
    /// What its tables were hashed with.
    pub(crate) seed: u64,
    /// When, in the time that inputs bear.
    pub(crate) started_at: Timestamp,
}

impl Header {
    /// The header of a run that starts now.
    pub(crate) fn new(settings: Settings, seed: u64, started_at: Timestamp) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            settings,
            seed,
            started_at,
        }
    }
}

/// What goes wrong with a recording.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordingError {
    /// It cannot be made.
    #[error("{name}: cannot be made for recording: {source}{}", advice(source))]
    Create {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written any more.
    #[error("{name}: cannot be written: {source}; the recording ends here")]
    Write {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It cannot be opened or read.
    #[error("{name}: cannot be read: {source}")]
    Read {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Its first line is no header of ours.
    #[error(
        "{name}:1: no recording: {why}; smtpwatch watch --record FILE makes one (schema {SCHEMA})"
    )]
    NoRecording {
        /// Its name.
        name: String,
        /// What is wrong with the line.
        why: String,
    },
    /// A line is no input.
    #[error("{name}:{line}: not an input of the engine: {source}")]
    Line {
        /// Its name.
        name: String,
        /// Which line, counted from 1.
        line: u64,
        /// Why.
        source: serde_json::Error,
    },
    /// A line is longer than any input.
    #[error("{name}:{line}: longer than {MAX_LINE} bytes")]
    TooLong {
        /// Its name.
        name: String,
        /// Which line.
        line: u64,
    },
}

fn advice(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::AlreadyExists {
        "; it is left as it is: give another name"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests;
