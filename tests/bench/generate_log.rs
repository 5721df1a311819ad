//! Makes logs for tests and benches, the same ones each time, and says what is in them.
//!
//! `generate-log messages BYTES LOG EXPECTED`: a busy gateway's /var/log/messages: 15 % SYNs to
//! port 25 from 300 sources with a Zipf skew, 25 % other packets, 60 % other daemons.
//! `generate-log capture BYTES PCAP EXPECTED`: such a gateway's traffic: 0.5 % SYNs to port 25 from
//! the same sources among TCP and UDP of all sizes.
//! `generate-log office FOLDER`: a day of an office with twelve devices, one of them a bot: the
//! gateway's log, the same SYNs as a capture, and the DHCP leases.
//!
//! EXPECTED is JSON: lines by kind, and SYNs and attempts by source.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::Ipv4Addr;

const SEED: u64 = 25;

#[derive(Default)]
struct Expected {
    lines: u64,
    records: u64,
    other_program: u64,
    not_a_packet: u64,
    not_tcp: u64,
    sources: BTreeMap<Ipv4Addr, (u64, u64)>,
}

impl Expected {
    fn syns(&mut self, source: Ipv4Addr, syns: u64) {
        let counts = self.sources.entry(source).or_default();
        counts.0 += syns;
        counts.1 += 1;
    }

    fn write(&self, path: &str) {
        let sum = |pick: fn(&(u64, u64)) -> u64| self.sources.values().map(pick).sum::<u64>();
        let sources: serde_json::Map<String, serde_json::Value> = self
            .sources
            .iter()
            .map(|(source, (syns, attempts))| {
                let counts = serde_json::json!({ "syns": syns, "attempts": attempts });
                (source.to_string(), counts)
            })
            .collect();
        let expected = serde_json::json!({
            "lines": self.lines,
            "records": self.records,
            "other_program": self.other_program,
            "not_a_packet": self.not_a_packet,
            "not_tcp": self.not_tcp,
            "syns": sum(|counts| counts.0),
            "attempts": sum(|counts| counts.1),
            "sources": sources,
        });
        let mut file = File::create(path).unwrap();
        serde_json::to_writer_pretty(&mut file, &expected).unwrap();
        writeln!(file).unwrap();
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["messages", bytes, log, expected] => messages(bytes.parse().unwrap(), log).write(expected),
        ["capture", bytes, pcap, expected] => capture(bytes.parse().unwrap(), pcap).write(expected),
        ["office", folder] => office(folder),
        _ => {
            eprintln!("usage: generate-log messages|capture BYTES FILE EXPECTED | office FOLDER");
            std::process::exit(2);
        }
    }
}

const DAEMONS: [&str; 8] = [
    "dnsmasq[812]: query[A] www.example.org from 192.168.1.31",
    "dnsmasq[812]: forwarded www.example.org to 192.0.2.53",
    "dnsmasq-dhcp[812]: DHCPACK(eth1) 192.168.1.44 02:00:5e:00:00:44 laptop-7",
    "systemd[1]: Started Daily apt upgrade and clean activities.",
    "CRON[21033]: (root) CMD (test -x /usr/sbin/anacron || run-parts --report /etc/cron.daily)",
    "sshd[9921]: Connection closed by authenticating user root 198.51.100.7 port 51514 [preauth]",
    "ntpd[701]: Soliciting pool server 192.0.2.123",
    "postfix/smtpd[1213]: connect from mail.example.net[203.0.113.25]",
];

/// A packet record as the kernel prints it.
struct Packet {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: &'static str,
    source_port: u16,
    destination_port: u16,
    id: u16,
}

impl Packet {
    fn write(&self, to: &mut impl Write, flags: &str) {
        let [_, _, c, d] = self.source.octets();
        write!(
            to,
            "IN=eth1 OUT=eth0 MAC=02:00:5e:00:00:01:02:00:5e:10:{c:02x}:{d:02x}:08:00 SRC={} DST={} LEN=60 TOS=0x00 \
             PREC=0x00 TTL=63 ID={} DF PROTO={} SPT={} DPT={} ",
            self.source, self.destination, self.id, self.protocol, self.source_port, self.destination_port
        )
        .unwrap();
        match self.protocol {
            "TCP" => writeln!(to, "WINDOW=64240 RES=0x00 {flags} URGP=0 ").unwrap(),
            _ => writeln!(to, "LEN=40 ").unwrap(),
        }
    }
}

