//! Honest machines: what prints, stores, films, and people who read their mail.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::chance::{Chance, DAY, server};
use super::traffic::{Behaviour, Deed, Ending, Plan, Schedule};
use crate::model::{Group, MICROS_PER_SECOND, Timestamp};

const MINUTE: i64 = 60 * MICROS_PER_SECOND;
const HOUR: i64 = 60 * MINUTE;
/// When people work, from midnight.
const WORK: (i64, i64) = (8 * HOUR, 10 * HOUR);
/// How many mails a session of an automatic sender needs is not known; from 1 to 10 s each is assumed.
const SHORTEST: i64 = MICROS_PER_SECOND;
const LONGEST: i64 = 10 * MICROS_PER_SECOND;

/// A server takes it.
pub(super) fn answered(chance: &mut Chance) -> Ending {
    Ending::Answered(SHORTEST + chance.micros(LONGEST - SHORTEST))
}

/// One of the failures: half dropped with 11 SYNs, 30 % with 3, 20 % reset.
pub(super) fn failed(chance: &mut Chance) -> Ending {
    match chance.below(10) {
        0..5 => Ending::Dropped(Schedule::Linux),
        5..8 => Ending::Dropped(Schedule::Windows),
        _ => Ending::Refused,
    }
}

/// The address a host begins with.
pub(super) const FIRST_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 23));

/// Whether nobody works: time begins on a Monday.
fn is_weekend(from: Timestamp) -> bool {
    let days = from.as_seconds().div_euclid(86_400);
    // 1970-01-01 was a Thursday.
    (days + 3).rem_euclid(7) >= 5
}

/// Servers of one provider, each in a group of its own.
fn pool(chance: &mut Chance, size: usize, is_v6: bool) -> Vec<IpAddr> {
    (0..size)
        .map(|_| {
            if is_v6 {
                chance.server_v6()
            } else {
                chance.server()
            }
        })
        .collect()
}

fn service(pool: &[IpAddr]) -> Deed {
    Deed::Service(pool.iter().copied().map(Group::of).collect())
}

/// What befalls a host or its gateway now and then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Accident {
    /// Nothing.
    #[default]
    None,
    /// DHCP gives it another address.
    Dhcp,
    /// It takes another IPv6 address (RFC 8981), and speaks IPv6.
    Privacy,
    /// The gateway's clock is put forward by a year, and back.
    ClockStep,
}

impl Accident {
    /// Plans that it befalls the host at `time`, for the `count`th time.
    pub(super) fn befall(self, time: Timestamp, count: u32, chance: &mut Chance, plan: &mut Plan) {
        let deed = match self {
            Self::None => return,
            Self::Dhcp => {
                let last = u8::try_from(chance.between(24, 250)).unwrap_or(24);
                Deed::Move(Ipv4Addr::new(192, 168, 1, last).into())
            }
            Self::Privacy => Deed::Move(privacy_address(chance).into()),
            Self::ClockStep if count.is_multiple_of(2) => Deed::Step(365 * DAY),
            Self::ClockStep => Deed::Step(-365 * DAY),
        };
        plan.add(time, deed);
    }

    pub(super) fn is_v6(self) -> bool {
        self == Self::Privacy
    }
}

fn privacy_address(chance: &mut Chance) -> Ipv6Addr {
    let interface = u128::from(chance.word()) << 32 | u128::from(chance.word());
    Ipv6Addr::from(0x2001_0db8_0001_u128 << 80 | interface)
}

/// A mail client, or anything that has its own providers.
pub(super) struct Client {
    /// Servers of each provider.
    pub(super) providers: Vec<usize>,
    /// Mails a workday.
    pub(super) daily: usize,
    /// Days between new providers, in the mean, and the servers that each has.
    pub(super) new_provider: Option<(f64, usize)>,
    /// Share of attempts that fail.
    pub(super) failing: f64,
    /// What happens at midnight.
    pub(super) accident: Accident,
    /// The servers of those it has.
    pub(super) pools: Vec<Vec<IpAddr>>,
    /// Days that have begun.
    pub(super) days: u32,
}

impl Client {
    pub(super) fn new(providers: &[usize], daily: usize) -> Self {
        Self {
            providers: providers.to_vec(),
            daily,
            new_provider: None,
            failing: 0.0,
            accident: Accident::None,
            pools: Vec::new(),
            days: 0,
        }
    }

    fn sign_up(&mut self, size: usize, time: Timestamp, chance: &mut Chance, plan: &mut Plan) {
        let pool = pool(chance, size, self.accident.is_v6());
        plan.add(time, service(&pool));
        self.pools.push(pool);
    }
}

impl Behaviour for Client {
    fn plan(&mut self, from: Timestamp, chance: &mut Chance, plan: &mut Plan) -> i64 {
        if self.pools.is_empty() {
            for size in std::mem::take(&mut self.providers) {
                self.sign_up(size, from, chance, plan);
            }
        }
        self.accident.befall(from, self.days, chance, plan);
        self.days += 1;
        if is_weekend(from) {
            return DAY;
        }
        // Of seven days five are workdays.
        if let Some((days, size)) = self.new_provider
            && chance.is(7.0 / 5.0 / days)
        {
            self.sign_up(size, from, chance, plan);
        }
        for _ in 0..self.daily {
            let time = from.plus_micros(WORK.0 + chance.micros(WORK.1));
            let provider = chance.below(self.pools.len());
            let destination = chance.one_of(&self.pools[provider]);
            let ending = if chance.is(self.failing) {
                failed(chance)
            } else {
                answered(chance)
            };
            plan.add(time, Deed::Connect(destination, ending));
        }
        DAY
    }
}

