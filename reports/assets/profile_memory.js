// What was allocated along the window, and what the peak is made of.

function timelineFrame(width, height) {
  return {width, height, left: 58, right: width - 12, top: 28, bottom: height - 46};
}

const inMilliseconds = (seconds) => short(seconds * 1e3);

function drawMemory(width) {
  const points = data.memory.timeline;
  const frame = timelineFrame(width, 280);
  const span = [points[0].seconds, points.at(-1).seconds];
  const top = Math.max(...points.map((point) => point.bytes)) / 2 ** 20;
  const x = linear(span, [frame.left, frame.right]);
  const y = linear([0, top * 1.08 || 1], [frame.bottom, frame.top]);
  const drawing = canvas(width, frame.height, 'Memory allocated along the window');
  drawing.append(axes(frame,
    {scale: x, ticks: ticks(span, width / 110), text: inMilliseconds, title: 'ms of the window'},
    {scale: y, ticks: ticks([0, top * 1.08 || 1], 5), text: short, title: 'MiB allocated'}));
  const steps = points.map((point, index) => {
    const height = y(point.bytes / 2 ** 20);
    return `${index ? 'H' : 'M'}${x(point.seconds)}${index ? `V${height}` : ` ${height}`}`;
  }).join('');
  drawing.append(
    svg('path', {d: `${steps}V${frame.bottom}H${frame.left}Z`, class: 'area'}),
    svg('path', {d: steps, class: 'line'}));
  points.forEach((point, index) => {
    const from = x(point.seconds);
    const to = index + 1 < points.length ? x(points[index + 1].seconds) : frame.right;
    drawing.append(svg('rect', {x: from, y: frame.bottom - 4, width: Math.max(0, to - from), height: 4,
      fill: stageColour(point.stage)}));
  });
  return followed(drawing, frame, points, x, y);
}

/** A line that follows the pointer and says what stands under it. */
function followed(drawing, frame, points, x, y) {
  const target = svg('rect', {x: frame.left, y: frame.top, width: frame.right - frame.left,
    height: frame.bottom - frame.top, class: 'target'});
  const line = svg('line', {y1: frame.top, y2: frame.bottom, class: 'cursor', visibility: 'hidden'});
  const dot = svg('circle', {r: 4, class: 'cursor-dot', visibility: 'hidden'});
  // Before the document hears of it, so that the tooltip is of this place.
  target.addEventListener('pointermove', (event) => {
    const at = event.clientX - drawing.getBoundingClientRect().left;
    const index = Math.max(0, points.findLastIndex((point) => x(point.seconds) <= at));
    const point = points[index];
    line.setAttribute('x1', at);
    line.setAttribute('x2', at);
    dot.setAttribute('cx', at);
    dot.setAttribute('cy', y(point.bytes / 2 ** 20));
    for (const mark of [line, dot]) mark.setAttribute('visibility', 'visible');
    target.dataset.hint = `${fixed(point.bytes / 2 ** 20, 1)} MiB\n${milliseconds(point.seconds)}, ${point.stage}`;
  });
  target.addEventListener('pointerleave', () => {
    for (const mark of [line, dot]) mark.setAttribute('visibility', 'hidden');
  });
  drawing.append(line, dot, target);
  return drawing;
}

function drawBreakdown(width) {
  return strip(width, data.memory.parts.map((part, index) => ({
    name: part.name,
    value: part.bytes,
    colour: `var(--part-${index % 5})`,
    hint: [part.name, `${fixed(part.bytes / 2 ** 20, 1)} MiB`],
  })), 'What the peak of the memory is made of');
}

function startProfileMemory() {
  if (data.memory?.timeline.length) plot('memory-plot', drawMemory);
  if (data.memory?.parts.length) plot('breakdown-plot', drawBreakdown);
}
