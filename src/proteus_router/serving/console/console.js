"use strict";
// One page, drawn from /v1/admin/overview every two seconds. Text reaches the page as text nodes only, never as HTML.
const at = (id) => document.getElementById(id);
const DAY_EVERY_MS = 360_000; // the gateway notes a point of each tier as often
let day = {}; // tier -> what the gateway remembers of the last day
let dayAt = -Infinity;
let looks = {}; // tier -> what every look of this page has seen since
let token = sessionStorage.getItem("proteus-admin") || "";
let seen = null;

function make(name, props = {}, ...children) {
  const svg = ["svg", "path", "line", "circle", "text", "rect"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined).map((child) => (child instanceof Node ? child : String(child))));
  return node;
}

async function call(method, path, body, key = token) {
  const headers = { "content-type": "application/json" };
  if (key) headers.authorization = `Bearer ${key}`;
  const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const text = await answer.text();
  let content = null;
  try { content = JSON.parse(text); } catch { content = null; }
  if (!answer.ok) {
    const error = new Error(content?.error?.message || `answered ${answer.status}`);
    error.status = answer.status;
    throw error;
  }
  return { content, headers: answer.headers };
}

const number = (value, digits = 3) => (value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(digits));
const usd = (value) => (value === null || value === undefined ? "–" : `$${value < 0.01 ? value.toPrecision(3) : value.toFixed(2)}`);
const STATES = { holding: "good", violated: "bad", at_risk: "warn", conflict: "warn", stale: "warn", insufficient_evidence: "hint" };
const badge = (state) => make("span", { class: `state ${STATES[state] || "hint"}` }, (state || "not audited").replaceAll("_", " "));
const spentOf = (budget) => `${usd(budget.spent_usd)} of ${usd(budget.usd)}`;
const pairs = (found) => make("dl", {}, ...found.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));

function table(columns, rows, empty, label = columns.map((column) => column[0]).join(", ")) {
  if (!rows.length) return make("p", { class: "hint" }, empty);
  const head = make("tr", {}, ...columns.map(([name, kind]) => make("th", { class: kind, scope: "col" }, name)));
  const body = rows.map((row) => make("tr", {}, ...row.map((cell, place) => make("td", { class: columns[place][1] }, cell))));
  return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
}

// ---- pages -----------------------------------------------------------------------------------------------------

function tiers() {
  const cards = seen.tiers.map((tier) => {
    const now = tier.since_reset;
    const found = [["floor", number(tier.accuracy_target, 3)]];
    if (now) found.push(["running accuracy", `${number(now.estimate)} [${number(now.lower)}, ${number(now.upper)}]`], ["audits, closed / waiting", `${now.audits} / ${tier.audits.open}`]);
    if (tier.tracking) found.push(["internal target", number(tier.tracking.internal_target, 4)]);
    if (tier.max_latency_s) found.push(["latency ceiling", `${tier.max_latency_s} s`]);
    if (tier.budget) found.push([`budget a ${tier.budget.period}`, spentOf(tier.budget)]);
    if (tier.shadow) found.push(["shadow, same model", `${tier.shadow.same_model} of ${tier.shadow.decisions}`]);
    return make("article", { class: "card" }, make("h3", {}, tier.id, " ", badge(tier.state)), pairs(found), band(tier));
  });
  const changes = seen.models.flatMap((model) => model.changes.map((change) => [change.model, change.task || "all", number(change.before, 3), number(change.after, 3), new Date(change.at * 1000).toLocaleTimeString()]));
  return [make("h2", {}, "Tiers"), make("div", { class: "cards" }, ...cards), make("h2", {}, "Drift alarms"),
    table([["model", ""], ["task", ""], ["level before", "n"], ["after", "n"], ["found", "n"]], changes, "None so far."),
    seen.inputs?.shifted ? make("p", { class: "warn" }, "The last window of texts was unlike the calibration queries.") : null];
}

