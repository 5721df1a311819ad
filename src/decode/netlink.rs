//! Netlink messages and their attributes as values (netlink(7), linux/netlink.h).
//!
//! Pure: bytes in, borrowed parts out. Bytes that end too early or lie about their length end the
//! walk or give an error, never a panic. Nothing here knows what a message means.

use std::iter;

/// `sizeof(struct nlmsghdr)`.
const HEADER: usize = 16;
/// `sizeof(struct nfgenmsg)`: family, version, resource id.
const NETFILTER_HEADER: usize = 4;
/// `sizeof(struct nlattr)`.
const ATTRIBUTE_HEADER: usize = 4;
/// `NLA_TYPE_MASK`: an attribute's type without the flags for nested and big-endian.
const TYPE_MASK: u16 = 0x3fff;

/// The bytes are no whole netlink message: cut, or with a length that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a netlink message is cut or lies about its length")]
pub struct Malformed;

/// One netlink message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// `nlmsg_type`; of netfilter the subsystem in the upper byte, the message in the lower.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`: the request's number.
    pub sequence: u32,
    /// `nlmsg_pid`: the netlink port of whose request it speaks.
    pub port: u32,
    /// All of it, header included, for offsets count from there.
    pub bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// What follows the netlink header.
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }

    /// The address family of a netfilter message (`nfgen_family`).
    pub fn family(&self) -> Option<u8> {
        self.payload().first().copied()
    }

    /// The attributes of a netfilter message; their offsets count from the message's begin.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::at(self.bytes, HEADER + NETFILTER_HEADER)
    }
}

/// The messages of one datagram. After a malformed one nothing more comes.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Malformed>> {
    let mut rest = datagram;
    iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = first(rest);
        rest = match message {
            Ok(message) => rest.get(aligned(message.bytes.len())..).unwrap_or_default(),
            Err(Malformed) => &[],
        };
        Some(message)
    })
}

fn first(datagram: &[u8]) -> Result<Message<'_>, Malformed> {
    let length = u32_at(datagram, 0).ok_or(Malformed)? as usize;
    if length < HEADER {
        return Err(Malformed);
    }
    let bytes = datagram.get(..length).ok_or(Malformed)?;
    Ok(Message {
        kind: u16_at(bytes, 4).ok_or(Malformed)?,
        flags: u16_at(bytes, 6).ok_or(Malformed)?,
        sequence: u32_at(bytes, 8).ok_or(Malformed)?,
        port: u32_at(bytes, 12).ok_or(Malformed)?,
        bytes,
    })
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type, without flags.
    pub kind: u16,
    /// Its value.
    pub value: &'a [u8],
    /// Where it begins, counted as in [`Attributes::at`].
    pub offset: usize,
}

impl<'a> Attribute<'a> {
    /// What is nested in it; offsets count on from the same begin.
    pub fn nested(&self) -> Attributes<'a> {
        Attributes {
            rest: self.value,
            offset: self.offset + ATTRIBUTE_HEADER,
        }
    }

    /// Where it ends.
    pub fn end(&self) -> usize {
        self.offset + ATTRIBUTE_HEADER + self.value.len()
    }

    /// A number of 32 bits in network order.
    pub fn be32(&self) -> Option<u32> {
        self.value.try_into().ok().map(u32::from_be_bytes)
    }

    /// A number of 64 bits in network order.
    pub fn be64(&self) -> Option<u64> {
        self.value.try_into().ok().map(u64::from_be_bytes)
    }

    /// The bytes of a text, without the NUL that ends it.
    pub fn text(&self) -> &'a [u8] {
        let end = self.value.iter().position(|&b| b == 0);
        &self.value[..end.unwrap_or(self.value.len())]
    }
}

