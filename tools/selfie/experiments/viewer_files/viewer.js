// The map of selfies on a canvas. MAP comes from data.js; no library, no network.
// WebGL is not used: a browser refuses pictures from file:// as textures, while a 2D canvas draws them.
"use strict";

const MARGIN = 0.04;           // free space around the whole map, as a share of the window
const LARGEST = 48;            // pixels of a thumbnail on the map: what its sprite holds
const COLOUR_ONLY = 14;        // thumbnails smaller than this are plain squares when coloured by score
const BACKGROUND = "#16181b";
const BAD = [200, 85, 61], MIDDLE = [225, 225, 215], GOOD = [42, 127, 158];

const count = MAP.names.length;
const element = id => document.getElementById(id);
const canvas = element("map"), context = canvas.getContext("2d", { alpha: false });
const view = { scale: 1, left: 0, top: 0, fitted: 1 };  // screen = left + scale * place, place in [0, 1]
const chosen = { filter: "all", colour: false, selfie: -1 };
let shown = [...Array(count).keys()];                    // selfies that pass the filter, in drawing order

// --- data ----------------------------------------------------------------------------------------------------------

function range(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  return { low, high, span: high - low || 1 };
}
const xs = range(MAP.x), ys = range(MAP.y), scores = range(MAP.score);
const unitX = x => (x - xs.low) / xs.span;
const unitY = y => (ys.high - y) / ys.span;              // y points up in the map, down on the screen
const placeX = MAP.x.map(unitX), placeY = MAP.y.map(unitY);
const colours = MAP.score.map(colourOf);

// From bad to good, on each side of 50 %; the extremes of the map's own scores get the full colours.
function colourOf(score) {
  const reach = Math.max(0.5 - scores.low, scores.high - 0.5, 0.01);
  const away = Math.max(-1, Math.min(1, (score - 0.5) / reach));
  const end = away < 0 ? BAD : GOOD;
  return `rgb(${MIDDLE.map((value, i) => Math.round(value + (end[i] - value) * Math.abs(away)))})`;
}

// --- sprites: each sheet at full, half, quarter and eighth size, so that small thumbnails are quick and smooth ---------

const sheets = MAP.small.files.map(() => null);
let failed = 0;

function load(file, done) {
  const picture = new Image();
  picture.onload = () => done(picture);
  picture.onerror = () => done(null);
  picture.src = file;
}

function halves(picture) {
  const sizes = [picture];
  for (let level = 1; level < 4; level++) {
    const half = document.createElement("canvas"), before = sizes[level - 1];
    half.width = picture.width >> level;
    half.height = picture.height >> level;
    const drawing = half.getContext("2d", { alpha: false });
    drawing.imageSmoothingQuality = "high";
    drawing.drawImage(before, 0, 0, half.width, half.height);
    sizes.push(half);
  }
  return sizes;
}

function loadSheets() {
  let waiting = sheets.length;
  MAP.small.files.forEach((file, number) => load(file, picture => {
    if (picture) sheets[number] = halves(picture); else failed++;
    if (--waiting === 0) document.body.dataset.ready = "yes";
    tell();
    repaint();
  }));
}

function spot(sprites, selfie) {
  const inSheet = selfie % (sprites.columns * sprites.columns);
  return { sheet: Math.floor(selfie / (sprites.columns * sprites.columns)),
    left: sprites.cell * (inSheet % sprites.columns), top: sprites.cell * Math.floor(inSheet / sprites.columns) };
}

// --- drawing -------------------------------------------------------------------------------------------------------

// Thumbnails grow slower than the map, so that zooming in pulls apart what lies on top of each other.
function thumbnailSize() {
  const whole = Math.max(5, Math.min(LARGEST, 1.15 * view.fitted / Math.sqrt(count)));
  return Math.min(LARGEST, whole * Math.pow(view.scale / view.fitted, 0.7));
}

// Thousands of thumbnails take a while, so they are painted on a layer that is larger than the window, and moving the
// map only moves the layer. While zooming the layer is stretched; it is repainted when the zoom comes to rest.
const layer = { canvas: document.createElement("canvas"), scale: 0, left: 0, top: 0 };
const SPARE = 0.3;             // of the window, on each side
const STRETCH = 1.6, REST = 120;  // times; milliseconds
let stale = true, asked = false, resting = 0;

function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; draw(); });
}

function repaint() {
  stale = true;
  redraw();
}

function draw() {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (stale || !layerServes(width, height)) paint(ratio, width, height);
  const stretch = view.scale / layer.scale;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = BACKGROUND;
  context.fillRect(0, 0, width, height);
  context.drawImage(layer.canvas, view.left - stretch * layer.left, view.top - stretch * layer.top,
    stretch * layer.canvas.width / ratio, stretch * layer.canvas.height / ratio);
  const size = thumbnailSize();
  if (chosen.selfie >= 0) frame(chosen.selfie, size, ratio);
  if (marker) ring(marker, size);
}

