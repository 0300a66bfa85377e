// The page: a search box, its results, a thread. State lives in the address (?q=…&author=…), so back
// and forward and links work. No text from a post is ever read as HTML: only textContent is set.
'use strict';

const $ = (id) => document.getElementById(id);
const FIELDS = ['mode', 'kind', 'author', 'channel', 'after', 'before', 'recency'];
const EXAMPLES = ['stop unsolicited mail', 'my machine will not boot', 'how to sleep better', 'healthy breakfast'];
const TYPING_MS = 120;

let running = null; // AbortController of the call under way
let cursor = '';
let view = { kind: 'search' };
let timer = 0;

// ---- calls ----

async function call(target) {
  if (running) running.abort();
  const mine = running = new AbortController();
  try {
    const response = await fetch(target, { signal: mine.signal, headers: { Accept: 'application/json' } });
    const body = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(body.detail || body.title || `the server answered ${response.status}`);
    return body;
  } catch (error) {
    if (error.name === 'AbortError') return null;
    if (error instanceof TypeError) throw new Error('The server cannot be reached. Is kith running?');
    throw error;
  } finally {
    if (running === mine) running = null;
  }
}

function searchTarget(next) {
  const p = new URLSearchParams({ q: $('q').value.trim(), limit: '20', explain: 'true', context: 'true' });
  for (const f of FIELDS) if ($(f).value) p.set(f, $(f).value);
  if ($('group').checked) p.set('group', 'thread');
  if (next) p.set('cursor', next);
  return '/v1/search?' + p;
}

const postTarget = (id, what, params) => `/v1/posts/${encodeURIComponent(id)}/${what}?${new URLSearchParams(params)}`;

// ---- drawing ----

// Highlights are byte ranges of the UTF-8 text.
function fillMarked(node, text, ranges) {
  node.textContent = '';
  const bytes = new TextEncoder().encode(text);
  const decode = (a, b) => new TextDecoder().decode(bytes.subarray(a, b));
  let at = 0;
  for (const r of ranges || []) {
    const start = r.start || 0;
    if (start < at || r.end > bytes.length) continue;
    node.append(decode(at, start));
    const mark = document.createElement('mark');
    mark.textContent = decode(start, r.end);
    node.append(mark);
    at = r.end;
  }
  node.append(decode(at, bytes.length));
}

function ago(iso) {
  const s = (Date.now() - Date.parse(iso)) / 1000;
  const f = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto' });
  for (const [unit, size] of [['year', 31557600], ['month', 2629800], ['day', 86400], ['hour', 3600], ['minute', 60]])
    if (Math.abs(s) >= size) return f.format(-Math.trunc(s / size), unit);
  return f.format(-Math.trunc(s), 'second');
}

const short = (text, n) => (text.length > n ? text.slice(0, n).trimEnd() + '…' : text);

function contextText(hit) {
  const c = hit.context || {};
  if (c.parent) return `answers ${c.parent.author || 'someone'}: ${short(c.parent.text, 140)}`;
  if (c.missing_parent) return 'answers a post that was deleted or never came';
  return '';
}

const number = (x, digits) => (x === undefined ? '–' : Number(x).toFixed(digits));

function explainTable(hit) {
  const e = hit.explain || {};
  const table = document.createElement('table');
  const row = (cells, tag) => {
    const tr = table.insertRow();
    cells.forEach((c, i) => {
      const cell = document.createElement(i === 0 ? 'th' : tag);
      cell.textContent = c;
      tr.append(cell);
    });
  };
  row(['', 'place', 'raw', 'as 0–1', 'weight', 'adds'], 'th');
  for (const [name, part] of [['words', e.words], ['meaning', e.meaning], ['freshness', e.recency]])
    if (part && (part.weight || part.rank))
      row([name, part.rank || '–', number(part.raw, 3), number(part.normalized, 3), number(part.weight || 0, 2), number(part.contribution || 0, 4)], 'td');
  row(['score', '', '', '', '', number(hit.score || 0, 4)], 'td');
  const box = document.createDocumentFragment();
  box.append(table);
  if (e.terms && e.terms.length) {
    const p = document.createElement('p');
    p.textContent = 'Words: ' + e.terms.map((t) => `${t.term} (${number(t.score || 0, 2)})`).join(', ');
    box.append(p);
  }
  return box;
}

