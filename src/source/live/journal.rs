//! The kernel's messages in the journal, as journald takes them in, through `journalctl -f`.
//!
//! Only entries that journald itself marks as the kernel's count, and what it says that it missed of
//! them. Entries of earlier boots count, too, where they come after the place at which an earlier run
//! stopped. journalctl is no process of ours to keep alive: if it ends, the source has failed.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use memchr::memchr;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::super::lines::Lines;
use super::text::Text;
use super::{Batch, LiveError, MAX_EVENTS, Options};
use crate::decode::journal::{self, MAX_ENTRY};
use crate::decode::kernel_log::Skip;
use crate::model::{LossKind, Timestamp};

/// Tells its rules' ids from other sources'.
const SOURCE: u32 = 0x6a72_6e6c;

/// Bytes that one read takes.
const STEP: usize = 256 * 1024;
/// Bytes that one call reads, about.
const MAX_BYTES: usize = 1024 * 1024;
/// Of what journalctl says when it ends.
const MAX_SAID: u64 = 1024;
/// What becomes of what was not read, and how to see it.
const ANEW: &str = "it is read from now on, and what came since is not (counted as 1 lost): \
                    journalctl -k -o short-iso | smtpwatch report -";
/// The longest cursor that is believed; journald's are some 130 bytes.
const MAX_CURSOR: usize = 512;

/// What is always asked for: whose messages, and what of them. `--dmesg` would leave earlier boots out.
const ARGUMENTS: [&str; 9] = [
    "--quiet",
    "--no-pager",
    "--follow",
    "--output=json",
    "--output-fields=_TRANSPORT,SYSLOG_IDENTIFIER,MESSAGE",
    "_TRANSPORT=kernel",
    // What journald says of itself comes by this way alone.
    "+",
    "_TRANSPORT=driver",
    "SYSLOG_IDENTIFIER=systemd-journald",
];

/// The journal, followed.
pub(crate) struct Journal {
    command: Vec<String>,
    running: Running,
    pub(super) text: Text,
    buffer: Vec<u8>,
    /// What of the buffer holds the begun line.
    begun: usize,
    /// Whether what comes belongs to a line that was too long.
    is_cut: bool,
    /// The entry from which on it is read, which was handed in before.
    expected: Option<String>,
    /// Whether nothing was read yet, so that there is no entry to go on from.
    is_new: bool,
    notes: Vec<String>,
    lost: u64,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("child", &self.running.child.id())
            .finish_non_exhaustive()
    }
}

/// Where to begin.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    /// With what comes.
    Now,
    /// With the entry at this cursor.
    Cursor(String),
    /// With this second of Unix time.
    Since(i64),
}

impl Journal {
    /// Follows the journal from `position` on, and without one from now.
    pub(super) fn open(options: &Options, position: Option<&str>) -> Result<Self, LiveError> {
        Self::with(&["journalctl"], options, position)
    }

    /// Follows what `command`, a program and arguments before ours, gives.
    fn with(
        command: &[&str],
        options: &Options,
        position: Option<&str>,
    ) -> Result<Self, LiveError> {
        let mut notes = Vec::new();
        let mut lost = 0;
        let start = match position.map(start_at) {
            None => Start::Now,
            Some(Some(start)) => start,
            Some(None) => {
                lost = 1;
                notes.push(format!(
                    "journal: what was kept of how far it was read is no cursor; {ANEW}"
                ));
                Start::Now
            }
        };
        let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
        Ok(Self {
            running: Running::start(&command, &start)?,
            command,
            text: Text::new(SOURCE, options),
            buffer: vec![0; STEP],
            begun: 0,
            is_cut: false,
            is_new: start == Start::Now,
            expected: match start {
                Start::Cursor(cursor) => Some(cursor),
                Start::Now | Start::Since(_) => None,
            },
            notes,
            lost,
        })
    }

    pub(super) fn read(&mut self, now: Timestamp, batch: &mut Batch) -> Result<(), LiveError> {
        batch.notes.append(&mut self.notes);
        batch.lose(LossKind::Rotated, std::mem::take(&mut self.lost));
        if std::mem::take(&mut self.is_new) {
            batch.position = Some(self.second(now));
        }
        let most = batch.events.saturating_add(MAX_EVENTS);
        let mut read = 0;
        while read < MAX_BYTES && batch.events < most {
            match self.running.output.read(&mut self.buffer[self.begun..]) {
                Ok(0) => match self.running.ended() {
                    LiveError::JournalEnded { said, .. } if self.is_refused(&said) => {
                        self.start_anew(&said, now, batch)?;
                    }
                    error => return Err(error),
                },
                Ok(count) => {
                    read += count;
                    self.lines(self.begun + count, now, batch);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    batch.is_drained = true;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LiveError::Journal(error)),
            }
        }
        Ok(())
    }

    /// Whether journalctl, which `said` so at its end, makes nothing of the cursor: with that it would
    /// end each time. What else ends it may pass.
    fn is_refused(&self, said: &str) -> bool {
        self.expected.is_some() && said.contains("cursor")
    }

