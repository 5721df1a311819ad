"""Who sends what, and when. Each scenario is a function of a `Run`, and its first line says what it shows.

All are bounded: none sends more than a few hundred connections or lasts more than half a minute.
"""
import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time

from smtplab import build, plan, services, system, traffic, truth

SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__.replace("_", "-")] = function
    return function


class Run:
    """One run of a scenario in a lab that is up: its senders and what they wrote."""

    def __init__(self, lab):
        self.lab = lab
        self.children, self.services = {}, []
        self.files, self.events = [], []
        # Who should be told as infected, by name.
        self.infected = []
        pid, start = system.identity(os.getpid())
        self.folder = lab.path("runs", f"{pid}-{start}")
        os.makedirs(self.folder)

    def output(self, name):
        """A new file for what a sender writes, its path noted for the truth."""
        path = os.path.join(self.folder, f"{len(self.files)}-{name}.jsonl")
        self.files.append((name, path))
        return path

    def start(self, name, script, after=0.0):
        """Starts a machine's sender: `script(client)` runs in its namespace after that many seconds."""
        machine = plan.SENDERS[name]
        address4 = self.lab.address4(machine)
        path = self.output(name)

        def run():
            time.sleep(after)
            with open(path, "w") as output:
                asyncio.run(script(traffic.Client(machine, address4, output)))

        self.children[system.fork(run, self.lab.namespace(name))] = name

    def forge(self, name, script, after=0.0):
        """Starts a machine that lies: `script(forger)` runs in its namespace."""
        path = self.output(name)

        def run():
            time.sleep(after)
            with open(path, "w") as output:
                script(traffic.Forger(plan.MACHINES[name], output))

        self.children[system.fork(run, self.lab.namespace(name))] = f"{name} (forging)"

    def serve(self, name, service):
        """Starts what works for a machine until the run ends, and waits until it does.

        `service(client, ready)` runs in the machine's namespace, and calls `ready`.
        """
        path = self.output(name)
        machine = plan.MACHINES[name]

        def run(ready):
            with open(path, "w") as output:
                asyncio.run(service(traffic.Client(machine, self.lab.address4(machine), output), ready))

        child, pipe = services.reported(lambda ready: system.fork(lambda: run(ready), self.lab.namespace(name)))
        self.services.append(child)
        services.await_report(pipe, f"what serves on {name}")

    def nft(self, text):
        """Loads rules on the gateway, as its admin would; answers the process that did it."""
        arguments = ["nsenter", f"--net=/run/netns/{self.lab.namespace('gw')}", "nft", "-f", "-"]
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, text=True)
        process.communicate(text)
        if process.returncode != 0:
            raise system.LabError(f"nft: {process.returncode}")
        return process.pid

    def addresses(self, name, addresses):
        """Gives a machine more addresses on its LAN."""
        text = "".join(f"address add {address}/64 dev eth0 nodad\n" for address in addresses)
        system.command(["ip", "-batch", "-"], text, self.lab.namespace(name))

    def wait(self):
        """Waits for all senders that were started."""
        children, self.children = self.children, {}
        # Those that are not waited for any more are ended by the kernel with this process.
        system.wait_all(children)

    def end(self):
        """Ends what still runs."""
        for child in [*self.children, *self.services]:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        self.children, self.services = {}, []

    def event(self, what, **more):
        self.events.append({"at": time.time(), "what": what, **more})


def run(lab, name):
    """Runs a scenario; answers the truth."""
    this = Run(lab)
    began = time.time()
    try:
        SCENARIOS[name](this)
        this.wait()
        this.end()
        return truth.gather(this, name, began, time.time())
    finally:
        this.end()
        with contextlib.suppress(FileNotFoundError):
            for file in os.listdir(this.folder):
                os.unlink(os.path.join(this.folder, file))
            os.rmdir(this.folder)


def of(servers, version="v4"):
    return [getattr(server, version) for server in servers]


# What honest machines do; each is a script for `Run.start`.


async def office_mail(client):
    """A mail program: its provider's servers, by submission and by port 25."""
    for turn in range(3):
        for server in plan.SMARTHOSTS:
            await client.attempt(server.v4, 587)
            await client.attempt(server.v4, 25)
            await client.attempt(server.v6, 587 if turn % 2 else 25)
        await asyncio.sleep(0.5)


async def scan_to_mail(client):
    """A printer: scans, always to the same server."""
    for _ in range(5):
        await client.attempt(plan.SCAN_SERVER.v4)
        await asyncio.sleep(0.4)


async def deliver_quietly(client):
    """A mail server on a quiet day: several mails to few domains."""
    for server in plan.MX[40:44]:
        await client.attempt(server.v4, mails=3)
        await client.attempt(server.v6)
        await asyncio.sleep(0.3)


def bystanders(run):
    run.start("office", office_mail)
    run.start("printer", scan_to_mail)
    run.start("mail", deliver_quietly)


def infected(run, name, script, after=1.0):
    """Starts a machine that sends spam, after honest ones have begun."""
    run.infected.append(name)
    run.start(name, script, after)


