//! ulogd2's JSON output for packets (`ulogd_output_JSON.c`, behind the stack NFLOG, BASE, IFINDEX,
//! IP2STR and HWHDR): an object a line, its names those of ulogd2's keys.
//!
//! `oob.time.sec` and `oob.time.usec` are the packet's time; where the kernel gave none there is only
//! `timestamp`, local time without an offset before ulogd2 2.0.9. Records of connection tracking
//! (the input NFCT) are told and passed over: they do not say whether a SYN was seen.

use std::borrow::Cow;

use super::{Attempt, Decoded, Ends, Scalar, Skip, json, keep};
use crate::decode::stamp::Stamp;
use crate::model::{Interface, Mac};

/// IP protocol number.
const TCP: u8 = 6;

/// The fields of a record that count here.
#[derive(Default)]
struct Packet<'a> {
    is_ulogd: bool,
    is_tracking: bool,
    timestamp: Option<Stamp>,
    seconds: Option<u32>,
    micros: Option<u32>,
    ends: Ends,
    protocol: Option<u8>,
    syn: Option<bool>,
    ack: Option<bool>,
    isn: Option<u32>,
    ip_id: Option<u16>,
    ttl: Option<u8>,
    prefix: Option<Cow<'a, str>>,
    input: Option<Cow<'a, str>>,
    output: Option<Cow<'a, str>>,
    mac: Option<Mac>,
    header: Option<Cow<'a, str>>,
}

pub(super) fn decode(line: &[u8]) -> Decoded<'_> {
    let mut packet = Packet::default();
    if !json::walk(line, &mut |outer, key, value| {
        if outer.is_empty() {
            packet.take(key, value);
        }
    }) || !packet.is_ulogd
    {
        return Err(Skip::BrokenUlogd);
    }
    packet.read()
}

impl<'a> Packet<'a> {
    fn take(&mut self, key: &str, value: Scalar<'a>) {
        self.is_ulogd |= key.starts_with("oob.") || key == "dvc";
        match key {
            "timestamp" => keep(&mut self.timestamp, value.stamp()),
            "oob.time.sec" => keep(&mut self.seconds, value.number()),
            "oob.time.usec" => keep(&mut self.micros, value.number()),
            "oob.prefix" => keep(&mut self.prefix, value.into_text()),
            "oob.in" => keep(&mut self.input, value.into_text()),
            "oob.out" => keep(&mut self.output, value.into_text()),
            "src_ip" => keep(&mut self.ends.source, value.address()),
            "dest_ip" => keep(&mut self.ends.destination, value.address()),
            "src_port" => keep(&mut self.ends.source_port, value.number()),
            "dest_port" => keep(&mut self.ends.destination_port, value.number()),
            "ip.protocol" => keep(&mut self.protocol, value.number()),
            "ip.id" => keep(&mut self.ip_id, value.number()),
            "ip.ttl" | "ip6.hoplimit" => keep(&mut self.ttl, value.number()),
            "tcp.seq" => keep(&mut self.isn, value.number()),
            "tcp.syn" => keep(&mut self.syn, Some(value.is_set())),
            "tcp.ack" => keep(&mut self.ack, Some(value.is_set())),
            "mac.saddr.str" => keep(&mut self.mac, value.mac()),
            "mac.str" => keep(&mut self.header, value.into_text()),
            "ct.event" | "ct.id" | "orig.l4.dport" => self.is_tracking = true,
            _ => {}
        }
    }

    fn read(self) -> Decoded<'a> {
        if self.is_tracking {
            return Err(Skip::Tracking);
        }
        let is_tcp = self.protocol.is_none_or(|protocol| protocol == TCP);
        if !is_tcp || self.syn != Some(true) || self.ack == Some(true) {
            return Ok(None);
        }
        let tuple = self.ends.tuple()?;
        let stamp = match self.seconds {
            Some(seconds) => {
                let micros = self.micros.unwrap_or(0).min(999_999);
                Some(Stamp::Unix(
                    i64::from(seconds) * 1_000_000 + i64::from(micros),
                ))
            }
            None => self.timestamp,
        };
        let is_named = |name: &Option<Cow<'_, str>>| name.as_ref().is_some_and(|n| !n.is_empty());
        // A packet that has found its way out was counted down by this machine.
        let is_routed = is_named(&self.input) && is_named(&self.output);
        let mac = self.mac.or_else(|| sender(self.header.as_deref()?));
        Ok(Some(Attempt {
            rule: self.prefix.unwrap_or_default(),
            isn: self.isn,
            ip_id: self.ip_id.filter(|&id| id != 0),
            mac,
            interface: Interface::new(self.input.unwrap_or_default().as_bytes()),
            ttl: self.ttl.map(|ttl| ttl.saturating_add(u8::from(is_routed))),
            ..Attempt::new(stamp.ok_or(Skip::MissingField)?, tuple)
        }))
    }
}

