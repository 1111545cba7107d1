package turn

import (
	"context"

	"github.com/galleychat/galley/core/config"
)

// voicePrompt is what a model is told that is spoken with, where the operator has set no text of their own.
const voicePrompt = `The user is talking with you in a voice call, and everything you write is read out to them.

Speak the way people do: short, plain sentences, a warm tone, and the answer first. Leave out lists, tables, code, links,
headings and emoji, and say numbers and signs in words. Give more detail only where the user asks for it, and put a
question back only where you cannot answer without. If you do not know something or may not help with it, say so in a
few kind words and suggest what might help instead.`

// addVoice tells the model that it is spoken with.
func (e *Engine) addVoice(_ context.Context, t *Turn) error {
	s := e.Settings.Snapshot()
	if !t.form.Get("features").Get("voice").Truthy() || !config.TaskVoicePromptEnable.Get(s) {
		return nil
	}
	text := config.TaskVoicePromptTemplate.Get(s)
	if text == "" {
		text = voicePrompt
	}
	t.messages = addSystem(t.messages, text, false)
	return nil
}
