"use strict";

const { token, mostBytes } = document.documentElement.dataset;
const part = (id) => document.getElementById(id);
const percent = (share) => `${Math.round(100 * share)}%`;
let sending = null; // the request that uploads
let job = null; // the address of the job at work or shown

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function say(text) {
  if (part("status").textContent !== text) part("status").textContent = text;
}

function complain(texts, kind = "error") {
  part("error").replaceChildren(...texts.map((text) => element("p", { className: kind, textContent: text })));
}

function rest(text = "") {
  sending = null;
  part("work").hidden = true;
  part("file").disabled = false;
  part("file").value = "";
  say(text);
}

async function forget() {
  const old = job;
  job = null;
  if (old) await fetch(old, { method: "DELETE", headers: { "X-Aunet-Token": token } }).catch(() => {});
}

async function begin(file) {
  await forget();
  complain([]);
  part("result").hidden = true;
  if (file.size > Number(mostBytes)) {
    complain([`${file.name}: larger than ${document.documentElement.dataset.limit}`]);
    return rest();
  }
  part("work").hidden = false;
  part("file").disabled = true;
  part("cancel").focus();
  upload(file);
}

function upload(file) {
  const request = new XMLHttpRequest(); // fetch tells nothing of how far an upload is
  sending = request;
  request.open("POST", "/jobs");
  request.responseType = "json";
  request.setRequestHeader("X-Aunet-Token", token);
  request.setRequestHeader("X-File-Name", encodeURIComponent(file.name));
  request.upload.onprogress = (event) => show("uploading", event.loaded / Math.max(event.total, 1));
  request.onerror = () => fail(["The demo does not answer any more. Is it still running?"]);
  request.onload = () => {
    if (request.status !== 202) return fail([request.response?.error ?? `refused (${request.status})`]);
    job = `/jobs/${request.response.job}`;
    sending = null;
    follow(job, file.name);
  };
  show("uploading", 0);
  request.send(file);
}

function show(step, done) {
  if (done > 0 || step !== "waiting") part("progress").value = done;
  else part("progress").removeAttribute("value");
  // Of every tenth only, or a screen reader would never end.
  say(step === "waiting" ? "waiting for other files" : `${step}, ${10 * Math.floor(10 * done)}%`);
}

function fail(texts) {
  rest();
  complain(texts);
  part("file").focus();
}

async function follow(address, name) {
  for (let state = "waiting"; job === address; ) {
    let told;
    try {
      const answer = await fetch(address);
      told = await answer.json();
      if (!answer.ok) throw new Error(told.error);
    } catch {
      return job === address && fail(["The demo does not answer any more. Is it still running?"]);
    }
    if (job !== address) return;
    state = told.state;
    if (state === "done") return present(name, told);
    if (state === "failed") {
      forget();
      return fail(told.problems);
    }
    show(told.step || "waiting", told.part);
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

function present(name, told) {
  const found = told.result;
  rest("done");
  complain(told.problems, "warning");
  part("found").textContent = name;
  part("summary").textContent = inWords(found);
  part("pictures").replaceChildren(...pictures(found, told.files));
  part("faces").replaceChildren(...found.faces.map((face) => tableOf(face, found.kind)));
  part("files").replaceChildren(...told.files.map((file) =>
    element("a", { href: `${job}/${file}`, download: file, textContent: `Save ${file}` })));
  part("result").hidden = false;
  part("found").focus();
}

function inWords(found) {
  const faces = found.faces.length + found.more;
  const many = faces === 1 ? "1 face" : `${faces || "No"} faces`;
  if (found.kind === "picture") return `${many} in the picture.`;
  const missing = found.empty ? `, ${found.empty} of them without a face` : "";
  const left = found.more ? ` The ${found.faces.length} seen most often are shown.` : "";
  const again = faces > 1 ? " A person who was out of sight for more than a second counts as another face." : "";
  return `${many} in ${found.frames === 1 ? "1 frame" : `${found.frames} frames`} ` +
    `up to ${found.seconds.toFixed(2)} s${missing}.${again}${left}`;
}

function pictures(found, files) {
  const shown = [];
  const words = "Faces in boxes with their numbers, coloured by what the network attends to; AUs beside them.";
  if (files.includes("overlay.png")) {
    shown.push(element("img", { src: `${job}/overlay.png`, alt: `${words} The table below says the same.` }));
  }
  if (files.includes("overlay.mp4")) {
    const video = element("video", { src: `${job}/overlay.mp4`, controls: true, muted: true, playsInline: true });
    video.setAttribute("aria-label", words);
    shown.push(video);
  }
  if (files.includes("timeline.svg")) {
    const alt = "AUs over time, a panel for each face. The table that can be saved holds the same numbers.";
    const scroll = element("div", { className: "scroll", tabIndex: 0 }, element("img", { src: `${job}/timeline.svg`, alt }));
    scroll.setAttribute("role", "region"); // on phones it is wider than the page, and keys must reach all of it
    scroll.setAttribute("aria-label", "Timeline");
    shown.push(scroll);
  }
  return shown;
}

function tableOf(face, kind) {
  const video = kind === "video";
  const heads = ["AU", "", video ? "mean probability" : "probability", video ? "present in" : "is"];
  const head = element("tr", {}, ...heads.map((text) =>
    element(text ? "th" : "td", { scope: "col", textContent: text, className: /prob/.test(text) ? "number" : "" })));
  const rows = face.aus.map((au) => {
    const filled = element("span");
    filled.style.width = percent(au.prob);
    const bar = element("span", { className: "bar" }, filled);
    bar.setAttribute("aria-hidden", "true");
    const name = element("th", { scope: "row" }, au.au, element("small", { textContent: au.name }));
    const is = video ? `${percent(au.share)} of frames` : au.share ? "present" : "absent";
    return element("tr", { className: au.share >= 0.5 ? "present" : "" }, name, element("td", {}, bar),
      element("td", { className: "number", textContent: au.prob.toFixed(2) }), element("td", { textContent: is }));
  });
  const caption = `Face ${face.face}` + (video ? `, in ${face.frames === 1 ? "1 frame" : `${face.frames} frames`}` : "");
  return element("table", {}, element("caption", { textContent: caption }),
    element("thead", {}, head), element("tbody", {}, ...rows));
}

part("file").addEventListener("change", (event) => event.target.files[0] && begin(event.target.files[0]));
part("drop").addEventListener("submit", (event) => event.preventDefault());
part("cancel").addEventListener("click", async () => {
  sending?.abort();
  await forget();
  rest("cancelled");
  part("file").focus();
});
part("delete").addEventListener("click", async () => {
  await forget();
  part("result").hidden = true;
  complain([]);
  say("deleted");
  part("file").focus();
});
// Anywhere on the page: a file that misses the box would be opened by the browser.
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    part("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length && !part("file").disabled) begin(event.dataTransfer.files[0]);
  });
}
window.addEventListener("pagehide", () => {
  if (job) fetch(job, { method: "DELETE", headers: { "X-Aunet-Token": token }, keepalive: true }).catch(() => {});
});
