//! Floor 5: rules installed, removed, checked and watched: nft, iptables; sets, counters and the change monitor through nftnl and mnl.

pub(crate) mod counters;
pub(crate) mod elements;
pub(crate) mod kernel;
pub(crate) mod monitor;
#[cfg(test)]
mod testing;