    /// Goes on with what comes, and with another place to be kept.
    fn start_anew(
        &mut self,
        said: &str,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<(), LiveError> {
        self.expected = None;
        self.running = Running::start(&self.command, &Start::Now)?;
        batch.position = Some(self.second(now));
        batch.lose(LossKind::Rotated, 1);
        batch.notes.push(format!(
            "journal: journalctl does not know the place up to which it was read ({}); {ANEW}",
            said.escape_debug()
        ));
        Ok(())
    }

    /// What tells where to go on as long as there is no entry.
    fn second(&self, now: Timestamp) -> String {
        format!("@{}", self.text.wall(now).as_seconds())
    }

    /// Hands in the lines among the first `end` bytes of the buffer, and keeps the begun one.
    fn lines(&mut self, end: usize, now: Timestamp, batch: &mut Batch) {
        let buffer = std::mem::take(&mut self.buffer);
        let mut cursor = None;
        let mut rest = &buffer[..end];
        let mut lines = Lines::new(&self.text.worker);
        while let Some(feed) = memchr(b'\n', rest) {
            let line = &rest[..feed];
            rest = &rest[feed + 1..];
            if std::mem::take(&mut self.is_cut) || line.is_empty() {
                continue;
            }
            let Some((entry, at)) = journal::json_with_cursor(line) else {
                lines.skip(Skip::CutOff);
                continue;
            };
            if !at.is_empty() {
                cursor = Some(at.to_vec());
            }
            if let Some(expected) = self.expected.take() {
                if *at == *expected.as_bytes() {
                    continue;
                }
                batch.lose(LossKind::Rotated, 1);
                batch.notes.push(
                    "journal: the entry that was read last is not in it any more: what came between it and the \
                     oldest that is there may be lost (counted as 1 lost)"
                        .to_owned(),
                );
            }
            lines.take(
                &entry.message,
                &self.text.worker.decoder.decode_entry(&entry),
            );
        }
        let part = lines.into_part();
        self.text.take(&part, false, now, batch);
        if let Some(cursor) = cursor.and_then(|cursor| String::from_utf8(cursor).ok()) {
            batch.position = Some(cursor);
        }
        let begun = if self.is_cut { 0 } else { rest.len() };
        let start = end - begun;
        self.buffer = buffer;
        if begun > MAX_ENTRY {
            batch.lose(LossKind::Undecoded, 1);
            self.is_cut = true;
            self.begun = 0;
        } else {
            self.buffer.copy_within(start..end, 0);
            self.begun = begun;
        }
        self.buffer.resize(self.begun + STEP, 0);
    }
}

impl AsFd for Journal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.running.output.as_fd()
    }
}

/// Where `position` says to begin; none where it is nothing that was ever kept.
fn start_at(position: &str) -> Option<Start> {
    if let Some(seconds) = position.strip_prefix('@') {
        return seconds.parse().ok().map(Start::Since);
    }
    let is_cursors =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'=' | b';');
    let is_cursor = position.starts_with("s=")
        && position.len() <= MAX_CURSOR
        && position.bytes().all(is_cursors);
    is_cursor.then(|| Start::Cursor(position.to_owned()))
}

/// A process that ends with its reader.
struct Running {
    child: Child,
    output: ChildStdout,
    said: Option<ChildStderr>,
}

impl Running {
    #[expect(clippy::disallowed_methods, reason = "this room may start journalctl")]
    fn start(command: &[String], start: &Start) -> Result<Self, LiveError> {
        let mut words = command.iter();
        let mut command = Command::new(words.next().map_or("journalctl", String::as_str));
        command.args(words);
        match start {
            Start::Now => command.arg("--lines=0"),
            // Inclusive: whether the entry is there still, only itself can tell.
            Start::Cursor(cursor) => command.arg("--no-tail").arg(format!("--cursor={cursor}")),
            Start::Since(second) => command.arg("--no-tail").arg(format!("--since=@{second}")),
        };
        let mut child = command
            .args(ARGUMENTS)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(LiveError::NoJournalctl)?;
        let (output, said) = (child.stdout.take(), child.stderr.take());
        let Some(output) = output else {
            return Err(LiveError::Journal(io::ErrorKind::BrokenPipe.into()));
        };
        let running = Self {
            child,
            output,
            said,
        };
        unblock(&running.output)?;
        if let Some(said) = &running.said {
            unblock(said)?;
        }
        Ok(running)
    }

    /// Its output has ended: why.
    fn ended(&mut self) -> LiveError {
        let mut said = Vec::new();
        if let Some(errors) = &mut self.said {
            // Up to where it would wait.
            let _ = errors.take(MAX_SAID).read_to_end(&mut said);
        }
        let _ = self.child.kill();
        let status = self.child.wait();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        LiveError::JournalEnded {
            status: status.map_or_else(|error| error.to_string(), |status| status.to_string()),
            said: if said.is_empty() {
                "it said nothing".to_owned()
            } else {
                said
            },
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, or nobody wants the rest.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unblock(descriptor: impl AsFd) -> Result<(), LiveError> {
    let failed = |errno: nix::errno::Errno| LiveError::Journal(errno.into());
    let flags = fcntl(&descriptor, FcntlArg::F_GETFL).map_err(failed)?;
    let flags = OFlag::from_bits_truncate(flags) | OFlag::O_NONBLOCK;
    fcntl(&descriptor, FcntlArg::F_SETFL(flags)).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests;
