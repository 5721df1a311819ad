//! The live table: how well it sees, the devices with the worst on top, and what was said last.
//!
//! Only draws; what is shown is read from the engine, and everything that came from the network is
//! escaped. Opening a terminal and reading keys is the runtime's.

use std::collections::VecDeque;

use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table, Wrap};

use super::escape::terminal;
use super::table::made_by;
use crate::engine::{Device, Engine, SourceHealth, grouped};
use crate::model::{Direction, Mac, Outcome, Timestamp, Verdict};

/// Messages that are kept for the screen.
const MAX_MESSAGES: usize = 100;
/// Characters of a name or an address at the most: an IPv6 address has up to 39.
const MAX_CELL: usize = 39;
/// The column of answered attempts, counted from 0.
const ANSWERED: usize = 7;
/// Characters of a line that has room for it.
const WITH_ANSWERED: u16 = 122;
/// Lines that the messages take at the most.
const MESSAGE_LINES: u16 = 8;

/// What the screen shows beside the engine's own knowledge.
#[derive(Debug, Default)]
pub(crate) struct LiveView {
    messages: VecDeque<Message>,
}

#[derive(Debug)]
struct Message {
    time: String,
    text: String,
    is_alarm: bool,
}

impl LiveView {
    /// Adds a message; the oldest makes room.
    pub(crate) fn say(&mut self, time: Timestamp, zone: &TimeZone, text: &str, is_alarm: bool) {
        if self.messages.len() == MAX_MESSAGES {
            self.messages.pop_front();
        }
        self.messages.push_back(Message {
            time: time_of_day(time, zone),
            text: terminal(text),
            is_alarm,
        });
    }

    /// Draws everything. `title` says what runs.
    pub(crate) fn draw(
        &self,
        frame: &mut Frame<'_>,
        engine: &Engine,
        title: &str,
        zone: &TimeZone,
    ) {
        let said = u16::try_from(self.messages.len()).unwrap_or(u16::MAX);
        let [head, table, messages] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Min(3),
            Constraint::Length(said.saturating_mul(2).min(MESSAGE_LINES) + 1),
        ])
        .areas(frame.area());
        frame.render_widget(header(engine, title), head);
        devices(frame, table, engine, zone);
        self.draw_messages(frame, messages);
    }

    fn draw_messages(&self, frame: &mut Frame<'_>, area: Rect) {
        // The news comes first: what does not fit is what is oldest.
        let lines: Vec<Line<'_>> = self
            .messages
            .iter()
            .rev()
            .take(usize::from(area.height))
            .map(|message| {
                let style = if message.is_alarm {
                    Style::new().fg(Color::Red)
                } else {
                    Style::new()
                };
                Line::from(vec![
                    Span::raw(message.time.as_str()).dim(),
                    Span::raw(" "),
                    Span::styled(message.text.as_str(), style),
                ])
            })
            .collect();
        let block = Block::new().borders(Borders::TOP).dim();
        let inner = block.inner(area);
        frame.render_widget(block, area);
        frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), inner);
    }
}

fn header<'a>(engine: &Engine, title: &str) -> Paragraph<'a> {
    let totals = engine.totals();
    let outbound = totals.direction(Direction::Outbound);
    let counted = format!(
        "{} devices, {} attempts ({} SYNs) to the Internet",
        grouped(engine.devices().count() as u64 + totals.evicted_devices),
        grouped(outbound.attempts),
        grouped(outbound.syns),
    );
    let sources = engine.health().sources();
    let lost: u64 = sources.iter().map(SourceHealth::missed).sum();
    let is_blind = sources
        .iter()
        .any(|source| source.is_blind || !source.is_open);
    let sight = match (is_blind, lost) {
        (true, _) => format!("BLIND, {} not seen", grouped(lost)).red().bold(),
        (false, 0) => "nothing lost".green(),
        (false, _) => format!("{} not seen", grouped(lost)).yellow(),
    };
    Paragraph::new(vec![
        Line::from(vec![
            Span::raw("smtpwatch: ").bold(),
            Span::raw(terminal(title)),
            Span::raw("  (q quits)").dim(),
        ]),
        Line::from(vec![Span::raw(counted), Span::raw(" \u{b7} "), sight]),
    ])
}

