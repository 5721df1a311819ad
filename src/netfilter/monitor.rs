//! What others do to the firewall, as the kernel tells it (`NFNLGRP_NFTABLES`): each transaction of
//! `nf_tables`, who made it, and whether it touched our table or the tables of iptables-nft.
//!
//! iptables-legacy is not heard of here. What the rules are afterwards is not read here either.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use super::kernel::{KernelError, Step, TABLE};
use crate::decode::netlink::{Malformed, Message, messages};
use crate::model::Process;
use crate::sys::nftables::{DELETE_ELEMENT, INET, NEW_ELEMENT, Notifications, SUBSYSTEM};

/// What the queue holds until it is read; a transaction of 10,000 elements fits.
const QUEUE: usize = 4 << 20;
/// Changes that one call gives; the rest waits for the next.
const MAX_CHANGES: usize = 64;
/// The messages (`linux/netfilter/nf_tables.h`) that are told apart here.
const NEW_TABLE: u8 = 0;
const DELETE_TABLE: u8 = 2;
const NEW_GENERATION: u8 = 15;
const TRACE: u8 = 17;
/// `NFTA_TABLE_NAME`, and as well the table's name in messages about what is in it.
const TABLE_NAME: u16 = 1;
/// `NFTA_GEN_ID`, `NFTA_GEN_PROC_PID`, `NFTA_GEN_PROC_NAME`.
const GENERATION_ID: u16 = 1;
const PROCESS_ID: u16 = 2;
const PROCESS_NAME: u16 = 3;
/// `TASK_COMM_LEN` without its NUL.
const MAX_PROCESS_NAME: usize = 15;
/// `NFPROTO_IPV4`, `NFPROTO_IPV6`: the families of iptables-nft.
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// What happened to `nf_tables` in our network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A transaction.
    Committed(Commit),
    /// Some changes were not heard of: look again.
    Missed,
}

/// A transaction, as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// The number of the ruleset's generation that it made.
    pub(crate) generation: u32,
    /// The netlink port that it came by: [`Kernel::port`](super::kernel::Kernel::port) of ours; of
    /// a process with one socket, such as `nft`, its id in its own pid namespace.
    pub(crate) port: u32,
    /// Who made it. The id is the thread's, counted in the initial pid namespace.
    pub(crate) by: Option<Process>,
    /// What it did.
    pub(crate) touched: Touched,
}

/// What a transaction touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each answers a question of its own"
)]
pub(crate) struct Touched {
    /// Our table is gone after it.
    pub(crate) deleted_ours: bool,
    /// Our table, its chains, rules, sets or counters were made, altered or deleted.
    pub(crate) ours: bool,
    /// Elements were added to our sets.
    pub(crate) added_elements: bool,
    /// Elements were deleted from our sets.
    pub(crate) deleted_elements: bool,
    /// The tables `filter` of IPv4 or IPv6, where iptables-nft keeps FORWARD.
    pub(crate) filter_tables: bool,
    /// Any other table.
    pub(crate) others: bool,
}

/// Hears of each change of `nf_tables` in the network namespace in which it was opened.
pub(crate) struct Monitor {
    notifications: Notifications,
    gathered: Gathered,
    has_overflowed: bool,
}

impl Monitor {
    /// Begins to listen. Needs `CAP_NET_ADMIN`.
    pub(crate) fn open() -> Result<Self, KernelError> {
        let notifications = Notifications::open(QUEUE).map_err(|error| failed(error, "opening"))?;
        Ok(Self {
            notifications,
            gathered: Gathered::default(),
            has_overflowed: false,
        })
    }

