// Everything works without this: it adds drag and drop, a progress bar, and looks at the queue again.
for (const form of document.querySelectorAll("form.upload")) {
  const input = form.querySelector("input[type=file]");
  const bar = form.querySelector("progress");
  const told = form.querySelector(".warning");
  const button = form.querySelector("button");
  const tell = (text) => { told.textContent = text; told.hidden = !text; };
  const over = (on) => (event) => { event.preventDefault(); form.classList.toggle("over", on); };
  form.addEventListener("dragover", over(true));
  form.addEventListener("dragleave", over(false));
  form.addEventListener("drop", (event) => {
    over(false)(event);
    if (event.dataTransfer.files.length === 1) input.files = event.dataTransfer.files;
    else tell("Drop one archive.");
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const most = Number(form.dataset.max);
    if (!input.files.length) return;
    if (input.files[0].size > most) return tell("The archive is larger than " + Math.floor(most / 1048576) + " MiB.");
    tell("");
    const request = new XMLHttpRequest();
    const stop = (text) => { bar.hidden = true; button.disabled = false; tell(text); };
    request.upload.addEventListener("progress", (step) => { if (step.lengthComputable) bar.value = step.loaded / step.total; });
    request.addEventListener("error", () => stop("The connection broke; send it again. The same archive counts once."));
    request.addEventListener("load", () => {
      if (request.status < 400) return location.reload();
      const page = new DOMParser().parseFromString(request.responseText, "text/html");
      const problem = page.querySelector("#problem");
      stop(problem ? problem.textContent : "The board answered " + request.status + "; try again.");
    });
    request.open("POST", form.action);
    bar.hidden = false;
    button.disabled = true;
    request.send(new FormData(form));
  });
}
if (document.querySelector("[data-waits]")) {
  setInterval(() => {
    const busy = [...document.querySelectorAll("form.upload input[type=file]")].some((input) => input.files.length);
    if (!busy && !document.hidden && !document.querySelector("details[open]")) location.reload();
  }, 10000);
}
