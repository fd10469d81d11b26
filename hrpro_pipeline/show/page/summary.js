// The summary page: scores, errors by kind, confusion, histograms. Built when it is first opened.

const { evaluation, diagnosis, histograms } = data.summary;
let charts = []; // functions that draw, called again when the colors or the width change

function card(title, about, ...content) {
  const wide = content.includes("wide");
  return make("section", { className: wide ? "card wide" : "card" }, make("h3", {}, title),
    ...(about ? [make("p", { className: "dim" }, about)] : []), ...content.filter((item) => item !== "wide"));
}

function chartNode(label, height, draw) {
  const node = make("div", { className: "chart", role: "img", "aria-label": label });
  node.style.height = `${height}px`;
  charts.push(() => draw(node));
  return node;
}

function drawChart(node, traces, layout) {
  const [text, back, line] = ["--text", "--back", "--line"].map(cssColor);
  const axis = { gridcolor: line, zeroline: false, fixedrange: touch, automargin: true };
  Plotly.react(node, traces, {
    font: { family: "system-ui, sans-serif", size: 12, color: text }, margin: { l: 44, r: 12, t: 8, b: 40 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
    dragmode: touch ? false : "zoom", hoverlabel: { bgcolor: back, bordercolor: line, font: { color: text } },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, ...layout,
    xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
  }, { displayModeBar: false, responsive: true });
}

function table(head, rows) {
  const cell = (tag, content) => make(tag, tag === "th" ? { scope: "row" } : {}, ...[content].flat());
  return make("div", { className: "scroll tall" }, make("table", {},
    make("thead", {}, make("tr", {}, ...head.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...rows.map(([name, ...cells]) => make("tr", {}, cell("th", name),
      ...cells.map((content) => cell("td", content)))))));
}

const classCell = (index) => [swatch(index), classes[index].label];

function buildSummary() {
  const page = byId("page-summary");
  charts = [];
  const cards = make("div", { className: "cards" });
  const content = [make("h2", {}, "Summary")];
  if (evaluation) {
    const leftOut = evaluation.leftOut
      ? ` Left out, of other videos or classes: ${count(evaluation.leftOut, "detection")}.` : "";
    const missing = evaluation.missing
      ? ` ${count(evaluation.missing, "video")} without detections count as missed.` : "";
    content.push(make("p", { className: "dim" },
      `${count(evaluation.detections, "detection")} compared with ${count(evaluation.segments, "true segment")} in ` +
      `${count(evaluation.videos, "video")}.${missing}${leftOut}`), tiles());
    cards.append(mapCard(), curvesCard(), classCard());
    if (diagnosis) cards.append(errorsCard(), confusionCard());
  } else {
    content.push(make("p", {}, "Scores and errors need ground truth: hrpro report --annotations FILE."));
  }
  if (histograms.lengths) cards.append(lengthsCard(histograms.lengths));
  if (histograms.scores) cards.append(scoresCard(histograms.scores));
  page.replaceChildren(...content, cards);
  drawCharts();
}

const drawCharts = () => charts.forEach((draw) => draw());

// Index of the evaluated threshold nearest to a tIoU.
const nearestThreshold = (target) => evaluation.tiou.reduce((best, tiou, index) =>
  (Math.abs(tiou - target) < Math.abs(evaluation.tiou[best] - target) ? index : best), 0);

function tiles() {
  const tile = (value, name) => make("div", { className: "tile" }, make("b", {}, value), name);
  const means = Object.entries(evaluation.averages);
  const [range, mean] = means[means.length - 1];
  const at = nearestThreshold(0.5);
  const row = [tile(percent(mean), range === "all" ? "mean mAP" : `mean mAP ${range}`),
    tile(percent(evaluation.map[at]), `mAP@${evaluation.tiou[at]}`)];
  if (diagnosis) {
    const segments = diagnosis.classes.reduce((sum, item) => sum + item.segments, 0);
    const missed = diagnosis.classes.reduce((sum, item) => sum + item.missed, 0);
    row.push(tile(`${segments - missed} of ${segments}`, `segments found at tIoU ${diagnosis.tiou}`));
  }
  return make("div", { className: "tiles" }, ...row);
}

function mapCard() {
  const rows = evaluation.tiou.map((tiou, index) => [String(tiou), percent(evaluation.map[index])]);
  for (const [range, mean] of Object.entries(evaluation.averages)) rows.push([`mean ${range}`, percent(mean)]);
  const node = chartNode("mAP by tIoU", 260, (chartBox) => drawChart(chartBox, [{
    type: "scatter", mode: "lines+markers", x: evaluation.tiou, y: evaluation.map.map((value) => 100 * value),
    line: { color: "#4477AA", width: 2.5 }, marker: { size: 7 }, hovertemplate: "%{y:.1f} at tIoU %{x}<extra></extra>",
  }], { xaxis: { title: { text: "tIoU" } }, yaxis: { title: { text: "mAP" }, range: [0, 101] } }));
  return card("mAP by tIoU", "", make("div", { className: "beside" }, table(["tIoU", "mAP"], rows), node));
}

function curvesCard() {
  if (!diagnosis) return "";
  const node = chartNode("Precision by recall of each class", 300, (chartBox) => drawChart(chartBox,
    diagnosis.classes.map((item) => ({
      type: "scatter", mode: item.recall.length > 1 ? "lines" : "lines+markers",
      name: plain(short(classes[item.class].label, 24)),
      x: [0, ...item.recall, item.recall.at(-1) ?? 0], y: [item.precision[0] ?? 0, ...item.precision, 0],
      line: { color: classes[item.class].color, width: 2, shape: "vh" },
      hovertemplate: `${nameOf(item.class)}<br>precision %{y:.2f} at recall %{x:.2f}<extra></extra>`,
    })), {
      xaxis: { title: { text: "recall" }, range: [-0.02, 1.03] },
      yaxis: { title: { text: "precision" }, range: [-0.02, 1.05] },
    }));
  return card("Precision and recall", `One line a class, in its color, at tIoU ${diagnosis.tiou}.`, node);
}

function classCard() {
  const at = nearestThreshold(0.5);
  const byClass = new Map(diagnosis?.classes.map((item) => [item.class, item]));
  const order = [...evaluation.classes].sort((one, other) => other.ap[at] - one.ap[at] || one.class - other.class);
  const rows = order.map(({ class: index, ap }) => {
    const meter = make("span", { className: "meter", "--class": classes[index].color });
    meter.style.width = `${percent(ap[at])}%`;
    const { segments = "", missed = "" } = byClass.get(index) ?? {};
    return [classCell(index), String(segments), String(missed), ...ap.map(percent), meter];
  });
  const node = table(["class", "segments", "missed", ...evaluation.tiou.map((tiou) => `AP@${tiou}`), ""], rows);
  for (const row of node.querySelectorAll("tbody tr")) row.lastChild.className = "fill";
  const about = diagnosis
    ? `Bars are AP@${evaluation.tiou[at]}. Missed: segments that none of the class's best ` +
      `${diagnosis.profile.length} G detections finds at tIoU ${diagnosis.tiou}, with G its number of segments.` : "";
  return card("AP by class", about, node, "wide");
}

function errorsCard() {
  const names = diagnosis.profile.map((_, index) => `${index + 1}G`);
  const totals = diagnosis.profile.map((row) => Math.max(1, row.reduce((sum, value) => sum + value, 0)));
  const node = chartNode("Detections by kind of error", 320, (chartBox) => drawChart(chartBox,
    kinds.map((kind, index) => ({
      type: "bar", name: kind, x: names, y: diagnosis.profile.map((row, at) => (100 * row[index]) / totals[at]),
      customdata: diagnosis.profile.map((row) => row[index]), marker: { color: KIND_COLORS[index] },
      hovertemplate: `${kind}<br>%{customdata} detections, %{y:.1f}%<extra>%{x}</extra>`,
    })), {
      barmode: "stack", bargap: 0.15, xaxis: { title: { text: "rank within the class, in true segments" } },
      yaxis: { title: { text: "%" }, range: [0, 100] },
    }));
  const sum = (index, upTo) => diagnosis.profile.slice(0, upTo).reduce((total, row) => total + row[index], 0);
  const rows = kinds.map((kind, index) => {
    const key = make("span", { className: "swatch", "--class": KIND_COLORS[index] });
    return [[key, kind], String(sum(index, 1)), String(sum(index, names.length))];
  });
  const total = diagnosis.classes.reduce((all, item) => all + item.segments, 0);
  rows.push(["missed segments", ...[1, names.length].map((upTo) => `${total - sum(0, upTo)} of ${total}`)]);
  const counts = table(["kind", "best G", `best ${names.length} G`], rows);
  counts.querySelector("tbody tr:last-child").className = "last";
  return card("Errors by kind",
    `At tIoU ${diagnosis.tiou}, as in DETAD (Alwassel et al., 2018). G is the number of true segments of a class: ` +
    "the first bar has each class's best G detections, the second the next G, and so on. Double: its segment has a " +
    "better detection. Localization: right label, tIoU from 0.1. Wrong label: well placed. Confusion: neither. " +
    "Background: tIoU below 0.1. Missed: segments that no detection so far is right about.",
    make("div", { className: "beside" }, counts, node), "wide");
}

function confusionCard() {
  const { confusion } = diagnosis;
  const labels = [...diagnosis.classes.map((item) => classes[item.class].label), "background"];
  const last = labels.length - 1;
  const axisNames = labels.map((label, index) => plain(short(label, 18)) + "\u200b".repeat(index)); // no two alike
  const totals = confusion.map((row) => Math.max(1, row.reduce((sum, value) => sum + value, 0)));
  const size = Math.max(280, Math.min(labels.length, 60) * 26 + 130);
  const node = chartNode("True class by detected class", size, (chartBox) => drawChart(chartBox, [{
    type: "heatmap", x: axisNames, y: axisNames, z: confusion.map((row, at) => row.map((value) => value / totals[at])),
    text: confusion.map((row) => row.map((value) => value || "")), customdata: confusion,
    texttemplate: labels.length <= 16 ? "%{text}" : "", showscale: false, xgap: 1, ygap: 1,
    zmin: 0, zmax: 1, colorscale: [[0, cssColor("--card")], [1, "#4477AA"]],
    hovertemplate: "true: %{y}<br>detected: %{x}<br>%{customdata}<extra></extra>",
  }], {
    xaxis: { title: { text: "detected" }, tickangle: -45, constrain: "domain", showgrid: false },
    yaxis: { title: { text: "true", standoff: 14 }, autorange: "reversed", showgrid: false },
  }));
  node.classList.add("main");

  const pairs = confusion.flatMap((row, at) => row.map((value, to) => [at, to, value]))
    .filter(([at, to, value]) => at !== to && value).sort((one, other) => other[2] - one[2]);
  const side = (index, background) => (index === last ? background : classCell(diagnosis.classes[index].class));
  const rows = pairs.slice(0, 12)
    .map(([at, to, value]) => [side(at, "background"), side(to, "not found"), String(value)]);
  return card("Confusion",
    `The best G detections of all (G: the number of true segments) at tIoU ${diagnosis.tiou}, best first: each takes ` +
    "a free segment of its class, or else of any. Rows are true classes, columns what they were detected as; the " +
    "last column was not found, the last row is background that was detected as something.",
    make("div", { className: "beside" }, node, ...(rows.length ? [table(["true", "detected as", "times"], rows)] : [])),
    "wide");
}

const AXIS_MARKS = [0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600];

function lengthsCard({ edges, counts }) {
  const marks = AXIS_MARKS.filter((value) => value >= edges[0] && value <= edges.at(-1));
  return histogramCard("Lengths", edges, counts, ["#8A929B", "#4477AA"], {
    xaxis: { title: { text: "seconds" }, type: "log", ...(marks.length > 2 && { tickvals: marks }) },
    yaxis: { title: { text: "number" } },
  });
}

function scoresCard({ edges, counts }) {
  return histogramCard("Scores", edges, counts, ["#228833", "#8A929B"], {
    xaxis: { title: { text: "score" } }, yaxis: { title: { text: "number" }, type: "log", dtick: 1 },
  });
}

function histogramCard(title, edges, counts, colors, layout) {
  const series = Object.entries(counts);
  const middle = layout.xaxis.type === "log"
    ? (low, high) => Math.sqrt(low * high) : (low, high) => (low + high) / 2;
  const node = chartNode(`Histogram of ${title.toLowerCase()}`, 280, (chartBox) => drawChart(chartBox,
    series.map(([name, values], index) => ({
      type: "bar", name, y: values, opacity: series.length > 1 ? 0.7 : 1,
      x: values.map((_, bin) => middle(edges[bin], edges[bin + 1])),
      width: values.map((_, bin) => edges[bin + 1] - edges[bin]),
      marker: { color: series.length > 1 ? colors[index] : "#4477AA", line: { width: 1, color: cssColor("--card") } },
      customdata: values.map((_, bin) => `${edges[bin].toPrecision(3)} – ${edges[bin + 1].toPrecision(3)}`),
      hovertemplate: `${name}: %{y}<br>%{customdata}<extra></extra>`,
    })), { barmode: "overlay", showlegend: series.length > 1, ...layout }));
  return card(title, "", node);
}
