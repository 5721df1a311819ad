//! A configuration that is read again while a watch goes on: what it may change it changes, what was
//! counted stays, and a mistake changes nothing.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Net, SMTPWATCH, Said, eventually};

#[test]
fn a_reload_changes_what_it_may_and_keeps_what_was_counted() {
    let net = Net::new();
    let file = net.path("smtpwatch.toml");
    let write = |text: &str| fs::write(&file, text).unwrap();
    write("[detection.burst]\ngroups = 30\n[detection.fast]\nfalse_alarm_years = 1e10\n");
    let watch = net.watch(&format!(
        "--source nflog,capture:lan0 --exit-code --config {}",
        file.display()
    ));
    net.send(0, 6);
    watch.wait_for_attempts(6);

    write("[network]\nports = [587]\n[detection.burst]\ngroup = 5\n");
    watch.signal(Signal::SIGHUP);
    watch.wait_until("the mistake is told", || {
        let errors = watch.errors();
        errors.contains("the configuration stays as it was")
            && errors.contains("smtpwatch.toml:4: unknown key")
            && errors.contains("did you mean detection.burst.groups?")
    });
    net.send(6, 4);
    watch.wait_for_attempts(10);
    assert!(!net.firewall().contains("587"));

    write(
        "[network]\nports = [25, 587]\n[detection.burst]\ngroups = 12\n[detection.fast]\nfalse_alarm_years = 2e7\n\
         [rules]\ngroup = 9\n",
    );
    watch.signal(Signal::SIGHUP);
    watch.wait_until("it is told what has changed", || {
        watch.errors().contains(
            "the configuration was read again: changed network.ports, detection.fast.false_alarm_years, \
             detection.burst.groups; \
             needs a restart for rules.group",
        )
    });
    assert!(net.firewall().contains("587"), "{}", net.firewall());
    let found = |event: &serde_json::Value| event["event_type"] == "finding";
    assert_eq!(watch.events(found).len(), 0);
    // Two more make twelve, on a port that was not watched before.
    net.send_to(587, 10, 2);
    watch.wait_for_attempts(12);
    watch.wait_for("a finding", found);
    assert_eq!(net.counted(), 12, "the counters go on");

    // Nothing of it is done again.
    watch.signal(Signal::SIGHUP);
    watch.wait_until("it is said again", || {
        watch
            .errors()
            .contains("read again: needs a restart for rules.group")
    });
    let ended = watch.end(Signal::SIGTERM);
    assert_eq!(ended.status, Some(3), "{}", ended.err);
    assert_eq!(ended.report()["totals"]["attempts"], 12);
    assert_eq!(ended.counts("nflog"), (12, 0), "{}", ended.err);
    for kind in [
        "rules_gone",
        "rules_restored",
        "rules_lost",
        "source_failed",
    ] {
        assert_eq!(ended.notices(kind).len(), 0, "{kind}: {}", ended.err);
    }
    assert_eq!(net.firewall(), "");
}

/// Rules that are loaded anew count from 0, and that is no loss.
#[test]
fn rules_that_look_elsewhere_are_loaded_in_the_place_of_the_old() {
    let net = Net::new();
    let file = net.path("smtpwatch.toml");
    fs::write(&file, "").unwrap();
    let watch = net.watch(&format!("--source nflog --config {}", file.display()));
    net.send(0, 20);
    watch.wait_for_attempts(20);
    for at in ["forward", "prerouting"] {
        fs::write(&file, format!("[rules]\nat = \"{at}\"\n")).unwrap();
        watch.signal(Signal::SIGHUP);
        let place = format!("hook {at} priority");
        watch.wait_until("other rules", || net.firewall().contains(&place));
    }
    net.send(20, 5);
    watch.wait_for_attempts(25);
    let ended = watch.end(Signal::SIGTERM);
    assert_eq!(ended.counts("nflog"), (25, 0), "{}", ended.err);
    assert_eq!(ended.report()["totals"]["attempts"], 25);
    assert_eq!(ended.notices("rules_gone").len(), 0, "{}", ended.err);
    assert_eq!(net.firewall(), "");
}

/// The same signal means both: a terminal that is there is told from one that is gone.
#[test]
fn a_hangup_reloads_on_a_terminal_and_ends_it_without() {
    let net = Net::new();
    let file = net.path("smtpwatch.toml");
    fs::write(&file, "").unwrap();
    let leases = net.path("leases");
    fs::write(&leases, "").unwrap();
    let script = "import os, pty, sys\n\
        pid, master = pty.fork()\n\
        if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])\n\
        print(pid, flush=True)\n\
        sys.stdin.readline()\n\
        os.close(master)\n\
        print(os.waitpid(pid, 0)[1], flush=True)\n";
    let line = format!(
        "{SMTPWATCH} watch --source nflog --state-dir - --leases {} --config {}",
        leases.display(),
        file.display()
    );
    let mut python = net.on_gateway("python3 -c");
    python.arg(script).args(line.split(' '));
    let mut python = python
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(python.stdout.take().unwrap()).lines();
    let pid: i32 = said.next().unwrap().unwrap().parse().unwrap();
    eventually("rules", || !net.firewall().is_empty());
    fs::write(&file, "network.ports = [587]").unwrap();
    kill(Pid::from_raw(pid), Signal::SIGHUP).unwrap();
    eventually("another port", || net.firewall().contains("587"));
    // The terminal goes, and the signal comes by itself.
    python.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let status: i32 = said.next().unwrap().unwrap().parse().unwrap();
    // It ended by itself, by no signal.
    assert_eq!(status & 0x7f, 0, "{status:#x}");
    python.wait().unwrap();
    assert_eq!(net.firewall(), "");
}

#[test]
fn a_mistake_at_the_start_is_told_before_anything_is_touched() {
    let net = Net::new();
    let file = net.path("smtpwatch.toml");
    fs::write(
        &file,
        "[watch]\nsources = \"nflog\"\n[rules]\ngroup = \"x\"\n",
    )
    .unwrap();
    let line = format!("{SMTPWATCH} watch --config {}", file.display());
    let said = Said::of(&net.on_gateway(&line).output().unwrap());
    assert_eq!((said.status, said.out.as_str()), (Some(1), ""), "{said:?}");
    for expected in [
        "smtpwatch.toml:2: unknown key \"watch.sources\": did you mean watch.source?",
        "smtpwatch.toml:4: rules.group: is a string",
    ] {
        assert!(said.err.contains(expected), "{said:?}");
    }
    assert_eq!(said.err.lines().count(), 2, "{said:?}");
    assert_eq!(net.firewall(), "");
}
