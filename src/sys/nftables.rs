//! A netlink socket to `nf_tables`: batches of set elements sent whole, dumps, notifications.
//!
//! libmnl holds the socket, libnftnl writes the batch; answers are read by
//! [`netlink`](crate::decode::netlink). The kernel has answered a request when sending it
//! returns (`nfnetlink_rcv` runs in the sender's context), so nothing here ever blocks. The socket
//! stays in the network namespace in which it was opened. What elements and tables stand for is
//! not known here.

use std::cell::Cell;
use std::ffi::{CStr, c_void};
use std::io::{self, IoSlice};
use std::iter;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;

use mnl::mnl_sys;
use nftnl::nftnl_sys;
use nix::errno::Errno;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;

use super::ext_ack::{Refusal, Verdict, verdict};
use super::netfilter_socket::Socket;
use crate::decode::netlink::{Message, messages};

/// `NFNL_SUBSYS_NFTABLES`, the upper byte of a message's type.
pub(crate) const SUBSYSTEM: u16 = 10;
/// `NFPROTO_INET`: the family of tables for IPv4 and IPv6.
pub(crate) const INET: u8 = 1;
/// `NFT_MSG_GETTABLE`, `_GETSET`, `_NEWSETELEM`, `_GETSETELEM`, `_DELSETELEM`, `_GETOBJ`.
pub(crate) const GET_TABLE: u8 = 1;
pub(crate) const GET_SET: u8 = 10;
pub(crate) const NEW_ELEMENT: u8 = 12;
pub(crate) const GET_ELEMENTS: u8 = 13;
pub(crate) const DELETE_ELEMENT: u8 = 14;
pub(crate) const GET_OBJECT: u8 = 19;
/// `NLM_F_REQUEST`, `_ACK`, `_DUMP_INTR`, `_DUMP`, `_CREATE`.
const IS_REQUEST: u16 = 1;
const WANTS_ACK: u16 = 4;
const DUMP_INTERRUPTED: u16 = 0x10;
const WANTS_DUMP: u16 = 0x300;
const MAY_CREATE: u16 = 0x400;
/// `NFNLGRP_NFTABLES`: the multicast group of what changed.
const CHANGES_GROUP: u32 = 7;
/// `NFTA_SET_ELEM_LIST_TABLE`, `_SET`, `_ELEMENTS`; in requests for tables, sets and objects 1 and
/// 2 mean the same.
pub(crate) const LIST_TABLE: u16 = 1;
pub(crate) const LIST_SET: u16 = 2;
pub(crate) const LIST_ELEMENTS: u16 = 3;
/// `NFTA_SET_ELEM_KEY`, in it `NFTA_DATA_VALUE`.
pub(crate) const ELEMENT_KEY: u16 = 1;
pub(crate) const DATA_VALUE: u16 = 1;
/// `NFTNL_DATA_VALUE_MAXLEN`: libnftnl copies keys into that many bytes without asking.
pub(crate) const MAX_KEY: u32 = 64;
/// Elements of one message; with the longest key (a nest of 4, key 4 + 4 + 64, timeout 12 bytes)
/// they stay under the 64 KiB that an attribute's 16 bits of length can hold.
const ELEMENTS_A_MESSAGE: usize = 700;
const ELEMENT: usize = 4 + 4 + 4 + MAX_KEY as usize + 12;
const _: () = assert!(ELEMENTS_A_MESSAGE * ELEMENT < u16::MAX as usize);
/// `NFT_NAME_MAXLEN`, with the NUL.
const MAX_NAME: usize = 256;
/// Larger than any datagram of the kernel: dumps come in at most 32 KiB, acknowledgements in less.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// libnftnl's numbers of a set's and an element's attributes.
const TABLE_NAME: u16 = number(nftnl_sys::NFTNL_SET_TABLE);
const SET_NAME: u16 = number(nftnl_sys::NFTNL_SET_NAME);
const KEY: u16 = number(nftnl_sys::NFTNL_SET_ELEM_KEY);
const TIMEOUT: u16 = number(nftnl_sys::NFTNL_SET_ELEM_TIMEOUT);
/// Room for a request: two headers and two names of at most 256 bytes.
const MAX_REQUEST: usize = 1024;

/// What of a batch the kernel found fault with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The table's name.
    Table,
    /// The set's name.
    Set,
    /// An element with this key.
    Element(Vec<u8>),
    /// It did not say, or a message that names neither.
    Unknown,
}

