//! Whether rules in namespaces may write to the kernel's log: a setting of the whole machine, which
//! `scripts/smtplab/state.py` keeps account of. Tests of the log take turns, in this and any other
//! process.

use std::fs::{self, File};
use std::path::Path;

use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use serde_json::{Value, json};

use crate::harness::eventually;

const LOG_ALL: &str = "/proc/sys/net/netfilter/nf_log_all_netns";
const USERS: &str = "/run/smtpwatch-lab.kmsg";
const LOCK: &str = "/run/smtpwatch-lab.lock";

/// Runs `what` while rules in namespaces may write to the kernel's log, or may not.
pub(crate) fn with_kernel_log(is_open: bool, what: impl FnOnce()) {
    let turns = std::env::temp_dir().join("sw-kmsg-tests.lock");
    let _turn = Flock::lock(File::create(turns).unwrap(), FlockArg::LockExclusive).unwrap();
    if is_open {
        let _user = User::new();
        what();
    } else {
        let _closed = Closed::new();
        what();
    }
}

/// The lab's own lock, for as long as the file is kept.
fn lock() -> File {
    let file = File::create(LOCK).unwrap();
    let whole_file = libc::flock {
        l_type: i16::try_from(libc::F_WRLCK).unwrap(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_SETLKW(&whole_file)).unwrap();
    file
}

/// One who wants the log open, as a lab does.
struct User(String);

impl User {
    fn new() -> Self {
        let user = Self(format!("watch{}", std::process::id()));
        user.note(true);
        user
    }

    fn note(&self, is_wanted: bool) {
        let _lock = lock();
        let kept = fs::read(USERS).unwrap_or_default();
        let mut users: Value = serde_json::from_slice(&kept).unwrap_or_else(|_| json!({}));
        if !users["before"].is_string() {
            let before = fs::read_to_string(LOG_ALL).unwrap();
            users["before"] = before.trim().into();
        }
        let mut labs = users["labs"].as_array().cloned().unwrap_or_default();
        labs.retain(|lab| lab != &self.0);
        if is_wanted {
            labs.push(self.0.clone().into());
        }
        if labs.is_empty() {
            let before = users["before"].as_str().unwrap();
            fs::write(LOG_ALL, before).unwrap();
            let _ = fs::remove_file(USERS);
            return;
        }
        users["labs"] = labs.into();
        fs::write(USERS, users.to_string()).unwrap();
        fs::write(LOG_ALL, "1").unwrap();
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.note(false);
    }
}

/// The log closed, and nobody may open it meanwhile.
struct Closed {
    before: String,
    _lock: File,
}

impl Closed {
    fn new() -> Self {
        let mut held = None;
        eventually("nobody wants the log open", || {
            let lock = lock();
            let is_free = !Path::new(USERS).exists();
            held = is_free.then_some(lock);
            is_free
        });
        let before = fs::read_to_string(LOG_ALL).unwrap();
        fs::write(LOG_ALL, "0").unwrap();
        Self {
            before,
            _lock: held.unwrap(),
        }
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        let _ = fs::write(LOG_ALL, self.before.trim());
    }
}
