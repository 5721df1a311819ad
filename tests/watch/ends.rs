//! How a watch ends, or does not begin: whatever the reason, what was there before is there after, and
//! it is said what to do.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Net, SMTPWATCH, Said, Watch, eventually, now, ok};

/// The arguments that every watch here has.
fn arguments(net: &Net) -> String {
    let leases = net.path("leases");
    fs::write(&leases, "").unwrap();
    format!(
        "watch --source nflog --state-dir - --leases {}",
        leases.display()
    )
}

#[test]
fn each_signal_ends_it_and_so_does_its_time() {
    let net = Net::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let watch = net.watch("--source nflog --exit-code");
        assert_ne!(net.firewall(), "");
        let ended = watch.end(signal);
        assert_eq!(ended.status, Some(0), "{signal}: {}", ended.err);
        assert_eq!(net.firewall(), "", "{signal}");
    }
    let ended = net.start("--source nflog --for 1s").ended();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    assert_eq!(ended.report()["totals"]["attempts"], 0);
    assert_eq!(net.firewall(), "");
}

/// However early the signal comes.
#[test]
fn a_signal_while_it_begins_leaves_nothing() {
    let net = Net::new();
    for millis in (0..400).step_by(40) {
        let watch = net.start("--source nflog --state-dir -");
        std::thread::sleep(Duration::from_millis(millis));
        let ended = watch.end(Signal::SIGTERM);
        assert!(
            matches!(ended.status, Some(0) | None),
            "{millis}: {ended:?}"
        );
        assert_eq!(net.firewall(), "", "after {millis} ms");
    }
}

#[test]
fn nobody_reads_any_more() {
    let net = Net::new();
    for format in ["json", "table"] {
        let start = now();
        let line = format!(
            "{SMTPWATCH} {} --format {format} --mode observe --max-heals 1000 --quiet | head -1",
            arguments(&net)
        );
        let script = format!("set -o pipefail; {line}");
        let mut shell = net.on_gateway("bash -c");
        let mut shell = shell
            .arg(script)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        eventually("rules", || !net.firewall().is_empty());
        // Something to write, so that it is noticed.
        let mut number = 0;
        eventually("its end", || {
            number += 10;
            net.send(number, 10);
            if format == "table" {
                net.gateway("nft flush ruleset");
            }
            std::thread::sleep(Duration::from_millis(300));
            shell.try_wait().unwrap().is_some()
        });
        let said = Said::of(&shell.wait_with_output().unwrap());
        assert_eq!(said.out.lines().count(), 1, "{said:?}");
        assert_eq!(
            (said.status, said.err.as_str()),
            (Some(0), ""),
            "{format} {:?}",
            start.elapsed()
        );
        assert_eq!(net.firewall(), "");
    }
}

#[test]
fn who_does_not_read_holds_nothing_up() {
    let net = Net::new();
    let line = format!("{SMTPWATCH} {} --format json", arguments(&net));
    let watch = Watch::unread(net.on_gateway(&line).stdout(Stdio::piped()));
    eventually("rules", || !net.firewall().is_empty());
    // Above what a pipe and the printer hold.
    net.send(0, 70_000);
    watch.wait_until("all were counted", || net.counted() == 70_000);
    // It still does its work.
    net.gateway("nft flush ruleset");
    watch.wait_until("rules are put back", || !net.firewall().is_empty());
    let start = now();
    let ended = watch.end(Signal::SIGTERM);
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    assert!(
        ended.err.contains("lines that nobody read in time"),
        "{}",
        ended.err
    );
    assert_eq!(net.firewall(), "");
}

