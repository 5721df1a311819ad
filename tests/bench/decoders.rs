//! What one core decodes: lines or frames a second, and bytes.
//!
//! Floors 0 to 3 alone, so that `--no-default-features` builds them. Run by `scripts/bench decoders`.
#![allow(clippy::unwrap_used)]

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use smtpwatch::attribution::leases::LeaseBook;
use smtpwatch::decode::capture::{Reader, Step};
use smtpwatch::decode::kernel_log::{Content, Decoder};
use smtpwatch::decode::packet::LinkType;
use smtpwatch::decode::{dhcp_lease, journal, packet};
use smtpwatch::engine::{Engine, Input};
use smtpwatch::model::{Clock, Interface, Observation, RuleId, Timestamp, Tuple};
use smtpwatch::settings::Settings;

fn main() {
    divan::main();
}

/// A record of a SYN to `port`, without what stands before it.
fn record(port: u16) -> String {
    format!(
        "IN=eth1 OUT=eth0 MAC=02:00:5e:00:00:01:02:00:5e:10:01:17:08:00 SRC=192.168.1.23 DST=203.0.113.9 LEN=60 \
         TOS=0x00 PREC=0x00 TTL=63 ID=7 DF PROTO=TCP SPT=40001 DPT={port} WINDOW=64240 RES=0x00 SYN URGP=0 "
    )
}

const RECORD_V6: &str = "IN=eth1 OUT=eth0 MAC=02:00:5e:00:00:01:02:00:5e:10:01:17:86:dd \
     SRC=2001:0db8:0000:0000:0000:0000:0000:0023 DST=2001:0db8:0001:0000:0000:0000:0000:0025 LEN=80 TC=0 HOPLIMIT=63 \
     FLOWLBL=1 PROTO=TCP SPT=40001 DPT=25 WINDOW=64800 RES=0x00 SYN URGP=0 ";

/// What a kernel log's lines look like.
#[derive(Debug)]
enum Line {
    Port25,
    OtherPacket,
    OtherProgram,
    Iso,
    Ipv6,
}

impl Line {
    fn text(&self) -> String {
        match self {
            Self::Port25 => format!("Mar 10 14:34:33 gw kernel: {}", record(25)),
            Self::OtherPacket => format!("Mar 10 14:34:33 gw kernel: {}", record(443)),
            Self::OtherProgram => {
                "Mar 10 14:34:33 gw sshd[9921]: Connection closed by authenticating user root \
                                   198.51.100.7 port 51514 [preauth]"
                    .to_owned()
            }
            Self::Iso => format!(
                "2026-03-10T14:34:33.123456+01:00 gw kernel: [88000.123456] {}",
                record(25)
            ),
            Self::Ipv6 => format!("Mar 10 14:34:33 gw kernel: {RECORD_V6}"),
        }
    }
}

#[divan::bench(args = [Line::Port25, Line::OtherPacket, Line::OtherProgram, Line::Iso, Line::Ipv6])]
fn kernel_log(bencher: Bencher<'_, '_>, line: &Line) {
    let text = line.text();
    let decoder = Decoder::new([]).watching(&[25]);
    bencher
        .counter(ItemsCount::new(1_usize))
        .counter(BytesCount::of_slice(text.as_bytes()))
        .bench_local(|| {
            // What a report reads from a record, besides the fields' places.
            match decoder.decode(black_box(text.as_bytes())).content {
                Content::Packet(packet, _) if packet.is_syn() => {
                    Some((packet.addresses(), packet.destination_port(), packet.mac()))
                }
                _ => None,
            }
        });
}

#[divan::bench]
fn journal_json(bencher: Bencher<'_, '_>) {
    let line = serde_json::json!({
        "__CURSOR": "s=6c2f;i=1a2b;b=77aa;m=1234;t=5678;x=9abc",
        "__REALTIME_TIMESTAMP": "1773149673123456",
        "__MONOTONIC_TIMESTAMP": "88000123456",
        "_TRANSPORT": "kernel",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "kernel",
        "_HOSTNAME": "gw",
        "MESSAGE": record(25),
    })
    .to_string();
    let decoder = Decoder::new([]).watching(&[25]);
    bencher
        .counter(ItemsCount::new(1_usize))
        .counter(BytesCount::of_slice(line.as_bytes()))
        .bench_local(|| {
            let entry = journal::json(black_box(line.as_bytes())).unwrap();
            matches!(decoder.decode_entry(&entry).content, Content::Packet(..))
        });
}

#[divan::bench]
fn journal_export(bencher: Bencher<'_, '_>) {
    let text = format!(
        "__CURSOR=s=6c2f;i=1a2b;b=77aa;m=1234;t=5678;x=9abc\n__REALTIME_TIMESTAMP=1773149673123456\n\
         __MONOTONIC_TIMESTAMP=88000123456\n_TRANSPORT=kernel\nPRIORITY=4\nSYSLOG_IDENTIFIER=kernel\n\
         _HOSTNAME=gw\nMESSAGE={}\n\n",
        record(25)
    );
    let decoder = Decoder::new([]).watching(&[25]);
    bencher
        .counter(ItemsCount::new(1_usize))
        .counter(BytesCount::of_slice(text.as_bytes()))
        .bench_local(|| match journal::export(black_box(text.as_bytes()), true) {
            journal::Step::Entry(entry, _) => {
                matches!(decoder.decode_entry(&entry).content, Content::Packet(..))
            }
            other => unreachable!("{other:?}"),
        });
}

