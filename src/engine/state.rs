//! What is remembered of a device from one run to the next: what its detectors know, and what they have said. It
//! lies by until the device is seen again, so that a run begins with no devices.

use serde::{Deserialize, Serialize};

use super::{Device, Engine};
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
        self.device(id).map(Device::state)
    }
}
