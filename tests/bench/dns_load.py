#!/usr/bin/env python3
"""Clients and a resolver that answers them, for `scripts/bench answers`.

    dns_load.py answer ADDRESS                 the resolver; until it is ended
    dns_load.py ask ADDRESS RATE SECONDS       50 clients, 10.1.0.1 and up, each an address of this machine

Of 20,000 names few are asked for often and most seldom (Zipf), each with an alias and one to four addresses; one
question in 50 is for mail servers. At the end `ask` prints how many were asked, and answered, as JSON.
"""
import json, random, select, socket, struct, sys, time

CLIENTS = 50
NAMES = 20_000


def encoded(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def answer_to(question):
    """The question's own bytes, an alias, and one to four addresses made up from the name; none for MX."""
    kind = question[-3]
    # www.host-N.example
    number = int(question[22 : 17 + question[16]]) if kind == 1 else 0
    records, count = b"", 0
    if kind == 1:
        alias = encoded(f"edge-{number % 512}.cdn.example")
        records = struct.pack("!HHHIH", 0xC00C, 5, 1, 300, len(alias)) + alias
        place = 0xC000 | len(question) + 12  # Where the alias stands.
        for index in range(1 + number % 4):
            records += struct.pack("!HHHIH4B", place, 1, 1, 300, 4, 203, number >> 8 & 255, number & 255, index + 1)
        count = 2 + number % 4
    return question[:2] + struct.pack("!5H", 0x8180, 1, count, 0, 0) + question[12:] + records


def answer(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard:
        heard.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        heard.bind((address, 53))
        while True:
            question, client = heard.recvfrom(512)
            heard.sendto(answer_to(question), client)


def questions():
    weights = [1 / (rank + 1) for rank in range(NAMES)]
    numbers = random.Random(7).choices(range(NAMES), weights, k=200_000)
    for place, number in enumerate(numbers):
        kind = 15 if place % 50 == 0 else 1
        yield struct.pack("!6H", place & 0xFFFF, 0x100, 1, 0, 0, 0) + encoded(f"www.host-{number}.example") + bytes([0, kind, 0, 1])


def ask(address, rate, seconds):
    clients = []
    for number in range(CLIENTS):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.bind((f"10.1.0.{number + 1}", 0))
        client.connect((address, 53))
        client.setblocking(False)
        clients.append(client)
    waiting = list(questions())
    asked = answered = 0
    start = time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds + 0.5:
        due = int(rate * min(passed, seconds))
        while asked < due:
            clients[asked % CLIENTS].send(waiting[asked % len(waiting)])
            asked += 1
        for client in select.select(clients, [], [], 0.002)[0]:
            while True:
                try:
                    client.recv(512)
                except BlockingIOError:
                    break
                answered += 1
    print(json.dumps({"asked": asked, "answered": answered}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["answer"] and len(sys.argv) == 3:
        answer(sys.argv[2])
    elif sys.argv[1:2] == ["ask"] and len(sys.argv) == 5:
        ask(sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
    else:
        sys.exit(__doc__)
