//! What there is to say about one device, apart from who counted it: the engine while it runs, or
//! the history of what it saw. A report and its sentences are made of this alone.

use std::net::IpAddr;

use super::roles::{Role, present};
use super::{Device, DeviceDestinations, Engine, OutcomeCounts};
use crate::model::{DeviceBasis, DeviceKey, Finding, Mac, Timestamp, Verdict};
use crate::settings::Settings;

/// The facts about one device, each as a report says it.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// By what it is told from others.
    pub id: String,
    /// Its MAC, where one is known.
    pub mac: Option<Mac>,
    /// Its name as it gave it: hostile text.
    pub hostname: Option<String>,
    /// Who made its network card, in a few words.
    pub vendor: Option<String>,
    /// Interface that its packets came in by, where all agree.
    pub interface: Option<String>,
    /// Addresses it was seen with, the latest last.
    pub addresses: Vec<IpAddr>,
    /// On what grounds it is named.
    pub basis: String,
    /// SYN packets.
    pub syns: u64,
    /// Attempts.
    pub attempts: u64,
    /// Where they went, in numbers.
    pub destinations: DeviceDestinations,
    /// The destinations tried most often, and how often.
    pub top_destinations: Vec<(IpAddr, u64)>,
    /// First packet.
    pub first_seen: Timestamp,
    /// Last packet.
    pub last_seen: Timestamp,
    /// Most attempts in one minute of the clock.
    pub peak_per_minute: u64,
    /// Whether several machines stand behind it: a NAT, or an access point.
    pub is_shared: bool,
    /// What the detectors said, first to last.
    pub findings: Vec<Finding>,
    /// How the attempts ended.
    pub outcomes: OutcomeCounts,
    /// Attempts whose handshake the originator completed.
    pub completed: u64,
    /// Bytes sent and received, where anybody told.
    pub bytes: Option<(u64, u64)>,
    /// The attempts by watched port, in the order of the ports.
    pub ports: Vec<(u16, u64)>,
    /// Whether somebody said that it may send.
    pub is_allowed: bool,
    /// That it receives mail from outside, as a mail server does.
    pub role: Option<Role>,
    /// Questions for somebody's mail servers (MX); none where answers of the DNS are not seen.
    pub mail_lookups: u64,
}

impl Facts {
    /// What the findings amount to, unless it is allowed.
    pub fn verdict(&self) -> Verdict {
        if self.is_allowed {
            Verdict::Allowed
        } else {
            Verdict::of(&self.findings)
        }
    }

    /// Asks `settings` whether it may send.
    pub fn allow(&mut self, settings: &Settings) {
        let addresses = present(&self.addresses);
        self.is_allowed = settings.allows(&addresses, self.mac, self.hostname.as_deref());
    }

    /// The router behind which it is, by its MAC.
    pub fn router(&self) -> Option<Mac> {
        self.basis.strip_prefix(DeviceBasis::BEHIND)?.parse().ok()
    }
}

impl Engine {
    /// What there is to say about `device`, with `top` of its destinations, by the time of day.
    pub fn facts(&self, device: &Device, top: usize) -> Facts {
        let mut facts = device.facts(top);
        facts.first_seen = self.wall(facts.first_seen);
        facts.last_seen = self.wall(facts.last_seen);
        for finding in &mut facts.findings {
            finding.at = self.wall(finding.at);
        }
        facts
    }
}

impl Device {
    /// What there is to say about it, with that many of its destinations, by the time that inputs bear.
    pub fn facts(&self, top: usize) -> Facts {
        Facts {
            id: self.key.to_string(),
            mac: self.mac().or_else(|| self.mac_in_address()),
            hostname: self.hostname.clone(),
            vendor: self.vendor().map(str::to_owned),
            interface: self.interface().map(|interface| interface.name()),
            addresses: self.addresses.clone(),
            basis: self.grounds(),
            syns: self.syns,
            attempts: self.attempts,
            destinations: self.destinations(),
            top_destinations: self.top_destinations(top),
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            peak_per_minute: self.peak_per_minute,
            is_shared: self.is_shared(),
            findings: self.findings.clone(),
            outcomes: self.outcomes(),
            completed: self.completed,
            bytes: self.bytes,
            ports: self.ports(),
            is_allowed: self.is_allowed(),
            role: self.role(),
            mail_lookups: self.mail_lookups,
        }
    }

    /// On what grounds it is named, as reports say it.
    pub fn grounds(&self) -> String {
        match (self.basis, self.mac()) {
            (DeviceBasis::Address, Some(_)) => "address, with the MAC as logged".to_owned(),
            (DeviceBasis::Address, None) if self.mac_in_address().is_some() => {
                "address, with the MAC in it".to_owned()
            }
            (basis, _) => basis.to_string(),
        }
    }

    /// The MAC that its IPv6 address was made of: to show where nothing else names one, no proof of
    /// anything.
    fn mac_in_address(&self) -> Option<Mac> {
        match self.key {
            DeviceKey::Address(address) => Mac::of_eui64(address),
            _ => None,
        }
    }
}
