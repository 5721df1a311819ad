//! What is made of one record: who took it, what it read, whether it counts, and why not.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value};

use super::escape::terminal;
use crate::decode::dhcp_lease::{Lease, Leases, Record};
use crate::decode::flows::{self, Attempt};
use crate::decode::kernel_log::{Content, Decoded, Decoder, Packet};
use crate::decode::packet::{self, Segment};
use crate::decode::stamp::Stamp;
use crate::decode::syslog::Origin;
use crate::model::{Direction, Mac, Timestamp, Tuple};
use crate::settings::Settings;
use crate::source::Raw;

/// Explains records.
pub(crate) struct Explainer {
    /// Takes lines apart.
    pub(crate) decoder: Decoder,
    /// What counts.
    pub(crate) settings: Settings,
    /// Whether each explanation is a JSON object.
    pub(crate) as_json: bool,
}

/// Explains each lease of a lease file.
pub(crate) fn explain_leases(leases: &Leases, as_json: bool, to: &mut dyn Write) -> io::Result<()> {
    for (record, lease) in (1..).zip(&leases.records) {
        let (fields, because) = match lease {
            Record::Lease(lease) => (
                lease_fields(lease),
                "a lease: names a device, and is no attempt",
            ),
            Record::Removed(address) => (
                Map::from_iter([("address".to_owned(), address.to_string().into())]),
                "takes the lease of this address back",
            ),
        };
        let explanation = Explanation {
            record,
            ..Explanation::new("dhcp_lease", fields, Err(because.to_owned()))
        };
        explanation.print(as_json, to)?;
    }
    for (skip, count) in leases.skipped.iter() {
        let because = format!("passed over {count} times: {}", skip.reason());
        Explanation::refused("dhcp_lease", because).print(as_json, to)?;
    }
    Ok(())
}

/// An explanation, `smtpwatch.explain.v1`.
#[derive(Debug, Serialize)]
struct Explanation {
    schema: &'static str,
    /// Which record of the input, counted from 1.
    record: usize,
    /// Which decoder took it.
    decoder: &'static str,
    /// Who wrote it, as far as it says.
    origin: Option<String>,
    /// Its time as it stands there.
    stamp: Option<String>,
    /// The fields it read.
    fields: Map<String, Value>,
    /// Whether it counts as an attempt to send.
    counts: bool,
    /// Why, or why not.
    because: String,
}

impl Explainer {
    /// Explains `raw`, the `record`th of its input.
    pub(crate) fn explain(
        &self,
        record: usize,
        raw: &Raw<'_>,
        to: &mut dyn Write,
    ) -> io::Result<()> {
        let explanation = Explanation {
            record,
            ..match raw {
                Raw::Line(line) => self.decoded("kernel_log", &self.decoder.decode(line)),
                Raw::Entry(entry) => self.decoded("journal", &self.decoder.decode_entry(entry)),
                Raw::Frame(frame) => {
                    self.frame(frame.time, packet::decode(frame.link, frame.frame))
                }
                Raw::Flow(content, kind) => self.flow(kind, content),
                Raw::Broken(reason) => Explanation::refused("none", (*reason).to_owned()),
            }
        };
        explanation.print(self.as_json, to)
    }

    fn decoded(&self, decoder: &'static str, decoded: &Decoded<'_>) -> Explanation {
        let (fields, verdict) = match &decoded.content {
            Content::Packet(packet, repeats) => {
                let mut fields = packet_fields(packet);
                if *repeats > 0 {
                    fields.insert("repeated".to_owned(), (*repeats).into());
                }
                (fields, self.packet(packet))
            }
            Content::Repeated(times) => (
                Map::new(),
                Err(format!(
                    "repeats the line before {times} times: packets, and no attempt"
                )),
            ),
            Content::Lost(count) => (Map::new(), Err(format!("the logger lost {count} messages"))),
            Content::Skipped(skip) => (Map::new(), Err(skipped(skip.reason(), decoded.origin))),
        };
        Explanation {
            origin: Some(origin(decoded.origin)),
            stamp: stamp(&decoded.stamp),
            ..Explanation::new(decoder, fields, verdict)
        }
    }

    fn packet(&self, packet: &Packet<'_>) -> Result<String, String> {
        let Some((source, destination)) = packet.addresses() else {
            return Err("SRC or DST is no address".to_owned());
        };
        if !packet.is_syn() {
            return Err("asks for no new TCP connection: not a SYN without ACK".to_owned());
        }
        let Some(destination_port) = packet.destination_port() else {
            return Err("bears no destination port".to_owned());
        };
        self.attempt(&Tuple {
            source,
            destination,
            source_port: packet.source_port().unwrap_or(0),
            destination_port,
        })
    }

