//! Packets that a rule hands to user space.
//!
//! The kernel numbers what it hands over, so that a gap is a loss to the last packet. While it is quiet
//! each packet comes at once; under load they come 64 to a datagram, which costs a tenth.

use std::os::fd::{AsFd, BorrowedFd};

use super::{Batch, LiveError, MAX_EVENTS, Names, Options, Rules};
use crate::decode::nflog::{Item, Message, items};
use crate::decode::packet::{Content, Segment, Skip};
use crate::model::{Evidence, LossKind, Observation, Timestamp};
use crate::settings::Ports;
use crate::source::answers::Answers;
use crate::sys::nflog::{LogSocket, MAX_DATAGRAM, Received};

/// Tells its rules' ids from other sources'.
const SOURCE: u32 = 0x4e46_4c47;

/// What one read takes at the most, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// NFLOG, bound to a group.
#[derive(Debug)]
pub(crate) struct Nflog {
    socket: LogSocket,
    buffer: Vec<u8>,
    ports: Ports,
    rules: Rules,
    pub(super) names: Names,
    /// The number that the next message bears if nothing is lost.
    expected: u32,
    pace: Pace,
}

impl Nflog {
    pub(super) fn open(options: &Options) -> Result<Self, LiveError> {
        Ok(Self {
            socket: LogSocket::open(options.group)?,
            buffer: vec![0; MAX_DATAGRAM],
            ports: options.ports.clone(),
            rules: Rules::new(SOURCE, &options.prefixes),
            names: Names::default(),
            expected: 0,
            pace: Pace::default(),
        })
    }

    pub(super) fn watch(&mut self, ports: &Ports) {
        self.ports.clone_from(ports);
    }

    pub(super) fn read(&mut self, now: Timestamp, batch: &mut Batch) -> Result<(), LiveError> {
        let (mut messages, mut datagrams, mut bytes) = (0, 0, 0);
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = loop {
            if messages >= MAX_EVENTS || bytes >= MAX_BYTES {
                break Ok(());
            }
            match self.socket.receive(&mut buffer) {
                Ok(Received::Datagram(datagram)) => {
                    datagrams += 1;
                    bytes += datagram.len();
                    messages += self.take(datagram, now, batch);
                }
                Ok(Received::Overrun) => batch.overruns += 1,
                Ok(Received::Nothing) => {
                    batch.is_drained = true;
                    break Ok(());
                }
                Err(error) => break Err(error),
            }
        };
        self.buffer = buffer;
        result?;
        if let Some(threshold) = self.pace.note(messages, datagrams, now) {
            self.socket.gather(threshold)?;
        }
        Ok(())
    }

    /// Takes the messages of `datagram`; answers how many there were.
    fn take(&mut self, datagram: &[u8], now: Timestamp, batch: &mut Batch) -> u64 {
        let mut messages = 0;
        for item in items(datagram) {
            match item {
                Item::Packet(message) => {
                    messages += 1;
                    self.message(&message, now, batch);
                }
                // Requests that could be refused are answered while the source opens.
                Item::Answer { .. } => {}
                Item::Broken => {
                    messages += 1;
                    batch.events += 1;
                    batch.lose(LossKind::Undecoded, 1);
                }
            }
        }
        messages
    }

    fn message(&mut self, message: &Message<'_>, now: Timestamp, batch: &mut Batch) {
        if let Some(sequence) = message.sequence {
            let gap = sequence.wrapping_sub(self.expected);
            // Half the numbers ahead would be a group that began anew.
            if gap < 1 << 31 {
                batch.lose(LossKind::QueueFull, u64::from(gap));
            }
            self.expected = sequence.wrapping_add(1);
        }
        if !self.rules.want(message.prefix) {
            return;
        }
        let content = message.content();
        if let Ok(content @ Content::Quote(_)) = &content {
            // The rule's counter counts SYNs alone.
            let response = Answers::default().read(content, &self.ports, now);
            batch.evidence.extend(response.map(Evidence::Response));
            return;
        }
        batch.events += 1;
        match content.and_then(Content::segment) {
            Ok(segment) => {
                if segment.is_syn() && self.ports.contains(segment.tuple.destination_port) {
                    let observation = self.observation(message, &segment, now);
                    batch.evidence.push(Evidence::Syn(observation));
                }
            }
            Err(Skip::Truncated | Skip::BadHeader | Skip::TooDeep) => {
                batch.lose(LossKind::Undecoded, 1);
            }
            // Another rule's, about something else.
            Err(_) => {}
        }
    }

