//! Who should be allowed and is not: devices that receive mail as mail servers do.

use super::listed;
use crate::engine::Receiver;
use crate::model::Timestamp;
use crate::settings::Settings;
use crate::settings::config::Resolved;
use crate::store::receivers;
use crate::view::{Check, Proposal, proposed};

/// What is known of them.
#[derive(Debug)]
pub(super) struct Facts {
    settings: Settings,
    /// Those that the history knows, else why it cannot be read.
    receivers: Result<Vec<Receiver>, String>,
}

impl Facts {
    /// As the history knows them that `config` names.
    pub(super) fn gather(config: &Resolved, now: Timestamp) -> Self {
        let receivers = config
            .state_dir()
            .map_or(Ok(Vec::new()), |folder| receivers(folder, now));
        Self {
            settings: config.settings(),
            receivers: receivers.map_err(|error| error.to_string()),
        }
    }

    pub(super) fn judge(self) -> Vec<Check> {
        vec![self.mail_servers()]
    }

    fn mail_servers(self) -> Check {
        const ID: &str = "roles.mail_servers";
        let settings = &self.settings;
        let receivers = match self.receivers {
            Ok(receivers) => receivers,
            Err(why) => {
                return Check::warn(
                    ID,
                    format!("who receives mail cannot be told: {why}"),
                    "smtpwatch watch sets a damaged history aside; as another user: sudo smtpwatch doctor",
                );
            }
        };
        let known = receivers.len();
        let proposals: Vec<Proposal> = receivers
            .into_iter()
            .filter_map(|it| Proposal::of(it, settings))
            .collect();
        match (known, proposals.as_slice()) {
            (0, _) => Check::ok(ID, "no device is known to receive mail from outside"),
            (_, []) => Check::ok(ID, "the devices that receive mail from outside are allowed"),
            _ => {
                let sentences: Vec<String> = proposals.iter().map(Proposal::sentence).collect();
                Check::warn(
                    ID,
                    format!(
                        "{}: as a mail server does, and is not allowed",
                        listed(&sentences)
                    ),
                    format!("if it is one of yours: {}", proposed(&proposals, settings)),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::status;
    use super::*;
    use crate::engine::Role;
    use crate::view::CheckStatus::{Ok as Fine, Warn};

    fn receiver() -> Receiver {
        Receiver {
            id: "10.0.0.7".to_owned(),
            addresses: vec![[10, 0, 0, 7].into()],
            mac: None,
            hostname: None,
            role: Role {
                networks: 3,
                days: 2,
                is_early: true,
            },
        }
    }

    #[test]
    fn who_receives_mail_is_to_be_allowed() {
        let open = Settings::default;
        let allowing = || Settings {
            allow: vec!["10.0.0.0/24".parse().unwrap()],
            ..Settings::default()
        };
        let judged = |settings, receivers| {
            let facts = Facts {
                settings,
                receivers,
            };
            let checks = facts.judge();
            (status(&checks, "roles.mail_servers"), checks)
        };
        assert_eq!(judged(open(), Ok(Vec::new())).0, Fine);
        assert_eq!(judged(allowing(), Ok(vec![receiver()])).0, Fine);
        assert_eq!(judged(open(), Err("x".to_owned())).0, Warn);
        let (found, checks) = judged(open(), Ok(vec![receiver()]));
        assert_eq!(found, Warn);
        let line = "allow = [\"10.0.0.7\"]   # in [network] of /etc/smtpwatch/smtpwatch.toml";
        assert!(checks[0].advice.contains(line), "{checks:?}");
    }
}
