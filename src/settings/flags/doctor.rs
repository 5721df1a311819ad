//! The flags of `doctor`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::config::{ConfigFile, Configurable};
use super::lay_history_over;
use crate::settings::config::Resolved;

/// The flags of `doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Nothing is changed on this machine, and nothing is sent to any network; with --selftest packets \
are sent in a network namespace that is made for it and ends with it; that needs no configuration, and reads none.
Exit status: 0 nothing is a FAIL, 1 something is, 2 wrong usage.

Examples:
  smtpwatch doctor
  smtpwatch doctor -q
  smtpwatch doctor --selftest
  smtpwatch doctor --json"
)]
pub struct Doctor {
    /// Prove on this kernel that a mail attempt is seen and judged: rules, a real SYN, a verdict, in a network namespace
    /// of its own.
    #[arg(long)]
    pub selftest: bool,
    /// How to print the answer.
    #[arg(long, value_enum, default_value_t)]
    format: DoctorFormat,
    /// Short for --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Where smtpwatch watch keeps its history; - is nowhere [default: /var/lib/smtpwatch].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Only what is WARN or FAIL; JSON always has everything.
    #[arg(long, short)]
    pub quiet: bool,
    /// The configuration.
    #[command(flatten)]
    config: ConfigFile,
}

/// How the answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DoctorFormat {
    /// For people.
    #[default]
    Table,
    /// For programs: schema smtpwatch.doctor.v1.
    Json,
}

impl Configurable for Doctor {
    fn config_file(&self) -> Option<&Path> {
        self.config.path()
    }

    fn lay_over(&self, resolved: &mut Resolved) {
        lay_history_over(self.state_dir.as_ref(), resolved);
    }
}

impl Doctor {
    /// The format asked for, whichever way.
    pub fn format(&self) -> DoctorFormat {
        if self.json {
            DoctorFormat::Json
        } else {
            self.format
        }
    }
}
