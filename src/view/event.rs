//! Events of a live run, one JSON object a line (`smtpwatch.event.v1`), with the names of Suricata's EVE
//! where the meaning is the same. A replay of the run's inputs prints the same bytes.

use std::io::{self, Write};
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use sha1::{Digest, Sha1};

use super::{Report, told};
use crate::engine::{Device, Effect, Engine, because_of};
use crate::model::{DeviceId, Finding, Notice, Observation, Timestamp, Tuple};
use crate::settings::flags::watch::EventKind;

/// The schema's name.
const SCHEMA: &str = "smtpwatch.event.v1";
/// TCP in the IP header (RFC 9293).
const TCP: u8 = 6;

/// An event; what does not belong to its kind is left out.
#[derive(Debug, Default, Serialize)]
struct Event<'a> {
    schema: &'static str,
    timestamp: String,
    #[serde(rename = "event_type")]
    kind: &'static str,
    #[serde(flatten)]
    flow: Option<Flow>,
    #[serde(flatten)]
    packet: Option<Packet>,
    #[serde(flatten)]
    device: Option<EventDevice>,
    #[serde(flatten)]
    outcome: Option<EventOutcome>,
    #[serde(flatten)]
    finding: Option<EventFinding>,
    #[serde(flatten)]
    spoof: Option<EventSpoof>,
    #[serde(flatten)]
    loss: Option<Loss>,
    #[serde(flatten)]
    health: Option<&'a Notice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<&'a Report>,
}

/// Between whom, and where to.
#[derive(Debug, Serialize)]
struct Flow {
    src_ip: IpAddr,
    src_port: u16,
    dest_ip: IpAddr,
    dest_port: u16,
    proto: &'static str,
    community_id: String,
    direction: String,
}

#[derive(Debug, Serialize)]
struct Packet {
    #[serde(skip_serializing_if = "String::is_empty")]
    in_iface: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    vlan: Option<[u16; 1]>,
    src_mac: Option<String>,
}

#[derive(Debug, Serialize)]
struct EventDevice {
    device: String,
    hostname: Option<String>,
    verdict: String,
}

/// How an attempt ended.
#[derive(Debug, Serialize)]
struct EventOutcome {
    outcome: String,
    before: String,
    /// When the attempt was opened.
    opened: String,
    #[serde(flatten)]
    outside: Option<Outside>,
    #[serde(flatten)]
    bytes: Option<FlowBytes>,
}

/// The connection as it is seen outside.
#[derive(Debug, Serialize)]
struct Outside {
    #[serde(rename = "nat_src_ip")]
    source: IpAddr,
    #[serde(rename = "nat_src_port")]
    source_port: u16,
    #[serde(rename = "nat_dest_ip")]
    destination: IpAddr,
    #[serde(rename = "nat_dest_port")]
    destination_port: u16,
}

/// Of the whole connection, headers included.
#[derive(Debug, Serialize)]
struct FlowBytes {
    bytes_toserver: u64,
    bytes_toclient: u64,
}

#[derive(Debug, Serialize)]
struct EventFinding {
    src_ip: Option<IpAddr>,
    src_mac: Option<String>,
    detector: String,
    score: f64,
    threshold: f64,
    at_attempt: u64,
    because: String,
}

/// Why a source is not believed.
#[derive(Debug, Serialize)]
struct EventSpoof {
    reason: String,
    /// Whether it is the first of its station and reason.
    is_first: bool,
}

#[derive(Debug, Serialize)]
struct Loss {
    source: String,
    kind: String,
    events: u64,
}

/// The kind of event that tells of `effect`; none where it is no news: an answer that changes nothing
/// of what is known about an attempt's end, and is not the connection's own.
pub(crate) fn kind(effect: &Effect) -> Option<EventKind> {
    Some(match effect {
        Effect::Attempt { .. } => EventKind::Attempt,
        Effect::Spoofed { .. } => EventKind::Spoofed,
        Effect::Responded {
            before,
            after,
            response,
            ..
        } => {
            let has_bytes = response.is_some_and(|response| response.bytes.is_some());
            return (before != after || has_bytes).then_some(EventKind::Outcome);
        }
        Effect::Found { .. } => EventKind::Finding,
        Effect::Shared { .. } => EventKind::Shared,
        Effect::Lost { .. } => EventKind::Loss,
        Effect::Health(_) => EventKind::Health,
    })
}

