//! Records of /dev/kmsg, as one reads them one at a time (Documentation/ABI/testing/dev-kmsg):
//! `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,...];MESSAGE`, then lines with the message's properties.
//!
//! Who may write to /dev/kmsg may write any text, and under any facility but the kernel's own: the
//! kernel makes facility 0 of a writer's into 1 (user). What the message holds is read in `kernel_log`.

use memchr::memchr;

use super::leading_decimal;

/// The facility of what the kernel itself says (RFC 5424, table 1).
const KERNEL: u64 = 0;

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number in the ring buffer: each is one more than the one before, whoever wrote it.
    pub sequence: u64,
    /// Whether the kernel wrote it.
    pub is_kernel: bool,
    /// What it says; bytes that are not printable stand as `\x1b`.
    pub message: &'a [u8],
}

/// Reads what one read(2) of /dev/kmsg gave; none where it is no record.
pub fn record(bytes: &[u8]) -> Option<Record<'_>> {
    let (priority, rest) = leading_decimal(bytes)?;
    let (sequence, rest) = leading_decimal(rest.strip_prefix(b",")?)?;
    let rest = rest.strip_prefix(b",")?;
    let message = &rest[memchr(b';', rest)? + 1..];
    let end = memchr(b'\n', message).unwrap_or(message.len());
    Some(Record {
        sequence,
        is_kernel: priority >> 3 == KERNEL,
        message: &message[..end],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_and_who_wrote_it() {
        let read = record(b"4,52361,1942191038,-;FW: IN=eth1 OUT= \n SUBSYSTEM=x\n").unwrap();
        assert_eq!(read.sequence, 52361);
        assert!(read.is_kernel);
        assert_eq!(read.message, b"FW: IN=eth1 OUT= ");
        let forged = record(b"12,52362,1942191039,-,caller=T1;4,9,9,-;FW: IN=eth1\n").unwrap();
        assert!(!forged.is_kernel);
        assert_eq!(forged.message, b"4,9,9,-;FW: IN=eth1");
        assert_eq!(record(b"6,1,2,c;").unwrap().message, b"");
    }

    #[test]
    fn what_is_no_record_is_none() {
        for bytes in [
            &b""[..],
            b"4",
            b"4,",
            b"4,1",
            b"4,1,2,-",
            b"x,1,2,-;m",
            b"-4,1,2,-;m",
            b"4;1,2,-;m",
            b"99999999999999999999,1,2,-;m",
        ] {
            assert_eq!(record(bytes), None, "{}", bytes.escape_ascii());
        }
    }
}
