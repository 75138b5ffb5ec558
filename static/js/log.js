// Log viewer: a window of rows over any number of lines, follow and pause, search, streams, wrap, links to a line.
// A page's feeder dispatches on the [data-log] element: `log:append` {stream, text, time}, `log:reset`, `log:end`.
// Lines that the server rendered as .ll rows (no-script form) are read first; `data-first` numbers the first one.
import { onContent } from "./dom.js";
import { Lines, parse, pattern } from "./log-lines.js";

const ROW = 20;
const EXTRA = 60; // rows kept above and below what is seen
const TALLEST = 30_000_000; // browsers stop at about 33 million pixels
const started = new WeakSet();

class Viewer {
  constructor(log) {
    this.log = log;
    this.body = this.part("log-body");
    this.lines = new Lines();
    this.stream = "all";
    this.list = null; // indices that are shown; null is all
    this.hits = null;
    this.hit = -1;
    this.target = -1;
    this.drawn = "";
    this.adopt();
    this.space = document.createElement("div");
    this.space.className = "log-space";
    this.rows = document.createElement("div");
    this.rows.className = "log-rows";
    this.space.append(this.rows);
    this.body.replaceChildren(this.space);
    this.listen();
    const asked = /^#L(\d+)$/.exec(location.hash);
    if (asked) { this.target = Number(asked[1]) - this.lines.first; }
    this.follow(!asked && log.dataset.follow !== "off");
    if (asked) { this.reveal(this.target); }
    log.dispatchEvent(new CustomEvent("log:ready", { bubbles: true }));
  }
  part(name) { return this.log.querySelector(`[data-${name}]`); }
  adopt() {
    this.lines.first = Number(this.log.dataset.first || 1);
    this.body.querySelectorAll(".ll").forEach((row) => {
      this.lines.append(row.dataset.s ?? "o", `${row.dataset.raw ?? row.lastElementChild.textContent}\n`, row.querySelector("time")?.textContent ?? "");
    });
  }
  get count() { return this.list ? this.list.length : this.lines.length; }
  indexOf(position) { return this.list ? this.list[position] : position; }

  schedule() {
    if (this.pending) { return; }
    this.pending = requestAnimationFrame(() => { this.pending = 0; this.render(); });
  }
  render() {
    const { body } = this;
    const wrap = this.log.dataset.wrap === "on";
    const height = Math.min(this.count * ROW, TALLEST);
    this.space.style.height = `${height}px`;
    if (this.following) { body.scrollTop = body.scrollHeight; }
    const seen = Math.ceil(body.clientHeight / ROW);
    const travel = Math.max(1, height - body.clientHeight);
    const scrolled = Math.min(body.scrollTop, travel);
    const place = (scrolled * Math.max(0, this.count * ROW - body.clientHeight)) / travel; // the same spot in a log of full height
    const top = Math.max(0, Math.min(this.count - 1, Math.floor(place / ROW)));
    const from = Math.max(0, top - EXTRA);
    const to = Math.min(this.count, top + seen + EXTRA);
    const fragment = document.createDocumentFragment();
    const words = pattern(this.part("log-q")?.value ?? "");
    for (let p = from; p < to; p += 1) { fragment.append(this.row(this.indexOf(p), words)); }
    this.rows.replaceChildren(fragment);
    let y = scrolled - (place - from * ROW);
    if (wrap) { // rows differ in height: hold on to the top one, or to the end
      const atEnd = to === this.count && scrolled >= travel - 2;
      y = atEnd ? height - this.rows.offsetHeight : scrolled - (this.rows.children[top - from]?.offsetTop ?? 0);
    }
    this.rows.style.transform = `translateY(${y}px)`;
    this.position(top, seen);
  }
  row(index, words) {
    const number = this.lines.first + index;
    const row = document.createElement("div");
    row.className = `ll${this.lines.stream[index] === "e" ? " ll--err" : ""}${index === this.target ? " is-target" : ""}${this.hits && this.hits[this.hit] === index ? " is-hit" : ""}`;
    const link = document.createElement("a");
    link.className = "n"; link.href = `#L${number}`; link.textContent = number; link.tabIndex = -1; link.dataset.index = index;
    const time = document.createElement("time");
    time.textContent = this.lines.time[index];
    const text = document.createElement("span");
    paint(text, parse(this.lines.raw[index].replaceAll("\t", "        ")), words);
    row.append(link, time, text);
    return row;
  }
  position(top, seen) {
    const place = this.part("log-pos");
    if (!place) { return; }
    const last = Math.min(this.count, top + seen);
    place.textContent = this.count ? `lines ${(this.lines.first + this.indexOf(top)).toLocaleString("en-US")} to ${(this.lines.first + this.indexOf(last - 1)).toLocaleString("en-US")} of ${(this.lines.first + this.lines.length - 1).toLocaleString("en-US")}` : "no lines yet";
  }

