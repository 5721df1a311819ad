"""What runs in the lab all the time: the Internet's mail servers, DHCP, the tunnel; and who watches
over it.

The supervisor is the parent of all of it. It ends with the lab's owner, where one was named, and
takes the lab with it; however it ends, the kernel kills its children.
"""
import asyncio
import fcntl
import ipaddress
import json
import os
import select
import signal
import socket
import struct
import sys
import time

from smtplab import plan, state, system
from smtplab.system import LabError

HOOK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "udhcpc-hook")
SMTP_PORTS = (25, 465, 587)
LEASE_TIME = "12h"
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def listen(port):
    """Sockets that answer on every address of the namespace, those added later too."""
    sockets = []
    for family, address in [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]:
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((address, port))
        listening.listen(4096)
        listening.setblocking(False)
        sockets.append(listening)
    return sockets


async def converse(reader, writer, accepted=None, met=None):
    """One SMTP session (RFC 5321), as a mail server holds it.

    `accepted` is called for each mail, `met` with the session's ends and the name that the client gives itself.
    """

    async def say(text):
        writer.write(text.encode() + b"\r\n")
        await writer.drain()

    try:
        await say("220 mx.example ESMTP")
        while line := (await reader.readline()).decode("latin-1").strip():
            verb = line.split(" ")[0].split(":")[0].upper()
            if verb == "EHLO":
                if met is not None:
                    ends = (writer.get_extra_info(end)[:2] for end in ("peername", "sockname"))
                    met(*ends, line.partition(" ")[2])
                await say("250-mx.example\r\n250-SIZE 10485760\r\n250 8BITMIME")
            elif verb in ("HELO", "MAIL", "RCPT", "RSET", "NOOP"):
                await say("250 2.0.0 ok")
            elif verb == "DATA":
                await say("354 go on")
                while (await reader.readline()).rstrip(b"\r\n") != b".":
                    if reader.at_eof():
                        return
                if accepted is not None:
                    await accepted()
                await say("250 2.0.0 accepted")
            elif verb == "QUIT":
                await say("221 2.0.0 bye")
                return
            else:
                await say("502 5.5.1 not implemented")
    except (ConnectionError, asyncio.IncompleteReadError, ValueError):
        pass
    finally:
        writer.close()


async def serve(ports, accepted=None, ready=None, met=None):
    servers = []
    for port in ports:
        for listening in listen(port):
            servers.append(await asyncio.start_server(lambda r, w: converse(r, w, accepted, met), sock=listening))
    if ready is not None:
        ready()
    await asyncio.gather(*(server.serve_forever() for server in servers))


def mail_servers(ready, path=None):
    """All mail servers of the Internet, in one process; whom they met is written to `path`, a line of JSON each."""
    with open(path or os.devnull, "a", buffering=1) as output:

        def met(client, server, name):
            line = {"at": time.time(), "src": client[0], "src_port": client[1], "dst": server[0], "dst_port": server[1]}
            output.write(json.dumps({**line, "name": name}) + "\n")

        asyncio.run(serve(SMTP_PORTS, ready=ready, met=met))


def tun(namespace, name):
    """A tun interface, which has no link layer, in a namespace; answers its descriptor."""
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        system.enter(namespace)
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
        return descriptor
    finally:
        system.enter(f"/proc/self/fd/{here}")
        os.close(here)


def tunnel(lab, ready):
    """Carries packets between the gateway's wg0 and the peers' by their addresses, as WireGuard does."""
    peers = [machine for machine in plan.MACHINES.values() if machine.place == "tunnel"]
    gateway = tun(lab.namespace("gw"), "wg0")
    ends, owners = {gateway: None}, {}
    for machine in peers:
        end = tun(lab.namespace(machine.name), "wg0")
        ends[end] = machine
        for address in (machine.v4, *machine.v6):
            owners[ipaddress.ip_address(address)] = end
    configure = [("gw", f"{plan.TUNNEL_GATEWAY4}/24", f"{plan.TUNNEL_GATEWAY6}/64", "")]
    configure += [
        (machine.name, f"{machine.v4}/24", f"{machine.v6[0]}/64", "route add default dev wg0\nroute add ::/0 dev wg0\n")
        for machine in peers
    ]
    for name, v4, v6, routes in configure:
        text = f"link set wg0 up mtu 1420\naddress add {v4} dev wg0\naddress add {v6} dev wg0 nodad\n{routes}"
        system.command(["ip", "-batch", "-"], text, lab.namespace(name))
    ready()
    poll = select.poll()
    for end in ends:
        poll.register(end, select.POLLIN)
    while True:
        for end, _ in poll.poll():
            try:
                packet = os.read(end, 65535)
            except BlockingIOError:
                continue
            to = gateway if ends[end] is not None else owners.get(destination(packet))
            if to is not None:
                try:
                    os.write(to, packet)
                except OSError as error:
                    print(f"tunnel: {error}", file=sys.stderr, flush=True)


def destination(packet):
    if packet[0] >> 4 == 4:
        return ipaddress.ip_address(packet[16:20])
    return ipaddress.ip_address(packet[24:40])


def dnsmasq(lab):
    """The command of the gateway's DHCP server."""
    first, last = plan.DHCP_RANGE
    return [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--interface=lan0",
        "--except-interface=lo",
        "--bind-interfaces",
        # As root it changes no identity, which would undo the kernel's killing it with its parent.
        "--user=root",
        "--group=root",
        "--pid-file=",
        "--no-ping",
        "--dhcp-authoritative",
        f"--dhcp-range={first},{last},{LEASE_TIME}",
        f"--dhcp-option=option:router,{plan.GATEWAY4}",
        f"--dhcp-leasefile={lab.leases}",
        f"--log-facility={lab.path('dnsmasq.log')}",
        "--log-dhcp",
    ]


