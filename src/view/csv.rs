//! CSV (RFC 4180): one row a device, columns named as in the JSON.

use std::io::{self, Write};

use super::Report;
use super::escape::spreadsheet;
use super::report::ReportDevice;

const COLUMNS: [&str; 26] = [
    "id",
    "mac",
    "hostname",
    "interface",
    "basis",
    "verdict",
    "syns",
    "attempts",
    "destinations",
    "destination_groups",
    "peak_per_minute",
    "first_seen",
    "last_seen",
    "addresses",
    "because",
    "vendor",
    "mac_randomised",
    "answered",
    "refused",
    "unreachable",
    "unanswered",
    "held",
    "unknown",
    "completed",
    "bytes_toserver",
    "bytes_toclient",
];

pub(super) fn write(report: &Report, to: &mut dyn Write) -> io::Result<()> {
    let mut rows = csv::Writer::from_writer(to);
    rows.write_record(COLUMNS)?;
    for device in &report.devices {
        rows.write_record(row(device).iter().map(|field| spreadsheet(field)))?;
    }
    rows.flush()
}

fn row(device: &ReportDevice) -> [String; COLUMNS.len()] {
    let number_or_empty =
        |number: Option<u64>| number.map_or_else(String::new, |it| it.to_string());
    let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
    [
        device.id.clone(),
        or_empty(&device.mac),
        or_empty(&device.hostname),
        or_empty(&device.interface),
        device.basis.clone(),
        device.verdict.to_string(),
        device.syns.to_string(),
        device.attempts.to_string(),
        device.destinations.to_string(),
        device.destination_groups.to_string(),
        device.peak_per_minute.to_string(),
        device.first_seen.clone(),
        device.last_seen.clone(),
        device.addresses.join(" "),
        device.because.clone(),
        or_empty(&device.vendor),
        device.mac_randomised.to_string(),
        device.outcomes.answered.to_string(),
        device.outcomes.refused.to_string(),
        device.outcomes.unreachable.to_string(),
        device.outcomes.unanswered.to_string(),
        device.outcomes.held.to_string(),
        device.outcomes.unknown.to_string(),
        device.completed.to_string(),
        number_or_empty(device.bytes_toserver),
        number_or_empty(device.bytes_toclient),
    ]
}
