//! The devices that are known, `smtpwatch.devices.v1`: those that leases name, and live those of the
//! neighbour table and of /etc/hosts, too.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, Write};
use std::net::IpAddr;

use serde::Serialize;

use super::Layout;
use super::escape::spreadsheet;
use super::grid::{Column, Grid};
use super::table::made_by;
use crate::attribution::identity::Who;
use crate::attribution::leases::{Current, LeaseBook};
use crate::model::{DeviceKey, Interface, Mac, Networks, Timestamp};
use crate::settings::Settings;

const HEADER: [Column; 7] = [
    Column::text("NAME"),
    Column::text("MAC"),
    Column::text("VENDOR"),
    Column::text("IN"),
    Column::text("ADDRESSES"),
    Column::text("BASIS"),
    Column::text("LAST SEEN"),
];
const SCHEMA: &str = "smtpwatch.devices.v1";
const COLUMNS: [&str; 8] = [
    "id",
    "mac",
    "hostname",
    "addresses",
    "basis",
    "last_seen",
    "vendor",
    "mac_randomised",
];

/// Devices, in the order of their addresses.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are those of the JSON")]
pub(crate) struct Devices {
    schema: &'static str,
    devices: Vec<ListedDevice>,
    /// Whether interfaces are known.
    #[serde(skip)]
    is_live: bool,
}

#[derive(Debug, Serialize)]
struct ListedDevice {
    id: String,
    mac: Option<String>,
    addresses: Vec<String>,
    hostname: Option<String>,
    vendor: Option<String>,
    /// Whether its MAC was made up, so that it has no maker and may change.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    mac_randomised: bool,
    basis: String,
    /// Live: the interface it is behind.
    interface: Option<String>,
    /// Whether the settings allow it to send.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    allowed: bool,
    /// Live: whether it is a router, as the routing table or the settings say.
    router: bool,
    /// When its latest lease began (RFC 3339), where the file says so.
    last_seen: Option<String>,
}

impl Devices {
    /// Those that `leases` name, as things stand at `now`.
    pub(crate) fn new(leases: &LeaseBook, now: Timestamp) -> Self {
        Self::of(leases.current(now))
    }

