//! What an answer of the DNS costs: found in its packet and read; and noted in a book that is full.
//!
//! Floors 0 to 3 alone, so that `--no-default-features` builds them. Each call is one answer. Run by
//! `scripts/bench dns`.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use divan::{Bencher, black_box};
use foldhash::quality::FixedState;
use smtpwatch::attribution::services::Services;
use smtpwatch::decode::dns::{self, Answer, Host};
use smtpwatch::model::{DeviceKey, Timestamp};

fn main() {
    divan::main();
}

/// The name `name` in a message.
fn encoded(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| {
        let length = label.len() as u8;
        std::iter::once(length).chain(label.bytes())
    });
    labels.chain([0]).collect()
}

/// An IPv4 packet with an answer: an alias, and that many addresses behind it.
fn packet(addresses: u8) -> Vec<u8> {
    let alias = encoded("edge-7.cdn.example.net");
    let mut message = vec![0, 7, 0x81, 0x80, 0, 1, 0, addresses + 1, 0, 0, 0, 0];
    message.extend(encoded("www.example.com"));
    message.extend([0, 1, 0, 1]);
    message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 1, 0, 0, alias.len() as u8]);
    let at = message.len() as u8;
    message.extend(alias);
    for number in 0..addresses {
        message.extend([0xc0, at, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4, 198, 18, number, 1]);
    }
    let total = (28 + message.len() as u16).to_be_bytes();
    let mut packet = vec![0x45, 0, total[0], total[1], 0, 1, 0x40, 0, 64, 17, 0, 0];
    packet.extend([9, 9, 9, 9, 192, 168, 1, 10, 0, 53, 0x9c, 0x40, 0, 0, 0, 0]);
    packet.extend(message);
    packet
}

#[divan::bench(args = [1, 4, 8])]
fn found_and_read(bencher: Bencher<'_, '_>, addresses: u8) {
    let packet = packet(addresses);
    let Ok(Answer::Addresses(host)) = dns::read(dns::carried(&packet).unwrap().message) else {
        panic!("not an answer");
    };
    assert_eq!(host.addresses.len(), usize::from(addresses));
    bencher.bench(|| dns::read(dns::carried(black_box(&packet)).unwrap().message));
}

/// Names that take turns: some that the book knows, some that make another go.
#[divan::bench(args = [1_000, 100_000])]
fn noted(bencher: Bencher<'_, '_>, names: u32) {
    let answers: Vec<Answer> = (0..names)
        .map(|number| {
            let [a, b, c, d] = number.to_be_bytes();
            Answer::Addresses(Host {
                name: format!("host-{number}.zone-{}.example", number % 997),
                addresses: vec![[198, b, c, d].into(), [203, b ^ a, c, d].into()],
            })
        })
        .collect();
    let mut book = Services::new(FixedState::with_seed(7));
    let now = Timestamp::from_seconds(1_774_746_000);
    let clients: Vec<DeviceKey> = (0..250)
        .map(|last| DeviceKey::Address([192, 168, 1, last].into()))
        .collect();
    for answer in &answers {
        book.note(answer, &clients[0], now);
    }
    let mut turn = 0;
    bencher.bench_local(|| {
        turn += 1;
        let answer = &answers[turn % answers.len()];
        book.note(black_box(answer), &clients[turn % clients.len()], now);
    });
}
