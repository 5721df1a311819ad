//! Whether several machines stand behind one MAC, as the TTLs of its packets tell.

use std::net::IpAddr;

/// The TTLs that a station's packets arrive with. A system sends with one of a few values, the same
/// for all its connections; each router on the way takes one off.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ttls {
    /// Those seen of each family (IPv4, IPv6), one bit each.
    initial: [u8; 2],
    pub(super) is_shared: bool,
}

impl Ttls {
    /// What systems send with; 32 and 60 are rare.
    const INITIAL: [u8; 5] = [32, 60, 64, 128, 255];
    /// Routers that are believed to be on the way: beyond, it is a trace of the route, or forged.
    const MAX_HOPS: u8 = 8;

    /// Notes a packet from `address`; answers whether it shows for the first time that several
    /// machines stand here.
    pub(super) fn note(&mut self, address: IpAddr, ttl: u8) -> bool {
        if self.is_shared {
            return false;
        }
        let seen = &mut self.initial[usize::from(address.is_ipv6())];
        self.is_shared = match Self::INITIAL.iter().position(|&initial| initial == ttl) {
            Some(place) => {
                *seen |= 1 << place;
                !seen.is_power_of_two()
            }
            // A trace of the route counts up to 30.
            None => {
                ttl > 30
                    && Self::INITIAL
                        .iter()
                        .any(|&initial| ttl < initial && initial - ttl <= Self::MAX_HOPS)
            }
        };
        self.is_shared
    }
}
