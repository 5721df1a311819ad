//! Cuts a byte stream into chunks of whole lines.

use std::io::{self, Read};

/// A chunk fits the second-level cache of one core.
const CHUNK: usize = 256 * 1024;
/// The part of a longer line that is looked at; nothing a kernel writes comes near.
pub(super) const MAX_LINE: usize = CHUNK;

/// A reader of chunks. Whoever holds it reads the next one; several threads take turns.
pub(super) struct ChunkReader<R> {
    reader: R,
    /// The begun line, at most [`MAX_LINE`] bytes of it, without NULs before it.
    carry: Vec<u8>,
    next: u64,
    /// Whether what comes up to the next line feed belongs to a line that has been cut.
    is_discarding: bool,
    is_at_end: bool,
    /// Why reading ended, told once what was read before has been handed out.
    failure: Option<io::Error>,
}

/// One chunk's bytes; the buffer is used again.
#[derive(Default)]
pub(super) struct Chunk {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Chunk {
    /// The lines in it, without their line feeds; of a longer line its first [`MAX_LINE`] bytes.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let text = &self.buffer[self.start..self.end];
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let mut start = 0;
        let ends = memchr::memchr_iter(b'\n', text).chain(std::iter::once(text.len()));
        ends.map(move |end| {
            let line = without_hole(&text[start..end]);
            start = end + 1;
            &line[..line.len().min(MAX_LINE)]
        })
    }

    fn read_some(&mut self, reader: &mut impl Read) -> io::Result<usize> {
        loop {
            match reader.read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A log that was truncated under its writer has a hole before the next line, which reads as NULs.
pub(super) fn without_hole(line: &[u8]) -> &[u8] {
    let start = line.iter().position(|&b| b != 0).unwrap_or(line.len());
    &line[start..]
}

impl<R: Read> ChunkReader<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            carry: Vec::new(),
            next: 0,
            is_discarding: false,
            is_at_end: false,
            failure: None,
        }
    }

    /// Reads the next chunk; answers its number, or none at the end.
    pub(super) fn read(&mut self, chunk: &mut Chunk) -> io::Result<Option<u64>> {
        chunk.buffer.resize(MAX_LINE + CHUNK, 0);
        loop {
            chunk.start = 0;
            chunk.end = self.carry.len();
            chunk.buffer[..chunk.end].copy_from_slice(&self.carry);
            self.carry.clear();
            while !self.is_at_end {
                match chunk.read_some(&mut self.reader) {
                    Ok(count) => self.is_at_end = count == 0,
                    Err(error) => {
                        self.is_at_end = true;
                        self.failure = Some(error);
                    }
                }
                if chunk.end >= CHUNK {
                    break;
                }
            }
            self.cut(chunk);
            if chunk.start < chunk.end {
                let number = self.next;
                self.next += 1;
                return Ok(Some(number));
            }
            if self.is_at_end && self.carry.is_empty() {
                return self.failure.take().map_or(Ok(None), Err);
            }
        }
    }

    /// Keeps the whole lines; the line that is begun after the last of them is carried into the next
    /// chunk, or cut where it is too long already.
    fn cut(&mut self, chunk: &mut Chunk) {
        if self.is_discarding {
            match memchr::memchr(b'\n', &chunk.buffer[..chunk.end]) {
                Some(end) => {
                    chunk.start = end + 1;
                    self.is_discarding = false;
                }
                None => chunk.start = chunk.end,
            }
        }
        let text = &chunk.buffer[chunk.start..chunk.end];
        let whole = memchr::memrchr(b'\n', text).map_or(0, |last| last + 1);
        let begun = without_hole(&text[whole..]);
        if begun.is_empty() {
            chunk.end = chunk.start + whole;
        } else if self.is_at_end {
            // The last line needs no line feed.
        } else if begun.len() <= MAX_LINE {
            self.carry.extend_from_slice(begun);
            chunk.end = chunk.start + whole;
        } else {
            self.is_discarding = true;
        }
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
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
    fn what_was_read_before_a_failure_is_handed_out() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        }
        let mut reader = ChunkReader::new(b"first\nsec".chain(Failing));
        let mut chunk = Chunk::default();
        assert_eq!(reader.read(&mut chunk).unwrap(), Some(0));
        assert_eq!(chunk.lines().count(), 2);
        assert!(reader.read(&mut chunk).is_err());
        assert_eq!(reader.read(&mut chunk).unwrap(), None);
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
            assert_eq!(lines[1].len(), MAX_LINE);
        }
    }

    #[test]
    fn a_hole_before_a_line_is_skipped_wherever_it_lies() {
        for hole in [10, CHUNK, MAX_LINE + 1, 3 * CHUNK + 5] {
            for before in [0, 1, CHUNK - hole % CHUNK, CHUNK + 7] {
                let mut text = b"x\n".repeat(before);
                text.extend(std::iter::repeat_n(0, hole));
                text.extend_from_slice(b"Jun  8 line\nnext\n");
                let lines = lines(&text, 100_000);
                assert_eq!(lines.len(), before + 2, "{hole} {before}");
                assert_eq!(lines[before], b"Jun  8 line", "{hole} {before}");
            }
        }
    }

    #[test]
    fn where_a_line_lies_does_not_change_how_it_is_cut() {
        for length in [MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 2 * MAX_LINE] {
            for before in [0, 1, CHUNK / 2 - 1, CHUNK / 2, CHUNK - 3] {
                let mut text = b"x\n".repeat(before);
                text.extend((0..length).map(|i| b'a' + (i % 26) as u8));
                text.extend_from_slice(b"\nnext\n");
                let expected: Vec<u8> = (0..length.min(MAX_LINE))
                    .map(|i| b'a' + (i % 26) as u8)
                    .collect();
                for step in [1_000_000, 10_007] {
                    let lines = lines(&text, step);
                    assert!(lines[before] == expected, "{length} {before} {step}");
                    assert_eq!(lines[before + 1..], [b"next".to_vec()]);
                }
            }
        }
    }
}