    fn observation(
        &mut self,
        message: &Message<'_>,
        segment: &Segment,
        now: Timestamp,
    ) -> Observation {
        Observation {
            interface: self.names.name(message.input),
            ..segment.observation(now, self.rules.id(message.prefix))
        }
    }
}

impl AsFd for Nflog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Decides how many messages the kernel gathers to a datagram.
#[derive(Debug, Default)]
struct Pace {
    is_gathering: bool,
    since: Timestamp,
    messages: u64,
}

impl Pace {
    /// Messages to a datagram while it is quiet, and under load.
    const ALONE: u32 = 1;
    const GATHERED: u32 = 64;
    /// The time over which the load is taken, in microseconds.
    const WINDOW: i64 = 100_000;
    /// Messages within it that are load, and those that no longer are: 2000 and 500 a second.
    const LOAD: i64 = 200;
    const QUIET: i64 = 50;
    /// Datagrams in one read that are load, however short the time.
    const BACKLOG: u64 = 64;

    /// Notes a read at `now`; answers the new threshold where it changes.
    fn note(&mut self, messages: u64, datagrams: u64, now: Timestamp) -> Option<u32> {
        self.messages += messages;
        if !self.is_gathering && datagrams >= Self::BACKLOG {
            return Some(self.change(now));
        }
        let elapsed = now.micros_since(self.since);
        if (0..Self::WINDOW).contains(&elapsed) {
            return None;
        }
        let messages = i64::try_from(self.messages).unwrap_or(i64::MAX);
        let in_window = messages.saturating_mul(Self::WINDOW) / elapsed.max(Self::WINDOW);
        self.since = now;
        self.messages = 0;
        let is_load = if self.is_gathering {
            in_window > Self::QUIET
        } else {
            in_window >= Self::LOAD
        };
        (is_load != self.is_gathering).then(|| self.change(now))
    }

    fn change(&mut self, now: Timestamp) -> u32 {
        self.is_gathering = !self.is_gathering;
        self.since = now;
        self.messages = 0;
        if self.is_gathering {
            Self::GATHERED
        } else {
            Self::ALONE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a pace with `rate` messages a second for `millis`, a read each millisecond.
    fn feed(pace: &mut Pace, now: &mut Timestamp, rate: u64, millis: u64) -> Vec<u32> {
        let reads = (0..millis).filter_map(|_| {
            *now = now.plus_micros(1000);
            pace.note(rate / 1000, rate / 1000, *now)
        });
        reads.collect()
    }

    #[test]
    fn messages_are_gathered_under_load_and_come_alone_when_it_is_quiet_again() {
        let (mut pace, mut now) = (Pace::default(), Timestamp::from_seconds(1_700_000_000));
        assert!(feed(&mut pace, &mut now, 0, 10).is_empty());
        assert!(feed(&mut pace, &mut now, 1000, 1000).is_empty());
        assert_eq!(feed(&mut pace, &mut now, 5000, 300), [64]);
        assert!(feed(&mut pace, &mut now, 1000, 1000).is_empty());
        assert_eq!(feed(&mut pace, &mut now, 0, 300), [1]);
        assert_eq!(feed(&mut pace, &mut now, 100_000, 1), [64]);
    }

    #[test]
    fn a_lone_message_after_a_flood_and_a_clock_put_back() {
        let (mut pace, mut now) = (Pace::default(), Timestamp::from_seconds(1_700_000_000));
        feed(&mut pace, &mut now, 100_000, 200);
        assert!(pace.is_gathering);
        now = now.plus_micros(3_600_000_000);
        assert_eq!(pace.note(1, 1, now), Some(1));
        now = Timestamp::from_seconds(0);
        assert_eq!(pace.note(1, 1, now), None);
        assert_eq!(pace.note(64, 64, now), Some(64));
    }
}
