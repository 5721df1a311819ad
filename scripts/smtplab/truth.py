"""What was really sent, put together from what the senders wrote down (`smtpwatch.lab.truth.v1`).

It is told as the gateway can see it at best: behind NAT by the access point's address, behind the
router with the router's MAC.
"""
import json

from smtplab import plan


def read(path):
    """The connections of one sender's file, with their outcomes."""
    connections = {}
    with open(path) as file:
        for line in file:
            if not line.endswith("\n"):
                break
            line = json.loads(line)
            connections.setdefault(line.pop("n"), {}).update(line)
    return list(connections.values())


def met(lab, began, ended):
    """Whom the Internet's mail servers met in that time, with the name that the client gave itself.

    It is what an abuse mail is made of: the addresses and ports behind the gateway's NAT.
    """
    with open(lab.met) as file:
        lines = [json.loads(line) for line in file if line.endswith("\n")]
    return [line for line in lines if began <= line["at"] <= ended]


def direction(connection):
    """As smtpwatch names it; inside is the office, and the gateway's own addresses are the gateway."""
    gateway = (plan.GATEWAY4, plan.GATEWAY6, plan.WAN4, plan.WAN6)
    if connection["src"] in gateway:
        return "gateway"
    from_inside = plan.is_inside(connection["src"])
    if connection["dst"] in gateway:
        return "internal" if from_inside else "inbound"
    if plan.is_inside(connection["dst"]):
        return "internal" if from_inside else "inbound"
    return "outbound" if from_inside else "external"


def machine_truth(machine, connections, hostname):
    """One machine's part; `connections` are those that it sent under its own name.

    `attempts` and `destination_groups` count what went from inside to outside.
    """
    for connection in connections:
        connection.setdefault("mac", machine.mac)
        connection.setdefault("vlan", None)
        connection.setdefault("outcome", "unanswered")
        connection["direction"] = direction(connection)
        if machine.seen4 and ":" not in connection["src"]:
            connection["src"] = machine.seen4
    attempts = {}
    outbound = [connection for connection in connections if connection["direction"] == "outbound"]
    for connection in outbound:
        family = "ipv6" if ":" in connection["dst"] else "ipv4"
        counts = attempts.setdefault(str(connection["dst_port"]), {"ipv4": 0, "ipv6": 0})
        counts[family] += 1
    on_25 = [connection for connection in outbound if connection["dst_port"] == 25]
    return {
        "name": machine.name,
        "place": machine.place,
        "interface": machine.interface,
        "mac": machine.mac,
        "hostname": hostname,
        "addresses": sorted({connection["src"] for connection in connections}),
        "attempts": attempts,
        "destination_groups": len({plan.group(connection["dst"]) for connection in on_25}),
        "connections": connections,
    }


def gather(run, scenario, began, ended):
    """The truth of a run that has ended."""
    lab, sent, forged = run.lab, {}, []
    for name, path in run.files:
        for connection in read(path):
            if connection.pop("forged", False):
                forged.append({**connection, "sender": name})
            else:
                sent.setdefault(name, []).append(connection)
    machines = []
    for name, connections in sorted(sent.items()):
        if name == "internet":
            continue
        machine = plan.MACHINES[name]
        machines.append(machine_truth(machine, connections, machine.hostname))
    outside = sent.get("internet", [])
    for connection in outside:
        connection["direction"] = direction(connection)
    return {
        "schema": "smtpwatch.lab.truth.v1",
        "id": lab.id,
        "scenario": scenario,
        "began": began,
        "ended": ended,
        "gateway": {
            "namespace": lab.namespace("gw"),
            "lan": "lan0",
            "wan": "wan0",
            "leases": lab.leases,
        },
        "machines": machines,
        "outside": outside,
        "infected": run.infected,
        "forged": forged,
        "events": run.events,
        "met": met(lab, began, ended),
    }
