// The flame graph: the whole on top, what it called below. Frames come as [name, parent, µs], parents first.

class Flame {
  constructor(box) {
    this.box = box;
    this.status = document.getElementById('flame-status');
    this.out = document.getElementById('flame-out');
    this.search = document.getElementById('flame-search');
    this.row = matchMedia('(pointer: coarse)').matches ? 28 : 22;
    this.redraw = plot('flame-plot', (width) => this.draw(width));
    this.out.addEventListener('click', () => this.zoom(0));
    this.search.addEventListener('input', () => this.redraw());
    document.querySelectorAll('input[name=flame-kind]').forEach((radio) => {
      radio.addEventListener('change', () => this.use(radio.value));
    });
    box.addEventListener('click', (event) => this.onClick(event));
    box.addEventListener('keydown', (event) => this.onKey(event));
    box.addEventListener('focusin', (event) => this.tell(this.frameOf(event.target)));
    box.addEventListener('pointermove', (event) => this.tell(this.frameOf(event.target)));
    this.use(Object.keys(data.flames)[0]);
  }

  /** Host or device. */
  use(kind) {
    const {names, frames} = data.flames[kind];
    const order = data.stages.map((stage) => stage.name);
    this.frames = frames.map(([name, parent, value], id) =>
      ({id, name: names[name], parent, value, children: [], depth: 0}));
    this.frames.slice(1).forEach((frame) => {
      const parent = this.frames[frame.parent];
      frame.depth = parent.depth + 1;
      frame.stage = frame.depth === 1 ? frame.name : parent.stage;
      parent.children.push(frame);
    });
    this.frames[0].children.sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
    this.frames.slice(1).forEach((frame) => frame.children.sort((a, b) => b.value - a.value));
    this.focused = this.root = this.frames[0];
    this.zoom(0);
  }

  zoom(id) {
    this.root = this.focused = this.frames[id];
    this.out.disabled = id === 0;
    this.redraw();
    this.tell(this.root);
  }

  pathOf(frame) {
    const path = [];
    for (let at = frame; at.id; at = this.frames[at.parent]) path.unshift(at);
    return path;
  }

  draw(width) {
    if (!this.root) return canvas(width, 0, '');
    this.width = width;
    this.drawn = [];
    const wanted = this.search.value.trim().toLowerCase();
    const told = 'Flame graph: arrow keys move, Enter zooms in, Escape zooms out';
    const drawing = svg('svg', {width, role: 'tree', 'aria-label': told});
    const above = [this.frames[0], ...this.pathOf(this.root)].slice(0, -1);
    above.forEach((frame) => this.add(drawing, frame, 0, width, wanted));
    const queue = [[this.root, 0, width]];
    while (queue.length) {
      const [frame, left, size] = queue.shift();
      this.add(drawing, frame, left, size, wanted);
      let at = left;
      for (const child of frame.children) {
        const room = child.value / (frame.value || 1) * size;
        if (room >= 0.6) queue.push([child, at, room]);
        at += room;
      }
    }
    const depth = Math.max(...this.drawn.map((frame) => frame.depth)) + 1;
    drawing.setAttribute('height', depth * this.row);
    drawing.setAttribute('viewBox', `0 0 ${width} ${depth * this.row}`);
    if (wanted) this.tellFound(wanted);
    return drawing;
  }

  add(drawing, frame, left, size, wanted) {
    const top = frame.depth * this.row;
    const hit = wanted && frame.name.toLowerCase().includes(wanted);
    const share = frame.value / (this.frames[0].value || 1);
    const group = svg('g', {
      class: `frame${hit ? ' hit' : wanted ? ' miss' : ''}${frame.depth % 2 ? ' odd' : ''}`,
      'data-id': frame.id, role: 'treeitem', 'aria-level': frame.depth + 1, tabindex: frame === this.focused ? 0 : -1,
      'aria-label': `${frame.name}, ${milliseconds(frame.value / 1e6)}, ${percent(share)}`,
      fill: frame.id ? stageColour(frame.stage) : 'var(--idle)',
    });
    group.append(svg('rect', {x: left, y: top, width: Math.max(size - 0.6, 0.4), height: this.row - 1, rx: 2}));
    const letters = Math.floor((size - 10) / 6.9);
    if (letters >= 3) {
      const text = frame.name.length > letters ? `${frame.name.slice(0, letters - 1)}…` : frame.name;
      group.append(label(left + 5, top + this.row / 2 + 3.5, text));
    }
    this.drawn.push(frame);
    drawing.append(group);
  }

  frameOf(target) {
    const group = target.closest?.('.frame');
    return group ? this.frames[Number(group.dataset.id)] : null;
  }

  tell(frame) {
    if (!frame) return;
    const whole = this.frames[0].value || 1;
    const parent = frame.id ? this.frames[frame.parent] : frame;
    const path = this.pathOf(frame).map((step) => step.name).join(' › ') || this.frames[0].name;
    const shares = [`${percent(frame.value / whole)} of all`];
    if (frame.depth > 1) shares.push(`${percent(frame.value / (parent.value || 1))} of what called it`);
    this.status.textContent = `${milliseconds(frame.value / 1e6)}, ${shares.join(', ')}: ${path}`;
  }

  tellFound(wanted) {
    const found = new Set(this.frames.filter((frame) => frame.name.toLowerCase().includes(wanted)));
    // A frame below another one that was found is part of it already.
    const outermost = [...found].filter((frame) => !this.pathOf(frame).slice(0, -1).some((step) => found.has(step)));
    const sum = outermost.reduce((total, frame) => total + frame.value, 0);
    const share = percent(sum / (this.frames[0].value || 1));
    this.status.textContent = `“${wanted}”: ${count(found.size)} frames, ${share} of all`;
  }

  focus(frame) {
    if (!frame) return;
    this.box.querySelector('.frame[tabindex="0"]')?.setAttribute('tabindex', -1);
    const group = this.box.querySelector(`.frame[data-id="${frame.id}"]`);
    if (!group) return;
    this.focused = frame;
    group.setAttribute('tabindex', 0);
    group.focus();
  }

  onClick(event) {
    const frame = this.frameOf(event.target);
    if (frame) this.zoom(frame === this.root ? frame.parent : frame.id);
  }

  onKey(event) {
    const at = this.focused;
    const siblings = at.id ? this.frames[at.parent].children : [at];
    const beside = (step) => this.focus(siblings[siblings.indexOf(at) + step]);
    const actions = {
      ArrowDown: () => this.focus(at.children[0]),
      ArrowUp: () => at.id && this.focus(this.frames[at.parent]),
      ArrowLeft: () => beside(-1),
      ArrowRight: () => beside(1),
      Home: () => this.focus(this.root),
      Enter: () => this.zoomTo(at.id),
      ' ': () => this.zoomTo(at.id),
      Escape: () => this.zoomTo(this.root.id ? this.root.parent : 0),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  }

  zoomTo(id) {
    this.zoom(id);
    this.focus(this.frames[id]);
  }
}

function startProfileFlame() {
  const box = document.getElementById('flame-plot');
  if (box) new Flame(box);
}
