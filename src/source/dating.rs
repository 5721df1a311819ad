//! From stamps to times, part by part: what a stamp leaves out is told by the parts before it.

use jiff::tz::TimeZone;

use super::part::{LastLine, Part, Undated};
use crate::decode::clock::{Anchor, Eras, RecordClock};
use crate::model::{Clock, Evidence, Timestamp};

/// Dates what the parts of one input hold, in their order.
pub(super) struct Dater {
    eras: Eras,
    clock: RecordClock,
    last_line: LastLine,
}

impl Dater {
    /// For an input tied down by `anchor`, whose stamps without an offset are of `zone`.
    pub(super) fn new(anchor: Anchor, zone: TimeZone) -> Self {
        Self {
            eras: Eras::default(),
            clock: RecordClock::new(anchor, zone),
            last_line: LastLine::None,
        }
    }

    /// An input that grows: what comes next was written up to `now`, which alone tells its year.
    pub(super) fn go_on(&mut self, now: Timestamp) {
        self.eras = Eras::default();
        self.clock.go_on(now);
    }

    /// What comes next is of another input: no repeat is of the last line.
    pub(super) fn forget_last_line(&mut self) {
        self.last_line = LastLine::None;
    }

    /// Hands the evidence of the next part to `take`, each with how good its time is.
    pub(super) fn join(&mut self, part: &Part, mut take: impl FnMut(Evidence, Clock)) {
        let start = self.eras.join(&part.first, &part.eras);
        if let (LastLine::Syn(syn), 1..) = (self.last_line, part.leading_repeats) {
            self.date(syn.repeated(part.leading_repeats), &mut take);
        }
        let absolute = |syn: Undated| Undated {
            era: syn.era.after(start),
            ..syn
        };
        for &syn in &part.evidence {
            self.date(absolute(syn), &mut take);
        }
        match part.last_line {
            LastLine::None => {}
            LastLine::Syn(syn) => self.last_line = LastLine::Syn(absolute(syn)),
            LastLine::Other => self.last_line = LastLine::Other,
        }
    }

    fn date(&mut self, syn: Undated, take: &mut impl FnMut(Evidence, Clock)) {
        let (time, clock) = self.clock.time(&syn.stamp, syn.era);
        let mut evidence = syn.evidence;
        evidence.set_time(time);
        if let Evidence::Syn(observation) = &mut evidence {
            observation.clock = clock;
        }
        take(evidence, clock);
    }
}
