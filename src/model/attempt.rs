//! An attempt: one TCP connection that somebody tries to open to a watched port.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Originator and responder of a TCP connection, by their addresses before any translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuple {
    /// Originator's address.
    pub source: IpAddr,
    /// Responder's address, the original destination.
    pub destination: IpAddr,
    /// Originator's TCP port.
    pub source_port: u16,
    /// Responder's TCP port: the watched one.
    pub destination_port: u16,
}

/// Of as few words as there are: every SYN is looked up by its tuple.
impl Hash for Tuple {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for address in [self.source, self.destination] {
            match address {
                IpAddr::V4(v4) => state.write_u32(v4.into()),
                IpAddr::V6(v6) => state.write_u128(v6.into()),
            }
        }
        state.write_u32(u32::from(self.source_port) << 16 | u32::from(self.destination_port));
    }
}

/// Where an attempt goes, seen from the LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the LAN to the Internet: what is scored.
    Outbound,
    /// From the Internet to the LAN.
    Inbound,
    /// From the LAN to the LAN, or to the gateway itself.
    Internal,
    /// The gateway's own mail.
    Gateway,
    /// Neither end is in the LAN as it was given.
    External,
}

impl Direction {
    /// All directions, in the order they are shown.
    pub const ALL: [Self; 5] = [
        Self::Outbound,
        Self::Inbound,
        Self::Internal,
        Self::Gateway,
        Self::External,
    ];
}

/// Whose attempts an answer is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The LAN's to the Internet.
    #[default]
    Outbound,
    /// The Internet's to the LAN.
    Inbound,
    /// The LAN's to the LAN.
    Internal,
    /// Everybody's: each source is a device, whatever the LAN.
    All,
}

impl Scope {
    /// Whether attempts that go in `direction` are asked for.
    pub fn holds(self, direction: Direction) -> bool {
        match self {
            Self::Outbound => direction == Direction::Outbound,
            Self::Inbound => direction == Direction::Inbound,
            Self::Internal => direction == Direction::Internal,
            Self::All => true,
        }
    }

    /// Whether attempts that go in `direction` can be somebody's direct sending: out of the LAN,
    /// or, where the LAN is left open, to anywhere that is not in it.
    pub fn scores(self, direction: Direction) -> bool {
        match direction {
            Direction::Outbound => matches!(self, Self::Outbound | Self::All),
            Direction::External => self == Self::All,
            Direction::Inbound | Direction::Internal | Direction::Gateway => false,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
            Self::Internal => "internal",
            Self::Gateway => "gateway",
            Self::External => "external",
        })
    }
}
