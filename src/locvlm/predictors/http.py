"""Posts JSON to an endpoint: patiently, and without ever telling its key."""

import http.client
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from locvlm.errors import ConfigError

LONGEST_WAIT = 120.0  # seconds between two attempts, whatever a server asks for
MAX_REPLY = 1 << 24  # bytes
_LATER = {408, 409, 425, 429, 500, 502, 503, 504, 529}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to post to, and how long to try.

    Args:
        url: such as `http://localhost:8000/v1/chat/completions`.
        key_variable: name of the environment variable that holds the key; None: there is no key.
        timeout: seconds that a reply may take.
        retries: further attempts where the server is busy or cannot be reached.
        wait: seconds before the first of them; each further one waits twice as long.

    Raises:
        ConfigError: the URL is none, or holds a key itself.
    """

    url: str
    key_variable: str | None = None
    timeout: float = 60.0
    retries: int = 6
    wait: float = 1.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                "this is no http or https address",
                where="predictor.url",
                fix="give the base of an OpenAI-compatible API, such as http://localhost:8000/v1",
            )
        if parts.username is not None or parts.query:
            raise ConfigError(
                "an address with a password or a query in it ends up in files",
                where="predictor.url",
                fix="put the key into an environment variable and name that: "
                "predictor.key_variable=NAME",
            )
        self._key()

    def post(self, body: Mapping[str, Any], where: str, stopped: threading.Event) -> dict[str, Any]:
        """What the endpoint replies.

        Args:
            body: of the request, as JSON values.
            where: what is asked, for messages.
            stopped: set where nobody waits for the reply any longer.

        Raises:
            ConfigError: the endpoint refuses, cannot be reached, or replies no JSON object.
        """
        for attempt in range(self.retries + 1):
            try:
                return self._reply(body, where)
            except _Busy as busy:
                wait = max(busy.wait, self.wait * 2**attempt)
                if attempt == self.retries or stopped.wait(min(wait, LONGEST_WAIT)):
                    raise ConfigError(
                        f"no reply after {attempt + 1} attempts: {busy}",
                        where=f"{self.url}, {where}",
                        fix="look after the server, or raise predictor.timeout or "
                        "predictor.retries; what was answered is kept",
                    ) from None
        raise AssertionError("the last attempt returns or raises")

    def _reply(self, body: Mapping[str, Any], where: str) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if key := self._key():
            headers["Authorization"] = f"Bearer {key}"
        request = Request(self.url, json.dumps(body).encode(), headers)
        try:
            with _OPENER.open(request, timeout=self.timeout) as reply:
                text = reply.read(MAX_REPLY)
        except HTTPError as error:
            said = self._first_line(error)
            if error.code in _LATER:
                raise _Busy(said, _seconds(error.headers.get("Retry-After"))) from None
            raise ConfigError(
                f"the endpoint refuses: {said}",
                where=f"{self.url}, {where}",
                fix="change what it complains of",
            ) from None
        except (OSError, http.client.HTTPException) as error:  # no route, timeout, cut short
            raise _Busy(str(getattr(error, "reason", error)) or type(error).__name__) from None
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ConfigError("the endpoint replies no JSON object", where=f"{self.url}, {where}")
        return found

    def _first_line(self, error: HTTPError) -> str:
        """Status and the first line of the body, in which some servers repeat the key."""
        try:
            lines = error.read(1 << 16).decode(errors="replace").strip().splitlines()
        except (OSError, http.client.HTTPException):
            lines = []
        line = f"{error.code} {error.reason}: {lines[0][:500] if lines else 'no text'}"
        key = self._key()
        return line.replace(key, "***") if key else line

    def _key(self) -> str:
        if self.key_variable is None:
            return ""
        key = os.environ.get(self.key_variable, "").strip()
        if not key or not (key.isascii() and key.isprintable()) or " " in key:
            raise ConfigError(
                f"the environment variable {self.key_variable} holds no key",
                where="predictor.key_variable",
                fix=f"export {self.key_variable}=..., or predictor.key_variable=null where the "
                "endpoint needs none",
            )
        return key


class _Busy(Exception):
    """The endpoint may answer later; in how many seconds, if it says so."""

    def __init__(self, what: str, wait: float = 0.0):
        self.wait = wait
        super().__init__(what)


class _NoRedirects(HTTPRedirectHandler):
    """Another server must not get the key."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = build_opener(_NoRedirects)


def _seconds(header: str | None) -> float:
    try:
        return max(0.0, float(header or 0))
    except ValueError:  # a date
        return 0.0
