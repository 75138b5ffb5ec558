"""Formats, tags, components and error pages, rendered without a browser."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django import forms
from django.template import Context, Template, TemplateSyntaxError, engines
from django.template.loader import get_template
from django.test import RequestFactory

from core import frontend
from core.templatetags import _formats, _paging, curfew

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parent.parent.parent


def render(source: str, **context: Any) -> str:
    """The text of a small template with our tags loaded."""
    return engines["django"].from_string("{% load curfew %}" + source).render(context)


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (None, "USD", "no data"),
        ("", "USD", "no data"),
        (Decimal("NaN"), "USD", "no data"),
        (0, "USD", "$0.00"),
        (Decimal("1.205"), "USD", "$1.21"),
        (Decimal("0.01"), "USD", "$0.01"),
        (Decimal("0.0095"), "USD", "$0.0095"),
        (Decimal("0.00421"), "USD", "$0.0042"),
        (Decimal("0.0000001"), "USD", "<$0.000001"),
        (Decimal(-3), "USD", "−$3.00"),
        (Decimal("1234567.891"), "USD", "$1,234,567.89"),
        (Decimal(12), "EUR", "€12.00"),
        (Decimal("12.5"), "JPY", "¥13"),
        (Decimal(12), "CHF", "12.00 CHF"),
        (Decimal("-0.000"), "USD", "$0.00"),
    ],
)
def test_money(amount: Any, currency: str, text: str) -> None:
    assert _formats.money(amount, currency) == text


def test_money_refuses_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="not an amount"):
        _formats.money("a lot")


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (None, "no data"),
        (0, "0 s"),
        (-5, "0 s"),
        (38.4, "38 s"),
        (60, "1 min"),
        (83, "1 min 23 s"),
        (26 * 60 + 5, "26 min"),
        (4 * 3600 + 120, "4 h 02 min"),
        (7200, "2 h"),
        (dt.timedelta(days=3, hours=4), "3 d 4 h"),
        (dt.timedelta(days=2), "2 d"),
        (Decimal("59.6"), "1 min"),
    ],
)
def test_duration(length: Any, text: str) -> None:
    assert _formats.duration(length) == text


@pytest.mark.parametrize(
    ("number", "pages", "shown"),
    [
        (1, 1, [1]),
        (1, 3, [1, 2, 3]),
        (5, 9, [1, None, 4, 5, 6, None, 9]),
        (4, 9, [1, 2, 3, 4, 5, None, 9]),
        (9, 9, [1, None, 8, 9]),
    ],
)
def test_window_of_pages(number: int, pages: int, shown: list[int | None]) -> None:
    assert _paging.window(number, pages) == shown


def test_each_state_has_its_word_and_icon() -> None:
    for state, (word, picture) in curfew.STATES.items():
        text = render("{% state_badge state %}", state=state)
        assert f"state--{state}" in text
        assert word in text
        assert 'aria-hidden="true"' in text
        assert picture in frontend.ICONS
    with pytest.raises(ValueError, match="not a state"):
        render("{% state_badge 'sleepy' %}")


def test_money_tag_names_period_kind_and_source() -> None:
    text = render("{% money amount 'USD' per='h' kind='real' href='/intervals' %}", amount=Decimal("1.21"))
    assert (
        text.strip()
        == '<span class="money-set"><a class="money" href="/intervals">$1.21</a><span class="per">/h</span> <span class="kind kind--real">Real</span></span>'
    )
    assert "no data" in render("{% money amount 'USD' per='h' kind='spent' %}", amount=None)
    assert "/h" not in render("{% money amount 'USD' per='h' %}", amount=None)
    with pytest.raises(ValueError, match="not a kind"):
        render("{% money 1 kind='guess' %}")


def test_when_gives_the_browser_the_exact_moment() -> None:
    moment = dt.datetime(2031, 6, 12, 14, 2, 11, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    text = render("{% when moment 'time' %}", moment=moment)
    assert 'datetime="2031-06-12T12:02:11Z"' in text
    assert 'data-local="time"' in text
    assert "12 Jun 2031" in text
    assert "data-rel" in render("{% when moment 'rel' %}", moment=moment)
    assert "not yet" in render("{% when moment 'rel' 'not yet' %}", moment=None)
    with pytest.raises(ValueError, match="not a style"):
        render("{% when moment 'vague' %}", moment=moment)


def test_url_with_keeps_the_rest_of_the_query() -> None:
    request = RequestFactory().get("/?search=a%26b&state=awake&state=lost&page=3")
    assert (
        render("{% url_with sort='-name' page=None %}", request=request)
        == "?search=a%26b&amp;state=awake&amp;state=lost&amp;sort=-name"
    )
    hidden = render("{% hidden_query 'page' 'search' %}", request=request)
    assert hidden == '<input type="hidden" name="state" value="awake"><input type="hidden" name="state" value="lost">'


def test_query_values_are_escaped() -> None:
    request = RequestFactory().get("/", {"x": '"><script>'})
    for source in ("{% hidden_query %}", "{% url_with page=2 %}", "{% sort_header 'name' 'Name' %}"):
        assert "<script>" not in render(source, request=request)


def test_sort_header_turns_round() -> None:
    up = render("{% sort_header 'name' 'Name' default=True target='#grid' %}", request=RequestFactory().get("/"))
    assert 'aria-sort="ascending"' in up
    assert 'href="?sort=-name"' in up
    assert 'hx-get="?sort=-name"' in up
    down = render("{% sort_header 'name' 'Name' %}", request=RequestFactory().get("/?sort=-name"))
    assert 'aria-sort="descending"' in down
    assert 'href="?sort=name"' in down
    assert "aria-sort" not in render("{% sort_header 'cost' 'Cost' %}", request=RequestFactory().get("/?sort=-name"))


class Sample(forms.Form):
    budget = forms.DecimalField(help_text="Per day.", widget=forms.NumberInput(attrs={"class": "wide"}))
    mode = forms.ChoiceField(choices=[("a", "A"), ("b", "B")], widget=forms.RadioSelect)


def test_form_field_ties_help_and_errors_to_the_control() -> None:
    form = Sample({"budget": "x"})
    text = render("{% form_field form.budget suffix='USD' %}", form=form)
    control = re.search(r"<input[^>]*>", text)[0]
    assert 'aria-describedby="id_budget_help id_budget_error"' in control
    assert 'aria-invalid="true"' in control
    assert 'class="form-control wide is-invalid"' in control
    assert 'id="id_budget_help"' in text
    assert 'id="id_budget_error"' in text
    group = render("{% form_field form.mode %}", form=form)
    assert group.startswith("<fieldset")
    assert "<legend" in group
    assert group.count('type="radio"') == 2
    with pytest.raises(TemplateSyntaxError):
        render("{% form_field 'budget' %}")


def test_icon_is_inline_hidden_and_listed() -> None:
    text = render("{% icon 'moon' 'big' %}")
    assert text.startswith('<svg class="ti big"')
    assert 'aria-hidden="true"' in text
    with pytest.raises(ValueError, match="not listed"):
        render("{% icon 'no-such-icon' %}")


def test_every_icon_that_a_template_names_is_listed() -> None:
    named = {
        name
        for path in (ROOT / "templates").rglob("*.html")
        for name in re.findall(r"""\{%\s*icon\s+["']([^"']+)["']""", path.read_text())
    }
    assert named
    assert named <= set(frontend.ICONS)


def test_no_template_breaks_the_content_policy() -> None:
    for path in (ROOT / "templates").rglob("*.html"):
        if "email" in path.parts:
            continue
        text = path.read_text()
        assert not re.search(r"\sstyle=", text), path
        assert not re.search(r"\son[a-z]+=\"", text), path
        assert "hx-on" not in text, path
        assert "<style" not in text, path
        assert 'href="#"' not in text, path
        for tag in re.findall(r"<script\b[^>]*>", text):
            assert "src=" in tag or "application/json" in tag, f"{path}: {tag}"


@pytest.mark.parametrize("name", ["400", "401", "403", "404", "409", "429", "500", "503"])
def test_error_pages_need_no_context(name: str) -> None:
    template: Template = get_template(f"errors/{name}.html").template
    text = template.render(Context())
    assert "data-problem-title" in text
    assert 'href="/"' in text or "Log in" in text


@pytest.mark.parametrize("name", ["400.html", "403.html", "403_csrf.html", "404.html", "500.html"])
def test_pages_that_django_looks_for(name: str) -> None:
    assert "<h1" in get_template(name).render()


def test_403_gives_the_reason_escaped() -> None:
    text = get_template("errors/403.html").render({"detail": "Viewers may not <wake> nodes."})
    assert "Viewers may not &lt;wake&gt; nodes." in text


def test_frame_renders_without_any_frame() -> None:
    text = get_template("base.html").render({})
    assert "<main" in text
    assert "None" not in text


def test_money_meter_without_a_budget_shows_no_bar() -> None:
    money = {"burn_rate": Decimal(1), "spent_today": Decimal(2), "budget": None, "percent": None, "currency": "EUR"}
    text = get_template("components/money_meter.html").render({"money": money, "money_url": "/m"})
    assert "<progress" not in text
    assert "€2.00" in text
    assert "no limit" in text


def test_diff_and_operation_say_what_happened() -> None:
    diff = get_template("components/diff.html").render(
        {"changes": [{"field": "budget", "before": "<1>", "after": None}]}
    )
    assert "&lt;1&gt;" in diff
    assert "is now" not in diff
    operation = {
        "id": "x",
        "title": "Wake",
        "status": "failed",
        "elapsed_seconds": 5,
        "words": "no capacity",
        "retry_url": "/retry",
    }
    text = get_template("components/operation.html").render({"operation": operation})
    assert "no capacity" in text
    assert "data-waking" not in text
    assert "Retry" in text
