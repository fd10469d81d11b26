"use strict";
// Timelines are drawn when they come near the screen and removed when they leave it, so that hundreds stay quick.

const { classes, videos } = JSON.parse(document.getElementById("data").textContent);
const timelines = [...document.querySelectorAll(".timeline")];
const near = new Set();
const slider = document.getElementById("score");
const boxes = [...document.querySelectorAll("fieldset input")];
const touch = matchMedia("(pointer: coarse)").matches;

// Plotly reads <b>, <a href> and so on in the texts it is given; ours are plain.
const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const short = (text, length) => (text.length > length ? text.slice(0, length - 1) + "…" : text);

function clock(seconds) {
  const hundredths = Math.round(Math.abs(seconds) * 100);
  const pad = (number) => String(Math.floor(number)).padStart(2, "0");
  const hours = Math.floor(hundredths / 360000);
  return (seconds < 0 ? "-" : "") + (hours ? hours + ":" : "") + pad((hundredths / 6000) % 60) + ":" +
    pad((hundredths / 100) % 60) + "." + pad(hundredths % 100);
}

// The y axis is numeric, because plotly would join classes whose shortened names are equal.
function rowsOf(video) {
  return video.rows.filter((index) => boxes[index].checked);
}

function size(node) {
  node.style.height = Math.max(rowsOf(videos[node.dataset.index]).length, 1) * 26 + 52 + "px";
}

// Times are dates: plotly's date axis then labels them as mm:ss at any zoom. They start long after 1970 because plotly
// takes a number of four digits for a year.
const START = Date.UTC(2000, 0, 1);
const at = (seconds) => START + seconds * 1000;

function bars(segments, rows, color, opacity, width, hover) {
  return {
    type: "bar", orientation: "h", width, hoverinfo: "text", hovertext: segments.map(hover),
    y: segments.map(([index]) => rows.indexOf(index)),
    base: segments.map(([, start]) => at(start)),
    x: segments.map(([, start, end]) => (end - start) * 1000),
    marker: {
      color: segments.map(color), opacity: segments.map(opacity),
      line: { width: 1, color: segments.map(color) }, // very short ones stay visible
    },
  };
}

function draw(node) {
  const video = videos[node.dataset.index];
  const rows = rowsOf(video);
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const visible = ([index]) => boxes[index].checked;
  const name = (index) => plain(short(classes[index].label, 60));
  const span = (start, end) => `${clock(start)} – ${clock(end)} (${(end - start).toFixed(2)} s)`;
  const found = video.detections.filter((item) => visible(item) && item[3] >= Number(slider.value));
  const narrow = node.clientWidth < 600;
  const traces = [
    bars(video.truth.filter(visible), rows, () => color("--truth"), () => 1, 0.86,
      ([index, start, end]) => `${name(index)}, ground truth<br>${span(start, end)}`),
    bars(found.reverse(), rows, ([index]) => classes[index].color, // best last: on top
      ([, , , score]) => 0.3 + 0.7 * Math.min(Math.max(score, 0), 1), 0.46,
      ([index, start, end, score]) => `${name(index)}, score ${score.toFixed(3)}<br>${span(start, end)}`),
    {
      type: "scatter", mode: "markers", hoverinfo: "text", cliponaxis: false,
      x: video.points.filter(visible).map(([, time]) => at(time)),
      y: video.points.filter(visible).map(([index]) => rows.indexOf(index)),
      hovertext: video.points.filter(visible).map(([index, time]) => `${name(index)}, point<br>${clock(time)}`),
      marker: { symbol: "diamond", size: narrow ? 6 : 8, color: color("--text"), line: { width: 1, color: color("--card") } },
    },
  ];
  const layout = {
    barmode: "overlay", showlegend: false, hovermode: "closest", dragmode: touch ? false : "zoom",
    font: { family: "system-ui, sans-serif", size: narrow ? 11 : 12, color: color("--text") },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: narrow ? 106 : 150, r: 16, t: 8, b: 32 },
    hoverlabel: { bgcolor: color("--back"), bordercolor: color("--line"), font: { color: color("--text") }, align: "left" },
    xaxis: {
      type: "date", range: video.range.map(at), gridcolor: color("--line"), zeroline: false,
      nticks: narrow ? 5 : 12, tickangle: 0,
      tickformatstops: [
        { dtickrange: [null, 999], value: "%M:%S.%2f" },
        { dtickrange: [1000, null], value: video.range[1] < 3600 ? "%M:%S" : "%-H:%M:%S" },
      ],
    },
    yaxis: {
      range: [Math.max(rows.length, 1) - 0.5, -0.5], fixedrange: true, zeroline: false, showgrid: false,
      ticklabelstandoff: 6,
      tickvals: rows.map((_, row) => row),
      ticktext: rows.map((index) => plain(short(classes[index].label, narrow ? 16 : 22))),
    },
  };
  Plotly.react(node, traces, layout, { displayModeBar: false, responsive: true });
}

function redraw() {
  document.getElementById("shown").value = Number(slider.value).toFixed(2);
  timelines.forEach(size);
  near.forEach(draw);
}

const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) {
      near.add(target);
      draw(target);
    } else if (near.delete(target)) {
      Plotly.purge(target);
    }
  }
}, { rootMargin: "300px" });

let waiting = 0; // a dragged slider reports more often than the screen is drawn
document.getElementById("controls").addEventListener("input", () => {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(redraw);
});
document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
for (const button of document.querySelectorAll("button[data-all]")) {
  button.addEventListener("click", () => {
    boxes.forEach((box) => { box.checked = Boolean(button.dataset.all); });
    redraw();
  });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
for (const kind of ["truth", "points"]) {
  document.getElementById("has-" + kind).hidden = !videos.some((video) => video[kind].length);
}
redraw();
timelines.forEach((node) => observer.observe(node));
