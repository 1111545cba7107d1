// Package vector finds texts by meaning: it keeps their vectors, as models make them, and finds those nearest to another.
//
// Vectors lie in collections (the memories of a user, the pieces of a file). Those that different models made cannot be
// compared, so each is kept with the name of its model, and searches see those of one model only. An item without a
// vector of the present model is not lost: [Store.Hashes] tells which are there, and the others can be made anew.
package vector

import (
	"context"
	"hash/fnv"

	"github.com/galleychat/galley/core/jsondoc"
)

// Item is a text and its vector.
type Item struct {
	ID       string // unique in its collection
	Text     string
	Metadata jsondoc.Doc // an object; nil for none
	Vector   []float32
}

// Hit is an item that a search has found. Score is from 0 to 1: 1 points the same way, 0.5 has nothing in common.
type Hit struct {
	ID       string
	Text     string
	Metadata jsondoc.Doc
	Score    float64
}

// Store keeps vectors.
type Store interface {
	// Put stores items that a model made vectors of, over those of the same ids.
	Put(ctx context.Context, collection, model string, items []Item) error
	// Search gives at most limit items of a collection, those nearest to a vector first. Items of other models and of
	// another number of dimensions are passed over.
	Search(ctx context.Context, collection, model string, vector []float32, limit int) ([]Hit, error)
	// Hashes gives the Hash of the text of each item that a search with a vector of dims dimensions would see, by id.
	Hashes(ctx context.Context, collection, model string, dims int) (map[string]int64, error)
	// Delete removes items by id; those that are not there are no error.
	Delete(ctx context.Context, collection string, ids []string) error
	// Drop removes a collection with all its items.
	Drop(ctx context.Context, collection string) error
}

// Hash tells versions of a text apart.
func Hash(text string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	return int64(h.Sum64()) //nolint:gosec // any 64 bits will do
}
