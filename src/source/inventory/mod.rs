//! Who is who on this machine's networks, live: interfaces, addresses and routes, the neighbour
//! table, DHCP leases, names configured by hand; and what changes of it.
//!
//! It is read before each batch of packets, so that what the packets follow from is known first; where
//! nothing has changed that costs one system call, and a look at the lease files once a millisecond.
//! It changes nothing, and asks the network nothing.

mod files;
mod netlink;
mod survey;

use std::collections::HashMap;
use std::fmt;
use std::fs::Metadata;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::leases::LEASES_ADVICE;
use crate::decode::dhcp_lease::{self, Record};
use crate::decode::hosts;
use crate::engine::Input;
use crate::model::{Interface, LocalAddress, Mac, Neighbour, Route, Timestamp, Topology};
use files::{Change, Followed};
use netlink::{Fact, Hop, Socket, Table};
pub(crate) use survey::{LinkKind, SurveyedLink, Ways, survey};

/// The largest lease file that is followed: a hundred thousand leases or so.
const MAX_LEASES: u64 = 16 << 20;
/// The largest /etc/hosts: ad blockers write long ones.
const MAX_HOSTS: u64 = 16 << 20;
/// Lease files that are followed.
const MAX_FILES: usize = 64;
/// Neighbour entries and routes that are kept.
const MAX_NEIGHBOURS: usize = 65_536;
const MAX_ROUTES: usize = 65_536;
/// How often a dump that changed while it was made is made again.
const MAX_DUMPS: usize = 3;

/// Microseconds between two looks at the lease files ...
const LEASES_EVERY: i64 = 1_000;
/// ... at the names configured by hand ...
const HOSTS_EVERY: i64 = 3_000_000;
/// ... at the places where lease files may have come to be.
const SEARCH_EVERY: i64 = 5_000_000;
/// ... and at the least between two dumps of the topology, with a share for each route, for a router
/// of the Internet's core changes a few of its million routes all the time.
const TOPOLOGY_EVERY: i64 = 100_000;
const TOPOLOGY_EVERY_ROUTE: i64 = 20;

/// Where DHCP servers keep their leases: a folder, and the beginning and end of the file's name. Of
/// Kea the older files come first, for a later one has the later word.
const PLACES: [(&str, &str, &str); 18] = [
    ("/var/lib/misc", "dnsmasq", ".leases"),
    ("/var/lib/dnsmasq", "", ".leases"),
    ("/var/lib/NetworkManager", "dnsmasq-", ".leases"),
    ("/var/lib/libvirt/dnsmasq", "", ".leases"),
    ("/var/lib/lxc", "dnsmasq.", ".leases"),
    ("/var/lib/misc/lxc", "dnsmasq.", ".leases"),
    ("/etc/pihole", "dhcp.leases", ""),
    ("/run/dnsmasq", "", ".leases"),
    ("/tmp", "dhcp.leases", ""),
    ("/var/lib/dhcp", "dhcpd", ".leases"),
    ("/var/lib/dhcpd", "dhcpd", ".leases"),
    ("/var/db", "dhcpd", ".leases"),
    ("/var/lib/kea", "kea-leases4.csv.2", ""),
    ("/var/lib/kea", "kea-leases4.csv.1", ""),
    ("/var/lib/kea", "kea-leases4.csv", ""),
    ("/var/lib/kea", "kea-leases6.csv.2", ""),
    ("/var/lib/kea", "kea-leases6.csv.1", ""),
    ("/var/lib/kea", "kea-leases6.csv", ""),
];

/// What to follow.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Lease files that were named.
    pub(crate) leases: Vec<PathBuf>,
    /// Whether lease files are searched for in their usual places, too.
    pub(crate) searches: bool,
    /// Names configured by hand.
    pub(crate) hosts: PathBuf,
}

impl Options {
    /// Follows `leases`, or where there are none, those that are found.
    pub(crate) fn following(leases: &[PathBuf]) -> Self {
        Self {
            leases: leases.to_vec(),
            searches: leases.is_empty(),
            ..Self::default()
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            leases: Vec::new(),
            searches: true,
            hosts: PathBuf::from("/etc/hosts"),
        }
    }
}

