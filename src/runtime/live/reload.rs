//! A configuration that is read again while the run goes on: what has changed is handed to whom it
//! concerns, what was counted stays. Where anything is wrong with it everything stays as it was.

use super::Live;
use crate::engine::Input;
use crate::model::Timestamp;
use crate::settings::config::Resolved;
use crate::settings::reload::Reload;

/// How a configuration is read; or all that is wrong with it, a line each.
type Read = Box<dyn FnMut() -> Result<Resolved, Vec<String>>>;

/// The configuration that holds, and how it is read again.
pub(crate) struct Reloader {
    now: Resolved,
    read: Read,
}

impl Reloader {
    /// `now` holds; `read` answers what is to hold.
    pub(crate) fn new(
        now: Resolved,
        read: impl FnMut() -> Result<Resolved, Vec<String>> + 'static,
    ) -> Self {
        Self {
            now,
            read: Box::new(read),
        }
    }

    /// Whether names are asked of the DNS.
    pub(super) fn asks_names(&self) -> bool {
        self.now.config.reverse_dns
    }

    fn read(&mut self) -> Result<Reload, Vec<String>> {
        Ok(Reload::between(&self.now, &(self.read)()?))
    }
}

impl Live {
    /// Reads the configuration again, and says what came of it.
    pub(super) fn reload(&mut self) {
        let now = self.clock.now();
        match self.reloader.read() {
            Ok(reload) => self.apply(reload, now),
            Err(mistakes) => self.refuse(&mistakes, now),
        }
        self.core.sink().print(now);
    }

    fn refuse(&mut self, mistakes: &[String], now: Timestamp) {
        let sink = self.core.sink();
        sink.warn(
            "the configuration stays as it was, for the new one is wrong:",
            now,
        );
        for mistake in mistakes {
            sink.warn(mistake, now);
        }
    }

    fn apply(&mut self, reload: Reload, now: Timestamp) {
        let told = told(&reload);
        if let Some(rules) = reload.rules {
            let ports = reload.then.config.ports.clone();
            let before = self.reloader.now.config.ports.clone();
            // Whoever reads a port is there before the rule that hands it over.
            self.slots.watch(&ports, &mut self.core, now);
            let replaced = self.guard.replace(rules, &mut self.core, &self.clock);
            if let Err(error) = replaced {
                self.slots.watch(&before, &mut self.core, now);
                let why = format!("the rules could not be changed: {error}");
                self.refuse(&[why], now);
                return;
            }
        }
        if let Some(settings) = reload.engine {
            self.core.take(Input::Settings(Box::new(settings)), now);
        }
        if let Some(retention) = reload.retention {
            self.core.retain(retention);
        }
        if let Some(is_asked) = reload.reverse_dns {
            self.ask_names(is_asked);
        }
        self.reloader.now = reload.then;
        self.core.sink().say(&told, now);
    }
}

/// What a reload does, in one line.
fn told(reload: &Reload) -> String {
    let mut parts = Vec::new();
    if !reload.changed.is_empty() {
        parts.push(format!("changed {}", reload.changed.join(", ")));
    }
    if !reload.needs_restart.is_empty() {
        let keys = reload.needs_restart.join(", ");
        parts.push(format!("needs a restart for {keys}"));
    }
    if parts.is_empty() {
        parts.push("nothing has changed".to_owned());
    }
    format!("the configuration was read again: {}", parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::file::of_text as read;

    fn reload(before: &str, after: &str) -> Reload {
        Reloader::new(read(before), {
            let after = read(after);
            move || Ok(after.clone())
        })
        .read()
        .unwrap()
    }

    #[test]
    fn one_line_tells_what_has_changed() {
        for (after, expected) in [
            ("", "nothing has changed"),
            ("network.ports = [25, 587]", "changed network.ports"),
            ("rules.group = 7", "needs a restart for rules.group"),
            (
                "rules.group = 7\nhistory.days = \"1w\"",
                "changed history.days; needs a restart for rules.group",
            ),
        ] {
            assert_eq!(
                told(&reload("", after)),
                format!("the configuration was read again: {expected}")
            );
        }
    }
}
