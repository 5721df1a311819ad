//! Links, addresses, routes and neighbours made by rtnetlink(7): for network namespaces of our own, in
//! which something is tried out. Nothing here looks at whose namespace it is; the caller has made it.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer, NetlinkMessage,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily as Family, RouteNetlinkMessage};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::model::Mac;

/// An answer to one request is an acknowledgement, or what was wrong.
const ANSWER: usize = 8 << 10;
/// How long the kernel may take to answer, in seconds.
const PATIENCE: i64 = 5;

/// A socket to ask the kernel on, in the network namespace of the thread that opens it.
#[derive(Debug)]
pub(crate) struct Rtnetlink {
    fd: OwnedFd,
    sequence: u32,
}

impl Rtnetlink {
    /// Opens it.
    pub(crate) fn open() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Makes a wire between two interfaces with these names and MACs, both up.
    pub(crate) fn add_wire(&mut self, one: (&str, Mac), other: (&str, Mac)) -> io::Result<()> {
        let end = |(name, mac): (&str, Mac)| {
            let mut link = LinkMessage::default();
            link.attributes = vec![
                LinkAttribute::IfName(name.to_owned()),
                LinkAttribute::Address(mac.0.to_vec()),
            ];
            link
        };
        let mut link = end(one);
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(end(other)))),
        ]));
        self.make(RouteNetlinkMessage::NewLink(link))?;
        // An end cannot be up before it has another.
        self.set_up(one.0)?;
        self.set_up(other.0)
    }

    fn set_up(&mut self, interface: &str) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = if_nametoindex(interface)?;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.ask(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Gives the interface an address in a network of that length.
    pub(crate) fn add_address(
        &mut self,
        interface: &str,
        address: Ipv4Addr,
        length: u8,
    ) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = Family::Inet;
        message.header.prefix_len = length;
        message.header.index = if_nametoindex(interface)?;
        message.attributes = vec![
            AddressAttribute::Local(address.into()),
            AddressAttribute::Address(address.into()),
        ];
        self.make(RouteNetlinkMessage::NewAddress(message))
    }

    /// Makes the default route.
    pub(crate) fn add_default_route(&mut self, interface: &str, via: Ipv4Addr) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: Family::Inet,
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Static,
            scope: RouteScope::Universe,
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        message.attributes = vec![
            RouteAttribute::Gateway(RouteAddress::Inet(via)),
            RouteAttribute::Oif(if_nametoindex(interface)?),
        ];
        self.make(RouteNetlinkMessage::NewRoute(message))
    }

    /// Enters who answers for an address, for good.
    pub(crate) fn add_neighbour(
        &mut self,
        interface: &str,
        address: Ipv4Addr,
        mac: Mac,
    ) -> io::Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = Family::Inet;
        message.header.ifindex = if_nametoindex(interface)?;
        message.header.state = NeighbourState::Permanent;
        message.attributes = vec![
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)),
            NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
        ];
        self.make(RouteNetlinkMessage::NewNeighbour(message))
    }

    /// Asks for something new.
    fn make(&mut self, message: RouteNetlinkMessage) -> io::Result<()> {
        self.ask(message, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Asks for a change, and waits for the answer.
    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence += 1;
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut answer = [0; ANSWER];
        let length = recv(self.fd.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        acknowledged(&answer[..length], self.sequence)
    }
}

/// Whether `answer` says that the request of that number was done.
fn acknowledged(answer: &[u8], sequence: u32) -> io::Result<()> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "the kernel gave no answer");
    let message = NetlinkBuffer::new_checked(answer).map_err(|_| strange())?;
    if message.message_type() != NLMSG_ERROR || message.sequence_number() != sequence {
        return Err(strange());
    }
    // The negative errno that an error message begins with; 0 where there was none.
    let code = message
        .payload()
        .first_chunk()
        .copied()
        .ok_or_else(strange)?;
    match i32::from_ne_bytes(code) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_believed_only_if_it_is_one() {
        let answer = |kind: u16, sequence: u32, code: i32| {
            let mut bytes = 36_u32.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0, 0]);
            bytes.extend(sequence.to_ne_bytes());
            bytes.extend([0; 4]);
            bytes.extend(code.to_ne_bytes());
            bytes.extend([0; 16]);
            bytes
        };
        assert!(acknowledged(&answer(2, 7, 0), 7).is_ok());
        let refused = acknowledged(&answer(2, 7, -libc::EPERM), 7).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        for bad in [answer(2, 8, 0), answer(3, 7, 0), vec![0; 3]] {
            assert!(acknowledged(&bad, 7).is_err(), "{bad:?}");
        }
    }
}