function band(tier) {
  const points = [...(day[tier.id] || []), ...(looks[tier.id] || [])];
  if (!tier.since_reset || points.length < 2) return null;
  const from = points[0].at, until = points.at(-1).at;
  const low = Math.min(tier.accuracy_target, ...points.map((p) => p.lower)) - 0.02, high = Math.max(tier.accuracy_target, ...points.map((p) => p.upper)) + 0.02;
  const x = (at) => 34 + ((at - from) / (until - from || 1)) * 256, y = (v) => 8 + ((high - v) / (high - low)) * 84;
  const edge = (key) => points.map((p) => `${x(p.at).toFixed(1)},${y(p[key]).toFixed(1)}`);
  const area = `M${edge("upper").join("L")}L${edge("lower").reverse().join("L")}Z`;
  const since = new Date(from * 1000).toLocaleString([], { weekday: "short", hour: "2-digit", minute: "2-digit" });
  return make("svg", { viewBox: "0 0 300 112", role: "img", "aria-label": `running accuracy of ${tier.id} with its band since ${since}; floor ${tier.accuracy_target}` },
    make("path", { d: area, fill: "var(--band)" }), make("path", { d: `M${edge("estimate").join("L")}`, fill: "none", stroke: "var(--blue)", "stroke-width": 2 }),
    make("line", { x1: 34, x2: 290, y1: y(tier.accuracy_target), y2: y(tier.accuracy_target), stroke: "var(--bad)", "stroke-dasharray": "4 3" }),
    make("text", { x: 2, y: y(tier.accuracy_target) + 4 }, number(tier.accuracy_target, 2)), make("text", { x: 34, y: 108 }, `since ${since}`), make("text", { x: 290, y: 108, "text-anchor": "end" }, "now"));
}

const HOURS = { hour: 1, day: 24, month: 730.5 };

function spending(tier) {
  const mine = new Map(seen.spend.filter((row) => row.tier === tier.id).map((row) => [row.hour, row.cost_usd]));
  if (!mine.size) return null;
  const last = Math.floor(seen.now / 3600) * 3600;
  const hours = Array.from({ length: 24 }, (_, i) => last - (23 - i) * 3600), pace = tier.budget ? tier.budget.usd / HOURS[tier.budget.period] : 0;
  const top = Math.max(pace, ...mine.values()) || 1, y = (v) => 92 - (v / top) * 80;
  const bars = hours.map((hour, i) => [i, mine.get(hour) || 0]).filter(([, cost]) => cost > 0)
    .map(([i, cost]) => make("rect", { x: 46 + i * 10.2, y: y(cost).toFixed(1), width: 8, height: (92 - y(cost)).toFixed(1), fill: "var(--blue)" }));
  const said = `${tier.id}: USD of each of the last 24 hours, at most ${usd(Math.max(...mine.values()))}${pace ? `; the budget's pace is ${usd(pace)} an hour` : ""}`;
  return make("svg", { viewBox: "0 0 300 112", role: "img", "aria-label": said }, ...bars,
    make("line", { x1: 44, x2: 292, y1: 92, y2: 92, stroke: "var(--line)" }), make("text", { x: 2, y: 18 }, usd(top)),
    ...(pace ? [make("line", { x1: 44, x2: 292, y1: y(pace), y2: y(pace), stroke: "var(--bad)", "stroke-dasharray": "4 3" }), make("text", { x: 292, y: Math.max(y(pace) - 4, 8), "text-anchor": "end" }, "budget's pace")] : []),
    make("text", { x: 44, y: 108 }, "USD an hour, 24 hours"), make("text", { x: 292, y: 108, "text-anchor": "end" }, "now"));
}

function traffic() {
  const best = seen.fixed.filter((model) => model.mean_score !== null);
  const blocks = seen.tiers.map((tier) => {
    const mine = seen.mix.filter((row) => row.tier === tier.id);
    const requests = mine.reduce((sum, row) => sum + row.requests, 0), cost = mine.reduce((sum, row) => sum + row.cost_usd, 0);
    const fixed = best.filter((model) => model.mean_score >= tier.accuracy_target).sort((a, b) => a.mean_cost_usd - b.mean_cost_usd)[0];
    const rows = mine.map((row) => [row.model, row.requests, `${((100 * row.requests) / requests).toFixed(0)}%`, usd(row.cost_usd)]);
    const found = [["requests", requests], ["spent", usd(cost)], ...(tier.budget ? [[`of the ${tier.budget.period}'s budget`, spentOf(tier.budget)]] : []), ["per 1,000", requests ? usd((1000 * cost) / requests) : "–"], ["best fixed model", fixed ? `${fixed.name}: ${usd(1000 * fixed.mean_cost_usd)} per 1,000` : "none reaches the floor"]];
    return make("article", { class: "card" }, make("h3", {}, tier.id), pairs(found), spending(tier), table([["model", ""], ["requests", "n"], ["share", "n"], ["USD", "n"]], rows, "No requests in the last day.", `models of ${tier.id}`));
  });
  return [make("h2", {}, "Traffic of the last day"), make("div", { class: "cards" }, ...blocks)];
}

