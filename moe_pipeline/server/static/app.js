// The annotator. All that counts is on the server: this page shows it, and sends what the person does, one step at a time.

import { Api, ApiError, unpack } from "./api.js";
import { css } from "./colours.js";
import { Pointer } from "./pointer.js";
import { Viewer } from "./viewer.js";

const HEARTBEAT_MS = 45_000;
const SAID = { untouched: "untouched", begun: "begun", accepted: "accepted" };

const $ = (id) => document.getElementById(id);
const api = new Api();
const viewer = new Viewer($("view"), $("marks"));
globalThis.annotator = { viewer }; // for the console
const page = { scans: [], classes: [], session: null, classId: 0, box: false, masked: true, under: null };
let queue = Promise.resolve();
let waiting = 0;

// ---- telling

let toastTimer = 0;

function say(text, kind = "") {
  const toast = $("toast");
  [toast.textContent, toast.className, toast.hidden] = [text, kind, false];
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (toast.hidden = true), kind === "bad" ? 8000 : 3000);
}

function ask(title, text, { secret = false, yes = "Go on" } = {}) {
  const [dialog, input] = [$("ask"), $("ask-input")];
  [$("ask-title").textContent, $("ask-text").textContent, $("ask-yes").textContent] = [title, text, yes];
  [input.hidden, input.value] = [!secret, ""];
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes" ? (secret ? input.value : true) : null), { once: true });
  });
}

// Steps are done one after the other; what fails is said, and changes nothing.
function step(work) {
  count(1);
  queue = queue
    .then(work)
    .catch((error) => failed(error, work))
    .finally(() => count(-1));
  return queue;
}

function count(by) {
  waiting += by;
  $("busy").hidden = waiting === 0;
  document.body.dataset.waiting = String(waiting);
}

async function failed(error, work) {
  if (!(error instanceof ApiError)) {
    console.error(error);
    say("Something went wrong in this page; load it again. Nothing is lost.", "bad");
  }
  if (error.status === 401) {
    const key = await ask("This server wants a key", "Whoever started it knows the key.", { secret: true });
    if (key === null) return;
    api.setKey(key);
    await again(work);
  } else if (error.status === 410 && page.session) {
    await open(page.session.case, false);
    await again(work);
  } else {
    say(error.message, "bad");
  }
}

async function again(work) {
  try {
    await work();
  } catch (error) {
    say(error.message, "bad");
  }
}

// ---- what is shown

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function swatch(id) {
  const made = element("span", { className: "swatch" });
  made.style.background = css(id);
  return made;
}

function showScans() {
  const wanted = $("filter").value.trim().toLowerCase();
  const shown = page.scans.filter((scan) => scan.case.toLowerCase().includes(wanted));
  $("scans").replaceChildren(...shown.map((scan) => {
    const button = element("button", { title: `${scan.case}: ${SAID[scan.state]}` });
    button.dataset.case = scan.case;
    button.append(element("i", { className: `dot ${scan.state}` }), element("span", { textContent: scan.case }));
    button.setAttribute("aria-current", String(scan.case === page.session?.case));
    button.onclick = () => step(() => open(scan.case));
    return element("li", {}, button);
  }));
  const done = page.scans.filter((scan) => scan.state === "accepted").length;
  $("progress").textContent = page.scans.length ? `${done} of ${page.scans.length} accepted` : "no scans in the folder";
}

function className(id) {
  return page.classes.find((one) => one.class_id === id)?.class_name ?? `class ${id}`;
}

function showClasses() {
  $("classes").replaceChildren(...page.classes.map(({ class_id: id, class_name: name }) => {
    const button = element("button", { title: `Begin an object: ${name}` }, swatch(id), name);
    button.dataset.classId = id;
    button.setAttribute("aria-pressed", String(id === page.classId));
    button.onclick = () => step(() => begin({ class_id: id }));
    return button;
  }));
  $("class-names").replaceChildren(...page.classes.map((one) => element("option", { value: one.class_name })));
}

function isEmpty(wanted) {
  return !wanted.clicks.length && !wanted.box && !wanted.has_mask;
}

