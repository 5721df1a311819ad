//! The stable shape of a report, `smtpwatch.report.v1`: new fields may come, none goes.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::engine::{Advice, Device, Engine, because};
use crate::model::{Clock, DeviceBasis, Direction, Finding, Scope, Timestamp, Verdict};
use crate::settings::Settings;
use crate::source::Outcome;

/// The schema's name.
const SCHEMA: &str = "smtpwatch.report.v1";
/// Why packets of a capture stay unseen.
const UNREADABLE: [&str; 2] = ["link type", "truncated"];
/// Above this share of late records the answer is not to be trusted: one in a hundred.
const MAX_LATE_SHARE: u64 = 100;

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
    /// Messages that the logger says it lost.
    pub(super) lost: u64,
    /// Records whose stamp was far off and was replaced.
    pub(super) bad_time: u64,
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
}

/// Packets and attempts.
#[derive(Debug, Serialize)]
pub(super) struct Count {
    syns: u64,
    pub(super) attempts: u64,
}

/// A device.
#[derive(Debug, Serialize)]
pub(super) struct ReportDevice {
    pub(super) id: String,
    pub(super) mac: Option<String>,
    pub(super) addresses: Vec<String>,
    pub(super) hostname: Option<String>,
    vendor: Option<String>,
    pub(super) interface: Option<String>,
    pub(super) basis: String,
    pub(super) syns: u64,
    pub(super) attempts: u64,
    pub(super) destinations: usize,
    pub(super) destination_groups: usize,
    /// Whether there are more destinations than were counted.
    pub(super) destinations_capped: bool,
    outcomes: Outcomes,
    pub(super) first_seen: String,
    pub(super) last_seen: String,
    pub(super) peak_per_minute: u64,
    #[serde(serialize_with = "as_text")]
    pub(super) verdict: Verdict,
    pub(super) because: String,
    findings: Vec<ReportFinding>,
    top_destinations: Vec<Destination>,
}

/// How attempts ended; a log of SYNs cannot tell.
#[derive(Debug, Default, Serialize)]
struct Outcomes {
    answered: u64,
    refused: u64,
    unreachable: u64,
    unanswered: u64,
    held: u64,
    unknown: u64,
}

#[derive(Debug, Serialize)]
struct ReportFinding {
    detector: String,
    score: f64,
    threshold: f64,
    at: String,
    at_attempt: u64,
}

#[derive(Debug, Serialize)]
struct Destination {
    address: String,
    attempts: u64,
}

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

fn as_text<S: serde::Serializer>(value: &Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl Report {
    /// The report of what `engine` knows, read from inputs with these `outcomes`; `top` destinations
    /// a device.
    pub(crate) fn new(
        engine: &Engine,
        outcomes: &[Outcome],
        generated_at: Timestamp,
        top: usize,
    ) -> Self {
        let mut devices: Vec<ReportDevice> = engine
            .devices()
            .map(|(_, device)| ReportDevice::new(device, top))
            .collect();
        devices.sort_by(|a, b| {
            (b.verdict, b.attempts, b.syns)
                .cmp(&(a.verdict, a.attempts, a.syns))
                .then_with(|| a.id.cmp(&b.id))
        });
        let totals = Totals::new(engine, &devices);
        let notes = Notes::new(engine, outcomes, &totals);
        let asked = engine.settings().window;
        let span = engine.totals().span;
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
            inputs: outcomes.iter().map(Input::new).collect(),
            totals,
            devices,
            mail: None,
            notes,
            ports: ports(engine.settings()),
        }
    }
}

impl Input {
    fn new(outcome: &Outcome) -> Self {
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
        }
    }
}

impl Totals {
    fn new(engine: &Engine, devices: &[ReportDevice]) -> Self {
        let totals = engine.totals();
        let scope = engine.settings().scope;
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
            devices: devices.len() as u64 + totals.evicted_devices,
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
            late: totals.late,
            outside_window: totals.outside_window,
            unjudged: totals.unjudged,
            evicted_devices: totals.evicted_devices,
            evicted_attempts: totals.evicted_attempts,
        }
    }
}

impl ReportDevice {
    fn new(device: &Device, top: usize) -> Self {
        let mac = device.mac().map(|mac| mac.to_string());
        let destinations = device.destinations();
        Self {
            id: device.key.to_string(),
            addresses: device
                .addresses
                .iter()
                .rev()
                .map(ToString::to_string)
                .collect(),
            hostname: device.hostname.clone(),
            vendor: None,
            interface: device.interface().map(|interface| interface.name()),
            basis: basis(device),
            syns: device.syns,
            attempts: device.attempts,
            destinations: destinations.addresses,
            destination_groups: destinations.groups,
            destinations_capped: destinations.is_lower_bound,
            outcomes: Outcomes {
                unknown: device.attempts,
                ..Outcomes::default()
            },
            first_seen: device.first_seen.to_string(),
            last_seen: device.last_seen.to_string(),
            peak_per_minute: device.peak_per_minute,
            verdict: device.verdict(),
            because: because(device),
            findings: device.findings.iter().map(ReportFinding::new).collect(),
            top_destinations: device
                .top_destinations(top)
                .into_iter()
                .map(|(address, attempts)| Destination {
                    address: address.to_string(),
                    attempts,
                })
                .collect(),
            mac,
        }
    }
}

fn ports(settings: &Settings) -> String {
    let ports: Vec<String> = settings
        .ports
        .as_slice()
        .iter()
        .map(ToString::to_string)
        .collect();
    ports.join(",")
}

/// On what grounds a device is named, as reports say it.
fn basis(device: &Device) -> String {
    match (device.basis, device.mac()) {
        (DeviceBasis::Address, Some(_)) => "address, with the MAC as logged".to_owned(),
        (basis, _) => basis.to_string(),
    }
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
    fn new(finding: &Finding) -> Self {
        Self {
            detector: finding.detector.to_string(),
            score: finding.score,
            threshold: finding.threshold,
            at: finding.at.to_string(),
            at_attempt: finding.at_attempt,
        }
    }
}

impl Notes {
    fn new(engine: &Engine, outcomes: &[Outcome], totals: &Totals) -> Self {
        let mut notes = Self {
            is_infected: totals.infected > 0,
            ..Self::default()
        };
        let counted = engine.totals().observations;
        if totals.late.saturating_mul(MAX_LATE_SHARE) > counted {
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
        if !outcomes.is_empty() && outcomes.iter().all(|outcome| outcome.records == 0) {
            notes.say(format!(
                "no packet record in what was read; is there a rule that logs? iptables -I FORWARD -p tcp -m multiport \
                 --dports {} --syn -j LOG --log-prefix 'SMTP '",
                ports(engine.settings())
            ));
        }
        if totals.unjudged > 0 {
            notes.say(format!(
                "attempts without a time of their own were counted and not judged: {}",
                totals.unjudged
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
        notes
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
