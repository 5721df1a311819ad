//! Whether a watcher said what was so: each attempt once, by whom, and nothing of anybody else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::harness::{Connection, Lab, Machine, Truth, has_root};
use crate::watcher::{Attempt, Device, Sees, Watched};

/// What makes an answer wrong.
type Spoil = fn(&mut Watched);
type Tuple = (IpAddr, u16, IpAddr, u16);

fn tuple(connection: &Connection) -> Tuple {
    (
        connection.src,
        connection.src_port,
        connection.dst,
        connection.dst_port,
    )
}

/// Everything: each attempt that the source could see was told once, with the right device, and the
/// report says the same.
pub(crate) fn assert_right(truth: &Truth, watched: &Watched) {
    let expected = visible(truth, &watched.sees);
    assert_nothing_wrong(truth, watched);
    let told: BTreeSet<Tuple> = watched.attempts().map(|told| told_tuple(&told)).collect();
    let missing: Vec<_> = expected
        .values()
        .flatten()
        .filter(|connection| !told.contains(&tuple(connection)))
        .collect();
    let losses: Vec<_> = watched.of_type("loss").collect();
    if is_excused(&losses) {
        let lost: u64 = losses
            .iter()
            .filter_map(|loss| loss["events"].as_u64())
            .sum();
        assert!(missing.len() as u64 <= lost, "{lost} lost, but {missing:?}");
        return;
    }
    assert!(losses.is_empty(), "{losses:?}");
    assert!(missing.is_empty(), "{:?} missed {missing:?}", watched.sees);
    let told: BTreeSet<Tuple> = watched.spoofed().map(|told| told_tuple(&told)).collect();
    let lies: BTreeSet<Tuple> = truth.forged.iter().map(tuple).collect();
    assert_eq!(told, lies, "what is not believed");
    // What is behind an access point is told by its TTLs, and nobody else is taken for several.
    let shared = expected.keys().filter(|party| party.name == "ap").count();
    assert_eq!(watched.of_type("shared").count(), shared);
    assert_report(truth, watched, &expected);
}

/// The kernel's log is one for the whole machine: elsewhere than in CI, where nobody else is, another
/// program may have overwritten what was to be read. Then it is enough that the loss was told.
fn is_excused(losses: &[&serde_json::Value]) -> bool {
    let is_the_rings =
        |loss: &&&serde_json::Value| loss["source"] == "kmsg" && loss["kind"] == "overwritten";
    std::env::var_os("CI").is_none()
        && !losses.is_empty()
        && losses.iter().filter(is_the_rings).count() == losses.len()
}

/// Nothing was told twice, nothing that was not, and nothing of the wrong device; some may be missing.
pub(crate) fn assert_nothing_wrong(truth: &Truth, watched: &Watched) {
    let expected = visible(truth, &watched.sees);
    let whose: BTreeMap<Tuple, (&Party, &Connection)> = expected
        .iter()
        .flat_map(|(party, connections)| {
            connections
                .iter()
                .map(move |connection| (tuple(connection), (party, *connection)))
        })
        .collect();
    let forged: BTreeSet<Tuple> = truth.forged.iter().map(tuple).collect();
    let unscored = unscored(truth);
    let mut seen = BTreeSet::new();
    let mut ids: BTreeMap<&Party, BTreeSet<String>> = BTreeMap::new();
    for told in watched.attempts() {
        let tuple = told_tuple(&told);
        assert!(seen.insert(tuple), "told twice: {told:?}");
        if let Some((party, connection)) = whose.get(&tuple) {
            assert_told(&told, party, connection);
            ids.entry(party).or_default().extend(told.device);
        } else if forged.contains(&tuple) {
            panic!("a lie was believed: {told:?}");
        } else {
            assert!(unscored.contains(&tuple), "nobody sent {told:?}");
        }
    }
    for told in watched.spoofed() {
        assert!(forged.contains(&told_tuple(&told)), "disbelieved: {told:?}");
    }
    for (party, ids) in &ids {
        assert_eq!(ids.len(), 1, "{party:?} is one device, not {ids:?}");
    }
    let distinct: BTreeSet<_> = ids.values().flatten().collect();
    assert_eq!(distinct.len(), ids.len(), "devices were mixed up: {ids:?}");
}

