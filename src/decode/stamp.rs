//! The time stamps that loggers put before a line, read as they stand: what they leave out (year,
//! zone, the time of boot) is told later, by [`super::clock`], from what surrounds the line.
//!
//! Shapes: RFC 3164 (`Jun  8 14:34:33`, with fractions, with a year before or behind), RFC 3339 and
//! ISO 8601 (`T` or space, decimal point or comma, offset, `Z` or none), `ctime` and `dmesg -T`
//! (`Thu Jun  8 14:34:33 2022`), `journalctl -o short-full` (`Thu 2022-06-08 14:34:33 CEST`), Unix
//! seconds (`1654698873.123456`), the kernel's uptime (`[   12.345678]`), and the common log
//! format's (`20/Jun/2022:13:09:14 +0200`).

use memchr::memchr;

use super::{leading_decimal, next_word, trim_spaces};

/// A date and time of day as a stamp gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// Year, where the stamp has one.
    pub year: Option<i16>,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31, not checked against the month.
    pub day: u8,
    /// Seconds since midnight; a leap second counts on.
    pub second_of_day: u32,
    /// Fraction of the second.
    pub micros: u32,
    /// Seconds east of UTC, where the stamp says so.
    pub offset: Option<i32>,
}

/// What a line says about its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stamp {
    /// Nothing.
    #[default]
    None,
    /// A date and time of day.
    Civil(Civil),
    /// Microseconds since the kernel started.
    Uptime(i64),
    /// Microseconds since 1970-01-01T00:00:00Z.
    Unix(i64),
}

const WEEKDAYS: [&[u8; 3]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];

/// Reads the stamp that `text` begins with; answers it and what follows.
pub fn leading(text: &[u8]) -> Option<(Stamp, &[u8])> {
    match text.first()? {
        b'A'..=b'Z' => rfc3164(text).or_else(|| weekday(text)),
        b'0'..=b'9' => iso(text)
            .or_else(|| year_and_rfc3164(text))
            .or_else(|| unix(text)),
        b'[' => bracketed(text),
        _ => None,
    }
}

/// Reads `20/Jun/2022:13:09:14 +0200`.
pub fn common_log(text: &[u8]) -> Option<(Stamp, &[u8])> {
    let (day, rest) = leading_decimal(text)?;
    let rest = rest.strip_prefix(b"/")?;
    let month = month(rest)?;
    let (year, rest) = leading_decimal(rest.get(3..)?.strip_prefix(b"/")?)?;
    let (second_of_day, rest) = time_of_day(rest.strip_prefix(b":")?)?;
    let (zone, rest) = next_word(rest);
    let (offset, _) = offset(zone)?;
    civil(Some(year), month, day, second_of_day, 0, Some(offset)).map(|stamp| (stamp, rest))
}

fn month(text: &[u8]) -> Option<u8> {
    Some(match text.first_chunk::<3>()? {
        b"Jan" => 1,
        b"Feb" => 2,
        b"Mar" => 3,
        b"Apr" => 4,
        b"May" => 5,
        b"Jun" => 6,
        b"Jul" => 7,
        b"Aug" => 8,
        b"Sep" => 9,
        b"Oct" => 10,
        b"Nov" => 11,
        b"Dec" => 12,
        _ => return None,
    })
}

fn civil(
    year: Option<u64>,
    month: u8,
    day: u64,
    second_of_day: u32,
    micros: u32,
    offset: Option<i32>,
) -> Option<Stamp> {
    let year = match year {
        Some(year @ 1970..=9999) => Some(i16::try_from(year).ok()?),
        Some(_) => return None,
        None => None,
    };
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(Stamp::Civil(Civil {
        year,
        month,
        day: u8::try_from(day).ok()?,
        second_of_day,
        micros,
        offset,
    }))
}

