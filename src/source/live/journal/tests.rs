//! What journalctl may do: with a program that speaks like it, and with itself on a journal that
//! systemd-journal-remote writes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;

const NOW: Timestamp = Timestamp::from_seconds(1_773_149_673);

fn options() -> Options {
    Options {
        zone: Some(TimeZone::UTC),
        ..Options::default()
    }
}

fn message(number: u32) -> String {
    format!(
        "FW: IN=eth1 OUT=eth0 SRC=192.168.1.23 DST=203.0.113.9 LEN=60 TTL=63 ID=1 PROTO=TCP SPT=4000 \
         DPT=25 SEQ={number} ACK=0 WINDOW=64240 RES=0x00 SYN URGP=0"
    )
}

fn entry(number: u32) -> String {
    format!(
        r#"{{"__CURSOR":"s=1;i={number}","__REALTIME_TIMESTAMP":"{}","_TRANSPORT":"kernel","SYSLOG_IDENTIFIER":"kernel","MESSAGE":"{}"}}"#,
        NOW.plus_micros(-i64::from(number)).as_micros(),
        message(number)
    )
}

/// A program that notes its arguments and does as `script` says.
fn program(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("program");
    let text = format!(
        "#!/bin/sh\necho \"$@\" > {}/arguments\n{script}\n",
        folder.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Reads until `count` records have come, or an error.
fn read(journal: &mut Journal, count: u64) -> (Batch, Result<(), LiveError>) {
    let mut batch = Batch::default();
    for _ in 0..200 {
        let mut waited = [PollFd::new(journal.as_fd(), PollFlags::POLLIN)];
        poll(&mut waited, PollTimeout::from(100_u8)).unwrap();
        let read = journal.read(NOW, &mut batch);
        if read.is_err() || batch.events >= count {
            return (batch, read);
        }
    }
    panic!("{} of {count} records came", batch.events);
}

fn numbers(batch: &Batch) -> Vec<u32> {
    let each = batch.evidence.iter().map(|evidence| match evidence {
        crate::model::Evidence::Syn(syn) => syn.isn.unwrap(),
        crate::model::Evidence::Response(_) => panic!("no response was written"),
    });
    each.collect()
}

fn with(program: &Path, position: Option<&str>) -> Result<Journal, LiveError> {
    Journal::with(&[program.to_str().unwrap()], &options(), position)
}

#[test]
fn entries_and_where_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let missed = r#"{"__CURSOR":"s=1;i=9","_TRANSPORT":"driver","SYSLOG_IDENTIFIER":"systemd-journald","MESSAGE":"Missed 17 kernel messages"}"#;
    let forged = entry(3).replace(r#""kernel","SYSLOG"#, r#""syslog","SYSLOG"#);
    let script = format!(
        "cat <<'E'\n{}\n{}\n{forged}\n{missed}\nE\nexec sleep 60",
        entry(1),
        entry(2)
    );
    let program = program(folder.path(), &script);
    let mut journal = with(&program, None).unwrap();
    let (batch, result) = read(&mut journal, 2);
    result.unwrap();
    assert_eq!(numbers(&batch), [1, 2]);
    assert_eq!(batch.lost, [(LossKind::Overwritten, 17)]);
    assert_eq!(batch.position.as_deref(), Some("s=1;i=9"));
    assert_eq!(batch.evidence[1].time(), NOW.plus_micros(-2));
    let arguments = fs::read_to_string(folder.path().join("arguments")).unwrap();
    assert!(arguments.starts_with("--lines=0 --quiet"), "{arguments}");
}

#[test]
fn it_goes_on_behind_the_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let program = program(
        folder.path(),
        &format!("cat <<'E'\n{}\n{}\nE\nexec sleep 60", entry(1), entry(2)),
    );
    let mut journal = with(&program, Some("s=1;i=1")).unwrap();
    let (batch, _) = read(&mut journal, 1);
    assert_eq!(numbers(&batch), [2]);
    assert_eq!((batch.lost.len(), batch.notes.len()), (0, 0));
    let arguments = fs::read_to_string(folder.path().join("arguments")).unwrap();
    assert!(
        arguments.starts_with("--no-tail --cursor=s=1;i=1 "),
        "{arguments}"
    );
    // The entry at the cursor is gone.
    let mut journal = with(&program, Some("s=1;i=0")).unwrap();
    let (batch, _) = read(&mut journal, 2);
    assert_eq!(numbers(&batch), [1, 2]);
    assert_eq!(batch.lost, [(LossKind::Rotated, 1)]);
    assert!(
        batch.notes[0].contains("is not in it any more"),
        "{:?}",
        batch.notes
    );
}

#[test]
fn without_an_entry_time_tells_where_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path(), "exec sleep 60");
    let mut journal = with(&program, None).unwrap();
    let (batch, _) = read(&mut journal, 0);
    let position = batch.position.unwrap();
    assert_eq!(position, format!("@{}", NOW.as_seconds()));
    assert_eq!(start_at(&position), Some(Start::Since(NOW.as_seconds())));
}

