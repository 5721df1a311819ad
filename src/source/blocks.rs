//! A byte stream in blocks, for formats whose records say their own length.

use std::io::{self, Read};

use super::part::Part;
use super::stream::Parts;

/// Bytes read at a time.
const BLOCK: usize = 256 * 1024;

/// A buffer that is filled from a reader, and keeps what was not used.
pub(super) struct Blocks<R> {
    reader: R,
    buffer: Vec<u8>,
    filled: usize,
    is_last: bool,
}

impl<R: Read> Blocks<R> {
    /// Blocks of `reader`, whose largest record is `largest`.
    pub(super) fn new(reader: R, largest: usize) -> Self {
        Self {
            reader,
            buffer: vec![0; largest + 2 * BLOCK],
            filled: 0,
            is_last: false,
        }
    }

    /// Reads another block behind what is there.
    fn fill(&mut self) -> io::Result<()> {
        while self.filled < self.buffer.len() && !self.is_last {
            match self.reader.read(&mut self.buffer[self.filled..]) {
                Ok(0) => self.is_last = true,
                Ok(count) => {
                    self.filled += count;
                    if self.filled >= self.buffer.len() - BLOCK {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Shows what is there to `take`, again and again; that answers how many bytes it used, and
    /// whether it wants more.
    pub(super) fn each(
        &mut self,
        mut take: impl FnMut(&[u8], bool) -> (usize, bool),
    ) -> io::Result<()> {
        loop {
            let filled = self.fill();
            // What came before an error is whole, and looked at.
            let is_last = self.is_last || filled.is_err();
            let (used, wants_more) = take(&self.buffer[..self.filled], is_last);
            filled?;
            if !wants_more || is_last {
                return Ok(());
            }
            self.consume(used);
        }
    }

    fn consume(&mut self, used: usize) {
        self.buffer.copy_within(used..self.filled, 0);
        self.filled -= used;
    }
}

/// Hands `blocks` to `decode`, which answers the part they hold, how many bytes it used, and
/// whether nothing further is to be read; hands the parts on.
pub(super) fn run<R: Read>(
    mut blocks: Blocks<R>,
    parts: &Parts,
    mut decode: impl FnMut(&[u8], bool) -> (Part, usize, bool),
) {
    let mut number = 0;
    let read = blocks.each(|bytes, is_last| {
        let (part, used, is_done) = decode(bytes, is_last);
        let is_heard = parts.send((number, Ok(part))).is_ok();
        number += 1;
        (used, is_heard && !is_done)
    });
    if let Err(error) = read {
        // Where nobody listens any more there is nobody to tell.
        let _ = parts.send((u64::MAX, Err(error)));
    }
}