    fn of<'a>(leases: impl IntoIterator<Item = Current<'a>>) -> Self {
        // One MAC is one device, but for another name: only a MAC of a station can be a key.
        let mut places: BTreeMap<(Mac, Option<&str>), usize> = BTreeMap::new();
        let mut found: Vec<Vec<Current<'_>>> = Vec::new();
        for current in leases {
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
            schema: SCHEMA,
            is_live: false,
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

    /// All that `who` knows, as things stand at `now`: first the stations of the neighbour table, then
    /// those that only leases know, then what is only configured by hand.
    pub(crate) fn live(who: &Who, now: Timestamp) -> Self {
        let mut stations: BTreeMap<(Interface, Mac), Station> = BTreeMap::new();
        for neighbour in who.neighbours().iter() {
            if let Some(mac) = neighbour.mac {
                let station = stations.entry((neighbour.interface, mac)).or_default();
                station.addresses.insert(neighbour.address);
            }
        }
        // A lease of a station that is there is one more thing to say of it.
        let mut others = Vec::new();
        for current in who.leases().current(now) {
            let mac = current.lease.mac;
            let mut known = stations
                .iter_mut()
                .filter(|((_, own), _)| Some(*own) == mac)
                .peekable();
            if known.peek().is_none() {
                others.push(current);
                continue;
            }
            for (_, station) in known {
                station.lease(&current);
            }
        }
        let mut devices: Vec<ListedDevice> = stations
            .iter()
            .map(|((interface, mac), station)| station.listed(*interface, *mac, who))
            .collect();
        devices.extend(Self::of(others).devices);
        let shown: BTreeSet<&String> = devices.iter().flat_map(|it| &it.addresses).collect();
        let by_hand: BTreeMap<IpAddr, &str> = who.hosts().collect();
        let by_hand: Vec<ListedDevice> = by_hand
            .into_iter()
            .filter(|(address, _)| {
                let is_own = who.territory().is_some_and(|it| it.is_own(*address));
                !is_own && !shown.contains(&address.to_string())
            })
            .map(|(address, name)| ListedDevice::by_hand(address, name))
            .collect();
        devices.extend(by_hand);
        Self {
            schema: SCHEMA,
            devices,
            is_live: true,
        }
    }

    /// Names the makers of their network cards, as `of` knows them.
    pub(crate) fn name_vendors(&mut self, mut of: impl FnMut(Mac) -> Option<String>) {
        for device in &mut self.devices {
            let mac = device.mac.as_deref().and_then(|mac| mac.parse().ok());
            device.vendor = mac.and_then(&mut of);
        }
    }

    /// Marks those that `settings` allow to send.
    pub(crate) fn allow(&mut self, settings: &Settings) {
        for device in &mut self.devices {
            let addresses = device.addresses.iter();
            let addresses: Vec<IpAddr> = addresses.filter_map(|it| it.parse().ok()).collect();
            let mac = device.mac.as_deref().and_then(|mac| mac.parse().ok());
            device.allowed = settings.allows(&addresses, mac, device.hostname.as_deref());
        }
    }

    /// The addresses of those without a name that an inside name server may know.
    pub(crate) fn nameless(&self) -> Vec<IpAddr> {
        let nameless = self.devices.iter().filter(|it| it.hostname.is_none());
        let addresses = nameless.flat_map(|it| &it.addresses);
        let addresses = addresses.filter_map(|address| address.parse().ok());
        let inside = Networks::private();
        addresses
            .filter(|address| match address {
                IpAddr::V4(v4) => inside.contains(*address) && !v4.is_link_local(),
                IpAddr::V6(v6) => v6.is_unique_local(),
            })
            .collect()
    }

    /// Gives the device with `address` its name, where it has none.
    pub(crate) fn name(&mut self, address: IpAddr, name: &str) {
        let address = address.to_string();
        let nameless = self.devices.iter_mut().filter(|it| it.hostname.is_none());
        for device in nameless.filter(|it| it.addresses.contains(&address)) {
            device.hostname = Some(name.to_owned());
        }
    }

    /// Prints them for people.
    pub(crate) fn table(&self, layout: &Layout, to: &mut dyn Write) -> io::Result<()> {
        let has_vendors = self
            .devices
            .iter()
            .any(|device| made_by(device.vendor.as_deref(), device.mac_randomised).is_some());
        let is_shown = |column: &Column| match column.title {
            "IN" => self.is_live,
            "VENDOR" => has_vendors,
            _ => true,
        };
        let mut grid = Grid::new(HEADER.iter().filter(|column| is_shown(column)));
        for device in &self.devices {
            let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            let cells = [
                or_dash(&device.hostname),
                or_dash(&device.mac),
                made_by(device.vendor.as_deref(), device.mac_randomised)
                    .unwrap_or_else(|| "-".to_owned()),
                or_dash(&device.interface),
                device.addresses.join(" "),
                if device.allowed {
                    format!("{}; allowed", device.basis)
                } else {
                    device.basis.clone()
                },
                device.last_seen.as_ref().map_or("-".to_owned(), |time| {
                    super::table::shown(time, &layout.zone, super::table::DATE_AND_TIME)
                }),
            ];
            let cells = cells.into_iter().zip(&HEADER);
            grid.row(cells.filter_map(|(cell, column)| is_shown(column).then_some(cell)));
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
                or_empty(&device.vendor),
                device.mac_randomised.to_string(),
            ];
            rows.write_record(fields.iter().map(|field| spreadsheet(field)))?;
        }
        rows.flush()
    }
}

/// A station of the neighbour table.
#[derive(Default)]
struct Station {
    addresses: BTreeSet<IpAddr>,
    /// What its leases are worth now.
    leases: BTreeSet<String>,
    hostname: Option<String>,
    last_seen: Option<Timestamp>,
}

impl Station {
    /// Takes a lease of its MAC.
    fn lease(&mut self, current: &Current<'_>) {
        self.addresses.insert(current.lease.address);
        self.leases.insert(current.basis.to_string());
        self.hostname = self.hostname.take().or(current.lease.hostname.clone());
        self.last_seen = self.last_seen.max(current.lease.starts);
    }

    fn listed(&self, interface: Interface, mac: Mac, who: &Who) -> ListedDevice {
        let router = who.is_router(interface, mac);
        let by_hand = || self.addresses.iter().find_map(|address| who.host(*address));
        let bases = ["neighbour".to_owned()].into_iter();
        let bases = bases.chain(self.leases.iter().cloned());
        let bases: Vec<String> = bases.chain(router.then(|| "router".to_owned())).collect();
        ListedDevice {
            id: DeviceKey::Station(interface, mac).to_string(),
            mac: Some(mac.to_string()),
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
            hostname: self
                .hostname
                .clone()
                .or_else(|| by_hand().map(str::to_owned)),
            vendor: None,
            mac_randomised: mac.is_randomised(),
            basis: bases.join("; "),
            interface: Some(interface.to_string()),
            router,
            allowed: false,
            last_seen: self.last_seen.map(|time| time.to_string()),
        }
    }
}

