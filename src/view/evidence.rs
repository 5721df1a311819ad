//! The evidence about one device: the part `device` of `smtpwatch.report.v1`, and what `report --device`
//! prints of it. It is bounded, and what was left out is counted.

use std::io::{self, Write};

use serde::Serialize;

use super::Layout;
use super::escape::{spreadsheet, terminal};
use super::grid::{Column, Grid};
use super::report::ReportFinding;
use super::table::{DATE_AND_TIME, shown};
use crate::engine::{Facts, Traced, TracedAttempt, TracedGroup, TracedScore, grouped};
use crate::model::{Detector, Finding, Pace};

/// Attempts that are printed, the latest.
const SHOWN_ATTEMPTS: usize = 1_000;
/// Groups and scores that are printed, the first.
const SHOWN: usize = 200;
const BOLD: anstyle::Style = anstyle::Style::new().bold();
const GROUPS: [Column; 5] = [
    Column::text("FIRST USE"),
    Column::text("LAST USE"),
    Column::text("NEW"),
    Column::number("ATTEMPTS"),
    Column::text("NETWORK"),
];
const SCORES: [Column; 6] = [
    Column::text("TIME"),
    Column::number("ATTEMPT"),
    Column::number("FAST"),
    Column::number("SLOW"),
    Column::number("LOOKUPS"),
    Column::text("NEW NETWORK"),
];
const ATTEMPTS: [Column; 5] = [
    Column::text("TIME"),
    Column::number("ATTEMPT"),
    Column::text("NETWORK"),
    Column::text("ENDED"),
    Column::text("TO"),
];
/// Columns of the CSV, as in the JSON.
const CSV: [&str; 10] = [
    "time",
    "number",
    "source",
    "source_port",
    "destination",
    "port",
    "new",
    "decided",
    "outcome",
    "completed",
];

/// The evidence about a device.
#[derive(Debug, Serialize)]
pub(crate) struct Evidence {
    id: String,
    addresses: Vec<String>,
    mac: Option<String>,
    hostname: Option<String>,
    vendor: Option<String>,
    verdict: String,
    because: String,
    findings: Vec<ReportFinding>,
    /// What the scores are compared with.
    thresholds: Option<Clocks>,
    groups: Vec<GroupUse>,
    /// Attempts to groups for which there was no room.
    omitted_groups: u64,
    /// Whenever a group was new.
    scores: Vec<Score>,
    omitted_scores: u64,
    attempts: Vec<Attempt>,
    /// Attempts before those.
    omitted_attempts: u64,
    /// Whether times within a minute are not known, but spread over what is.
    times_are_spread: bool,
}

/// A value of each clock.
#[derive(Clone, Copy, Debug, Serialize)]
struct Clocks {
    fast: f64,
    slow: f64,
    lookups: f64,
}

#[derive(Debug, Serialize)]
struct GroupUse {
    group: String,
    first: String,
    last: String,
    new_at: Option<String>,
    attempts: u64,
}

#[derive(Debug, Serialize)]
struct Score {
    time: String,
    number: u64,
    group: String,
    #[serde(flatten)]
    clocks: Clocks,
}

#[derive(Debug, Serialize)]
struct Attempt {
    time: String,
    number: u64,
    source: String,
    source_port: u16,
    destination: String,
    port: u16,
    direction: String,
    /// Whether its group was new to the device.
    new: bool,
    /// Whether it is one of those that decided.
    decided: bool,
    outcome: String,
    completed: bool,
}

