//! The house keeps its floors: a room uses lower floors only, and floors 0 to 3 do no I/O.
//!
//! Read from the text of the sources: paths that begin with `crate::` or `super::`, and names of
//! the standard library that stand for files, sockets, threads, clocks or chance.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

/// Each room and its floor, as `src/ARCHITECTURE.md` has them.
const FLOORS: [(&str, u8); 16] = [
    ("model", 0),
    ("decode", 1),
    ("settings", 1),
    ("attribution", 2),
    ("detection", 2),
    ("ruleset", 2),
    ("engine", 3),
    ("simulation", 4),
    ("sys", 4),
    ("netfilter", 5),
    ("recording", 5),
    ("source", 5),
    ("store", 5),
    ("view", 6),
    ("runtime", 7),
    ("command", 8),
];
/// The highest floor without I/O.
const PURE: u8 = 3;
/// A room above it that does none either.
const PURE_ABOVE: &str = "simulation";
const BANNED: [&str; 27] = [
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "std::sync",
    "std::os",
    "tokio",
    "walkdir",
    "tempfile",
    "indicatif",
    "File::",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "TimeZone::system()",
    "RandomState",
    "rand::",
    "fastrand",
    "println!",
    "eprintln!",
    "print!(",
    "unsafe ",
];
/// Where a banned name is allowed, and why.
const EXCEPTIONS: [(&str, &str); 3] = [
    // A default that is taken only where the user names no zone; the value is then handed down.
    ("src/settings/flags.rs", "TimeZone::system()"),
    // Numbers of a seed that is handed down.
    ("src/simulation/chance.rs", "fastrand"),
    ("src/simulation/chance.rs", "rand::"),
];

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn room(&self) -> &str {
        let room = self.path.iter().nth(1).unwrap().to_str().unwrap();
        room.strip_suffix(".rs").unwrap_or(room)
    }

    /// How many modules deep the file is: `src/engine/tests.rs` is 2.
    fn depth(&self) -> usize {
        let parts = self.path.iter().count() - 1;
        parts - usize::from(self.path.ends_with("mod.rs"))
    }

    /// The lines without comments and without what only tests see.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .take_while(|(_, line)| *line != "mod tests {")
            .map(|(number, line)| (number + 1, line.split("//").next().unwrap()))
    }
}

fn floor(room: &str) -> Option<u8> {
    FLOORS
        .iter()
        .find(|(name, _)| *name == room)
        .map(|(_, floor)| *floor)
}

/// What `source` does that its floor does not allow.
fn violations(source: &Source) -> Vec<String> {
    let room = source.room();
    if room == "lib" || room == "main" {
        return Vec::new();
    }
    let Some(own) = floor(room) else {
        return vec![format!(
            "{}: the room {room:?} is on no floor",
            source.path.display()
        )];
    };
    let mut found = Vec::new();
    let mut complain = |line: usize, what: String| {
        found.push(format!("{}:{line}: {what}", source.path.display()));
    };
    for (number, line) in source.code() {
        for used in names_after(line, "crate::") {
            match floor(used) {
                _ if used == room => {}
                Some(other) if other < own => {}
                Some(_) => complain(number, format!("{room} (floor {own}) uses {used}")),
                None => complain(
                    number,
                    format!("`crate::{used}`: name one room after `crate::`"),
                ),
            }
        }
        let supers = line.matches("super::super::").count() + 1;
        if line.contains("super::super::") && supers >= source.depth() {
            complain(number, "leaves its room by `super::`".to_owned());
        }
        if (own <= PURE || room == PURE_ABOVE) && !source.path.ends_with("tests.rs") {
            for banned in BANNED.iter().filter(|banned| line.contains(**banned)) {
                let path = source.path.to_str().unwrap();
                if !EXCEPTIONS.contains(&(path, banned)) {
                    complain(number, format!("floor {own} must not know {banned}"));
                }
            }
        }
    }
    found
}

/// The identifiers that follow `prefix` in `line`.
fn names_after<'a>(line: &'a str, prefix: &str) -> impl Iterator<Item = &'a str> {
    line.split(prefix).skip(1).map(|rest| {
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        &rest[..end]
    })
}

fn sources(folder: &Path, found: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push(Source { path, text });
        }
    }
}

#[test]
fn every_room_keeps_to_its_floor() {
    let mut all = Vec::new();
    sources(Path::new("src"), &mut all);
    assert!(all.len() > 20, "only {} files found", all.len());
    let found: Vec<String> = all.iter().flat_map(violations).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_floor_is_on_the_map() {
    let map = std::fs::read_to_string("src/ARCHITECTURE.md").unwrap();
    for (room, floor) in FLOORS {
        let row = map
            .lines()
            .find(|line| line.contains(&format!("`{room}/`")));
        let row = row.unwrap_or_else(|| panic!("src/ARCHITECTURE.md does not name {room}/"));
        assert!(row.contains(&format!("| {floor} |")), "{row}");
        assert!(
            Path::new("src").join(room).exists(),
            "{room} has nothing in it"
        );
    }
}

#[test]
fn what_is_forbidden_is_found() {
    let check = |path: &str, text: &str| {
        violations(&Source {
            path: path.into(),
            text: text.to_owned(),
        })
    };
    for (path, text) in [
        ("src/model/x.rs", "use crate::engine::Engine;"),
        ("src/decode/x.rs", "use crate::settings::Ports;"),
        ("src/decode/x.rs", "use crate::{model, engine};"),
        ("src/engine/x.rs", "let f = crate::source::open();"),
        ("src/engine/x.rs", "use super::super::source::open;"),
        ("src/engine/x.rs", "use std::fs::File;"),
        ("src/engine/x.rs", "let now = Instant::now();"),
        ("src/simulation/x.rs", "fastrand::u32(..)"),
        ("src/simulation/x.rs", "use crate::source::open;"),
        ("src/attic/x.rs", ""),
    ] {
        assert!(!check(path, text).is_empty(), "{path}: {text}");
    }
    for (path, text) in [
        (
            "src/engine/x.rs",
            "use crate::model::Mac; // crate::command",
        ),
        (
            "src/source/x.rs",
            "use std::fs::File; use crate::decode::stamp;",
        ),
        ("src/engine/a/x.rs", "use super::super::Engine;"),
    ] {
        assert_eq!(check(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}
