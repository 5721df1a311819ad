//! A progress bar on standard error: on a terminal, and only where it takes more than a second.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::clock;

const PATIENCE: Duration = Duration::from_secs(1);

/// Progress through some number of bytes, or of hosts.
pub(super) struct Progress {
    started: Instant,
    template: &'static str,
    total: Option<u64>,
    done: AtomicU64,
    is_wanted: bool,
    bar: OnceLock<ProgressBar>,
}

impl Progress {
    /// Progress through `total` bytes, where that is known; shown only if `is_wanted`.
    pub(super) fn new(total: Option<u64>, is_wanted: bool) -> Self {
        let template = match total {
            Some(_) => "reading {bar:32} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            None => "reading {spinner} {bytes}, {bytes_per_sec}",
        };
        Self::with(template, total, is_wanted)
    }

    /// Progress through `total` simulated hosts; shown only if `is_wanted`.
    pub(super) fn of_hosts(total: u64, is_wanted: bool) -> Self {
        let template = "simulating {bar:32} {pos} of {len} hosts, {eta} left";
        Self::with(template, Some(total), is_wanted)
    }

    fn with(template: &'static str, total: Option<u64>, is_wanted: bool) -> Self {
        Self {
            started: clock::moment(),
            template,
            total,
            done: AtomicU64::new(0),
            is_wanted,
            bar: OnceLock::new(),
        }
    }

    /// So many more are done.
    pub(super) fn advance(&self, count: u64) {
        let done = self.done.fetch_add(count, Ordering::Relaxed) + count;
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
        match ProgressStyle::with_template(self.template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}
