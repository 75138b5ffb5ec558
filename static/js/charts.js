// Charts from JSON that the server renders: <div data-chart="area" data-source="id"> and json_script with that id.
// Colours come from the tokens, so light and dark need no second theme. Tooltips are drawn (richText): no inline style.
//
// Shapes: area, lines, bars {x, series: [{name, data, role?}], unit?, max?, stack?}; spark {data}; gauge {value, max?, label?, good?: "high"|"low"};
// burndown {x, ideal, left, forecast, unit?}; heatmap {hours, days, cells: [[hour, day, value|null]], unit?, max?};
// sunburst {tree: [{name, value, note?, role?, children?}]}. `unit` is a currency sign ("$") or a suffix ("%", " GB").
// `role` picks the colour: spent, kept, capacity, forecast, good, bad. null is a gap, never a zero.
import { $$, onContent } from "./dom.js";

const still = matchMedia("(prefers-reduced-motion: reduce)");
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const watched = new WeakSet();
const drawn = new WeakMap();

function look() {
  return {
    ink: css("--ink"), ink2: css("--ink-2"), ink3: css("--ink-3"), line: css("--line"), strong: css("--line-strong"),
    surface: css("--surface"), sunken: css("--sunken"), kept: css("--kept"), lamp: css("--lamp"),
    trouble: css("--trouble-solid"), waking: css("--waking-solid"), awake: css("--awake-solid"),
    heat: [0, 1, 2, 3].map((i) => css(`--heat-${i}`)), set: [1, 2, 3, 4, 5, 6].map((i) => css(`--chart-${i}`)),
    font: '"Inter Variable", system-ui, sans-serif',
  };
}
const roleColor = (t, role) => ({ spent: t.lamp, kept: t.kept, capacity: t.ink3, forecast: t.lamp, good: t.awake, bad: t.trouble })[role];

function valued(unit, value) {
  if (value === null || value === undefined || Number.isNaN(value)) { return "no data"; }
  const text = Number(value).toLocaleString("en-US", { maximumFractionDigits: Math.abs(value) < 1 ? 4 : 2, minimumFractionDigits: /^[$€£]$/.test(unit ?? "") && Math.abs(value) < 1000 ? 2 : 0 });
  return /^[$€£¥]$/.test(unit ?? "") ? `${unit}${text}` : `${text}${unit ?? ""}`;
}
function short(unit, value) {
  const small = Math.abs(value) < 0.1; // an axis of thousandths is no row of zeros
  const digits = small ? { maximumSignificantDigits: 2 } : { maximumFractionDigits: 2 };
  const text = Number(value).toLocaleString("en-US", { notation: Math.abs(value) >= 10000 ? "compact" : "standard", ...digits });
  return /^[$€£¥]$/.test(unit ?? "") ? `${unit}${text}` : `${text}${unit ?? ""}`;
}
/** x values may be ISO times; they are shown in the reader's zone. */
function labels(x) {
  const times = x.map((value) => (typeof value === "string" && /^\d{4}-\d\d-\d\dT/.test(value) ? new Date(value) : null));
  if (!times.length || times.some((time) => time === null || Number.isNaN(time.getTime()))) { return x; }
  const days = times.at(-1) - times[0] > 36 * 3600e3;
  const format = new Intl.DateTimeFormat("en-GB", days ? { day: "numeric", month: "short", hour: times.length > 60 ? "2-digit" : undefined } : { hour: "2-digit", minute: "2-digit", second: times.at(-1) - times[0] < 600e3 ? "2-digit" : undefined });
  return times.map((time) => format.format(time));
}

function base(t, unit) {
  return {
    animation: !still.matches, animationDuration: 160, animationDurationUpdate: 160,
    textStyle: { fontFamily: t.font, color: t.ink2, fontSize: 12 },
    color: t.set,
    grid: { left: 8, right: 12, top: 12, bottom: 4, outerBoundsMode: "same", outerBoundsContain: "axisLabel" },
    tooltip: {
      trigger: "axis", renderMode: "richText", confine: true, backgroundColor: t.surface, borderColor: t.strong, borderWidth: 1, padding: [8, 12],
      textStyle: { color: t.ink, fontFamily: t.font, fontSize: 12 }, valueFormatter: (value) => valued(unit, value),
      axisPointer: { type: "line", lineStyle: { color: t.ink3, width: 1, type: "dashed" } },
    },
  };
}
const axisX = (t, x, extra = {}) => ({ type: "category", data: labels(x), boundaryGap: false, axisLine: { lineStyle: { color: t.strong } }, axisTick: { show: false }, axisLabel: { color: t.ink3, fontSize: 11, hideOverlap: true }, ...extra });
const axisY = (t, unit, extra = {}) => ({ type: "value", splitNumber: 3, axisLabel: { color: t.ink3, fontSize: 11, formatter: (value) => short(unit, value) }, splitLine: { lineStyle: { color: t.line } }, ...extra });