/// The sender's MAC in an Ethernet header: receiver, sender and type, fourteen octets.
fn sender(header: &str) -> Option<Mac> {
    (header.len() == 14 * 3 - 1).then_some(())?;
    Scalar::Text(header.get(6 * 3..12 * 3 - 1)?.into()).mac()
}

#[cfg(test)]
mod tests {
    use super::super::{Content, Format};
    use super::*;

    /// As ulogd2 2.0.8 has written them.
    const V4: &str = r#"{"timestamp": "2026-11-23T19:57:39.407871", "dvc": "Netfilter", "raw.pktlen": 60, "raw.pktcount": 1, "oob.prefix": "smtp: ", "oob.time.sec": 1795463859, "oob.time.usec": 407871, "oob.mark": 0, "oob.ifindex_in": 2, "oob.hook": 0, "raw.mac_len": 14, "oob.family": 2, "oob.protocol": 2048, "raw.label": 0, "raw.type": 1, "raw.mac.addrlen": 6, "ip.protocol": 6, "ip.tos": 0, "ip.ttl": 64, "ip.totlen": 60, "ip.ihl": 5, "ip.csum": 54754, "ip.id": 57712, "ip.fragoff": 16384, "src_port": 53106, "dest_port": 25, "tcp.seq": 401673227, "tcp.ackseq": 0, "tcp.window": 64240, "tcp.offset": 0, "tcp.reserved": 0, "tcp.urg": 0, "tcp.ack": 0, "tcp.psh": 0, "tcp.rst": 0, "tcp.syn": 1, "tcp.fin": 0, "tcp.res1": 0, "tcp.res2": 0, "tcp.csum": 33687, "oob.in": "eth1", "oob.out": "", "src_ip": "192.168.1.23", "dest_ip": "192.168.1.1", "mac.saddr.str": "fe:68:e5:92:c1:f4", "mac.daddr.str": "e2:e8:6d:01:5b:8d", "mac.str": "e2:e8:6d:01:5b:8d:fe:68:e5:92:c1:f4:08:00"}"#;
    const V6: &str = r#"{"timestamp": "2026-11-23T19:57:39.408400", "dvc": "Netfilter", "raw.pktlen": 80, "raw.pktcount": 1, "oob.prefix": "smtp: ", "oob.time.sec": 1795463859, "oob.time.usec": 408400, "oob.mark": 0, "oob.ifindex_in": 2, "oob.hook": 0, "raw.mac_len": 14, "oob.family": 10, "oob.protocol": 34525, "raw.label": 0, "raw.type": 1, "raw.mac.addrlen": 6, "ip.protocol": 6, "ip6.payloadlen": 40, "ip6.priority": 0, "ip6.flowlabel": 885091, "ip6.hoplimit": 64, "ip6.nexthdr": 6, "src_port": 52732, "dest_port": 25, "tcp.seq": 3078640512, "tcp.ackseq": 0, "tcp.window": 64800, "tcp.offset": 0, "tcp.reserved": 0, "tcp.urg": 0, "tcp.ack": 0, "tcp.psh": 0, "tcp.rst": 0, "tcp.syn": 1, "tcp.fin": 0, "tcp.res1": 0, "tcp.res2": 0, "tcp.csum": 64050, "oob.in": "eth1", "oob.out": "", "src_ip": "fd00::2", "dest_ip": "fd00::1", "mac.saddr.str": "fe:68:e5:92:c1:f4", "mac.daddr.str": "e2:e8:6d:01:5b:8d", "mac.str": "e2:e8:6d:01:5b:8d:fe:68:e5:92:c1:f4:86:dd"}"#;
    const TRACKED: &str = r#"{"timestamp": "2026-11-23T19:57:39", "dvc": "Netfilter", "orig.ip.protocol": 6, "orig.l4.sport": 53106, "orig.l4.dport": 25, "orig.raw.pktlen": 0, "orig.raw.pktcount": 0, "reply.ip.protocol": 6, "reply.l4.sport": 25, "reply.l4.dport": 53106, "reply.raw.pktlen": 0, "reply.raw.pktcount": 0, "ct.mark": 0, "ct.id": 2025041555, "ct.event": 4, "flow.start.sec": 1795463859, "flow.start.usec": 408038, "flow.end.sec": 1795463859, "flow.end.usec": 408043, "oob.family": 2, "oob.protocol": 0, "src_ip": "192.168.1.23", "dest_ip": "192.168.1.1", "reply.ip.saddr.str": "192.168.1.1", "reply.ip.daddr.str": "192.168.1.23"}"#;

