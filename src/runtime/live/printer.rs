//! Standard output for events, written by a thread of its own: whoever reads it slowly, or not at all,
//! holds nothing up. What does not fit is dropped whole, line by line, and counted.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Bytes handed over at once.
const BLOCK: usize = 64 * 1024;
/// Blocks that may wait: 16 MiB.
const MAX_WAITING: usize = 256;

/// Lines on their way to standard output.
pub(super) struct Printer {
    blocks: SyncSender<Vec<u8>>,
    thread: JoinHandle<io::Result<()>>,
    block: Vec<u8>,
    lines: u64,
    dropped: u64,
}

impl Printer {
    /// Starts the thread that writes to `to`.
    pub(super) fn start(to: impl Write + Send + 'static) -> io::Result<Self> {
        let (blocks, waiting) = sync_channel(MAX_WAITING);
        let thread = std::thread::Builder::new()
            .name("printer".to_owned())
            .spawn(move || print(&waiting, to))?;
        Ok(Self {
            blocks,
            thread,
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
        let block = std::mem::take(&mut self.block);
        let lines = std::mem::take(&mut self.lines);
        match self.blocks.try_send(block) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.dropped += lines,
        }
    }

    /// Whether nobody reads any more.
    pub(super) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Writes what is left; answers how many lines were dropped.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        // At the end there is nothing left to hold up.
        let block = std::mem::take(&mut self.block);
        if self.blocks.send(block).is_err() {
            self.dropped += self.lines;
        }
        drop(self.blocks);
        let written = self.thread.join();
        written.unwrap_or_else(|_| Err(io::Error::other("the printing thread failed")))?;
        Ok(self.dropped)
    }
}

fn print(blocks: &Receiver<Vec<u8>>, mut to: impl Write) -> io::Result<()> {
    for block in blocks {
        to.write_all(&block)?;
        to.flush()?;
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
        assert_eq!(printer.finish().unwrap(), 0);
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
        drop(go);
        let dropped = printer.finish().unwrap();
        assert!((40_000..64 * 1024).contains(&dropped), "{dropped}");
    }
}
