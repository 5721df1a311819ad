//! Floor 6: how an answer is shown. [`report`] is the stable shape (`smtpwatch.report.v1`), apart
//! from internal types; a file for each format makes text of it.
//!
//! Whatever came from the network or from a log is escaped for the place where it is shown.

mod backtest;
mod config;
mod csv;
mod devices;
mod diagnosis;
mod escape;
pub(crate) mod event;
mod evidence;
mod explain;
mod grid;
mod json;
mod live;
mod notes;
mod notice;
mod proposals;
mod report;
mod rules;
mod simulate;
mod table;
mod who;

use std::io::{self, Write};

use jiff::tz::TimeZone;

pub(crate) use backtest::{Backtest, Tried};
pub(crate) use config::Configuration;
pub(crate) use devices::Devices;
pub(crate) use diagnosis::{Check, Diagnosis, Status as CheckStatus};
pub(crate) use escape::terminal as for_terminal;
pub(crate) use evidence::Evidence;
pub(crate) use explain::{Explainer, explain_leases};
pub(crate) use live::LiveView;
pub(crate) use notice::told;
pub(crate) use proposals::{Proposal, line as proposed};
pub(crate) use report::Report;
pub(crate) use rules::RulesStatus;
pub(crate) use simulate::Simulation;
pub(crate) use who::Who;

/// How to print.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Zone of the times in the table.
    pub(crate) zone: TimeZone,
    /// Rows of the table.
    pub(crate) top: usize,
    /// Columns of the terminal, where it is one.
    pub(crate) width: Option<u16>,
}

/// Prints `report` for people.
pub(crate) fn table(report: &Report, layout: &Layout, to: &mut dyn Write) -> io::Result<()> {
    match &report.device {
        Some(evidence) => evidence.table(layout, to),
        None => table::write(report, layout, to),
    }
}

/// Prints `report` as JSON.
pub(crate) fn json(report: &Report, to: &mut dyn Write) -> io::Result<()> {
    json::write(report, to)
}

/// Prints the devices of `report` as CSV; the attempts of the one that was asked for.
pub(crate) fn csv(report: &Report, to: &mut dyn Write) -> io::Result<()> {
    match &report.device {
        Some(evidence) => evidence.csv(to),
        None => csv::write(report, to),
    }
}
