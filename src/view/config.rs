//! The configuration that holds: as a file that can be read again, as `smtpwatch.config.v1`, and for
//! people.

use std::io::{self, Write};

use anstyle::Style;
use serde::Serialize;

use super::escape::terminal;
use super::grid::{Column, Grid};
use crate::settings::config::{Key, Origin, Resolved};

/// The configuration, with the origin of each value.
#[derive(Debug, Serialize)]
pub(crate) struct Configuration {
    schema: &'static str,
    settings: Vec<Setting>,
    /// What follows from the settings of detection, in a sentence.
    detection: String,
}

#[derive(Debug, Serialize)]
struct Setting {
    key: &'static str,
    value: toml::Value,
    /// `default`, `file`, `preset` or `command line`.
    origin: &'static str,
    file: Option<String>,
    line: Option<usize>,
    /// All of it in words.
    #[serde(skip)]
    told: String,
}

impl Configuration {
    /// The shape of `resolved`.
    pub(crate) fn new(resolved: &Resolved) -> Self {
        let settings = Key::ALL.iter().map(|key| {
            let origin = resolved.origin(*key);
            let (kind, file, line) = match origin {
                Origin::Default => ("default", None, None),
                Origin::File { path, line } => ("file", Some(path.clone()), Some(*line)),
                Origin::CommandLine => ("command line", None, None),
                Origin::Preset(_) => ("preset", None, None),
            };
            Setting {
                key: key.name(),
                value: key.show(&resolved.config),
                origin: kind,
                file,
                line,
                told: origin.to_string(),
            }
        });
        Self {
            schema: "smtpwatch.config.v1",
            settings: settings.collect(),
            detection: resolved.config.novelty.promise(),
        }
    }

    /// As a file: what it says is what holds.
    pub(crate) fn toml(&self, to: &mut dyn Write) -> io::Result<()> {
        let mut last = "";
        for setting in &self.settings {
            let (section, name) = setting.key.rsplit_once('.').unwrap_or(("", setting.key));
            if section != last {
                writeln!(to, "\n[{section}]")?;
                if section == "detection" {
                    writeln!(to, "# {}", self.detection)?;
                }
                last = section;
            }
            // A path may hold a line feed, which would end the comment.
            let origin = match setting.origin {
                "file" => format!("from {}", terminal(&setting.told)),
                _ => setting.told.clone(),
            };
            writeln!(to, "{name} = {} # {origin}", setting.value)?;
        }
        Ok(())
    }

    /// For people.
    pub(crate) fn table(&self, to: &mut dyn Write) -> io::Result<()> {
        const COLUMNS: [Column; 3] = [
            Column::text("KEY"),
            Column::text("VALUE"),
            Column::text("FROM"),
        ];
        let mut grid = Grid::new(COLUMNS.iter());
        for setting in &self.settings {
            grid.row([
                setting.key.to_owned(),
                setting.value.to_string(),
                setting.told.clone(),
            ]);
        }
        grid.write(None, |_| Style::new(), to)?;
        writeln!(to, "\n{}", self.detection)
    }

    /// For programs.
    pub(crate) fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *to, self)?;
        writeln!(to)
    }
}