function layerServes(width, height) {
  const stretch = view.scale / layer.scale;
  if (stretch !== 1) {
    clearTimeout(resting);
    resting = setTimeout(repaint, REST);
    return stretch < STRETCH && stretch > 1 / STRETCH;
  }
  return Math.abs(layer.left - view.left - SPARE * width) <= SPARE * width
    && Math.abs(layer.top - view.top - SPARE * height) <= SPARE * height;
}

function paint(ratio, width, height) {
  stale = false;
  clearTimeout(resting);
  layer.canvas.width = Math.round((1 + 2 * SPARE) * width * ratio);
  layer.canvas.height = Math.round((1 + 2 * SPARE) * height * ratio);
  Object.assign(layer, { scale: view.scale, left: view.left + SPARE * width, top: view.top + SPARE * height });
  const drawing = layer.canvas.getContext("2d", { alpha: false }), size = thumbnailSize();
  drawing.fillStyle = BACKGROUND;
  drawing.fillRect(0, 0, layer.canvas.width, layer.canvas.height);
  drawing.setTransform(ratio, 0, 0, ratio, 0, 0);
  for (const selfie of shown) drawSelfie(drawing, selfie, layer, size, ratio);
}

// One thumbnail on a canvas whose origin lies at (from.left, from.top) seen from the map's.
function drawSelfie(drawing, selfie, from, size, ratio) {
  const x = from.left + from.scale * placeX[selfie] - size / 2, y = from.top + from.scale * placeY[selfie] - size / 2;
  const { width, height } = drawing.canvas;
  if (x + size < 0 || y + size < 0 || x * ratio > width || y * ratio > height) return;
  const sprite = spot(MAP.small, selfie), sheet = sheets[sprite.sheet];
  if (chosen.colour || !sheet) {
    drawing.fillStyle = colours[selfie];
    drawing.fillRect(x, y, size, size);
    if (!sheet || size < COLOUR_ONLY) return;
  }
  const level = Math.max(0, Math.min(3, Math.floor(Math.log2(LARGEST / (size * ratio))))), part = 1 << level;
  const inset = chosen.colour ? Math.max(2, size * 0.12) : 0, cell = MAP.small.cell / part;
  drawing.drawImage(sheet[level], sprite.left / part, sprite.top / part, cell, cell,
    x + inset, y + inset, size - 2 * inset, size - 2 * inset);
}

function frame(selfie, size, ratio) {
  drawSelfie(context, selfie, view, size, ratio);
  context.strokeStyle = "#ffd54a";
  context.lineWidth = 3;
  context.strokeRect(view.left + view.scale * placeX[selfie] - size / 2 - 1.5,
    view.top + view.scale * placeY[selfie] - size / 2 - 1.5, size + 3, size + 3);
}

function ring(place, size) {
  context.strokeStyle = "#ffd54a";
  context.lineWidth = 4;
  context.beginPath();
  context.arc(view.left + view.scale * unitX(place.x), view.top + view.scale * unitY(place.y), size * 0.5 + 10, 0, 7);
  context.stroke();
}

// --- moving --------------------------------------------------------------------------------------------------------

function resize() {
  const ratio = window.devicePixelRatio || 1, wholeMap = view.scale === view.fitted;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.clientHeight * ratio);
  stale = true;
  if (wholeMap) fit(); else redraw();
}

function fit() {
  const width = canvas.clientWidth, height = canvas.clientHeight;
  view.scale = view.fitted = Math.max(50, (1 - 2 * MARGIN) * Math.min(width, height));
  view.left = (width - view.scale) / 2;
  view.top = (height - view.scale) / 2;
  redraw();
}

function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const scale = Math.max(0.5 * view.fitted, Math.min(200 * view.fitted, view.scale * factor));
  view.left = x - (x - view.left) * scale / view.scale;
  view.top = y - (y - view.top) * scale / view.scale;
  view.scale = scale;
  redraw();
}

function move(x, y) {
  view.left += x;
  view.top += y;
  redraw();
}

const fingers = new Map();      // pointers that are down: id -> place
let travelled = 0;              // pixels since the first went down: a click hardly moves

canvas.addEventListener("pointerdown", event => {
  canvas.setPointerCapture(event.pointerId);
  if (fingers.size === 0) travelled = 0;
  fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  canvas.classList.add("moving");
});

canvas.addEventListener("pointermove", event => {
  const before = fingers.get(event.pointerId);
  if (!before) return;
  const now = { x: event.clientX, y: event.clientY };
  travelled += Math.hypot(now.x - before.x, now.y - before.y);
  if (fingers.size === 1) move(now.x - before.x, now.y - before.y);
  if (fingers.size === 2) {
    const [, other] = [...fingers].find(([id]) => id !== event.pointerId);
    zoom(Math.hypot(now.x - other.x, now.y - other.y) / Math.max(1, Math.hypot(before.x - other.x, before.y - other.y)),
      (now.x + other.x) / 2, (now.y + other.y) / 2);
    move((now.x - before.x) / 2, (now.y - before.y) / 2);
  }
  fingers.set(event.pointerId, now);
});

