//! What `novelty` promises with its parameters: how soon it speaks of a bot, and how seldom of an honest
//! device. Computed from the parameters, so that it holds for whatever somebody sets.

use std::fmt::Write as _;

use super::detection::{Novelty, Pacing};

const HOURS_PER_DAY: f64 = 24.0;
/// Rates whose delay is told: one an hour, and one in four hours.
const TOLD_RATES: [f64; 2] = [24.0, 6.0];

impl Pacing {
    /// New groups in a burst from nothing up to the alarm, those that are free among them.
    pub fn groups_of_burst(&self) -> f64 {
        f64::from(self.free) + (self.threshold() / self.gain()).ceil()
    }

    /// The rate of new groups a day above which every bot is found in the end.
    pub fn least_rate(&self) -> f64 {
        self.drift_per_day() / self.gain()
    }

    /// Days up to the alarm at `rate` new groups a day, in the mean; none where it is too low.
    pub fn days_at(&self, rate: f64) -> Option<f64> {
        let rise = rate * self.gain() - self.drift_per_day();
        (rise > 0.0).then(|| self.threshold() / rise + f64::from(self.free) / rate)
    }
}

impl Novelty {
    /// New groups in a burst from nothing up to the alarm.
    pub fn groups_of_burst(&self) -> f64 {
        self.fast.groups_of_burst().min(self.slow.groups_of_burst())
    }

    /// The same where a question for mail servers comes before each.
    pub fn groups_of_burst_with_lookups(&self) -> f64 {
        let pair = self.fast.gain() + self.lookups.gain();
        let groups = (self.lookups.threshold(&self.fast) / pair).ceil();
        groups.min(self.groups_of_burst())
    }

    /// Days up to the alarm at `rate` new groups a day, in the mean; none where it is too low.
    pub fn days_at(&self, rate: f64) -> Option<f64> {
        let days = [&self.fast, &self.slow]
            .into_iter()
            .filter_map(|pacing| pacing.days_at(rate));
        days.reduce(f64::min)
    }

    /// Years up to a false alarm of an honest device at its limit: a lower bound of the mean. The alarms of
    /// all clocks are at most the sum of each one's.
    pub fn false_alarm_years(&self) -> f64 {
        let clocks = [
            self.fast.false_alarm_years,
            self.slow.false_alarm_years,
            self.lookups.false_alarm_years,
        ];
        1.0 / clocks.map(f64::recip).iter().sum::<f64>()
    }

    /// All of it in a sentence.
    pub fn promise(&self) -> String {
        let burst = self.groups_of_burst();
        let asked = self.groups_of_burst_with_lookups();
        let mut text = format!(
            "A burst is told at the device's {} new mail server",
            ordinal(burst)
        );
        if asked < burst {
            let _ = write!(
                text,
                " (at the {} where it is heard to ask the DNS for each)",
                ordinal(asked)
            );
        }
        let told = TOLD_RATES
            .into_iter()
            .filter_map(|rate| Some((rate, self.days_at(rate)?)));
        for (rate, days) in told {
            let _ = write!(text, ", {rate} new ones a day after about {}", span(days));
        }
        let _ = write!(
            text,
            ", and whatever contacts more than {:.1} a day sooner or later; an honest device that contacts {} a day \
             for ever is taken for a bot once in {:.0} years or more, in the mean.",
            self.fast.least_rate().min(self.slow.least_rate()),
            self.fast.normal.min(self.slow.normal),
            self.false_alarm_years(),
        );
        text
    }
}

fn ordinal(number: f64) -> String {
    let text = format!("{number:.0}");
    let ending = match (
        text.ends_with("11"),
        text.ends_with("12"),
        text.ends_with("13"),
        text.chars().last(),
    ) {
        (false, _, _, Some('1')) => "st",
        (_, false, _, Some('2')) => "nd",
        (_, _, false, Some('3')) => "rd",
        _ => "th",
    };
    text + ending
}

fn span(days: f64) -> String {
    if days < 2.0 {
        format!("{:.0} h", days * HOURS_PER_DAY)
    } else {
        format!("{days:.1} days")
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::Preset;

    /// What the specification's formulas give for its own parameters.
    #[test]
    fn the_default_promises_what_is_specified() {
        let novelty = Preset::Balanced.novelty();
        assert_eq!(novelty.fast.groups_of_burst().to_string(), "8");
        assert_eq!(novelty.slow.groups_of_burst().to_string(), "15");
        assert!((novelty.fast.least_rate() - 14.5).abs() < 0.05);
        assert!((novelty.slow.least_rate() - 3.4).abs() < 0.05);
        assert_eq!(novelty.days_at(3.0), None);
    }

    #[test]
    fn each_preset_says_what_follows_from_it() {
        let [cautious, balanced, strict] = Preset::ALL.map(|preset| preset.novelty().promise());
        assert_eq!(
            balanced,
            "A burst is told at the device's 8th new mail server (at the 6th where it is heard to ask the DNS for \
             each), 24 new ones a day after about 16 h, 6 new ones a day after about 4.7 days, and whatever contacts \
             more than 3.4 a day sooner or later; an honest device that contacts 1 a day for ever is taken for a bot \
             once in 176 years or more, in the mean."
        );
        assert!(cautious.contains("device's 14th") && strict.contains("device's 6th"));
        assert!(cautious.contains("in 9804 years") && strict.contains("in 19 years"));
    }

    #[test]
    fn ordinals() {
        let all = [1.0, 2.0, 3.0, 4.0, 11.0, 12.0, 13.0, 21.0].map(super::ordinal);
        assert_eq!(all.join(" "), "1st 2nd 3rd 4th 11th 12th 13th 21st");
    }
}
