// The server renders the page. This script fetches it again after an event, updates the elements that differ, and calls
// the API for the buttons.
"use strict";

const gap = 500; // least time between two fetches, in ms
const idle = 5000; // time between two fetches without an event, in ms: results have no events
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const $ = (id) => document.getElementById(id);
const later = (ms) => new Promise((done) => setTimeout(done, ms));

// localize writes the times of day below a node in the browser's time zone. Their title stays in UTC.
function localize(root) {
  for (const time of root.querySelectorAll("time.clock")) time.textContent = new Date(time.dateTime).toLocaleTimeString([], { hour12: false });
}

// merge makes an element equal to another one and keeps its equal children, so that focus, selection, scrolling
// and opened details stay. It calls changed with each element that has another state than before.
function merge(have, want, changed) {
  if (have.hasAttribute("data-keep") || (have.localName === "dialog" && have.open)) return;
  const was = have.dataset.state;
  for (const { name } of [...have.attributes]) {
    if (!want.hasAttribute(name) && name !== "open") have.removeAttribute(name);
  }
  for (const { name, value } of want.attributes) {
    if (have.getAttribute(name) !== value) have.setAttribute(name, value);
  }
  mergeChildren(have, want, changed);
  if (was !== want.dataset.state) changed(have);
}

// mergeChildren matches elements by id, at any position, and elements without an id by position.
function mergeChildren(have, want, changed) {
  const known = new Map([...have.children].filter((c) => c.id).map((c) => [c.id, c]));
  const wanted = new Set([...want.children].map((c) => c.id));
  const stays = (node) => node.id && wanted.has(node.id);
  let at = have.firstChild;
  const removeUntil = (end) => {
    while (at !== end) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  };
  for (const child of [...want.childNodes]) {
    const same = child.id ? known.get(child.id) : at;
    if (!same || same.nodeName !== child.nodeName || (same.id ?? "") !== (child.id ?? "")) {
      have.insertBefore(child, at);
      if (child.dataset?.state) changed(child);
      continue;
    }
    let next = at;
    while (next && next !== same && !stays(next)) next = next.nextSibling;
    if (next === same) {
      removeUntil(same);
      at = same.nextSibling;
    } else have.insertBefore(same, at); // it has moved past elements that stay
    if (same.nodeType !== Node.ELEMENT_NODE) same.nodeValue = child.nodeValue;
    else if (!same.isEqualNode(child)) merge(same, child, changed);
  }
  removeUntil(null);
}

function flash(element) {
  if (calm.matches) return;
  const colour = getComputedStyle(document.documentElement).getPropertyValue("--flash");
  element.animate([{ backgroundColor: colour }, {}], { duration: 1800, easing: "ease-out" });
}

// show fetches a page of Rollcall and replaces the current one. A later call cancels an earlier one.
let showing = null;
async function show(url, changed) {
  showing?.abort();
  const mine = (showing = new AbortController());
  const response = await fetch(url, { signal: mine.signal, cache: "no-store" });
  const text = await response.text();
  if (mine.signal.aborted) return;
  if (!response.headers.get("Content-Type")?.startsWith("text/html")) throw new Error(problemOf(text, response));
  const fresh = new DOMParser().parseFromString(text, "text/html");
  localize(fresh);
  const focused = document.activeElement;
  document.title = fresh.title;
  mergeChildren(document.body, fresh.body, changed);
  if (listening) freshness();
  if (focused !== document.activeElement) (focused.isConnected ? focused : $("main")).focus({ preventScroll: true });
}

// refreshSoon fetches the page again after ms, one fetch at a time and not too often.
let timer = 0;
let due = Infinity;
let notBefore = 0;
let busy = false;
function refreshSoon(ms) {
  const at = Math.max(performance.now() + ms, notBefore);
  if (at >= due) return;
  due = at;
  clearTimeout(timer);
  timer = setTimeout(refresh, at - performance.now());
}

async function refresh() {
  due = Infinity;
  if (document.hidden) return;
  if (busy) return refreshSoon(gap);
  notBefore = performance.now() + gap;
  busy = true;
  try {
    await show(location.href, flash);
    away(null);
  } catch (error) {
    if (error.name !== "AbortError") away(error);
  }
  busy = false;
  refreshSoon(idle);
}

// away shows that the page gets no updates.
function away(error) {
  const banner = $("away");
  const why = error instanceof TypeError ? "Rollcall does not answer" : error?.message; // fetch throws a TypeError if the connection fails
  if (error && banner.hidden) banner.textContent = `${why}. This is how things stood; trying again.`;
  banner.hidden = !error;
}

// freshness shows whether the page is up to date.
let listening = false;
function freshness() {
  const pill = $("live");
  const text = !listening ? "Disconnected" : $("stale") ? "Out of date" : "Live";
  if (pill.textContent !== text) pill.textContent = text;
  pill.className = text === "Live" ? "heard" : "lost";
}

// listen reads the stream of events while the page is visible. It ignores their content, because the server renders the
// page.
async function listen() {
  for (;;) {
    if (document.hidden) await new Promise((seen) => document.addEventListener("visibilitychange", seen, { once: true }));
    if (document.hidden) continue;
    const stop = new AbortController();
    const leave = () => document.hidden && stop.abort();
    document.addEventListener("visibilitychange", leave);
    try {
      const response = await fetch("/v1/events", { signal: stop.signal, cache: "no-store" });
      if (!response.ok) throw new Error(response.statusText);
      listening = true;
      freshness();
      const events = response.body.getReader(); // it begins with a keep-alive comment
      while (!(await events.read()).done) refreshSoon(0);
    } catch {
      // shown below
    }
    document.removeEventListener("visibilitychange", leave);
    if (document.hidden) continue;
    listening = false;
    freshness();
    refreshSoon(0);
    await later(1000);
  }
}

