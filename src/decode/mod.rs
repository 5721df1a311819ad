//! Floor 1: bytes to values. Decoders never panic, never allocate per line, and answer with a
//! counted reason where they take nothing.
//!
//! What is read is hostile: any bytes, of any length, cut anywhere. Nothing here opens a file or
//! looks at a clock; the time zone and the file's own time come in as values.

pub mod capture;
pub mod clock;
pub mod conntrack;
pub mod dhcp_lease;
pub mod dns;
pub mod flows;
pub mod hosts;
mod icmp;
pub mod journal;
pub mod kernel_log;
pub mod kmsg;
pub mod netlink;
pub mod nflog;
pub mod packet;
pub mod stamp;
pub mod syslog;

/// Splits off the first word: what stands before the first space. Leading spaces are dropped.
fn next_word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = trim_spaces(text);
    let end = end_of_word(text);
    (&text[..end], text.get(end + 1..).unwrap_or_default())
}

/// Where the first space stands, or the end. Words are a few bytes long, for which this is twice as
/// fast as a search made for long texts; eight bytes at a time (Hacker's Delight, 6-1).
fn end_of_word(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const SPACES: u64 = 0x2020_2020_2020_2020;
    let (words, rest) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let difference = u64::from_le_bytes(*word) ^ SPACES;
        let spaces = difference.wrapping_sub(ONES) & !difference & (ONES << 7);
        if spaces != 0 {
            return index * 8 + (spaces.trailing_zeros() / 8) as usize;
        }
    }
    let tail = rest.iter().position(|&b| b == b' ');
    text.len() - rest.len() + tail.unwrap_or(rest.len())
}

fn trim_spaces(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&b| b != b' ').unwrap_or(text.len());
    &text[start..]
}

/// Reads a decimal number that fills all of `text`.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    text.iter().try_fold(0, |value: u64, &digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + u64::from(digit - b'0'))
    })
}

/// Reads the digits that `text` begins with; answers their value and what follows.
fn leading_decimal(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text
        .iter()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(text.len());
    Some((decimal(&text[..end])?, &text[end..]))
}