    /// The changes that wait to be read, without waiting for any. At most 64; where it gives none,
    /// none waits any more. What overflowed the queue is told as [`Change::Missed`].
    pub(crate) fn read(&mut self) -> Result<Vec<Change>, KernelError> {
        let mut changes = Vec::new();
        while changes.len() < MAX_CHANGES {
            match self.notifications.receive() {
                Ok(Some(datagram)) => self.gathered.take(datagram, &mut changes),
                Ok(None) => {
                    if mem::take(&mut self.has_overflowed) {
                        self.gathered.lose(&mut changes);
                    }
                    break;
                }
                // Once it has overflowed the queue takes nothing, and says so no more, until it
                // has been read to its end: only who looks then sees all.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.has_overflowed = true;
                }
                Err(error) => return Err(failed(error, "reading")),
            }
        }
        Ok(changes)
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notifications.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

fn failed(error: io::Error, doing: &str) -> KernelError {
    let doing = match doing {
        "opening" => "listening for changes of the firewall",
        _ => "reading changes of the firewall",
    };
    Step { doing, set: None }.error(error.into(), |_| None)
}

/// The part of a transaction that has been heard of; its end comes as a new generation.
#[derive(Debug, Default)]
struct Gathered {
    touched: Touched,
}

impl Gathered {
    /// Takes the messages of a datagram, and gives what they bring to an end. Any bytes will do.
    fn take(&mut self, datagram: &[u8], changes: &mut Vec<Change>) {
        for message in messages(datagram) {
            match message {
                Ok(message) => changes.extend(self.take_message(&message).map(Change::Committed)),
                Err(Malformed) => self.lose(changes),
            }
        }
    }

    /// Forgets what was gathered, for its rest may be lost. Told once for all that was lost.
    fn lose(&mut self, changes: &mut Vec<Change>) {
        self.touched = Touched::default();
        if changes.last() != Some(&Change::Missed) {
            changes.push(Change::Missed);
        }
    }

    fn take_message(&mut self, message: &Message<'_>) -> Option<Commit> {
        let [kind, subsystem] = message.kind.to_le_bytes();
        if u16::from(subsystem) != SUBSYSTEM || kind == TRACE {
            return None;
        }
        if kind == NEW_GENERATION {
            return Some(self.end(message));
        }
        let table = message.attributes().get(TABLE_NAME);
        let table = table.map_or(&b""[..], |name| name.text());
        match (message.family(), table) {
            (Some(INET), name) if name == TABLE.to_bytes() => self.touch_ours(kind),
            (Some(IPV4 | IPV6), b"filter") => self.touched.filter_tables = true,
            _ => self.touched.others = true,
        }
        None
    }

    fn touch_ours(&mut self, kind: u8) {
        let touched = &mut self.touched;
        match kind {
            NEW_ELEMENT => touched.added_elements = true,
            DELETE_ELEMENT => touched.deleted_elements = true,
            // A table that is replaced is deleted and made again: the last word counts.
            NEW_TABLE | DELETE_TABLE => {
                touched.ours = true;
                touched.deleted_ours = kind == DELETE_TABLE;
            }
            _ => touched.ours = true,
        }
    }

