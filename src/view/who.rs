//! Who was behind an address outside, `smtpwatch.who.v1`: new fields may come, none goes.
//!
//! Names what was found, whether it is all there is, and what to try next. It names candidates and
//! accuses nobody.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::Layout;
use super::escape::terminal;
use super::grid::{Column, Grid};
use super::table::{DATE_AND_TIME, made_by, shown};
use crate::engine::{grouped, spoken};
use crate::model::{Mac, Timestamp};
use crate::store::{Candidate, WhoAnswer, WhoAsked};

/// The schema's name.
const SCHEMA: &str = "smtpwatch.who.v1";
/// How long connections are kept.
const KEPT: &str = "7 days";
/// Ports and destinations shown in a row of the table.
const SHOWN: usize = 4;
const COLUMNS: [Column; 10] = [
    Column::text("DEVICE"),
    Column::text("NAME"),
    Column::text("MAC"),
    Column::text("VENDOR"),
    Column::number("CONNECTIONS"),
    Column::text("PORTS"),
    Column::text("TO"),
    Column::text("FIRST"),
    Column::text("LAST"),
    Column::text("OFF BY"),
];

/// An answer.
#[derive(Debug, Serialize)]
pub(crate) struct Who {
    schema: &'static str,
    asked: Asked,
    /// The likeliest first.
    candidates: Vec<Named>,
    /// Connections that are meant.
    connections: u64,
    /// From when to when connections are known at all.
    known: Option<Known>,
    /// Whether these are all: the time lies within what is kept, and nothing was left out.
    complete: bool,
    /// What limits the answer, and what to do next.
    #[serde(skip)]
    pub(crate) notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Asked {
    public_ip: String,
    /// RFC 3339.
    at: String,
    within_seconds: u64,
    port: Option<u16>,
    to: Option<String>,
}

#[derive(Debug, Serialize)]
struct Known {
    since: String,
    until: String,
}

#[derive(Debug, Serialize)]
struct Named {
    device: Option<String>,
    hostname: Option<String>,
    mac: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    mac_randomised: bool,
    vendor: Option<String>,
    /// The first of its addresses inside.
    address: Option<String>,
    addresses: Vec<String>,
    /// Ports outside.
    ports: Vec<u16>,
    to: Vec<String>,
    connections: u64,
    first: String,
    last: String,
    /// How far the nearest connection was from the time, in seconds; 0 where it lasted then.
    off_by_seconds: u64,
    /// Whether the port was asked for, and this had it at that very time.
    exact: bool,
}

impl Who {
    /// What `answer` says to `asked`; `vendor` knows who made a network card.
    pub(crate) fn new(
        asked: &WhoAsked,
        answer: WhoAnswer,
        mut vendor: impl FnMut(Mac) -> Option<String>,
    ) -> Self {
        let is_complete =
            lies(asked, answer.known) == Lies::Within && answer.dropped == 0 && answer.omitted == 0;
        let notes = notes(asked, &answer);
        let candidates = answer.candidates.into_iter();
        Self {
            schema: SCHEMA,
            asked: Asked {
                public_ip: asked.public_ip.to_string(),
                at: asked.at.to_string(),
                within_seconds: asked.within.as_secs(),
                port: asked.port,
                to: asked.to.map(|to| to.to_string()),
            },
            candidates: candidates
                .map(|candidate| Named::new(candidate, asked, &mut vendor))
                .collect(),
            connections: answer.connections,
            known: answer.known.map(|(since, until)| Known {
                since: since.to_string(),
                until: until.to_string(),
            }),
            complete: is_complete,
            notes,
        }
    }

    /// Whether anybody is named.
    pub(crate) fn is_found(&self) -> bool {
        !self.candidates.is_empty()
    }

