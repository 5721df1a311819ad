//! ISC dhcpd's lease file: declarations in braces, IPv4 and IPv6 (dhcpd.leases(5), server/db.c).
//!
//! The file is a journal, and what stands last about an address is what holds. It may end in the
//! middle, and go on after that: dhcpd appends to what a crash left. So a declaration of a lease
//! begins anew wherever it stands, and a quoted string ends with its line, for dhcpd writes a line
//! feed within one as `\012`. Of what a lease says only its holder, its time and its state are read.

use std::net::IpAddr;

use jiff::civil::Date;
use jiff::tz::Offset;
use memchr::{memchr, memchr3, memmem};

use super::{Kind, Leases, Record, Skip, State};
use super::{Lease, address, hex_digit, hex_octets, hostname, mac, mac_of_duid, seconds};
use crate::decode::{decimal, leading_decimal};
use crate::model::{Mac, Timestamp};

/// Octets of the identity association's number before the DUID in an `ia-na`'s key.
const IAID_OCTETS: usize = 4;

/// Whether only dhcpd would write this line: a lease's first, or the comment that it begins with.
pub(super) fn is_telling(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    if line.first() == Some(&b'#') {
        return memmem::find(line, b"dhcpd.leases(5)").is_some()
            || memmem::find(line, b"isc-dhcp").is_some();
    }
    let mut words = Words::default();
    for token in Lexer::new(line).take(3) {
        match token {
            Token::Open => {
                return matches!(
                    header(words.as_slice()),
                    Header::Lease(Some(_)) | Header::Association(..)
                );
            }
            Token::Word(_) | Token::Text(_) => words.push(token),
            Token::Close | Token::End => return false,
        }
    }
    false
}

/// Decodes all of `text`.
pub(super) fn decode(text: &[u8], leases: &mut Leases) {
    debug_assert_eq!(leases.kind, Some(Kind::IscDhcpd));
    let mut parser = Parser::new(leases);
    for token in Lexer::new(text) {
        parser.take(token);
    }
    parser.finish();
}

#[derive(Clone, Copy)]
enum Token<'a> {
    Word(&'a [u8]),
    /// What stands between quotation marks, its escapes not undone.
    Text(&'a [u8]),
    Open,
    Close,
    End,
}

/// Cuts the text into tokens; comments and white space are none. NUL bytes are white space: a crash
/// leaves runs of them.
struct Lexer<'a> {
    rest: &'a [u8],
}

impl<'a> Lexer<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { rest: text }
    }

    /// Reads what follows a quotation mark. Without its second one it is a word like any other.
    fn text(&mut self) -> Token<'a> {
        let all = self.rest;
        let mut at = 0;
        while let Some(next) = memchr3(b'"', b'\\', b'\n', &all[at..]) {
            at += next;
            match (all[at], all.get(at + 1)) {
                (b'"', _) => {
                    self.rest = &all[at + 1..];
                    return Token::Text(&all[..at]);
                }
                (b'\\', Some(b'\n')) | (b'\n', _) => break,
                (_, Some(_)) => at += 2,
                (_, None) => at += 1,
            }
        }
        let end = memchr(b'\n', all).unwrap_or(all.len());
        self.rest = &all[end..];
        Token::Word(&all[..end])
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let (&first, rest) = self.rest.split_first()?;
            let token = match first {
                0..=b' ' => {
                    self.rest = rest;
                    continue;
                }
                b'#' => {
                    self.rest = memchr(b'\n', rest).map_or(&[], |end| &rest[end..]);
                    continue;
                }
                b'{' => Token::Open,
                b'}' => Token::Close,
                b';' => Token::End,
                b'"' => {
                    self.rest = rest;
                    return Some(self.text());
                }
                _ => {
                    let end = self
                        .rest
                        .iter()
                        .position(|&b| b <= b' ' || matches!(b, b'{' | b'}' | b';' | b'"' | b'#'))
                        .unwrap_or(self.rest.len());
                    let (word, rest) = self.rest.split_at(end);
                    self.rest = rest;
                    return Some(Token::Word(word));
                }
            };
            self.rest = rest;
            return Some(token);
        }
    }
}

/// The first words of a statement and its last two: those that tell what it is, and those of a
/// declaration that follows a statement without an end. What is between them is dropped.
#[derive(Default)]
struct Words<'a>(Vec<Token<'a>>);

impl<'a> Words<'a> {
    const MOST: usize = 10;

