"""The page as a Shiny application, served to this machine alone."""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mscrenal.app.page import evidence, explore, lessons, mechanism, pathway, trial
from mscrenal.app.page.config import config
from mscrenal.app.page.desk import Channel, Desk
from mscrenal.app.page.setup import setup_of

__all__ = ["CHANNELS", "HOST", "PageError", "application", "serve"]

HOST = "127.0.0.1"
FIRST_PORT, PORTS = 8642, 20
NAMES_OF_HERE = ("127.0.0.1", "localhost", "[::1]")
MOST_PAGES = 40  # open at once; each holds little more than its last answer
LARGEST_MESSAGE = 1 << 16  # bytes from a browser


class PageError(ValueError):
    """The page cannot be served as asked."""


async def _address(payload: Mapping[str, Any]) -> Any:
    """What an address sets up on Explore, and what is wrong with it."""
    pairs = payload.get("pairs")
    if not isinstance(pairs, list) or not all(
        isinstance(p, list) and len(p) == 2 and all(isinstance(t, str) for t in p) for p in pairs
    ):
        raise ValueError("pairs: Allowed: a list of names and values, both text.")
    setup, problems = setup_of([(name, value) for name, value in pairs])
    yield {"setup": setup.model_dump(mode="json"), "problems": [p.record() for p in problems]}


CHANNELS: dict[str, Channel] = {
    "address": _address,
    "explore": explore.answer,
    "explore_file": explore.downloads,
    **trial.CHANNELS,
    "pathway": pathway.answer,
    "mechanism_picture": mechanism.picture,
    "mechanism_about": mechanism.about,
    "mechanism_cut": mechanism.knock_out,
    "evidence": evidence.answer,
    "evidence_study": evidence.study,
    "evidence_file": evidence.downloads,
    "lesson": lessons.answer,
    "lesson_answers": lessons.answers,
    "lesson_address": lessons.address,
}


def _www() -> Path:
    return Path(str(resources.files("mscrenal.app.page") / "www"))


def _body() -> str:
    """The page's frame; `</` of the data is escaped so that no text can end its element."""
    data = json.dumps(config()).replace("</", "<\\/")
    return (_www() / "page.html").read_text(encoding="utf-8").replace("{{config}}", data)


def application() -> Any:
    """The page as an ASGI application.

    Raises
    ------
    PageError
        If the packages of the extra `app` are not installed.
    """
    missing = [name for name in ("shiny", "plotly", "uvicorn") if find_spec(name) is None]
    if missing:
        raise PageError(
            f"the page needs {', '.join(missing)}, not installed here. Install the extra: pip install 'mscrenal[app]' "
            "(in a clone: pip install -e '.[app]')."
        )
    from shiny import App, Inputs, Outputs, Session, reactive, ui

    def server(input: Inputs, output: Outputs, session: Session) -> None:
        async def send(answer: Mapping[str, Any]) -> None:
            await session.send_custom_message("answer", dict(answer))

        desk = Desk(CHANNELS, send)
        session.on_ended(desk.close)

        def listen(name: str) -> None:
            @reactive.effect
            @reactive.event(input[f"ask_{name}"])
            def _() -> None:
                desk.ask(name, input[f"ask_{name}"]())

        for name in CHANNELS:
            listen(name)

    import plotly

    plots = Path(plotly.__file__).parent / "package_data"
    frame = ui.page_bootstrap(
        ui.head_content(
            ui.tags.meta(name="viewport", content="width=device-width, initial-scale=1"),
            ui.tags.link(rel="icon", href="static/icon.svg", type="image/svg+xml"),
            ui.tags.link(rel="stylesheet", href="static/page.css"),
            ui.tags.link(rel="stylesheet", href="static/trial.css"),
            ui.tags.link(rel="stylesheet", href="static/mechanism.css"),
            ui.tags.link(rel="stylesheet", href="static/evidence.css"),
            ui.tags.link(rel="stylesheet", href="static/lessons.css"),
            ui.tags.script(src="plots/plotly.min.js", defer=""),
            ui.tags.script(src="static/page.js", type="module"),
        ),
        ui.HTML(_body()),
        title="mscrenal",
        lang="en",
    )
    return OnlyFromHere(App(frame, server, static_assets={"/static": _www(), "/plots": plots}))


Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class OnlyFromHere:
    """Lets in what was asked of this machine by its own pages.

    A page of another site may point a name of its own at the loopback address, or open a socket to it: the first shows
    in the host that was asked for, the second in the origin that asks.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and not self._fine(scope):
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008})
                return
            said = b"This page answers on the loopback address only."
            head = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": head})
            await send({"type": "http.response.body", "body": said})
            return
        await self._inner(scope, receive, send)

    @staticmethod
    def _fine(scope: Scope) -> bool:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope.get("headers", [])}
        host = headers.get(b"host", "")
        origin = headers.get(b"origin")
        if urlsplit(f"//{host}").hostname not in {n.strip("[]") for n in NAMES_OF_HERE}:
            return False
        return origin is None or urlsplit(origin).netloc == host


def free_port(port: int | None) -> int:
    """The port asked for or, without one, the first free of a few.

    Raises
    ------
    PageError
        If it is taken, out of range, or none is free.
    """
    if port is not None and not 1 <= port <= 65535:
        raise PageError(f"port: given {port}. Allowed: 1 to 65535.")
    tried = [port] if port is not None else range(FIRST_PORT, FIRST_PORT + PORTS)
    for number in tried:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, number))
            except PermissionError:
                raise PageError(
                    f"port: given {number}, which needs an administrator. Use one above 1023."
                ) from None
            except OSError:
                continue
        return number
    if port is not None:
        raise PageError(
            f"port: given {port}, where something listens already (another `mscrenal app`?). Leave --port out to take a free one."
        )
    raise PageError(
        f"no free port from {FIRST_PORT} to {FIRST_PORT + PORTS - 1}. Name one with --port, or stop pages that still run."
    )


def serve(port: int | None = None, ready: Callable[[str], None] | None = None) -> None:
    """Serve the page until interrupted.

    Parameters
    ----------
    port : int, optional
        By default the first free one from 8642 on.
    ready : callable, optional
        Called with the address once the page answers.

    Raises
    ------
    PageError
        If the port cannot be had, or the packages of the extra `app` are missing.
    """
    app, number = application(), free_port(port)
    import uvicorn

    class Server(uvicorn.Server):
        """Says so once it answers."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started and ready is not None:
                ready(f"http://{HOST}:{number}/")

    # A first question should not wait for what can be done now: draws, and on a new machine the model's compilation.
    explore.warm()
    Server(
        uvicorn.Config(
            app,
            host=HOST,
            port=number,
            log_level="warning",
            ws_max_size=LARGEST_MESSAGE,
            limit_concurrency=4 * MOST_PAGES,
        )
    ).run()
