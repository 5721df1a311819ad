//! `smtpwatch watch` on the lab's gateway, and what it said.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::Lab;

/// The MAC of the lab's mail server.
const MAIL_SERVER: &str = "02:00:77:00:00:25";
/// Ends a watcher that nobody ended.
const LONGEST: &str = "300s";
const SOON: Duration = Duration::from_secs(40);

/// A `watch` that runs; it is killed with the thread that started it, or where this is dropped.
pub(crate) struct Watcher {
    child: Child,
    /// Where it keeps its history, and what it says is written.
    folder: Option<TempDir>,
    sees: Sees,
}

/// What a source can see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sees {
    /// What the gateway's hooks see: all interfaces, no frames for other VLANs.
    Hooks,
    /// The frames of one interface.
    Frames(String),
}

impl Watcher {
    /// By its own rules.
    pub(crate) fn nflog(lab: &Lab) -> Self {
        Self::start(lab, &["--source", "nflog"])
    }

    /// By a rule that an admin made.
    pub(crate) fn kmsg(lab: &Lab) -> Self {
        // The kernel's log is one for all: a prefix of its own for each lab.
        let prefix = format!("sw-{} ", lab.id);
        let rules = format!(
            "table inet by_hand {{\n chain prerouting {{\n  type filter hook prerouting priority -150;\n  \
             tcp flags & (fin|syn|rst|ack) == syn tcp dport 25 log prefix \"{prefix}\"\n }}\n}}\n"
        );
        let mut nft = lab.inside("gw", "nft");
        let mut child = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(rules.as_bytes()).unwrap();
        drop(input);
        assert!(child.wait().unwrap().success(), "{rules}");
        Self::start(
            lab,
            &["--source", "kmsg", "--no-rules", "--prefix", &prefix],
        )
    }

    /// By the frames of an interface; no rules.
    pub(crate) fn capture(lab: &Lab, interface: &str) -> Self {
        let mut watcher = Self::start(lab, &["--source", &format!("capture:{interface}")]);
        watcher.sees = Sees::Frames(interface.to_owned());
        watcher
    }

    /// Starts one with these arguments, and waits until it says that its sources work.
    pub(crate) fn start(lab: &Lab, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = |name: &str| File::create(folder.path().join(name)).unwrap();
        let namespace = format!("--net=/run/netns/{}", lab.namespace("gw"));
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "nsenter", &namespace])
            .args([env!("CARGO_BIN_EXE_smtpwatch"), "watch", "--format", "json"])
            // The office's mail server, which somebody declared: its networks are new to it each day.
            .args(["--allow", MAIL_SERVER])
            .args(["--for", LONGEST, "--leases"])
            .arg(lab.folder().join("dnsmasq.leases"))
            .arg("--state-dir")
            .arg(folder.path().join("state"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output("events"))
            .stderr(output("errors"));
        let named = arguments.iter().skip_while(|word| **word != "--source");
        let sources = named
            .skip(1)
            .take(1)
            .flat_map(|list| list.split(','))
            .count();
        let mut watcher = Self {
            child: command.spawn().unwrap(),
            folder: Some(folder),
            sees: Sees::Hooks,
        };
        watcher.wait_for("all its sources work", |events| {
            events.matches("source_ready").count() >= sources
        });
        watcher
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.as_ref().unwrap().path().join(name)).unwrap()
    }

    /// Waits until that many attempts are told to have ended so.
    pub(crate) fn wait_for_outcomes(&mut self, outcome: &str, count: usize, within: Duration) {
        let told = format!("\"outcome\":\"{outcome}\"");
        self.wait_within(within, &format!("{count} are {outcome}"), |events| {
            events.matches(&told).count() >= count
        });
    }

    fn wait_for(&mut self, what: &str, is_so: impl Fn(&str) -> bool) {
        self.wait_within(SOON, what, is_so);
    }

    fn wait_within(&mut self, within: Duration, what: &str, is_so: impl Fn(&str) -> bool) {
        let end = Instant::now() + within;
        while !is_so(&self.read("events")) {
            let status = self.child.try_wait().unwrap();
            assert!(
                status.is_none() && Instant::now() < end,
                "waiting until {what}: {status:?} {}{}",
                self.read("events"),
                self.read("errors")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets the last packets arrive, ends it as Ctrl-C does, and reads what it said.
    pub(crate) fn finish(mut self) -> Watched {
        std::thread::sleep(Duration::from_millis(1500));
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
        let end = Instant::now() + SOON;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "it does not end on SIGINT");
            std::thread::sleep(Duration::from_millis(20));
        };
        let errors = self.read("errors");
        assert!(status.success(), "{status}: {errors}");
        let said = self.read("events");
        let events: Vec<Value> = said
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect();
        let report = events
            .last()
            .filter(|event| event["event_type"] == "report")
            .unwrap_or_else(|| panic!("no report at the end: {said}{errors}"))["report"]
            .clone();
        assert_eq!(report["schema"], "smtpwatch.report.v1");
        Watched {
            sees: self.sees.clone(),
            devices: serde_json::from_value(report["devices"].clone()).unwrap(),
            events,
            folder: self.folder.take(),
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a watcher said, from start to end.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) sees: Sees,
    pub(crate) events: Vec<Value>,
    pub(crate) devices: Vec<Device>,
    pub(crate) folder: Option<TempDir>,
}

impl Watched {
    /// Where it kept its history.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.folder.as_ref().unwrap().path().join("state")
    }

    /// The events of a type.
    pub(crate) fn of_type(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.events
            .iter()
            .filter(move |event| event["event_type"] == kind)
    }

    /// The attempts, in the order they were told.
    pub(crate) fn attempts(&self) -> impl Iterator<Item = Attempt> {
        self.of_type("attempt").map(attempt)
    }

    /// Those whose source is not believed.
    pub(crate) fn spoofed(&self) -> impl Iterator<Item = Attempt> {
        self.of_type("spoofed").map(attempt)
    }

    /// Whether it said that this process took its rules.
    pub(crate) fn blames(&self, pid: u64, name: &str) -> bool {
        self.of_type("health").any(|event| {
            let by = &event["by"];
            event["notice"] == "rules_gone" && by["pid"] == pid && by["name"] == name
        })
    }
}

fn attempt(event: &Value) -> Attempt {
    serde_json::from_value(event.clone()).unwrap_or_else(|error| panic!("{error}: {event}"))
}

/// An event of type `attempt` or `spoofed`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) src_ip: IpAddr,
    pub(crate) src_port: u16,
    pub(crate) dest_ip: IpAddr,
    pub(crate) dest_port: u16,
    #[serde(default)]
    pub(crate) in_iface: Option<String>,
    /// Its outermost tag alone.
    #[serde(default)]
    pub(crate) vlan: Vec<u16>,
    pub(crate) src_mac: Option<String>,
    pub(crate) direction: String,
    /// Whose it is; nobody's where it is not scored or not believed.
    #[serde(default)]
    pub(crate) device: Option<String>,
    #[serde(default)]
    pub(crate) hostname: Option<String>,
}

/// A device of the report.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Device {
    pub(crate) id: String,
    pub(crate) mac: Option<String>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) hostname: Option<String>,
    pub(crate) interface: Option<String>,
    pub(crate) attempts: usize,
    pub(crate) verdict: String,
    pub(crate) outcomes: BTreeMap<String, usize>,
}
