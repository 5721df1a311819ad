//! A flood of forged sources while a bot sends: it is found as soon as without, nobody else is, what is kept has
//! its bounds, and what was forgotten is told.

use std::fs;

use crate::harness::{Lab, has_root};
use crate::watcher::Watcher;

/// Frames: more than twice as many made-up stations as devices are kept.
const FRAMES: u64 = 60_000;
/// Devices that are kept (the default).
const DEVICES: u64 = 16_384;
/// 6,000 a second, each to a new group: half of them from stations that nobody knows under addresses on the
/// link, the others under addresses of nobody's, the mail server's, and of machines behind the router.
const FLOOD: &str = r#"
import socket, struct, sys, time
gateway, router, mail, count = [bytes.fromhex(text.replace(":", "")) for text in sys.argv[1:4]] + [int(sys.argv[4])]
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind(("eth0", 0))

def syn(port, number):
    return struct.pack("!HHIIBBHHH", port, 25, number, 0, 0x50, 2, 64240, 0, 0)

def v4(source, number):
    target = struct.pack("!I", 0x2D000001 + (number << 8))
    header = struct.pack("!BBHHHBBH", 0x45, 0, 40, number & 0xFFFF, 0, 64, 6, 0) + source + target
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return b"\x08\x00" + header[:10] + struct.pack("!H", total) + header[12:]

def v6(source, number):
    target = bytes.fromhex("2a00") + struct.pack("!I", number << 8 & 0xFFFFFFFF) + bytes(9) + b"\x01"
    return b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, 20, 6, 64) + source + target

start = time.monotonic()
link = bytes.fromhex("20010db800770000") + b"\x77\x77\x77\x77"
for number in range(count):
    stranger = b"\x02\x09" + struct.pack("!I", number)
    mac, head = [
        lambda: (stranger, v6(link + struct.pack("!I", number), number)),
        lambda: (stranger, v4(struct.pack("!I", 0x08000000 + number), number)),
        lambda: (stranger, v6(link + struct.pack("!I", number), number)),
        lambda: (b"\x02\x0a\x0a\x0a\x0a\x0a", v4(mail, number))
        if number % 8 == 3
        else (router, v4(struct.pack("!I", 0x0A140040 + number // 8 % 128), number)),
    ][number % 4]()
    out.send(gateway + mac + head + syn(1024 + number % 60000, number))
    if number % 60 == 59:
        time.sleep(max(0, start + number / 6000 - time.monotonic()))
"#;

#[test]
fn a_flood_of_forged_sources_hides_no_bot_and_frames_nobody() {
    if !has_root() {
        return;
    }
    let lab = Lab::up(&[]);
    let arguments = [
        "--source",
        "nflog,conntrack",
        "--events",
        "finding,loss,health,report",
    ];
    let watcher = Watcher::start(&lab, &arguments);
    let mut flood = lab
        .inside("printer", "python3")
        .args(["-c", FLOOD, "02:00:77:00:00:01", "02:00:77:00:00:03"])
        .args(["c0:a8:4d:19", &FRAMES.to_string()])
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_secs(4));
    let truth = lab.run("bot");
    assert!(flood.wait().unwrap().success());
    let status = fs::read_to_string(format!("/proc/{}/status", watcher.pid())).unwrap();
    let watched = watcher.finish();

    let bot = truth.machine("bot").mac.clone();
    let findings: Vec<_> = watched.of_type("finding").collect();
    let of_bot = findings
        .iter()
        .find(|it| it["src_mac"].as_str() == bot.as_deref());
    let of_bot = of_bot.unwrap_or_else(|| panic!("the bot is hidden: {findings:?}"));
    assert_eq!(of_bot["detector"], "novelty");
    println!("the bot is found at attempt {}", of_bot["at_attempt"]);
    assert!(of_bot["at_attempt"].as_u64().unwrap() <= 16, "{of_bot}");
    for machine in ["office", "printer", "mail"] {
        let mac = truth.machine(machine).mac.as_deref();
        let framed = findings.iter().find(|it| it["src_mac"].as_str() == mac);
        assert_eq!(framed, None, "{machine} is framed");
    }
    // All that was sent is a device's, a liar's, or lost and told.
    let report = &watched.of_type("report").last().unwrap()["report"];
    let totals = &report["totals"];
    let count = |value: &serde_json::Value| value.as_u64().unwrap();
    let (evicted, spoofed) = (
        count(&totals["evicted_devices"]),
        count(&totals["spoofed"]["attempts"]),
    );
    let lost: u64 = watched.of_type("loss").map(|it| count(&it["events"])).sum();
    assert!(spoofed + lost >= FRAMES / 4, "{totals} {lost}");
    let kept = watched.devices.len() as u64;
    assert!(
        kept + evicted + lost >= FRAMES / 2,
        "{kept} {totals} {lost}"
    );
    assert!(evicted > 0, "{totals}");
    assert!(kept <= DEVICES);
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.unwrap().trim().trim_end_matches(" kB");
    println!(
        "{} devices kept, {evicted} forgotten, {peak} KiB at the most",
        watched.devices.len()
    );
    assert!(peak.parse::<u64>().unwrap() < 160 * 1024, "{peak} KiB");
}
