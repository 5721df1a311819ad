//! Chance of a host's own: the same seed, profile and host give the same numbers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::{MICROS_PER_SECOND, Networks};

/// Microseconds of a day.
pub(super) const DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// Numbers that look like chance.
#[derive(Debug)]
pub(super) struct Chance(fastrand::Rng);

impl Chance {
    /// Those of `host` of the profile called `profile`.
    pub(super) fn new(seed: u64, profile: &str, host: u64) -> Self {
        // FNV-1a (Fowler, Noll, Vo): every host and profile begins elsewhere.
        let bytes = profile.bytes().chain(host.to_le_bytes());
        let mixed = bytes.fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(fastrand::Rng::with_seed(mixed))
    }

    /// A whole number from 0 to below `limit`, which is at least 1.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0.usize(..limit)
    }

    /// A whole number from `first` to `last`.
    pub(super) fn between(&mut self, first: usize, last: usize) -> usize {
        self.0.usize(first..=last)
    }

    /// Microseconds, below `limit`.
    pub(super) fn micros(&mut self, limit: i64) -> i64 {
        self.0.i64(0..limit)
    }

    /// A number of 32 bits.
    pub(super) fn word(&mut self) -> u32 {
        self.0.u32(..)
    }

    /// True in that share of cases.
    pub(super) fn is(&mut self, share: f64) -> bool {
        self.0.f64() < share
    }

    /// One of them; they are not none.
    pub(super) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Microseconds to the next event of a Poisson process with that many a day.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "below 2^53"
    )]
    pub(super) fn gap(&mut self, per_day: f64) -> i64 {
        (-(1.0 - self.0.f64()).ln() / per_day * DAY as f64) as i64
    }

    /// The rank of what is drawn where popularity falls as a Pareto distribution with exponent `alpha`:
    /// 1 is drawn most often, and there is no last one.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and is positive"
    )]
    pub(super) fn rank(&mut self, alpha: f64) -> u32 {
        (1.0 - self.0.f64()).powf(-1.0 / alpha) as u32
    }

    /// A server somewhere in the Internet; the /24 of two are the same once in 14 million.
    pub(super) fn server(&mut self) -> IpAddr {
        server(self.word())
    }

    /// The same, of IPv6: groups are /48, of `2000::/3`.
    pub(super) fn server_v6(&mut self) -> IpAddr {
        let network = u128::from(self.0.u64(..) >> 19) << 80;
        Ipv6Addr::from(0x2000_u128 << 112 | network | 0x25).into()
    }
}

/// The server that a number stands for: none of the private, the reserved, or the multicast addresses.
pub(super) fn server(number: u32) -> IpAddr {
    // An odd factor reaches each number once, and neighbours lie apart.
    let mut number = number.wrapping_mul(0x9e37_79b1);
    loop {
        let address = Ipv4Addr::from(number);
        let first = address.octets()[0];
        if (1..224).contains(&first)
            && first != 127
            && !Networks::private().contains(address.into())
        {
            return address.into();
        }
        number = number.wrapping_mul(0x9e37_79b1).wrapping_add(1);
    }
}
