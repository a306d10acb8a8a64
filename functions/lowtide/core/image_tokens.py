"""Token counts of pictures, by the rules of their models.

Source: OpenAI's guide to images and vision (developers.openai.com/api/docs/guides/images-vision: choosing a detail
level, model sizing behaviour, calculating costs), as of 2026. Where public measurements differ from it, they are lower
(gpt-5-mini: 1.2 tokens a patch). An estimate had better be above.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_PATCH = 32
_TILE = 512
_LOW = 512
"""Side in pixels of the square that a picture of low detail is scaled to fit."""
_UNKNOWN = (2_048, 2_048)
"""Size that is assumed where it cannot be read, or the picture is a URL or a file id."""
_MOST_PATCHES = 30_000
"""No model takes a picture of more patches."""


@dataclass(frozen=True, slots=True)
class _Patches:
    """Rule for models that count patches: ``multiplier`` tokens for each patch of the scaled picture."""

    multiplier: float
    high: int
    high_side: int = 2_048
    original: int | None = None
    """None: the model has no such detail, and ``auto`` is ``high``."""
    original_side: int = 6_000

    def tokens(self, size: tuple[int, int], detail: str) -> int:
        if detail == "low":
            patches = _covered(*_within(size, _LOW, _MOST_PATCHES))
        elif detail == "high" or self.original is None:
            patches = _covered(*_within(size, self.high_side, self.high))
        else:
            patches = _covered(*_within(size, self.original_side, self.original))
        return math.ceil(patches * self.multiplier)


@dataclass(frozen=True, slots=True)
class _Tiles:
    """Rule for models that count tiles: ``base`` tokens, and ``tile`` more for each square of 512 pixels.

    The picture is scaled to fit 2,048 pixels, and its shorter side to 768. Low detail has no tiles.
    """

    base: int
    tile: int

    def tokens(self, size: tuple[int, int], detail: str) -> int:
        if detail == "low":
            return self.base
        width, height = _scaled(size, min(1.0, 2_048 / max(size)))
        width, height = _scaled((width, height), min(1.0, 768 / min(width, height)))
        return self.base + self.tile * math.ceil(width / _TILE) * math.ceil(height / _TILE)


_UNBOUNDED = 65_535
"""Longest side in pixels for models that do not resize."""
_CURRENT = _Patches(1.2, 2_500, high_side=_UNBOUNDED, original=_MOST_PATCHES, original_side=_UNBOUNDED)
"""GPT-5.6 and later: ``auto`` is ``original``, and that is not resized."""
_RULES: tuple[tuple[str, _Patches | _Tiles], ...] = (
    (r"gpt-4o-mini", _Tiles(2_833, 5_667)),
    (r"gpt-4\.1-mini", _Patches(1.62, 1_536)),
    (r"gpt-4\.1-nano", _Patches(2.46, 1_536)),
    (r"(chat)?gpt-4|gpt-4\.5", _Tiles(85, 170)),
    (r"o4-mini|codex-mini", _Patches(1.72, 1_536)),
    (r"o[134]\b", _Tiles(75, 150)),
    (r"computer-use", _Tiles(65, 129)),
    (r"gpt-5-mini|gpt-5\.4-mini", _Patches(1.62, 1_536)),
    (r"gpt-5-nano|gpt-5\.4-nano", _Patches(2.46, 1_536)),
    (r"gpt-5(-chat.*|-\d{4}-.*|-pro.*)?$", _Tiles(70, 140)),
    (r"gpt-5(\.[0-3]|-)", _Patches(1.62, 1_536)),
    (r"gpt-5\.[45]", _Patches(1.2, 2_500, original=10_000)),
)


def image_tokens(model: str, size: tuple[int, int] | None, detail: str) -> int:
    """Return the tokens of a picture, at most 36,000. ``detail`` is ``low``, ``high``, ``original`` or ``auto``.

    A model without a rule of its own counts like OpenAI's current models.
    """
    name = model.rpartition("/")[2].lower()  # gateways put a provider's name before it
    rule = next((rule for pattern, rule in _RULES if re.match(pattern, name)), _CURRENT)
    return rule.tokens(size or _UNKNOWN, detail)


def _within(size: tuple[int, int], side: int, patches: int) -> tuple[int, int]:
    """Scale the picture down until it fits; never up."""
    width, height = size
    if _covered(width, height) <= patches and max(size) <= side:
        return size
    scale = min(1.0, side / max(size), math.sqrt(_PATCH**2 * patches / (width * height)))
    across, down = width * scale / _PATCH, height * scale / _PATCH
    if _covered(*_scaled(size, scale)) > patches:
        # Whole patches: the shorter side decides by how much it has to be smaller yet.
        scale *= min(max(1.0, math.floor(across)) / across, max(1.0, math.floor(down)) / down)
    return _scaled(size, scale)


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))


def _covered(width: int, height: int) -> int:
    return min(_MOST_PATCHES, math.ceil(width / _PATCH) * math.ceil(height / _PATCH))