/// Why a request was not done or not answered.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The system call did not work.
    Io(io::Error),
    /// The kernel refused; nothing of the batch was done.
    Refused(Refusal, Place),
    /// Somebody changed the rules while they were dumped: the answer may miss or repeat things.
    Interrupted,
    /// The kernel's answer did not come, or not to its end.
    NoAnswer,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// An element as it goes to the kernel.
pub(crate) struct RawElement<'a> {
    /// The key, at most [`MAX_KEY`] bytes.
    pub(crate) key: &'a [u8],
    /// Milliseconds until it goes away by itself.
    pub(crate) timeout: Option<u64>,
}

/// What to do with elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Add them; those that are there already are no error.
    Add,
    /// Delete them; one that is not there is an error.
    Delete,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// The message, such as [`GET_ELEMENTS`].
    pub(crate) message: u8,
    /// All of it (`NLM_F_DUMP`) or the one named.
    pub(crate) is_dump: bool,
    /// Names by the type of their attribute.
    pub(crate) names: &'a [(u16, &'a CStr)],
    /// A number that narrows the answer, by the type of its attribute.
    pub(crate) number: Option<(u16, u32)>,
}

/// A connection to `nf_tables` of the network namespace in which it was opened.
pub(crate) struct Nftables {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Nftables {
    /// Opens one.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Socket::open(0)?;
        socket.switch_on(libc::NETLINK_EXT_ACK)?;
        // Errors then bear the header of what they answer and not all of it.
        socket.switch_on(libc::NETLINK_CAP_ACK)?;
        Ok(Self {
            socket,
            buffer: vec![0; RECEIVE_BUFFER],
            sequence: 0,
        })
    }

