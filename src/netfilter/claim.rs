//! Who looks after the rules: one run in a network namespace, so that two do not take each other's
//! rules away.
//!
//! The claim is a socket with an abstract name (unix(7)), which the kernel keeps by network namespace
//! and takes away with the process, however that ends. Nothing is said over it; who listens, the kernel
//! tells.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::geteuid;

use super::Error;
use crate::model::Process;

/// The socket's name.
const NAME: &[u8] = b"smtpwatch/rules";

/// The right to look after the rules, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Claim {
    _socket: Option<UnixListener>,
}

impl Claim {
    /// Takes it, in the network namespace of this thread; refused while another run has it.
    pub(crate) fn take() -> Result<Self, Error> {
        let failed = |error| Error::Io {
            what: "claiming the rules (an abstract unix socket)".to_owned(),
            error,
        };
        let address = SocketAddr::from_abstract_name(NAME).map_err(failed)?;
        match UnixListener::bind_addr(&address) {
            Ok(socket) => Ok(Self {
                _socket: Some(socket),
            }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => match Self::holder() {
                Some(by) => Err(Error::Claimed { by }),
                // Somebody without rights of ours has taken the name: that must not keep us away.
                None => Ok(Self { _socket: None }),
            },
            Err(error) => Err(failed(error)),
        }
    }

    /// Who has it, in the network namespace of this thread; nobody counts who could not change the
    /// rules.
    pub(crate) fn holder() -> Option<Process> {
        let address = SocketAddr::from_abstract_name(NAME).ok()?;
        let asked = UnixStream::connect_addr(&address).ok()?;
        let holder = getsockopt(&asked, PeerCredentials).ok()?;
        if holder.uid() != 0 && holder.uid() != geteuid().as_raw() {
            return None;
        }
        // 0 of another process namespace.
        let pid = u32::try_from(holder.pid()).unwrap_or(0);
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name = match name.trim_end() {
            "" => "smtpwatch".to_owned(),
            name => name.to_owned(),
        };
        Some(Process { pid, name })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::in_namespace;
    use super::*;

    #[test]
    fn one_run_looks_after_the_rules_and_another_learns_which() {
        in_namespace(|| {
            assert_eq!(Claim::holder(), None);
            let claim = Claim::take().unwrap();
            let refused = Claim::take().unwrap_err().to_string();
            let pid = std::process::id();
            assert!(refused.contains(&format!("(pid {pid})")), "{refused}");
            drop(claim);
            assert_eq!(Claim::holder(), None);
            Claim::take().unwrap();
        });
    }
}
