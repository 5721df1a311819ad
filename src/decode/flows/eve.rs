//! Suricata's EVE log: its `flow` and `smtp` events, a JSON object a line (Suricata's manual, EVE JSON
//! Format; `output-json-flow.c`).
//!
//! A `flow` is written when the flow has ended, with its start, and with all TCP flags that each side
//! has sent. An `smtp` event is written for each transaction of a connection that was therefore
//! established; its frame's MACs are not read, for they are those of whichever packet came last.

use std::borrow::Cow;

use super::{Attempt, Decoded, Ends, Scalar, Skip, json, keep};
use crate::decode::stamp::Stamp;
use crate::model::{Interface, Mac, ResponseKind};

/// The rule of attempts that a transaction tells of.
pub const TRANSACTION: &str = "smtp";

/// TCP flags, as they stand in `tcp_flags_ts` and `tcp_flags_tc`.
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// The fields of an event that count here.
#[derive(Default)]
struct Event<'a> {
    kind: Option<Cow<'a, str>>,
    timestamp: Option<Stamp>,
    start: Option<Stamp>,
    ends: Ends,
    is_tcp: bool,
    interface: Option<Interface>,
    vlan: Option<u16>,
    macs: Vec<Mac>,
    to_server: Option<u8>,
    to_client: Option<u8>,
    tcp_state: Option<Cow<'a, str>>,
    reason: Option<Cow<'a, str>>,
    bytes_to_server: Option<u64>,
    bytes_to_client: Option<u64>,
}

pub(super) fn decode(line: &[u8]) -> Decoded<'_> {
    let mut event = Event::default();
    if !json::walk(line, &mut |outer, key, value| event.take(outer, key, value)) {
        return Err(Skip::BrokenEve);
    }
    match event.kind.as_deref() {
        Some("flow") => event.flow(),
        Some(TRANSACTION) => event.smtp().map(Some),
        Some(_) => Err(Skip::OtherEvent),
        None => Err(Skip::BrokenEve),
    }
}

impl<'a> Event<'a> {
    fn take(&mut self, outer: &str, key: &str, value: Scalar<'a>) {
        match (outer, key) {
            ("", "event_type") => keep(&mut self.kind, value.into_text()),
            ("", "timestamp") => keep(&mut self.timestamp, value.stamp()),
            ("", "src_ip") => keep(&mut self.ends.source, value.address()),
            ("", "dest_ip") => keep(&mut self.ends.destination, value.address()),
            ("", "src_port") => keep(&mut self.ends.source_port, value.number()),
            ("", "dest_port") => keep(&mut self.ends.destination_port, value.number()),
            ("", "proto") => self.is_tcp |= value.text() == "TCP",
            ("", "in_iface") => {
                keep(
                    &mut self.interface,
                    Some(Interface::new(value.text().as_bytes())),
                );
            }
            ("", "vlan") => keep(&mut self.vlan, value.vlan()),
            // Two are enough to know that it is not one.
            ("ether", "src_macs") if self.macs.len() < 2 => self.macs.extend(value.mac()),
            ("flow", "start") => keep(&mut self.start, value.stamp()),
            ("flow", "reason") => keep(&mut self.reason, value.into_text()),
            ("flow", "bytes_toserver") => keep(&mut self.bytes_to_server, value.number()),
            ("flow", "bytes_toclient") => keep(&mut self.bytes_to_client, value.number()),
            ("tcp", "tcp_flags_ts") => keep(&mut self.to_server, flags(value.text())),
            ("tcp", "tcp_flags_tc") => keep(&mut self.to_client, flags(value.text())),
            ("tcp", "state") => keep(&mut self.tcp_state, value.into_text()),
            _ => {}
        }
    }

