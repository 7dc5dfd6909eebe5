"""Trackio's page of the runs on this machine: on loopback alone, without a login and without a network."""

from __future__ import annotations

import io
import os
import threading
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lorax_lab.errors import ConfigError, suggest
from lorax_lab.windows import later
from lorax_lab.windows.library import TRACKIO

HOST = "127.0.0.1"
FIRST_PORT = 7860
NOT_HERE = ("SYSTEM", "SPACE_ID", "GRADIO_SHARE", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_FRONTEND_DIR")
"""Variables by which Trackio would serve on every interface, open a public address, or show another place's runs."""


def serve(runs_dir: Path, project: str, port: int | None, until: threading.Event | None = None) -> int:
    """Serve the page until Ctrl-C, or until `until` is set; prints its address.

    Args:
        port: None takes the first free one from `FIRST_PORT` on.

    Raises:
        ConfigError: trackio is not installed, nothing was shown there, or the port cannot be had.
    """
    if port is not None and not 0 < port < 2**16:
        raise ConfigError(f"--port {port}: allowed are 1 to {2**16 - 1}; type --port {FIRST_PORT}")
    if find_spec("trackio") is None:
        raise ConfigError("trackio is not installed; type pip install lorax_lab[trackio]")
    folder = runs_dir / TRACKIO
    if not any(folder.glob("*.db")):
        how = "type python -m lorax_lab.run rank=4,8,16 -m tracking=trackio"
        if runs_dir.is_dir():
            how += f"; runs that are recorded: type {later(runs_dir, TRACKIO)}"
        raise ConfigError(f"--runs {runs_dir}: no run there was shown to Trackio; {how}")
    for name in NOT_HERE:
        os.environ.pop(name, None)
    os.environ |= {"TRACKIO_DIR": str(folder.resolve()), "HF_HUB_OFFLINE": "1"}
    import trackio

    known = trackio.SQLiteStorage.get_projects()
    if project not in known:
        raise ConfigError(f"--project {project}: no run of it was shown to Trackio; {suggest(project, known)}")
    here: dict[str, Any] = {"open_browser": False, "block_thread": False, "share": False, "mcp_server": False}
    try:
        with redirect_stdout(io.StringIO()):
            app, address, *_ = trackio.show(project, host=HOST, server_port=port, **here)
    except (OSError, RuntimeError) as error:
        taken = f"--port {port} cannot be had" if port else f"no port from {FIRST_PORT} on is free"
        other = (port or FIRST_PORT) % 60000 + 1000
        raise ConfigError(f"{taken} ({error}); type --port {other}") from None
    print(f"{address}?project={quote(project)}\nthis machine alone can open it; Ctrl-C ends it", flush=True)
    try:
        (until or threading.Event()).wait()
    except KeyboardInterrupt:
        print()
    finally:
        app.close()
    return 0
