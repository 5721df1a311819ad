//! The same report, whoever knows what it says.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use super::*;
use crate::attribution::leases::LeaseBook;
use crate::engine::{Input, traffic};
use crate::model::{
    Clock, Interface, LossKind, MICROS_PER_SECOND, Observation, Response, ResponseKind, RuleId,
    SourceName, Tuple,
};
use crate::settings::Retention;
use crate::settings::Settings;
use crate::store::{Asked, Gatherer, Writer};
use crate::view::{self, Layout};

const START: Timestamp = Timestamp::from_seconds(1_700_000_000);
const TOP: usize = 10;

/// A state directory that lets in nobody else.
fn private() -> tempfile::TempDir {
    tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .unwrap()
}

/// Runs `inputs` and keeps a history of it in `folder`.
fn watch(folder: &Path, inputs: Vec<(Timestamp, Input)>) -> Engine {
    let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 7);
    let mut gatherer = Gatherer::new();
    let writer = Writer::start(folder, START, Retention::default()).unwrap();
    let mut last = START;
    for (now, input) in inputs {
        engine.handle(input, now);
        gatherer.note(&engine, now);
        last = now;
    }
    assert!(writer.submit(gatherer.drain(&engine, last)));
    let (unwritten, said) = writer.finish();
    assert_eq!((unwritten.attempts, said), (0, Vec::new()));
    engine
}

fn past(folder: &Path) -> Past {
    let asked = Asked {
        window: settings::Window::default(),
        ports: Vec::new(),
        top: TOP,
        max_destinations: 1 << 20,
        seed: 3,
    };
    Past::read(folder, &asked).unwrap()
}

fn json(report: &Report) -> Value {
    let mut value = serde_json::to_value(report).unwrap();
    value["inputs"].take();
    value
}

#[test]
fn the_history_gives_the_report_that_the_run_gave() {
    let mut infected = 0;
    for seed in 0..8 {
        let folder = private();
        let engine = watch(folder.path(), traffic::syns(seed, START, 3000));
        let live = Report::new(&engine, &[], START, TOP);
        let later = Report::of_past(past(folder.path()), &Settings::default(), START);
        assert_eq!(json(&later), json(&live));
        assert_eq!(later.notes.is_infected, live.notes.is_infected);
        infected += later.totals.infected;
        let input = &later.inputs[0];
        let syns: u64 = later
            .totals
            .directions
            .values()
            .map(|count| count.syns)
            .sum();
        assert_eq!((input.kind, input.matched), ("history", syns));
        assert!(input.bytes > 4096 && input.records > 100);
        assert!(!later.notes.is_blind, "{:?}", later.notes.lines);
    }
    assert!(infected > 8);
}

#[test]
fn what_was_lost_makes_it_no_answer_to_trust() {
    let folder = private();
    let mut inputs = traffic::syns(1, START, 30);
    let source = SourceName::Kmsg;
    let (kind, events) = (LossKind::Overwritten, 12);
    let lost = Input::Lost {
        source,
        kind,
        events,
    };
    inputs.push((inputs.last().unwrap().0, lost));
    watch(folder.path(), inputs);
    let report = Report::of_past(past(folder.path()), &Settings::default(), START);
    assert!(report.notes.is_blind);
    assert_eq!(report.inputs[0].lost, 12);
    let told = report.notes.lines.join("\n");
    assert!(
        told.contains("kmsg: 12 events were lost (overwritten)"),
        "{told}"
    );
}

#[test]
fn a_watch_that_ended_long_ago_is_said() {
    let folder = private();
    watch(folder.path(), traffic::syns(1, START, 30));
    let day_later = START.plus_micros(86_400_000_000);
    let report = Report::of_past(past(folder.path()), &Settings::default(), day_later);
    assert!(report.notes.lines[0].contains("smtpwatch watch did not run since"));
    let mut none = past(folder.path());
    none.runs.clear();
    assert!(
        Report::of_past(none, &Settings::default(), START)
            .notes
            .is_blind
    );
}

/// Mail to a server from three networks, on two days, and an attempt of its own.
fn receiving() -> Vec<(Timestamp, Input)> {
    let server: IpAddr = [192, 168, 1, 10].into();
    let syn = |time, source, destination| Observation {
        time,
        clock: Clock::Exact,
        rule: RuleId(1),
        tuple: Tuple {
            source,
            destination,
            source_port: 4000,
            destination_port: 25,
        },
        isn: None,
        ip_id: None,
        mac: None,
        interface: Interface::default(),
        ttl: None,
        vlan: None,
        repeats: 0,
    };
    let mut inputs = Vec::new();
    for (hours, network) in [(0, 1), (1, 2), (24, 3)] {
        let now = START.plus_micros(hours * 3600 * MICROS_PER_SECOND);
        let came = syn(now, [203, 0, network, 9].into(), server);
        let response = Response {
            time: now,
            tuple: came.tuple,
            isn: None,
            kind: ResponseKind::Established,
            outside: None,
            bytes: None,
        };
        inputs.push((now, Input::Syn(came)));
        inputs.push((now, Input::Response(response)));
    }
    let now = START.plus_micros(25 * 3600 * MICROS_PER_SECOND);
    inputs.push((now, Input::Syn(syn(now, server, [203, 0, 9, 9].into()))));
    inputs
}

#[test]
fn who_receives_mail_is_proposed_from_the_history_too() {
    let folder = private();
    let engine = watch(folder.path(), receiving());
    let live = Report::new(&engine, &[], START, TOP);
    let told = json(&live);
    let proposal = &told["proposals"][0];
    assert_eq!(proposal["allow"], "192.168.1.10");
    assert_eq!(
        proposal["because"],
        "receives mail from 3 networks on 2 days"
    );
    let of_past = |settings: &Settings| Report::of_past(past(folder.path()), settings, START);
    assert_eq!(json(&of_past(engine.settings())), told);
    let layout = Layout {
        zone: jiff::tz::TimeZone::UTC,
        top: TOP,
        width: None,
    };
    let mut table = Vec::new();
    view::table(&live, &layout, &mut table).unwrap();
    let table = String::from_utf8(table).unwrap();
    let line = "\n  allow = [\"192.168.1.10\"]   # in [network] of /etc/smtpwatch/smtpwatch.toml: it receives mail";
    assert!(table.contains(line), "{table}");
    // Once it is allowed it is shown as such, whatever was known then.
    let allowing = Settings {
        mail_servers: vec!["192.168.1.10".parse().unwrap()],
        ..Settings::default()
    };
    let allowed = json(&of_past(&allowing));
    assert_eq!(allowed["devices"][0]["verdict"], "allowed");
    assert!(allowed.get("proposals").is_none());
    let now = START.plus_micros(26 * 3600 * MICROS_PER_SECOND);
    let receivers = crate::store::receivers(folder.path(), now).unwrap();
    assert_eq!(receivers.len(), 1);
}
