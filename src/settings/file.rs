//! Configuration files: text in, the resolved configuration out, or everything that is wrong with all
//! of them, each with its file and line. Reads no file.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::config::{Key, MIN_RATIO, Origin, Resolved};
use super::value::{Given, Wrong, shortened};

/// How alike two names are, from 0 to 1, that may be meant for each other.
const ALIKE: f64 = 0.5;
/// Characters of a name that are compared.
const COMPARED: usize = 64;

/// A configuration file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigText {
    /// Its path, for people.
    pub path: String,
    /// What it holds.
    pub text: String,
}

/// A mistake in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}:{line}: {what}")]
pub struct FileError {
    /// Which file.
    pub path: String,
    /// Its line, counted from 1.
    pub line: usize,
    /// The key, what is wrong with it, and what is allowed.
    pub what: String,
}

impl Resolved {
    /// What `files` say, the later over the earlier, over the defaults; or all that is wrong with them.
    pub fn read(files: &[ConfigText]) -> Result<Self, Vec<FileError>> {
        let mut reader = Reader {
            resolved: Self::default(),
            errors: Vec::new(),
        };
        for file in files {
            reader.file(file);
        }
        reader.resolved.settle_preset();
        reader.contradictions();
        if reader.errors.is_empty() {
            Ok(reader.resolved)
        } else {
            Err(reader.errors)
        }
    }
}

struct Reader {
    resolved: Resolved,
    errors: Vec<FileError>,
}

/// A file that is read, and where its lines end.
struct Lined<'a> {
    path: &'a str,
    ends: Vec<usize>,
}

impl<'a> Lined<'a> {
    fn new(file: &'a ConfigText) -> Self {
        Self {
            path: &file.path,
            ends: memchr::memchr_iter(b'\n', file.text.as_bytes()).collect(),
        }
    }

    /// The line of the byte `at`, counted from 1.
    fn line(&self, at: usize) -> usize {
        self.ends.partition_point(|&end| end < at) + 1
    }
}

impl Reader {
    fn file(&mut self, file: &ConfigText) {
        let (table, mistakes) = DeTable::parse_recoverable(&file.text);
        let mut is_whole = true;
        let before = self.errors.len();
        let file = &Lined::new(file);
        for mistake in mistakes {
            let at = mistake.span().map_or(0, |span| span.start);
            // Of the rest of a text that cannot be read nothing is certain.
            is_whole &= mistake.message().starts_with("duplicate key");
            self.wrong(file, at, &format!("no TOML: {}", mistake.message()));
        }
        if is_whole {
            self.table(file, "", table.get_ref());
        }
        // In the order of the file, not of the names.
        self.errors[before..].sort_by_key(|error| error.line);
    }

    /// What can be told only of all files together.
    fn contradictions(&mut self) {
        let pairs: Vec<(Key, Key)> = self.resolved.contradictions().collect();
        for (normal, infected) in pairs {
            let said = [infected, normal].map(|key| (key, self.resolved.origin(key).clone()));
            let given = said.into_iter().find_map(|(key, origin)| match origin {
                Origin::File { path, line } => Some((key, path, line)),
                _ => None,
            });
            let Some((key, path, line)) = given else {
                continue;
            };
            let show = |key: Key| key.show(&self.resolved.config);
            let what = format!(
                "{}: {} is {}, and {} is {}; give at least {MIN_RATIO} times as much as is normal",
                key.name(),
                infected.name(),
                show(infected),
                normal.name(),
                show(normal),
            );
            self.errors.push(FileError { path, line, what });
        }
    }

    fn table(&mut self, file: &Lined<'_>, before: &str, table: &DeTable<'_>) {
        for (name, given) in table {
            let full = format!("{before}{}", name.get_ref());
            let key = Key::ALL.iter().find(|key| key.name() == full);
            match (key, given.get_ref()) {
                (Some(key), _) => self.key(file, *key, given),
                (None, DeValue::Table(inner)) if is_section(&full) => {
                    self.table(file, &format!("{full}."), inner);
                }
                (None, _) if is_section(&full) => {
                    let what =
                        format!("{full} is a section; write [{full}], and its keys below it");
                    self.wrong(file, name.span().start, &what);
                }
                (None, DeValue::Table(_)) => {
                    self.unknown(file, name, &full, "section", sections());
                }
                (None, _) => {
                    let keys = Key::ALL.iter().map(|key| key.name().to_owned());
                    self.unknown(file, name, &full, "key", keys);
                }
            }
        }
    }

    fn key(&mut self, file: &Lined<'_>, key: Key, given: &Given<'_>) {
        match key.read(given, &mut self.resolved.config) {
            Ok(()) => {
                let origin = Origin::File {
                    path: file.path.to_owned(),
                    line: file.line(given.span().start),
                };
                self.resolved.came_from(key, origin);
            }
            Err(all) => {
                for Wrong { at, what } in all {
                    self.wrong(file, at, &format!("{}: {what}", key.name()));
                }
            }
        }
    }

    fn unknown<T>(
        &mut self,
        file: &Lined<'_>,
        name: &Spanned<T>,
        full: &str,
        kind: &str,
        known: impl Iterator<Item = String>,
    ) {
        let full: String = full.chars().take(COMPARED).collect();
        let advice = match nearest(&full, known) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => "smtpwatch config show --default prints all that are known".to_owned(),
        };
        let what = format!("unknown {kind} {}: {advice}", shortened(&full));
        self.wrong(file, name.span().start, &what);
    }

    fn wrong(&mut self, file: &Lined<'_>, at: usize, what: &str) {
        self.errors.push(FileError {
            path: file.path.to_owned(),
            line: file.line(at),
            what: what.to_owned(),
        });
    }
}

/// What keys stand in, the whole of it and its parts.
fn sections() -> impl Iterator<Item = String> {
    Key::ALL.iter().flat_map(|key| {
        let name = key.name();
        name.match_indices('.')
            .map(move |(at, _)| name[..at].to_owned())
    })
}

fn is_section(name: &str) -> bool {
    sections().any(|section| section == name)
}

/// The known name that is most like `name`: as a whole, or in its last part (the key in a wrong section).
fn nearest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |known: &str| {
        let whole = strsim::normalized_damerau_levenshtein(name, known);
        // The right section weighs less than the right word.
        whole.max(0.9 * strsim::normalized_damerau_levenshtein(&last(name), &last(known)))
    };
    known
        .map(|known| (likeness(&known), known))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}

/// What a file with this text says, which has no mistake.
#[cfg(test)]
pub(crate) fn of_text(text: &str) -> Resolved {
    let path = "a.toml".to_owned();
    let text = text.to_owned();
    Resolved::read(&[ConfigText { path, text }]).unwrap()
}

#[cfg(test)]
mod tests;
