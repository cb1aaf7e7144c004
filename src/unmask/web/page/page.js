// The page of `unmask serve`: uploads files, one after the other, and shows what the service says of its jobs.
"use strict";

const list = document.getElementById("list");
const problem = document.getElementById("problem");
const counts = document.getElementById("counts");
const rows = new Map(); // by job: {element, job}
const uploads = []; // files that were chosen and not yet sent
let sending = 0;
const AT_ONCE = 2;
const LINKS = { open: ["page", "Open the report"], json: ["report", "JSON report"], pdf: ["pdf", "PDF report"] };
let makesPdf = false; // whether the service has what PDF files need
const MARKS = { forged: "▲", authentic: "●", inconclusive: "◆", refused: "○" };

function text(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

function newRow(name) {
  const element = document.getElementById("row").content.firstElementChild.cloneNode(true);
  text(element.querySelector(".name"), name);
  element.querySelector("progress").setAttribute("aria-label", `Progress of ${name}`);
  element.querySelector(".actions").hidden = true;
  list.prepend(element);
  return element;
}

function show(job) {
  let row = rows.get(job.id);
  if (!row) {
    row = { element: newRow(job.name) };
    rows.set(job.id, row);
  }
  row.job = job;
  const { element } = row;
  const kind = job.summary ? job.summary.verdict : job.state;
  element.className = `file ${kind}`;
  text(element.querySelector(".mark"), MARKS[kind] || "");
  const bar = element.querySelector("progress");
  bar.hidden = job.state === "done" || job.state === "failed";
  if (job.state === "running" && job.progress === 0) bar.removeAttribute("value");
  else bar.value = job.progress;
  const waiting = job.waiting_before === 0 ? "Next in the queue" : `Waiting, ${job.waiting_before} before it`;
  const answers = { waiting, running: "Being inspected", failed: "No report" };
  text(element.querySelector(".answer"), job.summary ? job.summary.heading : answers[job.state]);
  const verdict = job.summary && job.summary.verdict !== "refused" ? `Verdict: ${job.summary.verdict}. ` : "";
  const why = job.error ? job.error.message : (job.summary && job.summary.reason) || "";
  text(element.querySelector(".reason"), verdict + why);
  const actions = element.querySelector(".actions");
  actions.hidden = false;
  for (const [name, [link, label]] of Object.entries(LINKS)) {
    const anchor = actions.querySelector(`.${name}`);
    anchor.hidden = !job.links[link] || (name === "pdf" && !makesPdf);
    if (anchor.hidden) continue;
    anchor.href = job.links[link];
    anchor.setAttribute("aria-label", `${label} on ${job.name}`);
  }
  actions.querySelector(".json").download = `${job.name}.json`;
  actions.querySelector(".pdf").download = `${job.name}.pdf`;
  const remove = actions.querySelector(".remove");
  remove.setAttribute("aria-label", `Delete ${job.name}`);
  remove.onclick = () => fetch(job.links.self, { method: "DELETE" });
  count();
}

function forget(id) {
  const row = rows.get(id);
  if (!row) return;
  rows.delete(id);
  row.element.remove();
  count();
}

function count() {
  const states = {};
  for (const { job } of rows.values()) {
    const kind = job.summary ? job.summary.verdict : job.state;
    states[kind] = (states[kind] || 0) + 1;
  }
  const waiting = uploads.length + sending;
  if (waiting) states["to upload"] = waiting;
  const parts = Object.entries(states).map(([kind, number]) => `${number} ${kind}`);
  text(counts, parts.length ? parts.join(", ") : "No files yet.");
}

async function send(file) {
  const element = newRow(file.name);
  text(element.querySelector(".answer"), "Uploading");
  element.querySelector("progress").removeAttribute("value");
  try {
    const answer = await fetch(`/v1/inspections?name=${encodeURIComponent(file.name.slice(-250))}`, {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: file,
    });
    const said = await answer.json();
    if (!answer.ok) throw new Error(answer.status === 503 ? "busy" : said.detail);
    const known = rows.get(said.id); // the events may have been faster
    if (known) element.remove();
    else rows.set(said.id, { element, job: said });
    if (!known) show(said);
    return true;
  } catch (error) {
    element.remove();
    if (error.message === "busy") return false;
    text(problem, `${file.name}: ${error.message}`);
    return true;
  }
}

async function sendAll() {
  while (uploads.length && sending < AT_ONCE) {
    const file = uploads.shift();
    sending += 1;
    send(file).then((sent) => {
      sending -= 1;
      if (!sent) {
        uploads.unshift(file);
        setTimeout(sendAll, 3000);
      } else sendAll();
      count();
    });
  }
  count();
}

function take(files) {
  text(problem, "");
  uploads.push(...files);
  sendAll();
}

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
  const reader = entry.createReader();
  const all = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return all;
    for (const one of some) all.push(...(await filesOf(one)));
  }
}

for (const id of ["pick", "pick-folder"]) {
  document.getElementById(id).addEventListener("change", (event) => {
    take([...event.target.files]);
    event.target.value = "";
  });
}
const drop = document.getElementById("drop");
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => event.preventDefault());
drop.addEventListener("dragover", () => drop.classList.add("over"));
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", async (event) => {
  drop.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  for (const entry of entries) take(await filesOf(entry));
});

async function begin() {
  const answer = await fetch("/v1/health");
  if (!answer.ok) {
    text(problem, "Open this page by the address that unmask serve printed: it holds the token.");
    return;
  }
  const health = await answer.json();
  makesPdf = health.pdf;
  const packs = health.packs.map((pack) => `${pack.name} ${pack.version}`).join(", ");
  text(document.getElementById("packs"), `Unmask ${health.version}. Packs: ${packs}.`);
  const events = new EventSource("/v1/events");
  events.addEventListener("job", (event) => show(JSON.parse(event.data)));
  events.addEventListener("removed", (event) => forget(JSON.parse(event.data)));
  events.addEventListener("error", () => text(problem, "The service does not answer. Is it still running?"));
  events.addEventListener("open", () => text(problem, ""));
}
begin();
