//! `smtpwatch report` as its users run it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

const OFFICE: &str = "tests/corpus/office-day.log";
const SYN: &str = "IN=eth1 OUT=eth0 MAC=02:00:5e:00:00:01:02:00:5e:10:01:17:08:00 SRC=192.168.1.23 DST=203.0.113.9 LEN=60 \
                   TOS=0x00 PREC=0x00 TTL=63 ID=7 DF PROTO=TCP SPT=40001 DPT=25 WINDOW=64240 RES=0x00 SYN URGP=0";

fn smtpwatch(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("smtpwatch").unwrap();
    command
        .args(arguments)
        .env("TZ", "UTC")
        .env_remove("NO_COLOR");
    command
}

fn report(arguments: &[&str]) -> Output {
    smtpwatch(&["report", "--timezone", "UTC"])
        .args(arguments)
        .output()
        .unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = report(&[&["--json"], arguments].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder with one log of `lines`, last written at `written` (RFC 3339).
fn log(lines: &[String], written: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("messages");
    fs::write(&path, lines.concat()).unwrap();
    touch(&path, written);
    (folder, path)
}

fn touch(path: &Path, written: &str) {
    let time: jiff::Timestamp = written.parse().unwrap();
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(since_epoch(time))
        .unwrap();
}

fn kernel(stamp: &str, source: &str, port: u16, destination: &str) -> String {
    let record = SYN
        .replace("192.168.1.23", source)
        .replace("203.0.113.9", destination)
        .replace("SPT=40001", &format!("SPT={port}"));
    format!("{stamp} gw kernel: {record}\n")
}

fn since_epoch(time: jiff::Timestamp) -> std::time::SystemTime {
    std::time::UNIX_EPOCH + std::time::Duration::from_secs(time.as_second().unsigned_abs())
}

/// A bot's lines: a new network each second from 10:00:00 on.
fn bot(count: u8) -> Vec<String> {
    (0..count)
        .map(|i| {
            kernel(
                &format!("Mar 10 10:00:{i:02}"),
                "192.168.1.23",
                40_000 + u16::from(i),
                &format!("203.0.{i}.9"),
            )
        })
        .collect()
}

fn filtered(name: &str, text: &str) {
    insta::with_settings!({
        filters => vec![(r#""generated_at": "[^"]+""#, r#""generated_at": "NOW""#)],
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, { insta::assert_snapshot!(name, text) });
}

#[test]
fn the_offices_day_names_the_bot_in_each_format() {
    for (format, name) in [
        ("table", "office-table"),
        ("json", "office-json"),
        ("csv", "office-csv"),
    ] {
        let output = report(&["--top", "3", "--format", format, OFFICE]);
        assert!(output.status.success());
        assert_eq!(text(&output.stderr), "");
        filtered(name, &text(&output.stdout));
    }
}

#[test]
fn the_offices_day_is_right_to_the_last_count() {
    let expected: Value =
        serde_json::from_slice(&fs::read("tests/corpus/office-day.expected.json").unwrap())
            .unwrap();
    let answer = json(&[OFFICE]);
    assert_eq!(answer["inputs"][0]["records"], expected["records"]);
    assert_eq!(
        answer["inputs"][0]["skipped"]["other program"],
        expected["other_program"]
    );
    assert_eq!(answer["totals"]["syns"], expected["syns"]);
    assert_eq!(answer["totals"]["attempts"], expected["attempts"]);
    let devices = answer["devices"].as_array().unwrap();
    assert_eq!(
        devices.len(),
        expected["sources"].as_object().unwrap().len()
    );
    for device in devices {
        let counts = &expected["sources"][device["id"].as_str().unwrap()];
        assert_eq!(
            (&device["syns"], &device["attempts"]),
            (&counts["syns"], &counts["attempts"])
        );
        let verdict = if device["id"] == "192.168.1.23" {
            "infected"
        } else {
            "normal"
        };
        assert_eq!(device["verdict"], verdict, "{device}");
    }
}

#[test]
fn the_exit_status_tells_the_answer_only_if_asked() {
    assert_eq!(report(&[OFFICE]).status.code(), Some(0));
    assert_eq!(report(&["--exit-code", OFFICE]).status.code(), Some(3));
    let (_folder, calm) = log(&bot(3), "2026-03-11T00:00:00Z");
    assert_eq!(
        report(&["--exit-code", calm.to_str().unwrap()])
            .status
            .code(),
        Some(0)
    );
    // 3 before 4 before 1.
    let late: Vec<String> = (0..9)
        .rev()
        .map(|minute| {
            kernel(
                &format!("Mar 10 10:0{minute}:00"),
                "10.0.0.1",
                minute,
                "203.0.113.9",
            )
        })
        .collect();
    let (_folder, late) = log(&late, "2026-03-11T00:00:00Z");
    let late = late.to_str().unwrap();
    assert_eq!(
        report(&["--exit-code", late, "/nonexistent"]).status.code(),
        Some(4)
    );
    assert_eq!(
        report(&["--exit-code", late, OFFICE, "/nonexistent"])
            .status
            .code(),
        Some(3)
    );
    assert_eq!(
        report(&["--exit-code", OFFICE, "/nonexistent"])
            .status
            .code(),
        Some(3)
    );
    assert_eq!(
        report(&["--exit-code", calm.to_str().unwrap(), "/nonexistent"])
            .status
            .code(),
        Some(1)
    );
}

#[test]
fn an_input_that_cannot_be_read_does_not_hide_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let noise = folder.path().join("noise");
    fs::write(&noise, b"\x7fELF\x02\x01\x01\0\0\0").unwrap();
    let words = folder.path().join("words");
    fs::write(&words, "once upon a time\n").unwrap();
    for (path, message) in [
        ("/nonexistent", "/nonexistent: no such file or folder"),
        (noise.to_str().unwrap(), "a program; expected"),
        (
            words.to_str().unwrap(),
            "neither a time stamp nor a packet record in it; expected",
        ),
    ] {
        let output = report(&["--json", path, OFFICE]);
        assert_eq!(output.status.code(), Some(1), "{path}");
        assert!(
            text(&output.stderr).contains(message),
            "{}",
            text(&output.stderr)
        );
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["totals"]["infected"], 1, "{path}");
    }
}

#[test]
fn without_the_right_to_read_it_says_so() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::write(closed.join("messages"), SYN).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read anything, so it runs as nobody, from a place that nobody may enter.
    let program = folder.path().join("smtpwatch");
    fs::copy(assert_cmd::cargo::cargo_bin("smtpwatch"), &program).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["report", "--exit-code"])
        .arg(&closed)
        .output()
        .unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(
        text(&output.stderr).contains("closed: no right to read it"),
        "{output:?}"
    );
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn wrong_usage_is_explained() {
    for (arguments, message) in [
        (&["--lan", "10.0.0.0/33", OFFICE][..], "not a network"),
        (&["--since", "soon", OFFICE], "--since \"soon\" is no time"),
        (
            &["--since", "1h", "--until", "2h", OFFICE],
            "nothing lies between them",
        ),
        (&["--port", "0", OFFICE], "0 is not in 1..=65535"),
        (
            &["--format", "yaml", OFFICE],
            "possible values: table, json, csv",
        ),
    ] {
        let output = report(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            text(&output.stderr).contains(message),
            "{}",
            text(&output.stderr)
        );
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn folders_and_standard_input() {
    let (folder, _) = log(&bot(12), "2026-03-11T00:00:00Z");
    fs::write(folder.path().join("picture"), b"\x89PNG\r\n\x1a\n\0\0").unwrap();
    let answer = json(&[folder.path().to_str().unwrap()]);
    assert_eq!(answer["inputs"].as_array().unwrap().len(), 1);
    assert_eq!(answer["totals"]["infected"], 1);
    let output = report(&["--verbose", folder.path().to_str().unwrap()]);
    assert!(
        text(&output.stderr).contains("picture: neither a time stamp nor"),
        "{output:?}"
    );
    let output = smtpwatch(&["report", "--json", "-"])
        .write_stdin(bot(12).concat())
        .output()
        .unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["inputs"][0]["name"], "standard input");
    assert_eq!(answer["totals"]["attempts"], 12);
    let empty = tempfile::tempdir().unwrap();
    let output = report(&[empty.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no file in this folder is of a known kind"));
}

#[test]
fn the_same_packet_in_two_files_counts_once() {
    let (_one, first) = log(&bot(12), "2026-03-11T00:00:00Z");
    let (_two, second) = log(&bot(12), "2026-03-11T00:00:00Z");
    let answer = json(&[first.to_str().unwrap(), second.to_str().unwrap()]);
    assert_eq!(answer["totals"]["syns"], 12);
    assert_eq!(answer["totals"]["attempts"], 12);
    assert_eq!(answer["inputs"][1]["matched"], 12);
}

#[test]
fn a_rotated_set_is_one_log_over_new_year() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, lines: &[String], written: &str| {
        let path = folder.path().join(name);
        fs::write(&path, lines.concat()).unwrap();
        touch(&path, written);
    };
    let line = |stamp: &str, port| kernel(stamp, "192.168.1.23", port, "203.0.113.9");
    write(
        "messages",
        &[line("Jan  1 00:00:40", 1), line("Jan  2 08:00:00", 2)],
        "2026-01-02T09:00:00Z",
    );
    write(
        "messages.1",
        &[line("Dec 30 08:00:00", 3), line("Jan  1 00:00:10", 1)],
        "2026-01-01T00:00:11Z",
    );
    let answer = json(&[folder.path().to_str().unwrap()]);
    assert_eq!(answer["window"]["since"], "2025-12-30T08:00:00Z");
    assert_eq!(answer["window"]["until"], "2026-01-02T08:00:00Z");
    // The SYN that was sent again after the rotation is no attempt of its own.
    assert_eq!(answer["totals"]["syns"], 4);
    assert_eq!(answer["totals"]["attempts"], 3);
    assert_eq!(answer["totals"]["late"], 0);
}

#[test]
fn other_programs_name_nobody_and_a_tag_is_admitted() {
    let forged: Vec<String> = (0..20)
        .map(|i| {
            format!(
                "Mar 10 10:00:{i:02} gw fw: {}\n",
                SYN.replace("203.0.113.9", &format!("203.0.{i}.9"))
            )
        })
        .collect();
    let (_folder, path) = log(&forged, "2026-03-11T00:00:00Z");
    let path = path.to_str().unwrap();
    let output = report(&["--json", path]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["devices"].as_array().unwrap().len(), 0);
    assert_eq!(answer["inputs"][0]["skipped"]["other program"], 20);
    assert!(text(&output.stderr).contains("--tag fw"));
    assert_eq!(json(&["--tag", "fw", path])["totals"]["infected"], 1);
}

#[test]
fn repeats_add_packets_across_chunks() {
    // The marker begins a chunk of its own: what it repeats is the last line of the one before.
    let filler = format!("Mar 10 09:00:00 gw cron[1]: {}\n", "x".repeat(1000));
    let syn = kernel("Mar 10 10:00:00", "192.168.1.23", 40_001, "203.0.113.9");
    let marker = "Mar 10 10:00:09 gw last message repeated 5 times\n";
    for extra in 0..3 {
        let mut lines = vec![filler.clone(); 256 * 1024 / filler.len() + extra];
        lines.push(syn.clone());
        lines.push(marker.to_owned());
        lines.push(filler.clone());
        lines.push(marker.to_owned());
        lines.push(
            syn.replace("kernel: ", "kernel: message repeated 3 times: [ ")
                .replace("URGP=0", "URGP=0]"),
        );
        let (_folder, path) = log(&lines, "2026-03-11T00:00:00Z");
        let answer = json(&[path.to_str().unwrap()]);
        assert_eq!(answer["totals"]["syns"], 9);
        assert_eq!(answer["totals"]["attempts"], 1);
        assert_eq!(answer["inputs"][0]["skipped"]["repeat marker"], 2);
    }
}

#[test]
fn times_that_are_asked_for() {
    let (_folder, path) = log(&bot(20), "2026-03-11T00:00:00Z");
    let path = path.to_str().unwrap();
    let answer = json(&[
        "--since",
        "2026-03-10 10:00:05",
        "--until",
        "2026-03-10T10:00:10Z",
        path,
    ]);
    assert_eq!(answer["totals"]["attempts"], 5);
    assert_eq!(answer["totals"]["outside_window"], 15);
    assert_eq!(answer["totals"]["infected"], 0);
}

#[test]
fn a_public_lan_is_proposed() {
    let lines: Vec<String> = (0..12_u16)
        .map(|i| {
            kernel(
                &format!("Mar 10 10:00:{i:02}"),
                "198.51.100.7",
                i,
                &format!("203.0.{i}.9"),
            )
        })
        .collect();
    let (_folder, path) = log(&lines, "2026-03-11T00:00:00Z");
    let path = path.to_str().unwrap();
    let output = report(&["--exit-code", path]);
    assert_eq!(output.status.code(), Some(4));
    assert!(
        text(&output.stderr).contains("--lan 198.51.100.0/24"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(
        json(&["--lan", "198.51.100.0/24", path])["totals"]["infected"],
        1
    );
    assert_eq!(json(&["--direction", "all", path])["totals"]["infected"], 1);
}

#[test]
fn hostile_names_reach_neither_terminal_nor_spreadsheet() {
    let line = kernel("Mar 10 10:00:00", "192.168.1.23", 1, "203.0.113.9")
        .replace("IN=eth1", "IN==cmd\x1b[2J");
    let (_folder, path) = log(&[line], "2026-03-11T00:00:00Z");
    let path = path.to_str().unwrap();
    for format in ["table", "csv"] {
        let shown = text(&report(&["--format", format, path]).stdout);
        assert!(!shown.contains('\x1b'), "{shown}");
        assert!(shown.contains("\\u{1b}"), "{shown}");
    }
    assert!(text(&report(&["--format", "csv", path]).stdout).contains(",'=cmd"));
}

#[test]
fn the_answer_goes_where_it_is_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.csv");
    let output = report(&[
        "--format",
        "csv",
        "--output",
        path.to_str().unwrap(),
        OFFICE,
    ]);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), "");
    assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 13);
    let output = report(&["--output", "/nonexistent/report", OFFICE]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/nonexistent/report: cannot be written"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Lines within ten seconds may stand in any order.
    #[test]
    fn any_order_of_neighbours_gives_the_same_answer(order in Just((0_u8..10).collect::<Vec<_>>()).prop_shuffle()) {
        let sorted = bot(10);
        let shuffled: Vec<String> = order.iter().map(|&i| sorted[usize::from(i)].clone()).collect();
        let (_folder, path) = log(&shuffled, "2026-03-11T00:00:00Z");
        let answer = json(&[path.to_str().unwrap()]);
        prop_assert_eq!(&answer["totals"]["attempts"], 10);
        prop_assert_eq!(&answer["totals"]["late"], 0);
        prop_assert_eq!(&answer["devices"][0]["findings"][0]["at"], "2026-03-10T10:00:07Z");
    }

    /// No bytes end the program otherwise than by an answer.
    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
        let output = smtpwatch(&["report", "--json", "-"]).write_stdin(bytes).output().unwrap();
        prop_assert!(matches!(output.status.code(), Some(0 | 1)), "{:?}", output);
        prop_assert!(serde_json::from_slice::<Value>(&output.stdout).is_ok());
    }
}
