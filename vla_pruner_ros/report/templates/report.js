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
// Play button and range of a player; show(number) draws a frame. Returns show for the chosen one.
function player(box, count, show) {
  const range = box.querySelector('input[type=range]'), button = box.querySelector('button');
  const place = box.querySelector('output');
  let timer = null;
  const draw = () => {
    show(Number(range.value));
    place.textContent = (Number(range.value) + 1) + ' / ' + count;
  };
  const stop = () => { clearInterval(timer); timer = null; button.textContent = 'Play'; };
  const next = () => { range.value = (Number(range.value) + 1) % count; draw(); };
  button.addEventListener('click', () => {
    if (timer) return stop();
    timer = setInterval(next, 1000 / Number(box.dataset.rate)); button.textContent = 'Pause';
  });
  range.addEventListener('input', () => { stop(); draw(); });
  draw();
  return draw;
}
for (const slider of document.querySelectorAll('.slider:not(.kept-player)')) {
  const frames = JSON.parse(slider.querySelector('script').textContent);
  const image = slider.querySelector('img'), caption = slider.querySelector('.caption');
  player(slider, frames.length, (number) => {
    image.src = frames[number].image; caption.textContent = frames[number].caption;
  });
}
// Dims the patches that a setting did not keep; the grid covers the entire image of each camera.
function drawKept(canvas, image, frame, kept, shade) {
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  const pen = canvas.getContext('2d');
  pen.drawImage(image, 0, 0);
  pen.fillStyle = 'rgba(0,0,0,' + shade + ')';
  for (const [place, [rows, columns]] of kept.grids.entries()) {
    const bits = atob(kept.bits[place]), [left, width, height] = frame.boxes[place];
    const edge = (number, count, size) => Math.ceil(number * size / count);
    for (let patch = 0; patch < rows * columns; patch++) {
      if (bits.charCodeAt(patch >> 3) >> (7 - patch % 8) & 1) continue;
      const row = Math.floor(patch / columns), column = patch % columns;
      const x = edge(column, columns, width), y = edge(row, rows, height);
      pen.fillRect(left + x, y, edge(column + 1, columns, width) - x, edge(row + 1, rows, height) - y);
    }
  }
}
for (const box of document.querySelectorAll('.kept-player')) {
  const { frames, settings, shade } = JSON.parse(box.querySelector('script').textContent);
  const caption = box.querySelector(':scope > .caption');
  const figures = [...box.querySelectorAll('figure')], image = new Image();
  let number = 0;
  const draw = () => {
    for (const [place, figure] of figures.entries()) {
      if (figure.hidden) continue;
      const kept = settings[place][number], canvas = figure.querySelector('canvas');
      figure.querySelector('.caption').textContent = kept ? kept.caption : 'not replayed';
      drawKept(canvas, image, frames[number], kept || { grids: [] }, shade);
    }
    box.dataset.drawn = number;
  };
  image.addEventListener('load', draw);
  player(box, frames.length, (chosen) => {
    number = chosen;
    caption.textContent = frames[number].caption;
    image.src = frames[number].image;
  });
  for (const choice of box.querySelectorAll('.chosen input')) {
    figures[choice.value].hidden = !choice.checked;  // a browser may restore what was chosen before
    choice.addEventListener('change', () => {
      figures[choice.value].hidden = !choice.checked;
      draw();
    });
  }
}