  follow(on) {
    this.following = on;
    this.log.dataset.follow = on ? "on" : "off";
    const button = this.part("follow-btn");
    if (button) {
      button.setAttribute("aria-pressed", String(on));
      button.classList.toggle("btn-lamp", on);
      button.classList.toggle("btn-line", !on);
      const word = button.querySelector("span");
      if (word) { word.textContent = on ? "Pause" : "Follow"; }
    }
    this.schedule();
  }
  reveal(index) {
    const at = this.list ? this.list.indexOf(index) : index;
    if (at < 0) { return; }
    this.follow(false);
    requestAnimationFrame(() => {
      const scale = Math.max(1, (this.count * ROW) / TALLEST);
      this.body.scrollTop = Math.max(0, (at * ROW) / scale - this.body.clientHeight / 2);
      this.schedule();
    });
  }
  search(move) {
    const box = this.part("log-q");
    this.hits = box ? this.lines.search(box.value, this.stream) : null;
    this.hit = this.hits?.length ? this.hits.length - 1 : -1;
    this.tell();
    if (move && this.hit >= 0) { this.reveal(this.hits[this.hit]); }
    this.schedule();
  }
  step(by) {
    if (!this.hits?.length) { return; }
    this.hit = (this.hit + by + this.hits.length) % this.hits.length;
    this.tell();
    this.reveal(this.hits[this.hit]);
  }
  tell() {
    const place = this.part("log-hits");
    if (place) { place.textContent = this.hits === null ? "" : this.hits.length ? `${this.hit + 1} of ${this.hits.length}` : "no match"; }
  }
  /** After new lines: hits and the filtered list grow by looking at the new part only. */
  grow(from) {
    const words = this.part("log-q")?.value;
    for (let i = from; i < this.lines.length; i += 1) {
      if (this.list && this.lines.stream[i] === this.stream) { this.list.push(i); }
    }
    if (words) { this.stale = true; clearTimeout(this.later); this.later = setTimeout(() => this.search(false), 300); }
    const counts = this.log.querySelectorAll("[data-log-count]");
    counts.forEach((place) => { place.textContent = (this.lines.counts[place.dataset.logCount] ?? this.lines.length).toLocaleString("en-US"); });
    this.schedule();
  }

  listen() {
    const { log, body } = this;
    log.addEventListener("log:append", (event) => {
      const from = this.lines.length;
      (Array.isArray(event.detail) ? event.detail : [event.detail]).forEach((piece) => this.lines.append(piece.stream, piece.text, piece.time));
      this.grow(from);
    });
    log.addEventListener("log:reset", (event) => { const first = event.detail?.first ?? this.lines.first; this.lines = new Lines(); this.lines.first = first; this.list = this.stream === "all" ? null : []; this.search(false); });
    log.addEventListener("log:end", () => { log.dataset.ended = "yes"; });
    let top = 0;
    body.addEventListener("scroll", () => {
      const up = body.scrollTop < top - 2;
      top = body.scrollTop;
      if (up && this.following && body.scrollTop + body.clientHeight < body.scrollHeight - ROW) { this.follow(false); }
      this.schedule();
    });
    body.addEventListener("click", (event) => {
      const link = event.target.closest("a.n");
      if (!link) { return; }
      event.preventDefault();
      this.target = Number(link.dataset.index);
      history.replaceState(history.state, "", link.hash);
      this.schedule();
    });
    this.part("follow-btn")?.addEventListener("click", () => this.follow(!this.following));
    this.part("wrap-btn")?.addEventListener("click", (event) => {
      const on = log.dataset.wrap !== "on";
      log.dataset.wrap = on ? "on" : "off";
      event.currentTarget.setAttribute("aria-pressed", String(on));
      this.schedule();
    });
    const box = this.part("log-q");
    box?.addEventListener("input", () => { clearTimeout(this.later); this.later = setTimeout(() => this.search(true), 120); });
    box?.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); this.step(event.shiftKey ? -1 : 1); } });
    this.part("next")?.addEventListener("click", () => this.step(1));
    this.part("prev")?.addEventListener("click", () => this.step(-1));
    log.querySelectorAll("[data-log-stream]").forEach((radio) => radio.addEventListener("change", () => {
      this.stream = radio.value;
      this.list = this.lines.visible(this.stream);
      this.search(false);
    }));
    new ResizeObserver(() => this.schedule()).observe(body);
  }
}

/** Writes a line: runs of colour as classes, what was searched for as <mark>. */
function paint(place, { text, runs }, words) {
  const marks = [];
  if (words) {
    words.lastIndex = 0;
    for (const match of text.matchAll(words)) { if (match[0]) { marks.push([match.index, match.index + match[0].length]); } }
  }
  const cuts = [...new Set([0, text.length, ...runs.map(([at]) => at), ...marks.flat()])].sort((a, b) => a - b);
  for (let i = 0; i + 1 < cuts.length; i += 1) {
    const piece = text.slice(cuts[i], cuts[i + 1]);
    const classes = runs.findLast(([at]) => at <= cuts[i])?.[1] ?? "";
    const marked = marks.some(([from, to]) => from <= cuts[i] && cuts[i] < to);
    if (!classes && !marked) { place.append(piece); continue; }
    const node = document.createElement(marked ? "mark" : "span");
    if (classes) { node.className = classes; }
    node.textContent = piece;
    place.append(node);
  }
}

onContent(() => document.querySelectorAll("[data-log]").forEach((log) => {
  if (!started.has(log)) { started.add(log); new Viewer(log); }
}));
