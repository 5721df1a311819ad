//! The profiles by name.

use super::benign::{Accident, Admin, Automat, Client, MailServer, Probe, Sender};
use super::chance::Chance;
use super::malicious::{Bot, Luck};
use super::traffic::{Behaviour, Schedule};

/// A kind of machine.
pub(crate) struct Profile {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What it does, in a few words.
    pub(crate) what: &'static str,
    /// Whether it is to be found, or to be left alone.
    pub(crate) is_malicious: bool,
    /// Whether the settings allow it.
    pub(crate) is_allowed: bool,
    behaviour: fn(&mut Chance) -> Box<dyn Behaviour>,
}

impl Profile {
    /// The profile of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        PROFILES.iter().find(|profile| profile.name == name)
    }

    /// A host of that kind.
    pub(super) fn behaviour(&self, chance: &mut Chance) -> Box<dyn Behaviour> {
        (self.behaviour)(chance)
    }
}

const fn benign(
    name: &'static str,
    what: &'static str,
    behaviour: fn(&mut Chance) -> Box<dyn Behaviour>,
) -> Profile {
    Profile {
        name,
        what,
        is_malicious: false,
        is_allowed: false,
        behaviour,
    }
}

const fn allowed(
    name: &'static str,
    what: &'static str,
    behaviour: fn(&mut Chance) -> Box<dyn Behaviour>,
) -> Profile {
    Profile {
        is_allowed: true,
        ..benign(name, what, behaviour)
    }
}

const fn malicious(
    name: &'static str,
    what: &'static str,
    behaviour: fn(&mut Chance) -> Box<dyn Behaviour>,
) -> Profile {
    Profile {
        is_malicious: true,
        ..benign(name, what, behaviour)
    }
}

fn byod(accident: Accident) -> Box<dyn Behaviour> {
    Box::new(Client {
        accident,
        ..Client::new(&[4], 30)
    })
}

fn storm(accident: Accident) -> Box<dyn Behaviour> {
    Box::new(Bot {
        accident,
        ..Bot::per_minute(20.0)
    })
}

