package plugin

import (
	"context"
	"strconv"

	"google.golang.org/grpc/metadata"

	"github.com/galleychat/galley/sdk"
)

// maxDepth is how many calls of models may be nested by way of plugins that ask models themselves. What goes deeper most
// likely asks itself.
const maxDepth = 4

type depthKey struct{}

// depthOf is how deep a call is nested: 0 for what did not come from a plugin.
func depthOf(ctx context.Context) int {
	n, _ := ctx.Value(depthKey{}).(int)
	return n
}

func withDepth(ctx context.Context, n int) context.Context {
	return context.WithValue(ctx, depthKey{}, n)
}

type askerKey struct{}

// askedBy says whether a call to a model is a plugin's own. Its filter does not see those: one that asks a model about
// what it filters would ask itself.
func askedBy(ctx context.Context, id string) bool {
	asker, _ := ctx.Value(askerKey{}).(string)
	return asker == id
}

// toldDepth is how deep the call was nested in which a plugin makes this one, as its SDK passes it on.
func toldDepth(ctx context.Context) int {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, text := range md.Get(sdk.DepthKey) {
		if n, err := strconv.Atoi(text); err == nil && n > 0 {
			return n
		}
	}
	return 0
}
