//! The table for people: the answer first, then the devices, why, and what was read.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use jiff::tz::TimeZone;

use super::escape::terminal;
use super::grid::{Column, Grid};
use super::report::{HISTORY, Input, ReportDevice};
use super::{Layout, Report};
use crate::engine::{SMTP, grouped};
use crate::model::Verdict;

const BOLD: Style = Style::new().bold();
/// Columns that are left out where they would say nothing.
const NAME: &str = "NAME";
const VENDOR: &str = "VENDOR";
const ANSWERED: &str = "ANSWERED";
const PORTS: &str = "PORTS";
const COLUMNS: [Column; 15] = [
    Column::text("VERDICT"),
    Column::text("DEVICE"),
    Column::text(NAME),
    Column::text("MAC"),
    Column::text(VENDOR),
    Column::text("IN"),
    Column::number("ATTEMPTS"),
    Column::text(PORTS),
    Column::number(ANSWERED),
    Column::number("SYNS"),
    Column::number("SERVERS"),
    Column::number("NETWORKS"),
    Column::number("PEAK/MIN"),
    Column::text("FIRST"),
    Column::text("LAST"),
];
pub(super) const DATE_AND_TIME: &str = "%F %T";
const DIM: Style = Style::new().dimmed();

pub(super) fn write(report: &Report, layout: &Layout, to: &mut dyn Write) -> io::Result<()> {
    headline(report, layout, to)?;
    if !report.devices.is_empty() {
        devices(report, layout, to)?;
        reasons(report, layout, to)?;
        to_allow(report, to)?;
    }
    apart(report, to)?;
    inputs(report, to)
}

fn headline(report: &Report, layout: &Layout, to: &mut dyn Write) -> io::Result<()> {
    let totals = &report.totals;
    let (style, answer) = answer(report);
    writeln!(to, "{style}{}{style:#}", terminal(&answer))?;
    if report.devices.is_empty() {
        return Ok(());
    }
    let span = match (&report.window.since, &report.window.until) {
        (Some(since), Some(until)) => {
            format!(
                ", {} to {}",
                shown(since, &layout.zone, DATE_AND_TIME),
                shown(until, &layout.zone, DATE_AND_TIME)
            )
        }
        _ => String::new(),
    };
    writeln!(
        to,
        "{DIM}{} by {} ({}){span}{DIM:#}",
        plural(totals.attempts, "attempt"),
        plural(totals.devices, "device"),
        plural(totals.syns, "SYN"),
    )
}

/// The answer in a few words. Where nothing could be seen it must not sound like an all-clear.
fn answer(report: &Report) -> (Style, String) {
    let infected: Vec<String> = of_verdict(report, Verdict::Infected)
        .map(ReportDevice::called)
        .collect();
    let records: u64 = report.inputs.iter().map(|input| input.records).sum();
    let is_live = report.inputs.iter().any(|input| input.is_live);
    let warning = style(Verdict::Suspicious).bold();
    match (infected.as_slice(), report.totals.suspicious) {
        ([one], _) => (
            style(Verdict::Infected).bold(),
            format!("{one} is infected"),
        ),
        ([_, _, ..], _) => {
            let count = infected.len();
            let answer = format!("{count} devices are infected: {}", shortened(&infected));
            (style(Verdict::Infected).bold(), answer)
        }
        ([], _) if report.inputs.is_empty() => (warning, "Nothing could be read".to_owned()),
        ([], _) if records == 0 && !is_live => (
            warning,
            "No packet record was found: this says nothing about any device".to_owned(),
        ),
        ([], _) if report.notes.is_blind => (
            warning,
            "No device looks infected, but the answer is not to be trusted".to_owned(),
        ),
        ([], _) if report.devices.is_empty() => (BOLD, "No device sent mail directly".to_owned()),
        ([], 0) => (BOLD, "No device looks infected".to_owned()),
        ([], suspicious) => (
            warning,
            format!("No device looks infected, {suspicious} suspicious"),
        ),
    }
}

