//! Which inputs there are: files, folders and standard input, opened and told apart by content.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::compression::Compression;
use super::leases::LEASES_ADVICE;
use super::{probe, system};
use crate::decode::flows::{Format, zeek};
use crate::decode::{capture, journal};
use crate::model::{MICROS_PER_SECOND, Timestamp};

/// The part of an input that tells what it is.
const HEAD: usize = 64 * 1024;
/// Bytes of uptimes that are put aside.
const MAX_SPOOLED: u64 = 1 << 30;
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
    /// This system's journal, from this time on.
    Journal {
        /// Where the past is not wanted.
        since: Option<Timestamp>,
    },
}

impl Location {
    /// Its name as the user knows it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Named(path) | Self::Found(path) => path.to_string_lossy().into_owned(),
            Self::Standard => "standard input".to_owned(),
            Self::Journal { .. } => "the journal".to_owned(),
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
        "{name}: {found}; expected a log with the kernel's packet records (iptables LOG, nft log), as syslog, journalctl or dmesg write it, a packet capture, Zeek's conn.log, Suricata's EVE log, or ulogd2's JSON; each also compressed by gzip, xz, zstd or bzip2"
    )]
    UnknownKind {
        /// As it was given.
        name: String,
        /// What it seems to be.
        found: &'static str,
    },
    /// It holds no DHCP leases.
    #[error("{name}: no leases in it; {LEASES_ADVICE}")]
    NoLeases {
        /// As it was given.
        name: String,
    },
    /// A lease file that cannot be read.
    #[error("{name}: leases cannot be read: {cause}; {LEASES_ADVICE}")]
    Leases {
        /// As it was given.
        name: String,
        /// The system's word.
        cause: io::Error,
    },
    /// Neither a journal nor a log was found.
    #[error(
        "this system has no journal and no log of a known name under /var/log: give a FILE, or - for standard input"
    )]
    NothingHere,
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

    /// The same of a file that was given for leases: what else than its absence, or a right that is missing,
    /// keeps it from being read is that it is another file.
    pub(super) fn of_leases(self) -> Self {
        match self {
            Self::Failed { name, cause } => Self::Leases { name, cause },
            other => other,
        }
    }

    /// Whether it is about something in `folder`.
    pub(crate) fn is_within(&self, folder: &Path) -> bool {
        match self {
            Self::Missing { name }
            | Self::Denied { name }
            | Self::Failed { name, .. }
            | Self::UnknownKind { name, .. } => Path::new(name).starts_with(folder),
            Self::NoLeases { .. }
            | Self::Leases { .. }
            | Self::NothingHere
            | Self::NothingInside { .. } => false,
        }
    }

    /// Whether the caller's rights are what is missing.
    pub(crate) fn is_about_rights(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }
}

/// What an input is, by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Lines of a log.
    Lines,
    /// Lines of `journalctl -o json`.
    JournalJson,
    /// Entries of `journalctl -o export`.
    JournalExport,
    /// A packet capture, pcap or pcapng.
    Capture,
    /// Zeek's conn.log.
    Zeek,
    /// Suricata's EVE log.
    Eve,
    /// ulogd2's JSON output.
    Ulogd,
}

impl Kind {
    pub(super) fn of(head: &[u8]) -> Self {
        if capture::is_capture(head) {
            Self::Capture
        } else if journal::is_export(head) {
            Self::JournalExport
        } else if journal::is_json(head) {
            Self::JournalJson
        } else {
            match Format::of(head) {
                Some(Format::Zeek(_)) => Self::Zeek,
                Some(Format::Eve) => Self::Eve,
                Some(Format::Ulogd) => Self::Ulogd,
                None => Self::Lines,
            }
        }
    }

    /// How its lines are read, where it is a log of connections.
    pub(super) fn flows(self) -> Option<Format> {
        match self {
            Self::Zeek => Some(Format::Zeek(zeek::Layout::default())),
            Self::Eve => Some(Format::Eve),
            Self::Ulogd => Some(Format::Ulogd),
            _ => None,
        }
    }

