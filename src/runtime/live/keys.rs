//! Keys typed at the live table.

use std::io;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

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
pub(super) struct Keys(Option<AsyncFd<io::Stdin>>);

impl Keys {
    /// Standard input, if it `is_wanted`.
    pub(super) fn open(is_wanted: bool) -> io::Result<Self> {
        let open = || AsyncFd::with_interest(io::stdin(), Interest::READABLE);
        is_wanted.then(open).transpose().map(Self)
    }

    /// What is typed next.
    pub(super) async fn typed(&self) -> Typed {
        let Some(stdin) = &self.0 else {
            return std::future::pending().await;
        };
        let Ok(mut guard) = stdin.readable().await else {
            return std::future::pending().await;
        };
        let typed = pending();
        if typed.is_none() {
            guard.clear_ready();
        }
        typed.unwrap_or(Typed::Other)
    }
}

/// The next event that waits; a keyboard that fails says nothing more.
fn pending() -> Option<Typed> {
    if !event::poll(Duration::ZERO).unwrap_or(false) {
        return None;
    }
    event::read().ok().map(|event| meaning(&event))
}

fn meaning(event: &Event) -> Typed {
    match event {
        Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => Typed::Quit,
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => Typed::Quit,
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