function drawHit(hit, options) {
  const li = $('hit').content.firstElementChild.cloneNode(true);
  const part = (c) => li.querySelector('.' + c);
  const post = hit.post;
  part('author').textContent = post.author || 'someone';
  const time = li.querySelector('time');
  time.dateTime = post.created_at;
  time.textContent = ago(post.created_at);
  time.title = new Date(post.created_at).toLocaleString();
  part('channel').textContent = post.channel ? '#' + post.channel : '';
  part('score').textContent = hit.score ? number(hit.score, 3) : '';
  part('context').textContent = contextText(hit);
  fillMarked(part('text'), hit.snippet || post.text, hit.highlights);
  part('others').textContent = hit.more_in_thread ? `${hit.more_in_thread} more in this thread` : '';
  part('thread').addEventListener('click', () => go({ kind: 'thread', id: post.id }));
  part('similar').addEventListener('click', () => go({ kind: 'similar', id: post.id, label: short(post.text, 50) }));
  const why = part('why');
  why.hidden = !hit.explain;
  why.addEventListener('click', () => {
    const box = part('explain');
    if (box.hidden && !box.firstChild) box.append(explainTable(hit));
    box.hidden = !box.hidden;
    why.setAttribute('aria-expanded', String(!box.hidden));
  });
  if (options.thread) {
    part('thread').hidden = true;
    if (options.depth) li.classList.add('reply');
    li.style.setProperty('--depth', options.depth || 0);
    if (post.id === options.here) li.classList.add('here');
  }
  li.dataset.id = post.id;
  return li;
}

function say(text) { $('status').textContent = text; }

function showProblem(error) {
  $('problem').textContent = error ? error.message : '';
  $('problem').hidden = !error;
}

function showEmpty(lines, buttons) {
  const box = $('empty');
  box.textContent = '';
  for (const line of lines) {
    const p = document.createElement('p');
    p.textContent = line;
    box.append(p);
  }
  for (const [label, act] of buttons) {
    const b = document.createElement('button');
    b.type = 'button';
    b.textContent = label;
    b.addEventListener('click', act);
    box.append(b);
  }
  box.hidden = lines.length === 0;
}

function clearResults() {
  $('results').textContent = '';
  $('more').hidden = true;
  showEmpty([], []);
}

function drawAnswer(answer, append) {
  if (!append) clearResults();
  const hits = answer.hits || [];
  const first = $('results').children.length;
  $('results').append(...hits.map((h) => drawHit(h, {})));
  cursor = answer.next_cursor || '';
  $('more').hidden = !cursor;
  const n = $('results').children.length;
  const words = (answer.degraded || []).length ? ` Without ${answer.degraded.join(', ')} for now.` : '';
  say(n ? `${n} result${n === 1 ? '' : 's'}${cursor ? ' so far' : ''} in ${number(answer.took_ms || 0, 1)} ms.${words}` : `Nothing found.${words}`);
  if (append && $('results').children[first]) focusHit(first);
  if (!n) {
    const filtered = FIELDS.some((f) => $(f).value);
    showEmpty(['Nothing found. Other words for the same thing often help.'], filtered ? [['Clear filters', clearFilters]] : []);
  }
}

// Depth by reply_to; a missing parent counts as the top.
function drawThread(answer, here) {
  clearResults();
  const posts = answer.posts || [];
  const depth = new Map();
  for (const p of posts) depth.set(p.id, p.reply_to && depth.has(p.reply_to) ? depth.get(p.reply_to) + 1 : p.id === answer.thread ? 0 : p.reply_to ? 1 : 0);
  $('results').append(...posts.map((post) => drawHit({ post }, { thread: true, depth: depth.get(post.id), here })));
  const gone = posts.some((p) => p.id === answer.thread) ? '' : ' Its first post is missing or deleted.';
  say(`A thread of ${answer.total || posts.length} post${posts.length === 1 ? '' : 's'}.${gone}`);
  const at = $('results').querySelector('.here article');
  if (at) { at.scrollIntoView({ block: 'center' }); at.focus({ preventScroll: true }); }
}

// ---- views ----

async function show(v, append) {
  view = v;
  $('crumb').hidden = v.kind === 'search';
  showProblem(null);
  try {
    if (v.kind === 'thread') {
      const answer = await call(postTarget(v.id, 'thread', { limit: '500' }));
      if (answer) drawThread(answer, v.id);
      return;
    }
    if (v.kind === 'search' && !$('q').value.trim()) return showStart();
    const target = v.kind === 'similar' ? postTarget(v.id, 'similar', { limit: '20', explain: 'true', context: 'true', ...(append ? { cursor } : {}) }) : searchTarget(append ? cursor : '');
    const answer = await call(target);
    if (answer) drawAnswer(answer, append);
  } catch (error) {
    clearResults();
    say('');
    showProblem(error);
  }
}

function showStart() {
  if (running) running.abort();
  clearResults();
  say('');
  showEmpty(['Search by what is meant, not only by the words.', 'Try:'], EXAMPLES.map((e) => [e, () => { $('q').value = e; changed(); }]));
}

// ---- address ----

