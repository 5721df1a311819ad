//! Packets that a rule logs to user space (iptables' `NFLOG`, nft's `log group`): a netlink datagram to
//! its messages, a message to the TCP segment in it.
//!
//! Messages are attributes of `nfnetlink_log` (`linux/netfilter/nfnetlink_log.h`,
//! `net/netfilter/nfnetlink_log.c`); numbers of netlink itself are in the byte order of the machine that
//! wrote them, taken for this one's, those of `nfnetlink_log` in network byte order. What is not done: names
//! of interfaces are left to whoever has the machine's interfaces at hand, the packet's times and marks
//! are not read.

use super::packet::{self, Carrier, Content, Segment, Skip};
use crate::model::Mac;

/// Attributes of a message, in the order in which the kernel writes those that come.
const NFULA_PACKET_HDR: u16 = 1;
const NFULA_IFINDEX_INDEV: u16 = 4;
const NFULA_IFINDEX_OUTDEV: u16 = 5;
const NFULA_IFINDEX_PHYSOUTDEV: u16 = 7;
const NFULA_HWADDR: u16 = 8;
const NFULA_PAYLOAD: u16 = 9;
const NFULA_PREFIX: u16 = 10;
const NFULA_SEQ: u16 = 12;
const NFULA_HWTYPE: u16 = 15;
const NFULA_HWHEADER: u16 = 16;
const NFULA_VLAN: u16 = 20;

/// Within `NFULA_VLAN`: the tag's priority and identifier.
const NFULA_VLAN_TCI: u16 = 2;

/// The flags in an attribute's type (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const TYPE_MASK: u16 = 0x3fff;

/// Types of netlink messages (`linux/netlink.h`).
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// `NFULNL_MSG_PACKET` of the subsystem `NFNL_SUBSYS_ULOG`.
const PACKET: u16 = 4 << 8;

/// `ARPHRD_ETHER` (`linux/if_arp.h`).
const ARPHRD_ETHER: u16 = 1;

/// Length of a netlink message's header, and of nfnetlink's behind it.
const NETLINK_HEADER: usize = 16;
const NFNETLINK_HEADER: usize = 4;

/// What a datagram holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A packet that was logged.
    Packet(Message<'a>),
    /// The kernel's answer to a request.
    Answer {
        /// The request's sequence number.
        request: u32,
        /// Why it was refused (errno(3)), or 0.
        errno: i32,
    },
    /// Something else, or a message that is cut; in the latter case the datagram ends with it.
    Broken,
}

/// A packet that was logged, with what the kernel says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The hook in which the rule stands (`NF_INET_*`: prerouting is 0, forward 2).
    pub hook: Option<u8>,
    /// What the rule says to put before it.
    pub prefix: &'a [u8],
    /// Index of the interface by which it came in; 0 for none.
    pub input: u32,
    /// Index of the interface by which it goes out; 0 for none, which it is before routing.
    pub output: u32,
    /// Whether a bridge passes the packet on, and not the router.
    pub is_bridged: bool,
    /// Number of the message in its group, where such numbers are asked for: a gap is a loss.
    pub sequence: Option<u32>,
    /// The frame's header, where it has one.
    pub header: &'a [u8],
    /// The kind of link (`ARPHRD_*`) that it came in by.
    link: Option<u16>,
    /// The sender's address there, where it is as long as a MAC.
    address: Option<[u8; 6]>,
    vlan: Option<u16>,
    payload: Result<&'a [u8], Skip>,
}

