//! A journal in the export format: entries, one after the other.

use std::io::Read;
use std::thread;

use super::blocks::Blocks;
use super::lines::{Lines, Worker};
use super::stream::Parts;
use crate::decode::journal::{MAX_ENTRY, Step, export};
use crate::decode::kernel_log::Skip;

/// Reads entries from `reader` on a thread of its own.
pub(super) fn spawn(worker: Worker, reader: Box<dyn Read + Send>, parts: Parts) {
    thread::spawn(move || {
        // What is left of something that is passed over.
        let mut passed_over = 0;
        super::blocks::run(Blocks::new(reader, MAX_ENTRY), &parts, |bytes, is_last| {
            let mut lines = Lines::new(&worker);
            let mut used = bytes.len().min(passed_over);
            passed_over -= used;
            loop {
                match export(&bytes[used..], is_last) {
                    Step::Entry(entry, length) => {
                        lines.take(&entry.message, &worker.decoder.decode_entry(&entry));
                        used += length;
                    }
                    Step::Broken(length) => {
                        lines.skip(Skip::CutOff);
                        let present = length.min(bytes.len() - used);
                        used += present;
                        passed_over = length - present;
                    }
                    Step::NeedMore | Step::End => break,
                }
            }
            (lines.into_part(), used, false)
        });
    });
}