    /// Prints it for people.
    pub(crate) fn table(&self, layout: &Layout, to: &mut dyn Write) -> io::Result<()> {
        let at = shown(&self.asked.at, &layout.zone, DATE_AND_TIME);
        let about = format!("behind {} at {at}", self.asked.public_ip);
        match self.candidates.as_slice() {
            [] => return writeln!(to, "No device is known to have been {about}"),
            [one] => {
                let certainty = if one.exact { "was" } else { "may have been" };
                writeln!(to, "{} {certainty} {about}", terminal(&one.called()))?;
            }
            all => writeln!(to, "{} devices may have been {about}", all.len())?,
        }
        writeln!(to)?;
        let mut grid = Grid::new(COLUMNS.iter());
        for candidate in self.candidates.iter().take(layout.top) {
            grid.row(candidate.row(layout));
        }
        grid.write(layout.width, |_| anstyle::Style::new(), to)?;
        if self.candidates.len() > layout.top {
            let more = self.candidates.len() - layout.top;
            writeln!(to, "and {more} more: --json has them all")?;
        }
        Ok(())
    }

    /// Prints it as JSON.
    pub(crate) fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *to, self)?;
        writeln!(to)
    }
}

impl Named {
    fn new(
        candidate: Candidate,
        asked: &WhoAsked,
        vendor: &mut impl FnMut(Mac) -> Option<String>,
    ) -> Self {
        let mac: Option<Mac> = candidate.mac.as_deref().and_then(|mac| mac.parse().ok());
        let addresses: Vec<String> = candidate.inside.iter().map(IpAddr::to_string).collect();
        Self {
            device: candidate.device,
            hostname: candidate.hostname,
            mac: candidate.mac,
            mac_randomised: mac.is_some_and(Mac::is_randomised),
            vendor: mac.and_then(vendor),
            address: addresses.first().cloned(),
            addresses,
            ports: candidate.ports.into_iter().collect(),
            to: candidate
                .destinations
                .iter()
                .map(IpAddr::to_string)
                .collect(),
            connections: candidate.connections,
            first: candidate.first.to_string(),
            last: candidate.last.to_string(),
            off_by_seconds: Duration::from_micros(candidate.off_by.unsigned_abs()).as_secs(),
            exact: asked.port.is_some() && candidate.off_by == 0,
        }
    }

    /// What it is called in a few words: its address, and its name where it has one.
    fn called(&self) -> String {
        let address = self.address.as_deref().or(self.device.as_deref());
        match (address.unwrap_or("?"), &self.hostname) {
            (address, Some(name)) => format!("{address} ({name})"),
            (address, None) => address.to_owned(),
        }
    }

    fn row(&self, layout: &Layout) -> [String; COLUMNS.len()] {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let off_by = match self.off_by_seconds {
            0 => "-".to_owned(),
            seconds => spoken(Duration::from_secs(seconds)),
        };
        [
            or_dash(&self.address),
            or_dash(&self.hostname),
            or_dash(&self.mac),
            made_by(self.vendor.as_deref(), self.mac_randomised).unwrap_or_else(|| "-".to_owned()),
            grouped(self.connections),
            some(&self.ports),
            some(&self.to),
            shown(&self.first, &layout.zone, DATE_AND_TIME),
            shown(&self.last, &layout.zone, DATE_AND_TIME),
            off_by,
        ]
    }
}

/// The first few of `all`, and how many more there are.
fn some(all: &[impl Display]) -> String {
    let first: Vec<String> = all.iter().take(SHOWN).map(ToString::to_string).collect();
    match all.len().checked_sub(SHOWN) {
        None | Some(0) => first.join(" "),
        Some(more) => format!("{} +{more}", first.join(" ")),
    }
}

/// How the time asked for lies to what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lies {
    /// Nothing is kept.
    Nowhere,
    Before,
    /// It begins before.
    Across,
    Within,
    After,
}

fn lies(asked: &WhoAsked, known: Option<(Timestamp, Timestamp)>) -> Lies {
    let within = i64::try_from(asked.within.as_micros()).unwrap_or(i64::MAX);
    let (from, until) = (
        asked.at.plus_micros(within.saturating_neg()),
        asked.at.plus_micros(within),
    );
    match known {
        None => Lies::Nowhere,
        Some((first, _)) if until < first => Lies::Before,
        Some((_, last)) if from > last => Lies::After,
        Some((first, _)) if from < first => Lies::Across,
        Some(_) => Lies::Within,
    }
}

