// An archive on its way to the board in pieces: announced by size and sha256, continued where it broke off.
const MIB = 2 ** 20;
const READ_BYTES = MIB;
const ATTEMPTS = 10;
const LONGEST_PAUSE = 30000; // milliseconds
const GOES_ON = "Send the same archive again: it goes on where it is.";

// What ends an upload, in a sentence for whoever sends it.
class Stop extends Error {}

// Returns the answer to a request: status, 0 where the line broke, and the object of its JSON, {} where there is none.
// A line on which nothing moves for `patience` milliseconds is taken for a broken one.
const exchange = (method, address, headers, body, patience, signal, onProgress) => new Promise((done) => {
  const request = new XMLHttpRequest();
  const end = () => request.abort();
  let timer = 0;
  const wait = () => { clearTimeout(timer); timer = setTimeout(end, patience); };
  request.upload.addEventListener("progress", (step) => { wait(); onProgress(step.loaded); });
  request.addEventListener("loadend", () => {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
    let found = null;
    try { found = JSON.parse(request.responseText); } catch { /* a page of something between here and the board */ }
    const isObject = typeof found === "object" && found !== null;
    done({ status: request.status, body: isObject ? found : {} });
  });
  request.open(method, address);
  for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
  signal.addEventListener("abort", end);
  wait();
  request.send(body);
});

// Returns whether it may help to ask again.
const mayPass = ({ status, body }) => {
  if (status === 429) return body.kind !== "limit";
  return status < 400 || status === 408 || (status >= 500 && body.kind !== "no_room");
};

const refusal = ({ status, body }) => {
  const error = typeof body.error === "string" ? body.error : "";
  if (status === 413 && !error) return "Something before the board takes no piece of this size; tell the organiser.";
  const sentence = error || `The board answered ${status}; try again later.`;
  return status === 401 || status === 403 ? `${sentence} ${GOES_ON}` : sentence;
};

// Waits; a line that is said to be there again ends the pause, and so does whoever stops.
const pause = (milliseconds, signal) => new Promise((done) => {
  const end = () => {
    clearTimeout(timer);
    removeEventListener("online", end);
    signal.removeEventListener("abort", end);
    done();
  };
  const timer = setTimeout(end, milliseconds);
  addEventListener("online", end);
  signal.addEventListener("abort", end);
});

class Upload {
  #digests = new WeakMap(); // of the files that were read, so that one that goes on is not read again

  // phase: its name. token: of the form. pieceBytes: of a request at most. tell: what goes on, in words, and how far.
  constructor(phase, token, pieceBytes, tell) {
    Object.assign(this, { phase, token, pieceBytes, tell });
  }

  // Returns the code of the submission that the board made of a file.
  async send(file, signal) {
    const sha256 = this.#digests.get(file) ?? await this.#digest(file, signal);
    this.#digests.set(file, sha256);
    let upload = null; // where the board says that it is
    let far = -1;
    let failures = 0;
    for (;;) {
      const answer = upload ? await this.#piece(file, upload, signal) : await this.#announce(file, sha256, signal);
      if (signal.aborted) throw new Stop(`Stopped. ${GOES_ON}`);
      const { status, body } = answer;
      const isTaken = status >= 200 && status < 300;
      if (isTaken && body.submission) return body.submission.code;
      if (isTaken && Number.isInteger(body.offset) && (body.offset > far || !upload)) {
        if (body.offset > far) [far, failures] = [body.offset, 0];
        upload = body;
        continue;
      }
      // Another tab sends it, too, or its time was over: the next announcement says where it goes on.
      const isElsewhere = upload && (status === 404 || body.kind === "elsewhere");
      if (!isElsewhere && !mayPass(answer)) throw new Stop(refusal(answer));
      if (status === 0) await this.#read(file, Math.max(0, far), 1);
      upload = null;
      if (++failures > ATTEMPTS) throw new Stop(`The board cannot be reached. ${GOES_ON}`);
      const asked = Number(body.retry_after) || 0;
      const milliseconds = Math.min(LONGEST_PAUSE, Math.max(1000 * asked, 500 * 2 ** failures));
      const refused = isElsewhere ? "The upload went on elsewhere" : `The board cannot take it now (${status})`;
      const why = status < 400 ? "The line broke" : refused;
      this.tell(`${why}; trying again in ${Math.ceil(milliseconds / 1000)} s.`);
      await pause(milliseconds, signal);
      if (signal.aborted) throw new Stop(`Stopped. ${GOES_ON}`);
    }
  }

  #announce(file, sha256, signal) {
    const text = JSON.stringify({ sha256, num_bytes: file.size });
    return this.#ask("POST", this.phase, { "Content-Type": "application/json" }, text, file, signal, () => {});
  }

  #piece(file, upload, signal) {
    const { offset } = upload;
    const piece = file.slice(offset, offset + Math.min(this.pieceBytes, upload.max_piece_bytes));
    const type = "application/offset+octet-stream";
    const headers = { "Content-Type": type, "Upload-Offset": String(offset) };
    const move = (numBytes) => this.tell("Sending", Math.min(offset + numBytes, file.size), file.size);
    move(0);
    return this.#ask("PATCH", upload.code, headers, piece, file, signal, move);
  }

  #ask(method, name, headers, body, file, signal, onProgress) {
    const address = `/team/pieces/${encodeURIComponent(name)}`;
    // With the last piece the board reads the whole archive once more before it answers.
    const patience = 60000 + 1000 * file.size / (32 * MIB);
    return exchange(method, address, { "X-Form-Token": this.token, ...headers }, body, patience, signal, onProgress);
  }

  async #digest(file, signal) {
    const sum = new Sha256();
    for (let at = 0; at < file.size; at += READ_BYTES) {
      this.tell("Reading the archive", at, file.size);
      sum.update(await this.#read(file, at, READ_BYTES));
      if (signal.aborted) throw new Stop("Stopped; nothing was sent.");
    }
    return sum.end();
  }

  async #read(file, at, numBytes) {
    try {
      return new Uint8Array(await file.slice(at, at + numBytes).arrayBuffer());
    } catch {
      throw new Stop("The file cannot be read: it was changed or moved, or is a folder. Choose it again.");
    }
  }
}
