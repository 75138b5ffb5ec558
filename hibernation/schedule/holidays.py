"""National and regional public holidays, from the `holidays` package (no network)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from importlib import resources

from hibernation.schedule.errors import InvalidSchedule

_MARKS = re.compile(r"\(([^()]*\b(?:observed|estimated)\b[^()]*)\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Holiday:
    """One public holiday. `observed`: a substitute day; `estimated`: depends on the moon and may move by a day."""

    date: date
    name: str
    country: str
    subdivision: str = ""
    observed: bool = False
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class HolidayCountry:
    """A country whose holidays are known, with the codes of its subdivisions."""

    code: str
    name: str
    subdivisions: tuple[str, ...]


@lru_cache(maxsize=1)
def holiday_countries() -> tuple[HolidayCountry, ...]:
    """Every country that `holidays_for` knows, by name."""
    from holidays import list_supported_countries  # 250 countries: loaded when first asked
    from holidays.registry import COUNTRIES

    names = {codes[1]: module.replace("_", " ").title() for module, codes in COUNTRIES.items()}
    known = list_supported_countries(include_aliases=False)
    countries = (
        HolidayCountry(code, names.get(code, code), tuple(subdivisions)) for code, subdivisions in known.items()
    )
    return tuple(sorted(countries, key=lambda country: country.name))


@lru_cache(maxsize=1)
def _zone_countries() -> dict[str, str]:
    """Zones and their countries, from the table that comes with the time zone data; {} where there is none."""
    try:
        text = (resources.files("tzdata.zoneinfo") / "zone.tab").read_text(encoding="utf-8")
    except (ModuleNotFoundError, FileNotFoundError):
        return {}
    rows = (line.split("\t") for line in text.splitlines() if line and not line.startswith("#"))
    return {row[2]: row[0] for row in rows}


def country_of_zone(zone: str) -> str:
    """The country code of an IANA zone, "" where it is in none, such as UTC."""
    return _zone_countries().get(zone, "")


def holidays_for(country: str, subdivision: str | None, years: Iterable[int]) -> list[Holiday]:
    """Public holidays of a country (ISO 3166-1 alpha-2), with those of one subdivision when given, in date order.

    Names are English where the package has them. Two holidays on one date are one row with both names.
    Raises InvalidSchedule for a country or subdivision that is not known.
    """
    import holidays

    code, region = country.strip().upper(), (subdivision or "").strip() or None
    wanted = sorted(set(years))
    if any(not 1900 <= year <= 2100 for year in wanted):
        raise InvalidSchedule("Holidays are known for the years 1900 to 2100.", field="calendar")
    try:
        language = _english(code)
        found = holidays.country_holidays(code, subdiv=region, years=wanted, language=language)
    except NotImplementedError:
        places = f"{region} in {code}" if region else code
        raise InvalidSchedule(
            f"No holiday calendar for {places}; use a country code such as DE and a subdivision such as BY.",
            field="calendar",
        ) from None
    rows = [(day, name) for day, name in found.items() if day.year in wanted]
    return [_holiday(day, name, code, region or "") for day, name in sorted(rows)]


def _english(code: str) -> str | None:
    """The package's English for a country, None for its only language."""
    import holidays

    languages = tuple(getattr(holidays.country_holidays(code), "supported_languages", ()))
    return next(
        (
            language
            for language in ("en_US", "en_GB", *languages)
            if language in languages and language.startswith("en")
        ),
        None,
    )


def _holiday(day: date, name: str, country: str, subdivision: str) -> Holiday:
    marks = " ".join(_MARKS.findall(name)).lower()
    return Holiday(day, name, country, subdivision, observed="observed" in marks, estimated="estimated" in marks)