/// What limits the answer, and what to do next.
fn notes(asked: &WhoAsked, answer: &WhoAnswer) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(note) = about_time(asked, answer.known) {
        notes.push(note);
    }
    if answer.dropped > 0 {
        notes.push(format!(
            "connections that were dropped before their time, because there were too many: {}; some may be missing here",
            grouped(answer.dropped)
        ));
    }
    if answer.omitted > 0 {
        notes.push(format!(
            "connections of more devices than can be listed: {}; make --within shorter",
            grouped(answer.omitted)
        ));
    }
    match answer.candidates.len() {
        0 if answer.known.is_some() => notes.extend(to_find_more(asked)),
        2.. if asked.port.is_none() => notes.push(
            "ask whoever complains for the source port and the exact time (RFC 6302): --port makes it one device"
                .to_owned(),
        ),
        _ => {}
    }
    notes
}

/// Where the time lies outside what is kept, wholly or in part.
fn about_time(asked: &WhoAsked, known: Option<(Timestamp, Timestamp)>) -> Option<String> {
    let (first, last) = known.unwrap_or_default();
    match lies(asked, known) {
        Lies::Within => None,
        Lies::Nowhere => Some(format!(
            "no connection is kept as it was outside: smtpwatch watch keeps them for {KEPT}, as the kernel's \
             connection tracking tells of them; is it running on the gateway that translates {}?",
            asked.public_ip
        )),
        Lies::Before => Some(format!(
            "{} lies before all that is kept, which begins at {first} (connections are kept for {KEPT})",
            asked.at
        )),
        Lies::Across => Some(format!(
            "what is kept begins at {first}: who was there before, within the time asked for, is not known"
        )),
        Lies::After => Some(format!(
            "nothing was kept after {last}: either nobody has sent anything since, or smtpwatch watch does not run"
        )),
    }
}