impl<'a> Message<'a> {
    /// Reads a message's attributes, which may end anywhere. The payload is the last one that the
    /// kernel writes, so that reading ends there.
    pub fn read(attributes: &'a [u8]) -> Self {
        let mut message = Self {
            hook: None,
            prefix: b"",
            input: 0,
            output: 0,
            is_bridged: false,
            sequence: None,
            header: b"",
            link: None,
            address: None,
            vlan: None,
            payload: Err(Skip::Truncated),
        };
        let mut rest = attributes;
        while let Some((header, after)) = rest.split_first_chunk::<4>() {
            let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
            let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
            let Some(length) = length.checked_sub(4) else {
                message.payload = Err(Skip::BadHeader);
                break;
            };
            let value = after.get(..length);
            if kind == NFULA_PAYLOAD {
                message.payload = Ok(value.unwrap_or(after));
                break;
            }
            // Without its end a value counts as little as what would have come behind it.
            let Some(value) = value else { break };
            message.take(kind, value);
            rest = after.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        message
    }

    fn take(&mut self, kind: u16, value: &'a [u8]) {
        match kind {
            NFULA_PACKET_HDR => self.hook = value.get(2).copied(),
            NFULA_PREFIX => self.prefix = value.strip_suffix(b"\0").unwrap_or(value),
            NFULA_IFINDEX_INDEV => self.input = number(value).unwrap_or(0),
            NFULA_IFINDEX_OUTDEV => self.output = number(value).unwrap_or(0),
            NFULA_IFINDEX_PHYSOUTDEV => self.is_bridged = true,
            NFULA_HWADDR => self.address = hardware_address(value),
            NFULA_HWTYPE => self.link = short(value),
            NFULA_HWHEADER => self.header = value,
            NFULA_SEQ => self.sequence = number(value),
            NFULA_VLAN => self.vlan = vlan(value),
            _ => {}
        }
    }

    /// Source MAC of the frame, where its link has MACs and this one stands for a station.
    pub fn mac(&self) -> Option<Mac> {
        let has_macs = self.link.is_none_or(|link| link == ARPHRD_ETHER);
        packet::station(self.address.filter(|_| has_macs)?)
    }

    /// The IP packet, as far as it was handed over.
    pub fn packet(&self) -> Option<&'a [u8]> {
        self.payload.ok()
    }

    /// The TCP segment in it, or the ICMP error about one. A segment's TTL is the one it arrived with: where both interfaces are known the
    /// router has already counted it down by one, and a bridge does not.
    pub fn content(&self) -> Result<Content, Skip> {
        let carrier = Carrier {
            mac: self.mac(),
            vlan: self.vlan,
        };
        let mut content = packet::ip(carrier, self.payload?)?;
        if let Content::Segment(segment) = &mut content {
            let is_routed = self.input != 0 && self.output != 0 && !self.is_bridged;
            segment.ttl = segment.ttl.saturating_add(u8::from(is_routed));
        }
        Ok(content)
    }

    /// The TCP segment in it, where nothing else is asked for.
    pub fn segment(&self) -> Result<Segment, Skip> {
        self.content()?.segment()
    }
}

fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*value.first_chunk()?))
}

fn short(value: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*value.first_chunk()?))
}

/// `struct nfulnl_msg_packet_hw`: length, padding, eight octets of which that many count.
fn hardware_address(value: &[u8]) -> Option<[u8; 6]> {
    match value {
        [0, 6, _, _, address @ ..] => address.first_chunk().copied(),
        _ => None,
    }
}

/// The identifier in the tag that the kernel has taken off the frame.
fn vlan(mut nested: &[u8]) -> Option<u16> {
    while let Some((header, after)) = nested.split_first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]])).checked_sub(4)?;
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let value = after.get(..length)?;
        if kind == NFULA_VLAN_TCI {
            return short(value).map(|tci| tci & 0x0fff).filter(|&id| id != 0);
        }
        nested = after.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// The messages of `datagram`, as one receives it from a netlink socket.
pub fn items(datagram: &[u8]) -> Items<'_> {
    Items { rest: datagram }
}

/// What [`items`] answers.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let Some((kind, body)) = self.split() else {
                self.rest = &[];
                return Some(Item::Broken);
            };
            return Some(match kind {
                NLMSG_NOOP | NLMSG_DONE => continue,
                NLMSG_ERROR => answer(body).unwrap_or(Item::Broken),
                PACKET => body
                    .get(NFNETLINK_HEADER..)
                    .map_or(Item::Broken, |rest| Item::Packet(Message::read(rest))),
                _ => Item::Broken,
            });
        }
    }
}

