//! `smtpwatch devices`: who is on the LAN, as far as DHCP leases tell.

use super::output::{deliver, overwrites};
use super::{FAILED, USAGE, is_broken_pipe, say, say_all, say_skipped};
use crate::runtime::clock;
use crate::settings::flags::{Devices as Flags, Format};
use crate::source::lease_book;
use crate::view::{Devices, Layout};

/// Runs the verb; answers the exit status.
pub(super) fn run(flags: &Flags) -> u8 {
    if let Some(output) = &flags.print.output
        && overwrites(output, &flags.leases)
    {
        say(&format!(
            "{}: is an input, and the answer would overwrite it",
            output.display()
        ));
        return USAGE;
    }
    let now = clock::now();
    let (leases, skipped, errors) = lease_book(flags.leases.iter().map(AsRef::as_ref), now);
    say_all(&errors);
    say_skipped(&skipped);
    let devices = Devices::new(&leases, now);
    let format = flags.print.format();
    let printed = deliver(
        flags.print.output.as_deref(),
        format == Format::Table,
        |to, width| {
            let layout = Layout {
                zone: flags.zone(),
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
        _ if errors.is_empty() => 0,
        _ => FAILED,
    }
}
