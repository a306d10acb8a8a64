"""CloudFormation's YAML and its functions, evaluated as far as the parameters go.

What only a deployment knows (a resource's name or attribute) stays as it is, in the long form: ``{"Ref": "Table"}``,
``{"Fn::GetAtt": ["Table", "Arn"]}``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

NO_VALUE = {"Ref": "AWS::NoValue"}
"""A property or a list's entry that is left out."""

_PLACEHOLDER = re.compile(r"\$\{([A-Za-z0-9:.]+)\}")


def read_yaml(path: Path) -> dict[str, Any]:
    """A template's document with every short tag (``!Ref``, ``!Sub`` …) in its long form."""
    # The loader is a SafeLoader: it builds plain values only.
    document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506
    if not isinstance(document, dict):
        raise TypeError(f"{path} is no template: its top is not a mapping")
    return document


class _Loader(yaml.SafeLoader):
    pass


def _long_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _long_form)


class Evaluator:
    """Evaluates values of one template under its parameters and ``known``: what ``Ref`` gives for a resource or a
    pseudo parameter, and what ``GetAtt`` gives under ``Resource.Attribute``."""

    def __init__(
        self, document: Mapping[str, Any], parameters: Mapping[str, str], known: Mapping[str, str] | None = None
    ) -> None:
        self._conditions: Mapping[str, Any] = document.get("Conditions", {})
        self._refs: dict[str, Any] = {}
        for name, declared in document.get("Parameters", {}).items():
            value = parameters.get(name, declared.get("Default"))
            if value is not None:
                text = str(value)
                self._refs[name] = text.split(",") if declared["Type"] == "CommaDelimitedList" else text
        unknown = parameters.keys() - document.get("Parameters", {}).keys()
        if unknown:
            raise KeyError(f"the template has no parameter {', '.join(sorted(unknown))}")
        self._refs.update(known or {})

    def condition(self, name: str) -> bool:
        """Raises ValueError where it depends on what only a deployment knows."""
        value = self.value(self._conditions[name])
        if not isinstance(value, bool):
            raise ValueError(f"condition {name} cannot be told from the parameters: {value}")  # noqa: TRY004
        return value

    def value(self, value: Any) -> Any:
        """``value`` with everything evaluated that can be."""
        if isinstance(value, list):
            evaluated = [self.value(entry) for entry in value]
            return [entry for entry in evaluated if entry != NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(function, argument)] = value.items()
            if function in {"Ref", "Condition"} or function.startswith("Fn::"):
                return self._call(function, argument)
        evaluated_items = {name: self.value(entry) for name, entry in value.items()}
        return {name: entry for name, entry in evaluated_items.items() if entry != NO_VALUE}

    def _call(self, function: str, argument: Any) -> Any:
        match function, argument:
            case "Ref", str(name):
                return self._refs.get(name, {"Ref": name})
            case "Fn::GetAtt", [str(name), str(attribute)]:
                return self._refs.get(f"{name}.{attribute}", {"Fn::GetAtt": [name, attribute]})
            case "Condition", str(name):
                return self.condition(name)
            case "Fn::If", [str(name), then, otherwise]:
                return self.value(then if self.condition(name) else otherwise)
            case "Fn::Equals", [left, right]:
                return bool(self.value(left) == self.value(right))
            case "Fn::Not", [inner]:
                return not self.value(inner)
            case "Fn::And", list(inner):
                return all(self.value(entry) for entry in inner)
            case "Fn::Or", list(inner):
                return any(self.value(entry) for entry in inner)
            case "Fn::Join", [str(separator), parts]:
                joined = self.value(parts)
                if isinstance(joined, list) and all(isinstance(part, str) for part in joined):
                    return separator.join(joined)
                return {"Fn::Join": [separator, joined]}
            case "Fn::Sub", str(text):
                return self._sub(text)
            case _:
                return {function: self.value(argument)}

    def _sub(self, text: str) -> Any:
        filled = _PLACEHOLDER.sub(lambda match: str(self._refs.get(match[1], match[0])), text)
        return {"Fn::Sub": filled} if _PLACEHOLDER.search(filled) else filled
