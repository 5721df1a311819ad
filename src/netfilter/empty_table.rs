//! An empty nftables table taken away, and only if it is empty: the kernel decides it in one step
//! (`NLM_F_NONREC`), so that what another program has just put in is never taken with it. `nft
//! delete table` would take all.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

// linux/netfilter/nfnetlink.h, nf_tables.h and linux/netlink.h.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM_NFTABLES: u16 = 10;
const DELETE_TABLE: u16 = (SUBSYSTEM_NFTABLES << 8) | 2;
const TABLE_NAME: u16 = 1;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const NOT_RECURSIVE: u16 = 0x100;
const NLMSG_ERROR: u16 = 2;
const HEADER: usize = 16;
/// Sequence number of the message that is acknowledged.
const SEQUENCE: u32 = 2;

/// Takes the table away if nothing is in it; answers whether it is gone. `family` is an NFPROTO
/// (2 for IPv4, 10 for IPv6).
pub(super) fn delete_if_empty(family: u8, table: &str) -> io::Result<bool> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(2))?;
    send(
        socket.as_raw_fd(),
        &request(family, table),
        MsgFlags::empty(),
    )?;
    let mut answer = [0; 4096];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    match error(answer.get(..length).unwrap_or_default()) {
        Some(0) => Ok(true),
        Some(number) if number == Errno::ENOENT as i32 => Ok(true),
        Some(number) if number == Errno::EBUSY as i32 => Ok(false),
        Some(number) => Err(io::Error::from_raw_os_error(number)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn request(family: u8, table: &str) -> Vec<u8> {
    let subsystem = SUBSYSTEM_NFTABLES.to_be_bytes();
    let mut name = table.as_bytes().to_vec();
    name.push(0);
    let mut attribute = Vec::new();
    let length = u16::try_from(4 + name.len()).unwrap_or(u16::MAX);
    attribute.extend(length.to_ne_bytes());
    attribute.extend(TABLE_NAME.to_ne_bytes());
    attribute.extend(&name);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    let mut batch = message(
        BATCH_BEGIN,
        REQUEST,
        1,
        [0, 0, subsystem[0], subsystem[1]],
        &[],
    );
    batch.extend(message(
        DELETE_TABLE,
        REQUEST | ACKNOWLEDGE | NOT_RECURSIVE,
        SEQUENCE,
        [family, 0, 0, 0],
        &attribute,
    ));
    batch.extend(message(
        BATCH_END,
        REQUEST,
        3,
        [0, 0, subsystem[0], subsystem[1]],
        &[],
    ));
    batch
}

/// A netlink message: nlmsghdr, nfgenmsg, attributes.
fn message(kind: u16, flags: u16, sequence: u32, netfilter: [u8; 4], attributes: &[u8]) -> Vec<u8> {
    let length = HEADER + netfilter.len() + attributes.len();
    let mut message = Vec::with_capacity(length);
    message.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(netfilter);
    message.extend(attributes);
    message
}

/// The error number in the kernel's answer, 0 for an acknowledgement; none in another message.
fn error(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let number = i32::from_ne_bytes(answer.get(HEADER..HEADER + 4)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then_some(number.wrapping_neg())
}
