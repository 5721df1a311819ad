//! `smtpwatch watch` on a gateway where things go wrong: interfaces that go, rules that are taken away,
//! readers that do not read, floods. Everything happens in network namespaces of the tests' own, which
//! need root.
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests start programs and wait for them"
)]

mod config;
mod dns;
mod ends;
mod follow;
mod harness;
mod interfaces;
mod kernel_log;
mod losses;
mod rules;