#[test]
fn q_in_a_terminal_gives_it_back() {
    let net = Net::new();
    let line = format!("stty cols 120 rows 30; {SMTPWATCH} {}", arguments(&net));
    let mut script = net.on_gateway("script -qefc");
    script.arg(line).arg("/dev/null").env("TERM", "xterm");
    script
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut script = script.spawn().unwrap();
    let mut screen = script.stdout.take().unwrap();
    let shown = std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = screen.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    });
    eventually("rules", || !net.firewall().is_empty());
    net.send(0, 30);
    std::thread::sleep(Duration::from_secs(5));
    script.stdin.as_mut().unwrap().write_all(b"xq").unwrap();
    let status = script.wait().unwrap();
    let shown = shown.join().unwrap();
    assert!(status.success(), "{shown}");
    assert!(
        shown.contains("\x1b[?1049h") && shown.contains("\x1b[?1049l"),
        "{shown:?}"
    );
    assert!(
        shown.contains("192.0.2.10") && shown.contains("infected"),
        "{shown:?}"
    );
    // The report comes after the live table, on the terminal as it was.
    let after = shown.rsplit("\x1b[?1049l").next().unwrap();
    assert!(after.contains("is infected"), "{after:?}");
    assert_eq!(net.firewall(), "");
}

/// As in a session over a line that hangs: the terminal takes nothing any more.
#[test]
fn a_terminal_that_hangs_holds_nothing_up() {
    let net = Net::new();
    // A pseudo-terminal whose other end nobody reads.
    let script = "import os, pty, sys, time\n\
        pid, master = pty.fork()\n\
        if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])\n\
        import fcntl, struct, termios\n\
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack('HHHH', 50, 200, 0, 0))\n\
        print(pid, flush=True)\n\
        print(os.waitpid(pid, 0)[1], flush=True)\n";
    let mut python = net.on_gateway("python3 -c");
    python
        .arg(script)
        .args(format!("{SMTPWATCH} {}", arguments(&net)).split(' '));
    let mut python = python.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(python.stdout.take().unwrap()).lines();
    let pid: i32 = said.next().unwrap().unwrap().parse().unwrap();
    eventually("rules", || !net.firewall().is_empty());
    // Each makes a line of news, and all of them more than a terminal takes.
    for number in 0..6 {
        net.send_as(number * 1000, 20, |_| {
            let turn = u8::try_from(number).unwrap();
            ([2, 0, 0, 0, 1, turn], Ipv4Addr::new(192, 0, 2, 100 + turn))
        });
        std::thread::sleep(Duration::from_millis(1100));
    }
    net.gateway("nft flush ruleset");
    eventually("rules are put back", || !net.firewall().is_empty());
    let start = now();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    assert_eq!(said.next().unwrap().unwrap(), "0");
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
    python.wait().unwrap();
    assert_eq!(net.firewall(), "");
}

/// What it says and its exit status, where it cannot begin.
fn refused(net: &Net, line: &str, status: i32, words: &[&str]) {
    let said = Said::of(&net.on_gateway(line).output().unwrap());
    assert_eq!(said.status, Some(status), "{line}: {said:?}");
    assert_eq!(said.out, "", "{line}");
    for word in words {
        assert!(
            said.err.contains(word),
            "{line}: not {word:?}: {}",
            said.err
        );
    }
    // A line for each reason, and no more.
    let lines = said
        .err
        .lines()
        .filter(|line| line.starts_with("smtpwatch: "));
    assert!(lines.count() <= 3, "{line}: {}", said.err);
    assert_eq!(net.firewall(), "", "{line}");
}

