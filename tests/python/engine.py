"""A real engine for the tests, and message classes generated from the protos as any client would generate them.

Owns: the daemon's process, which is killed by its own pid, and a temporary folder that goes with it.
"""

import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

# It logs every refused handshake, and one test is about them. Read when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
import grpc
from grpc_tools import protoc

TOP = pathlib.Path(__file__).resolve().parents[2]
PROTOS = TOP / "proto" / "proto"

# How long an engine may take to serve, in seconds.
START_S_MAX = 20


def generate(into):
    """Generates Python code for the wire protos into a folder and makes it importable."""
    sources = sorted(str(path) for path in (PROTOS / "cellaflow" / "v1").glob("*.proto"))
    arguments = ["protoc", f"-I{PROTOS}", f"--python_out={into}", f"--grpc_python_out={into}", *sources]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc refused the protos")
    sys.path.insert(0, str(into))
    return {name: importlib.import_module(f"cellaflow.v1.{name}") for name in
            ("common_pb2", "event_pb2", "engine_pb2", "engine_pb2_grpc", "session_pb2", "session_pb2_grpc",
             "operator_pb2", "operator_pb2_grpc")}


class Engine:
    """`cellaflow dev` on a free port, with a data folder of its own."""

    def __init__(self, lease_ttl_ms=2000):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cellaflow-python-"))
        self.data = self.folder / "data"
        self.lease_ttl_ms = lease_ttl_ms
        self.process = None
        try:
            self.up("127.0.0.1:0")
        except BaseException:
            self.close()
            raise

    def up(self, listen):
        """Starts the daemon and waits until it serves."""
        program = os.environ.get("CELLAFLOW_BIN")
        if not program:
            raise RuntimeError("CELLAFLOW_BIN is not set: run scripts/test, which builds the engine")
        settings = {"DATA_DIR": str(self.data), "LISTEN": listen, "LEASE_TTL_MS": str(self.lease_ttl_ms)}
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder)}
        environment.update({f"CELLAFLOW_ENGINE_{name}": value for name, value in settings.items()})
        with open(self.folder / "engine.log", "ab") as log:
            self.process = subprocess.Popen([program, "dev"], env=environment, cwd=self.folder, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S_MAX
        # The connection file is written for a port that is served, and names the process.
        while self.connection().get("pid") != self.process.pid:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the engine does not serve:\n{(self.folder / 'engine.log').read_text()}")
            time.sleep(0.02)

    def connection(self):
        """What a client needs: url, token, ca; empty before the first start."""
        try:
            return json.loads((self.data / "connection.json").read_text())
        except FileNotFoundError:
            return {}

    @property
    def address(self):
        return self.connection()["url"].removeprefix("https://")

    def kill(self):
        """kill -9."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def kill_and_restart(self):
        """kill -9, then the same folder and port."""
        self.kill()
        self.up(self.address)

    def channel(self, token=None):
        """A TLS channel that sends a token: the engine's own unless another one is named; "" sends none."""
        connection = self.connection()
        credentials = grpc.ssl_channel_credentials(connection["ca"].encode())
        secret = connection["token"] if token is None else token
        if secret:
            credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(secret))
        return grpc.secure_channel(self.address, credentials)

    def close(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
