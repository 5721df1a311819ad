//! Network namespaces for tests, with `nft` as the oracle.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::panic;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use super::elements::Set;
use crate::model::{Interface, Mac};

/// Our table as far as these tests need it: the sets and counters that the rules will have.
pub(super) const RULESET: &str = "
table inet smtpwatch {
    counter seen { }
    counter logged { packets 3 bytes 180 }
    set watched_ports { type inet_service; elements = { 25, 587 }; }
    set quarantine_mac { type ifname . ether_addr; size 65535; flags timeout; counter; }
    set quarantine4 { type ifname . ipv4_addr; size 65535; flags timeout; }
    set quarantine6 { type ifname . ipv6_addr; size 65535; flags timeout; }
    set few { type ether_addr; size 4; flags timeout; }
    set addresses { type ipv4_addr; flags timeout; timeout 1h; }
    set forever { type ipv6_addr; }
    chain forward {
        type filter hook forward priority filter - 10; policy accept;
        tcp dport @watched_ports iifname . ether saddr @quarantine_mac drop
    }
}
";

/// Runs `test` on a thread in a network namespace of its own, which ends with it.
pub(super) fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            test()
        });
        thread
            .join()
            .unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    })
}

/// Runs a program in the thread's namespace; gives its output and its process id.
#[expect(clippy::disallowed_methods, reason = "the oracle is a process")]
pub(super) fn run(program: &str, arguments: &[&str]) -> (String, u32) {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}");
    (String::from_utf8(output.stdout).unwrap(), pid)
}

/// Runs `nft` with one command; gives its process id.
pub(super) fn nft(command: &str) -> u32 {
    run("nft", &[command]).1
}

/// The elements of a set as `nft -j` lists them.
pub(super) fn elements(set: &str) -> Vec<Value> {
    let listed = run("nft", &["-j", "list", "set", "inet", "smtpwatch", set]).0;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let objects = listed["nftables"].as_array().unwrap();
    let set = objects.iter().find_map(|object| object.get("set")).unwrap();
    set["elem"].as_array().cloned().unwrap_or_default()
}

/// A device with a MAC, where it is.
pub(super) type InterfaceMac = (Interface, Mac);
/// A device without a link layer, by its IPv4 address.
pub(super) type InterfaceAddress4 = (Interface, Ipv4Addr);
/// A device without a link layer, by its IPv6 address.
pub(super) type InterfaceAddress6 = (Interface, Ipv6Addr);

/// Devices told by their MACs whose mail is held back.
pub(super) const QUARANTINE_MAC: Set<InterfaceMac> = Set::new(c"quarantine_mac");
/// Devices without a link layer whose mail is held back, by their IPv4 address.
pub(super) const QUARANTINE4: Set<InterfaceAddress4> = Set::new(c"quarantine4");
/// Devices without a link layer whose mail is held back, by their IPv6 address.
pub(super) const QUARANTINE6: Set<InterfaceAddress6> = Set::new(c"quarantine6");
