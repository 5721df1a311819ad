//! Where a live run is shown: a screen, lines of text, or JSON events.

use std::io::{self, Write};

use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::terminal::disable_raw_mode;

use super::printer::{Pen, Printed, Printer};
use crate::engine::{Effect, Engine};
use crate::model::Timestamp;
use crate::settings::flags::watch::EventKind;
use crate::view::{LiveView, Report, event, for_terminal, told};

/// Microseconds between two times that something is printed, ticks apart.
const PRINTED_EVERY: i64 = 50_000;

/// Where a live run is shown.
pub(crate) struct Sink {
    face: Face,
    /// Standard error, beside events.
    aside: Option<Printer>,
    zone: TimeZone,
    /// The kinds of events that are printed.
    events: Vec<EventKind>,
    /// Whether alarms are said on standard error at once.
    is_loud: bool,
    /// Whether other news is said there.
    is_quiet: bool,
    /// What runs, in a few words.
    title: String,
    has_news: bool,
    printed: Timestamp,
}

enum Face {
    Screen(Box<Screen>),
    Lines(Printer),
    Events(Printer),
}

/// The live table. What is drawn goes to the terminal by way of a printer: a line that hangs takes
/// nothing any more, and that must hold nothing up.
struct Screen {
    terminal: Terminal<CrosstermBackend<Pen>>,
    printer: Printer,
    pen: Pen,
    view: LiveView,
}

impl Screen {
    fn open() -> io::Result<Self> {
        // Raw mode, the other screen, and both given back where the program fails.
        drop(ratatui::try_init()?);
        let pen = Pen::default();
        Ok(Self {
            terminal: Terminal::new(CrosstermBackend::new(pen.clone()))?,
            printer: Printer::start(io::stdout())?,
            pen,
            view: LiveView::default(),
        })
    }

    /// Draws, where the terminal has taken what was drawn before; answers whether it has.
    fn draw(&mut self, engine: &Engine, title: &str, zone: &TimeZone) -> bool {
        if !self.printer.is_idle() {
            return false;
        }
        let Self { terminal, view, .. } = self;
        // A terminal that is gone ends the run by its signal.
        let _ = terminal.draw(|frame| view.draw(frame, engine, title, zone));
        self.print();
        true
    }

    fn print(&mut self) {
        let drawn = self.pen.take();
        self.printer.line(|to| to.write_all(&drawn));
        self.printer.flush();
    }

    fn finish(mut self) -> io::Result<Printed> {
        let is_shown = self.terminal.show_cursor();
        self.print();
        let printed = self.printer.finish();
        match printed {
            Ok(Printed {
                is_stuck: false, ..
            }) => {
                is_shown?;
                ratatui::try_restore()?;
                Ok(Printed::default())
            }
            // To say good-bye to it would wait for ever.
            Ok(_) => {
                disable_raw_mode()?;
                Ok(Printed {
                    dropped: 0,
                    is_stuck: true,
                })
            }
            Err(error) => {
                disable_raw_mode()?;
                Err(error)
            }
        }
    }
}

/// How the run is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The live table.
    Screen,
    /// A line of text for what is worth one.
    Lines,
    /// JSON, one event a line.
    Events,
}

impl Sink {
    /// Opens it.
    pub(crate) fn open(
        shown: Shown,
        zone: TimeZone,
        title: String,
        events: Vec<EventKind>,
        is_loud: bool,
        is_quiet: bool,
    ) -> io::Result<Self> {
        let face = match shown {
            Shown::Screen => Face::Screen(Box::new(Screen::open()?)),
            Shown::Lines => Face::Lines(Printer::start(io::stdout())?),
            Shown::Events => Face::Events(Printer::start(io::stdout())?),
        };
        let aside = match face {
            Face::Events(_) => Some(Printer::start(io::stderr())?),
            Face::Screen(_) | Face::Lines(_) => None,
        };
        Ok(Self {
            face,
            aside,
            zone,
            is_loud,
            is_quiet,
            title,
            events,
            has_news: true,
            printed: Timestamp::default(),
        })
    }

    /// Whether keys are typed at it.
    pub(super) fn has_keys(&self) -> bool {
        matches!(self.face, Face::Screen(_))
    }

    /// Whether nobody looks any more (a closed pipe).
    pub(super) fn is_over(&self) -> bool {
        match &self.face {
            Face::Events(printer) | Face::Lines(printer) => printer.is_over(),
            Face::Screen(_) => false,
        }
    }

    /// Shows what followed from an input.
    pub(super) fn show(&mut self, effect: &Effect, engine: &Engine, now: Timestamp) {
        self.has_news = true;
        if let Face::Events(printer) = &mut self.face
            && event::kind(effect).is_some_and(|kind| self.events.contains(&kind))
        {
            printer.line(|to| event::write(effect, engine, now, to));
        }
        if let Some((text, is_alarm)) = told(effect, engine) {
            self.tell(&text, is_alarm, engine.wall(now));
        }
    }

    fn tell(&mut self, text: &str, is_alarm: bool, time: Timestamp) {
        match &mut self.face {
            Face::Screen(screen) => screen.view.say(time, &self.zone, text, is_alarm),
            Face::Lines(printer) => {
                let kind = if is_alarm { "ALERT " } else { "" };
                printer.line(|to| writeln!(to, "{time} {kind}{}", for_terminal(text)));
            }
            Face::Events(_) => {}
        }
        let is_said = is_alarm && self.is_loud || !is_alarm && !self.is_quiet;
        if let Some(aside) = &mut self.aside
            && is_said
        {
            let kind = if is_alarm { "ALERT: " } else { "" };
            aside.line(|to| writeln!(to, "smtpwatch: {kind}{}", for_terminal(text)));
        }
    }

    /// Says something that is no event of the engine's.
    pub(super) fn say(&mut self, text: &str, now: Timestamp) {
        self.has_news = true;
        self.tell(text, false, now);
    }

    /// Prints what is new, unless that was done a moment ago: the next tick does, then.
    pub(super) fn print(&mut self, now: Timestamp) {
        if now.micros_since(self.printed) >= PRINTED_EVERY {
            self.printed = now;
            self.hand_on();
        }
    }

    fn hand_on(&mut self) {
        if let Face::Events(printer) | Face::Lines(printer) = &mut self.face {
            printer.hand_on();
        }
        if let Some(aside) = &mut self.aside {
            aside.hand_on();
        }
    }

    /// Hands on what is waiting, and draws the screen anew where there is something new.
    pub(super) fn refresh(&mut self, engine: &Engine) {
        if let Face::Screen(screen) = &mut self.face
            && self.has_news
        {
            self.has_news = !screen.draw(engine, &self.title, &self.zone);
        }
        self.hand_on();
    }

    /// Draws anew at the next occasion, for the terminal has another size.
    pub(super) fn resize(&mut self) {
        self.has_news = true;
    }

    /// Gives the terminal back; for events, writes the report as the last of them.
    pub(crate) fn finish(self, report: &Report, now: Timestamp) -> io::Result<Printed> {
        // Where standard error is gone or stuck there is nobody to tell.
        let aside = self.aside.map(Printer::finish);
        let mut printed = match self.face {
            Face::Screen(screen) => screen.finish()?,
            Face::Lines(printer) => printer.finish()?,
            Face::Events(mut printer) => {
                if self.events.contains(&EventKind::Report) {
                    printer.line(|to| event::write_report(report, now, to));
                }
                printer.finish()?
            }
        };
        if let Some(Ok(aside)) = aside {
            printed.dropped += aside.dropped;
        }
        Ok(printed)
    }
}
