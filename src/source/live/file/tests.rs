//! Every way in which a log is rotated, also several times between two reads and across a restart: by
//! hand, and by logrotate itself while a writer writes.

mod logrotate;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::symlink;

use jiff::tz::TimeZone;

use super::*;
use crate::model::Evidence;

const NOW: Timestamp = Timestamp::from_seconds(1_773_149_673);

fn options() -> Options {
    Options {
        zone: Some(TimeZone::UTC),
        ..Options::default()
    }
}

/// A record that bears `number`.
fn line(number: u32) -> String {
    format!(
        "2026-03-10T13:34:33.000000+00:00 gw kernel: [ 1.0] FW: IN=eth1 OUT=eth0 SRC=192.168.1.23 \
         DST=203.0.113.9 LEN=60 TTL=63 ID=1 PROTO=TCP SPT=4000 DPT=25 SEQ={number} ACK=0 WINDOW=64240 \
         RES=0x00 SYN URGP=0\n"
    )
}

fn lines(numbers: impl IntoIterator<Item = u32>) -> String {
    numbers.into_iter().map(line).collect()
}

/// What reads gave, together.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) numbers: Vec<u32>,
    pub(super) lost: BTreeMap<LossKind, u64>,
    pub(super) notes: Vec<String>,
    pub(super) position: Option<String>,
}

impl Seen {
    pub(super) fn take(&mut self, batch: &mut Batch) {
        for evidence in &batch.evidence {
            if let Evidence::Syn(syn) = evidence {
                self.numbers.push(syn.isn.unwrap());
            }
        }
        for &(kind, count) in &batch.lost {
            *self.lost.entry(kind).or_default() += count;
        }
        self.notes.append(&mut batch.notes);
        if batch.position.is_some() {
            self.position = batch.position.take();
        }
        batch.clear();
    }
}

/// A folder with a log, and who follows it.
struct Lab {
    folder: tempfile::TempDir,
    follower: Option<Follower>,
    seen: Seen,
}

impl Lab {
    /// Follows a log that is there, with one line in it that is no news.
    fn new() -> Self {
        let mut lab = Self {
            folder: tempfile::tempdir().unwrap(),
            follower: None,
            seen: Seen::default(),
        };
        lab.write("log", &line(0));
        lab.start();
        lab.read();
        assert!(lab.seen.numbers.is_empty());
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn truncate(&self, name: &str) {
        let file = OpenOptions::new()
            .write(true)
            .open(self.path(name))
            .unwrap();
        file.set_len(0).unwrap();
    }

    fn copy(&self, from: &str, to: &str) {
        fs::copy(self.path(from), self.path(to)).unwrap();
    }

    fn gzip(&self, name: &str) {
        let text = fs::read(self.path(name)).unwrap();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&text).unwrap();
        fs::write(self.path(&format!("{name}.gz")), packed.finish().unwrap()).unwrap();
        fs::remove_file(self.path(name)).unwrap();
    }

    fn start(&mut self) {
        let position = self.seen.position.clone();
        let follower = Follower::open(&self.path("log"), &options(), position.as_deref());
        self.follower = Some(follower.unwrap());
    }

    fn stop(&mut self) {
        self.follower = None;
    }

    fn read_at(&mut self, now: Timestamp) {
        let mut batch = Batch::default();
        loop {
            self.follower
                .as_mut()
                .unwrap()
                .read(now, &mut batch)
                .unwrap();
            let is_drained = batch.is_drained;
            self.seen.take(&mut batch);
            if is_drained {
                break;
            }
        }
    }

    fn read(&mut self) {
        self.read_at(NOW);
    }

    /// Reads what is there now, and no more than `expected` numbers must have come, in order.
    #[track_caller]
    fn expect(&mut self, expected: impl IntoIterator<Item = u32>) {
        self.read();
        let expected: Vec<u32> = expected.into_iter().collect();
        assert_eq!(self.seen.numbers, expected);
    }

    /// Each copy that held what was not read says that there may have been more.
    #[track_caller]
    fn expect_unseen(&self, copies: u64) {
        assert_eq!(
            self.seen.lost,
            [(LossKind::Rotated, copies)].into(),
            "{:?}",
            self.seen.notes
        );
    }

    #[track_caller]
    fn expect_no_loss(&self) {
        assert!(
            self.seen.lost.is_empty(),
            "{:?} {:?}",
            self.seen.lost,
            self.seen.notes
        );
    }
}

#[test]
fn lines_come_once_and_whole() {
    let mut lab = Lab::new();
    let text = line(1);
    lab.write("log", &text[..50]);
    lab.expect([]);
    lab.write("log", &text[50..]);
    lab.write("log", &line(2));
    lab.expect([1, 2]);
    lab.expect([1, 2]);
    lab.expect_no_loss();
    assert!(lab.seen.notes[0].ends_with("followed from its end on"));
}

