//! Reads a recording. A last line that was cut, by a crash or a full disk, is told and ends it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;

use super::{Header, MAX_LINE, RecordingError, SCHEMA};
use crate::engine::Input;
use crate::model::Timestamp;

/// Reads inputs in their order.
#[derive(Debug)]
pub(crate) struct Player {
    name: String,
    from: BufReader<File>,
    header: Header,
    buffer: Vec<u8>,
    /// The line read last, counted from 1.
    line: u64,
    bytes: u64,
    is_cut: bool,
    has_ended: bool,
}

/// A line but the first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    now: Timestamp,
    input: Input,
}

/// What of a header is looked at first.
#[derive(Deserialize)]
struct Schema {
    schema: String,
}

impl Player {
    /// Opens the recording at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, RecordingError> {
        let name = path.display().to_string();
        let failed = |source| RecordingError::Read {
            name: name.clone(),
            source,
        };
        let mut from = BufReader::with_capacity(64 << 10, File::open(path).map_err(failed)?);
        let mut buffer = Vec::new();
        let ending = read_line(&mut from, &mut buffer).map_err(failed)?;
        let refused = |why: String| RecordingError::NoRecording {
            name: name.clone(),
            why,
        };
        let header = match ending {
            Ending::Nothing => return Err(refused("it is empty".to_owned())),
            Ending::TooLong => return Err(refused("its first line does not end".to_owned())),
            Ending::Line | Ending::Cut => header(&buffer).map_err(refused)?,
        };
        let bytes = buffer.len() as u64;
        Ok(Self {
            name,
            from,
            header,
            buffer,
            line: 1,
            bytes,
            is_cut: false,
            has_ended: false,
        })
    }

    /// What the engine began with.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Where the recording turned out to be cut: what to say about it.
    pub(crate) fn cut(&self) -> Option<String> {
        self.is_cut.then(|| {
            format!(
                "{}:{}: the last line is cut (did the recording's run end by force?); what is before it was replayed",
                self.name, self.line
            )
        })
    }

    fn read(&mut self) -> Result<Option<(Timestamp, Input)>, RecordingError> {
        self.line += 1;
        let ending = read_line(&mut self.from, &mut self.buffer);
        let ending = ending.map_err(|source| RecordingError::Read {
            name: self.name.clone(),
            source,
        })?;
        self.bytes += self.buffer.len() as u64;
        match ending {
            Ending::Nothing => return Ok(None),
            Ending::TooLong => {
                return Err(RecordingError::TooLong {
                    name: self.name.clone(),
                    line: self.line,
                });
            }
            Ending::Line | Ending::Cut => {}
        }
        match serde_json::from_slice::<Recorded>(&self.buffer) {
            Ok(recorded) => Ok(Some((recorded.now, recorded.input))),
            Err(_) if ending == Ending::Cut => {
                self.is_cut = true;
                Ok(None)
            }
            Err(source) => Err(RecordingError::Line {
                name: self.name.clone(),
                line: self.line,
                source,
            }),
        }
    }
}

/// Each input, and when it was taken; an error ends it.
impl Iterator for Player {
    type Item = Result<(Timestamp, Input), RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let read = self.read().transpose();
        self.has_ended = !matches!(read, Some(Ok(_)));
        read
    }
}

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// With a line feed.
    Line,
    /// With the file.
    Cut,
    /// There was none.
    Nothing,
    /// Not within what is read of a line.
    TooLong,
}

fn read_line(from: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<Ending> {
    buffer.clear();
    let limit = MAX_LINE as u64 + 1;
    from.take(limit).read_until(b'\n', buffer)?;
    Ok(match buffer.last() {
        None => Ending::Nothing,
        Some(b'\n') => Ending::Line,
        Some(_) if buffer.len() as u64 == limit => Ending::TooLong,
        Some(_) => Ending::Cut,
    })
}

fn header(line: &[u8]) -> Result<Header, String> {
    let Schema { schema } =
        serde_json::from_slice(line).map_err(|error| format!("no header ({error})"))?;
    if schema != SCHEMA {
        return Err(format!("its schema is {schema:?}"));
    }
    serde_json::from_slice(line).map_err(|error| error.to_string())
}
