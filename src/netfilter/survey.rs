//! Everything that is in this machine's firewalls, as their programs print it, for `doctor`.

use serde_json::Value;

use super::Error;
use super::iptables::Iptables;
use super::nft::Nft;
use crate::ruleset::Saved;

/// What one kind of iptables holds.
#[derive(Debug)]
pub(crate) struct SurveyedIptables {
    /// Its name.
    pub(crate) name: String,
    /// Whether it is the kernel's older one.
    pub(crate) is_legacy: bool,
    /// Each family's rules, with the family as nft names it; or why they cannot be read.
    pub(crate) saved: Result<Vec<(&'static str, Saved)>, Error>,
}

/// What there is.
#[derive(Debug)]
pub(crate) struct Survey {
    /// What nft lists, in its JSON; or why it does not.
    pub(crate) nft: Result<Value, Error>,
    /// Each kind of iptables that is installed.
    pub(crate) iptables: Vec<SurveyedIptables>,
    /// Why none could be looked for, or is there.
    pub(crate) no_iptables: Option<Error>,
}

/// Asks all programs that are here, in the network namespace of this thread.
pub(crate) fn survey() -> Survey {
    let (iptables, no_iptables) = match Iptables::every() {
        Ok(every) => (every, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    Survey {
        nft: Nft::find().and_then(|nft| nft.ruleset()),
        iptables: iptables
            .iter()
            .map(|iptables| SurveyedIptables {
                name: iptables.name(),
                is_legacy: iptables.is_legacy(),
                saved: iptables.saved(),
            })
            .collect(),
        no_iptables,
    }
}
