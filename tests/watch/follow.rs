//! Logs that are followed: each line counts once, whatever happens to the watch and to the log.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use nix::sys::signal::Signal;
use rusqlite::Connection;
use serde_json::Value;

use crate::harness::{MACHINE_ADDRESS, Net, SMTPWATCH, Watch, eventually};

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Lines of the kernel's, each an attempt of its own, as they are written now.
fn lines(from: u32, count: u32) -> String {
    let mut text = String::new();
    for number in from..from + count {
        let [_, _, high, low] = number.to_be_bytes();
        writeln!(
            text,
            "{} gw kernel: FW: IN=lan0 OUT=wan0 SRC={MACHINE_ADDRESS} DST=198.18.{high}.{low} LEN=60 TTL=63 ID=1 \
             PROTO=TCP SPT={} DPT=25 WINDOW=64240 RES=0x00 SYN URGP=0",
            jiff::Timestamp::now(),
            20_000 + number
        )
        .unwrap();
    }
    text
}

/// A gateway, a log on it, and the history of whoever follows that.
struct Lab {
    net: Net,
    state: String,
}

impl Lab {
    fn new() -> Self {
        let net = Net::new();
        fs::write(net.path("leases"), "").unwrap();
        fs::write(net.path("log"), "").unwrap();
        let state = net.path("state").display().to_string();
        Self { net, state }
    }

    /// Follows the log; nobody reads the events, of which a killed watch may leave half a line.
    fn follow(&self, said: &str) -> Watch {
        let line = format!(
            "{SMTPWATCH} watch --format json --leases {} --state-dir {} --source file:{}",
            self.net.path("leases").display(),
            self.state,
            self.net.path("log").display()
        );
        let watch = Watch::unread(&mut self.net.on_gateway(&line));
        watch.wait_until(said, || watch.errors().contains(said));
        watch
    }

    fn append(&self, from: u32, count: u32) {
        append(&self.net.path("log"), &lines(from, count));
    }

    /// Attempts and SYNs in the history.
    fn kept(&self) -> (u64, u64) {
        let said = self
            .net
            .smtpwatch(&format!("report --json --state-dir {}", self.state));
        let report: Value = serde_json::from_str(&said.out).unwrap_or_default();
        let total = |name: &str| report["totals"][name].as_u64().unwrap_or(0);
        (total("attempts"), total("syns"))
    }
}

#[test]
fn each_line_counts_once_though_the_watch_is_killed() {
    for is_renamed in [false, true] {
        let lab = Lab::new();
        let mut watch = lab.follow("followed from its end on");
        let mut written = 0;
        for round in 0..4 {
            lab.append(written, 200);
            written += 200;
            eventually("something is kept", || {
                lab.kept().0 > u64::from(written - 200)
            });
            // More, of which some may have been read, and kept or not.
            lab.append(written, 300);
            written += 300;
            std::thread::sleep(std::time::Duration::from_millis(300 * round));
            watch.end(Signal::SIGKILL);
            lab.append(written, 100);
            written += 100;
            if is_renamed {
                for age in (1..=round).rev() {
                    let name = |age| lab.net.path(&format!("log.{age}"));
                    fs::rename(name(age), name(age + 1)).unwrap();
                }
                fs::rename(lab.net.path("log"), lab.net.path("log.1")).unwrap();
                lab.append(written, 100);
                written += 100;
            }
            watch = lab.follow("leases");
        }
        lab.append(written, 50);
        written += 50;
        let all = u64::from(written);
        eventually("all is kept", || lab.kept().0 >= all);
        let ended = watch.end(Signal::SIGTERM);
        assert_eq!(ended.status, Some(0), "{}", ended.err);
        assert!(!ended.err.contains("lost"), "{}", ended.err);
        assert_eq!(
            lab.kept(),
            (all, all),
            "renamed: {is_renamed}; {}",
            ended.err
        );
    }
}

#[test]
fn a_place_that_cannot_be_understood_is_said_and_counted() {
    let lab = Lab::new();
    let watch = lab.follow("followed from its end on");
    lab.append(0, 10);
    eventually("it is kept", || lab.kept().0 == 10);
    watch.end(Signal::SIGTERM);
    lab.append(10, 10);
    let history = Connection::open(lab.net.path("state").join("history.sqlite")).unwrap();
    for broken in [
        "garbage",
        "{\"old\":[],\"current\":{\"head\":[9007199254740992,1]}}",
    ] {
        let changed = history
            .execute("UPDATE positions SET position = ?1", [broken])
            .unwrap();
        assert_eq!(changed, 1);
        let watch = lab.follow(
            "cannot be understood; what was written since then is not read (counted as 1 lost)",
        );
        watch.end(Signal::SIGTERM);
    }
    // It goes on from there.
    let watch = lab.follow("leases");
    lab.append(20, 5);
    eventually("what comes then is kept", || lab.kept().0 == 15);
    watch.end(Signal::SIGTERM);
}

