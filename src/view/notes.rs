//! What limits an answer, said in notes for standard error, and in the exit status.

use super::notice::{self, millis};
use crate::engine::{Advice, Engine, RulesHealth, SourceHealth, Spoofer, Totals, grouped};
use crate::model::{Direction, MICROS_PER_SECOND, Scope, SourceName, Timestamp, Verdict};
use crate::source::Outcome;
use crate::store::Past;

/// Why packets of a capture stay unseen.
const UNREADABLE: [&str; 2] = ["link type", "truncated"];
/// Why a log of connections tells of none.
const UNREAD_FLOWS: [&str; 7] = [
    "broken Zeek line",
    "broken EVE line",
    "broken ulogd line",
    "columns differ from the header",
    "no header before it",
    "not the fields of a connection",
    "no time, address or port",
];
/// Of many, those that are named.
const SHOWN: usize = 3;
/// Above this share of late records the answer is not to be trusted: one in a hundred.
const MAX_LATE_SHARE: u64 = 100;

/// A running watch notes each minute that it is alive.
const MAX_SILENCE: i64 = 150 * MICROS_PER_SECOND;

/// What limits the answer, for standard error and the exit status.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Notes, ready to print.
    pub(crate) lines: Vec<String>,
    /// Whether the answer is not to be trusted.
    pub(crate) is_blind: bool,
    /// Whether a device is infected.
    pub(crate) is_infected: bool,
}

impl Notes {
    /// What limits the answer that `engine` gives to inputs with these `outcomes`.
    pub(super) fn new(engine: &Engine, outcomes: &[Outcome]) -> Self {
        let totals = engine.totals();
        let mut notes = Self {
            is_infected: engine
                .devices()
                .any(|(_, device)| device.verdict() == Verdict::Infected),
            ..Self::default()
        };
        let counted = totals.observations;
        if is_too_late(totals.late, counted) {
            notes.blind(format!(
                "{} of {counted} records came more than 10 s out of order and were not judged: give the files of one \
                 log together, or each log by itself",
                totals.late
            ));
        }
        if engine.settings().scope != Scope::All
            && let Some(advice) = engine.unclaimed().advice()
        {
            notes.blind(wrong_lan(&advice));
        }
        for outcome in outcomes {
            notes.input(outcome);
        }
        for source in engine.health().sources() {
            notes.source(source);
        }
        notes.rules(engine.health().rules());
        if !outcomes.is_empty() && outcomes.iter().all(|outcome| outcome.records == 0) {
            notes.say(format!(
                "no packet record in what was read; is there a rule that logs? iptables -I FORWARD -p tcp -m multiport \
                 --dports {} --syn -j LOG --log-prefix 'SMTP '",
                engine.settings().ports
            ));
        }
        if totals.unjudged > 0 {
            notes.say(format!(
                "attempts without a time of their own were counted and not judged: {}",
                totals.unjudged
            ));
        }
        if totals.spoofed.syns > 0 {
            notes.say(spoofed(engine));
        }
        for (_, device) in engine
            .devices()
            .filter(|(_, it)| it.is_shared())
            .take(SHOWN)
        {
            notes.say(format!(
                "{}: several machines stand behind this MAC (a NAT or an access point); look there for which one it is",
                device.key
            ));
        }
        if totals.evicted_devices > 0 {
            notes.say(format!(
                "more than {} sources: {} that did least were forgotten (a flood of forged addresses?)",
                engine.settings().limits.devices,
                totals.evicted_devices
            ));
        }
        if totals.evicted_attempts > 0 {
            notes.say(format!(
                "{} attempts were forgotten within 150 s, so SYNs sent again may count as new ones",
                totals.evicted_attempts
            ));
        }
        notes.names(&totals);
        notes
    }

