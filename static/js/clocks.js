// Time in the page: countdown rings, clocks, tickers, and <time> in the reader's own zone. One timer for all.
import { $, $$, onContent } from "./dom.js";

const pad = (n) => String(n).padStart(2, "0");
const ends = new WeakMap();

/** Seconds left of an element that the server gave `data-…` seconds: counted from when that value arrived. */
function left(element, name) {
  const given = element.dataset[name];
  let known = ends.get(element);
  if (!known || known.given !== given) {
    known = { given, end: performance.now() + Number(given) * 1000 };
    ends.set(element, known);
  }
  return Math.max(0, (known.end - performance.now()) / 1000);
}
const set = (element, text) => { if (element && element.textContent !== text) { element.textContent = text; } };

function rings() {
  $$("[data-ring-left]").forEach((ring) => {
    const total = Number(ring.dataset.ringTotal) || 1;
    const rest = Math.ceil(left(ring, "ringLeft"));
    $(".value", ring)?.setAttribute("stroke-dasharray", `${(100 * Math.max(0, total - rest) / total).toFixed(1)} 100`);
    set($("b", ring), rest > 0 ? String(rest) : "…");
    ring.setAttribute("aria-label", rest > 0 ? `${rest} seconds left of about ${total}` : "Longer than usual, any moment now");
  });
}
function clocks() {
  $$("[data-clock]").forEach((clock) => {
    const rest = Math.ceil(left(clock, "clock"));
    const [hours, minutes, seconds] = $$("span", clock);
    set(hours, pad(Math.floor(rest / 3600))); set(minutes, pad(Math.floor(rest / 60) % 60)); set(seconds, pad(rest % 60));
  });
  $$("[data-mmss]").forEach((clock) => {
    const rest = Math.ceil(left(clock, "mmss"));
    set(clock, rest >= 3600 ? `${Math.floor(rest / 3600)} h ${pad(Math.floor(rest / 60) % 60)} min` : `${Math.floor(rest / 60)}:${pad(rest % 60)}`);
  });
  $$("[data-since]").forEach((clock) => { // seconds that have passed already
    const known = ends.get(clock);
    const given = clock.dataset.since;
    const start = known?.given === given ? known.end : performance.now() - Number(given) * 1000;
    ends.set(clock, { given, end: start });
    const gone = Math.max(0, Math.floor((performance.now() - start) / 1000));
    set(clock, `${Math.floor(gone / 60)}:${pad(gone % 60)}`);
  });
  $$("[data-ticker]").forEach((ticker) => {
    const given = `${ticker.dataset.ticker}|${ticker.dataset.perHour}`;
    const known = ends.get(ticker)?.given === given ? ends.get(ticker) : { given, end: performance.now() };
    ends.set(ticker, known);
    const value = Number(ticker.dataset.ticker) + (Number(ticker.dataset.perHour) * (performance.now() - known.end)) / 3600000;
    set(ticker, new Intl.NumberFormat("en-US", { style: "currency", currency: ticker.dataset.currency || "USD" }).format(value));
  });
}

/* <time data-local="datetime|date|time"> and <time data-rel> */
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const shortDay = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const hour = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const exact = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" });

export function length(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) { return `${s} s`; }
  const m = Math.floor(s / 60);
  if (m < 60) { return `${m} min`; }
  const h = Math.floor(m / 60);
  if (h < 24) { return m % 60 ? `${h} h ${pad(m % 60)} min` : `${h} h`; }
  return h % 24 ? `${Math.floor(h / 24)} d ${h % 24} h` : `${Math.floor(h / 24)} d`;
}
function relative(when) {
  const away = (when - Date.now()) / 1000;
  if (Math.abs(away) < 5) { return "now"; }
  return away > 0 ? `in ${length(away)}` : `${length(-away)} ago`;
}
function local(when, style) {
  if (style === "time") { return hour.format(when); }
  if (style === "date") { return day.format(when); }
  const thisYear = when.getFullYear() === new Date().getFullYear();
  return `${(thisYear ? shortDay : day).format(when)}, ${hour.format(when)}`;
}
function times() {
  $$("time[data-rel], time[data-local]").forEach((element) => {
    const when = new Date(element.dateTime);
    if (Number.isNaN(when.getTime())) { return; }
    set(element, element.dataset.rel !== undefined ? relative(when) : local(when, element.dataset.local));
    const title = exact.format(when);
    if (element.title !== title) { element.title = title; }
  });
}

function tick() {
  if (document.hidden) { return; }
  rings();
  clocks();
  $$("time[data-rel]").length && times();
}
onContent(() => { rings(); clocks(); times(); });
setInterval(tick, 1000);
document.addEventListener("visibilitychange", tick);