/// Who can be told from others by what the gateway sees.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Party {
    /// A machine; "ap" for all behind the access point; a machine and an IP version where nothing tells
    /// that two addresses are one's.
    name: String,
    interface: String,
    /// In its frames.
    mac: Option<String>,
    /// Whether that is known to be the device's own.
    has_own_mac: bool,
    hostname: Option<String>,
}

fn party(machine: &Machine, connection: &Connection) -> Party {
    let is_ipv4 = connection.src.is_ipv4();
    let by_address = format!("{} by IPv{}", machine.name, if is_ipv4 { 4 } else { 6 });
    let whole = Party {
        name: machine.name.clone(),
        interface: machine.interface.clone().unwrap(),
        mac: machine.mac.clone(),
        has_own_mac: true,
        hostname: machine.hostname.clone(),
    };
    match machine.place.as_str() {
        "ap" => Party {
            name: "ap".to_owned(),
            ..whole
        },
        // Behind a router the MAC is the router's: it must not name the device.
        "router" | "tunnel" => Party {
            name: by_address,
            has_own_mac: false,
            ..whole
        },
        // Which networks are on a VLAN is not known to who captures its frames elsewhere: only a lease
        // tells that an address is a station's.
        _ if connection.vlan.is_some() => Party {
            name: by_address,
            hostname: whole.hostname.clone().filter(|_| is_ipv4),
            ..whole
        },
        _ => whole,
    }
}

/// What a source could see of what is scored, by who sent it.
fn visible<'a>(truth: &'a Truth, sees: &Sees) -> BTreeMap<Party, Vec<&'a Connection>> {
    let mut parties: BTreeMap<Party, Vec<&Connection>> = BTreeMap::new();
    for machine in &truth.machines {
        let Some(interface) = &machine.interface else {
            continue;
        };
        for connection in &machine.connections {
            let is_scored =
                connection.dst_port == 25 && connection.direction.as_deref() == Some("outbound");
            let is_seen = match sees {
                Sees::Hooks => connection.vlan.is_none(),
                Sees::Frames(captured) => captured == interface,
            };
            if is_scored && is_seen {
                let party = party(machine, connection);
                parties.entry(party).or_default().push(connection);
            }
        }
    }
    parties
}

/// What may be told and is never scored: the Internet's mail, the gateway's own, mail inside.
fn unscored(truth: &Truth) -> BTreeSet<Tuple> {
    let own = truth
        .machines
        .iter()
        .flat_map(|machine| &machine.connections);
    own.filter(|connection| connection.direction.as_deref() != Some("outbound"))
        .chain(&truth.outside)
        .map(tuple)
        .collect()
}

fn told_tuple(told: &Attempt) -> Tuple {
    (told.src_ip, told.src_port, told.dest_ip, told.dest_port)
}

fn assert_told(told: &Attempt, party: &Party, connection: &Connection) {
    assert!(told.device.is_some(), "nobody's: {told:?}, {party:?}");
    assert_eq!(told.src_mac, party.mac, "{told:?}");
    assert_eq!(told.in_iface.as_ref(), Some(&party.interface), "{told:?}");
    assert_eq!(told.vlan.first(), connection.vlan.as_ref(), "{told:?}");
    assert_eq!(told.direction, "outbound", "{told:?}");
    assert_eq!(told.hostname, party.hostname, "{told:?}");
}

fn assert_report(truth: &Truth, watched: &Watched, expected: &BTreeMap<Party, Vec<&Connection>>) {
    let ids: BTreeMap<Tuple, String> = watched
        .attempts()
        .filter_map(|told| Some((told_tuple(&told), told.device?)))
        .collect();
    let mut left: BTreeMap<&str, &Device> = watched
        .devices
        .iter()
        .map(|device| (device.id.as_str(), device))
        .collect();
    for (party, connections) in expected {
        let id = &ids[&tuple(connections[0])];
        let device = left
            .remove(id.as_str())
            .unwrap_or_else(|| panic!("{id} ({party:?}) is not in the report: {left:?}"));
        assert_eq!(device.attempts, connections.len(), "{device:?}, {party:?}");
        let addresses: BTreeSet<IpAddr> = connections.iter().map(|sent| sent.src).collect();
        let told: BTreeSet<IpAddr> = device.addresses.iter().copied().collect();
        assert_eq!(told, addresses, "{device:?}");
        assert_eq!(device.hostname, party.hostname, "{device:?}");
        assert_eq!(device.interface.as_ref(), Some(&party.interface));
        let mac = party.mac.as_ref().filter(|_| party.has_own_mac);
        assert_eq!(device.mac.as_ref(), mac, "{device:?}");
        assert_verdict(truth, party, device, connections);
    }
    let left: Vec<_> = left.values().filter(|device| device.attempts > 0).collect();
    assert!(left.is_empty(), "nobody is {left:?}");
}