    /// Whether its records are written when a connection ends, and bear the time at which it began.
    pub(super) fn is_written_at_the_end(self) -> bool {
        matches!(self, Self::Zeek | Self::Eve)
    }

    /// The kind of its records, as reports name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lines | Self::JournalJson | Self::JournalExport => "netfilter",
            Self::Capture => "pcap",
            Self::Zeek => "zeek",
            Self::Eve => "eve",
            Self::Ulogd => "ulogd",
        }
    }
}

/// Counts what a reader could not read in time.
pub(super) type Lost = Arc<AtomicU64>;

/// Counts the bytes that are read of an input, as they are stored.
#[derive(Default)]
pub(crate) struct Meter {
    bytes: AtomicU64,
    lost: Lost,
    listener: OnceLock<Box<dyn Fn(u64) + Send + Sync>>,
}

impl Meter {
    /// Tells `listener` of further bytes.
    pub(crate) fn listen(&self, listener: impl Fn(u64) + Send + Sync + 'static) {
        // Only the first one is heard; there is one a run.
        let _ = self.listener.set(Box::new(listener));
    }

    /// Times that records were overwritten before they were read: each at least one.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Bytes read so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(listener) = self.listener.get() {
            listener(bytes as u64);
        }
    }
}

struct Metered<R>(R, Arc<Meter>);

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.count(count);
        Ok(count)
    }
}

/// An opened input.
pub(crate) struct Input {
    /// Where it is.
    pub(crate) location: Location,
    /// What it is.
    pub(crate) kind: Kind,
    /// When it was last written; now, for what cannot tell.
    pub(crate) file_time: Timestamp,
    /// Bytes as they are stored, where that is known beforehand.
    pub(crate) length: Option<u64>,
    /// Counts them as they are read.
    pub(crate) meter: Arc<Meter>,
    /// The file for reading out of turn, where it holds the content itself.
    pub(super) file: Option<File>,
    /// The content's first bytes.
    pub(super) head: Vec<u8>,
    /// All of the content, the first bytes included.
    pub(super) reader: Box<dyn Read + Send>,
}

impl Input {
    /// Opens what is at `location`.
    pub(crate) fn open(location: &Location, now: Timestamp) -> Result<Self, InputError> {
        let lost = Lost::default();
        let from_file = |file| Self::from_file(location.clone(), file, now);
        let opened = match location {
            Location::Named(path) | Location::Found(path) if system::is_ring(path) => {
                system::ring(path, lost.clone()).and_then(|reader| {
                    Self::from_reader(location.clone(), Stored::stream(reader, now), lost.clone())
                })
            }
            Location::Named(path) | Location::Found(path) => File::open(path).and_then(from_file),
            Location::Standard => standard_input().and_then(from_file),
            Location::Journal { since } => system::journal(*since).and_then(|reader| {
                Self::from_reader(location.clone(), Stored::stream(reader, now), lost.clone())
            }),
        };
        opened.map_err(|cause| InputError::new(location.name(), cause))
    }

