//! Connection tracking of a gateway that masquerades a LAN behind 203.0.113.1, towards a namespace that
//! stands for the Internet.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBuf;

use super::*;
use crate::model::{Response, ResponseKind};

/// Addresses outside: one that answers on port 25, one that refuses, one to which there is no way,
/// one that nobody hears, and one that is translated to the first.
const ANSWERS: &str = "203.0.113.9";
const REFUSES: &str = "203.0.113.10";
const UNREACHABLE: &str = "198.51.100.7";
const SILENT: &str = "198.51.100.9";
const TRANSLATED: &str = "203.0.113.77";

/// A lab with an outside, removed with it.
struct Internet {
    lab: Lab,
}

impl Internet {
    fn new() -> Self {
        let internet = Self { lab: Lab::new() };
        let id = &internet.lab.id;
        run("ip", &format!("netns add {id}wan"), "");
        run(
            "ip",
            &format!("link add wan0 netns {id}wan type veth peer name eth0 netns {id}gw"),
            "",
        );
        for (side, command) in [
            ("wan", "link set wan0 up"),
            ("wan", "address add 203.0.113.9/24 dev wan0"),
            ("wan", "address add 203.0.113.10/24 dev wan0"),
            ("wan", "route add unreachable 198.51.100.7"),
            ("wan", "route add blackhole 198.51.100.9"),
            ("gw", "link set eth0 up"),
            ("gw", "address add 203.0.113.1/24 dev eth0"),
            ("gw", "route add 198.51.100.0/24 via 203.0.113.9"),
            ("lan", "address add 192.168.1.23/24 dev lan0"),
            ("lan", "route add default via 192.168.1.1"),
        ] {
            run("ip", &format!("-n {id}{side} {command}"), "");
        }
        for side in ["wan", "gw"] {
            internet.lab.inside(side, || set("ipv4/ip_forward", 1));
        }
        internet.lab.on_gateway(|| {
            for (name, value) in [
                ("acct", 1),
                // The lab's frames have no TCP checksum, with which nothing is tracked.
                ("checksum", 0),
                ("tcp_timeout_syn_sent", 1),
                ("tcp_timeout_time_wait", 1),
            ] {
                set(&format!("netfilter/nf_conntrack_{name}"), value);
            }
        });
        internet.lab.nft(
            "table inet sw {
                chain out { type nat hook postrouting priority 100; oifname eth0 masquerade fully-random; }
                chain in { type nat hook prerouting priority -100;
                    ip daddr 203.0.113.77 tcp dport 25 dnat ip to 203.0.113.9:2525; }
            }",
        );
        internet
    }

    /// Has the LAN's machine open a connection and read what it is greeted with.
    fn connect(&self, to: &str) {
        let to = SocketAddr::new(ip(to), 25);
        // Whoever is silent is waited for in vain, and for less than a SYN is repeated after.
        let patience = if to.ip() == ip(SILENT) { 300 } else { 20_000 };
        self.lab.inside("lan", || {
            let connected = TcpStream::connect_timeout(&to, Duration::from_millis(patience));
            if let Ok(mut stream) = connected {
                let mut greeting = String::new();
                stream.read_to_string(&mut greeting).unwrap();
                assert_eq!(greeting, "220 ready\r\n");
            }
        });
    }

    /// A mail server outside that greets and hangs up.
    fn serve(&self, port: u16) -> TcpListener {
        self.lab.inside("wan", || {
            TcpListener::bind((ANSWERS.parse::<Ipv4Addr>().unwrap(), port)).unwrap()
        })
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        let _ = started("ip", &format!("netns del {}wan", self.lab.id), "");
    }
}

/// Greets one client; answers whom it saw.
fn greet(server: &TcpListener) -> SocketAddr {
    let (mut stream, client) = server.accept().unwrap();
    stream.write_all(b"220 ready\r\n").unwrap();
    client
}

/// Sets a sysctl of this thread's network namespace.
fn set(name: &str, value: u32) {
    fs::write(format!("/proc/sys/net/{name}"), value.to_string()).unwrap();
}

/// Has the kernel take entries out whose time is over: it does so where they are listed.
fn collect_expired() {
    fs::read("/proc/thread-self/net/nf_conntrack").unwrap();
}

fn tracked() -> u32 {
    let count = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap();
    count.trim().parse().unwrap()
}

