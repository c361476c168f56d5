// From the call to the last sample: when the consumer holds the first one, enough to play, and something to hear.

const MARKS = {'first sample': 'mark-0', 'first playable': 'mark-1', 'first audible': 'mark-2'};

function drawFirstAudio(width, rows) {
  const frame = rowsFrame(width, rows.map((row) => row.label), 16, 62);
  const domain = [0, Math.max(...rows.map((row) => row.wall))];
  const scale = linear(domain, [frame.left + 4, frame.right]);
  const drawing = canvas(width, frame.height, 'Time to first audio');
  const inMs = domain[1] < 1;
  drawing.append(bottomAxis(frame, scale, ticks(domain, width / 100),
    (value) => short(inMs ? value * 1e3 : value), `${inMs ? 'ms' : 's'} after the call`));
  rows.forEach((row, index) => {
    const middle = frame.barTop(index) + frame.bar / 2;
    const group = telling(svg('g', {class: 'first-audio', tabindex: 0}), [row.label,
      ...row.marks.map((mark) => `${mark.name}: ${seconds(mark.seconds)}`), `all of it: ${seconds(row.wall)}`,
      ...(row.streams ? [] : ['it does not stream: the first sample comes with the last'])]);
    group.append(
      svg('rect', {x: scale(0), y: middle - 2, width: Math.max(0, scale(row.wall) - scale(0)), height: 4, rx: 2, class: 'track'}),
      svg('rect', {x: 0, y: frame.barTop(index) - 4, width, height: frame.bar + 8, class: 'target'}),
      // The last of them first, so that the first one stands on top where they coincide.
      ...[...row.marks].reverse().map((mark) => svg('circle', {cx: scale(mark.seconds), cy: middle, r: 5.5, class: MARKS[mark.name]})),
      svg('line', {x1: scale(row.wall), x2: scale(row.wall), y1: middle - 8, y2: middle + 8, class: 'end'}));
    const words = seconds(row.marks[0]?.seconds ?? row.wall);
    drawing.append(group, frame.name(index, row.label, words));
    if (!frame.narrow) drawing.append(label(scale(row.wall) + 10, middle + 4, words, {class: 'quiet'}));
  });
  return drawing;
}

function startReportFirstAudio() {
  eachPoint('first-audio', (width, {first_audio: rows}) =>
    rows.length ? drawFirstAudio(width, rows) : svg('svg', {width, height: 0}));
}
