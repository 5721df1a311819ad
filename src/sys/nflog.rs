//! A socket to `nfnetlink_log`: bound to a group, it receives the packets that rules log there.
//!
//! Requests and their answers are here (`linux/netfilter/nfnetlink_log.h`), what the messages hold is
//! read in `decode::nflog`. A group has one reader in each network namespace, and the socket belongs to
//! the namespace of the thread that opens it.

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce};

use crate::decode::nflog::{self, Item};

/// Bytes of a packet that the kernel hands over: headers with many options, and no content.
const SNAPSHOT: u32 = 128;
/// Bytes that the kernel gathers before it hands messages over.
const GATHERED: u32 = 64 * 1024;
/// How long it gathers, in hundredths of a second.
const GATHER_CENTISECONDS: u32 = 1;
/// The socket's receive buffer. The kernel charges for it only what waits to be read.
const RECEIVE_BUFFER: usize = 32 * 1024 * 1024;

/// Larger than any datagram: what is gathered, or a message with one packet.
pub(crate) const MAX_DATAGRAM: usize = 128 * 1024;

/// Datagrams that can come before the answer to a request: those that other cores have queued since it
/// was sent.
const MAX_EARLY: usize = 1024;

/// `NFULNL_MSG_CONFIG` of the subsystem `NFNL_SUBSYS_ULOG`, and its attributes.
const CONFIG: u16 = 4 << 8 | 1;
const NFULA_CFG_CMD: u16 = 1;
const NFULA_CFG_MODE: u16 = 2;
const NFULA_CFG_NLBUFSIZ: u16 = 3;
const NFULA_CFG_TIMEOUT: u16 = 4;
const NFULA_CFG_QTHRESH: u16 = 5;
const NFULA_CFG_FLAGS: u16 = 6;
const NFULNL_CFG_CMD_BIND: u8 = 1;
const NFULNL_COPY_PACKET: u8 = 2;
const NFULNL_CFG_F_SEQ: u16 = 1;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;

/// Why a group cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Somebody else reads it.
    #[error("NFLOG group {group} is already taken by another program{}: stop it, or take another group", told(.holder.as_ref()))]
    Taken {
        /// Which group.
        group: u16,
        /// Who.
        holder: Option<Holder>,
    },
    /// The right to read it is missing.
    #[error("to read NFLOG group {group} needs CAP_NET_ADMIN: run as root")]
    NotPermitted {
        /// Which group.
        group: u16,
    },
    /// The kernel knows no such thing.
    #[error("the kernel has no nfnetlink_log: load it with `modprobe nfnetlink_log`")]
    NotInKernel,
    /// A system call failed.
    #[error("{step} of NFLOG group {group} failed: {source}")]
    System {
        /// What was being done.
        step: &'static str,
        /// With which group.
        group: u16,
        /// Why not.
        source: io::Error,
    },
}

fn told(holder: Option<&Holder>) -> String {
    holder.map_or(String::new(), |holder| format!(" ({holder})"))
}

/// Who reads a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The netlink port of its socket.
    pub(crate) port: u32,
    /// The process that has the socket open and its name, where they can be told.
    pub(crate) process: Option<(u32, String)>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            // A process may call itself anything.
            Some((pid, name)) => write!(f, "{}, pid {pid}", name.escape_default()),
            None => write!(f, "netlink port {}", self.port),
        }
    }
}

/// What a call of [`LogSocket::receive`] gave.
#[derive(Debug)]
pub(crate) enum Received<'a> {
    /// A datagram, for [`nflog::items`].
    Datagram(&'a [u8]),
    /// There is none now.
    Nothing,
    /// The receive buffer was full since the last call: messages were lost, and their sequence
    /// numbers will tell how many.
    Overrun,
}

/// A socket that reads a group.
pub(crate) struct LogSocket {
    socket: mnl::Socket,
    group: u16,
    snapshot: u32,
    requests: u32,
    /// What came in before the answer to the first request.
    early: VecDeque<Vec<u8>>,
}

// SAFETY: an mnl socket is a descriptor and a port number in memory of its own; libmnl keeps nothing
// that belongs to a thread, and without `Sync` no two threads use it at once.
unsafe impl Send for LogSocket {}

impl fmt::Debug for LogSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSocket")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl AsRawFd for LogSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for LogSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor stays open for as long as the mnl socket lives, which is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

impl LogSocket {
    /// Opens a socket that does not block and binds it to `group`. Messages come one by one until
    /// [`LogSocket::gather`] says otherwise, and with sequence numbers that begin with 0.
    pub(crate) fn open(group: u16) -> Result<Self, Error> {
        Self::open_for(group, SNAPSHOT)
    }

