//! `smtpwatch backtest` and `smtpwatch report --device` as their users run them.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

const LOG: &str = "tests/corpus/office-day.log";
const CAPTURE: &str = "tests/corpus/office-day.pcap";
const BOT: &str = "192.168.1.23";

fn run(arguments: &[&str]) -> Output {
    Command::cargo_bin("smtpwatch")
        .unwrap()
        .args(arguments)
        .env("TZ", "UTC")
        .env_remove("NO_COLOR")
        .output()
        .unwrap()
}

fn backtest(arguments: &[&str]) -> Output {
    run(&[&["backtest", "--timezone", "UTC"], arguments].concat())
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// A capture (raw IPv4) of a client that uses its own server, and of a bot that contacts `servers`, a new
/// network every two seconds, from `start` on; each of its connections is answered and completed.
fn capture(folder: &Path, start: u32, servers: u8) -> String {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 101] {
        bytes.extend(word.to_le_bytes());
    }
    for number in 0..servers {
        let (bot, client) = ([192, 168, 1, 23], [192, 168, 1, 10]);
        let at = start + u32::from(number) * 2;
        let port = 40_000 + u16::from(number);
        connection(&mut bytes, at, (client, [198, 51, 100, 25]), port);
        connection(&mut bytes, at, (bot, [203, 0, number, 9]), port);
    }
    let path = folder.join(format!("{start}.pcap"));
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// SYN, SYN/ACK a tenth of a second later, and ACK.
fn connection(to: &mut Vec<u8>, second: u32, (client, server): ([u8; 4], [u8; 4]), port: u16) {
    let (ours, theirs) = (7_000_u32, 9_000_u32);
    packet(
        to,
        (second, 0),
        (client, server),
        (port, 25),
        (ours, 0, 0x02),
    );
    packet(
        to,
        (second, 100_000),
        (server, client),
        (25, port),
        (theirs, ours + 1, 0x12),
    );
    packet(
        to,
        (second, 200_000),
        (client, server),
        (port, 25),
        (ours + 1, theirs + 1, 0x10),
    );
}

fn packet(
    to: &mut Vec<u8>,
    time: (u32, u32),
    (source, destination): ([u8; 4], [u8; 4]),
    ports: (u16, u16),
    (sequence, acknowledged, flags): (u32, u32, u8),
) {
    let mut packet = vec![0x45, 0, 0, 40, 0, 7, 0x40, 0, 63, 6, 0, 0];
    packet.extend(source);
    packet.extend(destination);
    packet.extend(ports.0.to_be_bytes());
    packet.extend(ports.1.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(acknowledged.to_be_bytes());
    packet.extend([0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    let length = u32::try_from(packet.len()).unwrap();
    for word in [time.0, time.1, length, length] {
        to.extend(word.to_le_bytes());
    }
    to.extend(packet);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What was said of the device with `id`.
fn device<'a>(answer: &'a Value, id: &str) -> &'a Value {
    let mut devices = answer["devices"].as_array().unwrap().iter();
    devices.find(|device| device["id"] == id).unwrap()
}

#[test]
fn a_capture_shows_the_block_and_what_it_would_have_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let capture = capture(folder.path(), 1_700_000_000, 40);
    let answer = json(&backtest(&["--json", "--no-learning", &capture]));
    assert_eq!(answer["schema"], "smtpwatch.backtest.v1");
    assert_eq!(
        answer["summary"]["blocked_by_current"],
        serde_json::json!([BOT])
    );
    assert_eq!(answer["summary"]["blocked_by_tried"], Value::Null);
    let current = &device(&answer, BOT)["current"];
    assert_eq!(current["action"], "block");
    assert_eq!(current["verdict"], "infected");
    // The eighth network, in the 15th second: by then seven handshakes have been completed.
    assert_eq!(current["alarm_at"], "2023-11-14T22:13:34Z");
    assert_eq!(current["block_at"], current["alarm_at"]);
    assert_eq!(
        current["out"],
        serde_json::json!({"attempts": 8, "answered": 8})
    );
    assert_eq!(
        current["stopped"],
        serde_json::json!({"attempts": 32, "answered": 32})
    );
    let client = &device(&answer, "192.168.1.10")["current"];
    assert_eq!(
        (&client["action"], &client["out"]["answered"]),
        (&"none".into(), &40.into())
    );
    let report = json(&run(&["report", "--json", &capture]));
    let reported = device(&report, BOT);
    assert_eq!(current["because"], reported["because"]);
    assert_eq!(current["alarm_at"], reported["findings"][0]["at"]);
}

#[test]
fn the_first_days_are_for_learning_and_what_lies_before_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let early = capture(folder.path(), 1_700_000_000, 40);
    let answer = json(&backtest(&["--json", &early]));
    let current = &device(&answer, BOT)["current"];
    assert_eq!(
        (&current["action"], &current["why"]),
        (&"alert".into(), &"learning".into())
    );
    assert_eq!(current["stopped"]["attempts"], 0);
    // The same servers eight days later are new to nobody, and the alarm is that of before.
    let later = capture(folder.path(), 1_700_000_000 + 8 * 86_400, 40);
    let since = "2023-11-20";
    let answer = json(&backtest(&[
        "--json",
        "--no-learning",
        "--since",
        since,
        &early,
        &later,
    ]));
    let current = &device(&answer, BOT)["current"];
    assert_eq!(current["alarm_at"], "2023-11-14T22:13:34Z");
    assert_eq!(current["out"]["attempts"], 0, "{current}");
    assert_eq!(current["stopped"]["attempts"], 40);
    let alone = json(&backtest(&[
        "--json",
        "--no-learning",
        "--since",
        since,
        &later,
    ]));
    assert_eq!(device(&alone, BOT)["current"]["out"]["attempts"], 8);
}

#[test]
fn a_text_log_never_blocks_for_it_does_not_tell_how_attempts_ended() {
    let output = backtest(&["--json", "--no-learning", LOG]);
    assert!(text(&output.stderr).contains("would alert, outcomes unknown"));
    let answer = json(&output);
    let current = &device(&answer, BOT)["current"];
    assert_eq!(current["action"], "alert");
    assert_eq!(current["why"], "outcomes unknown");
    assert_eq!(current["outcomes_known"], false);
    assert_eq!(current["out"]["attempts"], 415);
    assert_eq!(
        answer["summary"]["blocked_by_current"],
        Value::Array(Vec::new())
    );
}

#[test]
fn other_settings_are_compared_with_those_that_hold() {
    let folder = tempfile::tempdir().unwrap();
    let capture = capture(folder.path(), 1_700_000_000, 40);
    let tried = |arguments: &[&str]| {
        json(&backtest(
            &[&["--json", "--no-learning"], arguments, &[&capture]].concat(),
        ))
    };
    let strict = tried(&["--preset", "strict"]);
    assert_eq!(
        strict["summary"]["earlier"][0], BOT,
        "{}",
        strict["summary"]
    );
    let allowed = tried(&["--set", "network.allow=[\"192.168.1.23\"]"]);
    assert_eq!(allowed["summary"]["no_longer"][0], BOT);
    assert_eq!(device(&allowed, BOT)["change"], "no_longer");
    assert_eq!(device(&allowed, BOT)["tried"]["verdict"], "allowed");
    assert_eq!(allowed["settings"].as_array().unwrap().len(), 1);
    let config = folder.path().join("new.toml");
    fs::write(&config, "detection.volume.attempts = 20\n").unwrap();
    let from_file = tried(&["--config", config.to_str().unwrap()]);
    let louder = from_file["summary"]["new"].as_array().unwrap();
    assert!(!louder.is_empty(), "{}", from_file["summary"]);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let output = backtest(&["--set", "detection.burst.grops=3", LOG]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("did you mean detection.burst.groups?"),
        "{said}"
    );
    assert_eq!(backtest(&["--set", "x", LOG]).status.code(), Some(2));
    assert_eq!(backtest(&["/nonexistent/log"]).status.code(), Some(1));
    let folder = tempfile::tempdir().unwrap();
    let none = backtest(&["--state-dir", folder.path().to_str().unwrap()]);
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none.stderr).contains("there is no history here"));
}

