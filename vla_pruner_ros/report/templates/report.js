// Behaviour of the reports: cross-hair of the plots, players of the sliders.
for (const plot of document.querySelectorAll('.plot[data-plot]')) {
  const data = JSON.parse(plot.dataset.plot), svg = plot.querySelector('svg');
  const cross = plot.querySelector('.cross'), tip = plot.querySelector('.tip');
  const show = (visible) => {
    cross.style.visibility = tip.style.visibility = visible ? 'visible' : 'hidden';
  };
  const digits = (value) => value === null ? '\u2013' : Number(value.toPrecision(4));
  const nearest = (xs, x) => xs.reduce(
    (best, value, place) => Math.abs(value - x) < Math.abs(xs[best] - x) ? place : best, 0);
  svg.addEventListener('mousemove', (event) => {
    const box = svg.getBoundingClientRect(), scale = data.width / box.width;
    const across = ((event.clientX - box.left) * scale - data.left) / data.span;
    if (across < 0 || across > 1) return show(false);
    const x = data.x0 + across * (data.x1 - data.x0);
    tip.replaceChildren();
    const head = document.createElement('div');
    head.textContent = data.label + ' ' + digits(x);
    tip.append(head);
    for (const line of data.series) {
      if (!line.x.length) continue;
      const row = document.createElement('div'), swatch = document.createElement('i');
      swatch.className = 'swatch s' + line.color;
      swatch.style.cssText = 'display:inline-block;margin-right:7px;vertical-align:3px';
      row.append(swatch, line.name + '  ' + digits(line.y[nearest(line.x, x)]));
      tip.append(row);
    }
    const place = data.left + across * data.span;
    cross.setAttribute('x1', place); cross.setAttribute('x2', place);
    const left = place / scale;
    const room = box.width - left;
    tip.style.left = room > tip.offsetWidth + 20 ? left + 12 + 'px' : 'auto';
    tip.style.right = room > tip.offsetWidth + 20 ? 'auto' : room + 12 + 'px';
    show(true);
  });
  svg.addEventListener('mouseleave', () => show(false));
}
const players = [];
for (const slider of document.querySelectorAll('.slider')) {
  const frames = JSON.parse(slider.querySelector('script').textContent);
  const image = slider.querySelector('img'), range = slider.querySelector('input');
  const button = slider.querySelector('button'), caption = slider.querySelector('.caption');
  const count = slider.querySelector('output');
  let timer = null;
  const show = () => {
    const frame = frames[range.value];
    image.src = frame.image; caption.textContent = frame.caption;
    count.textContent = (Number(range.value) + 1) + ' / ' + frames.length;
  };
  const draw = () => {
    show();
    for (const other of players) {
      if (slider.dataset.group && other.group === slider.dataset.group
          && other.range.max === range.max && other.range !== range) {
        other.range.value = range.value; other.show();
      }
    }
  };
  const stop = () => { clearInterval(timer); timer = null; button.textContent = 'Play'; };
  const next = () => { range.value = (Number(range.value) + 1) % frames.length; draw(); };
  button.addEventListener('click', () => {
    if (timer) return stop();
    timer = setInterval(next, 1000 / Number(slider.dataset.rate)); button.textContent = 'Pause';
  });
  range.addEventListener('input', () => { stop(); draw(); });
  players.push({ group: slider.dataset.group, range, show });
  show();
}
