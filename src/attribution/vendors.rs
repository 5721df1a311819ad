//! Who made a network card: the first bits of its MAC, as the IEEE gives them out (MA-L 24 bits, MA-M
//! 28, MA-S 36).
//!
//! Read from the text of the lists that Linux systems have, which agree in nothing but that a prefix
//! in hexadecimal comes first. The longest prefix wins. A MAC that was made up has no maker.

use crate::model::Mac;

/// Prefixes that are kept: more than twice what there are.
const MAX_PREFIXES: usize = 131_072;
/// Bytes of a name that are kept.
const MAX_NAME: usize = 40;
/// What says no more than that it is a company.
const LEGAL: [&str; 24] = [
    "inc",
    "incorporated",
    "corp",
    "corporation",
    "co",
    "company",
    "ltd",
    "limited",
    "llc",
    "gmbh",
    "ag",
    "kg",
    "sa",
    "s.a",
    "spa",
    "s.p.a",
    "bv",
    "b.v",
    "ab",
    "oy",
    "as",
    "a/s",
    "pte",
    "pty",
];

/// The makers by the prefixes of their MACs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vendors {
    /// Prefix and length in bits, and where its maker's name stands; in order.
    prefixes: Vec<(Prefix, Name)>,
    names: String,
}

/// The bits, set left in 48, and how many they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Prefix(u64);

/// Where a name begins, and its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name(u32, u8);

impl Prefix {
    const LENGTHS: [u32; 3] = [36, 28, 24];

    fn new(bits: u64, length: u32) -> Self {
        Self((bits >> (48 - length) << (48 - length)) << 8 | u64::from(length))
    }
}

impl Vendors {
    /// The list in `text`: of systemd (`20-OUI.hwdb`), the IEEE (`oui.txt`), Wireshark (`manuf`), Nmap
    /// (`nmap-mac-prefixes`) or arp-scan (`ieee-oui.txt`). Lines of another kind are passed over.
    pub fn decode(text: &[u8]) -> Self {
        let mut vendors = Self::default();
        let mut known = std::collections::HashMap::<String, Name, _>::with_hasher(
            foldhash::quality::FixedState::default(),
        );
        let mut waiting = None;
        for line in text.split(|&byte| byte == b'\n') {
            if vendors.prefixes.len() >= MAX_PREFIXES {
                break;
            }
            let Ok(line) = std::str::from_utf8(line) else {
                continue;
            };
            let (prefix, name) = if let Some(prefix) = line.strip_prefix("OUI:") {
                waiting = parse_prefix(prefix.trim_end().trim_end_matches('*'));
                continue;
            } else if let Some(name) = line.strip_prefix(" ID_OUI_FROM_DATABASE=") {
                (waiting.take(), name)
            } else {
                match entry(line) {
                    Some((prefix, name)) => (Some(prefix), name),
                    None => continue,
                }
            };
            let Some(prefix) = prefix else {
                continue;
            };
            let name = short(name);
            if name.is_empty() || name.eq_ignore_ascii_case("IEEE Registration Authority") {
                continue;
            }
            let place = match known.get(name) {
                Some(place) => *place,
                None => {
                    let place = vendors.keep(name);
                    known.insert(name.to_owned(), place);
                    place
                }
            };
            vendors.prefixes.push((prefix, place));
        }
        vendors.prefixes.sort_by_key(|(prefix, _)| *prefix);
        vendors.prefixes.dedup_by_key(|(prefix, _)| *prefix);
        vendors.prefixes.shrink_to_fit();
        vendors.names.shrink_to_fit();
        vendors
    }

    fn keep(&mut self, name: &str) -> Name {
        let start = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push_str(name);
        Name(start, u8::try_from(name.len()).unwrap_or(u8::MAX))
    }

    /// Who made the card with `mac`, in a few words.
    pub fn of(&self, mac: Mac) -> Option<&str> {
        if !mac.is_station() || mac.is_randomised() {
            return None;
        }
        let bits = mac
            .0
            .iter()
            .fold(0, |bits, &octet| bits << 8 | u64::from(octet));
        let Name(start, length) = Prefix::LENGTHS.iter().find_map(|&length| {
            let prefix = Prefix::new(bits, length);
            let at = self.prefixes.binary_search_by_key(&prefix, |(it, _)| *it);
            at.ok().map(|at| self.prefixes[at].1)
        })?;
        let start = start as usize;
        self.names.get(start..start + usize::from(length))
    }

    /// How many prefixes are known.
    pub fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }
}

/// A line that has both: the prefix, and after white space the name. Of Wireshark's three columns the
/// last says it in full; in the IEEE's own list `(hex)` stands between, and its second line in base 16
/// says the same again.
fn entry(line: &str) -> Option<(Prefix, &str)> {
    let (prefix, rest) = line.split_once([' ', '\t'])?;
    let prefix = parse_prefix(prefix)?;
    let rest = rest.trim();
    if rest.starts_with("(base 16)") {
        return None;
    }
    let rest = rest.strip_prefix("(hex)").unwrap_or(rest).trim();
    Some((prefix, rest.rsplit('\t').next().unwrap_or(rest)))
}

