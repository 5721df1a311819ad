//! What the watch could see with: the rights it has, NFLOG, the kernel log, captures, conntrack.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket,
};
use nix::unistd::geteuid;
use std::os::fd::AsRawFd;

use super::{files, listed, saved_of};
use crate::model::{SourceName, Topology};
use crate::netfilter::{Status, Survey};
use crate::ruleset::tracking;
use crate::settings::config::Config;
use crate::source::live::{self, LiveError, Options};
use crate::sys;
use crate::sys::capabilities::{Capabilities, Capability};
use crate::view::Check;

/// Multicast groups of conntrack: new, updated, destroyed (`NF_NETLINK_CONNTRACK_*`).
const CONNTRACK: u32 = 1 | 2 | 4;

/// A rule that has connections tracked, and does nothing else.
const TRACK: &str = "nft 'add table inet track; add chain inet track passing { type filter hook forward priority 0; }; \
                     add rule inet track passing ct state new'";

/// A group that nobody uses.
const UNUSED_GROUP: u16 = 65_500;

/// Whether the thread may do what the watch needs; each capability by itself.
pub(super) fn judge_rights(rights: Option<Capabilities>) -> Check {
    const ID: &str = "sources.rights";
    let Some(rights) = rights else {
        return Check::warn(
            ID,
            "what this process may do cannot be read from /proc",
            "mount /proc, or run it as root",
        );
    };
    let missing = |all: &[Capability]| -> Vec<String> {
        let missing = all.iter().filter(|it| !rights.has(**it));
        missing.map(ToString::to_string).collect()
    };
    let needed = missing(&[Capability::NetAdmin]);
    let useful = missing(&[Capability::NetRaw, Capability::Syslog]);
    if !needed.is_empty() {
        return Check::fail(
            ID,
            format!(
                "lacks {}, without which no firewall can be read",
                listed(&needed)
            ),
            "run it as root: sudo smtpwatch doctor",
        );
    }
    if !useful.is_empty() {
        return Check::warn(
            ID,
            format!("lacks {}: no captures, or no kernel log", listed(&useful)),
            "give it these capabilities, too (AmbientCapabilities= of its service), or run it as root",
        );
    }
    Check::ok(ID, "CAP_NET_ADMIN, CAP_NET_RAW and CAP_SYSLOG are there")
}

/// Whether NFLOG's group can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Group {
    Free,
    /// By whom: `ulogd (pid 7)`, and whether that is a watch of ours.
    Taken(String, bool),
    NotPermitted,
    Broken(String),
}

/// The NFLOG group of answers of the DNS.
#[derive(Clone, Debug)]
struct Answers {
    number: u16,
    /// Whether the configuration has the watch read it.
    is_wanted: bool,
    /// Who else than a watch reads it.
    taken_by: Option<String>,
}

/// What is known of it.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The NFLOG group of the rules.
    number: u16,
    group: Group,
    answers: Answers,
    /// Whether /dev/kmsg can be read, else why not.
    ring: Result<(), String>,
    /// Whether the ring buffer holds what rules log in this network namespace.
    logs_here: bool,
    /// Whether packets can be captured, else why not.
    capture: Result<(), String>,
    interfaces: Vec<String>,
    /// Whether conntrack's events can be heard, else why not.
    events: Result<(), String>,
    /// Whether it tells them, counts bytes, and notes times; none where it is not loaded.
    conntrack: Option<(bool, bool, bool)>,
    /// Chains for which connections are tracked; unknown where the firewall cannot be read.
    tracking: Option<Vec<String>>,
    has_journalctl: bool,
    is_root: bool,
}

