//! The kernel's ring buffer, where a rule logs packets as text.
//!
//! A read of /dev/kmsg gives one record. Only what the kernel itself wrote counts: whoever may write to
//! /dev/kmsg could else accuse anybody. The ring is small (some 600 packets at Debian's 128 KiB), and
//! what it overwrites may be any of the kernel's messages: losses are counted from the records' numbers
//! and are the most that can have been lost.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::{Batch, LiveError, MAX_EVENTS, Options, Rules};
use crate::decode::journal::Entry;
use crate::decode::kernel_log::{Content, Decoder, Packet, Skip};
use crate::decode::kmsg::{self, Record};
use crate::model::{Clock, Evidence, LossKind, Observation, Timestamp, Tuple};
use crate::settings::Ports;

/// Tells its rules' ids from other sources'.
const SOURCE: u32 = 0x6b6d_7367;

const PATH: &str = "/dev/kmsg";

/// The kernel's own bound for a record as it is read (`PRINTK_MESSAGE_MAX`, before 6.4
/// `CONSOLE_EXT_LOG_MAX`: 8192).
const MAX_RECORD: usize = 16 * 1024;

/// More records than a ring holds that anybody sets up (`log_buf_len=`): some 100 million bytes.
const MAX_RING: u32 = 1 << 20;

/// The ring buffer, from its end on.
#[derive(Debug)]
pub(crate) struct Kmsg {
    file: File,
    buffer: Vec<u8>,
    decoder: Decoder,
    ports: Ports,
    rules: Rules,
    /// The number that the next record bears if nothing is lost; unknown before the first there is.
    expected: Option<u64>,
}

impl Kmsg {
    pub(super) fn open(options: &Options) -> Result<Self, LiveError> {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(PATH);
        let file = opened.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => LiveError::KmsgNotPermitted,
            _ => failed("opening", source),
        })?;
        let mut kmsg = Self {
            file,
            buffer: vec![0; MAX_RECORD],
            decoder: decoder(&options.ports),
            ports: options.ports.clone(),
            rules: Rules::new(SOURCE, &options.prefixes),
            expected: None,
        };
        kmsg.skip_to_end()?;
        Ok(kmsg)
    }

    pub(super) fn watch(&mut self, ports: &Ports) {
        self.ports.clone_from(ports);
        self.decoder = decoder(ports);
    }

    /// Passes over what is there already. It is read, and not jumped over, for the last record's number:
    /// without it what is overwritten before the first read could not be counted.
    fn skip_to_end(&mut self) -> Result<(), LiveError> {
        for _ in 0..MAX_RING {
            match self.file.read(&mut self.buffer) {
                Ok(length) => {
                    let record = kmsg::record(&self.buffer[..length]);
                    self.expected = record.map(|record| record.sequence.saturating_add(1));
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => break,
                    Some(libc::EPIPE | libc::EINTR) => {}
                    _ => return Err(failed("reading", error)),
                },
            }
        }
        Ok(())
    }

    pub(super) fn read(&mut self, now: Timestamp, batch: &mut Batch) -> Result<(), LiveError> {
        for _ in 0..MAX_EVENTS {
            let length = match self.file.read(&mut self.buffer) {
                Ok(length) => length,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => {
                        batch.is_drained = true;
                        break;
                    }
                    Some(libc::EPIPE) => {
                        self.overrun(batch);
                        continue;
                    }
                    Some(libc::EINTR) => continue,
                    _ => return Err(failed("reading", error)),
                },
            };
            let buffer = std::mem::take(&mut self.buffer);
            match kmsg::record(&buffer[..length]) {
                Some(record) => self.record(&record, now, batch),
                None => batch.lose(LossKind::Undecoded, 1),
            }
            self.buffer = buffer;
        }
        Ok(())
    }

    /// The record to be read was overwritten. How many were, the next one's number tells, unless the
    /// ring was empty before: then it was one at least.
    fn overrun(&mut self, batch: &mut Batch) {
        batch.overruns += 1;
        if self.expected.is_none() {
            batch.lose(LossKind::Overwritten, 1);
        }
    }

    fn record(&mut self, record: &Record<'_>, now: Timestamp, batch: &mut Batch) {
        if let Some(expected) = self.expected {
            batch.lose(
                LossKind::Overwritten,
                record.sequence.saturating_sub(expected),
            );
        }
        self.expected = Some(record.sequence.saturating_add(1));
        if !record.is_kernel {
            return;
        }
        let entry = Entry {
            is_kernel: true,
            message: Cow::Borrowed(record.message),
            ..Entry::default()
        };
        match self.decoder.decode_entry(&entry).content {
            Content::Packet(packet, repeats) if self.rules.want(packet.prefix) => {
                batch.events += 1;
                if let Some(tuple) = syn(&packet, &self.ports) {
                    batch.evidence.push(Evidence::Syn(Observation {
                        time: now,
                        clock: Clock::Exact,
                        rule: self.rules.id(packet.prefix),
                        tuple,
                        isn: packet.isn(),
                        ip_id: packet.ip_id(),
                        mac: packet.mac(),
                        interface: packet.interface(),
                        ttl: packet.ttl(),
                        vlan: None,
                        repeats,
                    }));
                }
            }
            Content::Skipped(Skip::CutOff | Skip::BadAddress)
                if self.rules.may_begin(record.message) =>
            {
                batch.events += 1;
                batch.lose(LossKind::Undecoded, 1);
            }
            _ => {}
        }
    }
}

/// Between whom, where `packet` is a SYN to a watched port.
fn decoder(ports: &Ports) -> Decoder {
    Decoder::new([]).watching(ports.as_slice())
}

fn syn(packet: &Packet<'_>, ports: &Ports) -> Option<Tuple> {
    let destination_port = packet.destination_port()?;
    if !packet.is_syn() || !ports.contains(destination_port) {
        return None;
    }
    let (source, destination) = packet.addresses()?;
    Some(Tuple {
        source,
        destination,
        source_port: packet.source_port().unwrap_or(0),
        destination_port,
    })
}

fn failed(step: &'static str, source: io::Error) -> LiveError {
    LiveError::Kmsg { step, source }
}

impl AsFd for Kmsg {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
