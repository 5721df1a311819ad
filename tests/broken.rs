//! Each broken input gives an error of its own, which names what, where, and what to do: here a configuration, a
//! history, lease files and an event that cannot be read. What a watch meets while it runs is among its own tests.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use assert_cmd::Command;
use tempfile::TempDir;

const LOG: &str = "tests/corpus/office-day.log";
const LEASES: &str = "tests/corpus/office-day.leases";

/// Files that are broken, and what is said of them.
struct Broken(TempDir);

impl Broken {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Its exit status and the lines on standard error, the folder's name as DIR.
    fn said(&self, arguments: &[&str]) -> (i32, Vec<String>) {
        let folder = self.0.path().to_str().unwrap();
        let arguments: Vec<String> = arguments
            .iter()
            .map(|it| it.replace("DIR", folder))
            .collect();
        let mut command = Command::cargo_bin("smtpwatch").unwrap();
        let output = command.args(&arguments).env("TZ", "UTC").output().unwrap();
        let said = String::from_utf8(output.stderr)
            .unwrap()
            .replace(folder, "DIR");
        (
            output.status.code().unwrap(),
            said.lines().map(str::to_owned).collect(),
        )
    }
}

#[test]
fn a_configuration() {
    let broken = Broken::new();
    broken.file("main.toml", b"[network]\nprots = 25\n");
    let (status, said) = broken.said(&["report", "--config", "DIR/main.toml", LOG]);
    assert_eq!(
        (status, said),
        (
            1,
            vec![
                "smtpwatch: DIR/main.toml:2: unknown key \"network.prots\": did you mean network.ports?"
                    .to_owned()
            ]
        )
    );
}

#[test]
fn a_history() {
    let broken = Broken::new();
    let path = broken.file("history.sqlite", b"no database");
    let expected = "smtpwatch: DIR/history.sqlite: is no history (file is not a database); smtpwatch watch sets it \
                    aside when it starts, and begins a new one";
    for verb in [
        &["report"][..],
        &["who", "--public-ip", "203.0.113.7", "--at", "1h"],
        &["history", "forget", "192.168.1.23"],
    ] {
        let (status, said) = broken.said(&[verb, &["--state-dir", "DIR"]].concat());
        assert_eq!((status, said), (1, vec![expected.to_owned()]), "{verb:?}");
    }
    assert_eq!(fs::read(path).unwrap(), b"no database");
}

#[test]
fn a_lease_file() {
    let broken = Broken::new();
    broken.file("garbage", b"leases?\n\x00\x01\x02\n");
    fs::create_dir(broken.0.path().join("folder")).unwrap();
    let mut cut = fs::read(LEASES).unwrap();
    cut.truncate(cut.len() - 30);
    broken.file("cut", &cut);
    let give = "give the file that the DHCP server writes its leases to: dnsmasq's, ISC dhcpd's or Kea's (its CSV)";
    for (name, status, expected) in [
        ("garbage", 1, format!("no leases in it; {give}")),
        (
            "folder",
            1,
            format!("leases cannot be read: is a directory; {give}"),
        ),
        ("none", 1, "no such file or folder".to_owned()),
        // What can be read of it counts.
        ("cut", 0, "passed over: cut off 1".to_owned()),
    ] {
        let leases = format!("DIR/{name}");
        for verb in [&["report", LOG][..], &["devices"]] {
            let found = broken.said(&[verb, &["--leases", &leases]].concat());
            let expected = format!("smtpwatch: {leases}: {expected}");
            assert_eq!(found, (status, vec![expected]), "{verb:?}");
        }
    }
}

#[test]
fn an_event() {
    let broken = Broken::new();
    let event = |port: u16| {
        serde_json::json!({
            "timestamp": "2026-03-10T08:00:09.000000+0000", "event_type": "flow", "proto": "TCP",
            "src_ip": "192.168.1.23", "src_port": port, "dest_ip": "203.0.113.9", "dest_port": 25,
            "flow": {"start": "2026-03-10T08:00:00.000000+0000", "reason": "timeout"},
            "tcp": {"tcp_flags_ts": "1b", "tcp_flags_tc": "1b", "state": "closed"},
        })
        .to_string()
    };
    let text = [&event(1)[..], &event(2)[..90], &event(3)[..]].join("\n") + "\n";
    broken.file("eve.json", text.as_bytes());
    assert_eq!(
        broken.said(&["report", "--exit-code", "DIR/eve.json"]),
        (
            0,
            vec![
                "smtpwatch: DIR/eve.json: lines that cannot be read as connections: 1 (broken EVE line 1), that can: \
                 2; smtpwatch explain tells why, line by line"
                    .to_owned()
            ]
        )
    );
    let mut command = Command::cargo_bin("smtpwatch").unwrap();
    let explained = command.arg("explain").arg(broken.0.path().join("eve.json"));
    let explained = String::from_utf8(explained.output().unwrap().stdout).unwrap();
    assert!(
        explained.contains("\n2: does not count: no record of a connection: broken EVE line\n"),
        "{explained}"
    );
}
