// Where the wall goes: one strip of all stages, then each stage's time on the device or the host.

const STATES = [
  ['busy', 'device busy'],
  ['wait', 'device waits for the host to launch'],
  ['idle', 'device otherwise idle'],
  ['host', 'host only'],
];

function drawShares(width) {
  return strip(width, data.stages.map((stage) => ({
    name: stage.name,
    value: stage.unprofiled,
    colour: stageColour(stage.name),
    hint: [stage.name, `${percent(stage.share)} of the wall`, milliseconds(stage.unprofiled)],
  })), 'Share of each stage in the wall, without the profiler');
}

function stateSeconds(stage) {
  const device = stage.busy + stage.idle;
  return {busy: stage.busy, wait: stage.wait, idle: stage.idle - stage.wait, host: stage.busy ? 0 : Math.max(0, stage.wall - device)};
}

function drawStages(width) {
  const narrow = width < 560;
  const [row, bar, left, right] = narrow ? [46, 18, 0, 0] : [34, 20, 118, 176];
  const lengths = data.stages.map((stage) => (stage.busy ? stage.busy + stage.idle : stage.wall));
  const scale = linear([0, Math.max(...lengths, 1e-9)], [0, width - left - right]);
  const drawing = canvas(width, data.stages.length * row, 'Device busy, waiting and idle per stage');
  data.stages.forEach((stage, index) => {
    const states = stateSeconds(stage);
    const total = lengths[index] || 1;
    const top = index * row + (narrow ? 22 : (row - bar) / 2);
    const said = STATES.filter(([state]) => states[state] > 0).map(([state, words]) =>
      `${words}: ${milliseconds(states[state])}, ${percent(states[state] / total)}`);
    const group = withHint(svg('g', {class: 'stage', tabindex: 0}), [stage.name, ...said]);
    group.append(svg('rect', {x: 0, y: index * row, width, height: row, class: 'target'}));
    let at = left;
    for (const [state] of STATES) {
      const size = scale(states[state]);
      if (size > 0) group.append(svg('rect', {x: at, y: top, width: size, height: bar, class: `state-${state}`}));
      at += size;
    }
    const told = data.on_gpu && stage.busy + stage.idle > 0
      ? `busy ${percent(stage.busy / (stage.busy + stage.idle))}` : data.on_gpu ? 'no device work' : '';
    const words = [milliseconds(stage.wall), told].filter(Boolean).join(' · ');
    const name = narrow ? {x: 0, y: top - 6} : {x: 16, y: top + 15};
    group.append(
      svg('rect', {x: 0, y: name.y - 9, width: 9, height: 9, rx: 2, fill: stageColour(stage.name)}),
      label(narrow ? 15 : name.x, name.y, stage.name, {class: 'name'}),
      narrow ? label(width, name.y, words, {'text-anchor': 'end', class: 'quiet'})
        : label(at + 8, top + 15, words, {class: 'quiet'}));
    drawing.append(group);
  });
  return drawing;
}

function startProfileStages() {
  plot('shares-plot', drawShares);
  plot('stages-plot', drawStages);
}