impl Packet {
    /// The frame of `payload` octets behind the TCP or UDP header; `flags` are TCP's.
    fn frame(&self, flags: u8, payload: usize) -> Vec<u8> {
        let [_, _, c, d] = self.source.octets();
        let (protocol, header) = if self.protocol == "TCP" {
            (6, 20)
        } else {
            (17, 8)
        };
        let mut frame = vec![2, 0, 0x5e, 0, 0, 1, 2, 0, 0x5e, 0x10, c, d, 8, 0];
        frame.extend([0x45, 0]);
        frame.extend(((20 + header + payload) as u16).to_be_bytes());
        frame.extend(self.id.to_be_bytes());
        frame.extend([0x40, 0, 63, protocol, 0, 0]);
        frame.extend(self.source.octets());
        frame.extend(self.destination.octets());
        frame.extend(self.source_port.to_be_bytes());
        frame.extend(self.destination_port.to_be_bytes());
        if protocol == 6 {
            let sequence = u32::from(self.source_port).wrapping_mul(2_654_435_761);
            frame.extend(sequence.to_be_bytes());
            frame.extend([0, 0, 0, 0, 0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
        } else {
            frame.extend(((header + payload) as u16).to_be_bytes());
            frame.extend([0, 0]);
        }
        frame.resize(frame.len() + payload, b'x');
        frame
    }
}

/// Who sends mail: 300 sources with a Zipf skew, and the SYNs of theirs that will be sent again.
struct Senders {
    sources: Vec<Ipv4Addr>,
    weights: Vec<f64>,
    /// By the second in which they are due.
    again: BTreeMap<u64, Vec<(Ipv4Addr, Ipv4Addr, u16)>>,
    ports: BTreeMap<Ipv4Addr, u16>,
}

impl Senders {
    fn new() -> Self {
        Self {
            sources: (0..300_u16)
                .map(|i| Ipv4Addr::new(192, 168, (i / 250) as u8 + 1, (i % 250) as u8 + 2))
                .collect(),
            weights: (1..=300).map(|rank| 1.0 / f64::from(rank)).collect(),
            again: BTreeMap::new(),
            ports: BTreeMap::new(),
        }
    }

    /// The next SYN to port 25, counted in `expected`.
    fn syn(&mut self, random: &mut fastrand::Rng, second: u64, expected: &mut Expected) -> Packet {
        let first = self.again.first_entry();
        let (source, destination, source_port) = match first.filter(|due| *due.key() <= second) {
            Some(mut entry) => {
                let syn = entry.get_mut().pop().unwrap();
                if entry.get().is_empty() {
                    entry.remove();
                }
                expected.sources.get_mut(&syn.0).unwrap().0 += 1;
                syn
            }
            None => self.open(random, second, expected),
        };
        Packet {
            source,
            destination,
            protocol: "TCP",
            source_port,
            destination_port: 25,
            id: random.u16(1..),
        }
    }

    /// A new attempt; one of twenty is not answered at once.
    fn open(
        &mut self,
        random: &mut fastrand::Rng,
        second: u64,
        expected: &mut Expected,
    ) -> (Ipv4Addr, Ipv4Addr, u16) {
        let mut pick = random.f64() * self.weights.iter().sum::<f64>();
        let index = self.weights.iter().position(|weight| {
            pick -= weight;
            pick <= 0.0
        });
        let source = self.sources[index.unwrap_or(299)];
        let destination = Ipv4Addr::from(0xcb00_0000_u32 | random.u32(0..200_000));
        let port = self.ports.entry(source).or_insert(32_768);
        *port = if *port == 60_999 { 32_768 } else { *port + 1 };
        let syn = (source, destination, *port);
        expected.syns(source, 1);
        if random.u32(0..20) == 0 {
            for delay in [1, 3, 7] {
                self.again.entry(second + delay).or_default().push(syn);
            }
        }
        syn
    }

    /// A packet that is not about mail.
    fn other(&self, random: &mut fastrand::Rng) -> Packet {
        Packet {
            source: self.sources[random.usize(0..300)],
            destination: Ipv4Addr::from(0xcb00_0000_u32 | random.u32(0..200_000)),
            protocol: if random.bool() { "TCP" } else { "UDP" },
            source_port: random.u16(32_768..61_000),
            destination_port: [80, 443, 53, 123, 2525, 587][random.usize(0..6)],
            id: random.u16(1..),
        }
    }
}

/// One day, 25 % of it in the last hour's rush; stamps as syslogd writes them.
fn messages(bytes: u64, path: &str) -> Expected {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut expected = Expected::default();
    let mut log = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let mut senders = Senders::new();
    let mut text = Vec::new();
    let mut written = 0;
    while written < bytes {
        let second = written * 86_399 / bytes;
        text.clear();
        write!(
            text,
            "Mar 10 {:02}:{:02}:{:02} gw ",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
        .unwrap();
        expected.lines += 1;
        match random.u32(0..100) {
            0..15 => {
                expected.records += 1;
                let packet = senders.syn(&mut random, second, &mut expected);
                text.extend_from_slice(b"kernel: ");
                packet.write(&mut text, "SYN");
            }
            15..40 => {
                expected.records += 1;
                text.extend_from_slice(b"kernel: ");
                let packet = senders.other(&mut random);
                packet.write(&mut text, "SYN");
            }
            40..42 => {
                expected.not_a_packet += 1;
                writeln!(
                    text,
                    "kernel: usb 1-1: new high-speed USB device number {} using xhci_hcd",
                    random.u8(..)
                )
                .unwrap();
            }
            _ => {
                expected.other_program += 1;
                writeln!(text, "{}", DAEMONS[random.usize(0..DAEMONS.len())]).unwrap();
            }
        }
        log.write_all(&text).unwrap();
        written += text.len() as u64;
    }
    log.flush().unwrap();
    expected
}

/// Traffic at 300 kB a second.
fn capture(bytes: u64, path: &str) -> Expected {
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut expected = Expected::default();
    let mut senders = Senders::new();
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let mut written = pcap_header(&mut file);
    while written < bytes {
        let second = written / 300_000;
        let micros = written % 300_000 * 10 / 3;
        let frame = match random.u32(0..1000) {
            0..5 => senders
                .syn(&mut random, second, &mut expected)
                .frame(SYN, 0),
            // What else belongs to a mail that is sent, and is no attempt.
            5..15 => {
                let mut packet = senders.other(&mut random);
                packet.protocol = "TCP";
                packet.destination_port = 25;
                packet.frame(ACK, random.usize(0..1460))
            }
            15..20 => {
                let mut packet = senders.other(&mut random);
                packet.protocol = "TCP";
                packet.source_port = 25;
                packet.frame(SYN | ACK, 0)
            }
            20..50 => senders.other(&mut random).frame(SYN, 0),
            50..400 => senders.other(&mut random).frame(ACK, 0),
            400..600 => senders.other(&mut random).frame(ACK, random.usize(0..1460)),
            _ => senders.other(&mut random).frame(ACK, 1460),
        };
        expected.lines += 1;
        expected.records += 1;
        expected.not_tcp += u64::from(frame[23] != 6);
        let time = u64::from(MIDNIGHT) + second;
        written += pcap_record(&mut file, time as u32, micros as u32, &frame);
    }
    file.flush().unwrap();
    expected
}

/// The header of a pcap file of Ethernet frames; answers its length.
fn pcap_header(file: &mut impl Write) -> u64 {
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.write_all(&word.to_le_bytes()).unwrap();
    }
    24
}

/// A frame with its header; answers their length.
fn pcap_record(file: &mut impl Write, seconds: u32, micros: u32, frame: &[u8]) -> u64 {
    let length = frame.len() as u32;
    for word in [seconds, micros, length, length] {
        file.write_all(&word.to_le_bytes()).unwrap();
    }
    file.write_all(frame).unwrap();
    16 + u64::from(length)
}

/// What a device of the office does.
struct Habit {
    host: u8,
    /// Destinations that it uses, in turn or at random.
    servers: &'static [[u8; 4]],
    /// Attempts a working day.
    mails: u32,
    /// SYNs for each attempt: more than one where nobody answers.
    syns: &'static [u32],
}

const SMARTHOST: [[u8; 4]; 1] = [[198, 51, 100, 25]];
const HOSTED: [[u8; 4]; 4] = [
    [203, 0, 113, 10],
    [203, 0, 113, 90],
    [198, 51, 100, 70],
    [192, 0, 2, 70],
];
const OFFICE: [Habit; 11] = [
    habit(10, &SMARTHOST, 24, &[0]),
    habit(11, &SMARTHOST, 31, &[0]),
    habit(12, &HOSTED, 18, &[0]),
    habit(13, &SMARTHOST, 12, &[0]),
    habit(14, &HOSTED, 27, &[0]),
    habit(15, &SMARTHOST, 9, &[0]),
    habit(16, &HOSTED, 22, &[0]),
    habit(17, &SMARTHOST, 15, &[0]),
    // The printer whose smarthost is gone: eleven SYNs for each try.
    habit(
        40,
        &[[192, 0, 2, 199]],
        30,
        &[0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 69],
    ),
    habit(41, &SMARTHOST, 2, &[0]),
    habit(42, &[[198, 51, 100, 140]], 40, &[0]),
];
/// The reception's PC.
const BOT: u8 = 23;

const fn habit(host: u8, servers: &'static [[u8; 4]], mails: u32, syns: &'static [u32]) -> Habit {
    Habit {
        host,
        servers,
        mails,
        syns,
    }
}

/// Midnight at the beginning of 10 March 2026, a Tuesday, at UTC+1.
const MIDNIGHT: u32 = 1_773_097_200;

/// A SYN, or another packet's line, at a second of the day.
enum Event {
    Syn(Packet),
    Daemon(&'static str),
}

/// Writes `office-day.log` (stamps as rsyslog writes them), `.pcap`, `.leases` and `.expected.json`.
fn office(folder: &str) {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut expected = Expected::default();
    let mut events: Vec<(u32, Event)> = Vec::new();
    let mut port = 40_000;
    let mut connect =
        |random: &mut fastrand::Rng, host: u8, destination: Ipv4Addr, at: u32, schedule: &[u32]| {
            port += 1;
            let source = Ipv4Addr::new(192, 168, 1, host);
            for delay in schedule {
                let packet = Packet {
                    source,
                    destination,
                    protocol: "TCP",
                    source_port: port,
                    destination_port: 25,
                    id: random.u16(1..),
                };
                events.push((at + delay, Event::Syn(packet)));
            }
            expected.records += schedule.len() as u64;
            let counts = expected.sources.entry(source).or_default();
            counts.0 += schedule.len() as u64;
            counts.1 += 1;
        };
    for habit in &OFFICE {
        for _ in 0..habit.mails {
            let at = random.u32(8 * 3600..18 * 3600);
            let server = habit.servers[random.usize(0..habit.servers.len())];
            connect(&mut random, habit.host, server.into(), at, habit.syns);
        }
    }
    // Before lunch it is a PC like the others; at 14:05 it begins.
    for at in [9 * 3600, 10 * 3600 + 700, 11 * 3600 + 900] {
        connect(&mut random, BOT, SMARTHOST[0].into(), at, &[0]);
    }
    let mut at = f64::from(14 * 3600 + 5 * 60);
    for _ in 0..412 {
        at += random.f64() * 6.0;
        let to = Ipv4Addr::new(203, 0, random.u8(..112), random.u8(1..255));
        let schedule: &[u32] = if random.u32(0..10) < 3 {
            &[0, 1, 3]
        } else {
            &[0]
        };
        connect(&mut random, BOT, to, at as u32, schedule);
    }
    for _ in 0..600 {
        let daemon = DAEMONS[random.usize(0..DAEMONS.len())];
        events.push((random.u32(0..86_400), Event::Daemon(daemon)));
        expected.other_program += 1;
    }
    events.sort_by_key(|(at, _)| *at);
    expected.lines = events.len() as u64;
    expected.write(&format!("{folder}/office-day.expected.json"));
    let times: Vec<u32> = events.iter().map(|_| random.u32(0..1_000_000)).collect();
    office_log(&format!("{folder}/office-day.log"), &events, &times);
    office_capture(&format!("{folder}/office-day.pcap"), &events, &times);
    office_leases(&format!("{folder}/office-day.leases"));
}

fn office_log(path: &str, events: &[(u32, Event)], micros: &[u32]) {
    let mut log = BufWriter::new(File::create(path).unwrap());
    for ((at, event), micros) in events.iter().zip(micros) {
        let (hour, minute, second) = (at / 3600, at / 60 % 60, at % 60);
        write!(
            log,
            "2026-03-10T{hour:02}:{minute:02}:{second:02}.{micros:06}+01:00 gw "
        )
        .unwrap();
        match event {
            Event::Syn(packet) => {
                write!(log, "kernel: [{:5}.{micros:06}] SMTP-OUT: ", at + 88_000).unwrap();
                packet.write(&mut log, "SYN");
            }
            Event::Daemon(line) => writeln!(log, "{line}").unwrap(),
        }
    }
    log.flush().unwrap();
}

/// pcap: Ethernet, IPv4, TCP without options.
fn office_capture(path: &str, events: &[(u32, Event)], micros: &[u32]) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    pcap_header(&mut file);
    for ((at, event), micros) in events.iter().zip(micros) {
        if let Event::Syn(packet) = event {
            pcap_record(&mut file, MIDNIGHT + at, *micros, &packet.frame(2, 0));
        }
    }
    file.flush().unwrap();
}

/// dnsmasq's: the office's machines, with a day's lease each.
fn office_leases(path: &str) {
    const NAMES: [(u8, &str); 12] = [
        (10, "anna-pc"),
        (11, "accounting"),
        (12, "boss-laptop"),
        (13, "workshop"),
        (14, "sales-1"),
        (15, "sales-2"),
        (16, "ben-laptop"),
        (17, "meeting-room"),
        (23, "reception-pc"),
        (40, "printer"),
        (41, "nas"),
        (42, "camera"),
    ];
    let mut file = BufWriter::new(File::create(path).unwrap());
    for (host, name) in NAMES {
        let expires = MIDNIGHT + 36 * 3600;
        writeln!(
            file,
            "{expires} 02:00:5e:10:01:{host:02x} 192.168.1.{host} {name} 01:02:00:5e:10:01:{host:02x}"
        )
        .unwrap();
    }
    file.flush().unwrap();
}
