//! Whether the kernel's clock is kept by anybody (adjtimex(2)); it is read, never set.

use std::io;

/// `STA_UNSYNC`, linux/timex.h.
const UNSYNCHRONISED: i32 = 0x40;

/// What the kernel says of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Discipline {
    /// Whether a program (chrony, ntpd, systemd-timesyncd) keeps it.
    pub(crate) is_synchronised: bool,
    /// How wrong it may be at the most, in microseconds, where it is kept.
    pub(crate) max_error: i64,
}

/// Asks the kernel.
pub(crate) fn discipline() -> io::Result<Discipline> {
    // SAFETY: all of struct timex are integers, of which zero is a value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: with no modes set adjtimex only writes to the structure, which lives here.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Discipline {
        is_synchronised: timex.status & UNSYNCHRONISED == 0,
        #[allow(clippy::useless_conversion, reason = "32 bits on small machines")]
        max_error: timex.maxerror.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers() {
        assert!(discipline().unwrap().max_error >= 0);
    }
}
