//! Who was behind the public address: asked with what an abuse mail tells, and compared with what the
//! mail servers on the Internet were told by the machines themselves.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Lab, Met, Truth, has_root, succeed};
use crate::watcher::Watcher;

/// What `who` answers of that connection; with its port, or without.
fn who(state: &Path, met: &Met, with_port: bool) -> Value {
    let at = Duration::from_secs_f64(met.at);
    let at = jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::try_from(at).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_smtpwatch"));
    command
        .args(["who", "--json", "--public-ip", &met.src.to_string()])
        .args(["--at", &at.to_string(), "--to", &met.dst.to_string()])
        .arg("--state-dir")
        .arg(state);
    if with_port {
        command.args(["--port", &met.src_port.to_string()]);
    }
    serde_json::from_slice(&succeed(&mut command).stdout).unwrap()
}

/// The inside addresses of the candidates.
fn addresses(answer: &Value) -> BTreeSet<IpAddr> {
    let candidates = answer["candidates"].as_array().unwrap();
    candidates
        .iter()
        .map(|candidate| candidate["address"].as_str().unwrap().parse().unwrap())
        .collect()
}

/// The addresses of the machine that calls itself so.
fn own<'a>(truth: &'a Truth, name: &str) -> &'a [IpAddr] {
    let is_it = |machine: &&crate::harness::Machine| {
        machine.hostname.as_deref().unwrap_or(&machine.name) == name
    };
    &truth.machines.iter().find(is_it).unwrap().addresses
}

#[test]
fn an_abuse_mail_leads_to_the_device() {
    if !has_root() {
        return;
    }
    let lab = Lab::up(&[]);
    let watcher = Watcher::start(&lab, &["--source", "nflog,conntrack"]);
    let truth = lab.run("translated");
    // The history is written each second.
    std::thread::sleep(Duration::from_secs(2));
    let watched = watcher.finish();
    let state = watched.state_dir();
    let mut met = truth.met.clone();
    let is_whole = std::env::var_os("SMTPWATCH_SOAK").is_some_and(|value| value == "1");
    let questions = if is_whole { 100 } else { 5 };
    assert!(met.len() > 100, "{}", met.len());
    fastrand::shuffle(&mut met);
    for met in &met[..questions] {
        let found = addresses(&who(&state, met, true));
        assert_eq!(found.len(), 1, "{met:?}: {found:?}");
        assert!(
            own(&truth, &met.name).contains(found.first().unwrap()),
            "{met:?}: {found:?}"
        );
    }
    fastrand::shuffle(&mut met);
    for met in &met[..questions] {
        let found = addresses(&who(&state, met, false));
        assert!((1..=3).contains(&found.len()), "{met:?}: {found:?}");
        let is_there = own(&truth, &met.name).iter().any(|own| found.contains(own));
        assert!(is_there, "{met:?}: {found:?}");
    }
}
