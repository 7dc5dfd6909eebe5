"use strict";
// Figures are drawn when they come near the window, the others in idle time. Nothing is ever fetched: figures, CSV files
// and plotly itself are gzip in the page.
(() => {
  const root = document.documentElement, MODES = ["auto", "light", "dark"], IN_IDLE_TIME = 80, PRINT_WIDTH = 690;
  const wantsDark = matchMedia("(prefers-color-scheme: dark)");
  let mode = "auto", printing = false;

  function bytesOf(id) {
    const text = atob(document.getElementById(id).textContent);
    return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  }

  async function unpacked(id) {
    const stream = new Blob([bytesOf(id)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return await new Response(stream).text();
  }

  let loading = null;
  function plotly() {
    loading ??= unpacked("plotly").then((code) => {
      const script = document.createElement("script");
      script.textContent = code;
      document.head.append(script);
      return window.Plotly;
    });
    return loading;
  }

  // ---- colours

  const isDark = () => root.dataset.theme === "dark" && !printing;

  function recoloured(value, colours) {
    if (typeof value === "string") return colours[value] ?? value;
    if (Array.isArray(value)) return value.map((item) => recoloured(item, colours));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, recoloured(item, colours)]));
  }

  function themed(layout, width) {
    const ink = isDark() ? "#e6e8ea" : "#1a1a1a", grid = isDark() ? "#30353c" : "#e4e6e9";
    const panel = isDark() ? "#1e2126" : "#ffffff";
    const whole = {
      height: printing ? 350 : 430, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", size: 12, color: ink },
      margin: { l: 52, r: 14, t: 28, b: 44 }, hovermode: "closest",
      hoverlabel: { bgcolor: panel, bordercolor: grid, font: { color: ink }, namelength: -1 },
      legend: { orientation: "h", x: 0, xanchor: "left", yref: "container", y: 0.01, yanchor: "bottom", font: { size: 11 } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: isDark() ? "#767d86" : "#9aa0a6", activecolor: ink },
      ...layout,
    };
    if (width) Object.assign(whole, { width, autosize: false });
    for (const key of ["xaxis", "yaxis"]) whole[key] = { gridcolor: grid, linecolor: ink, showline: true, ...whole[key] };
    return whole;
  }

  // Pixels of a letter and of a line of a legend, and of a cell whose number is legible.
  const SIGN_WIDTH = 6.6, LINE_HEIGHT = 19, CELL_WIDTH = 64;
  // Below this width a legend is one column, and lines above so many make the figure higher.
  const NARROW = 480, FREE_LINES = 4;

  function folded(text, width) {
    const most = Math.max(18, Math.floor(width / SIGN_WIDTH)), lines = [""];
    for (const word of text.split(" ")) {
      if (lines.at(-1) && lines.at(-1).length + word.length >= most) lines.push("");
      lines[lines.length - 1] += (lines.at(-1) ? " " : "") + word;
    }
    return lines.join("<br>");
  }

  // To the width of the canvas: names and titles on several lines, and cells of a heat map without numbers.
  function fitted(traces, layout, width) {
    for (const key of ["xaxis", "yaxis"]) {
      const title = layout[key].title, room = key === "xaxis" ? width - 70 : layout.height * 0.6;
      if (title) layout[key].title = { ...title, text: folded(title.text, room) };
    }
    const made = traces.map((trace) => {
      if (trace.type === "heatmap") return width / trace.x.length < CELL_WIDTH + 20 ? { ...trace, texttemplate: "" } : trace;
      return { ...trace, name: folded(trace.name, Math.min(width - 90, 420)) };
    });
    const names = made.filter((trace) => trace.name && trace.showlegend !== false).map((trace) => trace.name);
    const lines = names.flatMap((name) => name.split("<br>")).length;
    if (width < NARROW) layout.height += LINE_HEIGHT * Math.max(0, lines - FREE_LINES);
    return made;
  }

  // ---- figures

  const figures = [...document.querySelectorAll("figure[data-spec]")], specs = new Map();
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

  function show(figure) {
    const spec = specs.get(figure), canvas = figure.querySelector(".canvas");
    const view = spec.views[figure.querySelector("select")?.selectedIndex ?? 0];
    const colours = isDark() ? spec.dark : {};
    const own = { ...config, responsive: !printing };
    const layout = themed(recoloured(view.layout, colours), printing ? PRINT_WIDTH : 0);
    const traces = fitted(recoloured(view.traces, colours), layout, printing ? PRINT_WIDTH : canvas.clientWidth);
    return window.Plotly.react(canvas, traces, layout, own);
  }

  async function draw(figure) {
    if (figure.dataset.state) return;
    figure.dataset.state = "drawing";
    try {
      await plotly();
      specs.set(figure, JSON.parse(await unpacked(figure.dataset.spec)));
      await show(figure);
      figure.dataset.state = "drawn";
    } catch (error) {
      figure.dataset.state = "failed";
      figure.querySelector(".canvas").textContent =
        `This browser cannot draw the figure (${error.message}). Its CSV has the numbers; newer browsers draw it.`;
    }
  }

  const drawn = () => figures.filter((figure) => figure.dataset.state === "drawn");
  const showAgain = () => drawn().forEach(show);

  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) draw(entry.target);
  }, { rootMargin: "400px" });

  async function drawInTurn(some) {
    for (const figure of some) {
      await draw(figure);
      await new Promise((done) => setTimeout(done, 30));
    }
  }

  for (const figure of figures) {
    near.observe(figure);
    figure.querySelector("select")?.addEventListener("change", () => specs.has(figure) && show(figure));
  }
  // A print does not wait for figures to be unpacked: one that is not drawn says so on paper, and is drawn for the next.
  function noteMissing() {
    for (const figure of figures.filter((one) => !["drawn", "failed"].includes(one.dataset.state))) {
      const note = document.createElement("p");
      note.className = "note undrawn";
      note.textContent = "This figure was not drawn yet when the page was printed. The page draws it now: print it again.";
      figure.querySelector(".canvas").before(note);
    }
  }

  function drawMissing() {
    document.querySelectorAll(".undrawn").forEach((note) => note.remove());
    drawInTurn(figures);
  }

  addEventListener("load", () => setTimeout(() => drawInTurn(figures.slice(0, IN_IDLE_TIME)), 300));
  addEventListener("beforeprint", () => { printing = true; showAgain(); noteMissing(); });
  addEventListener("afterprint", () => { printing = false; showAgain(); drawMissing(); });

  // ---- light and dark

  function setTheme() {
    const theme = mode === "auto" ? (wantsDark.matches ? "dark" : "light") : mode;
    const changed = root.dataset.theme !== theme;
    root.dataset.theme = theme;
    document.getElementById("theme").textContent = `theme: ${mode}`;
    if (changed) showAgain();
  }
  document.getElementById("theme").addEventListener("click", () => {
    mode = MODES[(MODES.indexOf(mode) + 1) % MODES.length];
    setTheme();
  });
  wantsDark.addEventListener("change", setTheme);
  setTheme();

  // ---- CSV files

  function download(name, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
  for (const button of document.querySelectorAll("button[data-csv]"))
    button.addEventListener("click", async () => download(button.dataset.name, await unpacked(button.dataset.csv)));

  // ---- the table of runs

  const inCsv = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

  function table(box) {
    const head = [...box.querySelectorAll("thead th")], body = box.querySelector("tbody");
    const rows = [...body.rows], filter = box.querySelector("input"), count = box.querySelector("output");
    const keys = head.map((cell) => cell.textContent.trim().toLowerCase().replace(/\W+/g, "_"));
    const cells = rows.map((row) => [...row.cells].map((cell) => cell.textContent));
    const of = new Map(rows.map((row, number) => [row, cells[number]]));
    const words = new Map(rows.map((row, number) => [row, cells[number].join(" ").toLowerCase()]));

    function sort(column) {
      const descending = head[column].getAttribute("aria-sort") === "ascending", sign = descending ? -1 : 1;
      const numeric = head[column].classList.contains("n");
      const value = (row) => (numeric ? parseFloat(of.get(row)[column].replaceAll(",", "")) : of.get(row)[column]);
      const isEmpty = (one) => (numeric ? Number.isNaN(one) : one === "");
      const order = (one, other) => (numeric ? one - other : one.localeCompare(other, "en", { numeric: true }));
      const sorted = rows.map((row) => [value(row), row]);
      sorted.sort(([one], [other]) => isEmpty(one) - isEmpty(other) || (isEmpty(one) ? 0 : sign * order(one, other)));
      head.forEach((cell) => cell.removeAttribute("aria-sort"));
      head[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
      body.append(...sorted.map(([, row]) => row));
    }

    function matches(row, word) {
      const [, key, value] = /^(\w+)=(.*)$/.exec(word) ?? [], column = keys.indexOf(key);
      return column < 0 ? words.get(row).includes(word) : of.get(row)[column].toLowerCase() === value;
    }

    function narrow() {
      const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        row.hidden = !wanted.every((word) => matches(row, word));
        shown += !row.hidden;
      }
      count.textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} runs`;
    }

    head.forEach((cell, column) => cell.querySelector("button").addEventListener("click", () => sort(column)));
    filter.addEventListener("input", narrow);
    box.querySelector("[data-rows]").addEventListener("click", () => {
      const bare = (text, column) => (head[column].classList.contains("n") ? text.replaceAll(",", "") : text);
      const visible = [...body.rows].filter((row) => !row.hidden).map((row) => of.get(row).map(bare));
      const lines = [head.map((cell) => cell.textContent.trim()), ...visible];
      download("runs.csv", lines.map((line) => line.map(inCsv).join(",")).join("\n") + "\n");
    });
    narrow();
  }
  document.querySelectorAll(".runs").forEach(table);
})();
