//! Answers of the DNS that rules hand to user space, by a group of their own.
//!
//! They wait in the socket until somebody reads them, once a second where any come, so that nobody is woken for
//! what everybody here looks up. What they say is not evidence: it is never an observation, and is handed on to be forgotten.

use std::net::IpAddr;

use super::LiveError;
use crate::decode::dns::{self, Answer, Unread};
use crate::decode::nflog::{Item, Message, items};
use crate::model::{MICROS_PER_SECOND, Timestamp};
use crate::sys::nflog::{LogSocket, MAX_DATAGRAM, Received};

/// Bytes of a packet: the headers, and what most answers take.
const SNAPSHOT: u32 = 640;
/// Datagrams that one read takes at the most: more than are looked into in a second, so that none wait for ever.
const MAX_DATAGRAMS: usize = 8_192;
/// Answers that are looked into in a second: to read 5,000 takes about 1.2 % of a core (`scripts/bench answers`). More
/// come in a flood, and what they could tell only ever makes fewer alarms.
const MAX_PER_SECOND: u64 = 5_000;
/// `NF_INET_PRE_ROUTING`.
const PREROUTING: u8 = 0;

/// Who was told what.
#[derive(Debug)]
pub(crate) struct Heard {
    /// Who asked.
    pub(crate) client: IpAddr,
    /// What it was told.
    pub(crate) answer: Answer,
}

/// What came, and what of it was not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnswerCount {
    /// Answers that say something.
    pub(crate) heard: u64,
    /// Packets that say nothing here.
    pub(crate) other: u64,
    /// Those that cannot be read.
    pub(crate) broken: u64,
    /// Those beyond what is looked into in a second.
    pub(crate) left_out: u64,
    /// Those that the kernel could not hand over.
    pub(crate) lost: u64,
}

/// The group that answers come by.
#[derive(Debug)]
pub(crate) struct Answers {
    socket: LogSocket,
    buffer: Vec<u8>,
    /// The number that the next message bears if nothing is lost.
    expected: u32,
    /// The second of the last answer, and answers that were looked into in it.
    second: (i64, u64),
    count: AnswerCount,
}

impl Answers {
    /// Binds `group`, in the network namespace of this thread.
    pub(crate) fn open(group: u16) -> Result<Self, LiveError> {
        Ok(Self {
            socket: LogSocket::open_for(group, SNAPSHOT)?,
            buffer: vec![0; MAX_DATAGRAM],
            expected: 0,
            second: (i64::MIN, 0),
            count: AnswerCount::default(),
        })
    }

    /// Adds what has come by `now` to `heard`. Never waits, and always ends.
    pub(crate) fn read(&mut self, now: Timestamp, heard: &mut Vec<Heard>) -> Result<(), LiveError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut result = Ok(());
        for _ in 0..MAX_DATAGRAMS {
            match self.socket.receive(&mut buffer) {
                Ok(Received::Datagram(datagram)) => self.take(datagram, now, heard),
                // The numbers tell how many.
                Ok(Received::Overrun) => {}
                Ok(Received::Nothing) => break,
                Err(error) => {
                    result = Err(error.into());
                    break;
                }
            }
        }
        self.buffer = buffer;
        result
    }

    /// What came so far.
    pub(crate) fn count(&self) -> AnswerCount {
        self.count
    }

    fn take(&mut self, datagram: &[u8], now: Timestamp, heard: &mut Vec<Heard>) {
        for item in items(datagram) {
            match item {
                Item::Packet(message) => self.message(&message, now, heard),
                Item::Answer { .. } => {}
                Item::Broken => self.count.broken += 1,
            }
        }
    }

    fn message(&mut self, message: &Message<'_>, now: Timestamp, heard: &mut Vec<Heard>) {
        if let Some(sequence) = message.sequence {
            let gap = sequence.wrapping_sub(self.expected);
            // Half the numbers ahead would be a group that began anew.
            if gap < 1 << 31 {
                self.count.lost += u64::from(gap);
            }
            self.expected = sequence.wrapping_add(1);
        }
        // There NAT has not given it back the client's address; it comes again further on.
        if message.hook == Some(PREROUTING) {
            return;
        }
        if !self.may_look(now) {
            self.count.left_out += 1;
            return;
        }
        let Some(carried) = message.packet().and_then(dns::carried) else {
            self.count.other += 1;
            return;
        };
        match dns::read(carried.message) {
            Ok(answer) => {
                self.count.heard += 1;
                heard.push(Heard {
                    client: carried.client,
                    answer,
                });
            }
            Err(Unread::Other | Unread::Shortened) => self.count.other += 1,
            Err(Unread::Broken) => self.count.broken += 1,
        }
    }

    fn may_look(&mut self, now: Timestamp) -> bool {
        let second = now.as_micros().div_euclid(MICROS_PER_SECOND);
        if self.second.0 != second {
            self.second = (second, 0);
        }
        self.second.1 += 1;
        self.second.1 <= MAX_PER_SECOND
    }
}
