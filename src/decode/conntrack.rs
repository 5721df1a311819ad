//! What the kernel's connection tracking tells of a TCP connection (`nfnetlink_conntrack`,
//! `linux/netfilter/nfnetlink_conntrack.h`, `net/netfilter/nf_conntrack_netlink.c`): a netlink datagram
//! to its events, an event to what became of an attempt.
//!
//! What comes for an attempt, measured on Linux 6.18 with masquerade (also `fully-random`) and DNAT, over
//! IPv4 and IPv6; `R` is the status bit `SEEN_REPLY`, `A` is `ASSURED`, and "left" is what remains of the
//! entry's timeout:
//!
//! | attempt | events | told as |
//! |---|---|---|
//! | answered | NEW `SYN_SENT`; UPDATE `SYN_RECV` R; UPDATE `ESTABLISHED` R A | tracked, accepted, established |
//! | and ended | UPDATE `FIN_WAIT`, `LAST_ACK`, `TIME_WAIT` (reset: `CLOSE`); DESTROY of that state, R A | closed, with bytes |
//! | refused (RST to the SYN) | NEW `SYN_SENT`; at once DESTROY `CLOSE` without R, time left; no UPDATE | tracked, reset |
//! | unreachable (ICMP from a router or the responder's host) | NEW `SYN_SENT`; DESTROY `SYN_SENT` | tracked, timed out: ICMP changes no entry |
//! | unanswered | NEW `SYN_SENT`; DESTROY `SYN_SENT`, no time left | tracked, timed out |
//! | held by a rule of this machine (drop, reject) | none: entries that no packet confirmed tell nothing | |
//! | entry deleted (`conntrack -D`, `-F`) | DESTROY of the state it had, time left | closed |
//! | taken up in the middle (`nf_conntrack_tcp_loose`), also after a forged ACK | NEW `ESTABLISHED` without R; where the answer is a RST, DESTROY `CLOSE` without R | nothing; reset |
//!
//! Ends by timeout come late, at the next packet of the same connection or when the kernel's collector
//! finds the entry: on an idle machine up to a minute later. The reply tuple is the one after
//! translation in every one of these events, the first included. Counters come with DESTROY alone and
//! only where `net.netfilter.nf_conntrack_acct` was 1 when the connection began, times only with
//! `nf_conntrack_timestamp`. A SYN that comes after its entry's timeout makes another NEW.
//!
//! What is not done: zones are not read, nor expectations, marks and labels.

use std::net::IpAddr;

use super::netlink::{Attribute, Attributes, Message, messages};
use crate::model::{Response, ResponseKind, Timestamp, Tuple};

/// `IPCTNL_MSG_CT_NEW` and `IPCTNL_MSG_CT_DELETE` of the subsystem `NFNL_SUBSYS_CTNETLINK`.
const NEW: u16 = 1 << 8;
const DELETE: u16 = 1 << 8 | 2;
/// Types of netlink's own messages (`linux/netlink.h`).
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The flag that tells NEW from UPDATE, for both are `IPCTNL_MSG_CT_NEW`.
const NLM_F_CREATE: u16 = 0x400;

/// `enum ctattr_type`.
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_TIMEOUT: u16 = 7;
const CTA_COUNTERS_ORIG: u16 = 9;
const CTA_COUNTERS_REPLY: u16 = 10;
const CTA_ID: u16 = 12;
const CTA_TIMESTAMP: u16 = 20;
/// `enum ctattr_tuple`.
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
/// `enum ctattr_ip`.
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
/// `enum ctattr_l4proto`.
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// `enum ctattr_protoinfo`, `enum ctattr_protoinfo_tcp`.
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
/// `enum ctattr_counters`.
const CTA_COUNTERS_PACKETS: u16 = 1;
const CTA_COUNTERS_BYTES: u16 = 2;
/// `enum ctattr_tstamp`.
const CTA_TIMESTAMP_START: u16 = 1;
const CTA_TIMESTAMP_STOP: u16 = 2;

const IPPROTO_TCP: u8 = 6;

/// What a datagram holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// An event of a TCP connection.
    Event(Event),
    /// An event of another protocol's, or none of connection tracking.
    Other,
    /// The kernel's answer to a request: why it was refused (errno(3)), or 0.
    Answer(i32),
    /// A message that is cut, or an event that does not say whose; in the former case the datagram ends
    /// with it.
    Broken,
}

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was made.
    New,
    /// It changed.
    Update,
    /// It is gone.
    Destroy,
}

/// The state of a TCP connection as connection tracking sees it (`enum tcp_conntrack`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpState {
    /// None yet.
    None,
    /// The originator's SYN was seen.
    SynSent,
    /// The responder's SYN/ACK was seen.
    SynReceived,
    /// The originator's ACK was seen.
    Established,
    /// One of the later states, up to the end: `FIN_WAIT`, `CLOSE_WAIT`, `LAST_ACK`, `TIME_WAIT`.
    Closing,
    /// A RST was seen.
    Closed,
    /// Both sides sent a SYN.
    SynSentByBoth,
    /// One that is not known here.
    Other(u8),
}

