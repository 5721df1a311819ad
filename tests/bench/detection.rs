//! What it costs to judge an attempt, on a gateway with 300 devices: attempts a second on one core.
//!
//! Floors 0 to 3 alone, so that `--no-default-features` builds them. Run by `scripts/bench detection`, which also
//! makes the long runs of the detectors' own tests: bytes a device, and how soon and how seldom they speak.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use smtpwatch::attribution::leases::LeaseBook;
use smtpwatch::detection::{Contact, Detectors};
use smtpwatch::engine::{Engine, Input};
use smtpwatch::model::{Clock, Group, Interface, Observation, RuleId, Timestamp, Tuple};
use smtpwatch::settings::Settings;

fn main() {
    divan::main();
}

const DEVICES: u32 = 300;

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
}

const TRAFFIC: [Traffic; 4] = [
    Traffic::Printers,
    Traffic::Clients,
    Traffic::Mixed,
    Traffic::Bots,
];

impl Traffic {
    /// The destination of the attempt with that number, of that device.
    fn destination(&self, number: u32, device: u32) -> u32 {
        let new = number.wrapping_mul(2_654_435_761) | 1 << 31;
        match self {
            Self::Bots => new,
            Self::Mixed if device.is_multiple_of(10) => new,
            Self::Mixed | Self::Clients => 0x4000_0000 | (device + number / DEVICES % 8) << 8,
            Self::Printers => 0x4000_0000 | device << 8,
        }
    }
}

/// An attempt of each device in turn, a millisecond apart.
fn attempt(traffic: &Traffic, number: u32) -> (usize, u32, Timestamp) {
    let device = number % DEVICES;
    let time = Timestamp::from_micros(i64::from(number) * 1_000);
    (device as usize, traffic.destination(number, device), time)
}

/// The detectors alone.
#[divan::bench(args = TRAFFIC)]
fn detectors(bencher: Bencher, traffic: &Traffic) {
    let settings = Settings::default();
    let mut devices = vec![Detectors::default(); DEVICES as usize];
    let mut findings = Vec::new();
    let mut number = 0;
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        number += 1;
        let (device, destination, time) = attempt(traffic, number);
        let contact = Contact {
            time,
            number: number.into(),
            groups: &[Group::of(destination.to_be_bytes().into())],
            is_smarthost: false,
            is_against_policy: false,
        };
        devices[device].observe(black_box(&contact), &settings, &mut findings);
    });
}

/// All that the engine does with an attempt.
#[divan::bench(args = TRAFFIC)]
fn engine(bencher: Bencher, traffic: &Traffic) {
    let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 7);
    let mut number = 0;
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        number += 1;
        let (device, destination, time) = attempt(traffic, number);
        let [.., high, low] = (device as u32).to_be_bytes();
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
        black_box(engine.handle(Input::Syn(observation), time).len())
    });
}
