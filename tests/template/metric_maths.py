"""The metric maths that infra/alarms.yaml uses, evaluated on synthetic series."""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping, Sequence
from typing import Any

Points = Sequence[float | None]
"""One value per period, oldest first; None where nothing was published."""

_ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
_COMPARISON = {ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Lt: operator.lt, ast.LtE: operator.le}
_OPERATORS = {"GreaterThanThreshold": operator.gt, "LessThanThreshold": operator.lt}


def metrics_of(alarm: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The metrics that an alarm reads, by id; an alarm on one metric calls it ``value``."""
    properties = alarm["Properties"]
    if "Metrics" not in properties:
        return {"value": properties | {"Stat": properties["Statistic"]}}
    return {
        query["Id"]: query["MetricStat"]["Metric"] | {key: query["MetricStat"][key] for key in ("Period", "Stat")}
        for query in properties["Metrics"]
        if "MetricStat" in query
    }


def fires(alarm: Mapping[str, Any], series: Mapping[str, Points]) -> bool:
    """Whether an alarm is in ALARM after the last period of ``series`` (by metric id; absent: nothing published)."""
    properties = alarm["Properties"]
    judged = properties["EvaluationPeriods"]
    needed = properties.get("DatapointsToAlarm", judged)
    periods = max((len(points) for points in series.values()), default=judged)
    rows = [{name: points[at] for name, points in series.items()} for at in range(periods)]
    values = [_value(properties.get("Metrics"), dict.fromkeys(metrics_of(alarm)) | row) for row in rows]
    missing_breaches = properties["TreatMissingData"] == "breaching"
    beyond = _OPERATORS[properties["ComparisonOperator"]]
    breaches = [
        missing_breaches if value is None else beyond(value, properties["Threshold"]) for value in values[-judged:]
    ]
    return sum(breaches) >= needed


def _value(queries: Sequence[Mapping[str, Any]] | None, row: Mapping[str, float | None]) -> float | None:
    if queries is None:
        return row["value"]
    expressions = {query["Id"]: query["Expression"] for query in queries if "Expression" in query}
    [returned] = [query["Id"] for query in queries if query.get("ReturnData", True)]

    def named(name: str) -> float | None:
        if name in expressions:
            return evaluate(ast.parse(expressions[name], mode="eval").body)
        return row[name]

    def evaluate(node: ast.expr) -> float | None:
        match node:
            case ast.Constant(value=int() | float() as value):
                return value
            case ast.Name(id=name):
                return named(name)
            case ast.BinOp(left=left, op=op, right=right):
                return _both(_ARITHMETIC[type(op)], evaluate(left), evaluate(right))
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return _both(_COMPARISON[type(op)], evaluate(left), evaluate(right))
            case ast.Call(func=ast.Name(id="IF"), args=[test, then, otherwise]):
                chosen = evaluate(test)
                return None if chosen is None else evaluate(then if chosen else otherwise)
            case ast.Call(func=ast.Name(id="FILL"), args=[of, instead]):
                return evaluate(instead) if (value := evaluate(of)) is None else value
            case ast.Call(func=ast.Name(id="SUM" | "MAX" as function), args=[ast.List(elts=parts)]):
                present = [value for part in parts if (value := evaluate(part)) is not None]
                return {"SUM": sum, "MAX": max}[function](present) if present else None
            case _:
                raise AssertionError(f"not in this evaluator: {ast.dump(node)}")

    return named(returned)


def _both(operation: Any, left: float | None, right: float | None) -> float | None:
    """A point exists where both have one, and dividing by 0 gives none."""
    if left is None or right is None or (operation is operator.truediv and right == 0):
        return None
    return float(operation(left, right))
