//! The sources of a live run: opened, read, and opened again when they fail.

use std::future::poll_fn;
use std::task::Poll;

use tokio::task::yield_now;

use super::Core;
use crate::model::{Interface, Notice, SourceName, Timestamp};
use crate::settings::Ports;
use crate::source::live::{self, Batch, Live, LiveError, Options};
use crate::sys::readiness::Readiness;

/// Reads of a source at the end: of 4096 events each, more than the queue to it holds.
const MAX_LAST_READS: usize = 64;

/// The sources of a live run.
pub(crate) struct Slots {
    all: Vec<Slot>,
    options: Options,
    batch: Batch,
}

struct Slot {
    source: SourceName,
    live: Option<(Live, Readiness)>,
    /// Whether more may wait than was read.
    has_more: bool,
    /// The interface that went away, if that is why it does not work.
    missing: Option<Interface>,
}

impl Slots {
    /// Opens `sources`; each must work at the start.
    pub(crate) fn open(sources: &[SourceName], options: Options) -> Result<Self, LiveError> {
        let open = |source: &SourceName| {
            let live = open(source, &options)?;
            Ok(Slot {
                source: source.clone(),
                live: Some(live),
                has_more: true,
                missing: None,
            })
        };
        let all = sources.iter().map(open).collect::<Result<_, LiveError>>()?;
        Ok(Self {
            all,
            options,
            batch: Batch::default(),
        })
    }

    /// Has all of them watch `ports` from now on, those that are opened later, too.
    pub(super) fn watch(&mut self, ports: &Ports, core: &mut Core, now: Timestamp) {
        self.options.ports.clone_from(ports);
        for slot in &mut self.all {
            let watching = slot.live.as_mut().map(|(live, _)| live.watch(ports));
            if let Some(Err(error)) = watching {
                slot.fail(&error, core, now);
            }
        }
    }

    /// Their names.
    pub(super) fn names(&self) -> impl Iterator<Item = SourceName> + '_ {
        self.all.iter().map(|slot| slot.source.clone())
    }

    /// The place of a source that has something to read.
    pub(super) async fn ready(&self) -> usize {
        if let Some(place) = self.all.iter().position(|slot| slot.has_more) {
            // Others want to be heard, too.
            yield_now().await;
            return place;
        }
        poll_fn(|context| {
            for (place, slot) in self.all.iter().enumerate() {
                let Some((_, readiness)) = &slot.live else {
                    continue;
                };
                // An error of the poll comes back from the read, where it has words.
                if readiness.poll_wait(context).is_ready() {
                    return Poll::Ready(place);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Reads the source at `place` once.
    pub(super) fn read(&mut self, place: usize, core: &mut Core, now: Timestamp) {
        let slot = &mut self.all[place];
        let Some((live, _)) = &mut slot.live else {
            return;
        };
        let batch = &mut self.batch;
        live.set_wall_offset(core.wall_offset());
        let read = live.read(now, batch);
        slot.has_more = !batch.is_drained;
        if let Some(position) = &batch.position {
            self.options.resume(&slot.source, position);
        }
        core.take_batch(&slot.source, batch, now);
        if let Err(error) = read {
            slot.fail(&error, core, now);
        }
    }

    /// Reads all of them until nothing is left, or under a flood what can have come by now.
    pub(super) fn drain(&mut self, core: &mut Core, now: Timestamp) {
        for place in 0..self.all.len() {
            for _ in 0..MAX_LAST_READS {
                let Some((live, _)) = &mut self.all[place].live else {
                    break;
                };
                live.set_wall_offset(core.wall_offset());
                let read = live.read(now, &mut self.batch);
                let is_drained = self.batch.is_drained || read.is_err();
                core.take_batch(&self.all[place].source, &mut self.batch, now);
                if is_drained {
                    break;
                }
            }
        }
    }

    /// Whether one of them does not work now.
    pub(super) fn have_failed(&self) -> bool {
        self.all.iter().any(|slot| slot.live.is_none())
    }

    /// Opens again what has failed, where it stopped; to be called at each tick. A capture whose interface
    /// goes while nothing comes in has an error to tell, which wakes nobody, and so has a log that
    /// cannot be looked at any more: they are read, too.
    pub(super) fn retry(&mut self, core: &mut Core, now: Timestamp) {
        for slot in &mut self.all {
            let may_be_silent = matches!(slot.source, SourceName::Capture(_) | SourceName::File(_));
            slot.has_more |= may_be_silent && slot.live.is_some();
            if slot.live.is_none()
                && let Ok(live) = open(&slot.source, &self.options)
            {
                slot.live = Some(live);
                slot.has_more = true;
                if let Some(interface) = slot.missing.take() {
                    core.notice(Notice::InterfaceBack { interface }, now);
                }
                let source = slot.source.clone();
                core.notice(Notice::SourceReady { source }, now);
            }
        }
    }

    /// Interfaces have changed: what is known of their names may be wrong.
    pub(super) fn forget_interfaces(&mut self) {
        for (live, _) in self.all.iter_mut().filter_map(|slot| slot.live.as_mut()) {
            live.forget_interfaces();
        }
    }
}

impl Slot {
    fn fail(&mut self, error: &LiveError, core: &mut Core, now: Timestamp) {
        self.live = None;
        self.has_more = false;
        if let Some(interface) = missing_interface(error) {
            self.missing = Some(interface);
            core.notice(Notice::InterfaceGone { interface }, now);
        }
        let notice = Notice::SourceFailed {
            source: self.source.clone(),
            why: error.to_string(),
        };
        core.notice(notice, now);
    }
}

fn open(source: &SourceName, options: &Options) -> Result<(Live, Readiness), LiveError> {
    let live = live::open(source, options)?;
    match Readiness::of(&live) {
        Ok(readiness) => Ok((live, readiness)),
        Err(cause) => Err(LiveError::Watch {
            source_name: source.clone(),
            cause,
        }),
    }
}

fn missing_interface(error: &LiveError) -> Option<Interface> {
    match error {
        LiveError::InterfaceGone { interface, .. } => Some(*interface),
        _ => None,
    }
}
