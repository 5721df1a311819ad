"""Who is in the lab: names, addresses and MACs, and what each mail server on the Internet does.

Values only; nothing here touches the system.
"""
import dataclasses
import ipaddress

LAN4 = "192.168.77.0/24"
LAN6 = "2001:db8:77::/64"
LAN_ULA = "fd00:77::/64"
GATEWAY4 = "192.168.77.1"
GATEWAY6 = "2001:db8:77::1"
WAN4, UPLINK4 = "203.0.113.2", "203.0.113.1"
WAN6, UPLINK6 = "2001:db8:ffff::2", "2001:db8:ffff::1"
DHCP_RANGE = ("192.168.77.100", "192.168.77.150")

ROUTER4, ROUTER6 = "192.168.77.3", "2001:db8:77::3"
ROUTED4, ROUTED6 = "10.20.0.0/24", "2001:db8:20::/64"
AP4 = "192.168.77.4"
BEHIND_AP4 = "192.168.50.0/24"
TUNNEL4, TUNNEL6 = "10.88.0.0/24", "2001:db8:88::/64"
TUNNEL_GATEWAY4, TUNNEL_GATEWAY6 = "10.88.0.1", "2001:db8:88::1"


def mac(number):
    """A locally administered MAC of the lab."""
    return f"02:00:77:00:00:{number:02x}"


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine that may send.

    `place` says where it stands: "lan", "router" or "ap" (behind them), "tunnel", or "gateway".
    `v4` is None where DHCP gives it. `mac` is what the gateway sees in its frames, None where there
    is no link layer; `seen4` is what it sees as its address, where that is not its own.
    """

    name: str
    place: str
    number: int
    mac: str | None
    v4: str | None
    v6: tuple = ()
    hostname: str | None = None
    ttl: int = 64
    seen4: str | None = None

    @property
    def interface(self):
        """The gateway's interface that its packets come in by; None for the gateway itself."""
        return {"gateway": None, "tunnel": "wg0"}.get(self.place, "lan0")

    @property
    def ports(self):
        """Its source ports: no two machines share one, so that NAT need not change them."""
        return range(20000 + 2000 * self.number, 22000 + 2000 * self.number)


def on_lan(name, number, suffix, v4=None, hostname=None):
    v6 = (f"2001:db8:77::{suffix}", f"fd00:77::{suffix}")
    return Machine(name, "lan", number, mac(int(suffix, 16)), v4, v6, hostname)


MACHINES = {
    machine.name: machine
    for machine in [
        Machine("gw", "gateway", 0, None, WAN4, (WAN6,)),
        on_lan("office", 1, "10", hostname="office-pc"),
        on_lan("printer", 2, "20", v4="192.168.77.20"),
        on_lan("mail", 3, "25", v4="192.168.77.25"),
        on_lan("bot", 4, "66", hostname="old-laptop"),
        Machine("behind", "router", 5, mac(3), "10.20.0.10", ("2001:db8:20::10",)),
        Machine("behind-too", "router", 6, mac(3), "10.20.0.11", ("2001:db8:20:1::10",)),
        Machine("ap-laptop", "ap", 7, mac(4), "192.168.50.10", ttl=64, seen4=AP4),
        Machine("ap-phone", "ap", 8, mac(4), "192.168.50.11", ttl=128, seen4=AP4),
        Machine("vpn-a", "tunnel", 9, None, "10.88.0.2", ("2001:db8:88::2",)),
        Machine("vpn-b", "tunnel", 10, None, "10.88.0.3", ("2001:db8:88::3",)),
    ]
}
# A second /64 behind the router, so that two machines there can be told apart by it.
ROUTED6_TOO = "2001:db8:20:1::/64"
NAMESPACES = ["switch", "internet", "router", "ap", *MACHINES]
# Somebody on the Internet who sends mail to the office.
OUTSIDE = Machine("internet", "outside", 11, None, UPLINK4, (UPLINK6,))
SENDERS = {**MACHINES, OUTSIDE.name: OUTSIDE}

ANSWERS, REFUSES, SILENT, UNREACHABLE = "answers", "refuses", "silent", "unreachable"


@dataclasses.dataclass(frozen=True)
class Mx:
    """A mail server on the Internet, in a /24 and a /48 of its own."""

    v4: str
    v6: str
    does: str


def mx(index):
    if index % 10 == 7:
        does = REFUSES
    elif index % 10 == 8:
        does = SILENT
    elif index % 20 == 19:
        does = UNREACHABLE
    else:
        does = ANSWERS
    return Mx(f"198.18.{index}.25", f"2001:db8:{0x1000 + index:x}::25", does)


MX = [mx(index) for index in range(48)]
# The office's provider: two addresses, next to each other.
SMARTHOSTS = [Mx("198.19.1.25", "2001:db8:2001::25", ANSWERS), Mx("198.19.1.26", "2001:db8:2001::26", ANSWERS)]
SCAN_SERVER = Mx("198.19.2.25", "2001:db8:2002::25", ANSWERS)
BLOCKED_SCAN_SERVER = Mx("198.19.9.25", "2001:db8:2009::25", SILENT)
SERVERS = [*MX, *SMARTHOSTS, SCAN_SERVER, BLOCKED_SCAN_SERVER]


def group(address):
    """The /24 or /48 of an address: what the detectors count."""
    version = ipaddress.ip_address(address).version
    return str(ipaddress.ip_network(f"{address}/{24 if version == 4 else 48}", strict=False))


INSIDE = [ipaddress.ip_network(network) for network in ("192.168.0.0/16", "10.0.0.0/8", "172.16.0.0/12", "fd00::/8")]
INSIDE += [ipaddress.ip_network(network) for network in (LAN6, "2001:db8:20::/48", TUNNEL6)]


def is_inside(address):
    """Whether an address belongs to the office."""
    address = ipaddress.ip_address(address)
    return any(address in network for network in INSIDE if network.version == address.version)
