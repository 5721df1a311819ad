//! What becomes of a run whose configuration has changed.

use super::Settings;
use super::config::{Key, Resolved};
use super::history::Retention;
use super::rules::PartialRules;

/// Keys that a run takes when it starts, and then no more.
const AT_START: [Key; 10] = [
    Key::Timezone,
    Key::Source,
    Key::Mode,
    Key::Leases,
    Key::Backend,
    Key::Group,
    Key::Prefix,
    Key::Keep,
    Key::MaxHeals,
    Key::History,
];

/// What a run has to do so that another configuration holds; nothing of what has not changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Reload {
    /// The engine's settings.
    pub engine: Option<Settings>,
    /// What is said about the firewall rules.
    pub rules: Option<PartialRules>,
    /// How long the history keeps what.
    pub retention: Option<Retention>,
    /// Whether names are asked of the DNS.
    pub reverse_dns: Option<bool>,
    /// The keys that have changed, and hold from now on.
    pub changed: Vec<&'static str>,
    /// The keys that have changed, and hold after a restart only.
    pub needs_restart: Vec<&'static str>,
    /// The configuration that holds then: the new one, but for what needs a restart.
    pub then: Resolved,
}

impl Reload {
    /// What follows where a run with the configuration `old` is to have `new`.
    pub fn between(old: &Resolved, new: &Resolved) -> Self {
        let differs = |key: &Key| key.show(&old.config) != key.show(&new.config);
        let mut then = new.clone();
        let mut changed = Vec::new();
        let mut needs_restart = Vec::new();
        for key in Key::ALL.iter().filter(|key| differs(key)) {
            if AT_START.contains(key) {
                needs_restart.push(key.name());
            } else {
                changed.push(key.name());
            }
        }
        for key in AT_START {
            then.take(key, old);
        }
        let settings = then.live_settings();
        let (before, after) = (&old.config, &then.config);
        Self {
            engine: (settings != old.live_settings()).then_some(settings),
            rules: (before.ports != after.ports || before.at != after.at).then(|| then.rules()),
            retention: (before.retention != after.retention).then_some(after.retention),
            reverse_dns: (before.reverse_dns != after.reverse_dns).then_some(after.reverse_dns),
            changed,
            needs_restart,
            then,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::file::of_text as read;
    use crate::settings::rules::At;

    fn between(old: &str, new: &str) -> Reload {
        Reload::between(&read(old), &read(new))
    }

    #[test]
    fn nothing_follows_where_nothing_has_changed() {
        // Said or not, in one place or another.
        let reload = between("", "\nnetwork.ports = [25]\nnetwork.lan = []");
        assert_eq!(
            reload,
            Reload {
                engine: None,
                rules: None,
                retention: None,
                reverse_dns: None,
                changed: Vec::new(),
                needs_restart: Vec::new(),
                then: read("\nnetwork.ports = [25]\nnetwork.lan = []"),
            }
        );
    }

    #[test]
    fn each_change_goes_to_whom_it_concerns() {
        let reload = between("", "detection.burst.groups = 5");
        let engine = reload.engine.unwrap();
        assert_eq!(engine.burst.groups, 5);
        assert_eq!(engine.limits, crate::settings::Limits::live());
        assert_eq!((reload.rules, reload.retention), (None, None));
        assert_eq!(reload.changed, ["detection.burst.groups"]);

        let reload = between("", "network.allow = \"10.0.0.7\"");
        assert_eq!(reload.engine.unwrap().allow.len(), 1);
        assert_eq!(reload.changed, ["network.allow"]);

        let reload = between("", "network.ports = [25, 587]\nrules.at = \"forward\"");
        let rules = reload.rules.unwrap();
        assert_eq!(rules.ports.unwrap().as_slice(), [25, 587]);
        assert_eq!(rules.at, Some(At::Forward));
        assert_eq!(reload.engine.unwrap().ports.as_slice(), [25, 587]);

        let reload = between("", "history.detail = \"1d\"\nnames.reverse_dns = false");
        assert_eq!(reload.retention.unwrap().detail.as_secs(), 86_400);
        assert_eq!(reload.reverse_dns, Some(false));
        assert_eq!((reload.engine, reload.rules), (None, None));
    }

    #[test]
    fn what_needs_a_restart_stays_as_it_was_and_is_told_again() {
        let (old, new) = ("rules.group = 7", "rules.group = 8\nnetwork.ports = [587]");
        let reload = between(old, new);
        assert_eq!(reload.needs_restart, ["rules.group"]);
        assert_eq!(reload.changed, ["network.ports"]);
        // Whoever reads the group 7 goes on doing so.
        assert_eq!(reload.rules.unwrap().group, Some(7));
        let again = Reload::between(&reload.then, &read(new));
        assert_eq!(again.needs_restart, ["rules.group"]);
        assert_eq!(again.changed, Vec::<&str>::new());
        assert_eq!(again.then, reload.then);
    }

    /// The template's words and the list here say the same.
    #[test]
    fn the_template_tells_what_needs_a_restart() {
        let mut section = String::new();
        let mut needs = false;
        let mut told = Vec::new();
        for line in crate::settings::config::TEMPLATE.lines() {
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
            {
                section = format!("{name}.");
            } else if line.starts_with("# ") {
                needs = line.contains("a restart.)");
            } else if let Some((name, _)) = line.split_once(" = ")
                && needs
            {
                told.push(format!("{section}{}", name.trim_start_matches('#')));
            }
        }
        let listed: Vec<&str> = AT_START.iter().map(|key| key.name()).collect();
        assert_eq!(told, listed);
    }
}