    /// What limits the answer that the history gives: what was not seen while it was written.
    pub(super) fn of_past(past: &Past, now: Timestamp) -> Self {
        let totals = &past.totals;
        let mut notes = Self {
            is_infected: past
                .devices
                .iter()
                .any(|device| device.verdict() == Verdict::Infected),
            ..Self::default()
        };
        let attempts = |direction| totals.direction(direction).attempts;
        let syns = Direction::ALL
            .into_iter()
            .map(|direction| totals.direction(direction).syns)
            .sum();
        if is_too_late(totals.late, syns) {
            notes.blind(format!(
                "{} of {syns} packets came too late to be put in order and were not judged",
                totals.late
            ));
        }
        if attempts(Direction::External) > attempts(Direction::Outbound) {
            notes.blind(format!(
                "{} attempts had neither end in the LAN as it was given to watch, more than the LAN's own ({}): was \
                 --lan right?",
                attempts(Direction::External),
                attempts(Direction::Outbound)
            ));
        }
        for lost in &past.lost {
            notes.blind(format!(
                "{}: {} events were lost ({}); counts are too low",
                lost.source, lost.events, lost.kind
            ));
        }
        let end = past.window.until.map_or(now, |until| until.min(now));
        match past.runs.last() {
            None => notes.blind(format!(
                "{}: smtpwatch watch did not run in the time asked for",
                past.name
            )),
            Some((_, last)) if end.micros_since(*last) > MAX_SILENCE => notes.say(format!(
                "the history ends at {last}: smtpwatch watch did not run since"
            )),
            Some(_) => {}
        }
        if let Some(summed) = past.summed {
            notes.say(format!(
                "what was before {summed} is told from sums by day: of it, destinations are not named and their numbers \
                 are lower bounds"
            ));
        }
        let (blinding, other) = (&past.blinding, past.more_blinding);
        for (time, what) in blinding {
            notes.blind(format!("{time}: {}", notice::sentence(what)));
        }
        if other > 0 {
            notes.blind(format!("and {other} times more that it could not see"));
        }
        if totals.unjudged > 0 {
            notes.say(format!(
                "attempts without a time of their own were counted and not judged: {}",
                totals.unjudged
            ));
        }
        if totals.evicted_devices > 0 {
            notes.say(format!(
                "{} times the device that did least was forgotten and judged anew when it came again (a flood of \
                 forged addresses?)",
                totals.evicted_devices
            ));
        }
        notes.names(totals);
        if past.unreadable > 0 {
            notes.blind(format!(
                "{} rows of the history cannot be read by this version",
                past.unreadable
            ));
        }
        notes
    }

    /// What the DNS told and there was no room for.
    fn names(&mut self, totals: &Totals) {
        if totals.evicted_lookups > 0 {
            self.say(format!(
                "{} questions for mail servers (MX) were forgotten before their device was seen: a bot that asks may be \
                 found later",
                totals.evicted_lookups
            ));
        }
        if totals.unmerged_groups > 0 {
            self.say(format!(
                "{} times there was no room to note that the DNS names a destination group as one service with others: \
                 it counts as a service of its own",
                totals.unmerged_groups
            ));
        }
    }

    /// A source of a live run.
    fn source(&mut self, source: &SourceHealth) {
        let name = &source.source;
        let mut how: Vec<String> = source
            .lost
            .iter()
            .map(|(kind, events)| format!("{kind} {}", grouped(*events)))
            .collect();
        if source.unseen > 0 {
            how.push(format!(
                "matched by the rule and never read {}",
                grouped(source.unseen)
            ));
        }
        if !how.is_empty() {
            self.blind(format!(
                "{name}: {} packets were not seen ({}); counts are too low",
                grouped(source.missed()),
                how.join(", ")
            ));
        }
        let is_fed_by_rules = matches!(name, SourceName::Nflog | SourceName::Kmsg);
        if source.events == 0 && source.matched.is_none() && is_fed_by_rules {
            self.say(format!(
                "{name}: nothing arrived, and no rule of ours feeds it: is there another's?"
            ));
        }
        if !source.is_open {
            self.blind(format!("{name}: did not work at the end"));
        } else if source.has_failed {
            self.blind(format!(
                "{name}: did not work for a while; counts may be too low"
            ));
        }
    }

    /// How long a live run was without its rules.
    fn rules(&mut self, rules: RulesHealth) {
        if rules.are_gone {
            self.blind(
                "our rules were taken away and were not there at the end; counts are too low"
                    .to_owned(),
            );
        } else if rules.taken > 0 {
            self.blind(format!(
                "our rules were taken away {}, and put back after {} in all; counts may be too low",
                times(rules.taken),
                millis(rules.away_micros)
            ));
        }
    }

