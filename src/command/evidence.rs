//! The part of `smtpwatch report --device`: the device is followed while the engine runs, or while the
//! history is run again.

use std::path::Path;

use super::backtest::{asked, say_limits};
use super::say;
use crate::attribution::leases::LeaseBook;
use crate::engine::{Engine, Facts, Found, Selector, Trace, Traced};
use crate::model::Timestamp;
use crate::settings::flags::Report as Flags;
use crate::settings::{Settings, Window};
use crate::store::{Told, relive};
use crate::view::{Evidence, Report};

/// Destinations named of a device in its facts: evidence names them all.
const TOP: usize = 0;

/// The device that was asked for, where one was.
pub(super) struct Asked {
    device: Option<(String, Trace)>,
    seed: u64,
    /// Whether nothing is said but errors.
    is_quiet: bool,
}

impl Asked {
    /// The device that `flags` ask for, within `window`; `seed` is for tables.
    pub(super) fn new(flags: &Flags, window: Window, seed: u64) -> Self {
        let device = flags.device.as_deref();
        let trace = |text: &str| Trace::new(Selector::new(text), window, seed);
        Self {
            device: device.map(|text| (text.to_owned(), trace(text))),
            seed,
            is_quiet: flags.quiet,
        }
    }

    /// Takes what followed from the engine's last input.
    pub(super) fn note(&mut self, engine: &Engine) {
        if let Some((_, trace)) = &mut self.device {
            trace.note(engine);
        }
    }

    /// Puts what was seen into the report on what `engine` knows; answers whether there is anything.
    pub(super) fn put_of_run(&self, engine: &Engine, report: &mut Report) -> bool {
        let Some(found) = self.found() else {
            return self.device.is_none();
        };
        if let Some(device) = engine.device(found.id()) {
            let facts = engine.facts(device, TOP);
            report.device = Some(Evidence::new(&facts, found, false));
        }
        true
    }

    /// The same of the history in `folder`, which knows these `facts`: it is run again by `settings`.
    pub(super) fn put_of_history(
        &mut self,
        folder: &Path,
        settings: &Settings,
        now: Timestamp,
        facts: &[Facts],
        report: &mut Report,
    ) -> bool {
        let Some((_, trace)) = &mut self.device else {
            return true;
        };
        let window = settings.window;
        let settings = Settings {
            window: Window::default(),
            ..settings.clone()
        };
        let mut engine = Engine::new(settings, LeaseBook::default(), self.seed);
        let asked = asked(window, now);
        let told = relive(folder, &asked, &mut |told| match told {
            Told::Contact(device, contact) => engine.recall(device, contact),
            Told::Attempt(device, attempt) => {
                engine.relive(device, attempt);
                trace.note(&engine);
            }
        });
        match told {
            Ok(relived) => {
                if !self.is_quiet {
                    say_limits(&relived, &asked, folder);
                }
            }
            Err(error) => {
                say(&error.to_string());
                return false;
            }
        }
        let Some(found) = self.found() else {
            return false;
        };
        let id = found.key.to_string();
        // What the watch said then is what is said now.
        let known = facts.iter().find(|facts| facts.id == id).cloned();
        let relived = || {
            let device = engine.device(found.id())?;
            Some(engine.facts(device, TOP))
        };
        if let Some(facts) = known.or_else(relived) {
            report.device = Some(Evidence::new(&facts, found, true));
        }
        true
    }

    /// What was seen of the one device that is meant; otherwise it is said why there is none.
    fn found(&self) -> Option<&Traced> {
        let (text, trace) = self.device.as_ref()?;
        match trace.found() {
            Found::One(traced) => return Some(traced),
            Found::None => say(&format!(
                "{text:?} made no attempt in that time: give an id, an address, a MAC or a name as smtpwatch report \
                 shows it"
            )),
            Found::Several(ids) => say(&format!(
                "{text:?} may be each of several devices: give the id of one of {}",
                ids.join(", ")
            )),
        }
        None
    }
}
