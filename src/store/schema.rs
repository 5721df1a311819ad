//! The file: its tables, its version, and what is done with a file that is not ours.
//!
//! `attempts` is for detail, `minutes` for the whole: what is counted there has a row whether its
//! device is known or not. Columns and tables come with a new `user_version`; nothing reads a file of
//! a later one.

use std::fs::{self, DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{FILE, StoreError};
use crate::model::Timestamp;

/// `PRAGMA application_id`: "SMTW".
pub(super) const APPLICATION: i64 = 0x534d_5457;
/// `PRAGMA user_version`.
pub(super) const VERSION: i64 = 1;
/// How large the file may grow: 1 GiB of pages.
pub(super) const MAX_PAGES: u32 = 262_144;
/// How long a write waits for another program's lock.
pub(super) const BUSY: Duration = Duration::from_secs(1);
/// Who may enter the state directory: it says who wrote to whom.
const FOLDER_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;
/// What a write-ahead log may keep of the disk once it has been copied.
const MAX_WAL_BYTES: u32 = 16 << 20;

const TABLES: &str = "
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    started INTEGER NOT NULL,
    last INTEGER NOT NULL
) STRICT;
CREATE TABLE devices (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    mac TEXT,
    hostname TEXT,
    interface TEXT,
    basis TEXT NOT NULL,
    addresses TEXT NOT NULL,
    is_shared INTEGER NOT NULL,
    changed INTEGER NOT NULL
) STRICT;
CREATE TABLE attempts (
    minute INTEGER NOT NULL,
    device INTEGER NOT NULL REFERENCES devices (id),
    direction INTEGER NOT NULL,
    port INTEGER NOT NULL,
    destination BLOB NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    syns INTEGER NOT NULL,
    PRIMARY KEY (minute, device, direction, port, destination)
) STRICT, WITHOUT ROWID;
CREATE TABLE minutes (
    minute INTEGER NOT NULL,
    direction INTEGER NOT NULL,
    port INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    syns INTEGER NOT NULL,
    PRIMARY KEY (minute, direction, port)
) STRICT, WITHOUT ROWID;
CREATE TABLE findings (
    id INTEGER PRIMARY KEY,
    device INTEGER NOT NULL REFERENCES devices (id),
    detector TEXT NOT NULL,
    score REAL NOT NULL,
    threshold REAL NOT NULL,
    at INTEGER NOT NULL,
    at_attempt INTEGER NOT NULL,
    took INTEGER NOT NULL,
    within INTEGER NOT NULL
) STRICT;
CREATE INDEX findings_by_time ON findings (at);
CREATE TABLE unseen (
    minute INTEGER NOT NULL,
    source TEXT NOT NULL,
    kind TEXT NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (minute, source, kind)
) STRICT, WITHOUT ROWID;
CREATE TABLE notices (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    notice TEXT NOT NULL
) STRICT;
";

/// What a file turned out to be.
enum Found {
    Ours,
    Empty,
    Newer(i64),
    Foreign(String),
}

/// Makes the state directory `folder` where it is missing, for its owner and group alone.
pub(super) fn make_folder(folder: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(folder)
        .map_err(|source| StoreError::Folder {
            path: folder.to_owned(),
            source,
        })
}

/// Opens the history in `folder` for writing; makes it where there is none, and where there is
/// something else sets that aside. Answers what to say about it, too.
pub(super) fn open(
    folder: &Path,
    now: Timestamp,
    max_pages: u32,
) -> Result<(Connection, Option<String>), StoreError> {
    let path = folder.join(FILE);
    let failed = |step| {
        let path = path.clone();
        move |source| StoreError::Unreadable { path, step, source }
    };
    // SQLite would make it readable to everybody, and gives its companions the mode it has.
    let _ = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(&path);
    let mut message = None;
    let mut connection = connect(&path).map_err(failed("cannot be opened"))?;
    match look(&connection).map_err(failed("cannot be read"))? {
        Found::Ours => {}
        Found::Empty => create(&mut connection).map_err(failed("tables cannot be made"))?,
        Found::Newer(found) => {
            return Err(StoreError::Newer {
                path,
                found,
                known: VERSION,
            });
        }
        Found::Foreign(what) => {
            drop(connection);
            message = Some(set_aside(&path, &what, now)?);
            let _ = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(FILE_MODE)
                .open(&path);
            connection = connect(&path).map_err(failed("cannot be opened"))?;
            create(&mut connection).map_err(failed("tables cannot be made"))?;
        }
    }
    prepare(&connection, max_pages).map_err(failed("cannot be set up for writing"))?;
    Ok((connection, message))
}

