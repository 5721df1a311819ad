"""The namespaces, links, addresses, routes and rules of a lab, made in one go.

The LAN is one segment: a bridge in a namespace of its own, with the gateway's lan0 at one port.

    internet --- wan0 gw lan0 --- switch --- office, printer, mail, bot
                      |                 \\--- router --- behind, behind-too
                      wg0                \\-- ap (NAT) --- ap-laptop, ap-phone
                      |
                      (services.tunnel) --- vpn-a, vpn-b
"""
from smtplab import plan, system

LAN_PORTS = ["office", "printer", "mail", "bot", "router", "ap"]
ROUTER_PORTS = ["behind", "behind-too"]
AP_PORTS = ["ap-laptop", "ap-phone"]

# As an admin would have it: NAT for private addresses, nothing else. `flush` loads it anew.
GATEWAY_RULES = """
table inet office_nat {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan0" ip saddr { 192.168.0.0/16, 10.0.0.0/8 } masquerade
        oifname "wan0" ip6 saddr fd00::/8 masquerade
    }
}
"""
AP_RULES = """
table ip ap_nat {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "eth0" masquerade
    }
}
"""


def internet_rules():
    """What does not answer on the Internet: refused, unreachable, or nothing at all."""

    def addresses(does, version):
        return ", ".join(getattr(server, version) for server in plan.SERVERS if server.does == does)

    lines = []
    for version, family, unreachable in [("v4", "ip", "icmp"), ("v6", "ip6", "icmpv6")]:
        lines.append(f"{family} daddr {{ {addresses(plan.SILENT, version)} }} drop")
        lines.append(f"{family} daddr {{ {addresses(plan.REFUSES, version)} }} meta l4proto tcp reject with tcp reset")
        kind = "host-unreachable" if version == "v4" else "addr-unreachable"
        lines.append(f"{family} daddr {{ {addresses(plan.UNREACHABLE, version)} }} reject with {unreachable} type {kind}")
    rules = "\n        ".join(lines)
    return f"""
table inet world {{
    chain input {{
        type filter hook input priority filter; policy accept;
        {rules}
    }}
}}
"""


def links(lab):
    """All links, each end made in the namespace where it belongs."""
    n = lab.namespace

    def veth(name, where, address, peer, other):
        mac = f"address {address} " if address else ""
        return f"link add {name} netns {n(where)} {mac}type veth peer name {peer} netns {n(other)}\n"

    text = veth("lan0", "gw", plan.mac(1), "gw", "switch")
    text += veth("wan0", "gw", plan.mac(2), "eth0", "internet")
    for name in LAN_PORTS:
        machine = plan.MACHINES.get(name)
        mac = machine.mac if machine else plan.mac({"router": 3, "ap": 4}[name])
        text += veth("eth0", name, mac, name, "switch")
    for inner, ports in [("router", ROUTER_PORTS), ("ap", AP_PORTS)]:
        for name in ports:
            text += veth("eth0", name, None, name, inner)
    return text


def bridge(name, ports):
    text = f"link add {name} type bridge stp_state 0 mcast_snooping 0\nlink set {name} up\n"
    return text + "".join(f"link set {port} master {name}\nlink set {port} up\n" for port in ports)


def up(interface, *addresses):
    text = "".join(f"address add {address} dev {interface}{nodad(address)}\n" for address in addresses)
    return f"link set {interface} up\n" + text


def nodad(address):
    return " nodad" if ":" in address else ""


def default(*gateways):
    return "".join(f"route add default via {gateway}\n" for gateway in gateways)


