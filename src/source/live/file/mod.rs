//! A log that is followed, by its name: through rename and re-creation, through truncation by whoever
//! has copied it (logrotate's `create`, `copytruncate`, `dateext`, `compress`, in any order and number
//! between two reads), and while it is missing. What was read, and how far, is kept as text, so that a
//! later run goes on where this one stopped.
//!
//! Whatever happened is told from what is there, and never from the notices of inotify: they only wake.
//! A renamed log is read on through its descriptor. Of a truncated one, what was not read yet stands in
//! the copy. Files are told by how they begin, and by what stands before the place up to which they were
//! read: names change, and inodes are used again.
//!
//! What a log's writer wrote after the copy was made and before the truncation, and nobody read in time,
//! is in no file at all.

mod generation;
mod position;
mod resume;
mod tail;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use self::generation::{Generation, generations};
use self::position::{Place, Position, Print};
use self::resume::{Rest, rest_of, whole};
use self::tail::{Got, Id, Tail, holds};
use super::text::Text;
use super::{BINARY_JOURNAL, Batch, LiveError, MAX_EVENTS, Options};
use crate::decode::capture;
use crate::model::{LossKind, MICROS_PER_SECOND, Timestamp};
use crate::source::compression::Compression;

/// Tells its rules' ids from other sources'.
const SOURCE: u32 = 0x6669_6c65;

/// Bytes that one call reads, about.
const MAX_BYTES: usize = 1024 * 1024;
/// A rotated log may still be written to until its writer is told: so long after it grew last it is
/// read no more ...
const QUIET: i64 = 60 * MICROS_PER_SECOND;
/// ... and only so many of them are kept open.
const MAX_OLD: usize = 4;
/// Times that files are looked for which are renamed and compressed meanwhile.
const MAX_TRIES: usize = 5;
/// Rotated files that are remembered to be done with.
const MAX_KNOWN: usize = 16;
/// How long a reader that was woken may take to come.
const LATENCY: i64 = MICROS_PER_SECOND / 20;
/// What a copy means that holds what was not read before the log was truncated.
const UNSEEN: &str = "it was copied and truncated before it was read to its end: what was written between \
                      the two is in no file; of at least one line nobody can tell";
/// Bytes of a line, before any was read.
const LINE: u64 = 200;

/// A log that is followed.
pub(crate) struct Follower {
    /// As it was given.
    path: PathBuf,
    /// Where that leads, through symbolic links.
    real: PathBuf,
    inotify: Inotify,
    folders: Vec<Folder>,
    /// Rotated files that are read, the oldest first.
    old: Vec<Tail>,
    current: Option<Tail>,
    /// How rotated files begin that are done with, the newest last.
    known: VecDeque<Print>,
    pub(super) text: Text,
    buffer: Vec<u8>,
    /// Whether files came or went.
    is_stirred: bool,
    /// Whether the position has changed.
    has_moved: bool,
    /// What the opening has to say, and what it lost.
    notes: Vec<String>,
    lost: u64,
    pace: Pace,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// How fast the log grows, and when its end was seen last.
#[derive(Default)]
struct Pace {
    /// When it was first read, and the lines read by then.
    first: Option<(Timestamp, u64)>,
    lines: u64,
    last: Timestamp,
    at_end: Timestamp,
}

impl Pace {
    fn note(&mut self, lines: u64, now: Timestamp) {
        self.first.get_or_insert((now, lines));
        (self.lines, self.last) = (lines, now);
    }