    fn attempt(&self, tuple: &Tuple) -> Result<String, String> {
        if !self.settings.ports.contains(tuple.destination_port) {
            return Err(format!("port {} is not watched", tuple.destination_port));
        }
        let (from, to) = (tuple.source, tuple.destination);
        match self.settings.direction(tuple) {
            Direction::Outbound => Ok(format!(
                "{from} in the LAN tries to send mail directly to {to}"
            )),
            Direction::Inbound => Err(format!("inbound: {to} is in the LAN; counted apart")),
            Direction::Internal => {
                Err("internal: both ends are in the LAN; counted apart".to_owned())
            }
            Direction::Gateway => Err(format!("{from} is the gateway itself; counted apart")),
            Direction::External => {
                Err("neither end is in the LAN; if one is, name it with --lan".to_owned())
            }
        }
    }

    fn frame(
        &self,
        time: Option<Timestamp>,
        decoded: Result<Segment, packet::Skip>,
    ) -> Explanation {
        let segment = match decoded {
            Ok(segment) => segment,
            Err(skip) => {
                return Explanation {
                    stamp: time.map(|time| time.to_string()),
                    ..Explanation::refused("packet", format!("no TCP segment: {}", skip.reason()))
                };
            }
        };
        let verdict = if segment.is_syn() {
            self.attempt(&segment.tuple)
        } else {
            Err("asks for no new TCP connection: not a SYN without ACK".to_owned())
        };
        Explanation {
            stamp: time.map(|time| time.to_string()),
            ..Explanation::new("packet", segment_fields(&segment), verdict)
        }
    }
}

impl Explainer {
    fn flow(&self, kind: &'static str, content: &flows::Content<'_>) -> Explanation {
        let because = match content {
            flows::Content::Attempt(attempt) => {
                return Explanation {
                    stamp: stamp(&attempt.stamp),
                    ..Explanation::new(kind, attempt_fields(attempt), self.attempt(&attempt.tuple))
                };
            }
            flows::Content::Other => "asks for no new TCP connection".to_owned(),
            flows::Content::Skipped(skip) => {
                format!("no record of a connection: {}", skip.reason())
            }
        };
        Explanation::refused(kind, because)
    }
}

/// Why a line is no record.
fn skipped(reason: &str, origin: Origin<'_>) -> String {
    match origin {
        Origin::Program(name) if reason == "other program" => format!(
            "another program's line ({}): only the kernel's own records count; --tag {} would admit it",
            lossy(name),
            lossy(name)
        ),
        Origin::NotKernel(name) if reason == "other program" => format!(
            "an entry of {}, and not the kernel's: its _TRANSPORT says so",
            lossy(name)
        ),
        _ => format!("no packet record: {reason}"),
    }
}

impl Explanation {
    fn new(
        decoder: &'static str,
        fields: Map<String, Value>,
        verdict: Result<String, String>,
    ) -> Self {
        let counts = verdict.is_ok();
        let (Ok(because) | Err(because)) = verdict;
        Self {
            schema: "smtpwatch.explain.v1",
            record: 0,
            decoder,
            origin: None,
            stamp: None,
            fields,
            counts,
            because,
        }
    }

    fn refused(decoder: &'static str, because: String) -> Self {
        Self::new(decoder, Map::new(), Err(because))
    }

    fn print(&self, as_json: bool, to: &mut dyn Write) -> io::Result<()> {
        if as_json {
            serde_json::to_writer(&mut *to, self)?;
            writeln!(to)
        } else {
            self.write(to)
        }
    }

    fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let verdict = if self.counts {
            "counts"
        } else {
            "does not count"
        };
        writeln!(
            to,
            "{}: {verdict}: {}",
            self.record,
            terminal(&self.because)
        )?;
        let mut facts = vec![format!("decoder {}", self.decoder)];
        facts.extend(
            self.origin
                .as_ref()
                .map(|origin| format!("written by {}", terminal(origin))),
        );
        facts.push(match &self.stamp {
            Some(stamp) => format!("time {stamp}"),
            None => "no time".to_owned(),
        });
        writeln!(to, "    {}", facts.join(", "))?;
        let fields: Vec<String> = self
            .fields
            .iter()
            .map(|(key, value)| format!("{key}={}", shown(value)))
            .collect();
        if !fields.is_empty() {
            writeln!(to, "    {}", fields.join(" "))?;
        }
        Ok(())
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => terminal(text),
        other => other.to_string(),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn origin(origin: Origin<'_>) -> String {
    match origin {
        Origin::Kernel => "the kernel".to_owned(),
        Origin::Untagged => "a logger that writes no tag: taken for the kernel's".to_owned(),
        Origin::Headerless => "a line without header: a console's, or anybody's".to_owned(),
        Origin::Program(name) | Origin::NotKernel(name) => format!("the program {}", lossy(name)),
    }
}

/// A stamp as far as it says: what it leaves out is told from its neighbours, which are not here.
fn stamp(stamp: &Stamp) -> Option<String> {
    match stamp {
        Stamp::None => None,
        Stamp::Unix(micros) => Some(Timestamp::from_micros(*micros).to_string()),
        Stamp::Uptime(micros) => Some(format!(
            "{}.{:06} s after boot",
            micros / 1_000_000,
            micros % 1_000_000
        )),
        Stamp::Civil(civil) => {
            let year = civil
                .year
                .map_or("????".to_owned(), |year| format!("{year:04}"));
            let second = civil.second_of_day;
            let mut text = format!(
                "{year}-{:02}-{:02} {:02}:{:02}:{:02}",
                civil.month,
                civil.day,
                second / 3600,
                second / 60 % 60,
                second % 60
            );
            if civil.micros > 0 {
                text += &format!(".{:06}", civil.micros);
            }
            text += &match civil.offset {
                Some(0) => " UTC".to_owned(),
                Some(offset) => format!(" {:+03}:{:02}", offset / 3600, offset.abs() / 60 % 60),
                None => " local".to_owned(),
            };
            Some(text)
        }
    }
}

fn lease_fields(lease: &Lease) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut insert = |key: &str, value: Option<String>| {
        fields.insert(key.to_owned(), value.map_or(Value::Null, Value::String));
    };
    insert("address", Some(lease.address.to_string()));
    insert("mac", lease.mac.map(|mac| mac.to_string()));
    insert("hostname", lease.hostname.clone());
    insert("starts", lease.starts.map(|time| time.to_string()));
    insert("ends", lease.ends.map(|time| time.to_string()));
    insert("state", Some(lease.state.to_string()));
    fields
}

fn packet_fields(packet: &Packet<'_>) -> Map<String, Value> {
    let texts = [
        ("prefix", packet.prefix),
        ("IN", packet.input),
        ("OUT", packet.output),
        ("SRC", packet.source),
        ("DST", packet.destination),
        ("PROTO", packet.protocol),
        ("SPT", packet.source_port),
        ("DPT", packet.destination_port),
        ("SEQ", packet.sequence),
        ("ID", packet.ip_id),
    ];
    let mut fields: Map<String, Value> = texts
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(key, text)| (key.to_owned(), lossy(text).into()))
        .collect();
    if let Some(mac) = packet.mac() {
        fields.insert("MAC".to_owned(), mac.to_string().into());
    }
    fields.insert("SYN".to_owned(), packet.syn.into());
    fields.insert("ACK".to_owned(), packet.ack.into());
    fields
}

fn segment_fields(segment: &Segment) -> Map<String, Value> {
    let mut fields = tuple_fields(&segment.tuple);
    let mut insert = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    insert("SEQ", segment.sequence.into());
    insert("SYN", segment.flags.syn().into());
    insert("ACK", segment.flags.ack().into());
    let id = segment.ip_id;
    link_fields(&mut fields, id, segment.mac, segment.vlan);
    fields
}

fn attempt_fields(attempt: &Attempt<'_>) -> Map<String, Value> {
    let mut fields = tuple_fields(&attempt.tuple);
    let mut insert = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(key.to_owned(), value);
        }
    };
    let text = |text: String| (!text.is_empty()).then_some(Value::String(text));
    insert("rule", text(attempt.rule.to_string()));
    insert("IN", text(attempt.interface.name()));
    insert("SEQ", attempt.isn.map(Value::from));
    insert("TTL", attempt.ttl.map(Value::from));
    insert(
        "response",
        attempt
            .response
            .and_then(|kind| serde_json::to_value(kind).ok()),
    );
    insert("bytes_out", attempt.bytes.map(|(out, _)| out.into()));
    insert("bytes_in", attempt.bytes.map(|(_, back)| back.into()));
    link_fields(&mut fields, attempt.ip_id, attempt.mac, attempt.vlan);
    fields
}

fn tuple_fields(tuple: &Tuple) -> Map<String, Value> {
    let fields: [(&str, Value); 4] = [
        ("SRC", tuple.source.to_string().into()),
        ("DST", tuple.destination.to_string().into()),
        ("SPT", tuple.source_port.into()),
        ("DPT", tuple.destination_port.into()),
    ];
    fields
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// What frames and IPv4 headers tell, where there were any.
fn link_fields(
    fields: &mut Map<String, Value>,
    ip_id: Option<u16>,
    mac: Option<Mac>,
    vlan: Option<u16>,
) {
    let mut insert = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(key.to_owned(), value);
        }
    };
    insert("ID", ip_id.map(Value::from));
    insert("MAC", mac.map(|mac| mac.to_string().into()));
    insert("VLAN", vlan.map(Value::from));
}
