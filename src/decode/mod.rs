//! Floor 1: bytes to values. Decoders never panic, never allocate per line, and answer with a
//! counted reason where they take nothing.
//!
//! What is read is hostile: any bytes, of any length, cut anywhere. Nothing here opens a file or
//! looks at a clock; the time zone and the file's own time come in as values.

pub mod capture;
pub mod clock;
pub mod dhcp_lease;
pub mod journal;
pub mod kernel_log;
pub mod packet;
pub mod stamp;
pub mod syslog;

use memchr::memchr;

/// Splits off the first word: what stands before the first space. Leading spaces are dropped.
fn next_word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = trim_spaces(text);
    match memchr(b' ', text) {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, &[]),
    }
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
