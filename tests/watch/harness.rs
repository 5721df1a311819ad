//! A gateway and a machine behind it, a watch that runs there, and what it said.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const SMTPWATCH: &str = env!("CARGO_BIN_EXE_smtpwatch");
/// Longer than anything that is waited for takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// The gateway's address and MAC inside, and the machine's.
pub(crate) const GATEWAY: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
pub(crate) const MACHINE: [u8; 6] = [0x02, 0, 0, 0, 0, 0x10];
pub(crate) const MACHINE_MAC: &str = "02:00:00:00:00:10";
pub(crate) const MACHINE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// A gateway (`lan0`, `wan0`) and a machine in its LAN (`eth0`), in namespaces that go with the test.
pub(crate) struct Net {
    pub(crate) gateway: String,
    pub(crate) machine: String,
    pub(crate) folder: TempDir,
}

impl Net {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sw-watch-{}-{number}", std::process::id());
        let net = Self {
            gateway: format!("{name}-gw"),
            machine: format!("{name}-pc"),
            folder: tempfile::tempdir().unwrap(),
        };
        for namespace in [&net.gateway, &net.machine] {
            ok(Command::new("ip").args(["netns", "add", namespace]));
            // Nothing but what the test sends.
            for setting in ["default", "all"] {
                let path = format!("net.ipv6.conf.{setting}.disable_ipv6=1");
                let in_it = format!("--net=/run/netns/{namespace}");
                let _ = Command::new("nsenter")
                    .args([&in_it, "sysctl", "-qw", &path])
                    .output();
            }
        }
        net.add_lan();
        net.gateway("ip link add wan0 type veth peer name wan1");
        net.gateway("ip link set wan1 up");
        net.gateway("ip link set wan0 up");
        net.gateway("ip address add 203.0.113.1/24 dev wan0");
        net.gateway("ip route add default via 203.0.113.2 dev wan0");
        net
    }

    /// The wire between the gateway and the machine, new.
    pub(crate) fn add_lan(&self) {
        let peer = format!(
            "ip link add lan0 address 02:00:00:00:00:01 type veth peer name eth0 address {MACHINE_MAC} netns {}",
            self.machine
        );
        self.gateway(&peer);
        self.gateway("ip address add 192.0.2.1/24 dev lan0");
        self.gateway("ip link set lan0 up");
        Self::inside(&self.machine, "ip address add 192.0.2.10/24 dev eth0");
        Self::inside(&self.machine, "ip link set eth0 up");
    }

    fn inside(namespace: &str, line: &str) -> String {
        ok(&mut Self::command_in(namespace, line))
    }

    fn command_in(namespace: &str, line: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{namespace}"));
        command.args(line.split_whitespace()).stdin(Stdio::null());
        command
    }

    /// What the words of `line` print on the gateway, where they must succeed.
    pub(crate) fn gateway(&self, line: &str) -> String {
        Self::inside(&self.gateway, line)
    }

    /// A command on the gateway, not yet run.
    pub(crate) fn on_gateway(&self, line: &str) -> Command {
        Self::command_in(&self.gateway, line)
    }

    /// Has a shell on the gateway run `script`, which must succeed.
    pub(crate) fn shell(&self, script: &str) -> String {
        let mut command = Command::new("nsenter");
        let namespace = format!("--net=/run/netns/{}", self.gateway);
        ok(command
            .args([&namespace, "bash", "-c", script])
            .stdin(Stdio::null()))
    }

    /// A file of the test's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The whole firewall of the gateway.
    pub(crate) fn firewall(&self) -> String {
        let mut all = self.gateway("nft -s list ruleset");
        for program in ["iptables-legacy-save", "ip6tables-legacy-save"] {
            let saved = self.gateway(program);
            let lines = saved.lines().filter(|line| !line.starts_with('#'));
            // A legacy table that is empty is there once somebody has looked.
            let lines = lines.filter(|line| !line.starts_with(['*', ':']) && *line != "COMMIT");
            all.extend(lines.map(|line| format!("{line}\n")));
        }
        all
    }

    /// Packets that our rule has counted.
    pub(crate) fn counted(&self) -> u64 {
        let listed = self.gateway("nft -j list counters table inet smtpwatch");
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let counters = listed["nftables"].as_array().unwrap();
        let seen = counters.iter().find(|it| it["counter"]["name"] == "seen");
        seen.unwrap()["counter"]["packets"].as_u64().unwrap()
    }

    /// Sends `count` SYNs from the machine, the first with the number `from`: each an attempt.
    pub(crate) fn send(&self, from: u32, count: u32) {
        self.send_as(from, count, |_| (MACHINE, MACHINE_ADDRESS));
    }

    /// Sends `count` SYNs from the machine, by the MAC and address that `who` gives to each number.
    pub(crate) fn send_as(
        &self,
        from: u32,
        count: u32,
        who: impl Fn(u32) -> ([u8; 6], Ipv4Addr) + Sync,
    ) {
        self.in_machine(|| {
            let capture = pcap::Capture::from_device("eth0").unwrap().snaplen(64);
            let mut capture = capture.open().unwrap();
            for number in from..from + count {
                let (mac, address) = who(number);
                capture.sendpacket(syn(mac, address, number)).unwrap();
            }
        });
    }

    /// Sends such SYNs to another port than 25.
    pub(crate) fn send_to(&self, port: u16, from: u32, count: u32) {
        self.in_machine(|| {
            let mut capture = pcap::Capture::from_device("eth0").unwrap().open().unwrap();
            for number in from..from + count {
                let mut frame = syn(MACHINE, MACHINE_ADDRESS, number);
                frame[36..38].copy_from_slice(&port.to_be_bytes());
                capture.sendpacket(frame).unwrap();
            }
        });
    }

    /// What the words of `line` print on the machine, where they must succeed.
    pub(crate) fn on_machine(&self, line: &str) -> String {
        Self::inside(&self.machine, line)
    }

    pub(crate) fn in_machine(&self, what: impl FnOnce() + Send) {
        let namespace = File::open(format!("/run/netns/{}", self.machine)).unwrap();
        thread::scope(|scope| {
            let work = scope.spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
                what();
            });
            work.join().unwrap();
        });
    }

    /// Starts `smtpwatch watch` with `arguments` on the gateway, as JSON, and waits until it watches.
    pub(crate) fn watch(&self, arguments: &str) -> Watch {
        let watch = self.start(arguments);
        watch.wait_for("it watches", |event| event["notice"] == "source_ready");
        watch
    }

    /// Starts it, without waiting.
    pub(crate) fn start(&self, arguments: &str) -> Watch {
        self.start_program(SMTPWATCH, arguments)
    }

    /// Starts it by another path or after other words.
    pub(crate) fn start_program(&self, program: &str, arguments: &str) -> Watch {
        let state = self.path("state");
        let leases = self.path("leases");
        if !leases.exists() {
            std::fs::write(&leases, "").unwrap();
        }
        let line = format!(
            "{program} watch --format json --leases {} {}{arguments}",
            leases.display(),
            if arguments.contains("--state-dir") {
                String::new()
            } else {
                format!("--state-dir {} ", state.display())
            }
        );
        Watch::over(&mut self.on_gateway(&line))
    }

    /// Runs `smtpwatch` with `arguments` on the gateway to its end.
    pub(crate) fn smtpwatch(&self, arguments: &str) -> Said {
        let output = self
            .on_gateway(&format!("{SMTPWATCH} {arguments}"))
            .output()
            .unwrap();
        Said::of(&output)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for namespace in [&self.gateway, &self.machine] {
            let _ = Command::new("ip")
                .args(["netns", "del", namespace])
                .output();
        }
    }
}

