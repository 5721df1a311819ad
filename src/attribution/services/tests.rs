//! What is merged, and above all what is not.

use super::*;

const DAY: i64 = 86_400;

fn book() -> Services {
    Services::new(FixedState::with_seed(7))
}

fn client(last: u8) -> DeviceKey {
    DeviceKey::Address([192, 168, 1, last].into())
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// The first address of the group with that number.
fn address(group: u16) -> IpAddr {
    let [high, low] = group.to_be_bytes();
    [10, high, low, 25].into()
}

fn group(number: u16) -> Group {
    Group::of(address(number))
}

fn answer(name: &str, groups: impl IntoIterator<Item = u16>) -> Answer {
    Answer::Addresses(Host {
        name: name.to_owned(),
        addresses: groups.into_iter().map(address).collect(),
    })
}

fn service(book: &Services, number: u16, now: i64) -> usize {
    let service = book.service_of(group(number), at(now));
    service.map_or(1, |groups| groups.len())
}

#[test]
fn groups_are_one_service_when_a_second_device_was_given_them() {
    let mut book = book();
    let pool = answer("smtp.provider.example", 0..5);
    for now in 0..3 {
        book.note(&pool, &client(1), at(now));
    }
    assert_eq!(service(&book, 0, 3), 1);
    assert_eq!(book.take_news(group(0), at(3)), None);
    book.note(&pool, &client(2), at(3));
    for number in 0..5 {
        assert_eq!(service(&book, number, 4), 5);
    }
    // Told once, whichever group is asked for, and again when it has changed.
    assert_eq!(book.take_news(group(3), at(4)).unwrap().len(), 5);
    assert_eq!(book.take_news(group(0), at(4)), None);
    for last in 1..3 {
        book.note(&answer("smtp.provider.example", [9]), &client(last), at(5));
    }
    assert_eq!(book.take_news(group(9), at(5)).unwrap().len(), 6);
    assert_eq!(book.count().groups, 6);
}

#[test]
fn a_group_that_only_one_device_was_given_stays_alone() {
    let mut book = book();
    for last in 1..3 {
        book.note(
            &answer("smtp.provider.example", [0, 1]),
            &client(last),
            at(0),
        );
    }
    // A resolver of the bot's own says so.
    book.note(&answer("smtp.provider.example", 2..100), &client(66), at(1));
    assert_eq!(service(&book, 0, 2), 2);
    for number in 2..100 {
        assert_eq!(service(&book, number, 2), 1);
    }
}

#[test]
fn reverse_dns_confirms_what_lies_in_the_names_domain() {
    let mut book = book();
    book.note(&answer("mx.mail.provider.example", 0..3), &client(1), at(0));
    assert!(book.wants_reverse(group(1)));
    book.note_reverse(address(0), "out-0.provider.example", at(1));
    book.note_reverse(address(1), "out-1.provider.example", at(1));
    book.note_reverse(address(2), "host-2.isp.example", at(1));
    assert!(!book.wants_reverse(group(1)));
    assert_eq!(service(&book, 0, 2), 2);
    assert_eq!(service(&book, 2, 2), 1);
    // It may have been known before.
    book.note_reverse(address(7), "out-7.provider.example", at(3));
    book.note(&answer("mx.mail.provider.example", [7]), &client(1), at(4));
    assert_eq!(service(&book, 7, 4), 3);
    // An answer that passed, and a name of another domain.
    let name = "mail.provider.example".to_owned();
    let passed = Answer::Name {
        address: address(2),
        name,
    };
    book.note(&passed, &client(1), at(5));
    assert_eq!(service(&book, 2, 5), 4);
}

#[test]
fn a_name_has_eight_groups_and_a_group_one_name() {
    let mut book = book();
    for last in 1..4 {
        book.note(&answer("bot.example", 0..30), &client(last), at(0));
        for zone in 0..50 {
            let groups = (zone..zone + 30).map(|it| it % 100);
            book.note(
                &answer(&format!("z{zone}.bot.example"), groups),
                &client(last),
                at(1),
            );
        }
    }
    let mut largest = 0;
    let mut total = 0;
    for number in 0..100 {
        let Some(groups) = book.service_of(group(number), at(2)) else {
            continue;
        };
        largest = largest.max(groups.len());
        total += 1;
        // All of one service say the same.
        for other in &groups {
            assert_eq!(book.service_of(*other, at(2)).as_ref(), Some(&groups));
        }
    }
    assert_eq!((largest, total > 20), (MAX_GROUPS, true), "{total}");
    let count = book.count();
    assert!(count.beyond > 0 && count.elsewhere > 0, "{count:?}");
}

#[test]
fn what_was_not_heard_of_for_a_week_is_no_longer_so() {
    let mut book = book();
    for last in 1..3 {
        book.note(&answer("a.example", [0, 1, 2]), &client(last), at(0));
    }
    book.note(&answer("a.example", [0, 1]), &client(1), at(6 * DAY));
    assert_eq!(service(&book, 0, 7 * DAY), 3);
    assert_eq!(service(&book, 0, 8 * DAY), 2);
    assert_eq!(service(&book, 2, 8 * DAY), 1);
    // Another name may have it then.
    for last in 1..3 {
        book.note(&answer("b.example", [2, 3]), &client(last), at(8 * DAY));
    }
    assert_eq!(service(&book, 2, 8 * DAY), 2);
    // And what one device was given is forgotten, too.
    book.note(&answer("c.example", [10, 11]), &client(1), at(8 * DAY));
    book.note(&answer("c.example", [10, 11]), &client(2), at(16 * DAY));
    assert_eq!(service(&book, 10, 16 * DAY), 1);
}

#[test]
fn a_flood_of_names_is_bounded_counted_and_forgets_no_service() {
    let mut book = book();
    for last in 1..3 {
        book.note(&answer("a.example", [0, 1]), &client(last), at(0));
    }
    for number in 0..60_000_u32 {
        let name = format!("{number}.flood.example");
        let groups = (0..20).map(|it| u16::try_from(100 + (number + it) % 60_000).unwrap());
        book.note(&answer(&name, groups), &client(66), at(1));
        let [_, _, high, low] = number.to_be_bytes();
        book.note_reverse([11, high, low, 1].into(), "x.y.example", at(1));
    }
    let count = book.count();
    assert_eq!(count.names, MAX_NAMES);
    assert_eq!(count.evicted, 60_001 - MAX_NAMES as u64);
    assert!(book.candidates.len() <= MAX_NAMES * MAX_CANDIDATES);
    assert!(book.reverse.len() <= MAX_REVERSE);
    assert_eq!(service(&book, 0, 2), 2);
}

#[test]
fn the_domain_of_a_name() {
    for (name, expected) in [
        ("a.b.example.com", Some("example.com")),
        ("example.com", Some("example.com")),
        ("mx.firm.co.uk", Some("firm.co.uk")),
        ("firm.co.uk", Some("firm.co.uk")),
        ("smtp.web.de", Some("smtp.web.de")),
        ("mx.provider.de", Some("provider.de")),
        ("co.uk", None),
        ("localhost", None),
        ("", None),
    ] {
        assert_eq!(domain(name), expected, "{name}");
    }
    for odd in [".", "..", "...", ".uk", "a..uk"] {
        assert!(domain(odd).is_none_or(|it| odd.ends_with(it)), "{odd}");
    }
}
