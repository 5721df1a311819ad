//! Answers of the DNS that pass the gateway: what they tell reaches the engine for those who send mail, and
//! nothing of who looked up what is written anywhere.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Ended, MACHINE_ADDRESS, Net, Watch};

/// Another device in the LAN, which sends no mail.
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const POOL: &str = "smtp.provider.example";
const ZONE: &str = "mail.bots-own-zone.example";

/// The gateway's own resolver, for as long as the test runs.
struct Resolver {
    ends: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Resolver {
    fn start(net: &Net) -> Self {
        let namespace = File::open(format!("/run/netns/{}", net.gateway)).unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicU32::new(0));
        let (over, count) = (Arc::clone(&ends), Arc::clone(&asked));
        let (is_bound, bound) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let socket = UdpSocket::bind("192.0.2.1:53").unwrap();
            let pause = Duration::from_millis(50);
            socket.set_read_timeout(Some(pause)).unwrap();
            is_bound.send(()).unwrap();
            let mut buffer = [0; 512];
            while !over.load(Ordering::Relaxed) {
                if let Ok((length, client)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&answer(&buffer[..length]), client);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        bound.recv().unwrap();
        Self {
            ends,
            asked,
            thread: Some(thread),
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The name `name` in a message.
fn encoded(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| {
        let length = u8::try_from(label.len()).unwrap();
        std::iter::once(length).chain(label.bytes())
    });
    labels.chain([0]).collect()
}

/// What is answered: of the pool and of the bot's own zone the addresses that `Net::send` sends to, of MX
/// nothing.
fn answer(question: &[u8]) -> Vec<u8> {
    let holds = |name: &str| question.windows(name.len()).any(|it| it == name.as_bytes());
    let servers: Vec<u8> = if question[question.len() - 3] == 15 {
        Vec::new()
    } else if holds("bots-own-zone") {
        (100..128).collect()
    } else if holds("provider") {
        (0..5).collect()
    } else {
        Vec::new()
    };
    let mut message = question[..2].to_vec();
    message.extend([0x81, 0x80, 0, 1, 0]);
    message.push(u8::try_from(servers.len()).unwrap());
    message.extend([0, 0, 0, 0]);
    message.extend(&question[12..]);
    for server in servers {
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4]);
        message.extend(destination(server));
    }
    message
}

/// Where the SYN with that number goes.
fn destination(number: u8) -> [u8; 4] {
    [198, 0x12, number, 0]
}

/// Has `client`, an address of the machine, ask for records of `name`.
fn ask(net: &Net, resolver: &Resolver, client: Ipv4Addr, name: &str, kind: u8) {
    let before = resolver.asked.load(Ordering::Relaxed);
    let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    question.extend(encoded(name));
    question.extend([0, kind, 0, 1]);
    net.in_machine(|| {
        let socket = UdpSocket::bind((client, 0)).unwrap();
        socket.send_to(&question, "192.0.2.1:53").unwrap();
    });
    for _ in 0..2_000 {
        if resolver.asked.load(Ordering::Relaxed) > before {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("the resolver was not asked for {name}");
}

/// A gateway whose LAN has the machine and another device.
fn net() -> Net {
    let net = Net::new();
    fs::write(net.path("smtpwatch.toml"), "[dns]\nlisten = true\n").unwrap();
    net.gateway("ip neighbour add 192.0.2.10 lladdr 02:00:00:00:00:10 dev lan0 nud permanent");
    net.gateway("ip neighbour add 192.0.2.11 lladdr 02:00:00:00:00:11 dev lan0 nud permanent");
    net.on_machine("ip address add 192.0.2.11/24 dev eth0");
    net
}

fn watch(net: &Net, recording: &Path, backend: &str) -> Watch {
    net.watch(&format!(
        "--source nflog --backend {backend} --no-names --record {} --config {}",
        recording.display(),
        net.path("smtpwatch.toml").display()
    ))
}

/// The recorded inputs of that kind.
fn recorded(recording: &str, kind: &str) -> Vec<Value> {
    let inputs = recording
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let mut found = Vec::new();
    for line in inputs {
        find(&line, kind, &mut found);
    }
    found
}

fn find(value: &Value, kind: &str, found: &mut Vec<Value>) {
    if let Value::Object(fields) = value {
        for (name, value) in fields {
            if name == kind {
                found.push(value.clone());
            } else {
                find(value, kind, found);
            }
        }
    } else if let Value::Array(all) = value {
        for value in all {
            find(value, kind, found);
        }
    }
}

/// All bytes that the run has written.
fn written(net: &Net) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(net.path("state")).unwrap() {
        bytes.extend(fs::read(entry.unwrap().path()).unwrap());
    }
    bytes
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|it| it == text.as_bytes())
}

fn run(backend: &str) -> (Ended, String) {
    let net = net();
    let resolver = Resolver::start(&net);
    let recording = net.path("recording.jsonl");
    let watch = watch(&net, &recording, backend);
    for client in [MACHINE_ADDRESS, OTHER] {
        ask(&net, &resolver, client, POOL, 1);
    }
    // The bot's own zone, which it alone asks for.
    ask(&net, &resolver, MACHINE_ADDRESS, ZONE, 1);
    // Questions for mail servers: three before the machine sends mail, one after; and one of the other's.
    for _ in 0..3 {
        ask(&net, &resolver, MACHINE_ADDRESS, "victim.example", 15);
    }
    ask(&net, &resolver, OTHER, "other-domain.example", 15);
    // One server of the pool, twice; and what is in the bot's zone.
    net.send(0, 2);
    net.send(100, 20);
    watch.wait_for_attempts(22);
    ask(&net, &resolver, MACHINE_ADDRESS, "victim.example", 15);
    thread::sleep(Duration::from_millis(1_500));
    let ended = watch.end(Signal::SIGTERM);
    let text = fs::read_to_string(&recording).unwrap();
    for name in [POOL, "provider", "bots-own-zone", "victim", "other-domain"] {
        assert!(!text.contains(name), "{name} is recorded");
        assert!(!holds(&written(&net), name), "{name} is in the history");
        let said = ended.lines.concat() + &ended.err;
        assert!(!said.contains(name), "{name} was said");
    }
    // Who only asked is nowhere but among the neighbours of the gateway.
    for kind in ["mail_lookup", "syn", "response"] {
        for input in recorded(&text, kind) {
            assert!(
                !input.to_string().contains(&IpAddr::from(OTHER).to_string()),
                "{input}"
            );
        }
    }
    assert!(!holds(&written(&net), "02:00:00:00:00:11"));
    assert_eq!(net.firewall(), "", "the rules are gone");
    (ended, text)
}

fn check((ended, recording): &(Ended, String)) {
    // One service of five networks, told once; the zone that one device knows merges none.
    let services = recorded(recording, "one_service");
    assert_eq!(services.len(), 1, "{services:?}");
    assert_eq!(services[0].as_array().unwrap().len(), 5);
    assert_eq!(recorded(recording, "mail_lookup").len(), 4);
    let report = ended.report();
    let devices = report["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 1, "{devices:?}");
    assert_eq!(devices[0]["mail_lookups"], 4);
    // The bot in its own zone is found all the same, and told by what it asked until then.
    assert_eq!(devices[0]["verdict"], "infected", "{report}");
    let because = devices[0]["because"].as_str().unwrap();
    assert!(
        because.contains("and asked 3 times for mail servers"),
        "{because}"
    );
}

#[test]
fn answers_tell_of_those_who_send_mail_and_nothing_else_is_written() {
    check(&run("nft"));
}

#[test]
fn the_same_by_iptables() {
    check(&run("iptables --at prerouting"));
}

/// A second device makes the bot's zone one service: of eight networks, and not of all.
#[test]
fn a_bots_own_zone_merges_eight_networks_at_the_most() {
    let net = net();
    let resolver = Resolver::start(&net);
    let recording = net.path("recording.jsonl");
    let watch = watch(&net, &recording, "nft");
    for client in [MACHINE_ADDRESS, OTHER] {
        ask(&net, &resolver, client, ZONE, 1);
    }
    net.send(100, 28);
    watch.wait_for_attempts(28);
    let ended = watch.end(Signal::SIGTERM);
    let text = fs::read_to_string(&recording).unwrap();
    let services = recorded(&text, "one_service");
    assert_eq!(services.len(), 1, "{services:?}");
    assert_eq!(services[0].as_array().unwrap().len(), 8);
    assert_eq!(ended.report()["devices"][0]["verdict"], "infected");
}

/// Without it nothing is read, and no rule stands there.
#[test]
fn nothing_is_read_where_it_was_not_asked_for() {
    let net = net();
    let watch = net.watch("--source nflog --no-names");
    assert!(!net.firewall().contains("53"), "{}", net.firewall());
    let ended = watch.end(Signal::SIGTERM);
    assert_eq!(ended.status, Some(0), "{}", ended.err);
}
