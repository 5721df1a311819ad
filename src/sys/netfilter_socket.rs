//! A netlink socket to netfilter's subsystems: opened, sent to, received from, without waiting.
//!
//! What is sent and what comes is for others to know.

use std::ffi::c_void;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use mnl::mnl_sys;
use nix::errno::Errno;
use nix::sys::socket::sockopt::SndBufForce;
use nix::sys::socket::{MsgFlags, NetlinkAddr, recvmsg, sendmsg, setsockopt};

/// What any socket's send buffer holds (`net.core.wmem_default` is some 208 KiB).
const SMALL: usize = 32 * 1024;

/// A socket to the kernel's netfilter subsystems, non-blocking and closed on exec.
pub(super) struct Socket(NonNull<mnl_sys::mnl_socket>);

// SAFETY: `mnl_socket` is a descriptor and an address on the heap; libmnl ties it to no thread and
// keeps no state besides. It is not shared (`Sync`), only moved.
unsafe impl Send for Socket {}

impl Socket {
    /// Opens one that hears of the multicast `groups`, a bit each.
    pub(super) fn open(groups: u32) -> io::Result<Self> {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes two numbers and gives a new socket or null.
        let raw = unsafe { mnl_sys::mnl_socket_open2(libc::NETLINK_NETFILTER, flags) };
        let socket = Self(NonNull::new(raw).ok_or_else(io::Error::last_os_error)?);
        // SAFETY: the socket is open; port 0 lets the kernel choose one.
        let bound = unsafe { mnl_sys::mnl_socket_bind(socket.0.as_ptr(), groups, 0) };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(socket)
    }

    /// Sets one of netlink's own options, which are on or off.
    pub(super) fn switch_on(&self, option: i32) -> io::Result<()> {
        self.set(option, 1)
    }

    fn set(&self, option: i32, mut value: i32) -> io::Result<()> {
        // SAFETY: the socket is open, and the option's value is an int that lives here.
        let set = unsafe {
            mnl_sys::mnl_socket_setsockopt(
                self.0.as_ptr(),
                option,
                (&raw mut value).cast::<c_void>(),
                4,
            )
        };
        if set < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Its netlink port.
    #[cfg(test)]
    pub(super) fn port(&self) -> u32 {
        // SAFETY: reads a number of an open socket.
        unsafe { mnl_sys::mnl_socket_get_portid(self.0.as_ptr()) }
    }

    /// Joins the multicast group with this number.
    pub(super) fn join(&self, group: i32) -> io::Result<()> {
        self.set(libc::NETLINK_ADD_MEMBERSHIP, group)
    }

    /// Sends all parts as one datagram, however many they are.
    pub(super) fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        if length > SMALL {
            // What exceeds the buffer is refused with EMSGSIZE. Without the right to enlarge it
            // there is none to change rules either.
            setsockopt(&self.as_fd(), SndBufForce, &length)?;
        }
        let address = None::<&NetlinkAddr>;
        let fd = self.as_fd().as_raw_fd();
        loop {
            match sendmsg(fd, parts, &[], MsgFlags::empty(), address) {
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
                Ok(sent) if sent == length => return Ok(()),
                Ok(_) => return Err(Errno::EMSGSIZE.into()),
            }
        }
    }

    /// Takes the next datagram of the kernel; none where nothing waits.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        loop {
            let mut parts = [IoSliceMut::new(buffer)];
            let fd = self.as_fd().as_raw_fd();
            let received = recvmsg::<NetlinkAddr>(fd, &mut parts, None, MsgFlags::MSG_DONTWAIT);
            let (length, is_whole, is_kernel) = match received {
                Ok(received) => (
                    received.bytes,
                    !received.flags.contains(MsgFlags::MSG_TRUNC),
                    received.address.is_some_and(|sender| sender.pid() == 0),
                ),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            if !is_kernel {
                continue;
            }
            if !is_whole {
                return Err(Errno::EMSGSIZE.into());
            }
            return Ok(Some(&buffer[..length]));
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the socket, which the borrow outlives not.
        unsafe { BorrowedFd::borrow_raw(mnl_sys::mnl_socket_get_fd(self.0.as_ptr())) }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: the socket is open and not used again.
        unsafe { mnl_sys::mnl_socket_close(self.0.as_ptr()) };
    }
}
