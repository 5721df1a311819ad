//! Other programs' detectors, one file each, from their published rules; written anew, by what the rules
//! say. Each sees one source address, and is told at once how a connection ends, which is better than
//! any of them has it.

mod botflex;
mod count;
mod emerging_threats;
mod mikrotik;
mod nemea;
mod ntopng;
mod pf;
mod trw;
mod window;

use super::traffic::{Ending, Syn};
use crate::model::{MICROS_PER_SECOND, Timestamp};

/// A detector that sees one source address.
pub(super) trait Rival {
    /// Takes the next SYN, which was seen at `time`; answers whether it alarms.
    fn alarms(&mut self, time: Timestamp, syn: &Syn) -> bool;

    /// Bytes that it keeps of the source.
    fn bytes(&self) -> usize;
}

/// A rule by name.
pub(crate) struct Rule {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What it says, in a few words.
    pub(crate) what: &'static str,
    make: fn() -> Box<dyn Rival>,
}

impl Rule {
    /// Its state for a source that it has not seen.
    pub(super) fn fresh(&self) -> Box<dyn Rival> {
        (self.make)()
    }
}

const fn rule(name: &'static str, what: &'static str, make: fn() -> Box<dyn Rival>) -> Rule {
    Rule { name, what, make }
}

/// All of them.
pub(crate) static RULES: [Rule; 10] = [
    rule("count-100", "more than 100 log lines a day", || {
        Box::new(count::LogLines::more_than(100))
    }),
    rule("count-500", "more than 500 log lines a day", || {
        Box::new(count::LogLines::more_than(500))
    }),
    rule("mikrotik-30", "more than 30 connections at once", || {
        Box::new(mikrotik::Concurrent::more_than(30))
    }),
    rule("mikrotik-10", "more than 10 connections at once", || {
        Box::new(mikrotik::Concurrent::more_than(10))
    }),
    rule("pf", "max-src-conn-rate 15/5", || {
        Box::new(pf::ConnectionRate::default())
    }),
    rule("et", "10 mails in 60 s", || {
        Box::new(emerging_threats::FrequentMail::default())
    }),
    rule("ntopng", "more than 5 servers in 5 min", || {
        Box::new(ntopng::Contacts::default())
    }),
    rule("nemea", "more than 10 servers in 300 s", || {
        Box::new(nemea::Servers::default())
    }),
    rule("botflex", "more than 20 connections in 5 min", || {
        Box::new(botflex::Connections::default())
    }),
    rule("trw", "threshold random walk on first contacts", || {
        Box::new(trw::RandomWalk::default())
    }),
];

/// Whether `syn` opens an attempt that the server takes.
fn is_answered(syn: &Syn) -> bool {
    syn.number == 0 && matches!(syn.ending, Ending::Answered(_))
}

const fn seconds(count: i64) -> i64 {
    count * MICROS_PER_SECOND
}

#[cfg(test)]
pub(super) mod testing {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    /// A SYN that opens a connection to the server with that number.
    pub(in super::super) fn syn(server: u32, ending: Ending) -> Syn {
        Syn {
            opened: Timestamp::default(),
            destination: IpAddr::V4(Ipv4Addr::from(0x0800_0000 + server * 256)),
            ending,
            port: 40_000,
            isn: server,
            number: 0,
        }
    }

    pub(super) const LONG: Ending = Ending::Answered(3_600_000_000);

    /// The SYN, counted from 1, at which `rival` alarms first.
    pub(super) fn alarm(
        mut rival: impl Rival,
        syns: impl IntoIterator<Item = (i64, Syn)>,
    ) -> Option<usize> {
        let at = Timestamp::from_seconds;
        let mut alarms = syns
            .into_iter()
            .map(|(second, syn)| rival.alarms(at(second), &syn));
        alarms.position(|alarms| alarms).map(|place| place + 1)
    }
}