/// Attributes one after the other. The walk ends where one is cut or shorter than its header.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Attributes<'a> {
    /// Those that begin at `offset` of `bytes`.
    pub fn at(bytes: &'a [u8], offset: usize) -> Self {
        Self {
            rest: bytes.get(offset..).unwrap_or_default(),
            offset,
        }
    }

    /// The first of type `kind`.
    pub fn get(&self, kind: u16) -> Option<Attribute<'a>> {
        self.clone().find(|attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let length = usize::from(u16_at(self.rest, 0)?);
        let kind = u16_at(self.rest, 2)? & TYPE_MASK;
        let Some(value) = self.rest.get(ATTRIBUTE_HEADER..length) else {
            self.rest = &[];
            return None;
        };
        let attribute = Attribute {
            kind,
            value,
            offset: self.offset,
        };
        self.rest = self.rest.get(aligned(length)..).unwrap_or_default();
        self.offset += aligned(length);
        Some(attribute)
    }
}

/// `NLMSG_ALIGN` and `NLA_ALIGN`: messages and attributes begin at multiples of four.
pub fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    bytes.try_into().ok().map(u16::from_ne_bytes)
}

/// A number of 32 bits in the machine's order, as netlink headers have them.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

/// Messages for tests of those who read them.
#[cfg(test)]
pub(crate) mod building {
    /// An attribute with this value, padded.
    pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4)
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(super::aligned(bytes.len()), 0);
        bytes
    }

    /// A message with this payload, padded.
    pub(crate) fn message(
        kind: u16,
        flags: u16,
        sequence: u32,
        port: u32,
        payload: &[u8],
    ) -> Vec<u8> {
        let mut bytes = u32::try_from(payload.len() + 16)
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(port.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(super::aligned(bytes.len()), 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::building::{attribute, message};
    use super::*;

    fn nested_message() -> Vec<u8> {
        let inner = [attribute(1, b"abc\0"), attribute(2, &7u64.to_be_bytes())].concat();
        let payload = [
            vec![1, 0, 0, 0],
            attribute(1, b"smtpwatch\0"),
            attribute(3 | 0x8000, &inner),
        ];
        message(0x0a0c, 2, 5, 77, &payload.concat())
    }

    #[test]
    fn attributes_are_found_with_their_offsets() {
        let bytes = nested_message();
        let message = messages(&bytes).next().unwrap().unwrap();
        assert_eq!(
            (message.kind, message.flags, message.sequence, message.port),
            (0x0a0c, 2, 5, 77)
        );
        assert_eq!(message.family(), Some(1));
        let name = message.attributes().get(1).unwrap();
        assert_eq!((name.text(), name.offset), (&b"smtpwatch"[..], 20));
        let nest = message.attributes().get(3).unwrap();
        let number = nest.nested().get(2).unwrap();
        assert_eq!(number.be64(), Some(7));
        assert_eq!(number.be32(), None);
        assert_eq!(&bytes[number.offset + 4..number.end()], 7u64.to_be_bytes());
    }

    #[test]
    fn a_datagram_of_several_messages_is_split_and_a_cut_one_said() {
        let whole = [message(1, 0, 1, 0, b"x"), message(2, 0, 2, 0, b"")].concat();
        let kinds: Vec<_> = messages(&whole).map(|m| m.unwrap().kind).collect();
        assert_eq!(kinds, [1, 2]);
        let cut: Vec<_> = messages(&whole[..whole.len() - 1]).collect();
        assert_eq!(cut.len(), 2);
        assert_eq!(cut[1], Err(Malformed));
        let short = [8u32.to_ne_bytes(), [0; 4], [0; 4], [0; 4]].concat();
        assert_eq!(messages(&short).collect::<Vec<_>>(), [Err(Malformed)]);
    }

    fn walk(attributes: Attributes<'_>, depth: u8) -> usize {
        attributes
            .map(|a| {
                let below = if depth == 0 {
                    0
                } else {
                    walk(a.nested(), depth - 1)
                };
                let _ = (a.be32(), a.be64(), a.text(), a.end());
                1 + below
            })
            .sum()
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes).flatten() {
                prop_assert!(message.bytes.len() >= HEADER);
                walk(message.attributes(), 4);
            }
            prop_assert!(walk(Attributes::at(&bytes, 0), 0) <= bytes.len() / 4);
        }

        #[test]
        fn a_real_message_cut_or_bent_anywhere_is_walked(
            at in 0usize..76, to in any::<u8>(), end in 0usize..76,
        ) {
            let mut bytes = nested_message();
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.truncate(end);
            for message in messages(&bytes).flatten() {
                walk(message.attributes(), 4);
            }
        }
    }
}