function showSession() {
  const session = page.session;
  const active = session?.objects.find((one) => one.number === session.active);
  if (active) page.classId = active.class_id;
  $("case").textContent = session?.case ?? "no scan open";
  $("state").hidden = !session;
  $("state").textContent = session ? SAID[session.state] : "";
  $("state").className = `badge ${session?.state ?? ""}`;
  $("welcome").hidden = Boolean(session);
  $("undo").disabled = !session?.can_undo;
  $("redo").disabled = !session?.can_redo;
  $("accept").disabled = !session?.objects.some((one) => !isEmpty(one));
  $("next").disabled = !active;
  $("reset").disabled = !active || isEmpty(active);
  const scan = page.scans.find((one) => one.case === session?.case);
  $("open-labels").hidden = !scan?.has_labels || Boolean(session?.objects.length);
  if (scan && session) scan.state = session.state;
  $("objects").replaceChildren(...(session?.objects ?? []).map((one) => objectRow(one, session.active)));
  showAnswer(active);
  showClasses();
  showScans();
  viewer.objects = session?.objects ?? [];
  viewer.active = session?.active ?? 0;
  viewer.draw();
  showUnder(page.under);
}

function objectRow(one, active) {
  const size = one.answer ? `${one.answer.volume_ml.toPrecision(3)} ml` : one.has_mask ? "given" : "no click yet";
  const select = element("button", { title: `Go on with object ${one.number}` }, swatch(one.class_id));
  select.append(element("span", { textContent: `${one.number} ${one.class_name || className(one.class_id)}` }));
  select.append(element("span", { className: "size", textContent: size }));
  select.onclick = () => step(() => choose(one));
  const remove = element("button", { className: "remove", textContent: "×", title: `Take object ${one.number} away` });
  remove.onclick = () => step(async () => took(await api.remove(`session/objects/${one.number}`)));
  const row = element("li", { className: one.number === active ? "on" : "" }, select, remove);
  row.dataset.object = one.number;
  return row;
}

function nameOf(answer) {
  return answer.expert === "general" ? "the foundation" : `the expert ${answer.expert}`;
}

function showAnswer(active) {
  const answer = active?.answer;
  $("answer").hidden = !answer;
  if (!answer) return;
  const lines = [element("div", {}, "answered by ", element("b", { textContent: nameOf(answer) }))];
  const weight = answer.weight ? `weight ${answer.weight.toFixed(2)}, ` : "";
  lines.push(element("div", { className: "dim", textContent: `${weight}${Math.round(100 * answer.probability)} % sure, ${answer.volume_ml.toPrecision(3)} ml` }));
  if (!answer.in_distribution) lines.push(element("div", { className: "warn", textContent: "An expert knows such objects, but no such image." }));
  if (answer.message) lines.push(element("div", { className: "warn", textContent: answer.message }));
  $("answer").replaceChildren(...lines);
}

function showUnder(frac) {
  page.under = frac;
  if (!frac || !page.session) {
    $("under").textContent = "\u00a0";
    return;
  }
  const id = viewer.classAt(frac);
  const place = viewer.place(frac).map((part) => part.toFixed(0)).join(", ");
  const answers = page.session.objects.filter((one) => one.class_id === id && one.answer).map((one) => one.answer);
  const who = new Set(answers.map(nameOf));
  const told = id ? `${className(id)}${who.size ? `, answered by ${[...who].join(" and ")}` : ""}` : "background";
  $("under").textContent = `${told}  ·  ${place} mm`;
}

function showWindow() {
  const [least, most] = viewer.range;
  const [low, high] = viewer.window;
  for (const [id, value] of [["low", low], ["high", high]]) {
    Object.assign($(id), { min: least, max: most, step: (most - least) / 500 || 1 });
    $(id).value = value;
  }
  const ct = least < -500 && most > 200;
  const presets = [["Auto", null], ...(ct ? [["Soft", [-160, 240]], ["Lung", [-1350, 150]], ["Bone", [-450, 1050]]] : [])];
  $("windows").replaceChildren(...presets.map(([name, range]) => {
    const button = element("button", { textContent: name });
    button.onclick = () => {
      if (range) viewer.setWindow(...range);
      else viewer.resetWindow();
      showWindow();
    };
    return button;
  }));
}