    /// Lines that were written, at this pace, since the end was seen; a reader that was woken comes
    /// within [`LATENCY`].
    fn since_end(&self, now: Timestamp) -> u64 {
        let Some((first, lines)) = self.first else {
            return 0;
        };
        let time = self.last.micros_since(first).max(MICROS_PER_SECOND / 100);
        let unseen = now.micros_since(self.at_end).clamp(0, LATENCY);
        let lines = self.lines.saturating_sub(lines);
        lines.saturating_mul(unseen.unsigned_abs()) / time.unsigned_abs()
    }
}

/// A folder that is watched.
struct Folder {
    path: PathBuf,
    id: Id,
    watch: WatchDescriptor,
}

/// What a step of reading came to.
enum Step {
    Read(usize),
    Again,
    Drained,
}

impl Follower {
    /// Follows the log at `path` from `position` on, and without one from its end.
    pub(super) fn open(
        path: &Path,
        options: &Options,
        position: Option<&str>,
    ) -> Result<Self, LiveError> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(|errno| failed("watching", path, errno.into()))?;
        let mut follower = Self {
            path: path.to_owned(),
            real: path.to_owned(),
            inotify,
            folders: Vec::new(),
            old: Vec::new(),
            current: None,
            known: VecDeque::new(),
            text: Text::new(SOURCE, options),
            buffer: Vec::new(),
            is_stirred: true,
            has_moved: true,
            notes: Vec::new(),
            lost: 0,
            pace: Pace::default(),
        };
        follower.resolve()?;
        let file = follower.opened()?;
        match position {
            Some(text) => match Position::from_text(text) {
                Some(position) => follower.resume(position, file)?,
                None => {
                    follower.lose(1, "what was kept of how far it was read cannot be understood; what was written since then is not read");
                    follower.start(file)?;
                }
            },
            None => follower.start(file)?,
        }
        follower.watch_all()?;
        Ok(follower)
    }

    /// Reads what was written by `now`, as far as one call may.
    pub(super) fn read(&mut self, now: Timestamp, batch: &mut Batch) -> Result<(), LiveError> {
        let read = self.hear().and_then(|()| self.advance(now, batch));
        batch.notes.append(&mut self.notes);
        batch.lose(LossKind::Rotated, std::mem::take(&mut self.lost));
        if std::mem::take(&mut self.has_moved) {
            batch.position = Some(self.position().to_text());
        }
        read
    }

