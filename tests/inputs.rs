//! Every kind of input gives the same answer, alone, compressed and together.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

const LOG: &str = "tests/corpus/office-day.log";
const CAPTURE: &str = "tests/corpus/office-day.pcap";
const LEASES: &str = "tests/corpus/office-day.leases";

fn smtpwatch(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("smtpwatch").unwrap();
    command.args(arguments).env("TZ", "UTC");
    command
}

fn report(arguments: &[&str]) -> Value {
    let output = smtpwatch(&[&["report", "--json"], arguments].concat())
        .output()
        .unwrap();
    json(&output)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What must agree between kinds of input: each device's counts, verdict and moment of alarm.
fn verdicts(answer: &Value) -> Vec<String> {
    let devices = answer["devices"].as_array().unwrap();
    devices
        .iter()
        .map(|d| {
            format!(
                "{} {} {} {} {} {}",
                d["addresses"][0],
                d["syns"],
                d["attempts"],
                d["destinations"],
                d["verdict"],
                d["findings"]
            )
        })
        .collect()
}

fn compressed(text: &[u8]) -> [(&'static str, Vec<u8>); 4] {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
    xz.write_all(text).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(text).unwrap();
    [
        ("gz", gzip.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
        ("zst", zstd::stream::encode_all(text, 1).unwrap()),
        ("bz2", bzip2.finish().unwrap()),
    ]
}

/// The office's log as journalctl would give it.
fn journal() -> Vec<(i64, bool, String, String)> {
    fs::read_to_string(LOG)
        .unwrap()
        .lines()
        .map(|line| {
            let (stamp, rest) = line.split_once(' ').unwrap();
            let time: jiff::Timestamp = stamp.parse().unwrap();
            let (tag, message) = rest.strip_prefix("gw ").unwrap().split_once(": ").unwrap();
            let name = tag.split('[').next().unwrap().to_owned();
            (
                time.as_microsecond(),
                tag == "kernel",
                name,
                message.to_owned(),
            )
        })
        .collect()
}

fn journal_json() -> Vec<u8> {
    let mut text = Vec::new();
    for (micros, is_kernel, name, message) in journal() {
        let transport = if is_kernel { "kernel" } else { "syslog" };
        let entry = serde_json::json!({
            "__CURSOR": "s=1", "__REALTIME_TIMESTAMP": micros.to_string(), "_TRANSPORT": transport,
            "SYSLOG_IDENTIFIER": name, "MESSAGE": message,
        });
        writeln!(text, "{entry}").unwrap();
    }
    text
}

fn journal_export() -> Vec<u8> {
    let mut text = Vec::new();
    for (index, (micros, is_kernel, name, message)) in journal().into_iter().enumerate() {
        let transport = if is_kernel { "kernel" } else { "syslog" };
        write!(text, "__CURSOR=s=1\n__REALTIME_TIMESTAMP={micros}\n_TRANSPORT={transport}\nSYSLOG_IDENTIFIER={name}\n").unwrap();
        if index % 2 == 0 {
            writeln!(text, "MESSAGE={message}").unwrap();
        } else {
            text.extend_from_slice(b"MESSAGE\n");
            text.extend_from_slice(&(message.len() as u64).to_le_bytes());
            writeln!(text, "{message}").unwrap();
        }
        text.push(b'\n');
    }
    text
}

#[test]
fn log_capture_and_journal_give_the_same_verdicts() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let expected = verdicts(&report(&[LOG]));
    assert_eq!(expected.len(), 12);
    let json = write("journal.json", &journal_json());
    let export = write("journal.export", &journal_export());
    for (input, kind) in [
        (CAPTURE, "pcap"),
        (&json, "netfilter"),
        (&export, "netfilter"),
    ] {
        let answer = report(&[input]);
        assert_eq!(verdicts(&answer), expected, "{input}");
        assert_eq!(answer["inputs"][0]["kind"], kind);
        assert_eq!(answer["inputs"][0]["matched"], 1201);
    }
    // All at once, each attempt and each packet still counts once.
    let together = report(&[LOG, CAPTURE, &json, &export]);
    assert_eq!(verdicts(&together), expected);
    assert_eq!(together["inputs"].as_array().unwrap().len(), 4);
}

#[test]
fn the_journals_word_on_who_wrote_it_counts() {
    let entry = |transport: &str, second: i64| {
        let micros = 1_700_000_000_000_000 + second * 1_000_000;
        format!(
            "{{\"__REALTIME_TIMESTAMP\":\"{micros}\",\"_TRANSPORT\":\"{transport}\",\"SYSLOG_IDENTIFIER\":\"kernel\",\
             \"MESSAGE\":\"IN=eth1 OUT= SRC=192.168.1.23 DST=203.0.{second}.9 PROTO=TCP SPT=1 DPT=25 SYN\"}}\n"
        )
    };
    let forged: String = (0..20).map(|second| entry("syslog", second)).collect();
    let output = smtpwatch(&["report", "--json", "-"])
        .write_stdin(forged)
        .output()
        .unwrap();
    assert_eq!(json(&output)["devices"].as_array().unwrap().len(), 0);
    let genuine: String = (0..20).map(|second| entry("kernel", second)).collect();
    let output = smtpwatch(&["report", "--json", "-"])
        .write_stdin(genuine)
        .output()
        .unwrap();
    assert_eq!(json(&output)["totals"]["infected"], 1);
}

#[test]
fn compressed_inputs_alone_and_from_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    for input in [LOG, CAPTURE] {
        let expected = verdicts(&report(&[input]));
        for (extension, bytes) in compressed(&fs::read(input).unwrap()) {
            let path = folder.path().join(format!("input.{extension}"));
            fs::write(&path, &bytes).unwrap();
            let answer = report(&[path.to_str().unwrap()]);
            assert_eq!(verdicts(&answer), expected, "{input} {extension}");
            assert_eq!(answer["inputs"][0]["bytes"], bytes.len());
            let output = smtpwatch(&["report", "--json", "-"])
                .write_stdin(bytes)
                .output()
                .unwrap();
            assert_eq!(
                verdicts(&json(&output)),
                expected,
                "{input} {extension} from a pipe"
            );
        }
    }
}

#[test]
fn a_capture_without_packets_is_a_capture() {
    let header = fs::read(CAPTURE).unwrap()[..24].to_vec();
    let output = smtpwatch(&["report", "--json", "-"])
        .write_stdin(header)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(json(&output)["inputs"][0]["kind"], "pcap");
}

/// An IPv4 packet of `protocol`; `from_lan` or back to it.
fn packet(from_lan: bool, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let (lan, server) = ([192, 168, 1, 23], [203, 0, 113, 9]);
    let ends = if from_lan {
        [lan, server]
    } else {
        [server, lan]
    };
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![
        0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0,
    ];
    packet.extend(ends.concat());
    packet.extend(payload);
    packet
}

/// A TCP segment of the connection from `port`.
fn segment(from_lan: bool, port: u16, flags: u8, sequence: u32, acknowledgment: u32) -> Vec<u8> {
    let ports = if from_lan { [port, 25] } else { [25, port] };
    let mut header = ports.map(u16::to_be_bytes).concat();
    header.extend(sequence.to_be_bytes());
    header.extend(acknowledgment.to_be_bytes());
    header.extend([0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    packet(from_lan, 6, &header)
}

/// A capture of IP packets at these seconds.
fn capture(packets: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let packets = packets.iter();
    let stamped = packets.map(|(second, packet)| (second * 1_000_000, packet.clone()));
    capture_of(101, stamped)
}

/// A capture of packets of that link type at these microseconds.
fn capture_of(link: u32, packets: impl Iterator<Item = (u32, Vec<u8>)>) -> Vec<u8> {
    let mut file = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0]);
    file.extend(link.to_le_bytes());
    for (micros, packet) in packets {
        let length = u32::try_from(packet.len()).unwrap();
        let (second, micros) = (1_773_149_673 + micros / 1_000_000, micros % 1_000_000);
        for number in [second, micros, length, length] {
            file.extend(number.to_le_bytes());
        }
        file.extend(packet);
    }
    file
}

/// A bot and a desk on one LAN, to the microsecond: when, who, from which port, and to which group.
fn morning() -> Vec<(u32, u8, u16, u8)> {
    let turns = (0..30_u8).flat_map(|turn| {
        let micros = u32::from(turn) * 47_654_321;
        let port = 4_000 + u16::from(turn);
        [(micros, 23, port, turn), (micros + 333, 10, port, turn % 5)]
    });
    turns.collect()
}

/// A frame's attribute for NFLOG, as the kernel on this machine writes it.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap();
    let mut bytes = [length.to_le_bytes(), kind.to_le_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Elapsed time counts in whole seconds, so that the text has all that decides.
#[test]
fn frames_nflog_and_text_of_one_morning_give_the_same_scores_to_the_last_bit() {
    let syn = |who, port, group| {
        let mut packet = segment(true, port, 0x02, u32::from(port), 0);
        packet[15] = who;
        packet[18] = group;
        packet
    };
    let morning = morning();
    let frames = morning.iter().map(|&(micros, who, port, group)| {
        let link = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, who, 8, 0];
        (micros, [link, syn(who, port, group)].concat())
    });
    let nflog = morning.iter().map(|&(micros, who, port, group)| {
        let hardware = attribute(8, &[0, 6, 0, 0, 2, 0, 0, 0, 0, who, 0, 0]);
        let payload = attribute(9, &syn(who, port, group));
        (micros, [vec![2, 0, 0, 5], hardware, payload].concat())
    });
    let lines = morning.iter().map(|&(micros, who, port, group)| {
        let stamp = jiff::Timestamp::from_second(1_773_149_673 + i64::from(micros / 1_000_000));
        format!(
            "{} gw kernel: [1.0] SMTP IN=lan0 OUT=wan0 MAC=02:00:00:00:00:01:02:00:00:00:00:{who:02x}:08:00 \
             SRC=192.168.1.{who} DST=203.0.{group}.9 LEN=40 TOS=0x00 PREC=0x00 TTL=63 ID=0 PROTO=TCP SPT={port} \
             DPT=25 WINDOW=64240 RES=0x00 SYN URGP=0\n",
            stamp.unwrap()
        )
    });
    let told = |input: Vec<u8>| {
        let mut command = smtpwatch(&["report", "--json", "-"]);
        let answer = json(&command.write_stdin(input).output().unwrap());
        let devices = answer["devices"].as_array().unwrap().iter();
        devices
            .map(|device| {
                let findings = device["findings"].as_array().unwrap().iter();
                let said = findings.map(|it| {
                    let second = it["at"].as_str().unwrap()[..19].to_owned();
                    let score = it["score"].as_f64().unwrap().to_bits();
                    (
                        it["detector"].to_string(),
                        score,
                        it["at_attempt"].as_u64(),
                        second,
                    )
                });
                let who = device["addresses"][0].to_string();
                (who, device["verdict"].to_string(), said.collect::<Vec<_>>())
            })
            .collect::<Vec<_>>()
    };
    let frames = told(capture_of(1, frames));
    assert_eq!(frames, told(capture_of(239, nflog)));
    assert_eq!(frames, told(lines.collect::<String>().into_bytes()));
    let verdicts: Vec<_> = frames
        .iter()
        .map(|(_, verdict, _)| verdict.as_str())
        .collect();
    assert_eq!(verdicts, ["\"infected\"", "\"normal\""]);
    assert_eq!(frames[0].2[0].2, Some(8));
}

#[test]
fn a_capture_tells_how_attempts_ended_where_it_holds_both_directions() {
    const SYN: u8 = 0x02;
    let syn = |port| segment(true, port, SYN, 7, 0);
    let unreachable = [&[3, 1, 0, 0, 0, 0, 0, 0], &syn(4003)[..28]].concat();
    let packets = [
        (0, syn(4000)),
        (0, syn(4001)),
        (0, segment(false, 4001, 0x12, 99, 8)),
        (0, segment(true, 4001, 0x10, 8, 100)),
        (1, syn(4002)),
        (1, segment(false, 4002, 0x14, 0, 8)),
        (2, syn(4003)),
        (2, packet(false, 1, &unreachable)),
        // Answered, by whom nobody answers: its source was forged.
        (3, syn(4004)),
        (3, segment(false, 4004, 0x12, 5, 8)),
        (4, segment(false, 4001, 0x14, 100, 8)),
        (200, syn(4005)),
    ];
    let told = |packets: &[(u32, Vec<u8>)]| {
        let output = smtpwatch(&["report", "--json", "-"])
            .write_stdin(capture(packets))
            .output()
            .unwrap();
        let answer = json(&output);
        let device = &answer["devices"][0];
        let input = &answer["inputs"][0];
        assert_eq!(
            (&input["matched"], &device["attempts"]),
            (&6.into(), &6.into())
        );
        assert_eq!(input["records"], packets.len());
        let count = |name: &str| device["outcomes"][name].as_u64().unwrap();
        let names = [
            "answered",
            "refused",
            "unreachable",
            "unanswered",
            "unknown",
        ];
        (names.map(count), device["completed"].as_u64().unwrap())
    };
    assert_eq!(told(&packets), ([2, 1, 1, 1, 1], 1));
    let one_direction: Vec<_> = packets
        .into_iter()
        .filter(|(_, packet)| packet[12] == 192)
        .collect();
    assert_eq!(told(&one_direction), ([0, 0, 0, 0, 6], 0));
}

#[test]
fn a_capture_that_cannot_be_read_is_not_to_be_trusted() {
    let mut capture = fs::read(CAPTURE).unwrap();
    capture[20] = 105; // IEEE 802.11
    let output = smtpwatch(&["report", "--exit-code", "-"])
        .write_stdin(capture)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(
        text(&output.stderr).contains("1201 of 1201 packets cannot be read"),
        "{output:?}"
    );
}

/// A journal is told by what journald alone sets, wherever it begins.
#[test]
fn entries_in_pieces_of_a_journal_name_nobody_wrongly() {
    let forged =
        "MESSAGE=IN=eth1 OUT= SRC=192.168.1.23 DST=203.0.113.9 PROTO=TCP SPT=1 DPT=25 SYN\n";
    for before in ["", "\n", "__SEQNUM=9\n", "ut off\n\n"] {
        let export =
            format!("{before}__REALTIME_TIMESTAMP=1700000000000000\n_TRANSPORT=stdout\n{forged}\n");
        let output = smtpwatch(&["report", "--json", "-"])
            .write_stdin(export)
            .output()
            .unwrap();
        assert_eq!(json(&output)["totals"]["syns"], 0, "{before:?}");
    }
    let hint = [
        b"Hint: you see only your own messages\n".to_vec(),
        journal_json(),
    ]
    .concat();
    let output = smtpwatch(&["report", "--json", "-"])
        .write_stdin(hint)
        .output()
        .unwrap();
    assert_eq!(json(&output)["totals"]["syns"], 1201);
}

#[test]
fn what_is_cut_off_counts_up_to_there_and_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for (extension, bytes) in compressed(&fs::read(LOG).unwrap()) {
        let path = folder.path().join(format!("cut.{extension}"));
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let output = smtpwatch(&["report", "--json", path.to_str().unwrap()])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{extension}");
        assert!(
            text(&output.stderr).contains("cannot be read"),
            "{extension}: {output:?}"
        );
        // bzip2 gives nothing before a block of 900 KB is whole.
        if extension != "bz2" {
            assert!(
                json(&output)["totals"]["attempts"].as_u64().unwrap() > 50,
                "{extension}"
            );
        }
    }
    let capture = fs::read(CAPTURE).unwrap();
    let path = folder.path().join("cut.pcap");
    fs::write(&path, &capture[..capture.len() / 2 + 7]).unwrap();
    let answer = report(&[path.to_str().unwrap()]);
    assert_eq!(answer["inputs"][0]["skipped"]["cut off"], 1);
    assert!(answer["totals"]["syns"].as_u64().unwrap() > 500);
}

