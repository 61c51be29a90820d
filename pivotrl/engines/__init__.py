"""Where completions come from.

Sample j of a prompt draws from `types.seed_of(prompt seed, j)` in every engine; `engines.hf` is the
in-process one. This module must never know candidates or verifiers.
"""
