"""PivotRL: supervised agent trajectories in, a better agent out.

This package is the method and what it works with. It never imports Prefect: stages live in
`tasks/`, the order of stages in `flows/`.
"""

__version__ = "0.1.0"
