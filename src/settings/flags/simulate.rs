//! The flags of `simulate`.

use std::num::NonZero;
use std::path::Path;

use clap::Args;

use super::Print;
use super::config::{ConfigFile, Configurable};
use crate::settings::Preset;
use crate::settings::config::{Key, Resolved};

/// The flags of `simulate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Honest hosts and bots are made up by a seed, each behind a gateway of its own, and shown to these settings'
detectors and to other programs' rules. The same seed gives the same answer on every machine. Attempts, groups,
seconds and answered connections are told as the median and what 95 % of the hosts that were found stay within.

Examples:
  smtpwatch simulate
  smtpwatch simulate --profile malicious --detector novelty --seeds 1000
  smtpwatch simulate --profile byod-3 --names --days 90 --config /tmp/new.toml
  smtpwatch simulate --json --output table.json"
)]
pub struct Simulate {
    /// Hosts of this kind only, benign or malicious for all of those; can be given again [default: all].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub profile: Vec<String>,
    /// What this detector says only, own or rivals for all of those; can be given again [default: all].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub detector: Vec<String>,
    /// Days for which a host is looked at, and a bot for 10,000 attempts at the most.
    #[arg(long, value_name = "N", default_value_t = 28, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    pub days: u32,
    /// Hosts of each kind.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub seeds: u32,
    /// Another seed makes up other hosts.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// The gateway sees DNS answers, and knows which networks are one mail service.
    #[arg(long)]
    pub names: bool,
    /// The gateway sees questions for mail servers (MX).
    #[arg(long)]
    pub lookups: bool,
    /// What is normal in the network, in a word; what the configuration says key by key comes before it.
    #[arg(long, value_enum, value_name = "NAME")]
    pub preset: Option<Preset>,
    /// Threads [default: as many as there are cores].
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZero<usize>>,
    /// No progress on standard error.
    #[arg(long, short)]
    pub quiet: bool,
    /// How and where to print.
    #[command(flatten)]
    pub print: Print,
    /// The configuration.
    #[command(flatten)]
    config: ConfigFile,
}

impl Configurable for Simulate {
    fn config_file(&self) -> Option<&Path> {
        self.config.path()
    }

    fn lay_over(&self, resolved: &mut Resolved) {
        resolved.flag(Key::Preset, self.preset, |config, it| config.preset = it);
        resolved.settle_preset();
    }
}
