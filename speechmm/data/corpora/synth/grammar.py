"""Makes sentences for the spoken corpus: numbers, dates, times, short commands, as they are said.

A small grammar drawn from at random: about 250 different words and far more sentences than any
corpus holds, so that a test set has known words in sentences never heard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

SPLIT_SIZES = {"train": 3600, "dev": 100, "test": 200}
"""Utterances of the spoken corpus: about 2.5 hours, 5 and 10 minutes."""


def _words(listed: str) -> tuple[str, ...]:
    return tuple(listed.split())


DIGITS = _words("zero one two three four five six seven eight nine")
TEENS = _words("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen")
TENS = _words("twenty thirty forty fifty sixty seventy eighty ninety")
ORDINALS = _words(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
    "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
)
MONTHS = _words(
    "january february march april may june july august september october november december"
)
DAYS = _words("monday tuesday wednesday thursday friday saturday sunday")
NAMES = _words(
    "anna david maria peter sarah thomas julia george emma oliver laura martin nina robert helen "
    "simon"
)
ROOMS = _words("kitchen bedroom bathroom garden office hall garage basement")
DEVICES = _words("lights heating radio television fan lamp camera oven")
COLOURS = _words("red green blue yellow white black orange purple")
SIZES = _words("small large")
THINGS = _words("box cup book door window chair table bag key letter")
FOODS = _words("milk bread butter apples coffee tea sugar rice cheese eggs")
MUSIC = _words("jazz rock music piano")
SOUNDS = (*MUSIC, "timer", "alarm")
PLACES = _words("paris london berlin rome madrid boston dublin oslo")
EVENTS = _words("meeting party lesson concert dinner interview")
WEATHER = _words("sunny cloudy rainy windy cold warm")
UNITS = _words("seconds minutes hours days weeks")


def cardinal(number: int) -> str:
    """A whole number from 0 to 9999 in words: 206 is "two hundred and six"."""
    if number < 10:
        return DIGITS[number]
    if number < 20:
        return TEENS[number - 10]
    if number < 100:
        tens, rest = divmod(number, 10)
        return TENS[tens - 2] + (f" {DIGITS[rest]}" if rest else "")
    size, unit = (1000, "thousand") if number >= 1000 else (100, "hundred")
    head, rest = divmod(number, size)
    joint = " and " if rest < 100 else " "
    return f"{cardinal(head)} {unit}" + (f"{joint}{cardinal(rest)}" if rest else "")


def ordinal(number: int) -> str:
    """A day of the month in words: 21 is "twenty first"."""
    if number <= 20:
        return ORDINALS[number - 1]
    return "thirtieth" if number == 30 else f"{TENS[number // 10 - 2]} {ORDINALS[number % 10 - 1]}"


def year(number: int) -> str:
    """A year from 1910 to 2099 in words: 1984 is "nineteen eighty four"."""
    if 2000 <= number < 2010:
        return cardinal(number)
    return f"{cardinal(number // 100)} {_two_digits(number % 100)}"


def clock(hour: int, minute: int, style: int = 0) -> str:
    """A time of day in words; style 0 counts ("nine fifteen"), 1 says "a quarter past nine"."""
    following = cardinal(hour % 12 + 1)
    if minute == 0:
        return f"{cardinal(hour)} o'clock"
    if style == 1 and minute % 5 == 0:
        parts = {15: "a quarter", 30: "half", 45: "a quarter"}
        if minute <= 30:
            return f"{parts.get(minute, cardinal(minute))} past {cardinal(hour)}"
        return f"{parts.get(minute, cardinal(60 - minute))} to {following}"
    return f"{cardinal(hour)} {_two_digits(minute)}"


def _two_digits(number: int) -> str:
    return f"oh {DIGITS[number]}" if number < 10 else cardinal(number)


def _number(rng: Random) -> str:
    return cardinal(rng.choice((rng.randrange(100), rng.randrange(1000), rng.randrange(10000))))


def _count_below_100(rng: Random) -> str:
    return cardinal(rng.choice((rng.randint(2, 99), rng.randint(10, 19))))  # teens are confusable


def _digits(rng: Random) -> str:
    return " ".join(rng.choices(DIGITS, k=rng.randint(3, 6)))


def _time(rng: Random) -> str:
    minute = rng.choice((0, rng.randrange(60), 5 * rng.randrange(12), 15 * rng.randrange(1, 4)))
    said = clock(rng.randint(1, 12), minute, rng.randrange(2))
    return said + rng.choice(("", "", " in the morning", " in the evening", " tonight"))


def _date(rng: Random) -> str:
    day, month = ordinal(rng.randint(1, 30)), rng.choice(MONTHS)
    said = rng.choice(
        (f"{month} {day}", f"the {day} of {month}", f"{rng.choice(DAYS)} {month} {day}")
    )
    return said + rng.choice(("", "", f" {year(rng.randint(1910, 2040))}"))


def _device_command(rng: Random) -> str:
    switch = rng.choice(("turn on the", "turn off the", "switch on the", "switch off the"))
    where = rng.choice(("", f" in the {rng.choice(ROOMS)}"))
    return f"{switch} {rng.choice(DEVICES)}{where}{_sometimes(rng, 'please')}"


def _timer_command(rng: Random) -> str:
    if rng.randrange(2):
        return f"set the alarm for {_time(rng)}"
    return f"set a timer for {_count_below_100(rng)} {rng.choice(UNITS)}"


def _call_command(rng: Random) -> str:
    if rng.randrange(2):
        return f"call {rng.choice(NAMES)}{rng.choice(('', ' at home', ' at the office', ' now'))}"
    return f"call {_digits(rng)}{_sometimes(rng, 'please')}"


def _message_command(rng: Random) -> str:
    return rng.choice(
        (
            f"tell {rng.choice(NAMES)} that {rng.choice(NAMES)} will be late",
            f"send a message to {rng.choice(NAMES)} and {rng.choice(NAMES)}",
            f"remind me to call {rng.choice(NAMES)} on {rng.choice(DAYS)}",
            f"ask {rng.choice(NAMES)} to wait in the {rng.choice(ROOMS)}",
        )
    )


def _list_command(rng: Random) -> str:
    count = cardinal(rng.randint(2, 12))
    return rng.choice(
        (
            f"add {rng.choice(FOODS)} and {rng.choice(FOODS)} to the shopping list",
            f"buy {rng.choice(FOODS)} and {rng.choice(FOODS)} tomorrow",
            f"play some {rng.choice(MUSIC)} in the {rng.choice(ROOMS)}",
            f"bring {count} {rng.choice(COLOURS)} apples and some {rng.choice(FOODS)}",
        )
    )


def _short_command(rng: Random) -> str:
    opening = rng.choice(("", "", "please ", "yes please ", "no thank you ", "not now "))
    command = rng.choice(
        (
            f"{rng.choice(('open', 'close'))} the {rng.choice(('door', 'window', 'garage'))}",
            f"{rng.choice(('stop', 'start', 'pause'))} the {rng.choice(SOUNDS)}",
            f"turn the {rng.choice(('volume', *DEVICES))} {rng.choice(('up', 'down'))}",
            f"go {rng.choice(('left', 'right', 'back'))} {_count_below_100(rng)} steps",
        )
    )
    return opening + command


def _direction(rng: Random) -> str:
    floor, door = ordinal(rng.randint(1, 30)), ordinal(rng.randint(1, 20))
    return rng.choice(
        (
            f"go to the {floor} floor",
            f"take the {door} street on the {rng.choice(('left', 'right'))}",
            f"the {rng.choice(ROOMS)} is the {door} door on the {floor} floor",
        )
    )


def _appointment(rng: Random) -> str:
    event = rng.choice(EVENTS)
    return rng.choice(
        (
            f"the {event} is at {_time(rng)}",
            f"the {event} is on {_date(rng)}",
            f"the {event} with {rng.choice(NAMES)} is on {rng.choice(DAYS)} at {_time(rng)}",
            f"move the {event} to {rng.choice(DAYS)}",
        )
    )


def _travel(rng: Random) -> str:
    place = rng.choice(PLACES)
    return rng.choice(
        (
            f"the train to {place} leaves at {_time(rng)}",
            f"flight {_digits(rng)} from {place} to {rng.choice(PLACES)}",
            f"book a room in {place} for {cardinal(rng.randint(2, 14))} days",
            f"is it {rng.choice(WEATHER)} in {place} {rng.choice(('today', 'tomorrow'))}",
            f"it will be {rng.choice(WEATHER)} in {place} on {rng.choice(DAYS)}",
        )
    )


def _object(rng: Random) -> str:
    thing = f"{rng.choice(SIZES)} {rng.choice(COLOURS)} {rng.choice(THINGS)}"
    return rng.choice(
        (
            f"put the {thing} on the table",
            f"where is the {thing}",
            f"the {thing} is in the {rng.choice(ROOMS)}",
            f"{rng.choice(NAMES)} has a {thing} and a {rng.choice(COLOURS)} {rng.choice(THINGS)}",
        )
    )


def _count(rng: Random) -> str:
    return rng.choice(
        (
            f"the number is {_number(rng)}",
            f"the code is {_digits(rng)}",
            f"{_count_below_100(rng)} plus {_count_below_100(rng)}",
            f"{_count_below_100(rng)} minus {_count_below_100(rng)}",
            f"it costs {_number(rng)} dollars",
            f"{_count_below_100(rng)} dollars and {_count_below_100(rng)} cents",
        )
    )


def _calendar(rng: Random) -> str:
    return rng.choice(
        (
            f"today is {_date(rng)}",
            f"{rng.choice(NAMES)} was born on {_date(rng)}",
            f"it is {_time(rng)}",
            f"remind me on {_date(rng)}",
        )
    )


def _sometimes(rng: Random, word: str) -> str:
    return rng.choice(("", "", f" {word}"))


Pattern = Callable[[Random], str]
COMMANDS: tuple[Pattern, ...] = (
    _device_command,
    _timer_command,
    _call_command,
    _message_command,
    _list_command,
    _short_command,
    _short_command,
)
STATEMENTS: tuple[Pattern, ...] = (
    _direction,
    _appointment,
    _travel,
    _object,
    _count,
    _calendar,
    _calendar,
)
DOMAINS: dict[str, tuple[Pattern, ...]] = {
    "all": (*COMMANDS, *STATEMENTS),
    "commands": COMMANDS,
    "statements": STATEMENTS,
}
"""The grammar, and two halves of it. Months, years, ordinals, places, weather, hundreds and
thousands are in statements only; devices, food, music and what is done with them in commands only."""


def sentence(rng: Random, domain: str = "all") -> str:
    """One sentence in lower case without punctuation, 2 to 16 words."""
    return rng.choice(DOMAINS[domain])(rng)


def sentences(
    seed: int | str, *, avoid: frozenset[str] = frozenset(), domain: str = "all"
) -> Iterator[str]:
    """Endless different sentences, none of which is in ``avoid``; the same for the same seed."""
    rng = Random(f"sentences {seed}")
    said = set(avoid)
    while True:
        text = sentence(rng, domain)
        if text not in said:
            said.add(text)
            yield text
