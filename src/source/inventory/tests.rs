//! The inventory in network namespaces of its own: a thread leaves for a new one, opens the inventory
//! there, and has `ip` change what it must tell of. The namespace goes with the thread.
#![allow(clippy::disallowed_methods, reason = "tests run ip and wait")]

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};

use super::*;

/// Runs `test` in a network namespace with nothing in it but a loopback interface.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("root, to make a network namespace");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip` for each line.
fn ip(lines: &[&str]) {
    for line in lines {
        let output = Command::new("ip").args(line.split(' ')).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {line}: {error}");
    }
}

fn interface(name: &str) -> Interface {
    Interface::new(name.as_bytes())
}

fn neighbour(name: &str, address: &str, last: Option<u8>) -> Neighbour {
    Neighbour {
        interface: interface(name),
        address: address.parse().unwrap(),
        mac: last.map(|last| Mac([2, 0, 0, 0, 0, last])),
    }
}

fn without_files() -> Options {
    Options {
        leases: Vec::new(),
        searches: false,
        hosts: PathBuf::from("/nonexistent/hosts"),
    }
}

/// An inventory with a clock that runs.
struct Kept {
    inventory: Inventory,
    started: Instant,
    seen: Vec<Input>,
}

impl Kept {
    fn open(options: &Options) -> Self {
        Self {
            inventory: Inventory::open(options).unwrap(),
            started: Instant::now(),
            seen: Vec::new(),
        }
    }

    fn read(&mut self) -> Vec<Input> {
        let elapsed = self.started.elapsed().as_micros();
        let now = Timestamp::from_micros(i64::try_from(elapsed).unwrap());
        let inputs = self.inventory.read(now).unwrap();
        self.seen.extend(inputs.iter().cloned());
        inputs
    }

