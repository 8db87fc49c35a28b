"""A small plugin with nothing but Python's standard library: an event every half second.

It is written from docs/protocol.md, without the SDK. `bad.py` has plugins with faults.
"""

import json
import os
import select
import signal
import socket
import struct
import sys
import time

PREFIX = struct.Struct("<I")
MAX_CONTENT = 1 << 20
# How long the drain may take once the plugin is asked to end.
DRAIN = 3.0


class Failure(Exception):
    """Why the plugin ends with an error status."""


class Plugin:
    event_interval = 0.5
    # So that a heartbeat is due while the plugin is idle.
    heartbeats_per_interval = 2

    def __init__(self):
        self.seq = 0
        self.stop_by = None
        # A signal makes this socket readable, and so wakes `select`.
        self.wake, wake_end = socket.socketpair()
        self.wake.setblocking(False)
        wake_end.setblocking(False)
        self.wake_end = wake_end

    def handle_signals(self):
        signal.set_wakeup_fd(self.wake_end.fileno())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.on_signal)

    def on_signal(self, _number, _frame):
        self.stop_by = time.monotonic() + DRAIN

    def run(self):
        self.handle_signals()
        self.connect()
        self.greet()
        self.session()
        self.send({"type": "goodbye"})

    def connect(self):
        path = os.environ.get("WEDR_PIPE_PATH", "/run/wazabiedr/plugin.sock")
        self.pipe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.pipe.connect(path)

    def hello(self):
        return {
            "type": "hello",
            "plugin_id": os.environ["WEDR_PLUGIN_ID"],
            "plugin_version": "1.0",
            "plugin_name": "python",
            "schema_version": 1,
        }

    def greet(self):
        self.write(self.frame(self.hello()))
        answer = self.read_answer()
        if answer["type"] == "reject":
            self.on_reject(answer["reason"])
        self.on_ack(answer)
        self.pipe.setblocking(False)

    def on_reject(self, reason):
        raise Failure(f"the agent refused this plugin: {reason}")

    def on_ack(self, ack):
        self.max_content = min(ack.get("max_payload_bytes", MAX_CONTENT), MAX_CONTENT)
        self.heartbeat = (ack.get("heartbeat_sec") or 30) / self.heartbeats_per_interval

    def read_answer(self):
        (length,) = PREFIX.unpack(self.read_exactly(PREFIX.size))
        if length > MAX_CONTENT:
            raise Failure(f"the agent announced {length} bytes")
        return json.loads(self.read_exactly(length))

    def read_exactly(self, size):
        received = b""
        while len(received) < size:
            piece = self.pipe.recv(size - len(received))
            if not piece:
                raise Failure("the agent closed the pipe before it answered")
            received += piece
        return received

    def payload(self):
        return {"uptime": time.monotonic(), "pid": os.getpid()}

    def session(self):
        next_event = next_heartbeat = time.monotonic()
        next_heartbeat += self.heartbeat
        while self.stop_by is None:
            now = time.monotonic()
            if now >= next_event:
                self.emit("python_tick", self.payload())
                next_event = now + self.event_interval
            if now >= next_heartbeat:
                self.send_heartbeat()
                next_heartbeat = now + self.heartbeat
            self.wait_until(min(next_event, next_heartbeat))

    def emit(self, kind, payload):
        event = {"type": "event", "seq": self.seq, "ts_unix_ns": time.time_ns()}
        event |= {"kind": kind, "payload": payload}
        self.seq += 1
        # An event that is too large is lost, and the agent sees a gap in seq.
        if len(json.dumps(event)) <= self.max_content:
            self.send(event)

    def send_heartbeat(self):
        # A heartbeat carries the number of the next event, and does not use the number.
        self.send({"type": "heartbeat", "seq": self.seq})

    def frame(self, message):
        content = json.dumps(message).encode()
        return PREFIX.pack(len(content)) + content

    def send(self, message):
        self.write(self.frame(message))

    def write(self, frame):
        while frame:
            try:
                frame = frame[self.pipe.send(frame) :]
            except BlockingIOError:
                # The agent does not read, so wait. After the request to end, the wait has a limit.
                if self.stop_by is not None and time.monotonic() >= self.stop_by:
                    raise Failure("the agent did not read everything in time") from None
                self.wait_until(time.monotonic() + 0.1, for_writing=[self.pipe])

    def wait_until(self, at, for_writing=()):
        timeout = max(0, at - time.monotonic())
        readable, _, _ = select.select([self.pipe, self.wake], for_writing, [], timeout)
        if self.wake in readable:
            self.wake.recv(64)
        if self.pipe in readable:
            self.on_bytes(self.pipe.recv(4096))

    def on_bytes(self, received):
        # Bytes after the answer have no meaning. No bytes mean that the agent has closed the pipe.
        if not received:
            raise Failure("the agent closed the pipe")


def main(plugin):
    try:
        plugin.run()
    except (Failure, OSError) as failure:
        sys.exit(f"python: {failure}")


if __name__ == "__main__":
    main(Plugin())