fn devices(report: &Report, layout: &Layout, to: &mut dyn Write) -> io::Result<()> {
    // The headline has the date; where all is of one day the rows need none.
    let dates = |time: &Option<String>| time.as_ref().map(|time| shown(time, &layout.zone, "%F"));
    let format = if dates(&report.window.since) == dates(&report.window.until) {
        "%T"
    } else {
        DATE_AND_TIME
    };
    let any = |says: fn(&ReportDevice) -> bool| report.devices.iter().any(says);
    let has_names = any(|device| device.hostname.is_some());
    let has_outcomes = any(|device| device.outcomes.is_known());
    let has_ports = any(|device| device.ports.iter().any(|it| it.port != SMTP));
    let has_vendors =
        any(|device| made_by(device.vendor.as_deref(), device.mac_randomised).is_some());
    let is_shown = |column: &&Column| match column.title {
        NAME => has_names,
        VENDOR => has_vendors,
        ANSWERED => has_outcomes,
        PORTS => has_ports,
        _ => true,
    };
    let mut grid = Grid::new(COLUMNS.iter().filter(is_shown));
    for device in report.devices.iter().take(layout.top) {
        let cells = row(device, &layout.zone, format).into_iter().zip(&COLUMNS);
        grid.row(cells.filter_map(|(cell, column)| is_shown(&column).then_some(cell)));
    }
    writeln!(to)?;
    grid.write(layout.width, |row| style(report.devices[row].verdict), to)?;
    if report.devices.len() > layout.top {
        let more = (report.devices.len() - layout.top) as u64;
        writeln!(
            to,
            "{DIM}and {}: --top {}, or --format json{DIM:#}",
            plural(more, "more device"),
            report.devices.len()
        )?;
    }
    Ok(())
}

/// Who made a network card, where anybody did.
pub(super) fn made_by(vendor: Option<&str>, is_randomised: bool) -> Option<String> {
    if is_randomised {
        return Some("randomised MAC".to_owned());
    }
    vendor.map(str::to_owned)
}

fn row(device: &ReportDevice, zone: &TimeZone, format: &str) -> [String; COLUMNS.len()] {
    let at_least = if device.destinations_capped { ">" } else { "" };
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    [
        device.verdict.to_string(),
        device.address().to_owned(),
        or_dash(&device.hostname),
        or_dash(&device.mac),
        made_by(device.vendor.as_deref(), device.mac_randomised).unwrap_or_else(|| "-".to_owned()),
        or_dash(&device.interface),
        grouped(device.attempts),
        by_port(device),
        if device.outcomes.is_known() {
            grouped(device.outcomes.answered)
        } else {
            "-".to_owned()
        },
        grouped(device.syns),
        format!("{at_least}{}", grouped(device.destinations as u64)),
        format!("{at_least}{}", grouped(device.destination_groups as u64)),
        grouped(device.peak_per_minute),
        shown(&device.first_seen, zone, format),
        shown(&device.last_seen, zone, format),
    ]
}

/// Attempts by port: "25: 28, 587: 72".
fn by_port(device: &ReportDevice) -> String {
    let ports = device.ports.iter();
    let told: Vec<String> = ports
        .map(|it| format!("{}: {}", it.port, grouped(it.attempts)))
        .collect();
    told.join(", ")
}

fn reasons(report: &Report, layout: &Layout, to: &mut dyn Write) -> io::Result<()> {
    let worth_saying = || {
        of_verdict(report, Verdict::Infected)
            .chain(of_verdict(report, Verdict::Suspicious))
            .take(layout.top)
    };
    if worth_saying().next().is_none() {
        return Ok(());
    }
    writeln!(to, "\n{BOLD}Why{BOLD:#}")?;
    for device in worth_saying() {
        writeln!(to, "  {}.", terminal(&device.because))?;
    }
    to_stop_it(report, to)
}

/// What to type to stop the infected ones.
fn to_stop_it(report: &Report, to: &mut dyn Write) -> io::Result<()> {
    const SHOWN: usize = 5;
    let mut infected = of_verdict(report, Verdict::Infected).peekable();
    if infected.peek().is_none() {
        return Ok(());
    }
    writeln!(
        to,
        "\n{BOLD}To stop it now{BOLD:#}, on the gateway (the same with -D undoes it):"
    )?;
    for device in infected.by_ref().take(SHOWN) {
        let address = device.address();
        let command = if address.contains(':') {
            "ip6tables"
        } else {
            "iptables"
        };
        writeln!(
            to,
            "  {command} -I FORWARD -s {} -p tcp -m multiport --dports {} -j REJECT --reject-with tcp-reset",
            terminal(address),
            report.ports
        )?;
    }
    match infected.count() {
        0 => Ok(()),
        more => writeln!(to, "  and so for {more} more"),
    }
}

