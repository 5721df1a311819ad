//! The sources of a live run: opened, read, and opened again when they fail.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Core;
use crate::model::{Interface, Notice, SourceName, Timestamp};
use crate::source::live::{self, Batch, Live, LiveError, Options};

/// The sources of a live run.
pub(crate) struct Slots {
    slots: Vec<Slot>,
    options: Options,
    batch: Batch,
}

struct Slot {
    source: SourceName,
    live: Option<AsyncFd<Live>>,
    /// The interface that went away, if that is why it does not work.
    missing: Option<Interface>,
}

impl Slots {
    /// Opens `sources`; each must work at the start.
    pub(crate) fn open(sources: &[SourceName], options: Options) -> Result<Self, LiveError> {
        let open = |&source: &SourceName| {
            let live = open(source, &options)?;
            Ok(Slot {
                source,
                live: Some(live),
                missing: None,
            })
        };
        let slots = sources.iter().map(open).collect::<Result<_, LiveError>>()?;
        Ok(Self {
            slots,
            options,
            batch: Batch::default(),
        })
    }

    /// Their names.
    pub(super) fn names(&self) -> impl Iterator<Item = SourceName> + '_ {
        self.slots.iter().map(|slot| slot.source)
    }

    /// The place of a source that has something to read.
    pub(super) async fn ready(&self) -> usize {
        poll_fn(|context| {
            for (place, slot) in self.slots.iter().enumerate() {
                let Some(live) = &slot.live else { continue };
                // An error of the poll comes back from the read, where it has words.
                if live.poll_read_ready(context).is_ready() {
                    return Poll::Ready(place);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Reads the source at `place` once.
    pub(super) fn read(&mut self, place: usize, core: &mut Core, now: Timestamp) {
        let slot = &mut self.slots[place];
        let Some(live) = &mut slot.live else { return };
        let batch = &mut self.batch;
        let mut read = Ok(());
        // It is ready until it says that there was nothing.
        let _ = live.try_io_mut(Interest::READABLE, |live| {
            read = live.read(now, batch);
            if batch.is_drained {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        core.take_batch(slot.source, batch, now);
        if let Err(error) = read {
            slot.fail(&error, core, now);
        }
    }

    /// Reads all of them until nothing is left.
    pub(super) fn drain(&mut self, core: &mut Core, now: Timestamp) {
        for place in 0..self.slots.len() {
            while let Some(live) = &mut self.slots[place].live {
                let read = live.get_mut().read(now, &mut self.batch);
                let is_drained = self.batch.is_drained || read.is_err();
                core.take_batch(self.slots[place].source, &mut self.batch, now);
                if is_drained {
                    break;
                }
            }
        }
    }

    /// Opens again what has failed.
    pub(super) fn retry(&mut self, core: &mut Core, now: Timestamp) {
        for slot in &mut self.slots {
            if slot.live.is_none()
                && let Ok(live) = open(slot.source, &self.options)
            {
                slot.live = Some(live);
                if let Some(interface) = slot.missing.take() {
                    core.notice(Notice::InterfaceBack { interface }, now);
                }
                let source = slot.source;
                core.notice(Notice::SourceReady { source }, now);
            }
        }
    }

    /// Interfaces have changed: what is known of their names may be wrong.
    pub(super) fn forget_interfaces(&mut self) {
        for live in self.slots.iter_mut().filter_map(|slot| slot.live.as_mut()) {
            live.get_mut().forget_interfaces();
        }
    }
}

impl Slot {
    fn fail(&mut self, error: &LiveError, core: &mut Core, now: Timestamp) {
        self.live = None;
        if let Some(interface) = missing_interface(error) {
            self.missing = Some(interface);
            core.notice(Notice::InterfaceGone { interface }, now);
        }
        let notice = Notice::SourceFailed {
            source: self.source,
            why: error.to_string(),
        };
        core.notice(notice, now);
    }
}

fn open(source: SourceName, options: &Options) -> Result<AsyncFd<Live>, LiveError> {
    let live = live::open(source, options)?;
    AsyncFd::with_interest(live, Interest::READABLE).map_err(|cause| LiveError::Watch {
        source_name: source,
        cause,
    })
}

fn missing_interface(error: &LiveError) -> Option<Interface> {
    match error {
        LiveError::InterfaceGone { interface, .. } => Some(*interface),
        _ => None,
    }
}
