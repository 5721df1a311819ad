//! Floor 2: who stands behind an address at a time, and on what grounds.
//!
//! Works on decoded values alone. What is answered says its basis; which basis is good enough for
//! which step is decided by those who ask.

pub mod leases;
