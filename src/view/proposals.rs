//! Who is proposed to be allowed: devices that receive mail from outside, as mail servers do, and that
//! nobody allowed yet. It proposes, in words that can be pasted, and changes nothing: a machine of somebody
//! else's could be made to look so.

use serde::Serialize;

use crate::engine::Receiver;
use crate::settings::{Named, Settings};

/// Where a configuration is looked for.
const FILE: &str = "/etc/smtpwatch/smtpwatch.toml";

/// A device that may be a mail server.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Proposal {
    /// The device's id.
    device: String,
    /// How to name it in `network.allow`.
    allow: String,
    /// Why it is proposed.
    because: String,
}

impl Proposal {
    /// What `settings` should say about `receiver`; none where they allow it.
    pub(crate) fn of(receiver: Receiver, settings: &Settings) -> Option<Self> {
        if receiver.is_allowed(settings) {
            return None;
        }
        let mut because = receiver.role.to_string();
        if !receiver.role.is_early {
            because += ", which was not known before it was found suspicious";
        }
        Some(Self {
            allow: receiver.named()?.to_string(),
            because,
            device: receiver.id,
        })
    }

    /// Who it is, and why.
    pub(crate) fn sentence(&self) -> String {
        format!("{} {}", self.allow, self.because)
    }
}

/// The line of the configuration that allows those that `settings` allow, and all of `proposals`: a list
/// in a file takes the place of the one before.
pub(crate) fn line(proposals: &[Proposal], settings: &Settings) -> String {
    let before = settings.allow.iter().map(Named::to_string);
    let added = proposals.iter().map(|it| it.allow.clone());
    let names: Vec<String> = before.chain(added).map(|it| format!("\"{it}\"")).collect();
    let because = match proposals {
        [one] => format!("it {}", one.because),
        _ => "they receive mail as mail servers do".to_owned(),
    };
    format!(
        "allow = [{}]   # in [network] of {FILE}: {because}",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Role;

    fn receiver(last: u8, is_early: bool) -> Receiver {
        Receiver {
            id: format!("eth1/02:00:00:00:00:0{last}"),
            addresses: vec![[192, 168, 1, last].into()],
            mac: None,
            hostname: Some("\"]\nrouters = [\"x".to_owned()),
            role: Role {
                networks: 5,
                days: 3,
                is_early,
            },
        }
    }

    #[test]
    fn the_line_can_be_pasted_and_keeps_what_is_there() {
        let mut settings = Settings::default();
        let proposal = |last, is_early, settings: &Settings| {
            Proposal::of(receiver(last, is_early), settings).unwrap()
        };
        let one = [proposal(9, true, &settings)];
        assert_eq!(
            line(&one, &settings),
            "allow = [\"192.168.1.9\"]   # in [network] of /etc/smtpwatch/smtpwatch.toml: it receives mail from \
             5 networks on 3 days"
        );
        settings.allow = vec!["02:00:00:00:00:01".parse().unwrap()];
        let two = [proposal(8, true, &settings), proposal(9, false, &settings)];
        let pasted = format!("[network]\n{}", line(&two, &settings));
        let read = crate::settings::file::of_text(&pasted).settings();
        let shown: Vec<String> = read.allow.iter().map(Named::to_string).collect();
        assert_eq!(shown, ["02:00:00:00:00:01", "192.168.1.8", "192.168.1.9"]);
        assert!(two[1].sentence().ends_with("found suspicious"), "{two:?}");
        // What they allow is proposed no more.
        assert_eq!(Proposal::of(receiver(9, true), &read), None);
    }
}