    /// The same, for the first `snapshot` bytes of each packet, if the rule hands over as many.
    pub(crate) fn open_for(group: u16, snapshot: u32) -> Result<Self, Error> {
        let failed = |step| {
            move |source| Error::System {
                step,
                group,
                source,
            }
        };
        let socket = match mnl::Socket::new(mnl::Bus::Netfilter) {
            Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => {
                return Err(Error::NotInKernel);
            }
            other => other.map_err(failed("opening the socket"))?,
        };
        let mut opened = Self {
            socket,
            group,
            snapshot,
            requests: 0,
            early: VecDeque::new(),
        };
        opened.prepare().map_err(failed("preparing the socket"))?;
        opened.bind()?;
        Ok(opened)
    }

    fn prepare(&self) -> io::Result<()> {
        fcntl(self, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        fcntl(self, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // Beyond net.core.rmem_max only with CAP_NET_ADMIN in the initial user namespace.
        if setsockopt(self, RcvBufForce, &RECEIVE_BUFFER).is_err() {
            setsockopt(self, RcvBuf, &RECEIVE_BUFFER)?;
        }
        Ok(())
    }

    fn bind(&mut self) -> Result<(), Error> {
        let group = self.group;
        let failed = |source| Error::System {
            step: "binding",
            group,
            source,
        };
        let mut request = Request::new(group, self.next_request(), NLM_F_REQUEST | NLM_F_ACK);
        request.attribute(NFULA_CFG_CMD, &[NFULNL_CFG_CMD_BIND]);
        let [a, b, c, d] = self.snapshot.to_be_bytes();
        request.attribute(NFULA_CFG_MODE, &[a, b, c, d, NFULNL_COPY_PACKET, 0]);
        request.attribute(NFULA_CFG_NLBUFSIZ, &GATHERED.to_be_bytes());
        request.attribute(NFULA_CFG_TIMEOUT, &GATHER_CENTISECONDS.to_be_bytes());
        request.attribute(NFULA_CFG_QTHRESH, &1_u32.to_be_bytes());
        request.attribute(NFULA_CFG_FLAGS, &NFULNL_CFG_F_SEQ.to_be_bytes());
        self.send(&request).map_err(failed)?;
        match self.answer().map_err(failed)? {
            0 => Ok(()),
            libc::EPERM => Err(match holder(group) {
                Some(holder) => Error::Taken {
                    group,
                    holder: Some(holder),
                },
                None => Error::NotPermitted { group },
            }),
            libc::EINVAL | libc::EOPNOTSUPP => Err(Error::NotInKernel),
            errno => Err(failed(io::Error::from_raw_os_error(errno))),
        }
    }

    /// Has the kernel hand messages over in datagrams of `messages`, or of fewer after ten
    /// milliseconds.
    pub(crate) fn gather(&mut self, messages: u32) -> Result<(), Error> {
        let mut request = Request::new(self.group, self.next_request(), NLM_F_REQUEST);
        request.attribute(NFULA_CFG_QTHRESH, &messages.to_be_bytes());
        self.send(&request).map_err(|source| Error::System {
            step: "setting the queue threshold",
            group: self.group,
            source,
        })
    }

    /// Receives a datagram into `buffer`, which holds at least [`MAX_DATAGRAM`] bytes.
    pub(crate) fn receive<'a>(&mut self, buffer: &'a mut [u8]) -> Result<Received<'a>, Error> {
        if let Some(early) = self.early.pop_front() {
            let target = &mut buffer[..early.len()];
            target.copy_from_slice(&early);
            return Ok(Received::Datagram(target));
        }
        match self.receive_one(buffer) {
            Ok(length) => Ok(Received::Datagram(&buffer[..length])),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => Ok(Received::Nothing),
                Some(libc::ENOBUFS) => Ok(Received::Overrun),
                _ => Err(Error::System {
                    step: "receiving",
                    group: self.group,
                    source: error,
                }),
            },
        }
    }

    /// Only the kernel, and processes with `CAP_NET_ADMIN`, can send to a netfilter socket
    /// (`netlink_sendmsg()`), so that senders are not looked at.
    fn receive_one(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match nix::sys::socket::recv(
                self.as_raw_fd(),
                buffer,
                nix::sys::socket::MsgFlags::MSG_TRUNC,
            ) {
                Ok(length) if length <= buffer.len() => return Ok(length),
                // Cut: its messages are a gap in the sequence.
                Ok(_) => return Err(io::Error::from_raw_os_error(libc::ENOBUFS)),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The errno in the answer to the last request, which is there when sending it has returned.
    fn answer(&mut self) -> io::Result<i32> {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let length = match self.receive_one(&mut buffer) {
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => continue,
                other => other?,
            };
            let datagram = &buffer[..length];
            let mut answers = nflog::items(datagram).filter_map(|item| match item {
                Item::Answer { request, errno } if request == self.requests => Some(errno),
                _ => None,
            });
            if let Some(errno) = answers.next() {
                return Ok(errno);
            }
            if self.early.len() == MAX_EARLY {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.early.push_back(datagram.to_vec());
        }
    }

    fn next_request(&mut self) -> u32 {
        self.requests = self.requests.wrapping_add(1);
        self.requests
    }

    fn send(&self, request: &Request) -> io::Result<()> {
        self.socket.send(&request.bytes).map(drop)
    }
}

/// A request in the making.
struct Request {
    bytes: Vec<u8>,
}

impl Request {
    fn new(group: u16, number: u32, flags: u16) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(CONFIG.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(number.to_ne_bytes());
        bytes.extend([0; 4]);
        // struct nfgenmsg: no family, version 0, the group.
        bytes.extend([0, 0]);
        bytes.extend(group.to_be_bytes());
        let mut request = Self { bytes };
        request.note_length();
        request
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.note_length();
    }

    fn note_length(&mut self) {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
    }
}

/// Who reads `group` in this network namespace; none where nobody does, or where it cannot be told.
pub(crate) fn holder(group: u16) -> Option<Holder> {
    let groups = fs::read_to_string("/proc/thread-self/net/netfilter/nfnetlink_log").ok()?;
    let port = port_of_group(&groups, group)?;
    let sockets = fs::read_to_string("/proc/thread-self/net/netlink").unwrap_or_default();
    let process = inode_of_port(&sockets, port).and_then(process_with_socket);
    Some(Holder { port, process })
}

/// A line a group: its number, the netlink port of its reader, then queue and modes
/// (`seq_show()` in `nfnetlink_log.c`).
fn port_of_group(groups: &str, group: u16) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let is_it = fields.next()?.parse() == Ok(group);
        // The port is printed unsigned, and read as such.
        is_it.then(|| fields.next()?.parse().ok())?
    })
}

