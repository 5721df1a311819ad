//! What is asked of a packet socket (packet(7)) beside libpcap.
//!
//! Its losses: libpcap only hands them on with a look at files of /sys, which costs a hundred times as
//! much. Its filter: libpcap runs one over the first frames once more itself, and there knows no direction,
//! so that it would drop them.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

use pcap::BpfProgram;

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

/// Has the kernel hand over to `socket` what `program` lets through, and nothing else from now on.
pub(crate) fn attach_filter(socket: &impl AsFd, program: &BpfProgram) -> io::Result<()> {
    let instructions = program.get_instructions();
    let too_long = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let filter = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(too_long)?,
        // An instruction of libpcap is laid out as the kernel's (`struct bpf_insn`).
        filter: instructions.as_ptr().cast_mut().cast(),
    };
    let length = libc::socklen_t::try_from(mem::size_of_val(&filter)).unwrap_or(0);
    // SAFETY: the kernel copies `len` instructions from `filter`, which outlive the call, and checks
    // them; it writes nothing.
    let attached = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            length,
        )
    };
    if attached < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
