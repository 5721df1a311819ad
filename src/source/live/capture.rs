//! Frames captured on an interface: of a mirror port, or of a gateway whose firewall must not be
//! touched.
//!
//! The kernel filters. Of what comes in: SYNs without ACK to watched ports, acknowledgments without data
//! to them (the handshake's last, and few others: who sends mail sends data, and its acknowledgments come
//! from the other side), and IPv6 packets with extension headers, behind which the filter cannot look.
//! What goes out is not asked for SYNs, so that a frame that is forwarded is not seen twice. Answers are
//! taken whichever way they go, for those to the LAN leave by its interface: SYNs with ACK and resets from
//! watched ports, and ICMP errors that quote a SYN to one. No data gets here.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pcap::{Active, Linktype};

use super::super::answers::Answers;
use super::{Batch, LiveError, MAX_EVENTS, Names, Options};
use crate::decode::packet::{self, Content, LinkType, Segment, Skip};
use crate::model::{Evidence, Interface, LossKind, Observation, RuleId, Timestamp};
use crate::settings::Ports;
use crate::sys;

/// Tells its id from other sources' rules.
const SOURCE: u32 = 0x7063_6170;

/// The device that stands for all interfaces.
const ANY: &str = "any";

/// Bytes of a frame that are captured: headers with tags and extensions, and little content.
const SNAPSHOT: i32 = 160;

/// Bytes that wait to be read at the most: some 58,000 SYNs. They count as resident memory.
const BUFFER: i32 = 8 * 1024 * 1024;

/// How long the kernel gathers frames before it wakes the reader. Waking it for each frame at once
/// (libpcap's immediate mode) costs twenty times as much.
const GATHER_MILLIS: i32 = 20;

/// A capture on one interface.
pub(crate) struct Capture {
    interface: Interface,
    /// Its index, for another may take its name; none of all interfaces together.
    index: Option<u32>,
    frames: pcap::Capture<Active>,
    link: LinkType,
    ports: Ports,
    rule: RuleId,
    answers: Answers,
    pub(super) names: Names,
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture")
            .field("interface", &self.interface)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

impl Capture {
    pub(super) fn open(interface: Interface, options: &Options) -> Result<Self, LiveError> {
        let name = interface.name();
        let failed = |step| move |error| classified(step, interface, &error);
        let capture = pcap::Capture::from_device(name.as_str())
            .map_err(failed("opening a capture"))?
            .snaplen(SNAPSHOT)
            .buffer_size(BUFFER)
            // A capture on all interfaces cannot be.
            .promisc(name != ANY)
            .timeout(GATHER_MILLIS);
        let mut capture = capture
            .open()
            .and_then(pcap::Capture::setnonblock)
            .map_err(failed("opening a capture"))?;
        if name == ANY {
            // Version 2 names the interface; libpcap puts no tag back into it.
            capture
                .set_datalink(Linktype::LINUX_SLL2)
                .map_err(failed("choosing the link type"))?;
        }
        let link = LinkType(u16::try_from(capture.get_datalink().0).unwrap_or(u16::MAX));
        let filter = filter(&options.ports, link);
        if matches!(link, LinkType::LINUX_SLL | LinkType::LINUX_SLL2) {
            // The header tells the direction, to libpcap, too.
            let set = capture.filter(&filter, true);
            set.map_err(failed("setting the filter"))?;
        } else {
            let compiled = capture.compile(&filter, true);
            let program = compiled.map_err(failed("compiling the filter"))?;
            let attached = sys::packet::attach_filter(&capture, &program);
            attached.map_err(|error| LiveError::Capture {
                step: "setting the filter",
                interface,
                why: error.to_string(),
            })?;
        }
        let index = match if_nametoindex(name.as_str()) {
            Ok(index) => Some(index),
            Err(_) if name == ANY => None,
            Err(_) => {
                return Err(LiveError::InterfaceGone {
                    interface,
                    why: "does not exist",
                });
            }
        };
        Ok(Self {
            interface,
            index,
            frames: capture,
            link,
            ports: options.ports.clone(),
            rule: super::super::part::rule(SOURCE, name.as_bytes()),
            answers: Answers::default(),
            names: Names::default(),
        })
    }