    fn push(&mut self, word: Token<'a>) {
        if self.0.len() == Self::MOST {
            self.0.remove(Self::MOST - 2);
        }
        self.0.push(word);
    }

    fn as_slice(&self) -> &[Token<'a>] {
        &self.0
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// What an opening brace opens.
enum Header {
    /// `lease ADDRESS {`
    Lease(Option<IpAddr>),
    /// `ia-na KEY {`, `ia-ta` and `ia-pd`, with the MAC in the key.
    Association(Option<Mac>),
    /// `iaaddr ADDRESS {`
    Address(Option<IpAddr>),
    /// `iaprefix PREFIX {`
    Prefix,
    /// Anything else.
    Other,
}

fn header(words: &[Token<'_>]) -> Header {
    match words {
        [.., Token::Word(b"lease"), Token::Word(leased)] => Header::Lease(address(leased)),
        [.., Token::Word(b"ia-na" | b"ia-ta" | b"ia-pd"), key] => {
            Header::Association(mac_of_key(*key))
        }
        [.., Token::Word(b"iaaddr"), Token::Word(leased)] => Header::Address(address(leased)),
        [.., Token::Word(b"iaprefix"), Token::Word(_)] => Header::Prefix,
        _ => Header::Other,
    }
}

/// The key is the IAID and the DUID, quoted, or in hexadecimal after `lease-id-format hex`.
fn mac_of_key(key: Token<'_>) -> Option<Mac> {
    match key {
        Token::Text(text) => mac_of_duid(unescape(text).skip(IAID_OCTETS).map(Some)),
        Token::Word(word) => mac_of_duid(hex_octets(word).skip(IAID_OCTETS)),
        Token::Open | Token::Close | Token::End => None,
    }
}

/// A time in the file.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Time {
    #[default]
    Missing,
    Never,
    At(Timestamp),
    Bad,
}

impl Time {
    fn known(self) -> Result<Option<Timestamp>, Skip> {
        match self {
            Self::Missing | Self::Never => Ok(None),
            Self::At(time) => Ok(Some(time)),
            Self::Bad => Err(Skip::BadTime),
        }
    }
}

/// A lease as far as it was read.
#[derive(Default)]
struct Draft {
    address: Option<IpAddr>,
    mac: Option<Mac>,
    starts: Time,
    ends: Time,
    /// Before dhcpd 3, and in OpenBSD's, there was none.
    state: Option<State>,
    /// What the client calls itself.
    client_hostname: Option<String>,
    /// What the server's configuration calls it.
    hostname: Option<String>,
    /// What the DNS was told to call it; all that there is for IPv6.
    dns_name: Option<String>,
}

impl Draft {
    fn lease(self) -> Result<Lease, Skip> {
        Ok(Lease {
            address: self.address.ok_or(Skip::BadAddress)?,
            mac: self.mac,
            hostname: self.client_hostname.or(self.hostname).or(self.dns_name),
            starts: self.starts.known()?,
            ends: self.ends.known()?,
            state: self.state.unwrap_or(State::Active),
        })
    }

    fn statement(&mut self, words: &[Token<'_>]) {
        match words {
            [Token::Word(b"starts"), time @ ..] => self.starts = read_time(time),
            [Token::Word(b"ends"), time @ ..] => self.ends = read_time(time),
            // `next binding state` and `rewind binding state` are other times'.
            [
                Token::Word(b"binding"),
                Token::Word(b"state"),
                Token::Word(text),
            ] => {
                self.state = Some(read_state(text));
            }
            [Token::Word(b"abandoned")] => self.state = Some(State::Abandoned),
            [
                Token::Word(b"hardware"),
                Token::Word(b"ethernet"),
                Token::Word(text),
            ] => {
                self.mac = mac(text);
            }
            [Token::Word(b"client-hostname"), Token::Text(text)] => {
                self.client_hostname = hostname(unescape(text));
            }
            [Token::Word(b"hostname"), Token::Text(text)] => {
                self.hostname = hostname(unescape(text));
            }
            [
                Token::Word(b"set"),
                Token::Word(b"ddns-fwd-name"),
                Token::Word(b"="),
                Token::Text(text),
            ] => self.dns_name = hostname(unescape(text)),
            _ => {}
        }
    }
}

fn read_state(text: &[u8]) -> State {
    match text {
        b"active" => State::Active,
        b"free" => State::Free,
        b"expired" => State::Expired,
        b"released" => State::Released,
        b"abandoned" => State::Abandoned,
        b"backup" => State::Backup,
        b"reset" => State::Reset,
        _ => State::Unknown,
    }
}

/// `W YYYY/MM/DD HH:MM:SS` in UTC, which OpenBSD writes behind it; `epoch N`; `never`.
fn read_time(words: &[Token<'_>]) -> Time {
    let time = match *words {
        [Token::Word(b"never")] => return Time::Never,
        [Token::Word(b"epoch"), Token::Word(text)] => decimal(text).map(seconds),
        [Token::Word(_), Token::Word(date), Token::Word(time)]
        | [
            Token::Word(_),
            Token::Word(date),
            Token::Word(time),
            Token::Word(b"UTC" | b"GMT"),
        ] => read_date(date, time),
        _ => None,
    };
    time.map_or(Time::Bad, Time::At)
}

fn read_date(date: &[u8], time: &[u8]) -> Option<Timestamp> {
    let [year, month, day] = three_numbers(date, b'/')?;
    let [hour, minute, second] = three_numbers(time, b':')?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let date = Date::new(
        i16::try_from(year).ok()?,
        i8::try_from(month).ok()?,
        i8::try_from(day).ok()?,
    )
    .ok()?;
    let midnight = Offset::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()?;
    let second_of_day = i64::try_from(hour * 3600 + minute * 60 + second).ok()?;
    Some(Timestamp::from_seconds(
        midnight.as_second() + second_of_day,
    ))
}

fn three_numbers(text: &[u8], separator: u8) -> Option<[u64; 3]> {
    let (first, rest) = leading_decimal(text)?;
    let (second, rest) = leading_decimal(rest.strip_prefix(&[separator])?)?;
    let third = decimal(rest.strip_prefix(&[separator])?)?;
    Some([first, second, third])
}

/// Undoes the escapes of a quoted string (common/conflex.c): three octal digits for what cannot be
/// printed, and a backslash before a quotation mark or another backslash.
fn unescape(text: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (&first, after) = rest.split_first()?;
        rest = after;
        if first != b'\\' {
            return Some(first);
        }
        let (&escaped, after) = rest.split_first()?;
        rest = after;
        Some(match escaped {
            b'0'..=b'7' => {
                let mut value = u32::from(escaped - b'0');
                for _ in 0..2 {
                    let Some((digit @ b'0'..=b'7', after)) = rest.split_first() else {
                        break;
                    };
                    value = value * 8 + u32::from(digit - b'0');
                    rest = after;
                }
                (value & 0xff) as u8
            }
            b'x' => match *rest {
                [high, low, ref after @ ..] => match (hex_digit(high), hex_digit(low)) {
                    (Some(high), Some(low)) => {
                        rest = after;
                        (high << 4) | low
                    }
                    _ => escaped,
                },
                _ => escaped,
            },
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            other => other,
        })
    })
}

/// Where the parser stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    /// In a `lease`.
    Lease,
    /// In an `ia-na`, `ia-ta` or `ia-pd`.
    Association,
    /// In an `iaaddr`.
    Address,
}

struct Parser<'a, 'o> {
    leases: &'o mut Leases,
    place: Place,
    /// Braces open within the place that are none of ours, as after `on expiry`.
    foreign: usize,
    words: Words<'a>,
    draft: Draft,
    /// The MAC of the identity association's client.
    client: Option<Mac>,
    /// When that client was last heard, `cltt`.
    heard: Time,
}

impl<'a, 'o> Parser<'a, 'o> {
    fn new(leases: &'o mut Leases) -> Self {
        Self {
            leases,
            place: Place::Top,
            foreign: 0,
            words: Words::default(),
            draft: Draft::default(),
            client: None,
            heard: Time::Missing,
        }
    }

