//! How far a log was read, so that a later run goes on exactly there: which files, told by what they
//! hold and not by their names, and where in them.

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

/// Bytes at a file's start, and before a place in it, that tell it from others.
pub(super) const TOLD_BY: usize = 1024;

/// Rotated files in a position that is believed, far more than are kept.
const MAX_PLACES: usize = 64;

/// What some bytes look like: their number and 64 bits of their SHA-1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Print(pub(super) usize, u64);

impl Print {
    pub(super) fn of(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::default();
        }
        let hash = Sha1::digest(bytes);
        let first = hash.first_chunk::<8>().copied().unwrap_or_default();
        Self(bytes.len(), u64::from_be_bytes(first))
    }

    /// Whether `bytes` begin so.
    pub(super) fn begins(self, bytes: &[u8]) -> bool {
        bytes
            .get(..self.0)
            .is_some_and(|bytes| Self::of(bytes) == self)
    }
}

/// A place in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The file's inode, which a copy does not share.
    pub(super) inode: u64,
    /// When that was made, in microseconds; 0 where nobody knows.
    #[serde(default)]
    pub(super) made: u64,
    /// Bytes that were handed in, decompressed where it is compressed.
    pub(super) offset: u64,
    /// Its first bytes, [`TOLD_BY`] at the most.
    pub(super) head: Print,
    /// The bytes before the place, [`TOLD_BY`] at the most.
    pub(super) before: Print,
    /// Whether the place is within a line whose begin is done with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_cut: bool,
    /// Bytes behind the place that were there already.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) unread: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands in a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Place {
    /// Whether there can be such a place at all: what is told by it is read into memory.
    fn is_possible(&self) -> bool {
        let before = self.before.0;
        self.head.0 <= TOLD_BY && before <= TOLD_BY && before as u64 <= self.offset
    }
}

/// How far a log was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The rotated files that may still grow, the oldest first.
    pub(super) old: Vec<Place>,
    /// The log itself; none while there is none.
    pub(super) current: Option<Place>,
    /// Rotated files that are done with, by their first bytes, the newest last.
    pub(super) known: Vec<Print>,
}

impl Position {
    /// As it is kept. Numbers and lists cannot fail to become text.
    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// None where it is nothing that was ever kept.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let position: Self = serde_json::from_str(text).ok()?;
        let mut places = position.old.iter().chain(&position.current);
        let is_ours = position.old.len() <= MAX_PLACES && places.all(Place::is_possible);
        is_ours.then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_as_it_was() {
        let position = Position {
            old: vec![Place {
                inode: 7,
                offset: 9,
                unread: 3,
                ..Place::default()
            }],
            current: Some(Place {
                inode: u64::MAX,
                made: 5,
                offset: 1 << 40,
                head: Print::of(b"head"),
                before: Print::of(b"before"),
                is_cut: true,
                unread: 0,
            }),
            known: vec![Print::of(b"x")],
        };
        assert_eq!(Position::from_text(&position.to_text()), Some(position));
        for broken in [
            "",
            "{}",
            "[1]",
            "17",
            "{\"old\":[],\"current\":{},\"known\":[]}",
            // More than any memory holds.
            r#"{"old":[],"current":{"inode":7,"offset":9,"head":[9007199254740992,1],"before":[9,1]},"known":[]}"#,
            r#"{"old":[],"current":{"inode":7,"offset":9,"head":[9,1],"before":[10,1]},"known":[]}"#,
        ] {
            assert_eq!(Position::from_text(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_print_is_of_all_its_bytes() {
        let print = Print::of(b"abc");
        assert!(print.begins(b"abcd"));
        assert!(!print.begins(b"abd"));
        assert!(!print.begins(b"ab"));
    }
}
