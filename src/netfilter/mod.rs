//! Floor 5: rules installed, removed, checked and watched: nft, iptables; sets, counters and the change monitor through nftnl and mnl.

mod counters;
mod elements;
mod kernel;
mod monitor;
#[cfg(test)]
mod testing;
