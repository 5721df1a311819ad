//! What it costs to judge an attempt, on a gateway with 300 devices: attempts a second on one core.
//!
//! In the steady state: a million attempts (28 hours) go before those that are measured, so that windows and
//! tables are as full as they get, and bots were spoken of. Each device makes an attempt in 30 s, few enough
//! for `volume` to go on counting; in the flood all of them come within seconds.
//!
//! Floors 0 to 3 alone, so that `--no-default-features` builds them. Run by `scripts/bench detection`, which also
//! makes the long runs of the detectors' own tests: bytes a device, and how soon and how seldom they speak.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use smtpwatch::attribution::leases::LeaseBook;
use smtpwatch::detection::{Contact, Detectors};
use smtpwatch::engine::{Engine, Input};
use smtpwatch::model::{Clock, Finding, Group, Interface, Observation, RuleId, Timestamp, Tuple};
use smtpwatch::settings::Settings;

fn main() {
    divan::main();
}

const DEVICES: u32 = 300;
/// Attempts before any is measured.
const WARM_UP: u32 = 1_000_000;
/// Attempts that are measured at a time.
const MEASURED: u32 = 100_000;

/// Where devices send.
#[derive(Debug)]
enum Traffic {
    /// One server each.
    Printers,
    /// Eight groups of a hosted mail service.
    Clients,
    /// As clients; every tenth is a bot, another group each time.
    Mixed,
    /// Another group each time.
    Bots,
    /// As bots, 20 microseconds apart.
    Flood,
}

const TRAFFIC: [Traffic; 5] = [
    Traffic::Printers,
    Traffic::Clients,
    Traffic::Mixed,
    Traffic::Bots,
    Traffic::Flood,
];

impl Traffic {
    /// The destination of the attempt with that number, of that device.
    fn destination(&self, number: u32, device: u32) -> u32 {
        let new = number.wrapping_mul(2_654_435_761) | 1 << 31;
        match self {
            Self::Bots | Self::Flood => new,
            Self::Mixed if device.is_multiple_of(10) => new,
            Self::Mixed | Self::Clients => 0x4000_0000 | (device + number / DEVICES % 8) << 8,
            Self::Printers => 0x4000_0000 | device << 8,
        }
    }

    /// Microseconds between two attempts.
    fn pause(&self) -> i64 {
        match self {
            Self::Flood => 20,
            _ => 100_000,
        }
    }

    /// An attempt of each device in turn.
    fn attempt(&self, number: u32) -> (u32, u32, Timestamp) {
        let device = number % DEVICES;
        let time = Timestamp::from_micros(i64::from(number) * self.pause());
        (device, self.destination(number, device), time)
    }
}

/// Hands attempts with rising numbers to `take`: first those that are not measured, then the others.
fn measure(bencher: Bencher, mut take: impl FnMut(u32)) {
    let mut number = 0;
    let mut hand_over = |count| {
        for _ in 0..count {
            number += 1;
            take(number);
        }
    };
    hand_over(WARM_UP);
    bencher
        .counter(ItemsCount::new(MEASURED))
        .bench_local(|| hand_over(MEASURED));
}

/// The detectors alone.
#[divan::bench(args = TRAFFIC, sample_count = 50, sample_size = 1)]
fn detectors(bencher: Bencher, traffic: &Traffic) {
    let settings = Settings::default();
    let mut devices = vec![Detectors::default(); DEVICES as usize];
    let mut findings: Vec<Finding> = Vec::new();
    measure(bencher, |number| {
        let (device, destination, time) = traffic.attempt(number);
        let contact = Contact {
            time,
            number: (number / DEVICES).into(),
            groups: &[Group::of(destination.to_be_bytes().into())],
            is_smarthost: false,
            is_against_policy: false,
        };
        devices[device as usize].observe(black_box(&contact), &settings, &mut findings);
        black_box(&mut findings).clear();
    });
}

/// All that the engine does with an attempt.
#[divan::bench(args = TRAFFIC, sample_count = 50, sample_size = 1)]
fn engine(bencher: Bencher, traffic: &Traffic) {
    let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 7);
    measure(bencher, |number| {
        let (device, destination, time) = traffic.attempt(number);
        let [.., high, low] = device.to_be_bytes();
        let observation = Observation {
            time,
            clock: Clock::Exact,
            rule: RuleId(1),
            tuple: Tuple {
                source: [10, 1, high, low].into(),
                destination: destination.to_be_bytes().into(),
                source_port: (number % 60_000) as u16,
                destination_port: 25,
            },
            isn: Some(number),
            ip_id: None,
            mac: None,
            interface: Interface::default(),
            ttl: Some(64),
            vlan: None,
            repeats: 0,
        };
        black_box(engine.handle(Input::Syn(observation), time).len());
    });
}
