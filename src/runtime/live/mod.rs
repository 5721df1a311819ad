//! The live run: sources, the network's own news and the rules are watched by one task, which owns
//! the engine. Nothing here decides anything; it reads what is there and hands it on.
//!
//! Before packets are read, news of neighbours and leases is: what a packet meets is then what held
//! when it was sent.

mod core;
mod dns;
mod ends;
mod guard;
mod keys;
mod printer;
mod reload;
mod sink;
mod slots;

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};

use super::clock::LiveClock;
use crate::engine::{Engine, Input};
use crate::model::{Notice, SourceName, Timestamp};
use crate::source::inventory::{Inventory, Lost};
use crate::source::names::Names;
use crate::store::Resumed;
use crate::sys::readiness::Readiness;

pub(crate) use self::core::Core;
pub(crate) use dns::Dns;
use ends::Call;
pub(crate) use ends::Ends;
pub(crate) use guard::Guard;
use keys::{Keys, Typed};
pub(crate) use printer::Printed;
pub(crate) use reload::Reloader;
pub(crate) use sink::{Shown, Sink};
pub(crate) use slots::Slots;

/// How often time is told to pass ...
const TICK: Duration = Duration::from_secs(1);
/// ... and how often while nothing happens: what is not woken costs nothing.
const IDLE_TICK: Duration = Duration::from_secs(5);
/// Between two readings of the rules' counters.
const COUNTED: Duration = Duration::from_secs(10);
/// How long a packet may be under way from the rule to the reader (NFLOG's timeout, and some).
const UNDER_WAY: Duration = Duration::from_millis(50);

/// A live run, ready to go.
pub(crate) struct Live {
    /// The engine and what follows its effects.
    pub(crate) core: Core,
    /// Where packets come from.
    pub(crate) slots: Slots,
    /// The rules that feed the sources.
    pub(crate) guard: Guard,
    /// Neighbours, routes, leases, names.
    pub(crate) inventory: Inventory,
    /// What that could not take in, as it was said last.
    pub(crate) overlooked: Lost,
    /// Why it cannot be asked now, as it was said last.
    pub(crate) unheard: Option<String>,
    /// The run's time.
    pub(crate) clock: LiveClock,
    /// What ends it.
    pub(crate) ends: Ends,
    /// What earlier runs left.
    pub(crate) resumed: Resumed,
    /// What reads the configuration again.
    pub(crate) reloader: Reloader,
}

/// What came of a live run.
pub(crate) struct Ended {
    /// The engine, with all that it knows.
    pub(crate) engine: Engine,
    /// Where it is shown, to be ended with the report.
    pub(crate) sink: Sink,
    /// The run's time at the end.
    pub(crate) at: Timestamp,
    /// What could not be kept or put back.
    pub(crate) troubles: Vec<String>,
}

impl Live {
    /// What it runs on: one thread, which owns everything.
    pub(crate) fn runtime() -> io::Result<Runtime> {
        Builder::new_current_thread().enable_all().build()
    }

    /// Runs until its end.
    pub(crate) fn run(self, runtime: &Runtime) -> io::Result<Ended> {
        runtime.block_on(self.watch())
    }

    async fn watch(mut self) -> io::Result<Ended> {
        let mut resized = signal(SignalKind::window_change())?;
        let keys = Keys::open(self.core.sink().has_keys())?;
        let mut ticked = Instant::now();
        let mut counted = ticked;
        let inventory = Readiness::of(&self.inventory)?;
        self.guard.listen()?;
        self.begin();
        loop {
            let pause = if self.is_idle() { IDLE_TICK } else { TICK };
            tokio::select! {
                biased;
                call = self.ends.called() => match call {
                    Call::End => break,
                    Call::Reload => self.reload(),
                },
                typed = keys.typed() => match typed {
                    Typed::Quit => break,
                    Typed::Resize => self.core.sink().resize(),
                    Typed::Other => {}
                },
                _ = resized.recv() => self.core.sink().resize(),
                () = sleep_until(ticked + pause) => {
                    ticked = Instant::now();
                    let counts = ticked - counted >= COUNTED;
                    if counts {
                        counted = ticked;
                    }
                    self.tick(counts);
                    if self.core.sink().is_over() {
                        break;
                    }
                }
                () = self.guard.changed() => {
                    self.guard.look(&mut self.core, &self.clock);
                    let now = self.clock.now();
                    self.core.sink().print(now);
                }
                (address, name) = self.core.named() => {
                    let now = self.clock.now();
                    self.core.name(address, name, now);
                }
                ready = inventory.wait() => {
                    ready?;
                    self.news();
                }
                place = self.slots.ready() => self.read(place),
            }
        }
        self.end().await
    }

