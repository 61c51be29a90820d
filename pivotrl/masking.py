"""Addresses without the secrets in them, for what is printed and logged."""

from __future__ import annotations

import re


def masked(text: str) -> str:
    """`user:password@` of every address in the text becomes `***@`."""
    return re.sub(r"//[^\s/]*@", "//***@", text)
