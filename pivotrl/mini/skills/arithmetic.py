"""Arithmetic in words (AIME25) and in equations (MATH-500), answered in short steps.

Every answer is an integer. This module must never know how answers are scored.
"""

from __future__ import annotations

from random import Random

from pivotrl.types import JSON

PEOPLE = ("Ana", "Ben", "Eva", "Leo", "Mia", "Noah", "Sam", "Zoe")
OBJECTS = ("apples", "books", "cards", "coins", "eggs", "pens", "shells", "stones")
VARIABLES = ("x", "y", "n", "t")


def aime25(random: Random, level: int) -> dict[str, JSON]:
    who, what = random.choice(PEOPLE), random.choice(OBJECTS)
    a, b, c = (random.randint(2, 9) for _ in range(3))
    m = random.randint(3, 9)
    if level == 1:
        a = random.randint(11, 89)
        problem = f"{who} has {a} {what} and buys {b} more. Find the number of {what} of {who}."
        steps, answer = [f"{a} + {b} = {a + b}"], a + b
    elif level == 2:
        product, sign = a * b, random.choice("+-")
        if c >= product:
            sign = "+"
        verb = "finds" if sign == "+" else "loses"
        answer = product + c if sign == "+" else product - c
        problem = (
            f"{who} has {a} bags with {b} {what} each and {verb} {c} {what}. "
            f"Find the number of {what} of {who}."
        )
        steps = [f"{a} * {b} = {product}", f"{product} {sign} {c} = {answer}"]
    elif level == 3:
        total = a * b + c
        answer = total % m
        problem = (
            f"{who} has {a} bags with {b} {what} each and finds {c} {what}. "
            f"Find the remainder when the number of {what} is divided by {m}."
        )
        steps = [f"{a} * {b} = {a * b}", f"{a * b} + {c} = {total}", *remainder_steps(total, m)]
    else:
        a, b = random.randint(11, 19), random.randint(2, 5)
        total = a * b + c
        answer = total % m
        problem = f"Find the remainder when ${a} * {b} + {c}$ is divided by ${m}$."
        steps = [f"{a} * {b} = {a * b}", f"{a * b} + {c} = {total}", *remainder_steps(total, m)]
    return {
        "problem": problem,
        "expected_answer": str(answer),
        "reference": f"{'. '.join(steps)}. \\boxed{{{answer}}}",
    }


def remainder_steps(total: int, m: int) -> list[str]:
    """Two sums that end in `total` modulo `m`."""
    floor = total // m * m
    return [f"{m} * {total // m} = {floor}", f"{total} - {floor} = {total - floor}"]


def math500(random: Random, level: int) -> dict[str, JSON]:
    x = random.choice(VARIABLES)
    if level == 1:
        a, b, sign = random.randint(11, 89), random.randint(2, 9), random.choice("+-")
        answer = a + b if sign == "+" else a - b
        problem, steps = f"Compute ${a} {sign} {b}$.", [f"{a} {sign} {b} = {answer}"]
    elif level == 2:
        a, answer = random.randint(2, 9), random.randint(2, 59)
        problem = f"Solve ${x} + {a} = {a + answer}$ for ${x}$."
        steps = [f"{x} = {a + answer} - {a} = {answer}"]
    elif level == 3:
        a, b, answer = (random.randint(2, 9) for _ in range(3))
        problem = f"Solve ${a}{x} + {b} = {a * answer + b}$ for ${x}$."
        steps = [
            f"{a}{x} = {a * answer + b} - {b} = {a * answer}",
            f"{x} = {a * answer} / {a} = {answer}",
        ]
    else:
        a, b, c, v = (random.randint(2, 5) for _ in range(4))
        answer = a * v * v + b * v + c
        problem = f"Let $f({x}) = {a}{x}^2 + {b}{x} + {c}$. Find $f({v})$."
        steps = [
            f"{v}^2 = {v * v}",
            f"{a} * {v * v} = {a * v * v}",
            f"{b} * {v} = {b * v}",
            f"{a * v * v} + {b * v} = {a * v * v + b * v}",
            f"{a * v * v + b * v} + {c} = {answer}",
        ]
    return {
        "problem": problem,
        "answer": str(answer),
        "reference": f"{'. '.join(steps)}. \\boxed{{{answer}}}",
    }
