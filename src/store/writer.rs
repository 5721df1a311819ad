//! The thread that writes. Whoever submits never waits for it: what does not fit into its queue is
//! counted, and so is what cannot be written. A lock, a full disk or a damaged file stop nothing but
//! the writing, which is tried again each second.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{
    Receiver, RecvError, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel,
};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::changes::{Changes, HISTORY, Unseen, minute};
use super::retention::{Keeper, with_slack};
use super::rows::{self, Known};
use super::{FILE, StoreError, schema};
use crate::model::Timestamp;
use crate::settings::Retention;

/// Batches that wait for the thread.
const QUEUE: usize = 4;
/// Rows that the thread keeps while it cannot write.
const MAX_PENDING: usize = 32_768;
/// Steps of keeping the file small that are taken after a batch, also where the next one waits.
const CHORES: usize = 4;
/// Steps of making room that are taken before a batch that did not fit is tried again.
const RELIEF: usize = 64;
/// Time between two tries.
const RETRY: Duration = Duration::from_secs(1);
/// Tries at the end.
const LAST_TRIES: u32 = 3;
/// Messages kept for whoever asks.
const MAX_MESSAGES: usize = 16;

/// Attempts that did not get into the history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unwritten {
    /// Attempts.
    pub(crate) attempts: u64,
    /// Batches that held them.
    pub(crate) batches: u64,
}

/// What is wrong with the writing; each is told once, until it works again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Locked,
    DiskFull,
    FileFull,
    Other,
    Dropped,
}

#[derive(Debug, Default)]
struct Shared {
    attempts: AtomicU64,
    batches: AtomicU64,
    messages: Mutex<Messages>,
    /// Other settings than it began with.
    retention: Mutex<Option<Retention>>,
}

#[derive(Debug, Default)]
struct Messages {
    waiting: VecDeque<String>,
    told: Vec<Trouble>,
}

impl Shared {
    fn messages(&self) -> std::sync::MutexGuard<'_, Messages> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retention(&self) -> std::sync::MutexGuard<'_, Option<Retention>> {
        self.retention
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, message: String) {
        let waiting = &mut self.messages().waiting;
        if waiting.len() < MAX_MESSAGES {
            waiting.push_back(message);
        }
    }

    fn tell_once(&self, trouble: Trouble, message: impl FnOnce() -> String) {
        let mut messages = self.messages();
        if messages.told.contains(&trouble) {
            return;
        }
        messages.told.push(trouble);
        drop(messages);
        self.say(message());
    }

    fn lose(&self, changes: &Changes) {
        self.attempts.fetch_add(changes.count(), Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
    }

    fn unwritten(&self) -> Unwritten {
        Unwritten {
            attempts: self.attempts.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
        }
    }
}

/// Writes the history from a thread of its own.
#[derive(Debug)]
pub(crate) struct Writer {
    sender: SyncSender<Changes>,
    thread: JoinHandle<()>,
    shared: Arc<Shared>,
    path: PathBuf,
}

impl Writer {
    /// Opens or makes the history in the state directory `folder`, and keeps of it what `retention`
    /// says. `now` is the time of day.
    pub(crate) fn start(
        folder: &Path,
        now: Timestamp,
        retention: Retention,
    ) -> Result<Self, StoreError> {
        Self::start_with(folder, now, Keeper::new(retention))
    }

