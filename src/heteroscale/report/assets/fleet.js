"use strict";
// Draws the fleet that the page describes: a square per node, boxes for its switches.
(() => {
  const fleet = JSON.parse(document.getElementById("figures").textContent);
  const canvas = document.getElementById("picture");
  const about = document.getElementById("about");
  const pen = canvas.getContext("2d");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const control = (id) => document.getElementById(id);

  const CELL = 10, GAP = 1.6;
  const PAD = [14, 6, 3.2, 2, 1.2];       // around what a fleet, sub-cluster, S2, S1, S0 holds
  const HEAD = fleet.nodes.length < 300 ? [0, 6, 4.5, 0, 0] : [0, 15, 8, 0, 0];  // room for the name of a box
  const WORDS = ["low", "medium", "high"];
  const LARGEST_CELL = 58, CLOSEST = 40;

  let palette = {};
  const colour = (name) =>
    (palette[name] ??= getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim());
  const count = (value) => value.toLocaleString("en-US");
  const plural = (value, word) => count(value) + " " + word + (value === 1 ? "" : "s");

  // --- The tree, its figures and its words ---
  const domains = fleet.domains.map(([name, parent, depth, subgroup], id) =>
    ({id, name, parent, depth, subgroup, children: [], nodes: [], gpus: 0, used: 0, free: 0, count: 0, down: 0, added: 0, removed: 0}));
  for (const domain of domains) if (domain.parent >= 0) domains[domain.parent].children.push(domain);
  const subgroupOf = (domain) => {
    for (let at = domain; at; at = domains[at.parent]) if (at.subgroup >= 0) return at.subgroup;
    return -1;
  };
  const pathOf = (domain) => {
    const names = [];
    for (let at = domain; at && at.parent >= 0; at = domains[at.parent]) names.unshift(at.name);
    return names.join("/");
  };
  const nodes = fleet.nodes.map(([name, at, type, gpus, used, healthy, runs, moves]) => {
    const domain = domains[at];
    const node = {name, domain, type, gpus, used, healthy, runs: runs ?? [], moves: moves ?? [], found: true};
    node.subgroup = subgroupOf(domain);
    node.words = [name, pathOf(domain), fleet.types[type],
      ...node.runs.map(([service, role]) => fleet.names[service] + " " + fleet.names[role]),
      ...node.moves.map(([service, role]) => fleet.names[service] + " " + fleet.names[role])].join(" ").toLowerCase();
    domain.nodes.push(node);
    for (let around = domain; around; around = domains[around.parent]) {
      around.count += 1; around.gpus += gpus; around.used += Math.max(0, used);
      if (healthy) around.free += gpus - Math.max(0, used); else around.down += 1;
    }
    return node;
  });
  const useKnown = nodes.some((node) => node.used >= 0);
  // What is granted to a switch and not to one of its nodes.
  for (const [at, service, role, replicas] of fleet.grants ?? []) {
    (domains[at].grants ??= []).push([service, role, replicas]);
  }

  // --- Layout, in units of its own: a node is a square of CELL ---
  function flow(boxes, width, gap) {
    let x = 0, y = 0, row = 0, right = 0;
    for (const box of boxes) {
      if (x > 0 && x + box.w > width) { x = 0; y += row + gap; row = 0; }
      box.x = x; box.y = y;
      x += box.w + gap; row = Math.max(row, box.h); right = Math.max(right, x - gap);
    }
    return {w: right, h: y + row};
  }
  function place(boxes, gap, aspect) {
    const area = boxes.reduce((sum, box) => sum + (box.w + gap) * (box.h + gap), 0);
    const widest = boxes.reduce((most, box) => Math.max(most, box.w), 0);
    let best = null;
    for (let step = 0; step < 14; step += 1) {
      const width = Math.max(widest, Math.sqrt(area * aspect) * (0.75 + step * 0.06));
      const size = flow(boxes, width + 1e-6, gap);
      const cost = Math.max(size.w / aspect, size.h);
      if (!best || cost < best.cost - 1e-9) best = {cost, width};
    }
    return best ? flow(boxes, best.width + 1e-6, gap) : {w: 0, h: 0};
  }
  function layout(domain, aspect) {
    const pad = PAD[Math.min(domain.depth, PAD.length - 1)], head = HEAD[Math.min(domain.depth, HEAD.length - 1)];
    for (const child of domain.children) layout(child, 1.5);
    for (const node of domain.nodes) { node.w = CELL; node.h = CELL; }
    const size = place([...domain.children, ...domain.nodes], domain.children.length ? pad * 0.6 + 1 : GAP, aspect);
    domain.w = size.w + 2 * pad; domain.h = size.h + 2 * pad + head;
    for (const box of [...domain.children, ...domain.nodes]) { box.x += pad; box.y += pad + head; }
  }
  function settle(domain, x, y) {
    domain.x = x; domain.y = y;
    for (const node of domain.nodes) { node.x += x; node.y += y; }
    for (const child of domain.children) settle(child, x + child.x, y + child.y);
  }

  // --- View: what is where on the screen ---
  const view = {scale: 1, x: 0, y: 0};
  let width = 0, height = 0, ratio = 1;
  function fit(box) {
    const scale = Math.min(width / box.w, height / box.h, LARGEST_CELL / CELL * (box.parent >= 0 ? 2 : 1));
    Object.assign(view, {scale, x: (width - box.w * scale) / 2 - box.x * scale, y: Math.max(0, (height - box.h * scale) / 2) - box.y * scale});
    draw();
  }
  function zoom(factor, x = width / 2, y = height / 2) {
    const scale = Math.min(CLOSEST, Math.max(0.05, view.scale * factor));
    view.x = x - (x - view.x) * scale / view.scale;
    view.y = y - (y - view.y) * scale / view.scale;
    view.scale = scale;
    draw();
  }
  function resize() {
    const box = canvas.getBoundingClientRect();
    ratio = devicePixelRatio || 1; width = box.width; height = box.height;
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
    layout(domains[0], width / height);
    settle(domains[0], 0, 0);
    fit(domains[0]);
    // At once: a canvas that has a new size is empty.
    paint();
  }

  // --- Drawing ---
  const mix = (from, to, share) => {
    const parse = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
    const [a, b] = [parse(from), parse(to)];
    return "rgb(" + a.map((value, i) => Math.round(value + (b[i] - value) * share)).join(",") + ")";
  };
  const hue = (node) => {
    if (control("colour").value === "subgroup") return colour("subgroup-" + (WORDS[node.subgroup] ?? "low"));
    if (control("colour").value === "use") return mix(colour("low-use"), colour("high-use"), Math.max(0, node.used) / node.gpus);
    return colour("type-" + (node.type % 6));
  };
  function label(text, x, y, room, size, strong) {
    pen.font = (strong ? "600 " : "") + size + "px system-ui, sans-serif";
    let shown = text;
    // Names differ at their ends.
    for (let from = 1; pen.measureText(shown).width > room; from += 1) {
      if (text.length - from < 2) return;
      shown = "…" + text.slice(from);
    }
    pen.fillText(shown, x, y);
  }
  function box(domain) {
    const k = view.scale, x = domain.x * k + view.x, y = domain.y * k + view.y, w = domain.w * k, h = domain.h * k;
    if (x > width || y > height || x + w < 0 || y + h < 0) return;
    if (domain.depth > 0) {
      pen.fillStyle = colour("domain");
      pen.strokeStyle = domain.subgroup > 0 ? colour("subgroup-" + WORDS[domain.subgroup]) : colour(domain.depth === 1 ? "soft" : "subgroup-low");
      pen.lineWidth = domain.subgroup > 0 && domain.depth === 2 ? 2 : domain.depth === 1 ? 1.2 : 0.8;
      pen.beginPath(); pen.roundRect(x, y, w, h, Math.min(7, 2 * k)); pen.fill();
      if (domain.depth < 4 || k > 1.6) pen.stroke();
      const head = HEAD[domain.depth] ?? 0;
      const size = Math.min(14, head * k * 0.82);
      if (size > 6.5) {
        pen.fillStyle = colour(domain.depth === 1 ? "ink" : "soft");
        const word = domain.subgroup > 0 ? " · " + WORDS[domain.subgroup] : "";
        const more = domain.depth === 1 ? " · " + plural(domain.count, "node") + (useKnown ? ", " + count(domain.free) + " GPUs free" : "") : word;
        const come = (domain.grants ?? []).reduce((sum, [, , replicas]) => sum + replicas, 0);
        const named = domain.name + more + (come ? " · +" + count(come) : "");
        pen.font = (domain.depth === 1 ? "600 " : "") + size + "px system-ui, sans-serif";
        const room = w - 2 * PAD[domain.depth] * k;
        label(pen.measureText(named).width > room ? domain.name : named, x + PAD[domain.depth] * k, y + head * k * 0.5 + size * 0.5 + 1, room, size, domain.depth === 1);
      }
    }
    for (const child of domain.children) box(child);
    for (const node of domain.nodes) square(node);
    if (domain.grants) {
      pen.strokeStyle = colour("added"); pen.lineWidth = 2.5;
      pen.beginPath(); pen.roundRect(x - 1, y - 1, w + 2, h + 2, Math.min(7, 2 * k)); pen.stroke();
    }
  }
  function square(node) {
    const k = view.scale, x = node.x * k + view.x, y = node.y * k + view.y, s = CELL * k;
    if (x > width || y > height || x + s < 0 || y + s < 0) return;
    pen.globalAlpha = node.found ? 1 : 0.13;
    const fill = hue(node);
    const share = node.used < 0 ? 0 : Math.min(1, node.used / node.gpus);
    if (!node.healthy) {
      pen.fillStyle = colour("paper"); pen.fillRect(x, y, s, s);
      pen.strokeStyle = colour("red"); pen.lineWidth = Math.max(0.8, s / 12);
      pen.beginPath(); pen.moveTo(x, y); pen.lineTo(x + s, y + s); pen.moveTo(x + s, y); pen.lineTo(x, y + s); pen.rect(x, y, s, s); pen.stroke();
    } else if (control("colour").value === "use" && node.used >= 0) {
      pen.fillStyle = fill; pen.fillRect(x, y, s, s);
    } else {
      const before = pen.globalAlpha;
      pen.globalAlpha = before * 0.24; pen.fillStyle = fill; pen.fillRect(x, y, s, s);
      pen.globalAlpha = before; pen.fillRect(x, y + s * (1 - share), s, s * share);
    }
    if (node.moves.length) {
      const added = node.moves.some(([, , gpus]) => gpus > 0), removed = node.moves.some(([, , gpus]) => gpus < 0);
      pen.lineWidth = Math.max(1.6, s / 7);
      pen.strokeStyle = colour(removed && !added ? "removed" : "added");
      pen.strokeRect(x, y, s, s);
    }
    if (s > 44) {
      // Words on what is filled are as light as what is around it.
      const on = (from) => colour(node.healthy && share > from ? "paper" : "ink");
      pen.fillStyle = on(1 - 9 / s);
      label(node.name, x + 4, y + 13, s - 8, 11, false);
      const use = node.used < 0 ? String(node.gpus) : node.used + "/" + node.gpus;
      const typed = fleet.types[node.type] + " " + use;
      pen.fillStyle = on(8 / s);
      label(pen.measureText(typed).width > s - 8 ? use : typed, x + 4, y + s - 5, s - 8, 10.5, false);
    }
    pen.globalAlpha = 1;
  }
  function paint() {
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    box(domains[0]);
  }
  // Many changes in one moment are one picture.
  let due = 0;
  function draw() {
    due ||= setTimeout(() => { due = 0; paint(); }, 10);
  }

  // --- What is looked for ---
  const states = {
    "": () => true,
    whole: (node) => node.healthy && node.used === 0,
    part: (node) => node.used > 0 && node.used < node.gpus,
    full: (node) => node.used >= node.gpus,
    down: (node) => !node.healthy,
    moved: (node) => node.moves.length > 0,
  };
  function search() {
    const words = control("find").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const type = control("type").value, subgroup = control("subgroup").value, state = states[control("state").value];
    let found = 0, gpus = 0, free = 0;
    for (const node of nodes) {
      node.found = words.every((word) => node.words.includes(word))
        && (!type || fleet.types[node.type] === type)
        && (!subgroup || WORDS[node.subgroup] === subgroup) && state(node);
      if (node.found) { found += 1; gpus += node.gpus; free += node.healthy ? node.gpus - Math.max(0, node.used) : 0; }
    }
    control("found").textContent = plural(found, "node") + ", " + plural(gpus, "GPU") + (useKnown ? ", " + count(free) + " free" : "");
    draw();
  }
  function legend() {
    const parts = fleet.types.map((type, at) => [`background: ${colour("type-" + (at % 6))}`, type, ""]);
    parts.push([`border-color: ${colour("subgroup-low")}`, "low", "box"], [`border-color: ${colour("subgroup-medium")}`, "medium", "box"],
      [`border-color: ${colour("subgroup-high")}`, "high subgroup", "box"], ["", "unhealthy", "down"]);
    if (fleet.moved) parts.push([`border-color: ${colour("added")}`, "gains instances", "box"], [`border-color: ${colour("removed")}`, "loses instances", "box"]);
    control("legend").replaceChildren(...parts.map(([style, text, kind]) => {
      const part = document.createElement("span"), mark = document.createElement("i");
      mark.style.cssText = style; mark.className = kind;
      part.append(mark, text);
      return part;
    }));
  }

  // --- Pointer ---
  const inside = (thing, x, y, w, h) => x >= thing.x && y >= thing.y && x <= thing.x + w && y <= thing.y + h;
  function under(event) {
    const spot = canvas.getBoundingClientRect();
    const x = (event.clientX - spot.left - view.x) / view.scale, y = (event.clientY - spot.top - view.y) / view.scale;
    let domain = domains[0];
    for (;;) {
      const inner = domain.children.find((child) => inside(child, x, y, child.w, child.h));
      if (!inner) break;
      domain = inner;
    }
    return {domain, node: domain.nodes.find((node) => inside(node, x, y, CELL, CELL))};
  }
  const lines = (title, rows) => {
    const head = document.createElement("b");
    head.textContent = title;
    about.replaceChildren(head, ...rows.filter(Boolean).flatMap((row) => [document.createTextNode(row), document.createElement("br")]));
  };
  const ran = ([service, role, gpus], sign = "") => `${sign}${fleet.names[service]} ${fleet.names[role]}: ${plural(Math.abs(gpus), "GPU")}`;
  function tell(event) {
    const {domain, node} = under(event);
    if (!node && domain.depth === 0) { about.style.display = "none"; return; }
    if (node) {
      const use = node.used < 0 ? "use unknown" : `${node.used} of ${node.gpus} GPUs in use`;
      lines(node.name, [pathOf(node.domain), `${fleet.types[node.type]}, ${use}${node.healthy ? "" : ", unhealthy"}`,
        node.subgroup >= 0 ? WORDS[node.subgroup] + " subgroup" : "", ...node.runs.map((run) => ran(run)),
        ...node.moves.map((move) => ran(move, move[2] > 0 ? "+ " : "− "))]);
    } else {
      lines(`${fleet.levels[domain.depth]} ${domain.name}`, [pathOf(domain),
        `${plural(domain.count, "node")}${domain.down ? ` (${count(domain.down)} unhealthy)` : ""}, ${plural(domain.gpus, "GPU")}`,
        useKnown ? `${count(domain.used)} in use, ${count(domain.free)} free` : "use unknown",
        domain.subgroup >= 0 ? WORDS[domain.subgroup] + " subgroup" : "",
        ...(domain.grants ?? []).map(([service, role, replicas]) => `+ ${replicas} × ${fleet.names[service]} ${fleet.names[role]}`)]);
    }
    const spot = canvas.getBoundingClientRect();
    about.style.display = "block";
    about.style.left = Math.max(4, Math.min(event.clientX - spot.left + 14, width - about.offsetWidth - 6)) + "px";
    about.style.top = Math.max(4, Math.min(event.clientY - spot.top + 14, height - about.offsetHeight - 6)) + "px";
  }
  let grip = null;
  canvas.addEventListener("pointerdown", (event) => { grip = {x: event.clientX, y: event.clientY}; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointerup", () => { grip = null; canvas.classList.remove("moving"); });
  canvas.addEventListener("pointercancel", () => { grip = null; canvas.classList.remove("moving"); });
  canvas.addEventListener("pointerleave", () => { about.style.display = "none"; });
  canvas.addEventListener("pointermove", (event) => {
    if (!grip) { tell(event); return; }
    canvas.classList.add("moving");
    about.style.display = "none";
    view.x += event.clientX - grip.x; view.y += event.clientY - grip.y;
    grip = {x: event.clientX, y: event.clientY};
    draw();
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const spot = canvas.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY * 0.0016), event.clientX - spot.left, event.clientY - spot.top);
  }, {passive: false});
  canvas.addEventListener("dblclick", (event) => fit(under(event).domain));
  control("in").addEventListener("click", () => zoom(1.5));
  control("out").addEventListener("click", () => zoom(1 / 1.5));
  control("all").addEventListener("click", () => fit(domains[0]));
  for (const row of document.querySelectorAll("tr[data-domain]")) {
    row.addEventListener("click", () => { fit(domains[+row.dataset.domain]); canvas.scrollIntoView({block: "center"}); });
  }

  // --- Start ---
  for (const type of fleet.types) control("type").add(new Option(type));
  if (!fleet.moved) control("state").querySelector("[value=moved]").remove();
  for (const id of ["find", "type", "subgroup", "state", "colour"]) control(id).addEventListener("input", search);
  dark.addEventListener("change", () => { palette = {}; legend(); draw(); });
  let size = "";  // the observer calls at once
  new ResizeObserver(() => {
    const box = canvas.getBoundingClientRect(), now = box.width + "×" + box.height;
    if (now !== size) { size = now; resize(); }
  }).observe(canvas);
  legend();
  search();
})();
