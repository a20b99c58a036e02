// Everything works without this: it adds drag and drop, uploads that go on where they broke off, and watches the queue.
const words = (numBytes) => `${(numBytes / MIB).toFixed(1)} MiB`;

for (const form of document.querySelectorAll("form.upload")) {
  const input = form.querySelector("input[type=file]");
  const bar = form.querySelector("progress");
  const [send, stop] = form.querySelectorAll("button");
  const figures = form.querySelector("[data-figures]");
  const status = form.querySelector("[role=status]");
  const alarm = form.querySelector("[role=alert]");
  const say = (place, text) => { if (place.textContent !== text) place.textContent = text; };
  const complain = (text) => { say(alarm, text); alarm.hidden = !text; };
  let stopping = null; // while an archive is on its way

  // A screen reader hears a change of what goes on, and every tenth; the figures move all the time.
  const tell = (text, numBytes, numAll) => {
    if (numAll === undefined) return say(status, text);
    bar.value = numBytes / numAll;
    say(figures, `${words(numBytes)} of ${words(numAll)}`);
    say(status, `${text}: ${10 * Math.floor(10 * numBytes / numAll)} %`);
  };
  const upload = new Upload(form.dataset.phase, form.elements.form_token.value, Number(form.dataset.piece), tell);

  const show = (isSending) => {
    const had = form.contains(document.activeElement);
    bar.hidden = figures.hidden = stop.hidden = !isSending;
    send.disabled = input.disabled = isSending;
    // Whoever uses the keyboard is not thrown to the top of the page.
    if (had) (isSending ? stop : send).focus();
    if (!isSending) { say(figures, ""); say(status, ""); }
  };

  show(false); // a browser may remember a page as it was while it sent

  const over = (on) => (event) => { event.preventDefault(); form.classList.toggle("over", on); };
  form.addEventListener("dragover", over(true));
  form.addEventListener("dragleave", over(false));
  form.addEventListener("drop", (event) => {
    over(false)(event);
    if (stopping) return;
    if (event.dataTransfer.files.length === 1) input.files = event.dataTransfer.files;
    complain(event.dataTransfer.files.length === 1 ? "" : "Drop one archive.");
  });
  stop.addEventListener("click", () => stopping?.abort());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const [file] = input.files;
    if (!file || stopping) return;
    const most = Number(form.dataset.max);
    if (file.size > most) return complain(`The archive has ${words(file.size)}; ${words(most)} are taken at most.`);
    if (file.size === 0) return complain("The file is empty.");
    complain("");
    stopping = new AbortController();
    show(true);
    try {
      location.assign(`/team?sent=${encodeURIComponent(await upload.send(file, stopping.signal))}`);
    } catch (error) {
      stopping = null;
      show(false);
      complain(error.message);
      if (!(error instanceof Stop)) throw error;
    }
  });
}

addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

if (document.querySelector("[data-waits]")) {
  setInterval(() => {
    const busy = [...document.querySelectorAll("form.upload input[type=file]")].some((input) => input.files.length);
    if (!busy && !document.hidden && !document.querySelector("details[open]")) location.reload();
  }, 10000);
}
