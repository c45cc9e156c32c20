"use strict";

// Clicking a column header sorts the table: numbers numerically, dashes always last.
const headsOf = (table) => [...[...table.tHead.rows].at(-1).cells];

const sort = (table, column, order) => {
  const heads = headsOf(table);
  for (const other of heads) other.removeAttribute("aria-sort");
  heads[column].setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const key = (row) => {
    const cell = row.cells[column];
    const text = cell.textContent.trim();
    if (text === "–") return null;
    return "value" in cell.dataset ? Number(cell.dataset.value) : text;
  };
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [key(row), row]);
  rows.sort((one, other) => compare(one[0], other[0]));
  body.append(...rows.map((row) => row[1]));
};

for (const table of document.querySelectorAll("table:not(.grid)")) {
  headsOf(table).forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const numeric = head.classList.contains("number");
      const first = numeric ? "descending" : "ascending";
      const second = numeric ? "ascending" : "descending";
      sort(table, column, head.getAttribute("aria-sort") === first ? second : first);
    });
  });
}

// If models can be selected, all of them are in the table's CSV file.
const recordsOf = (link) => {
  const bytes = Uint8Array.from(atob(link.href.split(",")[1]), (byte) => byte.charCodeAt(0));
  const text = new TextDecoder().decode(bytes);
  const lines = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\n]*))(,|\n|$)/g)) {
    lines.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === "\n") lines.push([]);
  }
  const fields = new Map(lines[0].map((field, place) => [field, place]));
  return (row, field) => {
    const found = lines[1 + row][fields.get(field)];
    return found ? Number(found) : null;
  };
};

const percent = (share) => {
  const value = 100 * share;
  return (value % 1 === 0.25 ? value - 0.01 : value).toFixed(1); // ties to even, as Python has them
};

const showGrid = (table, record, model) => {
  const total = table.dataset.total;
  let place = 0;
  for (const row of table.tBodies[0].rows) {
    for (const cell of [...row.cells].slice(1)) {
      const value = record(place, model);
      const empty = value === null || (total && value === 0);
      const share = empty ? 0 : total ? value / record(place, total) : value;
      cell.textContent = empty ? "" : percent(share);
      cell.style.setProperty("--share", share);
      place += 1;
    }
  }
};

const showTable = (table, record, model, title) => {
  for (const over of table.querySelectorAll("[data-title]")) {
    over.textContent = over.dataset.title.replace("{model}", () => title);
  }
  const heads = headsOf(table);
  heads.forEach((head, column) => {
    if (!head.dataset.field) return;
    const field = head.dataset.field.replace("{model}", () => model);
    for (const row of table.tBodies[0].rows) {
      const value = record(Number(row.dataset.row), field);
      const cell = row.cells[column];
      cell.textContent = value === null ? "–" : percent(value);
      if (value === null) delete cell.dataset.value;
      else cell.dataset.value = value;
    }
  });
  sort(table, heads.findIndex((head) => head.dataset.field), "ascending");
};

for (const select of document.querySelectorAll(".choice select")) {
  const box = select.closest(".table");
  const table = box.querySelector("table");
  const show = table.classList.contains("grid") ? showGrid : showTable;
  let record = null;
  select.addEventListener("change", () => {
    record ??= recordsOf(box.querySelector(".csv"));
    show(table, record, select.value, select.selectedOptions[0].textContent);
  });
  select.disabled = false;
}

// The table of contents highlights the section being read.
const links = new Map(
  [...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]),
);
const seen = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id).setAttribute("aria-current", "true");
    }
  },
  { rootMargin: "-10% 0px -80% 0px" },
);
for (const name of links.keys()) seen.observe(document.getElementById(name));

// Unfold everything for printing.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
