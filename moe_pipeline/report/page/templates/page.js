"use strict";
// Tables that sort: a click on a header, or Enter on it; a second one turns the order round.
(() => {
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    const told = cell.dataset.order;
    const text = told === undefined ? cell.textContent.trim() : told;
    const number = text === "-inf" ? -Infinity : text === "inf" ? Infinity : Number(text);
    return text !== "" && !Number.isNaN(number) ? number : text.toLowerCase();
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a < b ? -1 : a > b ? 1 : 0;
    if (typeof a === "number" || typeof b === "number") return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b, undefined, { numeric: true });
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      header.querySelector("button").addEventListener("click", () => {
        const descending = header.getAttribute("aria-sort") === "ascending";
        for (const other of headers) other.removeAttribute("aria-sort");
        header.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row, column), row]);
        rows.sort((a, b) => compare(a[0], b[0]) * (descending ? -1 : 1));
        table.tBodies[0].append(...rows.map((pair) => pair[1]));
      });
    });
  }
})();
