//! `smtpwatch watch`: the live run.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, IsTerminal};

use anyhow::{Context, bail};

use super::output::deliver;
use super::{BLIND, FAILED, INFECTED, USAGE, is_broken_pipe, say};
use crate::attribution::leases::LeaseBook;
use crate::engine::Engine;
use crate::model::{Interface, SourceName};
use crate::netfilter::{Backend, Claim, Installed};
use crate::recording::{Header, Recorder};
use crate::runtime::clock::LiveClock;
use crate::runtime::live::{Core, Ended, Ends, Guard, Live, Printed, Shown, Sink, Slots};
use crate::settings::flags::watch::{Format, Mode, Source, Watch as Flags};
use crate::settings::rules::{Rules, Via};
use crate::settings::{Limits, Settings};
use crate::source::inventory::{self, Inventory, Lost};
use crate::source::live::Options;
use crate::store::{Gatherer, Retention, Writer};
use crate::view::{self, Layout, Report};

/// Runs the verb; answers the exit status.
pub(super) fn run(flags: &Flags) -> u8 {
    if flags.source.len() > 1 && flags.source.contains(&Source::Auto) {
        say("--source auto is one source: name all that are to be read, or auto alone");
        return USAGE;
    }
    match watch(flags) {
        Ok(status) => status,
        Err(error) => {
            say(&format!("{error:#}"));
            FAILED
        }
    }
}

fn watch(flags: &Flags) -> anyhow::Result<u8> {
    let settings = Settings {
        limits: Limits::live(),
        routers: flags.router.clone(),
        ..flags.counting.settings()
    };
    let clock = LiveClock::start();
    let inventory = Inventory::open(&inventory::Options {
        leases: flags.leases.clone(),
        searches: flags.leases.is_empty(),
        ..inventory::Options::default()
    })?;
    // Unknown to whoever chooses the addresses.
    let seed = RandomState::new().hash_one(0);
    let history = match flags.state_dir() {
        Some(folder) => Some((
            Gatherer::new(),
            Writer::start(folder, clock.now(), Retention::default())?,
        )),
        None => None,
    };
    let recorder = match &flags.record {
        Some(path) => {
            let header = Header::new(settings.clone(), seed, clock.now());
            Some(Recorder::create(path, &header)?)
        }
        None => None,
    };
    let runtime = Live::runtime()?;
    let entered = runtime.enter();
    let ends = Ends::new(flags.time).context("cannot listen to signals")?;
    let eyes = Eyes::open(flags, &settings)?;
    let sink = Sink::open(
        shown(flags),
        flags.zone(),
        eyes.title.clone(),
        flags.events(),
        flags.mode == Mode::Alert,
        flags.quiet,
    )
    .context("cannot open the terminal")?;
    drop(entered);
    let live = Live {
        core: Core::new(
            Engine::new(settings, LeaseBook::default(), seed),
            sink,
            recorder,
            history,
        ),
        slots: eyes.slots,
        guard: eyes.guard,
        inventory,
        overlooked: Lost::default(),
        unheard: None,
        clock,
        ends,
    };
    let ended = live.run(&runtime).context("the run ended early")?;
    conclude(flags, ended)
}

fn shown(flags: &Flags) -> Shown {
    match flags.format() {
        Format::Json => Shown::Events,
        Format::Table if io::stdout().is_terminal() && io::stdin().is_terminal() && has_size() => {
            Shown::Screen
        }
        Format::Table => Shown::Lines,
    }
}

/// Whether the terminal knows its size; a serial console may not, and no table fits there.
fn has_size() -> bool {
    ratatui::crossterm::terminal::size().is_ok_and(|(columns, rows)| columns > 0 && rows > 0)
}

/// Sources that are open, and the rules that feed them.
struct Eyes {
    slots: Slots,
    guard: Guard,
    title: String,
}

impl Eyes {
    /// Opens what is asked for; of `auto` the best that works here.
    fn open(flags: &Flags, settings: &Settings) -> anyhow::Result<Self> {
        if !flags.source.contains(&Source::Auto) {
            let sources: Vec<SourceName> = flags.source.iter().map(name).collect();
            return Self::of(&sources, flags, settings);
        }
        let mut reasons = Vec::new();
        for source in [SourceName::Nflog, SourceName::Kmsg] {
            match Self::of(std::slice::from_ref(&source), flags, settings) {
                Ok(eyes) => {
                    let why = match reasons.as_slice() {
                        [] => "it loses least, and works here".to_owned(),
                        reasons => reasons.join("; "),
                    };
                    if !flags.quiet {
                        say(&format!("source {source} ({why})"));
                    }
                    return Ok(eyes);
                }
                Err(error) => reasons.push(format!("{source} does not work here: {error:#}")),
            }
        }
        bail!(
            "nothing can be watched: {}; a capture needs no rules: --source capture:INTERFACE",
            reasons.join("; ")
        )
    }

