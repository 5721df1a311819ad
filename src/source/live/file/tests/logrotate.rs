//! logrotate itself, in each of its ways, while a writer writes 5,000 lines a second, and while the
//! reader is stopped and started again. The script that tells the writer waits until it has heard: what it
//! wrote into a log that was compressed already would be in no file.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;

/// Lines that are written in a millisecond.
const PACE: u32 = 5;

/// A way to rotate.
struct Way {
    name: &'static str,
    /// What stands in logrotate's configuration.
    how: &'static str,
    /// Between two rotations: dates have a second's resolution.
    pause: Duration,
    /// Whether the reader is stopped and started again.
    restarts: bool,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the writer keeps its pace by a clock"
)]
fn moment() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests start the programs that they test with"
)]
fn logrotate(folder: &Path) {
    let output = Command::new("logrotate")
        .arg("--force")
        .arg("--state")
        .arg(folder.join("state"))
        .arg(folder.join("config"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Writes numbered lines at its pace until told to stop, and opens its log anew when it is told, as
/// rsyslog does; answers how many it wrote.
fn write_lines(folder: &Path, is_over: &AtomicBool, written: &AtomicU32) -> u32 {
    let open = || {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(folder.join("log"))
            .unwrap()
    };
    let signal = folder.join("reopen");
    let begun = moment();
    let mut log = open();
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        let due = u32::try_from(begun.elapsed().as_millis()).unwrap() * PACE;
        while number < due {
            number += 1;
            log.write_all(line(number).as_bytes()).unwrap();
            if fs::remove_file(&signal).is_ok() {
                log = open();
            }
        }
        written.store(number, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(1));
    }
    number
}

/// The numbers that stand in any file of `folder` at the end.
fn left(folder: &Path) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for entry in folder.read_dir().unwrap().flatten() {
        let bytes = fs::read(entry.path()).unwrap();
        let mut text = Vec::new();
        match Compression::of(&bytes) {
            Some(form) => {
                form.decoder(io::Cursor::new(bytes))
                    .unwrap()
                    .read_to_end(&mut text)
                    .unwrap();
            }
            None => text = bytes,
        }
        let text = String::from_utf8_lossy(&text);
        let number = |line: &str| line.split(" SEQ=").nth(1)?.split(' ').next()?.parse().ok();
        found.extend(text.lines().filter_map(number).map(|number: u32| number));
    }
    found
}

/// How often the reader may have been stopped and started again by now, and how often it was.
#[derive(Default)]
struct Restarts {
    allowed: AtomicU32,
    done: AtomicU32,
}

impl Restarts {
    fn are_due(&self) -> bool {
        self.done.load(Ordering::Relaxed) < self.allowed.load(Ordering::Relaxed)
    }
}

/// Reads what is written until all of it was, through restarts at moments that `dice` choose.
fn follow(
    folder: &Path,
    restarts: &Restarts,
    wanted: &AtomicU32,
    dice: &mut fastrand::Rng,
) -> Seen {
    let mut seen = Seen::default();
    let begun = moment();
    let mut batch = Batch::default();
    let open = |seen: &Seen| {
        Follower::open(&folder.join("log"), &options(), seen.position.as_deref()).unwrap()
    };
    let mut follower = open(&seen);
    let mut quiet = 0;
    // `wanted` is 0 until the writer has ended; then nothing new for a while is the end.
    while quiet < 5 {
        let mut waited = [PollFd::new(follower.as_fd(), PollFlags::POLLIN)];
        poll(&mut waited, PollTimeout::from(50_u8)).unwrap();
        let now = NOW.plus_micros(i64::try_from(begun.elapsed().as_micros()).unwrap());
        let before = seen.numbers.len();
        follower.read(now, &mut batch).unwrap();
        seen.take(&mut batch);
        let is_idle = seen.numbers.len() == before && wanted.load(Ordering::Relaxed) > 0;
        quiet = if is_idle { quiet + 1 } else { 0 };
        if restarts.are_due() && dice.u32(..40) == 0 {
            restarts.done.fetch_add(1, Ordering::Relaxed);
            drop(follower);
            thread::sleep(Duration::from_millis(dice.u64(..300)));
            follower = open(&seen);
        }
    }
    seen
}

/// The first of those that stand more than once among `numbers`.
fn twice(numbers: &[u32]) -> Vec<u32> {
    let mut known = BTreeSet::new();
    let again = numbers.iter().filter(|&&number| !known.insert(number));
    again.copied().take(5).collect()
}

/// Rotates `turns` times, and more often where the reader has not been started again often enough by
/// then; answers how many lines were missed, and how many were said to be.
fn rotated(way: &Way, turns: u32) -> (u64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let config = format!(
        "{0}/log {{\n rotate 100000\n {1}\n sharedscripts\n postrotate\n  touch {0}/reopen\n  while [ -e {0}/reopen ]; do sleep 0.005; done\n endscript\n}}\n",
        folder.display(),
        way.how
    );
    fs::write(folder.join("config"), config).unwrap();
    fs::write(folder.join("log"), "").unwrap();
    let (is_over, written, wanted) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let restarts = Restarts::default();
    let asked = match (way.restarts, turns) {
        (false, _) => 0,
        (true, SOAK) => 20,
        (true, _) => 3,
    };
    let mut dice = fastrand::Rng::with_seed(u64::from(turns) + way.name.len() as u64);
    let mut reader_dice = dice.fork();
    let (seen, all) = thread::scope(|scope| {
        let reader = scope.spawn(|| follow(folder, &restarts, &wanted, &mut reader_dice));
        thread::sleep(Duration::from_millis(20));
        let writer = scope.spawn(|| write_lines(folder, &is_over, &written));
        for turn in 1_u32.. {
            // Spread over the run, so that they fall into rotations.
            let allowed = (turn * asked).div_ceil(turns).min(asked);
            restarts.allowed.store(allowed, Ordering::Relaxed);
            thread::sleep(way.pause + Duration::from_millis(dice.u64(20..120)));
            logrotate(folder);
            if turn >= turns && (allowed == asked && !restarts.are_due() || turn == 10 * turns) {
                break;
            }
        }
        thread::sleep(Duration::from_millis(50));
        is_over.store(true, Ordering::Relaxed);
        let all = writer.join().unwrap();
        wanted.store(all, Ordering::Relaxed);
        (reader.join().unwrap(), all)
    });
    let restarted = restarts.done.load(Ordering::Relaxed);
    let unique: BTreeSet<u32> = seen.numbers.iter().copied().collect();
    assert_eq!(
        unique.len(),
        seen.numbers.len(),
        "{}: lines came twice: {:?}, {:?}",
        way.name,
        twice(&seen.numbers),
        seen.notes
    );
    let left = left(folder);
    let unread: Vec<&u32> = left.difference(&unique).collect();
    let first: Vec<_> = unread.iter().take(5).collect();
    assert!(
        unread.is_empty(),
        "{}: {} lines stand in files and were not read: {first:?}, {:?}",
        way.name,
        unread.len(),
        seen.notes
    );
    let missed = u64::from(all) - unique.len() as u64;
    let counted = seen.lost.values().sum();
    let destroyed = u64::from(all) - left.len() as u64;
    println!(
        "{}: {turns} rotations, {restarted} restarts, {all} lines, {destroyed} destroyed by truncation, {missed} missed, \
         {counted} counted as lost {:?}",
        way.name, seen.lost
    );
    assert_eq!(restarted, asked, "{}: restarts", way.name);
    (missed, counted)
}

/// Rotations of the whole loop.
const SOAK: u32 = 100;
const NO_PAUSE: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);