/// Reads `Jun  8 14:34:33`, with a fraction or a year behind it.
fn rfc3164(text: &[u8]) -> Option<(Stamp, &[u8])> {
    let month = month(text)?;
    let (day, rest) = day_of_month(text.get(3..)?)?;
    // Some write the year before the time of day: `Jun  8 2022 14:34:33`.
    let (year, rest) = match rest.get(4) {
        Some(b' ') => {
            let (year, rest) = leading_decimal(rest)?;
            (Some(year), rest.strip_prefix(b" ")?)
        }
        _ => (None, rest),
    };
    let (second_of_day, rest) = time_of_day(rest)?;
    let (micros, rest) = fraction(rest);
    civil(year, month, day, second_of_day, micros, None).map(|stamp| (stamp, rest))
}

/// Reads ` 8 `, `  8 ` or ` 08 `.
fn day_of_month(text: &[u8]) -> Option<(u64, &[u8])> {
    let digit = |b: u8| b.is_ascii_digit().then(|| u64::from(b - b'0'));
    match *text {
        [b' ', b' ' | b'0', ones, b' ', ref rest @ ..] => Some((digit(ones)?, rest)),
        [b' ', tens, ones, b' ', ref rest @ ..] => Some((digit(tens)? * 10 + digit(ones)?, rest)),
        [b' ', ones, b' ', ref rest @ ..] => Some((digit(ones)?, rest)),
        _ => None,
    }
}

/// Reads `2022 Jun  8 14:34:33`.
fn year_and_rfc3164(text: &[u8]) -> Option<(Stamp, &[u8])> {
    let (year, rest) = leading_decimal(text)?;
    let (stamp, rest) = rfc3164(rest.strip_prefix(b" ")?)?;
    Some((with_year(stamp, year)?, rest))
}

fn with_year(stamp: Stamp, year: u64) -> Option<Stamp> {
    match stamp {
        Stamp::Civil(c) if c.year.is_none() => civil(
            Some(year),
            c.month,
            u64::from(c.day),
            c.second_of_day,
            c.micros,
            c.offset,
        ),
        _ => None,
    }
}

/// Reads `Thu Jun  8 14:34:33 2022` (ctime) and `Thu 2022-06-08 14:34:33 CEST` (short-full).
fn weekday(text: &[u8]) -> Option<(Stamp, &[u8])> {
    let name = text.first_chunk::<3>()?;
    if !WEEKDAYS.contains(&name) {
        return None;
    }
    let rest = trim_spaces(text.get(3..)?.strip_prefix(b" ")?);
    if rest.first()?.is_ascii_digit() {
        let (stamp, rest) = iso(rest)?;
        // The zone's abbreviation names no offset; the reader's zone is taken.
        let (zone, _) = next_word(rest);
        let after = &rest[rest.len().min(zone.len() + 1)..];
        let abbreviated = (2..=5).contains(&zone.len()) && zone.iter().all(u8::is_ascii_uppercase);
        return Some(match (zone, stamp) {
            (b"UTC" | b"GMT", Stamp::Civil(c)) => (
                Stamp::Civil(Civil {
                    offset: Some(0),
                    ..c
                }),
                after,
            ),
            _ if abbreviated => (stamp, after),
            _ => (stamp, rest),
        });
    }
    let (stamp, rest) = rfc3164(rest)?;
    let (year, after) = leading_decimal(rest.strip_prefix(b" ")?)?;
    Some((with_year(stamp, year)?, after))
}

/// Reads `2022-06-08T14:34:33.123456+02:00` and its relatives.
fn iso(text: &[u8]) -> Option<(Stamp, &[u8])> {
    let date = text.first_chunk::<11>()?;
    if date[4] != b'-' || date[7] != b'-' || !matches!(date[10], b'T' | b't' | b' ') {
        return None;
    }
    let year = two_digits(&date[..2])? * 100 + two_digits(&date[2..4])?;
    let month = two_digits(&date[5..7])?;
    let day = two_digits(&date[8..10])?;
    let (second_of_day, rest) = time_of_day(&text[11..])?;
    let (micros, rest) = fraction(rest);
    let (offset, rest) = match rest.first() {
        Some(b'Z' | b'z') => (Some(0), &rest[1..]),
        Some(b'+' | b'-') => match offset(rest) {
            Some((seconds, rest)) => (Some(seconds), rest),
            None => (None, rest),
        },
        Some(b' ') => match offset(&rest[1..]) {
            Some((seconds, after)) if after.first().is_none_or(|&b| b == b' ') => {
                (Some(seconds), after)
            }
            _ => (None, rest),
        },
        _ => (None, rest),
    };
    civil(
        Some(u64::from(year)),
        u8::try_from(month).ok()?,
        u64::from(day),
        second_of_day,
        micros,
        offset,
    )
    .map(|stamp| (stamp, rest))
}

