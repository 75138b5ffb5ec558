// The paint grid of a week, in hours or half hours: mouse, touch and keyboard, presets, copy day, undo and redo.
// <form data-paint-form><div data-paint data-rate="5.20" data-currency="USD" hx-morph-skip> .cell[data-d][data-h][data-v] …
// <input type="hidden" name="week" data-paint-field>: seven strings of 24 or 48 digits, Monday first, joined by commas.
import { onContent } from "./dom.js";

const DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -48], End: [0, 48] };
const two = (n) => String(n).padStart(2, "0");
const off = "0".repeat(24);
const full = "1".repeat(24);
const span = (from, to) => "0".repeat(from) + "1".repeat(to - from) + "0".repeat(24 - to);
const week = (weekday, weekend) => [...Array(5).fill(weekday), weekend, weekend];
const PRESETS = { office: week(span(8, 19), off), weekend: week(full, off), long: week(span(6, 23), off), always: week(full, full), never: week(off, off) };
const doubled = (row) => row.replace(/./g, "$&$&");
const halved = (row) => row.replace(/(.)(.)/g, (_, a, b) => (a === "1" || b === "1" ? "1" : "0")); // awake where a half is
const resized = (rows, size) => rows.map((row) => (row.length === size ? row : size === 48 ? doubled(row) : halved(row)));
const started = new WeakSet();

class Painter {
  constructor(grid) {
    this.grid = grid;
    this.form = grid.closest("[data-paint-form]");
    this.find();
    this.saved = grid.dataset.saved ? grid.dataset.saved.split(",") : this.read(); // differs where a learned week is shown
    this.undone = [];
    this.done = [];
    this.stroke = null;
    this.anchor = null;
    this.pointer();
    this.keys();
    this.tools();
    this.refresh(false);
  }

  part(name) { return this.form.querySelector(`[data-${name}]`); }
  put(name, text) { const place = this.part(name); if (place) { place.textContent = text; } }
  find() {
    this.cells = Array.from({ length: 7 }, () => []);
    this.grid.querySelectorAll(".cell").forEach((cell) => { this.cells[+cell.dataset.d][+cell.dataset.h] = cell; });
    this.size = this.cells[0].length;
    this.hours = 24 / this.size; // of one cell
  }
  /** Give every day so many cells. */
  cut(size) {
    if (size === this.size) { return; }
    this.cells.forEach((row) => {
      const first = row[0];
      row.slice(1).forEach((cell) => cell.remove());
      for (let h = size - 1; h > 0; h -= 1) {
        const cell = first.cloneNode();
        cell.tabIndex = -1;
        cell.dataset.h = h;
        first.after(cell);
      }
    });
    this.cells.forEach((row, d) => { row[0].tabIndex = d ? -1 : 0; });
    this.grid.dataset.cells = size;
    this.grid.setAttribute("aria-label", `Weekly schedule, 7 days by ${size === 48 ? "48 half hours" : "24 hours"}`);
    this.form.querySelectorAll('[name="cells"]').forEach((radio) => { radio.checked = +radio.value === size; });
    this.find();
  }
  read() { return this.cells.map((row) => row.map((cell) => cell.dataset.v).join("")); }
  write(days) {
    this.cut(days[0].length);
    days.forEach((text, d) => Array.from(text).forEach((v, h) => { this.cells[d][h].dataset.v = v; }));
  }
  brush() { return this.form.querySelector('[name="brush"]:checked')?.value ?? "toggle"; }
  next(cell) { const brush = this.brush(); return brush === "toggle" ? (cell.dataset.v === "1" ? "0" : "1") : brush; }
  at(cell) { return [+cell.dataset.d, +cell.dataset.h]; }
  box([d1, h1], [d2, h2], fn) {
    for (let d = Math.min(d1, d2); d <= Math.max(d1, d2); d += 1) {
      for (let h = Math.min(h1, h2); h <= Math.max(h1, h2); h += 1) { fn(this.cells[d][h]); }
    }
  }
  range() { return this.grid.querySelectorAll(".is-range"); }
  unrange() { this.range().forEach((cell) => cell.classList.remove("is-range")); }