const WAYS: [Way; 9] = [
    Way {
        name: "create",
        how: "create",
        pause: NO_PAUSE,
        restarts: false,
    },
    Way {
        name: "create, restarts",
        how: "create",
        pause: NO_PAUSE,
        restarts: true,
    },
    Way {
        name: "create, compress",
        how: "create\n compress",
        pause: NO_PAUSE,
        restarts: true,
    },
    Way {
        name: "create, delaycompress",
        how: "create\n compress\n delaycompress",
        pause: NO_PAUSE,
        restarts: true,
    },
    Way {
        name: "create, dateext, compress",
        how: "create\n dateext\n dateformat -%Y%m%d-%s\n compress",
        pause: SECOND,
        restarts: true,
    },
    Way {
        name: "copytruncate",
        how: "copytruncate",
        pause: NO_PAUSE,
        restarts: false,
    },
    Way {
        name: "copytruncate, compress",
        how: "copytruncate\n compress",
        pause: NO_PAUSE,
        restarts: true,
    },
    Way {
        name: "copytruncate, delaycompress",
        how: "copytruncate\n compress\n delaycompress",
        pause: NO_PAUSE,
        restarts: true,
    },
    Way {
        name: "copytruncate, dateext",
        how: "copytruncate\n dateext\n dateformat -%Y%m%d-%s",
        pause: SECOND,
        restarts: true,
    },
];

/// [`SOAK`] times each with `SMTPWATCH_SOAK=1`; of the ways only that one which `SMTPWATCH_WAY` names.
#[test]
fn logrotates_every_way_loses_no_line_that_it_leaves() {
    let turns = if std::env::var_os("SMTPWATCH_SOAK").is_some() {
        SOAK
    } else {
        5
    };
    let only = std::env::var("SMTPWATCH_WAY").ok();
    let ways: Vec<&Way> = WAYS
        .iter()
        .filter(|way| only.as_ref().is_none_or(|only| way.name == only))
        .collect();
    assert!(!ways.is_empty(), "no such way: {only:?}");
    for way in ways {
        let (missed, counted) = rotated(way, turns);
        if way.how.contains("copytruncate") {
            // Without a reader nobody can tell how many a truncation destroyed, only that it may have.
            let told = if way.restarts {
                missed == 0 || counted > 0
            } else {
                2 * counted >= missed
            };
            assert!(
                told,
                "{}: {missed} lines missed, {counted} counted",
                way.name
            );
        } else {
            assert_eq!((missed, counted), (0, 0), "{}", way.name);
        }
    }
}