// ---- what a person does

async function load() {
  const [model, scans] = await Promise.all([api.get("model"), api.get("scans")]);
  [page.classes, page.scans] = [model.classes, scans];
  const experts = model.experts.length ? `experts: ${model.experts.join(", ")}` : "the foundation answers alone";
  $("who").textContent = experts;
  page.classId ||= page.classes[0]?.class_id ?? 0;
  showSession();
}

async function open(name, show = true) {
  api.release();
  let session;
  try {
    session = await api.open(name, sessionStorage.getItem("moe-case") === name); // after a reload it is still ours
  } catch (error) {
    if (error.status !== 409) throw error;
    const agreed = await ask("Somebody works on this scan", "It may be another window of yours. If you take it over, the other one ends; no step is lost.", { yes: "Take it over" });
    if (!agreed) return;
    session = await api.open(name, true);
  }
  if (show) {
    const files = [api.file(`scans/${encodeURIComponent(name)}/image`, "image.nii.gz"), api.file("session/labels", "labels.nii.gz")];
    page.classes = (await api.get("model")).classes;
    await viewer.show(...(await Promise.all(files)), namesOf(session));
    showWindow();
  }
  page.session = session;
  sessionStorage.setItem("moe-case", name);
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  showSession();
  document.body.dataset.open = name;
}

function namesOf(session) {
  const named = [...session.objects, ...page.classes];
  return new Map(named.map((one) => [one.class_id, one.class_name]).sort(([a], [b]) => a - b));
}

async function took(change) {
  page.session = change.session;
  if (change.patch && !viewer.patch(change.patch.box, await unpack(change.patch))) await readLabels();
  showSession();
}

async function readLabels() {
  await viewer.replaceLabels(await api.file("session/labels", "labels.nii.gz"), namesOf(page.session));
}

async function begin(wanted) {
  if (!page.session) return;
  const active = page.session.objects.find((one) => one.number === page.session.active);
  if (active && isEmpty(active)) await took(await api.remove(`session/objects/${active.number}`));
  page.session = await api.post("session/objects", wanted);
  page.classes = (await api.get("model")).classes;
  viewer.setColours(namesOf(page.session));
  showSession();
}

async function choose(one) {
  page.session = await api.post(`session/objects/${one.number}/select`);
  const first = one.clicks[0]?.[0] ?? one.box?.[0].map((low, axis) => (low + one.box[1][axis]) / 2);
  if (first) viewer.moveTo(viewer.fracOfVoxel(first));
  showSession();
}

async function needObject() {
  if (page.session.active) return;
  const known = page.classes.find((one) => one.class_id === page.classId);
  await begin(known ? { class_id: known.class_id } : { class_name: "object" });
}

function click(frac, inside) {
  if (!page.session) return;
  const point = viewer.place(frac);
  viewer.moveTo(frac);
  step(async () => {
    await needObject();
    await took(await api.post("session/click", { point, inside, space: "world_lps_mm" }));
  });
}

function box(first, last) {
  const corners = { first: viewer.place(first), last: viewer.place(last), space: "world_lps_mm" };
  step(async () => {
    await needObject();
    await took(await api.post("session/box", corners));
  });
}

async function accept() {
  page.session = await api.post("session/accept");
  showSession();
  const left = page.scans.filter((scan) => scan.state !== "accepted").length;
  say(left ? `Accepted. ${left} left: Page down opens the next one.` : "Accepted. All scans are done: make an expert of them.", "good");
}

function nextScan() {
  const at = page.scans.findIndex((scan) => scan.case === page.session?.case);
  const order = [...page.scans.slice(at + 1), ...page.scans.slice(0, Math.max(at, 0))];
  const next = order.find((scan) => scan.state !== "accepted");
  if (next) step(() => open(next.case));
  else say("All scans are accepted.", "good");
}

async function showCommands() {
  const lines = await api.get("next-commands");
  const done = page.scans.filter((scan) => scan.state === "accepted").length;
  $("how-many").textContent = `${done} scans are accepted${done < 6 ? "; some ten make a useful expert" : ""}. Then, in a terminal:`;
  $("command-lines").textContent = lines.join("\n");
  $("commands").showModal();
}