/// Why the inventory cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InventoryError {
    /// No netlink socket.
    #[error(
        "cannot ask the kernel for interfaces and neighbours (rtnetlink socket): {0}; in a sandbox or container allow \
         AF_NETLINK"
    )]
    Socket(#[source] io::Error),
    /// The kernel did not answer a question.
    #[error("cannot read the kernel's table of {table}: {cause}")]
    Dump {
        /// Which table.
        table: &'static str,
        /// The kernel's word.
        cause: io::Error,
    },
    /// The kernel's changes cannot be heard any more.
    #[error("cannot hear of changes of interfaces and neighbours (rtnetlink): {0}")]
    Listen(#[source] io::Error),
    /// A lease file that was named cannot be read.
    #[error("{path}: leases cannot be read: {cause}; {LEASES_ADVICE}", path = path.display())]
    Leases {
        /// Which.
        path: PathBuf,
        /// The system's word.
        cause: io::Error,
    },
}

/// Something that could not be seen, told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint(String);

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How often something was lost, or left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Times that changes came faster than they were read; all was read anew.
    pub(crate) overruns: u64,
    /// Messages of the kernel that could not be decoded.
    pub(crate) undecoded: u64,
    /// Neighbour entries for which there was no room.
    pub(crate) neighbours: u64,
    /// Routes for which there was no room, at the last reading.
    pub(crate) routes: u64,
}

/// The inventory, and what is needed to keep it.
pub(crate) struct Inventory {
    listening: Socket,
    asking: Socket,
    links: HashMap<u32, Interface>,
    topology: Option<Topology>,
    neighbours: HashMap<(u32, IpAddr), (Interface, Mac)>,
    stale: Stale,
    topology_read: Option<Timestamp>,
    leases: Vec<LeaseFile>,
    /// How many of them were named; they come first.
    named: usize,
    are_leases_told: bool,
    searches: bool,
    hosts: Followed,
    looked: Looked,
    lost: Lost,
    complaints: Vec<Complaint>,
}

/// A lease file, and what is in it.
struct LeaseFile {
    file: Followed,
    records: Vec<Record>,
    /// Whether it was told that not all of it can be read.
    is_told: bool,
}

impl LeaseFile {
    fn new(path: PathBuf) -> Self {
        Self {
            file: Followed::new(path, MAX_LEASES),
            records: Vec::new(),
            is_told: false,
        }
    }

    /// Looks at it; answers whether its leases have changed, and what to complain of.
    fn look(&mut self, now: Timestamp) -> (bool, Option<Complaint>) {
        let change = self.file.look(now);
        let complaint = |what: String| Complaint(format!("{}: {what}", self.file.path.display()));
        match change {
            Change::None => (false, None),
            Change::Gone => {
                self.records.clear();
                (true, None)
            }
            Change::Failed(error) => (
                false,
                Some(complaint(format!(
                    "leases cannot be read: {error}; {LEASES_ADVICE}"
                ))),
            ),
            Change::New => {
                let decoded = dhcp_lease::decode(self.file.text());
                self.records = decoded.records;
                let skipped = decoded.skipped.total();
                let is_news = skipped > 0 && !self.is_told;
                self.is_told |= is_news;
                let what = if decoded.kind.is_some() {
                    let reasons = decoded.skipped.iter();
                    let reasons: Vec<String> = reasons
                        .map(|(skip, count)| format!("{} {count}", skip.reason()))
                        .collect();
                    format!(
                        "passed over as no leases: {}; smtpwatch devices --leases shows the others",
                        reasons.join(", ")
                    )
                } else {
                    format!("no leases in it; {LEASES_ADVICE}")
                };
                let told = complaint(what);
                (true, is_news.then_some(told))
            }
        }
    }
}

/// What must be asked for anew.
#[derive(Clone, Copy, Debug)]
struct Stale {
    topology: bool,
    neighbours: bool,
}

/// When each of the files was looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Looked {
    leases: Option<Timestamp>,
    hosts: Option<Timestamp>,
    search: Option<Timestamp>,
}

