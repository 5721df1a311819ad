//! Bots, by how fast they try and how often they fail.

use std::net::IpAddr;

use super::benign::{Accident, answered, failed};
use super::chance::{Chance, DAY};
use super::traffic::{Behaviour, Deed, Ending, Plan, Schedule};
use crate::model::{MICROS_PER_SECOND, Timestamp};

/// Destinations that a bot comes back to are the last ones.
const REMEMBERED: usize = 256;
/// Between the connections that a bot makes to one MX.
const BETWEEN: i64 = 60 * MICROS_PER_SECOND;
/// How often something befalls a bot that something befalls.
const ACCIDENTS: i64 = 600 * MICROS_PER_SECOND;

/// How its connections end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Luck {
    /// That share fails, in one way or another.
    Failing(f64),
    /// Nothing gets out: a router on the way drops it.
    BlockedUpstream,
}

/// A bot: its deliveries are a Poisson process.
#[derive(Clone, Debug)]
pub(super) struct Bot {
    /// Deliveries a day.
    pub(super) daily: f64,
    /// Share of them that go where it has not been.
    pub(super) new: f64,
    /// How they end.
    pub(super) luck: Luck,
    /// Connections of a delivery.
    pub(super) connections: i64,
    /// What befalls it every 10 min.
    pub(super) accident: Accident,
    /// Where it has been last.
    pub(super) known: Vec<IpAddr>,
    /// When the next accident comes; none before the first.
    pub(super) next_accident: Option<Timestamp>,
    /// How many there were.
    pub(super) accidents: u32,
}

impl Bot {
    /// One that delivers so many a day, .86 of them to destinations that are new to it (100 connections to
    /// 86 servers in a capture of Emotet), and of which 30 % fail.
    pub(super) fn new(daily: f64) -> Self {
        Self {
            daily,
            new: 0.86,
            luck: Luck::Failing(0.3),
            connections: 1,
            accident: Accident::None,
            known: Vec::new(),
            next_accident: None,
            accidents: 0,
        }
    }

    /// The same, with its rate by the minute.
    pub(super) fn per_minute(count: f64) -> Self {
        Self::new(count * 1_440.0)
    }

    /// The same, with its rate by the hour.
    pub(super) fn per_hour(count: f64) -> Self {
        Self::new(count * 24.0)
    }

    fn ending(&self, chance: &mut Chance) -> Ending {
        match self.luck {
            Luck::BlockedUpstream => Ending::Dropped(Schedule::Linux),
            Luck::Failing(share) if chance.is(share) => failed(chance),
            Luck::Failing(_) => answered(chance),
        }
    }

    fn destination(&mut self, time: Timestamp, chance: &mut Chance, plan: &mut Plan) -> IpAddr {
        if !self.known.is_empty() && !chance.is(self.new) {
            return chance.one_of(&self.known);
        }
        let destination = if self.accident.is_v6() {
            chance.server_v6()
        } else {
            chance.server()
        };
        plan.add(time, Deed::Lookup);
        if self.known.len() == REMEMBERED {
            self.known.remove(0);
        }
        self.known.push(destination);
        destination
    }

    /// Plans what befalls it until `until`.
    fn befall(&mut self, from: Timestamp, until: Timestamp, chance: &mut Chance, plan: &mut Plan) {
        let mut next = self.next_accident.unwrap_or(from);
        while next < until {
            self.accident.befall(next, self.accidents, chance, plan);
            self.accidents += 1;
            next = next.plus_micros(ACCIDENTS);
        }
        self.next_accident = Some(next);
    }
}

impl Behaviour for Bot {
    fn plan(&mut self, from: Timestamp, chance: &mut Chance, plan: &mut Plan) -> i64 {
        let gap = chance.gap(self.daily).clamp(1, 30 * DAY);
        if self.accident != Accident::None {
            self.befall(from, from.plus_micros(gap), chance, plan);
        }
        let destination = self.destination(from, chance, plan);
        for connection in 0..self.connections {
            let time = from.plus_micros(connection * BETWEEN);
            plan.add(time, Deed::Connect(destination, self.ending(chance)));
        }
        gap
    }
}
