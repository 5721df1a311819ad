//! Whom settings would have blocked, `smtpwatch.backtest.v1`: new fields may come, none goes.
//!
//! Puts what was judged by the settings that hold beside what was judged by others. It judges nobody.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::Layout;
use super::escape::{spreadsheet, terminal};
use super::grid::{Column, Grid};
use super::table::{DATE_AND_TIME, shown};
use crate::engine::{Action, Connections, Facts, Judged, grouped};
use crate::model::{Finding, Timestamp};
use crate::settings::Window;
use crate::settings::config::{Key, Resolved};

/// The schema's name.
const SCHEMA: &str = "smtpwatch.backtest.v1";
const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
/// Names in a line of the summary.
const NAMED: usize = 5;
/// The device last: its address may be long.
const COLUMNS: [Column; 7] = [
    Column::text("CHANGE"),
    Column::text("BY"),
    Column::text("WHAT"),
    Column::text("AT"),
    Column::number("OUT"),
    Column::number("STOPPED"),
    Column::text("DEVICE"),
];
const CSV: [&str; 20] = [
    "id",
    "mac",
    "hostname",
    "address",
    "change",
    "settings",
    "verdict",
    "action",
    "why",
    "alarm_at",
    "block_at",
    "detector",
    "score",
    "threshold",
    "outcomes_known",
    "attempts_out",
    "answered_out",
    "attempts_stopped",
    "answered_stopped",
    "because",
];

/// What was run.
#[derive(Debug)]
pub(crate) struct Tried<'a> {
    /// When it was made.
    pub(crate) generated_at: Timestamp,
    /// What was read: names.
    pub(crate) inputs: Vec<String>,
    /// The time that was judged.
    pub(crate) window: Window,
    /// When what is known begins.
    pub(crate) known_since: Option<Timestamp>,
    /// Whether times within a minute are not known, but spread over what is.
    pub(crate) times_are_spread: bool,
    /// Whether nobody is blocked in the first days.
    pub(crate) is_learning: bool,
    /// The configuration that holds, and what was judged by it.
    pub(crate) current: (&'a Resolved, Vec<Judged>),
    /// The one that is tried, where one is.
    pub(crate) other: Option<(&'a Resolved, Vec<Judged>)>,
}

/// An answer.
#[derive(Debug, Serialize)]
pub(crate) struct Backtest {
    schema: &'static str,
    generated_at: String,
    inputs: Vec<String>,
    window: Shown,
    /// When what is known begins: alarms of the 7 days after it block nobody, where `learning` is on.
    known_since: Option<String>,
    learning: bool,
    times_are_spread: bool,
    /// Keys of the configuration that differ.
    settings: Vec<Setting>,
    summary: Summary,
    /// All devices that made attempts in the time, those that changed first.
    devices: Vec<Device>,
}

#[derive(Debug, Serialize)]
struct Shown {
    since: Option<String>,
    until: Option<String>,
}

#[derive(Debug, Serialize)]
struct Setting {
    key: &'static str,
    current: String,
    tried: String,
}

/// Ids of devices.
#[derive(Debug, Default, Serialize)]
struct Summary {
    devices: usize,
    blocked_by_current: Vec<String>,
    blocked_by_tried: Option<Vec<String>>,
    new: Vec<String>,
    no_longer: Vec<String>,
    earlier: Vec<String>,
    later: Vec<String>,
}

/// What the tried settings change about a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    /// More would have been done about it.
    New,
    /// Less.
    NoLonger,
    Earlier,
    Later,
    Same,
}

#[derive(Debug, Serialize)]
struct Device {
    id: String,
    mac: Option<String>,
    hostname: Option<String>,
    addresses: Vec<String>,
    change: Change,
    current: Option<Side>,
    tried: Option<Side>,
}

