// The timeline of the chosen video: one row a class, its curves beneath, and what lies over them in HTML (cursor, chosen
// detection, frames), which moves without drawing anything again. Plotly draws; bars are numbers of seconds on a linear
// axis, whose labels are ours.

const ROW = 34, CURVES = 110, GAP = 18, TOP = 4, AXIS = 28, FILM = 54;
const MOST_LANES = 3;
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];
const chart = byId("chart");
const plot = byId("timeline");
let geometry = { left: 0, width: 1, top: 0, height: 0, rows: [], lanes: [] };

// Detections of a class that overlap are drawn beside each other, the best in the first lane. Those that are shown come
// before the others, so that the lanes stay the same when the slider moves.
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
  const shown = shownOf(video);
  const rows = video.rows.filter((index) => !state.hidden.has(index));
  const place = new Map(rows.map((index, row) => [index, row]));
  const allLanes = lanesOf(video);
  const lanes = rows.map(() => 1);
  for (const index of shown) {
    const row = place.get(video.detections[index][0]);
    lanes[row] = Math.max(lanes[row], allLanes[index] + 1);
  }
  const curves = video.curves;
  const small = plot.clientWidth < 600;
  const margin = { l: small ? 92 : 150, r: 22, t: TOP, b: AXIS };
  const rowsHeight = Math.max(rows.length, 1) * ROW;
  const height = rowsHeight + (curves ? GAP + CURVES : 0);
  const film = video.media?.film;
  geometry = {
    left: margin.l, width: Math.max(1, plot.clientWidth - margin.l - margin.r),
    top: (film ? FILM : 0) + TOP, height, rows, lanes,
  };

  const [text, back, card, line, dim] = ["--text", "--back", "--card", "--line", "--dim"].map(cssColor);
  const name = (index) => plain(short(classes[index].label, 60));
  const span = (start, end) => `${clock(start)} – ${clock(end)} (${(end - start).toFixed(2)} s)`;
  const visible = ([index]) => place.has(index);
  const kind = (number) => (number === null || number < 0 ? "" : `<br>${kinds[number]} at tIoU 0.5`);
  const best = shown.map((index) => [...video.detections[index], index]).reverse(); // the best comes last: on top
  const shade = (score) => 0.2 + 0.8 * Math.min(Math.max(score / data.scores.best, 0), 1);
  const truth = video.truth.filter(visible);
  const points = video.points.filter(visible);
  const bar = { type: "bar", orientation: "h", hoverinfo: "text", cliponaxis: true };
  const traces = [
    {
      ...bar, y: truth.map(([index]) => place.get(index)), base: truth.map((item) => item[1]),
      x: truth.map(([, start, end]) => end - start), width: 0.9, marker: { color: cssColor("--truth") },
      hovertext: truth.map(([index, start, end]) => `${name(index)}, ground truth<br>${span(start, end)}`),
    },
    {
      ...bar, base: best.map((item) => item[1]), x: best.map(([, start, end]) => end - start),
      y: best.map((item) => laneAt(place.get(item[0]), allLanes[item[5]])[0]),
      width: best.map((item) => laneAt(place.get(item[0]), allLanes[item[5]])[1] * 0.86),
      customdata: best.map((item) => item[5]),
      marker: {
        color: best.map(([index, , , score]) => mix(card, classes[index].color, shade(score))),
        line: { width: 1, color: best.map(([index]) => classes[index].color) }, // very short ones stay visible
      },
      hovertext: best.map(([index, start, end, score, number]) =>
        `${name(index)}, score ${score.toFixed(3)}<br>${span(start, end)}${kind(number)}`),
    },
    {
      type: "scatter", mode: "markers", hoverinfo: "text", cliponaxis: false,
      x: points.map((item) => item[1]), y: points.map(([index]) => place.get(index)),
      hovertext: points.map(([index, time]) => `${name(index)}, point<br>${clock(time)}`),
      marker: { symbol: "diamond", size: small ? 7 : 9, color: text, line: { width: 1, color: card } },
    },
  ];
  if (curves) {
    const x = curves.attention.map((_, index) => curves.start + index * curves.step);
    const add = (label, y, look) => traces.push({
      type: "scatter", mode: x.length > 1 ? "lines" : "markers", x, y, yaxis: "y2", hoverinfo: "text", ...look,
      hovertext: y.map((value, index) => `${label} ${value.toFixed(2)}<br>${clock(x[index])}`),
    });
    add("attention", curves.attention, { line: { color: dim, width: 1.5, dash: "dot" }, marker: { color: dim } });
    curves.classes.forEach((index, row) => {
      if (state.hidden.has(index)) return;
      const { color } = classes[index];
      add(name(index), curves.scores[row], { line: { color, width: 1.8 }, marker: { color } });
    });
  }

  const labels = ticks(state.view, Math.max(2, Math.floor(geometry.width / (small ? 70 : 90))));
  const axis = { zeroline: false, gridcolor: line, fixedrange: true };
  const layout = {
    barmode: "overlay", showlegend: false, hovermode: "closest", dragmode: touch ? false : "zoom",
    width: plot.clientWidth, height: height + TOP + AXIS, margin,
    font: { family: "system-ui, sans-serif", size: small ? 11 : 12, color: text },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    hoverlabel: { bgcolor: back, bordercolor: line, font: { color: text }, align: "left" },
    xaxis: {
      ...axis, type: "linear", range: [...state.view], fixedrange: touch, tickmode: "array", tickangle: 0,
      anchor: curves ? "y2" : "y", ...labels,
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
  Plotly.react(plot, traces, layout, { displayModeBar: false, doubleClick: false, showTips: false });
  if (!isWatched) watchPlot();
  plot.setAttribute("aria-label",
    `Timeline of ${video.id}: ${count(shown.length, "detection")}, listed in the table. Arrow keys step through them.`);
  drawFilm(film);
  placeOverlays();
}

let isWatched = false;

function watchPlot() {
  isWatched = true;
  plot.on("plotly_relayout", (change) => { // a drag has zoomed
    if ("xaxis.range[0]" in change) show([change["xaxis.range[0]"], change["xaxis.range[1]"]]);
  });
  plot.on("plotly_doubleclick", () => show(videos[state.video].range));
}

function ticks([low, high], most) {
  const step = STEPS.find((seconds) => (high - low) / seconds <= most) ?? 3600 * Math.ceil((high - low) / 3600 / most);
  const tickvals = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + 1e-9; index++) tickvals.push(index * step);
  return { tickvals, ticktext: tickvals.map((seconds) => clock(seconds, step < 1 ? 1 : 0)) };
}

