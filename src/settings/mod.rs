//! Floor 1: what can be set, with its defaults. The flags of the command line are in [`flags`], the keys
//! of the configuration in [`config`]; they are resolved here into one value that the rooms above take
//! as it is.

#[cfg(feature = "gateway")]
pub mod config;
mod detection;
#[cfg(feature = "gateway")]
pub mod file;
#[cfg(feature = "gateway")]
pub mod flags;
pub mod history;
#[cfg(feature = "gateway")]
mod parse;
mod promise;
#[cfg(feature = "gateway")]
pub mod reload;
pub mod rules;
#[cfg(feature = "gateway")]
mod value;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

pub use detection::{Burst, Lookups, Named, Novelty, Pacing, ParseNamedError, Preset, Volume};
pub use history::Retention;

use crate::model::{Direction, Mac, Networks, Scope, Timestamp, Tuple};

/// Where the history is, unless `--state-dir` says otherwise.
pub const STATE_DIR: &str = "/var/lib/smtpwatch";

/// All that decides an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Watched destination ports.
    pub ports: Ports,
    /// The inside networks.
    pub lan: Networks,
    /// Whether somebody gave `lan`; live, the machine's own networks stand in its place otherwise.
    pub lan_is_given: bool,
    /// The gateway's own addresses: they count as inside, and their mail apart.
    pub gateway: Vec<IpAddr>,
    /// Routers on inside networks that the routing table does not name: live, what comes with their
    /// MACs is told by its address.
    pub routers: Vec<Router>,
    /// Whose attempts are asked for.
    pub scope: Scope,
    /// The time asked for.
    pub window: Window,
    /// Devices about which nothing is concluded, whatever they do.
    pub allow: Vec<Named>,
    /// The only devices that may send, where any are named; they are allowed, too.
    pub mail_servers: Vec<Named>,
    /// When `novelty` speaks.
    pub novelty: Novelty,
    /// When `burst` speaks.
    pub burst: Burst,
    /// When `volume` speaks.
    pub volume: Volume,
    /// What is kept at the most.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ports: Ports::default(),
            lan: Networks::private(),
            lan_is_given: false,
            gateway: Vec::new(),
            routers: Vec::new(),
            scope: Scope::default(),
            window: Window::default(),
            allow: Vec::new(),
            mail_servers: Vec::new(),
            novelty: Novelty::default(),
            burst: Burst::default(),
            volume: Volume::default(),
            limits: Limits::default(),
        }
    }
}

impl Settings {
    /// Whether somebody allowed the device with these addresses, that MAC and that name to send.
    pub fn allows(&self, addresses: &[IpAddr], mac: Option<Mac>, hostname: Option<&str>) -> bool {
        let mut named = self.allow.iter().chain(&self.mail_servers);
        named.any(|named| named.names(addresses, mac, hostname))
    }

    /// Whether anybody was allowed to send.
    pub fn allows_any(&self) -> bool {
        !(self.allow.is_empty() && self.mail_servers.is_empty())
    }

    /// Where an attempt goes, seen from the LAN: by its addresses before any translation, never by
    /// the interfaces of its record (before routing there is only one).
    pub fn direction(&self, tuple: &Tuple) -> Direction {
        let is_own = |address| self.gateway.contains(&address);
        let is_inside = |address| self.lan.contains(address) || is_own(address);
        match (is_inside(tuple.source), is_inside(tuple.destination)) {
            _ if is_own(tuple.source) => Direction::Gateway,
            (true, true) => Direction::Internal,
            (true, false) => Direction::Outbound,
            (false, true) => Direction::Inbound,
            (false, false) => Direction::External,
        }
    }
}

/// A router, as somebody declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Router {
    /// By an address that the neighbour table knows.
    Address(IpAddr),
    /// By the MAC that its frames bear: where it is not the one that it answers with (VRRP, HSRP).
    Mac(Mac),
}

/// The text is neither an address nor a MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a router; give its address or its MAC (aa:bb:cc:dd:ee:ff)")]
pub struct ParseRouterError;

/// As it is read.
impl fmt::Display for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Mac(mac) => mac.fmt(f),
        }
    }
}

impl FromStr for Router {
    type Err = ParseRouterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text.parse(), text.parse::<Mac>()) {
            (Ok(address), _) => Ok(Self::Address(address)),
            (_, Ok(mac)) if mac.is_station() => Ok(Self::Mac(mac)),
            _ => Err(ParseRouterError),
        }
    }
}

/// The watched TCP ports: few, so a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u16>")]
pub struct Ports(Vec<u16>);

impl Default for Ports {
    /// 25, the relay port (RFC 5321).
    fn default() -> Self {
        Self(vec![25])
    }
}

impl From<Vec<u16>> for Ports {
    fn from(ports: Vec<u16>) -> Self {
        Self::new(ports)
    }
}

impl Ports {
    /// The given ports; none given means the default.
    pub fn new(ports: impl IntoIterator<Item = u16>) -> Self {
        let mut ports: Vec<u16> = ports.into_iter().collect();
        ports.sort_unstable();
        ports.dedup();
        if ports.is_empty() {
            return Self::default();
        }
        Self(ports)
    }

    /// Whether `port` is watched.
    pub fn contains(&self, port: u16) -> bool {
        self.0.contains(&port)
    }

    /// The ports in their order.
    pub fn as_slice(&self) -> &[u16] {
        &self.0
    }
}

/// Separated by commas, as iptables takes them.
impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&ports.join(","))
    }
}

/// A stretch of time, open where an end is not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The first moment that counts.
    pub since: Option<Timestamp>,
    /// The first moment that no longer counts.
    pub until: Option<Timestamp>,
}

impl Window {
    /// Whether `time` lies within.
    pub fn contains(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

/// What is kept at the most. Beyond it something is forgotten, and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Devices.
    pub devices: usize,
    /// Attempts whose further SYNs are still recognised.
    pub open_attempts: usize,
    /// Destinations, of all devices together.
    pub destinations: usize,
    /// Addresses on each side that neither the LAN nor the gateway claims.
    pub unclaimed: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            devices: 16_384,
            open_attempts: 57_344,
            destinations: 524_288,
            unclaimed: 4_096,
        }
    }
}

impl Limits {
    /// For a run of weeks in little memory.
    pub fn live() -> Self {
        Self {
            destinations: 262_144,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_fall_back_to_25_and_are_a_set() {
        assert_eq!(Ports::new([]).as_slice(), [25]);
        assert_eq!(Ports::new([587, 25, 25]).to_string(), "25,587");
    }

    #[test]
    fn a_router_is_an_address_or_a_mac() {
        assert_eq!(
            "10.0.0.2".parse(),
            Ok(Router::Address([10, 0, 0, 2].into()))
        );
        assert_eq!(
            "02:00:00:00:00:01".parse(),
            Ok(Router::Mac(Mac([2, 0, 0, 0, 0, 1])))
        );
        for bad in ["", "router", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"] {
            assert_eq!(bad.parse::<Router>(), Err(ParseRouterError), "{bad}");
        }
    }

    #[test]
    fn a_window_holds_its_start_and_not_its_end() {
        let at = Timestamp::from_seconds;
        let window = Window {
            since: Some(at(10)),
            until: Some(at(20)),
        };
        assert!(window.contains(at(10)) && window.contains(at(19)));
        assert!(!window.contains(at(9)) && !window.contains(at(20)));
    }
}
