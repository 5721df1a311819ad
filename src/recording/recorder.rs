//! Writes a recording, behind every input of a live run. An error ends the recording and nothing else.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{Header, RecordingError};
use crate::engine::Input;
use crate::model::Timestamp;

/// It says who talked to whom.
const MODE: u32 = 0o600;
const BUFFER: usize = 64 << 10;

/// Writes inputs as they are handed to the engine.
#[derive(Debug)]
pub(crate) struct Recorder {
    name: String,
    to: BufWriter<File>,
    /// The line that is being made.
    line: Vec<u8>,
    has_failed: bool,
    unrecorded: u64,
    /// What went wrong and has not been told.
    error: Option<io::Error>,
}

impl Recorder {
    /// Makes the recording at `path`, where there must be nothing yet, and writes its header.
    pub(crate) fn create(path: &Path, header: &Header) -> Result<Self, RecordingError> {
        let name = path.display().to_string();
        let failed = |source| RecordingError::Create {
            name: name.clone(),
            source,
        };
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(path)
            .map_err(failed)?;
        let mut recorder = Self::over(name.clone(), file);
        recorder.begin(header).map_err(failed)?;
        Ok(recorder)
    }

    /// A recording into `file`, of which nothing is written yet.
    pub(super) fn over(name: String, file: File) -> Self {
        Self {
            name,
            to: BufWriter::with_capacity(BUFFER, file),
            line: Vec::with_capacity(1024),
            has_failed: false,
            unrecorded: 0,
            error: None,
        }
    }

    fn begin(&mut self, header: &Header) -> io::Result<()> {
        serde_json::to_writer(&mut self.to, header)?;
        self.to.write_all(b"\n")?;
        self.to.flush()
    }

    /// Records `input`, taken at `now`. To be called before the engine takes it.
    pub(crate) fn write(&mut self, input: &Input, now: Timestamp) {
        if self.has_failed {
            self.unrecorded += 1;
            return;
        }
        self.line.clear();
        let written = write!(self.line, "{{\"now\":{},\"input\":", now.as_micros())
            .and_then(|()| Ok(serde_json::to_writer(&mut self.line, input)?))
            .and_then(|()| {
                self.line.extend_from_slice(b"}\n");
                self.to.write_all(&self.line)
            });
        if let Err(error) = written {
            self.unrecorded += 1;
            self.fail(error);
        }
    }

    /// Hands what was recorded to the system; to be called each second, and at the end. Answers what
    /// went wrong since the recording began, once.
    pub(crate) fn flush(&mut self) -> Result<(), RecordingError> {
        if !self.has_failed
            && let Err(error) = self.to.flush()
        {
            self.fail(error);
        }
        match self.error.take() {
            None => Ok(()),
            Some(source) => Err(RecordingError::Write {
                name: self.name.clone(),
                source,
            }),
        }
    }

    /// Inputs that came after an error.
    pub(crate) fn unrecorded(&self) -> u64 {
        self.unrecorded
    }

    fn fail(&mut self, error: io::Error) {
        self.has_failed = true;
        self.error = Some(error);
    }
}
