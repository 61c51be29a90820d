"""Small programs inside a command line in normal form: sed, awk, jq, SQL, Python, modes of chmod.

Only layout is taken away. Nothing is executed. This module must never know a command line.
"""

from __future__ import annotations

import ast
import re
from collections import deque

import orjson

from pivotrl.verifiers import sql
from pivotrl.verifiers.python_code import parsed
from pivotrl.verifiers.shell_python import inlined, with_whole_names

MAX_SCRIPT, MAX_STEPS = 2_000, 40
_SUBSTITUTE = re.compile(
    r"s(?P<d>[/|#,@!:%_])(?P<old>(?:\\.|(?!(?P=d))[^\\])*)(?P=d)"
    r"(?P<new>(?:\\.|(?!(?P=d))[^\\])*)(?P=d)(?P<end>\w*)", re.DOTALL
)  # fmt: skip
_NAME_DOT = re.compile(r"(?<=[A-Za-z]{2})\\\.(?=[A-Za-z]{2})")
"""In the name of a host or a file, where an escape is often left out."""
_CLASSES = re.compile(r"[*+?^$\[\]]")
_ONE_LINE = re.compile(r"(\d*|\\?\$) ?([iac])(?: *\\\n?([ \t]*)| *)(\S[^\n]*)")
"""A line put in, after or in place of another, with or without a backslash before it."""
_SPECIAL = re.compile(r"\\[+?(){}|]|[+?(){}|]")
_ADDRESS = re.compile(
    r"(?:(?:\d+|\\?\$|/(?:\\.|[^/\\\n])*/)(?:, ?(?:\+?\d+|\\?\$|/(?:\\.|[^/\\\n])*/))? ?!? ?)?"
)
_LETTER = re.compile(r"[dpqDPnNgGhHx=](?=\s*(?:[;\n]|\Z))")
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|/(?:\\.|[^/\\\n])*/|\s+|.', re.DOTALL)
_LOOSE = set("{}()[],;:|=<>!+*&?")
"""Next to them a space says nothing, if what is on its other side cannot join them."""
_JOINS = set("=<>!+*&|?/~^%-")
_MODE = re.compile(r"([ugoa]*)([=+-])([rwxXst]*)")
_BITS = {"r": 4, "w": 2, "x": 1}
_NEXT = re.compile(r"\s*[;\n]\s*")
_AWK_NAME = re.compile(
    r'"(?:\\.|[^"\\])*"|/(?:\\.|[^/\\\n])*/|(?<![\w.])(?!(?:print|printf|if|else|for|while|do|in|next'
    r"|exit|getline|delete|length|function|return|break|continue)\b)([a-z_]\w*)(?![\w(])"
)
"""Strings and patterns, or a name of the program's own: what is awk's is a call or in capitals."""
_ONE_MORE = re.compile(r"(?<=[{;}\n])([a-z_]\w{0,40}(?:\[[^\[\]\n]{1,80}\])?)\+=1(?=[;}\n])")
_ADDED = re.compile(
    r"(?<![\w$\]])([a-z_]\w{0,40}(?:\[[^\[\]\n]{1,80}\])?)=\1\+((?:\\?\$)?\w+)(?=[;}\n])"
)
_BEGIN = re.compile(r"BEGIN\{[^{}]*\}")
_ZEROED = re.compile(r'(?<=[{;\n])([a-z_]\w*)=(?:0|"")(?:[;\n]|(?=\}))')
"""A variable that is set to what it is before."""
_WHOLE_LINE = re.compile(r"\blength\(\\?\$0\)")
_JQ_PATH = re.compile(r"\.[\w.\[\]?:]*")
_JQ_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\|=|.', re.DOTALL)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.Global)
"""Where names may be those of others."""
_OPENS = re.compile(r"open|load\w*|read\w*|Path|exists|is(?:file|dir)|listdir|glob|stat|connect")
"""Calls whose first argument names a file."""
_RUN_THROUGH = ("sum", "max", "min", "any", "all", "set", "sorted")


