//! Rules that others take away, and two watches at once.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Net, Watch};

/// Somebody else's rules, which are to stay as they are.
const OTHERS: &str = "table inet admin {\n\tchain in {\n\t\ttype filter hook input priority 0; policy accept;\n\t\ttcp dport 22 accept\n\t}\n}\n";

fn is_restored(event: &Value) -> bool {
    event["notice"] == "rules_restored"
}

/// Sends a SYN, and waits until it was seen: the rules work.
fn see(net: &Net, watch: &Watch, number: u32) {
    let before = watch.events(|event| event["event_type"] == "attempt").len();
    net.send(number, 1);
    watch.wait_for_attempts(before + 1);
}

#[test]
fn whatever_another_tool_does_to_the_rules_is_mended() {
    let net = Net::new();
    let others = net.path("others.nft");
    fs::write(&others, format!("flush ruleset\n{OTHERS}")).unwrap();
    let load = format!("nft -f {}", others.display());
    net.gateway(&load);
    let before = net.firewall();
    let watch = net.watch("--source nflog --max-heals 50");
    let ours = net.gateway("nft list table inet smtpwatch");
    assert!(ours.contains("counter"), "{ours}");
    let chain = {
        let line = ours
            .lines()
            .find(|line| line.trim_start().starts_with("chain "))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    let deeds = [
        "nft delete table inet smtpwatch".to_owned(),
        "nft flush ruleset".to_owned(),
        load.clone(),
        "nft flush table inet smtpwatch".to_owned(),
        format!("nft flush chain inet smtpwatch {chain}"),
        "nft delete element inet smtpwatch watched_ports {25}".to_owned(),
        "nft add element inet smtpwatch watched_ports {80}".to_owned(),
        format!("nft insert rule inet smtpwatch {chain} tcp dport 25 drop"),
        format!("nft add rule inet smtpwatch {chain} counter"),
        "nft add chain inet smtpwatch more".to_owned(),
        "nft destroy table inet smtpwatch".to_owned(),
    ];
    let mut healed = 0;
    for (number, deed) in deeds.iter().enumerate() {
        if deed.contains("destroy") && !net.gateway("nft --version").contains("v1.1") {
            continue;
        }
        net.shell(deed);
        healed += 1;
        watch.wait_for_many(healed, deed, is_restored);
        if number % 4 == 0 {
            see(&net, &watch, u32::try_from(number).unwrap() * 10);
        }
    }
    net.gateway(&load);
    healed += 1;
    watch.wait_for_many(healed, "the last", is_restored);
    let ended = watch.end(Signal::SIGTERM);
    assert_eq!(
        ended.notices("rules_gone").len(),
        healed,
        "{:#?}",
        ended.lines
    );
    assert_eq!(ended.notices("rules_restored").len(), healed);
    for gone in ended.notices("rules_gone") {
        assert_eq!(gone["by"]["name"], "nft", "{gone}");
    }
    assert_eq!(net.firewall(), before);
    assert_eq!(ended.status, Some(0));
}

#[test]
fn who_goes_on_taking_them_away_wins_and_it_is_said_until_they_are_back() {
    let net = Net::new();
    let watch = net.watch("--source nflog --max-heals 2 --exit-code");
    let ours = net.gateway("nft -s list table inet smtpwatch");
    for times in 1..=2 {
        net.gateway("nft flush ruleset");
        watch.wait_for_many(times, "healed", is_restored);
        see(&net, &watch, u32::try_from(times).unwrap() * 10);
    }
    net.gateway("nft flush ruleset");
    let lost = watch.wait_for("given up", |event| event["notice"] == "rules_lost");
    assert!(
        lost[0]["message"]
            .as_str()
            .unwrap()
            .contains("smtpwatch rules install"),
        "{lost:?}"
    );
    net.gateway("nft add table inet other");
    net.gateway("nft flush ruleset");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(net.firewall(), "");
    // As it was told to.
    fs::write(net.path("ours.nft"), ours).unwrap();
    net.gateway(&format!("nft -f {}", net.path("ours.nft").display()));
    watch.wait_for_many(3, "back", is_restored);
    see(&net, &watch, 50);
    net.gateway("nft flush ruleset");
    watch.wait_for_many(2, "given up again", |event| event["notice"] == "rules_lost");
    let ended = watch.end(Signal::SIGTERM);
    assert_eq!(ended.notices("rules_gone").len(), 4);
    assert_eq!(ended.notices("rules_lost").len(), 2);
    assert_eq!(ended.status, Some(4), "{}", ended.err);
    assert!(ended.err.contains("not there at the end"), "{}", ended.err);
    assert_eq!(net.firewall(), "");
}

/// A strict firewall, its rules those of the kind `kind` of iptables.
fn iptables_is_mended(kind: &str) {
    let net = Net::new();
    let saved = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n-A FORWARD -p tcp -m tcp --dport 80 -j ACCEPT\nCOMMIT\n";
    let file = net.path("saved");
    fs::write(&file, saved).unwrap();
    let restore = format!("iptables-{kind}-restore < {}", file.display());
    net.shell(&restore);
    net.shell(&restore.replace("iptables", "ip6tables"));
    // The policy drops what is forwarded, after it was seen.
    net.gateway("sysctl -qw net.ipv4.ip_forward=1");
    let before = net.firewall();
    // A gateway has one iptables; the test's machine has both.
    let path = net.path("bin");
    fs::create_dir(&path).unwrap();
    for program in ["iptables", "ip6tables"] {
        for suffix in ["", "-save", "-restore"] {
            let real = format!("/usr/sbin/{program}-{kind}{suffix}");
            std::os::unix::fs::symlink(real, path.join(format!("{program}{suffix}"))).unwrap();
        }
    }
    let program = format!(
        "env PATH={}:/usr/sbin:/usr/bin:/sbin:/bin {}",
        path.display(),
        crate::harness::SMTPWATCH
    );
    let watch = net.start_program(&program, "--source nflog --backend iptables --max-heals 50");
    watch.wait_for("it watches", |event| event["notice"] == "source_ready");
    see(&net, &watch, 1);
    let deeds = [
        format!("iptables-{kind} -F; iptables-{kind} -X"),
        format!("iptables-{kind} -F SMTPWATCH"),
        format!("iptables-{kind} -D FORWARD 1"),
    ];
    for (number, deed) in deeds.iter().enumerate() {
        net.shell(deed);
        watch.wait_for_many(number + 1, deed, is_restored);
    }
    see(&net, &watch, 10);
    net.shell(&restore);
    net.shell(&restore.replace("iptables", "ip6tables"));
    watch.wait_for_many(deeds.len() + 1, "healed at the end", is_restored);
    let ended = watch.end(Signal::SIGTERM);
    assert_eq!(ended.notices("rules_lost"), Vec::<Value>::new());
    assert_eq!(net.firewall(), before);
    assert_eq!(ended.status, Some(0), "{}", ended.err);
}

#[test]
fn iptables_on_nftables_is_mended() {
    iptables_is_mended("nft");
}

#[test]
fn iptables_legacy_is_mended_by_looking_every_two_seconds() {
    iptables_is_mended("legacy");
}

#[test]
fn a_second_watch_is_refused_and_disturbs_nothing() {
    let net = Net::new();
    let watch = net.watch("--source nflog");
    let rules = net.firewall();
    let holder = format!("(pid {})", watch.pid());
    for arguments in [
        "",
        "--source nflog",
        "--source kmsg",
        "--source nflog --group 77",
    ] {
        let said = net.start(arguments).ended();
        assert_eq!(said.status, Some(1), "{arguments}: {}", said.err);
        assert!(said.err.contains(&holder), "{arguments}: {}", said.err);
        assert!(
            said.err.contains("capture:INTERFACE"),
            "{arguments}: {}",
            said.err
        );
        assert_eq!(net.firewall(), rules, "{arguments}");
    }
    // Without rules of its own it is the group that is taken.
    let said = net.start("--source nflog --no-rules").ended();
    let pid = watch.pid().to_string();
    assert!(
        said.err.contains("group 25 is already taken") && said.err.contains(&pid),
        "{}",
        said.err
    );
    // What needs no rules works beside it, and takes none away.
    let other = net.watch("--source capture:lan0 --state-dir -");
    see(&net, &watch, 1);
    other.wait_for_attempts(1);
    other.end(Signal::SIGTERM);
    assert_eq!(net.firewall(), rules);
    assert!(net.counted() > 0);
    let removed = net.smtpwatch("rules remove");
    assert!(removed.err.contains(&holder), "{removed:?}");
    watch.wait_for("put back", is_restored);
    see(&net, &watch, 2);
    let ended = watch.end(Signal::SIGTERM);
    assert_eq!(ended.notices("rules_gone").len(), 1);
    assert_eq!(net.firewall(), "");
}

#[test]
fn killed_and_started_again() {
    let net = Net::new();
    let watch = net.watch("--source nflog");
    see(&net, &watch, 1);
    assert_eq!(watch.end(Signal::SIGKILL).status, None);
    assert_ne!(net.firewall(), "");
    let watch = net.watch("--source nflog");
    see(&net, &watch, 2);
    let ended = watch.end(Signal::SIGTERM);
    // What the rules had counted before is nobody's loss.
    assert_eq!(ended.counts("nflog"), (1, 0));
    assert!(ended.err.contains("were there already"), "{}", ended.err);
    assert_eq!(net.firewall(), "");
}

#[test]
fn rules_that_are_to_stay_stay_and_none_are_made_where_none_are_wanted() {
    let net = Net::new();
    let watch = net.watch("--source nflog --keep-rules");
    see(&net, &watch, 1);
    watch.end(Signal::SIGTERM);
    let kept = net.gateway("nft list ruleset");
    assert!(kept.contains("table inet smtpwatch"), "{kept}");
    let watch = net.watch("--source nflog --no-rules");
    see(&net, &watch, 2);
    watch.end(Signal::SIGTERM);
    let listed = net.gateway("nft -s list ruleset");
    assert!(listed.contains("table inet smtpwatch"), "{listed}");
    assert_eq!(net.smtpwatch("rules remove").status, Some(0));
    assert_eq!(net.firewall(), "");
}
