//! How well the sources of a live run see: what arrived, what was lost, and whether packets that
//! their rule matched stay away. Knows nothing of packets themselves.

use std::collections::BTreeMap;

use crate::model::{LossKind, Notice, SourceName};

/// The sources of a live run, in the order in which they were first heard of, and the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    sources: Vec<SourceHealth>,
    rules: RulesHealth,
}

/// What is known of the rules that feed the sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RulesHealth {
    /// How often they were taken away or changed.
    pub taken: u64,
    /// Whether they are away now.
    pub are_gone: bool,
    /// Microseconds without them, where they came back.
    pub away_micros: i64,
}

/// What is known of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceHealth {
    /// Which.
    pub source: SourceName,
    /// Whether it works now.
    pub is_open: bool,
    /// Observations that arrived.
    pub events: u64,
    /// Packets that the rule which feeds it has matched; none where there is no such rule.
    pub matched: Option<u64>,
    /// What was lost on the way, by how.
    pub lost: BTreeMap<LossKind, u64>,
    /// Packets that the rule matched, that did not arrive, and that no loss explains.
    pub unseen: u64,
    /// Whether packets stay away now.
    pub is_blind: bool,
    /// Whether it stopped working at some time.
    pub has_failed: bool,
    /// What had arrived at the last reading of the rule's counter.
    arrived_before: u64,
}

impl SourceHealth {
    fn new(source: SourceName) -> Self {
        Self {
            source,
            is_open: false,
            events: 0,
            matched: None,
            lost: BTreeMap::new(),
            unseen: 0,
            is_blind: false,
            has_failed: false,
            arrived_before: 0,
        }
    }

    /// Packets that the rule's counter must have seen, for they arrived, or are known to be lost.
    fn explained(&self) -> u64 {
        let known: u64 = self.lost.values().sum();
        // A loss by the rules' absence is of packets that no counter has seen; what could not be
        // decoded has arrived.
        let uncounted = [LossKind::RulesGone, LossKind::Undecoded].map(|kind| self.lost.get(&kind));
        let uncounted: u64 = uncounted.into_iter().flatten().sum();
        self.events.saturating_add(known - uncounted)
    }

    /// All that was lost, explained or not.
    pub fn missed(&self) -> u64 {
        self.lost.values().sum::<u64>().saturating_add(self.unseen)
    }
}

impl Health {
    /// The sources.
    pub fn sources(&self) -> &[SourceHealth] {
        &self.sources
    }

    /// The rules.
    pub fn rules(&self) -> RulesHealth {
        self.rules
    }

    fn of(&mut self, source: &SourceName) -> &mut SourceHealth {
        let known = self.sources.iter().position(|own| own.source == *source);
        let place = known.unwrap_or_else(|| {
            self.sources.push(SourceHealth::new(source.clone()));
            self.sources.len() - 1
        });
        &mut self.sources[place]
    }

    pub(super) fn lost(&mut self, source: &SourceName, kind: LossKind, events: u64) {
        let lost = self.of(source).lost.entry(kind).or_default();
        *lost = lost.saturating_add(events);
    }

    pub(super) fn arrived(&mut self, source: &SourceName, events: u64) {
        let own = self.of(source);
        own.events = own.events.saturating_add(events);
    }

    /// Takes a reading of the rule's counter. What it had matched by the reading before has had time
    /// to arrive; answers whether that changed what is thought of the source.
    pub(super) fn matched(&mut self, source: &SourceName, packets: u64) -> Option<Notice> {
        let own = self.of(source);
        let before = own.matched.unwrap_or(0);
        own.matched = Some(before.saturating_add(packets));
        let unseen = before.saturating_sub(own.explained());
        let grown = unseen.saturating_sub(own.unseen);
        // A gap in the numbers may explain later what stayed away.
        own.unseen = unseen;
        let has_arrived = own.events > own.arrived_before;
        own.arrived_before = own.events;
        match (grown > 0, own.is_blind) {
            (true, false) => {
                own.is_blind = true;
                let packets = grown;
                Some(Notice::Blind {
                    source: source.clone(),
                    packets,
                })
            }
            // Where there is nothing to see, nobody knows who sees.
            (false, true) if has_arrived => {
                own.is_blind = false;
                Some(Notice::Sees {
                    source: source.clone(),
                })
            }
            _ => None,
        }
    }

