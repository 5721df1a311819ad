//! What holds for whatever bytes come: no decoder panics, and a record is read as it is whatever
//! stands around it.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use smtpwatch::decode::clock::{Era, Eras, RecordClock};
use smtpwatch::decode::flows::{Content as Flow, Format, zeek};
use smtpwatch::decode::kernel_log::{Content, Decoder};
use smtpwatch::decode::{stamp, syslog};
use smtpwatch::model::Timestamp;

const RECORD: &str = "IN=eth1 OUT=eth0 MAC=02:00:5e:00:00:01:02:00:5e:10:01:17:08:00 SRC=192.168.1.23 DST=203.0.113.9 \
                      LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=7 DF PROTO=TCP SPT=40001 DPT=25 WINDOW=64240 RES=0x00 SYN URGP=0";

/// Lines made of the words that decoders look for.
fn wordy() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "Jun  8 14:34:33",
        "2022-06-08T14:34:33,123456+02:00",
        "[   12.345678]",
        "<4>",
        "1 ",
        "4,5,6,-;",
        "gw",
        "kernel:",
        "app[1]:",
        "kern.warn",
        "IN=",
        "IN=eth0",
        "PHYSIN=x",
        "OUT=",
        "OUT=eth1",
        "SRC=",
        "SRC=10.0.0.1",
        "DST=203.0.113.9",
        "[SRC=10.0.0.1",
        "]",
        "PROTO=TCP",
        "DPT=25",
        "SYN",
        "ACK",
        "message repeated 3 times: [",
        "last message repeated",
        "\0",
        "\r",
        "=",
        ":",
        "\u{feff}",
        "-",
        "MAC=::",
        "kern  :warn  :",
        "20/Jun/2022:13:09:14 +0200",
        "101 1 x",
    ]);
    let part = prop_oneof![
        4 => word.prop_map(|word: &str| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    (
        prop::collection::vec(part, 0..20),
        prop::sample::select(vec!["", " "]),
    )
        .prop_map(|(parts, between)| parts.join(between.as_bytes()))
}

fn decode(line: &[u8]) {
    let decoder = Decoder::new([b"app".to_vec()]);
    let decoded = decoder.decode(line);
    if let Content::Packet(packet, _) = decoded.content {
        // Whatever counts as a packet has two addresses.
        assert!(packet.addresses().is_some());
        let _ = (
            packet.is_syn(),
            packet.mac(),
            packet.isn(),
            packet.ip_id(),
            packet.interface().name(),
        );
    }
    let now = Timestamp::from_seconds(1_700_000_000);
    let anchor = smtpwatch::decode::clock::Anchor::at_start(now);
    let mut clock = RecordClock::new(anchor, jiff::tz::TimeZone::UTC);
    clock.time(&decoded.stamp, Eras::default().step(&decoded.stamp));
    clock.time(
        &decoded.stamp,
        Era {
            years: i16::MAX,
            boots: u16::MAX,
        },
    );
}

proptest! {
    #[test]
    fn no_bytes_panic(line in prop::collection::vec(any::<u8>(), 0..300)) {
        decode(&line);
        let _ = (stamp::leading(&line), stamp::common_log(&line), syslog::split(&line));
    }

    #[test]
    fn no_words_panic(line in wordy()) {
        decode(&line);
        let _ = stamp::common_log(&line);
    }

    /// Whatever the admin's prefix is, the record behind it is read as it stands.
    #[test]
    fn any_prefix(prefix in "[ -~]{0,60}") {
        prop_assume!(!prefix.contains("IN=") && !prefix.contains("essage repeated"));
        let line = format!("Jun  8 14:34:33 gw kernel: {prefix} {RECORD}");
        let decoder = Decoder::new([]);
        match decoder.decode(line.as_bytes()).content {
            Content::Packet(packet, 0) => {
                prop_assert!(packet.is_syn());
                prop_assert_eq!(packet.source, b"192.168.1.23");
                prop_assert_eq!(packet.destination_port(), Some(25));
                prop_assert_eq!(packet.interface().name(), "eth1");
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    /// A record in another program's line is nobody's, whatever the program says before it.
    #[test]
    fn any_other_program(name in "[a-z][a-z0-9/_.-]{0,20}", words in "[ -~]{0,60}") {
        prop_assume!(!["kernel", "klogd", "ulogd"].contains(&name.as_str()) && !words.starts_with("last message"));
        for line in [
            format!("Jun  8 14:34:33 gw {name}[12]: {words} {RECORD}"),
            format!("2022-06-08T14:34:33.123456+02:00 gw {name}: {words} {RECORD}"),
            format!("<30>1 2022-06-08T14:34:33Z gw {name} 12 - - {words} {RECORD}"),
            format!("[   12.345678] {name}[12]: {words} {RECORD}"),
            format!("12,345,12345678,-;{words} {RECORD}"),
        ] {
            let decoder = Decoder::new([]);
            let content = decoder.decode(line.as_bytes()).content;
            prop_assert!(!matches!(content, Content::Packet(..)), "{}", line);
        }
    }
}

proptest! {
    /// A decoder that watches ports answers the same, only sooner.
    #[test]
    fn watching_ports_changes_no_answer(line in wordy(), has_record: bool, port in prop::sample::select(vec![25_u16, 2, 255, 587])) {
        let line = if has_record { [&line, b" kernel: ".as_slice(), RECORD.as_bytes()].concat() } else { line };
        let whole = Decoder::new([]).decode(&line).content;
        let watching = Decoder::new([]).watching(&[port]);
        match (whole, watching.decode(&line).content) {
            (Content::Packet(a, n), Content::Packet(b, m)) => {
                let wanted = |p: &smtpwatch::decode::kernel_log::Packet<'_>| p.is_syn() && p.destination_port() == Some(port);
                prop_assert_eq!(n, m);
                prop_assert_eq!(wanted(&a), wanted(&b));
                if wanted(&a) {
                    prop_assert_eq!(a, b);
                }
            }
            (a, b) => prop_assert_eq!(a, b),
        }
    }
}

/// Lines made of what logs of connections are made of.
fn flow_line() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\t",
        "-",
        "(empty)",
        "\"",
        "\\u0000",
        "1e400",
        "-1",
        "1.5",
        "18446744073709551616",
        "\"event_type\":\"flow\"",
        "\"event_type\":\"smtp\"",
        "\"proto\":\"TCP\"",
        "\"src_ip\":\"10.0.0.1\"",
        "\"dest_ip\":\"203.0.113.9\"",
        "\"src_port\":1",
        "\"dest_port\":25",
        "\"timestamp\":\"2026-01-01T00:00:00.5+0000\"",
        "\"tcp\":{\"tcp_flags_ts\":\"02\"}",
        "\"oob.in\":\"eth1\"",
        "\"oob.time.sec\":4294967295",
        "\"tcp.syn\":1",
        "\"mac.str\":\"\u{e9}:\"",
        "\"ts\":1e300",
        "\"ts\":1731500520.5",
        "\"id.orig_h\":\"::\"",
        "\"conn_state\":\"S0\"",
        "#separator \\x09",
        "#separator \\x",
        "#fields\tts",
        "#unset_field\t",
        "1731500520.386389",
        "192.168.1.23",
        "25",
        "tcp",
        "SF",
        "ShA",
    ]);
    let part = prop_oneof![
        6 => word.prop_map(|word: &str| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    (
        prop::collection::vec(part, 0..30),
        prop::sample::select(vec!["", ",", "\t"]),
        any::<bool>(),
    )
        .prop_map(|(parts, between, is_object)| {
            let line = parts.join(between.as_bytes());
            if is_object {
                [b"{", line.as_slice(), b"}"].concat()
            } else {
                line
            }
        })
}

proptest! {
    /// Whatever a neighbour's log holds, a line is an attempt with a time, another record, or skipped.
    #[test]
    fn no_connection_panics(lines in prop::collection::vec(flow_line(), 0..6)) {
        let _ = Format::of(&lines.join(&b'\n'));
        for mut format in [Format::Zeek(zeek::Layout::default()), Format::Eve, Format::Ulogd] {
            for line in &lines {
                format.follow(line);
                match format.decode(line) {
                    Flow::Attempt(attempt) => prop_assert_ne!(attempt.stamp, stamp::Stamp::None),
                    Flow::Skipped(skip) => prop_assert!(!skip.reason().is_empty()),
                    Flow::Other => {}
                }
            }
        }
    }
}
