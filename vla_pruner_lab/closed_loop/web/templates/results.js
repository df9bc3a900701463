// Behaviour of the results page: choosing policy, task, budget, method and what to compare with.
const results = JSON.parse(document.getElementById('results').textContent);
const form = document.getElementById('choices'), all = results.all_tasks;
const dash = '\u2013';
let chosen = null;

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function setOptions(select, options, wanted) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  const values = options.map(([value]) => value);
  select.value = values.includes(wanted) ? wanted : values[0];
}

// Exact sign test, two-sided: how probable so uneven a split is.
function signTest(won, lost) {
  const decided = won + lost;
  let term = decided * Math.log(0.5), sum = 0;
  for (let place = 0; place <= Math.min(won, lost); place++) {
    sum += Math.exp(term);
    term += Math.log((decided - place) / (place + 1));
  }
  return Math.min(1, 2 * sum);
}

// Pairs of equal starts; outcomes: task -> one letter a start, 1, 0 or - (not run).
function compare(one, other, task) {
  const found = { pairs: 0, won: 0, lost: 0 };
  for (const name of task === all ? Object.keys(one.outcomes) : [task]) {
    const mine = one.outcomes[name] || '', theirs = other.outcomes[name] || '';
    for (let place = 0; place < Math.min(mine.length, theirs.length); place++) {
      if (mine[place] === '-' || theirs[place] === '-') continue;
      found.pairs += 1;
      found.won += mine[place] > theirs[place];
      found.lost += mine[place] < theirs[place];
    }
  }
  return found;
}

const title = (one) => one.method + (one.variant ? ', ' + one.variant : '');
const ofPolicy = () => results.experiments.filter((one) => one.policy === form.policy.value);
const shown = () => ofPolicy().filter(
  (one) => one.unpruned || one.keep_ratio === Number(form.ratio.value));
const percent = (value) => (100 * value).toFixed(1);
const number = (value, digits) => value === null ? dash : value.toFixed(digits);
const taskName = (task) => task === all ? 'all tasks' : task;

function interval(record) {
  const box = element('span', undefined, 'interval'), bar = element('i'), mark = element('b');
  bar.style.left = 100 * record.low + '%';
  bar.style.width = 100 * (record.high - record.low) + '%';
  mark.style.left = 100 * record.rate + '%';
  box.append(bar, mark);
  return box;
}

function cells(row, values) {
  for (const value of values) {
    const cell = element('td', value instanceof Node ? undefined : value);
    if (value instanceof Node) cell.append(value); else cell.className = 'number';
    row.append(cell);
  }
  return row;
}

function methodCell(one) {
  const box = element('span'), swatch = element('i', undefined, 'swatch');
  swatch.style.setProperty('--light', one.colour);
  swatch.style.setProperty('--dark', one.dark_colour);
  box.append(swatch, one.method);
  if (one.variant) box.append(element('span', one.variant, 'variant'));
  return box;
}

function methodRow(one, reference) {
  const task = form.task.value, record = one.records[task];
  const row = element('tr');
  row.setAttribute('aria-selected', one === chosen);
  row.tabIndex = 0;
  const pair = one === reference ? null : compare(one, reference, task);
  const p = pair && pair.pairs ? signTest(pair.won, pair.lost) : null;
  cells(row, [
    methodCell(one), interval(record), percent(record.rate) + (record.balanced ? '' : '*'),
    percent(record.low) + ' ' + dash + ' ' + percent(record.high), record.episodes,
    p === null ? dash : pair.won, p === null ? dash : pair.lost,
    p === null ? dash : p < 0.001 ? '< 0.001' : p.toFixed(3),
    number(record.kept, 0),
    record.kept_by_camera ? record.kept_by_camera.map((k) => k.toFixed(0)).join(' + ') : dash,
    number(record.latency_ms, 1), record.flops === null ? dash : (record.flops / 1e9).toFixed(3),
  ]);
  if (p !== null && p >= 0.05) for (const place of [5, 6, 7]) row.cells[place].classList.add('soft');
  const choose = () => { chosen = one; draw(); };
  row.addEventListener('click', choose);
  row.addEventListener('keydown', (event) => { if (event.key === 'Enter') choose(); });
  return row;
}