  /** Labels, sums and the hidden field; `tell` lets the form ask the server for totals. */
  refresh(tell = true) {
    const warm = this.part("prewarm")?.checked ?? false;
    const rate = this.grid.dataset.rate ? Number(this.grid.dataset.rate) : null;
    const money = new Intl.NumberFormat("en-US", { style: "currency", currency: this.grid.dataset.currency || "USD", maximumFractionDigits: 0 });
    let awake = 0;
    let warmed = 0;
    this.cells.forEach((row, d) => {
      let hours = 0;
      row.forEach((cell, h) => {
        const follows = h < this.size - 1 ? row[h + 1] : this.cells[(d + 1) % 7][0];
        const on = cell.dataset.v === "1";
        const warms = warm && !on && follows.dataset.v === "1";
        cell.toggleAttribute("data-warm", warms);
        hours += on ? this.hours : 0;
        warmed += warms ? 0.5 : 0;
        cell.setAttribute("aria-label", `${DAYS[d]} ${this.clock(h)}, ${on ? "awake" : warms ? (this.size === 48 ? "asleep, pre-warm" : "asleep, pre-warm from half past") : "asleep"}`);
        cell.setAttribute("aria-selected", String(on));
      });
      awake += hours;
      const sum = this.grid.querySelector(`[data-sum="${d}"]`);
      if (sum) { sum.textContent = hours && rate !== null ? `${hours} h · ${money.format(hours * rate)}` : `${hours} h`; }
    });
    const hours = awake + warmed;
    this.put("paint-total", `${hours} of 168 hours awake, ${168 - hours} asleep.`);
    this.put("paint-hours", `${hours} h/week`);
    this.put("paint-saves", rate === null ? "no price" : `${money.format(((168 - hours) * rate * 52) / 12)}/mo`);
    const changed = resized(this.read(), 48).join() !== resized(this.saved, 48).join();
    const bar = this.part("unsaved");
    if (bar) { bar.hidden = !changed; }
    if (changed) { this.form.dataset.changed = "yes"; } else { delete this.form.dataset.changed; }
    if (this.part("undo")) { this.part("undo").disabled = this.done.length === 0; }
    if (this.part("redo")) { this.part("redo").disabled = this.undone.length === 0; }
    const field = this.part("paint-field");
    const value = this.read().join(",");
    if (field && field.value !== value) {
      field.value = value;
      if (tell) { field.dispatchEvent(new Event("change", { bubbles: true })); }
    }
  }
  clock(h) { return `${two(Math.floor(h * this.hours))}:${(h * this.hours) % 1 ? "30" : "00"}`; }
  begin() { this.before = this.read(); }
  commit(words) {
    if (this.before && this.before.join() !== this.read().join()) { this.done.push(this.before); this.undone = []; }
    this.before = null;
    this.refresh();
    if (words) { this.put("paint-say", words); }
  }
  undo() { if (this.done.length) { this.undone.push(this.read()); this.write(this.done.pop()); this.refresh(); this.put("paint-say", "Undone"); } }
  redo() { if (this.undone.length) { this.done.push(this.read()); this.write(this.undone.pop()); this.refresh(); this.put("paint-say", "Done again"); } }

  /** One rectangle per stroke, so a drag over five days paints five days. */
  pointer() {
    this.grid.addEventListener("pointerdown", (event) => {
      const cell = event.target.closest(".cell");
      if (!cell || event.button > 0) { return; }
      event.preventDefault();
      this.focus(cell);
      this.begin();
      this.unrange();
      this.stroke = { from: this.at(cell), base: this.before, v: this.next(cell) };
      cell.dataset.v = this.stroke.v;
      this.anchor = this.at(cell);
    });
    const stretch = (event) => {
      const cell = document.elementFromPoint(event.clientX, event.clientY)?.closest?.(".cell");
      if (!cell || !this.grid.contains(cell)) { return; }
      this.write(this.stroke.base);
      this.box(this.stroke.from, this.at(cell), (one) => { one.dataset.v = this.stroke.v; });
    };
    document.addEventListener("pointermove", (event) => { if (this.stroke) { stretch(event); } });
    document.addEventListener("pointerup", (event) => { if (this.stroke) { stretch(event); this.stroke = null; this.commit("Painted"); } });
    document.addEventListener("pointercancel", () => { if (this.stroke) { this.write(this.stroke.base); this.stroke = null; this.commit(); } });
    // on a touch screen the Auto brush leaves dragging to the scroller; the two others take it
    this.form.querySelectorAll('[name="brush"]').forEach((radio) => radio.addEventListener("change", () => { this.grid.dataset.brush = this.brush(); }));
  }

