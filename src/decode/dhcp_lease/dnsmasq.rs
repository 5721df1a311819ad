//! dnsmasq's lease file: a line a lease, IPv4 first, then the server's DUID, then IPv6 (src/lease.c).
//!
//! `EXPIRY MAC ADDRESS NAME CLIENT-ID` and `EXPIRY [T]IAID ADDRESS NAME DUID`; `*` stands for what is
//! not known. The file is rewritten whole, holds what is leased at present and says no start.

use super::{Kind, Leases, Line, Record, Skip, State};
use super::{Lease, address, hex_octets, hostname, lines, mac, mac_of_duid, seconds};
use crate::decode::decimal;
use crate::model::Mac;

/// Expiries below this (September 2001) are no times: dnsmasq as it is built for machines without a
/// clock (`HAVE_BROKEN_RTC`) writes the lease's length instead, some routers' firmware what is left of
/// it, and one whose clock still stands in 1970 is no better. Nobody can tell when those end.
const EARLIEST_EXPIRY: u64 = 1_000_000_000;

/// What dnsmasq writes about itself, or about a lease beyond what names its holder.
const OTHER_LINES: [&[u8]; 3] = [b"duid", b"agent-info", b"vendorclass"];

/// Whether only dnsmasq would write this line.
pub(super) fn is_telling(line: &[u8]) -> bool {
    let (words, count) = words(line);
    match count {
        2 => words[0] == b"duid" && is_hex(words[1]),
        4 | 5 => {
            decimal(words[0]).is_some()
                && match address(words[2]) {
                    Some(address) if address.is_ipv4() => is_hardware_address(words[1]),
                    Some(_) => decimal(words[1].strip_prefix(b"T").unwrap_or(words[1])).is_some(),
                    None => false,
                }
        }
        _ => false,
    }
}

/// Decodes all lines of `text`.
pub(super) fn decode(text: &[u8], leases: &mut Leases) {
    debug_assert_eq!(leases.kind, Some(Kind::Dnsmasq));
    for line in lines(text) {
        if !line.text.trim_ascii().is_empty() {
            leases.take(lease(line).map(Record::Lease));
        }
    }
}

fn lease(line: Line<'_>) -> Result<Lease, Skip> {
    let ([expiry, holder, leased, name, client], count) = words(line.text);
    if OTHER_LINES.contains(&expiry) {
        return Err(Skip::OtherDeclaration);
    }
    let expiry = decimal(expiry).ok_or(Skip::Unknown)?;
    // A line without the client identifier tells all that is asked, unless its name may be cut.
    if count < 4 || (count == 4 && !line.ended) {
        return Err(Skip::CutOff);
    }
    let address = address(leased).ok_or(Skip::BadAddress)?;
    Ok(Lease {
        address,
        mac: if address.is_ipv4() {
            ethernet(holder)
        } else {
            mac_of_duid(hex_octets(client))
        },
        hostname: match name {
            b"*" => None,
            name => hostname(name.iter().copied()),
        },
        starts: None,
        ends: (expiry >= EARLIEST_EXPIRY).then(|| seconds(expiry)),
        state: State::Active,
    })
}

/// The first five words, and how many there are.
fn words(line: &[u8]) -> ([&[u8]; 5], usize) {
    let mut words = [&[][..]; 5];
    let mut count = 0;
    for word in line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
    {
        if let Some(place) = words.get_mut(count) {
            *place = word;
        }
        count += 1;
    }
    (words, count)
}

/// Takes off the hardware type (ARP's, hexadecimal) that stands before an address that is not of
/// Ethernet: `06-02:00:00:00:00:01`.
fn hardware_address(text: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match text.iter().position(|&b| b == b'-') {
        Some(dash) if !text[dash + 1..].contains(&b'-') => (Some(&text[..dash]), &text[dash + 1..]),
        _ => (None, text),
    }
}

/// A MAC of Ethernet or, 6, of the other IEEE 802 networks, which share its addresses.
fn ethernet(text: &[u8]) -> Option<Mac> {
    match hardware_address(text) {
        (None | Some(b"01" | b"06"), address) => mac(address),
        _ => None,
    }
}

/// Whether dnsmasq would write it as a hardware address; one of no length is its type alone, `00-`.
fn is_hardware_address(text: &[u8]) -> bool {
    match hardware_address(text) {
        (Some(_), b"") => true,
        (_, address) => is_hex(address),
    }
}

fn is_hex(text: &[u8]) -> bool {
    text.contains(&b':') && text.iter().all(|&b| b.is_ascii_hexdigit() || b == b':')
}

#[cfg(test)]
mod tests {
    use super::super::tests::{leases, skipped};
    use super::*;
    use crate::model::Timestamp;

