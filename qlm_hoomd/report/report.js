"use strict";
const root = document.documentElement;
root.classList.add("scripted");

// ---- light and dark ----
const themes = ["auto", "light", "dark"], button = document.querySelector(".theme");
const remembered = () => { try { return localStorage.getItem("qlm-theme"); } catch { return null; } };
function setTheme(theme) {
  if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
  button.textContent = `Theme: ${theme}`;
  try { localStorage.setItem("qlm-theme", theme); } catch { /* a page from a file may have no storage */ }
}
let theme = themes.includes(remembered()) ? remembered() : "auto";
setTheme(theme);
button.addEventListener("click", () => { theme = themes[(themes.indexOf(theme) + 1) % 3]; setTheme(theme); });

// ---- finding one's way ----
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let block = target?.closest("details"); block; block = block.parentElement.closest("details")) block.open = true;
  target?.scrollIntoView();
}
addEventListener("hashchange", reveal);
document.addEventListener("click", (event) => { if (event.target.closest?.(`a[href="${location.hash}"]`) && location.hash) reveal(); });
if (location.hash) reveal();
const links = new Map([...document.querySelectorAll(".aside a")].map((link) => [link.hash.slice(1), link]));
const seen = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) seen.add(entry.target.id); else seen.delete(entry.target.id);
  const current = [...links.keys()].filter((id) => seen.has(id)).pop();
  for (const [id, link] of links) if (id === current) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
}, { rootMargin: "0px 0px -60% 0px" });
for (const id of links.keys()) watcher.observe(document.getElementById(id));
// A table that is wider than the page scrolls; the keyboard must reach it.
const scrollers = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) { target.tabIndex = 0; target.setAttribute("role", "region"); target.setAttribute("aria-label", "Table, scrolls sideways"); }
    else for (const name of ["tabindex", "role", "aria-label"]) target.removeAttribute(name);
  }
});
for (const scroller of document.querySelectorAll(".scroll")) scrollers.observe(scroller);

// ---- values under the mouse ----
const tip = document.createElement("div"), said = document.createElement("p");
tip.className = "tip"; tip.hidden = true; tip.setAttribute("aria-hidden", "true");
said.className = "hidden"; said.setAttribute("aria-live", "polite");
document.body.append(tip, said);
const digits = (value) => String(Number(value.toPrecision(5))).replace("-", "−");
// Where the ends of a bar are equally far, one number says both.
function withError(value, low, high) {
  if (low == null || high == null || (low === value && high === value)) return digits(value);
  const down = value - low, up = high - value;
  return Math.abs(up - down) <= 1e-3 * Math.abs(up + down) ? `${digits(value)} ± ${Number(((up + down) / 2).toPrecision(2))}` : `${digits(value)} [${digits(low)}, ${digits(high)}]`;
}
function plot(box) {
  const points = [], svg = box.querySelector("svg"), ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  ring.setAttribute("class", "ring"); ring.setAttribute("r", "5"); ring.setAttribute("visibility", "hidden"); svg.append(ring);
  for (const panel of JSON.parse(box.querySelector("script").textContent).panels) for (const series of panel.series) {
    const at = (name, i) => Array.isArray(series[name]) ? series[name][i] : series[name];
    for (const i of series.px.keys()) points.push({ panel, series, at: (name) => at(name, i), px: series.px[i], py: series.py[i] });
  }
  const inWords = ({ panel, series, at }) => {
    const lines = [`${panel.x || "x"}: ${withError(at("x"), at("x_low"), at("x_high"))}`, `${panel.y || "y"}: ${withError(at("y"), at("y_low"), at("y_high"))}`];
    if (at("z") != null) lines.push(`${panel.z || "value"}: ${digits(at("z"))}`);
    if (at("n_realisations") != null) lines.push(`${at("n_realisations")} realisation${at("n_realisations") === 1 ? "" : "s"}`);
    return [/^series \d+$/.test(series.name) ? panel.name : series.name, lines];
  };
  let chosen = -1;
  function show(number) {
    chosen = number;
    const point = points[number], view = svg.viewBox.baseVal, frame = svg.getBoundingClientRect(), scale = frame.width / view.width;
    ring.setAttribute("cx", point.px); ring.setAttribute("cy", point.py); ring.setAttribute("visibility", "visible");
    const [name, lines] = inWords(point), title = document.createElement("b");
    title.textContent = name; tip.replaceChildren(title, ...lines.flatMap((line, i) => i ? [document.createElement("br"), line] : [line]));
    tip.hidden = false;
    const x = frame.left + scale * point.px, y = frame.top + scale * point.py, { width, height } = tip.getBoundingClientRect();
    const left = Math.min(Math.max(x + 14 + width > innerWidth ? x - width - 14 : x + 14, 8), innerWidth - width - 8);
    tip.style.transform = `translate(${left}px, ${Math.max(8, y - height - 12 < 8 ? y + 14 : y - height - 12)}px)`;
    return `${point.panel.name}, ${name}: ${lines.join(", ")}`;
  }
  function hide() { chosen = -1; tip.hidden = true; ring.setAttribute("visibility", "hidden"); }
  function nearest(event) {
    const frame = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / frame.width;
    const x = (event.clientX - frame.left) * scale, y = (event.clientY - frame.top) * scale;
    const area = ({ box: [left, top, right, bottom] }) => (right - left) * (bottom - top);
    let best = -1, least = 22, smallest = Infinity;
    const inside = ({ box: [left, top, right, bottom] }) => x > left - 4 && x < right + 4 && y > top - 4 && y < bottom + 4;
    for (const { panel } of points) if (inside(panel)) smallest = Math.min(smallest, area(panel));
    // A point counts for more than a curve that passes it by.
    points.forEach(({ panel, series, px, py }, i) => {
      if (!inside(panel) || area(panel) > smallest) return;
      const distance = Math.hypot(px - x, py - y) + (series.curve ? 4 : 0);
      if (distance < least) { least = distance; best = i; }
    });
    return best;
  }
  const follow = (event) => { const best = nearest(event); if (best < 0) hide(); else if (best !== chosen) show(best); };
  box.addEventListener("pointermove", follow);
  box.addEventListener("pointerdown", follow);
  box.addEventListener("pointerleave", hide);
  box.addEventListener("blur", hide);
  const order = [...points.keys()];
  const series = points.map((point) => point.series), begins = order.filter((i) => !i || series[i] !== series[i - 1]);
  const beside = (step) => { const here = begins.findLastIndex((begin) => begin <= chosen); return begins[(here + step + begins.length) % begins.length]; };
  const moves = {
    ArrowRight: () => Math.min(chosen + 1, points.length - 1), ArrowLeft: () => Math.max(chosen - 1, 0),
    ArrowDown: () => chosen < 0 ? 0 : beside(1), ArrowUp: () => chosen < 0 ? 0 : beside(-1), Home: () => 0, End: () => points.length - 1,
  };
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") { hide(); return; }
    if (!moves[event.key]) return;
    event.preventDefault();
    said.textContent = show(moves[event.key]());
  });
  if (!points.length) return;
  box.tabIndex = 0; box.setAttribute("role", "application"); box.setAttribute("aria-roledescription", "plot with values");
  box.setAttribute("aria-label", "Values of the figure. Left and right go from point to point, up and down from series to series, escape ends.");
}
for (const box of document.querySelectorAll(".plot")) if (box.querySelector("script")) plot(box);
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
