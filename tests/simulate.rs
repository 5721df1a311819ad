//! `smtpwatch simulate`, as it is called.
#![allow(clippy::unwrap_used)]

use assert_cmd::Command;

fn simulate(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("smtpwatch").unwrap();
    command.arg("simulate").args(arguments);
    command
}

fn stdout(arguments: &[&str]) -> String {
    let output = simulate(arguments)
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    String::from_utf8(output).unwrap()
}

const SMALL: [&str; 6] = ["--profile", "storm,printer", "--seeds", "3", "--days", "1"];

#[test]
fn the_same_seed_gives_the_same_bytes_and_threads_change_nothing() {
    let with = |more: &[&str]| stdout(&[&SMALL[..], more].concat());
    let answer = with(&["--threads", "1"]);
    assert_eq!(answer, with(&["--threads", "2"]));
    assert_ne!(answer, with(&["--seed", "2"]));
    assert!(answer.starts_with("Bots, 3 of each"), "{answer}");
    assert!(answer.contains("\nHonest hosts, 3 of each"), "{answer}");
}

#[test]
fn json_and_csv_say_what_the_table_says() {
    let with = |more: &[&str]| stdout(&[&SMALL[..], &["--detector", "ntopng,own"], more].concat());
    let json: serde_json::Value = serde_json::from_str(&with(&["--json"])).unwrap();
    assert_eq!(json["schema"], "smtpwatch.simulation.v1");
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2 * 4);
    let storm = rows
        .iter()
        .find(|row| row["profile"] == "storm" && row["detector"] == "ntopng")
        .unwrap();
    assert_eq!(storm["found"], 3);
    assert_eq!(storm["found_percent"], 100.0);
    assert!(storm["attempts"]["median"].as_u64().unwrap() >= 6);
    let csv = with(&["--format", "csv"]);
    let mut lines = csv.lines();
    let columns = lines.next().unwrap().split(',').count();
    assert!(
        lines.clone().all(|line| line.split(',').count() == columns),
        "{csv}"
    );
    assert_eq!(lines.count(), rows.len());
}

#[test]
fn what_there_is_not_is_wrong_usage() {
    for wrong in [
        ["--profile", "nobody"],
        ["--detector", "nothing"],
        ["--seeds", "0"],
        ["--days", "0"],
        ["--threads", "0"],
    ] {
        simulate(&wrong).assert().code(2);
    }
}

#[test]
fn the_answer_goes_to_a_file_where_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.txt");
    let arguments = [&SMALL[..], &["--output", path.to_str().unwrap()]].concat();
    assert_eq!(stdout(&arguments), "");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), stdout(&SMALL));
}

#[test]
fn a_preset_decides_how_soon() {
    let attempts = |preset: &str| {
        let arguments = [
            "--profile",
            "pushdo",
            "--detector",
            "novelty",
            "--seeds",
            "9",
            "--json",
        ];
        let json = stdout(&[&arguments[..], &["--preset", preset]].concat());
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        json["rows"][0]["groups"]["median"].as_u64().unwrap()
    };
    let (cautious, balanced, strict) = (
        attempts("cautious"),
        attempts("balanced"),
        attempts("strict"),
    );
    assert_eq!(balanced, 8);
    assert!(
        strict < balanced && balanced < cautious,
        "{strict} {balanced} {cautious}"
    );
}
