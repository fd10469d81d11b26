// The timeline of the open video: one row a class, its curves beneath, and over them HTML (cursor, selected detection,
// frames), which moves without drawing anything again. Plotly draws; bars are numbers of seconds on a linear axis with
// labels of our own.

const ROW = 34, HIGH_ROW = 46, CURVES = 110, GAP = 18, TOP = 4, AXIS = 28, FILM = 54, RIGHT = 22;
const MOST_LANES = 3;
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];
const chart = byId("chart");
const plot = byId("timeline");
let geometry = null; // of `measure`

// Detections of a class that overlap are drawn beside each other, the best in the first lane. Lanes are those of all
// detections, so that they stay the same when the slider moves.
function lanesOf(video) {
  if (video.lanes) return video.lanes;
  const taken = classes.map(() => []);
  video.lanes = video.detections.map(([index, start, end]) => {
    const lanes = taken[index];
    let lane = lanes.findIndex((others) => others.every(([from, to]) => to <= start || from >= end));
    if (lane < 0) lane = Math.min(lanes.length, MOST_LANES - 1);
    (lanes[lane] ??= []).push([start, end]);
    return lane;
  });
  return video.lanes;
}

// Middle and height of a lane, in rows.
function laneAt(row, lane) {
  const height = 0.66 / geometry.lanes[row];
  return [row - 0.33 + height * (lane + 0.5), height];
}

function drawTimeline() {
  const video = videos[state.video];
  const indices = visibleDetections(video);
  measure(video, indices);
  const traces = [truthBars(video), detectionBars(video, indices), pointMarks(video), ...curveLines(video)];
  Plotly.react(plot, traces, axes(video), { displayModeBar: false, doubleClick: false, showTips: false });
  if (!isWatched) watchPlot();
  plot.setAttribute("aria-label",
    `Timeline of ${video.id}: ${count(indices.length, "detection")}, listed in the table. ` +
    "Arrow keys step through them.");
  drawFilm(video.media?.film);
  placeOverlays();
}

// Places and sizes of everything, in pixels of the chart.
function measure(video, indices) {
  const rows = video.rows.filter((index) => !state.hidden.has(index));
  const lanes = rows.map(() => 1);
  for (const index of indices) {
    const at = rows.indexOf(video.detections[index][0]);
    lanes[at] = Math.max(lanes[at], lanesOf(video)[index] + 1);
  }
  const small = plot.clientWidth < 600;
  const left = small ? 92 : 150;
  const row = rows.length <= 5 ? HIGH_ROW : ROW;
  const rowsHeight = Math.max(rows.length, 1) * row;
  geometry = {
    small, left, width: Math.max(1, plot.clientWidth - left - RIGHT), top: (video.media?.film ? FILM : 0) + TOP,
    height: rowsHeight + (video.curves ? GAP + CURVES : 0), rowsHeight, row, rows, lanes,
  };
}

const nameOf = (index) => plain(short(classes[index].label, 60));
const span = (start, end) => `${clock(start)} – ${clock(end)} (${(end - start).toFixed(2)} s)`;
const visible = ([index]) => geometry.rows.includes(index);
const BAR = { type: "bar", orientation: "h", hoverinfo: "text" };

function truthBars(video) {
  const truth = video.truth.filter(visible);
  return {
    ...BAR, width: 0.9, marker: { color: cssColor("--truth") }, base: truth.map((item) => item[1]),
    x: truth.map(([, start, end]) => end - start), y: truth.map(([index]) => geometry.rows.indexOf(index)),
    hovertext: truth.map(([index, start, end]) => `${nameOf(index)}, ground truth<br>${span(start, end)}`),
  };
}

function detectionBars(video, indices) {
  const best = indices.map((index) => video.detections[index]).reverse(); // the best comes last: on top
  const allLanes = lanesOf(video);
  const lanes = indices
    .map((index) => laneAt(geometry.rows.indexOf(video.detections[index][0]), allLanes[index])).reverse();
  const card = cssColor("--card");
  const shade = (score) => 0.2 + 0.8 * Math.min(Math.max(score / data.scores.best, 0), 1);
  const probably = (probability) => (probability === null ? "" : `, ${percent(probability)}% likely`);
  const kindOf = (kind) => (kind === null || kind < 0 ? "" : `<br>${kinds[kind]} at tIoU 0.5`);
  return {
    ...BAR, base: best.map((item) => item[1]), x: best.map(([, start, end]) => end - start),
    y: lanes.map(([middle]) => middle), width: lanes.map(([, height]) => height * 0.86),
    marker: {
      color: best.map(([index, , , score]) => mix(card, classes[index].color, shade(score))),
      line: { width: 1, color: best.map(([index]) => classes[index].color) }, // very short ones stay visible
    },
    hovertext: best.map(([index, start, end, score, kind, probability]) =>
      `${nameOf(index)}, score ${score.toFixed(3)}${probably(probability)}<br>${span(start, end)}${kindOf(kind)}`),
  };
}

