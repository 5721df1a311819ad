//! Traffic of a small network for tests, the same for each seed: mail clients, a printer that repeats
//! itself, bots on both protocols, what comes in and what stays inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Input;
use crate::model::{
    Clock, Interface, LossKind, Mac, Notice, Observation, Response, ResponseKind, RuleId,
    SourceName, Timestamp, Tuple,
};

/// Numbers that look like chance (`SplitMix64`, Steele et al. 2014).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (number ^ (number >> 31)) % limit
    }

    fn octet(&mut self, limit: u64) -> u8 {
        u8::try_from(self.below(limit)).unwrap_or(0)
    }
}

/// SYNs in order, from `start` on, and when each was taken.
pub(crate) fn syns(seed: u64, start: Timestamp, count: usize) -> Vec<(Timestamp, Input)> {
    let mut numbers = Numbers(seed);
    let mut now = start;
    (0..count)
        .map(|_| {
            now = now.plus_micros(i64::try_from(numbers.below(4_000_000)).unwrap_or(0));
            (now, Input::Syn(syn(&mut numbers, now)))
        })
        .collect()
}

/// All kinds of inputs of a live run.
pub(crate) fn inputs(seed: u64, start: Timestamp, count: usize) -> Vec<(Timestamp, Input)> {
    let mut numbers = Numbers(!seed);
    let source = SourceName::Nflog;
    let with_others = |(now, input): (Timestamp, Input)| {
        let events = numbers.below(1000);
        let input = match (numbers.below(20), input) {
            (0, Input::Syn(observation)) => Input::LateSyn(observation),
            (1, _) => Input::Lost {
                source: source.clone(),
                kind: LossKind::QueueFull,
                events,
            },
            (2, _) => Input::WallClock(-i64::try_from(events).unwrap_or(0)),
            (3, _) => Input::Notice(Notice::SourceFailed {
                source: SourceName::Capture(Interface::new(b"eth\xff\"\\0")),
                why: "gone\n\u{1b}[31m".to_owned(),
            }),
            (4, _) => Input::Matched {
                source: source.clone(),
                packets: events,
            },
            (5, _) => Input::Arrived {
                source: source.clone(),
                events,
            },
            (6, _) => Input::Hosts(vec![(IpAddr::from([192, 168, 1, 2]), "desk".to_owned())]),
            (7, _) => Input::Tick,
            (8 | 9, Input::Syn(observation)) => Input::Response(Response {
                time: observation.time,
                tuple: observation.tuple,
                isn: observation.isn,
                kind: ResponseKind::Accepted,
                outside: Some(observation.tuple),
                bytes: Some((events, u64::MAX)),
            }),
            (_, input) => input,
        };
        (now, input)
    };
    syns(seed, start, count)
        .into_iter()
        .map(with_others)
        .collect()
}

fn syn(numbers: &mut Numbers, time: Timestamp) -> Observation {
    let who = numbers.octet(10);
    let (source, destination, port) = ends(numbers, who);
    let is_repeated = who == 2 || numbers.below(5) == 0;
    Observation {
        time,
        clock: if who == 3 { Clock::None } else { Clock::Exact },
        rule: RuleId(u32::from(numbers.octet(2))),
        tuple: Tuple {
            source,
            destination,
            source_port: if is_repeated {
                4000
            } else {
                u16::from(numbers.octet(250)) + 5000
            },
            destination_port: port,
        },
        isn: who.is_multiple_of(2).then(|| u32::from(numbers.octet(9))),
        ip_id: who.is_multiple_of(3).then_some(7),
        mac: (!who.is_multiple_of(4)).then_some(Mac([2, 0, 0, 0, 0, who])),
        interface: Interface::new(if who == 5 { b"eth2" } else { b"eth1" }),
        ttl: Some(63),
        vlan: None,
        repeats: if numbers.below(30) == 0 { 3 } else { 0 },
    }
}

/// Source, destination and port of the traffic of `who`.
fn ends(numbers: &mut Numbers, who: u8) -> (IpAddr, IpAddr, u16) {
    let inside = IpAddr::from([192, 168, 1, who]);
    let outside = IpAddr::from([203, 0, 113, numbers.octet(3)]);
    match who {
        // Bots.
        0 => (inside, Ipv4Addr::from_bits(rand_v4(numbers)).into(), 25),
        1 => {
            let group = u128::from(numbers.below(5000)) << 80;
            let bot = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
            let server = Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | group | 1);
            (bot.into(), server.into(), 25)
        }
        // In, inside, and elsewhere.
        7 => (outside, inside, 25),
        8 => (inside, IpAddr::from([192, 168, 1, 1]), 25),
        9 => (outside, IpAddr::from([198, 51, 100, 1]), 25),
        4 => (inside, outside, 587),
        _ => (inside, outside, 25),
    }
}

fn rand_v4(numbers: &mut Numbers) -> u32 {
    0x2d00_0000 | u32::try_from(numbers.below(1 << 24)).unwrap_or(0)
}
