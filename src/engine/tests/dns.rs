//! What answers of the DNS add: questions for mail servers, and groups that are one service.

use super::*;

fn lookup(seconds: i64, client: &str) -> Input {
    Input::MailLookup {
        time: Timestamp::from_seconds(seconds),
        client: client.parse().unwrap(),
    }
}

fn handle(engine: &mut Engine, input: Input) {
    engine.handle(input, Timestamp::from_seconds(0));
}

fn lookups(engine: &Engine) -> Vec<(String, u64)> {
    let devices = engine.devices();
    devices
        .map(|(_, device)| (device.key.to_string(), device.mail_lookups))
        .collect()
}

#[test]
fn questions_for_mail_servers_are_counted_by_device_before_and_after_it_is_seen() {
    let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 7);
    for seconds in 0..20 {
        handle(&mut engine, lookup(seconds, PC));
    }
    handle(&mut engine, lookup(5, "192.168.1.99"));
    // Outside, and the gateway's own.
    handle(&mut engine, lookup(5, "203.0.113.7"));
    assert_eq!(lookups(&engine), []);
    handle(&mut engine, Input::Syn(syn(30, PC, 4000, MX)));
    handle(&mut engine, lookup(31, PC));
    assert_eq!(lookups(&engine), [(PC.to_owned(), 17)]);
    let totals = engine.totals();
    assert_eq!((totals.mail_lookups, totals.evicted_lookups), (22, 4));
    let (_, device) = engine.devices().next().unwrap();
    let sentence = because(device);
    assert!(
        sentence.ends_with("; asked 17 times for mail servers"),
        "{sentence}"
    );
}

#[test]
fn groups_of_one_service_are_handed_to_the_detectors_together() {
    let told = |count: u8| {
        let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 7);
        let groups = (0..count).map(|i| Group::of([203, 0, i, 9].into()));
        handle(&mut engine, Input::OneService(groups.collect()));
        engine
    };
    let engine = told(5);
    for i in 0..5 {
        let group = Group::of([203, 0, i, 9].into());
        let groups = engine.services.of(group);
        assert_eq!(groups.as_slice().len(), 5);
        assert_eq!(groups.as_slice()[0], group);
    }
    // A hundred servers under one name are never more than eight.
    let engine = told(100);
    for i in 0..100 {
        let groups = engine.services.of(Group::of([203, 0, i, 9].into()));
        assert_eq!(groups.as_slice().len(), if i < 8 { 8 } else { 1 });
    }
    assert_eq!(engine.totals().unmerged_groups, 92);
}

#[test]
fn what_was_told_comes_back_from_a_recording() {
    for input in [
        lookup(7, PC),
        Input::OneService(vec![Group::of(MX.parse().unwrap())]),
    ] {
        let text = serde_json::to_string(&input).unwrap();
        assert_eq!(serde_json::from_str::<Input>(&text).unwrap(), input);
    }
}