function pointMarks(video) {
  const points = video.points.filter(visible);
  return {
    type: "scatter", mode: "markers", hoverinfo: "text", cliponaxis: false,
    x: points.map((item) => item[1]), y: points.map(([index]) => geometry.rows.indexOf(index)),
    hovertext: points.map(([index, time]) => `${nameOf(index)}, point<br>${clock(time)}`),
    marker: {
      symbol: "diamond", size: geometry.small ? 7 : 9, color: cssColor("--text"),
      line: { width: 1, color: cssColor("--card") },
    },
  };
}

function curveLines({ curves }) {
  if (!curves) return [];
  const x = curves.attention.map((_, index) => curves.start + index * curves.step);
  const curve = (label, y, color, line) => ({
    type: "scatter", mode: x.length > 1 ? "lines" : "markers", x, y, yaxis: "y2", hoverinfo: "text",
    line: { color, ...line }, marker: { color },
    hovertext: y.map((value, index) => `${label} ${value.toFixed(2)}<br>${clock(x[index])}`),
  });
  const attention = curve("attention", curves.attention, cssColor("--dim"), { width: 1.5, dash: "dot" });
  const scores = curves.classes.map((index, row) => !state.hidden.has(index) &&
    curve(nameOf(index), curves.scores[row], classes[index].color, { width: 1.8 }));
  return [attention, ...scores.filter(Boolean)];
}

function axes({ curves }) {
  const { small, rows, rowsHeight, height } = geometry;
  const [text, back, line] = ["--text", "--back", "--line"].map(cssColor);
  const axis = { zeroline: false, gridcolor: line, fixedrange: true };
  return {
    barmode: "overlay", showlegend: false, hovermode: "closest", dragmode: touch ? false : "zoom",
    width: plot.clientWidth, height: height + TOP + AXIS, margin: { l: geometry.left, r: RIGHT, t: TOP, b: AXIS },
    font: { family: "system-ui, sans-serif", size: small ? 11 : 12, color: text },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    hoverlabel: { bgcolor: back, bordercolor: line, font: { color: text }, align: "left" },
    xaxis: {
      ...axis, type: "linear", range: [...state.view], fixedrange: touch, tickmode: "array", tickangle: 0,
      anchor: curves ? "y2" : "y", ...ticks(state.view, Math.max(2, Math.floor(geometry.width / (small ? 70 : 90)))),
    },
    yaxis: {
      ...axis, range: [Math.max(rows.length, 1) - 0.5, -0.5], domain: [1 - rowsHeight / height, 1], showgrid: false,
      ticklabelstandoff: 6, tickvals: rows.map((_, row) => row),
      ticktext: rows.map((index) => plain(short(classes[index].label, small ? 13 : 21))),
    },
    yaxis2: {
      ...axis, range: [-0.03, 1.05], domain: [0, curves ? CURVES / height : 0.001], visible: Boolean(curves),
      tickvals: [0, 0.5, 1], ticklabelstandoff: 6,
    },
  };
}

function ticks([low, high], most) {
  const step = STEPS.find((seconds) => (high - low) / seconds <= most) ?? 3600 * Math.ceil((high - low) / 3600 / most);
  const tickvals = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + 1e-9; index++) tickvals.push(index * step);
  return { tickvals, ticktext: tickvals.map((seconds) => clock(seconds, step < 1 ? 1 : 0)) };
}

let isWatched = false;

function watchPlot() {
  isWatched = true;
  plot.on("plotly_relayout", (change) => { // a drag has zoomed
    if ("xaxis.range[0]" in change) showSeconds([change["xaxis.range[0]"], change["xaxis.range[1]"]]);
  });
  plot.on("plotly_doubleclick", () => showSeconds(videos[state.video].range));
}

function drawFilm(film) {
  const strip = byId("film");
  strip.hidden = !film;
  strip.replaceChildren();
  if (!film) return;
  const scale = FILM / film.height;
  const number = Math.max(1, Math.ceil(geometry.width / (film.width * scale))); // each covers its neighbor's edge
  Object.assign(strip.style, { marginLeft: `${geometry.left}px`, width: `${geometry.width}px`, height: `${FILM}px` });
  for (let index = 0; index < number; index++) {
    const tile = make("div");
    showFrame(tile, film, secondsAt(geometry.left + ((index + 0.5) * geometry.width) / number), scale);
    tile.style.left = `${(index * geometry.width) / number}px`;
    strip.append(tile);
  }
}

const xOf = (seconds) =>
  geometry.left + ((seconds - state.view[0]) / (state.view[1] - state.view[0])) * geometry.width;
const secondsAt = (x) =>
  state.view[0] + ((x - geometry.left) / geometry.width) * (state.view[1] - state.view[0]);
const inView = (seconds) => seconds >= state.view[0] - 1e-6 && seconds <= state.view[1] + 1e-6;

