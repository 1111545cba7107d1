package memory

import (
	"cmp"
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/embed"
	"github.com/galleychat/galley/core/events"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/models"
	"github.com/galleychat/galley/core/store/users"
	"github.com/galleychat/galley/core/vector"
	"github.com/galleychat/galley/core/web"
)

// collection is where the vectors of a user's memories lie.
func collection(userID string) string { return "user-memory-" + userID }

// passage is the text by which a memory is found.
func passage(m *Memory) string {
	if m.Path == nil {
		return m.Content
	}
	return *m.Path + "\n" + m.Content
}

// Facts is what a query tells of a memory besides its text.
type Facts struct {
	CreatedAt int64   `json:"created_at"`
	UpdatedAt int64   `json:"updated_at"`
	Type      string  `json:"type"`
	Path      *string `json:"path,omitzero"`
}

// Answer is what a query has found, the best first, in the form of a search in a vector database: one list of each kind
// for the one question.
type Answer struct {
	IDs       [1][]string  `json:"ids"`
	Documents [1][]string  `json:"documents"`
	Metadatas [1][]Facts   `json:"metadatas"`
	Distances [1][]float64 `json:"distances"` // from 0 to 1, where 1 is best
}

// Query finds the k memories of the caller that are nearest to a text in meaning. There is no answer for a k below 1.
func (s *Service) Query(ctx context.Context, p *auth.Principal, text string, k int) (*Answer, error) {
	list, err := s.Store.OfUser(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, web.Fail(http.StatusNotFound, "No memories found for user")
	}
	if k < 1 {
		return nil, nil
	}
	return newAnswer(s.nearest(ctx, models.CallerOf(p), list, text, k)), ctx.Err()
}

func newAnswer(found []hit) *Answer {
	a := &Answer{IDs: [1][]string{{}}, Documents: [1][]string{{}}, Metadatas: [1][]Facts{{}}, Distances: [1][]float64{{}}}
	for _, h := range found {
		a.IDs[0] = append(a.IDs[0], h.ID)
		a.Documents[0] = append(a.Documents[0], passage(h.Memory))
		a.Metadatas[0] = append(a.Metadatas[0], Facts{h.CreatedAt, h.UpdatedAt, h.Type, h.Path})
		a.Distances[0] = append(a.Distances[0], h.score)
	}
	return a
}

// hit is a memory that a query has found.
type hit struct {
	*Memory
	score float64
}

// nearest finds memories of a list, which is of one user, by their meaning, or where that cannot be told by their words.
func (s *Service) nearest(ctx context.Context, caller *llm.Caller, list []Memory, text string, k int) []hit {
	found, err := s.byMeaning(ctx, caller, list, text, k)
	if err == nil {
		return found
	}
	if !errors.Is(err, embed.ErrNone) && ctx.Err() == nil {
		s.Log.WarnContext(ctx, "memories are looked for by their words, as their meaning could not be compared", "error", err)
	}
	return byWords(list, text, k)
}

func (s *Service) byMeaning(ctx context.Context, caller *llm.Caller, list []Memory, text string, k int) ([]hit, error) {
	model := s.Embedder.Model()
	question, err := s.Embedder.Embed(ctx, embed.Query, []string{text}, caller)
	if err != nil {
		return nil, err
	}
	at := collection(list[0].UserID)
	if err := s.refresh(ctx, caller, list, model, len(question[0])); err != nil {
		return nil, err
	}
	hits, err := s.Vectors.Search(ctx, at, model, question[0], k)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]*Memory, len(list))
	for i := range list {
		byID[list[i].ID] = &list[i]
	}
	least := config.RAGRelevanceThreshold.Get(s.Settings.Snapshot())
	var out []hit
	for _, h := range hits {
		if m := byID[h.ID]; m != nil && (least <= 0 || h.Score >= least) {
			out = append(out, hit{m, h.Score})
		}
	}
	return out, nil
}

// refresh makes the vectors that are missing or of an older text, and removes those of memories that are gone.
func (s *Service) refresh(ctx context.Context, caller *llm.Caller, list []Memory, model string, dims int) error {
	at := collection(list[0].UserID)
	have, err := s.Vectors.Hashes(ctx, at, model, dims)
	if err != nil {
		return err
	}
	var missing []Memory
	for _, m := range list {
		if hash, ok := have[m.ID]; !ok || hash != vector.Hash(passage(&m)) {
			missing = append(missing, m)
		}
		delete(have, m.ID)
	}
	if err := s.embed(ctx, caller, list[0].UserID, missing); err != nil || len(have) == 0 {
		return err
	}
	gone := make([]string, 0, len(have))
	for id := range have {
		gone = append(gone, id)
	}
	return s.Vectors.Delete(ctx, at, gone)
}

