"use strict";
// Sorts and filters the table of cases. Without this script all rows are there, in order.
(() => {
  const FIRST = 200; // rows shown at first: a browser lays out thousands slowly
  const at = id => document.getElementById(id);
  const body = at("table").tBodies[0], heads = [...at("table").tHead.rows[0].cells];
  const rows = [...body.rows], more = at("more"), selects = [...document.querySelectorAll("select")];
  const texts = new Map(rows.map(row => [row, row.textContent.toLowerCase()]));
  const words = new Map(rows.map(row => [row, new Set([0, 3].flatMap(i => row.cells[i].textContent.split(/[ ,]+/)))]));
  let order = rows, shown = FIRST;

  const key = (row, column) => {
    const cell = row.cells[column], value = cell.dataset.v ?? cell.textContent;
    return value === "" || isNaN(value) ? value : Number(value);
  };

  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === ""); // what is absent comes last, either way
    return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  };

  function matching() {
    const parts = at("text").value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = selects.map(select => select.value).filter(Boolean);
    return order.filter(row => parts.every(part => texts.get(row).includes(part))
      && chosen.every(value => words.get(row).has(value)));
  }

  function show() {
    const found = matching(), part = found.slice(0, shown);
    body.replaceChildren(...part);
    at("count").textContent = `${found.length} of ${rows.length} cases` + (part.length < found.length ? `, the first ${part.length} shown` : "");
    more.hidden = part.length === found.length;
  }

  const again = () => { shown = FIRST; show(); };

  function sort(column) {
    const down = heads[column].ariaSort === "ascending";
    const keys = new Map(rows.map(row => [row, key(row, column)]));
    const sign = (a, b) => (a === "" || b === "" ? 1 : down ? -1 : 1);
    order = [...rows].sort((a, b) => sign(keys.get(a), keys.get(b)) * compare(keys.get(a), keys.get(b)));
    heads.forEach((head, place) => place === column ? head.ariaSort = down ? "descending" : "ascending" : head.removeAttribute("aria-sort"));
    show();
  }

  function reveal() { // a link leads to a row, whether it is shown or not
    const row = rows.find(own => "#" + own.id === location.hash);
    rows.forEach(own => own.classList.remove("found"));
    if (!row) return;
    if (!row.isConnected) {
      at("controls").reset();
      order = [row, ...order.filter(own => own !== row)];
      again();
    }
    row.classList.add("found");
    row.tabIndex = -1;
    row.focus({ preventScroll: true });
    row.scrollIntoView({ block: "center" });
  }

  heads.slice(0, -1).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.onclick = () => sort(column);
    head.replaceChildren(button);
  });
  at("controls").addEventListener("input", again);
  at("controls").addEventListener("submit", event => event.preventDefault());
  more.onclick = () => { shown = Infinity; show(); };
  addEventListener("hashchange", reveal);
  addEventListener("click", event => { // also where the address is the same as before
    if (event.target.closest("a[href^='#c']")?.hash === location.hash) reveal();
  });
  addEventListener("beforeprint", () => { shown = Infinity; show(); });
  addEventListener("afterprint", again);
  at("controls").hidden = false;
  show();
  reveal();
})();
