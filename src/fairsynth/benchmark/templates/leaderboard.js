"use strict";
// Sorting and filtering of the table; without scripts it stands as it is.
(() => {
  const board = document.getElementById("board");
  const body = board.tBodies[0];
  const rows = [...body.rows];
  const heads = [...board.tHead.rows[0].cells];
  const form = document.getElementById("filters");
  const field = (id) => document.getElementById(id);
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());

  function value(row, column, kind) {
    const cell = row.cells[column];
    if (kind === "text") return cell.textContent.trim().toLowerCase();
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  }

  function sort(head) {
    const column = heads.indexOf(head);
    const kind = head.dataset.sort;
    // Numbers begin with the largest, words with A.
    const first = kind === "number" ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const wanted = head.getAttribute("aria-sort") === first ? second : first;
    heads.forEach((other) => other.dataset.sort && other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", wanted);
    const sign = wanted === "ascending" ? 1 : -1;
    const keyed = rows.map((row, place) => [value(row, column, kind), place, row]);
    keyed.sort(([a, i], [b, j]) => {
      if (a === null || b === null) return (a === null) - (b === null) || i - j; // what has no number is last
      return (a < b ? -sign : a > b ? sign : 0) || i - j;
    });
    body.append(...keyed.map(([, , row]) => row));
  }

  function filter() {
    const words = field("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    const dataset = field("dataset").value;
    const kind = field("kind").value;
    const criterion = field("criterion") ? field("criterion").value : "";
    const front = field("front").checked;
    let shown = 0;
    for (const row of rows) {
      const data = row.dataset;
      const text = `${data.dataset} ${row.cells[1].textContent} ${row.cells[2].textContent}`.toLowerCase();
      const fits = words.every((word) => text.includes(word))
        && (!dataset || data.dataset === dataset)
        && (!kind || data.kind === kind)
        && (!criterion || !data.criterion || data.criterion === criterion)
        && (!front || row.classList.contains("front") || data.kind === "baseline");
      row.hidden = !fits;
      shown += fits;
    }
    field("count").textContent = `${shown} of ${rows.length} rows`;
  }

  for (const head of heads.filter((h) => h.dataset.sort)) {
    head.tabIndex = 0;
    head.addEventListener("click", () => sort(head));
    head.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(head); }
    });
  }
  form.addEventListener("input", filter);
  filter();
})();
