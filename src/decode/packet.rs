//! From a captured frame to its TCP header: link layer, tags and labels, IP, TCP; or to the TCP header
//! that an ICMP error quotes.
//!
//! Headers are viewed through `pnet_packet`; the walks that it leaves to its caller (tags, labels,
//! extension headers) are here, each with a bound. What is not done on purpose: no checksum is
//! verified (offloading leaves them wrong in captures), fragments are not put together, tunnels are
//! not unwrapped (the packet outside names the machine that sends it), and TCP options are not
//! read. A frame may end anywhere: the capture's snapshot length cuts it.

use std::net::IpAddr;

use pnet_packet::ethernet::{EtherType, EtherTypes, EthernetPacket};
use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::ipv6::{ExtensionPacket, FragmentPacket, Ipv6Packet};
use pnet_packet::vlan::VlanPacket;

pub use super::icmp::Quote;
use super::{icmp, nflog};
use crate::model::{Mac, Observation, RuleId, Timestamp, Tuple};

/// Tags (IEEE 802.1Q, 802.1ad) on one frame: two are common, four are more than any switch sets.
const MAX_TAGS: usize = 4;

/// Labels in an MPLS stack.
const MAX_LABELS: usize = 8;

/// Extension headers of an IPv6 packet; each kind may come once, destination options twice
/// (RFC 8200, section 4.1).
const MAX_EXTENSIONS: usize = 8;

/// The part of a TCP header that is needed: up to and with the flags (RFC 9293, section 3.1).
pub(super) const TCP_UP_TO_FLAGS: usize = 14;

/// What a frame begins with: a link type of pcap files (<https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: the address family in the byte order of the machine that captured.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// PPP (RFC 1661), with or without the address and control octets of RFC 1662.
    pub const PPP: Self = Self(9);
    /// An IP packet, as most systems call it in their own files.
    pub const RAW_12: Self = Self(12);
    /// An IP packet, as OpenBSD calls it in its own files.
    pub const RAW_14: Self = Self(14);
    /// PPP in HDLC-like framing (RFC 1662).
    pub const PPP_SERIAL: Self = Self(50);
    /// PPP over Ethernet (RFC 2516), without the Ethernet header.
    pub const PPP_ETHER: Self = Self(51);
    /// An IP packet.
    pub const RAW: Self = Self(101);
    /// Cisco's HDLC: address, control, an ethertype.
    pub const C_HDLC: Self = Self(104);
    /// OpenBSD loopback: the address family in network byte order.
    pub const LOOP: Self = Self(108);
    /// Linux cooked capture, the device `any`.
    pub const LINUX_SLL: Self = Self(113);
    /// PPP behind an octet that tells the direction.
    pub const PPP_WITH_DIR: Self = Self(204);
    /// An IPv4 packet.
    pub const IPV4: Self = Self(228);
    /// An IPv6 packet.
    pub const IPV6: Self = Self(229);
    /// Netfilter's log messages (`tcpdump -i nflog:5`): attributes, the packet in one of them.
    pub const NFLOG: Self = Self(239);
    /// Linux cooked capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);
}

/// Why a frame gives no TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Skip {
    /// A link type that is not read, IEEE 802.11 among them.
    LinkType,
    /// Something else than IPv4 or IPv6.
    NotIp,
    /// Something else than TCP; ICMP errors, which quote a packet that somebody sent, too.
    NotTcp,
    /// A packet in a packet: IP in IP, 6in4, GRE.
    Tunnel,
    /// A fragment that does not begin the packet, so without a TCP header.
    Fragment,
    /// Captured only in part, and the TCP header's flags are not in that part.
    Truncated,
    /// Lengths or versions in the headers contradict each other.
    BadHeader,
    /// More tags, labels or extension headers than the bound.
    TooDeep,
}

impl Skip {
    /// All reasons, in the order they are shown.
    pub const ALL: [Self; 8] = [
        Self::NotIp,
        Self::NotTcp,
        Self::Tunnel,
        Self::Fragment,
        Self::Truncated,
        Self::BadHeader,
        Self::TooDeep,
        Self::LinkType,
    ];

    /// The reason as it is shown.
    pub fn reason(self) -> &'static str {
        match self {
            Self::LinkType => "link type",
            Self::NotIp => "not IP",
            Self::NotTcp => "not TCP",
            Self::Tunnel => "tunnel",
            Self::Fragment => "fragment",
            Self::Truncated => "truncated",
            Self::BadHeader => "bad header",
            Self::TooDeep => "too deep",
        }
    }
}

/// The control bits of a TCP header (RFC 9293, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub fn fin(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// Synchronise sequence numbers: a connection is asked for, or granted.
    pub fn syn(self) -> bool {
        self.0 & 0x02 != 0
    }

    /// Reset the connection.
    pub fn rst(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// The acknowledgment field counts.
    pub fn ack(self) -> bool {
        self.0 & 0x10 != 0
    }
}

/// A TCP segment's header with what its carriers say about the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Who sent it to whom: the frame's own source and destination, whichever opened the
    /// connection.
    pub tuple: Tuple,
    /// Control bits.
    pub flags: Flags,
    /// Sequence number; of a SYN, the initial one.
    pub sequence: u32,
    /// Acknowledgment number: the next sequence number that the sender waits for. It counts where the
    /// flag is set.
    pub acknowledgment: u32,
    /// IPv4 identification, where there is one that is not 0.
    pub ip_id: Option<u16>,
    /// Source MAC of the frame, where it carries one that stands for a station. A cooked capture
    /// of what the capturing machine itself sent has none: the address there is its own.
    pub mac: Option<Mac>,
    /// VLAN of the outermost tag that names one (1 to 4095; a priority tag's 0 names none).
    pub vlan: Option<u16>,
    /// TTL (RFC 791) or hop limit (RFC 8200), as it stands in the packet.
    pub ttl: u8,
}

