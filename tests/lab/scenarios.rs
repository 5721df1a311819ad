//! Each scenario sends what it says: its truth against what nft saw, to the last connection; and
//! every source of `smtpwatch watch` says the same of the same traffic.

use std::collections::BTreeMap;

use crate::harness::{Connection, Families, Lab, Truth, has_root};
use crate::oracle::{Key, Oracle, Place, key};
use crate::verdicts;
use crate::watcher::Watcher;

/// Runs a scenario, and compares its truth with what came to the gateway.
fn checked(scenario: &str) -> Option<(Truth, BTreeMap<Key, u64>)> {
    if !has_root() {
        return None;
    }
    let lab = Lab::up(&["--kmsg"]);
    let oracle = Oracle::count(&lab, Place::Gateway);
    let watchers = [
        Watcher::nflog(&lab),
        Watcher::kmsg(&lab),
        Watcher::capture(&lab, "lan0"),
    ];
    let truth = lab.run(scenario);
    let seen = oracle.seen();
    assert_same(&said(&truth), &seen);
    let watched = watchers.map(Watcher::finish);
    for watched in &watched {
        verdicts::assert_right(&truth, watched);
    }
    verdicts::assert_agree(&watched);
    Some((truth, seen))
}

/// What should have come in by lan0 and wg0.
fn said(truth: &Truth) -> BTreeMap<Key, &Connection> {
    let by_inside = truth
        .machines
        .iter()
        .filter(|machine| machine.interface.is_some());
    by_inside
        .flat_map(|machine| &machine.connections)
        .chain(&truth.forged)
        .filter(|connection| connection.vlan.is_none())
        .map(|connection| (key(connection, true), connection))
        .collect()
}

fn assert_same(said: &BTreeMap<Key, &Connection>, seen: &BTreeMap<Key, u64>) {
    let missing: Vec<_> = said
        .iter()
        .filter(|(key, _)| !seen.contains_key(key))
        .map(|(_, connection)| connection)
        .collect();
    let more: Vec<_> = seen.keys().filter(|key| !said.contains_key(key)).collect();
    assert!(
        missing.is_empty() && more.is_empty() && !said.is_empty(),
        "not seen: {missing:?}; not said: {more:?}"
    );
}

fn outcomes(connections: &[Connection]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for connection in connections {
        *counts
            .entry(connection.outcome.as_deref().unwrap())
            .or_default() += 1;
    }
    counts
}

fn on_25(truth: &Truth, name: &str) -> Families {
    truth.machine(name).attempts["25"]
}

#[test]
fn a_bot_and_its_office() {
    let Some((truth, seen)) = checked("bot") else {
        return;
    };
    assert_eq!(truth.infected, ["bot"]);
    let bot = truth.machine("bot");
    assert_eq!(on_25(&truth, "bot"), Families { ipv4: 60, ipv6: 0 });
    assert_eq!(bot.destination_groups, 30);
    assert_eq!(bot.hostname.as_deref(), Some("old-laptop"));
    assert_eq!(bot.mac.as_deref(), Some("02:00:77:00:00:66"));
    assert_eq!(
        outcomes(&bot.connections),
        BTreeMap::from([
            ("answered", 46),
            ("refused", 6),
            ("unanswered", 6),
            ("unreachable", 2)
        ])
    );
    // What is not answered is tried again by the kernel.
    for connection in &bot.connections {
        let syns = seen[&key(connection, true)];
        let is_silent = connection.outcome.as_deref() == Some("unanswered");
        assert_eq!(syns > 1, is_silent, "{connection:?}: {syns}");
    }
    for quiet in ["office", "printer", "mail"] {
        assert!(truth.machine(quiet).destination_groups < 10, "{quiet}");
        assert_eq!(
            outcomes(&truth.machine(quiet).connections).len(),
            1,
            "{quiet}"
        );
    }
}

#[test]
fn an_ordinary_day() {
    let Some((truth, _)) = checked("ordinary-day") else {
        return;
    };
    assert_eq!(truth.infected, Vec::<String>::new());
    assert_eq!(truth.outside.len(), 3);
    assert_eq!(outcomes(&truth.outside), BTreeMap::from([("answered", 3)]));
    let inside = truth
        .machine("vpn-a")
        .connections
        .iter()
        .filter(|connection| connection.direction.as_deref() == Some("internal"));
    assert_eq!(inside.count(), 2);
}

#[test]
fn a_busy_mail_server() {
    let Some((truth, _)) = checked("mail-server") else {
        return;
    };
    assert_eq!(on_25(&truth, "mail"), Families { ipv4: 4, ipv6: 34 });
}

#[test]
fn a_blocked_printer_repeats_its_syns() {
    let Some((truth, seen)) = checked("printer-blocked") else {
        return;
    };
    let printer = truth.machine("printer");
    assert_eq!(on_25(&truth, "printer"), Families { ipv4: 3, ipv6: 0 });
    for connection in &printer.connections {
        assert_eq!(connection.outcome.as_deref(), Some("unanswered"));
        assert!(seen[&key(connection, true)] >= 4, "{seen:?}");
    }
}

#[test]
fn a_bot_with_two_ipv6_addresses() {
    let Some((truth, _)) = checked("ipv6-bot") else {
        return;
    };
    assert_eq!(on_25(&truth, "bot"), Families { ipv4: 0, ipv6: 24 });
    assert_eq!(truth.machine("bot").addresses.len(), 2);
    assert!(outcomes(&truth.machine("bot").connections)["answered"] >= 18);
}

#[test]
fn five_privacy_addresses_are_one_device() {
    let Some((truth, _)) = checked("privacy-addresses") else {
        return;
    };
    let bot = truth.machine("bot");
    assert_eq!(bot.addresses.len(), 5);
    assert_eq!(on_25(&truth, "bot"), Families { ipv4: 0, ipv6: 30 });
}

