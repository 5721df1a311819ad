//! What is recorded comes back, and gives the same run.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::attribution::leases::LeaseBook;
use crate::engine::{Effect, Engine, Input, traffic};
use crate::settings::{Burst, Ports};

const START: Timestamp = Timestamp::from_seconds(1_700_000_000);

fn settings() -> Settings {
    Settings {
        ports: Ports::new([25, 587]),
        gateway: vec!["192.0.2.1".parse().unwrap()],
        burst: Burst {
            groups: 3,
            within: std::time::Duration::from_micros(3_600_000_001),
        },
        ..Settings::default()
    }
}

/// A recording of `inputs`, in a folder of its own.
fn record(inputs: &[(Timestamp, Input)]) -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.jsonl");
    let header = Header::new(settings(), u64::MAX - 6, START);
    let mut recorder = Recorder::create(&path, &header).unwrap();
    for (now, input) in inputs {
        recorder.write(input, *now);
    }
    recorder.flush().unwrap();
    assert_eq!(recorder.unrecorded(), 0);
    (folder, path)
}

/// All that a run says and knows.
fn run(
    header: &Header,
    inputs: impl IntoIterator<Item = (Timestamp, Input)>,
) -> (Vec<Effect>, Vec<crate::engine::Facts>, String) {
    let mut engine = Engine::new(header.settings.clone(), LeaseBook::default(), header.seed);
    let mut effects = Vec::new();
    for (now, input) in inputs {
        engine.handle(input, now);
        effects.extend_from_slice(engine.effects());
    }
    let devices = engine.devices().map(|(_, device)| device.facts(usize::MAX));
    let devices = devices.collect();
    (effects, devices, format!("{:?}", engine.totals()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_run_that_is_replayed_has_the_same_effects(seed: u64, count in 0_usize..400) {
        let inputs = traffic::inputs(seed, START, count);
        let (_folder, path) = record(&inputs);
        let mut player = Player::open(&path).unwrap();
        let header = player.header().clone();
        prop_assert_eq!(&header, &Header::new(settings(), u64::MAX - 6, START));
        let replayed: Vec<_> = player.by_ref().map(Result::unwrap).collect();
        prop_assert_eq!(&replayed, &inputs);
        prop_assert_eq!(player.cut(), None);
        prop_assert_eq!(run(&header, inputs), run(&header, replayed));
    }

    /// Wherever a crash cuts it: what is whole is replayed, and the cut is told.
    #[test]
    fn a_recording_may_be_cut_anywhere(seed: u64, part in 0.0..1.0_f64) {
        let inputs = traffic::inputs(seed, START, 30);
        let (_folder, path) = record(&inputs);
        let whole = fs::read(&path).unwrap();
        let header = whole.iter().position(|&b| b == b'\n').unwrap() + 1;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place")]
        let kept = header + ((whole.len() - header) as f64 * part) as usize;
        fs::write(&path, &whole[..kept]).unwrap();
        let mut player = Player::open(&path).unwrap();
        let replayed: Vec<_> = player.by_ref().map(Result::unwrap).collect();
        let lines = memchr::memchr_iter(b'\n', &whole[header..kept]).count();
        let is_cut = whole[kept - 1] != b'\n' && whole[kept] != b'\n';
        prop_assert_eq!(&replayed[..lines], &inputs[..lines]);
        prop_assert_eq!(replayed.len(), lines + usize::from(whole[kept - 1] == b'}' && whole[kept] == b'\n'));
        prop_assert_eq!(player.cut().is_some(), is_cut);
    }
}

#[test]
fn a_recording_is_for_its_owner_and_never_written_over() {
    let (_folder, path) = record(&traffic::inputs(1, START, 3));
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let before = fs::read(&path).unwrap();
    let error = Recorder::create(&path, &Header::new(settings(), 1, START)).unwrap_err();
    assert!(error.to_string().contains("give another name"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn each_broken_recording_has_its_own_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.jsonl");
    let open = |text: &str| {
        fs::write(&path, text).unwrap();
        Player::open(&path).unwrap_err().to_string()
    };
    assert!(open("").contains("x.jsonl:1: no recording: it is empty"));
    assert!(open("Jun  8 14:34:33 gw kernel: x\n").contains(":1: no recording: no header"));
    assert!(open("{\"schema\":\"smtpwatch.recording.v9\"}\n").contains("recording.v9"));
    let missing = open("{\"schema\":\"smtpwatch.recording.v1\"}\n");
    assert!(missing.contains("missing field"), "{missing}");
    let (_other, recorded) = record(&traffic::inputs(1, START, 3));
    let text = fs::read_to_string(recorded).unwrap();
    let second = text.lines().nth(1).unwrap();
    fs::write(
        &path,
        text.replacen(second, "{\"now\":1,\"input\":\"nonsense\"}", 1),
    )
    .unwrap();
    let mut player = Player::open(&path).unwrap();
    let error = player.next().unwrap().unwrap_err().to_string();
    assert!(
        error.contains("x.jsonl:2: not an input of the engine"),
        "{error}"
    );
    assert!(player.next().is_none());
}

#[test]
fn a_full_disk_ends_the_recording_and_is_told_once() {
    // Every write to it fails (full(4)).
    let file = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut recorder = Recorder::over("/dev/full".to_owned(), file);
    for (now, input) in traffic::inputs(3, START, 10) {
        recorder.write(&input, now);
    }
    let told = recorder.flush().unwrap_err().to_string();
    assert!(told.contains("the recording ends here"), "{told}");
    recorder.write(&Input::Tick, START);
    recorder.flush().unwrap();
    assert_eq!(recorder.unrecorded(), 1);
}

/// What recording costs; the limit is far above what is measured, for unoptimised builds.
#[test]
fn recording_is_cheap() {
    #[expect(clippy::disallowed_methods, reason = "a measurement")]
    let moment = std::time::Instant::now;
    let inputs = traffic::syns(5, START, 20_000);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.jsonl");
    let mut recorder = Recorder::create(&path, &Header::new(settings(), 1, START)).unwrap();
    let started = moment();
    for (now, input) in &inputs {
        recorder.write(input, *now);
    }
    recorder.flush().unwrap();
    let each = started.elapsed() / 20_000;
    let bytes = fs::metadata(&path).unwrap().len() / 20_000;
    println!("recording: {each:?} and {bytes} bytes an input");
    assert!(each < std::time::Duration::from_micros(200), "{each:?}");
}