    fn end(&mut self, message: &Message<'_>) -> Commit {
        let attributes = message.attributes();
        let number = |kind| attributes.get(kind).and_then(|value| value.be32());
        Commit {
            generation: number(GENERATION_ID).unwrap_or(0),
            port: message.port,
            by: number(PROCESS_ID).map(|pid| Process {
                pid,
                name: attributes
                    .get(PROCESS_NAME)
                    .map_or_else(String::new, |name| {
                        let name = name.text();
                        let name = &name[..name.len().min(MAX_PROCESS_NAME)];
                        String::from_utf8_lossy(name).into_owned()
                    }),
            }),
            touched: mem::take(&mut self.touched),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use nix::poll::{PollFd, PollFlags, poll};
    use proptest::prelude::*;
    use tokio::time::timeout;

    use super::super::kernel::Kernel;
    use super::super::testing::QUARANTINE_MAC;
    use super::super::testing::{RULESET, in_namespace, nft, run};
    use super::*;
    use crate::decode::netlink::building::{attribute, message};
    use crate::model::{Interface, Mac};
    use crate::sys::readiness::Readiness;

    /// The one change that waits.
    fn only(monitor: &mut Monitor) -> Commit {
        let mut fds = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, 2000u16).unwrap(), 1);
        let mut changes = monitor.read().unwrap();
        assert_eq!(changes.len(), 1, "{changes:?}");
        match changes.pop() {
            Some(Change::Committed(commit)) => commit,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_change_says_who_made_it_and_what_it_touched() {
        in_namespace(|| {
            let mut monitor = Monitor::open().unwrap();
            assert_eq!(monitor.read().unwrap(), []);
            let nft_pid = nft(RULESET);
            let commit = only(&mut monitor);
            assert!(
                commit.touched.ours && !commit.touched.deleted_ours,
                "{commit:?}"
            );
            assert!(!commit.touched.others && !commit.touched.filter_tables);
            assert_eq!(commit.by.as_ref().unwrap().name, "nft");
            assert_eq!(commit.port, nft_pid);

            nft("add table inet other");
            let commit = only(&mut monitor);
            let others = Touched {
                others: true,
                ..Touched::default()
            };
            assert_eq!(commit.touched, others);
            nft("add table ip smtpwatch");
            assert_eq!(only(&mut monitor).touched, others);

            // Replaced whole: gone and back in one transaction.
            nft(&format!("delete table inet smtpwatch; {RULESET}"));
            let commit = only(&mut monitor);
            assert!(
                commit.touched.ours && !commit.touched.deleted_ours,
                "{commit:?}"
            );

            let pid = nft("flush ruleset");
            let flush = only(&mut monitor);
            assert!(
                flush.touched.deleted_ours && flush.touched.others,
                "{flush:?}"
            );
            assert_eq!(flush.port, pid);
            assert!(flush.generation > commit.generation);
            assert_eq!(monitor.read().unwrap(), []);
        });
    }

    #[test]
    fn our_own_elements_are_told_by_the_port() {
        in_namespace(|| {
            nft(RULESET);
            let mut kernel = Kernel::open().unwrap();
            let mut monitor = Monitor::open().unwrap();
            let key = (Interface::new(b"lan0"), Mac([2; 6]));
            QUARANTINE_MAC.add(&mut kernel, &[(key, None)]).unwrap();
            let commit = only(&mut monitor);
            assert_eq!(commit.port, kernel.port());
            assert!(
                commit.touched.added_elements && !commit.touched.ours,
                "{commit:?}"
            );
            nft("delete element inet smtpwatch quarantine_mac { lan0 . 02:02:02:02:02:02 }");
            let commit = only(&mut monitor);
            assert_ne!(commit.port, kernel.port());
            assert_eq!(
                commit.touched,
                Touched {
                    deleted_elements: true,
                    ..Touched::default()
                }
            );
            nft("delete chain inet smtpwatch forward");
            let commit = only(&mut monitor);
            assert!(commit.touched.ours && !commit.touched.deleted_ours);
        });
    }

    #[test]
    fn iptables_nft_is_heard_of() {
        in_namespace(|| {
            let mut monitor = Monitor::open().unwrap();
            run(
                "iptables-nft",
                &["-A", "FORWARD", "-p", "tcp", "-j", "ACCEPT"],
            );
            let commit = only(&mut monitor);
            assert!(
                commit.touched.filter_tables && !commit.touched.ours,
                "{commit:?}"
            );
            run("ip6tables-nft", &["-F", "FORWARD"]);
            let changes = monitor.read().unwrap();
            assert!(changes.iter().any(|change| matches!(
                change,
                Change::Committed(commit) if commit.touched.filter_tables
            )));
        });
    }

    #[test]
    fn an_overflow_is_told_and_what_comes_after_is_heard() {
        in_namespace(|| {
            nft(RULESET);
            let mut kernel = Kernel::open().unwrap();
            let mut monitor = Monitor {
                notifications: Notifications::open(4096).unwrap(),
                gathered: Gathered::default(),
                has_overflowed: false,
            };
            let keys: Vec<_> = (0..200)
                .map(|n| ((Interface::new(b"lan0"), Mac([2, 0, 0, 0, 0, n])), None))
                .collect();
            for _ in 0..20 {
                QUARANTINE_MAC.add(&mut kernel, &keys).unwrap();
            }
            let mut changes = Vec::new();
            loop {
                let more = monitor.read().unwrap();
                if more.is_empty() {
                    break;
                }
                changes.extend(more);
            }
            // Told at the end, when what was lost can be seen by looking.
            assert_eq!(changes.last(), Some(&Change::Missed), "{changes:?}");
            let missed = changes.iter().filter(|change| **change == Change::Missed);
            assert_eq!(missed.count(), 1);
            nft("flush ruleset");
            assert!(only(&mut monitor).touched.deleted_ours);
        });
    }

    #[test]
    fn it_wakes_a_task_that_waits() {
        in_namespace(|| {
            nft(RULESET);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let mut monitor = Monitor::open().unwrap();
                let readiness = Readiness::of(&monitor).unwrap();
                let mut kernel = Kernel::open().unwrap();
                let key = (Interface::new(b"lan0"), Mac([2; 6]));
                for _ in 0..3 {
                    let change = thread::spawn(move || {
                        thread::sleep(Duration::from_millis(20));
                        QUARANTINE_MAC.add(&mut kernel, &[(key, None)]).unwrap();
                        kernel
                    });
                    let mut heard = Vec::new();
                    while heard.is_empty() {
                        let woken = timeout(Duration::from_secs(2), readiness.wait());
                        woken.await.unwrap().unwrap();
                        heard = monitor.read().unwrap();
                    }
                    kernel = change.join().unwrap();
                    assert!(matches!(
                        &heard[..],
                        [Change::Committed(commit)] if commit.touched.added_elements
                    ));
                    assert_eq!(monitor.read().unwrap(), []);
                }
            });
        });
    }