impl ListedDevice {
    /// One that is known from /etc/hosts alone.
    fn by_hand(address: IpAddr, name: &str) -> Self {
        Self {
            id: address.to_string(),
            mac: None,
            addresses: vec![address.to_string()],
            hostname: Some(name.to_owned()),
            vendor: None,
            mac_randomised: false,
            basis: "hosts".to_owned(),
            interface: None,
            router: false,
            allowed: false,
            last_seen: None,
        }
    }

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
            mac_randomised: mac.is_some_and(Mac::is_randomised),
            basis: bases.join("; "),
            interface: None,
            router: false,
            allowed: false,
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
    fn live_the_neighbour_table_leases_and_names_are_joined() {
        use crate::model::{Link, LocalAddress, Neighbour, Route, Topology};
        use foldhash::quality::FixedState;

        let lan = Interface::new(b"lan0");
        let leases = LeaseBook::new([dhcp_lease::decode(
            b"1800000000 02:00:00:00:00:10 10.0.0.10 desk *\n1800000000 02:00:00:00:00:10 10.0.0.11 desk *\n\
              1600000000 02:00:00:00:00:12 10.0.0.12 away *\n",
        )]);
        let settings = Settings::default();
        let mut who = Who::new(leases, &settings, &FixedState::with_seed(1));
        let topology = Topology {
            links: vec![Link {
                interface: lan,
                has_link_layer: true,
            }],
            addresses: vec![LocalAddress {
                interface: lan,
                address: "10.0.0.1/24".parse().unwrap(),
            }],
            routes: vec![Route {
                destination: "10.5.0.0/16".parse().unwrap(),
                interface: lan,
                via: Some("10.0.0.2".parse().unwrap()),
            }],
        };
        who.set_topology(&topology, &settings);
        for (address, last) in [("10.0.0.10", 0x10), ("fe80::10", 0x10), ("10.0.0.2", 2)] {
            who.note_neighbour(
                &Neighbour {
                    interface: lan,
                    address: address.parse().unwrap(),
                    mac: Some(Mac([2, 0, 0, 0, 0, last])),
                },
                Timestamp::default(),
            );
        }
        let by_hand = [
            ("10.0.0.1", "me"),
            ("10.0.0.2", "core"),
            ("10.0.0.40", "printer"),
        ];
        who.set_hosts(
            by_hand
                .map(|(address, name)| (address.parse().unwrap(), name.to_owned()))
                .to_vec(),
        );
        let mut live = Devices::live(&who, Timestamp::from_seconds(1_700_000_000));
        live.allow(&Settings {
            allow: vec!["printer".parse().unwrap()],
            mail_servers: vec!["10.0.0.11".parse().unwrap()],
            ..Settings::default()
        });
        let allowed = live.devices.iter().map(|device| device.allowed);
        assert_eq!(allowed.collect::<Vec<_>>(), [false, true, false, true]);
        let rows: Vec<String> = live
            .devices
            .iter()
            .map(|device| {
                format!(
                    "{} {} {} ({}) {}",
                    device.id,
                    device.hostname.as_deref().unwrap_or("-"),
                    device.addresses.join(" "),
                    device.basis,
                    device.router,
                )
            })
            .collect();
        assert_eq!(
            rows,
            [
                "lan0/02:00:00:00:00:02 core 10.0.0.2 (neighbour; router) true",
                "lan0/02:00:00:00:00:10 desk 10.0.0.10 10.0.0.11 fe80::10 (neighbour; lease, active) false",
                "02:00:00:00:00:12 away 10.0.0.12 (lease, expired) false",
                "10.0.0.40 printer 10.0.0.40 (hosts) false",
            ]
        );
        let layout = Layout {
            zone: jiff::tz::TimeZone::UTC,
            top: usize::MAX,
            width: None,
        };
        let mut text = Vec::new();
        live.table(&layout, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for part in ["NAME", "IN ", "lan0", "hosts; allowed", "4 devices"] {
            assert!(
                text.contains(part),
                "no {part:?} in
{text}"
            );
        }
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