/// `sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode`; netfilter is protocol 12.
fn inode_of_port(sockets: &str, port: u32) -> Option<u64> {
    sockets.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_it = fields.get(1) == Some(&"12") && fields.get(2)?.parse() == Ok(port);
        is_it.then(|| fields.get(9)?.parse().ok())?
    })
}

/// The first process that has the socket open, and its name.
fn process_with_socket(inode: u64) -> Option<(u32, String)> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut descriptors = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let has_it = descriptors.any(|descriptor| {
            fs::read_link(descriptor.path())
                .is_ok_and(|target| target.as_os_str() == wanted.as_str())
        });
        if !has_it {
            return None;
        }
        let name = fs::read(process.path().join("comm")).unwrap_or_default();
        Some((
            pid,
            String::from_utf8_lossy(name.trim_ascii_end()).into_owned(),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_of_a_group_is_found_in_the_kernels_tables() {
        let groups =
            "    4  99     0 2 65535    100  1\n    5 4294963214     0 2   128      1  1\n";
        assert_eq!(port_of_group(groups, 5), Some(4_294_963_214));
        assert_eq!(port_of_group(groups, 4), Some(99));
        assert_eq!(port_of_group(groups, 6), None);
        let sockets = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
             0000000000000000 0   99         00000000 0        0        0     2        0        6017    \n\
             0000000000000000 12  99         00000000 0        0        0     2        0        6018    \n";
        assert_eq!(inode_of_port(sockets, 99), Some(6018));
        assert_eq!(inode_of_port(sockets, 6018), None);
    }

    #[test]
    fn a_request_is_as_long_as_it_says() {
        let mut request = Request::new(5, 7, NLM_F_REQUEST);
        request.attribute(NFULA_CFG_CMD, &[NFULNL_CFG_CMD_BIND]);
        assert_eq!(
            request.bytes,
            [
                &28_u32.to_ne_bytes()[..],
                &0x0401_u16.to_ne_bytes(),
                &1_u16.to_ne_bytes(),
                &7_u32.to_ne_bytes(),
                &[0, 0, 0, 0, 0, 0, 0, 5],
                &5_u16.to_ne_bytes(),
                &1_u16.to_ne_bytes(),
                &[1, 0, 0, 0],
            ]
            .concat()
        );
    }

    #[test]
    fn a_hostile_name_is_escaped() {
        let holder = Holder {
            port: 9,
            process: Some((12, "x\u{1b}[2J".to_owned())),
        };
        let error = Error::Taken {
            group: 5,
            holder: Some(holder),
        };
        assert_eq!(
            error.to_string(),
            "NFLOG group 5 is already taken by another program (x\\u{1b}[2J, pid 12): stop it, or take another group"
        );
    }
}
