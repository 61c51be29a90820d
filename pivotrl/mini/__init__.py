"""The embedded default: the data, skills and base model of the miniature experiment.

Only flows and tests know this package; nothing in the rest of `pivotrl` may import it.
"""