impl Segment {
    /// The record of it, a SYN, at the exact `time` by `rule`: all but the interface.
    pub fn observation(&self, time: Timestamp, rule: RuleId) -> Observation {
        Observation {
            isn: Some(self.sequence),
            ip_id: self.ip_id,
            mac: self.mac,
            ttl: Some(self.ttl),
            vlan: self.vlan,
            ..Observation::new(time, rule, self.tuple)
        }
    }

    /// Whether it asks for a new TCP connection: SYN without ACK.
    pub fn is_syn(&self) -> bool {
        self.flags.syn() && !self.flags.ack()
    }

    /// Whether it grants one: SYN with ACK.
    pub fn is_syn_ack(&self) -> bool {
        self.flags.syn() && self.flags.ack() && !self.flags.rst()
    }

    /// Whether it resets one.
    pub fn is_reset(&self) -> bool {
        self.flags.rst()
    }

    /// Whether it acknowledges and does nothing else: no SYN, RST or FIN; with or without data.
    pub fn is_ack(&self) -> bool {
        self.flags.ack() && !self.flags.syn() && !self.flags.rst() && !self.flags.fin()
    }
}

/// What is in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A TCP segment.
    Segment(Segment),
    /// An ICMP error about one.
    Quote(Quote),
}

impl Content {
    /// The TCP segment, where it is one.
    pub fn segment(self) -> Result<Segment, Skip> {
        match self {
            Self::Segment(segment) => Ok(segment),
            Self::Quote(_) => Err(Skip::NotTcp),
        }
    }
}

/// What the layers below IP say about the sender.
#[derive(Clone, Copy, Default)]
pub(super) struct Carrier {
    pub(super) mac: Option<Mac>,
    pub(super) vlan: Option<u16>,
}

/// Decodes `frame`, the captured part of a frame of type `link`, which is to hold a TCP segment.
pub fn decode(link: LinkType, frame: &[u8]) -> Result<Segment, Skip> {
    read(link, frame).and_then(Content::segment)
}

/// The same, where ICMP errors count, too: what [`decode`] calls something else than TCP may be one.
pub fn read(link: LinkType, frame: &[u8]) -> Result<Content, Skip> {
    let carrier = Carrier::default();
    match link {
        LinkType::ETHERNET => ethernet(frame),
        LinkType::LINUX_SLL => cooked(frame),
        LinkType::LINUX_SLL2 => cooked_v2(frame),
        LinkType::RAW | LinkType::RAW_12 | LinkType::RAW_14 => ip(carrier, frame),
        LinkType::IPV4 => ipv4(carrier, frame),
        LinkType::IPV6 => ipv6(carrier, frame),
        LinkType::NULL | LinkType::LOOP => loopback(frame),
        LinkType::PPP | LinkType::PPP_SERIAL => ppp(carrier, frame),
        LinkType::PPP_WITH_DIR => ppp(carrier, frame.get(1..).ok_or(Skip::Truncated)?),
        LinkType::PPP_ETHER => pppoe(carrier, frame),
        LinkType::C_HDLC => hdlc(carrier, frame),
        LinkType::NFLOG => nflog(frame),
        _ => Err(Skip::LinkType),
    }
}

fn hdlc(carrier: Carrier, frame: &[u8]) -> Result<Content, Skip> {
    let (header, rest) = frame.split_first_chunk::<4>().ok_or(Skip::Truncated)?;
    tagged(
        carrier,
        EtherType(u16::from_be_bytes([header[2], header[3]])),
        rest,
    )
}

/// Family, version and resource id, then attributes (`LINKTYPE_NFLOG`,
/// <https://www.tcpdump.org/linktypes/LINKTYPE_NFLOG.html>).
fn nflog(frame: &[u8]) -> Result<Content, Skip> {
    let message = nflog::Message::read(frame.get(4..).ok_or(Skip::Truncated)?);
    message.content()
}

fn ethernet(frame: &[u8]) -> Result<Content, Skip> {
    let header = EthernetPacket::new(frame).ok_or(Skip::Truncated)?;
    let source = header.get_source();
    let carrier = Carrier {
        mac: station(source.octets()),
        vlan: None,
    };
    let rest = &frame[EthernetPacket::minimum_packet_size()..];
    tagged(carrier, header.get_ethertype(), rest)
}

/// `ARPHRD_ETHER` (`linux/if_arp.h`).
const ARPHRD_ETHER: u16 = 1;

/// `PACKET_OUTGOING` (`linux/if_packet.h`): sent by the machine that captured.
const PACKET_OUTGOING: u16 = 4;

/// Read by hand: `pnet_packet` leaves the address out of a cooked header's minimum size, and panics
/// where a frame ends before the fields behind it.
fn cooked(frame: &[u8]) -> Result<Content, Skip> {
    let (header, rest) = frame.split_first_chunk::<16>().ok_or(Skip::Truncated)?;
    let carrier = Carrier {
        mac: cooked_source(
            u16::from_be_bytes([header[0], header[1]]),
            u16::from_be_bytes([header[2], header[3]]),
            u16::from_be_bytes([header[4], header[5]]),
            &header[6..14],
        ),
        vlan: None,
    };
    let protocol = u16::from_be_bytes([header[14], header[15]]);
    tagged(carrier, EtherType(protocol), rest)
}

