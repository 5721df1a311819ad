//! A recorded run, run again: its inputs are handed to a new engine at the times at which they were taken.

use std::io;

use crate::attribution::leases::LeaseBook;
use crate::engine::{Effect, Engine};
use crate::model::Timestamp;
use crate::recording::{Player, RecordingError};

/// What came of it.
pub(crate) struct Replayed {
    /// The engine, with all that it knows.
    pub(crate) engine: Engine,
    /// The time that the last input bears.
    pub(crate) at: Timestamp,
    /// Why it ended early.
    pub(crate) error: Option<RecordingError>,
}

/// Runs the rest of `player`; hands what follows from each input, and when, to `each`.
pub(crate) fn replay(
    player: &mut Player,
    each: &mut dyn FnMut(&Effect, &Engine, Timestamp) -> io::Result<()>,
) -> io::Result<Replayed> {
    let header = player.header();
    let mut engine = Engine::new(header.settings.clone(), LeaseBook::default(), header.seed);
    let mut at = header.started_at;
    let mut error = None;
    for recorded in player.by_ref() {
        let (now, input) = match recorded {
            Ok(recorded) => recorded,
            Err(end) => {
                error = Some(end);
                break;
            }
        };
        at = now;
        engine.handle(input, now);
        for effect in engine.effects() {
            each(effect, &engine, now)?;
        }
    }
    Ok(Replayed { engine, at, error })
}
