//! The proof that the watch works on this kernel: a network of its own, the real rules, real SYNs, and a
//! verdict by the engine that a watch has.
//!
//! All of it is in a network namespace that belongs to one thread and goes with it, however it ends: it
//! has no name, and nothing outside it is touched. The kernel log is not tried, for its lines would stand
//! in the machine's own log.

mod mail;
mod network;

use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

use crate::attribution::leases::LeaseBook;
use crate::engine::{Engine, Input, because_of};
use crate::model::{Evidence, Interface, Observation, Outcome, SourceName, Verdict};
use crate::netfilter::{Backend, Error};
use crate::runtime::clock::{LiveClock, moment};
use crate::settings::Settings;
use crate::settings::rules::{BackendChoice, PartialRules, Prefix, Rules};
use crate::source::inventory::{self, Inventory};
use crate::source::live::{self, Batch, Live, Options};
use crate::view::{Check, CheckStatus};
use mail::{Mail, SYNS};
use network::{LAN, MACHINE, Network, WAN_END};

/// How long a packet may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one wait is.
const NAP_MILLIS: u16 = 50;
const AS_ROOT: &str = "run it as root: sudo smtpwatch doctor --selftest";
const REPORT: &str = "see smtpwatch doctor for what is missing; watch by another source: smtpwatch watch --source capture:INTERFACE";

/// The names of what is done with one firewall.
struct Names {
    rules: &'static str,
    syn: &'static str,
    removed: &'static str,
}

const NFT: Names = Names {
    rules: "selftest.nft.rules",
    syn: "selftest.nft.syn",
    removed: "selftest.nft.removed",
};
const IPTABLES: Names = Names {
    rules: "selftest.iptables.rules",
    syn: "selftest.iptables.syn",
    removed: "selftest.iptables.removed",
};

/// Runs the self-test, each step a check with its time.
pub(crate) fn selftest() -> Vec<Check> {
    let mut steps = Steps::default();
    let is_done = thread::scope(|scope| {
        let worker = thread::Builder::new().spawn_scoped(scope, || run(&mut steps));
        worker.is_ok_and(|worker| worker.join().is_ok())
    });
    if !is_done {
        let advice = "a mistake of smtpwatch's: report it with this output";
        steps.0.push(Check::fail(
            "selftest.end",
            "the self-test did not come to its end",
            advice,
        ));
    }
    steps.0
}

/// What was done so far.
#[derive(Default)]
struct Steps(Vec<Check>);

impl Steps {
    /// Does one step, which answers what it found; where it fails, `advice` says what to do.
    fn step<T>(
        &mut self,
        id: &'static str,
        advice: &str,
        work: impl FnOnce() -> Result<(T, String), String>,
    ) -> Option<T> {
        let start = moment();
        let done = work();
        let millis = start.elapsed().as_secs_f64() * 1000.0;
        let (done, mut check) = match done {
            Ok((done, found)) => (Some(done), Check::ok(id, found)),
            Err(why) => (None, Check::fail(id, why, advice)),
        };
        check.millis = Some((millis * 10.0).round() / 10.0);
        self.0.push(check);
        done
    }
}

fn run(steps: &mut Steps) {
    let made = steps.step("selftest.namespace", AS_ROOT, || {
        network::enter().map(|()| ((), "a network namespace of its own".to_owned()))
    });
    // Nothing below may ever happen elsewhere.
    if made.is_none() {
        return;
    }
    let advice = "modprobe veth; in a container /proc/sys must be writable, or run it on the host";
    let Some(network) = steps.step("selftest.network", advice, || {
        let found = format!("a LAN ({LAN}), a gateway and a way out, by veth");
        Network::make().map(|network| (network, found))
    }) else {
        return;
    };
    let Some(mut eye) = steps.step("selftest.nflog", "modprobe nfnetlink_log", || {
        Eye::open(&SourceName::Nflog).map(|eye| (eye, "NFLOG is open".to_owned()))
    }) else {
        return;
    };
    let mut mail = Mail::default();
    let advice = "apt install nftables, and modprobe nf_tables; or watch by iptables: smtpwatch watch --backend iptables";
    let backend = steps.step(NFT.rules, advice, || install(BackendChoice::Nft));
    if let Some((backend, rules)) = backend {
        with_nft(steps, &network, &mut eye, &mut mail);
        outcome(steps, &backend, &network, &mut eye, &mut mail);
        remove(steps, NFT.removed, &backend, &rules);
    }
    match Backend::choose(BackendChoice::Iptables) {
        Err(Error::Missing { .. }) => {
            let found = "iptables is not installed, and nft does without";
            steps.0.push(Check::ok(IPTABLES.rules, found));
        }
        _ => with_iptables(steps, &network, &mut eye, &mut mail),
    }
}