/// All of them, the honest first. The rates of the botnets by name are John et al., "Studying Spamming
/// Botnets Using Botlab" (NSDI 2009).
pub(crate) static PROFILES: [Profile; 38] = [
    benign("printer", "one smarthost, 12 a workday", |_| {
        Box::new(Client::new(&[1], 12))
    }),
    benign(
        "printer-blocked",
        "port 25 blocked upstream, every 5 min, 11 SYNs each",
        |chance| Box::new(Sender::new(Automat::Blocked(Schedule::Linux), chance)),
    ),
    benign(
        "printer-blocked-3",
        "the same with Windows' 3 SYNs",
        |chance| Box::new(Sender::new(Automat::Blocked(Schedule::Windows), chance)),
    ),
    benign(
        "nas",
        "2 a day, one in five has one burst of 50",
        |chance| {
            let day = chance.between(1, 28);
            let burst = chance.is(0.2).then(|| u32::try_from(day).unwrap_or(1));
            Box::new(Sender::new(Automat::Nas(burst), chance))
        },
    ),
    benign(
        "camera",
        "20 bursts a day of 3 to 20, 5 s apart",
        |chance| Box::new(Sender::new(Automat::Camera, chance)),
    ),
    benign("byod", "one provider over four /24, 30 a workday", |_| {
        byod(Accident::None)
    }),
    benign("byod-dhcp", "the same, another address each day", |_| {
        byod(Accident::Dhcp)
    }),
    benign(
        "byod-ipv6",
        "the same over IPv6, another privacy address each day",
        |_| byod(Accident::Privacy),
    ),
    benign(
        "byod-clock",
        "the same, and each day the gateway's clock jumps by a year",
        |_| byod(Accident::ClockStep),
    ),
    benign(
        "byod-3",
        "three accounts (4, 3, 2 /24), a new provider in 30 days, 30 a workday",
        |_| {
            Box::new(Client {
                new_provider: Some((30.0, 3)),
                ..Client::new(&[4, 3, 2], 30)
            })
        },
    ),
    benign(
        "hosted",
        "hosted mail, eight /24 under one name, 40 a workday",
        |_| Box::new(Client::new(&[8], 40)),
    ),
    benign("admin", "weekly 3 to 5 fresh MX, 1 to 3 tries each", |_| {
        Box::new(Admin)
    }),
    benign(
        "newsletter",
        "5000 in an hour weekly to one smarthost",
        |chance| Box::new(Sender::new(Automat::Newsletter, chance)),
    ),
    benign(
        "roaming",
        "a new provider in 10 days, 10 a workday, 30 % fail",
        |_| {
            Box::new(Client {
                new_provider: Some((10.0, 1)),
                failing: 0.3,
                ..Client::new(&[1], 10)
            })
        },
    ),
    benign("probe", "20 targets every 5 min, unlisted", |chance| {
        Box::new(Probe::new(chance))
    }),
    allowed("probe-allowed", "the same, allowlisted", |chance| {
        Box::new(Probe::new(chance))
    }),
    benign(
        "mail-server",
        "200 a day to Pareto(0.6) MX, 7 % fail, 8 % greylisted, unlisted",
        |chance| Box::new(MailServer::new(chance)),
    ),
    allowed("mail-server-allowed", "the same, allowlisted", |chance| {
        Box::new(MailServer::new(chance))
    }),
    malicious("srizbi", "1848 a minute", |_| {
        Box::new(Bot::per_minute(1_848.0))
    }),
    malicious("megad", "1638 a minute", |_| {
        Box::new(Bot::per_minute(1_638.0))
    }),
    malicious("xarvester", "417 a minute", |_| {
        Box::new(Bot::per_minute(417.0))
    }),
    malicious("grum", "344 a minute", |_| Box::new(Bot::per_minute(344.0))),
    malicious("pushdo", "289 a minute", |_| {
        Box::new(Bot::per_minute(289.0))
    }),
    malicious("rustock", "33 a minute", |_| {
        Box::new(Bot::per_minute(33.0))
    }),
    malicious("storm", "20 a minute", |_| storm(Accident::None)),
    malicious(
        "storm-dhcp",
        "the same, another address every 10 min",
        |_| storm(Accident::Dhcp),
    ),
    malicious(
        "storm-ipv6",
        "the same over IPv6, another privacy address every 10 min",
        |_| storm(Accident::Privacy),
    ),
    malicious(
        "storm-clock",
        "the same, and every 10 min the gateway's clock jumps by a year",
        |_| storm(Accident::ClockStep),
    ),
    malicious("emotet", "5.2 a minute, none fails", |_| {
        Box::new(Bot {
            luck: Luck::Failing(0.0),
            ..Bot::per_minute(100.0 / 1_158.0 * 60.0)
        })
    }),
    malicious("neris", "40 an hour, 70 % fail", |_| {
        Box::new(Bot {
            luck: Luck::Failing(0.7),
            ..Bot::per_hour(40.0)
        })
    }),
    malicious("blocked", "60 an hour, all time out upstream", |_| {
        Box::new(Bot {
            luck: Luck::BlockedUpstream,
            ..Bot::per_hour(60.0)
        })
    }),
    malicious("low", "6 an hour", |_| Box::new(Bot::per_hour(6.0))),
    malicious("snail", "1 an hour", |_| Box::new(Bot::per_hour(1.0))),
    malicious("drip", "6 a day", |_| Box::new(Bot::new(6.0))),
    malicious("drip-new", "6 a day, each to a new destination", |_| {
        Box::new(Bot {
            new: 1.0,
            ..Bot::new(6.0)
        })
    }),
    malicious(
        "evader",
        "2 fresh MX an hour, 5 connections to each",
        |_| {
            Box::new(Bot {
                new: 1.0,
                connections: 5,
                ..Bot::per_hour(2.0)
            })
        },
    ),
    malicious("evader-86", "the same, of its MX .86 fresh", |_| {
        Box::new(Bot {
            connections: 5,
            ..Bot::per_hour(2.0)
        })
    }),
    malicious("relay", "60 a minute through one relay", |_| {
        Box::new(Bot {
            new: 0.0,
            ..Bot::per_minute(60.0)
        })
    }),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        for profile in &PROFILES {
            assert_eq!(
                Profile::named(profile.name).map(|it| it.what),
                Some(profile.what)
            );
        }
        assert!(Profile::named("nobody").is_none());
    }
}
