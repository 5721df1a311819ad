//! The rotated files of a log: found by their names, put in order, and told apart by how they begin.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::position::TOLD_BY;
use super::tail::Id;
use crate::source::compression::Compression;

/// Rotated files that are looked at, the newest ones.
const MAX_GENERATIONS: usize = 64;
/// Times that a folder is listed until two lists agree: a rotation renames one file after the other.
const MAX_LISTS: usize = 5;
/// How compressed ones end.
const PACKED: [&[u8]; 4] = [b".gz", b".xz", b".zst", b".bz2"];

/// A rotated file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Generation {
    pub(super) path: PathBuf,
    pub(super) id: Id,
    order: Order,
    is_packed: bool,
    modified: (i64, i64),
}

/// What its name says of its age.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Order {
    /// `.1`: the higher the older.
    Number(u32),
    /// `-20260301`: the higher the newer.
    Date(Vec<u8>),
}

impl Generation {
    /// The first bytes of what is in it; none where it cannot be read, or not yet.
    pub(super) fn head(&self) -> Option<Vec<u8>> {
        let mut head = Vec::new();
        let reader = self.open().ok()?;
        reader.take(TOLD_BY as u64).read_to_end(&mut head).ok()?;
        Some(head)
    }

    /// Whether it still is where it was found.
    pub(super) fn is_there(&self) -> bool {
        self.path
            .metadata()
            .is_ok_and(|metadata| Id::of(&metadata) == self.id)
    }

    /// The file, where it is not compressed.
    pub(super) fn plain(&self) -> io::Result<Option<File>> {
        if self.is_packed {
            Ok(None)
        } else {
            File::open(&self.path).map(Some)
        }
    }

    /// What is in it.
    pub(super) fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(&self.path)?;
        if !self.is_packed {
            return Ok(Box::new(file));
        }
        let mut magic = [0; 6];
        file.read_exact(&mut magic)?;
        let all = magic.to_vec();
        match Compression::of(&all) {
            Some(compression) => compression.decoder(io::Cursor::new(all).chain(file)),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// The rotated files of the log at `path`, the newest first.
pub(super) fn generations(path: &Path) -> Vec<Generation> {
    let mut found = listed(path);
    for _ in 1..MAX_LISTS {
        let again = listed(path);
        if again == found {
            break;
        }
        found = again;
    }
    found
}

fn listed(path: &Path) -> Vec<Generation> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Vec::new();
    };
    let Ok(entries) = folder.read_dir() else {
        return Vec::new();
    };
    let mut found: Vec<Generation> = entries
        .flatten()
        .filter_map(|entry| {
            let (order, is_packed) = order_of(entry.file_name().as_bytes(), name.as_bytes())?;
            let metadata = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some(Generation {
                path: entry.path(),
                id: Id::of(&metadata),
                order,
                is_packed,
                modified: (metadata.mtime(), metadata.mtime_nsec()),
            })
        })
        .collect();
    // One that is being compressed is there twice, and only the old one is whole.
    let plain: Vec<Order> = found
        .iter()
        .filter(|one| !one.is_packed)
        .map(|one| one.order.clone())
        .collect();
    found.retain(|one| !one.is_packed || !plain.contains(&one.order));
    let is_alike = found
        .windows(2)
        .all(|two| std::mem::discriminant(&two[0].order) == std::mem::discriminant(&two[1].order));
    found.sort_by(|a, b| match (&a.order, &b.order) {
        _ if !is_alike => b
            .modified
            .cmp(&a.modified)
            .then_with(|| b.path.cmp(&a.path)),
        (Order::Number(a), Order::Number(b)) => a.cmp(b),
        (Order::Date(a), Order::Date(b)) => b.cmp(a),
        _ => Ordering::Equal,
    });
    found.truncate(MAX_GENERATIONS);
    found
}

/// The age of the file `name` as a rotated one of the log `base`, and whether it is compressed; none
/// where it is something else: `kern.log.1`, `kern.log-20260301.gz`, `kern-20260301.log` (logrotate's
/// `extension`).
fn order_of(name: &[u8], base: &[u8]) -> Option<(Order, bool)> {
    let unpacked = PACKED.iter().find_map(|packed| name.strip_suffix(*packed));
    let (name, is_packed) = (unpacked.unwrap_or(name), unpacked.is_some());
    let extension = Path::new(OsStr::from_bytes(base))
        .extension()
        .map(OsStrExt::as_bytes);
    let within = || {
        let extension = extension?;
        let stem = base.strip_suffix(extension)?.strip_suffix(b".")?;
        name.strip_prefix(stem)?
            .strip_suffix(extension)?
            .strip_suffix(b".")
    };
    let age = name.strip_prefix(base).or_else(within)?;
    let (b'.' | b'-' | b'_', age) = age.split_first()? else {
        return None;
    };
    let is_age =
        |&b: &u8| b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.' | b':' | b'T' | b'Z');
    if !age.first()?.is_ascii_digit() || !age.iter().all(is_age) {
        return None;
    }
    let number = std::str::from_utf8(age).ok().filter(|age| age.len() < 5);
    let order = match number.and_then(|age| age.parse().ok()) {
        Some(number) => Order::Number(number),
        None => Order::Date(age.to_vec()),
    };
    Some((order, is_packed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path, log: &str) -> Vec<String> {
        let found = generations(&folder.join(log));
        let name = |one: &Generation| one.path.file_name().unwrap().to_str().unwrap().to_owned();
        found.iter().map(name).collect()
    }

    #[test]
    fn the_newest_comes_first_whatever_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| std::fs::write(folder.path().join(name), name).unwrap();
        for name in [
            "kern.log",
            "kern.log.10.gz",
            "kern.log.2.gz",
            "kern.log.1",
            "kern.log.1.gz",
            "kern.log.bak",
            "kern.logs.1",
            "kern.log.1.tmp",
            "auth.log.1",
        ] {
            file(name);
        }
        assert_eq!(
            names(folder.path(), "kern.log"),
            ["kern.log.1", "kern.log.2.gz", "kern.log.10.gz"]
        );
        for name in [
            "a.log-20260301",
            "a.log-20260302.xz",
            "a.log-20260228.bz2",
            "a-20260303.log",
        ] {
            file(name);
        }
        assert_eq!(
            names(folder.path(), "a.log"),
            [
                "a-20260303.log",
                "a.log-20260302.xz",
                "a.log-20260301",
                "a.log-20260228.bz2"
            ]
        );
        assert!(names(folder.path(), "missing").is_empty());
    }
}