    fn advance(&mut self, now: Timestamp, batch: &mut Batch) -> Result<(), LiveError> {
        let most = batch.events.saturating_add(MAX_EVENTS);
        let mut read = 0;
        while read < MAX_BYTES && batch.events < most {
            match self.step(now, batch)? {
                Step::Read(bytes) => {
                    read += bytes;
                    self.has_moved = true;
                }
                Step::Again => self.has_moved = true,
                Step::Drained => {
                    batch.is_drained = true;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Reads from the oldest file that has something to read; looks for others where none has.
    fn step(&mut self, now: Timestamp, batch: &mut Batch) -> Result<Step, LiveError> {
        for place in 0..self.old.len() {
            if let Some(step) = self.step_old(place, now, batch) {
                return Ok(step);
            }
        }
        if self.is_stirred && self.settle()? {
            return Ok(Step::Again);
        }
        if let Some(current) = &mut self.current {
            match current.read(&mut self.buffer, &mut self.text, now, batch) {
                Ok(Got::Bytes(count)) => {
                    self.pace.note(current.lines(), now);
                    return Ok(Step::Read(count));
                }
                Ok(Got::Nothing) => self.pace.at_end = now,
                Ok(Got::Truncated) => {
                    self.truncated(now)?;
                    return Ok(Step::Again);
                }
                Err(cause) => return Err(failed("reading", &self.path, cause)),
            }
        }
        if self.has_other(now)? {
            return Ok(Step::Again);
        }
        self.retire(now, batch);
        Ok(Step::Drained)
    }

    fn step_old(&mut self, place: usize, now: Timestamp, batch: &mut Batch) -> Option<Step> {
        let tail = &mut self.old[place];
        tail.quiet_since.get_or_insert(now);
        let has_leapt = tail.is_leaping();
        match tail.read(&mut self.buffer, &mut self.text, now, batch) {
            Ok(Got::Bytes(count)) => {
                tail.quiet_since = Some(now);
                if tail.is_copy && !has_leapt {
                    tail.is_copy = false;
                    self.lose(1, UNSEEN);
                }
                return Some(Step::Read(count));
            }
            Ok(Got::Nothing) if tail.is_closed => {}
            Ok(Got::Nothing) => return None,
            Ok(Got::Truncated) => {
                let lost = self.lines_in(self.old[place].place().unread);
                self.lose(
                    lost,
                    "a rotated file is not any more what it was when it was read",
                );
            }
            Err(error) => {
                let lost = self.lines_in(self.old[place].place().unread);
                self.lose(
                    lost,
                    &format!("the rest of a rotated file cannot be read: {error}"),
                );
            }
        }
        self.close(place, now, batch);
        Some(Step::Again)
    }

    /// Follows a file that has come in the log's place, and what was written between the two.
    fn has_other(&mut self, now: Timestamp) -> Result<bool, LiveError> {
        let found = match fs::metadata(&self.path) {
            Ok(metadata) => Id::of(&metadata),
            // It will come back.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.check_folders().map(|()| false);
            }
            Err(cause) => return Err(failed("looking at", &self.path, cause)),
        };
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.id == found)
        {
            return Ok(false);
        }
        self.check_folders()?;
        self.resolve()?;
        let Some(file) = self.opened()? else {
            return Ok(false);
        };
        if let Some(mut current) = self.current.take() {
            let copied = failing("reading", &self.path, current.is_in(&file))?;
            if copied == Some(true) && !current.is_untouched() {
                // An editor wrote the same anew.
                let place = current.place();
                self.unwatch(&current);
                let tail = failing("reading", &self.path, Tail::new(file, place.offset))?;
                self.current = Some(tail.cut(place.is_cut));
                self.watch_all()?;
                return Ok(true);
            }
            current.quiet_since = Some(now);
            self.old.push(current);
        }
        let fresh = self.fresh();
        self.queue(&fresh, false);
        self.current = Some(failing("reading", &self.path, Tail::new(file, 0))?);
        self.watch_all()?;
        Ok(true)
    }

    /// The log was truncated: what was not read of it is in a copy, if anywhere.
    fn truncated(&mut self, now: Timestamp) -> Result<(), LiveError> {
        let Some(current) = self.current.take() else {
            return Ok(());
        };
        let place = current.place();
        let mut fresh = Vec::new();
        // What is found may get another name before it is opened.
        let copy = (0..MAX_TRIES).find_map(|_| {
            fresh = self.fresh();
            let mut each = fresh.iter().enumerate();
            each.find_map(|(number, (one, head))| Some((number, rest_of(&place, one, head)?)))
        });
        let next = match copy {
            Some((number, rest)) => {
                self.remember(&fresh[number].1);
                if let Rest::Left(mut rest) = rest {
                    rest.is_closed = true;
                    rest.is_copy = true;
                    self.old.push(*rest);
                }
                number + 1
            }
            None => {
                self.lose(1, "it was truncated, and no copy of it is there: what was written just before may be lost");
                0
            }
        };
        let unseen = self.pace.since_end(now);
        if unseen > 0 {
            self.lose(unseen, "it was truncated while it was written to: so many lines, by its pace, may have come after what was read last");
        }
        self.pace = Pace::default();
        self.queue(&fresh[next..], true);
        self.current = Some(current.restarted());
        self.watch_all()
    }

    /// Files came while nothing had been read of the log: what had been in it before may be in them.
    fn settle(&mut self) -> Result<bool, LiveError> {
        self.is_stirred = false;
        if self
            .current
            .as_ref()
            .is_some_and(|current| !current.is_untouched())
        {
            return Ok(false);
        }
        let mut fresh = self.fresh();
        let file = self.current.as_ref().and_then(Tail::file);
        if let Some(file) = file {
            let count = fresh.len();
            // A copy of what is there still: the truncation is to come.
            fresh.retain(|(_, head)| {
                !holds(
                    file,
                    &Place {
                        head: Print::of(head),
                        ..Place::default()
                    },
                )
                .is_ok_and(|is_same| is_same == Some(true))
            });
            self.is_stirred = fresh.len() < count;
        }
        self.queue(&fresh, self.current.is_some());
        self.watch_all()?;
        Ok(!fresh.is_empty())
    }

    /// Closes rotated files that nobody seems to write to any more.
    fn retire(&mut self, now: Timestamp, batch: &mut Batch) {
        let is_quiet = |tail: &Tail| {
            tail.quiet_since
                .is_some_and(|since| now.micros_since(since) > QUIET)
        };
        while self.old.len() > MAX_OLD || self.old.first().is_some_and(is_quiet) {
            self.close(0, now, batch);
            self.has_moved = true;
        }
    }

    fn close(&mut self, place: usize, now: Timestamp, batch: &mut Batch) {
        let mut tail = self.old.remove(place);
        tail.flush(&mut self.text, now, batch);
        self.text.forget_last_line();
        self.unwatch(&tail);
        self.remember(tail.head());
    }

    fn remember(&mut self, head: &[u8]) {
        let print = Print::of(head);
        if head.is_empty() || self.known.contains(&print) {
            return;
        }
        if self.known.len() == MAX_KNOWN {
            self.known.pop_front();
        }
        self.known.push_back(print);
    }

    /// The rotated files that are newer than all that is known, the oldest first, and how each begins.
    fn fresh(&self) -> Vec<(Generation, Vec<u8>)> {
        let listed = (0..MAX_TRIES).find_map(|_| self.fresh_now());
        listed.unwrap_or_default()
    }

    /// None where one got another name, or was compressed, while it was looked at.
    fn fresh_now(&self) -> Option<Vec<(Generation, Vec<u8>)>> {
        let mut fresh = Vec::new();
        let open = || self.old.iter().chain(&self.current);
        for one in generations(&self.real) {
            if open().any(|tail| tail.id == one.id) {
                break;
            }
            let head = one.head();
            if !one.is_there() {
                return None;
            }
            // One that is being written, compressed, or has nothing in it.
            let Some(head) = head.filter(|head| !head.is_empty()) else {
                continue;
            };
            if self.known.contains(&Print::of(&head)) || open().any(|tail| tail.head() == head) {
                break;
            }
            fresh.push((one, head));
        }
        fresh.reverse();
        Some(fresh)
    }

    /// Reads `fresh` files whole, in their order; `are_copies` of a log that was truncated then.
    fn queue(&mut self, fresh: &[(Generation, Vec<u8>)], are_copies: bool) {
        for (one, head) in fresh {
            match whole(one, head) {
                Ok(mut tail) => {
                    tail.is_copy = are_copies;
                    self.old.push(tail);
                }
                Err(error) => self.lose(
                    1,
                    &format!("{} cannot be read: {error}", one.path.display()),
                ),
            }
            self.remember(head);
        }
    }

    fn lines_in(&self, bytes: u64) -> u64 {
        let read = self
            .old
            .iter()
            .chain(&self.current)
            .find_map(Tail::bytes_a_line);
        (bytes / read.unwrap_or(LINE)).max(1)
    }

    fn lose(&mut self, lines: u64, why: &str) {
        self.lost = self.lost.saturating_add(lines);
        self.notes.push(format!(
            "{}: {why} (counted as {lines} lost)",
            self.path.display()
        ));
    }

    fn position(&self) -> Position {
        Position {
            old: self.old.iter().map(Tail::place).collect(),
            current: self.current.as_ref().map(Tail::place),
            known: self.known.iter().copied().collect(),
        }
    }
}

/// Waiting.
impl Follower {
    /// Takes what inotify has to say: that there may be something to read.
    fn hear(&mut self) -> Result<(), LiveError> {
        loop {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(failed("watching", &self.path, errno.into())),
            };
            for event in events {
                self.is_stirred |= self.folders.iter().any(|folder| folder.watch == event.wd);
                // The watches of what was closed may have had something to say, too; a queue that
                // overflowed says nothing of use.
                self.is_stirred |= event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
            }
        }
    }

    /// Finds out where the path leads, and watches the folders on the way.
    fn resolve(&mut self) -> Result<(), LiveError> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let folder = failing("opening the folder of", &self.path, folder.canonicalize())?;
        let Some(name) = self.path.file_name() else {
            return Err(LiveError::NoLog {
                path: self.path.clone(),
                what: "a folder",
            });
        };
        self.real = self
            .path
            .canonicalize()
            .unwrap_or_else(|_| folder.join(name));
        self.watch_folder(&folder)?;
        match self.real.parent().map(Path::to_owned) {
            Some(real) => self.watch_folder(&real),
            None => Ok(()),
        }
    }