impl<'a> Items<'a> {
    /// Splits off a message: its type and what is behind its header. None where it is cut.
    fn split(&mut self) -> Option<(u16, &'a [u8])> {
        let header: &[u8; NETLINK_HEADER] = self.rest.first_chunk()?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        let length = usize::try_from(length).ok()?;
        let body = self.rest.get(NETLINK_HEADER..length)?;
        self.rest = self
            .rest
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
        Some((u16::from_ne_bytes([header[4], header[5]]), body))
    }
}

/// `struct nlmsgerr`: the negative errno, and the header of the request.
fn answer<'a>(body: &[u8]) -> Option<Item<'a>> {
    let errno = i32::from_ne_bytes(*body.first_chunk()?);
    let request = u32::from_ne_bytes(*body.get(12..)?.first_chunk()?);
    Some(Item::Answer {
        request,
        errno: errno.saturating_neg(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(NETLINK_HEADER + body.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn payload(ttl: u8) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 40, 0, 7, 0x40, 0, ttl, 6, 0, 0];
        bytes.extend([192, 168, 1, 23, 203, 0, 113, 9]);
        bytes.extend([0x9c, 0x41, 0, 25, 1, 2, 3, 4, 0, 0, 0, 0]);
        bytes.extend([0x50, 2, 0xfa, 0xf0, 0, 0, 0, 0]);
        bytes
    }

    /// What the kernel writes of a SYN that came by interface 3, with what `more` adds.
    fn attributes(hook: u8, more: &[(u16, &[u8])], ttl: u8) -> Vec<u8> {
        let mut bytes = attribute(NFULA_PACKET_HDR, &[8, 0, hook, 0]);
        bytes.extend(attribute(NFULA_PREFIX, b"smtpwatch: \0"));
        bytes.extend(attribute(NFULA_IFINDEX_INDEV, &[0, 0, 0, 3]));
        for (kind, value) in more {
            bytes.extend(attribute(*kind, value));
        }
        bytes.extend(attribute(
            NFULA_HWADDR,
            &[0, 6, 0, 0, 2, 0, 0, 0, 0, 7, 0, 0],
        ));
        bytes.extend(attribute(NFULA_HWTYPE, &[0, 1]));
        bytes.extend(attribute(
            NFULA_HWHEADER,
            &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 8, 0],
        ));
        bytes.extend(attribute(NFULA_SEQ, &[0, 0, 1, 0]));
        bytes.extend(attribute(NFULA_PAYLOAD, &payload(ttl)));
        bytes
    }

    fn packet(attributes: &[u8]) -> Vec<u8> {
        message(PACKET, &[&[2, 0, 0, 5][..], attributes].concat())
    }

    #[test]
    fn every_field_of_a_syn() {
        let datagram = packet(&attributes(0, &[], 64));
        let all: Vec<Item<'_>> = items(&datagram).collect();
        let [Item::Packet(message)] = all[..] else {
            panic!("{all:?}");
        };
        assert_eq!(message.hook, Some(0));
        assert_eq!(message.prefix, b"smtpwatch: ");
        assert_eq!((message.input, message.output), (3, 0));
        assert_eq!(message.sequence, Some(256));
        assert_eq!(message.header.len(), 14);
        let segment = message.segment().unwrap();
        assert!(segment.is_syn());
        assert_eq!(segment.tuple.source.to_string(), "192.168.1.23");
        assert_eq!(segment.tuple.destination_port, 25);
        assert_eq!(segment.mac, Some(Mac([2, 0, 0, 0, 0, 7])));
        assert_eq!((segment.ttl, segment.vlan), (64, None));
    }

    #[test]
    fn the_ttl_is_the_one_it_arrived_with() {
        let output: (u16, &[u8]) = (NFULA_IFINDEX_OUTDEV, &[0, 0, 0, 2]);
        let bridge: (u16, &[u8]) = (NFULA_IFINDEX_PHYSOUTDEV, &[0, 0, 0, 9]);
        let no_input: (u16, &[u8]) = (NFULA_IFINDEX_INDEV, &[0, 0, 0, 0]);
        for (hook, more, logged, arrived) in [
            (0, vec![], 63, 63),
            (2, vec![output], 63, 64),
            (2, vec![output], 255, 255),
            (2, vec![output, bridge], 63, 63),
            (3, vec![output, no_input], 64, 64),
            (4, vec![output], 63, 64),
        ] {
            let bytes = attributes(hook, &more, logged);
            let segment = Message::read(&bytes).segment().unwrap();
            assert_eq!(segment.ttl, arrived, "{hook} {more:?}");
        }
    }

    #[test]
    fn vlans_and_links_without_macs() {
        let nested = |tci: [u8; 2]| [attribute(1, &[0x81, 0]), attribute(2, &tci)].concat();
        for (tci, vlan) in [
            ([0x60, 5], Some(5)),
            ([0xe0, 0], None),
            ([0x0f, 0xff], Some(4095)),
        ] {
            let bytes = attributes(0, &[(NFULA_VLAN | 0x8000, &nested(tci))], 64);
            assert_eq!(Message::read(&bytes).segment().unwrap().vlan, vlan);
        }
        for (kind, value) in [
            (NFULA_HWADDR, &[0, 4, 0, 0, 10, 0, 0, 1, 0, 0, 0, 0][..]),
            (NFULA_HWADDR, &[0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (NFULA_HWADDR, &[0, 6, 0, 0, 2]),
            (NFULA_HWADDR, &[]),
            (NFULA_HWTYPE, &[0x03, 0x04]),
        ] {
            let mut bytes = attribute(NFULA_HWADDR, &[0, 6, 0, 0, 2, 0, 0, 0, 0, 7, 0, 0]);
            bytes.extend(attribute(kind, value));
            bytes.extend(attribute(NFULA_PAYLOAD, &payload(64)));
            assert_eq!(Message::read(&bytes).segment().unwrap().mac, None);
        }
    }

    #[test]
    fn several_messages_answers_and_ends() {
        let mut datagram = packet(&attributes(0, &[], 64));
        datagram.extend(packet(&attributes(2, &[], 64)));
        datagram.extend(message(NLMSG_DONE, &[0; 4]));
        let refused = (-1_i32).to_ne_bytes();
        let header = [0, 0, 0, 0, 0, 0, 0, 0, 7, 7, 7, 7, 0, 0, 0, 0];
        datagram.extend(message(NLMSG_ERROR, &[&refused[..], &header].concat()));
        datagram.extend(message(0x0401, &[]));
        let all: Vec<Item<'_>> = items(&datagram).collect();
        assert!(matches!(all[0], Item::Packet(message) if message.hook == Some(0)));
        assert!(matches!(all[1], Item::Packet(message) if message.hook == Some(2)));
        assert_eq!(
            all[2..],
            [
                Item::Answer {
                    request: 0x0707_0707,
                    errno: 1
                },
                Item::Broken
            ]
        );
    }

    #[test]
    fn a_datagram_cut_anywhere_is_broken_and_a_message_without_its_packet_truncated() {
        let datagram = packet(&attributes(0, &[], 64));
        for end in 1..datagram.len() {
            assert_eq!(
                items(&datagram[..end]).collect::<Vec<_>>(),
                [Item::Broken],
                "{end}"
            );
        }
        let attributes = attributes(0, &[], 64);
        for end in 0..attributes.len() - payload(64).len() {
            let message = Message::read(&attributes[..end]);
            assert_eq!(message.segment(), Err(Skip::Truncated), "{end}");
        }
        let message = Message::read(&[3, 0, 9, 0]);
        assert_eq!(message.segment(), Err(Skip::BadHeader));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::read(&bytes).segment();
            prop_assert!(items(&bytes).count() <= bytes.len() / NETLINK_HEADER + 1);
        }

        #[test]
        fn no_damaged_datagram_panics(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            end in any::<prop::sample::Index>(),
        ) {
            let mut datagram = packet(&attributes(0, &[], 64));
            datagram.extend(packet(&attributes(2, &[(NFULA_VLAN, &attribute(2, &[0, 5]))], 64)));
            for (at, octet) in damage {
                let at = at.index(datagram.len());
                datagram[at] = octet;
            }
            for item in items(&datagram[..end.index(datagram.len() + 1)]) {
                if let Item::Packet(message) = item {
                    let _ = message.segment();
                }
            }
        }
    }
}
