// Feeds the log viewer of a task from the live socket, and from the store where the socket left something out.
// Also: the search over the whole log, and a notice of the browser when the task has ended.
import { $, $$, onContent, say } from "./dom.js";

const PAGE = 1000;
const LARGE_PAGE = 10000; // of a whole log
const FAR = 5000; // a viewer that follows and is further behind than this goes on at the end
const MOST_HELD = 1_000_000; // lines in this tab while it follows; who wants more downloads
const LONGEST_WAIT = 20000;
const started = new WeakSet();
const times = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
let last = ["", ""]; // lines come in batches of one moment
const clock = (at) => { if (at !== last[0]) { last = [at, times.format(new Date(at))]; } return last[1]; };

class Feed {
  constructor(log) {
    this.log = log;
    this.lines = Number(log.dataset.lines); // how many lines of the store are shown or passed over
    this.busy = Promise.resolve();
    this.wait = 500;
    if (log.dataset.ended) { this.tell("ended"); } else {
      this.connect();
      document.body.addEventListener("live:poll", () => this.readOn());
    }
    this.whole = $("[data-log-whole]", log);
    this.whole?.addEventListener("click", () => { this.whole.hidden = true; this.readAll(); });
    this.offerWhole();
  }
  get first() { return Number(this.log.dataset.first || 1); }
  get following() { return this.log.dataset.follow !== "off"; }
  offerWhole() { if (this.whole && this.first > 1) { this.whole.hidden = false; } }
  connect() {
    const url = new URL(`/ws${this.log.dataset.socket}stream`, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url);
    socket.addEventListener("message", (event) => { this.wait = 500; this.take(JSON.parse(event.data)); });
    socket.addEventListener("close", (event) => {
      this.tell("");
      if (event.code < 4400) { setTimeout(() => this.connect(), this.wait); this.wait = Math.min(this.wait * 2, LONGEST_WAIT); }
    });
  }
  tell(word) { const place = $("[data-log-state]", this.log); if (place) { place.textContent = word; } }
  take(message) {
    if (message.type === "hello") { this.tell("live"); this.readOn(); return; }
    if (message.type !== "log") { return; }
    if (String(message.fence) !== this.log.dataset.attempt) { return; }
    this.queue(() => {
      if (message.text !== null && message.first_line === this.lines) {
        this.append([{ stream: message.stream, text: closed(message.text), time: clock(Date.now()) }]);
        this.lines = message.lines;
        if (this.following && this.lines - this.first > MOST_HELD) { this.beginAt(this.lines - PAGE); return this.fetchOn(); }
        return undefined;
      }
      return message.lines > this.lines ? this.fetchOn() : undefined;
    });
  }
  append(pieces) { this.log.dispatchEvent(new CustomEvent("log:append", { detail: pieces })); }
  queue(step) { this.busy = this.busy.then(step).catch(() => this.tell("The log could not be read; trying again")); return this.busy; }
  readOn() { return this.queue(() => this.fetchOn()); }
  async page(first, count) {
    const url = new URL(this.log.dataset.url, location.href);
    url.searchParams.set("first", first);
    url.searchParams.set("count", count);
    if (this.log.dataset.attempt) { url.searchParams.set("attempt", this.log.dataset.attempt); }
    const answer = await fetch(url, { headers: { Accept: "application/json" } });
    if (!answer.ok) { throw new Error(String(answer.status)); }
    return answer.json();
  }
  async fetchOn(count = PAGE) {
    if (!this.log.dataset.attempt) { return; }
    for (;;) {
      const found = await this.page(this.lines, count);
      if (count === PAGE && this.following && found.total_lines - this.lines > FAR) {
        this.beginAt(found.total_lines - PAGE);
        continue;
      }
      this.append(found.lines.map(piece));
      this.lines += found.lines.length;
      if (!found.lines.length || this.lines >= found.total_lines) { return; }
    }
  }
  /** Forget what is shown; what follows begins after `lines` lines of the store. */
  beginAt(lines) {
    this.lines = lines;
    this.log.dataset.first = lines + 1;
    this.log.dispatchEvent(new CustomEvent("log:reset", { detail: { first: lines + 1 } }));
    this.offerWhole();
  }
  /** Everything from the first line on, page by page. */
  readAll() {
    return this.queue(() => { this.beginAt(0); return this.fetchOn(LARGE_PAGE); });
  }
}
const closed = (text) => (text.endsWith("\n") ? text : `${text}\n`);
const piece = (line) => ({ stream: line.stream, text: `${line.text}${line.cut ? " …" : ""}\n`, time: clock(line.at) });

function row(line, hit) {
  const place = document.createElement("div");
  place.className = `ll${line.stream === "stderr" ? " ll--err" : ""}${hit ? " is-hit" : ""}`;
  const number = document.createElement("span");
  number.className = "n";
  number.textContent = line.n + 1;
  const time = document.createElement("time");
  time.textContent = clock(line.at);
  const text = document.createElement("span");
  text.textContent = line.text;
  place.append(number, time, text);
  return place;
}
async function search(form) {
  const box = form.parentElement.querySelector("[data-log-found]");
  const url = new URL(form.dataset.logSearch, location.href);
  url.searchParams.set("search", form.elements.search.value);
  if (form.elements.regex.checked) { url.searchParams.set("regex", "true"); }
  if (form.dataset.attempt) { url.searchParams.set("attempt", form.dataset.attempt); }
  const answer = await fetch(url, { headers: { Accept: "application/json" } });
  const found = await answer.json();
  box.replaceChildren();
  const words = document.createElement("p");
  if (!answer.ok) { words.textContent = Object.values(found.errors ?? {}).flat().join(" ") || found.detail; box.append(words); return; }
  words.textContent = found.count ? `${found.count.toLocaleString("en-US")} line${found.count === 1 ? "" : "s"}${found.more ? `, the first ${found.hits.length} here` : ""}` : "No line matches.";
  box.append(words);
  if (found.hits.length) {
    const list = document.createElement("div");
    list.className = "log night log-found";
    list.tabIndex = 0;
    found.hits.forEach((hit) => list.append(...hit.before.map((l) => row(l, false)), row(hit.line, true), ...hit.after.map((l) => row(l, false)), document.createElement("hr")));
    box.append(list);
  }
}

function announce(button) {
  if (!("Notification" in window) || !/^(waiting|queued|claimed|running)$/.test(button.dataset.taskStatus)) { return; }
  button.hidden = false;
}
let asked = false;
document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("[data-tell-when-done]");
  if (!button) { return; }
  asked = (await Notification.requestPermission()) === "granted";
  $("span", button).textContent = asked ? "You will be told" : "The browser forbids it";
});
function ended() {
  const button = $("[data-tell-when-done]");
  if (asked && button && /^(succeeded|failed|cancelled)$/.test(button.dataset.taskStatus)) {
    asked = false;
    new Notification(`${button.dataset.tellWhenDone} ${button.dataset.taskStatus}`);
    say(`The task ${button.dataset.taskStatus}`);
  }
}

onContent(() => {
  $$("[data-task-log]").forEach((log) => { if (!started.has(log)) { started.add(log); new Feed(log); } });
  $$("[data-log-search]").forEach((form) => {
    if (!started.has(form)) { started.add(form); form.addEventListener("submit", (event) => { event.preventDefault(); search(form); }); }
  });
  $$("[data-tell-when-done]").forEach(announce);
  ended();
});