    #[test]
    fn no_child_process_inherits_the_sockets() {
        in_namespace(|| {
            let monitor = Monitor::open().unwrap();
            let flags = nix::fcntl::fcntl(monitor.as_fd(), nix::fcntl::F_GETFD).unwrap();
            assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        });
    }

    fn notification(kind: u8, family: u8, table: &[u8]) -> Vec<u8> {
        let payload = [vec![family, 0, 0, 0], attribute(TABLE_NAME, table)].concat();
        message(SUBSYSTEM << 8 | u16::from(kind), 0, 1, 42, &payload)
    }

    fn generation(number: u32, pid: u32, name: &[u8]) -> Vec<u8> {
        let payload = [
            vec![0; 4],
            attribute(GENERATION_ID, &number.to_be_bytes()),
            attribute(PROCESS_ID, &pid.to_be_bytes()),
            attribute(PROCESS_NAME, name),
        ];
        let kind = SUBSYSTEM << 8 | u16::from(NEW_GENERATION);
        message(kind, 0, 1, 42, &payload.concat())
    }

    #[test]
    fn a_transaction_may_come_in_several_datagrams() {
        let mut gathered = Gathered::default();
        let mut changes = Vec::new();
        gathered.take(&notification(8, INET, b"smtpwatch\0"), &mut changes);
        gathered.take(
            &notification(DELETE_TABLE, INET, b"smtpwatch\0"),
            &mut changes,
        );
        assert_eq!(changes, []);
        let end = [
            generation(7, 99, b"nft\0"),
            notification(NEW_TABLE, INET, b"x\0"),
        ]
        .concat();
        gathered.take(&end, &mut changes);
        gathered.take(
            &generation(8, 100, b"a name that is far too long"),
            &mut changes,
        );
        let commit = |generation, pid, name: &str, touched| {
            Change::Committed(Commit {
                generation,
                port: 42,
                by: Some(Process {
                    pid,
                    name: name.to_owned(),
                }),
                touched,
            })
        };
        let deleted = Touched {
            deleted_ours: true,
            ours: true,
            ..Touched::default()
        };
        let others = Touched {
            others: true,
            ..Touched::default()
        };
        assert_eq!(
            changes,
            [
                commit(7, 99, "nft", deleted),
                commit(8, 100, "a name that is ", others)
            ]
        );
    }

    #[test]
    fn a_cut_datagram_is_a_missed_change() {
        let mut gathered = Gathered::default();
        let mut changes = Vec::new();
        let whole = notification(DELETE_TABLE, INET, b"smtpwatch\0");
        gathered.take(&whole[..whole.len() - 4], &mut changes);
        gathered.take(&whole[..7], &mut changes);
        assert_eq!(changes, [Change::Missed]);
    }

    proptest! {
        #[test]
        fn any_datagram_is_taken(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut changes = Vec::new();
            Gathered::default().take(&bytes, &mut changes);
            prop_assert!(changes.len() <= bytes.len() / 16 + 1);
        }

        #[test]
        fn a_real_datagram_bent_anywhere_is_taken(
            at in any::<usize>(), to in any::<u8>(), end in any::<usize>(),
        ) {
            let mut bytes = [
                notification(DELETE_TABLE, INET, b"smtpwatch\0"),
                notification(DELETE_ELEMENT, INET, b"smtpwatch\0"),
                generation(7, 99, b"nft\0"),
            ].concat();
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.truncate(end % (bytes.len() + 1));
            let mut changes = Vec::new();
            Gathered::default().take(&bytes, &mut changes);
            prop_assert!(changes.len() <= 4);
        }
    }
}
