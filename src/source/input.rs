//! Which inputs there are: files, folders and standard input, opened and told apart by content.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::model::{MICROS_PER_SECOND, Timestamp};

/// The part of an input that tells what it is.
const HEAD: usize = 64 * 1024;
/// Folders within folders that are looked into.
const MAX_DEPTH: usize = 8;

/// Where an input is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// A file that was named.
    Named(PathBuf),
    /// A file found in a folder that was named.
    Found(PathBuf),
    /// Standard input.
    Standard,
}

impl Location {
    /// Its name as the user knows it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Named(path) | Self::Found(path) => path.to_string_lossy().into_owned(),
            Self::Standard => "standard input".to_owned(),
        }
    }
}

/// An input that cannot be read, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    /// There is no such file.
    #[error("{name}: no such file or folder")]
    Missing {
        /// As it was given.
        name: String,
    },
    /// The caller may not read it.
    #[error(
        "{name}: no right to read it; try again as root, or with the group adm or systemd-journal"
    )]
    Denied {
        /// As it was given.
        name: String,
    },
    /// Opening or reading failed.
    #[error("{name}: cannot be read: {cause}")]
    Failed {
        /// As it was given.
        name: String,
        /// The system's word.
        cause: io::Error,
    },
    /// It is none of the kinds that are known.
    #[error(
        "{name}: {found}; expected a log with the kernel's packet records (iptables LOG, nft log), as syslog, journalctl or dmesg write it"
    )]
    UnknownKind {
        /// As it was given.
        name: String,
        /// What it seems to be.
        found: &'static str,
    },
    /// A folder without a single input of a known kind.
    #[error("{name}: no file in this folder is of a known kind")]
    NothingInside {
        /// As it was given.
        name: String,
    },
}

impl InputError {
    /// The error for `cause`, met at the input called `name`.
    pub(crate) fn new(name: String, cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::NotFound => Self::Missing { name },
            io::ErrorKind::PermissionDenied => Self::Denied { name },
            _ => Self::Failed { name, cause },
        }
    }

    /// Whether the caller's rights are what is missing.
    pub(crate) fn is_about_rights(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }
}

/// An opened input.
pub(crate) struct Input {
    /// Where it is.
    pub(crate) location: Location,
    /// When it was last written; now, for what cannot tell.
    pub(crate) file_time: Timestamp,
    /// Bytes, where they are known beforehand.
    pub(crate) length: Option<u64>,
    /// The file for reading out of turn, where it can be.
    pub(super) file: Option<File>,
    /// Its first bytes.
    pub(super) head: Vec<u8>,
    /// All its bytes, the first ones included.
    pub(super) reader: Box<dyn Read + Send>,
}

impl Input {
    /// Opens what is at `location`.
    pub(crate) fn open(location: &Location, now: Timestamp) -> Result<Self, InputError> {
        let opened = match location {
            Location::Named(path) | Location::Found(path) => File::open(path),
            Location::Standard => standard_input(),
        };
        opened
            .and_then(|file| Self::from_file(location.clone(), file, now))
            .map_err(|cause| InputError::new(location.name(), cause))
    }

