//! Where the names of devices come from: DHCP leases, found or not, fresh or stale.

use std::path::PathBuf;

use super::listed;
use crate::model::Timestamp;
use crate::source::inventory::Inventory;
use crate::view::Check;

/// Days after which a file that nobody wrote is stale: leases of a LAN are renewed each day or so.
const STALE: i64 = 7;

/// What is known of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// The lease files that are followed, and the days since they were written.
    files: Vec<(PathBuf, Option<i64>)>,
    /// The leases in them.
    leases: usize,
    /// What cannot be read.
    complaints: Vec<String>,
}

impl Facts {
    pub(super) fn gather(inventory: Option<(Inventory, usize)>, now: Timestamp) -> Self {
        let Some((mut inventory, leases)) = inventory else {
            return Self::default();
        };
        let age = |path: &std::path::Path| {
            let written = path.metadata().ok()?.modified().ok()?;
            let written = written.duration_since(std::time::UNIX_EPOCH).ok()?;
            let written = i64::try_from(written.as_secs()).ok()?;
            Some((now.as_seconds() - written) / 86_400)
        };
        let files = inventory
            .lease_files()
            .map(|path| (path.to_owned(), age(path)));
        Self {
            files: files.filter(|(path, _)| path.exists()).collect(),
            leases,
            complaints: inventory
                .complaints()
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }

    pub(super) fn judge(&self) -> Vec<Check> {
        vec![self.leases()]
    }

    fn leases(&self) -> Check {
        const ID: &str = "leases.files";
        if !self.complaints.is_empty() {
            return Check::warn(
                ID,
                listed(&self.complaints),
                "let smtpwatch read it (as root), or name the right file: smtpwatch watch --leases FILE",
            );
        }
        if self.files.is_empty() {
            return Check::warn(
                ID,
                "no DHCP leases found: devices have addresses and MACs, but no names",
                "where another machine is the DHCP server, copy its leases here: smtpwatch watch --leases FILE",
            );
        }
        let name = |path: &PathBuf| path.display().to_string();
        let stale = self
            .files
            .iter()
            .filter(|(_, days)| days.is_none_or(|days| days >= STALE));
        let stale: Vec<String> = stale.map(|(path, _)| name(path)).collect();
        if stale.len() == self.files.len() {
            return Check::warn(
                ID,
                format!("not written for {STALE} days or more: {}", listed(&stale)),
                "see that the DHCP server runs and writes there, else: smtpwatch watch --leases FILE",
            );
        }
        let names: Vec<String> = self.files.iter().map(|(path, _)| name(path)).collect();
        Check::ok(ID, format!("{} leases in {}", self.leases, listed(&names)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::status;
    use super::*;
    use crate::view::CheckStatus::{Ok, Warn};

    #[test]
    fn leases_found_stale_missing_or_unreadable() {
        let of = |ages: &[Option<i64>], complaints: &[&str]| {
            let facts = Facts {
                files: ages.iter().map(|age| (PathBuf::from("/x"), *age)).collect(),
                leases: 3,
                complaints: complaints.iter().map(|it| (*it).to_owned()).collect(),
            };
            status(&facts.judge(), "leases.files")
        };
        assert_eq!(of(&[Some(0)], &[]), Ok);
        assert_eq!(of(&[Some(0), Some(100)], &[]), Ok);
        assert_eq!(of(&[Some(7)], &[]), Warn);
        assert_eq!(of(&[None], &[]), Warn);
        assert_eq!(of(&[], &[]), Warn);
        assert_eq!(of(&[Some(0)], &["/x: leases cannot be read"]), Warn);
    }
}
