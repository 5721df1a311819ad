//! smtpwatch.
pub mod decode;
pub mod detection;
pub mod engine;
pub mod model;
pub mod settings;
