//! JSON, as the schema has it.

use std::io::{self, Write};

use super::Report;

pub(super) fn write(report: &Report, to: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *to, report)?;
    writeln!(to)
}