def udhcpc(machine, *more):
    """The command of a machine's DHCP client."""
    hostname = ["-x", f"hostname:{machine.hostname}"] if machine.hostname else []
    return ["udhcpc", "-i", "eth0", "-f", "-t", "20", "-T", "1", "-s", HOOK, *hostname, *more]


def dhcp_client(lab, machine, *more):
    """Starts a machine's DHCP client; answers its id."""
    environment = {"LAB_LEASE": lab.path("dhcp", machine.name)}
    become = system.execute(udhcpc(machine, *more), environment)
    return system.fork(become, lab.namespace(machine.name), lab.path("dhcp.log"))


def lease(lab, machine, *more):
    """Has a machine take an address, and tell it to the LAN, as DHCP clients do."""
    system.wait_all({dhcp_client(lab, machine, "-q", "-n", *more): f"DHCP client of {machine.name}"})
    address = lab.address4(machine)
    system.wait_all({system.fork(lambda: announce(machine, address), lab.namespace(machine.name)): "announcement"})


def release(lab, machine):
    """Has a machine give its address back to the DHCP server."""
    address = lab.address4(machine)
    client = dhcp_client(lab, machine, "-R", "-r", address)

    def is_held():
        return lab.address4(machine) is not None

    # The client begins by dropping the address, and has it again when the server agrees.
    wait_for(lambda: not is_held(), f"{machine.name} asks for its lease")
    wait_for(is_held, f"{machine.name} renews its lease")
    os.kill(client, signal.SIGTERM)
    os.waitpid(client, 0)
    wait_for(lambda: not is_held(), f"{machine.name} releases its lease")
    wait_for(lambda: f" {address} " not in read(lab.leases), "the DHCP server notes the release")


def read(path):
    with open(path) as file:
        return file.read()


def announce(machine, address):
    """Sends a gratuitous ARP request (RFC 5227): who has this address from now on."""
    own = bytes.fromhex(machine.mac.replace(":", ""))
    ip = socket.inet_aton(address)
    request = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + own + ip + bytes(6) + ip
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("eth0", 0))
        raw.send(b"\xff" * 6 + own + struct.pack("!H", 0x0806) + request)


def wait_for(condition, what, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise LabError(f"{what}: not within {seconds} s")
        time.sleep(0.01)


def reported(start):
    """Starts something that is ready when it says so: start(ready); answers its id and what to read."""
    read, write = os.pipe()
    child = start(lambda: os.write(write, b"."))
    os.close(write)
    return child, read


def await_report(pipe, what):
    """Waits until what `reported` started is ready."""
    with os.fdopen(pipe, "rb") as reports:
        if reports.read(1) != b".":
            raise LabError(f"{what}: did not start")


def start_all(lab):
    """Starts every service and waits until each works; answers names by process id."""
    log = lab.path("services.log")
    children, pipes = {}, {}
    for name, namespace, run in [
        ("mail servers", lab.namespace("internet"), lambda ready: mail_servers(ready, lab.met)),
        ("mail server inside", lab.namespace("mail"), mail_servers),
        ("tunnel", None, lambda ready: tunnel(lab, ready)),
    ]:
        child, pipe = reported(lambda ready, run=run, at=namespace: system.fork(lambda: run(ready), at, log))
        children[child], pipes[pipe] = name, name
    children[system.fork(system.execute(dnsmasq(lab)), lab.namespace("gw"), log)] = "dnsmasq"
    wait_for(lambda: os.path.exists(lab.leases), f"dnsmasq writes {lab.leases} (see {lab.path('dnsmasq.log')})")
    for machine in plan.MACHINES.values():
        if machine.place == "lan" and machine.v4 is None:
            lease(lab, machine)
    for pipe, name in pipes.items():
        await_report(pipe, f"{name} (see {log})")
    return children


def supervise(lab, owner, report):
    """The supervisor's life: starts all, says so by `report`, and waits for its own or the owner's end."""
    # A session of its own: a Ctrl-C in a terminal is for those who use the lab.
    os.setsid()
    system.quiet(lab.path("services.log"))
    ends = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in ends:
        signal.signal(number, lambda *_: os._exit(0))
    try:
        children = start_all(lab)
        record = lab.record()
        record["supervisor"] = system.identity(os.getpid())
        record["children"] = [system.identity(child) for child in children]
        record["ready"] = True
        lab.write(record)
    except (LabError, OSError) as error:
        report(f"{error}\n")
        os._exit(1)
    report("ready\n")
    if owner is None:
        while True:
            signal.pause()
    wait_for_end(owner)
    with state.lock():
        state.remove(lab)
    os._exit(0)


def wait_for_end(process):
    """Waits until a process that is no child of ours has ended."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll()


def start(lab, owner):
    """Starts the supervisor as a process of nobody's; returns when the lab works."""
    read, write = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(read)
        if os.fork() != 0:
            os._exit(0)
        try:
            supervise(lab, owner, lambda text: os.write(write, text.encode()))
        finally:
            os._exit(1)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as answers:
        answer = answers.readline().strip()
    if answer != "ready":
        raise LabError(answer or f"the supervisor ended, see {lab.path('services.log')}")
