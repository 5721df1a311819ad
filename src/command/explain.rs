//! `smtpwatch explain`: what is made of a line, a log or a capture. It needs no rights beyond reading
//! what it is given, and has no files of its own.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::configured::read_or_say;
use super::output::{Writer, deliver};
use super::{FAILED, is_broken_pipe, say};
use crate::decode::flows::Format;
use crate::decode::kernel_log::Decoder;
use crate::decode::stamp::Stamp;
use crate::decode::{dhcp_lease, journal, syslog};
use crate::runtime::clock;
use crate::settings::flags::Explain as Flags;
use crate::source::{Input, InputError, Location, Raw, each_record};
use crate::view::{Explainer, explain_leases};

/// Runs the verb; answers the exit status.
pub(super) fn run(flags: &Flags) -> u8 {
    let Some(config) = read_or_say(flags) else {
        return FAILED;
    };
    let explainer = Explainer {
        decoder: Decoder::new(flags.counting.tags()),
        settings: config.settings(),
        as_json: flags.json,
    };
    let explained = deliver(None, false, |to, _| match location(flags) {
        None => explain_line(&explainer, flags.subject.as_bytes(), to),
        Some(location) => explain_input(flags, &explainer, &location, to).map_err(io::Error::other),
    });
    match explained {
        Err(error) if !is_broken_pipe(&error) => {
            say(&error.root_cause().to_string());
            FAILED
        }
        _ => 0,
    }
}

/// Where the records are; none where the argument is itself a line.
fn location(flags: &Flags) -> Option<Location> {
    let path = Path::new(&flags.subject);
    if path.as_os_str() == "-" {
        Some(Location::Standard)
    } else {
        // What looks like a path and is none is a mistake rather than a line.
        let text = path.as_os_str().as_bytes();
        let is_path = text.contains(&b'/') && !text.contains(&b' ');
        (path.exists() || is_path).then(|| Location::Named(path.to_owned()))
    }
}

/// Explains the argument itself: a line of a log, of a journal as JSON, of a log of connections, or of
/// a lease file.
fn explain_line(explainer: &Explainer, line: &[u8], to: Writer<'_>) -> io::Result<()> {
    if let Some(entry) = journal::json(line).filter(|_| journal::is_json(line)) {
        return explainer.explain(1, &Raw::Entry(entry), to);
    }
    if let Some(format) = Format::of(line) {
        return explainer.explain(1, &Raw::Flow(format.decode(line), format.name()), to);
    }
    let line_with_feed = [line, b"\n"].concat();
    if dhcp_lease::kind(&line_with_feed).is_some() && syslog::split(line).stamp == Stamp::None {
        return explain_leases(&dhcp_lease::decode(&line_with_feed), explainer.as_json, to);
    }
    explainer.explain(1, &Raw::Line(line), to)
}

fn explain_input(
    flags: &Flags,
    explainer: &Explainer,
    location: &Location,
    to: Writer<'_>,
) -> Result<(), InputError> {
    let input = Input::open(location, clock::now())?;
    if let Some(found) = input.unknown_kind() {
        let name = location.name();
        return Err(InputError::UnknownKind { name, found });
    }
    if input.is_leases() {
        let leases = input.into_leases()?;
        return explain_leases(&leases, explainer.as_json, to)
            .map_err(|cause| InputError::new(location.name(), cause));
    }
    let mut number = 0;
    let mut written = Ok(());
    each_record(input, |raw| {
        number += 1;
        written = explainer.explain(number, &raw, to);
        written.is_ok() && number < flags.limit
    })
    .and(written)
    .and_then(|()| to.flush())
    .map_err(|cause| InputError::new(location.name(), cause))?;
    if number == 0 {
        say(&format!("{}: no record in it", location.name()));
    }
    if number >= flags.limit {
        say(&format!("the first {number} records; --limit shows more"));
    }
    Ok(())
}
