//! One file that is read as it grows: where in it one stands, and whether it still is what was read.
//!
//! Each read begins a little before the place, with bytes that are known: where they are not what they
//! were, the file was truncated, even if it has grown again beyond the place since.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::UNIX_EPOCH;

use memchr::{memchr, memrchr};
use nix::errno::Errno;
use nix::sys::inotify::WatchDescriptor;
use nix::unistd::{Whence, lseek};

use super::position::{Place, Print, TOLD_BY};
use crate::model::Timestamp;
use crate::source::chunk::{MAX_LINE, without_hole};
use crate::source::lines::LineFormat;
use crate::source::live::Batch;
use crate::source::live::text::Text;

/// Bytes that one read takes.
const STEP: usize = 256 * 1024;
/// Bytes that are decompressed in one go to get to a place.
const LEAP: usize = 4 * 1024 * 1024;
/// The part of a file that tells the form of its lines.
const FORM: usize = 64 * 1024;

/// Which file it is, as long as it is there: an inode is used again, and was then made later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    device: u64,
    inode: u64,
    /// Microseconds since the epoch; 0 where the file system does not know.
    made: u64,
}

impl Id {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let made = metadata.created().ok();
        let made = made.and_then(|made| made.duration_since(UNIX_EPOCH).ok());
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            made: made.map_or(0, |made| u64::try_from(made.as_micros()).unwrap_or(0)),
        }
    }

    /// Whether `place` is in this very file; devices are numbered anew at each boot.
    pub(super) fn is_of(self, place: &Place) -> bool {
        (self.inode, self.made) == (place.inode, place.made)
    }
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// So many bytes.
    Bytes(usize),
    /// There is no more, or not yet.
    Nothing,
    /// It does not hold any more what was read.
    Truncated,
}

enum Reader {
    Plain(File),
    Packed(Box<dyn Read + Send>),
}

/// A file that is read.
pub(super) struct Tail {
    reader: Reader,
    pub(super) id: Id,
    pub(super) watch: Option<WatchDescriptor>,
    /// Since when it has not grown, once it is the log no more.
    pub(super) quiet_since: Option<Timestamp>,
    /// Whether nobody writes to it any more: it is done with at its end.
    pub(super) is_closed: bool,
    /// Whether it is a copy of a log that was truncated then, of which nothing was read yet.
    pub(super) is_copy: bool,
    /// Of the first byte that was not handed in.
    offset: u64,
    /// Bytes before that, [`TOLD_BY`] at the most.
    before: Vec<u8>,
    /// The begun line behind it.
    partial: Vec<u8>,
    is_cut: bool,
    head: Vec<u8>,
    /// Where it leads, while what is decompressed before that is passed over.
    target: Option<Place>,
    format: Option<LineFormat>,
    lines: u64,
}

impl Tail {
    /// What stands in `file` from `offset` on.
    pub(super) fn new(file: File, offset: u64) -> io::Result<Self> {
        let id = Id::of(&file.metadata()?);
        let start = offset.saturating_sub(TOLD_BY as u64);
        let length = usize::try_from(offset - start).unwrap_or(TOLD_BY);
        let before = read_at(&file, start, length)?;
        let form = read_at(&file, 0, FORM)?;
        // What is behind the place is taken in when it is read.
        let known = usize::try_from(offset)
            .unwrap_or(TOLD_BY)
            .min(TOLD_BY)
            .min(form.len());
        Ok(Self {
            format: (!form.is_empty()).then(|| LineFormat::told_by(&form)),
            head: form[..known].to_vec(),
            offset,
            before,
            ..Self::empty(Reader::Plain(file), id)
        })
    }

    /// What is written to `file` from now on; of a line that is begun already, nothing.
    pub(super) fn at_end(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let mut tail = Self::new(file, length)?;
        tail.is_cut = tail.before.last().is_some_and(|&last| last != b'\n');
        Ok(tail)
    }

    /// What is in the compressed file `id`, which begins with `head`, from `target` on.
    pub(super) fn packed(
        reader: Box<dyn Read + Send>,
        id: Id,
        head: Vec<u8>,
        target: Place,
    ) -> Self {
        Self {
            format: Some(LineFormat::told_by(&head)),
            head,
            target: (target.offset > 0).then_some(target),
            is_closed: true,
            ..Self::empty(Reader::Packed(reader), id)
        }
    }

