//! Files of the kernel and of this system, read no further than needed.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes of a file that are read.
const MAX: u64 = 256 << 10;

/// The text of `path`; whatever it is, it is not waited for.
pub(super) fn read(path: impl AsRef<Path>) -> io::Result<String> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A setting of sysctl(8), of this thread's network namespace: `net/ipv4/ip_forward`; none where there is
/// no such setting.
pub(super) fn setting(name: &str) -> Option<String> {
    let text = read(Path::new("/proc/sys").join(name)).ok()?;
    Some(text.trim().to_owned())
}

/// The same, as whether it is on.
pub(super) fn is_on(name: &str) -> Option<bool> {
    setting(name).map(|value| value != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_what_is_not_there_is_none() {
        assert!(setting("kernel/osrelease").is_some());
        assert_eq!(setting("kernel/no_such_setting"), None);
    }

    #[test]
    fn a_huge_file_is_read_no_further_than_needed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(10 * MAX).unwrap();
        assert_eq!(read(file.path()).unwrap().len() as u64, MAX);
    }
}