impl Inventory {
    /// Opens it, for the network namespace of the calling thread. The first reading has everything.
    pub(crate) fn open(options: &Options) -> Result<Self, InventoryError> {
        for path in &options.leases {
            std::fs::File::open(path).map_err(|cause| InventoryError::Leases {
                path: path.clone(),
                cause,
            })?;
        }
        Ok(Self {
            listening: Socket::listening().map_err(InventoryError::Socket)?,
            asking: Socket::asking().map_err(InventoryError::Socket)?,
            links: HashMap::new(),
            topology: None,
            neighbours: HashMap::new(),
            stale: Stale {
                topology: true,
                neighbours: true,
            },
            topology_read: None,
            leases: options.leases.iter().cloned().map(LeaseFile::new).collect(),
            named: options.leases.len(),
            are_leases_told: false,
            searches: options.searches,
            hosts: Followed::new(options.hosts.clone(), MAX_HOSTS),
            looked: Looked::default(),
            lost: Lost::default(),
            complaints: Vec::new(),
        })
    }

    /// What has changed since the last reading, everything at the first one; `now` is the time that
    /// inputs bear. To be called before packets are handed in, and every second or so where there
    /// are none.
    pub(crate) fn read(&mut self, now: Timestamp) -> Result<Vec<Input>, InventoryError> {
        let mut inputs = Vec::new();
        self.listen(&mut inputs)?;
        let every = self.topology.as_ref().map_or(0, |topology| {
            let routes = i64::try_from(topology.routes.len()).unwrap_or(i64::MAX);
            TOPOLOGY_EVERY.saturating_add(TOPOLOGY_EVERY_ROUTE.saturating_mul(routes))
        });
        if self.stale.topology && is_due(&mut self.topology_read, every, now) {
            self.read_topology(&mut inputs)?;
        }
        if self.stale.neighbours {
            self.read_neighbours(&mut inputs)?;
        }
        if is_due(&mut self.looked.search, SEARCH_EVERY, now) && self.searches {
            self.search();
        }
        if is_due(&mut self.looked.leases, LEASES_EVERY, now) {
            self.read_leases(now, &mut inputs);
        }
        if is_due(&mut self.looked.hosts, HOSTS_EVERY, now) {
            self.read_hosts(now, &mut inputs);
        }
        Ok(inputs)
    }

    /// What could not be seen since the last call.
    pub(crate) fn complaints(&mut self) -> Vec<Complaint> {
        std::mem::take(&mut self.complaints)
    }

    /// How much was lost so far.
    pub(crate) fn lost(&self) -> Lost {
        self.lost
    }

    /// The lease files that are followed.
    pub(crate) fn lease_files(&self) -> impl Iterator<Item = &Path> {
        self.leases.iter().map(|leases| leases.file.path.as_path())
    }

    /// Takes the changes that the kernel has told of.
    fn listen(&mut self, inputs: &mut Vec<Input>) -> Result<(), InventoryError> {
        let Self {
            listening,
            links,
            neighbours,
            lost,
            stale,
            ..
        } = self;
        let taken = listening.receive(|fact| match fact {
            Fact::Link(_) | Fact::Address(..) | Fact::Route(..) | Fact::Changed => {
                stale.topology = true;
            }
            Fact::Neighbour(index, address, mac) => {
                let known = neighbours.get(&(index, address)).copied();
                match (links.get(&index).copied(), known) {
                    // Of an interface that is gone, or has come, or has got another name.
                    (None, None) => stale.neighbours |= mac.is_some(),
                    (interface, known) => {
                        let known_interface = known.map(|(interface, _)| interface);
                        if let Some(interface) = interface.or(known_interface) {
                            note(neighbours, lost, (index, interface), address, mac, inputs);
                        }
                    }
                }
            }
            Fact::Undecoded => lost.undecoded += 1,
            Fact::Nothing => {}
        });
        if taken.map_err(InventoryError::Listen)? {
            self.lost.overruns += 1;
            self.stale.topology = true;
            self.stale.neighbours = true;
            // It is not known what has changed: at once.
            self.topology_read = None;
        }
        if self.stale.neighbours {
            self.stale.topology = true;
            self.topology_read = None;
        }
        Ok(())
    }

