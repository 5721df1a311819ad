//! Values of the configuration: read from TOML with what is allowed in words, and written back.

use std::fmt::Display;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use ipnet::IpNet;
use toml::de::{DeInteger, DeValue};
use toml::{Spanned, Value};

use super::flags::watch::Source;
use super::parse::{self, Zone};
use super::rules::At;
use super::{Named, Ports, Router};

/// A value that is none of those allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Where it begins, in bytes of the text.
    pub(super) at: usize,
    /// What is wrong, and what is allowed.
    pub(super) what: String,
}

/// What was read, or all that is wrong with it.
pub(super) type Read<T> = Result<T, Vec<Wrong>>;

/// A value as it stands in a file.
pub(super) type Given<'a> = Spanned<DeValue<'a>>;

fn wrong<T>(given: &Given<'_>, what: impl Into<String>) -> Read<T> {
    Err(vec![Wrong {
        at: given.span().start,
        what: what.into(),
    }])
}

fn other_type<T>(given: &Given<'_>, wanted: &str) -> Read<T> {
    let found = given.get_ref().type_str();
    let article = if found.starts_with(['a', 'i']) {
        "an"
    } else {
        "a"
    };
    wrong(given, format!("is {article} {found}; give {wanted}"))
}

fn text<T>(
    given: &Given<'_>,
    wanted: &str,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Read<T> {
    match given.get_ref() {
        DeValue::String(text) => {
            read(text).or_else(|what| wrong(given, format!("{}: {what}", shortened(text))))
        }
        _ => other_type(given, wanted),
    }
}

/// As much of a text as an error needs.
pub(super) fn shortened(text: &str) -> String {
    const MAX: usize = 60;
    if text.chars().count() <= MAX {
        return format!("{text:?}");
    }
    let kept: String = text.chars().take(MAX).collect();
    format!("{kept:?}...")
}

fn parsed<T>(given: &Given<'_>, wanted: &str) -> Read<T>
where
    T: FromStr<Err: Display>,
{
    text(given, wanted, |text| {
        text.parse().map_err(|error: T::Err| error.to_string())
    })
}

/// A list, or one element without the brackets.
fn list<T>(given: &Given<'_>, each: impl Fn(&Given<'_>) -> Read<T>) -> Read<Vec<T>> {
    let DeValue::Array(elements) = given.get_ref() else {
        return Ok(vec![each(given)?]);
    };
    let mut values = Vec::new();
    let mut all_wrong = Vec::new();
    for element in elements {
        match each(element) {
            Ok(value) => values.push(value),
            Err(wrong) => all_wrong.extend(wrong),
        }
    }
    if all_wrong.is_empty() {
        Ok(values)
    } else {
        Err(all_wrong)
    }
}

fn not_empty<T>(given: &Given<'_>, values: Vec<T>, wanted: &str) -> Read<Vec<T>> {
    if values.is_empty() {
        return wrong(given, format!("is empty; give {wanted}"));
    }
    Ok(values)
}

pub(super) fn boolean(given: &Given<'_>) -> Read<bool> {
    match given.get_ref() {
        DeValue::Boolean(value) => Ok(*value),
        _ => other_type(given, "true or false"),
    }
}

/// A whole number from `least` to `most`.
pub(super) fn number<T>(given: &Given<'_>, least: T, most: T) -> Read<T>
where
    T: TryFrom<i64> + PartialOrd + Display + Copy,
{
    let wanted = format!("a whole number from {least} to {most}");
    let DeValue::Integer(number) = given.get_ref() else {
        return other_type(given, &wanted);
    };
    match integer(number).and_then(|number| T::try_from(number).ok()) {
        Some(value) if value >= least && value <= most => Ok(value),
        _ => wrong(given, format!("is {}; give {wanted}", number.as_str())),
    }
}

fn integer(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// A rate a day.
pub(super) fn rate(given: &Given<'_>) -> Read<f64> {
    decimal(given, 0.01, 100_000.0)
}

/// Years between two false alarms.
pub(super) fn years(given: &Given<'_>) -> Read<f64> {
    decimal(given, 0.1, 1e12)
}

/// A number from `least` to `most`.
fn decimal(given: &Given<'_>, least: f64, most: f64) -> Read<f64> {
    let wanted = format!("a number from {least} to {most}");
    let (text, value) = match given.get_ref() {
        // An integer beyond 2^53 is out of any range here.
        #[expect(clippy::cast_precision_loss, reason = "what is rounded is refused")]
        DeValue::Integer(number) => (number.as_str(), integer(number).map(|number| number as f64)),
        DeValue::Float(number) => (number.as_str(), number.as_str().parse().ok()),
        _ => return other_type(given, &wanted),
    };
    match value {
        Some(value) if value >= least && value <= most => Ok(value),
        _ => wrong(given, format!("is {text}; give {wanted}")),
    }
}

pub(super) fn ports(given: &Given<'_>) -> Read<Ports> {
    let each = |element: &Given<'_>| number(element, 1, u16::MAX);
    let ports = not_empty(given, list(given, each)?, "TCP ports, such as [25]")?;
    Ok(Ports::new(ports))
}

pub(super) fn networks(given: &Given<'_>) -> Read<Vec<IpNet>> {
    let wanted = "networks as text, such as [\"192.168.1.0/24\"]";
    list(given, |element| text(element, wanted, parse::network))
}

pub(super) fn addresses(given: &Given<'_>) -> Read<Vec<IpAddr>> {
    let wanted = "addresses as text, such as [\"192.168.1.1\"]";
    let read = |text: &str| {
        text.parse()
            .map_err(|_| "not an address, such as 192.168.1.1 or 2001:db8::1".to_owned())
    };
    list(given, |element| text(element, wanted, read))
}

pub(super) fn routers(given: &Given<'_>) -> Read<Vec<Router>> {
    let wanted = "addresses or MACs as text, such as [\"192.168.1.2\"]";
    list(given, |element| parsed(element, wanted))
}

pub(super) fn machines(given: &Given<'_>) -> Read<Vec<Named>> {
    let wanted = "addresses, networks, MACs or host names as text, such as [\"192.168.1.10\"]";
    list(given, |element| parsed(element, wanted))
}

pub(super) fn sources(given: &Given<'_>) -> Read<Vec<Source>> {
    let wanted = "sources as text, such as \"auto\" or [\"nflog\", \"conntrack\"]";
    let read = |text: &str| match text.parse() {
        Ok(Source::File(path)) if !path.starts_with('/') => {
            Err("not a whole path; it has to begin with /".to_owned())
        }
        read => read,
    };
    let each = |element: &Given<'_>| text(element, wanted, read);
    let sources = not_empty(given, list(given, each)?, wanted)?;
    if sources.len() > 1 && sources.contains(&Source::Auto) {
        return wrong(
            given,
            "\"auto\" is one source: name all that are to be read, or auto alone",
        );
    }
    Ok(sources)
}

pub(super) fn path(given: &Given<'_>) -> Read<PathBuf> {
    text(given, "a path as text", |text| {
        if text.starts_with('/') && !text.contains('\0') {
            Ok(PathBuf::from(text))
        } else {
            Err("not a whole path; it has to begin with /".to_owned())
        }
    })
}

pub(super) fn paths(given: &Given<'_>) -> Read<Vec<PathBuf>> {
    list(given, path)
}

/// A folder, or `-` for none.
pub(super) fn folder(given: &Given<'_>) -> Read<PathBuf> {
    match given.get_ref() {
        DeValue::String(text) if text == "-" => Ok(PathBuf::from("-")),
        _ => path(given),
    }
}

pub(super) fn prefix<T: FromStr<Err: Display>>(given: &Given<'_>) -> Read<T> {
    parsed(given, "text, such as \"smtpwatch: \"")
}

pub(super) fn duration(given: &Given<'_>) -> Read<Duration> {
    text(
        given,
        "a duration as text, such as \"30d\"",
        parse::duration,
    )
}

pub(super) fn size(given: &Given<'_>) -> Read<u64> {
    text(given, "a size as text, such as \"1GiB\"", parse::size)
}

/// One of the words that the command line takes.
pub(super) fn word<T: ValueEnum>(given: &Given<'_>) -> Read<T> {
    let wanted = format!("one of {}", words::<T>().join(", "));
    text(given, &wanted, |text| {
        T::from_str(text, false).map_err(|_| format!("not known; give {wanted}"))
    })
}

fn words<T: ValueEnum>() -> Vec<String> {
    T::value_variants().iter().map(name).collect()
}

fn name<T: ValueEnum>(value: &T) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The system's zone, where it is `system`.
pub(super) fn zone(given: &Given<'_>) -> Read<Option<Zone>> {
    match given.get_ref() {
        DeValue::String(text) if text == "system" => Ok(None),
        _ => parsed(given, "\"system\", or a name such as \"Europe/Berlin\"").map(Some),
    }
}

/// The backend's own place, where it is `auto`.
pub(super) fn place(given: &Given<'_>) -> Read<Option<At>> {
    match given.get_ref() {
        DeValue::String(text) if text == "auto" => Ok(None),
        DeValue::String(text) => At::from_str(text, false).map(Some).or_else(|_| {
            let words = words::<At>().join(", ");
            let text = shortened(text);
            wrong(
                given,
                format!("{text}: not known; give one of auto, {words}"),
            )
        }),
        _ => other_type(given, "one of auto, prerouting, forward"),
    }
}

/// As many texts as there are values.
pub(super) fn show_all<T: Display>(values: &[T]) -> Value {
    Value::Array(values.iter().map(show_text).collect())
}

/// As text.
pub(super) fn show_text<T: Display>(value: &T) -> Value {
    Value::String(value.to_string())
}

pub(super) fn show_ports(ports: &Ports) -> Value {
    let ports = ports.as_slice().iter();
    Value::Array(ports.map(|port| Value::from(i64::from(*port))).collect())
}

pub(super) fn show_number<T: Copy + Into<i64>>(number: &T) -> Value {
    Value::Integer((*number).into())
}

/// As a whole number where it is one.
pub(super) fn show_decimal(number: &f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "whole and small")]
    let whole = *number as i64;
    if number.fract() == 0.0 {
        Value::Integer(whole)
    } else {
        Value::Float(*number)
    }
}

pub(super) fn show_boolean(value: &bool) -> Value {
    Value::Boolean(*value)
}

pub(super) fn show_word<T: ValueEnum>(value: &T) -> Value {
    Value::String(name(value))
}

pub(super) fn show_path(path: &Path) -> Value {
    Value::String(path.to_string_lossy().into_owned())
}

pub(super) fn show_paths(paths: &[PathBuf]) -> Value {
    Value::Array(paths.iter().map(|path| show_path(path)).collect())
}

pub(super) fn show_duration(duration: &Duration) -> Value {
    Value::String(parse::duration_text(*duration))
}

pub(super) fn show_size(bytes: &u64) -> Value {
    Value::String(parse::size_text(*bytes))
}

pub(super) fn show_zone(zone: Option<&Zone>) -> Value {
    Value::String(zone.map_or_else(|| "system".to_owned(), ToString::to_string))
}

pub(super) fn show_place(at: Option<&At>) -> Value {
    Value::String(at.map_or_else(|| "auto".to_owned(), ToString::to_string))
}
