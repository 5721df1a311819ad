//! `smtpwatch config`, and what the other verbs take from a configuration.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

const SMTPWATCH: &str = env!("CARGO_BIN_EXE_smtpwatch");
/// Something other than the default for each key.
const OTHER: &str = r#"
timezone = "Europe/Berlin"
[network]
ports = [25, 587]
lan = ["198.51.100.0/24", "2001:db8::/48"]
gateway = ["198.51.100.1"]
routers = ["198.51.100.2", "02:00:00:00:00:01"]
allow = ["198.51.100.25", "198.51.100.128/25", "02:00:00:00:00:02", "probe"]
mail_servers = ["198.51.100.26"]
[watch]
source = ["nflog", "file:/var/log/a \"b\".log", "capture:eth1"]
mode = "observe"
leases = ["/var/lib/misc/dnsmasq.leases"]
[rules]
backend = "iptables"
at = "prerouting"
group = 7
prefix = "spam: "
keep = true
max_heals = 0
[history]
dir = "/srv/smtpwatch"
detail = "2w"
days = "800d"
translations = "36h"
max_size = "1536MiB"
[names]
reverse_dns = false
[detection]
preset = "strict"
[detection.fast]
new_groups_per_day_normal = 3
new_groups_per_day_infected = 60.5
false_alarm_years = 99
free_groups = 0
[detection.slow]
new_groups_per_day_normal = 0.25
new_groups_per_day_infected = 7
false_alarm_years = 12345
free_groups = 5
[detection.lookups]
questions_per_day_normal = 2
questions_per_day_infected = 24
false_alarm_years = 50
[detection.burst]
groups = 5
within = "10m"
[detection.volume]
attempts = 100
within = "90s"
"#;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

/// Its exit status, standard output and standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(SMTPWATCH);
    let output = command.args(arguments).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn answer(arguments: &[&str]) -> String {
    let (status, out, err) = run(arguments);
    assert_eq!((status, err.as_str()), (0, ""), "{arguments:?}");
    out
}

