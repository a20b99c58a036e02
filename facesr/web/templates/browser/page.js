// The page: takes a picture, lets a part of it be chosen, has it restored by worker.js, shows and saves the answer.
const $ = (id) => document.getElementById(id);
const facts = document.querySelector("main").dataset;
const [GRID_WIDTH, GRID_HEIGHT, SCALE] = [Number(facts.width), Number(facts.height), Number(facts.scale)];
const ASPECT = GRID_HEIGHT / GRID_WIDTH;
// A wider face is shown to the network on a larger grid, up to so many times the one that it was trained on.
const LARGEST_GRID = 4 / 3;
// Pixels: a whole picture's side, a frame's width, what is opened, and what is looked at first as a whole.
const [MOST_WHOLE, LEAST_FRAME, MOST_PIXELS, SURELY_WHOLE] = [256, 8, 1e8, 48];
const NOTE = document.querySelector(".warning").textContent;

let picture = null; // { bitmap, width, height, name }
let box = null; // the frame, whole pixels of the picture
let shown = null; // the name of the restored picture's file
let number = 0; // of the last task: answers to earlier ones are out of date
let pace = null; // milliseconds that a pixel of the network's input took
let isBusy = false;
let isReady = false;

// Messages

function say(text) {
  $("status").textContent = text;
}

function complain(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

// Opening

async function open(file) {
  if (!file) return;
  complain("");
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    complain(`${file.name || "This"} is no picture that this browser can read; give a JPEG, PNG or WebP file.`);
    return;
  }
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) {
    complain(`${file.name} has ${width}x${height} pixels; give a picture of at most 100 megapixels.`);
    return;
  }
  picture?.bitmap.close();
  picture = { bitmap, width, height, name: (file.name || "pasted").replace(/\.[^.]*$/, "") };
  number++;
  box = firstBox();
  $("part-whole").disabled = Math.max(width, height) > MOST_WHOLE;
  const isWhole = Math.max(width, height) <= (facts.thing === "face" ? SURELY_WHOLE : MOST_WHOLE);
  $(isWhole ? "part-whole" : "part-face").checked = true;
  draw();
  $("result").hidden = true;
  $("work").hidden = false;
  update();
  if (isQuick()) restore();
  else if (!isWhole) $("box").focus({ preventScroll: true });
}

// A small picture as a whole is restored without being asked.
function isQuick() {
  return $("part-whole").checked && Math.max(picture.width, picture.height) <= SURELY_WHOLE;
}

function draw() {
  const { bitmap, width, height } = picture;
  const share = Math.min(1, 1600 / Math.max(width, height));
  const canvas = $("picture");
  canvas.width = Math.max(1, Math.round(width * share));
  canvas.height = Math.max(1, Math.round(height * share));
  const drawing = canvas.getContext("2d");
  drawing.fillStyle = "#fff";
  drawing.fillRect(0, 0, canvas.width, canvas.height);
  drawing.imageSmoothingQuality = "high";
  drawing.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  $("stage").style.setProperty("--w", width);
  $("stage").style.setProperty("--h", height);
  $("stage").classList.toggle("small", Math.max(width, height) <= MOST_WHOLE);
}

// The frame

function mostFrame() {
  return Math.max(1, Math.floor(Math.min(picture.width, picture.height / ASPECT)));
}

function frame(middleX, middleY, wanted) {
  const most = mostFrame();
  const width = Math.min(Math.max(Math.round(wanted), Math.min(LEAST_FRAME, most)), most);
  const height = Math.min(Math.round(width * ASPECT), picture.height);
  const left = Math.min(Math.max(Math.round(middleX - width / 2), 0), picture.width - width);
  const top = Math.min(Math.max(Math.round(middleY - height / 2), 0), picture.height - height);
  return { left, top, width, height };
}

function firstBox() {
  const isFramed = Math.abs(picture.height / picture.width / ASPECT - 1) < 0.01;
  return frame(picture.width / 2, picture.height / 2, mostFrame() * (isFramed ? 1 : 0.6));
}

function resizeBy(steps) {
  const { left, top, width, height } = box;
  box = frame(left + width / 2, top + height / 2, width + steps * Math.max(1, Math.round(width * 0.05)));
  update();
}

function moveBy(x, y) {
  box = frame(box.left + box.width / 2 + x, box.top + box.height / 2 + y, box.width);
  update();
}

