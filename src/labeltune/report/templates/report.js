"use strict";
// The row browser: filters, sorts and opens all scored rows. Text is only ever set as text, never as markup.
(() => {
  const source = document.getElementById("rows-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const PAGE = 25, FEW_BARS = 8, MOST_BARS = 5;
  const [ID, GOLD, BEFORE, AFTER, P_BEFORE, P_AFTER, TEXTS, SAID_BEFORE, SAID_AFTER, SLICES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
  const byId = (id) => document.getElementById(id);
  const list = byId("row-list"), found = byId("row-count"), search = byId("row-search");
  const choices = { gold: byId("row-gold"), answer: byId("row-answer"), slice: byId("row-slice"), sort: byId("row-sort") };
  const state = { outcome: "all", page: 0, shown: [] };

  const outcome = (row) => {
    const was = row[BEFORE] === row[GOLD], is = row[AFTER] === row[GOLD];
    return was ? (is ? "right" : "broken") : (is ? "fixed" : "wrong");
  };
  const moved = (row) => (row[P_AFTER][row[GOLD]] ?? 0) - (row[P_BEFORE][row[GOLD]] ?? 0);
  const rows = data.rows.map((row, place) => ({
    row, place, outcome: outcome(row), moved: moved(row),
    haystack: [row[ID], ...row[TEXTS], row[SAID_BEFORE] ?? "", row[SAID_AFTER] ?? ""].join("\n").toLowerCase(),
  }));
  const ORDERS = {
    moved: (a, b) => Math.abs(b.moved) - Math.abs(a.moved) || a.place - b.place,
    lost: (a, b) => a.moved - b.moved || a.place - b.place,
    won: (a, b) => b.moved - a.moved || a.place - b.place,
    unsure: (a, b) => Math.max(...a.row[P_AFTER]) - Math.max(...b.row[P_AFTER]) || a.place - b.place,
    sure: (a, b) => Math.max(...b.row[P_AFTER]) - Math.max(...a.row[P_AFTER]) || a.place - b.place,
    data: (a, b) => a.place - b.place,
  };

  function element(tag, name, text) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  }
  const label = (place) => (place < 0 ? "no label" : data.labels[place]);
  const percent = (p) => (p === undefined ? "–" : `${(p * 100).toFixed(1)} %`);
  const number = (n) => n.toLocaleString("en-US");

  function fill(select, names) {
    names.forEach((name, place) => {
      const option = element("option", "", name);
      option.value = String(place);
      select.append(option);
    });
  }

  function apply() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = (select) => (select.value === "" ? null : Number(select.value));
    const gold = wanted(choices.gold), answer = wanted(choices.answer), slice = wanted(choices.slice);
    const others = rows.filter((one) =>
      (gold === null || one.row[GOLD] === gold) &&
      (answer === null || one.row[AFTER] === answer) &&
      (slice === null || one.row[SLICES].includes(slice)) &&
      words.every((word) => one.haystack.includes(word)));
    for (const button of document.querySelectorAll("[data-outcome]")) {
      const kind = button.dataset.outcome;
      const count = kind === "all" ? others.length : others.filter((one) => one.outcome === kind).length;
      button.querySelector("span").textContent = number(count);
      button.setAttribute("aria-pressed", String(kind === state.outcome));
    }
    state.shown = state.outcome === "all" ? others : others.filter((one) => one.outcome === state.outcome);
    state.shown.sort(ORDERS[choices.sort.value]);
    state.page = 0;
    draw();
  }

  function draw() {
    const first = state.page * PAGE, last = Math.min(first + PAGE, state.shown.length);
    list.replaceChildren(...state.shown.slice(first, last).map(item));
    found.textContent = state.shown.length
      ? `${number(first + 1)} to ${number(last)} of ${number(state.shown.length)}`
      : "No row fits these filters.";
    byId("row-previous").disabled = first === 0;
    byId("row-next").disabled = last >= state.shown.length;
  }

  function item(one) {
    const { row } = one, line = element("li", `item ${one.outcome}`), head = element("button", "item-head");
    head.type = "button";
    head.setAttribute("aria-expanded", "false");
    const right = row[AFTER] === row[GOLD];
    const verdict = element("span", "verdict");
    verdict.append(
      element("span", "gold-label", label(row[GOLD])),
      element("span", row[BEFORE] === row[GOLD] ? "is-right" : "is-wrong", label(row[BEFORE])),
      element("span", "arrow", "→"),
      element("span", right ? "is-right" : "is-wrong", label(row[AFTER])),
      element("span", "delta", one.moved >= 0 ? `+${(one.moved * 100).toFixed(0)}` : `−${(-one.moved * 100).toFixed(0)}`),
    );
    const excerpt = element("span", "excerpt");
    row[TEXTS].forEach((text) => { const part = element("span", "", text); part.dir = "auto"; excerpt.append(part); });
    head.append(verdict, excerpt);
    head.addEventListener("click", () => toggle(line, head, one));
    line.append(head);
    return line;
  }

  function toggle(line, head, one) {
    const open = line.querySelector(".item-body");
    head.setAttribute("aria-expanded", String(!open));
    if (open) open.remove();
    else line.append(body(one.row));
  }

  function body(row) {
    const made = element("div", "item-body"), facts = element("dl", "row");
    const say = (name, text, kind) => {
      const value = element("dd", kind ?? "", text);
      value.dir = "auto";
      facts.append(element("dt", "", name), value);
    };
    say("row", row[ID], "muted");
    say("gold", label(row[GOLD]));
    data.columns.forEach((name, place) => say(name, row[TEXTS][place], "text"));
    if (row[SAID_BEFORE] !== null) say("wrote before", row[SAID_BEFORE], "code");
    if (row[SAID_AFTER] !== null) say("wrote after", row[SAID_AFTER], "code");
    if (row[SLICES].length) say("slices", row[SLICES].map((place) => data.slices[place]).join(" · "));
    for (const [name, text] of data.facts[row[ID]] ?? []) say(name, text);
    made.append(facts, bars(row));
    return made;
  }

  function bars(row) {
    const table = element("div", "bars");
    const likeliest = (place) => Math.max(row[P_AFTER][place] ?? 0, row[P_BEFORE][place] ?? 0);
    const known = data.labels.map((_, place) => place).filter((place) => row[P_AFTER][place] !== undefined);
    const ranked = known.length > FEW_BARS ? known.sort((a, b) => likeliest(b) - likeliest(a) || a - b) : known;
    const shown = ranked.filter((place, rank) => known.length <= FEW_BARS || rank < MOST_BARS || place === row[GOLD]);
    shown.forEach((place) => {
      const name = data.labels[place];
      const line = element("div", "bar-line");
      line.append(element("span", place === row[GOLD] ? "bar-name is-gold" : "bar-name", name));
      for (const [side, p] of [["before", row[P_BEFORE][place]], ["after", row[P_AFTER][place]]]) {
        const track = element("span", "track"), bar = element("span", `bar ${side}`);
        bar.style.width = `${(p ?? 0) * 100}%`;
        track.append(bar);
        line.append(track, element("span", "bar-value", percent(p)));
      }
      table.append(line);
    });
    const rest = (side) => percent(ranked.filter((place) => !shown.includes(place)).reduce((sum, place) => sum + (row[side][place] ?? 0), 0));
    const others = ranked.length - shown.length;
    if (others) table.append(element("small", "", `${others} other label${others === 1 ? "" : "s"} together: ${rest(P_BEFORE)} before, ${rest(P_AFTER)} after`));
    return table;
  }

  function turn(by) {
    state.page += by;
    draw();
    byId("row-tools").scrollIntoView({ block: "start" });
    list.querySelector("button")?.focus({ preventScroll: true });
  }

  list.addEventListener("keydown", (event) => {
    const heads = [...list.querySelectorAll(".item-head")], at = heads.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: heads.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    heads[Math.max(0, Math.min(to, heads.length - 1))].focus();
  });
  let waiting = 0;
  search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(apply, 120); });
  Object.values(choices).forEach((select) => select.addEventListener("change", apply));
  document.querySelectorAll("[data-outcome]").forEach((button) =>
    button.addEventListener("click", () => { state.outcome = button.dataset.outcome; apply(); }));
  byId("row-previous").addEventListener("click", () => turn(-1));
  byId("row-next").addEventListener("click", () => turn(1));
  document.querySelectorAll("[data-slice]").forEach((link) => link.addEventListener("click", () => {
    choices.slice.value = link.dataset.slice;
    apply();
  }));

  fill(choices.gold, data.labels);
  fill(choices.answer, data.labels);
  fill(choices.slice, data.slices);
  if (data.rows.some((row) => row[AFTER] < 0)) {
    const none = element("option", "", "no label");
    none.value = "-1";
    choices.answer.append(none);
  }
  if (!data.slices.length) choices.slice.parentElement.hidden = true;
  byId("browser").hidden = false;
  apply();
})();
