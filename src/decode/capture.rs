//! Capture files: pcap and pcapng, as a stream of frames in their records.
//!
//! The reader owns no file and no buffer: it is fed bytes, answers with frames that are parts of
//! them, and says how many it needs. So a file, a pipe and a decompressor are read alike, nothing
//! is copied, and memory stays within a bound that no length in the file can move.
//!
//! pcap: <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-05.html>, with microseconds or
//! nanoseconds, and Kuznetzov's variant with its longer record headers. pcapng:
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html>, with its sections,
//! interfaces, and all three packet blocks. Both in either byte order.
//!
//! Written by hand rather than with `pcap-parser` 0.17, which reads no timestamp resolutions in
//! powers of two, no big-endian time offset and no big-endian Kuznetzov file, keeps seconds in 32
//! bits, allocates for each packet that has options, wants whole blocks in its buffer, and ends
//! the file at a malformed block that carries no packet at all.
//!
//! What is not done on purpose: options other than an interface's name and clock are not read, nor
//! is pcap's time zone (nobody writes it, libpcap does not add it); the length that pcapng repeats
//! behind a block is not compared; pcap variants that bear the common magic number but other
//! record headers (old Red Hat, `SuSE`, Nokia) are not guessed at; and after a length that cannot be
//! right no further record is guessed at either, for a file that lies could make one up.

use super::packet::LinkType;
use crate::model::{Interface, MICROS_PER_SECOND, Timestamp};

/// The longest frame taken, in octets: libpcap's and Wireshark's own limit for all link types that
/// are read here.
pub const MAX_FRAME: usize = 256 * 1024;

/// The most that [`Step::NeedMore`] asks for, in octets.
pub const MAX_WANTED: usize = MAX_FRAME + PACKET_HEADER;

/// Interfaces that one section can describe; packets of further ones are of an unknown interface.
const MAX_INTERFACES: usize = 1 << 16;

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
const KUZNETZOV: u32 = 0xa1b2_cd34;

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
/// With the interface's index, the protocol and the packet type.
const KUZNETZOV_RECORD_HEADER: usize = 24;

const BYTE_ORDER: u32 = 0x1a2b_3c4d;

/// Type and length before a block's body, the length again behind it.
const BLOCK_FRAME: u64 = 12;
/// Both packet blocks with a timestamp, up to their frame.
const PACKET_HEADER: usize = 28;
/// A simple packet block up to its frame.
const SIMPLE_PACKET_HEADER: usize = 12;
/// A section header up to its version, and the shortest that one can be.
const SECTION_HEADER: usize = 16;
const SECTION_BLOCK_MINIMUM: u32 = 28;
/// An interface description up to its options.
const INTERFACE_HEADER: usize = 16;

const SECTION_BLOCK: u32 = 0x0a0d_0d0a;
const INTERFACE_BLOCK: u32 = 1;
const OBSOLETE_PACKET_BLOCK: u32 = 2;
const SIMPLE_PACKET_BLOCK: u32 = 3;
const ENHANCED_PACKET_BLOCK: u32 = 6;

/// What is in a capture and is no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Skip {
    /// The file ends in the middle of a record.
    CutOff,
    /// A length that cannot be right: longer than [`MAX_FRAME`] or than the block it is in, or
    /// shorter than the headers.
    BadLength,
    /// A packet of an interface that the section does not describe.
    UnknownInterface,
    /// Not the header of a capture file, or of a version that is not read.
    BadHeader,
}

impl Skip {
    /// All reasons, in the order they are shown.
    pub const ALL: [Self; 4] = [
        Self::CutOff,
        Self::BadLength,
        Self::UnknownInterface,
        Self::BadHeader,
    ];

    /// The reason as it is shown.
    pub fn reason(self) -> &'static str {
        match self {
            Self::CutOff => "cut off",
            Self::BadLength => "bad length",
            Self::UnknownInterface => "unknown interface",
            Self::BadHeader => "bad file header",
        }
    }
}

/// A captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it was captured; pcapng's simple packets have no time.
    pub time: Option<Timestamp>,
    /// What it begins with.
    pub link: LinkType,
    /// The interface that captured it, where the file names it (pcapng).
    pub interface: Interface,
    /// What was captured of it.
    pub frame: &'a [u8],
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A frame.
    Record(Record<'a>),
    /// A record without a frame that counts; the reading goes on behind it.
    Skipped(Skip),
    /// Nothing before the buffer holds this many bytes, more than it does now and at most
    /// [`MAX_WANTED`], or the file ends.
    NeedMore(usize),
    /// The end of the file, between two records.
    End,
    /// The reading ends here, for this reason; from now on the answer is [`Step::End`].
    Broken(Skip),
}

