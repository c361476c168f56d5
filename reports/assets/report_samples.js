// Every call of every process: one lane a process, its median a line, outliers rings.

const LANE = 15;

function drawSamples(width, {samples}) {
  const narrow = width < NARROW;
  const left = narrow ? 2 : Math.min(width * 0.28, Math.max(...samples.map(({label: name}) => name.length)) * LETTER + 20);
  const head = narrow ? 20 : 0;
  const heights = samples.map(({processes}) => head + Math.max(processes.length * LANE, 20) + 12);
  const bottom = 8 + heights.reduce((sum, height) => sum + height, 0);
  const frame = {width, left, right: width - 14, top: 8, bottom, height: bottom + 46};
  const values = samples.flatMap(({processes}) => processes.flatMap(({calls}) => calls.map((call) => call.value)));
  const domain = airy(values.length ? values : [0, 1], 0.04);
  const scale = linear(domain, [frame.left + 8, frame.right - 4]);
  const drawing = canvas(width, frame.height, `Every sample of ${data.speed.label}`);
  const {ticks: marked, text} = scaledTicks(domain, data.speed, width / 90);
  drawing.append(bottomAxis(frame, scale, marked, text, data.speed.label));
  let top = 8;
  samples.forEach((stack, row) => {
    if (row) drawing.append(svg('line', {x1: 0, x2: width, y1: top, y2: top, class: 'grid'}));
    drawing.append(label(narrow ? 2 : 0, narrow ? top + 15 : top + heights[row] / 2 + 4,
      fitted(stack.label, narrow ? width : left - 12), {class: 'name'}));
    stack.processes.forEach((process, number) => drawing.append(lane(process, stack.label, top + head + 6 + (number + 0.5) * LANE, scale)));
    top += heights[row];
  });
  return drawing;
}

function lane(process, stack, middle, scale) {
  const group = svg('g', {class: process.void ? 'lane void' : 'lane'});
  const said = [stack, `process ${process.number}${process.void ? `, void: ${process.void}` : ''}`];
  process.calls.forEach((call, index) => {
    const dot = svg('circle', {cx: scale(call.value), cy: middle + (index % 3 - 1) * 2.6, r: call.odd ? 3.6 : 3,
      class: call.odd ? 'sample odd' : 'sample'});
    group.append(telling(dot, [`${inUnit(data.speed)(call.value)} ${data.speed.label}${call.odd ? ', an outlier' : ''}`,
      ...said, `text ${call.text + 1}`]));
  });
  if (process.middle !== null) {
    const at = scale(process.middle);
    const tick = svg('line', {x1: at, x2: at, y1: middle - LANE / 2 + 1, y2: middle + LANE / 2 - 1, class: 'middle'});
    group.append(telling(tick, [`${inUnit(data.speed)(process.middle)} ${data.speed.label}, the median`, ...said]));
  }
  return group;
}

function startReportSamples() {
  eachPoint('samples', (width, point) => point.samples.length ? drawSamples(width, point) : svg('svg', {width, height: 0}));
}
