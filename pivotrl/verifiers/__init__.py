"""Verifiers: is an action as right as the demonstration? Found by domain, judged from data alone.

A verifier sees the candidate and the action and nothing else: never an environment, a model or a
store. A package can add domains through the entry-point group `pivotrl.verifiers`: the name is the
domain, the object a callable without arguments that returns a `Verifier`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Literal

from pivotrl.types import ConfigError, Verifier
from pivotrl.verifiers.browsing import BrowsingVerifier
from pivotrl.verifiers.execution import check_sandbox
from pivotrl.verifiers.software import SoftwareVerifier, ToolNameVerifier
from pivotrl.verifiers.strict import StrictVerifier
from pivotrl.verifiers.terminal import TerminalVerifier
from pivotrl.verifiers.tool_use import ToolUseVerifier

ENTRY_POINT_GROUP = "pivotrl.verifiers"
TOOL_USE_DOMAINS = ("tool_use", "retail", "airline", "telecom")
"""Conversations with tools, as in the paper's τ² domain."""
SHELL_DOMAINS: dict[str, type[SoftwareVerifier] | type[TerminalVerifier]] = {
    "software": SoftwareVerifier,
    "terminal": TerminalVerifier,
}
OWN_DOMAINS: dict[str, Callable[..., Verifier]] = {"browsing": BrowsingVerifier, **SHELL_DOMAINS}
Mode = Literal["functional", "tool_name", "strict"]


def added_versions() -> dict[str, str]:
    """Domains that installed packages add, each with `package version`."""
    return {
        point.name: f"{point.dist.name} {point.dist.version}" if point.dist else point.value
        for point in entry_points(group=ENTRY_POINT_GROUP)
    }


@lru_cache(maxsize=256)
def verifier_for(
    domain: str, mode: Mode = "functional", execute: bool = False, ask: bool = False
) -> Verifier:
    """The verifier of a domain. ConfigError if none is known.

    `strict` and `tool_name`, the paper's rule for software, are the same for all domains.
    With `execute` shell commands are run where comparison alone rejects; ConfigError where this
    machine has no sandbox. With `ask` texts, in calls and searches too, that rules cannot tell are
    undecided, for a judge.
    """
    if mode == "strict":
        return StrictVerifier()
    if mode == "tool_name":
        return ToolNameVerifier()
    if mode != "functional":
        modes = "'functional', 'tool_name' or 'strict'"
        raise ConfigError(f"verifier mode {mode!r} is unknown: use {modes}")
    added = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if domain in added:
        verifier: Verifier = added[domain].load()()
        return verifier
    if domain in TOOL_USE_DOMAINS:
        return ToolUseVerifier(ask=ask)
    if execute and domain in SHELL_DOMAINS:
        check_sandbox()
        return SHELL_DOMAINS[domain](execute=True, ask=ask)
    if domain in OWN_DOMAINS:
        return OWN_DOMAINS[domain](ask=ask)
    known = sorted({*TOOL_USE_DOMAINS, *OWN_DOMAINS, *added})
    near = difflib.get_close_matches(domain, known, 1)
    raise ConfigError(
        f"no verifier for domain {domain!r}"
        + (f" (did you mean {near[0]!r}?)" if near else "")
        + f": use one of {', '.join(known)}, or 'tool_use' for any conversation with tools"
    )