impl Evidence {
    /// What was `traced` of the device with these `facts`.
    pub(crate) fn new(facts: &Facts, traced: &Traced, times_are_spread: bool) -> Self {
        let deciding = facts
            .findings
            .iter()
            .find(|finding| finding.detector == Detector::Novelty);
        Self {
            id: facts.id.clone(),
            addresses: facts
                .addresses
                .iter()
                .rev()
                .map(ToString::to_string)
                .collect(),
            mac: facts.mac.map(|mac| mac.to_string()),
            hostname: facts.hostname.clone(),
            vendor: facts.vendor.clone(),
            verdict: facts.verdict().to_string(),
            because: facts.because(),
            findings: facts.findings.iter().map(ReportFinding::new).collect(),
            thresholds: traced
                .scores
                .first()
                .map(|score| Clocks::new(score, |(_, _, threshold)| *threshold)),
            groups: traced.groups.iter().map(GroupUse::new).collect(),
            omitted_groups: traced.omitted_groups,
            scores: traced.scores.iter().map(Score::new).collect(),
            omitted_scores: traced.omitted_scores,
            attempts: traced
                .attempts
                .iter()
                .map(|attempt| Attempt::new(attempt, deciding))
                .collect(),
            omitted_attempts: traced.omitted_attempts,
            times_are_spread,
        }
    }

    /// Prints it for people.
    pub(super) fn table(&self, layout: &Layout, to: &mut dyn Write) -> io::Result<()> {
        writeln!(
            to,
            "{BOLD}{}{BOLD:#}: {}.",
            self.verdict,
            terminal(&self.because)
        )?;
        self.findings_table(layout, to)?;
        self.scores_table(layout, to)?;
        self.groups_table(layout, to)?;
        self.attempts_table(layout, to)
    }

    fn findings_table(&self, layout: &Layout, to: &mut dyn Write) -> io::Result<()> {
        writeln!(to, "\n{BOLD}What decided{BOLD:#}")?;
        if self.findings.is_empty() {
            writeln!(to, "  nothing: it stayed below every limit")?;
        }
        for finding in &self.findings {
            let at = shown(&finding.at, &layout.zone, DATE_AND_TIME);
            writeln!(to, "  {at}  {}", finding.told())?;
        }
        Ok(())
    }

    fn scores_table(&self, layout: &Layout, to: &mut dyn Write) -> io::Result<()> {
        let Some(thresholds) = self.thresholds else {
            return Ok(());
        };
        let total = self.scores.len() as u64 + self.omitted_scores;
        writeln!(
            to,
            "\n{BOLD}Scores{BOLD:#} after each network that was new, {} in all; it speaks at fast {:.1}, slow {:.1}, \
             lookups {:.1}",
            grouped(total),
            thresholds.fast,
            thresholds.slow,
            thresholds.lookups
        )?;
        let mut grid = Grid::new(SCORES.iter());
        for score in self.scores.iter().take(SHOWN) {
            grid.row([
                shown(&score.time, &layout.zone, DATE_AND_TIME),
                grouped(score.number),
                format!("{:.1}", score.clocks.fast),
                format!("{:.1}", score.clocks.slow),
                format!("{:.1}", score.clocks.lookups),
                score.group.clone(),
            ]);
        }
        grid.write(layout.width, |_| anstyle::Style::new(), to)?;
        more(total, self.scores.len().min(SHOWN), "later", to)
    }

    fn groups_table(&self, layout: &Layout, to: &mut dyn Write) -> io::Result<()> {
        writeln!(
            to,
            "\n{BOLD}Networks{BOLD:#} it used: {}",
            self.groups.len()
        )?;
        let mut grid = Grid::new(GROUPS.iter());
        for group in self.groups.iter().take(SHOWN) {
            grid.row([
                shown(&group.first, &layout.zone, DATE_AND_TIME),
                shown(&group.last, &layout.zone, DATE_AND_TIME),
                if group.new_at.is_some() {
                    "new"
                } else {
                    "known"
                }
                .to_owned(),
                grouped(group.attempts),
                group.group.clone(),
            ]);
        }
        grid.write(layout.width, |_| anstyle::Style::new(), to)?;
        more(self.groups.len() as u64, SHOWN, "later", to)
    }