    fn one(line: &str) -> Lease {
        let mut all = leases(line);
        assert_eq!(all.len(), 1, "{line}");
        all.remove(0)
    }

    fn mac_in(line: &str) -> Option<String> {
        one(line).mac.map(|mac| mac.to_string())
    }

    #[test]
    fn every_field_of_a_line() {
        assert_eq!(
            one("1700003600 02:00:00:00:00:01 192.0.2.11 desk 01:02:00:00:00:00:01\n"),
            Lease {
                address: "192.0.2.11".parse().unwrap(),
                mac: Some(Mac([2, 0, 0, 0, 0, 1])),
                hostname: Some("desk".into()),
                starts: None,
                ends: Some(Timestamp::from_seconds(1_700_003_600)),
                state: State::Active,
            }
        );
    }

    #[test]
    fn stars_are_nothing_and_zero_is_never() {
        let lease = one("0 02:00:00:00:00:01 192.0.2.11 * *\n");
        assert_eq!((lease.hostname.as_deref(), lease.ends), (None, None));
        assert!(lease.holds_at(Timestamp::from_seconds(4_000_000_000)));
    }

    #[test]
    fn a_length_is_no_time() {
        assert_eq!(
            one("43200 02:00:00:00:00:01 192.0.2.11 desk *\n").ends,
            None
        );
    }

    #[test]
    fn hardware_types_stand_before_the_address() {
        let mac = Some("02:00:00:00:00:01".to_owned());
        assert_eq!(mac_in("0 06-02:00:00:00:00:01 192.0.2.11 * *"), mac);
        assert_eq!(mac_in("0 01-02:00:00:00:00:01 192.0.2.11 * *"), mac);
        for other in ["20-02:00:00:00:00:01", "02:00:00:00:00:01:02:03", "00-"] {
            assert_eq!(
                mac_in(&format!("0 {other} 192.0.2.11 * *")),
                None,
                "{other}"
            );
        }
    }

    #[test]
    fn null_and_group_addresses_are_kept() {
        assert!(
            one("0 00:00:00:00:00:00 192.0.2.11 * *")
                .mac
                .unwrap()
                .is_null()
        );
        let group = one("0 01:00:5e:00:00:01 192.0.2.11 * *").mac.unwrap();
        assert!(group.is_multicast());
    }

    #[test]
    fn ipv6_leases_have_their_mac_in_the_duid() {
        let text = "0 02:00:00:00:00:01 192.0.2.11 desk *\n\
            duid 00:01:00:01:2c:00:00:01:02:00:00:00:00:fe\n\
            1700003600 16777217 2001:db8::11 desk 00:01:00:01:2c:00:00:02:02:00:00:00:00:01\n\
            1700003600 T16777218 2001:db8::12 * 00:03:00:01:02:00:00:00:00:02\n\
            1700003600 3 2001:db8::13 * 00:04:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10\n";
        let macs: Vec<_> = leases(text).into_iter().map(|lease| lease.mac).collect();
        assert_eq!(
            macs,
            [
                Some(Mac([2, 0, 0, 0, 0, 1])),
                Some(Mac([2, 0, 0, 0, 0, 1])),
                Some(Mac([2, 0, 0, 0, 0, 2])),
                None
            ]
        );
        assert_eq!(skipped(text), [(Skip::OtherDeclaration, 1)]);
    }

    #[test]
    fn what_is_no_lease_has_its_reason() {
        let head = "0 02:00:00:00:00:01 192.0.2.11 desk *\n";
        for (line, reason) in [
            ("agent-info 192.0.2.11 01:02\n", Skip::OtherDeclaration),
            ("vendorclass 192.0.2.11 4d:53\n", Skip::OtherDeclaration),
            ("170000 02:00:00:00:00:01 192.0.2.11\n", Skip::CutOff),
            ("170000 02:00:00:00:00:01 192.0.2.11 de", Skip::CutOff),
            ("170000\n", Skip::CutOff),
            (
                "170000 02:00:00:00:00:01 192.0.2.511 * *\n",
                Skip::BadAddress,
            ),
            ("soon 02:00:00:00:00:01 192.0.2.11 * *\n", Skip::Unknown),
        ] {
            assert_eq!(skipped(&format!("{head}{line}")), [(reason, 1)], "{line}");
        }
    }

    #[test]
    fn old_lines_crlf_and_a_missing_last_line_feed() {
        assert_eq!(
            one("0 02:00:00:00:00:01 192.0.2.11 desk\r\n")
                .hostname
                .unwrap(),
            "desk"
        );
        assert_eq!(
            one("\r\n0 02:00:00:00:00:01 192.0.2.11 desk *")
                .hostname
                .unwrap(),
            "desk"
        );
    }
}
