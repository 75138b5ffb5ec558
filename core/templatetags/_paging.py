"""What the pager shows, from a page of Django's paginator or from any page object with the same facts."""

from __future__ import annotations

from typing import Any


def window(number: int, pages: int, around: int = 1) -> list[int | None]:
    """Page numbers to offer: the first, the last, those around the current one; None stands for a gap."""
    shown = sorted({1, pages, *range(number - around, number + around + 1)} & set(range(1, pages + 1)))
    numbers: list[int | None] = []
    for one in shown:
        if numbers and isinstance(numbers[-1], int) and one - numbers[-1] > 1:
            numbers.append(one - 1 if one - numbers[-1] == 2 else None)
        numbers.append(one)
    return numbers


def facts(page: Any, sizes: list[int] | tuple[int, ...] | str = (), size: int | str = "") -> dict[str, Any]:
    """{total, first, last, number, pages, previous, next, window, sizes, size, size_param} of a page.

    A Django page is sized by `?page_size=`; a page object that carries its own `sizes` is sized by `?size=`,
    unless it names another `size_param`.
    """
    paginator = getattr(page, "paginator", None)
    if paginator is not None:
        number, pages, total = page.number, paginator.num_pages, paginator.count
        first, last = (page.start_index(), page.end_index()) if total else (0, 0)
    else:
        number, pages, total = page.number, page.pages, page.total
        first, last = page.first, page.last
    own = getattr(page, "sizes", ())
    return {
        "total": total,
        "first": first,
        "last": last,
        "number": number,
        "pages": pages,
        "previous": number - 1 if number > 1 else None,
        "next": number + 1 if number < pages else None,
        "window": window(number, pages),
        "sizes": list(sizes or own or ()),
        "size": size or getattr(page, "size", ""),
        "size_param": getattr(page, "size_param", "size" if own else "page_size"),
    }
