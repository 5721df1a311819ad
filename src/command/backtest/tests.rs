//! `backtest`, and `report --device`, of a history.

use std::fs;
use std::net::IpAddr;

use clap::Parser;
use serde_json::Value;

use super::*;
use crate::engine::{Engine, Input};
use crate::model::{
    Clock, Interface, Mac, Observation, Response, ResponseKind, RuleId, Tuple, Verdict,
};
use crate::settings::flags::{Flags as Line, Verb};
use crate::settings::{Retention, Settings};
use crate::store::{Gatherer, Writer};

const START: Timestamp = Timestamp::from_seconds(1_700_000_000);
const DAY: i64 = 86_400;
const BOT: u8 = 23;

fn at(seconds: i64) -> Timestamp {
    START.plus_micros(seconds * 1_000_000)
}

/// A connection of the device with that last octet, which is completed half a second later.
fn connection(second: i64, device: u8, server: IpAddr, port: u16) -> [Input; 2] {
    let tuple = Tuple {
        source: [192, 168, 1, device].into(),
        destination: server,
        source_port: port,
        destination_port: 25,
    };
    let syn = Observation {
        time: at(second),
        clock: Clock::Exact,
        rule: RuleId(0),
        tuple,
        isn: Some(7),
        ip_id: None,
        mac: Some(Mac([2, 0, 0, 0, 0, device])),
        interface: Interface::new(b"eth1"),
        ttl: Some(64),
        vlan: None,
        repeats: 0,
    };
    let answer = Response {
        time: at(second).plus_micros(500_000),
        tuple,
        isn: Some(7),
        kind: ResponseKind::Established,
        outside: None,
        bytes: None,
    };
    [Input::Syn(syn), Input::Response(answer)]
}

/// Ten days: a client that uses its server each hour, and on the ninth a bot that contacts 30 networks, a
/// new one every two seconds.
fn inputs() -> Vec<(Timestamp, Input)> {
    let mut all = Vec::new();
    for hour in 0..240_u16 {
        let second = i64::from(hour) * 3600;
        let server = [198, 51, 100, 25].into();
        all.extend(connection(second, 10, server, 1024 + hour));
    }
    for number in 0..30 {
        let second = 9 * DAY + 17 + i64::from(number) * 2;
        let server = [203, 0, number, 9].into();
        all.extend(connection(second, BOT, server, 2000 + u16::from(number)));
    }
    let time = |input: &Input| match input {
        Input::Syn(observation) => observation.time,
        Input::Response(response) => response.time,
        _ => START,
    };
    let mut all: Vec<_> = all.into_iter().map(|input| (time(&input), input)).collect();
    all.sort_by_key(|(time, _)| *time);
    all
}

/// A history of all that, and the engine that saw it.
fn history(folder: &Path) -> Engine {
    let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 7);
    let mut gatherer = Gatherer::new();
    let writer = Writer::start(folder, START, Retention::default()).unwrap();
    for (now, input) in inputs() {
        engine.handle(input, now);
        gatherer.note(&engine, now);
    }
    assert!(writer.submit(gatherer.drain(&engine, at(10 * DAY))));
    writer.finish();
    engine
}

/// Exit status and answer.
fn answer(verb: &str, folder: &Path, arguments: &[&str]) -> (u8, String) {
    let output = tempfile::NamedTempFile::new().unwrap();
    let line = [
        "smtpwatch",
        verb,
        "--timezone",
        "UTC",
        "--state-dir",
        folder.to_str().unwrap(),
        "--output",
        output.path().to_str().unwrap(),
    ];
    let line = Line::try_parse_from(line.iter().chain(arguments)).unwrap();
    let status = match line.verb {
        Verb::Backtest(flags) => run(&flags),
        Verb::Report(flags) => super::super::report::run(&flags),
        _ => panic!("another verb"),
    };
    (status, fs::read_to_string(output.path()).unwrap())
}

fn json((status, text): (u8, String)) -> Value {
    assert_eq!(status, 0);
    serde_json::from_str(&text).unwrap()
}

fn of<'a>(answer: &'a Value, id: &str) -> &'a Value {
    let mut devices = answer["devices"].as_array().unwrap().iter();
    devices.find(|device| device["id"] == id).unwrap()
}

#[test]
fn a_history_shows_whom_it_would_have_blocked_and_when() {
    let folder = tempfile::tempdir().unwrap();
    let engine = history(folder.path());
    let bot = format!("192.168.1.{BOT}");
    let (_, known) = engine
        .devices()
        .find(|(_, it)| it.key.to_string() == bot)
        .unwrap();
    assert_eq!(known.verdict(), Verdict::Infected);
    let ninth = at(8 * DAY).to_string();
    let asked = ["--json", "--since", &ninth, "--preset", "strict"];
    let found = json(answer("backtest", folder.path(), &asked));
    let current = &of(&found, &bot)["current"];
    // To the second of the alarm it is what the watch said.
    assert_eq!(current["alarm_at"], known.findings[0].at.to_string());
    assert_eq!(current["action"], "block");
    assert_eq!(current["out"]["answered"], 8);
    assert_eq!(current["stopped"]["answered"], 22);
    assert_eq!(found["summary"]["earlier"][0], *bot);
    assert_eq!(found["times_are_spread"], true);
    let client = &of(&found, "192.168.1.10")["current"];
    assert_eq!(
        (&client["action"], &client["out"]["answered"]),
        (&"none".into(), &48.into())
    );
    // The same day among the first seven is for learning.
    let none = json(answer(
        "backtest",
        folder.path(),
        &["--json", "--since", "2023-11-14", "--until", &ninth],
    ));
    assert_eq!(
        none["summary"]["blocked_by_current"],
        Value::Array(Vec::new())
    );
    let (status, _) = answer("backtest", folder.path(), &["--lan", "10.0.0.0/8"]);
    assert_eq!(status, USAGE);
}

#[test]
fn the_evidence_of_a_history_is_that_of_the_watch() {
    let folder = tempfile::tempdir().unwrap();
    let engine = history(folder.path());
    let bot = format!("192.168.1.{BOT}");
    for name in [bot.as_str(), "02:00:00:00:00:17"] {
        let report = json(answer(
            "report",
            folder.path(),
            &["--json", "--device", name],
        ));
        let evidence = &report["device"];
        assert_eq!(evidence["id"], *bot);
        assert_eq!(evidence["because"], of(&report, &bot)["because"]);
        assert_eq!(evidence["attempts"].as_array().unwrap().len(), 30);
        assert_eq!(evidence["scores"].as_array().unwrap().len(), 30);
        let (_, device) = engine
            .devices()
            .find(|(_, it)| it.key.to_string() == bot)
            .unwrap();
        assert_eq!(evidence["because"], crate::engine::because(device));
        let decided = evidence["attempts"].as_array().unwrap().iter();
        let decided = decided.filter(|attempt| attempt["decided"] == true).count();
        assert_eq!(decided as u64, u64::from(device.findings[0].new_groups));
    }
    let (status, text) = answer("report", folder.path(), &["--device", "192.168.1.99"]);
    assert_eq!((status, text.as_str()), (FAILED, ""));
}
