//! Floor 5: where records come from. Here: files, folders and standard input, read in chunks of
//! whole lines by as many threads as there are cores, and handed on in the order in which they
//! stand.
//!
//! No file is mapped into memory: a log that is rotated or truncated while it is read must not end
//! the program.

mod blocks;
mod capture;
mod chunk;
mod compression;
mod input;
mod journal;
mod lines;
mod part;
mod probe;
mod stream;

pub(crate) use input::{Input, InputError, Location, expand};
pub(crate) use part::Outcome;
pub(crate) use stream::{Pending, Reading, Stream};
