//! How attempts ended, as the senders themselves saw it: told by connection tracking beside NFLOG, by a
//! capture alone, and by nobody where there is nothing but the log's text.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::{Lab, Truth, has_root, succeed};
use crate::watcher::{Watched, Watcher};

/// By name, how many of each machine's attempts to port 25 ended how.
type Ends = BTreeMap<String, BTreeMap<String, usize>>;

const MACHINES: [&str; 4] = ["bot", "mail", "office", "printer"];

fn sent(truth: &Truth) -> Ends {
    let of = |name: &str| {
        let mut ends = BTreeMap::new();
        for connection in &truth.machine(name).connections {
            if connection.dst_port == 25 {
                let outcome = connection.outcome.clone().unwrap();
                *ends.entry(outcome).or_default() += 1;
            }
        }
        ends
    };
    MACHINES
        .iter()
        .map(|name| ((*name).to_owned(), of(name)))
        .collect()
}

/// The same as the report has it; what is 0 is left out.
fn told(truth: &Truth, watched: &Watched) -> Ends {
    assert_eq!(watched.of_type("loss").count(), 0);
    let of = |name: &str| {
        let mac = &truth.machine(name).mac;
        let device = watched.devices.iter().find(|device| device.mac == *mac);
        let device = device.unwrap_or_else(|| panic!("{name} is not told of: {watched:?}"));
        let ends = device.outcomes.iter().filter(|(_, count)| **count > 0);
        ends.map(|(outcome, count)| (outcome.clone(), *count))
            .collect()
    };
    MACHINES
        .iter()
        .map(|name| ((*name).to_owned(), of(name)))
        .collect()
}

#[test]
fn connection_tracking_tells_how_what_nflog_saw_has_ended() {
    if !has_root() {
        return;
    }
    let lab = Lab::up(&[]);
    // Two minutes otherwise, after which the kernel gives up.
    succeed(
        lab.inside("gw", "sysctl")
            .args(["-qw", "net.netfilter.nf_conntrack_tcp_timeout_syn_sent=4"]),
    );
    let mut watcher = Watcher::start(&lab, &["--source", "nflog,conntrack"]);
    let truth = lab.run("bot");
    // The kernel's collector looks for what has timed out when it finds the time.
    watcher.wait_for_outcomes("unanswered", 6, Duration::from_secs(90));
    let watched = watcher.finish();
    assert_eq!(told(&truth, &watched), sent(&truth));
}

#[test]
fn a_capture_alone_tells_how_attempts_ended() {
    if !has_root() {
        return;
    }
    let lab = Lab::up(&[]);
    let watcher = Watcher::capture(&lab, "lan0");
    let truth = lab.run("bot");
    // What nobody answers is told after 150 s, when no SYN is repeated any more.
    std::thread::sleep(Duration::from_secs(156));
    let watched = watcher.finish();
    assert_eq!(told(&truth, &watched), sent(&truth));
}

#[test]
fn text_alone_tells_nothing_of_how_attempts_ended() {
    if !has_root() {
        return;
    }
    let lab = Lab::up(&["--kmsg"]);
    let watcher = Watcher::kmsg(&lab);
    let truth = lab.run("bot");
    let watched = watcher.finish();
    for device in &watched.devices {
        assert_eq!(device.outcomes["unknown"], device.attempts, "{device:?}");
        let known = device
            .outcomes
            .iter()
            .filter(|(name, _)| *name != "unknown");
        assert_eq!(
            known.map(|(_, count)| count).sum::<usize>(),
            0,
            "{device:?}"
        );
    }
    assert!(watched.devices.len() >= MACHINES.len(), "{truth:?}");
}
