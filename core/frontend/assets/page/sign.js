// Signing up and in, and the helpers every part of the page uses.
import { call } from './api.js';

export const el = (id) => document.getElementById(id);

export function alert(text) {
	el('alert').textContent = text;
	el('alert').hidden = !text;
}

// only shows one part of the page.
export function only(part) {
	for (const id of ['wait', 'sign', 'pending', 'chat']) el(id).hidden = id !== part;
}

let signingUp = false;
let first = false; // no account exists: the first becomes the administrator
let challenge = '';

// startSign prepares the forms; enter is called with the session once it exists.
export function startSign(config, enter) {
	const features = config.features ?? {};
	first = Boolean(config.onboarding);
	signingUp = first;
	el('sign-switch-row').hidden = first || !features.enable_signup;
	el('sign-form').hidden = features.enable_login_form === false && !first;
	el('sign-switch').addEventListener('click', () => { signingUp = !signingUp; alert(''); draw(); });
	el('sign-form').addEventListener('submit', (e) => submit(e, () => sign(enter)));
	el('code-form').addEventListener('submit', (e) => submit(e, () => confirm(enter)));
	for (const [id, name] of Object.entries(config.oauth?.providers ?? {})) {
		const link = document.createElement('a');
		link.href = `/oauth/${encodeURIComponent(id)}/login`;
		link.textContent = `Continue with ${name}`;
		el('sign-providers').append(link);
	}
	draw();
}

// signWith shows the form, or goes past it where the server has sign-in switched off
// or a proxy in front of it tells who the person is.
export async function signWith(config, enter) {
	if (config.features?.auth === false || config.features?.auth_trusted_header) {
		await enter(await call('POST', '/api/v1/auths/signin', { email: '', password: '' }));
		return;
	}
	only('sign');
	(signingUp ? el('sign-name') : el('sign-email')).focus();
}

function draw() {
	el('sign-name-row').hidden = !signingUp;
	el('sign-name').required = signingUp;
	el('sign-password').autocomplete = signingUp ? 'new-password' : 'current-password';
	el('sign-send').textContent = signingUp ? 'Create account' : 'Sign in';
	el('sign-lead').textContent = first && signingUp
		? 'Welcome. The first account becomes the administrator of this server.'
		: signingUp ? 'Create an account.' : 'Sign in to chat.';
	el('sign-switch-text').textContent = signingUp ? 'Have an account?' : 'No account yet?';
	el('sign-switch').textContent = signingUp ? 'Sign in' : 'Sign up';
}

async function submit(event, action) {
	event.preventDefault();
	const button = event.target.querySelector('button');
	button.disabled = true;
	try {
		alert('');
		await action();
	} catch (err) {
		alert(err.message);
	} finally {
		button.disabled = false;
	}
}

async function sign(enter) {
	const form = { email: el('sign-email').value.trim(), password: el('sign-password').value };
	if (signingUp) form.name = el('sign-name').value.trim();
	const result = await call('POST', signingUp ? '/api/v1/auths/signup' : '/api/v1/auths/signin', form);
	el('sign-password').value = '';
	if (first) {
		// The one sign-up without an account is done; whoever signs out here signs in again.
		first = signingUp = false;
		draw();
	}
	if (result.token) {
		await enter(result);
	} else if (result.next_step === 'verify') {
		challenge = result.challenge_token;
		el('sign-form').hidden = true;
		el('code-form').hidden = false;
		el('code-input').focus();
	} else {
		throw new Error('Your account has to set up an authenticator app first. That takes the full interface.');
	}
}

// confirm sends the second factor. A recovery code is longer than the six digits of an app.
async function confirm(enter) {
	const code = el('code-input').value.trim();
	const form = { challenge_token: challenge, code, recovery: !/^\d{6}$/.test(code.replace(/\s/g, '')) };
	el('code-input').value = '';
	try {
		await enter(await call('POST', '/api/v1/auths/mfa/verify', form));
	} finally {
		el('code-form').hidden = true;
		el('sign-form').hidden = false;
	}
}
