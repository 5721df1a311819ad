//! ICMP errors: which SYN they answer.
//!
//! An error quotes the packet that it is about, so it is read as that packet's answer, whoever sends it.
//! What is not done on purpose: what is quoted behind IPv6 extension headers is not looked for, and an
//! error's own sender is not asked for, since every router on the way may be it.

use std::net::IpAddr;

use pnet_packet::icmp::{IcmpPacket, IcmpTypes};
use pnet_packet::icmpv6::{Icmpv6Packet, Icmpv6Types};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::ipv6::Ipv6Packet;

use super::packet::{Flags, TCP_UP_TO_FLAGS};
use crate::model::Tuple;

/// The SYN that an ICMP error quotes: a router, or the responder's own machine, says that there is no
/// way for it (destination unreachable but for its size, time exceeded; RFC 792, RFC 4443).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Who had sent it to whom.
    pub tuple: Tuple,
    /// Its sequence number. That it was a SYN is only known where the error quotes the flags, too; else
    /// it may be of a connection that is open.
    pub sequence: u32,
}

/// "Fragmentation needed and DF set" (RFC 792): there is a way for smaller packets.
const TOO_BIG: u8 = 4;

/// Octets between an ICMP header's start and what it quotes, in both versions.
const ICMP_HEADER: usize = 8;

/// What an ICMP error quotes (RFC 792).
pub(super) fn quoted_v4(bytes: &[u8]) -> Option<Quote> {
    let error = IcmpPacket::new(bytes)?;
    let is_no_way = match error.get_icmp_type() {
        IcmpTypes::DestinationUnreachable => error.get_icmp_code().0 != TOO_BIG,
        kind => kind == IcmpTypes::TimeExceeded,
    };
    let quoted = bytes.get(ICMP_HEADER..).filter(|_| is_no_way)?;
    let header = Ipv4Packet::new(quoted)?;
    let length = usize::from(header.get_header_length()) * 4;
    let is_tcp = header.get_next_level_protocol() == IpNextHeaderProtocols::Tcp;
    if header.get_version() != 4
        || length < Ipv4Packet::minimum_packet_size()
        || header.get_fragment_offset() != 0
        || !is_tcp
    {
        return None;
    }
    let (source, destination) = (header.get_source(), header.get_destination());
    quoted_syn(source.into(), destination.into(), quoted.get(length..)?)
}

/// What an error of `ICMPv6` quotes (RFC 4443, section 3); nothing behind extension headers.
pub(super) fn quoted_v6(bytes: &[u8]) -> Option<Quote> {
    let error = Icmpv6Packet::new(bytes)?;
    let is_no_way = matches!(
        error.get_icmpv6_type(),
        Icmpv6Types::DestinationUnreachable | Icmpv6Types::TimeExceeded
    );
    let quoted = bytes.get(ICMP_HEADER..).filter(|_| is_no_way)?;
    let header = Ipv6Packet::new(quoted)?;
    if header.get_version() != 6 || header.get_next_header() != IpNextHeaderProtocols::Tcp {
        return None;
    }
    let (source, destination) = (header.get_source(), header.get_destination());
    let segment = quoted.get(Ipv6Packet::minimum_packet_size()..)?;
    quoted_syn(source.into(), destination.into(), segment)
}