    /// Its netlink port, which notifications about its changes bear.
    #[cfg(test)]
    pub(crate) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Adds and deletes elements of one set of a table of family inet, in this order, all of it or
    /// nothing.
    pub(crate) fn commit(
        &mut self,
        table: &CStr,
        set: &CStr,
        changes: &[(Operation, &[RawElement<'_>])],
    ) -> Result<(), Failure> {
        let parts: Vec<_> = changes
            .iter()
            .flat_map(|(operation, elements)| {
                let chunks = elements.chunks(ELEMENTS_A_MESSAGE);
                chunks.map(|elements| (*operation, elements))
            })
            .collect();
        let mut batch = nftnl::Batch::new();
        let mut last = None;
        for (index, (operation, elements)) in parts.iter().enumerate() {
            let message = ElementsMessage {
                elements: Elements::new(table, set, elements)?,
                // An acknowledgement of the last says that all before it were done.
                wants_ack: index + 1 == parts.len(),
                sequence: Cell::new(0),
            };
            let message_type = match operation {
                Operation::Add => nftnl::MsgType::Add,
                Operation::Delete => nftnl::MsgType::Del,
            };
            batch.add(&message, message_type);
            last = Some(message.sequence.get());
        }
        let Some(last) = last else {
            return Ok(());
        };
        let batch = batch.finalize();
        let pages: Vec<_> = batch.iter().map(IoSlice::new).collect();
        self.forget_answers();
        self.socket.send(&pages)?;
        self.read_acknowledgement(last)
            .map_err(|failure| match failure {
                Failure::Refused(refusal, _) => {
                    let place = place(batch.iter(), &refusal);
                    Failure::Refused(refusal, place)
                }
                other => other,
            })
    }

    /// Reads all answers to a batch. The first refusal counts, for it tells what was wrong first.
    fn read_acknowledgement(&mut self, sequence: u32) -> Result<(), Failure> {
        let mut refused = None;
        let mut is_done = false;
        loop {
            let datagram = match self.socket.receive(&mut self.buffer) {
                Ok(Some(datagram)) => datagram,
                Ok(None) => break,
                // More errors than the buffer holds; those that are in it come next.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => continue,
                Err(error) => return Err(error.into()),
            };
            for message in messages(datagram).flatten() {
                match verdict(&message) {
                    Some(Verdict::Refused(refusal)) => refused = refused.or(Some(refusal)),
                    Some(Verdict::Done) => is_done |= message.sequence == sequence,
                    None => {}
                }
            }
        }
        match refused {
            Some(refusal) => Err(Failure::Refused(refusal, Place::Unknown)),
            None if is_done => Ok(()),
            None => Err(Failure::NoAnswer),
        }
    }

    /// Asks for something and shows each message of the answer to `each`.
    pub(crate) fn ask(
        &mut self,
        request: &Request<'_>,
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<(), Failure> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = encoded(request, self.sequence)?;
        self.forget_answers();
        self.socket.send(&[IoSlice::new(&bytes)])?;
        let mut was_interrupted = false;
        while let Some(datagram) = self.socket.receive(&mut self.buffer)? {
            for message in messages(datagram) {
                let message = message.map_err(|_| Failure::NoAnswer)?;
                if message.sequence != self.sequence {
                    continue;
                }
                was_interrupted |= message.flags & DUMP_INTERRUPTED != 0;
                match verdict(&message) {
                    None => each(&message),
                    Some(Verdict::Refused(refusal)) => {
                        let place = place(iter::once(bytes.as_slice()), &refusal);
                        return Err(Failure::Refused(refusal, place));
                    }
                    Some(Verdict::Done) if was_interrupted => return Err(Failure::Interrupted),
                    Some(Verdict::Done) => return Ok(()),
                }
            }
        }
        Err(Failure::NoAnswer)
    }

    /// Reads what is left of a request that ended early, which would keep the next dump waiting.
    fn forget_answers(&mut self) {
        loop {
            match self.socket.receive(&mut self.buffer) {
                Ok(Some(_)) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                // Nothing waits, or the socket does not work: what is sent next will say so.
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// A socket that hears of every change of `nf_tables` in its network namespace.
pub(crate) struct Notifications {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Notifications {
    /// Opens one whose queue holds `queue` bytes, where that much is allowed. Needs
    /// `CAP_NET_ADMIN`.
    pub(crate) fn open(queue: usize) -> io::Result<Self> {
        let socket = Socket::open(1 << (CHANGES_GROUP - 1))?;
        // Without it the queue is the system's default; what overflows it is told (ENOBUFS).
        let _ = setsockopt(&socket.as_fd(), RcvBufForce, &queue);
        Ok(Self {
            socket,
            buffer: vec![0; RECEIVE_BUFFER],
        })
    }

    /// The next datagram; none where nothing waits. `ENOBUFS` means that some were lost.
    pub(crate) fn receive(&mut self) -> io::Result<Option<&[u8]>> {
        self.socket.receive(&mut self.buffer)
    }
}

impl AsFd for Notifications {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What the refusal of a message of `batch` points at.
fn place<'a>(batch: impl Iterator<Item = &'a [u8]>, refusal: &Refusal) -> Place {
    let Some(offset) = refusal.offset else {
        return Place::Unknown;
    };
    batch
        .flat_map(messages)
        .flatten()
        .find(|message| message.kind >> 8 == SUBSYSTEM && message.sequence == refusal.sequence)
        .map_or(Place::Unknown, |message| place_in(&message, offset))
}

/// What stands at `offset` of a message with elements.
fn place_in(message: &Message<'_>, offset: usize) -> Place {
    let mut attributes = message.attributes();
    let at = attributes.find(|attribute| (attribute.offset..attribute.end()).contains(&offset));
    match at {
        Some(table) if table.kind == LIST_TABLE => Place::Table,
        Some(set) if set.kind == LIST_SET => Place::Set,
        Some(list) if list.kind == LIST_ELEMENTS => list
            .nested()
            .find(|element| (element.offset..element.end()).contains(&offset))
            .and_then(|element| element.nested().get(ELEMENT_KEY))
            .and_then(|key| key.nested().get(DATA_VALUE))
            .map_or(Place::Unknown, |key| Place::Element(key.value.to_vec())),
        _ => Place::Unknown,
    }
}

/// Its functions take attributes as 16 bits, its bindings have them as 32.
const fn number(attribute: u32) -> u16 {
    assert!(attribute <= u16::MAX as u32);
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    let attribute = attribute as u16;
    attribute
}

/// Elements in libnftnl's form.
struct Elements(NonNull<nftnl_sys::nftnl_set>);

impl Elements {
    fn new(table: &CStr, set: &CStr, elements: &[RawElement<'_>]) -> io::Result<Self> {
        let no_memory = || io::Error::from(Errno::ENOMEM);
        // SAFETY: gives a new, empty set or null.
        let list =
            Self(NonNull::new(unsafe { nftnl_sys::nftnl_set_alloc() }).ok_or_else(no_memory)?);
        for (attribute, name) in [(TABLE_NAME, table), (SET_NAME, set)] {
            if name.count_bytes() >= MAX_NAME {
                return Err(Errno::ENAMETOOLONG.into());
            }
            // SAFETY: the set lives, and the name, which is copied, ends with a NUL.
            let copied =
                unsafe { nftnl_sys::nftnl_set_set_str(list.0.as_ptr(), attribute, name.as_ptr()) };
            if copied < 0 {
                return Err(no_memory());
            }
        }
        for element in elements {
            let length = u32::try_from(element.key.len());
            let length = length.ok().filter(|&length| length <= MAX_KEY);
            let length = length.ok_or(Errno::EINVAL)?;
            // SAFETY: gives a new element or null.
            let raw = NonNull::new(unsafe { nftnl_sys::nftnl_set_elem_alloc() });
            let raw = raw.ok_or_else(no_memory)?.as_ptr();
            // SAFETY: the element lives; the key is copied and no longer than the room for it; the
            // set takes the element over and frees it with itself.
            unsafe {
                nftnl_sys::nftnl_set_elem_set(
                    raw,
                    KEY,
                    element.key.as_ptr().cast::<c_void>(),
                    length,
                );
                if let Some(timeout) = element.timeout {
                    nftnl_sys::nftnl_set_elem_set_u64(raw, TIMEOUT, timeout);
                }
                nftnl_sys::nftnl_set_elem_add(list.0.as_ptr(), raw);
            }
        }
        Ok(list)
    }
}

impl Drop for Elements {
    fn drop(&mut self) {
        // SAFETY: the set lives and is not used again; its elements go with it.
        unsafe { nftnl_sys::nftnl_set_free(self.0.as_ptr()) };
    }
}

/// A message of a batch that adds or deletes elements. The safe one of nftnl would refuse what is
/// there already (`NLM_F_EXCL`).
struct ElementsMessage {
    elements: Elements,
    wants_ack: bool,
    /// The number it was given when it was written.
    sequence: Cell<u32>,
}

// SAFETY: at most ELEMENTS_A_MESSAGE elements make less than 64 KiB (asserted there), and the two
// names and headers less than the page that `nft_nlmsg_maxsize` has beyond that.
unsafe impl nftnl::NlMsg for ElementsMessage {
    unsafe fn write(&self, buffer: *mut c_void, sequence: u32, operation: nftnl::MsgType) {
        let (message, flags) = match operation {
            nftnl::MsgType::Add => (NEW_ELEMENT, MAY_CREATE),
            nftnl::MsgType::Del => (DELETE_ELEMENT, 0),
        };
        let ack = if self.wants_ack { WANTS_ACK } else { 0 };
        self.sequence.set(sequence);
        // SAFETY: the caller gives room for the longest message, and the set lives.
        unsafe {
            let header = nftnl_sys::nftnl_nlmsg_build_hdr(
                buffer.cast(),
                u16::from(message),
                u16::from(INET),
                flags | ack,
                sequence,
            );
            nftnl_sys::nftnl_set_elems_nlmsg_build_payload(header, self.elements.0.as_ptr());
        }
    }
}

/// `request` as it is sent.
fn encoded(request: &Request<'_>, sequence: u32) -> io::Result<Vec<u8>> {
    // Numbers of 64 bits, for libmnl wants headers aligned.
    let mut room = [0u64; MAX_REQUEST / 8];
    let flags = if request.is_dump {
        WANTS_DUMP
    } else {
        WANTS_ACK
    };
    // SAFETY: the room is zeroed, aligned and larger than both headers.
    let header = unsafe {
        nftnl_sys::nftnl_nlmsg_build_hdr(
            room.as_mut_ptr().cast(),
            u16::from(request.message),
            u16::from(INET),
            IS_REQUEST | flags,
            sequence,
        )
    };
    for &(attribute, name) in request.names {
        // SAFETY: the header stands at the begin of the room, whose end is checked.
        let fits = unsafe {
            mnl_sys::mnl_attr_put_strz_check(header, MAX_REQUEST, attribute, name.as_ptr())
        };
        if !fits {
            return Err(Errno::ENAMETOOLONG.into());
        }
    }
    if let Some((attribute, number)) = request.number {
        // SAFETY: as above.
        let fits = unsafe {
            mnl_sys::mnl_attr_put_u32_check(header, MAX_REQUEST, attribute, number.to_be())
        };
        if !fits {
            return Err(Errno::ENAMETOOLONG.into());
        }
    }
    // SAFETY: the header was written above.
    let length = unsafe { (*header).nlmsg_len } as usize;
    let bytes = room.iter().flat_map(|word| word.to_ne_bytes());
    Ok(bytes.take(length).collect())
}