fn cooked_v2(frame: &[u8]) -> Result<Content, Skip> {
    let (header, rest) = frame.split_first_chunk::<20>().ok_or(Skip::Truncated)?;
    let carrier = Carrier {
        mac: cooked_source(
            u16::from(header[10]),
            u16::from_be_bytes([header[8], header[9]]),
            u16::from(header[11]),
            &header[12..20],
        ),
        vlan: None,
    };
    let protocol = u16::from_be_bytes([header[0], header[1]]);
    tagged(carrier, EtherType(protocol), rest)
}

/// The sender's address; `address` is padded to 8 octets, of which `length` count.
fn cooked_source(packet_type: u16, hardware: u16, length: u16, address: &[u8]) -> Option<Mac> {
    if packet_type == PACKET_OUTGOING || hardware != ARPHRD_ETHER || length != 6 {
        return None;
    }
    station(*address.first_chunk()?)
}

/// The address `octets`, where it can be a sender's.
pub(super) fn station(octets: [u8; 6]) -> Option<Mac> {
    let mac = Mac(octets);
    mac.is_station().then_some(mac)
}

/// Steps over VLAN tags to what `ether_type` then says.
fn tagged(
    mut carrier: Carrier,
    mut ether_type: EtherType,
    mut rest: &[u8],
) -> Result<Content, Skip> {
    let mut tags = 0;
    while matches!(
        ether_type,
        EtherTypes::Vlan | EtherTypes::PBridge | EtherTypes::QinQ
    ) {
        if tags == MAX_TAGS {
            return Err(Skip::TooDeep);
        }
        tags += 1;
        let tag = VlanPacket::new(rest).ok_or(Skip::Truncated)?;
        let id = tag.get_vlan_identifier();
        carrier.vlan = carrier.vlan.or((id != 0).then_some(id));
        ether_type = tag.get_ethertype();
        rest = &rest[VlanPacket::minimum_packet_size()..];
    }
    // Up to 1500 the field is a length, and an LLC header follows (IEEE 802.3, 3.2.6).
    if ether_type.0 <= 1500 {
        logical_link(carrier, rest)
    } else {
        network(carrier, ether_type, rest)
    }
}

/// IEEE 802.2: IP behind a SNAP header (RFC 1042), or under its own service access point.
fn logical_link(carrier: Carrier, bytes: &[u8]) -> Result<Content, Skip> {
    match bytes {
        &[0xaa, 0xaa, 0x03, 0, 0, 0, high, low, ref rest @ ..] => {
            network(carrier, EtherType(u16::from_be_bytes([high, low])), rest)
        }
        [0x06, 0x06, 0x03, rest @ ..] => ip(carrier, rest),
        _ if bytes.len() < 8 => Err(Skip::Truncated),
        _ => Err(Skip::NotIp),
    }
}

fn network(carrier: Carrier, ether_type: EtherType, bytes: &[u8]) -> Result<Content, Skip> {
    match ether_type {
        EtherTypes::Ipv4 => ipv4(carrier, bytes),
        EtherTypes::Ipv6 => ipv6(carrier, bytes),
        EtherTypes::PppoeSession => pppoe(carrier, bytes),
        EtherTypes::Mpls | EtherTypes::MplsMcast => mpls(carrier, bytes),
        _ => Err(Skip::NotIp),
    }
}

/// BSD loopback. Families are below 256, so that one octet and three zeros tell either byte order.
fn loopback(frame: &[u8]) -> Result<Content, Skip> {
    let (family, rest) = frame.split_first_chunk().ok_or(Skip::Truncated)?;
    match family {
        [0, 0, 0, 2] | [2, 0, 0, 0] => ipv4(Carrier::default(), rest),
        // AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, Darwin.
        [0, 0, 0, 10 | 24 | 28 | 30] | [10 | 24 | 28 | 30, 0, 0, 0] => {
            ipv6(Carrier::default(), rest)
        }
        _ => Err(Skip::NotIp),
    }
}

/// A session's header of PPP over Ethernet (RFC 2516, section 4), then PPP.
fn pppoe(carrier: Carrier, bytes: &[u8]) -> Result<Content, Skip> {
    match bytes {
        // Version 1, type 1, code 0; the session and the length tell nothing that IP does not.
        [0x11, 0, _, _, _, _, rest @ ..] => ppp(carrier, rest),
        _ if bytes.len() < 6 => Err(Skip::Truncated),
        _ => Err(Skip::NotIp),
    }
}

/// PPP's protocol field (RFC 1661, section 2), in one octet where it was compressed.
fn ppp(carrier: Carrier, bytes: &[u8]) -> Result<Content, Skip> {
    let bytes = bytes.strip_prefix(&[0xff, 0x03]).unwrap_or(bytes);
    match bytes {
        [0x21, rest @ ..] | [0, 0x21, rest @ ..] => ipv4(carrier, rest),
        [0x57, rest @ ..] | [0, 0x57, rest @ ..] => ipv6(carrier, rest),
        [0x02, 0x81 | 0x83, rest @ ..] => mpls(carrier, rest),
        _ if bytes.len() < 2 => Err(Skip::Truncated),
        _ => Err(Skip::NotIp),
    }
}

/// An MPLS label stack (RFC 3032); what is below it is told by its first nibble, as routers do.
fn mpls(carrier: Carrier, mut bytes: &[u8]) -> Result<Content, Skip> {
    for _ in 0..MAX_LABELS {
        let (entry, rest) = bytes.split_first_chunk::<4>().ok_or(Skip::Truncated)?;
        if entry[2] & 1 != 0 {
            return ip(carrier, rest);
        }
        bytes = rest;
    }
    Err(Skip::TooDeep)
}

