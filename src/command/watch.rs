//! `smtpwatch watch`: the live run.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, IsTerminal};

use anyhow::{Context, bail};

use super::configured::{self, read_or_say};
use super::output::deliver;
use super::{BLIND, FAILED, INFECTED, USAGE, is_broken_pipe, say};
use crate::attribution::leases::LeaseBook;
use crate::engine::Engine;
use crate::model::{Interface, SourceName};
use crate::netfilter::{Backend, Claim, Installed};
use crate::recording::{Header, Recorder};
use crate::runtime::clock::LiveClock;
use crate::runtime::live::{
    Core, Dns, Ended, Ends, Guard, Live, Printed, Reloader, Shown, Sink, Slots,
};
use crate::settings::config::Resolved;
use crate::settings::flags::watch::{Format, Mode, Source, Watch as Flags};
use crate::settings::flags::zone;
use crate::settings::rules::{Rules, Via};
use crate::source::inventory::{self, Inventory, Lost};
use crate::source::live::dns::Answers;
use crate::source::live::{self, Options};
use crate::store::{self, Gatherer, Resumed, Writer};
use crate::view::{self, Layout, Report};

/// Runs the verb; answers the exit status.
pub(super) fn run(flags: &Flags) -> u8 {
    let Some(config) = read_or_say(flags) else {
        return FAILED;
    };
    let source = &config.config.source;
    if source.len() > 1 && source.contains(&Source::Auto) {
        say("--source auto is one source: name all that are to be read, or auto alone");
        return USAGE;
    }
    match watch(flags, &config) {
        Ok(status) => status,
        Err(error) => {
            say(&format!("{error:#}"));
            FAILED
        }
    }
}

fn watch(flags: &Flags, config: &Resolved) -> anyhow::Result<u8> {
    let settings = config.live_settings();
    let clock = LiveClock::start();
    let inventory = Inventory::open(&inventory::Options::following(&config.config.leases))?;
    // Unknown to whoever chooses the addresses.
    let seed = RandomState::new().hash_one(0);
    let history = match config.state_dir() {
        Some(folder) => Some((
            Gatherer::new(),
            Writer::start(folder, clock.now(), config.config.retention)?,
        )),
        None => None,
    };
    let mut resumed = match (&history, config.state_dir()) {
        (Some(_), Some(folder)) => store::resume(folder, clock.now()).unwrap_or_else(|error| {
            say(&format!("beginning anew, for {error}"));
            Resumed::default()
        }),
        _ => Resumed::default(),
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
    let positions = std::mem::take(&mut resumed.positions);
    let eyes = Eyes::open(flags, config, &positions)?;
    let sink = Sink::open(
        shown(flags),
        zone(config),
        eyes.title.clone(),
        flags.events(),
        config.config.mode == Mode::Alert,
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
        )
        .with_dns(eyes.dns),
        slots: eyes.slots,
        guard: eyes.guard,
        inventory,
        overlooked: Lost::default(),
        unheard: None,
        clock,
        ends,
        resumed,
        reloader: reloader(flags, config),
    };
    let ended = live.run(&runtime).context("the run ended early")?;
    conclude(flags, config, ended)
}

/// Reads the configuration again, under the same flags.
fn reloader(flags: &Flags, config: &Resolved) -> Reloader {
    let flags = flags.clone();
    Reloader::new(config.clone(), move || {
        configured::read(&flags).map_err(|errors| configured::told(&errors))
    })
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
    dns: Option<Dns>,
    title: String,
}