#[test]
fn a_line_that_is_begun_at_the_start_is_not_read() {
    let mut lab = Lab::new();
    lab.stop();
    lab.seen.position = None;
    lab.write("log", &line(1)[..150]);
    lab.start();
    lab.write("log", &line(1)[150..]);
    lab.write("log", &line(2));
    lab.expect([2]);
    lab.expect_no_loss();
}

#[test]
fn a_renamed_log_is_read_on_until_its_writer_is_told() {
    let mut lab = Lab::new();
    lab.write("log", &line(1));
    lab.rename("log", "log.1");
    lab.write("log.1", &line(2));
    lab.expect([1, 2]);
    lab.write("log", "");
    lab.write("log.1", &line(3));
    lab.expect([1, 2, 3]);
    lab.write("log.1", &line(4));
    lab.write("log", &line(5));
    lab.expect([1, 2, 3, 4, 5]);
    lab.write("log.1", &line(6));
    lab.expect([1, 2, 3, 4, 5, 6]);
    lab.gzip("log.1");
    lab.expect([1, 2, 3, 4, 5, 6]);
    lab.write("log", &line(7));
    let later = NOW.plus_micros(QUIET + 1);
    lab.read_at(later);
    lab.read_at(later.plus_micros(QUIET + 1));
    assert!(lab.follower.as_ref().unwrap().old.is_empty());
    assert_eq!(lab.seen.numbers, [1, 2, 3, 4, 5, 6, 7]);
    lab.expect_no_loss();
}

#[test]
fn several_renames_between_two_reads() {
    let mut lab = Lab::new();
    lab.write("log", &line(1));
    for (age, number) in (2..8).enumerate() {
        for name in (1..=age).rev() {
            lab.rename(&format!("log.{name}"), &format!("log.{}", name + 1));
        }
        lab.rename("log", "log.1");
        lab.write("log", &line(number));
    }
    lab.gzip("log.3");
    lab.gzip("log.4");
    lab.gzip("log.6");
    lab.expect(1..8);
    lab.expect(1..8);
    lab.expect_no_loss();
}

#[test]
fn a_log_that_is_removed_and_made_anew() {
    let mut lab = Lab::new();
    lab.write("log", &line(1));
    fs::remove_file(lab.path("log")).unwrap();
    lab.expect([1]);
    lab.write("log", &lines(2..4));
    lab.expect(1..4);
    lab.expect_no_loss();
}

#[test]
fn a_truncated_log_is_read_on_in_its_copy() {
    for is_packed in [false, true] {
        let mut lab = Lab::new();
        lab.write("log", &lines(1..100));
        lab.expect(1..100);
        lab.write("log", &lines(100..200));
        lab.copy("log", "log.1");
        lab.truncate("log");
        if is_packed {
            lab.gzip("log.1");
        }
        // Longer than what was read before, so that nothing but what is in it tells.
        lab.write("log", &lines(200..500));
        lab.expect(1..500);
        lab.write("log", &lines(500..501));
        lab.expect(1..501);
        lab.expect_unseen(1);
    }
}

#[test]
fn several_truncations_between_two_reads() {
    for is_packed in [false, true] {
        let mut lab = Lab::new();
        lab.write("log", &lines(1..10));
        lab.expect(1..10);
        for round in 1..5 {
            lab.write("log", &lines(round * 10..round * 10 + 10));
            for age in (1..round).rev() {
                let packed = if is_packed { ".gz" } else { "" };
                lab.rename(
                    &format!("log.{age}{packed}"),
                    &format!("log.{}{packed}", age + 1),
                );
            }
            lab.copy("log", "log.1");
            lab.truncate("log");
            if is_packed {
                lab.gzip("log.1");
            }
        }
        lab.expect(1..50);
        // Nothing was read since the last one: only the copy says that there was something.
        lab.write("log", &lines(50..60));
        lab.rename(if is_packed { "log.1.gz" } else { "log.1" }, "log.9");
        lab.copy("log", "log.1");
        lab.expect(1..60);
        lab.truncate("log");
        lab.write("log", &lines(60..61));
        lab.expect(1..61);
        lab.expect_unseen(4);
    }
}

#[test]
fn what_came_and_went_while_nothing_was_read_is_in_the_copy() {
    for is_stopped in [false, true] {
        let mut lab = Lab::new();
        lab.write("log", &lines(1..3));
        lab.expect(1..3);
        lab.copy("log", "log.1");
        lab.truncate("log");
        lab.expect(1..3);
        if is_stopped {
            lab.stop();
        }
        lab.write("log", &lines(3..10));
        lab.rename("log.1", "log.2");
        lab.copy("log", "log.1");
        lab.truncate("log");
        lab.write("log", &lines(10..20));
        if is_stopped {
            lab.start();
        }
        lab.expect(1..20);
        lab.expect_unseen(1);
    }
}