    fn take(&mut self, token: Token<'a>) {
        match token {
            Token::Word(_) | Token::Text(_) => {
                self.words.push(token);
                return;
            }
            Token::Open => self.open(),
            Token::Close => self.close(),
            Token::End => self.statement(),
        }
        self.words.clear();
    }

    fn finish(&mut self) {
        if self.is_inside() || !self.words.is_empty() {
            self.skip(Skip::CutOff);
        }
    }

    fn is_inside(&self) -> bool {
        self.place != Place::Top || self.foreign > 0
    }

    fn skip(&mut self, reason: Skip) {
        self.leases.skipped.add(reason);
    }

    fn open(&mut self) {
        match header(self.words.as_slice()) {
            Header::Lease(address) => {
                self.begin_anew();
                self.place = Place::Lease;
                self.draft.address = address;
            }
            Header::Association(client) => {
                self.begin_anew();
                self.place = Place::Association;
                self.client = client;
            }
            Header::Address(address) => self.open_address(address),
            Header::Prefix => {
                self.skip(Skip::Prefix);
                self.foreign += 1;
            }
            Header::Other => {
                if !self.is_inside() {
                    self.skip(Skip::OtherDeclaration);
                }
                self.foreign += 1;
            }
        }
    }

    /// Leaves whatever is open, for another declaration has begun.
    fn begin_anew(&mut self) {
        if self.is_inside() || self.words.as_slice().len() > 2 {
            self.skip(Skip::CutOff);
        }
        self.foreign = 0;
        self.draft = Draft::default();
        self.client = None;
        self.heard = Time::Missing;
    }

