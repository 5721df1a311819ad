//! A network namespace for a moment: rules are loaded into it only to see how the installed program
//! prints them. The namespace goes with the thread; nothing outside it is touched.

use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::Error;

/// What `work` answers in a fresh network namespace, which the programs that it runs inherit; none
/// where no namespace can be made (`CAP_SYS_ADMIN`).
pub(super) fn in_scratch<T: Send>(
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<Option<T>, Error> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().spawn_scoped(scope, || {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                return Ok(None);
            }
            work().map(Some)
        });
        // A thread that cannot be started is a namespace that cannot be made.
        worker.map_or(Ok(None), |worker| worker.join().unwrap_or(Ok(None)))
    })
}