/// Whether a file that begins with `head` is a capture; 12 bytes are enough to tell.
pub fn is_capture(head: &[u8]) -> bool {
    magic(head).is_some() || (is_section(head) && section_order(head).is_some())
}

/// Reads a capture from its first byte to its last.
#[derive(Debug, Default)]
pub struct Reader {
    format: Format,
    /// What is left of a block that has been dealt with, in octets.
    pending: u64,
}

#[derive(Debug, Default)]
enum Format {
    #[default]
    Unknown,
    Pcap(Pcap),
    Pcapng(Section),
    Done,
}

/// Why there is no step.
enum Stop {
    NeedMore(usize),
    Broken(Skip),
}

impl Reader {
    /// A reader at the beginning of a file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next record from the front of `buffer`, which is moved on behind what was read.
    /// What stays there is to be given again, with more behind it. `end_of_file` says that the
    /// file has no more.
    ///
    /// Each packet of the file is answered once, by [`Step::Record`] or [`Step::Skipped`]; blocks
    /// that carry no packet are no records.
    pub fn next<'a>(&mut self, buffer: &mut &'a [u8], end_of_file: bool) -> Step<'a> {
        let step = match self.advance(buffer) {
            Ok(step) => return step,
            Err(Stop::NeedMore(bytes)) if !end_of_file => return Step::NeedMore(bytes),
            Err(Stop::NeedMore(_)) if self.is_between_records(buffer) => Step::End,
            Err(Stop::NeedMore(_)) => Step::Broken(Skip::CutOff),
            Err(Stop::Broken(skip)) => Step::Broken(skip),
        };
        self.format = Format::Done;
        self.pending = 0;
        step
    }

    fn advance<'a>(&mut self, buffer: &mut &'a [u8]) -> Result<Step<'a>, Stop> {
        loop {
            self.pending -= discard(self.pending, buffer);
            if self.pending > 0 {
                return Err(Stop::NeedMore(1));
            }
            match &mut self.format {
                Format::Pcap(pcap) => return pcap.record(buffer).map(Step::Record),
                Format::Pcapng(section) => {
                    let (length, step) = section.block(buffer)?;
                    self.pending = length - discard(length, buffer);
                    if let Some(step) = step {
                        return Ok(step);
                    }
                }
                Format::Unknown => self.format = Format::open(buffer)?,
                Format::Done => return Ok(Step::End),
            }
        }
    }

    fn is_between_records(&self, buffer: &[u8]) -> bool {
        buffer.is_empty() && self.pending == 0 && !matches!(self.format, Format::Unknown)
    }
}

/// Moves `buffer` on by `length`, or to its end; answers by how much.
fn discard(length: u64, buffer: &mut &[u8]) -> u64 {
    let present = usize::try_from(length).map_or(buffer.len(), |length| length.min(buffer.len()));
    *buffer = &buffer[present..];
    present as u64
}

impl Format {
    /// Reads a pcap file's header; a pcapng file has none beyond its first section's.
    fn open(buffer: &mut &[u8]) -> Result<Self, Stop> {
        let bytes = *buffer;
        if bytes.len() < 4 {
            return Err(Stop::NeedMore(4));
        }
        if is_section(bytes) {
            return Ok(Self::Pcapng(Section::default()));
        }
        let (order, magic) = magic(bytes).ok_or(Stop::Broken(Skip::BadHeader))?;
        let header = need(bytes, FILE_HEADER)?;
        let pcap = Pcap::new(order, magic, header)?;
        *buffer = &bytes[FILE_HEADER..];
        Ok(Self::Pcap(pcap))
    }
}

/// The first `length` bytes.
fn need(bytes: &[u8], length: usize) -> Result<&[u8], Stop> {
    bytes.get(..length).ok_or(Stop::NeedMore(length))
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    #[default]
    Little,
    Big,
}

impl Order {
    /// The number at `at`, which is there: callers have asked for the bytes.
    fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let octets = octets(bytes, at);
        match self {
            Self::Little => u32::from_le_bytes(octets),
            Self::Big => u32::from_be_bytes(octets),
        }
    }

    fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let octets = octets(bytes, at);
        match self {
            Self::Little => u16::from_le_bytes(octets),
            Self::Big => u16::from_be_bytes(octets),
        }
    }
}

fn octets<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let octets = bytes.get(at..).and_then(<[u8]>::first_chunk);
    debug_assert!(octets.is_some(), "{N} octets at {at} of {}", bytes.len());
    octets.copied().unwrap_or([0; N])
}

