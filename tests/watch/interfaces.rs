//! Interfaces that go and come back, and several sources at once.

use std::net::Ipv4Addr;

use nix::sys::signal::Signal;

use crate::harness::{MACHINE, MACHINE_MAC, Net, write_lease};
use crate::kernel_log::with_kernel_log;

#[test]
fn a_captured_interface_goes_down_and_away_and_comes_back() {
    let net = Net::new();
    let watch = net.watch("--source capture:lan0 --exit-code");
    let gone = |times| {
        watch.wait_for_many(times, "it is gone", |event| {
            event["notice"] == "interface_gone"
        })
    };
    let back = |times| {
        watch.wait_for_many(times, "it is back", |event| {
            event["notice"] == "interface_back"
        })
    };
    net.send(0, 3);
    watch.wait_for_attempts(3);
    net.gateway("ip link set lan0 down");
    gone(1);
    net.gateway("ip link set lan0 up");
    back(1);
    net.send(10, 3);
    watch.wait_for_attempts(6);
    net.gateway("ip link delete lan0");
    gone(2);
    net.add_lan();
    back(2);
    net.send(20, 1);
    watch.wait_for_attempts(7);
    let ended = watch.end(Signal::SIGTERM);
    assert_eq!(ended.attempts().len(), 7);
    for kind in ["interface_gone", "interface_back", "source_failed"] {
        assert_eq!(ended.notices(kind).len(), 2, "{kind}");
    }
    // One device all the time, and nobody forged.
    let report = ended.report();
    assert_eq!(report["devices"].as_array().unwrap().len(), 1, "{report:#}");
    assert_eq!(report["devices"][0]["mac"], MACHINE_MAC);
    assert_eq!(ended.status, Some(4), "{}", ended.err);
    assert!(
        ended.err.contains("did not work for a while"),
        "{}",
        ended.err
    );
}

/// With rules the interface does not matter; that its name now stands for another must be noticed.
#[test]
fn interfaces_come_go_and_change_their_names_and_addresses() {
    let net = Net::new();
    let watch = net.watch("--source nflog,capture:lan0,nflog --exit-code");
    net.send(0, 3);
    watch.wait_for_attempts(3);
    net.gateway("ip link set lan0 down");
    net.gateway("ip link set lan0 name inside0");
    net.gateway("ip link set inside0 up");
    watch.wait_for("the old name is gone", |event| {
        event["notice"] == "interface_gone"
    });
    net.send(10, 3);
    watch.wait_for_attempts(6);
    net.gateway("ip address add 198.51.100.1/24 dev inside0");
    let moved = Ipv4Addr::new(198, 51, 100, 77);
    // The kernel tells of the address after it is there.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    net.send_as(20, 2, |_| (MACHINE, moved));
    watch.wait_for_attempts(8);
    net.gateway("ip link delete inside0");
    net.add_lan();
    watch.wait_for("the old name is back", |event| {
        event["notice"] == "interface_back"
    });
    net.send(30, 3);
    let ended = {
        watch.wait_for_attempts(11);
        watch.end(Signal::SIGINT)
    };
    let attempts = ended.attempts();
    assert_eq!(attempts.len(), 11);
    let interfaces: Vec<&str> = attempts
        .iter()
        .map(|event| event["in_iface"].as_str().unwrap())
        .collect();
    assert_eq!(
        interfaces,
        [vec!["lan0"; 3], vec!["inside0"; 5], vec!["lan0"; 3]].concat()
    );
    assert!(
        attempts
            .iter()
            .all(|event| event["direction"] == "outbound"),
        "{attempts:#?}"
    );
    assert_eq!(ended.report()["totals"]["syns"], 11);
    assert!(
        ended.report().get("spoofed").is_none(),
        "{:#}",
        ended.report()
    );
    assert_eq!(net.firewall(), "");
}

#[test]
fn a_capture_follows_its_interface_to_another_name() {
    let net = Net::new();
    // As since Linux 6.2: the interface need not be down for it.
    let watch = net.watch("--source capture:lan0");
    net.send(0, 2);
    watch.wait_for_attempts(2);
    net.gateway("ip link set lan0 name office");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    net.send(10, 2);
    let ended = {
        watch.wait_for_attempts(4);
        watch.end(Signal::SIGTERM)
    };
    let attempts = ended.attempts();
    assert_eq!(attempts[3]["in_iface"], "office");
    assert!(
        ended.report().get("spoofed").is_none(),
        "{:#}",
        ended.report()
    );
}

#[test]
fn sources_that_see_the_same_count_it_once() {
    let net = Net::new();
    write_lease(&net.path("leases"), "old-laptop");
    with_kernel_log(true, || {
        let prefix = format!("sw{}:", std::process::id());
        let watch = net.watch(&format!(
            "--source nflog,kmsg,capture:lan0 --exit-code --prefix {prefix}"
        ));
        net.send(0, 40);
        watch.wait_for_attempts(40);
        // What the slowest of them has to say.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        let ended = watch.end(Signal::SIGTERM);
        assert_eq!(ended.attempts().len(), 40);
        let report = ended.report();
        assert_eq!(report["totals"]["syns"], 40, "{report:#}");
        assert_eq!(report["totals"]["attempts"], 40, "{report:#}");
        let device = &report["devices"][0];
        assert_eq!(
            (&device["mac"], &device["hostname"]),
            (&MACHINE_MAC.into(), &"old-laptop".into())
        );
        for source in ["nflog", "kmsg", "capture:lan0"] {
            assert_eq!(ended.counts(source), (40, 0), "{source}");
        }
        // The bot, for it talks to forty servers in a moment.
        assert_eq!(ended.status, Some(3), "{}", ended.err);
    });
    assert_eq!(net.firewall(), "");
}
