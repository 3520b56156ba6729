// What an accessibility checker looks for, in this page as it is now: a list of faults.
(() => {
  const faults = [];
  const fault = (what, element) => faults.push(`${what}: ${element.outerHTML.slice(0, 160)}`);
  const all = (selector) => [...document.querySelectorAll(selector)].filter((e) => e.checkVisibility({ visibilityProperty: true }));
  const text = (id) => document.getElementById(id)?.textContent.trim();

  // Landmarks, language, title.
  for (const [name, selector] of [["main", "main"], ["header", "body > header"], ["navigation", "header nav[aria-label]"]]) {
    if (all(selector).length !== 1) faults.push(`${all(selector).length} of the landmark ${name}`);
  }
  if (!document.documentElement.lang) faults.push("no language");
  if (!document.title) faults.push("no title");
  for (const e of document.body.children) {
    if (!["HEADER", "MAIN"].includes(e.tagName) && !e.matches(".skip, .symbols")) fault("outside of every landmark", e);
  }
  for (const e of all("nav")) if (!e.getAttribute("aria-label")) fault("a navigation without a name", e);
  for (const e of all("section")) {
    if (!e.getAttribute("aria-label") && !text(e.getAttribute("aria-labelledby"))) fault("a section without a name", e);
  }

  // Headings: one of the first level, and none left out.
  let level = 0;
  for (const e of all("h1, h2, h3, h4, h5, h6")) {
    const next = Number(e.tagName[1]);
    if (next > level + 1) fault(`a heading of level ${next} after ${level}`, e);
    if (!e.textContent.trim()) fault("an empty heading", e);
    level = next;
  }
  if (all("h1").length !== 1) faults.push(`${all("h1").length} headings of the first level`);

  // Names of what can be operated, and of pictures.
  for (const e of all("a[href], button, summary")) {
    if (!e.textContent.trim() && !e.getAttribute("aria-label")) fault("nothing says what it does", e);
  }
  for (const e of all("input:not([type=hidden]), select, textarea")) {
    if (![...(e.labels ?? [])].some((l) => l.textContent.trim())) fault("a field without a label", e);
  }
  for (const e of all("img")) if (!e.hasAttribute("alt")) fault("a picture without a text", e);
  for (const e of all("svg")) {
    if (e.getAttribute("aria-hidden") !== "true" && !(e.getAttribute("role") === "img" && e.getAttribute("aria-label"))) fault("a drawing without a text", e);
  }
  for (const e of all("table")) {
    if (e.querySelector("thead th:not([scope=col])") || !e.querySelector("thead th")) fault("a table without column headers", e);
    for (const row of e.tBodies[0].rows) if (!row.querySelector("th[scope=row]")) fault("a row without a header", row);
  }
  for (const e of document.querySelectorAll("[tabindex]")) if (e.tabIndex > 0) fault("a tab order of its own", e);

  // Ids: unique, and there where they are referred to.
  const ids = new Set();
  for (const e of document.querySelectorAll("[id]")) {
    if (ids.has(e.id)) fault("an id that is there twice", e);
    ids.add(e.id);
  }
  for (const e of document.querySelectorAll("[aria-labelledby]")) if (!ids.has(e.getAttribute("aria-labelledby"))) fault("named by nothing", e);
  for (const e of document.querySelectorAll("use")) if (!ids.has(e.getAttribute("href").slice(1))) fault("a drawing of nothing", e);

  // Contrast: 4.5 for text, 3 for large text, and for what is told by a shape.
  const rgba = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      if (e.getAnimations().length > 0) return null; // on its way from one colour to another
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const contrast = (a, b) => {
    const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  const check = (e, colour, wanted, what) => {
    const ground = behind(e);
    if (!ground) return;
    const got = contrast(rgba(colour), ground);
    if (got < wanted) fault(`${what} with a contrast of ${got.toFixed(2)}`, e);
  };
  let checked = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const e = node.parentElement;
    if (!node.nodeValue.trim() || !e.checkVisibility({ visibilityProperty: true }) || e.closest("svg, option")) continue;
    const style = getComputedStyle(e);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    check(e, style.color, large ? 3 : 4.5, "text");
    checked++;
  }
  if (!checked) faults.push("no text");
  for (const e of all(".mark, .bar rect, .chart circle, .chart rect")) {
    const style = getComputedStyle(e);
    check(e, style.fill === "none" ? style.stroke : style.fill, 3, "a shape");
  }
  for (const e of all("input, select, button")) {
    const style = getComputedStyle(e);
    if (rgba(style.backgroundColor).join() === behind(e.parentElement)?.join()) check(e.parentElement, style.borderTopColor, 3, "a border");
  }

  // Nothing is wider than the window, and what is touched is large enough to be hit.
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) {
    const wide = all("body *").find((e) => e.getBoundingClientRect().right > width + 1);
    faults.push(`it is ${document.documentElement.scrollWidth} wide in a window of ${width}: ${wide?.outerHTML.slice(0, 200)}`);
  }
  for (const e of all("button, select, input:not([type=hidden]), header nav a, .tiles a")) {
    const box = e.getBoundingClientRect();
    if (box.width < 24 || box.height < 24) fault(`only ${box.width.toFixed()} by ${box.height.toFixed()}`, e);
  }
  return faults;
})();
