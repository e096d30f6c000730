// Three planes and 3D of one scan with its label map. Places are world coordinates in mm, LPS, as the server takes them.

import { colour } from "./colours.js";

const RENDER = 4; // NiiVue's number for the 3D tile; 0, 1, 2 are axial, coronal, sagittal
const AXIS = [2, 1, 0]; // the axis that each plane is perpendicular to

export class Viewer {
  #marks;
  #opacity = 0.45;
  #names = "";
  #frame = 0;

  constructor(canvas, marks) {
    this.canvas = canvas;
    this.#marks = marks;
    this.objects = [];
    this.active = 0;
  }

  async start() {
    const { Niivue } = globalThis.niivue;
    this.nv = new Niivue({
      backColor: [0, 0, 0, 1],
      crosshairColor: [0.29, 0.66, 1, 0.55],
      crosshairWidth: 0.6,
      crosshairGap: 6,
      show3Dcrosshair: true,
      isResizeCanvas: true,
      dragAndDropEnabled: false,
      interactive: false,
      loadingText: "",
      logLevel: "error",
    });
    await this.nv.attachToCanvas(this.canvas);
    this.nv.setSliceType(this.nv.sliceTypeMultiplanar);
    this.showSolid(!this.#slow());
    new ResizeObserver(() => requestAnimationFrame(() => this.draw())).observe(this.canvas);
  }

  // Whether there is no graphics card: then 3D takes seconds for each picture.
  #slow() {
    const told = this.nv.gl.getExtension("WEBGL_debug_renderer_info");
    return Boolean(told) && /swiftshader|llvmpipe|software/i.test(this.nv.gl.getParameter(told.UNMASKED_RENDERER_WEBGL));
  }

  // With or without the 3D tile.
  showSolid(wanted) {
    this.solid = wanted;
    this.nv.opts.multiplanarShowRender = wanted ? 1 : 0; // always, never
    this.nv.setMultiplanarLayout(2); // two by two
    this.draw();
  }

  get ready() {
    return this.nv?.volumes.length === 2;
  }

  get image() {
    return this.nv.volumes[0];
  }

  get labels() {
    return this.nv.volumes[1];
  }

