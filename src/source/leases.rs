//! DHCP lease files, read whole: they are small.

use std::io::Read;
use std::path::Path;

use super::input::{Input, InputError, Location};
use crate::attribution::leases::LeaseBook;
use crate::decode::dhcp_lease::{self, Leases};
use crate::model::Timestamp;

/// The largest lease file that is read: a million leases or so.
const MAX_BYTES: u64 = 256 << 20;

/// What was passed over in a lease file.
pub(crate) struct SkippedLeases {
    /// The file.
    pub(crate) name: String,
    /// How much of it, by reason.
    pub(crate) reasons: Vec<(&'static str, u64)>,
}

/// The book of the leases in `paths`, compressed or not; `-` is standard input. Also what was passed
/// over, and the files that could not be read.
pub(crate) fn lease_book<'a>(
    paths: impl IntoIterator<Item = &'a Path>,
    now: Timestamp,
) -> (LeaseBook, Vec<SkippedLeases>, Vec<InputError>) {
    let mut files = Vec::new();
    let mut skipped = Vec::new();
    let mut errors = Vec::new();
    for path in paths {
        let location = match path.as_os_str() == "-" {
            true => Location::Standard,
            false => Location::Named(path.to_owned()),
        };
        match leases(&location, now) {
            Ok(leases) => {
                let reasons: Vec<(&str, u64)> = leases
                    .skipped
                    .iter()
                    .map(|(skip, count)| (skip.reason(), count))
                    .collect();
                if !reasons.is_empty() {
                    let name = location.name();
                    skipped.push(SkippedLeases { name, reasons });
                }
                files.push(leases);
            }
            Err(error) => errors.push(error),
        }
    }
    (LeaseBook::new(files), skipped, errors)
}

fn leases(location: &Location, now: Timestamp) -> Result<Leases, InputError> {
    let input = Input::open(location, now)?;
    let mut text = Vec::new();
    let name = || location.name();
    input
        .reader
        .take(MAX_BYTES)
        .read_to_end(&mut text)
        .map_err(|cause| InputError::new(name(), cause))?;
    if text.len() as u64 == MAX_BYTES {
        let cause = std::io::Error::other("larger than 256 MiB");
        return Err(InputError::new(name(), cause));
    }
    let leases = dhcp_lease::decode(&text);
    let has_lines = text.iter().any(|b| !b.is_ascii_whitespace());
    if leases.kind.is_none() && has_lines && leases.skipped.total() > 0 {
        return Err(InputError::NoLeases { name: name() });
    }
    Ok(leases)
}
