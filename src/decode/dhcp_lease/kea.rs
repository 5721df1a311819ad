//! Kea's memfile: comma-separated, a journal of rows under a header that names the columns.
//!
//! Columns are found by name, for each version of Kea adds some; files of several versions may follow
//! each other, each with its header. A lifetime of 0 takes the address's lease away. Lines are split
//! by hand: Kea neither writes nor reads quotes (`CSVRow::parse` in its `csv_file.cc` cuts at every
//! comma), it writes a comma within a value as `&#x2c`. A CSV reader would take a quotation mark in
//! the first byte of a hostname for one of its own and swallow the rows behind it.

use super::{Kind, Leases, Record, Skip, State};
use super::{Lease, address, hex_digit, hex_octets, hostname, lines, mac, mac_of_duid, seconds};
use crate::decode::decimal;
use crate::model::Timestamp;

/// A lifetime that never ends (`Lease::INFINITY_LFT`).
const INFINITE: u64 = u32::MAX as u64;

/// `lease_type` of a delegated prefix (`Lease::TYPE_PD`).
const PREFIX: &[u8] = b"2";

/// The columns that are read.
#[derive(Clone, Copy)]
enum Column {
    Address,
    Hardware,
    Duid,
    Lifetime,
    Expire,
    LeaseType,
    Hostname,
    State,
}

const COLUMNS: usize = 8;

impl Column {
    fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"address" => Self::Address,
            b"hwaddr" => Self::Hardware,
            b"duid" => Self::Duid,
            b"valid_lifetime" => Self::Lifetime,
            b"expire" => Self::Expire,
            b"lease_type" => Self::LeaseType,
            b"hostname" => Self::Hostname,
            b"state" => Self::State,
            _ => return None,
        })
    }
}

/// The values of the columns that are read; empty where the file has no such column.
struct Row<'a>([&'a [u8]; COLUMNS]);

impl<'a> Row<'a> {
    fn get(&self, column: Column) -> &'a [u8] {
        self.0[column as usize]
    }
}

/// Which of the two lease files `line` is the header of, if it is one.
pub(super) fn kind_of_header(line: &[u8]) -> Option<Kind> {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    if !line.starts_with(b"address,") {
        return None;
    }
    let has = |name: &[u8]| fields(line).any(|field| field == name);
    (has(b"valid_lifetime") && has(b"expire"))
        .then(|| if has(b"duid") { Kind::Kea6 } else { Kind::Kea4 })
}

/// Decodes all rows of `text`.
pub(super) fn decode(text: &[u8], leases: &mut Leases) {
    let mut header: Vec<Option<Column>> = Vec::new();
    for line in lines(text) {
        if kind_of_header(line.text).is_some() {
            header = columns(line.text);
        } else if header.is_empty() && !line.text.is_empty() {
            leases.skipped.add(Skip::Unknown);
        } else if !line.text.is_empty() {
            leases.take(row(line.text, &header).and_then(|row| record(&row)));
        }
    }
}

fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&b| b == b',')
}

fn columns(header: &[u8]) -> Vec<Option<Column>> {
    let header = header.strip_prefix(b"\xef\xbb\xbf").unwrap_or(header);
    fields(header)
        .map(|name| Column::named(name.trim_ascii()))
        .collect()
}

/// Kea refuses a row that is shorter than its header, so it was not written to its end.
fn row<'a>(line: &'a [u8], header: &[Option<Column>]) -> Result<Row<'a>, Skip> {
    let mut values = [&[][..]; COLUMNS];
    let mut fields = fields(line);
    for column in header {
        let value = fields.next().ok_or(Skip::CutOff)?;
        if let Some(column) = column {
            values[*column as usize] = value;
        }
    }
    Ok(Row(values))
}

