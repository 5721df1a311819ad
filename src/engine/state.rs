//! What is remembered of a device from one run to the next: what its detectors know, and what they have said. It
//! lies by until the device is seen again, so that a run begins with no devices.
//!
//! What was said is not said again, and the device is still what it was said to be: it begins with the
//! findings of earlier runs, whose `at_attempt` counts the attempts of theirs.

use serde::{Deserialize, Serialize};

use super::{Engine, RoleEvidence};
use crate::detection::{Detectors, Uses};
use crate::model::{DeviceId, DeviceKey, Finding, Timestamp};

/// What is remembered of a device. Its times are of the day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceState {
    /// By what it is told from others.
    pub key: DeviceKey,
    /// What was said about it.
    pub findings: Vec<Finding>,
    /// What the detectors know of it.
    pub detectors: Detectors,
    /// How many of the findings, the last ones, nobody was told of, as it was allowed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub untold: usize,
    /// Which mail services it uses, where it can vouch for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<Uses>,
    /// That it receives mail from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleEvidence>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Engine {
    /// What is to be remembered of the device called `id`.
    pub fn device_state(&self, id: DeviceId) -> Option<DeviceState> {
        let device = self.device(id)?;
        let state = DeviceState {
            uses: self.devices.uses(&device.key).cloned(),
            role: self.roles.of(&device.key).cloned(),
            ..device.state()
        };
        Some(state.moved(self.wall_offset))
    }

    /// Goes on with what earlier runs knew: of mail services and roles at once, of the rest when the
    /// device is seen.
    pub(super) fn resume(&mut self, mut states: Vec<DeviceState>, now: Timestamp) {
        let back = self.wall_offset.saturating_neg();
        for state in &mut states {
            if let Some(role) = state.role.take() {
                self.roles.remember(state.key, role.moved(back), now);
            }
            let uses = state.uses.take();
            if let Some(uses) = uses.filter(|_| state.findings.is_empty()) {
                self.devices.remember_uses(state.key, uses.moved(back), now);
            }
        }
        self.devices.remember(states);
    }
}

impl DeviceState {
    /// The same with its times moved by `micros`.
    #[must_use]
    pub(super) fn moved(mut self, micros: i64) -> Self {
        self.detectors.move_by(micros);
        self.uses = self.uses.map(|uses| uses.moved(micros));
        self.role = self.role.map(|role| role.moved(micros));
        for finding in &mut self.findings {
            finding.at = finding.at.plus_micros(micros);
        }
        self
    }
}
