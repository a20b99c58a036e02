// SHA-256, a piece at a time (FIPS 180-4): the browser's own wants a whole file in memory, and is missing without TLS.
const [ROUND_WORDS, FIRST_STATE] = (() => {
  const primes = [];
  for (let number = 2; primes.length < 64; number++) if (primes.every((one) => number % one)) primes.push(number);
  // The first 32 bits behind the point.
  const bits = (root) => Math.floor((root - Math.floor(root)) * 2 ** 32) | 0;
  const first = primes.slice(0, 8).map((one) => bits(Math.sqrt(one)));
  return [Int32Array.from(primes, (one) => bits(Math.cbrt(one))), first];
})();

class Sha256 {
  #state = Int32Array.from(FIRST_STATE);
  #words = new Int32Array(64);
  #block = new Uint8Array(64); // what does not fill a block yet
  #numBytes = 0;

  // Takes more bytes of the message, a Uint8Array.
  update(bytes) {
    let at = 0;
    const held = this.#numBytes % 64;
    this.#numBytes += bytes.length;
    if (held) {
      at = Math.min(64 - held, bytes.length);
      this.#block.set(bytes.subarray(0, at), held);
      if (held + at < 64) return;
      this.#compress(this.#block, 0);
    }
    for (; at + 64 <= bytes.length; at += 64) this.#compress(bytes, at);
    this.#block.set(bytes.subarray(at));
  }

  // Returns the digest, 64 hexadecimal digits; nothing can be added any more.
  end() {
    const numBytes = this.#numBytes;
    const rest = new Uint8Array((numBytes % 64 < 56 ? 64 : 128) - numBytes % 64);
    rest[0] = 0x80;
    const view = new DataView(rest.buffer);
    view.setUint32(rest.length - 8, Math.floor(numBytes / 2 ** 29));
    view.setUint32(rest.length - 4, (numBytes % 2 ** 29) * 8);
    this.update(rest);
    return [...this.#state].map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  }

  #compress(bytes, start) {
    const words = this.#words;
    for (let i = 0, at = start; i < 16; i++, at += 4) {
      words[i] = bytes[at] << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3];
    }
    for (let i = 16; i < 64; i++) {
      const early = words[i - 15];
      const late = words[i - 2];
      const first = (early >>> 7 | early << 25) ^ (early >>> 18 | early << 14) ^ early >>> 3;
      const second = (late >>> 17 | late << 15) ^ (late >>> 19 | late << 13) ^ late >>> 10;
      words[i] = words[i - 16] + first + words[i - 7] + second | 0;
    }
    const state = this.#state;
    let a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
    for (let i = 0; i < 64; i++) {
      const mixed = (e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7);
      const one = h + mixed + (e & f ^ ~e & g) + ROUND_WORDS[i] + words[i] | 0;
      const turned = (a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10);
      const two = turned + (a & b ^ a & c ^ b & c) | 0;
      h = g; g = f; f = e; e = d + one | 0; d = c; c = b; b = a; a = one + two | 0;
    }
    state[0] += a; state[1] += b; state[2] += c; state[3] += d;
    state[4] += e; state[5] += f; state[6] += g; state[7] += h;
  }
}
