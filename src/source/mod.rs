//! Floor 5: where records come from. Here: files, folders, standard input and this system's own
//! journal and logs, compressed or not; lines are decoded by as many threads as there are cores, and
//! all is handed on in the order in which it stands. DHCP leases, too; and live, who is who
//! ([`inventory`]).
//!
//! No file is mapped into memory: a log that is rotated or truncated while it is read must not end
//! the program.

mod answers;
mod blocks;
mod capture;
mod chunk;
mod compression;
mod dating;
mod input;
pub(crate) mod inventory;
mod journal;
mod leases;
mod lines;
pub(crate) mod live;
pub(crate) mod names;
mod part;
mod probe;
mod raw;
mod reorder;
mod stream;
mod system;
mod vendors;

pub(crate) use input::{Input, InputError, Location, expand};
pub(crate) use leases::{SkippedLeases, lease_book};
pub(crate) use part::Outcome;
pub(crate) use raw::{Raw, each_record};
pub(crate) use stream::{Pending, Reading, Stream};
pub(crate) use system::{locations as system_locations, records as system_records};
pub(crate) use vendors::VendorList;
