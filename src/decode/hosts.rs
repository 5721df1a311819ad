//! Names that are configured by hand: /etc/hosts (hosts(5)).
//!
//! The first name of a line is the host's own, the others are its aliases. Loopback, multicast and
//! unspecified addresses name no machine. A line that is none is left out.

use std::net::IpAddr;

/// The longest name that is one (RFC 1035), in bytes.
const MAX_NAME: usize = 253;

/// Addresses and their names, in the order of the file.
pub fn decode(text: &[u8]) -> Vec<(IpAddr, String)> {
    text.split(|&b| b == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<(IpAddr, String)> {
    let line = line.split(|&b| b == b'#').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let address: IpAddr = words.next()?.parse().ok()?;
    let name = words.next().filter(|name| name.len() <= MAX_NAME)?;
    let is_machine = !(address.is_loopback() || address.is_multicast() || address.is_unspecified());
    is_machine.then(|| (address, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_and_their_own_names() {
        let text = b"127.0.0.1 localhost\n\
            # 10.0.0.9 nobody\n\
            10.0.0.1\tprinter printer.lan # upstairs\r\n\
            \n\
            2001:db8::7   nas\n\
            ff02::1 ip6-allnodes\n\
            10.0.0.2\n\
            ten.zero.zero.three name\n\
            10.0.0.4 \xff\xfe\n\
            10.0.0.5 last";
        let found = decode(text);
        let found: Vec<(String, &str)> = found
            .iter()
            .map(|(address, name)| (address.to_string(), name.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("10.0.0.1".to_owned(), "printer"),
                ("2001:db8::7".to_owned(), "nas"),
                ("10.0.0.5".to_owned(), "last"),
            ]
        );
    }

    #[test]
    fn a_name_that_is_none_is_left_out() {
        let long = format!("10.0.0.1 {}", "x".repeat(254));
        assert_eq!(decode(long.as_bytes()), []);
    }
}