/// A pcap file's byte order and magic number, where it begins with one.
fn magic(head: &[u8]) -> Option<(Order, u32)> {
    let octets = *head.first_chunk()?;
    [
        (Order::Little, u32::from_le_bytes(octets)),
        (Order::Big, u32::from_be_bytes(octets)),
    ]
    .into_iter()
    .find(|(_, magic)| matches!(*magic, MICROSECONDS | NANOSECONDS | KUZNETZOV))
}

/// A pcap file, after its header.
#[derive(Clone, Copy, Debug)]
struct Pcap {
    order: Order,
    is_nanoseconds: bool,
    record_header: usize,
    link: LinkType,
}

impl Pcap {
    fn new(order: Order, magic: u32, header: &[u8]) -> Result<Self, Stop> {
        // In older versions the two lengths of a record stood the other way round.
        if (order.u16(header, 4), order.u16(header, 6)) != (2, 4) {
            return Err(Stop::Broken(Skip::BadHeader));
        }
        Ok(Self {
            order,
            is_nanoseconds: magic == NANOSECONDS,
            record_header: match magic {
                KUZNETZOV => KUZNETZOV_RECORD_HEADER,
                _ => RECORD_HEADER,
            },
            // The upper half tells of check sequences behind the frame, which nobody reads.
            link: LinkType((order.u32(header, 20) & 0xffff) as u16),
        })
    }

    fn record<'a>(self, buffer: &mut &'a [u8]) -> Result<Record<'a>, Stop> {
        let bytes = *buffer;
        let header = need(bytes, self.record_header)?;
        let captured = self.order.u32(header, 8) as usize;
        if captured > MAX_FRAME {
            return Err(Stop::Broken(Skip::BadLength));
        }
        let record = need(bytes, self.record_header + captured)?;
        *buffer = &bytes[record.len()..];
        let fraction = self.order.u32(header, 4);
        let micros = if self.is_nanoseconds {
            fraction / 1000
        } else {
            fraction
        };
        Ok(Record {
            time: Some(
                Timestamp::from_seconds(self.order.u32(header, 0).into())
                    .plus_micros(micros.into()),
            ),
            link: self.link,
            interface: Interface::default(),
            frame: &record[self.record_header..],
        })
    }
}

/// Whether a section header begins here; its type reads the same in both byte orders.
fn is_section(bytes: &[u8]) -> bool {
    bytes.starts_with(&SECTION_BLOCK.to_be_bytes())
}

/// The byte order of the section whose header `block` is, or begins with.
fn section_order(block: &[u8]) -> Option<Order> {
    let octets = *block.get(8..)?.first_chunk()?;
    if u32::from_le_bytes(octets) == BYTE_ORDER {
        Some(Order::Little)
    } else {
        (u32::from_be_bytes(octets) == BYTE_ORDER).then_some(Order::Big)
    }
}

/// A section of a pcapng file, as far as it has been read.
#[derive(Debug, Default)]
struct Section {
    order: Order,
    interfaces: Vec<Description>,
}

