//! A socket that hears what connection tracking does (`nfnetlink_conntrack`), of TCP connections to the
//! watched ports and of no others.
//!
//! The kernel picks them out before it queues anything (a classic BPF program, which walks the message's
//! attributes by `SKF_AD_NLATTR`), so that a busy gateway's other connections wake nobody. What the
//! events mean is read in `decode::conntrack`. Nothing of connection tracking is changed here, no sysctl
//! either. The socket belongs to the network namespace of the thread that opens it. Connections are
//! tracked where some rule asks for it (NAT, `ct state`): without one nothing is ever told.

use std::fmt;
use std::fs;
use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libc::{
    BPF_ABS, BPF_B, BPF_H, BPF_IMM, BPF_IND, BPF_JEQ, BPF_JGT, BPF_JMP, BPF_JUMP, BPF_K, BPF_LD,
    BPF_LDX, BPF_MEM, BPF_MISC, BPF_RET, BPF_ST, BPF_STMT, BPF_TAX, BPF_W, sock_filter,
};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce};

use super::netfilter_socket::Socket;
use crate::decode::conntrack::{Item, items};

/// Larger than any event, of which a datagram holds one.
pub(crate) const MAX_DATAGRAM: usize = 16 * 1024;
/// The socket's receive buffer. The kernel charges for it only what waits to be read.
const RECEIVE_BUFFER: usize = 32 * 1024 * 1024;

/// Multicast groups: `NFNLGRP_CONNTRACK_NEW`, `_UPDATE`, `_DESTROY`.
const GROUPS: [i32; 3] = [1, 2, 3];

/// `NFNL_SUBSYS_CTNETLINK`, `IPCTNL_MSG_CT_NEW` (which an update is, too) and `_GET_STATS`.
const SUBSYSTEM: u8 = 1;
const NEW: u8 = 0;
const GET_STATS: u8 = 5;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;

/// `SK_MEMINFO_DROPS` of `SK_MEMINFO_VARS` numbers (`linux/sock_diag.h`).
const DROPS: usize = 8;
const MEMINFO_VARS: usize = 9;

/// Why connections cannot be followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The right is missing.
    #[error("to follow connection tracking needs CAP_NET_ADMIN: run as root")]
    NotPermitted,
    /// The kernel knows no such thing.
    #[error(
        "the kernel tells nothing of connections: load it with `modprobe nf_conntrack_netlink`"
    )]
    NotInKernel,
    /// It is switched off.
    #[error(
        "connection tracking tells nothing, for net.netfilter.nf_conntrack_events is 0: \
         `sysctl -w net.netfilter.nf_conntrack_events=1` switches it on"
    )]
    EventsOff,
    /// A system call failed.
    #[error("{step} of connection tracking failed: {source}")]
    System {
        /// What was being done.
        step: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// A setting of connection tracking; none where the kernel has none.
fn setting(name: &str) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/sys/net/netfilter/{name}")).ok()?;
    text.trim().parse().ok()
}

/// What a call of [`ConntrackSocket::receive`] gave.
#[derive(Debug)]
pub(crate) enum Received<'a> {
    /// A datagram, for [`items`].
    Datagram(&'a [u8]),
    /// There is none now.
    Nothing,
    /// The receive buffer was full since the last call: as many events were lost.
    Overrun(u64),
}

/// A socket that hears of connections.
pub(crate) struct ConntrackSocket {
    socket: Socket,
    /// Whether the kernel picks out what is watched.
    is_filtered: bool,
    /// Events that the kernel has dropped so far.
    dropped: u32,
    /// Whether it may drop more: it does until everything that waits is read.
    is_congested: bool,
}

impl fmt::Debug for ConntrackSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConntrackSocket")
            .field("is_filtered", &self.is_filtered)
            .finish_non_exhaustive()
    }
}

impl AsFd for ConntrackSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl ConntrackSocket {
    /// Opens a socket that does not block and hears of connections to `ports` that begin from here on.
    pub(crate) fn open(ports: &[u16]) -> Result<Self, Error> {
        let socket = Socket::open(0).map_err(|error| match error.raw_os_error() {
            Some(libc::EPROTONOSUPPORT) => Error::NotInKernel,
            _ => failed("opening the socket")(error),
        })?;
        let mut opened = Self {
            socket,
            is_filtered: false,
            dropped: 0,
            is_congested: false,
        };
        opened.prepare().map_err(failed("preparing the socket"))?;
        opened.ask()?;
        if setting("nf_conntrack_events") == Some(0) {
            return Err(Error::EventsOff);
        }
        opened.watch(ports);
        for group in GROUPS {
            opened.socket.join(group).map_err(failed("following"))?;
        }
        Ok(opened)
    }

