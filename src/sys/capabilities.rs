//! What this thread may do: its effective capabilities (capabilities(7)), for errors that say what
//! is missing. Nothing is raised or dropped here.

use std::fmt;
use std::fs;
use std::io;

/// A capability that a part of smtpwatch needs; the numbers are linux/capability.h's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capability {
    /// The firewall, NFLOG, conntrack, neighbours' changes.
    NetAdmin = 12,
    /// Captures.
    NetRaw = 13,
    /// Network namespaces of one's own.
    SysAdmin = 21,
    /// The kernel log, where it is restricted.
    Syslog = 34,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::Syslog => "CAP_SYSLOG",
        })
    }
}

/// The effective capabilities of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capabilities(u64);

impl Capabilities {
    /// The calling thread's, from /proc/thread-self/status.
    pub(crate) fn of_this_thread() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/thread-self/status")?;
        Self::in_status(&status).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "/proc/thread-self/status has no CapEff line",
            )
        })
    }

    /// Whether `capability` is among them.
    pub(crate) fn has(self, capability: Capability) -> bool {
        self.0 >> capability as u32 & 1 != 0
    }

    fn in_status(status: &str) -> Option<Self> {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(line.trim(), 16).ok().map(Self)
    }
}

/// Takes `capability` from the calling thread alone, for tests of what is said without it.
#[cfg(test)]
pub(crate) fn drop_from_this_thread(capability: Capability) {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let header = Header {
        version: 0x2008_0522,
        pid: 0,
    };
    let mut data = [Data::default(); 2];
    // SAFETY: capget(2) version 3 reads the header and writes two data structures, all of which
    // live here and have the layout of linux/capability.h.
    let got = unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) };
    assert_eq!(got, 0);
    data[capability as usize / 32].effective &= !(1 << (capability as u32 % 32));
    // SAFETY: capset(2) reads the same structures; without a pid it changes this thread alone.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    assert_eq!(set, 0);
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_effective_set_is_read_and_no_other() {
        let status = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000400001000\n";
        let capabilities = Capabilities::in_status(status).unwrap();
        assert!(capabilities.has(Capability::NetAdmin));
        let other = "CapEff:\t0000000400002000\n";
        assert!(
            !Capabilities::in_status(other)
                .unwrap()
                .has(Capability::NetAdmin)
        );
        for bad in ["", "CapEff:\n", "CapEff:\tzz\n", "CapPrm:\t1\n"] {
            assert_eq!(Capabilities::in_status(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_dropped_capability_is_missed_in_that_thread_only() {
        let before = Capabilities::of_this_thread().unwrap();
        assert!(before.has(Capability::NetAdmin), "this test needs root");
        let after = thread::spawn(|| {
            drop_from_this_thread(Capability::NetAdmin);
            Capabilities::of_this_thread().unwrap()
        });
        let after = after.join().unwrap();
        assert!(!after.has(Capability::NetAdmin));
        assert_eq!(Capabilities::of_this_thread().unwrap(), before);
    }
}
