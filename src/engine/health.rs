//! How well the sources of a live run see: what arrived, what was lost, and whether packets that
//! their rule matched stay away. Knows nothing of packets themselves.

use std::collections::BTreeMap;

use crate::model::{LossKind, Notice, SourceName};

/// The sources of a live run, in the order in which they were first heard of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    sources: Vec<SourceHealth>,
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
        }
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

    fn of(&mut self, source: SourceName) -> &mut SourceHealth {
        let known = self.sources.iter().position(|own| own.source == source);
        let place = known.unwrap_or_else(|| {
            self.sources.push(SourceHealth::new(source));
            self.sources.len() - 1
        });
        &mut self.sources[place]
    }

    pub(super) fn lost(&mut self, source: SourceName, kind: LossKind, events: u64) {
        let lost = self.of(source).lost.entry(kind).or_default();
        *lost = lost.saturating_add(events);
    }

    pub(super) fn arrived(&mut self, source: SourceName, events: u64) {
        let own = self.of(source);
        own.events = own.events.saturating_add(events);
    }

    /// Takes a reading of the rule's counter. What it had matched by the reading before has had time
    /// to arrive; answers whether that changed what is thought of the source.
    pub(super) fn matched(&mut self, source: SourceName, packets: u64) -> Option<Notice> {
        let own = self.of(source);
        let before = own.matched.unwrap_or(0);
        own.matched = Some(before.saturating_add(packets));
        let known: u64 = own.lost.values().sum();
        // A loss by the rules' absence is of packets that no counter has seen.
        let uncounted = own.lost.get(&LossKind::RulesGone).unwrap_or(&0);
        let explained = own.events.saturating_add(known - uncounted);
        let unseen = before.saturating_sub(explained);
        let grown = unseen.saturating_sub(own.unseen);
        own.unseen = own.unseen.max(unseen);
        match (grown > 0, own.is_blind) {
            (true, false) => {
                own.is_blind = true;
                let packets = grown;
                Some(Notice::Blind { source, packets })
            }
            (false, true) => {
                own.is_blind = false;
                Some(Notice::Sees { source })
            }
            _ => None,
        }
    }

    pub(super) fn note(&mut self, notice: &Notice) {
        match *notice {
            Notice::SourceReady { source } => self.of(source).is_open = true,
            Notice::SourceFailed { source, .. } => self.of(source).is_open = false,
            _ => {}
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
        assert_eq!(health.matched(SOURCE, 100), None);
        health.arrived(SOURCE, 100);
        assert_eq!(health.matched(SOURCE, 50), None);
        assert_eq!(health.sources()[0].unseen, 0);
    }

    #[test]
    fn blind_is_said_once_and_so_is_its_end() {
        let mut health = Health::default();
        let packets = 10;
        assert_eq!(health.matched(SOURCE, packets), None);
        let blind = Notice::Blind {
            source: SOURCE,
            packets,
        };
        assert_eq!(health.matched(SOURCE, 5), Some(blind));
        assert_eq!(health.matched(SOURCE, 0), None);
        let sees = Notice::Sees { source: SOURCE };
        assert_eq!(health.matched(SOURCE, 0), Some(sees));
        let source = &health.sources()[0];
        assert_eq!(
            (source.unseen, source.missed(), source.is_blind),
            (15, 15, false)
        );
    }

    #[test]
    fn a_loss_that_is_known_explains_what_stays_away() {
        let mut health = Health::default();
        health.matched(SOURCE, 10);
        health.arrived(SOURCE, 7);
        health.lost(SOURCE, LossKind::QueueFull, 3);
        assert_eq!(health.matched(SOURCE, 0), None);
        assert_eq!(health.sources()[0].missed(), 3);
    }

    #[test]
    fn what_passed_while_the_rules_were_gone_explains_nothing() {
        let mut health = Health::default();
        health.lost(SOURCE, LossKind::RulesGone, 10);
        health.matched(SOURCE, 10);
        assert!(matches!(
            health.matched(SOURCE, 0),
            Some(Notice::Blind { packets: 10, .. })
        ));
    }
}
