//! A lab for a test, and the truth of what was sent in it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

/// A lab that is up as long as this lives.
pub(crate) struct Lab {
    /// What it is called by `scripts/lab`.
    pub(crate) id: String,
}

impl Lab {
    /// A lab of its own for a test; `more` goes to `scripts/lab up`.
    pub(crate) fn up(more: &[&str]) -> Self {
        let lab = Self { id: new_id() };
        let owner = std::process::id().to_string();
        let up = ["up", "--id", &lab.id, "--owner", &owner];
        succeed(&mut script(&[&up, more].concat()));
        lab
    }

    /// The namespace of one of its machines.
    pub(crate) fn namespace(&self, machine: &str) -> String {
        format!("sw-{}-{machine}", self.id)
    }

    /// Where it keeps what it knows about itself.
    pub(crate) fn folder(&self) -> PathBuf {
        PathBuf::from(format!("/run/sw-{}", self.id))
    }

    /// A command that will run in a machine's network namespace.
    pub(crate) fn inside(&self, machine: &str, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let namespace = format!("--net=/run/netns/{}", self.namespace(machine));
        command.args([&namespace, program]);
        command
    }

    /// Runs a scenario to its end; answers what was sent.
    pub(crate) fn run(&self, scenario: &str) -> Truth {
        let output = succeed(&mut script(&[
            "run", scenario, "--id", &self.id, "--json", "-",
        ]));
        let truth: Truth = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(truth.schema, "smtpwatch.lab.truth.v1");
        assert_eq!(truth.scenario, scenario);
        truth
    }

    /// What the lab has written down about itself.
    pub(crate) fn record(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.folder().join("lab.json")).unwrap()).unwrap()
    }

    /// What of it is on this machine: namespaces and its folder.
    pub(crate) fn remains(&self) -> Vec<String> {
        let mut found: Vec<String> = names_in("/run/netns")
            .into_iter()
            .filter(|name| name.starts_with(&self.namespace("")))
            .collect();
        if self.folder().exists() {
            found.push(self.folder().display().to_string());
        }
        found
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let output = script(&["down", "--id", &self.id]).output();
        // A failure of the test itself is what should be read first.
        if !std::thread::panicking() {
            let output = output.unwrap();
            assert!(output.status.success(), "{}", told(&output));
            assert_eq!(self.remains(), Vec::<String>::new());
        }
    }
}

/// An id that nobody else has, on this machine and at this time.
pub(crate) fn new_id() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("t{}n{count}", std::process::id())
}

/// `scripts/lab` with arguments.
pub(crate) fn script(arguments: &[&str]) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lab");
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a command that must succeed; answers its output.
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", told(&output));
    output
}

fn told(output: &Output) -> String {
    format!(
        "{}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Whether the lab can be made. Where it cannot, the test fails, unless that was agreed to.
pub(crate) fn has_root() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    let agreed = std::env::var_os("SMTPWATCH_NO_ROOT").is_some_and(|value| value == "1");
    assert!(
        agreed && std::env::var_os("CI").is_none(),
        "the lab needs root (network namespaces): run the tests as root, or set SMTPWATCH_NO_ROOT=1 \
         to do without this one (never where CI is set)"
    );
    false
}

/// Waits until something is so; fails with `what` if it is not within that time.
pub(crate) fn wait_until(what: &str, within: Duration, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + within;
    while !is_so() {
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The names in a folder; none where there is no such folder.
pub(crate) fn names_in(folder: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

/// What was really sent in a run (`smtpwatch.lab.truth.v1`).
#[derive(Debug, Deserialize)]
pub(crate) struct Truth {
    pub(crate) schema: String,
    pub(crate) scenario: String,
    pub(crate) machines: Vec<Machine>,
    /// Who should be told as infected, by name.
    pub(crate) infected: Vec<String>,
    /// What somebody on the Internet sent to the office.
    pub(crate) outside: Vec<Connection>,
    pub(crate) forged: Vec<Connection>,
    pub(crate) events: Vec<Value>,
    /// Whom the Internet's mail servers met.
    pub(crate) met: Vec<Met>,
}

impl Truth {
    /// The machine of that name; it must have sent something.
    pub(crate) fn machine(&self, name: &str) -> &Machine {
        let found = self.machines.iter().find(|machine| machine.name == name);
        found.unwrap_or_else(|| panic!("{name} sent nothing in {}", self.scenario))
    }
}

/// A connection as the mail server at its other end saw it, behind NAT.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Met {
    /// Seconds since the epoch.
    pub(crate) at: f64,
    pub(crate) src: IpAddr,
    pub(crate) src_port: u16,
    pub(crate) dst: IpAddr,
    /// What the client called itself: its host name, or else the machine's.
    pub(crate) name: String,
}

/// One machine's part of the truth.
#[derive(Debug, Deserialize)]
pub(crate) struct Machine {
    pub(crate) name: String,
    /// Where it stands: "lan", "router" or "ap" (behind them), "tunnel", "gateway".
    pub(crate) place: String,
    /// The gateway's interface its packets come in by; none for the gateway itself.
    pub(crate) interface: Option<String>,
    pub(crate) mac: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) addresses: Vec<IpAddr>,
    /// By port: what went from inside to outside.
    pub(crate) attempts: BTreeMap<String, Families>,
    pub(crate) destination_groups: u32,
    pub(crate) connections: Vec<Connection>,
}

/// Attempts by IP version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Families {
    pub(crate) ipv4: u32,
    pub(crate) ipv6: u32,
}

/// One connection that was tried, as the gateway sees it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Connection {
    pub(crate) src: IpAddr,
    pub(crate) src_port: u16,
    pub(crate) dst: IpAddr,
    pub(crate) dst_port: u16,
    #[serde(default)]
    pub(crate) mac: Option<String>,
    #[serde(default)]
    pub(crate) vlan: Option<u16>,
    #[serde(default)]
    pub(crate) outcome: Option<String>,
    #[serde(default)]
    pub(crate) direction: Option<String>,
}
