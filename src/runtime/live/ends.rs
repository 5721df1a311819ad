//! What calls a run: signals, and its time. A hangup is what daemons are told to read their
//! configuration by, and what a terminal that goes sends to those on it: which of them it is shows by
//! whether the terminal is still there.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

/// What is asked of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// To end.
    End,
    /// To read its configuration again.
    Reload,
}

/// What ends a run, and what interrupts it. It is there before the rules are, so that no signal takes
/// the program away and leaves them.
pub(crate) struct Ends {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    at: Option<Instant>,
    /// Whether there was a controlling terminal at the start.
    had_terminal: bool,
}

impl Ends {
    /// Listens to signals from here on, within a runtime; ends after `time`, where one is given.
    pub(crate) fn new(time: Option<Duration>) -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            at: time.and_then(|time| Instant::now().checked_add(time)),
            had_terminal: terminal().is_ok(),
        })
    }

    /// Waits for the next call.
    pub(super) async fn called(&mut self) -> Call {
        let at = self.at;
        let time = async {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Call::End,
            _ = self.terminate.recv() => Call::End,
            _ = self.hangup.recv() => of_hangup(self.had_terminal, terminal().is_ok()),
            () = time => Call::End,
        }
    }
}

/// What a hangup means where there was a terminal or not, and where there is one or not.
fn of_hangup(had_terminal: bool, has_terminal: bool) -> Call {
    if had_terminal && !has_terminal {
        Call::End
    } else {
        Call::Reload
    }
}

/// The controlling terminal, where there is one that has not hung up (tty(4): else ENXIO or EIO).
fn terminal() -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open("/dev/tty")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hangup_ends_a_run_that_has_lost_its_terminal() {
        assert_eq!(of_hangup(true, false), Call::End);
        for (had, has) in [(true, true), (false, false), (false, true)] {
            assert_eq!(of_hangup(had, has), Call::Reload, "{had} {has}");
        }
    }
}
