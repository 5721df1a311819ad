//! What was read from a piece of an input, and what came of all of them.

use std::collections::BTreeMap;

use super::input::InputError;
use crate::decode::clock::{Era, Eras, FirstStamps};
use crate::decode::stamp::Stamp;
use crate::model::{Clock, Evidence, RuleId};

/// Tags of other programs whose lines look like packet records, kept by name.
const MAX_FOREIGN: usize = 8;
/// The part of such a tag that is kept.
const MAX_TAG: usize = 64;

/// What came of an input.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Its name.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: &'static str,
    /// Bytes read, compressed where it is.
    pub(crate) bytes: u64,
    /// Records of the kind.
    pub(crate) records: u64,
    /// Those of them that are SYNs to a watched port.
    pub(crate) matched: u64,
    /// What was passed over, by reason.
    pub(crate) skipped: BTreeMap<&'static str, u64>,
    /// Messages that the logger says it lost.
    pub(crate) lost: u64,
    /// Records whose stamp was far from both neighbours'.
    pub(crate) bad_time: u64,
    /// Lines of other programs that look like packet records, by tag.
    pub(crate) foreign: BTreeMap<Vec<u8>, u64>,
    /// The worst clock of a matched record.
    pub(crate) clock: Clock,
    /// Why reading ended early.
    pub(crate) error: Option<InputError>,
    /// Whether nothing but its lines tells what it is.
    pub(super) is_text: bool,
    /// Lines with a stamp: what tells a log from any other text.
    pub(super) stamped: u64,
}

impl Outcome {
    /// Whether it turned out to be no log at all.
    pub(crate) fn is_no_log(&self) -> bool {
        self.is_text
            && self.bytes > 0
            && self.records == 0
            && self.stamped == 0
            && self.error.is_none()
    }

    pub(super) fn add(&mut self, part: &Part) {
        self.records += part.records;
        self.matched += part.matched;
        self.lost = self.lost.saturating_add(part.lost);
        self.stamped += part.stamped;
        for &(reason, count) in &part.skipped {
            *self.skipped.entry(reason).or_default() += count;
        }
        for (tag, count) in &part.foreign {
            note_foreign(&mut self.foreign, tag, *count);
        }
    }
}

/// Evidence whose stamp has no time yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Undated {
    pub(super) stamp: Stamp,
    pub(super) era: Era,
    pub(super) evidence: Evidence,
}

impl Undated {
    /// The same packet, `times` more.
    pub(super) fn repeated(mut self, times: u32) -> Self {
        if let Evidence::Syn(observation) = &mut self.evidence {
            observation.repeats = times;
        }
        self
    }
}

/// What a piece of an input holds.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) evidence: Vec<Undated>,
    pub(super) records: u64,
    pub(super) matched: u64,
    pub(super) skipped: Vec<(&'static str, u64)>,
    pub(super) lost: u64,
    pub(super) stamped: u64,
    pub(super) foreign: BTreeMap<Vec<u8>, u64>,
    pub(super) eras: Eras,
    pub(super) first: FirstStamps,
    /// Repeats of the line before the piece.
    pub(super) leading_repeats: u32,
    pub(super) last_line: LastLine,
}

/// The last line that was not a repeat marker.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum LastLine {
    /// There was none.
    #[default]
    None,
    Syn(Undated),
    Other,
}

/// Counts `count` lines of the program `tag`, where there is room for its name.
pub(super) fn note_foreign(foreign: &mut BTreeMap<Vec<u8>, u64>, tag: &[u8], count: u64) {
    let tag = &tag[..tag.len().min(MAX_TAG)];
    if let Some(known) = foreign.get_mut(tag) {
        *known += count;
    } else if foreign.len() < MAX_FOREIGN {
        foreign.insert(tag.to_vec(), count);
    }
}

/// Which rule wrote a record: the prefix without the times that differ from record to record.
pub(super) fn rule(input: u32, prefix: &[u8]) -> RuleId {
    const PRIME: u32 = 0x0100_0193;
    // An uptime is padded within its bracket: `[   17.000000]`.
    let is_time = |word: &[u8]| {
        word == b"["
            || word.windows(3).any(|three| {
                three[0].is_ascii_digit()
                    && matches!(three[1], b'.' | b':')
                    && three[2].is_ascii_digit()
            })
    };
    let hash = prefix
        .split(|&b| b == b' ')
        .filter(|word| !is_time(word))
        .flatten()
        // FNV-1a: a few bytes, and only ever compared with its like.
        .fold(0x811c_9dc5 ^ input, |hash, &byte| {
            (hash ^ u32::from(byte)).wrapping_mul(PRIME)
        });
    RuleId(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_its_prefix_without_the_times() {
        let one = rule(1, b"[50028442.088484] FW: ");
        assert_eq!(one, rule(1, b"[   17.000000] FW: "));
        assert_eq!(one, rule(1, b"20/Jun/2022:13:09:14 FW: "));
        assert_ne!(one, rule(1, b"[50028442.088484] OTHER: "));
        assert_ne!(one, rule(2, b"[50028442.088484] FW: "));
    }
}
