//! Floor 5: rules installed, removed, checked and watched: nft, iptables; sets, counters and the change monitor through nftnl and mnl.
//!
//! Rules are loaded whole by `nft` and `iptables-restore`, so that an admin can read and repeat what
//! was done. Only what is ours is touched: the table `inet smtpwatch`, or the chain `SMTPWATCH` and
//! the jumps to it. No text of another program reaches a shell; there is none.

mod claim;
mod counters;
mod elements;
mod empty_table;
mod iptables;
mod kernel;
mod monitor;
mod nft;
mod program;
mod scratch;
mod status;
mod survey;
#[cfg(test)]
mod testing;

use crate::model::Process;
use crate::ruleset::Difference;
use crate::settings::rules::{At, BackendChoice, PartialRules, Rules};
pub(crate) use claim::Claim;
use iptables::Iptables;
use kernel::KernelError;
pub(crate) use monitor::{Change, Commit, Monitor};
use nft::Nft;
pub(crate) use status::{GroupState, InstalledRules, Status, status};
pub(crate) use survey::{Survey, survey};

/// What went wrong with the firewall, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A program is not there.
    #[error("{program} is not installed: apt install {package}{instead}")]
    Missing {
        /// Its name.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
        /// What else would do, from a comma on.
        instead: &'static str,
    },
    /// The kernel did not let us.
    #[error(
        "{step}: not permitted to change or read the firewall: run it as root (sudo), or with CAP_NET_ADMIN"
    )]
    NotPermitted {
        /// What was tried.
        step: String,
    },
    /// The kernel cannot do it.
    #[error("{step}: this kernel lacks it ({said}): {advice}")]
    Kernel {
        /// What was tried.
        step: String,
        /// What the program said.
        said: String,
        /// What to do.
        advice: &'static str,
    },
    /// Another program holds iptables' lock.
    #[error(
        "{step}: another program has been changing iptables for 10 s and holds /run/xtables.lock: see `fuser -v /run/xtables.lock`, then try again"
    )]
    Locked {
        /// What was tried.
        step: String,
    },
    /// A table that iptables cannot read.
    #[error(
        "{program} cannot read the table {table}, for nft has put something into it: use --backend nft, and take a chain SMTPWATCH in it away with nft"
    )]
    Incompatible {
        /// Which iptables.
        program: String,
        /// Which table.
        table: String,
    },
    /// A program refused.
    #[error("{step}: refused: {said}")]
    Refused {
        /// What was tried.
        step: String,
        /// What the program said, its first lines.
        said: String,
    },
    /// It was loaded and is not there.
    #[error(
        "{step}: loaded, and read back otherwise ({}); another program may be changing the firewall at the same time: try again, then see `smtpwatch rules status`",
        listed(differences)
    )]
    NotAsLoaded {
        /// What was tried.
        step: String,
        /// In what it differs.
        differences: Vec<Difference>,
    },
    /// The kernel, asked without a program, did not answer as it should.
    #[error(transparent)]
    Netlink(#[from] KernelError),
    /// Another run looks after the rules.
    #[error(
        "{by} looks after the rules here already: end it first, or watch beside it without rules: --source capture:INTERFACE"
    )]
    Claimed {
        /// Which.
        by: Process,
    },
    /// A mistake of ours, told instead of done.
    #[error("rules were prepared for another firewall than the one they are loaded into")]
    OtherBackend,
    /// A program could not be run, or a file not be read.
    #[error("{what}: {error}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        error: std::io::Error,
    },
}

fn listed(differences: &[Difference]) -> String {
    let shown: Vec<String> = differences
        .iter()
        .take(3)
        .map(ToString::to_string)
        .collect();
    shown.join("; ")
}

/// What an installation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Installed {
    /// The rules were loaded.
    Done,
    /// They were there as wanted; nothing was touched, so counters and sets go on.
    Already,
}

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// What was taken away.
    pub(crate) taken: Vec<String>,
    /// What our install had made and is still there, with the reason.
    pub(crate) left: Vec<String>,
}

