//! One sentence that says why, the same wherever a verdict is shown.

use std::fmt::Write as _;
use std::time::Duration;

use super::Device;
use crate::model::{Detector, Finding};

/// What a device is called in a sentence: its last address, and what else names it.
pub fn called(device: &Device) -> String {
    let known = [
        device.mac().map(|mac| mac.to_string()),
        device.hostname.clone(),
    ];
    let known: Vec<String> = known.into_iter().flatten().collect();
    let address = match device.addresses.last() {
        Some(address) => address.to_string(),
        None => device.key.to_string(),
    };
    if known.is_empty() {
        address
    } else {
        format!("{address} ({})", known.join(", "))
    }
}

/// Why `device` has its verdict, in one sentence.
pub fn because(device: &Device) -> String {
    let name = called(device);
    let mut sentence = match deciding(device) {
        Some(finding) => alarm(finding, &name),
        None => format!("{name} stayed below every limit"),
    };
    let destinations = device.destinations();
    let _ = write!(
        sentence,
        "; {} to {}{} in all",
        count(device.attempts, "attempt"),
        if destinations.is_lower_bound {
            "at least "
        } else {
            ""
        },
        count(destinations.addresses as u64, "server"),
    );
    if device.syns > device.attempts {
        let _ = write!(sentence, " ({})", count(device.syns, "SYN"));
    }
    if device.peak_per_minute > 1 {
        let _ = write!(
            sentence,
            ", up to {} a minute",
            grouped(device.peak_per_minute)
        );
    }
    if device.is_shared() {
        sentence += "; several machines stand behind it (a NAT or an access point)";
    }
    sentence
}

/// The first finding of those that weigh most.
fn deciding(device: &Device) -> Option<&Finding> {
    let find = |detector| device.findings.iter().find(|f| f.detector == detector);
    find(Detector::Burst).or_else(|| find(Detector::Volume))
}

fn alarm(finding: &Finding, name: &str) -> String {
    let took = spoken(finding.took);
    let within = spoken(finding.within);
    match finding.detector {
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
