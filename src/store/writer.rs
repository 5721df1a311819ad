//! The thread that writes. Whoever submits never waits for it: what does not fit into its queue is
//! counted, and so is what cannot be written. A lock, a full disk or a damaged file stop nothing but
//! the writing, which is tried again each second.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::{
    Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params,
};

use super::changes::{Changes, HISTORY, Identity, Tally, Unseen, minute};
use super::{FILE, StoreError, schema};
use crate::model::Timestamp;

/// Batches that wait for the thread.
const QUEUE: usize = 4;
/// Rows that the thread keeps while it cannot write.
const MAX_PENDING: usize = 32_768;
/// Devices whose row is remembered, so that what has not changed is not written.
const MAX_KNOWN: usize = 32_768;
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
    /// Opens or makes the history in the state directory `folder`. `now` is the time of day.
    pub(crate) fn start(folder: &Path, now: Timestamp) -> Result<Self, StoreError> {
        Self::start_with(folder, now, schema::MAX_PAGES)
    }

    pub(super) fn start_with(
        folder: &Path,
        now: Timestamp,
        max_pages: u32,
    ) -> Result<Self, StoreError> {
        schema::make_folder(folder)?;
        let shared = Arc::new(Shared::default());
        let mut own = Thread {
            folder: folder.to_owned(),
            max_pages,
            started: now,
            connection: None,
            run: None,
            known: HashMap::new(),
            hasher: RandomState::new(),
            pending: VecDeque::new(),
            pending_rows: 0,
            said: Unwritten::default(),
            shared: Arc::clone(&shared),
        };
        match own.open(now) {
            Err(StoreError::Unreadable { source, .. }) if schema::is_locked(&source) => {
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
    max_pages: u32,
    started: Timestamp,
    connection: Option<Connection>,
    run: Option<i64>,
    /// Row and hash of the identities as they stand in the file, by key.
    known: HashMap<String, (i64, u64)>,
    hasher: RandomState,
    pending: VecDeque<Changes>,
    pending_rows: usize,
    /// What the file says was left out.
    said: Unwritten,
    shared: Arc<Shared>,
}

impl Thread {
    fn run(mut self, receiver: &Receiver<Changes>) {
        loop {
            if self.pending.is_empty() {
                match receiver.recv() {
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
            if self.pending.is_empty() || self.try_to_write() {
                break;
            }
        }
        for changes in &self.pending {
            self.shared.lose(changes);
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

    fn try_to_write(&mut self) -> bool {
        match self.write() {
            Ok(()) => {
                self.pending.clear();
                self.pending_rows = 0;
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
                self.tell(&failure);
                self.replace_damaged(&failure);
                false
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    fn open(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let (connection, message) = schema::open(&self.folder, now, self.max_pages)?;
        self.connection = Some(connection);
        self.run = None;
        if let Some(message) = message {
            self.shared.say(message);
        }
        Ok(())
    }

    /// Writes all that waits in one transaction.
    fn write(&mut self) -> Result<(), Failure> {
        let at = self.pending.back().map_or(self.started, |last| last.at);
        if self.connection.is_none() {
            self.open(at).map_err(Failure::Store)?;
        }
        let Some(mut connection) = self.connection.take() else {
            return Ok(());
        };
        let written = self.transact(&mut connection, at);
        self.connection = Some(connection);
        let (run, said) = written?;
        self.run = Some(run);
        self.said = said;
        Ok(())
    }

    fn transact(
        &mut self,
        connection: &mut Connection,
        at: Timestamp,
    ) -> rusqlite::Result<(i64, Unwritten)> {
        let lost = self.shared.unwritten();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let run = note_run(&transaction, self.run, self.started, at)?;
        if lost != self.said {
            let unseen = Unseen {
                minute: minute(at),
                source: HISTORY.to_owned(),
                kind: "unwritten".to_owned(),
                events: (lost.attempts - self.said.attempts).max(1),
            };
            write_unseen(&transaction, &unseen)?;
        }
        for changes in &self.pending {
            let identities = changes.identities.iter();
            let devices: Vec<i64> = identities
                .map(|identity| {
                    device_row(
                        &transaction,
                        identity,
                        changes.at,
                        &mut self.known,
                        &self.hasher,
                    )
                })
                .collect::<Result<_, _>>()?;
            write(&transaction, changes, &devices)?;
        }
        transaction.commit()?;
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
        } else if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            if self.is_at_its_limit() {
                self.shared.tell_once(Trouble::FileFull, || {
                    format!(
                        "{}: has reached its limit of {} MB, and no more is written; move it away and a new one begins \
                         with the next start",
                        path.display(),
                        u64::from(self.max_pages) * 4096 / 1_000_000
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
        pages.is_some_and(|pages| pages + pages / 8 + 16 >= self.max_pages)
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

/// Notes until when the run was alive; answers its row.
fn note_run(
    transaction: &Transaction<'_>,
    run: Option<i64>,
    started: Timestamp,
    at: Timestamp,
) -> rusqlite::Result<i64> {
    if let Some(run) = run {
        let changed = transaction
            .prepare_cached("UPDATE runs SET last = ?2 WHERE id = ?1")?
            .execute(params![run, at.as_micros()])?;
        if changed > 0 {
            return Ok(run);
        }
    }
    transaction
        .prepare_cached("INSERT INTO runs (started, last) VALUES (?1, ?2)")?
        .execute(params![started.as_micros(), at.as_micros()])?;
    Ok(transaction.last_insert_rowid())
}

/// The row of a device, written where it is new or has changed.
fn device_row(
    transaction: &Transaction<'_>,
    identity: &Identity,
    at: Timestamp,
    known: &mut HashMap<String, (i64, u64)>,
    hasher: &RandomState,
) -> rusqlite::Result<i64> {
    let hash = hasher.hash_one(identity);
    let row = match known.get(&identity.key) {
        Some(&(row, known)) if known == hash => return Ok(row),
        Some(&(row, _)) => Some(row),
        None => transaction
            .prepare_cached("SELECT id FROM devices WHERE key = ?1")?
            .query_row([&identity.key], |row| row.get(0))
            .optional()?,
    };
    let mac = identity.mac.map(|mac| mac.to_string());
    let addresses: Vec<String> = identity.addresses.iter().map(IpAddr::to_string).collect();
    let addresses = addresses.join(" ");
    let row = match row {
        Some(row) => {
            transaction
                .prepare_cached(
                    "UPDATE devices SET mac = ?2, hostname = ?3, interface = ?4, basis = ?5, addresses = ?6, is_shared = ?7, \
                     changed = ?8 WHERE id = ?1 \
                     AND (mac, hostname, interface, basis, addresses, is_shared) IS NOT (?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    row,
                    mac,
                    identity.hostname,
                    identity.interface,
                    identity.basis,
                    addresses,
                    identity.is_shared,
                    at.as_micros()
                ])?;
            row
        }
        None => {
            transaction
                .prepare_cached(
                    "INSERT INTO devices (key, mac, hostname, interface, basis, addresses, is_shared, changed) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    identity.key,
                    mac,
                    identity.hostname,
                    identity.interface,
                    identity.basis,
                    addresses,
                    identity.is_shared,
                    at.as_micros()
                ])?;
            transaction.last_insert_rowid()
        }
    };
    if known.len() >= MAX_KNOWN {
        known.clear();
    }
    known.insert(identity.key.clone(), (row, hash));
    Ok(row)
}

fn write(
    transaction: &Transaction<'_>,
    changes: &Changes,
    devices: &[i64],
) -> rusqlite::Result<()> {
    let mut attempts = transaction.prepare_cached(
        "INSERT INTO attempts (minute, device, direction, port, destination, first, last, attempts, syns) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
         ON CONFLICT DO UPDATE SET first = min(first, excluded.first), last = max(last, excluded.last), \
         attempts = attempts + excluded.attempts, syns = syns + excluded.syns",
    )?;
    for (key, tally) in &changes.attempts {
        let Tally {
            first,
            last,
            attempts: count,
            syns,
        } = tally;
        let (v4, v6);
        let destination: &[u8] = match key.destination {
            IpAddr::V4(address) => {
                v4 = address.octets();
                &v4
            }
            IpAddr::V6(address) => {
                v6 = address.octets();
                &v6
            }
        };
        attempts.execute(params![
            key.minute,
            devices[key.identity as usize],
            key.direction as u8,
            key.port,
            destination,
            first.as_micros(),
            last.as_micros(),
            integer(*count),
            integer(*syns)
        ])?;
    }
    let mut minutes = transaction.prepare_cached(
        "INSERT INTO minutes (minute, direction, port, first, last, attempts, syns) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
         ON CONFLICT DO UPDATE SET first = min(first, excluded.first), last = max(last, excluded.last), \
         attempts = attempts + excluded.attempts, syns = syns + excluded.syns",
    )?;
    for (key, tally) in &changes.minutes {
        minutes.execute(params![
            key.minute,
            key.direction as u8,
            key.port,
            tally.first.as_micros(),
            tally.last.as_micros(),
            integer(tally.attempts),
            integer(tally.syns)
        ])?;
    }
    let mut findings = transaction.prepare_cached(
        "INSERT INTO findings (device, detector, score, threshold, at, at_attempt, took, within) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for (place, finding) in &changes.findings {
        findings.execute(params![
            devices[*place as usize],
            finding.detector.to_string(),
            finding.score,
            finding.threshold,
            finding.at.as_micros(),
            integer(finding.at_attempt),
            micros(finding.took),
            micros(finding.within)
        ])?;
    }
    for unseen in &changes.unseen {
        write_unseen(transaction, unseen)?;
    }
    let mut notices =
        transaction.prepare_cached("INSERT INTO notices (at, notice) VALUES (?1, ?2)")?;
    for (at, notice) in &changes.notices {
        notices.execute(params![at.as_micros(), notice])?;
    }
    Ok(())
}

fn write_unseen(transaction: &Transaction<'_>, unseen: &Unseen) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO unseen (minute, source, kind, events) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT DO UPDATE SET events = events + excluded.events",
        )?
        .execute(params![
            unseen.minute,
            unseen.source,
            unseen.kind,
            integer(unseen.events)
        ])?;
    Ok(())
}

/// As large as SQLite's integers get.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
