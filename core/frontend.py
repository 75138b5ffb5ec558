"""Copies the served files of the npm packages into `static/vendor/`.

Run after `npm ci`: `python -m core.frontend`. Standard library only and no Django, so that the start script can
call it before anything else is installed. Running it again copies nothing that is already up to date.

`ICONS` is the one list of icons that pages may use; `{% icon %}` refuses every other name.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NODE_MODULES = ROOT / "node_modules"
VENDOR = ROOT / "static" / "vendor"

# source below node_modules -> name below static/vendor
FILES: dict[str, str] = {
    "htmx.org/dist/htmx.min.js": "htmx.min.js",
    "htmx.org/dist/ext/hx-alpine-compat.min.js": "hx-alpine-compat.min.js",
    "@alpinejs/csp/dist/cdn.min.js": "alpine-csp.min.js",
    "@tabler/core/dist/css/tabler.min.css": "tabler.min.css",
    "@tabler/core/dist/js/tabler.min.js": "tabler.min.js",
    "echarts/dist/echarts.min.js": "echarts.min.js",
    "@fontsource-variable/inter/opsz.css": "inter/inter.css",
    "@fontsource-variable/inter/LICENSE": "inter/LICENSE",
}
FONT_GLOB = "@fontsource-variable/inter/files/inter-*-opsz-normal.woff2"
ICON_FOLDER = "@tabler/icons/icons/outline"

# states and money; menu; frame; arrows and marks; verbs; things; brands
_NAMES = """
sun moon sunrise sunset swords alert-triangle plug-connected-x shield coin cash wallet receipt pig-money
trending-up trending-down calculator scale

home cloud-computing cpu list-check server-2 hexagons calendar-time template adjustments-horizontal history
settings

search selector menu-2 contrast dots dots-vertical user users user-plus bell bell-off logout login lifebuoy
external-link door-exit moon-stars

check x plus minus chevron-down chevron-up chevron-left chevron-right arrow-right arrow-left arrow-up
arrow-down arrow-up-right arrow-down-right arrow-back-up arrow-forward-up arrows-sort sort-ascending
sort-descending grip-vertical circle-check circle-x circle-dashed info-circle help-circle alert-circle
alert-octagon point infinity hash at

refresh reload rotate-clockwise player-play player-pause player-stop player-track-next player-skip-forward
power bed zzz alarm alarm-snooze clock clock-hour-4 hourglass copy clipboard clipboard-check download upload
trash edit pencil device-floppy filter filter-off columns layout-columns layout-grid layout-list
arrows-maximize arrows-minimize eye eye-off link unlink send share wand brush eraser tool hammer rocket
git-compare arrows-exchange transfer camera ban lock lock-open archive restore flag pin tag tags star star-off

server server-off server-cog server-bolt box package package-export stack-2 database database-export disc
folder file file-text file-code file-download terminal-2 code braces device-desktop device-desktop-analytics
app-window world map-pin route network topology-star-3 sitemap plug plug-connected wifi wifi-off
antenna-bars-5 radar radar-2 broadcast heartbeat activity activity-heartbeat gauge temperature bolt flame leaf
snowflake cloud cloud-off cloud-up cloud-down cloud-check cloud-x calendar calendar-event calendar-off
calendar-plus calendar-week beach confetti briefcase building building-bank target trophy medal loader
loader-2 robot user-question user-shield user-cog user-minus user-x mail message webhook api key password
fingerprint shield-check shield-x shield-lock certificate license chart-line chart-bar chart-area chart-pie
chart-donut chart-histogram table table-export list list-details list-search text-wrap math photo video
microphone palette brain vector cube percentage currency-dollar currency-euro timeline bulb book checklist
clipboard-list sparkles flask

brand-aws brand-azure brand-google brand-docker brand-slack brand-github brand-cloudflare
"""
ICONS: tuple[str, ...] = tuple(_NAMES.split())

_SOURCE_MAP = re.compile(rb"\n?(?://|/\*)[#@] ?sourceMappingURL=[^\n*]*(?:\*/)?")


class FrontendError(Exception):
    """Something that has to be copied is missing; the message says what to run."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What one run did: names below `static/vendor/` that were written, removed, and left alone."""

    written: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: int


def _wanted(node_modules: Path) -> dict[str, Path]:
    """Name below the vendor folder -> source file. Raises `FrontendError` when a source is missing."""
    wanted = {name: node_modules / source for source, name in FILES.items()}
    for font in sorted(node_modules.glob(FONT_GLOB)):
        wanted[f"inter/files/{font.name}"] = font
    for icon in ICONS:
        wanted[f"icons/{icon}.svg"] = node_modules / ICON_FOLDER / f"{icon}.svg"
    missing = [str(path.relative_to(node_modules)) for path in wanted.values() if not path.is_file()]
    if not any(name.endswith(".woff2") for name in wanted):
        missing.append(FONT_GLOB)
    if missing:
        raise FrontendError(f"not found in {node_modules}: {', '.join(missing)}. Run `npm ci` first.")
    return wanted


def _content(source: Path) -> bytes:
    """The file as it is served: pointers to source maps, which are not served, are taken out."""
    data = source.read_bytes()
    return _SOURCE_MAP.sub(b"", data) if source.suffix in {".js", ".css"} else data


def _is_current(content: bytes, target: Path) -> bool:
    """True when the copy holds exactly this content. Times are not trusted: packages may carry old ones."""
    try:
        return target.read_bytes() == content
    except FileNotFoundError:
        return False


def copy(node_modules: Path = NODE_MODULES, vendor: Path = VENDOR) -> Copied:
    """Brings `vendor` in line with `node_modules`; raises `FrontendError` when a package is missing."""
    wanted = _wanted(node_modules)
    written: list[str] = []
    for name, source in wanted.items():
        target, content = vendor / name, _content(source)
        if _is_current(content, target):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".part")
        partial.write_bytes(content)
        partial.replace(target)
        written.append(name)
    removed = [path for path in vendor.rglob("*") if path.is_file() and str(path.relative_to(vendor)) not in wanted]
    for path in removed:
        path.unlink()
    return Copied(
        written=tuple(written),
        removed=tuple(str(path.relative_to(vendor)) for path in removed),
        unchanged=len(wanted) - len(written),
    )


def main() -> int:
    """Command line: prints what was copied; exit code 1 with the reason when a package is missing."""
    try:
        done = copy()
    except FrontendError as error:
        sys.stderr.write(f"front end: {error}\n")
        return 1
    icons = sum(name.startswith("icons/") for name in done.written)
    for name in done.written:
        if not name.startswith("icons/"):
            sys.stdout.write(f"copied {name}\n")
    if icons:
        sys.stdout.write(f"copied {icons} icons\n")
    for name in done.removed:
        sys.stdout.write(f"removed {name}\n")
    sys.stdout.write(f"front end: {len(done.written)} written, {done.unchanged} up to date in {VENDOR}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