const build = {
  area(t, d) { // capacity as a stepped ceiling, requested and used filled under it: the gap is the waste
    const styles = [
      { lineStyle: { color: t.ink3, width: 1.5 }, itemStyle: { color: t.ink3 }, step: "end", areaStyle: { color: t.sunken, opacity: 0.75 } },
      { lineStyle: { color: t.lamp, width: 1.75 }, itemStyle: { color: t.lamp }, areaStyle: { color: t.lamp, opacity: 0.16 } },
      { lineStyle: { color: t.kept, width: 2 }, itemStyle: { color: t.kept }, areaStyle: { color: t.kept, opacity: 0.28 } },
    ];
    const plain = (color) => ({ lineStyle: { color, width: 1.75 }, itemStyle: { color }, areaStyle: { color, opacity: 0.16 } });
    const ceiling = d.series.length === 3 && !d.series.some((s) => s.role);
    return {
      ...base(t, d.unit), xAxis: axisX(t, d.x), yAxis: axisY(t, d.unit, { max: d.max ?? null }),
      series: d.series.map((s, i) => ({ type: "line", name: s.name, data: s.data, symbol: "none", smooth: ceiling && i ? 0.2 : false, stack: d.stack ? "a" : undefined, ...(ceiling ? styles[i] : plain(roleColor(t, s.role) ?? t.set[i % 6])) })),
    };
  },
  lines(t, d) {
    return {
      ...base(t, d.unit), xAxis: axisX(t, d.x), yAxis: axisY(t, d.unit, { max: d.max ?? null, splitNumber: 2 }),
      series: d.series.map((s, i) => {
        const color = roleColor(t, s.role) ?? t.set[i % 6];
        const dash = ["solid", "dashed", "dotted"][Math.floor(i / 2) % 3];
        const alone = s.data.filter((value) => value !== null).length === 1; // a line needs two
        return { type: "line", name: s.name, data: s.data, symbol: alone ? "circle" : "none", connectNulls: false, lineStyle: { width: 1.75, color, type: s.role === "forecast" ? "dotted" : dash }, itemStyle: { color }, areaStyle: d.series.length === 1 ? { color, opacity: 0.12 } : null };
      }),
    };
  },
  bars(t, d) {
    const o = { ...base(t, d.unit ?? "$"), xAxis: axisX(t, d.x, { boundaryGap: true }), yAxis: axisY(t, d.unit ?? "$") };
    o.tooltip.axisPointer = { type: "shadow", shadowStyle: { color: t.sunken, opacity: 0.6 } };
    const two = [t.lamp, t.kept];
    o.series = d.series.map((s, i) => ({
      type: "bar", name: s.name, stack: d.stack === false ? undefined : "a", data: s.data, barMaxWidth: 22,
      itemStyle: { color: roleColor(t, s.role) ?? (d.series.length <= 2 ? two[i] : t.set[i % 6]), borderRadius: i === d.series.length - 1 ? [3, 3, 0, 0] : 0 },
    }));
    return o;
  },
  burndown(t, d) {
    const line = (name, data, style) => ({ name, type: "line", data, symbol: "none", ...style });
    return {
      ...base(t, d.unit ?? "$"), xAxis: axisX(t, d.x), yAxis: axisY(t, d.unit ?? "$", { max: d.max ?? null }),
      series: [
        line("Budget line", d.ideal, { lineStyle: { color: t.ink3, width: 1.25, type: "dashed" }, itemStyle: { color: t.ink3 } }),
        line("Left", d.left, { lineStyle: { color: t.lamp, width: 2 }, itemStyle: { color: t.lamp }, areaStyle: { color: t.lamp, opacity: 0.16 } }),
        ...(d.forecast ? [line("Forecast", d.forecast, { lineStyle: { color: t.lamp, width: 1.5, type: "dotted" }, itemStyle: { color: t.lamp } })] : []),
      ],
    };
  },
  spark(t, d) {
    return {
      ...base(t, d.unit), grid: { left: 0, right: 0, top: 2, bottom: 2 }, tooltip: { show: false },
      xAxis: { type: "category", show: false, boundaryGap: false, data: d.data.map((_, i) => i) }, yAxis: { type: "value", show: false, min: "dataMin" },
      series: [{ type: "line", data: d.data, symbol: "none", lineStyle: { width: 1.5, color: t.kept }, areaStyle: { color: t.kept, opacity: 0.12 } }],
    };
  },
  gauge(t, d) {
    const max = d.max ?? 100;
    const part = d.good === "low" ? 1 - d.value / max : d.value / max;
    const color = part >= 0.8 ? t.awake : part >= 0.5 ? t.waking : t.trouble;
    return {
      ...base(t, d.unit), tooltip: { show: false },
      series: [{
        type: "gauge", min: 0, max, startAngle: 210, endAngle: -30, radius: "100%", center: ["50%", "62%"], pointer: { show: false }, axisTick: { show: false }, splitLine: { show: false }, axisLabel: { show: false },
        progress: { show: true, roundCap: true, width: 10, itemStyle: { color } }, axisLine: { roundCap: true, lineStyle: { width: 10, color: [[1, t.line]] } },
        detail: { valueAnimation: false, formatter: (value) => short(d.unit, value), color: t.ink, fontSize: 26, fontWeight: 640, offsetCenter: [0, "-4%"] },
        title: { color: t.ink2, fontSize: 12, offsetCenter: [0, "24%"] }, data: [{ value: d.value, name: d.label ?? "" }],
      }],
    };
  },
  heatmap(t, d) {
    const o = base(t, d.unit);
    o.grid = { left: 8, right: 8, top: 4, bottom: 4, outerBoundsMode: "same", outerBoundsContain: "axisLabel" };
    o.tooltip = { ...o.tooltip, trigger: "item", formatter: (p) => `${d.days[p.value[1]]} ${d.hours[p.value[0]]}\n${valued(d.unit, p.value[2])}` };
    const axis = (data, extra) => ({ type: "category", data, axisLine: { show: false }, axisTick: { show: false }, axisLabel: { color: t.ink2, fontSize: 11, ...extra } });
    o.xAxis = axis(d.hours, { color: t.ink3, interval: 2 });
    o.yAxis = { ...axis(d.days), inverse: true };
    const top = d.max ?? Math.max(1, ...d.cells.map((cell) => cell[2] ?? 0));
    o.visualMap = { min: 0, max: top, show: false, inRange: { color: t.heat } };
    o.series = [{ type: "heatmap", data: d.cells.filter((cell) => cell[2] !== null), itemStyle: { borderColor: t.surface, borderWidth: 2, borderRadius: 4 }, emphasis: { itemStyle: { borderColor: t.ink, borderWidth: 1.5 } } }];
    return o;
  },
  sunburst(t, d) {
    const o = base(t, d.unit);
    const dark = css("--sun-label-night");
    const light = css("--sun-label");
    const paint = (node, color, opacity, label) => ({
      ...node, itemStyle: { color, opacity }, label: { color: label },
      children: (node.children ?? []).map((child, i) => paint(child, color, Math.max(0.4, 0.84 - 0.07 * i), label)),
    });
    const tree = d.tree.map((node, i) => { const color = roleColor(t, node.role) ?? t.set[i % 6]; return paint(node, color, 1, color === t.kept ? dark : light); });
    o.tooltip = { ...o.tooltip, trigger: "item", formatter: (p) => `${p.name || "All"}\n${valued(d.unit, p.value)}${p.data?.note ? `\n${p.data.note}` : ""}` };
    o.series = [{
      type: "sunburst", data: tree, radius: ["22%", "96%"], nodeClick: false, sort: null, emphasis: { focus: "ancestor" },
      itemStyle: { borderColor: t.surface, borderWidth: 2, borderRadius: 4 }, label: { fontSize: 11, fontWeight: 600, minAngle: 18, rotate: 0 },
      levels: [{}, { r0: "22%", r: "62%", label: { fontSize: 11, width: 58, overflow: "truncate" } }, { r0: "63%", r: "96%", label: { width: 58, overflow: "truncate" } }],
    }];
    return o;
  },
};