function taskRow(task, reference) {
  const record = chosen.records[task], other = reference.records[task];
  const pair = compare(chosen, reference, task);
  return cells(element('tr'), [
    element('span', taskName(task)), interval(record), percent(record.rate), record.episodes,
    other ? percent(other.rate) : dash, pair.pairs ? pair.won : dash, pair.pairs ? pair.lost : dash,
  ]);
}

function drawChart() {
  const box = document.getElementById('chart');
  box.innerHTML = results.charts[form.policy.value][form.task.value]
    || '<p class="note">No method was run here.</p>';
  const own = 'c' + chosen.colour.slice(1);
  for (const part of box.querySelectorAll('path[class^=c], circle')) {
    if (chosen.method !== 'full' && !part.classList.contains(own)) part.classList.add('pale');
  }
}

function drawFilms() {
  const wanted = results.films.filter((film) => film.policy === form.policy.value
    && (form.task.value === all || !film.task || film.task === form.task.value));
  const box = document.getElementById('films');
  box.replaceChildren();
  if (wanted.length) box.append(element('h2', 'Films and kept tokens'));
  const grid = element('div', undefined, 'columns');
  box.append(grid);
  for (const film of wanted) {
    const figure = element('figure'), image = element('img', undefined, 'image');
    image.src = film.image; image.alt = film.caption; image.loading = 'lazy';
    figure.append(element('figcaption', film.caption), image);
    grid.append(figure);
  }
}

function draw() {
  const task = form.task.value;
  const rows = shown().filter((one) => one.records[task]);
  if (!rows.includes(chosen)) chosen = rows.find((one) => one.main && !one.unpruned) || rows[0];
  const reference = results.experiments[form.reference.value];
  const policy = results.policies[form.policy.value];
  document.getElementById('heading').textContent =
    (policy.trained ? '' : 'Random weights: these figures do not compare methods. ')
    + 'Curves show the settings nearest to the defaults' + (policy.main ? ': ' + policy.main : '')
    + '. Rows without a remark have them.'
    + (rows.some((one) => !one.records[task].balanced)
      ? ' *: tasks have different numbers of episodes.' : '');
  document.querySelector('#methods tbody').replaceChildren(
    ...rows.map((one) => methodRow(one, reference)));
  document.getElementById('chosen').textContent = title(chosen) + ', task by task';
  document.getElementById('chosen-lead').textContent =
    'At keep ratio ' + chosen.keep_ratio + ', next to ' + title(reference)
    + ' at ' + reference.keep_ratio + '.';
  const tasks = results.tasks.filter((name) => name !== all && chosen.records[name]);
  document.querySelector('#tasks tbody').replaceChildren(
    ...tasks.map((name) => taskRow(name, reference)));
  drawChart();
  drawFilms();
  const state = new URLSearchParams(
    ['policy', 'task', 'ratio'].map((name) => [name, form[name].value]));
  history.replaceState(null, '', '#' + state);
}

function fill(wanted) {
  const own = ofPolicy();
  const ratios = [...new Set(own.filter((one) => !one.unpruned).map((one) => one.keep_ratio))];
  ratios.sort((one, other) => other - one);
  setOptions(form.ratio, (ratios.length ? ratios : [1]).map((r) => [String(r), 100 * r + ' %']),
    wanted.ratio || '0.25');
  const tasks = results.tasks.filter((name) => own.some((one) => one.records[name]));
  setOptions(form.task, tasks.map((name) => [name, taskName(name)]), wanted.task || all);
  fillReferences(wanted.reference);
}

function fillReferences(wanted) {
  const options = shown().map((one) => [String(results.experiments.indexOf(one)), title(one)]);
  const full = shown().find((one) => one.method === 'full');
  setOptions(form.reference, options, wanted || (full && String(results.experiments.indexOf(full))));
}

form.addEventListener('change', (event) => {
  if (event.target === form.policy) {
    fill({ task: form.task.value, ratio: form.ratio.value });
  } else if (event.target === form.ratio) {
    const before = results.experiments[form.reference.value];
    const same = shown().find((one) => title(one) === title(before));
    fillReferences(same && String(results.experiments.indexOf(same)));
    const method = chosen && title(chosen);
    chosen = shown().find((one) => title(one) === method) || null;
  }
  draw();
});
form.addEventListener('submit', (event) => event.preventDefault());
const start = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
setOptions(form.policy, Object.keys(results.policies).map((name) => [name, name]), start.policy);
fill(start);
draw();