/// An IP packet of either version.
pub(super) fn ip(carrier: Carrier, bytes: &[u8]) -> Result<Content, Skip> {
    match bytes.first().ok_or(Skip::Truncated)? >> 4 {
        4 => ipv4(carrier, bytes),
        6 => ipv6(carrier, bytes),
        _ => Err(Skip::NotIp),
    }
}

/// An IPv4 packet (RFC 791).
fn ipv4(carrier: Carrier, bytes: &[u8]) -> Result<Content, Skip> {
    let header = Ipv4Packet::new(bytes).ok_or(Skip::Truncated)?;
    let header_length = usize::from(header.get_header_length()) * 4;
    let length = usize::from(header.get_total_length());
    if header.get_version() != 4
        || header_length < Ipv4Packet::minimum_packet_size()
        || (length != 0 && length < header_length)
    {
        return Err(Skip::BadHeader);
    }
    let next = header.get_next_level_protocol();
    if next == IpNextHeaderProtocols::Icmp {
        let error = bytes.get(header_length..).and_then(icmp::quoted_v4);
        return error.map(Content::Quote).ok_or(Skip::NotTcp);
    }
    if next != IpNextHeaderProtocols::Ah {
        only_tcp(next)?;
    }
    if header.get_fragment_offset() != 0 {
        return Err(Skip::Fragment);
    }
    let payload = Payload::new(bytes, length).skip(header_length)?;
    let payload = match next {
        IpNextHeaderProtocols::Tcp => payload,
        next => behind_extensions(next, payload)?,
    };
    let id = header.get_identification();
    tcp(
        carrier,
        header.get_source(),
        header.get_destination(),
        (id != 0).then_some(id),
        header.get_ttl(),
        payload,
    )
}

/// An IPv6 packet (RFC 8200).
fn ipv6(carrier: Carrier, bytes: &[u8]) -> Result<Content, Skip> {
    let header = Ipv6Packet::new(bytes).ok_or(Skip::Truncated)?;
    if header.get_version() != 6 {
        return Err(Skip::BadHeader);
    }
    let header_length = Ipv6Packet::minimum_packet_size();
    let length = match usize::from(header.get_payload_length()) {
        0 => 0,
        length => header_length + length,
    };
    let payload = Payload::new(bytes, length).skip(header_length)?;
    let payload = match header.get_next_header() {
        IpNextHeaderProtocols::Tcp => payload,
        IpNextHeaderProtocols::Icmpv6 => {
            let error = icmp::quoted_v6(payload.bytes);
            return error.map(Content::Quote).ok_or(Skip::NotTcp);
        }
        next => behind_extensions(next, payload)?,
    };
    tcp(
        carrier,
        header.get_source(),
        header.get_destination(),
        None,
        header.get_hop_limit(),
        payload,
    )
}

/// Steps over extension headers to the TCP header.
fn behind_extensions(
    mut next: IpNextHeaderProtocol,
    mut payload: Payload<'_>,
) -> Result<Payload<'_>, Skip> {
    for _ in 0..=MAX_EXTENSIONS {
        let bytes = payload.bytes;
        let length = match next {
            IpNextHeaderProtocols::Hopopt
            | IpNextHeaderProtocols::Ipv6Route
            | IpNextHeaderProtocols::Ipv6Opts => {
                let header = ExtensionPacket::new(bytes).ok_or(payload.missing())?;
                next = header.get_next_header();
                usize::from(header.get_hdr_ext_len()) * 8 + 8
            }
            IpNextHeaderProtocols::Ipv6Frag => {
                let header = FragmentPacket::new(bytes).ok_or(payload.missing())?;
                if header.get_fragment_offset_with_flags() >> 3 != 0 {
                    return Err(Skip::Fragment);
                }
                next = header.get_next_header();
                FragmentPacket::minimum_packet_size()
            }
            // Its length counts in other units than the rest (RFC 4302, section 2.2).
            IpNextHeaderProtocols::Ah => match bytes {
                &[after, length, ..] => {
                    next = IpNextHeaderProtocol(after);
                    usize::from(length) * 4 + 8
                }
                _ => return Err(payload.missing()),
            },
            _ => {
                only_tcp(next)?;
                return Ok(payload);
            }
        };
        payload = payload.skip(length)?;
    }
    Err(Skip::TooDeep)
}

fn only_tcp(protocol: IpNextHeaderProtocol) -> Result<(), Skip> {
    match protocol {
        IpNextHeaderProtocols::Tcp => Ok(()),
        IpNextHeaderProtocols::Ipv4 | IpNextHeaderProtocols::Ipv6 | IpNextHeaderProtocols::Gre => {
            Err(Skip::Tunnel)
        }
        _ => Err(Skip::NotTcp),
    }
}

/// What is left of an IP packet, with the knowledge of what cut it.
#[derive(Clone, Copy)]
struct Payload<'a> {
    bytes: &'a [u8],
    /// Whether the capture holds less of the packet than the packet says it has. The length 0
    /// (segmentation offload, jumbograms) says nothing.
    cut: bool,
}

impl<'a> Payload<'a> {
    /// The packet that `bytes` begins with and that says to be `length` octets long. What comes
    /// after it is the link layer's padding.
    fn new(bytes: &'a [u8], length: usize) -> Self {
        match bytes.get(..length) {
            Some(packet) if length != 0 => Self {
                bytes: packet,
                cut: false,
            },
            _ => Self { bytes, cut: true },
        }
    }