function frontier() {
  const { points, max_target: top } = seen.frontier;
  const xs = points.map((p) => p[1] * 1000), ys = points.map((p) => p[0]);
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys) - 0.02, Math.max(...ys) + 0.02];
  const x = (v) => 44 + ((v - x0) / (x1 - x0 || 1)) * 540, y = (v) => 10 + ((y1 - v) / (y1 - y0)) * 230;
  const line = points.map((p) => `${x(p[1] * 1000).toFixed(1)},${y(p[0]).toFixed(1)}`).join("L");
  const said = make("p", { role: "status", id: "whatif-said" });
  const input = make("input", { id: "whatif", inputmode: "decimal", value: "0.93", size: 6 });
  const ask = (event) => {
    event.preventDefault();
    const target = Number(input.value), enough = points.filter((p) => p[0] >= target).sort((a, b) => a[1] - b[1])[0];
    said.textContent = !(target > 0 && target < 1) ? "A target is a fraction between 0 and 1." : !enough ? `No operating point is expected to reach ${target}; the best is expected at ${number(Math.max(...ys))}.`
      : `${target} would cost about ${usd(enough[1] * 1000)} per 1,000 requests${top !== null && target <= top ? "." : `, without a certificate: those reach ${top === null ? "nowhere" : number(top)}.`}`;
  };
  return [make("h2", {}, "Frontier"), make("form", { class: "row", onsubmit: ask }, make("div", {}, make("label", { for: "whatif" }, "What would this accuracy cost me?"), input), make("button", { type: "submit" }, "Ask")), said,
    make("svg", { viewBox: "0 0 600 280", role: "img", "aria-label": "expected accuracy against USD per 1,000 requests" },
      make("path", { d: `M${line}`, fill: "none", stroke: "var(--blue)", "stroke-width": 2 }),
      ...seen.tiers.map((tier) => make("line", { x1: 44, x2: 584, y1: y(tier.accuracy_target), y2: y(tier.accuracy_target), stroke: "var(--line)", "stroke-dasharray": "4 3" })),
      ...seen.tiers.map((tier) => make("text", { x: 584, y: y(tier.accuracy_target) + 13, "text-anchor": "end" }, `${tier.id} ${tier.accuracy_target}`)),
      make("text", { x: 4, y: 14 }, number(y1, 2)), make("text", { x: 4, y: 240 }, number(y0, 2)), make("text", { x: 44, y: 262 }, usd(x0)), make("text", { x: 540, y: 262 }, usd(x1)), make("text", { x: 240, y: 276 }, "USD per 1,000 requests")),
    table([["model alone", ""], ["mean score", "n"], ["USD per 1,000", "n"]], seen.fixed.map((model) => [model.name, number(model.mean_score), usd(1000 * model.mean_cost_usd)]), "The router does not say.")];
}

