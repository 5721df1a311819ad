//! The flags of `history`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::config::{ConfigFile, Configurable};
use super::lay_history_over;
use crate::settings::config::Resolved;

/// The flags of `history`.
#[derive(Debug, Args)]
pub struct History {
    /// What to do with it.
    #[command(subcommand)]
    pub action: HistoryAction,
    /// The configuration.
    #[command(flatten)]
    config: ConfigFile,
}

impl Configurable for History {
    fn config_file(&self) -> Option<&Path> {
        self.config.path()
    }

    fn lay_over(&self, resolved: &mut Resolved) {
        let HistoryAction::Forget { state_dir, .. } = &self.action;
        lay_history_over(state_dir.as_ref(), resolved);
    }
}

/// What can be done with the history.
#[derive(Debug, Subcommand)]
pub enum HistoryAction {
    /// Delete what is kept of a device: attempts, findings, addresses, connections, what the detectors remember.
    #[command(
        after_help = "DEVICE is an id, a MAC or an address, as smtpwatch report shows them. Without --yes it shows what would be
deleted, and deletes nothing. That it was forgotten is written down, without its name.

Exit status: 0 done, 1 nothing is kept of it, or something failed, 2 wrong usage.

Examples:
  smtpwatch history forget 192.168.1.23
  smtpwatch history forget aa:bb:cc:dd:ee:ff --yes"
    )]
    Forget {
        /// Which device.
        device: String,
        /// Delete it; without this it is only shown.
        #[arg(long)]
        yes: bool,
        /// Where smtpwatch watch keeps its history [default: /var/lib/smtpwatch].
        #[arg(long, value_name = "DIR")]
        state_dir: Option<PathBuf>,
    },
}
