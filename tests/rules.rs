//! The firewall rules: their text, and what becomes of them in a kernel. Everything is loaded in
//! network namespaces of the tests' own, which need root.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;
use smtpwatch::ruleset::{classic, iptables, nft};
use smtpwatch::settings::Ports;
use smtpwatch::settings::rules::{At, PartialRules, Rules, Via};

const SMTPWATCH: &str = env!("CARGO_BIN_EXE_smtpwatch");
const STRICT: &str = include_str!("rules/strict.iptables");
/// Rulesets of others, as `nft list ruleset` prints them.
const NEIGHBOURS: [(&str, &str); 3] = [
    ("firewalld", include_str!("rules/firewalld.nft")),
    ("ufw", include_str!("rules/ufw.nft")),
    ("docker", include_str!("rules/docker.nft")),
];
const KINDS: [&str; 2] = ["nft", "legacy"];

/// A network namespace that goes with the test.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sw-rules-{}-{number}", std::process::id());
        ok(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Self(name);
        namespace.run("ip link set lo up");
        namespace
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.0))
            .arg(program)
            .timeout(Duration::from_secs(60));
        command
    }

    /// What the words of `line` print, which must succeed.
    fn run(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        ok(self.command(words.next().unwrap()).args(words))
    }

    fn load(&self, line: &str, input: &str) {
        let mut words = line.split_whitespace();
        ok(self
            .command(words.next().unwrap())
            .args(words)
            .write_stdin(input));
    }

    fn shell(&self, script: &str) -> Output {
        self.command("bash").args(["-c", script]).output().unwrap()
    }

    fn smtpwatch(&self, arguments: &str) -> Output {
        let arguments = arguments.split_whitespace();
        self.command(SMTPWATCH).args(arguments).output().unwrap()
    }

    /// What `smtpwatch rules` says, which must succeed.
    fn rules(&self, arguments: &str) -> String {
        let output = self.smtpwatch(&format!("rules {arguments}"));
        assert!(output.status.success(), "{arguments}: {output:?}");
        text(&output.stdout)
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.rules("status --json")).unwrap()
    }

    fn differences(&self) -> Vec<String> {
        strings(&self.status()["installed"][0]["differences"])
    }

    /// The whole firewall, as its programs print it.
    fn firewall(&self) -> String {
        let mut all = self.run("nft list ruleset");
        for program in ["iptables", "ip6tables"] {
            for kind in KINDS {
                let saved = self.run(&format!("{program}-{kind}-save"));
                all.push_str(&format!(
                    "== {program} {kind}\n{}",
                    without_comments(&saved)
                ));
            }
        }
        all + &self.run("ipset save")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

fn ok(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn strings(values: &Value) -> Vec<String> {
    let values = values.as_array().unwrap();
    values
        .iter()
        .map(|value| value.as_str().unwrap().to_owned())
        .collect()
}

/// Stamps are in the comments.
fn without_comments(saved: &str) -> String {
    saved
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.to_owned() + "\n")
        .collect()
}

/// How often something is done that the promise says is done 100 times.
fn times() -> u32 {
    if std::env::var("SMTPWATCH_SOAK").is_ok_and(|soak| soak == "1") {
        100
    } else {
        5
    }
}

fn rules(via: Via, at: At, ports: &[u16]) -> Rules {
    PartialRules {
        via: Some(via),
        ports: Some(Ports::new(ports.iter().copied())),
        ..PartialRules::default()
    }
    .resolve(at)
}

fn golden(name: &str, text: &str) {
    insta::with_settings!({
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, { insta::assert_snapshot!(name, text) });
}

#[test]
fn the_texts_are_these() {
    for (via, at) in [
        (Via::Nflog, At::Prerouting),
        (Via::Log, At::Prerouting),
        (Via::Both, At::Prerouting),
        (Via::Both, At::Forward),
    ] {
        let rules = rules(via, at, &[25, 465, 587]);
        golden(&format!("rules-nft-{via}-{at}"), &nft(&rules));
        golden(&format!("rules-iptables-{via}-{at}"), &iptables(&rules));
    }
    for at in [At::Prerouting, At::Forward] {
        let rules = Rules {
            answers: Some(26),
            ..rules(Via::Nflog, at, &[25])
        };
        golden(&format!("rules-nft-answers-{at}"), &nft(&rules));
        golden(&format!("rules-iptables-answers-{at}"), &iptables(&rules));
    }
    let many: Vec<u16> = (1..=17).collect();
    golden(
        "rules-iptables-many-ports",
        &iptables(&rules(Via::Nflog, At::Forward, &many)),
    );
}

#[test]
fn no_text_has_holes_or_sets_a_policy_but_accept() {
    for via in [Via::Nflog, Via::Log, Via::Both] {
        for at in [At::Prerouting, At::Forward] {
            let rules = rules(via, at, &[25]);
            for text in [nft(&rules), iptables(&rules)] {
                assert!(!text.contains("{{") && !text.contains("}}"), "{text}");
                for forbidden in [
                    " drop",
                    "policy drop",
                    "reject",
                    ":FORWARD",
                    ":INPUT",
                    ":OUTPUT",
                    ":PREROUTING",
                    "ipset",
                    "match-set",
                ] {
                    let found = text
                        .lines()
                        .filter(|line| !line.trim().starts_with('#'))
                        .any(|line| line.contains(forbidden));
                    assert!(!found, "{forbidden}: {text}");
                }
            }
        }
    }
}

#[test]
fn the_classic_rule_is_as_it_always_was_with_a_prefix() {
    let wanted = rules(Via::Log, At::Forward, &[25]);
    let rule = classic("iptables", &wanted);
    assert_eq!(
        rule,
        [
            "iptables -I FORWARD -m state --state NEW -p tcp --dport 25 -j LOG --log-prefix \"smtpwatch: \""
        ]
    );
    let namespace = Namespace::new();
    let shown = namespace.rules("show --backend iptables --via log");
    for line in [rule, classic("ip6tables", &wanted)].concat() {
        assert!(shown.contains(&line), "{shown}");
        let done = namespace.shell(&line);
        assert!(done.status.success(), "{line}: {done:?}");
    }
    // What is shown is what iptables-restore takes.
    namespace.load("iptables-restore --noflush", &shown);
    assert!(
        namespace
            .rules("status")
            .contains("with iptables (nf_tables), at forward")
    );
}

#[test]
fn what_is_shown_is_what_is_loaded_and_installing_again_changes_nothing() {
    for options in [
        "",
        "--via log",
        "--via both --port 25,587 --group 7 --prefix spam:",
        "--at forward",
    ] {
        let namespace = Namespace::new();
        let shown = namespace.rules(&format!("show --backend nft {options}"));
        let by_hand = Namespace::new();
        by_hand.load("nft -f -", &shown);
        assert!(
            namespace
                .rules(&format!("install --dry-run {options}"))
                .contains(&shown)
        );
        assert_eq!(namespace.run("nft list ruleset"), "");
        assert!(
            namespace
                .rules(&format!("install {options}"))
                .starts_with("installed with nft")
        );
        let installed = namespace.run("nft -a list ruleset");
        assert_eq!(
            namespace.run("nft list ruleset"),
            by_hand.run("nft list ruleset")
        );
        assert!(
            namespace
                .rules(&format!("install {options}"))
                .starts_with("already installed")
        );
        assert!(
            namespace
                .rules(&format!("install --dry-run {options}"))
                .starts_with("# nothing to do")
        );
        // With the same handles: nothing was loaded again.
        assert_eq!(namespace.run("nft -a list ruleset"), installed);
        assert_eq!(namespace.differences(), [""; 0]);
        assert!(
            namespace
                .rules("remove --dry-run")
                .contains("delete table inet smtpwatch")
        );
        assert_eq!(namespace.run("nft -a list ruleset"), installed);
        assert!(
            namespace
                .rules("remove")
                .contains("removed nft table inet smtpwatch")
        );
        assert_eq!(namespace.run("nft list ruleset"), "");
        assert_eq!(namespace.rules("remove"), "nothing of ours is installed\n");
    }
}

#[test]
fn a_table_altered_by_hand_is_told_and_put_right() {
    let alterations = [
        (
            "nft add rule inet smtpwatch record tcp dport 25 drop",
            "not ours in chain record: tcp dport 25 drop",
        ),
        (
            "nft flush chain inet smtpwatch record",
            "missing in chain record: log prefix \"smtpwatch: \" group 25 snaplen 128",
        ),
        (
            "nft add chain inet smtpwatch extra",
            "not ours: chain extra",
        ),
        (
            "nft flush chain inet smtpwatch own; nft delete chain inet smtpwatch own",
            "missing: chain own",
        ),
        (
            "nft add table inet smtpwatch '{ flags dormant; }'",
            "not ours in table: flags dormant",
        ),
        (
            "nft 'add rule inet smtpwatch own meta mark set 1; add set inet smtpwatch more { type mark; }'",
            "not ours: set more",
        ),
    ];
    for (alteration, told) in alterations {
        let namespace = Namespace::new();
        namespace.rules("install");
        let installed = namespace.run("nft list ruleset");
        let done = namespace.shell(alteration);
        assert!(done.status.success(), "{alteration}: {done:?}");
        let differences = namespace.differences();
        assert!(
            differences.iter().any(|line| line == told),
            "{alteration}: {differences:?}"
        );
        assert!(namespace.rules("status").contains("as wanted  NO"));
        assert!(namespace.rules("install").starts_with("installed"));
        assert_eq!(namespace.run("nft list ruleset"), installed);
        let done = namespace.shell(alteration);
        assert!(done.status.success(), "{alteration}: {done:?}");
        namespace.rules("remove");
        assert_eq!(namespace.run("nft list ruleset"), "");
    }
}

#[test]
fn ports_changed_by_hand_differ_from_those_that_are_asked_for() {
    let namespace = Namespace::new();
    namespace.rules("install");
    namespace.run("nft add element inet smtpwatch watched_ports { 26 }");
    let asked = namespace.rules("status --port 25");
    assert!(
        asked.contains("not ours in set watched_ports: elements = { 25, 26 }"),
        "{asked}"
    );
    let found = namespace.status();
    assert_eq!(found["installed"][0]["ports"], serde_json::json!([25, 26]));
}

#[test]
fn neighbours_are_left_byte_for_byte() {
    for (name, ruleset) in NEIGHBOURS {
        for options in ["--backend nft", "--backend nft --at forward --via both"] {
            let namespace = Namespace::new();
            namespace.load("nft -f -", ruleset);
            let before = namespace.firewall();
            for _ in 0..times() {
                namespace.rules(&format!("install {options}"));
                let found = namespace.status();
                assert_eq!(
                    found["installed"].as_array().unwrap().len(),
                    1,
                    "{name}: {found}"
                );
                assert_eq!(found["errors"], serde_json::json!([]), "{name}");
                namespace.rules("remove");
                assert_eq!(namespace.firewall(), before, "{name} {options}");
            }
        }
    }
}

#[test]
fn who_decides_earlier_is_named() {
    let namespace = Namespace::new();
    namespace.load("nft -f -", NEIGHBOURS[2].1);
    let earlier = |namespace: &Namespace| -> Vec<String> {
        let found = namespace.status();
        let chains = found["earlier"].as_array().unwrap();
        chains
            .iter()
            .map(|chain| chain["chain"].as_str().unwrap().to_owned())
            .collect()
    };
    namespace.rules("install");
    assert_eq!(earlier(&namespace), ["ip raw PREROUTING"]);
    namespace.load(
        "nft -f -",
        "table inet early {\nchain first {\ntype filter hook prerouting priority -400; policy drop;\n}\n}\n\
         table inet other {\nchain any {\ntype filter hook prerouting priority -200; policy accept;\n\
         udp dport 25 drop\ntcp dport 1-24 drop\nlog group 25\n}\n}\n",
    );
    namespace.run("iptables-legacy -t raw -A PREROUTING -s 192.0.2.9 -j DROP");
    assert_eq!(
        earlier(&namespace),
        ["ip raw PREROUTING", "inet early first", "ip raw PREROUTING"]
    );
    let said = namespace.rules("status");
    assert!(
        said.contains("earlier    inet early first (policy drop) decides before ours"),
        "{said}"
    );
    assert!(said.contains("nft list chain inet other any"), "{said}");
    // Another place, other chains before it.
    namespace.rules("remove");
    namespace.rules("install --at forward");
    assert!(!earlier(&namespace).contains(&"ip filter FORWARD".to_owned()));
    namespace.rules("remove");
}

#[test]
fn what_comes_before_the_jump_is_named() {
    for kind in KINDS {
        let namespace = Namespace::new();
        namespace.load(&format!("iptables-{kind}-restore"), STRICT);
        namespace.rules("install --backend iptables");
        assert_eq!(namespace.status()["earlier"], serde_json::json!([]));
        namespace.run(&format!("iptables-{kind} -I FORWARD -i eth2 -j ACCEPT"));
        let found = namespace.status();
        assert_eq!(found["earlier"][0]["chain"], "ip filter FORWARD", "{found}");
    }
}

/// A gateway between a LAN and an Internet that answers nothing.
struct Network {
    lan: Namespace,
    gateway: Namespace,
    _internet: Namespace,
}

impl Network {
    fn new() -> Self {
        let [lan, gateway, internet] = [(); 3].map(|()| Namespace::new());
        for host in [&lan, &gateway, &internet] {
            // Link-local addresses that are still being probed answer nobody.
            let quick = host.shell(
                "for i in all default; do echo 0 >/proc/sys/net/ipv6/conf/$i/accept_dad; done",
            );
            assert!(quick.status.success(), "{quick:?}");
        }
        for (near, far, name, address) in [
            (&gateway, &lan, "eth1", 1),
            (&gateway, &internet, "eth0", 2),
        ] {
            near.run(&format!(
                "ip link add {name} type veth peer name eth0 netns {}",
                far.0
            ));
            for (side, link, last) in [(near, name, 1), (far, "eth0", 2)] {
                side.run(&format!("ip addr add 10.9.{address}.{last}/24 dev {link}"));
                side.run(&format!(
                    "ip addr add fd09:{address}::{last}/64 dev {link} nodad"
                ));
                side.run(&format!("ip link set {link} up"));
            }
        }
        for (host, address) in [(&lan, 1), (&internet, 2)] {
            host.run(&format!("ip route add default via 10.9.{address}.1"));
            host.run(&format!("ip route add default via fd09:{address}::1"));
        }
        let forwards = gateway.shell(
            "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding",
        );
        assert!(forwards.status.success(), "{forwards:?}");
        Self {
            lan,
            gateway,
            _internet: internet,
        }
    }

    /// Sends one SYN, which is refused.
    fn syn(from: &Namespace, to: &str, port: u16) {
        from.shell(&format!("timeout 5 bash -c ': </dev/tcp/{to}/{port}'"));
    }

    fn seen(&self) -> u64 {
        self.gateway.status()["installed"][0]["counters"]["seen"]
            .as_u64()
            .unwrap()
    }
}

#[test]
fn a_syn_that_passes_is_counted_once_wherever_the_rules_are() {
    let network = Network::new();
    for (options, counts_own) in [
        ("--backend nft", true),
        ("--backend nft --at forward --via both", false),
        ("--backend iptables", false),
        ("--backend iptables --via both --at prerouting", true),
    ] {
        network.gateway.rules(&format!("install {options}"));
        assert_eq!(network.seen(), 0);
        Network::syn(&network.lan, "10.9.2.2", 25);
        assert_eq!(network.seen(), 1, "{options}: IPv4");
        Network::syn(&network.lan, "fd09:2::2", 25);
        assert_eq!(network.seen(), 2, "{options}: IPv6");
        Network::syn(&network.lan, "10.9.2.2", 80);
        assert_eq!(network.seen(), 2, "{options}: another port");
        Network::syn(&network.gateway, "127.0.0.1", 25);
        assert_eq!(network.seen(), 2, "{options}: to itself");
        Network::syn(&network.gateway, "10.9.2.2", 25);
        Network::syn(&network.lan, "10.9.1.1", 25);
        let expected = if counts_own { 4 } else { 2 };
        assert_eq!(network.seen(), expected, "{options}: the gateway's");
        network.gateway.rules("remove");
    }
    assert_eq!(network.gateway.run("nft list ruleset"), "");
}

#[test]
fn a_redirect_hides_nothing_before_routing() {
    let network = Network::new();
    network.gateway.load(
        "nft -f -",
        "table ip proxy {\nchain pre {\ntype nat hook prerouting priority dstnat; policy accept;\n\
         tcp dport 25 redirect to :2525\n}\n}\n",
    );
    network.gateway.rules("install");
    Network::syn(&network.lan, "10.9.2.2", 25);
    assert_eq!(network.seen(), 1);
}

#[test]
fn the_log_has_a_limit_and_its_excess_is_known() {
    let network = Network::new();
    network.gateway.rules("install --via log");
    network
        .lan
        .shell("for i in {1..4000}; do : </dev/tcp/10.9.1.1/25; done 2>/dev/null");
    let counters = network.gateway.status()["installed"][0]["counters"].clone();
    let (seen, logged) = (counters["seen"].as_u64(), counters["logged"].as_u64());
    assert_eq!(seen, Some(4000));
    assert!((Some(1000)..Some(4000)).contains(&logged), "{counters}");
    let said = network.gateway.rules("status");
    let excess = format!("{} over the limit", 4000 - logged.unwrap());
    assert!(said.contains(&excess), "{said}");
}

#[test]
fn a_second_program_on_the_group_is_named() {
    let namespace = Namespace::new();
    namespace.rules("install --group 31");
    assert!(
        namespace
            .rules("status")
            .contains("group 31   nobody reads it now")
    );
    // tcpdump can read an NFLOG group; it ends by its own limit of time.
    let script = format!(
        "timeout 20 tcpdump -i nflog:31 -w /dev/null 2>/dev/null & \
         for i in $(seq 100); do {SMTPWATCH} rules status | grep TAKEN && break; sleep 0.05; done; kill %1"
    );
    let said = text(&namespace.shell(&script).stdout);
    assert!(said.contains("TAKEN by tcpdump (pid "), "{said}");
}

#[test]
fn errors_say_what_to_do() {
    let namespace = Namespace::new();
    // As somebody else, who may not change the firewall: a copy that he can reach.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("smtpwatch");
    fs::copy(SMTPWATCH, &program).unwrap();
    let program = program.to_str().unwrap();
    for verb in ["install", "install --backend iptables", "remove", "status"] {
        let output = namespace.shell(&format!(
            "setpriv --reuid 65534 --regid 65534 --clear-groups {program} rules {verb}"
        ));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{verb}: {output:?}");
        assert!(
            said.contains("run it as root (sudo), or with CAP_NET_ADMIN"),
            "{verb}: {said}"
        );
    }
    // Showing needs no right.
    let shown = namespace.shell(&format!(
        "setpriv --reuid 65534 --regid 65534 --clear-groups {program} rules show"
    ));
    assert!(
        text(&shown.stdout).contains("table inet smtpwatch {"),
        "{shown:?}"
    );
    // With the programs out of sight.
    for (verb, package) in [
        ("install", "nftables"),
        ("install --backend iptables", "iptables"),
    ] {
        let output = namespace.shell(&format!(
            "unshare -m bash -c 'for folder in /usr/sbin /usr/local/sbin; do mount -t tmpfs none $folder; done; \
             exec {SMTPWATCH} rules {verb}'"
        ));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(
            said.contains(&format!("is not installed: apt install {package}")),
            "{said}"
        );
    }
    for (options, told) in [
        ("--prefix 'x\"y'", "the prefix holds"),
        ("--prefix aaaaaaaaaabbbbbbbbbbcccccccccc", "shorten it"),
        ("--port 0", "0 is not in 1..=65535"),
        ("--group 70000", "70000 is not in 0..=65535"),
    ] {
        let output = namespace.shell(&format!("{SMTPWATCH} rules install {options}"));
        assert_eq!(output.status.code(), Some(2), "{options}");
        assert!(text(&output.stderr).contains(told), "{output:?}");
    }
    assert_eq!(namespace.run("nft list ruleset"), "");
}

#[test]
fn without_the_right_to_make_namespaces_the_template_is_compared() {
    for (backend, kind) in [("nft", "nft"), ("iptables", "nft"), ("iptables", "legacy")] {
        let namespace = Namespace::new();
        namespace.load(&format!("iptables-{kind}-restore"), STRICT);
        let limited = |verb: &str| -> String {
            namespace.run(&format!(
                "setpriv --bounding-set -sys_admin --inh-caps -sys_admin {SMTPWATCH} rules {verb}"
            ))
        };
        let install = format!("install --backend {backend} --via both --port 25,465");
        assert!(
            limited(&install).starts_with("installed"),
            "{backend} {kind}"
        );
        assert!(limited(&install).starts_with("already"), "{backend} {kind}");
        assert!(
            limited("status").contains("as wanted  yes"),
            "{backend} {kind}"
        );
        assert!(limited("remove").starts_with("removed"), "{backend} {kind}");
    }
}

#[test]
fn a_table_that_iptables_cannot_read_is_told_and_no_obstacle_to_nft() {
    let namespace = Namespace::new();
    namespace.load("nft -f -", NEIGHBOURS[1].1);
    namespace.load("nft -f -", "add set ip filter native { type ipv4_addr; }\nadd rule ip filter FORWARD ip saddr @native drop\n");
    let before = namespace.run("nft list ruleset");
    let output = namespace.smtpwatch("rules install --backend iptables");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("use --backend nft"),
        "{output:?}"
    );
    namespace.rules("install");
    namespace.rules("remove");
    assert_eq!(namespace.run("nft list ruleset"), before);
}

#[test]
fn a_strict_iptables_firewall_stays_as_it_was_through_a_boot() {
    for kind in KINDS {
        for options in ["", "--via log", "--via both --at prerouting --port 25,465"] {
            let namespace = Namespace::new();
            let programs = [format!("iptables-{kind}"), format!("ip6tables-{kind}")];
            for program in &programs {
                namespace.load(&format!("{program}-restore"), STRICT);
            }
            namespace.run("ipset create kept hash:ip");
            let before = namespace.firewall();
            for _ in 0..times() {
                let said = namespace.rules(&format!("install --backend iptables {options}"));
                let name = if kind == "nft" { "nf_tables" } else { "legacy" };
                assert!(
                    said.starts_with(&format!("installed with iptables ({name})")),
                    "{said}"
                );
                assert_eq!(namespace.differences(), [""; 0], "{kind} {options}");
                let installed = namespace.firewall();
                assert_eq!(policies(&installed), policies(&before));
                assert!(
                    namespace
                        .rules(&format!("install --backend iptables {options}"))
                        .starts_with("already")
                );
                // A boot: all is gone, and what was saved comes back.
                for program in &programs {
                    let saved = namespace.run(&format!("{program}-save"));
                    for line in [
                        "-P INPUT ACCEPT",
                        "-P FORWARD ACCEPT",
                        "-P OUTPUT ACCEPT",
                        "-F",
                        "-X",
                        "-t mangle -F",
                        "-t mangle -X",
                    ] {
                        namespace.run(&format!("{program} {line}"));
                    }
                    namespace.load(&format!("{program}-restore"), &saved);
                }
                assert_eq!(jumps(&namespace.firewall()), jumps(&installed));
                assert!(
                    namespace
                        .rules(&format!("install --backend iptables {options}"))
                        .starts_with("already")
                );
                assert_eq!(jumps(&namespace.firewall()), jumps(&installed));
                assert_eq!(policies(&namespace.firewall()), policies(&before));
                namespace.rules("remove");
                assert_eq!(namespace.firewall(), before, "{kind} {options}");
            }
        }
    }
}

fn policies(firewall: &str) -> Vec<&str> {
    firewall
        .lines()
        .filter(|line| {
            line.starts_with(':') && !line.contains("SMTPWATCH") || line.contains("policy")
        })
        .collect()
}

fn jumps(firewall: &str) -> usize {
    firewall
        .lines()
        .filter(|line| line.starts_with("-A") && line.ends_with("-j SMTPWATCH"))
        .count()
}

#[test]
fn a_chain_altered_by_hand_is_put_right_and_taken_away_whole() {
    for kind in KINDS {
        let alterations = [
            "iptables -I FORWARD 2 -j SMTPWATCH",
            "iptables -D FORWARD -j SMTPWATCH",
            "iptables -A lan-out -s 10.0.0.0/8 -g SMTPWATCH; iptables -A INPUT -m comment --comment 'by \"me\"' -j SMTPWATCH",
            "iptables -I SMTPWATCH -p tcp --dport 25 -j DROP; ip6tables -D SMTPWATCH 2",
            "iptables -F SMTPWATCH",
            "iptables -D FORWARD -j SMTPWATCH; iptables -F SMTPWATCH; iptables -X SMTPWATCH",
            "iptables -t mangle -N SMTPWATCH; iptables -t mangle -A FORWARD -j SMTPWATCH",
        ];
        for alteration in alterations {
            let alteration = alteration
                .replace("iptables ", &format!("iptables-{kind} "))
                .replace("ip6tables ", &format!("ip6tables-{kind} "));
            let namespace = Namespace::new();
            for program in ["iptables", "ip6tables"] {
                namespace.load(&format!("{program}-{kind}-restore"), STRICT);
            }
            let before = namespace.firewall();
            namespace.rules("install --backend iptables --via both");
            let installed = namespace.firewall();
            let alter = || {
                let done = namespace.shell(&alteration);
                assert!(done.status.success(), "{alteration}: {done:?}");
            };
            alter();
            assert_ne!(namespace.differences(), [""; 0], "{alteration}");
            assert!(
                namespace
                    .rules("install --backend iptables --via both")
                    .starts_with("installed")
            );
            assert_eq!(namespace.firewall(), installed, "{alteration}");
            alter();
            namespace.rules("remove");
            assert_eq!(namespace.firewall(), before, "{alteration}");
        }
    }
}

#[test]
fn a_chain_that_somebody_hung_below_ours_stays() {
    for kind in KINDS {
        let namespace = Namespace::new();
        let iptables = format!("iptables-{kind}");
        namespace.run(&format!("{iptables} -N theirs"));
        namespace.run(&format!("{iptables} -A theirs -j ACCEPT"));
        // A legacy table is there once it was asked for.
        namespace.run(&format!("ip6tables-{kind} -S"));
        let before = namespace.firewall();
        namespace.rules("install --backend iptables");
        namespace.run(&format!("{iptables} -A SMTPWATCH -j theirs"));
        namespace.rules("remove");
        assert_eq!(namespace.firewall(), before);
    }
}

#[test]
fn tables_and_chains_that_the_install_made_go_with_it() {
    // What there is before, and what is put in later by others, so that the table must stay.
    let empty = Namespace::new();
    empty.rules("install --backend iptables");
    assert!(empty.run("nft list ruleset").contains("table ip filter"));
    let saved = empty.run("iptables-nft-save");
    assert!(saved.contains("smtpwatch: made table filter"));
    // Saved, gone, restored: what was made is still known.
    empty.run("nft flush ruleset");
    empty.load("iptables-nft-restore", &saved);
    empty.rules("remove");
    assert_eq!(empty.run("nft list ruleset"), "");

    let partly = Namespace::new();
    partly.run("iptables-nft -A INPUT -p icmp -j ACCEPT");
    let before = partly.firewall();
    partly.rules("install --backend iptables --via log");
    partly.rules("remove");
    assert_eq!(partly.firewall(), before);

    let used = Namespace::new();
    used.rules("install --backend iptables");
    used.run("iptables-nft -A INPUT -p icmp -j ACCEPT");
    let removed = used.smtpwatch("rules remove");
    assert!(
        text(&removed.stderr).contains("left iptables table filter"),
        "{removed:?}"
    );
    let saved = used.run("iptables-nft-save");
    assert!(
        saved.contains("-A INPUT -p icmp -j ACCEPT") && !saved.contains("SMTPWATCH"),
        "{saved}"
    );
}

#[test]
fn a_legacy_table_stays_empty_because_the_kernel_keeps_it() {
    let namespace = Namespace::new();
    namespace.run("iptables-legacy -t nat -A POSTROUTING -j MASQUERADE");
    let said = namespace.rules("install --backend iptables");
    assert!(said.contains("(legacy)"), "{said}");
    namespace.rules("remove");
    let saved = without_comments(&namespace.run("iptables-legacy-save"));
    let filter =
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";
    assert!(saved.contains(filter), "{saved}");
    assert!(!saved.contains("SMTPWATCH"), "{saved}");
}

#[test]
fn both_firewalls_are_cleared_at_once() {
    let namespace = Namespace::new();
    namespace.run("iptables-legacy -A INPUT -j ACCEPT");
    let before = namespace.run("iptables-legacy-save");
    namespace.rules("install --backend nft");
    let output = namespace.smtpwatch("rules install --backend iptables");
    assert!(text(&output.stderr).contains("also in nft"), "{output:?}");
    assert_eq!(namespace.status()["installed"].as_array().unwrap().len(), 2);
    namespace.rules("remove");
    assert_eq!(namespace.run("nft list ruleset"), "");
    assert_eq!(
        without_comments(&namespace.run("iptables-legacy-save")),
        without_comments(&before)
    );
}
