"""The lab: a small office's network, and the Internet it sends mail to, in network namespaces.

    plan        who is there: names, addresses, MACs, what each mail server does
    system      processes, namespaces and commands, each bound to its parent's life
    state       what of a lab is on this machine: its folder in /run, its processes, its end
    build       the namespaces, links, addresses and rules
    services    what runs in it all the time: mail servers, DHCP, the tunnel
    traffic     mail as the machines send it, and frames that lie about their sender
    scenarios   who sends what, and when
    truth       what was really sent, for others to compare with

It needs root, Python's standard library, and what scripts/install-tools brings. Nothing leaves
the namespaces, and nothing of the machine's own network is touched.
"""
