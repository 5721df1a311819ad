//! Files that others rewrite while they are followed: lease files and /etc/hosts.
//!
//! A file has changed when its identity, size or time has. Times are no finer than the kernel's tick,
//! and some servers rewrite their file in place: so each change is looked at a second time a little
//! later, and a file that has shrunk is not believed before that.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::model::Timestamp;

/// How long a file must have stayed the same to be believed for good, in microseconds: longer than
/// a tick of any kernel.
const SETTLING: i64 = 20_000;

/// How fast files are read again, so that one that is large and changes all the time costs no more than
/// a few hundredths of a core: bytes a microsecond.
const BYTES_PER_MICRO: u64 = 10;

/// A file's identity, size and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A file that is followed.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) path: PathBuf,
    limit: u64,
    stamp: Option<Stamp>,
    /// What was read last.
    text: Vec<u8>,
    /// When to look again whatever the stamp says.
    settles: Option<Timestamp>,
    /// Before then it is not read again: reading a large file takes its time.
    rests: Option<Timestamp>,
}

/// What became of a file.
#[derive(Debug)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// It has another content.
    New,
    /// It is gone.
    Gone,
    /// It cannot be read, which is told once for each of its states.
    Failed(io::Error),
}

impl Followed {
    /// Follows the file at `path`, of at most `limit` bytes.
    pub(super) fn new(path: PathBuf, limit: u64) -> Self {
        Self {
            path,
            limit,
            stamp: None,
            text: Vec::new(),
            settles: None,
            rests: None,
        }
    }

    /// Its content as it was read last.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether it is the file that `metadata` is of.
    pub(super) fn is(&self, metadata: &Metadata) -> bool {
        let other = Stamp::of(metadata);
        self.stamp
            .is_some_and(|own| (own.device, own.inode) == (other.device, other.inode))
    }

    /// Looks at it at `now`.
    pub(super) fn look(&mut self, now: Timestamp) -> Change {
        let stamp = match std::fs::metadata(&self.path) {
            Ok(metadata) => Stamp::of(&metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.gone(now),
            Err(error) => return self.failed(None, error),
        };
        let is_unchanged = match self.settles {
            Some(settles) if now < settles => self.stamp == Some(stamp),
            Some(_) => false,
            None => self.stamp == Some(stamp),
        };
        if is_unchanged || self.rests.is_some_and(|rests| now < rests) {
            return Change::None;
        }
        let is_second_look = self.stamp == Some(stamp);
        let (stamp, text) = match read(&self.path, self.limit) {
            Ok(read) => read,
            Err(error) => return self.failed(Some(stamp), error),
        };
        let micros = i64::try_from(text.len() as u64 / BYTES_PER_MICRO).unwrap_or(i64::MAX);
        self.rests = Some(now.plus_micros(micros));
        let is_first = self.stamp.is_none();
        self.stamp = Some(stamp);
        if is_second_look {
            self.settles = None;
        } else {
            self.settles = Some(now.plus_micros(SETTLING));
            // In the middle of being written, perhaps: cut to nothing, then filled again.
            if text.len() < self.text.len() {
                return Change::None;
            }
        }
        if text == self.text && !is_first {
            return Change::None;
        }
        self.text = text;
        Change::New
    }

    /// It may be gone only between two versions of it.
    fn gone(&mut self, now: Timestamp) -> Change {
        if self.stamp.is_none() {
            return Change::None;
        }
        match self.settles {
            Some(settles) if now >= settles => {
                self.settles = None;
                self.stamp = None;
                self.text.clear();
                Change::Gone
            }
            Some(_) => Change::None,
            None => {
                self.settles = Some(now.plus_micros(SETTLING));
                Change::None
            }
        }
    }

    fn failed(&mut self, stamp: Option<Stamp>, error: io::Error) -> Change {
        self.settles = None;
        if self.stamp == stamp && stamp.is_some() {
            return Change::None;
        }
        self.stamp = stamp;
        Change::Failed(error)
    }
}

fn read(path: &Path, limit: u64) -> io::Result<(Stamp, Vec<u8>)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = Vec::new();
    (&file).take(limit + 1).read_to_end(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::other(format!("larger than {} MiB", limit >> 20)));
    }
    Ok((Stamp::of(&metadata), text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    fn followed() -> (tempfile::TempDir, Followed) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases");
        (folder, Followed::new(path, 1000))
    }

    #[test]
    fn each_change_is_told_once() {
        let (_folder, mut file) = followed();
        assert!(matches!(file.look(at(0)), Change::None));
        fs::write(&file.path, "one").unwrap();
        assert!(matches!(file.look(at(1)), Change::New));
        assert!(matches!(file.look(at(2)), Change::None));
        assert!(matches!(file.look(at(30)), Change::None));
        fs::write(&file.path, "one, two").unwrap();
        assert!(matches!(file.look(at(31)), Change::New));
        assert_eq!(file.text(), b"one, two");
    }

    #[test]
    fn a_second_look_sees_what_the_time_does_not_tell() {
        let (_folder, mut file) = followed();
        fs::write(&file.path, "aaa").unwrap();
        assert!(matches!(file.look(at(0)), Change::New));
        fs::write(&file.path, "bbb").unwrap();
        // As if within one tick.
        file.stamp = Some(Stamp::of(&fs::metadata(&file.path).unwrap()));
        assert!(matches!(file.look(at(1)), Change::None));
        assert!(matches!(file.look(at(21)), Change::New));
        assert_eq!(file.text(), b"bbb");
    }

    #[test]
    fn what_shrinks_or_goes_is_believed_only_when_it_stays_so() {
        let (_folder, mut file) = followed();
        fs::write(&file.path, "a long one").unwrap();
        assert!(matches!(file.look(at(0)), Change::New));
        fs::write(&file.path, "").unwrap();
        assert!(matches!(file.look(at(1)), Change::None));
        assert_eq!(file.text(), b"a long one");
        assert!(matches!(file.look(at(21)), Change::New));
        assert_eq!(file.text(), b"");
        fs::remove_file(&file.path).unwrap();
        assert!(matches!(file.look(at(50)), Change::None));
        assert!(matches!(file.look(at(80)), Change::Gone));
        assert!(matches!(file.look(at(200)), Change::None));
        fs::write(&file.path, "back").unwrap();
        assert!(matches!(file.look(at(201)), Change::New));
    }

    #[test]
    fn what_is_too_large_or_no_file_is_told_once() {
        let (folder, mut file) = followed();
        fs::write(&file.path, vec![b'x'; 1001]).unwrap();
        assert!(matches!(file.look(at(0)), Change::Failed(_)));
        assert!(matches!(file.look(at(100)), Change::None));
        fs::write(&file.path, "short").unwrap();
        assert!(matches!(file.look(at(101)), Change::New));
        let mut folder = Followed::new(folder.path().to_owned(), 10);
        assert!(matches!(folder.look(at(0)), Change::Failed(_)));
    }
}
