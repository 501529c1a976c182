"use strict";
// One zoom and one place for all pictures of a case, so that the same pixels stay side by side.
for (const box of document.querySelectorAll(".case")) {
  const views = [...box.querySelectorAll(".view")];
  const slider = box.querySelector("input");
  let zoom = 1, left = 0, top = 0; // left, top: what is at the corner, as shares of the picture

  const clamp = (value, most) => Math.min(Math.max(value, 0), most);
  const draw = () => {
    left = clamp(left, 1 - 1 / zoom);
    top = clamp(top, 1 - 1 / zoom);
    slider.value = zoom;
    for (const view of views) {
      view.firstElementChild.style.transform =
        `scale(${zoom}) translate(${-100 * left}%, ${-100 * top}%)`;
    }
  };
  const zoomTo = (next, x, y) => { // x, y: the place that stays, as shares of the view
    next = clamp(next, 12);
    next = Math.max(next, 1);
    left += x / zoom - x / next;
    top += y / zoom - y / next;
    zoom = next;
    draw();
  };

  slider.addEventListener("input", () => zoomTo(Number(slider.value), 0.5, 0.5));
  for (const view of views) {
    view.addEventListener("wheel", (event) => {
      // A page must stay scrollable: the wheel zooms only with a modifier, or once a case is zoomed.
      if (!event.ctrlKey && !event.metaKey && zoom === 1) return;
      event.preventDefault();
      const area = view.getBoundingClientRect();
      zoomTo(zoom * Math.exp(-event.deltaY / 300),
        (event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height);
    }, { passive: false });
    view.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      view.setPointerCapture(event.pointerId);
    });
    view.addEventListener("pointermove", (event) => {
      if (!view.hasPointerCapture(event.pointerId)) return;
      const area = view.getBoundingClientRect();
      left -= event.movementX / area.width / zoom;
      top -= event.movementY / area.height / zoom;
      draw();
    });
    view.addEventListener("dblclick", (event) => {
      const area = view.getBoundingClientRect();
      zoomTo(zoom > 1 ? 1 : 4,
        (event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height);
    });
  }
}
document.body.dataset.ready = "yes";
