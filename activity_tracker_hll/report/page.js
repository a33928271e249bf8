"use strict";
// One crosshair through all panels of days. All numbers stand in tables; here they are only shown beside.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const rounded = text => {
    const number = Number(text.replace(/,/g, ""));
    return text.includes("%") || Number.isNaN(number)
      ? text
      : Number(number.toPrecision(3)).toLocaleString("en-US", { maximumFractionDigits: 10 });
  };
  const limits = text => text.includes(".") ? text : text.split(" to ").map(rounded).join(" to ");

  // What a cell of a table says: a number, and its limits or a word in a <small>.
  const read = cell => {
    const small = cell.querySelector("small");
    const value = cell.firstChild ? cell.firstChild.textContent.trim() : "";
    return [value === "-" ? "no count" : rounded(value), small ? limits(small.textContent) : ""];
  };
  const show = (output, [value, small]) => {
    output.querySelector("b").textContent = value;
    output.querySelector("small").textContent = small;
  };

  const rows = id => all(`#${id} tbody tr`);
  const tables = { days: rows("days"), reach: rows("reach") };
  const days = tables.days.map(row => row.dataset.day);
  const sliders = all(".slider.days input");
  const panels = all(".panel[data-table]").map(panel => ({
    // Windows may end with each seventh day alone: what is shown is the last one up to a day.
    rows: days.map(day => tables[panel.dataset.table].findLast(row => row.dataset.day <= day)),
    column: 1 + Number(panel.dataset.column),
    output: panel.querySelector("output"),
    plot: panel.querySelector(".plot"),
    cross: panel.querySelector(".cross"),
  }));
  let selected = sliders.length ? Number(sliders[0].value) : 0;

  const select = day => {
    selected = Math.max(0, Math.min(days.length - 1, day));
    const label = tables.days[selected].cells[0].textContent;
    for (const slider of sliders) {
      slider.value = selected;
      slider.setAttribute("aria-valuetext", label);
      slider.closest(".slider").querySelector("output").textContent = label;
    }
    for (const panel of panels) {
      const row = panel.rows[selected];
      show(panel.output, row ? read(row.cells[panel.column]) : ["no count", ""]);
      panel.cross.hidden = false;
      panel.cross.style.left = `${100 * selected / Math.max(1, days.length - 1)}%`;
    }
  };
  for (const slider of sliders) {
    slider.addEventListener("input", () => select(Number(slider.value)));
  }
  for (const { plot } of panels) {
    const follow = event => {
      const room = plot.getBoundingClientRect();
      select(Math.round((event.clientX - room.left) / room.width * (days.length - 1)));
    };
    plot.addEventListener("pointermove", follow);
    plot.addEventListener("pointerdown", follow);
  }
  const jump = () => {
    const day = days.indexOf(location.hash.slice(1));
    if (day >= 0) select(day);
  };
  window.addEventListener("hashchange", jump);
  jump();

  // The bars of the lifecycle, by a slider of their own.
  const periods = rows("lifecycle");
  const slider = document.querySelector(".slider.periods input");
  if (slider) {
    const parts = all("#lifecycle-legend li");
    slider.addEventListener("input", () => {
      const row = periods[Number(slider.value)];
      const label = row.cells[0].textContent;
      slider.setAttribute("aria-valuetext", label);
      slider.closest(".slider").querySelector("output").textContent = label;
      // The column after the label is that of all who are active, which no part of a bar stands for.
      parts.forEach((part, at) => {
        const [value, small] = read(row.cells[2 + at]);
        show(part, [value, small && ` (${small})`]);
      });
    });
  }

  // The list of many buckets.
  const search = document.querySelector("#search");
  if (search) {
    const listed = rows("list").map(row => [row, row.cells[0].textContent.toLowerCase()]);
    search.addEventListener("input", () => {
      const wanted = search.value.toLowerCase();
      for (const [row, name] of listed) row.hidden = !name.includes(wanted);
    });
  }

  const theme = document.querySelector("#theme");
  theme.addEventListener("click", () => {
    const root = document.documentElement;
    const shown = root.style.colorScheme ||
      (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    root.style.colorScheme = shown === "dark" ? "light" : "dark";
  });
  for (const control of all(".needs-script")) control.hidden = false;
})();
