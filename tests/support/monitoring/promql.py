"""What an expression is made of, by Prometheus' own grammar."""

from typing import TypeVar

import promql_parser

Kind = TypeVar("Kind")


def nodes(expression: str, kind: type[Kind]) -> list[Kind]:
    """The parts of an expression that are of a kind; ValueError if it is no PromQL."""
    found: list[Kind] = []

    def visit(node: object) -> None:
        if isinstance(node, kind):
            found.append(node)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """Every selection of series, those over a range among them."""
    return nodes(expression, promql_parser.VectorSelector)
