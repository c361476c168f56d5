// What all plots share: SVG elements, scales, ticks, the tooltip, drawing anew when the width changes.

const data = JSON.parse(document.getElementById('data').textContent);
const fixed = (value, digits) =>
  value.toLocaleString('en-US', {minimumFractionDigits: digits, maximumFractionDigits: digits});
const count = (value) => fixed(value, 0);
const milliseconds = (seconds) => `${fixed(seconds * 1e3, seconds < 1e-3 ? 3 : seconds < 1 ? 2 : 0)} ms`;
const percent = (share) => `${fixed(share * 100, 1)}%`;
const short = (value) => Number(value.toPrecision(3)).toLocaleString('en-US', {maximumSignificantDigits: 3});
const stageColour = (stage) => `var(--stage-${data.colours[stage] ?? 'other'})`;

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function label(x, y, text, attributes = {}) {
  return svg('text', {x, y, ...attributes}, text);
}

/** Draws into a box, and again whenever its width changes. */
function plot(id, draw) {
  const box = document.getElementById(id);
  if (!box) return () => {};
  let width = 0;
  const redraw = () => {
    width = box.clientWidth;
    if (width) box.replaceChildren(draw(width));
  };
  new ResizeObserver(() => box.clientWidth !== width && redraw()).observe(box);
  redraw();
  return redraw;
}

function canvas(width, height, description) {
  return svg('svg', {width, height, viewBox: `0 0 ${width} ${height}`, role: 'group', 'aria-label': description});
}

const linear = ([low, high], [from, to]) => (value) => from + (value - low) / (high - low || 1) * (to - from);
const logarithmic = ([low, high], range) => {
  const scale = linear([Math.log10(low), Math.log10(high)], range);
  return (value) => scale(Math.log10(value));
};

/** Round values, at most about so many. */
function ticks([low, high], most) {
  const raw = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= raw) * power;
  const values = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) values.push(value);
  return values;
}

/** Powers of ten, every other one and so on where they would crowd. */
function decades([low, high], most) {
  const from = Math.ceil(Math.log10(low) - 1e-9);
  const to = Math.floor(Math.log10(high) + 1e-9);
  const step = Math.max(1, Math.ceil((to - from + 1) / most));
  const values = [];
  for (let power = from; power <= to; power += step) values.push(10 ** power);
  return values;
}

/** Grid lines and figures of both axes, and what they mean. */
function axes(frame, x, y) {
  const group = svg('g', {class: 'axes', 'aria-hidden': 'true'});
  for (const value of x.ticks) {
    const at = x.scale(value);
    group.append(svg('line', {x1: at, x2: at, y1: frame.top, y2: frame.bottom, class: 'grid'}),
      label(at, frame.bottom + 17, x.text(value), {'text-anchor': 'middle'}));
  }
  for (const value of y.ticks) {
    const at = y.scale(value);
    group.append(svg('line', {x1: frame.left, x2: frame.right, y1: at, y2: at, class: 'grid'}),
      label(frame.left - 8, at + 4, y.text(value), {'text-anchor': 'end'}));
  }
  group.append(
    label((frame.left + frame.right) / 2, frame.bottom + 36, x.title, {'text-anchor': 'middle', class: 'title'}),
    label(2, frame.top - 10, y.title, {class: 'title'}));
  return group;
}

/** The lines are shown when the element is pointed at or focused. */
function withHint(element, lines) {
  element.dataset.hint = lines.join('\n');
  element.setAttribute('role', 'img');
  element.setAttribute('aria-label', lines.join(', '));
  return element;
}

/** Plots made in Python hold their hints as titles, which a viewer without scripts shows by itself. */
function hintsFromTitles() {
  document.querySelectorAll('.plot.static title').forEach((title) => {
    withHint(title.parentElement, title.textContent.split('\n'));
    if (title.parentElement.tagName === 'g') title.parentElement.setAttribute('tabindex', 0);
    title.remove();
  });
}

function startPlots() {
  hintsFromTitles();
  const box = document.getElementById('tooltip');
  const hide = () => { box.hidden = true; };
  const show = (target, x, y) => {
    box.textContent = target.dataset.hint;
    box.hidden = false;
    const {width, height} = box.getBoundingClientRect();
    const room = document.documentElement.clientWidth - width - 8;
    box.style.left = `${Math.max(8, Math.min(room, x + 14))}px`;
    box.style.top = `${y + 18 + height > innerHeight ? y - height - 12 : y + 18}px`;
  };
  const pointed = (event) => {
    const target = event.target.closest?.('[data-hint]');
    if (target) show(target, event.clientX, event.clientY); else hide();
  };
  document.addEventListener('pointermove', pointed);
  document.addEventListener('pointerdown', pointed);
  document.addEventListener('focusin', (event) => {
    if (!event.target.matches?.('[data-hint]:focus-visible')) return;
    const {left, bottom} = event.target.getBoundingClientRect();
    show(event.target, left, bottom - 14);
  });
  document.addEventListener('focusout', hide);
  document.addEventListener('scroll', hide, {passive: true});
  document.addEventListener('keydown', (event) => event.key === 'Escape' && hide());
}

/** Parts of a whole side by side, named where there is room. */
function strip(width, parts, description) {
  const height = 40;
  const drawing = canvas(width, height, description);
  const whole = parts.reduce((sum, part) => sum + part.value, 0) || 1;
  let at = 0;
  for (const part of parts) {
    const size = part.value / whole * width;
    const group = withHint(svg('g', {class: 'part'}), part.hint);
    group.append(svg('rect', {x: at, y: 0, width: Math.max(size - 1, 0.5), height, rx: 3, fill: part.colour}));
    const room = Math.floor((size - 14) / 7.4);
    const text = [`${part.name} ${percent(part.value / whole)}`, part.name].find((words) => words.length <= room);
    if (text) group.append(label(at + 8, height / 2 + 5, text, {class: 'on-colour'}));
    drawing.append(group);
    at += size;
  }
  return drawing;
}
