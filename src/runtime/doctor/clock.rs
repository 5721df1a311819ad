//! Whether the clock can be believed: leases, logs and abuse mails are compared by it.

use std::path::Path;

use jiff::tz::TimeZone;

use crate::model::Timestamp;
use crate::sys::clock::{Discipline, discipline};
use crate::view::Check;

/// The first moment of 2024: no build of this program is older.
const PAST: i64 = 1_704_067_200;

/// What is known of it.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    now: Timestamp,
    /// What the kernel says; none where it does not answer (a sandbox).
    discipline: Option<Discipline>,
    has_rtc: bool,
    /// The zone's name, where it has one.
    zone: Option<String>,
}

impl Facts {
    pub(super) fn gather(now: Timestamp) -> Self {
        Self {
            now,
            discipline: discipline().ok(),
            has_rtc: Path::new("/sys/class/rtc/rtc0").exists(),
            zone: TimeZone::system().iana_name().map(str::to_owned),
        }
    }

    pub(super) fn judge(&self) -> Vec<Check> {
        vec![self.time(), self.synchronised(), self.zone()]
    }

    fn time(&self) -> Check {
        const ID: &str = "clock.time";
        let now = self.now;
        if now.as_seconds() < PAST {
            return Check::fail(
                ID,
                format!(
                    "the clock says {now}, which is past: leases and logs cannot be compared with it"
                ),
                "set it: timedatectl set-ntp true, or date -s",
            );
        }
        Check::ok(ID, format!("it is {now}"))
    }

    fn synchronised(&self) -> Check {
        const ID: &str = "clock.synchronised";
        match self.discipline {
            Some(Discipline {
                is_synchronised: true,
                max_error,
            }) => Check::ok(
                ID,
                format!(
                    "kept by a time service, at most {} ms off",
                    max_error / 1000
                ),
            ),
            Some(_) => Check::warn(
                ID,
                format!(
                    "no time service keeps the clock{}",
                    if self.has_rtc {
                        ""
                    } else {
                        ", and without an RTC it is wrong after each boot"
                    }
                ),
                "timedatectl set-ntp true; or apt install chrony",
            ),
            None => Check::warn(
                ID,
                "whether a time service keeps the clock cannot be asked here",
                "look with: timedatectl",
            ),
        }
    }

    fn zone(&self) -> Check {
        const ID: &str = "clock.zone";
        match &self.zone {
            Some(zone) => Check::ok(ID, format!("the zone is {zone}")),
            None => Check::warn(
                ID,
                "the zone has no name: stamps of text logs may be read an hour off",
                "timedatectl set-timezone ZONE; or smtpwatch report --timezone ZONE",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::status;
    use super::*;
    use crate::view::CheckStatus::{Fail, Ok, Warn};

    fn of(id: &str, change: impl FnOnce(&mut Facts)) -> crate::view::CheckStatus {
        let mut facts = Facts {
            now: Timestamp::from_seconds(1_800_000_000),
            discipline: Some(Discipline {
                is_synchronised: true,
                max_error: 5000,
            }),
            has_rtc: true,
            zone: Some("UTC".to_owned()),
        };
        change(&mut facts);
        status(&facts.judge(), id)
    }

    #[test]
    fn a_clock_in_each_state() {
        assert_eq!(of("clock.time", |_| {}), Ok);
        assert_eq!(
            of("clock.time", |it| it.now = Timestamp::from_seconds(86_400)),
            Fail
        );
        let id = "clock.synchronised";
        assert_eq!(of(id, |_| {}), Ok);
        assert_eq!(of(id, |it| it.discipline = None), Warn);
        let free = |it: &mut Facts| {
            it.discipline = Some(Discipline {
                is_synchronised: false,
                max_error: 0,
            });
            it.has_rtc = false;
        };
        assert_eq!(of(id, free), Warn);
        assert_eq!(of("clock.zone", |_| {}), Ok);
        assert_eq!(of("clock.zone", |it| it.zone = None), Warn);
    }
}
