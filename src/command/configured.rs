//! The configuration as it lies on the disk: the main file, and `conf.d` beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::say;
use crate::settings::config::{Key, Resolved};
use crate::settings::file::{ConfigText, FileError};
use crate::settings::flags::config::Configurable;

/// The main file, unless `--config` names another.
pub(super) const MAIN: &str = "/etc/smtpwatch/smtpwatch.toml";
/// The folder beside it whose files come later.
const FOLDER: &str = "conf.d";
/// The largest file.
const MAX_BYTES: u64 = 1 << 20;
/// Files in the folder at the most.
const MAX_FILES: usize = 1_000;
/// Mistakes that are told at the most.
const MAX_TOLD: usize = 50;
/// Set where everybody may write.
const WORLD_WRITABLE: u32 = 0o002;

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    /// A file or the folder cannot be read.
    #[error("{path}: cannot be read: {cause}; {advice}", path = path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The system's word.
        cause: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// Something that a configuration cannot be.
    #[error("{path}: is {what}; a configuration is a text file", path = path.display())]
    NoFile {
        /// Which.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Larger than any configuration.
    #[error("{path}: is larger than 1 MiB, and no configuration", path = path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// Not UTF-8.
    #[error("{path}:{line}: is no text (UTF-8)", path = path.display())]
    NoText {
        /// Which.
        path: PathBuf,
        /// Where, counted from 1.
        line: usize,
    },
    /// More files than anybody writes.
    #[error("{path}: holds more than {MAX_FILES} files: put them into fewer", path = path.display())]
    TooMany {
        /// Which folder.
        path: PathBuf,
    },
    /// Everybody could have root do things.
    #[error(
        "{path}: everybody may write to it, and so would decide what root does: take that right away (chmod o-w {path})",
        path = path.display()
    )]
    Writable {
        /// Which.
        path: PathBuf,
    },
    /// A mistake in what it says.
    #[error(transparent)]
    Mistake(#[from] FileError),
}

/// The configuration that `flags` lie over, with them; where it cannot be had, all that is wrong.
pub(super) fn read(flags: &dyn Configurable) -> Result<Resolved, Vec<ConfigError>> {
    let mut resolved = read_files(flags.config_file())?;
    flags.lay_over(&mut resolved);
    Ok(resolved)
}

/// The same, where what is wrong is said.
pub(super) fn read_or_say(flags: &dyn Configurable) -> Option<Resolved> {
    read(flags).map_err(|errors| say_errors(&errors)).ok()
}

/// Where the history is; where none is kept, that is said.
pub(super) fn state_dir_or_say(config: &Resolved) -> Option<&Path> {
    let folder = config.state_dir();
    if folder.is_none() {
        say(&format!(
            "no history is kept: {} is \"-\" ({}); name one that was: --state-dir DIR",
            Key::History.name(),
            config.origin(Key::History)
        ));
    }
    folder
}

/// Says what is wrong, within bounds.
pub(super) fn say_errors(errors: &[ConfigError]) {
    for line in told(errors) {
        say(&line);
    }
}

/// What is wrong, a line each, within bounds.
pub(super) fn told(errors: &[ConfigError]) -> Vec<String> {
    let mut lines: Vec<String> = errors
        .iter()
        .take(MAX_TOLD)
        .map(ToString::to_string)
        .collect();
    if errors.len() > MAX_TOLD {
        lines.push(format!("and {} mistakes more", errors.len() - MAX_TOLD));
    }
    lines
}

/// What the files say: `named` or else the main one, and the folder beside it.
pub(super) fn read_files(named: Option<&Path>) -> Result<Resolved, Vec<ConfigError>> {
    read_files_and(named, &[])
}

/// The same with what is `said` after them.
pub(super) fn read_files_and(
    named: Option<&Path>,
    said: &[ConfigText],
) -> Result<Resolved, Vec<ConfigError>> {
    let main = named.unwrap_or(Path::new(MAIN));
    let mut errors = Vec::new();
    let mut files = Vec::new();
    match text(main) {
        Ok(file) => files.push(file),
        Err(error) if named.is_none() && is_missing(&error) => {}
        Err(error) => errors.push(error),
    }
    match inside(&main.with_file_name(FOLDER)) {
        Ok(paths) => {
            for path in paths {
                match text(&path) {
                    Ok(file) => files.push(file),
                    Err(error) => errors.push(error),
                }
            }
        }
        Err(error) if is_missing(&error) => {}
        Err(error) => errors.push(error),
    }
    files.extend_from_slice(said);
    match Resolved::read(&files) {
        Ok(resolved) if errors.is_empty() => Ok(resolved),
        Ok(_) => Err(errors),
        Err(mistakes) => {
            errors.extend(mistakes.into_iter().map(ConfigError::from));
            Err(errors)
        }
    }
}

fn is_missing(error: &ConfigError) -> bool {
    matches!(
        error,
        ConfigError::Unreadable { cause, .. }
            if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    )
}

/// The files of `folder` that count, in the order of their names.
fn inside(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let failed = |cause| unreadable(folder, cause);
    let entries = fs::read_dir(folder).map_err(failed)?;
    refuse_writable(folder, &fs::metadata(folder).map_err(failed)?)?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.ends_with(b".toml") && !name.starts_with(b".") {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            return Err(ConfigError::TooMany {
                path: folder.to_owned(),
            });
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

fn text(path: &Path) -> Result<ConfigText, ConfigError> {
    let failed = |cause| unreadable(path, cause);
    let file = OpenOptions::new()
        .read(true)
        // Nothing here is waited for.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    let kind = about.file_type();
    let what = match kind {
        _ if kind.is_dir() => Some("a folder"),
        _ if kind.is_fifo() => Some("a pipe"),
        _ if kind.is_block_device() => Some("a device"),
        _ => None,
    };
    if let Some(what) = what {
        return Err(ConfigError::NoFile {
            path: path.to_owned(),
            what,
        });
    }
    if kind.is_file() {
        refuse_writable(path, &about)?;
    }
    let bytes = bounded(file).map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
        });
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        ConfigError::NoText {
            path: path.to_owned(),
            line: memchr::memchr_iter(b'\n', good).count() + 1,
        }
    })?;
    Ok(ConfigText {
        path: path.display().to_string(),
        text,
    })
}

/// A byte more than is allowed at the most.
fn bounded(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where root reads it, nobody else may decide what it says.
fn refuse_writable(path: &Path, about: &fs::Metadata) -> Result<(), ConfigError> {
    if nix::unistd::geteuid().is_root() && about.mode() & WORLD_WRITABLE != 0 {
        return Err(ConfigError::Writable {
            path: path.to_owned(),
        });
    }
    Ok(())
}

fn unreadable(path: &Path, cause: io::Error) -> ConfigError {
    let advice = match cause.kind() {
        io::ErrorKind::PermissionDenied => "run it as root, or let this user read it",
        io::ErrorKind::NotFound => "`smtpwatch config show --default` prints one to begin with",
        _ => "see that it is a text file on a disk that can be read",
    };
    ConfigError::Unreadable {
        path: path.to_owned(),
        cause,
        advice,
    }
}

#[cfg(test)]
mod tests;