/// Everything with nft's rules in place.
fn with_nft(steps: &mut Steps, network: &Network, eye: &mut Eye, mail: &mut Mail) {
    let capture = steps.step(
        "selftest.capture",
        "install libpcap, and give it CAP_NET_RAW",
        || {
            let source = SourceName::Capture(Interface::new(WAN_END.as_bytes()));
            Eye::open(&source).map(|eye| (eye, format!("a capture is open on {WAN_END}, outside")))
        },
    );
    let Some(first) = one_syn(steps, NFT.syn, network, eye, mail) else {
        return;
    };
    if let Some(mut capture) = capture {
        steps.step("selftest.forwarded", REPORT, || {
            let seen = capture.wait(1)?;
            let same = seen.iter().find(|seen| seen.tuple == first.tuple);
            let same = same.ok_or("another SYN came out than went in")?;
            Ok((
                (),
                format!("the same SYN came out, TTL {}", same.ttl.unwrap_or(0)),
            ))
        });
    }
    steps.step("selftest.verdict", REPORT, || {
        verdict(network, eye, mail, first).map(|found| ((), found))
    });
    steps.step("selftest.counter", REPORT, || {
        let counted = Backend::choose(BackendChoice::Nft)
            .and_then(|nft| nft.matched())
            .map_err(|error| error.to_string())?
            .seen;
        if counted == u64::from(mail.sent) {
            Ok((
                (),
                format!("the rule counted {counted}, as many as were sent and seen"),
            ))
        } else {
            Err(format!(
                "the rule counted {counted}, and {} were sent",
                mail.sent
            ))
        }
    });
}

/// One more attempt, which is answered, and what connection tracking tells of it. Without that attempts are seen all
/// the same, and how they end is not known: no failure.
fn outcome(
    steps: &mut Steps,
    backend: &Backend,
    network: &Network,
    eye: &mut Eye,
    mail: &mut Mail,
) {
    let advice = "modprobe nf_conntrack_netlink; without it watch by a capture to know how attempts end: smtpwatch watch \
                  --source capture:INTERFACE";
    let is_told = steps.step("selftest.conntrack", advice, || {
        let mut tracking = Eye::open(&SourceName::Conntrack)?;
        backend.track().map_err(|error| error.to_string())?;
        let tuple = mail.send(network)?;
        eye.wait(1)?;
        mail.shake_hands(network)?;
        let is_it = |evidence: &Evidence| match evidence {
            Evidence::Response(told) if told.tuple == tuple => {
                (told.kind.outcome() == Outcome::Answered).then_some(())
            }
            _ => None,
        };
        tracking.wait_for(1, "answers", is_it)?;
        let found = format!(
            "conntrack told that {} {} {MACHINE}",
            tuple.destination,
            Outcome::Answered
        );
        Ok(((), found))
    });
    if is_told.is_none()
        && let Some(check) = steps.0.last_mut()
    {
        check.status = CheckStatus::Warn;
    }
}

fn with_iptables(steps: &mut Steps, network: &Network, eye: &mut Eye, mail: &mut Mail) {
    let advice =
        "where nft works, nothing: smtpwatch watch uses nft; else load the modules that it names";
    let installed = steps.step(IPTABLES.rules, advice, || install(BackendChoice::Iptables));
    if let Some((backend, rules)) = installed {
        one_syn(steps, IPTABLES.syn, network, eye, mail);
        remove(steps, IPTABLES.removed, &backend, &rules);
    }
}

/// Installs the rules that a watch installs.
fn install(choice: BackendChoice) -> Result<((Backend, Rules), String), String> {
    let backend = Backend::choose(choice).map_err(|error| error.to_string())?;
    let rules = PartialRules::default().resolve(backend.default_at());
    backend.install(&rules).map_err(|error| error.to_string())?;
    let found = format!(
        "the real rules are in place, by {}, at {}",
        backend.name(),
        rules.at
    );
    Ok(((backend, rules), found))
}

