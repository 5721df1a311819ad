//! What can be set about the firewall rules: which ports, how evidence is taken, where, under which
//! name. Rules as text are the business of `ruleset`.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::Ports;

/// The NFLOG group by default: the number of the port that is watched.
pub const GROUP: u16 = 25;
/// The NFLOG group of answers of the DNS by default.
pub const ANSWERS_GROUP: u16 = 26;
/// Bytes of a prefix at the most: what a LOG target keeps (`struct xt_log_info`, 30 with the NUL).
const PREFIX_LENGTH: usize = 29;

/// How the kernel hands over what a rule matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "gateway", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// To a socket, as packets (`nfnetlink_log`): nothing is lost in the usual case.
    #[default]
    Nflog,
    /// To the kernel log, as text, 500 lines a second at the most.
    Log,
    /// Both ways; an attempt counts once.
    Both,
}

impl Via {
    /// Whether packets go to an NFLOG group.
    pub fn has_nflog(self) -> bool {
        matches!(self, Self::Nflog | Self::Both)
    }

    /// Whether lines go to the kernel log.
    pub fn has_log(self) -> bool {
        matches!(self, Self::Log | Self::Both)
    }

    /// The way that is made of these two; none where neither is.
    pub fn of(has_nflog: bool, has_log: bool) -> Option<Self> {
        match (has_nflog, has_log) {
            (true, true) => Some(Self::Both),
            (true, false) => Some(Self::Nflog),
            (false, true) => Some(Self::Log),
            (false, false) => None,
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nflog => "nflog",
            Self::Log => "log",
            Self::Both => "both",
        })
    }
}

/// Where evidence is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "gateway", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum At {
    /// Before any redirect, and on output for the gateway's own mail.
    Prerouting,
    /// Where packets are forwarded, the classic place: blind to what the gateway sends, and to what
    /// is redirected to it.
    Forward,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prerouting => "prerouting",
            Self::Forward => "forward",
        })
    }
}

/// Which of the kernel's firewalls is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "gateway", derive(clap::ValueEnum))]
pub enum BackendChoice {
    /// The one that holds our rules already, else nft where it works, else iptables.
    #[default]
    Auto,
    /// nftables: a table of our own.
    Nft,
    /// iptables and ip6tables, whichever kind: a chain of our own.
    Iptables,
}

/// What logged packets begin with, the space at its end included: the kernel glues it to `IN=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Prefix(String);

impl Default for Prefix {
    fn default() -> Self {
        Self("smtpwatch: ".to_owned())
    }
}

impl Prefix {
    /// As it stands in a record.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A prefix that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Nothing to tell our lines by.
    #[error("the prefix is empty: give a word, such as \"smtpwatch: \"")]
    Empty,
    /// The kernel would cut it.
    #[error("the prefix has {0} bytes and the kernel keeps 28 and a space: shorten it")]
    TooLong(usize),
    /// Something that a rule or a log line would take for its own.
    #[error("the prefix holds {0:?}: use letters, digits, spaces and - _ . : / + , ( ) [ ] only")]
    Character(char),
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(given: &str) -> Result<Self, PrefixError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || " -_.:/+,()[]".contains(c);
        if let Some(character) = given.chars().find(|c| !is_plain(*c)) {
            return Err(PrefixError::Character(character));
        }
        if given.trim().is_empty() {
            return Err(PrefixError::Empty);
        }
        let mut prefix = given.trim_start().to_owned();
        if !prefix.ends_with(' ') {
            prefix.push(' ');
        }
        if prefix.len() > PREFIX_LENGTH {
            return Err(PrefixError::TooLong(given.len()));
        }
        Ok(Self(prefix))
    }
}

/// The rules that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Watched destination ports.
    pub ports: Ports,
    /// How the kernel hands evidence over.
    pub via: Via,
    /// Where it is taken.
    pub at: At,
    /// The NFLOG group, where [`Via::has_nflog`].
    pub group: u16,
    /// What records begin with.
    pub prefix: Prefix,
    /// The NFLOG group that answers of the DNS go to, where they are wanted.
    pub answers: Option<u16>,
}

/// Rules as far as somebody said what they should be, or as far as they could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialRules {
    /// Watched destination ports.
    pub ports: Option<Ports>,
    /// How the kernel hands evidence over.
    pub via: Option<Via>,
    /// Where it is taken.
    pub at: Option<At>,
    /// The NFLOG group.
    pub group: Option<u16>,
    /// What records begin with.
    pub prefix: Option<Prefix>,
    /// The NFLOG group that answers of the DNS go to; unsaid, they are not wanted.
    pub answers: Option<u16>,
}

impl PartialRules {
    /// What is said here, and for the rest what `other` says.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            ports: self.ports.or(other.ports),
            via: self.via.or(other.via),
            at: self.at.or(other.at),
            group: self.group.or(other.group),
            prefix: self.prefix.or(other.prefix),
            answers: self.answers.or(other.answers),
        }
    }

    /// Whole rules: what nobody said is at its default, the place at `at`.
    pub fn resolve(self, at: At) -> Rules {
        Rules {
            ports: self.ports.unwrap_or_default(),
            via: self.via.unwrap_or_default(),
            at: self.at.unwrap_or(at),
            group: self.group.unwrap_or(GROUP),
            prefix: self.prefix.unwrap_or_default(),
            answers: self.answers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_with_a_space_and_fits_the_kernel() {
        let prefix = |given: &str| given.parse::<Prefix>();
        assert_eq!(prefix("spam:").unwrap().as_str(), "spam: ");
        assert_eq!(prefix("spam: ").unwrap().as_str(), "spam: ");
        assert!(prefix(&"x".repeat(28)).is_ok());
        assert_eq!(prefix(&"x".repeat(29)), Err(PrefixError::TooLong(29)));
        assert_eq!(prefix("  "), Err(PrefixError::Empty));
    }

    #[test]
    fn a_prefix_cannot_end_its_quotes_nor_forge_a_field() {
        for character in [
            '"', '\'', '\\', '$', '\n', '=', '`', ';', '\0', 'ü', '*', '%', '#',
        ] {
            assert_eq!(
                format!("a{character}b").parse::<Prefix>(),
                Err(PrefixError::Character(character))
            );
        }
    }

    #[test]
    fn what_is_said_first_counts() {
        let given = PartialRules {
            group: Some(7),
            ..PartialRules::default()
        };
        let found = PartialRules {
            group: Some(8),
            via: Some(Via::Log),
            ..PartialRules::default()
        };
        let rules = given.or(found).resolve(At::Forward);
        assert_eq!(
            (rules.group, rules.via, rules.at),
            (7, Via::Log, At::Forward)
        );
    }
}
