//! The stable shape of a report, `smtpwatch.report.v1`: new fields may come, none goes.

use std::collections::BTreeMap;

use serde::Serialize;

use super::evidence::Evidence;
use super::notes::Notes;
use super::proposals::{self, Proposal};
use crate::engine::{self, Engine, Facts, OutcomeCounts, SourceHealth, Spoofer};
use crate::model::{
    Clock, Confidence, Direction, Finding, Mac, Outcome, Pace, Scope, SourceName, Timestamp,
    Verdict,
};
use crate::settings::{self, Settings};
use crate::source;
use crate::store::Past;

/// The schema's name.
const SCHEMA: &str = "smtpwatch.report.v1";
/// The kind of an input that is the history.
pub(super) const HISTORY: &str = "history";

/// A report.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Which shape this is.
    schema: &'static str,
    /// When it was made (RFC 3339).
    generated_at: String,
    /// The time it is about.
    pub(super) window: Window,
    /// What was read.
    pub(super) inputs: Vec<Input>,
    /// What was counted over all devices.
    pub(super) totals: Totals,
    /// Each device, the worst first.
    pub(super) devices: Vec<ReportDevice>,
    /// The evidence about the device that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<Evidence>,
    /// Stations that used addresses that are not theirs; evidence against nobody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    spoofed: Vec<ReportSpoofer>,
    /// Who should be allowed, as far as traffic tells.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) proposals: Vec<Proposal>,
    /// The line of the configuration that would allow them.
    #[serde(skip)]
    pub(super) proposed: String,
    /// The mail server's part; none where no mail log was read.
    mail: Option<()>,
    /// What limits the answer.
    #[serde(skip)]
    pub(crate) notes: Notes,
    /// Watched ports, as iptables takes them.
    #[serde(skip)]
    pub(super) ports: String,
}

/// The time a report is about: as asked for, else as found (RFC 3339).
#[derive(Debug, Serialize)]
pub(super) struct Window {
    pub(super) since: Option<String>,
    pub(super) until: Option<String>,
}

/// One kind of record in one input.
#[derive(Debug, Serialize)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) bytes: u64,
    /// Records of the kind.
    pub(super) records: u64,
    /// Those that are SYNs to a watched port.
    pub(super) matched: u64,
    /// Lines that are no record, by reason.
    pub(super) skipped: BTreeMap<&'static str, u64>,
    /// `exact`, `approximate` (told from uptimes) or `none`.
    pub(super) clock: &'static str,
    /// Messages that the logger says it lost; live, packets that were not seen.
    pub(super) lost: u64,
    /// Records whose stamp was far off and was replaced.
    pub(super) bad_time: u64,
    /// Whether it was watched as it happened.
    #[serde(skip)]
    pub(super) is_live: bool,
}

/// What was counted over all devices.
#[derive(Debug, Serialize)]
pub(super) struct Totals {
    pub(super) syns: u64,
    pub(super) attempts: u64,
    pub(super) devices: u64,
    pub(super) infected: u64,
    pub(super) suspicious: u64,
    /// Attempts by direction; those that were not asked for are counted here alone.
    pub(super) directions: BTreeMap<String, Count>,
    /// What came from addresses that are not the sender's own; in no direction.
    #[serde(skip_serializing_if = "Option::is_none")]
    spoofed: Option<Count>,
    /// Records that came too late to be put in order.
    late: u64,
    /// Records outside the time asked for.
    pub(super) outside_window: u64,
    /// Attempts without a time of their own: counted, not judged.
    unjudged: u64,
    /// Devices forgotten because there were too many.
    evicted_devices: u64,
    /// Attempts forgotten while their SYNs could still be repeated.
    evicted_attempts: u64,
    /// Answers that came before their SYN, and for which there was no room.
    evicted_responses: u64,
    /// Questions for mail servers (MX) that inside addresses asked.
    mail_lookups: u64,
    /// Those for which there was no room until their device was seen.
    evicted_lookups: u64,
    /// How often there was no room for a destination group that is one service with others.
    unmerged_groups: u64,
}

/// Packets and attempts.
#[derive(Debug, Serialize)]
pub(super) struct Count {
    syns: u64,
    pub(super) attempts: u64,
}

/// A station whose addresses are not its own.
#[derive(Debug, Serialize)]
struct ReportSpoofer {
    interface: String,
    /// Of its frames; it may be forged, too.
    mac: Option<String>,
    reason: String,
    /// The address that it used last.
    address: String,
    syns: u64,
    attempts: u64,
    first_seen: String,
    last_seen: String,
}