    fn prepare(&self) -> io::Result<()> {
        // Beyond net.core.rmem_max only with CAP_NET_ADMIN in the initial user namespace.
        if setsockopt(self, RcvBufForce, &RECEIVE_BUFFER).is_err() {
            setsockopt(self, RcvBuf, &RECEIVE_BUFFER)?;
        }
        Ok(())
    }

    /// Asks for something harmless, for only the answer tells that the kernel has this subsystem, which
    /// it loads for that, and that it talks to us.
    fn ask(&self) -> Result<(), Error> {
        let failed = failed("asking");
        let mut request = [0; 20];
        request[4..6].copy_from_slice(&kind(GET_STATS).to_ne_bytes());
        request[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        request[..4].copy_from_slice(&20_u32.to_ne_bytes());
        let refused = match self.socket.send(&[IoSlice::new(&request)]) {
            Ok(()) => self.answer().map_err(failed)?,
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        match refused {
            0 => Ok(()),
            libc::EPERM => Err(Error::NotPermitted),
            libc::EINVAL | libc::EOPNOTSUPP | libc::ECONNREFUSED => Err(Error::NotInKernel),
            errno => Err(failed(io::Error::from_raw_os_error(errno))),
        }
    }

    /// The errno in the answer to a request, which is there when sending it has returned.
    fn answer(&self) -> io::Result<i32> {
        let mut buffer = vec![0; MAX_DATAGRAM];
        while let Some(datagram) = self.socket.receive(&mut buffer)? {
            let answer = items(datagram).find_map(|item| match item {
                Item::Answer(errno) => Some(errno),
                _ => None,
            });
            if let Some(errno) = answer {
                return Ok(errno);
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// Has the kernel hand over what is about connections to `ports`, in the stead of what it handed
    /// over before; what waits to be read stays. Where it refuses everything comes, to be picked from.
    pub(crate) fn watch(&mut self, ports: &[u16]) {
        let mut program = program(ports);
        self.is_filtered = attach(&self.socket, &mut program).is_ok();
        if !self.is_filtered {
            detach(&self.socket);
        }
    }

    /// Receives a datagram into `buffer`, which holds at least [`MAX_DATAGRAM`] bytes.
    pub(crate) fn receive<'a>(&mut self, buffer: &'a mut [u8]) -> Result<Received<'a>, Error> {
        match self.socket.receive(buffer) {
            Ok(Some(datagram)) => Ok(Received::Datagram(datagram)),
            Ok(None) if mem::take(&mut self.is_congested) => {
                Ok(match self.newly_dropped().unwrap_or(0) {
                    0 => Received::Nothing,
                    events => Received::Overrun(events),
                })
            }
            Ok(None) => Ok(Received::Nothing),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                self.is_congested = true;
                Ok(Received::Overrun(self.newly_dropped().unwrap_or(1)))
            }
            Err(error) => Err(failed("receiving")(error)),
        }
    }

    /// How many events were dropped since this was last asked.
    fn newly_dropped(&mut self) -> io::Result<u64> {
        let dropped = self.dropped()?;
        let before = mem::replace(&mut self.dropped, dropped);
        Ok(u64::from(dropped.wrapping_sub(before)))
    }

    /// How many datagrams did not fit into the receive buffer, of those that the filter let pass
    /// (`netlink_overrun()`).
    fn dropped(&self) -> io::Result<u32> {
        let mut numbers = [0_u32; MEMINFO_VARS];
        let mut length = size_of(&numbers);
        // SAFETY: the kernel writes at most `length` bytes, which is what the array has.
        let got = unsafe {
            libc::getsockopt(
                self.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                numbers.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        outcome(got).map(|()| numbers[DROPS])
    }
}

fn attach(socket: &impl AsFd, program: &mut [sock_filter]) -> io::Result<()> {
    let description = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel copies a struct sock_fprog and as many instructions as that says, both of
    // which live here.
    let set = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const description).cast(),
            size_of(&description),
        )
    };
    outcome(set)
}

/// Takes an earlier filter away; that there was none is no error.
fn detach(socket: &impl AsFd) {
    let unused = 0_i32;
    // SAFETY: the option's value is an int that lives here.
    let _ = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DETACH_FILTER,
            (&raw const unused).cast(),
            size_of(&unused),
        )
    };
}

fn failed(step: &'static str) -> impl Fn(io::Error) -> Error + Copy {
    move |source| match source.raw_os_error() {
        Some(libc::EPERM) => Error::NotPermitted,
        _ => Error::System { step, source },
    }
}

