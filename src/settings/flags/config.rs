//! The flags of `config`, and the one that names the configuration.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use crate::settings::config::Resolved;

/// Flags that lie over a configuration.
pub trait Configurable {
    /// The file that was named for the main one.
    fn config_file(&self) -> Option<&Path>;

    /// Takes what these flags say.
    fn lay_over(&self, resolved: &mut Resolved);
}

/// Which configuration.
#[derive(Clone, Debug, Args)]
pub struct ConfigFile {
    /// Read this configuration, and conf.d/*.toml beside it [default: /etc/smtpwatch/smtpwatch.toml, where there is
    /// one].
    #[arg(long = "config", id = "config", value_name = "FILE", global = true)]
    path: Option<PathBuf>,
}

impl ConfigFile {
    /// The file that was named.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

/// The flags of `config`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 done, 1 the configuration has a mistake or cannot be read, 2 wrong usage.

Examples:
  smtpwatch config show
  smtpwatch config show -- watch --lan 198.51.100.0/24
  smtpwatch config show --default > /etc/smtpwatch/smtpwatch.toml
  smtpwatch config check /tmp/new.toml"
)]
pub struct Config {
    /// What to do with it.
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// What can be done with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Print what holds, and where each value came from.
    Show {
        /// Print the file that comes with the program instead: every key, its default, and what it means.
        #[arg(long, conflicts_with_all = ["format", "json", "config", "command"])]
        default: bool,
        /// How to print it; toml can be read again.
        #[arg(long, value_enum, default_value_t)]
        format: ConfigFormat,
        /// Short for --format json.
        #[arg(long, conflicts_with = "format")]
        json: bool,
        /// The configuration.
        #[command(flatten)]
        config: ConfigFile,
        /// What would hold for this: a verb of smtpwatch's and its flags.
        #[arg(last = true, value_name = "VERB")]
        command: Vec<OsString>,
    },
    /// Look for mistakes, and print all there are.
    Check {
        /// Check this file, and conf.d/*.toml beside it [default: /etc/smtpwatch/smtpwatch.toml].
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// How the configuration is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ConfigFormat {
    /// As a file, the origins in comments.
    #[default]
    Toml,
    /// For people.
    Table,
    /// For programs: schema smtpwatch.config.v1.
    Json,
}
