// Speed against memory, the mark saying what the output is worth; lines along those that nobody beats in both.

const OUTPUTS = {same: 'keeps the output', changes: 'changes the output by design', fails: 'quality failed'};

function placeShape(place, x, y) {
  if (place.output === 'fails') return svg('path', {d: `M${x - 5} ${y - 5}L${x + 5} ${y + 5}M${x + 5} ${y - 5}L${x - 5} ${y + 5}`});
  return svg('circle', {cx: x, cy: y, r: 6});
}

function placeHint(place) {
  const range = ([low, middle, high], axis) =>
    `${inUnit(axis)(middle)} (${inUnit(axis)(low)} to ${inUnit(axis)(high)}) ${axis.label}`;
  return [place.label + (place.baseline ? ', the baseline' : ''), range(place.speed, data.speed),
    range(place.memory, data.memory), OUTPUTS[place.output], place.quality];
}

/** Down and to the right, from one that is fast to one that needs less memory. */
function frontPath(labels, places, x, y, frame) {
  const line = labels.map((name) => places.find((place) => place.label === name));
  const steps = line.map((place, index) =>
    `${index ? `H${x(place.speed[1])}` : `M${x(place.speed[1])} ${frame.top}`}V${y(place.memory[1])}`);
  return `${steps.join('')}H${frame.right}`;
}

function drawPlaces(width, {places, fronts}) {
  const height = Math.round(Math.min(340, Math.max(300, width * 0.4)));
  const frame = {width, height, left: 58, right: width - 14, top: 30, bottom: height - 48};
  const [across, upwards] = [airy(places.flatMap((place) => place.speed)), airy(places.flatMap((place) => place.memory), 0.18)];
  const x = linear(across, [frame.left, frame.right]);
  const y = linear(upwards, [frame.bottom, frame.top]);
  const drawing = canvas(width, height, `${data.speed.label} against ${data.memory.label}: lower left is better`);
  drawing.append(axes(frame,
    {scale: x, ...scaledTicks(across, data.speed, width / 90), title: `${data.speed.label} (left is faster)`},
    {scale: y, ...scaledTicks(upwards, data.memory, 6), title: `${data.memory.label} (lower needs less)`}));
  for (const [kind, labels] of Object.entries(fronts)) {
    if (labels.length) drawing.append(svg('path', {d: frontPath(labels, places, x, y, frame), class: `front ${kind}`}));
  }
  const placed = places.map((place) => ({place, at: [x(place.speed[1]), y(place.memory[1])]}));
  const taken = placed.map(({at: [left, top]}) => [left - 8, top - 8, left + 8, top + 8]);
  for (const {place, at} of placed) {
    const group = telling(svg('g', {class: `place ${place.output}`, tabindex: 0}), placeHint(place));
    group.append(
      svg('line', {x1: x(place.speed[0]), x2: x(place.speed[2]), y1: at[1], y2: at[1], class: 'range'}),
      svg('line', {x1: at[0], x2: at[0], y1: y(place.memory[0]), y2: y(place.memory[2]), class: 'range'}),
      placeShape(place, ...at));
    const room = roomFor(fitted(place.label, 190), ...at, frame, taken);
    if (room) group.append(label(room[0], room[1], fitted(place.label, 190), {'text-anchor': room[2], class: 'place-name'}));
    drawing.append(group);
  }
  return drawing;
}

function startReportPlaces() {
  eachPoint('places', (width, point) => point.places.length ? drawPlaces(width, point) : svg('svg', {width, height: 0}));
}
