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

    /// Reads another block behind what is there; answers all of it.
    fn fill(&mut self) -> io::Result<&[u8]> {
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
        Ok(&self.buffer[..self.filled])
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
    for number in 0.. {
        if let Err(error) = blocks.fill() {
            let is_last = true;
            let (part, ..) = decode(&blocks.buffer[..blocks.filled], is_last);
            // Where nobody listens any more there is nobody to tell.
            let _ = parts.send((number, Ok(part)));
            let _ = parts.send((u64::MAX, Err(error)));
            return;
        }
        let (part, used, is_done) = decode(&blocks.buffer[..blocks.filled], blocks.is_last);
        if parts.send((number, Ok(part))).is_err() || is_done || blocks.is_last {
            return;
        }
        blocks.consume(used);
    }
}
