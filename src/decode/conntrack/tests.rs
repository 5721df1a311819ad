//! Events as Linux 6.18 sent them through masquerade with `fully-random` ports, one connection a file, in
//! the fuzz target's corpus.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::decode::netlink::building::{attribute, message};

const NOW: Timestamp = Timestamp::from_seconds(1_795_464_060);

macro_rules! captured {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/fuzz/corpus/conntrack/", $name))
    };
}

fn events(datagram: &[u8]) -> Vec<Event> {
    items(datagram)
        .map(|item| match item {
            Item::Event(event) => event,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// What is told of a connection, in order.
fn told(datagram: &[u8]) -> Vec<ResponseKind> {
    let events = events(datagram);
    let told = events.iter().filter_map(|event| event.response(NOW));
    told.map(|response| response.kind).collect()
}

/// A tuple as text.
fn ends(tuple: &Tuple) -> String {
    let mut text = String::new();
    for (address, port) in [
        (tuple.source, tuple.source_port),
        (tuple.destination, tuple.destination_port),
    ] {
        write!(text, "{}{}", if text.is_empty() { "" } else { " -> " }, {
            std::net::SocketAddr::new(address, port)
        })
        .unwrap();
    }
    text
}

#[test]
fn each_end_of_an_attempt() {
    use ResponseKind::{Accepted, Closed, Established, Reset, TimedOut, Tracked};
    for (name, datagram, expected) in [
        (
            "answered",
            &captured!("answered")[..],
            &[Tracked, Accepted, Established, Closed][..],
        ),
        (
            "answered-v6",
            captured!("answered-v6"),
            &[Tracked, Accepted, Established, Closed],
        ),
        (
            "reset-later",
            captured!("reset-later"),
            &[Tracked, Accepted, Established, Closed],
        ),
        (
            "redirected",
            captured!("redirected"),
            &[Tracked, Accepted, Established, Closed],
        ),
        ("refused", captured!("refused"), &[Tracked, Reset]),
        ("refused-v6", captured!("refused-v6"), &[Tracked, Reset]),
        ("unanswered", captured!("unanswered"), &[Tracked, TimedOut]),
        (
            "unreachable",
            captured!("unreachable"),
            &[Tracked, TimedOut],
        ),
        (
            "deleted",
            captured!("deleted"),
            &[Tracked, Accepted, Established, Closed],
        ),
        (
            "deleted-unanswered",
            captured!("deleted-unanswered"),
            &[Tracked, Closed],
        ),
        ("midway", captured!("midway"), &[Reset]),
        ("forged-ack", captured!("forged-ack"), &[Reset]),
    ] {
        assert_eq!(told(datagram), expected, "{name}");
    }
}

#[test]
fn every_field_of_a_connection() {
    let all = events(captured!("answered"));
    assert_eq!(all.len(), 7);
    for event in &all {
        assert_eq!(
            ends(&event.original),
            "192.168.1.23:34580 -> 203.0.113.9:25"
        );
        assert_eq!(
            ends(&event.outside()),
            "203.0.113.1:37853 -> 203.0.113.9:25"
        );
        assert_eq!(event.id, Some(0x8cb0_0a67));
        assert!(event.status.is_translated());
        assert_eq!(event.opens(), event.change == Change::New);
    }
    let (first, last) = (all[0], all[6]);
    assert_eq!(first.state, Some(TcpState::SynSent));
    assert_eq!((first.timeout, first.counters), (Some(2), None));
    assert!(!first.status.has_seen_reply() && !first.status.is_dying());
    assert!(!all[1].status.is_assured() && all[2].status.is_assured());
    assert_eq!(
        (last.change, last.state),
        (Change::Destroy, Some(TcpState::Closing))
    );
    assert!(last.status.is_dying() && last.status.has_seen_reply());
    assert_eq!(last.timeout, None);
    let (sent, got) = last.counters.unwrap();
    assert_eq!((sent.packets, sent.bytes), (5, 274));
    assert_eq!((got.packets, got.bytes), (5, 276));
    assert_eq!(
        last.started,
        Some(Timestamp::from_micros(1_795_464_059_776_404))
    );
    assert_eq!(
        last.stopped,
        Some(Timestamp::from_micros(1_795_464_061_774_445))
    );

    let response = last.response(NOW).unwrap();
    assert_eq!((response.time, response.tuple), (NOW, first.original));
    assert_eq!(response.outside, Some(first.outside()));
    assert_eq!(response.bytes, Some((274, 276)));
    assert_eq!(first.response(NOW).unwrap().bytes, None);
}

#[test]
fn both_translations_are_turned_round() {
    let event = events(captured!("redirected"))[0];
    assert_eq!(
        ends(&event.original),
        "192.168.1.23:38290 -> 203.0.113.77:25"
    );
    assert_eq!(
        ends(&event.outside()),
        "203.0.113.1:59809 -> 203.0.113.9:2525"
    );
    let event = events(captured!("answered-v6"))[0];
    assert_eq!(
        ends(&event.original),
        "[fd00:1::17]:34380 -> [2001:db8:5::9]:25"
    );
    assert_eq!(
        ends(&event.outside()),
        "[2001:db8:5::1]:56146 -> [2001:db8:5::9]:25"
    );
}

#[test]
fn what_is_no_connection_is_told_apart() {
    let of = |datagram: &[u8]| items(datagram).collect::<Vec<_>>();
    assert_eq!(of(captured!("udp")), [Item::Other; 2]);
    assert_eq!(of(captured!("answer")), [Item::Answer(1), Item::Other]);
    let cut = of(captured!("cut"));
    assert!(matches!(cut[..], [Item::Event(_), Item::Broken]), "{cut:?}");
    assert_eq!(of(captured!("short-attribute"))[0], Item::Broken);
    assert_eq!(of(captured!("long-attribute"))[0], Item::Broken);
    assert_eq!(of(&message(NEW, 0, 0, 0, &[2, 0, 0, 0])), [Item::Broken]);
    assert_eq!(of(&message(NLMSG_ERROR, 0, 0, 0, &[1])), [Item::Broken]);
}

/// Linux before 5.8 says of an entry's end neither its state nor what it had left.
#[test]
fn an_end_without_a_state() {
    let end = |datagram, counters| {
        let event = Event {
            state: None,
            timeout: None,
            counters,
            ..*events(datagram).last().unwrap()
        };
        event.response(NOW).unwrap().kind
    };
    let got = |packets| {
        let counter = Counter { packets, bytes: 40 };
        Some((Counter::default(), counter))
    };
    assert_eq!(end(captured!("answered"), got(5)), ResponseKind::Closed);
    assert_eq!(end(captured!("answered"), None), ResponseKind::Closed);
    assert_eq!(end(captured!("refused"), got(1)), ResponseKind::Reset);
    assert_eq!(end(captured!("unanswered"), got(0)), ResponseKind::TimedOut);
    assert_eq!(end(captured!("unanswered"), None), ResponseKind::Closed);
}

/// What one forged packet makes of an entry is no answer, and no handshake.
#[test]
fn only_answers_count_as_answers() {
    let [_, accepted, established, ..] = events(captured!("answered"))[..] else {
        panic!();
    };
    for event in [
        Event {
            status: Status(0),
            ..accepted
        },
        Event {
            status: Status(1 << 1),
            ..established
        },
        Event {
            change: Change::New,
            ..established
        },
    ] {
        assert_eq!(event.response(NOW), None, "{event:?}");
        assert!(!event.opens());
    }
}

#[test]
fn attributes_come_in_any_order_and_of_any_length() {
    let datagram = &captured!("refused")[208..];
    let whole = events(datagram);
    let mut all: Vec<Vec<u8>> = Attributes::at(datagram, 20)
        .map(|it| attribute(it.kind, it.value))
        .collect();
    all.reverse();
    let payload = [vec![2, 0, 0, 0], all.concat()].concat();
    assert_eq!(events(&message(DELETE, 0, 0, 0, &payload)), whole);

    let state = attribute(CTA_PROTOINFO_TCP_STATE, &[]);
    let tcp = attribute(CTA_PROTOINFO_TCP, &state);
    let odd = [
        attribute(CTA_STATUS, &[1]),
        attribute(CTA_PROTOINFO, &tcp),
        attribute(CTA_TIMESTAMP, &attribute(CTA_TIMESTAMP_START, &[0xff; 3])),
        attribute(CTA_COUNTERS_ORIG, &[9; 3]),
    ];
    let tuples = all.iter().rev().take(2).cloned();
    let payload = [
        vec![2, 0, 0, 0],
        odd.concat(),
        tuples.collect::<Vec<_>>().concat(),
    ];
    let [event] = events(&message(DELETE, 0, 0, 0, &payload.concat()))[..] else {
        panic!();
    };
    assert_eq!(
        (event.original, event.reply),
        (whole[0].original, whole[0].reply)
    );
    assert_eq!((event.state, event.counters), (None, None));
    assert_eq!((event.started, event.status), (None, Status::default()));
}

proptest! {
    #[test]
    fn a_real_datagram_cut_or_bent_anywhere_is_read(at in 0_usize..2000, to in any::<u8>(), end in 0_usize..2000) {
        let mut bytes = captured!("answered").to_vec();
        let at = at % bytes.len();
        bytes[at] = to;
        bytes.truncate(end);
        for item in items(&bytes) {
            if let Item::Event(event) = item {
                let _ = event.response(NOW);
            }
        }
    }
}
