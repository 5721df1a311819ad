"""Who sends what, and when. Each scenario is a function of a `Run`, and its first line says what it shows.

All are bounded: none sends more than a few hundred connections or lasts more than half a minute.
"""
import asyncio
import contextlib
import os
import time

from smtplab import plan, state, system, traffic, truth

SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__.replace("_", "-")] = function
    return function


class Run:
    """One run of a scenario in a lab that is up: its senders and what they wrote."""

    def __init__(self, lab):
        self.lab = lab
        self.children, self.files, self.events = {}, [], []
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
        machine = plan.MACHINES[name]
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

    def wait(self):
        """Waits for all senders that were started."""
        children, self.children = self.children, {}
        system.wait_all(children)

    def event(self, what, **more):
        self.events.append({"at": time.time(), "what": what, **more})


def run(lab, name):
    """Runs a scenario; answers the truth."""
    this = Run(lab)
    began = time.time()
    try:
        SCENARIOS[name](this)
        this.wait()
        return truth.gather(lab, name, this.files, began, time.time(), this.events)
    finally:
        for child in this.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, 9)
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


@scenario
def bot(run):
    """The main job: an office as on any day, and one machine that sends to 30 mail servers at once."""
    bystanders(run)

    async def spam(client):
        await client.burst(of(plan.MX[:10]), threads=10)
        await client.steadily(of(plan.MX[:30]) * 2, every=0.1)

    run.start("bot", spam, after=1.0)


@scenario
def ordinary_day(run):
    """Nobody is infected: the office, its printer and its mail server at work."""
    bystanders(run)

    async def read_mail(client):
        for server in plan.SMARTHOSTS:
            await client.attempt(server.v4, 587)
            await client.attempt(server.v4, 25)

    for name in ("bot", "vpn-a", "behind", "ap-phone"):
        run.start(name, read_mail, after=0.5)
