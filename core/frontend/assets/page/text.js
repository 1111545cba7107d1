// Text to elements. Everything from a message becomes a text node: no markup of it
// is ever read as HTML. Known are fenced code, `code` and **bold**.

// show renders text into box. Blocks that did not change since the last call stay
// as they are, so that a growing answer costs only its last block.
export function show(box, text) {
	const blocks = split(text);
	const known = box.blocks ?? [];
	blocks.forEach((block, i) => {
		const key = `${block.code ? 1 : 0}${block.text}`;
		if (known[i] === key && box.children[i]) return;
		known[i] = key;
		const element = block.code ? codeBlock(block.text) : paragraph(block.text);
		if (box.children[i]) box.children[i].replaceWith(element);
		else box.append(element);
	});
	while (box.children.length > blocks.length) box.lastElementChild.remove();
	known.length = blocks.length;
	box.blocks = known;
}

// split cuts text into paragraphs and fenced code. A fence still open runs to the end.
export function split(text) {
	const blocks = [];
	let lines = [];
	let fence = '';
	const flush = (code) => {
		const joined = lines.join('\n');
		if (code || joined.trim()) blocks.push({ code, text: code ? joined : joined.replace(/^\n+|\s+$/g, '') });
		lines = [];
	};
	for (const line of text.split('\n')) {
		const mark = /^\s{0,3}(```+|~~~+)/.exec(line)?.[1];
		if (!fence && mark) {
			flush(false);
			fence = mark;
		} else if (fence && mark?.startsWith(fence) && line.trim() === mark) {
			flush(true);
			fence = '';
		} else if (!fence && !line.trim()) {
			flush(false);
		} else {
			lines.push(line);
		}
	}
	flush(Boolean(fence));
	return blocks;
}

function codeBlock(text) {
	const pre = document.createElement('pre');
	const code = document.createElement('code');
	code.textContent = text;
	pre.tabIndex = 0;
	pre.append(code);
	return pre;
}

function paragraph(text) {
	const p = document.createElement('p');
	for (const piece of text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/)) {
		if (/^`[^`]+`$/.test(piece)) p.append(wrap('code', piece.slice(1, -1)));
		else if (/^\*\*[^*]+\*\*$/.test(piece)) p.append(wrap('strong', piece.slice(2, -2)));
		else if (piece) p.append(piece);
	}
	return p;
}

function wrap(name, text) {
	const element = document.createElement(name);
	element.textContent = text;
	return element;
}
