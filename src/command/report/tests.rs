//! `report` of a history, as its users run it.

use std::fs;
use std::path::Path;

use clap::Parser;
use serde_json::Value;

use super::*;
use crate::attribution::leases::LeaseBook;
use crate::engine::{Engine, Input, traffic};
use crate::model::{LossKind, SourceName};
use crate::settings::Retention;
use crate::settings::flags::{Flags as Line, Verb};
use crate::store::{Gatherer, Writer};

const START: Timestamp = Timestamp::from_seconds(1_700_000_000);

/// A history in `folder` of `inputs`.
fn watch(folder: &Path, inputs: Vec<(Timestamp, Input)>) {
    let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 7);
    let mut gatherer = Gatherer::new();
    let writer = Writer::start(folder, START, Retention::default()).unwrap();
    for (now, input) in inputs {
        engine.handle(input, now);
        gatherer.note(&engine, now);
    }
    assert!(writer.submit(gatherer.drain(&engine, START)));
    writer.finish();
}

/// Exit status and answer.
fn report(folder: &Path, arguments: &[&str]) -> (u8, String) {
    let output = tempfile::NamedTempFile::new().unwrap();
    let line = [
        "smtpwatch",
        "report",
        "--timezone",
        "UTC",
        "--state-dir",
        folder.to_str().unwrap(),
        "--output",
        output.path().to_str().unwrap(),
    ];
    let line = Line::try_parse_from(line.iter().chain(arguments)).unwrap();
    let Verb::Report(flags) = line.verb else {
        panic!("not a report");
    };
    let status = run(&flags);
    (status, fs::read_to_string(output.path()).unwrap())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn each_format_and_flag_works_on_a_history() {
    let folder = tempfile::tempdir().unwrap();
    watch(folder.path(), traffic::syns(1, START, 2000));
    let (status, answer) = report(folder.path(), &["--json", "--exit-code"]);
    let answer = json(&answer);
    assert_eq!(status, INFECTED);
    assert_eq!(answer["schema"], "smtpwatch.report.v1");
    assert_eq!(answer["inputs"][0]["kind"], "history");
    let (_, table) = report(folder.path(), &["--top", "2"]);
    assert!(table.contains("devices are infected") && table.contains("history.sqlite: "));
    assert!(table.contains("more devices: --top"), "{table}");
    let (_, csv) = report(folder.path(), &["--format", "csv"]);
    assert_eq!(
        csv.lines().count(),
        1 + answer["devices"].as_array().unwrap().len()
    );
    let (_, one_port) = report(folder.path(), &["--json", "--port", "587"]);
    let one_port = json(&one_port);
    assert_eq!(one_port["devices"].as_array().unwrap().len(), 1);
    let arguments = [
        "--json",
        "--since",
        "2023-11-14T22:30:00Z",
        "--until",
        "2023-11-14T22:40:00Z",
    ];
    let (_, part) = report(folder.path(), &arguments);
    let part = json(&part);
    assert_eq!(part["window"]["since"], "2023-11-14T22:30:00Z");
    assert!(part["totals"]["attempts"].as_u64() < answer["totals"]["attempts"].as_u64());
    assert!(part["totals"]["attempts"].as_u64().unwrap() > 10);
}

#[test]
fn a_history_that_lost_something_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let calm = traffic::syns(3, START, 3);
    watch(folder.path(), calm.clone());
    assert_eq!(report(folder.path(), &["--exit-code"]).0, 0);
    let lost = Input::Lost {
        source: SourceName::Nflog,
        kind: LossKind::QueueFull,
        events: 3,
    };
    watch(folder.path(), vec![(START, lost)]);
    let (status, table) = report(folder.path(), &["--exit-code"]);
    assert_eq!(status, BLIND);
    assert!(table.contains("not to be trusted"), "{table}");
    assert_eq!(report(folder.path(), &[]).0, 0);
    // Nobody watched at that time.
    let before = ["--exit-code", "--until", "2023-11-14"];
    assert_eq!(report(folder.path(), &before).0, BLIND);
}

#[test]
fn what_a_history_cannot_be_asked_is_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    watch(folder.path(), traffic::syns(1, START, 10));
    for flags in [
        ["--lan", "10.0.0.0/8"],
        ["--gateway", "10.0.0.1"],
        ["--direction", "inbound"],
        ["--leases", "x"],
        ["--tag", "fw"],
    ] {
        assert_eq!(report(folder.path(), &flags).0, USAGE, "{flags:?}");
    }
    let line = ["smtpwatch", "report", "--state-dir", "x", "messages"];
    assert!(Line::try_parse_from(line).is_err());
}

#[test]
fn no_history_is_a_failure_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(report(folder.path(), &[]).0, FAILED);
    fs::write(
        folder.path().join("history.sqlite"),
        "not a database, that is",
    )
    .unwrap();
    assert_eq!(report(folder.path(), &[]).0, FAILED);
    let name = folder.path().join("history.sqlite");
    assert_eq!(fs::read_to_string(name).unwrap(), "not a database, that is");
}
