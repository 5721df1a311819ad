//! The connection to `nf_tables` that sets and counters of our table share, and what the kernel's
//! refusals mean to an admin. Loading whole rulesets is not its task.

use std::ffi::CStr;
use std::io;

use crate::sys::Refusal;
use crate::sys::capabilities::{Capabilities, Capability};
use crate::sys::nftables::{Failure, GET_TABLE, Nftables, Place, Request};

/// The name of our table, whose family is inet.
pub(super) const TABLE: &CStr = c"smtpwatch";
/// `NFTA_TABLE_NAME`.
const TABLE_NAME: u16 = 1;
/// Dumps are tried again that often where somebody changes the rules meanwhile.
const MAX_TRIES: u32 = 8;

/// Why sets or counters of our table could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    /// The right to do it is missing.
    #[error(
        "{step}: not permitted; it needs CAP_NET_ADMIN{}: run smtpwatch as root or give it that capability",
        if *.has_capability { " in the user namespace that owns this network namespace" } else { "" }
    )]
    Denied {
        /// What was tried.
        step: String,
        /// Whether this thread has the capability, and so it must be another namespace's.
        has_capability: bool,
    },
    /// The kernel was built without `nf_tables`, or its module is not to be loaded.
    #[error(
        "{step}: this kernel has no nf_tables (CONFIG_NF_TABLES; `modprobe nf_tables` loads the module)"
    )]
    NoNfTables {
        /// What was tried.
        step: String,
    },
    /// Our table is not installed, or somebody took it away.
    #[error("{step}: there is no table inet smtpwatch; `smtpwatch rules install` puts it in place")]
    NoTable {
        /// What was tried.
        step: String,
    },
    /// Our table lacks a set.
    #[error(
        "table inet smtpwatch has no set {set}: it was altered or installed by another version; `smtpwatch rules install` renews it"
    )]
    NoSet {
        /// The set.
        set: String,
    },
    /// A set took no more elements; of what was to be added none was.
    #[error(
        "set {set} of table inet smtpwatch is full{}: none of {adding} elements was added{}; delete some of its elements first",
        .size.map(|size| format!(" ({size} elements)")).unwrap_or_default(),
        .element.as_ref().map(|element| format!(", the first without room was {element}")).unwrap_or_default()
    )]
    SetFull {
        /// The set.
        set: String,
        /// How many elements it holds at most.
        size: Option<u32>,
        /// How many were to be added.
        adding: usize,
        /// The first for which there was no room.
        element: Option<String>,
    },
    /// The kernel refused something else.
    #[error("{step}{}: {}{}", on(.element.as_ref()), source_text(*.errno), says(.text.as_ref()))]
    Refused {
        /// What was tried.
        step: String,
        /// The element at fault.
        element: Option<String>,
        /// errno(3).
        errno: i32,
        /// The kernel's own words.
        text: Option<String>,
    },
    /// Others change the rules faster than they can be read.
    #[error("{step}: the rules changed each time while they were read; try again")]
    Restless {
        /// What was tried.
        step: String,
    },
    /// The kernel did not answer.
    #[error("{step}: the kernel gave no whole answer")]
    NoAnswer {
        /// What was tried.
        step: String,
    },
    /// The socket did not work.
    #[error("{step}: {source}")]
    Socket {
        /// What was tried.
        step: String,
        /// Why.
        source: io::Error,
    },
}

fn on(element: Option<&String>) -> String {
    element
        .map(|e| format!(": element {e}"))
        .unwrap_or_default()
}

fn source_text(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

fn says(text: Option<&String>) -> String {
    text.map(|text| format!("; the kernel says: {}", text.escape_debug()))
        .unwrap_or_default()
}

/// What is tried, for errors.
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    /// Such as "adding to".
    pub(super) doing: &'static str,
    /// The set, where it is about one.
    pub(super) set: Option<&'a CStr>,
}

impl Step<'_> {
    fn text(self) -> String {
        match self.set {
            Some(set) => format!("{} set {} of table inet smtpwatch", self.doing, name(set)),
            None => self.doing.to_owned(),
        }
    }

    /// What `failure` means here; `show` prints the key of an element at fault.
    pub(super) fn error(
        self,
        failure: Failure,
        show: impl Fn(&[u8]) -> Option<String>,
    ) -> KernelError {
        let step = self.text();
        match failure {
            Failure::Io(source) => match source.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => denied(step),
                Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => {
                    KernelError::NoNfTables { step }
                }
                _ => KernelError::Socket { step, source },
            },
            Failure::Interrupted => KernelError::Restless { step },
            Failure::NoAnswer => KernelError::NoAnswer { step },
            Failure::Refused(refusal, place) => self.refused(refusal, &place, show),
        }
    }

    fn refused(
        self,
        refusal: Refusal,
        place: &Place,
        show: impl Fn(&[u8]) -> Option<String>,
    ) -> KernelError {
        let step = self.text();
        match (refusal.errno, place, self.set) {
            (libc::EPERM, ..) => denied(step),
            (libc::EOPNOTSUPP, Place::Unknown, _) => KernelError::NoNfTables { step },
            (libc::ENOENT, Place::Table, _) | (libc::ENOENT, Place::Unknown, None) => {
                KernelError::NoTable { step }
            }
            // Before 6.3 the kernel does not point at the set that it misses.
            (libc::ENOENT, Place::Set | Place::Unknown, Some(set)) => {
                KernelError::NoSet { set: name(set) }
            }
            (errno, place, _) => KernelError::Refused {
                step,
                element: match place {
                    Place::Element(key) => show(key),
                    _ => None,
                },
                errno,
                text: refusal.text,
            },
        }
    }
}

