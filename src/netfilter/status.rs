//! What is installed, what it counted, what differs from what should be, and who decides before it.

use std::fs;
use std::path::Path;

use super::{Backend, Error, Matched, all};
use crate::model::Process;
use crate::ruleset::{
    Difference, Earlier, Place, earlier_in_nft, earlier_in_saved, flowtables, rules_on_group,
};
use crate::settings::rules::{BackendChoice, PartialRules, Rules};

/// The netlink protocol of NFLOG's sockets (`NETLINK_NETFILTER`).
const NETFILTER: &str = "12";

/// What there is.
#[derive(Debug)]
pub(crate) struct Status {
    /// Our rules, by firewall.
    pub(crate) installed: Vec<InstalledRules>,
    /// Who decides before them; where there are none, before those that would be installed.
    pub(crate) earlier: Vec<Earlier>,
    /// The NFLOG group, where rules use it.
    pub(crate) group: Option<GroupState>,
    /// Flowtables: what they carry meets no rule once it is established.
    pub(crate) flowtables: Vec<String>,
    /// What could not be asked.
    pub(crate) errors: Vec<Error>,
}

/// Our rules in one firewall.
#[derive(Debug)]
pub(crate) struct InstalledRules {
    /// Which firewall.
    pub(crate) backend: String,
    /// What they should be: as told, and for the rest as they are.
    pub(crate) rules: Rules,
    /// In what they differ from it.
    pub(crate) differences: Vec<Difference>,
    /// What they counted.
    pub(crate) matched: Matched,
}

/// Who has to do with an NFLOG group.
#[derive(Debug)]
pub(crate) struct GroupState {
    /// Its number.
    pub(crate) number: u16,
    /// Who is bound to it, as netlink knows it.
    pub(crate) reader: Option<Reader>,
    /// Chains of others that send packets there, too.
    pub(crate) others: Vec<String>,
}

/// A reader of an NFLOG group.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Its netlink port.
    pub(crate) port: u32,
    /// The process, where it can be found.
    pub(crate) process: Option<Process>,
}

/// Looks at every firewall that `choice` admits. What `wanted` does not say is taken from the rules
/// that are there. An error only where nothing could be asked.
pub(crate) fn status(choice: BackendChoice, wanted: &PartialRules) -> Result<Status, Error> {
    let mut status = Status {
        installed: Vec::new(),
        earlier: Vec::new(),
        group: None,
        flowtables: Vec::new(),
        errors: Vec::new(),
    };
    let backends = all(choice)?;
    for backend in &backends {
        match installed(backend, wanted) {
            Ok(found) => status.installed.extend(found),
            Err(error) => status.errors.push(error),
        }
    }
    if status.errors.len() == backends.len()
        && let Some(error) = status.errors.pop()
    {
        return Err(error);
    }
    let (place, rules) = looked_from(&status, &backends, wanted);
    if let Err(error) = look_around(&mut status, &backends, place, &rules) {
        status.errors.push(error);
    }
    Ok(status)
}

fn installed(backend: &Backend, wanted: &PartialRules) -> Result<Option<InstalledRules>, Error> {
    let Some(found) = backend.installed()? else {
        return Ok(None);
    };
    let rules = wanted.clone().or(found).resolve(backend.default_at());
    Ok(Some(InstalledRules {
        backend: backend.name(),
        differences: backend.differences(&backend.prepare(&rules)?)?,
        matched: backend.matched().unwrap_or_default(),
        rules,
    }))
}

/// The place from which others are earlier: of the first rules that are installed, else of those
/// that would be.
fn looked_from(status: &Status, backends: &[Backend], wanted: &PartialRules) -> (Place, Rules) {
    let first = status.installed.first();
    let backend = backends
        .iter()
        .find(|backend| first.is_none_or(|first| first.backend == backend.name()));
    let is_nft = matches!(backend, Some(Backend::Nft(_)));
    let rules = match (first, backend) {
        (Some(first), _) => first.rules.clone(),
        (None, Some(backend)) => wanted.clone().resolve(backend.default_at()),
        (None, None) => wanted
            .clone()
            .resolve(crate::settings::rules::At::Prerouting),
    };
    let place = if is_nft {
        Place::nft(rules.at)
    } else {
        Place::iptables(rules.at)
    };
    (place, rules)
}

/// Who decides earlier, who reads the group, what bypasses.
fn look_around(
    status: &mut Status,
    backends: &[Backend],
    place: Place,
    rules: &Rules,
) -> Result<(), Error> {
    let mut others = Vec::new();
    for backend in backends {
        match backend {
            Backend::Nft(nft) => {
                let ruleset = nft.ruleset()?;
                let earlier = earlier_in_nft(&ruleset, place, &rules.ports);
                status.earlier.extend(earlier);
                status.flowtables = flowtables(&ruleset);
                others = rules_on_group(&ruleset, rules.group);
            }
            Backend::Iptables(iptables) => {
                for (family, saved) in iptables.saved()? {
                    let is_legacy = iptables.is_legacy();
                    let earlier = earlier_in_saved(&saved, family, is_legacy, place, &rules.ports);
                    status.earlier.extend(earlier);
                }
            }
        }
    }
    if rules.via.has_nflog() {
        status.group = Some(GroupState {
            number: rules.group,
            reader: reader(rules.group),
            others,
        });
    }
    Ok(())
}

/// Who is bound to the group in this network namespace.
fn reader(group: u16) -> Option<Reader> {
    // Of the thread: /proc/net is that of the process's first one.
    let bound = fs::read_to_string("/proc/thread-self/net/netfilter/nfnetlink_log").ok()?;
    let port = bound_port(&bound, group)?;
    let sockets = fs::read_to_string("/proc/thread-self/net/netlink").unwrap_or_default();
    let process = socket_inode(&sockets, port).and_then(|inode| holder(&inode));
    Some(Reader { port, process })
}

/// The netlink port bound to `group`; columns: group, port, queue length, copy mode, copy range,
/// timeout, references (`net/netfilter/nfnetlink_log.c`, `seq_show`).
fn bound_port(bound: &str, group: u16) -> Option<u32> {
    bound.lines().find_map(|line| {
        let mut columns = line.split_whitespace();
        let is_it = columns.next()?.parse() == Ok(group);
        is_it.then(|| columns.next()?.parse().ok())?
    })
}

/// The inode of the netfilter socket with that port; columns: sk, Eth (protocol), Pid (port), ...,
/// Inode.
fn socket_inode(sockets: &str, port: u32) -> Option<String> {
    sockets.lines().find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_it =
            columns.get(1) == Some(&NETFILTER) && columns.get(2)?.parse::<u32>() == Ok(port);
        is_it.then(|| columns.last().map(|inode| (*inode).to_owned()))?
    })
}

/// The process that holds the socket.
fn holder(inode: &str) -> Option<Process> {
    let wanted = format!("socket:[{inode}]");
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(entry.path().join("fd")) else {
            continue;
        };
        let holds = descriptors
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|to| to == Path::new(&wanted)));
        if holds {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(Process {
                pid,
                name: name.trim_end().to_owned(),
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_of_a_group_is_told_from_the_kernels_tables() {
        let bound = "    5   4711     0 2  1024     1  1\n   25   4712     0 2  1024     1  1\n";
        assert_eq!(bound_port(bound, 25), Some(4712));
        assert_eq!(bound_port(bound, 2), None);
        let sockets = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
                       00000000 0   4712       00000000 0        0        0     2        0        11\n\
                       00000000 12  4712       00000000 0        0        0     2        0        12\n";
        assert_eq!(socket_inode(sockets, 4712).as_deref(), Some("12"));
    }
}
