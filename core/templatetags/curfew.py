"""Tags and filters that every page uses: icons, states, money, time, links that keep the query, form fields.

Nothing here queries. Formats of values live in `core.templatetags._formats`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django import template
from django.forms import BoundField
from django.http import HttpRequest, QueryDict
from django.template.exceptions import TemplateSyntaxError
from django.utils import timezone
from django.utils.html import format_html, format_html_join, json_script
from django.utils.safestring import SafeString, mark_safe

from core.templatetags import _fields, _formats, _icons, _paging

register = template.Library()

# state -> (word, icon); the eight words of the interface and no others
STATES: Mapping[str, tuple[str, str]] = {
    "awake": ("Awake", "sun"),
    "asleep": ("Asleep", "moon"),
    "waking": ("Waking", "sunrise"),
    "falling": ("Falling asleep", "sunset"),
    "contested": ("Contested", "swords"),
    "trouble": ("Trouble", "alert-triangle"),
    "lost": ("Lost", "plug-connected-x"),
    "unmanaged": ("Unmanaged", "shield"),
}
KINDS: Mapping[str, str] = {"spent": "Spent", "real": "Real", "potential": "Potential"}


@register.simple_tag
def icon(name: str, css: str = "") -> SafeString:
    """`{% icon "moon" %}`: an inline SVG hidden from screen readers; `css` adds classes."""
    return _icons.render(name, css)


@register.simple_tag
def state_badge(state: str, detail: str = "", large: bool = False) -> SafeString:
    """`{% state_badge node.state %}`: icon and word. `detail` follows the word ("step 2 of 3"). Unknown state: ValueError."""
    key = str(getattr(state, "value", state))
    if key not in STATES:
        raise ValueError(f"not a state of the interface: {key!r}; one of {', '.join(STATES)}")
    label, picture = STATES[key]
    size = " state-lg" if large else ""
    more = format_html(' <span class="state-detail">{}</span>', detail) if detail else ""
    return format_html('<span class="state state--{}{}">{}{}{}</span>', key, size, _icons.render(picture), label, more)


@register.filter(name="money")
def money_filter(amount: Decimal | int | str | None, currency: str = "USD") -> str:
    """`{{ amount|money:"EUR" }}`: "$1.21", "$0.0042"; None is "no data"."""
    return _formats.money(amount, currency or "USD")


@register.simple_tag
def money(
    amount: Decimal | int | str | None,
    currency: str = "USD",
    per: str = "",
    kind: str = "",
    href: str = "",
    title: str = "",
) -> SafeString:
    """`{% money cost "USD" per="h" kind="real" href=url %}`: amount, period and kind; `href` leads to the intervals."""
    if kind and kind not in KINDS:
        raise ValueError(f"not a kind of money: {kind!r}; one of {', '.join(KINDS)}")
    if amount is None:
        return mark_safe('<span class="money-set"><span class="dimmer">no data</span></span>')
    text, hint = _formats.money(amount, currency or "USD"), format_html(' title="{}"', title) if title else ""
    shown = (
        format_html('<a class="money" href="{}"{}>{}</a>', href, hint, text)
        if href
        else format_html('<span class="money"{}>{}</span>', hint, text)
    )
    rate = format_html('<span class="per">/{}</span>', per) if per else ""
    label = format_html(' <span class="kind kind--{}">{}</span>', kind, KINDS[kind]) if kind else ""
    return format_html('<span class="money-set">{}{}{}</span>', shown, rate, label)


@register.filter
def duration(value: dt.timedelta | int | float | Decimal | None) -> str:
    """Seconds or a timedelta in words: "38 s", "4 min", "4 h 02 min", "3 d 4 h"; None is "no data"."""
    return _formats.duration(value)


@register.simple_tag
def when(value: dt.datetime | dt.date | None, style: str = "datetime", empty: str = "never") -> SafeString:
    """`{% when node.started_at "rel" %}`: a `<time>` that the browser shows in the reader's own zone.

    Styles: datetime, date, time, rel. Without scripts it reads in the current time zone, named.
    """
    if value is None:
        return format_html('<span class="dimmer">{}</span>', empty)
    if style not in {"datetime", "date", "time", "rel"}:
        raise ValueError(f"not a style of time: {style!r}")
    if not isinstance(value, dt.datetime):
        return format_html('<time datetime="{}">{}</time>', value.isoformat(), _formats.day(value))
    moment = value if timezone.is_aware(value) else timezone.make_aware(value, dt.UTC)
    shown = timezone.localtime(moment)
    exact = _formats.exact(shown)
    attribute = "data-rel" if style == "rel" else format_html('data-local="{}"', style)
    stamp = moment.astimezone(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    text = _formats.moment(shown, style, timezone.now())
    return format_html('<time datetime="{}" {} title="{}">{}</time>', stamp, attribute, exact, text)


def _query(context: template.Context) -> QueryDict:
    request = context.get("request")
    return request.GET.copy() if isinstance(request, HttpRequest) else QueryDict(mutable=True)


@register.simple_tag(takes_context=True)
def url_with(context: template.Context, **changes: Any) -> str:
    """`{% url_with sort="name" page=None %}`: the current query with these values; None or "" removes one."""
    query = _query(context)
    for key, value in changes.items():
        if value is None or value == "":
            query.pop(key, None)
        elif isinstance(value, (list, tuple)):
            query.setlist(key, [str(item) for item in value])
        else:
            query[key] = str(value)
    return f"?{query.urlencode()}"


@register.simple_tag
def pager_facts(page: Any, sizes: Any = (), size: Any = "") -> dict[str, Any]:
    """What `components/pager.html` shows, whatever sort of page the view has."""
    return _paging.facts(page, sizes, size)


@register.simple_tag(takes_context=True)
def page_link(context: template.Context, param: str, value: int) -> str:
    """The current query with `param` set; another page size starts at the first page again."""
    return url_with(context, **{"page": None, param: value})


@register.simple_tag(takes_context=True)
def hidden_query(context: template.Context, *without: str) -> SafeString:
    """`{% hidden_query "q" "page" %}`: the current query as hidden fields, so that a GET form keeps the rest of it."""
    pairs = [(key, value) for key, values in _query(context).lists() if key not in without for value in values]
    return format_html_join("", '<input type="hidden" name="{}" value="{}">', pairs)


@register.inclusion_tag("components/sort_header.html", takes_context=True)
def sort_header(
    context: template.Context,
    key: str,
    label: str,
    css: str = "",
    default: bool = False,
    param: str = "sort",
    target: str = "",
) -> dict[str, Any]:
    """A `<th>` whose link sorts by `key`, then by `-key`. `default` marks the column that sorts when nothing is asked.

    With `target` (a CSS selector of the grid) the link is an htmx request as well.
    """
    asked = _query(context).get(param) or (key if default else "")
    up, down = asked == key, asked == f"-{key}"
    return {
        "label": label,
        "css": css,
        "href": url_with(context, **{param: f"-{key}" if up else key, "page": None}),
        "aria": "ascending" if up else "descending" if down else "",
        "icon_name": "chevron-up" if up else "chevron-down" if down else "selector",
        "target": target,
    }


@register.inclusion_tag("components/form_field.html")
def form_field(
    field: BoundField, label: str = "", hint: str = "", prefix: str = "", suffix: str = "", css: str = ""
) -> dict[str, Any]:
    """`{% form_field form.email %}`: label, control, help and errors, tied together by `aria-describedby`.

    `prefix` and `suffix` stand beside the control ("$", "hours"). Errors are beside the field they belong to.
    """
    if not isinstance(field, BoundField):
        raise TemplateSyntaxError("form_field needs a bound field, such as form.email")
    return _fields.context(field, label=label, hint=hint, prefix=prefix, suffix=suffix, css=css)


@register.filter
def percent_of(part: Decimal | float | None, whole: Decimal | float | None) -> int | None:
    """Whole percent of `part` in `whole`, for labels; None when there is nothing to divide by."""
    if part is None or not whole:
        return None
    return round(100 * float(part) / float(whole))


@register.filter
def ring_dash(left: float | int | None, total: float | int | None = None) -> str:
    """`stroke-dasharray` of a countdown ring that has `left` of `total` seconds to go."""
    if left is None or not total:
        return "0 100"
    done = min(100.0, max(0.0, 100 * (float(total) - float(left)) / float(total)))
    return f"{done:.1f} 100"


@register.filter
def chart_json(data: Any, chart_id: str) -> SafeString:
    """The data of a chart as a JSON block that `charts.js` reads (`<id>-data`)."""
    return json_script(data, f"{chart_id}-data")