#[test]
fn a_cursor_of_the_journals_that_is_none_is_said_and_counted() {
    let lab = Lab::new();
    let watched = |seconds: u32| {
        lab.net.smtpwatch(&format!(
            "watch --format json --source journal --for {seconds}s --leases {} --state-dir {}",
            lab.net.path("leases").display(),
            lab.state
        ))
    };
    let said = watched(2);
    assert_eq!(said.status, Some(0), "{said:?}");
    let history = Connection::open(lab.net.path("state").join("history.sqlite")).unwrap();
    let changed = history
        .execute(
            "UPDATE positions SET position = 's=1; --file=/etc/shadow' WHERE source LIKE '%journal%'",
            [],
        )
        .unwrap();
    assert_eq!(changed, 1, "{said:?}");
    drop(history);
    let said = watched(2);
    let expected = "journal: what was kept of how far it was read is no cursor; it is read from now on, and what came \
                    since is not (counted as 1 lost): journalctl -k -o short-iso | smtpwatch report -";
    assert!(said.err.contains(expected), "{said:?}");
    assert_eq!(said.status, Some(0), "{said:?}");
}

#[test]
fn what_cannot_be_followed_has_words_of_its_own() {
    let net = Net::new();
    fs::create_dir(net.path("folder")).unwrap();
    fs::write(net.path("system.journal"), b"LPKSHHRH\0\0\0\0").unwrap();
    for (name, words) in [
        ("none/log", "the folder of the log must be there"),
        (
            "folder",
            "is a folder, which cannot be followed: `smtpwatch report",
        ),
        (
            "system.journal",
            "is a journal of systemd's, which cannot be followed: --source journal follows it",
        ),
    ] {
        let said = net.smtpwatch(&format!(
            "watch --state-dir - --source file:{}",
            net.path(name).display()
        ));
        assert_eq!(said.status, Some(1), "{said:?}");
        assert!(said.err.contains(words), "{said:?}");
        assert_eq!(said.err.lines().count(), 1, "{said:?}");
    }
}

/// A log that cannot be read for a while is read on where it was left.
#[test]
fn a_source_that_failed_goes_on_where_it_stopped() {
    let net = Net::new();
    let (folder, aside) = (net.path("logs"), net.path("aside"));
    fs::create_dir(&folder).unwrap();
    append(&folder.join("log"), &lines(0, 5));
    let watch = net.watch(&format!("--source file:{}", folder.join("log").display()));
    append(&folder.join("log"), &lines(5, 10));
    watch.wait_for_attempts(10);
    fs::rename(&folder, &aside).unwrap();
    watch.wait_for("it failed", |event| event["notice"] == "source_failed");
    append(&aside.join("log"), &lines(15, 10));
    fs::rename(&aside, &folder).unwrap();
    watch.wait_for_attempts(20);
    append(&folder.join("log"), &lines(25, 10));
    watch.wait_for_attempts(30);
    let ended = watch.end(Signal::SIGTERM);
    assert_eq!(ended.attempts().len(), 30, "{}", ended.err);
}

/// What a report tells of devices: address, attempts, verdict.
fn devices(report: &Value) -> Vec<(String, u64, String)> {
    let devices = report["devices"].as_array().unwrap().iter();
    let mut devices: Vec<_> = devices
        .map(|device| {
            (
                device["addresses"][0].as_str().unwrap().to_owned(),
                device["attempts"].as_u64().unwrap(),
                device["verdict"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    devices.sort();
    devices
}

/// Lines bear the time at which connections began, and are written when they have ended.
#[test]
fn a_log_of_connections_is_followed_to_the_same_answer_as_it_is_read() {
    let net = Net::new();
    let log = net.path("conn.log");
    let header = "#separator \\x09\n#unset_field\t-\n#path\tconn\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tconn_state\thistory\n";
    append(&log, header);
    let begin = jiff::Timestamp::now().as_second() - 3 * 3600;
    // A bot, and two that send now and then; some connections last for most of an hour.
    let mut ended: Vec<(i64, String)> = (0..300_i64)
        .map(|number| {
            let host = if number % 10 == 0 {
                11 + number % 20 / 10
            } else {
                10
            };
            let start = begin + number * 20;
            let lasts = number * 7919 % if number % 7 == 0 { 3000 } else { 60 };
            let to = match host {
                10 => format!("198.18.{}.{}", number % 100, number / 100),
                _ => "198.51.100.25".to_owned(),
            };
            let line = format!(
                "{start}.5\t192.0.2.{host}\t{}\t{to}\t25\ttcp\tSF\tShAdDafF\n",
                30_000 + number
            );
            (start + lasts, line)
        })
        .collect();
    ended.sort();
    // Two hours behind what was written before it.
    ended.push((
        0,
        format!(
            "{}.5\t192.0.2.12\t1\t198.20.1.1\t25\ttcp\tSF\tShAdDafF\n",
            begin - 7200
        ),
    ));
    let watch = net.watch(&format!("--source file:{}", log.display()));
    for lines in ended.chunks(50) {
        let text: String = lines.iter().map(|(_, line)| line.as_str()).collect();
        append(&log, &text);
    }
    watch.wait_for_attempts(301);
    let watched = watch.end(Signal::SIGTERM).report();
    let said = net.smtpwatch(&format!(
        "report --json --lan 192.0.2.0/24 {}",
        log.display()
    ));
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(devices(&watched), devices(&report));
    assert_eq!(watched["totals"]["attempts"], 301);
    assert_eq!(watched["totals"]["late"], 1);
    assert_eq!(report["totals"]["late"], 1);
    let verdicts = devices(&watched).into_iter().map(|(_, _, verdict)| verdict);
    assert_eq!(verdicts.filter(|verdict| verdict == "infected").count(), 1);
}
