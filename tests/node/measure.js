// What can be seen of each panel, by its title: the body of a function that runs in the page once it is drawn.

const seen = (section) => {
  const all = (selector) => [...section.querySelectorAll(selector)];
  const edge = section.getBoundingClientRect();
  const lanes = section.querySelector('.lanes');
  const texts = [];
  const walker = document.createTreeWalker(section, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    walker.currentNode.data.trim() && texts.push(walker.currentNode);
  }
  const placeOf = (text) => {
    const range = document.createRange();
    range.selectNodeContents(text);
    return range.getBoundingClientRect();
  };
  // An ellipsis leaves no other trace than that more could be scrolled to; in a heading, that may be a sort arrow.
  const isClipped = (one, cell) =>
    (one.scrollWidth > one.clientWidth && getComputedStyle(one).textOverflow === 'ellipsis') ||
    (one !== cell && isClipped(one.parentElement, cell));
  const isCut = (text) => {
    const cell = text.parentElement.closest('[role=columnheader], [role=cell], .name');
    const [inner, outer] = [placeOf(text), cell?.getBoundingClientRect()];
    const isOutside = cell && (inner.right > outer.right + 1 || inner.left < outer.left - 1);
    return isOutside || (cell?.matches('[role=cell]') && isClipped(text.parentElement, cell));
  };
  return {
    text: section.innerText,
    top: edge.top,
    outside: all('[role=columnheader]')
      .filter((one) => one.getBoundingClientRect().right > edge.right + 1)
      .map((one) => one.innerText),
    below: all('[role=row]').filter((one) => one.getBoundingClientRect().bottom > edge.bottom + 1).length,
    cut: texts.filter(isCut).map((one) => one.data),
    headings: all('[role=columnheader]').map((one) => one.innerText.trim()),
    rows: all('[role=row]')
      .map((row) => [...row.querySelectorAll('[role=cell], [role=gridcell]')].map((one) => one.innerText.trim()))
      .filter((row) => row.length > 0),
    fills: all('*')
      .flatMap((one) => getComputedStyle(one).backgroundImage.match(/rgba?\([^)]*\)/g) ?? [])
      .map((color) => color.match(/[\d.]+/g).map(Number))
      .filter(([, , , alpha]) => alpha !== 0)
      .map((color) => color.slice(0, 3)),
    lanes: lanes ? Number(lanes.dataset.row) : 0,
    font: Math.min(...texts.map((one) => parseFloat(getComputedStyle(one.parentElement).fontSize))),
  };
};

const frame = () => new Promise((drawn) => requestAnimationFrame(drawn));

const drawn = () => (document.querySelector('section[data-title]') ? document.fonts.ready : frame().then(drawn));

return drawn()
  .then(frame)
  .then(frame)
  .then(() =>
    Object.fromEntries([...document.querySelectorAll('section[data-title]')].map((one) => [one.dataset.title, seen(one)]))
  );