/// What to try where nothing was found.
fn to_find_more(asked: &WhoAsked) -> Vec<String> {
    const WIDER: [(u64, &str); 3] = [(900, "15m"), (3_600, "1h"), (10_800, "3h")];
    let mut hints = Vec::new();
    let wider = WIDER
        .iter()
        .find(|(seconds, _)| asked.within.as_secs() < *seconds);
    if let Some((_, wider)) = wider {
        hints.push(format!(
            "try --within {wider}: clocks differ; and --timezone where the complaint's zone is another"
        ));
    }
    match asked.port {
        Some(25) => hints.push(
            "port 25 is the mail server's own; give the source port, or leave --port out"
                .to_owned(),
        ),
        Some(_) => hints.push("try without --port".to_owned()),
        None => {}
    }
    if asked.to.is_some() {
        hints.push(
            "try without --to: the complaint may come from another server than the one written to"
                .to_owned(),
        );
    }
    hints.push(format!(
        "is {} the address that this gateway has outside? Behind a provider's NAT (100.64.0.0/10) only the provider can tell",
        asked.public_ip
    ));
    hints
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::tz::TimeZone;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000 + seconds)
    }

    fn asked(port: Option<u16>) -> WhoAsked {
        WhoAsked {
            public_ip: "203.0.113.7".parse().unwrap(),
            at: at(0),
            within: Duration::from_secs(300),
            port,
            to: None,
        }
    }

    fn candidate(last: u8, off_by: i64) -> Candidate {
        Candidate {
            device: Some(format!("lan0/00:14:22:00:00:{last:02x}")),
            mac: Some(format!("00:14:22:00:00:{last:02x}")),
            hostname: Some("pc\u{1b}[2J".to_owned()),
            inside: BTreeSet::from([[192, 168, 1, last].into()]),
            ports: (40_000..40_009).collect(),
            destinations: BTreeSet::from(["198.51.100.25".parse().unwrap()]),
            first: at(-10),
            last: at(5),
            connections: 9,
            off_by,
        }
    }

    fn answer(candidates: Vec<Candidate>) -> WhoAnswer {
        WhoAnswer {
            connections: candidates.len() as u64 * 9,
            candidates,
            known: Some((at(-86_400), at(60))),
            ..WhoAnswer::default()
        }
    }

    fn who(asked: &WhoAsked, answer: WhoAnswer) -> Who {
        Who::new(asked, answer, |_| Some("Dell".to_owned()))
    }

    fn table(who: &Who) -> String {
        let layout = Layout {
            zone: TimeZone::UTC,
            top: 10,
            width: None,
        };
        let mut text = Vec::new();
        who.table(&layout, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_port_and_the_very_time_make_it_certain() {
        let exact = who(&asked(Some(40_001)), answer(vec![candidate(23, 0)]));
        let text = table(&exact);
        assert!(
            text.starts_with(
                "192.168.1.23 (pc\\u{1b}[2J) was behind 203.0.113.7 at 2023-11-14 22:13:20\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("Dell") && text.contains("40000 40001 40002 40003 +5"),
            "{text}"
        );
        assert!(
            !text.contains('\u{1b}') || !text.contains("\u{1b}[2J"),
            "{text}"
        );
        assert_eq!(exact.notes, Vec::<String>::new());
        assert!(exact.complete && exact.is_found());
        for (port, off_by) in [(None, 0), (Some(40_001), 7_000_000)] {
            let guess = who(&asked(port), answer(vec![candidate(23, off_by)]));
            assert!(table(&guess).contains("may have been behind"));
            assert!(!guess.candidates[0].exact);
        }
    }

    #[test]
    fn several_are_listed_and_the_port_is_asked_for() {
        let several = who(
            &asked(None),
            answer(vec![candidate(23, 0), candidate(24, 0)]),
        );
        assert!(table(&several).starts_with("2 devices may have been behind"));
        assert!(
            several.notes[0].contains("source port"),
            "{:?}",
            several.notes
        );
    }

    #[test]
    fn what_is_not_kept_is_said() {
        for (since, until, complete, says) in [
            (600, 900, false, "before all that is kept"),
            (-100, 900, false, "what is kept begins at"),
            (-900, 900, true, "try --within 15m"),
            (-900, -600, false, "nothing was kept after"),
        ] {
            let mut nobody = answer(Vec::new());
            nobody.known = Some((at(since), at(until)));
            let nobody = who(&asked(None), nobody);
            assert!(
                nobody.notes[0].contains(says),
                "{since}: {:?}",
                nobody.notes
            );
            assert_eq!(nobody.complete, complete, "{since}");
            assert!(!nobody.is_found());
            assert!(table(&nobody).starts_with("No device is known to have been behind"));
        }
        let mut none = answer(Vec::new());
        none.known = None;
        let none = who(&asked(None), none);
        assert!(
            none.notes[0].contains("no connection is kept"),
            "{:?}",
            none.notes
        );
        assert_eq!(none.notes.len(), 1);
    }

    #[test]
    fn hints_fit_the_question() {
        let mut question = asked(Some(25));
        question.to = Some("198.51.100.25".parse().unwrap());
        question.within = Duration::from_secs(20_000);
        let notes = who(&question, answer(Vec::new())).notes.join("\n");
        for part in [
            "port 25 is the mail server's own",
            "try without --to",
            "only the provider",
        ] {
            assert!(notes.contains(part), "no {part:?} in\n{notes}");
        }
        assert!(!notes.contains("--within"), "{notes}");
    }

    #[test]
    fn what_was_left_out_makes_it_incomplete() {
        let mut cut = answer(vec![candidate(23, 0)]);
        cut.omitted = 3;
        assert!(!who(&asked(None), cut.clone()).complete);
        cut.omitted = 0;
        cut.dropped = 12_345;
        let cut = who(&asked(None), cut);
        assert!(
            !cut.complete && cut.notes[0].contains("12,345"),
            "{:?}",
            cut.notes
        );
    }

    #[test]
    fn the_shape_is_the_one_that_is_promised() {
        let who = who(&asked(Some(40_001)), answer(vec![candidate(23, 0)]));
        let mut text = Vec::new();
        who.json(&mut text).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(json["schema"], "smtpwatch.who.v1");
        assert_eq!(json["asked"]["public_ip"], "203.0.113.7");
        assert_eq!(json["asked"]["within_seconds"], 300);
        assert_eq!(json["complete"], true);
        let named = &json["candidates"][0];
        assert_eq!(named["address"], "192.168.1.23");
        assert_eq!(named["vendor"], "Dell");
        assert_eq!(named["exact"], true);
        assert_eq!(named["ports"].as_array().unwrap().len(), 9);
        assert_eq!(named["to"][0], "198.51.100.25");
    }
}
