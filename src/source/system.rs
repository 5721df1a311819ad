//! This system's own records: its journal, and the logs that syslog daemons write.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;

use super::input::{InputError, Location, Lost};
use crate::model::Timestamp;

const LOGS: &str = "/var/log";
/// Logs that hold the kernel's messages, by the defaults of distributions and firewalls.
const NAMES: [&str; 10] = [
    "messages",
    "syslog",
    "kern.log",
    "kernel.log",
    "firewall",
    "firewall.log",
    "iptables.log",
    "ufw.log",
    "pve-firewall.log",
    "ulog/syslogemu.log",
];
/// Its device number.
const RING_DEVICE: u64 = 0x010b;
/// Where neither journal nor log is, the kernel itself may remember.
const RING: &str = "/dev/kmsg";
/// The longest record it gives (`PRINTK_MESSAGE_MAX`, kernel/printk/internal.h, and its dictionary).
const MAX_RECORD: usize = 8192;
const JOURNALS: [&str; 2] = ["/var/log/journal", "/run/log/journal"];

/// The journal and the logs that are there, rotated ones too; else the kernel's ring buffer; `since` spares the journal's past.
pub(crate) fn locations(since: Option<Timestamp>) -> (Vec<Location>, Vec<InputError>) {
    let mut errors = Vec::new();
    let mut locations = Vec::new();
    match journal_readable(&JOURNALS.map(Path::new)) {
        Ok(true) => locations.push(Location::Journal { since }),
        Ok(false) => {}
        Err(error) => errors.push(InputError::new("the journal".to_owned(), error)),
    }
    locations.extend(logs(Path::new(LOGS)).into_iter().map(Location::Found));
    if locations.is_empty() && errors.is_empty() && is_ring(Path::new(RING)) {
        locations.push(Location::Found(RING.into()));
    }
    (locations, errors)
}

/// Where this system's records are, for `doctor`.
#[derive(Debug)]
pub(crate) struct Records {
    /// Logs of known names that are being written, not the rotated ones.
    pub(crate) logs: Vec<PathBuf>,
    /// Whether there is a system journal; an error where it may not be read.
    pub(crate) journal: io::Result<bool>,
    /// Whether it outlives a boot.
    pub(crate) is_persistent: bool,
}

/// Where this system's records are.
pub(crate) fn records() -> Records {
    let logs = NAMES.map(|name| Path::new(LOGS).join(name));
    Records {
        logs: logs.into_iter().filter(|log| log.is_file()).collect(),
        journal: journal_readable(&JOURNALS.map(Path::new)),
        is_persistent: Path::new(JOURNALS[0]).is_dir(),
    }
}

/// Whether `path` is the kernel's ring buffer: character device 1, 11
/// (Documentation/admin-guide/devices.txt).
pub(super) fn is_ring(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| {
        metadata.file_type().is_char_device() && metadata.rdev() == RING_DEVICE
    })
}

/// What the ring buffer holds now: without waiting for more, as reading it would.
pub(super) fn ring(path: &Path, lost: Lost) -> io::Result<impl Read + Send + use<>> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    Ok(Ring::new(file, lost))
}

/// Reads the device a whole record at a time: it refuses to give a part (EINVAL).
struct Ring<R>(BufReader<R>, Lost);

impl<R: Read> Ring<R> {
    fn new(device: R, lost: Lost) -> Self {
        Self(BufReader::with_capacity(MAX_RECORD, device), lost)
    }
}

impl<R: Read> Read for Ring<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                // The oldest records were overwritten; the reading goes on with those that are left.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.1.fetch_add(1, Ordering::Relaxed);
                }
                read => return read,
            }
        }
    }
}

/// Whether there is a system journal; an error where the caller may not read it.
fn journal_readable(folders: &[&Path]) -> io::Result<bool> {
    let mut is_there = false;
    for folder in folders {
        let Ok(machines) = folder.read_dir() else {
            continue;
        };
        for machine in machines.flatten() {
            match File::open(machine.path().join("system.journal")) {
                Ok(_) => is_there = true,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
                Err(_) => {}
            }
        }
    }
    Ok(is_there)
}