const TCP_SYN: [u8; 20] = [
    0x9c, 0x41, 0, 25, 1, 2, 3, 4, 0, 0, 0, 0, 0x50, 2, 0xfa, 0xf0, 0, 0, 0, 0,
];
const MACS: [u8; 12] = [2, 0, 0x5e, 0, 0, 1, 2, 0, 0x5e, 0x10, 1, 0x17];

/// What frames look like.
#[derive(Clone, Copy, Debug)]
enum Frame {
    Ipv4,
    Vlan,
    Ipv6,
}

impl Frame {
    fn bytes(self) -> Vec<u8> {
        let ipv4 = [
            0x45, 0, 0, 40, 0, 7, 0x40, 0, 63, 6, 0, 0, 192, 168, 1, 23, 203, 0, 113, 9,
        ];
        let mut ipv6 = [0_u8; 40];
        ipv6[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 20, 6, 63]);
        ipv6[8..12].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        ipv6[24..28].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        match self {
            Self::Ipv4 => [&MACS[..], &[8, 0], &ipv4, &TCP_SYN].concat(),
            Self::Vlan => [&MACS[..], &[0x81, 0, 0, 100, 8, 0], &ipv4, &TCP_SYN].concat(),
            Self::Ipv6 => [&MACS[..], &[0x86, 0xdd], &ipv6, &TCP_SYN].concat(),
        }
    }
}

#[divan::bench(args = [Frame::Ipv4, Frame::Vlan, Frame::Ipv6])]
fn ethernet(bencher: Bencher<'_, '_>, frame: Frame) {
    let bytes = frame.bytes();
    bencher
        .counter(ItemsCount::new(1_usize))
        .counter(BytesCount::of_slice(&bytes))
        .bench(|| packet::decode(LinkType::ETHERNET, black_box(&bytes)));
}

/// A pcap file of a megabyte: frames of 60 to 1514 bytes, read and taken apart.
#[divan::bench]
fn capture(bencher: Bencher<'_, '_>) {
    let mut file = Vec::from([0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0]);
    for word in [0, 0, 65_535, 1_u32] {
        file.extend(word.to_le_bytes());
    }
    let mut frames = 0_usize;
    while file.len() < 1 << 20 {
        let mut frame = [Frame::Ipv4, Frame::Vlan, Frame::Ipv6][frames % 3].bytes();
        frame.resize([60, 120, 576, 1514][frames % 4], 0);
        let length = u32::try_from(frame.len()).unwrap();
        for word in [1_773_149_673, 123_456, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
        frames += 1;
    }
    bencher
        .counter(ItemsCount::new(frames))
        .counter(BytesCount::of_slice(&file))
        .bench(|| {
            let mut reader = Reader::new();
            let mut rest = black_box(&file[..]);
            let mut syns = 0;
            while let Step::Record(record) = reader.next(&mut rest, true) {
                let segment = packet::decode(record.link, record.frame);
                syns += usize::from(segment.is_ok_and(|segment| segment.is_syn()));
            }
            syns
        });
}

/// A thousand leases, of a server that has renewed each of a hundred addresses ten times.
#[divan::bench]
fn isc_leases(bencher: Bencher<'_, '_>) {
    let mut file = String::new();
    for number in 0..1000 {
        let (host, hour) = (number % 100, number / 100);
        file.push_str(&format!(
            "lease 192.0.2.{host} {{\n  starts 2 2026/03/10 {hour:02}:00:00;\n  ends 2 2026/03/10 {:02}:00:00;\n  \
             cltt 2 2026/03/10 {hour:02}:00:00;\n  binding state active;\n  next binding state free;\n  \
             hardware ethernet 02:00:5e:00:00:{host:02x};\n  uid \"\\001\\002\\000^\\000\\000\\001\";\n  \
             client-hostname \"desk-{host}\";\n}}\n",
            hour + 1
        ));
    }
    bencher
        .counter(ItemsCount::new(1000_usize))
        .counter(BytesCount::of_str(&file))
        .bench(|| dhcp_lease::decode(black_box(file.as_bytes())));
}

/// Thirty thousand SYNs of three hundred devices, three SYNs an attempt.
#[divan::bench]
fn engine(bencher: Bencher<'_, '_>) {
    const SYNS: u32 = 30_000;
    let start = Timestamp::from_seconds(1_773_149_673);
    let stream: Vec<Observation> = (0..SYNS)
        .map(|number| {
            let device = number % 300;
            let attempt = number / 900;
            Observation {
                time: start.plus_micros(i64::from(number) * 100_000),
                clock: Clock::Exact,
                rule: RuleId(1),
                tuple: Tuple {
                    source: std::net::Ipv4Addr::from(0xc0a8_0002 + device).into(),
                    destination: std::net::Ipv4Addr::from(0xcb00_0009 + (attempt << 8)).into(),
                    source_port: u16::try_from(32_768 + attempt).unwrap(),
                    destination_port: 25,
                },
                isn: Some(attempt),
                ip_id: None,
                mac: None,
                interface: Interface::new(b"eth1"),
                ttl: None,
                vlan: None,
                repeats: 0,
            }
        })
        .collect();
    bencher
        .counter(ItemsCount::new(SYNS))
        .with_inputs(|| Engine::new(Settings::default(), LeaseBook::default(), 7))
        .bench_refs(|engine| {
            for observation in &stream {
                black_box(
                    engine
                        .handle(Input::Syn(*observation), observation.time)
                        .len(),
                );
            }
        });
}