impl Facts {
    pub(super) fn gather(
        topology: &Topology,
        survey: &Survey,
        rights: Option<Capabilities>,
        status: Option<&Status>,
        wanted: &Config,
    ) -> Self {
        let on = |name: &str| files::is_on(&format!("net/netfilter/{name}"));
        let saved = saved_of(survey, None);
        let nft = survey.nft.as_ref().ok();
        let can_read = nft.is_some() || !saved.is_empty();
        // Told to whoever listens: 2 is on demand, and 0 never.
        let events = on("nf_conntrack_events");
        Self {
            number: wanted.group,
            group: group(status),
            answers: Answers {
                number: wanted.dns_group,
                is_wanted: wanted.dns_listen,
                taken_by: taken_by(wanted.dns_group),
            },
            ring: ring(),
            // The setting that lets other namespaces log is the first namespace's alone.
            logs_here: on("nf_log_all_netns").is_some(),
            capture: capture(),
            interfaces: topology
                .links
                .iter()
                .map(|link| link.interface.name())
                .collect(),
            events: conntrack(),
            conntrack: events.map(|events| {
                let is = |name| on(name) == Some(true);
                (
                    events,
                    is("nf_conntrack_acct"),
                    is("nf_conntrack_timestamp"),
                )
            }),
            tracking: can_read.then(|| tracking(nft.unwrap_or(&serde_json::Value::Null), &saved)),
            has_journalctl: ["/usr/bin/journalctl", "/bin/journalctl"]
                .iter()
                .any(|path| Path::new(path).exists()),
            is_root: geteuid().is_root() || rights.is_some_and(|it| it.has(Capability::NetAdmin)),
        }
    }

    pub(super) fn judge(&self) -> Vec<Check> {
        vec![
            self.nflog(),
            self.answers(),
            self.kernel_log(),
            self.capturing(),
            self.outcomes(),
            self.journal(),
        ]
    }

    fn nflog(&self) -> Check {
        const ID: &str = "sources.nflog";
        let number = self.number;
        match &self.group {
            Group::Free => Check::ok(ID, format!("NFLOG works, group {number} is free")),
            Group::Taken(by, true) => {
                Check::ok(ID, format!("NFLOG works, group {number} is read by {by}"))
            }
            Group::Taken(by, false) => Check::warn(
                ID,
                format!("NFLOG group {number} is taken by {by}"),
                format!(
                    "stop that program, or use another group: smtpwatch watch --group {}",
                    number.wrapping_add(1)
                ),
            ),
            Group::NotPermitted => Check::warn(
                ID,
                "whether NFLOG works is not known: not permitted",
                "run it as root: sudo smtpwatch doctor",
            ),
            Group::Broken(why) => Check::fail(
                ID,
                format!("NFLOG does not work: {why}"),
                "modprobe nfnetlink_log; or watch by the kernel log: smtpwatch watch --source kmsg",
            ),
        }
    }

    fn answers(&self) -> Check {
        const ID: &str = "sources.dns";
        let Answers {
            number,
            is_wanted,
            ref taken_by,
        } = self.answers;
        let advice = format!(
            "give another group in the configuration: [dns] group = {}",
            number.wrapping_add(1)
        );
        match (taken_by, is_wanted, self.conntrack) {
            (Some(by), true, _) => Check::warn(
                ID,
                format!("NFLOG group {number}, for answers of the DNS, is taken by {by}"),
                advice,
            ),
            (Some(by), false, _) => Check::warn(
                ID,
                format!("NFLOG group {number}, for answers of the DNS, is taken by {by}"),
                format!("where dns.listen is wanted, {advice}"),
            ),
            (None, true, _) => Check::ok(
                ID,
                format!("answers of the DNS can be read by NFLOG group {number}"),
            ),
            (None, false, None) => Check::ok(
                ID,
                "answers of the DNS can be read where the configuration says dns.listen; \
                 the rule loads connection tracking, which is not there yet",
            ),
            (None, false, Some(_)) => Check::ok(
                ID,
                "answers of the DNS can be read where the configuration says dns.listen",
            ),
        }
    }

    fn kernel_log(&self) -> Check {
        const ID: &str = "sources.kmsg";
        match &self.ring {
            Err(why) => Check::warn(
                ID,
                format!("/dev/kmsg cannot be read: {why}"),
                if self.is_root {
                    "let the container have /dev/kmsg, or watch by NFLOG, which is the better way"
                } else {
                    "run it as root: sudo smtpwatch doctor"
                },
            ),
            Ok(()) if !self.logs_here => Check::warn(
                ID,
                "/dev/kmsg can be read, but rules of this network namespace do not log there",
                "watch by NFLOG, or on the host: sysctl -w net.netfilter.nf_log_all_netns=1",
            ),
            Ok(()) => Check::ok(ID, "/dev/kmsg can be read"),
        }
    }

