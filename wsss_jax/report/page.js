"use strict";

/* One slider drives everything that depends on the threshold: the markers on the curve, the read-outs and the
   label maps of CAMs. There is none where there is neither a curve nor a CAM. */
const data = JSON.parse(document.getElementById("data").textContent);
const slider = document.getElementById("threshold");

/* Scales of a chart, written by the report into the SVG's data attributes. */
function chartScale(svg) {
  const number = (key) => Number(svg.dataset[key]);
  const map = (a, b, from, to) => (value) => from + ((value - a) / (b - a)) * (to - from);
  return {
    x: map(number("x0"), number("x1"), number("left"), number("right")),
    y: map(number("y0"), number("y1"), number("bottom"), number("top")),
    value: map(number("left"), number("right"), number("x0"), number("x1")),
  };
}

function showOnChart(svg, index) {
  const scale = chartScale(svg);
  const x = scale.x(data.thresholds[index]);
  const cursor = svg.querySelector(".cursor");
  cursor.setAttribute("transform", `translate(${x} 0)`);
  cursor.style.visibility = "visible";
  for (const dot of svg.querySelectorAll(".dot")) {
    const miou = data.curves[dot.dataset.line][index];
    dot.style.visibility = miou === null ? "hidden" : "visible";
    if (miou !== null) dot.setAttribute("transform", `translate(${x} ${scale.y(miou)})`);
  }
}

function showReadouts(index) {
  const text = String(data.thresholds[index]);
  document.getElementById("threshold-value").textContent = text;
  slider.setAttribute("aria-valuetext", text);
  for (const item of document.querySelectorAll(".readouts [data-line]")) {
    const miou = data.curves[item.dataset.line][index];
    item.querySelector("output").textContent = miou === null ? "–" : miou.toFixed(2);
  }
}

/* Colours of the 256 labels as the bytes of RGBA pixels. */
function readPalette(hex) {
  const bytes = new Uint8ClampedArray(256 * 4).fill(255);
  for (let label = 0; label < 256; label += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      bytes[4 * label + channel] = parseInt(hex.slice(6 * label + 2 * channel, 6 * label + 2 * channel + 2), 16);
    }
  }
  return new Uint32Array(bytes.buffer);
}

/* Values of an embedded 8-bit grey PNG. */
async function readPlane(uri, width, height) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, width, height).data;
  return Uint8Array.from({ length: width * height }, (_, i) => pixels[4 * i]);
}

async function readMaps(canvas) {
  const { width, height } = canvas;
  const best = await readPlane(canvas.dataset.best, width, height);
  const labels = await readPlane(canvas.dataset.labels, width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  return { best, labels, context, picture: context.createImageData(width, height) };
}

function drawLabels(maps, palette, threshold) {
  const limit = 255 * threshold;
  const pixels = new Uint32Array(maps.picture.data.buffer);
  for (let i = 0; i < pixels.length; i += 1) {
    pixels[i] = palette[maps.best[i] > limit ? maps.labels[i] : 0];
  }
  maps.context.putImageData(maps.picture, 0, 0);
}

function sortCards() {
  const order = document.getElementById("order").value;
  const measure = document.getElementById("measure").value;
  const column = Number(document.getElementById("order-by").value);
  const score = (card) => Number(card.dataset[measure].split(" ")[column]);
  const byId = (a, b) => (a.dataset.id < b.dataset.id ? -1 : 1);
  const byScore = (a, b) => {
    const [x, y] = [score(a), score(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || byId(a, b);
    return (order === "best" ? y - x : x - y) || byId(a, b);
  };
  const parent = document.getElementById("cards");
  parent.append(...[...parent.children].sort(order === "id" ? byId : byScore));
}

/* Puts the picture under every label map of its card, for the mixed view. */
function placePictures() {
  for (const card of document.querySelectorAll(".card")) {
    for (const stack of card.querySelectorAll(".stack")) {
      const under = card.querySelector(".photo").cloneNode();
      under.className = "under";
      under.alt = "";
      stack.prepend(under);
    }
  }
}

/* A click, or Enter where the keyboard is, shows a picture of a card as large as the window allows. */
function enlarge(picture) {
  const larger = document.getElementById("larger");
  const caption = picture.closest("figure").querySelector("figcaption").textContent;
  const copy = picture.cloneNode(true);
  copy.removeAttribute("tabindex");
  copy.removeAttribute("role");
  const canvas = copy.querySelector("canvas");
  if (canvas) canvas.getContext("2d").drawImage(picture.querySelector("canvas"), 0, 0);
  const [width, height] = ["width", "height"].map((key) => Number(picture.querySelector("[width]")?.getAttribute(key) ?? picture.getAttribute(key)));
  const figure = larger.querySelector("figure");
  figure.style.setProperty("--aspect", width / height);
  figure.classList.toggle("blend", document.getElementById("blend").checked);
  const text = document.createElement("figcaption");
  text.textContent = `${picture.closest(".card").dataset.id} – ${picture.closest(".group").dataset.name} – ${caption}`;
  figure.replaceChildren(copy, text);
  larger.showModal();
}

function startEnlarging() {
  for (const picture of document.querySelectorAll(".card figure > img, .card .stack")) {
    picture.tabIndex = 0;
    picture.setAttribute("role", "button");
    picture.addEventListener("click", () => enlarge(picture));
    picture.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      enlarge(picture);
    });
  }
  const larger = document.getElementById("larger");
  larger.addEventListener("click", (event) => event.target === larger && larger.close());
}

function startGallery() {
  if (!document.getElementById("cards")) return;
  placePictures();
  startEnlarging();
  for (const id of ["order", "measure", "order-by"]) document.getElementById(id).addEventListener("change", sortCards);
  const blend = document.getElementById("blend");
  blend.addEventListener("change", () => document.getElementById("cards").classList.toggle("blend", blend.checked));
  sortCards();
}

/* The plot is a second handle of the slider. */
function followPointer(svg) {
  const pick = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const box = svg.getBoundingClientRect();
    const column = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const wanted = chartScale(svg).value(column);
    const distance = (index) => Math.abs(data.thresholds[index] - wanted);
    const nearest = data.thresholds.reduce((best, _, index) => (distance(index) < distance(best) ? index : best), 0);
    slider.value = nearest;
    slider.dispatchEvent(new Event("input"));
  };
  svg.addEventListener("pointerdown", pick);
  svg.addEventListener("pointermove", pick);
}

async function startSlider() {
  slider.max = data.thresholds.length - 1;
  slider.value = data.start;
  const charts = [...document.querySelectorAll(".chart.sweep")];
  const palette = readPalette(data.palette);
  let maps = [];
  const show = () => {
    const index = Number(slider.value);
    showReadouts(index);
    for (const svg of charts) showOnChart(svg, index);
    for (const entry of maps) drawLabels(entry, palette, data.thresholds[index]);
  };
  let frame = 0;
  slider.addEventListener("input", () => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(show);
  });
  charts.forEach(followPointer);
  show();
  maps = await Promise.all([...document.querySelectorAll("canvas.map")].map(readMaps));
  show();
}

/* What the run and each score are made of is folded on phones, where it would hide the scores. */
function foldOnPhones() {
  const phone = matchMedia("(max-width: 640px)");
  const fold = () => document.querySelectorAll("details").forEach((each) => (each.open = !phone.matches));
  phone.addEventListener("change", fold);
  fold();
}

async function start() {
  foldOnPhones();
  startGallery();
  if (slider) await startSlider();
  document.documentElement.dataset.ready = "true";
}

start();
