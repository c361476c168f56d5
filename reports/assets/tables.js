// Tables that sort and filter, and tabs. Without this script every table stands whole, in the order of the file.

function sortable(table) {
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent.trim().toLowerCase() : Number(cell.dataset.v);
  };
  const compare = (a, b) => typeof a === 'number' ? a - b : a.localeCompare(b, 'en', {numeric: true});
  const sort = (column) => {
    const header = headers[column];
    // The first click sorts figures from the largest, words from a to z.
    const first = header.classList.contains('number') ? 'descending' : 'ascending';
    const other = first === 'ascending' ? 'descending' : 'ascending';
    const order = header.getAttribute('aria-sort') === first ? other : first;
    headers.forEach((cell) => cell.removeAttribute('aria-sort'));
    header.setAttribute('aria-sort', order);
    const sign = order === 'ascending' ? 1 : -1;
    const missing = (key) => key === '–';
    const keyed = [...body.rows].map((row) => ({row, key: value(row, column)}));
    keyed.sort((a, b) => {
      if (missing(a.key) || missing(b.key)) return missing(a.key) - missing(b.key);
      return sign * compare(a.key, b.key);
    });
    body.append(...keyed.map(({row}) => row));
  };
  headers.forEach((header, column) => header.querySelector('button')?.addEventListener('click', () => sort(column)));
}

function filterable(field) {
  const rows = [...document.getElementById(field.dataset.table).tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const counter = document.getElementById(`${field.id}-count`);
  const filter = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, index) => {
      row.hidden = !words.every((word) => texts[index].includes(word));
      shown += !row.hidden;
    });
    counter.textContent = `${count(shown)} of ${count(rows.length)} rows`;
  };
  field.addEventListener('input', filter);
  field.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !field.value) return;
    event.preventDefault();
    field.value = '';
    filter();
  });
  filter();
}

function shareBars() {
  // By the style object: the page's policy forbids style attributes, which is what an injected name could carry.
  document.querySelectorAll('td.share[data-v]').forEach((cell) => {
    cell.style.setProperty('--share', Math.max(0, Math.min(1, Number(cell.dataset.v))));
  });
}

/** From the middle, to the left where time is saved and to the right where it is lost, against the table's largest. */
function deltaBars() {
  document.querySelectorAll('table').forEach((table) => {
    const cells = [...table.querySelectorAll('tbody td.delta[data-v]')];
    const largest = Math.max(...cells.map((cell) => Math.abs(Number(cell.dataset.v)))) || 1;
    for (const cell of cells) {
      const share = Number(cell.dataset.v) / largest;
      // A background's offset counts against the room that it leaves.
      const size = Math.abs(share) / 2;
      cell.style.setProperty('--size', `${size * 100}%`);
      cell.style.setProperty('--from', `${(share < 0 ? 0.5 - size : 0.5) / (1 - size) * 100}%`);
      cell.classList.add(share < 0 ? 'faster' : 'slower');
    }
  });
}

function tabbed(list) {
  const tabs = [...list.querySelectorAll('[role=tab]')];
  const select = (chosen) => tabs.forEach((tab) => {
    tab.setAttribute('aria-selected', tab === chosen);
    tab.tabIndex = tab === chosen ? 0 : -1;
    document.getElementById(tab.getAttribute('aria-controls')).hidden = tab !== chosen;
  });
  tabs.forEach((tab) => tab.addEventListener('click', () => select(tab)));
  list.addEventListener('keydown', (event) => {
    const at = tabs.indexOf(event.target);
    const places = {ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1};
    if (!(event.key in places)) return;
    event.preventDefault();
    const next = tabs[(places[event.key] + tabs.length) % tabs.length];
    select(next);
    next.focus();
  });
  list.hidden = false;
  select(tabs[0]);
}

function startTables() {
  document.querySelectorAll('table.sorts').forEach(sortable);
  document.querySelectorAll('input[data-table]').forEach(filterable);
  document.querySelectorAll('[role=tablist]').forEach(tabbed);
  shareBars();
  deltaBars();
}