function problemOf(text, response) {
  try {
    const { title, detail, field, want } = JSON.parse(text);
    return [title, detail, field ? "" : want].filter(Boolean).join(": "); // the detail of a field has the advice
  } catch {
    return `${response.status} ${response.statusText}`;
  }
}

// say shows the result of an action. It hides a success after some time.
let saying = 0;
function say(text, wrong) {
  clearTimeout(saying);
  if (text && !wrong) saying = setTimeout(() => say("", false), 10000);
  $("said").textContent = text;
  $("said").classList.toggle("wrong", wrong);
}

// done shows that a form has succeeded. It shows a new secret until the user does something else.
async function done(form, response) {
  const text = await response.text();
  const { token, secret, reason, latency_ms: took } = text && response.headers.get("Content-Type")?.startsWith("application/json") ? JSON.parse(text) : {};
  const result = took === undefined ? "" : ` Its answer: ${reason}, after ${took} ms.`;
  say(form.dataset.said + result + (token || secret ? ` Copy it now, it is not shown again: ${token ?? secret}` : ""), false);
  if (token || secret) clearTimeout(saying);
  if (!form.closest("dialog")) form.reset();
  if (form.dataset.next) location.assign(form.dataset.next);
}

// call sends a form to the API. The answer to a drain arrives at its end, and the page shows the drain before.
async function call(form) {
  const [method, path] = form.dataset.call.split(" ");
  const said = form.dataset.said;
  say("", false);
  const body = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
  try {
    const asked = fetch(path, { method, body });
    const response = await Promise.race([asked, later(1500)]);
    if (!response) say(said, false);
    const answer = response ?? (await asked);
    if (!answer.ok) return say(problemOf(await answer.text(), answer), true);
    if (response) await done(form, response);
  } catch {
    say("Rollcall does not answer. The result of the action is unknown.", true);
  }
  refreshSoon(0);
}

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-dialog]");
  if (opener) {
    const dialog = $(opener.dataset.dialog);
    const ids = picked();
    if (dialog.querySelector("[data-each]") && !ids.length) return say("Select instances first.", true);
    for (const p of dialog.querySelectorAll(".picked")) p.textContent = ids.join(", ");
    dialog.showModal();
  }
  const copier = event.target.closest("[data-copy]");
  if (copier) copy(copier.dataset.copy);
});

// picked returns the ids of the selected instances.
function picked() {
  return [...document.querySelectorAll("tbody .pick:checked")].map((box) => box.value);
}

// The box above a list selects all its instances.
document.addEventListener("change", (event) => {
  if (event.target.id !== "pick-all") return;
  for (const box of document.querySelectorAll("tbody .pick")) box.checked = event.target.checked;
});

// copy puts a text into the clipboard. Browsers have no clipboard interface on a page without TLS.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = document.body.appendChild(document.createElement("textarea"));
    field.value = text;
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  say(`Copied: ${text}`, false);
}

// callEach sends a form to the API once for each selected instance, and shows the number of successes and the first problem.
async function callEach(form) {
  const [method, path] = form.dataset.each.split(" ");
  const ids = picked();
  const one = async (id) => {
    try {
      const asked = fetch(path.replace(":id", encodeURIComponent(id)), { method, body: new URLSearchParams(new FormData(form)) });
      const answer = await Promise.race([asked, later(1500)]);
      return answer && !answer.ok ? `${id}: ${problemOf(await answer.text(), answer)}` : "";
    } catch {
      return `${id}: Rollcall does not answer`;
    }
  };
  const wrong = (await Promise.all(ids.map(one))).filter(Boolean);
  for (const box of document.querySelectorAll(".pick:checked")) box.checked = false;
  say([`${ids.length - wrong.length} of ${ids.length} instances are ${form.dataset.said}.`, wrong[0]].filter(Boolean).join(" "), wrong.length > 0);
  refreshSoon(0);
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  const each = form.dataset.each;
  if (!(form.dataset.call || each) || event.submitter?.value === "cancel") return;
  event.preventDefault();
  form.closest("dialog")?.close();
  if (each) callEach(form);
  else call(form);
});

// A search updates the list while the user types. Only the first letter is a step in the browser's history.
let typing = 0;
document.addEventListener("input", (event) => {
  const form = event.target.closest("form#find");
  if (!form) return;
  clearTimeout(typing);
  typing = setTimeout(async () => {
    const fields = [...new FormData(form)].filter(([, value]) => value !== "");
    const url = new URL(form.action);
    url.search = new URLSearchParams(fields);
    const step = url.pathname === location.pathname && location.search ? "replaceState" : "pushState";
    history[step](null, "", url);
    try {
      await show(url, () => {});
      away(null);
    } catch (error) {
      if (error.name !== "AbortError") away(error);
    }
  }, 150);
});

addEventListener("popstate", () => location.reload());
document.addEventListener("visibilitychange", () => refreshSoon(0));
localize(document);
refreshSoon(idle);
listen();