    fn capturing(&self) -> Check {
        const ID: &str = "sources.capture";
        match (&self.capture, self.interfaces.as_slice()) {
            (Err(why), _) => Check::warn(
                ID,
                format!("packets cannot be captured: {why}"),
                "run it as root, or give it CAP_NET_RAW; NFLOG needs no capture",
            ),
            (Ok(()), []) => Check::warn(
                ID,
                "no interface is up to capture on",
                "look with: ip -br link",
            ),
            (Ok(()), names) => Check::ok(ID, format!("possible on {}", listed(names))),
        }
    }

    fn outcomes(&self) -> Check {
        const ID: &str = "sources.conntrack";
        match (&self.events, self.conntrack) {
            (Err(why), _) => Check::warn(
                ID,
                format!("conntrack cannot be heard: {why}"),
                "modprobe nf_conntrack_netlink, as root; without it what became of attempts stays unknown",
            ),
            (Ok(()), None) => Check::warn(
                ID,
                "conntrack can be heard, and is not loaded: how attempts end stays unknown",
                format!("NAT or a rule with the state of connections loads it: {TRACK}"),
            ),
            (Ok(()), Some((false, ..))) => Check::warn(
                ID,
                "conntrack tells no events",
                "sysctl -w net.netfilter.nf_conntrack_events=1",
            ),
            (Ok(()), Some(_)) if self.tracking.as_ref().is_some_and(Vec::is_empty) => Check::warn(
                ID,
                "no rule uses NAT or the state of connections, and so the kernel tracks none here: how attempts end \
                     stays unknown",
                format!(
                    "a rule that only looks starts it: {TRACK}; or watch by a capture, which sees the answers"
                ),
            ),
            (Ok(()), Some((true, acct, times))) if !(acct && times) => Check::warn(
                ID,
                "conntrack tells outcomes, but not how many bytes went or how long it took",
                "sysctl -w net.netfilter.nf_conntrack_acct=1 net.netfilter.nf_conntrack_timestamp=1",
            ),
            (Ok(()), Some(_)) => Check::ok(ID, "conntrack tells outcomes, bytes and times"),
        }
    }

    fn journal(&self) -> Check {
        const ID: &str = "sources.journalctl";
        if self.has_journalctl {
            Check::ok(ID, "journalctl is there")
        } else {
            Check::ok(ID, "no journalctl: records are in log files alone")
        }
    }
}

/// Who reads the group of the rules. Whether NFLOG works is tried with a group that nobody uses: to hold
/// the real one, if only for a moment, could keep a watch from starting.
fn group(status: Option<&Status>) -> Group {
    let reader = status
        .and_then(|status| status.group.as_ref())
        .and_then(|group| group.reader.as_ref());
    if let Some(reader) = reader {
        return match &reader.process {
            Some(process) => Group::Taken(process.to_string(), process.name == "smtpwatch"),
            None => Group::Taken("a program that cannot be found".to_owned(), false),
        };
    }
    let options = Options {
        group: UNUSED_GROUP,
        ..Options::default()
    };
    match live::open(&SourceName::Nflog, &options) {
        Ok(_) => Group::Free,
        Err(LiveError::Nflog(sys::nflog::Error::NotPermitted { .. })) => Group::NotPermitted,
        Err(error) => Group::Broken(error.to_string()),
    }
}

/// A program other than a watch that reads `group`.
fn taken_by(group: u16) -> Option<String> {
    let reader = sys::nflog::holder(group)?;
    match reader.process {
        Some((_, name)) if name == "smtpwatch" => None,
        _ => Some(reader.to_string()),
    }
}

fn ring() -> Result<(), String> {
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/kmsg");
    opened.map(drop).map_err(|error| error.to_string())
}

/// Opens a packet socket of no protocol, which receives nothing and makes no interface promiscuous.
fn capture() -> Result<(), String> {
    let opened = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    );
    opened.map(drop).map_err(|error| error.desc().to_owned())
}

