package main

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/galleychat/galley/sdk"
)

// tokensOf estimates by the common rule of four bytes each.
func tokensOf(size int) int64 { return int64((size + 3) / 4) }

// estimate is about how many tokens a request's messages have.
func estimate(req *sdk.Body) int64 {
	size := 0
	for _, m := range req.Messages() {
		size += len(m.Text())
	}
	return tokensOf(size)
}

// stream counts the tokens of an answer when it has ended, however it ends.
func (l *limiter) stream(ctx context.Context) (sdk.StreamFilter, error) {
	meta := sdk.MetaFrom(ctx)
	limits := slices.DeleteFunc(l.limits(meta), func(c counted) bool { return !c.tokens() })
	if len(limits) == 0 {
		return nil, nil
	}
	prompt := l.prompts.take(promptKey(meta))
	a := &answer{}
	context.AfterFunc(ctx, func() { l.count(ctx, limits, a.tokens(prompt)) })
	return a, nil
}

// count adds tokens to the counters.
func (l *limiter) count(ctx context.Context, limits []counted, n int64) {
	for _, c := range limits {
		if n > 0 {
			_, _ = l.add(context.WithoutCancel(ctx), l.now(), c, n) // an error is logged
		}
	}
}

// answer measures an answer. Its chunks come from one goroutine, and its end from another.
type answer struct {
	mu    sync.Mutex
	size  int // bytes
	usage *sdk.Usage
}

// Chunk implements [sdk.StreamFilter].
func (a *answer) Chunk(c sdk.Chunk) ([]sdk.Chunk, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.size += len(c.Text) + len(c.Reasoning)
	for _, t := range c.ToolCalls {
		a.size += len(t.Name) + len(t.Arguments)
	}
	if c.Usage != nil {
		u := *c.Usage
		a.usage = &u
	}
	return []sdk.Chunk{c}, nil
}

func (a *answer) tokens(prompt int64) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.usage != nil {
		return total(a.usage)
	}
	if a.size == 0 {
		return 0 // no model has answered
	}
	return prompt + tokensOf(a.size)
}

func total(u *sdk.Usage) int64 {
	return int64(cmp.Or(u.TotalTokens, u.PromptTokens+u.CompletionTokens))
}

// outlet counts the tokens of answers that were not streamed.
func (l *limiter) outlet(ctx context.Context, body *sdk.Body) error {
	meta := sdk.MetaFrom(ctx)
	prompt, waiting := l.prompts.waiting(promptKey(meta))
	if !waiting {
		return nil // stream has counted them, or nobody asked
	}
	l.prompts.take(promptKey(meta))
	limits := slices.DeleteFunc(l.limits(meta), func(c counted) bool { return !c.tokens() })
	if len(limits) == 0 {
		return nil
	}
	n := prompt
	var usage *sdk.Usage
	if messages := body.Messages(); len(messages) > 0 {
		last := messages[len(messages)-1]
		n += tokensOf(len(last.Text()))
		last.Get("usage", &usage)
	}
	if usage == nil {
		body.Get("usage", &usage)
	}
	if usage != nil {
		n = total(usage)
	}
	l.count(ctx, limits, n)
	return nil
}

// promptKey names the request that a call belongs to: its message where there is one, since the outlet may come with a
// request of its own. It is "" if nothing tells requests apart; the size of such a prompt is not known later.
func promptKey(m sdk.Meta) string {
	if m.MessageID != "" {
		return m.MessageID + "/" + m.Task
	}
	return m.RequestID
}

// prompts remembers the sizes of requests until their answers come.
type prompts struct {
	mu    sync.Mutex
	known map[string]prompt
	swept time.Time
}

type prompt struct {
	tokens  int64
	began   time.Time
	waiting bool // no answer has begun
}

// promptLife is how long an answer may take to begin and end.
const promptLife = time.Hour

func (p *prompts) put(key string, tokens int64, now time.Time) {
	if key == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil {
		p.known = map[string]prompt{}
	}
	p.known[key] = prompt{tokens, now, true}
	if now.Sub(p.swept) > promptLife/10 {
		p.swept = now
		for k, x := range p.known {
			if now.Sub(x.began) > promptLife {
				delete(p.known, k)
			}
		}
	}
}

// take gives the size of a request whose answer begins. A request may have several answers, one after each call of a tool.
func (p *prompts) take(key string) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	x, ok := p.known[key]
	if ok {
		x.waiting = false
		p.known[key] = x
	}
	return x.tokens
}

// waiting says whether a request has no answer yet.
func (p *prompts) waiting(key string) (tokens int64, waiting bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.known[key]
	return x.tokens, x.waiting
}