    /// Whether the folders that are watched are those at their paths: one in which a file is open says
    /// nothing of its own end.
    fn check_folders(&self) -> Result<(), LiveError> {
        for folder in &self.folders {
            let metadata = failing("watching", &folder.path, fs::metadata(&folder.path))?;
            if Id::of(&metadata) != folder.id {
                let cause = io::ErrorKind::NotFound.into();
                return Err(failed("watching", &folder.path, cause));
            }
        }
        Ok(())
    }

    fn watch_folder(&mut self, folder: &Path) -> Result<(), LiveError> {
        if self.folders.iter().any(|known| known.path == folder) {
            return Ok(());
        }
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let watch = self.inotify.add_watch(folder, flags);
        let watch = watch.map_err(|errno| failed("watching", folder, errno.into()))?;
        let metadata = failing("watching", folder, fs::metadata(folder))?;
        self.folders.push(Folder {
            path: folder.to_owned(),
            id: Id::of(&metadata),
            watch,
        });
        Ok(())
    }

    /// Watches the files that are open, by their descriptors: names may be others' by now.
    fn watch_all(&mut self) -> Result<(), LiveError> {
        for tail in self.old.iter_mut().chain(&mut self.current) {
            let (None, Some(file)) = (tail.watch, tail.file()) else {
                continue;
            };
            let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            let watch = self.inotify.add_watch(&path, AddWatchFlags::IN_MODIFY);
            let watch = watch.map_err(|errno| failed("watching", &self.path, errno.into()))?;
            tail.watch = Some(watch);
        }
        Ok(())
    }