    fn empty(reader: Reader, id: Id) -> Self {
        Self {
            reader,
            id,
            watch: None,
            quiet_since: None,
            is_closed: false,
            is_copy: false,
            offset: 0,
            before: Vec::new(),
            partial: Vec::new(),
            is_cut: false,
            head: Vec::new(),
            target: None,
            format: None,
            lines: 0,
        }
    }

    /// The same file, which was truncated, from its start on.
    pub(super) fn restarted(self) -> Self {
        Self {
            watch: self.watch,
            ..Self::empty(self.reader, self.id)
        }
    }

    pub(super) fn file(&self) -> Option<&File> {
        match &self.reader {
            Reader::Plain(file) => Some(file),
            Reader::Packed(_) => None,
        }
    }

    /// Its first bytes, as far as they were read.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Lines that were read of it.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// Whether what was read before is passed over.
    pub(super) fn is_leaping(&self) -> bool {
        self.target.is_some()
    }

    /// Whether nothing was read of it.
    pub(super) fn is_untouched(&self) -> bool {
        self.offset == 0 && self.partial.is_empty()
    }

    /// How many bytes it takes to write a line, by what was read.
    pub(super) fn bytes_a_line(&self) -> Option<u64> {
        self.offset
            .checked_div(self.lines)
            .filter(|&bytes| bytes > 0)
    }

    pub(super) fn place(&self) -> Place {
        if let Some(target) = &self.target {
            return target.clone();
        }
        let length = self
            .file()
            .and_then(|file| file.metadata().ok())
            .map_or(0, |data| data.len());
        Place {
            inode: self.id.inode,
            made: self.id.made,
            offset: self.offset,
            head: Print::of(&self.head),
            before: Print::of(&self.before),
            is_cut: self.is_cut,
            unread: length.saturating_sub(self.offset),
        }
    }

    pub(super) fn cut(mut self, is_cut: bool) -> Self {
        self.is_cut = is_cut;
        self
    }

    /// Reads on, hands in the lines that are whole, and keeps the begun one.
    pub(super) fn read(
        &mut self,
        buffer: &mut Vec<u8>,
        text: &mut Text,
        now: Timestamp,
        batch: &mut Batch,
    ) -> io::Result<Got> {
        if self.target.is_some() {
            return self.leap(buffer);
        }
        let known = self.before.len() + self.partial.len();
        buffer.resize(known + STEP, 0);
        let read = match &mut self.reader {
            Reader::Plain(file) => {
                let length =
                    retried(|| file.read_at(buffer, self.offset - self.before.len() as u64))?;
                let (before, partial) = (self.before.as_slice(), self.partial.as_slice());
                let is_same = buffer[..length]
                    .strip_prefix(before)
                    .is_some_and(|rest| rest.starts_with(partial));
                if !is_same {
                    return Ok(Got::Truncated);
                }
                &buffer[known..length]
            }
            Reader::Packed(reader) => {
                let length = retried(|| reader.read(buffer))?;
                &buffer[..length]
            }
        };
        if read.is_empty() {
            return Ok(Got::Nothing);
        }
        let at = self.offset + self.partial.len() as u64;
        if at == self.head.len() as u64 {
            let room = TOLD_BY - self.head.len();
            self.head.extend_from_slice(&read[..read.len().min(room)]);
        }
        self.partial.extend_from_slice(read);
        let count = read.len();
        let is_hole = count == STEP && read.iter().all(|&byte| byte == 0);
        self.consume(text, now, batch);
        if is_hole && self.partial.is_empty() {
            self.leave_hole();
        }
        Ok(Got::Bytes(count))
    }

    /// Passes over what comes before the target.
    fn leap(&mut self, buffer: &mut Vec<u8>) -> io::Result<Got> {
        let (Some(target), Reader::Packed(reader)) = (&self.target, &mut self.reader) else {
            return Ok(Got::Nothing);
        };
        let left = target.offset - self.offset;
        buffer.resize(usize::try_from(left).unwrap_or(LEAP).min(LEAP), 0);
        let length = retried(|| reader.read(buffer))?;
        // It ends before the place: all that is in it was read.
        if length == 0 {
            return Ok(Got::Nothing);
        }
        push_last(&mut self.before, &buffer[..length]);
        self.offset += length as u64;
        if self.offset == target.offset {
            let start = self.before.len().saturating_sub(target.before.0);
            if Print::of(&self.before[start..]) != target.before {
                return Ok(Got::Truncated);
            }
            self.is_cut = target.is_cut;
            self.target = None;
        }
        Ok(Got::Bytes(length))
    }