fn denied(step: String) -> KernelError {
    let capabilities = Capabilities::of_this_thread();
    KernelError::Denied {
        step,
        has_capability: capabilities.is_ok_and(|has| has.has(Capability::NetAdmin)),
    }
}

/// A name as text.
pub(super) fn name(name: &CStr) -> String {
    name.to_string_lossy().into_owned()
}

/// A connection to `nf_tables` of the network namespace of the thread that opens it. It may then
/// move to another thread.
pub(crate) struct Kernel {
    pub(super) nftables: Nftables,
}

impl Kernel {
    /// Opens one.
    pub(crate) fn open() -> Result<Self, KernelError> {
        let step = Step {
            doing: "opening a netlink socket to the firewall",
            set: None,
        };
        let nftables = Nftables::open().map_err(|error| step.error(error.into(), |_| None))?;
        Ok(Self { nftables })
    }

    /// The netlink port that [`Change`](super::monitor::Change)s made through it bear.
    #[cfg(test)]
    pub(crate) fn port(&self) -> u32 {
        self.nftables.port()
    }

    /// Whether our table is there.
    pub(crate) fn has_table(&mut self) -> Result<bool, KernelError> {
        let step = Step {
            doing: "looking for table inet smtpwatch",
            set: None,
        };
        let request = Request {
            message: GET_TABLE,
            is_dump: false,
            names: &[(TABLE_NAME, TABLE)],
            number: None,
        };
        match self.nftables.ask(&request, |_| ()) {
            Ok(()) => Ok(true),
            Err(failure) => match step.error(failure, |_| None) {
                KernelError::NoTable { .. } => Ok(false),
                error => Err(error),
            },
        }
    }

    /// Reads a dump whole: `read` begins anew where the rules changed meanwhile.
    pub(super) fn dump<T>(
        &mut self,
        step: Step<'_>,
        mut read: impl FnMut(&mut Nftables) -> Result<T, Failure>,
    ) -> Result<T, KernelError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match read(&mut self.nftables) {
                Err(Failure::Interrupted) if tries < MAX_TRIES => {}
                // Our dumps lack nothing, so that only a missing subsystem is invalid.
                Err(Failure::Refused(refusal, Place::Unknown)) if refusal.errno == libc::EINVAL => {
                    return Err(KernelError::NoNfTables { step: step.text() });
                }
                result => return result.map_err(|failure| step.error(failure, |_| None)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDING: Step<'_> = Step {
        doing: "adding to",
        set: Some(c"quarantine4"),
    };

    fn refused(errno: i32, place: Place) -> Failure {
        let refusal = Refusal {
            errno,
            sequence: 2,
            offset: None,
            text: Some("not\nso".to_owned()),
        };
        Failure::Refused(refusal, place)
    }

    fn text(failure: Failure) -> String {
        let show = |key: &[u8]| Some(format!("{key:?}"));
        ADDING.error(failure, show).to_string()
    }

    #[test]
    fn each_refusal_says_what_and_why() {
        let step = "adding to set quarantine4 of table inet smtpwatch: ";
        for (failure, expected) in [
            (
                refused(libc::EPERM, Place::Unknown),
                "not permitted; it needs CAP_NET_ADMIN in the user namespace that owns this \
                 network namespace: run smtpwatch as root or give it that capability",
            ),
            (
                refused(libc::EOPNOTSUPP, Place::Unknown),
                "this kernel has no nf_tables (CONFIG_NF_TABLES; `modprobe nf_tables` loads the module)",
            ),
            (
                io::Error::from_raw_os_error(libc::EPROTONOSUPPORT).into(),
                "this kernel has no nf_tables (CONFIG_NF_TABLES; `modprobe nf_tables` loads the module)",
            ),
            (
                refused(libc::ENOENT, Place::Table),
                "there is no table inet smtpwatch; `smtpwatch rules install` puts it in place",
            ),
            (
                refused(libc::EBUSY, Place::Element(vec![7])),
                "element [7]: Device or resource busy (os error 16); the kernel says: not\\nso",
            ),
            (
                Failure::Interrupted,
                "the rules changed each time while they were read; try again",
            ),
            (Failure::NoAnswer, "the kernel gave no whole answer"),
            (
                io::Error::from_raw_os_error(libc::EBADF).into(),
                "Bad file descriptor (os error 9)",
            ),
        ] {
            assert_eq!(text(failure), format!("{step}{expected}"));
        }
        for place in [Place::Set, Place::Unknown] {
            assert!(text(refused(libc::ENOENT, place)).contains("has no set quarantine4"));
        }
    }
}