#[test]
fn a_cursor_that_is_none_is_said_and_never_handed_on() {
    let folder = tempfile::tempdir().unwrap();
    let program = program(
        folder.path(),
        &format!("cat <<'E'\n{}\nE\nexec sleep 60", entry(1)),
    );
    for broken in ["", "i=1", "s=1; --file=/etc/shadow", "@x", "s=\n"] {
        let mut journal = with(&program, Some(broken)).unwrap();
        let (batch, _) = read(&mut journal, 1);
        assert_eq!(numbers(&batch), [1]);
        assert_eq!(batch.lost, [(LossKind::Rotated, 1)]);
        assert_eq!(
            batch.notes,
            [
                "journal: what was kept of how far it was read is no cursor; it is read from now on, and what \
                 came since is not (counted as 1 lost): journalctl -k -o short-iso | smtpwatch report -"
            ]
        );
        let arguments = fs::read_to_string(folder.path().join("arguments")).unwrap();
        assert!(arguments.starts_with("--lines=0 "), "{arguments}");
    }
}

#[test]
fn its_end_is_an_error_with_its_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let failing = program(
        folder.path(),
        "printf 'Failed to seek\\033[31m: no' >&2; exit 3",
    );
    let (_, result) = read(&mut with(&failing, None).unwrap(), 1);
    let said = result.unwrap_err().to_string();
    assert!(
        said.starts_with("journalctl ended (") && said.contains("Failed to seek\\u{1b}[31m: no"),
        "{said}"
    );
    let chatty = program(folder.path(), "yes 'no space' | head -c 60000 >&2");
    let (_, result) = read(&mut with(&chatty, None).unwrap(), 1);
    let said = result.unwrap_err().to_string();
    assert!(said.len() < 1500, "{}", said.len());
    let missing = with(&folder.path().join("none"), None)
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("starting journalctl failed") && missing.contains("--source kmsg"),
        "{missing}"
    );
}

#[test]
fn a_line_that_is_too_long_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "printf '{{\"MESSAGE\":\"'; head -c 900000 /dev/zero | tr '\\0' x; echo '\"}}'; cat <<'E'\n{}\nE\nexec sleep 60",
        entry(1)
    );
    let program = program(folder.path(), &script);
    let mut journal = with(&program, None).unwrap();
    let (batch, _) = read(&mut journal, 1);
    assert_eq!(numbers(&batch), [1]);
    assert_eq!(batch.lost, [(LossKind::Undecoded, 1)]);
}

#[test]
fn the_process_ends_with_the_source() {
    let folder = tempfile::tempdir().unwrap();
    let journal = with(&program(folder.path(), "exec sleep 60"), None).unwrap();
    let process = PathBuf::from(format!("/proc/{}", journal.running.child.id()));
    assert!(process.exists());
    drop(journal);
    assert!(!process.exists());
}

/// Adds kernel entries to the journal in `folder`, by systemd's own program.
#[expect(
    clippy::disallowed_methods,
    reason = "tests start the programs that they test with"
)]
fn add(folder: &Path, numbers: std::ops::Range<u32>) {
    let mut text = String::new();
    for number in numbers {
        text.push_str(&format!(
            "__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={number}\n_BOOT_ID=0123456789abcdef0123456789abcdef\n\
             _MACHINE_ID=0123456789abcdef0123456789abcdef\n_TRANSPORT=kernel\nSYSLOG_IDENTIFIER=kernel\nMESSAGE={}\n\n",
            NOW.plus_micros(i64::from(number) - 1_000_000).as_micros(),
            message(number)
        ));
    }
    let mut child = Command::new("/usr/lib/systemd/systemd-journal-remote")
        .args(["--split-mode=none", "--compress=no", "--output"])
        .arg(folder.join("test.journal"))
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn journalctl_itself_goes_on_at_the_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let directory = format!("--directory={}", folder.path().display());
    let open = |position: &str| {
        Journal::with(&["journalctl", &directory], &options(), Some(position)).unwrap()
    };
    add(folder.path(), 1..6);
    let mut journal = open("@1");
    let (batch, result) = read(&mut journal, 5);
    result.unwrap();
    assert_eq!(numbers(&batch), [1, 2, 3, 4, 5]);
    let mut cursor = batch.position.unwrap();
    add(folder.path(), 6..9);
    // What comes while it runs, and what came while it did not.
    let (batch, _) = read(&mut journal, 3);
    assert_eq!(numbers(&batch), [6, 7, 8]);
    drop(journal);
    let (batch, _) = read(&mut open(&cursor), 3);
    assert_eq!(numbers(&batch), [6, 7, 8]);
    assert_eq!((batch.lost.len(), batch.notes.len()), (0, 0));
    cursor = batch.position.unwrap();
    // Another journal, which never had the entry.
    fs::remove_file(folder.path().join("test.journal")).unwrap();
    add(folder.path(), 20..22);
    let (batch, _) = read(&mut open(&cursor), 2);
    assert_eq!(numbers(&batch), [20, 21]);
    assert_eq!(batch.lost, [(LossKind::Rotated, 1)]);
    // What journalctl makes nothing of is said, and left for what comes.
    let mut journal = open("s=zz");
    let (batch, result) = read(&mut journal, 0);
    result.unwrap();
    let mut batch = batch;
    for _ in 0..100 {
        if batch.position.is_some() {
            break;
        }
        let mut waited = [PollFd::new(journal.as_fd(), PollFlags::POLLIN)];
        poll(&mut waited, PollTimeout::from(100_u8)).unwrap();
        journal.read(NOW, &mut batch).unwrap();
    }
    assert_eq!(batch.position, Some(format!("@{}", NOW.as_seconds())));
    assert_eq!(batch.lost, [(LossKind::Rotated, 1)]);
    assert!(
        batch.notes[0].contains("does not know the place") && batch.notes[0].contains("cursor"),
        "{:?}",
        batch.notes
    );
    assert!(batch.evidence.is_empty());
}