    /// What waits was let through by the filter before, and is looked at by the ports of now.
    pub(super) fn watch(&mut self, ports: &Ports) -> Result<(), LiveError> {
        let interface = self.interface;
        self.frames
            .filter(&filter(ports, self.link), true)
            .map_err(|error| classified("setting the filter", interface, &error))?;
        self.ports.clone_from(ports);
        Ok(())
    }

    pub(super) fn read(&mut self, now: Timestamp, batch: &mut Batch) -> Result<(), LiveError> {
        // libpcap takes the error from the socket, and tells of it some reads later or not at all.
        if self.has_failed() {
            self.check_interface()?;
        }
        let interface = self.interface;
        let failed = |error| classified("reading a capture", interface, &error);
        let mut left = usize::try_from(MAX_EVENTS).unwrap_or(usize::MAX);
        let mut has_read = false;
        while left > 0 {
            let mut taker = Taker {
                interface,
                index: self.index,
                link: self.link,
                ports: &self.ports,
                rule: self.rule,
                answers: &mut self.answers,
                names: &mut self.names,
                now,
                batch: &mut *batch,
            };
            let taken = self
                .frames
                .dispatch(Some(left), |frame| taker.take(frame.data))
                .map_err(failed)?;
            if taken == 0 {
                batch.is_drained = true;
                break;
            }
            has_read = true;
            left = left.saturating_sub(taken);
        }
        if has_read {
            let dropped = sys::packet::dropped_since(self).map_err(|error| LiveError::Capture {
                step: "asking for the drops of a capture",
                interface,
                why: error.to_string(),
            })?;
            batch.lose(LossKind::QueueFull, u64::from(dropped));
        }
        Ok(())
    }
}

impl Capture {
    /// Whether the socket has an error to tell: the interface went down, or away.
    fn has_failed(&self) -> bool {
        let mut waited = [PollFd::new(self.as_fd(), PollFlags::empty())];
        let found = poll(&mut waited, PollTimeout::ZERO);
        let events = waited[0].revents().unwrap_or(PollFlags::empty());
        found.is_ok() && events.contains(PollFlags::POLLERR)
    }

    /// Whether the interface is the one that was opened, and up. If so it was away for a moment, and
    /// the kernel goes on capturing.
    fn check_interface(&self) -> Result<(), LiveError> {
        let gone = |why| LiveError::InterfaceGone {
            interface: self.interface,
            why,
        };
        let Some(index) = self.index else {
            return Ok(());
        };
        let name = self.interface.name();
        if if_nametoindex(name.as_str()) != Ok(index) {
            return Err(gone("does not exist"));
        }
        let is_up = getifaddrs().is_ok_and(|mut all| {
            all.any(|one| one.interface_name == name && one.flags.contains(InterfaceFlags::IFF_UP))
        });
        if is_up { Ok(()) } else { Err(gone("is down")) }
    }
}

/// What takes frames.
struct Taker<'a> {
    interface: Interface,
    index: Option<u32>,
    link: LinkType,
    ports: &'a Ports,
    rule: RuleId,
    answers: &'a mut Answers,
    names: &'a mut Names,
    now: Timestamp,
    batch: &'a mut Batch,
}

impl Taker<'_> {
    fn take(&mut self, frame: &[u8]) {
        match packet::read(self.link, frame) {
            Ok(Content::Segment(segment))
                if segment.is_syn() && self.ports.contains(segment.tuple.destination_port) =>
            {
                self.syn(&segment, frame);
            }
            Ok(content) => {
                let response = self.answers.read(&content, self.ports, self.now);
                let response = response.map(Evidence::Response);
                self.batch.evidence.extend(response);
            }
            // Might have been a SYN; what else cannot be decoded is none.
            Err(Skip::Truncated | Skip::TooDeep | Skip::LinkType) => {
                self.batch.events += 1;
                self.batch.lose(LossKind::Undecoded, 1);
            }
            Err(_) => {}
        }
    }

    fn syn(&mut self, segment: &Segment, frame: &[u8]) {
        let interface = self.interface_of(frame);
        self.batch.events += 1;
        self.batch.evidence.push(Evidence::Syn(Observation {
            interface,
            ..segment.observation(self.now, self.rule)
        }));
    }

    fn interface_of(&mut self, frame: &[u8]) -> Interface {
        match (self.link, frame) {
            // Protocol, two octets that must be zero, the interface's index.
            (LinkType::LINUX_SLL2, &[_, _, _, _, a, b, c, d, ..]) => {
                self.names.name(u32::from_be_bytes([a, b, c, d]))
            }
            // By its index, for it may have got another name.
            _ => match (self.index, self.interface) {
                (Some(index), opened) => match self.names.name(index) {
                    // It is gone by now.
                    name if name == Interface::default() => opened,
                    name => name,
                },
                (None, opened) => opened,
            },
        }
    }
}

