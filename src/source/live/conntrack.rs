//! What became of connections, as the kernel's connection tracking follows them: with bytes, and as they
//! are seen outside.
//!
//! It knows no frame: no MAC, no interface, no sequence number, and a forged source as little as a
//! repeated SYN. Beside another source it only answers what that one saw. What a rule of this machine
//! holds back it never sees.

use std::os::fd::{AsFd, BorrowedFd};

use super::{Batch, LiveError, MAX_EVENTS, Options};
use crate::decode::conntrack::{Event, Item, items};
use crate::model::{Evidence, LossKind, Observation, RuleId, Timestamp};
use crate::settings::Ports;
use crate::sys::conntrack::{ConntrackSocket, MAX_DATAGRAM, Received};

/// Tells its id from other sources' rules.
const SOURCE: u32 = 0x6374_6e6c;

/// Connection tracking, of connections to the watched ports.
#[derive(Debug)]
pub(crate) struct Conntrack {
    socket: ConntrackSocket,
    buffer: Vec<u8>,
    ports: Ports,
    opens_attempts: bool,
    rule: RuleId,
}

impl Conntrack {
    pub(super) fn open(options: &Options) -> Result<Self, LiveError> {
        Ok(Self {
            socket: ConntrackSocket::open(options.ports.as_slice())?,
            buffer: vec![0; MAX_DATAGRAM],
            ports: options.ports.clone(),
            opens_attempts: options.opens_attempts,
            rule: super::super::part::rule(SOURCE, b""),
        })
    }

    /// Watches `ports` from now on.
    pub(super) fn watch(&mut self, ports: &Ports) {
        self.socket.watch(ports.as_slice());
        self.ports.clone_from(ports);
    }

    pub(super) fn read(&mut self, now: Timestamp, batch: &mut Batch) -> Result<(), LiveError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.read_into(&mut buffer, now, batch);
        self.buffer = buffer;
        result
    }

    fn read_into(
        &mut self,
        buffer: &mut [u8],
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<(), LiveError> {
        // The kernel puts one event into a datagram.
        for _ in 0..MAX_EVENTS {
            match self.socket.receive(buffer)? {
                Received::Datagram(datagram) => self.take(datagram, now, batch),
                Received::Overrun(events) => {
                    batch.overruns += 1;
                    batch.lose(LossKind::QueueFull, events);
                }
                Received::Nothing => {
                    batch.is_drained = true;
                    break;
                }
            }
        }
        Ok(())
    }

    fn take(&self, datagram: &[u8], now: Timestamp, batch: &mut Batch) {
        for item in items(datagram) {
            match item {
                // Others come where the kernel would not pick.
                Item::Event(event) if self.ports.contains(event.original.destination_port) => {
                    batch.events += 1;
                    self.event(&event, now, batch);
                }
                Item::Event(_) | Item::Other | Item::Answer(_) => {}
                Item::Broken => {
                    batch.events += 1;
                    batch.lose(LossKind::Undecoded, 1);
                }
            }
        }
    }

    fn event(&self, event: &Event, now: Timestamp, batch: &mut Batch) {
        if self.opens_attempts && event.opens() {
            let observation = self.observation(event, now);
            batch.evidence.push(Evidence::Syn(observation));
        }
        let response = event.response(now).map(Evidence::Response);
        batch.evidence.extend(response);
    }

    fn observation(&self, event: &Event, now: Timestamp) -> Observation {
        Observation::new(now, self.rule, event.original)
    }
}

impl AsFd for Conntrack {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
