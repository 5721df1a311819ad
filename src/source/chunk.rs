//! Cuts a byte stream into chunks of whole lines.

use std::io::{self, Read};

/// A chunk fits the second-level cache of one core.
const CHUNK: usize = 256 * 1024;
/// The part of a longer line that is looked at; nothing a kernel writes comes near.
const MAX_LINE: usize = CHUNK;

/// A reader of chunks. Whoever holds it reads the next one; several threads take turns.
pub(super) struct ChunkReader<R> {
    reader: R,
    carry: Vec<u8>,
    next: u64,
    is_discarding: bool,
    is_at_end: bool,
}

/// One chunk's bytes; the buffer is used again.
#[derive(Default)]
pub(super) struct Chunk {
    buffer: Vec<u8>,
    length: usize,
}

impl Chunk {
    /// The lines in it, without their line feeds.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let text = &self.buffer[..self.length];
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let mut start = 0;
        let ends = memchr::memchr_iter(b'\n', text).chain(std::iter::once(text.len()));
        ends.map(move |end| {
            let line = &text[start..end];
            start = end + 1;
            line
        })
    }

    fn fill_from(&mut self, reader: &mut impl Read) -> io::Result<bool> {
        while self.length < CHUNK {
            match reader.read(&mut self.buffer[self.length..]) {
                Ok(0) => return Ok(true),
                Ok(read) => self.length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Drops what comes before `start`.
    fn drop_front(&mut self, start: usize) {
        self.buffer.copy_within(start..self.length, 0);
        self.length -= start;
    }
}

impl<R: Read> ChunkReader<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            carry: Vec::new(),
            next: 0,
            is_discarding: false,
            is_at_end: false,
        }
    }

    /// Reads the next chunk; answers its number, or none at the end.
    pub(super) fn read(&mut self, chunk: &mut Chunk) -> io::Result<Option<u64>> {
        chunk.buffer.resize(CHUNK + MAX_LINE, 0);
        loop {
            chunk.buffer[..self.carry.len()].copy_from_slice(&self.carry);
            chunk.length = self.carry.len();
            self.carry.clear();
            if !self.is_at_end {
                self.is_at_end = chunk.fill_from(&mut self.reader)?;
            }
            if chunk.length == 0 {
                return Ok(None);
            }
            self.cut(chunk);
            if chunk.length > 0 {
                let number = self.next;
                self.next += 1;
                return Ok(Some(number));
            }
        }
    }

    /// Keeps the whole lines; what follows the last of them is carried into the next chunk.
    fn cut(&mut self, chunk: &mut Chunk) {
        if self.is_discarding {
            match memchr::memchr(b'\n', &chunk.buffer[..chunk.length]) {
                Some(end) => {
                    chunk.drop_front(end + 1);
                    self.is_discarding = false;
                }
                None => chunk.length = 0,
            }
        }
        let text = &chunk.buffer[..chunk.length];
        match memchr::memrchr(b'\n', text) {
            Some(last) => {
                self.carry.extend_from_slice(&text[last + 1..]);
                chunk.length = last + 1;
            }
            None if self.is_at_end => {}
            // A log truncated under its writer begins with a hole, which reads as NULs.
            None if text.iter().all(|&b| b == 0) => chunk.length = 0,
            None if text.first() == Some(&0) => {
                let start = text.iter().position(|&b| b != 0).unwrap_or(text.len());
                self.carry.extend_from_slice(&text[start..]);
                chunk.length = 0;
            }
            None => self.is_discarding = chunk.length > 0,
        }
        // A carried part that fills a chunk leaves no room to read: it is a line too long.
        if self.carry.len() >= MAX_LINE {
            self.carry.truncate(MAX_LINE - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that gives at most `step` bytes at a time.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(self.1).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn lines(text: &[u8], step: usize) -> Vec<Vec<u8>> {
        let mut reader = ChunkReader::new(Drip(text, step));
        let mut chunk = Chunk::default();
        let mut lines = Vec::new();
        while reader.read(&mut chunk).unwrap().is_some() {
            lines.extend(chunk.lines().map(<[u8]>::to_vec));
        }
        lines
    }

    #[test]
    fn all_lines_whole_and_in_order_over_many_chunks() {
        let text: Vec<u8> = (0..50_000)
            .flat_map(|i| format!("line {i} {}\n", "x".repeat(i % 40)).into_bytes())
            .collect();
        let expected: Vec<Vec<u8>> = text
            .strip_suffix(b"\n")
            .unwrap()
            .split(|&b| b == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        for step in [1_000_000, 4096, 777] {
            assert_eq!(lines(&text, step), expected, "{step}");
        }
    }

    #[test]
    fn the_last_line_needs_no_line_feed_and_nothing_is_no_line() {
        assert_eq!(
            lines(b"a\n\nb", 10),
            [b"a".to_vec(), b"".to_vec(), b"b".to_vec()]
        );
        assert!(lines(b"", 10).is_empty());
    }

    #[test]
    fn an_endless_line_costs_no_memory_and_hides_no_other() {
        let mut text = b"first\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', 3 * CHUNK + 17));
        text.extend_from_slice(b"\nlast\n");
        for step in [1_000_000, 4096] {
            let lines = lines(&text, step);
            assert_eq!(lines.first().unwrap(), b"first");
            assert_eq!(lines.last().unwrap(), b"last");
            assert_eq!(lines.len(), 3);
            assert!(lines[1].len() <= CHUNK + MAX_LINE);
        }
    }

    #[test]
    fn a_hole_before_a_line_is_skipped() {
        for hole in [10, CHUNK, 3 * CHUNK + 5] {
            let mut text = vec![0; hole];
            text.extend_from_slice(b"Jun  8 line\nnext\n");
            let lines = lines(&text, 100_000);
            assert_eq!(lines.len(), 2, "{hole}");
            assert!(lines[0].ends_with(b"Jun  8 line"), "{hole}");
        }
    }
}
