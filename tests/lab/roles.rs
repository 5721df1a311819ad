//! Who receives mail: what comes from outside to the gateway's address and is handed on to a server behind
//! it is evidence of the server's role, and of nobody else's.

use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use serde_json::Value;

use crate::harness::{Lab, has_root, succeed};
use crate::watcher::Watcher;

/// The lab has a mail server listen there.
const SERVER: &str = "192.168.77.25";
const PUBLIC: &str = "203.0.113.2";
/// Outside, each in a network of its own.
const OUTSIDE: [&str; 3] = ["198.18.1.25", "198.18.2.25", "198.18.3.25"];
const CONNECT: &str =
    "import socket, sys\nsocket.create_connection((sys.argv[1], 25), 5, (sys.argv[2], 0)).recv(1)";
/// A day, and an hour, in microseconds.
const DAY: i64 = 25 * 3600 * 1_000_000;

fn connect(lab: &Lab, machine: &str, to: &str, from: &str) {
    succeed(
        lab.inside(machine, "python3")
            .args(["-c", CONNECT, to, from]),
    );
}

fn states(folder: &Path) -> Vec<(String, Value)> {
    let history = Connection::open(folder.join("history.sqlite")).unwrap();
    let mut statement = history
        .prepare("SELECT key, state FROM states JOIN devices ON id = device")
        .unwrap();
    let rows = statement.query_map([], |row| {
        let state: String = row.get(1)?;
        Ok((row.get(0)?, serde_json::from_str(&state).unwrap()))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn asked(arguments: &[&str], folder: &Path) -> Value {
    let mut smtpwatch = Command::new(env!("CARGO_BIN_EXE_smtpwatch"));
    smtpwatch
        .args(arguments)
        .args(["--json", "--config", "/dev/null", "--state-dir"]);
    let output = smtpwatch.arg(folder).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn a_server_behind_the_gateway_is_known_by_who_it_answers() {
    if !has_root() {
        return;
    }
    let lab = Lab::up(&[]);
    let publish = format!(
        "add table ip publish; add chain ip publish in {{ type nat hook prerouting priority dstnat; }}; \
         add rule ip publish in iifname wan0 tcp dport 25 dnat to {SERVER}"
    );
    succeed(lab.inside("gw", "nft").arg(publish));
    let watcher = Watcher::start(&lab, &["--source", "nflog,conntrack"]);
    for from in OUTSIDE {
        connect(&lab, "internet", PUBLIC, from);
    }
    // It sends, too, so that it is a device; so does one that nobody sends anything to.
    connect(&lab, "mail", OUTSIDE[0], SERVER);
    connect(&lab, "printer", OUTSIDE[0], "192.168.77.20");
    let watched = watcher.finish();
    let folder = watched.state_dir();
    let states = states(&folder);
    let of = |mac: &str| {
        let key = format!("lan0/{mac}");
        let state = states.iter().find(|(known, _)| *known == key);
        &state.unwrap_or_else(|| panic!("no {key} in {states:?}")).1
    };
    let role = &of("02:00:77:00:00:25")["role"];
    assert_eq!(role["networks"].as_array().map(Vec::len), Some(3), "{role}");
    assert_eq!(
        (&role["days"], &role["is_early"]),
        (&1.into(), &false.into())
    );
    assert!(of("02:00:77:00:00:20").get("role").is_none());
    // On one day, that is nobody's role.
    let report = asked(&["report"], &folder);
    assert!(report.get("proposals").is_none(), "{report}");
    // The same evidence, as if the first of it were a day old.
    let mut aged = of("02:00:77:00:00:25").clone();
    aged["role"]["days"] = 2.into();
    aged["role"]["day"] = (aged["role"]["day"].as_i64().unwrap() - DAY).into();
    let history = Connection::open(folder.join("history.sqlite")).unwrap();
    let changed = history.execute(
        "UPDATE states SET state = ?1 WHERE device = (SELECT id FROM devices WHERE key LIKE '%:25')",
        [aged.to_string()],
    );
    assert_eq!(changed.unwrap(), 1);
    drop(history);
    let report = asked(&["report"], &folder);
    let line = report["devices"]
        .as_array()
        .unwrap()
        .iter()
        .find(|device| device["mac"] == "02:00:77:00:00:25")
        .unwrap();
    assert_eq!(
        (&line["role"]["networks"], &line["role"]["days"]),
        (&3.into(), &2.into())
    );
    let proposed = &report["proposals"][0];
    assert_eq!(proposed["allow"], SERVER);
    let doctor = asked(&["doctor"], &folder);
    let checks = doctor["checks"].as_array().unwrap();
    let check = checks
        .iter()
        .find(|check| check["id"] == "roles.mail_servers");
    let advice = check.unwrap()["advice"].as_str().unwrap();
    let line = format!("allow = [\"{SERVER}\"]   # in [network] of");
    assert!(advice.contains(&line), "{advice}");
    // And who is allowed is shown as such.
    let report = asked(&["report", "--allow", SERVER], &folder);
    assert!(report.get("proposals").is_none(), "{report}");
    let verdicts: Vec<(&Value, &Value)> = report["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|device| (&device["addresses"][0], &device["verdict"]))
        .collect();
    assert!(
        verdicts.contains(&(&SERVER.into(), &"allowed".into())),
        "{verdicts:?}"
    );
}