/// What would have become of a device by one of the settings.
#[derive(Debug, Serialize)]
struct Side {
    verdict: String,
    because: String,
    /// `block`, `alert` or `none`.
    action: &'static str,
    /// Why an alert is no block.
    why: Option<&'static str>,
    alarm_at: Option<String>,
    block_at: Option<String>,
    detector: Option<String>,
    score: Option<f64>,
    threshold: Option<f64>,
    /// Whether anybody told how its attempts ended.
    outcomes_known: bool,
    out: Counted,
    stopped: Counted,
    /// For people: those that were answered, or all where nobody told.
    #[serde(skip)]
    shown: (u64, u64),
    #[serde(skip)]
    rank: u8,
    #[serde(skip)]
    at: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct Counted {
    attempts: u64,
    answered: u64,
}

impl Counted {
    fn new(connections: Connections) -> Self {
        let Connections { attempts, answered } = connections;
        Self { attempts, answered }
    }
}

impl Side {
    fn new(judged: &Judged) -> Self {
        let (rank, action, why, block_at) = match judged.action {
            Action::Nothing => (0, "none", None, None),
            Action::Alert(spared) => (1, "alert", Some(spared.why()), None),
            Action::Block(at) => (2, "block", None, Some(at)),
        };
        let finding = judged.finding;
        Self {
            verdict: judged.facts.verdict().to_string(),
            because: judged.facts.because(),
            action,
            why,
            alarm_at: finding.map(|finding| finding.at.to_string()),
            block_at: block_at.map(|at| at.to_string()),
            detector: finding.map(|finding| finding.detector.to_string()),
            score: finding.map(|Finding { score, .. }| score),
            threshold: finding.map(|Finding { threshold, .. }| threshold),
            outcomes_known: judged.has_outcomes(),
            out: Counted::new(judged.out),
            stopped: Counted::new(judged.stopped),
            shown: (judged.got_out(), judged.would_have_stopped()),
            rank,
            at: judged.at(),
        }
    }

    fn row(&self, layout: &Layout) -> [String; 4] {
        let at = self.at.map_or_else(
            || "-".to_owned(),
            |at| shown(&at.to_string(), &layout.zone, "%m-%d %T"),
        );
        let (out, stopped) = self.shown;
        [self.action.to_owned(), at, grouped(out), grouped(stopped)]
    }
}

impl Change {
    fn of(current: Option<&Side>, tried: Option<&Side>) -> Self {
        let rank = |side: Option<&Side>| side.map_or(0, |side| side.rank);
        let at = |side: Option<&Side>| side.and_then(|side| side.at);
        match rank(tried).cmp(&rank(current)) {
            Ordering::Greater => Self::New,
            Ordering::Less => Self::NoLonger,
            Ordering::Equal => match at(tried).cmp(&at(current)) {
                Ordering::Less => Self::Earlier,
                Ordering::Greater => Self::Later,
                Ordering::Equal => Self::Same,
            },
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::NoLonger => "no longer",
            Self::Earlier => "earlier",
            Self::Later => "later",
            Self::Same => "same",
        }
    }
}

impl Device {
    fn new(facts: &Facts) -> Self {
        Self {
            id: facts.id.clone(),
            mac: facts.mac.map(|mac| mac.to_string()),
            hostname: facts.hostname.clone(),
            addresses: facts
                .addresses
                .iter()
                .rev()
                .map(ToString::to_string)
                .collect(),
            change: Change::Same,
            current: None,
            tried: None,
        }
    }

    fn address(&self) -> &str {
        self.addresses.first().unwrap_or(&self.id)
    }

    /// What it is called in a few words: its address, and its name where it has one.
    fn called(&self) -> String {
        match &self.hostname {
            Some(name) => format!("{} ({name})", self.address()),
            None => self.address().to_owned(),
        }
    }

    fn sides(&self) -> impl Iterator<Item = (&'static str, &Side)> {
        let current = self.current.iter().map(|side| ("current", side));
        current.chain(self.tried.iter().map(|side| ("tried", side)))
    }

    /// The most that would have been done about it.
    fn rank(&self) -> u8 {
        self.sides().map(|(_, side)| side.rank).max().unwrap_or(0)
    }
}

impl Backtest {
    /// The answer to what was `tried`.
    pub(crate) fn new(run: &Tried<'_>) -> Self {
        let mut devices: BTreeMap<&str, Device> = BTreeMap::new();
        for judged in &run.current.1 {
            let device = devices
                .entry(&judged.facts.id)
                .or_insert_with(|| Device::new(&judged.facts));
            device.current = Some(Side::new(judged));
        }
        for judged in run.other.iter().flat_map(|(_, judged)| judged) {
            let device = devices
                .entry(&judged.facts.id)
                .or_insert_with(|| Device::new(&judged.facts));
            device.tried = Some(Side::new(judged));
        }
        let mut devices: Vec<Device> = devices.into_values().collect();
        if run.other.is_some() {
            for device in &mut devices {
                device.change = Change::of(device.current.as_ref(), device.tried.as_ref());
            }
        }
        devices.sort_by(|a, b| {
            (a.change, std::cmp::Reverse(a.rank()))
                .cmp(&(b.change, std::cmp::Reverse(b.rank())))
                .then_with(|| a.id.cmp(&b.id))
        });
        let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
        Self {
            schema: SCHEMA,
            generated_at: run.generated_at.to_string(),
            inputs: run.inputs.clone(),
            window: Shown {
                since: text(run.window.since),
                until: text(run.window.until),
            },
            known_since: text(run.known_since),
            learning: run.is_learning,
            times_are_spread: run.times_are_spread,
            settings: settings(run),
            summary: Summary::new(&devices, run.other.is_some()),
            devices,
        }
    }