impl Removed {
    fn and(mut self, other: Self) -> Self {
        self.taken.extend(other.taken);
        self.left.extend(other.left);
        self
    }
}

/// What the rules counted since they were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Matched {
    /// SYNs to a watched port.
    pub(crate) seen: u64,
    /// Of these, those that went to the kernel log as text.
    pub(crate) logged: u64,
}

/// What would be loaded: a command, and what it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The program and its arguments.
    pub(crate) command: String,
    /// Its standard input.
    pub(crate) text: String,
}

/// Rules, and how one backend prints them.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// By nft.
    Nft(nft::Wanted),
    /// By iptables.
    Iptables(iptables::Wanted),
}

/// One of the kernel's firewalls.
#[derive(Debug)]
pub(crate) enum Backend {
    /// nftables.
    Nft(Nft),
    /// iptables and ip6tables.
    Iptables(Iptables),
}

impl Backend {
    /// The one that is asked for. `auto` is the one that holds our rules already, else nft where the
    /// kernel has it, else iptables.
    pub(crate) fn choose(choice: BackendChoice) -> Result<Self, Error> {
        match choice {
            BackendChoice::Nft => Nft::find().map(Self::Nft),
            BackendChoice::Iptables => Iptables::find().map(Self::Iptables),
            BackendChoice::Auto => Self::choose_by_itself(),
        }
    }

