//! Each mistake is told with its file and line, its key, and what is allowed.

use super::*;
use crate::settings::flags::config::Configurable;
use crate::settings::flags::{Flags, Verb};
use crate::settings::{Novelty, Pacing, Ports, Preset};
use clap::Parser;

fn file(path: &str, text: &str) -> ConfigText {
    ConfigText {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

fn errors(text: &str) -> Vec<String> {
    let errors = Resolved::read(&[file("a.toml", text)]).expect_err(text);
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn is_wrong(text: &str, expected: &str) {
    assert_eq!(errors(text), [expected], "{text}");
}

#[test]
fn a_value_of_another_type() {
    is_wrong(
        "[network]\nports = \"25\"",
        "a.toml:2: network.ports: is a string; give a whole number from 1 to 65535",
    );
    is_wrong(
        "[rules]\n\nkeep = \"yes\"",
        "a.toml:3: rules.keep: is a string; give true or false",
    );
    is_wrong(
        "[network]\nlan = 10",
        "a.toml:2: network.lan: is an integer; give networks as text, such as [\"192.168.1.0/24\"]",
    );
    is_wrong(
        "[detection.burst]\nwithin = 60",
        "a.toml:2: detection.burst.within: is an integer; give a duration as text, such as \"30d\"",
    );
    is_wrong(
        "[history.dir]\nx = 1",
        "a.toml:1: history.dir: is a table; give a path as text",
    );
    is_wrong(
        "rules.at = 1",
        "a.toml:1: rules.at: is an integer; give one of auto, prerouting, forward",
    );
}

#[test]
fn a_value_that_is_none_of_those_allowed() {
    for (line, expected) in [
        (
            "network.ports = [25, 0, 70000]",
            "network.ports: is 0; give a whole number from 1 to 65535",
        ),
        (
            "network.ports = []",
            "network.ports: is empty; give TCP ports, such as [25]",
        ),
        (
            "network.lan = [\"10.0.0.0/33\"]",
            "network.lan: \"10.0.0.0/33\": not a network; give ADDRESS/LENGTH, such as 192.168.1.0/24 or 2001:db8::/48",
        ),
        (
            "network.gateway = \"10.0.0\"",
            "network.gateway: \"10.0.0\": not an address, such as 192.168.1.1 or 2001:db8::1",
        ),
        (
            "network.routers = \"x\"",
            "network.routers: \"x\": not a router; give its address or its MAC (aa:bb:cc:dd:ee:ff)",
        ),
        (
            "network.allow = [\"10.0.0.300\"]",
            "network.allow: \"10.0.0.300\": not a machine; give its address, a network, its MAC or its host name",
        ),
        (
            "network.mail_servers = 25",
            "network.mail_servers: is an integer; give addresses, networks, MACs or host names as text, such as [\"192.168.1.10\"]",
        ),
        (
            "watch.source = \"pcap\"",
            "watch.source: \"pcap\": no such source; give auto, nflog, kmsg, journal, conntrack, file:PATH or capture:INTERFACE",
        ),
        (
            "watch.source = [\"auto\", \"nflog\"]",
            "watch.source: \"auto\" is one source: name all that are to be read, or auto alone",
        ),
        (
            "watch.source = [\"file:log\"]",
            "watch.source: \"file:log\": not a whole path; it has to begin with /",
        ),
        (
            "watch.mode = \"enforce\"",
            "watch.mode: \"enforce\": not known; give one of observe, alert",
        ),
        (
            "watch.leases = \"leases\"",
            "watch.leases: \"leases\": not a whole path; it has to begin with /",
        ),
        (
            "rules.backend = \"pf\"",
            "rules.backend: \"pf\": not known; give one of auto, nft, iptables",
        ),
        (
            "rules.at = \"input\"",
            "rules.at: \"input\": not known; give one of auto, prerouting, forward",
        ),
        (
            "rules.group = -1",
            "rules.group: is -1; give a whole number from 0 to 65535",
        ),
        (
            "rules.prefix = \"a=b\"",
            "rules.prefix: \"a=b\": the prefix holds '=': use letters, digits, spaces and - _ . : / + , ( ) [ ] only",
        ),
        (
            "history.detail = \"30\"",
            "history.detail: \"30\": not a duration; give a number and a unit, such as 90s, 10m, 12h or 7d",
        ),
        (
            "history.max_size = \"1GB\"",
            "history.max_size: \"1GB\": not a size; give a number and KiB, MiB, GiB or TiB, such as 500MiB",
        ),
        (
            "detection.burst.groups = 0",
            "detection.burst.groups: is 0; give a whole number from 1 to 10000",
        ),
        (
            "timezone = \"Mars/X\"",
            "timezone: \"Mars/X\": no such zone; give a name such as Europe/Berlin or UTC",
        ),
    ] {
        let found = errors(line);
        assert_eq!(found[0], format!("a.toml:1: {expected}"));
    }
}

#[test]
fn what_is_normal_is_less_than_what_a_bot_does() {
    for (line, expected) in [
        (
            "detection.preset = \"lax\"",
            "detection.preset: \"lax\": not known; give one of cautious, balanced, strict",
        ),
        (
            "detection.fast.free_groups = 33",
            "detection.fast.free_groups: is 33; give a whole number from 0 to 32",
        ),
        (
            "detection.slow.new_groups_per_day_normal = 0",
            "detection.slow.new_groups_per_day_normal: is 0; give a number from 0.01 to 100000",
        ),
        (
            "detection.slow.new_groups_per_day_normal = nan",
            "detection.slow.new_groups_per_day_normal: is nan; give a number from 0.01 to 100000",
        ),
        (
            "detection.fast.false_alarm_years = \"180\"",
            "detection.fast.false_alarm_years: is a string; give a number from 0.1 to 1000000000000",
        ),
        (
            "detection.fast.new_groups_per_day_normal = 40",
            "detection.fast.new_groups_per_day_normal: detection.fast.new_groups_per_day_infected is 48, and \
             detection.fast.new_groups_per_day_normal is 40; give at least 1.5 times as much as is normal",
        ),
    ] {
        assert_eq!(errors(line), [format!("a.toml:1: {expected}")]);
    }
}

#[test]
fn a_preset_gives_way_to_what_is_said_itself_in_any_order() {
    for text in [
        "[detection]\npreset = \"strict\"\nfast.free_groups = 4",
        "[detection]\nfast.free_groups = 4\npreset = \"strict\"",
    ] {
        let resolved = of_text(text);
        let strict = Preset::Strict.novelty();
        let expected = Novelty {
            fast: Pacing {
                free: 4,
                ..strict.fast
            },
            ..strict
        };
        assert_eq!(resolved.settings().novelty, expected);
        let origin = |key| resolved.origin(key).to_string();
        assert_eq!(origin(Key::SlowFree), "preset strict");
        assert!(origin(Key::FastFree).starts_with("a.toml:"));
        assert!(!resolved.is_given(Key::SlowFree));
    }
    assert_eq!(of_text("").settings().novelty, Preset::Balanced.novelty());
}

#[test]
fn unknown_keys_and_sections_with_the_nearest() {
    is_wrong(
        "[detection.burst]\ngroup = 5",
        "a.toml:2: unknown key \"detection.burst.group\": did you mean detection.burst.groups?",
    );
    is_wrong(
        "ports = [25]",
        "a.toml:1: unknown key \"ports\": did you mean network.ports?",
    );
    is_wrong(
        "[history]\nlan = []",
        "a.toml:2: unknown key \"history.lan\": did you mean network.lan?",
    );
    is_wrong(
        "\n[rule]\ngroup = 5",
        "a.toml:2: unknown section \"rule\": did you mean rules?",
    );
    is_wrong(
        "[detection.bursts]\ngroups = 5",
        "a.toml:1: unknown section \"detection.bursts\": did you mean detection.burst?",
    );
    is_wrong(
        "quarantine_everybody = true",
        "a.toml:1: unknown key \"quarantine_everybody\": smtpwatch config show --default prints all that are known",
    );
    is_wrong(
        "rules = 5",
        "a.toml:1: rules is a section; write [rules], and its keys below it",
    );
    // However long, and whatever is in it.
    let long = errors(&format!("\"{}\\u001b\" = 1", "x".repeat(500_000)));
    assert!(long.len() == 1 && long[0].len() < 300, "{long:?}");
}

/// The nearest of a key with a letter too few, too many, or another is that key.
#[test]
fn a_slip_of_the_finger_is_understood_for_each_key() {
    for key in Key::ALL {
        let name = key.name();
        for slip in [
            format!("{name}s"),
            name[..name.len() - 1].to_owned(),
            format!("{}z", &name[..name.len() - 1]),
        ] {
            if Key::ALL.iter().any(|other| other.name() == slip) {
                continue;
            }
            let found = errors(&format!("{slip} = 1"));
            let expected = format!("did you mean {name}?");
            assert!(found[0].ends_with(&expected), "{slip}: {found:?}");
        }
    }
}

#[test]
fn no_toml_and_the_same_key_twice() {
    let found = errors("[network]\nports = [25\nlan = []");
    assert!(found[0].starts_with("a.toml:"), "{found:?}");
    assert!(found[0].contains("no TOML: "), "{found:?}");
    let found = errors("[network]\nports = [25]\nports = [26]\nlan = 5\n");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("a.toml:3: no TOML: duplicate key"),
        "{found:?}"
    );
    assert!(found[1].starts_with("a.toml:4: network.lan"), "{found:?}");
    for broken in [
        "=",
        "[",
        "a",
        "\u{0}",
        "[a]]",
        "x = \"\\q\"",
        "x = 1979-13-01",
    ] {
        assert!(
            errors(broken)
                .iter()
                .all(|error| error.starts_with("a.toml:1: no TOML")),
            "{broken:?}: {:?}",
            errors(broken)
        );
    }
}

#[test]
fn all_mistakes_of_all_files_are_told() {
    let found = Resolved::read(&[
        file("a.toml", "[rules]\ngroup = 1.5\nkeep = 1\n"),
        file("b.toml", "x = ["),
        file(
            "c.toml",
            "[network]\nlan = [\n \"10.0.0.0/8\",\n \"here\",\n 5,\n]\n[watch]\nmod = 1\n",
        ),
    ])
    .unwrap_err();
    let places: Vec<(&str, usize)> = found
        .iter()
        .map(|error| (error.path.as_str(), error.line))
        .collect();
    assert_eq!(
        places,
        [
            ("a.toml", 2),
            ("a.toml", 3),
            ("b.toml", 1),
            ("c.toml", 4),
            ("c.toml", 5),
            ("c.toml", 8)
        ],
        "{found:?}"
    );
}

#[test]
fn the_later_file_counts_and_the_command_line_most() {
    let mut resolved = Resolved::read(&[
        file(
            "/etc/main.toml",
            "[network]\nports = [25, 587]\nlan = [\"10.0.0.0/8\"]\n[rules]\ngroup = 7\n",
        ),
        file(
            "/etc/conf.d/10.toml",
            "# LAN\nnetwork.lan = \"192.168.0.0/16\"\n",
        ),
        file("/etc/conf.d/20.toml", "network.ports = [\n  26,\n]\n"),
    ])
    .unwrap();
    let arguments = ["smtpwatch", "watch", "--group", "9", "--router", "10.0.0.2"];
    let Verb::Watch(flags) = Flags::try_parse_from(arguments).unwrap().verb else {
        panic!("not a watch");
    };
    flags.lay_over(&mut resolved);
    let from = |key: Key| resolved.origin(key).to_string();
    assert_eq!(from(Key::Ports), "/etc/conf.d/20.toml:1");
    assert_eq!(resolved.config.ports, Ports::new([26]));
    assert_eq!(from(Key::Lan), "/etc/conf.d/10.toml:2");
    assert_eq!(resolved.config.lan, ["192.168.0.0/16".parse().unwrap()]);
    assert_eq!(from(Key::Group), "command line");
    assert_eq!(resolved.config.group, 9);
    assert_eq!(from(Key::Routers), "command line");
    assert_eq!(from(Key::Mode), "default");
}

#[test]
fn numbers_may_be_written_in_any_way_that_toml_has() {
    let text = "[rules]\ngroup = 0x1f\nmax_heals = 1_0\n[detection.volume]\nattempts = 0b101\n";
    let config = Resolved::read(&[file("a.toml", text)]).unwrap().config;
    assert_eq!(
        (config.group, config.max_heals, config.volume.attempts),
        (31, 10, 5)
    );
    is_wrong(
        "rules.group = 99999999999999999999999",
        "a.toml:1: rules.group: is 99999999999999999999999; give a whole number from 0 to 65535",
    );
}

/// However deep or wide: an answer, and soon.
#[test]
fn hostile_texts_are_refused() {
    for text in [
        "[".repeat(100_000),
        format!("x = {}", "[".repeat(100_000)),
        format!("{}x = 1", "a.".repeat(50_000)),
        "a = 1\n".repeat(50_000),
        format!("network.lan = [{}]", "\"x\",".repeat(50_000)),
    ] {
        assert!(Resolved::read(&[file("a.toml", &text)]).is_err());
    }
}
