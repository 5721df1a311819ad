//! What simulated hosts came to, `smtpwatch.simulation.v1`: new fields may come, none goes.

use std::io::{self, Write};

use anstyle::Style;
use serde::Serialize;

use super::grid::{Column, Grid};
use crate::engine::grouped;
use crate::simulation::{Profile, Quantiles, Row, Setting};

/// The schema's name.
const SCHEMA: &str = "smtpwatch.simulation.v1";
const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const BOTS: [Column; 9] = [
    Column::text("PROFILE"),
    Column::text("DETECTOR"),
    Column::number("FOUND %"),
    Column::number("ATTEMPTS"),
    Column::number("GROUPS"),
    Column::number("SECONDS"),
    Column::number("GOT OUT"),
    Column::number("AFTER"),
    Column::number("BYTES"),
];
const HONEST: [Column; 8] = [
    Column::text("PROFILE"),
    Column::text("DETECTOR"),
    Column::number("HOSTS"),
    Column::number("FOUND"),
    Column::number("HOST-DAYS"),
    Column::number("A HOST-DAY"),
    Column::number("BOUND 95 %"),
    Column::number("BYTES"),
];

/// An answer.
#[derive(Debug, Serialize)]
pub(crate) struct Simulation {
    schema: &'static str,
    seed: u64,
    /// Hosts of each profile.
    seeds: usize,
    /// Days of each.
    days: u32,
    names: bool,
    lookups: bool,
    profiles: Vec<Kind>,
    /// What the rivals look for.
    rivals: Vec<Kind>,
    rows: Vec<Row>,
}

/// A profile or a rival, in words.
#[derive(Debug, Serialize)]
struct Kind {
    name: &'static str,
    what: &'static str,
}

impl Simulation {
    /// What `hosts` of each of the `profiles` came to.
    pub(crate) fn new(
        setting: &Setting,
        profiles: &[&'static Profile],
        hosts: usize,
        rows: Vec<Row>,
    ) -> Self {
        let of = |profile: &&'static Profile| Kind {
            name: profile.name,
            what: profile.what,
        };
        let judges = setting.judges.iter();
        Self {
            schema: SCHEMA,
            seed: setting.seed,
            seeds: hosts,
            days: setting.days,
            names: setting.has_names,
            lookups: setting.has_lookups,
            profiles: profiles.iter().map(of).collect(),
            rivals: judges
                .filter_map(|judge| {
                    let name = judge.name();
                    judge.what().map(|what| Kind { name, what })
                })
                .collect(),
            rows,
        }
    }

    /// Prints it for people.
    pub(crate) fn table(&self, width: Option<u16>, to: &mut dyn Write) -> io::Result<()> {
        let of = |is_malicious| {
            let rows = self.rows.iter();
            rows.filter(move |row| row.malicious == is_malicious)
        };
        if of(true).next().is_some() {
            writeln!(
                to,
                "{BOLD}Bots, {} of each{BOLD:#}: {DIM}median/95 % of those that were found{DIM:#}",
                grouped(self.seeds as u64)
            )?;
            write_grid(&BOTS, of(true).map(bot), width, to)?;
        }
        if of(false).next().is_some() {
            if of(true).next().is_some() {
                writeln!(to)?;
            }
            writeln!(
                to,
                "{BOLD}Honest hosts, {} of each{BOLD:#}: {DIM}false alarms{DIM:#}",
                grouped(self.seeds as u64)
            )?;
            write_grid(&HONEST, of(false).map(honest), width, to)?;
        }
        Ok(())
    }

    /// Prints it as JSON.
    pub(crate) fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *to, self)?;
        writeln!(to)
    }

    /// Prints it as CSV: one row a profile and detector, columns named as in the JSON.
    pub(crate) fn csv(&self, to: &mut dyn Write) -> io::Result<()> {
        let mut rows = csv::Writer::from_writer(to);
        rows.write_record([
            "profile",
            "malicious",
            "detector",
            "hosts",
            "host_days",
            "found",
            "found_percent",
            "per_host_day",
            "per_host_day_bound95",
            "attempts_median",
            "attempts_p95",
            "groups_median",
            "groups_p95",
            "seconds_median",
            "seconds_p95",
            "answered_before_median",
            "answered_before_p95",
            "answered_after",
            "state_bytes",
        ])?;
        for row in &self.rows {
            let quantiles = [row.attempts, row.groups, row.seconds, row.answered_before];
            let quantiles = quantiles.iter().flat_map(|it| {
                let text = |value: fn(&Quantiles) -> u64| {
                    it.as_ref()
                        .map(value)
                        .map_or_else(String::new, |it| it.to_string())
                };
                [text(|it| it.median), text(|it| it.p95)]
            });
            let first = [
                row.profile.to_owned(),
                row.malicious.to_string(),
                row.detector.to_owned(),
                row.hosts.to_string(),
                row.host_days.to_string(),
                row.found.to_string(),
                row.found_percent.to_string(),
                row.per_host_day.to_string(),
                row.per_host_day_bound95.to_string(),
            ];
            let last = [row.answered_after.to_string(), row.state_bytes.to_string()];
            rows.write_record(first.into_iter().chain(quantiles).chain(last))?;
        }
        rows.flush()
    }
}

fn write_grid(
    columns: &[Column],
    rows: impl Iterator<Item = Vec<String>>,
    width: Option<u16>,
    to: &mut dyn Write,
) -> io::Result<()> {
    let mut grid = Grid::new(columns.iter());
    rows.for_each(|row| grid.row(row));
    grid.write(width, |_| Style::new(), to)
}

fn bot(row: &Row) -> Vec<String> {
    vec![
        row.profile.to_owned(),
        row.detector.to_owned(),
        format!("{:.1}", row.found_percent),
        shown(row.attempts),
        shown(row.groups),
        shown(row.seconds),
        shown(row.answered_before),
        grouped(row.answered_after),
        grouped(row.state_bytes),
    ]
}

fn honest(row: &Row) -> Vec<String> {
    vec![
        row.profile.to_owned(),
        row.detector.to_owned(),
        grouped(row.hosts),
        grouped(row.found),
        grouped(row.host_days),
        rate(row.per_host_day),
        rate(row.per_host_day_bound95),
        grouped(row.state_bytes),
    ]
}

fn shown(quantiles: Option<Quantiles>) -> String {
    quantiles.map_or_else(
        || "-".to_owned(),
        |it| format!("{}/{}", grouped(it.median), grouped(it.p95)),
    )
}

fn rate(rate: f64) -> String {
    if rate == 0.0 {
        "0".to_owned()
    } else if rate >= 0.01 {
        format!("{:.1} %", rate * 100.0)
    } else {
        format!("{rate:.1e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_rates_are_told_from_none() {
        assert_eq!(rate(0.0), "0");
        assert_eq!(rate(7.0e-6), "7.0e-6");
        assert_eq!(rate(0.0231), "2.3 %");
    }
}
