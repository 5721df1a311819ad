//! What a host does, as SYN packets in the order of time: each attempt is repeated as its system
//! repeats it, for as long as nobody answers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;

use super::chance::Chance;
use crate::model::{Group, MICROS_PER_SECOND, Timestamp};

/// When each SYN of an unanswered connection leaves, in milliseconds after the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    /// Linux 6.18, `tcp_syn_linear_timeouts` = 4, `tcp_syn_retries` = 6.
    Linux,
    /// Windows, `TcpMaxConnectRetransmissions` = 2.
    Windows,
}

impl Schedule {
    fn millis(self) -> &'static [i64] {
        match self {
            Self::Linux => &[
                0, 1_000, 2_000, 3_000, 4_000, 5_000, 7_000, 11_000, 19_500, 35_600, 69_700,
            ],
            Self::Windows => &[0, 3_000, 9_000],
        }
    }
}

/// How an attempt ends, where nobody interferes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The server takes it, and it lasts so many microseconds.
    Answered(i64),
    /// The server resets it at once.
    Refused,
    /// Nobody answers.
    Dropped(Schedule),
}

/// What a host does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// It opens a connection.
    Connect(IpAddr, Ending),
    /// It asks for a domain's mail servers.
    Lookup,
    /// From now on it has this address, as the neighbour table sees at once.
    Move(IpAddr),
    /// The gateway's time of day jumps by so many microseconds.
    Step(i64),
    /// The DNS shows that these are one mail service.
    Service(Vec<Group>),
}

/// A host's habits.
pub(super) trait Behaviour {
    /// Plans what is done from `from` on for as long as is answered, in microseconds, at least 1; what is
    /// planned may lie beyond.
    fn plan(&mut self, from: Timestamp, chance: &mut Chance, plan: &mut Plan) -> i64;
}

/// What is planned.
#[derive(Debug, Default)]
pub(super) struct Plan {
    packets: BinaryHeap<Reverse<Planned>>,
    count: u64,
}

/// At equal times what was planned first comes first.
#[derive(Debug)]
struct Planned {
    time: Timestamp,
    order: u64,
    event: Event,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time, self.order).cmp(&(other.time, other.order))
    }
}

impl Plan {
    /// Adds `deed` at `time`.
    pub(super) fn add(&mut self, time: Timestamp, deed: Deed) {
        let event = match deed {
            Deed::Connect(destination, ending) => Event::Syn(Syn {
                opened: time,
                destination,
                ending,
                port: 0,
                isn: 0,
                number: 0,
            }),
            deed => Event::Other(deed),
        };
        self.push(time, event);
    }

    fn push(&mut self, time: Timestamp, event: Event) {
        self.count += 1;
        let order = self.count;
        self.packets.push(Reverse(Planned { time, order, event }));
    }

    fn next_time(&self) -> Option<Timestamp> {
        self.packets.peek().map(|Reverse(planned)| planned.time)
    }
}

/// A SYN packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syn {
    /// When the first of the attempt left.
    pub(super) opened: Timestamp,
    pub(super) destination: IpAddr,
    pub(super) ending: Ending,
    pub(super) port: u16,
    pub(super) isn: u32,
    /// Which of the attempt's it is, from 0.
    pub(super) number: usize,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Syn(Syn),
    /// All but [`Deed::Connect`].
    Other(Deed),
}

/// A host's events from a time to another, in their order. What waits is bounded by what the host does
/// in the time that it plans at once, and by the SYNs that are still to be repeated.
pub(super) struct Traffic {
    behaviour: Box<dyn Behaviour>,
    chance: Chance,
    plan: Plan,
    planned_until: Timestamp,
    end: Timestamp,
    attempts: u16,
}

impl Traffic {
    pub(super) fn new(
        behaviour: Box<dyn Behaviour>,
        chance: Chance,
        start: Timestamp,
        end: Timestamp,
    ) -> Self {
        Self {
            behaviour,
            chance,
            plan: Plan::default(),
            planned_until: start,
            end,
            attempts: 0,
        }
    }

    fn plan_ahead(&mut self) {
        while self.planned_until < self.end
            && self
                .plan
                .next_time()
                .is_none_or(|next| next >= self.planned_until)
        {
            let length = self
                .behaviour
                .plan(self.planned_until, &mut self.chance, &mut self.plan);
            self.planned_until = self.planned_until.plus_micros(length.max(1));
        }
    }
}

impl Iterator for Traffic {
    type Item = (Timestamp, Event);

    fn next(&mut self) -> Option<Self::Item> {
        self.plan_ahead();
        let Reverse(Planned { time, event, .. }) = self.plan.packets.pop()?;
        if time >= self.end {
            return None;
        }
        let Event::Syn(mut syn) = event else {
            return Some((time, event));
        };
        if syn.number == 0 {
            self.attempts = self.attempts.wrapping_add(1);
            syn.port = 32_768 | self.attempts;
            syn.isn = self.chance.word();
        }
        if let Ending::Dropped(schedule) = syn.ending
            && let Some(after) = schedule.millis().get(syn.number + 1)
        {
            let number = syn.number + 1;
            let next = syn.opened.plus_micros(after * MICROS_PER_SECOND / 1_000);
            self.plan.push(next, Event::Syn(Syn { number, ..syn }));
        }
        Some((time, Event::Syn(syn)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Once(bool);

    impl Behaviour for Once {
        fn plan(&mut self, from: Timestamp, chance: &mut Chance, plan: &mut Plan) -> i64 {
            if !std::mem::replace(&mut self.0, true) {
                for (second, ending) in [
                    (9, Ending::Answered(1)),
                    (0, Ending::Dropped(Schedule::Linux)),
                    (3, Ending::Dropped(Schedule::Windows)),
                    (4, Ending::Refused),
                ] {
                    let time = from.plus_micros(second * MICROS_PER_SECOND);
                    plan.add(time, Deed::Connect(chance.server(), ending));
                }
            }
            MICROS_PER_SECOND
        }
    }

    #[test]
    fn syns_are_repeated_as_the_systems_do_and_come_in_order() {
        let start = Timestamp::from_seconds(1_000);
        let end = Timestamp::from_seconds(1_150);
        let chance = Chance::new(1, "test", 0);
        let all: Vec<_> = Traffic::new(Box::new(Once(false)), chance, start, end).collect();
        assert!(all.is_sorted_by_key(|(time, _)| *time));
        let count = |is: fn(Ending) -> bool| {
            let syns = all.iter().filter(|(_, event)| match event {
                Event::Syn(syn) => is(syn.ending),
                Event::Other(_) => false,
            });
            syns.count()
        };
        assert_eq!(count(|it| it == Ending::Dropped(Schedule::Linux)), 11);
        assert_eq!(count(|it| it == Ending::Dropped(Schedule::Windows)), 3);
        assert_eq!(count(|it| it == Ending::Refused), 1);
        assert_eq!(count(|it| matches!(it, Ending::Answered(_))), 1);
    }
}
