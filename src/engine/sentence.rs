//! One sentence that says why, the same wherever a verdict is shown.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::time::Duration;

use super::{Device, Facts, Role};
use crate::model::{Detector, Finding, Mac, Outcome};

/// The port that is watched unless others are named.
pub const SMTP: u16 = 25;

/// What a device is called in a sentence: its last address, and what else names it.
pub fn called(device: &Device) -> String {
    name(
        device.mac(),
        [device.hostname.as_deref(), device.vendor()],
        device.addresses.last(),
        &device.key,
    )
}

/// Why `device` has its verdict, in one sentence.
pub fn because(device: &Device) -> String {
    device.facts(0).because()
}

/// Why `finding` was told of `device`, in one sentence.
pub fn because_of(device: &Device, finding: &Finding) -> String {
    let mut facts = device.facts(0);
    facts.findings = vec![*finding];
    facts.because()
}

fn name(
    mac: Option<Mac>,
    also: [Option<&str>; 2],
    address: Option<&IpAddr>,
    id: &dyn fmt::Display,
) -> String {
    let also = also.into_iter().flatten().map(str::to_owned);
    let known: Vec<String> = mac
        .map(|mac| mac.to_string())
        .into_iter()
        .chain(also)
        .collect();
    let address = match address {
        Some(address) => address.to_string(),
        None => id.to_string(),
    };
    if known.is_empty() {
        address
    } else {
        format!("{address} ({})", known.join(", "))
    }
}

impl Facts {
    /// Why the device has its verdict, in one sentence.
    pub fn because(&self) -> String {
        let name = name(
            self.mac,
            [self.hostname.as_deref(), self.vendor.as_deref()],
            self.addresses.last(),
            &self.id,
        );
        let deciding = deciding(&self.findings).filter(|_| !self.is_allowed);
        let mut sentence = match deciding {
            _ if self.is_allowed => format!("{name} is allowed to send"),
            Some(finding) => alarm(finding, &name),
            None => format!("{name} stayed below every limit"),
        };
        let _ = write!(
            sentence,
            "; {} to {}{} in all",
            count(self.attempts, "attempt"),
            if self.destinations.is_lower_bound {
                "at least "
            } else {
                ""
            },
            count(self.destinations.addresses as u64, "server"),
        );
        if self.syns > self.attempts {
            let _ = write!(sentence, " ({})", count(self.syns, "SYN"));
        }
        if self.peak_per_minute > 1 {
            let _ = write!(
                sentence,
                ", up to {} a minute",
                grouped(self.peak_per_minute)
            );
        }
        sentence += &self.by_port();
        sentence += &self.ends();
        if let Some(role) = &self.role {
            let _ = write!(sentence, "; {role}: looks like a mail server");
        }
        // `novelty` has told of those that count for it.
        let are_told = deciding.is_some_and(|finding| finding.mail_lookups > 0);
        if self.mail_lookups > 0 && !are_told {
            let _ = write!(
                sentence,
                "; asked {} for mail servers",
                count(self.mail_lookups, "time")
            );
        }
        if let Some(finding) = deciding
            && finding.detector == Detector::Novelty
        {
            let _ = write!(
                sentence,
                "; score {:.1} >= {:.1}",
                finding.score, finding.threshold
            );
        }
        if self.is_shared {
            sentence += "; several machines stand behind it (a NAT or an access point)";
        }
        sentence
    }
}

impl Facts {
    /// Its attempts by port, where there is one beside 25: "; 28 to port 25, 72 to port 587".
    fn by_port(&self) -> String {
        if self.ports.iter().all(|(port, _)| *port == SMTP) {
            return String::new();
        }
        let told: Vec<String> = self
            .ports
            .iter()
            .map(|(port, attempts)| format!("{} to port {port}", grouped(*attempts)))
            .collect();
        format!("; {}", told.join(", "))
    }

    /// How its attempts ended, as far as is known: "; 8 answered, 2 refused".
    fn ends(&self) -> String {
        let told: Vec<String> = Outcome::ALL[1..]
            .iter()
            .rev()
            .map(|&outcome| (outcome, self.outcomes.get(outcome)))
            .filter(|(_, count)| *count > 0)
            .map(|(outcome, count)| format!("{} {outcome}", grouped(count)))
            .collect();
        if told.is_empty() {
            return String::new();
        }
        format!("; {}", told.join(", "))
    }
}

/// The first finding of those that weigh most.
fn deciding(findings: &[Finding]) -> Option<&Finding> {
    let find = |detector| findings.iter().find(|f| f.detector == detector);
    Detector::ALL.into_iter().find_map(find)
}

fn alarm(finding: &Finding, name: &str) -> String {
    let took = spoken(finding.took);
    let within = spoken(finding.within);
    match finding.detector {
        Detector::Novelty => novelty(finding, name, &took),
        Detector::Policy => {
            format!("{name} sent mail by itself, and is not one of the mail servers")
        }
        Detector::Burst => format!(
            "{name} contacted mail servers in {} networks it never used before in {took} (limit: {} in {within})",
            finding.score, finding.threshold,
        ),
        Detector::Volume => format!(
            "{name} made {} attempts in {took} (limit: {} in {within})",
            finding.score, finding.threshold,
        ),
    }
}

fn novelty(finding: &Finding, name: &str, took: &str) -> String {
    let normal = finding.normal_per_day.unwrap_or_default();
    let lookups = match finding.mail_lookups {
        0 => String::new(),
        lookups => format!(
            ", and asked {} for mail servers",
            count(lookups.into(), "time")
        ),
    };
    format!(
        "{name} contacted {} it never used before in {took}{lookups} (limit: about {normal} new a day)",
        count(finding.new_groups.into(), "mail server"),
    )
}

/// "receives mail from 5 networks on 3 days".
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at_least = if self.networks < Self::MANY_NETWORKS {
            ""
        } else {
            "at least "
        };
        write!(
            f,
            "receives mail from {at_least}{} networks on {} days",
            self.networks, self.days
        )
    }
}

fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number))
}

/// A number with its thousands apart: 12,345.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration as people say it: its two largest units.
pub fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let largest = units.iter().position(|(unit, _)| seconds >= *unit);
    let Some(largest) = largest else {
        return "less than 1 s".to_owned();
    };
    let (unit, name) = units[largest];
    let mut text = format!("{} {name}", seconds / unit);
    if let Some((next, name)) = units.get(largest + 1) {
        let rest = seconds % unit / next;
        if rest > 0 {
            let _ = write!(text, " {rest} {name}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_say_them() {
        for (seconds, text) in [
            (0, "less than 1 s"),
            (45, "45 s"),
            (3600, "1 h"),
            (3661, "1 h 1 min"),
            (90_000, "1 d 1 h"),
            (61, "1 min 1 s"),
        ] {
            assert_eq!(spoken(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn thousands_apart() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1234), "1,234");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
