//! Waiting for a descriptor under tokio, which tells of readiness at edges: once when something comes,
//! and not again while it lies there.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What waits until a descriptor can be read.
///
/// It holds a descriptor of its own to the same socket or device, which stays open until this is dropped,
/// too.
#[derive(Debug)]
pub(crate) struct Readiness {
    descriptor: AsyncFd<OwnedFd>,
}

impl Readiness {
    /// Registers `source` with the runtime of this thread. It must have been set not to block.
    pub(crate) fn of(source: &impl AsFd) -> io::Result<Self> {
        let own = source.as_fd().try_clone_to_owned()?;
        // SAFETY: an `OwnedFd` is open and the same until it is dropped, and nothing takes it out of the
        // `AsyncFd` that owns it from here on.
        let descriptor = unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) };
        Ok(Self {
            descriptor: descriptor?,
        })
    }

    /// What [`Self::wait`] waits for, to be asked by a task that waits for several.
    pub(crate) fn poll_wait(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = self.descriptor.poll_read_ready(context);
        ready.map_ok(|mut guard| guard.clear_ready())
    }

    /// Waits until there is something to read, or an error to be told by reading. Whoever has waited
    /// must read until nothing is left: only what comes after that ends the next wait. Can be
    /// cancelled without losing anything.
    pub(crate) async fn wait(&self) -> io::Result<()> {
        self.descriptor.readable().await?.clear_ready();
        Ok(())
    }
}