fn outcome(returned: libc::c_int) -> io::Result<()> {
    if returned < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn size_of<T>(value: &T) -> libc::socklen_t {
    libc::socklen_t::try_from(mem::size_of_val(value)).unwrap_or(0)
}

/// A message's type.
fn kind(message: u8) -> u16 {
    u16::from_be_bytes([SUBSYSTEM, message])
}

/// Where the two halves of a message's type stand, which is in the machine's byte order.
const MESSAGE_AT: u32 = if cfg!(target_endian = "little") { 4 } else { 5 };
const SUBSYSTEM_AT: u32 = 9 - MESSAGE_AT;
/// Where the attributes begin: behind the headers of netlink and of nfnetlink.
const ATTRIBUTES_AT: u32 = 20;
/// Where an attribute's value begins.
const VALUE_AT: u32 = 4;

/// Attributes (`linux/netfilter/nfnetlink_conntrack.h`).
const CTA_TUPLE_ORIG: u32 = 1;
const CTA_TUPLE_PROTO: u32 = 2;
const CTA_PROTO_NUM: u32 = 1;
const CTA_PROTO_DST_PORT: u32 = 3;
const CTA_PROTOINFO: u32 = 4;
const CTA_PROTOINFO_TCP: u32 = 1;
const CTA_PROTOINFO_TCP_STATE: u32 = 1;
/// `TCP_CONNTRACK_ESTABLISHED`: later states say nothing that the end does not.
const ESTABLISHED: u32 = 3;

/// Verdicts of a filter: how many bytes of the message are kept.
const PASS: u32 = u32::MAX;
const DROP: u32 = 0;

/// The filter: what is about a TCP connection whose originator means one of `ports`: its begin, its states
/// up to `ESTABLISHED`, and its end. Of other messages those that it cannot read pass, and are left to
/// the reader.
fn program(ports: &[u16]) -> Vec<sock_filter> {
    // Jumps are only ever as far as to the next step, for they are bytes and ports are many.
    let mut program = vec![load(BPF_B | BPF_ABS, SUBSYSTEM_AT)];
    program.extend(unless_equal(SUBSYSTEM.into(), PASS));

    let mut states = vec![load(BPF_IMM, ATTRIBUTES_AT)];
    states.extend(find(ATTRIBUTE, CTA_PROTOINFO, DROP));
    states.extend(find(NESTED, CTA_PROTOINFO_TCP, DROP));
    states.extend(find(NESTED, CTA_PROTOINFO_TCP_STATE, DROP));
    states.extend(value(BPF_B));
    states.extend([jump(BPF_JGT, ESTABLISHED, 0, 1), verdict(DROP)]);
    program.push(load(BPF_B | BPF_ABS, MESSAGE_AT));
    let behind = u8::try_from(states.len()).unwrap_or(u8::MAX);
    program.push(jump(BPF_JEQ, NEW.into(), 0, behind));
    program.extend(states);

    program.push(load(BPF_IMM, ATTRIBUTES_AT));
    program.extend(find(ATTRIBUTE, CTA_TUPLE_ORIG, PASS));
    program.extend(find(NESTED, CTA_TUPLE_PROTO, PASS));
    program.push(statement(BPF_ST, 0));
    program.extend(find(NESTED, CTA_PROTO_NUM, PASS));
    program.extend(value(BPF_B));
    program.extend(unless_equal(libc::IPPROTO_TCP.unsigned_abs(), DROP));
    program.push(load(BPF_MEM, 0));
    program.extend(find(NESTED, CTA_PROTO_DST_PORT, PASS));
    program.extend(value(BPF_H));
    for &port in ports {
        program.extend([jump(BPF_JEQ, port.into(), 0, 1), verdict(PASS)]);
    }
    program.push(verdict(DROP));
    program
}

/// Loads that look for an attribute: from an offset on, or within the attribute there.
const ATTRIBUTE: i32 = libc::SKF_AD_NLATTR;
const NESTED: i32 = libc::SKF_AD_NLATTR_NEST;

/// Puts the offset of the attribute `kind` into the accumulator, in the stead of where to look; ends
/// with `missing` where there is none.
fn find(how: i32, kind: u32, missing: u32) -> [sock_filter; 4] {
    let extension = (libc::SKF_AD_OFF + how).cast_unsigned();
    [
        statement(BPF_LDX | BPF_IMM, kind),
        load(BPF_W | BPF_ABS, extension),
        jump(BPF_JEQ, 0, 0, 1),
        verdict(missing),
    ]
}

/// Puts the value of the attribute at the accumulator's offset into it.
fn value(width: u32) -> [sock_filter; 2] {
    [
        statement(BPF_MISC | BPF_TAX, 0),
        load(width | BPF_IND, VALUE_AT),
    ]
}

fn unless_equal(number: u32, ending: u32) -> [sock_filter; 2] {
    [jump(BPF_JEQ, number, 1, 0), verdict(ending)]
}

fn verdict(verdict: u32) -> sock_filter {
    statement(BPF_RET | BPF_K, verdict)
}

fn load(what: u32, from: u32) -> sock_filter {
    statement(BPF_LD | what, from)
}

fn statement(code: u32, argument: u32) -> sock_filter {
    let code = u16::try_from(code).unwrap_or(u16::MAX);
    // SAFETY: makes a value of its arguments, and nothing else.
    unsafe { BPF_STMT(code, argument) }
}

fn jump(condition: u32, number: u32, if_so: u8, if_not: u8) -> sock_filter {
    let code = u16::try_from(BPF_JMP | condition | BPF_K).unwrap_or(u16::MAX);
    // SAFETY: makes a value of its arguments, and nothing else.
    unsafe { BPF_JUMP(code, number, if_so, if_not) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// One connection each, its events one after the other, as they were captured.
    const ANSWERED: &[u8] = include_bytes!("../../tests/fuzz/corpus/conntrack/answered");
    const ANSWERED_V6: &[u8] = include_bytes!("../../tests/fuzz/corpus/conntrack/answered-v6");
    const REFUSED_ON_26: &[u8] = include_bytes!("../../tests/fuzz/corpus/conntrack/refused");
    const REDIRECTED: &[u8] = include_bytes!("../../tests/fuzz/corpus/conntrack/redirected");
    const UDP: &[u8] = include_bytes!("../../tests/fuzz/corpus/conntrack/udp");
    const ANSWER: &[u8] = include_bytes!("../../tests/fuzz/corpus/conntrack/answer");

    /// How many messages of `datagram` get through the filter for `ports`.
    fn passed(datagram: &[u8], ports: &[u16]) -> usize {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        attach(&receiver, &mut program(ports)).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let mut passed = 0;
        for message in crate::decode::netlink::messages(datagram) {
            let message = message.unwrap().bytes;
            sender.send(message).unwrap();
            let mut buffer = vec![0; MAX_DATAGRAM];
            if let Ok(length) = receiver.recv(&mut buffer) {
                assert_eq!(&buffer[..length], message);
                passed += 1;
            }
        }
        passed
    }

    #[test]
    fn the_filter_passes_what_says_something_about_a_watched_port() {
        // NEW, SYN_RECV, ESTABLISHED and DESTROY; not the three states between.
        assert_eq!(passed(ANSWERED, &[25]), 4);
        assert_eq!(passed(ANSWERED_V6, &[25]), 4);
        assert_eq!(passed(ANSWERED, &[587, 25, 465]), 4);
        // By the originator's port, whatever the redirection made of it.
        assert_eq!(passed(REDIRECTED, &[25]), 4);
        assert_eq!(passed(REDIRECTED, &[2525]), 0);
        assert_eq!(passed(REFUSED_ON_26, &[26]), 2);
        for (datagram, port) in [(ANSWERED, 26), (REFUSED_ON_26, 25), (UDP, 53)] {
            assert_eq!(passed(datagram, &[port]), 0);
        }
        assert_eq!(passed(ANSWERED, &[]), 0);
    }

    #[test]
    fn what_the_filter_cannot_read_is_left_to_the_reader() {
        let kept = crate::decode::netlink::messages(ANSWER).flatten();
        assert_eq!(passed(ANSWER, &[25]), kept.count());
        let event = |attributes: &[u8]| {
            let payload = [&[2, 0, 0, 0], attributes].concat();
            crate::decode::netlink::building::message(kind(2), 0, 0, 0, &payload)
        };
        for attributes in [&[][..], &[4, 0, 1, 0], &[8, 0, 1, 0x80, 4, 0, 2, 0x80]] {
            assert_eq!(passed(&event(attributes), &[25]), 1, "{attributes:?}");
        }
    }

    #[test]
    fn many_ports_are_as_many_as_the_kernel_takes() {
        let ports: Vec<u16> = (1..=2000).collect();
        assert_eq!(passed(ANSWERED, &ports), 4);
        let (_, receiver) = UnixDatagram::pair().unwrap();
        let ports: Vec<u16> = (1..=3000).collect();
        assert!(attach(&receiver, &mut program(&ports)).is_err());
    }
}