    fn consume(&mut self, text: &mut Text, now: Timestamp, batch: &mut Batch) {
        let mut start = 0;
        if self.is_cut {
            let end = memchr(b'\n', &self.partial);
            start = end.map_or(self.partial.len(), |end| end + 1);
            self.is_cut = end.is_none();
        }
        let mut end = start;
        if let Some(last) = memrchr(b'\n', &self.partial[start..]) {
            end = start + last + 1;
            self.hand_in(start, end - 1, text, now, batch);
        }
        let begun = &self.partial[end..];
        end += begun.len() - without_hole(begun).len();
        if self.partial.len() - end > MAX_LINE {
            self.hand_in(end, end + MAX_LINE, text, now, batch);
            self.is_cut = true;
            end = self.partial.len();
        }
        self.done_with(end);
    }

    /// Hands in the lines from `start` to `end` of what was read.
    fn hand_in(
        &mut self,
        start: usize,
        end: usize,
        text: &mut Text,
        now: Timestamp,
        batch: &mut Batch,
    ) {
        let lines = &self.partial[start..end];
        let format = self
            .format
            .get_or_insert_with(|| LineFormat::told_by(lines));
        let mut count = 0;
        let lines = lines.split(|&byte| byte == b'\n').map(|line| {
            count += 1;
            let line = without_hole(line);
            &line[..line.len().min(MAX_LINE)]
        });
        let part = text.worker.part(lines, format);
        self.lines += count;
        text.take(&part, format.is_written_at_the_end(), now, batch);
    }

    fn done_with(&mut self, count: usize) {
        push_last(&mut self.before, &self.partial[..count]);
        self.partial.drain(..count);
        self.offset += count as u64;
    }

    /// Hands in a line without an end: nobody will write it any more.
    pub(super) fn flush(&mut self, text: &mut Text, now: Timestamp, batch: &mut Batch) {
        if !self.partial.is_empty() {
            self.hand_in(0, self.partial.len(), text, now, batch);
            self.done_with(self.partial.len());
        }
    }

    /// A writer that goes on where it stood before a truncation leaves a hole, which may be as long as
    /// the log was.
    fn leave_hole(&mut self) {
        let Reader::Plain(file) = &self.reader else {
            return;
        };
        let data = i64::try_from(self.offset)
            .ok()
            .and_then(|at| lseek(file, at, Whence::SeekData).ok());
        if let Some(data) = data.and_then(|data| u64::try_from(data).ok()) {
            // The known bytes before it are the hole's, unless the data begins with less of it.
            let new = data.max(self.offset);
            self.before = vec![0; TOLD_BY];
            self.offset = new;
        }
    }

    /// Whether the file at hand holds what was read of this one, up to the place; `None` where it ends
    /// before that.
    pub(super) fn is_in(&self, file: &File) -> io::Result<Option<bool>> {
        holds(file, &self.place())
    }
}

/// Whether `file` holds what was read up to `place`; `None` where it ends before that, and begins so.
pub(super) fn holds(file: &File, place: &Place) -> io::Result<Option<bool>> {
    let length = file.metadata()?.len();
    if !place.head.begins(&read_at(file, 0, place.head.0)?) {
        return Ok(Some(false));
    }
    if length < place.offset {
        return Ok(None);
    }
    let start = place.offset - (place.before.0 as u64).min(place.offset);
    Ok(Some(
        Print::of(&read_at(file, start, place.before.0)?) == place.before,
    ))
}

fn push_last(last: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[bytes.len().saturating_sub(TOLD_BY)..];
    let surplus = (last.len() + bytes.len()).saturating_sub(TOLD_BY);
    last.drain(..surplus);
    last.extend_from_slice(bytes);
}

fn read_at(file: &File, at: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut done = 0;
    while done < length {
        match retried(|| file.read_at(&mut bytes[done..], at + done as u64))? {
            0 => break,
            count => done += count,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

fn retried(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.raw_os_error() == Some(Errno::EINTR as i32) => {}
            read => return read,
        }
    }
}