    /// Prints it as JSON.
    pub(crate) fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *to, self)?;
        writeln!(to)
    }

    /// Prints it as CSV: a row for each device and settings.
    pub(crate) fn csv(&self, to: &mut dyn Write) -> io::Result<()> {
        let mut rows = csv::Writer::from_writer(to);
        rows.write_record(CSV)?;
        for device in &self.devices {
            for (name, side) in device.sides() {
                let row = csv_row(device, name, side);
                rows.write_record(row.iter().map(|field| spreadsheet(field)))?;
            }
        }
        rows.flush()
    }

    /// Prints it for people.
    pub(crate) fn table(&self, layout: &Layout, to: &mut dyn Write) -> io::Result<()> {
        self.headline(layout, to)?;
        let worth_showing = |device: &&Device| device.rank() > 0;
        let count = self.devices.iter().filter(worth_showing).count();
        if count > 0 {
            self.rows(layout, worth_showing, to)?;
        }
        if count > layout.top {
            let more = count - layout.top;
            writeln!(
                to,
                "{DIM}and {more} more: --top {count}, or --format json{DIM:#}"
            )?;
        }
        self.reasons(layout, worth_showing, to)
    }

    fn rows(
        &self,
        layout: &Layout,
        is_shown: impl Fn(&&Device) -> bool,
        to: &mut dyn Write,
    ) -> io::Result<()> {
        let is_compared = self.summary.blocked_by_tried.is_some();
        let is_kept = |column: &&Column| is_compared || !["CHANGE", "BY"].contains(&column.title);
        let mut grid = Grid::new(COLUMNS.iter().filter(is_kept));
        let mut styles = Vec::new();
        for device in self.devices.iter().filter(is_shown).take(layout.top) {
            for (place, (name, side)) in device.sides().enumerate() {
                let [what, at, out, stopped] = side.row(layout);
                let (change, called) = match place {
                    0 => (device.change.text().to_owned(), device.called()),
                    _ => (String::new(), String::new()),
                };
                let cells = [change, name.to_owned(), what, at, out, stopped, called];
                let cells = cells.into_iter().zip(&COLUMNS);
                grid.row(cells.filter_map(|(cell, column)| is_kept(&column).then_some(cell)));
                styles.push(style(side.rank));
            }
        }
        writeln!(to)?;
        grid.write(layout.width, |row| styles[row], to)
    }

    fn headline(&self, layout: &Layout, to: &mut dyn Write) -> io::Result<()> {
        let Summary {
            devices,
            blocked_by_current,
            blocked_by_tried,
            ..
        } = &self.summary;
        let current = self.names(blocked_by_current);
        let text = match blocked_by_tried {
            None => {
                format!("Of {devices} devices the settings that hold would have blocked {current}")
            }
            Some(tried) => format!(
                "Of {devices} devices the settings that hold would have blocked {current}; those tried {}",
                self.names(tried)
            ),
        };
        writeln!(to, "{BOLD}{}{BOLD:#}", terminal(&text))?;
        if blocked_by_tried.is_some() {
            writeln!(to, "{}", terminal(&self.changes()))?;
        }
        if let Some(since) = &self.window.since {
            let until = self
                .window
                .until
                .as_ref()
                .map_or_else(String::new, |until| {
                    format!(" until {}", shown(until, &layout.zone, DATE_AND_TIME))
                });
            writeln!(
                to,
                "{DIM}judged from {}{until}; what lies before only tells which servers a device knows{DIM:#}",
                shown(since, &layout.zone, DATE_AND_TIME)
            )?;
        }
        if self.times_are_spread {
            writeln!(
                to,
                "{DIM}first contacts are exact; other times within a minute are spread, for the history counts by \
                 minute{DIM:#}"
            )?;
        }
        for Setting {
            key,
            current,
            tried,
        } in &self.settings
        {
            let text = format!("{key}: {current} -> {tried}");
            writeln!(to, "{DIM}{}{DIM:#}", terminal(&text))?;
        }
        Ok(())
    }

    /// Who is new, who is no longer, and who is earlier or later.
    fn changes(&self) -> String {
        let summary = &self.summary;
        let parts: Vec<String> = [
            ("new", &summary.new),
            ("no longer", &summary.no_longer),
            ("earlier", &summary.earlier),
            ("later", &summary.later),
        ]
        .into_iter()
        .map(|(what, ids)| format!("{what}: {}", self.names(ids)))
        .collect();
        parts.join("; ")
    }

    fn names(&self, ids: &[String]) -> String {
        if ids.is_empty() {
            return "none".to_owned();
        }
        let called = |id: &String| {
            let mut devices = self.devices.iter();
            let device = devices.find(|device| device.id == *id);
            device.map_or_else(|| id.clone(), Device::called)
        };
        let names: Vec<String> = ids.iter().take(NAMED).map(called).collect();
        let more = if ids.len() > NAMED { ", ..." } else { "" };
        format!("{} ({}{more})", ids.len(), names.join(", "))
    }

    fn reasons(
        &self,
        layout: &Layout,
        is_shown: impl Fn(&&Device) -> bool,
        to: &mut dyn Write,
    ) -> io::Result<()> {
        let mut shown = self
            .devices
            .iter()
            .filter(is_shown)
            .take(layout.top)
            .peekable();
        if shown.peek().is_none() {
            return Ok(());
        }
        writeln!(to, "\n{BOLD}Why{BOLD:#}")?;
        for device in shown {
            let most = device.sides().max_by_key(|(_, side)| side.rank);
            let Some((_, side)) = most else { continue };
            let why = side
                .why
                .map_or_else(String::new, |why| format!(" No block: {why}."));
            writeln!(to, "  {}.{why}", terminal(&side.because))?;
        }
        Ok(())
    }
}

