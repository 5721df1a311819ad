//! The file and its folder: whose they are, and what is done with a file that is not ours. Columns and
//! tables come with a new `user_version`; nothing reads a file of a later one, and an earlier one is
//! migrated by whoever writes.

use std::fs::{self, DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Gid, Group, chown};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::tables::{APPLICATION, VERSION, migrate};
use super::{FILE, StoreError};
use crate::model::Timestamp;

/// Bytes of a page of the file.
pub(super) const PAGE: u64 = 4096;
/// The group that may read the history, where there is one of that name.
const GROUP: &str = "smtpwatch";
/// How long a write waits for another program's lock.
pub(super) const BUSY: Duration = Duration::from_secs(1);
/// The same for who changes something by hand.
const PATIENCE: Duration = Duration::from_secs(10);
/// Who may enter the state directory: it says who wrote to whom.
const FOLDER_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;
/// What a write-ahead log may keep of the disk once it has been copied.
const MAX_WAL_BYTES: u32 = 16 << 20;

/// What a file turned out to be.
enum Found {
    Ours,
    Older(i64),
    Empty,
    Newer(i64),
    Foreign(String),
}

/// Makes the state directory `folder` where it is missing, for its owner and the group `smtpwatch`
/// alone; root's where there is no such group. Answers what to say about one that was made otherwise.
pub(super) fn make_folder(folder: &Path) -> Result<Option<String>, StoreError> {
    let failed = |source| StoreError::Folder {
        path: folder.to_owned(),
        source,
    };
    if folder.is_dir() {
        let mode = fs::metadata(folder).map_err(failed)?.permissions().mode();
        let is_open = mode & 0o7777 & !FOLDER_MODE != 0;
        return Ok(is_open.then(|| {
            format!(
                "{}: its mode is {:o}, which lets in more than its group to read; it was left so: chmod {FOLDER_MODE:o}",
                folder.display(),
                mode & 0o7777
            )
        }));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(folder)
        .map_err(failed)?;
    if let Ok(Some(group)) = Group::from_name(GROUP) {
        // Whoever may not give it away keeps it for himself, which lets in fewer.
        let _ = chown(folder, None, Some(group.gid));
    }
    Ok(None)
}

/// Makes the file at `path`: SQLite would make it readable to everybody. Its companions get the mode
/// and the group it has.
fn make_file(folder: &Path, path: &Path) {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path);
    if made.is_ok()
        && let Ok(folder) = fs::metadata(folder)
    {
        let _ = chown(path, None, Some(Gid::from_raw(folder.gid())));
    }
}

/// Opens the history in `folder` for writing, at most `max_bytes` of it; makes it where there is none,
/// migrates an earlier one, and where there is something else sets that aside. Answers what to say
/// about it, too.
pub(super) fn open(
    folder: &Path,
    now: Timestamp,
    max_bytes: u64,
) -> Result<(Connection, Option<String>), StoreError> {
    let path = folder.join(FILE);
    let failed = |step| {
        let path = path.clone();
        move |source| StoreError::Unreadable { path, step, source }
    };
    make_file(folder, &path);
    let mut message = None;
    let mut connection = connect(&path).map_err(failed("cannot be opened"))?;
    match look(&connection).map_err(failed("cannot be read"))? {
        Found::Ours => {}
        Found::Empty => migrate(&mut connection, 0).map_err(failed("tables cannot be made"))?,
        Found::Older(found) => {
            migrate(&mut connection, found).map_err(failed(
                "cannot be migrated to this version, and is as it was",
            ))?;
            message = Some(format!(
                "{}: was migrated from schema version {found} to {VERSION}",
                path.display()
            ));
        }
        Found::Newer(found) => return Err(newer(path, found)),
        Found::Foreign(what) => {
            drop(connection);
            message = Some(set_aside(&path, &what, now)?);
            make_file(folder, &path);
            connection = connect(&path).map_err(failed("cannot be opened"))?;
            migrate(&mut connection, 0).map_err(failed("tables cannot be made"))?;
        }
    }
    prepare(&connection, max_bytes).map_err(failed("cannot be set up for writing"))?;
    Ok((connection, message))
}

/// Opens the history in `folder` to change something in it beside whoever writes it.
pub(super) fn open_to_change(folder: &Path) -> Result<Connection, StoreError> {
    drop(open_to_read(folder)?);
    let path = folder.join(FILE);
    let failed = |source| StoreError::Unreadable {
        path: path.clone(),
        step: "cannot be opened for writing",
        source,
    };
    let connection = connect(&path).map_err(failed)?;
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    connection
        .pragma_update_and_check(None, "secure_delete", "ON", |_| Ok(()))
        .map_err(failed)?;
    Ok(connection)
}

fn newer(path: PathBuf, found: i64) -> StoreError {
    StoreError::Newer {
        path,
        found,
        known: VERSION,
    }
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
        Found::Older(found) => Err(StoreError::Older { path, found }),
        Found::Newer(found) => Err(newer(path, found)),
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

/// Whether an error says that there is no room: on the disk, or in the file.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
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
        Ok((_, APPLICATION, version)) if version > 0 => Found::Older(version),
        Ok(_) => Found::Foreign("is another program's database".to_owned()),
    })
}

fn prepare(connection: &Connection, max_bytes: u64) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update_and_check(None, "journal_size_limit", MAX_WAL_BYTES, |_| Ok(()))?;
    // What is deleted because of its age shall be gone.
    connection.pragma_update_and_check(None, "secure_delete", "ON", |_| Ok(()))?;
    limit(connection, max_bytes)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Lets the file grow to `max_bytes`, and no less than it has.
pub(super) fn limit(connection: &Connection, max_bytes: u64) -> rusqlite::Result<()> {
    let pages = u32::try_from(max_bytes / PAGE)
        .unwrap_or(u32::MAX - 1)
        .max(1);
    connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
}
