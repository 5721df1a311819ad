//! The table for people: the answer first, then the devices, why, and what was read.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use jiff::tz::TimeZone;

use super::escape::terminal;
use super::report::{Input, ReportDevice};
use super::{Layout, Report};
use crate::engine::grouped;
use crate::model::Verdict;

const BOLD: Style = Style::new().bold();
const DATE_AND_TIME: &str = "%F %T";
const DIM: Style = Style::new().dimmed();

pub(super) fn write(report: &Report, layout: &Layout, to: &mut impl Write) -> io::Result<()> {
    headline(report, layout, to)?;
    if !report.devices.is_empty() {
        devices(report, layout, to)?;
        reasons(report, layout, to)?;
    }
    apart(report, to)?;
    inputs(report, to)
}

fn headline(report: &Report, layout: &Layout, to: &mut impl Write) -> io::Result<()> {
    let totals = &report.totals;
    let worst: Vec<&str> = of_verdict(report, Verdict::Infected)
        .map(|d| d.id.as_str())
        .collect();
    let style = if worst.is_empty() {
        BOLD
    } else {
        style(Verdict::Infected).bold()
    };
    let answer = match (worst.as_slice(), totals.suspicious) {
        ([], _) if report.devices.is_empty() => "No device sent mail directly".to_owned(),
        ([], 0) => "No device looks infected".to_owned(),
        ([], n) => format!("No device looks infected, {n} suspicious"),
        ([one], _) => format!("{one} is infected"),
        (many, _) => format!("{} devices are infected: {}", many.len(), shortened(many)),
    };
    writeln!(to, "{style}{}{style:#}", terminal(&answer))?;
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

fn devices(report: &Report, layout: &Layout, to: &mut impl Write) -> io::Result<()> {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header([
            "VERDICT", "DEVICE", "MAC", "IN", "ATTEMPTS", "SYNS", "SERVERS", "NETWORKS",
            "PEAK/MIN", "FIRST", "LAST",
        ]);
    // The headline has the date; where all is of one day the rows need none.
    let dates = |time: &Option<String>| time.as_ref().map(|time| shown(time, &layout.zone, "%F"));
    let format = if dates(&report.window.since) == dates(&report.window.until) {
        "%T"
    } else {
        DATE_AND_TIME
    };
    for device in report.devices.iter().take(layout.top) {
        table.add_row(row(device, &layout.zone, format));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for index in 4..=8 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    writeln!(to)?;
    for (index, line) in table.lines().enumerate() {
        let line = clipped(line.trim_end(), layout.width);
        let style = match index {
            0 => DIM,
            index => style(report.devices[index - 1].verdict),
        };
        writeln!(to, "{style}{line}{style:#}")?;
    }
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

fn row(device: &ReportDevice, zone: &TimeZone, format: &str) -> Vec<Cell> {
    let at_least = if device.destinations_capped { ">" } else { "" };
    [
        device.verdict.to_string(),
        device.id.clone(),
        device.mac.clone().unwrap_or_else(|| "-".to_owned()),
        device.interface.clone().unwrap_or_else(|| "-".to_owned()),
        grouped(device.attempts),
        grouped(device.syns),
        format!("{at_least}{}", grouped(device.destinations as u64)),
        format!("{at_least}{}", grouped(device.destination_groups as u64)),
        grouped(device.peak_per_minute),
        shown(&device.first_seen, zone, format),
        shown(&device.last_seen, zone, format),
    ]
    .iter()
    .map(|text| Cell::new(terminal(text)))
    .collect()
}

fn reasons(report: &Report, layout: &Layout, to: &mut impl Write) -> io::Result<()> {
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
    if let Some(worst) = of_verdict(report, Verdict::Infected).next() {
        let command = if worst.id.contains(':') {
            "ip6tables"
        } else {
            "iptables"
        };
        writeln!(
            to,
            "\n{BOLD}To stop it now{BOLD:#}, on the gateway (undo with -D for -I):\n  {command} -I FORWARD -s {} -p tcp \
             --dport 25 -j REJECT --reject-with tcp-reset",
            terminal(&worst.id)
        )?;
    }
    Ok(())
}

/// What was counted and is not about the devices above.
fn apart(report: &Report, to: &mut impl Write) -> io::Result<()> {
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

fn inputs(report: &Report, to: &mut impl Write) -> io::Result<()> {
    writeln!(to, "\n{BOLD}Read{BOLD:#}")?;
    for input in &report.inputs {
        writeln!(to, "  {}", input_line(input))?;
    }
    if report.inputs.is_empty() {
        writeln!(to, "  nothing")?;
        return Ok(());
    }
    writeln!(
        to,
        "  {DIM}Only the kernel's own records count; still, whoever may write to a text log can forge it.{DIM:#}"
    )
}

fn input_line(input: &Input) -> String {
    let mut line = format!(
        "{}: {}, {}, {} to a watched port",
        terminal(&input.name),
        indicatif::HumanBytes(input.bytes),
        plural(input.records, "packet record"),
        plural(input.matched, "SYN"),
    );
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
        Verdict::Normal => Style::new(),
    }
}

fn shortened(names: &[&str]) -> String {
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

fn clipped(line: &str, width: Option<u16>) -> String {
    match width {
        Some(width) => line.chars().take(usize::from(width)).collect(),
        None => line.to_owned(),
    }
}

/// An RFC 3339 time of the report in the reader's zone.
fn shown(time: &str, zone: &TimeZone, format: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(timestamp) => timestamp
            .to_zoned_datetime(zone.clone())
            .strftime(format)
            .to_string(),
        Err(_) => time.to_owned(),
    }
}