#[test]
fn what_was_read_beyond_the_copy_is_not_missed() {
    let mut lab = Lab::new();
    lab.write("log", &lines(1..20));
    lab.expect(1..20);
    lab.copy("log", "log.1");
    lab.write("log", &lines(20..25));
    lab.expect(1..25);
    lab.truncate("log");
    lab.write("log", &lines(25..30));
    lab.expect(1..30);
    lab.expect_no_loss();
}

#[test]
fn a_writer_that_goes_on_where_it_stood_leaves_a_hole() {
    let mut lab = Lab::new();
    let mut writer = OpenOptions::new()
        .write(true)
        .open(lab.path("log"))
        .unwrap();
    writer.seek(SeekFrom::End(0)).unwrap();
    for number in 1..3000 {
        writer.write_all(line(number).as_bytes()).unwrap();
    }
    lab.expect(1..3000);
    lab.copy("log", "log.1");
    lab.truncate("log");
    writer.write_all(line(3000).as_bytes()).unwrap();
    lab.expect(1..3001);
    lab.expect_no_loss();
}

#[test]
fn a_truncation_without_a_copy_is_counted() {
    let mut lab = Lab::new();
    lab.write("log", &lines(1..10));
    lab.expect(1..10);
    lab.truncate("log");
    lab.write("log", &line(10));
    lab.expect(1..11);
    assert_eq!(lab.seen.lost, [(LossKind::Rotated, 1)].into());
    assert!(
        lab.seen.notes[1].contains("it was truncated"),
        "{:?}",
        lab.seen.notes
    );
}

#[test]
fn files_beside_it_are_not_read() {
    let mut lab = Lab::new();
    lab.copy("log", "log.bak");
    lab.write("log.1", &lines(70..80));
    lab.write("log", &line(1));
    lab.copy("log", "log-20260301");
    lab.expect([1]);
    lab.write("log", &line(2));
    lab.expect([1, 2]);
    lab.expect_no_loss();
}

#[test]
fn an_editor_writes_the_same_anew() {
    let mut lab = Lab::new();
    lab.write("log", &lines(1..3));
    lab.expect(1..3);
    lab.copy("log", "new");
    lab.write("new", &line(3));
    lab.rename("new", "log");
    lab.expect(1..4);
    lab.expect_no_loss();
}

#[test]
fn a_link_that_is_set_anew() {
    let lab = Lab::new();
    fs::create_dir(lab.path("a")).unwrap();
    lab.write("a/one", &line(0));
    fs::remove_file(lab.path("log")).unwrap();
    symlink("a/one", lab.path("log")).unwrap();
    let mut lab = Lab {
        follower: None,
        seen: Seen::default(),
        ..lab
    };
    lab.start();
    lab.write("a/one", &line(1));
    lab.expect([1]);
    lab.rename("a/one", "a/one.1");
    lab.write("a/one", &line(2));
    lab.expect([1, 2]);
    lab.write("a/two", &line(3));
    fs::remove_file(lab.path("log")).unwrap();
    symlink("a/two", lab.path("log")).unwrap();
    lab.expect([1, 2, 3]);
    lab.expect_no_loss();
}

#[test]
fn a_line_without_an_end_costs_no_memory_and_hides_no_other() {
    let mut lab = Lab::new();
    lab.write("log", &line(1));
    for _ in 0..5 {
        lab.write("log", &"x".repeat(200_000));
        lab.read();
        let current = lab.follower.as_ref().unwrap().current.as_ref().unwrap();
        assert!(current.place().unread <= 256 * 1024 + 200_000);
    }
    lab.write("log", "\n");
    lab.write("log", &line(2));
    lab.expect([1, 2]);
}

#[test]
fn one_call_reads_no_more_than_its_share() {
    let mut lab = Lab::new();
    lab.write("log", &lines(1..20_000));
    let mut batch = Batch::default();
    lab.follower
        .as_mut()
        .unwrap()
        .read(NOW, &mut batch)
        .unwrap();
    assert!(!batch.is_drained);
    assert!(
        batch.events > 1000 && batch.events < 2 * MAX_EVENTS,
        "{}",
        batch.events
    );
    lab.seen.take(&mut batch);
    lab.expect(1..20_000);
}