fn conntrack() -> Result<(), String> {
    let heard = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )
    .and_then(|fd| bind(fd.as_raw_fd(), &NetlinkAddr::new(0, CONNTRACK)));
    heard.map_err(|error| error.desc().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::tests::status;
    use super::*;
    use crate::sys::capabilities::drop_from_this_thread;
    use crate::view::CheckStatus::{Fail, Ok as Fine, Warn};

    fn good() -> Facts {
        Facts {
            number: 25,
            group: Group::Free,
            answers: Answers {
                number: 26,
                is_wanted: false,
                taken_by: None,
            },
            ring: Ok(()),
            logs_here: true,
            capture: Ok(()),
            interfaces: vec!["lan0".to_owned()],
            events: Ok(()),
            conntrack: Some((true, true, true)),
            tracking: Some(vec!["ip nat post".to_owned()]),
            has_journalctl: true,
            is_root: true,
        }
    }

    fn of(id: &str, change: impl FnOnce(&mut Facts)) -> crate::view::CheckStatus {
        let mut facts = good();
        change(&mut facts);
        status(&facts.judge(), id)
    }

    #[test]
    fn all_is_there() {
        let checks = good().judge();
        assert!(
            checks.iter().all(|check| check.status == Fine),
            "{checks:?}"
        );
        assert_eq!(
            of("sources.journalctl", |it| it.has_journalctl = false),
            Fine
        );
    }

    #[test]
    fn nflog_in_each_state() {
        let id = "sources.nflog";
        let taken = |ours| Group::Taken("somebody (pid 7)".to_owned(), ours);
        assert_eq!(of(id, |it| it.group = taken(true)), Fine);
        assert_eq!(of(id, |it| it.group = taken(false)), Warn);
        assert_eq!(of(id, |it| it.group = Group::NotPermitted), Warn);
        assert_eq!(of(id, |it| it.group = Group::Broken("no".to_owned())), Fail);
    }

    #[test]
    fn the_group_of_answers_is_the_configured_one() {
        let by = Some("netlink port 7".to_owned());
        assert_eq!(of("sources.dns", |it| it.answers.taken_by = by), Warn);
        assert_eq!(of("sources.dns", |it| it.conntrack = None), Fine);
        let mut facts = good();
        facts.answers.number = 4_321;
        facts.answers.is_wanted = true;
        let said = |facts: &Facts| format!("{:?}", facts.answers());
        assert!(said(&facts).contains("by NFLOG group 4321"));
        facts.answers.taken_by = Some("netlink port 7".to_owned());
        let taken = said(&facts);
        assert!(taken.contains("group 4321, for answers") && taken.contains("group = 4322"));
    }

    #[test]
    fn the_kernel_log_and_captures() {
        let no = || Err("no".to_owned());
        assert_eq!(of("sources.kmsg", |it| it.ring = no()), Warn);
        assert_eq!(of("sources.kmsg", |it| it.logs_here = false), Warn);
        assert_eq!(of("sources.capture", |it| it.capture = no()), Warn);
        assert_eq!(of("sources.capture", |it| it.interfaces.clear()), Warn);
    }

    #[test]
    fn conntrack_in_each_state() {
        let id = "sources.conntrack";
        assert_eq!(of(id, |it| it.events = Err("no".to_owned())), Warn);
        assert_eq!(of(id, |it| it.conntrack = None), Warn);
        assert_eq!(of(id, |it| it.conntrack = Some((false, true, true))), Warn);
        assert_eq!(of(id, |it| it.conntrack = Some((true, false, true))), Warn);
        let untracked = |it: &mut Facts| it.tracking = Some(Vec::new());
        assert_eq!(of(id, untracked), Warn);
        // What cannot be asked is said elsewhere.
        assert_eq!(of(id, |it| it.tracking = None), Fine);
    }

    #[test]
    fn rights_that_are_missing() {
        let without = |capability| {
            let rights = std::thread::spawn(move || {
                drop_from_this_thread(capability);
                Capabilities::of_this_thread().unwrap()
            });
            status(&[judge_rights(rights.join().ok())], "sources.rights")
        };
        assert_eq!(without(Capability::NetAdmin), Fail);
        assert_eq!(without(Capability::NetRaw), Warn);
        assert_eq!(without(Capability::Syslog), Warn);
        assert_eq!(status(&[judge_rights(None)], "sources.rights"), Warn);
        let own = Capabilities::of_this_thread().ok();
        assert_eq!(status(&[judge_rights(own)], "sources.rights"), Fine);
    }
}
