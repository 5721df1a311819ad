//! What the kernel knows of the network, by rtnetlink(7): links, addresses, routes, neighbours; asked
//! for whole, and listened to for changes.
//!
//! What cannot be decoded is counted and left out. Nothing is changed in the kernel.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use ipnet::IpNet;
use netlink_packet_core::{
    Emitable, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NetlinkMessage, NlasIterator, Parseable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkLayerType, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily as Family, address, neighbour, route};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::model::{Interface, Mac};

/// Multicast groups (RTMGRP_*): links, neighbours, addresses and routes of both families.
const GROUPS: u32 = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400;
/// Room for messages that were not read yet. A neighbour table that is flushed tells of each entry.
const RECEIVE_BUFFER: usize = 4 << 20;
/// The kernel fills no more than 32 KiB of it at once.
const MESSAGE_BUFFER: usize = 64 << 10;
/// How long the kernel may take to answer, in seconds.
const PATIENCE: i64 = 5;
/// The header of a link (struct ifinfomsg), and the attribute that names it (`IFLA_IFNAME`).
const LINK_HEADER: usize = 16;
const IFLA_IFNAME: u16 = 3;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;

/// What can be asked for whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Links,
    Addresses,
    Routes,
    Neighbours,
}

impl Table {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Links => "interfaces",
            Self::Addresses => "addresses",
            Self::Routes => "routes",
            Self::Neighbours => "neighbours",
        }
    }

    fn request(self) -> RouteNetlinkMessage {
        match self {
            Self::Links => RouteNetlinkMessage::GetLink(LinkMessage::default()),
            Self::Addresses => RouteNetlinkMessage::GetAddress(address::AddressMessage::default()),
            Self::Routes => RouteNetlinkMessage::GetRoute(route::RouteMessage::default()),
            Self::Neighbours => {
                RouteNetlinkMessage::GetNeighbour(neighbour::NeighbourMessage::default())
            }
        }
    }
}

/// One thing that the kernel said. Interfaces are told by their index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Link(Link),
    Address(u32, IpNet),
    /// A route, once for each of its next hops.
    Route(IpNet, Vec<Hop>),
    /// A neighbour entry; without a MAC where nobody answers.
    Neighbour(u32, IpAddr, Option<Mac>),
    /// Links, addresses or routes have changed.
    Changed,
    /// It says nothing that is wanted.
    Nothing,
    /// It cannot be decoded.
    Undecoded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) interface: Interface,
    pub(super) has_link_layer: bool,
    pub(super) is_up: bool,
    pub(super) is_loopback: bool,
}

/// By which interface, and which router, a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) index: u32,
    pub(super) via: Option<IpAddr>,
}