    fn begin(&mut self) {
        let now = self.clock.now();
        self.core.resume(std::mem::take(&mut self.resumed), now);
        self.ask_names(self.reloader.asks_names());
        self.news();
        let files = self.inventory.lease_files();
        let files: Vec<String> = files.map(|path| path.display().to_string()).collect();
        let told = match files.as_slice() {
            [] => "no DHCP leases were found here; name them with --leases FILE".to_owned(),
            files => format!("leases: {}", files.join(", ")),
        };
        self.core.sink().say(&told, now);
        let sources: Vec<SourceName> = self.slots.names().collect();
        for source in sources {
            self.core.notice(Notice::SourceReady { source }, now);
        }
        self.tick(false);
    }

    /// Begins or ends asking the DNS for names.
    fn ask_names(&mut self, is_asked: bool) {
        let names = if is_asked {
            match Names::start(&Handle::current()) {
                Ok(names) => Some(names),
                Err(error) => {
                    let now = self.clock.now();
                    self.core.sink().say(&error.to_string(), now);
                    None
                }
            }
        } else {
            None
        };
        self.core.set_names(names);
    }

    fn read(&mut self, place: usize) {
        self.news();
        let now = self.clock.now();
        self.slots.read(place, &mut self.core, now);
        self.core.sink().print(now);
    }

    /// Hands in what the network has to say of itself.
    fn news(&mut self) {
        let now = self.clock.now();
        let news = match self.inventory.read(now) {
            Ok(news) => {
                self.unheard = None;
                news
            }
            Err(error) => {
                // It is read before each batch of packets, and said once.
                let error = error.to_string();
                if self.unheard.as_ref() != Some(&error) {
                    self.core.sink().say(&error, now);
                    self.unheard = Some(error);
                }
                Vec::new()
            }
        };
        let lost = self.inventory.lost();
        if lost != self.overlooked {
            self.overlooked = lost;
            self.core.sink().say(&overlooked(lost), now);
        }
        for complaint in self.inventory.complaints() {
            self.core.sink().say(&complaint.to_string(), now);
        }
        for input in news {
            if matches!(input, Input::Topology(_)) {
                self.slots.forget_interfaces();
            }
            self.core.take(input, now);
        }
    }

    /// Whether nothing has come since the last tick, and nothing is to be looked after.
    fn is_idle(&self) -> bool {
        !self.core.has_news() && !self.slots.have_failed() && !self.guard.is_polled()
    }

    fn tick(&mut self, counts: bool) {
        let inputs = self.clock.check();
        let now = self.clock.now();
        for input in inputs {
            self.core.take(input, now);
        }
        self.news();
        self.slots.retry(&mut self.core, now);
        self.guard.tick(&mut self.core, &self.clock);
        if counts {
            self.guard.count(&mut self.core, now);
        }
        self.core.tick(now);
    }

    /// What the rules have matched is read for the last time, what is under way still counts, and the
    /// rules are taken away.
    async fn end(mut self) -> io::Result<Ended> {
        // What waits since the count before is read first, for else it would seem not to arrive.
        let now = self.clock.now();
        self.slots.drain(&mut self.core, now);
        self.guard.count(&mut self.core, now);
        sleep(UNDER_WAY).await;
        self.news();
        let now = self.clock.now();
        self.slots.drain(&mut self.core, now);
        self.guard.close(&mut self.core, now);
        self.core.tick(now);
        // What was matched by the count before has had its time by now.
        self.guard.count(&mut self.core, now);
        let left = self.guard.remove();
        self.core.tick(now);
        let (engine, sink, mut troubles) = self.core.finish(now);
        troubles.extend(left);
        Ok(Ended {
            engine,
            sink,
            at: now,
            troubles,
        })
    }
}

/// What the inventory could not take in, so far.
fn overlooked(lost: Lost) -> String {
    format!(
        "the kernel's news of neighbours and routes overflowed {} times (all was read anew each time); \
         {} messages could not be read; without room were {} neighbours and {} routes",
        lost.overruns, lost.undecoded, lost.neighbours, lost.routes
    )
}