fn assert_verdict(truth: &Truth, party: &Party, device: &Device, connections: &[&Connection]) {
    if party.name == "mail" {
        assert_eq!(device.verdict, "allowed", "{device:?}");
        return;
    }
    let is_bot = truth.machines.iter().any(|machine| {
        let is_it = connections.iter().any(|sent| {
            let theirs = machine.connections.iter();
            theirs.map(tuple).any(|theirs| theirs == tuple(sent))
        });
        is_it && truth.infected.contains(&machine.name)
    });
    // A bot that used fewer networks by this address than the detector's threshold is not told by it.
    let is_told = is_bot && connections.len() >= 20;
    assert_eq!(device.verdict == "infected", is_told, "{device:?}");
}

/// What a watcher that sees everything right would have said.
fn perfect(truth: &Truth) -> Watched {
    let parties = visible(truth, &Sees::Hooks);
    let mut events = Vec::new();
    let mut devices = Vec::new();
    for (party, connections) in &parties {
        let mac = party.mac.clone().filter(|_| party.has_own_mac);
        if party.name == "ap" {
            events.push(serde_json::json!({ "event_type": "shared" }));
        }
        let addresses: BTreeSet<IpAddr> = connections.iter().map(|sent| sent.src).collect();
        for sent in connections {
            events.push(serde_json::json!({
                "event_type": "attempt", "src_ip": sent.src, "src_port": sent.src_port,
                "dest_ip": sent.dst, "dest_port": sent.dst_port, "in_iface": party.interface,
                "direction": "outbound", "src_mac": party.mac, "device": party.name,
                "hostname": party.hostname,
            }));
        }
        devices.push(Device {
            outcomes: BTreeMap::new(),
            id: party.name.clone(),
            mac,
            addresses: addresses.into_iter().collect(),
            hostname: party.hostname.clone(),
            interface: Some(party.interface.clone()),
            attempts: connections.len(),
            verdict: if party.name == "mail" {
                "allowed"
            } else {
                "normal"
            }
            .to_owned(),
        });
    }
    Watched {
        folder: None,
        sees: Sees::Hooks,
        events,
        devices,
    }
}

#[test]
fn what_is_right_is_told_from_what_is_not() {
    if !has_root() {
        return;
    }
    let lab = Lab::up(&[]);
    let truth = lab.run("ordinary-day");
    assert_right(&truth, &perfect(&truth));
    let spoil: [(&str, Spoil); 8] = [
        ("missed", |watched| drop(watched.events.pop())),
        ("twice", |watched| {
            watched.events.push(watched.events[1].clone());
        }),
        ("put to another", |watched| {
            watched.events[1]["device"] = "printer".into();
        }),
        ("two become one", |watched| {
            for event in &mut watched.events {
                if event["device"] == "mail" {
                    event["device"] = "printer".into();
                }
            }
        }),
        ("made up", |watched| {
            let mut event = watched.events[1].clone();
            event["src_port"] = 1.into();
            watched.events.push(event);
        }),
        ("wrong MAC", |watched| {
            watched.events[1]["src_mac"] = "02:00:77:00:00:99".into();
        }),
        ("wrong count", |watched| watched.devices[0].attempts += 1),
        ("wrong verdict", |watched| {
            watched.devices[0].verdict = "infected".to_owned();
        }),
    ];
    for (what, spoil) in spoil {
        let mut watched = perfect(&truth);
        spoil(&mut watched);
        let judged = std::panic::catch_unwind(|| assert_right(&truth, &watched));
        assert!(judged.is_err(), "{what} went by");
    }
}