/// Writes what followed from an input at `now`, a line for each effect.
pub(crate) fn write(
    effect: &Effect,
    engine: &Engine,
    now: Timestamp,
    to: &mut dyn Write,
) -> io::Result<()> {
    line(&event(effect, engine, now), to)
}

/// Writes the report that a run ends with, in a line of its own.
pub(crate) fn write_report(report: &Report, now: Timestamp, to: &mut dyn Write) -> io::Result<()> {
    let event = Event {
        report: Some(report),
        ..Event::of("report", now)
    };
    line(&event, to)
}

fn line(event: &Event<'_>, to: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *to, event)?;
    to.write_all(b"\n")
}

fn event<'a>(effect: &'a Effect, engine: &Engine, now: Timestamp) -> Event<'a> {
    let now = engine.wall(now);
    match effect {
        Effect::Attempt {
            device,
            direction,
            observation,
        } => Event {
            flow: Some(Flow::new(&observation.tuple, direction.to_string())),
            packet: Some(Packet::new(observation)),
            device: EventDevice::new(*device, engine),
            ..Event::of("attempt", now)
        },
        Effect::Responded {
            device,
            direction,
            opened,
            before,
            after,
            tuple,
            response,
            ..
        } => Event {
            flow: Some(Flow::new(tuple, direction.to_string())),
            device: EventDevice::new(*device, engine),
            outcome: Some(EventOutcome {
                outcome: after.to_string(),
                before: before.to_string(),
                opened: engine.wall(*opened).to_string(),
                outside: response
                    .and_then(|it| it.outside)
                    .map(|it| Outside::new(&it)),
                bytes: response.and_then(|it| it.bytes).map(FlowBytes::new),
            }),
            ..Event::of("outcome", now)
        },
        Effect::Found { device, finding } => Event {
            device: EventDevice::new(Some(*device), engine),
            finding: engine
                .device(*device)
                .map(|device| EventFinding::new(device, finding)),
            ..Event::of("finding", now)
        },
        Effect::Spoofed {
            observation,
            reason,
            is_first,
        } => Event {
            flow: Some(Flow::new(&observation.tuple, "spoofed".to_owned())),
            packet: Some(Packet::new(observation)),
            spoof: Some(EventSpoof {
                reason: reason.to_string(),
                is_first: *is_first,
            }),
            ..Event::of("spoofed", now)
        },
        Effect::Shared { device } => Event {
            device: EventDevice::new(Some(*device), engine),
            message: told(effect, engine).map(|(text, _)| text),
            ..Event::of("shared", now)
        },
        Effect::Lost {
            source,
            kind,
            events,
        } => Event {
            loss: Some(Loss {
                source: source.to_string(),
                kind: kind.to_string(),
                events: *events,
            }),
            ..Event::of("loss", now)
        },
        Effect::Health(notice) => Event {
            health: Some(notice),
            message: told(effect, engine).map(|(text, _)| text),
            ..Event::of("health", now)
        },
    }
}

impl Event<'_> {
    fn of(kind: &'static str, time: Timestamp) -> Self {
        Self {
            schema: SCHEMA,
            timestamp: time.to_string(),
            kind,
            ..Self::default()
        }
    }
}

impl Flow {
    fn new(tuple: &Tuple, direction: String) -> Self {
        Self {
            src_ip: tuple.source,
            src_port: tuple.source_port,
            dest_ip: tuple.destination,
            dest_port: tuple.destination_port,
            proto: "TCP",
            community_id: community_id(tuple),
            direction,
        }
    }
}

impl Packet {
    fn new(observation: &Observation) -> Self {
        Self {
            in_iface: observation.interface.name(),
            vlan: observation.vlan.map(|id| [id]),
            src_mac: observation.mac.map(|mac| mac.to_string()),
        }
    }
}

impl Outside {
    fn new(tuple: &Tuple) -> Self {
        Self {
            source: tuple.source,
            source_port: tuple.source_port,
            destination: tuple.destination,
            destination_port: tuple.destination_port,
        }
    }
}