function placeOverlays() {
  const cursor = byId("cursor");
  const x = xOf(state.time);
  cursor.hidden = !inView(state.time);
  cursor.style.transform = `translateX(${x - 1}px)`;
  cursor.style.height = `${geometry.top + geometry.height}px`;
  byId("clock").textContent = clock(state.time, 1);
  byId("clock").style.setProperty("--shift", x > geometry.left + geometry.width - 30 ? "-100%" : "-50%");

  const selection = byId("selection");
  const video = videos[state.video];
  const selected = video.detections[state.detection];
  const row = selected ? geometry.rows.indexOf(selected[0]) : -1;
  const left = selected && Math.max(xOf(selected[1]), geometry.left);
  const right = selected && Math.min(xOf(selected[2]), geometry.left + geometry.width);
  selection.hidden = row < 0 || right < left || selected[3] < state.lowest;
  if (selection.hidden) return;
  const [middle, height] = laneAt(row, lanesOf(video)[state.detection]);
  Object.assign(selection.style, {
    left: `${left - 3}px`, width: `${Math.max(right - left, 1) + 6}px`,
    top: `${geometry.top + (middle + 0.5 - height / 2) * geometry.row - 2}px`, height: `${height * geometry.row + 4}px`,
  });
}

// Moves the cursor, and the view along with a cursor that leaves it.
function setTime(seconds) {
  state.time = seconds;
  const video = videos[state.video];
  const [low, high] = video.range;
  if (!inView(seconds) && seconds >= low && seconds <= high) {
    const width = state.view[1] - state.view[0];
    showSeconds([seconds - 0.1 * width, seconds + 0.9 * width]);
  } else {
    placeOverlays();
  }
  if (!playable && video.media?.film) {
    const { film } = video.media;
    const { clientWidth, clientHeight } = byId("screen");
    showFrame(byId("still"), film, seconds, Math.min(clientWidth / film.width, clientHeight / film.height, 2.5));
  }
}

// Shows these seconds, moved into the video.
function showSeconds([low, high]) {
  const [first, last] = videos[state.video].range;
  const width = Math.min(Math.max(high - low, 0.5), last - first);
  const start = Math.min(Math.max(low, first), last - width);
  state.view = [start, start + width];
  drawTimeline();
}

function zoom(factor) {
  const width = (state.view[1] - state.view[0]) * factor;
  const middle = inView(state.time) ? state.time : (state.view[0] + state.view[1]) / 2;
  const share = (middle - state.view[0]) / (state.view[1] - state.view[0]);
  showSeconds([middle - share * width, middle + (1 - share) * width]);
}

// The best visible detection at a point of the chart, or -1. Very short ones can be hit a little beside.
function detectionAt(x, y) {
  const video = videos[state.video];
  const at = (y - geometry.top) / geometry.row - 0.5;
  const slack = (4 / geometry.width) * (state.view[1] - state.view[0]);
  const seconds = secondsAt(x);
  const hit = visibleDetections(video).find((index) => {
    const [label, start, end] = video.detections[index];
    const row = geometry.rows.indexOf(label);
    if (row < 0 || seconds < start - slack || seconds > end + slack) return false;
    const [middle, height] = laneAt(row, lanesOf(video)[index]);
    return Math.abs(at - middle) <= height / 2;
  });
  return hit ?? -1;
}

function chartPoint(event) {
  const box = chart.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const inside = x >= geometry.left && x <= geometry.left + geometry.width && y >= 0 &&
    y <= geometry.top + geometry.height + AXIS;
  return { x, y, inside };
}

// Plotly covers the page while a drag may begin, so that no click arrives: the pointer's own events tell it.
let pressed = null;
chart.addEventListener("pointerdown", (event) => {
  if (event.button === 0) pressed = event;
}, true);
document.addEventListener("pointerup", (event) => {
  const start = pressed;
  pressed = null;
  if (!start || Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) > 4) return;
  const { x, y, inside } = chartPoint(event);
  if (!inside) return;
  const hit = detectionAt(x, y);
  if (hit >= 0) {
    selectDetection(hit, true);
  } else {
    stopAt = null;
    seek(secondsAt(x));
  }
}, true);
document.addEventListener("pointercancel", () => { pressed = null; }, true);

chart.addEventListener("pointermove", (event) => {
  const { x, inside } = chartPoint(event);
  const hover = byId("hover");
  hover.hidden = !inside || event.pointerType === "touch";
  if (hover.hidden) return;
  const film = videos[state.video].media?.film;
  byId("frame").hidden = !film;
  if (film) showFrame(byId("frame"), film, secondsAt(x), 1.4);
  byId("hover-clock").textContent = clock(secondsAt(x), 1);
  const width = hover.offsetWidth;
  hover.style.left = `${Math.min(Math.max(x - width / 2, 0), chart.clientWidth - width)}px`;
  hover.style.top = `${geometry.top - hover.offsetHeight - 2}px`;
});
chart.addEventListener("pointerleave", () => { byId("hover").hidden = true; });