function decisions() {
  const shown = make("div", { id: "decision" });
  const open = async (id) => {
    try {
      const { content } = await call("GET", `/v1/decisions/${encodeURIComponent(id)}`);
      const rows = content.candidates.map((one) => [one.model, number(one.predicted_score), usd(one.predicted_cost_usd), number(one.propensity)]);
      shown.replaceChildren(make("h3", {}, `${content.model}: why`), make("ul", {}, ...content.reasons.map((reason) => make("li", {}, reason))), table([["candidate", ""], ["predicted score", "n"], ["predicted USD", "n"], ["propensity", "n"]], rows, "None."));
      shown.scrollIntoView({ block: "nearest" });
    } catch (error) { shown.replaceChildren(make("p", { class: "bad", role: "alert" }, error.message)); }
  };
  const rows = seen.latest.map((one) => [make("button", { type: "button", onclick: () => open(one.id) }, `why ${one.id.slice(-4)}?`), new Date(one.created_at * 1000).toLocaleTimeString(), one.tier || "–", one.model || "–", one.certified ? "yes" : "no", one.status, usd(one.cost_usd), `${number(one.latency_s, 2)} s`]);
  return [make("h2", {}, "Latest decisions"), shown, table([["explain", ""], ["at", ""], ["tier", ""], ["model", ""], ["certified", ""], ["status", ""], ["USD", "n"], ["took", "n"]], rows, "None yet.")];
}

function keys() {
  const list = make("div", {}), said = make("p", { role: "status", id: "key-said" });
  const load = async () => {
    if (!token) return list.replaceChildren(make("p", { class: "hint" }, "Keys are an admin's. Make the first one on the machine: proteus keys create NAME --admin; then sign in with it."));
    try {
      const { content } = await call("GET", "/v1/admin/keys");
      const rows = content.data.map((key) => [key.name, key.admin ? "admin" : key.tier || "any tier", key.budget_usd ? `${usd(key.spent_usd)} of ${usd(key.budget_usd)} a ${key.budget_period}${key.budget_paced ? ", paced" : ""}` : "–", key.revoked_at ? "revoked" : make("button", { type: "button", onclick: () => revoke(key) }, "Revoke")]);
      list.replaceChildren(table([["name", ""], ["may", ""], ["budget", ""], ["revoke", ""]], rows, "No keys yet."));
    } catch (error) { list.replaceChildren(make("p", { class: "bad", role: "alert" }, error.message)); }
  };
  const revoke = async (key) => {
    if (!window.confirm(`Revoke ${key.name} for good?`)) return;
    try { await call("DELETE", `/v1/admin/keys/${encodeURIComponent(key.id)}`); said.textContent = `${key.name} is revoked.`; } catch (error) { said.textContent = error.message; }
    load();
  };
  const name = make("input", { id: "key-name", required: "", maxlength: 100 });
  const tier = make("select", { id: "key-tier" }, make("option", { value: "" }, "any"), ...seen.tiers.map((one) => make("option", {}, one.id)));
  const budget = make("input", { id: "key-budget", type: "number", min: 0, step: "any", placeholder: "none" });
  const period = make("select", { id: "key-period" }, ...["hour", "day", "month"].map((one) => make("option", { ...(one === "month" ? { selected: "" } : {}) }, one)));
  const paced = make("input", { id: "key-paced", type: "checkbox" });
  const add = async (event) => {
    event.preventDefault();
    const spend = budget.value ? { budget_usd: Number(budget.value), budget_period: period.value, budget_paced: paced.checked } : {};
    try { const { content } = await call("POST", "/v1/admin/keys", { name: name.value, ...(tier.value ? { tier: tier.value } : {}), ...spend }); said.textContent = `Shown once, copy it now: ${content.token}`; name.value = budget.value = ""; } catch (error) { said.textContent = error.message; }
    load();
  };
  load();
  return [make("h2", {}, "Keys"), make("form", { class: "row", onsubmit: add }, make("div", {}, make("label", { for: "key-name" }, "Name"), name), make("div", {}, make("label", { for: "key-tier" }, "Tier"), tier), make("div", {}, make("label", { for: "key-budget" }, "Budget, USD"), budget), make("div", {}, make("label", { for: "key-period" }, "per"), period), make("div", { class: "check" }, paced, make("label", { for: "key-paced" }, "paced")), make("button", { type: "submit" }, "Create")), said, list];
}

