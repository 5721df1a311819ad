//! What is remembered of a device from one run to the next: what its detectors know, and what they have said. It
//! lies by until the device is seen again, so that a run begins with no devices.
//!
//! What was said is not said again, and the device is still what it was said to be: it begins with the
//! findings of earlier runs, whose `at_attempt` counts the attempts of theirs.

use serde::{Deserialize, Serialize};

use super::Engine;
use crate::detection::Detectors;
use crate::model::{DeviceId, DeviceKey, Finding};

/// What is remembered of a device. Its times are of the day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceState {
    /// By what it is told from others.
    pub key: DeviceKey,
    /// What was said about it.
    pub findings: Vec<Finding>,
    /// What the detectors know of it.
    pub detectors: Detectors,
}

impl Engine {
    /// What is to be remembered of the device called `id`.
    pub fn device_state(&self, id: DeviceId) -> Option<DeviceState> {
        let wall_offset = self.wall_offset;
        self.device(id).map(|device| device.state(wall_offset))
    }
}

impl DeviceState {
    /// The same with its times moved by `micros`.
    #[must_use]
    pub(super) fn moved(mut self, micros: i64) -> Self {
        self.detectors.move_by(micros);
        for finding in &mut self.findings {
            finding.at = finding.at.plus_micros(micros);
        }
        self
    }
}