def normal_script(language: str, text: str, directory: str | None = None) -> str:
    """One form for programs that differ in layout alone; the text itself where that is not sure.

    `directory` is where it runs.
    """
    if len(text) > MAX_SCRIPT:
        return text
    if language in ("sed", "sed -E"):
        return _sed(text, language == "sed -E")
    if language in ("awk", "jq"):
        return _renamed(_loose(text)) if language == "awk" else _jq(_loose(text))
    if language == "sql":
        return " ".join(sql.words(text.strip().rstrip("; \n")))
    if language == "mode":
        return _mode(text)
    if language == "header":
        name, colon, value = text.partition(":")
        return f"{name.lower()}: {value.strip()}" if colon and value.strip() else text
    if language == "json" and text[:1] in ("{", "["):
        try:
            return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS).decode()
        except (orjson.JSONDecodeError, TypeError, RecursionError):
            return text
    tree = parsed(text) if language in ("python", "python keys") else None
    if tree is None:
        return text
    try:  # of keys more are to come: what is used once there may be used again
        return ast.unparse(_python(tree, directory) if language == "python" else tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text


def _basic(pattern: str) -> str:
    """An extended pattern as a basic one."""
    return _SPECIAL.sub(lambda m: m[0][1:] if len(m[0]) > 1 else f"\\{m[0]}", pattern)


def _sed(text: str, extended: bool) -> str:
    """Substitutions with one mark, a line each; commands of one letter after the other."""
    if line := _ONE_LINE.fullmatch(text.strip()):
        kept = f"\\{line[3]}" if line[3] else " "  # only what a backslash begins
        return f"{line[1]}{line[2]}{kept}{line[4]}"
    pieces, rest, substitutes = list[str](), text.strip(), False
    while rest and (at := _ADDRESS.match(rest)):
        where = at[0].replace(" ", "") if "/" not in at[0] else at[0].rstrip()
        if found := _SUBSTITUTE.match(rest, at.end()):
            mark, substitutes = found["d"], True
            if mark != "/" and f"\\{mark}" in found[0]:
                return text
            old, new = (found[part].replace(r"\/", "/") for part in ("old", "new"))
            old = old if _CLASSES.search(old) else _NAME_DOT.sub(".", old)
            old, where = (_basic(t) if extended else t for t in (old, where))
            pieces.append(where + "\0".join(["s", old, new, found["end"]]))
        elif found := _LETTER.match(rest, at.end()):
            pieces.append(where + found[0])
        else:
            return text
        rest = _NEXT.sub("", rest[found.end() :], count=1)
    return text if rest else ("\n" if substitutes else ";").join(pieces)


def _jq(text: str) -> str:
    """Paths in one, `map(f) | .[]` and `[.[] | f] | .[]` as `.[] | f`, `[.[] | f]` as `map(f)`."""
    steps: list[str] = []
    queue = deque(_piped(text))
    for _ in range(MAX_STEPS):
        if not queue:
            break
        step, before = queue.popleft(), steps[-1] if steps else ""
        mapped, listed = _inside(before, "map("), _inside(before, "[")
        path = _JQ_PATH.fullmatch(step)
        given = _piped(_inside(step, "["))
        if path and step.startswith(".[]") and (mapped or listed):
            after = [f".{step[3:].lstrip('.')}"] * (step != ".[]")
            steps[-1:] = []
            queue.extendleft(reversed([*[".[]"] * bool(mapped), *_piped(mapped or listed), *after]))
        elif path and _JQ_PATH.fullmatch(before):
            steps[-1] = re.sub(r"(?<=.)\.(?=\[)", "", before.rstrip(".") + step)
        elif _JQ_PATH.fullmatch(given[0]) and "[]" in given[0]:
            of, _, then = given[0].partition("[]")
            inner = [f".{then.lstrip('.')}"] * bool(then) + given[1:]
            if not inner:
                steps.append(step)
                continue
            queue.extendleft([f"map({'|'.join(inner)})", of or "."])
        else:
            steps.append(step)
    return "|".join(step for step in [*steps, *queue] if step != ".") or "."


def _piped(text: str) -> list[str]:
    """The steps of a jq program; brackets and strings keep theirs."""
    steps, depth = [""], 0
    for token in _JQ_TOKEN.findall(text):
        depth += (token in ("(", "[", "{")) - (token in (")", "]", "}"))
        if token == "|" and depth == 0:
            steps.append("")
        else:
            steps[-1] += token
    return steps


def _inside(step: str, opens: str) -> str:
    """What stands in one pair of brackets; empty where that is not all."""
    if not step.startswith(opens):
        return ""
    depth, tokens = 0, _JQ_TOKEN.findall(step)
    for index, token in enumerate(tokens):
        depth += (token in ("(", "[", "{")) - (token in (")", "]", "}"))
        if depth == 0 and token in (")", "]", "}"):
            return step[len(opens) : -1] if index == len(tokens) - 1 else ""
    return ""


def _without_zeros(found: re.Match[str]) -> str:
    """What awk does first, without variables that are set to nothing alone."""
    begin = found[0]

    def once(zeroed: re.Match[str]) -> str:
        return zeroed[0] if len(re.findall(rf"\b{zeroed[1]}=", begin)) > 1 else ""

    return _ZEROED.sub(once, begin).replace(";}", "}")


def _renamed(text: str) -> str:
    """An awk program whose variables have no names of their own."""
    text = _BEGIN.sub(_without_zeros, text).replace("BEGIN{}", "")
    text = _ADDED.sub(r"\1+=\2", _WHOLE_LINE.sub("length", text))
    text = _ONE_MORE.sub(r"\1++", text)
    names: dict[str, str] = {}
    return _AWK_NAME.sub(lambda m: names.setdefault(m[1], f"_{len(names)}") if m[1] else m[0], text)


def _python(tree: ast.Module, directory: str | None) -> ast.Module:
    """Without names of its own, short names of modules, what is used once where it is made, lists
    that are only run through, and the 0 that a range has. Changes the tree.
    """
    nodes = list(ast.walk(tree))
    own = {n.id: "" for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    if any(isinstance(node, _SCOPES) for node in nodes):
        own = {}
    else:
        tree.body = inlined(with_whole_names(tree, own))
    nodes = list(ast.walk(tree))
    stored = [n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    names = {name: f"_{index}" for index, name in enumerate(dict.fromkeys(stored))}
    for node in nodes:
        if isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id) if own else node.id
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            match node.args:
                case [ast.Constant(value=0), last] if called == "range":
                    node.args = [last]
                case [ast.ListComp() as of] if called in _RUN_THROUGH:
                    node.args = [ast.GeneratorExp(of.elt, of.generators)]
                case [ast.Constant(value=str(path)) as file, *_] if _OPENS.fullmatch(called):
                    file.value = path.removeprefix(f"{directory}/" if directory else "")
    return tree


def _loose(text: str) -> str:
    """Without spaces that part nothing; strings and patterns keep theirs."""
    if "\\(" in text or "#" in text or "\0" in text:  # strings that hold programs, comments
        return text
    tokens = _TOKEN.findall(text.strip())
    out: list[str] = []
    for index, token in enumerate(tokens):
        if not token.isspace():
            out.append(token)
            continue
        before, after = tokens[index - 1][-1], tokens[index + 1][0]
        edge = before in '{};"' or after in '};"' or _parts(tokens, index)
        if "\n" in token:
            out += [] if edge else ["\n"]
        elif not (edge or before in _LOOSE or after in _LOOSE) or {before, after} <= _JOINS:
            out.append(" ")
    return "".join(out).replace(";}", "}")


def _parts(tokens: list[str], index: int) -> bool:
    """Whether a space stands on one side of a sign that has one on its other side too."""
    after, before = tokens[index + 1 : index + 3], tokens[max(index - 2, 0) : index]
    return any(
        len(two) == 2 and two[not first] in ("-", "/", "%") and two[first].isspace()
        for first, two in ((1, after), (0, before))
    )


def _mode(text: str) -> str:
    """Octal where all rights of all are set; `a` where nobody is named."""
    found = [_MODE.fullmatch(clause) for clause in text.split(",")]
    clauses = [(c[1], c[2], "".join(sorted(set(c[3])))) for c in found if c]
    if len(clauses) < len(found):
        return text.lstrip("0").rjust(3, "0") if re.fullmatch(r"[0-7]{3,5}", text) else text
    rights = {who: right for whom, _, right in clauses for who in whom.replace("a", "ugo")}
    if len(rights) == 3 and all(sign == "=" and set(r) <= _BITS.keys() for _, sign, r in clauses):
        return "".join(str(sum(_BITS[letter] for letter in rights[who])) for who in "ugo")
    done: dict[str, str] = {}
    for whom, sign, right in clauses:
        for who in dict.fromkeys((whom or "a").replace("a", "ugo")):
            done[who] = f"{done.get(who, '')}{sign}{right}"
    return ",".join(f"{who}{done[who]}" for who in sorted(done))
