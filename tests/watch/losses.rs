//! What is not seen is said, to the last packet where the kernel tells; and a run that was recorded gives
//! the same events again.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{MACHINE, MACHINE_ADDRESS, MACHINE_MAC, Net, SMTPWATCH, write_lease};
use crate::kernel_log::with_kernel_log;

/// More than NFLOG's queue of 32 MiB holds.
const FLOOD: u32 = 120_000;

#[test]
fn a_full_queue_is_counted_to_the_last_packet() {
    let net = Net::new();
    for has_later in [true, false] {
        let watch =
            net.watch("--source nflog --exit-code --state-dir - --events health,loss,report");
        net.send(0, 10);
        watch.signal(Signal::SIGSTOP);
        net.send(100, FLOOD);
        watch.signal(Signal::SIGCONT);
        if has_later {
            // Its number tells of those before it.
            std::thread::sleep(Duration::from_millis(500));
            net.send(1_000_000, 1);
        }
        let counted = net.counted();
        assert_eq!(counted, u64::from(10 + FLOOD + u32::from(has_later)));
        let ended = watch.end(Signal::SIGTERM);
        let (records, lost) = ended.counts("nflog");
        assert_eq!(records + lost, counted, "{}", ended.err);
        assert!(lost > 0, "the queue holds more than {FLOOD}");
        let report = ended.report();
        assert_eq!(report["totals"]["syns"], records);
        assert!(ended.err.contains("counts are too low"), "{}", ended.err);
        assert_eq!(net.firewall(), "");
    }
}

#[test]
fn a_capture_counts_what_it_dropped() {
    let net = Net::new();
    let watch =
        net.watch("--source capture:lan0 --exit-code --state-dir - --events health,loss,report");
    net.send(0, 10);
    watch.signal(Signal::SIGSTOP);
    net.send(100, FLOOD);
    watch.signal(Signal::SIGCONT);
    std::thread::sleep(Duration::from_millis(500));
    net.send(1_000_000, 1);
    std::thread::sleep(Duration::from_millis(200));
    let ended = watch.end(Signal::SIGTERM);
    let (records, lost) = ended.counts("capture:lan0");
    assert!(lost > 0, "{}", ended.err);
    assert_eq!(records + lost, u64::from(11 + FLOOD), "{}", ended.err);
}

#[test]
fn the_kernels_log_says_what_it_overwrote() {
    let net = Net::new();
    with_kernel_log(true, || {
        let prefix = format!("sw{}l:", std::process::id());
        let watch = net.watch(&format!(
            "--source kmsg --exit-code --state-dir - --prefix {prefix}"
        ));
        net.send(0, 5);
        watch.wait_for_attempts(5);
        watch.signal(Signal::SIGSTOP);
        net.send(100, 5_000);
        watch.signal(Signal::SIGCONT);
        std::thread::sleep(Duration::from_millis(300));
        net.send(1_000_000, 1);
        std::thread::sleep(Duration::from_millis(300));
        let counted = net.counted();
        let ended = watch.end(Signal::SIGTERM);
        let (records, lost) = ended.counts("kmsg");
        assert_eq!(counted, 5_006);
        // Others' messages that were overwritten, too, count as possible losses.
        assert!(
            lost > 0 && records + lost >= counted,
            "{records} + {lost}: {}",
            ended.err
        );
        assert!(ended.err.contains("counts are too low"), "{}", ended.err);
    });
}

/// The rule counts, and in a namespace the kernel logs nothing.
#[test]
fn blindness_is_said_within_a_minute() {
    let net = Net::new();
    with_kernel_log(false, || {
        let watch = net.watch("--source kmsg --exit-code --prefix swblind:");
        net.send(0, 7);
        let blind = watch.wait_for("it is blind", |event| event["notice"] == "blind");
        assert_eq!(blind[0]["packets"], 7);
        let ended = watch.end(Signal::SIGTERM);
        assert_eq!(ended.notices("blind").len(), 1);
        assert_eq!(ended.notices("sees").len(), 0);
        assert_eq!(ended.counts("kmsg"), (0, 7));
        assert_eq!(ended.status, Some(4), "{}", ended.err);
        assert!(ended.err.contains("did not arrive"), "{}", ended.err);
        // The history knows, too.
        let state = net.path("state");
        let report = net.smtpwatch(&format!(
            "report --exit-code --state-dir {}",
            state.display()
        ));
        assert_eq!(report.status, Some(4), "{report:?}");
        assert!(report.out.contains("not to be trusted"), "{report:?}");
    });
}

