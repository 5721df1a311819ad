//! The flags of `rules`.

use std::path::Path;

use clap::{Args, Subcommand};

use super::config::{ConfigFile, Configurable};
use super::some;
use crate::settings::Ports;
use crate::settings::config::{Key, Resolved};
use crate::settings::rules::{At, BackendChoice, PartialRules, Prefix, Via};

/// The flags of `rules`.
#[derive(Debug, Args)]
#[command(
    after_help = "The rules only look: they drop nothing and change no other rule. \
Exit status: 0 done, 1 failed, 2 wrong usage.

Examples:
  smtpwatch rules show
  smtpwatch rules install --dry-run
  smtpwatch rules install --via log --port 25 --port 587
  smtpwatch rules show --backend iptables --via log
  smtpwatch rules status --json
  smtpwatch rules remove"
)]
pub struct Rules {
    /// What to do with them.
    #[command(subcommand)]
    pub action: RulesAction,
    /// The configuration.
    #[command(flatten)]
    config: ConfigFile,
}

impl Configurable for Rules {
    fn config_file(&self) -> Option<&Path> {
        self.config.path()
    }

    fn lay_over(&self, resolved: &mut Resolved) {
        match &self.action {
            RulesAction::Show { wanted }
            | RulesAction::Install { wanted, .. }
            | RulesAction::Status { wanted, .. } => wanted.lay_over(resolved),
            RulesAction::Remove { .. } => {}
        }
    }
}

/// What can be done with the rules.
#[derive(Debug, Subcommand)]
pub enum RulesAction {
    /// Print exactly what would be loaded.
    Show {
        /// Which rules.
        #[command(flatten)]
        wanted: WantedRules,
    },
    /// Put the rules in place, or put right what differs from them.
    Install {
        /// Which rules.
        #[command(flatten)]
        wanted: WantedRules,
        /// Print what would be loaded and have it checked; load nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Take the rules away, whatever became of them; leave everything else as it is.
    Remove {
        /// Take them from this firewall only [default: wherever they are].
        #[arg(long, value_enum, default_value_t, hide_default_value = true)]
        backend: BackendChoice,
        /// Print what would be taken away; take nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Say what is installed, what it counted, what differs, and what decides before it.
    Status {
        /// Which rules there should be [default: those that are there].
        #[command(flatten)]
        wanted: WantedRules,
        /// How to print the answer.
        #[arg(long, value_enum, default_value_t)]
        format: StatusFormat,
        /// Short for --format json.
        #[arg(long, conflicts_with = "format")]
        json: bool,
    },
}

/// How the status is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum StatusFormat {
    /// For people.
    #[default]
    Table,
    /// For programs: schema smtpwatch.rules.v1.
    Json,
}

/// Which rules are wanted.
#[derive(Debug, Args)]
pub struct WantedRules {
    /// The kernel's firewall to use; auto is nft where it works [default: auto].
    #[arg(long, value_enum)]
    backend: Option<BackendChoice>,
    /// How the kernel hands over what it saw [default: nflog].
    #[arg(long, value_enum)]
    via: Option<Via>,
    /// Where it looks [default: prerouting with nft, forward with iptables].
    #[arg(long, value_enum)]
    at: Option<At>,
    /// A watched TCP port; can be given again [default: 25].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), value_delimiter = ',')]
    port: Vec<u16>,
    /// NFLOG group [default: 25].
    #[arg(long, value_name = "N")]
    group: Option<u16>,
    /// What the records begin with [default: "smtpwatch: "].
    #[arg(long, value_name = "TEXT")]
    prefix: Option<Prefix>,
}

impl WantedRules {
    fn lay_over(&self, resolved: &mut Resolved) {
        resolved.flag(Key::Ports, some(&self.port), |config, it| {
            config.ports = Ports::new(it);
        });
        resolved.flag(Key::Backend, self.backend, |config, it| config.backend = it);
        resolved.flag(Key::At, self.at, |config, it| config.at = Some(it));
        resolved.flag(Key::Group, self.group, |config, it| config.group = it);
        resolved.flag(Key::Prefix, self.prefix.clone(), |config, it| {
            config.prefix = it;
        });
    }

    /// What was said about the rules, with what the configuration says that these flags lie over.
    pub fn rules(&self, config: &Resolved) -> PartialRules {
        PartialRules {
            via: self.via,
            ..config.rules()
        }
    }
}