    fn of(sources: &[SourceName], flags: &Flags, settings: &Settings) -> anyhow::Result<Self> {
        let has = |source| sources.contains(&source);
        let via = Via::of(has(SourceName::Nflog), has(SourceName::Kmsg));
        let given = flags.rules.partial(&settings.ports);
        let mut names: Vec<SourceName> = Vec::new();
        for source in sources {
            if !names.contains(source) {
                names.push(source.clone());
            }
        }
        let named: Vec<String> = names.iter().map(ToString::to_string).collect();
        let slots = |rules: Option<&Rules>| Slots::open(&names, options(settings, flags, rules));
        let mut title = format!("watching {}", named.join(", "));
        let (slots, guard) = match via {
            Some(via) if !flags.rules.no_rules => {
                let backend = Backend::choose(flags.rules.backend)?;
                let mut rules = given.resolve(backend.default_at());
                rules.via = via;
                let claim = Claim::take()?;
                // Whoever reads is there before the rules are.
                let slots = slots(Some(&rules))?;
                title += &format!(" by {}", backend.name());
                let (guard, installed) = Guard::install(
                    backend,
                    &rules,
                    claim,
                    flags.rules.keep_rules,
                    flags.rules.max_heals,
                )?;
                if installed == Installed::Already && !flags.rules.keep_rules && !flags.quiet {
                    say(
                        "the rules were there already; they are taken away at the end (--keep-rules leaves them)",
                    );
                }
                (slots, guard)
            }
            _ => (slots(None)?, Guard::none()),
        };
        Ok(Self {
            slots,
            guard,
            title,
        })
    }
}

fn name(source: &Source) -> SourceName {
    match source {
        Source::Nflog | Source::Auto => SourceName::Nflog,
        Source::Kmsg => SourceName::Kmsg,
        Source::Conntrack => SourceName::Conntrack,
        Source::Journal => SourceName::Journal,
        Source::File(path) => SourceName::File(path.clone()),
        Source::Capture(interface) => SourceName::Capture(Interface::new(interface.as_bytes())),
    }
}

/// How sources are read: where the rules are ours only what bears their prefix counts.
fn options(settings: &Settings, flags: &Flags, rules: Option<&Rules>) -> Options {
    let prefix = match rules {
        Some(rules) => Some(rules.prefix.as_str().as_bytes().to_vec()),
        None => flags
            .rules
            .prefix
            .as_ref()
            .map(|prefix| prefix.as_str().as_bytes().to_vec()),
    };
    Options {
        ports: settings.ports.clone(),
        group: rules.map_or(flags.rules.group(), |rules| rules.group),
        prefixes: prefix.into_iter().collect(),
        tags: settings_tags(flags),
        zone: flags.timezone.clone(),
        resume_at: Vec::new(),
        opens_attempts: false,
    }
}

fn settings_tags(flags: &Flags) -> Vec<Vec<u8>> {
    flags.counting.tags().collect()
}

/// The report at the end, and the exit status.
fn conclude(flags: &Flags, ended: Ended) -> anyhow::Result<u8> {
    let Ended {
        engine,
        sink,
        at,
        troubles,
    } = ended;
    let at = engine.wall(at);
    let report = Report::new(&engine, &[], at, flags.top);
    let printed = sink.finish(&report, at);
    let is_stuck = matches!(printed, Ok(Printed { is_stuck: true, .. }));
    if is_stuck && io::stderr().is_terminal() {
        // A terminal that takes nothing: a word on it would be waited for till it goes.
        return Ok(status(flags, &report, !troubles.is_empty()));
    }
    for trouble in &troubles {
        say(trouble);
    }
    if !flags.quiet {
        report.notes.lines.iter().for_each(|line| say(line));
    }
    let mut has_failed = !troubles.is_empty();
    let is_read = match printed {
        Ok(Printed { dropped, is_stuck }) => {
            if dropped > 0 {
                say(&format!(
                    "lines that nobody read in time, and that are missing from the output: {dropped}"
                ));
            }
            !is_stuck
        }
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => false,
        Err(error) => {
            say(&format!("cannot write to standard output: {error}"));
            has_failed = true;
            false
        }
    };
    if flags.format() == Format::Table && is_read {
        print(flags, &report)?;
    }
    Ok(status(flags, &report, has_failed))
}

fn status(flags: &Flags, report: &Report, has_failed: bool) -> u8 {
    match (
        flags.exit_code,
        report.notes.is_infected,
        report.notes.is_blind,
    ) {
        (true, true, _) => INFECTED,
        (true, false, true) => BLIND,
        _ if has_failed => FAILED,
        _ => 0,
    }
}

fn print(flags: &Flags, report: &Report) -> anyhow::Result<()> {
    let printed = deliver(None, true, |to, width| {
        let layout = Layout {
            zone: flags.zone(),
            top: flags.top,
            width,
        };
        view::table(report, &layout, to)
    });
    match printed {
        Err(error) if !is_broken_pipe(&error) => Err(error),
        _ => Ok(()),
    }
}
