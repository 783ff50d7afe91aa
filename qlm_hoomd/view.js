"use strict";
// The interactive view of modes in ``root``, an element with the parts of view_parts.html.j2 in it. Returns what a test needs of it.
function modeView(root) {
const part = (name) => root.querySelector(`[name=${name}]`);
const data = JSON.parse(root.querySelector("script").textContent);
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
const places = new Float32Array(bytes(data.places)), diameters = new Float32Array(bytes(data.diameters));
const types = new Uint8Array(bytes(data.types)), n = types.length, m = data.matrix;
const boxSize = Math.max(m[0][0], m[1][1], m[2][2]);
const meanDiameter = diameters.reduce((sum, one) => sum + one, 0) / n;
const canvas = root.querySelector("canvas"), context = canvas.getContext("2d");
const start = () => { const a = 0.5, b = 0.35, ca = Math.cos(a), sa = Math.sin(a), cb = Math.cos(b), sb = Math.sin(b);
  return [ca, 0, -sa, sa * sb, cb, ca * sb, sa * cb, -sb, ca * cb]; };
let rotation = start(), zoom = 1, playing = false, phase = 0, chosen = data.first, waiting = false, lastTime = 0;
const centred = new Float32Array(3 * n), moves = new Float32Array(3 * n), size = new Float32Array(n), core = new Uint8Array(n);
const screen = new Float32Array(3 * n), order = new Uint32Array(n), bucket = new Uint16Array(n);

// ---- what is shown ----
function choose(number) {
  chosen = (number + data.modes.length) % data.modes.length;
  const mode = data.modes[chosen], vectors = new Int16Array(bytes(mode.vectors));
  let largest = 0, middle = 0;
  for (let i = 0; i < n; i++) {
    size[i] = Math.hypot(vectors[3 * i], vectors[3 * i + 1], vectors[3 * i + 2]);
    if (size[i] > largest) { largest = size[i]; middle = i; }
  }
  for (let i = 0; i < n; i++) {
    size[i] /= largest;
    const f = [0, 1, 2].map((c) => { const d = places[3 * i + c] - places[3 * middle + c]; return d - Math.round(d); });
    for (let c = 0; c < 3; c++) {
      moves[3 * i + c] = vectors[3 * i + c] / largest;
      centred[3 * i + c] = f[0] * m[0][c] + f[1] * m[1][c] + f[2] * m[2][c];
    }
  }
  for (let i = 0; i < n; i++) core[i] = mode.core > 0 && size[i] >= data.coreMoves ? 1 : 0;
  part("mode").selectedIndex = chosen;
  root.querySelector(".label").textContent = `${name(mode)}, ` + (mode.core ? `core of ${mode.core} particles` : "extended: no core") + ` of ${n}`;
  draw();
}
const name = (mode) => `Mode ${mode.index}: ω = ${mode.frequency.toPrecision(4)}, participation ratio e = ${mode.ratio.toPrecision(3)}`;

// ---- drawing ----
let sprites = [];
function paint() {
  const css = getComputedStyle(canvas);
  sprites = [...data.typeColours, data.coreColour].map((colour) => {
    const sprite = document.createElement("canvas");
    sprite.width = sprite.height = 64;
    const ball = sprite.getContext("2d"), shade = ball.createRadialGradient(24, 20, 2, 32, 32, 31);
    shade.addColorStop(0, "#ffffff"); shade.addColorStop(0.25, colour); shade.addColorStop(0.85, colour); shade.addColorStop(1, "#00000088");
    ball.fillStyle = shade; ball.beginPath(); ball.arc(32, 32, 31, 0, 7); ball.fill();
    return sprite;
  });
  sprites.ink = css.color; sprites.page = css.backgroundColor;
  draw();
}
function draw() { if (!waiting) { waiting = true; requestAnimationFrame(render); } }
function render(time) {
  waiting = false;
  if (playing) { phase += Math.min(time - lastTime, 50) * 0.004; draw(); }
  lastTime = time;
  const density = Math.min(window.devicePixelRatio || 1, 2), width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * density) || canvas.height !== Math.round(height * density)) {
    canvas.width = Math.round(width * density); canvas.height = Math.round(height * density);
  }
  context.setTransform(density, 0, 0, density, 0, 0);
  context.globalAlpha = 1; context.fillStyle = sprites.page; context.fillRect(0, 0, width, height);
  const unit = 0.54 * zoom * Math.min(width, height) / boxSize, far = 3 * boxSize, r = rotation;
  const project = (x, y, z) => { const depth = r[6] * x + r[7] * y + r[8] * z, s = unit * far / Math.max(far - depth, 0.2 * far);
    return [width / 2 + s * (r[0] * x + r[1] * y + r[2] * z), height / 2 - s * (r[3] * x + r[4] * y + r[5] * z), s, depth]; };
  edges(project);
  const amplitude = Number(part("amplitude").value) * meanDiameter, threshold = Number(part("threshold").value);
  const swing = playing ? 0.2 * amplitude * Math.sin(phase) : 0;
  const depthRange = 0.9 * boxSize, counts = new Uint32Array(1026);
  for (let i = 0; i < n; i++) {
    const j = 3 * i, p = project(centred[j] + swing * moves[j], centred[j + 1] + swing * moves[j + 1], centred[j + 2] + swing * moves[j + 2]);
    screen[j] = p[0]; screen[j + 1] = p[1]; screen[j + 2] = p[2];
    bucket[i] = Math.max(0, Math.min(1023, Math.floor(512 * (1 + p[3] / depthRange))));
    counts[bucket[i] + 1]++;
  }
  for (let b = 0; b < 1024; b++) counts[b + 1] += counts[b];
  for (let i = 0; i < n; i++) order[counts[bucket[i]]++] = i;
  context.lineCap = "round";
  for (let k = 0; k < n; k++) {
    const i = order[k], j = 3 * i, large = size[i] >= threshold;
    const near = bucket[i] / 1023, d = diameters[i] * screen[j + 2] * (core[i] ? 0.85 : large ? 0.4 : 0.2);
    context.globalAlpha = large ? 0.5 + 0.5 * near : 0.15 + 0.4 * near;
    context.drawImage(sprites[core[i] ? sprites.length - 1 : types[i]], screen[j] - d / 2, screen[j + 1] - d / 2, d, d);
    if (large && amplitude > 0) arrow(i, amplitude, project);
  }
}
function edges(project) {
  context.strokeStyle = sprites.ink; context.globalAlpha = 0.35; context.lineWidth = 1; context.beginPath();
  const corner = (bits) => { const f = [0, 1, 2].map((c) => ((bits >> c) & 1) - 0.5);
    return project(...[0, 1, 2].map((c) => f[0] * m[0][c] + f[1] * m[1][c] + f[2] * m[2][c])); };
  for (let bits = 0; bits < 8; bits++) for (let c = 0; c < 3; c++) if (!((bits >> c) & 1)) {
    const a = corner(bits), b = corner(bits | (1 << c)); context.moveTo(a[0], a[1]); context.lineTo(b[0], b[1]);
  }
  context.stroke();
}
function arrow(i, amplitude, project) {
  const j = 3 * i, tip = project(...[0, 1, 2].map((c) => centred[j + c] + amplitude * moves[j + c]));
  const x = screen[j], y = screen[j + 1], dx = tip[0] - x, dy = tip[1] - y, length = Math.hypot(dx, dy);
  const head = Math.min(0.4 * meanDiameter * tip[2], 0.5 * length), ex = dx / (length || 1), ey = dy / (length || 1);
  context.strokeStyle = context.fillStyle = sprites.ink;
  context.lineWidth = Math.max(1, 0.07 * meanDiameter * tip[2]);
  context.beginPath(); context.moveTo(x, y); context.lineTo(tip[0] - 0.8 * head * ex, tip[1] - 0.8 * head * ey); context.stroke();
  context.beginPath(); context.moveTo(tip[0], tip[1]);
  context.lineTo(tip[0] - head * ex - 0.4 * head * ey, tip[1] - head * ey + 0.4 * head * ex);
  context.lineTo(tip[0] - head * ex + 0.4 * head * ey, tip[1] - head * ey - 0.4 * head * ex); context.fill();
}

