//! What a run prints, written by a thread of its own: whoever reads it slowly, or not at all, holds
//! nothing up. What does not fit is dropped whole, line by line, and counted.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes handed over at once.
const BLOCK: usize = 64 * 1024;
/// Blocks that may wait: 16 MiB.
const MAX_WAITING: usize = 256;
/// How long a reader is waited for at the end while it takes nothing: one that is stuck would else
/// keep the program from ending.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked at, then.
const GLANCE: Duration = Duration::from_millis(50);

/// Lines on their way to whoever reads them.
pub(super) struct Printer {
    blocks: SyncSender<Block>,
    thread: JoinHandle<()>,
    /// What became of the writing, told once when it ends.
    ended: Receiver<io::Result<()>>,
    progress: Arc<Progress>,
    /// Lines that were handed over.
    handed: u64,
    block: Vec<u8>,
    lines: u64,
    dropped: u64,
}

/// Where somebody writes what a printer is to print.
#[derive(Clone, Debug, Default)]
pub(super) struct Pen(Rc<RefCell<Vec<u8>>>);

impl Pen {
    /// What was written since the last call.
    pub(super) fn take(&self) -> Vec<u8> {
        self.0.take()
    }
}

impl Write for Pen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What became of what was to be printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Printed {
    /// Lines that were not written, for nobody read in time.
    pub(crate) dropped: u64,
    /// Whether nobody reads, though somebody could: writing more would wait for ever.
    pub(crate) is_stuck: bool,
}

/// What was written so far.
#[derive(Debug, Default)]
struct Progress {
    bytes: AtomicU64,
    lines: AtomicU64,
}

/// Lines, and how many.
struct Block {
    bytes: Vec<u8>,
    lines: u64,
}

impl Printer {
    /// Starts the thread that writes to `to`.
    pub(super) fn start(to: impl Write + Send + 'static) -> io::Result<Self> {
        let (blocks, waiting) = sync_channel(MAX_WAITING);
        let (end, ended) = sync_channel(1);
        let progress = Arc::new(Progress::default());
        let own = Arc::clone(&progress);
        let thread = std::thread::Builder::new()
            .name("printer".to_owned())
            .spawn(move || drop(end.send(print(&waiting, to, &own))))?;
        Ok(Self {
            blocks,
            thread,
            ended,
            progress,
            handed: 0,
            block: Vec::new(),
            lines: 0,
            dropped: 0,
        })
    }

    /// Adds one line, which `write` writes.
    pub(super) fn line(&mut self, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) {
        let before = self.block.len();
        if write(&mut self.block).is_err() {
            self.block.truncate(before);
            self.dropped += 1;
            return;
        }
        self.lines += 1;
        if self.block.len() >= BLOCK {
            self.flush();
        }
    }

    /// Hands over what there is.
    pub(super) fn flush(&mut self) {
        if self.block.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.block);
        let lines = std::mem::take(&mut self.lines);
        match self.blocks.try_send(Block { bytes, lines }) {
            Ok(()) => self.handed += lines,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.dropped += lines,
        }
    }

    /// Whether all that was handed over is written.
    pub(super) fn is_idle(&self) -> bool {
        self.progress.lines.load(Ordering::Relaxed) == self.handed
    }

    /// Whether nobody reads any more.
    pub(super) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Writes what is left. Who reads slowly is waited for, who does not read at all is not.
    pub(super) fn finish(self) -> io::Result<Printed> {
        let Self {
            blocks,
            ended,
            progress,
            ..
        } = self;
        let last = Block {
            bytes: self.block,
            lines: self.lines,
        };
        let handed = self.handed + last.lines;
        let mut sending = Some((blocks, last));
        let mut moved = progress.bytes.load(Ordering::Relaxed);
        let mut idle = Duration::ZERO;
        let is_stuck = loop {
            // The thread ends when it has written what came, and no more can come.
            if let Some((to, block)) = sending.take()
                && let Err(TrySendError::Full(block)) = to.try_send(block)
            {
                sending = Some((to, block));
            }
            match ended.recv_timeout(GLANCE) {
                Ok(result) => {
                    result?;
                    break false;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("the printing thread failed"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let before = std::mem::replace(&mut moved, progress.bytes.load(Ordering::Relaxed));
            idle = if before == moved {
                idle + GLANCE
            } else {
                Duration::ZERO
            };
            if idle >= PATIENCE {
                break true;
            }
        };
        let unwritten = handed.saturating_sub(progress.lines.load(Ordering::Relaxed));
        Ok(Printed {
            dropped: self.dropped + unwritten,
            is_stuck,
        })
    }
}

fn print(blocks: &Receiver<Block>, mut to: impl Write, progress: &Progress) -> io::Result<()> {
    for Block { bytes, lines } in blocks {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match to.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    rest = &rest[count..];
                    progress.bytes.fetch_add(count as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        to.flush()?;
        progress.lines.fetch_add(lines, Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A reader who does not read before it is told to.
    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_out_in_order() {
        let paper = Paper::default();
        let mut printer = Printer::start(paper.clone()).unwrap();
        for number in 0..100_000 {
            printer.line(|line| writeln!(line, "{number}"));
        }
        assert_eq!(printer.finish().unwrap(), Printed::default());
        let text = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        assert!(
            text.lines()
                .map(|line| line.parse::<u32>().unwrap())
                .eq(0..100_000)
        );
    }

    #[test]
    fn who_does_not_read_holds_nothing_up() {
        let (go, wait) = sync_channel(0);
        let mut printer = Printer::start(Stuck(wait)).unwrap();
        let line = [b'x'; 1024];
        for _ in 0..64 * 1024 {
            printer.line(|to| to.write_all(&line));
        }
        let printed = printer.finish().unwrap();
        drop(go);
        // Not even at the end.
        assert_eq!((printed.dropped, printed.is_stuck), (64 * 1024, true));
    }

    #[test]
    fn who_reads_slowly_is_waited_for() {
        let (go, wait) = sync_channel(0);
        let mut printer = Printer::start(Stuck(wait)).unwrap();
        let line = [b'x'; 1024];
        for _ in 0..64 * 1024 {
            printer.line(|to| to.write_all(&line));
        }
        let reader = std::thread::spawn(move || while go.send(()).is_ok() {});
        let printed = printer.finish().unwrap();
        reader.join().unwrap();
        assert!(
            (40_000..64 * 1024).contains(&printed.dropped),
            "{printed:?}"
        );
        assert!(!printed.is_stuck);
    }
}
