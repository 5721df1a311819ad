//! What kind of interfaces there are, and whether routes depend on more than the destination, for
//! `doctor`: what may take packets past the firewall's hooks.

use std::io;

use netlink_packet_core::{NetlinkBuffer, NlasIterator, Parseable};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkMessage};
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};

use super::netlink::Socket;
use crate::model::Interface;

/// Attributes of a link (linux/if_link.h).
const HEADER: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
/// The bits of an attribute's type that are no flags (`NLA_TYPE_MASK`).
const TYPE: u16 = 0x3fff;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWRULE: u16 = 32;
/// Rules that every kernel has: local, main, default (net/ipv4/fib_rules.c).
const USUAL: [u32; 3] = [0, 32_766, 32_767];
/// Interfaces and rules that are kept.
const MAX: usize = 4096;

/// What kind an interface is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkKind {
    /// A bridge.
    Bridge,
    /// macvlan, macvtap, ipvlan or ipvtap: a second door beside another interface.
    Beside,
    /// Any other.
    Other,
}

/// An interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SurveyedLink {
    /// Its number.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) interface: Interface,
    /// Its kind.
    pub(crate) kind: LinkKind,
    /// Whether it is up.
    pub(crate) is_up: bool,
    /// The number of the interface that it is a port of.
    pub(crate) master: Option<u32>,
    /// Whether an XDP program sees its packets first.
    pub(crate) has_xdp: bool,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ways {
    /// The interfaces.
    pub(crate) links: Vec<SurveyedLink>,
    /// Rules of policy routing beyond those that every kernel has.
    pub(crate) policies: usize,
}

/// Asks the kernel, in the network namespace of this thread.
pub(crate) fn survey() -> io::Result<Ways> {
    let mut ways = Ways::default();
    let mut socket = Socket::asking()?;
    let links = RouteNetlinkMessage::GetLink(LinkMessage::default());
    socket.ask(links, |message| {
        if message.message_type() == RTM_NEWLINK && ways.links.len() < MAX {
            ways.links.extend(link(message.payload()));
        }
    })?;
    let rules = RouteNetlinkMessage::GetRule(RuleMessage::default());
    socket.ask(rules, |message| {
        if message.message_type() == RTM_NEWRULE && is_unusual(message) {
            ways.policies += 1;
        }
    })?;
    Ok(ways)
}

/// Only what is needed is read: a link bears a hundred attributes.
fn link(payload: &[u8]) -> Option<SurveyedLink> {
    let header = LinkHeader::parse(payload).ok()?;
    let mut link = SurveyedLink {
        index: header.index,
        interface: Interface::default(),
        kind: LinkKind::Other,
        is_up: header.flags.contains(LinkFlags::Up),
        master: None,
        has_xdp: false,
    };
    for attribute in NlasIterator::new(payload.get(HEADER..)?).flatten() {
        let value = attribute.value();
        match attribute.kind() & TYPE {
            IFLA_IFNAME => {
                let name = value.strip_suffix(&[0]).unwrap_or(value);
                link.interface = Interface::new(name);
            }
            IFLA_MASTER => link.master = value.first_chunk().map(|it| u32::from_ne_bytes(*it)),
            IFLA_LINKINFO => link.kind = kind(value),
            IFLA_XDP => link.has_xdp = is_attached(value),
            _ => {}
        }
    }
    Some(link)
}

fn kind(info: &[u8]) -> LinkKind {
    let name = NlasIterator::new(info)
        .flatten()
        .find(|attribute| attribute.kind() & TYPE == IFLA_INFO_KIND);
    let name = name.map(|attribute| attribute.value().to_vec());
    match name.as_deref() {
        Some(b"bridge\0" | b"bridge") => LinkKind::Bridge,
        Some(b"macvlan\0" | b"macvtap\0" | b"ipvlan\0" | b"ipvtap\0") => LinkKind::Beside,
        _ => LinkKind::Other,
    }
}

fn is_attached(xdp: &[u8]) -> bool {
    NlasIterator::new(xdp).flatten().any(|it| {
        it.kind() & TYPE == IFLA_XDP_ATTACHED && it.value().first().is_some_and(|&a| a != 0)
    })
}

fn is_unusual(message: &NetlinkBuffer<&[u8]>) -> bool {
    let Ok(rule) = RuleMessage::parse(message.payload()) else {
        return true;
    };
    let priority = rule
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::Priority(priority) => Some(*priority),
            _ => None,
        });
    !USUAL.contains(&priority.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(4 + value.len())
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_link_is_read_as_far_as_it_matters() {
        let mut payload = vec![0; HEADER];
        payload[4] = 7;
        payload[8] = 1;
        payload.extend(attribute(IFLA_IFNAME, b"br0\0"));
        payload.extend(attribute(IFLA_MASTER, &9_u32.to_ne_bytes()));
        payload.extend(attribute(
            IFLA_LINKINFO,
            &attribute(IFLA_INFO_KIND, b"bridge\0"),
        ));
        payload.extend(attribute(
            IFLA_XDP | 0x8000,
            &attribute(IFLA_XDP_ATTACHED, &[1]),
        ));
        let expected = SurveyedLink {
            index: 7,
            interface: Interface::new(b"br0"),
            kind: LinkKind::Bridge,
            is_up: true,
            master: Some(9),
            has_xdp: true,
        };
        assert_eq!(link(&payload), Some(expected));
        assert_eq!(
            kind(&attribute(IFLA_INFO_KIND, b"macvlan\0")),
            LinkKind::Beside
        );
        assert!(!is_attached(&attribute(IFLA_XDP_ATTACHED, &[0])));
        assert_eq!(link(&[0; 3]), None);
    }

    #[test]
    fn the_loopback_interface_is_among_them() {
        let ways = survey().unwrap();
        assert!(
            ways.links
                .iter()
                .any(|it| it.interface == Interface::new(b"lo"))
        );
    }
}