#[test]
fn a_window_that_is_too_large_is_refused_with_the_reason() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.write_all(&fs::read(LOG).unwrap()).unwrap();
    let bytes = encoder.finish().unwrap();
    let output = smtpwatch(&["report", "-"])
        .write_stdin(bytes)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("takes a window over 128 MiB"),
        "{output:?}"
    );
}

/// A rotated set, compressed or not, is read in the order of time, whatever its names say.
#[test]
fn a_rotated_set_is_one_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = fs::read_to_string(LOG).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    let write = |name: &str, lines: &[&str]| {
        let text = lines.join("\n") + "\n";
        let bytes = match Path::new(name)
            .extension()
            .and_then(|extension| extension.to_str())
        {
            Some("gz") => compressed(text.as_bytes())[0].1.clone(),
            Some("xz") => compressed(text.as_bytes())[1].1.clone(),
            _ => text.into_bytes(),
        };
        fs::write(folder.path().join(name), bytes).unwrap();
    };
    write("messages", &lines[1400..]);
    write("messages.1", &lines[900..1400]);
    write("messages.2.gz", &lines[400..900]);
    write("messages-20260310.xz", &lines[..400]);
    let answer = report(&[folder.path().to_str().unwrap()]);
    assert_eq!(verdicts(&answer), verdicts(&report(&[LOG])));
    assert_eq!(answer["totals"]["late"], 0);
}

