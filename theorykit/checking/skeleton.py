"""`theorykit new`: a check to begin from."""

from __future__ import annotations

import os
from pathlib import Path

from theorykit._numerics.errors import InputError
from theorykit.checking.contract import ID

_TEMPLATE = Path(__file__).with_name("skeleton.py.txt")


def write_skeleton(claim: str, folder: str | os.PathLike[str]) -> Path:
    """Write a file with a working check, which has a control that it refutes, for its author to change.

    Parameters
    ----------
    claim : str
        Its id, suite.name in lower case; the file is called after the name.
    folder : path-like
        Made if it is not there.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        The id is no id, the file is there already, or it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_skeleton("mine.late-phase", folder).name
    'late_phase.py'
    """
    if not isinstance(claim, str) or not ID.fullmatch(claim):
        raise InputError("claim", repr(claim), "an id, suite.name in lower case, such as 'mine.early'")
    suite, _, name = claim.partition(".")
    words = name.replace(".", "-").split("-")
    file = Path(folder) / f"{'_'.join(words)}.py"
    kind = "".join(word.capitalize() for word in words)
    kind = kind if kind[0].isalpha() else f"Claim{kind}"
    text = _TEMPLATE.read_text(encoding="utf-8")
    for mark, word in {"CLAIM_ID": claim, "CLASS_NAME": kind, "SUITE": suite}.items():
        text = text.replace(mark, word)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise InputError("claim", f"{claim!r}, for which there is {file}", "an id whose file is not there") from None
    except OSError as problem:
        raise InputError("path", f"{folder} ({problem.strerror})", "a folder that can be written") from None
    return file
