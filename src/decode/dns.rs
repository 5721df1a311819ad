//! Answers of the DNS (RFC 1035): a packet to the message in it, a message to what it says about where
//! mail goes: the addresses of the name that was asked for, the exchanges of a domain, the name of an
//! address.
//!
//! Messages are read through `hickory_proto`, record by record, so that of one that was not captured
//! whole what came before its end counts. What is not done on purpose: nothing is put together from
//! several segments or fragments, IPv6 extension headers are not stepped over, authorities are not
//! read, signatures not verified; whether anybody asked, the caller has to know.

use std::net::IpAddr;

use hickory_proto::op::{Header, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

/// The port that answers come from (RFC 1035, section 4.2).
const PORT: u16 = 53;
/// Records of one section that are looked at: more than fit in the 1232 octets that resolvers ask for.
const MAX_RECORDS: usize = 64;
/// Names that one name leads to by aliases (CNAME).
const MAX_ALIASES: usize = 8;
/// Addresses and exchanges that are taken from one message.
const MAX_TAKEN: usize = 32;

/// `IPPROTO_TCP` and `IPPROTO_UDP`.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// An answer on its way to whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried<'a> {
    /// Who asked.
    pub client: IpAddr,
    /// The message, as far as it was captured.
    pub message: &'a [u8],
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The addresses of the name that was asked for, also by aliases; there may be none.
    Addresses(Host),
    /// The exchanges of a domain (MX), each with the addresses that came along: often none.
    Exchanges(Vec<Host>),
    /// What an address is called (PTR).
    Name {
        /// The address.
        address: IpAddr,
        /// The name, in lower case, without the dot at its end: hostile text.
        name: String,
    },
}

/// A name with addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// In lower case, without the dot at its end: hostile text.
    pub name: String,
    /// At most 32.
    pub addresses: Vec<IpAddr>,
}

/// Why a message says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// A question, something else than a plain answer, or one about something else.
    Other,
    /// Cut on purpose: the answer comes again by TCP (RFC 1035, section 4.1.1).
    Shortened,
    /// It cannot be read up to its first record.
    Broken,
}

/// The answer in an IP packet, where it may be one: UDP, or a TCP segment that a message begins and
/// ends in, from port 53. The packet may be cut anywhere.
pub fn carried(packet: &[u8]) -> Option<Carried<'_>> {
    let (client, protocol, rest) = match packet.first()? >> 4 {
        4 => {
            let header: &[u8; 20] = packet.first_chunk()?;
            let length = usize::from(header[0] & 0x0f) * 4;
            let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
            let client: [u8; 4] = *header.last_chunk()?;
            if length < 20 || total < length || is_fragment {
                return None;
            }
            (
                IpAddr::from(client),
                header[9],
                Rest::new(packet, length, total)?,
            )
        }
        6 => {
            let header: &[u8; 40] = packet.first_chunk()?;
            let total = usize::from(u16::from_be_bytes([header[4], header[5]])) + 40;
            let client: [u8; 16] = *header.last_chunk()?;
            (
                IpAddr::from(client),
                header[6],
                Rest::new(packet, 40, total)?,
            )
        }
        _ => return None,
    };
    let header: &[u8; 4] = rest.bytes.first_chunk()?;
    if u16::from_be_bytes([header[0], header[1]]) != PORT {
        return None;
    }
    let message = match protocol {
        UDP => rest.bytes.get(8..)?,
        TCP => {
            let offset = usize::from(rest.bytes.get(12)? >> 4) * 4;
            let length = rest
                .length
                .checked_sub(offset + 2)
                .filter(|_| offset >= 20)?;
            let (prefix, message) = rest.bytes.get(offset..)?.split_first_chunk::<2>()?;
            // Else it is a part of a longer one, or there are several.
            (usize::from(u16::from_be_bytes(*prefix)) == length).then_some(message)?
        }
        _ => return None,
    };
    Some(Carried { client, message })
}

/// What is behind an IP header.
#[derive(Clone, Copy)]
struct Rest<'a> {
    /// As far as it was captured, without the link layer's padding.
    bytes: &'a [u8],
    /// As long as it was sent.
    length: usize,
}

impl<'a> Rest<'a> {
    fn new(packet: &'a [u8], header: usize, total: usize) -> Option<Self> {
        Some(Self {
            bytes: packet.get(header..total.min(packet.len()))?,
            length: total - header,
        })
    }
}

