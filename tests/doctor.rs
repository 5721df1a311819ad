//! `smtpwatch doctor` on gateways good and bad, and its self-test. Everything happens in network namespaces
//! of the tests' own, which need root.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "tests start programs")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

const SMTPWATCH: &str = env!("CARGO_BIN_EXE_smtpwatch");
const FIREWALLD: &str = include_str!("rules/firewalld.nft");
const UFW: &str = include_str!("rules/ufw.nft");

/// A gateway between `lan0` and `wan0`, in a namespace that goes with the test.
struct Gateway {
    name: String,
    state: tempfile::TempDir,
}

impl Gateway {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sw-doctor-{}-{number}", std::process::id());
        let added = Command::new("ip").args(["netns", "add", &name]).output();
        assert!(added.unwrap().status.success());
        let state = tempfile::tempdir().unwrap();
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o750)).unwrap();
        let gateway = Self { name, state };
        gateway.shell(
            "ip link set lo up
             ip link add lan0 type veth peer name lan1
             ip link add wan0 type veth peer name wan1
             for end in lan0 lan1 wan0 wan1; do ip link set $end up; done
             ip address add 192.168.7.1/24 dev lan0
             ip address add 203.0.113.1/24 dev wan0
             ip route add default via 203.0.113.2 dev wan0
             sysctl -qw net.ipv4.ip_forward=1
             sysctl -qw net.netfilter.nf_conntrack_acct=1 net.netfilter.nf_conntrack_timestamp=1",
        );
        gateway.nft(
            "table ip mynat { chain post {
                type nat hook postrouting priority 100; policy accept;
                oifname \"wan0\" masquerade
             }
             }",
        );
        gateway
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name));
        command.arg(program).stdin(Stdio::null());
        command
    }

    /// Has a shell run `script`, every line of which must succeed.
    fn shell(&self, script: &str) -> String {
        let output = self.command("bash").args(["-ec", script]).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        text(&output.stdout)
    }

    fn load(&self, program: &[&str], input: &str) {
        let mut command = self.command(program[0]);
        command.args(&program[1..]).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        assert!(child.wait().unwrap().success(), "{program:?}: {input}");
    }

    fn nft(&self, rules: &str) {
        self.load(&["nft", "-f", "-"], rules);
    }

    /// Runs `smtpwatch doctor` with `arguments`.
    fn doctor(&self, arguments: &str) -> Output {
        let mut command = self.command(SMTPWATCH);
        command.arg("doctor").args(arguments.split_whitespace());
        command.arg("--state-dir").arg(self.state.path());
        command.output().unwrap()
    }

    fn diagnosis(&self) -> Diagnosis {
        Diagnosis::of(&self.doctor("--json"))
    }

    /// The rules, and the interfaces, as they are.
    fn all(&self) -> String {
        self.shell("nft list ruleset; ip -o link; sysctl net.ipv4.ip_forward")
    }

    fn watch(&self) -> Watch {
        let mut command = self.command(SMTPWATCH);
        command.args([
            "watch",
            "--source",
            "nflog",
            "--state-dir",
            "-",
            "--for",
            "40s",
        ]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let watch = Watch(command.spawn().unwrap());
        for _ in 0..400 {
            if self.shell("nft list tables").contains("inet smtpwatch") {
                return watch;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("the watch does not begin");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .output();
    }
}

struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was said as JSON, and with which exit status.
struct Diagnosis {
    json: Value,
    exit: Option<i32>,
}

impl Diagnosis {
    fn of(output: &Output) -> Self {
        let json: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert_eq!(json["schema"], "smtpwatch.doctor.v1");
        assert!(json["generated_at"].as_str().unwrap().ends_with('Z'));
        let diagnosis = Self {
            json,
            exit: output.status.code(),
        };
        let has_failed = diagnosis.checks().iter().any(|it| it["status"] == "fail");
        assert_eq!(
            diagnosis.exit,
            Some(i32::from(has_failed)),
            "{}",
            diagnosis.json
        );
        for check in diagnosis.checks() {
            let is_ok = check["status"] == "ok";
            assert_eq!(check["advice"] == "", is_ok, "{check}");
            assert_ne!(check["found"], "", "{check}");
        }
        diagnosis
    }

    fn checks(&self) -> &[Value] {
        self.json["checks"].as_array().unwrap()
    }

    fn check(&self, id: &str) -> &Value {
        let found = self.checks().iter().find(|check| check["id"] == id);
        found.unwrap_or_else(|| panic!("no {id} in {}", self.json))
    }

    fn is(&self, id: &str, status: &str) -> &str {
        let check = self.check(id);
        assert_eq!(check["status"], status, "{check}");
        check["found"].as_str().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_good_gateway_is_found_good_and_left_as_it_was() {
    let gateway = Gateway::new();
    let before = gateway.all();
    let diagnosis = gateway.diagnosis();
    assert_eq!(diagnosis.exit, Some(0), "{}", diagnosis.json);
    for check in diagnosis.checks() {
        let id = check["id"].as_str().unwrap();
        let is_here = ["gateway.", "firewall.", "bypass.", "store."]
            .iter()
            .any(|group| id.starts_with(group));
        if is_here || id == "sources.nflog" || id == "sources.rights" || id == "sources.conntrack" {
            diagnosis.is(id, "ok");
        }
    }
    assert!(diagnosis.is("gateway.route", "ok").contains("wan0"));
    assert!(diagnosis.is("gateway.inside", "ok").contains("lan0"));
    assert!(diagnosis.is("gateway.nat", "ok").contains("ip mynat post"));
    assert!(
        diagnosis
            .is("firewall.upstream", "ok")
            .contains("not tested")
    );
    // The rules of this namespace do not reach the ring buffer unless somebody lets them.
    diagnosis.is("sources.kmsg", "warn");
    assert_eq!(gateway.all(), before);
}

#[test]
fn a_machine_that_forwards_nothing_is_no_gateway() {
    let gateway = Gateway::new();
    gateway.shell("sysctl -qw net.ipv4.ip_forward=0; sysctl -qw net.ipv6.conf.all.forwarding=0");
    let diagnosis = gateway.diagnosis();
    diagnosis.is("gateway.forwarding", "fail");
    assert_eq!(diagnosis.exit, Some(1));
    assert_eq!(diagnosis.json["status"], "fail");
    gateway.shell("sysctl -qw net.ipv4.ip_forward=1; ip route del default; nft flush ruleset");
    let diagnosis = gateway.diagnosis();
    diagnosis.is("gateway.forwarding", "ok");
    diagnosis.is("gateway.route", "warn");
    diagnosis.is("gateway.nat", "warn");
}

#[test]
fn mail_that_is_blocked_already_is_told() {
    let gateway = Gateway::new();
    gateway.nft(
        "table inet mine { chain passing { type filter hook forward priority 0; tcp dport 25 drop; }; }",
    );
    let diagnosis = gateway.diagnosis();
    let found = diagnosis.is("firewall.port25", "warn");
    assert!(found.contains("inet mine passing"), "{found}");
    assert_eq!(diagnosis.exit, Some(0));
    gateway.shell("nft delete table inet mine");
    for kind in ["nft", "legacy"] {
        gateway.shell(&format!(
            "iptables-{kind} -A FORWARD -p tcp --dport 25 -j REJECT"
        ));
        let diagnosis = gateway.diagnosis();
        let found = diagnosis.is("firewall.port25", "warn");
        assert!(found.contains("ip filter FORWARD"), "{kind}: {found}");
        gateway.shell(&format!("iptables-{kind} -F FORWARD"));
    }
    gateway.diagnosis().is("firewall.port25", "ok");
    gateway.nft("table inet raw { chain pre { type filter hook prerouting priority -300; tcp dport 25 drop; }; }");
    let diagnosis = gateway.diagnosis();
    assert!(
        diagnosis
            .is("firewall.earlier", "warn")
            .contains("inet raw pre")
    );
}

/// Without NAT and without a rule that asks for the state of connections the kernel tracks none, and neither do our
/// own rules have it do so; the rule that is advised does.
#[test]
fn a_gateway_that_tracks_no_connections_is_told() {
    let gateway = Gateway::new();
    gateway.shell("nft flush ruleset");
    gateway.nft(
        "table inet mine { chain passing { type filter hook forward priority 0; tcp dport 445 drop; }; }",
    );
    gateway.shell(&format!("{SMTPWATCH} rules install --config /dev/null"));
    let diagnosis = gateway.diagnosis();
    let found = diagnosis.is("sources.conntrack", "warn");
    assert!(found.contains("the kernel tracks none here"), "{found}");
    let advice = diagnosis.check("sources.conntrack")["advice"]
        .as_str()
        .unwrap();
    let (_, advised) = advice.split_once("starts it: ").unwrap();
    let (command, _) = advised.split_once("; or watch").unwrap();
    gateway.shell(command);
    gateway.diagnosis().is("sources.conntrack", "ok");
    gateway.shell("nft delete table inet track");
    gateway.diagnosis().is("sources.conntrack", "warn");
    for kind in ["nft", "legacy"] {
        let rule =
            "FORWARD -m comment --comment x -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
        gateway.shell(&format!("iptables-{kind} -A {rule}"));
        gateway.diagnosis().is("sources.conntrack", "ok");
        gateway.shell(&format!("iptables-{kind} -D {rule}"));
        gateway.diagnosis().is("sources.conntrack", "warn");
    }
}

/// The doctor looks at what a watch with the same configuration would use.
#[test]
fn a_configuration_says_what_is_looked_at() {
    let gateway = Gateway::new();
    gateway.nft(
        "table inet mine { chain passing { type filter hook forward priority 0; tcp dport 587 drop; }; }",
    );
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let leases = folder.path().join("leases");
    fs::write(
        &leases,
        "1700000000 02:00:00:00:00:17 192.168.7.23 alice *\n",
    )
    .unwrap();
    let file = folder.path().join("main.toml");
    let text = format!(
        "network.ports = [25, 587]\nrules.group = 7\nhistory.dir = \"{}\"\nwatch.leases = \"{}\"\n",
        state.display(),
        leases.display()
    );
    fs::write(&file, text).unwrap();
    let examined = |config: &str| {
        let mut command = gateway.command(SMTPWATCH);
        command.args(["doctor", "--json", "--config", config]);
        Diagnosis::of(&command.output().unwrap())
    };
    let by_default = examined("/dev/null");
    by_default.is("firewall.port25", "ok");
    assert!(
        by_default
            .is("sources.nflog", "ok")
            .contains("group 25 is free")
    );
    let diagnosis = examined(file.to_str().unwrap());
    let found = diagnosis.is("firewall.port25", "warn");
    assert!(
        found.contains("port 25,587 is blocked") && found.contains("inet mine passing"),
        "{found}"
    );
    assert!(
        diagnosis
            .is("sources.nflog", "ok")
            .contains("group 7 is free")
    );
    assert!(
        diagnosis
            .is("leases.files", "ok")
            .contains(leases.to_str().unwrap())
    );
    assert!(
        diagnosis
            .is("store.folder", "ok")
            .contains(state.to_str().unwrap())
    );
    // Rules that are not as the file wants them are altered ones.
    gateway.shell(&format!("{SMTPWATCH} rules install --config /dev/null"));
    examined("/dev/null").is("firewall.rules", "ok");
    examined(file.to_str().unwrap()).is("firewall.rules", "warn");
    fs::write(&file, "history.dir = \"-\"\n").unwrap();
    let diagnosis = examined(file.to_str().unwrap());
    assert!(
        diagnosis
            .is("store.folder", "ok")
            .contains("no history is kept")
    );
    // The self-test needs no configuration, and a broken one does not keep it from its work.
    fs::write(&file, "nonsense").unwrap();
    let mut command = gateway.command(SMTPWATCH);
    let command = command
        .args(["doctor", "--selftest", "--json", "--config"])
        .arg(&file);
    assert_eq!(Diagnosis::of(&command.output().unwrap()).exit, Some(0));
}

#[test]
fn two_firewalls_at_once_are_told() {
    let gateway = Gateway::new();
    gateway.shell("iptables-legacy -A FORWARD -p tcp --dport 80 -j ACCEPT");
    gateway.diagnosis().is("firewall.kinds", "warn");
    gateway.shell("iptables-legacy -F FORWARD");
    gateway.diagnosis().is("firewall.kinds", "ok");
    gateway.shell("nft flush ruleset");
    gateway.nft(FIREWALLD);
    let diagnosis = gateway.diagnosis();
    assert!(diagnosis.is("firewall.manager", "ok").contains("firewalld"));
    gateway.nft(UFW);
    let diagnosis = gateway.diagnosis();
    let found = diagnosis.is("firewall.manager", "warn");
    assert!(
        found.contains("firewalld") && found.contains("ufw"),
        "{found}"
    );
}

#[test]
fn our_rules_and_who_looks_after_them() {
    let gateway = Gateway::new();
    let watch = gateway.watch();
    let pid = format!("pid {}", watch.0.id());
    let diagnosis = gateway.diagnosis();
    assert!(diagnosis.is("firewall.watch", "ok").contains(&pid));
    assert!(diagnosis.is("sources.nflog", "ok").contains(&pid));
    assert!(diagnosis.is("firewall.rules", "ok").contains("as wanted"));
    drop(watch);
    let diagnosis = gateway.diagnosis();
    assert!(!diagnosis.is("firewall.watch", "ok").contains("pid"));
    gateway.shell("nft add rule inet smtpwatch evidence counter");
    gateway.diagnosis().is("firewall.rules", "warn");
    gateway.shell("nft delete table inet smtpwatch");
    gateway.diagnosis().is("firewall.rules", "ok");
}

#[test]
fn what_passes_beside_the_rules_is_told() {
    let gateway = Gateway::new();
    gateway.shell("ip rule add from 192.168.7.0/24 table 100");
    gateway.diagnosis().is("bypass.routes", "warn");
    gateway.shell(
        "ip rule del from 192.168.7.0/24 table 100
         ip link add wan2 type veth peer name wan3; ip link set wan2 up; ip link set wan3 up
         ip address add 198.51.100.2/24 dev wan2
         ip route add default via 198.51.100.1 dev wan2 metric 200",
    );
    let diagnosis = gateway.diagnosis();
    assert!(
        diagnosis
            .is("bypass.routes", "warn")
            .contains("wan0 and wan2")
    );
    gateway.shell(
        "ip link del wan2
         ip link add br0 type bridge; ip link set br0 up
         ip link set lan0 master br0; ip link set wan0 master br0
         ip address flush dev wan0; ip address add 203.0.113.1/24 dev br0
         ip route replace default via 203.0.113.2 dev br0",
    );
    let diagnosis = gateway.diagnosis();
    assert!(
        diagnosis.check("bypass.bridge")["found"]
            .as_str()
            .unwrap()
            .contains("bridged")
    );
    if gateway
        .shell("cat /proc/sys/net/bridge/bridge-nf-call-iptables || true")
        .trim()
        != "1"
    {
        diagnosis.is("bypass.bridge", "warn");
    }
}

#[test]
fn a_state_directory_that_is_open_or_broken_is_told() {
    let gateway = Gateway::new();
    let folder = gateway.state.path().display().to_string();
    gateway.shell(&format!(
        "chmod 0755 {folder}; echo no database > {folder}/history.sqlite"
    ));
    let diagnosis = gateway.diagnosis();
    diagnosis.is("store.folder", "warn");
    diagnosis.is("store.history", "warn");
}

#[test]
fn without_root_it_says_what_it_cannot_know() {
    let gateway = Gateway::new();
    let folder = gateway.state.path().display().to_string();
    gateway.shell(&format!("chmod 0700 {folder}"));
    // The program may lie where nobody else may go.
    let copy = tempfile::Builder::new()
        .prefix("sw-doctor")
        .tempdir_in("/tmp")
        .unwrap();
    let path = copy.path().join("smtpwatch");
    fs::copy(SMTPWATCH, &path).unwrap();
    let shown = copy.path().display();
    gateway.shell(&format!("chmod 0755 {shown} {shown}/smtpwatch"));
    let as_nobody = |arguments: &str| {
        let mut command = gateway.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command
            .arg(&path)
            .arg("doctor")
            .args(arguments.split_whitespace());
        command.args(["--state-dir", &folder]);
        command.output().unwrap()
    };
    let diagnosis = Diagnosis::of(&as_nobody("--json"));
    diagnosis.is("sources.rights", "fail");
    diagnosis.is("firewall.programs", "fail");
    for id in [
        "firewall.rules",
        "firewall.port25",
        "gateway.nat",
        "sources.nflog",
        "sources.capture",
        "bypass.offload",
        "store.history",
    ] {
        diagnosis.is(id, "warn");
    }
    diagnosis.is("gateway.forwarding", "ok");
    let said = text(&as_nobody("").stdout);
    assert!(said.contains("sudo smtpwatch doctor"), "{said}");
    let selftest = Diagnosis::of(&as_nobody("--selftest --json"));
    assert_eq!(selftest.checks().len(), 1);
    let step = selftest.check("selftest.namespace");
    assert!(step["advice"].as_str().unwrap().contains("sudo"), "{step}");
}

#[test]
fn the_self_test_proves_it_and_leaves_nothing() {
    let gateway = Gateway::new();
    let before = gateway.all();
    let output = gateway.doctor("--selftest --json");
    let diagnosis = Diagnosis::of(&output);
    assert_eq!(diagnosis.exit, Some(0), "{}", diagnosis.json);
    let verdict = diagnosis.is("selftest.verdict", "ok");
    assert!(
        verdict.contains("infected") && verdict.contains("02:00:00:00:00:10"),
        "{verdict}"
    );
    for id in [
        "selftest.forwarded",
        "selftest.nft.syn",
        "selftest.iptables.syn",
        "selftest.counter",
        "selftest.conntrack",
    ] {
        assert!(diagnosis.check(id)["millis"].is_number());
        diagnosis.is(id, "ok");
    }
    assert_eq!(gateway.all(), before);
    // Among the processes that it could have left there is none in another network namespace.
    let script = format!("{SMTPWATCH} doctor --selftest -q; lsns -n -t net -o NS | wc -l");
    let counted = gateway
        .command("unshare")
        .args(["--pid", "--fork", "--mount-proc", "bash", "-c", &script])
        .output()
        .unwrap();
    assert_eq!(text(&counted.stdout).trim(), "1", "{counted:?}");
}

#[test]
fn a_self_test_that_is_killed_leaves_nothing() {
    let gateway = Gateway::new();
    let before = gateway.all();
    for millis in [1, 20, 60, 120, 200] {
        let mut command = gateway.command(SMTPWATCH);
        command.args(["doctor", "--selftest"]).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        thread::sleep(Duration::from_millis(millis));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(gateway.all(), before, "after {millis} ms");
    }
}

#[test]
fn without_nft_the_self_test_says_so() {
    let gateway = Gateway::new();
    let hide = "for file in /usr/sbin/nft /sbin/nft /usr/local/sbin/nft /usr/bin/nft; do
        if [ -e $file ] && [ ! $file -ef /dev/null ]; then mount --bind /dev/null $file; fi
    done; exec \"$@\"";
    let output = gateway
        .command("unshare")
        .args([
            "-m",
            "bash",
            "-ec",
            hide,
            "x",
            SMTPWATCH,
            "doctor",
            "--selftest",
            "--json",
        ])
        .output()
        .unwrap();
    let diagnosis = Diagnosis::of(&output);
    assert_eq!(diagnosis.exit, Some(1));
    let found = diagnosis.is("selftest.nft.rules", "fail");
    assert!(found.contains("nft is not installed"), "{found}");
    diagnosis.is("selftest.iptables.syn", "ok");
}

#[test]
fn the_table_is_plain_where_it_is_no_terminal_and_brief_where_asked() {
    let gateway = Gateway::new();
    let whole = text(&gateway.doctor("").stdout);
    assert!(whole.starts_with("OK    sources.rights"), "{whole}");
    assert!(!whole.contains('\u{1b}'), "{whole:?}");
    let brief = text(&gateway.doctor("-q").stdout);
    assert!(!brief.lines().any(|line| line.starts_with("OK")), "{brief}");
    let wrong = gateway.doctor("--json --format table");
    assert_eq!(wrong.status.code(), Some(2));
}
