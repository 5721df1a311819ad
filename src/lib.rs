//! smtpwatch.
#![cfg_attr(test, allow(clippy::unwrap_used))]
pub mod attribution;
pub mod decode;
pub mod model;
