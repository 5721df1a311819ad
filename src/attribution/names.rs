//! Names that reverse DNS gives: the last choice, for whoever runs the zone writes what it likes.
//!
//! What could not be a host's name is refused. The least lately told is forgotten first; whom to ask
//! and when is not decided here.

use std::collections::VecDeque;
use std::net::IpAddr;

use foldhash::quality::FixedState;
use hashbrown::HashMap;

/// Names that are kept.
const MAX_NAMES: usize = 8_192;
/// The longest name (RFC 1035, in text).
const MAX_LENGTH: usize = 253;
/// The longest part between two dots.
const MAX_LABEL: usize = 63;

/// The name of a host in `text`, without the dot at its end: letters, digits, hyphens and, as Windows
/// has them, underscores (RFC 1123). None where it is something else.
pub fn hostname(text: &str) -> Option<&str> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=MAX_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(inner)
    };
    (name.len() <= MAX_LENGTH && name.split('.').all(is_label)).then_some(name)
}

/// The names of addresses.
#[derive(Clone, Debug)]
pub(super) struct ReverseNames {
    names: HashMap<IpAddr, String, FixedState>,
    /// The addresses in the order in which they came; some of them may be gone.
    order: VecDeque<IpAddr>,
}

impl ReverseNames {
    pub(super) fn new(state: FixedState) -> Self {
        Self {
            names: HashMap::with_hasher(state),
            order: VecDeque::new(),
        }
    }

    /// Takes what DNS calls `address`; answers the name where it is fit for one.
    pub(super) fn note(&mut self, address: IpAddr, name: Option<&str>) -> Option<&str> {
        let Some(name) = name.and_then(hostname) else {
            self.names.remove(&address);
            return None;
        };
        if self.names.insert(address, name.to_owned()).is_none() {
            self.order.push_back(address);
            if self.order.len() > MAX_NAMES
                && let Some(oldest) = self.order.pop_front()
            {
                self.names.remove(&oldest);
            }
        }
        self.get(address)
    }

    /// What DNS calls `address`.
    pub(super) fn get(&self, address: IpAddr) -> Option<&str> {
        self.names.get(&address).map(String::as_str)
    }

    /// The address is somebody else's now.
    pub(super) fn forget(&mut self, address: IpAddr) {
        self.names.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_hosts_or_none() {
        for (text, expected) in [
            ("printer.office.example.", Some("printer.office.example")),
            ("DESKTOP_7-a", Some("DESKTOP_7-a")),
            ("", None),
            (".", None),
            ("a..b", None),
            ("-a.b", None),
            ("a b", None),
            ("a\u{1b}[2J", None),
            ("b\u{fc}ro", None),
            ("<script>", None),
            ("$(reboot)", None),
        ] {
            assert_eq!(hostname(text), expected, "{text:?}");
        }
        assert!(hostname(&"a".repeat(63)).is_some());
        assert_eq!(hostname(&"a".repeat(64)), None);
        assert_eq!(hostname(&"abc.".repeat(64)), None);
    }

    #[test]
    fn names_are_bounded_and_go_with_the_address() {
        let mut names = ReverseNames::new(FixedState::with_seed(1));
        let address = |number: u32| IpAddr::from(std::net::Ipv4Addr::from(number));
        for number in 0..20_000 {
            assert_eq!(names.note(address(number), Some("pc")), Some("pc"));
        }
        assert_eq!(names.names.len(), MAX_NAMES);
        assert!(names.order.len() <= MAX_NAMES);
        assert_eq!(names.get(address(0)), None);
        assert_eq!(names.get(address(19_999)), Some("pc"));
        names.forget(address(19_999));
        assert_eq!(names.get(address(19_999)), None);
        for _ in 0..20_000 {
            names.note(address(7), Some("pc"));
            names.note(address(7), None);
        }
        assert!(names.order.len() <= MAX_NAMES);
    }
}
