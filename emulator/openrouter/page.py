"""The page for people: what the stand-in is, what it offers, what it was asked, and how to make it fail."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any, Final

from emulator.openrouter import catalogue, faults
from emulator.openrouter.money import usd_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from emulator.openrouter.calls import Standin

REQUESTS_SHOWN: Final = 50
_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1c2330;background:#fff}
table{border-collapse:collapse;width:100%;margin:.5rem 0 2rem}
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #dfe3ea;vertical-align:top}
th{background:#f4f6fa}code,pre{font:13px ui-monospace,monospace;background:#f4f6fa}
pre{padding:.7rem 1rem;overflow:auto}
@media (prefers-color-scheme:dark){body{background:#12161d;color:#dce2ec}th,code,pre{background:#1d242f}
th,td{border-color:#313a48}}
"""
_INTRODUCTION: Final = """
<p>It speaks OpenRouter's API v1 at <code>/api/v1</code>. Every key <code>sk-or-v1-…</code> works and is opened with
1000 USD. Nothing leaves this machine and nothing costs real money; the words are invented, the accounting is exact.</p>
<pre>curl -N http://HOST/api/v1/chat/completions -H 'Authorization: Bearer sk-or-v1-dev' \\
  -H 'Content-Type: application/json' \\
  -d '{"model":"openai/gpt-4o-mini","messages":[{"role":"user","content":"Hello"}],"stream":true}'</pre>
<p>A line in the user's message decides the words: <code>/say text</code>, <code>/tokens N</code>,
<code>/repeat N word</code>, <code>/tool name {json}</code>.</p>
"""
_HOW_TO_FAIL: Final = """
<p>Three ways to switch a fault on: the header <code>X-Standin-Faults: chunk_delay_ms=50,usage_shape=ii</code>; the
model name <code>openai/gpt-4o-mini#stream_error_a=1+keepalive=5</code>; or beforehand for the next requests that match:
<code>POST /_standin/faults {"times":2,"match":{"path":"/chat/completions"},"faults":{"status":429}}</code>.</p>
"""


def render(standin: Standin, host: str) -> str:
    """The page; `host` is how its reader reached it."""
    introduction = _INTRODUCTION.replace("HOST", escape(host))
    sections = (
        _section("Keys", ("key", "balance USD", "used USD", "requests", "management"), _keys(standin)),
        _section(
            f"Last {REQUESTS_SHOWN} requests",
            ("time (UTC)", "request", "model", "status", "ms", "fault", "cost USD"),
            _requests(standin),
        ),
        _section("Faults", ("fault", "what happens"), _faults(), _HOW_TO_FAIL),
        _section("Models", ("model", "context", "in → out", "prompt", "completion", "other prices"), _models()),
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>OpenRouter stand-in</title><style>{_STYLE}</style>"
        f"<h1>OpenRouter stand-in</h1>{introduction}{''.join(sections)}</html>"
    )


def _section(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]], before: str = "") -> str:
    head = "".join(f"<th>{column}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<h2>{title}</h2>{before}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _keys(standin: Standin) -> list[tuple[str, ...]]:
    return [
        (
            account.label,
            usd_text(account.balance),
            usd_text(account.used),
            str(account.requests),
            "yes" if account.management else "",
        )
        for account in standin.accounts.by_key.values()
    ]


def _requests(standin: Standin) -> list[tuple[str, ...]]:
    return [
        (
            datetime.fromtimestamp(entry.at, UTC).strftime("%H:%M:%S"),
            f"{entry.method} {entry.path}",
            entry.model or "",
            str(entry.status or entry.state),
            f"{entry.duration_ms:.0f}",
            entry.faults,
            "" if entry.cost is None else usd_text(entry.cost),
        )
        for entry in reversed(standin.journal.newest(REQUESTS_SHOWN))
    ]


def _faults() -> list[tuple[str, str]]:
    return [(fault.written(), fault.summary) for fault in faults.TABLE]


def _models() -> list[tuple[str, ...]]:
    return [
        (
            model.id,
            f"{model.context_length:,}",
            model.architecture["modality"].replace("->", " → "),
            model.pricing["prompt"],
            model.pricing["completion"],
            ", ".join(f"{name} {_price(value)}" for name, value in model.pricing.items() if name not in _COLUMNS),
        )
        for model in catalogue.MODELS
    ]


_COLUMNS: Final = frozenset({"prompt", "completion"})


def _price(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(f"from {tier['min_prompt_tokens']:,} tokens {tier['prompt']}" for tier in value)
    return str(value)
