"use strict";
// Everything works without this script, too. It shows pictures with whole device pixels, takes keys, and measures.
(() => {
  // A page that the browser kept is out of date: its question was answered.
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

  const next = document.querySelector("a[data-next]");
  if (next) {
    addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.repeat && (document.activeElement === document.body || !document.activeElement)) next.click();
    });
  }

  const form = document.getElementById("question");
  if (!form) return;
  const stage = form.querySelector(".stage");
  const pictures = [...stage.querySelectorAll("img")];
  const buttons = [...form.querySelectorAll("button[name=answer]")];
  const field = (name) => form.querySelector(`input[name=${name}]`);
  let scale = 1;
  let shown = 0; // when the pictures were there, by the page's clock
  let sent = false;

  const tell = (element, text) => { if (element.textContent !== text) element.textContent = text; };

  // Every pixel of a picture becomes scale x scale device pixels: no browser interpolates, each in its own way.
  const fit = () => {
    const ratio = devicePixelRatio || 1;
    const width = Math.max(...pictures.map((one) => Number(one.dataset.width)));
    const height = Math.max(...pictures.map((one) => Number(one.dataset.height)));
    const across = Math.min(pictures.length, 2);
    const rows = pictures.length > 2 ? 2 : 1;
    const gap = parseFloat(getComputedStyle(stage).columnGap) || 0;
    const main = document.getElementById("content");
    const padding = parseFloat(getComputedStyle(main).paddingLeft) + parseFloat(getComputedStyle(main).paddingRight);
    const roomX = (document.documentElement.clientWidth - padding - gap * (across - 1)) / across;
    const others = form.querySelector("header").offsetHeight + form.querySelector(".answers").offsetHeight + 50;
    const roomY = Math.max(innerHeight - others, 0) / rows;
    const wish = Number(form.dataset.width) / (rows > 1 ? 1.5 : 1);
    // Whoever holds a narrow window upright scrolls to the answers rather than squint at a stamp.
    const tall = Math.max(roomY, Math.min(roomX, wish) * height / width * 0.75 / rows);
    const most = Math.min(roomX, wish) * ratio / width;
    scale = Math.max(1, Math.floor(Math.min(most, tall * ratio / height) + 1e-6));
    const isSmall = width * scale / ratio > roomX + 0.5;
    for (const one of pictures) {
      // What does not fit is scrolled, with the keyboard, too.
      if (isSmall) one.parentElement.tabIndex = 0; else one.parentElement.removeAttribute("tabindex");
      one.style.width = `${one.dataset.width * scale / ratio}px`;
      one.style.height = `${one.dataset.height * scale / ratio}px`;
      one.style.position = "relative";
      one.style.left = one.style.top = "0px";
    }
    for (const one of pictures) {
      const place = one.getBoundingClientRect();
      const off = (value) => (Math.round(value * ratio) - value * ratio) / ratio;
      one.style.left = `${off(place.left + scrollX)}px`;
      one.style.top = `${off(place.top + scrollY)}px`;
    }
    const small = document.getElementById("small");
    const needed = (side, room) => String(Math.ceil(side / ratio + room));
    tell(small, isSmall
      ? small.dataset.text.replace("{width}", needed(width * across, padding + gap * (across - 1))).replace("{height}", needed(height * rows, others))
      : "");
  };

  const report = () => {
    field("ms").value = String(Math.max(0, Math.round(performance.now() - shown)));
    field("ratio").value = String(Math.round((devicePixelRatio || 1) * 1e4) / 1e4);
    field("width").value = String(Math.round(innerWidth));
    field("height").value = String(Math.round(innerHeight));
    field("scale").value = String(scale);
    field("touch").value = navigator.maxTouchPoints > 0 ? "1" : "0";
  };

  stage.classList.add("wait");
  fit();
  addEventListener("resize", fit);
  const ready = () => {
    if (shown) return;
    stage.classList.remove("wait");
    requestAnimationFrame(() => {
      shown = shown || performance.now();
      for (const address of (form.dataset.next || "").split(" ").filter(Boolean)) new Image().src = address;
    });
  };
  Promise.allSettled(pictures.map((one) => one.decode())).then((results) => {
    // A picture that did not come cannot be rated; the page is loaded once more.
    if (results.some((one) => one.status === "rejected") && !sessionStorage.getItem("again")) {
      sessionStorage.setItem("again", "1");
      location.reload();
      return;
    }
    sessionStorage.removeItem("again");
    ready();
  });

  form.addEventListener("submit", (event) => {
    if (sent || !shown) { event.preventDefault(); return; }
    sent = true;
    report();
    if (event.submitter) event.submitter.setAttribute("aria-pressed", "true");
    tell(document.getElementById("saving"), document.getElementById("saving").dataset.text);
    // A server that does not answer: the same answer may be sent again, and counts once.
    setTimeout(() => { sent = false; }, 8000);
  });

  addEventListener("keydown", (event) => {
    if (event.repeat || event.altKey || event.ctrlKey || event.metaKey || !shown) return;
    const button = buttons.find((one) => one.dataset.keys.split(" ").includes(event.key));
    if (!button) return;
    event.preventDefault();
    form.requestSubmit(button);
  });

  document.getElementById("ask").focus({ preventScroll: true });
})();
