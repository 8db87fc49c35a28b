"""Plugins with one fault each: `bad.py FAULT FOLDER`. Some faults store a file in the folder."""

import os
import select
import signal
import sys
import time

from good import Failure, Plugin, main

FOLDER = ""


class Flood(Plugin):
    """Sends more than a socket buffers, so that a slow agent blocks its writes."""

    event_interval = 0

    def payload(self):
        return {"text": "x" * 300_000}


class WrongId(Plugin):
    def hello(self):
        return super().hello() | {"plugin_id": "always the same"}


class WrongSchema(Plugin):
    def hello(self):
        return super().hello() | {"schema_version": 2}


class NoEvent(Plugin):
    event_interval = 1_000_000

    def emit(self, kind, payload):
        pass


class NoGoodbye(Plugin):
    def send(self, message):
        if message["type"] != "goodbye":
            super().send(message)


class ErrorStatus(Plugin):
    def run(self):
        super().run()
        sys.exit(3)


class IgnoresSignals(Plugin):
    def on_signal(self, _number, _frame):
        pass


class DiesOfSigterm(Plugin):
    def handle_signals(self):
        super().handle_signals()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class NoHeartbeat(Plugin):
    event_interval = 1_000_000

    def send_heartbeat(self):
        pass


class CountsHeartbeats(Plugin):
    """No fault: a heartbeat may use a number up."""

    def send_heartbeat(self):
        super().send_heartbeat()
        self.seq += 1


class HidesTheReason(Plugin):
    def on_reject(self, reason):
        raise Failure("something went wrong")


class StaysRefused(Plugin):
    """Does not start again after a refusal."""

    marker = "refused"

    def run(self):
        if os.path.exists(os.path.join(FOLDER, self.marker)):
            raise Failure("not again")
        super().run()

    def on_reject(self, reason):
        open(os.path.join(FOLDER, self.marker), "w").close()
        super().on_reject(reason)


class LockFile(StaysRefused):
    """Leaves its lock file behind when it is killed."""

    marker = "lock"

    def connect(self):
        super().connect()
        open(os.path.join(FOLDER, self.marker), "w").close()


class ExitsWith0(Plugin):
    """Ends with status 0 whatever happens."""

    def run(self):
        try:
            super().run()
        except (Failure, OSError):
            pass


class Reconnects(Plugin):
    """Starts a new session in the same process."""

    def run(self):
        while self.stop_by is None:
            self.seq = 0
            try:
                super().run()
            except (Failure, OSError):
                time.sleep(0.2)


class GivesUpWrites(Flood):
    """Ends if the agent does not read the second event at once."""

    def write(self, frame):
        # The agent stalls after the first event.
        timeout = None if self.seq < 2 else 0
        while frame:
            if not select.select([], [self.pipe], [], timeout)[1]:
                raise Failure("a write timed out")
            frame = frame[self.pipe.send(frame) :]


class Blocks(Flood):
    """Waits in a write without a limit."""

    def write(self, frame):
        self.pipe.setblocking(True)
        self.pipe.sendall(frame)


class PartialWrites(Flood):
    """Counts bytes as sent for which the socket had no room."""

    def payload(self):
        return {"text": "x" * 50_000}

    def write(self, frame):
        try:
            self.pipe.send(frame)
        except BlockingIOError:
            pass


class IgnoresTheLimit(Plugin):
    """Ignores max_payload_bytes."""

    def on_ack(self, ack):
        super().on_ack(ack | {"max_payload_bytes": 1 << 20})

    def payload(self):
        return {"text": "x" * 5000}


class KnownFieldsOnly(Plugin):
    def on_ack(self, ack):
        known = {"type", "session_id", "server_version", "max_payload_bytes", "heartbeat_sec"}
        if ack.keys() - known:
            raise Failure(f"unknown fields: {sorted(ack.keys() - known)}")
        super().on_ack(ack)


class AllFieldsRequired(Plugin):
    def on_ack(self, ack):
        if "heartbeat_sec" not in ack:
            raise Failure("no heartbeat_sec")
        super().on_ack(ack)


class NothingAfterTheAck(Plugin):
    def on_bytes(self, received):
        raise Failure(f"unexpected bytes: {received!r}")


class ClosesFirst(Plugin):
    """Its process ends only some time after its session."""

    def on_bytes(self, received):
        self.pipe.close()
        time.sleep(0.5)
        raise Failure(f"unexpected bytes: {received!r}")


class StaysWithoutSession(Plugin):
    """Closes its session, and its process still runs."""

    def on_bytes(self, received):
        self.pipe.close()
        time.sleep(1000)


class ClosesWhenIdle(ClosesFirst):
    event_interval = 1_000_000

    def send_heartbeat(self):
        self.on_bytes(b"")


class UnusableEvents(Plugin):
    """Events that no rule can use."""

    numbers = [1, 1.5]

    def payload(self):
        self.numbers = self.numbers[::-1]
        return {"a-b": 1, "n": self.numbers[0], "nested": {"x": 1}}

    def emit(self, kind, payload):
        super().emit("acme.tick", payload)
        super().emit("python_text", "text")


if __name__ == "__main__":
    FOLDER = sys.argv[2]
    main(globals()[sys.argv[1]]())