#[test]
fn without_the_right_it_says_which_is_missing() {
    let net = Net::new();
    // Where others may run it.
    let folder = net.folder.path();
    ok(Command::new("chmod").args(["-R", "a+rx"]).arg(folder));
    let program = folder.join("smtpwatch");
    fs::copy(SMTPWATCH, &program).unwrap();
    let watch = arguments(&net).replace(SMTPWATCH, "");
    let run = |before: &str, change: &str| {
        let arguments = watch.replace("--source nflog", change);
        format!("{before} {} {arguments}", program.display())
    };
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    refused(
        &net,
        &run(nobody, "--source nflog"),
        1,
        &["root", "CAP_NET_ADMIN"],
    );
    refused(&net, &run(nobody, "--source kmsg"), 1, &["root"]);
    refused(
        &net,
        &run(nobody, "--source capture:lan0"),
        1,
        &["lan0", "CAP_NET_RAW", "root"],
    );
    refused(
        &net,
        &run(nobody, "--source auto"),
        1,
        &["nothing can be watched", "nflog", "kmsg", "root"],
    );
    refused(
        &net,
        &format!("{nobody} {} rules install", program.display()),
        1,
        &["root"],
    );
    refused(
        &net,
        &format!("{nobody} {} rules remove", program.display()),
        1,
        &["root"],
    );
    // CAP_NET_ADMIN alone is enough for the default.
    let alone = "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all,+net_admin --ambient-caps=-all,+net_admin";
    let line = run(alone, "--source nflog --for 1s --quiet");
    let said = Said::of(&net.on_gateway(&line).output().unwrap());
    assert_eq!(said.status, Some(0), "{said:?}");
    assert_eq!(net.firewall(), "");
    // Without CAP_SYS_ADMIN there are no namespaces to try the rules in.
    let line = run(
        "setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin",
        "--source nflog --for 1s --quiet",
    );
    let said = Said::of(&net.on_gateway(&line).output().unwrap());
    assert_eq!((said.status, said.err.as_str()), (Some(0), ""), "{said:?}");
    assert_eq!(net.firewall(), "");
}

/// What keeps nothing from being seen is said, and the watch goes on.
#[test]
fn leases_and_a_history_that_are_broken_are_said() {
    let net = Net::new();
    let give = "give the file that the DHCP server writes its leases to: dnsmasq's, ISC dhcpd's or Kea's (its CSV)";
    fs::write(net.path("garbage"), "leases?\n\0\n").unwrap();
    fs::write(
        net.path("half"),
        "1773226800 02:00:5e:10:01:0a 192.0.2.10 anna *\n1773226800 zz\nfoo\n",
    )
    .unwrap();
    fs::create_dir(net.path("folder")).unwrap();
    for (name, words) in [
        ("garbage", format!("no leases in it; {give}")),
        (
            "folder",
            format!("leases cannot be read: not a regular file; {give}"),
        ),
        (
            "half",
            "passed over as no leases: cut off 1, unknown line 1; smtpwatch devices --leases shows the others"
                .to_owned(),
        ),
    ] {
        let path = net.path(name).display().to_string();
        let said = net.smtpwatch(&format!(
            "watch --source capture:lan0 --state-dir - --for 1s --leases {path}"
        ));
        assert_eq!(said.status, Some(0), "{said:?}");
        let expected = format!("{path}: {words}\n");
        assert_eq!(said.out.matches(&expected).count(), 1, "{expected}{said:?}");
    }
    let state = net.path("state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("history.sqlite"), "no database").unwrap();
    let said = net.smtpwatch(&format!(
        "watch --source capture:lan0 --for 1s --leases {} --state-dir {}",
        net.path("half").display(),
        state.display()
    ));
    let expected = format!(
        "{0}: is no history (file is not a database); it was set aside as {0}.corrupt-",
        state.join("history.sqlite").display()
    );
    assert!(
        (said.out.clone() + &said.err).contains(&expected),
        "{expected}: {said:?}"
    );
}

#[test]
fn what_is_not_as_it_should_be_is_named() {
    let net = Net::new();
    let plain = format!("{SMTPWATCH} {}", arguments(&net));
    let taken = net.path("taken.jsonl");
    fs::write(&taken, "mine").unwrap();
    refused(
        &net,
        &format!("{plain} --record {}", taken.display()),
        1,
        &["taken.jsonl", "another name"],
    );
    assert_eq!(fs::read(&taken).unwrap(), b"mine");
    refused(
        &net,
        &format!("{plain} --record /no/such/folder/x"),
        1,
        &["/no/such/folder/x"],
    );
    refused(
        &net,
        &format!("{plain} --leases /no/such/leases"),
        1,
        &["/no/such/leases", "leases"],
    );
    refused(
        &net,
        &plain.replace("nflog", "capture:nosuch0"),
        1,
        &["nosuch0", "does not exist"],
    );
    refused(
        &net,
        &plain.replace("nflog", "nflog,capture:nosuch0"),
        1,
        &["nosuch0", "does not exist"],
    );
    refused(
        &net,
        &plain.replace("nflog", "nothing"),
        2,
        &["no such source", "capture:INTERFACE"],
    );
    refused(&net, &plain.replace("nflog", "auto,nflog"), 2, &["auto"]);
    refused(&net, &format!("{plain} --for 0s"), 2, &["--for"]);
    refused(
        &net,
        &format!("{plain} --no-rules --keep-rules"),
        2,
        &["--keep-rules"],
    );
    let file = net.path("file");
    fs::write(&file, "").unwrap();
    let state = plain.replace("--state-dir -", &format!("--state-dir {}", file.display()));
    refused(&net, &state, 1, &["file", "--state-dir"]);
    let state = plain.replace("--state-dir -", "--state-dir /proc/nowhere");
    refused(&net, &state, 1, &["/proc/nowhere", "--state-dir"]);
    // No program to load rules with; a capture needs none. /usr/sbin is looked at, too, so it is hidden.
    let hide = "mount -t tmpfs none /usr/sbin && exec env PATH=/nowhere";
    let script = |arguments: &str| {
        let mut command = net.on_gateway("unshare -m bash -c");
        Said::of(&command.arg(format!("{hide} {arguments}")).output().unwrap())
    };
    let said = script(&plain);
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.err.contains("apt install"), "{said:?}");
    let said = script(&format!(
        "{} --for 1s --quiet",
        plain.replace("nflog", "capture:lan0")
    ));
    assert_eq!(said.status, Some(0), "{said:?}");
}