// embed makes and stores the vectors of memories of a user.
func (s *Service) embed(ctx context.Context, caller *llm.Caller, userID string, list []Memory) error {
	if len(list) == 0 {
		return nil
	}
	model := s.Embedder.Model()
	texts := make([]string, len(list))
	for i := range list {
		texts[i] = passage(&list[i])
	}
	vectors, err := s.Embedder.Embed(ctx, embed.Content, texts, caller)
	if err != nil {
		return err
	}
	items := make([]vector.Item, len(list))
	for i := range list {
		items[i] = vector.Item{ID: list[i].ID, Text: texts[i], Vector: vectors[i]}
	}
	return s.Vectors.Put(ctx, collection(userID), model, items)
}

// index embeds memories that were written. A failure is no error: queries make what is missing.
func (s *Service) index(ctx context.Context, p *auth.Principal, list []Memory) {
	if s.Embedder.Model() == "" {
		return
	}
	if err := s.embed(ctx, models.CallerOf(p), p.ID, list); err != nil {
		s.Log.WarnContext(ctx, "memories were not embedded", "user", p.ID, "error", err)
	}
}

// forget removes the vectors of memories that were deleted.
func (s *Service) forget(ctx context.Context, userID string, ids []string) {
	if err := s.Vectors.Delete(ctx, collection(userID), ids); err != nil {
		s.Log.WarnContext(ctx, "vectors of memories were not deleted", "user", userID, "error", err)
	}
}

// Reset makes the vectors of all memories of the caller anew.
func (s *Service) Reset(ctx context.Context, p *auth.Principal) error {
	list, err := s.Store.OfUser(ctx, p.ID)
	if err != nil {
		return err
	}
	if err := s.rebuild(ctx, p.User, list); err != nil {
		return err
	}
	s.Events.Publish(ctx, events.Event{Name: "memory.reset", Actor: p.User, SubjectType: "user", SubjectID: p.ID, Data: web.M{"count": len(list), "reindex": true}})
	return nil
}

// rebuild makes the vectors of a user's memories anew, if there is an engine.
func (s *Service) rebuild(ctx context.Context, u *users.User, list []Memory) error {
	if err := s.Vectors.Drop(ctx, collection(u.ID)); err != nil {
		return err
	}
	err := s.embed(ctx, models.CallerOf(&auth.Principal{User: u}), u.ID, list)
	if errors.Is(err, embed.ErrNone) {
		return nil
	}
	return err
}

// Reindex makes the vectors of all users' memories anew, and counts both.
func (s *Service) Reindex(ctx context.Context, p *auth.Principal) (accounts, count int, err error) {
	list, err := s.Store.All(ctx)
	if err != nil {
		return 0, 0, err
	}
	if accounts, err = s.Users.Count(ctx); err != nil {
		return 0, 0, err
	}
	var ids []string
	for _, m := range list {
		if len(ids) == 0 || ids[len(ids)-1] != m.UserID {
			ids = append(ids, m.UserID)
		}
	}
	owners, err := s.Users.ByIDs(ctx, ids)
	if err != nil {
		return 0, 0, err
	}
	for len(list) > 0 {
		id := list[0].UserID
		n := slices.IndexFunc(list, func(m Memory) bool { return m.UserID != id })
		if n < 0 {
			n = len(list)
		}
		if u := owners[id]; u != nil {
			if err := s.rebuild(ctx, u, list[:n]); err != nil {
				return 0, 0, err
			}
			count += n
		}
		list = list[n:]
	}
	s.Events.Publish(ctx, events.Event{Name: "memory.reset", Actor: p.User, SubjectType: "user", SubjectID: "all",
		Data: web.M{"count": count, "user_count": accounts, "reindex": true}})
	return accounts, count, nil
}

// byWords ranks memories by the words they share with a text; rare words count for more. Those that share none are left
// out.
func byWords(list []Memory, text string, k int) []hit {
	asked := telling(words(text))
	if len(asked) == 0 {
		return nil
	}
	texts := make([]string, len(list))
	own := make([]map[string]bool, len(list))
	for i := range list {
		texts[i] = strings.ToLower(passage(&list[i]))
		own[i] = words(texts[i])
	}
	total := 0.0
	scores := make([]float64, len(list))
	for word := range asked {
		var in []int
		for i := range list {
			// parts of words count where the word is long, or in a script that writes none apart
			if own[i][word] || len(word) > 4 && strings.Contains(texts[i], word) {
				in = append(in, i)
			}
		}
		weight := math.Log(1 + float64(len(list)+1)/float64(len(in)+1))
		total += weight
		for _, i := range in {
			scores[i] += weight
		}
	}
	var out []hit
	for i, score := range scores {
		if score > 0 {
			out = append(out, hit{&list[i], score / total})
		}
	}
	slices.SortStableFunc(out, func(a, b hit) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(b.UpdatedAt, a.UpdatedAt))
	})
	return out[:min(len(out), k)]
}

// words are the words of a text in lower case.
func words(text string) map[string]bool {
	out := map[string]bool{}
	for w := range strings.FieldsFuncSeq(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		out[w] = true
	}
	return out
}

// telling are those of some words that have more than two letters, or all where none has.
func telling(all map[string]bool) map[string]bool {
	out := map[string]bool{}
	for w := range all {
		if len(w) > 2 {
			out[w] = true
		}
	}
	if len(out) == 0 {
		return all
	}
	return out
}