/// What a program said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn of(output: &std::process::Output) -> Self {
        Self {
            status: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A watch that runs.
pub(crate) struct Watch {
    child: Child,
    /// Its lines, and the events that they are.
    said: Arc<Mutex<(Vec<String>, Vec<Value>)>>,
    reader: Option<JoinHandle<()>>,
    errors: Arc<Mutex<String>>,
    listener: Option<JoinHandle<()>>,
}

/// A watch that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit status; none where a signal ended it.
    pub(crate) status: Option<i32>,
    /// Its standard output.
    pub(crate) lines: Vec<String>,
    /// What that says.
    pub(crate) events: Vec<Value>,
    /// Its standard error.
    pub(crate) err: String,
}

impl Watch {
    /// Starts `command`, and reads what it prints.
    pub(crate) fn over(command: &mut Command) -> Self {
        let mut watch = Self::unread(command);
        let stdout = watch.child.stdout.take().unwrap();
        let said = Arc::clone(&watch.said);
        watch.reader = Some(thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let line = line.unwrap();
                let event = event(&line);
                let mut said = said.lock().unwrap();
                said.0.push(line);
                said.1.push(event);
            }
        }));
        watch
    }

    /// Starts `command`, and reads nothing but its errors.
    pub(crate) fn unread(command: &mut Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let errors = Arc::new(Mutex::new(String::new()));
        let own = Arc::clone(&errors);
        let listener = thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let mut errors = own.lock().unwrap();
                errors.push_str(&line.unwrap());
                errors.push('\n');
            }
        });
        Self {
            child,
            said: Arc::default(),
            reader: None,
            errors,
            listener: Some(listener),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), signal).unwrap();
    }

    /// The events so far of which `is_it` holds.
    pub(crate) fn events(&self, is_it: impl Fn(&Value) -> bool) -> Vec<Value> {
        let said = self.said.lock().unwrap();
        said.1
            .iter()
            .filter(|event| is_it(event))
            .cloned()
            .collect()
    }

    /// What it said on standard error so far.
    pub(crate) fn errors(&self) -> String {
        self.errors.lock().unwrap().clone()
    }

    /// Waits until an event is there that `is_it`; answers all of those.
    pub(crate) fn wait_for(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.wait_for_many(1, what, is_it)
    }

    pub(crate) fn wait_for_many(
        &self,
        count: usize,
        what: &str,
        is_it: impl Fn(&Value) -> bool,
    ) -> Vec<Value> {
        let mut found = Vec::new();
        self.wait_until(what, || {
            let said = self.said.lock().unwrap();
            let count_now = said.1.iter().filter(|event| is_it(event)).count();
            drop(said);
            found = if count_now >= count {
                self.events(&is_it)
            } else {
                Vec::new()
            };
            count_now >= count
        });
        found
    }

    /// Waits until `count` attempts were told.
    pub(crate) fn wait_for_attempts(&self, count: usize) -> Vec<Value> {
        self.wait_for_many(count, &format!("{count} attempts"), |event| {
            event["event_type"] == "attempt"
        })
    }

    pub(crate) fn wait_until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let start = now();
        while !is_so() {
            assert!(
                start.elapsed() < PATIENCE,
                "not within {PATIENCE:?}: {what}; {:#?}; {}",
                self.said
                    .lock()
                    .unwrap()
                    .0
                    .iter()
                    .rev()
                    .take(20)
                    .collect::<Vec<_>>(),
                self.errors()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends `signal`, and waits for the end.
    pub(crate) fn end(self, signal: Signal) -> Ended {
        self.signal(signal);
        self.ended()
    }

    /// Waits for the end.
    pub(crate) fn ended(mut self) -> Ended {
        let start = now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "it does not end: {}",
                self.errors()
            );
            thread::sleep(Duration::from_millis(10));
        };
        for thread in [self.reader.take(), self.listener.take()]
            .into_iter()
            .flatten()
        {
            thread.join().unwrap();
        }
        assert_ne!(status.signal(), Some(6), "{}", self.errors());
        let (lines, events) = std::mem::take(&mut *self.said.lock().unwrap());
        Ended {
            status: status.code(),
            lines,
            events,
            err: self.errors(),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Ended {
    pub(crate) fn attempts(&self) -> Vec<Value> {
        self.of("event_type", "attempt")
    }

    fn of(&self, name: &str, value: &str) -> Vec<Value> {
        let events = self.events.iter().filter(|event| event[name] == value);
        events.cloned().collect()
    }

    /// The notices of a kind.
    pub(crate) fn notices(&self, kind: &str) -> Vec<Value> {
        self.of("notice", kind)
    }

    /// The report, which is the last event and the only one of its kind.
    pub(crate) fn report(&self) -> Value {
        let reports = self.of("event_type", "report");
        assert_eq!(reports.len(), 1, "{self:?}");
        assert_eq!(self.events.last(), Some(&reports[0]));
        reports[0]["report"].clone()
    }

    /// Records and losses of the source called `name`.
    pub(crate) fn counts(&self, name: &str) -> (u64, u64) {
        let report = self.report();
        let inputs = report["inputs"].as_array().unwrap();
        let input = inputs.iter().find(|input| input["name"] == name).unwrap();
        (
            input["records"].as_u64().unwrap(),
            input["lost"].as_u64().unwrap(),
        )
    }
}

/// A line is an event, whole and harmless.
fn event(line: &str) -> Value {
    let event: Value = serde_json::from_str(line).unwrap();
    assert_eq!(event["schema"], "smtpwatch.event.v1", "{line}");
    assert!(
        event["timestamp"].is_string() && event["event_type"].is_string(),
        "{line}"
    );
    assert!(!line.chars().any(char::is_control), "{line:?}");
    event
}

/// Waits until `is_so`.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = now();
    while !is_so() {
        assert!(
            start.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn now() -> Instant {
    Instant::now()
}

pub(crate) fn ok(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The frame of a SYN to port 25, from `mac` and `address`; its destination, ports and sequence number
/// are those of `number` alone.
fn syn(mac: [u8; 6], address: Ipv4Addr, number: u32) -> Vec<u8> {
    let mut frame = Vec::with_capacity(54);
    frame.extend_from_slice(&GATEWAY);
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&[0x08, 0x00]);
    let mut header = [
        0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0, 198, 18, 0, 0,
    ];
    header[12..16].copy_from_slice(&address.octets());
    let [_, high, middle, low] = number.to_be_bytes();
    // Neighbours are in networks of their own, as a bot's are.
    header[17..20].copy_from_slice(&[0x12 | middle & 1, low, (high << 6) ^ (middle >> 1)]);
    let sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    header[10..12].copy_from_slice(&folded.to_be_bytes());
    frame.extend_from_slice(&header);
    let port = 20_000 + u16::try_from(number % 40_000).unwrap();
    frame.extend_from_slice(&port.to_be_bytes());
    frame.extend_from_slice(&25_u16.to_be_bytes());
    frame.extend_from_slice(&number.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 0, 0x50, 0x02, 0xfa, 0xf0, 0, 0, 0, 0]);
    frame
}

/// A file with one dnsmasq lease for the machine.
pub(crate) fn write_lease(path: &Path, name: &str) {
    let line = format!("0 {MACHINE_MAC} {MACHINE_ADDRESS} {name} *\n");
    std::fs::write(path, line).unwrap();
}
