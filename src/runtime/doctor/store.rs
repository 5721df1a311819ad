//! The state directory: whose it is, whether there is room, whether the history in it can be read.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use crate::store::{FILE, Past};
use crate::view::Check;

/// Bytes that should be free, and that must be.
const LITTLE: u64 = 500 << 20;
const TOO_LITTLE: u64 = 20 << 20;

/// Who may enter the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Folder {
    Missing,
    /// It is there, with these permissions.
    There(u32),
    NotOne,
    Unreadable(String),
}

/// What is known of it.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    path: PathBuf,
    folder: Folder,
    /// Bytes that are free there, or where it would be.
    free: Option<u64>,
    /// Whether the history has anything in it, else why it cannot be read; none where there is none.
    history: Option<Result<bool, String>>,
    /// Bytes of it.
    size: u64,
}

/// The checks of `folder`; none is where no history is kept, which is one line.
pub(super) fn judge(folder: Option<&Path>) -> Vec<Check> {
    match folder {
        Some(folder) => Facts::gather(folder).judge(),
        None => vec![Check::ok(
            "store.folder",
            "no history is kept: history.dir is \"-\"",
        )],
    }
}

impl Facts {
    fn gather(path: &Path) -> Self {
        let folder = match path.metadata() {
            Ok(it) if it.is_dir() => Folder::There(it.permissions().mode() & 0o7777),
            Ok(_) => Folder::NotOne,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Folder::Missing,
            Err(error) => Folder::Unreadable(error.to_string()),
        };
        let file = path.join(FILE);
        let size = file.metadata();
        // A question to a file that is not there would be an error of its own.
        let history = match &size {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            _ => Some(Past::is_there(path).map_err(|error| error.to_string())),
        };
        let nearest = path.ancestors().find(|it| it.is_dir());
        let free = nearest.and_then(|nearest| statvfs(nearest).ok());
        #[allow(clippy::useless_conversion, reason = "32 bits on small machines")]
        let free = free.map(|it| u64::from(it.blocks_available()) * u64::from(it.fragment_size()));
        Self {
            path: path.to_owned(),
            folder,
            free,
            history,
            size: size.map_or(0, |it| it.len()),
        }
    }

    fn judge(&self) -> Vec<Check> {
        vec![self.folder(), self.space(), self.history()]
    }

    fn folder(&self) -> Check {
        const ID: &str = "store.folder";
        let path = self.path.display();
        match &self.folder {
            Folder::Missing => Check::ok(
                ID,
                format!("{path} is not there yet: smtpwatch watch makes it"),
            ),
            Folder::There(mode) if mode & 0o027 != 0 => Check::warn(
                ID,
                format!(
                    "{path} has mode {mode:04o}: others may read or change who sent mail where"
                ),
                format!("chmod 0750 {path}"),
            ),
            Folder::There(mode) => Check::ok(ID, format!("{path}, mode {mode:04o}")),
            Folder::NotOne => Check::fail(
                ID,
                format!("{path} is no directory"),
                "move it away, or give another: smtpwatch watch --state-dir DIR",
            ),
            Folder::Unreadable(why) => Check::warn(
                ID,
                format!("{path} cannot be looked at: {why}"),
                "run it as root: sudo smtpwatch doctor",
            ),
        }
    }

    fn space(&self) -> Check {
        const ID: &str = "store.space";
        let path = self.path.display();
        let Some(free) = self.free else {
            return Check::warn(
                ID,
                format!("how much room {path} has cannot be told"),
                format!("look with: df {path}"),
            );
        };
        let found = format!("{} MiB free for {path}", free >> 20);
        let advice = "make room there, or give another: smtpwatch watch --state-dir DIR";
        match free {
            0..TOO_LITTLE => Check::fail(ID, found, advice),
            TOO_LITTLE..LITTLE => Check::warn(ID, found, advice),
            _ => Check::ok(ID, found),
        }
    }

    fn history(&self) -> Check {
        const ID: &str = "store.history";
        match &self.history {
            None => Check::ok(ID, "no history yet"),
            Some(Ok(has_runs)) => Check::ok(
                ID,
                format!(
                    "the history can be read, {} KiB{}",
                    self.size.div_ceil(1024),
                    if *has_runs { "" } else { ", nothing in it yet" }
                ),
            ),
            Some(Err(why)) => Check::warn(
                ID,
                format!("the history cannot be read: {why}"),
                "smtpwatch watch sets a damaged one aside; as another user: sudo smtpwatch doctor",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::status;
    use super::*;
    use crate::view::CheckStatus::{Fail, Ok as Fine, Warn};

    fn of(id: &str, change: impl FnOnce(&mut Facts)) -> crate::view::CheckStatus {
        let mut facts = Facts {
            path: PathBuf::from("/x"),
            folder: Folder::There(0o750),
            free: Some(u64::MAX),
            history: Some(Ok(true)),
            size: 4096,
        };
        change(&mut facts);
        status(&facts.judge(), id)
    }

    #[test]
    fn the_directory_in_each_state() {
        let id = "store.folder";
        for mode in [0o750, 0o700, 0o2750] {
            assert_eq!(of(id, |it| it.folder = Folder::There(mode)), Fine);
        }
        for mode in [0o755, 0o770] {
            assert_eq!(of(id, |it| it.folder = Folder::There(mode)), Warn);
        }
        assert_eq!(of(id, |it| it.folder = Folder::Missing), Fine);
        assert_eq!(of(id, |it| it.folder = Folder::NotOne), Fail);
        let denied = Folder::Unreadable("denied".to_owned());
        assert_eq!(of(id, |it| it.folder = denied), Warn);
    }

    #[test]
    fn room_and_history() {
        assert_eq!(of("store.space", |it| it.free = Some(TOO_LITTLE - 1)), Fail);
        assert_eq!(of("store.space", |it| it.free = Some(TOO_LITTLE)), Warn);
        assert_eq!(of("store.space", |it| it.free = Some(LITTLE)), Fine);
        assert_eq!(of("store.space", |it| it.free = None), Warn);
        let id = "store.history";
        assert_eq!(of(id, |it| it.history = None), Fine);
        assert_eq!(of(id, |it| it.history = Some(Ok(false))), Fine);
        assert_eq!(of(id, |it| it.history = Some(Err("x".to_owned()))), Warn);
    }

    #[test]
    fn what_is_there_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        assert_eq!(Facts::gather(&path).folder, Folder::Missing);
        fs::create_dir(&path).unwrap();
        let facts = Facts::gather(&path);
        assert!(facts.history.is_none() && facts.free.is_some(), "{facts:?}");
        fs::write(path.join(FILE), "no database").unwrap();
        let facts = Facts::gather(&path);
        assert!(matches!(facts.history, Some(Err(_))), "{facts:?}");
        let kept = fs::read_to_string(path.join(FILE)).unwrap();
        assert_eq!(kept, "no database");
        assert_eq!(Facts::gather(&path.join(FILE)).folder, Folder::NotOne);
    }
}