fn responses(batch: &Batch) -> Vec<Response> {
    let of = |evidence: &Evidence| match evidence {
        Evidence::Response(response) => Some(*response),
        Evidence::Syn(_) => None,
    };
    batch.evidence.iter().filter_map(of).collect()
}

/// What was told of attempts on `destination`.
fn about(batch: &Batch, destination: &str) -> Vec<Response> {
    let mut all = responses(batch);
    all.retain(|response| response.tuple.destination == ip(destination));
    all
}

fn kinds(responses: &[Response]) -> Vec<ResponseKind> {
    responses.iter().map(|response| response.kind).collect()
}

fn opening() -> Options {
    Options {
        opens_attempts: true,
        ..options()
    }
}

#[test]
fn every_outcome_with_bytes_and_as_it_is_seen_outside() {
    use ResponseKind::{Accepted, Closed, Established, Reset, TimedOut, Tracked};
    let net = Internet::new();
    let (server, translated) = (net.serve(25), net.serve(2525));
    let (batch, seen) = net.lab.on_gateway(|| {
        let mut source = open(&SourceName::Conntrack, &opening()).unwrap();
        let seen = thread::scope(|scope| {
            let greeted = scope.spawn(|| [greet(&server), greet(&translated)]);
            for to in [ANSWERS, TRANSLATED, REFUSES, UNREACHABLE, SILENT] {
                net.connect(to);
            }
            greeted.join().unwrap()
        });
        thread::sleep(Duration::from_millis(1500));
        collect_expired();
        let batch = read_until(&mut source, |batch| {
            let ends = responses(batch)
                .into_iter()
                .filter(|response| matches!(response.kind, Closed | Reset | TimedOut));
            ends.count() == 5
        });
        (batch.unwrap(), seen)
    });
    for (to, expected) in [
        (ANSWERS, &[Tracked, Accepted, Established, Closed][..]),
        (TRANSLATED, &[Tracked, Accepted, Established, Closed]),
        (REFUSES, &[Tracked, Reset]),
        (UNREACHABLE, &[Tracked, TimedOut]),
        (SILENT, &[Tracked, TimedOut]),
    ] {
        let all = about(&batch, to);
        assert_eq!(kinds(&all), expected, "{to}");
        for response in &all {
            assert_eq!(response.tuple.source, ip("192.168.1.23"));
            assert_eq!(response.tuple.destination_port, 25);
            assert_eq!((response.time, response.isn), (NOW, None));
            assert_eq!(response.outside.unwrap().source, ip("203.0.113.1"));
        }
    }
    for (to, client, port) in [(ANSWERS, seen[0], 25), (TRANSLATED, seen[1], 2525)] {
        let all = about(&batch, to);
        for response in &all {
            let outside = response.outside.unwrap();
            assert_eq!(SocketAddr::new(outside.source, outside.source_port), client);
            assert_eq!(
                (outside.destination, outside.destination_port),
                (ip(ANSWERS), port)
            );
        }
        let bytes: Vec<_> = all.iter().map(|response| response.bytes).collect();
        assert_eq!(bytes[..3], [None; 3]);
        // The greeting, and the headers of at least handshake and end.
        let (sent, got) = bytes[3].unwrap();
        assert!(
            sent >= 60 + 3 * 52 && got >= 60 + 11 + 2 * 52,
            "{sent} {got}"
        );
    }
    assert_eq!(about(&batch, REFUSES)[1].bytes, Some((60, 40)));
    assert_eq!(about(&batch, SILENT)[1].bytes, Some((60, 0)));

    // An attempt each, ahead of what became of it.
    let attempts = syns(&batch);
    assert_eq!(attempts.len(), 5);
    for attempt in &attempts {
        assert_eq!((attempt.isn, attempt.mac, attempt.ttl), (None, None, None));
        assert!(attempt.interface.is_empty());
        let of_it = |evidence: &Evidence| match evidence {
            Evidence::Syn(observation) => observation.tuple == attempt.tuple,
            Evidence::Response(response) => response.tuple == attempt.tuple,
        };
        let first = batch.evidence.iter().find(|evidence| of_it(evidence));
        assert_eq!(first, Some(&Evidence::Syn(*attempt)));
    }
    assert_eq!(batch.events, 14);
    assert!(batch.lost.is_empty() && batch.overruns == 0);
}

