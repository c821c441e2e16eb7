"""An S3 server with one empty bucket, "archive"; prints its port and serves until its input ends.

    s3_server.py [--tls CERT KEY] [--no-conditions]

With --no-conditions it overwrites what a conditional PUT must not, as some stores that call themselves compatible do.
"""

import os
import ssl
import sys
import threading
import urllib.request

# What is kept in memory is enough: it ends with its test.
os.environ.setdefault("MOTO_S3_DEFAULT_KEY_BUFFER_SIZE", str(64 << 20))
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


def without_conditions(app):
    """Drops what makes a PUT conditional."""

    def serve(environ, start_response):
        environ.pop("HTTP_IF_NONE_MATCH", None)
        return app(environ, start_response)

    return serve


def main(arguments):
    app = DomainDispatcherApplication(create_backend_app)
    if "--no-conditions" in arguments:
        app = without_conditions(app)
    at = arguments.index("--tls") if "--tls" in arguments else None
    tls = tuple(arguments[at + 1 : at + 3]) if at is not None else None
    server = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=tls)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    anyone = ssl._create_unverified_context() if tls else None
    scheme = "https" if tls else "http"
    bucket = urllib.request.Request(f"{scheme}://127.0.0.1:{server.port}/archive", method="PUT")
    urllib.request.urlopen(bucket, context=anyone).close()
    print(server.port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1:])
