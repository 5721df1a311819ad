//! `smtpwatch devices`: who is on the LAN, as far as this machine's tables and files tell, or the DHCP
//! leases that were given.

use std::hash::{BuildHasher, RandomState};

use super::configured::read_or_say;
use super::output::{deliver, overwrites};
use super::{FAILED, USAGE, is_broken_pipe, say, say_all, say_skipped};
use crate::attribution::leases::LeaseBook;
use crate::engine::Engine;
use crate::model::Timestamp;
use crate::runtime::clock;
use crate::settings::config::{Key, Origin, Resolved};
use crate::settings::flags::{Devices as Flags, Format, zone};
use crate::source::inventory::{Inventory, InventoryError, Options};
use crate::source::{VendorList, lease_book, names};
use crate::view::{Devices, Layout};

/// Runs the verb; answers the exit status.
pub(super) fn run(flags: &Flags) -> u8 {
    let Some(config) = read_or_say(flags) else {
        return FAILED;
    };
    let leases = &config.config.leases;
    if let Some(output) = &flags.print.output
        && overwrites(output, leases)
    {
        say(&format!(
            "{}: is an input, and the answer would overwrite it",
            output.display()
        ));
        return USAGE;
    }
    let now = clock::now();
    // Only the command line asks for them alone.
    let (mut devices, is_whole) = if *config.origin(Key::Leases) == Origin::CommandLine {
        let (leases, skipped, errors) = lease_book(leases.iter().map(AsRef::as_ref), now);
        say_all(&errors);
        say_skipped(&skipped);
        (Devices::new(&leases, now), errors.is_empty())
    } else {
        match live(&config, now) {
            Ok(answer) => answer,
            Err(error) => {
                say(&error.to_string());
                return FAILED;
            }
        }
    };
    if flags.names {
        match names::of_addresses(devices.nameless()) {
            Ok(found) => found.iter().for_each(|(it, name)| devices.name(*it, name)),
            Err(error) => say(&error.to_string()),
        }
    }
    let mut vendors = VendorList::of_system();
    devices.name_vendors(|mac| vendors.of(mac).map(str::to_owned));
    devices.allow(&config.settings());
    let format = flags.print.format();
    let printed = deliver(
        flags.print.output.as_deref(),
        format == Format::Table,
        |to, width| {
            let layout = Layout {
                zone: zone(&config),
                top: usize::MAX,
                width,
            };
            match format {
                Format::Table => devices.table(&layout, to),
                Format::Json => devices.json(to),
                Format::Csv => devices.csv(to),
            }
        },
    );
    match printed {
        Err(error) if !is_broken_pipe(&error) => {
            say(&format!("{error:#}"));
            FAILED
        }
        _ if is_whole => 0,
        _ => FAILED,
    }
}

/// What this machine knows, and whether all of it could be read.
fn live(config: &Resolved, now: Timestamp) -> Result<(Devices, bool), InventoryError> {
    let mut inventory = Inventory::open(&Options::following(&config.config.leases))?;
    let seed = RandomState::new().hash_one(0);
    let mut engine = Engine::new(config.settings(), LeaseBook::default(), seed);
    for input in inventory.read(now)? {
        engine.handle(input, now);
    }
    let complaints = inventory.complaints();
    for complaint in &complaints {
        say(&complaint.to_string());
    }
    Ok((Devices::live(engine.who(), now), complaints.is_empty()))
}
