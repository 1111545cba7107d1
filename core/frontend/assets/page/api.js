// Calls to the server. The token is kept where the full interface keeps it, so that
// a person stays signed in when that is installed.
const store = window.localStorage;

export const session = {
	get token() { return store.getItem('token') ?? ''; },
	set token(value) { value ? store.setItem('token', value) : store.removeItem('token'); },
};

export class ApiError extends Error {
	constructor(message, status) {
		super(message);
		this.status = status;
	}
}

// describe makes one text of what errors look like: a detail string, a list of
// field errors, or a provider's {error: {message}}.
export function describe(body, fallback) {
	const detail = body?.detail ?? body?.error ?? body?.message ?? body;
	if (typeof detail === 'string' && detail) return detail;
	if (Array.isArray(detail)) {
		const lines = detail.map((d) => `${(d.loc ?? []).slice(1).join('.')}: ${d.msg ?? 'invalid'}`);
		if (lines.length) return lines.join('\n');
	}
	if (detail && typeof detail === 'object') {
		if (typeof detail.message === 'string' && detail.message) return detail.message;
		if (detail !== body) return describe(detail, fallback);
	}
	return fallback;
}

async function request(method, path, body, options = {}) {
	const headers = { Accept: 'application/json' };
	if (session.token) headers.Authorization = `Bearer ${session.token}`;
	if (body !== undefined) headers['Content-Type'] = 'application/json';
	let response;
	try {
		response = await fetch(path, {
			method, headers, body: body === undefined ? undefined : JSON.stringify(body), ...options,
		});
	} catch (err) {
		if (err.name === 'AbortError') throw err;
		throw new ApiError('The server cannot be reached. Is it running?', 0);
	}
	if (response.ok) return response;
	const text = await response.text().catch(() => '');
	let parsed = text.startsWith('<') ? null : text;
	try { parsed = JSON.parse(text); } catch { /* plain text */ }
	throw new ApiError(describe(parsed, `The server answered ${response.status}.`), response.status);
}

export async function call(method, path, body, options) {
	const response = await request(method, path, body, options);
	try {
		return await response.json();
	} catch {
		throw new ApiError('The server gave an answer that is not JSON.', response.status);
	}
}

// complete asks for a chat completion and yields the parts of the answer as they
// come: {content} or {reasoning}. A provider may answer in one piece all the same.
export async function* complete(body, signal) {
	const response = await request('POST', '/api/chat/completions', { ...body, stream: true }, { signal });
	if (!(response.headers.get('Content-Type') ?? '').includes('event-stream')) {
		const whole = await response.json().catch(() => null);
		if (!whole?.choices) throw new ApiError(describe(whole, 'The model gave no answer.'), response.status);
		yield* parts(whole);
		return;
	}
	for await (const data of events(response.body)) {
		if (data === '[DONE]') return;
		let chunk;
		try { chunk = JSON.parse(data); } catch { continue; }
		if (chunk.error) throw new ApiError(describe(chunk, 'The model failed.'), 0);
		yield* parts(chunk);
	}
}

function* parts(chunk) {
	for (const choice of chunk.choices ?? []) {
		const delta = choice.delta ?? choice.message ?? {};
		const reasoning = delta.reasoning_content ?? delta.reasoning;
		if (typeof reasoning === 'string' && reasoning) yield { reasoning };
		if (typeof delta.content === 'string' && delta.content) yield { content: delta.content };
	}
}

// events splits a text/event-stream into the values of its data lines.
async function* events(stream) {
	const reader = stream.getReader();
	const decoder = new TextDecoder();
	let rest = '';
	try {
		for (;;) {
			const { done, value } = await reader.read();
			rest += done ? `${decoder.decode()}\n` : decoder.decode(value, { stream: true });
			const lines = rest.split(/\r\n|\n|\r(?!$)/);
			rest = lines.pop();
			for (const line of lines) {
				if (line.startsWith('data:')) yield line.slice(5).trim();
			}
			if (done) return;
		}
	} finally {
		reader.cancel().catch(() => {});
	}
}