impl Section {
    /// Reads the block that `bytes` begins with; answers its length, which may be more than what
    /// is there, and what it holds, if it is a packet's.
    fn block<'a>(&mut self, bytes: &'a [u8]) -> Result<(u64, Option<Step<'a>>), Stop> {
        need(bytes, 8)?;
        if is_section(bytes) {
            self.begin(bytes)?;
        }
        let length = u64::from(self.order.u32(bytes, 4));
        if length < BLOCK_FRAME {
            return Err(Stop::Broken(Skip::BadLength));
        }
        // Some writers leave the padding out of the length.
        let length = length.next_multiple_of(4);
        let step = match self.order.u32(bytes, 0) {
            kind @ (ENHANCED_PACKET_BLOCK | OBSOLETE_PACKET_BLOCK) => {
                Some(self.packet(kind, bytes, length)?)
            }
            SIMPLE_PACKET_BLOCK => Some(self.simple_packet(bytes, length)?),
            INTERFACE_BLOCK => {
                self.describe(bytes, length)?;
                None
            }
            _ => None,
        };
        Ok((length, step))
    }

    /// A section header: byte order and interfaces begin anew.
    fn begin(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let header = need(bytes, SECTION_HEADER)?;
        let order = section_order(header).ok_or(Stop::Broken(Skip::BadHeader))?;
        if order.u16(header, 12) != 1 {
            return Err(Stop::Broken(Skip::BadHeader));
        }
        if order.u32(header, 4) < SECTION_BLOCK_MINIMUM {
            return Err(Stop::Broken(Skip::BadLength));
        }
        self.order = order;
        self.interfaces.clear();
        Ok(())
    }

    fn describe(&mut self, bytes: &[u8], length: u64) -> Result<(), Stop> {
        let length = match usize::try_from(length) {
            Ok(length) if (INTERFACE_HEADER + 4..=MAX_FRAME).contains(&length) => length,
            _ => return Err(Stop::Broken(Skip::BadLength)),
        };
        let block = need(bytes, length)?;
        if self.interfaces.len() < MAX_INTERFACES {
            self.interfaces.push(Description::new(self.order, block));
        }
        Ok(())
    }

    /// An enhanced packet block, or its obsolete forerunner: they differ in the interface's width.
    fn packet<'a>(&self, kind: u32, bytes: &'a [u8], length: u64) -> Result<Step<'a>, Stop> {
        let Some(room) = length.checked_sub(PACKET_HEADER as u64 + 4) else {
            return Ok(Step::Skipped(Skip::BadLength));
        };
        let header = need(bytes, PACKET_HEADER)?;
        let interface = if kind == OBSOLETE_PACKET_BLOCK {
            usize::from(self.order.u16(header, 8))
        } else {
            self.order.u32(header, 8) as usize
        };
        let captured = self.order.u32(header, 20) as usize;
        if captured > MAX_FRAME || captured as u64 > room {
            return Ok(Step::Skipped(Skip::BadLength));
        }
        let Some(interface) = self.interfaces.get(interface) else {
            return Ok(Step::Skipped(Skip::UnknownInterface));
        };
        let block = need(bytes, PACKET_HEADER + captured)?;
        let ticks =
            u64::from(self.order.u32(header, 12)) << 32 | u64::from(self.order.u32(header, 16));
        Ok(Step::Record(Record {
            time: Some(interface.time(ticks)),
            link: interface.link,
            interface: interface.name,
            frame: &block[PACKET_HEADER..],
        }))
    }

    /// A simple packet block: of the first interface, without a time, and its captured length is
    /// what the snapshot length left of the frame's.
    fn simple_packet<'a>(&self, bytes: &'a [u8], length: u64) -> Result<Step<'a>, Stop> {
        let Some(room) = length.checked_sub(SIMPLE_PACKET_HEADER as u64 + 4) else {
            return Ok(Step::Skipped(Skip::BadLength));
        };
        let header = need(bytes, SIMPLE_PACKET_HEADER)?;
        let Some(interface) = self.interfaces.first() else {
            return Ok(Step::Skipped(Skip::UnknownInterface));
        };
        let original = self.order.u32(header, 8) as usize;
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let captured = original.min(interface.snapshot_length).min(room);
        if captured > MAX_FRAME {
            return Ok(Step::Skipped(Skip::BadLength));
        }
        let block = need(bytes, SIMPLE_PACKET_HEADER + captured)?;
        Ok(Step::Record(Record {
            time: None,
            link: interface.link,
            interface: interface.name,
            frame: &block[SIMPLE_PACKET_HEADER..],
        }))
    }
}

/// What a section says about an interface.
#[derive(Debug)]
struct Description {
    link: LinkType,
    name: Interface,
    /// In octets; `usize::MAX` where there is no limit.
    snapshot_length: usize,
    resolution: Resolution,
    /// Added to each time.
    offset_micros: i64,
}

/// How long a tick of an interface's clock is.
#[derive(Debug)]
enum Resolution {
    /// So many microseconds.
    Micros(u64),
    /// So many ticks make a microsecond.
    PerMicro(u64),
    /// A second shifted right by so many bits.
    Binary(u8),
}

const OPTION_NAME: u16 = 2;
const OPTION_RESOLUTION: u16 = 9;
const OPTION_TIME_OFFSET: u16 = 14;

impl Description {
    fn new(order: Order, block: &[u8]) -> Self {
        let mut description = Self {
            link: LinkType(order.u16(block, 8)),
            name: Interface::default(),
            snapshot_length: match order.u32(block, 12) {
                0 => usize::MAX,
                length => length as usize,
            },
            resolution: Resolution::Micros(1),
            offset_micros: 0,
        };
        let mut options = &block[INTERFACE_HEADER..block.len() - 4];
        while let Some((code, value, rest)) = option(order, options) {
            match (code, value) {
                (OPTION_NAME, name) => description.name = Interface::new(name),
                (OPTION_RESOLUTION, &[resolution]) => {
                    description.resolution = Resolution::new(resolution);
                }
                (OPTION_TIME_OFFSET, offset) if offset.len() == 8 => {
                    let seconds = match order {
                        Order::Little => i64::from_le_bytes(octets(offset, 0)),
                        Order::Big => i64::from_be_bytes(octets(offset, 0)),
                    };
                    description.offset_micros = seconds.saturating_mul(MICROS_PER_SECOND);
                }
                _ => {}
            }
            options = rest;
        }
        description
    }

    fn time(&self, ticks: u64) -> Timestamp {
        let micros = self.resolution.micros(ticks);
        Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
            .plus_micros(self.offset_micros)
    }
}