// What the network is shown: the part of the picture, and the grid that it is brought to.
function chosen() {
  if ($("part-whole").checked) {
    const { width, height } = picture;
    return { part: { left: 0, top: 0, width, height }, width, height };
  }
  const width = Math.min(Math.max(box.width, GRID_WIDTH), Math.round(GRID_WIDTH * LARGEST_GRID));
  return { part: box, width, height: width === box.width ? box.height : Math.round(width * ASPECT) };
}

function update() {
  const isWhole = $("part-whole").checked;
  for (const id of ["box", "box-help", "smaller", "larger"]) $(id).hidden = isWhole;
  $("stage").classList.toggle("crops", !isWhole);
  const { part, width, height } = chosen();
  for (const [side, value, of] of [
    ["left", part.left, picture.width], ["top", part.top, picture.height],
    ["width", part.width, picture.width], ["height", part.height, picture.height],
  ]) $("box").style[side] = `${(100 * value) / of}%`;
  const by = part.width === width ? "" : `, ${part.width > width ? "shrunk" : "enlarged"} to ${width}x${height}`;
  const seconds = Math.round((pace * width * height * ($("mirrored").checked ? 2 : 1)) / 1000);
  const time = seconds > 3 ? ` in about ${seconds} s` : "";
  $("told").textContent = `${part.width}x${part.height} pixels${by}; becomes ${SCALE * width}x${SCALE * height}${time}`;
  const isLarge = !isWhole && part.width > 2 * width;
  $("advice").textContent = isLarge
    ? "The network is shown less than half of what the picture has here: the picture itself may be better than the answer."
    : isWhole && facts.thing === "face" && Math.max(width, height) > 2 * GRID_HEIGHT
      ? "The network knows pictures that are filled by one face; of others it is better to choose a face."
      : "";
  $("restore").disabled = isBusy || !isReady;
}

// The frame by pointer: inside it moves, its corner resizes, elsewhere a new one is drawn.
function place(event) {
  const sides = $("stage").getBoundingClientRect();
  return [
    ((event.clientX - sides.left) / sides.width) * picture.width,
    ((event.clientY - sides.top) / sides.height) * picture.height,
  ];
}

let drag = null;
$("stage").addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || $("part-whole").checked) return;
  event.preventDefault();
  $("stage").setPointerCapture(event.pointerId);
  $("box").focus({ preventScroll: true });
  const [x, y] = place(event);
  if (event.target === $("corner")) drag = { x: box.left, y: box.top, isNew: true };
  else if ($("box").contains(event.target)) drag = { x: x - box.left - box.width / 2, y: y - box.top - box.height / 2 };
  else drag = { x, y, isNew: true };
});
$("stage").addEventListener("pointermove", (event) => {
  if (!drag) return;
  const [x, y] = place(event);
  if (drag.isNew) {
    const width = Math.max(Math.abs(x - drag.x), Math.abs(y - drag.y) / ASPECT);
    // A click draws nothing.
    if (width < 2) return;
    const toX = drag.x + (x < drag.x ? -width : width) / 2;
    box = frame(toX, drag.y + ((y < drag.y ? -width : width) * ASPECT) / 2, width);
  } else box = frame(x - drag.x, y - drag.y, box.width);
  update();
});
for (const end of ["pointerup", "pointercancel"]) $("stage").addEventListener(end, () => (drag = null));

$("box").addEventListener("keydown", (event) => {
  const step = Math.max(1, Math.round(box.width / 40)) * (event.shiftKey ? 5 : 1);
  const [left, up] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (left || up) moveBy(left * step, up * step);
  else if (event.key === "+" || event.key === "=") resizeBy(1);
  else if (event.key === "-" || event.key === "_") resizeBy(-1);
  else if (event.key === "Enter") restore();
  else return;
  event.preventDefault();
});

// Restoring

// The pixels around a part that its resampling asks for, opaque over white, and the part's place among them.
function pixelsAround(part, width) {
  const reach = 2 * Math.max(part.width / width, 1) + 2;
  const left = Math.max(0, Math.floor(part.left - reach));
  const top = Math.max(0, Math.floor(part.top - reach));
  const right = Math.min(picture.width, Math.ceil(part.left + part.width + reach));
  const bottom = Math.min(picture.height, Math.ceil(part.top + part.height + reach));
  const canvas = new OffscreenCanvas(right - left, bottom - top);
  const drawing = canvas.getContext("2d", { willReadFrequently: true });
  drawing.fillStyle = "#fff";
  drawing.fillRect(0, 0, canvas.width, canvas.height);
  drawing.drawImage(picture.bitmap, -left, -top);
  const pixels = drawing.getImageData(0, 0, canvas.width, canvas.height);
  return { pixels, box: { ...part, left: part.left - left, top: part.top - top } };
}

