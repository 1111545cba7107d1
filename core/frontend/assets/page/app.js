// The page: one state, one visible part, and the turn of a chat.
import { call, complete, session } from './api.js';
import { el, alert, only, startSign, signWith } from './sign.js';
import * as chats from './chats.js';
import { show } from './text.js';

const state = { user: null, models: [], chat: chats.blank(), page: 1, running: null };

// attempt runs an action and shows what goes wrong. A session that ended leads to the form.
async function attempt(action) {
	try {
		return await action();
	} catch (err) {
		if (err.status === 401 && state.user && !(await alive())) {
			leave('Your session has ended. Please sign in again.');
		} else {
			alert(err.message);
		}
		return undefined;
	}
}

// alive tells a refused action from an ended session: both are 401.
const alive = () => call('GET', '/api/v1/auths/').then(() => true, (err) => err.status !== 401);

async function start() {
	let config;
	try {
		config = await call('GET', '/api/config');
	} catch (err) {
		if (err.status !== 401) throw err;
		// A token of another server or secret; signing out also clears the cookie.
		session.token = '';
		await call('POST', '/api/v1/auths/signout').catch(() => {});
		config = await call('GET', '/api/config');
	}
	startSign(config, enter);
	// A sign-in by a provider ends at /auth with the session in a cookie scripts cannot read.
	if (!session.token && location.pathname !== '/auth') {
		await signWith(config, enter);
		return;
	}
	try {
		await enter(await call('GET', '/api/v1/auths/'));
	} catch (err) {
		if (err.status !== 401 && err.status !== 403) throw err;
		session.token = '';
		await signWith(config, enter);
	}
}

async function enter(user) {
	if (user.token) session.token = user.token;
	state.user = user;
	if (user.role === 'pending') {
		only('pending');
		return;
	}
	el('who').textContent = user.name || user.email;
	only('chat');
	await Promise.all([attempt(loadModels), attempt(() => loadList(1))]);
	await follow();
}

function leave(message) {
	state.running?.abort();
	session.token = '';
	Object.assign(state, { user: null, chat: chats.blank() });
	el('log').replaceChildren();
	el('list').replaceChildren();
	only('sign');
	alert(message);
	el('sign-email').focus();
}

async function signOut() {
	await call('POST', '/api/v1/auths/signout').catch(() => {});
	leave('');
}

// Models.

async function loadModels() {
	const found = (await call('GET', '/api/models')).data ?? [];
	state.models = found.filter((m) => !m.info?.meta?.hidden);
	el('model').replaceChildren(...state.models.map((m) => new Option(m.name || m.id, m.id)));
	choose(localStorage.getItem('galley.model'));
	el('model').disabled = el('send').disabled = state.models.length === 0;
	if (!state.chat.id) draw();
}

function choose(id) {
	if (state.models.some((m) => m.id === id)) el('model').value = id;
}

const modelName = (id) => state.models.find((m) => m.id === id)?.name ?? id;

// The list of chats.

async function loadList(page) {
	const found = await chats.list(page);
	const items = found.map((c) => {
		const button = document.createElement('button');
		button.type = 'button';
		button.textContent = c.title || 'Untitled';
		button.dataset.id = c.id;
		const item = document.createElement('li');
		item.append(button);
		return item;
	});
	if (page === 1) el('list').replaceChildren(...items);
	else el('list').append(...items);
	state.page = page;
	el('more').hidden = found.length < 60;
	markCurrent();
}

function markCurrent() {
	for (const button of el('list').querySelectorAll('button')) {
		if (button.dataset.id === state.chat.id) button.setAttribute('aria-current', 'true');
		else button.removeAttribute('aria-current');
	}
	el('delete').hidden = !state.chat.id;
	document.title = state.chat.title ? `${state.chat.title} – Galley` : 'Galley';
}

// follow opens the chat that the address names: #/c/ID here, /c/ID in the full interface.
async function follow() {
	const id = /^#\/c\/([\w-]+)$/.exec(location.hash)?.[1]
		?? (location.hash ? null : /^\/c\/([\w-]+)$/.exec(location.pathname)?.[1]);
	if (id === (state.chat.id ?? undefined)) return;
	state.running?.abort();
	state.chat = chats.blank();
	if (id) await attempt(async () => { state.chat = await chats.open(id); });
	choose(state.chat.models[0]);
	draw();
	markCurrent();
	sideOpen(false);
}

// The messages.

function turn(message) {
	const box = document.createElement('article');
	box.className = `turn ${message.role === 'user' ? 'user' : 'model'}`;
	const who = document.createElement('h3');
	who.textContent = message.role === 'user' ? 'You' : message.modelName || modelName(message.model) || 'Model';
	const body = document.createElement('div');
	body.className = 'body';
	show(body, chats.plain(message));
	box.append(who, body);
	if (message.error) box.append(failure(message.error.content ?? message.error));
	return box;
}

function failure(text) {
	const p = document.createElement('p');
	p.className = 'failed';
	p.textContent = typeof text === 'string' ? text : 'The model failed.';
	return p;
}

function draw() {
	const found = chats.branch(state.chat);
	el('log').replaceChildren(...(found.length ? found.map(turn) : [hint()]));
	el('log').scrollTop = el('log').scrollHeight;
}

function hint() {
	const p = document.createElement('p');
	p.className = 'empty';
	p.textContent = state.models.length
		? 'Pick a model above and write the first message.'
		: 'No model is there for you yet. The administrator connects one, e.g. with OLLAMA_BASE_URL or with '
			+ 'OPENAI_API_BASE_URL and OPENAI_API_KEY in the server’s environment, and may have to give you access to it.';
	return p;
}