/// The first of `options`, code and value, and those behind it; none at their end, or where one is
/// longer than the room for it.
fn option(order: Order, options: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (header, rest) = options.split_at_checked(4)?;
    let code = order.u16(header, 0);
    let length = usize::from(order.u16(header, 2));
    let value = rest.get(..length)?;
    let rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    (code != 0).then_some((code, value, rest))
}

impl Resolution {
    /// Reads `if_tsresol`: a negative power of 10, or of 2 where the highest bit is set.
    fn new(option: u8) -> Self {
        let power = option & 0x7f;
        if option & 0x80 != 0 {
            Self::Binary(power)
        } else if power <= 6 {
            Self::Micros(10_u64.pow(u32::from(6 - power)))
        } else {
            let per_micro = 10_u64.checked_pow(u32::from(power - 6));
            Self::PerMicro(per_micro.unwrap_or(u64::MAX))
        }
    }

    /// Microseconds in `ticks`, rounded down.
    fn micros(&self, ticks: u64) -> u64 {
        match *self {
            Self::Micros(micros) => ticks.saturating_mul(micros),
            Self::PerMicro(per_micro) => ticks / per_micro,
            Self::Binary(bits) => {
                let micros =
                    (u128::from(ticks) * u128::from(MICROS_PER_SECOND.unsigned_abs())) >> bits;
                u64::try_from(micros).unwrap_or(u64::MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a test keeps of a step.
    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Event {
        Record {
            micros: Option<i64>,
            link: u16,
            interface: String,
            frame: Vec<u8>,
        },
        Skipped(Skip),
        Broken(Skip),
    }

    fn record(micros: impl Into<Option<i64>>, link: u16, name: &str, frame: &[u8]) -> Event {
        Event::Record {
            micros: micros.into(),
            link,
            interface: name.to_owned(),
            frame: frame.to_vec(),
        }
    }

    /// Reads `file` as a driver does that gets as many bytes at a time as `reads` says, in turn.
    fn read_in(file: &[u8], reads: &[usize]) -> Vec<Event> {
        let mut reads = reads.iter().cycle();
        let mut reader = Reader::new();
        let (mut from, mut to) = (0, 0);
        let mut events = Vec::new();
        // Each step but the last takes something from the file.
        for _ in 0..file.len() + 2 {
            let step = loop {
                let mut buffer = &file[from..to];
                let step = reader.next(&mut buffer, to == file.len());
                from = to - buffer.len();
                match step {
                    Step::NeedMore(bytes) => {
                        assert!(bytes > buffer.len() && bytes <= MAX_WANTED, "{bytes}");
                        to = file.len().min(to + reads.next().unwrap());
                    }
                    step => break step,
                }
            };
            match step {
                Step::Record(record) => events.push(Event::Record {
                    micros: record.time.map(Timestamp::as_micros),
                    link: record.link.0,
                    interface: record.interface.name(),
                    frame: record.frame.to_vec(),
                }),
                Step::Skipped(skip) => events.push(Event::Skipped(skip)),
                Step::Broken(skip) => events.push(Event::Broken(skip)),
                Step::End => return events,
                Step::NeedMore(_) => unreachable!(),
            }
        }
        panic!("no end of {file:x?}");
    }

    fn read(file: &[u8]) -> Vec<Event> {
        read_in(file, &[usize::MAX >> 1])
    }

    fn u32_in(order: Order, value: u32) -> [u8; 4] {
        match order {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        }
    }

    fn u16_in(order: Order, value: u16) -> [u8; 2] {
        match order {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        }
    }

    fn words(order: Order, values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|&v| u32_in(order, v)).collect()
    }

    fn pcap_header(order: Order, magic: u32, version: [u16; 2], link: u32) -> Vec<u8> {
        let mut header = u32_in(order, magic).to_vec();
        header.extend(u16_in(order, version[0]));
        header.extend(u16_in(order, version[1]));
        header.extend(words(order, &[0, 0, 65535, link]));
        header
    }

    /// A pcap file with a frame `abc`, an empty one, and `defgh`.
    fn pcap(order: Order, magic: u32) -> Vec<u8> {
        let mut file = pcap_header(order, magic, [2, 4], 0x1000_0001);
        for (seconds, fraction, frame) in [
            (1_700_000_000, 5_000, &b"abc"[..]),
            (1_700_000_001, 0, b""),
            (u32::MAX, 999_999, b"defgh"),
        ] {
            let captured = u32::try_from(frame.len()).unwrap();
            file.extend(words(order, &[seconds, fraction, captured, 1500]));
            if magic == KUZNETZOV {
                file.extend([7, 0, 0, 0, 8, 0, 0, 0]);
            }
            file.extend(frame);
        }
        file
    }

    const ORDERS: [Order; 2] = [Order::Little, Order::Big];

    #[test]
    fn pcap_in_both_orders_and_all_variants() {
        for order in ORDERS {
            for (magic, first, last) in [
                (MICROSECONDS, 5_000, 999_999),
                (KUZNETZOV, 5_000, 999_999),
                (NANOSECONDS, 5, 999),
            ] {
                let file = pcap(order, magic);
                assert!(is_capture(&file[..4]));
                assert_eq!(
                    read(&file),
                    [
                        record(1_700_000_000_000_000 + first, 1, "", b"abc"),
                        record(1_700_000_001_000_000, 1, "", b""),
                        record(i64::from(u32::MAX) * 1_000_000 + last, 1, "", b"defgh"),
                    ],
                    "{order:?} {magic:x}"
                );
            }
        }
    }

    fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
        let padding = body.len().next_multiple_of(4) - body.len();
        let length = u32::try_from(body.len() + padding + 12).unwrap();
        let mut block = words(order, &[kind, length]);
        block.extend(body);
        block.extend(vec![0; padding]);
        block.extend(u32_in(order, length));
        block
    }

    fn section(order: Order) -> Vec<u8> {
        let mut body = u32_in(order, BYTE_ORDER).to_vec();
        body.extend(u16_in(order, 1));
        body.extend(u16_in(order, 0));
        body.extend([0xff; 8]);
        body.extend(option_of(order, 4, b"a test of smtpwatch"));
        block(order, SECTION_BLOCK, &body)
    }

    fn option_of(order: Order, code: u16, value: &[u8]) -> Vec<u8> {
        let mut option = u16_in(order, code).to_vec();
        option.extend(u16_in(order, u16::try_from(value.len()).unwrap()));
        option.extend(value);
        option.extend(vec![0; value.len().next_multiple_of(4) - value.len()]);
        option
    }

    fn interface(order: Order, link: u16, snapshot: u32, options: &[Vec<u8>]) -> Vec<u8> {
        let mut body = u16_in(order, link).to_vec();
        body.extend([0, 0]);
        body.extend(u32_in(order, snapshot));
        body.extend(options.concat());
        block(order, INTERFACE_BLOCK, &body)
    }

    fn packet_body(order: Order, interface: u32, ticks: u64, frame: &[u8]) -> Vec<u8> {
        let captured = u32::try_from(frame.len()).unwrap();
        let (high, low) = ((ticks >> 32) as u32, (ticks & 0xffff_ffff) as u32);
        let mut body = words(order, &[interface, high, low, captured, 1500]);
        body.extend(frame);
        body
    }

    fn packet(order: Order, interface: u32, ticks: u64, frame: &[u8]) -> Vec<u8> {
        let mut body = packet_body(order, interface, ticks, frame);
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(option_of(order, 1, b"a comment"));
        block(order, ENHANCED_PACKET_BLOCK, &body)
    }

    fn simple_packet(order: Order, original: u32, frame: &[u8]) -> Vec<u8> {
        let body = [&u32_in(order, original)[..], frame].concat();
        block(order, SIMPLE_PACKET_BLOCK, &body)
    }

    const SECOND: i64 = 1_000_000;

    /// Two sections of different byte order, with every kind of block and clock.
    fn pcapng() -> (Vec<u8>, Vec<Event>) {
        let (one, two) = (Order::Big, Order::Little);
        let resolution = |order, value: u8| option_of(order, OPTION_RESOLUTION, &[value]);
        let ahead = option_of(one, OPTION_TIME_OFFSET, &(-3600_i64).to_be_bytes());
        let later = option_of(two, OPTION_TIME_OFFSET, &7200_i64.to_le_bytes());
        let name = |order, name: &[u8]| option_of(order, OPTION_NAME, name);
        let obsolete = |order: Order, interface: u16, frame: &[u8]| {
            let mut body = packet_body(order, 0, 9, frame);
            body[..2].copy_from_slice(&u16_in(order, interface));
            body[2..4].copy_from_slice(&[0xff; 2]);
            block(order, OBSOLETE_PACKET_BLOCK, &body)
        };
        let end = vec![0; 4];
        let file = [
            section(one),
            interface(one, 1, 4, &[name(one, b"eth0")]),
            interface(one, 101, 0, &[resolution(one, 9), ahead, end.clone()]),
            block(one, 4, b"names of hosts, not whole"),
            packet(one, 0, 1_700_000_000_000_005, b"abcde"),
            packet(one, 1, 1_700_000_000_000_005_999, b""),
            packet(one, 2, 0, b"of no interface"),
            simple_packet(one, 5, b"abcd"),
            obsolete(one, 1, b"obsolete"),
            block(one, 0xbad, b"custom"),
            section(two),
            simple_packet(two, 5, b"early"),
            interface(two, 113, 0, &[resolution(two, 0x8a), later]),
            interface(two, 276, 0, &[end, resolution(two, 0)]),
            interface(two, 228, 0, &[resolution(two, 0)]),
            packet(two, 0, 1024 + 512, b"binary"),
            packet(two, 1, 77, b"ended"),
            packet(two, 2, 77, b"seconds"),
            simple_packet(two, 3, b"xyz"),
        ]
        .concat();
        let events = vec![
            record(1_700_000_000_000_005, 1, "eth0", b"abcde"),
            record((1_700_000_000 - 3600) * SECOND + 5, 101, "", b""),
            Event::Skipped(Skip::UnknownInterface),
            record(None, 1, "eth0", b"abcd"),
            record(-3600 * SECOND, 101, "", b"obsolete"),
            Event::Skipped(Skip::UnknownInterface),
            record(7200 * SECOND + 1_500_000, 113, "", b"binary"),
            record(77, 276, "", b"ended"),
            record(77 * SECOND, 228, "", b"seconds"),
            record(None, 113, "", b"xyz"),
        ];
        (file, events)
    }

    #[test]
    fn pcapng_with_sections_interfaces_clocks_and_all_packet_blocks() {
        let (file, events) = pcapng();
        assert!(is_capture(&file[..12]));
        assert_eq!(read(&file), events);
    }

    #[test]
    fn clocks_of_any_resolution() {
        for (option, ticks, micros) in [
            (6, u64::MAX, u64::MAX),
            (0, u64::MAX, u64::MAX),
            (3, 5, 5_000),
            (12, 5_999_999, 5),
            (25, u64::MAX, 1),
            (127, 12345, 0),
            (0x80, 3, 3_000_000),
            (0xa0, 1 << 31, 500_000),
            (0xff, u64::MAX, 0),
            (0x80, u64::MAX, u64::MAX),
        ] {
            assert_eq!(Resolution::new(option).micros(ticks), micros, "{option:#x}");
        }
    }

    #[test]
    fn a_file_cut_anywhere_gives_the_records_before_the_cut() {
        let mut files: Vec<Vec<u8>> = ORDERS.map(|order| pcap(order, MICROSECONDS)).into();
        files.push(pcap(Order::Little, KUZNETZOV));
        files.push(pcapng().0);
        for file in files {
            let whole = read(&file);
            let mut ends = 0;
            for end in 0..file.len() {
                let mut events = read(&file[..end]);
                if events.last() == Some(&Event::Broken(Skip::CutOff)) {
                    events.pop();
                } else {
                    ends += 1;
                }
                assert!(whole.starts_with(&events), "cut at {end}");
            }
            // Clean ends are those between two records or blocks.
            assert!(ends == 3 || ends == 18, "{ends}");
        }
    }

    #[test]
    fn lengths_that_lie_end_or_skip_but_ask_for_no_more_than_the_bound() {
        let order = Order::Little;
        let with_pcap = |captured: u32, frame: usize| {
            let mut file = pcap(order, MICROSECONDS);
            file.extend(words(order, &[1, 0, captured, captured]));
            file.extend(vec![0; frame]);
            read(&file)[3..].to_vec()
        };
        let bad = [Event::Broken(Skip::BadLength)];
        assert_eq!(with_pcap(u32::MAX, 8), bad);
        assert_eq!(with_pcap(256 * 1024 + 1, 300_000), bad);
        assert_eq!(
            with_pcap(256 * 1024, 256 * 1024),
            [record(SECOND, 1, "", &vec![0; 256 * 1024])]
        );
        assert_eq!(with_pcap(4, 3), [Event::Broken(Skip::CutOff)]);

        let with_blocks = |blocks: &[Vec<u8>]| {
            let start = [section(order), interface(order, 1, 0, &[])];
            read(&[start.concat(), blocks.concat()].concat())
        };
        let good = packet(order, 0, 7, b"abc");
        let after = |event: Event| vec![event, record(7, 1, "", b"abc")];
        // Longer than its block, than the limit, a block too short for its header.
        let mut lying = packet(order, 0, 7, b"abc");
        lying[20] = 100;
        assert_eq!(
            with_blocks(&[lying, good.clone()]),
            after(Event::Skipped(Skip::BadLength))
        );
        let long = packet(order, 0, 7, &vec![0; 256 * 1024 + 4]);
        assert_eq!(
            with_blocks(&[long, good.clone()]),
            after(Event::Skipped(Skip::BadLength))
        );
        for kind in [2, 3, 6] {
            assert_eq!(
                with_blocks(&[block(order, kind, b""), good.clone()]),
                after(Event::Skipped(Skip::BadLength))
            );
        }
        // A block whose length leaves its padding out.
        let mut unpadded = block(order, 6, &packet_body(order, 0, 7, b"abc"));
        unpadded[4] -= 1;
        assert_eq!(
            with_blocks(&[unpadded, good.clone()]),
            after(record(7, 1, "", b"abc"))
        );
        // A long block without packets is passed over, whatever its length.
        let comment = block(order, 0xbad, &vec![0; 600_000]);
        assert_eq!(
            with_blocks(&[comment, good.clone()]),
            [record(7, 1, "", b"abc")]
        );
        // Lengths that lead nowhere.
        let mut short = section(order);
        short[4..8].copy_from_slice(&24_u32.to_le_bytes());
        assert_eq!(read(&short), bad);
        for length in [0, 11, 8] {
            assert_eq!(with_blocks(&[words(order, &[6, length, 0])]), bad);
        }
        assert_eq!(with_blocks(&[words(order, &[1, 12, 12])]), bad);
        assert_eq!(with_blocks(&[words(order, &[1, u32::MAX])]), bad);
        assert_eq!(
            with_blocks(&[words(order, &[5, u32::MAX]), good]),
            [Event::Broken(Skip::CutOff)]
        );
    }

    #[test]
    fn headers_that_are_not_read() {
        let bad = [Event::Broken(Skip::BadHeader)];
        let order = Order::Big;
        assert_eq!(read(&pcap_header(order, MICROSECONDS, [2, 3], 1)), bad);
        assert_eq!(read(&pcap_header(order, MICROSECONDS, [3, 0], 1)), bad);
        assert_eq!(read(&pcap_header(order, MICROSECONDS, [2, 4], 1)), []);
        assert_eq!(read(b"Jun  8 14:34:33 gw kernel: IN="), bad);
        assert_eq!(read(b""), [Event::Broken(Skip::CutOff)]);
        let mut unordered = section(order);
        unordered[8] = 0;
        assert_eq!(read(&unordered), bad);
        let mut future = section(order);
        future[13] = 2;
        assert_eq!(read(&future), bad);
        // A section that goes wrong after a good one.
        let mut file = pcapng().0;
        file.extend(future);
        assert_eq!(read(&file).last(), bad.last());
    }

    #[test]
    fn captures_are_told_from_other_files() {
        for other in [
            &b""[..],
            b"\xa1\xb2\xc3",
            b"\n\r\r\n",
            b"\n\r\r\n\x1c\0\0\0abcd",
            b"Jun  8 14:34:33 gw kernel: ",
            b"\x1f\x8b\x08\0",
        ] {
            assert!(!is_capture(other), "{other:x?}");
        }
    }

    #[test]
    fn interfaces_beyond_the_bound_are_unknown() {
        let order = Order::Little;
        let mut file = section(order);
        file.extend(interface(order, 1, 0, &[]).repeat(MAX_INTERFACES + 1));
        file.extend(packet(order, 65_535, 7, b"last"));
        file.extend(packet(order, 65_536, 7, b"beyond"));
        assert_eq!(
            read(&file),
            [
                record(7, 1, "", b"last"),
                Event::Skipped(Skip::UnknownInterface)
            ]
        );
    }

    fn any_file() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(pcap(Order::Little, MICROSECONDS)),
            Just(pcap(Order::Big, NANOSECONDS)),
            Just(pcap(Order::Big, KUZNETZOV)),
            Just(pcapng().0),
        ]
    }

    fn any_damaged_file() -> impl Strategy<Value = Vec<u8>> {
        let octet = (any::<prop::sample::Index>(), any::<u8>());
        (any_file(), prop::collection::vec(octet, 0..8)).prop_map(|(mut file, damage)| {
            for (at, octet) in damage {
                let at = at.index(file.len());
                file[at] = octet;
            }
            file
        })
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            head in any_file(),
            kept in 0_usize..40,
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            read(&[&head[..kept], &bytes].concat());
        }

        #[test]
        fn any_split_gives_the_same(
            file in any_damaged_file(),
            reads in prop::collection::vec(1_usize..60, 1..12),
        ) {
            prop_assert_eq!(read_in(&file, &reads), read(&file));
        }

        #[test]
        fn any_cut_gives_a_prefix(file in any_damaged_file(), end in any::<prop::sample::Index>()) {
            let mut cut = read(&file[..end.index(file.len())]);
            if matches!(cut.last(), Some(Event::Broken(_))) {
                cut.pop();
            }
            prop_assert!(read(&file).starts_with(&cut));
        }
    }
}
