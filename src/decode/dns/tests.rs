//! Messages as resolvers send them, and as nobody should.

use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, PTR, TXT};
use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn record(owner: &str, data: RData) -> Record {
    Record::from_rdata(name(owner), 300, data)
}

fn a(owner: &str, address: [u8; 4]) -> Record {
    record(owner, RData::A(A::from(std::net::Ipv4Addr::from(address))))
}

fn alias(owner: &str, to: &str) -> Record {
    record(owner, RData::CNAME(CNAME(name(to))))
}

fn mx(owner: &str, exchange: &str) -> Record {
    record(owner, RData::MX(MX::new(10, name(exchange))))
}

fn answer(asked: &str, kind: RecordType, answers: Vec<Record>, along: Vec<Record>) -> Message {
    let mut message = Message::response(7, OpCode::Query);
    message.add_query(Query::query(name(asked), kind));
    message.add_answers(answers);
    message.add_additionals(along);
    message
}

fn said(message: &Message) -> Result<Answer, Unread> {
    read(&message.to_vec().unwrap())
}

fn host(name: &str, addresses: &[&str]) -> Host {
    Host {
        name: name.to_owned(),
        addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
    }
}

#[test]
fn addresses_are_those_of_the_name_that_was_asked_for() {
    let message = answer(
        "SMTP.Example.com.",
        RecordType::A,
        vec![
            alias("smtp.example.com.", "pool.example.net."),
            alias("POOL.example.net.", "pool-1.example.net."),
            a("pool-1.example.net.", [192, 0, 2, 1]),
            a("pool-1.example.net.", [198, 51, 100, 1]),
            a("pool-1.example.net.", [192, 0, 2, 1]),
            // Nobody asked for it.
            a("elsewhere.example.", [203, 0, 113, 1]),
            record(
                "pool-1.example.net.",
                RData::TXT(TXT::new(vec!["x".to_owned()])),
            ),
        ],
        Vec::new(),
    );
    let expected = host("smtp.example.com", &["192.0.2.1", "198.51.100.1"]);
    assert_eq!(said(&message), Ok(Answer::Addresses(expected)));
    let message = answer(
        "v6.example.",
        RecordType::AAAA,
        vec![record(
            "v6.example.",
            RData::AAAA(AAAA::from(
                "2001:db8::5".parse::<std::net::Ipv6Addr>().unwrap(),
            )),
        )],
        Vec::new(),
    );
    let expected = host("v6.example", &["2001:db8::5"]);
    assert_eq!(said(&message), Ok(Answer::Addresses(expected)));
}

#[test]
fn aliases_that_lead_in_a_circle_or_on_and_on_end() {
    let mut chain = vec![alias("a.", "b."), alias("b.", "a.")];
    chain.push(a("b.", [192, 0, 2, 1]));
    let message = answer("a.", RecordType::A, chain, Vec::new());
    assert_eq!(
        said(&message),
        Ok(Answer::Addresses(host("a", &["192.0.2.1"])))
    );
    let mut chain: Vec<Record> = (0..20)
        .map(|i| alias(&format!("n{i}."), &format!("n{}.", i + 1)))
        .collect();
    chain.push(a("n8.", [192, 0, 2, 8]));
    chain.push(a("n9.", [192, 0, 2, 9]));
    let message = answer("n0.", RecordType::A, chain, Vec::new());
    assert_eq!(
        said(&message),
        Ok(Answer::Addresses(host("n0", &["192.0.2.8"])))
    );
}

#[test]
fn exchanges_come_with_what_is_known_of_them() {
    let mut message = answer(
        "example.com.",
        RecordType::MX,
        vec![
            mx("example.com.", "mx1.example.net."),
            mx("example.com.", "MX2.example.net."),
            mx("other.example.", "mx3.example.net."),
        ],
        vec![
            a("mx2.example.net.", [192, 0, 2, 25]),
            a("mx9.example.", [192, 0, 2, 9]),
        ],
    );
    message.add_authority(a("ns.example.com.", [192, 0, 2, 53]));
    let expected = vec![
        host("mx1.example.net", &[]),
        host("mx2.example.net", &["192.0.2.25"]),
    ];
    assert_eq!(said(&message), Ok(Answer::Exchanges(expected)));
    // A domain that takes no mail, and one that does not exist: somebody asked all the same.
    let message = answer(
        "n.example.",
        RecordType::MX,
        vec![mx("n.example.", ".")],
        Vec::new(),
    );
    assert_eq!(said(&message), Ok(Answer::Exchanges(Vec::new())));
    let mut message = answer("x.example.", RecordType::MX, Vec::new(), Vec::new());
    message.metadata.response_code = ResponseCode::NXDomain;
    assert_eq!(said(&message), Ok(Answer::Exchanges(Vec::new())));
}

#[test]
fn an_address_has_the_name_that_its_pointer_says() {
    let pointer = |owner: &str| record(owner, RData::PTR(PTR(name("Mail.Example.com."))));
    let asked = "25.2.0.192.in-addr.arpa.";
    let message = answer(asked, RecordType::PTR, vec![pointer(asked)], Vec::new());
    let expected = Answer::Name {
        address: "192.0.2.25".parse().unwrap(),
        name: "mail.example.com".to_owned(),
    };
    assert_eq!(said(&message), Ok(expected));
    for (asked, answers) in [
        (asked, Vec::new()),
        (
            "2.0.192.in-addr.arpa.",
            vec![pointer("2.0.192.in-addr.arpa.")],
        ),
        ("mail.example.", vec![pointer("mail.example.")]),
    ] {
        let message = answer(asked, RecordType::PTR, answers, Vec::new());
        assert_eq!(said(&message), Err(Unread::Other), "{asked}");
    }
}