async def spam4(client):
    """A bot at 10 mail servers a second; those that say nothing are waited for."""
    await client.steadily(of(plan.MX[:30]) * 2, every=0.1)


@scenario
def bot(run):
    """The main job: an office as on any day, and one machine that sends to 30 mail servers at once."""
    bystanders(run)
    infected(run, "bot", spam4)


@scenario
def ordinary_day(run):
    """Nobody is infected: the office, its printer and its mail server at work; mail comes in, too."""
    bystanders(run)

    async def read_mail(client):
        for server in plan.SMARTHOSTS:
            await client.attempt(server.v4, 587)
            await client.attempt(server.v4, 25)

    for name in ("bot", "behind", "ap-phone"):
        run.start(name, read_mail, after=0.5)

    async def to_inside(client):
        await read_mail(client)
        await client.attempt(plan.MACHINES["mail"].v4)
        await client.attempt(plan.GATEWAY4)

    run.start("vpn-a", to_inside, after=0.5)

    async def to_the_office(client):
        for _ in range(3):
            await client.attempt(plan.MACHINES["mail"].v6[0])

    run.start("internet", to_the_office)


@scenario
def mail_server(run):
    """A busy mail server that nobody declared: 30 mail servers, several mails each."""
    bystanders(run)

    async def deliver(client):
        await client.steadily(of(plan.MX[:30], "v6"), every=0.1, mails=2)

    run.start("mail", deliver, after=1.0)


@scenario
def printer_blocked(run):
    """A printer whose server says nothing: the kernel repeats each SYN, and each is one attempt."""
    run.start("office", office_mail)

    async def scan_in_vain(client):
        await client.steadily([plan.BLOCKED_SCAN_SERVER.v4] * 3, every=0.7, patience=16)

    run.start("printer", scan_in_vain)


@scenario
def ipv6_bot(run):
    """A bot by IPv6, from its global address and, behind NAT, from its local one: one device."""
    bystanders(run)

    async def spam(client):
        there = of(plan.MX[:24], "v6")
        await client.steadily(there[::2], every=0.1)
        await client.steadily(there[1::2], every=0.1, source=client.machine.v6[1])

    infected(run, "bot", spam)


@scenario
def privacy_addresses(run):
    """A bot with five IPv6 addresses, as privacy extensions make them: one device."""
    bystanders(run)
    addresses = [f"2001:db8:77::a{number}:{number * 257:x}" for number in range(1, 6)]
    run.addresses("bot", addresses)

    async def spam(client):
        for index, server in enumerate(plan.MX[:30]):
            await client.attempt(server.v6, source=addresses[index % 5], patience=1.2)

    infected(run, "bot", spam)


@scenario
def translated(run):
    """An office behind one public address, with ports that NAT changes at random; and who was behind which."""
    run.nft(f"delete table inet office_nat\n{build.GATEWAY_RULES.replace('masquerade', 'masquerade fully-random')}")
    answering = [server.v4 for server in plan.MX if server.does == plan.ANSWERS]

    def mail_to(first):
        # No server hears from more than three of them.
        async def some_mail(client):
            turn = answering[first:] + answering[:first]
            await client.steadily(turn[:12] * 2, every=0.1)

        return some_mail

    try:
        for first, name in enumerate(("office", "printer", "mail", "bot", "behind", "behind-too", "ap-phone")):
            run.start(name, mail_to(first * 5))
        run.wait()
    finally:
        run.nft(f"delete table inet office_nat\n{build.GATEWAY_RULES}")


@scenario
def redirect(run):
    """The gateway takes all of port 25 into its own proxy, which passes it on to the provider."""

    async def proxy(client, ready):
        async def pass_on():
            await client.attempt(plan.SMARTHOSTS[0].v4)

        await services.serve([2525], accepted=pass_on, ready=ready)

    run.serve("gw", proxy)
    table = "table inet lab_proxy"
    run.nft(
        f"{table} {{\n chain prerouting {{\n  type nat hook prerouting priority dstnat; policy accept;\n"
        '  iifname "lan0" tcp dport 25 redirect to :2525\n }\n}\n'
    )
    try:
        bystanders(run)
        infected(run, "bot", spam4)
        run.wait()
    finally:
        run.nft(f"delete {table}\n")


@scenario
def forged_address(run):
    """A machine that sends as the office PC, and as machines that are not here, by its own MAC."""
    bystanders(run)
    office, own, gateway = plan.MACHINES["office"], plan.MACHINES["bot"].mac, plan.mac(1)
    address4 = run.lab.address4(office)

    def lie(forger):
        for index, server in enumerate(plan.MX[:15]):
            forger.send(address4, server.v4, own, gateway, forged=True, address_of="office", mac_of="bot")
            forger.send(office.v6[0], server.v6, own, gateway, forged=True, address_of="office", mac_of="bot")
            for source in (f"172.16.5.{index + 1}", f"192.168.99.{index + 1}", f"198.51.100.{index + 1}"):
                forger.send(source, server.v4, own, gateway, forged=True, address_of=None, mac_of="bot")
            forger.send(f"2001:db8:99::{index + 1:x}", server.v6, own, gateway, forged=True, address_of=None, mac_of="bot")
            time.sleep(0.1)

    run.forge("bot", lie, after=1.5)


