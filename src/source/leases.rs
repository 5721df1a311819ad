//! DHCP lease files, read whole: they are small.

use std::io::{self, Read};
use std::path::Path;

use super::input::{Input, InputError, Kind, Location};
use super::probe;
use crate::attribution::leases::LeaseBook;
use crate::decode::dhcp_lease::{self, Leases};
use crate::model::Timestamp;

/// The largest lease file that is read: a million leases or so.
const MAX_BYTES: u64 = 256 << 20;

/// What to give instead of what is no lease file.
pub(super) const LEASES_ADVICE: &str = "give the file that the DHCP server writes its leases to: dnsmasq's, ISC dhcpd's or Kea's (its CSV)";

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
        let location = if path.as_os_str() == "-" {
            Location::Standard
        } else {
            Location::Named(path.to_owned())
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
    let leases = Input::open(location, now)
        .and_then(Input::into_leases)
        .map_err(InputError::of_leases)?;
    if leases.kind.is_none() && leases.skipped.total() > 0 {
        let name = location.name();
        return Err(InputError::NoLeases { name });
    }
    Ok(leases)
}

impl Input {
    /// Whether it looks like DHCP leases, and not like a log that speaks of some.
    pub(crate) fn is_leases(&self) -> bool {
        self.kind == Kind::Lines
            && dhcp_lease::kind(&self.head).is_some()
            && !probe::has_stamps(&self.head)
    }

    /// The leases in it.
    pub(crate) fn into_leases(self) -> Result<Leases, InputError> {
        let name = self.location.name();
        let mut text = Vec::new();
        let read = self.reader.take(MAX_BYTES).read_to_end(&mut text);
        let read = read.and_then(|count| match count as u64 {
            MAX_BYTES => Err(io::Error::other("larger than 256 MiB")),
            _ => Ok(()),
        });
        match read {
            Ok(()) => Ok(dhcp_lease::decode(&text)),
            Err(cause) => Err(InputError::new(name, cause)),
        }
    }
}