/// 6, 7 or 9 digits in hexadecimal, with any separators, or a whole address with `/28` after it.
fn parse_prefix(text: &str) -> Option<Prefix> {
    let (digits, length) = match text.split_once('/') {
        Some((digits, length)) => (digits, Some(length.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let mut bits: u64 = 0;
    let mut count: u32 = 0;
    for character in digits.chars() {
        if matches!(character, ':' | '-' | '.') {
            continue;
        }
        bits = bits << 4 | u64::from(character.to_digit(16)?);
        count += 1;
        if count > 12 {
            return None;
        }
    }
    let length = length.unwrap_or(count * 4);
    let is_known = Prefix::LENGTHS.contains(&length) && count * 4 >= length;
    is_known.then(|| Prefix::new(bits << (48 - count * 4), length))
}

/// The name without its legal form: "Dell Inc." is Dell.
fn short(name: &str) -> &str {
    let ends = [' ', ',', '.', '(', ')', '\r', '\t'];
    let mut name = name.trim_matches(ends);
    while let Some((rest, last)) = name.rsplit_once([' ', ','])
        && LEGAL.iter().any(|legal| last.eq_ignore_ascii_case(legal))
        && !rest.trim_matches(ends).is_empty()
    {
        name = rest.trim_matches(ends);
    }
    // "CO.,LTD" leaves its first half.
    if let Some(rest) = name.to_ascii_lowercase().strip_suffix(" co.") {
        name = name[..rest.len()].trim_matches(ends);
    }
    let mut end = name.len().min(MAX_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].trim_matches(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(vendors: &'a Vendors, mac: &str) -> Option<&'a str> {
        vendors.of(mac.parse().unwrap())
    }

    #[test]
    fn each_list_that_systems_have_says_the_same() {
        for (what, text) in [
            (
                "systemd",
                "# x\nOUI:001422*\n ID_OUI_FROM_DATABASE=Dell Inc.\n\nOUI:70B3D5001*\n ID_OUI_FROM_DATABASE=SOREDI touch systems GmbH\n\
                 OUI:70B3D5*\n ID_OUI_FROM_DATABASE=IEEE Registration Authority\nOUI:0055DA0*\n ID_OUI_FROM_DATABASE=Shinko Technos co.,ltd.\n",
            ),
            (
                "IEEE",
                "OUI/MA-L Organization\n\n00-14-22   (hex)\t\tDell Inc.\n001422     (base 16)\t\tDell Inc.\n\t\t\t\tOne Dell Way\n\
                 70-B3-D5-00-1  (hex)\tSOREDI touch systems GmbH\n0055DA0 (hex) Shinko Technos co.,ltd.\n",
            ),
            (
                "Wireshark",
                "# c\n00:14:22\tDell\tDell Inc.\n70:B3:D5:00:10:00/36\tSOREDItouch\tSOREDI touch systems GmbH\n\
                 00:55:DA:00:00:00/28\tShinkoTechno\tShinko Technos co.,ltd.\n",
            ),
            (
                "Nmap",
                "# c\n001422 Dell\n70B3D5001 SOREDI touch systems\n0055DA0 Shinko Technos\n",
            ),
        ] {
            let vendors = Vendors::decode(text.as_bytes());
            assert_eq!(of(&vendors, "00:14:22:aa:bb:cc"), Some("Dell"), "{what}");
            assert_eq!(
                of(&vendors, "70:b3:d5:00:1a:bb"),
                Some("SOREDI touch systems"),
                "{what}"
            );
            assert_eq!(
                of(&vendors, "00:55:da:0f:ff:ff"),
                Some("Shinko Technos"),
                "{what}"
            );
            for nobody in [
                "00:55:da:1f:ff:ff",
                "70:b3:d5:00:2a:bb",
                "00:14:23:00:00:01",
            ] {
                assert_eq!(of(&vendors, nobody), None, "{what} {nobody}");
            }
            assert_eq!(vendors.len(), 3, "{what}");
        }
    }

    #[test]
    fn a_mac_that_was_made_up_has_no_maker() {
        let vendors = Vendors::decode(b"021422 Nobody\n001422 Dell\n031422 Group\n");
        assert_eq!(of(&vendors, "02:14:22:00:00:01"), None);
        assert_eq!(of(&vendors, "03:14:22:00:00:01"), None);
    }

    #[test]
    fn names_lose_their_legal_form_and_their_length() {
        for (name, expected) in [
            ("Dell Inc.", "Dell"),
            ("HUAWEI TECHNOLOGIES CO.,LTD", "HUAWEI TECHNOLOGIES"),
            ("Samsung Electronics Co.,Ltd", "Samsung Electronics"),
            ("Cisco Systems, Inc", "Cisco Systems"),
            ("AVM GmbH", "AVM"),
            ("Co.", "Co"),
            ("Apple, Inc.", "Apple"),
        ] {
            assert_eq!(short(name), expected);
        }
        assert!(short(&"\u{e4}".repeat(500)).len() <= MAX_NAME);
    }

    #[test]
    fn rubbish_is_passed_over() {
        let vendors = Vendors::decode(
            b"\xff\xfe\n\nOUI:zz*\n ID_OUI_FROM_DATABASE=x\n123456789012345678 y\n 00 x\n",
        );
        assert!(vendors.is_empty());
    }
}