    fn input(&mut self, outcome: &Outcome) {
        let name = &outcome.name;
        if outcome.lost > 0 {
            self.blind(format!(
                "{name}: the logger says that it lost {} kernel messages; counts are too low",
                outcome.lost
            ));
        }
        if outcome.bad_time > 0 {
            self.say(format!(
                "{name}: {} records had a time far from their neighbours' and took the one before",
                outcome.bad_time
            ));
        }
        let unreadable: u64 = UNREADABLE
            .iter()
            .filter_map(|reason| outcome.skipped.get(reason))
            .sum();
        if outcome.kind == "pcap" && unreadable * 2 > outcome.records {
            self.blind(format!(
                "{name}: {unreadable} of {} packets cannot be read: cut too short, or of a link type that is not known",
                outcome.records
            ));
        }
        let unread: u64 = UNREAD_FLOWS
            .iter()
            .filter_map(|reason| outcome.skipped.get(reason))
            .sum();
        if unread > 0 {
            let reasons = UNREAD_FLOWS.iter().filter_map(|reason| {
                let count = outcome.skipped.get(reason)?;
                Some(format!("{reason} {count}"))
            });
            let reasons: Vec<String> = reasons.collect();
            self.is_blind |= unread > outcome.records;
            self.say(format!(
                "{name}: lines that cannot be read as connections: {unread} ({}), that can: {}; smtpwatch explain tells \
                 why, line by line",
                reasons.join(", "),
                outcome.records
            ));
        }
        for (tag, count) in &outcome.foreign {
            self.foreign(name, &String::from_utf8_lossy(tag), *count);
        }
    }

    /// Lines that look like records under another program's tag. The tag is anybody's text, and
    /// what is proposed will be pasted into a root shell.
    fn foreign(&mut self, name: &str, tag: &str, count: u64) {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-/".contains(&b);
        let proposal = if !tag.is_empty() && !tag.starts_with('-') && tag.bytes().all(is_plain) {
            format!("; if your logger writes the kernel's messages under this tag: --tag {tag}")
        } else {
            String::new()
        };
        let lines = if count == 1 {
            "1 line looks like a packet record".to_owned()
        } else {
            format!("{count} lines look like packet records")
        };
        self.say(format!(
            "{name}: {lines}, but bear the tag {tag:?}; only the kernel's own count{proposal}"
        ));
    }

    fn say(&mut self, line: String) {
        self.lines.push(line);
    }

    fn blind(&mut self, line: String) {
        self.is_blind = true;
        self.say(line);
    }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        more => format!("{more} times"),
    }
}

fn is_too_late(late: u64, counted: u64) -> bool {
    late.saturating_mul(MAX_LATE_SHARE) > counted
}

/// Who uses addresses that are not his, those that do it most.
fn spoofed(engine: &Engine) -> String {
    let mut all: Vec<&Spoofer> = engine.spoofed().iter().collect();
    all.sort_by_key(|it| {
        let key = (it.interface, it.mac, it.reason);
        (std::cmp::Reverse(it.count.syns), key)
    });
    let shown: Vec<String> = all
        .iter()
        .take(SHOWN)
        .map(|it| {
            let mac = it.mac.map(|mac| format!("/{mac}")).unwrap_or_default();
            format!("{}{mac} as {}: {}", it.interface, it.address, it.reason)
        })
        .collect();
    format!(
        "{} SYNs bore addresses that are not their sender's, and count against nobody ({}{})",
        engine.totals().spoofed.syns,
        shown.join("; "),
        if all.len() > SHOWN { "; ..." } else { "" },
    )
}

fn wrong_lan(advice: &Advice) -> String {
    let join = |items: Vec<String>, flag: &str| -> String {
        items.iter().map(|item| format!(" {flag} {item}")).collect()
    };
    let flags = if advice.gateway.is_empty() {
        join(
            advice.lan.iter().map(ToString::to_string).collect(),
            "--lan",
        )
    } else {
        join(
            advice.gateway.iter().map(ToString::to_string).collect(),
            "--gateway",
        )
    };
    format!(
        "more sources are outside the known LAN ({}) than inside ({}): if they are yours, try again with{flags} (or \
         with --direction all, to count every source)",
        advice.outside, advice.inside
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_dns_told_and_was_forgotten_is_said_and_blinds_nobody() {
        let mut notes = Notes::default();
        let mut totals = Totals::default();
        totals.mail_lookups = 7;
        notes.names(&totals);
        assert!(notes.lines.is_empty());
        totals.evicted_lookups = 41;
        totals.unmerged_groups = 1_203;
        notes.names(&totals);
        assert!(!notes.is_blind);
        assert_eq!(notes.lines.len(), 2);
        assert!(notes.lines[0].contains("41 questions") && notes.lines[1].contains("1203 times"));
    }
}
