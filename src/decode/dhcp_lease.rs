//! DHCP lease files: which machine (MAC, name) held which address, and when.
//!
//! Four kinds, told by content: dnsmasq's leases, ISC dhcpd's (IPv4 and IPv6 in one grammar), and
//! Kea's memfile for IPv4 and for IPv6. All records are kept in the order of the file, for a later
//! record changes what an address means now, not who held it then. A state is what the file says;
//! whether a lease has run out by some time is for the caller to ask ([`Lease::holds_at`]). Nothing
//! here chooses between records, opens a file or looks at a clock.

mod dnsmasq;
mod isc_dhcpd;
mod kea;

use std::fmt;
use std::net::IpAddr;

use memchr::memchr;
use serde::{Deserialize, Serialize};

use crate::model::{Mac, Timestamp};

/// A name in the DNS has at most this many bytes in text (RFC 1035, 2.3.4).
const MAX_HOSTNAME: usize = 253;

/// What wrote a lease file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// dnsmasq, both address families (src/lease.c).
    Dnsmasq,
    /// ISC dhcpd, both address families (dhcpd.leases(5)); also OpenBSD's.
    IscDhcpd,
    /// Kea's memfile for IPv4 (`csv_lease_file4.cc`).
    Kea4,
    /// Kea's memfile for IPv6 (`csv_lease_file6.cc`).
    Kea6,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dnsmasq => "dnsmasq leases",
            Self::IscDhcpd => "ISC dhcpd leases",
            Self::Kea4 => "Kea DHCPv4 leases",
            Self::Kea6 => "Kea DHCPv6 leases",
        })
    }
}

/// Why a part of a lease file is no lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Skip {
    /// A delegated prefix: no address of one machine.
    Prefix,
    /// A declaration of the server about something else: its DUID, a failover peer, a host.
    OtherDeclaration,
    /// A lease that ends, or begins, in the middle.
    CutOff,
    /// A lease of something that is no address.
    BadAddress,
    /// A lease whose start or end cannot be read.
    BadTime,
    /// Nothing that the kind knows.
    Unknown,
}

impl Skip {
    /// All reasons, in the order they are shown.
    pub const ALL: [Self; 6] = [
        Self::Prefix,
        Self::OtherDeclaration,
        Self::CutOff,
        Self::BadAddress,
        Self::BadTime,
        Self::Unknown,
    ];

    /// The reason as it is shown.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Prefix => "delegated prefix",
            Self::OtherDeclaration => "other declaration",
            Self::CutOff => "cut off",
            Self::BadAddress => "bad address",
            Self::BadTime => "bad time",
            Self::Unknown => "unknown line",
        }
    }
}

/// How often each reason was met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped([u64; Skip::ALL.len()]);

impl Skipped {
    /// How often `reason` was met.
    pub fn count(&self, reason: Skip) -> u64 {
        self.0[reason as usize]
    }

    /// The reasons that were met, in the order they are shown.
    pub fn iter(&self) -> impl Iterator<Item = (Skip, u64)> + '_ {
        Skip::ALL
            .into_iter()
            .map(|reason| (reason, self.count(reason)))
            .filter(|&(_, count)| count > 0)
    }

    /// All of them together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    fn add(&mut self, reason: Skip) {
        self.0[reason as usize] += 1;
    }
}

/// The state of a lease as its file says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Assigned (ISC `active`, Kea 0; Kea 4, an address its user chose and registered, RFC 9686),
    /// or a file whose kind has no states.
    Active,
    /// To be had by anybody; who had it last is still told.
    Free,
    /// Ran out (ISC `expired`, Kea 2 `expired-reclaimed`).
    Expired,
    /// Given back by its holder (ISC `released`, Kea 3).
    Released,
    /// Found in use by somebody else (ISC).
    Abandoned,
    /// Refused by the client because somebody else uses it (Kea 1).
    Declined,
    /// To be had from the failover peer only.
    Backup,
    /// Taken back by the operator.
    Reset,
    /// A word or number that the kind does not define.
    Unknown,
}

