//! `smtpwatch who`: which devices were behind an address outside. Nothing is answered that cannot be
//! written down with who asked it.

use std::path::Path;

use super::configured::{read_or_say, state_dir_or_say};
use super::operator::operator;
use super::output::deliver;
use super::{FAILED, USAGE, is_broken_pipe, say};
use crate::model::Timestamp;
use crate::runtime::clock;
use crate::settings::flags::who::{Who as Flags, WhoFormat};
use crate::settings::flags::zone;
use crate::source::VendorList;
use crate::store::{StoreError, WhoAsked, audit, who};
use crate::view::{Layout, Who};

/// Rows of the table.
const ROWS: usize = 50;

/// Runs the verb; answers the exit status.
pub(super) fn run(flags: &Flags) -> u8 {
    let now = clock::now();
    let Some(config) = read_or_say(flags) else {
        return FAILED;
    };
    let Some(folder) = state_dir_or_say(&config) else {
        return FAILED;
    };
    let zone = zone(&config);
    let asked = match flags.at(now, &zone) {
        Ok(at) => WhoAsked {
            public_ip: flags.public_ip,
            at,
            within: flags.within,
            port: flags.port,
            to: flags.to,
        },
        Err(error) => {
            say(&error.to_string());
            return USAGE;
        }
    };
    let found = match ask(folder, &asked, now) {
        Ok(found) => found,
        Err(error) => {
            say(&error.to_string());
            return FAILED;
        }
    };
    let format = flags.format();
    let printed = deliver(None, format == WhoFormat::Table, |to, width| match format {
        WhoFormat::Table => {
            let layout = Layout {
                zone,
                top: ROWS,
                width,
            };
            found.table(&layout, to)
        }
        WhoFormat::Json => found.json(to),
    });
    found.notes.iter().for_each(|note| say(note));
    match printed {
        Err(error) if !is_broken_pipe(&error) => {
            say(&format!("{error:#}"));
            FAILED
        }
        _ if found.is_found() => 0,
        _ => FAILED,
    }
}

/// Writes the question down, then answers it.
fn ask(folder: &Path, asked: &WhoAsked, now: Timestamp) -> Result<Who, StoreError> {
    audit(folder, now, &operator(), "who", &told(asked))?;
    let answer = who(folder, asked)?;
    let mut vendors = VendorList::of_system();
    Ok(Who::new(asked, answer, |mac| {
        vendors.of(mac).map(str::to_owned)
    }))
}

/// The question, for the record.
fn told(asked: &WhoAsked) -> String {
    let mut told = format!(
        "--public-ip {} --at {} --within {}s",
        asked.public_ip,
        asked.at,
        asked.within.as_secs()
    );
    if let Some(port) = asked.port {
        told += &format!(" --port {port}");
    }
    if let Some(to) = asked.to {
        told += &format!(" --to {to}");
    }
    told
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::settings::Retention;
    use crate::settings::flags::{Flags as Line, Verb};
    use crate::store::{FILE, Writer};

    fn status(folder: &Path, args: &[&str]) -> u8 {
        let folder = folder.to_str().unwrap();
        let line = [
            "smtpwatch",
            "who",
            "--public-ip",
            "203.0.113.7",
            "--state-dir",
            folder,
        ];
        let line = line.iter().chain(args);
        match Line::try_parse_from(line).unwrap().verb {
            Verb::Who(flags) => run(&flags),
            _ => panic!("not who"),
        }
    }

    #[test]
    fn a_question_is_written_down_whatever_the_answer() {
        let folder = tempfile::tempdir().unwrap();
        // There is no history: nothing to answer from, and nothing is made.
        assert_eq!(status(folder.path(), &["--at", "1h"]), FAILED);
        assert!(!folder.path().join(FILE).exists());
        let now = Timestamp::from_seconds(1_700_000_000);
        Writer::start(folder.path(), now, Retention::default())
            .unwrap()
            .finish();
        assert_eq!(status(folder.path(), &["--at", "soon"]), USAGE);
        assert_eq!(
            status(folder.path(), &["--at", "1h", "--port", "41022"]),
            FAILED
        );
        let file = rusqlite::Connection::open(folder.path().join(FILE)).unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let (who, verb, details): (String, String, String) = file
            .query_row("SELECT who, verb, details FROM audit", [], row)
            .unwrap();
        assert_eq!((who, verb.as_str()), (operator(), "who"));
        assert!(
            details.contains("203.0.113.7") && details.contains("--port 41022"),
            "{details}"
        );
    }

    #[test]
    fn the_record_has_the_whole_question() {
        let asked = WhoAsked {
            public_ip: "203.0.113.7".parse().unwrap(),
            at: Timestamp::from_seconds(1_700_000_000),
            within: Duration::from_secs(300),
            port: Some(41_022),
            to: Some("198.51.100.25".parse().unwrap()),
        };
        assert_eq!(
            told(&asked),
            "--public-ip 203.0.113.7 --at 2023-11-14T22:13:20Z --within 300s --port 41022 --to 198.51.100.25"
        );
    }
}