/// Opens the history in `folder` for reading, also while it is written.
pub(super) fn open_to_read(folder: &Path) -> Result<Connection, StoreError> {
    let path = folder.join(FILE);
    match fs::File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(StoreError::None { path });
        }
        Err(source) => return Err(StoreError::Denied { path, source }),
        Ok(_) => {}
    }
    let failed = |step| {
        let path = path.clone();
        move |source| StoreError::Unreadable { path, step, source }
    };
    let mut connection = read_only(&path, "").map_err(failed("cannot be opened"))?;
    let mut found = look(&connection);
    // Without the right to write in the folder a file that nobody writes can still be read as it is.
    let is_refused = |error: &rusqlite::Error| {
        matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
        )
    };
    if found.as_ref().is_err_and(is_refused) && !companion(&path, "-wal").exists() {
        connection = read_only(&path, "?immutable=1").map_err(failed("cannot be opened"))?;
        found = look(&connection);
    }
    match found.map_err(failed("cannot be read"))? {
        Found::Ours => Ok(connection),
        Found::Empty => Err(StoreError::None { path }),
        Found::Newer(found) => Err(StoreError::Newer {
            path,
            found,
            known: VERSION,
        }),
        Found::Foreign(what) => Err(StoreError::Foreign { path, what }),
    }
}

/// Whether an error says that the file is damaged, or no database at all.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)
    )
}

/// Whether an error says that another program holds the file.
pub(super) fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// Renames the file at `path`, which is no history because of `what`; answers what to say.
pub(super) fn set_aside(path: &Path, what: &str, now: Timestamp) -> Result<String, StoreError> {
    let stamp = now.to_string().replace([':', '-'], "");
    let named = |number: u32| {
        let number = if number == 0 {
            String::new()
        } else {
            format!("-{number}")
        };
        companion(path, &format!(".corrupt-{stamp}{number}"))
    };
    let free = (0..1000).map(named).find(|name| !name.exists());
    let to = free.unwrap_or_else(|| named(1000));
    let stuck = |source| StoreError::Stuck {
        path: path.to_owned(),
        what: what.to_owned(),
        source,
    };
    fs::rename(path, &to).map_err(stuck)?;
    for suffix in ["-wal", "-shm"] {
        match fs::rename(companion(path, suffix), companion(&to, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(stuck(error)),
            _ => {}
        }
    }
    Ok(format!(
        "{}: {what}; it was set aside as {}, and a new history begins",
        path.display(),
        to.display()
    ))
}

/// The name of `path` with something behind it.
fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

fn read_only(path: &Path, query: &str) -> rusqlite::Result<Connection> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = path.as_os_str().as_bytes();
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
    let name: String = bytes
        .iter()
        .map(|&b| {
            if is_plain(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(format!("file:{name}{query}"), flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

fn look(connection: &Connection) -> rusqlite::Result<Found> {
    let ask = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let answers = ask("SELECT count(*) FROM sqlite_schema").and_then(|tables| {
        let application = ask("PRAGMA application_id")?;
        Ok((tables, application, ask("PRAGMA user_version")?))
    });
    Ok(match answers {
        Err(error) if is_damage(&error) => Found::Foreign(format!("is no history ({error})")),
        Err(error) => return Err(error),
        Ok((0, 0, 0)) => Found::Empty,
        Ok((_, APPLICATION, version)) if version > VERSION => Found::Newer(version),
        Ok((_, APPLICATION, VERSION)) => Found::Ours,
        Ok(_) => Found::Foreign("is another program's database".to_owned()),
    })
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

fn prepare(connection: &Connection, max_pages: u32) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update_and_check(None, "journal_size_limit", MAX_WAL_BYTES, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "max_page_count", max_pages, |_| Ok(()))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}