fn record(row: &Row<'_>) -> Result<Record, Skip> {
    if row.get(Column::LeaseType) == PREFIX {
        return Err(Skip::Prefix);
    }
    let address = address(row.get(Column::Address)).ok_or(Skip::BadAddress)?;
    let lifetime = decimal(row.get(Column::Lifetime)).ok_or(Skip::BadTime)?;
    let expire = decimal(row.get(Column::Expire)).ok_or(Skip::BadTime)?;
    if lifetime == 0 {
        return Ok(Record::Removed(address));
    }
    let (starts, ends) = times(expire, lifetime);
    Ok(Record::Lease(Lease {
        address,
        mac: mac(row.get(Column::Hardware))
            .or_else(|| mac_of_duid(hex_octets(row.get(Column::Duid)))),
        hostname: hostname(unescape(row.get(Column::Hostname))),
        starts,
        ends,
        state: state(row.get(Column::State)),
    }))
}

/// Kea writes the time of the client's last transaction plus the lifetime.
fn times(expire: u64, lifetime: u64) -> (Option<Timestamp>, Option<Timestamp>) {
    (
        expire.checked_sub(lifetime).map(seconds),
        (lifetime != INFINITE).then(|| seconds(expire)),
    )
}

/// The states of Kea's `lease.h`. The oldest files have no such column.
fn state(text: &[u8]) -> State {
    match text {
        b"" | b"0" | b"4" => State::Active,
        b"1" => State::Declined,
        b"2" => State::Expired,
        b"3" => State::Released,
        _ => State::Unknown,
    }
}

