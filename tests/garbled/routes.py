"""routes.toml as no deployer should write it, each a function of its dice."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from random import Random

HUGE = (
    "9" * 30,
    "-" + "9" * 20,
    "9" * 5_000,
    "0x" + "f" * 400,
    "0x" + "f" * 40_000,
    "1" + "_0" * 3_000,
    "1e400",
    "-1e400",
    "0." + "7" * 20_000,
    str(2**63),
    str(2**64),
    str(-(2**63) - 1),
)
VALUES = (
    *("nan", "-nan", "inf", "-inf", "0", "-1", "1", "0.0", "-0.0", "1e308", "5e-324", "true", "false", '""', '" "'),
    *("[]", "{}", "[[]]", "[1, 'a', 1.5]", "[{}]", "{ a = 1 }", "[[1], [[2]]]", '["batch", "batch"]', '["flex", 7]'),
    *("1979-05-27", "9999-12-31", "0001-01-01", "07:32:00", "1979-05-27T07:32:00Z", "1979-05-27T07:32:00-07:00"),
    *("'*'", "'auto'", "'generic'", "'default'", "'LOW'", "'openai'", "'http://[::1'", "'https://x:99999/v1'", "'//x'"),
    *('"\\u0000"', '"\\u001b[31m"', '"\\u2028"', '"\\uffff"', '"\\n"', "'''\n[tiers]\n'''", '"""a\nb = 1\n"""'),
    *('"' + "x" * 3_000 + '"', "'" + "ä" * 300 + "'", "[" * 60 + "]" * 60, "[" * 5_000 + "]" * 5_000),
    *("{a = " * 60 + "1" + "}" * 60, "[" + "1," * 2_000 + "]", "[{ size = 1 }]", "[{ above = 1e3, size = 500 }]"),
    *HUGE,
)
KEYS = (
    *('""', '" "', "'\\'", '"\\u0000"', '"a.b"', "a.b.c", ".".join(["a"] * 15), ".".join(["a"] * 2_000), "'[x]'", "0"),
    *("models.'*'", "version", "name", "tiers.LOW.cap", "types.safety_check", "providers.'two words'", "'é'", '"=#"'),
    *("never_batch.types", "auto.settings.x", "limits.max_tokens", "batching.ladder", "providers.openai.off_peak"),
    *("models.'gpt-5'.fallback", "models.gpt.provider", "profiles.auto", "templates.generic", "x" * 5_000),
)
BYTES = (
    "\0",
    "\ufeff",
    "\r",
    "\r\n",
    "\n",
    "\x1b",
    "\u2028",
    "\ud800",
    '"',
    "'",
    '"""',
    "'''",
    "[",
    "]",
    "{",
    "}",
    "=",
    ".",
    "#",
)
WHOLE = (
    "",
    "\n" * 1_000,
    "\0" * 100,
    "\ufeff",
    "not toml",
    "{}",
    "[",
    "=" * 1_000,
    "a" * 200_000,
    "#" * 300_000,
    '"""' * 30_000,
    "'''" * 30_000,
    '\\"""' * 30_000,
    "." * 50_000,
    "a." * 50_000 + "a = 1",
    "[" + "a." * 2_000 + "a]",
    "x = " + "[" * 100_000,
    "x = " + "{a=" * 50_000,
    "x = " + "9" * 200_000,
    "x = " + "1_" * 90_000 + "1",
    "tiers = 1",
    "remove = ['tiers', 'models', 'types']\n[profiles]\n[never_batch]",
)


@cache
def shipped() -> str:
    return files("lowtide").joinpath("routes.toml").read_text(encoding="utf-8")


def routes_file(dice: Random) -> str:
    """The shipped file with a few things wrong with it; now and then nothing of it."""
    if dice.random() < 0.05:
        return dice.choice((*WHOLE, shipped().encode("utf-16").decode("latin-1"), shipped()[::-1]))
    text = shipped()
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        if text.count("\n") < 2 or "=" not in text:
            return text
        text = dice.choice((_value, _value, _value, _key, _name, _line, _bytes))(dice, text)
    return text


def _value(dice: Random, text: str) -> str:
    """Another value after one of its equals signs."""
    lines = text.split("\n")
    place = dice.choice([number for number, line in enumerate(lines) if "=" in line])
    key, *values = lines[place].split("=")
    at = dice.randrange(len(values))
    ending = values[at][values[at].rfind(",") :] if at < len(values) - 1 and "," in values[at] else ""
    values[at] = f" {dice.choice(VALUES)}{ending}{' }' if '}' in values[-1] and at == len(values) - 1 else ''}"
    lines[place] = "=".join([key, *values])
    return "\n".join(lines)


def _key(dice: Random, text: str) -> str:
    """One key more, anywhere."""
    lines = text.split("\n")
    lines.insert(dice.randrange(len(lines) + 1), f"{dice.choice(KEYS)} = {dice.choice(VALUES)}")
    return "\n".join(lines)


def _name(dice: Random, text: str) -> str:
    """A name that others refer to is another one from now on, in one place or in all."""
    old = dice.choice(
        ("openai", "gpt-5-mini", "gpt-5-nano", "standard", "simple", "generic", "summary", "LOW", '"*"', "batch")
    )
    new = dice.choice(("", " ", "nobody", "auto", "*", "\\u0000", "x" * 300, "LOW", "default", "a b"))
    return text.replace(old, new, dice.choice((1, 1, -1)))


def _line(dice: Random, text: str) -> str:
    lines = text.split("\n")
    at, to = sorted(dice.sample(range(len(lines)), 2))
    match dice.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(to, lines[at])
        case 2:
            lines[at], lines[to] = lines[to], lines[at]
        case _:
            del lines[at : min(to, at + 30)]
    return "\n".join(lines)


def _bytes(dice: Random, text: str) -> str:
    for _ in range(dice.randint(1, 4)):
        place = dice.randrange(len(text))
        text = text[:place] + dice.choice(BYTES) + text[place + dice.randint(0, 2) :]
    return text[: dice.randrange(len(text))] if dice.random() < 0.1 else text
