// The colour of a class: as far as can be from those of its neighbours, and always the same.

const FIRST = [[64, 170, 255], [255, 170, 64], [95, 220, 120], [240, 95, 150], [175, 130, 255], [240, 225, 85], [70, 220, 215], [255, 120, 95]];

export function colour(id) {
  if (id <= FIRST.length) return FIRST[id - 1];
  const hue = (id * 137.508) % 360;
  const channel = (shift) => {
    const k = (shift + hue / 30) % 12;
    return Math.round(255 * (0.62 - 0.33 * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [channel(0), channel(8), channel(4)];
}

export function css(id) {
  return `rgb(${colour(id).join(" ")})`;
}
