"""Formulas that are written as plain text in docstrings, as HTML: Greek letters, sub- and superscripts."""

from __future__ import annotations

import re
from html import escape

_NAMES = "alpha|beta|gamma|delta|epsilon|eta|theta|lambda|mu|nu|xi|rho|sigma|tau|phi|psi|omega"
_LETTERS = dict(zip(_NAMES.split("|"), "αβγδεηθλμνξρστφψω", strict=True))
_GREEK = re.compile(rf"(?<![A-Za-z])({_NAMES})(_bar)?(?![A-Za-z])")
_INDEXED = re.compile(
    r"(?<![A-Za-z_])(?P<letter>min|max|[A-Za-zα-ω]\u0304?)(?P<marks>(?:[_^](?:\([^()]*(?:\([^()]*\)[^()]*)*\)|-?[A-Za-z0-9α-ω]+"
    r"|[-+*]))+)(?![A-Za-z_])|(?P<bar>\|)(?P<power>[_^][0-9])"
)
_SIGNS = (("&lt;=", "≤"), ("&gt;=", "≥"), ("+-", "±"), ("-+", "∓"))


def formulas(text: str) -> str:
    """Return text as HTML in which what looks like a formula is set as one.

    Examples
    --------
    >>> formulas("T^-_c = (1-c)/lambda, |theta|^2 >= alpha^(2(L-1)c) & test_accuracy")
    'T<sup>−</sup><sub>c</sub> = (1−c)/λ, |θ|<sup>2</sup> ≥ α<sup>2(L−1)c</sup> &amp; test_accuracy'
    """
    found = escape(text)
    for plain, sign in _SIGNS:
        found = found.replace(plain, sign)
    found = _GREEK.sub(lambda match: _LETTERS[match[1]] + ("\u0304" if match[2] else ""), found)
    found = re.sub(r"\b([lL])([12])-(?=margin)", r"ℓ<sub>\2</sub>-", found)
    found = _INDEXED.sub(_indexed, found)
    found = re.sub(r"&lt;([^&<>]{1,40}, [^&]{1,40})&gt;", r"⟨\1⟩", found)
    return re.sub(r"(?<=[\w)])-(?=\w?[)/])|(?<=[(])-(?=\w)|(?<= )-(?= )", "−", found)


def _indexed(match: re.Match[str]) -> str:
    marks = match["marks"] or match["power"]
    parts = re.findall(r"([_^])(\([^()]*(?:\([^()]*\)[^()]*)*\)|[^_^]+)", marks)
    return (match["letter"] or match["bar"]) + "".join(_mark(*part) for part in parts)


def _mark(where: str, what: str) -> str:
    tag = "sub" if where == "_" else "sup"
    inner = what[1:-1] if what.startswith("(") and what.endswith(")") else what
    return f"<{tag}>{inner.replace('-', '−')}</{tag}>"