function playground() {
  const tier = make("select", { id: "play-tier" }, ...seen.tiers.map((one) => make("option", {}, one.id)));
  const text = make("textarea", { id: "play-text" }, "Which of these is a prime number: 21, 27, 29?");
  const key = make("input", { id: "play-key", type: "password", autocomplete: "off", placeholder: "sk-proteus-…" });
  const said = make("div", { "aria-live": "polite" });
  const body = () => ({ model: `proteus/${tier.value}`, messages: [{ role: "user", content: text.value }] });
  const run = (work) => async (event) => { event.preventDefault(); said.replaceChildren(make("p", { class: "hint" }, "…")); try { said.replaceChildren(...(await work())); } catch (error) { said.replaceChildren(make("p", { class: "bad", role: "alert" }, error.message)); } };
  const decide = run(async () => {
    const { content } = await call("POST", "/v1/route", body(), key.value || token);
    const rows = content.candidates.map((one) => [one.model, number(one.predicted_score), usd(one.predicted_cost_usd), one.eligible ? "yes" : one.reason || "no"]);
    return [make("h3", {}, content.model), make("ul", {}, ...content.reasons.map((reason) => make("li", {}, reason))), table([["candidate", ""], ["predicted score", "n"], ["predicted USD", "n"], ["eligible", ""]], rows, "None.")];
  });
  const send = run(async () => {
    const { content, headers } = await call("POST", "/v1/chat/completions", body(), key.value || token);
    return [make("h3", {}, `${headers.get("x-proteus-model")}, ${usd(Number(headers.get("x-proteus-cost-usd")))}, certified: ${headers.get("x-proteus-certified")}`), make("pre", {}, content.choices?.[0]?.message?.content ?? JSON.stringify(content, null, 1))];
  });
  return [make("h2", {}, "Playground"), make("form", { onsubmit: send }, make("label", { for: "play-tier" }, "Tier"), tier, ...(token ? [make("label", { for: "play-key" }, "A tenant's key"), key] : []), make("label", { for: "play-text" }, "Message"), text, make("p", {}, make("button", { type: "submit" }, "Send"), " ", make("button", { type: "button", onclick: decide }, "Only decide"))), said,
    make("p", { class: "hint" }, token ? "Deciding calls no model and needs no other key. Sending does, and an admin's key calls none: give a tenant's; it is forgotten with this page." : "Sent without a key, as this gateway allows.")];
}

// ---- life ------------------------------------------------------------------------------------------------------

const PAGES = { tiers, traffic, frontier, decisions, keys, playground };
const LIVE = ["tiers", "traffic"]; // drawn again with every look; the others hold what one typed
const here = () => (location.hash.slice(1) in PAGES ? location.hash.slice(1) : "tiers");

function draw() {
  for (const link of document.querySelectorAll("nav a")) link.toggleAttribute("aria-current", link.hash === `#${here()}`);
  at("page").replaceChildren(...PAGES[here()]().filter(Boolean));
}

async function look() {
  try {
    const first = seen === null;
    const wanted = Date.now() - dayAt >= DAY_EVERY_MS;
    seen = (await call("GET", `/v1/admin/overview${wanted ? "?history=1" : ""}`)).content;
    if (wanted) [day, dayAt, looks] = [seen.history, Date.now(), {}];
    for (const tier of seen.tiers) if (tier.since_reset) (looks[tier.id] ||= []).push({ at: seen.now, ...tier.since_reset });
    at("signin").hidden = true;
    at("page").hidden = false;
    at("signout").hidden = !token;
    at("live").textContent = `live, ${new Date().toLocaleTimeString()}`;
    if (first || LIVE.includes(here())) draw();
  } catch (error) {
    if (error.status === 401 || error.status === 403) {
      seen = null;
      at("page").hidden = true;
      at("page").replaceChildren();
      at("signin").hidden = false;
      at("live").textContent = "";
      if (token) at("signin-error").textContent = error.message;
    } else at("live").textContent = `no answer: ${error.message}`;
  }
}

window.addEventListener("hashchange", () => { if (seen) { draw(); at("main").focus(); } });
window.addEventListener("DOMContentLoaded", () => {
  at("signin-form").addEventListener("submit", (event) => { event.preventDefault(); token = at("token").value.trim(); at("token").value = ""; at("signin-error").textContent = ""; sessionStorage.setItem("proteus-admin", token); look(); });
  at("signout").addEventListener("click", () => { token = ""; sessionStorage.removeItem("proteus-admin"); seen = null; look(); });
  look();
  setInterval(look, 2000);
});
