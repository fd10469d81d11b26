"use strict";
// What all parts of the page share. Text from files reaches the page as text nodes, or through `plain` where Plotly
// would read it as markup; never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);
const { classes, videos, kinds } = data;
const byId = (id) => document.getElementById(id);
const touch = matchMedia("(pointer: coarse)").matches;
const narrow = matchMedia("(max-width: 800px)");

// video: its index; detection: the selected one of its detections, or -1; answer: show the answer alone; lowest: the
// score slider, for when all detections are shown; hidden: classes filtered out; view: the seconds that the timeline
// shows; time: the cursor's second.
const state = {
  video: -1, detection: -1, answer: data.hasAnswer, lowest: data.scores.initial, hidden: new Set(), view: [0, 1],
  time: 0,
};

const KIND_COLORS = ["#228833", "#2CA8C0", "#AA3377", "#CC9200", "#EE6677", "#8A929B"];

const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const short = (text, length) => (text.length > length ? text.slice(0, length - 1) + "…" : text);
const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
const percent = (share) => (100 * share).toFixed(1);

// An element with properties (`style` of custom CSS properties, `aria-` and others as attributes) and children.
function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("--")) node.style.setProperty(name, value);
    else if (name in node && !name.includes("-")) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const swatch = (index) => make("span", { className: "swatch", "--class": classes[index].color });

function clock(seconds, digits = 2) {
  const parts = Math.round(Math.abs(seconds) * 10 ** digits);
  const pad = (number) => String(Math.floor(number)).padStart(2, "0");
  const unit = 10 ** digits;
  const hours = Math.floor(parts / (3600 * unit));
  const fraction = digits ? "." + String(parts % unit).padStart(digits, "0") : "";
  return (seconds < 0 ? "-" : "") + (hours ? hours + ":" : "") + pad((parts / (60 * unit)) % 60) + ":" +
    pad((parts / unit) % 60) + fraction;
}

const cssColor = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Between two #rrggbb colors.
function mix(from, to, share) {
  const part = (color, at) => parseInt(color.slice(at, at + 2), 16);
  return "#" + [1, 3, 5]
    .map((at) => Math.round(part(from, at) * (1 - share) + part(to, at) * share).toString(16).padStart(2, "0"))
    .join("");
}

// Whether answer, slider and filter let a detection through. By index: a pattern costs seconds on a page of thousands.
const isShown = (item) => (state.answer ? item[6] : item[3] >= state.lowest) && !state.hidden.has(item[0]);

// Indices of the detections that are shown, best first: they are sorted by score.
const visibleDetections = (video) =>
  [...video.detections.keys()].filter((index) => isShown(video.detections[index]));

function countVisible(video) {
  let number = 0;
  for (const item of video.detections) if (isShown(item)) number += 1;
  return number;
}

function overlap(one, other) {
  const shared = Math.max(0, Math.min(one[2], other[2]) - Math.max(one[1], other[1]));
  return shared / Math.max(one[2] - one[1] + other[2] - other[1] - shared, 1e-12);
}