    fn from_file(location: Location, mut file: File, now: Timestamp) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let mut head = Vec::new();
        if !metadata.is_file() {
            file.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
            if super::probe::begins_with_uptime(&head) {
                file = spooled(&head, file)?;
                let length = file.metadata()?.len();
                return Self::from_regular(location, file, length, now);
            }
            return Ok(Self {
                location,
                file_time: now,
                length: None,
                file: None,
                reader: Box::new(io::Cursor::new(head.clone()).chain(file)),
                head,
            });
        }
        let written = Timestamp::from_seconds(metadata.mtime())
            .plus_micros(metadata.mtime_nsec() * MICROS_PER_SECOND / 1_000_000_000);
        Self::from_regular(location, file, metadata.len(), written)
    }

    fn from_regular(
        location: Location,
        file: File,
        length: u64,
        file_time: Timestamp,
    ) -> io::Result<Self> {
        use std::os::unix::fs::FileExt;
        let mut head = vec![0; HEAD];
        let mut filled = 0;
        while filled < HEAD {
            match file.read_at(&mut head[filled..], filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        head.truncate(filled);
        let positioned = file.try_clone()?;
        Ok(Self {
            location,
            file_time,
            length: Some(length),
            file: Some(positioned),
            head,
            // What is written to a busy log meanwhile is not part of the answer. Pseudo files
            // (/proc) say 0 and have content all the same.
            reader: if length > 0 {
                Box::new(Positioned { file, at: 0 }.take(length))
            } else {
                Box::new(Positioned { file, at: 0 })
            },
        })
    }

    /// What it is, where that is nothing that can be read here.
    pub(crate) fn unknown_kind(&self) -> Option<&'static str> {
        const MAGICS: [(&[u8], &str); 10] = [
            (b"\x1f\x8b", "gzip-compressed data"),
            (b"\xfd7zXZ\0", "xz-compressed data"),
            (b"\x28\xb5\x2f\xfd", "zstd-compressed data"),
            (b"BZh", "bzip2-compressed data"),
            (b"\xd4\xc3\xb2\xa1", "a packet capture"),
            (b"\xa1\xb2\xc3\xd4", "a packet capture"),
            (b"\x4d\x3c\xb2\xa1", "a packet capture"),
            (b"\x0a\x0d\x0d\x0a", "a packet capture"),
            (b"LPKSHHRH", "a binary journal (use journalctl -k -o short)"),
            (b"\x7fELF", "a program"),
        ];
        MAGICS
            .iter()
            .find(|(magic, _)| self.head.starts_with(magic))
            .map(|(_, name)| *name)
    }
}

/// Reads a file from a place of its own: the descriptor is shared with whoever reads out of turn,
/// and standard input's with the shell.
struct Positioned {
    file: File,
    at: u64,
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

fn standard_input() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// An uptime's calendar time is told from the end of the input, which a pipe shows only there: such
/// a pipe is put into a file without a name first.
fn spooled(head: &[u8], mut rest: File) -> io::Result<File> {
    use std::io::{Seek, Write};
    let mut file = tempfile::tempfile()?;
    file.write_all(head)?;
    io::copy(&mut rest, &mut file)?;
    file.rewind()?;
    Ok(file)
}

/// The inputs that `paths` name, folders with all that is in them; `-` is standard input. Each path
/// once, even where it is named twice.
pub(crate) fn expand(paths: &[PathBuf]) -> (Vec<Location>, Vec<InputError>) {
    let mut locations = Vec::new();
    let mut errors = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            locations.push(Location::Standard);
        } else if path.is_dir() {
            folder(path, &mut locations, &mut errors);
        } else {
            locations.push(Location::Named(path.clone()));
        }
    }
    let mut seen = std::collections::HashSet::new();
    locations.retain(|location| match location {
        Location::Named(path) | Location::Found(path) => {
            seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone()))
        }
        Location::Standard => seen.insert(PathBuf::from("-")),
    });
    (locations, errors)
}

fn folder(path: &Path, locations: &mut Vec<Location>, errors: &mut Vec<InputError>) {
    for entry in walkdir::WalkDir::new(path)
        .max_depth(MAX_DEPTH)
        .sort_by_file_name()
    {
        match entry {
            Ok(entry) => {
                let kind = entry.file_type();
                let is_linked_file = kind.is_symlink() && entry.path().is_file();
                if (kind.is_file() || is_linked_file) && !kind.is_fifo() {
                    locations.push(Location::Found(entry.into_path()));
                }
            }
            Err(error) => {
                let name = error.path().unwrap_or(path).to_string_lossy().into_owned();
                errors.push(InputError::new(name, error.into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_opened_up_and_nothing_is_named_twice() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("b.log");
        std::fs::write(&log, "x").unwrap();
        std::fs::write(folder.path().join("a.log"), "x").unwrap();
        let (locations, errors) = expand(&[log.clone(), folder.path().to_owned(), log.clone()]);
        assert!(errors.is_empty());
        assert_eq!(
            locations,
            [
                Location::Named(log),
                Location::Found(folder.path().join("a.log"))
            ]
        );
    }

    #[test]
    fn a_pipe_of_uptimes_becomes_a_file() {
        use std::io::Write;
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"[   12.345678] IN=eth0\n").unwrap();
        drop(writer);
        let file = File::from(std::os::fd::OwnedFd::from(reader));
        let now = Timestamp::from_seconds(7);
        let input = Input::from_file(Location::Standard, file, now).unwrap();
        assert_eq!(input.length, Some(23));
        assert_eq!(input.file_time, now);
    }
}
