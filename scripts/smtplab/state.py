"""What of a lab is on this machine: its folder in /run, its processes, its namespaces, and their end.

A lab is its folder /run/sw-ID, written before anything else is made, and the namespaces sw-ID-NAME.
Both are found by the id alone, so that the remains of a lab that was killed can be cleaned up.
"""
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import time

from smtplab import plan, system
from smtplab.system import LabError

RUN = "/run"
NETNS = "/run/netns"
LOCK = f"{RUN}/smtpwatch-lab.lock"
KMSG_USERS = f"{RUN}/smtpwatch-lab.kmsg"
LOG_ALL = "/proc/sys/net/netfilter/nf_log_all_netns"


class Lab:
    """One lab, whether it is up or not."""

    def __init__(self, name):
        # No dash: sw-a-gw must not be found under the id "a" and under the id "a-gw".
        if not re.fullmatch(r"[a-z0-9]{1,24}", name):
            raise LabError(f"--id {name!r}: 1 to 24 of a-z and 0-9")
        self.id = name
        self.folder = f"{RUN}/sw-{name}"
        self.leases = f"{self.folder}/dnsmasq.leases"
        # Whom the mail servers of the Internet met.
        self.met = f"{self.folder}/met.jsonl"

    def namespace(self, machine):
        return f"sw-{self.id}-{machine}"

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def address4(self, machine):
        """A machine's own IPv4 address now; None where DHCP gave it none."""
        if machine.v4 is not None:
            return machine.v4
        try:
            with open(self.path("dhcp", machine.name)) as file:
                return file.read().strip() or None
        except FileNotFoundError:
            return None

    def record(self):
        """What was written about it; None where there is nothing."""
        try:
            with open(self.path("lab.json")) as file:
                return json.load(file)
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def write(self, record):
        partial = self.path("lab.json.partial")
        with open(partial, "w") as file:
            json.dump(record, file)
        os.rename(partial, self.path("lab.json"))

    def is_up(self):
        """Whether it is whole, and its supervisor runs."""
        record = self.record()
        return bool(record and record.get("ready") and system.is_alive(record["supervisor"]))

    def namespaces(self):
        prefix = f"sw-{self.id}-"
        try:
            return sorted(name for name in os.listdir(NETNS) if name.startswith(prefix))
        except FileNotFoundError:
            return []

    def remains(self):
        return os.path.exists(self.folder) or bool(self.namespaces())


@contextlib.contextmanager
def lock():
    """One at a time makes, ends or sweeps labs on this machine."""
    with open(LOCK, "w") as file:
        # A lock of the process, not of the open file: the supervisor, which is forked while it is
        # held, must not hold it too.
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def begin(lab, owner):
    """Writes down that the lab is being made, by whom, and for whom."""
    os.makedirs(lab.path("dhcp"), mode=0o755)
    os.makedirs(lab.path("runs"))
    record = {"id": lab.id, "builder": system.identity(os.getpid()), "owner": None, "supervisor": None, "children": []}
    if owner is not None:
        record["owner"] = system.identity(owner)
    lab.write(record)


def remove(lab):
    """Ends the lab's processes and takes away its namespaces and its folder."""
    record = lab.record() or {}
    runs = []
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(lab.path("runs")):
            with contextlib.suppress(ValueError):
                pid, start = name.split("-")
                runs.append([int(pid), int(start)])
    builder = record.get("builder")
    ours = [who for who in [*runs, builder, record.get("supervisor"), *record.get("children", [])] if who]
    ours = [who for who in ours if who[0] != os.getpid()]
    for who in ours:
        system.kill(who, signal.SIGTERM)
    end = time.monotonic() + 2
    while time.monotonic() < end and any(map(system.is_alive, ours)):
        time.sleep(0.01)
    for who in ours:
        system.kill(who, signal.SIGKILL)
    names = lab.namespaces()
    if names:
        system.command(["ip", "-force", "-batch", "-"], "".join(f"netns del {name}\n" for name in names))
    unlog(lab.id)
    shutil.rmtree(lab.folder, ignore_errors=True)


def labs():
    """All labs of which something is on this machine."""
    names = set()
    for name in os.listdir(RUN):
        if match := re.fullmatch(r"sw-([a-z0-9]{1,24})", name):
            names.add(match[1])
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(NETNS):
            if match := re.fullmatch(r"sw-([a-z0-9]{1,24})-(.+)", name):
                if match[2] in plan.NAMESPACES:
                    names.add(match[1])
    return [Lab(name) for name in sorted(names)]


def sweep():
    """Removes labs that nobody will end: their owner died, or who made them did before they were up."""
    swept = []
    for lab in labs():
        record = lab.record()
        # Without a record there is no telling whose namespaces they are: they may be a test's.
        if record is None:
            continue
        owner = record["owner"]
        if (owner is not None and not system.is_alive(owner)) or not (lab.is_up() or system.is_alive(record["builder"])):
            remove(lab)
            swept.append(lab.id)
    return swept


def kmsg_users():
    try:
        with open(KMSG_USERS) as file:
            return json.load(file)
    except (FileNotFoundError, json.JSONDecodeError):
        return {"before": None, "labs": []}


def log_all(name):
    """Lets rules in namespaces write to the kernel log, until the last lab that asked for it ends."""
    users = kmsg_users()
    if users["before"] is None:
        with open(LOG_ALL) as file:
            users["before"] = file.read().strip()
    users["labs"] = sorted({*users["labs"], name})
    with open(KMSG_USERS, "w") as file:
        json.dump(users, file)
    with open(LOG_ALL, "w") as file:
        file.write("1")


def unlog(name):
    """Takes one lab's wish back, and puts the setting back with the last."""
    users = kmsg_users()
    if name not in users["labs"]:
        return
    users["labs"].remove(name)
    if users["labs"]:
        with open(KMSG_USERS, "w") as file:
            json.dump(users, file)
        return
    with open(LOG_ALL, "w") as file:
        file.write(users["before"])
    os.unlink(KMSG_USERS)
