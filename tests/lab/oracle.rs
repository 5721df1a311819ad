//! What really passed a hook, counted by nft alone: a second opinion on what the senders say.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Connection, Lab, succeed};

/// A connection with the MAC of its frames, where they have one.
pub(crate) type Key = (Option<String>, IpAddr, u16, IpAddr, u16);

/// Where it counts.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// Everything that comes to the gateway, with MACs where the interface has them.
    Gateway,
    /// What a machine sends, before anybody can have changed it.
    Sender(&'static str),
}

/// Sets that remember each SYN to a mail port.
pub(crate) struct Oracle<'a> {
    lab: &'a Lab,
    machine: &'static str,
}

impl<'a> Oracle<'a> {
    /// Begins to count.
    pub(crate) fn count(lab: &'a Lab, place: Place) -> Self {
        let (machine, hook, has_macs) = match place {
            Place::Gateway => ("gw", "prerouting", true),
            Place::Sender(machine) => (machine, "output", false),
        };
        let mut sets = String::new();
        let mut rules = String::new();
        for (version, family) in [("4", "ip"), ("6", "ip6")] {
            let tuple = format!(
                "ipv{version}_addr . inet_service . ipv{version}_addr . inet_service; \
                 flags dynamic; size 65536; counter; }}"
            );
            let key = format!("{family} saddr . tcp sport . {family} daddr . tcp dport");
            sets += &format!("set seen{version} {{ type {tuple}\n");
            let mut match_bare = "";
            if has_macs {
                sets += &format!("set frames{version} {{ type ether_addr . {tuple}\n");
                rules += &format!(
                    "iifname lan0 syns update @frames{version} {{ ether saddr . {key} }}\n"
                );
                match_bare = "iifname wg0 ";
            }
            rules += &format!("{match_bare}syns update @seen{version} {{ {key} }}\n");
        }
        let rules = rules.replace(
            "syns",
            "tcp flags & (fin|syn|rst|ack) == syn tcp dport { 25, 465, 587 }",
        );
        let text = format!(
            "table inet oracle {{\n{sets}\nchain {hook} {{ type filter hook {hook} priority -160;\n{rules}}}\n}}\n"
        );
        let mut nft = lab.inside(machine, "nft");
        let mut child = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{text}");
        Self { lab, machine }
    }

    /// Each connection seen, and how many SYNs it had.
    pub(crate) fn seen(&self) -> BTreeMap<Key, u64> {
        let mut nft = self.lab.inside(self.machine, "nft");
        let output = succeed(nft.args(["-j", "list", "table", "inet", "oracle"]));
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut seen = BTreeMap::new();
        for object in listed["nftables"].as_array().unwrap() {
            for element in object["set"]["elem"].as_array().into_iter().flatten() {
                let element = &element["elem"];
                let mut parts = element["val"]["concat"].as_array().unwrap().as_slice();
                let mut mac = None;
                if let [first, rest @ ..] = parts
                    && rest.len() == 4
                {
                    mac = Some(first.as_str().unwrap().to_owned());
                    parts = rest;
                }
                let address = |value: &Value| value.as_str().unwrap().parse::<IpAddr>().unwrap();
                let port = |value: &Value| u16::try_from(value.as_u64().unwrap()).unwrap();
                let key = (
                    mac,
                    address(&parts[0]),
                    port(&parts[1]),
                    address(&parts[2]),
                    port(&parts[3]),
                );
                let packets = element["counter"]["packets"].as_u64().unwrap();
                assert_eq!(seen.insert(key, packets), None);
            }
        }
        seen
    }
}

/// What the oracle should have seen of a connection.
pub(crate) fn key(connection: &Connection, with_mac: bool) -> Key {
    (
        connection.mac.clone().filter(|_| with_mac),
        connection.src,
        connection.src_port,
        connection.dst,
        connection.dst_port,
    )
}