  // names: class name by id.
  async show(imageFile, labelFile, names) {
    const { NVImage } = globalThis.niivue;
    const [image, labels] = await Promise.all([
      NVImage.loadFromFile({ file: imageFile, name: "image.nii.gz" }),
      NVImage.loadFromFile({ file: labelFile, name: "labels.nii.gz", opacity: this.#opacity }),
    ]);
    this.clear();
    this.#colour(labels, names);
    this.nv.addVolume(image);
    this.nv.addVolume(labels);
    this.fit();
  }

  clear() {
    for (const volume of [...this.nv.volumes].reverse()) this.nv.removeVolume(volume);
    this.objects = [];
  }

  async replaceLabels(file, names) {
    const options = { file, name: "labels.nii.gz", opacity: this.#opacity };
    const fresh = await globalThis.niivue.NVImage.loadFromFile(options);
    this.#colour(fresh, names);
    this.nv.removeVolume(this.labels);
    this.nv.addVolume(fresh);
    this.draw();
  }

  // Whether the patch fits into the label map as it is; else it has to be read anew.
  patch(box, values) {
    const target = this.labels.img;
    if (target.BYTES_PER_ELEMENT !== values.BYTES_PER_ELEMENT) return false;
    const [nx, ny] = this.labels.hdr.dims.slice(1, 4);
    const [[x0, x1], [y0, y1], [z0, z1]] = box;
    let from = 0;
    for (let z = z0; z < z1; z++) {
      for (let y = y0; y < y1; y++) {
        target.set(values.subarray(from, from + x1 - x0), x0 + nx * (y + ny * z));
        from += x1 - x0;
      }
    }
    this.nv.refreshLayers(this.labels, 1);
    this.draw();
    return true;
  }

  setColours(names) {
    if (JSON.stringify([...names]) === this.#names) return;
    this.#colour(this.labels, names);
    this.nv.updateGLVolume();
    this.draw();
  }

  #colour(labels, names) {
    this.#names = JSON.stringify([...names]);
    const top = Math.max(1, ...names.keys());
    const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: ["background"] };
    for (let id = 1; id <= top; id++) {
      const [red, green, blue] = colour(id);
      table.R.push(red);
      table.G.push(green);
      table.B.push(blue);
      table.A.push(255);
      table.I.push(id);
      table.labels.push(names.get(id) ?? `class ${id}`);
    }
    labels.setColormapLabel(table);
  }

  setOpacity(value) {
    this.#opacity = value;
    if (this.ready) this.nv.setOpacity(1, value);
    this.draw();
  }

  get window() {
    return [this.image.cal_min, this.image.cal_max];
  }

  setWindow(low, high) {
    this.image.cal_min = low;
    this.image.cal_max = Math.max(high, low + 1e-6);
    this.nv.refreshLayers(this.image, 0);
    this.draw();
  }

  get range() {
    return [this.image.global_min, this.image.global_max];
  }

  resetWindow() {
    this.setWindow(this.image.robust_min, this.image.robust_max);
  }

  fit() {
    this.nv.scene.pan2Dxyzmm = [0, 0, 0, 1];
    this.draw();
  }

  // Tile and texture fraction below the pointer: {tile, plane, frac}; null beyond all tiles.
  at(event) {
    if (!this.ready) return null;
    const around = this.canvas.getBoundingClientRect();
    const x = (event.clientX - around.left) * this.nv.uiData.dpr;
    const y = (event.clientY - around.top) * this.nv.uiData.dpr;
    const tile = this.nv.tileIndex(x, y);
    if (tile < 0) return null;
    const plane = this.nv.screenSlices[tile].axCorSag;
    if (plane === RENDER) return { tile, plane, frac: null };
    const frac = [...this.nv.screenXY2TextureFrac(x, y, tile, false)];
    return frac.every((part) => part >= 0 && part <= 1) ? { tile, plane, frac } : { tile, plane, frac: null };
  }

  place(frac) {
    const [right, anterior, superior] = this.nv.frac2mm(frac, 0, true);
    return [-right, -anterior, superior];
  }

  // Class id at a place.
  classAt(frac) {
    const [i, j, k] = this.#voxel(frac);
    const [nx, ny] = this.labels.hdr.dims.slice(1, 4);
    return this.labels.img[i + nx * (j + ny * k)] ?? 0;
  }

  #voxel(frac) {
    const mm = this.nv.frac2mm(frac, 0, true);
    const rows = this.#inverse;
    return [0, 1, 2].map((row) => Math.round(rows[row][0] * mm[0] + rows[row][1] * mm[1] + rows[row][2] * mm[2] + rows[row][3]));
  }

  get #inverse() {
    const [a, b, c] = this.labels.hdr.affine;
    const cross = (u, v) => [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
    const columns = [cross(b, c), cross(c, a), cross(a, b)]; // of the inverse, up to the determinant
    const size = a[0] * columns[0][0] + a[1] * columns[0][1] + a[2] * columns[0][2];
    const shift = [a[3], b[3], c[3]];
    return [0, 1, 2].map((row) => {
      const line = columns.map((column) => column[row] / size);
      return [...line, -(line[0] * shift[0] + line[1] * shift[1] + line[2] * shift[2])];
    });
  }

  fracOfVoxel(voxel) {
    const mm = this.labels.hdr.affine.slice(0, 3).map((row) => row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]);
    return [...this.nv.mm2frac(mm, 0, true)];
  }

  moveTo(frac) {
    this.nv.scene.crosshairPos = frac;
    this.draw();
  }

  scroll(plane, steps) {
    const axis = AXIS[plane] ?? 2;
    const frac = [...this.nv.scene.crosshairPos];
    const slices = this.image.dimsRAS[axis + 1];
    const slice = Math.min(slices - 1, Math.max(0, Math.floor(frac[axis] * slices) + steps));
    frac[axis] = (slice + 0.5) / slices;
    this.moveTo(frac);
  }

  zoom(factor) {
    const pan = this.nv.scene.pan2Dxyzmm;
    pan[3] = Math.min(12, Math.max(0.5, pan[3] * factor));
    this.draw();
  }