impl Summary {
    fn new(devices: &[Device], is_compared: bool) -> Self {
        let ids = |is_one: &dyn Fn(&Device) -> bool| {
            let all = devices.iter().filter(|device| is_one(device));
            all.map(|device| device.id.clone()).collect::<Vec<_>>()
        };
        let blocked =
            |side: &Option<Side>| side.as_ref().is_some_and(|side| side.block_at.is_some());
        let of = |change| ids(&|device| device.change == change);
        Self {
            devices: devices.len(),
            blocked_by_current: ids(&|device| blocked(&device.current)),
            blocked_by_tried: is_compared.then(|| ids(&|device| blocked(&device.tried))),
            new: of(Change::New),
            no_longer: of(Change::NoLonger),
            earlier: of(Change::Earlier),
            later: of(Change::Later),
        }
    }
}

/// Keys whose values differ.
fn settings(run: &Tried<'_>) -> Vec<Setting> {
    let Some((tried, _)) = &run.other else {
        return Vec::new();
    };
    let current = &run.current.0.config;
    Key::ALL
        .iter()
        .map(|key| Setting {
            key: key.name(),
            current: key.show(current).to_string(),
            tried: key.show(&tried.config).to_string(),
        })
        .filter(|setting| setting.current != setting.tried)
        .collect()
}

fn style(rank: u8) -> Style {
    match rank {
        2 => AnsiColor::Red.on_default(),
        1 => AnsiColor::Yellow.on_default(),
        _ => Style::new(),
    }
}

fn csv_row(device: &Device, name: &str, side: &Side) -> [String; CSV.len()] {
    let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
    let number = |number: Option<f64>| number.map_or_else(String::new, |it| it.to_string());
    [
        device.id.clone(),
        or_empty(&device.mac),
        or_empty(&device.hostname),
        device.address().to_owned(),
        device.change.text().to_owned(),
        name.to_owned(),
        side.verdict.clone(),
        side.action.to_owned(),
        side.why.unwrap_or_default().to_owned(),
        or_empty(&side.alarm_at),
        or_empty(&side.block_at),
        or_empty(&side.detector),
        number(side.score),
        number(side.threshold),
        side.outcomes_known.to_string(),
        side.out.attempts.to_string(),
        side.out.answered.to_string(),
        side.stopped.attempts.to_string(),
        side.stopped.answered.to_string(),
        side.because.clone(),
    ]
}
