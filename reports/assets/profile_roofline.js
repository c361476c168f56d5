// Operations per second over operations per byte, both logarithmic, under what this machine did in the same run.

function rooflineFrame(width) {
  const height = Math.round(Math.min(540, Math.max(340, width * 0.58)));
  return {width, height, left: 58, right: width - 12, top: 34, bottom: height - 46};
}

function rooflineDomains({bandwidth, ceilings, points}, narrow) {
  const rates = ceilings.map((ceiling) => ceiling.rate);
  // Right of the highest ridge the ceilings need room for their names.
  const ridges = rates.map((rate) => rate / bandwidth * (narrow ? 12 : 3));
  const xs = [...points.map((point) => point.intensity), ...ridges];
  const ys = [...points.map((point) => point.rate), ...rates];
  const wide = (values) => [Math.min(...values) / 2.5, Math.max(...values) * 2.5];
  return [wide(xs), wide(ys)];
}

function drawCeilings(frame, [xLow, xHigh], yDomain, x, y) {
  const {bandwidth, ceilings, dtype} = data.roofline;
  const group = svg('g', {class: 'ceilings'});
  const highest = Math.max(...ceilings.map((ceiling) => ceiling.rate));
  const start = Math.max(xLow, yDomain[0] / bandwidth);
  const ridge = Math.min(xHigh, highest / bandwidth);
  const ends = [x(start), y(start * bandwidth), x(ridge), y(ridge * bandwidth)];
  group.append(svg('line', {x1: ends[0], y1: ends[1], x2: ends[2], y2: ends[3], class: 'ceiling chosen'}));
  const angle = Math.atan2(ends[3] - ends[1], ends[2] - ends[0]) * 180 / Math.PI;
  const middle = [ends[0] + (ends[2] - ends[0]) * 0.42, ends[1] + (ends[3] - ends[1]) * 0.42];
  group.append(label(middle[0], middle[1] - 7, `copy ${count(bandwidth / 1e9)} GB/s`, {
    class: 'ceiling-name', transform: `rotate(${angle} ${middle[0]} ${middle[1]})`, 'text-anchor': 'middle'}));
  let above = Infinity;
  for (const ceiling of [...ceilings].sort((a, b) => a.rate - b.rate)) {
    const at = y(ceiling.rate);
    const chosen = ceiling.name === dtype ? ' chosen' : '';
    group.append(svg('line',
      {x1: x(ceiling.rate / bandwidth), x2: frame.right, y1: at, y2: at, class: `ceiling${chosen}`}));
    const name = `${ceiling.name} ${short(ceiling.rate / 1e12)} TFLOP/s`;
    const room = frame.right - x(ceiling.rate / bandwidth);
    // Names over each other or over the slope cannot be read; the notes below the table have them all.
    if (above - at < 15 || (room < name.length * 6.9 + 24 && !chosen)) continue;
    above = at;
    group.append(label(frame.right - 2, at - 5, name,
      {class: 'ceiling-name', 'text-anchor': 'end'}));
  }
  return group;
}

function pointShape(point, cx, cy) {
  const fill = stageColour(point.stage);
  if (point.kind === 'stage') return svg('circle', {cx, cy, r: 7, fill});
  return svg('path', {d: `M${cx} ${cy - 6}L${cx + 5.5} ${cy}L${cx} ${cy + 6}L${cx - 5.5} ${cy}Z`, fill});
}

function pointHint(point) {
  return [
    point.name,
    `${point.kind}${point.kind === 'kernel' ? ` in ${point.stage}` : ''}, ${point.bound}-bound`,
    `${percent(point.limit)} of the limit`,
    `${milliseconds(point.measured)} measured, floor ${milliseconds(point.floor)}`,
    `${short(point.intensity)} FLOP/byte, ${short(point.rate / 1e12)} TFLOP/s`,
  ];
}

/** Points to name: all stages, and of kernels that share a name the dearest, few where there is little room. */
function namedPoints(frame, placed) {
  const kernels = new Map();
  for (const entry of placed) {
    if (entry.point.kind !== 'stage' && !kernels.has(entry.point.name)) kernels.set(entry.point.name, entry);
  }
  const room = Math.max(0, Math.round((frame.width - 400) / 90));
  return [...placed.filter(({point}) => point.kind === 'stage'), ...[...kernels.values()].slice(0, room)];
}

/** Names beside points, each where it covers neither a point nor another name; it is left out if it must. */
function placeNames(frame, placed, taken) {
  const boxes = [...placed.map(({cx, cy}) => [cx - 7, cy - 7, cx + 7, cy + 7]), ...taken];
  const clear = (box) => box[0] >= frame.left && box[2] <= frame.right + 8 && box[1] >= frame.top - 6
    && box[3] <= frame.bottom && !boxes.some((other) =>
    box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1]);
  const names = svg('g', {class: 'names', 'aria-hidden': 'true'});
  for (const {point, cx, cy} of namedPoints(frame, placed)) {
    const text = point.name.length > 30 ? `${point.name.slice(0, 29)}…` : point.name;
    const size = text.length * 6.9;
    const places = [[cx + 11, cy - 7], [cx - 11 - size, cy - 7], [cx - size / 2, cy - 24], [cx - size / 2, cy + 10],
      [cx + 9, cy - 22], [cx + 9, cy + 8], [cx - 9 - size, cy - 22], [cx - 9 - size, cy + 8]];
    const found = places.find(([left, top]) => clear([left, top, left + size, top + 14]));
    if (!found) continue;
    boxes.push([found[0], found[1], found[0] + size, found[1] + 14]);
    const looks = point.kind === 'stage' ? 'point-name' : 'point-name quiet';
    names.append(label(found[0], found[1] + 11, text, {class: looks}));
  }
  return names;
}

function drawRoofline(width) {
  const frame = rooflineFrame(width);
  const domains = rooflineDomains(data.roofline, width < 560);
  const x = logarithmic(domains[0], [frame.left, frame.right]);
  const y = logarithmic(domains[1], [frame.bottom, frame.top]);
  const drawing = canvas(width, frame.height, 'Roofline: operations per second over operations per byte');
  drawing.append(
    axes(frame,
      {scale: x, ticks: decades(domains[0], width / 90), text: short, title: 'operations per byte'},
      {scale: y, ticks: decades(domains[1], 8), text: (rate) => short(rate / 1e12), title: 'TFLOP/s'}),
    drawCeilings(frame, ...domains, x, y));
  const placed = data.roofline.points.map((point) => ({point, cx: x(point.intensity), cy: y(point.rate)}));
  // The smallest are drawn last, and stages above kernels, so that none is hidden.
  const order = [...placed].sort((a, b) => (a.point.kind === 'stage') - (b.point.kind === 'stage'));
  for (const {point, cx, cy} of order) {
    const group = withHint(svg('g', {class: `point ${point.kind}`, tabindex: 0}), pointHint(point));
    group.append(pointShape(point, cx, cy));
    drawing.append(group);
  }
  const taken = data.roofline.ceilings.map((ceiling) => {
    const at = y(ceiling.rate);
    return [frame.right - 140, at - 18, frame.right, at + 2];
  });
  drawing.append(placeNames(frame, placed, taken));
  return drawing;
}

function startProfileRoofline() {
  if (data.roofline?.points.length) plot('roofline-plot', drawRoofline);
}