    fn flow(self) -> Decoded<'a> {
        if !self.is_tcp {
            return Ok(None);
        }
        let stamp = self.start.or(self.timestamp).ok_or(Skip::MissingField)?;
        let tuple = self.ends.tuple()?;
        if self.to_server.unwrap_or(0) & SYN == 0 {
            return Err(Skip::NoSyn);
        }
        Ok(Some(Attempt {
            rule: Cow::Borrowed("flow"),
            response: self.response(),
            bytes: self.bytes_to_server.zip(self.bytes_to_client),
            // A flow that more than one station sent tells of none.
            mac: match self.macs.as_slice() {
                [mac] => Some(*mac),
                _ => None,
            },
            interface: self.interface.unwrap_or_default(),
            vlan: self.vlan,
            ..Attempt::new(stamp, tuple)
        }))
    }

    fn smtp(self) -> Result<Attempt<'a>, Skip> {
        let stamp = self.start.or(self.timestamp).ok_or(Skip::MissingField)?;
        let mut tuple = self.ends.tuple()?;
        // Older versions write the ends as they were in the packet that came last; no client sends
        // from a reserved port.
        if tuple.source_port < 1024 && tuple.destination_port >= 1024 {
            std::mem::swap(&mut tuple.source, &mut tuple.destination);
            std::mem::swap(&mut tuple.source_port, &mut tuple.destination_port);
        }
        Ok(Attempt {
            rule: Cow::Borrowed(TRANSACTION),
            response: Some(ResponseKind::Established),
            interface: self.interface.unwrap_or_default(),
            vlan: self.vlan,
            ..Attempt::new(stamp, tuple)
        })
    }

    fn response(&self) -> Option<ResponseKind> {
        let (to_server, to_client) = (self.to_server?, self.to_client?);
        if to_client & SYN != 0 {
            // Suricata stays in these states where the acknowledgment does not fit.
            let is_begun = matches!(self.tcp_state.as_deref(), Some("syn_sent" | "syn_recv"));
            return Some(if to_server & ACK != 0 && !is_begun {
                ResponseKind::Established
            } else {
                ResponseKind::Accepted
            });
        }
        if to_client & RST != 0 {
            return Some(ResponseKind::Reset);
        }
        // Where Suricata itself ended the flow, an answer may still have come.
        (self.reason.as_deref() == Some("timeout")).then_some(ResponseKind::TimedOut)
    }
}

