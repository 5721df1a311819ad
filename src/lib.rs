//! smtpwatch.
#![cfg_attr(test, allow(clippy::unwrap_used))]
pub mod decode;
pub mod model;