    pub(super) fn note(&mut self, notice: &Notice) {
        match notice {
            Notice::SourceReady { source } => self.of(source).is_open = true,
            Notice::SourceFailed { source, .. } => {
                let own = self.of(source);
                own.is_open = false;
                own.has_failed = true;
            }
            Notice::RulesGone { .. } => {
                self.rules.taken += 1;
                self.rules.are_gone = true;
            }
            Notice::RulesLost { .. } => self.rules.are_gone = true,
            Notice::RulesRestored { after_micros } => self.restored(*after_micros),
            _ => {}
        }
    }

    /// The rules count from 0 again. What they had counted since they were read last, nobody knows;
    /// what arrived of it must not stand for packets that the new ones count.
    fn restored(&mut self, after_micros: i64) {
        self.rules.are_gone = false;
        self.rules.away_micros = self.rules.away_micros.saturating_add(after_micros);
        for own in &mut self.sources {
            own.matched = own.matched.map(|matched| matched.max(own.explained()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: SourceName = SourceName::Nflog;

    #[test]
    fn packets_on_their_way_are_not_unseen() {
        let mut health = Health::default();
        assert_eq!(health.matched(&SOURCE, 100), None);
        health.arrived(&SOURCE, 100);
        assert_eq!(health.matched(&SOURCE, 50), None);
        assert_eq!(health.sources()[0].unseen, 0);
    }

    #[test]
    fn blind_is_said_once_and_so_is_its_end() {
        let mut health = Health::default();
        let packets = 10;
        assert_eq!(health.matched(&SOURCE, packets), None);
        let blind = Notice::Blind {
            source: SOURCE,
            packets,
        };
        assert_eq!(health.matched(&SOURCE, 5), Some(blind));
        assert_eq!(health.matched(&SOURCE, 0), None);
        // Nothing was there to be seen.
        assert_eq!(health.matched(&SOURCE, 1), None);
        health.arrived(&SOURCE, 1);
        let sees = Notice::Sees { source: SOURCE };
        assert_eq!(health.matched(&SOURCE, 0), Some(sees));
        let source = &health.sources()[0];
        assert_eq!(
            (source.unseen, source.missed(), source.is_blind),
            (15, 15, false)
        );
    }

    #[test]
    fn a_loss_that_is_known_explains_what_stays_away() {
        let mut health = Health::default();
        health.matched(&SOURCE, 10);
        health.arrived(&SOURCE, 7);
        health.lost(&SOURCE, LossKind::QueueFull, 3);
        assert_eq!(health.matched(&SOURCE, 0), None);
        assert_eq!(health.sources()[0].missed(), 3);
    }

    #[test]
    fn what_passed_while_the_rules_were_gone_explains_nothing() {
        let mut health = Health::default();
        health.lost(&SOURCE, LossKind::RulesGone, 10);
        health.matched(&SOURCE, 10);
        assert!(matches!(
            health.matched(&SOURCE, 0),
            Some(Notice::Blind { packets: 10, .. })
        ));
    }

    #[test]
    fn a_gap_that_is_told_late_is_counted_once() {
        let mut health = Health::default();
        health.matched(&SOURCE, 10);
        health.arrived(&SOURCE, 6);
        assert!(health.matched(&SOURCE, 0).is_some());
        assert_eq!(health.sources()[0].missed(), 4);
        // The next packet's number tells of four that were lost before it.
        health.lost(&SOURCE, LossKind::QueueFull, 4);
        health.arrived(&SOURCE, 1);
        health.matched(&SOURCE, 1);
        health.matched(&SOURCE, 0);
        assert_eq!(health.sources()[0].missed(), 4);
    }

    #[test]
    fn rules_that_count_anew_hide_nothing() {
        let mut health = Health::default();
        health.matched(&SOURCE, 0);
        // Counted by rules that were flushed before anybody read what they had counted.
        health.arrived(&SOURCE, 1000);
        health.note(&Notice::RulesGone { by: None });
        assert!(health.rules().are_gone);
        health.note(&Notice::RulesRestored { after_micros: 50 });
        assert_eq!(health.matched(&SOURCE, 10), None);
        assert!(matches!(
            health.matched(&SOURCE, 0),
            Some(Notice::Blind { packets: 10, .. })
        ));
        let rules = RulesHealth {
            taken: 1,
            are_gone: false,
            away_micros: 50,
        };
        assert_eq!(health.rules(), rules);
    }

    #[test]
    fn what_arrived_and_could_not_be_read_is_explained_once() {
        let mut health = Health::default();
        health.matched(&SOURCE, 4);
        health.arrived(&SOURCE, 2);
        health.lost(&SOURCE, LossKind::Undecoded, 2);
        assert!(matches!(
            health.matched(&SOURCE, 0),
            Some(Notice::Blind { packets: 2, .. })
        ));
    }
}