fn devices(frame: &mut Frame<'_>, area: Rect, engine: &Engine, zone: &TimeZone) {
    let room = usize::from(area.height.saturating_sub(1));
    let rows = worst(engine, room);
    let has_room = area.width >= WITH_ANSWERED;
    let has_outcomes = has_room && rows.iter().any(|device| device.outcomes().known() > 0);
    let widths = [
        Constraint::Length(10),
        Constraint::Length(widest(&rows, 15, |device| address(device).chars().count())),
        Constraint::Length(widest(&rows, 4, |device| {
            device
                .hostname
                .as_deref()
                .map_or(1, |name| terminal(name).chars().count())
        })),
        Constraint::Length(17),
        Constraint::Length(widest(&rows, 6, |device| made(device).chars().count())),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
    ];
    let widths = shown(widths, has_outcomes);
    let texts = ["VERDICT", "DEVICE", "NAME", "MAC", "VENDOR", "IN"].map(Line::from);
    let numbers = ["ATTEMPTS", "ANSWERED", "SERVERS", "PEAK/MIN"]
        .map(|title| Line::from(title).right_aligned());
    let titles = texts.into_iter().chain(numbers).chain([Line::from("LAST")]);
    let header = Row::new(shown(titles.map(Cell::from), has_outcomes))
        .style(Style::new().add_modifier(Modifier::DIM));
    let rows = rows
        .into_iter()
        .map(|device| row(device, has_outcomes, engine, zone));
    frame.render_widget(
        Table::new(rows, widths).header(header).column_spacing(2),
        area,
    );
}

/// What is shown of the columns: the one of answers only where there are any.
fn shown<T>(columns: impl IntoIterator<Item = T>, has_outcomes: bool) -> Vec<T> {
    let columns = columns.into_iter().enumerate();
    columns
        .filter(|(index, _)| has_outcomes || *index != ANSWERED)
        .map(|(_, column)| column)
        .collect()
}

/// As wide as the widest, between `least` and what a long name may take.
fn widest(devices: &[&Device], least: usize, width: impl Fn(&Device) -> usize) -> u16 {
    let widest = devices.iter().map(|device| width(device)).max();
    let width = widest.unwrap_or(0).clamp(least, MAX_CELL);
    u16::try_from(width).unwrap_or(u16::MAX)
}

/// The address it was seen with last.
fn address(device: &Device) -> String {
    match device.addresses.last() {
        Some(address) => address.to_string(),
        None => device.key.to_string(),
    }
}

/// Who made its network card.
fn made(device: &Device) -> String {
    let is_randomised = device.mac().is_some_and(Mac::is_randomised);
    made_by(device.vendor(), is_randomised).unwrap_or_else(|| "-".to_owned())
}

/// The `count` devices with the worst verdicts and the most attempts.
fn worst(engine: &Engine, count: usize) -> Vec<&Device> {
    let weight = |device: &Device| (device.verdict(), device.attempts);
    let mut devices: Vec<&Device> = engine.devices().map(|(_, device)| device).collect();
    if devices.len() > count && count > 0 {
        devices.select_nth_unstable_by(count, |a, b| weight(b).cmp(&weight(a)));
    }
    devices.truncate(count);
    devices.sort_by(|a, b| weight(b).cmp(&weight(a)).then_with(|| a.key.cmp(&b.key)));
    devices
}

fn row<'a>(device: &Device, has_outcomes: bool, engine: &Engine, zone: &TimeZone) -> Row<'a> {
    let style = match device.verdict() {
        Verdict::Infected => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        Verdict::Suspicious => Style::new().fg(Color::Yellow),
        Verdict::Normal | Verdict::Allowed => Style::new(),
    };
    let destinations = device.destinations();
    let outcomes = device.outcomes();
    let cells = [
        text(&device.verdict().to_string()),
        text(&address(device)),
        text(device.hostname.as_deref().unwrap_or("-")),
        text(&device.mac().map_or("-".to_owned(), |mac| mac.to_string())),
        text(&made(device)),
        text(
            &device
                .interface()
                .map_or("-".to_owned(), |interface| interface.name()),
        ),
        number(device.attempts),
        if outcomes.known() > 0 {
            number(outcomes.get(Outcome::Answered))
        } else {
            Cell::new(Line::from("-").right_aligned())
        },
        number(destinations.addresses as u64),
        number(device.peak_per_minute),
        text(&time_of_day(engine.wall(device.last_seen), zone)),
    ];
    Row::new(shown(cells, has_outcomes)).style(style)
}