impl AsFd for Capture {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.frames.as_fd()
    }
}

/// The filter for attempts to `ports` and what became of them, in libpcap's language (pcap-filter(7)).
/// `tcp[...]` and `icmp[...]` mean IPv4 alone; of IPv6 the offsets are those of a packet without extension
/// headers, and those that have some are let through. Tags are only known on Ethernet: on what comes from
/// all interfaces the kernel has taken one off.
pub(super) fn filter(ports: &Ports, link: LinkType) -> String {
    let any = |what: &str| {
        let ports = ports.as_slice().iter();
        let each: Vec<String> = ports.map(|port| format!("{what} {port}")).collect();
        format!("({})", each.join(" or "))
    };
    // A SYN, or an acknowledgment as long as its headers.
    let asks_v4 = "(tcp[13] & 0x12 = 2 or (tcp[13] & 0x17 = 0x10 and \
                   ip[2:2] = ((ip[0] & 0xf) << 2) + ((tcp[12] & 0xf0) >> 2)))";
    let asks_v6 = "(ip6[53] & 0x12 = 2 or (ip6[53] & 0x17 = 0x10 and \
                   ip6[4:2] = ((ip6[52] & 0xf0) >> 2)))";
    // Hop-by-hop options, routing, fragment, authentication, destination options; no ICMPv6 (reports of
    // multicast listeners) or UDP behind the first.
    let extended = "(ip6[6] = 0 or ip6[6] = 43 or ip6[6] = 44 or ip6[6] = 51 or ip6[6] = 60) \
                    and ip6[40] != 58 and ip6[40] != 17";
    let coming = format!(
        "({} and {asks_v4}) or (ip6[6] = 6 and {} and {asks_v6}) or ({extended})",
        any("tcp dst port"),
        any("ip6[42:2] ="),
    );
    // A SYN with ACK, or a reset.
    let answers = format!(
        "({} and (tcp[13] & 0x12 = 0x12 or tcp[13] & 4 != 0)) or \
         (ip6[6] = 6 and {} and (ip6[53] & 0x12 = 0x12 or ip6[53] & 4 != 0))",
        any("tcp src port"),
        any("ip6[40:2] ="),
    );
    // Destination unreachable, time exceeded; the quoted packet begins at their ninth octet.
    let errors = format!(
        "((icmp[0] = 3 or icmp[0] = 11) and icmp[17] = 6 and {}) or \
         (ip6[6] = 58 and (ip6[40] = 1 or ip6[40] = 3) and ip6[54] = 6 and {})",
        any("icmp[10 + ((icmp[8] & 0xf) << 2) : 2] ="),
        any("ip6[90:2] ="),
    );
    let plain = format!("(inbound and ({coming})) or {answers} or {errors}");
    if link == LinkType::ETHERNET {
        format!("{plain} or (vlan and ({plain} or (vlan and ({plain}))))")
    } else {
        plain
    }
}

/// What libpcap's error means. Its words are all that it gives.
fn classified(step: &'static str, interface: Interface, error: &pcap::Error) -> LiveError {
    let why = match error {
        pcap::Error::PcapError(why) => why.clone(),
        other => other.to_string(),
    };
    let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
    if says(&["permission", "permitted"]) {
        LiveError::CaptureNotPermitted { interface }
    } else if says(&["No such device", "disappeared"]) {
        LiveError::InterfaceGone {
            interface,
            why: "does not exist",
        }
    } else if says(&["not up", "is down", "went down"]) {
        LiveError::InterfaceGone {
            interface,
            why: "is down",
        }
    } else {
        LiveError::Capture {
            step,
            interface,
            why,
        }
    }
}
