//! What the kernel says of a packet socket (packet(7)) and libpcap only hands on with a look at files of
//! /sys, which costs a hundred times as much.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

/// `struct tpacket_stats_v3` (`linux/if_packet.h`), of which the older versions have the beginning.
#[repr(C)]
#[derive(Default)]
struct Statistics {
    packets: u32,
    drops: u32,
    freezes: u32,
}

/// How many packets `socket` has dropped since this was last asked, for want of room. libpcap's own
/// statistics begin anew, too, wherever they are asked for.
pub(crate) fn dropped_since(socket: &impl AsFd) -> io::Result<u32> {
    let mut statistics = Statistics::default();
    let mut length = libc::socklen_t::try_from(mem::size_of::<Statistics>()).unwrap_or(0);
    // SAFETY: the kernel writes at most `length` bytes, which is what the structure has, and any bytes
    // make one.
    let got = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut length,
        )
    };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(statistics.drops)
}