function restore() {
  if (!picture || isBusy || !isReady) return;
  complain("");
  const { part, width, height } = chosen();
  const task = { ...pixelsAround(part, width), width, height, scale: SCALE, mirrored: $("mirrored").checked };
  isBusy = true;
  update();
  say("Restoring ...");
  worker.postMessage({ number: ++number, ...task }, [task.pixels.data.buffer]);
}

function show({ before, after, milliseconds, mirrored, decibels }) {
  for (const [id, pixels] of [["before", before], ["after", after]]) {
    $(id).width = pixels.width;
    $(id).height = pixels.height;
    // Without transparency, so that the saved file has none either.
    $(id).getContext("2d", { alpha: false }).putImageData(pixels, 0, 0);
  }
  // Small answers are shown enlarged.
  const zoom = Math.max(1, Math.min(4, Math.floor(512 / after.width)));
  $("sides").style.setProperty("--w", zoom * after.width);
  $("sides").style.setProperty("--h", zoom * after.height);
  const passes = mirrored ? "two passes" : "one pass";
  pace = (SCALE * SCALE * milliseconds) / (after.width * after.height * (mirrored ? 2 : 1));
  const seconds = (milliseconds / 1000).toFixed(2);
  $("facts").textContent =
    `${after.width}x${after.height} pixels in ${seconds} s (${passes}); consistency ${decibels.toFixed(1)} dB`;
  $("unsure").hidden = !(decibels < Number(facts.bound));
  $("unsure").textContent =
    `Less certain: shrunk again, this answer does not give its input (consistency below ${facts.bound} dB).`;
  shown = `${picture.name}_restored.png`;
  $("result").hidden = false;
  $("result-title").scrollIntoView({ block: "nearest" });
}

// Saving

function crcOf(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

// A PNG with a comment behind its header (tEXt, PNG specification 11.3.3.2), so that the note goes with the file.
async function withNote(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const content = new TextEncoder().encode(`tEXtComment\0${NOTE}`);
  const chunk = new Uint8Array(content.length + 8);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, content.length - 4);
  chunk.set(content, 4);
  view.setUint32(content.length + 4, crcOf(content));
  return new Blob([bytes.slice(0, 33), chunk, bytes.slice(33)], { type: "image/png" });
}

async function save() {
  const blob = await new Promise((done) => $("after").toBlob(done, "image/png"));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await withNote(blob));
  link.download = shown;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// The worker, started from a blob: so it is under this page's policy, too, and can reach no other place.

const source = `import ${JSON.stringify(new URL("worker.js", import.meta.url).href)};`;
const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })), { type: "module" });
worker.addEventListener("error", () => {
  say("");
  complain("The network cannot run here: this browser is too old, or files of this folder are missing.");
});
worker.addEventListener("message", ({ data }) => {
  say("");
  if (data.isReady !== undefined) {
    isReady = data.isReady;
    if (!isReady) complain(`The network cannot be opened: ${data.error}`);
    else if (picture && isQuick()) restore();
  } else {
    isBusy = false;
    if (data.error) complain(`This could not be restored: ${data.error}`);
    else if (data.number === number) show(data);
    else if (isQuick()) restore();
  }
  if (picture) update();
});
say("Loading the network ...");

// What the page listens to

if (facts.face) {
  const sides = facts.face.split(" ");
  ["left", "top", "wide", "high"].forEach((side, place) => $("box").style.setProperty(`--${side}`, sides[place]));
} else document.querySelector(".guide").hidden = true;
$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => open($("file").files[0]).then(() => ($("file").value = "")));
$("smaller").addEventListener("click", () => resizeBy(-1));
$("larger").addEventListener("click", () => resizeBy(1));
for (const id of ["part-face", "part-whole", "mirrored"]) $(id).addEventListener("change", update);
$("restore").addEventListener("click", restore);
$("download").addEventListener("click", save);
document.addEventListener("paste", (event) => open(event.clipboardData.files[0]));
for (const name of ["dragenter", "dragover", "dragleave", "drop"])
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
    if (name === "drop") open(event.dataTransfer.files[0]);
  });
