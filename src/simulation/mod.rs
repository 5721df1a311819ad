//! Floor 4: seeded models of honest machines and of bots, and other programs' detectors, to measure
//! ours against.
//!
//! A [`Profile`] makes one host's SYNs in the order of time; [`run_host`] hands them to an [`Engine`]
//! of the host's own, as a gateway would, and to the [rivals](rivals); a [`Tally`] adds up what many
//! hosts came to. No file, thread or clock: chance is a number of the caller's, and the same number
//! gives the same answer on every machine.
//!
//! [`Engine`]: crate::engine::Engine

mod benign;
mod chance;
mod host;
mod malicious;
mod profile;
mod rivals;
mod run;
mod tally;
#[cfg(test)]
mod tests;
mod traffic;

pub(crate) use profile::{PROFILES, Profile};
pub(crate) use run::{HostRun, Judge, Setting, run_host};
pub(crate) use tally::{Quantiles, Row, Tally};
