//! Which devices may send and which are clean: what is told of them, what they vouch for, and that they
//! receive mail.

use super::{Device, Devices, is_loose};
use crate::detection::Uses;
use crate::engine::roles::{RoleEvidence, present};
use crate::model::{DeviceId, DeviceKey, Finding, Timestamp};
use crate::settings::Settings;

/// Whether a device may send, and what follows from that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    pub(super) is_allowed: bool,
    /// Whether what it is allowed by has changed since that was asked.
    pub(super) is_renamed: bool,
    /// How many of the findings somebody was told of: of those about an allowed device nobody is.
    pub(super) told: usize,
    /// Whether it may be among those that vouch for relays, from an earlier run, too.
    pub(super) may_vouch: bool,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            is_allowed: false,
            is_renamed: true,
            told: 0,
            may_vouch: true,
        }
    }
}

impl Device {
    /// Whether somebody said that it may send.
    pub fn is_allowed(&self) -> bool {
        self.allowance.is_allowed
    }

    /// Asks `settings` again whether it may send, where anything that they name it by has changed.
    #[inline]
    pub(in crate::engine) fn allow(&mut self, settings: &Settings) {
        if self.allowance.is_renamed {
            self.ask_allowance(settings);
        }
    }

    pub(super) fn ask_allowance(&mut self, settings: &Settings) {
        self.allowance.is_renamed = false;
        self.allowance.is_allowed = settings.allows_any() && {
            let addresses = present(&self.addresses);
            settings.allows(&addresses, self.mac(), self.hostname.as_deref())
        };
    }

    /// What was found and nobody was told of: nothing, while it is allowed.
    pub(super) fn tell(&mut self) -> &[Finding] {
        let from = self.allowance.told.min(self.findings.len());
        self.allowance.told = if self.allowance.is_allowed {
            from
        } else {
            self.findings.len()
        };
        &self.findings[from..self.allowance.told]
    }

    /// Whether the mail services that it uses are those of a clean device, as far as is known.
    pub(super) fn is_clean(&self) -> bool {
        self.findings.is_empty()
            && !self.allowance.is_allowed
            && !self.is_shared()
            && !is_loose(self)
    }
}

impl Devices {
    /// Goes on with the mail services that the device with `key` used before `now`.
    pub(in crate::engine) fn remember_uses(&mut self, key: DeviceKey, uses: Uses, now: Timestamp) {
        self.smarthosts.remember(key, uses, now);
    }

    /// The mail services that the device with `key` uses.
    pub(in crate::engine) fn uses(&self, key: &DeviceKey) -> Option<&Uses> {
        self.smarthosts.uses(key)
    }

    /// Whether all are known to use `group`, as clean devices do.
    #[cfg(test)]
    pub(in crate::engine) fn knows_relay(&self, group: crate::model::Group) -> bool {
        self.smarthosts.knows(&[group])
    }

    /// Whether anything was ever found about the device with `key`.
    pub(in crate::engine) fn has_findings(&self, key: &DeviceKey) -> bool {
        let findings = match self.index.get(key) {
            Some(&place) => Some(&self.places[place].1.findings),
            None => self.remembered.get(key).map(|state| &state.findings),
        };
        findings.is_some_and(|findings| !findings.is_empty())
    }

    /// Notes that the device with `key` receives mail.
    pub(in crate::engine) fn set_role(&mut self, key: &DeviceKey, evidence: Option<RoleEvidence>) {
        if let Some(&place) = self.index.get(key) {
            self.places[place].1.role = evidence;
        }
    }

    /// Asks `settings`, which are new, who may send; answers what was found about those that no longer
    /// may.
    pub(in crate::engine) fn allow_all(&mut self, settings: &Settings) -> Vec<(DeviceId, Finding)> {
        let mut released = Vec::new();
        for (id, device) in &mut self.places {
            device.ask_allowance(settings);
            released.extend(device.tell().iter().map(|finding| (*id, *finding)));
        }
        released
    }
}
