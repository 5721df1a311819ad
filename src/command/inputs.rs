//! What the verbs that read records have in common: how they read, and what they say of files that were
//! no records.

use std::path::{Path, PathBuf};

use super::{say, say_all};
use crate::decode::kernel_log::Decoder;
use crate::engine::Engine;
use crate::model::{DeviceId, Timestamp};
use crate::runtime::Read;
use crate::settings::Ports;
use crate::settings::config::Resolved;
use crate::settings::flags::{Counting, zone};
use crate::source::{InputError, Location, Reading, VendorList};

/// How records of connections to `ports` are read.
pub(super) fn reading(counting: &Counting, config: &Resolved, ports: &Ports) -> Reading {
    Reading {
        ports: ports.clone(),
        zone: zone(config),
        decoder: Decoder::new(counting.tags()).watching(ports.as_slice()),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// Files in folders that are no inputs: how many, or which.
pub(super) fn say_passed_over(read: &Read, is_verbose: bool) {
    if is_verbose {
        say_all(&read.passed_over);
    } else if !read.passed_over.is_empty() {
        let count = read.passed_over.len();
        say(&format!(
            "files of no known kind passed over: {count} (--verbose names them)"
        ));
    }
}

/// A folder of `inputs` in which nothing was of a known kind is an error of its own.
pub(super) fn folders_without_logs<'a>(
    inputs: &'a [PathBuf],
    read: &'a Read,
) -> impl Iterator<Item = InputError> + 'a {
    let has_input = |folder: &Path| {
        let mut outcomes = read.outcomes.iter();
        let was_read = outcomes.any(|outcome| Path::new(&outcome.name).starts_with(folder));
        was_read || read.errors.iter().any(|error| error.is_within(folder))
    };
    inputs
        .iter()
        .filter(move |path| path.is_dir() && !has_input(path))
        .map(|path| InputError::NothingInside {
            name: Location::Named(path.clone()).name(),
        })
}

/// Names the makers of the devices' network cards.
pub(super) fn name_vendors(engine: &mut Engine, now: Timestamp) {
    let mut vendors = VendorList::of_system();
    let devices: Vec<DeviceId> = engine.devices().map(|(id, _)| id).collect();
    for id in devices {
        if let Some(input) = vendors.input(engine, id) {
            engine.handle(input, now);
        }
    }
}
