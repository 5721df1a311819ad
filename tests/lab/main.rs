//! The lab of `scripts/lab`: that it sends what it says, that `smtpwatch watch` on its gateway tells
//! the same by every source, and that nothing of it is left behind.
//!
//! Needs root. Where there is none it fails, and says so, unless `SMTPWATCH_NO_ROOT=1` says that
//! this is known. Each test has a lab of its own, so that they run side by side, twice at once too; a lab
//! ends with the test's process, however that ends.
#![allow(clippy::unwrap_used)]
#![expect(
    clippy::disallowed_methods,
    reason = "the lab is a program, and its tests wait for real events"
)]

mod adversary;
mod harness;
mod lifecycle;
mod oracle;
mod outcomes;
mod roles;
mod scenarios;
mod verdicts;
mod watcher;
mod who;
