//! What tests need of the kernel and the standard library does not give.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

/// `TUNSETIFF` (`linux/if_tun.h`).
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;

/// Makes the interface `name`, without a link layer, in this thread's network namespace: what is written
/// to the file comes in by it, a packet a call. It is gone when the file is closed.
pub(crate) fn tun(name: &str) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    // struct ifreq: the name, its flags, padding.
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    let flags = u16::try_from(libc::IFF_TUN | libc::IFF_NO_PI).unwrap();
    request[libc::IFNAMSIZ..libc::IFNAMSIZ + 2].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: TUNSETIFF reads and writes a struct ifreq, which is 40 bytes at the most.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) };
    if made == 0 {
        Ok(file)
    } else {
        Err(io::Error::last_os_error())
    }
}