    fn open_address(&mut self, address: Option<IpAddr>) {
        if self.place == Place::Address {
            self.skip(Skip::CutOff);
        }
        if matches!(self.place, Place::Association | Place::Address) {
            self.place = Place::Address;
            self.foreign = 0;
            self.draft = Draft {
                address,
                mac: self.client,
                starts: self.heard,
                ..Draft::default()
            };
        } else {
            // Whose it is stood before the beginning of the file.
            self.skip(Skip::CutOff);
            self.foreign += 1;
        }
    }

    fn close(&mut self) {
        if !self.words.is_empty() {
            self.statement();
        }
        if self.foreign > 0 {
            self.foreign -= 1;
            return;
        }
        match self.place {
            Place::Top => self.skip(Skip::CutOff),
            Place::Association => self.place = Place::Top,
            Place::Lease => {
                self.place = Place::Top;
                self.emit();
            }
            Place::Address => {
                self.place = Place::Association;
                self.emit();
            }
        }
    }

    fn emit(&mut self) {
        let lease = std::mem::take(&mut self.draft).lease();
        self.leases.take(lease.map(Record::Lease));
    }

    fn statement(&mut self) {
        if self.foreign > 0 {
            return;
        }
        let words = self.words.as_slice();
        match self.place {
            Place::Lease | Place::Address => self.draft.statement(words),
            Place::Association => {
                if let [Token::Word(b"cltt"), time @ ..] = words {
                    self.heard = read_time(time);
                }
            }
            Place::Top => {
                if !words.is_empty() {
                    self.skip(Skip::OtherDeclaration);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kind;
    use super::super::tests::{leases, skipped};
    use super::*;

    const ACTIVE: &str = "lease 192.0.2.12 {
  starts 2 2023/11/14 22:13:20;
  ends 2 2023/11/14 23:13:20;
  tstp 2 2023/11/14 23:13:20;
  cltt 2 2023/11/14 22:13:20;
  binding state active;
  next binding state free;
  rewind binding state free;
  hardware ethernet 02:00:00:00:00:02;
  uid \"\\001\\002\\000\\000\\000\\000\\002\";
  set vendor-class-identifier = \"MSFT 5.0\";
  client-hostname \"bench\";
}
";

    fn one(text: &str) -> Lease {
        let mut all = leases(text);
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0)
    }

    /// The lease with `body` in its braces.
    fn with(body: &str) -> Lease {
        one(&format!("lease 192.0.2.12 {{\n{body}\n}}\n"))
    }

    fn seconds_of(time: Option<Timestamp>) -> Option<i64> {
        time.map(Timestamp::as_seconds)
    }

    #[test]
    fn every_field_of_a_lease() {
        assert_eq!(
            one(ACTIVE),
            Lease {
                address: "192.0.2.12".parse().unwrap(),
                mac: Some(Mac([2, 0, 0, 0, 0, 2])),
                hostname: Some("bench".into()),
                starts: Some(Timestamp::from_seconds(1_700_000_000)),
                ends: Some(Timestamp::from_seconds(1_700_003_600)),
                state: State::Active,
            }
        );
        assert_eq!(skipped(ACTIVE), []);
    }

    #[test]
    fn times_in_all_their_forms() {
        let ends = |text: &str| seconds_of(with(&format!("ends {text};")).ends);
        assert_eq!(ends("2 2023/11/14 23:13:20"), Some(1_700_003_600));
        assert_eq!(ends("2 2023/11/14 23:13:20 UTC"), Some(1_700_003_600));
        assert_eq!(
            ends("epoch 1700003600; # Tue Nov 14 23:13:20 2023\nx"),
            Some(1_700_003_600)
        );
        assert_eq!(ends("4 2024/02/29 00:00:00"), Some(1_709_164_800));
        assert_eq!(ends("never"), None);
        for bad in [
            "",
            "2",
            "2 2023/11/14",
            "2 2023/02/29 00:00:00",
            "2 2023/13/01 00:00:00",
            "2 2023/11/14 24:00:00",
            "2 2023/11/14 23:13",
            "2 99999/11/14 23:13:20",
            "2 2023/11/14 23:13:20 -0700",
            "epoch x",
            "sometime",
        ] {
            let text = format!("lease 192.0.2.12 {{\n  ends {bad};\n}}\n");
            assert_eq!(skipped(&text), [(Skip::BadTime, 1)], "{bad}");
        }
    }

    #[test]
    fn states_by_name() {
        for (text, state) in [
            ("binding state active;", State::Active),
            ("binding state free;", State::Free),
            ("binding state expired;", State::Expired),
            ("binding state released;", State::Released),
            ("binding state abandoned;", State::Abandoned),
            ("binding state backup;", State::Backup),
            ("binding state reset;", State::Reset),
            ("binding state strange;", State::Unknown),
            ("abandoned;", State::Abandoned),
            ("next binding state free;", State::Active),
            ("", State::Active),
        ] {
            assert_eq!(with(text).state, state, "{text}");
        }
    }

    #[test]
    fn quoted_strings_hold_anything() {
        let name = |text: &str| with(&format!("client-hostname \"{text}\";")).hostname;
        assert_eq!(name("a};#{b").as_deref(), Some("a};#{b"));
        assert_eq!(name("a\\\"b\\\\c").as_deref(), Some("a\"b\\c"));
        assert_eq!(name("caf\\303\\251").as_deref(), Some("caf\u{e9}"));
        assert_eq!(name("\\377x").as_deref(), Some("\u{fffd}x"));
        assert_eq!(name("\\x41\\xzz\\").as_deref(), None, "its end is escaped");
        assert_eq!(name("\\x41\\t\\7").as_deref(), Some("A\t\u{7}"));
        assert_eq!(name(""), None);
        assert_eq!(
            with("set x = \"}\nlease 192.0.2.13 {\";\n")
                .address
                .to_string(),
            "192.0.2.13",
            "a string ends with its line"
        );
    }

    #[test]
    fn names_from_the_client_then_the_server_then_the_dns() {
        let name = |text: &str| with(text).hostname.unwrap_or_default();
        let dns = "set ddns-fwd-name = \"c.example\";";
        assert_eq!(
            name(&format!("{dns} hostname \"b\"; client-hostname \"a\";")),
            "a"
        );
        assert_eq!(name(&format!("{dns} hostname \"b\";")), "b");
        assert_eq!(name(dns), "c.example");
    }

    #[test]
    fn only_ethernet_names_a_mac() {
        assert_eq!(with("hardware token-ring 02:00:00:00:00:02;").mac, None);
        assert_eq!(with("hardware ethernet 02:00:00:00:00:02:03:04;").mac, None);
        assert!(
            with("hardware ethernet 00:00:00:00:00:00;")
                .mac
                .unwrap()
                .is_null()
        );
    }

    #[test]
    fn braces_within_a_lease_are_left_alone() {
        let lease = with(
            "on expiry { set a = \"}\"; if x { hardware ethernet 02:00:00:00:00:09; } }\n\
             hardware ethernet 02:00:00:00:00:02;",
        );
        assert_eq!(lease.mac, Some(Mac([2, 0, 0, 0, 0, 2])));
    }

    #[test]
    fn records_stay_in_order_and_comments_are_nothing() {
        let later = ACTIVE.replace("state active", "state expired");
        let text = format!("# lease 192.0.2.99 {{\n{ACTIVE}\n# }}\n{later}");
        let states: Vec<_> = leases(&text).iter().map(|lease| lease.state).collect();
        assert_eq!(states, [State::Active, State::Expired]);
        assert_eq!(skipped(&text), []);
    }

    #[test]
    fn a_lease_that_was_not_written_to_its_end_spoils_no_other() {
        for (at, _) in ACTIVE.trim_end().match_indices(['\n', ' ', ';', '"']) {
            let text = format!("{}\n\0\0{ACTIVE}", &ACTIVE[..at]);
            assert_eq!(leases(&text), leases(ACTIVE), "{text}");
            assert_eq!(skipped(&text), [(Skip::CutOff, 1)], "{text}");
        }
        let cut = format!("{ACTIVE}lease 192.0.2.13 {{\n  binding sta");
        assert_eq!(leases(&cut), leases(ACTIVE));
        assert_eq!(skipped(&cut), [(Skip::CutOff, 1)]);
    }

    #[test]
    fn a_file_that_begins_in_the_middle() {
        let text = format!("2 22:13:20;\n  binding state active;\n}}\n{ACTIVE}");
        assert_eq!(kind(text.as_bytes()), Some(Kind::IscDhcpd));
        assert_eq!(leases(&text), leases(ACTIVE));
        assert_eq!(
            skipped(&text),
            [(Skip::OtherDeclaration, 2), (Skip::CutOff, 1)]
        );
    }

    #[test]
    fn what_the_server_says_of_itself_is_counted() {
        let text = format!(
            "authoring-byte-order little-endian;\n\
             server-duid \"\\000\\001\\000\\001,\\000\\000\\001\\002\\000\\000\\000\\000\\376\";\n\
             failover peer \"other\" state {{\n  my state normal at 2 2023/11/14 22:13:20;\n}}\n\
             host desk {{ dynamic; hardware ethernet 02:00:00:00:00:07; fixed-address 192.0.2.7; }}\n\
             {ACTIVE}"
        );
        assert_eq!(leases(&text).len(), 1);
        assert_eq!(skipped(&text), [(Skip::OtherDeclaration, 4)]);
        assert_eq!(
            skipped(&format!("lease 192.0.2.300 {{ }}\n{ACTIVE}")),
            [(Skip::BadAddress, 1)]
        );
    }

    #[test]
    fn associations_name_their_client_in_the_key() {
        let text = "ia-na \"\\001\\000\\000\\000\\000\\001\\000\\001,\\001\\002\\003\\002\\000\\000\\000\\\"\\\\\" {
  cltt 2 2023/11/14 22:13:20;
  iaaddr 2001:db8::12 {
    binding state active;
    preferred-life 1800;
    max-life 3600;
    ends 2 2023/11/14 23:13:20;
    set ddns-fwd-name = \"bench.example\";
  }
  iaaddr 2001:db8::13 {
    binding state released;
    ends epoch 1700000060;
  }
}
ia-ta 01:00:00:00:00:03:00:01:02:00:00:00:00:05 {
  iaaddr 2001:db8::14 {
    binding state expired;
    ends never;
  }
}
ia-pd \"\\001\\000\\000\\000\\000\\003\\000\\001\\002\\000\\000\\000\\000\\005\" {
  cltt 2 2023/11/14 22:13:20;
  iaprefix 2001:db8:1::/56 {
    binding state active;
    ends 2 2023/11/14 23:13:20;
  }
}
";
        assert_eq!(kind(text.as_bytes()), Some(Kind::IscDhcpd));
        let all = leases(text);
        assert_eq!(all.len(), 3);
        let mac = Some(Mac([2, 0, 0, 0, b'"', b'\\']));
        assert_eq!((all[0].mac, all[1].mac), (mac, mac));
        assert_eq!(all[2].mac, Some(Mac([2, 0, 0, 0, 0, 5])));
        assert_eq!(all[0].hostname.as_deref(), Some("bench.example"));
        assert_eq!(seconds_of(all[0].starts), Some(1_700_000_000));
        assert_eq!(seconds_of(all[0].ends), Some(1_700_003_600));
        assert_eq!(seconds_of(all[1].ends), Some(1_700_000_060));
        assert_eq!(all[1].state, State::Released);
        assert_eq!((all[2].starts, all[2].ends), (None, None));
        assert_eq!(skipped(text), [(Skip::Prefix, 1)]);
    }

    #[test]
    fn a_cut_association_spoils_no_other() {
        let whole = "ia-na \"\\001\\000\\000\\000\\000\\003\\000\\001\\002\\000\\000\\000\\000\\005\" {\n  \
            iaaddr 2001:db8::12 {\n    binding state active;\n  }\n}\n";
        for (at, _) in whole.match_indices(['\n', ' ']) {
            if whole[..at].ends_with('}') {
                continue; // That lease was written to its end.
            }
            let text = format!("{}\n{whole}", &whole[..at]);
            assert_eq!(leases(&text), leases(whole), "{text}");
            assert_eq!(skipped(&text), [(Skip::CutOff, 1)], "{text}");
        }
        let headless =
            format!("  iaaddr 2001:db8::1 {{\n    binding state active;\n  }}\n}}\n{whole}");
        assert_eq!(leases(&headless), leases(whole));
        assert_eq!(skipped(&headless), [(Skip::CutOff, 2)]);
    }
}
