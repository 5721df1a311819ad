//! Keys typed at the live table.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::sys::readiness::Readiness;

/// What was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// End the run.
    Quit,
    /// The terminal has another size.
    Resize,
    /// Nothing of meaning.
    Other,
}

/// The keyboard, where there is one.
pub(super) struct Keys {
    readiness: Option<Readiness>,
    /// Whether more may wait than was read.
    has_more: Cell<bool>,
}

impl Keys {
    /// Standard input, if it `is_wanted`.
    pub(super) fn open(is_wanted: bool) -> io::Result<Self> {
        let open = || Readiness::of(&io::stdin());
        Ok(Self {
            readiness: is_wanted.then(open).transpose()?,
            has_more: Cell::new(false),
        })
    }

    /// What is typed next.
    pub(super) async fn typed(&self) -> Typed {
        let Some(readiness) = &self.readiness else {
            return std::future::pending().await;
        };
        loop {
            if self.has_more.get() {
                match waiting() {
                    Some(typed) => return typed,
                    None => self.has_more.set(false),
                }
            }
            if readiness.wait().await.is_err() {
                return std::future::pending().await;
            }
            self.has_more.set(true);
        }
    }
}

/// The next event that waits; a keyboard that fails says nothing more.
fn waiting() -> Option<Typed> {
    if !event::poll(Duration::ZERO).unwrap_or(false) {
        return None;
    }
    event::read().ok().map(|event| meaning(&event))
}

fn meaning(event: &Event) -> Typed {
    match event {
        Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => Typed::Quit,
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                Typed::Quit
            }
            _ => Typed::Other,
        },
        Event::Resize(..) => Typed::Resize,
        _ => Typed::Other,
    }
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn q_escape_and_control_c_quit() {
        let key = |code, modifiers| meaning(&Event::Key(KeyEvent::new(code, modifiers)));
        for (code, modifiers) in [
            (KeyCode::Char('q'), KeyModifiers::NONE),
            (KeyCode::Esc, KeyModifiers::NONE),
            (KeyCode::Char('c'), KeyModifiers::CONTROL),
        ] {
            assert_eq!(key(code, modifiers), Typed::Quit, "{code:?}");
        }
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), Typed::Other);
        assert_eq!(meaning(&Event::Resize(80, 24)), Typed::Resize);
    }
}