    /// Asks for links, addresses and routes, and tells of them where they are not what they were.
    fn read_topology(&mut self, inputs: &mut Vec<Input>) -> Result<(), InventoryError> {
        self.stale.topology = false;
        let (mut topology, mut links) = (Topology::default(), HashMap::new());
        for fact in self.dump(Table::Links)? {
            if let Fact::Link(link) = fact {
                links.insert(link.index, link.interface);
                if link.is_up && !link.is_loopback {
                    topology.links.push(crate::model::Link {
                        interface: link.interface,
                        has_link_layer: link.has_link_layer,
                    });
                }
            }
        }
        for fact in self.dump(Table::Addresses)? {
            if let Fact::Address(index, address) = fact
                && let Some(&interface) = links.get(&index)
            {
                topology.addresses.push(LocalAddress { interface, address });
            }
        }
        self.lost.routes = 0;
        for fact in self.dump(Table::Routes)? {
            if let Fact::Route(destination, hops) = fact {
                self.lost.routes += add_routes(&mut topology, &links, destination, &hops);
            }
        }
        // The order of the kernel's tables is chance.
        topology.links.sort_unstable_by_key(|link| link.interface);
        topology
            .addresses
            .sort_unstable_by_key(|own| (own.interface, own.address));
        topology
            .routes
            .sort_unstable_by_key(|route| (route.destination, route.interface, route.via));
        topology.routes.dedup();
        if links != self.links {
            self.links = links;
            self.stale.neighbours = true;
        }
        if self.topology.as_ref() != Some(&topology) {
            self.topology = Some(topology.clone());
            inputs.push(Input::Topology(topology));
        }
        Ok(())
    }

    /// Asks for the neighbour table, and tells of what differs from what is known of it.
    fn read_neighbours(&mut self, inputs: &mut Vec<Input>) -> Result<(), InventoryError> {
        self.stale.neighbours = false;
        let facts = self.dump(Table::Neighbours)?;
        let mut found = HashMap::new();
        for fact in facts {
            if let Fact::Neighbour(index, address, Some(mac)) = fact
                && let Some(&interface) = self.links.get(&index)
            {
                found.insert((index, address), (interface, mac));
            }
        }
        let mut gone: Vec<(u32, IpAddr)> = self
            .neighbours
            .iter()
            .filter(|(key, (interface, _))| {
                found.get(*key).is_none_or(|(found, _)| found != interface)
            })
            .map(|(key, _)| *key)
            .collect();
        gone.sort_unstable();
        for (index, address) in gone {
            if let Some(&(interface, _)) = self.neighbours.get(&(index, address)) {
                let place = (index, interface);
                note(
                    &mut self.neighbours,
                    &mut self.lost,
                    place,
                    address,
                    None,
                    inputs,
                );
            }
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_unstable();
        for ((index, address), (interface, mac)) in found {
            let place = (index, interface);
            let mac = Some(mac);
            note(
                &mut self.neighbours,
                &mut self.lost,
                place,
                address,
                mac,
                inputs,
            );
        }
        Ok(())
    }

    fn dump(&mut self, table: Table) -> Result<Vec<Fact>, InventoryError> {
        let mut facts = Vec::new();
        for _ in 0..MAX_DUMPS {
            facts.clear();
            let is_whole = self
                .asking
                .dump(table, |fact| facts.push(fact))
                .map_err(|cause| InventoryError::Dump {
                    table: table.name(),
                    cause,
                })?;
            if is_whole {
                break;
            }
        }
        let undecoded = facts.iter().filter(|fact| **fact == Fact::Undecoded);
        self.lost.undecoded += undecoded.count() as u64;
        Ok(facts)
    }

    /// Looks for lease files that are not followed yet.
    fn search(&mut self) {
        let mut found: Vec<PathBuf> = Vec::new();
        for (folder, start, end) in PLACES {
            found.extend(matching(Path::new(folder), start, end));
        }
        for path in found {
            let is_followed = self.leases.iter().any(|it| it.file.path == path);
            let Ok(metadata) = std::fs::metadata(&path) else {
                continue;
            };
            if is_followed
                || self.leases.iter().any(|it| it.file.is(&metadata))
                || !is_trustworthy(&path, &metadata)
            {
                continue;
            }
            if self.leases.len() >= MAX_FILES {
                self.complain(format!(
                    "{}: more than {MAX_FILES} lease files; name those that count with --leases",
                    path.display()
                ));
                return;
            }
            self.leases.push(LeaseFile::new(path));
        }
    }

    fn read_leases(&mut self, now: Timestamp, inputs: &mut Vec<Input>) {
        let mut has_changed = !self.are_leases_told;
        for leases in &mut self.leases {
            let (is_new, complaint) = leases.look(now);
            has_changed |= is_new;
            self.complaints.extend(complaint);
        }
        if has_changed {
            self.are_leases_told = true;
            // Those that were named have the later word.
            let (named, found) = self.leases.split_at(self.named);
            let records = found
                .iter()
                .chain(named)
                .flat_map(|it| it.records.iter().cloned());
            inputs.push(Input::Leases(records.collect()));
        }
    }

    fn read_hosts(&mut self, now: Timestamp, inputs: &mut Vec<Input>) {
        match self.hosts.look(now) {
            Change::None => {}
            Change::New => inputs.push(Input::Hosts(hosts::decode(self.hosts.text()))),
            Change::Gone => inputs.push(Input::Hosts(Vec::new())),
            Change::Failed(error) => {
                self.complain(format!(
                    "{}: names cannot be read: {error}",
                    self.hosts.path.display()
                ));
            }
        }
    }

    fn complain(&mut self, what: String) {
        let complaint = Complaint(what);
        if !self.complaints.contains(&complaint) {
            self.complaints.push(complaint);
        }
    }
}

/// The socket on which changes of links, addresses, routes and neighbours arrive.
impl AsFd for Inventory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listening.as_fd()
    }
}