impl TcpState {
    /// The state with the number that the kernel gives it.
    pub fn of(number: u8) -> Self {
        match number {
            0 => Self::None,
            1 => Self::SynSent,
            2 => Self::SynReceived,
            3 => Self::Established,
            4..=7 => Self::Closing,
            8 => Self::Closed,
            9 => Self::SynSentByBoth,
            other => Self::Other(other),
        }
    }
}

/// Status bits of an entry (`enum ip_conntrack_status`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// `IPS_SEEN_REPLY`: packets went both ways. A RST in answer to a SYN does not count.
    pub fn has_seen_reply(self) -> bool {
        self.0 & 1 << 1 != 0
    }

    /// `IPS_ASSURED`: of TCP, the handshake was completed.
    pub fn is_assured(self) -> bool {
        self.0 & 1 << 2 != 0
    }

    /// `IPS_SRC_NAT` or `IPS_DST_NAT`: one of its ends is translated.
    pub fn is_translated(self) -> bool {
        self.0 & (1 << 4 | 1 << 5) != 0
    }

    /// `IPS_DYING`: it is taken out of the table.
    pub fn is_dying(self) -> bool {
        self.0 & 1 << 9 != 0
    }
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes, IP headers included.
    pub bytes: u64,
}

/// An event of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub change: Change,
    /// Originator and responder as the originator means them, before any translation.
    pub original: Tuple,
    /// What an answer bears on the other side of the translation, where it comes from the responder.
    pub reply: Tuple,
    /// The state; none where the message does not tell.
    pub state: Option<TcpState>,
    /// Status bits.
    pub status: Status,
    /// The entry's number: unique among those that exist.
    pub id: Option<u32>,
    /// Seconds that the entry had left; none, and 0, where its time is over.
    pub timeout: Option<u32>,
    /// What the originator sent and what the responder did, where it is counted.
    pub counters: Option<(Counter, Counter)>,
    /// When the entry was made, by the wall clock, where times are kept.
    pub started: Option<Timestamp>,
    /// When it was over, however late that is told.
    pub stopped: Option<Timestamp>,
}

impl Event {
    /// The connection as it is seen outside: what the originator's packets bear behind the translation.
    pub fn outside(&self) -> Tuple {
        Tuple {
            source: self.reply.destination,
            destination: self.reply.source,
            source_port: self.reply.destination_port,
            destination_port: self.reply.source_port,
        }
    }

    /// Whether it tells of a SYN that nothing was known of before, which an entry that is taken up in
    /// the middle of a connection does not.
    pub fn opens(&self) -> bool {
        self.change == Change::New && self.state == Some(TcpState::SynSent)
    }

    /// What it tells of the attempt, as of `time`; none where it tells nothing new.
    pub fn response(&self, time: Timestamp) -> Option<Response> {
        Some(Response {
            time,
            tuple: self.original,
            isn: None,
            kind: self.kind()?,
            outside: Some(self.outside()),
            bytes: match self.change {
                Change::Destroy => self.counters.map(|(sent, got)| (sent.bytes, got.bytes)),
                Change::New | Change::Update => None,
            },
        })
    }

    fn kind(&self) -> Option<ResponseKind> {
        match self.change {
            Change::New => self.opens().then_some(ResponseKind::Tracked),
            Change::Update => match self.state? {
                TcpState::SynReceived if self.status.has_seen_reply() => {
                    Some(ResponseKind::Accepted)
                }
                // An ACK alone makes an entry of this state, too, and anybody can forge one.
                TcpState::Established if self.status.is_assured() => {
                    Some(ResponseKind::Established)
                }
                _ => None,
            },
            Change::Destroy => Some(self.end()),
        }
    }

    fn end(&self) -> ResponseKind {
        let is_over = self.timeout.unwrap_or(0) == 0;
        let was_answered = self.counters.is_some_and(|(_, got)| got.packets > 0);
        match self.state {
            _ if self.status.has_seen_reply() => ResponseKind::Closed,
            Some(TcpState::Closed) => ResponseKind::Reset,
            Some(TcpState::SynSent) if is_over => ResponseKind::TimedOut,
            // Before Linux 5.8 the end of an entry tells neither state nor timeout.
            None if was_answered => ResponseKind::Reset,
            None if self.counters.is_some() => ResponseKind::TimedOut,
            _ => ResponseKind::Closed,
        }
    }
}

/// The messages of `datagram`, as one receives it from a netlink socket.
pub fn items(datagram: &[u8]) -> impl Iterator<Item = Item> {
    messages(datagram).filter_map(|message| {
        let Ok(message) = message else {
            return Some(Item::Broken);
        };
        let change = match message.kind {
            NLMSG_NOOP | NLMSG_DONE => return None,
            NLMSG_ERROR => return Some(answer(&message)),
            NEW if message.flags & NLM_F_CREATE != 0 => Change::New,
            NEW => Change::Update,
            DELETE => Change::Destroy,
            _ => return Some(Item::Other),
        };
        Some(event(change, &message.attributes()))
    })
}

