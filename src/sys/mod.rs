//! Floor 4: raw netlink and sockets, capabilities; the only room with `unsafe` code.
#![allow(
    unsafe_code,
    reason = "system calls and C libraries without a safe face; each block says why it is sound"
)]

pub(crate) mod capabilities;
pub(crate) mod clock;
mod ext_ack;
pub(crate) mod netlink_message;
pub(crate) mod nflog;
pub(crate) mod nftables;
pub(crate) mod packet;
pub(crate) mod readiness;
pub(crate) mod rtnetlink;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use ext_ack::Refusal;
