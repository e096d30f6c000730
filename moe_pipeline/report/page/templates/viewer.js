"use strict";
// One case at a time in NiiVue: its image, and above it prediction, reference, their difference, and the clicks.
(() => {
  const known = document.getElementById("cases");
  const panel = document.querySelector(".viewer");
  if (!known || !panel || typeof niivue === "undefined") return;
  const { cases, classes, palette } = JSON.parse(known.textContent);
  const canvas = document.getElementById("canvas");
  const place = document.getElementById("place");
  const find = (id) => document.getElementById(id);
  const AGREE = 1, MISSED = 2, EXTRA = 3, OTHER = 4;
  const DIFFERENCE = { R: [0, 60, 255, 214, 240], G: [0, 120, 214, 39, 240], B: [0, 200, 0, 160, 240], A: [0, 150, 255, 255, 255], I: [0, 1, 2, 3, 4], labels: ["", "agree", "missed", "too much", "another class"] };
  const CLICKS = { R: [0, 255, 255], G: [0, 255, 255], B: [0, 255, 255], A: [0, 255, 255], I: [0, 1, 2], labels: ["", "click inside", "click outside"] };
  const viewer = new niivue.Niivue({
    backColor: [0, 0, 0, 1], crosshairColor: [0.45, 0.75, 1, 0.6], crosshairWidth: 0.25, show3Dcrosshair: true, isOrientationTextVisible: true,
    loadingText: "", logLevel: "error", multiplanarShowRender: 1, multiplanarLayout: 2, tileMargin: 2, dragMode: 1, isRadiologicalConvention: true, textHeight: 0.045, fontMinPx: 11,
  });
  let current = null, layers = {}, busy = Promise.resolve();

  const colours = (highest) => {
    const map = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
    for (let value = 1; value <= highest; value += 1) {
      const colour = palette[(value - 1) % palette.length];
      map.R.push(colour[0]); map.G.push(colour[1]); map.B.push(colour[2]); map.A.push(255); map.I.push(value);
      map.labels.push(classes[value] ?? `class ${value}`);
    }
    return map;
  };
  const load = (id, name) => niivue.NVImage.loadFromBase64({ base64: find(id).textContent, name: `${name}.nii.gz` });
  const highest = (array) => { let most = 1; for (const value of array) if (value > most) most = value; return most; };
  const filled = (like, values, map) => {
    const image = like.clone();
    image.id = `${Math.random()}`;
    image.img = values;
    image.hdr.datatypeCode = 2; image.hdr.numBitsPerVoxel = 8; image.hdr.scl_slope = 1; image.hdr.scl_inter = 0;
    image.setColormapLabel(map);
    return image;
  };
  const difference = (prediction, reference) => {
    const found = new Uint8Array(prediction.length);
    for (let n = 0; n < found.length; n += 1) {
      const p = prediction[n], r = reference[n];
      if (p || r) found[n] = p === r ? AGREE : !p ? MISSED : !r ? EXTRA : OTHER;
    }
    return found;
  };
  const drawClicks = (like, clicks) => {
    const [, nx, ny, nz] = like.hdr.dims;
    const found = new Uint8Array(nx * ny * nz);
    for (const click of clicks) {
      const at = like.mm2vox([...click.mm], false).map((v) => Math.round(v));
      const reach = Math.max(1, Math.round(2 / Math.min(...like.hdr.pixDims.slice(1, 4))));
      for (let step = -reach; step <= reach; step += 1) {
        const arms = click.inside ? [[step, 0, 0], [0, step, 0], [0, 0, step]] : [[step, 0, 0]];
        for (const [dx, dy, dz] of arms) {
          const x = at[0] + dx, y = at[1] + dy, z = at[2] + dz;
          if (x >= 0 && y >= 0 && z >= 0 && x < nx && y < ny && z < nz) found[x + nx * (y + ny * z)] = click.inside ? 1 : 2;
        }
      }
    }
    return found;
  };

  const wanted = () => document.querySelector('input[name="overlay"]:checked').value;
  const redraw = () => { // one upload for whatever has changed
    if (!layers.image) return;
    const opacity = Number(find("opacity").value) / 100, shown = wanted(), volumes = [layers.image];
    viewer.overlayOutlineWidth = find("outline").checked ? 0.35 : 0;
    if (layers[shown] && opacity > 0) { layers[shown].opacity = opacity; volumes.push(layers[shown]); }
    if (layers.clicks && find("clicks").checked) volumes.push(layers.clicks);
    document.querySelector(".of-classes").hidden = shown === "difference";
    document.querySelector(".of-difference").hidden = shown !== "difference";
    document.querySelector(".of-clicks").hidden = !find("clicks").checked || !layers.clicks;
    viewer.volumes = volumes; viewer.back = volumes[0]; viewer.overlays = volumes.slice(1);
    viewer.updateGLVolume();
  };
  const tellWindow = () => {
    const { cal_min: low, cal_max: high } = layers.image;
    find("level").value = Number(((low + high) / 2).toPrecision(5)); find("width").value = Number((high - low).toPrecision(5));
  };
  const setWindow = (low, high) => {
    if (!layers.image || !(high > low)) return;
    layers.image.cal_min = low; layers.image.cal_max = high;
    tellWindow(); redraw();
  };
  const moveTo = (mm) => { viewer.scene.crosshairPos = viewer.mm2frac([...mm]); viewer.drawScene(); viewer.createOnLocationChange(); };

  const tell = (location) => {
    if (!current) return;
    const [, nx, ny, nz] = layers.image.hdr.dims;
    const [x, y, z] = layers.image.mm2vox([...location.mm].slice(0, 3), false).map((v) => Math.round(v));
    const inside = x >= 0 && y >= 0 && z >= 0 && x < nx && y < ny && z < nz, at = x + nx * (y + ny * z);
    const named = (layer) => { const value = inside ? layer.img[at] : 0; return value ? classes[value] ?? `class ${value}` : "nothing"; };
    const parts = [`${[...location.mm].slice(0, 3).map((v) => v.toFixed(0)).join(", ")} mm`, `intensity ${Number(location.values[0].value.toPrecision(4))}`];
    for (const name of ["prediction", "reference"]) if (layers[name]) parts.push(`${name}: ${named(layers[name])}`);
    place.textContent = parts.join("  ·  ");
    for (const slider of document.querySelectorAll(".slice")) slider.value = 100 * viewer.scene.crosshairPos[Number(slider.dataset.axis)];
    if (document.activeElement !== find("level") && document.activeElement !== find("width")) tellWindow();
  };

  const show = async (key) => {
    const scan = cases[key];
    panel.hidden = !scan;
    if (!scan) return;
    const { image: imageId, ...maps } = scan.volumes;
    const next = { image: await load(imageId, "image") };
    for (const [name, id] of Object.entries(maps)) {
      next[name] = await load(id, name);
      next[name].setColormapLabel(colours(highest(next[name].img)));
    }
    if (next.prediction && next.reference) next.difference = filled(next.prediction, difference(next.prediction.img, next.reference.img), DIFFERENCE);
    const like = next.prediction ?? next.reference;
    if (like && scan.clicks.length) next.clicks = filled(like, drawClicks(next.image, scan.clicks), CLICKS);
    layers = next; current = key;
    document.querySelector(".ct").hidden = !scan.looksLikeCt;
    setWindow(...scan.window);
    moveTo(scan.centre);
    document.documentElement.dataset.shown = key;
  };
  const choose = (key) => {
    for (const row of document.querySelectorAll("tr[data-case]")) row.toggleAttribute("aria-current", row.dataset.case === key);
    for (const one of document.querySelectorAll(".one")) one.classList.toggle("open", one.dataset.case === key);
    busy = busy.then(() => show(key)).catch((error) => { place.textContent = `This case cannot be shown: ${error.message}`; throw error; });
  };

  const LAYOUTS = { all: viewer.sliceTypeMultiplanar, axial: viewer.sliceTypeAxial, coronal: viewer.sliceTypeCoronal, sagittal: viewer.sliceTypeSagittal, render: viewer.sliceTypeRender };
  const start = async () => {
    panel.hidden = false;
    await viewer.attachToCanvas(canvas);
    viewer.setSliceType(viewer.sliceTypeMultiplanar);
    viewer.onLocationChange = tell;
    const rows = [...document.querySelectorAll("tr[data-case]")];
    for (const row of rows) row.addEventListener("click", () => choose(row.dataset.case));
    for (const radio of document.querySelectorAll('input[name="overlay"]')) radio.addEventListener("change", redraw);
    for (const radio of document.querySelectorAll('input[name="layout"]')) radio.addEventListener("change", () => viewer.setSliceType(LAYOUTS[radio.value]));
    for (const id of ["opacity", "outline", "clicks"]) find(id).addEventListener("input", redraw);
    for (const slider of document.querySelectorAll(".slice")) {
      slider.addEventListener("input", () => { viewer.scene.crosshairPos[Number(slider.dataset.axis)] = Number(slider.value) / 100; viewer.drawScene(); viewer.createOnLocationChange(); });
    }
    const typed = () => { const level = Number(find("level").value), width = Number(find("width").value); setWindow(level - width / 2, level + width / 2); };
    find("level").addEventListener("change", typed); find("width").addEventListener("change", typed);
    for (const preset of document.querySelectorAll(".ct button")) {
      preset.addEventListener("click", () => setWindow(preset.dataset.level - preset.dataset.width / 2, Number(preset.dataset.level) + preset.dataset.width / 2));
    }
    find("reset").addEventListener("click", () => { if (!current) return; setWindow(...cases[current].window); moveTo(cases[current].centre); });
    if (rows.length) choose(rows[0].dataset.case);
  };
  start().catch((error) => { place.textContent = `The viewer cannot start: ${error.message}`; });
})();
