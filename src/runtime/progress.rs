//! A progress bar on standard error: on a terminal, and only where reading takes more than a second.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::clock;

const PATIENCE: Duration = Duration::from_secs(1);

/// Progress through some number of bytes.
pub(super) struct Progress {
    started: Instant,
    total: Option<u64>,
    done: AtomicU64,
    is_wanted: bool,
    bar: OnceLock<ProgressBar>,
}

impl Progress {
    /// Progress through `total` bytes, where that is known; shown only if `is_wanted`.
    pub(super) fn new(total: Option<u64>, is_wanted: bool) -> Self {
        Self {
            started: clock::moment(),
            total,
            done: AtomicU64::new(0),
            is_wanted,
            bar: OnceLock::new(),
        }
    }

    /// `bytes` more have been read.
    pub(super) fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if self.is_wanted && self.started.elapsed() > PATIENCE {
            self.bar.get_or_init(|| self.bar()).set_position(done);
        }
    }

    /// Takes the bar off the screen.
    pub(super) fn finish(&self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }

    fn bar(&self) -> ProgressBar {
        // indicatif draws nothing where standard error is no terminal.
        let bar = ProgressBar::with_draw_target(self.total, ProgressDrawTarget::stderr());
        let template = match self.total {
            Some(_) => "reading {bar:32} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            None => "reading {spinner} {bytes}, {bytes_per_sec}",
        };
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}