/// Whether `every` microseconds have passed since `last`; if so, `last` is now.
fn is_due(last: &mut Option<Timestamp>, every: i64, now: Timestamp) -> bool {
    let is_due = last.is_none_or(|last| now.micros_since(last) >= every);
    if is_due {
        *last = Some(now);
    }
    is_due
}

/// Takes a neighbour entry; one that is news becomes an input.
fn note(
    neighbours: &mut HashMap<(u32, IpAddr), (Interface, Mac)>,
    lost: &mut Lost,
    (index, interface): (u32, Interface),
    address: IpAddr,
    mac: Option<Mac>,
    inputs: &mut Vec<Input>,
) {
    let key = (index, address);
    let known = neighbours.get(&key).copied();
    if known == mac.map(|mac| (interface, mac)) {
        return;
    }
    match mac {
        Some(_) if known.is_none() && neighbours.len() >= MAX_NEIGHBOURS => {
            lost.neighbours += 1;
            return;
        }
        Some(mac) => neighbours.insert(key, (interface, mac)),
        None => neighbours.remove(&key),
    };
    inputs.push(Input::Neighbour(Neighbour {
        interface,
        address,
        mac,
    }));
}

/// Adds a route, once for each next hop; answers how many had no room.
fn add_routes(
    topology: &mut Topology,
    links: &HashMap<u32, Interface>,
    destination: ipnet::IpNet,
    hops: &[Hop],
) -> u64 {
    let mut refused = 0;
    for hop in hops {
        let Some(&interface) = links.get(&hop.index) else {
            continue;
        };
        if topology.routes.len() >= MAX_ROUTES {
            refused += 1;
            continue;
        }
        topology.routes.push(Route {
            destination,
            interface,
            via: hop.via,
        });
    }
    refused
}

/// Files in `folder` whose names begin and end so, in the order of their names; with an empty end, the
/// one of that name.
fn matching(folder: &Path, start: &str, end: &str) -> Vec<PathBuf> {
    if end.is_empty() {
        return vec![folder.join(start)];
    }
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// Whether a file that nobody named may be believed: others cannot have written it. In a folder for
/// all it must be root's.
fn is_trustworthy(path: &Path, metadata: &Metadata) -> bool {
    let is_for_all = metadata.mode() & 0o002 != 0;
    let in_shared_folder = path
        .parent()
        .and_then(|folder| std::fs::metadata(folder).ok())
        .is_none_or(|folder| folder.mode() & 0o002 != 0);
    metadata.is_file() && !is_for_all && (!in_shared_folder || metadata.uid() == 0)
}

#[cfg(test)]
mod tests;