/// A device.
#[derive(Debug, Serialize)]
pub(super) struct ReportDevice {
    pub(super) id: String,
    pub(super) mac: Option<String>,
    pub(super) addresses: Vec<String>,
    pub(super) hostname: Option<String>,
    pub(super) vendor: Option<String>,
    /// Whether its MAC was made up, so that it has no maker and may change.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) mac_randomised: bool,
    pub(super) interface: Option<String>,
    pub(super) basis: String,
    /// MAC of the router that it is behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    router: Option<String>,
    /// Whether several machines stand behind its MAC.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    shared: bool,
    pub(super) syns: u64,
    pub(super) attempts: u64,
    pub(super) destinations: usize,
    pub(super) destination_groups: usize,
    /// Whether there are more destinations than were counted.
    pub(super) destinations_capped: bool,
    pub(super) outcomes: Outcomes,
    /// Attempts whose handshake the device completed.
    pub(super) completed: u64,
    /// Bytes that it sent in its connections, and received, where anybody told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes_toserver: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes_toclient: Option<u64>,
    /// Questions for mail servers (MX) that it asked.
    #[serde(skip_serializing_if = "is_zero")]
    mail_lookups: u64,
    pub(super) first_seen: String,
    pub(super) last_seen: String,
    pub(super) peak_per_minute: u64,
    #[serde(serialize_with = "as_text")]
    pub(super) verdict: Verdict,
    pub(super) because: String,
    /// The attempts by watched port.
    pub(super) ports: Vec<PortCount>,
    /// That it receives mail from outside, as a mail server does.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<ReportRole>,
    findings: Vec<ReportFinding>,
    top_destinations: Vec<Destination>,
}

/// Attempts to a port.
#[derive(Debug, Serialize)]
pub(super) struct PortCount {
    pub(super) port: u16,
    pub(super) attempts: u64,
}

/// A mail server's role, as far as traffic tells.
#[derive(Debug, Serialize)]
struct ReportRole {
    /// Outside networks that it receives mail from; 8 stands for as many or more.
    networks: usize,
    days: u32,
    /// Whether that was known before anything was found about it.
    before_findings: bool,
}

/// How attempts ended; a log of SYNs cannot tell.
#[derive(Debug, Serialize)]
pub(super) struct Outcomes {
    pub(super) answered: u64,
    pub(super) refused: u64,
    pub(super) unreachable: u64,
    pub(super) unanswered: u64,
    pub(super) held: u64,
    pub(super) unknown: u64,
}

impl Outcomes {
    fn new(counts: &OutcomeCounts) -> Self {
        Self {
            answered: counts.get(Outcome::Answered),
            refused: counts.get(Outcome::Refused),
            unreachable: counts.get(Outcome::Unreachable),
            unanswered: counts.get(Outcome::Unanswered),
            held: counts.get(Outcome::Held),
            unknown: counts.get(Outcome::Unknown),
        }
    }