impl State {
    /// Whether it says that the machine in the record did not use the address.
    pub fn is_conflict(self) -> bool {
        matches!(self, Self::Abandoned | Self::Declined)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Active => "active",
            Self::Free => "free",
            Self::Expired => "expired",
            Self::Released => "released",
            Self::Abandoned => "abandoned",
            Self::Declined => "declined",
            Self::Backup => "backup",
            Self::Reset => "reset",
            Self::Unknown => "state unknown",
        })
    }
}

/// One record of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address leased.
    pub address: IpAddr,
    /// The holder's MAC as it stands there, null and group addresses too; for IPv6 the one in its
    /// DUID. `None` where there is none, or one of another length than six octets.
    pub mac: Option<Mac>,
    /// The holder's name as it gave it: hostile text, at most 253 bytes; bytes that are not UTF-8
    /// became U+FFFD. Never empty.
    pub hostname: Option<String>,
    /// When the record begins to hold: the last renewal. `None` where the file does not say.
    pub starts: Option<Timestamp>,
    /// When it ends. `None` is never, or not told.
    pub ends: Option<Timestamp>,
    /// Its state as the file says it.
    pub state: State,
}

impl Lease {
    /// From when on (inclusive) until when (exclusive) its holder had the address; `i64::MIN` and
    /// `i64::MAX` microseconds stand for "always" and "never". `None` where he never had it.
    ///
    /// A lease that is free, expired or released now was held between its start and its end all the
    /// same, so it needs an end. An abandoned or declined one was not.
    pub fn held(&self) -> Option<(Timestamp, Timestamp)> {
        let starts = self.starts.unwrap_or(Timestamp::from_micros(i64::MIN));
        let ends = match (self.state, self.ends) {
            (state, _) if state.is_conflict() => return None,
            (_, Some(ends)) => ends,
            (State::Active, None) => Timestamp::from_micros(i64::MAX),
            (_, None) => return None,
        };
        (starts < ends).then_some((starts, ends))
    }

    /// Whether its holder had the address at `time`.
    pub fn holds_at(&self, time: Timestamp) -> bool {
        self.held()
            .is_some_and(|(starts, ends)| starts <= time && time < ends)
    }
}

/// What a file says about an address, one thing after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// It is leased, or was.
    Lease(Lease),
    /// The server has forgotten its lease (Kea: a lifetime of 0).
    Removed(IpAddr),
}

/// A decoded lease file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// What wrote it; `None` where nothing in it says so, as in an empty file.
    pub kind: Option<Kind>,
    /// Its records in the order of the file.
    pub records: Vec<Record>,
    /// What was not taken.
    pub skipped: Skipped,
}

impl Leases {
    fn take(&mut self, decoded: Result<Record, Skip>) {
        match decoded {
            Ok(record) => self.records.push(record),
            Err(reason) => self.skipped.add(reason),
        }
    }
}

/// What wrote a file that begins with `head`: the first line that only one of the kinds has says
/// so. A line that the end of `head` may have cut is read as far as it goes.
pub fn kind(head: &[u8]) -> Option<Kind> {
    lines(head).find_map(|line| {
        kea::kind_of_header(line.text)
            .or_else(|| isc_dhcpd::is_telling(line.text).then_some(Kind::IscDhcpd))
            .or_else(|| dnsmasq::is_telling(line.text).then_some(Kind::Dnsmasq))
    })
}

/// Decodes a whole lease file of any kind.
///
/// In a file of no known kind each line that is not blank or a comment is counted as unknown.
pub fn decode(text: &[u8]) -> Leases {
    let kind = kind(text);
    let mut leases = Leases {
        kind,
        ..Leases::default()
    };
    match kind {
        Some(Kind::Dnsmasq) => dnsmasq::decode(text, &mut leases),
        Some(Kind::IscDhcpd) => isc_dhcpd::decode(text, &mut leases),
        Some(Kind::Kea4 | Kind::Kea6) => kea::decode(text, &mut leases),
        None => {
            for line in lines(text) {
                if !matches!(line.text.trim_ascii().first(), None | Some(b'#')) {
                    leases.skipped.add(Skip::Unknown);
                }
            }
        }
    }
    leases
}

/// A line without its end.
#[derive(Clone, Copy)]
struct Line<'a> {
    text: &'a [u8],
    /// Whether it has its line feed; the last line of a file that is being written may not.
    ended: bool,
}

fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr(b'\n', rest);
        let line = &rest[..end.unwrap_or(rest.len())];
        rest = end.map_or(&[][..], |end| &rest[end + 1..]);
        Some(Line {
            text: line.strip_suffix(b"\r").unwrap_or(line),
            ended: end.is_some(),
        })
    })
}

fn address(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn mac(text: &[u8]) -> Option<Mac> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds since the epoch; what no clock will ever show is as late as can be.
fn seconds(value: u64) -> Timestamp {
    Timestamp::from_seconds(i64::try_from(value).unwrap_or(i64::MAX))
}

/// The name in `bytes`, bounded.
fn hostname(bytes: impl Iterator<Item = u8>) -> Option<String> {
    // Three bytes beyond the bound, so that a character on it is whole and can be left out.
    let bytes: Vec<u8> = bytes.take(MAX_HOSTNAME + 3).collect();
    let mut name = String::from_utf8_lossy(&bytes).into_owned();
    let end = (0..=MAX_HOSTNAME.min(name.len()))
        .rev()
        .find(|&end| name.is_char_boundary(end))
        .unwrap_or(0);
    name.truncate(end);
    (!name.is_empty()).then_some(name)
}

/// Reads `00:01:00:01:...`; what is no octet of two digits is `None`, for all servers write two, and
/// one alone is what a cut leaves.
fn hex_octets(text: &[u8]) -> impl Iterator<Item = Option<u8>> + '_ {
    text.split(|&b| b == b':').map(|octet| match *octet {
        [high, low] => Some((hex_digit(high)? << 4) | hex_digit(low)?),
        _ => None,
    })
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// The MAC that a DUID was made from: type 1 (link layer and time) and type 3 (link layer) with
/// hardware type 1, Ethernet (RFC 8415, 11.2 and 11.4). It may be that of another of the machine's
/// interfaces, or of one that it had once; the standard promises no more.
fn mac_of_duid(octets: impl Iterator<Item = Option<u8>>) -> Option<Mac> {
    const LONGEST: usize = 14;
    let mut duid = [0; LONGEST];
    let mut length = 0;
    for octet in octets {
        *duid.get_mut(length)? = octet?;
        length += 1;
    }
    match &duid[..length] {
        [0, 1, 0, 1, _, _, _, _, link_layer @ ..] | [0, 3, 0, 1, link_layer @ ..] => {
            link_layer.try_into().ok().map(Mac)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The leases of `text`, which holds nothing but leases.
    pub(super) fn leases(text: &str) -> Vec<Lease> {
        let decoded = decode(text.as_bytes());
        decoded
            .records
            .into_iter()
            .map(|record| match record {
                Record::Lease(lease) => lease,
                Record::Removed(address) => panic!("{address} removed"),
            })
            .collect()
    }

    /// What was skipped in `text`.
    pub(super) fn skipped(text: &str) -> Vec<(Skip, u64)> {
        decode(text.as_bytes()).skipped.iter().collect()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn lease(starts: Option<i64>, ends: Option<i64>, state: State) -> Lease {
        Lease {
            address: "192.0.2.1".parse().unwrap(),
            mac: None,
            hostname: None,
            starts: starts.map(at),
            ends: ends.map(at),
            state,
        }
    }

    const DNSMASQ: &str = "1700003600 02:00:00:00:00:01 192.0.2.11 desk 01:02:00:00:00:00:01\n\
        duid 00:01:00:01:2c:00:00:01:02:00:00:00:00:fe\n\
        1700003600 T7 2001:db8::11 desk 00:03:00:01:02:00:00:00:00:01\n";
    const ISC: &str = "# The format of this file is documented in the dhcpd.leases(5) manual page.\n\
        lease 192.0.2.12 {\n  starts 2 2023/11/14 22:13:20;\n  ends 2 2023/11/14 23:13:20;\n  \
        binding state active;\n  hardware ethernet 02:00:00:00:00:02;\n  \
        client-hostname \"bench;}\\\"\\303\\251\";\n}\n\
        ia-na \"\\001\\000\\000\\000\\000\\003\\000\\001\\002\\000\\000\\000\\000\\003\" {\n  \
        cltt 2 2023/11/14 22:13:20;\n  iaaddr 2001:db8::12 {\n    binding state active;\n    \
        max-life 3600;\n    ends epoch 1700003600; # Tue Nov 14 23:13:20 2023\n  }\n}\n";
    const KEA: &str = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context,pool_id\n\
        192.0.2.13,02:00:00:00:00:04,,3600,1700003600,1,0,0,till&#x2c1,0,,0\n\
        192.0.2.13,02:00:00:00:00:04,,0,1700000000,1,0,0,,0,,0\n";

    #[test]
    fn the_kind_is_told_by_content() {
        assert_eq!(kind(DNSMASQ.as_bytes()), Some(Kind::Dnsmasq));
        assert_eq!(kind(ISC.as_bytes()), Some(Kind::IscDhcpd));
        assert_eq!(kind(KEA.as_bytes()), Some(Kind::Kea4));
        assert_eq!(
            kind(b"address,duid,valid_lifetime,expire,subnet_id,pref_lifetime,lease_type,iaid"),
            Some(Kind::Kea6)
        );
        for other in [
            "",
            "\n\n",
            "# a comment\n",
            "Jun  8 14:34:33 gw kernel: IN=eth1 OUT= SRC=192.0.2.1 DST=203.0.113.9",
            "1654698873.123 192.0.2.1 TCP_MISS/200 1024 GET",
            "1700003600 192.0.2.1 02:00:00:00:00:01 desk *",
            "lease 192.0.2.1 expired",
            "lease {\n  interface \"eth0\";\n  fixed-address 192.0.2.1;\n}",
            "address,name,street\n",
        ] {
            assert_eq!(kind(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_file_without_leases_is_no_error_and_one_of_no_kind_is_counted() {
        assert_eq!(decode(b""), Leases::default());
        assert_eq!(decode(b"# nothing yet\n\n"), Leases::default());
        let fresh = decode(
            b"# This lease file was written by isc-dhcp-4.4.3\n\n# authoring-byte-order entry\n",
        );
        assert_eq!(fresh.kind, Some(Kind::IscDhcpd));
        assert_eq!((fresh.records.len(), fresh.skipped.total()), (0, 0));
        assert_eq!(skipped("what\n\nis this\n"), [(Skip::Unknown, 2)]);
    }

    #[test]
    fn a_lease_holds_from_its_start_until_before_its_end() {
        let hour = lease(Some(100), Some(200), State::Active);
        assert!(!hour.holds_at(at(99)));
        assert!(hour.holds_at(at(100)));
        assert!(hour.holds_at(at(199)));
        assert!(!hour.holds_at(at(200)));
        assert!(lease(None, Some(200), State::Active).holds_at(at(-5)));
        assert!(lease(Some(100), None, State::Active).holds_at(at(i64::from(u32::MAX))));
        assert!(!lease(Some(200), Some(100), State::Active).holds_at(at(150)));
    }

    #[test]
    fn what_is_free_now_was_held_then_and_what_was_refused_never() {
        for state in [
            State::Free,
            State::Expired,
            State::Released,
            State::Backup,
            State::Reset,
        ] {
            assert!(
                lease(Some(100), Some(200), state).holds_at(at(150)),
                "{state}"
            );
            assert!(!lease(Some(100), None, state).holds_at(at(150)), "{state}");
        }
        for state in [State::Abandoned, State::Declined] {
            assert!(
                !lease(Some(100), Some(200), state).holds_at(at(150)),
                "{state}"
            );
            assert!(!lease(None, None, state).holds_at(at(150)), "{state}");
        }
    }

    #[test]
    fn names_are_bounded_at_whole_characters() {
        let of = |text: &str| hostname(text.bytes());
        assert_eq!(of(""), None);
        assert_eq!(of(&"a".repeat(400)).unwrap().len(), 253);
        let wide = of(&"\u{20ac}".repeat(200)).unwrap();
        assert_eq!(wide, "\u{20ac}".repeat(84));
        assert_eq!(hostname(b"a\xff".iter().copied()).unwrap(), "a\u{fffd}");
        assert!(hostname(std::iter::repeat_n(0xff, 400)).unwrap().len() <= 253);
    }

    #[test]
    fn only_a_duid_made_from_ethernet_names_a_mac() {
        let of = |text: &str| mac_of_duid(hex_octets(text.as_bytes())).map(|mac| mac.to_string());
        let mac = Some("02:00:00:00:00:09".to_owned());
        assert_eq!(of("00:01:00:01:2c:01:02:03:02:00:00:00:00:09"), mac);
        assert_eq!(of("00:03:00:01:02:00:00:00:00:09"), mac);
        for other in [
            "",
            "*",
            "00:02:00:00:ab:11:02:00:00:00:00:09",
            "00:04:02:00:00:00:00:09:02:00:00:00:00:09:02:00:00:00",
            "00:03:00:20:02:00:00:00:00:09",
            "00:03:00:01:02:00:00:00:00",
            "00:03:00:01:02:00:00:00:00:09:0a",
            "00:03:00:01:02:00:00:00:00:0g",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn each_reason_has_its_own_count_and_text() {
        let mut skipped = Skipped::default();
        for (index, reason) in Skip::ALL.into_iter().enumerate() {
            assert_eq!(skipped.total(), index as u64);
            skipped.add(reason);
            assert_eq!(skipped.count(reason), 1);
        }
        let mut texts: Vec<_> = Skip::ALL.map(Skip::reason).to_vec();
        texts.dedup();
        assert_eq!(texts.len(), Skip::ALL.len());
    }

    /// Checks what holds for any input.
    fn sound(text: &[u8]) {
        let decoded = decode(text);
        assert_eq!(decoded.kind, kind(text));
        let taken = decoded.records.len() as u64 + decoded.skipped.total();
        assert!(taken <= text.len() as u64);
        for record in &decoded.records {
            if let Record::Lease(lease) = record {
                let name = lease.hostname.as_deref();
                assert!(name.is_none_or(|name| (1..=253).contains(&name.len())));
            }
        }
    }

    #[test]
    fn a_file_cut_anywhere_names_nobody_wrongly() {
        for text in [DNSMASQ, ISC, KEA] {
            let whole = decode(text.as_bytes()).records;
            for end in 0..text.len() {
                for record in decode(&text.as_bytes()[..end]).records {
                    let Record::Lease(lease) = record else {
                        continue;
                    };
                    assert!(
                        whole.iter().any(|record| match record {
                            Record::Lease(other) =>
                                other.address == lease.address
                                    && other.starts == lease.starts
                                    && other.ends == lease.ends
                                    && (other.mac == lease.mac || lease.mac.is_none()),
                            Record::Removed(_) => false,
                        }),
                        "{lease:?} in {end} bytes of {text}"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            sound(&text);
        }

        #[test]
        fn no_lease_like_text_panics(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just("lease"), Just("192.0.2.1"), Just("{"), Just("}"), Just(";"), Just("\n"),
                    Just(" "), Just("\""), Just("\\"), Just("\\303"), Just("ia-na"), Just("ia-pd"),
                    Just("iaaddr"), Just("iaprefix"), Just("2001:db8::1"), Just("starts"),
                    Just("ends"), Just("never"), Just("epoch"), Just("1700000000"), Just("2"),
                    Just("2023/11/14"), Just("22:13:20"), Just("#"), Just("address,"), Just(","),
                    Just("valid_lifetime,expire"), Just("duid"), Just("&#x2"), Just("*"),
                    Just("02:00:00:00:00:01"), Just("client-hostname"), Just("binding"),
                    Just("state"), Just("active"), Just("0"), Just("T"), Just("06-"),
                ],
                0..120,
            )
        ) {
            sound(parts.concat().as_bytes());
        }

        #[test]
        fn no_mutated_file_panics(
            which in 0..3usize,
            changes in proptest::collection::vec((any::<usize>(), any::<u8>(), 0..3u8), 1..12),
        ) {
            let mut text = [DNSMASQ, ISC, KEA][which].as_bytes().to_vec();
            for (at, byte, change) in changes {
                let at = at % (text.len() + 1);
                match change {
                    0 => text.insert(at, byte),
                    1 if at < text.len() => text[at] = byte,
                    _ if at < text.len() => { text.remove(at); }
                    _ => {}
                }
            }
            sound(&text);
        }
    }
}