#[test]
fn a_restart_goes_on_where_it_stopped() {
    let mut lab = Lab::new();
    lab.write("log", &lines(1..50));
    lab.write("log", &line(50)[..70]);
    lab.expect(1..50);
    lab.stop();
    lab.write("log", &line(50)[70..]);
    lab.write("log", &lines(51..60));
    lab.start();
    lab.expect(1..60);
    lab.expect_no_loss();
}

#[test]
fn a_restart_finds_what_was_rotated_meanwhile() {
    for (is_copied, is_packed, is_dated) in
        (0..8).map(|ways| (ways & 1 > 0, ways & 2 > 0, ways & 4 > 0))
    {
        let mut lab = Lab::new();
        lab.write("log", &lines(1..10));
        lab.expect(1..10);
        lab.stop();
        for round in 1..5 {
            lab.write("log", &lines(round * 10..round * 10 + 10));
            let packed = if is_packed { ".gz" } else { "" };
            let name = if is_dated {
                format!("log-2026030{round}")
            } else {
                "log.1".to_owned()
            };
            for age in (1..round).rev().filter(|_| !is_dated) {
                lab.rename(
                    &format!("log.{age}{packed}"),
                    &format!("log.{}{packed}", age + 1),
                );
            }
            if is_copied {
                lab.copy("log", &name);
                lab.truncate("log");
            } else {
                lab.rename("log", &name);
                lab.write("log", "");
            }
            if is_packed {
                lab.gzip(&name);
            }
        }
        lab.write("log", &lines(50..60));
        lab.start();
        lab.expect(1..60);
        lab.stop();
        lab.start();
        lab.expect(1..60);
        lab.write("log", &line(60));
        lab.expect(1..61);
        if is_copied {
            lab.expect_unseen(4);
        } else {
            lab.expect_no_loss();
        }
    }
}

#[test]
fn a_restart_reads_on_in_a_log_that_was_renamed_before_it() {
    let mut lab = Lab::new();
    lab.write("log", &line(1));
    lab.rename("log", "log.1");
    lab.write("log", &line(2));
    lab.expect([1, 2]);
    lab.stop();
    lab.write("log.1", &line(3));
    lab.write("log", &line(4));
    lab.start();
    lab.expect([1, 2, 3, 4]);
    lab.expect_no_loss();
}

#[test]
fn a_restart_says_what_it_cannot_find() {
    let mut lab = Lab::new();
    lab.write("log", &lines(1..3));
    lab.expect(1..3);
    lab.stop();
    fs::remove_file(lab.path("log")).unwrap();
    lab.write("log", &lines(10..12));
    lab.start();
    lab.write("log", &line(12));
    lab.expect([1, 2, 12]);
    assert_eq!(lab.seen.lost, [(LossKind::Rotated, 1)].into());
    assert!(
        lab.seen.notes[1].contains("is gone"),
        "{:?}",
        lab.seen.notes
    );
}

#[test]
fn a_position_that_is_none_is_said() {
    let mut lab = Lab::new();
    lab.stop();
    lab.seen.position = Some("{\"old\":17}".to_owned());
    lab.start();
    lab.write("log", &line(1));
    lab.expect([1]);
    assert_eq!(lab.seen.lost, [(LossKind::Rotated, 1)].into());
    assert!(
        lab.seen.notes[1].contains("cannot be understood"),
        "{:?}",
        lab.seen.notes
    );
}

#[test]
fn a_log_that_is_to_come_is_read_whole() {
    let mut lab = Lab {
        folder: tempfile::tempdir().unwrap(),
        follower: None,
        seen: Seen::default(),
    };
    lab.start();
    lab.expect([]);
    assert!(lab.seen.notes[0].ends_with("is not there; it is waited for"));
    lab.write("log", &line(1));
    lab.expect([1]);
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str| {
        Follower::open(&folder.path().join(name), &options(), None)
            .unwrap_err()
            .to_string()
    };
    let said = refused("none/log");
    assert!(
        said.contains("the folder of the log must be there"),
        "{said}"
    );
    assert!(refused(".").contains("a folder"));
    fs::write(folder.path().join("log.gz"), [0x1f, 0x8b, 8, 0]).unwrap();
    assert!(refused("log.gz").contains("is compressed"));
    fs::write(
        folder.path().join("x.pcap"),
        [
            0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0,
        ],
    )
    .unwrap();
    assert!(refused("x.pcap").contains("a packet capture"));
}

#[test]
fn a_folder_that_goes_ends_the_source() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("log"), line(1)).unwrap();
    let mut follower = Follower::open(&inner.join("log"), &options(), None).unwrap();
    fs::remove_dir_all(&inner).unwrap();
    let said = follower
        .read(NOW, &mut Batch::default())
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("watching") && said.contains("inner"),
        "{said}"
    );
}