    /// Reads until `is_there` of all inputs since the last call, for at most twenty seconds.
    fn until(&mut self, what: &str, is_there: impl Fn(&[Input]) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            self.read();
            if is_there(&self.seen) {
                self.seen.clear();
                return;
            }
            assert!(Instant::now() < end, "no {what} in {:?}", self.seen);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn until_neighbour(&mut self, expected: Neighbour) {
        self.until(&format!("{expected:?}"), |inputs| {
            inputs.contains(&Input::Neighbour(expected))
        });
    }
}

fn topology(inputs: &[Input]) -> Option<&Topology> {
    inputs.iter().rev().find_map(|input| match input {
        Input::Topology(topology) => Some(topology),
        _ => None,
    })
}

/// `dest dev [via]` of each route of `topology`, but those that IPv6 makes by itself.
fn routes(topology: &Topology) -> Vec<String> {
    topology
        .routes
        .iter()
        .filter(|route| !route.destination.to_string().starts_with("fe80"))
        .map(|route| {
            let via = route.via.map(|via| format!(" {via}")).unwrap_or_default();
            format!("{} {}{via}", route.destination, route.interface)
        })
        .collect()
}

#[test]
fn the_first_reading_has_everything() {
    in_namespace(|| {
        ip(&[
            "link set lo up",
            "link add lan0 type veth peer name far0",
            "link add wan0 type veth peer name far1",
            "tuntap add mode tun name tun0",
            "address add 192.168.1.1/24 dev lan0",
            "address add fd00:1::1/64 dev lan0 nodad",
            "address add 10.0.0.5/24 dev wan0",
            "address add 10.9.0.1 peer 10.9.0.2 dev tun0",
            "link set lan0 up",
            "link set far0 up",
            "link set far1 up",
            "link set wan0 up",
            "link set tun0 up",
            "route add default via 10.0.0.1",
            "route add 10.20.0.0/16 nexthop via 192.168.1.2 nexthop via 192.168.1.3",
            "route add 10.30.0.0/16 via 192.168.1.2 table 77",
            "route add blackhole 10.40.0.0/16",
            "-6 route add fd00:2::/48 via fe80::2 dev lan0",
            "neighbour add 192.168.1.10 lladdr 02:00:00:00:00:10 dev lan0 nud reachable",
            "neighbour add 192.168.1.11 lladdr 02:00:00:00:00:11 dev lan0 nud permanent",
            "neighbour add fd00:1::10 lladdr 02:00:00:00:00:10 dev lan0 nud stale",
            "neighbour add 192.168.1.12 lladdr 02:00:00:00:00:12 dev lan0 nud noarp",
        ]);
        let mut kept = Kept::open(&without_files());
        let inputs = kept.read();
        let topology = topology(&inputs).unwrap();
        let links: Vec<(String, bool)> = topology
            .links
            .iter()
            .map(|link| (link.interface.to_string(), link.has_link_layer))
            .collect();
        let expected = [
            ("far0", true),
            ("far1", true),
            ("lan0", true),
            ("tun0", false),
            ("wan0", true),
        ];
        assert_eq!(links, expected.map(|(name, has)| (name.to_owned(), has)));
        let addresses: Vec<String> = topology
            .addresses
            .iter()
            .filter(|own| !own.address.to_string().starts_with("fe80"))
            .map(|own| format!("{} {}", own.interface, own.address))
            .collect();
        assert_eq!(
            addresses,
            [
                "lan0 192.168.1.1/24",
                "lan0 fd00:1::1/64",
                "lo 127.0.0.1/8",
                "lo ::1/128",
                "tun0 10.9.0.1/32",
                "wan0 10.0.0.5/24",
            ]
        );
        assert_eq!(
            routes(topology),
            [
                "0.0.0.0/0 wan0 10.0.0.1",
                "10.0.0.0/24 wan0",
                "10.20.0.0/16 lan0 192.168.1.2",
                "10.20.0.0/16 lan0 192.168.1.3",
                "10.30.0.0/16 lan0 192.168.1.2",
                "192.168.1.0/24 lan0",
                "fd00:1::/64 lan0",
                "fd00:2::/48 lan0 fe80::2",
            ]
        );
        let neighbours: Vec<&Input> = inputs
            .iter()
            .filter(|input| matches!(input, Input::Neighbour(_)))
            .collect();
        assert_eq!(
            neighbours,
            [
                &Input::Neighbour(neighbour("lan0", "192.168.1.10", Some(0x10))),
                &Input::Neighbour(neighbour("lan0", "192.168.1.11", Some(0x11))),
                &Input::Neighbour(neighbour("lan0", "fd00:1::10", Some(0x10))),
            ]
        );
        assert!(inputs.contains(&Input::Leases(Vec::new())));
        assert_eq!(kept.inventory.lost(), Lost::default());
    });
}

#[test]
fn changes_of_neighbours_are_told_as_they_come() {
    in_namespace(|| {
        ip(&[
            "link add lan0 type veth peer name far0",
            "address add 192.168.1.1/24 dev lan0",
            "link set lan0 up",
            "link set far0 up",
        ]);
        let mut kept = Kept::open(&without_files());
        kept.read();
        let entry = "neighbour replace 192.168.1.10 lladdr 02:00:00:00:00";
        ip(&[&format!("{entry}:10 dev lan0 nud stale")]);
        // At once: the message was there before the command ended.
        assert_eq!(
            kept.read(),
            [Input::Neighbour(neighbour(
                "lan0",
                "192.168.1.10",
                Some(0x10)
            ))]
        );
        // Another state of the same entry is no news, another MAC is.
        ip(&[
            &format!("{entry}:10 dev lan0 nud reachable"),
            &format!("{entry}:20 dev lan0 nud reachable"),
        ]);
        assert_eq!(
            kept.read(),
            [Input::Neighbour(neighbour(
                "lan0",
                "192.168.1.10",
                Some(0x20)
            ))]
        );
        ip(&["neighbour change 192.168.1.10 dev lan0 nud failed"]);
        assert_eq!(
            kept.read(),
            [Input::Neighbour(neighbour("lan0", "192.168.1.10", None))]
        );
        assert_eq!(kept.read(), []);
    });
}

#[test]
fn an_interface_goes_and_comes_back() {
    in_namespace(|| {
        let make = [
            "link add lan0 type veth peer name far0",
            "address add 192.168.1.1/24 dev lan0",
            "link set lan0 up",
            "link set far0 up",
            "neighbour add 192.168.1.10 lladdr 02:00:00:00:00:10 dev lan0 nud reachable",
        ];
        ip(&make);
        let mut kept = Kept::open(&without_files());
        kept.until_neighbour(neighbour("lan0", "192.168.1.10", Some(0x10)));
        ip(&["link delete lan0"]);
        kept.until("topology without it", |inputs| {
            topology(inputs).is_some_and(|topology| topology.links.is_empty())
                && inputs.contains(&Input::Neighbour(neighbour("lan0", "192.168.1.10", None)))
        });
        ip(&make);
        kept.until("the interface and its neighbour", |inputs| {
            topology(inputs).is_some_and(|topology| {
                topology.links.len() == 2 && routes(topology) == ["192.168.1.0/24 lan0"]
            }) && inputs.contains(&Input::Neighbour(neighbour(
                "lan0",
                "192.168.1.10",
                Some(0x10),
            )))
        });
        ip(&[
            "address add 192.168.2.1/24 dev lan0",
            "link set lan0 down",
            "link set lan0 name lan1",
            "link set lan1 up",
            "neighbour replace 192.168.1.10 lladdr 02:00:00:00:00:10 dev lan1 nud reachable",
        ]);
        kept.until("another name and another network", |inputs| {
            topology(inputs).is_some_and(|topology| {
                routes(topology) == ["192.168.1.0/24 lan1", "192.168.2.0/24 lan1"]
            }) && inputs.contains(&Input::Neighbour(neighbour(
                "lan1",
                "192.168.1.10",
                Some(0x10),
            )))
        });
    });
}

#[test]
fn what_does_not_change_the_answer_is_not_told() {
    in_namespace(|| {
        ip(&[
            "link add lan0 type veth peer name far0",
            "address add 192.168.1.1/24 dev lan0",
            "link set lan0 up",
            "link set far0 up",
        ]);
        let mut kept = Kept::open(&without_files());
        kept.until("topology", |inputs| topology(inputs).is_some());
        // The kernel may take a second to tell that the link has come up.
        std::thread::sleep(Duration::from_millis(1500));
        kept.read();
        // A link's queue length is of no interest, its message is the same as for one that went down.
        ip(&["link set lan0 txqueuelen 77"]);
        std::thread::sleep(Duration::from_millis(250));
        let told = kept.read();
        assert!(topology(&told).is_none(), "{told:?}");
    });
}

#[test]
fn an_overrun_is_counted_and_all_is_read_anew() {
    in_namespace(|| {
        ip(&[
            "link add lan0 type veth peer name far0",
            "address add 10.0.0.1/8 dev lan0",
            "link set lan0 up",
            "link set far0 up",
        ]);
        let mut kept = Kept::open(&without_files());
        kept.read();
        let small: usize = 2048;
        setsockopt(&kept.inventory.listening.as_fd(), sockopt::RcvBuf, &small).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let batch = folder.path().join("batch");
        let lines: String = (1..=200)
            .map(|last| {
                format!(
                    "neighbour add 10.0.0.{last} lladdr 02:00:00:00:00:07 dev lan0 nud reachable\n"
                )
            })
            .collect();
        fs::write(&batch, lines).unwrap();
        ip(&[&format!("-batch {}", batch.display())]);
        let told = kept.read();
        let count = |told: &[Input]| {
            told.iter()
                .filter(|input| matches!(input, Input::Neighbour(_)))
                .count()
        };
        assert_eq!(kept.inventory.lost().overruns, 1);
        assert_eq!(count(&told), 200);
    });
}

#[test]
fn a_reading_without_news_is_cheap() {
    in_namespace(|| {
        ip(&["link set lo up"]);
        let mut kept = Kept::open(&Options::default());
        kept.read();
        std::thread::sleep(Duration::from_millis(50));
        kept.read();
        let rounds = 2_000_u32;
        let start = Instant::now();
        for _ in 0..rounds {
            assert_eq!(
                kept.inventory.read(Timestamp::from_micros(60_000)).unwrap(),
                []
            );
        }
        let each = start.elapsed() / rounds;
        println!("{each:?} a reading");
        // Without optimisation, and with others on the machine.
        assert!(each < Duration::from_micros(50), "{each:?}");
    });
}

#[test]
fn lease_files_and_hosts_are_followed() {
    in_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        let (leases, hosts) = (folder.path().join("leases"), folder.path().join("hosts"));
        fs::write(
            &leases,
            "1800000000 02:00:00:00:00:10 192.168.1.10 desk *\n",
        )
        .unwrap();
        fs::write(&hosts, "192.168.1.20 printer\n").unwrap();
        let mut kept = Kept::open(&Options {
            leases: vec![leases.clone()],
            searches: false,
            hosts: hosts.clone(),
        });
        let names = |inputs: &[Input]| -> Vec<String> {
            let last = inputs.iter().rev().find_map(|input| match input {
                Input::Leases(records) => Some(records.clone()),
                _ => None,
            });
            last.unwrap_or_default()
                .into_iter()
                .filter_map(|record| match record {
                    Record::Lease(lease) => lease.hostname,
                    Record::Removed(_) => None,
                })
                .collect()
        };
        let first = kept.read();
        assert_eq!(names(&first), ["desk"]);
        let printer = ("192.168.1.20".parse().unwrap(), "printer".to_owned());
        assert!(first.contains(&Input::Hosts(vec![printer])));
        fs::write(
            &leases,
            "1800000000 02:00:00:00:00:10 192.168.1.10 desk *\n1800000000 02:00:00:00:00:11 192.168.1.11 new *\n",
        )
        .unwrap();
        kept.until("the new lease", |inputs| names(inputs) == ["desk", "new"]);
        fs::write(&leases, "no lease at all\n").unwrap();
        kept.until("no lease", |inputs| {
            inputs.contains(&Input::Leases(Vec::new()))
        });
        assert_eq!(kept.inventory.complaints().len(), 1);
        assert!(kept.inventory.lease_files().eq([leases.as_path()]));
        fs::write(&hosts, "192.168.1.20 scanner\n").unwrap();
        kept.until("the new name", |inputs| {
            inputs.iter().any(|input| matches!(input, Input::Hosts(_)))
        });
    });
}

#[test]
fn a_lease_file_that_is_named_must_be_there() {
    let options = Options {
        leases: vec![PathBuf::from("/nonexistent/leases")],
        ..without_files()
    };
    let error = Inventory::open(&options).err().unwrap().to_string();
    assert!(
        error.starts_with("/nonexistent/leases: leases cannot be read: No such file"),
        "{error}"
    );
}

#[test]
fn lease_files_are_found_by_name_and_believed_by_owner() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in [
        "dnsmasq.leases",
        "dnsmasq.lan.leases",
        "dnsmasq.conf",
        "other.leases",
    ] {
        fs::write(at(name), "").unwrap();
    }
    let found = matching(folder.path(), "dnsmasq", ".leases");
    assert_eq!(found, [at("dnsmasq.lan.leases"), at("dnsmasq.leases")]);
    assert_eq!(
        matching(folder.path(), "dhcp.leases", ""),
        [at("dhcp.leases")]
    );
    let path = at("dnsmasq.leases");
    let trusts = || is_trustworthy(&path, &fs::metadata(&path).unwrap());
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    assert!(trusts());
    mode(0o646);
    assert!(!trusts());
}