/// A TCP header of which at least 8 octets are quoted; none where it is seen to be no SYN.
fn quoted_syn(source: IpAddr, destination: IpAddr, segment: &[u8]) -> Option<Quote> {
    let &[sp1, sp0, dp1, dp0, s3, s2, s1, s0] = segment.first_chunk()?;
    let flags = segment.get(TCP_UP_TO_FLAGS - 1).copied().map(Flags);
    if flags.is_some_and(|flags| !flags.syn() || flags.ack()) {
        return None;
    }
    Some(Quote {
        tuple: Tuple {
            source,
            destination,
            source_port: u16::from_be_bytes([sp1, sp0]),
            destination_port: u16::from_be_bytes([dp1, dp0]),
        },
        sequence: u32::from_be_bytes([s3, s2, s1, s0]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::packet::{self, Content, LinkType, Skip};

    const SYN: [u8; 14] = [
        0x9c, 0x41, 0, 25, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0, 0x50, 0x02,
    ];

    fn v4(protocol: u8, ihl: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; usize::from(ihl) * 4];
        packet[0] = 0x40 | ihl;
        packet[8..10].copy_from_slice(&[63, protocol]);
        packet[12..20].copy_from_slice(&[192, 168, 1, 23, 203, 0, 113, 9]);
        packet.extend_from_slice(payload);
        packet
    }

    fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[6..8].copy_from_slice(&[next, 63]);
        packet[8..10].copy_from_slice(&[0xfd, 0]);
        packet[24..26].copy_from_slice(&[0x20, 0x01]);
        packet.extend_from_slice(payload);
        packet
    }

    fn error(kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
        [&[kind, code, 0, 0, 0, 0, 0, 0], quoted].concat()
    }

    fn read(packet: &[u8]) -> Option<Quote> {
        assert!(packet::decode(LinkType::RAW, packet).is_err());
        match packet::read(LinkType::RAW, packet) {
            Ok(Content::Quote(quote)) => Some(quote),
            Ok(content) => panic!("{content:?}"),
            Err(skip) => {
                assert_eq!(skip, Skip::NotTcp);
                None
            }
        }
    }

    fn read_v4(kind: u8, code: u8, quoted: &[u8]) -> Option<Quote> {
        read(&v4(1, 5, &error(kind, code, quoted)))
    }

    fn read_v6(kind: u8, code: u8, quoted: &[u8]) -> Option<Quote> {
        read(&v6(58, &error(kind, code, quoted)))
    }

    #[test]
    fn the_quoted_syn_of_both_versions() {
        let quote = read_v4(3, 1, &v4(6, 5, &SYN)).unwrap();
        assert_eq!(quote.tuple.source, IpAddr::from([192, 168, 1, 23]));
        assert_eq!(quote.tuple.destination, IpAddr::from([203, 0, 113, 9]));
        assert_eq!(quote.tuple.source_port, 40_001);
        assert_eq!(quote.tuple.destination_port, 25);
        assert_eq!(quote.sequence, 0xdead_beef);
        // With options, and with no more than the eight octets that RFC 792 asks for.
        assert_eq!(read_v4(11, 0, &v4(6, 15, &SYN[..8])), Some(quote));
        let quote = read_v6(1, 4, &v6(6, &SYN)).unwrap();
        assert_eq!(quote.tuple.source_port, 40_001);
        assert_eq!(read_v6(3, 0, &v6(6, &SYN[..8])), Some(quote));
    }

    #[test]
    fn what_says_nothing_about_a_syn_is_none() {
        let syn = v4(6, 5, &SYN);
        // Too big; an echo; a redirect.
        for (kind, code) in [(3, 4), (8, 0), (5, 1)] {
            assert_eq!(read_v4(kind, code, &syn), None, "{kind} {code}");
        }
        for kind in [2, 4, 128] {
            assert_eq!(read_v6(kind, 0, &v6(6, &SYN)), None, "{kind}");
        }
        let with = |at: usize, octet: u8| {
            let mut quoted = syn.clone();
            quoted[at] = octet;
            read_v4(3, 1, &quoted)
        };
        // UDP; another version; a header that is too short; a later fragment; a SYN/ACK; data.
        for (at, octet) in [
            (9, 17),
            (0, 0x65),
            (0, 0x44),
            (7, 1),
            (33, 0x12),
            (33, 0x18),
        ] {
            assert_eq!(with(at, octet), None, "{at} {octet:#x}");
        }
        assert_eq!(read_v6(1, 0, &v6(17, &SYN)), None);
        for end in 0..28 {
            assert_eq!(read_v4(3, 1, &syn[..end]), None, "{end}");
        }
        for end in 0..48 {
            assert_eq!(read_v6(1, 0, &v6(6, &SYN)[..end]), None, "{end}");
        }
    }
}
