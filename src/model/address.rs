//! Addresses: link layer, networks, and the destination group that stands for one mail service.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// An IEEE 802 MAC address (EUI-48).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// The text is not six octets in hexadecimal, separated by colons or dashes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address (aa:bb:cc:dd:ee:ff)")]
pub struct ParseMacError;

impl Mac {
    /// Whether all octets are zero: the loopback's, or a lease without one.
    pub fn is_null(self) -> bool {
        self.0 == [0; 6]
    }

    /// Whether the group bit is set (multicast and broadcast): never a sender's address.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether it is a station's that was made up and not given by its maker: the locally administered
    /// bit (IEEE 802). Phones and laptops take such ones for privacy, virtual machines have them, too.
    pub fn is_randomised(self) -> bool {
        self.0[0] & 3 == 2
    }

    /// The maker's MAC that `address` was made of (modified EUI-64, RFC 4291 appendix A), where it looks
    /// like one; one that was made up says nothing.
    pub fn of_eui64(address: IpAddr) -> Option<Self> {
        let IpAddr::V6(address) = address else {
            return None;
        };
        match address.octets()[8..] {
            [a, b, c, 0xff, 0xfe, d, e, f] => {
                let mac = Self([a ^ 2, b, c, d, e, f]);
                (mac.is_station() && !mac.is_randomised()).then_some(mac)
            }
            _ => None,
        }
    }

    /// Whether it can stand for one machine: neither null nor a group address.
    pub fn is_station(self) -> bool {
        !self.is_null() && !self.is_multicast()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().ok_or(ParseMacError)?;
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(ParseMacError);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| ParseMacError)?;
        }
        if parts.next().is_some() {
            return Err(ParseMacError);
        }
        Ok(Self(octets))
    }
}

/// A network interface's name as the kernel bounds it (IFNAMSIZ: at most 15 bytes), kept inline
/// because every record carries one. Bytes, for the kernel allows any but `/` and white space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface([u8; 15]);

/// As one word: every packet is looked up by where it came in.
impl Hash for Interface {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut word = [0; 16];
        word[..self.0.len()].copy_from_slice(&self.0);
        state.write_u128(u128::from_le_bytes(word));
    }
}

impl Interface {
    /// The interface called `name`; what is longer than the kernel allows is cut.
    pub fn new(name: &[u8]) -> Self {
        let mut bytes = [0; 15];
        let length = name.len().min(bytes.len());
        bytes[..length].copy_from_slice(&name[..length]);
        Self(bytes)
    }

    /// Whether the record names no interface.
    pub fn is_empty(&self) -> bool {
        self.0[0] == 0
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        let length = self.0.iter().position(|&b| b == 0).unwrap_or(self.0.len());
        &self.0[..length]
    }

    /// The name; bytes that are not UTF-8 become U+FFFD.
    pub fn name(&self) -> String {
        String::from_utf8_lossy(self.as_bytes()).into_owned()
    }
}

/// The name as text that tells it from every other: bytes that are not UTF-8 are written as `\xff`.
impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.0.iter().position(|&b| b == 0).unwrap_or(self.0.len());
        match std::str::from_utf8(&self.0[..length]) {
            Ok(name) => f.write_str(name),
            Err(_) => self.0[..length].escape_ascii().fmt(f),
        }
    }
}

/// Each byte is written as the character of its number, so that any name comes back as it was.
impl Serialize for Interface {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.0.iter().take_while(|&&b| b != 0);
        serializer.collect_str(&bytes.map(|&b| char::from(b)).collect::<String>())
    }
}

impl<'de> Deserialize<'de> for Interface {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
        bytes
            .map(|bytes| Self::new(&bytes))
            .map_err(|_| D::Error::custom("not an interface's name"))
    }
}

/// A destination group: one mail service as far as addresses tell, an IPv4 /24 or an IPv6 /48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Group(u64);

impl Group {
    const IPV6: u64 = 1 << 48;

    /// The group that `address` belongs to.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self(u64::from(u32::from(v4) >> 8)),
            IpAddr::V6(v6) => Self(Self::IPV6 | (u128::from(v6) >> 80) as u64),
        }
    }

    /// The network it covers.
    pub fn network(self) -> IpNet {
        if self.0 & Self::IPV6 == 0 {
            let address = Ipv4Addr::from_bits((self.0 << 8 & 0xffff_ffff) as u32);
            IpNet::V4(Ipv4Net::new_assert(address, 24))
        } else {
            let address = Ipv6Addr::from(u128::from(self.0 & (Self::IPV6 - 1)) << 80);
            IpNet::V6(Ipv6Net::new_assert(address, 48))
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.network().fmt(f)
    }
}

/// A set of networks, such as the LAN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<IpNet>", into = "Vec<IpNet>")]
pub struct Networks {
    all: Vec<IpNet>,
    /// First and last address of each, in their order, for every attempt is looked up twice.
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Networks {
    /// The given networks; host bits are dropped, doubles merged.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let networks: Vec<IpNet> = networks.into_iter().map(|net| net.trunc()).collect();
        let mut networks = IpNet::aggregate(&networks);
        networks.sort_unstable();
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for network in &networks {
            match network {
                IpNet::V4(net) => v4.push((net.network().into(), net.broadcast().into())),
                IpNet::V6(net) => v6.push((net.network().into(), net.broadcast().into())),
            }
        }
        Self {
            all: networks,
            v4,
            v6,
        }
    }

