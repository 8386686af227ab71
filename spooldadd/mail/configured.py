"""Transports from the configuration: a table in, a transport or every fault out."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping

from spooldadd import secret
from spooldadd.erroremail import DEFAULT_PORTS, DEFAULT_SENDMAIL, Server, one_line
from spooldadd.errors import ConfigError
from spooldadd.mail import locked
from spooldadd.mail.transport import TIMEOUT_S, Command, Lmtp, Maildir, Sendmail, Smtp, Transport, Webhook

KEYS: dict[str, dict[str, type]] = {
    "smtp": {
        "server": str, "port": int, "tls": str, "username": str, "password": str, "ca_file": str, "timeout_s": float,
    },
    "lmtp": {"server": str, "port": int, "timeout_s": float},
    "sendmail": {"command": list, "timeout_s": float},
    "maildir": {"directory": str},
    "command": {"command": list, "timeout_s": float},
    "webhook": {"url": str, "headers": dict, "timeout_s": float},
}  # fmt: skip
NEEDED = {"smtp": "server", "lmtp": "server", "maildir": "directory", "command": "command", "webhook": "url"}


def transport_from(name: str, table: Mapping[str, object], read: locked.Read | None = None) -> Transport:
    """Make the transport that a table of the configuration describes; `kind` says which one it is.

    `read` gives secrets by their names; without it the transport is good for a check only. Where one cannot be had, the
    transport reaches nobody. Raises: ConfigError that names every fault.
    """
    made = _checked(name, locked.without(table), locked.faults(table))
    if read is None or locked.without(table) == table:
        return made
    try:
        return _checked(name, locked.filled(table, read), [])
    except (secret.NoSecret, ConfigError) as error:
        return locked.Locked(str(error))


def _checked(name: str, table: Mapping[str, object], before: list[str]) -> Transport:
    kind = str(table.get("kind", ""))
    if kind not in KEYS:
        raise ConfigError(
            f"mail transport `{name}`: `kind` must be one of {', '.join(sorted(KEYS))}, not `{one_line(kind)}`"
        )
    values = {key: value for key, value in table.items() if key != "kind"}
    faults = [*before, *_key_faults(kind, values), *_value_faults(kind, values)]
    if faults:
        raise ConfigError(f"mail transport `{name}`: " + "; ".join(faults))
    return _make(kind, values)


def _key_faults(kind: str, values: Mapping[str, object]) -> list[str]:
    faults = []
    for key, value in values.items():
        wanted = KEYS[kind].get(key)
        if wanted is None:
            near = difflib.get_close_matches(key, KEYS[kind], 1)
            faults.append(f"`{one_line(key)}` is no key of it" + (f"; did you mean `{near[0]}`?" if near else ""))
        elif not isinstance(value, (int, float) if wanted is float else wanted) or isinstance(value, bool):
            faults.append(f"`{key}` must be of type {wanted.__name__}")
        elif wanted is list and not (value and all(isinstance(part, str) for part in list(value))):  # type: ignore[call-overload]
            faults.append(f"`{key}` must be a list of texts, and not empty")
    if NEEDED.get(kind, kind) not in values and kind in NEEDED:
        faults.append(f"`{NEEDED[kind]}` is missing")
    return faults


def _value_faults(kind: str, values: Mapping[str, object]) -> list[str]:
    faults = []
    timeout_s = values.get("timeout_s", TIMEOUT_S)
    if isinstance(timeout_s, (int, float)) and not 0.1 <= timeout_s <= 600:
        faults.append("`timeout_s` must be between 0.1 and 600")
    port = values.get("port", 1)
    if isinstance(port, int) and not 1 <= port <= 65535:
        faults.append("`port` must be between 1 and 65535")
    if kind == "smtp":
        faults.extend(_smtp_faults(values))
    if kind == "webhook" and not re.match(r"https?://[^\s/]+", str(values.get("url", "https://x"))):
        faults.append("`url` must begin with https:// or http://")
    headers = values.get("headers", {})
    if isinstance(headers, Mapping) and any(re.search(r"[\r\n]", f"{name}{value}") for name, value in headers.items()):
        faults.append("`headers` have a line break")
    return faults


def _smtp_faults(values: Mapping[str, object]) -> list[str]:
    faults = []
    tls = values.get("tls", "")
    if tls not in DEFAULT_PORTS:
        faults.append("`tls` must be `starttls` or `ssl`")
    if bool(values.get("username")) != bool(values.get("password")):
        faults.append("`username` and `password` belong together, and only one is set")
    if values.get("username") and not tls and values.get("server") not in ("localhost", "127.0.0.1", "::1"):
        faults.append("a password is not sent in clear to another host: set `tls`")
    return faults


def _make(kind: str, values: Mapping[str, object]) -> Transport:
    """Make a transport of values that were checked."""
    timeout_s = float(str(values.get("timeout_s", TIMEOUT_S)))
    text = {key: str(value) for key, value in values.items()}
    command = tuple(str(part) for part in values.get("command", ())) or (DEFAULT_SENDMAIL,)  # type: ignore[attr-defined]
    if kind == "smtp":
        tls = text.get("tls", "")
        port = int(text.get("port", DEFAULT_PORTS[tls]))
        login = (text.get("username", ""), text.get("password", ""), text.get("ca_file", ""))
        return Smtp(Server(text["server"], port, tls, *login), timeout_s)
    if kind == "lmtp":
        return Lmtp(text["server"], int(text.get("port", 24)), timeout_s)
    if kind == "sendmail":
        return Sendmail(command, timeout_s)
    if kind == "maildir":
        return Maildir(os.path.expanduser(text["directory"]))
    if kind == "command":
        return Command(command, timeout_s)
    headers = values.get("headers", {})
    assert isinstance(headers, Mapping)
    return Webhook(text["url"], {str(name): str(value) for name, value in headers.items()}, timeout_s)
