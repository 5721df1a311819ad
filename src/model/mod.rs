//! Floor 0: the vocabulary every other room speaks.
//!
//! Plain values with the field's own names: addresses, record time, attempts, devices, findings.
//! No behaviour beyond what the value itself means, and no I/O.

mod address;
mod attempt;
mod device;
mod finding;
mod health;
mod network;
mod observation;
mod outcome;
mod time;

pub use address::{Group, Interface, Mac, Networks, ParseMacError};
pub use attempt::{Direction, Scope, Tuple};
pub use device::{DeviceBasis, DeviceId, DeviceKey, ParseDeviceKeyError, Spoof};
pub use finding::{Confidence, Detector, Finding, Pace, Verdict};
pub use health::{LossKind, Notice, Process, SourceName};
pub use network::{Held, Link, LocalAddress, Neighbour, Route, Topology};
pub use observation::{Clock, Observation, RuleId};
pub use outcome::{Evidence, Outcome, Response, ResponseKind};
pub use time::{MICROS_PER_SECOND, Timestamp};