fn two_digits(text: &[u8]) -> Option<u32> {
    let pair = text.first_chunk::<2>()?;
    (pair[0].is_ascii_digit() && pair[1].is_ascii_digit())
        .then(|| u32::from(pair[0] - b'0') * 10 + u32::from(pair[1] - b'0'))
}

/// Reads `14:34:33`; a leap second (`:60`, RFC 3339) is let through.
fn time_of_day(text: &[u8]) -> Option<(u32, &[u8])> {
    let clock = text.first_chunk::<8>()?;
    let (hour, minute, second) = (
        two_digits(&clock[..2])?,
        two_digits(&clock[3..5])?,
        two_digits(&clock[6..8])?,
    );
    if clock[2] != b':' || clock[5] != b':' || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some((hour * 3600 + minute * 60 + second, &text[8..]))
}

/// Reads `.123456` or `,123456` as microseconds; digits beyond are dropped.
fn fraction(text: &[u8]) -> (u32, &[u8]) {
    let (Some(b'.' | b','), Some(true)) = (text.first(), text.get(1).map(u8::is_ascii_digit))
    else {
        return (0, text);
    };
    let digits = text[1..].iter().take_while(|b| b.is_ascii_digit()).count();
    let micros = (0..6).fold(0, |value, place| {
        let digit = if place < digits {
            u32::from(text[1 + place] - b'0')
        } else {
            0
        };
        value * 10 + digit
    });
    (micros, &text[1 + digits..])
}

