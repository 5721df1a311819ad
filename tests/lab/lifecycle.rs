//! Labs beside each other, and what is left when somebody is killed: nothing.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{Lab, has_root, names_in, new_id, script, succeed, wait_until};
use crate::oracle::{Oracle, Place};

const SOON: Duration = Duration::from_secs(20);
/// Whether rules in namespaces may write to the kernel log.
const SETTING: &str = "/proc/sys/net/netfilter/nf_log_all_netns";
/// Which labs asked for it, and what it was before.
const USERS: &str = "/run/smtpwatch-lab.kmsg";

/// The ids of processes in a lab's record: those under `field`, with their start times.
fn processes(record: &Value, field: &str) -> Vec<i32> {
    let id = |process: &Value| i32::try_from(process[0].as_i64().unwrap()).unwrap();
    match &record[field] {
        Value::Array(list) if list.iter().all(Value::is_array) => list.iter().map(id).collect(),
        one => vec![id(one)],
    }
}

fn is_alive(process: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().unwrap().starts_with('Z'))
}

fn kill_now(process: i32) {
    kill(Pid::from_raw(process), Signal::SIGKILL).unwrap();
}

fn namespaces(id: &str) -> usize {
    let prefix = format!("sw-{id}-");
    let names = names_in("/run/netns");
    names
        .iter()
        .filter(|name| name.starts_with(&prefix))
        .count()
}

#[test]
fn two_labs_run_side_by_side() {
    if !has_root() {
        return;
    }
    let (one, other) = (Lab::up(&[]), Lab::up(&[]));
    let before = namespaces(&other.id);
    let (ours, theirs) = (
        Oracle::count(&one, Place::Gateway),
        Oracle::count(&other, Place::Gateway),
    );
    thread::scope(|scope| {
        let run = scope.spawn(|| one.run("ordinary-day"));
        let quiet = theirs.seen();
        assert!(quiet.is_empty(), "{quiet:?}");
        assert!(!run.join().unwrap().machines.is_empty());
    });
    assert!(!ours.seen().is_empty());
    let quiet = theirs.seen();
    assert!(quiet.is_empty(), "{quiet:?}");
    drop(one);
    assert_eq!(namespaces(&other.id), before);
    assert_eq!(other.run("ordinary-day").outside.len(), 3);
}

#[test]
fn a_lab_that_is_up_is_not_made_again() {
    if !has_root() {
        return;
    }
    let lab = Lab::up(&[]);
    let supervisor = processes(&lab.record(), "supervisor");
    let again = script(&["up", "--id", &lab.id]).output().unwrap();
    assert!(!again.status.success());
    assert!(
        String::from_utf8_lossy(&again.stderr).contains("is up already"),
        "{again:?}"
    );
    assert_eq!(processes(&lab.record(), "supervisor"), supervisor);
    assert!(is_alive(supervisor[0]));
}

#[test]
fn a_lab_ends_with_its_killed_owner() {
    if !has_root() {
        return;
    }
    let mut run = script(&["run", "printer-blocked"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // A run without an id has a lab by its own process id.
    let lab = Lab {
        id: format!("run{}", run.id()),
    };
    let runs = format!("{}/runs", lab.folder().display());
    wait_until("the run begins", SOON, || !names_in(&runs).is_empty());
    let services = processes(&lab.record(), "children");
    assert!(services.len() >= 4 && services.iter().all(|service| is_alive(*service)));
    run.kill().unwrap();
    run.wait().unwrap();
    wait_until("the lab is gone", SOON, || lab.remains().is_empty());
    assert!(!services.iter().any(|service| is_alive(*service)));
}

#[test]
fn a_lab_whose_supervisor_was_killed_is_swept() {
    if !has_root() {
        return;
    }
    let lab = Lab::up(&[]);
    let record = lab.record();
    let services = processes(&record, "children");
    kill_now(processes(&record, "supervisor")[0]);
    wait_until("its services are gone", SOON, || {
        !services.iter().any(|service| is_alive(*service))
    });
    succeed(&mut script(&["sweep"]));
    assert_eq!(lab.remains(), Vec::<String>::new());
}

#[test]
fn a_lab_killed_in_the_making_is_made_anew() {
    if !has_root() {
        return;
    }
    let lab = Lab { id: new_id() };
    let mut up = script(&["up", "--id", &lab.id]).spawn().unwrap();
    wait_until("some namespaces are made", SOON, || namespaces(&lab.id) > 2);
    up.kill().unwrap();
    up.wait().unwrap();
    assert!(!lab.remains().is_empty());
    succeed(&mut script(&["up", "--id", &lab.id]));
    assert_eq!(lab.run("ordinary-day").outside.len(), 3);
}

#[test]
fn the_kernel_log_is_lent_until_the_last_lab_ends() {
    if !has_root() {
        return;
    }
    let setting = || fs::read_to_string(SETTING).unwrap().trim().to_owned();
    let users = || fs::read_to_string(USERS).unwrap_or_default();
    let (one, other) = (Lab::up(&["--kmsg"]), Lab::up(&["--kmsg"]));
    let (one_id, other_id) = (one.id.clone(), other.id.clone());
    assert_eq!(setting(), "1");
    let before: Value = serde_json::from_str(&users()).unwrap();
    drop(one);
    assert_eq!(setting(), "1");
    assert!(!users().contains(&format!("\"{one_id}\"")));
    drop(other);
    assert!(!users().contains(&format!("\"{other_id}\"")));
    // Others may have it at the same time; who is last puts it back.
    if users().is_empty() {
        assert_eq!(Some(setting().as_str()), before["before"].as_str());
    }
}