    pub(super) fn start_with(
        folder: &Path,
        now: Timestamp,
        keeper: Keeper,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::default());
        if let Some(message) = schema::make_folder(folder)? {
            shared.say(message);
        }
        let mut own = Thread {
            folder: folder.to_owned(),
            keeper,
            started: now,
            connection: None,
            run: None,
            known: Known::new(),
            pending: VecDeque::new(),
            pending_rows: 0,
            portion: usize::MAX,
            said: Unwritten::default(),
            shared: Arc::clone(&shared),
        };
        match own.open(now) {
            Err(StoreError::Unreadable { source, .. }) if is_passing(&source) => {
                own.tell(&Failure::Sqlite(source));
            }
            opened => opened?,
        }
        let (sender, receiver) = sync_channel(QUEUE);
        let thread = thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || own.run(&receiver))
            .map_err(StoreError::Thread)?;
        Ok(Self {
            sender,
            thread,
            shared,
            path: folder.join(FILE),
        })
    }

    /// Hands in what is to be written; never waits. Answers whether it was taken.
    pub(crate) fn submit(&self, changes: Changes) -> bool {
        if changes.is_empty() {
            return true;
        }
        let refused = match self.sender.try_send(changes) {
            Ok(()) => return true,
            Err(TrySendError::Full(changes) | TrySendError::Disconnected(changes)) => changes,
        };
        self.shared.lose(&refused);
        self.shared.tell_once(Trouble::Dropped, || {
            format!(
                "{}: cannot be written as fast as attempts come, or not at all; what is left out is counted",
                self.path.display()
            )
        });
        false
    }

    /// Hands in what is to be written, and waits until it is taken.
    #[cfg(test)]
    pub(super) fn submit_in_turn(&self, changes: Changes) {
        assert!(self.sender.send(changes).is_ok(), "the thread has ended");
    }

    /// Keeps what `retention` says from now on.
    pub(crate) fn retain(&self, retention: Retention) {
        *self.shared.retention() = Some(retention);
    }

    /// The next thing to say about the writing, once a kind of trouble; to be asked now and then.
    pub(crate) fn troubles(&self) -> Option<String> {
        self.shared.messages().waiting.pop_front()
    }

    /// Writes what waits, and ends; takes a few seconds where the file is locked. Answers what was
    /// lost in all, and what is left to say.
    pub(crate) fn finish(self) -> (Unwritten, Vec<String>) {
        drop(self.sender);
        if self.thread.join().is_err() {
            self.shared.say(format!(
                "{}: the thread that writes it has failed",
                self.path.display()
            ));
        }
        let waiting = std::mem::take(&mut self.shared.messages().waiting);
        (self.shared.unwritten(), waiting.into())
    }
}