  pan(plane, dx, dy) {
    const scene = this.nv.scene;
    const [left, top, width, height] = this.nv.screenSlices.find((one) => one.axCorSag === plane).leftTopWidthHeight;
    const middle = [left + width / 2, top + height / 2];
    const tile = this.nv.tileIndex(...middle);
    const dpr = this.nv.uiData.dpr;
    const from = this.nv.frac2mm(this.nv.screenXY2TextureFrac(...middle, tile, false));
    const to = this.nv.frac2mm(this.nv.screenXY2TextureFrac(middle[0] + dx * dpr, middle[1] + dy * dpr, tile, false));
    for (const axis of [0, 1, 2]) scene.pan2Dxyzmm[axis] += scene.pan2Dxyzmm[3] * (to[axis] - from[axis]);
    this.draw();
  }

  turn(dx, dy) {
    this.nv.setRenderAzimuthElevation(this.nv.scene.renderAzimuth - dx / 2, this.nv.scene.renderElevation + dy / 2);
  }

  // Once, however often it is asked for before the next frame.
  draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      if (!this.nv) return;
      this.nv.drawScene();
      this.#drawMarks();
    });
  }

  // Clicks and boxes of the active object, in each plane that shows them.
  #drawMarks() {
    const marks = this.#marks;
    [marks.width, marks.height] = [this.canvas.width, this.canvas.height];
    const wanted = this.objects.find((one) => one.number === this.active);
    if (!this.ready || !wanted) return;
    const pen = marks.getContext("2d");
    const size = 5 * this.nv.uiData.dpr;
    for (const [tile, slice] of this.nv.screenSlices.entries()) {
      if (slice.axCorSag === RENDER) continue;
      const toScreen = this.#screenOf(tile, slice);
      pen.lineWidth = size / 3;
      for (const [voxel, inside] of wanted.clicks) {
        const frac = this.fracOfVoxel(voxel);
        const spot = toScreen(frac, 1.2);
        if (!spot) continue;
        pen.strokeStyle = "#000";
        pen.fillStyle = inside ? "#4dff9e" : "#ff5f56";
        pen.beginPath();
        pen.arc(...spot, size, 0, 2 * Math.PI);
        pen.fill();
        pen.stroke();
        pen.beginPath();
        pen.moveTo(spot[0] - size / 2, spot[1]);
        pen.lineTo(spot[0] + size / 2, spot[1]);
        if (inside) {
          pen.moveTo(spot[0], spot[1] - size / 2);
          pen.lineTo(spot[0], spot[1] + size / 2);
        }
        pen.stroke();
      }
      if (wanted.box) {
        const [first, last] = wanted.box.map((corner) => toScreen(this.fracOfVoxel(corner), Infinity));
        pen.strokeStyle = "#4aa8ff";
        pen.setLineDash([size, size]);
        pen.strokeRect(first[0], first[1], last[0] - first[0], last[1] - first[1]);
        pen.setLineDash([]);
      }
    }
  }

  // Position on the canvas of a texture fraction; null where it is further than some slices from the one that is shown.
  #screenOf(tile, slice) {
    const [left, top, width, height] = slice.leftTopWidthHeight;
    const [corner, other] = [[left + 1, top + 1], [left + width - 1, top + height - 1]];
    const [start, end] = [corner, other].map((spot) => this.nv.screenXY2TextureFrac(...spot, tile, false));
    const across = AXIS[slice.axCorSag];
    const [horizontal, vertical] = [[0, 1], [0, 2], [1, 2]][slice.axCorSag];
    const part = (frac, axis) => (frac[axis] - start[axis]) / (end[axis] - start[axis]);
    return (frac, most) => {
      const away = Math.abs(frac[across] - this.nv.scene.crosshairPos[across]) * this.image.dimsRAS[across + 1];
      if (away > most) return null;
      return [
        corner[0] + part(frac, horizontal) * (other[0] - corner[0]),
        corner[1] + part(frac, vertical) * (other[1] - corner[1]),
      ];
    };
  }
}