    fn attempts_table(&self, layout: &Layout, to: &mut dyn Write) -> io::Result<()> {
        let total = self.attempts.len() as u64 + self.omitted_attempts;
        writeln!(
            to,
            "\n{BOLD}Attempts{BOLD:#}: {}{}",
            grouped(total),
            if self.times_are_spread {
                "; within a minute their times are spread evenly, for the history counts by minute"
            } else {
                ""
            }
        )?;
        let first = self.attempts.len().saturating_sub(SHOWN_ATTEMPTS);
        let mut grid = Grid::new(ATTEMPTS.iter());
        for attempt in &self.attempts[first..] {
            grid.row([
                shown(&attempt.time, &layout.zone, DATE_AND_TIME),
                grouped(attempt.number),
                match (attempt.decided, attempt.new) {
                    (true, _) => "new, decided",
                    (_, true) => "new",
                    _ => "known",
                }
                .to_owned(),
                attempt.ended(),
                format!("{} port {}", attempt.destination, attempt.port),
            ]);
        }
        grid.write(layout.width, |_| anstyle::Style::new(), to)?;
        more(total, self.attempts.len() - first, "earlier", to)
    }

    /// Prints its attempts as CSV.
    pub(super) fn csv(&self, to: &mut dyn Write) -> io::Result<()> {
        let mut rows = csv::Writer::from_writer(to);
        rows.write_record(CSV)?;
        for attempt in &self.attempts {
            rows.write_record(attempt.row().iter().map(|field| spreadsheet(field)))?;
        }
        rows.flush()
    }
}

fn more(total: u64, shown: usize, which: &str, to: &mut dyn Write) -> io::Result<()> {
    match total.saturating_sub(shown as u64) {
        0 => Ok(()),
        more => writeln!(to, "and {} {which}: --format json has more", grouped(more)),
    }
}

impl Clocks {
    fn new(score: &TracedScore, of: impl Fn(&(Pace, f64, f64)) -> f64) -> Self {
        let clock = |pace| {
            let mut clocks = score.scores.iter();
            clocks.find(|(own, _, _)| *own == pace).map_or(0.0, &of)
        };
        Self {
            fast: clock(Pace::Fast),
            slow: clock(Pace::Slow),
            lookups: clock(Pace::Lookups),
        }
    }
}

impl Score {
    fn new(score: &TracedScore) -> Self {
        Self {
            time: score.time.to_string(),
            number: score.number,
            group: score.group.to_string(),
            clocks: Clocks::new(score, |(_, score, _)| *score),
        }
    }
}

impl GroupUse {
    fn new(group: &TracedGroup) -> Self {
        Self {
            group: group.group.to_string(),
            first: group.first.to_string(),
            last: group.last.to_string(),
            new_at: group.new_at.map(|new_at| new_at.to_string()),
            attempts: group.attempts,
        }
    }
}

impl Attempt {
    fn new(attempt: &TracedAttempt, deciding: Option<&Finding>) -> Self {
        let decided = attempt.is_new
            && deciding.is_some_and(|finding| {
                let since = finding.at.minus(finding.took);
                attempt.time.as_seconds() >= since.as_seconds() && attempt.time <= finding.at
            });
        Self {
            time: attempt.time.to_string(),
            number: attempt.number,
            source: attempt.tuple.source.to_string(),
            source_port: attempt.tuple.source_port,
            destination: attempt.tuple.destination.to_string(),
            port: attempt.tuple.destination_port,
            direction: attempt.direction.to_string(),
            new: attempt.is_new,
            decided,
            outcome: attempt.outcome.to_string(),
            completed: attempt.is_completed,
        }
    }

    fn ended(&self) -> String {
        if self.completed {
            format!("{}, completed", self.outcome)
        } else {
            self.outcome.clone()
        }
    }

    fn row(&self) -> [String; CSV.len()] {
        [
            self.time.clone(),
            self.number.to_string(),
            self.source.clone(),
            self.source_port.to_string(),
            self.destination.clone(),
            self.port.to_string(),
            self.new.to_string(),
            self.decided.to_string(),
            self.outcome.clone(),
            self.completed.to_string(),
        ]
    }
}