    /// Whether it is known of any attempt how it ended.
    pub(super) fn is_known(&self) -> bool {
        self.answered + self.refused + self.unreachable + self.unanswered + self.held > 0
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ReportFinding {
    detector: String,
    score: f64,
    threshold: f64,
    pub(super) at: String,
    at_attempt: u64,
    confidence: Confidence,
    new_groups: u32,
    mail_lookups: u32,
    pace: Option<Pace>,
}

#[derive(Debug, Serialize)]
struct Destination {
    address: String,
    attempts: u64,
}

/// What a report is made of, whoever knows it.
struct Known<'a, D> {
    devices: D,
    settings: &'a Settings,
    spoofed: Vec<ReportSpoofer>,
    /// Devices that are counted and can no longer be told of.
    forgotten: u64,
    totals: engine::Totals,
    scope: Scope,
    window: settings::Window,
    ports: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde hands it over")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn as_text<S: serde::Serializer>(value: &Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl Report {
    /// The report of what `engine` knows, read from inputs with these `outcomes`; `top` destinations
    /// a device.
    pub(crate) fn new(
        engine: &Engine,
        outcomes: &[source::Outcome],
        generated_at: Timestamp,
        top: usize,
    ) -> Self {
        let settings = engine.settings();
        let mut totals = engine.totals();
        totals.span = totals
            .span
            .map(|(first, last)| (engine.wall(first), engine.wall(last)));
        let live = engine.health().sources().iter().map(Input::live);
        let inputs = outcomes.iter().map(Input::new).chain(live);
        Self::of(
            Known {
                devices: engine
                    .devices()
                    .map(|(_, device)| engine.facts(device, top)),
                spoofed: spoofed(engine),
                forgotten: totals.evicted_devices,
                totals,
                scope: settings.scope,
                window: settings.window,
                ports: settings.ports.to_string(),
                settings,
            },
            inputs.collect(),
            Notes::new(engine, outcomes),
            generated_at,
        )
    }

    /// The report of what the history holds; `settings` say who is allowed now.
    pub(crate) fn of_past(mut past: Past, settings: &Settings, generated_at: Timestamp) -> Self {
        past.devices.iter_mut().for_each(|it| it.allow(settings));
        let inputs = vec![Input::of_past(&past)];
        let notes = Notes::of_past(&past, generated_at);
        Self::of(
            Known {
                devices: past.devices.into_iter(),
                spoofed: Vec::new(),
                forgotten: 0,
                totals: past.totals,
                scope: Scope::Outbound,
                window: past.window,
                ports: past.ports.to_string(),
                settings,
            },
            inputs,
            notes,
            generated_at,
        )
    }

    fn of(
        known: Known<'_, impl Iterator<Item = Facts>>,
        inputs: Vec<Input>,
        notes: Notes,
        generated_at: Timestamp,
    ) -> Self {
        let mut proposals = Vec::new();
        let mut devices: Vec<ReportDevice> = known
            .devices
            .map(|facts| {
                let receiver = facts.receiver();
                proposals.extend(receiver.and_then(|it| Proposal::of(it, known.settings)));
                ReportDevice::new(facts)
            })
            .collect();
        proposals.sort();
        devices.sort_by(|a, b| {
            (b.verdict, b.attempts, b.syns)
                .cmp(&(a.verdict, a.attempts, a.syns))
                .then_with(|| a.id.cmp(&b.id))
        });
        let totals = Totals::new(&known.totals, known.scope, known.forgotten, &devices);
        let asked = known.window;
        let span = known.totals.span;
        Self {
            schema: SCHEMA,
            generated_at: generated_at.to_string(),
            window: Window {
                since: asked
                    .since
                    .or(span.map(|(first, _)| first))
                    .map(|t| t.to_string()),
                until: asked
                    .until
                    .or(span.map(|(_, last)| last))
                    .map(|t| t.to_string()),
            },
            inputs,
            totals,
            devices,
            device: None,
            spoofed: known.spoofed,
            proposed: proposals::line(&proposals, known.settings),
            proposals,
            mail: None,
            notes,
            ports: known.ports,
        }
    }
}

impl Input {
    fn new(outcome: &source::Outcome) -> Self {
        Self {
            name: outcome.name.clone(),
            kind: outcome.kind,
            bytes: outcome.bytes,
            records: outcome.records,
            matched: outcome.matched,
            skipped: outcome.skipped.clone(),
            clock: match outcome.clock {
                Clock::Exact => "exact",
                Clock::Approximate => "approximate",
                Clock::None => "none",
            },
            lost: outcome.lost,
            bad_time: outcome.bad_time,
            is_live: false,
        }
    }

    /// A source of a live run.
    fn live(source: &SourceHealth) -> Self {
        Self {
            name: source.source.to_string(),
            kind: match source.source {
                SourceName::Nflog => "nflog",
                SourceName::Kmsg => "kmsg",
                SourceName::Capture(_) => "capture",
                SourceName::Conntrack => "conntrack",
                SourceName::Journal | SourceName::File(_) => "netfilter",
            },
            bytes: 0,
            records: source.events,
            matched: source.events,
            skipped: BTreeMap::new(),
            clock: "exact",
            lost: source.missed(),
            bad_time: 0,
            is_live: true,
        }
    }