/// A history on a file system that is full: it is said once, and the watch goes on.
#[test]
fn a_full_disk_ends_the_history_and_not_the_watch() {
    let net = Net::new();
    let state = net.path("small");
    fs::create_dir(&state).unwrap();
    let path = state.display();
    let script = format!(
        "mount -t tmpfs -o size=400k none {path} && exec {SMTPWATCH} {} --format json --record {path}/run.jsonl",
        arguments(&net).replace("--state-dir -", &format!("--state-dir {path}"))
    );
    let mut command = net.on_gateway("unshare -m bash -c");
    let watch = Watch::over(command.arg(script));
    watch.wait_for("it watches", |event| event["notice"] == "source_ready");
    net.send(0, 3000);
    watch.wait_for_attempts(3000);
    watch.wait_until("it is said", || watch.errors().contains("run.jsonl"));
    net.send(10_000, 10);
    watch.wait_for_attempts(3010);
    let ended = watch.end(Signal::SIGTERM);
    assert_eq!(ended.status, Some(1), "{}", ended.err);
    assert_eq!(ended.attempts().len(), 3010);
    assert!(
        ended.err.contains("missing from the recording"),
        "{}",
        ended.err
    );
    assert!(
        ended.err.contains("missing from the history") || ended.err.contains("history"),
        "{}",
        ended.err
    );
    assert!(ended.err.lines().count() < 40, "{}", ended.err);
    assert_eq!(net.firewall(), "");
}

/// Standard output on a full disk is an error, and is said.
#[test]
fn an_output_that_cannot_be_written_is_told() {
    let net = Net::new();
    let script = format!(
        "exec {SMTPWATCH} {} --format json > /dev/full",
        arguments(&net)
    );
    let mut command = net.on_gateway("bash -c");
    let mut child = command.arg(script).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        errors.push_str(&line.unwrap());
    }
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("cannot write to standard output: No space left"),
        "{errors}"
    );
    assert_eq!(net.firewall(), "");
}
