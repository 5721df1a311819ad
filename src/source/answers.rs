//! What captured frames tell of attempts that were made before: the responder accepts or resets, the
//! originator completes the handshake, a router says that there is no way.
//!
//! A handshake is completed by whoever acknowledges the responder's own sequence number, which a forged
//! source never gets to see. So that number is kept from the SYN/ACK until the acknowledgment.

use std::collections::{HashMap, VecDeque};

use crate::decode::packet::{Content, Quote, Segment};
use crate::model::{Response, ResponseKind, Timestamp, Tuple};
use crate::settings::Ports;

/// Handshakes that are waited for; beyond, the oldest counts as not completed. Those of forged sources
/// never are.
const MAX_HANDSHAKES: usize = 16_384;

/// The handshakes that were granted.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// What the originator will acknowledge, by the attempt.
    granted: HashMap<Tuple, Granted>,
    /// In the order in which they were granted; some may have been completed by now.
    order: VecDeque<Tuple>,
}

#[derive(Clone, Copy, Debug)]
struct Granted {
    /// The originator's initial sequence number.
    isn: u32,
    /// The responder's.
    theirs: u32,
}

impl Answers {
    /// What `content`, seen at `time`, tells of an attempt to one of `ports`.
    pub(super) fn read(
        &mut self,
        content: &Content,
        ports: &Ports,
        time: Timestamp,
    ) -> Option<Response> {
        let (tuple, isn, kind) = match content {
            Content::Quote(Quote { tuple, sequence }) => {
                (*tuple, Some(*sequence), ResponseKind::Unreachable)
            }
            Content::Segment(segment) => self.of_segment(segment, ports)?,
        };
        ports.contains(tuple.destination_port).then_some(Response {
            time,
            tuple,
            isn,
            kind,
            outside: None,
            bytes: None,
        })
    }

    fn of_segment(
        &mut self,
        segment: &Segment,
        ports: &Ports,
    ) -> Option<(Tuple, Option<u32>, ResponseKind)> {
        if ports.contains(segment.tuple.source_port) {
            let tuple = turned(&segment.tuple);
            // A SYN takes one number.
            let isn = segment.acknowledgment.wrapping_sub(1);
            if segment.is_syn_ack() {
                let theirs = segment.sequence;
                self.grant(tuple, Granted { isn, theirs });
                return Some((tuple, Some(isn), ResponseKind::Accepted));
            }
            if segment.is_reset() {
                let isn = segment.flags.ack().then_some(isn);
                return Some((tuple, isn, ResponseKind::Reset));
            }
        }
        if segment.is_ack() && ports.contains(segment.tuple.destination_port) {
            let tuple = segment.tuple;
            let granted = *self.granted.get(&tuple)?;
            if segment.acknowledgment == granted.theirs.wrapping_add(1)
                && segment.sequence == granted.isn.wrapping_add(1)
            {
                self.granted.remove(&tuple);
                return Some((tuple, Some(granted.isn), ResponseKind::Established));
            }
        }
        None
    }

    fn grant(&mut self, tuple: Tuple, granted: Granted) {
        if self.granted.insert(tuple, granted).is_some() {
            return;
        }
        if self.order.len() == MAX_HANDSHAKES
            && let Some(oldest) = self.order.pop_front()
        {
            self.granted.remove(&oldest);
        }
        self.order.push_back(tuple);
    }
}

/// The other way.
fn turned(tuple: &Tuple) -> Tuple {
    Tuple {
        source: tuple.destination,
        destination: tuple.source,
        source_port: tuple.destination_port,
        destination_port: tuple.source_port,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::packet::Flags;

    const SYN_ACK: u8 = 0x12;
    const ACK: u8 = 0x10;

    fn from_responder(flags: u8, sequence: u32, acknowledgment: u32) -> Content {
        Content::Segment(Segment {
            tuple: Tuple {
                source: [203, 0, 113, 9].into(),
                destination: [192, 168, 1, 23].into(),
                source_port: 25,
                destination_port: 40_000,
            },
            flags: Flags(flags),
            sequence,
            acknowledgment,
            ip_id: None,
            mac: None,
            vlan: None,
            ttl: 64,
        })
    }

    fn from_originator(flags: u8, sequence: u32, acknowledgment: u32) -> Content {
        let Content::Segment(segment) = from_responder(flags, sequence, acknowledgment) else {
            unreachable!("a segment was made");
        };
        Content::Segment(Segment {
            tuple: turned(&segment.tuple),
            ..segment
        })
    }

    fn told(frames: &[Content]) -> Vec<(ResponseKind, Option<u32>, u16)> {
        let mut answers = Answers::default();
        let ports = Ports::default();
        let read = |content| answers.read(content, &ports, Timestamp::default());
        let told = frames.iter().filter_map(read);
        told.map(|it| (it.kind, it.isn, it.tuple.source_port))
            .collect()
    }

    #[test]
    fn a_handshake_is_completed_by_who_knows_both_numbers() {
        let granted = from_responder(SYN_ACK, u32::MAX, 8);
        let accepted = (ResponseKind::Accepted, Some(7), 40_000);
        let established = (ResponseKind::Established, Some(7), 40_000);
        // Told once, though every later segment acknowledges, too.
        let ack = from_originator(ACK, 8, 0);
        assert_eq!(told(&[granted, ack, ack]), [accepted, established]);
        for wrong in [
            from_originator(ACK, 8, 1),
            from_originator(ACK, 7, 0),
            from_originator(0x02, 8, 0),
            from_originator(0x14, 8, 0),
            from_responder(ACK, 8, 0),
        ] {
            assert_eq!(told(&[granted, wrong]), [accepted], "{wrong:?}");
        }
        assert_eq!(told(&[ack]), []);
    }

    #[test]
    fn a_reset_tells_the_number_where_it_acknowledges() {
        let reset = |flags| told(&[from_responder(flags, 0, 8)]);
        assert_eq!(reset(0x14), [(ResponseKind::Reset, Some(7), 40_000)]);
        assert_eq!(reset(0x04), [(ResponseKind::Reset, None, 40_000)]);
        assert_eq!(told(&[from_originator(0x14, 0, 8)]), []);
    }

    #[test]
    fn an_error_counts_where_it_quotes_a_watched_port() {
        let quote = |destination_port| {
            Content::Quote(Quote {
                tuple: Tuple {
                    source: [192, 168, 1, 23].into(),
                    destination: [203, 0, 113, 9].into(),
                    source_port: 40_000,
                    destination_port,
                },
                sequence: 7,
            })
        };
        assert_eq!(
            told(&[quote(25), quote(443)]),
            [(ResponseKind::Unreachable, Some(7), 40_000)]
        );
    }

    #[test]
    fn what_is_waited_for_is_bounded() {
        let mut answers = Answers::default();
        let ports = Ports::default();
        let Content::Segment(segment) = from_responder(SYN_ACK, 1, 8) else {
            unreachable!("a segment was made");
        };
        for host in 0..40_000_u32 {
            let tuple = Tuple {
                destination: std::net::Ipv4Addr::from(0x0a00_0000 + host).into(),
                ..segment.tuple
            };
            let granted = Content::Segment(Segment { tuple, ..segment });
            let told = answers.read(&granted, &ports, Timestamp::default());
            assert_eq!(told.map(|it| it.kind), Some(ResponseKind::Accepted));
        }
        assert_eq!(answers.granted.len(), MAX_HANDSHAKES);
        assert_eq!(answers.order.len(), MAX_HANDSHAKES);
    }
}