/// A run with everything in it: leases that change, forged senders, rules that are taken away, losses.
#[test]
fn a_recorded_run_gives_the_same_events_again() {
    let net = Net::new();
    let recording = net.path("run.jsonl");
    let leases = net.path("leases");
    write_lease(&leases, "first-name");
    let watch = net.watch(&format!(
        "--source nflog,capture:lan0 --record {} --state-dir -",
        recording.display()
    ));
    net.send(0, 20);
    watch.wait_for_attempts(20);
    write_lease(&leases, "evil\u{1b}[2J\u{202e}name");
    std::thread::sleep(Duration::from_millis(100));
    net.send(100, 5);
    watch.wait_for_attempts(25);
    // Off-link, and on-link by another MAC than the one that is known.
    net.send_as(200, 5, |_| (MACHINE, Ipv4Addr::new(203, 0, 113, 77)));
    net.send_as(300, 5, |number| {
        (
            [0x02, 0, 0, 0, 9, u8::try_from(number % 250).unwrap()],
            MACHINE_ADDRESS,
        )
    });
    net.gateway("nft flush ruleset");
    watch.wait_for("restored", |event| event["notice"] == "rules_restored");
    net.send(1_000, 2_000);
    std::thread::sleep(Duration::from_millis(200));
    let ended = watch.end(Signal::SIGTERM);
    let kinds = |kind: &str| {
        ended
            .events
            .iter()
            .filter(|event| event["event_type"] == kind)
            .count()
    };
    for kind in ["attempt", "finding", "spoofed", "loss", "health"] {
        assert!(kinds(kind) > 0, "no {kind}");
    }
    let replayed = net.smtpwatch(&format!("replay --format json {}", recording.display()));
    let mut watched = ended.lines.clone();
    assert!(watched.pop().unwrap().contains("\"report\""));
    let mut again: Vec<&str> = replayed.out.lines().collect();
    let report: Value = serde_json::from_str(again.pop().unwrap()).unwrap();
    assert_eq!(report["event_type"], "report", "{report}");
    let differing = watched
        .iter()
        .zip(&again)
        .find(|(one, other)| one != *other);
    assert_eq!(differing, None);
    assert_eq!(watched.len(), again.len());
    assert_eq!(report["report"]["totals"], ended.report()["totals"]);
    assert_eq!(report["report"]["devices"], ended.report()["devices"]);
    assert!(!replayed.err.contains('\u{1b}') && !ended.err.contains('\u{1b}'));
}

/// The clock is set while it runs: recorded, for the machine's own clock is not ours to set.
#[test]
fn a_clock_that_is_set_moves_what_is_shown_and_no_count() {
    let net = Net::new();
    let recording = net.path("run.jsonl");
    let watch = net.watch(&format!(
        "--source nflog --record {} --state-dir -",
        recording.display()
    ));
    net.send(0, 2);
    watch.wait_for_attempts(2);
    std::thread::sleep(Duration::from_millis(1200));
    net.send(100, 2);
    watch.wait_for_attempts(4);
    watch.end(Signal::SIGTERM);
    let hour = 3_600_000_000_i64;
    let text = fs::read_to_string(&recording).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let syns: Vec<usize> = (0..lines.len())
        .filter(|&place| lines[place].contains("\"syn\""))
        .collect();
    assert_eq!(syns.len(), 4, "{text}");
    let at = lines[syns[2]].split([':', ',']).nth(1).unwrap().to_owned();
    lines.insert(
        syns[2],
        format!("{{\"now\":{at},\"input\":{{\"wall_clock\":{}}}}}", -hour),
    );
    let stepped = format!(
        "{{\"now\":{at},\"input\":{{\"notice\":{{\"notice\":\"clock_stepped\",\"micros\":{}}}}}}}",
        -hour
    );
    lines.insert(syns[2] + 1, stepped);
    fs::write(&recording, lines.join("\n") + "\n").unwrap();
    let replayed = net.smtpwatch(&format!("replay --format json {}", recording.display()));
    let events: Vec<Value> = replayed
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |kind: &str| -> Vec<&Value> {
        events
            .iter()
            .filter(|event| event["event_type"] == kind)
            .collect()
    };
    let attempts = of("attempt");
    assert_eq!(attempts.len(), 4);
    let time = |event: &Value| -> jiff::Timestamp {
        event["timestamp"].as_str().unwrap().parse().unwrap()
    };
    let between = time(attempts[1]).as_second() - time(attempts[2]).as_second();
    assert!((3_590..=3_600).contains(&between), "{between}");
    let told: Vec<&Value> = events
        .iter()
        .filter(|event| event["notice"] == "clock_stepped")
        .collect();
    assert_eq!(told.len(), 1);
    assert!(
        told[0]["message"]
            .as_str()
            .unwrap()
            .contains("put back by 1 h"),
        "{}",
        told[0]
    );
    let report = &of("report")[0]["report"];
    assert_eq!(report["totals"]["syns"], 4);
    let device = &report["devices"][0];
    assert_eq!(device["mac"], MACHINE_MAC);
    let seen = |name: &str| -> jiff::Timestamp { device[name].as_str().unwrap().parse().unwrap() };
    // In the time that holds now.
    assert_eq!(seen("last_seen").as_second(), time(attempts[3]).as_second());
    assert!(seen("first_seen") <= seen("last_seen"), "{device:#}");
}