/// Reads `+02:00`, `+0200` or `+02`.
fn offset(text: &[u8]) -> Option<(i32, &[u8])> {
    let sign = match text.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let hours = two_digits(&text[1..])?;
    let rest = &text[3..];
    let (minutes, rest) = match rest.strip_prefix(b":") {
        Some(after) => (two_digits(after)?, &after[2..]),
        None => match two_digits(rest) {
            Some(minutes) => (minutes, &rest[2..]),
            None => (0, rest),
        },
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    Some((
        sign * i32::try_from(hours * 3600 + minutes * 60).ok()?,
        rest,
    ))
}

/// Reads `1654698873.123456` (`journalctl -o short-unix`), not before 1973.
fn unix(text: &[u8]) -> Option<(Stamp, &[u8])> {
    let (micros, rest) = seconds_and_micros(text)?;
    (micros >= 100_000_000_000_000).then_some((Stamp::Unix(micros), rest))
}

/// Reads `[   12.345678]` (printk.time), with `dmesg -d`'s difference in it, and `[Thu Jun  8
/// 14:34:33 2022]` (dmesg -T), which never has a fraction, as Apache's error log does.
fn bracketed(text: &[u8]) -> Option<(Stamp, &[u8])> {
    let inner = trim_spaces(&text[1..]);
    if inner.first()?.is_ascii_digit() {
        let (micros, rest) = seconds_and_micros(inner)?;
        let rest = match rest.strip_prefix(b" <") {
            Some(difference) => difference[memchr(b'>', difference)?..].strip_prefix(b">")?,
            None => rest,
        };
        return Some((Stamp::Uptime(micros), rest.strip_prefix(b"]")?));
    }
    let (stamp, rest) = weekday(inner)?;
    let has_fraction = matches!(stamp, Stamp::Civil(Civil { micros: 1.., .. }));
    let rest = rest.strip_prefix(b"]")?;
    (!has_fraction).then_some((stamp, rest))
}

/// Reads `12.345678`, as microseconds: at most eleven digits, and always six behind the point, which
/// tells the kernel's and journald's stamps from those of other programs.
fn seconds_and_micros(text: &[u8]) -> Option<(i64, &[u8])> {
    let (seconds, rest) = leading_decimal(text)?;
    let digits = rest
        .strip_prefix(b".")?
        .iter()
        .take_while(|b| b.is_ascii_digit());
    if seconds >= 100_000_000_000 || digits.count() != 6 {
        return None;
    }
    let (micros, rest) = fraction(rest);
    let seconds = i64::try_from(seconds).ok()?;
    Some((seconds * 1_000_000 + i64::from(micros), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(Stamp, String)> {
        leading(text.as_bytes())
            .map(|(stamp, rest)| (stamp, String::from_utf8_lossy(rest).into_owned()))
    }

    fn at(year: Option<i16>, micros: u32, offset: Option<i32>) -> Stamp {
        Stamp::Civil(Civil {
            year,
            month: 6,
            day: 8,
            second_of_day: 14 * 3600 + 34 * 60 + 33,
            micros,
            offset,
        })
    }

    #[test]
    fn every_shape_that_loggers_write() {
        for (text, stamp) in [
            ("Jun  8 14:34:33 host", at(None, 0, None)),
            ("Jun 8 14:34:33 host", at(None, 0, None)),
            ("Jun 08 14:34:33 host", at(None, 0, None)),
            ("Jun 08 14:34:33.125 host", at(None, 125_000, None)),
            ("Jun  8 2022 14:34:33 host", at(Some(2022), 0, None)),
            ("2022 Jun  8 14:34:33 host", at(Some(2022), 0, None)),
            ("Wed Jun  8 14:34:33 2022 host", at(Some(2022), 0, None)),
            ("[Wed Jun  8 14:34:33 2022] host", at(Some(2022), 0, None)),
            ("Wed 2022-06-08 14:34:33 CEST host", at(Some(2022), 0, None)),
            (
                "Wed 2022-06-08 14:34:33 UTC host",
                at(Some(2022), 0, Some(0)),
            ),
            ("Wed 2022-06-08 14:34:33 host", at(Some(2022), 0, None)),
            (
                "2022-06-08T14:34:33.000125Z host",
                at(Some(2022), 125, Some(0)),
            ),
            (
                "2022-06-08T14:34:33,000125+02:00 host",
                at(Some(2022), 125, Some(7200)),
            ),
            (
                "2022-06-08T14:34:33-0330 host",
                at(Some(2022), 0, Some(-12600)),
            ),
            ("2022-06-08T14:34:33+02 host", at(Some(2022), 0, Some(7200))),
            ("2022-06-08 14:34:33,5 host", at(Some(2022), 500_000, None)),
            (
                "2022-06-08 14:34:33 +0200 host",
                at(Some(2022), 0, Some(7200)),
            ),
            (
                "2022-06-08T14:34:33.123456789Z host",
                at(Some(2022), 123_456, Some(0)),
            ),
            ("1654698873.123456 host", Stamp::Unix(1_654_698_873_123_456)),
            ("[   12.000345] host", Stamp::Uptime(12_000_345)),
            (
                "[   12.000345 <    0.000100>] host",
                Stamp::Uptime(12_000_345),
            ),
            ("[50028442.088484] host", Stamp::Uptime(50_028_442_088_484)),
        ] {
            assert_eq!(read(text), Some((stamp, " host".to_owned())), "{text}");
        }
    }

    #[test]
    fn the_common_log_format_stands_inside_a_line() {
        let (stamp, rest) = common_log(b"08/Jun/2022:14:34:33 +0200 policy").unwrap();
        assert_eq!(stamp, at(Some(2022), 0, Some(7200)));
        assert_eq!(rest, b"policy");
    }

    #[test]
    fn what_is_no_time_is_no_stamp() {
        for text in [
            "",
            "Jun",
            "Jun  8",
            "Jun 32 14:34:33",
            "Jun  8 24:00:00",
            "Jun  8 14:60:00 x",
            "Foo  8 14:34:33",
            "2022-13-08T14:34:33",
            "2022-06-08T14:34",
            "12 host",
            "[12] host",
            "[  12.3 host",
            "[   12.345] x",
            "1654698873.123 x",
            "[Wed Jun  8 14:34:33.123456 2022] x",
            "[]",
            "1234.5 host",
            "99999999999999999999.1",
            "[99999999999999999999.1]",
            "0000-01-01T00:00:00Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
