"use strict";
// Words first: plotly.js is unpacked after the page is shown, and each picture is drawn when it comes into view.
(() => {
  const plots = [...document.querySelectorAll(".plot")];
  const packed = document.getElementById("plotly");
  let library = null;

  async function unpack() {
    const bytes = Uint8Array.from(atob(packed.textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    packed.remove();
    if (!window.Plotly) throw new Error("plotly.js did not start");
  }

  function tint(plot) {
    return { "font.color": getComputedStyle(plot).color };
  }

  function draw(plot) {
    if (plot.dataset.state) return;
    plot.dataset.state = "drawing";
    const figure = JSON.parse(plot.nextElementSibling.textContent);
    figure.layout.font = { ...figure.layout.font, color: getComputedStyle(plot).color };
    plot.textContent = "";
    window.Plotly.newPlot(plot, figure.data, figure.layout, { displayModeBar: false, responsive: true }).then(
      () => { plot.dataset.state = "drawn"; },
      (error) => fail(plot, error),
    );
  }

  function fail(plot, error) {
    plot.dataset.state = "failed";
    plot.textContent = "This picture cannot be drawn here; the tables hold the numbers. (" + error.message + ")";
  }

  function start() {
    library ??= unpack();
    return library;
  }

  function drawAll() {
    return start().then(() => plots.forEach(draw));
  }

  if (packed) {
    const watch = new IntersectionObserver((seen) => {
      for (const entry of seen) {
        if (!entry.isIntersecting) continue;
        watch.unobserve(entry.target);
        start().then(() => draw(entry.target), (error) => fail(entry.target, error));
      }
    }, { rootMargin: "500px 0px" });
    requestAnimationFrame(() => setTimeout(() => plots.forEach((plot) => watch.observe(plot)), 0));

    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      for (const plot of plots) if (plot.dataset.state === "drawn") window.Plotly.relayout(plot, tint(plot));
    });
  }

  const parts = [...document.querySelectorAll("details")];
  const button = document.getElementById("open-all");
  if (parts.length) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const open = parts.some((part) => !part.open);
      parts.forEach((part) => { part.open = open; });
      button.textContent = open ? "Close them again" : "Open all folded parts";
    });
  }

  // On paper, what is open is drawn, in black; afterwards it is as it was.
  addEventListener("beforeprint", () => {
    if (!window.Plotly) return;
    plots.filter((plot) => plot.offsetParent).forEach(draw);
    plots.forEach((plot) => plot.dataset.state === "drawn" && window.Plotly.relayout(plot, { "font.color": "#000" }));
  });
  addEventListener("afterprint", () => {
    plots.forEach((plot) => plot.dataset.state === "drawn" && window.Plotly.relayout(plot, tint(plot)));
  });

  window.fairsynthReport = { drawAll, plots };
})();