function empty(d) {
  const nothing = (list) => !list || list.every((value) => value === null || value === undefined);
  if (d.series) { return d.series.every((s) => nothing(s.data)); }
  if (d.cells) { return d.cells.every((cell) => cell[2] === null); }
  if (d.tree) { return d.tree.length === 0; }
  return "value" in d ? d.value === null : nothing(d.data ?? d.left);
}

function draw(force) {
  if (!globalThis.echarts) { return; }
  const t = look();
  $$("[data-chart]").forEach((element) => {
    const source = document.getElementById(element.dataset.source);
    if (!source || !build[element.dataset.chart] || !element.clientWidth) { return; }
    const text = source.textContent;
    let chart = globalThis.echarts.getInstanceByDom(element);
    if (chart && !element.firstElementChild) { chart.dispose(); chart = undefined; } // a swap took its canvas away
    if (!force && chart && drawn.get(element) === text) { return; }
    const data = JSON.parse(text);
    drawn.set(element, text);
    if (empty(data)) { chart?.dispose(); element.textContent = "No data yet"; element.classList.add("chart--none"); return; }
    if (!chart) { element.textContent = ""; }
    element.classList.remove("chart--none");
    (chart ?? globalThis.echarts.init(element, null, { renderer: "canvas" })).setOption(build[element.dataset.chart](t, data), true);
    if (!watched.has(element)) {
      watched.add(element);
      new ResizeObserver(() => { const mine = globalThis.echarts.getInstanceByDom(element); if (mine) { mine.resize(); } else { draw(false); } }).observe(element);
    }
  });
}
document.fonts.ready.then(() => onContent(() => draw(false)));
document.addEventListener("curfew:theme", () => draw(true));
document.addEventListener("htmx:before:cleanup", (event) => {
  if (event.target instanceof Element) { $$("[data-chart]", event.target).filter((e) => !e.isConnected).forEach((e) => globalThis.echarts?.getInstanceByDom(e)?.dispose()); }
});
