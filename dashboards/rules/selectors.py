"""Changes to the series that an expression reads, by a scan of its text.

The scan knows strings and lists of labels, so a label is never taken for a series. A parser of PromQL is in no package
that the exporter depends on.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from textwrap import indent

from labels import OF_MACHINE

_STRING = r'"(?:[^"\\]|\\.)*"'
_LABELS = r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)"
_TOKEN = re.compile(rf'{_STRING}|{_LABELS}|(?P<name>[a-zA-Z_:][\w:]*)(?P<matchers>\{{(?:{_STRING}|[^"}}])*\}})?')
_MATCHER = re.compile(rf"(\w+)\s*(=~|!~|!=|=)\s*({_STRING})")
_WORD = r"[\w, -]+"


def without_recordings(expression: str, recordings: Mapping[str, str]) -> str:
    """Return the expression with the expressions of recorded series in place of their names.

    ``recordings`` has them by name; they may read recorded series, too. Matchers on a recorded series become joins with
    a constant that has these labels. Raises ValueError for a matcher that is not a list of words.
    """

    def in_place(name: str, matchers: str) -> str:
        if name not in recordings:
            return name + matchers
        recorded = _block(without_recordings(recordings[name], recordings))
        joins = [f"and on ({label}) ({_constant(label, words)})" for label, words in _matched(matchers)]
        return _block("\n".join([recorded, *joins])) if joins else recorded

    return _each(expression, in_place)


def lasting(expression: str, period: str, *, of_machines: bool) -> str:
    """Return the expression with the last values, of a period such as ``15m``, of machines without a sample now.

    These are the machines that cannot be scraped, that cannot be sampled, or whose exporter has just started. If the
    result is ``of_machines``, it is asked twice, now and of the last values. Otherwise each series is, which is slower.
    """
    sampled = f"unless on ({OF_MACHINE}) kvm_exporter_sample_success == 1"

    def last(name: str, matchers: str) -> str:
        selector = name + matchers
        return f"last_over_time({selector}[{period}])" if name.startswith("kvm_") else selector

    def now_or_last(name: str, matchers: str) -> str:
        selector = name + matchers
        return f"({selector} or {last(name, matchers)} {sampled})" if name.startswith("kvm_") else selector

    if of_machines:
        return f"{_block(expression)}\nor\n{_block(_each(expression, last))} {sampled}"
    return _each(expression, now_or_last)


def _each(expression: str, change: Callable[[str, str], str]) -> str:
    """Return the expression with each name, and the matchers after it, changed; functions and operators are names."""

    def changed(found: re.Match[str]) -> str:
        if not found["name"]:
            return found[0]
        line = expression[: found.start()].rpartition("\n")[2]
        margin = line[: len(line) - len(line.lstrip())]
        return indent(change(found["name"], found["matchers"] or ""), margin).removeprefix(margin)

    return _TOKEN.sub(changed, expression)


def _matched(matchers: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each label and the words of which it has to be one."""
    for label, operator, text in _MATCHER.findall(matchers):
        words = text[1:-1].split("|") if operator == "=~" else [text[1:-1]]
        if operator.startswith("!") or not all(re.fullmatch(_WORD, word) for word in words):
            raise ValueError(f"{matchers} on a recorded series has no translation; use = or =~ with words between |")
        yield label, words


def _constant(label: str, words: list[str]) -> str:
    return " or ".join(f'label_replace(vector(1), "{label}", "{word}", "", "")' for word in words)


def _block(expression: str) -> str:
    return f"(\n{indent(expression, '  ')}\n)"