#[test]
fn a_proxy_answers_for_all_and_passes_on() {
    let Some((truth, _)) = checked("redirect") else {
        return;
    };
    let bot = truth.machine("bot");
    assert_eq!(
        outcomes(&bot.connections),
        BTreeMap::from([("answered", 60)])
    );
    // One mail for each connection to port 25 was passed on by the gateway itself.
    let mails: u32 = truth
        .machines
        .iter()
        .filter_map(|machine| machine.attempts.get("25"))
        .map(|attempts| attempts.ipv4 + attempts.ipv6)
        .sum();
    let passed_on = u32::try_from(truth.machine("gw").connections.len()).unwrap();
    // The mail server sends three mails in a session by IPv4.
    assert_eq!(passed_on, mails + 2 * on_25(&truth, "mail").ipv4);
}

#[test]
fn senders_that_lie_about_their_address() {
    let Some((truth, _)) = checked("forged-address") else {
        return;
    };
    assert_eq!(truth.forged.len(), 90);
    assert!(truth.machines.iter().all(|machine| machine.name != "bot"));
}

#[test]
fn senders_that_lie_about_their_mac() {
    let Some((truth, _)) = checked("forged-mac") else {
        return;
    };
    assert_eq!(truth.forged.len(), 45);
    assert_eq!(on_25(&truth, "bot"), Families { ipv4: 1, ipv6: 1 });
}

#[test]
fn machines_behind_a_router_share_its_mac() {
    let Some((truth, _)) = checked("behind-router") else {
        return;
    };
    let (bot, honest) = (truth.machine("behind"), truth.machine("behind-too"));
    assert_eq!(bot.mac, honest.mac);
    assert!(
        bot.addresses
            .iter()
            .all(|address| !honest.addresses.contains(address))
    );
    assert_eq!(on_25(&truth, "behind"), Families { ipv4: 60, ipv6: 0 });
}

#[test]
fn machines_behind_an_access_point_share_its_address() {
    let Some((truth, _)) = checked("behind-ap") else {
        return;
    };
    let (bot, honest) = (truth.machine("ap-laptop"), truth.machine("ap-phone"));
    assert_eq!((&bot.mac, &bot.addresses), (&honest.mac, &honest.addresses));
    assert_eq!(on_25(&truth, "ap-laptop"), Families { ipv4: 60, ipv6: 0 });
}

#[test]
fn peers_without_a_link_layer() {
    let Some((truth, _)) = checked("no-link-layer") else {
        return;
    };
    assert_eq!(truth.machine("vpn-a").mac, None);
    assert_eq!(on_25(&truth, "vpn-a"), Families { ipv4: 24, ipv6: 6 });
    assert_eq!(on_25(&truth, "vpn-b"), Families { ipv4: 3, ipv6: 3 });
}

#[test]
fn an_address_changes_hands() {
    let Some((truth, _)) = checked("dhcp-change") else {
        return;
    };
    let (bot, office) = (truth.machine("bot"), truth.machine("office"));
    let shared: Vec<_> = bot
        .addresses
        .iter()
        .filter(|address| office.addresses.contains(address))
        .collect();
    assert_eq!(shared.len(), 1, "{bot:?} {office:?}");
    let by_shared = |connections: &[Connection]| {
        let by = connections
            .iter()
            .filter(|connection| connection.src == *shared[0]);
        by.count()
    };
    assert_eq!(by_shared(&office.connections), 3);
    assert_eq!(by_shared(&bot.connections), 60);
}

#[test]
fn tagged_frames_stay_outside_the_gateways_hooks() {
    let Some((truth, seen)) = checked("vlan") else {
        return;
    };
    let bot = truth.machine("bot");
    assert_eq!(bot.connections.len(), 60);
    assert!(
        bot.connections
            .iter()
            .all(|connection| connection.vlan == Some(20))
    );
    assert!(seen.keys().all(|seen| seen.0 != bot.mac));
}

#[test]
fn rules_are_flushed_while_a_bot_sends() {
    if !has_root() {
        return;
    }
    let lab = Lab::up(&[]);
    // On the gateway the oracle would be flushed, too.
    let oracle = Oracle::count(&lab, Place::Sender("bot"));
    let watcher = Watcher::nflog(&lab);
    let truth = lab.run("flush");
    let sent = &truth.machine("bot").connections;
    assert_eq!(sent.len(), 250);
    assert_same(
        &sent
            .iter()
            .map(|connection| (key(connection, false), connection))
            .collect(),
        &oracle.seen(),
    );
    let flushes: Vec<_> = truth
        .events
        .iter()
        .filter(|event| event["what"] == "flush" && event["pid"].as_u64() > Some(1))
        .collect();
    assert_eq!(flushes.len(), 2, "{:?}", truth.events);
    let watched = watcher.finish();
    verdicts::assert_nothing_wrong(&truth, &watched);
    // What came in 100 ms, twice, at 50 a second; and one for the moment of the flush itself.
    let unseen = sent.len() - watched.attempts().count();
    assert!(unseen <= 12, "{unseen} attempts were not seen");
    for flush in flushes {
        let pid = flush["pid"].as_u64().unwrap();
        assert!(watched.blames(pid, "nft"), "{pid}: {watched:?}");
    }
}

#[test]
fn two_sources_at_once_count_an_attempt_once() {
    if !has_root() {
        return;
    }
    let lab = Lab::up(&[]);
    let watcher = Watcher::start(&lab, &["--source", "nflog,capture:lan0"]);
    let truth = lab.run("bot");
    verdicts::assert_right(&truth, &watcher.finish());
}