#[test]
fn the_table_is_read_at_80_columns_and_csv_by_programs() {
    let arguments = ["--no-learning", "--preset", "strict", CAPTURE];
    let table = text(&backtest(&arguments).stdout);
    let from = table
        .lines()
        .position(|line| line.starts_with("CHANGE"))
        .unwrap();
    let rows: Vec<&str> = table
        .lines()
        .skip(from)
        .take_while(|line| !line.is_empty())
        .collect();
    assert!(rows.len() >= 3, "{table}");
    assert!(rows.iter().all(|row| row.chars().count() <= 80), "{table}");
    assert!(
        table.contains(BOT) && table.contains("detection.preset"),
        "{table}"
    );
    let csv = text(&backtest(&[&["--format", "csv"], &arguments[..]].concat()).stdout);
    let of_bot: Vec<&str> = csv.lines().filter(|line| line.starts_with(BOT)).collect();
    assert_eq!(of_bot.len(), 2, "{csv}");
}

fn evidence(arguments: &[&str]) -> Value {
    let output = run(&[&["report", "--json", "--timezone", "UTC"], arguments].concat());
    json(&output)["device"].clone()
}

#[test]
fn the_evidence_about_a_device_is_shown_and_agrees_with_its_verdict() {
    let evidence = evidence(&["--device", BOT, CAPTURE]);
    let report = json(&run(&["report", "--json", CAPTURE]));
    let reported = device(&report, BOT);
    assert_eq!(evidence["because"], reported["because"]);
    assert_eq!(evidence["findings"], reported["findings"]);
    let attempts = evidence["attempts"].as_array().unwrap();
    assert_eq!(
        attempts.len() as u64,
        reported["attempts"].as_u64().unwrap()
    );
    let decided = attempts.iter().filter(|attempt| attempt["decided"] == true);
    let finding = &evidence["findings"][0];
    assert_eq!(
        decided.count() as u64,
        finding["new_groups"].as_u64().unwrap()
    );
    // The score that decided is among those over time.
    let pace = finding["pace"].as_str().unwrap();
    let mut scores = evidence["scores"].as_array().unwrap().iter();
    let deciding = scores.find(|score| score["time"] == finding["at"]).unwrap();
    assert_eq!(deciding[pace], finding["score"]);
    assert_eq!(evidence["thresholds"][pace], finding["threshold"]);
    let answered = attempts
        .iter()
        .filter(|attempt| attempt["outcome"] == "answered");
    assert_eq!(
        answered.count() as u64,
        reported["outcomes"]["answered"].as_u64().unwrap()
    );
}

