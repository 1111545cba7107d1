// Chats as the server keeps them: a tree of messages by id, of which the branch that
// ends in currentId is shown. Only new or changed messages are sent; the server
// merges them into what it has.
import { call } from './api.js';

const now = () => Math.floor(Date.now() / 1000);

// newId is a random UUID. crypto.randomUUID exists on secure origins only.
function newId() {
	const b = crypto.getRandomValues(new Uint8Array(16));
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	return [...b].map((x) => x.toString(16).padStart(2, '0')).join('')
		.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

export const list = (page) => call('GET', `/api/v1/chats/?page=${page}`);
export const remove = (id) => call('DELETE', `/api/v1/chats/${encodeURIComponent(id)}`);

export async function open(id) {
	const found = await call('GET', `/api/v1/chats/${encodeURIComponent(id)}`);
	const chat = found.chat ?? {};
	return {
		id: found.id,
		title: found.title,
		models: chat.models ?? [],
		system: chat.params?.system ?? chat.system ?? '',
		history: { messages: chat.history?.messages ?? {}, currentId: chat.history?.currentId ?? null },
	};
}

export const blank = () => ({ id: null, title: '', models: [], system: '', history: { messages: {}, currentId: null } });

// branch lists the shown messages, oldest first.
export function branch(chat) {
	const { messages, currentId } = chat.history;
	const found = [];
	for (let id = currentId; id && messages[id] && !found.includes(messages[id]); id = messages[id].parentId) {
		found.push(messages[id]);
	}
	return found.reverse();
}

function add(chat, message) {
	const parent = chat.history.messages[message.parentId];
	if (parent) parent.childrenIds = [...new Set(parent.childrenIds).add(message.id)];
	chat.history.messages[message.id] = message;
	chat.history.currentId = message.id;
	return message;
}

// ask appends a question; the caller saves it.
export function ask(chat, content, model) {
	chat.models = [model];
	return add(chat, {
		id: newId(), parentId: chat.history.currentId, childrenIds: [],
		role: 'user', content, models: [model], timestamp: now(),
	});
}

// answer makes the message an answer is collected in. It joins the chat when it is
// complete: once stored as not done, only the server itself may alter it.
export function answer(question, model, modelName) {
	return {
		id: newId(), parentId: question.id, childrenIds: [],
		role: 'assistant', content: '', model, modelName, modelIdx: 0, timestamp: now(),
	};
}

export function finish(chat, message, failure) {
	message.done = true;
	if (failure) message.error = { content: failure };
	return add(chat, message);
}

// retract takes the last message back out of the chat.
export function retract(chat, message) {
	delete chat.history.messages[message.id];
	chat.history.currentId = message.parentId;
	const parent = chat.history.messages[message.parentId];
	if (parent) parent.childrenIds = parent.childrenIds.filter((id) => id !== message.id);
}

// save stores the message and its parent's link to it; the first call makes the chat.
export async function save(chat, message, options) {
	const { messages, currentId } = chat.history;
	const changed = { [message.id]: message };
	if (messages[message.parentId]) changed[message.parentId] = messages[message.parentId];
	const history = { messages: changed, currentId };
	if (chat.id) {
		await call('POST', `/api/v1/chats/${encodeURIComponent(chat.id)}`, { chat: { models: chat.models, history } }, options);
		return;
	}
	chat.title = title(message.content);
	const made = await call('POST', '/api/v1/chats/new', {
		chat: { id: '', title: chat.title, models: chat.models, params: {}, history, messages: [], tags: [], timestamp: Date.now() },
	});
	chat.id = made.id;
}

function title(text) {
	const line = text.trim().replace(/\s+/g, ' ');
	return line.length > 60 ? `${line.slice(0, 57)}…` : line;
}

// plain is a message's text without the collapsed parts the full interface stores in it.
export const plain = (message) => (typeof message.content === 'string' ? message.content : '')
	.replace(/<details type="[^"]*"[\s\S]*?<\/details>\s*/g, '');

// prompt is what the model gets: the branch as role and content.
export function prompt(chat) {
	const turns = branch(chat)
		.filter((m) => m.role === 'user' || (m.role === 'assistant' && plain(m)))
		.map((m) => ({ role: m.role, content: plain(m) }));
	return chat.system ? [{ role: 'system', content: chat.system }, ...turns] : turns;
}