impl Eyes {
    /// Opens what is asked for; of `auto` the best that works here.
    fn open(flags: &Flags, config: &Resolved, positions: &Positions) -> anyhow::Result<Self> {
        let asked = &config.config.source;
        if !asked.contains(&Source::Auto) {
            let sources: Vec<SourceName> = asked.iter().map(name).collect();
            return Self::of(&sources, flags, config, positions);
        }
        let follower = follower(config, flags);
        let mut reasons = Vec::new();
        for source in [SourceName::Nflog, SourceName::Kmsg] {
            let sources: Vec<_> = [source.clone()]
                .into_iter()
                .chain(follower.clone())
                .collect();
            match Self::of(&sources, flags, config, positions) {
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

    fn of(
        sources: &[SourceName],
        flags: &Flags,
        config: &Resolved,
        positions: &Positions,
    ) -> anyhow::Result<Self> {
        let has = |source| sources.contains(&source);
        let via = Via::of(has(SourceName::Nflog), has(SourceName::Kmsg));
        let mut names: Vec<SourceName> = Vec::new();
        for source in sources {
            if !names.contains(source) {
                names.push(source.clone());
            }
        }
        let named: Vec<String> = names.iter().map(ToString::to_string).collect();
        let slots = |rules: Option<&Rules>| {
            let options = Options {
                resume_at: positions.to_vec(),
                // It knows neither MACs nor repeated SYNs: where anybody else sees them it only tells how they end.
                opens_attempts: names.iter().all(|name| *name == SourceName::Conntrack),
                ..options(config, flags, rules)
            };
            Slots::open(&names, options)
        };
        let mut title = format!("watching {}", named.join(", "));
        let mut dns = None;
        let (slots, guard) = match via {
            Some(via) if !flags.rules.no_rules => {
                let backend = Backend::choose(config.config.backend)?;
                let mut rules = config.rules().resolve(backend.default_at());
                rules.via = via;
                let claim = Claim::take()?;
                // Whoever reads is there before the rules are.
                let slots = slots(Some(&rules))?;
                dns = listen(rules.answers);
                rules.answers = rules.answers.filter(|_| dns.is_some());
                title += &format!(" by {}", backend.name());
                let (guard, installed) = Guard::install(
                    backend,
                    &rules,
                    claim,
                    config.config.keep,
                    config.config.max_heals as usize,
                )?;
                if installed == Installed::Already && !config.config.keep && !flags.quiet {
                    say(
                        "the rules were there already; they are taken away at the end (--keep-rules leaves them)",
                    );
                }
                (slots, guard)
            }
            _ => {
                if config.config.dns_listen {
                    say(
                        "answers of the DNS are not read: dns.listen needs the rules of nflog or kmsg",
                    );
                }
                (slots(None)?, Guard::none())
            }
        };
        Ok(Self {
            slots,
            guard,
            dns,
            title,
        })
    }
}

/// Reads answers of the DNS that come by `group`, where that is asked for and works here.
fn listen(group: Option<u16>) -> Option<Dns> {
    match Answers::open(group?) {
        // Another seed than the engine's, which a recording tells.
        Ok(answers) => Some(Dns::new(answers, RandomState::new().hash_one(0))),
        Err(error) => {
            say(&format!("answers of the DNS are not read: {error}"));
            None
        }
    }
}

/// How far sources had been read.
type Positions = [(SourceName, String)];

/// What tells how attempts end beside whoever sees them, where it works here.
fn follower(config: &Resolved, flags: &Flags) -> Option<SourceName> {
    let Err(why) = live::open(&SourceName::Conntrack, &options(config, flags, None)) else {
        return Some(SourceName::Conntrack);
    };
    if !flags.quiet {
        say(&format!("how attempts end is not told, for {why}"));
    }
    None
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
fn options(config: &Resolved, flags: &Flags, rules: Option<&Rules>) -> Options {
    let prefix = rules.map(|rules| &rules.prefix).or(config.prefix());
    let prefix = prefix.map(|prefix| prefix.as_str().as_bytes().to_vec());
    Options {
        ports: config.config.ports.clone(),
        group: rules.map_or(config.config.group, |rules| rules.group),
        prefixes: prefix.into_iter().collect(),
        tags: settings_tags(flags),
        zone: config.zone().cloned(),
        resume_at: Vec::new(),
        opens_attempts: false,
    }
}

fn settings_tags(flags: &Flags) -> Vec<Vec<u8>> {
    flags.counting.tags().collect()
}

/// The report at the end, and the exit status.
fn conclude(flags: &Flags, config: &Resolved, ended: Ended) -> anyhow::Result<u8> {
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
        print(flags, config, &report)?;
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

fn print(flags: &Flags, config: &Resolved, report: &Report) -> anyhow::Result<()> {
    let printed = deliver(None, true, |to, width| {
        let layout = Layout {
            zone: zone(config),
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
