// Bars of parts that add up: the stages of an utterance, the rungs of a cold start.

const RUNGS = ['start', 'import', 'load', 'voice', 'apply', 'first call'];
const rungColour = (name) => `var(--rung-${Math.max(0, RUNGS.indexOf(name))})`;
const seconds = (value) => value < 1 ? `${short(value * 1e3)} ms` : `${fixed(value, 2)} s`;

const lengthOf = (row) => row.parts.reduce((sum, part) => sum + part.seconds, 0);
// Of a stream stages run side by side, and take more than the wall between them.
const tellLength = (row) => lengthOf(row) > 1.005 * row.wall ? `${seconds(lengthOf(row))} in ${seconds(row.wall)}` : seconds(row.wall);

function drawBars(width, rows, colour, description) {
  const told = rows.map(tellLength);
  const frame = rowsFrame(width, rows.map((row) => row.label), 22, Math.max(...told.map((words) => words.length)) * 6.8);
  const domain = [0, Math.max(...rows.map(lengthOf))];
  const scale = linear(domain, [frame.left, frame.right]);
  const drawing = canvas(width, frame.height, description);
  const inMs = domain[1] < 1;
  drawing.append(bottomAxis(frame, scale, ticks(domain, width / 100),
    (value) => short(inMs ? value * 1e3 : value), inMs ? 'ms' : 's'));
  rows.forEach((row, index) => {
    drawing.append(frame.name(index, row.label, told[index]));
    let at = 0;
    for (const part of row.parts) {
      const [from, to] = [scale(at), scale(at + part.seconds)];
      const share = percent(part.seconds / lengthOf(row));
      const group = telling(svg('g', {class: 'part', tabindex: 0}), [part.name, `${seconds(part.seconds)}, ${share}`, row.label]);
      group.append(svg('rect', {x: from, y: frame.barTop(index), width: Math.max(to - from - 0.7, 0.4), height: frame.bar,
        rx: 2, fill: colour(part.name)}));
      if (part.name.length * LETTER + 12 < to - from) {
        group.append(label(from + 7, frame.barTop(index) + 15.5, part.name, {class: 'on-colour'}));
      }
      drawing.append(group);
      at += part.seconds;
    }
    if (!frame.narrow) drawing.append(label(scale(at) + 8, frame.barTop(index) + 15.5, told[index], {class: 'quiet'}));
  });
  return drawing;
}

function startReportBars() {
  const clock = () => document.querySelector('input[name=clock]:checked')?.value ?? 'host';
  const nothing = (width) => svg('svg', {width, height: 0});
  const redraw = eachPoint('stages', (width, point) => {
    const rows = point.stages[clock()];
    return rows.length ? drawBars(width, rows, stageColour, 'Stages of an utterance, one after the other') : nothing(width);
  });
  document.querySelectorAll('input[name=clock]').forEach((choice) => choice.addEventListener('change', redraw));
  eachPoint('ladder', (width, point) => point.ladder.length
    ? drawBars(width, point.ladder, rungColour, 'A cold start, up to the end of its first call') : nothing(width));
}
