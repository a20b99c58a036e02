// Cuts a part out of a picture, shrinks it to what the network takes, and restores it; in a thread of its own.
import * as ort from "./runtime/ort.js";

const here = new URL(".", import.meta.url);
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { wasm: new URL("runtime/ort.wasm", here).href };

// Keys' cubic convolution kernel, a = -0.5: the one of the competition's downscaling.
function cubic(x) {
  const d = Math.abs(x);
  if (d <= 1) return (1.5 * d - 2.5) * d * d + 1;
  return d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
}

// For each of `count` samples of the stretch from `start` on, `length` long, of an axis with `size` samples: which of
// them it is made of, and how much of each. Antialiased when shrinking; the border is symmetric.
function taps(size, start, length, count) {
  const pitch = length / count;
  const stretch = Math.max(pitch, 1);
  return Array.from({ length: count }, (_, place) => {
    const centre = start + (place + 0.5) * pitch - 0.5;
    const found = [];
    let sum = 0;
    for (let tap = Math.ceil(centre - 2 * stretch); tap <= Math.floor(centre + 2 * stretch); tap++) {
      const weight = cubic((centre - tap) / stretch);
      const period = ((tap % (2 * size)) + 2 * size) % (2 * size);
      found.push([Math.min(period, 2 * size - 1 - period), weight]);
      sum += weight;
    }
    return found.map(([tap, weight]) => [tap, weight / sum]);
  });
}

// A box (left, top, width, height: outer edges) of RGBA pixels as grey levels 0..255, colour by colour, rounded half up.
function resampled(pixels, box, width, height) {
  const { data, width: columns, height: rows } = pixels;
  const middle = new Float64Array(3 * height * columns);
  taps(rows, box.top, box.height, height).forEach((found, row) => {
    for (const [tap, weight] of found)
      for (let column = 0; column < columns; column++)
        for (let colour = 0; colour < 3; colour++)
          middle[(colour * height + row) * columns + column] += weight * data[4 * (tap * columns + column) + colour];
  });
  const across = taps(columns, box.left, box.width, width);
  const levels = new Float32Array(3 * height * width);
  for (let line = 0; line < 3 * height; line++)
    across.forEach((found, column) => {
      let sum = 0;
      for (const [tap, weight] of found) sum += weight * middle[line * columns + tap];
      levels[line * width + column] = Math.min(Math.max(Math.floor(sum + 0.5), 0), 255);
    });
  return levels;
}

function mirror(values, width) {
  const found = new Float32Array(values.length);
  for (let first = 0; first < values.length; first += width)
    for (let column = 0; column < width; column++) found[first + column] = values[first + width - 1 - column];
  return found;
}

// Planes of grey levels as a picture.
function picture(levels, width, height) {
  const found = new ImageData(width, height);
  for (let place = 0; place < width * height; place++) {
    for (let colour = 0; colour < 3; colour++) found.data[4 * place + colour] = levels[colour * width * height + place];
    found.data[4 * place + 3] = 255;
  }
  return found;
}

// How well an answer, shrunk again, gives its input: PSNR in dB, 0 to 100.
function consistency(answer, levels, width, height) {
  const again = resampled(answer, { left: 0, top: 0, width: answer.width, height: answer.height }, width, height);
  const error = again.reduce((sum, level, place) => sum + (level - levels[place]) ** 2, 0) / levels.length;
  return error > 0 ? Math.min(Math.max(10 * Math.log10(255 ** 2 / error), 0), 100) : 100;
}

async function run(session, low, width, height) {
  const answer = await session.run({ low: new ort.Tensor("float32", low, [1, 3, height, width]) });
  return answer.restored.data;
}

async function restored(session, task) {
  const { pixels, box, width, height, scale, mirrored } = task;
  const asked = resampled(pixels, box, width, height);
  const low = asked.map((level) => level / 255);
  const [wide, high] = [scale * width, scale * height];
  const began = performance.now();
  let answer = await run(session, low, width, height);
  if (mirrored) {
    const other = mirror(await run(session, mirror(low, width), width, height), wide);
    answer = answer.map((value, place) => 0.5 * (value + other[place]));
  }
  const milliseconds = performance.now() - began;
  const levels = answer.map((value) => Math.floor(Math.min(Math.max(value, 0), 1) * 255 + 0.5));
  const before = picture(resampled(pixels, box, wide, high), wide, high);
  const after = picture(levels, wide, high);
  return { milliseconds, mirrored, before, after, decibels: consistency(after, asked, width, height) };
}

const opened = ort.InferenceSession.create(new URL("model.onnx", here).href, { executionProviders: ["wasm"] });
addEventListener("message", async ({ data: task }) => {
  try {
    postMessage({ number: task.number, ...(await restored(await opened, task)) });
  } catch (error) {
    postMessage({ number: task.number, error: String(error?.message ?? error) });
  }
});
opened.then(
  () => postMessage({ isReady: true }),
  (error) => postMessage({ isReady: false, error: String(error?.message ?? error) }),
);
