//! The kernel's version, and memory.

use super::files;
use crate::view::Check;

/// The oldest kernel that its makers still look after.
const OLDEST: (u32, u32) = (5, 10);
/// Memory that should be available, in KiB: a run with full tables takes some 60 MiB.
const LITTLE: u64 = 128 << 10;

/// What is known of it.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    release: Option<String>,
    /// KiB.
    available: Option<u64>,
}

impl Facts {
    pub(super) fn gather() -> Self {
        let memory = files::read("/proc/meminfo").unwrap_or_default();
        Self {
            release: files::setting("kernel/osrelease"),
            available: available(&memory),
        }
    }

    pub(super) fn judge(&self) -> Vec<Check> {
        vec![self.kernel(), self.memory()]
    }

    fn kernel(&self) -> Check {
        const ID: &str = "host.kernel";
        let release = self.release.as_deref().unwrap_or("unknown");
        match version(release) {
            Some(version) if version >= OLDEST => Check::ok(ID, format!("Linux {release}")),
            Some(_) => Check::warn(
                ID,
                format!("Linux {release} is older than any that is still maintained"),
                "prove that the watch works on it: smtpwatch doctor --selftest",
            ),
            None => Check::warn(
                ID,
                format!("the kernel's version is not known: {release}"),
                "prove that the watch works on it: smtpwatch doctor --selftest",
            ),
        }
    }

    fn memory(&self) -> Check {
        const ID: &str = "host.memory";
        match self.available {
            Some(kib) if kib >= LITTLE => Check::ok(ID, format!("{} MiB available", kib >> 10)),
            Some(kib) => Check::warn(
                ID,
                format!("{} MiB available, and a flood may take more", kib >> 10),
                "see what takes it: ps aux --sort -rss | head",
            ),
            None => Check::warn(ID, "/proc/meminfo cannot be read", "look with: free -m"),
        }
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    Some((major.parse().ok()?, rest[..end].parse().ok()?))
}

fn available(memory: &str) -> Option<u64> {
    let line = memory
        .lines()
        .find_map(|it| it.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::status;
    use super::*;
    use crate::view::CheckStatus::{Ok, Warn};

    #[test]
    fn kernels_and_memory() {
        let kernel = |release: &str| {
            let facts = Facts {
                release: Some(release.to_owned()),
                available: None,
            };
            status(&facts.judge(), "host.kernel")
        };
        assert_eq!(kernel("6.1.0-18-amd64"), Ok);
        assert_eq!(kernel("5.10.0"), Ok);
        assert_eq!(kernel("5.4.0-generic"), Warn);
        assert_eq!(kernel("4.19"), Warn);
        assert_eq!(kernel("strange"), Warn);
        let memory = |available| {
            let facts = Facts {
                release: None,
                available,
            };
            status(&facts.judge(), "host.memory")
        };
        assert_eq!(memory(Some(LITTLE)), Ok);
        assert_eq!(memory(Some(LITTLE - 1)), Warn);
        assert_eq!(memory(None), Warn);
        assert_eq!(
            available("MemTotal: 9 kB\nMemAvailable:  77 kB\n"),
            Some(77)
        );
    }
}
