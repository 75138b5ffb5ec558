// The live socket. It only says which ids of a topic changed; the page then re-fetches its fragments.
// Without it the page polls: every 5 s, every 2 s while something wakes, never while the tab is hidden.
import { $, $$, meta } from "./dom.js";
import { clearProblem, showProblem } from "./notices.js";

const POLL = 5000;
const POLL_WAKING = 2000;
const SAFETY = 60000; // messages are at most once, so a connected page looks again now and then
const FIRST_WAIT = 500;
const LONGEST_WAIT = 20000;
const GATHER = 80; // a burst of messages becomes one look
const STOP = { 4401: "You are logged out.", 4403: "You may not see these updates any more." };

const path = meta("curfew-live");
let socket = null;
let tries = 0;
let retry = 0;
let stopped = false;
let connected = false;
let was = false; // was connected before
let lastMessage = 0;
let nextPoll = 0;
const waiting = new Map();

const send = (name, detail) => document.body.dispatchEvent(new CustomEvent(name, { detail, bubbles: false }));
const poll = () => { nextPoll = Date.now() + pause(); send("live:poll", { reason: connected ? "safety" : "polling" }); };
function pause() {
  if (connected) { return SAFETY; }
  return $("[data-waking]") ? POLL_WAKING : POLL;
}

const WORDS = { on: "Live", polling: "Polling", off: "Not live" };
let state = "";
function show(next, title) {
  $$(".live").forEach((dot) => {
    dot.dataset.live = next;
    dot.title = title;
    const word = $("[data-live-word]", dot);
    if (word && word.textContent !== WORDS[next]) { word.textContent = WORDS[next]; }
  });
  state = next;
  document.documentElement.dataset.live = next;
}
function describe() {
  if (state !== "on") { return; }
  const ago = Math.round((Date.now() - lastMessage) / 1000);
  show("on", lastMessage ? `Live updates over WebSocket; last message ${ago} s ago` : "Live updates over WebSocket; no message yet");
}

/* everything that gathered goes out together; who listens to several topics asks once (wire.js) */
function flush() {
  const changes = new Map([...waiting].map(([topic, ids]) => [topic, [...ids]]));
  waiting.clear();
  changes.forEach((ids, topic) => send(`live:${topic}`, { ids, changes }));
}
function receive(event) {
  let message;
  try { message = JSON.parse(event.data); } catch { return; }
  lastMessage = Date.now();
  Object.entries(message?.changes ?? {}).forEach(([topic, ids]) => {
    if (!/^[a-z][a-z0-9_.-]*$/i.test(topic)) { return; }
    if (!waiting.size) { setTimeout(flush, GATHER); }
    if (!waiting.has(topic)) { waiting.set(topic, new Set()); }
    (Array.isArray(ids) ? ids : []).forEach((id) => waiting.get(topic).add(String(id)));
  });
}

function connect() {
  clearTimeout(retry);
  if (stopped || socket) { return; }
  const url = new URL(path, location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const mine = new WebSocket(url);
  socket = mine;
  mine.addEventListener("open", () => {
    connected = true; tries = 0;
    show("on", "Live updates over WebSocket; no message yet");
    nextPoll = Date.now() + SAFETY;
    if (was) { send("live:poll", { reason: "reconnected" }); } // what was missed meanwhile
    was = true;
  });
  mine.addEventListener("message", receive);
  mine.addEventListener("close", (event) => { if (socket === mine) { closed(event.code); } });
}
function closed(code) {
  socket = null; connected = false;
  if (STOP[code]) { stop(code); return; }
  was = true; // a page that loaded before the socket ever opened may have missed something too
  show("polling", "The live connection is gone; this page asks every few seconds instead");
  nextPoll = Math.min(nextPoll, Date.now() + pause());
  const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** tries);
  tries += 1;
  retry = setTimeout(connect, wait / 2 + Math.random() * (wait / 2));
}
function stop(code) {
  stopped = true;
  show("off", `${STOP[code]} This page does not update by itself.`);
  const login = `${meta("curfew-login")}?next=${encodeURIComponent(location.pathname + location.search)}`;
  showProblem({
    title: STOP[code], text: "This page does not update by itself.", key: "session",
    link: code === 4401 ? { href: login, text: "Log in" } : { href: location.pathname + location.search, text: "Reload" },
  });
}

function beat() {
  describe();
  if (document.hidden || stopped) { return; }
  if (!connected) { nextPoll = Math.min(nextPoll, Date.now() + pause()); }
  if (Date.now() >= nextPoll) { poll(); }
}

if (path) {
  show("off", "Connecting");
  nextPoll = Date.now() + POLL;
  connect();
  setInterval(beat, 500);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden || stopped) { return; }
    if (!connected) { tries = 0; connect(); poll(); } else if (Date.now() - lastMessage > POLL) { poll(); }
  });
  window.addEventListener("online", () => { tries = 0; connect(); });
  window.addEventListener("pagehide", () => { if (socket) { const old = socket; socket = null; connected = false; old.close(1000); } });
  window.addEventListener("pageshow", (event) => { if (event.persisted && !stopped) { connect(); } });
  document.addEventListener("curfew:refresh-failed", () => {
    if (!connected && !stopped) { show("polling", "The last refresh failed; trying again"); }
  });
  document.addEventListener("htmx:after:swap", () => clearProblem("network"));
}
