//! What else can be found out about who is who: whom to ask, and what the answers change.
//!
//! The engine asks nobody. It says what it would like to know, and the answers come as inputs, so that
//! a run that was recorded gives the same again.

use std::net::IpAddr;

use super::Engine;
use crate::model::{DeviceId, Held, Mac, Timestamp};

impl Engine {
    /// The address of the device called `id` that reverse DNS may know a name for: it has none yet, and
    /// the address is one that an inside name server can know.
    pub fn wants_name(&self, id: DeviceId) -> Option<IpAddr> {
        let device = self.device(id).filter(|it| it.hostname.is_none())?;
        let address = *device.addresses.last()?;
        let is_linklocal = match address {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_loopback(),
            IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_loopback(),
        };
        let is_inside = match self.who.territory() {
            Some(territory) => territory.lan().contains(address),
            None => self.settings.lan.contains(address),
        };
        (is_inside && !is_linklocal).then_some(address)
    }

    /// The MAC of the device called `id`, where nobody has said yet who made its card, and it has a
    /// maker.
    pub fn wants_vendor(&self, id: DeviceId) -> Option<Mac> {
        let device = self.device(id)?;
        let mac = device.mac().filter(|mac| !mac.is_randomised())?;
        (!device.knows_vendor_of(mac)).then_some(mac)
    }

    /// Who answers for which address at `now`, and who did before, by the time of day: what is to be
    /// remembered, in the order of time.
    pub fn held(&self, now: Timestamp) -> Vec<Held> {
        let mut held: Vec<Held> = self.who.neighbours().held(now).collect();
        for it in &mut held {
            it.from = self.wall(it.from);
            it.until = self.wall(it.until);
        }
        held.sort_by_key(|it| (it.from, it.until, it.interface, it.address));
        held
    }

    /// Takes what is remembered of who answered before, by the time of day.
    pub(super) fn note_past(&mut self, mut held: Vec<Held>) {
        for it in &mut held {
            it.from = it.from.plus_micros(-self.wall_offset);
            it.until = it.until.plus_micros(-self.wall_offset);
        }
        self.who.note_past(held);
    }

    /// Names the devices without a name that were seen with `address` last.
    pub(super) fn name(&mut self, address: IpAddr, name: Option<&str>) {
        if let Some(name) = self.who.note_reverse(address, name) {
            self.devices.name(address, name, &self.settings);
        }
    }
}