/// A socket to the kernel.
pub(super) struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Socket {
    /// One that hears of changes and never blocks.
    pub(super) fn listening() -> io::Result<Self> {
        let listening = Self::open(SockFlag::SOCK_NONBLOCK, GROUPS)?;
        // More than the system's limit needs CAP_NET_ADMIN; with less, a re-read makes up for it.
        if setsockopt(&listening.fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            let _ = setsockopt(&listening.fd, sockopt::RcvBuf, &RECEIVE_BUFFER);
        }
        Ok(listening)
    }

    /// One to ask on.
    pub(super) fn asking() -> io::Result<Self> {
        let asking = Self::open(SockFlag::empty(), 0)?;
        setsockopt(
            &asking.fd,
            sockopt::ReceiveTimeout,
            &TimeVal::seconds(PATIENCE),
        )?;
        Ok(asking)
    }

    fn open(flags: SockFlag, groups: u32) -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            flags | SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self {
            fd,
            buffer: vec![0; MESSAGE_BUFFER],
            sequence: 0,
        })
    }

    /// Hands what has come to `take`, until nothing is left; answers whether anything was lost.
    pub(super) fn receive(&mut self, mut take: impl FnMut(Fact)) -> io::Result<bool> {
        let mut is_lossy = false;
        loop {
            match self.fill() {
                Ok(length) => each(&self.buffer[..length], |message| take(fact(message))),
                Err(Errno::EAGAIN) => return Ok(is_lossy),
                Err(Errno::ENOBUFS) => is_lossy = true,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asks for a whole table and hands it to `take`; answers false where it changed meanwhile, so
    /// that it must be asked again.
    pub(super) fn dump(&mut self, table: Table, mut take: impl FnMut(Fact)) -> io::Result<bool> {
        self.ask(table.request(), |message| take(fact(message)))
    }

    /// The same for any request, its answers as the kernel made them.
    pub(super) fn ask(
        &mut self,
        request: RouteNetlinkMessage,
        mut take: impl FnMut(&NetlinkBuffer<&[u8]>),
    ) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(request);
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.emit(&mut bytes);
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut is_whole = true;
        loop {
            let length = match self.fill() {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let (mut is_done, mut refused) = (false, None);
            each(&self.buffer[..length], |message| {
                if message.sequence_number() != self.sequence {
                    return;
                }
                is_whole &= message.flags() & NLM_F_DUMP_INTR == 0;
                match message.message_type() {
                    NLMSG_DONE => is_done = true,
                    NLMSG_ERROR => refused = Some(errno(message.payload())),
                    _ => take(message),
                }
            });
            match refused {
                Some(error) => return Err(error),
                None if is_done => return Ok(is_whole),
                None => {}
            }
        }
    }

    /// Reads the next datagram of the kernel's own.
    fn fill(&mut self) -> Result<usize, Errno> {
        loop {
            let (length, from) = recvfrom::<NetlinkAddr>(self.fd.as_raw_fd(), &mut self.buffer)?;
            if from.is_some_and(|from| from.pid() == 0) {
                return Ok(length);
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The negative errno that an error message begins with.
fn errno(payload: &[u8]) -> io::Error {
    let code = payload
        .first_chunk()
        .map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    io::Error::from_raw_os_error(code.saturating_neg())
}

/// Takes a datagram apart.
fn each<'a>(mut datagram: &'a [u8], mut take: impl FnMut(&NetlinkBuffer<&'a [u8]>)) {
    while let Ok(message) = NetlinkBuffer::new_checked(datagram) {
        take(&message);
        // Messages begin at multiples of four.
        let length = (message.length() as usize).next_multiple_of(4);
        datagram = datagram.get(length..).unwrap_or_default();
    }
}

fn fact(message: &NetlinkBuffer<&[u8]>) -> Fact {
    let payload = message.payload();
    let decoded = match message.message_type() {
        RTM_NEWLINK => link(payload),
        RTM_NEWADDR => AddressMessage::parse(payload).ok().map(|it| address(&it)),
        RTM_NEWROUTE => RouteMessage::parse(payload).ok().map(|it| route(&it)),
        RTM_NEWNEIGH => NeighbourMessage::parse(payload)
            .ok()
            .map(|it| neighbour(&it, false)),
        RTM_DELNEIGH => NeighbourMessage::parse(payload)
            .ok()
            .map(|it| neighbour(&it, true)),
        RTM_DELLINK | RTM_DELADDR | RTM_DELROUTE => Some(Fact::Changed),
        _ => Some(Fact::Nothing),
    };
    decoded.unwrap_or(Fact::Undecoded)
}

/// Only what is needed is read of a link: it bears a hundred attributes, and each kernel has new ones.
fn link(payload: &[u8]) -> Option<Fact> {
    let header = LinkHeader::parse(payload).ok()?;
    let name = NlasIterator::new(payload.get(LINK_HEADER..)?)
        .flatten()
        .find(|attribute| attribute.kind() == IFLA_IFNAME)?;
    let name = name.value();
    let name = name.strip_suffix(&[0]).unwrap_or(name);
    Some(Fact::Link(Link {
        index: header.index,
        interface: Interface::new(name),
        has_link_layer: matches!(
            header.link_layer_type,
            LinkLayerType::Ether | LinkLayerType::Ieee802 | LinkLayerType::Ieee80211
        ),
        is_up: header.flags.contains(LinkFlags::Up),
        is_loopback: header.link_layer_type == LinkLayerType::Loopback,
    }))
}

fn address(message: &AddressMessage) -> Fact {
    let (mut own, mut peer) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => own = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            _ => {}
        }
    }
    let Some(address) = own.or(peer) else {
        return Fact::Nothing;
    };
    // With a peer the length is that of the peer's network, for which there is a route.
    let length = if peer.is_none_or(|peer| peer == address) {
        message.header.prefix_len
    } else if address.is_ipv4() {
        32
    } else {
        128
    };
    IpNet::new(address, length).map_or(Fact::Undecoded, |network| {
        Fact::Address(message.header.index, network)
    })
}

fn route(message: &RouteMessage) -> Fact {
    let header = &message.header;
    let unspecified = match header.address_family {
        Family::Inet => IpAddr::from([0; 4]),
        Family::Inet6 => IpAddr::from([0; 16]),
        _ => return Fact::Nothing,
    };
    let gone = RouteFlags::Dead | RouteFlags::Linkdown | RouteFlags::Cloned;
    if header.kind != RouteType::Unicast || header.flags.intersects(gone) {
        return Fact::Nothing;
    }
    let mut destination = unspecified;
    let (mut index, mut hops) = (None, Vec::new());
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => match ip(address) {
                Some(address) => destination = address,
                None => return Fact::Undecoded,
            },
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::MultiPath(all) => hops.extend(
                all.iter()
                    .filter(|hop| {
                        !hop.flags
                            .intersects(RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown)
                    })
                    .map(|hop| Hop {
                        index: hop.interface_index,
                        via: via(&hop.attributes),
                    }),
            ),
            _ => {}
        }
    }
    hops.extend(index.map(|index| Hop {
        index,
        via: via(&message.attributes),
    }));
    IpNet::new(destination, header.destination_prefix_length).map_or(Fact::Undecoded, |network| {
        Fact::Route(network.trunc(), hops)
    })
}

fn via(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some((*v4).into()),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

fn neighbour(message: &NeighbourMessage, is_gone: bool) -> Fact {
    // A bridge's own table of MACs comes this way, too.
    if !matches!(message.header.family, Family::Inet | Family::Inet6) {
        return Fact::Nothing;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                address = Some(IpAddr::from(*v4));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                address = Some(IpAddr::from(*v6));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = bytes.first_chunk::<6>().filter(|_| bytes.len() == 6);
            }
            _ => {}
        }
    }
    let Some(address) = address else {
        return Fact::Undecoded;
    };
    let is_answered = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    );
    let mac = mac
        .filter(|_| is_answered && !is_gone)
        .map(|mac| Mac(*mac))
        .filter(|mac| mac.is_station());
    Fact::Neighbour(message.header.ifindex, address, mac)
}
