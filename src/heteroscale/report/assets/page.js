"use strict";
// Draws the plots that the page describes; which curves there are is decided in plots.py.
function show(root) {
  const run = JSON.parse(root.querySelector("script[type='application/json']").textContent);
  const points = Math.max(0, ...Object.values(run.series).map((row) => row.length));
  // A figure is about the interval that ends where it stands.
  const times = Array.from({length: points}, (_, i) => Math.min(run.start_s + (i + 1) * run.interval_s, run.end_s));
  const days = (points * run.interval_s) / 86400;
  // So few figures make no curve: each is a dot of its own.
  const few = points <= 12;
  const withSeconds = run.end_s - run.start_s < 300;
  const changes = run.changes.map((change) => ({...change, x: run.start_s + change.at_s}));
  const rows = Array.from(root.querySelectorAll(".change"));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const charts = [];
  const NEAR_PX = 9;

  let palette = {};
  const colour = (name) =>
    (palette[name] ??= getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim());

  // --- Figures in words ---
  const three = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : String(+value.toPrecision(3)));
  const short = (value) => {
    for (const [limit, unit] of [[1e9, "bn"], [1e6, "M"], [1e4, "k"]])
      if (Math.abs(value) >= limit) return three(value / (unit === "k" ? 1e3 : limit)) + unit;
    return three(value);
  };
  const seconds = (value) => (Math.abs(value) < 0.9995 ? three(value * 1000) + " ms" : three(value) + " s");
  const share = (value) => +(value * 100).toFixed(value > 0.9 && value < 1 ? 2 : 1) + "%";
  const units = {
    tps: short, count: short, s: seconds, share, attainment: share,
    rps: (value) => three(value) + "/s", ratio: three,
  };
  const two = (value) => String(value).padStart(2, "0");
  const clock = (x, withDay) => {
    const moment = new Date(x * 1000);
    const time = two(moment.getUTCHours()) + ":" + two(moment.getUTCMinutes())
      + (withSeconds ? ":" + two(moment.getUTCSeconds()) : "");
    return withDay ? moment.toLocaleDateString("en-GB", {day: "numeric", month: "short", timeZone: "UTC"}) + " " + time : time;
  };

  // --- What a plot is made of ---
  const rowOf = (key) => run.series[key] ?? new Array(points).fill(null);

  function columns(plot) {
    const raw = plot.lines.map((line) => rowOf(line.key));
    if (!plot.stacked) return {raw, drawn: raw};
    const sums = new Array(points).fill(0);
    return {raw, drawn: raw.map((row) => row.map((value, i) => (sums[i] += value ?? 0)))};
  }

  function extent(drawn) {
    let low = Infinity, high = -Infinity;
    for (const row of drawn) for (const value of row) if (value !== null) {
      if (value > 0 && value < low) low = value;
      if (value > high) high = value;
    }
    return {low, high};
  }

  // Latency that leaves its limit far behind is read on a logarithmic axis.
  const isLog = (plot, {high}) => plot.limit !== null && high > 8 * plot.limit;

  function scale(plot, bounds) {
    if (isLog(plot, bounds)) {
      const low = 10 ** Math.floor(Math.log10(Math.min(bounds.low, plot.limit)));
      return {distr: 3, range: () => [low, bounds.high * 1.5]};
    }
    const top = Math.max(bounds.high, plot.limit ?? 0);
    const known = Number.isFinite(top) && top > 0 ? top : 1;
    if (plot.unit === "share") return {range: () => [0, Math.max(1, known)]};
    if (plot.unit === "attainment") {
      const floor = Number.isFinite(bounds.low) ? Math.min(0.98, bounds.low) : 0;
      return {range: () => [floor - (1 - floor) * 0.08, 1 + (1 - floor) * 0.08]};
    }
    if (plot.unit === "ratio" && Number.isFinite(bounds.low)) return {range: () => [bounds.low * 0.85, known * 1.15]};
    return {range: () => [0, known * 1.12]};
  }

  function line(plot, spec, at, raw) {
    const write = units[plot.unit] ?? short;
    const series = {
      label: spec.label,
      value: (u, _, __, i) => (i == null || raw[at][i] == null ? "–" : write(raw[at][i])),
      points: few ? {show: true, size: 6, fill: () => colour(spec.colour)} : {show: false},
    };
    if (plot.stacked) {
      return {...series, stroke: () => colour(spec.colour), fill: () => colour(spec.colour), width: 0,
        paths: uPlot.paths.stepped({align: 1})};
    }
    return {...series, stroke: () => colour(spec.colour), width: spec.dashed ? 1.25 : 1.6,
      dash: spec.dashed ? [5, 4] : undefined, spanGaps: false};
  }

  // What is counted has no halves between its ticks.
  const wholeSteps = Array.from({length: 36}, (_, i) => [1, 2, 5][i % 3] * 10 ** Math.floor(i / 3));
  const isWhole = (plot, raw) => plot.unit === "count" && raw.every((row) => row.every((value) => Number.isInteger(value ?? 0)));

  // A run's first interval begins before its first figure; one figure alone has no range of its own.
  const isWholeRun = (min, max) => points === 1 || (min === times[0] && max === times[points - 1]);
  const timeRange = (u, min, max) => (few && isWholeRun(min, max) ? [run.start_s, run.end_s] : [min, max]);

  // --- What is drawn over the curves ---
  function drawLimit(u, plot) {
    if (plot.limit === null) return;
    const {ctx, bbox} = u, y = Math.round(u.valToPos(plot.limit, "y", true)), ratio = devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = colour("red");
    ctx.lineWidth = 1.25 * ratio;
    ctx.setLineDash([7 * ratio, 4 * ratio]);
    ctx.beginPath(); ctx.moveTo(bbox.left, y); ctx.lineTo(bbox.left + bbox.width, y); ctx.stroke();
    ctx.restore();
  }

  // A dashed line where a fault struck, in every plot.
  function drawFaults(u) {
    const {ctx, bbox} = u, ratio = devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = colour("red");
    ctx.lineWidth = ratio;
    ctx.globalAlpha = 0.5;
    ctx.setLineDash([2 * ratio, 3 * ratio]);
    for (const fault of run.faults ?? []) {
      const x = Math.round(u.valToPos(run.start_s + fault.at_s, "x", true));
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.beginPath(); ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke();
    }
    ctx.restore();
  }

  function drawChanges(u) {
    const {ctx, bbox} = u, ratio = devicePixelRatio;
    // Many changes get small marks and faint lines, so that the curves stay what is seen.
    const size = ratio * Math.max(2.2, Math.min(4.5, u.over.clientWidth / (2 * changes.length)));
    ctx.save();
    ctx.lineWidth = ratio;
    ctx.setLineDash([]);
    for (const change of changes) {
      const x = Math.round(u.valToPos(change.x, "x", true));
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      const grows = change.direction === "out";
      ctx.strokeStyle = ctx.fillStyle = colour(grows ? "out" : change.direction === "in" ? "in" : "grey");
      ctx.globalAlpha = Math.max(0.12, Math.min(0.3, 9 / changes.length));
      ctx.beginPath(); ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke();
      ctx.globalAlpha = 1;
      // Out points up from a line of its own, in points down below it: shape and height tell, not only colour.
      const base = bbox.top - (grows ? 7 : 1) * ratio, tip = base - size * 1.5;
      ctx.beginPath();
      if (grows) { ctx.moveTo(x - size, base); ctx.lineTo(x + size, base); ctx.lineTo(x, tip); }
      else { ctx.moveTo(x - size, tip); ctx.lineTo(x + size, tip); ctx.lineTo(x, base); }
      ctx.fill();
    }
    ctx.restore();
  }

  // --- Plots and changes point at one another ---
  function nearest(u, left) {
    let best = -1, distance = NEAR_PX;
    changes.forEach((change, at) => {
      const gap = Math.abs(u.valToPos(change.x, "x") - left);
      if (gap <= distance) { best = at; distance = gap; }
    });
    return best;
  }

  function tell(u, tip) {
    const at = u.over.matches(":hover") ? nearest(u, u.cursor.left) : -1;
    tip.style.display = at < 0 ? "none" : "block";
    u.over.style.cursor = at < 0 ? "" : "pointer";
    if (at < 0) return;
    const change = changes[at], x = u.valToPos(change.x, "x");
    tip.textContent = `${change.direction === "out" ? "▲" : "▼"} ${clock(change.x, days > 1)}  ${change.moves}`;
    const right = x > u.over.clientWidth / 2;
    tip.style.left = right ? "" : x + 8 + "px";
    tip.style.right = right ? u.over.clientWidth - x + 8 + "px" : "";
  }

  function open(at) {
    const row = rows[at];
    rows.forEach((other) => other.classList.toggle("shown", other === row));
    row.open = true;
    row.scrollIntoView({block: "center", behavior: "smooth"});
  }

  function pointAt(at) {
    for (const u of charts) u.setCursor({left: u.valToPos(changes[at].x, "x"), top: 0});
  }

  // --- Put together ---
  function axes(plot, log, whole) {
    const write = units[plot.unit] ?? short;
    const common = {stroke: () => colour("soft"), font: "12px system-ui, sans-serif",
      grid: {stroke: () => colour("grid"), width: 1}, ticks: {show: false}};
    const decade = (value) => Math.abs(Math.log10(value) % 1) < 1e-9;
    return [
      {...common, gap: 4, size: 26, space: 70,
        values: (u, splits) => splits.map((x) => clock(x, days > 2 && x % 86400 === 0))},
      {...common, gap: 4, size: 54, space: 32, ...(whole ? {incrs: wholeSteps} : {}),
        values: (u, splits) => splits.map((value) => (value === null || (log && !decade(value)) ? "" : write(value)))},
    ];
  }

  function draw(plot, at) {
    const holder = root.querySelectorAll(".plot > div")[at];
    const {raw, drawn} = columns(plot);
    const bounds = extent(drawn), tip = Object.assign(document.createElement("div"), {className: "tip"});
    const specs = plot.lines.map((spec, i) => line(plot, spec, i, raw));
    const rowsOfPlot = [...drawn], colours = plot.lines.map((spec) => spec.colour);
    // The highest sum is painted first, so that each lower one covers all but its own share.
    if (plot.stacked) [specs, rowsOfPlot, colours].forEach((list) => list.reverse());
    const log = isLog(plot, bounds);
    if (log) holder.previousElementSibling.lastElementChild.append("; logarithmic axis");
    let pressed = 0;
    const u = new uPlot({
      width: holder.clientWidth, height: 190, padding: [18, withSeconds ? 32 : 22, 0, 0],
      cursor: {sync: {key: "run", setSeries: false}, drag: {x: true, y: false}, points: {size: 5}, y: false},
      scales: {x: {time: true, range: timeRange}, y: scale(plot, bounds)},
      series: [{label: "UTC", value: (u, x) => (x == null ? "–" : clock(x, days > 1))}, ...specs],
      axes: axes(plot, log, isWhole(plot, raw)),
      tzDate: (x) => uPlot.tzDate(new Date(x * 1e3), "Etc/UTC"),
      // A style variable, so that the marks follow the page from light to dark.
      legend: {markers: {width: 0, fill: (u, i) => (i > 0 ? `var(--${colours[i - 1]})` : "none")}},
      hooks: {draw: [(u) => { drawFaults(u); drawChanges(u); drawLimit(u, plot); }], setCursor: [(u) => tell(u, tip)]},
    }, [times, ...rowsOfPlot], holder);
    u.over.append(tip);
    u.over.addEventListener("mousedown", (event) => { pressed = event.clientX; });
    u.over.addEventListener("click", (event) => {
      const chosen = Math.abs(event.clientX - pressed) < 3 ? nearest(u, u.cursor.left) : -1;
      if (chosen >= 0) open(chosen);
    });
    new ResizeObserver(() => {
      if (holder.clientWidth !== u.width) u.setSize({width: holder.clientWidth, height: 190});
    }).observe(holder);
    charts.push(u);
  }

  if (points > 0) run.plots.forEach(draw);
  rows.forEach((row, at) => {
    row.addEventListener("mouseenter", () => pointAt(at));
    row.addEventListener("focusin", () => pointAt(at));
  });
  dark.addEventListener("change", () => { palette = {}; charts.forEach((u) => u.redraw(false)); });
}

// A service that is not open has no width yet: it is drawn when it is first looked at.
for (const root of document.querySelectorAll(".run")) {
  const service = root.closest("details.service");
  if (!service || service.open) show(root);
  else service.addEventListener("toggle", () => show(root), {once: true});
}
