//! Sends TCP SYNs as Ethernet frames by one interface, as fast as asked for: what `scripts/bench live`
//! and the soak of a gateway put on the wire.
//!
//!     flood INTERFACE DESTINATION-MAC [--rate SYNS-A-SECOND] [--seconds S] [--count N]
//!           [--sources N] [--machines N] [--port PORT]
//!
//! Every SYN is an attempt of its own: its destination and its initial sequence number are like no
//! other's. Sources are 10.1.0.0 and up, destinations lie in 198.18.0.0/15 (RFC 2544), and a machine is a
//! MAC, 02:00:5e:1x:xx:xx, to which the sources are dealt in turn. Without a rate it sends as fast as it
//! can. At the end it prints how many were sent, and in what time, as JSON. Frames go to the driver and
//! past its queue (`PACKET_QDISC_BYPASS`), 64 in a system call.
#![allow(clippy::unwrap_used, clippy::print_stdout)]
#![allow(
    unsafe_code,
    reason = "packet sockets and sendmmsg(2) have no safe face; each block says why it is sound"
)]

use std::env;
use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

/// Frames in one system call.
const BATCH: usize = 64;
const FRAME: usize = 14 + 20 + 20;

fn main() {
    let flood = Flood::from_arguments();
    let socket = open(&flood.interface).unwrap_or_else(|error| {
        eprintln_and_exit(&format!("{}: {error}", flood.interface));
    });
    let (sent, took) = flood.run(&socket);
    let seconds = took.as_secs_f64();
    println!("{{\"sent\": {sent}, \"seconds\": {seconds:.3}}}");
}

#[expect(clippy::print_stderr, reason = "a program's diagnostics")]
fn eprintln_and_exit(message: &str) -> ! {
    eprintln!("flood: {message}");
    std::process::exit(2);
}

struct Flood {
    interface: String,
    destination: [u8; 6],
    /// SYNs a second; none for as many as there can be.
    rate: Option<u64>,
    seconds: f64,
    count: u64,
    sources: u32,
    machines: u32,
    port: u16,
}

impl Flood {
    fn from_arguments() -> Self {
        let mut arguments = env::args().skip(1);
        let usage = "usage: flood INTERFACE DESTINATION-MAC [--rate N] [--seconds S] [--count N] \
                     [--sources N] [--machines N] [--port PORT]";
        let (Some(interface), Some(mac)) = (arguments.next(), arguments.next()) else {
            eprintln_and_exit(usage);
        };
        let mut flood = Self {
            interface,
            destination: mac_of(&mac).unwrap_or_else(|| eprintln_and_exit("not a MAC address")),
            rate: None,
            seconds: f64::INFINITY,
            count: u64::MAX,
            sources: 300,
            machines: 300,
            port: 25,
        };
        while let Some(flag) = arguments.next() {
            let value = arguments.next().unwrap_or_default();
            let known = match flag.as_str() {
                "--rate" => value.parse().map(|rate| flood.rate = Some(rate)).is_ok(),
                "--seconds" => value.parse().map(|value| flood.seconds = value).is_ok(),
                "--count" => value.parse().map(|value| flood.count = value).is_ok(),
                "--sources" => value.parse().map(|value| flood.sources = value).is_ok(),
                "--machines" => value.parse().map(|value| flood.machines = value).is_ok(),
                "--port" => value.parse().map(|value| flood.port = value).is_ok(),
                _ => false,
            };
            if !known {
                eprintln_and_exit(usage);
            }
        }
        if flood.seconds.is_infinite() && flood.count == u64::MAX {
            flood.seconds = 1.0;
        }
        flood
    }

    /// Sends; answers how many frames, in what time.
    #[expect(clippy::disallowed_methods, reason = "a pace needs a clock")]
    fn run(&self, socket: &OwnedFd) -> (u64, Duration) {
        let mut frames = [self.frame(); BATCH];
        let start = Instant::now();
        let mut sent = 0;
        loop {
            let elapsed = start.elapsed();
            if elapsed.as_secs_f64() >= self.seconds || sent >= self.count {
                return (sent, elapsed);
            }
            let due = match self.rate {
                None => u64::MAX,
                Some(rate) => due(rate, elapsed),
            };
            let wanted = due.min(self.count).saturating_sub(sent);
            if wanted == 0 {
                thread::sleep(Duration::from_micros(500));
                continue;
            }
            let wanted = usize::try_from(wanted).unwrap_or(BATCH).min(BATCH);
            for (place, frame) in frames[..wanted].iter_mut().enumerate() {
                self.number(frame, sent + place as u64);
            }
            match send(socket, &frames[..wanted]) {
                Ok(count) => sent += count,
                // The interface's queue is full.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => thread::yield_now(),
                Err(error) => eprintln_and_exit(&format!("{}: {error}", self.interface)),
            }
        }
    }

