// Mouse and pen over the images: clicks and boxes for the object; drags move cross, picture, grey window and 3D view.

const STILL = 4; // pixels that a click may wander
const RENDER = 4;

export class Pointer {
  plane = 0;
  #down = null;

  constructor(area, rubber, viewer, told) {
    Object.assign(this, { area, rubber, viewer, told });
    area.addEventListener("contextmenu", (event) => event.preventDefault());
    area.addEventListener("pointerdown", (event) => this.#pressed(event));
    area.addEventListener("pointermove", (event) => this.#moved(event));
    area.addEventListener("pointerup", (event) => this.#released(event));
    area.addEventListener("pointercancel", () => this.#forget());
    area.addEventListener("pointerleave", () => told.hover(null));
    area.addEventListener("wheel", (event) => this.#rolled(event), { passive: false });
  }

  #pressed(event) {
    const spot = this.viewer.at(event);
    if (!spot || this.#down) return;
    this.area.setPointerCapture(event.pointerId);
    this.area.focus({ preventScroll: true });
    if (spot.plane !== RENDER) this.plane = spot.plane;
    const grey = this.viewer.window;
    this.#down = { ...spot, button: event.button, x: event.clientX, y: event.clientY, last: event, dragged: false, grey };
  }

  #moved(event) {
    const spot = this.viewer.at(event);
    if (!this.#down) {
      if (spot && spot.plane !== RENDER) this.plane = spot.plane;
      this.told.hover(spot?.frac ?? null);
      return;
    }
    const down = this.#down;
    const [dx, dy] = [event.clientX - down.x, event.clientY - down.y];
    down.dragged ||= Math.hypot(dx, dy) > STILL;
    if (!down.dragged) return;
    const [sx, sy] = [event.clientX - down.last.clientX, event.clientY - down.last.clientY];
    down.last = event;
    if (down.plane === RENDER) this.viewer.turn(sx, sy);
    else if (down.button === 1) this.viewer.pan(down.plane, sx, sy);
    else if (down.button === 2) this.#window(down, dx, dy);
    else if (this.told.boxed()) this.#stretch(event);
    else if (spot?.frac && spot.tile === down.tile) this.viewer.moveTo(spot.frac);
  }

  #released(event) {
    const down = this.#down;
    this.#forget();
    if (!down?.frac) return;
    const spot = this.viewer.at(event);
    if (!down.dragged) {
      if (down.button === 0) this.told.click(down.frac, !event.altKey);
      else if (down.button === 2) this.told.click(down.frac, false);
    } else if (down.button === 0 && this.told.boxed() && spot?.frac && spot.tile === down.tile) {
      this.told.box(down.frac, spot.frac);
    }
  }

  #forget() {
    this.#down = null;
    this.rubber.hidden = true;
  }

  #stretch(event) {
    const around = this.area.getBoundingClientRect();
    const { x, y } = this.#down;
    Object.assign(this.rubber.style, {
      left: `${Math.min(x, event.clientX) - around.left}px`,
      top: `${Math.min(y, event.clientY) - around.top}px`,
      width: `${Math.abs(event.clientX - x)}px`,
      height: `${Math.abs(event.clientY - y)}px`,
    });
    this.rubber.hidden = false;
  }

  #window({ grey: [low, high] }, dx, dy) {
    const width = (high - low) * Math.exp(dx / 200);
    const middle = (low + high) / 2 + ((high - low) * dy) / 300;
    this.viewer.setWindow(middle - width / 2, middle + width / 2);
    this.told.windowed();
  }

  #rolled(event) {
    event.preventDefault();
    const spot = this.viewer.at(event);
    if (!spot) return;
    if (event.ctrlKey || event.metaKey || spot.plane === RENDER) this.viewer.zoom(Math.exp(-event.deltaY / 400));
    else this.viewer.scroll(spot.plane, event.deltaY > 0 ? -1 : 1);
    this.told.hover(this.viewer.at(event)?.frac ?? null);
  }
}