    fn of_past(past: &Past) -> Self {
        Self {
            name: past.name.clone(),
            kind: HISTORY,
            bytes: past.bytes,
            records: past.rows,
            matched: past.matched,
            skipped: BTreeMap::new(),
            clock: "exact",
            lost: past.lost.iter().map(|lost| lost.events).sum(),
            bad_time: 0,
            is_live: false,
        }
    }
}

impl Totals {
    fn new(
        totals: &engine::Totals,
        scope: Scope,
        forgotten: u64,
        devices: &[ReportDevice],
    ) -> Self {
        let asked = || {
            Direction::ALL
                .into_iter()
                .filter(|&direction| scope.holds(direction))
        };
        let having = |verdict| devices.iter().filter(|d| d.verdict == verdict).count() as u64;
        Self {
            syns: asked()
                .map(|direction| totals.direction(direction).syns)
                .sum(),
            attempts: asked()
                .map(|direction| totals.direction(direction).attempts)
                .sum(),
            devices: devices.len() as u64 + forgotten,
            infected: having(Verdict::Infected),
            suspicious: having(Verdict::Suspicious),
            directions: Direction::ALL
                .into_iter()
                .map(|direction| {
                    let count = totals.direction(direction);
                    let count = Count {
                        syns: count.syns,
                        attempts: count.attempts,
                    };
                    (direction.to_string(), count)
                })
                .collect(),
            spoofed: (totals.spoofed.syns > 0).then_some(Count {
                syns: totals.spoofed.syns,
                attempts: totals.spoofed.attempts,
            }),
            late: totals.late,
            outside_window: totals.outside_window,
            unjudged: totals.unjudged,
            evicted_devices: totals.evicted_devices,
            evicted_attempts: totals.evicted_attempts,
            evicted_responses: totals.evicted_responses,
            mail_lookups: totals.mail_lookups,
            evicted_lookups: totals.evicted_lookups,
            unmerged_groups: totals.unmerged_groups,
        }
    }
}

impl ReportDevice {
    fn new(device: Facts) -> Self {
        Self {
            verdict: device.verdict(),
            because: device.because(),
            router: device.router().map(|mac| mac.to_string()),
            mac: device.mac.map(|mac| mac.to_string()),
            addresses: device
                .addresses
                .iter()
                .rev()
                .map(ToString::to_string)
                .collect(),
            hostname: device.hostname,
            vendor: device.vendor,
            mac_randomised: device.mac.is_some_and(Mac::is_randomised),
            interface: device.interface,
            basis: device.basis,
            shared: device.is_shared,
            syns: device.syns,
            attempts: device.attempts,
            destinations: device.destinations.addresses,
            destination_groups: device.destinations.groups,
            destinations_capped: device.destinations.is_lower_bound,
            outcomes: Outcomes::new(&device.outcomes),
            completed: device.completed,
            bytes_toserver: device.bytes.map(|(sent, _)| sent),
            bytes_toclient: device.bytes.map(|(_, received)| received),
            mail_lookups: device.mail_lookups,
            first_seen: device.first_seen.to_string(),
            last_seen: device.last_seen.to_string(),
            peak_per_minute: device.peak_per_minute,
            ports: device
                .ports
                .into_iter()
                .map(|(port, attempts)| PortCount { port, attempts })
                .collect(),
            role: device.role.map(|role| ReportRole {
                networks: role.networks,
                days: role.days,
                before_findings: role.is_early,
            }),
            findings: device.findings.iter().map(ReportFinding::new).collect(),
            top_destinations: device
                .top_destinations
                .into_iter()
                .map(|(address, attempts)| Destination {
                    address: address.to_string(),
                    attempts,
                })
                .collect(),
            id: device.id,
        }
    }
}

/// Those that sent most first.
fn spoofed(engine: &Engine) -> Vec<ReportSpoofer> {
    let mut all: Vec<&Spoofer> = engine.spoofed().iter().collect();
    all.sort_by_key(|it| {
        let key = (it.interface, it.mac, it.reason);
        (std::cmp::Reverse(it.count.syns), key)
    });
    all.into_iter()
        .map(|it| ReportSpoofer {
            interface: it.interface.to_string(),
            mac: it.mac.map(|mac| mac.to_string()),
            reason: it.reason.to_string(),
            address: it.address.to_string(),
            syns: it.count.syns,
            attempts: it.count.attempts,
            first_seen: engine.wall(it.first_seen).to_string(),
            last_seen: engine.wall(it.last_seen).to_string(),
        })
        .collect()
}

impl ReportDevice {
    /// Its latest address.
    pub(super) fn address(&self) -> &str {
        self.addresses.first().unwrap_or(&self.id)
    }

    /// What it is called in a few words: its address, and its name where it has one.
    pub(super) fn called(&self) -> String {
        match &self.hostname {
            Some(name) => format!("{} ({name})", self.address()),
            None => self.address().to_owned(),
        }
    }
}

impl ReportFinding {
    /// In a few words: who says so, and by what.
    pub(super) fn told(&self) -> String {
        let clock = self
            .pace
            .map_or_else(String::new, |pace| format!(" ({pace})"));
        format!(
            "{}{clock}: score {:.1} >= {:.1} at attempt {}; confidence {}",
            self.detector, self.score, self.threshold, self.at_attempt, self.confidence
        )
    }

    pub(super) fn new(finding: &Finding) -> Self {
        Self {
            detector: finding.detector.to_string(),
            score: finding.score,
            threshold: finding.threshold,
            at: finding.at.to_string(),
            at_attempt: finding.at_attempt,
            confidence: finding.detector.confidence(),
            new_groups: finding.new_groups,
            mail_lookups: finding.mail_lookups,
            pace: finding.pace,
        }
    }
}

#[cfg(test)]
mod tests;