def commands():
    """For each namespace what `ip` does in it."""
    made = {
        "switch": bridge("lan", ["gw", *LAN_PORTS]),
        "gw": up("lan0", f"{plan.GATEWAY4}/24", f"{plan.GATEWAY6}/64", "fd00:77::1/64")
        + up("wan0", f"{plan.WAN4}/24", f"{plan.WAN6}/64")
        + default(plan.UPLINK4, plan.UPLINK6)
        + f"route add {plan.ROUTED4} via {plan.ROUTER4}\n"
        + f"route add {plan.ROUTED6} via {plan.ROUTER6}\nroute add {plan.ROUTED6_TOO} via {plan.ROUTER6}\n",
        "internet": up("eth0", f"{plan.UPLINK4}/24", f"{plan.UPLINK6}/64")
        + up("lo", *[f"{server.v4}/32" for server in plan.SERVERS], *[f"{server.v6}/128" for server in plan.SERVERS])
        + "route add 2001:db8::/40 via " + plan.WAN6 + "\n",
        "router": bridge("net0", ROUTER_PORTS)
        + up("net0", "10.20.0.1/24", "2001:db8:20::1/64", "2001:db8:20:1::1/64")
        + up("eth0", f"{plan.ROUTER4}/24", f"{plan.ROUTER6}/64")
        + default(plan.GATEWAY4, plan.GATEWAY6),
        "ap": bridge("wifi0", AP_PORTS)
        + up("wifi0", "192.168.50.1/24")
        + up("eth0", f"{plan.AP4}/24")
        + default(plan.GATEWAY4),
    }
    for machine in plan.MACHINES.values():
        if machine.place == "lan":
            fixed = [f"{machine.v4}/24"] if machine.v4 else []
            made[machine.name] = up("eth0", *fixed, *[f"{address}/64" for address in machine.v6])
            made[machine.name] += default(*([plan.GATEWAY4] if machine.v4 else []), plan.GATEWAY6)
        elif machine.place == "router":
            inside = machine.v6[0].rpartition("::")[0] + "::1"
            made[machine.name] = up("eth0", f"{machine.v4}/24", f"{machine.v6[0]}/64") + default("10.20.0.1", inside)
        elif machine.place == "ap":
            made[machine.name] = up("eth0", f"{machine.v4}/24") + default("192.168.50.1")
    return made


def sysctls(name):
    """What is set in a namespace before its links come up."""
    settings = {}
    for scope in ("all", "default"):
        # Addresses are usable at once, and none but ours appear.
        settings[f"ipv6/conf/{scope}/accept_dad"] = 0
        settings[f"ipv6/conf/{scope}/accept_ra"] = 0
    if name in ("gw", "router", "ap", "internet"):
        settings["ipv4/ip_forward"] = 1
        settings["ipv6/conf/all/forwarding"] = 1
    machine = plan.MACHINES.get(name)
    if machine:
        settings["ipv4/ip_default_ttl"] = machine.ttl
    if name == "switch":
        settings["ipv6/conf/default/disable_ipv6"] = 1
        settings["ipv6/conf/all/disable_ipv6"] = 1
    return settings


def build(lab):
    """Makes all of it; raises LabError with what failed."""
    names = [lab.namespace(name) for name in plan.NAMESPACES]
    system.command(["ip", "-batch", "-"], "".join(f"netns add {name}\n" for name in names))
    # Settings come before the links, so that every link is made with them.
    run_in_each(lab, "sysctls", lambda name: lambda: set_all(sysctls(name)))
    system.command(["ip", "-batch", "-"], links(lab))
    texts = commands()
    rules = {"gw": GATEWAY_RULES, "ap": AP_RULES, "internet": internet_rules()}

    def configure(name):
        def run():
            text = texts.get(name, "")
            if name != "internet":
                text = "link set lo up\n" + text
            system.command(["ip", "-batch", "-"], text)
            if name in rules:
                system.command(["nft", "-f", "-"], rules[name])

        return run

    run_in_each(lab, "addresses", configure)


def run_in_each(lab, what, function):
    children = {}
    for name in plan.NAMESPACES:
        children[system.fork(function(name), lab.namespace(name))] = f"{what} of {name}"
    system.wait_all(children)


def set_all(settings):
    for key, value in settings.items():
        with open(f"/proc/sys/net/{key}", "w") as file:
            file.write(str(value))