    fn choose_by_itself() -> Result<Self, Error> {
        let nft = Nft::find().and_then(|nft| Ok((nft.listing()?, nft)));
        if let Ok((Some(_), nft)) = nft {
            return Ok(Self::Nft(nft));
        }
        let iptables = Iptables::find();
        match (nft, iptables) {
            (_, Ok(iptables)) if iptables.holds_ours().unwrap_or(false) => {
                Ok(Self::Iptables(iptables))
            }
            (Ok((_, nft)), _) => Ok(Self::Nft(nft)),
            (Err(Error::Missing { .. } | Error::Kernel { .. }), Ok(iptables)) => {
                Ok(Self::Iptables(iptables))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// How it is called.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Nft(_) => "nft".to_owned(),
            Self::Iptables(iptables) => iptables.name(),
        }
    }

    /// Where it looks, where nobody says otherwise.
    pub(crate) fn default_at(&self) -> At {
        match self {
            Self::Nft(_) => At::Prerouting,
            Self::Iptables(_) => At::Forward,
        }
    }

    /// Finds out how the installed program prints `rules`, in a network namespace of its own: once,
    /// so that to compare and to heal is quick.
    pub(crate) fn prepare(&self, rules: &Rules) -> Result<Prepared, Error> {
        match self {
            Self::Nft(nft) => nft.prepare(rules).map(Prepared::Nft),
            Self::Iptables(iptables) => iptables.prepare(rules).map(Prepared::Iptables),
        }
    }

    /// Puts the rules in place as one transaction (with iptables, one a family), checked before and
    /// read back after. Where they are as wanted nothing is touched.
    pub(crate) fn install(&self, rules: &Rules) -> Result<Installed, Error> {
        let prepared = self.prepare(rules)?;
        self.check(&prepared)?;
        self.heal(&prepared)
    }

    /// Has the programs check what [`Self::heal`] would load.
    pub(crate) fn check(&self, prepared: &Prepared) -> Result<(), Error> {
        match (self, prepared) {
            (Self::Nft(nft), Prepared::Nft(wanted)) => nft.check(wanted),
            (Self::Iptables(iptables), Prepared::Iptables(wanted)) => iptables.check(wanted),
            _ => Err(Error::OtherBackend),
        }
    }

    /// Puts right what differs from rules that this backend prepared, and reads it back.
    pub(crate) fn heal(&self, prepared: &Prepared) -> Result<Installed, Error> {
        match (self, prepared) {
            (Self::Nft(nft), Prepared::Nft(wanted)) => nft.install(wanted),
            (Self::Iptables(iptables), Prepared::Iptables(wanted)) => iptables.install(wanted),
            _ => Err(Error::OtherBackend),
        }
    }

    /// What [`Self::install`] would load now, checked by the program that would load it; nothing
    /// where all is as wanted.
    pub(crate) fn plan(&self, rules: &Rules) -> Result<Vec<Step>, Error> {
        match (self, self.prepare(rules)?) {
            (Self::Nft(nft), Prepared::Nft(wanted)) => nft.plan(&wanted),
            (Self::Iptables(iptables), Prepared::Iptables(wanted)) => iptables.plan(&wanted),
            _ => Err(Error::OtherBackend),
        }
    }

    /// Takes away what is ours, whatever became of it, and nothing else.
    pub(crate) fn remove(&self) -> Result<Removed, Error> {
        match self {
            Self::Nft(nft) => nft.remove(),
            Self::Iptables(iptables) => iptables.remove(),
        }
    }

    /// What [`Self::remove`] would load.
    pub(crate) fn plan_removal(&self) -> Result<Vec<Step>, Error> {
        match self {
            Self::Nft(nft) => nft.plan_removal(),
            Self::Iptables(iptables) => iptables.plan_removal(),
        }
    }

    /// What differs in what is installed from rules that this backend prepared.
    pub(crate) fn differences(&self, prepared: &Prepared) -> Result<Vec<Difference>, Error> {
        match (self, prepared) {
            (Self::Nft(nft), Prepared::Nft(wanted)) => nft.differences(wanted),
            (Self::Iptables(iptables), Prepared::Iptables(wanted)) => iptables.differences(wanted),
            _ => Err(Error::OtherBackend),
        }
    }

    /// What the installed rules were made for, as far as it can be read; nothing where there are none.
    pub(crate) fn installed(&self) -> Result<Option<PartialRules>, Error> {
        match self {
            Self::Nft(nft) => nft.installed(),
            Self::Iptables(iptables) => iptables.installed(),
        }
    }

    /// Whether it is known at a glance that nothing of ours is there; where not, look at
    /// [`Self::differences`].
    pub(crate) fn is_gone(&self) -> Result<bool, Error> {
        match self {
            Self::Nft(_) => Nft::is_gone(),
            Self::Iptables(_) => Ok(false),
        }
    }

    /// Whether its changes are told to nobody (no netlink event).
    pub(crate) fn is_legacy(&self) -> bool {
        match self {
            Self::Nft(_) => false,
            Self::Iptables(iptables) => iptables.is_legacy(),
        }
    }

    /// Has the kernel track the connections of this network namespace, by a table that stays: for a namespace that
    /// goes. Answers whether it was done, for nft alone does it.
    pub(crate) fn track(&self) -> Result<bool, Error> {
        match self {
            Self::Nft(nft) => nft.track().map(|()| true),
            Self::Iptables(_) => Ok(false),
        }
    }

    /// What the installed rules counted.
    pub(crate) fn matched(&self) -> Result<Matched, Error> {
        match self {
            Self::Nft(_) => Nft::matched(),
            Self::Iptables(iptables) => iptables.matched(),
        }
    }
}

/// Every firewall that is here and could hold rules of ours; an error only where there is none.
pub(crate) fn all(choice: BackendChoice) -> Result<Vec<Backend>, Error> {
    let mut found = Vec::new();
    let mut lacking = None;
    if choice != BackendChoice::Iptables {
        match Nft::find() {
            Ok(nft) => found.push(Backend::Nft(nft)),
            Err(error) => lacking = Some(error),
        }
    }
    if choice != BackendChoice::Nft {
        match Iptables::every() {
            Ok(every) => found.extend(every.into_iter().map(Backend::Iptables)),
            Err(error) => lacking = lacking.or(Some(error)),
        }
    }
    match lacking {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}
