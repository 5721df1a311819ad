//! A journal in the export format: entries, one after the other.

use std::io::Read;

use super::blocks::Blocks;
use super::lines::{Lines, Worker};
use super::stream::{Parts, spawn as spawn_thread};
use crate::decode::journal::{MAX_ENTRY, Next, Reader};
use crate::decode::kernel_log::Skip;

/// Reads entries from `reader` on a thread of its own.
pub(super) fn spawn(worker: Worker, reader: Box<dyn Read + Send>, parts: &Parts) {
    spawn_thread("journal", parts, move |parts| {
        let mut entries = Reader::default();
        super::blocks::run(Blocks::new(reader, MAX_ENTRY), parts, |bytes, is_last| {
            let mut lines = Lines::new(&worker);
            let mut rest = bytes;
            loop {
                match entries.next(&mut rest, is_last) {
                    Next::Entry(entry) => {
                        lines.take(&entry.message, &worker.decoder.decode_entry(&entry));
                    }
                    Next::Broken => lines.skip(Skip::CutOff),
                    Next::NeedMore | Next::End => break,
                }
            }
            (lines.into_part(), bytes.len() - rest.len(), false)
        });
    });
}