  focus(cell) {
    this.grid.querySelectorAll('.cell[tabindex="0"]').forEach((one) => { one.tabIndex = -1; });
    cell.tabIndex = 0;
    cell.focus();
  }
  move(event, [d, h]) {
    event.preventDefault();
    const [down, right] = MOVES[event.key];
    if (h === 0 && right === -1 && !event.shiftKey) { this.grid.querySelector(`[data-copy="${d}"]`)?.focus(); return; }
    if (!event.shiftKey) { this.anchor = null; this.unrange(); } else if (!this.anchor || !this.range().length) { this.anchor = [d, h]; }
    const to = [Math.min(6, Math.max(0, d + down)), Math.min(this.size - 1, Math.max(0, h + right))];
    this.focus(this.cells[to[0]][to[1]]);
    if (event.shiftKey) { this.unrange(); this.box(this.anchor, to, (one) => one.classList.add("is-range")); }
  }
  fill(cell) {
    this.begin();
    const v = this.next(cell);
    const some = this.range();
    if (some.length) { some.forEach((one) => { one.dataset.v = v; }); } else { cell.dataset.v = v; }
    this.commit(`${(some.length || 1) * this.hours} hours ${v === "1" ? "awake" : "asleep"}`);
    this.unrange();
    this.anchor = null;
  }
  keys() {
    this.grid.addEventListener("keydown", (event) => {
      const cell = event.target.closest(".cell");
      const copy = event.target.closest("[data-copy]");
      if (copy && event.key === "ArrowRight") { event.preventDefault(); this.focus(this.cells[+copy.dataset.copy][0]); }
      if (!cell) { return; }
      if (MOVES[event.key]) { this.move(event, this.at(cell)); }
      else if (event.key === " " || event.key === "Enter") { event.preventDefault(); this.fill(cell); }
      else if (event.key === "Escape") { this.unrange(); this.anchor = null; }
    });
    this.form.addEventListener("keydown", (event) => {
      if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z" || event.target.matches("input[type=text], textarea")) { return; }
      event.preventDefault();
      if (event.shiftKey) { this.redo(); } else { this.undo(); }
    });
  }

  tools() {
    this.part("undo")?.addEventListener("click", () => this.undo());
    this.part("redo")?.addEventListener("click", () => this.redo());
    this.part("prewarm")?.addEventListener("change", () => this.refresh());
    this.form.querySelectorAll('[name="cells"]').forEach((radio) => radio.addEventListener("change", () => {
      this.begin();
      this.unrange();
      this.anchor = null;
      this.write(resized(this.before, +radio.value));
      this.commit(radio.value === "48" ? "In half hours" : "In whole hours; an hour is awake where one of its halves is");
    }));
    this.part("paint-reset")?.addEventListener("click", () => { this.begin(); this.write(this.saved); this.commit("Reset"); });
    this.form.addEventListener("click", (event) => {
      const copy = event.target.closest("[data-copy]");
      const preset = event.target.closest("[data-preset]");
      if (copy) {
        this.begin();
        const d = +copy.dataset.copy;
        const text = this.read()[d];
        const last = d < 5 ? 5 : 7; // a weekday is copied to the weekdays below it, Saturday to Sunday
        for (let k = d + 1; k < last; k += 1) { Array.from(text).forEach((v, h) => { this.cells[k][h].dataset.v = v; }); }
        this.commit(`Copied ${DAYS[d]} to the days below`);
      } else if (preset && PRESETS[preset.dataset.preset]) {
        this.begin();
        this.write(resized(PRESETS[preset.dataset.preset], this.size));
        this.commit(preset.textContent.trim());
        preset.closest("details")?.removeAttribute("open");
      }
    });
  }
}

onContent(() => document.querySelectorAll("[data-paint]").forEach((grid) => {
  if (!started.has(grid) && grid.closest("[data-paint-form]")) { started.add(grid); new Painter(grid); }
}));