#[test]
fn a_device_is_meant_by_its_mac_or_its_name_and_nobody_by_another() {
    let leases = "tests/corpus/office-day.leases";
    let report = json(&run(&["report", "--json", "--leases", leases, LOG]));
    let named = report["devices"].as_array().unwrap().iter().find(|device| {
        let addresses = device["addresses"].as_array().unwrap();
        addresses.contains(&BOT.into())
    });
    let named = named.unwrap();
    for name in [&named["mac"], &named["hostname"], &named["id"]] {
        let Some(name) = name.as_str() else { continue };
        let evidence = evidence(&["--leases", leases, "--device", name, LOG]);
        assert_eq!(evidence["id"], named["id"], "{name}");
    }
    let nobody = run(&["report", "--device", "192.168.1.99", LOG]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody.stderr).contains("made no attempt"));
    let hostile = run(&["report", "--device", "x\u{1b}[2J", LOG]);
    assert!(!text(&hostile.stderr).contains('\u{1b}'));
}

#[test]
fn the_evidence_is_printed_within_bounds() {
    let table = text(&run(&["report", "--timezone", "UTC", "--device", BOT, CAPTURE]).stdout);
    for part in [
        "What decided",
        "Scores",
        "Networks",
        "Attempts",
        "new, decided",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let csv = text(&run(&["report", "--format", "csv", "--device", BOT, CAPTURE]).stdout);
    assert!(csv.starts_with("time,number,source,"), "{csv}");
    assert!(Path::new(CAPTURE).exists() && csv.lines().count() > 400);
}