    fn unwatch(&self, tail: &Tail) {
        if let Some(watch) = tail.watch {
            // It is gone by itself where the file is.
            let _ = self.inotify.rm_watch(watch);
        }
    }

    /// The log, where it is there.
    fn opened(&self) -> Result<Option<File>, LiveError> {
        let no_log = |what| LiveError::NoLog {
            path: self.path.clone(),
            what,
        };
        // A pipe would wait for its writer to be opened.
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(metadata) if metadata.is_dir() => return Err(no_log("a folder")),
            Ok(_) => return Err(no_log("no regular file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(failed("looking at", &self.path, cause)),
        }
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(failed("opening", &self.path, cause)),
        };
        let mut head = [0; 64];
        let length = failing("reading", &self.path, file.read_at(&mut head, 0))?;
        if Compression::of(&head[..length]).is_some() {
            return Err(no_log("compressed"));
        }
        if head[..length].starts_with(b"LPKSHHRH") {
            return Err(no_log(BINARY_JOURNAL));
        }
        if capture::is_capture(&head[..length]) {
            return Err(no_log("a packet capture"));
        }
        Ok(Some(file))
    }
}

impl AsFd for Follower {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

fn failed(step: &'static str, path: &Path, cause: io::Error) -> LiveError {
    LiveError::File {
        step,
        path: path.to_owned(),
        cause,
    }
}

fn failing<T>(step: &'static str, path: &Path, result: io::Result<T>) -> Result<T, LiveError> {
    result.map_err(|cause| failed(step, path, cause))
}