// ---- mouse, touch, keys ----
function rotate(right, down) {
  const turn = (a, b, angle) => { const c = Math.cos(angle), s = Math.sin(angle);
    for (let k = 0; k < 3; k++) { const u = rotation[3 * a + k], v = rotation[3 * b + k];
      rotation[3 * a + k] = c * u + s * v; rotation[3 * b + k] = c * v - s * u; } };
  turn(0, 2, right); turn(1, 2, -down); draw();
}
function scale(factor) { zoom = Math.min(20, Math.max(0.3, zoom * factor)); draw(); }
const fingers = new Map();
const span = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a.x - b.x, a.y - b.y); };
canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); fingers.set(event.pointerId, { x: event.clientX, y: event.clientY }); });
canvas.addEventListener("pointermove", (event) => {
  const finger = fingers.get(event.pointerId);
  if (!finger) return;
  const before = fingers.size === 2 ? span() : 0, dx = event.clientX - finger.x, dy = event.clientY - finger.y;
  finger.x = event.clientX; finger.y = event.clientY;
  if (fingers.size === 2 && before > 0) scale(span() / before);
  else if (fingers.size === 1) rotate(0.008 * dx, 0.008 * dy);
});
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
// In a page that scrolls, the wheel is the page's until the picture is clicked.
const free = () => document.activeElement === canvas || document.documentElement.scrollHeight <= document.documentElement.clientHeight;
canvas.addEventListener("wheel", (event) => { if (!free()) return; event.preventDefault(); scale(Math.exp(-0.0015 * event.deltaY)); }, { passive: false });
const keys = { ArrowLeft: () => rotate(-0.1, 0), ArrowRight: () => rotate(0.1, 0), ArrowUp: () => rotate(0, -0.1), ArrowDown: () => rotate(0, 0.1),
  "+": () => scale(1.15), "=": () => scale(1.15), "-": () => scale(1 / 1.15), n: () => choose(chosen + 1), p: () => choose(chosen - 1), " ": play, 0: reset };
canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
  event.preventDefault(); keys[event.key]();
});
function play() {
  playing = !playing; phase = 0; lastTime = performance.now();
  part("play").textContent = playing ? "Pause" : "Play"; part("play").setAttribute("aria-pressed", String(playing)); draw();
}
function reset() { rotation = start(); zoom = 1; draw(); }

// ---- controls ----
for (const mode of data.modes) part("mode").add(new Option(`${mode.index}: ω = ${mode.frequency.toPrecision(4)}, e = ${mode.ratio.toPrecision(3)}`));
part("mode").addEventListener("change", () => choose(part("mode").selectedIndex));
part("previous").addEventListener("click", () => choose(chosen - 1));
part("next").addEventListener("click", () => choose(chosen + 1));
part("play").addEventListener("click", play);
part("reset").addEventListener("click", reset);
function sliders() {
  part("amplitude").previousElementSibling.textContent = `${Number(part("amplitude").value).toFixed(1)} diameters`;
  part("threshold").previousElementSibling.textContent = `${Math.round(100 * Number(part("threshold").value))} % of the largest`;
  draw();
}
for (const name of ["amplitude", "threshold"]) part(name).addEventListener("input", sliders);
[...data.typeNames.map((text, k) => [text, data.typeColours[k]]), ["core: moves at least half of the largest", data.coreColour]].forEach(([text, colour]) => {
  const item = document.createElement("li"), swatch = document.createElement("span");
  swatch.className = "swatch"; swatch.style.background = colour; item.append(swatch, text); root.querySelector("ul").append(item);
});
if (data.modes.length > 1 && data.modes.length < data.all) root.querySelector(".held").textContent = `This page holds ${data.modes.length} of the ${data.all} modes; modes.gsd holds all.`;
new ResizeObserver(draw).observe(canvas);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
new MutationObserver(paint).observe(document.documentElement, { attributeFilter: ["data-theme"] });
root.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
for (const choice of root.querySelectorAll(".choice")) choice.hidden = data.modes.length < 2;
choose(data.first); sliders(); paint();
return () => { waiting = false; render(performance.now()); return canvas.toDataURL(); };
}
