//! SYNs of a machine in the LAN to port 25, each to another network (RFC 2544's, which nobody routes).

use std::net::Ipv4Addr;

use pcap::{Active, Capture};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{self, MutableIpv4Packet};
use pnet_packet::tcp::{self, MutableTcpPacket, TcpFlags};

use super::network::{GATEWAY, LAN_END, MACHINE, MACHINE_ADDRESS, Network};
use crate::model::Tuple;

/// As many as make the detector of new destinations speak.
pub(super) const SYNS: u32 = 8;

const ETHERNET: usize = 14;
const HEADER: usize = 20;
const FIRST_PORT: u16 = 40_000;

/// Who sends, and how much was sent.
#[derive(Default)]
pub(super) struct Mail {
    wire: Option<Capture<Active>>,
    /// SYNs so far.
    pub(super) sent: u32,
}

impl Mail {
    /// Sends one more, from the far end of the LAN's wire; answers between whom.
    pub(super) fn send(&mut self, _network: &Network) -> Result<Tuple, String> {
        let wire = match &mut self.wire {
            Some(wire) => wire,
            none => none.insert(
                Capture::from_device(LAN_END)
                    .and_then(pcap::Capture::open)
                    .map_err(|error| format!("sending on {LAN_END}: {error}"))?,
            ),
        };
        let (tuple, frame) = syn(self.sent);
        wire.sendpacket(frame)
            .map_err(|error| format!("sending on {LAN_END}: {error}"))?;
        self.sent += 1;
        Ok(tuple)
    }
}

/// The frame with that number.
fn syn(number: u32) -> (Tuple, Vec<u8>) {
    let [.., third] = number.to_be_bytes();
    let destination = Ipv4Addr::new(198, 18, third, 25);
    let source_port = FIRST_PORT + u16::from(third);
    let mut frame = vec![0; ETHERNET + 2 * HEADER];
    frame[..6].copy_from_slice(&GATEWAY.0);
    frame[6..12].copy_from_slice(&MACHINE.0);
    frame[12..ETHERNET].copy_from_slice(&[0x08, 0x00]);
    if let Some(mut ip) = MutableIpv4Packet::new(&mut frame[ETHERNET..]) {
        ip.set_version(4);
        ip.set_header_length(5);
        ip.set_total_length(40);
        ip.set_ttl(64);
        ip.set_next_level_protocol(IpNextHeaderProtocols::Tcp);
        ip.set_source(MACHINE_ADDRESS);
        ip.set_destination(destination);
        ip.set_checksum(ipv4::checksum(&ip.to_immutable()));
    }
    if let Some(mut segment) = MutableTcpPacket::new(&mut frame[ETHERNET + HEADER..]) {
        segment.set_source(source_port);
        segment.set_destination(25);
        segment.set_sequence(number + 1);
        segment.set_data_offset(5);
        segment.set_flags(TcpFlags::SYN);
        segment.set_window(64_240);
        let checksum = tcp::ipv4_checksum(&segment.to_immutable(), &MACHINE_ADDRESS, &destination);
        segment.set_checksum(checksum);
    }
    let tuple = Tuple {
        source: MACHINE_ADDRESS.into(),
        source_port,
        destination: destination.into(),
        destination_port: 25,
    };
    (tuple, frame)
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
        }
    }
}