fn flags(text: &str) -> Option<u8> {
    u8::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::super::{Content, Format};
    use super::*;
    use ResponseKind::{Accepted, Established, Reset, TimedOut};

    const FLOW: &str = r#"{"timestamp":"2024-11-13T12:25:00.381225+0000","flow_id":1,"in_iface":"eth1","event_type":"flow","vlan":[10,20],"src_ip":"192.168.1.23","src_port":40001,"dest_ip":"203.0.113.9","dest_port":25,"ip_v":4,"proto":"TCP","app_proto":"smtp","flow":{"pkts_toserver":9,"pkts_toclient":7,"bytes_toserver":1369,"bytes_toclient":5372,"start":"2024-11-13T12:22:00.386389+0000","end":"2024-11-13T12:22:09.395461+0000","age":9,"state":"closed","reason":"timeout","alerted":false},"ether":{"dest_macs":["02:00:5e:00:00:01"],"src_macs":["02:00:5e:10:01:17"]},"tcp":{"tcp_flags":"1b","tcp_flags_ts":"1b","tcp_flags_tc":"1a","syn":true,"ack":true,"state":"closed","ts_max_regions":1}}"#;
    const SMTP: &str = r#"{"timestamp":"2024-11-13T12:22:05.000001+0000","flow_id":1,"in_iface":"eth1","event_type":"smtp","src_ip":"192.168.1.23","src_port":40001,"dest_ip":"203.0.113.9","dest_port":25,"proto":"TCP","ether":{"src_mac":"02:00:5e:00:00:01"},"tx_id":0,"smtp":{"helo":"x","mail_from":"<a@b>","rcpt_to":["<c@d>"]},"email":{"status":"PARSE_DONE"}}"#;

    fn attempt(line: &str) -> Attempt<'_> {
        match Format::Eve.decode(line.as_bytes()) {
            Content::Attempt(attempt) => attempt,
            other => panic!("{other:?}: {line}"),
        }
    }

    #[test]
    fn a_flow_with_all_that_it_tells() {
        let flow = attempt(FLOW);
        assert!(matches!(
            flow.stamp,
            Stamp::Civil(civil) if civil.second_of_day == 12 * 3600 + 22 * 60 && civil.micros == 386_389
        ));
        assert_eq!(flow.tuple.source.to_string(), "192.168.1.23");
        assert_eq!(flow.tuple.destination.to_string(), "203.0.113.9");
        assert_eq!(
            (flow.tuple.source_port, flow.tuple.destination_port),
            (40001, 25)
        );
        assert_eq!(flow.mac.unwrap().to_string(), "02:00:5e:10:01:17");
        assert_eq!(flow.interface.name(), "eth1");
        assert_eq!(flow.vlan, Some(10));
        assert_eq!(flow.response, Some(ResponseKind::Established));
        assert_eq!(flow.bytes, Some((1369, 5372)));
        assert_eq!(flow.rule, "flow");
    }

    #[test]
    fn flags_tell_what_became_of_it() {
        let with = |ts: &str, tc: &str, state: &str, reason: &str| {
            let line = FLOW
                .replace(r#"_ts":"1b""#, &format!(r#"_ts":"{ts}""#))
                .replace(r#"_tc":"1a""#, &format!(r#"_tc":"{tc}""#))
                .replace(
                    r#""ack":true,"state":"closed""#,
                    &format!(r#""state":"{state}""#),
                )
                .replace(r#""reason":"timeout""#, &format!(r#""reason":"{reason}""#));
            attempt(&line).response
        };
        for (ts, tc, state, reason, response) in [
            ("12", "12", "established", "timeout", Some(Established)),
            ("02", "12", "syn_recv", "timeout", Some(Accepted)),
            ("12", "12", "syn_recv", "timeout", Some(Accepted)),
            ("06", "12", "closed", "timeout", Some(Accepted)),
            ("02", "14", "closed", "timeout", Some(Reset)),
            ("02", "00", "syn_sent", "timeout", Some(TimedOut)),
            ("02", "00", "syn_sent", "shutdown", None),
            ("02", "zz", "syn_sent", "timeout", None),
        ] {
            assert_eq!(
                with(ts, tc, state, reason),
                response,
                "{ts} {tc} {state} {reason}"
            );
        }
    }

    #[test]
    fn a_transaction_is_an_established_connection() {
        let smtp = attempt(SMTP);
        assert_eq!(smtp.response, Some(ResponseKind::Established));
        assert_eq!(smtp.tuple, attempt(FLOW).tuple);
        assert_eq!((smtp.mac, smtp.rule), (None, Cow::Borrowed("smtp")));
        let reversed = SMTP
            .replace(
                r#""src_ip":"192.168.1.23","src_port":40001"#,
                r#""src_ip":"203.0.113.9","src_port":25"#,
            )
            .replace(
                r#""dest_ip":"203.0.113.9","dest_port":25"#,
                r#""dest_ip":"192.168.1.23","dest_port":40001"#,
            );
        assert_eq!(attempt(&reversed).tuple, smtp.tuple);
    }

    #[test]
    fn a_flow_of_several_stations_names_none() {
        let two = FLOW.replace(
            r#"["02:00:5e:10:01:17"]"#,
            r#"["02:00:5e:10:01:17","02:00:5e:10:01:18"]"#,
        );
        assert_eq!(attempt(&two).mac, None);
    }

    #[test]
    fn each_reason_not_to_count() {
        let decoded = |line: &str| match Format::Eve.decode(line.as_bytes()) {
            Content::Attempt(_) => "attempt",
            Content::Other => "other",
            Content::Skipped(skip) => skip.reason(),
        };
        for (line, reason) in [
            (FLOW[..FLOW.len() - 9].to_owned(), "broken EVE line"),
            ("{}".to_owned(), "broken EVE line"),
            (FLOW.replace("\"flow\",", "\"alert\","), "other event type"),
            (FLOW.replace("\"TCP\"", "\"UDP\""), "other"),
            (FLOW.replace("_ts\":\"1b", "_ts\":\"18"), "start not seen"),
            (FLOW.replace("203.0.113.9", "x"), "no time, address or port"),
            (
                FLOW.replace("\"src_port\":40001", "\"src_port\":400010"),
                "no time, address or port",
            ),
            (" \r".to_owned(), "empty line"),
        ] {
            assert_eq!(decoded(&line), reason, "{line}");
        }
    }
}
