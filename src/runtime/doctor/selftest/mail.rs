//! SYNs of a machine in the LAN to port 25, each to another network (RFC 2544's, which nobody routes), and the rest
//! of a handshake.

use std::net::Ipv4Addr;

use pcap::{Active, Capture};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{self, MutableIpv4Packet};
use pnet_packet::tcp::{self, MutableTcpPacket, TcpFlags};

use super::network::{GATEWAY, LAN_END, MACHINE, MACHINE_ADDRESS, Network, ROUTER, WAN, WAN_END};
use crate::model::{Mac, Tuple};

/// As many as make the detector of new destinations speak.
pub(super) const SYNS: u32 = 8;

const ETHERNET: usize = 14;
const HEADER: usize = 20;
const FIRST_PORT: u16 = 40_000;
/// Where servers begin to count.
const SERVERS: u32 = 1_000;

/// Who sends, and how much was sent.
#[derive(Default)]
pub(super) struct Mail {
    inside: Option<Capture<Active>>,
    outside: Option<Capture<Active>>,
    /// SYNs so far.
    pub(super) sent: u32,
}

impl Mail {
    /// Sends one more, from the far end of the LAN's wire; answers between whom.
    pub(super) fn send(&mut self, _network: &Network) -> Result<Tuple, String> {
        let (tuple, frame) = syn(self.sent);
        send(&mut self.inside, LAN_END, frame)?;
        self.sent += 1;
        Ok(tuple)
    }

    /// Has the server that the last SYN was sent to accept it, and the machine complete the handshake.
    pub(super) fn shake_hands(&mut self, _network: &Network) -> Result<(), String> {
        let number = self.sent.saturating_sub(1);
        let [accepted, completed] = handshake(number);
        send(&mut self.outside, WAN_END, accepted)?;
        send(&mut self.inside, LAN_END, completed)
    }
}

/// Sends a frame from the far end of a wire.
fn send(wire: &mut Option<Capture<Active>>, end: &str, frame: Vec<u8>) -> Result<(), String> {
    let failed = |error| format!("sending on {end}: {error}");
    let wire = match wire {
        Some(wire) => wire,
        none => none.insert(
            Capture::from_device(end)
                .and_then(pcap::Capture::open)
                .map_err(failed)?,
        ),
    };
    wire.sendpacket(frame).map_err(failed)
}

/// What makes one frame another than the next.
struct Frame {
    to: Mac,
    from: Mac,
    source: (Ipv4Addr, u16),
    destination: (Ipv4Addr, u16),
    flags: u8,
    sequence: u32,
    acknowledgment: u32,
}

/// The ends of the attempt with that number: the machine's, the server's.
fn ends(number: u32) -> [(Ipv4Addr, u16); 2] {
    let [.., third] = number.to_be_bytes();
    [
        (MACHINE_ADDRESS, FIRST_PORT + u16::from(third)),
        (Ipv4Addr::new(198, 18, third, 25), 25),
    ]
}

/// The SYN with that number.
fn syn(number: u32) -> (Tuple, Vec<u8>) {
    let [source, destination] = ends(number);
    let frame = Frame {
        to: GATEWAY,
        from: MACHINE,
        source,
        destination,
        flags: TcpFlags::SYN,
        sequence: number + 1,
        acknowledgment: 0,
    };
    let tuple = Tuple {
        source: source.0.into(),
        source_port: source.1,
        destination: destination.0.into(),
        destination_port: destination.1,
    };
    (tuple, frame.bytes())
}

/// What follows that SYN: the server's SYN/ACK, as it arrives from outside, and the machine's ACK.
fn handshake(number: u32) -> [Vec<u8>; 2] {
    let [machine, server] = ends(number);
    let accepted = Frame {
        to: WAN,
        from: ROUTER,
        source: server,
        destination: machine,
        flags: TcpFlags::SYN | TcpFlags::ACK,
        sequence: SERVERS,
        acknowledgment: number + 2,
    };
    let completed = Frame {
        to: GATEWAY,
        from: MACHINE,
        source: machine,
        destination: server,
        flags: TcpFlags::ACK,
        sequence: number + 2,
        acknowledgment: SERVERS + 1,
    };
    [accepted.bytes(), completed.bytes()]
}

impl Frame {
    fn bytes(&self) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET + 2 * HEADER];
        frame[..6].copy_from_slice(&self.to.0);
        frame[6..12].copy_from_slice(&self.from.0);
        frame[12..ETHERNET].copy_from_slice(&[0x08, 0x00]);
        if let Some(mut ip) = MutableIpv4Packet::new(&mut frame[ETHERNET..]) {
            ip.set_version(4);
            ip.set_header_length(5);
            ip.set_total_length(40);
            ip.set_ttl(64);
            ip.set_next_level_protocol(IpNextHeaderProtocols::Tcp);
            ip.set_source(self.source.0);
            ip.set_destination(self.destination.0);
            ip.set_checksum(ipv4::checksum(&ip.to_immutable()));
        }
        if let Some(mut segment) = MutableTcpPacket::new(&mut frame[ETHERNET + HEADER..]) {
            segment.set_source(self.source.1);
            segment.set_destination(self.destination.1);
            segment.set_sequence(self.sequence);
            segment.set_acknowledgement(self.acknowledgment);
            segment.set_data_offset(5);
            segment.set_flags(self.flags);
            segment.set_window(64_240);
            let checksum =
                tcp::ipv4_checksum(&segment.to_immutable(), &self.source.0, &self.destination.0);
            segment.set_checksum(checksum);
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::packet::{LinkType, decode};

    #[test]
    fn our_own_decoder_reads_what_is_sent() {
        for number in 0..SYNS {
            let (tuple, frame) = syn(number);
            let segment = decode(LinkType(1), &frame).unwrap();
            assert!(segment.is_syn());
            assert_eq!(segment.tuple, tuple);
            assert_eq!(segment.mac, Some(MACHINE));
            let [accepted, completed] = handshake(number);
            let accepted = decode(LinkType(1), &accepted).unwrap();
            assert!(accepted.is_syn_ack());
            assert_eq!(
                (accepted.tuple.source, accepted.tuple.destination),
                (tuple.destination, tuple.source)
            );
            assert_eq!(accepted.acknowledgment, segment.sequence + 1);
            let completed = decode(LinkType(1), &completed).unwrap();
            assert!(completed.is_ack());
            assert_eq!(
                (completed.tuple, completed.sequence),
                (tuple, accepted.acknowledgment)
            );
        }
    }
}
