//! What a capture tells of attempts that are really made, by a machine whose kernel speaks TCP.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::*;
use crate::attribution::leases::LeaseBook;
use crate::decode::packet::LinkType;
use crate::engine::{Engine, Input};
use crate::model::{Networks, Notice, Outcome, ResponseKind};
use crate::settings::Settings;

/// A gateway with servers at .9 (listening), .10 (not), no way to .11, and silence at .12.
fn servers(lab: &Lab) {
    lab.inside("gw", || {
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    });
    lab.gateway_ip("address add 2001:db8:1::1/64 dev eth1 nodad");
    lab.gateway_ip("link set lo up");
    for last in [9, 10] {
        lab.gateway_ip(&format!("address add 203.0.113.{last}/32 dev lo"));
        lab.gateway_ip(&format!("address add 2001:db8:2::{last}/128 dev lo nodad"));
    }
    for (kind, last) in [("unreachable", 11), ("blackhole", 12)] {
        lab.gateway_ip(&format!("route add {kind} 203.0.113.{last}/32"));
        lab.gateway_ip(&format!("route add {kind} 2001:db8:2::{last}/128"));
    }
    let id = &lab.id;
    for what in [
        "address add 192.168.1.23/24 dev lan0",
        "address add 2001:db8:1::23/64 dev lan0 nodad",
        "route add default via 192.168.1.1",
        "route add default via 2001:db8:1::1",
    ] {
        run("ip", &format!("-n {id}lan {what}"), "");
    }
}

/// Connects from the LAN to all servers of both families, while `source` reads.
fn connect_to_all(lab: &Lab, source: &mut Live) -> Batch {
    let servers: Vec<TcpListener> = lab.inside("gw", || {
        let addresses = ["203.0.113.9:25", "[2001:db8:2::9]:25"];
        addresses.map(|it| TcpListener::bind(it).unwrap()).into()
    });
    lab.inside("lan", || {
        for last in [9, 10, 11, 12] {
            for address in [
                format!("203.0.113.{last}:25"),
                format!("[2001:db8:2::{last}]:25"),
            ] {
                let address: SocketAddr = address.parse().unwrap();
                // Whoever is silent is waited for in vain, and for less than a SYN is repeated after.
                let patience = if last == 12 { 400 } else { 20_000 };
                let connected =
                    TcpStream::connect_timeout(&address, Duration::from_millis(patience));
                assert_eq!(connected.is_ok(), last == 9, "{address}");
            }
        }
    });
    drop(servers);
    // Eight SYNs, two SYN/ACKs and their acknowledgments, two resets, two errors.
    read_until(source, |batch| batch.evidence.len() >= 16).unwrap()
}

#[test]
fn what_became_of_attempts_is_told_by_a_capture_alone() {
    for interface in ["eth1", "any"] {
        let lab = Lab::new();
        servers(&lab);
        let batch = lab.on_gateway(|| {
            let mut source = open_capture(interface).unwrap();
            connect_to_all(&lab, &mut source)
        });
        let lan = ["192.168.1.0/24", "2001:db8:1::/64"].map(|it| it.parse().unwrap());
        let settings = Settings {
            lan: Networks::new(lan),
            ..Settings::default()
        };
        let mut engine = Engine::new(settings, LeaseBook::default(), 7);
        let source = SourceName::Capture(Interface::new(interface.as_bytes()));
        engine.handle(Input::Notice(Notice::SourceReady { source }), NOW);
        let told: Vec<String> = batch.evidence.iter().map(brief).collect();
        for evidence in batch.evidence {
            engine.handle(evidence.into(), NOW);
        }
        let count = |engine: &Engine, outcome| -> u64 {
            let devices = engine.devices();
            devices.map(|(_, it)| it.outcomes().get(outcome)).sum()
        };
        for outcome in [Outcome::Answered, Outcome::Refused, Outcome::Unreachable] {
            assert_eq!(
                count(&engine, outcome),
                2,
                "{interface} {outcome}: {told:#?}"
            );
        }
        assert_eq!(count(&engine, Outcome::Unknown), 2, "{interface}");
        let completed = engine.devices().map(|(_, it)| it.completed);
        assert_eq!(completed.sum::<u64>(), 2, "{interface}");
        engine.handle(Input::Tick, NOW.plus_micros(151_000_000));
        assert_eq!(count(&engine, Outcome::Unanswered), 2, "{interface}");
    }
}

/// Whoever sends mail sends data, which is none of ours.
#[test]
fn of_a_connection_only_its_beginning_and_end_are_captured() {
    let lab = Lab::new();
    servers(&lab);
    let (evidence, frames) = lab.on_gateway(|| {
        let mut source = open_capture("eth1").unwrap();
        let mut all = pcap::Capture::from_device("eth1")
            .and_then(|device| device.immediate_mode(true).open())
            .and_then(pcap::Capture::setnonblock)
            .unwrap();
        let filter = crate::source::live::capture::filter(&Ports::default(), LinkType::ETHERNET);
        let program = all.compile(&filter, true).unwrap();
        sys::packet::attach_filter(&all, &program).unwrap();
        let server = TcpListener::bind("203.0.113.9:25").unwrap();
        let taken = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut taken = Vec::new();
                server.accept().unwrap().0.read_to_end(&mut taken).unwrap();
                taken.len()
            });
            lab.inside("lan", || {
                let mut stream = TcpStream::connect("203.0.113.9:25").unwrap();
                stream.write_all(&vec![b'x'; 1 << 20]).unwrap();
            });
            reader.join().unwrap()
        });
        assert_eq!(taken, 1 << 20);
        let batch = read_until(&mut source, |batch| batch.evidence.len() >= 3).unwrap();
        let mut frames = 0;
        while all.next_packet().is_ok() {
            frames += 1;
        }
        (batch.evidence, frames)
    });
    assert!(
        (3..12).contains(&frames),
        "{frames} frames passed the filter"
    );
    let kinds: Vec<Option<ResponseKind>> = evidence
        .iter()
        .map(|evidence| match evidence {
            Evidence::Syn(_) => None,
            Evidence::Response(response) => Some(response.kind),
        })
        .collect();
    let expected = [ResponseKind::Accepted, ResponseKind::Established].map(Some);
    assert_eq!(kinds, [&[None], &expected[..]].concat());
}

/// A piece of evidence, as a failure shows it.
fn brief(evidence: &Evidence) -> String {
    match evidence {
        Evidence::Syn(syn) => format!("SYN {:?} {:?}", syn.tuple, syn.isn),
        Evidence::Response(it) => format!("{:?} {:?} {:?}", it.kind, it.tuple, it.isn),
    }
}