@scenario
def forged_mac(run):
    """A machine that sends with the printer's MAC, from its own address and from one that nobody has."""
    bystanders(run)
    printer, bot_machine = plan.MACHINES["printer"], plan.MACHINES["bot"]
    address4 = run.lab.address4(bot_machine)

    async def one_mail(client):
        await client.attempt(plan.SMARTHOSTS[0].v4)
        await client.attempt(plan.SMARTHOSTS[0].v6)

    run.start("bot", one_mail)

    def lie(forger):
        for server in plan.MX[:15]:
            for source, there, whose in [
                (address4, server.v4, "bot"),
                (bot_machine.v6[0], server.v6, "bot"),
                ("192.168.77.99", server.v4, None),
            ]:
                forger.send(source, there, printer.mac, plan.mac(1), forged=True, address_of=whose, mac_of="printer")
            time.sleep(0.1)

    run.forge("bot", lie, after=1.5)


@scenario
def behind_router(run):
    """A bot and an honest machine behind another router: all their frames bear the router's MAC."""
    bystanders(run)
    infected(run, "behind", spam4)

    async def some_mail(client):
        for _ in range(3):
            await client.attempt(plan.SMARTHOSTS[0].v4)
            await client.attempt(plan.SMARTHOSTS[0].v6)
            await asyncio.sleep(0.5)

    run.start("behind-too", some_mail, after=1.0)


@scenario
def behind_ap(run):
    """A bot and an honest machine behind an access point with NAT: one MAC, one address, two TTLs."""
    bystanders(run)
    infected(run, "ap-laptop", spam4)

    async def some_mail(client):
        for _ in range(4):
            await client.attempt(plan.SMARTHOSTS[0].v4)
            await asyncio.sleep(0.5)

    run.start("ap-phone", some_mail, after=1.0)


@scenario
def no_link_layer(run):
    """A bot and an honest peer on an interface without MACs, as WireGuard's are."""
    bystanders(run)

    async def spam(client):
        await client.steadily(of(plan.MX[:24]), every=0.1)
        await client.steadily(of(plan.MX[:6], "v6"), every=0.1)

    infected(run, "vpn-a", spam)

    async def some_mail(client):
        for _ in range(3):
            await client.attempt(plan.SMARTHOSTS[0].v4)
            await client.attempt(plan.SMARTHOSTS[0].v6)
            await asyncio.sleep(0.5)

    run.start("vpn-b", some_mail, after=1.0)


@scenario
def dhcp_change(run):
    """The PC gives its address back, and the bot takes it over by DHCP: what came before stays the PC's."""
    office, bot_machine = plan.MACHINES["office"], plan.MACHINES["bot"]
    address = run.lab.address4(office)

    async def some_mail(client):
        for _ in range(3):
            await client.attempt(plan.SMARTHOSTS[0].v4)

    run.start("office", some_mail)
    run.start("bot", some_mail)
    run.wait()
    for machine in (office, bot_machine):
        services.release(run.lab, machine)
        run.event("released", machine=machine.name)
    services.lease(run.lab, bot_machine, "-r", address)
    if run.lab.address4(bot_machine) != address:
        raise system.LabError(f"the DHCP server gave the bot {run.lab.address4(bot_machine)} instead of {address}")
    run.event("leased", machine="bot", address=address)
    services.lease(run.lab, office)
    run.event("leased", machine="office", address=run.lab.address4(office))
    run.start("office", some_mail)
    infected(run, "bot", spam4, after=0.5)


@scenario
def vlan(run):
    """A bot whose frames bear VLAN tags, one or two: a capture sees them, the gateway passes none on."""
    run.start("office", office_mail)
    machine = plan.MACHINES["bot"]
    address4 = run.lab.address4(machine)
    run.infected.append("bot")

    def send(forger):
        for index, server in enumerate(plan.MX[:30]):
            vlans = (20, 30) if index % 5 == 4 else (20,)
            forger.send(address4, server.v4, machine.mac, plan.mac(1), vlans=vlans)
            forger.send(machine.v6[0], server.v6, machine.mac, plan.mac(1), vlans=vlans)
            time.sleep(0.1)

    run.forge("bot", send, after=1.0)


@scenario
def flush(run):
    """Somebody loads all rules anew, and flushes all rules, while a bot sends 50 times a second."""

    async def spam(client):
        answering = [server.v4 for server in plan.MX if server.does == plan.ANSWERS]
        await client.steadily((answering * 10)[:250], every=0.02)

    infected(run, "bot", spam, after=0.0)
    for wait, text in [(1.5, "flush ruleset\n" + build.GATEWAY_RULES), (1.5, "flush ruleset\n")]:
        time.sleep(wait)
        began = time.time()
        pid = run.nft(text)
        run.event("flush", pid=pid, process="nft", began=began)
    time.sleep(0.5)
    run.nft(build.GATEWAY_RULES)
