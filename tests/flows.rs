//! Logs of neighbours (Zeek, Suricata, ulogd2) give the same answer as the kernel's own records.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use assert_cmd::Command;
use serde_json::{Value, json};

const LOG: &str = "tests/corpus/office-day.log";

fn smtpwatch(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("smtpwatch").unwrap();
    command.args(arguments).env("TZ", "UTC");
    command
}

fn report(arguments: &[&str]) -> Value {
    let output = smtpwatch(&[&["report", "--json"], arguments].concat())
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn report_on(text: impl Into<Vec<u8>>) -> Value {
    let output = smtpwatch(&["report", "--json", "-"])
        .write_stdin(text)
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// A SYN of the office's log.
struct Syn {
    micros: i64,
    fields: HashMap<String, String>,
}

impl Syn {
    fn field(&self, name: &str) -> &str {
        &self.fields[name]
    }

    fn number(&self, name: &str) -> u64 {
        self.field(name).parse().unwrap()
    }

    fn seconds(&self) -> String {
        format!("{}.{:06}", self.micros / 1_000_000, self.micros % 1_000_000)
    }

    fn iso(&self, later: i64) -> String {
        let time = jiff::Timestamp::from_microsecond(self.micros + later).unwrap();
        time.strftime("%Y-%m-%dT%H:%M:%S.%6f+0000").to_string()
    }
}

fn syns() -> Vec<Syn> {
    let all: Vec<Syn> = fs::read_to_string(LOG)
        .unwrap()
        .lines()
        .filter(|line| {
            line.contains(" kernel: ") && line.contains("DPT=25 ") && line.contains(" SYN ")
        })
        .map(|line| {
            let stamp = line.split(' ').next().unwrap();
            let words = line.split(' ').filter_map(|word| word.split_once('='));
            Syn {
                micros: stamp.parse::<jiff::Timestamp>().unwrap().as_microsecond(),
                fields: words
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
            }
        })
        .collect();
    assert_eq!(all.len(), 1201);
    all
}

/// Lines in the order in which they are written where the connection that begins with the `n`th SYN lasts
/// for a time of its own, up to ten minutes.
fn as_written<T>(syns: &[Syn], mut line: impl FnMut(&Syn, i64) -> T) -> Vec<T> {
    let mut ended: Vec<(i64, T)> = syns
        .iter()
        .zip((0..).map(|n: i64| n * 7_919 % 600 * 1_000_000))
        .map(|(syn, lasts)| (syn.micros + lasts, line(syn, lasts)))
        .collect();
    ended.sort_by_key(|(end, _)| *end);
    ended.into_iter().map(|(_, line)| line).collect()
}

const HEADER: &str = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tservice\tduration\torig_bytes\tresp_bytes\tconn_state\tlocal_orig\tlocal_resp\tmissed_bytes\thistory\torig_pkts\torig_ip_bytes\tresp_pkts\tresp_ip_bytes\ttunnel_parents\n";
/// The same in another order.
const OTHER_HEADER: &str = "#separator \\x09\n#unset_field\t-\n#path\tconn\n#fields\tproto\tid.resp_p\tid.resp_h\tid.orig_p\tid.orig_h\tconn_state\tts\n";

fn zeek_line(syn: &Syn) -> String {
    format!(
        "{}\tC1\t{}\t{}\t{}\t25\ttcp\tsmtp\t1.5\t10\t20\tSF\tT\tF\t0\tShAdDafF\t8\t1369\t7\t5372\t-\n",
        syn.seconds(),
        syn.field("SRC"),
        syn.field("SPT"),
        syn.field("DST")
    )
}

fn zeek() -> String {
    as_written(&syns(), |syn, _| zeek_line(syn)).concat()
}

fn zeek_json() -> String {
    as_written(&syns(), |syn, _| {
        format!(
            "{{\"ts\":{},\"uid\":\"C1\",\"id.orig_h\":\"{}\",\"id.orig_p\":{},\"id.resp_h\":\"{}\",\"id.resp_p\":25,\
             \"proto\":\"tcp\",\"conn_state\":\"S0\",\"history\":\"S\"}}\n",
            syn.seconds(), syn.field("SRC"), syn.field("SPT"), syn.field("DST")
        )
    })
    .concat()
}

fn eve_flow(syn: &Syn, lasts: i64) -> Value {
    json!({
        "timestamp": syn.iso(lasts), "flow_id": 1, "in_iface": "eth1", "event_type": "flow",
        "src_ip": syn.field("SRC"), "src_port": syn.number("SPT"), "dest_ip": syn.field("DST"), "dest_port": 25,
        "proto": "TCP", "app_proto": "smtp",
        "flow": {"bytes_toserver": 1369, "bytes_toclient": 5372, "start": syn.iso(0), "end": syn.iso(lasts),
                 "state": "closed", "reason": "timeout"},
        "tcp": {"tcp_flags": "1b", "tcp_flags_ts": "1b", "tcp_flags_tc": "1b", "syn": true, "state": "closed"},
    })
}

fn eve_smtp(syn: &Syn, lasts: i64) -> Value {
    let mut event = eve_flow(syn, lasts);
    let fields = event.as_object_mut().unwrap();
    fields.remove("flow");
    fields.remove("tcp");
    fields.insert("event_type".to_owned(), "smtp".into());
    fields.insert("smtp".to_owned(), json!({"helo": "x"}));
    event
}

fn lines(events: &[Value]) -> String {
    events.iter().map(|event| format!("{event}\n")).collect()
}

fn ulogd() -> String {
    let events: Vec<Value> = syns()
        .iter()
        .map(|syn| {
            json!({
                "timestamp": "2026-03-10T00:00:00", "dvc": "Netfilter", "oob.prefix": "smtp: ",
                "oob.time.sec": syn.micros / 1_000_000, "oob.time.usec": syn.micros % 1_000_000,
                "ip.protocol": 6, "ip.ttl": 64, "ip.id": syn.number("ID"), "oob.in": "eth1", "oob.out": "",
                "src_ip": syn.field("SRC"), "src_port": syn.number("SPT"),
                "dest_ip": syn.field("DST"), "dest_port": 25, "tcp.syn": 1, "tcp.ack": 0,
            })
        })
        .collect();
    lines(&events)
}

/// What must agree between kinds of input; without the moment of alarm, where times are in whole seconds.
fn verdicts(answer: &Value) -> Vec<String> {
    let devices = answer["devices"].as_array().unwrap();
    devices
        .iter()
        .map(|d| {
            format!(
                "{} {} {} {} {} {}",
                d["addresses"][0],
                d["syns"],
                d["attempts"],
                d["destinations"],
                d["verdict"],
                d["findings"]
            )
        })
        .collect()
}

fn skipped(answer: &Value) -> String {
    answer["inputs"][0]["skipped"].to_string()
}

#[test]
fn each_kind_gives_the_verdicts_of_the_kernels_log() {
    let expected = verdicts(&report(&[LOG]));
    assert_eq!(expected.len(), 12);
    let zeek = zeek();
    let events = as_written(&syns(), eve_flow);
    for (text, kind) in [
        (format!("{HEADER}{zeek}#close\t2026-03-11\n"), "zeek"),
        // The first piece of a rotated log has lost its header.
        (zeek, "zeek"),
        (zeek_json(), "zeek"),
        (lines(&events), "eve"),
        (ulogd(), "ulogd"),
    ] {
        let answer = report_on(text.clone());
        assert_eq!(verdicts(&answer), expected, "{kind}: {}", &text[..200]);
        let input = &answer["inputs"][0];
        assert_eq!(
            (&input["kind"], &input["matched"]),
            (&kind.into(), &1201.into())
        );
        assert_eq!(answer["totals"]["late"], 0, "{kind}");
        // Compressed it is the same.
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        assert_eq!(
            verdicts(&report_on(gzip.finish().unwrap())),
            expected,
            "{kind}"
        );
    }
}

/// How the attempts of the only device ended: each kind of end that there was, and how often; and how many
/// handshakes it completed.
fn ends(answer: &Value) -> (Vec<(String, u64)>, u64) {
    let devices = answer["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 1, "{answer}");
    let outcomes = devices[0]["outcomes"].as_object().unwrap();
    let ends = outcomes
        .iter()
        .map(|(end, count)| (end.clone(), count.as_u64().unwrap()));
    let completed = devices[0]["completed"].as_u64().unwrap();
    (ends.filter(|(_, count)| *count > 0).collect(), completed)
}

#[test]
fn each_kind_tells_how_attempts_end() {
    let syn = &syns()[0];
    let zeek = |state: &str, history: &str| {
        let line = zeek_line(syn).replace("\tSF\t", &format!("\t{state}\t"));
        format!("{HEADER}{}", line.replace("ShAdDafF", history))
    };
    let eve = |sent: &str, received: &str, state: &str, reason: &str| {
        let mut event = eve_flow(syn, 5_000_000);
        event["tcp"]["tcp_flags_ts"] = sent.into();
        event["tcp"]["tcp_flags_tc"] = received.into();
        event["tcp"]["state"] = state.into();
        event["flow"]["reason"] = reason.into();
        lines(&[event])
    };
    for (text, end, completed) in [
        (zeek("SF", "ShAdDafF"), "answered", 1),
        (zeek("S1", "ShA"), "answered", 1),
        (zeek("RSTR", "ShAr"), "answered", 1),
        (zeek("REJ", "Sr"), "refused", 0),
        (zeek("S0", "S"), "unanswered", 0),
        (zeek("RSTOS0", "SR"), "unanswered", 0),
        (
            zeek_json().lines().next().unwrap().to_owned() + "\n",
            "unanswered",
            0,
        ),
        (eve("1b", "1b", "closed", "timeout"), "answered", 1),
        (eve("12", "12", "established", "forced"), "answered", 1),
        (eve("02", "12", "syn_recv", "timeout"), "answered", 0),
        (eve("02", "14", "closed", "timeout"), "refused", 0),
        (eve("02", "00", "syn_sent", "timeout"), "unanswered", 0),
        // Suricata ended before the answer could have come.
        (eve("02", "00", "syn_sent", "shutdown"), "unknown", 0),
        (lines(&[eve_smtp(syn, 1_000_000)]), "answered", 1),
        // A packet that is logged has no end yet.
        (
            ulogd().lines().next().unwrap().to_owned() + "\n",
            "unknown",
            0,
        ),
    ] {
        let answer = report_on(text.clone());
        assert_eq!(
            ends(&answer),
            (vec![(end.to_owned(), 1)], completed),
            "{text}"
        );
    }
    // What another kind tells of the same attempt is its end, too.
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("ulogd.json"),
        ulogd().lines().next().unwrap(),
    )
    .unwrap();
    fs::write(folder.path().join("conn.log"), zeek("REJ", "Sr")).unwrap();
    let answer = report(&[folder.path().to_str().unwrap()]);
    assert_eq!(ends(&answer), (vec![("refused".to_owned(), 1)], 0));
}

#[test]
fn a_folder_with_all_of_them_counts_each_attempt_once() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    let zeek = zeek();
    let half = zeek[..zeek.len() / 2].rfind('\n').unwrap() + 1;
    write("conn.00:00.log", format!("{HEADER}{}", &zeek[..half]));
    write("conn.12:00.log", format!("{HEADER}{}", &zeek[half..]));
    write("eve.json", lines(&as_written(&syns(), eve_flow)));
    write("ulogd.json", ulogd());
    // Zeek's other logs are no input.
    let dns = HEADER.replace("conn_state", "query");
    write("dns.log", format!("{dns}{}", &zeek[..half]));
    fs::copy(LOG, folder.path().join("messages")).unwrap();
    let answer = report(&[folder.path().to_str().unwrap()]);
    let attempts = |answer: &Value| -> Vec<String> {
        let devices = answer["devices"].as_array().unwrap();
        devices
            .iter()
            .map(|d| format!("{} {} {}", d["addresses"][0], d["attempts"], d["verdict"]))
            .collect()
    };
    assert_eq!(attempts(&answer), attempts(&report(&[LOG])));
    assert_eq!(answer["totals"]["late"], 0);
    let inputs = answer["inputs"].as_array().unwrap();
    assert_eq!(inputs.len(), 5, "{inputs:?}");
    let named = smtpwatch(&["report", folder.path().join("dns.log").to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(named.status.code(), Some(1));
    let said = String::from_utf8_lossy(&named.stderr).into_owned();
    assert!(said.contains("give its conn.log"), "{said}");
}

/// A second header may come anywhere, and rules what comes after it, whichever thread reads that.
#[test]
fn several_headers_in_one_log() {
    let mut text = HEADER.to_owned();
    let syns = syns();
    for (number, syn) in syns.iter().enumerate() {
        if number == 300 {
            text += OTHER_HEADER;
        }
        let is_other = (300..900).contains(&number);
        if number == 900 {
            text += HEADER;
        }
        // Other traffic, so that the parts of the log lie in different chunks.
        for port in 0..10 {
            text += &if is_other {
                format!(
                    "udp\t53\t192.0.2.1\t{port}\t192.168.1.9\tSF\t{}\n",
                    syn.seconds()
                )
            } else {
                zeek_line(syn)
                    .replace("\ttcp\t", "\tudp\t")
                    .replace("\t25\t", "\t53\t")
            };
        }
        text += &if is_other {
            format!(
                "tcp\t25\t{}\t{}\t{}\tSF\t{}\n",
                syn.field("DST"),
                syn.field("SPT"),
                syn.field("SRC"),
                syn.seconds()
            )
        } else {
            zeek_line(syn)
        };
    }
    assert!(text.len() > 4 * 256 * 1024);
    let answer = report_on(text);
    assert_eq!(verdicts(&answer), verdicts(&report(&[LOG])));
    assert_eq!(answer["inputs"][0]["records"], 1201 * 11);
    assert_eq!(skipped(&answer), r#"{"header":16}"#);
}

/// A flow and the transactions of its connection are one attempt; events of other types are none.
#[test]
fn events_of_one_connection_are_one_attempt() {
    let mut events = Vec::new();
    for syn in syns() {
        events.push(eve_smtp(&syn, 2_000_000));
        events.push(eve_smtp(&syn, 3_000_000));
        events.push(eve_flow(&syn, 4_000_000));
        let mut alert = eve_smtp(&syn, 4_000_000);
        alert["event_type"] = "alert".into();
        events.push(alert);
    }
    let answer = report_on(lines(&events));
    let expected = report(&[LOG]);
    assert_eq!(answer["totals"]["attempts"], expected["totals"]["attempts"]);
    assert_eq!(answer["totals"]["infected"], expected["totals"]["infected"]);
    assert_eq!(answer["inputs"][0]["records"], 3 * 1201);
    assert_eq!(skipped(&answer), r#"{"other event type":1201}"#);
}

/// However long a connection lasts, it is one attempt, made when it began.
#[test]
fn transactions_of_a_long_connection_are_one_attempt() {
    let syns = syns();
    let minutes = |n: i64| n * 60_000_000;
    let later = |n: i64| Syn {
        micros: syns[0].micros + minutes(n),
        fields: syns[0].fields.clone(),
    };
    let mut events: Vec<Value> = [1, 5, 10, 19].map(|n| eve_smtp(&later(n), 0)).to_vec();
    assert_eq!(report_on(lines(&events))["totals"]["attempts"], 4);
    events.push(eve_flow(&syns[0], minutes(20)));
    let answer = report_on(lines(&events));
    assert_eq!(answer["totals"]["attempts"], 1, "{answer}");
    assert_eq!(answer["totals"]["late"], 0);
    let first_seen = answer["devices"][0]["first_seen"].as_str().unwrap();
    let first_seen: jiff::Timestamp = first_seen.parse().unwrap();
    assert_eq!(first_seen.as_microsecond(), syns[0].micros);
}

#[test]
fn each_broken_line_has_its_own_reason_and_hides_no_other() {
    let good = syns();
    let with = |lines: [String; 3]| report_on(lines.concat());
    let eve = format!("{}\n", eve_flow(&good[0], 0));
    let zeek_json = zeek_json().lines().next().unwrap().to_owned() + "\n";
    let ulogd = ulogd().lines().next().unwrap().to_owned() + "\n";
    let zeek = zeek_line(&good[0]);
    let cut = |line: &str| format!("{}\n", &line[..line.len() / 2]);
    for (lines, reason) in [
        ([eve.clone(), cut(&eve), eve.clone()], "broken EVE line"),
        (
            [cut(&eve), "\u{0}\u{7f}\n".to_owned(), eve],
            "broken EVE line",
        ),
        (
            [zeek_json.clone(), cut(&zeek_json), zeek_json],
            "broken Zeek line",
        ),
        ([ulogd.clone(), cut(&ulogd), ulogd], "broken ulogd line"),
        (
            [HEADER.to_owned(), cut(&zeek), zeek.clone()],
            "columns differ from the header",
        ),
        (
            [zeek.clone(), cut(&zeek), zeek.clone()],
            "no header before it",
        ),
        (
            [
                zeek.clone(),
                "#fields\tts\tquery\n".to_owned(),
                zeek.clone(),
            ],
            "not the fields of a connection",
        ),
        (
            [zeek.clone(), zeek.replace("ShAdDafF", "DadA"), zeek],
            "start not seen",
        ),
    ] {
        let answer = with(lines.clone());
        assert!(
            skipped(&answer).contains(&format!("\"{reason}\":")),
            "{reason}: {answer}"
        );
        assert!(
            answer["totals"]["attempts"].as_u64() > Some(0),
            "{reason}: {lines:?}"
        );
    }
}

/// What began a day before its neighbours is late, and moves nobody.
#[test]
fn a_connection_of_days_is_late_and_no_bad_time() {
    let syns = syns();
    let mut text = HEADER.to_owned();
    for (number, syn) in syns.iter().enumerate() {
        if number == 1000 {
            text += &zeek_line(&Syn {
                micros: syn.micros - 3 * 86_400_000_000,
                fields: [
                    ("SRC", "192.168.1.77"),
                    ("SPT", "1"),
                    ("DST", "203.0.113.1"),
                ]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            });
        }
        text += &zeek_line(syn);
    }
    let answer = report_on(text);
    let expected = report(&[LOG]);
    assert_eq!(answer["totals"]["late"], 1, "{}", answer["totals"]);
    // It is an attempt all the same, and scores nothing.
    let attempts = expected["totals"]["attempts"].as_u64().unwrap();
    assert_eq!(answer["totals"]["attempts"], attempts + 1);
    let findings = |answer: &Value| answer["devices"][0]["findings"].clone();
    assert_eq!(findings(&answer), findings(&expected));
    let moved = answer["devices"].as_array().unwrap();
    let moved = moved.iter().find(|d| d["addresses"][0] == "192.168.1.77");
    assert!(
        moved.unwrap()["first_seen"].as_str().unwrap() < "2026-03-10",
        "{answer}"
    );
}

/// A log of connections that tells of none is no proof that there were none.
#[test]
fn a_log_that_cannot_be_read_is_not_to_be_trusted() {
    let line = zeek_line(&syns()[0]);
    let text = format!("{HEADER}{line}#fields\tts\tquery\n{line}{line}");
    let output = smtpwatch(&["report", "--exit-code", "-"])
        .write_stdin(text)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains(
            "lines that cannot be read as connections: 2 (not the fields of a connection 2), that can: 1;"
        ),
        "{said}"
    );
}

#[test]
fn explanations_of_each_kind() {
    let syn = &syns()[0];
    let eve = eve_flow(syn, 0).to_string();
    let zeek = zeek_line(syn).trim_end().to_owned();
    let ulogd = ulogd().lines().next().unwrap().to_owned();
    for (line, decoder, counts, because) in [
        (eve.clone(), "eve", true, "tries to send mail directly"),
        (
            eve.replace("\"flow\",", "\"dns\","),
            "eve",
            false,
            "other event type",
        ),
        (
            eve.replace("\"1b\"", "\"18\""),
            "eve",
            false,
            "start not seen",
        ),
        (zeek.clone(), "zeek", true, "tries to send mail directly"),
        (
            zeek.replace("\t25\t", "\t80\t"),
            "zeek",
            false,
            "port 80 is not watched",
        ),
        (ulogd.clone(), "ulogd", true, "tries to send mail directly"),
        (
            ulogd.replace("\"tcp.ack\":0", "\"tcp.ack\":1"),
            "ulogd",
            false,
            "no new TCP connection",
        ),
    ] {
        let output = smtpwatch(&["explain", "--json", &line]).output().unwrap();
        let explained: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(explained["decoder"], decoder, "{line}: {explained}");
        assert_eq!(explained["counts"], counts, "{line}: {explained}");
        assert!(
            explained["because"].as_str().unwrap().contains(because),
            "{explained}"
        );
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, format!("{HEADER}{zeek}\n")).unwrap();
    let path: &Path = file.path();
    let output = smtpwatch(&["explain", path.to_str().unwrap()])
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains("response=established"), "{shown}");
    assert!(
        shown.contains("1: does not count: no record of a connection: header"),
        "{shown}"
    );
}
