//! Floor 2: who stands behind an address at a time, and on what grounds.
//!
//! Works on decoded values alone. What is answered says its basis; which basis is good enough for
//! which step is decided by those who ask. [`identity`] joins what [`leases`], [`neighbours`] and
//! [`territory`] know.

pub mod identity;
pub mod leases;
pub mod names;
pub mod neighbours;
mod past;
pub mod services;
pub mod territory;
pub mod vendors;
