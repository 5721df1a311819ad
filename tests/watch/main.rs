//! `smtpwatch watch` on a gateway where things go wrong: interfaces that go, rules that are taken away,
//! readers that do not read, floods. Everything happens in network namespaces of the tests' own, which
//! need root.
#![allow(clippy::unwrap_used)]

mod ends;
mod harness;
mod interfaces;
mod losses;
mod rules;