function address(v) {
  const p = new URLSearchParams();
  if ($('q').value) p.set('q', $('q').value);
  for (const f of FIELDS) if ($(f).value) p.set(f, $(f).value);
  if ($('group').checked) p.set('group', '1');
  if (v.kind !== 'search') p.set(v.kind, v.id);
  const s = p.toString();
  return s ? '/?' + s : '/';
}

function go(v) {
  history.pushState(v, '', address(v));
  show(v);
}

function changed() {
  history.replaceState({ kind: 'search' }, '', address({ kind: 'search' }));
  show({ kind: 'search' });
}

function fromAddress() {
  const p = new URLSearchParams(location.search);
  $('q').value = p.get('q') || '';
  for (const f of FIELDS) $(f).value = p.get(f) || '';
  $('group').checked = p.has('group');
  if (FIELDS.some((f) => $(f).value) || $('group').checked) toggleFilters(true);
  const kind = p.has('thread') ? 'thread' : p.has('similar') ? 'similar' : 'search';
  show({ kind, id: p.get(kind) });
}

// ---- keyboard ----

const articles = () => [...$('results').querySelectorAll('article')];

function focusHit(i) {
  const all = articles();
  if (!all.length) return;
  if (i < 0) return $('q').focus();
  const a = all[Math.min(i, all.length - 1)];
  a.focus({ preventScroll: true });
  a.scrollIntoView({ block: 'nearest' });
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const at = articles().indexOf(document.activeElement.closest ? document.activeElement.closest('article') : null);
  const typing = /^(INPUT|SELECT)$/.test(document.activeElement.tagName);
  const inBox = document.activeElement === $('q');
  if (event.key === '/' && !typing) {
    event.preventDefault();
    $('q').focus();
    $('q').select();
  } else if (event.key === 'ArrowDown' && (inBox || at >= 0)) {
    event.preventDefault();
    focusHit(at + 1);
  } else if (event.key === 'ArrowUp' && at >= 0) {
    event.preventDefault();
    focusHit(at - 1);
  } else if (event.key === 'Enter' && at >= 0 && document.activeElement.tagName === 'ARTICLE') {
    event.preventDefault();
    if (view.kind !== 'thread') go({ kind: 'thread', id: articles()[at].closest('li').dataset.id });
  } else if (event.key === 'Escape') {
    if (view.kind !== 'search') history.back();
    else if (at >= 0) $('q').focus();
    else if (inBox && $('q').value) { $('q').value = ''; changed(); }
  }
}

// ---- filters, theme, totals ----

function toggleFilters(open) {
  $('filters').hidden = !open;
  $('filters-button').setAttribute('aria-expanded', String(open));
}

function clearFilters() {
  for (const f of FIELDS) $(f).value = '';
  $('group').checked = false;
  changed();
}

function setTheme(name) {
  if (name) document.documentElement.dataset.theme = name;
  try { if (name) localStorage.setItem('theme', name); } catch { /* private mode: only this page */ }
}

function otherTheme() {
  const now = document.documentElement.dataset.theme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
  setTheme(now === 'dark' ? 'light' : 'dark');
}

async function totals() {
  try {
    const s = await (await fetch('/v1/status')).json();
    const waiting = s.embed_pending ? `, ${Number(s.embed_pending).toLocaleString()} still being read for meaning` : '';
    $('totals').textContent = `${Number(s.posts || 0).toLocaleString()} posts in ${Number(s.threads || 0).toLocaleString()} threads${waiting}`;
    if (s.embed_pending) setTimeout(totals, 3000);
  } catch { /* the next search says what is wrong */ }
}

document.addEventListener('DOMContentLoaded', () => {
  let saved = '';
  try { saved = localStorage.getItem('theme') || ''; } catch { /* private mode */ }
  setTheme(saved);
  const later = () => { clearTimeout(timer); timer = setTimeout(changed, TYPING_MS); };
  $('q').addEventListener('input', later);
  for (const f of [...FIELDS, 'group']) $(f).addEventListener('input', later);
  $('form').addEventListener('submit', (e) => { e.preventDefault(); clearTimeout(timer); changed(); focusHit(0); });
  $('filters-button').addEventListener('click', () => toggleFilters($('filters').hidden));
  $('clear').addEventListener('click', clearFilters);
  $('theme').addEventListener('click', otherTheme);
  $('more').addEventListener('click', () => show(view, true));
  $('back').addEventListener('click', () => history.back());
  $('home').addEventListener('click', (e) => { e.preventDefault(); $('q').value = ''; clearFilters(); $('q').focus(); });
  addEventListener('keydown', onKey);
  addEventListener('popstate', fromAddress);
  fromAddress();
  totals();
  if (!location.search) $('q').focus();
});
