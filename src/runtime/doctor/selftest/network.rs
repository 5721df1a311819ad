//! A gateway with a machine behind it, in one network namespace: both ends of its two wires are there, and
//! what is written to the far end of the LAN's arrives as if from another machine.

use std::fs;
use std::net::Ipv4Addr;

use nix::sched::{CloneFlags, unshare};

use crate::model::Mac;
use crate::sys::rtnetlink::Rtnetlink;

/// The network inside (RFC 5737), and the machine there.
pub(super) const LAN: &str = "192.0.2.0/24";
pub(super) const MACHINE: Mac = Mac([0x02, 0, 0, 0, 0, 0x10]);
pub(super) const MACHINE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The gateway's end of the LAN.
pub(super) const GATEWAY: Mac = Mac([0x02, 0, 0, 0, 0, 0x01]);
/// The far ends of the wires.
pub(super) const LAN_END: &str = "sw-lan1";
pub(super) const WAN_END: &str = "sw-wan1";

const LAN_OWN: &str = "sw-lan0";
const WAN_OWN: &str = "sw-wan0";
const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const WAN_ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const ROUTER_ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
pub(super) const WAN: Mac = Mac([0x02, 0, 0, 0, 0, 0x02]);
const LAN_FAR: Mac = Mac([0x02, 0, 0, 0, 0, 0x03]);
const WAN_FAR: Mac = Mac([0x02, 0, 0, 0, 0, 0x05]);
/// The router outside is nobody: the far end's own MAC would bring what leaves back to the gateway.
pub(super) const ROUTER: Mac = Mac([0x02, 0, 0, 0, 0, 0x04]);
const NAMESPACE: &str = "/proc/thread-self/ns/net";
const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Moves this thread into a fresh network namespace.
pub(super) fn enter() -> Result<(), String> {
    let before = fs::read_link(NAMESPACE).map_err(|error| format!("{NAMESPACE}: {error}"))?;
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("no network namespace can be made: {}", error.desc()))?;
    match fs::read_link(NAMESPACE) {
        Ok(now) if now != before => Ok(()),
        _ => Err("this thread is still in the machine's own network namespace".to_owned()),
    }
}

/// The network, made in the namespace of the thread.
#[derive(Debug)]
pub(super) struct Network(());

impl Network {
    /// Makes it. The caller has entered a namespace of its own.
    pub(super) fn make() -> Result<Self, String> {
        let say = |what: &'static str| move |error| format!("{what}: {error}");
        let mut rtnetlink = Rtnetlink::open().map_err(say("rtnetlink"))?;
        rtnetlink
            .add_wire((LAN_OWN, GATEWAY), (LAN_END, LAN_FAR))
            .map_err(say("a pair of veth interfaces"))?;
        rtnetlink
            .add_wire((WAN_OWN, WAN), (WAN_END, WAN_FAR))
            .map_err(say("a pair of veth interfaces"))?;
        rtnetlink
            .add_address(LAN_OWN, GATEWAY_ADDRESS, 24)
            .and_then(|()| rtnetlink.add_address(WAN_OWN, WAN_ADDRESS, 24))
            .map_err(say("an address"))?;
        rtnetlink
            .add_default_route(WAN_OWN, ROUTER_ADDRESS)
            .map_err(say("a default route"))?;
        rtnetlink
            .add_neighbour(LAN_OWN, MACHINE_ADDRESS, MACHINE)
            .and_then(|()| rtnetlink.add_neighbour(WAN_OWN, ROUTER_ADDRESS, ROUTER))
            .map_err(say("a neighbour entry"))?;
        fs::write(FORWARD, "1").map_err(say("switching forwarding on in the namespace"))?;
        Ok(Self(()))
    }
}