    fn attempt(line: &str) -> Attempt<'_> {
        match Format::Ulogd.decode(line.as_bytes()) {
            Content::Attempt(attempt) => attempt,
            other => panic!("{other:?}: {line}"),
        }
    }

    #[test]
    fn packets_as_ulogd_writes_them() {
        let v4 = attempt(V4);
        assert_eq!(v4.stamp, Stamp::Unix(1_795_463_859_407_871));
        assert_eq!(v4.tuple.source.to_string(), "192.168.1.23");
        assert_eq!(
            (v4.tuple.source_port, v4.tuple.destination_port),
            (53106, 25)
        );
        assert_eq!(
            (v4.isn, v4.ip_id, v4.ttl),
            (Some(401_673_227), Some(57712), Some(64))
        );
        assert_eq!(v4.mac.unwrap().to_string(), "fe:68:e5:92:c1:f4");
        assert_eq!(
            (v4.interface.name().as_str(), &*v4.rule),
            ("eth1", "smtp: ")
        );
        assert_eq!((v4.response, v4.bytes), (None, None));
        let v6 = attempt(V6);
        assert_eq!(v6.tuple.destination.to_string(), "fd00::1");
        assert_eq!(
            (v6.isn, v6.ip_id, v6.ttl),
            (Some(3_078_640_512), None, Some(64))
        );
    }

    #[test]
    fn what_a_shorter_stack_leaves_out() {
        let without_mac = V4.replace("mac.saddr.str", "x");
        assert_eq!(attempt(&without_mac).mac, attempt(V4).mac);
        let without_time = V4.replace("oob.time.", "x.");
        assert!(matches!(
            attempt(&without_time).stamp,
            Stamp::Civil(civil) if civil.offset.is_none() && civil.micros == 407_871
        ));
        let routed = V4.replace(r#""oob.out": """#, r#""oob.out": "eth0""#);
        assert_eq!(attempt(&routed).ttl, Some(65));
    }

    #[test]
    fn each_reason_not_to_count() {
        let decoded = |line: &str| match Format::Ulogd.decode(line.as_bytes()) {
            Content::Attempt(_) => "attempt",
            Content::Other => "other",
            Content::Skipped(skip) => skip.reason(),
        };
        for (line, reason) in [
            (V4[..300].to_owned(), "broken ulogd line"),
            (r#"{"a":1}"#.to_owned(), "broken ulogd line"),
            (V4.replace("\"tcp.ack\": 0", "\"tcp.ack\": 1"), "other"),
            (V4.replace("\"tcp.syn\": 1", "\"tcp.syn\": 0"), "other"),
            (
                V4.replace("\"ip.protocol\": 6", "\"ip.protocol\": 17"),
                "other",
            ),
            (V4.replace("src_ip", "x"), "no time, address or port"),
            (
                V4.replace("oob.time.", "x.").replace("timestamp", "x"),
                "no time, address or port",
            ),
            (TRACKED.to_owned(), "connection tracking event"),
        ] {
            assert_eq!(decoded(&line), reason, "{line}");
        }
    }
}