/// A machine that sends by itself, to one smarthost.
pub(super) enum Automat {
    /// A printer whose port 25 is blocked upstream, every 5 min.
    Blocked(Schedule),
    /// Two a day; at most one burst of 50, on the day that is said.
    Nas(Option<u32>),
    /// 20 bursts a day, of 3 to 20, 5 s apart.
    Camera,
    /// 5,000 in an hour, once a week.
    Newsletter,
}

/// An [`Automat`] and its smarthost.
pub(super) struct Sender {
    automat: Automat,
    smarthost: IpAddr,
    days: u32,
}

impl Sender {
    pub(super) fn new(automat: Automat, chance: &mut Chance) -> Self {
        let smarthost = chance.server();
        Self {
            automat,
            smarthost,
            days: 0,
        }
    }

    fn send(&self, time: Timestamp, chance: &mut Chance, plan: &mut Plan) {
        plan.add(time, Deed::Connect(self.smarthost, answered(chance)));
    }
}

impl Behaviour for Sender {
    fn plan(&mut self, from: Timestamp, chance: &mut Chance, plan: &mut Plan) -> i64 {
        self.days += 1;
        match self.automat {
            Automat::Blocked(schedule) => {
                plan.add(
                    from,
                    Deed::Connect(self.smarthost, Ending::Dropped(schedule)),
                );
                return 5 * MINUTE;
            }
            Automat::Nas(burst) => {
                for _ in 0..2 {
                    let time = from.plus_micros(chance.micros(DAY));
                    self.send(time, chance, plan);
                }
                if burst == Some(self.days) {
                    let start = from.plus_micros(chance.micros(DAY));
                    for mail in 0..50 {
                        let time = start.plus_micros(mail * 2 * MICROS_PER_SECOND);
                        self.send(time, chance, plan);
                    }
                }
            }
            Automat::Camera => {
                for _ in 0..20 {
                    let start = from.plus_micros(chance.micros(DAY));
                    for mail in 0..chance.between(3, 20) {
                        let after = i64::try_from(mail).unwrap_or(0) * 5 * MICROS_PER_SECOND;
                        self.send(start.plus_micros(after), chance, plan);
                    }
                }
            }
            Automat::Newsletter => {
                if self.days % 7 == 2 {
                    let start = from.plus_micros(chance.micros(DAY - HOUR));
                    for _ in 0..5_000 {
                        let time = start.plus_micros(chance.micros(HOUR));
                        self.send(time, chance, plan);
                    }
                }
            }
        }
        DAY
    }
}

/// An admin who looks into mail servers by hand: once a week in the mean, 3 to 5 that are new, each tried
/// once to three times, half a minute apart.
pub(super) struct Admin;

impl Behaviour for Admin {
    fn plan(&mut self, from: Timestamp, chance: &mut Chance, plan: &mut Plan) -> i64 {
        let start = from.plus_micros(chance.gap(1.0 / 7.0));
        let mut time = start;
        for _ in 0..chance.between(3, 5) {
            let destination = chance.server();
            plan.add(time, Deed::Lookup);
            for _ in 0..chance.between(1, 3) {
                plan.add(time, Deed::Connect(destination, answered(chance)));
                time = time.plus_micros(MINUTE / 2);
            }
        }
        start.micros_since(from)
    }
}

/// A program that asks 20 mail servers every 5 min whether they are there.
pub(super) struct Probe(Vec<IpAddr>);

impl Probe {
    pub(super) fn new(chance: &mut Chance) -> Self {
        Self(pool(chance, 20, false))
    }
}

impl Behaviour for Probe {
    fn plan(&mut self, from: Timestamp, chance: &mut Chance, plan: &mut Plan) -> i64 {
        for &target in &self.0 {
            plan.add(from, Deed::Connect(target, answered(chance)));
        }
        5 * MINUTE
    }
}

/// A mail server: 200 a day to MX whose popularity falls as Pareto(0.6); 7 % fail, 8 % are greylisted and
/// tried again after 600 s.
pub(super) struct MailServer {
    salt: u32,
}

impl MailServer {
    pub(super) fn new(chance: &mut Chance) -> Self {
        Self {
            salt: chance.word(),
        }
    }
}

impl Behaviour for MailServer {
    fn plan(&mut self, from: Timestamp, chance: &mut Chance, plan: &mut Plan) -> i64 {
        let destination = server(self.salt.wrapping_add(chance.rank(0.6)));
        let ending = if chance.is(0.07) {
            failed(chance)
        } else {
            answered(chance)
        };
        plan.add(from, Deed::Lookup);
        plan.add(from, Deed::Connect(destination, ending));
        if chance.is(0.08) {
            let again = from.plus_micros(600 * MICROS_PER_SECOND);
            plan.add(again, Deed::Connect(destination, answered(chance)));
        }
        chance.gap(200.0)
    }
}