impl FlowBytes {
    fn new((bytes_toserver, bytes_toclient): (u64, u64)) -> Self {
        Self {
            bytes_toserver,
            bytes_toclient,
        }
    }
}

impl EventDevice {
    fn new(id: Option<DeviceId>, engine: &Engine) -> Option<Self> {
        let device = engine.device(id?)?;
        Some(Self {
            device: device.key.to_string(),
            hostname: device.hostname.clone(),
            verdict: device.verdict().to_string(),
        })
    }
}

impl EventFinding {
    fn new(device: &Device, finding: &Finding) -> Self {
        Self {
            src_ip: device.addresses.last().copied(),
            src_mac: device.mac().map(|mac| mac.to_string()),
            detector: finding.detector.to_string(),
            score: finding.score,
            threshold: finding.threshold,
            at_attempt: finding.at_attempt,
            because: because_of(device, finding),
        }
    }
}

/// The flow's Community ID, version 1, seed 0: the same in Suricata, Zeek and others.
fn community_id(tuple: &Tuple) -> String {
    let here = (octets(tuple.source), tuple.source_port);
    let there = (octets(tuple.destination), tuple.destination_port);
    let (first, second) = if here < there {
        (here, there)
    } else {
        (there, here)
    };
    let mut hash = Sha1::new();
    hash.update([0, 0]);
    hash.update(&first.0);
    hash.update(&second.0);
    hash.update([TCP, 0]);
    hash.update(first.1.to_be_bytes());
    hash.update(second.1.to_be_bytes());
    format!("1:{}", BASE64_STANDARD.encode(hash.finalize()))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::attribution::leases::LeaseBook;
    use crate::engine::Input;
    use crate::model::{
        Clock, Interface, LossKind, Mac, Process, Response, ResponseKind, RuleId, SourceName,
    };
    use crate::settings::Settings;

    /// The vectors that the specification's own implementation prints for TCP.
    #[test]
    fn community_ids_are_those_of_the_specification() {
        let tuple = |source: &str, source_port, destination: &str, destination_port| Tuple {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            source_port,
            destination_port,
        };
        let id = "1:LQU9qZlK+B5F3KDmev6m5PMibrg=";
        assert_eq!(
            community_id(&tuple("128.232.110.120", 34_855, "66.35.250.204", 80)),
            id
        );
        assert_eq!(
            community_id(&tuple("66.35.250.204", 80, "128.232.110.120", 34_855)),
            id
        );
    }

    fn events(inputs: impl IntoIterator<Item = Input>) -> Vec<serde_json::Value> {
        let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 7);
        let mut written = Vec::new();
        for input in inputs {
            let now = Timestamp::from_seconds(1_700_000_000);
            engine.handle(input, now);
            for effect in engine.effects() {
                write(effect, &engine, now, &mut written).unwrap();
            }
        }
        let lines = String::from_utf8(written).unwrap();
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn syn(destination: u8) -> Input {
        Input::Syn(Observation {
            time: Timestamp::from_seconds(1_700_000_000),
            clock: Clock::Exact,
            rule: RuleId(1),
            tuple: Tuple {
                source: [192, 168, 1, 23].into(),
                destination: [203, 0, destination, 9].into(),
                source_port: 40_000,
                destination_port: 25,
            },
            isn: Some(7),
            ip_id: None,
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            interface: Interface::new(b"lan0\"\n"),
            ttl: Some(64),
            vlan: Some(7),
            repeats: 0,
        })
    }

    #[test]
    fn an_attempt_bears_the_names_of_eve() {
        assert_eq!(
            events([syn(0)]),
            [json!({
                "schema": "smtpwatch.event.v1",
                "timestamp": "2023-11-14T22:13:20Z",
                "event_type": "attempt",
                "src_ip": "192.168.1.23", "src_port": 40_000,
                "dest_ip": "203.0.0.9", "dest_port": 25, "proto": "TCP",
                "in_iface": "lan0\"\n", "vlan": [7],
                "community_id": "1:v/mp0G/32kLZMZgwsRD9QFL+Hmw=",
                "src_mac": "02:00:00:00:00:01",
                "direction": "outbound",
                "device": "192.168.1.23", "hostname": null, "verdict": "normal",
            })]
        );
    }

    #[test]
    fn a_finding_names_the_device_and_says_why() {
        let events = events((0..10).map(syn));
        let finding = events.last().unwrap();
        let because = finding["because"].as_str().unwrap();
        assert!(
            because.starts_with("192.168.1.23 (02:00:00:00:00:01) contacted"),
            "{because}"
        );
        for (name, value) in [
            ("event_type", json!("finding")),
            ("device", json!("192.168.1.23")),
            ("verdict", json!("infected")),
            ("detector", json!("burst")),
            ("score", json!(10.0)),
            ("threshold", json!(10.0)),
            ("at_attempt", json!(10)),
        ] {
            assert_eq!(finding[name], value, "{name}");
        }
    }

    fn told(kind: ResponseKind, bytes: Option<(u64, u64)>) -> Input {
        let Input::Syn(observation) = syn(0) else {
            unreachable!("a SYN was made");
        };
        let outside = Tuple {
            source: [198, 51, 100, 1].into(),
            source_port: 1024,
            ..observation.tuple
        };
        Input::Response(Response {
            time: observation.time,
            tuple: observation.tuple,
            isn: None,
            kind,
            outside: Some(outside),
            bytes,
        })
    }

    #[test]
    fn an_outcome_is_a_flow_of_eve_with_its_address_outside() {
        let answered = told(ResponseKind::Accepted, Some((812, 1300)));
        assert_eq!(
            events([syn(0), answered])[1],
            json!({
                "schema": "smtpwatch.event.v1",
                "timestamp": "2023-11-14T22:13:20Z",
                "event_type": "outcome",
                "src_ip": "192.168.1.23", "src_port": 40_000,
                "dest_ip": "203.0.0.9", "dest_port": 25, "proto": "TCP",
                "community_id": "1:v/mp0G/32kLZMZgwsRD9QFL+Hmw=",
                "direction": "outbound",
                "device": "192.168.1.23", "hostname": null, "verdict": "normal",
                "outcome": "answered", "before": "unknown",
                "opened": "2023-11-14T22:13:20Z",
                "nat_src_ip": "198.51.100.1", "nat_src_port": 1024,
                "nat_dest_ip": "203.0.0.9", "nat_dest_port": 25,
                "bytes_toserver": 812, "bytes_toclient": 1300,
            })
        );
    }

    #[test]
    fn an_answer_that_changes_nothing_is_no_event() {
        let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 7);
        let mut kinds = |input| -> Vec<Option<EventKind>> {
            let effects = engine.handle(input, Timestamp::from_seconds(1_700_000_000));
            effects.iter().map(kind).collect()
        };
        assert_eq!(kinds(syn(0)), [Some(EventKind::Attempt)]);
        assert_eq!(kinds(told(ResponseKind::Tracked, None)), [None]);
        let accepted = kinds(told(ResponseKind::Accepted, None));
        assert_eq!(accepted, [Some(EventKind::Outcome)]);
        assert_eq!(kinds(told(ResponseKind::Established, None)), [None]);
        let closed = kinds(told(ResponseKind::Closed, Some((1, 2))));
        assert_eq!(closed, [Some(EventKind::Outcome)]);
    }

    #[test]
    fn losses_and_news_are_events() {
        let source = SourceName::Capture(Interface::new(b"eth1"));
        let events = events([
            Input::Lost {
                source,
                kind: LossKind::QueueFull,
                events: 3,
            },
            Input::Notice(Notice::RulesGone {
                by: Some(Process {
                    pid: 7,
                    name: "nft\u{1b}".to_owned(),
                }),
            }),
        ]);
        assert_eq!(events[0]["event_type"], "loss");
        assert_eq!(events[0]["source"], "capture:eth1");
        assert_eq!(events[0]["kind"], "queue full");
        assert_eq!(events[0]["events"], 3);
        assert_eq!(events[1]["event_type"], "health");
        assert_eq!(events[1]["notice"], "rules_gone");
        assert_eq!(events[1]["by"]["pid"], 7);
    }
}
