//! The sources on real traffic, in network namespaces of their own: a LAN's machine `lan0` that sends
//! frames to a gateway's `eth1`.

mod outcomes;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};

use super::*;
use crate::model::{Clock, Mac, Observation};
use crate::sys;
use crate::sys::capabilities::{Capability, drop_from_this_thread};
use crate::sys::readiness::Readiness;

const GATEWAY_MAC: [u8; 6] = [0x02, 0, 0x5e, 0, 0, 1];
const STATION: [u8; 6] = [0x02, 0, 0x5e, 0, 0, 0x17];
const NOW: Timestamp = Timestamp::from_seconds(1_773_149_673);
const GROUP: u16 = 25;

/// Two namespaces, removed with all that is in them.
struct Lab {
    id: String,
}

impl Lab {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let lab = Self {
            id: format!("sw-{}-{count}", std::process::id()),
        };
        for side in ["gw", "lan"] {
            run("ip", &format!("netns add {}{side}", lab.id), "");
        }
        lab.link();
        lab
    }

    /// Joins the two by a veth pair.
    fn link(&self) {
        let id = &self.id;
        run(
            "ip",
            &format!(
                "link add lan0 netns {id}lan address 02:00:5e:00:00:17 type veth \
                 peer name eth1 netns {id}gw address 02:00:5e:00:00:01"
            ),
            "",
        );
        run("ip", &format!("-n {id}lan link set lan0 up"), "");
        run("ip", &format!("-n {id}gw link set eth1 up"), "");
        self.until_up("lan", "lan0");
        self.until_up("gw", "eth1");
        run(
            "ip",
            &format!("-n {id}gw address add 192.168.1.1/24 dev eth1"),
            "",
        );
    }

    /// Waits until `device` transmits. The kernel sees to it some time after a link's two ends are up,
    /// and until then what is sent is gone without an error.
    #[track_caller]
    fn until_up(&self, side: &str, device: &str) {
        let question = format!("-n {}{side} link show dev {device}", self.id);
        for _ in 0..1000 {
            let (_, said) = started("ip", &question, "").unwrap();
            if said.contains("state UP") && !said.contains("qdisc noop ") {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("{device} does not come up");
    }

    fn gateway_ip(&self, arguments: &str) {
        run("ip", &format!("-n {}gw {arguments}", self.id), "");
    }

    /// Loads `rules` into the gateway.
    fn nft(&self, rules: &str) {
        run("ip", &format!("netns exec {}gw nft -f -", self.id), rules);
    }

    /// A rule that logs SYNs to port 25 by `statement`, in `hook`.
    fn log(&self, hook: &str, statement: &str) {
        self.nft(&format!(
            "table inet sw {{ chain {hook} {{ type filter hook {hook} priority -150; \
             tcp flags & (fin|syn|rst|ack) == syn tcp dport 25 log {statement}; }}; }}"
        ));
    }

    /// Does `work` on a thread of its own in the gateway's namespace.
    fn on_gateway<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.inside("gw", work)
    }

    fn inside<T: Send>(&self, side: &str, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}{side}", self.id)).unwrap();
        let done = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Has the LAN's machine send `frames`, as they are.
    fn send(&self, frames: &[Vec<u8>]) {
        self.inside("lan", || {
            let mut device = pcap::Capture::from_device("lan0").unwrap().open().unwrap();
            for frame in frames {
                device.sendpacket(frame.as_slice()).unwrap();
            }
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for side in ["gw", "lan"] {
            let _ = started("ip", &format!("netns del {}{side}", self.id), "");
        }
    }
}

#[track_caller]
fn run(program: &str, arguments: &str, input: &str) {
    let (succeeded, said) = started(program, arguments, input).unwrap();
    assert!(succeeded, "{program} {arguments}: {said}\n{input}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "fixed programs that lay out a test's network"
)]
fn started(program: &str, arguments: &str, input: &str) -> io::Result<(bool, String)> {
    let mut child = Command::new(program)
        .args(arguments.split_ascii_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    Ok((output.status.success(), said))
}

/// A SYN from 192.168.1.23:40000 to 203.0.113.9:25.
#[derive(Clone)]
struct Syn {
    isn: u32,
    port: u16,
    ttl: u8,
    flags: u8,
}

impl Default for Syn {
    fn default() -> Self {
        Self {
            isn: 7,
            port: 25,
            ttl: 64,
            flags: 2,
        }
    }
}

impl Syn {
    fn numbered(isn: u32) -> Self {
        Self {
            isn,
            ..Self::default()
        }
    }

    fn tcp(&self) -> Vec<u8> {
        let mut bytes = vec![0x9c, 0x40];
        bytes.extend(self.port.to_be_bytes());
        bytes.extend(self.isn.to_be_bytes());
        bytes.extend([0, 0, 0, 0, 0x50, self.flags, 0xfa, 0xf0, 0, 0, 0, 0]);
        bytes
    }

    fn v4(&self) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 40, 0x12, 0x34, 0x40, 0, self.ttl, 6, 0, 0];
        bytes.extend([192, 168, 1, 23, 203, 0, 113, 9]);
        // The kernel drops what has a wrong header checksum.
        let sum: u32 = bytes
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(self.tcp());
        bytes
    }

    /// From `2001:db8::17` to `2001:db8:1::19`, behind `extensions` of which `next` is the first.
    fn v6_behind(&self, next: u8, extensions: &[u8]) -> Vec<u8> {
        let length = u16::try_from(extensions.len() + 20).unwrap();
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend(length.to_be_bytes());
        bytes.extend([next, self.ttl]);
        for address in ["2001:db8::17", "2001:db8:1::19"] {
            let address: std::net::Ipv6Addr = address.parse().unwrap();
            bytes.extend(address.octets());
        }
        bytes.extend(extensions);
        bytes.extend(self.tcp());
        bytes
    }

    fn v6(&self) -> Vec<u8> {
        self.v6_behind(6, &[])
    }

    fn frame_v4(&self) -> Vec<u8> {
        frame(&[], &self.v4())
    }
}

/// `packet` in an Ethernet frame with the tags `tags`.
fn frame(tags: &[(u16, u16)], packet: &[u8]) -> Vec<u8> {
    let mut bytes = [GATEWAY_MAC, STATION].concat();
    for (kind, tci) in tags {
        bytes.extend(kind.to_be_bytes());
        bytes.extend(tci.to_be_bytes());
    }
    let is_v4 = packet[0] >> 4 == 4;
    bytes.extend(if is_v4 { [8, 0] } else { [0x86, 0xdd] });
    bytes.extend(packet);
    bytes
}

fn options() -> Options {
    Options {
        group: GROUP,
        ..Options::default()
    }
}

fn open_capture(interface: &str) -> Result<Live, LiveError> {
    open(
        &SourceName::Capture(Interface::new(interface.as_bytes())),
        &options(),
    )
}

/// Reads until `enough` says so, or nothing has come for longer than a busy machine needs.
fn read_until(
    source: &mut Live,
    mut enough: impl FnMut(&Batch) -> bool,
) -> Result<Batch, LiveError> {
    let mut batch = Batch::default();
    while !enough(&batch) {
        if !wait(source, 20_000) {
            break;
        }
        source.read(NOW, &mut batch)?;
    }
    Ok(batch)
}

/// Reads until `count` SYNs are there, and whatever comes within a tenth of a second after them.
#[track_caller]
fn read_syns(source: &mut Live, count: usize) -> Batch {
    let mut batch = read_until(source, |batch| syns(batch).len() >= count).unwrap();
    while wait(source, 100) {
        source.read(NOW, &mut batch).unwrap();
    }
    batch
}

fn wait(source: &Live, millis: u16) -> bool {
    let mut waited = [PollFd::new(source.as_fd(), PollFlags::POLLIN)];
    poll(&mut waited, PollTimeout::from(millis)).unwrap() > 0
}

fn lost(batch: &Batch, kind: LossKind) -> u64 {
    let of_kind = batch.lost.iter().filter(|(lost, _)| *lost == kind);
    of_kind.map(|(_, events)| events).sum()
}

/// The SYNs of a batch.
fn syns(batch: &Batch) -> Vec<Observation> {
    batch
        .evidence
        .iter()
        .filter_map(|evidence| match evidence {
            Evidence::Syn(observation) => Some(*observation),
            Evidence::Response(_) => None,
        })
        .collect()
}

fn isns(batch: &Batch) -> Vec<u32> {
    syns(batch)
        .iter()
        .map(|observation| observation.isn.unwrap())
        .collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[track_caller]
fn assert_from_station(observation: &Observation, source: &str, destination: &str) {
    assert_eq!(observation.tuple.source, ip(source));
    assert_eq!(observation.tuple.destination, ip(destination));
    assert_eq!(observation.tuple.source_port, 40_000);
    assert_eq!(observation.tuple.destination_port, 25);
    assert_eq!(observation.mac, Some(Mac(STATION)));
    assert_eq!(observation.interface, Interface::new(b"eth1"));
    assert_eq!((observation.time, observation.clock), (NOW, Clock::Exact));
}

mod conntrack;

mod nflog {
    use super::*;

    #[test]
    fn every_field_of_both_protocols() {
        let lab = Lab::new();
        lab.log("prerouting", "group 25 prefix \"sw: \"");
        let batch = lab.on_gateway(|| {
            let mut source = open(&SourceName::Nflog, &options()).unwrap();
            let extension = [6, 0, 1, 4, 0, 0, 0, 0];
            lab.send(&[
                Syn::numbered(1).frame_v4(),
                frame(&[], &Syn::numbered(2).v6()),
                frame(&[], &Syn::numbered(3).v6_behind(60, &extension)),
            ]);
            read_syns(&mut source, 3)
        });
        assert_eq!(isns(&batch), [1, 2, 3]);
        assert_eq!((batch.events, batch.overruns), (3, 0));
        assert!(batch.lost.is_empty() && batch.is_drained);
        let [v4, v6, behind] = syns(&batch)[..] else {
            panic!("{batch:?}");
        };
        assert_from_station(&v4, "192.168.1.23", "203.0.113.9");
        assert_from_station(&v6, "2001:db8::17", "2001:db8:1::19");
        assert_from_station(&behind, "2001:db8::17", "2001:db8:1::19");
        assert_eq!((v4.ttl, v4.ip_id), (Some(64), Some(0x1234)));
        assert_eq!((v6.ttl, v6.ip_id), (Some(64), None));
        assert_eq!(v4.rule, v6.rule);
    }

    /// The router counts a packet down before its FORWARD hook sees it.
    #[test]
    fn the_ttl_in_forward_is_the_one_it_arrived_with() {
        let lab = Lab::new();
        lab.gateway_ip("link add wan0 type veth peer name isp0");
        lab.gateway_ip("address add 198.51.100.2/24 dev wan0");
        lab.gateway_ip("link set isp0 up");
        lab.gateway_ip("link set wan0 up");
        lab.until_up("gw", "wan0");
        lab.gateway_ip("neighbour add 198.51.100.1 lladdr 02:00:5e:00:00:99 dev wan0");
        lab.gateway_ip("route add default via 198.51.100.1 dev wan0");
        lab.log("prerouting", "group 25 prefix \"early \"");
        lab.log("forward", "group 25 prefix \"late \"");
        let batch = lab.on_gateway(|| {
            fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            let mut source = open(&SourceName::Nflog, &options()).unwrap();
            lab.send(&[Syn {
                ttl: 63,
                ..Syn::numbered(1)
            }
            .frame_v4()]);
            read_syns(&mut source, 2)
        });
        let [early, late] = syns(&batch)[..] else {
            panic!("{batch:?}");
        };
        assert_eq!((early.ttl, late.ttl), (Some(63), Some(63)));
        assert_eq!(late.interface, Interface::new(b"eth1"));
        assert_ne!(early.rule, late.rule);
    }

    #[test]
    fn only_records_with_our_prefix_count() {
        let lab = Lab::new();
        lab.nft(
            "table inet sw { chain prerouting { type filter hook prerouting priority -150; \
             tcp dport { 25, 80 } log prefix \"ours \" group 25; \
             tcp dport 25 log prefix \"theirs \" group 25; \
             tcp dport 25 log prefix \"ours \" group 26; }; }",
        );
        let batch = lab.on_gateway(|| {
            let ours = Options {
                prefixes: vec![b"ours ".to_vec()],
                ..options()
            };
            let mut source = open(&SourceName::Nflog, &ours).unwrap();
            let http = Syn {
                port: 80,
                ..Syn::numbered(1)
            };
            lab.send(&[http.frame_v4(), Syn::numbered(2).frame_v4()]);
            read_syns(&mut source, 1)
        });
        assert_eq!(isns(&batch), [2]);
        assert_eq!(batch.events, 2);
        assert!(batch.lost.is_empty());
    }

    #[test]
    fn a_group_that_is_taken_is_told_with_its_reader() {
        let lab = Lab::new();
        let (error, again) = lab.on_gateway(|| {
            let first = open(&SourceName::Nflog, &options()).unwrap();
            let error = open(&SourceName::Nflog, &options()).unwrap_err();
            drop(first);
            // A program that another test is just starting still holds a copy until it runs.
            let again = (0..1000).any(|_| {
                thread::sleep(Duration::from_millis(20));
                open(&SourceName::Nflog, &options()).is_ok()
            });
            (error.to_string(), again)
        });
        let own = format!("pid {})", std::process::id());
        assert!(error.contains("group 25 is already taken"), "{error}");
        assert!(error.contains(&own), "{error}");
        assert!(again, "a group is free when its reader has gone");
    }

    #[test]
    fn a_right_that_is_missing_is_named() {
        let lab = Lab::new();
        let errors = lab.on_gateway(|| {
            drop_from_this_thread(Capability::NetAdmin);
            drop_from_this_thread(Capability::NetRaw);
            [
                open(&SourceName::Nflog, &options()).unwrap_err(),
                open_capture("eth1").unwrap_err(),
            ]
        });
        let [nflog, capture] = errors.map(|error| error.to_string());
        assert!(nflog.contains("group 25 needs CAP_NET_ADMIN"), "{nflog}");
        assert!(capture.contains("eth1 needs CAP_NET_RAW"), "{capture}");
    }

    /// Nobody reads while more is logged than the socket holds: what is there and what is said to be
    /// lost make up what was sent.
    #[test]
    fn losses_are_exact() {
        const SENT: u32 = 120_000;
        let lab = Lab::new();
        lab.log("prerouting", "group 25 prefix \"sw: \"");
        let (batch, last) = lab.on_gateway(|| {
            let mut source = open(&SourceName::Nflog, &options()).unwrap();
            let frames: Vec<Vec<u8>> = (0..SENT).map(|n| Syn::numbered(n).frame_v4()).collect();
            lab.send(&frames);
            let mut batch = Batch::default();
            while wait(&source, 1000) {
                source.read(NOW, &mut batch).unwrap();
            }
            // Only one that comes after them tells of the last ones.
            lab.send(&[Syn::numbered(SENT).frame_v4()]);
            (batch, read_syns(&mut source, 1))
        });
        let read = syns(&batch).len() as u64;
        let gaps = lost(&batch, LossKind::QueueFull) + lost(&last, LossKind::QueueFull);
        assert!(gaps > 0 && batch.overruns > 0, "{read} were read");
        assert_eq!(read + gaps, u64::from(SENT));
        assert_eq!(isns(&last), [SENT]);
        assert!(isns(&batch).is_sorted());
    }

    #[test]
    fn one_read_is_bounded_and_says_that_there_is_more() {
        let lab = Lab::new();
        lab.log("prerouting", "group 25 prefix \"sw: \"");
        let (first, all) = lab.on_gateway(|| {
            let mut source = open(&SourceName::Nflog, &options()).unwrap();
            let frames: Vec<Vec<u8>> = (0..6000).map(|n| Syn::numbered(n).frame_v4()).collect();
            lab.send(&frames);
            let mut batch = Batch::default();
            source.read(NOW, &mut batch).unwrap();
            let first = (batch.events, batch.is_drained);
            while !batch.is_drained {
                source.read(NOW, &mut batch).unwrap();
            }
            (first, batch)
        });
        assert_eq!(first, (MAX_EVENTS, false));
        assert_eq!((all.events, all.lost.len()), (6000, 0));
    }

    #[test]
    fn an_interface_that_took_the_name_of_another_is_named_anew() {
        let lab = Lab::new();
        lab.log("prerouting", "group 25 prefix \"sw: \"");
        let names = lab.on_gateway(|| {
            let mut source = open(&SourceName::Nflog, &options()).unwrap();
            let named = |source: &mut Live| {
                lab.send(&[Syn::default().frame_v4()]);
                syns(&read_syns(source, 1))[0].interface.name()
            };
            let before = named(&mut source);
            lab.gateway_ip("link set eth1 down");
            lab.gateway_ip("link set eth1 name lan7");
            lab.gateway_ip("link set lan7 up");
            lab.until_up("lan", "lan0");
            source.forget_interfaces();
            [before, named(&mut source)]
        });
        assert_eq!(names, ["eth1", "lan7"]);
    }
}

mod kmsg {
    use super::*;

    /// /dev/kmsg is one for all namespaces: tests of it take turns, in this and any other process.
    /// Whether other namespaces than the first may log there is a setting of the machine, which
    /// scripts/lab keeps account of.
    struct KernelLog {
        _turn: Flock<File>,
        name: String,
        restricted: Option<String>,
    }

    const ALL_NAMESPACES: &str = "/proc/sys/net/netfilter/nf_log_all_netns";
    const RESTRICTED: &str = "/proc/sys/kernel/dmesg_restrict";

    impl KernelLog {
        fn open() -> Self {
            let path = std::env::temp_dir().join("sw-kmsg-tests.lock");
            let turn = Flock::lock(File::create(path).unwrap(), FlockArg::LockExclusive).unwrap();
            let name = format!("test{}", std::process::id());
            log_all(&name, true);
            Self {
                _turn: turn,
                name,
                restricted: None,
            }
        }

        /// Until the end only those with the right to may read it.
        fn restrict(&mut self) {
            self.restricted = Some(fs::read_to_string(RESTRICTED).unwrap());
            fs::write(RESTRICTED, "1").unwrap();
        }
    }

    impl Drop for KernelLog {
        fn drop(&mut self) {
            if let Some(before) = &self.restricted {
                let _ = fs::write(RESTRICTED, before.trim());
            }
            log_all(&self.name, false);
        }
    }

    /// Notes that `name` wants namespaces to log, or no longer does, as scripts/smtplab/state.py does:
    /// the last who wanted it puts the setting back.
    fn log_all(name: &str, wants: bool) {
        const USERS: &str = "/run/smtpwatch-lab.kmsg";
        let lock = File::create("/run/smtpwatch-lab.lock").unwrap();
        let whole_file = libc::flock {
            l_type: i16::try_from(libc::F_WRLCK).unwrap(),
            l_whence: i16::try_from(libc::SEEK_SET).unwrap(),
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(&lock, FcntlArg::F_SETLKW(&whole_file)).unwrap();
        let kept = fs::read(USERS).unwrap_or_default();
        let mut users: Users = serde_json::from_slice(&kept).unwrap_or_default();
        let before = users.before.get_or_insert_with(|| {
            let before = fs::read_to_string(ALL_NAMESPACES).unwrap();
            before.trim().to_owned()
        });
        users.labs.retain(|lab| lab != name);
        if !wants && users.labs.is_empty() {
            fs::write(ALL_NAMESPACES, before).unwrap();
            let _ = fs::remove_file(USERS);
            return;
        }
        if wants {
            users.labs.push(name.to_owned());
            fs::write(ALL_NAMESPACES, "1").unwrap();
        }
        fs::write(USERS, serde_json::to_vec(&users).unwrap()).unwrap();
    }

    #[derive(Default, serde::Serialize, serde::Deserialize)]
    struct Users {
        before: Option<String>,
        labs: Vec<String>,
    }

    /// A rule's prefix that no other test has, and the options for it.
    fn prefix(lab: &Lab) -> (String, Options) {
        let prefix = format!("{}: ", lab.id);
        let options = Options {
            prefixes: vec![prefix.clone().into_bytes()],
            ..options()
        };
        (prefix, options)
    }

    #[test]
    fn every_field_of_both_protocols() {
        let _log = KernelLog::open();
        let lab = Lab::new();
        let (prefix, options) = prefix(&lab);
        lab.log(
            "prerouting",
            &format!("prefix \"{prefix}\" flags tcp sequence"),
        );
        let mut source = open(&SourceName::Kmsg, &options).unwrap();
        lab.send(&[
            Syn::numbered(1).frame_v4(),
            frame(&[], &Syn::numbered(2).v6()),
        ]);
        let batch = read_syns(&mut source, 2);
        assert_eq!(isns(&batch), [1, 2]);
        assert_eq!((batch.events, &batch.lost[..]), (2, &[][..]));
        assert_from_station(&syns(&batch)[0], "192.168.1.23", "203.0.113.9");
        assert_from_station(&syns(&batch)[1], "2001:db8::17", "2001:db8:1::19");
        assert!(syns(&batch).iter().all(|o| o.ttl == Some(64)));
        assert_eq!(syns(&batch)[0].ip_id, Some(0x1234));
    }

    #[test]
    fn a_right_that_is_missing_is_named() {
        let mut log = KernelLog::open();
        log.restrict();
        let opened = thread::spawn(|| {
            drop_from_this_thread(Capability::Syslog);
            open(&SourceName::Kmsg, &options())
        });
        let error = opened.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("needs CAP_SYSLOG"), "{error}");
    }

    #[test]
    fn what_a_program_writes_there_counts_for_nobody() {
        let _log = KernelLog::open();
        let lab = Lab::new();
        let (prefix, options) = prefix(&lab);
        lab.log("prerouting", &format!("prefix \"{prefix}\""));
        let mut source = open(&SourceName::Kmsg, &options).unwrap();
        let record = format!(
            "{prefix}IN=eth1 OUT= MAC=02:00:5e:00:00:01:02:00:5e:00:00:17:08:00 SRC=192.168.1.66 DST=203.0.113.9 \
             LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=1 DF PROTO=TCP SPT=1 DPT=25 WINDOW=64240 RES=0x00 SYN URGP=0"
        );
        for forged in [
            format!("<4>{record}"),
            format!("<0>{record}"),
            format!("4,1,1,-;{record}"),
        ] {
            let mut file = OpenOptions::new().write(true).open("/dev/kmsg").unwrap();
            file.write_all(forged.as_bytes()).unwrap();
        }
        lab.send(&[Syn::default().frame_v4()]);
        let batch = read_syns(&mut source, 1);
        assert_eq!((syns(&batch).len(), batch.events), (1, 1));
        assert_eq!(syns(&batch)[0].tuple.source, ip("192.168.1.23"));
        assert!(batch.lost.is_empty());
    }

    /// Nobody reads while the ring is written over: what is there and what is said to be lost make
    /// up at least what was sent.
    #[test]
    fn what_was_overwritten_is_counted() {
        const SENT: u32 = 5000;
        let _log = KernelLog::open();
        let lab = Lab::new();
        let (prefix, options) = prefix(&lab);
        lab.log(
            "prerouting",
            &format!("prefix \"{prefix}\" flags tcp sequence"),
        );
        let mut source = open(&SourceName::Kmsg, &options).unwrap();
        // Even what is overwritten before anything was read.
        let frames: Vec<Vec<u8>> = (1..=SENT).map(|n| Syn::numbered(n).frame_v4()).collect();
        lab.send(&frames);
        let batch = read_until(&mut source, |batch| {
            syns(batch).last().is_some_and(|o| o.isn == Some(SENT))
        })
        .unwrap();
        let overwritten = lost(&batch, LossKind::Overwritten);
        let read = syns(&batch).len() as u64;
        assert!(overwritten > 0 && batch.overruns > 0, "{read} were read");
        assert!(read + overwritten >= u64::from(SENT));
        // Others write there, too.
        assert!(read + overwritten < 2 * u64::from(SENT));
        assert_eq!(batch.events, read);
    }
}

mod capture {
    use super::*;

    #[test]
    fn tags_protocols_and_extension_headers() {
        let lab = Lab::new();
        let batch = lab.on_gateway(|| {
            let mut source = open_capture("eth1").unwrap();
            let hop_by_hop = [6, 0, 1, 4, 0, 0, 0, 0];
            lab.send(&[
                Syn::numbered(1).frame_v4(),
                frame(&[], &Syn::numbered(2).v6()),
                frame(&[(0x8100, 0x6005)], &Syn::numbered(3).v4()),
                frame(&[(0x8100, 6)], &Syn::numbered(4).v6()),
                frame(&[(0x88a8, 7), (0x8100, 5)], &Syn::numbered(5).v4()),
                frame(&[(0x8100, 8), (0x8100, 5)], &Syn::numbered(6).v6()),
                frame(&[], &Syn::numbered(7).v6_behind(0, &hop_by_hop)),
                frame(&[(0x8100, 9)], &Syn::numbered(8).v6_behind(60, &hop_by_hop)),
                // As on a mirror port: for another machine.
                [&[2, 0, 0x5e, 0, 0, 0x99], &Syn::numbered(9).frame_v4()[6..]].concat(),
            ]);
            read_syns(&mut source, 9)
        });
        assert_eq!(isns(&batch), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let vlans: Vec<Option<u16>> = syns(&batch).iter().map(|o| o.vlan).collect();
        let tagged = [5, 6, 7, 8].map(Some);
        assert_eq!(vlans[..2], [None, None]);
        assert_eq!(vlans[2..6], tagged);
        assert_eq!(vlans[6..], [None, Some(9), None]);
        assert_eq!((batch.events, &batch.lost[..]), (9, &[][..]));
        for observation in &syns(&batch) {
            let (source, destination) = if observation.tuple.source.is_ipv4() {
                ("192.168.1.23", "203.0.113.9")
            } else {
                ("2001:db8::17", "2001:db8:1::19")
            };
            assert_from_station(observation, source, destination);
            assert_eq!(observation.ttl, Some(64));
        }
    }

    #[test]
    fn what_is_no_syn_to_a_watched_port_is_not_captured() {
        let lab = Lab::new();
        let batch = lab.on_gateway(|| {
            let watching = Options {
                ports: Ports::new([25, 587]),
                ..options()
            };
            let name = SourceName::Capture(Interface::new(b"eth1"));
            let mut source = open(&name, &watching).unwrap();
            let to = |port, isn| Syn {
                port,
                ..Syn::numbered(isn)
            };
            let answer = Syn {
                flags: 0x12,
                ..Syn::numbered(4)
            };
            lab.send(&[
                to(80, 1).frame_v4(),
                to(587, 2).frame_v4(),
                frame(&[(0x8100, 5)], &to(587, 3).v6()),
                answer.frame_v4(),
                frame(&[], &to(80, 5).v6_behind(0, &[6, 0, 1, 4, 0, 0, 0, 0])),
                to(25, 6).frame_v4(),
            ]);
            read_syns(&mut source, 3)
        });
        assert_eq!(isns(&batch), [2, 3, 6]);
        assert_eq!(batch.events, 3);
    }

    /// What the machine itself sends by the interface is not what came in.
    #[test]
    fn only_what_comes_in_is_captured() {
        let lab = Lab::new();
        let batch = lab.inside("lan", || {
            let mut source = open_capture("lan0").unwrap();
            lab.send(&[Syn::numbered(1).frame_v4()]);
            lab.on_gateway(|| {
                let mut device = pcap::Capture::from_device("eth1").unwrap().open().unwrap();
                device.sendpacket(Syn::numbered(2).frame_v4()).unwrap();
            });
            read_syns(&mut source, 1)
        });
        assert_eq!(isns(&batch), [2]);
    }

    #[test]
    fn an_interface_without_link_layer() {
        let lab = Lab::new();
        let batch = lab.on_gateway(|| {
            let mut tunnel = sys::testing::tun("tun0").unwrap();
            lab.gateway_ip("link set tun0 up");
            let mut source = open_capture("tun0").unwrap();
            for packet in [Syn::numbered(1).v4(), Syn::numbered(2).v6()] {
                tunnel.write_all(&packet).unwrap();
            }
            read_syns(&mut source, 2)
        });
        assert_eq!(isns(&batch), [1, 2]);
        for observation in &syns(&batch) {
            assert_eq!(observation.mac, None);
            assert_eq!(observation.interface, Interface::new(b"tun0"));
        }
    }

    #[test]
    fn all_interfaces_at_once_each_by_its_name() {
        let lab = Lab::new();
        let batch = lab.on_gateway(|| {
            let mut tunnel = sys::testing::tun("tun0").unwrap();
            lab.gateway_ip("link set tun0 up");
            let mut source = open_capture("any").unwrap();
            lab.send(&[
                Syn::numbered(1).frame_v4(),
                frame(&[(0x8100, 5)], &Syn::numbered(2).v6()),
            ]);
            tunnel.write_all(&Syn::numbered(3).v4()).unwrap();
            read_syns(&mut source, 3)
        });
        assert_eq!(isns(&batch), [1, 2, 3]);
        let [plain, tagged, tunnelled] = syns(&batch)[..] else {
            panic!("{batch:?}");
        };
        assert_from_station(&plain, "192.168.1.23", "203.0.113.9");
        assert_eq!((isns(&batch)[1], tagged.vlan), (2, None));
        assert_eq!(tunnelled.interface, Interface::new(b"tun0"));
    }

    #[test]
    fn an_interface_that_is_gone_is_told_and_can_be_opened_again() {
        let lab = Lab::new();
        lab.on_gateway(|| {
            let gone = |error: &LiveError, why: &str| {
                assert!(matches!(error, LiveError::InterfaceGone { .. }), "{error}");
                assert!(error.to_string().ends_with(why), "{error}");
            };
            let failed = |source: &mut Live| read_until(source, |_| false).unwrap_err();

            let mut source = open_capture("eth1").unwrap();
            lab.gateway_ip("link set eth1 down");
            gone(&failed(&mut source), "is down");
            drop(source);
            gone(&open_capture("eth1").unwrap_err(), "is down");
            lab.gateway_ip("link set eth1 up");
            lab.until_up("lan", "lan0");

            let mut source = open_capture("eth1").unwrap();
            lab.send(&[Syn::numbered(1).frame_v4()]);
            assert_eq!(isns(&read_syns(&mut source, 1)), [1]);
            lab.gateway_ip("link del eth1");
            gone(&failed(&mut source), "does not exist");
            drop(source);
            gone(&open_capture("eth1").unwrap_err(), "does not exist");

            lab.link();
            let mut source = open_capture("eth1").unwrap();
            lab.send(&[Syn::numbered(2).frame_v4()]);
            assert_eq!(isns(&read_syns(&mut source, 1)), [2]);
        });
    }

    #[test]
    fn what_the_kernel_dropped_is_counted() {
        const SENT: u32 = 150_000;
        let lab = Lab::new();
        let batch = lab.on_gateway(|| {
            let mut source = open_capture("eth1").unwrap();
            let frames: Vec<Vec<u8>> = (0..SENT).map(|n| Syn::numbered(n).frame_v4()).collect();
            lab.send(&frames);
            read_syns(&mut source, 1)
        });
        let read = syns(&batch).len() as u64;
        let dropped = lost(&batch, LossKind::QueueFull);
        assert!(dropped > 0, "{read} were read");
        assert_eq!(read + dropped, u64::from(SENT));
    }
}

/// Readiness as the runtime asks for it, told at edges: a read that says it has taken all that was
/// there must not leave anything behind.
#[test]
fn each_source_wakes_its_reader() {
    let lab = Lab::new();
    lab.log("prerouting", "group 25 prefix \"sw: \"");
    let capture = SourceName::Capture(Interface::new(b"eth1"));
    for name in [SourceName::Nflog, capture] {
        let seen = lab.on_gateway(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut source = open(&name, &options()).unwrap();
                let ready = Readiness::of(&source).unwrap();
                let mut batch = Batch::default();
                for round in 1..=20_u32 {
                    let frames = vec![Syn::numbered(round).frame_v4(); round as usize * 7];
                    lab.send(&frames);
                    let wanted = syns(&batch).len() + frames.len();
                    while syns(&batch).len() < wanted {
                        let limit = Duration::from_secs(20);
                        let Ok(waited) = tokio::time::timeout(limit, ready.wait()).await else {
                            return batch;
                        };
                        waited.unwrap();
                        batch.is_drained = false;
                        while !batch.is_drained {
                            source.read(NOW, &mut batch).unwrap();
                        }
                    }
                }
                batch
            })
        });
        assert_eq!(syns(&seen).len(), 7 * 210, "{name}");
        assert!(seen.lost.is_empty());
    }
}
