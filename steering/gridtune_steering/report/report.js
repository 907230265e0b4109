"use strict";

// Draw the charts in the colours of the page: "var(--ink)" in a figure is the value of --ink.
function coloured(node, style) {
  if (typeof node === "string" && node.startsWith("var(--")) return style.getPropertyValue(node.slice(4, -1)).trim();
  if (Array.isArray(node)) return node.map((item) => coloured(item, style));
  if (node === null || typeof node !== "object") return node;
  return Object.fromEntries(Object.entries(node).map(([key, item]) => [key, coloured(item, style)]));
}

function draw() {
  const source = document.getElementById("figures");
  if (!source) return;
  const style = getComputedStyle(document.documentElement);
  const touch = matchMedia("(pointer: coarse), (max-width: 600px)").matches;
  for (const [key, figure] of Object.entries(JSON.parse(source.textContent))) {
    const { data, layout, config } = coloured(figure, style);
    if (touch) layout.dragmode = false; // a finger on a chart scrolls the page
    Plotly.react("chart-" + key, data, layout, config);
  }
}

// Sort the table of points by a click on a column's name, and back by another.
function sortable(table) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => {
      const down = header.getAttribute("aria-sort") === "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].map((row) => [keyOf(row.cells[column]), row]);
      rows.sort(([one], [other]) => compare(one, other, down ? -1 : 1));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}

function keyOf(cell) {
  const key = cell.dataset.key ?? cell.textContent;
  return cell.classList.contains("number") && key !== "" && !Number.isNaN(Number(key)) ? Number(key) : key;
}

// Numbers before text, and what is missing last in both directions.
function compare(one, other, sign) {
  const missing = (key) => key === "" || key === "\u2013";
  if (missing(one) || missing(other)) return missing(one) - missing(other);
  if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
  return sign * (typeof one === "number" ? one - other : one.localeCompare(other));
}

draw();
document.querySelectorAll("table.listing").forEach(sortable);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
matchMedia("print").addEventListener("change", draw);
