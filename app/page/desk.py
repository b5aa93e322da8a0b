"""Questions of a page and their answers: the newest question of a kind takes the place of the one before.

A channel is a name and an asynchronous generator: a question (plain data from a browser, checked by the channel) goes in,
answers come out as they are found, each sent with the number of its question. Work that takes longer than a blink runs in
threads that all pages share, in parts, so that a newer question waits for the end of a part only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, ParamSpec, TypeVar

from pydantic import ValidationError

from mscrenal.app.page.setup import Problem, problems_of

__all__ = ["LARGEST_QUESTION", "Answer", "Channel", "Desk", "work"]

Answer = dict[str, Any]
Channel = Callable[[Mapping[str, Any]], AsyncIterator[Answer]]
Given = ParamSpec("Given")
Found = TypeVar("Found")

LARGEST_QUESTION = 20_000  # characters; a full set-up has a thousand
_log = logging.getLogger("mscrenal.page")


@cache
def _threads() -> ThreadPoolExecutor:
    """As many as processors: the compiled kernels hold no lock."""
    return ThreadPoolExecutor(max(2, os.cpu_count() or 1), thread_name_prefix="page")


async def work(function: Callable[Given, Found], *args: Given.args, **kwargs: Given.kwargs) -> Found:
    """Run a function in the threads that all pages share, while this page stays awake."""
    return await asyncio.get_running_loop().run_in_executor(_threads(), partial(function, *args, **kwargs))


class Desk:
    """The questions of one page.

    Parameters
    ----------
    channels : mapping of str to Channel
    send : callable
        Sends one answer to the browser.
    """

    def __init__(self, channels: Mapping[str, Channel], send: Callable[[Answer], Awaitable[None]]) -> None:
        self._channels = channels
        self._send = send
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def ask(self, name: str, question: Any) -> None:
        """Begin to answer; what was being answered on this channel is let go."""
        old = self._tasks.pop(name, None)
        if old is not None:
            old.cancel()
        self._tasks[name] = asyncio.get_running_loop().create_task(self._answer(name, question))

    def close(self) -> None:
        """Let go of everything: the page was closed."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _answer(self, name: str, question: Any) -> None:
        number = question.get("id") if isinstance(question, dict) else None
        head = {"channel": name, "id": number if isinstance(number, int) else 0}
        try:
            payload = _checked(question)
            async for answer in self._channels[name](payload):
                await self._send({**head, **answer})
            await self._send({**head, "end": True})
        except (ValidationError, ValueError) as error:
            # What the channels raise for bad input are ValueErrors with a message for people. One of a library's own would
            # look the same on the page; the log tells them apart.
            _log.info("channel %s: %s", name, error, exc_info=True)
            await self._send({**head, "problems": [p.record() for p in problems_of(error)], "end": True})
        except Exception:  # a fault of ours is to be seen on the page, and must not take it down
            _log.exception("channel %s failed", name)
            failed = Problem(
                "",
                "the program failed at this; the terminal that runs it has the details. Please report it with them.",
            )
            await self._send({**head, "problems": [failed.record()], "end": True})


def _checked(question: Any) -> Mapping[str, Any]:
    """The payload of a question, of bearable size."""
    if not isinstance(question, dict) or not isinstance(question.get("payload"), dict):
        raise ValueError("a question is an object with id and payload. Reload the page.")
    text = json.dumps(question["payload"])
    if len(text) > LARGEST_QUESTION:
        raise ValueError(
            f"a question of {len(text):,} characters. Allowed: {LARGEST_QUESTION:,}. Reload the page."
        )
    # Back from JSON: Shiny hands lists over as tuples.
    payload: Mapping[str, Any] = json.loads(text)
    return payload