    /// A frame without what tells it from others.
    fn frame(&self) -> [u8; FRAME] {
        let mut frame = [0; FRAME];
        frame[..6].copy_from_slice(&self.destination);
        frame[6..12].copy_from_slice(&[0x02, 0, 0x5e, 0x10, 0, 0]);
        frame[12..14].copy_from_slice(&[0x08, 0]);
        frame[14..24].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6]);
        frame[36..38].copy_from_slice(&self.port.to_be_bytes());
        frame[46..50].copy_from_slice(&[0x50, 0x02, 0xfa, 0xf0]);
        frame
    }

    /// Makes `frame` the flood's `number`th.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "numbers wrap where fields end"
    )]
    fn number(&self, frame: &mut [u8; FRAME], number: u64) {
        let turn = number as u32;
        let source = turn % self.sources;
        let machine = 0x0010_0000 | (source % self.machines) & 0x000f_ffff;
        frame[9..12].copy_from_slice(&machine.to_be_bytes()[1..]);
        frame[18..20].copy_from_slice(&(turn as u16).to_be_bytes());
        let source = 0x0a01_0000_u32.wrapping_add(source);
        frame[26..30].copy_from_slice(&source.to_be_bytes());
        // Knuth's multiplicative hash: neighbours go far apart.
        let destination = 0xc612_0000 | turn.wrapping_mul(2_654_435_761) >> 15;
        frame[30..34].copy_from_slice(&destination.to_be_bytes());
        frame[34..36].copy_from_slice(&(32_768 + (turn as u16) % 28_000).to_be_bytes());
        frame[38..42].copy_from_slice(&turn.to_be_bytes());
        frame[24..26].fill(0);
        let sum = checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
}

/// How many frames are due after `elapsed`.
fn due(rate: u64, elapsed: Duration) -> u64 {
    let due = u128::from(rate) * elapsed.as_micros() / 1_000_000;
    u64::try_from(due).unwrap_or(u64::MAX)
}

/// The checksum of an IPv4 header (RFC 1071), whose own field is 0.
fn checksum(header: &[u8]) -> u16 {
    let pairs = header.chunks_exact(2);
    let sum: u32 = pairs
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0)
}

fn mac_of(text: &str) -> Option<[u8; 6]> {
    let octets: Option<Vec<u8>> = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).ok())
        .collect();
    octets?.try_into().ok()
}

/// A packet socket that sends by `interface` and receives nothing.
fn open(interface: &str) -> io::Result<OwnedFd> {
    let name = CString::new(interface)?;
    // SAFETY: the name is a C string that lives until the call returns.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: socket(2) takes no pointers.
    let descriptor =
        unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let on: libc::c_int = 1;
    // SAFETY: the option is an int, and its size is given with it.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_QDISC_BYPASS,
            (&raw const on).cast(),
            size_of_length(mem::size_of_val(&on)),
        )
    };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zeros are a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
    address.sll_ifindex = i32::try_from(index).unwrap();
    // SAFETY: the address is a sockaddr_ll, and its size is given with it.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_length(mem::size_of_val(&address)),
        )
    };
    if bound < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

fn size_of_length(length: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(length).unwrap()
}

/// Sends `frames`; answers how many were taken.
fn send(socket: &OwnedFd, frames: &[[u8; FRAME]]) -> io::Result<u64> {
    // SAFETY: all zeros are a valid iovec and a valid mmsghdr.
    let mut parts: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
    // SAFETY: as above.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
    for ((frame, part), message) in frames.iter().zip(&mut parts).zip(&mut messages) {
        part.iov_base = frame.as_ptr().cast_mut().cast();
        part.iov_len = frame.len();
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
    }
    let length = libc::c_uint::try_from(frames.len().min(BATCH)).unwrap();
    // SAFETY: each of the `length` messages points to an iovec above, which points to a frame that is
    // borrowed; sendmmsg(2) does not write to them.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), length, 0) };
    u64::try_from(sent).map_err(|_| io::Error::last_os_error())
}