/// `struct nlmsgerr`: the negative errno, then the header of the request.
fn answer(message: &Message<'_>) -> Item {
    match message.payload().first_chunk() {
        Some(&errno) => Item::Answer(i32::from_ne_bytes(errno).saturating_neg()),
        None => Item::Broken,
    }
}

/// Reads what is known of an entry, in whatever order it comes; of what comes twice the first counts.
fn event(change: Change, attributes: &Attributes<'_>) -> Item {
    let ends = |kind| attributes.get(kind).map(|tuple| ends(&tuple));
    let (original, reply) = match (ends(CTA_TUPLE_ORIG), ends(CTA_TUPLE_REPLY)) {
        (Some(Ends::Tcp(original)), Some(Ends::Tcp(reply))) => (original, reply),
        (Some(Ends::OtherProtocol), _) => return Item::Other,
        _ => return Item::Broken,
    };
    let number = |kind| attributes.get(kind).and_then(|it| it.be32());
    let counter = |kind| attributes.get(kind).map(|it| counter(&it));
    let times = attributes.get(CTA_TIMESTAMP);
    let time = |kind| times.and_then(|times| time(&times.nested().get(kind)?));
    Item::Event(Event {
        change,
        original,
        reply,
        state: attributes.get(CTA_PROTOINFO).and_then(|it| state(&it)),
        status: Status(number(CTA_STATUS).unwrap_or(0)),
        id: number(CTA_ID),
        timeout: number(CTA_TIMEOUT),
        counters: counter(CTA_COUNTERS_ORIG).zip(counter(CTA_COUNTERS_REPLY)),
        started: time(CTA_TIMESTAMP_START),
        stopped: time(CTA_TIMESTAMP_STOP),
    })
}

/// The ends of a connection, as a tuple's attribute has them.
enum Ends {
    Tcp(Tuple),
    OtherProtocol,
    Broken,
}

fn ends(tuple: &Attribute<'_>) -> Ends {
    let nested = tuple.nested();
    let Some(protocol) = nested.get(CTA_TUPLE_PROTO).map(|it| it.nested()) else {
        return Ends::Broken;
    };
    match protocol.get(CTA_PROTO_NUM).map(|it| it.value) {
        Some(&[IPPROTO_TCP]) => {}
        Some(&[_]) => return Ends::OtherProtocol,
        _ => return Ends::Broken,
    }
    let tuple = || {
        let addresses = nested.get(CTA_TUPLE_IP)?.nested();
        let (source, destination) = match addresses.get(CTA_IP_V4_SRC) {
            Some(source) => (v4(&source)?, v4(&addresses.get(CTA_IP_V4_DST)?)?),
            None => (
                v6(&addresses.get(CTA_IP_V6_SRC)?)?,
                v6(&addresses.get(CTA_IP_V6_DST)?)?,
            ),
        };
        Some(Tuple {
            source,
            destination,
            source_port: port(&protocol.get(CTA_PROTO_SRC_PORT)?)?,
            destination_port: port(&protocol.get(CTA_PROTO_DST_PORT)?)?,
        })
    };
    tuple().map_or(Ends::Broken, Ends::Tcp)
}

fn v4(attribute: &Attribute<'_>) -> Option<IpAddr> {
    let octets: [u8; 4] = attribute.value.try_into().ok()?;
    Some(octets.into())
}

fn v6(attribute: &Attribute<'_>) -> Option<IpAddr> {
    let octets: [u8; 16] = attribute.value.try_into().ok()?;
    Some(octets.into())
}

fn port(attribute: &Attribute<'_>) -> Option<u16> {
    attribute.value.try_into().ok().map(u16::from_be_bytes)
}

fn state(protocol: &Attribute<'_>) -> Option<TcpState> {
    let tcp = protocol.nested().get(CTA_PROTOINFO_TCP)?;
    let state = tcp.nested().get(CTA_PROTOINFO_TCP_STATE)?;
    state.value.first().map(|&number| TcpState::of(number))
}

fn counter(attribute: &Attribute<'_>) -> Counter {
    let of = |kind| attribute.nested().get(kind).and_then(|it| it.be64());
    Counter {
        packets: of(CTA_COUNTERS_PACKETS).unwrap_or(0),
        bytes: of(CTA_COUNTERS_BYTES).unwrap_or(0),
    }
}

/// Nanoseconds since the epoch.
fn time(attribute: &Attribute<'_>) -> Option<Timestamp> {
    let micros = i64::try_from(attribute.be64()? / 1000).ok()?;
    Some(Timestamp::from_micros(micros))
}

#[cfg(test)]
mod tests;
