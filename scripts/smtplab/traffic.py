"""Mail as the machines send it, and frames that lie about their sender.

Everything here runs inside the sender's namespace, and writes each connection down before its first
packet leaves: a line of JSON each, in a file that is whole up to the moment a sender is killed.
"""
import asyncio
import errno
import itertools
import json
import random
import socket
import struct
import time

# What an attempt came to, as the sender saw it.
ANSWERED, REFUSED, UNREACHABLE, UNANSWERED = "answered", "refused", "unreachable", "unanswered"
MESSAGE = "Subject: {subject}\r\nFrom: <{sender}>\r\nTo: <{recipient}>\r\n\r\nA line of text.\r\n.\r\n"


class Client:
    """A machine's mail client; it counts what it tries."""

    def __init__(self, machine, address4, output):
        self.machine = machine
        self.address4 = address4
        self.output = output
        self.numbers = itertools.count()
        first = random.randrange(len(machine.ports))
        self.ports = itertools.cycle([*machine.ports[first:], *machine.ports[:first]])

    def write(self, **line):
        self.output.write(json.dumps(line) + "\n")
        self.output.flush()

    def source(self, destination):
        if ":" in destination:
            return self.machine.v6[0]
        return self.address4

    def bound(self, source):
        """A socket at the next port that is free."""
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        for _ in range(len(self.machine.ports)):
            connection = socket.socket(family, socket.SOCK_STREAM)
            connection.setblocking(False)
            try:
                connection.bind((source, next(self.ports)))
                return connection
            except OSError as error:
                connection.close()
                if error.errno != errno.EADDRINUSE:
                    raise
        raise OSError(errno.EADDRNOTAVAIL, f"no port left for {source}")

    async def attempt(self, destination, port=25, source=None, mails=1, patience=3.0):
        """Tries one connection and, where it is answered, sends mail by it; answers what it came to.

        The kernel repeats the SYN until `patience` (seconds) ends: that is one attempt all the same.
        """
        source = source or self.source(destination)
        connection = self.bound(source)
        number = next(self.numbers)
        at = connection.getsockname()
        self.write(n=number, at=time.time(), src=at[0], src_port=at[1], dst=destination, dst_port=port)
        loop = asyncio.get_running_loop()
        outcome = ANSWERED
        try:
            await asyncio.wait_for(loop.sock_connect(connection, (destination, port)), patience)
        except (asyncio.TimeoutError, TimeoutError):
            outcome = UNANSWERED
        except ConnectionRefusedError:
            outcome = REFUSED
        except OSError as error:
            if error.errno not in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES):
                raise
            outcome = UNREACHABLE
        self.write(n=number, outcome=outcome)
        if outcome == ANSWERED:
            reader, writer = await asyncio.open_connection(sock=connection)
            await self.deliver(reader, writer, mails)
        connection.close()
        return outcome

    async def deliver(self, reader, writer, mails):
        """One SMTP session with that many mails."""

        async def ask(text, code):
            writer.write(text.encode())
            await writer.drain()
            while line := await asyncio.wait_for(reader.readline(), 10):
                if line[3:4] != b"-":
                    break
            if not line.startswith(code):
                raise OSError(f"to {text.split()[0]!r} the server said {line!r}")

        name = self.machine.hostname or self.machine.name
        try:
            await ask("", b"220")
            await ask(f"EHLO {name}\r\n", b"250")
            for index in range(mails):
                sender, recipient = f"{name}@office.example", f"user{index}@mx.example"
                await ask(f"MAIL FROM:<{sender}>\r\n", b"250")
                await ask(f"RCPT TO:<{recipient}>\r\n", b"250")
                await ask("DATA\r\n", b"354")
                await ask(MESSAGE.format(subject="Hello", sender=sender, recipient=recipient), b"250")
            await ask("QUIT\r\n", b"221")
        except (ConnectionError, asyncio.TimeoutError, TimeoutError):
            # What became of a connection that was opened is no matter of its being an attempt.
            pass
        finally:
            writer.close()

    async def burst(self, destinations, threads=10, **how):
        """Tries all destinations, that many at once."""
        waiting = list(destinations)

        async def work():
            while waiting:
                await self.attempt(waiting.pop(0), **how)

        await asyncio.gather(*(work() for _ in range(threads)))

    async def steadily(self, destinations, every, **how):
        """Tries one destination after the other, one each `every` seconds, whether answered or not."""
        tasks = []
        for destination in destinations:
            tasks.append(asyncio.create_task(self.attempt(destination, **how)))
            await asyncio.sleep(every)
        await asyncio.gather(*tasks)


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def syn(source, source_port, destination, port, from_mac, to_mac, vlans=(), ttl=64):
    """A whole Ethernet frame that holds a SYN; `vlans` are its tags, the outermost first."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
    # 64240 octets of window; the option is a maximum segment size of 1460.
    fields = [source_port, port, random.getrandbits(32), 0, 6 << 12 | 0x02, 64240, 0, 0]
    tail = bytes([2, 4, 0x05, 0xB4])
    segment = struct.pack("!HHIIHHHH", *fields) + tail
    pseudo = ends + struct.pack("!II" if family == socket.AF_INET6 else "!HH", *pseudo_tail(family, len(segment)))
    segment = struct.pack("!HHIIHHHH", *fields[:6], checksum(pseudo + segment), 0) + tail
    if family == socket.AF_INET6:
        kind, packet = 0x86DD, struct.pack("!IHBB", 6 << 28, len(segment), 6, ttl) + ends + segment
    else:
        identification = random.randrange(1, 65536)
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), identification, 0x4000, ttl, 6, 0)
        header = header[:10] + struct.pack("!H", checksum(header + ends)) + ends
        kind, packet = 0x0800, header + segment
    frame = bytes.fromhex((to_mac + from_mac).replace(":", ""))
    for index, tag in enumerate(vlans):
        outer_of_two = index == 0 and len(vlans) > 1
        frame += struct.pack("!HH", 0x88A8 if outer_of_two else 0x8100, tag)
    return frame + struct.pack("!H", kind) + packet


def pseudo_tail(family, length):
    """Protocol and length as the pseudo header has them (RFC 793, RFC 8200)."""
    return (length, 6) if family == socket.AF_INET6 else (6, length)


class Forger:
    """Sends frames as they are, whatever they say of their sender."""

    def __init__(self, machine, output, interface="eth0"):
        self.client = Client(machine, None, output)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.socket.bind((interface, 0))

    def send(self, source, destination, from_mac, to_mac, port=25, vlans=(), ttl=64, **notes):
        """Sends one SYN and writes it down with `notes`: what is said of it, and of whom it is a lie."""
        source_port = next(self.client.ports)
        frame = syn(source, source_port, destination, port, from_mac, to_mac, vlans, ttl)
        self.client.write(
            n=next(self.client.numbers),
            at=time.time(),
            src=source,
            src_port=source_port,
            dst=destination,
            dst_port=port,
            mac=from_mac,
            vlan=vlans[0] if vlans else None,
            **notes,
        )
        self.socket.send(frame)
