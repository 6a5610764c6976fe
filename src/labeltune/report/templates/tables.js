// Tables in boxes: a field filters their rows, headings sort them. Without a script all rows stand in their first order.
(() => {
  for (const finder of document.querySelectorAll(".finder")) {
    const field = finder.querySelector("input"), status = finder.querySelector("[role=status]");
    const body = finder.querySelector("tbody"), rows = [...body.rows], headings = [...finder.querySelectorAll("thead th")];
    const named = (row) => [...row.cells].slice(0, Number(finder.dataset.names)).map((cell) => cell.textContent).join(" ");
    const names = rows.map((row) => named(row).toLowerCase().replace(/[\s_]+/g, " "));
    const total = rows.length.toLocaleString("en-US"), noun = status.dataset.noun;

    function filter() {
      const words = field.value.toLowerCase().split(/[\s_]+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, place) => {
        row.hidden = !words.every((word) => names[place].includes(word));
        shown += !row.hidden;
      });
      status.textContent = words.length ? `${shown.toLocaleString("en-US")} of ${total} ${noun}` : `${total} ${noun}`;
    }

    function sort(place) {
      const before = headings[place].getAttribute("aria-sort");
      const value = (row) => row.cells[place].textContent.trim();
      const number = (row) => Number.parseFloat(value(row).replaceAll(",", "").replace("−", "-"));
      const text = rows.some((row) => Number.isNaN(number(row)) && value(row) !== "–");
      const down = before ? before !== "descending" : !text; // numbers begin with the largest
      const order = text
        ? (a, b) => value(a).localeCompare(value(b))
        : (a, b) => (Number.isNaN(number(a)) ? -Infinity : number(a)) - (Number.isNaN(number(b)) ? -Infinity : number(b)) || 0;
      headings.forEach((one) => one.removeAttribute("aria-sort"));
      headings[place].setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...[...rows].sort((a, b) => (down ? order(b, a) : order(a, b))));
    }

    headings.forEach((heading, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent;
      button.addEventListener("click", () => sort(place));
      heading.replaceChildren(button);
    });
    field.addEventListener("input", filter);
    finder.querySelector(".finder-tools").hidden = false;
    filter();
  }
})();
