// Ratios with their intervals on a logarithmic axis, the band of what does not count behind each.

const FURTHEST = 8;

/** As far as ratios, limits and intervals go; one that goes very far ends at the edge, with an arrow. */
function forestDomain(rows) {
  const ends = rows.flatMap((row) => {
    const limit = 1 + row.limit * 1.6;
    return [row.ratio, limit, 1 / limit, ...[row.low, row.high].filter((end) => end && Math.max(end, 1 / end) < FURTHEST)];
  });
  return [Math.min(...ends) ** 1.12, Math.max(...ends) ** 1.12];
}

function ratioTicks([low, high], wanted) {
  const fine = [0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1, 1.02, 1.05, 1.1, 1.2, 1.5, 2, 3, 4, 5, 8, 10, 20];
  const inside = fine.filter((value) => value >= low && value <= high);
  const gap = Math.log(high / low) / wanted;
  const kept = [1];
  for (const value of inside.sort((a, b) => Math.abs(Math.log(b)) - Math.abs(Math.log(a)))) {
    if (kept.every((other) => Math.abs(Math.log(value / other)) >= gap)) kept.push(value);
  }
  return kept.sort((a, b) => a - b);
}

function forestRow(row, index, frame, x, [low, high]) {
  const middle = frame.barTop(index) + frame.bar / 2;
  const group = telling(svg('g', {class: `forest-row ${row.verdict}`, tabindex: 0}), [`${row.name}: ${row.verdict}`, row.told]);
  const inside = (value) => x(Math.min(high, Math.max(low, value)));
  const [from, to] = [row.low ?? 0, row.high ?? Infinity];
  group.append(
    svg('rect', {x: 0, y: middle - frame.bar / 2 - 5, width: frame.width, height: frame.bar + 10, class: 'target'}),
    svg('rect', {x: inside(1 / (1 + row.limit)), y: middle - frame.bar / 2 - 5, width: inside(1 + row.limit) - inside(1 / (1 + row.limit)),
      height: frame.bar + 10, class: 'allowed'}),
    svg('line', {x1: x(1), x2: x(1), y1: middle - frame.bar / 2 - 5, y2: middle + frame.bar / 2 + 5, class: 'unity'}),
    svg('line', {x1: inside(from), x2: inside(to), y1: middle, y2: middle, class: 'interval'}));
  if (from < low) group.append(svg('path', {d: `M${x(low) + 6} ${middle - 5}L${x(low)} ${middle}L${x(low) + 6} ${middle + 5}`, class: 'beyond'}));
  if (to > high) group.append(svg('path', {d: `M${x(high) - 6} ${middle - 5}L${x(high)} ${middle}L${x(high) - 6} ${middle + 5}`, class: 'beyond'}));
  group.append(svg('circle', {cx: inside(row.ratio), cy: middle, r: 5.5}));
  return group;
}

function drawForest(width) {
  const {rows} = data;
  const names = rows.map((row) => `${row.name} · ${row.figure}`);
  const told = rows.map((row) => `${fixed(row.ratio, 3)}`);
  const frame = rowsFrame(width, names, 16, 64);
  const domain = forestDomain(rows);
  const x = logarithmic(domain, [frame.left + 6, frame.right]);
  const drawing = canvas(width, frame.height, 'Candidate over baseline with its interval, per figure');
  drawing.append(bottomAxis(frame, x, ratioTicks(domain, width / 90), (value) => String(value), 'candidate ÷ baseline'));
  rows.forEach((row, index) => drawing.append(forestRow(row, index, frame, x, domain)));
  rows.forEach((row, index) => {
    const name = frame.name(index, names[index], told[index]);
    name.setAttribute('pointer-events', 'none');
    drawing.append(name);
    if (!frame.narrow) drawing.append(label(width - 2, frame.barTop(index) + frame.bar / 2 + 4, told[index], {'text-anchor': 'end', class: 'quiet figure'}));
  });
  return drawing;
}

function startComparisonForest() {
  if (data.rows.length) plot('forest-plot', drawForest);
}
