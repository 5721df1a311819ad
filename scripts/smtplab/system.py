"""Processes, namespaces and commands. Every process started here ends with the one that started it.

Processes are named by id and start time, so that an id that is used again is never taken for one of
ours.
"""
import ctypes
import os
import signal
import subprocess
import sys
import traceback

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1


class LabError(Exception):
    """What went wrong, and what to do about it."""


def command(arguments, text=None, namespace=None):
    """Runs a command with `text` on its standard input; answers its output."""
    if namespace is not None:
        arguments = ["nsenter", f"--net=/run/netns/{namespace}", *arguments]
    done = subprocess.run(
        arguments,
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        raise LabError(f"{' '.join(arguments)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def enter(namespace):
    """Moves this process (which must have one thread) into a network namespace: a name or a path."""
    descriptor = os.open(os.path.join("/run/netns", namespace), os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            error = ctypes.get_errno()
            raise LabError(f"cannot enter {namespace}: {os.strerror(error)}")
    finally:
        os.close(descriptor)


def die_with(parent):
    """Has the kernel kill this process when `parent`, which must be its parent, ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def fork(function, namespace=None, output=None):
    """Runs `function` in a child inside `namespace`; answers the child's id.

    The child exits with 0 where `function` returns. Its errors go to `output` (a path) or to
    standard error.
    """
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        die_with(parent)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        quiet(output)
        if namespace is not None:
            enter(namespace)
        function()
        status = 0
    except BaseException:  # noqa: BLE001: the child must not go on as a second parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def quiet(output):
    """Standard input from nothing, and standard output and error to the file `output`."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    if output is not None:
        log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
    os.close(null)


def execute(arguments, environment=None):
    """A function for `fork` that becomes another program."""

    def become():
        os.execvpe(arguments[0], arguments, {**os.environ, **(environment or {})})

    return become


def wait_all(children):
    """Waits for `children`, a dictionary of ids and names; raises the names of those that failed."""
    failed = []
    for child, name in children.items():
        _, status = os.waitpid(child, 0)
        if status != 0:
            failed.append(f"{name} ({os.waitstatus_to_exitcode(status)})")
    if failed:
        raise LabError("failed: " + ", ".join(failed))


def started(pid):
    """When a process started, in clock ticks since boot; None where there is none."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def identity(pid):
    """What tells a process from a later one with the same id."""
    return [pid, started(pid)]


def is_alive(who):
    """Whether the process of an identity is still there."""
    pid, start = who
    return start is not None and started(pid) == start


def kill(who, number):
    """Signals the process of an identity, where it is still there."""
    if is_alive(who):
        try:
            os.kill(who[0], number)
        except ProcessLookupError:
            pass