fn text<'a>(text: &str) -> Cell<'a> {
    Cell::new(terminal(text))
}

fn number<'a>(number: u64) -> Cell<'a> {
    Cell::new(Line::from(grouped(number)).right_aligned())
}

fn time_of_day(time: Timestamp, zone: &TimeZone) -> String {
    match jiff::Timestamp::from_microsecond(time.as_micros()) {
        Ok(timestamp) => timestamp
            .to_zoned_datetime(zone.clone())
            .strftime("%T")
            .to_string(),
        Err(_) => time.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::attribution::leases::LeaseBook;
    use crate::engine::{Input, traffic};
    use crate::model::{Notice, Response, ResponseKind, SourceName};
    use crate::settings::Settings;

    fn drawn(engine: &Engine, view: &LiveView, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal
            .draw(|frame| view.draw(frame, engine, "watching nflog", &TimeZone::UTC))
            .unwrap();
        terminal.backend().to_string()
    }

    fn watching() -> Engine {
        let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 7);
        let start = Timestamp::from_seconds(1_700_000_000);
        let source = SourceName::Nflog;
        engine.handle(Input::Notice(Notice::SourceReady { source }), start);
        for (now, input) in traffic::syns(1, start, 500) {
            engine.handle(input, now);
        }
        engine
    }

    #[test]
    fn the_worst_is_on_top_and_the_news_is_at_the_bottom() {
        let engine = watching();
        let mut view = LiveView::default();
        let time = Timestamp::from_seconds(1_700_000_000);
        view.say(time, &TimeZone::UTC, "older", false);
        view.say(time, &TimeZone::UTC, "newer \u{1b}[2J", true);
        let screen = drawn(&engine, &view, 130, 20);
        let place = |text: &str| {
            screen
                .find(text)
                .unwrap_or_else(|| panic!("{text} is not on\n{screen}"))
        };
        assert!(place("nothing lost") < place("VERDICT"), "{screen}");
        assert!(place("VERDICT") < place("infected"), "{screen}");
        assert!(place("infected") < place("newer \\u{1b}[2J"), "{screen}");
        assert!(place("newer") < place("older"), "{screen}");
        assert!(screen.contains("22:13:20"), "{screen}");
    }

    #[test]
    fn answers_have_a_column_where_there_are_any_and_there_is_room() {
        let mut engine = watching();
        assert!(!drawn(&engine, &LiveView::default(), 140, 20).contains("ANSWERED"));
        let start = Timestamp::from_seconds(1_700_000_000);
        for (now, input) in traffic::syns(2, start.plus_micros(10_000_000_000), 50) {
            if let Input::Syn(observation) = input {
                engine.handle(input, now);
                let response = Response {
                    time: now,
                    tuple: observation.tuple,
                    isn: observation.isn,
                    kind: ResponseKind::Accepted,
                    outside: None,
                    bytes: None,
                };
                engine.handle(Input::Response(response), now);
            }
        }
        let screen = drawn(&engine, &LiveView::default(), 140, 20);
        assert!(screen.contains("ATTEMPTS  ANSWERED   SERVERS"), "{screen}");
        assert!(!drawn(&engine, &LiveView::default(), 100, 20).contains("ANSWERED"));
    }

    #[test]
    fn a_source_that_does_not_see_is_said_to_be_blind() {
        let mut engine = watching();
        let now = Timestamp::from_seconds(1_700_001_000);
        let source = SourceName::Nflog;
        let why = "gone".to_owned();
        engine.handle(Input::Notice(Notice::SourceFailed { source, why }), now);
        let screen = drawn(&engine, &LiveView::default(), 100, 10);
        assert!(screen.contains("BLIND"), "{screen}");
    }

    #[test]
    fn any_size_can_be_drawn() {
        let engine = watching();
        for (width, height) in [(1, 1), (3, 2), (20, 4), (300, 90)] {
            let mut view = LiveView::default();
            for number in 0..200 {
                let text = format!("{number} {}", "x".repeat(300));
                view.say(Timestamp::default(), &TimeZone::UTC, &text, number % 2 == 0);
            }
            drawn(&engine, &view, width, height);
        }
    }
}