function tool(boxed) {
  page.box = boxed;
  $("tool-box").classList.toggle("on", boxed);
  $("tool-click").classList.toggle("on", !boxed);
}

function opacity(value) {
  $("opacity").value = value;
  page.masked = true;
  viewer.setOpacity(Number($("opacity").value));
}

// ---- keys, buttons, mouse

const act = {
  undo: () => step(async () => took(await api.post("session/undo", {}))),
  redo: () => step(async () => took(await api.post("session/redo", {}))),
  reset: () => step(async () => took(await api.post("session/reset"))),
  accept: () => step(accept),
  next: () => step(() => begin({ class_id: page.classId })),
  expert: () => step(showCommands),
  help: () => $("keys").showModal(),
  "open-labels": () => step(async () => {
    page.session = await api.post("session/open-labels");
    await readLabels();
    showSession();
  }),
  solid: () => {
    viewer.showSolid(!viewer.solid);
    $("solid").classList.toggle("on", viewer.solid);
  },
  "tool-click": () => tool(false),
  "tool-box": () => tool(true),
  copy: () => navigator.clipboard.writeText($("command-lines").textContent).then(() => say("Copied.", "good")),
};
for (const [id, work] of Object.entries(act)) $(id).onclick = work;

$("naming").onsubmit = (event) => {
  event.preventDefault();
  const name = $("class-name").value.trim();
  if (!name) return;
  step(async () => {
    await begin({ class_name: name });
    $("class-name").value = "";
    $("pointer").focus();
  });
};
$("filter").oninput = showScans;
$("opacity").oninput = () => opacity($("opacity").value);
for (const id of ["low", "high"]) {
  $(id).oninput = () => {
    if (viewer.ready) viewer.setWindow(Number($("low").value), Number($("high").value));
  };
}

function pressed(event) {
  const typing = event.target.matches("input:not([type=range]), textarea") || document.querySelector("dialog[open]");
  const command = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  const press = (id) => !$(id).disabled && $(id).click();
  if (command && key === "enter") press("accept");
  else if (typing) return;
  else if (command && key === "z") press(event.shiftKey ? "redo" : "undo");
  else if (command && key === "y") press("redo");
  else if (command || event.altKey) return;
  else if (key === "n") press("next");
  else if (key === "r") press("reset");
  else if (key === "b") tool(true);
  else if (key === "c" || key === "escape") tool(false);
  else if (key === "f") viewer.fit();
  else if (key === "v") press("solid");
  else if (key === "?") act.help();
  else if (key === "m") viewer.setOpacity((page.masked = !page.masked) ? Number($("opacity").value) : 0);
  else if (key === "+" || key === "=") opacity(Math.min(1, Number($("opacity").value) + 0.1));
  else if (key === "-") opacity(Math.max(0, Number($("opacity").value) - 0.1));
  else if (key === "pagedown") nextScan();
  else if (key === "arrowup" || key === "arrowdown") {
    if (viewer.ready) viewer.scroll(pointer.plane, key === "arrowup" ? 1 : -1);
  } else if (/^[1-9]$/.test(key) && page.classes[key - 1]) step(() => begin({ class_id: page.classes[key - 1].class_id }));
  else return;
  event.preventDefault();
}
addEventListener("keydown", pressed);

const pointer = new Pointer($("pointer"), $("rubber"), viewer, { click, box, hover: showUnder, windowed: showWindow, boxed: () => page.box });

addEventListener("pagehide", () => api.release());
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
setInterval(() => api.token && api.post("session/heartbeat").catch(() => {}), HEARTBEAT_MS);

if (!globalThis.niivue) {
  $("welcome").replaceChildren(
    element("h1", { textContent: "The viewer is not installed" }),
    element("p", { textContent: "Once, where moe is installed: python -m moe_pipeline.web.fetch. Then start moe serve again." }),
  );
} else {
  await viewer.start();
  $("solid").classList.toggle("on", viewer.solid);
  step(async () => {
    await load();
    const wanted = decodeURIComponent(location.hash.slice(1));
    if (page.scans.some((scan) => scan.case === wanted)) await open(wanted);
  });
}
