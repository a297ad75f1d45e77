"""The least program a local mesh can run. Its first argument says how it behaves.

serve        announces itself, then waits for SIGTERM and ends in good order
stubborn     announces itself, then ignores SIGTERM
mute         never announces itself
refuse       complains about its settings and ends with exit code 2
crash        prints a few lines and ends with exit code 3
short-lived  announces itself, prints a line and ends with exit code 4
"""

from __future__ import annotations

import argparse
import signal
import sys

from specfuse.localmesh.handshake import ServiceAddresses, announce, die_with


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("behaviour")
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--die-with", type=int, required=True)
    arguments = parser.parse_args()
    die_with(arguments.die_with)
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    return BEHAVIOURS[arguments.behaviour](arguments.ready_fd)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def serve(ready_fd: int) -> int:
    announce(ServiceAddresses("127.0.0.1:1", "127.0.0.1:2"), ready_fd)
    number = signal.sigwait({signal.SIGTERM, signal.SIGINT})
    say(f"ended by {signal.Signals(number).name}")
    return 0


def stubborn(ready_fd: int) -> int:
    announce(ServiceAddresses("127.0.0.1:1", "127.0.0.1:2"), ready_fd)
    while True:
        signal.sigwait({signal.SIGTERM})


def mute(ready_fd: int) -> int:
    signal.sigwait({signal.SIGTERM})
    return 0


def refuse(ready_fd: int) -> int:
    say("settings.yaml:3: colour: unknown key; did you mean color?")
    return 2


def crash(ready_fd: int) -> int:
    say("one\ntwo\n\nthree")
    return 3


def short_lived(ready_fd: int) -> int:
    announce(ServiceAddresses("127.0.0.1:1", "127.0.0.1:2"), ready_fd)
    say("out of luck")
    return 4


BEHAVIOURS = {
    "serve": serve,
    "stubborn": stubborn,
    "mute": mute,
    "refuse": refuse,
    "crash": crash,
    "short-lived": short_lived,
}

if __name__ == "__main__":
    sys.exit(main())