function drawFilm(film) {
  const strip = byId("film");
  strip.hidden = !film;
  strip.replaceChildren();
  if (!film) return;
  const scale = FILM / film.height;
  const number = Math.max(1, Math.ceil(geometry.width / (film.width * scale))); // each covers its neighbour's edge
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
  const chosen = video.detections[state.detection];
  const row = chosen ? geometry.rows.indexOf(chosen[0]) : -1;
  const left = chosen && Math.max(xOf(chosen[1]), geometry.left);
  const right = chosen && Math.min(xOf(chosen[2]), geometry.left + geometry.width);
  selection.hidden = row < 0 || right < left || chosen[3] < state.lowest;
  if (selection.hidden) return;
  const [middle, height] = laneAt(row, lanesOf(video)[state.detection]);
  Object.assign(selection.style, {
    left: `${left - 3}px`, width: `${Math.max(right - left, 1) + 6}px`,
    top: `${geometry.top + (middle + 0.5 - height / 2) * ROW - 2}px`, height: `${height * ROW + 4}px`,
  });
}

// Moves the cursor, and the view with it where it runs out of it.
function setTime(seconds) {
  state.time = seconds;
  const video = videos[state.video];
  const [low, high] = video.range;
  if (!inView(seconds) && seconds >= low && seconds <= high) {
    const width = state.view[1] - state.view[0];
    show([seconds - 0.1 * width, seconds + 0.9 * width]);
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
function show([low, high]) {
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
  show([middle - share * width, middle + (1 - share) * width]);
}

// The best shown detection at a place of the chart, or -1. Very short ones can be hit a little beside.
function detectionAt(x, y) {
  const video = videos[state.video];
  const at = (y - geometry.top) / ROW - 0.5;
  const slack = (4 / geometry.width) * (state.view[1] - state.view[0]);
  const seconds = secondsAt(x);
  const hit = shownOf(video).find((index) => {
    const [label, start, end] = video.detections[index];
    const row = geometry.rows.indexOf(label);
    if (row < 0 || seconds < start - slack || seconds > end + slack) return false;
    const [middle, height] = laneAt(row, lanesOf(video)[index]);
    return Math.abs(at - middle) <= height / 2;
  });
  return hit ?? -1;
}

function place(event) {
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
  const { x, y, inside } = place(event);
  if (!inside) return;
  const hit = detectionAt(x, y);
  if (hit >= 0) {
    choose(hit, true);
  } else {
    stopAt = null;
    seek(secondsAt(x));
  }
}, true);
document.addEventListener("pointercancel", () => { pressed = null; }, true);

chart.addEventListener("pointermove", (event) => {
  const { x, inside } = place(event);
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
