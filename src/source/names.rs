//! Reverse DNS: what the system's own resolver calls an address. Asked beside everything else, a few at
//! a time, so that a server that is slow, dead or hostile costs nothing but the names.
//!
//! Nobody is asked twice within the time that an answer is good for. What is asked of whom, and what a
//! name is worth, is decided elsewhere.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use foldhash::quality::RandomState;
use hashbrown::HashMap;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::attribution::names::hostname;

/// Questions under way at once.
const MAX_ASKED: usize = 8;
/// Questions that wait.
const MAX_WAITING: usize = 1_024;
/// Addresses that are known to have been asked about.
const MAX_KNOWN: usize = 8_192;
/// How long an answer is waited for, over all servers and tries.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a name is good for: at least, and at most.
const GOOD_FOR: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(86_400));
/// How long nobody is asked again where there was none.
const NONE_FOR: Duration = Duration::from_secs(600);

/// What keeps reverse DNS from being asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamesError {
    /// The system's configuration cannot be read.
    #[error(
        "/etc/resolv.conf: no name server can be told from it: {0}; names come from leases and /etc/hosts alone"
    )]
    Configuration(NetError),
    /// The resolver cannot be made.
    #[error("the resolver cannot be made: {0}; names come from leases and /etc/hosts alone")]
    Resolver(NetError),
    /// There is nothing to run it on.
    #[error("reverse DNS cannot be started: {0}")]
    Runtime(io::Error),
}

/// What came of the questions so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Questions put.
    pub(crate) questions: u64,
    /// Names that came.
    pub(crate) named: u64,
    /// Answers that there is none.
    pub(crate) nameless: u64,
    /// Names that no host could have.
    pub(crate) unfit: u64,
    /// Questions without an answer in time, or with an error.
    pub(crate) failed: u64,
    /// Questions for which there was no room.
    pub(crate) dropped: u64,
}

/// The names of addresses, as they come.
pub(crate) struct Names {
    resolver: TokioResolver,
    runtime: Handle,
    waiting: VecDeque<IpAddr>,
    asked: Vec<Question>,
    /// When each address may be asked about again.
    known: HashMap<IpAddr, Instant, RandomState>,
    count: Asked,
}

/// A question under way. Its task ends with it.
struct Question(IpAddr, JoinHandle<Found>);

impl Drop for Question {
    fn drop(&mut self) {
        self.1.abort();
    }
}

/// What came of a question.
enum Found {
    Name(String, Duration),
    Unfit,
    None,
    Failed,
}

impl Names {
    /// Asks the servers that the system's configuration names, on `runtime`.
    pub(crate) fn start(runtime: &Handle) -> Result<Self, NamesError> {
        let system = hickory_resolver::system_conf::read_system_conf();
        let (config, options) = system.map_err(NamesError::Configuration)?;
        Self::start_with(config, options, runtime)
    }

    /// Asks the servers that `config` names, on `runtime`.
    pub(crate) fn start_with(
        config: ResolverConfig,
        mut options: ResolverOpts,
        runtime: &Handle,
    ) -> Result<Self, NamesError> {
        // /etc/hosts has been read, the answers are kept here.
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        options.timeout = options.timeout.min(PATIENCE / 2);
        options.attempts = options.attempts.clamp(1, 2);
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(NamesError::Resolver)?;
        Ok(Self {
            resolver,
            runtime: runtime.clone(),
            waiting: VecDeque::new(),
            asked: Vec::new(),
            known: HashMap::default(),
            count: Asked::default(),
        })
    }

