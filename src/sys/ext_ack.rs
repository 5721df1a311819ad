//! The kernel's answers to requests: acknowledgements, and errors with what `NETLINK_EXT_ACK` adds
//! to them (errno, the offset of the attribute at fault, a message in words).
//!
//! Pure: reads one message, never panics. Who asked for what is matched by the sequence number,
//! which is not done here.

use crate::decode::netlink::{Attributes, Message, aligned, u32_at};

/// `NLMSG_ERROR` and `NLMSG_DONE` (linux/netlink.h).
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_CAPPED`: the request's payload is not repeated in the answer.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: attributes follow.
const HAS_ATTRIBUTES: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG` and `NLMSGERR_ATTR_OFFS`.
const TEXT: u16 = 1;
const OFFSET: u16 = 2;
/// Longer words of the kernel are cut.
const MAX_TEXT: usize = 256;

/// Why the kernel did not do what a message asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The error (errno(3)), positive.
    pub(crate) errno: i32,
    /// The number of the message that was refused.
    pub(crate) sequence: u32,
    /// Where in that message the attribute at fault begins.
    pub(crate) offset: Option<usize>,
    /// The kernel's own words.
    pub(crate) text: Option<String>,
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Done as asked.
    Done,
    /// Not done.
    Refused(Refusal),
}

/// The verdict that `message` bears; none where it is part of an answer and not its end.
pub(crate) fn verdict(message: &Message<'_>) -> Option<Verdict> {
    let payload = message.payload();
    let attributes_at = match message.kind {
        ERROR if message.flags & CAPPED != 0 => 4 + 16,
        ERROR => 4 + aligned(u32_at(payload, 4).unwrap_or(0) as usize),
        DONE => 4,
        _ => return None,
    };
    // A dump that ends well may say nothing; an error without a number is one all the same.
    let unknown = if message.kind == DONE {
        0
    } else {
        -libc::EPROTO
    };
    let code = u32_at(payload, 0).map_or(unknown, u32::cast_signed);
    if code == 0 {
        return Some(Verdict::Done);
    }
    let attributes = if message.flags & HAS_ATTRIBUTES != 0 {
        Attributes::at(payload, attributes_at)
    } else {
        Attributes::at(&[], 0)
    };
    Some(Verdict::Refused(Refusal {
        errno: code.saturating_abs(),
        sequence: message.sequence,
        offset: attributes
            .get(OFFSET)
            .and_then(|offset| u32_at(offset.value, 0))
            .map(|offset| offset as usize),
        text: attributes.get(TEXT).map(|text| {
            let text = text.text();
            String::from_utf8_lossy(&text[..text.len().min(MAX_TEXT)]).into_owned()
        }),
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decode::netlink::building::{attribute, message};
    use crate::decode::netlink::messages;

    fn verdict_of(bytes: &[u8]) -> Option<Verdict> {
        verdict(&messages(bytes).next().unwrap().unwrap())
    }

    fn refusal_payload(original: &[u8]) -> Vec<u8> {
        [
            (-libc::ENOENT).to_ne_bytes().to_vec(),
            original.to_vec(),
            attribute(TEXT, b"No such set\0"),
            attribute(OFFSET, &48u32.to_ne_bytes()),
        ]
        .concat()
    }

    #[test]
    fn a_refusal_has_errno_sequence_offset_and_words() {
        let expected = Some(Verdict::Refused(Refusal {
            errno: libc::ENOENT,
            sequence: 9,
            offset: Some(48),
            text: Some("No such set".to_owned()),
        }));
        let header = message(0x0a0c, 5, 9, 0, b"");
        let capped = message(
            ERROR,
            CAPPED | HAS_ATTRIBUTES,
            9,
            0,
            &refusal_payload(&header),
        );
        assert_eq!(verdict_of(&capped), expected);
        // Without NETLINK_CAP_ACK the request is repeated whole before the attributes.
        let request = message(0x0a0c, 5, 9, 0, b"seventeen bytes..");
        let whole = message(ERROR, HAS_ATTRIBUTES, 9, 0, &refusal_payload(&request));
        assert_eq!(verdict_of(&whole), expected);
    }

    #[test]
    fn acknowledgements_and_ends_are_told_from_parts() {
        let ack = message(ERROR, CAPPED, 1, 0, &[0; 20]);
        assert_eq!(verdict_of(&ack), Some(Verdict::Done));
        let end = message(DONE, 2, 1, 0, &[0; 4]);
        assert_eq!(verdict_of(&end), Some(Verdict::Done));
        let failed_end = message(DONE, 2, 1, 0, &(-libc::EINTR).to_ne_bytes());
        assert!(matches!(
            verdict_of(&failed_end),
            Some(Verdict::Refused(Refusal {
                errno: libc::EINTR,
                ..
            }))
        ));
        assert_eq!(verdict_of(&message(0x0a0c, 2, 1, 0, &[0; 4])), None);
        assert!(matches!(
            verdict_of(&message(ERROR, 0, 1, 0, b"")),
            Some(Verdict::Refused(_))
        ));
    }

    proptest! {
        #[test]
        fn any_payload_is_read(
            payload in prop::collection::vec(any::<u8>(), 0..80), flags in any::<u16>(), is_end in any::<bool>(),
        ) {
            let kind = if is_end { DONE } else { ERROR };
            prop_assert!(verdict_of(&message(kind, flags, 1, 0, &payload)).is_some());
        }
    }
}