#[test]
fn what_is_no_plain_answer_says_nothing() {
    let plain = answer(
        "a.",
        RecordType::A,
        vec![a("a.", [192, 0, 2, 1])],
        Vec::new(),
    );
    assert!(said(&plain).is_ok());
    let changed = |change: fn(&mut Message)| {
        let mut message = plain.clone();
        change(&mut message);
        said(&message)
    };
    let question = changed(|it| it.metadata.message_type = MessageType::Query);
    assert_eq!(question, Err(Unread::Other));
    let refused = changed(|it| it.metadata.response_code = ResponseCode::ServFail);
    assert_eq!(refused, Err(Unread::Other));
    let shortened = changed(|it| it.metadata.truncation = true);
    assert_eq!(shortened, Err(Unread::Shortened));
    let two = changed(|it| {
        it.add_query(Query::query(Name::root(), RecordType::MX));
    });
    assert_eq!(two, Err(Unread::Other));
    let another = changed(|it| {
        it.queries[0].query_type = RecordType::TXT;
    });
    assert_eq!(another, Err(Unread::Other));
    assert_eq!(read(&[0; 11]), Err(Unread::Broken));
}

#[test]
fn of_a_message_that_was_cut_what_came_before_counts() {
    let answers = (1..30).map(|i| a("a.example.", [192, 0, i, 1])).collect();
    let whole = answer("a.example.", RecordType::A, answers, Vec::new());
    let bytes = whole.to_vec().unwrap();
    let Ok(Answer::Addresses(host)) = read(&bytes[..bytes.len() - 20]) else {
        panic!("not read");
    };
    assert_eq!(host.addresses.len(), 27);
}

/// An IPv4 packet to 192.168.1.10.
fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![
        0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 9, 9, 9, 9, 192, 168, 1, 10,
    ];
    packet.extend(payload);
    let length = u16::try_from(packet.len()).unwrap();
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet
}

fn udp(message: &[u8]) -> Vec<u8> {
    [&[0, 53, 0x9c, 0x40, 0, 0, 0, 0], message].concat()
}

fn tcp(message: &[u8], told: usize) -> Vec<u8> {
    let mut segment = vec![
        0, 53, 0x9c, 0x40, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0, 0, 0, 0, 0, 0,
    ];
    segment.extend(u16::try_from(told).unwrap().to_be_bytes());
    segment.extend(message);
    segment
}

#[test]
fn a_message_is_found_in_its_packet() {
    let client: IpAddr = "192.168.1.10".parse().unwrap();
    let found = |packet: &[u8]| carried(packet).map(|it| (it.client, it.message.to_vec()));
    let expected = Some((client, b"message".to_vec()));
    assert_eq!(found(&v4(UDP, &udp(b"message"))), expected);
    assert_eq!(found(&v4(TCP, &tcp(b"message", 7))), expected);
    // The link layer's padding.
    let mut padded = v4(UDP, &udp(b"message"));
    padded.extend([0; 9]);
    assert_eq!(found(&padded), expected);
    // Captured in part: the header says how long it was.
    let cut = v4(TCP, &tcp(b"message", 7));
    assert_eq!(
        found(&cut[..cut.len() - 3]),
        Some((client, b"mess".to_vec()))
    );
    // A part of a longer one, and more than one.
    assert_eq!(found(&v4(TCP, &tcp(b"message", 900))), None);
    assert_eq!(found(&v4(TCP, &tcp(b"message", 3))), None);
    assert_eq!(found(&v4(1, &udp(b"message"))), None);
    let mut other_port = v4(UDP, &udp(b"message"));
    other_port[21] = 54;
    assert_eq!(found(&other_port), None);
    let mut fragment = v4(UDP, &udp(b"message"));
    fragment[6] = 0x20;
    assert_eq!(found(&fragment), None);

    let mut v6 = vec![0x60, 0, 0, 0, 0, 15, UDP, 64];
    v6.extend([0x20; 16]);
    let address: std::net::Ipv6Addr = "2001:db8::10".parse().unwrap();
    v6.extend(address.octets());
    v6.extend(udp(b"message"));
    assert_eq!(found(&v6), Some((address.into(), b"message".to_vec())));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        let _ = read(&bytes);
        let _ = carried(&bytes);
    }

    #[test]
    fn no_damaged_answer_panics(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = answer(
            "example.com.",
            RecordType::MX,
            vec![mx("example.com.", "mx.example.com."), alias("a.example.com.", "example.com.")],
            vec![a("mx.example.com.", [192, 0, 2, 25])],
        ).to_vec().unwrap();
        for (at, octet) in damage {
            let at = at.index(bytes.len());
            bytes[at] = octet;
        }
        if let Ok(Answer::Exchanges(hosts)) = read(&bytes[..=end.index(bytes.len())]) {
            prop_assert!(hosts.len() <= MAX_TAKEN);
        }
    }
}