function lift(event, click) {
  if (!fingers.delete(event.pointerId) || fingers.size) return;
  canvas.classList.remove("moving");
  if (click && travelled < 6) select(selfieAt(event.clientX, event.clientY));
}
canvas.addEventListener("pointerup", event => lift(event, true));
canvas.addEventListener("pointercancel", event => lift(event, false));

canvas.addEventListener("wheel", event => {
  event.preventDefault();
  const pixels = event.deltaY * (event.deltaMode === 1 ? 33 : 1);
  zoom(Math.exp(-Math.max(-200, Math.min(200, pixels)) * 0.0025), event.clientX, event.clientY);
}, { passive: false });

const STEP = 80;
const keys = { "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), "0": fit, Escape: () => select(-1),
  ArrowLeft: () => move(STEP, 0), ArrowRight: () => move(-STEP, 0), ArrowUp: () => move(0, STEP),
  ArrowDown: () => move(0, -STEP) };
document.addEventListener("keydown", event => {
  if (event.target.tagName === "SELECT" || event.ctrlKey || event.metaKey || !keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});

// --- choosing ------------------------------------------------------------------------------------------------------

// The topmost selfie at a point of the screen, or -1.
function selfieAt(x, y) {
  const half = thumbnailSize() / 2;
  for (let i = shown.length - 1; i >= 0; i--) {
    const selfie = shown[i];
    if (Math.abs(view.left + view.scale * placeX[selfie] - x) <= half
      && Math.abs(view.top + view.scale * placeY[selfie] - y) <= half) return selfie;
  }
  return -1;
}

function select(selfie) {
  chosen.selfie = selfie;
  element("card").hidden = selfie < 0;
  redraw();
  if (selfie < 0) return;
  const bad = MAP.score[selfie] < 0.5, drawing = element("picture").getContext("2d");
  element("picture").classList.toggle("bad", bad);
  element("why").hidden = !bad;
  element("score").textContent = `${(100 * MAP.score[selfie]).toFixed(1)} %`;
  element("rank").textContent = `number ${MAP.rank[selfie]} of ${count}`;
  element("name").textContent = MAP.names[selfie];
  const from = spot(MAP.large, selfie);
  drawing.clearRect(0, 0, 128, 128);
  load(MAP.large.files[from.sheet], picture => {
    if (!picture || chosen.selfie !== selfie) return;
    drawing.drawImage(picture, from.left, from.top, MAP.large.cell, MAP.large.cell, 0, 0, 128, 128);
    element("card").dataset.selfie = selfie;
  });
}

function apply() {
  chosen.filter = element("filter").value;
  chosen.colour = element("colour").checked;
  const wanted = { all: () => true, good: score => score >= 0.5, bad: score => score < 0.5 }[chosen.filter];
  shown = [...Array(count).keys()].filter(selfie => wanted(MAP.score[selfie]));
  if (chosen.selfie >= 0 && !wanted(MAP.score[chosen.selfie])) select(-1);
  element("legend").hidden = !chosen.colour;
  tell();
  repaint();
}

function tell() {
  const here = shown.length === count ? `${count} selfies` : `${shown.length} of ${count} selfies`;
  element("status").textContent = failed ? `${here}; ${failed} pictures of thumbnails are missing` : here;
}

// A place that the address names, #x=1.5&y=-3 in the map's own units: where a new selfie was placed.
let marker = null;
function readAddress() {
  const found = new URLSearchParams(location.hash.slice(1)), x = parseFloat(found.get("x")), y = parseFloat(found.get("y"));
  marker = Number.isFinite(x) && Number.isFinite(y) ? { x, y } : null;
  redraw();
}

element("title").textContent = document.title = MAP.title;
element("low").textContent = `${(100 * scores.low).toFixed(0)} %`;
element("high").textContent = `${(100 * scores.high).toFixed(0)} %`;
document.querySelector("#legend i").style.background =
  `linear-gradient(to right, ${[...Array(9).keys()].map(i => colourOf(scores.low + scores.span * i / 8))})`;
element("filter").addEventListener("change", apply);
element("colour").addEventListener("change", apply);
element("in").addEventListener("click", () => zoom(1.4));
element("out").addEventListener("click", () => zoom(1 / 1.4));
element("fit").addEventListener("click", fit);
element("close").addEventListener("click", () => select(-1));
window.addEventListener("resize", resize);
window.addEventListener("hashchange", readAddress);
readAddress();
apply();
resize();
fit();
loadSheets();