    fn from_file(location: Location, file: File, now: Timestamp) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() {
            return Self::from_reader(location, Stored::stream(file, now), Lost::default());
        }
        let written = Timestamp::from_seconds(metadata.mtime())
            .plus_micros(metadata.mtime_nsec() * MICROS_PER_SECOND / 1_000_000_000);
        Self::from_reader(
            location,
            Stored::regular(file, metadata.len(), written)?,
            Lost::default(),
        )
    }

    fn from_reader(location: Location, stored: Stored, lost: Lost) -> io::Result<Self> {
        let meter = Arc::new(Meter {
            lost: lost.clone(),
            ..Meter::default()
        });
        let Stored {
            reader,
            file,
            length,
            file_time,
        } = stored;
        let (head, reader) = with_head(Metered(reader, Arc::clone(&meter)))?;
        let (head, reader, file) = match Compression::of(&head) {
            None => (head, reader, file),
            Some(compression) => {
                let (head, reader) = with_head(compression.decoder(reader)?)?;
                (head, reader, None)
            }
        };
        let kind = Kind::of(&head);
        if kind == Kind::Lines && file.is_none() && probe::begins_with_uptime(&head) {
            return Self::from_reader(location, Stored::spooled(reader, file_time)?, lost);
        }
        Ok(Self {
            location,
            kind,
            file_time,
            length,
            meter,
            file,
            head,
            reader,
        })
    }

    /// What it is, where that is nothing that can be read here.
    pub(crate) fn unknown_kind(&self) -> Option<&'static str> {
        const MAGICS: [(&[u8], &str); 4] = [
            (
                b"LPKSHHRH",
                "a binary journal (journalctl --file FILE -o export reads it)",
            ),
            (b"\x7fELF", "a program"),
            (b"PK\x03\x04", "a zip archive"),
            (b"\x04\x22\x4d\x18", "lz4-compressed data"),
        ];
        if Compression::of(&self.head).is_some() {
            return Some("compressed twice");
        }
        if zeek::is_other_log(&self.head) {
            return Some("a log of Zeek's without the fields of a connection; give its conn.log");
        }
        if self.head.get(257..262) == Some(b"ustar") {
            return Some("a tar archive; extract it and give the folder");
        }
        MAGICS
            .iter()
            .find(|(magic, _)| self.head.starts_with(magic))
            .map(|(_, name)| *name)
    }
}

/// An input as it is stored, compressed or not.
struct Stored {
    reader: Box<dyn Read + Send>,
    file: Option<File>,
    length: Option<u64>,
    file_time: Timestamp,
}

impl Stored {
    fn stream(reader: impl Read + Send + 'static, file_time: Timestamp) -> Self {
        Self {
            reader: Box::new(reader),
            file: None,
            length: None,
            file_time,
        }
    }

    fn regular(file: File, length: u64, file_time: Timestamp) -> io::Result<Self> {
        let positioned = Positioned {
            file: file.try_clone()?,
            at: 0,
        };
        Ok(Self {
            // What is written to a busy log meanwhile is not part of the answer. Pseudo files
            // (/proc) say 0 and have content all the same.
            reader: if length > 0 {
                Box::new(positioned.take(length))
            } else {
                Box::new(positioned)
            },
            file: Some(file),
            length: Some(length),
            file_time,
        })
    }

    /// An uptime's calendar time is told from the end of the input, which a stream shows only
    /// there: such a stream is put into a file without a name first.
    fn spooled(reader: impl Read, file_time: Timestamp) -> io::Result<Self> {
        let mut file = tempfile::tempfile()?;
        let length = io::copy(&mut reader.take(MAX_SPOOLED), &mut file)?;
        if length == MAX_SPOOLED {
            return Err(io::Error::other(
                "more than 1 GiB of lines that bear only uptimes: put it into a plain file first",
            ));
        }
        Self::regular(file, length, file_time)
    }
}

/// Reads as many bytes as tell what an input is; answers them, and a reader that begins with them.
/// Where reading fails behind them, it fails there again.
fn with_head(
    mut reader: impl Read + Send + 'static,
) -> io::Result<(Vec<u8>, Box<dyn Read + Send>)> {
    let mut head = Vec::with_capacity(HEAD);
    let read = reader.by_ref().take(HEAD as u64).read_to_end(&mut head);
    let again = io::Cursor::new(head.clone());
    Ok(match read {
        Ok(_) => (head, Box::new(again.chain(reader))),
        Err(error) if head.is_empty() => return Err(error),
        Err(error) => (head, Box::new(again.chain(Failing(Some(error))))),
    })
}

/// Fails once, then is at its end.
struct Failing(Option<io::Error>);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
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
        Location::Journal { .. } => true,
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