/// Why a try failed.
#[derive(Debug)]
enum Failure {
    Sqlite(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// What the thread has.
struct Thread {
    folder: PathBuf,
    keeper: Keeper,
    started: Timestamp,
    connection: Option<Connection>,
    run: Option<i64>,
    known: Known,
    pending: VecDeque<Changes>,
    pending_rows: usize,
    /// How many of them go into the next transaction: all, but for a file that is near its limit.
    portion: usize,
    /// What the file says was left out.
    said: Unwritten,
    shared: Arc<Shared>,
}

impl Thread {
    fn run(mut self, receiver: &Receiver<Changes>) {
        loop {
            if self.pending.is_empty() {
                let received = if self.has_chores() {
                    match receiver.try_recv() {
                        Err(TryRecvError::Empty) => {
                            self.keep();
                            continue;
                        }
                        received => received.map_err(|_| RecvError),
                    }
                } else {
                    receiver.recv()
                };
                match received {
                    Ok(changes) => self.push(changes),
                    Err(_) => break,
                }
            } else if self.pending_rows < MAX_PENDING {
                // A try failed; the next one with the next batch, or in a second.
                match receiver.recv_timeout(RETRY) {
                    Ok(changes) => self.push(changes),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            } else {
                thread::sleep(RETRY);
            }
            self.take_waiting(receiver);
            self.try_to_write();
        }
        self.take_waiting(receiver);
        for _ in 0..LAST_TRIES {
            self.try_to_write();
            if self.pending.is_empty() {
                break;
            }
        }
        for changes in &self.pending {
            self.shared.lose(changes);
        }
    }

    /// Whether something is to be summed up or deleted.
    fn has_chores(&self) -> bool {
        self.connection.is_some() && self.keeper.has_tasks()
    }

    /// Does at most that many parts of it.
    fn keep_on(&mut self, steps: usize) {
        for _ in 0..steps {
            if !self.has_chores() {
                break;
            }
            self.keep();
        }
    }

    /// Does a part of it. What fails is left for the next time.
    fn keep(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let keeper = &mut self.keeper;
        let max_bytes = keeper.max_bytes();
        let done = with_slack(&mut connection, max_bytes, |connection| {
            keeper.step(connection)
        });
        self.connection = Some(connection);
        // Ids of devices may be gone.
        self.known.clear();
        if let Err(error) = done {
            self.keeper.give_up();
            let failure = Failure::Sqlite(error);
            self.tell(&failure);
            self.replace_damaged(&failure);
        }
    }

    /// Sees to what has become too old, or too much.
    fn look(&mut self, at: Timestamp) {
        let retention = self.shared.retention().take();
        let Some(connection) = &self.connection else {
            return;
        };
        if let Some(retention) = retention {
            self.keeper.set(retention);
            // Where it fails the file keeps its limit until it is opened again.
            let _ = schema::limit(connection, self.keeper.max_bytes());
        }
        if let Err(error) = self.keeper.look(connection, at) {
            self.tell(&Failure::Sqlite(error));
        }
        if let Some(message) = self.keeper.message() {
            self.shared.say(message);
        }
    }

    fn push(&mut self, changes: Changes) {
        self.pending_rows += changes.rows().max(1);
        self.pending.push_back(changes);
    }

    fn take_waiting(&mut self, receiver: &Receiver<Changes>) {
        while self.pending_rows < MAX_PENDING
            && let Ok(changes) = receiver.try_recv()
        {
            self.push(changes);
        }
    }

    /// Writes what waits. Where the file is near its limit that is done in parts, each as soon as room
    /// has been made for it.
    fn try_to_write(&mut self) {
        let mut tries = 0;
        while !self.pending.is_empty() && tries < RELIEF {
            let before = self.pending_rows;
            if !self.write_part() {
                break;
            }
            tries = if self.pending_rows < before {
                0
            } else {
                tries + 1
            };
        }
    }

    /// Writes the next transaction; answers whether it was written, or there is room for it now.
    fn write_part(&mut self) -> bool {
        match self.write() {
            Ok(at) => {
                self.forget_written();
                self.look(at);
                self.keep_on(CHORES);
                if !std::mem::take(&mut self.shared.messages().told).is_empty() {
                    self.shared.say(format!(
                        "{}: is written again; attempts left out so far: {}",
                        self.path().display(),
                        self.shared.unwritten().attempts
                    ));
                }
                true
            }
            Err(failure) => {
                // What was noted of rows in a transaction that is no more.
                self.known.clear();
                let has_room = self.make_room(&failure);
                if !has_room {
                    self.tell(&failure);
                    self.replace_damaged(&failure);
                }
                has_room
            }
        }
    }

    fn forget_written(&mut self) {
        for changes in self.pending.drain(..self.portion.min(self.pending.len())) {
            self.pending_rows -= changes.rows().max(1);
        }
        self.portion = if self.pending.is_empty() {
            usize::MAX
        } else {
            self.portion.saturating_mul(2)
        };
    }

    /// Makes room in a file that is at its limit, for a smaller part than did not fit. Answers whether
    /// that may do.
    fn make_room(&mut self, failure: &Failure) -> bool {
        let is_full = matches!(failure, Failure::Sqlite(error) if schema::is_full(error));
        if !is_full {
            return false;
        }
        let whole = self.portion.min(self.pending.len());
        self.portion = (whole / 2).max(1);
        let mut may_do = self.portion < whole;
        if !self.is_at_its_limit() {
            return may_do;
        }
        let at = self.last_of_portion();
        for _ in 0..RELIEF {
            let looked = self
                .connection
                .as_ref()
                .map(|connection| self.keeper.make_room(connection, at));
            if !matches!(looked, Some(Ok(()))) || !self.has_chores() {
                break;
            }
            self.keep();
            may_do = true;
        }
        if let Some(message) = self.keeper.message() {
            self.shared.say(message);
        }
        may_do
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// The time of the last batch that the next transaction takes.
    fn last_of_portion(&self) -> Timestamp {
        let last = self.portion.min(self.pending.len()).checked_sub(1);
        last.map_or(self.started, |last| self.pending[last].at)
    }

    fn open(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let (connection, message) = schema::open(&self.folder, now, self.keeper.max_bytes())?;
        self.keeper
            .open(&connection)
            .map_err(|source| StoreError::Unreadable {
                path: self.path(),
                step: "cannot be read",
                source,
            })?;
        self.known.clear();
        self.connection = Some(connection);
        self.run = None;
        if let Some(message) = message {
            self.shared.say(message);
        }
        Ok(())
    }

    /// Writes the next part of what waits in one transaction; answers up to which time that was.
    fn write(&mut self) -> Result<Timestamp, Failure> {
        let at = self.last_of_portion();
        if self.connection.is_none() {
            self.open(at).map_err(Failure::Store)?;
        }
        let Some(mut connection) = self.connection.take() else {
            return Ok(at);
        };
        let written = self.transact(&mut connection, at);
        self.connection = Some(connection);
        let (run, said) = written?;
        self.run = Some(run);
        self.said = said;
        Ok(at)
    }

    fn transact(
        &mut self,
        connection: &mut Connection,
        at: Timestamp,
    ) -> rusqlite::Result<(i64, Unwritten)> {
        let lost = self.shared.unwritten();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.known.refresh(&transaction)?;
        let run = rows::note_run(&transaction, self.run, self.started, at)?;
        if lost != self.said {
            let unseen = Unseen {
                minute: minute(at),
                source: HISTORY.to_owned(),
                kind: "unwritten".to_owned(),
                events: (lost.attempts - self.said.attempts).max(1),
            };
            rows::write_unseen(&transaction, &unseen)?;
        }
        let summed = self.keeper.summed();
        let mut translations = 0;
        for changes in self.pending.iter().take(self.portion) {
            translations += rows::write(&transaction, changes, &mut self.known, summed)?;
        }
        transaction.commit()?;
        self.keeper.note_translations(translations);
        Ok((run, lost))
    }

    fn tell(&self, failure: &Failure) {
        let path = self.path();
        let error = match failure {
            Failure::Sqlite(error) => error,
            Failure::Store(StoreError::Unreadable { source, .. }) => source,
            Failure::Store(error) => {
                self.shared
                    .tell_once(Trouble::Other, || format!("{error}; it is tried again"));
                return;
            }
        };
        if schema::is_locked(error) {
            self.shared.tell_once(Trouble::Locked, || {
                format!(
                    "{}: is locked by another program; it is tried again each second",
                    path.display()
                )
            });
        } else if schema::is_full(error) {
            if self.is_at_its_limit() {
                self.shared.tell_once(Trouble::FileFull, || {
                    format!(
                        "{}: has reached its limit of {} MB, and nothing in it can be left out; it is tried again each \
                         second",
                        path.display(),
                        self.keeper.max_bytes() / 1_000_000
                    )
                });
            } else {
                self.shared.tell_once(Trouble::DiskFull, || {
                    format!(
                        "{}: the disk is full; it is tried again each second",
                        path.display()
                    )
                });
            }
        } else {
            self.shared.tell_once(Trouble::Other, || {
                format!(
                    "{}: cannot be written: {error}; it is tried again each second",
                    path.display()
                )
            });
        }
    }

    fn is_at_its_limit(&self) -> bool {
        let pages = self.connection.as_ref().and_then(|connection| {
            connection
                .query_row("PRAGMA page_count", [], |row| row.get::<_, u32>(0))
                .ok()
        });
        // A transaction that did not fit was rolled back.
        pages
            .map(u64::from)
            .is_some_and(|pages| pages + pages / 8 + 16 >= self.keeper.max_bytes() / schema::PAGE)
    }

    /// A file that turns out to be damaged while it is written is set aside, too.
    fn replace_damaged(&mut self, failure: &Failure) {
        let Failure::Sqlite(error) = failure else {
            return;
        };
        if !schema::is_damage(error) {
            return;
        }
        let at = self.pending.back().map_or(self.started, |last| last.at);
        let what = format!("is damaged ({error})");
        self.connection = None;
        self.run = None;
        match schema::set_aside(&self.path(), &what, at) {
            Ok(message) => self.shared.say(message),
            Err(error) => self.tell(&Failure::Store(error)),
        }
    }
}

/// Whether it may go well when it is tried again.
fn is_passing(error: &rusqlite::Error) -> bool {
    schema::is_locked(error) || schema::is_full(error)
}
