//! The lists of network cards' makers that Linux systems have. Read once, whole, when the first maker
//! is asked for; where there is none, no maker is known.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::attribution::vendors::Vendors;
use crate::engine::{Engine, Facts, Input};
use crate::model::{DeviceId, Mac};

/// Where they are: systemd's on nearly every system, the others where their packages are installed.
const LISTS: [&str; 9] = [
    "/usr/lib/udev/hwdb.d/20-OUI.hwdb",
    "/lib/udev/hwdb.d/20-OUI.hwdb",
    "/usr/share/ieee-data/oui.txt",
    "/var/lib/ieee-data/oui.txt",
    "/usr/share/wireshark/manuf",
    "/usr/share/nmap/nmap-mac-prefixes",
    "/usr/share/arp-scan/ieee-oui.txt",
    "/usr/local/share/arp-scan/ieee-oui.txt",
    "/usr/share/misc/oui.txt",
];
/// The largest list that is read.
const MAX_BYTES: u64 = 32 << 20;

/// The makers, as this system knows them.
#[derive(Debug, Default)]
pub(crate) struct VendorList {
    read: Option<Vendors>,
    paths: Vec<PathBuf>,
}

impl VendorList {
    /// The system's own.
    pub(crate) fn of_system() -> Self {
        Self::at(LISTS.map(PathBuf::from).to_vec())
    }

    /// The first of `paths` that has any.
    pub(crate) fn at(paths: Vec<PathBuf>) -> Self {
        Self { read: None, paths }
    }

    /// Who made the card with `mac`. The first call reads a file of some megabytes.
    pub(crate) fn of(&mut self, mac: Mac) -> Option<&str> {
        let paths = &self.paths;
        let vendors = self.read.get_or_insert_with(|| {
            let lists = paths.iter().filter_map(|path| list(path));
            lists
                .into_iter()
                .find(|it| !it.is_empty())
                .unwrap_or_default()
        });
        vendors.of(mac)
    }

    /// Reads the list now, where waiting for it does no harm.
    pub(crate) fn load(&mut self) {
        let _ = self.of(Mac([0; 6]));
    }

    /// What to tell the engine of the device called `id`, where it does not know yet who made its card.
    pub(crate) fn input(&mut self, engine: &Engine, id: DeviceId) -> Option<Input> {
        let mac = engine.wants_vendor(id)?;
        Some(Input::Vendor {
            device: engine.device(id)?.key,
            mac,
            name: self.of(mac).map(str::to_owned),
        })
    }

    /// Names the makers that the history does not keep.
    pub(crate) fn fill(&mut self, facts: &mut [Facts]) {
        for facts in facts.iter_mut().filter(|facts| facts.vendor.is_none()) {
            facts.vendor = facts.mac.and_then(|mac| self.of(mac)).map(str::to_owned);
        }
    }
}

fn list(path: &Path) -> Option<Vendors> {
    let mut text = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MAX_BYTES).read_to_end(&mut text).ok()?;
    Some(Vendors::decode(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_list_with_anything_in_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("empty"), "# nothing\n").unwrap();
        std::fs::write(path("list"), "001422 Dell Inc.\n").unwrap();
        std::fs::write(path("later"), "001422 Other\n").unwrap();
        let mut vendors = VendorList::at(["none", "empty", "list", "later"].map(path).to_vec());
        assert_eq!(vendors.of(Mac([0, 0x14, 0x22, 1, 2, 3])), Some("Dell"));
        let mut none = VendorList::at(vec![path("none")]);
        assert_eq!(none.of(Mac([0, 0x14, 0x22, 1, 2, 3])), None);
    }
}
