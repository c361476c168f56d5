// What the plots of runs and comparisons share: rows with names, names that fit, a plot per point of the matrix.

const LETTER = 7.2;
const NARROW = 560;

/** A name as far as there is room for it; pointing at it tells the rest. */
const fitted = (text, room) => {
  const letters = Math.max(4, Math.floor(room / LETTER));
  return text.length <= letters ? text : `${text.slice(0, letters - 1)}…`;
};

/** Rows below each other, `bar` high, names to the left or, where it is narrow, above. */
function rowsFrame(width, names, bar, beside = 0) {
  const narrow = width < NARROW;
  const longest = Math.max(...names.map((name) => name.length), 4);
  const left = narrow ? 2 : Math.min(width * 0.28, longest * LETTER + 20);
  const row = bar + (narrow ? 30 : 14);
  return {
    width, narrow, row, bar, left, top: 8, right: width - (narrow ? 8 : 12 + beside), bottom: 8 + names.length * row,
    height: 8 + names.length * row + 46,
    barTop: (index) => 8 + index * row + (narrow ? 22 : 7),
    name: (index, text, words = '') => {
      const group = svg('g', {});
      const y = narrow ? 8 + index * row + 15 : 8 + index * row + row / 2 + 4;
      group.append(label(narrow ? 2 : 0, y, fitted(text, narrow ? width - words.length * 6.6 - 16 : left - 12), {class: 'name'}));
      if (narrow && words) group.append(label(width - 4, y, words, {'text-anchor': 'end', class: 'quiet'}));
      return group;
    },
  };
}

/** Grid and figures along the bottom. */
function bottomAxis(frame, scale, values, text, title) {
  return axes(frame, {scale, ticks: values, text, title}, {scale: () => 0, ticks: [], title: ''});
}

/** One plot for each point, in boxes `prefix-0`, `prefix-1` and so on; hands back what draws them all anew. */
function eachPoint(prefix, draw) {
  const redraws = data.points.map((point, index) => plot(`${prefix}-${index}`, (width) => draw(width, point)));
  return () => redraws.forEach((redraw) => redraw());
}

/** Ticks of a figure that is kept in another unit than it is shown in, and words fine enough to tell them apart. */
function scaledTicks([low, high], axis, wanted) {
  const found = ticks([low * axis.scale, high * axis.scale], wanted);
  const step = found.length > 1 ? found[1] - found[0] : found[0] || 1;
  const digits = Math.max(0, Math.min(6, Math.ceil(-Math.log10(step) - 1e-9)));
  return {ticks: found.map((tick) => tick / axis.scale), text: (value) => fixed(value * axis.scale, digits)};
}

const inUnit = (axis) => (value) => short(value * axis.scale);

/** A domain with some air around it; from zero where the values come near. */
function airy(values, share = 0.08) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const air = (high - low || high || 1) * share;
  return [Math.max(0, low - air), high + air];
}

/** Where a name fits beside a point without touching what is taken, as [x, y, anchor]; nothing where it does not. */
function roomFor(name, x, y, frame, taken) {
  const size = name.length * LETTER;
  const tries = [
    [x + 11, y + 4, 'start'], [x - 11, y + 4, 'end'], [x, y - 12, 'middle'], [x, y + 21, 'middle'],
    [x + 9, y - 11, 'start'], [x - 9, y - 11, 'end'], [x + 9, y + 19, 'start'], [x - 9, y + 19, 'end'],
  ];
  for (const [at, base, anchor] of tries) {
    const left = anchor === 'start' ? at : anchor === 'end' ? at - size : at - size / 2;
    const box = [left - 2, base - 12, left + size + 2, base + 4];
    const inside = box[0] >= frame.left && box[2] <= frame.width && box[1] >= frame.top - 8 && box[3] <= frame.bottom;
    const free = taken.every(([l, t, r, b]) => box[2] < l || box[0] > r || box[3] < t || box[1] > b);
    if (inside && free) {
      taken.push(box);
      return [at, base, anchor];
    }
  }
  return undefined;
}

function startCharts() {}
