//! The flags of `history`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::settings::STATE_DIR;

/// The flags of `history`.
#[derive(Debug, Args)]
pub struct History {
    /// What to do with it.
    #[command(subcommand)]
    pub action: HistoryAction,
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
        /// Where smtpwatch watch keeps its history.
        #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
        state_dir: PathBuf,
    },
}