/// What `message` says.
pub fn read(message: &[u8]) -> Result<Answer, Unread> {
    let mut decoder = BinDecoder::new(message);
    let header = Header::read(&mut decoder).map_err(|_| Unread::Broken)?;
    let metadata = &header.metadata;
    let says = matches!(
        metadata.response_code,
        ResponseCode::NoError | ResponseCode::NXDomain
    );
    if metadata.message_type != MessageType::Response
        || metadata.op_code != OpCode::Query
        || header.counts.queries != 1
        || !says
    {
        return Err(Unread::Other);
    }
    if metadata.truncation {
        return Err(Unread::Shortened);
    }
    let question = Query::read(&mut decoder).map_err(|_| Unread::Broken)?;
    if question.query_class != DNSClass::IN {
        return Err(Unread::Other);
    }
    let asked = question.query_type;
    if !matches!(
        asked,
        RecordType::A | RecordType::AAAA | RecordType::MX | RecordType::PTR
    ) {
        return Err(Unread::Other);
    }
    let answers = records(&mut decoder, header.counts.answers);
    Ok(match asked {
        RecordType::MX => {
            // Between the answers and what comes along stand the authorities.
            let skipped = records(&mut decoder, header.counts.authorities);
            let along = if skipped.len() == usize::from(header.counts.authorities) {
                records(&mut decoder, header.counts.additionals)
            } else {
                Vec::new()
            };
            Answer::Exchanges(exchanges(&question.name, &answers, &along))
        }
        RecordType::PTR => return reverse(&question.name, &answers),
        _ => Answer::Addresses(Host {
            addresses: addresses(&question.name, &answers),
            name: text(&question.name),
        }),
    })
}

/// The next records, up to the first that cannot be read.
fn records(decoder: &mut BinDecoder<'_>, count: u16) -> Vec<Record> {
    let mut records = Vec::new();
    for _ in 0..usize::from(count).min(MAX_RECORDS) {
        let Ok(record) = Record::read(decoder) else {
            break;
        };
        records.push(record);
    }
    records
}

/// The addresses of `name`, also by aliases.
fn addresses(name: &Name, records: &[Record]) -> Vec<IpAddr> {
    let names = called(name, records);
    let mut found = Vec::new();
    for record in records
        .iter()
        .filter(|record| names.contains(&&record.name))
    {
        let address = match &record.data {
            RData::A(address) => IpAddr::V4(address.0),
            RData::AAAA(address) => IpAddr::V6(address.0),
            _ => continue,
        };
        if found.len() < MAX_TAKEN && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// `name`, and what its aliases lead to.
fn called<'a>(name: &'a Name, records: &'a [Record]) -> Vec<&'a Name> {
    let mut names = vec![name];
    while names.len() <= MAX_ALIASES {
        let last = names[names.len() - 1];
        let next = records.iter().find_map(|record| match &record.data {
            RData::CNAME(alias) if record.name == *last => Some(&alias.0),
            _ => None,
        });
        match next {
            Some(next) if !names.contains(&next) => names.push(next),
            _ => break,
        }
    }
    names
}

/// The exchanges of `domain`, each once.
fn exchanges(domain: &Name, answers: &[Record], along: &[Record]) -> Vec<Host> {
    let names = called(domain, answers);
    let mut found: Vec<Host> = Vec::new();
    for record in answers
        .iter()
        .filter(|record| names.contains(&&record.name))
    {
        let RData::MX(mx) = &record.data else {
            continue;
        };
        let name = text(&mx.exchange);
        // A domain that takes no mail names the root (RFC 7505).
        let is_known = found.iter().any(|known| known.name == name);
        if found.len() < MAX_TAKEN && !name.is_empty() && !is_known {
            found.push(Host {
                name,
                addresses: addresses(&mx.exchange, along),
            });
        }
    }
    found
}

fn reverse(name: &Name, answers: &[Record]) -> Result<Answer, Unread> {
    let network = name.parse_arpa_name().map_err(|_| Unread::Other)?;
    // Of an address, and not of a network.
    if network.prefix_len() != network.max_prefix_len() {
        return Err(Unread::Other);
    }
    let names = called(name, answers);
    let pointer = answers.iter().find_map(|record| match &record.data {
        RData::PTR(pointer) if names.contains(&&record.name) => Some(text(&pointer.0)),
        _ => None,
    });
    Ok(Answer::Name {
        address: network.addr(),
        name: pointer.ok_or(Unread::Other)?,
    })
}

/// As it is compared: names mean the same in either case (RFC 4343).
fn text(name: &Name) -> String {
    let mut text = name.to_ascii();
    text.make_ascii_lowercase();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests;
