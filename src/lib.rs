//! smtpwatch finds the machine behind a Linux gateway that sends spam.
//!
//! The tour, in the order in which data flows:
//!
//! - [`model`]: the words that everybody speaks: an observation, an attempt, a device, a finding.
//! - [`decode`]: bytes become values; a line of a kernel log, its stamp, who wrote it.
//! - [`settings`]: what can be set, and the flags that set it.
//! - [`attribution`]: who stood behind an address at a time, from DHCP leases.
//! - [`detection`]: what makes a device suspicious, one file a detector.
//! - [`engine`]: the state machine that all of it runs on: observations in, findings out.
//! - [`ruleset`]: the firewall rules that are wanted, and what differs from them.
//! - `simulation`: honest hosts and bots made up by a seed, and other programs' detectors.
//! - `sys`: raw netlink and sockets, where there is no library for them.
//! - `source`: files, folders and standard input as streams of observations.
//! - `netfilter`: the rules put in place, watched and taken away.
//! - `store`, `recording`: the history, and the engine's inputs as they came.
//! - `view`: a report as a table, as JSON, as CSV.
//! - `runtime`: inputs merged in the order of time and handed to the engine; the clock.
//! - [`command`]: one file a verb.
//!
//! The map of the house, its invariants and decisions:
//!
#![doc = include_str!("ARCHITECTURE.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod attribution;
pub mod decode;
pub mod detection;
pub mod engine;
pub mod model;
pub mod ruleset;
pub mod settings;

#[cfg(feature = "gateway")]
pub mod command;
#[cfg(feature = "gateway")]
mod netfilter;
#[cfg(feature = "gateway")]
mod recording;
#[cfg(feature = "gateway")]
mod runtime;
#[cfg(feature = "gateway")]
mod simulation;
#[cfg(feature = "gateway")]
mod source;
#[cfg(feature = "gateway")]
mod store;
#[cfg(feature = "gateway")]
mod sys;
#[cfg(feature = "gateway")]
mod view;