    fn skip(self, length: usize) -> Result<Self, Skip> {
        match self.bytes.get(length..) {
            Some(bytes) => Ok(Self { bytes, ..self }),
            None => Err(self.missing()),
        }
    }

    /// Why there is less than a header needs: it was not captured, or it never was there.
    fn missing(self) -> Skip {
        if self.cut {
            Skip::Truncated
        } else {
            Skip::BadHeader
        }
    }
}

/// The header up to its flags. `pnet_packet` views whole headers only, and a short snapshot length
/// may leave less. Generic in the address, for an `IpAddr` is slower to hand over than to make.
fn tcp<Address: Into<IpAddr>>(
    carrier: Carrier,
    source: Address,
    destination: Address,
    ip_id: Option<u16>,
    ttl: u8,
    payload: Payload<'_>,
) -> Result<Content, Skip> {
    let header: &[u8; TCP_UP_TO_FLAGS] = payload
        .bytes
        .first_chunk()
        .ok_or_else(|| payload.missing())?;
    let &[sp1, sp0, dp1, dp0, s3, s2, s1, s0, a3, a2, a1, a0, _, flags] = header;
    Ok(Content::Segment(Segment {
        tuple: Tuple {
            source: source.into(),
            destination: destination.into(),
            source_port: u16::from_be_bytes([sp1, sp0]),
            destination_port: u16::from_be_bytes([dp1, dp0]),
        },
        flags: Flags(flags),
        sequence: u32::from_be_bytes([s3, s2, s1, s0]),
        acknowledgment: u32::from_be_bytes([a3, a2, a1, a0]),
        ip_id,
        mac: carrier.mac,
        vlan: carrier.vlan,
        ttl,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STATION: [u8; 6] = [0x02, 0, 0, 0, 0, 0x07];

    /// A SYN's TCP header, 40001 to 25.
    fn syn() -> Vec<u8> {
        let mut header = vec![0x9c, 0x41, 0, 25, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0];
        header.extend([0x50, 0x02, 0xfa, 0xf0, 0, 0, 0, 0]);
        header
    }

    fn v4_of(protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let header_length = 20 + options.len();
        let length = u16::try_from(header_length + payload.len()).unwrap();
        let words = u8::try_from(header_length / 4).unwrap();
        let mut packet = vec![0x40 | words, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([0x91, 0xbc, 0x40, 0, 64, protocol, 0, 0]);
        packet.extend([192, 168, 1, 23, 203, 0, 113, 9]);
        packet.extend(options);
        packet.extend(payload);
        packet
    }

    fn v4() -> Vec<u8> {
        v4_of(6, &[], &syn())
    }

    fn v6_of(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        packet.extend([next, 63]);
        packet.extend(
            "2001:db8::7"
                .parse::<std::net::Ipv6Addr>()
                .unwrap()
                .octets(),
        );
        packet.extend(
            "2001:db8:1::19"
                .parse::<std::net::Ipv6Addr>()
                .unwrap()
                .octets(),
        );
        packet.extend(payload);
        packet
    }

    fn v6() -> Vec<u8> {
        v6_of(6, &syn())
    }

    fn join(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    fn ethernet_of(behind_addresses: &[u8]) -> Vec<u8> {
        join(&[&[0x02, 0, 0, 0, 0, 1], &STATION, behind_addresses])
    }

    fn decode_ethernet(behind_addresses: &[u8]) -> Result<Segment, Skip> {
        decode(LinkType::ETHERNET, &ethernet_of(behind_addresses))
    }

    fn addresses(segment: &Segment) -> (String, String) {
        (
            segment.tuple.source.to_string(),
            segment.tuple.destination.to_string(),
        )
    }

    #[track_caller]
    fn assert_v4(decoded: Result<Segment, Skip>) -> Segment {
        let segment = decoded.unwrap();
        assert!(segment.is_syn());
        assert_eq!(
            addresses(&segment),
            ("192.168.1.23".into(), "203.0.113.9".into())
        );
        assert_eq!(segment.tuple.source_port, 40001);
        assert_eq!(segment.tuple.destination_port, 25);
        assert_eq!(segment.sequence, 0xdead_beef);
        assert_eq!(segment.ip_id, Some(0x91bc));
        assert_eq!(segment.ttl, 64);
        segment
    }

    #[track_caller]
    fn assert_v6(decoded: Result<Segment, Skip>) -> Segment {
        let segment = decoded.unwrap();
        assert!(segment.is_syn());
        assert_eq!(
            addresses(&segment),
            ("2001:db8::7".into(), "2001:db8:1::19".into())
        );
        assert_eq!(segment.tuple.destination_port, 25);
        assert_eq!(segment.ip_id, None);
        assert_eq!(segment.ttl, 63);
        segment
    }

    #[test]
    fn every_field_of_a_syn() {
        let segment = assert_v4(decode_ethernet(&join(&[&[8, 0], &v4()])));
        assert_eq!(segment.mac, Some(Mac(STATION)));
        assert_eq!(segment.vlan, None);
        let segment = assert_v6(decode_ethernet(&join(&[&[0x86, 0xdd], &v6()])));
        assert_eq!(segment.mac, Some(Mac(STATION)));
    }

    #[test]
    fn flags_are_told_apart() {
        for (octet, [fin, syn_bit, rst, ack], is_syn) in [
            (0x02, [false, true, false, false], true),
            (0xc2, [false, true, false, false], true),
            (0x12, [false, true, false, true], false),
            (0x04, [false, false, true, false], false),
            (0x11, [true, false, false, true], false),
        ] {
            let mut header = syn();
            header[13] = octet;
            let segment = decode(LinkType::RAW, &v4_of(6, &[], &header)).unwrap();
            let flags = segment.flags;
            assert_eq!(
                [flags.fin(), flags.syn(), flags.rst(), flags.ack()],
                [fin, syn_bit, rst, ack],
                "{octet:#x}"
            );
            assert_eq!(segment.is_syn(), is_syn, "{octet:#x}");
        }
    }

    #[test]
    fn tags_up_to_four_and_the_outermost_that_names_a_vlan() {
        let tag = |kind: [u8; 2], tci: u16| join(&[&kind, &tci.to_be_bytes()]);
        let ip = join(&[&[8, 0], &v4()]);
        for (tags, vlan) in [
            (vec![tag([0x81, 0], 0x6005)], Some(5)),
            (vec![tag([0x88, 0xa8], 7), tag([0x81, 0], 5)], Some(7)),
            (vec![tag([0x91, 0], 4095), tag([0x81, 0], 5)], Some(4095)),
            (vec![tag([0x81, 0], 0xe000)], None),
            (vec![tag([0x81, 0], 0), tag([0x81, 0], 5)], Some(5)),
            (vec![tag([0x88, 0xa8], 9); 4], Some(9)),
        ] {
            let segment = assert_v4(decode_ethernet(&join(&[&tags.concat(), &ip])));
            assert_eq!(segment.vlan, vlan, "{tags:x?}");
        }
        let five = vec![tag([0x81, 0], 1); 5].concat();
        assert_eq!(decode_ethernet(&join(&[&five, &ip])), Err(Skip::TooDeep));
        assert_eq!(decode_ethernet(&[0x81, 0, 0]), Err(Skip::Truncated));
    }

    #[test]
    fn ip_in_pppoe_ppp_llc_and_mpls() {
        let session = [0x88, 0x64, 0x11, 0, 0, 1, 0, 42];
        assert_v4(decode_ethernet(&join(&[&session, &[0, 0x21], &v4()])));
        assert_v6(decode_ethernet(&join(&[&session, &[0, 0x57], &v6()])));
        let lcp = join(&[&session, &[0xc0, 0x21, 9, 0, 0, 8, 0, 0, 0, 0]]);
        assert_eq!(decode_ethernet(&lcp), Err(Skip::NotIp));

        let snap = [0, 60, 0xaa, 0xaa, 3, 0, 0, 0];
        assert_v4(decode_ethernet(&join(&[&snap, &[8, 0], &v4()])));
        assert_v6(decode_ethernet(&join(&[&snap, &[0x86, 0xdd], &v6()])));
        assert_v4(decode_ethernet(&join(&[&[0, 60, 6, 6, 3], &v4()])));
        let spanning_tree = [0, 38, 0x42, 0x42, 3, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(decode_ethernet(&spanning_tree), Err(Skip::NotIp));

        let (label, bottom) = ([0, 1, 0, 64], [0, 2, 1, 64]);
        assert_v4(decode_ethernet(&join(&[&[0x88, 0x47], &bottom, &v4()])));
        let two = join(&[&[0x88, 0x48], &label, &bottom, &v6()]);
        assert_v6(decode_ethernet(&two));
        let pseudowire = join(&[&[0x88, 0x47], &bottom, &[0; 4], &ethernet_of(&v4())]);
        assert_eq!(decode_ethernet(&pseudowire), Err(Skip::NotIp));
        let endless = join(&[&[0x88, 0x47], &label.repeat(9), &bottom, &v4()]);
        assert_eq!(decode_ethernet(&endless), Err(Skip::TooDeep));
    }

    #[test]
    fn link_types_without_addresses() {
        for link in [LinkType::RAW, LinkType::RAW_12, LinkType::RAW_14] {
            assert_eq!(assert_v4(decode(link, &v4())).mac, None);
            assert_v6(decode(link, &v6()));
        }
        assert_v4(decode(LinkType::IPV4, &v4()));
        assert_v6(decode(LinkType::IPV6, &v6()));
        assert_eq!(decode(LinkType::IPV4, &v6()), Err(Skip::BadHeader));
        assert_eq!(decode(LinkType::RAW, &[0x10; 40]), Err(Skip::NotIp));

        assert_v4(decode(LinkType::NULL, &join(&[&[2, 0, 0, 0], &v4()])));
        assert_v4(decode(LinkType::NULL, &join(&[&[0, 0, 0, 2], &v4()])));
        assert_v4(decode(LinkType::LOOP, &join(&[&[0, 0, 0, 2], &v4()])));
        for family in [10, 24, 28, 30] {
            assert_v6(decode(LinkType::NULL, &join(&[&[family, 0, 0, 0], &v6()])));
            assert_v6(decode(LinkType::LOOP, &join(&[&[0, 0, 0, family], &v6()])));
        }
        let appletalk = join(&[&[16, 0, 0, 0], &v4()]);
        assert_eq!(decode(LinkType::NULL, &appletalk), Err(Skip::NotIp));

        assert_v4(decode(LinkType::PPP, &join(&[&[0xff, 3, 0, 0x21], &v4()])));
        assert_v4(decode(LinkType::PPP, &join(&[&[0, 0x21], &v4()])));
        assert_v4(decode(LinkType::PPP, &join(&[&[0x21], &v4()])));
        assert_v6(decode(LinkType::PPP, &join(&[&[0xff, 3, 0x57], &v6()])));
        let directed = join(&[&[1, 0xff, 3, 0, 0x21], &v4()]);
        assert_v4(decode(LinkType::PPP_WITH_DIR, &directed));
        let session = join(&[&[0x11, 0, 0, 1, 0, 42, 0, 0x21], &v4()]);
        assert_v4(decode(LinkType::PPP_ETHER, &session));

        for radio in [105, 127] {
            assert_eq!(decode(LinkType(radio), &v4()), Err(Skip::LinkType));
        }
    }

    #[test]
    fn cooked_captures_name_the_sender_but_not_the_gateway_itself() {
        let sll = |packet_type: u8, hardware: u8, protocol: [u8; 2]| {
            let head = [0, packet_type, 0, hardware, 0, 6];
            join(&[&head, &STATION, &[0, 0], &protocol])
        };
        let sll2 = |packet_type: u8, hardware: u8, protocol: [u8; 2]| {
            let head = [0, 0, 0, 0, 0, 2, 0, hardware, packet_type, 6];
            join(&[&protocol, &head, &STATION, &[0, 0]])
        };
        for (packet_type, hardware, mac) in [
            (0, 1, Some(Mac(STATION))),
            (3, 1, Some(Mac(STATION))),
            (4, 1, None),
            (0, 6, None),
        ] {
            let v1 = join(&[&sll(packet_type, hardware, [8, 0]), &v4()]);
            assert_eq!(assert_v4(decode(LinkType::LINUX_SLL, &v1)).mac, mac);
            let v2 = join(&[&sll2(packet_type, hardware, [0x86, 0xdd]), &v6()]);
            assert_eq!(assert_v6(decode(LinkType::LINUX_SLL2, &v2)).mac, mac);
        }
        let vlan = join(&[&sll(0, 1, [0x81, 0]), &[0, 5, 8, 0], &v4()]);
        assert_eq!(assert_v4(decode(LinkType::LINUX_SLL, &vlan)).vlan, Some(5));
        let snap = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
        let llc = join(&[&sll2(0, 1, [0, 4]), &snap, &v4()]);
        assert_v4(decode(LinkType::LINUX_SLL2, &llc));
    }

    #[test]
    fn a_mac_that_is_no_stations_is_none() {
        for source in [[0; 6], [0xff; 6], [0x01, 0, 0x5e, 0, 0, 1]] {
            let frame = join(&[&[2; 6], &source, &[8, 0], &v4()]);
            assert_eq!(assert_v4(decode(LinkType::ETHERNET, &frame)).mac, None);
        }
    }

    #[test]
    fn nflog_and_hdlc() {
        let packet = v4();
        let attribute = |kind: u16, value: &[u8]| {
            let length = u16::try_from(value.len() + 4).unwrap();
            let mut bytes = [length.to_le_bytes(), kind.to_le_bytes()].concat();
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let hardware = attribute(8, &[0, 6, 0, 0, 2, 0, 0, 0, 0, 9, 0, 0]);
        let frame = join(&[
            &[2, 0, 0, 5],
            &hardware,
            &attribute(10, b"prefix\0"),
            &attribute(9, &packet),
        ]);
        let segment = decode(LinkType::NFLOG, &frame).unwrap();
        assert!(segment.is_syn());
        assert_eq!(segment.mac, Some(Mac([2, 0, 0, 0, 0, 9])));
        for end in 0..frame.len() - packet.len() {
            assert!(decode(LinkType::NFLOG, &frame[..end]).is_err(), "{end}");
        }
        assert!(decode(LinkType::NFLOG, &[2, 0, 0, 5, 0, 0, 9, 0]).is_err());
        assert_v4(decode(
            LinkType::C_HDLC,
            &join(&[&[0x0f, 0, 8, 0], &packet]),
        ));
        assert_v4(decode(
            LinkType::PPP_SERIAL,
            &join(&[&[0xff, 3, 0, 0x21], &packet]),
        ));
    }

    #[test]
    fn ipv4_options_lengths_and_fragments() {
        assert_v4(decode(LinkType::RAW, &v4_of(6, &[1; 40], &syn())));

        let with = |at: usize, octets: [u8; 2]| {
            let mut packet = v4();
            packet[at..at + 2].copy_from_slice(&octets);
            decode(LinkType::RAW, &packet)
        };
        // Segmentation offload; a snapshot shorter than the packet; padding; a length below the
        // header's; below TCP's.
        assert_v4(with(2, [0, 0]));
        assert_v4(with(2, [5, 0xdc]));
        assert_v4(decode(LinkType::RAW, &join(&[&v4(), &[0; 6]])));
        assert_eq!(with(2, [0, 19]), Err(Skip::BadHeader));
        assert_eq!(with(2, [0, 33]), Err(Skip::BadHeader));
        assert_v4(with(2, [0, 34]));
        // A header length of 16; the version of another protocol.
        assert_eq!(with(0, [0x44, 0]), Err(Skip::BadHeader));
        assert_eq!(decode(LinkType::IPV4, &[0x75; 60]), Err(Skip::BadHeader));
        // The first fragment, the others, no identification.
        assert_v4(with(6, [0x20, 0]));
        assert_eq!(with(6, [0x20, 1]), Err(Skip::Fragment));
        assert_eq!(with(6, [0, 0xff]), Err(Skip::Fragment));
        assert_eq!(with(4, [0, 0]).unwrap().ip_id, None);
    }

    #[test]
    fn ipv6_extension_headers() {
        let extension = |next: u8, units: u8| {
            let mut header = vec![0; 8 + usize::from(units) * 8];
            header[..2].copy_from_slice(&[next, units]);
            header
        };
        let fragment =
            |next: u8, field: u16| join(&[&[next, 0], &field.to_be_bytes(), &[0, 0, 0, 9]]);
        let authentication = |next: u8| join(&[&[next, 4], &[0; 22]]);
        let raw = |next: u8, parts: &[&[u8]]| decode(LinkType::RAW, &v6_of(next, &join(parts)));

        for kind in [0, 43, 60] {
            assert_v6(raw(kind, &[&extension(6, 0), &syn()]));
            assert_v6(raw(kind, &[&extension(6, 3), &syn()]));
        }
        assert_v6(raw(44, &[&fragment(6, 1), &syn()]));
        assert_eq!(raw(44, &[&fragment(6, 8), &syn()]), Err(Skip::Fragment));
        assert_v6(raw(51, &[&authentication(6), &syn()]));
        let all = [
            &extension(60, 0)[..],
            &extension(43, 1),
            &extension(44, 2),
            &fragment(51, 0),
            &authentication(60),
            &extension(6, 0),
            &syn(),
        ];
        assert_v6(raw(0, &all));

        let eight = extension(60, 0).repeat(7);
        assert_v6(raw(60, &[&eight, &extension(6, 0), &syn()]));
        let nine = extension(60, 0).repeat(8);
        assert_eq!(
            raw(60, &[&nine, &extension(6, 0), &syn()]),
            Err(Skip::TooDeep)
        );
        assert_eq!(raw(60, &[&extension(6, 255)]), Err(Skip::BadHeader));
        assert_eq!(raw(59, &[]), Err(Skip::NotTcp));
        assert_eq!(raw(60, &[&extension(58, 0), &syn()]), Err(Skip::NotTcp));
        assert_eq!(raw(50, &[&syn()]), Err(Skip::NotTcp));

        let mut offloaded = v6();
        offloaded[4..6].copy_from_slice(&[0, 0]);
        assert_v6(decode(LinkType::RAW, &offloaded));
    }

    #[test]
    fn what_is_no_tcp_has_its_reason() {
        let raw = |packet: Vec<u8>| decode(LinkType::RAW, &packet);
        assert_eq!(raw(v4_of(17, &[], &syn())), Err(Skip::NotTcp));
        // What is quoted in an ICMP error was not sent by the error's sender.
        let quoting = join(&[&[3, 1, 0, 0, 0, 0, 0, 0], &v4()]);
        assert_eq!(raw(v4_of(1, &[], &quoting)), Err(Skip::NotTcp));
        assert_eq!(raw(v4_of(4, &[], &v4())), Err(Skip::Tunnel));
        assert_eq!(raw(v4_of(41, &[], &v6())), Err(Skip::Tunnel));
        assert_eq!(raw(v4_of(47, &[], &[0, 0, 8, 0])), Err(Skip::Tunnel));
        assert_eq!(raw(v6_of(4, &v4())), Err(Skip::Tunnel));
        let arp = join(&[&[8, 6], &[0; 28]]);
        assert_eq!(decode_ethernet(&arp), Err(Skip::NotIp));
    }

    /// One frame of every link type that is read.
    fn frames() -> Vec<(LinkType, Vec<u8>)> {
        let tags = [0x88, 0xa8, 0, 7, 0x81, 0, 0, 5];
        let snap = [0, 60, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
        let session = [0x88, 0x64, 0x11, 0, 0, 1, 0, 42, 0, 0x57];
        let labels = [0x88, 0x47, 0, 1, 0, 64, 0, 2, 1, 64];
        let routed = join(&[&[60, 0], &[0; 6], &[6, 0], &[0; 6], &syn()]);
        let sll = join(&[&[0, 0, 0, 1, 0, 6], &STATION, &[0, 0, 8, 0]]);
        let sll2 = [8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 7, 0, 0];
        vec![
            (
                LinkType::ETHERNET,
                ethernet_of(&join(&[&tags, &[8, 0], &v4()])),
            ),
            (LinkType::ETHERNET, ethernet_of(&join(&[&snap, &v4()]))),
            (LinkType::ETHERNET, ethernet_of(&join(&[&session, &v6()]))),
            (LinkType::ETHERNET, ethernet_of(&join(&[&labels, &v4()]))),
            (LinkType::RAW, v6_of(0, &routed)),
            (LinkType::LINUX_SLL, join(&[&sll, &v4()])),
            (LinkType::LINUX_SLL2, join(&[&sll2, &v4()])),
            (LinkType::NULL, join(&[&[2, 0, 0, 0], &v4()])),
            (LinkType::PPP, join(&[&[0xff, 3, 0, 0x21], &v4()])),
            (LinkType::PPP_WITH_DIR, join(&[&[0, 0, 0x21], &v4()])),
            (LinkType::PPP_ETHER, join(&[&session[2..], &v6()])),
            (LinkType::IPV4, v4()),
            (LinkType::IPV6, v6()),
        ]
    }

    #[test]
    fn a_frame_cut_before_the_flags_is_truncated_and_after_them_whole() {
        for (link, frame) in frames() {
            let whole = decode(link, &frame).unwrap();
            let flags_end = frame.len() - 6;
            for end in 0..frame.len() {
                let expected = if end < flags_end {
                    Err(Skip::Truncated)
                } else {
                    Ok(whole)
                };
                assert_eq!(decode(link, &frame[..end]), expected, "{link:?} at {end}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(link in 0_u16..300, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(LinkType(link), &bytes);
        }

        #[test]
        fn no_damaged_frame_panics(
            which in any::<prop::sample::Index>(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            end in any::<prop::sample::Index>(),
        ) {
            let frames = frames();
            let (link, mut frame) = which.get(&frames).clone();
            for (at, octet) in damage {
                let at = at.index(frame.len());
                frame[at] = octet;
            }
            let _ = decode(link, &frame[..end.index(frame.len() + 1)]);
        }
    }
}