#[test]
fn beside_another_source_it_opens_no_attempt() {
    let net = Internet::new();
    let batch = net.lab.on_gateway(|| {
        let mut source = open(&SourceName::Conntrack, &options()).unwrap();
        net.connect(REFUSES);
        read_until(&mut source, |batch| batch.events == 2).unwrap()
    });
    assert_eq!(
        kinds(&responses(&batch)),
        [ResponseKind::Tracked, ResponseKind::Reset]
    );
    assert!(syns(&batch).is_empty());
}

/// Has the LAN's machine open `count` connections to other ports, and send as many UDP datagrams.
fn other_traffic(net: &Internet, count: u16) {
    let frames: Vec<Vec<u8>> = (0..count)
        .map(|n| {
            Syn {
                port: 10_000 + n,
                ..Syn::default()
            }
            .frame_v4()
        })
        .collect();
    net.lab.send(&frames);
    net.lab.inside("lan", || {
        let socket = UdpSocket::bind("192.168.1.23:0").unwrap();
        for port in 10_000..10_000 + count {
            // The responder refuses, and the socket is told so at the next one.
            let _ = socket.send_to(b"x", SocketAddr::new(ip(SILENT), port));
        }
    });
}

#[test]
fn other_connections_wake_nobody() {
    let net = Internet::new();
    net.lab.on_gateway(|| {
        set("netfilter/nf_conntrack_tcp_timeout_syn_sent", 60);
        let mut source = open(&SourceName::Conntrack, &opening()).unwrap();
        // One that nothing picks out for tells that there was something to hear.
        let many = Options {
            ports: Ports::new(1..=3000),
            ..options()
        };
        let mut unpicked = open(&SourceName::Conntrack, &many).unwrap();
        other_traffic(&net, 5000);
        assert!(tracked() >= 10_000, "{} are tracked", tracked());
        assert!(!wait(&source, 200));
        assert!(wait(&unpicked, 20_000));
        net.connect(REFUSES);
        for source in [&mut source, &mut unpicked] {
            let batch = read_until(source, |batch| batch.events == 2).unwrap();
            assert_eq!(
                kinds(&responses(&batch)),
                [ResponseKind::Tracked, ResponseKind::Reset]
            );
            assert_eq!((batch.events, &batch.lost[..]), (2, &[][..]));
        }
    });
}

/// Nobody reads while the receive buffer overflows: what is there and what is said to be lost are what
/// was sent, to the last.
#[test]
fn what_did_not_fit_is_counted() {
    const SENT: u16 = 1500;
    let net = Internet::new();
    let batch = net.lab.on_gateway(|| {
        set("netfilter/nf_conntrack_tcp_timeout_syn_sent", 60);
        let to_any = Options {
            ports: Ports::new(10_000..10_000 + SENT),
            ..opening()
        };
        let mut source = open(&SourceName::Conntrack, &to_any).unwrap();
        setsockopt(&source, RcvBuf, &65_536).unwrap();
        other_traffic(&net, SENT);
        let mut batch = Batch::default();
        while wait(&source, 2000) {
            source.read(NOW, &mut batch).unwrap();
        }
        // Read on after the loss.
        let port = 10_000 + SENT - 1;
        let before = batch.events;
        net.lab.inside("lan", || {
            let to = SocketAddr::new(ip(SILENT), port);
            TcpStream::connect_timeout(&to, Duration::from_millis(100)).unwrap_err();
        });
        while wait(&source, 2000) {
            source.read(NOW, &mut batch).unwrap();
        }
        assert_eq!(batch.events, before + 1);
        batch.events = before;
        batch
    });
    let lost = lost(&batch, LossKind::QueueFull);
    assert!(lost > 0 && batch.overruns > 0, "{} were read", batch.events);
    assert_eq!(batch.events + lost, u64::from(SENT));
}

#[test]
fn what_is_missing_is_named() {
    let net = Internet::new();
    let why = |prepare: fn()| {
        let refused = net.lab.on_gateway(|| {
            prepare();
            open(&SourceName::Conntrack, &options()).unwrap_err()
        });
        refused.to_string()
    };
    assert_eq!(
        why(|| drop_from_this_thread(Capability::NetAdmin)),
        "to follow connection tracking needs CAP_NET_ADMIN: run as root"
    );
    let off = why(|| set("netfilter/nf_conntrack_events", 0));
    assert!(
        off.contains("net.netfilter.nf_conntrack_events is 0"),
        "{off}"
    );
}
