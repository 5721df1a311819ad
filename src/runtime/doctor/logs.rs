//! Where the kernel's messages are kept, and who may leave some of them out: for evidence by text.
//!
//! Packets that a rule logs are limited neither by the kernel (`printk_ratelimit` is for its own
//! warnings) nor by journald, whose limit is for services. rsyslog's imjournal has a limit of its own.

use std::path::PathBuf;

use super::{files, listed};
use crate::source::system_records;
use crate::view::Check;

const RSYSLOG: &str = "/etc/rsyslog.conf";
const RSYSLOG_MORE: &str = "/etc/rsyslog.d";
const JOURNALD: &str = "/etc/systemd/journald.conf";
const JOURNALD_MORE: &str = "/etc/systemd/journald.conf.d";
/// Files of a folder that are read.
const MAX_FILES: usize = 64;

/// What is known of it.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    logs: Vec<String>,
    /// Whether there is a journal, else why it cannot be read.
    journal: Result<bool, String>,
    is_persistent: bool,
    /// rsyslog's settings, if it has any.
    rsyslog: String,
    /// journald's.
    journald: String,
}

impl Facts {
    pub(super) fn gather() -> Self {
        let records = system_records();
        Self {
            logs: records
                .logs
                .iter()
                .map(|it| it.display().to_string())
                .collect(),
            journal: records.journal.map_err(|error| error.to_string()),
            is_persistent: records.is_persistent,
            rsyslog: all(RSYSLOG, RSYSLOG_MORE),
            journald: all(JOURNALD, JOURNALD_MORE),
        }
    }

    pub(super) fn judge(&self) -> Vec<Check> {
        vec![self.kernel(), self.limits()]
    }

    fn kernel(&self) -> Check {
        const ID: &str = "logs.kernel";
        if let Err(why) = &self.journal {
            return Check::warn(
                ID,
                format!("the journal cannot be read: {why}"),
                "run it as root: sudo smtpwatch doctor",
            );
        }
        let mut places = self.logs.clone();
        match (&self.journal, self.is_persistent) {
            (Ok(true), true) => places.push("the journal".to_owned()),
            (Ok(true), false) if self.logs.is_empty() => {
                return Check::warn(
                    ID,
                    "kernel messages are in the journal alone, and that is gone with a boot",
                    "mkdir -p /var/log/journal && systemctl restart systemd-journald",
                );
            }
            (Ok(true), false) => places.push("the journal (gone with a boot)".to_owned()),
            _ => {}
        }
        match places.as_slice() {
            [] => Check::warn(
                ID,
                "no log keeps the kernel's messages: what was logged before cannot be reported",
                "smtpwatch watch needs none; to keep them: apt install rsyslog",
            ),
            places => Check::ok(ID, format!("kernel messages are in {}", listed(places))),
        }
    }

    fn limits(&self) -> Check {
        const ID: &str = "logs.limits";
        if value(&self.journald, "ReadKMsg").is_some_and(|value| is_no(&value)) {
            return Check::warn(
                ID,
                "journald does not read the kernel's messages (ReadKMsg=no)",
                "take that line out of /etc/systemd/journald.conf, or watch by NFLOG",
            );
        }
        if value(&self.journald, "Storage").is_some_and(|value| value == "none") {
            return Check::warn(
                ID,
                "journald keeps nothing (Storage=none)",
                "set Storage=persistent in /etc/systemd/journald.conf, or watch by NFLOG",
            );
        }
        if limits_journal(&self.rsyslog) {
            return Check::warn(
                ID,
                "rsyslog leaves out what comes faster than 20,000 messages in 10 minutes (imjournal)",
                "in /etc/rsyslog.conf: module(load=\"imjournal\" Ratelimit.Interval=\"0\"); or watch by NFLOG",
            );
        }
        Check::ok(
            ID,
            "no limit on logged packets but our own 500 lines a second (--via log)",
        )
    }
}

/// A file, and those of a folder that end with `.conf`.
fn all(file: &str, folder: &str) -> String {
    let mut text = files::read(file).unwrap_or_default();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.take(MAX_FILES).map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths
        .iter()
        .filter(|path| path.extension().is_some_and(|it| it == "conf"))
    {
        text.push('\n');
        text.push_str(&files::read(path).unwrap_or_default());
    }
    text
}

/// What the last line `name=value` says.
fn value(text: &str, name: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| line.trim().split_once('='));
    let found = lines.filter(|(own, _)| own.trim() == name).last();
    found.map(|(_, value)| value.trim().to_lowercase())
}

fn is_no(value: &str) -> bool {
    matches!(value, "no" | "false" | "0" | "off")
}

/// Whether rsyslog reads the journal with a limit: by default it has one (imjournal's documentation).
fn limits_journal(rsyslog: &str) -> bool {
    let text: Vec<String> = rsyslog
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().to_lowercase())
        .collect();
    let text = text.join("\n");
    let text: String = text
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '"')
        .collect();
    let is_off = ["ratelimit.interval=0", "$imjournalratelimitinterval0"];
    text.contains("imjournal") && !is_off.iter().any(|off| text.contains(off))
}

#[cfg(test)]
mod tests {
    use super::super::tests::status;
    use super::*;
    use crate::view::CheckStatus::{Ok as Fine, Warn};

    fn good() -> Facts {
        Facts {
            logs: vec!["/var/log/kern.log".to_owned()],
            journal: Ok(true),
            is_persistent: true,
            rsyslog: "module(load=\"imklog\")\n#module(load=\"imjournal\")\n".to_owned(),
            journald: "[Journal]\n#Storage=none\n".to_owned(),
        }
    }

    fn of(id: &str, change: impl FnOnce(&mut Facts)) -> crate::view::CheckStatus {
        let mut facts = good();
        change(&mut facts);
        status(&facts.judge(), id)
    }

    #[test]
    fn where_the_kernels_messages_are() {
        let id = "logs.kernel";
        assert_eq!(of(id, |_| {}), Fine);
        assert_eq!(of(id, |it| it.is_persistent = false), Fine);
        let volatile = |it: &mut Facts| {
            it.logs.clear();
            it.is_persistent = false;
        };
        assert_eq!(of(id, volatile), Warn);
        assert_eq!(of(id, |it| it.journal = Err("denied".to_owned())), Warn);
        let none = |it: &mut Facts| {
            it.logs.clear();
            it.journal = Ok(false);
        };
        assert_eq!(of(id, none), Warn);
    }

    #[test]
    fn who_leaves_messages_out() {
        let id = "logs.limits";
        assert_eq!(of(id, |_| {}), Fine);
        assert_eq!(of(id, |it| it.journald.push_str("ReadKMsg=no")), Warn);
        assert_eq!(of(id, |it| it.journald.push_str("Storage = none")), Warn);
        let rsyslog = |text: &str| of(id, |it| it.rsyslog = text.to_owned());
        assert_eq!(rsyslog("module(load=\"imjournal\" StateFile=\"x\")"), Warn);
        assert_eq!(rsyslog("$ModLoad imjournal"), Warn);
        assert_eq!(
            rsyslog("module(load=\"imjournal\"\n  Ratelimit.Interval=\"0\")"),
            Fine
        );
        assert_eq!(
            rsyslog("$ModLoad imjournal\n$imjournalRatelimitInterval 0"),
            Fine
        );
    }
}
