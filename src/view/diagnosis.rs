//! What `doctor` found, `smtpwatch.doctor.v1`, and the same for people: a line a check.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::escape::terminal;
use crate::model::Timestamp;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// As it should be.
    Ok,
    /// It works, with something to know or to mend.
    Warn,
    /// It does not work so.
    Fail,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }

    fn style(self) -> Style {
        let color = match self {
            Self::Ok => AnsiColor::Green,
            Self::Warn => AnsiColor::Yellow,
            Self::Fail => AnsiColor::Red,
        };
        color.on_default().bold()
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Check {
    /// Its name, which stays: `gateway.forwarding`.
    pub(crate) id: &'static str,
    /// How it came out.
    pub(crate) status: Status,
    /// What was found; may hold hostile names.
    pub(crate) found: String,
    /// What to do, in one line; empty where there is nothing to do.
    pub(crate) advice: String,
    /// How long a step of the self-test took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) millis: Option<f64>,
}

impl Check {
    /// One that is as it should be.
    pub(crate) fn ok(id: &'static str, found: impl Into<String>) -> Self {
        Self::new(id, Status::Ok, found, "")
    }

    /// One with something to know or to mend.
    pub(crate) fn warn(
        id: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(id, Status::Warn, found, advice)
    }

    /// One that keeps the work from being done.
    pub(crate) fn fail(
        id: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(id, Status::Fail, found, advice)
    }

    fn new(
        id: &'static str,
        status: Status,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            id,
            status,
            found: found.into(),
            advice: advice.into(),
            millis: None,
        }
    }
}

/// All checks.
#[derive(Debug, Serialize)]
pub(crate) struct Diagnosis {
    schema: &'static str,
    generated_at: String,
    checks: Vec<Check>,
    /// The worst of them.
    status: Status,
}

impl Diagnosis {
    /// Of `checks`, made at `now`.
    pub(crate) fn new(checks: Vec<Check>, now: Timestamp) -> Self {
        let worst = checks.iter().map(|check| check.status).max();
        Self {
            schema: "smtpwatch.doctor.v1",
            generated_at: now.to_string(),
            status: worst.unwrap_or(Status::Ok),
            checks,
        }
    }

    /// The worst of the checks.
    pub(crate) fn status(&self) -> Status {
        self.status
    }

    /// Prints it as JSON.
    pub(crate) fn json(&self, to: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *to, self)?;
        writeln!(to)
    }

    /// Prints it for people; `is_brief` leaves out what is as it should be.
    pub(crate) fn table(&self, is_brief: bool, to: &mut dyn Write) -> io::Result<()> {
        let width = self.checks.iter().map(|check| check.id.len()).max();
        for check in &self.checks {
            if is_brief && check.status == Status::Ok {
                continue;
            }
            write_check(check, width.unwrap_or(0), to)?;
        }
        let count = |status| self.checks.iter().filter(|it| it.status == status).count();
        if is_brief {
            return Ok(());
        }
        writeln!(
            to,
            "{} OK, {} WARN, {} FAIL",
            count(Status::Ok),
            count(Status::Warn),
            count(Status::Fail)
        )
    }
}

fn write_check(check: &Check, width: usize, to: &mut dyn Write) -> io::Result<()> {
    let style = check.status.style();
    write!(
        to,
        "{style}{:<4}{style:#}  {:<width$}  {}",
        check.status.word(),
        check.id,
        terminal(&check.found)
    )?;
    match check.millis {
        Some(millis) => writeln!(to, " ({millis:.1} ms)")?,
        None => writeln!(to)?,
    }
    if !check.advice.is_empty() {
        writeln!(to, "{:width$}      > {}", "", terminal(&check.advice))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnosis() -> Diagnosis {
        let mut timed = Check::ok("a.b", "fine");
        timed.millis = Some(1.25);
        let checks = vec![
            timed,
            Check::warn("c", "so \u{1b}[2Jlala", "do this"),
            Check::fail("d", "no", "do that"),
        ];
        Diagnosis::new(checks, Timestamp::from_seconds(0))
    }

    fn plain(is_brief: bool) -> String {
        let mut to = anstream::StripStream::new(Vec::new());
        diagnosis().table(is_brief, &mut to).unwrap();
        String::from_utf8(to.into_inner()).unwrap()
    }

    #[test]
    fn a_line_a_check_and_what_to_do_below() {
        let text = plain(false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "OK    a.b  fine (1.2 ms)");
        assert!(lines[1].starts_with("WARN  c    so "), "{text}");
        assert_eq!(lines[2].trim(), "> do this");
        assert_eq!(lines[3], "FAIL  d    no");
        assert_eq!(lines[5], "1 OK, 1 WARN, 1 FAIL");
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert!(!plain(true).contains("OK"), "{}", plain(true));
    }

    #[test]
    fn the_schema_is_as_it_is_told() {
        let mut json = Vec::new();
        diagnosis().json(&mut json).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["schema"], "smtpwatch.doctor.v1");
        assert_eq!(json["generated_at"], "1970-01-01T00:00:00Z");
        assert_eq!(json["status"], "fail");
        assert_eq!(json["checks"][0]["status"], "ok");
        assert_eq!(json["checks"][1]["advice"], "do this");
        assert!(json["checks"][1].get("millis").is_none());
    }

    #[test]
    fn the_worst_check_decides() {
        let of = |checks| Diagnosis::new(checks, Timestamp::default()).status();
        assert_eq!(of(vec![]), Status::Ok);
        assert_eq!(of(vec![Check::ok("a", "")]), Status::Ok);
        assert_eq!(
            of(vec![Check::warn("a", "", ""), Check::ok("a", "")]),
            Status::Warn
        );
    }
}