    /// Asks what `address` is called, unless that was asked of late; answers whether an answer is to come
    /// for it. Never waits.
    pub(crate) fn ask(&mut self, address: IpAddr) -> bool {
        let now = Instant::now();
        if self.known.get(&address).is_some_and(|until| now < *until) {
            return false;
        }
        if self.known.len() >= MAX_KNOWN {
            self.known.retain(|_, until| now < *until);
        }
        if self.waiting.len() >= MAX_WAITING || self.known.len() >= MAX_KNOWN {
            self.count.dropped += 1;
            return false;
        }
        // Until its answer comes it is not asked about again.
        self.known.insert(address, now + NONE_FOR);
        self.waiting.push_back(address);
        self.put();
        true
    }

    /// The next answer: a name, or none, for an address that was asked about. Pends for ever while
    /// nothing is asked; may be dropped at any time without losing an answer.
    pub(crate) async fn next(&mut self) -> (IpAddr, Option<String>) {
        let (address, found) = Answer(&mut self.asked).await;
        let (name, good_for) = match found {
            Found::Name(name, good_for) => {
                self.count.named += 1;
                (Some(name), good_for.clamp(GOOD_FOR.0, GOOD_FOR.1))
            }
            Found::Unfit => {
                self.count.unfit += 1;
                (None, NONE_FOR)
            }
            Found::None => {
                self.count.nameless += 1;
                (None, NONE_FOR)
            }
            Found::Failed => {
                self.count.failed += 1;
                (None, NONE_FOR)
            }
        };
        self.known.insert(address, Instant::now() + good_for);
        self.put();
        (address, name)
    }

    /// Whether an answer is still to come.
    pub(crate) fn is_busy(&self) -> bool {
        !self.asked.is_empty()
    }

    /// What came of the questions so far.
    pub(crate) fn count(&self) -> Asked {
        self.count
    }

    /// Puts the questions that wait, as many as may be under way.
    fn put(&mut self) {
        while self.asked.len() < MAX_ASKED
            && let Some(address) = self.waiting.pop_front()
        {
            self.count.questions += 1;
            let resolver = self.resolver.clone();
            let task = self.runtime.spawn(look_up(resolver, address));
            self.asked.push(Question(address, task));
        }
    }
}

/// The names of `addresses`, as many as come within two seconds, from the system's own resolver.
pub(crate) fn of_addresses(addresses: Vec<IpAddr>) -> Result<Vec<(IpAddr, String)>, NamesError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(NamesError::Runtime)?;
    let names = Names::start(runtime.handle())?;
    Ok(all_of(names, &runtime, addresses))
}

fn all_of(mut names: Names, runtime: &Runtime, addresses: Vec<IpAddr>) -> Vec<(IpAddr, String)> {
    let mut found = Vec::new();
    runtime.block_on(async {
        for address in addresses {
            names.ask(address);
        }
        let all = async {
            while names.is_busy() {
                let (address, name) = names.next().await;
                found.extend(name.map(|name| (address, name)));
            }
        };
        // What has not come by then is done without.
        let _ = timeout(PATIENCE, all).await;
    });
    found
}

/// The first of some questions to be answered.
struct Answer<'a>(&'a mut Vec<Question>);

impl Future for Answer<'_> {
    type Output = (IpAddr, Found);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        for at in 0..self.0.len() {
            if let Poll::Ready(found) = Pin::new(&mut self.0[at].1).poll(context) {
                let question = self.0.swap_remove(at);
                return Poll::Ready((question.0, found.unwrap_or(Found::Failed)));
            }
        }
        Poll::Pending
    }
}

async fn look_up(resolver: TokioResolver, address: IpAddr) -> Found {
    let answer = match timeout(PATIENCE, resolver.reverse_lookup(address)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if error.is_no_records_found() => return Found::None,
        Ok(Err(_)) | Err(_) => return Found::Failed,
    };
    let good_for = answer
        .valid_until()
        .saturating_duration_since(Instant::now().into_std());
    let mut found = Found::None;
    for record in answer.answers() {
        if let RData::PTR(name) = &record.data {
            match hostname(&name.0.to_ascii()) {
                Some(name) => return Found::Name(name.to_owned(), good_for),
                None => found = Found::Unfit,
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