/// What to write into the configuration where devices look like mail servers.
fn to_allow(report: &Report, to: &mut dyn Write) -> io::Result<()> {
    if report.proposals.is_empty() {
        return Ok(());
    }
    writeln!(
        to,
        "\n{BOLD}To allow them{BOLD:#}, if they are mail servers of yours:"
    )?;
    if report.proposals.len() > 1 {
        for proposal in &report.proposals {
            writeln!(to, "  # {}", terminal(&proposal.sentence()))?;
        }
    }
    writeln!(to, "  {}", terminal(&report.proposed))
}

/// What was counted and is not about the devices above.
fn apart(report: &Report, to: &mut dyn Write) -> io::Result<()> {
    let total: u64 = report
        .totals
        .directions
        .values()
        .map(|count| count.attempts)
        .sum();
    if total == report.totals.attempts && report.totals.outside_window == 0 {
        return Ok(());
    }
    let mut parts: Vec<String> = report
        .totals
        .directions
        .iter()
        .filter(|(_, count)| count.attempts > 0)
        .map(|(direction, count)| format!("{direction} {}", grouped(count.attempts)))
        .collect();
    if report.totals.outside_window > 0 {
        parts.push(format!(
            "outside the time asked for {}",
            grouped(report.totals.outside_window)
        ));
    }
    writeln!(
        to,
        "\n{DIM}Attempts by direction: {}{DIM:#}",
        parts.join(", ")
    )
}

fn inputs(report: &Report, to: &mut dyn Write) -> io::Result<()> {
    writeln!(to, "\n{BOLD}Read{BOLD:#}")?;
    for input in &report.inputs {
        writeln!(to, "  {}", input_line(input))?;
    }
    if report.inputs.is_empty() {
        writeln!(to, "  nothing")?;
        return Ok(());
    }
    if report.inputs.iter().all(|input| input.kind != "netfilter") {
        return Ok(());
    }
    writeln!(
        to,
        "  {DIM}Only the kernel's own records count; still, whoever may write to a text log can forge it.{DIM:#}"
    )
}

fn input_line(input: &Input) -> String {
    if input.is_live {
        // Connection tracking tells of connections, several times each.
        let records = if input.kind == "conntrack" {
            format!("{} of connections", plural(input.records, "event"))
        } else {
            plural(input.records, "SYN")
        };
        let mut line = format!("{}: {records} to a watched port", terminal(&input.name));
        if input.lost > 0 {
            line += &format!("; not seen: {}", grouped(input.lost));
        }
        return line;
    }
    let mut line = format!(
        "{}: {}, {}, {} to a watched port",
        terminal(&input.name),
        indicatif::HumanBytes(input.bytes),
        plural(
            input.records,
            if input.kind == HISTORY {
                "row"
            } else {
                "packet record"
            }
        ),
        plural(input.matched, "SYN"),
    );
    if input.lost > 0 && input.kind == HISTORY {
        line += &format!("; lost: {}", grouped(input.lost));
    }
    if !input.skipped.is_empty() {
        let reasons: Vec<String> = input
            .skipped
            .iter()
            .map(|(reason, count)| format!("{reason} {}", grouped(*count)))
            .collect();
        line += &format!("; skipped: {}", reasons.join(", "));
    }
    if input.clock != "exact" && input.matched > 0 {
        line += &format!("; clock: {}", input.clock);
    }
    line
}

fn of_verdict(report: &Report, verdict: Verdict) -> impl Iterator<Item = &ReportDevice> {
    report
        .devices
        .iter()
        .filter(move |device| device.verdict == verdict)
}

fn style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Infected => AnsiColor::Red.on_default(),
        Verdict::Suspicious => AnsiColor::Yellow.on_default(),
        Verdict::Normal | Verdict::Allowed => Style::new(),
    }
}

fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        text += ", ...";
    }
    text
}

fn plural(count: u64, noun: &str) -> String {
    format!(
        "{} {noun}{}",
        grouped(count),
        if count == 1 { "" } else { "s" }
    )
}

/// An RFC 3339 time of the report in the reader's zone.
pub(super) fn shown(time: &str, zone: &TimeZone, format: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(timestamp) => timestamp
            .to_zoned_datetime(zone.clone())
            .strftime(format)
            .to_string(),
        Err(_) => time.to_owned(),
    }
}