// A turn: save the question, stream the answer, save the answer.

async function send(event) {
	event.preventDefault();
	const content = el('input').value.trim();
	const model = el('model').value;
	if (!content || !model || state.running) return;
	alert('');
	const chat = state.chat;
	const question = chats.ask(chat, content, model);
	busy(new AbortController());
	const saved = await attempt(async () => { await chats.save(chat, question); return true; });
	if (!saved) {
		chats.retract(chat, question);
		busy(null);
		return;
	}
	el('input').value = '';
	grow();
	if (state.chat === chat) {
		history.replaceState(null, '', `#/c/${chat.id}`);
		draw();
	}
	if (chats.branch(chat).length === 1) attempt(() => loadList(1));
	await stream(chat, question, model);
	await attempt(() => loadList(1));
}

async function stream(chat, question, model) {
	const message = chats.answer(question, model, modelName(model));
	const box = turn(message);
	box.classList.add('busy');
	if (state.chat === chat) el('log').append(box);
	el('status').textContent = 'The model is answering.';
	const abort = state.running;
	const view = viewer(box, message);
	const keep = () => chats.save(chat, chats.finish(chat, message), { keepalive: true }).catch(() => {});
	window.addEventListener('pagehide', keep, { once: true });

	let problem = '';
	try {
		for await (const part of complete({ model, messages: chats.prompt(chat) }, abort.signal)) {
			message.content += part.content ?? '';
			view.update(part.reasoning ?? '');
		}
		if (!message.content) problem = 'The model gave an empty answer.';
	} catch (err) {
		if (!abort.signal.aborted) problem = err.message;
	}
	window.removeEventListener('pagehide', keep);
	view.close();
	chats.finish(chat, message, problem);
	if (problem) box.append(failure(problem));
	el('status').textContent = problem || (abort.signal.aborted ? 'Stopped.' : 'The answer is complete.');
	busy(null);
	if (session.token) await attempt(() => chats.save(chat, message));
}

// viewer draws a growing answer once per frame and keeps the end in sight if it was.
function viewer(box, message) {
	const log = el('log');
	let thought = '';
	let frame = 0;
	const paint = () => {
		frame = 0;
		const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
		if (thought) thinking(box, thought);
		show(box.querySelector('.body'), message.content);
		if (atEnd) log.scrollTop = log.scrollHeight;
	};
	return {
		update(reasoning) {
			thought += reasoning;
			frame ||= requestAnimationFrame(paint);
		},
		close() {
			cancelAnimationFrame(frame);
			paint();
			box.classList.remove('busy');
		},
	};
}

function thinking(box, text) {
	let part = box.querySelector('details');
	if (!part) {
		part = document.createElement('details');
		const summary = document.createElement('summary');
		summary.textContent = 'Thoughts';
		part.append(summary, document.createElement('p'));
		box.querySelector('.body').before(part);
	}
	part.lastElementChild.textContent = text;
}

// busy switches between the send and the stop button. The focus of the one that goes
// moves to the input, never to the other: a held Enter key would stop what it sent.
function busy(controller) {
	state.running = controller;
	if (document.activeElement === el('send') || document.activeElement === el('stop')) el('input').focus();
	el('send').hidden = Boolean(controller);
	el('stop').hidden = !controller;
	el('log').setAttribute('aria-busy', String(Boolean(controller)));
}

function grow() {
	const input = el('input');
	input.style.height = 'auto';
	input.style.height = `${input.scrollHeight + 2}px`;
}

function sideOpen(open) {
	el('side').classList.toggle('open', open);
	el('side-open').setAttribute('aria-expanded', String(open));
}

async function removeChat() {
	if (!window.confirm(`Delete “${state.chat.title}” for good?`)) return;
	await attempt(async () => {
		await chats.remove(state.chat.id);
		location.hash = '#/';
		await loadList(1);
	});
}

// Events.

el('compose').addEventListener('submit', send);
el('input').addEventListener('input', grow);
el('input').addEventListener('keydown', (e) => {
	const touch = window.matchMedia('(pointer: coarse)').matches;
	if (e.key === 'Enter' && !e.shiftKey && !e.isComposing && !touch) el('compose').requestSubmit();
	else return;
	e.preventDefault();
});
el('stop').addEventListener('click', () => state.running?.abort());
el('model').addEventListener('change', () => localStorage.setItem('galley.model', el('model').value));
el('new').addEventListener('click', () => { location.hash = '#/'; sideOpen(false); el('input').focus(); });
el('list').addEventListener('click', (e) => { if (e.target.dataset.id) location.hash = `#/c/${e.target.dataset.id}`; });
el('more').addEventListener('click', () => { alert(''); attempt(() => loadList(state.page + 1)); });
el('delete').addEventListener('click', removeChat);
el('alert').addEventListener('click', () => alert(''));
el('out').addEventListener('click', signOut);
el('pending-out').addEventListener('click', signOut);
el('pending-check').addEventListener('click', () => attempt(async () => {
	alert('');
	await enter(await call('GET', '/api/v1/auths/'));
	if (state.user.role === 'pending') alert('Not approved yet.');
}));
el('side-open').addEventListener('click', () => { sideOpen(true); el('new').focus(); });
el('side-close').addEventListener('click', () => { sideOpen(false); el('side-open').focus(); });
document.addEventListener('keydown', (e) => { if (e.key === 'Escape') sideOpen(false); });
for (const id of ['full', 'sign-full']) el(id).addEventListener('click', () => el('full-dialog').showModal());
window.addEventListener('hashchange', () => { alert(''); if (state.user) follow(); });

start().catch((err) => { only('wait'); el('wait').textContent = 'This page could not start.'; alert(err.message); });