#[test]
fn leases_name_the_devices() {
    let output = smtpwatch(&["report", "--leases", LEASES, LOG])
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    assert!(
        shown.starts_with("192.168.1.23 (reception-pc) is infected\n"),
        "{shown}"
    );
    assert!(
        shown.contains("192.168.1.23 (02:00:5e:10:01:17, reception-pc) contacted"),
        "{shown}"
    );
    let answer = report(&["--leases", LEASES, CAPTURE]);
    let bot = &answer["devices"][0];
    assert_eq!(bot["id"], "02:00:5e:10:01:17");
    assert_eq!(bot["hostname"], "reception-pc");
    assert_eq!(bot["basis"], "lease");
    let output = smtpwatch(&["report", "--leases", LOG, CAPTURE])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("office-day.log: no leases in it"),
        "{output:?}"
    );
    assert!(text(&output.stdout).contains("192.168.1.23 is infected"));
}

#[test]
fn devices_are_listed_in_each_format() {
    for (format, name) in [("table", "devices-table"), ("csv", "devices-csv")] {
        let output = smtpwatch(&["devices", "--leases", LEASES, "--format", format])
            .output()
            .unwrap();
        assert!(output.status.success());
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, text(&output.stdout));
        });
    }
    let output = smtpwatch(&["devices", "--leases", LEASES, "--json"])
        .output()
        .unwrap();
    let listed = json(&output);
    assert_eq!(listed["schema"], "smtpwatch.devices.v1");
    assert_eq!(listed["devices"].as_array().unwrap().len(), 12);
    assert_eq!(listed["devices"][0]["hostname"], "anna-pc");
    let output = smtpwatch(&["devices", "--leases", "/nonexistent"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no such file"));
    // Without a file this machine is asked; what it knows is its own.
    let output = smtpwatch(&["devices", "--json"]).output().unwrap();
    let listed = json(&output);
    assert_eq!(listed["schema"], "smtpwatch.devices.v1");
    for device in listed["devices"].as_array().unwrap() {
        assert!(device["id"].is_string() && device["router"].is_boolean());
    }
}

#[test]
fn explanations_say_who_took_it_and_why_it_counts() {
    let record = "IN=eth1 OUT=eth0 SRC=192.168.1.23 DST=203.0.113.9 PROTO=TCP SPT=1 DPT=25 SYN";
    let kernel = format!("Jun  8 14:34:33 gw kernel: FW: {record}");
    for (line, counts, reason) in [
        (
            kernel.clone(),
            true,
            "in the LAN tries to send mail directly to 203.0.113.9",
        ),
        (
            kernel.replace("kernel:", "app[1]:"),
            false,
            "another program's line (app)",
        ),
        (
            kernel.replace("DPT=25", "DPT=2525"),
            false,
            "port 2525 is not watched",
        ),
        (
            kernel.replace("SYN", "ACK SYN"),
            false,
            "not a SYN without ACK",
        ),
        (
            kernel.replace("203.0.113.9", "192.168.1.1"),
            false,
            "both ends are in the LAN",
        ),
        (
            kernel.replace("192.168.1.23", "198.51.100.1"),
            false,
            "neither end is in the LAN",
        ),
        (
            kernel.replace("DST=203.0.113.9", "DST=203"),
            false,
            "no packet record",
        ),
        (
            "Jun  8 14:34:33 gw last message repeated 3 times".to_owned(),
            false,
            "repeats the line before 3 times",
        ),
        ("hello".to_owned(), false, "unknown line"),
    ] {
        let output = smtpwatch(&["explain", "--json", &line]).output().unwrap();
        assert!(output.status.success(), "{line}");
        let explained = json(&output);
        assert_eq!(explained["counts"], counts, "{line}");
        assert!(
            explained["because"].as_str().unwrap().contains(reason),
            "{explained}"
        );
    }
    let entry = text(
        journal_json()
            .split(|&b| b == b'\n')
            .find(|line| text(line).contains("DPT=25"))
            .unwrap(),
    );
    let explained = json(&smtpwatch(&["explain", "--json", &entry]).output().unwrap());
    assert_eq!(
        (&explained["decoder"], &explained["counts"]),
        (&"journal".into(), &true.into())
    );
    let lease = "1773226800 02:00:5e:10:01:0a 192.168.1.10 anna-pc *";
    assert_eq!(
        json(&smtpwatch(&["explain", "--json", lease]).output().unwrap())["decoder"],
        "dhcp_lease"
    );
    assert_eq!(
        smtpwatch(&["explain", "/nonexistent/messages"])
            .output()
            .unwrap()
            .status
            .code(),
        Some(1)
    );
    let shown = text(&smtpwatch(&["explain", &kernel]).output().unwrap().stdout);
    assert!(
        shown.contains("decoder kernel_log, written by the kernel, time ????-06-08 14:34:33 local"),
        "{shown}"
    );
    assert!(shown.contains("DPT=25 "), "{shown}");
}

#[test]
fn explanations_of_files_and_pipes() {
    for (input, decoder) in [
        (LOG, "kernel_log"),
        (CAPTURE, "packet"),
        (LEASES, "dhcp_lease"),
    ] {
        let output = smtpwatch(&["explain", "--json", "--limit", "3", input])
            .output()
            .unwrap();
        let lines: Vec<Value> = text(&output.stdout)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert!(lines.len() >= 3, "{input}");
        assert!(
            lines.iter().all(|line| line["decoder"] == decoder),
            "{input}: {lines:?}"
        );
    }
    let output = smtpwatch(&["explain", "-"])
        .write_stdin(journal_json())
        .output()
        .unwrap();
    assert!(
        text(&output.stdout).contains("decoder journal"),
        "{output:?}"
    );
    let output = smtpwatch(&["explain", "tests"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("tests: cannot be read"),
        "{output:?}"
    );
}

#[test]
fn an_answer_never_overwrites_the_evidence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("messages");
    fs::copy(LOG, &path).unwrap();
    let path = path.to_str().unwrap();
    let output = smtpwatch(&["report", "--output", path, path])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("is an input"), "{output:?}");
    assert_eq!(fs::read(path).unwrap(), fs::read(LOG).unwrap());
}

/// Reading the ring buffer must not wait for what comes next.
#[test]
fn the_rings_present_content_is_an_answer() {
    let output = smtpwatch(&["report", "--json", "/dev/kmsg"])
        .timeout(std::time::Duration::from_secs(20))
        .output()
        .unwrap();
    if let Some(input) = json(&output)["inputs"].get(0) {
        assert_eq!(input["kind"], "netfilter");
        assert!(input["bytes"].as_u64().unwrap() > 0);
    } else {
        assert!(text(&output.stderr).contains("/dev/kmsg: "), "{output:?}");
    }
}

#[test]
fn without_a_file_the_systems_own_logs_are_read_or_their_absence_is_said() {
    let output = smtpwatch(&["report", "--json"]).output().unwrap();
    let answer = json(&output);
    if answer["inputs"].as_array().unwrap().is_empty() {
        assert!(
            text(&output.stderr).contains("this system has no journal and no log"),
            "{output:?}"
        );
        assert_eq!(output.status.code(), Some(1));
    } else {
        assert!(
            answer["inputs"]
                .as_array()
                .unwrap()
                .iter()
                .all(|input| input["kind"] == "netfilter")
        );
    }
}