fn remove(steps: &mut Steps, id: &'static str, backend: &Backend, rules: &Rules) {
    steps.step(id, "see smtpwatch rules remove --dry-run", || {
        let removed = backend.remove().map_err(|error| error.to_string())?;
        match backend.installed() {
            Ok(None) if !removed.taken.is_empty() => {
                Ok(((), format!("the rules at {} are gone again", rules.at)))
            }
            Ok(_) => Err("something of ours is still there".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    });
}

/// Sends one SYN, and sees it come through the rule.
fn one_syn(
    steps: &mut Steps,
    id: &'static str,
    network: &Network,
    eye: &mut Eye,
    mail: &mut Mail,
) -> Option<Observation> {
    steps.step(id, REPORT, || {
        let tuple = mail.send(network)?;
        let seen = eye.wait(1)?;
        let seen = seen.first().ok_or("nothing was seen")?;
        if seen.tuple != tuple || seen.mac != Some(MACHINE) {
            return Err("another packet was seen than was sent".to_owned());
        }
        let found = format!(
            "a SYN of {MACHINE} to {} was seen by NFLOG",
            tuple.destination
        );
        Ok((*seen, found))
    })
}

/// Sends as many SYNs to as many networks as make a burst, and asks the engine.
fn verdict(
    network: &Network,
    eye: &mut Eye,
    mail: &mut Mail,
    first: Observation,
) -> Result<String, String> {
    let mut engine = Engine::new(Settings::default(), LeaseBook::default(), 0);
    let mut inventory = Inventory::open(&inventory::Options {
        searches: false,
        hosts: "/dev/null".into(),
        ..inventory::Options::default()
    })
    .map_err(|error| error.to_string())?;
    let now = eye.clock.now();
    for input in inventory.read(now).map_err(|error| error.to_string())? {
        engine.handle(input, now);
    }
    engine.handle(Input::Syn(first), now);
    while mail.sent < SYNS {
        mail.send(network)?;
        for observation in eye.wait(1)? {
            engine.handle(Input::Syn(observation), eye.clock.now());
        }
    }
    let device = engine.devices().map(|(_, device)| device).next();
    let device = device.ok_or("the engine knows no device")?;
    let finding = device.findings.first();
    match (device.verdict(), device.mac(), finding) {
        (Verdict::Infected, Some(mac), Some(finding)) if mac == MACHINE => Ok(format!(
            "{}: {}",
            Verdict::Infected,
            because_of(device, finding)
        )),
        (verdict, mac, _) => Err(format!(
            "{} after {} SYNs, of {}",
            verdict,
            mail.sent,
            mac.map_or("no MAC".to_owned(), |mac| mac.to_string())
        )),
    }
}

/// A live source, and what it has seen that nobody has asked for.
struct Eye {
    source: Live,
    batch: Batch,
    clock: LiveClock,
}

impl Eye {
    fn open(source: &SourceName) -> Result<Self, String> {
        let rules = PartialRules::default().resolve(crate::settings::rules::At::Prerouting);
        let options = Options {
            group: rules.group,
            prefixes: vec![Prefix::default().as_str().as_bytes().to_vec()],
            ..Options::default()
        };
        Ok(Self {
            source: live::open(source, &options).map_err(|error| error.to_string())?,
            batch: Batch::default(),
            clock: LiveClock::start(),
        })
    }

    /// The SYNs that came, when there are that many; what was lost is an error.
    fn wait(&mut self, count: usize) -> Result<Vec<Observation>, String> {
        self.wait_for(count, "SYNs", |evidence| match evidence {
            Evidence::Syn(observation) => Some(*observation),
            Evidence::Response(_) => None,
        })
    }

    /// The same of what `pick` takes of the evidence, which is called `what`.
    fn wait_for<T>(
        &mut self,
        count: usize,
        what: &str,
        pick: impl Fn(&Evidence) -> Option<T>,
    ) -> Result<Vec<T>, String> {
        let start = moment();
        let mut seen = Vec::new();
        while seen.len() < count {
            if start.elapsed() > PATIENCE {
                return Err(format!(
                    "{} of {count} {what} were seen within {} s",
                    seen.len(),
                    PATIENCE.as_secs()
                ));
            }
            let mut waited = [PollFd::new(self.source.as_fd(), PollFlags::POLLIN)];
            // A signal ends the wait early, and there is another one.
            let _ = poll(&mut waited, PollTimeout::from(NAP_MILLIS));
            let read = self.source.read(self.clock.now(), &mut self.batch);
            read.map_err(|error| error.to_string())?;
            if let Some((kind, events)) = self.batch.lost.first() {
                return Err(format!("{events} lost ({kind})"));
            }
            seen.extend(self.batch.evidence.iter().filter_map(&pick));
            self.batch.clear();
        }
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::capabilities::{Capability, drop_from_this_thread};

    /// Needs root, as all of the project's tests of the firewall do.
    #[test]
    fn the_watch_works_on_this_kernel() {
        let checks = selftest();
        let bad: Vec<&Check> = checks
            .iter()
            .filter(|it| it.status != CheckStatus::Ok)
            .collect();
        assert!(bad.is_empty(), "{bad:#?}");
        assert!(checks.len() > 10, "{checks:#?}");
        assert!(
            checks.iter().all(|check| check.millis.is_some()),
            "{checks:#?}"
        );
        let verdict = checks
            .iter()
            .find(|it| it.id == "selftest.verdict")
            .unwrap();
        assert!(verdict.found.contains(&MACHINE.to_string()), "{verdict:?}");
    }

    #[test]
    fn without_the_right_nothing_is_begun() {
        let checks = thread::spawn(|| {
            drop_from_this_thread(Capability::SysAdmin);
            let mut steps = Steps::default();
            run(&mut steps);
            steps.0
        });
        let checks = checks.join().unwrap();
        assert_eq!(checks.len(), 1, "{checks:?}");
        assert_eq!(checks[0].status, CheckStatus::Fail);
        assert_eq!(checks[0].advice, AS_ROOT);
    }
}
