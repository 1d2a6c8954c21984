"""Serve the contract as a worker does, and run a command with the page's address as its last argument but one.

python -m tests.contracts.page_server FOLDER COMMAND …
"""

import socket
import subprocess
import sys
import threading

import uvicorn
from starlette.applications import Starlette

from contracts.asyncapi import Deployment
from workers.contract.site import contract_routes


def main() -> int:
    """Return the command's exit code."""
    folder, *command = sys.argv[1:]
    app = Starlette(routes=[*contract_routes(Deployment("shop", "EUR", 100, 60, ("kafka.example.com:9093",)))])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    listener = socket.create_server(("127.0.0.1", 0))
    serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    serving.start()
    try:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/contract"
        return subprocess.run([*command, address, folder], check=False).returncode
    finally:
        server.should_exit = True
        serving.join()


if __name__ == "__main__":
    sys.exit(main())