    /// The private ranges: RFC 1918, RFC 6598 (shared address space), RFC 4193 (`fc00::/7`), and
    /// link-local (RFC 3927, RFC 4291).
    pub fn private() -> Self {
        Self::new([
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8)),
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12)),
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16)),
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10)),
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16)),
            IpNet::V6(Ipv6Net::new_assert(
                Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0),
                7,
            )),
            IpNet::V6(Ipv6Net::new_assert(
                Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
                10,
            )),
        ])
    }

    /// Whether one of the networks holds `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => holds(&self.v4, &u32::from(v4)),
            IpAddr::V6(v6) => holds(&self.v6, &u128::from(v6)),
        }
    }

    /// The networks, aggregated.
    pub fn as_slice(&self) -> &[IpNet] {
        &self.all
    }
}

impl From<Vec<IpNet>> for Networks {
    fn from(networks: Vec<IpNet>) -> Self {
        Self::new(networks)
    }
}

impl From<Networks> for Vec<IpNet> {
    fn from(networks: Networks) -> Self {
        networks.all
    }
}

fn holds<T: PartialOrd>(ranges: &[(T, T)], address: &T) -> bool {
    // What aggregation leaves is apart, so only the last that begins before can hold it.
    let after = ranges.partition_point(|(first, _)| first <= address);
    after > 0 && *address <= ranges[after - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_mac_that_was_made_up_is_told_from_a_makers() {
        let is = |mac: &str| mac.parse::<Mac>().unwrap().is_randomised();
        assert!(is("02:00:00:00:00:01") && is("da:a1:19:00:00:01") && is("52:54:00:00:00:01"));
        assert!(!is("00:14:22:00:00:01") && !is("33:33:00:00:00:01") && !is("ff:ff:ff:ff:ff:ff"));
    }

    #[test]
    fn an_address_names_the_mac_that_it_was_made_of() {
        let of = |address| Mac::of_eui64(ip(address)).map(|mac| mac.to_string());
        let expected = Some("00:14:22:aa:bb:cc".to_owned());
        assert_eq!(of("fe80::214:22ff:feaa:bbcc"), expected);
        assert_eq!(of("2001:db8::214:22ff:feaa:bbcc"), expected);
        // Made up, a group's, a privacy address, IPv4.
        for none in [
            "fe80::14:22ff:feaa:bbcc",
            "fe80::314:22ff:feaa:bbcc",
            "fe80::1",
            "10.0.0.1",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn mac_reads_what_it_prints_and_refuses_the_rest() {
        let mac: Mac = "AA-bb-0c:dd:ee:1".parse().unwrap();
        assert_eq!(mac.to_string(), "aa:bb:0c:dd:ee:01");
        for bad in [
            "",
            "aa:bb",
            "aa:bb:cc:dd:ee:ff:00",
            "aa:bb:cc:dd:ee:gg",
            "+a:bb:cc:dd:ee:ff",
            "aaa:b:c:d:e:f",
        ] {
            assert_eq!(bad.parse::<Mac>(), Err(ParseMacError), "{bad}");
        }
    }

    #[test]
    fn null_and_group_addresses_are_no_station() {
        assert!(!Mac([0; 6]).is_station());
        assert!(!Mac([0x33, 0x33, 0, 0, 0, 1]).is_station());
        assert!(Mac([0x02, 0, 0, 0, 0, 1]).is_station());
    }

    #[test]
    fn groups_are_24_and_48() {
        assert_eq!(Group::of(ip("203.0.113.77")).to_string(), "203.0.113.0/24");
        assert_eq!(
            Group::of(ip("2001:db8:1:2::9")).to_string(),
            "2001:db8:1::/48"
        );
        assert_eq!(Group::of(ip("203.0.113.1")), Group::of(ip("203.0.113.254")));
        assert_ne!(Group::of(ip("0.0.1.0")), Group::of(ip("0:0:1::")));
    }

    #[test]
    fn private_ranges_hold_their_edges_and_no_more() {
        let private = Networks::private();
        for inside in [
            "10.255.255.255",
            "172.31.0.1",
            "192.168.0.0",
            "100.127.255.255",
            "fd00::1",
            "fe80::1",
            "169.254.3.4",
        ] {
            assert!(private.contains(ip(inside)), "{inside}");
        }
        for outside in [
            "11.0.0.0",
            "172.32.0.1",
            "100.128.0.0",
            "2001:db8::1",
            "8.8.8.8",
        ] {
            assert!(!private.contains(ip(outside)), "{outside}");
        }
    }

    #[test]
    fn an_interface_name_is_cut_at_ifnamsiz() {
        assert_eq!(Interface::new(b"eth0").name(), "eth0");
        assert_eq!(
            Interface::new(b"0123456789abcdefgh").name(),
            "0123456789abcde"
        );
        assert!(Interface::new(b"").is_empty());
        assert_eq!(Interface::new(b"e\xff").name(), "e\u{fffd}");
        assert_eq!(Interface::new(b"e\xff").to_string(), "e\\xff");
        assert_eq!(Interface::new(b"eth0").to_string(), "eth0");
    }
}
