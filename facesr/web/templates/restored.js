document.documentElement.classList.add("slides");
for (const sides of document.querySelectorAll(".sides")) {
  const input = sides.querySelector("input");
  const show = () => sides.style.setProperty("--at", input.value + "%");
  const follow = (event) => {
    const box = sides.getBoundingClientRect();
    input.value = 100 * (event.clientX - box.left) / box.width;
    show();
  };
  for (const part of sides.querySelectorAll("[hidden]")) part.hidden = false;
  input.step = "any";
  // Some phones move a range only by its thumb, so pointers are followed here; the range takes the keys.
  input.addEventListener("input", show);
  input.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -10, PageUp: 10 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    input.value = Number(input.value) + by;
    show();
  });
  sides.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    sides.setPointerCapture(event.pointerId);
    input.focus({ preventScroll: true });
    follow(event);
    if (event.pointerType === "mouse") event.preventDefault();
  });
  sides.addEventListener("pointermove", (event) => {
    if (sides.hasPointerCapture(event.pointerId)) follow(event);
  });
  show();
}
