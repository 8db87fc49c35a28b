"""Runs a plugin that listens on TCP, and sends it a line every 200 ms.

`with_lines.py COMMAND...`: the plugin prints `listening on HOST:PORT` to its standard error.
"""

import re
import signal
import socket
import subprocess
import sys
import threading
import time


def send_lines(address):
    with socket.create_connection(address) as connection:
        while True:
            connection.sendall(b"a line\n")
            time.sleep(0.2)


def main():
    # The plugin also gets the signals of the process group. This program ends after the plugin.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    plugin = subprocess.Popen(sys.argv[1:], stderr=subprocess.PIPE, text=True)
    for line in plugin.stderr:
        print(line, end="", file=sys.stderr, flush=True)
        if address := re.search(r"listening on ([0-9.]+):(\d+)", line):
            to = (address[1], int(address[2]))
            threading.Thread(target=send_lines, args=[to], daemon=True).start()
    sys.exit(plugin.wait())


if __name__ == "__main__":
    main()
