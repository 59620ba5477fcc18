// What can be seen of each panel, by its title: the body of a function that runs in the page once it is drawn.

const seen = (section) => {
  const all = (selector) => [...section.querySelectorAll(selector)];
  const edge = section.getBoundingClientRect();
  const cells = all('[role=columnheader], [role=cell], [role=gridcell]');
  const lanes = section.querySelector('.lanes');
  const texts = all('*').filter((one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  const isCut = (one) => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflow !== 'visible';
  const list = section.querySelector('[role=table] [style*="will-change"], .scrollbar-view');
  return {
    kind: section.dataset.kind,
    text: section.innerText,
    outside: all('[role=columnheader]')
      .filter((one) => one.getBoundingClientRect().right > edge.right + 1)
      .map((one) => one.innerText),
    cut: [...cells.flatMap((one) => [one, ...one.querySelectorAll('*')]), ...all('.name')]
      .filter(isCut)
      .map((one) => one.innerText),
    headings: all('[role=columnheader]').map((one) => one.innerText.trim()),
    rows: all('[role=row]')
      .map((row) => [...row.querySelectorAll('[role=cell], [role=gridcell]')].map((one) => one.innerText.trim()))
      .filter((row) => row.length > 0),
    colors: [...new Set(all('*').map((one) => getComputedStyle(one).backgroundColor))],
    fits: list ? list.clientHeight / 36 : 0,
    lanes: lanes ? Number(lanes.dataset.row) : 0,
    font: Math.min(...texts.map((one) => parseFloat(getComputedStyle(one).fontSize))),
  };
};

const frame = () => new Promise((drawn) => requestAnimationFrame(drawn));

const drawn = () => (document.querySelector('section') ? document.fonts.ready : frame().then(drawn));

return drawn()
  .then(frame)
  .then(frame)
  .then(() =>
    Object.fromEntries([...document.querySelectorAll('section')].map((one) => [one.dataset.title, seen(one)]))
  );
