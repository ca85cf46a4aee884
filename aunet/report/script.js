
"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Sorting: figures by size, words by letter and behind them, what is missing last.
const key = cell => {
  if (cell.dataset.order !== undefined) return [0, Number(cell.dataset.order)];
  const text = cell.textContent.trim();
  return text === "–" ? [2, ""] : [1, text];
};
const order = (a, b, sign) => a[0] - b[0] || sign * (a[0] === 0 ? a[1] - b[1] : a[1].localeCompare(b[1], "en", { numeric: true }));
for (const button of all("thead button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), table = button.closest("table");
    const sign = head.ariaSort === "ascending" ? -1 : 1;
    for (const other of all("thead th", table)) other.ariaSort = "none";
    head.ariaSort = sign > 0 ? "ascending" : "descending";
    const lines = all("tbody tr", table).map(line => [key(line.cells[head.cellIndex]), line]);
    lines.sort((a, b) => order(a[0], b[0], sign));
    table.tBodies[0].append(...lines.map(line => line[1]));
  });
}

// Filters: by words in a row's title or name, and by AU, on the whole page.
const filter = document.getElementById("filter"), words = document.getElementById("row-filter");
const boxes = all("[name=au]", filter), shown = document.getElementById("shown");
const rows = [...new Set(all("[data-row]").map(part => part.dataset.row))];
const apply = () => {
  const wanted = words.value.toLowerCase().split(/\s+/);
  const left = new Set(rows.filter(row => wanted.every(word => row.toLowerCase().includes(word))));
  const aus = new Set(boxes.filter(box => box.checked).map(box => box.value));
  for (const part of all("[data-row]")) part.hidden = !left.has(part.dataset.row);
  for (const part of all("[data-au]")) part.hidden = !aus.has(part.dataset.au);
  const less = left.size < rows.length || aus.size < boxes.length;
  shown.textContent = less ? `${left.size} of ${rows.length} rows and ${aus.size} of ${boxes.length} AUs are shown` : "";
};
const set = checked => () => { for (const box of boxes) box.checked = checked; apply(); };
filter.hidden = false;
filter.addEventListener("input", apply);
filter.addEventListener("submit", event => event.preventDefault());
document.getElementById("every-au").addEventListener("click", set(true));
document.getElementById("no-au").addEventListener("click", set(false));

// On paper nothing can be unfolded.
addEventListener("beforeprint", () => { for (const part of all("details")) part.open = true; });