/// Undoes `CSVRow::escapeCharacters`: `&#x` and two digits, without a semicolon.
fn unescape(text: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = text;
    std::iter::from_fn(move || {
        if let [b'&', b'#', b'x', high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low))
        {
            rest = after;
            return Some((high << 4) | low);
        }
        let (&first, after) = rest.split_first()?;
        rest = after;
        Some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{leases, skipped};
    use super::super::{decode as decode_file, kind};
    use super::*;
    use crate::model::Mac;

    const HEADER4: &str = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context,pool_id\n";
    const HEADER6: &str = "address,duid,valid_lifetime,expire,subnet_id,pref_lifetime,lease_type,iaid,prefix_len,fqdn_fwd,fqdn_rev,hostname,hwaddr,state,user_context,hwtype,hwaddr_source,pool_id\n";

    fn one(header: &str, row: &str) -> Lease {
        let mut all = leases(&format!("{header}{row}"));
        assert_eq!(all.len(), 1, "{row}");
        all.remove(0)
    }

    #[test]
    fn every_field_of_a_row() {
        assert_eq!(
            one(
                HEADER4,
                "192.0.2.13,02:00:00:00:00:04,01:02,3600,1700003600,1,0,0,till.example,0,,0\n"
            ),
            Lease {
                address: "192.0.2.13".parse().unwrap(),
                mac: Some(Mac([2, 0, 0, 0, 0, 4])),
                hostname: Some("till.example".into()),
                starts: Some(Timestamp::from_seconds(1_700_000_000)),
                ends: Some(Timestamp::from_seconds(1_700_003_600)),
                state: State::Active,
            }
        );
    }

    #[test]
    fn columns_go_by_their_names_and_headers_may_change() {
        let text = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname\r\n\
            192.0.2.1,02:00:00:00:00:01,,60,1700000060,1,0,0,old\r\n\
            address,state,hostname,expire,valid_lifetime,hwaddr\n\
            192.0.2.2,1,new,1700000060,60,02:00:00:00:00:02\n";
        let all = leases(text);
        assert_eq!(all[0].hostname.as_deref(), Some("old"));
        assert_eq!(
            (all[0].mac, all[0].state),
            (Some(Mac([2, 0, 0, 0, 0, 1])), State::Active)
        );
        assert_eq!(all[1].hostname.as_deref(), Some("new"));
        assert_eq!(
            (all[1].mac, all[1].state),
            (Some(Mac([2, 0, 0, 0, 0, 2])), State::Declined)
        );
        assert_eq!(all[1].starts, Some(Timestamp::from_seconds(1_700_000_000)));
    }

    #[test]
    fn escapes_are_undone_and_quotes_are_bytes() {
        let name = |text: &str| {
            one(
                HEADER4,
                &format!(
                    "192.0.2.1,,,60,1700000060,1,0,0,{text},0,{{ \"a\": 1&#x2c \"b\": 2 }},0\n"
                ),
            )
            .hostname
        };
        assert_eq!(name("a&#x2cb&#x2Cc").as_deref(), Some("a,b,c"));
        assert_eq!(name("&#x26&#xc3&#xa9").as_deref(), Some("&\u{e9}"));
        assert_eq!(name("\"a").as_deref(), Some("\"a"));
        assert_eq!(name("&#x2").as_deref(), Some("&#x2"));
        assert_eq!(name("&#xzz").as_deref(), Some("&#xzz"));
        assert_eq!(name(""), None);
    }

    #[test]
    fn states_by_number() {
        for (text, state) in [
            ("0", State::Active),
            ("1", State::Declined),
            ("2", State::Expired),
            ("3", State::Released),
            ("4", State::Active),
            ("", State::Active),
            ("9", State::Unknown),
        ] {
            let row = format!("192.0.2.1,,,60,1700000060,1,0,0,,{text},,0\n");
            assert_eq!(one(HEADER4, &row).state, state, "{text}");
        }
    }

    #[test]
    fn hardware_addresses_of_other_lengths_are_none() {
        for text in ["", "32:30", "02:00:00:00:00:04:05:06"] {
            let row = format!("192.0.2.1,{text},,60,1700000060,1,0,0,,0,,0\n");
            assert_eq!(one(HEADER4, &row).mac, None, "{text}");
        }
    }

    #[test]
    fn a_lifetime_of_zero_removes_and_the_longest_never_ends() {
        let decoded = decode_file(
            format!("{HEADER4}192.0.2.1,02:00:00:00:00:04,,0,1700000000,1,0,0,,0,,0\n").as_bytes(),
        );
        assert_eq!(
            decoded.records,
            [Record::Removed("192.0.2.1".parse().unwrap())]
        );
        let lease = one(HEADER4, "192.0.2.1,,,4294967295,5994967295,1,0,0,,0,,0\n");
        assert_eq!(lease.starts, Some(Timestamp::from_seconds(1_700_000_000)));
        assert_eq!(lease.ends, None);
    }

    #[test]
    fn ipv6_rows_have_a_hardware_address_or_a_duid_and_prefixes_are_skipped() {
        let text = format!(
            "{HEADER6}\
            2001:db8::1,00:03:00:01:02:00:00:00:00:01,60,1700000060,1,30,0,7,128,0,0,one.,,0,,,,0\n\
            2001:db8::2,00:03:00:01:02:00:00:00:00:01,60,1700000060,1,30,1,7,128,0,0,,02:00:00:00:00:02,0,,1,2,0\n\
            2001:db8:1::,00:03:00:01:02:00:00:00:00:01,60,1700000060,1,30,2,7,56,0,0,,,0,,,,0\n\
            2001:db8::3,00,60,1700000060,1,30,0,7,128,0,0,,,1,,,,0\n"
        );
        assert_eq!(kind(text.as_bytes()), Some(Kind::Kea6));
        let all = leases(&text);
        let macs: Vec<_> = all.iter().map(|lease| lease.mac).collect();
        assert_eq!(
            macs,
            [
                Some(Mac([2, 0, 0, 0, 0, 1])),
                Some(Mac([2, 0, 0, 0, 0, 2])),
                None
            ]
        );
        assert_eq!(all[2].state, State::Declined);
        assert_eq!(skipped(&text), [(Skip::Prefix, 1)]);
    }

    #[test]
    fn what_is_no_lease_has_its_reason() {
        for (row, reason) in [
            ("192.0.2.1,02:00:00:00:00:04,,60,17000", Skip::CutOff),
            ("192.0.2.256,,,60,1700000060,1,0,0,,0,,0", Skip::BadAddress),
            ("192.0.2.1,,,x,1700000060,1,0,0,,0,,0", Skip::BadTime),
            ("192.0.2.1,,,60,,1,0,0,,0,,0", Skip::BadTime),
        ] {
            assert_eq!(skipped(&format!("{HEADER4}{row}")), [(reason, 1)], "{row}");
        }
        assert_eq!(
            skipped(&format!("192.0.2.1,,,60,1700000060\n{HEADER4}\n")),
            [(Skip::Unknown, 1)]
        );
    }
}