/// Names that attack the terminal, or are of no use.
#[test]
fn hostile_names_harm_nobody() {
    let net = Net::new();
    let long = "x".repeat(5_000);
    let leases = net.path("leases");
    let line = |name: &str| format!("0 {MACHINE_MAC} {MACHINE_ADDRESS} {name} *\n");
    let hostile = [
        "\u{1b}]0;owned\u{7}\u{1b}[2J".to_owned(),
        "a\0b".to_owned(),
        "\u{202e}gnp.exe".to_owned(),
        "=cmd|'/c_calc'!A1".to_owned(),
        "\"},{\"x\":\"".to_owned(),
        long,
    ];
    // Names of interfaces may hold anything but / and space.
    net.shell(
        "ip link set lan0 down; N=$'l\\x1b[5m\"\\\\'; ip link set lan0 name $N; ip link set $N up",
    );
    let watch = net.watch("--source nflog");
    for (place, name) in hostile.iter().enumerate() {
        fs::write(&leases, line(name)).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        net.send(u32::try_from(place).unwrap() * 100, 12);
        watch.wait_for_attempts((place + 1) * 12);
    }
    // Every line of it is checked for control characters as it is read.
    let ended = watch.end(Signal::SIGTERM);
    let is_clean = |text: &str| {
        !text
            .chars()
            .any(|c| (c.is_control() && c != '\n') || c == '\u{202e}')
    };
    assert!(is_clean(&ended.err), "{:?}", ended.err);
    assert!(
        ended.attempts()[0]["in_iface"]
            .as_str()
            .unwrap()
            .starts_with('l')
    );
    for name in &hostile {
        fs::write(&leases, line(name)).unwrap();
        let script = format!(
            "{SMTPWATCH} watch --source nflog --format table --for 1s --state-dir - --leases {} 2>&1",
            leases.display()
        );
        if name.len() > 100 {
            let said = net.shell(&script);
            assert!(is_clean(&said), "{said:?}");
        }
    }
    let state = net.path("state");
    let report = net.smtpwatch(&format!("report --state-dir {}", state.display()));
    assert!(is_clean(&report.out) && is_clean(&report.err), "{report:?}");
    assert!(report.out.contains("192.0.2.10"), "{report:?}");
    // Rules with odd prefixes are refused before anything is made.
    for prefix in [
        "",
        "a\"b",
        "a;b",
        "a{b",
        "x\u{1b}[2J",
        "a-prefix-that-is-far-longer-than-nflog-and-log-take-of-it",
    ] {
        let mut command = net.on_gateway(&format!(
            "{SMTPWATCH} watch --source nflog --state-dir - --for 1s --quiet --prefix"
        ));
        let output = command.arg(prefix).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(is_clean(&err), "{err:?}");
        assert!(
            matches!(output.status.code(), Some(0 | 2)),
            "{prefix:?}: {err}"
        );
        assert_eq!(net.firewall(), "");
    }
}
