//! Where an answer goes: standard output, or a file.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;

use anstream::{AutoStream, ColorChoice};
use anyhow::Context;

/// Something an answer is written to.
pub(super) type Writer<'a> = &'a mut dyn Write;

/// Hands `write` what to write to, and the terminal's columns where it is one. `path` is the file
/// that was asked for; `is_styled` says whether the answer bears colours.
pub(super) fn deliver(
    path: Option<&Path>,
    is_styled: bool,
    write: impl FnOnce(Writer<'_>, Option<u16>) -> io::Result<()>,
) -> anyhow::Result<()> {
    match path {
        Some(path) => {
            to_file(path, write).with_context(|| format!("{}: cannot be written", path.display()))
        }
        None => {
            let width = io::stdout().is_terminal().then(terminal_width).flatten();
            let written = if is_styled {
                let mut to = BufWriter::new(AutoStream::auto(io::stdout()));
                write(&mut to, width).and_then(|()| to.flush())
            } else {
                plain_stdout().and_then(|file| {
                    let mut to = BufWriter::new(file);
                    write(&mut to, width).and_then(|()| to.flush())
                })
            };
            written.context("cannot write to standard output")
        }
    }
}

/// Standard output for what programs read: nothing to take out, and no line by line.
fn plain_stdout() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

fn to_file(
    path: &Path,
    write: impl FnOnce(Writer<'_>, Option<u16>) -> io::Result<()>,
) -> io::Result<()> {
    let file = File::create(path)?;
    let mut to = BufWriter::new(AutoStream::new(file, ColorChoice::Never));
    write(&mut to, None)?;
    to.flush()
}

/// A serial console knows no size and says 0.
fn terminal_width() -> Option<u16> {
    comfy_table::Table::new().width().filter(|&width| width > 0)
}

/// Whether `output` is one of the `inputs`: writing the answer would destroy the evidence.
pub(super) fn overwrites(output: &Path, inputs: &[impl AsRef<Path>]) -> bool {
    let Ok(output) = output.canonicalize() else {
        return false;
    };
    inputs
        .iter()
        .filter_map(|input| input.as_ref().canonicalize().ok())
        .any(|input| input == output)
}