fn name(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Key, value, and origin in words.
fn settings(arguments: &[&str]) -> Vec<(String, Value, String)> {
    let shown: Value = serde_json::from_str(&answer(arguments)).unwrap();
    assert_eq!(shown["schema"], "smtpwatch.config.v1");
    let settings = shown["settings"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    settings
        .iter()
        .map(|it| (text(&it["key"]), it["value"].clone(), text(&it["origin"])))
        .collect()
}

#[test]
fn what_is_shown_can_be_read_again_and_is_the_same() {
    let folder = Folder::new();
    let file = folder.write("a/main.toml", OTHER);
    let given = settings(&["config", "show", "--json", "--config", name(&file)]);
    assert_eq!(given.len(), 36);
    let defaults = settings(&["config", "show", "--json", "--config", "/dev/null"]);
    for ((key, value, origin), (_, default, by_default)) in given.iter().zip(&defaults) {
        assert_eq!(
            (origin.as_str(), by_default.as_str()),
            ("file", "default"),
            "{key}"
        );
        assert_ne!(value, default, "{key}");
    }
    let shown = answer(&["config", "show", "--config", name(&file)]);
    let line = format!("groups = 5 # from {}:44\n", file.display());
    assert!(shown.contains(&line), "{shown}");
    let again = folder.write("b/again.toml", &shown);
    let again = settings(&["config", "show", "--json", "--config", name(&again)]);
    assert_eq!(again, given);
    // Without any file, too.
    let shown = answer(&["config", "show", "--config", "/dev/null"]);
    assert_eq!(shown.matches(" # default\n").count(), 36, "{shown}");
    let again = folder.write("c/again.toml", &shown);
    let again = settings(&["config", "show", "--json", "--config", name(&again)]);
    let values = |all: &[(String, Value, String)]| -> Vec<Value> {
        all.iter().map(|(_, value, _)| value.clone()).collect()
    };
    assert_eq!(values(&again), values(&defaults));
}

#[test]
fn each_value_tells_where_it_came_from() {
    let folder = Folder::new();
    let file = folder.write("main.toml", "[rules]\ngroup = 7\n");
    let lan = folder.write("conf.d/10-lan.toml", "\n[network]\nlan = \"10.0.0.0/8\"\n");
    let shown = answer(&[
        "config",
        "show",
        "--format",
        "table",
        "--config",
        name(&file),
        "--",
        "watch",
        "--port",
        "587",
    ]);
    let row = |key: &str| {
        let line = shown.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        row("network.ports"),
        ["network.ports", "[587]", "command", "line"]
    );
    assert_eq!(row("network.lan")[2], format!("{}:3", lan.display()));
    assert_eq!(row("rules.group")[2], format!("{}:2", file.display()));
    assert_eq!(row("watch.mode"), ["watch.mode", "\"alert\"", "default"]);
    // The verb's own --config counts, too.
    let shown = answer(&["config", "show", "--", "watch", "--config", name(&file)]);
    assert!(shown.contains("group = 7 # from"), "{shown}");
    for arguments in [
        &["config", "show", "--", "replay", "x"][..],
        &["config", "show", "--", "watch", "--nonsense"],
        &["config", "show", "--default", "--json"],
        &["config"],
    ] {
        assert_eq!(run(arguments).0, 2, "{arguments:?}");
    }
}

#[test]
fn the_file_that_comes_with_it_is_right_and_changes_nothing() {
    let folder = Folder::new();
    let template = answer(&["config", "show", "--default"]);
    let file = folder.write("smtpwatch.toml", &template);
    assert_eq!(answer(&["config", "check", name(&file)]), "OK\n");
    assert_eq!(
        settings(&["config", "show", "--json", "--config", name(&file)]),
        settings(&["config", "show", "--json", "--config", "/dev/null"])
    );
}

#[test]
fn check_prints_all_mistakes_of_all_files() {
    let folder = Folder::new();
    let file = folder.write("main.toml", "[network]\nport = 25\nlan = \"x\"\n");
    folder.write("conf.d/a.toml", "[histroy]\ndays = 1\n");
    let (status, out, err) = run(&["config", "check", name(&file)]);
    assert_eq!((status, out.as_str()), (1, ""));
    let expected = [
        "main.toml:2: unknown key \"network.port\": did you mean network.ports?",
        "main.toml:3: network.lan: \"x\": not a network",
        "a.toml:1: unknown section \"histroy\": did you mean history?",
    ];
    assert_eq!(err.lines().count(), expected.len(), "{err}");
    for (line, expected) in err.lines().zip(expected) {
        assert!(line.contains(expected), "{line}: not {expected}");
    }
    let (status, _, err) = run(&["config", "check", "/no/such.toml"]);
    assert_eq!(status, 1);
    assert!(
        err.contains("/no/such.toml: cannot be read: No such file"),
        "{err}"
    );
}

#[test]
fn each_verb_refuses_a_configuration_with_a_mistake() {
    let folder = Folder::new();
    let file = folder.write("main.toml", "\nnetwork.ports = 0");
    for verb in [
        &["watch"][..],
        &["report", "/dev/null"],
        &["rules", "show"],
        &["rules", "install", "--dry-run"],
        &["devices"],
        &["explain", "x"],
        &["config", "show"],
        &["doctor"],
        &["who", "--public-ip", "203.0.113.7", "--at", "1h"],
        &["history", "forget", "192.168.1.23"],
    ] {
        let (status, out, err) = run(&[verb, &["--config", name(&file)]].concat());
        assert_eq!((status, out.as_str()), (1, ""), "{verb:?}: {err}");
        assert!(
            err.contains("main.toml:2: network.ports: is 0"),
            "{verb:?}: {err}"
        );
        assert_eq!(err.lines().count(), 1, "{verb:?}: {err}");
    }
}

/// Where the history is comes from the file for whoever asks it, too; a flag has the last word.
#[test]
fn whoever_asks_the_history_looks_where_the_file_says() {
    let folder = Folder::new();
    let state = folder.0.path().join("state");
    let text = format!(
        "timezone = \"Europe/Berlin\"\nhistory.dir = \"{}\"\n",
        state.display()
    );
    let file = folder.write("main.toml", &text);
    let config = ["--config", name(&file)];
    let who = ["who", "--public-ip", "203.0.113.7", "--at", "1h"];
    let forget = ["history", "forget", "192.168.1.23"];
    for verb in [&who[..], &forget] {
        let (status, out, err) = run(&[verb, &config].concat());
        assert_eq!((status, out.as_str()), (1, ""), "{verb:?}: {err}");
        assert!(err.contains(&format!("{}/", state.display())), "{err}");
        let (_, _, err) = run(&[verb, &config, &["--state-dir", "/no/such"]].concat());
        assert!(err.contains("/no/such/"), "{err}");
        // Where none is kept there is nothing to ask.
        let none = folder.write("none.toml", "[history]\ndir = \"-\"\n");
        let (status, _, err) = run(&[verb, &["--config", name(&none)]].concat());
        let expected = format!(
            "no history is kept: history.dir is \"-\" ({}:2); name one that was: --state-dir DIR",
            none.display()
        );
        assert_eq!(status, 1);
        assert!(err.contains(&expected), "{verb:?}: {err}");
    }
    // What such a verb takes can be shown.
    let shown = answer(
        &[
            &["config", "show", "--"][..],
            &who,
            &config,
            &["--timezone", "UTC"],
        ]
        .concat(),
    );
    assert!(
        shown.contains("timezone = \"UTC\" # command line\n")
            && shown.contains(&format!(
                "dir = \"{}\" # from {}:2",
                state.display(),
                file.display()
            )),
        "{shown}"
    );
}

#[test]
fn a_file_says_the_same_as_the_flags() {
    let folder = Folder::new();
    let text = "[network]\nports = [25, 587]\nlan = \"198.51.100.0/24\"\n[rules]\nat = \"forward\"\n\
        group = 7\nprefix = \"spam: \"\nbackend = \"nft\"\n";
    let file = folder.write("main.toml", text);
    let config = ["--config", name(&file)];
    let none = ["--config", "/dev/null"];
    let flags = "rules show --backend nft --at forward --port 25,587 --group 7 --prefix spam:";
    let flags: Vec<&str> = flags.split(' ').chain(none).collect();
    assert_eq!(
        answer(&[&["rules", "show"][..], &config].concat()),
        answer(&flags)
    );
    // The flags have the last word.
    let shown = answer(&[&["rules", "show", "--group", "8"][..], &config].concat());
    assert!(
        shown.contains("group 8") && !shown.contains("group 7"),
        "{shown}"
    );

    let log = folder.write(
        "log",
        "Jun  8 14:34:33 gw kernel: IN=eth1 OUT=eth0 SRC=198.51.100.7 DST=203.0.113.9 LEN=60 PROTO=TCP SPT=4000 DPT=587 SYN URGP=0\n\
         Jun  8 14:34:34 gw kernel: IN=eth1 OUT=eth0 SRC=192.168.1.7 DST=203.0.113.9 LEN=60 PROTO=TCP SPT=4001 DPT=25 SYN URGP=0\n",
    );
    let report = |more: &[&str]| {
        let arguments = [&["report", "--json", "--quiet", name(&log)], more].concat();
        let mut report: Value = serde_json::from_str(&answer(&arguments)).unwrap();
        report.as_object_mut().unwrap().remove("generated_at");
        report
    };
    let by_flags = report(&[
        "--lan",
        "198.51.100.0/24",
        "--port",
        "25,587",
        none[0],
        none[1],
    ]);
    let by_file = report(&config);
    assert_eq!(by_file, by_flags);
    assert_eq!(by_file["devices"][0]["id"], "198.51.100.7", "{by_file:#}");
    assert_ne!(by_file, report(&none));
}
