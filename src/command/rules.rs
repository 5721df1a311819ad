//! `smtpwatch rules`: the firewall rules printed, installed, removed and checked.

use std::io;

use super::configured::read_or_say;
use super::output::{Writer, deliver};
use super::{FAILED, is_broken_pipe, say};
use crate::netfilter::{Backend, Claim, Error, Installed, Step, all, status};
use crate::ruleset;
use crate::settings::config::Resolved;
use crate::settings::flags::rules::{Rules as Flags, RulesAction, StatusFormat, WantedRules};
use crate::settings::rules::{At, BackendChoice, PartialRules, Rules};
use crate::view::RulesStatus;

/// Runs the verb; answers the exit status.
pub(super) fn run(flags: &Flags) -> u8 {
    let Some(config) = read_or_say(flags) else {
        return FAILED;
    };
    let asked = |wanted: &WantedRules| Asked::new(wanted, &config);
    let done = match &flags.action {
        RulesAction::Show { wanted } => show(&asked(wanted)),
        RulesAction::Install { wanted, dry_run } => install(&asked(wanted), *dry_run),
        RulesAction::Remove { backend, dry_run } => remove(*backend, *dry_run),
        RulesAction::Status {
            wanted,
            format,
            json,
        } => {
            let format = if *json { StatusFormat::Json } else { *format };
            show_status(&asked(wanted), format)
        }
    };
    match done {
        Err(error) if !is_broken_pipe(&error) => {
            say(&format!("{error:#}"));
            FAILED
        }
        _ => 0,
    }
}

/// What is asked of the rules.
struct Asked {
    backend: BackendChoice,
    rules: PartialRules,
}

impl Asked {
    fn new(wanted: &WantedRules, config: &Resolved) -> Self {
        Self {
            backend: config.config.backend,
            rules: wanted.rules(config),
        }
    }

    fn resolve(&self, at: At) -> Rules {
        self.rules.clone().resolve(at)
    }
}

/// Prints the text that would be loaded where nothing of ours is installed. Asks no firewall where
/// the backend is named.
fn show(asked: &Asked) -> anyhow::Result<()> {
    let is_nft = match asked.backend {
        BackendChoice::Nft => true,
        BackendChoice::Iptables => false,
        // Without the right to ask, what would be tried first.
        BackendChoice::Auto => !matches!(
            Backend::choose(BackendChoice::Auto),
            Ok(Backend::Iptables(_))
        ),
    };
    let text = if is_nft {
        ruleset::nft(&asked.resolve(At::Prerouting))
    } else {
        let rules = asked.resolve(At::Forward);
        format!("{}{}", by_hand(&rules), ruleset::iptables(&rules))
    };
    print(|to| to.write_all(text.as_bytes()))
}

/// The classic rules as comments; they are what a gateway without this program can do.
fn by_hand(rules: &Rules) -> String {
    let mut text = "# By hand, on a gateway without smtpwatch, what was always done:\n".to_owned();
    for program in ["iptables", "ip6tables"] {
        for line in ruleset::classic(program, rules) {
            text.push_str(&format!("#   {line}\n"));
        }
    }
    text.push_str("#\n");
    text
}

fn install(asked: &Asked, is_dry_run: bool) -> anyhow::Result<()> {
    let backend = Backend::choose(asked.backend)?;
    let rules = asked.resolve(backend.default_at());
    if is_dry_run {
        let steps = backend.plan(&rules)?;
        return print(|to| write_steps(&steps, "the rules are there as wanted", to));
    }
    let installed = backend.install(&rules)?;
    let did = match installed {
        Installed::Done => "installed",
        Installed::Already => "already installed",
    };
    print(|to| {
        writeln!(
            to,
            "{did} with {}: port {}, at {}, via {}",
            backend.name(),
            rules.ports,
            rules.at,
            rules.via
        )
    })?;
    for other in elsewhere(&backend) {
        say(&format!(
            "older rules of ours are also in {other}: an attempt still counts once; `smtpwatch rules remove` takes all away, then install again"
        ));
    }
    Ok(())
}

/// Other firewalls that hold rules of ours, too; where they cannot be asked, none is known.
fn elsewhere(used: &Backend) -> Vec<String> {
    let others = all(BackendChoice::Auto).unwrap_or_default();
    others
        .iter()
        .filter(|other| other.name() != used.name())
        .filter(|other| matches!(other.installed(), Ok(Some(_))))
        .map(Backend::name)
        .collect()
}

fn remove(choice: BackendChoice, is_dry_run: bool) -> anyhow::Result<()> {
    let backends = all(choice)?;
    if is_dry_run {
        let mut steps = Vec::new();
        for backend in &backends {
            steps.extend(backend.plan_removal()?);
        }
        return print(|to| write_steps(&steps, "nothing of ours is installed", to));
    }
    let mut taken = Vec::new();
    let mut left = Vec::new();
    let mut errors: Vec<Error> = Vec::new();
    for backend in &backends {
        match backend.remove() {
            Ok(removed) => {
                taken.extend(removed.taken);
                left.extend(removed.left);
            }
            Err(error) => errors.push(error),
        }
    }
    print(|to| {
        if taken.is_empty() && errors.is_empty() {
            writeln!(to, "nothing of ours is installed")?;
        }
        for taken in &taken {
            writeln!(to, "removed {taken}")?;
        }
        Ok(())
    })?;
    for left in &left {
        say(&format!("left {left}"));
    }
    if let Some(watch) = Claim::holder() {
        say(&format!(
            "{watch} watches here and puts its rules back: end it (kill {}), and it takes them away itself",
            watch.pid
        ));
    }
    match errors.pop() {
        None => Ok(()),
        Some(last) => {
            for error in &errors {
                say(&error.to_string());
            }
            Err(last.into())
        }
    }
}

fn show_status(asked: &Asked, format: StatusFormat) -> anyhow::Result<()> {
    let status = status(asked.backend, &asked.rules)?;
    let shape = RulesStatus::new(&status);
    print(|to| match format {
        StatusFormat::Table => shape.table(to),
        StatusFormat::Json => shape.json(to),
    })
}

fn write_steps(steps: &[Step], nothing: &str, to: Writer<'_>) -> io::Result<()> {
    if steps.is_empty() {
        return writeln!(to, "# nothing to do: {nothing}");
    }
    for Step { command, text } in steps {
        writeln!(to, "# would run: {command}\n{text}")?;
    }
    Ok(())
}

fn print(write: impl FnOnce(Writer<'_>) -> io::Result<()>) -> anyhow::Result<()> {
    deliver(None, false, |to, _| write(to))
}