/// Logs of known names in `folder`: `messages`, `messages.1`, `messages-20260301.xz`.
fn logs(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in NAMES {
        let path = folder.join(name);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
        else {
            continue;
        };
        let Ok(entries) = parent.read_dir() else {
            continue;
        };
        for entry in entries.flatten() {
            let is_rotated = entry
                .file_name()
                .to_str()
                .and_then(|entry| entry.strip_prefix(name))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']));
            if is_rotated && entry.path().is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The kernel's messages of all boots that the journal holds, in its export format.
#[expect(clippy::disallowed_methods, reason = "this room may start journalctl")]
pub(super) fn journal(since: Option<Timestamp>) -> io::Result<impl Read + Send + use<>> {
    let mut command = Command::new("journalctl");
    command.args([
        "--quiet",
        "--no-pager",
        "--output=export",
        "_TRANSPORT=kernel",
    ]);
    command.arg("--output-fields=_TRANSPORT,SYSLOG_IDENTIFIER,MESSAGE");
    if let Some(since) = since {
        command.arg(format!("--since=@{}", since.as_seconds()));
    }
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Running(child))
}

/// A process whose output is read, and which ends with its reader.
struct Running(Child);

impl Read for Running {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0.stdout {
            Some(output) => output.read(buffer),
            None => Ok(0),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, or nobody wants the rest.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_logs_are_found_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("ulog")).unwrap();
        for name in [
            "messages",
            "messages.1",
            "messages.2.gz",
            "messages-20260301.xz",
            "kern.log",
            "mail.log",
            "messages_old",
            "syslogx",
            "ulog/syslogemu.log",
            "ulog/syslogemu.log.1",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found: Vec<String> = logs(folder.path())
            .iter()
            .map(|path| {
                path.strip_prefix(folder.path())
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        assert_eq!(
            found,
            [
                "kern.log",
                "messages",
                "messages-20260301.xz",
                "messages.1",
                "messages.2.gz",
                "ulog/syslogemu.log",
                "ulog/syslogemu.log.1"
            ]
        );
    }

    #[test]
    fn what_the_ring_overwrote_is_counted_and_the_rest_is_read() {
        struct Overrun(u8);
        impl Read for Overrun {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    1 | 3 => Err(io::ErrorKind::BrokenPipe.into()),
                    2 | 4 => (&b"x"[..]).read(buffer),
                    _ => Err(io::ErrorKind::WouldBlock.into()),
                }
            }
        }
        let lost = Lost::default();
        let mut text = String::new();
        Ring::new(Overrun(0), lost.clone())
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!((text.as_str(), lost.load(Ordering::Relaxed)), ("xx", 2));
    }

    #[test]
    fn the_ring_is_never_asked_for_a_part_of_a_record() {
        struct Device(u8);
        impl Read for Device {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if buffer.len() < MAX_RECORD {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                self.0 += 1;
                match self.0 {
                    1..4 => (&b"record"[..]).read(buffer),
                    _ => Err(io::ErrorKind::WouldBlock.into()),
                }
            }
        }
        let mut ring = Ring::new(Device(0), Lost::default());
        let mut text = Vec::new();
        let mut piece = [0; 4];
        while let length @ 1.. = ring.read(&mut piece).unwrap() {
            text.extend_from_slice(&piece[..length]);
        }
        assert_eq!(text, b"recordrecordrecord");
    }

    #[test]
    fn a_journal_that_is_not_there_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!journal_readable(&[folder.path(), Path::new("/nonexistent")]).unwrap());
        std::fs::create_dir(folder.path().join("machine")).unwrap();
        std::fs::write(folder.path().join("machine/system.journal"), "").unwrap();
        assert!(journal_readable(&[folder.path()]).unwrap());
    }
}
