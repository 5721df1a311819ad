//! Where a live run is shown: a screen, lines of text, or JSON events.

use std::io::{self, Write};

use anstream::AutoStream;
use jiff::tz::TimeZone;
use ratatui::DefaultTerminal;

use super::printer::Printer;
use crate::engine::{Effect, Engine};
use crate::model::Timestamp;
use crate::settings::flags::watch::EventKind;
use crate::view::{LiveView, Report, event, for_terminal, told};

/// Where a live run is shown.
pub(crate) struct Sink {
    face: Face,
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
}

enum Face {
    Screen(Box<(DefaultTerminal, LiveView)>),
    Lines,
    Events(Printer),
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
            Shown::Screen => Face::Screen(Box::new((ratatui::try_init()?, LiveView::default()))),
            Shown::Lines => Face::Lines,
            Shown::Events => Face::Events(Printer::start(io::stdout())?),
        };
        Ok(Self {
            face,
            zone,
            is_loud,
            is_quiet,
            title,
            events,
            has_news: true,
        })
    }

    /// Whether keys are typed at it.
    pub(super) fn has_keys(&self) -> bool {
        matches!(self.face, Face::Screen(_))
    }

    /// Whether nobody looks any more (a closed pipe).
    pub(super) fn is_over(&self) -> bool {
        match &self.face {
            Face::Events(printer) => printer.is_over(),
            Face::Screen(_) | Face::Lines => false,
        }
    }

    /// Shows what followed from an input.
    pub(super) fn show(&mut self, effect: &Effect, engine: &Engine, now: Timestamp) {
        self.has_news = true;
        if let Face::Events(printer) = &mut self.face
            && self.events.contains(&event::kind(effect))
        {
            printer.line(|to| event::write(effect, engine, now, to));
        }
        if let Some((text, is_alarm)) = told(effect, engine) {
            self.tell(&text, is_alarm, engine.wall(now));
        }
    }

    fn tell(&mut self, text: &str, is_alarm: bool, time: Timestamp) {
        match &mut self.face {
            Face::Screen(screen) => screen.1.say(time, &self.zone, text, is_alarm),
            Face::Lines => {
                let kind = if is_alarm { "ALERT " } else { "" };
                // Where nobody reads any more the run goes on: it may have rules to look after.
                let _ = writeln!(
                    AutoStream::auto(io::stdout()),
                    "{time} {kind}{}",
                    for_terminal(text)
                );
            }
            Face::Events(_) => {}
        }
        let is_said = is_alarm && self.is_loud || !is_alarm && !self.is_quiet;
        if is_said && matches!(self.face, Face::Events(_)) {
            let kind = if is_alarm { "ALERT: " } else { "" };
            let _ = writeln!(
                anstream::stderr(),
                "smtpwatch: {kind}{}",
                for_terminal(text)
            );
        }
    }

    /// Says something that is no event of the engine's.
    pub(super) fn say(&mut self, text: &str, now: Timestamp) {
        self.has_news = true;
        self.tell(text, false, now);
    }

    /// Hands on what is waiting, and draws the screen anew where there is something new.
    pub(super) fn refresh(&mut self, engine: &Engine) {
        match &mut self.face {
            Face::Screen(screen) if self.has_news => {
                let (terminal, view) = screen.as_mut();
                // A terminal that is gone ends the run by its signal.
                let _ = terminal.draw(|frame| view.draw(frame, engine, &self.title, &self.zone));
                self.has_news = false;
            }
            Face::Events(printer) => printer.flush(),
            Face::Screen(_) | Face::Lines => {}
        }
    }

    /// Draws anew at the next occasion, for the terminal has another size.
    pub(super) fn resize(&mut self) {
        self.has_news = true;
    }

    /// Gives the terminal back; for events, writes the report as the last of them. Answers how many
    /// lines were dropped because nobody read them in time.
    pub(crate) fn finish(self, report: &Report, now: Timestamp) -> io::Result<u64> {
        match self.face {
            Face::Screen(_) => {
                ratatui::try_restore()?;
                Ok(0)
            }
            Face::Lines => Ok(0),
            Face::Events(mut printer) => {
                if self.events.contains(&EventKind::Report) {
                    printer.line(|to| event::write_report(report, now, to));
                }
                printer.finish()
            }
        }
    }
}
