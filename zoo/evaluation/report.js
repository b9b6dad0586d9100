"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const key = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.value === undefined ? cell.textContent : cell.dataset.value;
    return text === "" || isNaN(text) ? text : Number(text);
  };
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.ariaSort === "descending" ? 1 : -1;
      for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
      head.ariaSort = sign < 0 ? "descending" : "ascending";
      const compared = (first, second) => {
        const [a, b] = [key(first, head.cellIndex), key(second, head.cellIndex)];
        if (a === "" || b === "") return (a === "") - (b === "");
        return sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
      };
      body.append(...[...body.rows].sort(compared));
    });
  }
}

const matrices = [...document.querySelectorAll("[data-matrix]")];
const chosenTask = document.getElementById("matrix-task");
if (chosenTask) {
  const show = () => matrices.forEach((part) => { part.hidden = part.dataset.matrix !== chosenTask.value; });
  chosenTask.addEventListener("change", show);
  show();
}

const PAGE = 24;
const examples = [...document.querySelectorAll(".example")];
const filters = document.getElementById("filters");
if (filters && examples.length) {
  const field = (name) => document.getElementById(name);
  let limit = PAGE;
  const fits = (example) => {
    const right = example.dataset.right.split(" ");
    const answered = example.dataset.answered.split(" ");
    const says = (name, wanted) => {
      const method = field(name).value;
      return method === "" || (answered.includes(method) && right.includes(method) === wanted);
    };
    const task = field("filter-task").value;
    return (task === "" || example.dataset.task === task) && says("filter-right", true) && says("filter-wrong", false);
  };
  const show = () => {
    const found = examples.filter(fits);
    for (const example of examples) example.hidden = true;
    for (const example of found.slice(0, limit)) example.hidden = false;
    field("filter-count").textContent = `${found.length} of ${examples.length} items`;
    field("filter-more").hidden = found.length <= limit;
  };
  filters.hidden = false;
  filters.addEventListener("change", () => { limit = PAGE; show(); });
  field("filter-more").addEventListener("click", () => { limit += PAGE; show(); });
  show();
}
