// The lines of a log as data: both streams, unfinished lines, ANSI colours, search. Knows nothing of the page.

const ESC = /\u001b\[([0-9;]*)m|\u001b\[[0-9;?]*[A-Za-ln-z]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g;
const COLORS = { 30: "d", 31: "r", 32: "g", 33: "y", 34: "b", 35: "m", 36: "c", 37: "", 90: "d", 91: "r", 92: "g", 93: "y", 94: "b", 95: "m", 96: "c", 97: "" };

/** Text of a line without its escape sequences, and the runs of colour in it: [from, classes]. */
export function parse(raw) {
  let text = "";
  let at = 0;
  let color = "";
  let bold = false;
  const runs = [];
  for (const match of raw.matchAll(ESC)) {
    text += raw.slice(at, match.index);
    at = match.index + match[0].length;
    if (match[1] === undefined) { continue; }
    for (const code of (match[1] || "0").split(";").map(Number)) {
      if (code === 0) { color = ""; bold = false; } else if (code === 1) { bold = true; } else if (code === 22) { bold = false; }
      else if (code === 2) { color = "d"; } else if (code === 39) { color = ""; } else if (code in COLORS) { color = COLORS[code]; }
    }
    runs.push([text.length, `${color ? `a-${color}` : ""}${bold ? " a-bold" : ""}`.trim()]);
  }
  return { text: text + raw.slice(at), runs };
}

export class Lines {
  constructor() {
    this.raw = []; // one string per line, with its escapes
    this.stream = []; // "o" or "e"
    this.time = [];
    this.first = 1; // number of the first line
    this.open = { o: -1, e: -1 }; // the unfinished line of each stream
    this.counts = { o: 0, e: 0 };
  }
  get length() { return this.raw.length; }

  /** Takes the next piece of one stream; an unfinished last line is completed by the next piece of the same stream. */
  append(stream, text, time = "") {
    const s = stream === "e" || stream === "stderr" ? "e" : "o";
    const parts = text.split("\n");
    parts.forEach((part, i) => {
      const last = i === parts.length - 1;
      if (last && part === "") { return; }
      if (i === 0 && this.open[s] >= 0) { this.raw[this.open[s]] += part; }
      else { this.raw.push(part); this.stream.push(s); this.time.push(time); this.counts[s] += 1; this.open[s] = this.raw.length - 1; }
      const line = this.open[s];
      this.raw[line] = settle(this.raw[line]);
      if (!last) { this.open[s] = -1; }
    });
  }
  /** Indices of the lines of a stream ("all", "o", "e") that hold the words or match /regex/; null when nothing is asked. */
  search(query, stream = "all") {
    const test = tester(query);
    if (!test) { return null; }
    const hits = [];
    for (let i = 0; i < this.raw.length; i += 1) {
      if ((stream === "all" || this.stream[i] === stream) && test(this.raw[i])) { hits.push(i); }
    }
    return hits;
  }
  visible(stream) {
    if (stream === "all") { return null; }
    const list = [];
    for (let i = 0; i < this.raw.length; i += 1) { if (this.stream[i] === stream) { list.push(i); } }
    return list;
  }
}
/** A carriage return starts the line again, as progress bars expect. */
function settle(line) {
  const end = line.endsWith("\r") ? line.slice(0, -1) : line;
  const at = end.lastIndexOf("\r");
  return at < 0 ? line : line.slice(at + 1);
}
/** The pattern of a query: plain words without regard to case, or /regular expression/. */
export function pattern(query) {
  const asked = query.trim();
  if (!asked) { return null; }
  const slashes = /^\/(.+)\/(i?)$/.exec(asked);
  try { return slashes ? new RegExp(slashes[1], `g${slashes[2]}`) : new RegExp(asked.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "gi"); } catch { return null; }
}
function tester(query) {
  const found = pattern(query);
  if (!found) { return null; }
  const one = new RegExp(found.source, found.flags.replace("g", ""));
  return (raw) => one.test(raw.includes("\u001b") ? parse(raw).text : raw);
}
