//! `replay`, as its users run it.

use std::fs;
use std::path::Path;

use clap::Parser;

use super::*;
use crate::attribution::leases::LeaseBook;
use crate::engine::{Engine, traffic};
use crate::model::Timestamp;
use crate::recording::{Header, Recorder};
use crate::settings::Settings;
use crate::settings::flags::{Flags as Line, Verb};

const START: Timestamp = Timestamp::from_seconds(1_700_000_000);

/// Records a run, and answers the events that it printed.
fn watch(recording: &Path) -> String {
    let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 7);
    let header = Header::new(Settings::default(), 7, START);
    let mut recorder = Recorder::create(recording, &header).unwrap();
    let mut events = Vec::new();
    let mut at = START;
    for (now, input) in traffic::inputs(1, START, 2000) {
        recorder.write(&input, now);
        engine.handle(input, now);
        for effect in engine.effects() {
            event::write(effect, &engine, now, &mut events).unwrap();
        }
        at = now;
    }
    let at = engine.wall(at);
    event::write_report(&Report::new(&engine, &[], at, 10), at, &mut events).unwrap();
    recorder.flush().unwrap();
    String::from_utf8(events).unwrap()
}

/// Exit status and what is printed.
fn replay(recording: &Path, arguments: &[&str]) -> (u8, String) {
    let output = tempfile::NamedTempFile::new().unwrap();
    let line = [
        "smtpwatch",
        "replay",
        recording.to_str().unwrap(),
        "--timezone",
        "UTC",
        "--output",
        output.path().to_str().unwrap(),
    ];
    let line = Line::try_parse_from(line.iter().chain(arguments)).unwrap();
    let Verb::Replay(flags) = line.verb else {
        panic!("not a replay");
    };
    let status = run(&flags);
    (status, fs::read_to_string(output.path()).unwrap())
}

#[test]
fn the_events_of_a_run_are_the_same_bytes_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.jsonl");
    let events = watch(&path);
    assert!(events.lines().count() > 1000 && events.contains("finding"));
    assert_eq!(replay(&path, &["--json"]), (0, events));
    let (status, table) = replay(&path, &[]);
    assert_eq!(status, 0);
    assert!(table.contains("devices are infected"), "{table}");
}

#[test]
fn a_broken_line_ends_it_and_fails_and_a_cut_one_only_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.jsonl");
    let events = watch(&path);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() - 9]).unwrap();
    let (status, again) = replay(&path, &["--json"]);
    assert_eq!(status, 0);
    let (again, report) = again.trim_end().rsplit_once('\n').unwrap();
    assert!(events.starts_with(again) && again.len() > events.len() / 2);
    assert!(report.contains(r#""event_type":"report""#), "{report}");
    fs::write(&path, text.replacen("{\"now\"", "{\"then\"", 1)).unwrap();
    assert_eq!(replay(&path, &["--json"]), (FAILED, String::new()));
    assert_eq!(replay(&folder.path().join("none"), &[]).0, FAILED);
}
