//! The devices that leases name, `smtpwatch.devices.v1`.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::net::IpAddr;

use serde::Serialize;

use super::Layout;
use super::escape::spreadsheet;
use super::grid::{Column, Grid};
use crate::attribution::leases::{Current, LeaseBook};
use crate::model::{Mac, Timestamp};

const HEADER: [Column; 5] = [
    Column::text("NAME"),
    Column::text("MAC"),
    Column::text("ADDRESSES"),
    Column::text("BASIS"),
    Column::text("LAST SEEN"),
];
const COLUMNS: [&str; 6] = ["id", "mac", "hostname", "addresses", "basis", "last_seen"];

/// Devices, in the order of their addresses.
#[derive(Debug, Serialize)]
pub(crate) struct Devices {
    schema: &'static str,
    devices: Vec<ListedDevice>,
}

#[derive(Debug, Serialize)]
struct ListedDevice {
    id: String,
    mac: Option<String>,
    addresses: Vec<String>,
    hostname: Option<String>,
    vendor: Option<String>,
    basis: String,
    /// When its latest lease began (RFC 3339), where the file says so.
    last_seen: Option<String>,
}

impl Devices {
    /// Those that `leases` name, as things stand at `now`.
    pub(crate) fn new(leases: &LeaseBook, now: Timestamp) -> Self {
        // One MAC is one device, but for another name: only a MAC of a station can be a key.
        let mut places: BTreeMap<(Mac, Option<&str>), usize> = BTreeMap::new();
        let mut found: Vec<Vec<Current<'_>>> = Vec::new();
        for current in leases.current(now) {
            let holder = current.holder();
            let place = match holder.mac.filter(|mac| mac.is_station()) {
                Some(mac) => *places.entry((mac, holder.hostname)).or_insert(found.len()),
                None => found.len(),
            };
            if place == found.len() {
                found.push(Vec::new());
            }
            found[place].push(current);
        }
        let mut named = HashSet::new();
        Self {
            schema: "smtpwatch.devices.v1",
            devices: found
                .iter()
                .map(|leases| {
                    let mut device = ListedDevice::new(leases);
                    // One MAC under two names: the second is told by its address.
                    if !named.insert(device.id.clone()) {
                        device.id = device.addresses.first().cloned().unwrap_or_default();
                    }
                    device
                })
                .collect(),
        }
    }

    /// Prints them for people.
    pub(crate) fn table(&self, layout: &Layout, to: &mut dyn Write) -> io::Result<()> {
        let mut grid = Grid::new(HEADER.iter());
        for device in &self.devices {
            let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            grid.row([
                or_dash(&device.hostname),
                or_dash(&device.mac),
                device.addresses.join(" "),
                device.basis.clone(),
                device.last_seen.as_ref().map_or("-".to_owned(), |time| {
                    super::table::shown(time, &layout.zone, super::table::DATE_AND_TIME)
                }),
            ]);
        }
        grid.write(layout.width, |_| anstyle::Style::new(), to)?;
        writeln!(to, "{} devices", self.devices.len())
    }

    /// Prints them as JSON.
    pub(crate) fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *to, self)?;
        writeln!(to)
    }

    /// Prints them as CSV (RFC 4180).
    pub(crate) fn csv(&self, to: &mut dyn Write) -> io::Result<()> {
        let mut rows = csv::Writer::from_writer(to);
        rows.write_record(COLUMNS)?;
        for device in &self.devices {
            let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
            let fields = [
                device.id.clone(),
                or_empty(&device.mac),
                or_empty(&device.hostname),
                device.addresses.join(" "),
                device.basis.clone(),
                or_empty(&device.last_seen),
            ];
            rows.write_record(fields.iter().map(|field| spreadsheet(field)))?;
        }
        rows.flush()
    }
}

impl ListedDevice {
    /// The device that holds, or held, `leases`: at least one.
    fn new(leases: &[Current<'_>]) -> Self {
        let addresses: Vec<IpAddr> = leases.iter().map(|current| current.lease.address).collect();
        let holder = leases.first().map(Current::holder);
        let mac = holder.and_then(|holder| holder.mac);
        let first = addresses
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        let mut bases: Vec<String> = leases
            .iter()
            .map(|current| current.basis.to_string())
            .collect();
        bases.sort();
        bases.dedup();
        Self {
            id: match mac {
                Some(mac) if mac.is_station() => mac.to_string(),
                _ => first,
            },
            mac: mac.map(|mac| mac.to_string()),
            addresses: addresses.iter().map(ToString::to_string).collect(),
            hostname: holder.and_then(|holder| holder.hostname).map(str::to_owned),
            vendor: None,
            basis: bases.join("; "),
            last_seen: leases
                .iter()
                .filter_map(|current| current.lease.starts)
                .max()
                .map(|time| time.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::dhcp_lease;

    fn devices(text: &str) -> Vec<ListedDevice> {
        let book = LeaseBook::new([dhcp_lease::decode(text.as_bytes())]);
        Devices::new(&book, Timestamp::from_seconds(1_700_000_000)).devices
    }

    #[test]
    fn addresses_of_one_mac_are_one_device_and_null_is_no_key() {
        let found = devices(
            "1800000000 02:00:00:00:00:01 10.0.0.1 pc *\n1800000000 02:00:00:00:00:01 10.0.0.2 pc *\n\
             1600000000 00:00:00:00:00:00 10.0.0.3 a *\n1600000000 00:00:00:00:00:00 10.0.0.4 b *\n",
        );
        let rows: Vec<(&str, usize, &str)> = found
            .iter()
            .map(|d| (d.id.as_str(), d.addresses.len(), d.basis.as_str()))
            .collect();
        assert_eq!(
            rows,
            [
                ("02:00:00:00:00:01", 2, "lease, active"),
                ("10.0.0.3", 1, "lease, expired"),
                ("10.0.0.4", 1, "lease, expired")
            ]
        );
        assert_eq!(found[1].mac.as_deref(), Some("00:00:00:00:00:00"));
    }
}
